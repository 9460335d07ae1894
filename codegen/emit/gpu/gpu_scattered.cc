#include "codegen/emit/gpu/gpu_scattered.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/round.h"
#include "codegen/emit/gpu/gpu_literal.h"
#include "codegen/emit/gpu/mask_stream.h"
#include "codegen/emit/gpu/row_stream.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"

namespace tessera {
namespace {

constexpr int kWarp = 32, kRowBytes = kMaskColumns * 4, kRingBytes = 2 * kSegmentBytes, kTileDepth = 16;

// The largest share of the kept elements that `count` row groups, from a multiple of it on, have.
double LargestShare(const ScatteredPattern& pattern, int64_t count) {
  const int64_t rows = count * kMaskRows;
  int64_t most = 0;
  for (int64_t row = 0; row < pattern.rows; row += rows) {
    const int64_t end = std::min(pattern.rows, row + rows);
    most = std::max(most, pattern.begin[static_cast<size_t>(end)] - pattern.begin[static_cast<size_t>(row)]);
  }
  return static_cast<double>(most) / static_cast<double>(std::max<size_t>(1, pattern.columns.size()));
}

// What one way takes. The panel comes at the rate of the second-level cache; warps hide each other's waits if there are
// enough of them, and wait for the one that has most to do: whole channels that are gone leave others all the work.
double Microseconds(const GpuScattered& s, const ScatteredPattern& pattern, double stream_cycles,
                    const Target& target) {
  const GpuModel gpu(target);
  const double blocks = static_cast<double>(s.row_blocks() * s.panels());
  const double of_block = stream_cycles * LargestShare(pattern, int64_t{s.warps} * s.groups);
  const double of_warp = stream_cycles * LargestShare(pattern, s.groups);
  const double fit =
      std::max(1.0, std::floor(static_cast<double>(gpu.shared_bytes) / static_cast<double>(s.shared_bytes())));
  const double busy = std::min(16.0, s.warps * std::min(fit, std::ceil(blocks / gpu.units)));
  constexpr double kStart = 5500;  // cycles: launch, first data, sums over lanes
  const double panel_cycles = static_cast<double>(s.depth) * kRowBytes / 50 + static_cast<double>(s.chunks()) * 1000;
  const double waves = std::ceil(blocks / gpu.units);
  // The longest warp's waits are hidden by blocks that share its multiprocessor.
  const double work = std::max(of_block * (16 / std::min(16.0, busy * 1.6)), of_warp * 10 / std::min(fit, waves));
  constexpr double kWorth = 1.05;  // what such times are right to, where dense ones are near
  const double cycles = kWorth * waves * (work + panel_cycles / std::min(fit, waves)) + kStart;
  return gpu.launch_us + cycles / gpu.clock_ghz / 1e3;
}

RowStreamShape ShapeOf(const GpuScattered& s) {
  return {.warps = s.warps, .sets = s.groups, .chunk = s.chunk, .zeros = s.panel_rows() - 1};
}

// The same where lane groups have a row each. What lanes get from the first-level cache binds, 128 bytes a cycle: for
// each kept element of a row 32 bytes of X and 6 of the stream.
double RowsMicroseconds(const GpuScattered& s, const SparseShare& share, const Target& target) {
  const GpuModel gpu(target);
  const double blocks = static_cast<double>(s.row_blocks() * s.panels()), waves = std::ceil(blocks / gpu.units);
  constexpr double kTrip = kRowSet * kTripElements * 1.1;  // cycles
  const double trips = LongestTrips(*share.pattern, ShapeOf(s)) / static_cast<double>(s.row_blocks()) * s.warps;
  constexpr double kStart = 2500;  // cycles: first data, results
  const double panel_cycles = static_cast<double>(s.depth) * kRowBytes / 50 + static_cast<double>(s.chunks()) * 1000;
  const double alone = std::max(1.0, 16.0 / s.warps);  // few warps do not hide each other's waits
  return gpu.launch_us + (waves * (trips * kTrip * alone + panel_cycles) + kStart) / gpu.clock_ghz / 1e3;
}

}  // namespace

std::vector<GpuScatteredWay> GpuScatteredWays(const SparseProblem& problem, const SparseShare& share,
                                              const Target& target, std::string* why) {
  GpuScattered s;
  s.rows = problem.rows();
  s.depth = problem.depth();
  s.columns = problem.columns();
  s.unit = problem.unit;
  s.x = problem.source.type;
  s.elements = problem.source.depth;
  s.by_columns = problem.source.depth_step == 1;
  constexpr int64_t kMost = int64_t{1} << 30;
  if (s.by_columns != problem.by_columns) {
    *why = "X lies along columns and Y along rows, or the other way round";
  } else if (s.unit != SparseUnit::kF32 && !s.by_columns) {
    *why = "bytes of a unit do not follow each other";
  } else if (std::max({s.rows, s.depth, s.columns}) * 128 > kMost || s.row_groups() * s.panels() > kMost) {
    *why = "too large for 32-bit indices";
  } else {
    const GpuModel gpu(target);
    double cycles = 0;
    int64_t counted = 0;
    std::vector<GpuScatteredWay> ways;
    for (const auto& [warps, groups] : {std::pair{16, 2}, {16, 1}, {8, 2}, {8, 1}, {4, 1}, {16, 4}}) {
      s.warps = warps;
      s.groups = groups;
      if (warps * groups >= 2 * s.row_groups() && warps * groups > 4) continue;
      const int64_t most = ((gpu.shared_bytes - int64_t{warps} * kRingBytes) / kRowBytes - 1) / kTileDepth * kTileDepth;
      if (most < 64) continue;
      const int64_t chunks = DivideUp(s.depth, most);
      // A warp keeps the sums of one group while chunks pass.
      if (chunks > 1 && groups > 1) continue;
      s.chunk = DivideUp(DivideUp(s.depth, chunks), kTileDepth) * kTileDepth;
      if (counted != s.chunk) cycles = MaskStreamCycles(*share.pattern, UsualMasks(), counted = s.chunk);
      ways.push_back({s, Microseconds(s, *share.pattern, cycles, target)});
    }
    s.by_row = true;
    for (const auto& [warps, groups] : {std::pair{32, 1}, {16, 2}, {16, 1}, {32, 2}, {8, 2}, {8, 1}}) {
      if (target.capability < 80) break;  // tried on no others
      s.warps = warps;
      s.groups = groups;
      if (warps > 8 && s.block_rows() >= 2 * s.rows) continue;
      const int64_t most = (gpu.shared_bytes / kRowBytes - 1) / kTileDepth * kTileDepth;
      s.chunk = DivideUp(DivideUp(s.depth, DivideUp(s.depth, most)), kTileDepth) * kTileDepth;
      if (s.shared_bytes() <= gpu.shared_bytes) ways.push_back({s, RowsMicroseconds(s, share, target)});
    }
    std::stable_sort(ways.begin(), ways.end(), [](const auto& x, const auto& y) { return x.us < y.us; });
    if (ways.empty()) *why = "shared memory is too small";
    return ways;
  }
  return {};
}

void PlanGpuScatteredStep(const Node& node, const SparseProblem& problem, const SparseShare& share,
                          GpuScattered scattered, const std::optional<StepArg>& addend, PlanBuilder& builder) {
  GpuScattered& s = scattered;
  const Graph& graph = builder.graph();
  const Value& weights = graph[problem.weights];
  const UnitReader reader(problem, share, weights.constant);
  std::vector<uint32_t> stream;
  std::vector<int32_t> begins;
  if (s.by_row) {
    RowStream rows = EncodeRowStream(*share.pattern, ShapeOf(s), reader);
    stream = std::move(rows.words);
    begins = std::move(rows.first);
    begins.insert(begins.end(), rows.rows.begin(), rows.rows.end());
  } else {
    MaskStream masks = EncodeMaskStream(*share.pattern, UsualMasks(), s.chunk, s.panel_rows() - 1, reader);
    stream = std::move(masks.words);
    begins = std::move(masks.first);
    // Warps behind the last group find nothing to do.
    begins.resize(static_cast<size_t>(s.row_blocks() * s.warps * s.groups * s.chunks() + 1), begins.back());
    if (stream.empty()) stream.resize(4, 0);
  }
  const auto stream_words = static_cast<int64_t>(stream.size());
  Tensor words(DType::kU32, Shape({stream_words}));
  std::memcpy(words.mutable_bytes().data(), stream.data(), stream.size() * 4);
  Tensor first(DType::kI32, Shape({static_cast<int64_t>(begins.size())}));
  std::memcpy(first.mutable_bytes().data(), begins.data(), begins.size() * 4);

  const TileEpilogue epilogue(graph, node, SparseColumnDims(graph, node));
  PlanStep step;
  step.args = {builder.Read(problem.x),
               {.buffer = builder.Constant(weights.name + ".masks", std::move(words))},
               {.buffer = builder.Constant(weights.name + ".segments", std::move(first))}};
  s.adds = addend.has_value();
  if (s.adds) step.args.push_back(*addend);
  const size_t first_of_epilogue = step.args.size();
  epilogue.AddArguments(node, builder, step);

  // How much can be read and written at once, where these values lie.
  const int64_t offset = step.args[0].offset, bytes = s.unit == SparseUnit::kF32 ? TypeInfo(s.x).bits / 8 : 4;
  const int64_t run = s.by_columns ? s.depth : s.columns;
  const bool whole = s.unit == SparseUnit::kF32 || s.elements % ElementsOf(s.unit) == 0;
  s.x_vector = whole && run % 4 == 0 && offset % (4 * bytes) == 0 ? 4 : 1;
  s.whole_units = whole && offset % bytes == 0;
  s.y_vector = std::min(s.by_columns ? 2 : 4, epilogue.VectorWidth(std::span(step.args).subspan(first_of_epilogue)));

  const std::vector<bool> may_alias = step.kernel.may_alias;
  step.kernel = GpuScatteredKernel(s, epilogue);
  // More blocks than shared memory holds would only cost registers.
  const int64_t fit =
      (GpuModel(builder.target()).shared_bytes + kReservedSharedBytes) / (s.shared_bytes() + kReservedSharedBytes);
  step.kernel.blocks_per_unit = static_cast<int>(std::clamp<int64_t>(fit, 1, step.kernel.blocks_per_unit));
  step.kernel.may_alias = may_alias;
  step.launch = {.x = s.row_blocks() * s.panels(), .threads = s.warps * kWarp, .shared_bytes = s.shared_bytes()};
  step.label = node.name;
  step.flops = 2.0 * static_cast<double>(share.kept->Count()) * static_cast<double>(s.columns);
  step.bytes = static_cast<double>(stream_words * 4) +
               static_cast<double>(ByteSize(s.x, s.columns * problem.source.depth)) +
               static_cast<double>(ByteSize(epilogue.dtype(), s.columns * s.rows));
  builder.AddStep(std::move(step));
}

extern const std::string_view kGpuScatteredDoc;
const std::string_view kGpuScatteredDoc =
    "products with pruned constant weights on GPUs, kept elements as data sorted by the rows that share them";

std::vector<Way> WaysGpuScattered(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<SparseProblem> problem = ReadSparseProblem(graph, node, target, why);
  if (!problem) return {};
  if (!TileEpilogue(graph, node, SparseColumnDims(graph, node)).bytewise()) {
    *why = "elements of less than a byte";
    return {};
  }
  std::vector<Way> ways;
  constexpr size_t kMostWays = 3;
  for (const GpuScatteredWay& way : GpuScatteredWays(*problem, problem->all, target, why)) {
    if (ways.size() < kMostWays || target.whole_space) {
      ways.push_back({.name = way.scattered.Way(), .us = way.us, .why = DescribeKept(*problem)});
    }
  }
  for (const GpuLiteralWay& way : GpuLiteralWays(graph, *problem, target, why)) {
    ways.push_back({.name = way.literal.Way(),
                    .us = way.us,
                    .why = DescribeKept(*problem),
                    .code_bytes = 16.0 * static_cast<double>(problem->all.kept->Count())});
  }
  std::stable_sort(ways.begin(), ways.end(), [](const Way& x, const Way& y) { return x.us < y.us; });
  return ways;
}

Status PlanGpuScattered(const Node& node, const std::string& way, PlanBuilder& builder) {
  std::string why;
  const std::optional<SparseProblem> problem = ReadSparseProblem(builder.graph(), node, builder.target(), &why);
  TES_CHECK(problem.has_value(), why);
  for (const GpuScatteredWay& w : GpuScatteredWays(*problem, problem->all, builder.target(), &why)) {
    if (w.scattered.Way() != way) continue;
    PlanGpuScatteredStep(node, *problem, problem->all, w.scattered, std::nullopt, builder);
    return OkStatus();
  }
  for (const GpuLiteralWay& w : GpuLiteralWays(builder.graph(), *problem, builder.target(), &why)) {
    if (w.literal.Way() != way) continue;
    // Where X begins is known only now: one that its copies cannot read gives way to the best of the others.
    if (builder.Read(problem->x).offset % GpuLiteral::kAlignment != 0) {
      const std::vector<GpuScatteredWay> others = GpuScatteredWays(*problem, problem->all, builder.target(), &why);
      if (others.empty())
        return Error(ErrorCode::kInternal, "node '", node.name, "': no way but literal weights: ", why);
      PlanGpuScatteredStep(node, *problem, problem->all, others[0].scattered, std::nullopt, builder);
      return OkStatus();
    }
    PlanGpuLiteralSteps(node, *problem, w.literal, builder);
    return OkStatus();
  }
  return Error(ErrorCode::kInternal, "gpu_scattered has no way '", way, "'");
}

}  // namespace tessera
