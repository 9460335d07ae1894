// OpDef: all that Tessera knows of an op, declared once in ops/<family>.cc and listed in ops/ops.def.
//
//   GetOp(Op::kMatmul).infer(context)       output types from input types and parameters
//   GetOp(Op::kMatmul).reference(...)       slow and plainly right, in double; the meaning of the op
//   GetOp(Op::kMatmul).compute(context)     the same as loops in data, for kernels and for rule algebra
//
// All shapes are static, and whatever determines a shape (axes, pads, target shapes) is a parameter, never an operand.
// An op is a function: no state, no side effect; its reference reads only its arguments. Tested by ops_test.cc, which
// runs Evaluate(compute) against reference for every row of ops.def on random shapes.
#ifndef TESSERA_GRAPH_OP_H_
#define TESSERA_GRAPH_OP_H_

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "graph/attrs.h"
#include "graph/compute.h"
#include "graph/graph.h"

namespace tessera {

// One parameter of an op.
struct AttrDef {
  std::string_view name;
  AttrKind kind;
  bool required = false;
  std::string_view doc;
};

// What an op's functions are told of a node. Optional inputs that are absent are nullopt.
struct OpContext {
  const Attrs& attrs;
  std::vector<std::optional<TensorType>> inputs;
  std::vector<TensorType> outputs;  // filled by infer; empty during infer itself

  int num_inputs() const { return static_cast<int>(inputs.size()); }
  bool has_input(int k) const { return k < num_inputs() && inputs[k].has_value(); }
  const TensorType& input(int k) const { return *inputs[k]; }
  const Shape& shape(int k) const { return inputs[k]->shape; }
  DType dtype(int k) const { return inputs[k]->dtype; }
};

struct OpDef {
  Op op;
  std::string_view name;  // as in the text form
  std::string_view doc;   // one sentence; formula or ONNX counterpart
  int min_inputs = 1;
  int max_inputs = 1;  // -1: any number
  std::vector<AttrDef> attrs;

  // Output types, or an error (expected, found) without the node's name, which the caller adds.
  // Must reject every combination that reference or compute could not handle.
  StatusOr<std::vector<TensorType>> (*infer)(const OpContext&) = nullptr;
  // outputs are sized and typed already; absent inputs are nullptr.
  void (*reference)(const OpContext&, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) = nullptr;
  // The buffers of the Compute are the node's inputs in order (absent ones as empty-shaped f32 placeholders) and
  // outputs.
  Compute (*compute)(const OpContext&) = nullptr;
  // Element-wise ops only: the Body over the inputs, which broadcast; such ops can be fused into epilogues.
  Body (*body)(const OpContext&) = nullptr;

  bool elementwise() const { return body != nullptr; }
};

const OpDef& GetOp(Op op);
// By the name of the text form.
std::optional<Op> FindOp(std::string_view name);
inline std::string_view Name(Op op) { return GetOp(op).name; }
std::span<const OpDef> AllOps();

// The context of a node of a graph: types of its inputs, and of its outputs *before* the epilogue.
OpContext MakeContext(const Graph& graph, const Node& node);
// Checks operand count and parameters against the OpDef, then infers. The types are before the epilogue; errors name
// the node.
StatusOr<std::vector<TensorType>> InferTypes(const Graph& graph, const Node& node);

// The Compute of a node with its epilogue applied; buffers are the node's inputs, then the epilogue's, then the
// outputs.
Compute NodeCompute(const Graph& graph, const Node& node);

}  // namespace tessera

#endif  // TESSERA_GRAPH_OP_H_
