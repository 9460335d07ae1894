// ImportOnnx: an ONNX model (opset 9 to 21; newer ones as far as their operators are known) as a Graph.
//
// The walk: parse the protobuf; inline functions and find a handler for every node (node_list.h); make constants of
// initializers and of the inputs the user binds; give every input a static shape; call each node's handler
// (onnx_ops.def, handlers.h); declare the outputs. Shapes are inferred node by node through the ops' own inference, so
// what ONNX says of inner shapes is never trusted. Called by ImportModel (import.h), where options are described.
// Tested by onnx_importer_test.cc and node_test.cc.
#ifndef TESSERA_MODELS_IMPORT_ONNX_ONNX_IMPORTER_H_
#define TESSERA_MODELS_IMPORT_ONNX_ONNX_IMPORTER_H_

#include <string>
#include <string_view>

#include "models/import/import.h"
#include "models/import/imported_graph.h"

namespace tessera {

// `path` is for messages and names the folder of external data; it may be a bare name.
StatusOr<ImportedGraph> ImportOnnx(std::string_view bytes, const std::string& path, const ImportOptions& options);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_ONNX_ONNX_IMPORTER_H_
