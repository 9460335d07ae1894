#include "propagate/shrink/fold.h"

#include <algorithm>

#include "graph/interpreter.h"
#include "graph/op.h"
#include "propagate/algebra/algebra.h"
#include "propagate/rule/apply.h"

namespace tessera {
namespace {

// Does the body give 0 whenever input `k` is 0? Judged at two points, which is enough for sums and products.
bool VanishesWith(const Body& body, size_t k) {
  for (const double other : {1.7, -2.3}) {
    std::vector<ScalarValue> inputs(static_cast<size_t>(body.num_inputs));
    for (size_t j = 0; j < inputs.size(); ++j) {
      inputs[j] = {.f = j == k ? 0 : other, .i = j == k ? 0 : static_cast<int64_t>(other * 3)};
    }
    const ScalarValue value = body.Evaluate(inputs, {});
    if (IsFloat(body.result_type()) ? value.f != 0 : value.i != 0) return false;
  }
  return true;
}

// The operand's lists with that axis turned to what goes. False when more than one axis of the part is cut.
bool TurnAxis(const Shape& shape, const Access& access, int axis, AxisLists& lists) {
  for (const ViewGroup& group : ViewGroups(shape, access.view)) {
    const bool walked = std::any_of(group.view_dims.begin(), group.view_dims.end(), [&](int e) {
      const IndexExpr& expr = access.index[static_cast<size_t>(e)];
      return expr.terms.size() == 1 && expr.terms[0].axis == axis;
    });
    if (!walked) continue;
    int cut = 0;
    for (int d : group.tensor_dims) {
      IndexList& list = lists[static_cast<size_t>(d)];
      if (!list) continue;
      list = Complement(list, shape[d]);
      ++cut;
    }
    if (cut != 1) return false;
  }
  return true;
}

// Elements that are not known do not matter; they count as zeros.
Known WithoutUnknown(Known known) {
  for (uint8_t& kind : known.kind.values) {
    if (kind == static_cast<uint8_t>(Certainty::kUnknown)) kind = static_cast<uint8_t>(Certainty::kZero);
  }
  return known;
}

// The values along the axes in which they differ.
Tensor BroadcastForm(const Known& known) {
  const Known valued = known.WithValues();
  const Cells<double> cells = Cells<double>(valued.kind, valued.values).Coarsest();
  Shape shape = known.type.shape;
  for (int d = 0; d < shape.rank(); ++d) {
    if (cells.axes[static_cast<size_t>(d)].is_whole()) shape[d] = 1;
  }
  Tensor tensor(known.type.dtype, shape);
  int64_t k = 0;
  ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
    const double value = cells.at(index);
    if (IsFloat(known.type.dtype)) {
      tensor.Set(k++, value);
    } else {
      tensor.SetInt(k++, static_cast<int64_t>(value));
    }
  });
  return tensor;
}

// What a value would be if its classes were single elements.
struct Classes {
  RefTensor values;
  std::vector<Partition> axes;
};
Classes ClassesOf(const Known& known) {
  const Known valued = known.WithValues();
  const Cells<double> cells = Cells<double>(valued.kind, valued.values).Coarsest();
  Classes classes = {RefTensor({known.type.dtype, cells.CellShape()}), cells.axes};
  for (size_t c = 0; c < cells.values.size(); ++c) {
    const double value = cells.values[c];
    classes.values.Set(static_cast<int64_t>(c), {.f = value, .i = static_cast<int64_t>(value)});
  }
  return classes;
}

// A product without windows of known x and a known matrix w: one row of x for each class of alike rows is enough.
// nullopt where the op is none, or does not walk rows one by one.
std::optional<Tensor> ProductOfClasses(const Node& op, const Known& x, const Tensor& w) {
  const bool conv = op.op == Op::kConv;
  int summed = x.type.shape.rank() - (op.attrs.Int("transpose_a", 0) != 0 ? 2 : 1);
  if (conv) {
    const auto ones = [&](const char* name, int64_t wanted) {
      const std::vector<int64_t>& values = op.attrs.Ints(name);
      return std::all_of(values.begin(), values.end(), [&](int64_t v) { return v == wanted; });
    };
    const bool windowless = std::all_of(w.shape().begin() + 2, w.shape().end(), [](int64_t k) { return k == 1; });
    if (!windowless || op.attrs.Int("groups") != 1 || !ones("strides", 1) || !ones("pads", 0)) return std::nullopt;
    if (op.attrs.String("layout", "nchw") != "nhwc") summed = 1;
  } else if (op.op != Op::kMatmul || w.shape().rank() != 2) {
    return std::nullopt;
  }
  const Classes classes = ClassesOf(x);
  // The summed axis keeps all its elements; the others one for each class.
  Shape shape = classes.values.type.shape;
  const Partition& inner = classes.axes[static_cast<size_t>(summed)];
  const Shape class_shape = shape;
  shape[summed] = inner.extent();
  RefTensor rows({x.type.dtype, shape});
  const std::vector<int64_t> strides = class_shape.Strides();
  int64_t k = 0;
  ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
    int64_t at = 0;
    for (int d = 0; d < shape.rank(); ++d) {
      const int64_t i = index[static_cast<size_t>(d)];
      at += (d == summed ? inner[i] : i) * strides[static_cast<size_t>(d)];
    }
    rows.Set(k++, classes.values.Get(at));
  });
  Graph part;
  Node node = op;
  node.inputs = {part.AddValue({.name = "x", .type = rows.type, .kind = ValueKind::kInput}),
                 part.AddValue({.name = "w", .type = w.type(), .kind = ValueKind::kInput})};
  const StatusOr<std::vector<TensorType>> types = InferTypes(part, node);
  if (!types.ok()) return std::nullopt;
  node.outputs = {part.AddValue({.name = "y", .type = (*types)[0]})};
  const RefTensor weights = RefTensor::From(w);
  const RefTensor* operands[] = {&rows, &weights};
  const Tensor product = InterpretNode(part, node, operands)[0].ToTensor();
  // Classes spread over their members again, along axes that have more than one.
  AxisLists spread(static_cast<size_t>(product.shape().rank()));
  for (int d = 0; d < shape.rank(); ++d) {
    const int to = conv || d != x.type.shape.rank() - 1 ? d : x.type.shape.rank() - 2;  // transpose_a
    const Partition& axis = classes.axes[static_cast<size_t>(d)];
    if (d == summed || axis.is_whole()) continue;
    std::vector<int64_t> members;
    for (int64_t i = 0; i < axis.extent(); ++i) members.push_back(axis[i]);
    spread[static_cast<size_t>(to)] = std::move(members);
  }
  return SelectedTensor(product, spread);
}

// A convolution whose dropped channels are constant throughout: they are one channel of ones with the weights' sum,
// each weighed by its channel's constant. Makes known and op that.
void OneChannel(Node& op, std::vector<Known>& known) {
  if (op.op != Op::kConv || op.attrs.Int("groups") != 1 || !known[1].data || !IsFloat(known[1].type.dtype)) return;
  const bool channels_last = op.attrs.String("layout", "nchw") == "nhwc";
  const Known& x = known[0];
  const int channel = channels_last ? x.type.shape.rank() - 1 : 1;
  const Classes classes = ClassesOf(x);
  for (int d = 0; d < x.type.shape.rank(); ++d) {
    if (d != channel && !classes.axes[static_cast<size_t>(d)].is_whole()) return;
  }
  const Tensor& w = *known[1].data;
  Shape shape = w.shape();
  const int64_t outputs = shape[0], channels = shape[1], taps = w.num_elements() / (outputs * channels);
  shape[1] = 1;
  // Not rounded before the sum is done: f64 holds what is added up.
  Tensor sum(DType::kF64, shape);
  std::span<double> to = sum.mutable_data<double>();
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t c = 0; c < channels; ++c) {
      const double factor = classes.values.Get(classes.axes[static_cast<size_t>(channel)][c]).f;
      for (int64_t t = 0; t < taps; ++t) {
        to[static_cast<size_t>(o * taps + t)] += factor * w.Get((o * channels + c) * taps + t);
      }
    }
  }
  Shape ones = x.type.shape;
  ones[channel] = 1;
  known[0] = Known::OfConstant(Tensor::Full(DType::kF64, ones, 1));
  known[1] = Known::OfConstant(sum);
}

}  // namespace

StatusOr<std::optional<Tensor>> DroppedPart(const Graph& graph, const Facts& facts, const Node& node,
                                            const NodeLists& lists, const Steps& steps) {
  const auto cannot = [&](std::string_view why) {
    return Error(ErrorCode::kInternal, "node '", node.name, "': what it loses is not known: ", why);
  };
  const Compute whole = GetOp(node.op).compute(MakeContext(graph, node));
  const Stage& stage = whole.stages[0];
  NodeLists dropped = lists;
  dropped.inputs.resize(node.inputs.size());
  std::vector<bool> walked(node.inputs.size(), false);
  for (const Access& read : stage.reads) {
    if (read.buffer.kind != BufferKind::kInput) continue;
    const size_t k = static_cast<size_t>(read.buffer.index);
    AxisLists turned = lists.inputs[k];
    if (!TurnAxis(graph[node.inputs[k]].type.shape, read, steps.summed, turned)) return cannot("two axes are cut");
    if (walked[k] && turned != dropped.inputs[k]) return cannot("an operand is read in two ways");
    walked[k] = true;
    dropped.inputs[k] = std::move(turned);
  }

  // The op on the dropped parts alone.
  Graph part;
  Node op = {.op = node.op, .name = node.name, .inputs = {}, .outputs = {}, .attrs = {}, .epilogue = {}};
  std::vector<Known> known(node.inputs.size());
  std::vector<const Known*> operands;
  for (size_t k = 0; k < node.inputs.size(); ++k) {
    if (node.inputs[k] == ValueId::kNone) return cannot("an operand is absent");
    known[k] =
        WithoutUnknown(SelectedKnown(facts.known[static_cast<size_t>(Index(node.inputs[k]))], dropped.inputs[k]));
    operands.push_back(&known[k]);
  }
  for (size_t k = 0; k < stage.reads.size(); ++k) {
    const BufferRef buffer = stage.reads[k].buffer;
    if (buffer.kind == BufferKind::kInput && known[static_cast<size_t>(buffer.index)].EqualTo(0).IsUniform(1) &&
        VanishesWith(stage.body, k)) {
      return std::optional<Tensor>();
    }
  }
  const std::optional<Attrs> attrs = FittingAttrs(graph, node, dropped);
  if (!attrs) return cannot("its parameters do not fit");
  op.attrs = *attrs;
  const DType dtype = whole.outputs[0].dtype;
  if (known.size() == 2 && known[1].data) {
    if (std::optional<Tensor> product = ProductOfClasses(op, known[0], *known[1].data)) {
      if (NonZeros(*product).Count() == 0) return std::optional<Tensor>();
      return std::optional<Tensor>(product->Cast(dtype));
    }
  }
  OneChannel(op, known);
  for (size_t k = 0; k < known.size(); ++k) {
    op.inputs.push_back(part.AddValue({.name = std::to_string(k), .type = known[k].type, .kind = ValueKind::kInput}));
  }
  ASSIGN_OR_RETURN(const std::vector<TensorType> types, InferTypes(part, op));
  const Compute compute = GetOp(op.op).compute(MakeContext(part, op));
  const RuleTransfer transfer(RuleOf(op.name, compute), ValuesOf(compute));
  ASSIGN_OR_RETURN(const std::vector<Known> result, transfer.Forward(operands));
  if (!result[0].all_known()) return cannot("its value is not a number");
  if (result[0].EqualTo(0).IsUniform(1)) return std::optional<Tensor>();
  return std::optional<Tensor>(BroadcastForm(result[0]).Cast(dtype));
}

}  // namespace tessera
