// OpEmitter: what the handlers of every source format share: short ways to write common nodes, and errors that name the
// source node.
//
//   ASSIGN_OR_RETURN(ValueId y, emitter.Emit(Op::kSoftmax, {x}, MakeAttrs({{"axis", int64_t{1}}})));
//   return emitter.Error(ErrorCode::kShapeMismatch, "expected 4 dimensions, found ", rank);
//                                         // TES-1105: node 'conv1' (Conv): expected 4 dimensions, found 3
//
// Methods that would write a node without effect (a reshape to the same shape, a cast to the same type) return their
// operand. One emitter stands for one source node. Tested through the importers' tests.
#ifndef TESSERA_MODELS_IMPORT_OP_EMITTER_H_
#define TESSERA_MODELS_IMPORT_OP_EMITTER_H_

#include <string>
#include <string_view>
#include <vector>

#include "graph/builder.h"
#include "models/import/graph_writer.h"

namespace tessera {

// How a window op finds its pads.
enum class AutoPad : uint8_t { kExplicit, kSameUpper, kSameLower, kValid };

// The window of a convolution or pooling op over the spatial dims, checked and complete.
struct SpatialWindow {
  std::vector<int64_t> kernel, strides, dilations;
  std::vector<int64_t> pads;  // begins, then ends
};

// What to tell a user whose model needs `id` at import: "bind it with --bind=x=@file.npy", naming the inputs that it is
// computed from.
std::string HowToBind(const Graph& graph, ValueId id);

class OpEmitter {
 public:
  // `kind` is the source format's name of the op, for messages.
  OpEmitter(GraphWriter& writer, std::string name, std::string kind)
      : writer_(&writer), name_(std::move(name)), kind_(std::move(kind)) {}

  GraphWriter& writer() const { return *writer_; }
  const std::string& name() const { return name_; }
  TensorType type(ValueId id) const { return writer_->type(id); }
  Shape shape(ValueId id) const { return writer_->shape(id); }
  DType dtype(ValueId id) const { return writer_->dtype(id); }
  int rank(ValueId id) const { return writer_->rank(id); }

  StatusOr<ValueId> Emit(Op op, std::vector<ValueId> inputs, Attrs attrs = {}, Fold fold = Fold::kCheap) const {
    return writer_->Emit(op, name_, std::move(inputs), std::move(attrs), fold);
  }
  StatusOr<ValueId> Reshape(ValueId x, std::vector<int64_t> dims) const;
  StatusOr<ValueId> Transpose(ValueId x, std::vector<int64_t> perm) const;
  StatusOr<ValueId> Cast(ValueId x, DType to) const;
  // A binary op with a scalar of x's type as second operand.
  StatusOr<ValueId> EmitScalar(Op op, ValueId x, double value) const;
  // x broadcast to `target` in NumPy's way; an error when it does not fit.
  StatusOr<ValueId> Expand(ValueId x, const Shape& target) const;
  // x + bias, where bias [C] runs along `axis` of x.
  StatusOr<ValueId> AddAlong(ValueId x, ValueId bias, int axis) const { return BinaryAlong(Op::kAdd, x, bias, axis); }
  StatusOr<ValueId> BinaryAlong(Op op, ValueId x, ValueId vector, int axis) const;
  // Elements starts[d], starts[d] + 1, … of the dims in `axes`.
  StatusOr<ValueId> SliceAxis(ValueId x, int axis, int64_t start, int64_t size) const;
  // [N, C·b·b, H, W] -> [N, C, H·b, W·b] and back, in ONNX's words; `depth_first` is mode DCR.
  StatusOr<ValueId> DepthToSpace(ValueId x, int64_t block, bool depth_first) const;
  StatusOr<ValueId> SpaceToDepth(ValueId x, int64_t block) const;

  // A possibly negative axis of something of `rank` dims, made non-negative.
  StatusOr<int64_t> Axis(int64_t axis, int rank) const;
  // The same for a list, which must name each axis once; sorted.
  StatusOr<std::vector<int64_t>> Axes(std::vector<int64_t> axes, int rank) const;
  // Completes a window over spatial extents `extents`: checks every number, resolves automatic padding; empty strides,
  // dilations and pads take their defaults.
  StatusOr<SpatialWindow> ResolveWindow(const std::vector<int64_t>& extents, SpatialWindow window,
                                        AutoPad auto_pad) const;

  template <typename... Pieces>
  Status Error(ErrorCode code, const Pieces&... pieces) const {
    return ::tessera::Error(code, Where(), ": ", pieces...);
  }
  // "node 'conv1' (Conv)".
  std::string Where() const { return "node '" + name_ + "' (" + kind_ + ")"; }

 private:
  GraphWriter* writer_;
  std::string name_, kind_;
};

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_OP_EMITTER_H_
