#include "graph/passes/fold_constants.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "graph/interpreter.h"
#include "graph/op.h"
#include "graph/passes/constants.h"
#include "graph/passes/quantized.h"
#include "graph/passes/rewriter.h"

namespace tessera {
namespace {

// A result may always have so many bytes, and beyond that so many times those of its operands.
constexpr int64_t kSmallBytes = int64_t{64} << 10;
constexpr int64_t kGrowth = 8;  // int4 weights that are dequantised to f32
// All results of one run together may exceed the graph's constants by so much: a chain of growing nodes stays bounded.
constexpr int64_t kMoreBytes = int64_t{64} << 20;
// Points of the loops of one node, and of all nodes: about 20 ns each.
constexpr int64_t kPointsPerNode = int64_t{1} << 27;
constexpr int64_t kPointsInAll = int64_t{1} << 29;

int64_t Bytes(const TensorType& type) { return ByteSize(type.dtype, type.shape.num_elements()); }

bool HasConstantOperands(const Graph& graph, const Node& node) {
  const std::vector<ValueId> operands = Operands(node);
  return std::all_of(operands.begin(), operands.end(),
                     [&](ValueId id) { return id == ValueId::kNone || graph.IsConstant(id); });
}

int64_t LoopPoints(const Graph& graph, const Node& node) {
  const Compute compute = NodeCompute(graph, node);
  int64_t points = 0;
  for (const Stage& stage : compute.stages) points += stage.parallel_points() * stage.reduced_points();
  return points;
}

// What remains of operand 0's sparsity. `result` is the folded tensor.
std::optional<Attribute> TesaOfResult(const Graph& graph, const Node& node, const Tensor& result) {
  if (node.epilogue || node.inputs[0] == ValueId::kNone || !graph[node.inputs[0]].tesa) return std::nullopt;
  const Value& source = graph[node.inputs[0]];
  const Attribute& tesa = *source.tesa;
  if (node.op == Op::kReshape) return tesa.Reshaped(result.shape());
  if (node.op == Op::kTranspose) {
    const std::vector<int64_t>& perm = node.attrs.Ints("perm");
    return tesa.Transposed(std::vector<int>(perm.begin(), perm.end()));
  }
  if (node.op == Op::kSlice) {
    const std::vector<int64_t>& steps = node.attrs.Ints("steps");
    if (std::any_of(steps.begin(), steps.end(), [](int64_t step) { return step != 1; })) return std::nullopt;
    return tesa.Sliced(node.attrs.Ints("starts"), node.attrs.Ints("sizes"));
  }
  // Element by element: absent elements stay absent where they are still zero.
  const bool elementwise = GetOp(node.op).elementwise() || node.op == Op::kDequantize || node.op == Op::kQuantize;
  if (!elementwise || result.shape() != source.type.shape) return std::nullopt;
  const Bitmap kept = tesa.KeptBitmap();
  for (int64_t k = 0; k < result.num_elements(); ++k) {
    // Pruned elements are +0 (verifier.h).
    if (!kept[k] && (result.Get(k) != 0 || std::signbit(result.Get(k)))) return std::nullopt;
  }
  return Attribute::FromKept(result.shape(), kept, TypeInfo(result.dtype()).bits);
}

Tensor EvaluateNode(const Graph& graph, const Node& node) {
  const Value& first = graph[node.inputs[0]];
  // The two that large weights meet move bytes or convert in place.
  if (!node.epilogue && node.op == Op::kTranspose) return TransposedTensor(first.constant, node.attrs.Ints("perm"));
  if (!node.epilogue && node.op == Op::kReshape) return first.constant.Reshaped(graph[node.outputs[0]].type.shape);
  std::vector<RefTensor> values;
  std::vector<const RefTensor*> operands;
  const std::vector<ValueId> ids = Operands(node);
  values.reserve(ids.size());
  for (ValueId id : ids) {
    if (id != ValueId::kNone) values.push_back(RefTensor::From(graph[id].constant));
    operands.push_back(id == ValueId::kNone ? nullptr : &values.back());
  }
  return InterpretNode(graph, node, operands)[0].ToTensor();
}

}  // namespace

void FoldToConstant(Rewriter& r, NodeId id) {
  Tensor result = EvaluateNode(r.graph(), r.node(id));
  std::optional<Attribute> tesa = TesaOfResult(r.graph(), r.node(id), result);
  r.TurnIntoConstant(id, std::move(result), std::move(tesa));
}

Status FoldConstants(Graph& graph) {
  Rewriter r(graph);
  int64_t points_left = kPointsInAll, bytes_left = kMoreBytes;
  for (const Value& value : graph.values) {
    if (value.kind == ValueKind::kConstant) bytes_left += kGrowth * Bytes(value.type);
  }
  for (NodeId id; r.Next(id);) {
    const Node& node = r.node(id);
    if (node.outputs.size() != 1 || r.IsOutput(node.outputs[0]) || !HasConstantOperands(graph, node)) continue;
    if (IsKeptForIntegers(r, node)) continue;
    const int64_t bytes = Bytes(r.type(node.outputs[0]));
    int64_t operand_bytes = 0;
    for (ValueId operand : Operands(node)) {
      if (operand != ValueId::kNone) operand_bytes += Bytes(r.type(operand));
    }
    if ((bytes > kSmallBytes && bytes > kGrowth * operand_bytes) || bytes > bytes_left) continue;
    const int64_t points = LoopPoints(graph, node);
    if (points > kPointsPerNode || points > points_left) continue;
    points_left -= points;
    bytes_left -= bytes;
    FoldToConstant(r, id);
  }
  return std::move(r).Finish();
}

}  // namespace tessera
