// ImportTflite: a TFLite model (FlatBuffer version 3, its first subgraph) as a Graph.
//
// The walk: verify the FlatBuffer; find a handler for every operator (tflite_ops.def), reporting all that have none at
// once; read the tensors, sparse ones with their mask; call each operator's handler; quantise results whose tensors are
// quantised. The layout stays channels last. Called by ImportModel (import.h), where options are described.
// Tested by tflite_importer_test.cc.
#ifndef TESSERA_MODELS_IMPORT_TFLITE_TFLITE_IMPORTER_H_
#define TESSERA_MODELS_IMPORT_TFLITE_TFLITE_IMPORTER_H_

#include <string_view>

#include "models/import/import.h"
#include "models/import/imported_graph.h"

namespace tessera {

StatusOr<ImportedGraph> ImportTflite(std::string_view bytes, const ImportOptions& options);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_TFLITE_TFLITE_IMPORTER_H_
