// The matmul emitter for GPUs; see matmul_kernel.h for its kernels.
#include "codegen/emit/gpu/gpu_matmul.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <span>

#include "codegen/emit/gpu/f64_core.h"
#include "codegen/emit/gpu/gpu_rowwise.h"
#include "codegen/emit/gpu/two_of_four_core.h"
#include "codegen/emit/gpu/wave_core.h"
#include "codegen/emit/gpu/wgmma_kernel.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "graph/op.h"

namespace tessera {

namespace {

// Tiles, warps and slices; large ones first. The warps' parts stay 64x32 or so while there are enough tiles: below, a
// thread has too few products for what it loads.
struct Shape2d {
  int m, n, warps_m, warps_n, slices;
};
constexpr Shape2d kFmaTiles[] = {
    {128, 128, 2, 4, 1}, {64, 128, 1, 4, 2}, {128, 64, 2, 2, 2}, {64, 64, 1, 2, 4}, {64, 32, 1, 1, 8},
    {32, 64, 1, 2, 4},   {32, 32, 1, 1, 8},  {16, 64, 1, 2, 4},  {16, 32, 1, 1, 8}, {16, 16, 1, 1, 8},
};
constexpr Shape2d kMmaTiles[] = {
    {128, 256, 2, 4, 1}, {128, 128, 2, 4, 1}, {64, 128, 2, 4, 1}, {128, 64, 4, 2, 1}, {64, 64, 2, 2, 2},
    {64, 32, 2, 1, 4},   {32, 64, 1, 2, 4},   {32, 32, 1, 1, 4},  {16, 64, 1, 2, 4},  {16, 32, 1, 1, 4},
};
// FP64 tensor cores: warps of 32x64 or 32x32, whose sums take two registers each; a stage has two steps for slices to
// share. `per_unit`: blocks on a multiprocessor, so that one multiplies while another meets at a barrier.
struct F64Tile {
  Shape2d shape;
  int stages, per_unit;
};
constexpr F64Tile kF64Tiles[] = {
    {{128, 128, 4, 2, 1}, 3, 1}, {{64, 128, 2, 2, 1}, 4, 2}, {{64, 128, 2, 2, 2}, 4, 1}, {{128, 64, 4, 1, 1}, 4, 2},
    {{128, 64, 4, 1, 2}, 4, 1},  {{64, 64, 2, 2, 1}, 4, 2},  {{64, 64, 2, 2, 2}, 4, 1},  {{64, 32, 2, 1, 2}, 4, 2},
    {{32, 64, 1, 2, 2}, 4, 2},   {{32, 32, 1, 1, 2}, 4, 2},  {{16, 64, 1, 2, 2}, 4, 2},
};
// Of waves of 64 lanes; a stage has two steps for slices to share.
constexpr Shape2d kMfmaTiles[] = {
    {128, 128, 2, 2, 1}, {64, 128, 2, 2, 1}, {128, 64, 2, 2, 1}, {64, 64, 2, 2, 1}, {64, 32, 2, 1, 2},
    {32, 64, 1, 2, 2},   {32, 32, 1, 1, 2},  {16, 64, 1, 2, 2},  {16, 32, 1, 1, 2}, {16, 16, 1, 1, 2},
};
constexpr size_t kMostWays = 8;

// Tiles of warpgroups, 64 rows each; stages, blocks on a multiprocessor. Large ones load least for what they multiply:
// 192x192 comes at 0.0104 bytes a flop of f16, 128x256 at 0.0117, and the second-level cache gives 10 TB/s. (192x256
// would at 0.0091, but ptxas gives 512 threads no 154 registers, which its products need.) 192 columns: networks are
// 768 wide, and 4096x768 are 128 tiles of 128x192 for 132 multiprocessors. 64x128: so are 1024x1024.
struct GroupTile {
  int m, n, stages, per_unit;
};
constexpr GroupTile kWgmmaTiles[] = {
    {128, 256, 4, 1}, {192, 192, 4, 1}, {128, 192, 5, 1}, {128, 128, 5, 1}, {128, 64, 7, 1},
    {128, 64, 3, 2},  {64, 128, 8, 1},  {64, 128, 3, 2},  {64, 64, 12, 1},  {64, 64, 5, 2},
};

bool IsByte(DType type) { return type == DType::kU8 || type == DType::kI8; }

// What may multiply these types on the target, or nothing with the reason in *why.
std::vector<MatmulTiling::Core> CoresFor(DType a, DType b, const Target& target, std::string* why) {
  using Core = MatmulTiling::Core;
  const bool floats = a == DType::kF32 && b == DType::kF32, bytes = IsByte(a) && IsByte(b);
  const bool has_bf16 = target.matrix != Target::MatrixCores::kMmaOfHalfDepth;
  const bool halves = a == b && (a == DType::kF16 || (a == DType::kBF16 && has_bf16));
  if (!floats && !halves && !bytes) {
    *why = internal::Join("expected two of f32", has_bf16 ? ", f16 or bf16" : " or f16", ", or bytes, found ", Name(a),
                          " and ", Name(b));
    return {};
  }
  if (target.kind == TargetKind::kAmdgpu) {
    if (WaveProduct(a, b, target).empty()) return {Core::kFma};
    const Core core = target.matrix == Target::MatrixCores::kMfma ? Core::kMfma : Core::kWmma;
    return floats ? std::vector<Core>{core, Core::kFma} : std::vector<Core>{core};
  }
  if (floats && !target.allow_tf32) {
    if (GpuModel(target).mma_f64_per_clock == 0) return {Core::kFma};
    return {Core::kMmaF64, Core::kFma};
  }
  if (floats) return {Core::kWgmma, Core::kMma, Core::kFma};
  return {Core::kWgmma, Core::kMma};
}

// With one share of the depth.
std::vector<MatmulTiling> Tilings(MatmulTiling::Core core, const Target& target) {
  std::vector<MatmulTiling> tilings;
  const auto add = [&](const Shape2d& shape, int stages, int per_unit, int wave) {
    tilings.push_back({.core = core,
                       .tile_m = shape.m,
                       .tile_n = shape.n,
                       .warps_m = shape.warps_m,
                       .warps_n = shape.warps_n,
                       .slices = shape.slices,
                       .stages = stages,
                       .per_unit = per_unit,
                       .wave = wave});
  };
  if (core == MatmulTiling::Core::kWgmma) {
    for (const GroupTile& tile : kWgmmaTiles) add({tile.m, tile.n, tile.m / 16, 1, 1}, tile.stages, tile.per_unit, 32);
    return tilings;
  }
  if (core == MatmulTiling::Core::kMmaF64) {
    for (const F64Tile& tile : kF64Tiles) add(tile.shape, tile.stages, tile.per_unit, 32);
    return tilings;
  }
  const bool fma = core == MatmulTiling::Core::kFma, mfma = core == MatmulTiling::Core::kMfma;
  for (const Shape2d& shape : fma    ? std::span<const Shape2d>(kFmaTiles)
                              : mfma ? std::span<const Shape2d>(kMfmaTiles)
                                     : std::span<const Shape2d>(kMmaTiles)) {
    const bool large = shape.m * shape.n > 128 * 128;
    const int stages = !large && !target.has_async_copy ? 2 : fma || large ? 3 : 4;
    add(shape, stages, 1, mfma ? 64 : 32);
  }
  return tilings;
}

int64_t Padded(int64_t elements, DType type) {
  const int64_t of = kPieceBytes / (TypeInfo(type).bits / 8);
  return (elements + of - 1) / of * of;
}

// Is a tile that lies that way cut as the core's warps take it?
bool TileFits(const MatmulTiling& tiling, const TileOperand& operand, int of_warp, int lanes, std::string* why) {
  using Core = MatmulTiling::Core;
  const bool fma = tiling.core == Core::kFma;
  const int pieces = operand.line_bytes() / kPieceBytes;
  if (operand.line_bytes() % 128 != 0 || tiling.threads() % pieces != 0) {
    *why = "the tile's lines are too short";
    return false;
  }
  if (fma && !operand.depth_inner && of_warp % (4 * lanes) != 0) {
    *why = "a thread has no four neighbours";
    return false;
  }
  if (tiling.core == Core::kMmaF64 && !operand.depth_inner && of_warp % kF64Across != 0) {
    *why = "a thread has no neighbour in each of four blocks";
    return false;
  }
  const int bytes_across = fma || tiling.core == Core::kMmaF64 ? 4 : tiling.core == Core::kMma ? 2 : 0;  // 0: any
  if (!operand.depth_inner && bytes_across != 0 && operand.element_bytes() != bytes_across) {
    *why = internal::Join("the depth of ", Name(operand.type), " does not run along lines");
    return false;
  }
  return true;
}

// B as the core of two of four has it.
void PackTwoOfFour(GpuMatmul& m) {
  TES_CHECK(m.problem.b_constant && m.problem.groups() == 1 && m.a.depth_inner, m.tiling.Name());
  m.b.tile_run = kTwoOfFourLine / m.b.element_bytes();
  m.b.run = m.b.pitch = m.steps() * m.b.tile_run;
  m.b_matrix = m.b.lines * m.b.pitch;
  const int rows = RowsOfWhich(m.b.type);
  m.which.type = DType::kU32;
  m.which.tile_lines = m.tiling.tile_n / rows;
  m.which.tile_run = kTwoOfFourStage / kTwoOfFourStep * kTwoOfFourWords;
  m.which.lines = m.tiles_n() * m.which.tile_lines;
  m.which.run = m.which.pitch = m.steps() * m.which.tile_run;
}

}  // namespace

std::optional<GpuMatmul> LayGpuMatmul(const MatmulProblem& problem, const MatmulTiling& tiling, DType a, DType b,
                                      int64_t a_offset, int64_t b_offset, const Target& target, std::string* why,
                                      const ConvGeometry* windows) {
  GpuMatmul m;
  m.problem = problem;
  m.tiling = tiling;
  const auto lay = [&](DType type, bool depth_inner, int64_t extent, int tile, int64_t pitch, int64_t offset) {
    TileOperand operand;
    operand.type = type;
    operand.depth_inner = depth_inner;
    operand.lines = depth_inner ? extent : problem.depth;
    operand.run = depth_inner ? problem.depth : extent;
    operand.pitch = pitch;
    operand.granule = GranuleOf(type, pitch, offset);
    const int tile_k = tiling.tile_k_bytes / operand.element_bytes();
    operand.tile_lines = depth_inner ? tile : tile_k;
    operand.tile_run = depth_inner ? tile_k : tile;
    return operand;
  };
  m.a = lay(a, !problem.a_transposed, problem.rows, tiling.tile_m, problem.a_transposed ? problem.rows : problem.depth,
            a_offset);
  m.a_matrix = problem.rows * problem.depth;
  if (windows != nullptr) {
    m.a.windows = *windows;
    m.a.granule = GranuleOf(a, windows->in_channels, a_offset);
    m.a_matrix = windows->in_channels;
    m.groups_beside = problem.groups() > 1;
    if (tiling.core == MatmulTiling::Core::kWgmma) {
      *why = "windows are gathered by TileCopy alone";
      return std::nullopt;
    }
    if (m.groups_beside && tiling.splits > 1) {
      *why = "groups beside each other do not share the depth";
      return std::nullopt;
    }
  }
  if (problem.b_constant) {
    const int64_t pitch = Padded(problem.depth, b);
    m.b = lay(b, true, problem.columns, tiling.tile_n, pitch, 0);
    m.b_matrix = pitch * problem.columns;
  } else {
    m.b = lay(b, problem.b_transposed, problem.columns, tiling.tile_n,
              problem.b_transposed ? problem.depth : problem.columns, b_offset);
    m.b_matrix = problem.depth * problem.columns;
  }
  if (m.packed()) PackTwoOfFour(m);
  // What is constant was rounded before.
  const bool fragments = tiling.core == MatmulTiling::Core::kMma;
  m.a.rounds = fragments && a == DType::kF32;
  m.b.rounds = fragments && b == DType::kF32 && !problem.b_constant;
  const GpuModel gpu(target);
  if (tiling.core == MatmulTiling::Core::kWgmma) {
    m.resident = int64_t{gpu.units} * tiling.per_unit;
    if (!WgmmaTakes(m, target, why)) return std::nullopt;
  } else if (!TileFits(tiling, m.a, tiling.warp_m(), 8, why) || !TileFits(tiling, m.b, tiling.warp_n(), 4, why)) {
    return std::nullopt;
  }
  if (m.shared_bytes() > gpu.shared_bytes / tiling.per_unit - (tiling.per_unit > 1 ? kReservedSharedBytes : 0)) {
    *why = internal::Join("tiles of ", m.shared_bytes(), " bytes, shared memory has ", gpu.shared_bytes);
    return std::nullopt;
  }
  constexpr int64_t kMost = int64_t{1} << 30;
  if (std::max({problem.rows, problem.columns, problem.depth, m.blocks()}) > kMost) {
    *why = "too large for 32-bit indices";
    return std::nullopt;
  }
  return m;
}

GpuMatmul ListTiles(GpuMatmul m, int64_t listed) {
  TES_CHECK(m.problem.b_constant && m.tiling.splits == 1, m.Key());
  m.listed = listed;
  m.b.lines = listed * m.tiling.tile_n;
  m.b.run = m.b.pitch = m.tile_k();
  m.b.granule = kPieceBytes;
  return m;
}

std::vector<MatmulTiling> GpuTilings(DType a, DType b, const Target& target, std::string* why) {
  std::vector<MatmulTiling> all;
  for (MatmulTiling::Core core : CoresFor(a, b, target, why)) {
    const std::vector<MatmulTiling> tilings = Tilings(core, target);
    all.insert(all.end(), tilings.begin(), tilings.end());
    // Narrow and tall: A comes again for each list.
    if (core == MatmulTiling::Core::kWgmma) {
      MatmulTiling tall = tilings.front();
      tall.tile_m = 192, tall.tile_n = 64, tall.warps_m = 12, tall.stages = 5, tall.per_unit = 1;
      all.push_back(tall);
      tall.tile_n = 128, tall.stages = 4;
      all.push_back(tall);
    }
  }
  return all;
}

std::vector<GpuMatmulWay> GpuMatmulWays(const MatmulProblem& problem, DType a, DType b, const Target& target,
                                        std::string* why, const ConvGeometry* windows, bool shares_are_joined) {
  std::vector<GpuMatmulWay> ways;
  const GpuModel gpu(target);
  for (MatmulTiling::Core core : CoresFor(a, b, target, why)) {
    const bool groups = core == MatmulTiling::Core::kWgmma;
    // A tile twice as tall or wide as the whole product only costs more; but lines along which rows or columns run
    // have at least 64 of them, and so has a warpgroup.
    const int least_m = problem.a_transposed || groups ? 64 : 16,
              least_n = (problem.b_constant || problem.b_transposed) && !groups ? 32 : 64;
    // Of fewer rows a warpgroup has mostly zeros.
    if (groups && problem.rows < 48) continue;
    for (MatmulTiling tiling : Tilings(core, target)) {
      if (tiling.tile_m > least_m && tiling.tile_m >= 2 * problem.rows) continue;
      if (tiling.tile_n > least_n && tiling.tile_n >= 2 * problem.columns) continue;
      for (int splits : {1, 2, 3, 4, 5, 6, 8, 11, 16, 22}) {
        tiling.splits = splits;
        const std::optional<GpuMatmul> m = LayGpuMatmul(problem, tiling, a, b, 0, 0, target, why, windows);
        if (!m) break;
        // Shares of the depth: where tiles do not fill the card, each with work of its own.
        if (splits > 1 && (m->tiles() > 3 * gpu.units || m->steps_of_split() < 3)) break;
        if (splits > 1 && (splits - 1) * m->steps_of_split() >= m->steps()) continue;  // the last has nothing
        ways.push_back({tiling, GpuMatmulMicroseconds(*m, target, shares_are_joined)});
      }
    }
  }
  std::stable_sort(ways.begin(), ways.end(), [](const GpuMatmulWay& x, const GpuMatmulWay& y) { return x.us < y.us; });
  return ways;
}

Tensor LayDepthInner(const Tensor& b, const MatmulProblem& problem, int64_t pitch) {
  const int64_t bytes = TypeInfo(b.dtype()).bits / 8;
  Tensor result(b.dtype(), {problem.b_matrices, problem.columns, pitch});
  std::memset(result.mutable_bytes().data(), 0, result.mutable_bytes().size());
  const std::byte* from = b.bytes().data();
  std::byte* to = result.mutable_bytes().data();
  const int64_t column_step = problem.b_transposed ? problem.depth : 1;
  const int64_t depth_step = problem.b_transposed ? 1 : problem.columns;
  for (int64_t matrix = 0; matrix < problem.b_matrices; ++matrix) {
    const int64_t start = matrix * problem.depth * problem.columns;
    for (int64_t column = 0; column < problem.columns; ++column) {
      std::byte* line = to + (matrix * problem.columns + column) * pitch * bytes;
      const std::byte* at = from + (start + column * column_step) * bytes;
      if (depth_step == 1) {
        std::memcpy(line, at, static_cast<size_t>(problem.depth * bytes));
        continue;
      }
      for (int64_t k = 0; k < problem.depth; ++k) {
        std::memcpy(line + k * bytes, at + k * depth_step * bytes, static_cast<size_t>(bytes));
      }
    }
  }
  return result;
}

int64_t LaidPitch(const MatmulProblem& problem, DType b) { return Padded(problem.depth, b); }

bool MultipliesTf32(const std::string& way, DType type) {
  return type == DType::kF32 && way.find("mma ") != std::string::npos;
}

Tensor RoundedToTf32(Tensor values) {
  if (values.dtype() != DType::kF32) return values;
  constexpr uint32_t kHalf = 0x1000, kCut = 0xffffe000;
  for (float& value : values.mutable_data<float>()) {
    if (std::isfinite(value)) value = std::bit_cast<float>((std::bit_cast<uint32_t>(value) + kHalf) & kCut);
  }
  return values;
}

StepArg DepthInnerOperand(const Node& node, const MatmulProblem& problem, const std::string& way,
                          PlanBuilder& builder) {
  if (!problem.b_constant) return builder.Read(node.inputs[1]);
  const Value& weights = builder.graph()[node.inputs[1]];
  const int64_t pitch = Padded(problem.depth, weights.type.dtype);
  const bool rounds = MultipliesTf32(way, weights.type.dtype);
  const std::string name = internal::Join(weights.name, problem.b_transposed ? ".depth_inner" : ".turned_depth_inner",
                                          rounds ? ".tf32" : "");
  const auto lay = [&] {
    Tensor laid = LayDepthInner(weights.constant, problem, pitch);
    return rounds ? RoundedToTf32(std::move(laid)) : laid;
  };
  return {.buffer = builder.ConstantOnce(name, lay)};
}

extern const std::string_view kGpuMatmulDoc;
const std::string_view kGpuMatmulDoc =
    "dense products of f32, f16, bf16 and bytes in tiles of a GPU's blocks, constant operands laid along the depth";

std::vector<Way> WaysGpuMatmul(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  if (node.op != Op::kMatmul) {
    *why = "no matmul";
    return {};
  }
  const TileEpilogue epilogue(graph, node);
  if (!epilogue.bytewise()) {
    *why = "elements of less than a byte";
    return {};
  }
  std::vector<Way> ways;
  const bool joined = RowsOfShares(graph, node) != nullptr;
  for (const GpuMatmulWay& way : GpuMatmulWays(MatmulProblemOf(graph, node), graph[node.inputs[0]].type.dtype,
                                               graph[node.inputs[1]].type.dtype, target, why, nullptr, joined)) {
    if (ways.size() < kMostWays || target.whole_space) ways.push_back({.name = way.tiling.Name(), .us = way.us});
  }
  return ways;
}

Status PlanGpuMatmul(const Node& node, const std::string& way, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  const MatmulProblem problem = MatmulProblemOf(graph, node);
  const GpuMatmulOperands operands = {.a_type = graph[node.inputs[0]].type.dtype,
                                      .b_type = graph[node.inputs[1]].type.dtype,
                                      .a = builder.Read(node.inputs[0]),
                                      .b = DepthInnerOperand(node, problem, way, builder)};
  return PlanGpuMatmulSteps(node, problem, operands, TileEpilogue(graph, node), way, builder);
}

Status PlanGpuMatmulSteps(const Node& node, const MatmulProblem& problem, const GpuMatmulOperands& operands,
                          const TileEpilogue& epilogue, const std::string& way, PlanBuilder& builder) {
  const DType a_type = operands.a_type, b_type = operands.b_type;
  std::string why;
  std::vector<GpuMatmulWay> ways = GpuMatmulWays(problem, a_type, b_type, builder.target(), &why, operands.windows);
  const auto chosen =
      std::find_if(ways.begin(), ways.end(), [&](const GpuMatmulWay& w) { return w.tiling.Name() == way; });
  TES_CHECK(chosen != ways.end(), way);
  // Where operands begin is known only now: one that needs them aligned gives way to the next that does not.
  std::rotate(ways.begin(), chosen, chosen + 1);

  std::optional<GpuMatmul> m;
  for (auto w = ways.begin(); w != ways.end() && !m; ++w) {
    m = LayGpuMatmul(problem, w->tiling, a_type, b_type, operands.a.offset, operands.b.offset, builder.target(), &why,
                     operands.windows);
  }
  TES_CHECK(m.has_value(), why);

  const double bytes =
      operands.windows != nullptr
          ? operands.windows->bytes()
          : static_cast<double>(ByteSize(a_type, problem.a_matrices * m->a_matrix) +
                                ByteSize(b_type, problem.b_matrices * problem.depth * problem.columns) +
                                ByteSize(epilogue.dtype(), problem.groups() * problem.rows * problem.columns));
  // Where only a normalisation of rows reads the result, its step adds the shares.
  const bool joins = m->tiling.splits > 1 && node.op == Op::kMatmul;
  const Node* rows_behind = joins ? RowsOfShares(builder.graph(), node) : nullptr;
  return AddGpuMatmulSteps(node, *std::move(m), {operands.a, operands.b}, epilogue, rows_behind, bytes, builder);
}

Status AddGpuMatmulSteps(const Node& node, GpuMatmul m, std::vector<StepArg> args, const TileEpilogue& epilogue,
                         const Node* rows_behind, double bytes, PlanBuilder& builder, const StepArg* result) {
  const MatmulProblem& problem = m.problem;
  PlanStep step;
  step.args = std::move(args);
  // The step that applies the epilogue: this one, or with shares of the depth another.
  PlanStep second;
  const bool splits = m.tiling.splits > 1;
  const int64_t rows = problem.groups() * problem.rows;
  PlanStep& last = splits ? second : step;
  if (splits) {
    const int64_t partial_bytes = ByteSize(m.sum(), m.tiling.splits * rows * problem.columns);
    const int partial = builder.Temp(node.name + ".partial", partial_bytes);
    step.args.push_back({.buffer = partial, .writes = true});
    second.args.push_back({.buffer = partial});
  }
  if (rows_behind == nullptr) {
    const size_t first_of_epilogue = last.args.size();
    if (result == nullptr) {
      epilogue.AddArguments(node, builder, last);
    } else {
      last.args.push_back(*result);
      last.args.back().writes = true;
    }
    m.vector = epilogue.VectorWidth(std::span(last.args).subspan(first_of_epilogue));
    while (m.groups_beside && problem.columns % m.vector != 0) m.vector /= 2;
    if (m.tiling.core == MatmulTiling::Core::kWgmma) m.vector = std::min(m.vector, 4);
  } else {
    m.vector = problem.columns % 4 == 0 ? 4 : 1;
  }

  const std::vector<bool> may_alias = last.kernel.may_alias;
  if (m.tiling.core == MatmulTiling::Core::kWgmma) {
    step.kernel = WgmmaKernel(m, epilogue);
    step.tensor_maps = WgmmaTensorMaps(m);
  } else {
    step.kernel = GpuMatmulKernel(m, epilogue);
  }
  if (splits) second.kernel = SplitSumKernel(m.sum(), m.tiling.splits, rows, problem.columns, m.vector, epilogue);
  last.kernel.may_alias = may_alias;
  step.tasks = second.tasks = problem.rows == 0 || problem.columns == 0 || problem.groups() == 0 ? 0 : 1;
  step.launch = {.x = m.blocks(), .threads = m.tiling.threads(), .shared_bytes = m.shared_bytes()};
  step.label = second.label = node.name;
  const double products = static_cast<double>(rows) * static_cast<double>(problem.columns * problem.depth);
  step.flops = 2 * products;
  step.bytes = bytes;
  builder.AddStep(std::move(step));
  if (!splits) return OkStatus();
  if (rows_behind != nullptr) {
    const RowShares shares = {
        .sum = m.sum(), .splits = m.tiling.splits, .epilogue = std::make_shared<const TileEpilogue>(epilogue)};
    return PlanRowsOfShares(*rows_behind, node, shares, second.args[0], builder);
  }
  const int64_t vectors = rows * problem.columns / m.vector;
  second.launch = {.x = (vectors + kSplitSumThreads - 1) / kSplitSumThreads, .threads = kSplitSumThreads};
  builder.AddStep(std::move(second));
  return OkStatus();
}

}  // namespace tessera
