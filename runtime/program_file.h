// Program files: a compiled Program as bytes, to be run by another process without compiling again.
//
//   RETURN_IF_ERROR(WriteProgram(program, path));
//   ASSIGN_OR_RETURN(Program program, ReadProgram(path));        // images are views into the mapped file
//
// A file is, little-endian throughout:
//
//   0   8  the magic bytes 89 'T' 'E' 'S' 'X' 0D 0A 1A
//   8   4  version of the format, 2        12  4  0
//   16 16  XXH3-128 of all that follows    32  8  bytes of the structure
//   40     the structure: the fields of Program in the order of program_file.cc, each number 8 bytes, each text and
//          list with its length before it; and the sizes of the sections
//          then the sections, each at a multiple of 64: the constants, and one for each image
//
// A program without images is written without; its reader knows where they are. Bytes are hostile: whatever they hold,
// the result is a program that verifies or an error (TES-1004 to 1008, 1203); what its kernels do when they run is
// another matter, so programs are read from where only their user writes. Safe to call from several threads. Tested by
// program_file_test.cc, also with every byte of a file damaged in turn.
#ifndef TESSERA_RUNTIME_PROGRAM_FILE_H_
#define TESSERA_RUNTIME_PROGRAM_FILE_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/host_memory.h"
#include "runtime/program.h"

namespace tessera {

// Replaces `path`, or leaves what was there untouched.
Status WriteProgram(const Program& program, const std::string& path);
// Constants are copied to memory of their own, on huge pages where there are many; images are not.
StatusOr<Program> ReadProgram(const std::string& path);

// The same as parts of other files (program_bundle.h). What a file has of a program, in pieces one behind the other,
// which lie in the program and in this; both outlive them.
class ProgramBytes {
 public:
  // Without its constants, where they lie elsewhere in the file.
  explicit ProgramBytes(const Program& program, bool with_constants = true);
  ProgramBytes(const ProgramBytes&) = delete;
  ProgramBytes& operator=(const ProgramBytes&) = delete;

  const std::vector<std::span<const std::byte>>& pieces() const { return pieces_; }
  size_t size() const { return size_; }

 private:
  std::string start_;  // header and structure
  std::vector<std::span<const std::byte>> pieces_;
  size_t size_ = 0;
};
// `bytes` begin at a multiple of 64 and stay where they are while `owner` lives; `path` is for messages. `constants`
// are those of a program that was written without.
StatusOr<Program> ReadProgramBytes(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                                   const std::string& path, std::shared_ptr<const HostMemory> constants = nullptr);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_PROGRAM_FILE_H_
