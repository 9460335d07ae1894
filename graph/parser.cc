#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <unordered_map>

#include "graph/op_names.h"
#include "graph/text.h"
#include "tesa/random.h"
#include "tesa/scanner.h"
#include "tesa/text.h"

namespace tessera {
namespace {

// Recursive descent without recursion: the grammar of text.h has no nesting.
class Parser {
 public:
  Parser(std::string_view text, const ParseOptions& options) : in_(text), options_(options) {}

  StatusOr<Graph> Parse() {
    RETURN_IF_ERROR(in_.Expect("graph"));
    ASSIGN_OR_RETURN(graph_.name, in_.Quoted());
    RETURN_IF_ERROR(in_.Expect("{"));
    while (!in_.Accept("return")) RETURN_IF_ERROR(Line());
    if (in_.Sees("%")) {
      ASSIGN_OR_RETURN(graph_.outputs, Names("%", /*or_none=*/false));
    }
    RETURN_IF_ERROR(in_.Expect("}"));
    if (!in_.AtEnd()) return in_.Fail("the end");
    RETURN_IF_ERROR(Reorder());
    return std::move(graph_);
  }

 private:
  Status Line() {
    if (in_.Sees("%") || in_.Sees("=")) return Definition();
    if (in_.Accept("metadata")) return Metadata();
    if (in_.Accept("inputs")) {
      graph_.inputs.clear();
      if (!in_.Sees("%")) return OkStatus();
      ASSIGN_OR_RETURN(graph_.inputs, Names("%", /*or_none=*/false));
      return OkStatus();
    }
    if (in_.Accept("order")) {
      ASSIGN_OR_RETURN(order_, in_.Ints());
      return OkStatus();
    }
    return in_.Fail("a value, metadata, inputs, order or return");
  }

  Status Metadata() {
    ASSIGN_OR_RETURN(std::string key, in_.Quoted());
    RETURN_IF_ERROR(in_.Expect("="));
    const Scanner before = in_;
    ASSIGN_OR_RETURN(std::string value, in_.Quoted());
    if (!graph_.metadata.emplace(std::move(key), std::move(value)).second) {
      return Scanner(before).Fail("each key of metadata once");
    }
    return OkStatus();
  }

  // `%` was seen: its name, bare or quoted.
  StatusOr<std::string> Name() {
    RETURN_IF_ERROR(in_.Expect("%"));
    if (in_.rest().substr(0, 1) == "\"") return in_.Quoted();
    const std::string_view rest = in_.rest();
    size_t end = 0;
    while (end < rest.size() &&
           (std::isalnum(static_cast<unsigned char>(rest[end])) != 0 || rest[end] == '_' || rest[end] == '.')) {
      ++end;
    }
    if (end == 0) return in_.Fail("a name after %");
    std::string name(rest.substr(0, end));
    in_.Advance(end);
    return name;
  }

  StatusOr<ValueId> Use(bool or_none) {
    if (or_none && in_.Accept("_")) return ValueId::kNone;
    const Scanner before = in_;
    ASSIGN_OR_RETURN(const std::string name, Name());
    const auto found = ids_.find(name);
    if (found == ids_.end()) return Scanner(before).Fail("a value that is defined above");
    return found->second;
  }

  // A list separated by commas; empty unless it begins with `first`, where that is given.
  StatusOr<std::vector<ValueId>> Names(std::string_view first, bool or_none) {
    std::vector<ValueId> ids;
    if (!in_.Sees(first) && !(or_none && in_.Sees("_"))) return ids;
    do {
      ASSIGN_OR_RETURN(const ValueId id, Use(or_none));
      ids.push_back(id);
    } while (in_.Accept(","));
    return ids;
  }

  // "(%a, _, %b)"
  StatusOr<std::vector<ValueId>> NamesInParentheses() {
    RETURN_IF_ERROR(in_.Expect("("));
    ASSIGN_OR_RETURN(std::vector<ValueId> ids, Names("%", /*or_none=*/true));
    RETURN_IF_ERROR(in_.Expect(")"));
    return ids;
  }

  // "%a: f32[2] tesa(…), %b: … = op…" or "= input" or "= constant …"
  Status Definition() {
    const Scanner start = in_;
    std::vector<Value> values;
    if (!in_.Sees("=")) {
      do {
        ASSIGN_OR_RETURN(Value value, TypedName());
        values.push_back(std::move(value));
      } while (in_.Accept(","));
    }
    RETURN_IF_ERROR(in_.Expect("="));
    if (static_cast<int64_t>(graph_.values.size() + values.size()) > options_.max_values) {
      return Error(ErrorCode::kLimitExceeded, "expected at most ", options_.max_values, " values");
    }
    const bool is_input = in_.Accept("input");
    if (is_input || in_.Accept("constant")) {
      if (values.size() != 1) return Scanner(start).Fail("one name for an input or a constant");
      Value& value = values[0];
      value.kind = is_input ? ValueKind::kInput : ValueKind::kConstant;
      if (!is_input) {
        ASSIGN_OR_RETURN(value.constant, Constant(value));
      }
      ASSIGN_OR_RETURN(const ValueId id, Define(std::move(value), start));
      if (is_input) graph_.inputs.push_back(id);
      return OkStatus();
    }
    return NodeOf(std::move(values), start);
  }

  StatusOr<Value> TypedName() {
    Value value;
    ASSIGN_OR_RETURN(value.name, Name());
    RETURN_IF_ERROR(in_.Expect(":"));
    ASSIGN_OR_RETURN(value.type, ParseTensorType(in_));
    if (in_.Sees("tesa")) {
      // A summary stands for a random attribute: another one for each place in the graph, the same in each run.
      ASSIGN_OR_RETURN(value.tesa, ParseAttribute(in_, value.type, graph_.values.size() + 1));
    }
    if (in_.Sees("quant")) {
      ASSIGN_OR_RETURN(value.quant, ParseQuantParams(in_));
    }
    return value;
  }

  StatusOr<ValueId> Define(Value value, const Scanner& start) {
    const ValueId id = static_cast<ValueId>(graph_.values.size());
    if (!ids_.emplace(value.name, id).second) {
      return Scanner(start).Fail("a name that is not yet taken");
    }
    return graph_.AddValue(std::move(value));
  }

  Status NodeOf(std::vector<Value> outputs, const Scanner& start) {
    Node node;
    const Scanner before_op = in_;
    ASSIGN_OR_RETURN(const std::string op_name, in_.Word("input, constant or an op"));
    const std::optional<Op> op = OpByName(op_name);
    if (!op) return Scanner(before_op).Fail("input, constant or an op");
    node.op = *op;
    if (in_.Peek() == '"') {
      ASSIGN_OR_RETURN(node.name, in_.Quoted());
    } else if (!outputs.empty()) {
      node.name = outputs[0].name;
    }
    ASSIGN_OR_RETURN(node.inputs, NamesInParentheses());
    if (in_.Accept("{")) {
      RETURN_IF_ERROR(Parameters(node.attrs));
    }
    if (in_.Accept("epilogue")) {
      Epilogue epilogue;
      ASSIGN_OR_RETURN(epilogue.inputs, NamesInParentheses());
      RETURN_IF_ERROR(in_.Expect(":"));
      ASSIGN_OR_RETURN(epilogue.dtype, ElementType());
      ASSIGN_OR_RETURN(epilogue.body, BodyText());
      node.epilogue = std::move(epilogue);
    }
    for (Value& output : outputs) {
      ASSIGN_OR_RETURN(const ValueId id, Define(std::move(output), start));
      node.outputs.push_back(id);
    }
    graph_.nodes.push_back(std::move(node));
    return OkStatus();
  }

  StatusOr<DType> ElementType() {
    const Scanner before = in_;
    ASSIGN_OR_RETURN(const std::string name, in_.Word("an element type"));
    const std::optional<DType> dtype = ParseDType(name);
    if (!dtype) return Scanner(before).Fail("an element type");
    return *dtype;
  }

  // From `(` to the first `}`: a body holds no braces of its own.
  StatusOr<Body> BodyText() {
    if (in_.Peek() != '(') return in_.Fail("a body");
    const size_t end = in_.rest().find('}');
    if (end == std::string_view::npos) return in_.Fail("a body that ends with }");
    const std::string_view text = in_.rest().substr(0, end + 1);
    Body body;
    if (text != "() { }") {
      StatusOr<Body> parsed = ParseBody(text);
      if (!parsed.ok()) return in_.At(parsed.status());
      body = *std::move(parsed);
    }
    in_.Advance(end + 1);
    return body;
  }

  // `{` was read.
  Status Parameters(Attrs& attrs) {
    if (in_.Accept("}")) return OkStatus();
    do {
      std::string name;
      const Scanner before = in_;
      if (in_.Peek() == '"') {
        ASSIGN_OR_RETURN(name, in_.Quoted());
      } else {
        ASSIGN_OR_RETURN(name, in_.Word("a parameter"));
      }
      if (attrs.Has(name)) return Scanner(before).Fail("each parameter once");
      RETURN_IF_ERROR(in_.Expect("="));
      ASSIGN_OR_RETURN(AttrValue value, Parameter());
      attrs.Set(name, std::move(value));
    } while (in_.Accept(","));
    return in_.Expect("}");
  }

  // Does a number that looks like a float stand here? It has a point or an exponent, or is inf or nan.
  bool SeesFloat() {
    if (in_.Sees("inf") || in_.Sees("-inf") || in_.Sees("nan")) return true;
    const size_t end = in_.rest().find_first_not_of("+-0123456789");
    return end != std::string_view::npos && (in_.rest()[end] == '.' || in_.rest()[end] == 'e');
  }

  StatusOr<AttrValue> Parameter() {
    const char c = in_.Peek();
    if (c == '"') {
      ASSIGN_OR_RETURN(std::string value, in_.Quoted());
      return AttrValue(std::move(value));
    }
    if (in_.Accept("floats")) {
      ASSIGN_OR_RETURN(std::vector<double> values, in_.Numbers());
      return AttrValue(std::move(values));
    }
    if (c == '[') {
      Scanner ahead = in_;
      RETURN_IF_ERROR(in_.Expect("["));
      const bool floats = in_.Peek() != ']' && SeesFloat();
      in_ = ahead;
      if (floats) {
        ASSIGN_OR_RETURN(std::vector<double> values, in_.Numbers());
        return AttrValue(std::move(values));
      }
      ASSIGN_OR_RETURN(std::vector<int64_t> values, in_.Ints());
      return AttrValue(std::move(values));
    }
    if (SeesFloat()) {
      ASSIGN_OR_RETURN(const double value, in_.Number());
      return AttrValue(value);
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
      ASSIGN_OR_RETURN(const int64_t value, in_.Int());
      return AttrValue(value);
    }
    ASSIGN_OR_RETURN(const DType dtype, ElementType());
    return AttrValue(dtype);
  }

  StatusOr<Tensor> Constant(const Value& value) {
    const TensorType& type = value.type;
    constant_bytes_ += ByteSize(type.dtype, type.shape.num_elements());
    if (constant_bytes_ > options_.max_constant_bytes) {
      return in_.At(Error(ErrorCode::kLimitExceeded, "expected constants of at most ", options_.max_constant_bytes,
                          " bytes together"));
    }
    if (in_.Peek() == '[') return Listed(type);
    if (in_.Accept("hex")) return FromBytes(type, ParseHex);
    if (in_.Accept("base64")) return FromBytes(type, ParseBase64);
    std::optional<Tensor> generated;
    if (in_.Accept("zeros")) {
      generated = Tensor(type.dtype, type.shape);
    } else if (in_.Accept("splat")) {
      RETURN_IF_ERROR(in_.Expect("("));
      ASSIGN_OR_RETURN(const double number, in_.Number());
      RETURN_IF_ERROR(in_.Expect(")"));
      generated = Tensor::Full(type.dtype, type.shape, number);
    } else if (in_.Accept("random")) {
      ASSIGN_OR_RETURN(generated, Drawn(type));
    }
    if (generated) return value.tesa ? value.tesa->ApplyTo(*generated) : *generated;
    if (in_.Accept("elided")) {
      return in_.Fail("the data of the constant: this text was printed without it; print it without eliding");
    }
    return in_.Fail("[…], hex, base64, zeros, splat(…) or random(…)");
  }

  // "(seed = 1, stddev = 0.02)", both optional.
  StatusOr<Tensor> Drawn(const TensorType& type) {
    int64_t seed = 0;
    double stddev = 1;
    RETURN_IF_ERROR(in_.Expect("("));
    while (!in_.Accept(")")) {
      if (in_.Accept("seed")) {
        RETURN_IF_ERROR(in_.Expect("="));
        ASSIGN_OR_RETURN(seed, in_.Int());
      } else if (in_.Accept("stddev")) {
        RETURN_IF_ERROR(in_.Expect("="));
        ASSIGN_OR_RETURN(stddev, in_.Number());
      } else {
        return in_.Fail("seed, stddev or )");
      }
      if (!in_.Accept(",") && !in_.Sees(")")) return in_.Fail(", or )");
    }
    Random random(static_cast<uint64_t>(seed));
    return RandomTensor(random, type, stddev);
  }

  StatusOr<Tensor> Listed(const TensorType& type) {
    // Collected first: a type may claim more elements than the text has.
    const Scanner start = in_;
    std::vector<double> floats;
    std::vector<int64_t> ints;
    const bool is_float = IsFloat(type.dtype);
    RETURN_IF_ERROR(in_.Expect("["));
    if (!in_.Accept("]")) {
      do {
        if (type.dtype == DType::kF32) {
          ASSIGN_OR_RETURN(const float value, Float());
          floats.push_back(value);
        } else if (is_float) {
          ASSIGN_OR_RETURN(const double value, in_.Number());
          floats.push_back(value);
        } else {
          ASSIGN_OR_RETURN(const int64_t value,
                           in_.IntIn(MinInt(type.dtype), MaxInt(type.dtype), "an integer of the type"));
          ints.push_back(value);
        }
      } while (in_.Accept(","));
      RETURN_IF_ERROR(in_.Expect("]"));
    }
    const int64_t found = static_cast<int64_t>(is_float ? floats.size() : ints.size());
    const int64_t expected = type.shape.num_elements();
    if (found != expected) {
      return Scanner(start).Fail(std::to_string(expected) + " elements instead of " + std::to_string(found));
    }
    Tensor tensor(type.dtype, type.shape);
    for (int64_t i = 0; i < expected; ++i) {
      if (is_float) {
        tensor.Set(i, floats[static_cast<size_t>(i)]);
      } else {
        tensor.SetInt(i, ints[static_cast<size_t>(i)]);
      }
    }
    return tensor;
  }

  // Straight to float: through double some decimals would round twice.
  StatusOr<float> Float() {
    const Scanner before = in_;
    ASSIGN_OR_RETURN(const double wide, in_.Number());
    if (!std::isfinite(wide)) return static_cast<float>(wide);
    const std::string_view text = before.rest();
    const size_t begin = text.find_first_of("-0123456789.");
    float value = 0;
    const auto [end, error] = std::from_chars(text.data() + begin, text.data() + text.size(), value);
    // Out of the range of floats: infinity or zero, as conversion gives.
    return error == std::errc() ? value : static_cast<float>(wide);
  }

  template <typename Decode>
  StatusOr<Tensor> FromBytes(const TensorType& type, Decode decode) {
    in_.Peek();
    const Scanner before = in_;
    const StatusOr<std::string> bytes = decode(in_.Digits());
    if (!bytes.ok()) return Scanner(before).At(bytes.status());
    const int64_t expected = ByteSize(type.dtype, type.shape.num_elements());
    if (static_cast<int64_t>(bytes->size()) != expected) {
      return Scanner(before).Fail(std::to_string(expected) + " bytes instead of " + std::to_string(bytes->size()));
    }
    Tensor tensor(type.dtype, type.shape);
    if (expected > 0) std::memcpy(tensor.mutable_bytes().data(), bytes->data(), bytes->size());
    return tensor;
  }

  // An `order` line gives the id of each definition in turn: a permutation.
  Status Reorder() {
    if (order_.empty()) return OkStatus();
    const size_t count = graph_.values.size();
    std::vector<bool> seen(count, false);
    bool is_permutation = order_.size() == count;
    for (int64_t id : order_) {
      is_permutation = is_permutation && id >= 0 && id < static_cast<int64_t>(count) && !seen[static_cast<size_t>(id)];
      if (is_permutation) seen[static_cast<size_t>(id)] = true;
    }
    if (!is_permutation) {
      return Error(ErrorCode::kTextInvalid, "order: expected each of 0…", static_cast<int64_t>(count) - 1, " once");
    }
    std::vector<Value> values(count);
    for (size_t k = 0; k < count; ++k) values[static_cast<size_t>(order_[k])] = std::move(graph_.values[k]);
    graph_.values = std::move(values);
    const auto move_all = [&](std::vector<ValueId>& ids) {
      for (ValueId& id : ids) {
        if (id != ValueId::kNone) id = static_cast<ValueId>(order_[static_cast<size_t>(Index(id))]);
      }
    };
    for (Node& node : graph_.nodes) {
      move_all(node.inputs);
      move_all(node.outputs);
      if (node.epilogue) move_all(node.epilogue->inputs);
    }
    move_all(graph_.inputs);
    move_all(graph_.outputs);
    return OkStatus();
  }

  Scanner in_;
  const ParseOptions options_;
  Graph graph_;
  std::unordered_map<std::string, ValueId> ids_;
  std::vector<int64_t> order_;
  int64_t constant_bytes_ = 0;
};

}  // namespace

StatusOr<Graph> ParseGraph(std::string_view text, const ParseOptions& options) { return Parser(text, options).Parse(); }

}  // namespace tessera
