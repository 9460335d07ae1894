// TesaFile: the user's side file of masks and precisions (--tesa=FILE), which says of a model's tensors what is pruned
// and how many bits the rest has.
//
//   {"tensors": [
//     {"name": "fc1.weight", "rows": [3, "7-12"]},                            // these are pruned; also "columns",
//     {"name": "conv.weight", "axis": 1, "indices": [0, 5]},                  // "channels" (= rows), or any axis
//     {"name": "fc2.weight", "blocks": {"shape": [32, 32], "pruned": [[0, 1], [4, 4]]}},          // or "kept"
//     {"name": "fc3.weight", "blocks": {"shape": [64, 64], "mask": [[1, 0, 1], [0, 1, 1]]}},      // 1: kept
//     {"name": "fc4.weight", "nm": {"n": 2, "m": 4, "axis": 1}},              // the n largest of each m (constants)
//     {"name": "fc4.weight", "bits": 8},
//     {"name": "conv.weight", "bits": {"axis": 0, "values": [8, 8, 4, 4]}},   // 0: pruned
//     {"name": "fc5.weight", "mask": "masks/fc5.npy"},                        // kept where it is not 0
//     {"name": "fc6.weight", "mask": "masks.safetensors", "key": "fc6"},      // without "key": the tensor's name
//     {"name": "relu_3", "mask": "relu_3.npy"}                                // an input or computed value counts as 0
//   ]}
//
// Or a .safetensors file of masks by the names of tensors, or one .npy file NAME.npy. Several entries for a tensor hold
// together: an element is pruned when any of them says so. Paths are relative to the side file. Blocks of two extents
// see a tensor of higher rank as the matrix [first extent, rest]. A mask has the tensor's rank, and its extents or 1.
// Side files are hostile input; everything that does not fit is TES-1304 and names the file, the tensor and the entry.
// Values only; thread-compatible. Tested by tesa_file_test.cc.
#ifndef TESSERA_MODELS_IMPORT_TESA_FILE_H_
#define TESSERA_MODELS_IMPORT_TESA_FILE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "tesa/attribute.h"
#include "tesa/tensor.h"
#include "tesa/types.h"

namespace tessera {

// What one entry says of one tensor; which members count depends on the kind.
struct TesaStatement {
  enum class Kind : uint8_t { kSlices, kBlocks, kNm, kBits, kBitsPerIndex, kMask };
  // Indices begin … end, both included.
  using Run = std::pair<int64_t, int64_t>;

  Kind kind = Kind::kMask;
  std::string where;                               // "entry 3", for messages
  int64_t axis = 0;                                // kSlices, kNm, kBitsPerIndex
  std::vector<Run> runs;                           // kSlices: pruned indices
  std::vector<int64_t> block;                      // kBlocks: extents of a block
  bool blocks_kept = false;                        // kBlocks: `blocks` are those that are kept
  std::vector<std::vector<int64_t>> blocks;        // kBlocks: coordinates
  std::optional<std::vector<uint8_t>> block_mask;  // kBlocks, instead of them: 1 kept, row-major
  int64_t n = 0, m = 0;                            // kNm
  std::vector<int64_t> bits;                       // kBits: one; kBitsPerIndex: one an index
  Tensor mask;                                     // kMask
};

struct TesaFile {
  std::string path;
  std::map<std::string, std::vector<TesaStatement>> tensors;  // in the order of the file
};

StatusOr<TesaFile> ReadTesaFile(const std::string& path);
// From JSON text; `path` stands in messages, and files of masks are looked for in its folder.
StatusOr<TesaFile> ParseTesaFile(std::string_view text, const std::string& path);

// What the file says of tensor `name`, which it has. `data` is that of a constant, else null.
StatusOr<Attribute> DeclaredBy(const TesaFile& file, const std::string& name, const TensorType& type,
                               const Tensor* data);

// Declares on the values of `graph` everything but what is said of tensors in `done`, which the model has and an
// importer has dealt with. Constants become 0 where they are pruned.
Status ApplyTesaFile(const TesaFile& file, Graph& graph, std::span<const std::string> done = {});

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_TESA_FILE_H_
