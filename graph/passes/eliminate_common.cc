#include "graph/passes/eliminate_common.h"

#include <cstring>
#include <string>
#include <unordered_map>
#include <variant>

#include "graph/passes/rewriter.h"

namespace tessera {
namespace {

constexpr int64_t kSmallConstantBytes = 64;

// Appends the bytes of a plain value, or of a sequence with its length: what is appended can be told apart again.
template <typename T>
void Append(std::string& key, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  key.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
template <typename T>
void AppendAll(std::string& key, const T& values) {
  Append(key, values.size());
  key.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(*values.data()));
}

void AppendAttr(std::string& key, const AttrValue& value) {
  Append(key, value.index());
  std::visit(
      [&](const auto& v) {
        if constexpr (std::is_trivially_copyable_v<std::decay_t<decltype(v)>>) {
          Append(key, v);
        } else {
          AppendAll(key, v);
        }
      },
      value);
}

// Equal for nodes that compute the same.
std::string KeyOf(const Node& node) {
  std::string key;
  Append(key, node.op);
  AppendAll(key, node.inputs);
  for (const auto& [name, value] : node.attrs) {
    AppendAll(key, name);
    AppendAttr(key, value);
  }
  if (node.epilogue) {
    AppendAll(key, node.epilogue->inputs);
    Append(key, node.epilogue->dtype);
    AppendAll(key, node.epilogue->body.ToString());
  }
  return key;
}

// Equal for constants that are the same; empty for those that are not compared.
std::string KeyOf(const Value& value) {
  if (value.tesa || value.quant) return "";
  std::string key;
  Append(key, value.type.dtype);
  AppendAll(key, value.type.shape.dims());
  if (value.constant.byte_size() <= kSmallConstantBytes) {
    AppendAll(key, value.constant.bytes());
  } else {
    Append(key, value.constant.bytes().data());
  }
  return key;
}

}  // namespace

Status EliminateCommon(Graph& graph) {
  Rewriter r(graph);
  std::unordered_map<std::string, ValueId> constants;
  for (int k = 0; k < static_cast<int>(graph.values.size()); ++k) {
    const ValueId id = static_cast<ValueId>(k);
    if (!graph.IsConstant(id)) continue;
    const std::string key = KeyOf(r.value(id));
    if (key.empty()) continue;
    const auto [first, is_new] = constants.emplace(key, id);
    if (!is_new) r.Replace(id, first->second);
  }
  std::unordered_map<std::string, NodeId> nodes;
  for (NodeId id = r.First(), following; id != NodeId::kNone; id = following) {
    following = r.Following(id);
    const auto [first, is_new] = nodes.emplace(KeyOf(r.node(id)), id);
    if (is_new || r.node(id).outputs.size() != 1) continue;
    // Looked up by node: a result may have changed its id when a graph output's name was saved.
    r.Replace(r.node(id).outputs[0], r.node(first->second).outputs[0]);
  }
  return std::move(r).Finish();
}

}  // namespace tessera
