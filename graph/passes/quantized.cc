#include "graph/passes/quantized.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "graph/op.h"

namespace tessera {
namespace {

// How far to look through nodes that move elements.
constexpr int kMaxMoves = 16;

bool IsUsableScale(double scale) { return scale > 1e-30 && scale < 1e30; }

bool IsContraction(Op op) { return op == Op::kMatmul || op == Op::kConv; }

// The dimension of operand 1 whose indices are the channels of the result.
int WeightChannelAxis(const Node& node, const Shape& weights) {
  if (node.op == Op::kConv) return 0;
  return weights.rank() - (node.attrs.Int("transpose_b", 0) != 0 ? 2 : 1);
}

// The zero point of element `k` of a quantised constant, and its scale's number.
struct ScaleWalk {
  int64_t step = 1, count = 1;
  int64_t at(int64_t k) const { return k / step % count; }
};

}  // namespace

bool Scaling::SameAs(const Scaling& other) const {
  const bool same_scale = scale_value ? scale_value == other.scale_value : scale == other.scale;
  return same_scale && (zero_value ? zero_value == other.zero_value : zero_point == other.zero_point);
}

std::optional<Scaling> ScalingOf(const Rewriter& r, const Node& node) {
  if ((node.op != Op::kQuantize && node.op != Op::kDequantize) || node.epilogue) return std::nullopt;
  Scaling s = {.scale = node.inputs[1]};
  if (node.inputs.size() > 2) s.zero_point = node.inputs[2];
  if (node.attrs.Int("block_size", 0) != 0 || r.shape(s.scale).num_elements() != 1) return std::nullopt;
  if (r.type(s.scale).dtype != DType::kF32) return std::nullopt;
  if (r.graph().IsConstant(s.scale)) {
    s.scale_value = r.value(s.scale).constant.Get(0);
    if (!IsUsableScale(*s.scale_value)) return std::nullopt;
  }
  if (s.zero_point == ValueId::kNone) {
    s.zero_value = 0;
  } else if (r.graph().IsConstant(s.zero_point)) {
    s.zero_value = r.value(s.zero_point).constant.GetInt(0);
  }
  return s;
}

std::optional<Dequantized> ReadDequantize(const Rewriter& r, ValueId real) {
  if (!r.ProducerIs(real, Op::kDequantize)) return std::nullopt;
  const Node& node = r.node(r.Producer(real));
  const std::optional<Scaling> scaling = ScalingOf(r, node);
  if (!scaling) return std::nullopt;
  return Dequantized{node.inputs[0], *scaling};
}

std::optional<IntegerWeights> ReadIntegerWeights(const Rewriter& r, const Node& node, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  const ValueId operand = node.inputs[1];
  const bool real = IsFloat(r.type(node.outputs[0]).dtype);
  ValueId source = operand;
  const Node* dequantize = nullptr;
  if (real) {
    if (!r.ProducerIs(operand, Op::kDequantize)) {
      return r.graph().IsConstant(operand) ? no("its weights are floats") : no("its second operand is computed");
    }
    dequantize = &r.node(r.Producer(operand));
    source = dequantize->inputs[0];
  }
  if (!r.graph().IsConstant(source)) return no("its second operand is computed");
  const Value& value = r.value(source);
  IntegerWeights w = {.name = value.name, .shape = value.type.shape};
  if (!IsInteger(value.type.dtype)) return no("its second operand is ", value.type.dtype);
  if (node.op == Op::kMatmul && w.shape.rank() != 2) return no("its weights have ", w.shape.rank(), " dimensions");
  w.channel_axis = WeightChannelAxis(node, w.shape);
  const int64_t count = w.shape.num_elements();
  ScaleWalk zero;
  const Tensor* zeros = nullptr;
  w.scales = {1};
  if (dequantize != nullptr) {
    if (dequantize->attrs.Int("block_size", 0) != 0) return no("its weights have a scale for each block");
    if (!r.graph().IsConstant(dequantize->inputs[1])) return no("the scales of its weights are computed");
    const Tensor& scales = r.value(dequantize->inputs[1]).constant;
    if (scales.dtype() != DType::kF32) return no("the scales of its weights are ", scales.dtype());
    const bool single = scales.num_elements() == 1;
    if (!single && dequantize->attrs.Int("axis") != w.channel_axis) {
      return no("the scales of its weights run along axis ", dequantize->attrs.Int("axis"),
                ", which is not that of the result's channels");
    }
    w.scales.clear();
    for (int64_t k = 0; k < scales.num_elements(); ++k) {
      w.scales.push_back(scales.Get(k));
      // A channel that is zero throughout may have any scale, and often has 0.
      if (!IsUsableScale(w.scales.back()) && w.scales.back() != 0) return no("a scale of its weights is no number > 0");
    }
    if (dequantize->inputs.size() > 2 && dequantize->inputs[2] != ValueId::kNone) {
      if (!r.graph().IsConstant(dequantize->inputs[2])) return no("the zero points of its weights are computed");
      zeros = &r.value(dequantize->inputs[2]).constant;
      if (!single) zero = {.step = w.shape.Strides()[w.channel_axis], .count = zeros->num_elements()};
      for (int64_t k = 0; k < zeros->num_elements(); ++k) w.zeros_not_looked_for |= zeros->GetInt(k) != 0;
    }
  }
  w.values.resize(static_cast<size_t>(count));
  const auto read = [&](auto at) {
    for (int64_t k = 0; k < count; ++k) {
      const int64_t v = at(k) - (zeros != nullptr ? zeros->GetInt(zero.at(k)) : 0);
      if (v < -512 || v > 512) return false;
      w.values[static_cast<size_t>(k)] = static_cast<int16_t>(v);
    }
    return true;
  };
  // Networks have a hundred million of these: one look at the type for all.
  const Tensor& data = value.constant;
  const bool narrow = data.dtype() == DType::kI8   ? read([p = data.data<int8_t>()](int64_t k) { return p[k]; })
                      : data.dtype() == DType::kU8 ? read([p = data.data<uint8_t>()](int64_t k) { return p[k]; })
                                                   : read([&](int64_t k) { return data.GetInt(k); });
  if (!narrow) return no("its weights are wider than 8 bits");
  if (value.tesa && !w.zeros_not_looked_for) w.tesa = value.tesa;
  return w;
}

int ChannelDim(const Node& node, int rank) {
  return node.op == Op::kConv && node.attrs.String("layout") == "nchw" ? 1 : rank - 1;
}

Shape AlongDim(int rank, int dim, int64_t count) {
  std::vector<int64_t> dims(static_cast<size_t>(rank - dim), 1);
  dims[0] = count;
  return Shape(std::move(dims));
}

std::optional<IntegerBias> ReadIntegerBias(const Rewriter& r, ValueId id, int rank, int dim, int64_t channels) {
  const Shape& shape = r.shape(id);
  for (int d = 0; d < shape.rank(); ++d) {
    const int result_dim = rank - shape.rank() + d;
    if (shape[d] != 1 && (result_dim != dim || shape[d] != channels)) return std::nullopt;
  }
  for (int k = 0; k < kMaxMoves && r.ProducerIs(id, Op::kReshape); ++k) id = r.node(r.Producer(id)).inputs[0];
  if (!r.ProducerIs(id, Op::kDequantize)) return std::nullopt;
  const Node& node = r.node(r.Producer(id));
  if (node.attrs.Int("block_size", 0) != 0 || !r.graph().IsConstant(node.inputs[0])) return std::nullopt;
  const Tensor& data = r.value(node.inputs[0]).constant;
  if (data.dtype() != DType::kI32 || !r.graph().IsConstant(node.inputs[1])) return std::nullopt;
  if (node.inputs.size() > 2 && node.inputs[2] != ValueId::kNone) {
    if (!r.graph().IsConstant(node.inputs[2])) return std::nullopt;
    const Tensor& zeros = r.value(node.inputs[2]).constant;
    for (int64_t k = 0; k < zeros.num_elements(); ++k) {
      if (zeros.GetInt(k) != 0) return std::nullopt;
    }
  }
  const Tensor& scales = r.value(node.inputs[1]).constant;
  if (data.num_elements() != channels || scales.dtype() != DType::kF32 ||
      (scales.num_elements() != 1 && scales.num_elements() != channels)) {
    return std::nullopt;
  }
  IntegerBias bias;
  for (int64_t k = 0; k < channels; ++k) bias.values.push_back(data.GetInt(k));
  for (int64_t k = 0; k < scales.num_elements(); ++k) bias.scales.push_back(scales.Get(k));
  return bias;
}

bool MovesIntegers(const Rewriter& r, const Node& node) {
  if (node.epilogue || node.outputs.size() != 1 || r.type(node.inputs[0]).dtype != r.type(node.outputs[0]).dtype) {
    return false;
  }
  switch (node.op) {
    case Op::kReshape:
    case Op::kTranspose:
    case Op::kExpand:
    case Op::kTile:
    case Op::kSlice:
    case Op::kConcat:
    case Op::kMaxPool:
    case Op::kReduceMax:
    case Op::kReduceMin:
    case Op::kRelu: return true;
    case Op::kPad: return node.attrs.String("mode") != "constant" || node.attrs.Float("value", 0) == 0;
    case Op::kResize:
      return node.attrs.String("mode") == "nearest" && node.attrs.String("coordinate") != "tf_crop_and_resize";
    default: return false;
  }
}

bool IsKeptForIntegers(const Rewriter& r, const Node& node) {
  if (node.op != Op::kDequantize || node.epilogue || !r.graph().IsConstant(node.inputs[0])) return false;
  const DType dtype = r.type(node.inputs[0]).dtype;
  if (dtype == DType::kI32) return true;
  if (TypeInfo(dtype).bits > 8) return false;
  for (NodeId reader : r.Readers(node.outputs[0])) {
    const Node& product = r.node(reader);
    if (!IsContraction(product.op) || product.inputs[1] != node.outputs[0] || product.epilogue) continue;
    ValueId x = product.inputs[0];
    for (int k = 0; k < kMaxMoves && r.Producer(x) != NodeId::kNone; ++k) {
      const Node& maker = r.node(r.Producer(x));
      if (maker.op == Op::kDequantize) return true;
      if (!MovesIntegers(r, maker)) break;
      x = maker.inputs[0];
    }
  }
  return false;
}

}  // namespace tessera
