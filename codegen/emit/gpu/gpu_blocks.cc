// The emitter for GPUs of products whose weights keep blocks: the dense kernels (matmul_kernel.h, wgmma_kernel.h) with
// a list of tiles in place of a whole B.
//
//   Y[column, row] = sum over the tiles (row, k) that keep anything of X[column, k] * W[row, k]      columns are tokens
//
//   blocks by mma 128x64 …                  every tile of 64 rows and 128 bytes of the depth that keeps anything
//   blocks by mma 128x64 … + scattered 8x1  tiles that keep enough; the rest one by one (gpu_scattered.h), which adds
//   what
//                                           the tiles have given and applies the epilogue
//
// Tiles lie one after the other as the kernel wants them, zeros where nothing is kept; the lists are data, so that
// layers of one shape and number of tiles are one kernel. A column of tiles that keeps nothing has one of zeros. What
// binds: as dense products, but activations come again for each column of tiles, so that wide ones pay although they
// keep more zeros; expected times weigh both. Tested by gpu_blocks_test.cc.
#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/round.h"
#include "codegen/cover.h"
#include "codegen/cover_blocks.h"
#include "codegen/emit/gpu/gpu_matmul.h"
#include "codegen/emit/gpu/gpu_scattered.h"
#include "codegen/emit/gpu/wgmma_kernel.h"
#include "codegen/emit/sparse_problem.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"

namespace tessera {
namespace {

constexpr std::string_view kBy = "blocks by ", kRest = " + scattered ";
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

// From how many elements on a tile is cheaper than they are one by one.
int32_t WorthTile(const GpuMatmul& listed, const Target& target) {
  GpuMatmul half = listed;
  half.listed = listed.listed / 2;
  const double tiles_us = GpuMatmulMicroseconds(listed, target) - GpuMatmulMicroseconds(half, target);
  const double tile_us = tiles_us / static_cast<double>(std::max<int64_t>(1, listed.listed - half.listed));
  const double of_units = 132.0 / GpuModel(target).units;
  const double element_us = kScatteredMicroseconds * static_cast<double>(listed.problem.rows) * of_units;
  return static_cast<int32_t>(std::clamp(tile_us / element_us, 1.0, 1e6));
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
  int32_t least = 1;  // elements of a tile
  std::optional<GpuScattered> rest;
};

// By expected time. Where X begins at a multiple of 16 bytes or elsewhere decides what fits: `x_offset`.
std::vector<BlocksWay> AllWays(const Problem& p, int64_t x_offset, const Target& target, std::string* why) {
  std::vector<BlocksWay> ways;
  for (const MatmulTiling& tiling : GpuTilings(p.x, p.w, target, why)) {
    if (tiling.tile_n > 32 && tiling.tile_n >= 2 * p.product.columns) continue;
    if (tiling.tile_m > 64 && tiling.tile_m >= 2 * p.product.rows) continue;
    const std::optional<GpuMatmul> dense = LayGpuMatmul(p.product, tiling, p.x, p.w, x_offset, 0, target, why);
    if (!dense) continue;
    const int tile_k = dense->tile_k();
    const TileCounts counts(p, tiling.tile_n, tile_k);
    const auto offer = [&](int32_t least, const SparseShare* share) {
      const int64_t listed = counts.Listed(least), all = counts.columns * counts.stages;
      if (static_cast<double>(listed) > kOfDense * static_cast<double>(all)) return;
      BlocksWay way = {.name = internal::Join(kBy, tiling.Name()), .matmul = ListTiles(*dense, listed), .least = least};
      way.why = internal::Join(listed, " of ", all, " tiles");
      way.us = GpuMatmulMicroseconds(way.matmul, target);
      if (share != nullptr) {
        const std::vector<GpuScatteredWay> rest = GpuScatteredWays(p.sparse, *share, target, why);
        if (rest.empty()) return;
        way.rest = rest[0].scattered;
        way.us += rest[0].us;
        way.name += internal::Join(kRest, way.rest->Way());
        way.why += internal::Join(", ", share->kept->Count(), " elements beside them");
      }
      ways.push_back(std::move(way));
    };
    offer(1, nullptr);
    const int32_t least = WorthTile(ListTiles(*dense, std::max<int64_t>(2, counts.Listed(1))), target);
    const bool some = std::any_of(counts.kept.begin(), counts.kept.end(), [&](int32_t k) { return k >= least; });
    const bool rest =
        std::any_of(counts.kept.begin(), counts.kept.end(), [&](int32_t k) { return k > 0 && k < least; });
    if (least > 1 && some && rest) {
      const SparseShare share = Outside(p, counts, tiling, tile_k, least);
      offer(least, &share);
    }
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

}  // namespace

extern const std::string_view kGpuBlocksDoc;
const std::string_view kGpuBlocksDoc =
    "products with constant weights of blocks on GPUs: dense kernels that walk a list of tiles, and a scattered rest";

std::vector<Way> WaysGpuBlocks(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<Problem> problem = ProblemOf(graph, node, target, why);
  if (!problem) return {};
  std::vector<Way> ways;
  for (const BlocksWay& way : AllWays(*problem, 0, target, why)) {
    if (ways.size() < kMostWays) ways.push_back({.name = way.name, .us = way.us, .why = way.why});
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
  Laid laid = LayTiles(*p, m, way.least, weights.constant);
  const std::string prefix = internal::Join(weights.name, ".tiles ", m.tiling.tile_n, "x", m.tile_k());
  PlanStep step;
  step.args = {x,
               {.buffer = builder.Constant(prefix, std::move(laid.tiles))},
               {.buffer = builder.Constant(prefix + ".begins", std::move(laid.begins))},
               {.buffer = builder.Constant(prefix + ".stages", std::move(laid.stages))}};
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
  m.vector = epilogue.VectorWidth(std::span(step.args).subspan(static_cast<size_t>(m.first_epilogue_arg())));
  const std::vector<bool> may_alias = step.kernel.may_alias;
  if (m.tiling.core == MatmulTiling::Core::kWgmma) {
    step.kernel = WgmmaKernel(m, epilogue);
    step.tensor_maps = WgmmaTensorMaps(m);
  } else {
    step.kernel = GpuMatmulKernel(m, epilogue);
  }
  step.kernel.may_alias = may_alias;
  step.launch = {.x = m.blocks(), .threads = m.tiling.threads(), .shared_bytes = m.shared_bytes()};
  step.label = node.name;
  step.flops = 2.0 * static_cast<double>(p->sparse.all.kept->Count()) * static_cast<double>(m.problem.rows);
  step.bytes =
      static_cast<double>(ByteSize(p->w, m.b.lines * m.b.run) + ByteSize(p->x, m.problem.rows * m.problem.depth) +
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
