// TFLite tensors as ours: element types, constant data with or without SparsityParameters, quantisation.
//
// The FlatBuffer has been verified (offsets and vectors lie within the file); what numbers mean is checked here: sizes,
// indices, segments, scales. Errors name the tensor. Pure functions. Tested by tflite_importer_test.cc.
#ifndef TESSERA_MODELS_IMPORT_TFLITE_TENSOR_READER_H_
#define TESSERA_MODELS_IMPORT_TFLITE_TENSOR_READER_H_

#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "models/import/graph_writer.h"
#include "models/import/tflite/tflite_generated.h"
#include "tesa/quant.h"
#include "tesa/tensor.h"

namespace tessera {

// "tensor 'conv/weights'".
std::string TfliteTensorName(const tfl::Tensor& tensor);
StatusOr<TensorType> TfliteTensorType(const tfl::Tensor& tensor);
// The parameters of an integer tensor that stands for reals; nothing for other tensors.
StatusOr<std::optional<QuantParams>> TfliteQuant(const tfl::Tensor& tensor);

// The bytes of a buffer, which are in the FlatBuffer or, in files above 2 GiB, behind it; empty for a tensor that is
// computed. `file` is the whole file.
StatusOr<std::string_view> TfliteBuffer(const tfl::Model& model, const tfl::Tensor& tensor, std::string_view file);

struct TfliteConstant {
  Tensor data;                 // dense
  std::optional<Tensor> mask;  // as ConstantOrigin::mask, for a tensor with SparsityParameters
};
StatusOr<TfliteConstant> TfliteConstantData(const tfl::Tensor& tensor, std::string_view bytes);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_TFLITE_TENSOR_READER_H_
