#include "graph/passes/move_layout.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "graph/op.h"
#include "graph/passes/constants.h"
#include "graph/passes/rewriter.h"

namespace tessera {
namespace {

using Kind = LayoutRole::Kind;

// Every transposed value costs this many elements more: of two cuts of equal size the one with fewer kernels.
constexpr int64_t kPerTranspose = 256;

bool ToLast(ImageLayout to) { return to == ImageLayout::kChannelsLast; }

// How dimensions move: [0, 2, .., rank - 1, 1] to channels last, [0, rank - 1, 1, .., rank - 2] to channels first.
std::vector<int64_t> PermTo(ImageLayout to, int rank) {
  std::vector<int64_t> perm = {0};
  if (!ToLast(to)) perm.push_back(rank - 1);
  for (int d = ToLast(to) ? 2 : 1; d < rank - (ToLast(to) ? 0 : 1); ++d) perm.push_back(d);
  if (ToLast(to)) perm.push_back(1);
  return perm;
}

// Where dimension `d` is afterwards.
int64_t AxisAfter(ImageLayout to, int64_t d, int rank) {
  if (d == 0) return 0;
  if (ToLast(to)) return d == 1 ? rank - 1 : d - 1;
  return d == rank - 1 ? 1 : d + 1;
}

bool IsReduce(Op op) {
  switch (op) {
    case Op::kReduceSum:
    case Op::kReduceMean:
    case Op::kReduceMax:
    case Op::kReduceMin:
    case Op::kReduceProd:
    case Op::kReduceL1:
    case Op::kReduceL2:
    case Op::kReduceLogSumExp:
    case Op::kReduceSumSquare: return true;
    default: return false;
  }
}

// Does operand `k` (of inputs, then the epilogue's) have the layout of the result, broadcasting to it? Weights, scales
// and other parameters do not.
bool IsData(const Node& node, size_t k) {
  if (k >= node.inputs.size()) return true;
  return GetOp(node.op).elementwise() || node.op == Op::kConcat || k == 0;
}

// Is the result of a node that takes part laid out as the node is? (A reduction may leave too few dimensions.)
bool MakesData(const Graph& graph, const Node& node) {
  return !IsReduce(node.op) || node.attrs.Int("keepdims", 1) ||
         graph[node.outputs[0]].type.shape.rank() == graph[node.inputs[0]].type.shape.rank();
}

// The dimensions that a node's data have.
int RankOf(const Graph& graph, const Node& node) {
  return GetOp(node.op).elementwise() ? graph[node.outputs[0]].type.shape.rank()
                                      : graph[node.inputs[0]].type.shape.rank();
}

// The parameters after the move.
Attrs AttrsAfter(const Node& node, ImageLayout to, int rank) {
  Attrs attrs = node.attrs;
  const std::vector<int64_t> perm = PermTo(to, rank);
  const auto permute = [&](std::string_view name) {  // one value for each dimension, or begins and ends
    std::vector<int64_t> values = node.attrs.Ints(name);
    for (size_t k = 0; k < values.size(); ++k) values[k] = node.attrs.Ints(name)[k / rank * rank + perm[k % rank]];
    attrs.Set(name, std::move(values));
  };
  const auto permute_floats = [&](std::string_view name) {
    if (!node.attrs.Has(name)) return;
    std::vector<double> values = node.attrs.Floats(name);
    for (size_t k = 0; k < values.size(); ++k) values[k] = node.attrs.Floats(name)[k / rank * rank + perm[k % rank]];
    attrs.Set(name, std::move(values));
  };
  switch (node.op) {
    case Op::kConv:
    case Op::kMaxPool:
    case Op::kAvgPool: attrs.Set("layout", ToLast(to) ? "nhwc" : "nchw"); break;
    case Op::kBatchNorm: attrs.Set("axis", AxisAfter(to, node.attrs.Int("axis", 1), rank)); break;
    case Op::kPad: permute("pads"); break;
    case Op::kSlice:
      permute("starts");
      permute("steps");
      permute("sizes");
      break;
    case Op::kTile: permute("repeats"); break;
    case Op::kExpand: permute("shape"); break;
    case Op::kResize:
      permute("sizes");
      permute_floats("scales");
      permute_floats("roi");
      break;
    default:
      if (IsReduce(node.op)) {
        std::vector<int64_t> axes;
        for (int64_t axis : node.attrs.Ints("axes")) axes.push_back(AxisAfter(to, axis, rank));
        std::sort(axes.begin(), axes.end());
        attrs.Set("axes", std::move(axes));
      } else if (!GetOp(node.op).elementwise() && node.attrs.Has("axis")) {
        attrs.Set("axis", AxisAfter(to, node.attrs.Int("axis"), rank));
      }
  }
  return attrs;
}

// `shape` with leading dimensions of extent 1 up to `rank`.
Shape Extended(const Shape& shape, int rank) {
  std::vector<int64_t> dims(rank - shape.rank(), 1);
  dims.insert(dims.end(), shape.begin(), shape.end());
  return Shape(std::move(dims));
}

// Which nodes move. The source's side of the cut is that of those which do.
std::vector<bool> ChooseMoved(const Graph& graph, ImageLayout to, const std::vector<LayoutRole>& roles) {
  const int n = static_cast<int>(graph.nodes.size()), moved = n, stays = n + 1;
  MinCut cut(n + 2);
  for (int k = 0; k < n; ++k) {
    if (roles[k].kind == Kind::kStays) cut.AddEdge(k, stays, MinCut::kUncuttable);
    if (roles[k].kind != Kind::kMoves) continue;
    if (roles[k].cost_of_staying > 0) cut.AddEdge(moved, k, roles[k].cost_of_staying);
    if (roles[k].cost_of_moving > 0) cut.AddEdge(k, stays, roles[k].cost_of_moving);
  }
  // For each value and rank under which it is read: the side of its maker, and those of its readers.
  std::vector<int> maker(graph.values.size(), stays);
  for (int k = 0; k < n; ++k) {
    if (roles[k].kind != Kind::kStays && MakesData(graph, graph.nodes[k])) {
      maker[Index(graph.nodes[k].outputs[0])] = k;
    }
  }
  std::map<std::pair<ValueId, int>, std::vector<int>> readers;
  for (int k = 0; k < n; ++k) {
    const Node& node = graph.nodes[k];
    if (roles[k].kind == Kind::kTransposes) continue;
    const std::vector<ValueId> operands = Operands(node);
    for (size_t o = 0; o < operands.size(); ++o) {
      if (operands[o] == ValueId::kNone || graph.IsConstant(operands[o])) continue;
      const bool data = roles[k].kind != Kind::kStays && IsData(node, o);
      const int own_rank = graph[operands[o]].type.shape.rank();
      readers[{operands[o], data ? RankOf(graph, node) : own_rank}].push_back(data ? k : stays);
    }
  }
  for (ValueId id : graph.outputs) readers[{id, graph[id].type.shape.rank()}].push_back(stays);
  for (const auto& [key, sides] : readers) {
    const auto& [id, rank] = key;
    const Shape shape = Extended(graph[id].type.shape, rank);
    // A value that is read under more dimensions than it has is laid out as it is.
    const int from = rank == graph[id].type.shape.rank() ? maker[Index(id)] : stays;
    if (rank < 3) continue;
    const int64_t cost = KeepsOrder(shape, PermTo(to, rank)) ? 1 : shape.num_elements() + kPerTranspose;
    const int to_stays = cut.AddNode(), to_moved = cut.AddNode();
    cut.AddEdge(from, to_stays, cost);
    cut.AddEdge(to_moved, from, cost);
    for (int side : sides) {
      cut.AddEdge(to_stays, side, MinCut::kUncuttable);
      cut.AddEdge(side, to_moved, MinCut::kUncuttable);
    }
  }
  return cut.Solve(moved, stays);
}

class Converter {
 public:
  Converter(Graph& graph, ImageLayout to) : r_(graph), to_(to) {}

  Status Run(const std::vector<LayoutRole>& roles) {
    const int n = static_cast<int>(r_.graph().nodes.size());
    const std::vector<bool> is_moved = ChooseMoved(r_.graph(), to_, roles);
    std::vector<NodeId> converted;
    for (int k = 0; k < n; ++k) {
      if (!is_moved[k] || roles[k].kind != Kind::kMoves) continue;
      converted.push_back(static_cast<NodeId>(k));
      Convert(converted.back());
    }
    // What the old nodes made and somebody still reads as it was is transposed back; from the end, so that old nodes
    // do not count as readers.
    for (auto id = converted.rbegin(); id != converted.rend() && r_.status().ok(); ++id) {
      const ValueId old = r_.node(*id).outputs[0];
      if (!r_.Readers(old).empty() || r_.IsOutput(old)) {
        const ValueId back = Back(old);
        if (r_.status().ok()) r_.Replace(old, back);
      } else {
        r_.RemoveIfDead(*id);
      }
    }
    return std::move(r_).Finish();
  }

 private:
  // Makes the node's twin in the new order, in front of it.
  void Convert(NodeId id) {
    Node twin = r_.node(id);
    const int rank = RankOf(r_.graph(), twin);
    const ValueId old = twin.outputs[0];
    const bool makes_data = MakesData(r_.graph(), twin);
    const size_t inputs = twin.inputs.size();
    for (size_t k = 0; k < inputs; ++k) {
      if (twin.inputs[k] != ValueId::kNone && IsData(twin, k)) twin.inputs[k] = Moved(twin.inputs[k], rank);
    }
    if (twin.epilogue) {
      for (ValueId& operand : twin.epilogue->inputs) operand = Moved(operand, r_.shape(old).rank(), makes_data);
    }
    twin.attrs = AttrsAfter(r_.node(id), to_, rank);
    if (!r_.status().ok()) return;
    const ValueId made = r_.Emit(id, std::move(twin));
    if (!r_.status().ok()) return;
    const Value source = r_.value(old);
    if (makes_data) {
      const std::vector<int64_t> perm = PermTo(to_, rank);
      if (std::optional<QuantParams> quant = PermutedQuant(source.quant, perm)) r_.SetQuant(made, *std::move(quant));
      if (source.tesa) r_.SetTesa(made, source.tesa->Transposed(std::vector<int>(perm.begin(), perm.end())));
      moved_[{old, rank}] = made;
    } else {
      if (source.quant) r_.SetQuant(made, *source.quant);
      if (source.tesa) r_.SetTesa(made, *source.tesa);
      same_[old] = made;
    }
  }

  // `id` in the new order, under `rank` dimensions.
  ValueId Moved(ValueId id, int rank, bool wanted = true) {
    if (!wanted || !r_.status().ok() || r_.shape(id).num_elements() == 1) return id;
    const auto [entry, is_new] = moved_.emplace(std::pair(id, rank), ValueId::kNone);
    if (!is_new) return entry->second;
    const std::vector<int64_t> perm = PermTo(to_, rank);
    const bool extend = r_.shape(id).rank() != rank;
    const Shape shape = Extended(r_.shape(id), rank);
    ValueId result = id;
    if (r_.graph().IsConstant(id)) {
      if (extend) result = ReshapedConstant(r_, id, shape);
      result = TransposedConstant(r_, result, perm);
    } else {
      const std::string name = r_.value(id).name;
      if (extend) result = r_.Emit(r_.Behind(id), Op::kReshape, {id}, MakeAttrs({{"shape", shape.dims()}}), name);
      result = Transpose(result, perm, name + (ToLast(to_) ? ".last" : ".first"));
    }
    moved_[{id, rank}] = result;
    return result;
  }

  // The value as the old node made it.
  ValueId Back(ValueId old) {
    if (const auto same = same_.find(old); same != same_.end()) return same->second;
    const int rank = r_.shape(old).rank();
    const ValueId back = Transpose(moved_.at({old, rank}), InversePerm(PermTo(to_, rank)),
                                   r_.value(old).name + (ToLast(to_) ? ".first" : ".last"));
    if (!r_.status().ok()) return back;
    if (r_.value(old).quant) r_.SetQuant(back, *r_.value(old).quant);
    if (r_.value(old).tesa) r_.SetTesa(back, *r_.value(old).tesa);
    return back;
  }

  ValueId Transpose(ValueId id, const std::vector<int64_t>& perm, const std::string& name) {
    if (!r_.status().ok()) return ValueId::kNone;
    if (KeepsOrder(r_.shape(id), perm)) {
      return r_.Emit(r_.Behind(id), Op::kReshape, {id},
                     MakeAttrs({{"shape", PermutedShape(r_.shape(id), perm).dims()}}), name);
    }
    return r_.Emit(r_.Behind(id), Op::kTranspose, {id}, MakeAttrs({{"perm", perm}}), name);
  }

  Rewriter r_;
  const ImageLayout to_;
  std::map<std::pair<ValueId, int>, ValueId> moved_;  // a value under a rank -> the same in the new order
  std::map<ValueId, ValueId> same_;                   // an old result -> the new one where no layout is left in it
};

}  // namespace

LayoutRole FollowerRole(const Graph& graph, const Node& node, ImageLayout to) {
  const LayoutRole stays = LayoutRole::Stays(), follows = LayoutRole::Follows();
  if (node.outputs.size() != 1 || node.inputs[0] == ValueId::kNone) return stays;
  const int rank = graph[node.inputs[0]].type.shape.rank();
  const int out_rank = graph[node.outputs[0]].type.shape.rank();
  if (node.epilogue && node.epilogue->body.uses_index()) return stays;
  if (GetOp(node.op).elementwise()) return out_rank >= 3 ? follows : stays;
  if (rank < 3) return stays;
  switch (node.op) {
    case Op::kTranspose: return node.epilogue ? stays : LayoutRole{Kind::kTransposes, 0, 0};
    case Op::kQuantize:
    case Op::kDequantize: return node.attrs.Int("block_size", 0) == 0 ? follows : stays;
    case Op::kArgMax:
    case Op::kArgMin: return node.attrs.Int("keepdims", 1) ? follows : stays;
    case Op::kExpand: return rank == out_rank ? follows : stays;
    case Op::kConcat:
    case Op::kPad:
    case Op::kSlice:
    case Op::kTile:
    case Op::kResize:
    case Op::kBatchNorm:
    case Op::kSoftmax:
    case Op::kLogSoftmax: return follows;
    default: break;
  }
  if (!IsReduce(node.op)) return stays;
  if (node.attrs.Int("keepdims", 1)) return follows;
  // What is left must have the same order either way: no channels, or no spatial axes.
  const std::vector<int64_t>& axes = node.attrs.Ints("axes");
  const int64_t channels = ToLast(to) ? 1 : rank - 1;
  const bool channels_go = std::find(axes.begin(), axes.end(), channels) != axes.end();
  const int64_t spatial_gone =
      std::count_if(axes.begin(), axes.end(), [&](int64_t d) { return d != 0 && d != channels; });
  return channels_go || spatial_gone == rank - 2 ? follows : stays;
}

Status MoveLayout(Graph& graph, ImageLayout to, const std::function<LayoutRole(const Graph&, const Node&)>& role_of) {
  std::vector<LayoutRole> roles;
  bool any = false;
  for (const Node& node : graph.nodes) {
    roles.push_back(role_of(graph, node));
    any |= roles.back().cost_of_staying > 0;
  }
  return any ? Converter(graph, to).Run(roles) : OkStatus();
}

}  // namespace tessera
