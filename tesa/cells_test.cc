#include "tesa/cells.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <numeric>
#include <random>

#include "gtest/gtest.h"
#include "tesa/testing/random.h"

namespace tessera {
namespace {

using Rng = std::mt19937;

int64_t Below(Rng& rng, int64_t n) { return static_cast<int64_t>(rng() % static_cast<uint64_t>(n)); }

Shape AnyShape(Rng& rng, int64_t low = 0) {
  Shape shape(std::vector<int64_t>(static_cast<size_t>(Below(rng, 5)), 1));
  for (int d = 0; d < shape.rank(); ++d) shape[d] = Below(rng, 8) == 0 ? low : 1 + Below(rng, 6);
  return shape;
}

// Elements with structure: per axis a few classes, a random value for each cell; sometimes fully scattered.
template <typename T>
std::vector<T> AnyElements(Rng& rng, const Shape& shape) {
  std::vector<std::vector<int64_t>> classes;
  const int64_t kinds = 1 + Below(rng, 4);
  for (int64_t extent : shape) {
    classes.emplace_back();
    for (int64_t i = 0; i < extent; ++i) classes.back().push_back(Below(rng, kinds));
  }
  std::map<std::vector<int64_t>, T> values;
  std::vector<T> elements;
  ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
    std::vector<int64_t> cell(index);
    for (size_t d = 0; d < cell.size(); ++d) cell[d] = classes[d][static_cast<size_t>(index[d])];
    elements.push_back(values.emplace(cell, static_cast<T>(Below(rng, 3))).first->second);
  });
  return elements;
}

int64_t Flat(const Shape& shape, const std::vector<int64_t>& index) {
  int64_t flat = 0;
  for (int d = 0; d < shape.rank(); ++d) flat = flat * shape[d] + index[static_cast<size_t>(d)];
  return flat;
}

// Do indices i and k of axis d have equal slices?
template <typename T>
bool Alike(const Shape& shape, const std::vector<T>& elements, int d, int64_t i, int64_t k) {
  bool alike = true;
  ForEachIndex(shape, [&](std::vector<int64_t> index) {
    if (index[static_cast<size_t>(d)] != i) return;
    const T value = elements[static_cast<size_t>(Flat(shape, index))];
    index[static_cast<size_t>(d)] = k;
    alike &= value == elements[static_cast<size_t>(Flat(shape, index))];
  });
  return alike;
}

template <typename T>
void ExpectIs(const Cells<T>& cells, const Shape& shape, const std::vector<T>& elements) {
  ASSERT_EQ(cells.shape, shape);
  ASSERT_EQ(static_cast<int>(cells.axes.size()), shape.rank());
  for (int d = 0; d < shape.rank(); ++d) ASSERT_EQ(cells.axes[static_cast<size_t>(d)].extent(), shape[d]);
  ASSERT_EQ(static_cast<int64_t>(cells.values.size()), cells.num_cells());
  EXPECT_EQ(cells.Elements(), elements) << shape;
}

template <typename T>
void CheckFromElements() {
  Rng rng(1);
  for (int trial = 0; trial < 300; ++trial) {
    const Shape shape = AnyShape(rng);
    const std::vector<T> elements = AnyElements<T>(rng, shape);
    const Cells<T> cells = Cells<T>::FromElements(shape, elements);
    ExpectIs(cells, shape, elements);
    for (int d = 0; d < shape.rank() && shape.num_elements() > 0; ++d) {
      for (int64_t i = 0; i < shape[d]; ++i) {
        for (int64_t k = 0; k < i; ++k) {
          const Partition& axis = cells.axes[static_cast<size_t>(d)];
          EXPECT_EQ(axis[i] == axis[k], Alike(shape, elements, d, i, k)) << shape << " axis " << d;
        }
      }
    }
    ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
      EXPECT_EQ(cells.at(index), elements[static_cast<size_t>(Flat(shape, index))]);
    });
    for (int value = 0; value < 4; ++value) {
      const int64_t count = std::count(elements.begin(), elements.end(), static_cast<T>(value));
      EXPECT_EQ(cells.Count(static_cast<T>(value)), count);
      EXPECT_EQ(cells.IsUniform(static_cast<T>(value)), count == shape.num_elements());
    }
    const std::vector<int64_t> firsts = cells.FirstElements(), sizes = cells.CellSizes();
    ASSERT_EQ(firsts.size(), cells.values.size());
    std::vector<int64_t> seen_first(firsts.size(), -1), seen_size(firsts.size(), 0);
    ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
      const size_t cell = static_cast<size_t>(cells.CellOf(index));
      if (++seen_size[cell] == 1) seen_first[cell] = Flat(shape, index);
    });
    EXPECT_EQ(firsts, seen_first);
    EXPECT_EQ(sizes, seen_size);
  }
}

TEST(CellsTest, FromElementsIsExactAndCoarsest) {
  CheckFromElements<uint8_t>();
  CheckFromElements<double>();
}

TEST(CellsTest, UniformAndElementGrids) {
  for (const Shape& shape : {Shape(), Shape({1}), Shape({3, 4}), Shape({0, 4}), Shape({4, 0})}) {
    const Cells<double> uniform = Cells<double>::Uniform(shape, 2.5);
    ExpectIs(uniform, shape, std::vector<double>(static_cast<size_t>(shape.num_elements()), 2.5));
    EXPECT_EQ(CellGrid::Elements(shape).num_cells(), shape.num_elements());
    EXPECT_LE(CellGrid::Whole(shape).num_cells(), 1);
  }
}

TEST(CellsTest, RefinedCoarsestAndEqual) {
  Rng rng(2);
  for (int trial = 0; trial < 200; ++trial) {
    const Shape shape = AnyShape(rng);
    const std::vector<uint8_t> x = AnyElements<uint8_t>(rng, shape);
    std::vector<uint8_t> y = AnyElements<uint8_t>(rng, shape);
    const Cells<uint8_t> a = Cells<uint8_t>::FromElements(shape, x), b = Cells<uint8_t>::FromElements(shape, y);
    const Cells<uint8_t> fine = a.Refined(Refine(static_cast<const CellGrid&>(a), b).axes);
    ExpectIs(fine, shape, x);
    const Cells<uint8_t> again = fine.Coarsest();
    EXPECT_EQ(again.axes, a.axes);
    EXPECT_EQ(again.values, a.values);
    EXPECT_TRUE(fine == a);
    EXPECT_EQ(a == b, x == y);
    const Cells<uint8_t> sum = Combine(a, b, [](uint8_t p, uint8_t q) -> uint8_t { return p + q; });
    for (size_t i = 0; i < x.size(); ++i) y[i] += x[i];
    ExpectIs(sum, shape, y);
    EXPECT_EQ(sum.axes, Cells<uint8_t>::FromElements(shape, y).axes);
  }
}

TEST(CellsTest, TransposedSlicedBroadcast) {
  Rng rng(3);
  for (int trial = 0; trial < 300; ++trial) {
    const Shape shape = AnyShape(rng, 1);
    const std::vector<double> x = AnyElements<double>(rng, shape);
    const Cells<double> cells = Cells<double>::FromElements(shape, x);
    const size_t rank = static_cast<size_t>(shape.rank());

    std::vector<int> perm(rank);
    std::iota(perm.begin(), perm.end(), 0);
    std::shuffle(perm.begin(), perm.end(), rng);
    Shape turned = shape, part = shape, wide = shape;
    std::vector<int64_t> start(rank), size(rank);
    for (int d = 0; d < shape.rank(); ++d) {
      turned[d] = shape[perm[static_cast<size_t>(d)]];
      start[static_cast<size_t>(d)] = Below(rng, shape[d]);
      part[d] = size[static_cast<size_t>(d)] = Below(rng, shape[d] - start[static_cast<size_t>(d)] + 1);
      if (shape[d] == 1) wide[d] = Below(rng, 4);
    }
    std::vector<double> expected;
    ForEachIndex(turned, [&](const std::vector<int64_t>& index) {
      std::vector<int64_t> from(rank);
      for (size_t d = 0; d < rank; ++d) from[static_cast<size_t>(perm[d])] = index[d];
      expected.push_back(x[static_cast<size_t>(Flat(shape, from))]);
    });
    ExpectIs(cells.Transposed(perm), turned, expected);

    expected.clear();
    ForEachIndex(part, [&](std::vector<int64_t> index) {
      for (size_t d = 0; d < rank; ++d) index[d] += start[d];
      expected.push_back(x[static_cast<size_t>(Flat(shape, index))]);
    });
    ExpectIs(cells.Sliced(start, size), part, expected);

    std::vector<int64_t> extents(wide.begin(), wide.end());
    if (trial % 2 == 0) extents.insert(extents.begin(), 1 + Below(rng, 3));
    const Shape to(extents);
    expected.clear();
    ForEachIndex(to, [&](const std::vector<int64_t>& index) {
      std::vector<int64_t> from(index.end() - static_cast<int64_t>(rank), index.end());
      for (size_t d = 0; d < rank; ++d) from[d] = shape[static_cast<int>(d)] == 1 ? 0 : from[d];
      expected.push_back(x[static_cast<size_t>(Flat(shape, from))]);
    });
    ExpectIs(cells.BroadcastTo(to), to, expected);
  }
}

// A random way to write `count` as a shape.
Shape Factored(Rng& rng, int64_t count) {
  std::vector<int64_t> extents;
  for (int64_t f = 2; count > 1; ++f) {
    while (count % f == 0) {
      if (!extents.empty() && Below(rng, 2) == 0) {
        extents[static_cast<size_t>(Below(rng, static_cast<int64_t>(extents.size())))] *= f;
      } else {
        extents.push_back(f);
      }
      count /= f;
    }
  }
  if (Below(rng, 3) == 0) extents.push_back(1);
  std::shuffle(extents.begin(), extents.end(), rng);
  return Shape(extents);
}

TEST(CellsTest, Reshaped) {
  Rng rng(4);
  for (int trial = 0; trial < 500; ++trial) {
    const int64_t count = std::vector<int64_t>{1, 2, 12, 24, 30, 64, 210}[static_cast<size_t>(Below(rng, 7))];
    const Shape from = Factored(rng, count), to = Factored(rng, count);
    const std::vector<uint8_t> x = AnyElements<uint8_t>(rng, from);
    const Cells<uint8_t> cells = Cells<uint8_t>::FromElements(from, x);
    ExpectIs(cells.Mapped(ReshapeMap(cells, to)), to, x);
    ExpectIs(cells.Reshaped(to), to, x);
  }
  const Cells<uint8_t> empty = Cells<uint8_t>::Uniform({3, 0}, 1);
  ExpectIs(empty.Reshaped({0, 5, 2}), {0, 5, 2}, {});
}

TEST(CellsTest, ReshapeKeepsTheClassesOfAxesThatSplitOrMerge) {
  // Heads: 12 of 64, two of them dead, flat and apart.
  std::vector<uint8_t> live(768, 1);
  for (int64_t i = 64; i < 192; ++i) live[static_cast<size_t>(i)] = 0;
  const Cells<uint8_t> flat = Cells<uint8_t>::FromElements({768}, live);
  const Cells<uint8_t> heads = flat.Reshaped({12, 64});
  EXPECT_EQ(heads.axes[0].num_classes(), 2);
  EXPECT_TRUE(heads.axes[1].is_whole());
  EXPECT_EQ(heads.Reshaped({768}).num_cells(), 2);
  EXPECT_EQ(heads.BroadcastTo({8, 12, 64}).num_cells(), 2);
}

TEST(CellsTest, OutsideOfAMap) {
  CellMap map = SliceMap(Cells<double>::FromElements({3}, std::vector<double>{4, 5, 6}), std::vector<int64_t>{0},
                         std::vector<int64_t>{3});
  map.source[1] = -1;
  EXPECT_EQ(Cells<double>::FromElements({3}, std::vector<double>{4, 5, 6}).Mapped(map, 9).Elements(),
            (std::vector<double>{4, 9, 6}));
}

TEST(CellsTest, Concatenated) {
  Rng rng(5);
  for (int trial = 0; trial < 200; ++trial) {
    Shape shape = AnyShape(rng, 1);
    if (shape.rank() == 0) continue;
    const int axis = static_cast<int>(Below(rng, shape.rank()));
    std::vector<Cells<uint8_t>> parts;
    std::vector<std::vector<uint8_t>> elements;
    std::vector<Shape> shapes;
    const int64_t total_parts = 1 + Below(rng, 3);
    for (int64_t p = 0; p < total_parts; ++p) {
      shape[axis] = Below(rng, 4);
      shapes.push_back(shape);
      elements.push_back(AnyElements<uint8_t>(rng, shape));
      parts.push_back(Cells<uint8_t>::FromElements(shape, elements.back()));
    }
    std::vector<const Cells<uint8_t>*> pointers;
    int64_t sum = 0;
    for (size_t p = 0; p < parts.size(); ++p) {
      pointers.push_back(&parts[p]);
      sum += shapes[p][axis];
    }
    Shape whole = shape;
    whole[axis] = sum;
    std::vector<uint8_t> expected;
    ForEachIndex(whole, [&](std::vector<int64_t> index) {
      size_t p = 0;
      int64_t& i = index[static_cast<size_t>(axis)];
      while (i >= shapes[p][axis]) i -= shapes[p++][axis];
      expected.push_back(elements[p][static_cast<size_t>(Flat(shapes[p], index))]);
    });
    ExpectIs(Concat<uint8_t>(pointers, axis), whole, expected);
  }
}

TEST(CellsTest, AttributesThereAndBack) {
  Random random(7);
  for (int trial = 0; trial < 150; ++trial) {
    const Shape shape = RandomShape(random, 1 + trial % 4, 1, trial % 4 == 3 ? 7 : 20);
    const Attribute attribute = RandomAttributeOfAnyKind(random, shape);
    const Cells<uint8_t> bits = BitCells(attribute);
    ExpectIs(bits, shape, attribute.Bits());
    EXPECT_EQ(bits.axes, bits.Coarsest().axes) << "not the coarsest";
    const Attribute back = AttributeOf(bits);
    EXPECT_EQ(back, attribute);
    EXPECT_EQ(AttributeOf(bits.Refined(CellGrid::Elements(shape).axes)), attribute);
    ExpectIs(CellsOf(shape, attribute.KeptBitmap()), shape, [&] {
      std::vector<uint8_t> kept = attribute.Bits();
      for (uint8_t& k : kept) k = k != 0;
      return kept;
    }());
  }
  for (const Shape& shape : {Shape(), Shape({0, 3})}) {
    EXPECT_EQ(AttributeOf(BitCells(Attribute::Dense(shape, 8))), Attribute::Dense(shape, 8));
  }
}

TEST(CellsTest, AViewOfAnotherShape) {
  const Attribute rows = Attribute::FromKept(
      {4, 6}, std::vector<uint8_t>{0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1}, 8);
  for (const Shape& shape : {Shape({4, 2, 3}), Shape({24}), Shape({2, 12}), Shape({3, 8})}) {
    const Attribute moved = rows.Reshaped(shape);
    ExpectIs(BitCells(moved), shape, moved.Bits());
  }
}

// Structured attributes come back as small as they were.
TEST(CellsTest, AttributeOfIsSmall) {
  const Shape shape = {4096, 4096};
  Bitmap cells(128 * 128);
  Rng rng(8);
  for (int64_t i = 0; i < cells.size(); ++i) cells.Set(i, Below(rng, 10) == 0);
  const Attribute blocks = Attribute::FromGrid(shape, {32, 32}, cells, 32);
  EXPECT_LT(blocks.byte_size(), 64 * 1024);
  EXPECT_LE(AttributeOf(BitCells(blocks)).byte_size(), blocks.byte_size());
  Bitmap rows(4096);
  for (int64_t i = 0; i < rows.size(); ++i) rows.Set(i, Below(rng, 3) == 0);
  const Attribute both =
      Meet(Attribute::FromGrid(shape, {1, 4096}, rows, 8), Attribute::FromGrid(shape, {4096, 1}, rows, 8));
  EXPECT_LE(AttributeOf(BitCells(both)).byte_size(), both.byte_size());
  EXPECT_EQ(AttributeOf(BitCells(both)).num_kept(), both.num_kept());
}

double Milliseconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

// The cost is that of cells, not of elements: half a gigabyte of bits that nobody expands. The allowance is some twenty
// times what it takes, so that a loaded machine passes and an expansion fails.
TEST(CellsTest, AHugeTensorInBlocksIsCheap) {
  Bitmap cells(512 * 512);
  Rng rng(9);
  for (int64_t i = 0; i < cells.size(); ++i) cells.Set(i, Below(rng, 10) == 0);
  const Attribute blocks = Attribute::FromGrid({16384, 16384}, {32, 32}, cells, 32);
  Cells<uint8_t> bits;
  const double ms = Milliseconds([&] { bits = BitCells(blocks); });
  RecordProperty("bit_cells_ms", std::to_string(ms));
  EXPECT_EQ(bits.num_cells(), 512 * 512);
  EXPECT_EQ(bits.Count(32), blocks.num_kept());
  EXPECT_LT(ms, 200);
  const double back_ms = Milliseconds([&] { EXPECT_EQ(AttributeOf(bits).num_kept(), blocks.num_kept()); });
  EXPECT_LT(back_ms, 200);
  printf("16384x16384 in blocks: BitCells %.2f ms, AttributeOf %.2f ms\n", ms, back_ms);
}

TEST(CellsTest, ScatteredElementsAreLinear) {
  Rng rng(10);
  std::vector<uint8_t> kept(3072 * 768);
  for (uint8_t& k : kept) k = Below(rng, 10) == 0;
  Cells<uint8_t> cells;
  const double ms = Milliseconds([&] { cells = Cells<uint8_t>::FromElements({3072, 768}, kept); });
  EXPECT_EQ(cells.num_cells(), 3072 * 768);
  EXPECT_LT(ms, 400);
  const Bitmap set = Bitmap::FromBytes(kept);
  const double set_ms = Milliseconds([&] { EXPECT_EQ(CellsOf({3072, 768}, set).num_cells(), 3072 * 768); });
  printf("3072x768 scattered: FromElements %.2f ms, CellsOf %.2f ms\n", ms, set_ms);
}

}  // namespace
}  // namespace tessera
