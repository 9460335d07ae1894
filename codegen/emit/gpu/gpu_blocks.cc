// The emitter for GPUs of products whose weights keep blocks: the dense kernels (matmul_kernel.h, wgmma_kernel.h) with
// a list of tiles in place of a whole B.
//
//   Y[column, row] = sum over the tiles (row, k) that keep anything of X[column, k] * W[row, k]      columns are tokens
//
//   blocks by mma 128x64 …         every tile of 64 rows and 128 bytes of the depth that keeps anything
//   blocks by wgmma 256x64 by 2    the same for warpgroups, pairs of rows of tiles sharing X (block_groups.h)
//   blocks by … + scattered 8x1    tiles that keep enough; the rest one by one (gpu_scattered.h), which adds what the
//                                  tiles have given and applies the epilogue
//
// Tiles lie one after the other as the kernel wants them, zeros where nothing is kept; the lists are data, so that
// layers of one shape and number of tiles are one kernel. A column of tiles that keeps nothing has one of zeros. What
// binds: as dense products, but activations come again for each column of tiles, so that wide ones pay although they
// keep more zeros; expected times weigh both. Tested by gpu_blocks_test.cc.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/round.h"
#include "codegen/cover.h"
#include "codegen/cover_blocks.h"
#include "codegen/emit/gpu/block_groups.h"
#include "codegen/emit/gpu/gpu_matmul.h"
#include "codegen/emit/gpu/gpu_scattered.h"
#include "codegen/emit/gpu/wgmma_kernel.h"
#include "codegen/emit/sparse_problem.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"

namespace tessera {
namespace {

const std::string kBy = "blocks by ";
constexpr std::string_view kRest = " + scattered ";
constexpr size_t kMostWays = 4;
// Lists that save less than this of a dense product's tiles are not worth their indirections.
constexpr double kOfDense = 0.9;

struct Problem {
  SparseProblem sparse;
  MatmulProblem product;
  DType x = DType::kF32, w = DType::kF32;
};

std::optional<Problem> ProblemOf(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  std::optional<SparseProblem> sparse = ReadSparseProblem(graph, node, target, why);
  if (!sparse) return std::nullopt;
  if (!sparse->by_columns || sparse->source.depth_step != 1) {
    *why = "X or Y does not lie column by column";
    return std::nullopt;
  }
  if (!TileEpilogue(graph, node, SparseColumnDims(graph, node)).bytewise()) {
    *why = "elements of less than a byte";
    return std::nullopt;
  }
  Problem p;
  p.x = sparse->source.type;
  p.w = graph[sparse->weights].type.dtype;
  p.product.rows = sparse->columns();
  p.product.columns = sparse->rows();
  p.product.depth = sparse->source.depth;
  p.product.b_transposed = sparse->depth_step == 1;
  p.product.b_constant = true;
  p.sparse = std::move(*sparse);
  return p;
}

// How many elements each tile keeps, [column of tiles][stage of the depth].
struct TileCounts {
  int64_t columns = 0, stages = 0;
  std::vector<int32_t> kept;

  TileCounts(const Problem& p, int tile_n, int tile_k)
      : columns(DivideUp(p.product.columns, tile_n)), stages(DivideUp(p.product.depth, tile_k)) {
    kept.assign(static_cast<size_t>(columns * stages), 0);
    const CoverMatrix matrix =
        CoverMatrix::Of(*p.sparse.all.kept, p.product.columns, p.product.depth, p.sparse.row_step, p.sparse.depth_step);
    // Blocks that divide tiles of every size.
    constexpr int64_t kHeight = 16, kWidth = 32;
    ForEachBlock(BitMatrix(matrix.kept, matrix.rows, matrix.depth), kHeight, kWidth, [&](const CoverBlock& b) {
      kept[static_cast<size_t>(b.row / tile_n * stages + b.k / tile_k)] += static_cast<int32_t>(b.kept);
    });
  }
  // Tiles that keep at least so many, and one for each column that has none.
  int64_t Listed(int32_t least) const {
    int64_t listed = 0;
    for (int64_t column = 0; column < columns; ++column) listed += static_cast<int64_t>(List(column, least).size());
    return listed;
  }
  int64_t Longest(int32_t least) const {
    size_t longest = 0;
    for (int64_t column = 0; column < columns; ++column) longest = std::max(longest, List(column, least).size());
    return static_cast<int64_t>(longest);
  }
  std::vector<int64_t> List(int64_t column, int32_t least) const {
    std::vector<int64_t> list;
    for (int64_t stage = 0; stage < stages; ++stage) {
      if (kept[static_cast<size_t>(column * stages + stage)] >= least) list.push_back(stage);
    }
    if (list.empty()) list.push_back(0);
    return list;
  }
};

// An element one by one takes that many microseconds for each token (gpu_scattered.cc, all multiprocessors of an H100).
constexpr double kScatteredMicroseconds = 1.6e-7;

// From how many elements on a tile of `tile_us` is cheaper than they are one by one.
int32_t WorthTile(const Problem& p, double tile_us, const Target& target) {
  const double of_units = 132.0 / GpuModel(target).units;
  const double element_us = kScatteredMicroseconds * static_cast<double>(p.product.rows) * of_units;
  return static_cast<int32_t>(std::clamp(tile_us / element_us, 1.0, 1e6));
}

// What small blocks of eight slices take beyond a dense product's: each begins a list and joins its slices' sums, and
// few others hide it. Fitted to three layers in f32 on an H100 (the test has them).
// Where every block has a multiprocessor of its own, the longest list decides.
double ListedMicroseconds(const GpuMatmul& m, int64_t longest, const Target& target) {
  const bool by_longest = longest > 0 && m.tiling.slices < 8 && m.tiles() <= GpuModel(target).units;
  const GpuMatmul timed = by_longest ? ListTiles(m, longest * m.tiles_n()) : m;
  const double us = GpuMatmulMicroseconds(timed, target);
  if (m.tiling.core != MatmulTiling::Core::kFma || m.tiling.slices < 8) return us;
  const GpuModel gpu(target);
  const double of_unit = std::ceil(static_cast<double>(m.blocks()) / gpu.units);
  return us + 0.8 + of_unit * 500 / gpu.clock_ghz / 1e3;
}

double TileMicroseconds(const GpuMatmul& listed, const Target& target) {
  GpuMatmul half = listed;
  half.listed = listed.listed / 2;
  const double tiles_us = ListedMicroseconds(listed, 0, target) - ListedMicroseconds(half, 0, target);
  return tiles_us / static_cast<double>(std::max<int64_t>(1, listed.listed - half.listed));
}

// The part of W that is in no tile of `least` elements or more.
SparseShare Outside(const Problem& p, const TileCounts& counts, const MatmulTiling& tiling, int tile_k, int32_t least) {
  Bitmap rest(p.sparse.all.kept->size());
  for (int64_t at : p.sparse.all.kept->Positions()) {
    const bool depth_runs = p.sparse.depth_step == 1;
    const int64_t row = depth_runs ? at / p.sparse.row_step : at % p.sparse.depth_step;
    const int64_t k = depth_runs ? at % p.sparse.row_step : at / p.sparse.depth_step;
    if (counts.kept[static_cast<size_t>(row / tiling.tile_n * counts.stages + k / tile_k)] < least) rest.Set(at, true);
  }
  return p.sparse.Share(std::move(rest));
}

struct BlocksWay {
  std::string name, why;
  double us = 0;
  GpuMatmul matmul;
  std::optional<GroupedProduct> grouped;  // `matmul` is its
  int32_t least = 1;                      // elements of a tile
  std::optional<GpuScattered> rest;
};

std::vector<BlockGroup> GroupsOf(const TileCounts& counts, int size, int32_t least) {
  BlockPattern pattern = {.rows = counts.columns, .stages = counts.stages};
  for (int32_t kept : counts.kept) pattern.kept.push_back(kept >= least);
  return GroupBlocks(pattern, size);
}

// Fitted on an H100, within 8 % (docs/results/nvptx_sparse.md): what comes from the second-level cache binds, then what
// results take; products are hidden, unless hardly any block is gone.
struct GroupedTime {
  double blocks_us = 0, fixed_us = 0;
  double us() const { return blocks_us + fixed_us; }
};
GroupedTime TimeOfGroups(const GroupedProduct& p, const std::vector<BlockGroup>& groups, const Target& target) {
  const GpuModel gpu(target);
  const GpuMatmul& m = p.matmul;
  double steps = 0, blocks = 0;
  for (const BlockGroup& g : groups) {
    steps += static_cast<double>(g.steps.size());
    blocks += static_cast<double>(g.blocks());
  }
  // A multiprocessor's share, in whole tiles; what one can do and bring.
  const double token_tiles = static_cast<double>(p.token_tiles());
  const double tiles = token_tiles * static_cast<double>(groups.size());
  const double of_unit = std::ceil(tiles / gpu.units) / tiles;
  const double block = 64.0 * p.tokens() * m.tiling.tile_k_bytes / 2 / gpu.wgmma_f16_per_clock;
  const double cycles = token_tiles * (blocks * (1.08 * block + 30) + steps * 60);
  const double products = of_unit * cycles / gpu.clock_ghz / 1e3;
  const double bytes = token_tiles * (steps * p.tokens() + blocks * 64) * m.tiling.tile_k_bytes;
  const double rate = 0.87 * gpu.tma_bytes_per_ns;
  const double traffic = std::max(bytes / rate, of_unit * bytes / (1.2 * rate / gpu.units)) / 1e3;
  const double results = static_cast<double>(m.problem.rows * m.problem.columns) * m.a.element_bytes();
  constexpr double kFirstData = 3;
  return {.blocks_us = std::max(products, traffic) + std::min(products, traffic) / 50,
          .fixed_us = gpu.launch_us + kFirstData + results / (0.87 * gpu.l2_bytes_per_ns) / 1e3};
}

// X's tiles as the grouped kernel takes them, or nothing.
std::optional<GroupedProduct> LayGrouped(const Problem& p, const GroupedTile& tile, int64_t x_offset,
                                         const Target& target, std::string* why) {
  if (tile.tokens > 128 && tile.tokens >= 2 * p.product.rows) return std::nullopt;
  if (p.x == DType::kU8 && p.w == DType::kI8) {
    *why = "warpgroups take signed bytes first";
    return std::nullopt;
  }
  MatmulTiling tiling = {.core = MatmulTiling::Core::kWgmma, .tile_m = tile.tokens, .tile_n = 64};
  tiling.warps_m = 4 * tile.size, tiling.warps_n = 1, tiling.stages = 2;
  const std::optional<GpuMatmul> m = LayGpuMatmul(p.product, tiling, p.x, p.w, x_offset, 0, target, why);
  if (!m || !TablesFit(m->steps(), tile.size)) return std::nullopt;
  GroupedProduct grouped = {.matmul = *m, .size = tile.size, .weight_stages = tile.weight_stages};
  grouped.matmul.tiling.stages = tile.stages;
  if (grouped.shared_bytes() > GpuModel(target).shared_bytes) return std::nullopt;
  return grouped;
}

// Offers ways of tiles: all of them, and where some keep few elements those that are worth it, with the rest one by
// one. `tiles(least)` is the way without a rest, or nothing; `tile_us` what a tile takes.
void OfferTiles(const Problem& p, const TileCounts& counts, const GpuMatmul& m, double tile_us,
                const std::function<std::optional<BlocksWay>(int32_t least)>& tiles, const Target& target,
                std::string* why, std::vector<BlocksWay>& ways) {
  if (std::optional<BlocksWay> all = tiles(1)) ways.push_back(*std::move(all));
  const int32_t least = WorthTile(p, tile_us, target);
  const bool some = std::any_of(counts.kept.begin(), counts.kept.end(), [&](int32_t k) { return k >= least; });
  const bool few = std::any_of(counts.kept.begin(), counts.kept.end(), [&](int32_t k) { return k > 0 && k < least; });
  if (least == 1 || !some || !few) return;
  std::optional<BlocksWay> way = tiles(least);
  if (!way) return;
  const SparseShare share = Outside(p, counts, m.tiling, m.tile_k(), least);
  const std::vector<GpuScatteredWay> rest = GpuScatteredWays(p.sparse, share, target, why);
  if (rest.empty()) return;
  way->rest = rest[0].scattered;
  way->us += rest[0].us;
  way->name += internal::Join(kRest, way->rest->Way());
  way->why += internal::Join(", ", share.kept->Count(), " elements beside them");
  ways.push_back(*std::move(way));
}

// By expected time. Where X begins at a multiple of 16 bytes or elsewhere decides what fits: `x_offset`.
std::vector<BlocksWay> AllWays(const Problem& p, int64_t x_offset, const Target& target, std::string* why) {
  std::vector<BlocksWay> ways;
  // A way of so many tiles, unless they are nearly all.
  const auto of_tiles = [&](const TileCounts& counts, int64_t listed, int32_t least,
                            std::string name) -> std::optional<BlocksWay> {
    const int64_t all = counts.columns * counts.stages;
    if (static_cast<double>(listed) > kOfDense * static_cast<double>(all)) return std::nullopt;
    BlocksWay way = {.name = kBy + std::move(name), .why = internal::Join(listed, " of ", all, " tiles")};
    way.least = least;
    return way;
  };
  for (const MatmulTiling& tiling : GpuTilings(p.x, p.w, target, why)) {
    if (tiling.tile_n > 32 && tiling.tile_n >= 2 * p.product.columns) continue;
    if (tiling.tile_m > 64 && tiling.tile_m >= 2 * p.product.rows) continue;
    const std::optional<GpuMatmul> dense = LayGpuMatmul(p.product, tiling, p.x, p.w, x_offset, 0, target, why);
    if (!dense) continue;
    const TileCounts counts(p, tiling.tile_n, dense->tile_k());
    const double tile_us = TileMicroseconds(ListTiles(*dense, std::max<int64_t>(2, counts.Listed(1))), target);
    const auto tiles = [&](int32_t least) {
      const int64_t listed = counts.Listed(least);
      std::optional<BlocksWay> way = of_tiles(counts, listed, least, tiling.Name());
      if (!way) return way;
      way->matmul = ListTiles(*dense, listed);
      way->us = ListedMicroseconds(way->matmul, counts.Longest(least), target);
      return way;
    };
    OfferTiles(p, counts, *dense, tile_us, tiles, target, why, ways);
  }
  std::string no_groups;
  for (const GroupedTile& tile : target.has_warpgroups ? kGroupedTiles : std::vector<GroupedTile>()) {
    std::optional<GroupedProduct> grouped = LayGrouped(p, tile, x_offset, target, &no_groups);
    if (!grouped) continue;
    const TileCounts counts(p, grouped->matmul.tiling.tile_n, grouped->matmul.tile_k());
    if (counts.columns < 2) continue;
    const auto laid = [&](int32_t least) {
      const std::vector<BlockGroup> groups = GroupsOf(counts, tile.size, least);
      grouped->blocks = 0;
      for (const BlockGroup& g : groups) grouped->blocks += g.blocks();
      return TimeOfGroups(*grouped, groups, target);
    };
    const double tile_us = laid(1).blocks_us / static_cast<double>(grouped->blocks);
    const auto tiles = [&](int32_t least) {
      const double us = laid(least).us();
      std::optional<BlocksWay> way = of_tiles(counts, grouped->blocks, least, grouped->Name());
      if (!way) return way;
      way->matmul = grouped->matmul;
      way->grouped = grouped;
      way->us = us;
      return way;
    };
    OfferTiles(p, counts, grouped->matmul, tile_us, tiles, target, why, ways);
  }
  std::stable_sort(ways.begin(), ways.end(), [](const BlocksWay& a, const BlocksWay& b) { return a.us < b.us; });
  if (ways.empty() && why->empty()) *why = "hardly any tile keeps nothing";
  return ways;
}

// W's listed tiles, each [tile_n][tile_k]; where each column's begin, and which stages they are.
struct Laid {
  Tensor tiles, begins, stages;
};
Laid LayTiles(const Problem& p, const GpuMatmul& m, int32_t least, const Tensor& weights) {
  const int tile_n = m.tiling.tile_n, tile_k = m.tile_k();
  const TileCounts counts(p, tile_n, tile_k);
  const int64_t pitch = counts.stages * tile_k, bytes = TypeInfo(p.w).bits / 8;
  Tensor whole = LayDepthInner(weights, p.product, pitch);
  if (MultipliesTf32(m.tiling.Name(), p.w)) whole = RoundedToTf32(std::move(whole));
  Laid laid = {Tensor(p.w, Shape({m.listed * tile_n, tile_k})), Tensor(DType::kI32, Shape({counts.columns + 1})),
               Tensor(DType::kI32, Shape({m.listed}))};
  std::memset(laid.tiles.mutable_bytes().data(), 0, laid.tiles.mutable_bytes().size());
  std::byte* to = laid.tiles.mutable_bytes().data();
  int64_t number = 0;
  for (int64_t column = 0; column < counts.columns; ++column) {
    laid.begins.Set(column, static_cast<double>(number));
    for (int64_t stage : counts.List(column, least)) {
      laid.stages.Set(number++, static_cast<double>(stage));
      // The one tile of a column that has none of its own stays zeros.
      const bool own = counts.kept[static_cast<size_t>(column * counts.stages + stage)] >= least;
      for (int64_t line = 0; line < tile_n; ++line, to += tile_k * bytes) {
        const int64_t row = column * tile_n + line;
        if (!own || row >= p.product.columns) continue;
        std::memcpy(to, whole.bytes().data() + (row * pitch + stage * tile_k) * bytes,
                    static_cast<size_t>(tile_k * bytes));
      }
    }
  }
  laid.begins.Set(counts.columns, static_cast<double>(number));
  TES_CHECK(number == m.listed, number, " tiles, expected ", m.listed);
  return laid;
}

// The blocks of a grouped product in the order in which they come: each [64][tile_k].
Tensor LayGroupedBlocks(const Problem& p, const GroupedProduct& g, const std::vector<BlockGroup>& groups,
                        const TileCounts& counts, int32_t least, const Tensor& weights) {
  const int tile_n = g.matmul.tiling.tile_n, tile_k = g.matmul.tile_k();
  const int64_t pitch = counts.stages * tile_k, bytes = TypeInfo(p.w).bits / 8;
  Tensor whole = LayDepthInner(weights, p.product, pitch);
  if (MultipliesTf32(g.Name(), p.w)) whole = RoundedToTf32(std::move(whole));
  Tensor blocks(p.w, Shape({g.blocks * tile_n, tile_k}));
  std::memset(blocks.mutable_bytes().data(), 0, blocks.mutable_bytes().size());
  std::byte* to = blocks.mutable_bytes().data();
  for (const BlockGroup& group : groups) {
    for (size_t step = 0; step < group.steps.size(); ++step) {
      for (size_t k = 0; k < group.rows.size(); ++k) {
        if (!group.kept[k][step]) continue;
        const int64_t block_row = group.rows[k], stage = group.steps[step];
        // The one block of a row that has none of its own stays zeros.
        const bool own = counts.kept[static_cast<size_t>(block_row * counts.stages + stage)] >= least;
        for (int64_t line = 0; line < tile_n; ++line, to += tile_k * bytes) {
          const int64_t row = block_row * tile_n + line;
          if (!own || row >= p.product.columns) continue;
          std::memcpy(to, whole.bytes().data() + (row * pitch + stage * tile_k) * bytes,
                      static_cast<size_t>(tile_k * bytes));
        }
      }
    }
  }
  return blocks;
}

Tensor TableOf(const std::vector<int32_t>& entries) {
  Tensor table(DType::kI32, Shape({static_cast<int64_t>(entries.size())}));
  std::memcpy(table.mutable_bytes().data(), entries.data(), entries.size() * sizeof(int32_t));
  return table;
}

// The constants that a grouped product's step reads, as its arguments.
std::vector<StepArg> GroupedConstants(const Problem& p, const BlocksWay& way, const Value& weights,
                                      PlanBuilder& builder) {
  const GroupedProduct& g = *way.grouped;
  const TileCounts counts(p, g.matmul.tiling.tile_n, g.matmul.tile_k());
  const std::vector<BlockGroup> groups = GroupsOf(counts, g.size, way.least);
  GroupedTables tables = TablesOf(g, groups, g.units());
  const std::string prefix = internal::Join(weights.name, ".blocks of ", g.size, " ", g.tokens());
  const auto constant = [&](const char* name, Tensor tensor) {
    return StepArg{.buffer = builder.Constant(prefix + name, std::move(tensor))};
  };
  return {constant("", LayGroupedBlocks(p, g, groups, counts, way.least, weights.constant)),
          constant(".begins", TableOf(tables.begins)), constant(".tiles", TableOf(tables.tiles)),
          constant(".steps", TableOf(tables.steps)), constant(".turns", TableOf(tables.turns))};
}

std::vector<StepArg> TileConstants(const Problem& p, const BlocksWay& way, const Value& weights, PlanBuilder& builder) {
  const GpuMatmul& m = way.matmul;
  Laid laid = LayTiles(p, m, way.least, weights.constant);
  const std::string prefix = internal::Join(weights.name, ".tiles ", m.tiling.tile_n, "x", m.tile_k());
  return {{.buffer = builder.Constant(prefix, std::move(laid.tiles))},
          {.buffer = builder.Constant(prefix + ".begins", std::move(laid.begins))},
          {.buffer = builder.Constant(prefix + ".stages", std::move(laid.stages))}};
}

}  // namespace

extern const std::string_view kGpuBlocksDoc;
const std::string_view kGpuBlocksDoc =
    "products with constant weights of blocks on GPUs: dense kernels that walk a list of tiles, and a scattered rest";

std::vector<Way> WaysGpuBlocks(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<Problem> problem = ProblemOf(graph, node, target, why);
  if (!problem) return {};
  std::vector<Way> ways;
  for (const BlocksWay& way : AllWays(*problem, 0, target, why)) {
    if (ways.size() < kMostWays || target.whole_space) ways.push_back({.name = way.name, .us = way.us, .why = way.why});
  }
  return ways;
}

Status PlanGpuBlocks(const Node& node, const std::string& name, PlanBuilder& builder) {
  std::string why;
  const Graph& graph = builder.graph();
  const std::optional<Problem> p = ProblemOf(graph, node, builder.target(), &why);
  TES_CHECK(p.has_value(), why);
  const StepArg x = builder.Read(p->sparse.x);
  // Where X begins is known only now: a way that needs it aligned gives way to the best that does not.
  const std::vector<BlocksWay> ways = AllWays(*p, x.offset, builder.target(), &why);
  if (ways.empty()) return Error(ErrorCode::kInternal, "node '", node.name, "': gpu_blocks has no way: ", why);
  const auto named = std::find_if(ways.begin(), ways.end(), [&](const BlocksWay& w) { return w.name == name; });
  const BlocksWay& way = named == ways.end() ? ways.front() : *named;

  GpuMatmul m = way.matmul;
  const Value& weights = graph[p->sparse.weights];
  PlanStep step;
  step.args = way.grouped ? GroupedConstants(*p, way, weights, builder) : TileConstants(*p, way, weights, builder);
  step.args.insert(step.args.begin(), x);
  const size_t first_of_epilogue = step.args.size();
  TileEpilogue epilogue(graph, node, SparseColumnDims(graph, node));
  StepArg partial;
  if (way.rest) {
    // Sums as they are, for the step that adds the rest.
    epilogue = TileEpilogue(m.sum(), Shape({m.problem.rows, m.problem.columns}), nullptr, {});
    partial.buffer = builder.Temp(node.name + ".partial", ByteSize(m.sum(), m.problem.rows * m.problem.columns));
    step.args.push_back({.buffer = partial.buffer, .writes = true});
  } else {
    epilogue.AddArguments(node, builder, step);
  }
  m.vector = epilogue.VectorWidth(std::span(step.args).subspan(first_of_epilogue));
  const std::vector<bool> may_alias = step.kernel.may_alias;
  step.launch = {.x = m.blocks(), .threads = m.tiling.threads(), .shared_bytes = m.shared_bytes()};
  int64_t weight_bytes = ByteSize(p->w, m.b.lines * m.b.run);
  if (way.grouped) {
    GroupedProduct grouped = *way.grouped;
    grouped.matmul.vector = std::min(m.vector, 4);
    step.kernel = GroupedKernel(grouped, epilogue);
    step.tensor_maps = GroupedTensorMaps(grouped);
    step.launch = {.x = grouped.units(), .threads = grouped.threads(), .shared_bytes = grouped.shared_bytes()};
    weight_bytes = ByteSize(p->w, grouped.blocks * m.tiling.tile_n * m.tile_k());
  } else if (m.tiling.core == MatmulTiling::Core::kWgmma) {
    step.kernel = WgmmaKernel(m, epilogue);
    step.tensor_maps = WgmmaTensorMaps(m);
  } else {
    step.kernel = GpuMatmulKernel(m, epilogue);
  }
  step.kernel.may_alias = may_alias;
  step.label = node.name;
  step.flops = 2.0 * static_cast<double>(p->sparse.all.kept->Count()) * static_cast<double>(m.problem.rows);
  step.bytes = static_cast<double>(weight_bytes + ByteSize(p->x, m.problem.rows * m.problem.depth) +
                                   ByteSize(epilogue.dtype(), m.problem.rows * m.problem.columns));
  builder.AddStep(std::move(step));
  if (way.rest) {
    const TileCounts counts(*p, m.tiling.tile_n, m.tile_k());
    const SparseShare share = Outside(*p, counts, m.tiling, m.tile_k(), way.least);
    PlanGpuScatteredStep(node, p->sparse, share, *way.rest, partial, builder);
  }
  return OkStatus();
}

}  // namespace tessera
