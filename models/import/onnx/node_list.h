// PlanNodes: the nodes of an ONNX model as they will be imported: calls of the model's own functions replaced by the
// functions' bodies, every node with the opset that applies to it and the row of onnx_ops.def that handles it, in an
// order in which each value is computed before it is used.
//
//   ASSIGN_OR_RETURN(NodeList list, PlanNodes(model));
//   for (const PlannedNode& node : list.nodes) …
//
// Operators without a row are reported all at once. Tested by onnx_importer_test.cc.
#ifndef TESSERA_MODELS_IMPORT_ONNX_NODE_LIST_H_
#define TESSERA_MODELS_IMPORT_ONNX_NODE_LIST_H_

#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "models/import/onnx/handlers.h"

namespace onnx {
class ModelProto;
class NodeProto;
}  // namespace onnx

namespace tessera {

// One row of onnx_ops.def.
struct OnnxOp {
  std::string_view op_type, domain;
  int since;  // the first opset
  int min_inputs, max_inputs;
  OnnxHandler handler;
};

std::span<const OnnxOp> AllOnnxOps();

struct PlannedNode {
  const onnx::NodeProto* proto;  // owned by the model or by the NodeList
  int opset;
  const OnnxOp* op;
};

struct NodeList {
  std::vector<PlannedNode> nodes;
  bool sorted = false;                  // the file's own order was not valid
  std::deque<onnx::NodeProto> inlined;  // the bodies of functions
};

StatusOr<NodeList> PlanNodes(const onnx::ModelProto& model);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_ONNX_NODE_LIST_H_
