#include "graph/passes/apply_masks.h"

#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "tesa/cells.h"

namespace tessera {
namespace {

bool IsMasked(const Value& value) {
  return value.kind != ValueKind::kConstant && value.tesa && !value.tesa->keeps_all();
}

// 1 where `bits` keeps, of the fewest axes and elements that broadcast to its shape.
Tensor MaskOf(const Cells<uint8_t>& bits) {
  Cells<uint8_t> kept = bits;
  for (uint8_t& value : kept.values) value = value != 0;
  kept = kept.Coarsest();
  std::vector<int64_t> start(kept.axes.size(), 0), size(kept.axes.size(), 1), extents;
  for (size_t d = 0; d < kept.axes.size(); ++d) {
    if (!kept.axes[d].is_whole()) size[d] = kept.axes[d].extent();
    if (size[d] != 1 || !extents.empty()) extents.push_back(size[d]);
  }
  Tensor mask(DType::kBool, Shape(std::move(extents)));
  const std::vector<uint8_t> elements = kept.Sliced(start, size).Elements();
  for (size_t i = 0; i < elements.size(); ++i) mask.SetInt(static_cast<int64_t>(i), elements[i]);
  return mask;
}

// What remains declared once the zeros are there: widths below the type's own. A 0 fits any width.
std::optional<Attribute> WidthsOf(Cells<uint8_t> bits, DType dtype) {
  uint8_t least = 0;
  for (uint8_t width : bits.values) least = width != 0 && (least == 0 || width < least) ? width : least;
  for (uint8_t& width : bits.values) width = width == 0 ? least : width;
  if (least == 0 || bits.IsUniform(static_cast<uint8_t>(TypeInfo(dtype).bits))) return std::nullopt;
  return AttributeOf(bits.Coarsest());
}

class Masker {
 public:
  explicit Masker(Graph& graph) : graph_(graph) {
    for (const Value& value : graph.values) names_.insert(value.name);
  }

  void Run() {
    std::vector<Node> nodes;
    std::vector<std::pair<ValueId, ValueId>> renamed;  // an input, and its masked form
    for (ValueId id : graph_.inputs) {
      if (!IsMasked(graph_[id])) continue;
      const Cells<uint8_t> bits = BitCells(*graph_[id].tesa);
      graph_[id].tesa.reset();
      const ValueId masked = Copy(id, ".masked");
      graph_[masked].kind = ValueKind::kComputed;
      nodes.push_back(Where(graph_[id].name + ".masked", bits, id, masked));
      renamed.emplace_back(id, masked);
    }
    std::vector<ValueId> now(graph_.values.size(), ValueId::kNone);
    for (const auto& [id, masked] : renamed) now[static_cast<size_t>(Index(id))] = masked;
    const auto redirect = [&](ValueId& id) {
      if (id != ValueId::kNone && now[static_cast<size_t>(Index(id))] != ValueId::kNone) {
        id = now[static_cast<size_t>(Index(id))];
      }
    };
    for (Node& node : graph_.nodes) {
      for (ValueId& id : node.inputs) redirect(id);
      if (node.epilogue) {
        for (ValueId& id : node.epilogue->inputs) redirect(id);
      }
      nodes.push_back(std::move(node));
      // By index: `nodes` grows. Readers and graph outputs keep the id, which is now the masked value's.
      const size_t at = nodes.size() - 1;
      for (size_t k = 0; k < nodes[at].outputs.size(); ++k) {
        const ValueId id = nodes[at].outputs[k];
        if (!IsMasked(graph_[id])) continue;
        const Cells<uint8_t> bits = BitCells(*graph_[id].tesa);
        graph_[id].tesa.reset();
        const ValueId raw = Copy(id, ".unmasked");
        nodes[at].outputs[k] = raw;
        nodes.push_back(Where(nodes[at].name + ".mask", bits, raw, id));
      }
    }
    graph_.nodes = std::move(nodes);
  }

 private:
  ValueId Add(Value value) {
    std::string name = value.name;
    for (int k = 1; !names_.insert(name).second; ++k) name = value.name + "." + std::to_string(k);
    value.name = std::move(name);
    return graph_.AddValue(std::move(value));
  }

  ValueId Copy(ValueId id, const char* suffix) {
    Value value = graph_[id];
    value.name += suffix;
    return Add(std::move(value));
  }

  ValueId Constant(const std::string& name, Tensor data) {
    Value value;
    value.name = name;
    value.type = data.type();
    value.kind = ValueKind::kConstant;
    value.constant = std::move(data);
    return Add(std::move(value));
  }

  // masked = where(mask, raw, 0)
  Node Where(std::string name, const Cells<uint8_t>& bits, ValueId raw, ValueId masked) {
    const DType dtype = graph_[raw].type.dtype;
    const std::string source = graph_[raw].name;
    const ValueId mask = Constant(source + ".mask", MaskOf(bits));
    const ValueId zero = Constant(source + ".zero", Tensor(dtype, Shape()));
    graph_[masked].tesa = WidthsOf(bits, dtype);
    Node node;
    node.op = Op::kWhere;
    node.name = std::move(name);
    node.inputs = {mask, raw, zero};
    node.outputs = {masked};
    return node;
  }

  Graph& graph_;
  std::unordered_set<std::string> names_;
};

}  // namespace

Status ApplyMasks(Graph& graph) {
  for (const Value& value : graph.values) {
    if (!IsMasked(value)) continue;
    Masker(graph).Run();
    break;
  }
  return OkStatus();
}

}  // namespace tessera
