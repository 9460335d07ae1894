// Tests that the verifier accepts good graphs and finds a breach of each of its invariants, by name.
#include "graph/verifier.h"

#include <cmath>
#include <functional>
#include <random>

#include "graph/op_names.h"
#include "graph/testing/random_node.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

// Values: 0 x, 1 w, 2 b, 3 h, 4 q, 5 y.
Graph Good() {
  StatusOr<Graph> graph = ParseGraph(R"(graph "g" {
    %x: f32[2,4] = input
    %w: f32[4,3] tesa(scattered kept 50%) = constant random(seed = 1)
    %b: f32[3] = constant [1, 2, 3]
    %h: f32[2,3] = matmul "fc"(%x, %w) epilogue(%b): f32 (a: f32, b: f32) { t2 = add(a, b); return t2 }
    %q: i8[2,3] quant(scales=[0.5]) = input
    %y: f32[2,3] = relu(%h)
    return %y, %q
  })");
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

TEST(Verifier, AcceptsGoodGraphs) {
  EXPECT_OK(Verify(Good()));
  EXPECT_OK(Verify(Graph()));
  Graph twice = Good();
  twice.outputs.push_back(twice.outputs[0]);
  EXPECT_OK(Verify(twice));
}

TEST(Verifier, AcceptsRandomNodesOfEveryOp) {
  std::mt19937_64 rng(1);
  for (size_t op = 0; op < std::size(kOpNames); ++op) {
    for (int k = 0; k < 5; ++k) {
      RandomCase c = RandomNode(static_cast<Op>(op), rng);
      EXPECT_OK(Verify(c.graph)) << c.graph;
      if (c.graph.nodes[0].outputs.size() != 1) continue;
      AddRandomEpilogue(c, rng);
      EXPECT_OK(Verify(c.graph)) << c.graph;
    }
  }
}

struct Breach {
  const char* name;
  ErrorCode code;
  const char* message;
  std::function<void(Graph&)> break_it;
};

class VerifierBreach : public testing::TestWithParam<Breach> {};

TEST_P(VerifierBreach, IsFound) {
  Graph graph = Good();
  GetParam().break_it(graph);
  EXPECT_THAT(Verify(graph), StatusIs(GetParam().code, HasSubstr(GetParam().message)));
}

constexpr ErrorCode kInvalid = ErrorCode::kGraphInvalid;

INSTANTIATE_TEST_SUITE_P(
    All, VerifierBreach,
    testing::Values(
        Breach{"NoName", kInvalid, "expected a name", [](Graph& g) { g.values[2].name = ""; }},
        Breach{"NameTwice", kInvalid, "names that stand once", [](Graph& g) { g.values[2].name = "x"; }},
        Breach{"NegativeExtent", ErrorCode::kShapeUnknown, "value 'x'", [](Graph& g) { g.values[0].type.shape[0] = -1; }},
        Breach{"AbsurdShape", ErrorCode::kLimitExceeded, "value 'x'",
               [](Graph& g) { g.values[0].type.shape = {int64_t{1} << 40, int64_t{1} << 40}; }},
        Breach{"NoSuchType", kInvalid, "element type", [](Graph& g) { g.values[0].type.dtype = static_cast<DType>(99); }},
        Breach{"InputNotListed", kInvalid, "among the graph's inputs", [](Graph& g) { g.inputs.pop_back(); }},
        Breach{"InputTwice", kInvalid, "stands twice", [](Graph& g) { g.inputs.push_back(g.inputs[0]); }},
        Breach{"InputIsConstant", kInvalid, "not of the kind input", [](Graph& g) { g.inputs.push_back(ValueId{2}); }},
        Breach{"InputOutOfRange", kInvalid, "graph inputs", [](Graph& g) { g.inputs.push_back(ValueId{6}); }},
        Breach{"InputNone", kInvalid, "graph inputs", [](Graph& g) { g.inputs.push_back(ValueId::kNone); }},
        Breach{"OutputOutOfRange", kInvalid, "graph outputs", [](Graph& g) { g.outputs.push_back(ValueId{6}); }},
        Breach{"DataOfOtherType", kInvalid, "expected data of type f32[3], found f32[2]",
               [](Graph& g) { g.values[2].constant = Tensor(DType::kF32, {2}); }},
        Breach{"NoProducer", kInvalid, "expected a node that computes it", [](Graph& g) { g.nodes.pop_back(); }},
        Breach{"TwoProducers", kInvalid, "already is the output",
               [](Graph& g) {
                 g.nodes.push_back(g.nodes[1]);
               }},
        Breach{"OutputIsConstant", kInvalid, "expected a computed value", [](Graph& g) { g.nodes[1].outputs[0] = ValueId{2}; }},
        Breach{"NodeOutputNone", kInvalid, "expected outputs", [](Graph& g) { g.nodes[1].outputs[0] = ValueId::kNone; }},
        Breach{"AttributeShape", ErrorCode::kTesaInvalid, "expected an attribute of [4,3]",
               [](Graph& g) { g.values[1].tesa = Attribute::Dense({3, 4}, 32); }},
        Breach{"AttributeTooWide", ErrorCode::kTesaInvalid, "at most the 32 bits",
               [](Graph& g) { g.values[1].tesa = Attribute::Dense({4, 3}, 64); }},
        Breach{"DataWherePruned", ErrorCode::kTesaInvalid, "expected 0 where the attribute prunes, found 1 at element 0",
               [](Graph& g) {
                 g.values[1].constant = Tensor::Full(DType::kF32, {4, 3}, 1);
                 g.values[1].tesa = Attribute::Dense({4, 3}, 0);
               }},
        Breach{"MinusZeroWherePruned", ErrorCode::kTesaInvalid, "apply the attribute",
               [](Graph& g) {
                 g.values[1].constant = Tensor::Full(DType::kF32, {4, 3}, -0.0);
                 g.values[1].tesa = Attribute::Dense({4, 3}, 0);
               }},
        Breach{"QuantOfFloat", ErrorCode::kValueInvalid, "value 'x'",
               [](Graph& g) { g.values[0].quant = QuantParams{.scales = {1}}; }},
        Breach{"QuantScale", ErrorCode::kValueInvalid, "value 'q'", [](Graph& g) { g.values[4].quant->scales[0] = NAN; }},
        Breach{"NoSuchOp", kInvalid, "expected an op", [](Graph& g) { g.nodes[0].op = static_cast<Op>(9999); }},
        Breach{"OperandOutOfRange", kInvalid, "expected operands", [](Graph& g) { g.nodes[0].inputs[0] = ValueId{-7}; }},
        Breach{"OperandMissing", kInvalid, "is required", [](Graph& g) { g.nodes[0].inputs[0] = ValueId::kNone; }},
        Breach{"OperandTooMany", kInvalid, "node 'fc' (matmul)", [](Graph& g) { g.nodes[0].inputs.push_back(ValueId{0}); }},
        Breach{"UsedBeforeComputed", ErrorCode::kGraphCyclic, "computed before it",
               [](Graph& g) { std::swap(g.nodes[0], g.nodes[1]); }},
        Breach{"ReadsItself", ErrorCode::kGraphCyclic, "node 'y'", [](Graph& g) { g.nodes[1].inputs[0] = ValueId{5}; }},
        Breach{"UnknownParameter", ErrorCode::kAttributeInvalid, "'colour'",
               [](Graph& g) { g.nodes[0].attrs.Set("colour", int64_t{1}); }},
        Breach{"ParameterKind", ErrorCode::kAttributeInvalid, "'transpose_a'",
               [](Graph& g) { g.nodes[0].attrs.Set("transpose_a", 1.0); }},
        Breach{"ParameterNaN", ErrorCode::kAttributeInvalid, "is NaN",
               [](Graph& g) { g.nodes[0].attrs.Set("transpose_a", std::nan("")); }},
        Breach{"OutputShape", ErrorCode::kShapeMismatch, "expected the type f32[2,3], found f32[2,2]",
               [](Graph& g) { g.values[5].type.shape[1] = 2; }},
        Breach{"OutputType", ErrorCode::kTypeMismatch, "expected the type f32[2,3], found f16[2,3]",
               [](Graph& g) { g.values[5].type.dtype = DType::kF16; }},
        Breach{"OutputCount", kInvalid, "expected 1 outputs, found 0", [](Graph& g) { g.nodes[1].outputs.clear(); }},
        Breach{"EpilogueArity", kInvalid, "a body of 1 operands", [](Graph& g) { g.nodes[0].epilogue->inputs.clear(); }},
        Breach{"EpilogueOperandNone", kInvalid, "expected operands",
               [](Graph& g) { g.nodes[0].epilogue->inputs[0] = ValueId::kNone; }},
        Breach{"EpilogueOperandType", ErrorCode::kTypeMismatch, "operand 1 to be read as i32",
               [](Graph& g) {
                 g.values[2].type.dtype = DType::kI8;
                 g.values[2].constant = Tensor(DType::kI8, {3});
               }},
        Breach{"EpilogueResult", ErrorCode::kTypeMismatch, "expected a result of f64",
               [](Graph& g) { g.nodes[0].epilogue->dtype = DType::kF64; }},
        Breach{"EpilogueShape", ErrorCode::kShapeMismatch, "broadcast to [2,3]",
               [](Graph& g) {
                 g.values[2].type.shape = {5};
                 g.values[2].constant = Tensor(DType::kF32, {5});
               }},
        Breach{"EpilogueGrows", ErrorCode::kShapeMismatch, "broadcast to [2,3]",
               [](Graph& g) {
                 g.values[2].type.shape = {7, 2, 3};
                 g.values[2].constant = Tensor(DType::kF32, {7, 2, 3});
               }},
        Breach{"EpilogueEmpty", kInvalid, "epilogue", [](Graph& g) { g.nodes[0].epilogue->body = Body(); }}),
    [](const testing::TestParamInfo<Breach>& info) { return info.param.name; });

TEST(Verifier, DataIsCheckedOnDemand) {
  Graph graph = Good();
  graph.values[1].constant = Tensor::Full(DType::kF32, {4, 3}, 1);
  EXPECT_THAT(Verify(graph), StatusIs(ErrorCode::kTesaInvalid));
  EXPECT_OK(Verify(graph, {.data = false}));
}

// Data is looked at in words of 64 elements: the one wrong element is found wherever it lies, of every width.
TEST(Verifier, FindsTheOneElementThatIsNotZero) {
  for (const DType type : {DType::kF32, DType::kU8, DType::kBF16, DType::kF64}) {
    for (const int64_t size : {1, 63, 64, 65, 200}) {
      for (int64_t wrong = 0; wrong < size; wrong += 1 + size / 23) {
        const int64_t kept = (wrong + 1) % size;  // which may hold anything
        std::vector<uint8_t> keeps(static_cast<size_t>(size), 0);
        keeps[static_cast<size_t>(kept)] = 1;
        Graph graph;
        Value value;
        value.name = "w";
        value.kind = ValueKind::kConstant;
        value.type = {type, Shape({size})};
        value.constant = Tensor(type, Shape({size}));
        value.constant.Set(kept, 3);
        value.tesa = Attribute::FromKept(value.type.shape, keeps, TypeInfo(type).bits);
        graph.outputs = {graph.AddValue(value)};
        if (size == 1) continue;
        EXPECT_OK(Verify(graph));
        graph.values[0].constant.Set(wrong, 2);
        EXPECT_THAT(Verify(graph),
                    StatusIs(ErrorCode::kTesaInvalid, HasSubstr("found 2 at element " + std::to_string(wrong) + ";")));
      }
    }
  }
}

TEST(ParseAndVerify, DoesBoth) {
  EXPECT_OK(ParseAndVerify("graph \"g\" { %x: f32[1] = input %y: f32[1] = relu(%x) return %y }"));
  EXPECT_THAT(ParseAndVerify("graph \"g\" { %x: f32[1] = input %y: f32[2] = relu(%x) return %y }"),
              StatusIs(ErrorCode::kShapeMismatch, HasSubstr("node 'y' (relu): output 0 'y'")));
  EXPECT_THAT(ParseAndVerify("graph"), StatusIs(ErrorCode::kTextInvalid));
}

}  // namespace
}  // namespace tessera
