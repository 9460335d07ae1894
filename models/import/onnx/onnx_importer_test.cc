// What node_test.cc cannot see: options, symbols, functions, orders, sparse forms, newer operators, and the errors.
#include "models/import/onnx/onnx_importer.h"

#include <cmath>

#include "graph/interpreter.h"
#include "gtest/gtest.h"
#include "models/import/import.h"
#include "models/import/onnx/testing/onnx_model.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::AllOf;
using testing::HasSubstr;

StatusOr<ImportResult> Import(const OnnxModel& model, const ImportOptions& options = {}) {
  return ImportModelFromBytes(model.Bytes(), "test.onnx", options);
}

// The first output for these inputs.
Tensor Output(const Graph& graph, const std::vector<Tensor>& inputs) {
  StatusOr<std::vector<RefTensor>> outputs = Interpret(graph, inputs);
  EXPECT_OK(outputs);
  return outputs.ok() ? (*outputs)[0].ToTensor() : Tensor();
}

const Tensor kPair = Tensor::FromVector<float>({2}, {1, 2});

TEST(OnnxImporterTest, KeepsNamesAndProvenance) {
  OnnxModel m(13);
  m.Input("x y", DType::kF32, {2}).Constant("c", kPair).Node("Add", {"x y", "c"}, {"out"}).Output("out");
  m.proto().set_producer_name("exporter");
  ASSERT_OK_AND_ASSIGN(const ImportResult result, Import(m));
  const Graph& graph = result.graph;
  EXPECT_EQ(graph.name, "test");
  EXPECT_EQ(graph[graph.inputs[0]].name, "x_y");
  EXPECT_EQ(graph[graph.outputs[0]].name, "out");
  EXPECT_EQ(graph.nodes[0].name, "Add_1");
  EXPECT_EQ(graph[graph.nodes[0].inputs[1]].name, "c");
  EXPECT_EQ(graph.metadata.at("source"), "test.onnx");
  EXPECT_EQ(graph.metadata.at("source_format"), "ONNX, opset 13");
  EXPECT_EQ(graph.metadata.at("producer"), "exporter ");
}

TEST(OnnxImporterTest, SymbolicShapes) {
  OnnxModel m;
  m.Input("ids", DType::kF32, {-1, -1}, {"batch", "seq"}).Input("mask", DType::kF32, {-1, -1}, {"batch", "seq"});
  m.Node("Add", {"ids", "mask"}, {"y"}).Output("y");
  EXPECT_THAT(Import(m), StatusIs(ErrorCode::kShapeUnknown,
                                  AllOf(HasSubstr("'ids'"), HasSubstr("[batch,seq]"), HasSubstr("--shape=ids:"))));
  // One input fixes the symbols of all.
  ASSERT_OK_AND_ASSIGN(const ImportResult fixed, Import(m, {.shapes = {{"ids", {3, 7}}}}));
  EXPECT_EQ(fixed.graph[fixed.graph.inputs[1]].type.shape, (Shape{3, 7}));
  EXPECT_TRUE(fixed.warnings.empty());
  EXPECT_THAT(Import(m, {.shapes = {{"ids", {3, 7}}, {"mask", {3, 8}}}}), StatusIs(ErrorCode::kShapeMismatch));
  EXPECT_THAT(Import(m, {.shapes = {{"ids", {3}}}}), StatusIs(ErrorCode::kShapeMismatch));
  EXPECT_THAT(Import(m, {.shapes = {{"idz", {3, 7}}}}), StatusIs(ErrorCode::kInputUnknown, HasSubstr("'ids', 'mask'")));
}

TEST(OnnxImporterTest, ABatchDimensionIsOneWithAWarning) {
  OnnxModel m;
  m.Input("x", DType::kF32, {-1, 4}, {"N"}).Node("Relu", {"x"}, {"y"}).Output("y");
  ASSERT_OK_AND_ASSIGN(const ImportResult result, Import(m));
  EXPECT_EQ(result.graph[result.graph.inputs[0]].type.shape, (Shape{1, 4}));
  ASSERT_EQ(result.warnings.size(), 1u);
  EXPECT_THAT(result.warnings[0], AllOf(HasSubstr("'x'"), HasSubstr("--shape=x")));
}

TEST(OnnxImporterTest, ShapeSubgraphsFold) {
  // y = reshape(x, [shape(x)[0], -1]), as exporters write it.
  OnnxModel m(13);
  m.Input("x", DType::kF32, {2, 3, 4});
  m.Constant("zero", Tensor::FromVector<int64_t>({1}, {0})).Constant("rest", Tensor::FromVector<int64_t>({1}, {-1}));
  m.Node("Shape", {"x"}, {"shape"}).Node("Gather", {"shape", "zero"}, {"rows"}).Int("axis", 0);
  m.Node("Concat", {"rows", "rest"}, {"target"}).Int("axis", 0).Node("Reshape", {"x", "target"}, {"y"}).Output("y");
  ASSERT_OK_AND_ASSIGN(const ImportResult result, Import(m));
  ASSERT_EQ(result.graph.nodes.size(), 1u);
  EXPECT_EQ(result.graph[result.graph.outputs[0]].type.shape, (Shape{2, 12}));
}

TEST(OnnxImporterTest, BindsInputsThatDetermineAShape) {
  OnnxModel m;
  m.Input("x", DType::kF32, {2, 3}).Input("target", DType::kI64, {2}).Node("Reshape", {"x", "target"}, {"y"});
  m.Output("y");
  EXPECT_THAT(Import(m), StatusIs(ErrorCode::kShapeUnknown,
                                  AllOf(HasSubstr("node 'Reshape_1'"), HasSubstr("--bind=target=@file"))));
  ASSERT_OK_AND_ASSIGN(const ImportResult result,
                       Import(m, {.bind = {{"target", Tensor::FromVector<int64_t>({2}, {6, 1})}}}));
  EXPECT_EQ(result.graph.inputs.size(), 1u);
  EXPECT_EQ(result.graph[result.graph.outputs[0]].type.shape, (Shape{6, 1}));
  EXPECT_THAT(Import(m, {.bind = {{"target", kPair}}}), StatusIs(ErrorCode::kTypeMismatch));
  EXPECT_THAT(Import(m, {.bind = {{"nothing", kPair}}}), StatusIs(ErrorCode::kInputUnknown));
}

TEST(OnnxImporterTest, AnOperandComputedFromAnInputSaysWhichInput) {
  OnnxModel m;
  m.Input("x", DType::kF32, {2, 3}).Input("n", DType::kI64, {2}).Node("Neg", {"n"}, {"minus"});
  m.Node("Reshape", {"x", "minus"}, {"y"}).Output("y");
  EXPECT_THAT(Import(m), StatusIs(ErrorCode::kShapeUnknown, AllOf(HasSubstr("'minus'"), HasSubstr("--bind=n=@file"))));
}

TEST(OnnxImporterTest, ReportsAllMissingOperatorsAtOnce) {
  OnnxModel m(13);
  m.Input("x", DType::kF32, {4}).Node("Frobnicate", {"x"}, {"a"}).Node("Frobnicate", {"a"}, {"b"});
  m.Node("Blur", {"b"}, {"c"}).Domain("com.example", 3).Node("Mish", {"c"}, {"d"}).Output("d");
  EXPECT_THAT(Import(m),
              StatusIs(ErrorCode::kOpUnknown,
                       AllOf(HasSubstr("3 operators"), HasSubstr("Frobnicate (opset 13) at node 'Frobnicate_1', "),
                             HasSubstr("Blur (domain com.example, opset 3)"), HasSubstr("known from opset 18"))));
}

TEST(OnnxImporterTest, ControlFlowIsRefusedByName) {
  OnnxModel m;
  m.Input("c", DType::kBool, {}).Node("If", {"c"}, {"y"}).Output("y");
  onnx::AttributeProto& branch = *m.proto().mutable_graph()->mutable_node(0)->add_attribute();
  branch.set_name("then_branch");
  branch.set_type(onnx::AttributeProto::GRAPH);
  branch.mutable_g()->set_name("then");
  EXPECT_THAT(Import(m), StatusIs(ErrorCode::kOpUnknown, AllOf(HasSubstr("If"), HasSubstr("control flow"))));
}

TEST(OnnxImporterTest, InlinesFunctions) {
  // twice_plus(x) {scale} = x · 2 + scale, called with scale = 5, inside of another function.
  OnnxModel m(17);
  m.Input("x", DType::kF32, {2}).Node("outer", {"x"}, {"y"}).Domain("local").Output("y");
  onnx::FunctionProto& inner = *m.proto().add_functions();
  inner.set_name("twice_plus");
  inner.set_domain("local");
  inner.add_input("a");
  inner.add_output("r");
  inner.add_attribute("scale");
  inner.add_opset_import()->set_version(17);
  onnx::NodeProto& constant = *inner.add_node();
  constant.set_op_type("Constant");
  constant.add_output("k");
  constant.add_attribute()->set_name("value_float");
  constant.mutable_attribute(0)->set_type(onnx::AttributeProto::FLOAT);
  constant.mutable_attribute(0)->set_ref_attr_name("scale");
  const auto add = [](onnx::NodeProto& node, const char* a, const char* b, const char* to) {
    node.set_op_type("Add");
    node.add_input(a);
    node.add_input(b);
    node.add_output(to);
  };
  add(*inner.add_node(), "a", "a", "t");
  add(*inner.add_node(), "t", "k", "r");
  onnx::FunctionProto& outer = *m.proto().add_functions();
  outer.set_name("outer");
  outer.set_domain("local");
  outer.add_input("p");
  outer.add_output("q");
  outer.add_opset_import()->set_version(17);
  outer.add_opset_import()->set_domain("local");
  onnx::NodeProto& call = *outer.add_node();
  call.set_op_type("twice_plus");
  call.set_domain("local");
  call.add_input("p");
  call.add_output("q");
  call.add_attribute()->set_name("scale");
  call.mutable_attribute(0)->set_type(onnx::AttributeProto::FLOAT);
  call.mutable_attribute(0)->set_f(5);
  ASSERT_OK_AND_ASSIGN(const ImportResult result, Import(m));
  EXPECT_EQ(Output(result.graph, {kPair}), Tensor::FromVector<float>({2}, {7, 9}));
  // One that calls itself.
  call.set_op_type("outer");
  EXPECT_THAT(Import(m), StatusIs(ErrorCode::kLimitExceeded, HasSubstr("call themselves")));
}

TEST(OnnxImporterTest, SortsNodesAndFindsCycles) {
  OnnxModel m;
  m.Input("x", DType::kF32, {2}).Node("Neg", {"a"}, {"y"}).Node("Exp", {"x"}, {"a"}).Output("y");
  ASSERT_OK_AND_ASSIGN(const ImportResult sorted, Import(m));
  EXPECT_EQ(sorted.graph.nodes[0].op, Op::kExp);
  EXPECT_EQ(sorted.warnings.size(), 1u);
  OnnxModel cyclic;
  cyclic.Input("x", DType::kF32, {2}).Node("Add", {"x", "b"}, {"a"}).Node("Neg", {"a"}, {"b"});
  cyclic.Node("Exp", {"b"}, {"y"}).Output("y");
  EXPECT_THAT(Import(cyclic), StatusIs(ErrorCode::kGraphCyclic, HasSubstr("depends on its own output")));
}

TEST(OnnxImporterTest, RefusesBrokenGraphs) {
  const auto fails = [](const OnnxModel& m, ErrorCode code, const std::string& says) {
    EXPECT_THAT(Import(m), StatusIs(code, HasSubstr(says)));
  };
  OnnxModel twice, unknown, missing, listed, type, none;
  twice.Input("x", DType::kF32, {2}).Node("Neg", {"x"}, {"y"}).Node("Exp", {"x"}, {"y"}).Output("y");
  fails(twice, ErrorCode::kGraphInvalid, "computed by two nodes");
  unknown.Input("x", DType::kF32, {2}).Node("Neg", {"z"}, {"y"}).Output("y");
  fails(unknown, ErrorCode::kGraphInvalid, "reads 'z'");
  missing.Input("x", DType::kF32, {2}).Node("Neg", {"x"}, {"y"}).Output("z");
  fails(missing, ErrorCode::kGraphInvalid, "'z' is computed by no node");
  listed.Input("x", DType::kF32, {2}).Node("Neg", {"x"}, {"y"}).Output("y").Output("y");
  fails(listed, ErrorCode::kGraphInvalid, "listed twice");
  type.Input("x", DType::kF32, {2}).Node("Neg", {"x"}, {"y"}).Output("y");
  type.proto().mutable_graph()->mutable_output(0)->mutable_type()->mutable_tensor_type()->set_elem_type(7);
  fails(type, ErrorCode::kTypeMismatch, "the file says i64");
  none.Input("x", DType::kF32, {2}).Node("Neg", {"x"}, {"y"});
  fails(none, ErrorCode::kGraphInvalid, "at least one output");
  OnnxModel operands, attribute, shapes;
  operands.Input("x", DType::kF32, {2}).Node("Add", {"x"}, {"y"}).Output("y");
  fails(operands, ErrorCode::kGraphInvalid, "node 'Add_1' (Add, opset 17): expected 2 to 2 operands, found 1");
  attribute.Input("x", DType::kF32, {2}).Node("Softmax", {"x"}, {"y"}).String("axis", "last").Output("y");
  fails(attribute, ErrorCode::kAttributeInvalid, "'axis' to be INT, found STRING");
  shapes.Input("x", DType::kF32, {2}).Input("z", DType::kF32, {3}).Node("Add", {"x", "z"}, {"y"}).Output("y");
  fails(shapes, ErrorCode::kShapeMismatch, "Add_1");
}

TEST(OnnxImporterTest, ReadsEveryFormOfConstant) {
  OnnxModel m;
  m.Input("x", DType::kF32, {2});
  onnx::AttributeProto& floats =
      *m.Node("Constant", {}, {"a"}).proto().mutable_graph()->mutable_node(0)->add_attribute();
  floats.set_name("value_floats");
  floats.set_type(onnx::AttributeProto::FLOATS);
  floats.add_floats(1);
  floats.add_floats(2);
  m.Node("Constant", {}, {"b"}).Float("value_float", 10);
  m.Node("Constant", {}, {"i"}).Int("value_int", 2).Node("Constant", {}, {"is"}).Ints("value_ints", {2});
  m.Node("Add", {"x", "a"}, {"s"}).Node("Add", {"s", "b"}, {"t"}).Node("Expand", {"t", "is"}, {"u"});
  m.Node("Pow", {"u", "i"}, {"y"}).Output("y");
  ASSERT_OK_AND_ASSIGN(const ImportResult result, Import(m));
  EXPECT_EQ(Output(result.graph, {kPair}), Tensor::FromVector<float>({2}, {144, 196}));
  OnnxModel text;
  text.Node("Constant", {}, {"y"}).String("value_string", "no").Output("y");
  EXPECT_THAT(Import(text), StatusIs(ErrorCode::kTypeMismatch, HasSubstr("strings")));
}

TEST(OnnxImporterTest, NewerOperators) {
  const Tensor x = Tensor::FromVector<float>({3}, {-1.5, 0.25, 2});
  const auto run = [&](const std::string& op, int opset) {
    OnnxModel m(opset);
    m.Input("x", DType::kF32, {3}).Node(op, {"x"}, {"y"}).Output("y");
    StatusOr<ImportResult> result = Import(m);
    EXPECT_OK(result) << op;
    return Output(result->graph, {x});
  };
  const Tensor gelu = run("Gelu", 20), mish = run("Mish", 18), swish = run("Swish", 24);
  for (int k = 0; k < 3; ++k) {
    const double v = x.Get(k);
    EXPECT_NEAR(gelu.Get(k), v * 0.5 * (1 + std::erf(v / std::sqrt(2))), 1e-6);
    EXPECT_NEAR(mish.Get(k), v * std::tanh(std::log1p(std::exp(v))), 1e-6);
    EXPECT_NEAR(swish.Get(k), v / (1 + std::exp(-v)), 1e-6);
  }
  OnnxModel bits(18);
  bits.Input("a", DType::kU8, {2}).Input("b", DType::kU8, {2}).Node("BitwiseAnd", {"a", "b"}, {"p"});
  bits.Node("BitwiseOr", {"a", "b"}, {"q"}).Node("BitwiseXor", {"p", "q"}, {"r"}).Node("BitwiseNot", {"r"}, {"y"});
  bits.Output("y");
  ASSERT_OK_AND_ASSIGN(const ImportResult result, Import(bits));
  // ~((a & b) ^ (a | b)) is ~(a ^ b).
  EXPECT_EQ(Output(result.graph,
                   {Tensor::FromVector<uint8_t>({2}, {0b1100, 7}), Tensor::FromVector<uint8_t>({2}, {0b1010, 7})}),
            Tensor::FromVector<uint8_t>({2}, {0b11111001, 255}));
}

TEST(OnnxImporterTest, QuantizedEdgesKeepTheirParameters) {
  OnnxModel m(13);
  m.Input("x", DType::kF32, {1, 2}).Constant("s", Tensor::FromVector<float>({}, {0.5}));
  m.Constant("z", Tensor::FromVector<int8_t>({}, {3})).Constant("w", Tensor::FromVector<int8_t>({2, 2}, {1, 2, 3, 4}));
  m.Constant("ws", Tensor::FromVector<float>({2}, {0.25, 0.5}));
  m.Node("QuantizeLinear", {"x", "s", "z"}, {"q"}).Node("DequantizeLinear", {"q", "s", "z"}, {"d"});
  m.Node("DequantizeLinear", {"w", "ws"}, {"wd"}).Int("axis", 1).Node("MatMul", {"d", "wd"}, {"y"}).Output("y");
  ASSERT_OK_AND_ASSIGN(const ImportResult result, Import(m));
  const Graph& graph = result.graph;
  const Value& q = graph[graph.FindValue("q")];
  ASSERT_TRUE(q.quant.has_value());
  EXPECT_EQ(*q.quant, (QuantParams{.scales = {0.5}, .zero_points = {3}}));
  const Value& w = graph[graph.FindValue("w")];
  EXPECT_EQ(w.type.dtype, DType::kI8);  // integer weights stay integers
  ASSERT_TRUE(w.quant.has_value());
  EXPECT_EQ(*w.quant, (QuantParams{.scales = {0.25, 0.5}, .axis = 1}));
}

}  // namespace
}  // namespace tessera
