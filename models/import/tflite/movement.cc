// TFLite operators that move elements. Integers move as they are stored when both sides have the same quantisation.
#include <algorithm>

#include "models/import/tflite/handlers.h"

namespace tessera::tflite_handlers {
namespace {

// A shape with at most one -1, which takes what is left.
StatusOr<std::vector<int64_t>> CompleteShape(const TfliteNode& node, const Shape& x, std::vector<int64_t> dims) {
  const std::vector<int64_t> given = dims;
  int64_t known = 1, *unknown = nullptr;
  bool valid = true;
  for (int64_t& dim : dims) {
    if (dim == -1 && unknown == nullptr) {
      unknown = &dim;
    } else if (dim < 0 || __builtin_mul_overflow(known, dim, &known)) {
      valid = false;
    }
  }
  const int64_t count = x.num_elements();
  if (valid && unknown != nullptr) {
    valid = known > 0 && count % known == 0;
    if (valid) *unknown = count / known;
  } else {
    valid = valid && known == count;
  }
  if (valid) return dims;
  return node.Error(ErrorCode::kShapeMismatch, "cannot reshape ", x, " to ", Shape(given),
                    "; expected as many elements");
}

TfliteResults SplitInto(const TfliteNode& node, ValueId x, int64_t axis, const std::vector<int64_t>& sizes) {
  int64_t total = 0;
  bool valid = static_cast<int>(sizes.size()) == node.num_outputs();
  const int64_t extent = node.shape(x)[static_cast<int>(axis)];
  for (int64_t size : sizes) {
    valid = valid && size >= 0 && size <= extent;
    total += valid ? size : 0;
  }
  if (!valid || total != extent) {
    return node.Error(ErrorCode::kShapeMismatch, "cannot split extent ", extent, " into ", node.num_outputs(),
                      " parts of ", Shape(sizes));
  }
  std::vector<ValueId> parts;
  int64_t start = 0;
  for (int64_t size : sizes) {
    ASSIGN_OR_RETURN(const ValueId part, node.SliceAxis(x, static_cast<int>(axis), start, size));
    parts.push_back(part);
    start += size;
  }
  return parts;
}

// The scalar axis that operand k gives.
StatusOr<int64_t> AxisOperand(const TfliteNode& node, int k, int rank) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> values, node.ConstInts(k, "axis"));
  if (values.size() != 1) return node.Error(ErrorCode::kShapeMismatch, "expected one axis, found ", values.size());
  return node.Axis(values[0], rank);
}

// TFLite's blocks are channels last: to NCHW, the block move, and back.
TfliteResults BlockMove(TfliteNode& node, int64_t block, bool to_space) {
  ASSIGN_OR_RETURN(ValueId x, node.moved(0));
  if (node.rank(x) != 4) {
    return node.Error(ErrorCode::kShapeMismatch, "expected 4 dimensions, found ", node.type(x));
  }
  ASSIGN_OR_RETURN(x, node.Transpose(x, {0, 3, 1, 2}));
  ASSIGN_OR_RETURN(x, to_space ? node.DepthToSpace(x, block, true) : node.SpaceToDepth(x, block));
  return node.Transpose(x, {0, 2, 3, 1});
}

// Pads from an [n, 2] operand: begins, then ends.
StatusOr<std::vector<int64_t>> ReadPads(const TfliteNode& node, int rank) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> pairs, node.ConstInts(1, "paddings"));
  if (static_cast<int>(pairs.size()) != 2 * rank) {
    return node.Error(ErrorCode::kShapeMismatch, "expected ", 2 * rank, " paddings, found ", pairs.size());
  }
  std::vector<int64_t> pads(pairs.size());
  for (int d = 0; d < rank; ++d) {
    pads[d] = pairs[2 * d];
    pads[d + rank] = pairs[2 * d + 1];
  }
  return pads;
}

}  // namespace

TfliteResults ImportReshape(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  std::vector<int64_t> dims;
  const auto* options = node.options<tfl::ReshapeOptions>();
  if (node.has(1)) {
    ASSIGN_OR_RETURN(dims, node.ConstInts(1, "shape"));
  } else if (options != nullptr && options->new_shape() != nullptr) {
    dims.assign(options->new_shape()->begin(), options->new_shape()->end());
  } else {
    dims = node.output(0).type.shape.dims();
  }
  ASSIGN_OR_RETURN(dims, CompleteShape(node, node.shape(x), std::move(dims)));
  return node.Reshape(x, std::move(dims));
}

TfliteResults ImportSqueeze(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  const Shape& s = node.shape(x);
  const auto* options = node.options<tfl::SqueezeOptions>();
  std::vector<int64_t> drop;
  if (options != nullptr && options->squeeze_dims() != nullptr && options->squeeze_dims()->size() > 0) {
    ASSIGN_OR_RETURN(drop, node.Axes({options->squeeze_dims()->begin(), options->squeeze_dims()->end()}, s.rank()));
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
      return node.Error(ErrorCode::kShapeMismatch, "cannot squeeze dimension ", d, " of ", s);
    }
  }
  return node.Reshape(x, std::move(dims));
}

TfliteResults ImportExpandDims(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  std::vector<int64_t> dims = node.shape(x).dims();
  ASSIGN_OR_RETURN(const int64_t axis, AxisOperand(node, 1, static_cast<int>(dims.size()) + 1));
  dims.insert(dims.begin() + axis, 1);
  return node.Reshape(x, std::move(dims));
}

TfliteResults ImportTranspose(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  ASSIGN_OR_RETURN(std::vector<int64_t> perm, node.ConstInts(1, "perm"));
  ASSIGN_OR_RETURN(const std::vector<int64_t> sorted, node.Axes(perm, node.rank(x)));
  if (static_cast<int>(sorted.size()) != node.rank(x)) {
    return node.Error(ErrorCode::kAttributeInvalid, "expected perm to name each dimension, found ", Shape(perm));
  }
  for (int64_t& axis : perm) axis += axis < 0 ? node.rank(x) : 0;
  return node.Transpose(x, std::move(perm));
}

TfliteResults ImportBroadcastTo(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  ASSIGN_OR_RETURN(std::vector<int64_t> dims, node.ConstInts(1, "shape"));
  return node.Expand(x, Shape(std::move(dims)));
}

TfliteResults ImportTile(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  ASSIGN_OR_RETURN(std::vector<int64_t> repeats, node.ConstInts(1, "multiples"));
  return node.Emit(Op::kTile, {x}, MakeAttrs({{"repeats", std::move(repeats)}}));
}

TfliteResults ImportSlice(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  const Shape& s = node.shape(x);
  ASSIGN_OR_RETURN(const std::vector<int64_t> starts, node.ConstInts(1, "begin"));
  ASSIGN_OR_RETURN(std::vector<int64_t> sizes, node.ConstInts(2, "size"));
  bool valid = static_cast<int>(starts.size()) == s.rank() && sizes.size() == starts.size();
  for (int d = 0; valid && d < s.rank(); ++d) {
    valid = starts[d] >= 0 && starts[d] <= s[d];
    if (valid && sizes[d] == -1) sizes[d] = s[d] - starts[d];
    valid = valid && sizes[d] >= 0 && sizes[d] <= s[d] - starts[d];
  }
  if (!valid) {
    return node.Error(ErrorCode::kShapeMismatch, "cannot slice ", node.type(x), " from ", Shape(starts), " by ",
                      Shape(sizes));
  }
  if (sizes == s.dims()) return x;
  return node.Emit(Op::kSlice, {x},
                   MakeAttrs({{"starts", starts}, {"steps", std::vector<int64_t>(s.rank(), 1)}, {"sizes", sizes}}));
}

TfliteResults ImportStridedSlice(TfliteNode& node) {
  ASSIGN_OR_RETURN(const auto* options, node.required_options<tfl::StridedSliceOptions>());
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  const Shape& s = node.shape(x);
  ASSIGN_OR_RETURN(const std::vector<int64_t> begin, node.ConstInts(1, "begin"));
  ASSIGN_OR_RETURN(const std::vector<int64_t> end, node.ConstInts(2, "end"));
  ASSIGN_OR_RETURN(const std::vector<int64_t> stride, node.ConstInts(3, "strides"));
  if (options->ellipsis_mask() != 0 || options->new_axis_mask() != 0 || options->offset()) {
    return node.Error(ErrorCode::kOpUnsupported, "ellipsis, new axes and offsets are not supported");
  }
  const int count = static_cast<int>(begin.size());
  if (end.size() != begin.size() || stride.size() != begin.size() || count > s.rank()) {
    return node.Error(ErrorCode::kShapeMismatch, "cannot slice ", node.type(x), " with ", begin.size(), " begins, ",
                      end.size(), " ends and ", stride.size(), " strides");
  }
  std::vector<int64_t> starts(s.rank(), 0), steps(s.rank(), 1), sizes = s.dims(), kept;
  for (int d = 0; d < count; ++d) {
    const bool shrink = (options->shrink_axis_mask() >> d & 1) != 0;
    const int64_t step = shrink ? 1 : stride[d], extent = s[d];
    if (step == 0) return node.Error(ErrorCode::kAttributeInvalid, "expected strides other than 0");
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? extent : extent - 1;
    const auto clamped = [&](int64_t at) { return std::clamp(at < 0 ? at + extent : at, low, std::max(low, high)); };
    int64_t from = options->begin_mask() >> d & 1 ? (step > 0 ? low : high) : clamped(begin[d]);
    int64_t to = options->end_mask() >> d & 1 ? (step > 0 ? high : low) : clamped(end[d]);
    if (shrink) {
      from = begin[d] < 0 ? begin[d] + extent : begin[d];
      to = from + 1;
      if (from < 0 || from >= extent) {
        return node.Error(ErrorCode::kShapeMismatch, "index ", begin[d], " is not within extent ", extent);
      }
    }
    const int64_t span = step > 0 ? to - from : from - to, stride_length = step > 0 ? step : -step;
    sizes[d] = span > 0 ? (span - 1) / stride_length + 1 : 0;
    starts[d] = sizes[d] > 0 ? from : 0;
    steps[d] = sizes[d] > 1 ? step : 1;
  }
  ASSIGN_OR_RETURN(const ValueId y,
                   node.Emit(Op::kSlice, {x}, MakeAttrs({{"starts", starts}, {"steps", steps}, {"sizes", sizes}})));
  for (int d = 0; d < s.rank(); ++d) {
    if (d >= count || (options->shrink_axis_mask() >> d & 1) == 0) kept.push_back(sizes[d]);
  }
  return node.Reshape(y, std::move(kept));
}

TfliteResults ImportSplit(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.moved(1));
  ASSIGN_OR_RETURN(const int64_t axis, AxisOperand(node, 0, node.rank(x)));
  const int64_t extent = node.shape(x)[static_cast<int>(axis)], count = node.num_outputs();
  return SplitInto(node, x, axis, std::vector<int64_t>(count, extent / count));
}

TfliteResults ImportSplitV(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  ASSIGN_OR_RETURN(std::vector<int64_t> sizes, node.ConstInts(1, "sizes"));
  ASSIGN_OR_RETURN(const int64_t axis, AxisOperand(node, 2, node.rank(x)));
  int64_t rest = node.shape(x)[static_cast<int>(axis)];
  for (int64_t size : sizes) rest -= size > 0 && size <= rest ? size : 0;
  for (int64_t& size : sizes) {
    if (size == -1) {
      size = rest;
      break;
    }
  }
  return SplitInto(node, x, axis, sizes);
}

TfliteResults ImportConcatenation(TfliteNode& node) {
  ASSIGN_OR_RETURN(const auto* options, node.required_options<tfl::ConcatenationOptions>());
  bool stored = options->fused_activation_function() == tfl::Activation::NONE;
  for (int k = 0; k < node.num_inputs(); ++k) {
    if (!node.has(k)) return node.Error(ErrorCode::kGraphInvalid, "operand ", k, " is required, found none");
    stored = stored && node.moves_as_stored(k);
  }
  std::vector<ValueId> inputs;
  for (int k = 0; k < node.num_inputs(); ++k) {
    ASSIGN_OR_RETURN(const ValueId x, stored ? StatusOr<ValueId>(node.raw(k)) : node.real(k));
    inputs.push_back(x);
  }
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(options->axis(), node.rank(inputs[0])));
  if (inputs.size() == 1) return node.Activate(inputs[0], options->fused_activation_function());
  ASSIGN_OR_RETURN(const ValueId y, node.Emit(Op::kConcat, std::move(inputs), MakeAttrs({{"axis", axis}})));
  return node.Activate(y, options->fused_activation_function());
}

TfliteResults ImportPack(TfliteNode& node) {
  ASSIGN_OR_RETURN(const auto* options, node.required_options<tfl::PackOptions>());
  std::vector<ValueId> inputs;
  int64_t axis = 0;
  for (int k = 0; k < node.num_inputs(); ++k) {
    if (!node.has(k)) return node.Error(ErrorCode::kGraphInvalid, "operand ", k, " is required, found none");
    ASSIGN_OR_RETURN(const ValueId x, node.real(k));
    ASSIGN_OR_RETURN(axis, node.Axis(options->axis(), node.rank(x) + 1));
    std::vector<int64_t> dims = node.shape(x).dims();
    dims.insert(dims.begin() + axis, 1);
    ASSIGN_OR_RETURN(const ValueId shaped, node.Reshape(x, std::move(dims)));
    inputs.push_back(shaped);
  }
  if (inputs.size() == 1) return inputs[0];
  return node.Emit(Op::kConcat, std::move(inputs), MakeAttrs({{"axis", axis}}));
}

TfliteResults ImportUnpack(TfliteNode& node) {
  const auto* options = node.options<tfl::UnpackOptions>();
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(options == nullptr ? 0 : options->axis(), node.rank(x)));
  TfliteResults parts = SplitInto(node, x, axis, std::vector<int64_t>(node.num_outputs(), 1));
  if (!parts.status.ok()) return parts;
  std::vector<int64_t> dims = node.shape(x).dims();
  dims.erase(dims.begin() + axis);
  for (ValueId& part : parts.values) {
    ASSIGN_OR_RETURN(part, node.Reshape(part, dims));
  }
  return parts;
}

TfliteResults ImportPad(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  ASSIGN_OR_RETURN(const std::vector<int64_t> pads, ReadPads(node, node.rank(x)));
  double value = 0;
  if (node.has(2)) {
    ASSIGN_OR_RETURN(const Tensor constant, node.Const(2, "constant"));
    if (constant.num_elements() != 1 || node.input(2).quant) {
      return node.Error(ErrorCode::kOpUnsupported, "expected one plain number to pad with, found ", constant.type());
    }
    value = constant.Get(0);
  }
  return node.Emit(Op::kPad, {x}, MakeAttrs({{"pads", pads}, {"mode", std::string("constant")}, {"value", value}}));
}

TfliteResults ImportMirrorPad(TfliteNode& node) {
  ASSIGN_OR_RETURN(const auto* options, node.required_options<tfl::MirrorPadOptions>());
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  ASSIGN_OR_RETURN(const std::vector<int64_t> pads, ReadPads(node, node.rank(x)));
  if (options->mode() != tfl::MirrorPadMode::REFLECT) {
    return node.Error(ErrorCode::kOpUnsupported, "symmetric padding is not supported");
  }
  return node.Emit(Op::kPad, {x}, MakeAttrs({{"pads", pads}, {"mode", std::string("reflect")}}));
}

TfliteResults ImportGather(TfliteNode& node) {
  const auto* options = node.options<tfl::GatherOptions>();
  ASSIGN_OR_RETURN(const ValueId x, node.moved(0));
  if (options != nullptr && options->batch_dims() != 0) {
    return node.Error(ErrorCode::kOpUnsupported, "batch_dims are not supported");
  }
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(options == nullptr ? 0 : options->axis(), node.rank(x)));
  return node.Emit(Op::kGather, {x, node.raw(1)}, MakeAttrs({{"axis", axis}}));
}

TfliteResults ImportDepthToSpace(TfliteNode& node) {
  ASSIGN_OR_RETURN(const auto* options, node.required_options<tfl::DepthToSpaceOptions>());
  return BlockMove(node, options->block_size(), true);
}

TfliteResults ImportSpaceToDepth(TfliteNode& node) {
  ASSIGN_OR_RETURN(const auto* options, node.required_options<tfl::SpaceToDepthOptions>());
  return BlockMove(node, options->block_size(), false);
}

TfliteResults ImportShape(TfliteNode& node) {
  const std::vector<int64_t> dims = node.shape(node.raw(0)).dims();
  const Tensor shape = Tensor::FromVector<int64_t>({static_cast<int64_t>(dims.size())}, dims);
  return node.writer().AddConstant(node.name(), shape.Cast(node.output(0).type.dtype));
}

}  // namespace tessera::tflite_handlers
