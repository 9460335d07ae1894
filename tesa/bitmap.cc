#include "tesa/bitmap.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/status.h"

namespace tessera {
namespace {

// Ones in the positions below `count`, 0 <= count <= 64.
uint64_t LowMask(int64_t count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

}  // namespace

Bitmap::Bitmap(int64_t size, bool value) : size_(size), words_(WordsFor(size), value ? ~uint64_t{0} : 0) {
  if (value && size % 64 != 0) words_.back() = LowMask(size % 64);
}

Bitmap Bitmap::FromBytes(std::span<const uint8_t> bytes) {
  Bitmap bitmap(static_cast<int64_t>(bytes.size()));
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t eight;
    std::memcpy(&eight, bytes.data() + i, 8);
    // Bit 7 of each byte becomes "non-zero"; the product then gathers the eight of them in the top byte.
    eight = ((eight & 0x7f7f7f7f7f7f7f7f) + 0x7f7f7f7f7f7f7f7f) | eight;
    eight = (eight >> 7) & 0x0101010101010101;
    bitmap.words_[i / 64] |= (eight * 0x0102040810204080 >> 56) << (i % 64);
  }
  for (; i < bytes.size(); ++i) bitmap.Set(static_cast<int64_t>(i), bytes[i] != 0);
  return bitmap;
}

Bitmap Bitmap::FromWords(int64_t size, std::vector<uint64_t> words) {
  TES_CHECK(static_cast<int64_t>(words.size()) == WordsFor(size), words.size(), " words for ", size, " bits");
  Bitmap bitmap;
  bitmap.size_ = size;
  bitmap.words_ = std::move(words);
  if (size % 64 != 0) bitmap.words_.back() &= LowMask(size % 64);
  return bitmap;
}

void Bitmap::SetRange(int64_t begin, int64_t end, bool value) {
  while (begin < end) {
    const int64_t offset = begin % 64;
    const int64_t count = std::min<int64_t>(64 - offset, end - begin);
    const uint64_t mask = LowMask(count) << offset;
    uint64_t& word = words_[begin / 64];
    word = value ? word | mask : word & ~mask;
    begin += count;
  }
}

uint64_t Bitmap::Read(int64_t begin, int count) const {
  const int64_t word = begin / 64;
  const int offset = static_cast<int>(begin % 64);
  uint64_t bits = word < static_cast<int64_t>(words_.size()) ? words_[word] >> offset : 0;
  if (offset + count > 64 && word + 1 < static_cast<int64_t>(words_.size())) bits |= words_[word + 1] << (64 - offset);
  return bits & LowMask(count);
}

void Bitmap::Write(int64_t begin, int count, uint64_t bits) {
  const int64_t word = begin / 64;
  const int offset = static_cast<int>(begin % 64);
  const uint64_t mask = LowMask(count);
  bits &= mask;
  words_[word] = (words_[word] & ~(mask << offset)) | (bits << offset);
  if (offset + count > 64) {
    words_[word + 1] = (words_[word + 1] & ~(mask >> (64 - offset))) | (bits >> (64 - offset));
  }
}

void Bitmap::Copy(int64_t begin, const Bitmap& from, int64_t from_begin, int64_t count) {
  for (int64_t k = 0; k < count; k += 64) {
    const int step = static_cast<int>(std::min<int64_t>(64, count - k));
    Write(begin + k, step, from.Read(from_begin + k, step));
  }
}

bool Bitmap::AnyIn(int64_t begin, int64_t end) const {
  for (; begin < end; begin += 64) {
    if (Read(begin, static_cast<int>(std::min<int64_t>(64, end - begin))) != 0) return true;
  }
  return false;
}

int64_t Bitmap::Count() const {
  int64_t count = 0;
  for (uint64_t word : words_) count += std::popcount(word);
  return count;
}

bool Bitmap::Any() const {
  return std::any_of(words_.begin(), words_.end(), [](uint64_t word) { return word != 0; });
}

std::vector<int64_t> Bitmap::Positions() const {
  std::vector<int64_t> positions;
  for (size_t w = 0; w < words_.size(); ++w) {
    for (uint64_t word = words_[w]; word != 0; word &= word - 1) {
      positions.push_back(static_cast<int64_t>(w) * 64 + std::countr_zero(word));
    }
  }
  return positions;
}

Bitmap& Bitmap::operator&=(const Bitmap& other) {
  for (size_t w = 0; w < words_.size(); ++w) words_[w] &= other.words_[w];
  return *this;
}

Bitmap& Bitmap::operator|=(const Bitmap& other) {
  for (size_t w = 0; w < words_.size(); ++w) words_[w] |= other.words_[w];
  return *this;
}

Bitmap& Bitmap::Remove(const Bitmap& other) {
  for (size_t w = 0; w < words_.size(); ++w) words_[w] &= ~other.words_[w];
  return *this;
}

BitMatrix::BitMatrix(const Bitmap& bits, int64_t rows, int64_t columns)
    : rows_(rows), columns_(columns), pitch_(Bitmap::WordsFor(columns)), words_(rows * pitch_) {
  TES_CHECK(rows * columns == bits.size(), rows, " x ", columns, " of ", bits.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t w = 0; w < pitch_; ++w) {
      const int count = static_cast<int>(std::min<int64_t>(64, columns - w * 64));
      words_[r * pitch_ + w] = bits.Read(r * columns + w * 64, count);
    }
  }
}

}  // namespace tessera
