// Attention spelled out in the ways exporters write it, before and after, in double.
#include <gtest/gtest.h>

#include <random>

#include "graph/builder.h"
#include "graph/interpreter.h"
#include "graph/passes/canonicalize.h"
#include "graph/passes/recognize.h"
#include "graph/testing/run_op.h"

namespace tessera {
namespace {

struct Form {
  bool keys_as_rows = false;  // the product transposes them
  bool divides = true;
  bool masked = true;
  bool back = true;          // the result is transposed back
  bool scores_read = false;  // something else reads the shares
  bool unrelated_keys = false;
};

Graph Spelled(const Form& form) {
  GraphBuilder b("attention");
  const int64_t heads = 3, queries = 5, keys = 7, depth = 4;
  const ValueId q = b.Transpose(b.Input("q", DType::kF32, {2, queries, heads, depth}), {0, 2, 1, 3});
  const ValueId v = b.Transpose(b.Input("v", DType::kF32, {2, keys, heads, depth}), {0, 2, 1, 3});
  ValueId k =
      b.Input("k", DType::kF32, form.unrelated_keys ? Shape{2, heads, depth, keys} : Shape{2, keys, heads, depth});
  if (!form.unrelated_keys)
    k = b.Transpose(k, form.keys_as_rows ? std::vector<int64_t>{0, 2, 1, 3} : std::vector<int64_t>{0, 2, 3, 1});
  ValueId scores = b.Matmul(q, k, false, form.keys_as_rows);
  scores = form.divides ? b.Div(scores, b.Number(2)) : b.Mul(b.Number(0.5), scores);
  if (form.masked) scores = b.Add(b.Input("mask", DType::kF32, {2, 1, 1, keys}), scores);
  const ValueId shares = b.Softmax(scores, 3);
  if (form.scores_read) b.Output(b.Abs(shares));
  ValueId mix = b.Matmul(shares, v);
  if (form.back) mix = b.Transpose(mix, {0, 2, 1, 3});
  b.Output(mix);
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

// The op names after the pass, once the outputs are found to be the same.
std::string After(const Form& form) {
  const Graph before = Spelled(form);
  Graph after = before;
  EXPECT_TRUE(Recognize(after).ok());
  EXPECT_TRUE(Canonicalize(after).ok());  // transpositions there and back cancel
  std::mt19937_64 random(3);
  std::vector<Tensor> inputs;
  for (ValueId id : before.inputs) {
    Tensor tensor(before[id].type.dtype, before[id].type.shape);
    for (int64_t i = 0; i < tensor.num_elements(); ++i)
      tensor.Set(i, std::uniform_real_distribution<double>(-2, 2)(random));
    inputs.push_back(std::move(tensor));
  }
  const auto expected = Interpret(before, inputs), found = Interpret(after, inputs);
  EXPECT_TRUE(expected.ok() && found.ok()) << expected.status() << found.status();
  if (!expected.ok() || !found.ok()) return "";
  for (size_t i = 0; i < expected->size(); ++i) EXPECT_TRUE(CompareRefs((*expected)[i], (*found)[i]).ok());
  std::string ops;
  for (const Node& node : after.nodes) ops += (ops.empty() ? "" : " ") + std::string(Name(node.op));
  return ops;
}

TEST(RecognizeAttentionTest, AllTranspositionsGo) {
  EXPECT_EQ(After({}), "attention");
  EXPECT_EQ(After({.keys_as_rows = true, .divides = false}), "attention");
  EXPECT_EQ(After({.masked = false}), "attention");
}

TEST(RecognizeAttentionTest, WithoutTheWayBackOneTranspositionStays) {
  EXPECT_EQ(After({.keys_as_rows = true, .back = false}), "attention transpose");
  EXPECT_EQ(After({.back = false}), "attention transpose");
  EXPECT_EQ(After({.unrelated_keys = true}), "transpose transpose transpose attention transpose");
}

TEST(RecognizeAttentionTest, SharesThatSomethingElseReadsStay) {
  EXPECT_EQ(After({.scores_read = true}).find("attention"), std::string::npos);
}

}  // namespace
}  // namespace tessera
