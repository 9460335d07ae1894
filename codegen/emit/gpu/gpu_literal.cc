#include "codegen/emit/gpu/gpu_literal.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/hash.h"
#include "base/round.h"
#include "codegen/emit/gpu/matmul_kernel.h"
#include "codegen/gpu_model.h"

namespace tessera {
namespace {

constexpr int64_t kPieceElements = 4;  // of 16 bytes, which X's lines are made of

int64_t PrunedElementsOf(const Graph& graph) {
  int64_t kept = 0;
  for (const Value& value : graph.values) {
    if (value.kind == ValueKind::kConstant && value.tesa && !value.tesa->keeps_all()) kept += value.tesa->num_kept();
  }
  return kept;
}

// Fitted to an H100 (docs/results/nvptx_sparse.md): X comes from the second-level cache once for each panel of rows,
// and while code arrives X does not, and the other way round.
double Microseconds(const GpuLiteral& s, const SparseProblem& problem, const Target& target) {
  const GpuModel gpu(target);
  constexpr double kStart = 4, kCacheBytesPerNs = 11650, kWriteBytesPerNs = 3500;
  const double code_bytes_per_ns = s.splits > 1 ? 3.3 : 7.7;  // with half the registers in use, slower
  const double waves = std::ceil(static_cast<double>(s.blocks()) / gpu.units);
  const double kept = static_cast<double>(problem.all.kept->Count()) / static_cast<double>(s.panels() * s.splits);
  const double code = waves * kept * 16 / code_bytes_per_ns / 1e3;
  const double x = static_cast<double>(s.blocks() * s.share_depth() * s.block_columns) * 4 / kCacheBytesPerNs / 1e3;
  const double products = waves * kept * s.block_columns / gpu.fma_per_clock / gpu.clock_ghz / 1e3;
  double sums = 0;
  if (s.splits > 1) {
    const double bytes = static_cast<double>(s.splits * s.rows * s.columns) * 4;
    sums = bytes / kWriteBytesPerNs / 1e3 + gpu.launch_us + bytes / gpu.l2_bytes_per_ns / 1e3;
  }
  // Each wave starts anew, and its results take long where columns of Y do not begin at multiples of 16 bytes (measured
  // for 1372x16x1742: 15 us a wave of 24 rows, 25 of 32).
  const double results = s.by_columns && s.rows % 4 != 0 ? waves * s.panel_rows * 0.7 : 0;
  // Code that is long in the making should be worth it.
  constexpr double kWorth = 1.05;
  return kWorth * (kStart * waves + std::max(code + x, products) + results + sums);
}

// The elements in the order of the code, where each piece's begin, and their digest.
void Order(const SparseProblem& problem, const Tensor& weights, GpuLiteral& s) {
  const UnitReader reader(problem, problem.all, weights);
  const ScatteredPattern& pattern = *problem.all.pattern;
  auto elements = std::make_shared<std::vector<GpuLiteral::Element>>();
  elements->reserve(pattern.columns.size());
  for (int32_t row = 0; row < pattern.rows; ++row) {
    for (int64_t at = pattern.begin[row]; at < pattern.begin[row + 1]; ++at) {
      const int32_t k = pattern.columns[static_cast<size_t>(at)];
      elements->push_back({row, k, std::bit_cast<float>(reader(row, k))});
    }
  }
  const auto piece = [&](const GpuLiteral::Element& e) {
    return e.row / s.panel_rows * int64_t{s.splits} + e.k / s.share_depth();
  };
  std::sort(elements->begin(), elements->end(), [&](const auto& x, const auto& y) {
    return std::tuple(piece(x), x.k, x.row) < std::tuple(piece(y), y.k, y.row);
  });
  s.first.assign(static_cast<size_t>(s.panels() * s.splits + 1), 0);
  for (const GpuLiteral::Element& e : *elements) ++s.first[static_cast<size_t>(piece(e) + 1)];
  for (size_t k = 1; k < s.first.size(); ++k) s.first[k] += s.first[k - 1];
  s.digest = HashBytes(std::as_bytes(std::span(*elements))).ToHex();
  s.elements = std::move(elements);
}

}  // namespace

std::vector<GpuLiteralWay> GpuLiteralWays(const Graph& graph, const SparseProblem& problem, const Target& target,
                                          std::string* why) {
  GpuLiteral s;
  s.rows = problem.rows();
  s.depth = problem.depth();
  s.columns = problem.columns();
  s.by_columns = problem.source.depth_step == 1;
  const int64_t line = s.by_columns ? s.depth : s.columns;
  constexpr int64_t kMost = int64_t{1} << 30;
  // X is read where the plan puts it, which for a part of a buffer may be anywhere: there another way is taken.
  if (!target.has_async_copy) {
    *why = "the chip has no asynchronous copies";
  } else if (problem.unit != SparseUnit::kF32 || problem.source.type != DType::kF32) {
    *why = "literal weights are f32";
  } else if (s.by_columns != problem.by_columns) {
    *why = "X lies along columns and Y along rows, or the other way round";
  } else if (line % kPieceElements != 0) {
    *why = "X's lines do not start at multiples of 16 bytes";
  } else if (std::max({s.rows, s.depth, s.columns}) * 128 > kMost || s.rows * s.columns / 128 > kMost) {
    *why = "too large for 32-bit indices";
  } else if (const int64_t kept = PrunedElementsOf(graph); kept > kMostLiterals) {
    *why = internal::Join(kept, " weights are too many to be written into code");
  } else {
    const GpuModel gpu(target);
    std::vector<GpuLiteralWay> ways;
    for (const auto& [panel_rows, block_columns, splits] :
         {std::tuple{16, 512, 1}, {24, 352, 1}, {32, 256, 1}, {64, 512, 4}, {16, 128, 2}}) {
      s.panel_rows = panel_rows;
      s.block_columns = block_columns;
      s.splits = splits;
      if (block_columns > 128 && block_columns >= 2 * s.columns) continue;
      if (splits > 1 && (splits - 1) * s.share_depth() >= s.depth) continue;
      constexpr int kMostStages = 6;
      s.stages = kMostStages;
      while (s.stages > 3 && s.shared_bytes() > gpu.shared_bytes) --s.stages;
      if (s.shared_bytes() <= gpu.shared_bytes) ways.push_back({s, Microseconds(s, problem, target)});
    }
    std::stable_sort(ways.begin(), ways.end(), [](const auto& x, const auto& y) { return x.us < y.us; });
    if (ways.empty()) *why = "shared memory is too small";
    return ways;
  }
  return {};
}

void PlanGpuLiteralSteps(const Node& node, const SparseProblem& problem, GpuLiteral literal, PlanBuilder& builder) {
  GpuLiteral& s = literal;
  const Graph& graph = builder.graph();
  Order(problem, graph[problem.weights].constant, s);
  const TileEpilogue epilogue(graph, node, SparseColumnDims(graph, node));
  PlanStep step, second;
  step.args = {builder.Read(problem.x)};
  const bool splits = s.splits > 1;
  const int64_t lines = s.by_columns ? s.columns : s.rows, length = s.by_columns ? s.rows : s.columns;
  if (splits) {
    const int partial = builder.Temp(node.name + ".partial", ByteSize(DType::kF32, s.splits * lines * length));
    step.args.push_back({.buffer = partial, .writes = true});
    second.args.push_back({.buffer = partial});
  }
  PlanStep& last = splits ? second : step;
  const size_t first_of_epilogue = last.args.size();
  epilogue.AddArguments(node, builder, last);
  const std::vector<bool> may_alias = last.kernel.may_alias;
  const int vector = std::min(4, epilogue.VectorWidth(std::span(last.args).subspan(first_of_epilogue)));
  s.y_vector = splits ? (length % 4 == 0 ? 4 : 1) : (vector == 4 ? 4 : 1);
  step.kernel = GpuLiteralKernel(s, epilogue);
  if (splits) second.kernel = SplitSumKernel(DType::kF32, s.splits, lines, length, vector, epilogue);
  last.kernel.may_alias = may_alias;
  step.launch = {.x = s.blocks(), .threads = s.block_columns, .shared_bytes = s.shared_bytes()};
  step.label = second.label = node.name;
  step.flops = 2.0 * static_cast<double>(problem.all.kept->Count()) * static_cast<double>(s.columns);
  step.bytes = static_cast<double>(ByteSize(DType::kF32, s.columns * (s.depth + s.rows)));
  builder.AddStep(std::move(step));
  if (!splits) return;
  const int64_t vectors = lines * length / vector;
  second.launch = {.x = DivideUp(vectors, int64_t{kSplitSumThreads}), .threads = kSplitSumThreads};
  builder.AddStep(std::move(second));
}

}  // namespace tessera
