#include "propagate/propagate.h"

#include <algorithm>
#include <cmath>

#include "graph/builder.h"
#include "graph/interpreter.h"
#include "graph/testing/random_graph.h"
#include "gtest/gtest.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

// A tensor of random numbers in ±[0.5, 2] with zeros where `pruned` says so, given its index.
template <typename Pruned>
Tensor Weights(Random& random, const Shape& shape, Pruned pruned) {
  Tensor tensor(DType::kF32, shape);
  int64_t k = 0;
  ForEachIndex(shape, [&](const std::vector<int64_t>& at) {
    const double value = random.Uniform(0.5, 2) * (random.Chance(0.5) ? 1 : -1);
    tensor.Set(k++, pruned(at) ? 0 : value);
  });
  return tensor;
}
Tensor Weights(Random& random, const Shape& shape) {
  return Weights(random, shape, [](const std::vector<int64_t>&) { return false; });
}

std::vector<int> DeadAlong(const Facts& facts, ValueId value, int axis) {
  const Needed& needed = facts.needed[static_cast<size_t>(Index(value))];
  const std::vector<uint8_t> live = needed.live.Elements();
  std::vector<int> any(static_cast<size_t>(needed.shape()[axis]), 0), dead;
  size_t k = 0;
  ForEachIndex(needed.shape(), [&](const std::vector<int64_t>& at) {
    any[static_cast<size_t>(at[static_cast<size_t>(axis)])] |= live[k++];
  });
  for (size_t i = 0; i < any.size(); ++i) {
    if (any[i] == 0) dead.push_back(static_cast<int>(i));
  }
  return dead;
}

std::vector<int> ZeroAlong(const Facts& facts, ValueId value, int axis) {
  const Known& known = facts.known[static_cast<size_t>(Index(value))];
  const std::vector<uint8_t> kinds = known.kind.Elements();
  std::vector<int> all(static_cast<size_t>(known.shape()[axis]), 1), zero;
  size_t k = 0;
  ForEachIndex(known.shape(), [&](const std::vector<int64_t>& at) {
    if (kinds[k++] != static_cast<uint8_t>(Certainty::kZero))
      all[static_cast<size_t>(at[static_cast<size_t>(axis)])] = 0;
  });
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i] != 0) zero.push_back(static_cast<int>(i));
  }
  return zero;
}

double AsDouble(const RefTensor& tensor, int64_t k) {
  return tensor.is_float() ? tensor.f[static_cast<size_t>(k)] : static_cast<double>(tensor.i[static_cast<size_t>(k)]);
}

bool Close(double a, double b, double tolerance) {
  return a == b || (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) <= tolerance * std::max(1.0, std::fabs(b));
}

// The graph's outputs when each reader of a known element uses the constant and not the memory, which is what Needed
// counts on: of a product of two zeros each factor is dead because of the other.
std::vector<RefTensor> RunOnKnown(const Graph& graph, const Facts& facts, const std::vector<Tensor>& inputs) {
  std::vector<RefTensor> values(graph.values.size());
  for (size_t k = 0; k < inputs.size(); ++k)
    values[static_cast<size_t>(Index(graph.inputs[k]))] = RefTensor::From(inputs[k]);
  for (size_t v = 0; v < values.size(); ++v) {
    if (graph.values[v].kind == ValueKind::kConstant) values[v] = RefTensor::From(graph.values[v].constant);
  }
  for (const Node& node : graph.nodes) {
    std::vector<const RefTensor*> operands;
    for (ValueId id : Operands(node)) {
      operands.push_back(id == ValueId::kNone ? nullptr : &values[static_cast<size_t>(Index(id))]);
    }
    std::vector<RefTensor> results = InterpretNode(graph, node, operands);
    for (size_t n = 0; n < results.size(); ++n) {
      const Known& known = facts.known[static_cast<size_t>(Index(node.outputs[n]))];
      int64_t k = 0;
      if (!known.nothing_known()) {
        ForEachIndex(known.shape(), [&](const std::vector<int64_t>& at) {
          const double value = known.at(at) == Certainty::kUnknown ? 0 : known.ValueAt(at);
          if (known.at(at) != Certainty::kUnknown) {
            results[n].Set(k, {.f = value, .i = results[n].is_float() ? 0 : static_cast<int64_t>(value)});
          }
          ++k;
        });
      }
      values[static_cast<size_t>(Index(node.outputs[n]))] = std::move(results[n]);
    }
  }
  std::vector<RefTensor> outputs;
  for (ValueId id : graph.outputs) outputs.push_back(values[static_cast<size_t>(Index(id))]);
  return outputs;
}

// What Known calls constant is so in runs on random inputs, and what Needed calls dead may hold anything: other numbers
// in dead elements of constants and inputs change no output. Zeros of constants are known, and stay.
void ExpectTrue(const Graph& graph, const Facts& facts, Random& random) {
  for (int run = 0; run < 2; ++run) {
    const std::vector<Tensor> inputs = RandomInputs(random, graph);
    ASSERT_OK_AND_ASSIGN(const std::vector<RefTensor> values, InterpretAll(graph, inputs));
    for (size_t v = 0; v < values.size(); ++v) {
      const Known& known = facts.known[v];
      if (known.nothing_known() || graph.values[v].kind == ValueKind::kConstant) continue;
      int64_t k = 0;
      ForEachIndex(known.shape(), [&](const std::vector<int64_t>& at) {
        const double found = AsDouble(values[v], k++);
        if (known.at(at) == Certainty::kUnknown) return;
        EXPECT_TRUE(Close(known.ValueAt(at), found, 1e-9))
            << graph.values[v].name << "[" << k - 1 << "] is said to be " << known.ValueAt(at) << ", found " << found;
      });
    }
    Graph other = graph;
    std::vector<Tensor> other_inputs = inputs;
    const auto overwrite = [&](ValueId id, Tensor& tensor) {
      if (!IsFloat(tensor.dtype())) return;
      const std::vector<uint8_t> live = facts.needed[static_cast<size_t>(Index(id))].live.Elements();
      for (size_t k = 0; k < live.size(); ++k) {
        const bool constant = graph.IsConstant(id);
        if (live[k] != 0 || (constant && tensor.Get(static_cast<int64_t>(k)) == 0)) continue;
        tensor.Set(static_cast<int64_t>(k), random.Normal() * 3);
      }
    };
    for (size_t v = 0; v < other.values.size(); ++v) {
      if (other.values[v].kind == ValueKind::kConstant) overwrite(static_cast<ValueId>(v), other.values[v].constant);
    }
    for (size_t k = 0; k < inputs.size(); ++k) overwrite(graph.inputs[k], other_inputs[k]);
    std::string overwritten;
    for (size_t v = 0; v < other.values.size(); ++v) {
      if (!(other.values[v].constant == graph.values[v].constant)) overwritten += " " + graph.values[v].name;
    }
    ASSERT_OK_AND_ASSIGN(const std::vector<RefTensor> expected, Interpret(graph, inputs));
    const std::vector<RefTensor> found = RunOnKnown(other, facts, other_inputs);
    for (size_t n = 0; n < found.size(); ++n) {
      for (int64_t k = 0; k < found[n].size(); ++k) {
        const double a = AsDouble(found[n], k), b = AsDouble(expected[n], k);
        EXPECT_TRUE(Close(a, b, 1e-9)) << "output " << n << "[" << k << "]: " << a << " instead of " << b
                                       << overwritten;
      }
    }
    if (testing::Test::HasFailure()) return;
  }
}

// Propagates by exact rules, keeps what collapses, and holds the facts against runs.
Facts FactsOf(const Graph& graph, const PropagateOptions& options = {.on_collapse = OnCollapse::kKeep}) {
  RuleBook book(RuleMode::kExact);
  StatusOr<Facts> facts = Propagate(graph, book, options);
  TES_CHECK(facts.ok(), facts.status());
  Random random(99);
  ExpectTrue(graph, *facts, random);
  return *std::move(facts);
}

TEST(Propagate, Forward) {
  Random random(1);
  GraphBuilder b("forward");
  const ValueId x = b.Input("x", DType::kF32, {2, 4});
  const ValueId w = b.Constant("w", Weights(random, {4, 5}, [](const auto& at) { return at[1] == 1 || at[1] == 3; }));
  const ValueId h = b.Matmul(x, w);
  const ValueId y = b.Transpose(b.Relu(h), {1, 0});
  b.Output(y);
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const Facts facts = FactsOf(graph);
  EXPECT_EQ(ZeroAlong(facts, h, 1), (std::vector<int>{1, 3}));
  EXPECT_EQ(ZeroAlong(facts, y, 0), (std::vector<int>{1, 3}));
}

TEST(Propagate, BackwardAndSideways) {
  Random random(2);
  GraphBuilder b("backward");
  const ValueId x = b.Input("x", DType::kF32, {2, 4});
  const ValueId w1 = b.Constant("w1", Weights(random, {4, 5}, [](const auto& at) { return at[1] == 4; }));
  const ValueId b1 = b.Constant("b1", Weights(random, {5}, [](const auto& at) { return at[0] == 4; }));
  const ValueId w2 = b.Constant("w2", Weights(random, {5, 3}, [](const auto& at) { return at[0] == 2; }));
  const ValueId h = b.Relu(b.Add(b.Matmul(x, w1), b1));
  b.Output(b.Matmul(h, w2));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const Facts facts = FactsOf(graph);
  // Row 2 of w2 is zero: unit 2 is unread, so are its weights and its bias.
  EXPECT_EQ(DeadAlong(facts, h, 1), (std::vector<int>{2}));
  EXPECT_EQ(DeadAlong(facts, w1, 1), (std::vector<int>{2}));
  EXPECT_EQ(DeadAlong(facts, b1, 0), (std::vector<int>{2}));
  // Unit 4 is zero: row 4 of w2 meets nothing else. (So is row 2, which is zero, with a unit that is alive.)
  EXPECT_EQ(ZeroAlong(facts, h, 1), (std::vector<int>{4}));
  EXPECT_EQ(DeadAlong(facts, w2, 0), (std::vector<int>{4}));
  EXPECT_EQ(DeadAlong(facts, x, 1), (std::vector<int>{}));
  EXPECT_EQ(PrunedAttribute(graph, facts, w1).num_kept(), 4 * 3);
  EXPECT_EQ(PrunedAttribute(graph, facts, w2).num_kept(), 3 * 3);
}

TEST(Propagate, AChainNeedsPassesInAnAdverseOrderOnly) {
  // Unit k of each layer reads unit k - 1 of the one before alone: a pruned first unit runs through all layers, and a
  // last one that is unread runs back.
  constexpr int64_t kLayers = 6, kUnits = 9;
  Random random(3);
  GraphBuilder b("chain");
  ValueId x = b.Input("x", DType::kF32, {1, kUnits});
  std::vector<ValueId> weights;
  for (int64_t l = 0; l < kLayers; ++l) {
    weights.push_back(b.Constant("w" + std::to_string(l),
                                 Weights(random, {kUnits, kUnits}, [](const auto& at) { return at[1] != at[0] + 1; })));
    x = b.Relu(b.Matmul(x, weights.back()));
  }
  b.Output(x);
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const Facts once = FactsOf(graph);
  EXPECT_EQ(once.passes, 1);
  int most = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Facts facts = FactsOf(graph, {.on_collapse = OnCollapse::kKeep, .order_seed = seed});
    most = std::max(most, facts.passes);
    EXPECT_EQ(facts.known, once.known);
    EXPECT_EQ(facts.needed, once.needed);
  }
  EXPECT_GE(most, 3);
  for (int64_t l = 0; l < kLayers; ++l) {
    EXPECT_EQ(PrunedAttribute(graph, once, weights[static_cast<size_t>(l)]).num_kept(), kUnits - kLayers) << l;
  }
}

TEST(Propagate, IsIndependentOfTheOrder) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    Random random(seed);
    const Graph graph = RandomGraph(random, {.min_nodes = 8, .max_nodes = 30});
    RuleBook book(RuleMode::kExact);
    ASSERT_OK_AND_ASSIGN(const Facts expected, Propagate(graph, book, {.on_collapse = OnCollapse::kKeep}));
    for (uint64_t order = 1; order <= 50; ++order) {
      ASSERT_OK_AND_ASSIGN(const Facts facts,
                           Propagate(graph, book, {.on_collapse = OnCollapse::kKeep, .order_seed = order}));
      ASSERT_EQ(facts.known, expected.known) << "seed " << seed << ", order " << order;
      ASSERT_EQ(facts.needed, expected.needed) << "seed " << seed << ", order " << order;
    }
  }
}

TEST(Propagate, IsTrueOfRandomGraphs) {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    Random random(seed);
    const Graph graph = RandomGraph(random, {.min_nodes = 5, .max_nodes = 40});
    RuleBook book(RuleMode::kExact);
    ASSERT_OK_AND_ASSIGN(const Facts facts, Propagate(graph, book, {.on_collapse = OnCollapse::kKeep}));
    ExpectTrue(graph, facts, random);
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

TEST(Propagate, AReaderThatDropsAColumnDoesNotTakeItFromAnother) {
  Random random(4);
  GraphBuilder b("two readers");
  const ValueId x = b.Input("x", DType::kF32, {2, 4});
  const ValueId h = b.Relu(b.Matmul(x, b.Constant("w", Weights(random, {4, 6}))));
  b.Output(
      b.Matmul(h, b.Constant("a", Weights(random, {6, 3}, [](const auto& at) { return at[0] == 1 || at[0] == 5; }))));
  b.Output(
      b.Matmul(h, b.Constant("c", Weights(random, {6, 3}, [](const auto& at) { return at[0] == 2 || at[0] == 5; }))));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  EXPECT_EQ(DeadAlong(FactsOf(graph), h, 1), (std::vector<int>{5}));
}

TEST(Propagate, OneValueAtTwoOperands) {
  Random random(5);
  GraphBuilder b("square");
  const ValueId x = b.Input("x", DType::kF32, {4, 4});
  const ValueId w = b.Constant("w", Weights(random, {4, 4}, [](const auto& at) { return at[1] == 2; }));
  const ValueId h = b.Matmul(x, w);
  b.Output(b.Slice(b.Mul(h, h), {0, 0}, {4, 3}));
  b.Output(b.Slice(b.Matmul(w, w), {0, 0}, {2, 4}));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const Facts facts = FactsOf(graph);
  EXPECT_EQ(ZeroAlong(facts, h, 1), (std::vector<int>{2}));
  EXPECT_EQ(DeadAlong(facts, h, 1), (std::vector<int>{2, 3}));  // 2: its own square is zero
}

TEST(Propagate, ResidualAddKeepsWhatEitherBranchGives) {
  Random random(6);
  GraphBuilder b("residual");
  const WindowParams same = {.pads = {1, 1, 1, 1}};
  const auto conv = [&](ValueId x, const std::string& name, std::vector<int64_t> pruned) {
    return b.Conv(x,
                  b.Constant(name, Weights(random, {4, 4, 3, 3},
                                           [&](const auto& at) {
                                             return std::find(pruned.begin(), pruned.end(), at[0]) != pruned.end();
                                           })),
                  same);
  };
  const ValueId stem = b.Relu(conv(b.Input("x", DType::kF32, {1, 4, 5, 5}), "stem", {0, 1}));
  const ValueId inner = b.Relu(conv(stem, "inner", {2}));
  const ValueId outer = conv(inner, "outer", {1, 3});
  const ValueId sum = b.Add(outer, stem);
  b.Output(conv(b.Relu(sum), "last", {}));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const Facts facts = FactsOf(graph);
  EXPECT_EQ(ZeroAlong(facts, sum, 1), (std::vector<int>{1}));
  EXPECT_EQ(ZeroAlong(facts, inner, 1), (std::vector<int>{2}));
  // Input channel 2 of `outer` meets a zero; those of `last` and `inner` meet the stem's and the sum's.
  EXPECT_EQ(DeadAlong(facts, graph.FindValue("outer"), 1), (std::vector<int>{2}));
  EXPECT_EQ(DeadAlong(facts, graph.FindValue("inner"), 1), (std::vector<int>{0, 1}));
  EXPECT_EQ(DeadAlong(facts, graph.FindValue("last"), 1), (std::vector<int>{1}));
}

TEST(Propagate, ConcatAndSliceMoveChannels) {
  Random random(7);
  GraphBuilder b("dense block");
  const auto weights = [&](const std::string& name, const Shape& shape, int64_t axis, int64_t pruned) {
    return b.Constant(name,
                      Weights(random, shape, [=](const auto& at) { return at[static_cast<size_t>(axis)] == pruned; }));
  };
  const ValueId x = b.Input("x", DType::kF32, {1, 3, 4, 4});
  const ValueId one = b.Conv(x, weights("one", {2, 3, 1, 1}, 0, 1));
  const ValueId two = b.Conv(b.Concat({x, one}, 1), weights("two", {2, 5, 1, 1}, 0, 0));
  const ValueId all = b.Concat({x, one, two}, 1);  // zero: 4 (of one), 5 (of two)
  const ValueId left = b.Slice(all, {0, 0, 0, 0}, {1, 4, 4, 4});
  const ValueId right = b.Slice(all, {0, 3, 0, 0}, {1, 4, 4, 4});
  b.Output(b.Conv(left, weights("left", {2, 4, 1, 1}, 1, 1)));
  b.Output(b.Conv(right, weights("right", {2, 4, 1, 1}, 1, 3)));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const Facts facts = FactsOf(graph);
  EXPECT_EQ(ZeroAlong(facts, all, 1), (std::vector<int>{4, 5}));
  EXPECT_EQ(ZeroAlong(facts, right, 1), (std::vector<int>{1, 2}));
  EXPECT_EQ(DeadAlong(facts, all, 1), (std::vector<int>{1, 6}));  // unread by `left`, unread by `right`
  EXPECT_EQ(DeadAlong(facts, two, 1), (std::vector<int>{1}));
  // Channel 1 of the input is still read by the convolutions within.
  EXPECT_EQ(DeadAlong(facts, x, 1), (std::vector<int>{}));
}

TEST(Propagate, GroupedConvolutionKeepsGroupsApart) {
  Random random(8);
  GraphBuilder b("groups");
  const ValueId x = b.Input("x", DType::kF32, {1, 6, 5, 5});
  const ValueId w1 = b.Constant("w1", Weights(random, {6, 6, 1, 1}, [](const auto& at) { return at[0] >= 3; }));
  const ValueId w2 = b.Constant("w2", Weights(random, {4, 3, 3, 3}, [](const auto& at) { return at[0] == 0; }));
  const ValueId h = b.Relu(b.Conv(x, w1));
  const ValueId y = b.Conv(h, w2, {.pads = {1, 1, 1, 1}}, 2);
  b.Output(y);
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const Facts facts = FactsOf(graph);
  // The second group reads channels 3, 4, 5, which are zero.
  EXPECT_EQ(ZeroAlong(facts, y, 1), (std::vector<int>{0, 2, 3}));
  EXPECT_EQ(DeadAlong(facts, w2, 0), (std::vector<int>{2, 3}));
}

TEST(Propagate, SharedWeightsAreDeadOnlyForBoth) {
  Random random(9);
  GraphBuilder b("shared");
  const ValueId w = b.Constant("w", Weights(random, {4, 4}));
  const auto drop = [&](const std::string& name, int64_t first, int64_t second) {
    return b.Constant(name, Weights(random, {4, 2}, [=](const auto& at) { return at[0] == first || at[0] == second; }));
  };
  b.Output(b.Matmul(b.Relu(b.Matmul(b.Input("x", DType::kF32, {1, 4}), w)), drop("a", 0, 3)));
  b.Output(b.Matmul(b.Relu(b.Matmul(b.Input("y", DType::kF32, {1, 4}), w)), drop("c", 1, 3)));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  EXPECT_EQ(DeadAlong(FactsOf(graph), w, 1), (std::vector<int>{3}));
}

// Two heads of depth 3 over 4 positions; `pruned` says which rows of the output projection are.
struct AttentionGraph {
  Graph graph;
  ValueId wq, wk, wv, scores, mix;
};
AttentionGraph Heads(Random& random, std::vector<int64_t> pruned_rows) {
  GraphBuilder b("attention");
  const ValueId x = b.Input("x", DType::kF32, {1, 4, 6});
  AttentionGraph out;
  out.wq = b.Constant("wq", Weights(random, {6, 6}));
  out.wk = b.Constant("wk", Weights(random, {6, 6}));
  out.wv = b.Constant("wv", Weights(random, {6, 6}));
  const ValueId wo = b.Constant("wo", Weights(random, {6, 6}, [&](const auto& at) {
                                  return std::find(pruned_rows.begin(), pruned_rows.end(), at[0]) != pruned_rows.end();
                                }));
  const auto heads = [&](ValueId w, std::vector<int64_t> perm) {
    return b.Transpose(b.Reshape(b.Matmul(x, w), {1, 4, 2, 3}), std::move(perm));
  };
  const ValueId q = heads(out.wq, {0, 2, 1, 3}), k = heads(out.wk, {0, 2, 3, 1}), v = heads(out.wv, {0, 2, 1, 3});
  out.scores = b.Div(b.Matmul(q, k), b.Number(std::sqrt(3.0)));
  out.mix = b.Matmul(b.Softmax(out.scores, 3), v);
  b.Output(b.Matmul(b.Reshape(b.Transpose(out.mix, {0, 2, 1, 3}), {1, 4, 6}), wo));
  out.graph = *std::move(b).Build();
  return out;
}

TEST(Propagate, AHeadThatIsUnreadIsDeadWithItsScores) {
  Random random(10);
  const AttentionGraph a = Heads(random, {3, 4, 5});
  const Facts facts = FactsOf(a.graph);
  EXPECT_EQ(DeadAlong(facts, a.mix, 1), (std::vector<int>{1}));
  EXPECT_EQ(DeadAlong(facts, a.scores, 1), (std::vector<int>{1}));
  for (ValueId w : {a.wq, a.wk, a.wv}) EXPECT_EQ(DeadAlong(facts, w, 1), (std::vector<int>{3, 4, 5}));
}

TEST(Propagate, PartOfAHeadIsDeadInTheValuesOnly) {
  Random random(11);
  const AttentionGraph a = Heads(random, {4});
  const Facts facts = FactsOf(a.graph);
  EXPECT_EQ(DeadAlong(facts, a.wv, 1), (std::vector<int>{4}));
  for (ValueId w : {a.wq, a.wk}) EXPECT_EQ(DeadAlong(facts, w, 1), (std::vector<int>{}));
}

TEST(Propagate, FlattenSpreadsChannels) {
  Random random(12);
  GraphBuilder b("flatten");
  const ValueId w = b.Constant("w", Weights(random, {3, 2, 1, 1}, [](const auto& at) { return at[0] == 1; }));
  const ValueId h = b.Conv(b.Input("x", DType::kF32, {1, 2, 2, 2}), w);
  const ValueId flat = b.Reshape(h, {1, 12});
  const ValueId fc = b.Constant("fc", Weights(random, {12, 2}, [](const auto& at) { return at[0] >= 8; }));
  b.Output(b.Matmul(flat, fc));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const Facts facts = FactsOf(graph);
  EXPECT_EQ(ZeroAlong(facts, flat, 1), (std::vector<int>{4, 5, 6, 7}));
  EXPECT_EQ(DeadAlong(facts, fc, 0), (std::vector<int>{4, 5, 6, 7}));
  EXPECT_EQ(DeadAlong(facts, w, 0), (std::vector<int>{2}));
}

TEST(Propagate, ConstantsRunThroughBiasNormAndActivation) {
  Random random(13);
  GraphBuilder b("constants");
  const ValueId x = b.Input("x", DType::kF32, {1, 2, 4, 4});
  const ValueId w = b.Constant("w", Weights(random, {4, 2, 3, 3}, [](const auto& at) { return at[0] != 3; }));
  const auto vector = [&](const std::string& name, std::vector<float> values) {
    const Shape shape = {static_cast<int64_t>(values.size())};
    return b.Constant(name, Tensor::FromVector<float>(shape, values));
  };
  const ValueId conv = b.Conv(x, w, {.pads = {1, 1, 1, 1}});
  const ValueId norm = b.BatchNorm(conv, vector("scale", {1, 2, 1, 1}), vector("bias", {-1, 0.5, 0.25, 1}),
                                   vector("mean", {0, 1, 0, 0}), vector("variance", {1, 4, 1, 1}), 0);
  const ValueId relu = b.Relu(norm);
  // A depthwise window over constant channels: what it gives at the border differs, because of the padding.
  const ValueId dw = b.Constant("dw", Weights(random, {4, 1, 3, 3}));
  const ValueId y = b.Conv(relu, dw, {.pads = {1, 1, 1, 1}}, 4);
  b.Output(y);
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const Facts facts = FactsOf(graph);
  const auto known = [&](ValueId id) -> const Known& { return facts.known[static_cast<size_t>(Index(id))]; };
  const std::vector<int64_t> zeroth = {0, 0, 2, 2}, first = {0, 1, 2, 2}, second = {0, 2, 2, 2}, third = {0, 3, 2, 2};
  EXPECT_EQ(known(norm).ValueAt(zeroth), -1);
  EXPECT_EQ(known(relu).at(zeroth), Certainty::kZero);  // relu of a negative constant
  EXPECT_NEAR(known(norm).ValueAt(first), (0 - 1) / 2.0 * 2 + 0.5, 1e-12);
  EXPECT_NEAR(known(relu).ValueAt(second), 0.25, 1e-12);
  EXPECT_EQ(known(relu).at(third), Certainty::kUnknown);
  const std::vector<int64_t> corner = {0, 2, 0, 0};
  ASSERT_EQ(known(y).at(corner), Certainty::kConstant);
  ASSERT_EQ(known(y).at(second), Certainty::kConstant);
  EXPECT_NE(known(y).ValueAt(corner), known(y).ValueAt(second));
  EXPECT_EQ(known(y).CountOf(Certainty::kUnknown), 16);
}

TEST(Propagate, LargeConstantRegionsStayCells) {
  // 64 Mi elements, of which none is ever stored.
  GraphBuilder b("large");
  const ValueId zero = b.Constant("zero", Tensor(DType::kF32, {1, 1}));
  const ValueId big = b.Expand(zero, {8192, 8192});
  const ValueId y = b.Reduce(Op::kReduceSum, b.Relu(b.Add(big, b.Number(1))), {1}, false);
  b.Output(b.Add(b.Input("x", DType::kF32, {8192}), y));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  RuleBook book(RuleMode::kExact);
  ASSERT_OK_AND_ASSIGN(const Facts facts, Propagate(graph, book));
  EXPECT_EQ(facts.known[static_cast<size_t>(Index(big))].kind.num_cells(), 1);
  const std::vector<int64_t> last = {8191};
  EXPECT_EQ(facts.known[static_cast<size_t>(Index(y))].ValueAt(last), 8192);
  EXPECT_LT(facts.byte_size(), 10000);
}

Graph Collapsing() {
  Random random(14);
  GraphBuilder b("collapsing");
  const ValueId x = b.Input("x", DType::kF32, {1, 4});
  const ValueId w1 = b.Constant("w1", Weights(random, {4, 4}, [](const auto& at) { return at[1] < 2; }));
  const ValueId w2 = b.Constant("w2", Weights(random, {4, 3}, [](const auto& at) { return at[0] >= 2; }));
  b.SetTesa(w1, Attribute::FromZeros(Weights(random, {4, 4}, [](const auto& at) { return at[1] < 2; })));
  b.SetTesa(w2, Attribute::FromZeros(Weights(random, {4, 3}, [](const auto& at) { return at[0] >= 2; })));
  const ValueId h = b.Named("h").Matmul(x, w1);
  b.Output(b.Named("y").Matmul(h, w2));
  return *std::move(b).Build();
}

TEST(Propagate, ACollapseIsRefusedWithItsCauses) {
  const Graph graph = Collapsing();
  RuleBook book(RuleMode::kExact);
  EXPECT_THAT(
      Propagate(graph, book),
      StatusIs(ErrorCode::kNetworkCollapsed,
               HasSubstr("nothing is left of the output 'y':\n"
                         "    %y[*,*] is zero: matmul 'y' of %h[*,0], %h[*,1], %w2[2,*] and 1 more, which are zero\n"
                         "    %h[*,0] is zero: matmul 'h' of %w1[*,0], which is zero\n"
                         "    %h[*,1] is zero: matmul 'h' of %w1[*,1], which is zero\n"
                         "    %w2[2,*] is zero: declared pruned\n"
                         "    %w1[*,0] is zero: declared pruned\n"
                         "    %w1[*,1] is zero: declared pruned\n"
                         "  nothing is left of the weight 'w1':\n"
                         "    %w1[*,2] is dead: matmul 'h' reads it only for %h[*,2], which is dead\n")));
}

TEST(Propagate, ACollapseIsKeptAliveWhenAsked) {
  const Graph graph = Collapsing();
  const Facts facts = FactsOf(graph);
  ASSERT_EQ(facts.collapsed.size(), 3);
  EXPECT_EQ(facts.collapsed[0].value, graph.outputs[0]);
  EXPECT_TRUE(facts.known[static_cast<size_t>(Index(graph.outputs[0]))].kind.IsUniform(0));
}

TEST(Propagate, AnOutputOfConstantsIsNoCollapse) {
  GraphBuilder b("table");
  b.Output(b.Add(b.Number(1), b.Number(2)));
  b.Output(b.Relu(b.Input("x", DType::kF32, {2})));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  RuleBook book(RuleMode::kExact);
  ASSERT_OK_AND_ASSIGN(const Facts facts, Propagate(graph, book));
  EXPECT_TRUE(facts.known[static_cast<size_t>(Index(graph.outputs[0]))].all_known());
}

TEST(PrunedAttribute, IsTheLowestOfWhatIsKnown) {
  Random random(15);
  GraphBuilder b("bits");
  const ValueId x = b.Input("x", DType::kF32, {1, 3});
  const ValueId w = b.Constant("w", Weights(random, {3, 3}, [](const auto& at) { return at[0] == 0 && at[1] == 0; }));
  b.SetTesa(w, Attribute::FromBits({3, 3}, std::vector<uint8_t>{0, 4, 8, 4, 4, 8, 4, 4, 8}));
  const ValueId h = b.Matmul(x, w);
  b.Output(b.Slice(h, {0, 0}, {1, 2}));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  const Facts facts = FactsOf(graph);
  EXPECT_EQ(PrunedAttribute(graph, facts, w).Bits(), (std::vector<uint8_t>{0, 4, 0, 4, 4, 0, 4, 4, 0}));
  EXPECT_EQ(PrunedAttribute(graph, facts, h).Bits(), (std::vector<uint8_t>{32, 32, 0}));
}

}  // namespace
}  // namespace tessera
