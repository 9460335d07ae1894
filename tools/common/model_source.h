// OpenModel: every way in which a user can name a model, as a graph.
//
//   ASSIGN_OR_RETURN(OpenedModel model, OpenModel("mobilenet.onnx", {.batch = 8}));
//   ASSIGN_OR_RETURN(model, OpenModel("zoo:bert_base:layers=2,seq=64", {}));
//
// A path to an ONNX, TFLite or Tessera file (recognised by content), to a graph in its text form, or `zoo:NAME`: a
// network of the catalog with seeded weights and perhaps parameters; a trained network of models/zoo; or a fetched one,
// $TESSERA_CACHE/models/NAME.{tess,onnx,tflite}. Nothing is written. Thread-safe. Tested by model_source_test.cc.
#ifndef TESSERA_TOOLS_COMMON_MODEL_SOURCE_H_
#define TESSERA_TOOLS_COMMON_MODEL_SOURCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "graph/model_file.h"
#include "models/import/import.h"

namespace tessera {

struct ModelOptions {
  // Of every input whose first extent is 1 otherwise; 0: as the model says.
  int64_t batch = 0;
  // Of the catalog's weights.
  uint64_t seed = 1;
  // For files that are imported.
  ImportOptions import = {};
};

struct OpenedModel {
  std::string name;    // short, for rows: "mobilenet_v1", "fashion_mlp"
  std::string source;  // what was opened: a path, "zoo:…"
  std::string hash;    // 32 hexadecimal digits, of the file's bytes or of what makes a catalog network
  Graph graph;
  std::vector<TestVector> tests;      // that travel in a .tess file
  std::vector<TensorReport> tensors;  // of an imported file
  std::vector<std::string> warnings;
};

StatusOr<OpenedModel> OpenModel(const std::string& spec, const ModelOptions& options = {});

// One row of `zoo:`.
struct ZooEntry {
  std::string name, kind, doc;
};
std::vector<ZooEntry> ListZoo();
// "zoo:" asks for the list.
inline bool AsksForZoo(const std::string& spec) { return spec == "zoo:" || spec == "zoo:list"; }
std::string ZooText();

// ${TESSERA_CACHE}, else ${XDG_CACHE_HOME}/tessera, else ~/.cache/tessera.
std::string CacheFolder();

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_MODEL_SOURCE_H_
