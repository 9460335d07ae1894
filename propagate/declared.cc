#include "propagate/declared.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace tessera {
namespace {

// The same widths, nothing pruned: what is left to declare of a value whose mask has become a node. nullopt: nothing.
std::optional<Attribute> WidthsOnly(const Attribute& tesa, DType type) {
  const std::vector<int> widths = tesa.Widths();
  const int widest = widths.empty() ? TypeInfo(type).bits : widths.back();
  if (widths.size() <= 1 && widest == TypeInfo(type).bits) return std::nullopt;
  std::vector<uint8_t> bits = tesa.Bits();
  std::replace(bits.begin(), bits.end(), uint8_t{0}, static_cast<uint8_t>(widest));
  return Attribute::FromBits(tesa.shape(), bits);
}

Tensor MaskTensor(const Attribute& tesa) {
  Tensor mask(DType::kBool, tesa.shape());
  const Bitmap kept = tesa.KeptBitmap();
  for (int64_t k = 0; k < mask.num_elements(); ++k) mask.SetInt(k, kept[k] ? 1 : 0);
  return mask;
}

}  // namespace

int ApplyDeclaredMasks(Graph& graph) {
  std::vector<ValueId> masked;
  for (size_t v = 0; v < graph.values.size(); ++v) {
    const Value& value = graph.values[v];
    if (value.kind != ValueKind::kConstant && value.tesa && !value.tesa->keeps_all()) {
      masked.push_back(static_cast<ValueId>(v));
    }
  }
  if (masked.empty()) return 0;
  std::set<std::string> names;
  for (const Value& value : graph.values) names.insert(value.name);
  const auto unique = [&](const std::string& wanted) {
    std::string name = wanted;
    for (int k = 2; !names.insert(name).second; ++k) name = wanted + std::to_string(k);
    return name;
  };
  for (ValueId id : masked) {
    const Value original = graph[id];
    const std::string& name = original.name;
    const ValueId kept = graph.AddValue({.name = unique(name + ".kept"),
                                         .type = {DType::kBool, original.type.shape},
                                         .kind = ValueKind::kConstant,
                                         .constant = MaskTensor(*original.tesa)});
    const ValueId zero = graph.AddValue({.name = unique(name + ".zero"),
                                         .type = {original.type.dtype, {}},
                                         .kind = ValueKind::kConstant,
                                         .constant = Tensor(original.type.dtype, {})});
    ValueId raw = id, result = id;
    const std::optional<Attribute> widths = WidthsOnly(*original.tesa, original.type.dtype);
    size_t position = 0;
    if (original.kind == ValueKind::kInput) {
      // The input keeps its name, and everybody reads the masked one.
      result = graph.AddValue({.name = unique(name + ".masked"), .type = original.type, .quant = original.quant});
      ReplaceAllUses(graph, raw, result);
    } else {
      // The result keeps its name, and its maker makes another value.
      raw = graph.AddValue({.name = unique(name + ".raw"), .type = original.type, .quant = original.quant});
      for (size_t n = 0; n < graph.nodes.size(); ++n) {
        std::vector<ValueId>& outputs = graph.nodes[n].outputs;
        if (std::find(outputs.begin(), outputs.end(), id) == outputs.end()) continue;
        std::replace(outputs.begin(), outputs.end(), id, raw);
        position = n + 1;
      }
    }
    graph[id].tesa = widths;
    graph[result].tesa = widths;
    Node where = {.op = Op::kWhere, .name = name + ".mask", .inputs = {kept, raw, zero}, .outputs = {result}};
    graph.nodes.insert(graph.nodes.begin() + static_cast<std::ptrdiff_t>(position), std::move(where));
  }
  return static_cast<int>(masked.size());
}

}  // namespace tessera
