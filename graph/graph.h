// Graph: what a network computes, as two flat vectors and typed ids.
//
//   graph "mlp" {
//     %x: f32[1,784] = input
//     %w: f32[1024,784] tesa(scattered kept 10%) = constant random(seed = 1)
//     %b: f32[1024] = constant zeros
//     %h: f32[1,1024] = matmul(%x, %w) {transpose_b = 1} epilogue(%b): f32 (a: f32, b: f32) { … }
//     return %h
//   }
//
// A Value is a tensor on an edge: a graph input, a constant, or the output of exactly one node. A Node applies one op
// of ops/ops.def; it may carry an epilogue, an element-wise Body over its result and further operands, which is how
// fused chains are expressed. Everything is a plain value: copying a Graph copies the structure and shares the bytes.
// Thread-compatible. Invariants: verifier.h. Text form: text.h. Tested by graph_test.cc.
#ifndef TESSERA_GRAPH_GRAPH_H_
#define TESSERA_GRAPH_GRAPH_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "graph/attrs.h"
#include "graph/body.h"
#include "tesa/attribute.h"
#include "tesa/quant.h"
#include "tesa/tensor.h"

namespace tessera {

// Every op of ops/ops.def: Op::kMatmul, …
enum class Op : uint16_t {
#define TES_OP(name, text, family) k##name,
#include "graph/ops/ops.def"
#undef TES_OP
};

enum class ValueId : int32_t { kNone = -1 };  // kNone: an absent optional input
enum class NodeId : int32_t { kNone = -1 };
inline int Index(ValueId id) { return static_cast<int>(id); }
inline int Index(NodeId id) { return static_cast<int>(id); }

enum class ValueKind : uint8_t { kInput, kConstant, kComputed };

struct Value {
  std::string name;  // as in the source model where it has one; unique within the graph
  TensorType type;
  ValueKind kind = ValueKind::kComputed;
  Tensor constant;                   // kConstant: the data, of `type`
  std::optional<Attribute> tesa;     // declared sparsity and precision; absent: dense at the type's own width
  std::optional<QuantParams> quant;  // how integers of this edge stand for reals, where the source model said so
  friend bool operator==(const Value&, const Value&) = default;
};

// result' = body(result, inputs[0], inputs[1], …), element by element. The inputs broadcast (NumPy) to the shape of the
// node's first output, which keeps its shape; `dtype` is the storage type of result'.
struct Epilogue {
  Body body;  // input 0 is the op's own result
  std::vector<ValueId> inputs;
  DType dtype = DType::kF32;
  friend bool operator==(const Epilogue&, const Epilogue&) = default;
};

struct Node {
  Op op;
  std::string name;  // as in the source model; what errors, reports and traces call it. Not necessarily unique.
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Attrs attrs;
  std::optional<Epilogue> epilogue;  // single-output nodes only
  friend bool operator==(const Node&, const Node&) = default;
};

struct Graph {
  std::string name;
  std::vector<Value> values;
  std::vector<Node> nodes;  // in an order in which each value is computed before it is used
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::map<std::string, std::string> metadata;  // provenance: source file, its hash, converter version, licence, …

  Value& operator[](ValueId id) { return values[Index(id)]; }
  const Value& operator[](ValueId id) const { return values[Index(id)]; }
  Node& operator[](NodeId id) { return nodes[Index(id)]; }
  const Node& operator[](NodeId id) const { return nodes[Index(id)]; }
  bool IsConstant(ValueId id) const { return id != ValueId::kNone && (*this)[id].kind == ValueKind::kConstant; }

  ValueId AddValue(Value value);
  // The value of that name, or kNone. Linear; build a map for many look-ups.
  ValueId FindValue(std::string_view value_name) const;

  // Equal ids, names, types, data and parameters: nothing is left out. Linear in the bytes of the constants.
  friend bool operator==(const Graph&, const Graph&) = default;
};

// Who makes and who reads each value: recomputed on demand, indexed by value.
struct Uses {
  explicit Uses(const Graph& graph);
  // The node that computes a value, or kNone for inputs and constants.
  std::vector<NodeId> producer;
  // The nodes that read it, through inputs or epilogue, each once, in order.
  std::vector<std::vector<NodeId>> readers;
  // It is an output of the graph.
  std::vector<bool> is_output;
  // Exactly one node reads it and it is no graph output.
  bool HasOneReader(ValueId id) const { return readers[Index(id)].size() == 1 && !is_output[Index(id)]; }
};

// All operands of a node: its inputs, then its epilogue's. kNone entries are kept.
std::vector<ValueId> Operands(const Node& node);

// Drops values that no node, input or output mentions, and renumbers.
void Compact(Graph& graph);
// Drops nodes none of whose outputs is needed, then compacts. Graph inputs stay.
void RemoveDeadNodes(Graph& graph);
// Reorders nodes so that each value is computed before it is used; an error names a node on a cycle.
Status SortTopologically(Graph& graph);
// Every use of `from` (inputs, epilogues, graph outputs) becomes a use of `to`.
void ReplaceAllUses(Graph& graph, ValueId from, ValueId to);

}  // namespace tessera

#endif  // TESSERA_GRAPH_GRAPH_H_
