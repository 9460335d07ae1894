// OnnxModel: small ONNX models for tests, written in C++ and serialised.
//
//   OnnxModel m(13);
//   m.Input("x", DType::kF32, {2, 3}).Constant("w", w);
//   m.Node("MatMul", {"x", "w"}, {"y"}).Output("y");
//   ImportModelFromBytes(m.Bytes(), "m.onnx");
//
// A dim below 0 of Input is symbolic, with the name that `symbols` gives it. For tests only. Tested by its users.
#ifndef TESSERA_MODELS_IMPORT_ONNX_TESTING_ONNX_MODEL_H_
#define TESSERA_MODELS_IMPORT_ONNX_TESTING_ONNX_MODEL_H_

#include <string>
#include <vector>

#include "onnx/onnx_pb.h"
#include "tesa/tensor.h"

namespace tessera {

// TensorProto.DataType of an element type.
int OnnxType(DType dtype);
onnx::TensorProto ToProto(const std::string& name, const Tensor& tensor);

class OnnxModel {
 public:
  explicit OnnxModel(int opset = 17);

  OnnxModel& Input(const std::string& name, DType dtype, const std::vector<int64_t>& dims,
                   const std::vector<std::string>& symbols = {});
  OnnxModel& Constant(const std::string& name, const Tensor& tensor);
  // An output without a declared type.
  OnnxModel& Output(const std::string& name);
  OnnxModel& Node(const std::string& op, const std::vector<std::string>& inputs,
                  const std::vector<std::string>& outputs);
  // Attributes of the last node.
  OnnxModel& Int(const std::string& name, int64_t value);
  OnnxModel& Float(const std::string& name, float value);
  OnnxModel& String(const std::string& name, const std::string& value);
  OnnxModel& Ints(const std::string& name, const std::vector<int64_t>& values);
  OnnxModel& Domain(const std::string& domain, int version = 1);

  onnx::ModelProto& proto() { return proto_; }
  std::string Bytes() const { return proto_.SerializeAsString(); }

 private:
  onnx::AttributeProto& AddAttribute(const std::string& name, onnx::AttributeProto::AttributeType type);

  onnx::ModelProto proto_;
};

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_ONNX_TESTING_ONNX_MODEL_H_
