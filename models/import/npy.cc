#include "models/import/npy.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/file.h"

namespace tessera {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
// numpy.lib.format refuses headers above 10,000 bytes as well.
constexpr size_t kMaxHeaderBytes = 10000;

struct TypeName {
  std::string_view code;  // without the byte order
  DType dtype;
};
constexpr TypeName kTypes[] = {{"f8", DType::kF64}, {"f4", DType::kF32}, {"f2", DType::kF16}, {"i8", DType::kI64},
                               {"i4", DType::kI32}, {"i2", DType::kI16}, {"i1", DType::kI8},  {"u8", DType::kU64},
                               {"u4", DType::kU32}, {"u2", DType::kU16}, {"u1", DType::kU8},  {"b1", DType::kBool}};

Status Corrupt(const auto&... pieces) { return Error(ErrorCode::kFileCorrupt, pieces...); }

struct Header {
  DType dtype = DType::kF32;
  bool swapped = false;  // big-endian
  bool fortran = false;
  std::vector<int64_t> dims;
};

// Reads the Python dictionary of the header: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  StatusOr<Header> Parse() {
    Header header;
    bool seen[3] = {false, false, false};
    if (!Take('{')) return Corrupt("the header is no dictionary");
    while (!Take('}')) {
      ASSIGN_OR_RETURN(const std::string_view key, Quoted());
      if (!Take(':')) return Corrupt("the header has no value for '", key, "'");
      if (key == "descr") {
        RETURN_IF_ERROR(ParseType(header));
        seen[0] = true;
      } else if (key == "fortran_order") {
        if (!TakeWord("True") && !TakeWord("False")) return Corrupt("fortran_order is neither True nor False");
        header.fortran = text_[at_ - 2] == 'u';  // Tr[u]e, Fal[s]e
        seen[1] = true;
      } else if (key == "shape") {
        RETURN_IF_ERROR(ParseShape(header));
        seen[2] = true;
      } else {
        return Corrupt("the header has an unknown key '", key, "'");
      }
      if (!Take(',') && Peek() != '}') return Corrupt("the header's dictionary does not end");
    }
    if (!seen[0] || !seen[1] || !seen[2]) return Corrupt("the header lacks descr, fortran_order or shape");
    return header;
  }

 private:
  void SkipBlanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  char Peek() {
    SkipBlanks();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool Take(char c) {
    if (Peek() != c) return false;
    ++at_;
    return true;
  }
  bool TakeWord(std::string_view word) {
    SkipBlanks();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  StatusOr<std::string_view> Quoted() {
    const char quote = Peek();
    if (quote != '\'' && quote != '"') return Corrupt("the header has no quoted text where one is due");
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) return Corrupt("a text of the header does not end");
    const std::string_view text = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return text;
  }
  Status ParseType(Header& header) {
    if (Peek() == '[') return Error(ErrorCode::kTypeMismatch, "expected numbers, found a structured array");
    ASSIGN_OR_RETURN(const std::string_view text, Quoted());
    for (const TypeName& type : kTypes) {
      if (text.size() != 3 || text.substr(1) != type.code ||
          std::string_view("<>|=").find(text[0]) == std::string_view::npos) {
        continue;
      }
      header.dtype = type.dtype;
      header.swapped = text[0] == '>' && TypeInfo(type.dtype).bits > 8;
      return OkStatus();
    }
    return Error(ErrorCode::kTypeMismatch, "expected numbers or bool, found the NumPy type '", text, "'",
                 text.find('O') != std::string_view::npos ? " (pickled objects are never read)" : "");
  }
  Status ParseShape(Header& header) {
    if (!Take('(')) return Corrupt("the shape is no tuple");
    while (!Take(')')) {
      SkipBlanks();
      int64_t dim = 0;
      size_t digits = 0;
      for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_, ++digits) {
        if (digits >= 18) return Corrupt("an extent of the shape is absurd");
        dim = dim * 10 + (text_[at_] - '0');
      }
      if (digits == 0) return Corrupt("the shape has an extent that is no number");
      header.dims.push_back(dim);
      if (!Take(',') && Peek() != ')') return Corrupt("the shape does not end");
    }
    return OkStatus();
  }

  std::string_view text_;
  size_t at_ = 0;
};

// From Fortran order (first axis fastest) to ours.
Tensor FromFortran(const Tensor& source, const Shape& shape) {
  Tensor result(source.dtype(), shape);
  const int64_t bytes = TypeInfo(source.dtype()).bits / 8;
  const std::span<const std::byte> from = source.bytes();
  const std::span<std::byte> to = result.mutable_bytes();
  int64_t n = 0;
  ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
    int64_t at = 0;
    for (int d = shape.rank() - 1; d >= 0; --d) at = at * shape[d] + index[d];
    std::copy_n(from.begin() + at * bytes, bytes, to.begin() + n++ * bytes);
  });
  return result;
}

StatusOr<Tensor> Parse(std::string_view bytes) {
  if (bytes.substr(0, kMagic.size()) != kMagic)
    return Error(ErrorCode::kFormatUnknown, "not a NumPy file: it does not begin with \\x93NUMPY");
  const auto byte = [&](size_t at) { return static_cast<size_t>(static_cast<unsigned char>(bytes[at])); };
  if (bytes.size() < 10 || (bytes[6] != 1 && bytes.size() < 12))
    return Error(ErrorCode::kFileTruncated, "the file ends within its header");
  const size_t version = byte(6);
  if (version < 1 || version > 3)
    return Error(ErrorCode::kVersionUnsupported, "version ", version, " of the NumPy format; known are 1 to 3");
  const size_t start = version == 1 ? 10 : 12;
  const size_t length =
      version == 1 ? byte(8) | byte(9) << 8 : byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24;
  if (length > kMaxHeaderBytes)
    return Error(ErrorCode::kLimitExceeded, "a header of ", length, " bytes; at most ", kMaxHeaderBytes);
  if (bytes.size() < start + length) return Error(ErrorCode::kFileTruncated, "the file ends within its header");
  ASSIGN_OR_RETURN(const Header header, HeaderParser(bytes.substr(start, length)).Parse());
  const Shape shape(header.dims);
  RETURN_IF_ERROR(CheckShape(header.dtype, shape));
  const std::string_view data = bytes.substr(start + length);
  const auto expected = static_cast<size_t>(ByteSize(header.dtype, shape.num_elements()));
  if (data.size() != expected) {
    return Error(data.size() < expected ? ErrorCode::kFileTruncated : ErrorCode::kFileCorrupt, "expected ", expected,
                 " bytes of ", TensorType{header.dtype, shape}, " after the header, found ", data.size());
  }
  Tensor tensor(header.dtype, shape);
  const std::span<std::byte> to = tensor.mutable_bytes();
  if (expected > 0) std::memcpy(to.data(), data.data(), expected);
  if (header.swapped) {
    const auto size = static_cast<size_t>(TypeInfo(header.dtype).bits / 8);
    for (size_t at = 0; at < to.size(); at += size) std::reverse(to.begin() + at, to.begin() + at + size);
  }
  if (header.dtype == DType::kBool) {
    for (std::byte& b : to) b = b == std::byte{0} ? std::byte{0} : std::byte{1};
  }
  return header.fortran && shape.rank() > 1 ? FromFortran(tensor, shape) : tensor;
}

}  // namespace

StatusOr<Tensor> ParseNpy(std::string_view bytes, const std::string& name) {
  StatusOr<Tensor> tensor = Parse(bytes);
  if (!tensor.ok()) return tensor.status().WithContext(name);
  return tensor;
}

StatusOr<Tensor> ReadNpy(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return ParseNpy(file.text(), path);
}

std::string NpyBytes(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::kBF16:
    case DType::kF8E4M3:
    case DType::kF8E5M2: return NpyBytes(tensor.Cast(DType::kF32));
    case DType::kI4: return NpyBytes(tensor.Cast(DType::kI8));
    case DType::kU4: return NpyBytes(tensor.Cast(DType::kU8));
    default: break;
  }
  std::string descr = TypeInfo(tensor.dtype()).bits > 8 ? "<" : "|";
  for (const TypeName& type : kTypes) {
    if (type.dtype == tensor.dtype()) descr += type.code;
  }
  std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (";
  for (int64_t dim : tensor.shape()) header += std::to_string(dim) + ", ";
  header += "), }";
  // The data begins at a multiple of 64 bytes.
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::string bytes(kMagic);
  bytes += {'\x01', '\x00', static_cast<char>(header.size() & 0xFF), static_cast<char>(header.size() >> 8)};
  bytes += header;
  const std::span<const std::byte> data = tensor.bytes();
  bytes.append(reinterpret_cast<const char*>(data.data()), data.size());
  return bytes;
}

Status WriteNpy(const std::string& path, const Tensor& tensor) { return WriteFileAtomically(path, NpyBytes(tensor)); }

}  // namespace tessera
