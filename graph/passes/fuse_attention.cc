#include "graph/passes/fuse_attention.h"

#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "graph/op.h"

namespace tessera {
namespace {

using Perm = std::vector<int64_t>;

class AttentionFuser {
 public:
  explicit AttentionFuser(Graph& graph) : graph_(graph), uses_(graph) {}

  void Run() {
    std::vector<std::pair<size_t, std::vector<Node>>> replaced;  // by position, in order
    const size_t count = graph_.nodes.size();
    for (size_t n = 0; n < count; ++n) {
      if (std::optional<std::vector<Node>> nodes = Match(n)) replaced.emplace_back(n, *std::move(nodes));
    }
    // Also drops what was made for a match that came to nothing.
    if (replaced.empty()) return Compact(graph_);
    std::vector<Node> nodes;
    size_t next = 0;
    for (size_t n = 0; n < count; ++n) {
      if (next < replaced.size() && replaced[next].first == n) {
        for (Node& node : replaced[next].second) nodes.push_back(std::move(node));
        ++next;
      } else if (dropped_.count(n) == 0) {
        nodes.push_back(std::move(graph_.nodes[n]));
      }
    }
    graph_.nodes = std::move(nodes);
    RemoveDeadNodes(graph_);
  }

 private:
  // The node that computes a value and has no epilogue, if it is of this op; nullptr otherwise.
  const Node* Producer(ValueId id, Op op) const {
    if (id == ValueId::kNone || uses_.producer[Index(id)] == NodeId::kNone) return nullptr;
    const Node& node = graph_[uses_.producer[Index(id)]];
    return node.op == op && !node.epilogue ? &node : nullptr;
  }
  // Likewise, and nothing else reads the value.
  const Node* OnlyProducer(ValueId id, Op op) const {
    const Node* node = Producer(id, op);
    return node != nullptr && uses_.HasOneReader(id) ? node : nullptr;
  }
  // What is transposed by exactly `perm` to give the value; kNone when it is not.
  ValueId Untransposed(ValueId id, const Perm& perm) const {
    const Node* node = Producer(id, Op::kTranspose);
    return node != nullptr && node->attrs.Ints("perm") == perm ? node->inputs[0] : ValueId::kNone;
  }
  std::optional<double> NumberIn(ValueId id) const {
    if (!graph_.IsConstant(id) || graph_[id].constant.num_elements() != 1) return std::nullopt;
    return graph_[id].constant.Get(0);
  }
  const Shape& shape(ValueId id) const { return graph_[id].type.shape; }

  // Takes a mask, then a scale off the scores; leaves `scores` at the product.
  bool TakeScaleAndMask(ValueId& scores, double& scale, ValueId& mask) const {
    const Shape whole = shape(scores);
    if (const Node* add = OnlyProducer(scores, Op::kAdd)) {
      // The operand that leads to the product; the other one is the mask.
      const auto leads = [&](ValueId id) {
        return OnlyProducer(id, Op::kMatmul) || OnlyProducer(id, Op::kMul) || OnlyProducer(id, Op::kDiv);
      };
      const int side = shape(add->inputs[0]) == whole && leads(add->inputs[0]) ? 0 : 1;
      if (!leads(add->inputs[side]) || shape(add->inputs[side]) != whole) return false;
      mask = add->inputs[1 - side];
      scores = add->inputs[side];
    }
    if (const Node* div = OnlyProducer(scores, Op::kDiv)) {
      const std::optional<double> number = NumberIn(div->inputs[1]);
      if (!number || *number == 0) return false;
      scale = 1 / *number;
      scores = div->inputs[0];
    } else if (const Node* mul = OnlyProducer(scores, Op::kMul)) {
      const int side = NumberIn(mul->inputs[1]) ? 0 : 1;
      const std::optional<double> number = NumberIn(mul->inputs[1 - side]);
      if (!number) return false;
      scale = *number;
      scores = mul->inputs[side];
    }
    return shape(scores) == whole;
  }

  // The nodes that stand for node `n`, the product with the values.
  std::optional<std::vector<Node>> Match(size_t n) {
    const Node& mix = graph_.nodes[n];
    if (mix.op != Op::kMatmul || mix.epilogue) return std::nullopt;
    if (mix.attrs.Int("transpose_a", 0) != 0 || mix.attrs.Int("transpose_b", 0) != 0) return std::nullopt;
    const Node* softmax = OnlyProducer(mix.inputs[0], Op::kSoftmax);
    if (softmax == nullptr || softmax->attrs.Int("axis") != 3 || shape(softmax->inputs[0]).rank() != 4)
      return std::nullopt;
    ValueId scores = softmax->inputs[0], mask = ValueId::kNone;
    double scale = 1;
    if (!TakeScaleAndMask(scores, scale, mask)) return std::nullopt;
    const Node* product = OnlyProducer(scores, Op::kMatmul);
    if (product == nullptr || product->attrs.Int("transpose_a", 0) != 0) return std::nullopt;

    const ValueId q = product->inputs[0], k = product->inputs[1], v = mix.inputs[1];
    const bool keys_lie_as_rows = product->attrs.Int("transpose_b", 0) != 0;
    const Perm swap = {0, 2, 1, 3};
    const ValueId q4 = Untransposed(q, swap), v4 = Untransposed(v, swap);
    const ValueId k4 = Untransposed(k, keys_lie_as_rows ? swap : Perm{0, 2, 3, 1});
    std::vector<Node> nodes;
    Node attention = {.op = Op::kAttention, .name = mix.name};
    attention.attrs.Set("scale", scale);
    attention.outputs = mix.outputs;
    const std::optional<size_t> back = TransposedBack(mix.outputs[0], swap);
    if (q4 != ValueId::kNone && k4 != ValueId::kNone && v4 != ValueId::kNone && back) {
      attention.attrs.Set("layout", std::string("bshd"));
      attention.inputs = {q4, k4, v4};
      attention.outputs = graph_.nodes[*back].outputs;
    } else {
      ValueId rows = keys_lie_as_rows ? k : Untransposed(k, {0, 1, 3, 2});
      if (rows == ValueId::kNone && shape(k).rank() == 4)
        rows = AddTransposed(k4 == ValueId::kNone ? k : k4, k4 == ValueId::kNone ? Perm{0, 1, 3, 2} : swap, mix.name,
                             nodes);
      attention.inputs = {q, rows, v};
    }
    if (mask != ValueId::kNone) attention.inputs.push_back(mask);
    for (ValueId id : attention.inputs) {
      if (id == ValueId::kNone) return std::nullopt;
    }
    // Broadcast batches, mixed types and the like are no attention.
    const StatusOr<std::vector<TensorType>> types = InferTypes(graph_, attention);
    if (!types.ok() || (*types)[0] != graph_[attention.outputs[0]].type) return std::nullopt;
    if (attention.outputs != mix.outputs) dropped_.insert(*back);
    nodes.push_back(std::move(attention));
    return nodes;
  }

  // The position of the one node that reads the value, if that swaps heads and positions back.
  std::optional<size_t> TransposedBack(ValueId id, const Perm& perm) const {
    if (!uses_.HasOneReader(id)) return std::nullopt;
    const size_t reader = static_cast<size_t>(Index(uses_.readers[Index(id)][0]));
    const Node& node = graph_.nodes[reader];
    if (node.op != Op::kTranspose || node.epilogue || node.attrs.Ints("perm") != perm) return std::nullopt;
    return reader;
  }

  ValueId AddTransposed(ValueId of, const Perm& perm, const std::string& name, std::vector<Node>& nodes) {
    Value value;
    for (int number = 0; value.name.empty() || graph_.FindValue(value.name) != ValueId::kNone; ++number) {
      value.name = name + ".keys" + (number == 0 ? "" : std::to_string(number));
    }
    Node node = {.op = Op::kTranspose, .name = value.name, .inputs = {of}};
    node.attrs.Set("perm", perm);
    std::vector<int64_t> dims;
    for (int64_t d : perm) dims.push_back(shape(of)[static_cast<int>(d)]);
    value.type = {graph_[of].type.dtype, Shape(std::move(dims))};
    const ValueId result = graph_.AddValue(std::move(value));
    node.outputs = {result};
    nodes.push_back(std::move(node));
    return result;
  }

  Graph& graph_;
  const Uses uses_;
  std::set<size_t> dropped_;  // transpositions that an attention does itself
};

}  // namespace

Status FuseAttention(Graph& graph) {
  AttentionFuser(graph).Run();
  return OkStatus();
}

}  // namespace tessera
