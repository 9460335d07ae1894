#include "codegen/emit/sparse_problem.h"

#include <cstring>

#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/epilogue.h"

namespace tessera {
namespace {

// A convolution of images with channels first: Y's rows are planes.
bool HasPlanes(const Node& node) { return node.op == Op::kConv && node.attrs.String("layout") == "nchw"; }
}  // namespace

int SparseColumnDims(const Graph& graph, const Node& node) {
  return HasPlanes(node) ? graph[node.outputs[0]].type.shape.rank() - 2 : 1;
}

SparseShare SparseProblem::Share(Bitmap kept) const {
  SparseShare share;
  const int elements = ElementsOf(unit);
  share.pattern = std::make_shared<ScatteredPattern>(
      ScatteredPattern::Make(kept, rows(), source.depth, row_step, depth_step, elements));
  share.kept = std::make_shared<const Bitmap>(std::move(kept));
  return share;
}

std::optional<SparseProblem> ReadSparseProblem(const Graph& graph, const Node& node, const Target& target,
                                               std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  SparseProblem problem;
  int64_t rows = 0, depth = 0;
  if (node.op == Op::kConv) {
    const bool planes = HasPlanes(node);
    const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why, planes ? "nchw" : "nhwc");
    if (!g) return std::nullopt;
    if (!g->IsMatmul()) return no("no 1x1 convolution with stride 1 in one group");
    if (planes && (g->batch > 1 || g->type != DType::kF32)) return no("several images with channels first, or no f32");
    if (!TileEpilogue(graph, node, SparseColumnDims(graph, node)).even()) {
      return no("an operand of the epilogue changes along one image axis only");
    }
    problem.x = node.inputs[0];
    problem.weights = node.inputs[1];
    rows = g->out_channels;
    depth = g->in_channels;
    problem.row_step = depth;
    problem.by_columns = !planes;
    problem.source = {.depth = depth,
                      .columns = g->pixels(),
                      .depth_step = planes ? g->pixels() : 1,
                      .column_step = planes ? 1 : depth};
  } else if (node.op == Op::kMatmul) {
    const int w = graph.IsConstant(node.inputs[1]) ? 1 : 0;
    if (!graph.IsConstant(node.inputs[w])) return no("no operand is constant");
    problem.weights = node.inputs[w];
    problem.x = node.inputs[1 - w];
    const Shape& weights = graph[problem.weights].type.shape;
    const Shape& x = graph[problem.x].type.shape;
    if (weights.rank() != 2) return no("expected weights of 2 dimensions, found ", weights.rank());
    if (x.rank() < 2) return no("a vector");
    const bool transposed[] = {node.attrs.Int("transpose_a", 0) != 0, node.attrs.Int("transpose_b", 0) != 0};
    // Do W's rows, and X's columns, lie one after the other?
    const bool rows_outer = w == 1 ? transposed[1] : !transposed[0];
    const bool columns_outer = w == 1 ? !transposed[0] : transposed[1];
    rows = weights[rows_outer ? 0 : 1];
    depth = weights[rows_outer ? 1 : 0];
    problem.row_step = rows_outer ? depth : 1;
    problem.depth_step = rows_outer ? 1 : rows;
    problem.by_columns = w == 1;
    if (x.num_elements() == 0 || rows == 0 || depth == 0) return no("nothing to compute");
    const int64_t columns = x.num_elements() / depth;
    // One matrix; where its columns lie one after the other and so do the result's, any number of them are one.
    const bool one_matrix = columns == x[x.rank() - (columns_outer ? 2 : 1)];
    if (!one_matrix && !(w == 1 && columns_outer)) {
      return no("a batch of matrices whose columns do not follow each other");
    }
    problem.source = {.depth = depth,
                      .columns = columns,
                      .depth_step = columns_outer ? 1 : columns,
                      .column_step = columns_outer ? depth : 1};
  } else {
    return no("no matmul or conv");
  }
  if (problem.source.columns < kMinSparseColumns) {
    return no("expected at least ", kMinSparseColumns, " columns, found ", problem.source.columns);
  }
  const Value& weights = graph[problem.weights];
  const DType w_type = weights.type.dtype, x_type = graph[problem.x].type.dtype;
  const bool bytes = w_type == DType::kI8 && (x_type == DType::kU8 || (target.IsGpu() && x_type == DType::kI8));
  const bool halves = target.IsGpu() && w_type == x_type && (x_type == DType::kF16 || x_type == DType::kBF16);
  if (bytes) {
    problem.unit = target.has_vnni || target.IsGpu() ? SparseUnit::kInt8x4 : SparseUnit::kInt16x2;
  } else if (!halves && (w_type != DType::kF32 || x_type != DType::kF32)) {
    return no("expected f32, or u8 with weights of i8, found ", Name(x_type), " and ", Name(w_type));
  }
  if (!weights.tesa) return no("the weights declare nothing as pruned");
  problem.source.type = x_type;
  Bitmap kept = weights.tesa->KeptBitmap();
  problem.all.pattern = std::make_shared<ScatteredPattern>(
      ScatteredPattern::Make(kept, rows, depth, problem.row_step, problem.depth_step, ElementsOf(problem.unit)));
  problem.all.kept = std::make_shared<const Bitmap>(std::move(kept));
  return problem;
}

std::string DescribeKept(const SparseProblem& problem) {
  const double density = static_cast<double>(problem.all.kept->Count()) / static_cast<double>(problem.all.kept->size());
  const auto percent = [](double share) { return static_cast<int>(share * 100 + 0.5); };
  std::string text = internal::Join("scattered, ", percent(density), " % kept");
  if (problem.unit == SparseUnit::kF32) return text;
  return text +
         internal::Join(", ", percent(problem.all.pattern->density()), " % of units of ", ElementsOf(problem.unit));
}

UnitReader::UnitReader(const SparseProblem& problem, const SparseShare& share, const Tensor& weights)
    : unit_(problem.unit),
      depth_(problem.source.depth),
      row_step_(problem.row_step),
      depth_step_(problem.depth_step),
      kept_(*share.kept),
      weights_(weights),
      data_(weights.bytes().data()) {}

uint32_t UnitReader::operator()(int64_t row, int64_t unit) const {
  const int elements = ElementsOf(unit_);
  uint32_t bits = 0;
  for (int e = 0; e < elements && unit * elements + e < depth_; ++e) {
    const int64_t at = row * row_step_ + (unit * elements + e) * depth_step_;
    if (!kept_[at]) continue;
    if (unit_ == SparseUnit::kF32) {
      const auto value = static_cast<float>(weights_.Get(at));  // halves are widened
      std::memcpy(&bits, &value, 4);
    } else if (unit_ == SparseUnit::kInt8x4) {
      bits |= static_cast<uint32_t>(static_cast<uint8_t>(data_[at])) << (8 * e);
    } else {
      bits |= static_cast<uint32_t>(static_cast<uint16_t>(static_cast<int8_t>(data_[at]))) << (16 * e);
    }
  }
  return bits;
}

}  // namespace tessera
