#include "tools/common/input_spec.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "models/import/npy.h"
#include "tesa/random.h"
#include "tools/common/flags.h"

namespace tessera {
namespace {

Status Usage(const auto&... pieces) { return Error(ErrorCode::kUsageInvalid, pieces...); }

// "2x2xf32", "f32": extents, then the element type.
std::optional<TensorType> ParseTypePrefix(std::string_view text) {
  const size_t cross = text.rfind('x');
  const std::optional<DType> dtype = ParseDType(cross == std::string_view::npos ? text : text.substr(cross + 1));
  if (!dtype) return std::nullopt;
  if (cross == std::string_view::npos) return TensorType{*dtype, Shape()};
  StatusOr<std::vector<int64_t>> dims = ParseDims(text.substr(0, cross));
  if (!dims.ok()) return std::nullopt;
  return TensorType{*dtype, Shape(*dims)};
}

bool IsValue(std::string_view text) {
  return text.substr(0, 1) == "@" || text == "random" || text.substr(0, 7) == "random:" ||
         ParseTypePrefix(text.substr(0, text.find('='))).has_value();
}

StatusOr<Tensor> ParseNumbers(std::string_view text, const TensorType& type) {
  RETURN_IF_ERROR(CheckShape(type.dtype, type.shape));
  std::vector<std::string> words;
  for (const std::string& part : SplitList(text, ' ')) {
    for (const std::string& word : SplitList(part)) {
      if (!word.empty()) words.push_back(word);
    }
  }
  Tensor tensor(type.dtype, type.shape);
  const int64_t count = tensor.num_elements();
  if (words.size() != 1 && static_cast<int64_t>(words.size()) != count) {
    return Usage("expected ", count, " values for ", type, " (or one for all), found ", words.size());
  }
  for (int64_t k = 0; k < count; ++k) {
    const std::string& word = words[words.size() == 1 ? 0 : static_cast<size_t>(k)];
    if (IsFloat(type.dtype)) {
      ASSIGN_OR_RETURN(const double value, ParseDouble(word));
      tensor.Set(k, value);
      continue;
    }
    ASSIGN_OR_RETURN(const int64_t value, ParseInt(word == "true"    ? "1"
                                                   : word == "false" ? "0"
                                                                     : std::string_view(word)));
    const bool fits =
        IsBool(type.dtype) ? value == 0 || value == 1 : value >= MinInt(type.dtype) && value <= MaxInt(type.dtype);
    if (!fits) return Usage("the value ", value, " does not fit ", Name(type.dtype));
    tensor.SetInt(k, value);
  }
  return tensor;
}

StatusOr<Tensor> ParseRandom(std::string_view text, const TensorType* type) {
  if (type == nullptr) return Usage("'", text, "' needs a tensor whose type is known");
  const std::vector<std::string> parts = SplitList(text, ':');
  int64_t seed = 0;
  if (parts.size() > 1) {
    ASSIGN_OR_RETURN(seed, ParseInt(parts[1]));
  }
  if (parts.size() != 1 && parts.size() != 2 && parts.size() != 4)
    return Usage("expected random:SEED or random:SEED:LOW:HIGH, found '", text, "'");
  Random random(static_cast<uint64_t>(seed));
  if (parts.size() < 4) return RandomTensor(random, *type);
  ASSIGN_OR_RETURN(const double low, ParseDouble(parts[2]));
  ASSIGN_OR_RETURN(const double high, ParseDouble(parts[3]));
  if (!(low <= high)) return Usage("expected LOW <= HIGH in '", text, "'");
  return RandomTensorIn(random, *type, low, high);
}

std::string Names(const std::vector<Port>& ports) {
  std::string names;
  for (const Port& port : ports)
    names += (names.empty() ? "'" : ", '") + port.name + "' (" + port.type.ToString() + ")";
  return names.empty() ? "none" : names;
}

// Ops that hand elements on as they are: what indexes after them, indexes with the input's values.
bool MovesElements(Op op) {
  switch (op) {
    case Op::kCast:
    case Op::kReshape:
    case Op::kTranspose:
    case Op::kExpand:
    case Op::kTile:
    case Op::kSlice:
    case Op::kConcat: return true;
    default: return false;
  }
}

// The smallest extent that the elements of `input` index in a gather; nullopt when they index nothing.
std::optional<int64_t> IndexedExtent(const Graph& graph, ValueId input) {
  std::vector<bool> carries(graph.values.size(), false);
  carries[Index(input)] = true;
  std::optional<int64_t> extent;
  for (const Node& node : graph.nodes) {
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      if (node.inputs[k] == ValueId::kNone || !carries[Index(node.inputs[k])]) continue;
      if ((node.op == Op::kGather || node.op == Op::kGatherElements) && k == 1) {
        const int64_t indexed = graph[node.inputs[0]].type.shape[static_cast<int>(node.attrs.Int("axis"))];
        extent = std::min(extent.value_or(indexed), indexed);
      } else if (MovesElements(node.op) && !node.epilogue) {
        for (ValueId output : node.outputs) carries[Index(output)] = true;
      }
    }
  }
  return extent;
}

}  // namespace

std::vector<Port> InputPorts(const Graph& graph) {
  std::vector<Port> ports;
  for (ValueId id : graph.inputs) ports.push_back({graph[id].name, graph[id].type});
  return ports;
}

std::vector<Port> OutputPorts(const Graph& graph) {
  std::vector<Port> ports;
  for (ValueId id : graph.outputs) ports.push_back({graph[id].name, graph[id].type});
  return ports;
}

std::pair<std::string, std::string> SplitNamed(std::string_view text) {
  if (IsValue(text)) return {"", std::string(text)};
  // The value begins after the first `=` that leaves one; names from elsewhere may hold any character.
  for (size_t equals = text.find('='); equals != std::string_view::npos; equals = text.find('=', equals + 1)) {
    if (IsValue(text.substr(equals + 1)))
      return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
  }
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) return {"", std::string(text)};
  return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

StatusOr<Tensor> ParseValue(std::string_view text, const TensorType* type) {
  if (text.substr(0, 6) == "random") return ParseRandom(text, type);
  Tensor tensor;
  if (text.substr(0, 1) == "@") {
    ASSIGN_OR_RETURN(tensor, ReadNpy(UserPath(std::string(text.substr(1)))));
  } else {
    const size_t equals = text.find('=');
    const std::optional<TensorType> given = ParseTypePrefix(text.substr(0, equals));
    if (!given || equals == std::string_view::npos) {
      return Usage("expected @FILE.npy, a type with values such as 2x2xf32=1 2 3 4, or random:SEED; found '", text,
                   "'");
    }
    ASSIGN_OR_RETURN(tensor, ParseNumbers(text.substr(equals + 1), *given));
  }
  if (type == nullptr || tensor.type() == *type) return tensor;
  return Error(tensor.dtype() == type->dtype ? ErrorCode::kShapeMismatch : ErrorCode::kTypeMismatch, "expected ", *type,
               ", found ", tensor.type());
}

StatusOr<std::vector<Tensor>> ResolveInputs(const Graph& graph, const std::vector<std::string>& specs,
                                            const int64_t* seed) {
  const std::vector<Port> ports = InputPorts(graph);
  std::vector<std::optional<Tensor>> given(ports.size());
  for (const std::string& spec : specs) {
    const auto [name, value] = SplitNamed(spec);
    const auto at = name.empty()
                        ? std::find(given.begin(), given.end(), std::nullopt) - given.begin()
                        : std::find_if(ports.begin(), ports.end(), [&n = name](const Port& p) { return p.name == n; }) -
                              ports.begin();
    if (at == static_cast<std::ptrdiff_t>(ports.size())) {
      if (name.empty())
        return Error(ErrorCode::kInputUnknown, "'", spec, "' is one input more than the model has; it has ",
                     Names(ports));
      return Error(ErrorCode::kInputUnknown, "the model has no input '", name, "'; it has ", Names(ports));
    }
    StatusOr<Tensor> tensor = ParseValue(value, &ports[at].type);
    if (!tensor.ok()) return tensor.status().WithContext("input '" + ports[at].name + "'");
    given[at] = *std::move(tensor);
  }
  std::vector<Tensor> tensors;
  for (size_t k = 0; k < ports.size(); ++k) {
    if (!given[k] && seed == nullptr) {
      return Error(ErrorCode::kInputMissing, "input '", ports[k].name, "' (", ports[k].type,
                   ") was not given; give it with --input=", ports[k].name, "=@FILE.npy, or --random=SEED for all");
    }
    tensors.push_back(given[k] ? *given[k]
                               : DefaultInput(graph, graph.inputs[k], static_cast<uint64_t>(*seed) * 1000 + k));
  }
  return tensors;
}

Tensor DefaultInput(const Graph& graph, ValueId input, uint64_t seed) {
  const TensorType& type = graph[input].type;
  Random random(seed);
  if (IsFloat(type.dtype)) return RandomTensor(random, type);
  const std::optional<int64_t> extent = IndexedExtent(graph, input);
  if (extent)
    return RandomTensorIn(random, type, 0,
                          static_cast<double>(std::max<int64_t>(0, std::min(*extent - 1, MaxInt(type.dtype)))));
  // Quantised images and activations are spread over their type; what is wider counts or masks.
  if (TypeInfo(type.dtype).bits <= 8 && !IsBool(type.dtype)) return RandomTensor(random, type);
  return Tensor::Full(type.dtype, type.shape, 1);
}

}  // namespace tessera
