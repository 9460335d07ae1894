#include "graph/testing/run_op.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "graph/op.h"

namespace tessera {
namespace {

// The row-major position in `shape` of what broadcasting puts at `index` of a result of rank `index.size()`.
int64_t BroadcastPosition(const Shape& shape, const std::vector<int64_t>& index) {
  int64_t position = 0;
  for (int d = 0; d < shape.rank(); ++d) {
    position = position * shape[d] + (shape[d] == 1 ? 0 : index[index.size() - shape.rank() + d]);
  }
  return position;
}

void ApplyEpilogue(const Epilogue& epilogue, const std::vector<RefTensor>& operands, RefTensor& result) {
  RefTensor out(TensorType{epilogue.dtype, result.type.shape});
  int64_t k = 0;
  ForEachIndex(result.type.shape, [&](const std::vector<int64_t>& index) {
    std::vector<ScalarValue> values = {result.Get(k)};
    for (const RefTensor& operand : operands) {
      values.push_back(operand.Get(BroadcastPosition(operand.type.shape, index)));
    }
    out.Set(k++, epilogue.body.Evaluate(values, index));
  });
  result = std::move(out);
}

// Each element of each output is written exactly once.
Status CheckWrites(const Compute& compute) {
  std::vector<std::vector<int>> writes;
  for (const TensorType& type : compute.outputs) writes.emplace_back(type.shape.num_elements());
  for (const Stage& stage : compute.stages) {
    if (stage.write.buffer.kind != BufferKind::kOutput) continue;
    const Shape points(std::vector<int64_t>(stage.extents.begin(), stage.extents.begin() + stage.parallel_rank));
    ForEachIndex(points, [&](const std::vector<int64_t>& at) {
      int64_t position = 0;
      for (int d = 0; d < stage.write.view.rank(); ++d) {
        int64_t index = stage.write.index[d].offset;
        for (const IndexExpr::Term& term : stage.write.index[d].terms) index += term.coefficient * at[term.axis];
        position = position * stage.write.view[d] + index;
      }
      ++writes[stage.write.buffer.index][position];
    });
  }
  for (size_t out = 0; out < writes.size(); ++out) {
    for (size_t k = 0; k < writes[out].size(); ++k) {
      if (writes[out][k] == 1) continue;
      return Error(ErrorCode::kResultWrong, "element ", k, " of output ", out, " is written ", writes[out][k],
                   " times in\n", compute.ToString());
    }
  }
  return OkStatus();
}

// What evaluating a compute in double may lose against the reference: next to nothing, but for constants held in f32.
Tolerance ToleranceOf(Op op) {
  // Interpolation weights are f32 tables, one for each dimension.
  if (op == Op::kResize) return {.relative = 1e-6, .absolute = 1e-9};
  return {};
}

Body RoundBody(const Body& body) {
  if (body.empty()) return body;
  BodyBuilder b;
  std::vector<Scalar> values;
  for (const ScalarInst& inst : body.insts) {
    Scalar value;
    switch (inst.op) {
      case ScalarOp::kInput: value = b.InputAt(static_cast<int>(inst.imm_int), inst.type); break;
      case ScalarOp::kIndex: value = b.Index(static_cast<int>(inst.imm_int)); break;
      case ScalarOp::kConst:
        value = IsFloat(inst.type) ? b.Const(inst.type, inst.imm) : b.ConstInt(inst.type, inst.imm_int);
        break;
      case ScalarOp::kCast: value = b.Cast(values[inst.args[0]], inst.type); break;
      case ScalarOp::kNarrow: value = b.Narrow(values[inst.args[0]], static_cast<DType>(inst.imm_int)); break;
      default: {
        const int arity = ScalarInfo(inst.op).arity;
        const Scalar x = values[inst.args[0]];
        if (arity == 1) value = b.Op(inst.op, {x});
        if (arity == 2) value = b.Op(inst.op, {x, values[inst.args[1]]});
        if (arity == 3) value = b.Op(inst.op, {x, values[inst.args[1]], values[inst.args[2]]});
      }
    }
    if (inst.type == DType::kF32) value = b.Narrow(value, DType::kF32);
    values.push_back(value);
  }
  Body rounded = b.Finish(values[body.result]);
  rounded.num_inputs = body.num_inputs;
  return rounded;
}

}  // namespace

Status CompareRefs(const RefTensor& expected, const RefTensor& actual, Tolerance tolerance) {
  if (expected.type != actual.type) {
    return Error(ErrorCode::kResultWrong, "expected ", expected.type, ", found ", actual.type);
  }
  double largest = 0;
  for (double value : expected.f) {
    if (std::isfinite(value)) largest = std::max(largest, std::fabs(value));
  }
  const double bound = tolerance.relative * largest + tolerance.absolute;
  for (int64_t k = 0; k < expected.size(); ++k) {
    const ScalarValue e = expected.Get(k), a = actual.Get(k);
    const bool equal = expected.is_float()
                           ? e.f == a.f || (std::isnan(e.f) && std::isnan(a.f)) || std::fabs(e.f - a.f) <= bound
                           : e.i == a.i;
    if (equal) continue;
    return expected.is_float() ? Error(ErrorCode::kResultWrong, "element ", k, " of ", expected.type, ": expected ",
                                       e.f, " within ", bound, ", found ", a.f)
                               : Error(ErrorCode::kResultWrong, "element ", k, " of ", expected.type, ": expected ",
                                       e.i, ", found ", a.i);
  }
  return OkStatus();
}

namespace {

// The node's operands in double: `tensors` holds them, `operands` points at them, nullptr for absent ones.
struct CaseOperands {
  explicit CaseOperands(const RandomCase& random_case) {
    const Graph& graph = random_case.graph;
    for (const Tensor& input : random_case.inputs) tensors.push_back(RefTensor::From(input));
    for (ValueId id : Operands(graph.nodes[0])) {
      const auto at = std::find(graph.inputs.begin(), graph.inputs.end(), id);
      operands.push_back(id == ValueId::kNone ? nullptr : &tensors[at - graph.inputs.begin()]);
    }
  }
  std::vector<RefTensor> tensors;
  std::vector<const RefTensor*> operands;
};

}  // namespace

StatusOr<std::vector<RefTensor>> RunReference(const RandomCase& random_case) {
  const Graph& graph = random_case.graph;
  const Node& node = graph.nodes[0];
  if (const auto types = InferTypes(graph, node); !types.ok()) return types.status();
  const CaseOperands held(random_case);
  const std::vector<const RefTensor*>& operands = held.operands;
  const OpContext context = MakeContext(graph, node);
  std::vector<RefTensor> expected;
  for (const TensorType& type : context.outputs) expected.emplace_back(type);
  const size_t own = node.inputs.size();
  GetOp(node.op).reference(context, std::span(operands).first(own), expected);
  if (node.epilogue) {
    std::vector<RefTensor> further;
    for (size_t k = own; k < operands.size(); ++k) further.push_back(*operands[k]);
    ApplyEpilogue(*node.epilogue, further, expected[0]);
  }
  return expected;
}

StatusOr<std::vector<RefTensor>> RunCase(const RandomCase& random_case) {
  ASSIGN_OR_RETURN(const std::vector<RefTensor> expected, RunReference(random_case));
  const Graph& graph = random_case.graph;
  const Node& node = graph.nodes[0];
  const CaseOperands held(random_case);
  const std::vector<const RefTensor*>& operands = held.operands;
  const Compute compute = NodeCompute(graph, node);
  const auto wrong = [&](const Status& status) {
    std::string types;
    for (const TensorType& type : compute.inputs) types += " " + type.ToString();
    return Error(ErrorCode::kResultWrong, Name(node.op), types, ": ", status.message(), "\n", compute.ToString());
  };
  if (const Status status = compute.Verify(); !status.ok()) return wrong(status);
  RETURN_IF_ERROR(CheckWrites(compute));
  std::vector<RefTensor> actual;
  Evaluate(compute, operands, actual);
  if (actual.size() != expected.size()) return wrong(Error(ErrorCode::kResultWrong, "the number of outputs"));
  for (size_t k = 0; k < expected.size(); ++k) {
    if (const Status status = CompareRefs(expected[k], actual[k], ToleranceOf(node.op)); !status.ok())
      return wrong(status);
  }
  return expected;
}

StatusOr<std::vector<RefTensor>> RunOp(Op op, const Attrs& attrs, const std::vector<std::optional<Tensor>>& operands) {
  RandomCase single;
  Node node = {.op = op, .name = "node"};
  node.attrs = attrs;
  for (size_t k = 0; k < operands.size(); ++k) {
    if (!operands[k]) {
      node.inputs.push_back(ValueId::kNone);
      continue;
    }
    Value value;
    value.name = "x" + std::to_string(k);
    value.type = operands[k]->type();
    value.kind = ValueKind::kInput;
    node.inputs.push_back(single.graph.AddValue(std::move(value)));
    single.graph.inputs.push_back(node.inputs.back());
    single.inputs.push_back(*operands[k]);
  }
  ASSIGN_OR_RETURN(const std::vector<TensorType> types, InferTypes(single.graph, node));
  for (const TensorType& type : types) {
    Value value;
    value.name = "y" + std::to_string(node.outputs.size());
    value.type = type;
    node.outputs.push_back(single.graph.AddValue(std::move(value)));
  }
  single.graph.nodes.push_back(std::move(node));
  return RunCase(single);
}

Compute RoundedToF32(Compute compute) {
  for (Stage& stage : compute.stages) {
    stage.body = RoundBody(stage.body);
    stage.finish = RoundBody(stage.finish);
  }
  return compute;
}

}  // namespace tessera
