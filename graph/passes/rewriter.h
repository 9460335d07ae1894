// Rewriter: edits a graph in place and keeps, at every step, who makes and who reads each value.
//
//   Rewriter r(graph);
//   for (NodeId n; r.Next(n);) {                                    // each node, and each again that an edit touched
//     if (r.node(n).op == Op::kNeg && r.ProducerIs(r.node(n).inputs[0], Op::kNeg)) {
//       r.Replace(r.node(n).outputs[0], r.node(r.Producer(r.node(n).inputs[0])).inputs[0]);     // neg(neg(x)) -> x
//     }
//   }
//   return std::move(r).Finish();
//
// New nodes stand before a node that is given, so the order of the graph stays one in which values are computed before
// they are read. A node whose results nobody needs any more disappears at once, with all that only it needed. Names of
// graph outputs survive every edit. Each edit costs O(log) of the readers it touches. The first wrong edit (a node that
// does not infer, a result of another type) is remembered and returned by Finish; after it edits do nothing.
// Not for sharing between threads. Tested by canonicalize_test.cc and through the other passes.
#ifndef TESSERA_GRAPH_PASSES_REWRITER_H_
#define TESSERA_GRAPH_PASSES_REWRITER_H_

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "graph/graph.h"

namespace tessera {

// A node whose outputs are still to be made.
Node MakeNode(Op op, std::string name, std::vector<ValueId> inputs, Attrs attrs = {});

class Rewriter {
 public:
  // `graph` outlives the Rewriter and is in a valid state again after Finish.
  explicit Rewriter(Graph& graph);

  const Graph& graph() const { return graph_; }
  // Valid until the next edit.
  const Node& node(NodeId id) const { return graph_[id]; }
  const Value& value(ValueId id) const { return graph_[id]; }
  const TensorType& type(ValueId id) const { return graph_[id].type; }
  const Shape& shape(ValueId id) const { return graph_[id].type.shape; }

  // The node that computes a value; kNone for inputs, constants and absent operands.
  NodeId Producer(ValueId id) const { return id == ValueId::kNone ? NodeId::kNone : producer_[Index(id)]; }
  // Is it computed by a node of this op that has no epilogue?
  bool ProducerIs(ValueId id, Op op) const;
  // Each node that reads it, once.
  const std::set<NodeId>& Readers(ValueId id) const { return readers_[Index(id)]; }
  bool IsOutput(ValueId id) const { return output_uses_[Index(id)] > 0; }
  // Exactly one node reads it and it is no graph output.
  bool HasOneReader(ValueId id) const { return Readers(id).size() == 1 && !IsOutput(id); }
  bool IsAlive(NodeId id) const { return alive_[Index(id)]; }
  // The node before which whatever reads `id` may stand first; kNone: at the end.
  NodeId Behind(ValueId id) const;
  // In the graph's order; kNone ends it.
  NodeId First() const { return first_; }
  NodeId Following(NodeId id) const { return next_[Index(id)]; }

  // The next node to look at: all in order, then those that edits touched. False when none is left.
  bool Next(NodeId& id);

  // A new constant; the name is made unique.
  ValueId Constant(std::string_view name, Tensor data, std::optional<Attribute> tesa = {});
  // A new node before `before` (kNone: at the end) and its single result. Names are made unique; when empty, they are
  // those of `before`.
  ValueId Emit(NodeId before, Op op, std::vector<ValueId> inputs, Attrs attrs = {}, std::string_view name = {});
  // Likewise from a whole node, whose outputs are ignored.
  ValueId Emit(NodeId before, Node node);
  // The node becomes `replacement`, in its place, and computes the same outputs, which keep their types.
  void Rebuild(NodeId id, Node replacement);
  // Uses of `from` become uses of `to`, of the same type. Where `from` is a graph output, it keeps its name: `to` takes
  // it over where it can, else only the other uses change. False when nothing changed.
  bool Replace(ValueId from, ValueId to);
  // How integers of this edge stand for reals.
  void SetQuant(ValueId id, QuantParams quant) {
    if (id != ValueId::kNone) graph_[id].quant = std::move(quant);
  }
  // Declared sparsity and precision.
  void SetTesa(ValueId id, Attribute tesa) {
    if (id != ValueId::kNone) graph_[id].tesa = std::move(tesa);
  }
  // Drops the node where nobody needs its results (which edits notice by themselves unless nobody ever did).
  void RemoveIfDead(NodeId id);
  // The node's results become constants where they stand; they are no graph outputs.
  void TurnIntoConstant(NodeId id, Tensor data, std::optional<Attribute> tesa);

  const Status& status() const { return status_; }
  // Puts the graph in order and drops what is not used.
  Status Finish() &&;

 private:
  std::string UniqueName(std::string_view wanted);
  ValueId NewValue(Value value);
  void AddReads(NodeId id);
  void DropReads(NodeId id);
  void Unlink(NodeId id);
  void NumberValues();
  void Push(NodeId id);
  void PushReaders(ValueId id);
  void Fail(Status status);

  Graph& graph_;
  Status status_;
  std::vector<NodeId> producer_;           // by value
  std::vector<std::set<NodeId>> readers_;  // by value
  std::vector<int> output_uses_;           // by value: how often it is a graph output
  std::vector<bool> alive_, queued_;       // by node
  std::vector<NodeId> next_, prev_;        // by node: the order
  NodeId first_ = NodeId::kNone, last_ = NodeId::kNone;
  std::deque<NodeId> queue_;
  size_t num_values_before_ = 0;
  int64_t steps_left_ = 0;
  std::unordered_set<std::string> names_;
  std::map<std::string, int, std::less<>> counters_;
};

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_REWRITER_H_
