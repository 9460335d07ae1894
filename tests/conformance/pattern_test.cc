// Every way to compute a product with sparse weights: op × pattern × precision × level of processors and of GPUs (on
// the host's stand-in for them, or on a card if there is one), on odd sizes, with both places of the weights, all
// transpositions, biases and activations, against the interpreter. f32 within 1e-5 of
// the largest result, f16 (GPUs) within 2e-3, integers exact. What a way is and which there are is the emitters'
// business: all that the sparse ones offer run, in their own words.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "codegen/compile.h"
#include "codegen/emitter.h"
#include "codegen/target.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "graph/interpreter.h"
#include "tesa/attribute.h"
#include "tesa/pattern.h"
#include "tesa/random.h"
#include "tesa/testing/close.h"

namespace tessera {
namespace {

enum class Precision { kF32, kF16, kInt8 };

DType WeightsOf(Precision precision) {
  return precision == Precision::kF32 ? DType::kF32 : precision == Precision::kF16 ? DType::kF16 : DType::kI8;
}
DType SumsOf(Precision precision) { return precision == Precision::kInt8 ? DType::kI32 : WeightsOf(precision); }

// A pattern as a person would say it, and single elements beside it.
struct Mask {
  std::string name;
  Pattern pattern;
  double kept = 0.3, besides = 0;
};

std::vector<Mask> AllMasks() {
  std::vector<Mask> masks;
  for (const auto& [height, width] : std::initializer_list<std::pair<int64_t, int64_t>>{
           {64, 64}, {32, 32}, {16, 16}, {8, 8}, {4, 4}, {16, 1}, {4, 1}, {1, 4}, {8, 32}}) {
    const std::string name = internal::Join(height, "x", width);
    masks.push_back({name, Pattern::Block(height, width)});
    masks.push_back({name + "_and_1_per_cent", Pattern::Block(height, width), 0.2, 0.01});
  }
  masks.push_back({"rows", Pattern::Slices(0), 0.5});
  masks.push_back({"columns", Pattern::Slices(1), 0.5});
  masks.push_back({"rows_and_columns", {.kind = PatternKind::kSlices, .axis = 0, .other_axis = 1}, 0.6});
  masks.push_back({"2_of_4", Pattern::Nm(2, 4, 1)});
  masks.push_back({"2_of_4_and_5_per_cent", Pattern::Nm(2, 4, 1), 0, 0.05});
  masks.push_back({"1_of_8", Pattern::Nm(1, 8, 1)});
  masks.push_back({"scattered", Pattern::Scattered(), 0.1});
  masks.push_back({"everything", Pattern::Dense()});
  masks.push_back({"nothing", Pattern::Scattered(), 0});
  return masks;
}

// Of W[rows, depth].
Bitmap MakeKept(Random& random, const Mask& mask, int64_t rows, int64_t depth) {
  const Shape shape = {rows, depth};
  if (mask.pattern.kind == PatternKind::kDense) return Bitmap(rows * depth, true);
  Bitmap kept = RandomMask(random, shape, mask.pattern, mask.kept);
  if (mask.besides > 0) kept |= RandomMask(random, shape, Pattern::Scattered(), mask.besides);
  return kept;
}

struct Case {
  int64_t rows = 1, depth = 1, columns = 1;
  Precision precision = Precision::kF32;
  bool conv = false, weights_left = false, transpose_w = false, transpose_x = false;
  int bias = 0;        // 0 none, 1 a row's, 2 an element's
  int activation = 0;  // 0 none, 1 relu, 2 gelu
};

Graph MakeGraph(const Case& c, const Bitmap& kept, Random& random) {
  GraphBuilder b("pattern");
  const DType w_type = WeightsOf(c.precision), x_type = w_type == DType::kI8 ? DType::kU8 : w_type;
  // As W[rows, depth] it lies one row after the other, or turned.
  const bool rows_outer = c.conv || c.weights_left != c.transpose_w;
  const Shape flat = rows_outer ? Shape{c.rows, c.depth} : Shape{c.depth, c.rows};
  Bitmap as_it_lies(kept.size());
  for (int64_t row = 0; row < c.rows; ++row) {
    for (int64_t k = 0; k < c.depth; ++k) {
      as_it_lies.Set(rows_outer ? row * c.depth + k : k * c.rows + row, kept[row * c.depth + k]);
    }
  }
  const Shape w_shape = c.conv ? Shape{c.rows, c.depth, 1, 1} : flat;
  const Attribute tesa = Attribute::FromKept(w_shape, as_it_lies, TypeInfo(w_type).bits);
  // What is pruned is pruned by declaration: its values are not zero.
  Tensor values = IsFloat(w_type) ? RandomTensorIn(random, {w_type, w_shape}, -1, 1)
                                  : RandomTensorIn(random, {w_type, w_shape}, -128, 127);
  const ValueId w = b.Constant("w", tesa.ApplyTo(values));
  b.SetTesa(w, tesa);
  ValueId y;
  Shape bias_shape;
  if (c.conv) {
    const ValueId x = b.Input("x", x_type, {1, 1, c.columns, c.depth});
    y = b.Conv(x, w, {.layout = "nhwc"});
    bias_shape = c.bias == 1 ? Shape{c.rows} : Shape{1, 1, c.columns, c.rows};
  } else {
    const Shape x_shape = c.weights_left != c.transpose_x ? Shape{c.depth, c.columns} : Shape{c.columns, c.depth};
    const ValueId x = b.Input("x", x_type, x_shape);
    y = c.weights_left ? b.Matmul(w, x, c.transpose_w, c.transpose_x) : b.Matmul(x, w, c.transpose_x, c.transpose_w);
    const Shape whole = c.weights_left ? Shape{c.rows, c.columns} : Shape{c.columns, c.rows};
    bias_shape = c.bias == 2 ? whole : c.weights_left ? Shape{c.rows, 1} : Shape{c.rows};
  }
  const DType sum_type = SumsOf(c.precision);
  if (c.bias != 0 || c.activation != 0) {
    BodyBuilder body;
    Scalar value = body.Input(sum_type);
    std::vector<ValueId> operands;
    if (c.bias != 0) {
      operands.push_back(b.Input("bias", sum_type, bias_shape));
      value = value + body.Input(sum_type);
    }
    if (c.activation == 1) value = Max(value, sum_type == DType::kF32 ? 0.0 : 0);
    if (c.activation == 2 && sum_type == DType::kF32) {
      value = value * 0.5 * (Erf(value * 0.7071067811865476) + 1.0);
    }
    y = b.WithEpilogue(y, body.Finish(value), operands, sum_type);
  }
  b.Output(y);
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

// Levels that this machine can run.
std::vector<std::string> Levels() {
  std::vector<std::string> levels;
  for (const char* level : {"host:x86-64", "host:x86-64-v3", "host:skylake-avx512", "host"}) {
    const StatusOr<Target> target = MakeTarget(level);
    TES_CHECK(target.ok(), target.status());
    const StatusOr<Target> host = MakeTarget("host");
    const bool runs = (!target->has_avx512 || host->has_avx512) && target->vector_bits <= host->vector_bits;
    if (runs) levels.push_back(level);
  }
  // Threads in order, and in any.
  for (const char* level : {"simt:nvptx:sm_80", "simt:nvptx:sm_90a:random"}) levels.push_back(level);
  if (MakeTarget("cuda").ok()) levels.push_back("cuda");
  return levels;
}

class PatternTest : public testing::TestWithParam<std::string> {
 protected:
  // Runs every way that is offered for the graph's one node, by `only` that emitter; counts them by name.
  void ExpectEveryWay(const Graph& graph, uint64_t seed, std::string_view only = "") {
    const StatusOr<Target> target = MakeTarget(GetParam());
    ASSERT_TRUE(target.ok());
    const std::vector<Tensor> inputs = RandomInputs(graph, seed);
    const StatusOr<std::vector<RefTensor>> expected = Interpret(graph, inputs);
    ASSERT_TRUE(expected.ok()) << expected.status();
    for (const Emitter& emitter : AllEmitters()) {
      std::string why;
      const bool sparse = emitter.name.substr(0, 6) == "sparse";
      const bool of_gpus =
          emitter.name == "gpu_scattered" || emitter.name == "gpu_blocks" || emitter.name == "gpu_two_of_four";
      if ((!sparse && !of_gpus) || (!only.empty() && emitter.name != only)) continue;
      for (const Way& way : WaysOf(emitter, graph, graph.nodes[0], *target, &why)) {
        const std::string name = Choice{&emitter, way}.ToString();
        SCOPED_TRACE(name);
        const auto found = RunCompiled(graph, inputs, GetParam(), {.only_emitter = name});
        ASSERT_TRUE(found.ok()) << found.status();
        const DType type = (*found)[0].dtype();
        const double allowed = type == DType::kF16 ? 2e-3 : IsFloat(type) ? 1e-5 : 0;
        EXPECT_TRUE(Close((*found)[0], (*expected)[0].ToTensor(), allowed));
        std::string family;  // the name without its numbers
        for (char c : name) {
          if (c < '0' || c > '9') family += c;
        }
        ++ways_[family];
      }
    }
  }

  static bool OnGpu() { return GetParam().substr(0, 4) != "host"; }

  std::map<std::string, int> ways_;  // that ran, by family
};

TEST_P(PatternTest, EveryPatternInEveryPrecision) {
  Random random(1);
  int number = 0;
  for (const Mask& mask : AllMasks()) {
    ++number;
    for (const Precision precision : {Precision::kF32, Precision::kF16, Precision::kInt8}) {
      // Integers and halves differ from f32 in their cores, not in what a mask becomes; but for n:m, whose cores on
      // GPUs are its own. Halves are for GPUs.
      const bool own = OnGpu() && mask.pattern.kind == PatternKind::kNm;
      if (precision == Precision::kF16 && !own && (!OnGpu() || number % 4 != 1)) continue;
      if (precision == Precision::kInt8 && !own && number % 4 != 0) continue;
      Case c = {.rows = random.Int(40, 110), .depth = random.Int(40, 110), .columns = random.Int(9, 50)};
      c.precision = precision;
      c.conv = (number + static_cast<int>(precision)) % 3 == 0;
      c.bias = static_cast<int>(random.Int(0, 2));
      c.activation = static_cast<int>(random.Int(0, 2));
      SCOPED_TRACE(internal::Join(mask.name, " ", Name(WeightsOf(precision)), " ", c.conv ? "conv " : "matmul ", c.rows,
                                  "x", c.depth, "x", c.columns, " bias ", c.bias, " activation ", c.activation));
      ExpectEveryWay(MakeGraph(c, MakeKept(random, mask, c.rows, c.depth), random), 2);
    }
  }
  // What the patterns above are there for was among what ran.
  std::set<std::string> wanted = {"sparse_loop", "sparse_parts:rows and columns by tiles",
                                  "sparse_parts:blocks x by tiles"};
  if (OnGpu()) {
    wanted = {"gpu_scattered:x", "gpu_blocks:blocks by fma x xx stages ", "gpu_two_of_four:mma_sp x xx stages "};
  } else if (GetParam() == "host:x86-64") {
    wanted.insert({"sparse_parts:: by loop", "sparse_parts:: + scattered by loop",
                   "sparse_parts:blocks x + scattered by tiles + loop",
                   "sparse_parts:blocks + scattered by tiles + loop"});
  } else {
    wanted.insert({"sparse_stream:whole depth", "sparse_parts:blocks x by stream",
                   "sparse_parts:blocks x + scattered by stream", "sparse_parts:blocks x + scattered by tiles + stream",
                   "sparse_parts:blocks + scattered by stream"});
  }
  for (const std::string& way : wanted) EXPECT_GT(ways_[way], 0) << way;
  if (!HasFailure()) return;
  for (const auto& [way, count] : ways_) ADD_FAILURE() << count << " times " << way;
}

TEST_P(PatternTest, EveryOrderWithEveryEpilogue) {
  Random random(3);
  const Mask masks[] = {
      {"8x8", Pattern::Block(8, 8), 0.3, 0.01}, {"16x16", Pattern::Block(16, 16)}, {"rows", Pattern::Slices(0), 0.5}};
  int which = 0;
  for (int order = 0; order < 8; ++order) {
    for (int bias = 0; bias < 3; ++bias) {
      for (int activation = 0; activation < 3; ++activation) {
        if ((order + bias + activation) % 3 != 0) continue;  // each pair of choices occurs
        const Mask& mask = masks[which++ % 3];
        Case c = {.rows = random.Int(1, 80), .depth = random.Int(1, 80), .columns = random.Int(8, 40)};
        c.weights_left = (order & 1) != 0;
        c.transpose_w = (order & 2) != 0;
        c.transpose_x = (order & 4) != 0;
        c.bias = bias;
        c.activation = activation;
        SCOPED_TRACE(internal::Join(mask.name, " order ", order, " bias ", bias, " activation ", activation, ": ",
                                    c.rows, "x", c.depth, "x", c.columns));
        ExpectEveryWay(MakeGraph(c, MakeKept(random, mask, c.rows, c.depth), random), 4);
      }
    }
  }
}

TEST_P(PatternTest, TailsAtLength) {
  Random random(5);
  const Mask mask = {"32x32", Pattern::Block(32, 32), 0.2, 0.01};
  const Case c = {.rows = 1000, .depth = 777, .columns = 333, .bias = 1, .activation = 1};
  ExpectEveryWay(MakeGraph(c, MakeKept(random, mask, c.rows, c.depth), random), 6);
  if (!OnGpu()) return;
  const Mask halved = {"2_of_4", Pattern::Nm(2, 4, 1)};
  Case halves = c;
  halves.precision = Precision::kF16;
  ExpectEveryWay(MakeGraph(halves, MakeKept(random, halved, c.rows, c.depth), random), 7, "gpu_two_of_four");
}

INSTANTIATE_TEST_SUITE_P(Levels, PatternTest, testing::ValuesIn(Levels()), [](const auto& info) {
  std::string name = info.param;
  for (char& c : name) {
    if (c == ':' || c == '-') c = '_';
  }
  return name;
});

}  // namespace
}  // namespace tessera
