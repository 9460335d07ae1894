#include "models/quantize/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "graph/builder.h"
#include "graph/interpreter.h"
#include "graph/model_file.h"
#include "graph/passes/pipeline.h"
#include "graph/verifier.h"
#include "models/prune/prune.h"
#include "models/quantize/floats.h"
#include "models/quantize/plan.h"
#include "tesa/random.h"

namespace tessera {
namespace {

QuantizeSpec Spec(std::string_view text) {
  StatusOr<QuantizeSpec> spec = ParseQuantizeSpec(text);
  TES_CHECK(spec.ok(), spec.status());
  return *spec;
}

// Random samples for the inputs of a graph.
SampleSource Samples(const Graph& graph, int count, uint64_t seed) {
  std::vector<TensorType> types;
  for (ValueId id : graph.inputs) types.push_back(graph[id].type);
  auto random = std::make_shared<Random>(seed);
  auto left = std::make_shared<int>(count);
  return [types, random, left](std::vector<Tensor>& inputs) -> StatusOr<bool> {
    if ((*left)-- == 0) return false;
    inputs.clear();
    for (const TensorType& type : types) inputs.push_back(RandomTensor(*random, type));
    return true;
  };
}

// conv + batch norm + relu, max pool, depthwise, pointwise + skip, average pool, two linear layers: odd extents.
Graph Network(uint64_t seed) {
  Random random(seed);
  GraphBuilder b("network");
  const auto weight = [&](const char* name, const Shape& shape, double fan_in) {
    return b.Constant(name, RandomTensor(random, {DType::kF32, shape}, 1 / std::sqrt(fan_in)));
  };
  const auto vector = [&](const char* name, int64_t size) {
    return b.Constant(name, RandomTensorIn(random, {DType::kF32, {size}}, 0.5, 1.5));
  };
  const ValueId image = b.Input("image", DType::kF32, {2, 3, 13, 11});
  ValueId x = b.Named("stem").Conv(image, weight("stem.weight", {17, 3, 3, 3}, 27), {.pads = {1, 1, 1, 1}});
  x = b.BatchNorm(x, vector("bn.s", 17), vector("bn.b", 17), vector("bn.m", 17), vector("bn.v", 17));
  x = b.Relu(x);
  x = b.MaxPool(x, {2, 2}, {.strides = {2, 2}});
  ValueId y = b.Named("dw").Conv(x, weight("dw.weight", {17, 1, 3, 3}, 9), {.pads = {1, 1, 1, 1}}, 17);
  y = b.Clip(b.Add(y, b.Constant("dw.bias", RandomTensor(random, {DType::kF32, {17, 1, 1}}))), 0, 6);
  y = b.Named("pw").Conv(y, weight("pw.weight", {17, 17, 1, 1}, 17));
  y = b.Add(b.Add(y, b.Constant("pw.bias", RandomTensor(random, {DType::kF32, {17, 1, 1}}))), x);
  y = b.Named("last").Conv(b.Relu(y), weight("last.weight", {29, 17, 1, 1}, 17));
  y = b.Relu(b.Add(y, b.Constant("last.bias", RandomTensor(random, {DType::kF32, {29, 1, 1}}))));
  y = b.Reshape(b.Reduce(Op::kReduceMean, y, {2, 3}), {2, 29});
  y = b.Named("fc1").Matmul(y, weight("fc1.weight", {29, 31}, 29));
  y = b.Relu(b.Add(y, b.Constant("fc1.bias", RandomTensor(random, {DType::kF32, {31}}))));
  b.Output(b.Named("fc2").Matmul(y, weight("fc2.weight", {5, 31}, 31), false, true));
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *graph;
}

QuantizeReport Quantize(Graph& graph, std::string_view spec) {
  StatusOr<QuantizeReport> report = QuantizeGraph(graph, Spec(spec), Samples(graph, 8, 77), {.threads = 1});
  TES_CHECK(report.ok(), report.status());
  return *std::move(report);
}

// max |a - b| / max |b| of the outputs on a new sample.
double Difference(const Graph& a, const Graph& b, uint64_t seed = 5) {
  std::vector<Tensor> inputs;
  TES_CHECK(*Samples(b, 1, seed)(inputs));
  StatusOr<std::vector<RefTensor>> left = Interpret(a, inputs), right = Interpret(b, inputs);
  TES_CHECK(left.ok() && right.ok(), left.status(), right.status());
  double worst = 0, largest = 0;
  for (size_t k = 0; k < right->size(); ++k) {
    for (size_t i = 0; i < (*right)[k].f.size(); ++i) {
      worst = std::max(worst, std::fabs((*left)[k].f[i] - (*right)[k].f[i]));
      largest = std::max(largest, std::fabs((*right)[k].f[i]));
    }
  }
  return worst / largest;
}

int Count(const Graph& graph, Op op) {
  int count = 0;
  for (const Node& node : graph.nodes) count += node.op == op;
  return count;
}

const Value& Named(const Graph& graph, std::string_view name) {
  const ValueId id = graph.FindValue(name);
  TES_CHECK(id != ValueId::kNone, "no value ", name);
  return graph[id];
}

TEST(QuantizeTest, IntegersAreNearTheFloats) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    for (const char* spec : {"i8", "i8+act=i8", "i8+range=mse", "i8+weights=mse", "i8+range=percentile:99.99"}) {
      const Graph before = Network(seed);
      Graph after = before;
      Quantize(after, spec);
      EXPECT_LT(Difference(after, before), 0.1) << spec << seed;
      EXPECT_GT(Difference(after, before), 1e-5) << "nothing was rounded";
    }
  }
}

TEST(QuantizeTest, EverySiteReadsIntegers) {
  Graph graph = Network(1);
  const QuantizeReport report = Quantize(graph, "i8");
  EXPECT_TRUE(report.floats.empty());
  const Uses uses(graph);
  int sites = 0;
  for (const Node& node : graph.nodes) {
    if (node.op != Op::kConv && node.op != Op::kMatmul) continue;
    ++sites;
    for (ValueId id : {node.inputs[0], node.inputs[1]}) {
      const NodeId producer = uses.producer[Index(id)];
      ASSERT_NE(producer, NodeId::kNone);
      EXPECT_EQ(graph[producer].op, Op::kDequantize);
      const DType type = graph[graph[producer].inputs[0]].type.dtype;
      EXPECT_EQ(type, id == node.inputs[0] ? DType::kU8 : DType::kI8);
    }
  }
  EXPECT_EQ(sites, 6);
  // image, stem's relu, max pool of it (same scale), clip, relu, last's relu, mean, its reshape (same scale), fc1's
  // relu.
  EXPECT_EQ(Count(graph, Op::kQuantize), 9);
  EXPECT_EQ(Named(graph, "fc1.weight.i8").type.dtype, DType::kI8);
  EXPECT_EQ(Named(graph, "fc1.weight").kind, ValueKind::kComputed);
  EXPECT_EQ(Named(graph, "dw.bias.i32").type, (TensorType{DType::kI32, {17}}));
  EXPECT_TRUE(Named(graph, "fc1.weight.i8").quant.has_value());
  EXPECT_EQ(graph.metadata["quantized"], "i8");
  // The scales of a bias are those of the products that it is added to.
  const Value& bias = Named(graph, "fc1.bias.i32");
  EXPECT_EQ(bias.kind, ValueKind::kConstant);
}

TEST(QuantizeTest, CompiledAndWrittenItIsTheSame) {
  const Graph before = Network(3);
  Graph graph = before;
  Quantize(graph, "i8");
  const std::string path = testing::TempDir() + "/quantized.tess";
  ASSERT_TRUE(WriteModel(graph, path).ok());
  StatusOr<Graph> loaded = ReadModel(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(*loaded, graph);
  Graph lowered = graph;
  ASSERT_TRUE(OptimizeForHost(lowered).ok());
  // Values on the border of two integers may fall to either side.
  EXPECT_LT(Difference(lowered, graph), 0.02);
}

TEST(QuantizeTest, SparseStaysSparse) {
  for (const char* spec : {"i8", "w8", "w4g8", "u4g8"}) {
    Graph graph = Network(2);
    ASSERT_GT(Prune(graph, *ParsePruneSpec("80%:fine"), 1), 0);
    const Graph before = graph;
    Quantize(graph, spec);
    for (const char* name : {"pw.weight", "fc1.weight", "fc2.weight"}) {
      const std::string narrow = std::string(name) + (spec[1] == '8' || std::string(name) == "" ? ".i8" : ".i4");
      const Value& integers = Named(graph, narrow);
      const Value& floats = Named(before, name);
      ASSERT_TRUE(integers.tesa.has_value()) << spec << name;
      EXPECT_EQ(integers.tesa->KeptBitmap(), floats.tesa->KeptBitmap());
      EXPECT_EQ(integers.tesa->Widths(), std::vector<int>{TypeInfo(integers.type.dtype).bits});
    }
  }
}

TEST(QuantizeTest, WeightsAloneNeedNoSamples) {
  for (const char* spec : {"w8", "w8g4", "w4g4", "u4g4", "w4g4+weights=mse"}) {
    const Graph before = Network(4);
    Graph graph = before;
    const auto report = QuantizeGraph(graph, Spec(spec), nullptr, {});
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(Count(graph, Op::kQuantize), 0);
    EXPECT_EQ(Count(graph, Op::kDequantize), 6);
    EXPECT_LT(Difference(graph, before), spec[1] == '8' ? 0.03 : 0.35) << spec;
    // Windows get 8 bits per channel.
    EXPECT_EQ(Named(graph, "stem.weight.i8").type.dtype, DType::kI8);
  }
}

TEST(QuantizeTest, LayersStayFloatWhereAsked) {
  Graph graph = Network(1);
  const QuantizeReport report = Quantize(graph, "i8+float=fc*,stem.weight");
  ASSERT_EQ(report.floats.size(), 3u);
  EXPECT_NE(report.floats[0].find("'stem'"), std::string::npos) << report.floats[0];
  EXPECT_EQ(Named(graph, "fc2.weight").kind, ValueKind::kConstant);
  EXPECT_EQ(Named(graph, "fc2.weight").type.dtype, DType::kF32);
}

TEST(QuantizeTest, OutliersAreASecondProduct) {
  Graph graph = Network(1);
  for (Value& value : graph.values) {
    if (value.name == "fc1.weight") value.constant.Set(100, 5);
    if (value.name == "pw.weight") value.constant.Set(50, -7);
  }
  const Graph before = graph;
  Graph plain = before;
  Quantize(plain, "i8");
  const QuantizeReport report = Quantize(graph, "i8+outliers=3%");
  const Value& few = Named(graph, "fc1.weight.outliers");
  const Value& most = Named(graph, "fc1.weight.i8");
  ASSERT_TRUE(few.tesa && most.tesa);
  EXPECT_TRUE(few.tesa->kept(100));
  EXPECT_EQ(few.tesa->num_kept() + most.tesa->num_kept(), few.tesa->num_elements());
  EXPECT_EQ(Named(graph, "fc2.weight").type, (TensorType{DType::kF32, {5, 31}}));
  EXPECT_LT(Difference(graph, before), 0.1);
  int rows = 0;
  for (const QuantizedTensor& row : report.tensors) rows += row.role == "outliers";
  EXPECT_GE(rows, 2);
}

TEST(QuantizeTest, TheReportHoldsRangesAndNoise) {
  Graph graph = Network(1);
  const QuantizeReport report = Quantize(graph, "i8");
  std::map<std::string, int> roles;
  for (const QuantizedTensor& row : report.tensors) {
    ++roles[row.role];
    EXPECT_LE(row.low, row.high);
    EXPECT_GT(row.least_scale, 0);
    EXPECT_LE(row.least_scale, row.largest_scale);
    ASSERT_TRUE(row.signal_to_noise.has_value());
    EXPECT_GT(*row.signal_to_noise, 25) << row.role << row.name;
  }
  EXPECT_EQ(roles["weight"], 6);
  EXPECT_EQ(roles["activation"], 7);
  EXPECT_EQ(roles["bias"], 5);  // BatchNorm's shift included
}

TEST(QuantizeTest, ABiasFarAboveItsWeightsKeepsItsValue) {
  GraphBuilder b("tiny");
  Random random(1);
  const ValueId x = b.Input("x", DType::kF32, {1, 8});
  Tensor w(DType::kF32, {8, 3});
  for (int64_t k = 0; k < 8; ++k) w.Set(3 * k + 1, 1e-12);  // columns: zeros, tiny, ordinary
  for (int64_t k = 0; k < 8; ++k) w.Set(3 * k + 2, random.Normal());
  b.Output(
      b.Add(b.Matmul(x, b.Constant("w", w)), b.Constant("b", Tensor::FromVector<float>({3}, {1000, -1000, 0.25f}))));
  Graph graph = *std::move(b).Build();
  const Graph before = graph;
  Quantize(graph, "i8");
  EXPECT_LT(Difference(graph, before), 1e-4);
}

TEST(QuantizeTest, WhatCannotBeQuantisedIsNamed) {
  Graph bad = Network(1);
  bad[bad.FindValue("fc2.weight")].constant.Set(3, std::numeric_limits<float>::quiet_NaN());
  const auto weight = QuantizeGraph(bad, Spec("i8"), Samples(bad, 1, 1), {});
  ASSERT_FALSE(weight.ok());
  EXPECT_EQ(weight.status().code(), ErrorCode::kValueInvalid);
  EXPECT_NE(weight.status().ToString().find("fc2.weight"), std::string::npos) << weight.status();

  Graph graph = Network(1);
  const auto none = QuantizeGraph(graph, Spec("i8"), Samples(graph, 0, 1), {});
  EXPECT_EQ(none.status().code(), ErrorCode::kInputMissing);

  graph = Network(1);
  const SampleSource nan = [&graph, called = 0](std::vector<Tensor>& inputs) mutable -> StatusOr<bool> {
    inputs = {Tensor::Full(DType::kF32, graph[graph.inputs[0]].type.shape, std::nan(""))};
    return called++ == 0;
  };
  const auto infinite = QuantizeGraph(graph, Spec("i8"), nan, {});
  EXPECT_EQ(infinite.status().code(), ErrorCode::kValueInvalid);
  EXPECT_NE(infinite.status().ToString().find("'image'"), std::string::npos) << infinite.status();

  graph = Network(1);
  Quantize(graph, "i8");
  for (const char* again : {"i8", "w8", "bf16"}) {
    Graph copy = graph;
    EXPECT_EQ(QuantizeGraph(copy, Spec(again), Samples(graph, 1, 1), {}).status().code(), ErrorCode::kOpUnsupported);
  }
}

TEST(FloatsTest, SixteenBitsAndBack) {
  for (DType type : {DType::kBF16, DType::kF16}) {
    Graph before = Network(1);
    Prune(before, *ParsePruneSpec("50%:fine"), 1);
    Graph graph = before;
    ASSERT_TRUE(CastFloats(graph, type).ok());
    EXPECT_EQ(graph[graph.inputs[0]].type.dtype, DType::kF32);
    EXPECT_EQ(graph[graph.outputs[0]].type.dtype, DType::kF32);
    EXPECT_EQ(graph[graph.outputs[0]].name, before[before.outputs[0]].name);
    EXPECT_EQ(Named(graph, "fc1.weight").type.dtype, type);
    EXPECT_EQ(Named(graph, "fc1.weight").tesa->KeptBitmap(), Named(before, "fc1.weight").tesa->KeptBitmap());
    EXPECT_LT(Difference(graph, before), 0.02);
  }
}

TEST(FloatsTest, QuantisationCanBeTakenBack) {
  for (const char* spec : {"i8", "w8", "w4g4", "u4g4"}) {
    Graph before = Network(1);
    Prune(before, *ParsePruneSpec("50%:fine"), 1);
    Graph graph = before;
    Quantize(graph, spec);
    ASSERT_TRUE(RemoveQuantization(graph).ok());
    EXPECT_EQ(Count(graph, Op::kQuantize) + Count(graph, Op::kDequantize), 0);
    EXPECT_LT(Difference(graph, before), spec[1] == '8' ? 0.03 : 0.3);
    EXPECT_EQ(Named(graph, "fc1.weight").tesa->KeptBitmap(), Named(before, "fc1.weight").tesa->KeptBitmap());
  }
}

}  // namespace
}  // namespace tessera
