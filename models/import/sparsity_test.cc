#include "models/import/sparsity.h"

#include "gtest/gtest.h"
#include "models/import/onnx/testing/onnx_model.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

// A weight [8, 6] of which `kept` elements are not zero.
Tensor Weight(const std::vector<uint8_t>& kept) {
  Random random(5);
  Tensor w = RandomTensor(random, {DType::kF32, {8, 6}});
  for (size_t k = 0; k < kept.size(); ++k) {
    if (kept[k] == 0) w.Set(static_cast<int64_t>(k), 0);
  }
  return w;
}

std::vector<uint8_t> EveryThird() {
  std::vector<uint8_t> kept(48);
  for (size_t k = 0; k < kept.size(); ++k) kept[k] = k * 7 % 3 == 0;
  return kept;
}

OnnxModel Model(const Tensor& w) {
  OnnxModel m;
  m.Input("x", DType::kF32, {2, 8}).Constant("w", w).Node("MatMul", {"x", "w"}, {"y"}).Output("y");
  return m;
}

// The value that the matmul reads, and the row of the report about it.
struct Annotated {
  Value weight;
  TensorReport report;
};

Annotated Import(const OnnxModel& model, const ImportOptions& options = {}) {
  StatusOr<ImportResult> result = ImportModelFromBytes(model.Bytes(), "m.onnx", options);
  EXPECT_OK(result);
  if (!result.ok() || result->tensors.empty()) return {};
  for (const Node& node : result->graph.nodes) {
    if (node.op == Op::kMatmul) return {result->graph[node.inputs[1]], result->tensors[0]};
  }
  return {};
}

TEST(SparsityTest, FindsExactZeros) {
  const Annotated a = Import(Model(Weight(EveryThird())));
  ASSERT_TRUE(a.weight.tesa.has_value());
  EXPECT_EQ(*a.weight.tesa, Attribute::FromKept({8, 6}, EveryThird(), 32));
  EXPECT_EQ(a.report.name, "w");
  EXPECT_EQ(a.report.declared, "-");
  EXPECT_THAT(a.report.found, HasSubstr("zero"));
  EXPECT_THAT(a.report.kept, HasSubstr("tesa("));
  EXPECT_EQ(a.report.reason, "exact zeros");
}

TEST(SparsityTest, DenseWeightsAndFewZerosStayDense) {
  const Annotated dense = Import(Model(Weight({})));
  EXPECT_FALSE(dense.weight.tesa.has_value());
  EXPECT_EQ(dense.report.found, "dense");
  Tensor w = Weight({});
  w.Set(17, 0);
  const Annotated few = Import(Model(w));
  EXPECT_FALSE(few.weight.tesa.has_value());
  EXPECT_THAT(few.report.reason, HasSubstr("fewer than 10%"));
}

TEST(SparsityTest, ADeadRowIsKeptHoweverFew) {
  Tensor w = Weight({});
  for (int64_t j = 0; j < 6; ++j) w.Set(3 * 6 + j, 0);
  Random random(1);
  Tensor tall = RandomTensor(random, {DType::kF32, {64, 6}});
  for (int64_t j = 0; j < 6; ++j) tall.Set(5 * 6 + j, 0);
  OnnxModel m;
  m.Input("x", DType::kF32, {2, 64}).Constant("w", tall).Node("MatMul", {"x", "w"}, {"y"}).Output("y");
  const Annotated a = Import(m);
  ASSERT_TRUE(a.weight.tesa.has_value()) << a.report.found << a.report.reason;
  EXPECT_EQ(a.weight.tesa->num_kept(), 63 * 6);
}

TEST(SparsityTest, ModesDecideWhatIsKept) {
  for (AnnotateMode mode : {AnnotateMode::kDeclared, AnnotateMode::kNone}) {
    const Annotated a = Import(Model(Weight(EveryThird())), {.annotate = mode});
    EXPECT_FALSE(a.weight.tesa.has_value());
    EXPECT_THAT(a.report.reason, HasSubstr("--annotate="));
  }
}

TEST(SparsityTest, AMaskThatMultipliesIsADeclaration) {
  OnnxModel m;
  Tensor mask(DType::kF32, {6, 8});
  for (int64_t i = 0; i < 48; ++i) mask.Set(i, i % 5 == 0);
  Random random(9);
  const Tensor w = RandomTensor(random, {DType::kF32, {6, 8}});
  m.Input("x", DType::kF32, {2, 8}).Constant("w", w).Constant("w_mask", mask);
  m.Node("Mul", {"w", "w_mask"}, {"masked"}).Node("Transpose", {"masked"}, {"t"}).Node("MatMul", {"x", "t"}, {"y"});
  m.Output("y");
  const Annotated a = Import(m, {.annotate = AnnotateMode::kDeclared});
  ASSERT_TRUE(a.weight.tesa.has_value());
  EXPECT_EQ(a.weight.tesa->num_kept(), 10);
  EXPECT_TRUE(a.weight.tesa->kept(0));
  EXPECT_EQ(a.weight.tesa->shape(), (Shape{8, 6}));
  EXPECT_THAT(a.report.declared, HasSubstr("0/1 mask 'w_mask'"));
  EXPECT_EQ(a.report.name, "w");
}

TEST(SparsityTest, TheSideFileWinsAndMakesZeros) {
  Tensor mask(DType::kU8, {8, 6});
  for (int64_t i = 0; i < 48; ++i) mask.SetInt(i, i % 2);
  const Annotated a = Import(Model(Weight(EveryThird())), {.masks = {{"w", mask}}});
  ASSERT_TRUE(a.weight.tesa.has_value());
  EXPECT_EQ(a.weight.tesa->num_kept(), 24);
  EXPECT_EQ(a.weight.constant.Get(0), 0);  // pruned by the mask, although it was not zero
  EXPECT_THAT(a.report.declared, HasSubstr("side file, 50% kept"));
  // A scalar is a width for all of it.
  const Annotated narrow = Import(Model(Weight({})), {.masks = {{"w", Tensor::FromVector<int32_t>({}, {8})}}});
  ASSERT_TRUE(narrow.weight.tesa.has_value());
  EXPECT_EQ(*narrow.weight.tesa, Attribute::Dense({8, 6}, 8));
  EXPECT_THAT(ImportModelFromBytes(Model(Weight({})).Bytes(), "m.onnx", {.masks = {{"v", mask}}}),
              StatusIs(ErrorCode::kInputUnknown, HasSubstr("'v'")));
  EXPECT_THAT(ImportModelFromBytes(Model(Weight({})).Bytes(), "m.onnx", {.masks = {{"w", Tensor(DType::kU8, {8})}}}),
              StatusIs(ErrorCode::kTesaInvalid, HasSubstr("'w'")));
}

TEST(SparsityTest, SparseInitializersAreDeclared) {
  OnnxModel m;
  m.Input("x", DType::kF32, {2, 3}).Node("MatMul", {"x", "w"}, {"y"}).Output("y");
  onnx::SparseTensorProto& sparse = *m.proto().mutable_graph()->add_sparse_initializer();
  *sparse.mutable_values() = ToProto("w", Tensor::FromVector<float>({2}, {5, 0}));  // an explicit zero stays kept
  *sparse.mutable_indices() = ToProto("", Tensor::FromVector<int64_t>({2}, {1, 4}));
  sparse.add_dims(3);
  sparse.add_dims(2);
  const Annotated a = Import(m, {.annotate = AnnotateMode::kDeclared});
  ASSERT_TRUE(a.weight.tesa.has_value());
  EXPECT_EQ(*a.weight.tesa, Attribute::FromKept({3, 2}, std::vector<uint8_t>{0, 1, 0, 0, 1, 0}, 32));
  EXPECT_THAT(a.report.declared, HasSubstr("sparse_initializer"));
}

TEST(SparsityTest, IntegerZerosAreZerosOnlyWithoutAZeroPoint) {
  Tensor w(DType::kI8, {8, 6});
  for (int64_t i = 0; i < 48; ++i) w.SetInt(i, i % 3 == 0 ? 0 : i);
  for (const int zero_point : {0, 5}) {
    OnnxModel m(13);
    m.Input("x", DType::kF32, {2, 8}).Constant("w", w).Constant("s", Tensor::FromVector<float>({}, {0.5}));
    m.Constant("z", Tensor::Full(DType::kI8, {}, zero_point)).Node("DequantizeLinear", {"w", "s", "z"}, {"wd"});
    m.Node("MatMul", {"x", "wd"}, {"y"}).Output("y");
    StatusOr<ImportResult> result = ImportModelFromBytes(m.Bytes(), "m.onnx");
    ASSERT_OK(result);
    const Value& value = result->graph[result->graph.FindValue("w")];
    EXPECT_EQ(value.tesa.has_value(), zero_point == 0);
    if (value.tesa) {
      EXPECT_EQ(value.tesa->Widths(), std::vector<int>{8});
    }
  }
}

}  // namespace
}  // namespace tessera
