#include "graph/passes/testing/at_borders.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "graph/interpreter.h"
#include "graph/op.h"

namespace tessera {
namespace {

// What the node rounds to integers, before it does; nothing if it rounds nothing at the end.
std::optional<RefTensor> Reals(const Graph& graph, const Node& node, std::span<const RefTensor* const> operands) {
  Compute compute = NodeCompute(graph, node);
  Stage& last = compute.stages.back();
  Body& body = last.finish.empty() ? last.body : last.finish;
  const auto rounds = std::find_if(body.insts.rbegin(), body.insts.rend(),
                                   [](const ScalarInst& inst) { return inst.op == ScalarOp::kRoundEven; });
  if (rounds == body.insts.rend() || last.write.buffer != BufferRef{BufferKind::kOutput, 0}) return std::nullopt;
  body.result = rounds->args[0];
  compute.outputs[0].dtype = DType::kF64;
  const RefTensor none;
  std::vector<const RefTensor*> buffers(operands.begin(), operands.end());
  for (const RefTensor*& buffer : buffers) buffer = buffer == nullptr ? &none : buffer;
  std::vector<RefTensor> results;
  Evaluate(compute, buffers, results);
  return std::move(results[0]);
}

// From the nearest middle of two integers.
double FromBorder(double real) { return std::abs(real - std::floor(real) - 0.5); }

}  // namespace

StatusOr<Borders> CompareAtBorders(const Graph& before, const Graph& after, std::span<const Tensor> inputs) {
  if (before.nodes.size() != after.nodes.size()) {
    return Error(ErrorCode::kUsageInvalid, "graph '", before.name, "': expected as many nodes before as after, found ",
                 before.nodes.size(), " and ", after.nodes.size());
  }
  // Of the graph before: its own constants and inputs, and what the graph after computes.
  ASSIGN_OR_RETURN(std::vector<RefTensor> values, InterpretAll(before, inputs));
  ASSIGN_OR_RETURN(const std::vector<RefTensor> found, InterpretAll(after, inputs));
  Borders borders;
  for (size_t n = 0; n < before.nodes.size(); ++n) {
    const Node& node = before.nodes[n];
    const RefTensor& y = found[static_cast<size_t>(Index(after.nodes[n].outputs[0]))];
    std::vector<const RefTensor*> operands;
    for (ValueId id : Operands(node)) {
      operands.push_back(id == ValueId::kNone ? nullptr : &values[static_cast<size_t>(Index(id))]);
    }
    const std::vector<RefTensor> expected = InterpretNode(before, node, operands);
    if (expected[0].type != y.type) {
      return Error(ErrorCode::kUsageInvalid, "node '", node.name, "': expected ", expected[0].type.ToString(),
                   " after the pass, found ", y.type.ToString());
    }
    if (!y.is_float()) {
      borders.integers += y.size();
      std::optional<RefTensor> reals;
      for (int64_t k = 0; k < y.size(); ++k) {
        const int64_t e = expected[0].i[static_cast<size_t>(k)], f = y.i[static_cast<size_t>(k)];
        if (e == f) continue;
        if (!reals) reals = Reals(before, node, operands);
        const double real = reals ? reals->f[static_cast<size_t>(k)] : e;
        if (std::abs(e - f) != 1 || FromBorder(real) > kBorder) {
          return Error(ErrorCode::kInternal, "node '", node.name, "', element ", k, ": expected ", e, " (from ", real,
                       ", ", FromBorder(real), " from a border), found ", f);
        }
        ++borders.other_side;
        borders.farthest = std::max(borders.farthest, FromBorder(real));
      }
    }
    for (size_t k = 0; k < node.outputs.size(); ++k) {
      values[static_cast<size_t>(Index(node.outputs[k]))] =
          found[static_cast<size_t>(Index(after.nodes[n].outputs[k]))];
    }
  }
  return borders;
}

}  // namespace tessera
