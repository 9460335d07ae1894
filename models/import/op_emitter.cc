#include "models/import/op_emitter.h"

#include <algorithm>

namespace tessera {
namespace {

// SpatialWindow numbers beyond this are broken; within it no sum below overflows.
constexpr int64_t kMaxWindow = int64_t{1} << 31;

std::vector<int64_t> Iota(int64_t count) {
  std::vector<int64_t> result(count);
  for (int64_t k = 0; k < count; ++k) result[k] = k;
  return result;
}

}  // namespace

std::string HowToBind(const Graph& graph, ValueId id) {
  // The inputs behind it, walking the nodes backwards once.
  std::vector<bool> wanted(graph.values.size(), false);
  wanted[Index(id)] = true;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (!wanted[Index(node->outputs[0])]) continue;
    for (ValueId input : node->inputs) {
      if (input != ValueId::kNone) wanted[Index(input)] = true;
    }
  }
  std::string text;
  for (ValueId input : graph.inputs) {
    if (!wanted[Index(input)]) continue;
    text += (text.empty() ? "bind " : " and ") + std::string("--bind=") + graph[input].name + "=@file.npy";
  }
  return text.empty() ? "the model computes it while it runs" : text;
}

StatusOr<ValueId> OpEmitter::Reshape(ValueId x, std::vector<int64_t> dims) const {
  if (shape(x).dims() == dims) return x;
  return Emit(Op::kReshape, {x}, MakeAttrs({{"shape", std::move(dims)}}));
}

StatusOr<ValueId> OpEmitter::Transpose(ValueId x, std::vector<int64_t> perm) const {
  if (perm == Iota(rank(x))) return x;
  return Emit(Op::kTranspose, {x}, MakeAttrs({{"perm", std::move(perm)}}));
}

StatusOr<ValueId> OpEmitter::Cast(ValueId x, DType to) const {
  if (dtype(x) == to) return x;
  return Emit(Op::kCast, {x}, MakeAttrs({{"to", to}}));
}

StatusOr<ValueId> OpEmitter::EmitScalar(Op op, ValueId x, double value) const {
  return Emit(op, {x, writer_->Scalar(dtype(x), value)});
}

StatusOr<ValueId> OpEmitter::Expand(ValueId x, const Shape& target) const {
  if (shape(x) == target) return x;
  return Emit(Op::kExpand, {x}, MakeAttrs({{"shape", target.dims()}}));
}

StatusOr<ValueId> OpEmitter::BinaryAlong(Op op, ValueId x, ValueId vector, int axis) const {
  if (rank(vector) != 1 || axis >= rank(x) || shape(vector)[0] != shape(x)[axis]) {
    return Error(ErrorCode::kShapeMismatch, "expected a vector as long as dimension ", axis, " of ", type(x),
                 ", found ", type(vector));
  }
  std::vector<int64_t> dims(rank(x) - axis, 1);
  dims[0] = shape(x)[axis];
  ASSIGN_OR_RETURN(ValueId shaped, Reshape(vector, std::move(dims)));
  return Emit(op, {x, shaped});
}

StatusOr<ValueId> OpEmitter::SliceAxis(ValueId x, int axis, int64_t start, int64_t size) const {
  if (start == 0 && size == shape(x)[axis]) return x;
  std::vector<int64_t> starts(rank(x), 0), steps(rank(x), 1), sizes = shape(x).dims();
  starts[axis] = start;
  sizes[axis] = size;
  return Emit(Op::kSlice, {x}, MakeAttrs({{"starts", starts}, {"steps", steps}, {"sizes", sizes}}));
}

StatusOr<ValueId> OpEmitter::DepthToSpace(ValueId x, int64_t block, bool depth_first) const {
  const Shape s = shape(x);
  if (s.rank() != 4 || block < 1 || block > kMaxWindow || s[1] % (block * block) != 0) {
    return Error(ErrorCode::kShapeMismatch, "expected 4 dimensions with channels divisible by ", block,
                 " squared, found ", type(x));
  }
  const int64_t n = s[0], c = s[1] / (block * block), h = s[2], w = s[3];
  const std::vector<int64_t> split =
      depth_first ? std::vector<int64_t>{n, block, block, c, h, w} : std::vector<int64_t>{n, c, block, block, h, w};
  ASSIGN_OR_RETURN(ValueId y, Reshape(x, split));
  ASSIGN_OR_RETURN(
      y, Transpose(y, depth_first ? std::vector<int64_t>{0, 3, 4, 1, 5, 2} : std::vector<int64_t>{0, 1, 4, 2, 5, 3}));
  return Reshape(y, {n, c, h * block, w * block});
}

StatusOr<ValueId> OpEmitter::SpaceToDepth(ValueId x, int64_t block) const {
  const Shape s = shape(x);
  if (s.rank() != 4 || block < 1 || block > kMaxWindow || s[2] % block != 0 || s[3] % block != 0) {
    return Error(ErrorCode::kShapeMismatch, "expected 4 dimensions, the last two divisible by ", block, ", found ",
                 type(x));
  }
  const int64_t n = s[0], c = s[1], h = s[2] / block, w = s[3] / block;
  ASSIGN_OR_RETURN(ValueId y, Reshape(x, {n, c, h, block, w, block}));
  ASSIGN_OR_RETURN(y, Transpose(y, {0, 3, 5, 1, 2, 4}));
  return Reshape(y, {n, c * block * block, h, w});
}

StatusOr<int64_t> OpEmitter::Axis(int64_t axis, int rank) const {
  if (axis < -rank || axis >= rank) {
    return Error(ErrorCode::kAttributeInvalid, "expected an axis in [", -rank, ", ", rank - 1, "], found ", axis);
  }
  return axis < 0 ? axis + rank : axis;
}

StatusOr<std::vector<int64_t>> OpEmitter::Axes(std::vector<int64_t> axes, int rank) const {
  for (int64_t& axis : axes) {
    ASSIGN_OR_RETURN(axis, Axis(axis, rank));
  }
  std::sort(axes.begin(), axes.end());
  if (std::adjacent_find(axes.begin(), axes.end()) != axes.end()) {
    return Error(ErrorCode::kAttributeInvalid, "expected each axis once, found ", Shape(axes));
  }
  return axes;
}

StatusOr<SpatialWindow> OpEmitter::ResolveWindow(const std::vector<int64_t>& extents, SpatialWindow window,
                                                 AutoPad auto_pad) const {
  const size_t rank = extents.size();
  if (window.strides.empty()) window.strides.assign(rank, 1);
  if (window.dilations.empty()) window.dilations.assign(rank, 1);
  if (window.pads.empty() || auto_pad != AutoPad::kExplicit) window.pads.assign(2 * rank, 0);
  const auto check = [&](std::string_view what, const std::vector<int64_t>& values, size_t count,
                         int64_t low) -> Status {
    if (values.size() == count &&
        std::all_of(values.begin(), values.end(), [&](int64_t v) { return v >= low && v <= kMaxWindow; })) {
      return OkStatus();
    }
    return Error(ErrorCode::kAttributeInvalid, "expected ", count, " ", what, " of at least ", low, ", found ",
                 Shape(values));
  };
  RETURN_IF_ERROR(check("kernel extents", window.kernel, rank, 1));
  RETURN_IF_ERROR(check("strides", window.strides, rank, 1));
  RETURN_IF_ERROR(check("dilations", window.dilations, rank, 1));
  RETURN_IF_ERROR(check("pads", window.pads, 2 * rank, 0));
  if (auto_pad == AutoPad::kSameUpper || auto_pad == AutoPad::kSameLower) {
    for (size_t d = 0; d < rank; ++d) {
      const int64_t reach = (window.kernel[d] - 1) * window.dilations[d] + 1;
      const int64_t out = (extents[d] + window.strides[d] - 1) / window.strides[d];
      const int64_t total = std::max<int64_t>((out - 1) * window.strides[d] + reach - extents[d], 0);
      const int64_t small = total / 2;
      window.pads[d] = auto_pad == AutoPad::kSameUpper ? small : total - small;
      window.pads[d + rank] = total - window.pads[d];
    }
  }
  return window;
}

}  // namespace tessera
