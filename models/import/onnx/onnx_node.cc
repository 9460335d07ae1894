#include "models/import/onnx/onnx_node.h"

#include "onnx/onnx_pb.h"

namespace tessera {
namespace {

std::string DisplayName(const onnx::NodeProto& proto) {
  if (!proto.name().empty()) return proto.name();
  for (const std::string& output : proto.output()) {
    if (!output.empty()) return output;
  }
  return proto.op_type();
}

}  // namespace

OnnxNode::OnnxNode(const onnx::NodeProto& proto, int opset, GraphWriter& writer, TensorReader& reader,
                   std::vector<ValueId> inputs)
    : OpEmitter(writer, DisplayName(proto), proto.op_type() + ", opset " + std::to_string(opset)),
      proto_(&proto),
      reader_(&reader),
      opset_(opset),
      op_type_(proto.op_type()),
      inputs_(std::move(inputs)) {}

int OnnxNode::num_outputs() const { return proto_->output_size(); }

bool OnnxNode::wants(int k) const { return k < proto_->output_size() && !proto_->output(k).empty(); }

const onnx::AttributeProto* OnnxNode::FindAttr(std::string_view name) const {
  for (const onnx::AttributeProto& attribute : proto_->attribute()) {
    if (attribute.name() == name) return &attribute;
  }
  return nullptr;
}

const onnx::AttributeProto* OnnxNode::TypedAttr(std::string_view name, int kind) {
  const onnx::AttributeProto* attribute = FindAttr(name);
  if (attribute == nullptr) return nullptr;
  int found = attribute->type();
  // Files of IR version 1 state no kind; the field that is set tells it.
  if (found == onnx::AttributeProto::UNDEFINED) {
    if (attribute->has_i()) found = onnx::AttributeProto::INT;
    if (attribute->has_f()) found = onnx::AttributeProto::FLOAT;
    if (attribute->has_s()) found = onnx::AttributeProto::STRING;
    if (attribute->has_t()) found = onnx::AttributeProto::TENSOR;
    if (attribute->ints_size() > 0) found = onnx::AttributeProto::INTS;
    if (attribute->floats_size() > 0) found = onnx::AttributeProto::FLOATS;
    if (found == onnx::AttributeProto::UNDEFINED) found = kind;
  }
  if (found == kind) return attribute;
  if (attr_error_.ok()) {
    using Kind = onnx::AttributeProto::AttributeType;
    const auto text = [](int value) {
      return onnx::AttributeProto::AttributeType_IsValid(value)
                 ? onnx::AttributeProto::AttributeType_Name(static_cast<Kind>(value))
                 : std::to_string(value);
    };
    attr_error_ = Error(ErrorCode::kAttributeInvalid, "expected the attribute '", name, "' to be ", text(kind),
                        ", found ", text(found));
  }
  return nullptr;
}

int64_t OnnxNode::Int(std::string_view name, int64_t otherwise) {
  const onnx::AttributeProto* attribute = TypedAttr(name, onnx::AttributeProto::INT);
  return attribute == nullptr ? otherwise : attribute->i();
}

double OnnxNode::Float(std::string_view name, double otherwise) {
  const onnx::AttributeProto* attribute = TypedAttr(name, onnx::AttributeProto::FLOAT);
  return attribute == nullptr ? otherwise : attribute->f();
}

std::string OnnxNode::String(std::string_view name, std::string_view otherwise) {
  const onnx::AttributeProto* attribute = TypedAttr(name, onnx::AttributeProto::STRING);
  return attribute == nullptr ? std::string(otherwise) : attribute->s();
}

std::vector<int64_t> OnnxNode::Ints(std::string_view name) {
  const onnx::AttributeProto* attribute = TypedAttr(name, onnx::AttributeProto::INTS);
  if (attribute == nullptr) return {};
  return {attribute->ints().begin(), attribute->ints().end()};
}

std::vector<double> OnnxNode::Floats(std::string_view name) {
  const onnx::AttributeProto* attribute = TypedAttr(name, onnx::AttributeProto::FLOATS);
  if (attribute == nullptr) return {};
  return {attribute->floats().begin(), attribute->floats().end()};
}

StatusOr<Tensor> OnnxNode::TensorAttr(std::string_view name) {
  const onnx::AttributeProto* attribute = TypedAttr(name, onnx::AttributeProto::TENSOR);
  if (attribute == nullptr) {
    return Error(ErrorCode::kAttributeInvalid, "expected the attribute '", name, "' to be a tensor, found none");
  }
  StatusOr<Tensor> tensor = reader_->Read(attribute->t());
  if (!tensor.ok()) return tensor.status().WithContext(Where());
  return tensor;
}

StatusOr<DeclaredSparse> OnnxNode::SparseAttr(std::string_view name) {
  const onnx::AttributeProto* attribute = TypedAttr(name, onnx::AttributeProto::SPARSE_TENSOR);
  if (attribute == nullptr) {
    return Error(ErrorCode::kAttributeInvalid, "expected the attribute '", name, "' to be a sparse tensor, found none");
  }
  StatusOr<DeclaredSparse> sparse = reader_->ReadSparse(attribute->sparse_tensor());
  if (!sparse.ok()) return sparse.status().WithContext(Where());
  return sparse;
}

StatusOr<Tensor> OnnxNode::Const(int k, std::string_view what) const {
  if (!has(k)) return Error(ErrorCode::kGraphInvalid, "expected operand ", k, " (", what, "), found none");
  if (!writer().IsConstant(in(k))) {
    return Error(ErrorCode::kShapeUnknown, "operand ", k, " (", what, "), '", writer().graph()[in(k)].name,
                 "', must be known before the run; ", HowToBind(writer().graph(), in(k)));
  }
  return writer().constant(in(k));
}

StatusOr<std::vector<int64_t>> OnnxNode::ConstInts(int k, std::string_view what) const {
  ASSIGN_OR_RETURN(const Tensor tensor, Const(k, what));
  if (!IsInteger(tensor.dtype()) || tensor.shape().rank() > 1) {
    return Error(ErrorCode::kTypeMismatch, "operand ", k, " (", what, "): expected a vector of integers, found ",
                 tensor.type());
  }
  std::vector<int64_t> values(tensor.num_elements());
  for (size_t i = 0; i < values.size(); ++i) values[i] = tensor.GetInt(static_cast<int64_t>(i));
  return values;
}

StatusOr<double> OnnxNode::ConstScalar(int k, std::string_view what) const {
  ASSIGN_OR_RETURN(const Tensor tensor, Const(k, what));
  if (tensor.num_elements() != 1) {
    return Error(ErrorCode::kShapeMismatch, "operand ", k, " (", what, "): expected one number, found ", tensor.type());
  }
  return tensor.Get(0);
}

StatusOr<std::optional<std::vector<int64_t>>> OnnxNode::IntsAttrOrInput(std::string_view name, int k) {
  if (HasAttr(name)) return std::optional(Ints(name));
  if (!has(k)) return std::optional<std::vector<int64_t>>();
  ASSIGN_OR_RETURN(std::vector<int64_t> values, ConstInts(k, name));
  return std::optional(std::move(values));
}

}  // namespace tessera
