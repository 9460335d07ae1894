#include "models/import/tflite/tflite_importer.h"

#include <map>
#include <set>

#include "models/import/tflite/handlers.h"

namespace tessera {
namespace {

struct TfliteOp {
  tfl::BuiltinOperator op;
  int min_inputs, max_inputs;
  TfliteHandler handler;
};

using namespace tflite_handlers;  // NOLINT: the rows below name them

constexpr TfliteOp kTfliteOps[] = {
#define TES_TFLITE_OP(op, min_inputs, max_inputs, handler) {tfl::BuiltinOperator::op, min_inputs, max_inputs, handler},
#include "models/import/tflite/tflite_ops.def"
#undef TES_TFLITE_OP
};

constexpr size_t kNamedNodes = 3;

const TfliteOp* FindTfliteOp(int code) {
  for (const TfliteOp& row : kTfliteOps) {
    if (static_cast<int>(row.op) == code) return &row;
  }
  return nullptr;
}

// The number of an operator: newer files keep numbers above 126 in a second field.
int CodeOf(const tfl::OperatorCode& code) { return std::max<int>(code.deprecated_builtin_code(), code.builtin_code()); }

std::string KindOf(const tfl::OperatorCode& code) {
  const int number = CodeOf(code);
  if (number == static_cast<int>(tfl::BuiltinOperator::CUSTOM)) {
    return "CUSTOM " + (code.custom_code() == nullptr ? std::string("(unnamed)") : code.custom_code()->str());
  }
  const std::string_view name = tfl::EnumNameBuiltinOperator(static_cast<tfl::BuiltinOperator>(number));
  return name.empty() ? "operator " + std::to_string(number) : std::string(name);
}

class Importer {
 public:
  Importer(const tfl::Model& model, std::string_view file, const ImportOptions& options)
      : model_(model), file_(file), options_(options), writer_("main") {}

  StatusOr<ImportedGraph> Run() {
    if (model_.subgraphs() == nullptr || model_.subgraphs()->size() == 0) {
      return Error(ErrorCode::kFileCorrupt, "expected a subgraph, found none");
    }
    subgraph_ = model_.subgraphs()->Get(0);
    if (subgraph_->name() != nullptr && subgraph_->name()->size() > 0) {
      writer_.graph().name = SanitizedName(subgraph_->name()->str());
    }
    RETURN_IF_ERROR(CheckOperators());
    RETURN_IF_ERROR(ReadTensors());
    RETURN_IF_ERROR(AddInputs());
    if (subgraph_->operators() != nullptr) {
      for (const tfl::Operator* op : *subgraph_->operators()) RETURN_IF_ERROR(AddOperator(*op));
    }
    RETURN_IF_ERROR(CheckConstantOptions(options_, constant_names_));
    return Finish();
  }

 private:
  // Every operator has a code and a handler; those without are reported at once.
  Status CheckOperators() {
    struct Missing {
      std::vector<std::string> nodes;
      size_t count = 0;
    };
    std::map<std::string, Missing> missing;
    if (subgraph_->operators() == nullptr) return OkStatus();
    size_t position = 0;
    for (const tfl::Operator* op : *subgraph_->operators()) {
      if (model_.operator_codes() == nullptr || op->opcode_index() >= model_.operator_codes()->size()) {
        return Error(ErrorCode::kFileCorrupt, "operator ", position, ": there is no operator code ",
                     op->opcode_index());
      }
      const tfl::OperatorCode& code = *model_.operator_codes()->Get(op->opcode_index());
      if (FindTfliteOp(CodeOf(code)) == nullptr) {
        Missing& entry = missing[KindOf(code) + " (version " + std::to_string(code.version()) + ")"];
        if (++entry.count <= kNamedNodes) entry.nodes.push_back(FirstOutputName(*op, position));
      }
      ++position;
    }
    if (missing.empty()) return OkStatus();
    std::string text;
    for (const auto& [kind, entry] : missing) {
      text += (text.empty() ? "" : "; ") + kind + " at node";
      for (size_t k = 0; k < entry.nodes.size(); ++k) text += (k == 0 ? " '" : ", '") + entry.nodes[k] + "'";
      if (entry.count > kNamedNodes) text += " and " + std::to_string(entry.count - kNamedNodes) + " more";
    }
    return Error(ErrorCode::kOpUnknown, "the model uses ", missing.size(),
                 missing.size() == 1 ? " operator" : " operators", " that cannot be imported: ", text);
  }

  // An operator has no name of its own; its first result's is used.
  std::string FirstOutputName(const tfl::Operator& op, size_t position) const {
    if (op.outputs() != nullptr && op.outputs()->size() > 0 && subgraph_->tensors() != nullptr) {
      const int k = op.outputs()->Get(0);
      if (k >= 0 && k < static_cast<int>(subgraph_->tensors()->size())) {
        const auto* name = subgraph_->tensors()->Get(k)->name();
        if (name != nullptr) return name->str();
      }
    }
    return "operator " + std::to_string(position);
  }

  Status ReadTensors() {
    if (subgraph_->tensors() == nullptr) return Error(ErrorCode::kFileCorrupt, "expected tensors, found none");
    std::set<int> inputs;
    if (subgraph_->inputs() != nullptr) inputs.insert(subgraph_->inputs()->begin(), subgraph_->inputs()->end());
    for (int k = 0; k < static_cast<int>(subgraph_->tensors()->size()); ++k) {
      const tfl::Tensor& from = *subgraph_->tensors()->Get(k);
      TfliteTensor& tensor = tensors_.emplace_back();
      tensor.name = from.name() == nullptr ? "tensor_" + std::to_string(k) : from.name()->str();
      ASSIGN_OR_RETURN(tensor.type, TfliteTensorType(from));
      ASSIGN_OR_RETURN(tensor.quant, TfliteQuant(from));
      ASSIGN_OR_RETURN(const std::string_view bytes, TfliteBuffer(model_, from, file_));
      if (bytes.empty() || inputs.count(k) != 0) continue;
      ASSIGN_OR_RETURN(TfliteConstant constant, TfliteConstantData(from, bytes));
      ConstantOrigin origin;
      if (constant.mask) {
        origin.declared = "SparsityParameters";
        origin.mask = std::move(constant.mask);
      }
      RETURN_IF_ERROR(ApplyConstantOptions(options_, tensor.name, constant.data, origin));
      constant_names_.insert(tensor.name);
      tensor.value = writer_.AddConstant(tensor.name, std::move(constant.data), std::move(origin));
      if (tensor.quant) writer_.SetQuant(tensor.value, *tensor.quant);
    }
    return OkStatus();
  }

  StatusOr<TfliteTensor*> TensorAt(int index, std::string_view what) {
    if (index < 0 || index >= static_cast<int>(tensors_.size())) {
      return Error(ErrorCode::kFileCorrupt, what, " names tensor ", index, "; there are ", tensors_.size());
    }
    return &tensors_[index];
  }

  Status AddInputs() {
    std::vector<std::string> names;
    if (subgraph_->inputs() == nullptr) return CheckInputOptions(options_, names);
    for (int index : *subgraph_->inputs()) {
      ASSIGN_OR_RETURN(TfliteTensor * tensor, TensorAt(index, "the list of inputs"));
      if (tensor->value != ValueId::kNone) {
        return Error(ErrorCode::kGraphInvalid, "input '", tensor->name, "' is listed twice");
      }
      names.push_back(tensor->name);
      if (const auto it = options_.bind.find(tensor->name); it != options_.bind.end()) {
        if (it->second.dtype() != tensor->type.dtype) {
          return Error(ErrorCode::kTypeMismatch, "input '", tensor->name, "': expected ", tensor->type.dtype,
                       " to be bound, found ", it->second.type());
        }
        tensor->value = writer_.AddConstant(tensor->name, it->second);
        continue;
      }
      TensorType type = tensor->type;
      if (const auto it = options_.shapes.find(tensor->name); it != options_.shapes.end()) type.shape = it->second;
      RETURN_IF_ERROR(CheckShape(type.dtype, type.shape, kMaxTensorBytes).WithContext("input '" + tensor->name + "'"));
      tensor->value = writer_.AddInput(tensor->name, std::move(type));
      if (tensor->quant) writer_.SetQuant(tensor->value, *tensor->quant);
    }
    return CheckInputOptions(options_, names);
  }

  Status AddOperator(const tfl::Operator& op) {
    const tfl::OperatorCode& code = *model_.operator_codes()->Get(op.opcode_index());
    const TfliteOp& row = *FindTfliteOp(CodeOf(code));
    const std::string kind = KindOf(code);
    std::vector<TfliteTensor*> inputs, outputs;
    if (op.outputs() != nullptr) {
      for (int index : *op.outputs()) {
        ASSIGN_OR_RETURN(TfliteTensor * tensor, TensorAt(index, kind));
        outputs.push_back(tensor);
      }
    }
    if (outputs.empty()) return Error(ErrorCode::kGraphInvalid, kind, ": expected a result, found none");
    if (op.inputs() != nullptr) {
      for (int index : *op.inputs()) {
        if (index == -1) {
          inputs.push_back(nullptr);
          continue;
        }
        ASSIGN_OR_RETURN(TfliteTensor * tensor, TensorAt(index, kind));
        inputs.push_back(tensor);
      }
    }
    while (!inputs.empty() && inputs.back() == nullptr) inputs.pop_back();
    TfliteNode node(op, kind, writer_, inputs, outputs);
    const int count = node.num_inputs();
    if (count < row.min_inputs || (row.max_inputs >= 0 && count > row.max_inputs)) {
      return node.Error(ErrorCode::kGraphInvalid, "expected ", row.min_inputs, " to ",
                        row.max_inputs < 0 ? std::string("any number of") : std::to_string(row.max_inputs),
                        " operands, found ", count);
    }
    for (int k = 0; k < count; ++k) {
      if (!node.has(k)) {
        if (k >= row.min_inputs) continue;
        return node.Error(ErrorCode::kGraphInvalid, "operand ", k, " is required, found none");
      }
      // Operators come in the order of execution, so a tensor that nothing has computed is one that nothing before
      // does.
      if (node.raw(k) == ValueId::kNone) {
        return node.Error(ErrorCode::kGraphInvalid, "operand ", k, ", '", node.input(k).name,
                          "', is read before it is computed; the graph has a cycle or its order is wrong");
      }
    }
    const size_t first_new = writer_.graph().values.size();
    TfliteResults results = row.handler(node);
    if (!results.status.ok()) {
      const bool named = results.status.message().find("node '" + node.name() + "'") != std::string::npos;
      return named ? results.status : results.status.WithContext(node.Where());
    }
    if (results.values.size() < outputs.size()) {
      return node.Error(ErrorCode::kOpUnsupported, "expected ", outputs.size(), " results, the operator has ",
                        results.values.size());
    }
    for (size_t k = 0; k < outputs.size(); ++k) RETURN_IF_ERROR(Store(node, *outputs[k], results.values[k], first_new));
    return OkStatus();
  }

  // Gives a computed value to its tensor, in the tensor's type.
  Status Store(const TfliteNode& node, TfliteTensor& tensor, ValueId value, size_t first_new) {
    if (tensor.value != ValueId::kNone) {
      return node.Error(ErrorCode::kGraphInvalid, "tensor '", tensor.name, "' is computed twice");
    }
    const DType dtype = tensor.type.dtype;
    if (tensor.quant && IsFloat(writer_.dtype(value))) {
      tensor.real = ValueId::kNone;
      ASSIGN_OR_RETURN(value, Quantized(node, value, dtype, *tensor.quant));
    }
    if (writer_.dtype(value) != dtype) {
      return node.Error(ErrorCode::kTypeMismatch, "the file says that '", tensor.name, "' is ", dtype,
                        ", the operator computes ", writer_.type(value));
    }
    if (static_cast<size_t>(Index(value)) >= first_new) writer_.SetName(value, tensor.name);
    if (tensor.quant && writer_.graph()[value].kind == ValueKind::kComputed) writer_.SetQuant(value, *tensor.quant);
    tensor.value = value;
    return OkStatus();
  }

  StatusOr<ValueId> Quantized(const TfliteNode& node, ValueId x, DType to, const QuantParams& quant) {
    if (TypeInfo(to).bits > 16) {
      return node.Error(ErrorCode::kOpUnsupported, "a result quantised to ", to, " is not supported");
    }
    ASSIGN_OR_RETURN(x, node.Cast(x, DType::kF32));
    const bool single = quant.scales.size() == 1;
    std::vector<ValueId> inputs = {
        x, single ? writer_.Scalar(DType::kF32, quant.scales[0]) : writer_.Vector(DType::kF32, quant.scales)};
    if (!quant.zero_points.empty()) {
      const std::vector<double> zero_points(quant.zero_points.begin(), quant.zero_points.end());
      inputs.push_back(single ? writer_.Scalar(to, zero_points[0]) : writer_.Vector(to, zero_points));
    }
    Attrs attrs = MakeAttrs({{"dtype", to}});
    if (!single) attrs.Set("axis", int64_t{quant.axis});
    return node.Emit(Op::kQuantize, std::move(inputs), std::move(attrs));
  }

  StatusOr<ImportedGraph> Finish() {
    std::vector<std::pair<std::string, ValueId>> outputs;
    std::vector<std::string> warnings;
    if (subgraph_->outputs() != nullptr) {
      std::set<int> seen;
      for (int index : *subgraph_->outputs()) {
        ASSIGN_OR_RETURN(const TfliteTensor* tensor, TensorAt(index, "the list of outputs"));
        if (tensor->value == ValueId::kNone) {
          return Error(ErrorCode::kGraphInvalid, "output '", tensor->name, "' is computed by no operator");
        }
        if (!seen.insert(index).second) {
          return Error(ErrorCode::kGraphInvalid, "output '", tensor->name, "' is listed twice");
        }
        if (options_.shapes.empty() && tensor->type.shape != writer_.shape(tensor->value)) {
          warnings.push_back("output '" + tensor->name + "': the file says " + tensor->type.shape.ToString() +
                             ", the graph computes " + writer_.shape(tensor->value).ToString());
        }
        outputs.emplace_back(tensor->name, tensor->value);
      }
    }
    if (outputs.empty()) return Error(ErrorCode::kGraphInvalid, "expected at least one output, found none");
    ASSIGN_OR_RETURN(GraphWriter::Finished finished, writer_.Finish(outputs));
    finished.graph.metadata["source_format"] = "TFLite, version " + std::to_string(model_.version());
    if (model_.description() != nullptr && model_.description()->size() > 0) {
      finished.graph.metadata["producer"] = model_.description()->str();
    }
    return ImportedGraph{std::move(finished.graph), std::move(finished.origins), std::move(warnings),
                         std::move(constant_names_)};
  }

  const tfl::Model& model_;
  std::string_view file_;
  const ImportOptions& options_;
  GraphWriter writer_;
  const tfl::SubGraph* subgraph_ = nullptr;
  std::vector<TfliteTensor> tensors_;
  std::set<std::string> constant_names_;
};

}  // namespace

StatusOr<ImportedGraph> ImportTflite(std::string_view bytes, const ImportOptions& options) {
  constexpr size_t kMaxFlatBuffer = (size_t{1} << 31) - 1;  // FlatBuffers' own limit; larger data lies behind it
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  if (bytes.size() < 8 || !tfl::ModelBufferHasIdentifier(data)) {
    return Error(ErrorCode::kFileCorrupt, "expected a TFLite model with the identifier TFL3, found ", bytes.size(),
                 " bytes without it");
  }
  flatbuffers::Verifier verifier(data, std::min(bytes.size(), kMaxFlatBuffer));
  if (!tfl::VerifyModelBuffer(verifier)) {
    return Error(ErrorCode::kFileCorrupt, "the FlatBuffer's offsets lead out of its ", bytes.size(),
                 " bytes; the file is truncated or damaged");
  }
  const tfl::Model& model = *tfl::GetModel(data);
  if (model.version() != 3) {
    return Error(ErrorCode::kVersionUnsupported, "expected TFLite's version 3, found ", model.version());
  }
  return Importer(model, bytes, options).Run();
}

}  // namespace tessera
