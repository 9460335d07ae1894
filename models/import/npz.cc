#include "models/import/npz.h"

#include <zlib.h>

#include <algorithm>
#include <optional>

#include "base/file.h"
#include "models/import/npy.h"

namespace tessera {
namespace {

// Signatures and sizes of PKWARE's APPNOTE.TXT 6.3, sections 4.3.7, 4.3.12 and 4.3.16. All numbers are little-endian.
constexpr uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEndOfDirectory = 0x06054b50;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22;
constexpr size_t kMaxComment = 65535;
constexpr size_t kMaxEntries = 4096;

struct Entry {
  std::string name;
  uint16_t flags = 0, method = 0;
  uint32_t crc = 0;
  uint64_t packed = 0, unpacked = 0, offset = 0;
};

class Archive {
 public:
  Archive(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  StatusOr<std::vector<Entry>> ReadDirectory() const {
    const std::optional<size_t> end = FindEnd();
    if (!end) return Corrupt("no end of a zip file's directory");
    const uint64_t count = U16(*end + 10), size = U32(*end + 12), start = U32(*end + 16);
    if (count > kMaxEntries) return Corrupt("a directory of ", count, " entries");
    if (start + size > *end) return Corrupt("a directory beyond the file's end");
    std::vector<Entry> entries;
    size_t at = start;
    for (uint64_t k = 0; k < count; ++k) {
      if (at + kCentralBytes > *end || U32(at) != kCentralHeader) return Corrupt("entry ", k, " of its directory");
      Entry entry;
      entry.flags = U16(at + 8);
      entry.method = U16(at + 10);
      entry.crc = U32(at + 16);
      entry.packed = U32(at + 20);
      entry.unpacked = U32(at + 24);
      entry.offset = U32(at + 42);
      const size_t name_size = U16(at + 28), more = size_t{U16(at + 30)} + U16(at + 32);
      if (at + kCentralBytes + name_size + more > *end) return Corrupt("the name of entry ", k);
      entry.name = std::string(bytes_.substr(at + kCentralBytes, name_size));
      at += kCentralBytes + name_size + more;
      if (entry.packed == UINT32_MAX || entry.unpacked == UINT32_MAX || entry.offset == UINT32_MAX) {
        return Error(ErrorCode::kLimitExceeded, name_, ": '", entry.name, "' is above 4 GiB");
      }
      entries.push_back(std::move(entry));
    }
    return entries;
  }

  StatusOr<std::string> Unpack(const Entry& entry) const {
    if (entry.flags & 1) return Corrupt("'", entry.name, "' is encrypted");
    if (entry.offset + kLocalBytes > bytes_.size() || U32(entry.offset) != kLocalHeader) {
      return Corrupt("'", entry.name, "' has no header where the directory says");
    }
    const uint64_t start = entry.offset + kLocalBytes + U16(entry.offset + 26) + U16(entry.offset + 28);
    if (start > bytes_.size() || entry.packed > bytes_.size() - start) {
      return Corrupt("'", entry.name, "' goes beyond the file's end");
    }
    const std::string_view packed = bytes_.substr(start, entry.packed);
    std::string text;
    if (entry.method == 0) {
      text = std::string(packed);
    } else if (entry.method == 8) {
      if (!Inflate(packed, entry.unpacked, text)) return Corrupt("the data of '", entry.name, "' do not unpack");
    } else {
      return Corrupt("'", entry.name, "' is packed by method ", entry.method, "; stored (0) and deflated (8) are read");
    }
    const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(text.data()), text.size());
    if (text.size() != entry.unpacked || crc != entry.crc) return Corrupt("the checksum of '", entry.name, "'");
    return text;
  }

 private:
  template <typename... Pieces>
  Status Corrupt(const Pieces&... pieces) const {
    return Error(ErrorCode::kFileCorrupt, name_, ": not a sound .npz archive: ", pieces...);
  }
  uint8_t Byte(size_t at) const { return static_cast<uint8_t>(bytes_[at]); }
  uint16_t U16(size_t at) const { return static_cast<uint16_t>(Byte(at) | Byte(at + 1) << 8); }
  uint32_t U32(size_t at) const { return U16(at) | static_cast<uint32_t>(U16(at + 2)) << 16; }

  // The record that ends the file, perhaps before a comment.
  std::optional<size_t> FindEnd() const {
    if (bytes_.size() < kEndBytes) return std::nullopt;
    const size_t last = bytes_.size() - kEndBytes;
    for (size_t at = last + 1; at-- > 0 && last - at <= kMaxComment;) {
      if (U32(at) == kEndOfDirectory) return at;
    }
    return std::nullopt;
  }

  // Raw deflate. Memory grows with what really comes out, not with what a header promises.
  static bool Inflate(std::string_view packed, uint64_t unpacked, std::string& text) {
    z_stream stream = {};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return false;
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    std::string chunk(1 << 16, '\0');
    int result = Z_OK;
    while (result == Z_OK && text.size() <= unpacked) {
      stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
      stream.avail_out = static_cast<uInt>(chunk.size());
      result = inflate(&stream, Z_NO_FLUSH);
      text.append(chunk, 0, chunk.size() - stream.avail_out);
    }
    inflateEnd(&stream);
    return result == Z_STREAM_END;
  }

  std::string_view bytes_;
  const std::string& name_;
};

}  // namespace

StatusOr<std::map<std::string, Tensor>> ParseNpz(std::string_view bytes, const std::string& name, uint64_t max_bytes) {
  const Archive archive(bytes, name);
  ASSIGN_OR_RETURN(const std::vector<Entry> entries, archive.ReadDirectory());
  uint64_t total = 0;
  std::map<std::string, Tensor> arrays;
  for (const Entry& entry : entries) {
    total += entry.unpacked;
    if (total > max_bytes)
      return Error(ErrorCode::kLimitExceeded, name, ": unpacks to more than ", max_bytes, " bytes");
    ASSIGN_OR_RETURN(const std::string text, archive.Unpack(entry));
    constexpr std::string_view kSuffix = ".npy";
    std::string array = entry.name;
    if (array.size() > kSuffix.size() && array.substr(array.size() - kSuffix.size()) == kSuffix) {
      array.resize(array.size() - kSuffix.size());
    }
    ASSIGN_OR_RETURN(Tensor tensor, ParseNpy(text, name + "/" + entry.name));
    if (!arrays.emplace(array, std::move(tensor)).second) {
      return Error(ErrorCode::kFileCorrupt, name, ": two arrays are called '", array, "'");
    }
  }
  return arrays;
}

StatusOr<std::map<std::string, Tensor>> ReadNpz(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  return ParseNpz(bytes, path);
}

}  // namespace tessera
