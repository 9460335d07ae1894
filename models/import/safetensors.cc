#include "models/import/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/file.h"

static_assert(std::endian::native == std::endian::little, "data is little-endian and is used as it is");

namespace tessera {
namespace {

using Json = nlohmann::json;

// The format's own bound on its header.
constexpr uint64_t kMaxHeader = 100'000'000;
constexpr int kMaxDepth = 8;  // a header has depth 3
constexpr size_t kAlignment = 64;

struct TypeRow {
  std::string_view name;
  DType dtype;
};
constexpr TypeRow kTypes[] = {
    {"F64", DType::kF64},   {"F32", DType::kF32},        {"F16", DType::kF16},        {"BF16", DType::kBF16},
    {"I64", DType::kI64},   {"I32", DType::kI32},        {"I16", DType::kI16},        {"I8", DType::kI8},
    {"U64", DType::kU64},   {"U32", DType::kU32},        {"U16", DType::kU16},        {"U8", DType::kU8},
    {"BOOL", DType::kBool}, {"F8_E4M3", DType::kF8E4M3}, {"F8_E5M2", DType::kF8E5M2},
};

uint64_t HeaderLength(std::string_view bytes) {
  uint64_t length = 0;
  if (bytes.size() >= 8) std::memcpy(&length, bytes.data(), 8);
  return length;
}

// Refuses deep nesting before the parser recurses.
bool TooDeep(std::string_view json) {
  int depth = 0;
  bool in_string = false;
  for (size_t k = 0; k < json.size(); ++k) {
    const char c = json[k];
    if (in_string) {
      if (c == '\\') ++k;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

std::optional<std::vector<int64_t>> Integers(const Json& json) {
  if (!json.is_array()) return std::nullopt;
  std::vector<int64_t> values;
  for (const Json& entry : json) {
    if (!entry.is_number_unsigned() || entry.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    values.push_back(static_cast<int64_t>(entry.get<uint64_t>()));
  }
  return values;
}

struct Extent {
  uint64_t begin, end;
};

// One entry of the header. `data` is what follows the header.
StatusOr<Tensor> ReadEntry(const std::string& name, const Json& entry, std::string_view data,
                           const std::shared_ptr<const void>& owner, std::vector<Extent>& extents) {
  const std::string where = "tensor '" + name + "'";
  const auto field = [&](const char* key) -> const Json& {
    static const Json none;
    if (!entry.is_object()) return none;
    const auto it = entry.find(key);
    return it == entry.end() ? none : *it;
  };
  const Json& type = field("dtype");
  const auto row = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& r) {
    return type.is_string() && r.name == type.get_ref<const std::string&>();
  });
  if (row == std::end(kTypes)) {
    return Error(ErrorCode::kTypeMismatch, where, ": expected a known dtype, found ", type.dump());
  }
  std::optional<std::vector<int64_t>> dims = Integers(field("shape")), offsets = Integers(field("data_offsets"));
  if (!dims || !offsets || offsets->size() != 2) {
    return Error(ErrorCode::kFileCorrupt, where, ": expected a shape and two data_offsets");
  }
  const Shape shape(*std::move(dims));
  RETURN_IF_ERROR(CheckShape(row->dtype, shape).WithContext(where));
  const uint64_t begin = static_cast<uint64_t>((*offsets)[0]), end = static_cast<uint64_t>((*offsets)[1]);
  const uint64_t expected = static_cast<uint64_t>(ByteSize(row->dtype, shape.num_elements()));
  if (begin > end || end - begin != expected) {
    return Error(ErrorCode::kFileCorrupt, where, ": expected ", expected, " bytes for ", row->dtype, shape,
                 ", found data_offsets ", begin, " to ", end);
  }
  if (end > data.size()) {
    return Error(ErrorCode::kFileTruncated, where, ": expected data up to byte ", end, ", found ", data.size(),
                 " bytes of data");
  }
  if (begin < end) extents.push_back({begin, end});
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data.data() + begin, expected));
  const bool usable =
      reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment == 0 && owner != nullptr && !IsBool(row->dtype);
  if (usable) return Tensor::View(row->dtype, shape, bytes, owner);
  Tensor tensor(row->dtype, shape);
  if (expected > 0) std::memcpy(tensor.mutable_bytes().data(), bytes.data(), expected);
  if (IsBool(row->dtype)) {
    for (std::byte& b : tensor.mutable_bytes()) b = b == std::byte{0} ? b : std::byte{1};
  }
  return tensor;
}

}  // namespace

bool LooksLikeSafetensors(std::string_view bytes) {
  return bytes.size() > 8 && HeaderLength(bytes) <= bytes.size() - 8 && HeaderLength(bytes) > 1 && bytes[8] == '{';
}

StatusOr<Safetensors> ParseSafetensors(std::string_view bytes, std::shared_ptr<const void> owner) {
  const uint64_t length = HeaderLength(bytes);
  if (bytes.size() < 8 || length > bytes.size() - 8) {
    return Error(ErrorCode::kFileTruncated, "expected a header of ", length, " bytes, found a file of ", bytes.size());
  }
  if (length > kMaxHeader) {
    return Error(ErrorCode::kLimitExceeded, "expected a header of at most ", kMaxHeader, " bytes, found ", length);
  }
  const std::string_view header = bytes.substr(8, length);
  const std::string_view data = bytes.substr(8 + length);
  if (TooDeep(header)) return Error(ErrorCode::kFileCorrupt, "the header nests deeper than ", kMaxDepth);
  const Json json = Json::parse(header.begin(), header.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Error(ErrorCode::kFileCorrupt, "expected a header in JSON, found none");
  Safetensors file;
  std::vector<Extent> extents;
  for (const auto& [name, entry] : json.items()) {
    if (name != "__metadata__") {
      ASSIGN_OR_RETURN(Tensor tensor, ReadEntry(name, entry, data, owner, extents));
      file.tensors.emplace(name, std::move(tensor));
      continue;
    }
    if (!entry.is_object()) return Error(ErrorCode::kFileCorrupt, "expected __metadata__ to hold strings");
    for (const auto& [key, text] : entry.items()) {
      if (!text.is_string()) return Error(ErrorCode::kFileCorrupt, "expected __metadata__ to hold strings");
      file.metadata[key] = text.get<std::string>();
    }
  }
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  for (size_t k = 1; k < extents.size(); ++k) {
    if (extents[k].begin < extents[k - 1].end) {
      return Error(ErrorCode::kFileCorrupt, "two tensors share the bytes at ", extents[k].begin);
    }
  }
  return file;
}

StatusOr<Safetensors> ReadSafetensors(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile opened, MappedFile::Open(path));
  auto file = std::make_shared<MappedFile>(std::move(opened));
  const std::string_view bytes = file->text();
  StatusOr<Safetensors> result = ParseSafetensors(bytes, file);
  if (!result.ok()) return result.status().WithContext(path);
  return result;
}

std::string SerializeSafetensors(const Safetensors& file) {
  Json header = Json::object();
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
  uint64_t at = 0;
  std::string data;
  for (const auto& [name, tensor] : file.tensors) {
    const auto row =
        std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& r) { return r.dtype == tensor.dtype(); });
    TES_CHECK(row != std::end(kTypes), "safetensors has no ", tensor.dtype());
    const std::span<const std::byte> bytes = tensor.bytes();
    header[name] = {{"dtype", row->name}, {"shape", tensor.shape().dims()}, {"data_offsets", {at, at + bytes.size()}}};
    data.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    at += bytes.size();
  }
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.resize((text.size() + 8 + kAlignment - 1) / kAlignment * kAlignment - 8, ' ');
  const uint64_t length = text.size();
  std::string result(reinterpret_cast<const char*>(&length), 8);
  return result + text + data;
}

}  // namespace tessera
