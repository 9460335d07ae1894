#include "models/import/onnx/onnx_importer.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <unordered_map>

#include "google/protobuf/stubs/logging.h"
#include "models/import/onnx/node_list.h"
#include "onnx/onnx_pb.h"

namespace tessera {
namespace {

constexpr int kOldestOpset = 9;   // up to it, operators whose forms are known are read as they were
constexpr int kNewestOpset = 21;  // all that the table knows of; later forms are read as far as they are the same

// Is this what exporters call a batch dimension?
bool IsBatchName(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name == "n" || name == "b" || name == "bs" || name.find("batch") != std::string::npos;
}

std::string FolderOf(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  return folder.empty() ? std::string() : folder.string();
}

std::string KindOf(const onnx::TypeProto& type) {
  if (type.has_sequence_type()) return "a sequence";
  if (type.has_optional_type()) return "an optional value";
  if (type.has_map_type()) return "a map";
  if (type.has_sparse_tensor_type()) return "a sparse tensor";
  return "no tensor";
}

// The declared shape for messages: [N,3,?,?].
std::string DeclaredShape(const onnx::TensorShapeProto& shape) {
  std::string text = "[";
  for (int d = 0; d < shape.dim_size(); ++d) {
    const auto& dim = shape.dim(d);
    if (d > 0) text += ",";
    text += dim.has_dim_value() ? std::to_string(dim.dim_value()) : dim.dim_param().empty() ? "?" : dim.dim_param();
  }
  return text + "]";
}

class Importer {
 public:
  Importer(onnx::ModelProto& model, const std::string& path, const ImportOptions& options)
      : model_(model), options_(options), reader_(FolderOf(path)), writer_(GraphName(model, path)) {}

  StatusOr<ImportedGraph> Run() {
    RETURN_IF_ERROR(CheckVersions());
    ASSIGN_OR_RETURN(const NodeList list, PlanNodes(model_));
    if (list.sorted) Warn("the nodes were not in the order of their dependencies and have been sorted");
    RETURN_IF_ERROR(AddInitializers());
    RETURN_IF_ERROR(AddInputs());
    for (const PlannedNode& node : list.nodes) RETURN_IF_ERROR(AddNode(node));
    RETURN_IF_ERROR(CheckConstantOptions(options_, constant_names_));
    return Finish();
  }

 private:
  static std::string GraphName(const onnx::ModelProto& model, const std::string& path) {
    if (!model.graph().name().empty()) return SanitizedName(model.graph().name());
    return SanitizedName(std::filesystem::path(path).stem().string());
  }

  void Warn(std::string text) { warnings_.push_back(std::move(text)); }

  Status CheckVersions() {
    int opset = -1;
    for (const auto& entry : model_.opset_import()) {
      if (entry.domain().empty() || entry.domain() == "ai.onnx") {
        opset = static_cast<int>(std::clamp<int64_t>(entry.version(), 0, 1 << 20));
      }
    }
    if (opset < 0 && model_.opset_import_size() == 0) {
      return Error(ErrorCode::kFileCorrupt, "expected the version of an operator set, found none; is this ONNX?");
    }
    if (opset >= 0 && opset < kOldestOpset) {
      Warn("opset " + std::to_string(opset) + " is older than " + std::to_string(kOldestOpset) +
           "; operators are read as of that opset");
    }
    if (opset > kNewestOpset) {
      Warn("opset " + std::to_string(opset) + " is newer than " + std::to_string(kNewestOpset) +
           "; operators are read as of that opset");
    }
    opset_ = opset;
    return OkStatus();
  }

  // A constant of the model under its own name, with the user's replacement and mask.
  Status AddNamedConstant(const std::string& name, Tensor data, ConstantOrigin origin) {
    RETURN_IF_ERROR(ApplyConstantOptions(options_, name, data, origin));
    constant_names_.insert(name);
    return Define(name, writer_.AddConstant(name, std::move(data), std::move(origin)));
  }

  Status Define(const std::string& name, ValueId id) {
    if (!values_.emplace(name, id).second) {
      return Error(ErrorCode::kGraphInvalid, "value '", name, "' is defined twice");
    }
    return OkStatus();
  }

  Status AddInitializers() {
    for (onnx::TensorProto& proto : *model_.mutable_graph()->mutable_initializer()) {
      if (proto.name().empty()) return Error(ErrorCode::kGraphInvalid, "expected a name for each initializer");
      ASSIGN_OR_RETURN(Tensor tensor, reader_.Read(proto));
      RETURN_IF_ERROR(AddNamedConstant(proto.name(), std::move(tensor), {}));
      std::string().swap(*proto.mutable_raw_data());  // the tensor has its own copy
    }
    for (const onnx::SparseTensorProto& proto : model_.graph().sparse_initializer()) {
      ASSIGN_OR_RETURN(DeclaredSparse sparse, reader_.ReadSparse(proto));
      RETURN_IF_ERROR(AddNamedConstant(proto.values().name(), std::move(sparse.dense),
                                       {.declared = "sparse_initializer", .mask = std::move(sparse.mask)}));
    }
    return OkStatus();
  }

  // What --shape and --bind say of symbols.
  Status LearnSymbols(const onnx::ValueInfoProto& input) {
    const onnx::TensorShapeProto& declared = input.type().tensor_type().shape();
    std::optional<Shape> given;
    if (const auto it = options_.shapes.find(input.name()); it != options_.shapes.end()) given = it->second;
    if (const auto it = options_.bind.find(input.name()); it != options_.bind.end()) given = it->second.shape();
    if (!given || !input.type().tensor_type().has_shape()) return OkStatus();
    if (given->rank() != declared.dim_size()) {
      return Error(ErrorCode::kShapeMismatch, "input '", input.name(), "': expected a shape of ", declared.dim_size(),
                   " dimensions ", DeclaredShape(declared), ", found ", *given);
    }
    for (int d = 0; d < declared.dim_size(); ++d) {
      const std::string& symbol = declared.dim(d).dim_param();
      if (declared.dim(d).has_dim_value() || symbol.empty()) continue;
      const auto [it, fresh] = symbols_.emplace(symbol, (*given)[d]);
      if (!fresh && it->second != (*given)[d]) {
        return Error(ErrorCode::kShapeMismatch, "input '", input.name(), "': dimension ", d, " ('", symbol, "') is ",
                     (*given)[d], ", but another input fixes it to ", it->second);
      }
    }
    return OkStatus();
  }

  StatusOr<Shape> InputShape(const onnx::ValueInfoProto& input) {
    if (const auto it = options_.shapes.find(input.name()); it != options_.shapes.end()) return it->second;
    const auto& tensor = input.type().tensor_type();
    if (!tensor.has_shape()) {
      return Error(ErrorCode::kShapeUnknown, "input '", input.name(),
                   "' has no shape; give it with --shape=", input.name(), ":…");
    }
    std::vector<int64_t> dims;
    for (int d = 0; d < tensor.shape().dim_size(); ++d) {
      const auto& dim = tensor.shape().dim(d);
      if (dim.has_dim_value() && dim.dim_value() >= 0) {
        dims.push_back(dim.dim_value());
      } else if (const auto it = symbols_.find(dim.dim_param()); it != symbols_.end()) {
        dims.push_back(it->second);
      } else if (d == 0 && IsBatchName(dim.dim_param())) {
        Warn("input '" + input.name() + "': dimension 0 ('" + dim.dim_param() +
             "') is taken as 1; --shape=" + input.name() + ":… gives another batch size");
        dims.push_back(1);
      } else {
        return Error(ErrorCode::kShapeUnknown, "input '", input.name(), "' has the shape ",
                     DeclaredShape(tensor.shape()), " with dimension ", d,
                     " unknown; give it with --shape=", input.name(), ":…");
      }
    }
    return Shape(std::move(dims));
  }

  Status AddInputs() {
    std::vector<const onnx::ValueInfoProto*> inputs;
    for (const onnx::ValueInfoProto& input : model_.graph().input()) {
      if (constant_names_.count(input.name()) != 0) continue;  // up to IR 3 initializers are listed as inputs, too
      if (!input.type().has_tensor_type()) {
        return Error(ErrorCode::kTypeMismatch, "input '", input.name(), "': expected a tensor, found ",
                     KindOf(input.type()), "; Tessera has only tensors");
      }
      input_names_.push_back(input.name());
      inputs.push_back(&input);
      RETURN_IF_ERROR(LearnSymbols(input));
    }
    RETURN_IF_ERROR(CheckInputOptions(options_, input_names_));
    for (const onnx::ValueInfoProto* input : inputs) {
      StatusOr<DType> dtype = DTypeFromOnnx(input->type().tensor_type().elem_type());
      if (!dtype.ok()) return dtype.status().WithContext("input '" + input->name() + "'");
      if (const auto it = options_.bind.find(input->name()); it != options_.bind.end()) {
        if (it->second.dtype() != *dtype) {
          return Error(ErrorCode::kTypeMismatch, "input '", input->name(), "': expected ", *dtype,
                       " to be bound, found ", it->second.type());
        }
        // Named like an input, not like a weight: it takes no part in the report.
        RETURN_IF_ERROR(Define(input->name(), writer_.AddConstant(input->name(), it->second)));
        continue;
      }
      ASSIGN_OR_RETURN(Shape shape, InputShape(*input));
      RETURN_IF_ERROR(CheckShape(*dtype, shape, kMaxTensorBytes).WithContext("input '" + input->name() + "'"));
      RETURN_IF_ERROR(Define(input->name(), writer_.AddInput(input->name(), {*dtype, std::move(shape)})));
    }
    return OkStatus();
  }

  Status AddNode(const PlannedNode& planned) {
    const onnx::NodeProto& proto = *planned.proto;
    std::vector<ValueId> inputs;
    for (const std::string& name : proto.input()) {
      if (name.empty()) {
        inputs.push_back(ValueId::kNone);
        continue;
      }
      const auto it = values_.find(name);
      if (it == values_.end()) {
        return Error(ErrorCode::kGraphInvalid, "node '", proto.name(), "' (", proto.op_type(), ") reads '", name,
                     "', which is neither an input nor computed by any node");
      }
      inputs.push_back(it->second);
    }
    while (!inputs.empty() && inputs.back() == ValueId::kNone) inputs.pop_back();
    const OnnxOp& op = *planned.op;
    const int opset = op.domain.empty() ? planned.opset : std::max(planned.opset, opset_);
    OnnxNode node(proto, opset, writer_, reader_, inputs);
    const int count = node.num_inputs();
    if (count < op.min_inputs || (op.max_inputs >= 0 && count > op.max_inputs)) {
      return node.Error(ErrorCode::kGraphInvalid, "expected ", op.min_inputs, " to ",
                        op.max_inputs < 0 ? std::string("any number of") : std::to_string(op.max_inputs),
                        " operands, found ", count);
    }
    for (int k = 0; k < op.min_inputs; ++k) {
      if (!node.has(k)) return node.Error(ErrorCode::kGraphInvalid, "operand ", k, " is required, found none");
    }
    const size_t first_new = writer_.graph().values.size();
    const Imported imported = op.handler(node);
    if (!node.attr_error().ok()) return node.attr_error().WithContext(node.Where());
    if (!imported.status.ok()) {
      const Status& status = imported.status;
      const bool named = status.message().find("node '" + node.name() + "'") != std::string::npos;
      return named ? status : status.WithContext(node.Where());
    }
    for (int k = 0; k < proto.output_size(); ++k) {
      if (proto.output(k).empty()) continue;
      const bool there = k < static_cast<int>(imported.outputs.size()) && imported.outputs[k] != ValueId::kNone;
      if (!there) {
        return node.Error(ErrorCode::kOpUnsupported, "output ", k, " ('", proto.output(k), "') is not supported");
      }
      const ValueId id = imported.outputs[k];
      if (static_cast<size_t>(Index(id)) >= first_new) writer_.SetName(id, proto.output(k));
      if (proto.op_type() == "Constant" && op.domain.empty()) {
        RETURN_IF_ERROR(AddNamedConstant(proto.output(k), writer_.constant(id), writer_.origin(id)));
        continue;
      }
      RETURN_IF_ERROR(Define(proto.output(k), id));
    }
    return OkStatus();
  }

  StatusOr<ImportedGraph> Finish() {
    std::vector<std::pair<std::string, ValueId>> outputs;
    std::set<std::string> seen;
    for (const onnx::ValueInfoProto& output : model_.graph().output()) {
      const auto it = values_.find(output.name());
      if (it == values_.end()) {
        return Error(ErrorCode::kGraphInvalid, "output '", output.name(), "' is computed by no node");
      }
      if (!seen.insert(output.name()).second) {
        return Error(ErrorCode::kGraphInvalid, "output '", output.name(), "' is listed twice");
      }
      RETURN_IF_ERROR(CheckOutput(output, it->second));
      outputs.emplace_back(output.name(), it->second);
    }
    if (outputs.empty()) return Error(ErrorCode::kGraphInvalid, "expected at least one output, found none");
    ASSIGN_OR_RETURN(GraphWriter::Finished finished, writer_.Finish(outputs));
    auto& metadata = finished.graph.metadata;
    metadata["source_format"] = "ONNX, opset " + std::to_string(opset_);
    if (!model_.producer_name().empty()) {
      metadata["producer"] = model_.producer_name() + " " + model_.producer_version();
    }
    for (const onnx::StringStringEntryProto& entry : model_.metadata_props()) {
      metadata["onnx." + entry.key()] = entry.value();
    }
    return ImportedGraph{std::move(finished.graph), std::move(finished.origins), std::move(warnings_),
                         std::move(constant_names_)};
  }

  // What the file says of an output must agree with what is computed, unless the user changed the shapes.
  Status CheckOutput(const onnx::ValueInfoProto& output, ValueId id) {
    if (!output.type().has_tensor_type()) return OkStatus();
    const auto& tensor = output.type().tensor_type();
    if (tensor.elem_type() != 0) {
      StatusOr<DType> dtype = DTypeFromOnnx(tensor.elem_type());
      if (!dtype.ok()) return dtype.status().WithContext("output '" + output.name() + "'");
      if (*dtype != writer_.dtype(id)) {
        return Error(ErrorCode::kTypeMismatch, "output '", output.name(), "': the file says ", *dtype,
                     ", the graph computes ", writer_.type(id));
      }
    }
    if (!tensor.has_shape() || !options_.shapes.empty()) return OkStatus();
    const Shape& shape = writer_.shape(id);
    bool same = tensor.shape().dim_size() == shape.rank();
    for (int d = 0; same && d < shape.rank(); ++d) {
      const auto& dim = tensor.shape().dim(d);
      same = !dim.has_dim_value() || dim.dim_value() == shape[d];
    }
    if (!same) {
      Warn("output '" + output.name() + "': the file says " + DeclaredShape(tensor.shape()) + ", the graph computes " +
           shape.ToString());
    }
    return OkStatus();
  }

  onnx::ModelProto& model_;
  const ImportOptions& options_;
  TensorReader reader_;
  GraphWriter writer_;
  int opset_ = 0;
  std::unordered_map<std::string, ValueId> values_;
  std::map<std::string, int64_t> symbols_;
  std::set<std::string> constant_names_;
  std::vector<std::string> input_names_;
  std::vector<std::string> warnings_;
};

}  // namespace

StatusOr<ImportedGraph> ImportOnnx(std::string_view bytes, const std::string& path, const ImportOptions& options) {
  constexpr size_t kMaxProtobuf = (size_t{1} << 31) - 1;
  if (bytes.size() > kMaxProtobuf) {
    return Error(ErrorCode::kLimitExceeded, "an ONNX file has at most 2 GiB, found ", bytes.size(),
                 " bytes; store the weights as external data");
  }
  onnx::ModelProto model;
  {
    const google::protobuf::LogSilencer silence;  // its complaints would repeat ours on stderr
    if (!model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      return Error(ErrorCode::kFileCorrupt, "expected ONNX's protobuf, found bytes that do not parse after ",
                   bytes.size(), " bytes; the file is truncated or damaged");
    }
  }
  if (!model.has_graph()) {
    return Error(ErrorCode::kFileCorrupt, "expected an ONNX model with a graph, found none; is the file complete?");
  }
  return Importer(model, path, options).Run();
}

}  // namespace tessera
