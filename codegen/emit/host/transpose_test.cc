// Transpositions of random shapes, orders and types, on every processor level, against the interpreter: exact, because
// elements only move. Epilogues of every kind: none, without operands, with operands along rows, columns and both.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"

namespace tessera {
namespace {

enum class After { kNothing, kCast, kColumns, kRows, kEach };

void Check(DType type, const std::vector<int64_t>& shape, const std::vector<int64_t>& perm, After after) {
  GraphBuilder b("transpose");
  const ValueId x = b.Input("x", type, Shape(shape));
  ValueId y = b.Transpose(x, perm);
  if (after != After::kNothing) {
    std::vector<int64_t> operand(shape.size(), 1);
    for (size_t d = 0; d < perm.size(); ++d) {
      const bool last = d + 1 == perm.size();
      if (after == After::kEach || (after == After::kColumns && last) || (after == After::kRows && !last)) {
        operand[d] = shape[perm[d]];
      }
    }
    BodyBuilder body;
    const Scalar value = body.Input(type);
    if (after == After::kCast) {
      y = b.WithEpilogue(y, body.Finish(body.Cast(value + value, DType::kU8)), {}, DType::kU8);
    } else {
      const Scalar other = body.Input(type);
      y = b.WithEpilogue(y, body.Finish(value + other), {b.Input("other", type, Shape(operand))}, type);
    }
  }
  b.Output(y);
  StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const std::vector<Tensor> inputs = RandomInputs(*graph, 3);
  for (const std::string& level : RunnableLevels()) {
    ASSERT_TRUE(EveryNodeTakes(*graph, level, "transpose"));
    ASSERT_TRUE(
        CompiledAgrees(*graph, inputs, level, {.only_emitter = "transpose"}, after == After::kNothing ? 0 : 1e-6))
        << Name(type) << " " << Shape(shape) << " by " << testing::PrintToString(perm) << " then "
        << static_cast<int>(after);
  }
}

TEST(TransposeTest, RandomShapesOrdersAndTypes) {
  std::mt19937_64 random(11);
  const DType types[] = {DType::kF32, DType::kU8, DType::kI64, DType::kBF16, DType::kI16, DType::kBool};
  for (int round = 0; round < 60; ++round) {
    const int rank = 2 + static_cast<int>(random() % 3);
    std::vector<int64_t> shape, perm(rank);
    const int64_t extents[] = {1, 2, 3, 4, 5, 8, 16, 17, 31, 33, 48};
    for (int d = 0; d < rank; ++d) shape.push_back(extents[random() % (rank > 3 ? 8 : 11)]);
    std::iota(perm.begin(), perm.end(), 0);
    std::shuffle(perm.begin(), perm.end(), random);
    Check(types[round % 6], shape, perm, After::kNothing);
  }
}

TEST(TransposeTest, ShapesOfNetworks) {
  for (DType type : {DType::kF32, DType::kU8, DType::kF16}) {
    Check(type, {1, 3, 30, 37}, {0, 2, 3, 1}, After::kNothing);  // pixels from planes
    Check(type, {1, 30, 37, 3}, {0, 3, 1, 2}, After::kNothing);
    Check(type, {2, 4, 9, 16}, {0, 2, 3, 1}, After::kNothing);
    Check(type, {2, 40, 7, 7}, {0, 2, 3, 1}, After::kNothing);
    Check(type, {1, 20, 3, 32}, {0, 2, 1, 3}, After::kNothing);  // heads before positions
    Check(type, {1, 20, 3, 9}, {0, 2, 1, 3}, After::kNothing);
  }
}

TEST(TransposeTest, Epilogues) {
  for (const After after : {After::kCast, After::kColumns, After::kRows, After::kEach}) {
    Check(DType::kF32, {1, 3, 20, 19}, {0, 2, 3, 1}, after);
    Check(DType::kF32, {2, 19, 20, 3}, {0, 3, 1, 2}, after);
    Check(DType::kF32, {33, 50}, {1, 0}, after);
    Check(DType::kF32, {4, 7, 5, 18}, {2, 0, 1, 3}, after);
    Check(DType::kF32, {7, 1, 18}, {2, 0, 1}, after);
  }
}

}  // namespace
}  // namespace tessera
