#include "models/import/tflite/tensor_reader.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

static_assert(std::endian::native == std::endian::little, "buffers are little-endian and are copied as they are");

namespace tessera {
namespace {

// A sparse tensor of a few bytes may claim any dense shape; no weight is larger than this.
constexpr int64_t kMaxSparseBytes = int64_t{1} << 31;

std::optional<DType> DTypeOf(tfl::TensorType type) {
  switch (type) {
    case tfl::TensorType::FLOAT32: return DType::kF32;
    case tfl::TensorType::FLOAT16: return DType::kF16;
    case tfl::TensorType::BFLOAT16: return DType::kBF16;
    case tfl::TensorType::FLOAT64: return DType::kF64;
    case tfl::TensorType::INT4: return DType::kI4;
    case tfl::TensorType::INT8: return DType::kI8;
    case tfl::TensorType::INT16: return DType::kI16;
    case tfl::TensorType::INT32: return DType::kI32;
    case tfl::TensorType::INT64: return DType::kI64;
    case tfl::TensorType::UINT8: return DType::kU8;
    case tfl::TensorType::UINT16: return DType::kU16;
    case tfl::TensorType::UINT32: return DType::kU32;
    case tfl::TensorType::UINT64: return DType::kU64;
    case tfl::TensorType::BOOL: return DType::kBool;
    default: return std::nullopt;
  }
}

template <typename Values>
std::vector<int64_t> ToInts(const Values* values) {
  std::vector<int64_t> result;
  if (values != nullptr) {
    for (const auto value : *values) result.push_back(static_cast<int64_t>(value));
  }
  return result;
}

// Segments or indices in any of their three widths.
std::vector<int64_t> IndexVector(tfl::SparseIndexVector type, const void* table) {
  if (table == nullptr) return {};
  switch (type) {
    case tfl::SparseIndexVector::Int32Vector: return ToInts(static_cast<const tfl::Int32Vector*>(table)->values());
    case tfl::SparseIndexVector::Uint16Vector: return ToInts(static_cast<const tfl::Uint16Vector*>(table)->values());
    case tfl::SparseIndexVector::Uint8Vector: return ToInts(static_cast<const tfl::Uint8Vector*>(table)->values());
    default: return {};
  }
}

// One level of the tree in which the kept elements are stored, outermost first.
struct Level {
  int64_t stride = 0;  // what one step along it moves in the dense tensor
  int64_t size = 0;    // its extent
  bool dense = true;
  std::vector<int64_t> segments, indices;  // compressed levels
};

// The levels of a sparse tensor, checked so that a walk over them stays inside all arrays and visits no more positions
// than the dense tensor has elements; and how many values they store.
StatusOr<std::vector<Level>> ReadLevels(const tfl::SparsityParameters& sparsity, const Shape& shape, int64_t* stored) {
  const int rank = shape.rank();
  const std::vector<int64_t> order = ToInts(sparsity.traversal_order());
  const std::vector<int64_t> block_map = ToInts(sparsity.block_map());
  const int count = static_cast<int>(std::min<size_t>(order.size(), 64));
  const auto* metadata = sparsity.dim_metadata();
  bool valid = metadata != nullptr && order.size() == rank + block_map.size() && metadata->size() == order.size();
  std::vector<bool> seen(order.size(), false);
  for (int l = 0; valid && l < count; ++l) {
    const int64_t dim = order[l];
    // The dims of a block come last, so that each block is whole.
    valid = dim >= 0 && dim < count && !seen[dim] && (dim >= rank) == (l >= rank) && metadata->Get(l) != nullptr;
    if (valid) seen[dim] = true;
  }
  for (int64_t dim : block_map) valid = valid && dim >= 0 && dim < rank;
  if (!valid) return Error(ErrorCode::kFileCorrupt, "the traversal order of its sparsity does not fit ", shape);
  // Extents of the blocks, and what is left of each dim outside of them.
  std::vector<int64_t> block(rank, 1), block_size(block_map.size(), 1);
  for (int l = rank; l < count; ++l) {
    const int64_t size = metadata->Get(l)->dense_size();
    const int64_t dim = block_map[order[l] - rank];
    if (metadata->Get(l)->format() != tfl::DimensionType::DENSE || size < 1 ||
        shape[static_cast<int>(dim)] % size != 0) {
      return Error(ErrorCode::kFileCorrupt, "its sparsity has blocks that do not divide ", shape);
    }
    block_size[order[l] - rank] = size;
    block[dim] *= size;
    if (block[dim] > shape[static_cast<int>(dim)]) return Error(ErrorCode::kFileCorrupt, "its blocks are too large");
  }
  const std::vector<int64_t> strides = shape.Strides();
  std::vector<Level> levels(count);
  int64_t positions = 1;
  for (int l = 0; l < count; ++l) {
    Level& level = levels[l];
    const tfl::DimensionMetadata& from = *metadata->Get(l);
    if (order[l] < rank) {
      const int dim = static_cast<int>(order[l]);
      if (shape[dim] % block[dim] != 0) return Error(ErrorCode::kFileCorrupt, "its blocks do not divide ", shape);
      level.size = shape[dim] / block[dim];
      level.stride = strides[dim] * block[dim];
    } else {
      // Of several block dims of one tensor dim, later ones are the inner ones.
      const size_t which = order[l] - rank;
      level.size = block_size[which];
      level.stride = strides[block_map[which]];
      for (size_t inner = which + 1; inner < block_map.size(); ++inner) {
        if (block_map[inner] == block_map[which]) level.stride *= block_size[inner];
      }
    }
    level.dense = from.format() == tfl::DimensionType::DENSE;
    if (level.dense) {
      if (from.dense_size() != level.size) {
        return Error(ErrorCode::kFileCorrupt, "a dense level of its sparsity has extent ", from.dense_size(),
                     ", expected ", level.size);
      }
      positions *= level.size;
    } else {
      level.segments = IndexVector(from.array_segments_type(), from.array_segments());
      level.indices = IndexVector(from.array_indices_type(), from.array_indices());
      bool sound = static_cast<int64_t>(level.segments.size()) == positions + 1 && level.segments[0] == 0 &&
                   level.segments.back() == static_cast<int64_t>(level.indices.size()) &&
                   std::is_sorted(level.segments.begin(), level.segments.end());
      for (int64_t index : level.indices) sound = sound && index >= 0 && index < level.size;
      for (size_t s = 0; sound && s + 1 < level.segments.size(); ++s) {
        for (int64_t k = level.segments[s] + 1; k < level.segments[s + 1]; ++k) {
          sound = sound && level.indices[k - 1] < level.indices[k];
        }
      }
      if (!sound) return Error(ErrorCode::kFileCorrupt, "the segments or indices of its sparsity are not valid");
      positions = static_cast<int64_t>(level.indices.size());
    }
    if (positions > std::max<int64_t>(shape.num_elements(), 1)) {
      return Error(ErrorCode::kFileCorrupt, "its sparsity stores more elements than ", shape, " has");
    }
  }
  *stored = positions;
  return levels;
}

// Calls visit(stored position, dense position) for each stored value.
template <typename Visit>
void ForEachStored(const std::vector<Level>& levels, size_t at, int64_t position, int64_t dense, const Visit& visit) {
  if (at == levels.size()) {
    visit(position, dense);
    return;
  }
  const Level& level = levels[at];
  if (level.dense) {
    for (int64_t i = 0; i < level.size; ++i) {
      ForEachStored(levels, at + 1, position * level.size + i, dense + i * level.stride, visit);
    }
    return;
  }
  for (int64_t k = level.segments[position]; k < level.segments[position + 1]; ++k) {
    ForEachStored(levels, at + 1, k, dense + level.indices[k] * level.stride, visit);
  }
}

Status CheckBytes(const tfl::Tensor& tensor, DType dtype, int64_t count, size_t found) {
  const int64_t expected = ByteSize(dtype, count);
  if (static_cast<int64_t>(found) == expected) return OkStatus();
  return Error(ErrorCode::kFileCorrupt, TfliteTensorName(tensor), ": expected ", expected, " bytes for ", count,
               " elements of ", dtype, ", found ", found);
}

}  // namespace

std::string TfliteTensorName(const tfl::Tensor& tensor) {
  return "tensor '" + (tensor.name() == nullptr ? std::string() : tensor.name()->str()) + "'";
}

StatusOr<TensorType> TfliteTensorType(const tfl::Tensor& tensor) {
  const std::optional<DType> dtype = DTypeOf(tensor.type());
  if (!dtype) {
    return Error(ErrorCode::kTypeMismatch, TfliteTensorName(tensor),
                 ": expected a numeric element type that Tessera has, found ", tfl::EnumNameTensorType(tensor.type()));
  }
  const Shape shape(ToInts(tensor.shape()));
  RETURN_IF_ERROR(CheckShape(*dtype, shape).WithContext(TfliteTensorName(tensor)));
  return TensorType{*dtype, shape};
}

StatusOr<std::optional<QuantParams>> TfliteQuant(const tfl::Tensor& tensor) {
  const tfl::QuantizationParameters* from = tensor.quantization();
  const std::optional<DType> dtype = DTypeOf(tensor.type());
  if (from == nullptr || from->scale() == nullptr || from->scale()->size() == 0 || !dtype || !IsInteger(*dtype)) {
    return std::optional<QuantParams>();
  }
  if (from->details_type() != tfl::QuantizationDetails::NONE) {
    return Error(ErrorCode::kOpUnsupported, TfliteTensorName(tensor), ": custom quantisation is not supported");
  }
  QuantParams params;
  bool shifted = false;
  for (float scale : *from->scale()) params.scales.push_back(scale);
  for (int64_t zero_point : ToInts(from->zero_point())) {
    params.zero_points.push_back(zero_point);
    shifted = shifted || zero_point != 0;
  }
  if (params.zero_points.size() == 1 && params.scales.size() > 1) {
    params.zero_points.resize(params.scales.size(), params.zero_points[0]);
  }
  if (!shifted) params.zero_points.clear();
  if (params.scales.size() > 1) params.axis = from->quantized_dimension();
  const Status status = CheckQuantParams(params, *dtype, Shape(ToInts(tensor.shape())));
  if (!status.ok()) return status.WithContext(TfliteTensorName(tensor));
  return std::optional(std::move(params));
}

StatusOr<std::string_view> TfliteBuffer(const tfl::Model& model, const tfl::Tensor& tensor, std::string_view file) {
  const auto* buffers = model.buffers();
  if (buffers == nullptr || tensor.buffer() >= buffers->size() || buffers->Get(tensor.buffer()) == nullptr) {
    return Error(ErrorCode::kFileCorrupt, TfliteTensorName(tensor), ": there is no buffer ", tensor.buffer());
  }
  if (tensor.buffer() == 0) return std::string_view();  // by convention the empty one
  const tfl::Buffer& buffer = *buffers->Get(tensor.buffer());
  if (buffer.offset() > 1) {
    if (buffer.offset() > file.size() || buffer.size() > file.size() - buffer.offset()) {
      return Error(ErrorCode::kFileTruncated, TfliteTensorName(tensor), ": expected ", buffer.size(), " bytes at ",
                   buffer.offset(), ", found a file of ", file.size());
    }
    return file.substr(buffer.offset(), buffer.size());
  }
  if (buffer.data() == nullptr) return std::string_view();
  return std::string_view(reinterpret_cast<const char*>(buffer.data()->data()), buffer.data()->size());
}

StatusOr<TfliteConstant> TfliteConstantData(const tfl::Tensor& tensor, std::string_view bytes) {
  ASSIGN_OR_RETURN(const TensorType type, TfliteTensorType(tensor));
  if (tensor.sparsity() == nullptr) {
    RETURN_IF_ERROR(CheckBytes(tensor, type.dtype, type.shape.num_elements(), bytes.size()));
    Tensor data(type.dtype, type.shape);
    if (!bytes.empty()) std::memcpy(data.mutable_bytes().data(), bytes.data(), bytes.size());
    if (IsBool(type.dtype)) {
      for (std::byte& b : data.mutable_bytes()) b = b == std::byte{0} ? b : std::byte{1};
    }
    return TfliteConstant{std::move(data), std::nullopt};
  }
  RETURN_IF_ERROR(CheckShape(type.dtype, type.shape, kMaxSparseBytes).WithContext(TfliteTensorName(tensor)));
  int64_t stored = 0;
  StatusOr<std::vector<Level>> levels = ReadLevels(*tensor.sparsity(), type.shape, &stored);
  if (!levels.ok()) return levels.status().WithContext(TfliteTensorName(tensor));
  RETURN_IF_ERROR(CheckBytes(tensor, type.dtype, stored, bytes.size()));
  Tensor values(type.dtype, {stored});
  if (!bytes.empty()) std::memcpy(values.mutable_bytes().data(), bytes.data(), bytes.size());
  TfliteConstant constant = {Tensor(type.dtype, type.shape), Tensor(DType::kU8, type.shape)};
  if (type.shape.num_elements() == 0) return constant;
  ForEachStored(*levels, 0, 0, 0, [&](int64_t from, int64_t to) {
    if (IsFloat(type.dtype)) {
      constant.data.Set(to, values.Get(from));
    } else {
      constant.data.SetInt(to, values.GetInt(from));
    }
    constant.mask->SetInt(to, kOwnWidth);
  });
  return constant;
}

}  // namespace tessera
