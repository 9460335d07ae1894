// Bundles: one file with a network's programs for several targets, of which a machine takes the one that it can run.
//
//   RETURN_IF_ERROR(WriteBundle(programs, "bert.tessx"));                 // compiled for host, cuda:sm_90a, hip:gfx942
//   ASSIGN_OR_RETURN(const ProgramBundle bundle, ProgramBundle::Open("bert.tessx"));
//   bundle.entries()[1].target == "cuda:sm_90a";
//   ASSIGN_OR_RETURN(Program program, bundle.Read(1));                    // images are views into the mapped file
//
// Constants that several programs have, to the byte, stand in the file once: weights in a format that several chips
// read. A file is, little-endian throughout:
//
//   0   8  the magic bytes 89 'T' 'E' 'S' 'B' 0D 0A 1A
//   8   4  version of the format, 2        12  4  number of programs, 1 to 64
//   16 16  XXH3-128 of what stands up to the first piece
//   32     the programs, 80 bytes each: where it begins, its bytes, the number of pieces that its constants are made
//   of,
//          0 (8 each), its target (48, zeros behind it)
//          then for each program its pieces in order, 32 bytes each: where it lies, its bytes (8 each), its XXH3-128
//          then the pieces, and programs as program_file.h has them, without constants, each at a multiple of 64
//
// No program names a piece twice, so that its constants are never larger than the file. Bytes are hostile, as there.
// Safe to share between threads. Tested by program_bundle_test.cc.
#ifndef TESSERA_RUNTIME_PROGRAM_BUNDLE_H_
#define TESSERA_RUNTIME_PROGRAM_BUNDLE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/status.h"
#include "runtime/program.h"

namespace tessera {

// Replaces `path`, or leaves what was there untouched. TES-2001 for two programs of one target, or none, or more than a
// file holds.
Status WriteBundle(std::span<const std::shared_ptr<const Program>> programs, const std::string& path);

class ProgramBundle {
 public:
  // Of the constants: where they lie in the file.
  struct Piece {
    uint64_t begin = 0, bytes = 0;
    Hash128 hash;
  };
  struct Entry {
    std::string target;
    uint64_t begin = 0, bytes = 0;
    std::vector<Piece> pieces;
  };

  static StatusOr<ProgramBundle> Open(const std::string& path);

  // In the order in which they were written.
  const std::vector<Entry>& entries() const { return entries_; }
  StatusOr<Program> Read(size_t entry) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  std::string path_;
  std::vector<Entry> entries_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_PROGRAM_BUNDLE_H_
