// Ops that are in no table go through the same door: roll, cumulative sum, banded product and checkerboard add as
// callables, an outer difference as a C function, and a rule written by hand. What the rule book finds for each,
// learned or scrambled at its shape, is what a relation written down here says, forward and backward, on random facts.
#include <algorithm>

#include "graph/testing/random_node.h"
#include "gtest/gtest.h"
#include "propagate/rule_book.h"
#include "propagate/testing/rule_points.h"

namespace tessera {
namespace {

TensorType F32(Shape shape) { return {DType::kF32, std::move(shape)}; }

// An op whose results have the types that `outputs` gives, at any shapes it accepts.
BlackBox MakeBox(std::string name, std::vector<TensorType> inputs,
                 std::function<StatusOr<std::vector<TensorType>>(std::span<const TensorType>)> outputs,
                 std::function<void(std::span<const RefTensor* const>, std::span<RefTensor>)> run) {
  BlackBox box;
  box.name = std::move(name);
  box.outputs = *outputs(inputs);
  box.inputs.assign(inputs.begin(), inputs.end());
  box.run = run;
  box.resized = [name = box.name, outputs,
                 run](std::span<const std::optional<TensorType>> types) -> StatusOr<BlackBox> {
    std::vector<TensorType> given;
    for (const std::optional<TensorType>& type : types) given.push_back(*type);
    RETURN_IF_ERROR(outputs(given).status());
    return MakeBox(name, std::move(given), outputs, run);
  };
  return box;
}

StatusOr<std::vector<TensorType>> SameAsFirst(std::span<const TensorType> inputs) {
  return std::vector<TensorType>{inputs[0]};
}
StatusOr<std::vector<TensorType>> SameOfTwo(std::span<const TensorType> inputs) {
  if (inputs[0].shape != inputs[1].shape) return Error(ErrorCode::kShapeMismatch, "expected operands of one shape");
  return std::vector<TensorType>{inputs[0]};
}

// The elements on which each element of a result depends, and what annihilates them there.
struct Dependence {
  int input;
  int64_t element;
  int by_input = -1;  // it does not matter when this element is 0
  int64_t by_element = 0;
};
using Relation = std::function<std::vector<Dependence>(int64_t out)>;

class BlackBoxOps : public testing::TestWithParam<RuleMode> {
 protected:
  void ExpectRelation(const BlackBox& box, const Relation& relation, std::string_view* source = nullptr) {
    RuleBook book(GetParam());
    const StatusOr<const Transfer*> transfer = book.For(box);
    ASSERT_TRUE(transfer.ok()) << transfer.status();
    const RuleBook::Entry entry = book.Entries().back();
    std::printf("%s: %s\n%s\n", box.name.c_str(), entry.source.c_str(), entry.text.substr(0, 400).c_str());
    if (source != nullptr) *source = entry.source == "learned" ? "learned" : "instance";
    std::vector<TensorType> types;
    for (const auto& type : box.inputs) types.push_back(*type);
    std::mt19937_64 rng(5);
    for (int trial = 0; trial < 6; ++trial) {
      const ElementFacts facts = RandomFacts(types, rng);
      const std::vector<uint8_t> live = RandomSet(box.outputs[0].shape, rng);
      ExpectFacts(**transfer, box, types, facts, live, relation);
      if (HasFatalFailure()) return;
    }
  }

 private:
  void ExpectFacts(const Transfer& transfer, const BlackBox& box, const std::vector<TensorType>& types,
                   const ElementFacts& facts, const std::vector<uint8_t>& live, const Relation& relation) {
    std::vector<uint8_t> known(live.size(), 1);
    ElementSets needed;
    for (const TensorType& type : types) needed.emplace_back(type.shape.num_elements(), 0);
    for (size_t out = 0; out < live.size(); ++out) {
      for (const Dependence& d : relation(static_cast<int64_t>(out))) {
        const bool stopped = d.by_input >= 0 && facts.IsKnown(d.by_input, d.by_element) &&
                             facts.inputs[d.by_input][d.by_element]->f == 0;
        if (stopped) continue;
        if (!facts.IsKnown(d.input, d.element)) known[out] = 0;
        if (live[out]) needed[d.input][d.element] = 1;
      }
    }
    std::vector<Known> operands;
    std::vector<const Known*> pointers;
    for (size_t t = 0; t < types.size(); ++t) {
      std::vector<uint8_t> kinds;
      std::vector<double> values;
      for (const std::optional<ScalarValue>& element : facts.inputs[t]) {
        kinds.push_back(static_cast<uint8_t>(!element          ? Certainty::kUnknown
                                             : element->f == 0 ? Certainty::kZero
                                                               : Certainty::kConstant));
        values.push_back(element ? element->f : 0);
      }
      operands.push_back(Known::FromElements(types[t], kinds, values));
    }
    for (const Known& operand : operands) pointers.push_back(&operand);
    const StatusOr<std::vector<Known>> forward = transfer.Forward(pointers);
    ASSERT_TRUE(forward.ok()) << forward.status();
    std::vector<uint8_t> found;
    for (uint8_t kind : (*forward)[0].kind.Elements())
      found.push_back(kind != static_cast<uint8_t>(Certainty::kUnknown));
    EXPECT_EQ(found, known) << box.name << ", forward";
    // The values are the op's own.
    RefTensor result = Run(box, types, facts);
    int64_t k = 0;
    ForEachIndex(box.outputs[0].shape, [&](const std::vector<int64_t>& at) {
      if (known[k]) {
        EXPECT_NEAR((*forward)[0].ValueAt(at), result.f[k], 1e-9) << box.name << " element " << k;
      }
      ++k;
    });
    const Needed wanted = Needed::FromElements(box.outputs[0].shape, live);
    const Needed* outputs[] = {&wanted};
    for (size_t t = 0; t < types.size(); ++t) {
      const StatusOr<Needed> backward = transfer.Backward(static_cast<int>(t), pointers, outputs);
      ASSERT_TRUE(backward.ok()) << backward.status();
      const std::vector<uint8_t> found_live = backward->live.Elements();
      for (size_t n = 0; n < found_live.size(); ++n) {
        if (facts.inputs[t][n]) continue;
        EXPECT_EQ(found_live[n], needed[t][n]) << box.name << ", backward, in" << t << " element " << n;
      }
    }
  }

  static RefTensor Run(const BlackBox& box, const std::vector<TensorType>& types, const ElementFacts& facts) {
    std::vector<RefTensor> inputs;
    std::vector<const RefTensor*> pointers;
    for (size_t t = 0; t < types.size(); ++t) {
      inputs.emplace_back(types[t]);
      for (size_t k = 0; k < facts.inputs[t].size(); ++k) {
        inputs.back().f[k] = facts.inputs[t][k] ? facts.inputs[t][k]->f : 1;
      }
    }
    for (const RefTensor& input : inputs) pointers.push_back(&input);
    std::vector<RefTensor> outputs;
    outputs.emplace_back(box.outputs[0]);
    box.run(pointers, outputs);
    return std::move(outputs[0]);
  }
};

TEST_P(BlackBoxOps, Roll) {
  const auto run = [](std::span<const RefTensor* const> in, std::span<RefTensor> out) {
    const int64_t rows = in[0]->type.shape[0], columns = in[0]->type.shape[1];
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) out[0].f[(r + 2) % rows * columns + c] = in[0]->f[r * columns + c];
    }
  };
  ExpectRelation(MakeBox("roll 2", {F32({7, 3})}, SameAsFirst, run),
                 [](int64_t out) { return std::vector<Dependence>{{0, (out / 3 + 5) % 7 * 3 + out % 3}}; });
}

TEST_P(BlackBoxOps, CumulativeSum) {
  const auto run = [](std::span<const RefTensor* const> in, std::span<RefTensor> out) {
    const int64_t rows = in[0]->type.shape[0], columns = in[0]->type.shape[1];
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < columns; ++c) out[0].f[r * columns + c] = sum += in[0]->f[r * columns + c];
    }
  };
  ExpectRelation(MakeBox("cumulative sum", {F32({3, 7})}, SameAsFirst, run), [](int64_t out) {
    std::vector<Dependence> list;
    for (int64_t c = 0; c <= out % 7; ++c) list.push_back({0, out / 7 * 7 + c});
    return list;
  });
}

// y[i] = sum over k < 3 of band[i, k] * x[i + k - 1]
TEST_P(BlackBoxOps, BandedProduct) {
  const auto types = [](std::span<const TensorType> inputs) -> StatusOr<std::vector<TensorType>> {
    const Shape& band = inputs[0].shape;
    if (band.rank() != 2 || band[1] != 3 || inputs[1].shape != Shape{band[0]}) {
      return Error(ErrorCode::kShapeMismatch, "expected [n, 3] and [n]");
    }
    return std::vector<TensorType>{inputs[1]};
  };
  const auto run = [](std::span<const RefTensor* const> in, std::span<RefTensor> out) {
    const int64_t n = in[1]->type.shape[0];
    for (int64_t i = 0; i < n; ++i) {
      out[0].f[i] = 0;
      for (int64_t k = 0; k < 3; ++k) {
        if (i + k - 1 >= 0 && i + k - 1 < n) out[0].f[i] += in[0]->f[i * 3 + k] * in[1]->f[i + k - 1];
      }
    }
  };
  ExpectRelation(MakeBox("banded product", {F32({11, 3}), F32({11})}, types, run), [](int64_t out) {
    std::vector<Dependence> list;
    for (int64_t k = 0; k < 3; ++k) {
      if (out + k - 1 < 0 || out + k - 1 >= 11) continue;
      list.push_back({0, out * 3 + k, 1, out + k - 1});
      list.push_back({1, out + k - 1, 0, out * 3 + k});
    }
    return list;
  });
}

// a, plus b on the black squares.
TEST_P(BlackBoxOps, CheckerboardAdd) {
  const auto run = [](std::span<const RefTensor* const> in, std::span<RefTensor> out) {
    const int64_t columns = in[0]->type.shape[1];
    for (int64_t k = 0; k < in[0]->size(); ++k) {
      const bool black = (k / columns + k % columns) % 2 == 0;
      out[0].f[k] = in[0]->f[k] + (black ? in[1]->f[k] : 0);
    }
  };
  ExpectRelation(MakeBox("checkerboard add", {F32({5, 6}), F32({5, 6})}, SameOfTwo, run), [](int64_t out) {
    std::vector<Dependence> list = {{0, out}};
    if ((out / 6 + out % 6) % 2 == 0) list.push_back({1, out});
    return list;
  });
}

// A C function: the scaled differences of all pairs.
int Differences(void* context, const double* const* in, double* const* out) {
  const double scale = *static_cast<const double*>(context);
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 5; ++j) out[0][i * 5 + j] = scale * (in[0][i] - in[1][j]);
  }
  return 0;
}

TEST_P(BlackBoxOps, FunctionInC) {
  double scale = 0.5;
  ExpectRelation(MakeBlackBox("differences", {F32({4}), F32({5})}, {F32({4, 5})}, &Differences, &scale),
                 [](int64_t out) { return std::vector<Dependence>{{0, out / 5}, {1, out % 5}}; });
}

INSTANTIATE_TEST_SUITE_P(Every, BlackBoxOps, testing::Values(RuleMode::kLearned, RuleMode::kInstance),
                         [](const testing::TestParamInfo<RuleMode>& info) { return std::string(Name(info.param)); });

// A rule by hand goes before all others, for the nodes that it wants.
TEST(HandWrittenTest, GoesFirst) {
  std::mt19937_64 rng(3);
  const auto softmax = [&](int64_t axis) {
    CaseBuilder builder(Op::kSoftmax, rng);
    builder.attrs = MakeAttrs({{"axis", axis}});
    builder.Input(DType::kF32, {4, 5});
    return builder.Finish();
  };
  RuleBook book(RuleMode::kExact);
  book.Register(Op::kSoftmax, [](const Graph& graph, const Node& node) -> std::optional<Rule> {
    if (node.attrs.Int("axis") != 1) return std::nullopt;
    Rule rule;
    rule.name = "softmax";
    rule.inputs = rule.outputs = {graph[node.inputs[0]].type};
    Clause clause;
    clause.extents = {4, 5, 5};
    clause.out = Straight({4, 5});
    clause.in = {.view = {4, 5}, .index = {Variable(0), Variable(2)}};
    rule.clauses = {clause};
    return rule;
  });
  const RandomCase rows = softmax(1), columns = softmax(0);
  const StatusOr<const Transfer*> by_hand = book.For(rows.graph, rows.graph.nodes[0]);
  ASSERT_TRUE(by_hand.ok()) << by_hand.status();
  EXPECT_EQ(book.Entries().back().source, "by hand");
  const StatusOr<const Transfer*> exact = book.For(columns.graph, columns.graph.nodes[0]);
  ASSERT_TRUE(exact.ok()) << exact.status();
  EXPECT_EQ(book.Entries().back().source, "exact");
  // One live element keeps its row.
  const Known unknown = Known::Unknown(F32({4, 5}));
  std::vector<uint8_t> live(20, 0), row(20, 0);
  live[7] = 1;
  std::fill(row.begin() + 5, row.begin() + 10, 1);
  const Needed needed = Needed::FromElements({4, 5}, live);
  const Known* operands[] = {&unknown};
  const Needed* outputs[] = {&needed};
  EXPECT_EQ((*by_hand)->Backward(0, operands, outputs)->live.Elements(), row);
}

}  // namespace
}  // namespace tessera
