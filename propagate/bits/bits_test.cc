// Widths that are known by hand, and for random graphs: storing every tensor at its width changes no bit of a result.
#include "propagate/bits/bits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "graph/builder.h"
#include "graph/interpreter.h"
#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "tesa/random.h"

namespace tessera {
namespace {

BitReport Bits(const Graph& graph) {
  StatusOr<BitReport> report = PropagateBits(graph);
  EXPECT_TRUE(report.ok()) << report.status();
  return *std::move(report);
}

const ValueBits& Of(const Graph& graph, const BitReport& report, std::string_view name) {
  const ValueId id = graph.FindValue(name);
  EXPECT_NE(id, ValueId::kNone) << name;
  return report.values[Index(id)];
}

Graph Built(GraphBuilder&& b) {
  StatusOr<Graph> graph = std::move(b).Build();
  EXPECT_TRUE(graph.ok()) << graph.status();
  return *std::move(graph);
}

// All values when every tensor is written at its width before it is read.
std::vector<RefTensor> RunStored(const Graph& graph, const BitReport& report, const std::vector<Tensor>& inputs) {
  std::vector<RefTensor> values(graph.values.size());
  for (size_t v = 0; v < graph.values.size(); ++v) {
    if (graph.values[v].kind == ValueKind::kConstant) {
      values[v] = Stored(report.values[v], RefTensor::From(graph.values[v].constant));
    }
  }
  for (size_t k = 0; k < inputs.size(); ++k) {
    const int v = Index(graph.inputs[k]);
    values[v] = Stored(report.values[v], RefTensor::From(inputs[k]));
  }
  for (const Node& node : graph.nodes) {
    std::vector<const RefTensor*> operands;
    for (ValueId id : Operands(node)) operands.push_back(id == ValueId::kNone ? nullptr : &values[Index(id)]);
    std::vector<RefTensor> results = InterpretNode(graph, node, operands);
    for (size_t k = 0; k < results.size(); ++k) {
      const int v = Index(node.outputs[k]);
      values[v] = Stored(report.values[v], results[k]);
    }
  }
  return values;
}

// The largest difference of any graph output between plain and stored evaluation, as element count.
int64_t Differences(const Graph& graph, const BitReport& report, const std::vector<Tensor>& inputs) {
  const std::vector<RefTensor> plain = *Interpret(graph, inputs);
  const std::vector<RefTensor> stored = RunStored(graph, report, inputs);
  int64_t differences = 0;
  for (size_t k = 0; k < graph.outputs.size(); ++k) {
    const RefTensor& other = stored[Index(graph.outputs[k])];
    for (int64_t e = 0; e < plain[k].size(); ++e) {
      differences += plain[k].is_float() ? plain[k].f[e] != other.f[e] : plain[k].i[e] != other.i[e];
    }
  }
  return differences;
}

TEST(WidthOfTest, CountsBits) {
  EXPECT_EQ(WidthOf({0, 0}), 0);
  EXPECT_EQ(WidthOf({0, 1}), 1);
  EXPECT_EQ(WidthOf({0, 15}), 4);
  EXPECT_EQ(WidthOf({0, 16}), 5);
  EXPECT_EQ(WidthOf({-1, 0}), 1);
  EXPECT_EQ(WidthOf({-8, 7}), 4);
  EXPECT_EQ(WidthOf({-9, 7}), 5);
  EXPECT_EQ(WidthOf({-8, 8}), 5);
  EXPECT_EQ(WidthOf({}), 64);
}

TEST(BitsTest, AReluNeedsNoSignBit) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kI8, {4});
  const ValueId y = b.Named("y").Relu(x);
  b.Output(b.Named("z").Cast(y, DType::kI32));
  const Graph graph = Built(std::move(b));
  const BitReport report = Bits(graph);
  EXPECT_EQ(Of(graph, report, "y").bits, 7);
  EXPECT_EQ(Of(graph, report, "z").bits, 7);
  EXPECT_EQ(Of(graph, report, "z").type_bits, 32);
  // What is below 0 may be written as 0: x needs no sign either.
  EXPECT_EQ(Of(graph, report, "x").bits, 7);
}

TEST(BitsTest, AccumulatorsAreAsWideAsTheirWeightsMakeThem) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kU8, {1, 4});
  Tensor w(DType::kI8, Shape{4, 2});
  const int64_t values[] = {1, -3, 2, 0, 0, -1, 1, 0};  // columns sum to 4 and -4
  for (int64_t k = 0; k < 8; ++k) w.SetInt(k, values[k]);
  b.Output(b.Named("y").Matmul(x, b.Constant("w", w)));
  const Graph graph = Built(std::move(b));
  const BitReport report = Bits(graph);
  EXPECT_EQ(Of(graph, report, "y").range, (Interval{-4 * 255, 4 * 255}));
  EXPECT_EQ(Of(graph, report, "y").bits, 11);
  EXPECT_EQ(Of(graph, report, "w").bits, 3);
}

TEST(BitsTest, WhatAReaderRequantisesToFourBitsIsWrittenWithFour) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kF32, {6});
  const ValueId s = b.Number(0.25);
  const ValueId q = b.Named("q").Quantize(x, s, ValueId::kNone, DType::kI8);
  const ValueId f = b.Named("f").Dequantize(q, s, ValueId::kNone);
  const ValueId r = b.Named("r").Reshape(f, {2, 3});
  const ValueId h = b.Named("h").Relu(r);
  const ValueId p = b.Named("p").Quantize(h, s, ValueId::kNone, DType::kU4);
  b.Output(b.Named("y").Dequantize(p, s, ValueId::kNone));
  const Graph graph = Built(std::move(b));
  const BitReport report = Bits(graph);
  for (const char* name : {"q", "f", "r", "h", "p"}) EXPECT_EQ(Of(graph, report, name).bits, 4) << name;
  EXPECT_EQ(Of(graph, report, "f").known, 8);
  EXPECT_EQ(Of(graph, report, "q").known, 8);
  EXPECT_EQ(Of(graph, report, "h").known, 7);
  EXPECT_EQ(Of(graph, report, "y").bits, 4);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Random random(seed);
    EXPECT_EQ(Differences(graph, report, {RandomTensor(random, {DType::kF32, {6}}, 20)}), 0);
  }
}

TEST(BitsTest, TheWidestOfSeveralReadersCounts) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kI32, {5});
  const ValueId y = b.Named("y").Mul(x, b.Constant("two", Tensor::Full(DType::kI32, {}, 2)));
  b.Output(b.Named("low").And(y, b.Constant("mask", Tensor::Full(DType::kI32, {}, 15))));
  const ValueId c = b.Named("c").Cast(y, DType::kI8);
  b.Output(c);
  const Graph graph = Built(std::move(b));
  const BitReport report = Bits(graph);
  EXPECT_EQ(Of(graph, report, "low").bits, 3);  // of y's four the lowest is 0
  EXPECT_EQ(Of(graph, report, "y").read, 8);
  EXPECT_EQ(Of(graph, report, "y").bits, 7);
  EXPECT_EQ(Of(graph, report, "y").low, 1);
  EXPECT_EQ(Of(graph, report, "x").bits, 8);
  Tensor input(DType::kI32, {5});
  const int64_t values[] = {1000003, -77, 123456789, -2147483647, 64};
  for (int64_t k = 0; k < 5; ++k) input.SetInt(k, values[k]);
  EXPECT_EQ(Differences(graph, report, {input}), 0);
}

TEST(BitsTest, MaxPoolsPaddingDoesNotCount) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kU8, {1, 1, 5, 5});
  const ValueId y = b.Named("y").And(x, b.Constant("m", Tensor::Full(DType::kU8, {}, 3)));
  b.Output(b.Named("p").MaxPool(y, {3, 3}, {.strides = {2, 2}, .pads = {1, 1, 1, 1}}));
  const Graph graph = Built(std::move(b));
  EXPECT_EQ(Of(graph, Bits(graph), "p").bits, 2);
}

TEST(BitsTest, DeclaredWidthsCountAndMustHold) {
  for (const bool fits : {true, false}) {
    GraphBuilder b("g");
    const ValueId x = b.Input("x", DType::kI8, {2});
    const ValueId w = b.Constant("w", Tensor::FromVector<int8_t>({2}, {int8_t{-8}, fits ? int8_t{7} : int8_t{8}}));
    b.SetTesa(w, Attribute::Dense({2}, 4));
    b.SetTesa(x, Attribute::Dense({2}, 3));
    b.Output(b.Named("y").Add(x, w));
    const Graph graph = Built(std::move(b));
    const StatusOr<BitReport> report = PropagateBits(graph);
    ASSERT_EQ(report.ok(), fits);
    if (fits) {
      EXPECT_EQ(Of(graph, *report, "y").range, (Interval{-12, 10}));
    } else {
      EXPECT_EQ(report.status().code(), ErrorCode::kTesaInvalid);
      EXPECT_NE(report.status().message().find("'w': declared at 4 bits, which hold -8 to 7, found 8"),
                std::string::npos);
    }
  }
}

TEST(BitsTest, FloatsStayWhole) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kF32, {3});
  b.Output(b.Named("y").Sigmoid(x));
  const Graph graph = Built(std::move(b));
  EXPECT_EQ(Of(graph, Bits(graph), "y").bits, 32);
  EXPECT_EQ(Of(graph, Bits(graph), "x").bits, 32);
}

// ---- Random graphs ----

constexpr DType kIntegers[] = {DType::kI8,  DType::kU8,  DType::kI16, DType::kU16, DType::kI32,
                               DType::kU32, DType::kI64, DType::kU64, DType::kI4,  DType::kU4};

Tensor RandomIntegers(Random& random, DType type, const Shape& shape) {
  Tensor tensor(type, shape);
  const int shift = static_cast<int>(random.Int(0, 63));
  for (int64_t k = 0; k < tensor.num_elements(); ++k) tensor.SetInt(k, static_cast<int64_t>(random.Next()) >> shift);
  return tensor;
}

// A network of integers, with quantised floats here and there, whose narrow ends make bits dead.
Graph RandomIntegerGraph(Random& random) {
  GraphBuilder b("random");
  const Shape shape = {2, 3};
  std::vector<ValueId> pool;
  int constants = 0;
  const auto constant = [&](DType type, const Shape& of) {
    return b.Constant("c" + std::to_string(constants++), RandomIntegers(random, type, of));
  };
  const auto any = [&] { return pool[random.Int(0, static_cast<int64_t>(pool.size()) - 1)]; };
  const auto like = [&](ValueId x) {
    const DType type = b.TypeOf(x).dtype;
    if (random.Chance(0.5)) return constant(type, random.Chance(0.5) ? Shape{} : shape);
    const ValueId other = any();
    return b.TypeOf(other).dtype == type ? other : b.Cast(other, type);
  };
  for (int k = 0; k < 2; ++k) {
    pool.push_back(b.Input("x" + std::to_string(k), kIntegers[random.Int(0, 9)], shape));
  }
  const int nodes = static_cast<int>(random.Int(4, 16));
  for (int n = 0; n < nodes; ++n) {
    const ValueId x = any();
    const DType type = b.TypeOf(x).dtype;
    const bool small = TypeInfo(type).bits <= 8;
    ValueId y = x;
    switch (random.Int(0, 19)) {
      case 0: y = b.Add(x, like(x)); break;
      case 1: y = b.Sub(x, like(x)); break;
      case 2: y = b.Mul(x, like(x)); break;
      case 3: y = b.Min(x, like(x)); break;
      case 4: y = b.Max(x, like(x)); break;
      case 5: y = b.And(x, like(x)); break;
      case 6: y = b.Or(x, like(x)); break;
      case 7: y = b.Xor(x, like(x)); break;
      case 8: y = b.Not(x); break;
      case 9: y = IsUnsigned(type) ? b.Div(x, like(x)) : b.Neg(x); break;
      case 10: y = IsUnsigned(type) ? b.Relu(x) : b.Abs(x); break;
      case 11: y = b.Relu(x); break;
      case 12:
      case 13: {
        const double low = static_cast<double>(random.Int(IsUnsigned(type) ? 0 : -20, 7));
        y = b.Clip(x, random.Chance(0.7) ? std::optional<double>(low) : std::nullopt,
                   low + static_cast<double>(random.Int(0, 20)));
        break;
      }
      case 14: y = b.Cast(x, kIntegers[random.Int(0, 9)]); break;
      case 15: y = b.Reshape(b.Transpose(x, {1, 0}), {2, 3}); break;
      case 16: y = b.Where(b.Less(x, like(x)), like(x), x); break;
      case 17: {
        const ValueId other = like(x);
        if (b.ShapeOf(other).rank() == 2) y = b.Slice(b.Concat({x, other}, 0), {1, 0}, {2, 3});
        break;
      }
      case 18:
        if (small && TypeInfo(type).bits == 8) y = b.Matmul(x, constant(DType::kI8, {3, 3}));
        break;
      default: {
        if (TypeInfo(type).bits > 16) break;
        const ValueId s = b.Number(random.Uniform(0.1, 2)), t = b.Number(random.Uniform(0.1, 2));
        ValueId f = b.Dequantize(x, s, ValueId::kNone);
        if (random.Chance(0.5)) f = b.Relu(f);
        if (random.Chance(0.3)) f = b.Clip(f, -1.3, 6);
        if (random.Chance(0.3)) f = b.Reshape(f, {2, 3});
        const DType to = kIntegers[std::vector<int>{0, 1, 8, 9}[random.Int(0, 3)]];
        y = b.Quantize(f, random.Chance(0.5) ? s : t, ValueId::kNone, to);
        if (random.Chance(0.2)) b.Output(f);
      }
    }
    if (y != x) pool.push_back(y);
  }
  b.Output(pool.back());
  for (int k = 0; k < 2; ++k) {
    const ValueId y = any();
    if (random.Chance(0.6)) b.Output(b.Cast(y, random.Chance(0.5) ? DType::kI4 : DType::kU8));
  }
  Graph graph = Built(std::move(b));
  RemoveDeadNodes(graph);
  return graph;
}

TEST(BitsTest, StoringEveryTensorAtItsWidthChangesNoBitOfARandomIntegerGraph) {
  int narrowed = 0, total = 0;
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    Random random(seed);
    const Graph graph = RandomIntegerGraph(random);
    const BitReport report = Bits(graph);
    for (int run = 0; run < 3; ++run) {
      std::vector<Tensor> inputs;
      for (ValueId id : graph.inputs) {
        inputs.push_back(RandomIntegers(random, graph[id].type.dtype, graph[id].type.shape));
      }
      ASSERT_EQ(Differences(graph, report, inputs), 0) << "seed " << seed;
    }
    for (const ValueBits& b : report.values) {
      ++total;
      narrowed += b.bits < b.known;
      ASSERT_LE(b.bits, b.known);
      ASSERT_LE(b.bits, b.read);
    }
  }
  // The readers, not the values, make at least a sixth of the tensors narrower.
  EXPECT_GT(narrowed * 6, total);
}

// One bit less of one tensor, and the test above would have failed: widths are not merely safe.
TEST(BitsTest, WidthsAreNotLoose) {
  int tight = 0, tried = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Random random(seed);
    const Graph graph = RandomIntegerGraph(random);
    const BitReport report = Bits(graph);
    std::vector<std::vector<Tensor>> inputs(8);
    for (std::vector<Tensor>& row : inputs) {
      for (ValueId id : graph.inputs) {
        row.push_back(RandomIntegers(random, graph[id].type.dtype, graph[id].type.shape));
      }
    }
    const size_t v = random.Int(0, static_cast<int64_t>(report.values.size()) - 1);
    if (report.values[v].bits == 0 || report.values[v].grid || !IsInteger(graph.values[v].type.dtype)) continue;
    BitReport less = report;
    less.values[v].bits -= 1;
    less.values[v].saturates = false;
    ++tried;
    tight += std::any_of(inputs.begin(), inputs.end(),
                         [&](const std::vector<Tensor>& row) { return Differences(graph, less, row) != 0; });
  }
  EXPECT_GT(tight * 2, tried) << tight << " of " << tried;
}

// Every op of the table, any types: widths never change a result.
TEST(BitsTest, EveryOpAlone) {
  for (const OpDef& def : AllOps()) {
    for (uint64_t seed = 1; seed <= 30; ++seed) {
      std::mt19937_64 rng(seed);
      RandomCase c = RandomNode(def.op, rng);
      if (seed % 2 == 0) AddRandomEpilogue(c, rng);
      const BitReport report = Bits(c.graph);
      const std::vector<RefTensor> plain = *Interpret(c.graph, c.inputs);
      const std::vector<RefTensor> stored = RunStored(c.graph, report, c.inputs);
      for (size_t k = 0; k < c.graph.outputs.size(); ++k) {
        const RefTensor& other = stored[Index(c.graph.outputs[k])];
        for (int64_t e = 0; e < plain[k].size(); ++e) {
          if (plain[k].is_float()) {
            const bool both_nan = std::isnan(plain[k].f[e]) && std::isnan(other.f[e]);
            ASSERT_TRUE(both_nan || plain[k].f[e] == other.f[e]) << def.name << " seed " << seed;
          } else {
            ASSERT_EQ(plain[k].i[e], other.i[e]) << def.name << " seed " << seed;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tessera
