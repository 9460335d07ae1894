// Products with weights of which each four keep two, on the host's stand-ins for cards and on the card if there is one,
// against the interpreter: every way on every type, groups that keep fewer, elements beside them, sizes that tiles and
// groups do not divide, epilogues; what is left to others.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "codegen/emit/gpu/testing/gpu_levels.h"
#include "codegen/emit/gpu/testing/gpu_products.h"
#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "graph/passes/pipeline.h"
#include "tesa/attribute.h"
#include "tesa/pattern.h"
#include "tesa/random.h"

namespace tessera {
namespace {

struct Options {
  DType x = DType::kF16, w = DType::kF16;
  int n = 2, m = 4;
  double beside = 0;  // of all elements, kept as well
  bool transposed = false, epilogue = false;
};

struct Case {
  Graph graph;
  std::vector<Tensor> inputs;
};

// `rows` of W, the result's features.
Case Make(int64_t rows, int64_t depth, int64_t columns, const Options& o) {
  Random random(static_cast<uint64_t>(rows * 1000 + columns));
  GraphBuilder builder("two of four");
  Case made;
  made.inputs = {RandomOperand(random, o.x, {columns, depth})};
  const ValueId x = builder.Input("x", o.x, {columns, depth});
  Bitmap kept = RandomMask(random, {rows, depth}, Pattern::Nm(o.n, o.m, 1), 0.5);
  if (o.beside > 0) kept |= RandomMask(random, {rows, depth}, Pattern::Scattered(), o.beside);
  const Shape shape = o.transposed ? Shape{rows, depth} : Shape{depth, rows};
  Bitmap as_it_lies(kept.size());
  for (int64_t at : kept.Positions()) {
    as_it_lies.Set(o.transposed ? at : at % depth * rows + at / depth, true);
  }
  const Attribute tesa = Attribute::FromKept(shape, as_it_lies, TypeInfo(o.w).bits);
  const ValueId w = builder.Constant("w", tesa.ApplyTo(RandomOperand(random, o.w, shape)));
  builder.SetTesa(w, tesa);
  ValueId y = builder.Matmul(x, w, false, o.transposed);
  if (o.epilogue) {
    const DType bias = IsFloat(o.x) ? o.x : DType::kI32;
    made.inputs.push_back(RandomOperand(random, bias, {rows}));
    y = builder.Relu(builder.Add(y, builder.Input("bias", bias, {rows})));
  }
  builder.Output(y);
  made.graph = Built(std::move(builder));
  if (o.epilogue) {
    const Status status = OptimizeForHost(made.graph);
    TES_CHECK(status.ok(), status);
  }
  return made;
}

std::vector<Way> WaysFor(const Graph& graph, const std::string& target, std::string* why) {
  StatusOr<Target> made = MakeTarget(target);
  TES_CHECK(made.ok(), made.status());
  made->whole_space = true;
  return WaysOf(EmitterNamed("gpu_two_of_four"), graph, graph.nodes[0], *made, why);
}

class GpuTwoOfFourTest : public testing::TestWithParam<std::string> {
 protected:
  // The ways whose number is a multiple of `every`.
  void Expect(int64_t rows, int64_t depth, int64_t columns, const Options& o, size_t every = 1) {
    const Case made = Make(rows, depth, columns, o);
    std::string why;
    const std::vector<Way> ways = WaysFor(made.graph, GetParam(), &why);
    ASSERT_FALSE(ways.empty()) << why << " " << rows << "x" << depth << " " << Name(o.x);
    for (size_t k = 0; k < ways.size(); k += every) {
      const std::string& way = ways[k].name;
      rests_ += way.find("scattered") != std::string::npos ? 1 : 0;
      splits_ += way.find("split") != std::string::npos ? 1 : 0;
      EXPECT_TRUE(CompiledAgrees(made.graph, made.inputs, GetParam(),
                                 {.threads = 1, .only_emitter = "gpu_two_of_four:" + way}, ProductBound(o.x)))
          << way << " " << Name(o.x) << " " << rows << "x" << depth << "x" << columns;
      if (HasFailure()) return;
    }
  }
  int rests_ = 0, splits_ = 0;  // ways with a scattered rest and with shares of the depth, so far
};

constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16, kI8 = DType::kI8, kU8 = DType::kU8;

TEST_P(GpuTwoOfFourTest, EveryTilingOfEveryType) {
  Expect(260, 300, 131, {}, 2);
  Expect(150, 264, 67, {.x = kBF16, .w = kBF16, .transposed = true}, 2);
  Expect(140, 520, 70, {.x = kU8, .w = kI8}, 2);
  Expect(130, 516, 66, {.x = kI8, .w = kI8, .transposed = true}, 2);
  EXPECT_GT(splits_, 0);
}

TEST_P(GpuTwoOfFourTest, OddSizes) {
  for (const int64_t columns : {9, 33}) {
    Expect(77, 203, columns, {.epilogue = true}, 2);
    Expect(33, 130, columns, {.x = kU8, .w = kI8, .epilogue = true}, 2);
  }
  Expect(1, 3, 8, {});
  Expect(5, 129, 8, {.x = kI8, .w = kI8});
}

TEST_P(GpuTwoOfFourTest, GroupsThatKeepFewer) {
  Expect(64, 128, 32, {.n = 1, .m = 4}, 2);
  Expect(64, 128, 32, {.n = 1, .m = 2}, 2);
  Expect(64, 256, 32, {.x = kU8, .w = kI8, .n = 1, .m = 8}, 2);
}

TEST_P(GpuTwoOfFourTest, ElementsBesideThem) {
  Expect(122, 510, 70, {.beside = 0.02, .epilogue = true}, 2);
  Expect(96, 256, 40, {.x = kU8, .w = kI8, .beside = 0.02, .transposed = true}, 2);
  EXPECT_GT(rests_, 0);
}

std::vector<std::string> Levels() {
  std::vector<std::string> levels = GpuLevels("");
  levels.push_back("simt:nvptx:sm_90a:random");
  return levels;
}
INSTANTIATE_TEST_SUITE_P(Levels, GpuTwoOfFourTest, testing::ValuesIn(Levels()), GpuLevelName);

TEST(GpuTwoOfFourChoiceTest, OthersAreLeft) {
  const struct {
    Options options;
    const char *target, *why;
  } kCases[] = {{{}, "cuda:sm_75", "no mma.sp"},
                {{}, "hip:gfx942", "no mma.sp"},
                {{.x = kF32, .w = kF32}, "cuda:sm_80", "f32"},
                {{.n = 3}, "cuda:sm_80", "beyond two"}};
  for (const auto& c : kCases) {
    std::string why;
    EXPECT_TRUE(WaysFor(Make(64, 128, 32, c.options).graph, c.target, &why).empty()) << c.target;
    EXPECT_NE(std::string::npos, why.find(c.why)) << why;
  }
}

// Where products bind, they beat dense ones; on sm_90a warpgroups' are as quick, and dense ones are taken.
TEST(GpuTwoOfFourChoiceTest, ByExpectedTime) {
  const Graph graph = Make(4096, 4096, 4096, {}).graph;
  const StatusOr<Target> target = MakeTarget("cuda:sm_80");
  ASSERT_TRUE(target.ok());
  std::string report;
  EXPECT_EQ("gpu_two_of_four", SelectEmitter(graph, graph.nodes[0], *target, "", &report).emitter->name) << report;
}

}  // namespace
}  // namespace tessera
