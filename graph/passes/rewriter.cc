#include "graph/passes/rewriter.h"

#include <algorithm>
#include <utility>

#include "graph/op.h"

namespace tessera {
namespace {

// A rule set that undoes itself would run for ever; no honest one looks at a node this often.
constexpr int64_t kStepsPerNode = 200;

}  // namespace

Node MakeNode(Op op, std::string name, std::vector<ValueId> inputs, Attrs attrs) {
  Node node;
  node.op = op;
  node.name = std::move(name);
  node.inputs = std::move(inputs);
  node.attrs = std::move(attrs);
  return node;
}

Rewriter::Rewriter(Graph& graph)
    : graph_(graph),
      producer_(graph.values.size(), NodeId::kNone),
      readers_(graph.values.size()),
      output_uses_(graph.values.size(), 0),
      alive_(graph.nodes.size(), true),
      queued_(graph.nodes.size(), true),
      num_values_before_(graph.values.size()),
      steps_left_(kStepsPerNode * static_cast<int64_t>(graph.nodes.size() + 10)) {
  for (const Value& value : graph.values) names_.insert(value.name);
  for (ValueId id : graph.outputs) ++output_uses_[Index(id)];
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const NodeId id = static_cast<NodeId>(n);
    for (ValueId out : graph.nodes[n].outputs) producer_[Index(out)] = id;
    AddReads(id);
    queue_.push_back(id);
    prev_.push_back(last_);
    next_.push_back(NodeId::kNone);
    (last_ == NodeId::kNone ? first_ : next_[Index(last_)]) = id;
    last_ = id;
  }
}

bool Rewriter::ProducerIs(ValueId id, Op op) const {
  const NodeId n = Producer(id);
  return n != NodeId::kNone && node(n).op == op && !node(n).epilogue;
}

NodeId Rewriter::Behind(ValueId id) const {
  const NodeId n = Producer(id);
  return n == NodeId::kNone ? first_ : next_[Index(n)];
}

bool Rewriter::Next(NodeId& id) {
  while (!queue_.empty() && status_.ok()) {
    id = queue_.front();
    queue_.pop_front();
    queued_[Index(id)] = false;
    if (!alive_[Index(id)]) continue;
    if (--steps_left_ >= 0) return true;
    Fail(Error(ErrorCode::kInternal, "node '", node(id).name, "': the rules of a pass undo each other"));
  }
  return false;
}

std::string Rewriter::UniqueName(std::string_view wanted) {
  std::string name(wanted.empty() ? std::string_view("t") : wanted);
  if (names_.insert(name).second) return name;
  int& counter = counters_[name];
  std::string numbered;
  do {
    numbered = name + "." + std::to_string(++counter);
  } while (!names_.insert(numbered).second);
  return numbered;
}

ValueId Rewriter::NewValue(Value value) {
  producer_.push_back(NodeId::kNone);
  readers_.emplace_back();
  output_uses_.push_back(0);
  return graph_.AddValue(std::move(value));
}

ValueId Rewriter::Constant(std::string_view name, Tensor data, std::optional<Attribute> tesa) {
  Value value;
  value.name = UniqueName(name);
  value.type = data.type();
  value.kind = ValueKind::kConstant;
  value.constant = std::move(data);
  value.tesa = std::move(tesa);
  return NewValue(std::move(value));
}

ValueId Rewriter::Emit(NodeId before, Op op, std::vector<ValueId> inputs, Attrs attrs, std::string_view name) {
  return Emit(before, MakeNode(op, std::string(name), std::move(inputs), std::move(attrs)));
}

ValueId Rewriter::Emit(NodeId before, Node made) {
  if (!status_.ok()) return ValueId::kNone;
  if (made.name.empty()) made.name = before == NodeId::kNone ? "t" : node(before).name;
  StatusOr<std::vector<TensorType>> types = InferTypes(graph_, made);
  if (!types.ok()) {
    Fail(types.status());
    return ValueId::kNone;
  }
  Value result;
  result.name = UniqueName(made.name);
  result.type = types->at(0);
  if (made.epilogue) result.type.dtype = made.epilogue->dtype;
  const ValueId out = NewValue(std::move(result));
  const NodeId id = static_cast<NodeId>(graph_.nodes.size());
  producer_[Index(out)] = id;
  made.outputs = {out};
  graph_.nodes.push_back(std::move(made));
  alive_.push_back(true);
  queued_.push_back(false);
  const NodeId after = before == NodeId::kNone ? last_ : prev_[Index(before)];
  next_.push_back(before);
  prev_.push_back(after);
  (after == NodeId::kNone ? first_ : next_[Index(after)]) = id;
  (before == NodeId::kNone ? last_ : prev_[Index(before)]) = id;
  AddReads(id);
  Push(id);
  return out;
}

void Rewriter::Rebuild(NodeId id, Node replacement) {
  if (!status_.ok()) return;
  replacement.outputs = node(id).outputs;
  if (replacement.name.empty()) replacement.name = node(id).name;
  StatusOr<std::vector<TensorType>> types = InferTypes(graph_, replacement);
  if (!types.ok()) return Fail(types.status());
  if (replacement.epilogue) types->at(0).dtype = replacement.epilogue->dtype;
  if (types->at(0) != type(replacement.outputs[0])) {
    return Fail(Error(ErrorCode::kInternal, "node '", replacement.name, "': a pass changed the result from ",
                      type(replacement.outputs[0]), " to ", types->at(0)));
  }
  const Node old = std::exchange(graph_[id], std::move(replacement));
  for (ValueId operand : Operands(old)) {
    if (operand != ValueId::kNone) readers_[Index(operand)].erase(id);
  }
  AddReads(id);
  for (ValueId operand : Operands(old)) {
    if (operand == ValueId::kNone) continue;
    if (Producer(operand) != NodeId::kNone) RemoveIfDead(Producer(operand));
    PushReaders(operand);
  }
  Push(id);
  for (ValueId out : node(id).outputs) PushReaders(out);
}

bool Rewriter::Replace(ValueId from, ValueId to) {
  if (!status_.ok() || from == to || to == ValueId::kNone) return false;
  if (type(from) != type(to)) {
    Fail(Error(ErrorCode::kInternal, "value '", value(from).name, "': a pass replaced ", type(from), " by ", type(to)));
    return false;
  }
  const NodeId maker = Producer(to), replaced = Producer(from);
  if (IsOutput(from) && maker != NodeId::kNone && replaced != NodeId::kNone && !IsOutput(to)) {
    // The two change places: `to` is what the rest of this function removes.
    const auto rename = [&](NodeId id, ValueId old_id, ValueId new_id) {
      for (ValueId& out : graph_[id].outputs) {
        if (out == old_id) out = new_id;
      }
      producer_[Index(new_id)] = id;
    };
    rename(maker, to, from);
    rename(replaced, from, to);
    std::swap(from, to);
  } else if (Readers(from).empty()) {
    return false;
  } else if (value(from).quant && !value(to).quant) {
    graph_[to].quant = value(from).quant;
  }
  const std::set<NodeId> readers = std::exchange(readers_[Index(from)], {});
  for (NodeId reader : readers) {
    for (ValueId& id : graph_[reader].inputs) {
      if (id == from) id = to;
    }
    if (graph_[reader].epilogue) {
      for (ValueId& id : graph_[reader].epilogue->inputs) {
        if (id == from) id = to;
      }
    }
    readers_[Index(to)].insert(reader);
    Push(reader);
  }
  if (Producer(from) != NodeId::kNone) RemoveIfDead(Producer(from));
  if (Producer(to) != NodeId::kNone) Push(Producer(to));
  return true;
}

void Rewriter::TurnIntoConstant(NodeId id, Tensor data, std::optional<Attribute> tesa) {
  if (!status_.ok()) return;
  const ValueId out = node(id).outputs[0];
  if (data.type() != type(out) || IsOutput(out) || node(id).outputs.size() != 1) {
    return Fail(
        Error(ErrorCode::kInternal, "node '", node(id).name, "': a pass folded ", type(out), " to ", data.type()));
  }
  Value& value = graph_[out];
  value.kind = ValueKind::kConstant;
  value.constant = std::move(data);
  value.tesa = std::move(tesa);
  producer_[Index(out)] = NodeId::kNone;
  graph_[id].outputs.clear();
  Unlink(id);
  DropReads(id);
  PushReaders(out);
}

Status Rewriter::Finish() && {
  std::vector<Node> ordered;
  ordered.reserve(graph_.nodes.size());
  for (NodeId id = first_; id != NodeId::kNone; id = next_[Index(id)]) ordered.push_back(std::move(graph_[id]));
  graph_.nodes = std::move(ordered);
  NumberValues();
  return status_;
}

// Drops unused values. What is new gets its number where it is defined: constants before their first reader.
void Rewriter::NumberValues() {
  std::vector<ValueId> renamed(graph_.values.size(), ValueId::kNone);
  std::vector<Value> kept;
  const auto keep = [&](ValueId id) {
    if (id == ValueId::kNone || renamed[Index(id)] != ValueId::kNone) return;
    renamed[Index(id)] = static_cast<ValueId>(kept.size());
    kept.push_back(std::move(graph_[id]));
  };
  const auto rename = [&](ValueId& id) {
    if (id != ValueId::kNone) id = renamed[Index(id)];
  };
  for (ValueId id : graph_.inputs) keep(id);
  // Constants that were there before stay in front of what is computed.
  for (size_t k = 0; k < num_values_before_; ++k) {
    const ValueId id = static_cast<ValueId>(k);
    if (graph_.IsConstant(id) && (IsOutput(id) || !Readers(id).empty())) keep(id);
  }
  for (Node& made : graph_.nodes) {
    for (ValueId id : Operands(made)) keep(id);
    for (ValueId id : made.outputs) keep(id);
  }
  for (ValueId id : graph_.outputs) keep(id);
  graph_.values = std::move(kept);
  for (ValueId& id : graph_.inputs) rename(id);
  for (ValueId& id : graph_.outputs) rename(id);
  for (Node& made : graph_.nodes) {
    for (ValueId& id : made.inputs) rename(id);
    for (ValueId& id : made.outputs) rename(id);
    if (!made.epilogue) continue;
    for (ValueId& id : made.epilogue->inputs) rename(id);
  }
}

void Rewriter::AddReads(NodeId id) {
  for (ValueId operand : Operands(graph_[id])) {
    if (operand != ValueId::kNone) readers_[Index(operand)].insert(id);
  }
}

// Forgets what a removed node read; what only it read goes too.
void Rewriter::DropReads(NodeId id) {
  std::vector<NodeId> pending = {id};
  while (!pending.empty()) {
    const NodeId removed = pending.back();
    pending.pop_back();
    for (ValueId operand : Operands(graph_[removed])) {
      if (operand == ValueId::kNone || readers_[Index(operand)].erase(removed) == 0) continue;
      const NodeId maker = Producer(operand);
      if (maker != NodeId::kNone && alive_[Index(maker)]) {
        bool needed = false;
        for (ValueId out : graph_[maker].outputs) needed |= !Readers(out).empty() || IsOutput(out);
        if (!needed) {
          Unlink(maker);
          pending.push_back(maker);
          continue;
        }
      }
      // Rules that ask for a single reader may apply now.
      if (Readers(operand).size() == 1) PushReaders(operand);
    }
  }
}

void Rewriter::RemoveIfDead(NodeId id) {
  if (!alive_[Index(id)]) return;
  for (ValueId out : graph_[id].outputs) {
    if (!Readers(out).empty() || IsOutput(out)) return;
  }
  Unlink(id);
  DropReads(id);
}

void Rewriter::Unlink(NodeId id) {
  alive_[Index(id)] = false;
  const NodeId before = prev_[Index(id)], after = next_[Index(id)];
  (before == NodeId::kNone ? first_ : next_[Index(before)]) = after;
  (after == NodeId::kNone ? last_ : prev_[Index(after)]) = before;
}

void Rewriter::Push(NodeId id) {
  if (!alive_[Index(id)] || queued_[Index(id)]) return;
  queued_[Index(id)] = true;
  queue_.push_back(id);
}

void Rewriter::PushReaders(ValueId id) {
  for (NodeId reader : Readers(id)) Push(reader);
}

void Rewriter::Fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

}  // namespace tessera
