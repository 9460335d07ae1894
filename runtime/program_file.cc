#include "runtime/program_file.h"

#include <bit>
#include <cstddef>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/file.h"
#include "base/hash.h"

namespace tessera {
namespace {

static_assert(std::endian::native == std::endian::little);  // fields are copied as they lie in memory

constexpr std::string_view kMagic = "\x89TESX\r\n\x1a";
constexpr uint32_t kVersion = 2;
constexpr size_t kAlignment = 64;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t reserved;
  Hash128 hash;  // of everything from structure_bytes on
  uint64_t structure_bytes;
};
static_assert(sizeof(Header) == 40);
constexpr size_t kHashed = 32;  // where what is hashed begins

size_t AlignUp(size_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; }

// The one list of fields, for both directions: `io` writes each, or reads it into its place.

template <typename Io>
void Fields(Io& io, ProgramBuffer& buffer) {
  io(buffer.name), io(buffer.kind, BufferClass::kTemp), io(buffer.bytes), io(buffer.offset);
}

template <typename Io>
void Fields(Io& io, StepArg& arg) {
  io(arg.buffer), io(arg.writes), io(arg.offset);
}

template <typename Io>
void Fields(Io& io, Launch& launch) {
  io(launch.x), io(launch.y), io(launch.z), io(launch.threads), io(launch.shared_bytes), io(launch.overlap);
}

// A type by its name, which later versions of dtypes.def keep.
template <typename Io>
void Fields(Io& io, DType& type) {
  std::string name(Name(type));
  io(name);
  const std::optional<DType> known = ParseDType(name);
  if (!known) return io.Fail();
  type = *known;
}

template <typename Io>
void Fields(Io& io, TensorMap& map) {
  io(map.arg), Fields(io, map.type), io(map.dims), io(map.strides), io(map.box), io(map.swizzle);
}

template <typename Io>
void Fields(Io& io, Step& step) {
  io(step.kernel), io(step.args), io(step.tasks), io(step.launch), io(step.tensor_maps), io(step.serial);
  io(step.label), io(step.flops), io(step.bytes);
}

template <typename Io>
void Fields(Io& io, ProgramPort& port) {
  DType dtype = port.type.dtype;
  std::vector<int64_t> dims = port.type.shape.dims();
  io(port.name), Fields(io, dtype), io(dims), io(port.buffer);
  port.type = {dtype, Shape(std::move(dims))};
}

template <typename Io>
void Fields(Io& io, MemoryReport& memory) {
  io(memory.arena_bytes), io(memory.max_live_bytes), io(memory.naive_bytes), io(memory.constant_bytes);
  io(memory.scratch_bytes);
}

// `sections`: bytes of the constants, then of each image.
template <typename Io>
void Fields(Io& io, Program& program, std::vector<int64_t>& sections) {
  io(program.name), io(program.target), io(program.required_features), io(program.buffers), io(program.kernels);
  io(program.steps), io(program.inputs), io(program.outputs), io(program.memory);
  io(program.key), io(program.code_key), io(program.decisions), io(sections);
}

class Writer {
 public:
  template <typename T>
    requires(std::is_integral_v<T> || std::is_enum_v<T>)
  void operator()(T value, T = {}) {
    Word(static_cast<int64_t>(value));
  }
  void operator()(double value) { Word(std::bit_cast<int64_t>(value)); }
  void operator()(std::string& text) {
    Word(static_cast<int64_t>(text.size()));
    bytes_ += text;
  }
  template <typename T>
  void operator()(std::vector<T>& list) {
    Word(static_cast<int64_t>(list.size()));
    for (T& item : list) (*this)(item);
  }
  template <typename T>
    requires(std::is_class_v<T>)
  void operator()(T& record) {
    Fields(*this, record);
  }
  void Fail() {}

  const std::string& bytes() const { return bytes_; }

 private:
  void Word(int64_t value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value)); }

  std::string bytes_;
};

// After the first field that is not there, or holds what its type cannot, everything reads as 0 and ok() is false.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : left_(bytes) {}

  template <typename T>
    requires(std::is_integral_v<T>)
  void operator()(T& value) {
    const int64_t word = Word();
    if (word < static_cast<int64_t>(std::numeric_limits<T>::min()) ||
        word > static_cast<int64_t>(std::numeric_limits<T>::max())) {
      return Fail();
    }
    value = static_cast<T>(word);
  }
  template <typename T>
    requires(std::is_enum_v<T>)
  void operator()(T& value, T last) {
    const int64_t word = Word();
    if (word < 0 || word > static_cast<int64_t>(last)) return Fail();
    value = static_cast<T>(word);
  }
  void operator()(double& value) { value = std::bit_cast<double>(Word()); }
  void operator()(std::string& text) {
    const size_t size = Count(1);
    text = left_.substr(0, size);
    left_.remove_prefix(size);
  }
  template <typename T>
  void operator()(std::vector<T>& list) {
    const size_t count = Count(sizeof(int64_t));  // an item takes a word at least
    // One by one: a list that lies about its length takes no more memory than its bytes allow.
    for (size_t k = 0; k < count && ok_; ++k) (*this)(list.emplace_back());
  }
  template <typename T>
    requires(std::is_class_v<T>)
  void operator()(T& record) {
    Fields(*this, record);
  }
  void Fail() {
    ok_ = false;
    left_ = {};
  }

  bool ok() const { return ok_ && left_.empty(); }

 private:
  int64_t Word() {
    int64_t value = 0;
    if (left_.size() < sizeof(value)) {
      Fail();
      return 0;
    }
    std::memcpy(&value, left_.data(), sizeof(value));
    left_.remove_prefix(sizeof(value));
    return value;
  }
  size_t Count(size_t bytes_each) {
    const int64_t count = Word();
    if (count >= 0 && static_cast<uint64_t>(count) <= left_.size() / bytes_each) return static_cast<size_t>(count);
    Fail();
    return 0;
  }

  std::string_view left_;
  bool ok_ = true;
};

}  // namespace

ProgramBytes::ProgramBytes(const Program& program, bool with_constants) {
  std::vector<std::span<const std::byte>> sections(1);
  if (with_constants) sections[0] = program.constants;
  for (const ProgramImage& image : program.images) sections.push_back(image.bytes);
  std::vector<int64_t> sizes;
  for (std::span<const std::byte> section : sections) sizes.push_back(static_cast<int64_t>(section.size()));
  Writer writer;
  Program fields = program;
  Fields(writer, fields, sizes);

  Header header = {.version = kVersion, .reserved = 0, .hash = {}, .structure_bytes = writer.bytes().size()};
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  start_.append(reinterpret_cast<const char*>(&header), sizeof(header)).append(writer.bytes());
  static constexpr std::byte kZeros[kAlignment] = {};
  const auto start = std::as_bytes(std::span(start_));
  pieces_ = {start};
  size_ = start.size();
  for (std::span<const std::byte> section : sections) {
    pieces_.push_back(std::span(kZeros).first(AlignUp(size_) - size_));
    pieces_.push_back(section);
    size_ = AlignUp(size_) + section.size();
  }
  Hasher hasher;
  hasher.AddBytes(start.subspan(kHashed));
  for (size_t k = 1; k < pieces_.size(); ++k) hasher.AddBytes(pieces_[k]);
  const Hash128 hash = hasher.Finish();
  std::memcpy(start_.data() + offsetof(Header, hash), &hash, sizeof(hash));
}

Status WriteProgram(const Program& program, const std::string& path) {
  const ProgramBytes bytes(program);
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  for (std::span<const std::byte> piece : bytes.pieces()) RETURN_IF_ERROR(file.Append(piece));
  return file.Commit();
}

StatusOr<Program> ReadProgram(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile opened, MappedFile::Open(path));
  const auto file = std::make_shared<const MappedFile>(std::move(opened));
  return ReadProgramBytes(file->bytes(), file, path);
}

StatusOr<Program> ReadProgramBytes(std::span<const std::byte> all, const std::shared_ptr<const void>& owner,
                                   const std::string& path, std::shared_ptr<const HostMemory> constants) {
  const std::string_view bytes(reinterpret_cast<const char*>(all.data()), all.size());
  const auto corrupt = [&](std::string_view what) {
    return Error(ErrorCode::kFileCorrupt, "program file '", path, "': ", what);
  };
  Header header;
  if (bytes.substr(0, kMagic.size()) != kMagic) {
    return Error(ErrorCode::kFormatUnknown, "'", path, "' is not a program file");
  }
  if (bytes.size() < sizeof(header)) {
    return Error(ErrorCode::kFileTruncated, "program file '", path, "' ends within its header");
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.version != kVersion) {
    return Error(ErrorCode::kVersionUnsupported, "program file '", path, "': expected version ", kVersion, ", found ",
                 header.version, "; compile the model again");
  }
  if (header.reserved != 0) return corrupt("its header is not one that was written");
  if (HashBytes(bytes.substr(kHashed)) != header.hash) return corrupt("its bytes are not those that were written");
  if (header.structure_bytes > bytes.size() - sizeof(header)) return corrupt("its structure runs over the end");

  Program program;
  std::vector<int64_t> sizes;
  Reader reader(bytes.substr(sizeof(header), header.structure_bytes));
  Fields(reader, program, sizes);
  if (!reader.ok() || sizes.empty()) return corrupt("its structure is not one of a program");
  size_t end = sizeof(header) + header.structure_bytes;
  for (size_t k = 0; k < sizes.size(); ++k) {
    const size_t begin = AlignUp(end);
    if (begin > bytes.size() || sizes[k] < 0 || static_cast<uint64_t>(sizes[k]) > bytes.size() - begin) {
      return corrupt("a section runs over the end");
    }
    const std::span<const std::byte> section = all.subspan(begin, static_cast<size_t>(sizes[k]));
    end = begin + section.size();
    if (k > 0) {
      program.images.push_back({section, owner});
      continue;
    }
    if (constants == nullptr) {
      ASSIGN_OR_RETURN(HostMemory memory, HostMemory::Allocate(sizes[k], "constants"));
      constants = std::make_shared<const HostMemory>(std::move(memory));
      if (!section.empty()) std::memcpy(constants->data(), section.data(), section.size());
    } else if (!section.empty()) {
      return corrupt("it has constants twice");
    }
    program.constants = constants->bytes();
    program.constants_owner = constants;
  }
  RETURN_IF_ERROR(program.Verify());
  return program;
}

}  // namespace tessera
