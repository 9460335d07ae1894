// Products with few columns against the interpreter: every way of the emitter on random patterns and odd sizes, f32 and
// integers (which are exact), each place of W, epilogues of every shape, and infinities where weights are absent, on
// each level of processors that this machine can run.
#include "codegen/emit/host/gemv.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "tesa/random.h"

namespace tessera {
namespace {

// RunnableLevels, and AVX-512 without VNNI and VBMI.
std::vector<std::string> Levels() {
  std::vector<std::string> levels = RunnableLevels();
  const StatusOr<Target> host = MakeTarget("host");
  const bool listed = std::find(levels.begin(), levels.end(), "host:x86-64-v4") != levels.end();
  if (host.ok() && host->has_avx512 && !listed) levels.push_back("host:x86-64-v4");
  return levels;
}

struct Case {
  int64_t rows = 1, depth = 1, columns = 1;
  bool integers = false;
  int64_t largest = 127;  // of i8 weights
  Pattern pattern = Pattern::Scattered();
  double kept = 1;
  bool by_rows = true;   // W lies [rows, depth]
  bool w_first = false;  // W · x; one column
  bool epilogue = false;
};

// A graph of one matmul, and its inputs.
struct OneProduct {
  StatusOr<Graph> graph = Error(ErrorCode::kInternal, "not built");
  std::vector<Tensor> inputs;

  OneProduct(const Case& c, Random& random) {
    GraphBuilder b("gemv");
    const DType w_type = c.integers ? DType::kI8 : DType::kF32, x_type = c.integers ? DType::kU8 : DType::kF32;
    const Shape w_shape = c.by_rows ? Shape{c.rows, c.depth} : Shape{c.depth, c.rows};
    const Shape x_shape = c.w_first ? Shape{c.depth, 1} : Shape{c.columns, c.depth};
    Tensor weights = c.integers ? RandomTensorIn(random, {w_type, w_shape}, -c.largest - 1, c.largest)
                                : RandomTensor(random, {w_type, w_shape});
    std::optional<Attribute> tesa;
    if (c.kept < 1 || c.pattern.kind != PatternKind::kScattered) {
      // Patterns are those of [rows, depth].
      tesa = RandomAttribute(random, {c.rows, c.depth}, c.pattern, c.kept, c.integers ? 8 : 32);
      const int turn[] = {1, 0};
      if (!c.by_rows) tesa = tesa->Transposed(turn);
      weights = tesa->ApplyTo(weights);
    }
    const ValueId w = b.Constant("w", weights);
    if (tesa) b.SetTesa(w, *tesa);
    inputs.push_back(c.integers ? RandomTensorIn(random, {x_type, x_shape}, 0, 255)
                                : RandomTensor(random, {x_type, x_shape}));
    const ValueId x = b.Input("x", x_type, x_shape);
    ValueId y = c.w_first ? b.Matmul(w, x, !c.by_rows, false) : b.Matmul(x, w, false, c.by_rows);
    if (c.epilogue) y = WithEpilogue(c, y, b, random);
    b.Output(y);
    graph = std::move(b).Build();
  }

  // Requantised, or relu(y + bias) + residual.
  ValueId WithEpilogue(const Case& c, ValueId y, GraphBuilder& b, Random& random) {
    const Shape bias = c.w_first ? Shape{c.rows, 1} : Shape{c.rows};
    BodyBuilder body;
    if (c.integers) {
      inputs.push_back(RandomTensorIn(random, {DType::kI32, bias}, -1000, 1000));
      const Scalar sum = body.Input(DType::kI32) + body.Input(DType::kI32);
      const Scalar real = body.Narrow(body.Cast(sum, DType::kF32) * 0.0078125, DType::kF32);
      const Scalar clamped = Min(Max(RoundEven(real) + 10.0, 0.0), 255.0);
      return b.WithEpilogue(y, body.Finish(body.Cast(clamped, DType::kU8)), {b.Input("bias", DType::kI32, bias)},
                            DType::kU8);
    }
    const Shape out = b.ShapeOf(y);
    inputs.push_back(RandomTensor(random, {DType::kF32, bias}));
    inputs.push_back(RandomTensor(random, {DType::kF32, out}));
    const Scalar sum = body.Input(DType::kF32) + body.Input(DType::kF32);
    const Scalar result = Max(sum, 0.0) + body.Input(DType::kF32);
    return b.WithEpilogue(y, body.Finish(result),
                          {b.Input("bias", DType::kF32, bias), b.Input("residual", DType::kF32, out)}, DType::kF32);
  }
};

class GemvTest : public testing::TestWithParam<std::string> {
 protected:
  // Every way that the emitter knows for the case.
  void Expect(const Case& c, Random& random, double bound = 1e-5) {
    OneProduct product(c, random);
    ASSERT_TRUE(product.graph.ok()) << product.graph.status();
    for (const std::string& way : WaysFor(*product.graph)) {
      SCOPED_TRACE(internal::Join(GetParam(), " ", way, " ", c.rows, "x", c.depth, "x", c.columns, " kept ", c.kept,
                                  c.integers ? " int8" : " f32", c.by_rows ? "" : " W by columns",
                                  c.w_first ? " W first" : "", c.epilogue ? " epilogue" : ""));
      used_.insert(way);
      EXPECT_TRUE(CompiledAgrees(*product.graph, product.inputs, GetParam(), {.threads = 1, .only_emitter = way},
                                 c.integers ? 0 : bound));
    }
  }

  std::vector<std::string> WaysFor(const Graph& graph) {
    const StatusOr<Target> target = MakeTarget(GetParam());
    TES_CHECK(target.ok(), target.status());
    std::vector<std::string> names;
    for (const Emitter& emitter : AllEmitters()) {
      std::string why;
      if (emitter.name != "gemv") continue;
      for (const Way& way : WaysOf(emitter, graph, graph.nodes[0], *target, &why)) {
        EXPECT_GT(way.us, 0);
        names.push_back("gemv:" + way.name);
      }
      EXPECT_FALSE(names.empty()) << why;
    }
    return names;
  }

  std::set<std::string> used_;
};

TEST_P(GemvTest, RandomPatternsOfOddSizes) {
  Random random(1);
  for (int trial = 0; trial < 16; ++trial) {
    Case c = {.rows = random.Int(1, 90), .depth = random.Int(1, 900), .columns = random.Int(1, 7)};
    if (trial % 3 == 0) c.columns = 1;
    c.integers = trial % 2 == 0;
    c.largest = trial % 4 == 0 ? 7 : 127;
    c.kept = random.Uniform(0.02, 0.8);
    c.by_rows = random.Chance(0.5);
    c.w_first = c.columns == 1 && random.Chance(0.5);
    c.epilogue = random.Chance(0.5);
    Expect(c, random);
  }
  const StatusOr<Target> target = MakeTarget(GetParam());
  std::set<std::string> expected = {"gemv:dense", "gemv:dense4", "gemv:columns", "gemv:columns4"};
  if (target->has_avx512) expected.insert({"gemv:scattered", "gemv:quads", "gemv:quads4"});
  if (target->has_vbmi) expected.insert("gemv:scattered4");
  EXPECT_EQ(used_, expected);
}

TEST_P(GemvTest, PatternsWithStructure) {
  Random random(2);
  for (const bool integers : {false, true}) {
    for (const Pattern& pattern : {Pattern::Block(16, 1), Pattern::Block(1, 4), Pattern::Block(16, 16),
                                   Pattern::Block(4, 1), Pattern::Slices(0), Pattern::Nm(2, 4, 1)}) {
      SCOPED_TRACE(pattern.ToString());
      Case c = {.rows = 100, .depth = 260, .columns = 1 + random.Int(0, 1), .integers = integers};
      c.pattern = pattern;
      c.kept = 0.4;
      Expect(c, random);
    }
  }
  EXPECT_TRUE(used_.count("gemv:columns"));
}

TEST_P(GemvTest, ExtremesOfIntegersAreExact) {
  // The largest sums of 4-bit weights, sixteenfold, still fit.
  for (const int64_t value : {-8, 7, -128, 127}) {
    GraphBuilder b("extremes");
    const int64_t depth = 30011, rows = 5;
    const ValueId x = b.Input("x", DType::kU8, {1, depth});
    b.Output(
        b.Matmul(x, b.Constant("w", Tensor::Full(DType::kI8, {rows, depth}, static_cast<double>(value))), false, true));
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    const std::vector<Tensor> inputs = {Tensor::Full(DType::kU8, {1, depth}, 255)};
    for (const std::string& way : WaysFor(*graph)) {
      SCOPED_TRACE(internal::Join(way, " ", value));
      EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = way}, 0));
    }
  }
}

TEST_P(GemvTest, AbsentWeightsMeetInfinities) {
  Random random(3);
  Case c = {.rows = 37, .depth = 333, .columns = 2};
  c.kept = 0.2;
  OneProduct product(c, random);
  ASSERT_TRUE(product.graph.ok()) << product.graph.status();
  // Columns of W that nothing keeps.
  Graph& graph = *product.graph;
  Value& w = graph[graph.FindValue("w")];
  Bitmap kept = w.tesa->KeptBitmap();
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t k = 0; k < c.depth; k += 7) kept.Set(r * c.depth + k, false);
  }
  w.tesa = Attribute::FromKept(w.type.shape, kept, 32);
  w.constant = w.tesa->ApplyTo(w.constant);
  std::vector<Tensor> odd = product.inputs;
  for (int64_t m = 0; m < c.columns; ++m) {
    for (int64_t k = 0; k < c.depth; k += 7) {
      odd[0].Set(m * c.depth + k,
                 k % 2 == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN());
    }
  }
  for (const std::string& way : WaysFor(graph)) {
    if (way == "gemv:dense") continue;  // multiplies zeros, as dense kernels do
    SCOPED_TRACE(way);
    const CompileOptions options = {.threads = 1, .only_emitter = way};
    const StatusOr<std::vector<Tensor>> expected = RunCompiled(graph, product.inputs, GetParam(), options);
    const StatusOr<std::vector<Tensor>> found = RunCompiled(graph, odd, GetParam(), options);
    ASSERT_TRUE(expected.ok() && found.ok());
    EXPECT_EQ((*found)[0], (*expected)[0]);
  }
}

TEST_P(GemvTest, ConvolutionsOfFewPixels) {
  Random random(4);
  for (const int64_t size : {1, 2}) {
    GraphBuilder b("conv");
    const ValueId x = b.Input("x", DType::kF32, {1, size, size, 96});
    const Attribute tesa = RandomAttribute(random, {50, 96, 1, 1}, Pattern::Scattered(), 0.2, 32);
    const ValueId w = b.Constant("w", tesa.ApplyTo(RandomTensor(random, {DType::kF32, {50, 96, 1, 1}})));
    b.SetTesa(w, tesa);
    b.Output(b.Conv(x, w, {.layout = "nhwc"}));
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    for (const std::string& way : WaysFor(*graph)) {
      EXPECT_TRUE(
          CompiledAgrees(*graph, RandomInputs(*graph, 5), GetParam(), {.threads = 1, .only_emitter = way}, 1e-5))
          << way;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, GemvTest, testing::ValuesIn(Levels()),
                         [](const auto& info) { return "Level" + std::to_string(info.index); });

TEST(GemvChoiceTest, FewBytesWin) {
  const StatusOr<Target> target = MakeTarget("host:znver4");
  ASSERT_TRUE(target.ok());
  Random random(6);
  const auto choice = [&](const Case& c) {
    const OneProduct product(c, random);
    TES_CHECK(product.graph.ok(), product.graph.status());
    return SelectEmitter(*product.graph, product.graph->nodes[0], *target, "", nullptr).ToString();
  };
  EXPECT_EQ(choice({.rows = 512, .depth = 512, .integers = true}), "gemv:dense");
  EXPECT_EQ(choice({.rows = 512, .depth = 512, .integers = true, .largest = 7}), "gemv:dense4");
  EXPECT_EQ(choice({.rows = 512, .depth = 512, .integers = true, .kept = 0.1}), "gemv:scattered");
  EXPECT_EQ(choice({.rows = 512, .depth = 512, .integers = true, .pattern = Pattern::Block(1, 4), .kept = 0.1}),
            "gemv:quads");
  EXPECT_EQ(choice({.rows = 512, .depth = 512, .integers = true, .pattern = Pattern::Block(16, 16), .kept = 0.1}),
            "gemv:columns");
  EXPECT_EQ(choice({.rows = 512, .depth = 512, .kept = 0.1}), "gemv:scattered");
  EXPECT_EQ(choice({.rows = 512, .depth = 512, .pattern = Pattern::Block(16, 1), .kept = 0.1}), "gemv:columns");
  // More columns than a few are others' matter.
  EXPECT_NE(choice({.rows = 512, .depth = 512, .columns = 8, .kept = 0.1}).substr(0, 4), "gemv");
}

}  // namespace
}  // namespace tessera
