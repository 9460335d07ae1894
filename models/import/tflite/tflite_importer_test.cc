// Small TFLite models, written here with the schema's object API, against numbers worked out by hand.
#include "models/import/tflite/tflite_importer.h"

#include <cmath>

#include <cmath>

#include "graph/interpreter.h"
#include "gtest/gtest.h"
#include "models/import/import.h"
#include "models/import/tflite/testing/tflite_model.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::vector<double> Output(const std::string& bytes, const std::vector<Tensor>& inputs) {
  StatusOr<ImportResult> result = ImportModelFromBytes(bytes, "m.tflite");
  EXPECT_OK(result);
  if (!result.ok()) return {};
  StatusOr<std::vector<RefTensor>> outputs = Interpret(result->graph, inputs);
  EXPECT_OK(outputs);
  if (!outputs.ok()) return {};
  const Tensor tensor = (*outputs)[0].ToTensor();
  std::vector<double> values;
  for (int64_t i = 0; i < tensor.num_elements(); ++i) values.push_back(tensor.Get(i));
  return values;
}

const Tensor kTwo = Tensor::FromVector<float>({1, 2}, {-1, 3});

TEST(TfliteImporterTest, ElementwiseWithFusedActivation) {
  TfliteModel m;
  const int x = m.Input({1, 2}), c = m.Floats({2}, {2, 10});
  tfl::AddOptionsT options;
  options.fused_activation_function = tfl::Activation::RELU6;
  const int y = m.Op(tfl::BuiltinOperator::ADD, {x, c}, {1, 2}, kFloat, tfl::BuiltinOptions::AddOptions, options);
  EXPECT_EQ(Output(m.Bytes({y}), {kTwo}), (std::vector<double>{1, 6}));
}

TEST(TfliteImporterTest, ConvolutionIsChannelsLastWithSamePadding) {
  // A 2x2 box over 3x3 of ones, two output channels (sum, and twice the sum), stride 1, SAME: pads at the end.
  TfliteModel m;
  const int x = m.Input({1, 3, 3, 1}), w = m.Floats({2, 2, 2, 1}, {1, 1, 1, 1, 2, 2, 2, 2}), b = m.Floats({2}, {0, 1});
  tfl::Conv2DOptionsT options;
  options.stride_h = options.stride_w = 1;
  const int y =
      m.Op(tfl::BuiltinOperator::CONV_2D, {x, w, b}, {1, 3, 3, 2}, kFloat, tfl::BuiltinOptions::Conv2DOptions, options);
  EXPECT_EQ(Output(m.Bytes({y}), {Tensor::Full(DType::kF32, {1, 3, 3, 1}, 1)}),
            (std::vector<double>{4, 9, 4, 9, 2, 5, 4, 9, 4, 9, 2, 5, 2, 5, 2, 5, 1, 3}));
}

TEST(TfliteImporterTest, DepthwiseConvolutionAndPooling) {
  TfliteModel m;
  const int x = m.Input({1, 2, 2, 2}), w = m.Floats({1, 1, 1, 2}, {10, 100});
  tfl::DepthwiseConv2DOptionsT options;
  options.stride_h = options.stride_w = 1;
  options.padding = tfl::Padding::VALID;
  const int d = m.Op(tfl::BuiltinOperator::DEPTHWISE_CONV_2D, {x, w}, {1, 2, 2, 2}, kFloat,
                     tfl::BuiltinOptions::DepthwiseConv2DOptions, options);
  tfl::Pool2DOptionsT pool;
  pool.stride_h = pool.stride_w = pool.filter_height = pool.filter_width = 2;
  const int y =
      m.Op(tfl::BuiltinOperator::MAX_POOL_2D, {d}, {1, 1, 1, 2}, kFloat, tfl::BuiltinOptions::Pool2DOptions, pool);
  EXPECT_EQ(Output(m.Bytes({y}), {Tensor::FromVector<float>({1, 2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8})}),
            (std::vector<double>{70, 800}));
}

TEST(TfliteImporterTest, FullyConnectedReshapeSoftmaxMean) {
  TfliteModel m;
  const int x = m.Input({1, 2, 1}), w = m.Floats({3, 2}, {1, 0, 0, 1, 1, 1});
  const int f = m.Op(tfl::BuiltinOperator::FULLY_CONNECTED, {x, w}, {1, 3}, kFloat,
                     tfl::BuiltinOptions::FullyConnectedOptions, tfl::FullyConnectedOptionsT{});
  const int r = m.Op(tfl::BuiltinOperator::RESHAPE, {f, m.Ints({3, -1})}, {3, 1});
  tfl::ReducerOptionsT keep;
  const int y =
      m.Op(tfl::BuiltinOperator::SUM, {r, m.Ints({-1})}, {3}, kFloat, tfl::BuiltinOptions::ReducerOptions, keep);
  EXPECT_EQ(Output(m.Bytes({y}), {Tensor::FromVector<float>({1, 2, 1}, {-1, 3})}), (std::vector<double>{-1, 3, 2}));
}

TEST(TfliteImporterTest, StridedSliceMasks) {
  TfliteModel m;
  const int x = m.Input({2, 4});
  tfl::StridedSliceOptionsT options;
  options.end_mask = 2;
  options.shrink_axis_mask = 1;
  const int y = m.Op(tfl::BuiltinOperator::STRIDED_SLICE, {x, m.Ints({-1, 1}), m.Ints({0, 0}), m.Ints({1, 2})}, {2},
                     kFloat, tfl::BuiltinOptions::StridedSliceOptions, options);
  EXPECT_EQ(Output(m.Bytes({y}), {Tensor::FromVector<float>({2, 4}, {0, 1, 2, 3, 4, 5, 6, 7})}),
            (std::vector<double>{5, 7}));
}

TEST(TfliteImporterTest, QuantizedTensorsBecomeEdges) {
  TfliteModel m;
  const int x = m.Input({1, 2}, tfl::TensorType::INT8);
  m.Quantize(x, 0.5, -1);
  const int y = m.Op(tfl::BuiltinOperator::ADD, {x, x}, {1, 2}, tfl::TensorType::INT8);
  m.Quantize(y, 2, 3);
  const int moved = m.Op(tfl::BuiltinOperator::RESHAPE, {y, m.Ints({2, 1})}, {2, 1}, tfl::TensorType::INT8);
  m.Quantize(moved, 2, 3);
  const std::string bytes = m.Bytes({moved});
  // (5 + 1) · 0.5 = 3, twice is 6, / 2 + 3 = 6; (-3 + 1) · 0.5 = -1, twice is -2, / 2 + 3 = 2.
  EXPECT_EQ(Output(bytes, {Tensor::FromVector<int8_t>({1, 2}, {5, -3})}), (std::vector<double>{6, 2}));
  ASSERT_OK_AND_ASSIGN(const ImportResult result, ImportModelFromBytes(bytes, "m.tflite"));
  const Graph& graph = result.graph;
  EXPECT_EQ(*graph[graph.outputs[0]].quant, (QuantParams{.scales = {2}, .zero_points = {3}}));
  EXPECT_EQ(*graph[graph.inputs[0]].quant, (QuantParams{.scales = {0.5}, .zero_points = {-1}}));
  // One dequantisation for both uses; the reshape moves integers.
  EXPECT_EQ(graph.nodes.size(), 4u);
}

// A [2, 4] weight that keeps 5 at (0, 1), 6 at (1, 0) and 7 at (1, 3), as dense rows of compressed columns.
int SparseWeight(TfliteModel& m) {
  const int w = m.Floats({2, 4}, {5, 6, 7});
  auto sparsity = std::make_unique<tfl::SparsityParametersT>();
  sparsity->traversal_order = {0, 1};
  auto rows = std::make_unique<tfl::DimensionMetadataT>(), columns = std::make_unique<tfl::DimensionMetadataT>();
  rows->dense_size = 2;
  columns->format = tfl::DimensionType::SPARSE_CSR;
  tfl::Int32VectorT segments;
  segments.values = {0, 1, 3};
  columns->array_segments.Set(std::move(segments));
  tfl::Uint8VectorT indices;
  indices.values = {1, 0, 3};
  columns->array_indices.Set(std::move(indices));
  sparsity->dim_metadata.push_back(std::move(rows));
  sparsity->dim_metadata.push_back(std::move(columns));
  m.tensor(w).sparsity = std::move(sparsity);
  return w;
}

TEST(TfliteImporterTest, SparseWeightsStayDeclared) {
  TfliteModel m;
  const int x = m.Input({1, 4}), w = SparseWeight(m);
  const int dense = m.Op(tfl::BuiltinOperator::DENSIFY, {w}, {2, 4});
  const int y = m.Op(tfl::BuiltinOperator::FULLY_CONNECTED, {x, dense}, {1, 2}, kFloat,
                     tfl::BuiltinOptions::FullyConnectedOptions, tfl::FullyConnectedOptionsT{});
  const std::string bytes = m.Bytes({y});
  EXPECT_EQ(Output(bytes, {Tensor::FromVector<float>({1, 4}, {1, 10, 100, 1000})}), (std::vector<double>{50, 7006}));
  ASSERT_OK_AND_ASSIGN(const ImportResult result, ImportModelFromBytes(bytes, "m.tflite"));
  ASSERT_EQ(result.tensors.size(), 1u);
  EXPECT_THAT(result.tensors[0].declared, HasSubstr("SparsityParameters, 37.5% kept"));
  const Graph& graph = result.graph;
  ASSERT_TRUE(graph[graph.nodes[0].inputs[1]].tesa.has_value());
  EXPECT_EQ(graph[graph.nodes[0].inputs[1]].tesa->num_kept(), 3);
}

TEST(TfliteImporterTest, BrokenSparsityIsRefused) {
  for (int fault = 0; fault < 8; ++fault) {
    TfliteModel m;
    const int x = m.Input({1, 4}), w = SparseWeight(m);
    tfl::SparsityParametersT& sparsity = *m.tensor(w).sparsity;
    tfl::DimensionMetadataT& columns = *sparsity.dim_metadata[1];
    switch (fault) {
      case 0: sparsity.traversal_order = {0, 0}; break;
      case 1: sparsity.traversal_order = {0, 7}; break;
      case 2: sparsity.dim_metadata.pop_back(); break;
      case 3: sparsity.dim_metadata[0]->dense_size = 3; break;
      case 4: columns.array_segments.AsInt32Vector()->values = {0, 5, 3}; break;
      case 5: columns.array_segments.AsInt32Vector()->values = {0, 1, 4}; break;
      case 6: columns.array_indices.AsUint8Vector()->values = {1, 0, 4}; break;
      default: sparsity.block_map = {0, 1}; break;
    }
    const int y = m.Op(tfl::BuiltinOperator::FULLY_CONNECTED, {x, w}, {1, 2}, kFloat,
                       tfl::BuiltinOptions::FullyConnectedOptions, tfl::FullyConnectedOptionsT{});
    EXPECT_THAT(ImportModelFromBytes(m.Bytes({y}), "m.tflite"),
                StatusIs(ErrorCode::kFileCorrupt, HasSubstr("tensor 't1'")))
        << fault;
  }
}

TEST(TfliteImporterTest, ElementwiseNumbers) {
  using B = tfl::BuiltinOperator;
  const struct {
    B op;
    double (*f)(double);
  } unary[] = {{B::RELU_N1_TO_1, [](double v) { return std::fmin(1, std::fmax(-1, v)); }},
               {B::RELU_0_TO_1, [](double v) { return std::fmin(1, std::fmax(0, v)); }},
               {B::RELU6, [](double v) { return std::fmin(6, std::fmax(0, v)); }},
               {B::HARD_SWISH, [](double v) { return v * std::fmin(6, std::fmax(0, v + 3)) / 6; }},
               {B::RSQRT, [](double v) { return 1 / std::sqrt(v); }},
               {B::SQUARE, [](double v) { return v * v; }},
               {B::LOGISTIC, [](double v) { return 1 / (1 + std::exp(-v)); }},
               {B::TANH, [](double v) { return std::tanh(v); }},
               {B::ABS, [](double v) { return std::fabs(v); }},
               {B::FLOOR, [](double v) { return std::floor(v); }}};
  const struct {
    B op;
    double (*f)(double, double);
  } binary[] = {{B::SUB, [](double a, double b) { return a - b; }},
                {B::MUL, [](double a, double b) { return a * b; }},
                {B::DIV, [](double a, double b) { return a / b; }},
                {B::MAXIMUM, [](double a, double b) { return std::fmax(a, b); }},
                {B::MINIMUM, [](double a, double b) { return std::fmin(a, b); }},
                {B::SQUARED_DIFFERENCE, [](double a, double b) { return (a - b) * (a - b); }},
                {B::FLOOR_DIV, [](double a, double b) { return std::floor(a / b); }}};
  const Tensor a = Tensor::FromVector<float>({1, 3}, {0.25, 2.5, 7}),
               b = Tensor::FromVector<float>({1, 3}, {3, 1.5, 2});
  for (const auto& row : unary) {
    TfliteModel m;
    const int x = m.Input({1, 3});
    const std::vector<double> y = Output(m.Bytes({m.Op(row.op, {x}, {1, 3})}), {a});
    ASSERT_EQ(y.size(), 3u);
    for (int k = 0; k < 3; ++k) EXPECT_NEAR(y[k], row.f(a.Get(k)), 1e-6) << tfl::EnumNameBuiltinOperator(row.op);
  }
  for (const auto& row : binary) {
    TfliteModel m;
    const int x = m.Input({1, 3}), z = m.Input({1, 3});
    const std::vector<double> y = Output(m.Bytes({m.Op(row.op, {x, z}, {1, 3})}), {a, b});
    ASSERT_EQ(y.size(), 3u);
    for (int k = 0; k < 3; ++k) {
      EXPECT_NEAR(y[k], row.f(a.Get(k), b.Get(k)), 1e-6) << tfl::EnumNameBuiltinOperator(row.op);
    }
  }
}

// Walks models/import/tflite/tflite_ops.def: operands of no use to most operators and no options, which every handler
// must answer with a graph or with an error that names the node.
TEST(TfliteImporterTest, EveryRowAnswersWhateverItIsGiven) {
  const struct {
    tfl::BuiltinOperator op;
    int operands;
  } rows[] = {
#define TES_TFLITE_OP(op, min_inputs, max_inputs, handler) {tfl::BuiltinOperator::op, min_inputs},
#include "models/import/tflite/tflite_ops.def"
#undef TES_TFLITE_OP
  };
  for (const auto& row : rows) {
    for (const std::vector<int>& shape : {std::vector<int>{}, {3}, {1, 2, 2, 1}, {0, 2}}) {
      for (tfl::TensorType type : {kFloat, tfl::TensorType::INT32, tfl::TensorType::BOOL}) {
        for (bool constant : {false, true}) {
          TfliteModel m;
          std::vector<int> operands;
          int64_t count = 1;
          for (int extent : shape) count *= extent;
          for (int k = 0; k < row.operands; ++k) {
            const bool fixed = constant && k > 0;
            operands.push_back(fixed ? m.Constant(shape, std::vector<int32_t>(count, 1), tfl::TensorType::INT32)
                                     : m.Input(shape, type));
          }
          const int y = m.Op(row.op, operands, shape, type);
          StatusOr<ImportResult> result = ImportModelFromBytes(m.Bytes({y}), "m.tflite");
          if (!result.ok()) {
            EXPECT_THAT(result.status().message(), HasSubstr("node '"))
                << tfl::EnumNameBuiltinOperator(row.op) << ": " << result.status();
          }
        }
      }
    }
  }
}

TEST(TfliteImporterTest, ReportsAllMissingOperatorsAtOnce) {
  TfliteModel m;
  const int x = m.Input({1, 2});
  const int a = m.Op(tfl::BuiltinOperator::SVDF, {x}, {1, 2});
  const int b = m.Op(tfl::BuiltinOperator::WHILE, {a}, {1, 2});
  EXPECT_THAT(ImportModelFromBytes(m.Bytes({b}), "m.tflite"),
              StatusIs(ErrorCode::kOpUnknown, AllOf(HasSubstr("2 operators"),
                                                    HasSubstr("SVDF (version 1) at node 't1'"), HasSubstr("WHILE"))));
}

TEST(TfliteImporterTest, RefusesBrokenModels) {
  const auto fails = [](TfliteModel& m, std::vector<int> outputs, ErrorCode code, const std::string& says) {
    EXPECT_THAT(ImportModelFromBytes(m.Bytes(std::move(outputs)), "m.tflite"), StatusIs(code, HasSubstr(says)));
  };
  TfliteModel cyclic, index, buffer, bytes, twice, version, operands, options;
  int x = cyclic.Input({1, 2});
  int y = cyclic.Op(tfl::BuiltinOperator::ADD, {x, 2}, {1, 2});
  y = cyclic.Op(tfl::BuiltinOperator::RELU, {y}, {1, 2});
  fails(cyclic, {y}, ErrorCode::kGraphInvalid, "cycle");
  x = index.Input({1, 2});
  y = index.Op(tfl::BuiltinOperator::RELU, {77}, {1, 2});
  fails(index, {y}, ErrorCode::kFileCorrupt, "tensor 77");
  x = buffer.Input({1, 2});
  y = buffer.Op(tfl::BuiltinOperator::RELU, {x}, {1, 2});
  buffer.tensor(y).buffer = 99;
  fails(buffer, {y}, ErrorCode::kFileCorrupt, "buffer 99");
  x = bytes.Input({1, 2});
  y = bytes.Op(tfl::BuiltinOperator::ADD, {x, bytes.Floats({1, 2}, {1})}, {1, 2});
  fails(bytes, {y}, ErrorCode::kFileCorrupt, "expected 8 bytes");
  x = twice.Input({1, 2});
  y = twice.Op(tfl::BuiltinOperator::RELU, {x}, {1, 2});
  fails(twice, {y, y}, ErrorCode::kGraphInvalid, "twice");
  x = version.Input({1, 2});
  version.model().version = 4;
  fails(version, {x}, ErrorCode::kVersionUnsupported, "version 3");
  x = operands.Input({1, 2});
  y = operands.Op(tfl::BuiltinOperator::ADD, {x}, {1, 2});
  fails(operands, {y}, ErrorCode::kGraphInvalid, "expected 2 to 2 operands");
  x = options.Input({1, 2, 2, 1});
  y = options.Op(tfl::BuiltinOperator::MAX_POOL_2D, {x}, {1, 1, 1, 1});
  fails(options, {y}, ErrorCode::kAttributeInvalid, "options");
}

}  // namespace
}  // namespace tessera
