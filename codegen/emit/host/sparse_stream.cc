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
#include <algorithm>
#include <optional>

#include "codegen/emit/host/sparse_parts.h"
#include "codegen/emit/host/sparse_schedule.h"
#include "codegen/emitter.h"

namespace tessera {
namespace {

// More code than this, 7 million kept elements on AVX-512, is not written for one layer: it would come from memory,
// which is slower than the loop, and compiled models grow with it.
constexpr int64_t kMaxCodeBytes = int64_t{64} << 20;

// What the estimate is raised by before it is compared with dense ones: straight code depends more on what else is in
// the caches (on a busy machine, layers of 2 MB of code and more were seen to lose a third where dense lost a tenth).
// On several threads shares are less even than they are counted: 10x169x690 with half kept, 0.95 of dense.
constexpr double kMargin = 1.05, kMarginOfThreads = 1.1;

struct Candidate {
  SparseSchedule schedule;
  double us = 0, code_bytes = 0;
};

Candidate Price(const SparseProblem& problem, const SparseSchedule& blocks, const Target& target, int epilogue_cost) {
  Candidate result = {.schedule = blocks};
  const StreamCounts counts = CountStream(*problem.all.pattern, result.schedule.blocks);
  result.code_bytes = StreamCodeBytes(counts, problem, target);
  const double stream_bytes = static_cast<double>(problem.all.pattern->num_kept()) * 4 + result.code_bytes;
  // Panels first, when it is they that would be read again and again from beyond the second level.
  const double half = static_cast<double>(target.l2_bytes) / 2, panels = static_cast<double>(problem.panel_bytes());
  result.schedule.panels_outer = stream_bytes < half && panels > half;
  const auto microseconds = [&](const SparseSchedule& schedule) {
    return SparseMicroseconds(problem, schedule, target, epilogue_cost,
                              StreamCoreNanoseconds(problem, counts, schedule, target));
  };
  result.schedule = OrderSparse(problem, result.schedule, target, microseconds);
  result.us = (target.threads > 1 ? kMarginOfThreads : kMargin) * microseconds(result.schedule);
  return result;
}

Candidate Consider(const SparseProblem& problem, const Target& target, int epilogue_cost, bool chunked) {
  const auto rows = static_cast<double>(problem.rows());
  const auto kept_per_row = static_cast<double>(problem.all.pattern->num_kept()) / rows;
  SparseSchedule schedule = ScheduleSparse(problem, StreamFormFor(problem, target).MaxGroupRows(),
                                           kept_per_row * (target.has_avx512 ? 12 : 22), target);
  if (chunked) schedule.blocks.depth_chunk = ChunkFor(problem, target);
  const Candidate equal = Price(problem, schedule, target, epilogue_cost);
  const std::optional<SparseSchedule> balanced = BalanceSparse(problem, schedule, target);
  if (!balanced) return equal;
  const Candidate cut = Price(problem, *balanced, target, epilogue_cost);
  return cut.us < equal.us ? cut : equal;
}

// The names of the ways: each group of rows meets the whole depth, or all of a block's a chunk of it after the other.
constexpr std::string_view kWhole = "whole depth", kChunks = "depth in chunks";

}  // namespace

extern const std::string_view kSparseStreamDoc;
const std::string_view kSparseStreamDoc =
    "f32 and u8 · i8 products with scattered constant weights, the pattern of what is kept written as straight code";

std::vector<Way> WaysSparseStream(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  if (!HasStream(target)) {
    *why = "needs AVX2 with FMA, or AVX-512";
    return {};
  }
  const std::optional<SparseProblem> problem = ReadSparseProblem(graph, node, target, why);
  if (!problem) return {};
  std::vector<Way> ways;
  for (const bool chunked : {false, true}) {
    if (chunked && ChunkFor(*problem, target) == 0) continue;
    const Candidate candidate = Consider(*problem, target, TileEpilogue(graph, node).cost(), chunked);
    if (candidate.code_bytes > static_cast<double>(kMaxCodeBytes)) {
      *why = internal::Join("the pattern takes ", static_cast<int64_t>(candidate.code_bytes) >> 20, " MiB of code");
      return {};
    }
    std::string rests_on = internal::Join(DescribeKept(*problem), ", ",
                                          (static_cast<int64_t>(candidate.code_bytes) + 1023) >> 10, " KiB of code");
    ways.push_back({.name = std::string(chunked ? kChunks : kWhole),
                    .us = candidate.us,
                    .why = std::move(rests_on),
                    .code_bytes = candidate.code_bytes});
  }
  return ways;
}

Status PlanSparseStream(const Node& node, const std::string& way, PlanBuilder& builder) {
  std::string why;
  const std::optional<SparseProblem> problem = ReadSparseProblem(builder.graph(), node, builder.target(), &why);
  TES_CHECK(problem.has_value(), why);
  const SparseSchedule schedule =
      Consider(*problem, builder.target(), TileEpilogue(builder.graph(), node).cost(), way == kChunks).schedule;
  PlanSparseSteps(node, *problem, schedule, "sparse_stream",
                  {StreamPart(*problem, problem->all, schedule, /*adds=*/false, builder)}, builder);
  return OkStatus();
}

}  // namespace tessera
