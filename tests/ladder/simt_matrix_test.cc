// Whole networks as NVIDIA's and AMD's chips would run them, on the host under supervision: every kernel keeps the
// rules of its chip in every order of threads, gives the same bits in each, and the outputs are the reference's; with
// integers exactly those of the network as it was lowered, which differ from the given one's on borders only.
//
// A combination is a network in a pattern and a precision, for a chip. Usually a pairwise cover of all of them runs, in
// which each chip meets each pattern, and so on; with TESSERA_LADDER=all (`./check --all`) they all do. Each prints a
// line of JSON, from which table.py makes the table of docs/results/ladder.md.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "codegen/compile.h"
#include "codegen/target.h"
#include "codegen/testing/run_program.h"
#include "engine/engine_internal.h"
#include "graph/passes/pipeline.h"
#include "graph/passes/testing/at_borders.h"
#include "gtest/gtest.h"
#include "propagate/pipeline.h"
#include "tesa/testing/close.h"
#include "tests/ladder/ladder_network.h"
#include "tests/ladder/pairwise.h"
#include "tools/common/input_spec.h"
#include "tools/common/reference.h"

namespace tessera {
namespace {

constexpr const char* kOrders[] = {"simt", "simt:reverse", "simt:random:7"};
constexpr uint64_t kSeed = 1;

// One graph, and the chips that it runs for.
struct Combination {
  std::string network, pattern, precision;
  std::vector<std::string> chips;
};

std::vector<Combination> Combinations() {
  const auto levels = [](std::span<const std::string_view> names) { return static_cast<int>(names.size()); };
  const auto networks = LadderNetworks(), patterns = LadderPatterns(), precisions = LadderPrecisions(),
             chips = LadderChips();
  std::vector<std::vector<int>> rows;
  const char* wanted = std::getenv("TESSERA_LADDER");
  if (wanted == nullptr || std::string_view(wanted) != "all") {
    rows = PairwiseCover({levels(chips), levels(patterns), levels(precisions), levels(networks)});
  } else {
    for (int c = 0; c < levels(chips); ++c) {
      for (int a = 0; a < levels(patterns); ++a) {
        for (int p = 0; p < levels(precisions); ++p) {
          for (int n = 0; n < levels(networks); ++n) rows.push_back({c, a, p, n});
        }
      }
    }
  }
  std::map<std::vector<int>, std::vector<std::string>> chips_of;
  for (const std::vector<int>& row : rows) {
    chips_of[{row[3], row[1], row[2]}].emplace_back(chips[static_cast<size_t>(row[0])]);
  }
  std::vector<Combination> combinations;
  for (const auto& [graph, of_graph] : chips_of) {
    combinations.push_back({std::string(networks[static_cast<size_t>(graph[0])]),
                            std::string(patterns[static_cast<size_t>(graph[1])]),
                            std::string(precisions[static_cast<size_t>(graph[2])]), of_graph});
  }
  return combinations;
}

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Integers are exact: an output of one step too many, of 255, would be off by more than rounding it to f32 is. Where
// floats are quantised on the way (attention, norms) a value on the border of two integers may fall to either side, and
// so may what is made of it.
constexpr double kExact = 1e-6;

bool IsExact(const Combination& c) { return c.precision == "i8" && c.network != "bert"; }

// How many integers of the network as it is lowered for GPUs are the second nearest to their reals, all of which lie on
// a border as f32 sees it (at_borders.h). An error if anything else makes them differ from the given network's.
StatusOr<int64_t> IntegersOnBorders(const Graph& graph, const Graph& lowered, std::span<const Tensor> inputs,
                                    std::span<const Tensor> expected) {
  Graph before = graph;
  RETURN_IF_ERROR(Prepare(before, {.machine = MachineKind::kGpu, .passes = {.stop_after = "fuse_epilogues"}}).status());
  Graph after = before;
  RETURN_IF_ERROR(RunPasses(after, LoweringPipeline(MachineKind::kGpu).last(1)));
  if (!(after == lowered)) return Error(ErrorCode::kInternal, "expected nothing behind fuse_epilogues but requantize");
  ASSIGN_OR_RETURN(const std::vector<Tensor> outputs, Reference(before, inputs, ""));
  for (size_t k = 0; k < outputs.size(); ++k) {
    if (RelativeError(outputs[k], expected[k]) > kExact) {
      return Error(ErrorCode::kInternal, "a pass before requantize changes output ", k);
    }
  }
  ASSIGN_OR_RETURN(const Borders borders, CompareAtBorders(before, after, inputs));
  return borders.other_side;
}

class SimtMatrixTest : public testing::TestWithParam<Combination> {};

TEST_P(SimtMatrixTest, IsTheReferenceOnEveryChipInEveryOrder) {
  const Combination& c = GetParam();
  const StatusOr<Graph> graph = BuildLadderGraph(c.network, c.pattern, c.precision);
  ASSERT_TRUE(graph.ok()) << graph.status();
  std::vector<Tensor> inputs;
  for (ValueId id : graph->inputs) inputs.push_back(DefaultInput(*graph, id, kSeed));
  const StatusOr<std::vector<Tensor>> expected = Reference(*graph, inputs, "");
  ASSERT_TRUE(expected.ok()) << expected.status();
  const StatusOr<Model> model = ModelFromGraph(*graph);
  ASSERT_TRUE(model.ok()) << model.status();
  // What is lowered is the same for all GPUs.
  const StatusOr<Graph> lowered = OptimizedGraphOf(*model, {.target = "simt:" + c.chips[0]});
  ASSERT_TRUE(lowered.ok()) << lowered.status();
  const StatusOr<std::vector<Tensor>> exact = Reference(*lowered, inputs, "");
  ASSERT_TRUE(exact.ok()) << exact.status();
  double bound = IsExact(c) ? kExact : ErrorBound(*graph);
  int64_t on_borders = 0;
  for (size_t k = 0; IsExact(c) && k < exact->size(); ++k) {
    if (RelativeError((*exact)[k], (*expected)[k]) <= kExact) continue;
    const StatusOr<int64_t> counted = IntegersOnBorders(*graph, *lowered, inputs, *expected);
    ASSERT_TRUE(counted.ok()) << counted.status();
    on_borders = *counted;
    EXPECT_GT(on_borders, 0);
    bound = ErrorBound(*graph);
    break;
  }
  for (const std::string& chip : c.chips) {
    SCOPED_TRACE(chip);
    const StatusOr<Target> target = MakeTarget("simt:" + chip);
    ASSERT_TRUE(target.ok()) << target.status();
    auto start = std::chrono::steady_clock::now();
    const StatusOr<CompileResult> compiled = Compile(*lowered, *target, {.threads = 1});
    ASSERT_TRUE(compiled.ok()) << compiled.status();
    const double compile_s = SecondsSince(start);
    JsonWriter json;
    json.BeginObject().Key("chip").String(chip).Key("network").String(c.network).Key("pattern").String(c.pattern);
    json.Key("precision").String(c.precision).Key("kernels").Number(compiled->num_kernels);
    json.Key("compile_s").Number(compile_s).Key("run_s").BeginArray();
    std::vector<Tensor> first;
    for (const char* order : kOrders) {
      start = std::chrono::steady_clock::now();
      StatusOr<std::vector<Tensor>> found = RunProgram(compiled->program, order, inputs, 1);
      json.Number(SecondsSince(start));
      ASSERT_TRUE(found.ok()) << order << ": " << found.status();
      if (first.empty()) first = *found;
      for (size_t k = 0; k < first.size(); ++k) {
        const auto a = first[k].bytes(), b = (*found)[k].bytes();
        EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()))
            << order << ": output " << k << " depends on the order of threads";
      }
    }
    double error = 0, to_lowered = 0;
    for (size_t k = 0; k < first.size(); ++k) {
      EXPECT_TRUE(Close(first[k], (*expected)[k], bound)) << "output " << k;
      if (IsExact(c)) {
        EXPECT_TRUE(Close(first[k], (*exact)[k], kExact)) << "output " << k << " of what is lowered";
      }
      error = std::max(error, RelativeError(first[k], (*expected)[k]));
      to_lowered = std::max(to_lowered, RelativeError(first[k], (*exact)[k]));
    }
    json.EndArray().Key("rel_error").Number(error).Key("to_lowered").Number(to_lowered).Key("bound").Number(bound);
    json.Key("on_borders").Number(on_borders);
    std::printf("%s\n", json.EndObject().text().c_str());
  }
}

std::string NameOf(const testing::TestParamInfo<Combination>& info) {
  std::string name = info.param.network + "_" + info.param.pattern + "_" + info.param.precision;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Ladder, SimtMatrixTest, testing::ValuesIn(Combinations()), NameOf);

}  // namespace
}  // namespace tessera
