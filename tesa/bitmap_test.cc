// Tests Bitmap against a vector of bool, at sizes around the word.
#include "tesa/bitmap.h"

#include <vector>

#include "gtest/gtest.h"
#include "tesa/random.h"

namespace tessera {
namespace {

std::vector<bool> Plain(const Bitmap& bits) {
  std::vector<bool> plain;
  for (int64_t i = 0; i < bits.size(); ++i) plain.push_back(bits[i]);
  return plain;
}

Bitmap RandomBits(Random& random, int64_t size) {
  Bitmap bits(size);
  for (int64_t i = 0; i < size; ++i) bits.Set(i, random.Chance(0.4));
  return bits;
}

TEST(Bitmap, RangesCountsAndCopiesAgreeWithBools) {
  Random random(1);
  for (int round = 0; round < 500; ++round) {
    const int64_t size = random.Int(0, 300);
    Bitmap bits = RandomBits(random, size);
    std::vector<bool> plain = Plain(bits);
    const int64_t begin = random.Int(0, size), end = random.Int(begin, size);
    const bool value = random.Chance(0.5);
    bool any = false;
    for (int64_t i = begin; i < end; ++i) any |= plain[i];
    EXPECT_EQ(bits.AnyIn(begin, end), any);
    bits.SetRange(begin, end, value);
    for (int64_t i = begin; i < end; ++i) plain[i] = value;
    EXPECT_EQ(Plain(bits), plain);
    const Bitmap from = RandomBits(random, 300);
    const int64_t from_begin = random.Int(0, 300 - (end - begin));
    bits.Copy(begin, from, from_begin, end - begin);
    for (int64_t i = begin; i < end; ++i) plain[i] = from[from_begin + i - begin];
    EXPECT_EQ(Plain(bits), plain);
    int64_t count = 0;
    std::vector<int64_t> positions;
    for (int64_t i = 0; i < size; ++i) {
      count += plain[i];
      if (plain[i]) positions.push_back(i);
    }
    EXPECT_EQ(bits.Count(), count);
    EXPECT_EQ(bits.Any(), count > 0);
    EXPECT_EQ(bits.All(), count == size);
    EXPECT_EQ(bits.Positions(), positions);
  }
}

TEST(Bitmap, ReadsBeyondTheEndAsZero) {
  const Bitmap bits(70, true);
  EXPECT_EQ(bits.Read(64, 64), 63u);
  EXPECT_EQ(bits.Read(60, 20), (1u << 10) - 1);
  EXPECT_EQ(bits.Read(70, 64), 0u);
}

TEST(Bitmap, BitsBeyondTheEndStayZero) {
  EXPECT_EQ(Bitmap(70, true), Bitmap::FromWords(70, {~uint64_t{0}, ~uint64_t{0}}));
  Bitmap bits(70);
  bits.SetRange(0, 70, true);
  EXPECT_EQ(bits, Bitmap(70, true));
}

TEST(Bitmap, FromBytesTakesAnyNonZeroByte) {
  Random random(2);
  for (int64_t size : {0, 1, 7, 8, 9, 63, 64, 65, 200}) {
    std::vector<uint8_t> bytes(size);
    for (uint8_t& byte : bytes) byte = random.Chance(0.5) ? static_cast<uint8_t>(random.Int(0, 255)) : 0;
    const Bitmap bits = Bitmap::FromBytes(bytes);
    for (int64_t i = 0; i < size; ++i) EXPECT_EQ(bits[i], bytes[i] != 0) << i << " of " << size;
  }
}

TEST(Bitmap, SetOperations) {
  Random random(3);
  const Bitmap a = RandomBits(random, 150), b = RandomBits(random, 150);
  Bitmap both = a, either = a, rest = a;
  both &= b;
  either |= b;
  rest.Remove(b);
  for (int64_t i = 0; i < 150; ++i) {
    EXPECT_EQ(both[i], a[i] && b[i]);
    EXPECT_EQ(either[i], a[i] || b[i]);
    EXPECT_EQ(rest[i], a[i] && !b[i]);
  }
}

TEST(BitMatrix, HoldsTheSameBits) {
  Random random(4);
  const Bitmap bits = RandomBits(random, 7 * 131);
  const BitMatrix matrix(bits, 7, 131);
  for (int64_t r = 0; r < 7; ++r) {
    for (int64_t c = 0; c < 131; ++c) EXPECT_EQ(matrix.Get(r, c), bits[r * 131 + c]);
  }
}

}  // namespace
}  // namespace tessera
