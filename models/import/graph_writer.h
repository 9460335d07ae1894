// GraphWriter: how importers write a Graph: one op at a time, types inferred, constants folded, names kept.
//
//   GraphWriter writer("mobilenet");
//   ValueId x = writer.AddInput("x", {DType::kF32, {1, 3, 224, 224}});
//   ASSIGN_OR_RETURN(ValueId y, writer.Emit(Op::kRelu, "relu_1", {x}));
//   writer.SetName(y, "features");                      // the wish; Finish makes wishes valid and unique
//   ASSIGN_OR_RETURN(Graph graph, writer.Finish({{"features", y}}));
//
// A node whose operands are all constant is evaluated at once by its op's reference kernel when that costs little; a
// reshape or transpose of a weight therefore leaves a constant, and graphs that compute shapes vanish. A declared
// sparsity mask follows its constant through such folding as long as the op moves elements or keeps zeros where they
// are. Thread-compatible. Tested by graph_writer_test.cc.
#ifndef TESSERA_MODELS_IMPORT_GRAPH_WRITER_H_
#define TESSERA_MODELS_IMPORT_GRAPH_WRITER_H_

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "graph/op.h"
#include "tesa/tensor.h"

namespace tessera {

// Where a constant came from and which sparsity its source declared.
struct ConstantOrigin {
  std::string name;      // of the tensor in the source model; empty for constants that an importer made up
  TensorType type;       // in the source model
  std::string declared;  // "sparse_initializer", "0/1 mask 'm'", …; empty: none
  // u8, of the constant's present shape: the bit width of each element, 0 = pruned; set iff `declared` is.
  std::optional<Tensor> mask;
};

// ConstantOrigin::declared of what the user's side file says.
inline constexpr const char* kSideFile = "side file";

// No tensor of a model that Tessera can run is larger; a larger one is a broken shape.
inline constexpr int64_t kMaxTensorBytes = int64_t{1} << 34;

// In a mask: kept at the width of the constant's type, whatever that comes to be.
inline constexpr uint8_t kOwnWidth = 255;

// A mask from a tensor whose elements are kept where they are not 0. Integers other than 0 and 1 are bit widths; an
// error when one is above 64.
StatusOr<Tensor> MaskFromTensor(const Tensor& tensor);

enum class Fold : uint8_t {
  kCheap,  // when all operands are constant and evaluation costs little
  kNever,  // for nodes that must stay, such as the dequantisation of integer weights
};

class GraphWriter {
 public:
  explicit GraphWriter(std::string name);

  ValueId AddInput(std::string_view name, TensorType type);
  ValueId AddConstant(std::string_view name, Tensor data, ConstantOrigin origin = {});
  // Constants that an importer needs: a scalar or a vector of one type.
  ValueId Scalar(DType dtype, double value);
  ValueId Vector(DType dtype, const std::vector<double>& values);

  // A node of one output.
  StatusOr<ValueId> Emit(Op op, std::string_view node_name, std::vector<ValueId> inputs, Attrs attrs = {},
                         Fold fold = Fold::kCheap);

  // By value: a reference into the graph would not outlive the next Emit.
  TensorType type(ValueId id) const { return graph_[id].type; }
  Shape shape(ValueId id) const { return graph_[id].type.shape; }
  DType dtype(ValueId id) const { return graph_[id].type.dtype; }
  int rank(ValueId id) const { return graph_[id].type.shape.rank(); }
  bool IsConstant(ValueId id) const { return graph_.IsConstant(id); }
  // The data of a constant; the value must be one.
  Tensor constant(ValueId id) const { return graph_[id].constant; }
  const ConstantOrigin& origin(ValueId id) const { return origins_[Index(id)]; }
  void SetOrigin(ValueId id, ConstantOrigin origin) { origins_[Index(id)] = std::move(origin); }
  // Wishes for the value's name; the last wish counts. Inputs keep theirs.
  void SetName(ValueId id, std::string_view name);
  void SetQuant(ValueId id, QuantParams quant) { graph_[id].quant = std::move(quant); }
  const Graph& graph() const { return graph_; }
  Graph& graph() { return graph_; }

  // Declares the outputs by name, drops what they do not need (inputs stay), gives every value a valid, unique name,
  // and returns the graph with the origins of its values. The writer is spent. An output that is a graph input, a
  // constant or the value of another output becomes a node of its own, so that it carries its own name.
  struct Finished {
    Graph graph;
    std::vector<ConstantOrigin> origins;  // indexed by value
  };
  StatusOr<Finished> Finish(const std::vector<std::pair<std::string, ValueId>>& outputs);

 private:
  bool ShouldFold(const Node& node, const std::vector<TensorType>& types) const;
  ValueId FoldNode(const Node& node, const std::vector<TensorType>& types);
  ConstantOrigin FoldedOrigin(const Node& node, const TensorType& type) const;

  Graph graph_;
  std::vector<ConstantOrigin> origins_;  // indexed by value
  int64_t folded_elements_ = 0;
};

// `name` with only characters that the text form takes: letters, digits and _ . / : - ; never empty.
std::string SanitizedName(std::string_view name);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_GRAPH_WRITER_H_
