#include "tesa/attribute_algebra.h"

#include <vector>

#include "gtest/gtest.h"
#include "tesa/random.h"
#include "tesa/testing/random.h"

namespace tessera {
namespace {

TEST(AttributeAlgebra, BroadcastIsThatOfElements) {
  Random random(1);
  for (int round = 0; round < 150; ++round) {
    Shape shape = RandomShape(random, static_cast<int>(random.Int(0, 3)), 1, 9);
    Shape to = shape;
    for (int d = 0; d < shape.rank(); ++d) {
      if (random.Chance(0.4)) shape[d] = 1;
    }
    std::vector<int64_t> extents(to.begin(), to.end());
    if (random.Chance(0.5)) extents.insert(extents.begin(), random.Int(1, 4));
    to = Shape(extents);
    const Attribute a = RandomAttributeOfAnyKind(random, shape);
    const Attribute wide = BroadcastTo(a, to);
    const int lead = to.rank() - shape.rank();
    const std::vector<int64_t> strides = shape.Strides();
    std::vector<uint8_t> expected;
    ForEachIndex(to, [&](const std::vector<int64_t>& index) {
      int64_t i = 0;
      for (int d = 0; d < shape.rank(); ++d) i += shape[d] == 1 ? 0 : index[d + lead] * strides[d];
      expected.push_back(static_cast<uint8_t>(a.bits(i)));
    });
    EXPECT_EQ(wide.shape(), to);
    EXPECT_EQ(wide.Bits(), expected);
  }
}

TEST(AttributeAlgebra, ConcatIsThatOfElements) {
  Random random(2);
  for (int round = 0; round < 150; ++round) {
    Shape shape = RandomShape(random, static_cast<int>(random.Int(1, 4)), 1, 7);
    const int axis = static_cast<int>(random.Int(0, shape.rank() - 1));
    std::vector<Attribute> parts;
    int64_t total = 0;
    for (int64_t p = random.Int(1, 4); p > 0; --p) {
      shape[axis] = random.Int(1, 6);
      total += shape[axis];
      parts.push_back(RandomAttributeOfAnyKind(random, shape));
    }
    std::vector<const Attribute*> pointers;
    for (const Attribute& part : parts) pointers.push_back(&part);
    const Attribute whole = Concat(pointers, axis);
    Shape to = shape;
    to[axis] = total;
    ASSERT_EQ(whole.shape(), to);
    std::vector<uint8_t> expected;
    ForEachIndex(to, [&](std::vector<int64_t> index) {
      size_t p = 0;
      while (index[axis] >= parts[p].shape()[axis]) index[axis] -= parts[p++].shape()[axis];
      const std::vector<int64_t> strides = parts[p].shape().Strides();
      int64_t i = 0;
      for (int d = 0; d < to.rank(); ++d) i += index[d] * strides[d];
      expected.push_back(static_cast<uint8_t>(parts[p].bits(i)));
    });
    EXPECT_EQ(whole.Bits(), expected);
  }
}

// Nothing of this size may be expanded: the elements would take gigabytes, the forms take kilobytes.
TEST(AttributeAlgebra, CompressedFormsStayCompressed) {
  Random random(3);
  Bitmap cells(512 * 512), columns(16384);
  for (int64_t c = 0; c < cells.size(); ++c) cells.Set(c, random.Chance(0.1));
  for (int64_t c = 0; c < columns.size(); ++c) columns.Set(c, random.Chance(0.5));
  const Attribute blocks = Attribute::FromGrid({16384, 16384}, {32, 32}, cells, 8);
  const Attribute stacked = Concat({&blocks, &blocks}, 0);
  EXPECT_EQ(stacked.num_kept(), 2 * blocks.num_kept());
  EXPECT_LT(stacked.byte_size(), 3 * blocks.byte_size());
  const Attribute row = Attribute::FromGrid({1, 16384}, {1, 1}, columns, 4);
  const Attribute wide = BroadcastTo(row, {16384, 16384});
  EXPECT_EQ(wide.num_kept(), 16384 * columns.Count());
  EXPECT_LT(wide.byte_size(), 4096);
  // A scattered matrix over a batch: one grid, as large as the matrix.
  const Attribute scattered = RandomAttribute(random, {1, 512, 512}, Pattern::Scattered(), 0.3, 8);
  EXPECT_LT(BroadcastTo(scattered, {64, 512, 512}).byte_size(), 2 * scattered.byte_size());
}

}  // namespace
}  // namespace tessera
