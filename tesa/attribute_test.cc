// Tests Attribute against plain lists of widths: every way to make one, ask it, combine it and move it.
#include "tesa/attribute.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tesa/testing/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const Shape kShapes[] = {{1},          {5},          {130},   {3, 5},  {64, 64},   {33, 70},  {16, 3, 3, 3},
                         {8, 4, 1, 1}, {2, 3, 4, 5}, {1, 96}, {96, 1}, {40, 8, 3}, {7, 1, 65}};

// All that an attribute says, against the widths themselves.
void ExpectSays(const Attribute& attribute, const std::vector<uint8_t>& bits) {
  ASSERT_EQ(attribute.num_elements(), static_cast<int64_t>(bits.size()));
  EXPECT_EQ(attribute.Bits(), bits);
  const Bitmap kept = attribute.KeptBitmap();
  std::vector<int> widths;
  int64_t count = 0;
  for (size_t i = 0; i < bits.size(); ++i) {
    ASSERT_EQ(attribute.bits(static_cast<int64_t>(i)), bits[i]) << i;
    ASSERT_EQ(kept[static_cast<int64_t>(i)], bits[i] != 0) << i;
    count += bits[i] != 0;
    if (bits[i] != 0) widths.push_back(bits[i]);
  }
  std::sort(widths.begin(), widths.end());
  widths.erase(std::unique(widths.begin(), widths.end()), widths.end());
  EXPECT_EQ(attribute.num_kept(), count);
  EXPECT_EQ(attribute.Widths(), widths);
  for (int width : {0, 2, 4, 8, 16, 32}) {
    const Bitmap of = attribute.BitmapOf(width);
    for (size_t i = 0; i < bits.size(); ++i) ASSERT_EQ(of[static_cast<int64_t>(i)], bits[i] == width) << i;
  }
}

TEST(Attribute, EveryPatternOnEveryShape) {
  Random random(1);
  for (const Shape& shape : kShapes) {
    for (const Pattern& pattern : EveryPattern(shape)) {
      for (double share : {0.0, 0.1, 0.5, 0.9}) {
        SCOPED_TRACE(shape.ToString() + " " + pattern.ToString());
        const Bitmap mask = RandomMask(random, shape, pattern, share);
        std::vector<uint8_t> bits(mask.size(), 0);
        for (int64_t i : mask.Positions()) bits[i] = 8;
        ExpectSays(Attribute::FromKept(shape, mask, 8), bits);
      }
    }
  }
}

TEST(Attribute, SeveralWidths) {
  Random random(2);
  for (int round = 0; round < 300; ++round) {
    const Shape& shape = kShapes[round % std::size(kShapes)];
    const Attribute attribute = RandomAttributeOfAnyKind(random, shape);
    ExpectSays(attribute, attribute.Bits());
    EXPECT_EQ(Attribute::FromBits(shape, attribute.Bits()), attribute);
    StatusOr<Attribute> again = Attribute::FromLayers(shape, {attribute.layers().begin(), attribute.layers().end()});
    ASSERT_OK(again);
    EXPECT_EQ(*again, attribute);
    EXPECT_EQ(again->num_kept(), attribute.num_kept());
  }
}

TEST(Attribute, DenseAndEmpty) {
  ExpectSays(Attribute::Dense({2, 3}, 32), std::vector<uint8_t>(6, 32));
  ExpectSays(Attribute::Dense({2, 3}, 0), std::vector<uint8_t>(6, 0));
  ExpectSays(Attribute::Dense(Shape(), 8), {8});
  ExpectSays(Attribute::Dense({0, 3}, 8), {});
  ExpectSays(Attribute::FromBits({4, 0}, {}), {});
  EXPECT_EQ(Attribute::Dense({0}, 8).density(), 1);
  EXPECT_TRUE(Attribute::Dense({2, 3}, 32).keeps_all());
  EXPECT_EQ(Attribute(), Attribute::Dense(Shape(), 32));
  EXPECT_FALSE(Attribute::Dense({2, 3}, 32) == Attribute::Dense({3, 2}, 32));
  EXPECT_FALSE(Attribute::Dense({2, 3}, 32) == Attribute::Dense({2, 3}, 16));
}

TEST(Attribute, FindsZeros) {
  const Tensor tensor = Tensor::FromVector<float>({2, 4}, {0, -0.f, 1, -2, NAN, 0, 1e-40f, INFINITY});
  ExpectSays(Attribute::FromZeros(tensor), {0, 0, 32, 32, 32, 0, 32, 32});
  const Tensor ints = Tensor::FromVector<int8_t>({3}, {0, -1, 5});
  ExpectSays(Attribute::FromZeros(ints), {0, 8, 8});
  Tensor halves(DType::kF16, {3});
  halves.Set(1, -0.0);
  halves.Set(2, 0.5);
  ExpectSays(Attribute::FromZeros(halves), {0, 0, 16});
}

TEST(Attribute, StructureIsSmall) {
  Random random(3);
  const Shape shape = {4096, 4096};
  const auto bytes = [&](const Pattern& pattern, double share) {
    return RandomAttribute(random, shape, pattern, share, 32).byte_size();
  };
  EXPECT_LT(bytes(Pattern::Block(32, 32), 0.1), 4 << 10);
  EXPECT_LT(bytes(Pattern::Block(64, 64), 0.5), 2 << 10);
  EXPECT_LT(bytes(Pattern::Slices(0), 0.3), 1 << 10);
  EXPECT_LT(bytes(Pattern::Slices(1), 0.3), 1 << 10);
  EXPECT_LT(bytes(Pattern::Dense(), 1), 1 << 10);
  Pattern both = Pattern::Slices(0);
  both.other_axis = 1;
  EXPECT_LT(bytes(both, 0.5), 2 << 10);
  // n:m in ceil(log2(C(m, n))) bits for each group, a bitmap for what has no structure.
  const int64_t elements = shape.num_elements();
  EXPECT_LT(bytes(Pattern::Nm(2, 4, 1), 0), elements / 4 * 3 / 8 + 1024);
  EXPECT_LT(bytes(Pattern::Nm(1, 4, 0), 0), elements / 4 * 2 / 8 + 1024);
  EXPECT_LT(bytes(Pattern::Scattered(), 0.1), elements / 8 + 1024);
}

TEST(Attribute, CombinedStructureIsSmall) {
  Random random(4);
  const Shape shape = {1024, 1024};
  // Dead channels inside a block pattern, n:m inside live rows, scattered inside live blocks.
  const Bitmap rows = RandomMask(random, shape, Pattern::Slices(0), 0.5);
  Bitmap blocks = RandomMask(random, shape, Pattern::Block(32, 32), 0.3);
  Bitmap thinned = blocks;
  thinned &= rows;
  EXPECT_LT(Attribute::FromKept(shape, thinned, 32).byte_size(), 1024);
  Bitmap nm = RandomMask(random, shape, Pattern::Nm(1, 4, 1), 0);
  nm &= rows;
  EXPECT_LT(Attribute::FromKept(shape, nm, 32).byte_size(), shape.num_elements() / 32 + 8000);
  Bitmap scattered = RandomMask(random, shape, Pattern::Scattered(), 0.5);
  scattered &= blocks;
  EXPECT_LT(Attribute::FromKept(shape, scattered, 32).byte_size(), shape.num_elements() / 8 * 4 / 10);
  // Two widths: blocks at 8 bits, the rest at 32, needs no more than the blocks.
  std::vector<uint8_t> bits(shape.num_elements(), 32);
  for (int64_t i : blocks.Positions()) bits[i] = 8;
  EXPECT_LT(Attribute::FromBits(shape, bits).byte_size(), 1024);
}

TEST(Attribute, MeetAndJoin) {
  Random random(5);
  std::vector<Shape> shapes(std::begin(kShapes), std::end(kShapes));
  shapes.push_back({300, 257});  // large enough to be combined on the compressed form
  shapes.push_back({64, 40, 5, 6});
  for (int round = 0; round < 120; ++round) {
    const Shape& shape = shapes[round % shapes.size()];
    const Attribute a = RandomAttributeOfAnyKind(random, shape), b = RandomAttributeOfAnyKind(random, shape);
    const std::vector<uint8_t> bits_a = a.Bits(), bits_b = b.Bits();
    std::vector<uint8_t> low(bits_a.size()), high(bits_a.size());
    for (size_t i = 0; i < low.size(); ++i) {
      low[i] = std::min(bits_a[i], bits_b[i]);
      high[i] = std::max(bits_a[i], bits_b[i]);
    }
    const Attribute met = Meet(a, b), joined = Join(a, b);
    EXPECT_EQ(met.Bits(), low);
    EXPECT_EQ(joined.Bits(), high);
    EXPECT_EQ(met, Attribute::FromBits(shape, low));
    EXPECT_EQ(joined.num_kept(), Attribute::FromBits(shape, high).num_kept());
    EXPECT_OK(Attribute::FromLayers(shape, {met.layers().begin(), met.layers().end()}));
    EXPECT_EQ(Meet(a, a), a);
    EXPECT_EQ(Join(a, met), a);  // absorption
  }
}

TEST(Attribute, CombinesLargeStructuresCompressed) {
  const Shape shape = {16384, 16384};
  Random random(6);
  Bitmap cells(512 * 512), rows(16384);
  for (int64_t k = 0; k < cells.size(); ++k) cells.Set(k, random.Chance(0.2));
  for (int64_t k = 0; k < rows.size(); ++k) rows.Set(k, random.Chance(0.5));
  const Attribute blocks = Attribute::FromGrid(shape, {32, 32}, cells, 32);
  const Attribute live_rows = Attribute::FromGrid(shape, {1, 16384}, rows, 16);
  const Attribute met = Meet(blocks, live_rows);
  EXPECT_LT(met.byte_size(), 64 << 10);
  EXPECT_EQ(met.bits(0), cells[0] && rows[0] ? 16 : 0);
  const int64_t at = 777 * int64_t{16384} + 9000;
  EXPECT_EQ(met.bits(at), cells[777 / 32 * 512 + 9000 / 32] && rows[777] ? 16 : 0);
}

TEST(Attribute, ReshapeTransposeSlice) {
  Random random(7);
  for (int round = 0; round < 100; ++round) {
    const Shape shape = RandomShape(random, static_cast<int>(random.Int(1, 4)), 1, 12);
    const Attribute a = RandomAttributeOfAnyKind(random, shape);
    const std::vector<uint8_t> bits = a.Bits();
    ExpectSays(a.Reshaped({shape.num_elements()}), bits);

    std::vector<int> perm(shape.rank());
    for (int d = 0; d < shape.rank(); ++d) perm[d] = d;
    for (int d = shape.rank() - 1; d > 0; --d) std::swap(perm[d], perm[random.Int(0, d)]);
    std::vector<int64_t> start(shape.rank()), size(shape.rank());
    for (int d = 0; d < shape.rank(); ++d) {
      start[d] = random.Int(0, shape[d]);
      size[d] = random.Int(0, shape[d] - start[d]);
    }
    const std::vector<int64_t> strides = shape.Strides();
    Shape turned = shape;
    for (int d = 0; d < shape.rank(); ++d) turned[d] = shape[perm[d]];
    std::vector<uint8_t> turned_bits, slice_bits;
    ForEachIndex(turned, [&](const std::vector<int64_t>& index) {
      int64_t i = 0;
      for (int d = 0; d < shape.rank(); ++d) i += index[d] * strides[perm[d]];
      turned_bits.push_back(bits[i]);
    });
    ForEachIndex(Shape(size), [&](const std::vector<int64_t>& index) {
      int64_t i = 0;
      for (int d = 0; d < shape.rank(); ++d) i += (start[d] + index[d]) * strides[d];
      slice_bits.push_back(bits[i]);
    });
    const Attribute transposed = a.Transposed(perm), sliced = a.Sliced(start, size);
    EXPECT_EQ(transposed.shape(), turned);
    EXPECT_EQ(sliced.shape(), Shape(size));
    ExpectSays(transposed, turned_bits);
    ExpectSays(sliced, slice_bits);
    EXPECT_OK(Attribute::FromLayers(turned, {transposed.layers().begin(), transposed.layers().end()}));
  }
}

// Grids move as grids, also those that were found under another view.
TEST(Attribute, StructureSurvivesMoves) {
  Random random(17);
  for (int round = 0; round < 200; ++round) {
    const int rank = static_cast<int>(random.Int(1, 4));
    const Shape shape = RandomShape(random, rank, 1, 9);
    // A grid of random cells, seen under a shape whose axes are merged or of extent 1.
    std::vector<int64_t> merged, block;
    for (int64_t extent : shape) {
      if (!merged.empty() && random.Chance(0.4)) {
        merged.back() *= extent;
      } else {
        merged.push_back(extent);
      }
      if (random.Chance(0.2)) merged.push_back(1);
    }
    int64_t cells = 1;
    for (int64_t extent : merged) {
      block.push_back(random.Int(1, extent));
      cells *= (extent + block.back() - 1) / block.back();
    }
    Bitmap set(cells);
    for (int64_t c = 0; c < cells; ++c) set.Set(c, random.Chance(0.5));
    const Attribute a = Attribute::FromGrid(Shape(merged), block, set, 8).Reshaped(shape);
    const std::vector<uint8_t> bits = a.Bits();
    std::vector<int> perm(rank);
    for (int d = 0; d < rank; ++d) perm[d] = rank - 1 - d;
    std::vector<int64_t> start(rank), size(rank);
    for (int d = 0; d < rank; ++d) {
      start[d] = random.Int(0, shape[d] - 1);
      size[d] = random.Int(1, shape[d] - start[d]);
    }
    const std::vector<int64_t> strides = shape.Strides();
    Shape turned = shape;
    for (int d = 0; d < rank; ++d) turned[d] = shape[perm[d]];
    std::vector<uint8_t> turned_bits, slice_bits;
    ForEachIndex(turned, [&](const std::vector<int64_t>& index) {
      int64_t i = 0;
      for (int d = 0; d < rank; ++d) i += index[d] * strides[perm[d]];
      turned_bits.push_back(bits[i]);
    });
    ForEachIndex(Shape(size), [&](const std::vector<int64_t>& index) {
      int64_t i = 0;
      for (int d = 0; d < rank; ++d) i += (start[d] + index[d]) * strides[d];
      slice_bits.push_back(bits[i]);
    });
    const Attribute transposed = a.Transposed(perm), sliced = a.Sliced(start, size);
    ExpectSays(transposed, turned_bits);
    ExpectSays(sliced, slice_bits);
    EXPECT_OK(Attribute::FromLayers(turned, {transposed.layers().begin(), transposed.layers().end()}));
    EXPECT_OK(Attribute::FromLayers(Shape(size), {sliced.layers().begin(), sliced.layers().end()}));
  }
}

// A quarter of a billion elements in blocks turned and cut: work on 512x512 cells.
TEST(Attribute, HugeBlocksMoveAsCells) {
  Random random(18);
  Bitmap cells(512 * 512);
  for (int64_t c = 0; c < cells.size(); ++c) cells.Set(c, random.Chance(0.1));
  const Attribute a = Attribute::FromGrid({16384, 16384}, {32, 32}, cells, 8);
  const Attribute turned = a.Transposed(std::vector<int>{1, 0});
  EXPECT_EQ(turned.byte_size(), a.byte_size());
  EXPECT_EQ(turned.num_kept(), a.num_kept());
  const Attribute part = a.Sliced(std::vector<int64_t>{64, 16}, std::vector<int64_t>{16000, 16000});
  EXPECT_LE(part.byte_size(), 3 * a.byte_size());
  EXPECT_EQ(part.bits(12345 * int64_t{16000} + 678), a.bits((12345 + 64) * int64_t{16384} + 678 + 16));
  // Weights of a convolution are compressed as a matrix, and turned as what they are.
  std::vector<uint8_t> kept(64 * 32 * 9);
  for (size_t i = 0; i < kept.size(); ++i) kept[i] = i / (32 * 9) % 3 != 0;
  const Attribute rows = Attribute::FromKept({64, 32, 3, 3}, kept, 32);
  EXPECT_LE(rows.Transposed(std::vector<int>{0, 2, 3, 1}).byte_size(), rows.byte_size());
}

TEST(Attribute, ApplyZeroesThePruned) {
  Random random(8);
  for (DType dtype : {DType::kF32, DType::kF16, DType::kI8, DType::kI4, DType::kF64}) {
    const Tensor tensor = RandomTensor(random, {dtype, {9, 7}});
    const Attribute a = RandomAttribute(random, {9, 7}, Pattern::Scattered(), 0.5, 8);
    const Tensor applied = a.ApplyTo(tensor);
    for (int64_t i = 0; i < 63; ++i) EXPECT_EQ(applied.Get(i), a.kept(i) ? tensor.Get(i) : 0.0);
    // Absent, whatever was there.
    const Tensor nans = Tensor::Full(DType::kF32, {9, 7}, NAN);
    for (int64_t i = 0; i < 63; ++i) EXPECT_EQ(std::isnan(a.ApplyTo(nans).Get(i)), a.kept(i));
  }
}

TEST(Attribute, LayersFromOutsideAreChecked) {
  const Shape shape = {4, 6};
  const auto make = [&](TesaLayer layer) { return Attribute::FromLayers(shape, {std::move(layer)}); };
  const TesaLayer good = {.bits = 8, .view = shape, .grids = {{{2, 2}, Bitmap(6, true)}}, .residual = {}};
  EXPECT_OK(make(good));
  TesaLayer bad = good;
  bad.bits = 65;
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid, HasSubstr("found 65")));
  bad = good;
  bad.bits = 0;
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid));
  bad = good;
  bad.view = {5, 5};
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid, HasSubstr("a view of 24")));
  bad.view = {int64_t{1} << 62, int64_t{1} << 62};
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kLimitExceeded));
  bad = good;
  bad.grids[0].block = {2};
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid, HasSubstr("cells that fit")));
  bad.grids[0].block = {0, 2};
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid));
  bad.grids[0].block = {2, 7};
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid));
  bad.grids[0].block = {2, 4};
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid, HasSubstr("expected 4 cells")));
  bad = good;
  bad.residual = {.kind = TesaResidual::Kind::kBitmap, .data = Bitmap(23)};
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid, HasSubstr("4 residual bits for each of 6")));
  bad.residual = {.kind = TesaResidual::Kind::kNm, .axis = 1, .n = 2, .m = 4, .data = Bitmap(24)};
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid, HasSubstr("whole slices")));
  bad.grids.clear();
  bad.residual.data = Bitmap(4 * 2 * 3, true);  // code 7 of 6
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid, HasSubstr("out of range")));
  bad.residual.m = 33;
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid));
  // A bitmap that keeps what hangs over the edge.
  bad = {.bits = 8, .view = shape, .grids = {{{4, 4}, Bitmap(2, true)}}, .residual = {}};
  bad.residual = {.kind = TesaResidual::Kind::kBitmap, .data = Bitmap(32, true)};
  EXPECT_THAT(make(bad), StatusIs(ErrorCode::kTesaInvalid, HasSubstr("beyond the edge")));
  EXPECT_THAT(Attribute::FromLayers(shape, std::vector<TesaLayer>(257, good)), StatusIs(ErrorCode::kLimitExceeded));
  EXPECT_THAT(Attribute::FromLayers({int64_t{1} << 40}, {}), StatusIs(ErrorCode::kLimitExceeded));
}

}  // namespace
}  // namespace tessera
