#include "graph/interpreter.h"

#include <algorithm>
#include <optional>

#include "graph/op.h"

namespace tessera {
namespace {

// result' = body(result, operands..) for each element; operands broadcast to the result's shape.
RefTensor ApplyEpilogue(const Epilogue& epilogue, const RefTensor& raw, std::span<const RefTensor* const> operands) {
  const Shape& shape = raw.type.shape;
  RefTensor out({epilogue.dtype, shape});
  // Steps of each operand along the result's dimensions, zero where it broadcasts.
  std::vector<std::vector<int64_t>> steps;
  for (const RefTensor* operand : operands) {
    const Shape& own = operand->type.shape;
    const std::vector<int64_t> strides = own.Strides();
    steps.emplace_back(shape.rank(), 0);
    for (int d = 0; d < own.rank(); ++d) {
      steps.back()[shape.rank() - own.rank() + d] = own[d] == 1 ? 0 : strides[d];
    }
  }
  std::vector<ScalarValue> values(1 + operands.size());
  int64_t k = 0;
  ForEachIndex(shape, [&](const std::vector<int64_t>& at) {
    values[0] = raw.Get(k);
    for (size_t n = 0; n < operands.size(); ++n) {
      int64_t position = 0;
      for (size_t d = 0; d < at.size(); ++d) position += at[d] * steps[n][d];
      values[1 + n] = operands[n]->Get(position);
    }
    out.Set(k++, epilogue.body.Evaluate(values, at));
  });
  return out;
}

Status CheckInputs(const Graph& graph, std::span<const Tensor> inputs) {
  if (inputs.size() != graph.inputs.size()) {
    return Error(ErrorCode::kInputMissing, "graph '", graph.name, "': expected ", graph.inputs.size(),
                 " inputs, found ", inputs.size());
  }
  for (size_t k = 0; k < inputs.size(); ++k) {
    const Value& value = graph[graph.inputs[k]];
    if (inputs[k].type() == value.type) continue;
    const ErrorCode code = inputs[k].dtype() == value.type.dtype ? ErrorCode::kShapeMismatch : ErrorCode::kTypeMismatch;
    return Error(code, "input '", value.name, "': expected ", value.type, ", found ", inputs[k].type());
  }
  return OkStatus();
}

// The position after the last node that reads each value; values that outlive the run have nodes.size() + 1.
std::vector<size_t> LastUses(const Graph& graph, bool keep_all) {
  std::vector<size_t> last(graph.values.size(), keep_all ? graph.nodes.size() + 1 : 0);
  if (keep_all) return last;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    for (ValueId id : Operands(graph.nodes[n])) {
      if (id != ValueId::kNone) last[Index(id)] = n + 1;
    }
  }
  for (ValueId id : graph.outputs) last[Index(id)] = graph.nodes.size() + 1;
  return last;
}

// Declared-pruned elements of inputs and computed values count as zeros, whatever is there.
void ApplyMask(const Value& value, RefTensor& tensor) {
  if (!value.tesa || value.tesa->keeps_all()) return;
  const Bitmap kept = value.tesa->KeptBitmap();
  for (int64_t k = 0; k < kept.size(); ++k) {
    if (!kept[k]) tensor.Set(k, ScalarValue());
  }
}

StatusOr<std::vector<std::optional<RefTensor>>> Run(const Graph& graph, std::span<const Tensor> inputs,
                                                    Interpretation how, bool keep_all) {
  RETURN_IF_ERROR(CheckInputs(graph, inputs));
  std::vector<std::optional<RefTensor>> values(graph.values.size());
  for (size_t k = 0; k < inputs.size(); ++k) {
    std::optional<RefTensor>& value = values[Index(graph.inputs[k])];
    value = RefTensor::From(inputs[k]);
    ApplyMask(graph[graph.inputs[k]], *value);
  }
  const std::vector<size_t> last_use = LastUses(graph, keep_all);
  // Constants are widened when first read: all at once a network's weights could be more than memory holds.
  const auto value_of = [&](ValueId id) -> const RefTensor* {
    std::optional<RefTensor>& value = values[Index(id)];
    if (!value && graph.IsConstant(id)) value = RefTensor::From(graph[id].constant);
    return value ? &*value : nullptr;
  };
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    const std::vector<ValueId> ids = Operands(node);
    std::vector<const RefTensor*> operands;
    for (ValueId id : ids) {
      operands.push_back(id == ValueId::kNone ? nullptr : value_of(id));
      if (id != ValueId::kNone && operands.back() == nullptr) {
        return Error(ErrorCode::kGraphInvalid, "node '", node.name, "': expected '", graph[id].name,
                     "' to be computed before it is read");
      }
    }
    std::vector<RefTensor> results = InterpretNode(graph, node, operands, how);
    for (size_t k = 0; k < results.size(); ++k) {
      ApplyMask(graph[node.outputs[k]], results[k]);
      values[Index(node.outputs[k])] = std::move(results[k]);
    }
    for (ValueId id : ids) {
      if (id != ValueId::kNone && last_use[Index(id)] == n + 1) values[Index(id)].reset();
    }
    for (ValueId id : node.outputs) {
      if (last_use[Index(id)] == 0) values[Index(id)].reset();
    }
  }
  for (size_t k = 0; k < values.size(); ++k) {
    if (last_use[k] > graph.nodes.size()) value_of(static_cast<ValueId>(k));
  }
  return values;
}

}  // namespace

std::vector<RefTensor> InterpretNode(const Graph& graph, const Node& node, std::span<const RefTensor* const> operands,
                                     Interpretation how) {
  std::vector<RefTensor> results;
  if (how == Interpretation::kCompute) {
    // Absent operands are placeholders that nothing reads.
    const RefTensor none;
    std::vector<const RefTensor*> buffers(operands.begin(), operands.end());
    for (const RefTensor*& buffer : buffers) buffer = buffer == nullptr ? &none : buffer;
    Evaluate(NodeCompute(graph, node), buffers, results);
    return results;
  }
  const OpContext context = MakeContext(graph, node);
  for (const TensorType& type : context.outputs) results.emplace_back(type);
  GetOp(node.op).reference(context, operands.first(node.inputs.size()), results);
  if (node.epilogue) {
    results[0] = ApplyEpilogue(*node.epilogue, results[0], operands.subspan(node.inputs.size()));
  }
  return results;
}

StatusOr<std::vector<RefTensor>> Interpret(const Graph& graph, std::span<const Tensor> inputs, Interpretation how) {
  ASSIGN_OR_RETURN(std::vector<std::optional<RefTensor>> values, Run(graph, inputs, how, false));
  std::vector<RefTensor> outputs;
  for (ValueId id : graph.outputs) {
    if (!values[Index(id)]) {
      return Error(ErrorCode::kGraphInvalid, "graph '", graph.name, "': expected a node that computes output '",
                   graph[id].name, "'");
    }
    const auto input = std::find(graph.inputs.begin(), graph.inputs.end(), id);
    // What is handed through is handed back as it came.
    outputs.push_back(input == graph.inputs.end()
                          ? *values[Index(id)]
                          : RefTensor::From(inputs[static_cast<size_t>(input - graph.inputs.begin())]));
  }
  return outputs;
}

StatusOr<std::vector<RefTensor>> InterpretAll(const Graph& graph, std::span<const Tensor> inputs, Interpretation how) {
  ASSIGN_OR_RETURN(std::vector<std::optional<RefTensor>> values, Run(graph, inputs, how, true));
  std::vector<RefTensor> all;
  for (std::optional<RefTensor>& value : values) all.push_back(value ? *std::move(value) : RefTensor());
  return all;
}

}  // namespace tessera
