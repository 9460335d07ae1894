// TfliteModel: small TFLite models for tests, written with the schema's object API and serialised.
//
//   TfliteModel m;
//   const int x = m.Input({1, 2});
//   const int y = m.Op(tfl::BuiltinOperator::RELU, {x}, {1, 2});
//   ImportModelFromBytes(m.Bytes({y}), "m.tflite");
//
// Tensors are named t0, t1, …; buffer 0 is the empty one. For tests only. Tested by its users.
#ifndef TESSERA_MODELS_IMPORT_TFLITE_TESTING_TFLITE_MODEL_H_
#define TESSERA_MODELS_IMPORT_TFLITE_TESTING_TFLITE_MODEL_H_

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/import/tflite/tflite_generated.h"

namespace tessera {

inline constexpr tfl::TensorType kFloat = tfl::TensorType::FLOAT32;

class TfliteModel {
 public:
  TfliteModel() {
    model_.version = 3;
    model_.subgraphs.push_back(std::make_unique<tfl::SubGraphT>());
    model_.buffers.push_back(std::make_unique<tfl::BufferT>());
  }
  tfl::ModelT& model() { return model_; }
  tfl::SubGraphT& graph() { return *model_.subgraphs[0]; }
  tfl::TensorT& tensor(int id) { return *graph().tensors[id]; }

  int Add(std::vector<int> shape, tfl::TensorType type = kFloat) {
    auto tensor = std::make_unique<tfl::TensorT>();
    tensor->shape = std::move(shape);
    tensor->type = type;
    tensor->name = "t" + std::to_string(graph().tensors.size());
    graph().tensors.push_back(std::move(tensor));
    return static_cast<int>(graph().tensors.size()) - 1;
  }
  int Input(std::vector<int> shape, tfl::TensorType type = kFloat) {
    graph().inputs.push_back(Add(std::move(shape), type));
    return graph().inputs.back();
  }
  template <typename T>
  int Constant(std::vector<int> shape, const std::vector<T>& values, tfl::TensorType type) {
    const int id = Add(std::move(shape), type);
    auto buffer = std::make_unique<tfl::BufferT>();
    const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
    buffer->data.assign(bytes, bytes + values.size() * sizeof(T));
    model_.buffers.push_back(std::move(buffer));
    tensor(id).buffer = static_cast<uint32_t>(model_.buffers.size() - 1);
    return id;
  }
  int Floats(std::vector<int> shape, const std::vector<float>& values) {
    return Constant(std::move(shape), values, kFloat);
  }
  int Ints(const std::vector<int32_t>& values) {
    return Constant({static_cast<int>(values.size())}, values, tfl::TensorType::INT32);
  }
  void Quantize(int id, float scale, int64_t zero_point) {
    tensor(id).quantization = std::make_unique<tfl::QuantizationParametersT>();
    tensor(id).quantization->scale = {scale};
    tensor(id).quantization->zero_point = {zero_point};
  }
  template <typename Options = tfl::AddOptionsT>
  int Op(tfl::BuiltinOperator op, std::vector<int> inputs, std::vector<int> shape, tfl::TensorType type = kFloat,
         tfl::BuiltinOptions kind = tfl::BuiltinOptions::NONE, Options options = {}) {
    auto code = std::make_unique<tfl::OperatorCodeT>();
    code->builtin_code = static_cast<int>(op);
    code->deprecated_builtin_code = static_cast<int8_t>(std::min(static_cast<int>(op), 127));
    model_.operator_codes.push_back(std::move(code));
    auto node = std::make_unique<tfl::OperatorT>();
    node->opcode_index = static_cast<uint32_t>(model_.operator_codes.size() - 1);
    node->inputs = std::move(inputs);
    node->outputs = {Add(std::move(shape), type)};
    node->builtin_options.type = kind;
    if (kind != tfl::BuiltinOptions::NONE) node->builtin_options.value = new Options(std::move(options));
    const int result = node->outputs[0];
    graph().operators.push_back(std::move(node));
    return result;
  }
  std::string Bytes(std::vector<int> outputs) {
    graph().outputs = std::move(outputs);
    flatbuffers::FlatBufferBuilder builder;
    tfl::FinishModelBuffer(builder, tfl::Model::Pack(builder, &model_));
    return {reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize()};
  }

 private:
  tfl::ModelT model_;
};

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_TFLITE_TESTING_TFLITE_MODEL_H_
