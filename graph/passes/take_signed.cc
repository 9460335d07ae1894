#include "graph/passes/take_signed.h"

#include <algorithm>
#include <vector>

#include "graph/op.h"
#include "graph/passes/rewriter.h"
#include "graph/passes/unsigned_integers.h"

namespace tessera {
namespace {

// Of u = x + 128, made by an xor: the i8 value x; kNone for anything else.
ValueId SignedSource(const Rewriter& r, ValueId u) {
  if (!r.ProducerIs(u, Op::kXor) || r.node(r.Producer(u)).epilogue) return ValueId::kNone;
  const Node& node = r.node(r.Producer(u));
  for (int side : {0, 1}) {
    const ValueId bits = node.inputs[side], high = node.inputs[1 - side];
    if (!r.graph().IsConstant(high) || r.shape(high).num_elements() != 1) continue;
    if (r.value(high).constant.Get(0) != kUnsignedOffset || !r.ProducerIs(bits, Op::kCast)) continue;
    const Node& cast = r.node(r.Producer(bits));
    if (!cast.epilogue && r.type(cast.inputs[0]).dtype == DType::kI8) return cast.inputs[0];
  }
  return ValueId::kNone;
}

// 128 times the sum of each column of a constant matrix.
std::vector<double> Corrections(const Rewriter& r, const Node& node) {
  const Tensor& w = r.value(node.inputs[1]).constant;
  const bool transposed = node.attrs.Int("transpose_b", 0) != 0;
  const int64_t depth = w.shape()[transposed ? 1 : 0], columns = w.shape()[transposed ? 0 : 1];
  std::vector<double> sums(static_cast<size_t>(columns), 0);
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t n = 0; n < columns; ++n) {
      sums[static_cast<size_t>(n)] += kUnsignedOffset * w.Get(transposed ? n * depth + k : k * columns + n);
    }
  }
  return sums;
}

void TakeSigned(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  if (node.op != Op::kMatmul || node.epilogue || node.attrs.Int("transpose_a", 0) != 0) return;
  const ValueId w = node.inputs[1], sums = node.outputs[0];
  if (!r.graph().IsConstant(w) || r.type(w).dtype != DType::kI8 || r.shape(w).rank() != 2) return;
  const ValueId x = SignedSource(r, node.inputs[0]);
  if (x == ValueId::kNone || !r.HasOneReader(sums)) return;
  const NodeId reader = *r.Readers(sums).begin();
  const Node add = r.node(reader);
  if (add.op != Op::kAdd || add.epilogue || add.inputs[0] == add.inputs[1]) return;
  const int side = add.inputs[0] == sums ? 1 : 0;
  const ValueId constant = add.inputs[side];
  std::vector<double> all = Corrections(r, node);
  const int rank = r.shape(sums).rank();
  // The constant stands along the columns, or for all of them.
  if (!r.graph().IsConstant(constant) || r.shape(add.outputs[0]) != r.shape(sums)) return;
  const int64_t count = r.shape(constant).num_elements();
  const bool along = count == static_cast<int64_t>(all.size()) && r.shape(constant).rank() >= 1 &&
                     r.shape(constant)[r.shape(constant).rank() - 1] == count;
  if (!along && count != 1) return;
  for (size_t n = 0; n < all.size(); ++n) all[n] += r.value(constant).constant.Get(along ? static_cast<int64_t>(n) : 0);
  const ValueId product = r.Emit(id, MakeNode(Op::kMatmul, node.name, {x, w}, node.attrs));
  if (!r.status().ok()) return;
  if (std::all_of(all.begin(), all.end(), [](double v) { return v == 0; })) {
    r.Replace(add.outputs[0], product);
    return;
  }
  std::vector<int64_t> dims(static_cast<size_t>(rank), 1);
  dims.back() = static_cast<int64_t>(all.size());
  Tensor correction(DType::kI32, Shape(std::move(dims)));
  for (size_t n = 0; n < all.size(); ++n) correction.Set(static_cast<int64_t>(n), all[n]);
  r.Rebuild(reader, MakeNode(Op::kAdd, add.name, {product, r.Constant(node.name + ".correction", correction)}));
}

}  // namespace

Status TakeSigned(Graph& graph) {
  Rewriter r(graph);
  for (NodeId id = r.First(); id != NodeId::kNone && r.status().ok();) {
    const NodeId next = r.Following(id);
    TakeSigned(r, id);
    id = next;
  }
  return std::move(r).Finish();
}

}  // namespace tessera
