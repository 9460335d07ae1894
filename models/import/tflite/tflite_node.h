// TfliteNode: one TFLite operator as a handler sees it. Quantised tensors look like reals: real(k) dequantises an
// operand when that is needed (once for each tensor), and the importer quantises results whose tensors are quantised.
// raw(k) is the tensor as it is stored, for operators that only move elements and for those that take integers.
//
//   StatusOr<ValueId> x = node.real(0);
//   const auto* options = node.options<tfl::SoftmaxOptions>();      // null when the file gives none
//
// Thread-compatible. Tested by tflite_importer_test.cc.
#ifndef TESSERA_MODELS_IMPORT_TFLITE_TFLITE_NODE_H_
#define TESSERA_MODELS_IMPORT_TFLITE_TFLITE_NODE_H_

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/import/op_emitter.h"
#include "models/import/tflite/tensor_reader.h"

namespace tessera {

// A tensor of the subgraph while it is imported.
struct TfliteTensor {
  std::string name;
  TensorType type;  // as the file says; what is computed may differ when inputs were given other shapes
  std::optional<QuantParams> quant;
  ValueId value = ValueId::kNone;  // as stored; kNone until something computes it
  ValueId real = ValueId::kNone;   // dequantised; kNone until asked for
};

// Which member of the union of options a table of options is.
template <typename Options>
inline constexpr tfl::BuiltinOptions kOptionsKind = tfl::BuiltinOptions::NONE;
#define TES_TFLITE_OPTIONS(name) \
  template <>                    \
  inline constexpr tfl::BuiltinOptions kOptionsKind<tfl::name> = tfl::BuiltinOptions::name;
TES_TFLITE_OPTIONS(Conv2DOptions)
TES_TFLITE_OPTIONS(DepthwiseConv2DOptions)
TES_TFLITE_OPTIONS(Pool2DOptions)
TES_TFLITE_OPTIONS(FullyConnectedOptions)
TES_TFLITE_OPTIONS(SoftmaxOptions)
TES_TFLITE_OPTIONS(ConcatenationOptions)
TES_TFLITE_OPTIONS(AddOptions)
TES_TFLITE_OPTIONS(L2NormOptions)
TES_TFLITE_OPTIONS(ResizeBilinearOptions)
TES_TFLITE_OPTIONS(ReshapeOptions)
TES_TFLITE_OPTIONS(SpaceToDepthOptions)
TES_TFLITE_OPTIONS(MulOptions)
TES_TFLITE_OPTIONS(GatherOptions)
TES_TFLITE_OPTIONS(ReducerOptions)
TES_TFLITE_OPTIONS(SubOptions)
TES_TFLITE_OPTIONS(DivOptions)
TES_TFLITE_OPTIONS(SqueezeOptions)
TES_TFLITE_OPTIONS(StridedSliceOptions)
TES_TFLITE_OPTIONS(PackOptions)
TES_TFLITE_OPTIONS(UnpackOptions)
TES_TFLITE_OPTIONS(ResizeNearestNeighborOptions)
TES_TFLITE_OPTIONS(LeakyReluOptions)
TES_TFLITE_OPTIONS(MirrorPadOptions)
TES_TFLITE_OPTIONS(DepthToSpaceOptions)
TES_TFLITE_OPTIONS(BatchMatMulOptions)
TES_TFLITE_OPTIONS(GeluOptions)
#undef TES_TFLITE_OPTIONS

// What a handler returns: the operator's results in order, stored or real.
struct TfliteResults {
  Status status;
  std::vector<ValueId> values;

  TfliteResults(Status error) : status(std::move(error)) {}            // NOLINT: implicit on purpose, as are the next
  TfliteResults(ValueId one) : values({one}) {}                        // NOLINT
  TfliteResults(std::vector<ValueId> all) : values(std::move(all)) {}  // NOLINT
  TfliteResults(StatusOr<ValueId> one) : status(one.status()) {        // NOLINT
    if (one.ok()) values = {*one};
  }
};

class TfliteNode : public OpEmitter {
 public:
  TfliteNode(const tfl::Operator& op, std::string kind, GraphWriter& writer, std::vector<TfliteTensor*> inputs,
             std::vector<TfliteTensor*> outputs);

  int num_inputs() const { return static_cast<int>(inputs_.size()); }
  int num_outputs() const { return static_cast<int>(outputs_.size()); }
  bool has(int k) const { return k < num_inputs() && inputs_[k] != nullptr; }
  TfliteTensor& input(int k) const { return *inputs_[k]; }
  const TfliteTensor& output(int k) const { return *outputs_[k]; }

  ValueId raw(int k) const { return inputs_[k]->value; }
  // The operand as reals (or as it is stored, when it is not quantised).
  StatusOr<ValueId> real(int k) const;
  // All operands and the first result have the same quantisation, or none: elements can move as they are stored.
  bool moves_as_stored(int k = 0) const;
  // The operand in the form in which moves should use it.
  StatusOr<ValueId> moved(int k) const { return moves_as_stored(k) ? StatusOr<ValueId>(raw(k)) : real(k); }
  // A weight with its dims permuted, then dequantised; the permutation folds before integers become reals.
  StatusOr<ValueId> Weight(int k, const std::vector<int64_t>& perm) const;
  // The value of an operand that must be known at import.
  StatusOr<Tensor> Const(int k, std::string_view what) const;
  StatusOr<std::vector<int64_t>> ConstInts(int k, std::string_view what) const;

  template <typename Options>
  const Options* options() const {
    static_assert(kOptionsKind<Options> != tfl::BuiltinOptions::NONE);
    if (op_->builtin_options_type() != kOptionsKind<Options>) return nullptr;
    return static_cast<const Options*>(op_->builtin_options());
  }
  // The options an operator cannot do without.
  template <typename Options>
  StatusOr<const Options*> required_options() const {
    const Options* found = options<Options>();
    if (found == nullptr) return Error(ErrorCode::kAttributeInvalid, "expected its options, found none");
    return found;
  }
  StatusOr<ValueId> Activate(ValueId x, tfl::Activation activation) const;

 private:
  const tfl::Operator* op_;
  std::vector<TfliteTensor*> inputs_, outputs_;  // null: absent
};

// The integers of `stored` as reals.
StatusOr<ValueId> Dequantized(const OpEmitter& emitter, ValueId stored, const QuantParams& quant);

using TfliteHandler = TfliteResults (*)(TfliteNode& node);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_TFLITE_TFLITE_NODE_H_
