// What the importers of all formats hand to ImportModel, and how they use ImportOptions in the same way.
// Tested by import_test.cc.
#ifndef TESSERA_MODELS_IMPORT_IMPORTED_GRAPH_H_
#define TESSERA_MODELS_IMPORT_IMPORTED_GRAPH_H_

#include <set>
#include <string>
#include <vector>

#include "models/import/graph_writer.h"
#include "models/import/import.h"

namespace tessera {

// A graph with where its constants came from; sparsity is not annotated yet.
struct ImportedGraph {
  Graph graph;
  std::vector<ConstantOrigin> origins;  // indexed by value
  std::vector<std::string> warnings;
  std::set<std::string> constants = {};  // of the source model, by name: what ApplyConstantOptions was asked about
};

// Completes the constant `name` of the source model: gives `origin` its name and type, and applies the user's
// replacement and mask.
Status ApplyConstantOptions(const ImportOptions& options, const std::string& name, Tensor& data,
                            ConstantOrigin& origin);

// Options that name no input or constant of the model are mistakes.
Status CheckInputOptions(const ImportOptions& options, const std::vector<std::string>& inputs);
Status CheckConstantOptions(const ImportOptions& options, const std::set<std::string>& constants);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_IMPORTED_GRAPH_H_
