// The sparse_stream emitter: products with constant weights whose kept elements follow no pattern, each pattern its own
// straight code (scattered_stream.h). Work is kept elements; the panel is 16 tokens or pixels.
//
// Measured on one core of a Zen 4 at 3.67 GHz, which starts one 512-bit multiply-add a cycle, 512x512 times 192 columns
// (us; the core alone; dense at 90 % of peak takes 953):
//
//   kept       100 %   70 %   50 %   30 %   20 %   10 %    5 %
//   AVX-512      856    598    427    257    172     95     54        99.9 % of peak from 20 % on, 90 % at 10 %
//   AVX2        1187    831    628    409    283    158     86
//
// With packing, bias and ReLU (scattered_benchmark; our own dense kernel takes 881 and 1307):
//
//   512x512 x 192    911    638    463    286    200    124   77-88
//   768x768 x 128   1451   1048    814    416    290    176    133     a panel, 48 KiB, comes from the second level
//
// Groups of 28 and of 31 rows, and blocks of 112 and 256, differ by less than 2 %.
#include <optional>

#include "codegen/cost_model.h"
#include "codegen/emit/sparse_matmul.h"
#include "codegen/emitter.h"

namespace tessera {
namespace {

// More code than this, 7 million kept elements on AVX-512, is not written for one layer: it would come from memory,
// which is slower than the loop, and compiled models grow with it.
constexpr int64_t kMaxCodeBytes = int64_t{64} << 20;

// AVX-512: all registers but the one that holds the panel's row. AVX2: 12 of 16 in pairs, the panel's row, a broadcast.
int GroupRows(const Target& target) { return target.has_avx512 ? 31 : 6; }

bool Encodable(const Target& target) {
  return target.kind == TargetKind::kX86 && target.has_fma && target.vector_bits >= 256;
}

double CodeBytes(const StreamCounts& counts, const Target& target) {
  const auto elements = static_cast<double>(counts.elements), loads = static_cast<double>(counts.column_loads);
  return target.has_avx512 ? 7 * elements + 7 * loads : 16 * elements + 14 * loads;
}

struct Candidate {
  SparseSchedule schedule;
  double us = 0, code_bytes = 0;
};

// Bytes a nanosecond of code and weights, read once each: from the third-level cache, and from memory, where no
// hardware fetches code ahead. Measured: 4096x1024 with half kept, 24 MB, takes 2.7 ms for two panels, 0.9 ms of which
// are multiply-adds.
constexpr double kStreamBytesPerNs = 40, kFarStreamBytesPerNs = 6;
constexpr double kFarBytes = 16 << 20;

// What the estimate is raised by before it is compared with dense ones: straight code depends more on what else is in
// the caches (on a busy machine, layers of 2 MB of code and more were seen to lose a third where dense lost a tenth).
constexpr double kMargin = 1.05;

Candidate Consider(const SparseProblem& problem, const Target& target, int epilogue_cost) {
  const MachineModel machine(target);
  Candidate result;
  const auto rows = static_cast<double>(problem.rows());
  const auto kept_per_row = static_cast<double>(problem.pattern->num_kept()) / rows;
  result.schedule = ScheduleSparse(problem, GroupRows(target), kept_per_row * (target.has_avx512 ? 12 : 22), target);
  const StreamCounts counts = CountStream(*problem.pattern, result.schedule.blocks);
  result.code_bytes = CodeBytes(counts, target);
  const int vectors = kPanelLanes / std::min(kPanelLanes, target.Lanes(32));
  const auto elements = static_cast<double>(counts.elements), loads = static_cast<double>(counts.column_loads);
  const auto panels = static_cast<double>(problem.panels());
  const double panel_bytes = static_cast<double>(problem.depth()) * kPanelLanes * 4;
  const double stream_bytes = elements * 4 + result.code_bytes;
  // A panel's row is read once for each group that keeps anything in its column.
  const double fma = elements * vectors * machine.fma_ns;
  const double load = elements * machine.broadcast_ns + loads * vectors * machine.load_ns;
  const double transfer = loads * 64 / machine.l2_bytes_per_ns * PanelMissShare(problem, target);
  // Sums start at zero and end in memory.
  const double starts = rows * vectors * 2.2 * machine.op_ns;
  const double slowest = std::max({fma, load, transfer});
  const double core = panels * (slowest + 0.065 * (fma + load + transfer - slowest) + starts);
  // A block's code and weights are read once for all panels if they fit the second level, otherwise for each.
  const double block_bytes = stream_bytes / static_cast<double>(result.schedule.blocks.blocks());
  const bool resident = block_bytes < 0.75 * static_cast<double>(target.l2_bytes);
  const double passes = stream_bytes * (resident ? 1 : panels);
  // From memory, every line is waited for.
  double time = core + passes / kFarStreamBytesPerNs;
  if (stream_bytes < kFarBytes) time = std::max(core, passes / kStreamBytesPerNs);
  if (stream_bytes > static_cast<double>(target.l2_bytes)) time += 0.25 * stream_bytes / kStreamBytesPerNs;
  // Panels first, when it is they that would be read again and again from beyond the second level.
  const double half = static_cast<double>(target.l2_bytes) / 2;
  result.schedule.panels_outer = stream_bytes < half && panel_bytes * panels > half;
  result.us = kMargin * (time / 1000 + SparseFrameMicroseconds(problem, result.schedule, target, epilogue_cost));
  return result;
}

}  // namespace

extern const std::string_view kSparseStreamDoc;
const std::string_view kSparseStreamDoc =
    "f32 products with scattered constant weights, the pattern of what is kept written as straight code";

std::optional<double> EstimateSparseStream(const Graph& graph, const Node& node, const Target& target,
                                           std::string* why) {
  if (!Encodable(target)) {
    *why = "needs AVX2 with FMA, or AVX-512";
    return std::nullopt;
  }
  const std::optional<SparseProblem> problem = ReadSparseProblem(graph, node, why);
  if (!problem) return std::nullopt;
  const Candidate candidate = Consider(*problem, target, TileEpilogue(graph, node).cost());
  if (candidate.code_bytes > static_cast<double>(kMaxCodeBytes)) {
    *why = internal::Join("the pattern takes ", static_cast<int64_t>(candidate.code_bytes) >> 20, " MiB of code");
    return std::nullopt;
  }
  *why = internal::Join("scattered, ", static_cast<int>(problem->pattern->density() * 100 + 0.5), " % kept, ",
                        (static_cast<int64_t>(candidate.code_bytes) + 1023) >> 10, " KiB of code");
  return candidate.us;
}

Status PlanSparseStream(const Node& node, PlanBuilder& builder) {
  std::string why;
  const std::optional<SparseProblem> problem = ReadSparseProblem(builder.graph(), node, &why);
  TES_CHECK(problem.has_value(), why);
  const Target& target = builder.target();
  const SparseSchedule schedule = Consider(*problem, target, TileEpilogue(builder.graph(), node).cost()).schedule;
  const Value& value = builder.graph()[problem->weights];

  Tensor stream(DType::kF32, Shape({problem->pattern->num_kept()}));
  float* to = stream.mutable_data<float>().data();
  const WeightReader weight(*problem, value.constant);
  StreamVisitor visitor;
  visitor.on_element = [&](int64_t row, int64_t k) { *to++ = weight(row, k); };
  WalkStream(*problem->pattern, schedule.blocks, visitor);

  const SparseCore core = [pattern = problem->pattern, blocks = schedule.blocks, avx512 = target.has_avx512](
                              KernelBuilder& b, IrValue block, IrValue panel, IrValue sums) {
    auto& ir = b.ir();
    const StreamCode code = EncodeStream(*pattern, blocks, avx512);
    IrValue start = b.MachineCode("stream", code.bytes);
    IrValue entry = b.Load(b.ConstantArray("entry", DType::kI64, code.entry), block, DType::kI64, 1);
    IrValue first = b.Load(b.ConstantArray("first", DType::kI64, code.first_element), block, DType::kI64, 1);
    b.Call(ir.CreateGEP(ir.getInt8Ty(), start, entry), {panel, b.ElementPointer(b.arg(1), first, DType::kF32), sums});
  };
  PlanSparseSteps(node, *problem, schedule, "sparse_stream",
                  internal::Join("pattern ", problem->pattern->Digest(), target.has_avx512 ? " evex" : " vex"),
                  {builder.Constant(value.name + ".stream", std::move(stream))}, core, builder);
  return OkStatus();
}

}  // namespace tessera
