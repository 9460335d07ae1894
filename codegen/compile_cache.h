// CompileCache: what earlier compilations left in a folder for the next process.
//
//   FOLDER/<key>.program         a whole program with its constants, but for its code; key: the network with its
//                                weights, the target, the options
//   FOLDER/<key>-0of2.o          kernels; key: all that their code depends on, which weights' values are no part of
//
// A network that was compiled before is there whole, and nothing is decided again. One of the same masks but other
// weights is planned anew and finds its code. Files are distrusted: each carries a hash, one that does not match or
// cannot be read is as good as absent and is written again. A cache that cannot be written costs time at the next
// start, nothing else. Any number of processes may share a folder. Thread-safe. Tested by compile_cache_test.cc and
// compile_test.cc.
#ifndef TESSERA_CODEGEN_COMPILE_CACHE_H_
#define TESSERA_CODEGEN_COMPILE_CACHE_H_

#include <optional>
#include <string>

#include "base/hash.h"
#include "graph/graph.h"
#include "runtime/program.h"

namespace tessera {

// Changes whenever the code generator does: the file that holds it, by size, time of change and place.
std::string GeneratorIdentity();

// Of all that a graph says but its metadata: structure, names, types, attributes, the bytes of constants. Reads every
// constant, on up to `threads` threads (0: as many as the machine has).
Hash128 HashGraph(const Graph& graph, int threads);

class CompileCache {
 public:
  // An empty folder keeps nothing.
  explicit CompileCache(std::string folder) : folder_(std::move(folder)) {}

  bool keeps() const { return !folder_.empty(); }
  // A view of the mapped file.
  std::optional<ProgramImage> FindObject(const std::string& key) const;
  void StoreObject(const std::string& key, const ProgramImage& object) const;
  // Without images.
  std::optional<Program> FindProgram(const std::string& key) const;
  // Under program.key.
  void StoreProgram(const Program& program) const;

 private:
  std::string PathOf(const std::string& key, const char* ending) const { return folder_ + "/" + key + ending; }

  std::string folder_;
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_COMPILE_CACHE_H_
