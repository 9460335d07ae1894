#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <utility>

namespace tessera {
namespace {

// strerror_r in its GNU form: never fails, safe among threads.
std::string Reason(int error_number) {
  char buffer[128];
  return strerror_r(error_number, buffer, sizeof(buffer));
}

ErrorCode ReadErrorCode(int error_number) {
  return error_number == ENOENT || error_number == ENOTDIR ? ErrorCode::kFileNotFound : ErrorCode::kFileUnreadable;
}

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (value_ >= 0) close(value_);
  }
  int get() const { return value_; }

 private:
  int value_;
};

struct OpenedFile {
  Descriptor descriptor;
  uint64_t size;
};

StatusOr<OpenedFile> OpenForReading(const std::string& path, uint64_t max_bytes) {
  // A path with a zero byte inside would silently name another file.
  if (path.find('\0') != std::string::npos) {
    return Error(ErrorCode::kFileNotFound, "cannot open a path that contains a zero byte");
  }
  // O_NONBLOCK: opening a pipe without a writer must not hang; it means nothing for regular files.
  int descriptor = -1;
  do {
    descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) {
    const int error_number = errno;
    return Error(ReadErrorCode(error_number), "cannot open '", path, "': ", Reason(error_number));
  }
  Descriptor owned(descriptor);
  struct stat info;
  if (fstat(descriptor, &info) != 0) {
    return Error(ErrorCode::kFileUnreadable, "cannot examine '", path, "': ", Reason(errno));
  }
  if (S_ISDIR(info.st_mode)) {
    return Error(ErrorCode::kFileUnreadable, "cannot read '", path, "': it is a folder; name a file in it");
  }
  if (!S_ISREG(info.st_mode)) {
    return Error(ErrorCode::kFileUnreadable, "cannot read '", path,
                 "': it is a device, pipe or socket; store its bytes in a regular file first");
  }
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  if (size > max_bytes) {
    return Error(ErrorCode::kLimitExceeded, "cannot read '", path, "': it has ", size, " bytes, the limit is ",
                 max_bytes);
  }
  return OpenedFile{std::move(owned), size};
}

// Folder part of a path: "a/b" -> "a", "b" -> ".", "/b" -> "/".
std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status WriteError(const std::string& path, const std::string& what, int error_number) {
  return Error(ErrorCode::kFileUnwritable, "cannot write '", path, "': ", what, Reason(error_number));
}

}  // namespace

StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes) {
  ASSIGN_OR_RETURN(OpenedFile file, OpenForReading(path, max_bytes));
  std::string content;
  // One byte more than the size says: then a file that did not grow ends with a read of 0 bytes without another resize.
  uint64_t capacity = file.size < 4096 ? 4096 : file.size + 1;
  size_t filled = 0;
  while (true) {
    if (filled == content.size()) {
      if (filled > 0) capacity = content.size() + content.size() / 2;
      if (capacity > max_bytes) capacity = max_bytes + 1;  // room to see that there is more than is allowed
      content.resize(capacity);
    }
    const ssize_t count = read(file.descriptor.get(), content.data() + filled, content.size() - filled);
    if (count < 0) {
      if (errno == EINTR) continue;
      return Error(ErrorCode::kFileUnreadable, "cannot read '", path, "': ", Reason(errno));
    }
    if (count == 0) break;
    filled += static_cast<size_t>(count);
    if (filled > max_bytes) {
      return Error(ErrorCode::kLimitExceeded, "cannot read '", path, "': it has more than ", max_bytes,
                   " bytes, which is the limit");
    }
  }
  content.resize(filled);
  return content;
}

Status WriteFileAtomically(const std::string& path, std::string_view bytes) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Append(bytes));
  return file.Commit();
}

StatusOr<AtomicFile> AtomicFile::Create(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos) {
    return Error(ErrorCode::kFileUnwritable, "cannot write to a path that is empty or contains a zero byte");
  }
  AtomicFile file;
  file.path_ = path;
  file.target_ = path;
  mode_t mode = 0666;  // less the umask, as for any new file
  bool keep_mode = false;
  if (char* resolved = realpath(path.c_str(), nullptr)) {
    file.target_ = resolved;
    free(resolved);
    struct stat info;
    if (stat(file.target_.c_str(), &info) != 0) return WriteError(path, "", errno);
    if (S_ISDIR(info.st_mode)) return Error(ErrorCode::kFileUnwritable, "cannot write '", path, "': it is a folder");
    if (!S_ISREG(info.st_mode)) {
      file.descriptor_ = open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
      if (file.descriptor_ < 0) return WriteError(path, "", errno);
      return file;
    }
    // Renaming needs only the folder's permission; a file that its owner made read-only is still not ours to replace.
    if (access(file.target_.c_str(), W_OK) != 0) return WriteError(path, "", errno);
    mode = info.st_mode & 07777;
    keep_mode = true;
  }
  static std::atomic<uint64_t> counter{0};
  for (int attempt = 0; attempt < 100; ++attempt) {
    file.temporary_ = file.target_ + ".tmp-" + std::to_string(getpid()) + "-" + std::to_string(counter++);
    file.descriptor_ = open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (file.descriptor_ >= 0 || errno != EEXIST) break;  // left over by a process of our id that was killed: next name
  }
  if (file.descriptor_ < 0) {
    const int error_number = errno;
    file.temporary_.clear();
    if (error_number == ENOENT) {
      return Error(ErrorCode::kFileUnwritable, "cannot write '", path, "': the folder '", FolderOf(file.target_),
                   "' does not exist");
    }
    return WriteError(path, "", error_number);
  }
  if (keep_mode && fchmod(file.descriptor_, mode) != 0) return WriteError(path, "its permissions: ", errno);
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept { *this = std::move(other); }

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  if (this == &other) return *this;
  Discard();
  descriptor_ = std::exchange(other.descriptor_, -1);
  path_ = std::move(other.path_);
  target_ = std::move(other.target_);
  temporary_ = std::move(other.temporary_);
  other.temporary_.clear();
  size_ = other.size_;
  return *this;
}

AtomicFile::~AtomicFile() { Discard(); }

void AtomicFile::Discard() {
  if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
  if (!temporary_.empty()) unlink(temporary_.c_str());
  temporary_.clear();
}

Status AtomicFile::Append(std::string_view bytes) {
  TES_CHECK(descriptor_ >= 0, "append to '", path_, "' after Commit or an error");
  while (!bytes.empty()) {
    const ssize_t count = write(descriptor_, bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      const int error_number = errno;
      Discard();
      return WriteError(path_, "", error_number);
    }
    bytes.remove_prefix(static_cast<size_t>(count));
    size_ += static_cast<uint64_t>(count);
  }
  return OkStatus();
}

Status AtomicFile::Append(std::span<const std::byte> bytes) {
  return Append(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

Status AtomicFile::Commit() {
  TES_CHECK(descriptor_ >= 0, "second Commit, or Commit after an error, of '", path_, "'");
  // Without the flush a power failure can leave the new name with none of the bytes. A device has nothing to flush.
  if (!temporary_.empty() && fsync(descriptor_) != 0) {
    const int error_number = errno;
    Discard();
    return WriteError(path_, "", error_number);
  }
  if (close(std::exchange(descriptor_, -1)) != 0) {
    const int error_number = errno;
    Discard();
    return WriteError(path_, "", error_number);
  }
  if (temporary_.empty()) return OkStatus();
  if (rename(temporary_.c_str(), target_.c_str()) != 0) {
    const int error_number = errno;
    Discard();
    return WriteError(path_, "", error_number);
  }
  temporary_.clear();
  return OkStatus();
}

StatusOr<MappedFile> MappedFile::Open(const std::string& path, uint64_t max_bytes) {
  ASSIGN_OR_RETURN(OpenedFile file, OpenForReading(path, max_bytes));
  MappedFile mapped;
  mapped.path_ = path;
  if (file.size == 0) return mapped;
  void* address = mmap(nullptr, file.size, PROT_READ, MAP_PRIVATE, file.descriptor.get(), 0);
  if (address == MAP_FAILED) {
    const int error_number = errno;
    return Error(error_number == ENOMEM ? ErrorCode::kOutOfMemory : ErrorCode::kFileUnreadable, "cannot map the ",
                 file.size, " bytes of '", path, "': ", Reason(error_number));
  }
  mapped.data_ = static_cast<const std::byte*>(address);
  mapped.size_ = file.size;
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this == &other) return *this;
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  path_ = std::move(other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace tessera
