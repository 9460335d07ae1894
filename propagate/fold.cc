#include "propagate/fold.h"

#include <algorithm>

#include "graph/op.h"
#include "propagate/algebra.h"
#include "propagate/apply.h"

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
    known[k] = WithoutUnknown(SelectedKnown(facts.known[static_cast<size_t>(Index(node.inputs[k]))],
                                            dropped.inputs[k]));
    operands.push_back(&known[k]);
    op.inputs.push_back(part.AddValue({.name = std::to_string(k), .type = known[k].type, .kind = ValueKind::kInput}));
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
  ASSIGN_OR_RETURN(const std::vector<TensorType> types, InferTypes(part, op));
  const Compute compute = GetOp(op.op).compute(MakeContext(part, op));
  const RuleTransfer transfer(RuleOf(op.name, compute), ValuesOf(compute));
  ASSIGN_OR_RETURN(const std::vector<Known> result, transfer.Forward(operands));
  if (!result[0].all_known()) return cannot("its value is not a number");
  if (result[0].EqualTo(0).IsUniform(1)) return std::optional<Tensor>();
  return std::optional<Tensor>(BroadcastForm(result[0]));
}

}  // namespace tessera
