#include "models/import/onnx/node_case.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string_view>

#include "base/file.h"
#include "models/import/onnx/tensor_reader.h"
#include "onnx/onnx_pb.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

// What the project says it imports. Operators beyond it are run where they work, and are not counted as listed.
const std::set<std::string_view>& ListedOps() {
  static const auto& ops = *new std::set<std::string_view>{
      // Arithmetic, comparison, selection.
      "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Neg", "Abs", "Sign", "Floor", "Ceil", "Round", "Exp", "Log", "Sqrt",
      "Reciprocal", "Sin", "Cos", "Erf", "Min", "Max", "Sum", "Mean", "And", "Or", "Xor", "Not", "Equal", "Less",
      "LessOrEqual", "Greater", "GreaterOrEqual", "IsNaN", "IsInf", "Where", "Cast", "CastLike",
      // Activations.
      "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Softplus",
      "Softsign", "Elu", "Selu", "Celu", "ThresholdedRelu", "Mish",
      // Contractions, windows.
      "Conv", "MatMul", "Gemm", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "Upsample",
      // Reductions, normalisations.
      "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
      "ReduceLogSumExp", "ReduceSumSquare", "ArgMax", "ArgMin", "Softmax", "LogSoftmax", "BatchNormalization",
      "LayerNormalization",
      // Movement, shapes, constants.
      "Pad", "Concat", "Split", "Slice", "Gather", "GatherElements", "Transpose", "Reshape", "Flatten", "Squeeze",
      "Unsqueeze", "Identity", "Dropout", "Expand", "Tile", "Shape", "Size", "Constant", "ConstantOfShape", "Range",
      "DepthToSpace", "SpaceToDepth",
      // Quantisation.
      "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
      "MatMulInteger"};
  return ops;
}

// The operands that determine a shape: bound from the case's data when they are inputs of the model.
const std::map<std::string_view, std::vector<int>>& BoundOperands() {
  static const auto& bound = *new std::map<std::string_view, std::vector<int>>{
      {"Reshape", {1}},      {"Expand", {1}},          {"Tile", {1}},           {"Slice", {1, 2, 3, 4}},
      {"Split", {1}},        {"Squeeze", {1}},         {"Unsqueeze", {1}},      {"Pad", {1, 2, 3}},
      {"Resize", {1, 2, 3}}, {"Upsample", {1}},        {"Range", {0, 1, 2}},    {"ConstantOfShape", {0}},
      {"Dropout", {1, 2}},   {"ReduceSum", {1}},       {"ReduceMean", {1}},     {"ReduceMax", {1}},
      {"ReduceMin", {1}},    {"ReduceProd", {1}},      {"ReduceL1", {1}},       {"ReduceL2", {1}},
      {"ReduceLogSum", {1}}, {"ReduceLogSumExp", {1}}, {"ReduceSumSquare", {1}}};
  return bound;
}

// Why a node of a listed operator is of a form that is not on the list; or nothing.
std::string UnlistedForm(const std::string& case_name, const onnx::NodeProto& node) {
  if (node.op_type() == "Resize") {
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      if (attribute.name() == "mode" && attribute.s() == "cubic") return "not on the list: Resize of mode cubic";
    }
  }
  const bool draws = node.op_type() == "Dropout" && case_name.rfind("test_training_dropout", 0) == 0 &&
                     case_name.find("zero_ratio") == std::string::npos;
  return draws ? "training draws random numbers" : "";
}

std::string WhyNoTensor(const onnx::ValueInfoProto& value) {
  const onnx::TypeProto& type = value.type();
  if (type.has_sequence_type()) return "sequence type";
  if (type.has_optional_type()) return "optional type";
  if (type.has_map_type()) return "map type";
  if (!type.has_tensor_type()) return "no tensor type";
  if (type.tensor_type().elem_type() == onnx::TensorProto::STRING) return "string type";
  return "";
}

StatusOr<Tensor> ReadTensorFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  onnx::TensorProto proto;
  if (!proto.ParseFromString(bytes)) return Error(ErrorCode::kFileCorrupt, path, ": expected a TensorProto");
  return TensorReader(fs::path(path).parent_path().string()).Read(proto);
}

// |result - expected| <= atol + rtol · |expected|.
constexpr double kRelative = 1e-3, kAbsolute = 1e-7;

std::string Compare(const Tensor& expected, const Tensor& result, int integer_slack) {
  if (expected.type() != result.type()) {
    return "expected " + expected.type().ToString() + ", found " + result.type().ToString();
  }
  for (int64_t i = 0; i < expected.num_elements(); ++i) {
    const double want = expected.Get(i), got = result.Get(i);
    if (std::isnan(want) ? std::isnan(got) : want == got) continue;
    // Half precision cannot be nearer than its own rounding.
    const bool half = TypeInfo(expected.dtype()).bits == 16;
    if (IsFloat(expected.dtype()) &&
        std::fabs(want - got) <= kAbsolute + (half ? 8 : 1) * kRelative * std::fabs(want)) {
      continue;
    }
    if (IsInteger(expected.dtype()) && std::fabs(want - got) <= integer_slack) continue;
    return "element " + std::to_string(i) + ": expected " + std::to_string(want) + ", found " + std::to_string(got);
  }
  return "";
}

// What is wrong with a case, or nothing.
std::string RunCase(const NodeCase& c, const NodeRunner& runner, int quantized_slack) {
  StatusOr<ImportResult> imported = ImportModel(c.model_path, c.options);
  if (!imported.ok()) return imported.status().ToString();
  const Graph& graph = imported->graph;
  std::map<std::string, Tensor> given;
  for (const NamedTensor& input : c.inputs) given[input.name] = input.tensor;
  std::vector<Tensor> inputs;
  for (ValueId id : graph.inputs) {
    const auto it = given.find(graph[id].name);
    if (it == given.end()) return "the graph has an input '" + graph[id].name + "' that the case does not give";
    inputs.push_back(it->second);
  }
  StatusOr<std::vector<Tensor>> outputs = runner(graph, inputs);
  if (!outputs.ok()) return outputs.status().ToString();
  if (outputs->size() != c.outputs.size()) return "the number of outputs differs";
  const bool quantizes = std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    return node.op == Op::kQuantize && graph[node.inputs[1]].kind == ValueKind::kComputed;
  });
  for (size_t k = 0; k < outputs->size(); ++k) {
    const std::string wrong = Compare(c.outputs[k].tensor, (*outputs)[k], quantizes ? quantized_slack : 0);
    if (!wrong.empty()) return "output '" + c.outputs[k].name + "': " + wrong;
  }
  return "";
}

}  // namespace

std::vector<std::string> NodeCaseFolders(const std::string& root) {
  std::vector<std::string> folders;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(root, error)) {
    if (fs::exists(entry.path() / "model.onnx")) folders.push_back(entry.path().string());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

StatusOr<NodeCase> ReadNodeCase(const std::string& folder) {
  NodeCase result = {.name = fs::path(folder).filename().string(), .model_path = folder + "/model.onnx"};
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(result.model_path));
  onnx::ModelProto model;
  if (!model.ParseFromString(bytes)) return Error(ErrorCode::kFileCorrupt, folder, ": expected a ModelProto");
  std::set<std::string> bound;
  result.listed = true;
  std::string unlisted;
  bool computes_ranges = false;
  for (const onnx::NodeProto& node : model.graph().node()) {
    result.ops.insert(node.op_type());
    if (ListedOps().count(node.op_type()) == 0) {
      result.listed = false;
      unlisted = node.op_type();
    }
    if (result.skip.empty()) result.skip = UnlistedForm(result.name, node);
    computes_ranges = computes_ranges || node.op_type() == "Range";
    const auto operands = BoundOperands().find(node.op_type());
    if (operands == BoundOperands().end()) continue;
    for (int k : operands->second) {
      if (k < node.input_size()) bound.insert(node.input(k));
    }
  }
  for (const auto* values : {&model.graph().input(), &model.graph().output()}) {
    for (const onnx::ValueInfoProto& value : *values) {
      if (result.skip.empty()) result.skip = WhyNoTensor(value);
    }
  }
  if (!unlisted.empty() && result.skip.empty()) result.skip = "not on the list: " + unlisted;
  if (!result.skip.empty() && result.skip.rfind("not on the list", 0) != 0) return result;
  const std::string data = folder + "/test_data_set_0/";
  std::set<std::string> initializers;
  for (const onnx::TensorProto& initializer : model.graph().initializer()) initializers.insert(initializer.name());
  int k = 0;
  for (const onnx::ValueInfoProto& input : model.graph().input()) {
    if (initializers.count(input.name()) != 0) continue;
    StatusOr<Tensor> tensor = ReadTensorFile(data + "input_" + std::to_string(k++) + ".pb");
    if (!tensor.ok()) return tensor.status();
    // ONNX's generator stores bf16 as its bits.
    if (input.type().tensor_type().elem_type() == onnx::TensorProto::BFLOAT16) {
      tensor = Tensor::View(DType::kBF16, tensor->shape(), tensor->bytes(), std::make_shared<Tensor>(*tensor));
    }
    // CastLike's cases give one element where the model says more; only its type counts.
    std::vector<int64_t> declared;
    for (const auto& dim : input.type().tensor_type().shape().dim()) declared.push_back(dim.dim_value());
    if (Shape(declared) != tensor->shape() && tensor->num_elements() == 1) {
      tensor = Tensor::Full(tensor->dtype(), Shape(declared), tensor->Get(0));
    }
    // Functions that ONNX has expanded compute the end of a range from a scalar.
    const bool ends_range = computes_ranges && tensor->shape().rank() == 0;
    if (bound.count(input.name()) != 0 || ends_range) {
      result.options.bind.emplace(input.name(), *std::move(tensor));
    } else {
      result.inputs.push_back({input.name(), *std::move(tensor)});
    }
  }
  k = 0;
  for (const onnx::ValueInfoProto& output : model.graph().output()) {
    ASSIGN_OR_RETURN(Tensor tensor, ReadTensorFile(data + "output_" + std::to_string(k++) + ".pb"));
    if (output.type().tensor_type().elem_type() == onnx::TensorProto::BFLOAT16) {
      tensor = Tensor::View(DType::kBF16, tensor.shape(), tensor.bytes(), std::make_shared<Tensor>(tensor));
    }
    result.outputs.push_back({output.name(), std::move(tensor)});
  }
  return result;
}

std::string NodeSummary::ToString() const {
  std::string text = "ONNX node tests: " + std::to_string(passed) + " passed of " + std::to_string(listed) +
                     " listed; " + std::to_string(beyond) + " more passed beyond the list\n";
  for (const auto& [reason, names] : skipped) {
    text += "  skipped " + std::to_string(names.size()) + ": " + reason + " (" + names[0];
    text += names.size() > 1 ? ", …)\n" : ")\n";
  }
  return text;
}

NodeSummary RunNodeCases(const std::string& root, const NodeRunner& runner, int quantized_slack) {
  NodeSummary summary;
  for (const std::string& folder : NodeCaseFolders(root)) {
    StatusOr<NodeCase> c = ReadNodeCase(folder);
    if (!c.ok()) {
      summary.failures.push_back(c.status().ToString());
    } else if (c->listed && c->skip.empty()) {
      ++summary.listed;
      const std::string wrong = RunCase(*c, runner, quantized_slack);
      if (wrong.empty()) {
        ++summary.passed;
        summary.passed_ops.insert(c->ops.begin(), c->ops.end());
      } else {
        summary.failures.push_back(c->name + ": " + wrong);
      }
    } else if (!c->outputs.empty() && RunCase(*c, runner, quantized_slack).empty()) {
      ++summary.beyond;
      summary.passed_ops.insert(c->ops.begin(), c->ops.end());
    } else {
      summary.skipped[c->skip].push_back(c->name);
    }
  }
  return summary;
}

}  // namespace tessera
