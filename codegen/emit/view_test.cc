// What becomes a view costs no step, and what cannot become one is still right.
#include "codegen/emit/view.h"

#include <gtest/gtest.h>

#include <random>

#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"

namespace tessera {
namespace {

// Runs on every level and returns the number of steps.
int CheckedSteps(const Graph& graph) {
  const std::vector<Tensor> inputs = RandomInputs(graph, 5);
  for (const std::string& level : RunnableLevels()) EXPECT_TRUE(CompiledAgrees(graph, inputs, level, {}, 1e-5));
  CompileResult result;
  const auto outputs = RunCompiled(graph, inputs, "host", {}, &result);
  EXPECT_TRUE(outputs.ok()) << outputs.status();
  return outputs.ok() ? static_cast<int>(result.program->steps.size()) : -1;
}

TEST(ViewTest, ReshapedOutputIsComputedInPlace) {
  GraphBuilder b("reshaped");
  const ValueId x = b.Input("x", DType::kF32, {4, 6});
  b.Output(b.Reshape(b.Reshape(b.Relu(x), {2, 12}), {24}));
  EXPECT_EQ(CheckedSteps(Built(std::move(b))), 1);
}

TEST(ViewTest, ReshapeOfAnInputOrOfAnotherOutputIsCopied) {
  GraphBuilder b("copies");
  const ValueId x = b.Input("x", DType::kF32, {4, 6});
  const ValueId y = b.Relu(x);
  b.Output(b.Reshape(x, {24}));
  b.Output(y);
  b.Output(b.Reshape(y, {6, 4}));
  b.Output(b.Reshape(y, {3, 8}));
  EXPECT_EQ(CheckedSteps(Built(std::move(b))), 4);
}

TEST(ViewTest, OutermostSlicesAreParts) {
  GraphBuilder b("slices");
  const ValueId x = b.Input("x", DType::kF32, {1, 9, 5});
  const ValueId y = b.Neg(x);
  b.Output(b.Add(b.Slice(y, {0, 2, 0}, {1, 3, 5}), b.Slice(x, {0, 6, 0}, {1, 3, 5})));
  b.Output(b.Relu(b.Slice(y, {0, 7, 1}, {1, 1, 3})));  // one row: a part of it is a run too
  EXPECT_EQ(CheckedSteps(Built(std::move(b))), 3);
}

TEST(ViewTest, OtherSlicesMove) {
  GraphBuilder b("moves");
  const ValueId x = b.Input("x", DType::kF32, {4, 5});
  const ValueId y = b.Neg(x);
  b.Output(b.Relu(b.Slice(y, {0, 1}, {4, 3})));
  b.Output(b.Relu(b.Slice(y, {3, 0}, {4, 5}, {-1, 1})));
  b.Output(b.Relu(b.Slice(y, {0, 0}, {2, 5}, {2, 1})));
  EXPECT_EQ(CheckedSteps(Built(std::move(b))), 7);
}

TEST(ViewTest, OperandsOfAConcatenationAreWrittenWhereTheyBelong) {
  GraphBuilder b("concat");
  const ValueId x = b.Input("x", DType::kF32, {1, 3, 7});
  const ValueId inner = b.Concat({b.Neg(x), b.Exp(x)}, 1);
  const ValueId whole = b.Concat({b.Relu(x), b.Reshape(inner, {1, 6, 7}), b.Abs(x)}, 1);
  b.Output(b.Sqrt(b.Abs(whole)));
  EXPECT_EQ(CheckedSteps(Built(std::move(b))), 6);
}

TEST(ViewTest, InputsConstantsAndRepetitionsAreCopiedIntoAConcatenation) {
  GraphBuilder b("mixed");
  const ValueId x = b.Input("x", DType::kF32, {2, 3});
  const ValueId y = b.Neg(x);
  Tensor constant(DType::kF32, {1, 3});
  for (int k = 0; k < 3; ++k) constant.Set(k, k + 0.5);
  const ValueId c = b.Constant("c", constant);
  b.Output(b.Concat({x, y, c, y, b.Slice(y, {1, 0}, {1, 3})}, 0));
  // neg; copies of x, c, the second y and the slice.
  EXPECT_EQ(CheckedSteps(Built(std::move(b))), 5);
}

TEST(ViewTest, InnerConcatenationsMove) {
  GraphBuilder b("inner");
  const ValueId x = b.Input("x", DType::kF32, {2, 3});
  b.Output(b.Concat({b.Neg(x), b.Exp(x)}, 1));
  EXPECT_EQ(CheckedSteps(Built(std::move(b))), 4);
}

// Random chains of all that may become a view, with arithmetic between, so that places, lifetimes and in-place results
// meet in many ways.
TEST(ViewTest, RandomChains) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    std::mt19937_64 random(seed);
    const auto pick = [&](int64_t count) { return static_cast<int64_t>(random() % static_cast<uint64_t>(count)); };
    GraphBuilder b("chain");
    std::vector<ValueId> values = {b.Input("x", DType::kF32, {4, 3, 2}), b.Input("y", DType::kF32, {2, 3, 2})};
    for (int step = 0; step < 12; ++step) {
      const ValueId v = values[pick(static_cast<int64_t>(values.size()))];
      const std::vector<int64_t> dims = b.ShapeOf(v).dims();
      switch (pick(6)) {
        case 0: values.push_back(b.Neg(v)); break;
        case 1: values.push_back(b.Relu(v)); break;
        case 2: values.push_back(b.Reshape(b.Reshape(v, {b.ShapeOf(v).num_elements()}), dims)); break;
        case 3: {
          std::vector<int64_t> starts(3, 0), sizes = dims;
          starts[0] = pick(dims[0]);
          sizes[0] = 1 + pick(dims[0] - starts[0]);
          values.push_back(b.Slice(v, starts, sizes));
          break;
        }
        case 4: {
          if (dims[0] > 20) break;
          values.push_back(b.Concat({v, values[pick(static_cast<int64_t>(values.size()))], values.back()}, 0));
          break;
        }
        default: values.push_back(b.Add(v, v)); break;
      }
    }
    b.Output(b.Abs(values.back()));
    b.Output(b.Neg(values[values.size() / 2]));
    const ValueId last = values[2 + pick(static_cast<int64_t>(values.size()) - 2)];
    b.Output(b.Reshape(last, {b.ShapeOf(last).num_elements()}));
    const Graph graph = Built(std::move(b));
    EXPECT_TRUE(CompiledAgrees(graph, RandomInputs(graph, seed), "host", {}, 1e-5)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace tessera
