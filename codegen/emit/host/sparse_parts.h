// Parts of a sparse product whose kept units follow no pattern: what sparse_stream and sparse_loop are made of, and
// what a cover of several parts uses for the units that its blocks leave over.
//
//   SparsePart p = StreamPart(problem, share, schedule, false, builder);      // the pattern as straight code
//   SparsePart q = LoopPart(problem, other, schedule, builder);               // the pattern as data
//   PlanSparseSteps(node, problem, schedule, "sparse_stream", {p, q}, builder);
//
// A share's rows and units are those of the problem; it may keep any of them. Parts differ in time only:
// *CoreNanoseconds say how long one takes for all panels on one core, without packing and the way out. Tested by
// sparse_matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_SPARSE_PARTS_H_
#define TESSERA_CODEGEN_EMIT_HOST_SPARSE_PARTS_H_

#include <string>

#include "codegen/emit/host/sparse_matmul.h"

namespace tessera {

// Does the target have the instructions of streams (AVX2 with FMA, or AVX-512)?
bool HasStream(const Target& target);
StreamForm StreamFormFor(const SparseProblem& problem, const Target& target);
// The blocks' groups must fit StreamFormFor(…).MaxGroupRows(). `adds`: not the first part of its kernel.
SparsePart StreamPart(const SparseProblem& problem, const SparseShare& share, const SparseSchedule& schedule, bool adds,
                      PlanBuilder& builder);
double StreamCodeBytes(const StreamCounts& counts, const SparseProblem& problem, const Target& target);
// `counts`: of the share in the schedule's blocks.
double StreamCoreNanoseconds(const SparseProblem& problem, const StreamCounts& counts, const SparseSchedule& schedule,
                             const Target& target);
// What it takes at least that `bytes` of weights pass by panels in the schedule's order.
double PassingNanoseconds(double bytes, const SparseProblem& problem, const SparseSchedule& schedule,
                          const Target& target);

// For every target.
SparsePart LoopPart(const SparseProblem& problem, const SparseShare& share, const SparseSchedule& schedule,
                    PlanBuilder& builder);
double LoopCoreNanoseconds(const SparseProblem& problem, const SparseShare& share, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_SPARSE_PARTS_H_
