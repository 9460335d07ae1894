#include "models/import/onnx/node_list.h"

#include <algorithm>
#include <map>
#include <queue>
#include <set>
#include <unordered_map>

#include "onnx/onnx_pb.h"

namespace tessera {
namespace {

constexpr OnnxOp kOnnxOps[] = {
#define TES_ONNX_OP(op_type, domain, since, min_inputs, max_inputs, handler) \
  {op_type, domain, since, min_inputs, max_inputs, handler},
#include "models/import/onnx/onnx_ops.def"
#undef TES_ONNX_OP
};

// Functions may call functions; a hostile file could nest them without end, or double at each level.
constexpr int kMaxFunctionDepth = 32;
constexpr size_t kMaxNodes = 1 << 20;
// How many nodes the error of missing operators names for each.
constexpr size_t kNamedNodes = 3;

using Opsets = std::map<std::string, int>;  // by domain

std::string Normalized(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

template <typename Imports>
Opsets ReadOpsets(const Imports& imports) {
  Opsets opsets;
  for (const onnx::OperatorSetIdProto& entry : imports) {
    opsets[Normalized(entry.domain())] = static_cast<int>(std::clamp<int64_t>(entry.version(), 0, 1 << 20));
  }
  return opsets;
}

std::string NameOf(const onnx::NodeProto& node) {
  if (!node.name().empty()) return node.name();
  return node.output_size() > 0 ? node.output(0) : std::string("(unnamed)");
}

// Replaces calls of functions by their bodies, recursively.
class Inliner {
 public:
  Inliner(const onnx::ModelProto& model, NodeList& list) : list_(list) {
    for (const onnx::FunctionProto& function : model.functions()) {
      functions_[{Normalized(function.domain()), function.name()}] = &function;
    }
  }

  Status Add(const onnx::NodeProto& node, const Opsets& opsets, int depth) {
    const std::string domain = Normalized(node.domain());
    const auto function = functions_.find({domain, node.op_type()});
    if (function == functions_.end()) {
      if (list_.nodes.size() >= kMaxNodes) {
        return Error(ErrorCode::kLimitExceeded, "the model has more than ", kMaxNodes, " nodes");
      }
      const auto opset = opsets.find(domain);
      list_.nodes.push_back({&node, opset == opsets.end() ? 1 : opset->second, nullptr});
      return OkStatus();
    }
    if (depth >= kMaxFunctionDepth) {
      return Error(ErrorCode::kLimitExceeded, "node '", NameOf(node), "': functions nest deeper than ",
                   kMaxFunctionDepth, ", or call themselves");
    }
    return AddBody(node, *function->second, depth);
  }

 private:
  Status AddBody(const onnx::NodeProto& call, const onnx::FunctionProto& function, int depth) {
    // What is local to the body gets a prefix that no other name has.
    const std::string prefix = NameOf(call) + "/" + function.name() + "_" + std::to_string(++calls_) + "/";
    std::unordered_map<std::string, std::string> renamed;
    for (int k = 0; k < function.input_size(); ++k) {
      renamed[function.input(k)] = k < call.input_size() ? call.input(k) : "";
    }
    for (int k = 0; k < function.output_size(); ++k) {
      renamed[function.output(k)] =
          k < call.output_size() && !call.output(k).empty() ? call.output(k) : prefix + function.output(k);
    }
    const auto rename = [&](std::string* name) {
      if (name->empty()) return;
      const auto it = renamed.find(*name);
      *name = it != renamed.end() ? it->second : prefix + *name;
    };
    const Opsets opsets = ReadOpsets(function.opset_import());
    for (const onnx::NodeProto& inner : function.node()) {
      if (list_.inlined.size() >= kMaxNodes) {
        return Error(ErrorCode::kLimitExceeded, "the model's functions expand to more than ", kMaxNodes, " nodes");
      }
      onnx::NodeProto& node = list_.inlined.emplace_back(inner);
      node.set_name(prefix + NameOf(inner));
      for (std::string& name : *node.mutable_input()) rename(&name);
      for (std::string& name : *node.mutable_output()) rename(&name);
      BindAttributes(call, node);
      RETURN_IF_ERROR(Add(node, opsets, depth + 1));
    }
    return OkStatus();
  }

  // An attribute that refers to one of the call's takes its value, or is absent when the call does not give it.
  static void BindAttributes(const onnx::NodeProto& call, onnx::NodeProto& node) {
    for (int k = node.attribute_size() - 1; k >= 0; --k) {
      const std::string reference = node.attribute(k).ref_attr_name();
      if (reference.empty()) continue;
      const auto given = std::find_if(call.attribute().begin(), call.attribute().end(),
                                      [&](const onnx::AttributeProto& a) { return a.name() == reference; });
      if (given == call.attribute().end()) {
        node.mutable_attribute()->DeleteSubrange(k, 1);
        continue;
      }
      const std::string name = node.attribute(k).name();
      *node.mutable_attribute(k) = *given;
      node.mutable_attribute(k)->set_name(name);
    }
  }

  NodeList& list_;
  std::map<std::pair<std::string, std::string>, const onnx::FunctionProto*> functions_;
  int64_t calls_ = 0;
};

bool HasSubgraph(const onnx::NodeProto& node) {
  return std::any_of(node.attribute().begin(), node.attribute().end(),
                     [](const onnx::AttributeProto& a) { return a.has_g() || a.graphs_size() > 0; });
}

// Gives each node its row, or one error with all that have none.
Status FindHandlers(NodeList& list) {
  struct Missing {
    std::string what;
    std::vector<std::string> nodes;
    size_t count = 0;
  };
  std::map<std::string, Missing> missing;
  for (PlannedNode& node : list.nodes) {
    const std::string domain = Normalized(node.proto->domain());
    int since = 0;
    for (const OnnxOp& row : kOnnxOps) {
      if (row.op_type != node.proto->op_type() || row.domain != domain) continue;
      since = row.since;
      if (node.opset >= row.since) node.op = &row;
    }
    const bool subgraph = HasSubgraph(*node.proto);
    if (node.op != nullptr && !subgraph) continue;
    std::string what = node.proto->op_type() + " (";
    if (!domain.empty()) what += "domain " + domain + ", ";
    what += "opset " + std::to_string(node.opset);
    if (since > 0 && node.op == nullptr) what += "; known from opset " + std::to_string(since);
    if (subgraph) what += "; control flow, its branches or body are graphs";
    what += ")";
    Missing& entry = missing[what];
    ++entry.count;
    if (entry.nodes.size() < kNamedNodes) entry.nodes.push_back(NameOf(*node.proto));
  }
  if (missing.empty()) return OkStatus();
  std::string text;
  for (const auto& [what, entry] : missing) {
    text += text.empty() ? "" : "; ";
    text += what + " at node";
    for (size_t k = 0; k < entry.nodes.size(); ++k) text += (k == 0 ? " '" : ", '") + entry.nodes[k] + "'";
    if (entry.count > entry.nodes.size()) text += " and " + std::to_string(entry.count - entry.nodes.size()) + " more";
  }
  return Error(ErrorCode::kOpUnknown, "the model uses ", missing.size(),
               missing.size() == 1 ? " operator" : " operators", " that cannot be imported: ", text);
}

// Kahn's algorithm with the smallest position first, so that a valid order stays as it is.
Status Sort(NodeList& list) {
  std::unordered_map<std::string_view, size_t> producer;
  for (size_t n = 0; n < list.nodes.size(); ++n) {
    if (list.nodes[n].proto->output_size() == 0) {
      return Error(ErrorCode::kGraphInvalid, "node '", NameOf(*list.nodes[n].proto), "' (",
                   list.nodes[n].proto->op_type(), "): expected an output, found none");
    }
    for (const std::string& output : list.nodes[n].proto->output()) {
      if (output.empty()) continue;
      const auto [it, fresh] = producer.emplace(output, n);
      if (!fresh) {
        return Error(ErrorCode::kGraphInvalid, "value '", output, "' is computed by two nodes, '",
                     NameOf(*list.nodes[it->second].proto), "' and '", NameOf(*list.nodes[n].proto), "'");
      }
    }
  }
  std::vector<std::vector<size_t>> readers(list.nodes.size());
  std::vector<size_t> waiting(list.nodes.size(), 0);
  bool valid = true;
  for (size_t n = 0; n < list.nodes.size(); ++n) {
    std::set<size_t> sources;
    for (const std::string& input : list.nodes[n].proto->input()) {
      if (const auto it = producer.find(input); it != producer.end()) sources.insert(it->second);
    }
    for (size_t source : sources) {
      readers[source].push_back(n);
      valid = valid && source < n;
    }
    waiting[n] = sources.size();
  }
  if (valid) return OkStatus();
  std::priority_queue<size_t, std::vector<size_t>, std::greater<>> ready;
  for (size_t n = 0; n < waiting.size(); ++n) {
    if (waiting[n] == 0) ready.push(n);
  }
  std::vector<PlannedNode> sorted;
  while (!ready.empty()) {
    const size_t n = ready.top();
    ready.pop();
    sorted.push_back(list.nodes[n]);
    for (size_t reader : readers[n]) {
      if (--waiting[reader] == 0) ready.push(reader);
    }
  }
  if (sorted.size() != list.nodes.size()) {
    // Nodes behind a cycle wait as well; one that lies on it is found by walking back long enough.
    size_t n = 0;
    while (waiting[n] == 0) ++n;
    for (size_t step = 0; step < waiting.size(); ++step) {
      for (const std::string& input : list.nodes[n].proto->input()) {
        const auto it = producer.find(input);
        if (it == producer.end() || waiting[it->second] == 0) continue;
        n = it->second;
        break;
      }
    }
    return Error(ErrorCode::kGraphCyclic, "node '", NameOf(*list.nodes[n].proto), "' (", list.nodes[n].proto->op_type(),
                 ") depends on its own output; expected a graph without cycles");
  }
  list.nodes = std::move(sorted);
  list.sorted = true;
  return OkStatus();
}

}  // namespace

std::span<const OnnxOp> AllOnnxOps() { return kOnnxOps; }

StatusOr<NodeList> PlanNodes(const onnx::ModelProto& model) {
  NodeList list;
  const Opsets opsets = ReadOpsets(model.opset_import());
  Inliner inliner(model, list);
  for (const onnx::NodeProto& node : model.graph().node()) RETURN_IF_ERROR(inliner.Add(node, opsets, 0));
  RETURN_IF_ERROR(FindHandlers(list));
  RETURN_IF_ERROR(Sort(list));
  return list;
}

}  // namespace tessera
