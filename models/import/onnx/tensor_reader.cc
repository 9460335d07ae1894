#include "models/import/onnx/tensor_reader.h"

#include <bit>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "models/import/graph_writer.h"
#include "onnx/onnx_pb.h"

static_assert(std::endian::native == std::endian::little, "raw_data is little-endian and is copied as it is");

namespace tessera {
namespace {

// A sparse tensor of a few bytes may claim any dense shape; no weight is larger than this.
constexpr int64_t kMaxSparseBytes = int64_t{1} << 31;

// TensorProto.DataType by number (onnx.proto of 1.20; the installed header stops at 16).
struct OnnxType {
  int number;
  std::string_view name;
  std::optional<DType> dtype;
};
constexpr OnnxType kOnnxTypes[] = {
    {1, "FLOAT", DType::kF32},
    {2, "UINT8", DType::kU8},
    {3, "INT8", DType::kI8},
    {4, "UINT16", DType::kU16},
    {5, "INT16", DType::kI16},
    {6, "INT32", DType::kI32},
    {7, "INT64", DType::kI64},
    {8, "STRING", std::nullopt},
    {9, "BOOL", DType::kBool},
    {10, "FLOAT16", DType::kF16},
    {11, "DOUBLE", DType::kF64},
    {12, "UINT32", DType::kU32},
    {13, "UINT64", DType::kU64},
    {14, "COMPLEX64", std::nullopt},
    {15, "COMPLEX128", std::nullopt},
    {16, "BFLOAT16", DType::kBF16},
    {17, "FLOAT8E4M3FN", DType::kF8E4M3},
    {18, "FLOAT8E4M3FNUZ", std::nullopt},
    {19, "FLOAT8E5M2", DType::kF8E5M2},
    {20, "FLOAT8E5M2FNUZ", std::nullopt},
    {21, "UINT4", DType::kU4},
    {22, "INT4", DType::kI4},
    {23, "FLOAT4E2M1", std::nullopt},
    {24, "FLOAT8E8M0", std::nullopt},
    {25, "UINT2", std::nullopt},
    {26, "INT2", std::nullopt},
};

std::string Named(const onnx::TensorProto& proto) { return "tensor '" + proto.name() + "'"; }

// Copies bytes that are the tensor's elements, little-endian and packed.
Tensor FromBytes(DType dtype, const Shape& shape, std::span<const std::byte> bytes) {
  Tensor tensor(dtype, shape);
  if (!bytes.empty()) std::memcpy(tensor.mutable_bytes().data(), bytes.data(), tensor.byte_size());
  if (IsBool(dtype)) {  // any non-zero byte is true; ours are 0 and 1
    for (std::byte& b : tensor.mutable_bytes()) b = b == std::byte{0} ? b : std::byte{1};
  }
  return tensor;
}

// From a typed field. `Field` holds one element an entry, except that two 4-bit elements share one, and that f16, bf16
// and f8 are bit patterns.
template <typename Field>
StatusOr<Tensor> FromField(const onnx::TensorProto& proto, DType dtype, const Shape& shape, const Field& field) {
  const int bits = TypeInfo(dtype).bits;
  const int64_t count = shape.num_elements();
  const int64_t expected = bits == 4 ? (count + 1) / 2 : count;
  if (field.size() != expected) {
    return Error(ErrorCode::kFileCorrupt, Named(proto), ": expected ", expected, " values for ", dtype, shape,
                 ", found ", field.size());
  }
  Tensor tensor(dtype, shape);
  std::byte* out = tensor.mutable_bytes().data();
  const size_t width = bits == 4 ? 1 : bits / 8;
  for (int64_t k = 0; k < expected; ++k) {
    const auto value = field.Get(static_cast<int>(k));
    if (IsBool(dtype)) {
      out[k] = static_cast<std::byte>(value != 0);
    } else {
      std::memcpy(out + k * width, &value, width);  // the low bytes, as the field's type is at least as wide
    }
  }
  return tensor;
}

std::optional<uint64_t> ParseNumber(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

}  // namespace

StatusOr<DType> DTypeFromOnnx(int data_type) {
  for (const OnnxType& row : kOnnxTypes) {
    if (row.number == data_type && row.dtype) return *row.dtype;
  }
  return Error(ErrorCode::kTypeMismatch, "expected a numeric element type that Tessera has, found ",
               OnnxTypeName(data_type));
}

std::string OnnxTypeName(int data_type) {
  for (const OnnxType& row : kOnnxTypes) {
    if (row.number == data_type) return std::string(row.name);
  }
  return "element type " + std::to_string(data_type);
}

StatusOr<Tensor> TensorReader::Read(const onnx::TensorProto& proto) {
  StatusOr<DType> dtype = DTypeFromOnnx(proto.data_type());
  if (!dtype.ok()) return dtype.status().WithContext(Named(proto));
  const Shape shape(std::vector<int64_t>(proto.dims().begin(), proto.dims().end()));
  for (int64_t dim : shape) {
    if (dim < 0) return Error(ErrorCode::kFileCorrupt, Named(proto), ": expected extents >= 0, found ", shape);
  }
  RETURN_IF_ERROR(CheckShape(*dtype, shape).WithContext(Named(proto)));
  if (proto.has_segment()) return Error(ErrorCode::kFileCorrupt, Named(proto), ": segmented tensors are not supported");
  if (proto.data_location() == onnx::TensorProto::EXTERNAL) return ReadExternal(proto, *dtype, shape);
  if (proto.has_raw_data()) {
    const int64_t expected = ByteSize(*dtype, shape.num_elements());
    if (static_cast<int64_t>(proto.raw_data().size()) != expected) {
      return Error(ErrorCode::kFileCorrupt, Named(proto), ": expected ", expected, " bytes for ", *dtype, shape,
                   ", found ", proto.raw_data().size());
    }
    return FromBytes(*dtype, shape, std::as_bytes(std::span(proto.raw_data())));
  }
  switch (*dtype) {
    case DType::kF32: return FromField(proto, *dtype, shape, proto.float_data());
    case DType::kF64: return FromField(proto, *dtype, shape, proto.double_data());
    case DType::kI64: return FromField(proto, *dtype, shape, proto.int64_data());
    case DType::kU64:
    case DType::kU32: return FromField(proto, *dtype, shape, proto.uint64_data());
    default: return FromField(proto, *dtype, shape, proto.int32_data());
  }
}

StatusOr<std::shared_ptr<MappedFile>> TensorReader::OpenExternal(const std::string& location) {
  namespace fs = std::filesystem;
  if (auto it = files_.find(location); it != files_.end()) return it->second;
  if (folder_.empty()) {
    return Error(ErrorCode::kFileNotFound, "its data is in '", location,
                 "', beside a model file; this model was not read from one");
  }
  const fs::path relative(location);
  bool escapes = location.empty() || relative.is_absolute() || location.find('\0') != std::string::npos;
  for (const fs::path& part : relative) escapes = escapes || part == "..";
  std::error_code error;
  fs::path resolved;
  if (!escapes) {
    const fs::path home = fs::weakly_canonical(folder_, error);
    if (!error) resolved = fs::weakly_canonical(fs::path(folder_) / relative, error);
    const fs::path inside = resolved.lexically_relative(home);
    escapes = error || inside.empty() || *inside.begin() == "..";
  }
  if (escapes) {
    return Error(ErrorCode::kPathEscapes, "its data is in '", location,
                 "', expected a relative path that stays inside the model's folder ", folder_);
  }
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(resolved.string()));
  auto shared = std::make_shared<MappedFile>(std::move(file));
  files_.emplace(location, shared);
  return shared;
}

StatusOr<Tensor> TensorReader::ReadExternal(const onnx::TensorProto& proto, DType dtype, const Shape& shape) {
  std::string location;
  std::optional<uint64_t> offset = 0, length;
  for (const onnx::StringStringEntryProto& entry : proto.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == "offset") offset = ParseNumber(entry.value());
    if (entry.key() == "length") length = ParseNumber(entry.value());
    if ((entry.key() == "offset" && !offset) || (entry.key() == "length" && !length)) {
      return Error(ErrorCode::kFileCorrupt, Named(proto), ": expected a number of bytes as ", entry.key(), ", found '",
                   entry.value(), "'");
    }
  }
  StatusOr<std::shared_ptr<MappedFile>> file = OpenExternal(location);
  if (!file.ok()) return file.status().WithContext(Named(proto));
  const std::span<const std::byte> bytes = (*file)->bytes();
  const uint64_t expected = static_cast<uint64_t>(ByteSize(dtype, shape.num_elements()));
  if (length && *length != expected) {
    return Error(ErrorCode::kFileCorrupt, Named(proto), ": expected ", expected, " bytes for ", dtype, shape, " in '",
                 location, "', found a length of ", *length);
  }
  if (*offset > bytes.size() || bytes.size() - *offset < expected) {
    return Error(ErrorCode::kFileTruncated, Named(proto), ": expected ", expected, " bytes at ", *offset, " of '",
                 location, "', found a file of ", bytes.size(), " bytes");
  }
  const std::span<const std::byte> data = bytes.subspan(*offset, expected);
  if (reinterpret_cast<uintptr_t>(data.data()) % 64 != 0 || IsBool(dtype)) return FromBytes(dtype, shape, data);
  return Tensor::View(dtype, shape, data, *file);
}

StatusOr<DeclaredSparse> TensorReader::ReadSparse(const onnx::SparseTensorProto& proto) {
  ASSIGN_OR_RETURN(Tensor values, Read(proto.values()));
  ASSIGN_OR_RETURN(Tensor indices, Read(proto.indices()));
  const std::string where = "sparse " + Named(proto.values());
  const Shape shape(std::vector<int64_t>(proto.dims().begin(), proto.dims().end()));
  for (int64_t dim : shape) {
    if (dim < 0) return Error(ErrorCode::kFileCorrupt, where, ": expected extents >= 0, found ", shape);
  }
  RETURN_IF_ERROR(CheckShape(values.dtype(), shape, kMaxSparseBytes).WithContext(where));
  const int64_t count = values.num_elements();
  const bool linear = indices.shape().rank() == 1 && indices.shape()[0] == count;
  const bool tuples = indices.shape().rank() == 2 && indices.shape()[0] == count && indices.shape()[1] == shape.rank();
  if (values.shape().rank() != 1 || indices.dtype() != DType::kI64 || !(linear || tuples)) {
    return Error(ErrorCode::kFileCorrupt, where, ": expected values [n] and i64 indices [n] or [n,", shape.rank(),
                 "], found ", values.type(), " and ", indices.type());
  }
  DeclaredSparse sparse = {Tensor(values.dtype(), shape), Tensor(DType::kU8, shape)};
  const std::vector<int64_t> strides = shape.Strides();
  const int64_t elements = shape.num_elements();
  int64_t last = -1;
  for (int64_t k = 0; k < count; ++k) {
    int64_t at = 0;
    bool valid = true;
    if (linear) {
      at = indices.GetInt(k);
      valid = at >= 0 && at < elements;
    } else {
      for (int d = 0; d < shape.rank(); ++d) {
        const int64_t index = indices.GetInt(k * shape.rank() + d);
        valid = valid && index >= 0 && index < shape[d];
        at += valid ? index * strides[d] : 0;
      }
    }
    if (!valid || at <= last) {
      return Error(ErrorCode::kFileCorrupt, where, ": index ", k, ": expected indices within ", shape,
                   " in increasing order");
    }
    last = at;
    if (IsFloat(values.dtype())) {
      sparse.dense.Set(at, values.Get(k));
    } else {
      sparse.dense.SetInt(at, values.GetInt(k));
    }
    sparse.mask.SetInt(at, kOwnWidth);
  }
  return sparse;
}

}  // namespace tessera
