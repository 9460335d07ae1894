// Covers: exact on random matrices of every pattern and odd sizes, whatever the costs; as cheap as they say, and of
// blocks of several sizes as cheap as can be, by trying every choice; the rounding of bits.
#include "codegen/cover.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "codegen/cover_blocks.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

CoverMatrix Matrix(int64_t rows, int64_t depth, Bitmap kept) { return {rows, depth, std::move(kept)}; }

CoverCosts RandomCosts(Random& random) {
  CoverCosts costs;
  costs.dense_ns = random.Uniform(0.5, 1.5);
  costs.scattered_ns = random.Uniform(0.5, 3);
  costs.slices_ns = random.Uniform(0.5, 1.5);
  costs.nm_ns = random.Uniform(0.5, 1.5);
  for (const auto& [height, width] : std::initializer_list<std::pair<int, int>>{
           {64, 64}, {32, 32}, {16, 16}, {8, 8}, {4, 4}, {16, 1}, {4, 1}, {1, 4}, {2, 32}}) {
    if (random.Chance(0.3)) continue;
    costs.blocks.push_back({height, width, height * width * random.Uniform(0.4, 1.2) + random.Uniform(0, 2)});
  }
  return costs;
}

// What a cover costs, counted from its parts.
double CostOf(const Cover& cover, const CoverMatrix& matrix, const CoverCosts& costs) {
  double ns = 0;
  for (const CoverPart& part : cover.parts) {
    switch (part.pattern.kind) {
      case PatternKind::kDense: ns += costs.dense_ns * static_cast<double>(part.stored.Count()); break;
      case PatternKind::kScattered: ns += costs.scattered_ns * static_cast<double>(part.stored.Count()); break;
      case PatternKind::kSlices: ns += costs.slices_ns * static_cast<double>(part.stored.Count()); break;
      case PatternKind::kNm: ns += costs.nm_ns * static_cast<double>(part.stored.Count()); break;
      case PatternKind::kBlock: {
        const BitMatrix stored(part.stored, matrix.rows, matrix.depth);
        for (const CoverCosts::Block& block : costs.blocks) {
          if (block.height != part.pattern.block[0] || block.width != part.pattern.block[1]) continue;
          ns += block.ns * static_cast<double>(NonEmptyBlocks(stored, block.height, block.width).size());
        }
        break;
      }
    }
  }
  return ns;
}

// Masks of every pattern, and mixtures of two.
Bitmap RandomKept(Random& random, const Shape& shape) {
  const auto one = [&] {
    const double kept = random.Uniform(0, 1);
    switch (random.Int(0, 6)) {
      case 0: return RandomMask(random, shape, Pattern::Scattered(), kept);
      case 1: return RandomMask(random, shape, Pattern::Slices(static_cast<int>(random.Int(0, 1))), kept);
      case 2: return RandomMask(random, shape, Pattern::Nm(2, 4, 1), kept);
      case 3: return RandomMask(random, shape, Pattern::Nm(1, 8, 1), kept);
      case 4: return Bitmap(shape.num_elements(), random.Chance(0.5));
      default:
        return RandomMask(random, shape, Pattern::Block(int64_t{1} << random.Int(0, 6), int64_t{1} << random.Int(0, 6)),
                          kept);
    }
  };
  Bitmap kept = one();
  if (random.Chance(0.5)) kept |= RandomMask(random, shape, Pattern::Scattered(), 0.02);
  if (random.Chance(0.2)) kept |= one();
  return kept;
}

TEST(CoverTest, EveryCandidateIsExactAndCostsWhatItSays) {
  Random random(1);
  std::map<std::string, int> seen;
  for (int repeat = 0; repeat < 300; ++repeat) {
    const Shape shape = {random.Int(1, 150), random.Int(1, 150)};
    const CoverMatrix matrix = Matrix(shape[0], shape[1], RandomKept(random, shape));
    const CoverCosts costs = RandomCosts(random);
    double before = 0;
    for (const CoverCandidate& candidate : CoverCandidates(matrix, costs)) {
      SCOPED_TRACE(internal::Join("repeat ", repeat, ", ", shape, " ", candidate.name, " (", candidate.why, ")"));
      const StatusOr<Cover> cover = MakeCover(matrix, candidate.name, costs);
      ASSERT_TRUE(cover.ok()) << cover.status();
      EXPECT_EQ(cover->name, candidate.name);
      EXPECT_OK(CheckCover(matrix, *cover));
      // Blocks with nothing kept are not part of a cover, those of the whole matrix are.
      if (matrix.kept.Any()) {
        EXPECT_NEAR(candidate.ns, CostOf(*cover, matrix, costs), 1e-6 * candidate.ns);
      }
      EXPECT_GE(candidate.ns, before) << "cheapest first";
      before = candidate.ns;
      ++seen[candidate.name];
    }
  }
  for (const char* name : {"dense", "scattered", "rows and columns", "blocks 32x32", "blocks 8x8 + scattered",
                           "blocks + scattered", "2:4", "2:4 + scattered"}) {
    EXPECT_GT(seen[name], 0) << name;
  }
}

// Any name on any matrix, candidate or not.
TEST(CoverTest, EveryNameIsExact) {
  Random random(2);
  for (int repeat = 0; repeat < 100; ++repeat) {
    const Shape shape = {random.Int(1, 100), random.Int(1, 100)};
    const CoverMatrix matrix = Matrix(shape[0], shape[1], RandomKept(random, shape));
    const CoverCosts costs = RandomCosts(random);
    for (const char* name : {"dense", "scattered", "rows and columns", "blocks 1x1", "blocks 64x2",
                             "blocks 2x64 + scattered", "blocks + scattered", "1:3 + scattered", "7:9 + scattered"}) {
      const StatusOr<Cover> cover = MakeCover(matrix, name, costs);
      ASSERT_TRUE(cover.ok()) << name << ": " << cover.status();
      EXPECT_OK(CheckCover(matrix, *cover)) << name;
    }
  }
}

// The cheapest choice of disjoint blocks, by trying all of them.
double BruteForce(const Bitmap& kept, int64_t rows, int64_t depth, const CoverCosts& costs, Bitmap taken, size_t from,
                  const std::vector<CoverBlock>& all, double ns) {
  double best = ns;
  for (int64_t at = 0; at < kept.size(); ++at) best += kept[at] && !taken[at] ? costs.scattered_ns : 0;
  for (size_t k = from; k < all.size(); ++k) {
    Bitmap here(rows * depth);
    for (int64_t r = all[k].row; r < std::min(rows, all[k].row + all[k].height); ++r) {
      here.SetRange(r * depth + all[k].k, r * depth + std::min(depth, all[k].k + all[k].width), true);
    }
    Bitmap both = here;
    if ((both &= taken).Any()) continue;
    here |= taken;
    double block_ns = 0;
    for (const CoverCosts::Block& b : costs.blocks) {
      if (b.height == all[k].height && b.width == all[k].width) block_ns = b.ns;
    }
    best = std::min(best, BruteForce(kept, rows, depth, costs, here, k + 1, all, ns + block_ns));
  }
  return best;
}

TEST(CoverTest, BlocksOfSeveralSizesAreTheCheapestChoice) {
  Random random(3);
  for (int repeat = 0; repeat < 200; ++repeat) {
    const int64_t rows = random.Int(1, 4), depth = random.Int(1, 4);
    const Bitmap kept = RandomMask(random, {rows, depth}, Pattern::Scattered(), 0.6);
    CoverCosts costs;
    costs.scattered_ns = 1;
    costs.blocks = {{4, 4, random.Uniform(2, 9)},
                    {2, 2, random.Uniform(1, 4)},
                    {1, 4, random.Uniform(1, 4)},
                    {4, 1, random.Uniform(1, 4)}};
    const BitMatrix bits(kept, rows, depth);
    std::vector<CoverBlock> all;
    for (const CoverCosts::Block& b : costs.blocks) {
      for (const CoverBlock& block : NonEmptyBlocks(bits, b.height, b.width)) all.push_back(block);
    }
    double ns = 0;
    int64_t inside = 0;
    for (const CoverBlock& block : CheapestBlocks(bits, costs.blocks, costs.scattered_ns)) {
      inside += block.kept;
      for (const CoverCosts::Block& b : costs.blocks) {
        if (b.height == block.height && b.width == block.width) ns += b.ns;
      }
    }
    ns += static_cast<double>(kept.Count() - inside) * costs.scattered_ns;
    EXPECT_NEAR(ns, BruteForce(kept, rows, depth, costs, Bitmap(rows * depth), 0, all, 0), 1e-5) << repeat;
  }
}

TEST(CoverTest, BlocksAndOnePerCentScattered) {
  Random random(4);
  const Shape shape = {512, 512};
  Bitmap kept = RandomMask(random, shape, Pattern::Block(32, 32), 0.2);
  const Bitmap blocks = kept;
  kept |= RandomMask(random, shape, Pattern::Scattered(), 0.01);
  CoverCosts costs;
  costs.blocks = {{32, 32, 1024 * 0.9}, {8, 8, 64 * 0.95}};
  const CoverMatrix matrix = Matrix(512, 512, kept);
  EXPECT_EQ(CoverCandidates(matrix, costs)[0].name, "blocks 32x32 + scattered");
  const StatusOr<Cover> cover = MakeCover(matrix, "blocks 32x32 + scattered", costs);
  ASSERT_TRUE(cover.ok());
  ASSERT_EQ(cover->parts.size(), 2);
  EXPECT_EQ(cover->parts[0].pattern, Pattern::Block(32, 32));
  EXPECT_EQ(cover->parts[0].kept, blocks);
  EXPECT_EQ(cover->parts[0].stored, blocks);
  EXPECT_EQ(cover->parts[1].pattern, Pattern::Scattered());
}

// A block that is dearer than its elements is scattered: the fallback to 1x1.
TEST(CoverTest, CostsDecide) {
  Bitmap kept(64);
  for (int64_t k = 0; k < 40; ++k) kept.Set(k, true);
  const CoverMatrix matrix = Matrix(8, 8, kept);
  const auto best = [&](double block_ns, double scattered_ns) {
    CoverCosts costs = {.dense_ns = 100, .scattered_ns = scattered_ns, .slices_ns = 100, .nm_ns = 100, .blocks = {}};
    costs.blocks = {{8, 8, block_ns}};
    return CoverCandidates(matrix, costs)[0].name;
  };
  EXPECT_EQ(best(39, 1), "blocks 8x8");
  EXPECT_EQ(best(41, 1), "scattered");
}

TEST(CoverTest, NmTakesTheFirstOfEachGroup) {
  const std::vector<uint8_t> bits = {1, 1, 1, 0, 0, 0, 0, 1, 1, 1};  // groups of 4: three, one, the last two of two
  const CoverMatrix matrix = Matrix(1, 10, Bitmap::FromBytes(bits));
  const StatusOr<Cover> cover = MakeCover(matrix, "2:4 + scattered", {});
  ASSERT_TRUE(cover.ok());
  ASSERT_EQ(cover->parts.size(), 2);
  EXPECT_EQ(cover->parts[0].kept.Positions(), (std::vector<int64_t>{0, 1, 7, 8, 9}));
  EXPECT_EQ(cover->parts[0].stored.Positions(), (std::vector<int64_t>{0, 1, 4, 7, 8, 9}));
  EXPECT_EQ(cover->parts[1].kept.Positions(), (std::vector<int64_t>{2}));
  const StatusOr<Cover> refused = MakeCover(matrix, "2:4", {});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().ToString().find("2:4 + scattered"), std::string::npos);
}

TEST(CoverTest, NamesThatAreNone) {
  const CoverMatrix matrix = Matrix(2, 2, Bitmap(4, true));
  for (const char* name : {"", "blocks", "blocks 3x3", "blocks 128x8", "blocks 8", "4:2", "2:", " + scattered",
                           "blocks 8x8 + dense", "blocks8x8", "0:4", "2:99"}) {
    EXPECT_FALSE(MakeCover(matrix, name, {}).ok()) << name;
  }
}

TEST(CoverTest, NothingKeptHasNoParts) {
  const CoverMatrix matrix = Matrix(20, 30, Bitmap(600));
  for (const char* name : {"dense", "scattered", "blocks 8x8", "blocks + scattered", "2:4"}) {
    const StatusOr<Cover> cover = MakeCover(matrix, name, {});
    ASSERT_TRUE(cover.ok());
    EXPECT_TRUE(cover->parts.empty()) << name;
    EXPECT_OK(CheckCover(matrix, *cover));
  }
}

TEST(CoverTest, FaultsAreFound) {
  const CoverMatrix matrix = Matrix(1, 4, Bitmap::FromBytes(std::vector<uint8_t>{1, 1, 0, 1}));
  const auto part = [](std::vector<uint8_t> kept) {
    return CoverPart{
        .pattern = Pattern::Scattered(), .kept = Bitmap::FromBytes(kept), .stored = Bitmap::FromBytes(kept)};
  };
  EXPECT_OK(CheckCover(matrix, {"", {part({1, 0, 0, 1}), part({0, 1, 0, 0})}}));
  EXPECT_FALSE(CheckCover(matrix, {"", {part({1, 0, 0, 1})}}).ok()) << "one is lacking";
  EXPECT_FALSE(CheckCover(matrix, {"", {part({1, 1, 0, 1}), part({0, 1, 0, 0})}}).ok()) << "one is twice";
  EXPECT_FALSE(CheckCover(matrix, {"", {part({1, 1, 1, 1})}}).ok()) << "one is pruned";
}

TEST(CoverMatrixTest, Transposed) {
  Random random(5);
  const Bitmap bits = RandomMask(random, {7, 5}, Pattern::Scattered(), 0.5);
  const CoverMatrix straight = CoverMatrix::Of(bits, 7, 5, 5, 1), turned = CoverMatrix::Of(bits, 5, 7, 1, 5);
  for (int64_t r = 0; r < 7; ++r) {
    for (int64_t k = 0; k < 5; ++k) {
      EXPECT_EQ(straight.kept[r * 5 + k], bits[r * 5 + k]);
      EXPECT_EQ(turned.kept[k * 7 + r], bits[r * 5 + k]);
    }
  }
}

TEST(SplitByPrecisionTest, BitsAreRoundedUpToWhatThereIs) {
  Random random(6);
  std::vector<uint8_t> bits;
  for (int k = 0; k < 1000; ++k) bits.push_back(std::vector<uint8_t>{0, 3, 5, 7}[random.Int(0, 3)]);
  const Attribute attribute = Attribute::FromBits({10, 100}, bits);
  const std::vector<int> widths = {4, 8, 16, 32};
  const auto shares = SplitByPrecision(attribute, widths);
  ASSERT_TRUE(shares.ok());
  ASSERT_EQ(shares->size(), 2);
  EXPECT_EQ((*shares)[0].bits, 4);
  EXPECT_EQ((*shares)[1].bits, 8);
  for (int64_t k = 0; k < 1000; ++k) {
    EXPECT_EQ((*shares)[0].kept[k], bits[k] == 3);
    EXPECT_EQ((*shares)[1].kept[k], bits[k] == 5 || bits[k] == 7);
  }
}

TEST(SplitByPrecisionTest, EightBitsWithOutliersOfThirtyTwo) {
  Random random(7);
  std::vector<uint8_t> bits;
  for (int k = 0; k < 4000; ++k) bits.push_back(random.Chance(0.05) ? 32 : random.Chance(0.3) ? 0 : 8);
  const Attribute attribute = Attribute::FromBits({40, 100}, bits);
  const auto shares = SplitByPrecision(attribute, std::vector<int>{8, 32});
  ASSERT_TRUE(shares.ok());
  ASSERT_EQ(shares->size(), 2);
  Bitmap both = (*shares)[0].kept, either = (*shares)[0].kept;
  EXPECT_FALSE((both &= (*shares)[1].kept).Any());
  EXPECT_EQ(either |= (*shares)[1].kept, attribute.KeptBitmap());
  EXPECT_EQ((*shares)[1].kept, attribute.BitmapOf(32));
}

TEST(SplitByPrecisionTest, WiderThanTheMachine) {
  EXPECT_FALSE(SplitByPrecision(Attribute::Dense({4}, 32), std::vector<int>{8, 16}).ok());
  const auto none =
      SplitByPrecision(Attribute::FromKept({4}, std::vector<uint8_t>{0, 0, 0, 0}, 8), std::vector<int>{8});
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(none->empty());
}

}  // namespace
}  // namespace tessera
