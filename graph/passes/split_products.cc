#include "graph/passes/split_products.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "graph/op.h"
#include "graph/passes/constants.h"
#include "graph/passes/rewriter.h"

namespace tessera {
namespace {

// Parts so narrow are not worth a product of their own, nor are so many of them.
constexpr int64_t kMinColumns = 8;
constexpr size_t kMaxParts = 8;

// Positions along one dimension of a value.
struct Positions {
  int dim = 0;
  std::vector<int64_t> kept;
};

// What a slice takes of its operand, where it cuts exactly one dimension.
std::optional<Positions> PositionsOf(const Rewriter& r, const Node& slice) {
  const Shape& from = r.shape(slice.inputs[0]);
  const Shape& to = r.shape(slice.outputs[0]);
  const std::vector<int64_t>&starts = slice.attrs.Ints("starts"), &steps = slice.attrs.Ints("steps");
  std::optional<Positions> cut;
  for (int d = 0; d < from.rank(); ++d) {
    if (from[d] == to[d] && (from[d] == 1 || steps[d] == 1)) continue;
    if (cut || to[d] == 0) return std::nullopt;
    cut = Positions{d, {}};
    for (int64_t k = 0; k < to[d]; ++k) cut->kept.push_back(starts[d] + k * steps[d]);
  }
  return cut;
}

// The elements of a constant at these positions, its sparsity with them.
ValueId Take(Rewriter& r, ValueId id, const Positions& p) {
  const Value source = r.value(id);
  const Shape& shape = source.type.shape;
  std::vector<int64_t> dims = shape.dims();
  dims[p.dim] = static_cast<int64_t>(p.kept.size());
  Tensor taken(source.type.dtype, Shape(dims));
  const int64_t inner = shape.Strides()[p.dim], outer = inner == 0 ? 0 : shape.num_elements() / (inner * shape[p.dim]);
  std::vector<uint8_t> bits;
  const std::vector<uint8_t> from_bits = source.tesa ? source.tesa->Bits() : std::vector<uint8_t>();
  const int width = TypeInfo(source.type.dtype).bits;
  int64_t to = 0;
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t position : p.kept) {
      const int64_t from = (o * shape[p.dim] + position) * inner;
      if (width >= 8) {
        const auto source_bytes = source.constant.bytes().subspan(from * width / 8, inner * width / 8);
        std::copy(source_bytes.begin(), source_bytes.end(), taken.mutable_bytes().begin() + to * width / 8);
      } else {
        for (int64_t i = 0; i < inner; ++i) taken.SetInt(to + i, source.constant.GetInt(from + i));
      }
      if (source.tesa) bits.insert(bits.end(), from_bits.begin() + from, from_bits.begin() + from + inner);
      to += inner;
    }
  }
  std::optional<Attribute> tesa;
  if (source.tesa) tesa = Attribute::FromBits(Shape(dims), bits);
  const ValueId result = r.Constant(source.name, std::move(taken), std::move(tesa));
  if (source.quant && source.quant->axis < 0) r.SetQuant(result, *source.quant);
  return result;
}

// Where a dimension of a reshape's result lies in its operand: dimension `dim`, whose index is (a, the result's, b).
struct Within {
  int dim = 0;
  int64_t before = 1, behind = 1;  // extents of a and b
};
std::optional<Within> WithinOperand(const Shape& from, const Shape& to, int dim) {
  const auto product = [](const Shape& shape, int first, int end) {
    int64_t all = 1;
    for (int d = first; d < end; ++d) all *= shape[d];
    return all;
  };
  if (to.num_elements() == 0) return std::nullopt;
  const int64_t outer = product(to, 0, dim), inner = product(to, dim + 1, to.rank());
  for (int d = 0; d < from.rank(); ++d) {
    const int64_t from_outer = product(from, 0, d), from_inner = product(from, d + 1, from.rank());
    if (outer % from_outer != 0 || inner % from_inner != 0) continue;
    const Within within = {d, outer / from_outer, inner / from_inner};
    if (within.before * to[dim] * within.behind == from[d]) return within;
  }
  return std::nullopt;
}

// Follows positions from a slice up to the product, and makes what lies between anew for them alone.
class Part {
 public:
  // `make` false: only whether it can be done. The product is `root`.
  Part(Rewriter& r, NodeId root, NodeId before, bool make) : r_(r), root_(root), before_(before), make_(make) {}

  // The value with these positions alone; nothing where that cannot be. Where nothing is made, the value itself.
  std::optional<ValueId> Select(ValueId id, const Positions& p) {
    if (const auto it = done_.find({id, p.dim, p.kept}); it != done_.end()) return it->second;
    const std::optional<ValueId> selected = r_.graph().IsConstant(id) ? Constant(id, p) : Computed(id, p);
    if (selected) done_[{id, p.dim, p.kept}] = *selected;
    return selected;
  }

 private:
  std::optional<ValueId> Constant(ValueId id, const Positions& p) { return make_ ? Take(r_, id, p) : id; }

  std::optional<ValueId> Computed(ValueId id, const Positions& p) {
    const NodeId producer = r_.Producer(id);
    if (producer == NodeId::kNone) return std::nullopt;
    const Node node = r_.node(producer);
    if (node.epilogue || node.outputs.size() != 1 || r_.value(id).tesa) return std::nullopt;
    switch (node.op) {
      case Op::kMatmul: return producer == root_ ? Product(node, p) : std::nullopt;
      case Op::kTranspose: return Transposed(node, p);
      case Op::kReshape: return Reshaped(node, p);
      case Op::kQuantize:
      case Op::kDequantize: return Scaled(node, p);
      default: return GetOp(node.op).elementwise() ? Elementwise(node, p) : std::nullopt;
    }
  }

  std::optional<ValueId> Emit(const Node& like, std::vector<ValueId> inputs, Attrs attrs) {
    if (!make_) return like.outputs[0];
    if (!r_.status().ok()) return std::nullopt;
    const ValueId made = r_.Emit(before_, like.op, std::move(inputs), std::move(attrs), like.name);
    const std::optional<QuantParams> quant = r_.value(like.outputs[0]).quant;
    if (quant && quant->axis < 0) r_.SetQuant(made, *quant);
    return r_.status().ok() ? std::optional(made) : std::nullopt;
  }

  std::optional<ValueId> Product(const Node& node, const Positions& p) {
    const int rank = r_.shape(node.outputs[0]).rank();
    if (p.dim != rank - 1) return std::nullopt;
    const ValueId weights = node.inputs[1];
    const int columns = r_.shape(weights).rank() - 1 - static_cast<int>(node.attrs.Int("transpose_b", 0));
    const std::optional<ValueId> selected = Select(weights, {columns, p.kept});
    if (!selected) return std::nullopt;
    std::vector<ValueId> inputs = node.inputs;
    inputs[1] = *selected;
    return Emit(node, std::move(inputs), node.attrs);
  }

  std::optional<ValueId> Transposed(const Node& node, const Positions& p) {
    const std::vector<int64_t> perm = node.attrs.Ints("perm");
    const std::optional<ValueId> x = Select(node.inputs[0], {static_cast<int>(perm[p.dim]), p.kept});
    if (!x || !make_ || p.kept.size() > 1) return x ? Emit(node, {*x}, node.attrs) : std::nullopt;
    // The dimension is of extent 1 now; without it the transposition reads as that of the others alone.
    std::vector<int64_t> dims = r_.shape(*x).dims(), rest;
    dims.erase(dims.begin() + perm[p.dim]);
    for (int64_t d : perm) {
      if (d != perm[p.dim]) rest.push_back(d > perm[p.dim] ? d - 1 : d);
    }
    const ValueId flat = Reshape(*x, Shape(dims), node.name);
    if (!r_.status().ok()) return std::nullopt;
    const ValueId turned = r_.Emit(before_, Op::kTranspose, {flat}, MakeAttrs({{"perm", rest}}), node.name);
    if (!r_.status().ok()) return std::nullopt;
    dims = r_.shape(turned).dims();
    dims.insert(dims.begin() + p.dim, 1);
    return Reshape(turned, Shape(dims), node.name);
  }

  ValueId Reshape(ValueId x, const Shape& shape, const std::string& name) {
    return r_.Emit(before_, Op::kReshape, {x}, MakeAttrs({{"shape", shape.dims()}}), name);
  }

  std::optional<ValueId> Reshaped(const Node& node, const Positions& p) {
    const Shape from = r_.shape(node.inputs[0]), to = r_.shape(node.outputs[0]);
    const std::optional<Within> within = WithinOperand(from, to, p.dim);
    if (!within) return std::nullopt;
    Positions below = {within->dim, {}};
    for (int64_t a = 0; a < within->before; ++a) {
      for (int64_t position : p.kept) {
        for (int64_t b = 0; b < within->behind; ++b) {
          below.kept.push_back((a * to[p.dim] + position) * within->behind + b);
        }
      }
    }
    const std::optional<ValueId> x = Select(node.inputs[0], below);
    if (!x) return std::nullopt;
    std::vector<int64_t> dims = to.dims();
    dims[p.dim] = static_cast<int64_t>(p.kept.size());
    return Emit(node, {*x}, MakeAttrs({{"shape", dims}}));
  }

  // quantize or dequantize: scales and zero points are cut where they are along the dimension or beside it.
  std::optional<ValueId> Scaled(const Node& node, const Positions& p) {
    const bool blocked = node.attrs.Int("block_size", 0) > 0;
    const int rank = r_.shape(node.inputs[0]).rank();
    int64_t axis = node.attrs.Int("axis", 1);
    if (axis < 0) axis += rank;
    if (blocked && axis == p.dim) return std::nullopt;
    std::vector<ValueId> inputs = node.inputs;
    const std::optional<ValueId> x = Select(inputs[0], p);
    if (!x) return std::nullopt;
    inputs[0] = *x;
    for (size_t k = 1; k < inputs.size(); ++k) {
      if (inputs[k] == ValueId::kNone || r_.shape(inputs[k]).rank() == 0) continue;
      if (!blocked && (axis != p.dim || r_.shape(inputs[k]).num_elements() == 1)) continue;
      const std::optional<ValueId> scale = Select(inputs[k], {blocked ? p.dim : 0, p.kept});
      if (!scale) return std::nullopt;
      inputs[k] = *scale;
    }
    return Emit(node, std::move(inputs), node.attrs);
  }

  std::optional<ValueId> Elementwise(const Node& node, const Positions& p) {
    std::vector<ValueId> inputs = node.inputs;
    const int rank = r_.shape(node.outputs[0]).rank();
    for (ValueId& input : inputs) {
      if (input == ValueId::kNone) continue;
      const int dim = p.dim - (rank - r_.shape(input).rank());
      if (dim < 0 || r_.shape(input)[dim] == 1) continue;
      const std::optional<ValueId> selected = Select(input, {dim, p.kept});
      if (!selected) return std::nullopt;
      input = *selected;
    }
    return Emit(node, std::move(inputs), node.attrs);
  }

  Rewriter& r_;
  const NodeId root_, before_;
  const bool make_;
  std::map<std::tuple<ValueId, int, std::vector<int64_t>>, ValueId> done_;
};

// The slices that all readers of `id` come to; false where one of them is something else.
bool CollectSlices(const Rewriter& r, ValueId id, std::set<NodeId>& seen, std::vector<NodeId>& slices) {
  if (r.IsOutput(id) || r.Readers(id).empty()) return false;
  for (const NodeId reader : r.Readers(id)) {
    if (!seen.insert(reader).second) continue;
    const Node& node = r.node(reader);
    if (node.epilogue) return false;
    if (node.op == Op::kSlice) {
      slices.push_back(reader);
      continue;
    }
    const bool between = node.op == Op::kTranspose || node.op == Op::kReshape || node.op == Op::kQuantize ||
                         node.op == Op::kDequantize || GetOp(node.op).elementwise();
    if (!between || slices.size() > kMaxParts || !CollectSlices(r, node.outputs[0], seen, slices)) return false;
  }
  return true;
}

void SplitProduct(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  const Shape shape = r.shape(node.outputs[0]);
  if (node.epilogue || r.shape(node.inputs[1]).rank() != 2 || r.shape(node.inputs[0]).rank() < 2) return;
  const int64_t columns = shape[shape.rank() - 1];
  if (columns < kMinColumns || shape.num_elements() <= columns) return;
  std::set<NodeId> seen;
  std::vector<NodeId> slices;
  if (!CollectSlices(r, node.outputs[0], seen, slices) || slices.size() > kMaxParts) return;
  int64_t left = shape.num_elements();
  for (NodeId slice : slices) {
    const std::optional<Positions> p = PositionsOf(r, r.node(slice));
    const int64_t elements = r.shape(r.node(slice).outputs[0]).num_elements();
    left -= elements;
    if (!p || left < 0 || elements < shape.num_elements() / columns * kMinColumns) return;
    if (!Part(r, id, slice, /*make=*/false).Select(r.node(slice).inputs[0], *p)) return;
  }
  for (NodeId slice : slices) {
    const Node cut = r.node(slice);
    const std::optional<ValueId> part = Part(r, id, slice, /*make=*/true).Select(cut.inputs[0], *PositionsOf(r, cut));
    if (!part || !r.status().ok()) return;
    r.Replace(cut.outputs[0], *part);
  }
}

}  // namespace

Status SplitProducts(Graph& graph) {
  Rewriter r(graph);
  std::vector<NodeId> products;
  for (NodeId id = r.First(); id != NodeId::kNone; id = r.Following(id)) {
    if (r.node(id).op == Op::kMatmul) products.push_back(id);
  }
  for (NodeId id : products) {
    if (r.status().ok() && r.IsAlive(id)) SplitProduct(r, id);
  }
  return std::move(r).Finish();
}

}  // namespace tessera
