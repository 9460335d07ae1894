// Operators that move elements. What they take as operands that determine a shape must be known at import.
#include <algorithm>

#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

// One dim of a slice in our terms: `size` elements from `start` in steps of `step`, all in range.
struct SliceDim {
  int64_t start, step, size;
};

// ONNX's rule: negative positions count from the end; then both are clamped to what a walk in that direction can reach.
SliceDim ResolveSlice(int64_t extent, int64_t start, int64_t end, int64_t step) {
  constexpr int64_t kFar = int64_t{1} << 62;
  start = std::clamp(start < 0 ? start + extent : start, int64_t{0}, extent);
  step = std::clamp(step, -kFar, kFar);
  if (step > 0) {
    end = std::clamp(end < 0 ? end + extent : end, int64_t{0}, extent);
    if (end <= start) return {0, 1, 0};
    return {start, step, (end - start - 1) / step + 1};
  }
  start = std::min(start, extent - 1);
  end = std::clamp(end < 0 ? end + extent : end, int64_t{-1}, extent - 1);
  if (end >= start) return {0, 1, 0};
  return {start, step, (start - end - 1) / -step + 1};
}

}  // namespace

Imported ImportReshape(OnnxNode& node) {
  const ValueId x = node.in(0);
  ASSIGN_OR_RETURN(std::vector<int64_t> dims, node.ConstInts(1, "shape"));
  const std::vector<int64_t> given = dims;
  const bool allow_zero = node.Int("allowzero", 0) != 0;
  const Shape s = node.shape(x);
  int unknown = -1;
  int64_t known = 1;
  bool valid = true;
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] == 0 && !allow_zero) {
      valid = valid && static_cast<int>(d) < s.rank();
      dims[d] = valid ? s[static_cast<int>(d)] : 0;
    }
    if (dims[d] == -1) {
      valid = valid && unknown < 0;
      unknown = static_cast<int>(d);
    } else if (dims[d] < 0 || __builtin_mul_overflow(known, dims[d], &known)) {
      valid = false;
    }
  }
  const int64_t count = s.num_elements();
  if (valid && unknown >= 0) {
    valid = known > 0 && count % known == 0;
    if (valid) dims[unknown] = count / known;
  } else {
    valid = valid && known == count;
  }
  if (!valid) {
    return node.Error(ErrorCode::kShapeMismatch, "cannot reshape ", node.type(x), " to ", Shape(given),
                      "; expected as many elements");
  }
  return node.Reshape(x, std::move(dims));
}

Imported ImportFlatten(OnnxNode& node) {
  const Shape s = node.shape(node.in(0));
  int64_t axis = node.Int("axis", 1);
  if (axis < -s.rank() || axis > s.rank()) {
    return node.Error(ErrorCode::kAttributeInvalid, "expected an axis in [", -s.rank(), ", ", s.rank(), "], found ",
                      axis);
  }
  if (axis < 0) axis += s.rank();
  int64_t rows = 1, columns = 1;
  for (int d = 0; d < s.rank(); ++d) (d < axis ? rows : columns) *= s[d];
  return node.Reshape(node.in(0), {rows, columns});
}

Imported ImportSqueeze(OnnxNode& node) {
  const Shape s = node.shape(node.in(0));
  ASSIGN_OR_RETURN(std::optional<std::vector<int64_t>> axes, node.IntsAttrOrInput("axes", 1));
  std::vector<int64_t> drop;
  if (axes) {
    ASSIGN_OR_RETURN(drop, node.Axes(*axes, s.rank()));
  } else {
    for (int d = 0; d < s.rank(); ++d) {
      if (s[d] == 1) drop.push_back(d);
    }
  }
  std::vector<int64_t> dims;
  for (int d = 0; d < s.rank(); ++d) {
    if (!std::binary_search(drop.begin(), drop.end(), d)) {
      dims.push_back(s[d]);
    } else if (s[d] != 1) {
      return node.Error(ErrorCode::kShapeMismatch, "cannot squeeze dimension ", d, " of ", s, "; expected extent 1");
    }
  }
  return node.Reshape(node.in(0), std::move(dims));
}

Imported ImportUnsqueeze(OnnxNode& node) {
  const Shape s = node.shape(node.in(0));
  ASSIGN_OR_RETURN(std::optional<std::vector<int64_t>> axes, node.IntsAttrOrInput("axes", 1));
  if (!axes) return node.Error(ErrorCode::kAttributeInvalid, "expected axes, found none");
  const int rank = s.rank() + static_cast<int>(std::min<size_t>(axes->size(), 1000));
  ASSIGN_OR_RETURN(const std::vector<int64_t> added, node.Axes(*axes, rank));
  std::vector<int64_t> dims;
  int from = 0;
  for (int d = 0; d < rank; ++d) dims.push_back(std::binary_search(added.begin(), added.end(), d) ? 1 : s[from++]);
  return node.Reshape(node.in(0), std::move(dims));
}

Imported ImportTranspose(OnnxNode& node) {
  const int rank = node.rank(node.in(0));
  std::vector<int64_t> perm = node.Ints("perm");
  if (!node.HasAttr("perm")) {
    for (int d = rank - 1; d >= 0; --d) perm.push_back(d);
  }
  ASSIGN_OR_RETURN(const std::vector<int64_t> sorted, node.Axes(perm, rank));
  if (static_cast<int>(sorted.size()) != rank) {
    return node.Error(ErrorCode::kAttributeInvalid, "expected perm to name each of ", rank, " dimensions, found ",
                      Shape(perm));
  }
  for (int64_t& axis : perm) axis += axis < 0 ? rank : 0;
  return node.Transpose(node.in(0), std::move(perm));
}

Imported ImportExpand(OnnxNode& node) {
  ASSIGN_OR_RETURN(std::vector<int64_t> dims, node.ConstInts(1, "shape"));
  const Shape target(std::move(dims));
  const std::optional<Shape> both = BroadcastShapes(node.shape(node.in(0)), target);
  if (!both || std::any_of(both->begin(), both->end(), [](int64_t d) { return d < 0; })) {
    return node.Error(ErrorCode::kShapeMismatch, "cannot expand ", node.type(node.in(0)), " to ", target);
  }
  return node.Expand(node.in(0), *both);
}

Imported ImportTile(OnnxNode& node) {
  ASSIGN_OR_RETURN(std::vector<int64_t> repeats, node.ConstInts(1, "repeats"));
  return node.Emit(Op::kTile, {node.in(0)}, MakeAttrs({{"repeats", std::move(repeats)}}));
}

Imported ImportSlice(OnnxNode& node) {
  const Shape s = node.shape(node.in(0));
  std::vector<int64_t> starts, ends, axes, steps;
  bool has_axes = false;
  if (node.opset() < 10) {
    starts = node.Ints("starts");
    ends = node.Ints("ends");
    axes = node.Ints("axes");
    has_axes = node.HasAttr("axes");
  } else {
    ASSIGN_OR_RETURN(starts, node.ConstInts(1, "starts"));
    ASSIGN_OR_RETURN(ends, node.ConstInts(2, "ends"));
    has_axes = node.has(3);
    if (has_axes) {
      ASSIGN_OR_RETURN(axes, node.ConstInts(3, "axes"));
    }
    if (node.has(4)) {
      ASSIGN_OR_RETURN(steps, node.ConstInts(4, "steps"));
    }
  }
  if (!has_axes) {
    for (size_t k = 0; k < starts.size(); ++k) axes.push_back(static_cast<int64_t>(k));
  }
  if (steps.empty()) steps.assign(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size()) {
    return node.Error(ErrorCode::kAttributeInvalid, "expected as many starts, ends, axes and steps, found ",
                      starts.size(), ", ", ends.size(), ", ", axes.size(), " and ", steps.size());
  }
  std::vector<int64_t> from(s.rank(), 0), by(s.rank(), 1), sizes = s.dims();
  for (size_t k = 0; k < axes.size(); ++k) {
    ASSIGN_OR_RETURN(const int64_t axis, node.Axis(axes[k], s.rank()));
    if (steps[k] == 0) return node.Error(ErrorCode::kAttributeInvalid, "expected steps other than 0");
    const SliceDim dim = ResolveSlice(s[static_cast<int>(axis)], starts[k], ends[k], steps[k]);
    from[axis] = dim.start;
    by[axis] = dim.size > 1 ? dim.step : 1;
    sizes[axis] = dim.size;
  }
  if (sizes == s.dims() && std::all_of(by.begin(), by.end(), [](int64_t step) { return step == 1; })) return node.in(0);
  return node.Emit(Op::kSlice, {node.in(0)}, MakeAttrs({{"starts", from}, {"steps", by}, {"sizes", sizes}}));
}

Imported ImportSplit(OnnxNode& node) {
  const ValueId x = node.in(0);
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(node.Int("axis", 0), node.rank(x)));
  const int64_t extent = node.shape(x)[static_cast<int>(axis)];
  const int64_t count = node.num_outputs();
  ASSIGN_OR_RETURN(std::optional<std::vector<int64_t>> sizes, node.IntsAttrOrInput("split", 1));
  if (!sizes) {
    // Equal parts; the last is smaller when that does not come out even, which opset 18 allows.
    if (node.opset() >= 18 && node.Int("num_outputs", count) != count) {
      return node.Error(ErrorCode::kAttributeInvalid, "num_outputs is ", node.Int("num_outputs", count),
                        ", the node has ", count, " outputs");
    }
    const int64_t part = (extent + count - 1) / count;
    if (node.opset() < 18 && part * count != extent) {
      return node.Error(ErrorCode::kShapeMismatch, "cannot split ", extent, " into ", count, " equal parts");
    }
    sizes.emplace();
    for (int64_t k = 0; k < count; ++k) {
      sizes->push_back(std::clamp<int64_t>(extent - k * part, 0, part));
    }
  }
  int64_t total = 0;
  bool valid = static_cast<int64_t>(sizes->size()) == count;
  for (int64_t size : *sizes) {
    valid = valid && size >= 0 && size <= extent;
    total += valid ? size : 0;
  }
  if (!valid || total != extent) {
    return node.Error(ErrorCode::kShapeMismatch, "cannot split extent ", extent, " into ", count, " parts of ",
                      Shape(*sizes));
  }
  std::vector<ValueId> outputs;
  int64_t start = 0;
  for (int64_t size : *sizes) {
    ASSIGN_OR_RETURN(const ValueId part, node.SliceAxis(x, static_cast<int>(axis), start, size));
    outputs.push_back(part);
    start += size;
  }
  return outputs;
}

Imported ImportConcat(OnnxNode& node) {
  std::vector<ValueId> inputs;
  for (int k = 0; k < node.num_inputs(); ++k) {
    if (!node.has(k)) return node.Error(ErrorCode::kGraphInvalid, "operand ", k, " is required, found none");
    inputs.push_back(node.in(k));
  }
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(node.Int("axis", 1), node.rank(inputs[0])));
  if (inputs.size() == 1) return inputs[0];
  return node.Emit(Op::kConcat, std::move(inputs), MakeAttrs({{"axis", axis}}));
}

Imported ImportPad(OnnxNode& node) {
  const ValueId x = node.in(0);
  const int64_t rank = node.rank(x);
  std::vector<int64_t> given, axes;
  double value = 0;
  if (node.opset() < 11) {
    given = node.Ints("pads");
    value = node.Float("value", 0);
  } else {
    ASSIGN_OR_RETURN(given, node.ConstInts(1, "pads"));
    if (node.has(2)) {
      ASSIGN_OR_RETURN(value, node.ConstScalar(2, "constant_value"));
    }
  }
  if (node.has(3)) {
    ASSIGN_OR_RETURN(axes, node.ConstInts(3, "axes"));
  } else {
    for (int64_t d = 0; d < rank; ++d) axes.push_back(d);
  }
  if (given.size() != 2 * axes.size()) {
    return node.Error(ErrorCode::kAttributeInvalid, "expected ", 2 * axes.size(), " pads, found ", given.size());
  }
  std::vector<int64_t> pads(2 * rank, 0);
  for (size_t k = 0; k < axes.size(); ++k) {
    ASSIGN_OR_RETURN(const int64_t axis, node.Axis(axes[k], static_cast<int>(rank)));
    pads[axis] = given[k];
    pads[axis + rank] = given[k + axes.size()];
  }
  const std::string mode = node.String("mode", "constant");
  if (std::all_of(pads.begin(), pads.end(), [](int64_t p) { return p == 0; })) return x;
  return node.Emit(Op::kPad, {x}, MakeAttrs({{"pads", pads}, {"mode", mode}, {"value", value}}));
}

Imported ImportGather(OnnxNode& node) {
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(node.Int("axis", 0), node.rank(node.in(0))));
  return node.Emit(Op::kGather, {node.in(0), node.in(1)}, MakeAttrs({{"axis", axis}}));
}

Imported ImportGatherElements(OnnxNode& node) {
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(node.Int("axis", 0), node.rank(node.in(0))));
  return node.Emit(Op::kGatherElements, {node.in(0), node.in(1)}, MakeAttrs({{"axis", axis}}));
}

Imported ImportDepthToSpace(OnnxNode& node) {
  const std::string mode = node.String("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") {
    return node.Error(ErrorCode::kAttributeInvalid, "expected the mode DCR or CRD, found '", mode, "'");
  }
  return node.DepthToSpace(node.in(0), node.Int("blocksize", 0), mode == "DCR");
}

Imported ImportSpaceToDepth(OnnxNode& node) { return node.SpaceToDepth(node.in(0), node.Int("blocksize", 0)); }

}  // namespace tessera
