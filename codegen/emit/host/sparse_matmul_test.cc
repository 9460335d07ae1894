// The sparse matrix emitters against the interpreter: both places of the weights, all transpositions, epilogues, odd
// sizes and small ones, patterns from nothing kept to everything, pointwise convolutions; on every processor level,
// with one thread and two, inputs and outputs between unreadable pages.
#include "codegen/emit/host/sparse_matmul.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <optional>

#include "codegen/emit/host/sparse_parts.h"
#include "codegen/emit/testing/kernel_runner.h"
#include "codegen/emit/testing/sparse_product.h"
#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"
#include "graph/interpreter.h"
#include "tesa/attribute.h"
#include "tesa/testing/close.h"

namespace tessera {
namespace {

struct Kind {
  std::string level, emitter;
  bool integers = false;
};

// host:x86-64-v4 is AVX-512 without VNNI.
std::vector<Kind> AllKinds() {
  std::vector<Kind> kinds;
  std::vector<std::string> levels = RunnableLevels();
  if (MakeTarget("host")->has_avx512) levels.push_back("host:x86-64-v4");
  for (const bool integers : {false, true}) {
    for (const std::string& level : levels) {
      if (level == "host:x86-64-v4" && !integers) continue;
      if (level != "host:x86-64") kinds.push_back({level, "sparse_stream", integers});
      kinds.push_back({level, "sparse_loop", integers});
    }
  }
  return kinds;
}

class SparseMatmulTest : public testing::TestWithParam<Kind> {
 protected:
  void Expect(const Graph& graph, std::span<const Tensor> inputs) {
    const auto& [level, emitter, integers] = GetParam();
    EXPECT_TRUE(EveryNodeTakes(graph, level, emitter));
    const StatusOr<std::vector<RefTensor>> expected = Interpret(graph, inputs);
    ASSERT_TRUE(expected.ok()) << expected.status();
    const auto found = RunGuarded(graph, inputs, level, emitter, {1, 2});
    ASSERT_TRUE(found.ok()) << found.status();
    for (const std::vector<Tensor>& outputs : *found) {
      for (size_t k = 0; k < outputs.size(); ++k) {
        EXPECT_TRUE(Close(outputs[k], (*expected)[k].ToTensor(), integers ? 0 : 1e-5))
            << (&outputs == &(*found)[0] ? 1 : 2) << " threads";
      }
    }
  }
  void Expect(OneProduct product) {
    const Graph graph = product.Build();
    Expect(graph, product.inputs);
  }
};

TEST_P(SparseMatmulTest, OddSizesAtLength) {
  Random random(1);
  OneProduct product({.rows = 333, .depth = 777, .columns = 1000, .density = 0.1, .integers = GetParam().integers},
                     random);
  product.BiasAndActivation(random, 1, 1);
  Expect(std::move(product));
}

TEST_P(SparseMatmulTest, TinySizes) {
  Random random(2);
  for (int repeat = 0; repeat < 12; ++repeat) {
    Case c = {.rows = random.Int(1, 5), .depth = random.Int(1, 5), .columns = random.Int(8, 12)};
    c.weights_left = random.Chance(0.5);
    c.density = 0.5;
    c.integers = GetParam().integers;
    SCOPED_TRACE(internal::Join(c.rows, "x", c.depth, "x", c.columns, c.weights_left));
    Expect(OneProduct(c, random));
  }
}

TEST_P(SparseMatmulTest, EveryOrderWithEveryEpilogue) {
  Random random(3);
  for (int order = 0; order < 8; ++order) {
    for (int bias = 0; bias < 4; ++bias) {
      for (int activation = 0; activation < 3; ++activation) {
        // Sparse coverage of the product: each pair of choices occurs.
        if ((order + bias + activation) % 3 != 0 && order % 4 != 0) continue;
        const Case c = {.rows = random.Int(1, 150),
                        .depth = random.Int(1, 100),
                        .columns = random.Int(8, 70),
                        .weights_left = (order & 1) != 0,
                        .transpose_w = (order & 2) != 0,
                        .transpose_x = (order & 4) != 0,
                        .density = 0.2,
                        .integers = GetParam().integers};
        SCOPED_TRACE(internal::Join("order ", order, " bias ", bias, " activation ", activation, ": ", c.rows, "x",
                                    c.depth, "x", c.columns));
        OneProduct product(c, random);
        product.BiasAndActivation(random, bias, activation);
        Expect(std::move(product));
      }
    }
  }
}

// Remainders of blocks, groups and squares; panels that are whole and not.
TEST_P(SparseMatmulTest, EveryRemainder) {
  Random random(4);
  for (const int64_t rows : {16, 31, 32, 33, 62, 63, 64, 112, 127, 128, 129, 256, 260}) {
    for (const int64_t columns : {16, 24, 48, 41}) {
      SCOPED_TRACE(internal::Join(rows, " rows, ", columns, " columns"));
      Expect(OneProduct(
          {.rows = rows, .depth = 40, .columns = columns, .density = 0.3, .integers = GetParam().integers}, random));
    }
  }
}

// The same of results of 8 bits, which take another way to memory.
TEST_P(SparseMatmulTest, EveryRemainderOfBytes) {
  if (!GetParam().integers) GTEST_SKIP() << "results of f32";
  Random random(14);
  int turn = 0;
  for (const int64_t rows : {1, 5, 16, 31, 48, 129, 250}) {
    for (const int64_t columns : {8, 16, 24, 41}) {
      ++turn;
      for (const int bias : {0, 1, 3}) {
        // One bias in turn: with each count of columns every one meets whole blocks of 16 rows, and rows left over.
        if (rows != 16 && (turn + bias) % 3 != bias / 3) continue;
        SCOPED_TRACE(internal::Join(rows, " rows, ", columns, " columns, bias ", bias));
        OneProduct product({.rows = rows, .depth = 40, .columns = columns, .density = 0.3, .integers = true}, random);
        product.BiasAndActivation(random, bias, 2);
        Expect(std::move(product));
      }
    }
  }
}

// More depth and more weights than short displacements reach, on both sides of each step.
TEST_P(SparseMatmulTest, LongStreams) {
  Random random(5);
  for (const int64_t depth : {127, 128, 129, 257, 2100}) {
    SCOPED_TRACE(depth);
    Expect(OneProduct({.rows = 40, .depth = depth, .columns = 20, .density = 0.6, .integers = GetParam().integers},
                      random));
  }
  // One element at the far end.
  Expect(OneProduct({.rows = 3, .depth = 5000, .columns = 17, .integers = GetParam().integers}, random,
                    [](int64_t at) { return at % 5000 == 4999; }));
}

// Panels that do not fit the first-level cache, met chunk by chunk.
TEST_P(SparseMatmulTest, DepthInChunks) {
  const auto& [level, emitter, integers] = GetParam();
  if (emitter != "sparse_stream") GTEST_SKIP() << "loops have one order";
  Random random(15);
  const int64_t units = integers ? 4 : 1;
  for (const int64_t depth : {450 * units, 777 * units + 1, 2100 * units - 1}) {
    for (const double density : {0.3, 0.002}) {
      SCOPED_TRACE(internal::Join(depth, " deep, kept ", density));
      OneProduct product({.rows = 150, .depth = depth, .columns = 40, .density = density, .integers = integers},
                         random);
      const Graph graph = product.Build();
      const std::string way = "sparse_stream:depth in chunks";
      EXPECT_TRUE(EveryNodeTakes(graph, level, way));
      const StatusOr<std::vector<RefTensor>> expected = Interpret(graph, product.inputs);
      const auto found = RunGuarded(graph, product.inputs, level, way, {1, 2});
      ASSERT_TRUE(expected.ok() && found.ok()) << found.status();
      for (const std::vector<Tensor>& outputs : *found) {
        EXPECT_TRUE(Close(outputs[0], (*expected)[0].ToTensor(), integers ? 0 : 1e-5));
      }
    }
  }
}

TEST_P(SparseMatmulTest, NothingKeptEverythingKeptAndEmptyRowsAndColumns) {
  Random random(6);
  const Case c = {.rows = 90,
                  .depth = 50,
                  .columns = 40,
                  .transpose_w = true,
                  .integers = GetParam().integers};  // W lies [rows, depth]
  const std::pair<const char*, std::function<bool(int64_t)>> patterns[] = {
      {"nothing", [](int64_t) { return false; }},
      {"everything", [](int64_t) { return true; }},
      {"rows 30 to 79 empty", [](int64_t at) { return at / 50 < 30 || at / 50 >= 80; }},
      {"every other column", [](int64_t at) { return at % 2 == 1; }},
      {"last column", [](int64_t at) { return at % 50 == 49; }},
      {"one element", [](int64_t at) { return at == 71 * 50 + 3; }},
      {"blocks", [](int64_t at) { return (at / 50 / 16 + at % 50 / 16) % 3 == 0; }},
  };
  for (const auto& [name, keep] : patterns) {
    SCOPED_TRACE(name);
    OneProduct product(c, random, keep);
    product.BiasAndActivation(random, 1, 0);
    Expect(std::move(product));
  }
}

TEST_P(SparseMatmulTest, BatchesAreColumns) {
  Random random(7);
  OneProduct product(GetParam().integers);
  product.inputs.push_back(random.Make({2, 3, 5, 30}, product.x_type()));
  const ValueId x = product.builder.Input("x", product.x_type(), {2, 3, 5, 30});
  const ValueId w = product.Weights({30, 70}, random, [&](int64_t) { return random.Chance(0.2); });
  product.result = product.builder.Matmul(x, w);
  Expect(std::move(product));
}

TEST_P(SparseMatmulTest, PointwiseConvolutions) {
  Random random(8);
  for (const int64_t size : {2, 5, 7, 14}) {
    SCOPED_TRACE(size);
    OneProduct product(GetParam().integers);
    const int64_t in = random.Int(1, 90), out = random.Int(1, 140);
    const Shape x = {2, size, size, in};
    product.inputs.push_back(random.Make(x, product.x_type()));
    const ValueId image = product.builder.Input("x", product.x_type(), x);
    const ValueId w = product.Weights({out, in, 1, 1}, random, [&](int64_t) { return random.Chance(0.1); });
    product.result = product.builder.Conv(image, w, {.layout = "nhwc"});
    product.columns = out;
    product.BiasAndActivation(random, 1, product.integers ? 2 : 1);
    Expect(std::move(product));
  }
}

// x + f(x): the result may take the place of the residual.
TEST_P(SparseMatmulTest, ResidualsInPlace) {
  if (GetParam().integers) GTEST_SKIP() << "sums have another type than what is added to";
  Random random(9);
  OneProduct maker(false);
  const ValueId x = maker.builder.Input("x", DType::kF32, {40, 48});
  maker.inputs.push_back(random.Make({40, 48}));
  BodyBuilder body;
  const Body add = body.Finish(body.Input(DType::kF32) + body.Input(DType::kF32));
  ValueId value = maker.builder.Matmul(x, maker.Weights({48, 48}, random, [&](int64_t) { return random.Chance(0.2); }));
  for (int layer = 0; layer < 3; ++layer) {
    const ValueId w = maker.Weights({48, 48}, random, [&](int64_t) { return random.Chance(0.2); });
    value = maker.builder.WithEpilogue(maker.builder.Matmul(value, w), add, {value}, DType::kF32);
  }
  maker.result = value;
  Expect(std::move(maker));
}

// Query, key and value: products of one activation read the same panels, which are packed once.
TEST_P(SparseMatmulTest, ProductsOfOneActivationShareItsPanels) {
  const auto& [level, emitter, integers] = GetParam();
  Random random(11);
  OneProduct maker(integers);
  maker.inputs.push_back(random.Make({33, 49}, maker.x_type()));
  const ValueId x = maker.builder.Input("x", maker.x_type(), {33, 49});
  for (int64_t width : {31, 48, 64}) {
    const ValueId w = maker.Weights({49, width}, random, [&](int64_t) { return random.Chance(0.2); });
    const ValueId product = maker.builder.Matmul(x, w);
    if (width < 64) maker.builder.Output(product);
    maker.result = product;
  }
  const Graph graph = maker.Build();
  const StatusOr<Target> target = MakeTarget(level);
  ASSERT_TRUE(target.ok()) << target.status();
  const StatusOr<Plan> plan = MakePlan(graph, *target, {.only_emitter = emitter});
  ASSERT_TRUE(plan.ok()) << plan.status();
  int packs = 0;
  for (const PlanStep& step : plan->steps) packs += step.kernel.family.starts_with("pack");
  EXPECT_LE(packs, 1);
  Expect(graph, maker.inputs);
}

// What is pruned is absent, also where it would meet an infinity.
TEST_P(SparseMatmulTest, PrunedColumnsMeetNoInfinities) {
  if (GetParam().integers) GTEST_SKIP() << "integers have none";
  Random random(10);
  OneProduct product({.rows = 50, .depth = 40, .columns = 33, .transpose_w = true}, random,
                     [](int64_t at) { return at % 40 != 7 && at % 3 == 0; });
  const Graph graph = product.Build();
  std::vector<Tensor> with_infinities = product.inputs;
  for (int64_t column = 0; column < 33; ++column) {
    product.inputs[0].Set(column * 40 + 7, 0);
    with_infinities[0].Set(column * 40 + 7, std::numeric_limits<double>::infinity());
  }
  const auto& [level, emitter, integers] = GetParam();
  const auto plain = RunGuarded(graph, product.inputs, level, emitter, {1});
  const auto infinite = RunGuarded(graph, with_infinities, level, emitter, {1});
  ASSERT_TRUE(plain.ok() && infinite.ok());
  EXPECT_EQ((*plain)[0][0], (*infinite)[0][0]);
}

INSTANTIATE_TEST_SUITE_P(Kinds, SparseMatmulTest, testing::ValuesIn(AllKinds()), [](const auto& info) {
  std::string name = internal::Join(info.param.emitter, "_", info.param.level, info.param.integers ? "_integers" : "");
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

// The same pattern with other values is the same kernel; another pattern is another one.
TEST(SparseKeyTest, PatternNotValues) {
  const StatusOr<Target> target = MakeTarget("host:x86-64-v4");
  ASSERT_TRUE(target.ok());
  const auto key = [&](int seed, int stride) {
    Random random(seed);
    OneProduct product({.rows = 64, .depth = 64, .columns = 32}, random, [=](int64_t at) { return at % stride == 0; });
    const StatusOr<Plan> plan = MakePlan(product.Build(), *target, {.only_emitter = "sparse_stream"});
    TES_CHECK(plan.ok(), plan.status());
    return plan->steps.back().kernel.key;
  };
  EXPECT_EQ(key(1, 5), key(2, 5));
  EXPECT_NE(key(1, 5), key(1, 6));
}

// What scattered_benchmark --grid measured on a Zen 4: the choice must not be slower than dense where dense was clearly
// quicker, nor leave what sparsity gives.
TEST(SparseChoiceTest, TakesWhatWasMeasuredToBeQuicker) {
  StatusOr<Target> target = MakeTarget("host:x86-64-v4");
  ASSERT_TRUE(target.ok());
  target->l1d_bytes = 32 << 10;
  target->l2_bytes = 1 << 20;
  struct Row {
    int64_t rows, depth, columns;
    double density;
    const char* emitter;
  };
  const Row rows[] = {
      {64, 32, 12544, 1.0, "matmul"},        {64, 32, 12544, 0.5, "sparse_stream"},
      {128, 64, 3136, 0.5, "sparse_stream"}, {256, 256, 784, 1.0, "matmul"},
      {256, 256, 784, 0.7, "sparse_stream"}, {512, 512, 192, 1.0, "matmul"},
      {512, 512, 192, 0.7, "sparse_stream"}, {512, 512, 192, 0.1, "sparse_stream"},
      {768, 768, 128, 0.7, "sparse_stream"}, {1024, 1024, 49, 0.5, "sparse_stream"},
      {3072, 768, 128, 0.9, "matmul"},       {3072, 768, 128, 0.3, "sparse_stream"},
      {4096, 1024, 32, 0.7, "matmul"},       {4096, 1024, 32, 0.1, "sparse_stream"},
      {1000, 512, 1, 0.3, "gemv"},           {100, 100, 5, 0.9, "gemv"},
      {64, 64, 16, 0.3, "sparse_stream"},    {512, 512, 16, 0.7, "sparse_stream"},
      {768, 3072, 128, 1.0, "matmul"},       {1024, 1024, 16, 1.0, "matmul"},
  };
  for (const Row& row : rows) {
    Random random(1);
    const Case c = {.rows = row.rows, .depth = row.depth, .columns = row.columns, .density = row.density};
    const Graph graph = OneProduct(c, random).Build();
    std::string report;
    EXPECT_EQ(SelectEmitter(graph, graph.nodes[0], *target, "", &report).emitter->name, row.emitter)
        << row.rows << "x" << row.depth << "x" << row.columns << " kept " << row.density << ": " << report;
  }
}

// A fifth of the 32x32 blocks and 1 % of all elements, 1024x1024x1024: measured 3058 us as a straight stream and 2465
// rolled (docs/results/host_mixed.md).
TEST(SparseChoiceTest, BlocksAndScatteredElementsAreRolled) {
  StatusOr<Target> target = MakeTarget("host:x86-64-v4");
  ASSERT_TRUE(target.ok());
  target->l1d_bytes = 32 << 10;
  target->l2_bytes = 1 << 20;
  constexpr int64_t kSize = 1024, kBlock = 32, kBlocks = kSize / kBlock;
  Random random(7);
  Graph graph = OneProduct({.rows = kSize, .depth = kSize, .columns = kSize, .density = 0.5}, random).Build();
  std::vector<bool> block(kBlocks * kBlocks);
  for (size_t k = 0; k < block.size(); ++k) block[k] = random.Chance(0.2);
  Bitmap kept(kSize * kSize);
  for (int64_t row = 0; row < kSize; ++row) {
    for (int64_t k = 0; k < kSize; ++k) {
      kept.Set(row * kSize + k, block[row / kBlock * kBlocks + k / kBlock] || random.Chance(0.01));
    }
  }
  std::string report;
  const std::optional<SparseProblem> problem = ReadSparseProblem(graph, graph.nodes[0], *target, &report);
  ASSERT_TRUE(problem.has_value()) << report;
  Value& weights = graph[problem->weights];
  weights.tesa = Attribute::FromKept(weights.type.shape, kept, 32);
  weights.constant = weights.tesa->ApplyTo(weights.constant);
  EXPECT_EQ(SelectEmitter(graph, graph.nodes[0], *target, "", &report).emitter->name, "sparse_parts") << report;
}

// Runs all steps of a plan of one input and one output on this thread, in the shares of `threads`.
std::vector<std::byte> RunPlan(const Plan& plan, const Target& target, const Tensor& input, int threads = 1) {
  std::vector<std::vector<std::byte>> buffers;
  size_t output = 0;
  for (const PlanBuffer& buffer : plan.buffers) {
    buffers.emplace_back(buffer.bytes + 64);
    const Tensor& from = buffer.kind == BufferClass::kInput ? input : buffer.constant;
    if (buffer.kind == BufferClass::kInput || buffer.kind == BufferClass::kConstant) {
      std::memcpy(buffers.back().data(), from.bytes().data(), buffer.bytes);
    }
    if (buffer.kind == BufferClass::kOutput) output = buffers.size() - 1;
  }
  for (const PlanStep& step : plan.steps) {
    const StatusOr<KernelRunner> run = KernelRunner::Make(step.kernel, target);
    TES_CHECK(run.ok(), run.status());
    std::vector<void*> args;
    for (const StepArg& arg : step.args) args.push_back(buffers[arg.buffer].data() + arg.offset);
    for (int thread = 0; thread < threads; ++thread) {
      std::vector<std::byte> scratch(step.scratch_bytes);
      (*run)(args, step.tasks* thread / threads, step.tasks * (thread + 1) / threads, scratch.data());
    }
  }
  buffers[output].resize(plan.buffers[output].bytes);
  return buffers[output];
}

// Shares of one matrix, each computed by another core, in blocks of different heights: their sum is the product.
TEST(SparsePartsTest, AddUpToTheProduct) {
  for (const std::string& level : RunnableLevels()) {
    const StatusOr<Target> target = MakeTarget(level);
    ASSERT_TRUE(target.ok());
    if (!HasStream(*target)) continue;
    for (const bool integers : {false, true}) {
      SCOPED_TRACE(internal::Join(level, integers ? " integers" : " f32"));
      Random random(13);
      OneProduct product({.rows = 150, .depth = 90, .columns = 40, .density = 0.4, .integers = integers}, random);
      const Graph graph = product.Build();
      std::string why;
      const std::optional<SparseProblem> problem = ReadSparseProblem(graph, graph.nodes[0], *target, &why);
      ASSERT_TRUE(problem.has_value()) << why;
      std::vector<Bitmap> kept(3, Bitmap(problem->all.kept->size()));
      for (int64_t at : problem->all.kept->Positions()) kept[random.Int(0, 2)].Set(at, true);
      kept[2].SetRange(90 * 70, kept[2].size(), false);  // some elements in no part: they count as pruned
      Bitmap in_parts = kept[0];
      in_parts |= kept[1];
      in_parts |= kept[2];

      SparseSchedule schedule;
      schedule.blocks = {.rows = 150, .block_rows = 64, .group_rows = 6, .cuts = {0, 16, 80, 96, 150}};
      PlanBuilder builder(graph, *target);
      PlanSparseSteps(graph.nodes[0], *problem, schedule, "parts",
                      {StreamPart(*problem, problem->Share(kept[0]), schedule, false, builder),
                       LoopPart(*problem, problem->Share(kept[1]), schedule, builder),
                       StreamPart(*problem, problem->Share(kept[2]), schedule, true, builder)},
                      builder);
      const std::vector<std::byte> found = RunPlan(builder.Finish(), *target, product.inputs[0]);

      Graph masked = graph;
      Value& weights = masked[problem->weights];
      const Attribute tesa = Attribute::FromKept(weights.type.shape, in_parts, TypeInfo(weights.type.dtype).bits);
      weights.constant = tesa.ApplyTo(weights.constant);
      weights.tesa = tesa;
      const StatusOr<std::vector<RefTensor>> expected = Interpret(masked, product.inputs);
      ASSERT_TRUE(expected.ok()) << expected.status();
      Tensor result((*expected)[0].type.dtype, (*expected)[0].type.shape);
      std::memcpy(result.mutable_bytes().data(), found.data(), found.size());
      EXPECT_TRUE(Close(result, (*expected)[0].ToTensor(), integers ? 0 : 1e-5));
    }
  }
}

// Whatever the order of tasks, whoever packs, however x and y lie, and wherever threads' shares begin.
TEST(SparsePartsTest, EveryOrderGivesTheProduct) {
  int turn = 0;
  for (const std::string& level : RunnableLevels()) {
    const StatusOr<Target> target = MakeTarget(level);
    ASSERT_TRUE(target.ok());
    for (int k = 0; k < 16; ++k) {
      Random random(15 + k);
      const int64_t columns[] = {8, 16, 41, 70};
      const Case c = {.rows = 150,
                      .depth = random.Int(1, 60),
                      .columns = columns[(k + turn++) % 4],
                      .weights_left = (k & 4) != 0,
                      .transpose_x = (k & 8) != 0,
                      .density = 0.3,
                      .integers = (k & 1) != 0};
      OneProduct product(c, random);
      const Graph graph = product.Build();
      std::string why;
      const std::optional<SparseProblem> problem = ReadSparseProblem(graph, graph.nodes[0], *target, &why);
      ASSERT_TRUE(problem.has_value()) << why;
      SparseSchedule schedule;
      schedule.blocks = {.rows = 150, .block_rows = 32, .group_rows = 6};
      if (k % 3 == 0) schedule.blocks.cuts = {0, 16, 48, 80, 96, 128, 150};
      schedule.packs = true;
      schedule.panels_outer = (k & 2) != 0;
      const StatusOr<std::vector<RefTensor>> expected = Interpret(graph, product.inputs);
      ASSERT_TRUE(expected.ok()) << expected.status();
      for (const int threads : {1, 2, 5}) {
        SCOPED_TRACE(
            internal::Join(level, " case ", k, " depth ", c.depth, " columns ", c.columns, " threads ", threads));
        PlanBuilder builder(graph, *target);
        PlanSparseSteps(graph.nodes[0], *problem, schedule, "parts",
                        {LoopPart(*problem, problem->all, schedule, builder)}, builder);
        const Plan plan = builder.Finish();
        EXPECT_EQ(plan.steps.size(), 1u);
        const std::vector<std::byte> found = RunPlan(plan, *target, product.inputs[0], threads);
        Tensor result((*expected)[0].type.dtype, (*expected)[0].type.shape);
        std::memcpy(result.mutable_bytes().data(), found.data(), found.size());
        EXPECT_TRUE(Close(result, (*expected)[0].ToTensor(), c.integers ? 0 : 1e-5));
      }
    }
  }
}

TEST(ReadSparseProblemTest, WithoutDeclaredSparsityThereIsNone) {
  Random random(11);
  OneProduct product({.rows = 64, .depth = 64, .columns = 32}, random);
  Graph graph = product.Build();
  for (Value& value : graph.values) value.tesa.reset();
  std::string why;
  EXPECT_FALSE(ReadSparseProblem(graph, graph.nodes[0], *MakeTarget("host"), &why).has_value());
  EXPECT_EQ(why, "the weights declare nothing as pruned");
}

TEST(WalkStreamTest, VisitsEachKeptElementOnceInColumnsOfGroups) {
  Random random(12);
  for (int repeat = 0; repeat < 50; ++repeat) {
    const int64_t rows = random.Int(1, 200), depth = random.Int(1, 90);
    Bitmap kept(rows * depth);
    for (int64_t k = 0; k < kept.size(); ++k) kept.Set(k, random.Chance(0.2));
    const ScatteredPattern pattern = ScatteredPattern::Make(kept, rows, depth, depth, 1);
    ScatteredBlocks blocks = {
        .rows = rows, .block_rows = 16 * random.Int(1, 8), .group_rows = static_cast<int>(random.Int(1, 31))};
    int64_t first = -1, count = 0, column = -1, next_row = 0;
    StreamVisitor visitor;
    visitor.on_group = [&](int64_t row, int n) {
      EXPECT_EQ(row, next_row);
      EXPECT_LE(n, blocks.group_rows);
      first = row, count = n, column = -1, next_row = row + n;
    };
    visitor.on_column = [&](int64_t k) {
      EXPECT_GT(k, column);
      column = k;
    };
    visitor.on_element = [&](int64_t row, int64_t k) {
      EXPECT_EQ(k, column);
      EXPECT_TRUE(row >= first && row < first + count);
      EXPECT_TRUE(kept[row * depth + k]);
      kept.Set(row * depth + k, false);
    };
    WalkStream(pattern, blocks, visitor);
    EXPECT_EQ(next_row, rows);
    EXPECT_FALSE(kept.Any());
  }
}

}  // namespace
}  // namespace tessera
