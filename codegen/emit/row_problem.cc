#include "codegen/emit/row_problem.h"

#include "graph/op.h"

namespace tessera {

std::string RowProblem::Key() const {
  return internal::Join(static_cast<int>(op), " ", Name(x), " [", outer, ",", length, ",", inner, "] columns ", columns,
                        " epsilon ", epsilon, scale ? " scale " : "", scale ? Name(*scale) : "", bias ? " bias " : "",
                        bias ? Name(*bias) : "");
}

std::optional<RowProblem> RowProblemOf(const Graph& graph, const Node& node, std::string* why) {
  RowProblem problem;
  switch (node.op) {
    case Op::kSoftmax: problem.op = RowOp::kSoftmax; break;
    case Op::kLogSoftmax: problem.op = RowOp::kLogSoftmax; break;
    case Op::kLayerNorm: problem.op = RowOp::kLayerNorm; break;
    default: *why = "normalises no rows"; return std::nullopt;
  }
  if (node.epilogue && node.epilogue->body.uses_index()) {
    *why = "the epilogue asks where it is";
    return std::nullopt;
  }
  const TensorType& x = graph[node.inputs[0]].type;
  if (x.shape.num_elements() == 0) {
    *why = "no elements";
    return std::nullopt;
  }
  problem.x = x.dtype;
  problem.type = ComputeType(x.dtype);
  const int axis = static_cast<int>(node.attrs.Int("axis"));
  for (int d = 0; d < x.shape.rank(); ++d) {
    const bool in_row = problem.op == RowOp::kLayerNorm ? d >= axis : d == axis;
    (d < axis ? problem.outer : (in_row ? problem.length : problem.inner)) *= x.shape[d];
  }
  if (problem.op == RowOp::kLayerNorm) {
    problem.epsilon = node.attrs.Float("epsilon");
    const auto operand = [&](size_t k) -> std::optional<DType> {
      if (node.inputs.size() <= k || node.inputs[k] == ValueId::kNone) return std::nullopt;
      return graph[node.inputs[k]].type.dtype;
    };
    problem.scale = operand(1);
    problem.bias = operand(2);
  }
  // Without an epilogue any view of the output will do; the longest runs are best.
  const int64_t run = problem.across() ? problem.inner : problem.length;
  problem.columns = node.epilogue ? x.shape[x.shape.rank() - 1] : run;
  if (run % problem.columns != 0) problem.columns = run;  // cannot be: a row ends with the last dimension or before it
  return problem;
}

void AddRowArguments(const Node& node, DType x, const TileEpilogue& epilogue, PlanBuilder& builder, PlanStep& step) {
  for (ValueId id : node.inputs) {
    if (id != ValueId::kNone) step.args.push_back(builder.Read(id));
  }
  const int out = static_cast<int>(step.args.size()) + epilogue.num_args() - 1;
  bool read_once = true;
  for (size_t k = 1; k < step.args.size(); ++k) read_once &= step.args[k].buffer != step.args[0].buffer;
  if (node.epilogue) {
    for (ValueId id : node.epilogue->inputs) read_once &= builder.PlaceOf(id).buffer != step.args[0].buffer;
  }
  if (read_once && TypeInfo(x).bits == TypeInfo(epilogue.dtype()).bits) step.in_place.emplace_back(0, out);
  epilogue.AddArguments(node, builder, step);
}

}  // namespace tessera
