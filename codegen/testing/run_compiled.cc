#include "codegen/testing/run_compiled.h"

#include <random>

#include "codegen/emitter.h"
#include "codegen/testing/run_program.h"
#include "graph/interpreter.h"
#include "tesa/testing/close.h"

namespace tessera {

std::vector<std::string> RunnableLevels() {
  std::vector<std::string> levels = {"host"};
  const StatusOr<Target> host = MakeTarget("host");
  for (const char* level : {"host:x86-64-v3", "host:x86-64"}) {
    const StatusOr<Target> target = MakeTarget(level);
    if (host.ok() && target.ok() && target->vector_bits <= host->vector_bits) levels.push_back(level);
  }
  return levels;
}

StatusOr<std::vector<Tensor>> RunCompiled(const Graph& graph, std::span<const Tensor> inputs, const std::string& level,
                                          const CompileOptions& options, CompileResult* result) {
  ASSIGN_OR_RETURN(const Target target, MakeTarget(level));
  ASSIGN_OR_RETURN(CompileResult compiled, Compile(graph, target, options));
  ASSIGN_OR_RETURN(std::vector<Tensor> outputs, RunProgram(compiled.program, target.device, inputs, 2));
  if (result != nullptr) *result = std::move(compiled);
  return outputs;
}

testing::AssertionResult CompiledAgrees(const Graph& graph, std::span<const Tensor> inputs, const std::string& level,
                                        const CompileOptions& options, double allowed) {
  const StatusOr<std::vector<RefTensor>> expected = Interpret(graph, inputs);
  if (!expected.ok()) return testing::AssertionFailure() << expected.status();
  const StatusOr<std::vector<Tensor>> found = RunCompiled(graph, inputs, level, options);
  if (!found.ok()) return testing::AssertionFailure() << level << ": " << found.status();
  for (size_t k = 0; k < found->size(); ++k) {
    const Tensor reference = (*expected)[k].ToTensor();
    const testing::AssertionResult close = Close((*found)[k], reference, allowed);
    if (!close) return testing::AssertionFailure() << level << ", output " << k << ": " << close.message();
  }
  return testing::AssertionSuccess();
}

testing::AssertionResult EveryNodeTakes(const Graph& graph, const std::string& level, const std::string& emitter) {
  const StatusOr<Target> target = MakeTarget(level);
  if (!target.ok()) return testing::AssertionFailure() << target.status();
  for (const Node& node : graph.nodes) {
    std::string report;
    const Choice choice = SelectEmitter(graph, node, *target, emitter, &report);
    if (choice.ToString() == emitter || choice.emitter->name == emitter) continue;
    return testing::AssertionFailure() << level << ": expected " << emitter << ", found " << report;
  }
  return testing::AssertionSuccess();
}

Graph Built(GraphBuilder builder) {
  StatusOr<Graph> graph = std::move(builder).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

std::vector<Tensor> RandomInputs(const Graph& graph, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Tensor> inputs;
  for (ValueId id : graph.inputs) {
    Tensor tensor(graph[id].type.dtype, graph[id].type.shape);
    for (int64_t k = 0; k < tensor.num_elements(); ++k) {
      if (IsFloat(tensor.dtype())) {
        tensor.Set(k, std::uniform_real_distribution<double>(-1, 1)(random));
      } else {
        tensor.SetInt(k, static_cast<int64_t>(random() % (IsBool(tensor.dtype()) ? 2 : 8)));
      }
    }
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

}  // namespace tessera
