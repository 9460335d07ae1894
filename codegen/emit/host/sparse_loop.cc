// The sparse_loop emitter: products with scattered constant weights, the pattern as data. Small code that compiles at
// once and fits every pattern and processor; what sparse_stream takes over where straight code pays.
//
//   for row in block:
//     sum[4][16 lanes] = 0                                  four, because a multiply-add takes four cycles
//     for j in kept elements of the row, 4 at a time:
//       sum[j % 4] += splat(values[j]) * panel[at[j]]       at[j]: the column's place in the panel, in elements
//     sums[row] = sum[0] + sum[1] + sum[2] + sum[3]
//
// What binds: an element takes an index, a broadcast and a panel's row through the load ports for one multiply-add.
#include <algorithm>
#include <optional>

#include "codegen/emit/host/sparse_parts.h"
#include "codegen/emit/host/sparse_schedule.h"
#include "codegen/emitter.h"

namespace tessera {
namespace {

struct Loop {
  SparseSchedule schedule;
  double us = 0;
};

Loop Consider(const SparseProblem& problem, const Target& target, int epilogue_cost) {
  const double bytes = 8 * static_cast<double>(problem.all.pattern->num_kept());
  const double core = LoopCoreNanoseconds(problem, problem.all, target);
  const auto microseconds = [&](const SparseSchedule& schedule) {
    double ns = core;
    if (schedule.panels_outer) ns = std::max(ns, PassingNanoseconds(bytes, problem, schedule, target));
    return SparseMicroseconds(problem, schedule, target, epilogue_cost, ns);
  };
  const auto price = [&](const SparseSchedule& blocks) {
    Loop loop = {.schedule = OrderSparse(problem, blocks, target, microseconds)};
    loop.us = microseconds(loop.schedule);
    return loop;
  };
  const SparseSchedule schedule =
      ScheduleSparse(problem, kPanelLanes, bytes / static_cast<double>(problem.rows()), target);
  const Loop equal = price(schedule);
  const std::optional<SparseSchedule> balanced = BalanceSparse(problem, schedule, target);
  if (!balanced) return equal;
  const Loop cut = price(*balanced);
  return cut.us < equal.us ? cut : equal;
}

}  // namespace

extern const std::string_view kSparseLoopDoc;
const std::string_view kSparseLoopDoc =
    "f32 and u8 · i8 products with scattered constant weights, the pattern of what is kept read as data";

std::optional<double> EstimateSparseLoop(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<SparseProblem> problem = ReadSparseProblem(graph, node, target, why);
  if (!problem) return std::nullopt;
  *why = DescribeKept(*problem);
  return Consider(*problem, target, TileEpilogue(graph, node).cost()).us;
}

Status PlanSparseLoop(const Node& node, PlanBuilder& builder) {
  std::string why;
  const std::optional<SparseProblem> problem = ReadSparseProblem(builder.graph(), node, builder.target(), &why);
  TES_CHECK(problem.has_value(), why);
  const SparseSchedule schedule =
      Consider(*problem, builder.target(), TileEpilogue(builder.graph(), node).cost()).schedule;
  PlanSparseSteps(node, *problem, schedule, "sparse_loop", {LoopPart(*problem, problem->all, schedule, builder)},
                  builder);
  return OkStatus();
}

}  // namespace tessera
