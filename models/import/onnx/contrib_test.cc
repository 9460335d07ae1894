// ONNX Runtime's own operators against the standard operators that they stand for, and MatMulNBits against plain loops.
// tests/e2e/quantized_files_test.py holds whole files that its quantiser writes against ONNX Runtime itself.
#include <cmath>

#include "graph/interpreter.h"
#include "gtest/gtest.h"
#include "models/import/import.h"
#include "models/import/onnx/testing/onnx_model.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

constexpr char kMs[] = "com.microsoft";

std::vector<double> Results(const OnnxModel& model, const std::vector<Tensor>& inputs) {
  StatusOr<ImportResult> result = ImportModelFromBytes(model.Bytes(), "test.onnx", {});
  EXPECT_OK(result);
  if (!result.ok()) return {};
  StatusOr<std::vector<RefTensor>> outputs = Interpret(result->graph, inputs);
  EXPECT_OK(outputs);
  std::vector<double> values;
  for (int64_t k = 0; k < (*outputs)[0].size(); ++k) {
    values.push_back((*outputs)[0].is_float() ? (*outputs)[0].f[k] : static_cast<double>((*outputs)[0].i[k]));
  }
  return values;
}

void ExpectSame(const OnnxModel& ours, const OnnxModel& plain, const std::vector<Tensor>& inputs) {
  const std::vector<double> a = Results(ours, inputs), b = Results(plain, inputs);
  ASSERT_EQ(a.size(), b.size());
  ASSERT_FALSE(a.empty());
  for (size_t k = 0; k < a.size(); ++k) EXPECT_NEAR(a[k], b[k], 1e-6 * (1 + std::fabs(b[k]))) << k;
}

Tensor Bytes(Random& random, const Shape& shape) {
  Tensor tensor(DType::kU8, shape);
  for (int64_t k = 0; k < tensor.num_elements(); ++k) tensor.SetInt(k, random.Int(0, 255));
  return tensor;
}

// Scales "s0" … and zero points "z0" … of three tensors; a and b are inputs.
OnnxModel Operands(const Shape& a, const Shape& b, DType b_type = DType::kU8) {
  OnnxModel m(17);
  m.Input("a", DType::kU8, a.dims()).Input("b", b_type, b.dims());
  for (int k = 0; k < 3; ++k) {
    m.Constant("s" + std::to_string(k), Tensor::Full(DType::kF32, {}, 0.02 * (k + 1)));
    m.Constant("z" + std::to_string(k),
               Tensor::Full(k == 1 ? b_type : DType::kU8, {}, b_type == DType::kU8 ? 100 + 7 * k : 3));
  }
  return m;
}

TEST(ContribTest, QuantisedArithmetic) {
  Random random(1);
  const std::vector<Tensor> inputs = {Bytes(random, {2, 3, 4}), Bytes(random, {3, 4})};
  for (const char* op : {"Add", "Mul"}) {
    OnnxModel m = Operands({2, 3, 4}, {3, 4}), plain = m;
    m.Node(std::string("QLinear") + op, {"a", "s0", "z0", "b", "s1", "z1", "s2", "z2"}, {"y"}).Domain(kMs).Output("y");
    plain.Node("DequantizeLinear", {"a", "s0", "z0"}, {"x0"}).Node("DequantizeLinear", {"b", "s1", "z1"}, {"x1"});
    plain.Node(op, {"x0", "x1"}, {"x2"}).Node("QuantizeLinear", {"x2", "s2", "z2"}, {"y"}).Output("y");
    ExpectSame(m, plain, inputs);
  }
}

TEST(ContribTest, QuantisedFunctionsOfOneTensor) {
  Random random(2);
  const std::vector<Tensor> inputs = {Bytes(random, {1, 3, 4, 6}), Bytes(random, {1, 2, 4, 6})};
  for (const char* op : {"Sigmoid", "LeakyRelu", "Softmax", "GlobalAveragePool", "AveragePool"}) {
    OnnxModel m = Operands({1, 3, 4, 6}, {1, 2, 4, 6}), plain = m;
    m.Node(std::string("QLinear") + op, {"a", "s0", "z0", "s2", "z2"}, {"y"}).Domain(kMs);
    plain.Node("DequantizeLinear", {"a", "s0", "z0"}, {"x0"}).Node(op, {"x0"}, {"x1"});
    for (OnnxModel* model : {&m, &plain}) {
      if (op == std::string("LeakyRelu")) model->Float("alpha", 0.3f);
      if (op == std::string("Softmax")) model->Int("axis", 2);
      if (op == std::string("AveragePool")) model->Ints("kernel_shape", {3, 2}).Ints("pads", {1, 1, 1, 0});
    }
    plain.Node("QuantizeLinear", {"x1", "s2", "z2"}, {"y"});
    ExpectSame(m.Output("y"), plain.Output("y"), inputs);
  }
  OnnxModel m = Operands({1, 3, 4, 6}, {1, 2, 4, 6}), plain = m;
  m.Node("QLinearConcat", {"s2", "z2", "a", "s0", "z0", "b", "s1", "z1"}, {"y"}).Domain(kMs).Int("axis", 1);
  plain.Node("DequantizeLinear", {"a", "s0", "z0"}, {"x0"}).Node("DequantizeLinear", {"b", "s1", "z1"}, {"x1"});
  plain.Node("Concat", {"x0", "x1"}, {"x2"}).Int("axis", 1).Node("QuantizeLinear", {"x2", "s2", "z2"}, {"y"});
  ExpectSame(m.Output("y"), plain.Output("y"), inputs);
}

TEST(ContribTest, QuantisedProducts) {
  Random random(3);
  const std::vector<Tensor> inputs = {Bytes(random, {5, 7}), RandomTensorIn(random, {DType::kI8, {4, 7}}, -127, 127)};
  const Tensor bias = RandomTensorIn(random, {DType::kI32, {4}}, -5000, 5000);
  for (bool real : {false, true}) {
    OnnxModel m = Operands({5, 7}, {4, 7}, DType::kI8), plain = m;
    m.Constant("c", bias);
    std::vector<std::string> operands = {"a", "s0", "z0", "b", "s1", "z1", "c"};
    if (!real) operands.insert(operands.end(), {"s2", "z2"});
    m.Node("QGemm", operands, {"y"}).Domain(kMs).Int("transB", 1).Float("alpha", 0.5f).Output("y");
    Tensor real_bias(DType::kF32, {4});
    for (int64_t k = 0; k < 4; ++k) real_bias.Set(k, static_cast<double>(bias.GetInt(k)) * 0.02 * 0.04 * 0.5);
    plain.Constant("c", real_bias);
    plain.Node("DequantizeLinear", {"a", "s0", "z0"}, {"x0"}).Node("DequantizeLinear", {"b", "s1", "z1"}, {"x1"});
    plain.Node("Gemm", {"x0", "x1", "c"}, {real ? "y" : "x2"}).Int("transB", 1).Float("alpha", 0.5f);
    if (!real) plain.Node("QuantizeLinear", {"x2", "s2", "z2"}, {"y"});
    ExpectSame(m, plain.Output("y"), inputs);
  }
}

TEST(ContribTest, ProductsWithRangesFoundOnTheWay) {
  Random random(4);
  const Tensor w = RandomTensorIn(random, {DType::kI8, {7, 4}}, -127, 127);
  const Tensor scale = RandomTensorIn(random, {DType::kF32, {4}}, 0.01, 0.05);
  const Tensor bias = RandomTensor(random, {DType::kF32, {4}});
  OnnxModel m(17);
  m.Input("x", DType::kF32, {5, 7}).Constant("w", w).Constant("ws", scale).Constant("bias", bias);
  m.Constant("wz", Tensor(DType::kI8, {4}));
  OnnxModel plain = m, half = m;
  m.Node("DynamicQuantizeMatMul", {"x", "w", "ws", "wz", "bias"}, {"y"}).Domain(kMs).Output("y");
  plain.Node("DynamicQuantizeLinear", {"x"}, {"q", "qs", "qz"}).Node("MatMulInteger", {"q", "w", "qz", "wz"}, {"sum"});
  plain.Node("Cast", {"sum"}, {"real"}).Int("to", 1).Node("Mul", {"qs", "ws"}, {"scale"});
  plain.Node("Mul", {"real", "scale"}, {"scaled"}).Node("Add", {"scaled", "bias"}, {"y"}).Output("y");
  half.Node("DynamicQuantizeLinear", {"x"}, {"q", "qs", "qz"});
  half.Node("MatMulIntegerToFloat", {"q", "w", "qs", "ws", "qz", "wz", "bias"}, {"y"}).Domain(kMs).Output("y");
  const std::vector<Tensor> inputs = {RandomTensor(random, {DType::kF32, {5, 7}})};
  ExpectSame(m, plain, inputs);
  ExpectSame(half, plain, inputs);
}

TEST(ContribTest, FusedForms) {
  Random random(5);
  const Tensor x = RandomTensor(random, {DType::kF32, {1, 3, 5, 5}}),
               z = RandomTensor(random, {DType::kF32, {1, 4, 5, 5}});
  for (const char* activation : {"Relu", "Tanh", "Sigmoid", ""}) {
    OnnxModel m(17);
    m.Input("x", DType::kF32, {1, 3, 5, 5}).Input("z", DType::kF32, {1, 4, 5, 5});
    m.Constant("w", RandomTensor(random, {DType::kF32, {4, 3, 1, 1}}));
    m.Constant("b", RandomTensor(random, {DType::kF32, {4}}));
    OnnxModel plain = m;
    m.Node("FusedConv", {"x", "w", "b", "z"}, {"y"}).Domain(kMs);
    plain.Node("Conv", {"x", "w", "b"}, {"c"}).Node("Add", {"c", "z"}, {"s"});
    plain.Node(*activation == '\0' ? "Identity" : activation, {"s"}, {"y"});
    if (*activation != '\0') m.String("activation", activation);
    ExpectSame(m.Output("y"), plain.Output("y"), {x, z});
  }
  OnnxModel m(20);
  m.Input("x", DType::kF32, {2, 4, 3}).Input("z", DType::kF32, {2, 5, 3}).Input("b", DType::kF32, {5});
  OnnxModel plain = m;
  m.Node("FusedMatMul", {"x", "z"}, {"p"}).Domain(kMs).Int("transB", 1).Float("alpha", 0.25f);
  m.Node("BiasGelu", {"p", "b"}, {"y"}).Domain(kMs);
  plain.Constant("quarter", Tensor::Full(DType::kF32, {}, 0.25)).Node("Transpose", {"z"}, {"t"});
  plain.Ints("perm", {0, 2, 1}).Node("MatMul", {"x", "t"}, {"p"}).Node("Mul", {"p", "quarter"}, {"q"});
  plain.Node("Add", {"q", "b"}, {"s"}).Node("Gelu", {"s"}, {"y"});
  ExpectSame(m.Output("y"), plain.Output("y"),
             {RandomTensor(random, {DType::kF32, {2, 4, 3}}), RandomTensor(random, {DType::kF32, {2, 5, 3}}),
              RandomTensor(random, {DType::kF32, {5}})});
}

TEST(ContribTest, WeightsOfFewBits) {
  Random random(6);
  const int64_t k = 37, n = 5, block = 16, blocks = 3;
  for (int64_t bits : {4, 8}) {
    for (bool shifted : {false, true}) {
      const Tensor packed = Bytes(random, {n, blocks, block * bits / 8});
      const Tensor scales = RandomTensorIn(random, {DType::kF32, {n * blocks}}, 0.01, 0.1);
      const int64_t row_bytes = (blocks * bits + 7) / 8;
      const Tensor points = Bytes(random, {n * row_bytes});
      const Tensor x = RandomTensor(random, {DType::kF32, {2, k}});
      OnnxModel m(17);
      m.Input("x", DType::kF32, {2, k}).Constant("w", packed).Constant("s", scales).Constant("z", points);
      std::vector<std::string> operands = {"x", "w", "s"};
      if (shifted) operands.push_back("z");
      m.Node("MatMulNBits", operands, {"y"}).Domain(kMs).Int("K", k).Int("N", n).Int("bits", bits);
      m.Int("block_size", block).Output("y");
      const std::vector<double> y = Results(m, {x});
      ASSERT_EQ(y.size(), static_cast<size_t>(2 * n));
      const auto integer = [&](const Tensor& bytes, int64_t row, int64_t row_size, int64_t at) {
        const int64_t byte = bytes.GetInt(row * row_size + (bits == 4 ? at / 2 : at));
        return bits == 8 ? byte : at % 2 ? byte >> 4 : byte & 15;
      };
      for (int64_t row = 0; row < 2; ++row) {
        for (int64_t column = 0; column < n; ++column) {
          double sum = 0;
          for (int64_t at = 0; at < k; ++at) {
            const int64_t zero = shifted ? integer(points, column, row_bytes, at / block) : int64_t{1} << (bits - 1);
            sum += x.Get(row * k + at) * scales.Get(column * blocks + at / block) *
                   static_cast<double>(integer(packed, column, blocks * block * bits / 8, at) - zero);
          }
          EXPECT_NEAR(y[static_cast<size_t>(row * n + column)], sum, 1e-5 * (1 + std::fabs(sum))) << bits << shifted;
        }
      }
    }
  }
}

// Attention and MultiHeadAttention against the plain operators, with masks of every form.
TEST(ContribTest, AttentionWithItsProjections) {
  const int64_t batch = 2, positions = 5, heads = 2, depth = 3, width = heads * depth, inputs = 4;
  Random random(5);
  const Tensor x = RandomTensor(random, {DType::kF32, {batch, positions, inputs}}, 1);
  const Tensor w = RandomTensor(random, {DType::kF32, {inputs, 3 * width}}, 0.7);
  const Tensor b = RandomTensor(random, {DType::kF32, {3 * width}}, 0.5);
  const std::vector<int32_t> lengths = {3, 5}, seen = {1, 1, 0, 1, 0, 1, 0, 1, 1, 1};
  struct Case {
    const char* name;
    bool causal = false;
  };
  for (const Case& c : {Case{"none"}, Case{"lengths"}, Case{"seen"}, Case{"none", true}, Case{"seen", true}}) {
    SCOPED_TRACE(c.name);
    const bool masked = c.name != std::string("none"), by_length = c.name == std::string("lengths");
    // What a query may see, in full.
    Tensor addend(DType::kF32, {batch, 1, positions, positions});
    for (int64_t i = 0; i < addend.num_elements(); ++i) {
      const int64_t n = i / (positions * positions), s = i / positions % positions, t = i % positions;
      const bool key = !masked || (by_length ? t < lengths[n] : seen[n * positions + t] != 0);
      addend.Set(i, (key ? 0.0 : -10000.0) + (c.causal && t > s ? -3.4028234663852886e38 : 0.0));
    }
    OnnxModel plain(17), fused(17), parts(17);
    for (OnnxModel* m : {&plain, &fused, &parts}) {
      m->Input("x", DType::kF32, {batch, positions, inputs}).Constant("w", w).Constant("b", b);
      m->Constant("lengths", Tensor::FromVector({batch}, lengths));
      m->Constant("seen", Tensor::FromVector({batch, positions}, seen)).Constant("addend", addend);
    }
    fused.Node("Attention", {"x", "w", "b", masked ? c.name : ""}, {"y"}).Domain(kMs).Int("num_heads", heads);
    fused.Int("unidirectional", c.causal);
    plain.Node("MatMul", {"x", "w"}, {"xw"}).Node("Add", {"xw", "b"}, {"xwb"});
    plain.Node("Split", {"xwb"}, {"q", "k", "v"}).Int("axis", 2);
    plain.Constant("heads", Tensor::FromVector({4}, std::vector<int64_t>{batch, positions, heads, depth}));
    for (const std::string part : {"q", "k", "v"}) {
      plain.Node("Reshape", {part, "heads"}, {part + "r"}).Node("Transpose", {part + "r"}, {part + "t"});
      plain.Ints("perm", part == "k" ? std::vector<int64_t>{0, 2, 3, 1} : std::vector<int64_t>{0, 2, 1, 3});
    }
    plain.Constant("scale", Tensor::Full(DType::kF32, {}, 1 / std::sqrt(3.0)));
    plain.Node("MatMul", {"qt", "kt"}, {"s0"})
        .Node("Mul", {"s0", "scale"}, {"s1"})
        .Node("Add", {"s1", "addend"}, {"s2"});
    plain.Node("Softmax", {"s2"}, {"p"}).Int("axis", 3).Node("MatMul", {"p", "vt"}, {"o"});
    plain.Constant("merged", Tensor::FromVector({3}, std::vector<int64_t>{batch, positions, width}));
    plain.Node("Transpose", {"o"}, {"ot"}).Ints("perm", {0, 2, 1, 3}).Node("Reshape", {"ot", "merged"}, {"y"});
    ExpectSame(fused.Output("y"), plain.Output("y"), {x});
    // The same of three operands, biases inside.
    parts.Node("MatMul", {"x", "w"}, {"xw"}).Node("Split", {"xw"}, {"q", "k", "v"}).Int("axis", 2);
    parts.Node("MultiHeadAttention", {"q", "k", "v", "b", "", "addend"}, {"y"}).Domain(kMs).Int("num_heads", heads);
    ExpectSame(parts.Output("y"), plain, {x});
  }
}

// Queries, keys and values of each head side by side.
TEST(ContribTest, AttentionOfPackedOperands) {
  const int64_t heads = 2, depth = 4;
  Random random(6);
  const Tensor x = RandomTensor(random, {DType::kF32, {1, 3, heads, 3, depth}}, 1);
  OnnxModel packed(17), parts(17);
  for (OnnxModel* m : {&packed, &parts}) m->Input("x", DType::kF32, x.shape().dims());
  packed.Node("MultiHeadAttention", {"x"}, {"y"}).Domain(kMs).Int("num_heads", heads).Output("y");
  parts.Node("Split", {"x"}, {"q5", "k5", "v5"}).Int("axis", 3);
  parts.Constant("shape", Tensor::FromVector({3}, std::vector<int64_t>{1, 3, heads * depth}));
  for (const std::string part : {"q", "k", "v"}) parts.Node("Reshape", {part + "5", "shape"}, {part});
  parts.Node("MultiHeadAttention", {"q", "k", "v"}, {"y"}).Domain(kMs).Int("num_heads", heads).Output("y");
  ExpectSame(packed, parts, {x});
}

TEST(ContribTest, WhatIsNotSupportedIsSaid) {
  using testing::HasSubstr;
  Random random(7);
  OnnxModel pool = Operands({1, 3, 4, 6}, {1, 2, 4, 6});
  pool.Node("QLinearGlobalAveragePool", {"a", "s0", "z0", "s2", "z2"}, {"y"}).Domain(kMs).Int("channels_last", 1);
  EXPECT_THAT(ImportModelFromBytes(pool.Output("y").Bytes(), "m.onnx", {}),
              StatusIs(ErrorCode::kOpUnsupported, HasSubstr("channels_last")));
  for (const auto& [name, value, code] : {std::tuple{"bits", 3, ErrorCode::kOpUnsupported},
                                          {"K", -1, ErrorCode::kAttributeInvalid},
                                          {"K", 1000, ErrorCode::kShapeMismatch},
                                          {"block_size", 0, ErrorCode::kAttributeInvalid},
                                          {"N", 1 << 24, ErrorCode::kShapeMismatch}}) {
    OnnxModel m(17);
    m.Input("x", DType::kF32, {2, 32}).Constant("w", Bytes(random, {3, 1, 16}));
    m.Constant("s", Tensor::Full(DType::kF32, {3}, 1)).Node("MatMulNBits", {"x", "w", "s"}, {"y"}).Domain(kMs);
    for (const auto& [other, good] : {std::pair{"bits", 4}, {"K", 32}, {"block_size", 32}, {"N", 3}}) {
      m.Int(other, std::string(other) == name ? value : good);
    }
    EXPECT_THAT(ImportModelFromBytes(m.Output("y").Bytes(), "m.onnx", {}), StatusIs(code, HasSubstr("MatMulNBits")));
  }
  for (const auto& [inputs, heads, code, text] :
       {std::tuple{std::vector<std::string>{"x", "w", "", "", "x"}, 2, ErrorCode::kOpUnsupported, "earlier calls"},
        {{"x", "w"}, 0, ErrorCode::kAttributeInvalid, "num_heads"},
        {{"x", "w"}, 5, ErrorCode::kShapeMismatch, "of 5 heads"},
        {{"x", "w", "", "x"}, 2, ErrorCode::kOpUnsupported, "expected a mask"}}) {
    OnnxModel m(17);
    m.Input("x", DType::kF32, {1, 3, 4}).Constant("w", Tensor::Full(DType::kF32, {4, 12}, 1));
    m.Node("Attention", inputs, {"y"}).Domain(kMs).Int("num_heads", heads);
    EXPECT_THAT(ImportModelFromBytes(m.Output("y").Bytes(), "m.onnx", {}), StatusIs(code, HasSubstr(text)));
  }
}

}  // namespace
}  // namespace tessera
