#include "models/import/onnx/testing/onnx_model.h"

namespace tessera {

int OnnxType(DType dtype) {
  switch (dtype) {
    case DType::kF32: return 1;
    case DType::kU8: return 2;
    case DType::kI8: return 3;
    case DType::kU16: return 4;
    case DType::kI16: return 5;
    case DType::kI32: return 6;
    case DType::kI64: return 7;
    case DType::kBool: return 9;
    case DType::kF16: return 10;
    case DType::kF64: return 11;
    case DType::kU32: return 12;
    case DType::kU64: return 13;
    case DType::kBF16: return 16;
    case DType::kF8E4M3: return 17;
    case DType::kF8E5M2: return 19;
    case DType::kU4: return 21;
    case DType::kI4: return 22;
  }
  return 0;
}

onnx::TensorProto ToProto(const std::string& name, const Tensor& tensor) {
  onnx::TensorProto proto;
  proto.set_name(name);
  proto.set_data_type(OnnxType(tensor.dtype()));
  for (int64_t dim : tensor.shape()) proto.add_dims(dim);
  proto.set_raw_data(tensor.bytes().data(), tensor.bytes().size());
  return proto;
}

OnnxModel::OnnxModel(int opset) {
  proto_.set_ir_version(8);
  proto_.add_opset_import()->set_version(opset);
  proto_.mutable_graph()->set_name("test");
}

OnnxModel& OnnxModel::Input(const std::string& name, DType dtype, const std::vector<int64_t>& dims,
                            const std::vector<std::string>& symbols) {
  onnx::ValueInfoProto& input = *proto_.mutable_graph()->add_input();
  input.set_name(name);
  onnx::TypeProto_Tensor& type = *input.mutable_type()->mutable_tensor_type();
  type.set_elem_type(OnnxType(dtype));
  type.mutable_shape();
  size_t symbol = 0;
  for (int64_t dim : dims) {
    auto& entry = *type.mutable_shape()->add_dim();
    if (dim >= 0) {
      entry.set_dim_value(dim);
    } else if (symbol < symbols.size()) {
      entry.set_dim_param(symbols[symbol++]);
    }
  }
  return *this;
}

OnnxModel& OnnxModel::Constant(const std::string& name, const Tensor& tensor) {
  *proto_.mutable_graph()->add_initializer() = ToProto(name, tensor);
  return *this;
}

OnnxModel& OnnxModel::Output(const std::string& name) {
  proto_.mutable_graph()->add_output()->set_name(name);
  return *this;
}

OnnxModel& OnnxModel::Node(const std::string& op, const std::vector<std::string>& inputs,
                           const std::vector<std::string>& outputs) {
  onnx::NodeProto& node = *proto_.mutable_graph()->add_node();
  node.set_op_type(op);
  node.set_name(op + "_" + std::to_string(proto_.graph().node_size()));
  for (const std::string& input : inputs) node.add_input(input);
  for (const std::string& output : outputs) node.add_output(output);
  return *this;
}

onnx::AttributeProto& OnnxModel::AddAttribute(const std::string& name, onnx::AttributeProto::AttributeType type) {
  onnx::GraphProto& graph = *proto_.mutable_graph();
  onnx::AttributeProto& attribute = *graph.mutable_node(graph.node_size() - 1)->add_attribute();
  attribute.set_name(name);
  attribute.set_type(type);
  return attribute;
}

OnnxModel& OnnxModel::Int(const std::string& name, int64_t value) {
  AddAttribute(name, onnx::AttributeProto::INT).set_i(value);
  return *this;
}

OnnxModel& OnnxModel::Float(const std::string& name, float value) {
  AddAttribute(name, onnx::AttributeProto::FLOAT).set_f(value);
  return *this;
}

OnnxModel& OnnxModel::String(const std::string& name, const std::string& value) {
  AddAttribute(name, onnx::AttributeProto::STRING).set_s(value);
  return *this;
}

OnnxModel& OnnxModel::Ints(const std::string& name, const std::vector<int64_t>& values) {
  onnx::AttributeProto& attribute = AddAttribute(name, onnx::AttributeProto::INTS);
  for (int64_t value : values) attribute.add_ints(value);
  return *this;
}

OnnxModel& OnnxModel::Domain(const std::string& domain, int version) {
  onnx::GraphProto& graph = *proto_.mutable_graph();
  graph.mutable_node(graph.node_size() - 1)->set_domain(domain);
  onnx::OperatorSetIdProto& opset = *proto_.add_opset_import();
  opset.set_domain(domain);
  opset.set_version(version);
  return *this;
}

}  // namespace tessera
