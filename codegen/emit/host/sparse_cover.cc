// The sparse_parts emitter: products with constant weights that are cut into parts (codegen/cover.h), all of them in
// one kernel with one set of sums. A way is a cover and the cores that compute it:
//
//   blocks 32x32 + scattered by stream           one stream, its blocks loops (rolled, scattered_stream.h)
//   blocks 32x32 + scattered by tiles + stream   tiles as data (sparse_tiles.h), then a stream that adds the rest
//   blocks 8x8 by tiles                          blocks filled up with zeros
//   rows and columns by tiles                    what is left when whole rows and columns are pruned
//   2:4 by loop                                  every group's kept units as data (sparse_parts.h)
//
// Measured on 1024x1024x1024, f32, a fifth of the 32x32 blocks and 1 % of all elements kept (us; bias, ReLU, packing
// and all; one core of a Zen 4, on which the kept elements' multiply-adds alone take 3850; docs/results/host_mixed.md):
//
//   matmul   sparse_loop   sparse_stream   tiles + stream, panels packed before   … inside   one rolled stream, inside
//    18690          9760            5080                                  5320       4740                       4550
//
// Everything scattered is the business of sparse_stream and sparse_loop. A cover is chosen by what its parts were
// measured to cost (part_costs.h); of each family of covers only the cheapest is priced as a plan, and only if it
// comes near the cheapest of all.
#include <algorithm>
#include <optional>

#include "codegen/cover.h"
#include "codegen/emit/host/part_costs.h"
#include "codegen/emit/host/sparse_parts.h"
#include "codegen/emit/host/sparse_schedule.h"
#include "codegen/emit/host/sparse_tiles.h"
#include "codegen/emitter.h"

namespace tessera {
namespace {

// A cover whose parts cost so much more than the cheapest one's is not priced as a plan.
constexpr double kWorthPricing = 1.5;
// Nor is one that saves less than this of a dense matrix; and what it saves must show beside a dense kernel's time.
constexpr double kOfDense = 0.9, kMargin = 1.03, kMarginOfThreads = 1.1;

// Rows of a rolled stream's groups: a divisor of the blocks' heights, as many as give a loop work for every load.
int RolledGroupRows(const SparseProblem& problem, const Target& target) {
  return StreamFormFor(problem, target).MaxGroupRows() >= 16 ? 16 : 4;
}

CoverMatrix MatrixOf(const SparseProblem& problem) {
  const ScatteredPattern& pattern = *problem.all.pattern;
  CoverMatrix matrix = {problem.rows(), problem.depth(), Bitmap(problem.rows() * problem.depth())};
  for (int64_t row = 0; row < pattern.rows; ++row) {
    for (int64_t j = pattern.begin[row]; j < pattern.begin[row + 1]; ++j) {
      matrix.kept.Set(row * pattern.depth + pattern.columns[j], true);
    }
  }
  return matrix;
}

// The share of the problem's elements that lie in `kept` units; `stored` units are multiplied.
SparseShare ShareOf(const SparseProblem& problem, const Bitmap& kept, const Bitmap& stored) {
  SparseShare share;
  const int64_t units = problem.depth(), depth = problem.source.depth;
  const int elements = ElementsOf(problem.unit);
  Bitmap own(problem.all.kept->size());
  for (int64_t at : kept.Positions()) {
    for (int64_t k = at % units * elements; k < std::min(depth, (at % units + 1) * elements); ++k) {
      const int64_t bit = at / units * problem.row_step + k * problem.depth_step;
      if ((*problem.all.kept)[bit]) own.Set(bit, true);
    }
  }
  share.kept = std::make_shared<const Bitmap>(std::move(own));
  share.pattern =
      std::make_shared<const ScatteredPattern>(ScatteredPattern::Make(stored, problem.rows(), units, units, 1));
  return share;
}

// A way, ready to be priced or planned: shares and the core of each.
enum class Core : uint8_t { kTiles, kStream, kLoop };
struct Assembly {
  std::vector<std::pair<Core, SparseShare>> parts;
  SparseSchedule schedule;
  double us = 0, code_bytes = 0;  // that the pattern takes
};

constexpr std::string_view kBy = " by ";

// Orders the tasks of the assembly, and prices it.
void Price(const SparseProblem& problem, int epilogue_cost, const Target& target, Assembly& assembly) {
  double ns = 0, data_bytes = 0;  // of parts that are loops over data
  double weight_bytes = 0;
  std::vector<StreamCounts> streams;
  for (const auto& [core, share] : assembly.parts) {
    const auto kept = static_cast<double>(share.pattern->num_kept());
    weight_bytes += 4 * kept;
    switch (core) {
      case Core::kTiles:
        ns += TilesCoreNanoseconds(problem, share, assembly.schedule, target);
        data_bytes += 4 * kept;
        break;
      case Core::kLoop:
        ns += LoopCoreNanoseconds(problem, share, target);
        data_bytes += 8 * kept;
        break;
      case Core::kStream:
        streams.push_back(CountStream(*share.pattern, assembly.schedule.blocks));
        assembly.code_bytes += StreamCodeBytes(streams.back(), problem, target);
        break;
    }
  }
  const auto microseconds = [&](const SparseSchedule& schedule) {
    double all = ns;
    if (schedule.panels_outer) all = std::max(ns, PassingNanoseconds(data_bytes, problem, schedule, target));
    for (const StreamCounts& counts : streams) all += StreamCoreNanoseconds(problem, counts, schedule, target);
    return SparseMicroseconds(problem, schedule, target, epilogue_cost, all);
  };
  // Panels first, when it is they that would be read again and again from beyond the second level.
  const auto l2 = static_cast<double>(target.l2_bytes);
  const bool weights_stay = weight_bytes + assembly.code_bytes <= 1.25 * l2;
  SparseSchedule& schedule = assembly.schedule;
  schedule.panels_outer = weights_stay && static_cast<double>(problem.panel_bytes()) > l2 / 2;
  // One product with many panels does not share them.
  constexpr int64_t kManyPanels = 16;
  const bool f32_columns = problem.unit == SparseUnit::kF32 && problem.source.depth_step == 1;
  schedule.packs = schedule.panels_outer && problem.panels() >= kManyPanels && f32_columns;
  schedule = OrderSparse(problem, schedule, target, microseconds);
  assembly.us = microseconds(schedule);
}

// `cores`: what stands behind "by" in a way's name.
Assembly Assemble(const SparseProblem& problem, const Cover& cover, std::string_view cores, int epilogue_cost,
                  const Target& target) {
  Assembly result;
  if (cores == "stream") {
    Bitmap stored(problem.rows() * problem.depth());
    for (const CoverPart& part : cover.parts) stored |= part.stored;
    result.parts.push_back({Core::kStream, ShareOf(problem, stored, stored)});
  } else {
    const Core rest = cores.find("stream") != std::string_view::npos ? Core::kStream : Core::kLoop;
    Bitmap kept(problem.rows() * problem.depth()), stored = kept;  // of all tiles together
    bool any = false;
    for (const CoverPart& part : cover.parts) {
      if (part.pattern.kind == PatternKind::kScattered || part.pattern.kind == PatternKind::kNm) continue;
      kept |= part.kept;
      stored |= part.stored;
      any = true;
    }
    if (any) result.parts.push_back({Core::kTiles, ShareOf(problem, kept, stored)});
    for (const CoverPart& part : cover.parts) {
      if (part.pattern.kind != PatternKind::kScattered && part.pattern.kind != PatternKind::kNm) continue;
      result.parts.push_back(
          {part.pattern.kind == PatternKind::kNm ? Core::kLoop : rest, ShareOf(problem, part.kept, part.stored)});
    }
    // Nothing kept: the sums are zero all the same.
    if (result.parts.empty()) result.parts.push_back({Core::kLoop, ShareOf(problem, kept, stored)});
  }
  // Weights and code of a row, of which a block's stay in the second-level cache: as a stream all elements are code.
  const double row_bytes =
      static_cast<double>(problem.all.pattern->num_kept()) / static_cast<double>(problem.rows()) * 8;
  constexpr int kTall = 128;
  result.schedule = ScheduleSparse(problem, kTall, row_bytes, target);
  result.schedule.blocks.group_rows = StreamFormFor(problem, target).MaxGroupRows();
  if (cores == "stream") {
    result.schedule.blocks.group_rows = RolledGroupRows(problem, target);
    result.schedule.blocks.rolled = true;
  }
  std::optional<Assembly> cut;
  if (const auto balanced = BalanceSparse(problem, result.schedule, target); balanced) {
    cut = result;
    cut->schedule = *balanced;
    Price(problem, epilogue_cost, target, *cut);
  }
  Price(problem, epilogue_cost, target, result);
  return cut && cut->us < result.us ? *std::move(cut) : result;
}

// "blocks 8x8" of "blocks 8x8 + scattered" and the like: what is alike but for numbers.
std::string FamilyOf(const std::string& cover) {
  std::string family;
  for (char c : cover) {
    if (c < '0' || c > '9') family += c;
  }
  return family;
}

std::vector<std::string> CoresFor(const std::string& cover, const Target& target) {
  const bool rest = cover.find("scattered") != std::string::npos;
  if (cover.find(':') != std::string::npos) return {rest && HasStream(target) ? "loop + stream" : "loop"};
  std::vector<std::string> cores;
  if (HasStream(target) && cover.find("blocks") == 0) cores.push_back("stream");
  cores.push_back(!rest ? "tiles" : HasStream(target) ? "tiles + stream" : "tiles + loop");
  return cores;
}

}  // namespace

extern const std::string_view kSparsePartsDoc;
const std::string_view kSparsePartsDoc =
    "products with constant weights of blocks, dead rows and columns, n:m, and scattered elements beside them";

std::vector<Way> WaysSparseParts(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<SparseProblem> problem = ReadSparseProblem(graph, node, target, why);
  if (!problem) return {};
  const CoverMatrix matrix = MatrixOf(*problem);
  const CoverCosts& costs = CoverCostsFor(problem->unit, target);
  const std::vector<CoverCandidate> candidates = CoverCandidates(matrix, costs);
  const int epilogue_cost = TileEpilogue(graph, node).cost();
  std::vector<Way> ways;
  std::vector<std::string> families = {"dense", "scattered"};  // other emitters'
  std::string losers;
  for (const CoverCandidate& candidate : candidates) {
    const std::string family = FamilyOf(candidate.name);
    if (std::find(families.begin(), families.end(), family) != families.end()) continue;
    families.push_back(family);
    if (candidate.ns > kOfDense * static_cast<double>(matrix.kept.size()) * costs.dense_ns) continue;
    const double times = candidate.ns / std::max(candidates[0].ns, 1e-9);
    if (times > kWorthPricing) {
      losers += internal::Join(losers.empty() ? "" : ", ", candidate.name, " (", candidate.why, ") costs ",
                               static_cast<int>(times * 100 + 0.5), " % of ", candidates[0].name);
      continue;
    }
    const StatusOr<Cover> cover = MakeCover(matrix, candidate.name, costs);
    TES_CHECK(cover.ok(), cover.status());
    for (const std::string& cores : CoresFor(candidate.name, target)) {
      const Assembly assembly = Assemble(*problem, *cover, cores, epilogue_cost, target);
      ways.push_back({.name = candidate.name + std::string(kBy) + cores,
                      .us = (target.threads > 1 ? kMarginOfThreads : kMargin) * assembly.us,
                      .why = candidate.why,
                      .code_bytes = assembly.code_bytes});
    }
  }
  if (ways.empty()) {
    *why = losers.empty() ? "no cover but dense and scattered" : losers;
  } else if (!losers.empty()) {
    ways.back().why += "; not priced: " + losers;
  }
  return ways;
}

Status PlanSparseParts(const Node& node, const std::string& way, PlanBuilder& builder) {
  std::string why;
  const Target& target = builder.target();
  const std::optional<SparseProblem> problem = ReadSparseProblem(builder.graph(), node, target, &why);
  TES_CHECK(problem.has_value(), why);
  const size_t by = way.rfind(kBy);
  TES_CHECK(by != std::string::npos, way);
  ASSIGN_OR_RETURN(const Cover cover, MakeCover(MatrixOf(*problem), std::string_view(way).substr(0, by),
                                                CoverCostsFor(problem->unit, target)));
  const Assembly assembly = Assemble(*problem, cover, std::string_view(way).substr(by + kBy.size()),
                                     TileEpilogue(builder.graph(), node).cost(), target);
  std::vector<SparsePart> parts;
  for (const auto& [core, share] : assembly.parts) {
    const bool adds = !parts.empty();
    switch (core) {
      case Core::kTiles: parts.push_back(TilesPart(*problem, share, assembly.schedule, adds, builder)); break;
      case Core::kStream: parts.push_back(StreamPart(*problem, share, assembly.schedule, adds, builder)); break;
      case Core::kLoop: parts.push_back(LoopPart(*problem, share, assembly.schedule, builder)); break;
    }
  }
  PlanSparseSteps(node, *problem, assembly.schedule, "sparse_parts", std::move(parts), builder);
  return OkStatus();
}

}  // namespace tessera
