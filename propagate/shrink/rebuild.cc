#include "propagate/shrink/rebuild.h"

#include <algorithm>

#include "graph/op.h"

namespace tessera {
namespace {

std::vector<int64_t> Dims(const Shape& shape) { return shape.dims(); }

// Those of `list` below `limit`.
int64_t CountBelow(const IndexList& list, int64_t extent, int64_t limit) {
  limit = std::clamp<int64_t>(limit, 0, extent);
  if (!list) return limit;
  return std::lower_bound(list->begin(), list->end(), limit) - list->begin();
}

// Begins and ends again: of what a pad adds or crops, that which stays.
std::vector<int64_t> FittingPads(const std::vector<int64_t>& pads, const Shape& x, const Shape& out,
                                 const AxisLists& in, const AxisLists& result) {
  const size_t rank = static_cast<size_t>(x.rank());
  std::vector<int64_t> fitting(2 * rank);
  for (size_t d = 0; d < rank; ++d) {
    const int64_t begin = pads[d], end = pads[rank + d];
    const int64_t extent = x[static_cast<int>(d)], padded = out[static_cast<int>(d)];
    const int64_t kept_in = in[d] ? static_cast<int64_t>(in[d]->size()) : extent;
    const int64_t kept_out = result[d] ? static_cast<int64_t>(result[d]->size()) : padded;
    fitting[d] = begin >= 0 ? CountBelow(result[d], padded, begin) : -CountBelow(in[d], extent, -begin);
    fitting[rank + d] = end >= 0 ? kept_out - CountBelow(result[d], padded, padded - end)
                                 : -(kept_in - CountBelow(in[d], extent, extent + end));
  }
  return fitting;
}

// Positions among what stays of x of the slice's elements that stay; they must be evenly spaced.
bool FitSlice(const Shape& x, const Shape& out, const AxisLists& in, const AxisLists& result, Attrs& attrs) {
  std::vector<int64_t> starts = attrs.Ints("starts"), steps = attrs.Ints("steps"), sizes = attrs.Ints("sizes");
  for (size_t d = 0; d < starts.size(); ++d) {
    if (!in[d] && !result[d]) continue;
    const std::vector<int64_t> from = Spelled(in[d], x[static_cast<int>(d)]);
    std::vector<int64_t> positions;
    for (int64_t i : Spelled(result[d], out[static_cast<int>(d)])) {
      const auto at = std::lower_bound(from.begin(), from.end(), starts[d] + i * steps[d]);
      if (at == from.end() || *at != starts[d] + i * steps[d]) return false;
      positions.push_back(at - from.begin());
    }
    if (positions.empty()) return false;
    starts[d] = positions[0];
    steps[d] = positions.size() > 1 ? positions[1] - positions[0] : 1;
    sizes[d] = static_cast<int64_t>(positions.size());
    for (size_t k = 1; k < positions.size(); ++k) {
      if (positions[k] - positions[k - 1] != steps[d]) return false;
    }
  }
  attrs.Set("starts", std::move(starts));
  attrs.Set("steps", std::move(steps));
  attrs.Set("sizes", std::move(sizes));
  return true;
}

}  // namespace

NodeLists NodeLists::Of(const Node& node, const KeptAxes& kept) {
  NodeLists lists;
  for (ValueId id : Operands(node)) {
    lists.inputs.push_back(id == ValueId::kNone ? AxisLists() : kept.of[static_cast<size_t>(Index(id))]);
  }
  for (ValueId id : node.outputs) lists.outputs.push_back(kept.of[static_cast<size_t>(Index(id))]);
  return lists;
}

bool NodeLists::AllKept() const {
  const auto all = [](const AxisLists& list) { return tessera::AllKept(list); };
  return std::all_of(inputs.begin(), inputs.end(), all) && std::all_of(outputs.begin(), outputs.end(), all);
}

std::optional<Attrs> FittingAttrs(const Graph& before, const Node& node, const NodeLists& lists) {
  Attrs attrs = node.attrs;
  const Shape& out = before[node.outputs[0]].type.shape;
  const Shape result = SelectedShape(out, lists.outputs[0]);
  const auto shape_of = [&](size_t k) { return before[node.inputs[k]].type.shape; };
  switch (node.op) {
    case Op::kReshape:
    case Op::kExpand: attrs.Set("shape", Dims(result)); break;
    case Op::kTile: {
      const Shape x = SelectedShape(shape_of(0), lists.inputs[0]);
      std::vector<int64_t> repeats = attrs.Ints("repeats");
      for (int d = 0; d < x.rank(); ++d) {
        if (x[d] == 0 || result[d] % x[d] != 0) return std::nullopt;
        repeats[static_cast<size_t>(d)] = result[d] / x[d];
      }
      attrs.Set("repeats", std::move(repeats));
      break;
    }
    case Op::kSlice:
      if (!FitSlice(shape_of(0), out, lists.inputs[0], lists.outputs[0], attrs)) return std::nullopt;
      break;
    case Op::kPad:
      attrs.Set("pads", FittingPads(attrs.Ints("pads"), shape_of(0), out, lists.inputs[0], lists.outputs[0]));
      break;
    case Op::kResize: attrs.Set("sizes", Dims(result)); break;
    case Op::kConv: {
      // Each group keeps as many input channels as the weights have.
      const Shape x = SelectedShape(shape_of(0), lists.inputs[0]), w = SelectedShape(shape_of(1), lists.inputs[1]);
      const int channel_dim = attrs.String("layout", "nchw") == "nhwc" ? x.rank() - 1 : 1;
      if (w[1] == 0 || x[channel_dim] % w[1] != 0) return std::nullopt;
      attrs.Set("groups", x[channel_dim] / w[1]);
      break;
    }
    default: break;
  }
  return attrs;
}

namespace {

// What stays of the dimensions of a view, or nullopt where that is no product of lists.
std::optional<AxisLists> ViewLists(const Shape& tensor, const Shape& view, const AxisLists& lists) {
  AxisLists of_view(static_cast<size_t>(view.rank()));
  if (AllKept(lists)) return of_view;
  for (const ViewGroup& group : ViewGroups(tensor, view)) {
    std::vector<IndexList> part;
    for (int d : group.tensor_dims) part.push_back(lists[static_cast<size_t>(d)]);
    if (AllKept(part)) continue;
    if (group.tensor_dims.size() == 1 && group.view_dims.size() == 1) {
      of_view[static_cast<size_t>(group.view_dims[0])] = part[0];
      continue;
    }
    // The elements of the group that stay, and the coordinates that they have in the view.
    std::vector<int64_t> tensor_dims, view_dims;
    for (int d : group.tensor_dims) tensor_dims.push_back(tensor[d]);
    for (int d : group.view_dims) view_dims.push_back(view[d]);
    const Shape from(tensor_dims), to(view_dims);
    std::vector<std::vector<bool>> seen;
    for (int64_t extent : to) seen.emplace_back(static_cast<size_t>(extent), false);
    const std::vector<int64_t> from_strides = from.Strides(), to_strides = to.Strides();
    int64_t count = 0;
    ForEachIndex(SelectedShape(from, part), [&](const std::vector<int64_t>& index) {
      int64_t position = 0;
      for (size_t d = 0; d < index.size(); ++d) {
        position += (part[d] ? (*part[d])[static_cast<size_t>(index[d])] : index[d]) * from_strides[d];
      }
      for (size_t e = 0; e < seen.size(); ++e) {
        seen[e][static_cast<size_t>(position / to_strides[e] % to[static_cast<int>(e)])] = true;
      }
      ++count;
    });
    int64_t product = 1;
    for (size_t e = 0; e < seen.size(); ++e) {
      std::vector<int64_t> indices;
      for (size_t i = 0; i < seen[e].size(); ++i) {
        if (seen[e][i]) indices.push_back(static_cast<int64_t>(i));
      }
      product *= static_cast<int64_t>(indices.size());
      if (indices.size() < seen[e].size()) of_view[static_cast<size_t>(group.view_dims[e])] = std::move(indices);
    }
    if (product != count) return std::nullopt;
  }
  return of_view;
}

// Position of `i` among what stays, -1 when it does not.
int64_t PositionOf(const IndexList& list, int64_t i) {
  if (!list) return i;
  const auto at = std::lower_bound(list->begin(), list->end(), i);
  return at == list->end() || *at != i ? -1 : at - list->begin();
}

class Comparison {
 public:
  Comparison(const Compute& before, const Compute& after, const NodeLists& lists)
      : before_(before), after_(after), lists_(lists) {
    temps_.resize(before.temps.size());
  }

  std::optional<Steps> Run() {
    if (before_.stages.size() != after_.stages.size() || before_.tables != after_.tables) return std::nullopt;
    Steps steps;
    for (size_t s = 0; s < before_.stages.size(); ++s) {
      if (!Compare(before_.stages[s], after_.stages[s], steps)) return std::nullopt;
    }
    return steps;
  }

 private:
  struct Pair {
    const Access *before, *after;
    AxisLists view;  // what stays of the old view's dimensions
  };

  bool Collect(const Access& before, const Access& after, std::vector<Pair>& pairs) {
    if (before.buffer != after.buffer || before.index.size() != after.index.size()) return false;
    const Shape& tensor = before_.BufferType(before.buffer).shape;
    AxisLists lists(static_cast<size_t>(tensor.rank()));
    const size_t k = static_cast<size_t>(before.buffer.index);
    if (before.buffer.kind == BufferKind::kInput) lists = lists_.inputs[k];
    if (before.buffer.kind == BufferKind::kOutput) lists = lists_.outputs[k];
    if (before.buffer.kind == BufferKind::kTemp && !temps_[k].empty()) lists = temps_[k];
    std::optional<AxisLists> view = ViewLists(tensor, before.view, lists);
    if (!view || SelectedShape(before.view, *view) != after.view) return false;
    pairs.push_back({&before, &after, *std::move(view)});
    return true;
  }

  // The steps of axis `a` that the accesses leave; a temporary that is written now is not known yet.
  void FindKept(const Stage& stage, const std::vector<Pair>& pairs, std::vector<IndexList>& kept) {
    for (size_t a = 0; a < kept.size(); ++a) {
      const int64_t extent = stage.extents[a];
      std::vector<bool> stays(static_cast<size_t>(extent), true);
      bool any = false;
      for (const Pair& pair : pairs) {
        for (size_t e = 0; e < pair.before->index.size(); ++e) {
          const IndexExpr& expr = pair.before->index[e];
          if (!pair.view[e] || expr.terms.size() != 1 || expr.terms[0].axis != static_cast<int>(a)) continue;
          const int64_t of_view = pair.before->view[static_cast<int>(e)];
          for (int64_t x = 0; x < extent; ++x) {
            const int64_t j = expr.offset + x * expr.terms[0].coefficient;
            if (j < 0 || j >= of_view || PositionOf(pair.view[e], j) >= 0) continue;
            stays[static_cast<size_t>(x)] = false;
            any = true;
          }
        }
      }
      if (!any) continue;
      kept[a].emplace();
      for (int64_t x = 0; x < extent; ++x) {
        if (stays[static_cast<size_t>(x)]) kept[a]->push_back(x);
      }
    }
  }

  bool Compare(const Stage& before, const Stage& after, Steps& steps) {
    if (before.rank() != after.rank() || before.parallel_rank != after.parallel_rank || before.body != after.body ||
        before.finish != after.finish || before.combiner != after.combiner ||
        before.reads.size() != after.reads.size() || before.finish_reads.size() != after.finish_reads.size()) {
      return false;
    }
    std::vector<Pair> pairs;
    for (size_t k = 0; k < before.reads.size(); ++k) {
      if (!Collect(before.reads[k], after.reads[k], pairs)) return false;
    }
    for (size_t k = 0; k < before.finish_reads.size(); ++k) {
      if (!Collect(before.finish_reads[k], after.finish_reads[k], pairs)) return false;
    }
    const bool to_temp = before.write.buffer.kind == BufferKind::kTemp;
    if (!to_temp && !Collect(before.write, after.write, pairs)) return false;
    std::vector<IndexList> kept(before.extents.size());
    FindKept(before, pairs, kept);
    if (to_temp && !SetTemp(before, after, kept, pairs)) return false;

    for (size_t a = 0; a < kept.size(); ++a) {
      const int64_t count = kept[a] ? static_cast<int64_t>(kept[a]->size()) : before.extents[a];
      if (count != after.extents[a]) return false;
      if (!kept[a]) continue;
      if (before.body.uses_index() || before.finish.uses_index()) return false;
      if (static_cast<int>(a) < before.parallel_rank) continue;
      if (before_.stages.size() != 1 || before.combiner != Combiner::kAdd || steps.summed >= 0) return false;
      steps = {static_cast<int>(a), kept[a]};
    }
    for (const Pair& pair : pairs) {
      for (size_t e = 0; e < pair.before->index.size(); ++e) {
        if (!SameIndex(before, pair, e, kept)) return false;
      }
    }
    return true;
  }

  // A temporary written index by index stays where its steps stay.
  bool SetTemp(const Stage& before, const Stage& after, const std::vector<IndexList>& kept, std::vector<Pair>& pairs) {
    const size_t k = static_cast<size_t>(before.write.buffer.index);
    const Shape& shape = before_.temps[k].shape;
    AxisLists lists(static_cast<size_t>(shape.rank()));
    if (before.write.view == shape) {
      for (size_t d = 0; d < lists.size(); ++d) {
        const IndexExpr& expr = before.write.index[d];
        if (expr.terms.size() == 1 && expr.terms[0].coefficient == 1 && expr.offset == 0 &&
            before.extents[static_cast<size_t>(expr.terms[0].axis)] == shape[static_cast<int>(d)]) {
          lists[d] = kept[static_cast<size_t>(expr.terms[0].axis)];
        }
      }
    }
    if (!temps_[k].empty() && temps_[k] != lists) return false;
    temps_[k] = std::move(lists);
    return Collect(before.write, after.write, pairs);
  }

  // Does each step that stays touch the same place of the view, or none?
  bool SameIndex(const Stage& stage, const Pair& pair, size_t e, const std::vector<IndexList>& kept) const {
    const IndexExpr &old_expr = pair.before->index[e], &new_expr = pair.after->index[e];
    const int64_t old_extent = pair.before->view[static_cast<int>(e)];
    const int64_t new_extent = pair.after->view[static_cast<int>(e)];
    if (old_expr.read != new_expr.read || old_expr.read_scale != new_expr.read_scale) return false;
    const bool filled = pair.after->guarded && (pair.after->fill == pair.before->fill);
    if (old_expr.read >= 0 || old_expr.terms.size() != 1) {
      bool whole = !pair.view[e];
      for (const IndexExpr::Term& term : old_expr.terms) whole &= !kept[static_cast<size_t>(term.axis)];
      if (whole)
        return old_expr == new_expr && pair.before->guarded == pair.after->guarded && (!pair.before->guarded || filled);
      if (old_expr.read >= 0 || !old_expr.terms.empty()) return false;
      return PositionOf(pair.view[e], old_expr.offset) == new_expr.offset;
    }
    const int a = old_expr.terms[0].axis;
    const IndexList& steps = kept[static_cast<size_t>(a)];
    const int64_t count = steps ? static_cast<int64_t>(steps->size()) : stage.extents[static_cast<size_t>(a)];
    // An axis of one index may be read as one that broadcasts.
    const bool fixed = new_expr.terms.empty() && count == 1;
    if (!fixed && (new_expr.terms.size() != 1 || new_expr.terms[0].axis != a)) return false;
    const int64_t stride = fixed ? 0 : new_expr.terms[0].coefficient;
    for (int64_t n = 0; n < count; ++n) {
      const int64_t x = steps ? (*steps)[static_cast<size_t>(n)] : n;
      const int64_t from = old_expr.offset + x * old_expr.terms[0].coefficient;
      const int64_t to = new_expr.offset + n * stride;
      if (from < 0 || from >= old_extent) {
        if (!filled || (to >= 0 && to < new_extent)) return false;
      } else if (PositionOf(pair.view[e], from) != to) {
        return false;
      }
    }
    return true;
  }

  const Compute &before_, &after_;
  const NodeLists& lists_;
  std::vector<AxisLists> temps_;  // what stays of them, once written
};

}  // namespace

std::optional<Steps> SameSteps(const Compute& before, const Compute& after, const NodeLists& lists) {
  return Comparison(before, after, lists).Run();
}

}  // namespace tessera
