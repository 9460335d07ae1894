// How a sparse product's tasks are cut, in which order they come, who packs what they read, and what all that takes.
//
//   SparseSchedule schedule = ScheduleSparse(problem, 31, row_bytes, target);
//   if (auto cut = BalanceSparse(problem, schedule, target)) …                 // blocks of equal work
//   schedule = OrderSparse(problem, schedule, target, microseconds);          // panels or blocks outer
//   SparseMicroseconds(problem, schedule, target, epilogue_cost, core_ns)
//
// On several threads what counts beside the work is who wrote what a thread reads. Pure functions. Tested by
// sparse_schedule_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_SPARSE_SCHEDULE_H_
#define TESSERA_CODEGEN_EMIT_HOST_SPARSE_SCHEDULE_H_

#include <cstdint>
#include <functional>
#include <optional>

#include "codegen/emit/host/sparse_matmul.h"

namespace tessera {

// `group_rows`: rows that the core computes together; `row_bytes`: what a row of W takes of its code and constants, of
// which a block's should stay in the second-level cache while panels pass.
SparseSchedule ScheduleSparse(const SparseProblem& problem, int group_rows, double row_bytes, const Target& target);

// Which part of the panel's rows that a core reads come from the second-level cache: none while a panel leaves room in
// the first, all from a panel and a quarter on.
double PanelMissShare(const SparseProblem& problem, const Target& target);

// Units of the depth, in equal chunks, whose panel rows stay in the first-level cache beside a block's sums; 0 where
// the whole depth does.
int64_t ChunkFor(const SparseProblem& problem, const Target& target);

// Packing, the core, which takes `core_ns` for all panels, and taking sums to the result.
double SparseMicroseconds(const SparseProblem& problem, const SparseSchedule& schedule, const Target& target,
                          int epilogue_cost, double core_ns);

// How much longer the busiest of `threads` takes than if all had the same share of what is kept: 1 where they have.
double BusiestShare(const SparseProblem& problem, const SparseSchedule& schedule, int threads);

// `schedule` with blocks cut so that every thread gets the same share of what is kept, at multiples of 16 rows, and as
// many blocks as every other; nullopt where equal blocks are as good. A third of 768 rows kept whole, the others 1 %,
// 16 columns, two threads: the busiest takes 1.94 times its share with equal blocks, and 1.03 times with these.
std::optional<SparseSchedule> BalanceSparse(const SparseProblem& problem, const SparseSchedule& schedule,
                                            const Target& target);

// `schedule` with its tasks in the order, and its panels packed where, `microseconds` is least on several threads; on
// one thread as it is.
SparseSchedule OrderSparse(const SparseProblem& problem, SparseSchedule schedule, const Target& target,
                           const std::function<double(const SparseSchedule&)>& microseconds);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_SPARSE_SCHEDULE_H_
