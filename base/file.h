// Files: read whole, mapped read-only, or written so that a reader never meets half of one.
//
//   ASSIGN_OR_RETURN(std::string text, ReadFile("mask.json"));
//   ASSIGN_OR_RETURN(MappedFile model, MappedFile::Open("bert.tess"));   // model.bytes() stays valid while model lives
//   RETURN_IF_ERROR(WriteFileAtomically("out.json", json));
//
// Every error names the path and the reason: TES-1001 not found, TES-1002 a folder, a device or no permission, TES-1003
// not writable, TES-1008 larger than the caller's limit. Only regular files are read: a pipe could block forever and a
// device could never end.  Tested by file_test.cc.
#ifndef TESSERA_BASE_FILE_H_
#define TESSERA_BASE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace tessera {

// What ReadFile takes when the caller does not say: more than any text or importable model, less than a machine's
// memory.
inline constexpr uint64_t kMaxReadFileBytes = uint64_t{4} << 30;
// What MappedFile takes when the caller does not say. Mapping costs address space, not memory.
inline constexpr uint64_t kMaxMappedFileBytes = uint64_t{1} << 40;

// The whole file in memory. Also reads files whose size is not known beforehand, such as those of /proc.
StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes = kMaxReadFileBytes);

// Replaces `path` by a file with these bytes, or leaves what was there untouched: see AtomicFile.
Status WriteFileAtomically(const std::string& path, std::string_view bytes);

// A file that appears under its name only when it is complete and on disk: the bytes go to a temporary file in the same
// folder, which Commit() flushes and renames. Destroyed without Commit(), it removes the temporary file.
// A link is followed, so that what it points to is replaced; an existing file keeps its permissions. A pipe or device
// (/dev/stdout, /dev/null) cannot be renamed over, so bytes go straight to it. Movable; one thread at a time.
class AtomicFile {
 public:
  static StatusOr<AtomicFile> Create(const std::string& path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();

  // Adds bytes at the end. After an error the file can only be destroyed.
  Status Append(std::string_view bytes);
  Status Append(std::span<const std::byte> bytes);
  // Bytes appended so far.
  uint64_t size() const { return size_; }
  // Makes the file visible. Call once, last.
  Status Commit();

 private:
  AtomicFile() = default;
  void Discard();

  int descriptor_ = -1;
  std::string path_;       // as the caller named it, for messages
  std::string target_;     // links resolved
  std::string temporary_;  // empty when written straight to a device
  uint64_t size_ = 0;
};

// A read-only view of a file's bytes, paged in as they are touched. The mapping starts on a page boundary, so an offset
// in the file that is 64-byte aligned is 64-byte aligned in memory. The view is private to us, but a process that
// *truncates* the file under us makes later reads fault (SIGBUS): replace files by rename, as WriteFileAtomically does.
// Movable; reading from several threads is safe.
class MappedFile {
 public:
  static StatusOr<MappedFile> Open(const std::string& path, uint64_t max_bytes = kMaxMappedFileBytes);

  MappedFile() = default;  // empty, no path
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::string& path() const { return path_; }

 private:
  const std::byte* data_ = nullptr;  // null when empty: a file of no bytes cannot be mapped
  size_t size_ = 0;
  std::string path_;
};

}  // namespace tessera

#endif  // TESSERA_BASE_FILE_H_
