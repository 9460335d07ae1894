#include "models/import/graph_writer.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace tessera {
namespace {

// What a node may cost to be folded, in elements touched. The reference kernels take some 20 ns each, so one node takes
// about a second at most; a weight of 30522 x 384 (BERT's vocabulary) is 2^23.5.
constexpr double kMaxFoldCost = 1 << 26;
constexpr double kMaxFoldElements = 1 << 25;
// What all folding of one model may produce, so that a hostile file cannot grow without end.
constexpr int64_t kMaxFoldedElements = int64_t{1} << 29;

double Elements(const Shape& shape) {
  double count = 1;
  for (int64_t dim : shape) count *= static_cast<double>(dim);
  return count;
}

// Ops that move elements of operand 0 and change none, so that a mask may be moved alike.
bool Moves(Op op) {
  return op == Op::kReshape || op == Op::kTranspose || op == Op::kExpand || op == Op::kTile || op == Op::kSlice;
}

// Element-wise ops f with f(0, …) = 0 in operand 0: what is pruned before is pruned after.
bool KeepsZeros(Op op) {
  return op == Op::kCast || op == Op::kNeg || op == Op::kAbs || op == Op::kMul || op == Op::kDiv ||
         op == Op::kDequantize;
}

Tensor RunReference(const Node& node, const std::vector<const Tensor*>& inputs, const TensorType& type) {
  OpContext context = {.attrs = node.attrs, .inputs = {}, .outputs = {type}};
  std::vector<RefTensor> operands(inputs.size());
  std::vector<const RefTensor*> pointers(inputs.size(), nullptr);
  for (size_t k = 0; k < inputs.size(); ++k) {
    if (inputs[k] == nullptr) {
      context.inputs.push_back(std::nullopt);
      continue;
    }
    context.inputs.push_back(inputs[k]->type());
    operands[k] = RefTensor::From(*inputs[k]);
    pointers[k] = &operands[k];
  }
  std::vector<RefTensor> outputs;
  outputs.emplace_back(type);
  GetOp(node.op).reference(context, pointers, outputs);
  return outputs[0].ToTensor();
}

}  // namespace

std::string SanitizedName(std::string_view name) {
  std::string result;
  for (char c : name) {
    const bool valid = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                       c == '.' || c == '/' || c == ':' || c == '-';
    result += valid ? c : '_';
  }
  return result.empty() ? "_" : result;
}

StatusOr<Tensor> MaskFromTensor(const Tensor& tensor) {
  Tensor mask(DType::kU8, tensor.shape());
  int64_t largest = 0;
  for (int64_t i = 0; i < tensor.num_elements(); ++i) {
    const int64_t width = IsInteger(tensor.dtype()) ? tensor.GetInt(i) : tensor.Get(i) != 0;
    if (width < 0 || width > Attribute::kMaxBits) {
      return Error(ErrorCode::kTesaInvalid, "expected a mask of 0 and 1, or bit widths up to ", Attribute::kMaxBits,
                   ", found ", width, " at element ", i);
    }
    largest = std::max(largest, width);
    mask.SetInt(i, width);
  }
  if (largest > 1) return mask;
  for (int64_t i = 0; i < mask.num_elements(); ++i) {
    if (mask.GetInt(i) != 0) mask.SetInt(i, kOwnWidth);
  }
  return mask;
}

GraphWriter::GraphWriter(std::string name) { graph_.name = std::move(name); }

ValueId GraphWriter::AddInput(std::string_view name, TensorType type) {
  const ValueId id = graph_.AddValue({.name = std::string(name), .type = std::move(type), .kind = ValueKind::kInput});
  origins_.emplace_back();
  graph_.inputs.push_back(id);
  return id;
}

ValueId GraphWriter::AddConstant(std::string_view name, Tensor data, ConstantOrigin origin) {
  const TensorType type = data.type();
  const ValueId id = graph_.AddValue(
      {.name = std::string(name), .type = type, .kind = ValueKind::kConstant, .constant = std::move(data)});
  origins_.push_back(std::move(origin));
  return id;
}

ValueId GraphWriter::Scalar(DType dtype, double value) {
  return AddConstant("constant", Tensor::Full(dtype, {}, value));
}

ValueId GraphWriter::Vector(DType dtype, const std::vector<double>& values) {
  Tensor tensor(dtype, {static_cast<int64_t>(values.size())});
  for (size_t k = 0; k < values.size(); ++k) tensor.Set(static_cast<int64_t>(k), values[k]);
  return AddConstant("constant", std::move(tensor));
}

StatusOr<ValueId> GraphWriter::Emit(Op op, std::string_view node_name, std::vector<ValueId> inputs, Attrs attrs,
                                    Fold fold) {
  Node node = {.op = op, .name = std::string(node_name), .inputs = std::move(inputs), .attrs = std::move(attrs)};
  ASSIGN_OR_RETURN(std::vector<TensorType> types, InferTypes(graph_, node));
  TES_CHECK(types.size() == 1, Name(op), " has ", types.size(), " outputs");
  const Status size = CheckShape(types[0].dtype, types[0].shape, kMaxTensorBytes);
  if (!size.ok()) return size.WithContext("node '" + node.name + "'");
  if (fold == Fold::kCheap && ShouldFold(node, types)) return FoldNode(node, types);
  const ValueId id = graph_.AddValue({.name = node.name, .type = types[0]});
  origins_.emplace_back();
  node.outputs = {id};
  graph_.nodes.push_back(std::move(node));
  return id;
}

bool GraphWriter::ShouldFold(const Node& node, const std::vector<TensorType>& types) const {
  double elements = Elements(types[0].shape);
  for (ValueId id : node.inputs) {
    if (id == ValueId::kNone) continue;
    if (!IsConstant(id)) return false;
    elements += Elements(shape(id));
  }
  if (node.inputs.empty()) return false;
  if (node.op == Op::kReshape) return true;  // shares the bytes
  // The work at each element of the result, where it is not about one.
  double depth = 1;
  if (node.op == Op::kMatmul) {
    const Shape& a = shape(node.inputs[0]);
    depth = static_cast<double>(a[a.rank() - (node.attrs.Int("transpose_a", 0) != 0 ? 2 : 1)]);
  } else if (node.op == Op::kConv) {
    const Shape& w = shape(node.inputs[1]);
    depth = w[0] > 0 ? Elements(w) / static_cast<double>(w[0]) : 1;
  } else if (node.op == Op::kMaxPool || node.op == Op::kAvgPool) {
    depth = Elements(Shape(node.attrs.Ints("kernel")));
  } else if (node.op == Op::kAttention) {
    return false;
  }
  return elements <= kMaxFoldElements && elements * depth <= kMaxFoldCost &&
         folded_elements_ + static_cast<int64_t>(elements) <= kMaxFoldedElements;
}

ValueId GraphWriter::FoldNode(const Node& node, const std::vector<TensorType>& types) {
  ConstantOrigin origin = FoldedOrigin(node, types[0]);
  if (node.op == Op::kReshape) {
    return AddConstant(node.name, constant(node.inputs[0]).Reshaped(types[0].shape), std::move(origin));
  }
  folded_elements_ += types[0].shape.num_elements();
  std::vector<const Tensor*> inputs;
  for (ValueId id : node.inputs) inputs.push_back(id == ValueId::kNone ? nullptr : &graph_[id].constant);
  return AddConstant(node.name, RunReference(node, inputs, types[0]), std::move(origin));
}

ConstantOrigin GraphWriter::FoldedOrigin(const Node& node, const TensorType& type) const {
  // The operand that the result is a form of: usually the first, in `mul(scale, w)` the second.
  size_t main = 0;
  if (node.op == Op::kMul && origin(node.inputs[0]).name.empty()) main = 1;
  if (!Moves(node.op) && !KeepsZeros(node.op)) return {};
  ConstantOrigin result = origin(node.inputs[main]);
  if (!result.mask) return result;
  // With a zero point, an integer 0 is not the real 0.
  const bool shifted = node.op == Op::kDequantize && node.inputs.size() > 2 && node.inputs[2] != ValueId::kNone;
  if (Moves(node.op)) {
    const TensorType mask_type = {DType::kU8, type.shape};
    result.mask =
        node.op == Op::kReshape ? result.mask->Reshaped(type.shape) : RunReference(node, {&*result.mask}, mask_type);
  } else if (result.mask->shape() != type.shape || shifted) {
    result.mask.reset();
    result.declared.clear();
  }
  return result;
}

void GraphWriter::SetName(ValueId id, std::string_view name) {
  if (graph_[id].kind != ValueKind::kInput) graph_[id].name = std::string(name);
}

StatusOr<GraphWriter::Finished> GraphWriter::Finish(const std::vector<std::pair<std::string, ValueId>>& outputs) {
  std::vector<bool> taken(graph_.values.size(), false);
  for (const auto& [name, value] : outputs) {
    ValueId id = value;
    if (IsConstant(id)) {
      id = AddConstant(name, constant(id), origin(id));
    } else if (graph_[id].kind == ValueKind::kInput || taken[Index(id)]) {
      Attrs attrs;
      attrs.Set("shape", shape(id).dims());
      ASSIGN_OR_RETURN(id, Emit(Op::kReshape, name, {id}, std::move(attrs)));
    }
    taken.resize(graph_.values.size(), false);
    taken[Index(id)] = true;
    graph_[id].name = name;
    graph_.outputs.push_back(id);
  }
  // RemoveDeadNodes renumbers values; names are unique only afterwards, so the origins travel by position in a name.
  for (size_t k = 0; k < graph_.values.size(); ++k) {
    graph_.values[k].name = std::to_string(k) + " " + graph_.values[k].name;
  }
  RemoveDeadNodes(graph_);
  Finished finished;
  for (Value& value : graph_.values) {
    const size_t space = value.name.find(' ');
    finished.origins.push_back(std::move(origins_[std::stoul(value.name.substr(0, space))]));
    value.name = value.name.substr(space + 1);
  }
  // What a user writes (inputs, outputs) gets its name first, then constants, then the rest.
  std::unordered_set<std::string> names;
  std::unordered_map<std::string, int> next;  // the number to try next behind a wish that many values share
  std::vector<bool> named(graph_.values.size(), false);
  const auto give = [&](ValueId id) {
    if (named[Index(id)]) return;
    named[Index(id)] = true;
    const std::string wish = SanitizedName(graph_[id].name);
    std::string name = wish;
    while (!names.insert(name).second) name = wish + "_" + std::to_string(++next[wish]);
    graph_[id].name = name;
  };
  for (ValueId id : graph_.inputs) give(id);
  for (ValueId id : graph_.outputs) give(id);
  for (size_t k = 0; k < graph_.values.size(); ++k) {
    if (graph_.values[k].kind == ValueKind::kConstant) give(static_cast<ValueId>(k));
  }
  for (size_t k = 0; k < graph_.values.size(); ++k) give(static_cast<ValueId>(k));
  finished.graph = std::move(graph_);
  return finished;
}

}  // namespace tessera
