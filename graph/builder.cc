#include "graph/builder.h"

#include <algorithm>
#include <charconv>

#include "graph/verifier.h"

namespace tessera {

// ---- The frame ----

GraphBuilder::GraphBuilder(std::string name) { graph_.name = std::move(name); }

void GraphBuilder::Fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

std::string GraphBuilder::UniqueName(std::string_view wanted) {
  std::string name(wanted);
  while (true) {
    auto [entry, is_new] = names_.try_emplace(name, 0);
    if (is_new) return name;
    // "add", "add_1", "add_2", …, skipping those that were asked for by these very names.
    name = std::string(wanted) + "_" + std::to_string(++names_.find(wanted)->second);
  }
}

bool GraphBuilder::IsKnown(ValueId value, std::string_view what) {
  if (!status_.ok()) return false;
  if (Index(value) >= 0 && Index(value) < static_cast<int>(graph_.values.size())) return true;
  Fail(Error(ErrorCode::kGraphInvalid, what, ": expected a value of this builder, found id ", Index(value)));
  return false;
}

const TensorType& GraphBuilder::TypeOf(ValueId value) const {
  static const TensorType& none = *new TensorType();
  const bool known = Index(value) >= 0 && Index(value) < static_cast<int>(graph_.values.size());
  return known ? graph_[value].type : none;
}

ValueId GraphBuilder::AddValue(std::string_view name, TensorType type, ValueKind kind) {
  Value value;
  value.name = UniqueName(name);
  value.type = std::move(type);
  value.kind = kind;
  return graph_.AddValue(std::move(value));
}

ValueId GraphBuilder::Input(std::string_view name, DType dtype, Shape shape) {
  Fail(CheckShape(dtype, shape).WithContext("input '" + std::string(name) + "'"));
  if (!status_.ok()) return ValueId::kNone;
  const ValueId id = AddValue(name, {dtype, std::move(shape)}, ValueKind::kInput);
  graph_.inputs.push_back(id);
  return id;
}

ValueId GraphBuilder::Constant(std::string_view name, Tensor data) {
  if (!status_.ok()) return ValueId::kNone;
  const ValueId id = AddValue(name, data.type(), ValueKind::kConstant);
  graph_[id].constant = std::move(data);
  return id;
}

ValueId GraphBuilder::Number(double value, DType dtype) {
  char text[32];
  const char* end = std::to_chars(text, text + sizeof(text), value).ptr;
  return Constant("c" + std::string(text, end - text), Tensor::Full(dtype, Shape(), value));
}

void GraphBuilder::Output(ValueId value) {
  if (IsKnown(value, "Output")) graph_.outputs.push_back(value);
}

StatusOr<Graph> GraphBuilder::Build() && {
  if (status_.ok() && graph_.outputs.empty()) {
    Fail(Error(ErrorCode::kGraphInvalid, "graph '", graph_.name, "': expected at least one output; call Output"));
  }
  if (!status_.ok()) return status_;
  RETURN_IF_ERROR(Verify(graph_));
  return std::move(graph_);
}

GraphBuilder& GraphBuilder::Named(std::string_view name) {
  next_name_ = name;
  return *this;
}

ValueId GraphBuilder::Apply(Op op, std::vector<ValueId> inputs, Attrs attrs) {
  Node node = {.op = op, .name = std::exchange(next_name_, "")};
  if (!status_.ok()) return ValueId::kNone;
  if (node.name.empty()) node.name = tessera::Name(op);
  for (ValueId id : inputs) {
    if (id != ValueId::kNone && !IsKnown(id, node.name)) return ValueId::kNone;
  }
  node.inputs = std::move(inputs);
  node.attrs = std::move(attrs);
  StatusOr<std::vector<TensorType>> types = InferTypes(graph_, node);
  if (!types.ok()) {
    Fail(types.status());
    return ValueId::kNone;
  }
  TES_CHECK(types->size() == 1, node.name);
  const ValueId id = AddValue(node.name, std::move(types->front()), ValueKind::kComputed);
  node.name = graph_[id].name;
  node.outputs = {id};
  graph_.nodes.push_back(std::move(node));
  return id;
}

ValueId GraphBuilder::WithEpilogue(ValueId result, Body body, std::vector<ValueId> inputs, DType dtype) {
  if (!IsKnown(result, "WithEpilogue")) return ValueId::kNone;
  Node* node = graph_.nodes.empty() ? nullptr : &graph_.nodes.back();
  if (node == nullptr || node->outputs[0] != result || node->epilogue) {
    Fail(Error(ErrorCode::kGraphInvalid, "WithEpilogue: expected the result of the latest node, without an epilogue, ",
               "found '", graph_[result].name, "'"));
    return ValueId::kNone;
  }
  for (ValueId id : inputs) {
    if (!IsKnown(id, "WithEpilogue")) return ValueId::kNone;
  }
  Fail(CheckEpilogue(body, result, inputs, dtype).WithContext("the epilogue of '" + node->name + "'"));
  if (!status_.ok()) return ValueId::kNone;
  node->epilogue = Epilogue{.body = std::move(body), .inputs = std::move(inputs), .dtype = dtype};
  graph_[result].type.dtype = dtype;
  return result;
}

Status GraphBuilder::CheckEpilogue(const Body& body, ValueId result, const std::vector<ValueId>& inputs,
                                   DType dtype) const {
  RETURN_IF_ERROR(body.Verify(ShapeOf(result).rank()));
  if (body.num_inputs > static_cast<int>(inputs.size()) + 1 || body.result_type() != ComputeType(dtype)) {
    return Error(ErrorCode::kGraphInvalid, "expected ", body.num_inputs - 1,
                 " operands and a result that is stored as ", body.result_type(), ", found ", inputs.size(), " and ",
                 dtype);
  }
  for (const ScalarInst& inst : body.insts) {
    if (inst.op != ScalarOp::kInput) continue;
    const TensorType& type = TypeOf(inst.imm_int == 0 ? result : inputs[inst.imm_int - 1]);
    if (inst.type != ComputeType(type.dtype)) {
      return Error(ErrorCode::kTypeMismatch, "expected input ", inst.imm_int, " of the body to compute in ", inst.type,
                   ", found ", type);
    }
  }
  for (ValueId id : inputs) {
    std::optional<Shape> both = BroadcastShapes(ShapeOf(id), ShapeOf(result));
    if (!both || *both != ShapeOf(result)) {
      return Error(ErrorCode::kShapeMismatch, "expected operands that broadcast to ", TypeOf(result), ", found ",
                   TypeOf(id));
    }
  }
  return OkStatus();
}

void GraphBuilder::SetTesa(ValueId value, Attribute tesa) {
  if (IsKnown(value, "SetTesa")) graph_[value].tesa = std::move(tesa);
}

void GraphBuilder::SetQuant(ValueId value, QuantParams quant) {
  if (IsKnown(value, "SetQuant")) graph_[value].quant = std::move(quant);
}

void GraphBuilder::SetMetadata(std::string_view key, std::string_view value) {
  graph_.metadata[std::string(key)] = std::string(value);
}

// ---- Ops with parameters ----

ValueId GraphBuilder::IsInf(ValueId x, bool positive, bool negative) {
  return Apply(Op::kIsInf, {x}, MakeAttrs({{"positive", int64_t{positive}}, {"negative", int64_t{negative}}}));
}

ValueId GraphBuilder::Cast(ValueId x, DType to) { return Apply(Op::kCast, {x}, MakeAttrs({{"to", to}})); }

ValueId GraphBuilder::Clip(ValueId x, std::optional<double> min, std::optional<double> max) {
  Attrs attrs;
  if (min) attrs.Set("min", *min);
  if (max) attrs.Set("max", *max);
  return Apply(Op::kClip, {x}, std::move(attrs));
}

ValueId GraphBuilder::LeakyRelu(ValueId x, double alpha) {
  return Apply(Op::kLeakyRelu, {x}, MakeAttrs({{"alpha", alpha}}));
}

ValueId GraphBuilder::Elu(ValueId x, double alpha) { return Apply(Op::kElu, {x}, MakeAttrs({{"alpha", alpha}})); }

ValueId GraphBuilder::HardSigmoid(ValueId x, double alpha, double beta) {
  return Apply(Op::kHardSigmoid, {x}, MakeAttrs({{"alpha", alpha}, {"beta", beta}}));
}

ValueId GraphBuilder::Gelu(ValueId x, bool approximate_by_tanh) {
  Attrs attrs;
  if (approximate_by_tanh) attrs.Set("approximate", "tanh");
  return Apply(Op::kGelu, {x}, std::move(attrs));
}

ValueId GraphBuilder::Mod(ValueId a, ValueId b, bool fmod) {
  return Apply(Op::kMod, {a, b}, MakeAttrs({{"fmod", int64_t{fmod}}}));
}

ValueId GraphBuilder::Quantize(ValueId x, ValueId scale, ValueId zero_point, DType dtype, std::optional<int64_t> axis,
                               int64_t block_size) {
  Attrs attrs = MakeAttrs({{"dtype", dtype}});
  if (axis) attrs.Set("axis", *axis);
  if (block_size != 0) attrs.Set("block_size", block_size);
  return Apply(Op::kQuantize, {x, scale, zero_point}, std::move(attrs));
}

ValueId GraphBuilder::Dequantize(ValueId x, ValueId scale, ValueId zero_point, std::optional<int64_t> axis,
                                 int64_t block_size) {
  Attrs attrs;
  if (axis) attrs.Set("axis", *axis);
  if (block_size != 0) attrs.Set("block_size", block_size);
  return Apply(Op::kDequantize, {x, scale, zero_point}, std::move(attrs));
}

ValueId GraphBuilder::Matmul(ValueId a, ValueId b, bool transpose_a, bool transpose_b) {
  Attrs attrs;
  if (transpose_a) attrs.Set("transpose_a", int64_t{1});
  if (transpose_b) attrs.Set("transpose_b", int64_t{1});
  return Apply(Op::kMatmul, {a, b}, std::move(attrs));
}

Attrs GraphBuilder::WindowAttrsOf(ValueId x, const WindowParams& window) const {
  const size_t count = std::max(0, ShapeOf(x).rank() - 2);
  const auto list = [](const std::vector<int64_t>& given, size_t size, int64_t otherwise) {
    return given.empty() ? std::vector<int64_t>(size, otherwise) : given;
  };
  return MakeAttrs({{"strides", list(window.strides, count, 1)},
                    {"dilations", list(window.dilations, count, 1)},
                    {"pads", list(window.pads, 2 * count, 0)},
                    {"layout", window.layout}});
}

ValueId GraphBuilder::Conv(ValueId x, ValueId w, const WindowParams& window, int64_t groups) {
  Attrs attrs = WindowAttrsOf(x, window);
  attrs.Set("groups", groups);
  return Apply(Op::kConv, {x, w}, std::move(attrs));
}

ValueId GraphBuilder::Attention(ValueId q, ValueId k, ValueId v, double scale, ValueId mask, std::string_view layout) {
  std::vector<ValueId> inputs = {q, k, v};
  if (mask != ValueId::kNone) inputs.push_back(mask);
  Attrs attrs = MakeAttrs({{"scale", scale}});
  if (layout != "bhsd") attrs.Set("layout", std::string(layout));
  return Apply(Op::kAttention, std::move(inputs), std::move(attrs));
}

ValueId GraphBuilder::MaxPool(ValueId x, std::vector<int64_t> kernel, const WindowParams& window) {
  Attrs attrs = WindowAttrsOf(x, window);
  attrs.Set("kernel", std::move(kernel));
  return Apply(Op::kMaxPool, {x}, std::move(attrs));
}

ValueId GraphBuilder::AvgPool(ValueId x, std::vector<int64_t> kernel, const WindowParams& window,
                              bool count_include_pad, bool out_shape_ceil) {
  Attrs attrs = WindowAttrsOf(x, window);
  attrs.Set("kernel", std::move(kernel));
  if (count_include_pad) attrs.Set("count_include_pad", int64_t{1});
  if (out_shape_ceil) attrs.Set("out_shape_ceil", int64_t{1});
  return Apply(Op::kAvgPool, {x}, std::move(attrs));
}

ValueId GraphBuilder::Resize(ValueId x, std::vector<int64_t> sizes, std::string_view mode, std::string_view coordinate,
                             std::string_view nearest, std::vector<double> scales) {
  const Shape& shape = ShapeOf(x);
  if (scales.empty() && static_cast<int>(sizes.size()) == shape.rank()) {
    for (int d = 0; d < shape.rank(); ++d) {
      const bool empty = shape[d] == 0 || sizes[d] == 0;
      scales.push_back(empty ? 1 : static_cast<double>(sizes[d]) / static_cast<double>(shape[d]));
    }
  }
  return Apply(Op::kResize, {x},
               MakeAttrs({{"sizes", std::move(sizes)},
                          {"scales", std::move(scales)},
                          {"mode", std::string(mode)},
                          {"coordinate", std::string(coordinate)},
                          {"nearest", std::string(nearest)}}));
}

ValueId GraphBuilder::Reduce(Op op, ValueId x, std::vector<int64_t> axes, bool keepdims) {
  return Apply(op, {x}, MakeAttrs({{"axes", std::move(axes)}, {"keepdims", int64_t{keepdims}}}));
}

ValueId GraphBuilder::ArgMax(ValueId x, int64_t axis, bool keepdims, bool select_last) {
  return Apply(Op::kArgMax, {x},
               MakeAttrs({{"axis", axis}, {"keepdims", int64_t{keepdims}}, {"select_last", int64_t{select_last}}}));
}

ValueId GraphBuilder::ArgMin(ValueId x, int64_t axis, bool keepdims, bool select_last) {
  return Apply(Op::kArgMin, {x},
               MakeAttrs({{"axis", axis}, {"keepdims", int64_t{keepdims}}, {"select_last", int64_t{select_last}}}));
}

ValueId GraphBuilder::Softmax(ValueId x, int64_t axis) { return Apply(Op::kSoftmax, {x}, MakeAttrs({{"axis", axis}})); }

ValueId GraphBuilder::LogSoftmax(ValueId x, int64_t axis) {
  return Apply(Op::kLogSoftmax, {x}, MakeAttrs({{"axis", axis}}));
}

ValueId GraphBuilder::LayerNorm(ValueId x, ValueId scale, ValueId bias, int64_t axis, double epsilon) {
  return Apply(Op::kLayerNorm, {x, scale, bias}, MakeAttrs({{"axis", axis}, {"epsilon", epsilon}}));
}

ValueId GraphBuilder::BatchNorm(ValueId x, ValueId scale, ValueId bias, ValueId mean, ValueId variance, double epsilon,
                                int64_t axis) {
  return Apply(Op::kBatchNorm, {x, scale, bias, mean, variance}, MakeAttrs({{"axis", axis}, {"epsilon", epsilon}}));
}

ValueId GraphBuilder::Reshape(ValueId x, std::vector<int64_t> shape) {
  return Apply(Op::kReshape, {x}, MakeAttrs({{"shape", std::move(shape)}}));
}

ValueId GraphBuilder::Transpose(ValueId x, std::vector<int64_t> perm) {
  return Apply(Op::kTranspose, {x}, MakeAttrs({{"perm", std::move(perm)}}));
}

ValueId GraphBuilder::Expand(ValueId x, std::vector<int64_t> shape) {
  return Apply(Op::kExpand, {x}, MakeAttrs({{"shape", std::move(shape)}}));
}

ValueId GraphBuilder::Tile(ValueId x, std::vector<int64_t> repeats) {
  return Apply(Op::kTile, {x}, MakeAttrs({{"repeats", std::move(repeats)}}));
}

ValueId GraphBuilder::Slice(ValueId x, std::vector<int64_t> starts, std::vector<int64_t> sizes,
                            std::vector<int64_t> steps) {
  if (steps.empty()) steps.assign(starts.size(), 1);
  return Apply(Op::kSlice, {x},
               MakeAttrs({{"starts", std::move(starts)}, {"steps", std::move(steps)}, {"sizes", std::move(sizes)}}));
}

ValueId GraphBuilder::Concat(std::vector<ValueId> operands, int64_t axis) {
  return Apply(Op::kConcat, std::move(operands), MakeAttrs({{"axis", axis}}));
}

ValueId GraphBuilder::Pad(ValueId x, std::vector<int64_t> pads, std::string_view mode, double value) {
  Attrs attrs = MakeAttrs({{"pads", std::move(pads)}, {"mode", std::string(mode)}});
  if (value != 0) attrs.Set("value", value);
  return Apply(Op::kPad, {x}, std::move(attrs));
}

ValueId GraphBuilder::Gather(ValueId x, ValueId indices, int64_t axis) {
  return Apply(Op::kGather, {x, indices}, MakeAttrs({{"axis", axis}}));
}

ValueId GraphBuilder::GatherElements(ValueId x, ValueId indices, int64_t axis) {
  return Apply(Op::kGatherElements, {x, indices}, MakeAttrs({{"axis", axis}}));
}

}  // namespace tessera
