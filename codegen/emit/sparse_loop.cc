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

#include "codegen/cost_model.h"
#include "codegen/emit/sparse_matmul.h"
#include "codegen/emitter.h"

namespace tessera {
namespace {

constexpr int kSums = 4;

SparseSchedule ScheduleLoop(const SparseProblem& problem, const Target& target) {
  const double kept_per_row = static_cast<double>(problem.pattern->num_kept()) / static_cast<double>(problem.rows());
  return ScheduleSparse(problem, kPanelLanes, kept_per_row * 8, target);
}

double LoopMicroseconds(const SparseProblem& problem, const SparseSchedule& schedule, const Target& target,
                        int epilogue_cost) {
  const MachineModel machine(target);
  const int vectors = kPanelLanes / std::min(kPanelLanes, target.Lanes(32));
  const auto kept = static_cast<double>(problem.pattern->num_kept());
  const double fma = vectors * machine.fma_ns;
  const double load = 2 * machine.broadcast_ns + vectors * machine.load_ns;
  // The more is kept, the less of the panel stays near beside values and places.
  const double transfer = 64 / machine.l2_bytes_per_ns * PanelMissShare(problem, target) * problem.pattern->density();
  // A row starts, ends in up to three single steps and adds its sums: a wrong guess of the branches.
  const double rows = static_cast<double>(problem.rows()) * 25 * MachineModel::kCycle;
  return static_cast<double>(problem.panels()) * (kept * (std::max(fma, load) + 0.3 * transfer) + rows) / 1000 +
         SparseFrameMicroseconds(problem, schedule, target, epilogue_cost);
}

// Arguments: 1 values, 2 places in the panel, 3 where rows begin.
void EmitRows(KernelBuilder& b, const ScatteredBlocks& blocks, IrValue block, IrValue panel, IrValue sums) {
  auto& ir = b.ir();
  const int lanes = std::min(kPanelLanes, b.target().Lanes(32)), vectors = kPanelLanes / lanes;
  const auto plus = [&](IrValue x, IrValue y) { return ir.CreateAdd(x, y, "", true, true); };
  IrValue first = ir.CreateMul(block, b.I64(blocks.block_rows), "", true, true);
  IrValue left = ir.CreateSub(b.I64(blocks.rows), first);
  IrValue rows = ir.CreateSelect(ir.CreateICmpSLT(left, b.I64(blocks.block_rows)), left, b.I64(blocks.block_rows));
  b.For("row", b.I64(0), rows, 1, [&](IrValue r) {
    IrValue row = plus(first, r);
    IrValue begin = b.Load(b.arg(3), row, DType::kI64, 1);
    IrValue end = b.Load(b.arg(3), plus(row, b.I64(1)), DType::kI64, 1);
    const auto add = [&](IrValue j, IrValues& into, int copy) {
      IrValue weight = b.Splat(b.Load(b.arg(1), j, DType::kF32, 1), lanes);
      IrValue at = ir.CreateSExt(b.Load(b.arg(2), j, DType::kI32, 1), ir.getInt64Ty());
      for (int v = 0; v < vectors; ++v) {
        IrValue x = b.Load(panel, plus(at, b.I64(int64_t{v} * lanes)), DType::kF32, lanes);
        into[copy * vectors + v] = b.Fma(weight, x, into[copy * vectors + v]);
      }
    };
    IrValue whole = ir.CreateSub(end, ir.CreateURem(ir.CreateSub(end, begin), b.I64(kSums)));
    IrValues sum(kSums * vectors, b.Zero(DType::kF32, lanes));
    sum = b.For("four", begin, whole, kSums, sum, [&](IrValue j, const IrValues& carried) {
      IrValues next = carried;
      for (int k = 0; k < kSums; ++k) add(plus(j, b.I64(k)), next, k);
      return next;
    });
    for (int copies = kSums; copies > 1; copies /= 2) {
      for (int k = 0; k < copies / 2 * vectors; ++k) sum[k] = ir.CreateFAdd(sum[k], sum[k + copies / 2 * vectors]);
    }
    sum.resize(vectors);
    sum = b.For("one", whole, end, 1, sum, [&](IrValue j, const IrValues& carried) {
      IrValues next = carried;
      add(j, next, 0);
      return next;
    });
    for (int v = 0; v < vectors; ++v) {
      IrValue at = plus(ir.CreateMul(r, b.I64(kPanelLanes), "", true, true), b.I64(int64_t{v} * lanes));
      b.Store(sums, at, DType::kF32, sum[v]);
    }
  });
}

}  // namespace

extern const std::string_view kSparseLoopDoc;
const std::string_view kSparseLoopDoc =
    "f32 products with scattered constant weights, the pattern of what is kept read as data";

std::optional<double> EstimateSparseLoop(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<SparseProblem> problem = ReadSparseProblem(graph, node, why);
  if (!problem) return std::nullopt;
  *why = internal::Join("scattered, ", static_cast<int>(problem->pattern->density() * 100 + 0.5), " % kept");
  return LoopMicroseconds(*problem, ScheduleLoop(*problem, target), target, TileEpilogue(graph, node).cost());
}

Status PlanSparseLoop(const Node& node, PlanBuilder& builder) {
  std::string why;
  const std::optional<SparseProblem> problem = ReadSparseProblem(builder.graph(), node, &why);
  TES_CHECK(problem.has_value(), why);
  const ScatteredPattern& pattern = *problem->pattern;
  const SparseSchedule schedule = ScheduleLoop(*problem, builder.target());
  const Value& value = builder.graph()[problem->weights];
  const WeightReader weight(*problem, value.constant);
  Tensor values(DType::kF32, Shape({pattern.num_kept()}));
  Tensor places(DType::kI32, Shape({pattern.num_kept()}));
  Tensor begin(DType::kI64, Shape({pattern.rows + 1}));
  const std::span<float> value_at = values.mutable_data<float>();
  const std::span<int32_t> place_at = places.mutable_data<int32_t>();
  for (int64_t row = 0; row < pattern.rows; ++row) {
    for (int64_t j = pattern.begin[row]; j < pattern.begin[row + 1]; ++j) {
      value_at[j] = weight(row, pattern.columns[j]);
      place_at[j] = pattern.columns[j] * kPanelLanes;
    }
  }
  std::copy(pattern.begin.begin(), pattern.begin.end(), begin.mutable_data<int64_t>().begin());
  const SparseCore core = [blocks = schedule.blocks](KernelBuilder& b, IrValue block, IrValue panel, IrValue sums) {
    EmitRows(b, blocks, block, panel, sums);
  };
  PlanSparseSteps(node, *problem, schedule, "sparse_loop", "",
                  {builder.Constant(value.name + ".kept", std::move(values)),
                   builder.Constant(value.name + ".places", std::move(places)),
                   builder.Constant(value.name + ".rows", std::move(begin))},
                  core, builder);
  return OkStatus();
}

}  // namespace tessera
