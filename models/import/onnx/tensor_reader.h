// TensorReader: ONNX's TensorProto and SparseTensorProto as Tensor, with data inside the file or beside it.
//
//   TensorReader reader("/models/bert");                       // where external data is looked for
//   ASSIGN_OR_RETURN(Tensor w, reader.Read(initializer));
//
// All numeric types of ONNX that Tessera has, from raw_data, the typed fields, or external data, whose location must
// stay inside the model's folder: no absolute path, no "..", no link that leads out. External data that is aligned is
// used in place, mapped. Strings and complex numbers are refused. Errors name the tensor. Not thread-safe. Tested by
// tensor_reader_test.cc.
#ifndef TESSERA_MODELS_IMPORT_ONNX_TENSOR_READER_H_
#define TESSERA_MODELS_IMPORT_ONNX_TENSOR_READER_H_

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/file.h"
#include "base/status.h"
#include "tesa/tensor.h"

namespace onnx {
class TensorProto;
class SparseTensorProto;
}  // namespace onnx

namespace tessera {

// The DType of an ONNX TensorProto.DataType, or an error that names it.
StatusOr<DType> DTypeFromOnnx(int data_type);
// "FLOAT", "BFLOAT16", …, for messages.
std::string OnnxTypeName(int data_type);

// A sparse tensor, made dense, and which elements its source declared.
struct DeclaredSparse {
  Tensor dense;
  Tensor mask;  // as ConstantOrigin::mask
};

class TensorReader {
 public:
  // `folder` may be empty: then external data is refused.
  explicit TensorReader(std::string folder) : folder_(std::move(folder)) {}

  StatusOr<Tensor> Read(const onnx::TensorProto& proto);
  StatusOr<DeclaredSparse> ReadSparse(const onnx::SparseTensorProto& proto);

 private:
  StatusOr<Tensor> ReadExternal(const onnx::TensorProto& proto, DType dtype, const Shape& shape);
  StatusOr<std::shared_ptr<MappedFile>> OpenExternal(const std::string& location);

  std::string folder_;
  std::map<std::string, std::shared_ptr<MappedFile>> files_;  // by location
};

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_ONNX_TENSOR_READER_H_
