// ImportModel: the one door through which foreign models come in. ONNX and TFLite become a Graph of our own ops.
//
//   ASSIGN_OR_RETURN(ImportResult result, ImportModel("mobilenet.onnx", {.shapes = {{"x", {1, 3, 224, 224}}}}));
//   result.graph;      // verified types, static shapes, names of the source model
//   result.tensors;    // one row a weight: which sparsity was declared, found and kept, and why
//
// The format is recognised by content, then by extension. Files are hostile input: every size, index, path and name is
// checked, and what is wrong comes back as a Status that names the file, the node or tensor, and the remedy. Nothing
// here runs a model; only nodes whose operands are all constant are folded, through the op's reference kernel, so that
// the small graphs that exporters write to compute shapes disappear. Safe to call from several threads. Tested by
// import_test.cc, onnx/node_test.cc (ONNX's own test per operator), hostile_test.cc (broken files).
#ifndef TESSERA_MODELS_IMPORT_IMPORT_H_
#define TESSERA_MODELS_IMPORT_IMPORT_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "models/import/tesa_file.h"
#include "tesa/tensor.h"
#include "tesa/types.h"

namespace tessera {

// Which sparsity goes into the graph as an Attribute on its tensor.
enum class AnnotateMode : uint8_t {
  kAuto,      // what is declared, and exact zeros that were found
  kDeclared,  // only what the model or the side file declares
  kNone,
};

struct ImportOptions {
  // Shapes of graph inputs, by name (--shape=name:1x3x224x224). A symbol of the model that one of them fixes is fixed
  // everywhere.
  std::map<std::string, Shape> shapes = {};
  // Graph inputs that become constants (--bind=name=@file.npy), because they determine a shape or never change.
  std::map<std::string, Tensor> bind = {};
  // Replacements for constants, by name (a safetensors file of the same network). Type and shape must agree.
  std::map<std::string, Tensor> weights = {};
  // By name of a constant: which of its elements are kept (0/1, of its shape), or at how many bits (integers, 0 =
  // pruned; a scalar stands for all elements). Wins over all else but the side file.
  std::map<std::string, Tensor> masks = {};
  // The user's side file: of constants, by their names and shapes in the source model, and of inputs and computed
  // values. Wins over all else, whatever `annotate` says.
  std::shared_ptr<const TesaFile> side_file = nullptr;
  AnnotateMode annotate = AnnotateMode::kAuto;
};

// One row for each constant that is a weight of a matmul or convolution, or that declared a sparsity.
struct TensorReport {
  std::string name;      // in the source model
  TensorType type;       // in the source model
  std::string declared;  // "sparse_initializer, 30.0% kept", "-"
  std::string found;     // the exact zeros: "70.0% zero, scattered", "dense"
  std::string kept;      // what the graph's tensor now carries, in the text form; "-"
  std::string reason;    // why
};

struct ImportResult {
  Graph graph;
  std::vector<TensorReport> tensors;
  std::vector<std::string> warnings;
};

// Reads `path` (.onnx, .tflite). Errors name `path`.
StatusOr<ImportResult> ImportModel(const std::string& path, const ImportOptions& options = {});

// The same from bytes in memory; `name` stands for the path in messages. External data of ONNX is looked for beside
// `name`, and refused when `name` has no folder.
StatusOr<ImportResult> ImportModelFromBytes(std::string_view bytes, const std::string& name,
                                            const ImportOptions& options = {});

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_IMPORT_H_
