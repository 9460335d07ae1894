// The emitter of products whose weights keep two of each four along the depth, on NVIDIA's sparse tensor cores
// (two_of_four_core.h): f16, bf16 and bytes, from sm_80.
//
//   Y[column, row] = epilogue(sum over the kept (row, k) of X[column, k] * W[row, k])                columns are tokens
//
//   mma_sp 128x128 2x4x1 stages 3                       the cover 2:4: every group of four keeps at most two
//   mma_sp 128x128 2x4x1 stages 3 + scattered 16x2      2:4 + scattered: what groups keep beyond two, one by one
//                                                       (gpu_scattered.h), which adds what the first step has given
//
// n:m of which no four keep more than two (1:4, 2:8, blocks of one …) goes the same way. Values lie packed as
// [rows][depth / 2], which two they are beside them. W · x, where X and Y lie row by row, and f32 are left to others:
// of f32 the chip rounds to tf32, and takes one of each two. Tested by gpu_two_of_four_test.cc.
#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/round.h"
#include "codegen/cover.h"
#include "codegen/emit/gpu/gpu_matmul.h"
#include "codegen/emit/gpu/gpu_scattered.h"
#include "codegen/emit/gpu/two_of_four_core.h"
#include "codegen/emit/sparse_problem.h"
#include "codegen/emitter.h"
#include "codegen/targets/device_ops.h"

namespace tessera {
namespace {

constexpr std::string_view kRest = " + scattered ";
constexpr size_t kMostWays = 4;
constexpr int kGroup = 4;
// Of the matrix. More one by one is slower than all of it dense.
constexpr double kMostBeside = 0.05;

// Tiles, of which 256 bytes of A's depth are a stage; a warp has 32 columns or more.
constexpr struct {
  int m, n, warps_m, warps_n, slices, stages;
} kTiles[] = {
    {128, 256, 2, 4, 1, 3}, {128, 128, 2, 4, 1, 3}, {64, 128, 2, 4, 1, 3}, {128, 64, 4, 2, 1, 3}, {64, 64, 2, 2, 2, 3},
    {32, 128, 1, 4, 2, 3},  {32, 64, 1, 2, 4, 3},   {16, 128, 1, 4, 2, 4}, {16, 64, 1, 2, 4, 4},  {16, 32, 1, 1, 4, 4},
};

struct Problem {
  SparseProblem sparse;
  MatmulProblem product;
  DType x = DType::kF16, w = DType::kF16;
  CoverMatrix matrix;  // W's rows
  int64_t beside = 0;  // elements that groups keep beyond two
};

std::optional<Problem> ProblemOf(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  if (!ChipHasDeviceOp("nv.mma.sp.m16n8k32.f32.f16", target)) return no("the chip has no mma.sp");
  std::optional<SparseProblem> sparse = ReadSparseProblem(graph, node, target, why);
  if (!sparse) return std::nullopt;
  Problem p;
  p.x = sparse->source.type;
  p.w = graph[sparse->weights].type.dtype;
  if (p.x == DType::kF32) return no("f32, of which the chip takes one of each two, as tf32");
  if (!sparse->by_columns || sparse->source.depth_step != 1) return no("X or Y does not lie column by column");
  if (!TileEpilogue(graph, node, SparseColumnDims(graph, node)).bytewise()) return no("elements of less than a byte");
  p.product.rows = sparse->columns();
  p.product.columns = sparse->rows();
  p.product.depth = sparse->source.depth;
  p.product.b_constant = true;
  p.matrix =
      CoverMatrix::Of(*sparse->all.kept, p.product.columns, p.product.depth, sparse->row_step, sparse->depth_step);
  p.sparse = *std::move(sparse);
  for (int64_t row = 0; row < p.matrix.rows; ++row) {
    for (int64_t k = 0; k < p.matrix.depth; k += kGroup) {
      const auto size = static_cast<int>(std::min<int64_t>(kGroup, p.matrix.depth - k));
      p.beside += std::max(0, std::popcount(p.matrix.kept.Read(row * p.matrix.depth + k, size)) - 2);
    }
  }
  if (static_cast<double>(p.beside) > kMostBeside * static_cast<double>(p.matrix.kept.size())) {
    return no("groups of four keep ", p.beside, " elements beyond two of them");
  }
  return p;
}

// What groups keep beyond their first two, where W lies.
SparseShare Beside(const Problem& p) {
  Bitmap rest(p.sparse.all.kept->size());
  for (int64_t row = 0; row < p.matrix.rows; ++row) {
    for (int64_t k = 0; k < p.matrix.depth; k += kGroup) {
      int before = 0;
      for (int64_t at = k; at < std::min(p.matrix.depth, k + kGroup); ++at) {
        if (!p.matrix.kept[row * p.matrix.depth + at]) continue;
        if (before++ >= 2) rest.Set(row * p.sparse.row_step + at * p.sparse.depth_step, true);
      }
    }
  }
  return p.sparse.Share(std::move(rest));
}

struct TwoOfFourWay {
  std::string name, why;
  double us = 0;
  GpuMatmul matmul;
  std::optional<GpuScattered> rest;
};

// By expected time. Where X begins decides how its tiles are copied: `x_offset`.
std::vector<TwoOfFourWay> AllWays(const Problem& p, int64_t x_offset, const Target& target, std::string* why) {
  std::vector<TwoOfFourWay> ways;
  std::vector<GpuScatteredWay> rests;
  if (p.beside > 0) {
    rests = GpuScatteredWays(p.sparse, Beside(p), target, why);
    if (rests.empty()) return {};
  }
  for (const auto& tile : kTiles) {
    MatmulTiling tiling = {.core = MatmulTiling::Core::kMmaSp,
                           .tile_m = tile.m,
                           .tile_n = tile.n,
                           .tile_k_bytes = kTwoOfFourStage,
                           .warps_m = tile.warps_m,
                           .warps_n = tile.warps_n,
                           .slices = tile.slices,
                           .stages = tile.stages};
    if (tiling.tile_m > 16 && tiling.tile_m >= 2 * p.product.rows) continue;
    if (tiling.tile_n > 32 && tiling.tile_n >= 2 * p.product.columns) continue;
    for (int splits : {1, 2, 3, 4, 6, 8, 12}) {
      if (splits > 1 && p.beside > 0) break;
      tiling.splits = splits;
      const std::optional<GpuMatmul> m = LayGpuMatmul(p.product, tiling, p.x, p.w, x_offset, 0, target, why);
      if (!m) break;
      // Shares of the depth: where tiles do not fill the card, each with work of its own.
      if (splits > 1 && (m->tiles() > 3 * target.multiprocessors || m->steps_of_split() < 2)) break;
      if (splits > 1 && (splits - 1) * m->steps_of_split() >= m->steps()) continue;  // the last has nothing
      TwoOfFourWay way = {.name = tiling.Name(), .us = GpuMatmulMicroseconds(*m, target), .matmul = *m};
      way.why = "two of four";
      if (p.beside > 0) {
        way.rest = rests[0].scattered;
        way.us += rests[0].us;
        way.name += internal::Join(kRest, way.rest->Way());
        way.why += internal::Join(", ", p.beside, " elements beside them");
      }
      ways.push_back(std::move(way));
    }
  }
  std::stable_sort(ways.begin(), ways.end(), [](const auto& a, const auto& b) { return a.us < b.us; });
  return ways;
}

// W packed, and which two of each group its elements are.
struct Packed {
  Tensor values, which;
};
Packed Pack(const Problem& p, const GpuMatmul& m, const Tensor& weights) {
  constexpr double kFirstTwo = 0x44444444;  // of each group
  Packed packed = {Tensor(p.w, Shape({m.b.lines, m.b.pitch})),
                   Tensor::Full(DType::kU32, Shape({m.which.lines, m.which.pitch}), kFirstTwo)};
  std::memset(packed.values.mutable_bytes().data(), 0, packed.values.mutable_bytes().size());
  const int64_t bytes = m.b.element_bytes(), depth = p.matrix.depth;
  const bool halves = IsFloat(p.w);
  const int64_t step = kTwoOfFourStep / bytes;  // of the depth, that a product takes
  auto* const words = packed.which.mutable_data<uint32_t>().data();
  std::byte* const to = packed.values.mutable_bytes().data();
  for (int64_t row = 0; row < p.matrix.rows; ++row) {
    for (int64_t k = 0; k < depth; k += kGroup) {
      const auto size = static_cast<int>(std::min<int64_t>(kGroup, depth - k));
      const uint64_t kept = p.matrix.kept.Read(row * depth + k, size);
      if (kept == 0) continue;
      // The first two, in order; where there is only one, another one that is pruned.
      int first = std::countr_zero(kept);
      const uint64_t others = kept & (kept - 1);
      int second = others != 0 ? std::countr_zero(others) : 3;
      if (first == second) first = 2;
      int place = 0;
      for (const int at : {first, second}) {
        const int64_t packed_at = row * m.b.pitch + k / 2 + place++;
        if ((kept >> at & 1) == 0) continue;
        const int64_t from = row * p.sparse.row_step + (k + at) * p.sparse.depth_step;
        std::memcpy(to + packed_at * bytes, weights.bytes().data() + from * bytes, static_cast<size_t>(bytes));
      }
      const int64_t in_line = row % RowsOfWhich(p.w), in_16 = in_line % 16, upper = in_16 / 8;
      const int64_t group = k % step / kGroup, of_word = halves ? 4 : 8;
      const int64_t lane = in_16 % 8 * 4 + (halves ? in_line / 16 * 2 + group / of_word : upper + group / of_word * 2);
      const int64_t bit = group % of_word * 4 + (halves ? upper * 16 : 0);
      uint32_t& word = words[row / RowsOfWhich(p.w) * m.which.pitch + k / step * kTwoOfFourWords + lane];
      word = (word & ~(0xfu << bit)) | static_cast<uint32_t>(first | second << 2) << bit;
    }
  }
  return packed;
}

}  // namespace

extern const std::string_view kGpuTwoOfFourDoc;
const std::string_view kGpuTwoOfFourDoc =
    "products with constant weights of which each four along the depth keep two, on sparse tensor cores";

std::vector<Way> WaysGpuTwoOfFour(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<Problem> problem = ProblemOf(graph, node, target, why);
  if (!problem) return {};
  std::vector<Way> ways;
  for (const TwoOfFourWay& way : AllWays(*problem, 0, target, why)) {
    if (ways.size() < kMostWays || target.whole_space) ways.push_back({.name = way.name, .us = way.us, .why = way.why});
  }
  return ways;
}

Status PlanGpuTwoOfFour(const Node& node, const std::string& name, PlanBuilder& builder) {
  std::string why;
  const Graph& graph = builder.graph();
  const std::optional<Problem> p = ProblemOf(graph, node, builder.target(), &why);
  TES_CHECK(p.has_value(), why);
  const StepArg x = builder.Read(p->sparse.x);
  const std::vector<TwoOfFourWay> ways = AllWays(*p, x.offset, builder.target(), &why);
  const auto named = std::find_if(ways.begin(), ways.end(), [&](const TwoOfFourWay& w) { return w.name == name; });
  if (named == ways.end()) {
    return Error(ErrorCode::kInternal, "node '", node.name, "': gpu_two_of_four has no way '", name, "': ", why);
  }
  const GpuMatmul& m = named->matmul;
  const Value& weights = graph[p->sparse.weights];
  Packed packed = Pack(*p, m, weights.constant);
  const std::string prefix = internal::Join(weights.name, ".two_of_four");
  const double bytes =
      static_cast<double>(ByteSize(p->w, m.b.lines * m.b.pitch) + ByteSize(p->x, m.problem.rows * m.problem.depth)) +
      static_cast<double>(packed.which.bytes().size());
  std::vector<StepArg> args = {x,
                               {.buffer = builder.Constant(prefix, std::move(packed.values))},
                               {.buffer = builder.Constant(prefix + ".which", std::move(packed.which))}};
  if (!named->rest) {
    const TileEpilogue epilogue(graph, node, SparseColumnDims(graph, node));
    return AddGpuMatmulSteps(node, m, std::move(args), epilogue, nullptr, bytes, builder);
  }
  // Sums as they are, for the step that adds the rest.
  const TileEpilogue sums(m.sum(), Shape({m.problem.rows, m.problem.columns}), nullptr, {});
  const StepArg partial = {
      .buffer = builder.Temp(node.name + ".partial", ByteSize(m.sum(), m.problem.rows * m.problem.columns))};
  const Status status = AddGpuMatmulSteps(node, m, std::move(args), sums, nullptr, bytes, builder, &partial);
  if (!status.ok()) return status;
  PlanGpuScatteredStep(node, p->sparse, Beside(*p), *named->rest, partial, builder);
  return OkStatus();
}

}  // namespace tessera
