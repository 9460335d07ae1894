// The view emitter: an op that only renames elements becomes another name for the same bytes and costs nothing.
//
//   reshape, transposes of unit dimensions       all of the operand
//   slice of a run of the outermost dimension    a part of the operand
//   concat along the outermost dimension         the other way round: the operands are parts of the result, and who
//                                                computes them writes there (ChoosePlaces); operands that have a place
//                                                of their own (inputs, constants, parts of something else) are copied
//
// Outermost: all dimensions before it are 1. An output of the program has a place of its own; a value that is only
// reshaped into an output is computed there at once.
#include "codegen/emit/view.h"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "codegen/emit/stage.h"
#include "codegen/emitter.h"
#include "graph/op.h"

namespace tessera {

Status PlanGeneric(const Node& node, PlanBuilder& builder);

namespace {

int64_t Elements(const Graph& graph, ValueId id) { return graph[id].type.shape.num_elements(); }

// Does the node keep the row-major order of all elements?
bool KeepsOrder(const Graph& graph, const Node& node) {
  if (node.op == Op::kReshape) return true;
  if (node.op == Op::kExpand || node.op == Op::kTile || node.op == Op::kSlice) {
    if (Elements(graph, node.inputs[0]) != Elements(graph, node.outputs[0])) return false;
    // A slice of everything may still run backwards.
    if (node.op != Op::kSlice) return true;
    const std::vector<int64_t>&steps = node.attrs.Ints("steps"), &sizes = node.attrs.Ints("sizes");
    for (size_t d = 0; d < sizes.size(); ++d) {
      if (sizes[d] > 1 && steps[d] != 1) return false;
    }
    return true;
  }
  if (node.op != Op::kTranspose) return false;
  int64_t last = -1;
  for (int64_t axis : node.attrs.Ints("perm")) {
    if (graph[node.inputs[0]].type.shape[static_cast<int>(axis)] == 1) continue;
    if (axis < last) return false;
    last = axis;
  }
  return true;
}

// The bytes from the start of `shape` to position `at` of dimension `axis`; nullopt where they are not whole or where a
// dimension before it has other extents than 1.
std::optional<int64_t> OutermostOffset(const TensorType& type, int axis, int64_t at) {
  int64_t elements = at;
  for (int d = 0; d < axis; ++d) {
    if (type.shape[d] != 1) return std::nullopt;
  }
  for (int d = axis + 1; d < type.shape.rank(); ++d) elements *= type.shape[d];
  if (elements * TypeInfo(type.dtype).bits % 8 != 0) return std::nullopt;
  return ByteSize(type.dtype, elements);
}

// Where a slice starts in its operand, in bytes, if it is one run of consecutive elements.
std::optional<int64_t> SliceOffset(const Graph& graph, const Node& node) {
  if (node.op != Op::kSlice || Elements(graph, node.outputs[0]) == 0) return std::nullopt;
  const TensorType& type = graph[node.inputs[0]].type;
  const std::vector<int64_t>&starts = node.attrs.Ints("starts"), &steps = node.attrs.Ints("steps"),
        &sizes = node.attrs.Ints("sizes");
  // Single positions, then one run, then everything.
  int run = 0;
  while (run + 1 < type.shape.rank() && sizes[run] == 1) ++run;
  int64_t elements = 0;
  const std::vector<int64_t> strides = type.shape.Strides();
  for (int d = 0; d < type.shape.rank(); ++d) {
    if (sizes[d] > 1 && steps[d] != 1) return std::nullopt;
    if (d > run && sizes[d] != type.shape[d]) return std::nullopt;
    elements += starts[d] * strides[d];
  }
  if (elements * TypeInfo(type.dtype).bits % 8 != 0) return std::nullopt;
  return ByteSize(type.dtype, elements);
}

// Where each operand of a concatenation lies in the result, in bytes; nullopt if not every one is a run there.
std::optional<std::vector<int64_t>> ConcatOffsets(const Graph& graph, const Node& node) {
  if (node.op != Op::kConcat) return std::nullopt;
  const int axis = static_cast<int>(node.attrs.Int("axis"));
  std::vector<int64_t> offsets;
  int64_t at = 0;
  for (ValueId id : node.inputs) {
    const std::optional<int64_t> offset = OutermostOffset(graph[node.outputs[0]].type, axis, at);
    if (!offset) return std::nullopt;
    offsets.push_back(*offset);
    at += graph[id].type.shape[axis];
  }
  return offsets;
}

// Who computes what.
class PlaceChooser {
 public:
  PlaceChooser(std::span<const Choice> choices, PlanBuilder& builder) : graph_(builder.graph()), builder_(builder) {
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      if (choices[n].emitter->name == "view") view_of_[graph_.nodes[n].outputs[0]] = &graph_.nodes[n];
    }
  }

  void Choose() {
    // From the last node to the first: what is part of a part is placed after what it is part of.
    for (auto node = graph_.nodes.rbegin(); node != graph_.nodes.rend(); ++node) {
      const ValueId result = node->outputs[0];
      if (view_of_.count(result) == 0) continue;
      if (const auto offsets = ConcatOffsets(graph_, *node)) {
        for (size_t k = 0; k < offsets->size(); ++k) Settle(node->inputs[k], result, (*offsets)[k]);
      } else if (builder_.IsOutput(result) && KeepsOrder(graph_, *node)) {
        Settle(node->inputs[0], result, 0);
      }
    }
  }

 private:
  // Lets whoever computes `part` write it `offset` bytes into `whole`, if its place is still open.
  void Settle(ValueId part, ValueId whole, int64_t offset) {
    const int64_t bytes = ByteSize(graph_[part].type.dtype, Elements(graph_, part));
    if (bytes == 0) return;
    for (auto view = view_of_.find(part); view != view_of_.end(); view = view_of_.find(part)) {
      if (builder_.IsOutput(part) || builder_.HasPlace(part)) return;
      if (view->second->op == Op::kConcat) break;
      if (!KeepsOrder(graph_, *view->second)) return;  // a part of something
      part = view->second->inputs[0];
    }
    if (graph_[part].kind != ValueKind::kComputed || builder_.IsOutput(part) || builder_.HasPlace(part)) return;
    builder_.Alias(part, whole, offset);
  }

  const Graph& graph_;
  PlanBuilder& builder_;
  std::map<ValueId, const Node*> view_of_;  // by result, the nodes that the view emitter plans
};

// Copies the operands that lie elsewhere into their parts of the result.
Status PlanConcat(const Node& node, const std::vector<int64_t>& offsets, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  const PlanBuilder::Place whole = builder.PlaceOf(node.outputs[0]);
  for (size_t k = 0; k < offsets.size(); ++k) {
    const TensorType& type = graph[node.inputs[k]].type;
    if (type.shape.num_elements() == 0) continue;
    const StepArg to = {.buffer = whole.buffer, .writes = true, .offset = whole.offset + offsets[k]};
    const StepArg from = builder.Read(node.inputs[k]);
    if (from.buffer == to.buffer && from.offset == to.offset) continue;
    Compute copy;
    copy.inputs = copy.outputs = {type};
    const BufferRef in = {BufferKind::kInput, 0}, out = {BufferKind::kOutput, 0};
    copy.stages = {MapStage("copy", type.shape, {Elementwise(in, type.shape)}, IdentityBody(type.dtype), out)};
    PlanStep step =
        PlanStage(copy, copy.stages[0], builder.target(), [&](BufferRef ref) { return ref == in ? from : to; });
    step.label = node.name;
    builder.AddStep(std::move(step));
  }
  return OkStatus();
}

}  // namespace

extern const std::string_view kViewDoc;
const std::string_view kViewDoc = "reshapes, outermost slices and concatenations as other names for the same bytes";

std::optional<double> EstimateView(const Graph& graph, const Node& node, const Target&, std::string* why) {
  const bool keeps_order = KeepsOrder(graph, node);
  const bool slice = !keeps_order && SliceOffset(graph, node).has_value();
  if (!keeps_order && !slice && !ConcatOffsets(graph, node)) {
    *why = "moves elements";
    return std::nullopt;
  }
  if (node.epilogue) {
    *why = "has an epilogue";
    return std::nullopt;
  }
  const bool is_output = std::find(graph.outputs.begin(), graph.outputs.end(), node.outputs[0]) != graph.outputs.end();
  if (is_output && (slice || (keeps_order && graph[node.inputs[0]].kind != ValueKind::kComputed))) {
    *why = "an output of the program has a place of its own";
    return std::nullopt;
  }
  return 0.0;
}

Status PlanView(const Node& node, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  if (const auto offsets = ConcatOffsets(graph, node)) return PlanConcat(node, *offsets, builder);
  const int64_t offset = KeepsOrder(graph, node) ? 0 : *SliceOffset(graph, node);
  if (builder.Alias(node.outputs[0], node.inputs[0], offset)) return OkStatus();
  // An output of what already lies elsewhere.
  return PlanGeneric(node, builder);
}

void ChoosePlaces(std::span<const Choice> choices, PlanBuilder& builder) { PlaceChooser(choices, builder).Choose(); }

}  // namespace tessera
