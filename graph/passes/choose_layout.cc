#include "graph/passes/choose_layout.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "graph/op.h"
#include "graph/passes/constants.h"
#include "graph/passes/min_cut.h"
#include "graph/passes/rewriter.h"

namespace tessera {
namespace {

// Every transposed value costs this many elements more: of two cuts of equal size the one with fewer kernels.
constexpr int64_t kPerTranspose = 256;

// [0, 2, .., rank - 1, 1] and back.
std::vector<int64_t> ToLast(int rank) {
  std::vector<int64_t> perm = {0};
  for (int d = 2; d < rank; ++d) perm.push_back(d);
  perm.push_back(1);
  return perm;
}
std::vector<int64_t> ToFirst(int rank) { return InversePerm(ToLast(rank)); }

// Where dimension `d` is when channels are last.
int64_t AxisWhenLast(int64_t d, int rank) { return d == 0 ? 0 : (d == 1 ? rank - 1 : d - 1); }

// How a node takes part.
enum class Role : uint8_t {
  kStays,      // reads and makes values as they are
  kWants,      // a convolution or pool with channels first: becomes channels last
  kFollows,    // can do either
  kTransposes  // is a transpose: whatever it reads or makes composes with it
};

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

Role RoleOf(const Graph& graph, const Node& node) {
  if (node.outputs.size() != 1 || node.inputs[0] == ValueId::kNone) return Role::kStays;
  const int rank = graph[node.inputs[0]].type.shape.rank();
  const int out_rank = graph[node.outputs[0]].type.shape.rank();
  if (node.epilogue && node.epilogue->body.uses_index()) return Role::kStays;
  if (GetOp(node.op).elementwise()) return out_rank >= 3 ? Role::kFollows : Role::kStays;
  if (rank < 3) return Role::kStays;
  switch (node.op) {
    case Op::kConv:
    case Op::kMaxPool:
    case Op::kAvgPool: return node.attrs.String("layout") == "nchw" ? Role::kWants : Role::kStays;
    case Op::kTranspose: return node.epilogue ? Role::kStays : Role::kTransposes;
    case Op::kQuantize:
    case Op::kDequantize: return node.attrs.Int("block_size", 0) == 0 ? Role::kFollows : Role::kStays;
    case Op::kArgMax:
    case Op::kArgMin: return node.attrs.Int("keepdims", 1) ? Role::kFollows : Role::kStays;
    case Op::kExpand: return rank == out_rank ? Role::kFollows : Role::kStays;
    case Op::kConcat:
    case Op::kPad:
    case Op::kSlice:
    case Op::kTile:
    case Op::kResize:
    case Op::kBatchNorm:
    case Op::kSoftmax:
    case Op::kLogSoftmax: return Role::kFollows;
    default: break;
  }
  if (!IsReduce(node.op)) return Role::kStays;
  if (node.attrs.Int("keepdims", 1)) return Role::kFollows;
  // What is left must have the same order either way: no channels, or no spatial axes.
  const std::vector<int64_t>& axes = node.attrs.Ints("axes");
  const bool channels_go = std::find(axes.begin(), axes.end(), 1) != axes.end();
  const int64_t spatial_gone = std::count_if(axes.begin(), axes.end(), [](int64_t d) { return d >= 2; });
  return channels_go || spatial_gone == rank - 2 ? Role::kFollows : Role::kStays;
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

// The parameters for channels last.
Attrs AttrsWhenLast(const Node& node, int rank) {
  Attrs attrs = node.attrs;
  const std::vector<int64_t> perm = ToLast(rank);
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
    case Op::kAvgPool: attrs.Set("layout", "nhwc"); break;
    case Op::kBatchNorm: attrs.Set("axis", AxisWhenLast(node.attrs.Int("axis", 1), rank)); break;
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
        for (int64_t axis : node.attrs.Ints("axes")) axes.push_back(AxisWhenLast(axis, rank));
        std::sort(axes.begin(), axes.end());
        attrs.Set("axes", std::move(axes));
      } else if (!GetOp(node.op).elementwise() && node.attrs.Has("axis")) {
        attrs.Set("axis", AxisWhenLast(node.attrs.Int("axis"), rank));
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

// Which nodes work with channels last.
std::vector<bool> ChooseLast(const Graph& graph, const std::vector<Role>& roles) {
  const int n = static_cast<int>(graph.nodes.size()), last = n, first = n + 1;
  MinCut cut(n + 2);
  for (int k = 0; k < n; ++k) {
    if (roles[k] == Role::kWants) cut.AddEdge(last, k, MinCut::kUncuttable);
    if (roles[k] == Role::kStays) cut.AddEdge(k, first, MinCut::kUncuttable);
  }
  // For each value and rank under which it is read: the side of its maker, and those of its readers.
  std::vector<int> maker(graph.values.size(), first);
  for (int k = 0; k < n; ++k) {
    if (roles[k] != Role::kStays && MakesData(graph, graph.nodes[k])) maker[Index(graph.nodes[k].outputs[0])] = k;
  }
  std::map<std::pair<ValueId, int>, std::vector<int>> readers;
  for (int k = 0; k < n; ++k) {
    const Node& node = graph.nodes[k];
    if (roles[k] == Role::kTransposes) continue;
    const std::vector<ValueId> operands = Operands(node);
    for (size_t o = 0; o < operands.size(); ++o) {
      if (operands[o] == ValueId::kNone || graph.IsConstant(operands[o])) continue;
      const bool data = roles[k] != Role::kStays && IsData(node, o);
      const int own_rank = graph[operands[o]].type.shape.rank();
      readers[{operands[o], data ? RankOf(graph, node) : own_rank}].push_back(data ? k : first);
    }
  }
  for (ValueId id : graph.outputs) readers[{id, graph[id].type.shape.rank()}].push_back(first);
  for (const auto& [key, sides] : readers) {
    const auto& [id, rank] = key;
    const Shape shape = Extended(graph[id].type.shape, rank);
    // A value that is read under more dimensions than it has is laid out as it is.
    const int from = rank == graph[id].type.shape.rank() ? maker[Index(id)] : first;
    if (rank < 3) continue;
    const int64_t cost = KeepsOrder(shape, ToLast(rank)) ? 1 : shape.num_elements() + kPerTranspose;
    const int to_first = cut.AddNode(), to_last = cut.AddNode();
    cut.AddEdge(from, to_first, cost);
    cut.AddEdge(to_last, from, cost);
    for (int side : sides) {
      cut.AddEdge(to_first, side, MinCut::kUncuttable);
      cut.AddEdge(side, to_last, MinCut::kUncuttable);
    }
  }
  return cut.Solve(last, first);
}

class Converter {
 public:
  explicit Converter(Graph& graph) : r_(graph) {}

  Status Run() {
    const int n = static_cast<int>(r_.graph().nodes.size());
    std::vector<Role> roles;
    for (const Node& node : r_.graph().nodes) roles.push_back(RoleOf(r_.graph(), node));
    if (std::find(roles.begin(), roles.end(), Role::kWants) == roles.end()) return OkStatus();
    const std::vector<bool> is_last = ChooseLast(r_.graph(), roles);
    std::vector<NodeId> converted;
    for (int k = 0; k < n; ++k) {
      if (!is_last[k] || roles[k] == Role::kTransposes || roles[k] == Role::kStays) continue;
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
  // Makes the node's twin with channels last, in front of it.
  void Convert(NodeId id) {
    Node twin = r_.node(id);
    const int rank = RankOf(r_.graph(), twin);
    const ValueId old = twin.outputs[0];
    const bool makes_data = MakesData(r_.graph(), twin);
    const size_t inputs = twin.inputs.size();
    for (size_t k = 0; k < inputs; ++k) {
      if (twin.inputs[k] != ValueId::kNone && IsData(twin, k)) twin.inputs[k] = Last(twin.inputs[k], rank);
    }
    if (twin.epilogue) {
      for (ValueId& operand : twin.epilogue->inputs) operand = Last(operand, r_.shape(old).rank(), makes_data);
    }
    twin.attrs = AttrsWhenLast(r_.node(id), rank);
    if (!r_.status().ok()) return;
    const ValueId made = r_.Emit(id, std::move(twin));
    if (!r_.status().ok()) return;
    const Value source = r_.value(old);
    if (makes_data) {
      const std::vector<int64_t> perm = ToLast(rank);
      if (std::optional<QuantParams> quant = PermutedQuant(source.quant, perm)) r_.SetQuant(made, *std::move(quant));
      if (source.tesa) r_.SetTesa(made, source.tesa->Transposed(std::vector<int>(perm.begin(), perm.end())));
      last_[{old, rank}] = made;
    } else {
      if (source.quant) r_.SetQuant(made, *source.quant);
      if (source.tesa) r_.SetTesa(made, *source.tesa);
      same_[old] = made;
    }
  }

  // `id` with channels last, under `rank` dimensions.
  ValueId Last(ValueId id, int rank, bool wanted = true) {
    if (!wanted || !r_.status().ok() || r_.shape(id).num_elements() == 1) return id;
    const auto [entry, is_new] = last_.emplace(std::pair(id, rank), ValueId::kNone);
    if (!is_new) return entry->second;
    const std::vector<int64_t> perm = ToLast(rank);
    const bool extend = r_.shape(id).rank() != rank;
    const Shape shape = Extended(r_.shape(id), rank);
    ValueId result = id;
    if (r_.graph().IsConstant(id)) {
      if (extend) result = ReshapedConstant(r_, id, shape);
      result = TransposedConstant(r_, result, perm);
    } else {
      const std::string name = r_.value(id).name;
      if (extend) result = r_.Emit(r_.Behind(id), Op::kReshape, {id}, MakeAttrs({{"shape", shape.dims()}}), name);
      result = Transpose(result, perm, name + ".last");
    }
    last_[{id, rank}] = result;
    return result;
  }

  // The value as the old node made it.
  ValueId Back(ValueId old) {
    if (const auto same = same_.find(old); same != same_.end()) return same->second;
    const int rank = r_.shape(old).rank();
    const ValueId back = Transpose(last_.at({old, rank}), ToFirst(rank), r_.value(old).name + ".first");
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
  std::map<std::pair<ValueId, int>, ValueId> last_;  // a value under a rank -> the same with channels last
  std::map<ValueId, ValueId> same_;                  // an old result -> the new one where no layout is left in it
};

}  // namespace

Status ChooseLayout(Graph& graph) { return Converter(graph).Run(); }

}  // namespace tessera
