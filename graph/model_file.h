// Model files (.tess): a Graph with its data, attributes, quantisation and provenance; written once, mapped ever after.
//
//   RETURN_IF_ERROR(WriteModel(graph, "mlp.tess"));
//   ASSIGN_OR_RETURN(Graph graph, ReadModel("mlp.tess"));          // constants are views into the mapped file
//
// A file is, little-endian throughout:
//
//   0    8   the magic bytes 89 'T' 'E' 'S' 'S' 0D 0A 1A
//   8    4   container version, 1          12  4  number of sections, n <= 16
//   16 24n   sections: kind (4), 0 (4), offset (8), size (8); offsets are multiples of 64; unknown kinds are skipped
//            kind 1  structure: a FlatBuffer of graph/schema/model.fbs, identifier "TESS", below 2 GiB
//            kind 2  data: tensors and large bitmaps, each at a multiple of 64 and followed by at least 64 bytes, so
//                    that whole vectors may be read at its end; beyond 2 GiB if need be
//
// Constants are stored raw and used in place, unless the writer was told otherwise: as f16, which rounds when the file
// is written and widens when it is read; or without their pruned elements. Both are expanded into memory when read.
//
// A file is hostile input: every count, offset and size is checked before use, expansion is bounded (ReadOptions), and
// the graph is verified at the end. Whatever the bytes, reading gives a graph or an error (TES-1004 truncated, 1005
// corrupt, 1006 no model file, 1007 version, 1008 limit, or what Verify found). Functions are safe to call from several
// threads. Tested by model_file_test.cc and tests/fuzz.
#ifndef TESSERA_GRAPH_MODEL_FILE_H_
#define TESSERA_GRAPH_MODEL_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

// The schema version that this code writes, and the newest that it reads.
inline constexpr int kModelSchemaVersion = 1;

// Inputs of the graph by name, and the outputs that are expected of them: a test that travels with the model.
struct TestVector {
  std::string name;
  std::vector<std::pair<std::string, Tensor>> inputs;
  std::vector<std::pair<std::string, Tensor>> outputs;
  friend bool operator==(const TestVector&, const TestVector&) = default;
};

// All that a model file holds.
struct ModelFile {
  Graph graph;
  std::vector<TestVector> tests;
};

struct WriteOptions {
  // kF16: f32 constants of rank 2 and more are rounded to f16, which halves them; one that would overflow stays f32.
  enum class Store : uint8_t { kExact, kF16 };
  Store store = Store::kExact;
  // Leave out what a constant's attribute prunes, where that saves at least a quarter.
  bool kept_only = false;
  std::string producer = "tessera";
  std::vector<TestVector> tests;
};

// Writes atomically: the file appears complete or not at all. The graph is verified first.
Status WriteModel(const Graph& graph, const std::string& path, const WriteOptions& options = {});
// The same bytes in memory; for tests and small models.
StatusOr<std::string> WriteModelToString(const Graph& graph, const WriteOptions& options = {});

struct ReadOptions {
  // Memory that a file may make us take beyond its own mapping: expanded constants, copied names, decoded attributes.
  // Default: 1 GiB and 256 bytes for each byte of the file.
  int64_t max_bytes = int64_t{1} << 30;
  int64_t max_bytes_per_file_byte = 256;
};

StatusOr<Graph> ReadModel(const std::string& path, const ReadOptions& options = {});
// Constants are views into `bytes` that keep `owner` alive, where the bytes are aligned to 64; else copies.
StatusOr<Graph> ReadModelFromMemory(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                    const ReadOptions& options = {});
// With the test vectors.
StatusOr<ModelFile> ReadModelFile(const std::string& path, const ReadOptions& options = {});
StatusOr<ModelFile> ReadModelFileFromMemory(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                            const ReadOptions& options = {});

// Do these bytes (at least 8) begin like a model file?
bool IsTessFile(std::string_view prefix);

}  // namespace tessera

#endif  // TESSERA_GRAPH_MODEL_FILE_H_
