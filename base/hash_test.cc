#include "base/hash.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>

namespace tessera {
namespace {

// Values that other implementations of XXH3 print (`xxhsum -H2`), so that stored hashes stay valid.
TEST(HashTest, AgreesWithThePublishedValues) {
  EXPECT_EQ(HashBytes("").ToHex(), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(HashBytes("a").ToHex(), "a96faf705af16834e6c632b61e964e1f");
  EXPECT_EQ(HashBytes("abc").ToHex(), "06b05ab6733a618578af5f94892f3950");
  EXPECT_EQ(HashBytes64(""), 0x2d06800538d394c2u);
}

TEST(HashTest, PiecewiseEqualsAtOnce) {
  std::mt19937 random(7);
  std::string bytes(5000, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (size_t length : {0, 1, 16, 17, 128, 129, 240, 241, 1024, 1025, 4999, 5000}) {
    for (uint64_t seed : {uint64_t{0}, uint64_t{1234567890123}}) {
      const std::string_view whole = std::string_view(bytes).substr(0, length);
      Hasher hasher(seed);
      for (size_t at = 0; at < length;) {
        const size_t piece = std::min<size_t>(1 + random() % 300, length - at);
        hasher.AddBytes(whole.substr(at, piece));
        at += piece;
      }
      EXPECT_EQ(hasher.Finish(), HashBytes(whole, seed)) << length << " bytes, seed " << seed;
    }
  }
}

TEST(HashTest, ACopyContinuesFromThePrefix) {
  Hasher first;
  first.AddBytes(std::string(700, 'x'));
  Hasher second = first;
  first.AddBytes("a");
  second.AddBytes("b");
  EXPECT_EQ(first.Finish(), HashBytes(std::string(700, 'x') + "a"));
  EXPECT_EQ(second.Finish(), HashBytes(std::string(700, 'x') + "b"));
}

TEST(HashTest, StringsCarryTheirLengthAndValuesDoNotDependOnTheirType) {
  EXPECT_NE(Hasher().AddString("ab").AddString("c").Finish(), Hasher().AddString("a").AddString("bc").Finish());
  EXPECT_EQ(Hasher().AddValue(int8_t{-3}).Finish(), Hasher().AddValue(int64_t{-3}).Finish());
  EXPECT_EQ(Hasher().AddValue(true).Finish(), Hasher().AddValue(1u).Finish());
}

TEST(HashTest, EveryBitMatters) {
  std::string bytes(300, 'q');
  std::set<Hash128> seen = {HashBytes(bytes)};
  for (size_t i = 0; i < bytes.size() * 8; ++i) {
    bytes[i / 8] ^= static_cast<char>(1 << (i % 8));
    EXPECT_TRUE(seen.insert(HashBytes(bytes)).second) << "bit " << i;
    bytes[i / 8] ^= static_cast<char>(1 << (i % 8));
  }
}

}  // namespace
}  // namespace tessera
