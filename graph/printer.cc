#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/hash.h"
#include "graph/op_names.h"
#include "graph/text.h"
#include "tesa/scanner.h"
#include "tesa/text.h"

namespace tessera {
namespace {

bool IsPlain(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  });
}

bool IsWord(std::string_view name) { return IsPlain(name) && name.find('.') == std::string_view::npos; }

// A float that cannot be taken for an integer.
std::string FloatText(double value) {
  std::string text = FormatNumber(value);
  return text.find_first_of(".einf") == std::string::npos ? text + ".0" : text;
}

template <typename T, typename Format>
std::string ListText(const std::vector<T>& values, Format format) {
  std::string text = "[";
  for (size_t k = 0; k < values.size(); ++k) {
    if (k > 0) text += ", ";
    text += format(values[k]);
  }
  return text + "]";
}

// Typed by its looks, as the parser takes it.
struct AttrText {
  std::string operator()(int64_t v) const { return std::to_string(v); }
  std::string operator()(double v) const { return FloatText(v); }
  std::string operator()(const std::string& v) const { return Quote(v); }
  std::string operator()(const std::vector<int64_t>& v) const {
    return ListText(v, [](int64_t x) { return std::to_string(x); });
  }
  std::string operator()(const std::vector<double>& v) const { return v.empty() ? "floats[]" : ListText(v, FloatText); }
  std::string operator()(DType v) const { return std::string(Name(v)); }
};

// Can the elements be listed as numbers without loss? A NaN has bits that a number does not show.
bool IsListable(const Tensor& tensor) {
  for (int64_t i = 0; i < tensor.num_elements(); ++i) {
    if (IsFloat(tensor.dtype()) && std::isnan(tensor.Get(i))) return false;
    if (tensor.dtype() == DType::kU64 && tensor.GetInt(i) < 0) return false;
    // A byte of a bool beyond 0 and 1, were there one, would be lost.
    if (IsBool(tensor.dtype()) && static_cast<unsigned>(tensor.bytes()[static_cast<size_t>(i)]) > 1) return false;
  }
  // So would the unused half of the last byte of nibbles.
  const bool odd_nibbles = TypeInfo(tensor.dtype()).bits == 4 && tensor.num_elements() % 2 != 0;
  return !odd_nibbles || (static_cast<unsigned>(tensor.bytes().back()) >> 4) == 0;
}

std::string ElementText(const Tensor& tensor, int64_t i) {
  if (!IsFloat(tensor.dtype())) return std::to_string(tensor.GetInt(i));
  if (tensor.dtype() != DType::kF32) return FormatNumber(tensor.Get(i));
  // The shortest text that reads back as the same float, which a double's is not.
  const float value = tensor.data<float>()[static_cast<size_t>(i)];
  if (std::isinf(value)) return FormatNumber(value);
  char buffer[32];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr);
}

class Printer {
 public:
  Printer(const Graph& graph, const PrintOptions& options) : graph_(graph), options_(options) {}

  std::string Print() {
    text_ = "graph " + Quote(graph_.name) + " {\n";
    for (const auto& [key, value] : graph_.metadata) {
      text_ += "  metadata " + Quote(key) + " = " + Quote(value) + "\n";
    }
    printed_.assign(graph_.values.size(), false);
    for (const Node& node : graph_.nodes) {
      // Inputs and constants stand where their ids put them, and before their first use.
      int first_output = static_cast<int>(graph_.values.size());
      for (ValueId id : node.outputs) first_output = std::min(first_output, Index(id));
      while (next_ < first_output) PrintGiven(next_++);
      for (ValueId id : Operands(node)) PrintGiven(Index(id));
      text_ += "  " + NodeText(node) + "\n";
      for (ValueId id : node.outputs) MarkPrinted(Index(id));
    }
    for (int id = 0; id < static_cast<int>(graph_.values.size()); ++id) PrintGiven(id);
    PrintOrders();
    text_ += "  return" + NameList(graph_.outputs, " ") + "\n}\n";
    return std::move(text_);
  }

  std::string NodeText(const Node& node) const {
    std::string text;
    for (size_t k = 0; k < node.outputs.size(); ++k) {
      if (k > 0) text += ", ";
      text += Definition(node.outputs[k]);
    }
    text += (text.empty() ? "= " : " = ") + std::string(OpName(node.op));
    const bool named = node.outputs.empty() || !InRange(node.outputs[0]) || node.name != graph_[node.outputs[0]].name;
    if (named) text += " " + Quote(node.name);
    text += "(" + NameList(node.inputs, "") + ")";
    if (!node.attrs.empty()) {
      text += " {";
      bool first = true;
      for (const auto& [name, value] : node.attrs) {
        if (!first) text += ", ";
        first = false;
        text += (IsWord(name) ? name : Quote(name)) + " = " + std::visit(AttrText(), value);
      }
      text += "}";
    }
    if (node.epilogue) {
      text += " epilogue(" + NameList(node.epilogue->inputs, "") + "): " + std::string(Name(node.epilogue->dtype)) +
              " " + (node.epilogue->body.empty() ? "() { }" : node.epilogue->body.ToString());
    }
    return text;
  }

 private:
  bool InRange(ValueId id) const { return Index(id) >= 0 && Index(id) < static_cast<int>(graph_.values.size()); }

  std::string NameText(ValueId id) const {
    if (id == ValueId::kNone) return "_";
    if (!InRange(id)) return "%!" + std::to_string(Index(id));
    const std::string& name = graph_[id].name;
    return "%" + (IsPlain(name) ? name : Quote(name));
  }

  std::string NameList(const std::vector<ValueId>& ids, std::string_view before) const {
    std::string text;
    for (size_t k = 0; k < ids.size(); ++k) text += (k > 0 ? ", " : std::string(before)) + NameText(ids[k]);
    return text;
  }

  // "%w: f32[2,3] tesa(…) quant(…)"
  std::string Definition(ValueId id) const {
    std::string text = NameText(id);
    if (!InRange(id)) return text;
    const Value& value = graph_[id];
    text += ": " + value.type.ToString();
    if (value.tesa) text += " " + (options_.elide ? Summary(*value.tesa, value.type.dtype) : ToText(*value.tesa));
    if (value.quant) text += " " + ToText(*value.quant);
    return text;
  }

  void MarkPrinted(int id) {
    if (id < 0 || id >= static_cast<int>(printed_.size()) || printed_[static_cast<size_t>(id)]) return;
    printed_[static_cast<size_t>(id)] = true;
    order_.push_back(id);
    if (graph_.values[static_cast<size_t>(id)].kind == ValueKind::kInput) inputs_.push_back(static_cast<ValueId>(id));
  }

  // An input or a constant, once; computed values stand with their node.
  void PrintGiven(int id) {
    if (id < 0 || id >= static_cast<int>(printed_.size()) || printed_[static_cast<size_t>(id)]) return;
    const Value& value = graph_.values[static_cast<size_t>(id)];
    if (value.kind == ValueKind::kComputed) return;
    const bool is_input = value.kind == ValueKind::kInput;
    text_ += "  " + Definition(static_cast<ValueId>(id)) + " = ";
    text_ += (is_input ? "input" : "constant " + ConstantText(value.constant)) + "\n";
    MarkPrinted(id);
  }

  std::string ConstantText(const Tensor& tensor) const {
    const int64_t count = tensor.num_elements();
    const std::string_view bytes(reinterpret_cast<const char*>(tensor.bytes().data()),
                                 static_cast<size_t>(tensor.byte_size()));
    if (count <= options_.max_listed && IsListable(tensor)) {
      std::string text = "[";
      for (int64_t i = 0; i < count; ++i) text += (i > 0 ? ", " : "") + ElementText(tensor, i);
      return text + "]";
    }
    if (options_.elide) return "elided(" + HashBytes(bytes).ToHex().substr(0, 16) + ")";
    constexpr size_t kMaxHex = 64;
    return bytes.size() <= kMaxHex ? "hex " + FormatHex(bytes) : "base64 " + FormatBase64(bytes);
  }

  // Only where a reader of the definitions alone would number values, or list inputs, in another order.
  void PrintOrders() {
    if (inputs_ != graph_.inputs) text_ += "  inputs" + NameList(graph_.inputs, " ") + "\n";
    if (std::is_sorted(order_.begin(), order_.end())) return;
    text_ += "  order [";
    for (size_t k = 0; k < order_.size(); ++k) text_ += (k > 0 ? "," : "") + std::to_string(order_[k]);
    text_ += "]\n";
  }

  const Graph& graph_;
  const PrintOptions options_;
  std::string text_;
  int next_ = 0;                 // every given value below this id has been printed
  std::vector<bool> printed_;    // by value id
  std::vector<int> order_;       // ids in the order of their definitions
  std::vector<ValueId> inputs_;  // the inputs among them
};

}  // namespace

std::string PrintGraph(const Graph& graph, const PrintOptions& options) { return Printer(graph, options).Print(); }

std::string PrintNode(const Graph& graph, const Node& node) { return Printer(graph, {.elide = true}).NodeText(node); }

std::ostream& operator<<(std::ostream& out, const Graph& graph) { return out << PrintGraph(graph, {.elide = true}); }

}  // namespace tessera
