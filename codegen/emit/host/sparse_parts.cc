#include "codegen/emit/host/sparse_parts.h"

#include <algorithm>

#include "codegen/cost_model.h"
#include "codegen/emit/host/sparse_schedule.h"
#include "codegen/emit/int8_dot.h"

namespace tessera {
namespace {

// Bytes a nanosecond of code and weights, read once each: from the third-level cache, and from memory, where no
// hardware fetches code ahead. Measured: 4096x1024 with half kept, 24 MB, takes 2.7 ms for two panels, 0.9 ms of which
// are multiply-adds.
constexpr double kStreamBytesPerNs = 37, kFarStreamBytesPerNs = 6;
constexpr double kFarBytes = 16 << 20;

constexpr int kLoopSums = 4;

// Registers that a panel's 16 lanes take.
int PanelVectors(const Target& target) { return kPanelLanes / std::min(kPanelLanes, target.Lanes(32)); }

// What a multiply-add of a unit takes. Without vpdpbusd integers are multiplied and added one after the other.
double UnitNanoseconds(const SparseProblem& problem, const Target& target) {
  const MachineModel machine(target);
  return problem.unit == SparseUnit::kInt16x2 ? machine.fma_ns + 0.5 * machine.op_ns : machine.fma_ns;
}

// Bytes of weights and code that pass by: a block's, or with panels outer those of all, are read once for all panels if
// they fit the second level, otherwise for each. With panels outer every thread reads all.
double PassingBytes(double bytes, const SparseProblem& problem, const SparseSchedule& schedule, const Target& target) {
  const auto panels = static_cast<double>(problem.panels());
  const double at_once = bytes / static_cast<double>(schedule.panels_outer ? 1 : schedule.blocks.blocks());
  if (at_once >= 0.75 * static_cast<double>(target.l2_bytes)) return bytes * panels;
  return schedule.panels_outer ? bytes * std::min<double>(panels, std::max(1, target.threads)) : bytes;
}

double KeptFlops(const SparseShare& share) { return 2.0 * static_cast<double>(share.kept->Count()); }

const Value& WeightsOf(const SparseProblem& problem, PlanBuilder& builder) { return builder.graph()[problem.weights]; }

// The loop's core; its arguments: values, places in the panel, where rows begin.
void EmitRows(KernelBuilder& b, const ScatteredBlocks& blocks, SparseUnit unit, const SparseSite& site) {
  auto& ir = b.ir();
  const int vectors = PanelVectors(b.target()), lanes = kPanelLanes / vectors;
  const DType type = SumsOf(unit);
  const auto plus = [&](IrValue x, IrValue y) { return ir.CreateAdd(x, y, "", true, true); };
  const IrValue values = b.arg(site.first_arg), places = b.arg(site.first_arg + 1), begins = b.arg(site.first_arg + 2);
  const auto [first, rows] = EmitBlockRows(b, blocks, site.block);
  b.For("row", b.I64(0), rows, 1, [&, first = first](IrValue r) {
    IrValue row = plus(first, r);
    IrValue begin = b.Load(begins, row, DType::kI64, 1);
    IrValue end = b.Load(begins, plus(row, b.I64(1)), DType::kI64, 1);
    const auto sum_at = [&](int v) {
      return plus(ir.CreateMul(r, b.I64(kPanelLanes), "", true, true), b.I64(int64_t{v} * lanes));
    };
    const auto add = [&](IrValue j, IrValues& into, int copy) {
      IrValue weight = b.Splat(b.Load(values, j, type, 1), lanes);
      IrValue at = ir.CreateSExt(b.Load(places, j, DType::kI32, 1), ir.getInt64Ty());
      for (int v = 0; v < vectors; ++v) {
        IrValue x = b.Load(site.panel, plus(at, b.I64(int64_t{v} * lanes)), type, lanes);
        IrValue& sum = into[copy * vectors + v];
        sum = unit == SparseUnit::kF32      ? b.Fma(weight, x, sum)
              : unit == SparseUnit::kInt8x4 ? EmitDotBytes(b, sum, x, weight)
                                            : EmitDotPairs(b, sum, x, weight);
      }
    };
    IrValue whole = ir.CreateSub(end, ir.CreateURem(ir.CreateSub(end, begin), b.I64(kLoopSums)));
    IrValues sum(kLoopSums * vectors, b.Zero(type, lanes));
    for (int v = 0; v < vectors && site.adds; ++v) sum[v] = b.Load(site.sums, sum_at(v), type, lanes);
    sum = b.For("four", begin, whole, kLoopSums, sum, [&](IrValue j, const IrValues& carried) {
      IrValues next = carried;
      for (int k = 0; k < kLoopSums; ++k) add(plus(j, b.I64(k)), next, k);
      return next;
    });
    for (int copies = kLoopSums; copies > 1; copies /= 2) {
      for (int k = 0; k < copies / 2 * vectors; ++k) {
        IrValue y = sum[k + copies / 2 * vectors];
        sum[k] = IsFloat(type) ? ir.CreateFAdd(sum[k], y) : ir.CreateAdd(sum[k], y);
      }
    }
    sum.resize(vectors);
    sum = b.For("one", whole, end, 1, sum, [&](IrValue j, const IrValues& carried) {
      IrValues next = carried;
      add(j, next, 0);
      return next;
    });
    for (int v = 0; v < vectors; ++v) b.Store(site.sums, sum_at(v), type, sum[v]);
  });
}

}  // namespace

bool HasStream(const Target& target) {
  return target.kind == TargetKind::kX86 && target.has_fma && target.vector_bits >= 256;
}

StreamForm StreamFormFor(const SparseProblem& problem, const Target& target) {
  return {.unit = problem.unit, .avx512 = target.has_avx512};
}

double StreamCodeBytes(const StreamCounts& counts, const SparseProblem& problem, const Target& target) {
  // A loop has two of its columns in code, and 34 bytes around them.
  const auto elements = static_cast<double>(counts.elements - counts.run_elements + 2 * counts.run_rows);
  const auto loads = static_cast<double>(counts.column_loads - counts.run_columns + 2 * counts.runs);
  double element = target.has_avx512 ? 7 : 16;
  if (problem.unit == SparseUnit::kInt16x2) element = target.has_avx512 ? 19 : 22;
  return element * elements + (target.has_avx512 ? 7 : 14) * loads + 34 * static_cast<double>(counts.runs);
}

double PassingNanoseconds(double bytes, const SparseProblem& problem, const SparseSchedule& schedule,
                          const Target& target) {
  return PassingBytes(bytes, problem, schedule, target) / kStreamBytesPerNs;
}

double StreamCoreNanoseconds(const SparseProblem& problem, const StreamCounts& counts, const SparseSchedule& schedule,
                             const Target& target) {
  const MachineModel machine(target);
  const int vectors = PanelVectors(target);
  const auto elements = static_cast<double>(counts.elements), loads = static_cast<double>(counts.column_loads);
  const auto panels = static_cast<double>(problem.panels());
  const double stream_bytes = elements * 4 + StreamCodeBytes(counts, problem, target);
  // A panel's row is read once for each group that keeps anything in its column.
  const double fma = elements * vectors * UnitNanoseconds(problem, target);
  const double load = elements * machine.broadcast_ns + loads * vectors * machine.load_ns;
  // In chunks of the depth, for the first group of a block only.
  const bool chunked = schedule.blocks.depth_chunk != 0;
  const double far_loads = chunked ? static_cast<double>(schedule.blocks.blocks() * problem.depth()) : loads;
  const double transfer = far_loads * 64 / machine.l2_bytes_per_ns * PanelMissShare(problem, target);
  // Sums start at zero and end in memory; beyond the first chunk they come from there too.
  const auto rows = static_cast<double>(problem.rows()), starts_again = static_cast<double>(counts.starts) - rows;
  const double starts = (2.2 * rows + 3.5 * starts_again) * vectors * machine.op_ns;
  const double slowest = std::max({fma, load, transfer});
  const double core = panels * (slowest + 0.065 * (fma + load + transfer - slowest) + starts);
  const double passes = PassingBytes(stream_bytes, problem, schedule, target);
  // From memory, every line is waited for.
  double time = core + passes / kFarStreamBytesPerNs;
  if (stream_bytes < kFarBytes) time = std::max(core, passes / kStreamBytesPerNs);
  if (stream_bytes > static_cast<double>(target.l2_bytes)) time += 0.25 * stream_bytes / kStreamBytesPerNs;
  return time;
}

SparsePart StreamPart(const SparseProblem& problem, const SparseShare& share, const SparseSchedule& schedule, bool adds,
                      PlanBuilder& builder) {
  const Value& value = WeightsOf(problem, builder);
  Tensor stream(DType::kU32, Shape({share.pattern->num_kept()}));
  uint32_t* to = stream.mutable_data<uint32_t>().data();
  const UnitReader weight(problem, share, value.constant);
  StreamVisitor visitor;
  visitor.on_element = [&](int64_t row, int64_t unit) { *to++ = weight(row, unit); };
  WalkStream(*share.pattern, schedule.blocks, visitor);

  StreamForm form = StreamFormFor(problem, builder.target());
  form.adds = adds;
  if (!schedule.panels_outer) form.panels = problem.panels();
  SparsePart part;
  part.key = internal::Join("stream of ", share.pattern->Digest(), " ", form.Key());
  part.constants = {builder.Constant(value.name + ".stream", std::move(stream))};
  part.flops = KeptFlops(share);
  part.core = [pattern = share.pattern, blocks = schedule.blocks, form](KernelBuilder& b, const SparseSite& site) {
    TES_CHECK(site.adds == form.adds, form.Key());
    auto& ir = b.ir();
    const StreamCode code = EncodeStream(*pattern, blocks, form);
    IrValue start = b.MachineCode("stream", code.bytes);
    const auto at = [&](const char* name, const std::vector<int64_t>& of_blocks, IrValue block) {
      return b.Load(b.ConstantArray(name, DType::kI64, of_blocks), block, DType::kI64, 1);
    };
    const auto offset = [&](IrValue base, IrValue bytes) { return ir.CreateGEP(ir.getInt8Ty(), base, bytes); };
    IrValue weights = b.arg(site.first_arg);
    const auto call = [&](IrValue next_code, IrValue next_weights) {
      IrValue first = at("first", code.first_element, site.block);
      b.Call(offset(start, at("entry", code.entry, site.block)),
             {site.panel, b.ElementPointer(weights, first, DType::kU32), site.sums, b.I64(0), next_code, next_weights});
    };
    if (form.panels == 0 || blocks.blocks() == 1) return call(start, weights);
    // The block after the last one is the last.
    const int64_t last = blocks.blocks() - 1;
    IrValue next = ir.CreateAdd(site.block, ir.CreateZExt(ir.CreateICmpSLT(site.block, b.I64(last)), ir.getInt64Ty()));
    const auto share = [&](const char* name, const std::vector<int64_t>& of_blocks) {
      return ir.CreateMul(at(name, of_blocks, site.block), site.panel_number);
    };
    call(offset(offset(start, at("next", code.entry, next)), share("code_share", code.code_share)),
         offset(b.ElementPointer(weights, at("next_first", code.first_element, next), DType::kU32),
                share("weights_share", code.weights_share)));
  };
  return part;
}

double LoopCoreNanoseconds(const SparseProblem& problem, const SparseShare& share, const Target& target) {
  const MachineModel machine(target);
  const int vectors = PanelVectors(target);
  const auto kept = static_cast<double>(share.pattern->num_kept());
  const double fma = vectors * UnitNanoseconds(problem, target);
  const double load = 2 * machine.broadcast_ns + vectors * machine.load_ns;
  // The more is kept, the less of the panel stays near beside values and places.
  const double transfer = 64 / machine.l2_bytes_per_ns * PanelMissShare(problem, target) * share.pattern->density();
  // A row starts, ends in up to three single steps and adds its sums: a wrong guess of the branches.
  const double rows = static_cast<double>(problem.rows()) * 25 * MachineModel::kCycle;
  return static_cast<double>(problem.panels()) * (kept * (std::max(fma, load) + 0.3 * transfer) + rows);
}

SparsePart LoopPart(const SparseProblem& problem, const SparseShare& share, const SparseSchedule& schedule,
                    PlanBuilder& builder) {
  const ScatteredPattern& pattern = *share.pattern;
  const Value& value = WeightsOf(problem, builder);
  const UnitReader weight(problem, share, value.constant);
  Tensor values(DType::kU32, Shape({pattern.num_kept()}));
  Tensor places(DType::kI32, Shape({pattern.num_kept()}));
  Tensor begin(DType::kI64, Shape({pattern.rows + 1}));
  const std::span<uint32_t> value_at = values.mutable_data<uint32_t>();
  const std::span<int32_t> place_at = places.mutable_data<int32_t>();
  for (int64_t row = 0; row < pattern.rows; ++row) {
    for (int64_t j = pattern.begin[row]; j < pattern.begin[row + 1]; ++j) {
      value_at[j] = weight(row, pattern.columns[j]);
      place_at[j] = pattern.columns[j] * kPanelLanes;
    }
  }
  std::copy(pattern.begin.begin(), pattern.begin.end(), begin.mutable_data<int64_t>().begin());
  SparsePart part;
  part.key = "loop";
  part.constants = {builder.Constant(value.name + ".kept", std::move(values)),
                    builder.Constant(value.name + ".places", std::move(places)),
                    builder.Constant(value.name + ".rows", std::move(begin))};
  part.flops = KeptFlops(share);
  part.core = [blocks = schedule.blocks, unit = problem.unit](KernelBuilder& b, const SparseSite& site) {
    EmitRows(b, blocks, unit, site);
  };
  return part;
}

}  // namespace tessera
