// StepDependencies: which steps of a program must be done before which, from the memory that they share.
//
//   steps      0: x -> t     1: x -> u     2: t, u -> y
//   result     {{}, {}, {0, 1}}
//
// A device that runs steps side by side (a CUDA graph) needs no more than this. Two steps depend on each other where
// one writes bytes that the other reads or writes; buffers of the arena are compared by where they lie, so that memory
// which two tensors take in turn is safe. Pure function. Tested by step_order_test.cc.
#ifndef TESSERA_RUNTIME_STEP_ORDER_H_
#define TESSERA_RUNTIME_STEP_ORDER_H_

#include <vector>

#include "runtime/program.h"

namespace tessera {

// For each step the earlier steps that it waits for, ascending; what another of them waits for is left out. Steps with
// `skipped[s]` run nothing and appear nowhere; empty: none are. The program is one that Verify accepts.
std::vector<std::vector<int>> StepDependencies(const Program& program, const std::vector<bool>& skipped = {});

}  // namespace tessera

#endif  // TESSERA_RUNTIME_STEP_ORDER_H_
