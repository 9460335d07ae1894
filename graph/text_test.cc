// Tests the text form of graphs: what is printed reads back as the same graph, hand-written forms mean what text.h
// says, and damaged text gives an error with a place.
#include "graph/text.h"

#include <cmath>

#include "graph/op_names.h"
#include "gtest/gtest.h"
#include "tesa/testing/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kMlp = R"(graph "mlp" {
  metadata "source" = "mlp.onnx"
  %x: f32[1,784] = input
  %w: f32[1024,784] tesa(scattered kept 10%) = constant random(seed = 1, stddev = 0.02)
  %b: f32[1024] = constant zeros
  %h: f32[1,1024] = matmul(%x, %w) {transpose_b = 1} epilogue(%b): f32 (a: f32, b: f32) { t2 = add(a, b); t3 = 0:f32; return max(t2, t3) }
  %y: f32[1,1024], %"odd name:0": i64[1] = softmax "last"(%h, _) {axis = 1, to = f16, mode = "x", scales = [1.0, 2.5], pads = [0, -1], none = [], empty = floats[], eps = 1e-05}
  return %y, %h
}
)";

TEST(GraphText, HandWrittenFormsMeanWhatTheySay) {
  ASSERT_OK_AND_ASSIGN(const Graph graph, ParseGraph(kMlp));
  EXPECT_EQ(graph.name, "mlp");
  EXPECT_EQ(graph.metadata.at("source"), "mlp.onnx");
  ASSERT_EQ(graph.values.size(), 6u);
  ASSERT_EQ(graph.nodes.size(), 2u);
  const Value& w = graph.values[1];
  EXPECT_EQ(w.kind, ValueKind::kConstant);
  ASSERT_TRUE(w.tesa.has_value());
  EXPECT_NEAR(w.tesa->density(), 0.1, 0.01);
  EXPECT_EQ(w.constant, w.tesa->ApplyTo(w.constant)) << "pruned elements of a generated constant are 0";
  EXPECT_NEAR(Attribute::FromZeros(w.constant).density(), 0.1, 0.01);
  const Node& matmul = graph.nodes[0];
  EXPECT_EQ(matmul.op, Op::kMatmul);
  EXPECT_EQ(matmul.name, "h");
  EXPECT_EQ(matmul.attrs.Int("transpose_b"), 1);
  ASSERT_TRUE(matmul.epilogue.has_value());
  EXPECT_EQ(matmul.epilogue->inputs, std::vector<ValueId>{ValueId{2}});
  EXPECT_EQ(matmul.epilogue->body.num_inputs, 2);
  const Node& last = graph.nodes[1];
  EXPECT_EQ(last.name, "last");
  EXPECT_EQ(last.inputs, (std::vector<ValueId>{ValueId{3}, ValueId::kNone}));
  EXPECT_EQ(last.attrs.Type("to"), DType::kF16);
  EXPECT_EQ(last.attrs.String("mode"), "x");
  EXPECT_EQ(last.attrs.Floats("scales"), (std::vector<double>{1, 2.5}));
  EXPECT_EQ(last.attrs.Ints("pads"), (std::vector<int64_t>{0, -1}));
  EXPECT_TRUE(last.attrs.Ints("none").empty());
  EXPECT_TRUE(last.attrs.Floats("empty").empty());
  EXPECT_EQ(last.attrs.Float("eps"), 1e-5);
  EXPECT_EQ(graph[last.outputs[1]].name, "odd name:0");
  EXPECT_EQ(graph.outputs, (std::vector<ValueId>{ValueId{4}, ValueId{3}}));
}

TEST(GraphText, PrintsAsDocumented) {
  ASSERT_OK_AND_ASSIGN(const Graph graph, ParseGraph(R"(
      graph "g" {
        %b: f32[2] = constant [0.5, -1]
        %x: f32[2] = input   # a comment
        %q: i8[2] quant(scales=[0.5]) = input
        %y: f32[2] = add(%x, %b)
        return %y
      })"));
  EXPECT_EQ(PrintGraph(graph), R"(graph "g" {
  %b: f32[2] = constant [0.5, -1]
  %x: f32[2] = input
  %q: i8[2] quant(scales=[0.5]) = input
  %y: f32[2] = add(%x, %b)
  return %y
}
)");
  EXPECT_EQ(PrintNode(graph, graph.nodes[0]), "%y: f32[2] = add(%x, %b)");
}

TEST(GraphText, ElidesWhatPeopleDoNotRead) {
  ASSERT_OK_AND_ASSIGN(const Graph graph, ParseGraph(kMlp));
  const std::string text = PrintGraph(graph, {.elide = true});
  EXPECT_THAT(text, HasSubstr("%w: f32[1024,784] tesa(scattered kept "));
  EXPECT_THAT(text, HasSubstr(" = constant elided("));
  EXPECT_LT(text.size(), 1500u);
  EXPECT_EQ(text, PrintGraph(*ParseGraph(kMlp), {.elide = true}));
  EXPECT_THAT(ParseGraph(text), StatusIs(ErrorCode::kTextInvalid, HasSubstr("without eliding")));
}

// Any graph at all, valid or not as far as its ops go: names, types, ids, parameters and data are what text is about.
Graph RandomGraph(Random& random) {
  Graph graph;
  graph.name = random.Chance(0.5) ? "net" : "odd \"name\"\n\x01";
  if (random.Chance(0.5)) graph.metadata = {{"licence", "MIT"}, {"a\\b", "\xc3\xa4\t"}};
  const auto random_type = [&] {
    const DType dtype = static_cast<DType>(random.Int(0, static_cast<int64_t>(DType::kBool)));
    return TensorType{dtype, RandomShape(random, static_cast<int>(random.Int(0, 3)), random.Chance(0.1) ? 0 : 1, 6)};
  };
  const auto add_value = [&](ValueKind kind) {
    Value value;
    value.name = (random.Chance(0.7) ? "v." : "layer/v:") + std::to_string(graph.values.size());
    value.type = random_type();
    value.kind = kind;
    if (kind == ValueKind::kConstant) {
      value.constant = RandomTensor(random, value.type);
      if (IsFloat(value.type.dtype) && value.constant.num_elements() > 0 && random.Chance(0.3)) {
        const double special[] = {NAN, HUGE_VAL, -0.0, 1e-45, 3e38};
        value.constant.Set(0, special[random.Int(0, 4)]);
      }
    }
    if (random.Chance(0.4)) value.tesa = RandomAttributeOfAnyKind(random, value.type.shape);
    if (random.Chance(0.2)) value.quant = QuantParams{.scales = {0.1, 3}, .zero_points = {1, -2}, .axis = 1};
    return graph.AddValue(std::move(value));
  };
  const auto any_value = [&] {
    return static_cast<ValueId>(random.Int(0, static_cast<int64_t>(graph.values.size()) - 1));
  };
  for (int64_t k = random.Int(1, 3); k > 0; --k) graph.inputs.push_back(add_value(ValueKind::kInput));
  const int64_t nodes = random.Int(0, 8);
  for (int64_t n = 0; n < nodes; ++n) {
    if (random.Chance(0.5)) add_value(ValueKind::kConstant);
    Node node;
    node.op = static_cast<Op>(random.Int(0, static_cast<int64_t>(std::size(kOpNames)) - 1));
    for (int64_t k = random.Int(0, 3); k > 0; --k) {
      node.inputs.push_back(random.Chance(0.1) ? ValueId::kNone : any_value());
    }
    if (random.Chance(0.5)) node.attrs.Set("axis", random.Int(-5, 5));
    if (random.Chance(0.3)) node.attrs.Set("eps", random.Normal() * 1e-5);
    if (random.Chance(0.3)) node.attrs.Set("whole", 3.0);
    if (random.Chance(0.3)) node.attrs.Set("mode", std::string("a \"b\""));
    if (random.Chance(0.3)) node.attrs.Set("pads", std::vector<int64_t>(random.Int(0, 3), -1));
    if (random.Chance(0.3)) node.attrs.Set("scales", std::vector<double>(random.Int(0, 3), 2));
    if (random.Chance(0.3)) node.attrs.Set("odd name", DType::kBF16);
    if (random.Chance(0.3)) {
      Epilogue epilogue;
      epilogue.inputs = {any_value()};
      epilogue.dtype = DType::kF16;
      BodyBuilder b;
      const Scalar x = b.Input(DType::kF32), y = b.Input(DType::kF32);
      epilogue.body = b.Finish(Max(x * y, random.Normal()));
      node.epilogue = std::move(epilogue);
    }
    for (int64_t k = random.Chance(0.8) ? 1 : random.Int(0, 3); k > 0; --k) {
      node.outputs.push_back(add_value(ValueKind::kComputed));
    }
    node.name = node.outputs.empty() || random.Chance(0.3) ? "node\\" : graph[node.outputs[0]].name;
    graph.nodes.push_back(std::move(node));
  }
  for (int64_t k = random.Int(0, 2); k > 0; --k) graph.outputs.push_back(any_value());
  if (random.Chance(0.3)) std::reverse(graph.inputs.begin(), graph.inputs.end());
  if (random.Chance(0.3)) {
    // Values numbered in any order, as passes leave them.
    std::vector<int> to(graph.values.size());
    for (size_t k = 0; k < to.size(); ++k) to[k] = static_cast<int>(k);
    for (size_t k = to.size(); k > 1; --k) std::swap(to[k - 1], to[random.Int(0, static_cast<int64_t>(k) - 1)]);
    std::vector<Value> values(to.size());
    for (size_t k = 0; k < to.size(); ++k) values[to[k]] = graph.values[k];
    graph.values = values;
    const auto move = [&](std::vector<ValueId>& ids) {
      for (ValueId& id : ids) {
        if (id != ValueId::kNone) id = static_cast<ValueId>(to[Index(id)]);
      }
    };
    for (Node& node : graph.nodes) {
      move(node.inputs);
      move(node.outputs);
      if (node.epilogue) move(node.epilogue->inputs);
    }
    move(graph.inputs);
    move(graph.outputs);
  }
  return graph;
}

TEST(GraphText, WhatIsPrintedReadsBack) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const Graph graph = RandomGraph(random);
    const std::string text = PrintGraph(graph);
    StatusOr<Graph> again = ParseGraph(text);
    ASSERT_OK(again) << "seed " << seed << "\n" << text;
    ASSERT_TRUE(*again == graph) << "seed " << seed << "\n" << text << PrintGraph(*again);
    PrintGraph(graph, {.elide = true});
  }
}

TEST(GraphText, LargeConstantsReadBack) {
  Random random(1);
  for (DType dtype : {DType::kF32, DType::kI4, DType::kBool, DType::kF64}) {
    Graph graph;
    Value value = {.name = "w", .type = {dtype, {33, 71}}, .kind = ValueKind::kConstant};
    value.constant = RandomTensor(random, value.type);
    graph.outputs = {graph.AddValue(value)};
    ASSERT_OK_AND_ASSIGN(const Graph again, ParseGraph(PrintGraph(graph)));
    EXPECT_TRUE(again == graph) << dtype;
  }
}

TEST(GraphText, ErrorsSayWhere) {
  const auto parse = [](std::string_view lines) { return ParseGraph("graph \"g\" {\n" + std::string(lines) + "\n}"); };
  EXPECT_THAT(
      parse("%x: f32[1] = input\n  %y: f32[1] = neg(%z)\nreturn"),
      StatusIs(ErrorCode::kTextInvalid, HasSubstr("line 3, column 20: expected a value that is defined above")));
  EXPECT_THAT(parse("%x: f32[1] = nosuchop(%x)\nreturn"), StatusIs(ErrorCode::kTextInvalid, HasSubstr("an op")));
  EXPECT_THAT(parse("%x: f32[1] = input\n%x: f32[1] = input\nreturn"),
              StatusIs(ErrorCode::kTextInvalid, HasSubstr("line 3, column 1: expected a name that is not yet taken")));
  EXPECT_THAT(parse("%x: f32[3] = constant [1, 2]\nreturn"),
              StatusIs(ErrorCode::kTextInvalid, HasSubstr("3 elements instead of 2")));
  EXPECT_THAT(parse("%x: i8[1] = constant [128]\nreturn"), StatusIs(ErrorCode::kTextInvalid, HasSubstr("-128…127")));
  EXPECT_THAT(parse("%x: f32[2] = constant hex 00\nreturn"),
              StatusIs(ErrorCode::kTextInvalid, HasSubstr("8 bytes instead of 1")));
  EXPECT_THAT(parse("%x: f32[1099511627776] = constant zeros\nreturn"), StatusIs(ErrorCode::kLimitExceeded));
  EXPECT_THAT(parse("%x: f32[549755813888] = constant zeros\nreturn"), StatusIs(ErrorCode::kLimitExceeded));
  EXPECT_THAT(parse("order [0]\nreturn"), StatusIs(ErrorCode::kTextInvalid, HasSubstr("order")));
  EXPECT_THAT(parse("%x: f32[1] = input\n%y: f32[1] = relu(%x) {a = 1, a = 2}\nreturn"),
              StatusIs(ErrorCode::kTextInvalid, HasSubstr("each parameter once")));
  EXPECT_THAT(parse("%x: f32[1] = input\n%y: f32[1] = relu(%x) epilogue(): f32 (a: f32) { return q }\nreturn"),
              StatusIs(ErrorCode::kTextInvalid, HasSubstr("line 3")));
  EXPECT_THAT(ParseGraph(""), Not(IsOk()));
  EXPECT_THAT(ParseGraph("graph \"g\" { return } x"), StatusIs(ErrorCode::kTextInvalid, HasSubstr("the end")));
  EXPECT_THAT(ParseGraph(kMlp, {.max_constant_bytes = 1 << 20}), StatusIs(ErrorCode::kLimitExceeded));
  EXPECT_THAT(ParseGraph(kMlp, {.max_values = 3}), StatusIs(ErrorCode::kLimitExceeded));
}

TEST(GraphText, DamagedTextNeverCrashes) {
  Random random(4);
  int rejected = 0;
  for (int round = 0; round < 3000; ++round) {
    Random seeded(static_cast<uint64_t>(round % 50));
    std::string text = PrintGraph(RandomGraph(seeded));
    for (int64_t k = random.Int(1, 3); k > 0; --k) {
      const size_t at = static_cast<size_t>(random.Int(0, static_cast<int64_t>(text.size()) - 1));
      switch (random.Int(0, 3)) {
        case 0: text[at] = static_cast<char>(random.Int(0, 255)); break;
        case 1: text.erase(at, static_cast<size_t>(random.Int(1, 30))); break;
        case 2: text.insert(at, text.substr(static_cast<size_t>(random.Int(0, static_cast<int64_t>(at))), 40)); break;
        default: text.resize(at + 1);
      }
      if (text.empty()) text = "graph";
    }
    rejected += !ParseGraph(text, {.max_constant_bytes = 1 << 24}).ok();
  }
  EXPECT_GT(rejected, 1000);
}

TEST(GraphText, BrokenGraphsCanBeShown) {
  Graph graph;
  Node node = {.op = Op::kAdd, .name = "n", .inputs = {ValueId{17}, ValueId{-5}}, .outputs = {ValueId{99}}};
  node.epilogue = Epilogue{.inputs = {ValueId{3}}};
  graph.nodes.push_back(node);
  graph.outputs = {ValueId{4}};
  EXPECT_THAT(PrintGraph(graph), HasSubstr("%!99 = add \"n\"(%!17, %!-5)"));
}

TEST(OpNames, ReadBack) {
  for (std::string_view name : kOpNames) EXPECT_EQ(OpName(*OpByName(name)), name);
  EXPECT_EQ(OpByName("nosuchop"), std::nullopt);
  EXPECT_EQ(OpName(static_cast<Op>(9999)), "?");
}

}  // namespace
}  // namespace tessera
