#include "propagate/rule_book.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/file.h"
#include "base/log.h"
#include "graph/builder.h"
#include "graph/interpreter.h"
#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "gtest/gtest.h"
#include "propagate/rule/apply.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string TempFile(const std::string& name) {
  const char* folder = std::getenv("TEST_TMPDIR");
  return std::string(folder != nullptr ? folder : "/tmp") + "/" + name;
}

// Two matmuls of equal shapes, one of another, and a relu.
Graph Small(const Shape& input = {3, 5}, const std::vector<int64_t>& widths = {5, 5, 7}) {
  GraphBuilder b("small");
  ValueId x = b.Input("x", DType::kF32, input);
  for (int64_t width : widths) {
    x = b.Matmul(x, b.Constant("w", Tensor::Full(DType::kF32, {b.ShapeOf(x)[1], width}, 1)));
  }
  b.Output(b.Relu(x));
  return *std::move(b).Build();
}

TEST(RuleMode, NamesAndParses) {
  for (RuleMode mode : {RuleMode::kLearned, RuleMode::kInstance, RuleMode::kExact}) {
    ASSERT_OK_AND_ASSIGN(const RuleMode parsed, ParseRuleMode(Name(mode)));
    EXPECT_EQ(parsed, mode);
  }
  EXPECT_THAT(ParseRuleMode("best"), StatusIs(ErrorCode::kUsageInvalid, HasSubstr("learned, instance or exact")));
}

TEST(BlackBoxOf, RunsEveryOpAsTheInterpreterDoes) {
  std::mt19937_64 rng(3);
  for (const OpDef& def : AllOps()) {
    for (int round = 0; round < 6; ++round) {
      RandomCase c = RandomNode(def.op, rng);
      if (round % 2 == 1 && c.graph.nodes[0].outputs.size() == 1) AddRandomEpilogue(c, rng);
      const Node& node = c.graph.nodes[0];
      const BlackBox box = BlackBoxOf(c.graph, node);
      std::map<ValueId, RefTensor> tensors;
      for (size_t k = 0; k < c.inputs.size(); ++k) tensors[c.graph.inputs[k]] = RefTensor::From(c.inputs[k]);
      std::vector<const RefTensor*> operands;
      for (ValueId id : Operands(node)) operands.push_back(id == ValueId::kNone ? nullptr : &tensors.at(id));
      ASSERT_EQ(box.inputs.size(), operands.size());
      std::vector<RefTensor> outputs;
      for (const TensorType& type : box.outputs) outputs.emplace_back(type);
      box.run(operands, outputs);
      const std::vector<RefTensor> expected = InterpretNode(c.graph, node, operands);
      ASSERT_EQ(outputs.size(), expected.size());
      for (size_t k = 0; k < outputs.size(); ++k) {
        EXPECT_EQ(outputs[k].type, expected[k].type) << box.name;
        EXPECT_EQ(outputs[k].f.size(), expected[k].f.size()) << box.name;
        EXPECT_EQ(outputs[k].i, expected[k].i) << box.name;
      }
    }
  }
}

TEST(BlackBoxOf, IsTheSameOpAtOtherShapes) {
  GraphBuilder b("conv");
  const ValueId x = b.Input("x", DType::kF32, {1, 4, 8, 8});
  const ValueId w = b.Input("w", DType::kF32, {6, 2, 3, 3});
  b.Output(b.Conv(x, w, {.strides = {2, 2}, .pads = {1, 1, 1, 1}}, 2));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const BlackBox box = BlackBoxOf(graph, graph.nodes[0]);
  const std::vector<std::optional<TensorType>> types = {TensorType{DType::kF32, {2, 6, 5, 7}},
                                                        TensorType{DType::kF32, {4, 3, 3, 3}}};
  ASSERT_OK_AND_ASSIGN(const BlackBox other, box.resized(types));
  EXPECT_EQ(other.name, box.name);
  EXPECT_EQ(other.outputs[0].shape, (Shape{2, 4, 3, 4}));
  const std::vector<std::optional<TensorType>> wrong = {TensorType{DType::kF32, {2, 7, 5, 7}},
                                                        TensorType{DType::kF32, {4, 3, 3, 3}}};
  EXPECT_FALSE(box.resized(wrong).ok());
}

TEST(BlackBoxOf, DepthwiseConvolutionsAreOneOp) {
  GraphBuilder b("depthwise");
  const ValueId x = b.Input("x", DType::kF32, {1, 16, 8, 8});
  const ValueId small = b.Slice(x, {0, 0, 0, 0}, {1, 8, 8, 8});
  b.Output(b.Named("wide").Conv(x, b.Input("w", DType::kF32, {16, 1, 3, 3}), {}, 16));
  b.Output(b.Named("slim").Conv(small, b.Input("v", DType::kF32, {8, 1, 3, 3}), {}, 8));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const BlackBox wide = BlackBoxOf(graph, graph.nodes[1]), slim = BlackBoxOf(graph, graph.nodes[2]);
  EXPECT_EQ(wide.name, slim.name);
  EXPECT_THAT(wide.name, HasSubstr("groups = channels"));
  ASSERT_OK_AND_ASSIGN(const BlackBox resized, wide.resized(slim.inputs));
  EXPECT_EQ(resized.outputs, slim.outputs);
  std::vector<std::optional<TensorType>> two = slim.inputs;
  two[1]->shape = {8, 2, 3, 3};
  EXPECT_FALSE(wide.resized(two).ok());
}

TEST(BlackBoxOf, NamesWhatTheRuleDependsOn) {
  GraphBuilder b("names");
  const ValueId x = b.Input("x", DType::kF32, {3, 5});
  const ValueId sum = b.Reduce(Op::kReduceSum, x, {1});
  b.Output(sum);
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  EXPECT_EQ(BlackBoxOf(graph, graph.nodes[0]).name, "reduce_sum {axes = [1], keepdims = 1} (f32[2])");
}

TEST(RuleBook, SharesWhatIsEqual) {
  const Graph graph = Small();
  RuleBook book(RuleMode::kExact);
  std::vector<const Transfer*> transfers;
  for (const Node& node : graph.nodes) {
    ASSERT_OK_AND_ASSIGN(const Transfer* transfer, book.For(graph, node));
    transfers.push_back(transfer);
  }
  EXPECT_EQ(transfers[0], transfers[1]);
  EXPECT_NE(transfers[0], transfers[2]);
  const std::vector<RuleBook::Entry> entries = book.Entries();
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].source, "exact");
  EXPECT_THAT(entries[0].text, HasSubstr("out0[a,b] <- in0[a,c]  unless in1[c,b] = 0"));
}

TEST(RuleBook, ARuleByHandGoesFirst) {
  const Graph graph = Small();
  RuleBook book(RuleMode::kExact);
  // A relu of which we claim that it mixes its rows.
  book.Register(Op::kRelu, [](const Graph& of, const Node& node) -> std::optional<Rule> {
    const TensorType& type = of[node.inputs[0]].type;
    Clause clause = {.extents = {type.shape[0], type.shape[1], type.shape[1]},
                     .out = {.view = type.shape, .index = {Variable(0), Variable(1)}},
                     .in = {.view = type.shape, .index = {Variable(0), Variable(2)}}};
    return Rule{.name = "mix", .inputs = {type}, .outputs = {type}, .clauses = {clause}};
  });
  // And nothing about matmuls.
  book.Register(Op::kMatmul, [](const Graph&, const Node&) { return std::optional<Rule>(); });
  ASSERT_OK_AND_ASSIGN(const Transfer* relu, book.For(graph, graph.nodes[3]));
  ASSERT_OK(book.For(graph, graph.nodes[0]));
  EXPECT_EQ(book.Entries()[0].source, "by hand");
  EXPECT_EQ(book.Entries()[1].source, "exact");
  EXPECT_THAT(relu->ToString(), HasSubstr("out0[a,*] <- in0[a,*]"));
}

TEST(RuleBook, AWrongRuleByHandIsAnError) {
  const Graph graph = Small();
  RuleBook book(RuleMode::kExact);
  book.Register(Op::kRelu, [](const Graph&, const Node&) { return std::optional<Rule>(Rule{.name = "none"}); });
  EXPECT_THAT(book.For(graph, graph.nodes[3]), StatusIs(ErrorCode::kRuleInvalid, HasSubstr("relu")));
}

TEST(RuleBook, LearnsOnceAndKeepsWhatItLearned) {
  // What is learned where all extents differ holds where some are equal; not the other way round.
  const Graph graph = Small({30, 50}, {70, 70, 40});
  const std::string path = TempFile("rules.txt");
  RuleBook book(RuleMode::kLearned);
  for (const Node& node : graph.nodes) ASSERT_OK(book.For(graph, node));
  const std::vector<RuleBook::Entry> entries = book.Entries();
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries[0].source, "learned");
  EXPECT_GT(entries[0].stats.runs, 0);
  EXPECT_EQ(entries[1].source, "cached");  // the same op at other shapes
  EXPECT_EQ(entries[2].source, "cached");
  EXPECT_EQ(entries[3].source, "learned");
  ASSERT_OK(book.Save(path));

  RuleBook again(RuleMode::kLearned);
  ASSERT_OK(again.Load(path));
  RuleBook exact(RuleMode::kExact);
  for (const Node& node : graph.nodes) {
    ASSERT_OK_AND_ASSIGN(const Transfer* found, again.For(graph, node));
    ASSERT_OK_AND_ASSIGN(const Transfer* algebra, exact.For(graph, node));
    const auto* learned_rule = dynamic_cast<const RuleTransfer*>(found);
    ASSERT_NE(learned_rule, nullptr);
    EXPECT_EQ(learned_rule->rule().clauses, dynamic_cast<const RuleTransfer*>(algebra)->rule().clauses);
  }
  for (const RuleBook::Entry& entry : again.Entries()) EXPECT_EQ(entry.source, "cached");
}

TEST(RuleBook, ALargeNodeOfWhichNothingIsLearnedHasItsExactRule) {
  // A table of where each pixel comes from is learned for no shape but its own.
  GraphBuilder b("resize");
  for (int64_t side : {4, 40}) {
    const ValueId x = b.Input("x" + std::to_string(side), DType::kF32, {1, 2, side, side});
    b.Output(b.Apply(Op::kResize, {x},
                     MakeAttrs({{"sizes", std::vector<int64_t>{1, 2, 2 * side, 2 * side}},
                                {"scales", std::vector<double>{1, 1, 2, 2}},
                                {"mode", "linear"},
                                {"coordinate", "half_pixel"}})));
  }
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  RuleBook book(RuleMode::kLearned);
  for (const Node& node : graph.nodes) ASSERT_OK(book.For(graph, node));
  EXPECT_THAT(book.Entries()[0].source, Not(HasSubstr("exact")));
  EXPECT_THAT(book.Entries()[1].source, HasSubstr("exact: no relation was learned"));
}

TEST(RuleBook, ABrokenCacheIsLeftAsideWithAWarning) {
  const std::string path = TempFile("broken.txt");
  std::vector<std::string> warnings;
  SetLogSink([&](LogLevel level, std::string_view message) {
    if (level == LogLevel::kWarning) warnings.emplace_back(message);
  });
  RuleBook book(RuleMode::kLearned);
  EXPECT_OK(book.Load(TempFile("no such file")));
  EXPECT_TRUE(warnings.empty());
  for (const std::string& text :
       {std::string("rule matmul: nonsense"), std::string(1000, '\xff'), std::string("\0\0", 2)}) {
    ASSERT_OK(WriteFileAtomically(path, text));
    warnings.clear();
    EXPECT_OK(book.Load(path));
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_THAT(warnings[0], HasSubstr(path));
  }
  SetLogSink({});
  const Graph graph = Small();
  ASSERT_OK(book.For(graph, graph.nodes[0]));
  EXPECT_EQ(book.Entries()[0].source, "learned");
}

TEST(RuleBook, InstanceModeGeneralisesNothing) {
  const Graph graph = Small();
  RuleBook book(RuleMode::kInstance);
  ASSERT_OK(book.For(graph, graph.nodes[0]));
  EXPECT_EQ(book.Entries()[0].source, "scrambled at this shape");
}

// An op that is in no table, as a C function: cumulative sums along the rows of [4, 5].
int CumulativeSum(void*, const double* const* in, double* const* out) {
  for (int row = 0; row < 4; ++row) {
    double sum = 0;
    for (int k = 0; k < 5; ++k) out[0][row * 5 + k] = sum += in[0][row * 5 + k];
  }
  return 0;
}

TEST(RuleBook, ABlackBoxGoesThroughTheSameDoor) {
  const TensorType type = {DType::kF32, {4, 5}};
  const BlackBox box = MakeBlackBox("cumulative_sum", {type}, {type}, &CumulativeSum, nullptr);
  RuleBook book(RuleMode::kLearned);
  ASSERT_OK_AND_ASSIGN(const Transfer* transfer, book.For(box));
  // The first three of each row are zero: so are their sums. The last is unread: so is the last input.
  std::vector<uint8_t> kinds(20, static_cast<uint8_t>(Certainty::kUnknown)), live(20, 1);
  for (size_t row = 0; row < 4; ++row) {
    for (size_t k = 0; k < 3; ++k) kinds[row * 5 + k] = static_cast<uint8_t>(Certainty::kZero);
    live[row * 5 + 4] = 0;
  }
  const Known known = Known::FromElements(type, kinds, std::vector<double>(20, 0));
  const std::vector<const Known*> inputs = {&known};
  ASSERT_OK_AND_ASSIGN(const std::vector<Known> forward, transfer->Forward(inputs));
  EXPECT_EQ(forward[0].kind.Elements(), kinds);
  const Needed needed = Needed::FromElements(type.shape, live);
  const std::vector<const Needed*> outputs = {&needed};
  ASSERT_OK_AND_ASSIGN(const Needed backward, transfer->Backward(0, inputs, outputs));
  EXPECT_EQ(backward.live.Elements(), live);
}

}  // namespace
}  // namespace tessera
