// OnnxNode: one node of an ONNX graph as a handler sees it: operands as values of our graph, attributes with types and
// defaults, the opset, and the short ways of OpEmitter to write what it means.
//
//   Imported ImportSoftmax(OnnxNode& node) {
//     ASSIGN_OR_RETURN(int64_t axis, node.Axis(node.Int("axis", -1), node.rank(node.in(0))));
//     return node.Emit(Op::kSoftmax, {node.in(0)}, MakeAttrs({{"axis", axis}}));
//   }
//
// Reading an attribute of the wrong kind yields the default and remembers an error, which the importer reports after
// the handler has returned; so handlers read attributes as plain values. Operands that determine a shape are read by
// Const…, whose error says how to bind them. Thread-compatible. Tested by onnx_importer_test.cc.
#ifndef TESSERA_MODELS_IMPORT_ONNX_ONNX_NODE_H_
#define TESSERA_MODELS_IMPORT_ONNX_ONNX_NODE_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/import/onnx/tensor_reader.h"
#include "models/import/op_emitter.h"

namespace onnx {
class NodeProto;
class AttributeProto;
}  // namespace onnx

namespace tessera {

// What a handler returns: the node's outputs in order (ValueId::kNone for one that nobody wants), or an error. Converts
// from each of the forms that handlers have at hand.
struct Imported {
  Status status;
  std::vector<ValueId> outputs;

  Imported(Status error) : status(std::move(error)) {}             // NOLINT: implicit on purpose, as are the next
  Imported(ValueId one) : outputs({one}) {}                        // NOLINT
  Imported(std::vector<ValueId> all) : outputs(std::move(all)) {}  // NOLINT
  Imported(StatusOr<ValueId> one) : status(one.status()) {         // NOLINT
    if (one.ok()) outputs = {*one};
  }
};

class OnnxNode : public OpEmitter {
 public:
  OnnxNode(const onnx::NodeProto& proto, int opset, GraphWriter& writer, TensorReader& reader,
           std::vector<ValueId> inputs);

  int opset() const { return opset_; }
  const std::string& op_type() const { return op_type_; }

  // Operands. in(k) of an absent optional operand is kNone.
  int num_inputs() const { return static_cast<int>(inputs_.size()); }
  ValueId in(int k) const { return k < num_inputs() ? inputs_[k] : ValueId::kNone; }
  bool has(int k) const { return in(k) != ValueId::kNone; }
  // Other operands, for a handler that says what it means through another operator's.
  void SetInputs(std::vector<ValueId> inputs) { inputs_ = std::move(inputs); }
  int num_outputs() const;
  // Somebody may read output k: it has a name.
  bool wants(int k) const;

  // Attributes.
  bool HasAttr(std::string_view name) const { return FindAttr(name) != nullptr; }
  int64_t Int(std::string_view name, int64_t otherwise);
  double Float(std::string_view name, double otherwise);
  std::string String(std::string_view name, std::string_view otherwise);
  std::vector<int64_t> Ints(std::string_view name);  // empty when absent
  std::vector<double> Floats(std::string_view name);
  StatusOr<Tensor> TensorAttr(std::string_view name);
  StatusOr<DeclaredSparse> SparseAttr(std::string_view name);
  // The first attribute that had the wrong kind, or ok.
  const Status& attr_error() const { return attr_error_; }

  // The value of an operand that must be known now. `what` names it in the error ("shape").
  StatusOr<Tensor> Const(int k, std::string_view what) const;
  // As integers: a scalar or vector of any integer type.
  StatusOr<std::vector<int64_t>> ConstInts(int k, std::string_view what) const;
  // As one number: a scalar or [1].
  StatusOr<double> ConstScalar(int k, std::string_view what) const;
  // Integers that older opsets give as an attribute and newer ones as operand k: from whichever is there, or nothing.
  StatusOr<std::optional<std::vector<int64_t>>> IntsAttrOrInput(std::string_view name, int k);

 private:
  const onnx::AttributeProto* FindAttr(std::string_view name) const;
  // The attribute when it is there and of `kind`; remembers an error otherwise.
  const onnx::AttributeProto* TypedAttr(std::string_view name, int kind);

  const onnx::NodeProto* proto_;
  TensorReader* reader_;
  int opset_;
  std::string op_type_;
  std::vector<ValueId> inputs_;
  Status attr_error_;
};

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_ONNX_ONNX_NODE_H_
