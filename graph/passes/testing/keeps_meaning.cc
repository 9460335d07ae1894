#include "graph/passes/testing/keeps_meaning.h"

#include <cstdlib>
#include <random>

#include "graph/interpreter.h"
#include "graph/passes/testing/random_idioms.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

Status SameFrame(const Graph& before, const Graph& after) {
  const auto compare = [&](const std::vector<ValueId>& a, const std::vector<ValueId>& b, const char* what) {
    if (a.size() != b.size()) return Error(ErrorCode::kInternal, "the number of ", what, " changed");
    for (size_t k = 0; k < a.size(); ++k) {
      if (before[a[k]].name == after[b[k]].name && before[a[k]].type == after[b[k]].type) continue;
      return Error(ErrorCode::kInternal, what, " ", k, " was ", before[a[k]].name, ": ", before[a[k]].type, " and is ",
                   after[b[k]].name, ": ", after[b[k]].type);
    }
    return OkStatus();
  };
  RETURN_IF_ERROR(compare(before.inputs, after.inputs, "inputs"));
  return compare(before.outputs, after.outputs, "outputs");
}

Status SameValues(const Graph& before, const Graph& after, const std::vector<Tensor>& inputs, Tolerance tolerance,
                  Interpretation how) {
  ASSIGN_OR_RETURN(const std::vector<RefTensor> expected, Interpret(before, inputs));
  ASSIGN_OR_RETURN(const std::vector<RefTensor> actual, Interpret(after, inputs, how));
  for (size_t k = 0; k < expected.size(); ++k) {
    RETURN_IF_ERROR(CompareRefs(expected[k], actual[k], tolerance)
                        .WithContext("output '" + before[before.outputs[k]].name + "'" +
                                     (how == Interpretation::kCompute ? " (by its compute)" : "")));
  }
  return OkStatus();
}

Status Same(const Graph& before, const Graph& after, const std::vector<Tensor>& inputs, Tolerance tolerance) {
  RETURN_IF_ERROR(Verify(after));
  RETURN_IF_ERROR(SameFrame(before, after));
  RETURN_IF_ERROR(SameValues(before, after, inputs, tolerance, Interpretation::kReference));
  return SameValues(before, after, inputs, tolerance, Interpretation::kCompute);
}

}  // namespace

Status SameMeaning(const Graph& before, const Graph& after, uint64_t seed, Tolerance tolerance) {
  std::mt19937_64 rng(seed);
  std::vector<Tensor> inputs;
  for (ValueId id : before.inputs) {
    Tensor tensor(before[id].type.dtype, before[id].type.shape);
    for (int64_t k = 0; k < tensor.num_elements(); ++k) {
      if (IsFloat(tensor.dtype())) {
        tensor.Set(k, std::uniform_real_distribution<double>(-2, 2)(rng));
      } else {
        tensor.SetInt(k, std::uniform_int_distribution<int64_t>(0, IsBool(tensor.dtype()) ? 1 : 3)(rng));
      }
    }
    inputs.push_back(std::move(tensor));
  }
  return Same(before, after, inputs, tolerance);
}

void ExpectKeepsMeaning(PassFunction pass, int num_graphs, Tolerance tolerance) {
  const char* only = std::getenv("TESSERA_SEED");
  const uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  const uint64_t last = only != nullptr ? first : static_cast<uint64_t>(num_graphs);
  int changed = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    const IdiomCase c = RandomIdioms(seed);
    ASSERT_TRUE(Verify(c.graph).ok()) << "seed " << seed << ": " << Verify(c.graph);
    Graph after = c.graph;
    Status status = pass(after);
    if (status.ok()) status = Same(c.graph, after, c.inputs, tolerance);
    ASSERT_TRUE(status.ok()) << "seed " << seed << ": " << status << "\nbefore: " << c.graph << "\nafter: " << after;
    changed += !(after == c.graph);
  }
  if (only != nullptr) return;
  EXPECT_GT(changed, num_graphs / 20) << "the pass has nothing to do on the random graphs";
}

}  // namespace tessera
