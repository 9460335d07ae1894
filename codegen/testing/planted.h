// Planted faults: a graph's own kernels with one thing changed in their IR, to see which rung of the ladder finds it.
//
//   const Plant plant = RemoveCalls("gpu.barrier");
//   ASSIGN_OR_RETURN(const int places, CountPlaces(graph, target, "gpu_matmul", plant));
//   for (int k = 0; k < places; ++k) {
//     ASSIGN_OR_RETURN(const auto program, PlantedProgram(graph, target, "gpu_matmul", plant, k));
//     RunProgram(program, "simt", inputs, 1);  // run_program.h
//   }
//
// A plant changes one place: the k-th instruction that it matches in the kernels of a plan, in the order in which these
// are written. Pure functions. Tested by planted_faults_test.cc.
#ifndef TESSERA_CODEGEN_TESTING_PLANTED_H_
#define TESSERA_CODEGEN_TESTING_PLANTED_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/emit/kernel_builder.h"
#include "codegen/plan.h"
#include "graph/graph.h"
#include "runtime/program.h"

namespace tessera {

struct Plant {
  std::function<bool(const llvm::Instruction& at)> matches;
  std::function<void(KernelBuilder& b, llvm::Instruction& at)> change;
};

// Of calls of device ops whose names begin so: the call goes, and what it gave is 0; its first two operands change
// places; it asks for an op of another name; only odd threads come to it.
Plant RemoveCalls(std::string_view prefix);
Plant SwapOperands(std::string_view prefix);
Plant RenameCalls(std::string_view prefix, std::string_view name);
Plant DivergeAt(std::string_view prefix);
// Loads from global memory and copies out of it, or stores to it, go `bytes` further.
Plant ShiftLoads(int64_t bytes);
Plant ShiftStores(int64_t bytes);

// How many places the plant has in the plan of `emitter` for a graph.
StatusOr<int> CountPlaces(const Graph& graph, const Target& target, const std::string& emitter, const Plant& plant);

// The program with the plant in its place-th place, each buffer in memory of its own; a negative place: without it.
StatusOr<std::shared_ptr<const Program>> PlantedProgram(const Graph& graph, const Target& target,
                                                        const std::string& emitter, const Plant& plant, int place);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TESTING_PLANTED_H_
