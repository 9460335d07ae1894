#include "propagate/rule_book.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "graph/interpreter.h"
#include "graph/op.h"
#include "propagate/algebra/algebra.h"
#include "propagate/rule/apply.h"

namespace tessera {
namespace {

constexpr std::string_view kModeNames[] = {"learned", "instance", "exact"};
// A cache file of every op of every network known to us takes a few hundred KiB.
constexpr uint64_t kMaxCacheFileBytes = uint64_t{64} << 20;

// Shortest text that reads back as the same double.
std::string NumberText(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  return std::string(buffer, end);
}

std::string AttrText(const AttrValue& value) {
  const auto list = [](const auto& values, auto text) {
    std::string out = "[";
    for (size_t k = 0; k < values.size(); ++k) out += (k == 0 ? "" : ",") + text(values[k]);
    return out + "]";
  };
  const auto integer = [](int64_t n) { return std::to_string(n); };
  switch (static_cast<AttrKind>(value.index())) {
    case AttrKind::kInt: return integer(std::get<int64_t>(value));
    case AttrKind::kFloat: return NumberText(std::get<double>(value));
    case AttrKind::kString: return '"' + std::get<std::string>(value) + '"';
    case AttrKind::kInts: return list(std::get<std::vector<int64_t>>(value), integer);
    case AttrKind::kFloats: return list(std::get<std::vector<double>>(value), NumberText);
    case AttrKind::kDType: return std::string(Name(std::get<DType>(value)));
  }
  return "?";
}

// "f32[2]": type and rank.
std::string RankText(const TensorType& type) {
  return std::string(Name(type.dtype)) + "[" + std::to_string(type.shape.rank()) + "]";
}

int64_t ChannelsOf(const Node& conv, const Shape& x) {
  return x[conv.attrs.String("layout", "nchw") == "nhwc" ? x.rank() - 1 : 1];
}

// A convolution with a filter of its own for each channel. Its number of groups is not a choice but the number of
// channels, and goes with it when the shapes do: what is learned of one depthwise layer serves all.
bool IsDepthwise(const Node& node, std::span<const std::optional<TensorType>> operands) {
  if (node.op != Op::kConv || operands.size() < 2 || !operands[0] || !operands[1]) return false;
  const Shape &x = operands[0]->shape, &w = operands[1]->shape;
  const int64_t groups = node.attrs.Int("groups", 1);
  return groups > 1 && x.rank() > 2 && w.rank() > 2 && ChannelsOf(node, x) == groups && w[0] == groups && w[1] == 1;
}

// Op, parameters in order of their names, types and ranks of operands, "-" for absent ones, and the epilogue.
std::string NodeName(const Node& node, std::span<const std::optional<TensorType>> operands) {
  std::string name(Name(node.op));
  const bool depthwise = IsDepthwise(node, operands);
  if (!node.attrs.empty()) {
    const char* separator = " {";
    for (const auto& [key, value] : node.attrs) {
      name += separator + key + " = " + (depthwise && key == "groups" ? "channels" : AttrText(value));
      separator = ", ";
    }
    name += "}";
  }
  name += " (";
  for (size_t k = 0; k < operands.size(); ++k) {
    if (k != 0) name += k == node.inputs.size() ? "; " : ", ";
    name += operands[k] ? RankText(*operands[k]) : "-";
  }
  name += ")";
  if (node.epilogue)
    name += " epilogue " + std::string(Name(node.epilogue->dtype)) + " " + node.epilogue->body.ToString();
  return name;
}

// A graph of nothing but `like` on graph inputs of these types, each operand a value of its own.
StatusOr<Graph> SingleNodeGraph(const Node& like, std::span<const std::optional<TensorType>> operands) {
  Graph graph;
  Node node = {.op = like.op, .name = like.name, .inputs = {}, .outputs = {}, .attrs = like.attrs, .epilogue = {}};
  std::vector<ValueId> ids;
  for (const std::optional<TensorType>& type : operands) {
    if (!type) {
      ids.push_back(ValueId::kNone);
      continue;
    }
    RETURN_IF_ERROR(CheckShape(type->dtype, type->shape));
    ids.push_back(
        graph.AddValue({.name = "in" + std::to_string(ids.size()), .type = *type, .kind = ValueKind::kInput}));
    graph.inputs.push_back(ids.back());
  }
  node.inputs.assign(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(like.inputs.size()));
  ASSIGN_OR_RETURN(std::vector<TensorType> types, InferTypes(graph, node));
  if (like.epilogue) {
    node.epilogue = *like.epilogue;
    node.epilogue->inputs.assign(ids.begin() + static_cast<std::ptrdiff_t>(like.inputs.size()), ids.end());
    for (ValueId id : node.epilogue->inputs) {
      const std::optional<Shape> joined = BroadcastShapes(types[0].shape, graph[id].type.shape);
      if (!joined || *joined != types[0].shape) {
        return Error(ErrorCode::kShapeMismatch, "epilogue of '", node.name,
                     "': expected an operand that broadcasts to ", types[0].shape, ", found ", graph[id].type.shape);
      }
    }
    RETURN_IF_ERROR(node.epilogue->body.Verify(types[0].shape.rank()));
    types[0].dtype = node.epilogue->dtype;
  }
  for (const TensorType& type : types) {
    node.outputs.push_back(graph.AddValue({.name = "out" + std::to_string(node.outputs.size()), .type = type}));
    graph.outputs.push_back(node.outputs.back());
  }
  graph.nodes.push_back(std::move(node));
  return graph;
}

StatusOr<BlackBox> MakeNodeBox(const Node& node, std::span<const std::optional<TensorType>> operands) {
  ASSIGN_OR_RETURN(Graph single, SingleNodeGraph(node, operands));
  const auto graph = std::make_shared<const Graph>(std::move(single));
  BlackBox box;
  box.inputs.assign(operands.begin(), operands.end());
  for (ValueId id : graph->outputs) box.outputs.push_back((*graph)[id].type);
  box.name = NodeName(graph->nodes[0], operands);
  box.run = [graph](std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
    std::vector<RefTensor> results = InterpretNode(*graph, graph->nodes[0], inputs);
    for (size_t k = 0; k < outputs.size(); ++k) outputs[k] = std::move(results[k]);
  };
  const bool depthwise = IsDepthwise(node, operands);
  box.resized = [graph, depthwise](std::span<const std::optional<TensorType>> inputs) -> StatusOr<BlackBox> {
    const Node& own = graph->nodes[0];
    if (!depthwise) return MakeNodeBox(own, inputs);
    Node resized = own;
    if (inputs.size() >= 2 && inputs[0] && inputs[0]->shape.rank() > 2) {
      resized.attrs.Set("groups", ChannelsOf(own, inputs[0]->shape));
    }
    if (!IsDepthwise(resized, inputs)) {
      return Error(ErrorCode::kShapeMismatch, "depthwise '", own.name, "': expected a filter for each channel");
    }
    return MakeNodeBox(resized, inputs);
  };
  return box;
}

// What tells instances apart: the name and all extents.
std::string InstanceKey(const BlackBox& box) {
  std::string key = box.name + " :";
  for (const std::optional<TensorType>& type : box.inputs) key += type ? " " + type->ToString() : " -";
  key += " ->";
  for (const TensorType& type : box.outputs) key += " " + type.ToString();
  return key;
}

}  // namespace

std::string_view Name(RuleMode mode) { return kModeNames[static_cast<int>(mode)]; }

StatusOr<RuleMode> ParseRuleMode(std::string_view text) {
  for (RuleMode mode : {RuleMode::kLearned, RuleMode::kInstance, RuleMode::kExact}) {
    if (Name(mode) == text) return mode;
  }
  return Error(ErrorCode::kUsageInvalid, "rules: expected learned, instance or exact, found '", text, "'");
}

BlackBox BlackBoxOf(const Graph& graph, const Node& node) {
  std::vector<std::optional<TensorType>> operands;
  for (ValueId id : Operands(node)) {
    operands.push_back(id == ValueId::kNone ? std::nullopt : std::optional<TensorType>(graph[id].type));
  }
  StatusOr<BlackBox> box = MakeNodeBox(node, operands);
  TES_CHECK(box.ok(), node.name, ": ", box.status());
  return *std::move(box);
}

namespace {

// Scrambling an instance takes runs in proportion to its elements, each of the whole op: seconds at this size.
constexpr int64_t kMostToScramble = 4096;

int64_t NumElements(const BlackBox& box) {
  int64_t elements = 0;
  for (const std::optional<TensorType>& input : box.inputs) elements += input ? input->shape.num_elements() : 0;
  for (const TensorType& output : box.outputs) elements += output.shape.num_elements();
  return elements;
}

}  // namespace

struct RuleBook::State {
  struct Kept {
    Entry entry;
    std::unique_ptr<Transfer> transfer;
  };

  // The transfer of a box by scrambling; `values` gives constants.
  StatusOr<Kept> Scrambled(const BlackBox& box, ConstantValues values) {
    Kept kept = {.entry = {.name = box.name}};
    if (mode == RuleMode::kInstance) return Instance(box, std::move(kept));
    std::optional<Rule> rule = cache.Find(box);
    kept.entry.source = "cached";
    if (!rule) {
      StatusOr<Rule> learned = cache.FindOrLearn(box, options, &kept.entry.stats);
      if (!learned.ok() && learned.status().code() != ErrorCode::kRuleNotLearned) return learned.status();
      if (!learned.ok()) return Instance(box, std::move(kept));
      rule = *std::move(learned);
      kept.entry.source = "learned";
    }
    kept.transfer = std::make_unique<RuleTransfer>(*std::move(rule), std::move(values));
    return kept;
  }

  StatusOr<Kept> Instance(const BlackBox& box, Kept kept) const {
    kept.entry.source = "scrambled at this shape";
    kept.transfer = std::make_unique<InstanceTransfer>(box, options);
    return kept;
  }

  StatusOr<Kept> Make(const Graph& graph, const Node& node, const BlackBox& box) {
    if (const auto hand = by_hand.find(node.op); hand != by_hand.end()) {
      if (std::optional<Rule> rule = hand->second(graph, node)) {
        RETURN_IF_ERROR(CheckByHand(*rule, box));
        Kept kept = {.entry = {.name = box.name, .source = "by hand"}};
        kept.transfer = std::make_unique<RuleTransfer>(*std::move(rule), ValuesOf(NodeCompute(graph, node)));
        return kept;
      }
    }
    Compute compute = NodeCompute(graph, node);
    Kept kept = {.entry = {.name = box.name}};
    if (mode != RuleMode::kExact) {
      ASSIGN_OR_RETURN(kept, Scrambled(box, ValuesOf(compute)));
      const bool is_rule = dynamic_cast<const RuleTransfer*>(kept.transfer.get()) != nullptr;
      if (mode == RuleMode::kInstance || is_rule || NumElements(box) <= kMostToScramble) return kept;
      kept.entry.source = internal::Join("exact: no relation was learned, and ", NumElements(box),
                                         " elements are too many to scramble each");
    } else {
      kept.entry.source = "exact";
    }
    Rule rule = RuleOf(std::string(Name(node.op)), compute);
    kept.transfer = std::make_unique<RuleTransfer>(std::move(rule), ValuesOf(std::move(compute)));
    return kept;
  }

  // A rule by hand has to be one, and one of this node.
  static Status CheckByHand(const Rule& rule, const BlackBox& box) {
    RETURN_IF_ERROR(rule.Verify());
    bool same = rule.inputs.size() == box.inputs.size() && rule.outputs == box.outputs;
    for (size_t k = 0; same && k < box.inputs.size(); ++k) same = !box.inputs[k] || *box.inputs[k] == rule.inputs[k];
    if (same) return OkStatus();
    return Error(ErrorCode::kRuleInvalid, "rule by hand '", rule.name, "': expected the operands of ", InstanceKey(box),
                 ", found others");
  }

  template <typename MakeKept>
  StatusOr<const Transfer*> FindOrMake(const std::string& key, MakeKept make) {
    if (const auto found = kept.find(key); found != kept.end()) return found->second.transfer.get();
    ASSIGN_OR_RETURN(Kept made, make());
    order.push_back(key);
    return kept.emplace(key, std::move(made)).first->second.transfer.get();
  }

  RuleMode mode;
  ScrambleOptions options;
  RuleCache cache;
  std::map<Op, HandWritten> by_hand;
  std::map<std::string, Kept> kept;  // by InstanceKey
  std::vector<std::string> order;    // keys, as they were asked for
};

RuleBook::RuleBook(RuleMode mode, ScrambleOptions options) : state_(std::make_unique<State>()) {
  state_->mode = mode;
  state_->options = options;
}
RuleBook::~RuleBook() = default;
RuleBook::RuleBook(RuleBook&&) noexcept = default;

void RuleBook::Register(Op op, HandWritten make) { state_->by_hand[op] = std::move(make); }

StatusOr<const Transfer*> RuleBook::For(const Graph& graph, const Node& node) {
  const BlackBox box = BlackBoxOf(graph, node);
  StatusOr<const Transfer*> transfer =
      state_->FindOrMake(InstanceKey(box), [&] { return state_->Make(graph, node, box); });
  if (!transfer.ok()) return transfer.status().WithContext("node '" + node.name + "'");
  return transfer;
}

StatusOr<const Transfer*> RuleBook::For(const BlackBox& box) {
  return state_->FindOrMake("black box " + InstanceKey(box), [&] { return state_->Scrambled(box, ValuesOf(box)); });
}

Status RuleBook::Load(const std::string& path) {
  StatusOr<std::string> text = ReadFile(path, kMaxCacheFileBytes);
  if (!text.ok() && text.status().code() == ErrorCode::kFileNotFound) return OkStatus();
  Status status = text.status();
  // Tried on a cache that is thrown away first: half of a broken file is not worth having.
  if (text.ok()) status = RuleCache().Parse(*text);
  if (status.ok()) status = state_->cache.Parse(*text);
  if (!status.ok()) {
    TES_LOG(kWarning, "learned rules in '", path, "' are not used and will be learned again: ", status.message());
  }
  return OkStatus();
}

Status RuleBook::Save(const std::string& path) const { return WriteFileAtomically(path, state_->cache.ToString()); }

std::vector<RuleBook::Entry> RuleBook::Entries() const {
  std::vector<Entry> entries;
  for (const std::string& key : state_->order) {
    const State::Kept& kept = state_->kept.at(key);
    entries.push_back(kept.entry);
    entries.back().text = kept.transfer->ToString();
  }
  return entries;
}

RuleMode RuleBook::mode() const { return state_->mode; }

}  // namespace tessera
