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
#include <optional>

#include "codegen/emit/sparse_parts.h"
#include "codegen/emitter.h"

namespace tessera {
namespace {

SparseSchedule ScheduleLoop(const SparseProblem& problem, const Target& target) {
  const auto kept = static_cast<double>(problem.all.pattern->num_kept());
  return ScheduleSparse(problem, kPanelLanes, kept / static_cast<double>(problem.rows()) * 8, target);
}

}  // namespace

extern const std::string_view kSparseLoopDoc;
const std::string_view kSparseLoopDoc =
    "f32 and u8 · i8 products with scattered constant weights, the pattern of what is kept read as data";

std::optional<double> EstimateSparseLoop(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<SparseProblem> problem = ReadSparseProblem(graph, node, target, why);
  if (!problem) return std::nullopt;
  *why = DescribeKept(*problem);
  return SparseMicroseconds(*problem, ScheduleLoop(*problem, target), target, TileEpilogue(graph, node).cost(),
                            LoopCoreNanoseconds(*problem, problem->all, target));
}

Status PlanSparseLoop(const Node& node, PlanBuilder& builder) {
  std::string why;
  const std::optional<SparseProblem> problem = ReadSparseProblem(builder.graph(), node, builder.target(), &why);
  TES_CHECK(problem.has_value(), why);
  const SparseSchedule schedule = ScheduleLoop(*problem, builder.target());
  PlanSparseSteps(node, *problem, schedule, "sparse_loop", {LoopPart(*problem, problem->all, schedule, builder)},
                  builder);
  return OkStatus();
}

}  // namespace tessera
