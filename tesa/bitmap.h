// Bitmap: a packed set of the numbers 0 … size-1, the storage of all that an Attribute says about kept and pruned.
//
//   Bitmap kept(10);  kept.SetRange(2, 5, true);  kept.Count() == 3;  kept[4] == true;
//
// Bit i lies in word i / 64 at position i % 64; the bits of the last word beyond size() are always zero, so that equal
// sets have equal words. Ranges are handled a word at a time. Values only; thread-compatible. Tested by bitmap_test.cc.
#ifndef TESSERA_TESA_BITMAP_H_
#define TESSERA_TESA_BITMAP_H_

#include <cstdint>
#include <span>
#include <vector>

namespace tessera {

class Bitmap {
 public:
  Bitmap() = default;
  explicit Bitmap(int64_t size, bool value = false);
  // Bit i is set where bytes[i] != 0.
  static Bitmap FromBytes(std::span<const uint8_t> bytes);
  // From packed words; as many as size needs (fault otherwise), stray bits beyond `size` are cleared.
  static Bitmap FromWords(int64_t size, std::vector<uint64_t> words);

  int64_t size() const { return size_; }
  bool operator[](int64_t i) const { return words_[i / 64] >> (i % 64) & 1; }
  void Set(int64_t i, bool value) {
    const uint64_t bit = uint64_t{1} << (i % 64);
    words_[i / 64] = value ? words_[i / 64] | bit : words_[i / 64] & ~bit;
  }
  void SetRange(int64_t begin, int64_t end, bool value);
  // The `count` <= 64 bits from `begin` on, lowest first; bits beyond size() read as zero.
  uint64_t Read(int64_t begin, int count) const;
  // Overwrites them; begin + count <= size().
  void Write(int64_t begin, int count, uint64_t bits);
  // this[begin + k] = from[from_begin + k] for k < count.
  void Copy(int64_t begin, const Bitmap& from, int64_t from_begin, int64_t count);
  // Is any bit of [begin, end) set?
  bool AnyIn(int64_t begin, int64_t end) const;

  int64_t Count() const;
  bool Any() const;
  bool All() const { return Count() == size_; }
  // The positions of the set bits, ascending.
  std::vector<int64_t> Positions() const;

  // Operands of equal size.
  Bitmap& operator&=(const Bitmap& other);
  Bitmap& operator|=(const Bitmap& other);
  // Clears the bits that are set in `other`.
  Bitmap& Remove(const Bitmap& other);

  std::span<const uint64_t> words() const { return words_; }
  std::span<uint64_t> mutable_words() { return words_; }  // the caller keeps the bits beyond size() zero
  static int64_t WordsFor(int64_t size) { return (size + 63) / 64; }

  friend bool operator==(const Bitmap&, const Bitmap&) = default;

 private:
  int64_t size_ = 0;
  std::vector<uint64_t> words_;
};

// The same bits as rows that each begin on a word: what makes comparisons of rows and of columns word operations.
class BitMatrix {
 public:
  BitMatrix(const Bitmap& bits, int64_t rows, int64_t columns);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t pitch() const { return pitch_; }  // words per row
  const uint64_t* row(int64_t r) const { return words_.data() + r * pitch_; }
  bool Get(int64_t r, int64_t c) const { return row(r)[c / 64] >> (c % 64) & 1; }

 private:
  int64_t rows_, columns_, pitch_;
  std::vector<uint64_t> words_;
};

}  // namespace tessera

#endif  // TESSERA_TESA_BITMAP_H_
