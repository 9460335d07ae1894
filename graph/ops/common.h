// common: what the families of ops share: checks for infer, computes from bodies, references that are plain loops.
//
//   OpDef MakeExpOp() {                                                              // a whole element-wise op
//     return ElementwiseOp("e to the power x.", 1, &InferMap<TypeClass::kFloat>,
//                          [](const OpContext&, Scalars x) { return Exp(x[0]); },           // as a Body
//                          [](const OpContext&, const double* x) { return std::exp(x[0]); });  // and again, plainly
//   }
//
// The Body and the plain function are two statements of one meaning, written separately, because the generic test
// compares them. Checks return errors that say what was expected and what was found; the caller of infer adds the
// node's name. Everything here is a pure function. Tested by ops_test.cc.
#ifndef TESSERA_GRAPH_OPS_COMMON_H_
#define TESSERA_GRAPH_OPS_COMMON_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/op.h"

namespace tessera {

// ---- Checks for infer ----

// Sets of element types that operands may have.
enum class TypeClass : uint8_t {
  kAny,
  kFloat,
  kInteger,
  kNumber,   // floats and integers
  kBitwise,  // integers and bool
  kBool,
};
bool IsIn(DType dtype, TypeClass wanted);

// Operand `k` has a type of the class.
Status CheckType(const OpContext& c, int k, TypeClass wanted);
// Operands `k` and `other` have the same element type.
Status CheckSameType(const OpContext& c, int k, int other);
// Operands `k` and `other` compute in the same type (f16 and f32 both compute in f32).
Status CheckSameComputeType(const OpContext& c, int k, int other);
// Operand `k` has exactly this shape.
Status CheckShapeIs(const OpContext& c, int k, const Shape& expected);
// Operand `k` broadcasts (NumPy) to `target` without changing it.
Status CheckBroadcastsTo(const OpContext& c, int k, const Shape& target);
// 0 <= axis < rank.
Status CheckAxis(int64_t axis, int rank);
// Each in range, strictly ascending.
Status CheckAxes(std::span<const int64_t> axes, int rank);
// The shape to which all present operands from `first` on broadcast together.
StatusOr<Shape> BroadcastOperands(const OpContext& c, int first = 0);

// ---- Computes ----

inline BufferRef In(int k) { return {BufferKind::kInput, k}; }
inline BufferRef Out(int k = 0) { return {BufferKind::kOutput, k}; }
inline BufferRef Temp(int k) { return {BufferKind::kTemp, k}; }
inline BufferRef Table(int k) { return {BufferKind::kTable, k}; }

// A Compute with the node's operands (absent ones as f32 scalars that nothing reads) and results, and no stage yet.
Compute StartCompute(const OpContext& c);
// One stage: `body` over all operands, each broadcast to the shape of result 0.
Compute ElementwiseCompute(const OpContext& c, Body body);

// The loops of a stage that combines `axes` of a tensor: parallel axes first, one for each dimension of the result
// (extent 1 where a reduced dimension is kept), then the reduced ones in order.
struct Reduction {
  Shape result;
  std::vector<int64_t> extents;
  std::vector<IndexExpr> index;  // of the tensor's element at a point

  int parallel_rank() const { return result.rank(); }
  // The tensor, and a buffer of the result's shape, at a point.
  Access Whole(BufferRef buffer, const Shape& shape) const { return {.buffer = buffer, .view = shape, .index = index}; }
  Access Result(BufferRef buffer) const { return Elementwise(buffer, result); }
  // out = combiner over body(reads), without a finish.
  Stage MakeStage(std::string name, std::vector<Access> reads, Body body, Combiner combiner, BufferRef out) const;
};
Reduction ReduceAxes(const Shape& shape, const std::vector<int64_t>& axes, bool keep_dims);

// ---- Element-wise ops ----

using Scalars = std::span<const Scalar>;

// The Body whose result is Arithmetic's on the operands; Arithmetic is the type of a lambda without captures:
// Scalar(const OpContext&, Scalars).
template <typename Arithmetic>
Body BodyOf(const OpContext& c) {
  BodyBuilder b;
  std::vector<Scalar> operands;
  for (int k = 0; k < c.num_inputs(); ++k) operands.push_back(b.Input(c.dtype(k)));
  return b.Finish(Arithmetic()(c, Scalars(operands)));
}

template <typename Arithmetic>
Compute ComputeOf(const OpContext& c) {
  return ElementwiseCompute(c, BodyOf<Arithmetic>(c));
}

// Integers of every type without overflow: references compute in it and wrap once, when the result is stored.
__extension__ using Wide = __int128;

// Element `k` of an integer or bool tensor.
inline Wide WideAt(const RefTensor& t, int64_t k) {
  return t.type.dtype == DType::kU64 ? static_cast<Wide>(static_cast<uint64_t>(t.i[k])) : static_cast<Wide>(t.i[k]);
}
// a * b modulo 2^64, which is all of it that any type stores.
inline Wide WrappedProduct(Wide a, Wide b) { return static_cast<uint64_t>(a) * static_cast<uint64_t>(b); }
// Stores what a reference computed: a float, an integer (wrapped) or a bool.
inline void Store(RefTensor& t, int64_t k, double value) { t.f[k] = value; }
inline void Store(RefTensor& t, int64_t k, Wide value) { t.Set(k, {.i = static_cast<int64_t>(value)}); }
inline void Store(RefTensor& t, int64_t k, bool value) { t.i[k] = value; }

// Calls visit(k, positions) for each element k of `shape`, with the row-major position of each operand's element that
// broadcasting puts there.
void ForEachBroadcast(const Shape& shape, std::span<const RefTensor* const> inputs,
                      const std::function<void(int64_t, const std::vector<int64_t>&)>& visit);

// Calls visit(k, group) for each element k that is left when `axes` of `shape` are combined, with the positions in
// `shape` of the elements that it stands for, in row-major order.
void ForEachGroup(const Shape& shape, const std::vector<int64_t>& axes,
                  const std::function<void(int64_t, const std::vector<int64_t>&)>& visit);

// Stands where an op has no meaning on that class of types; infer must have rejected it.
struct NoMeaning {
  template <typename T>
  T operator()(const OpContext&, const T*) const {
    TES_CHECK(false, "an op was run on a type that it does not have");
    return {};
  }
};

// The reference of an element-wise op whose operands all have one type: result = OnFloats()(c, x) or OnIntegers()(c, x)
// for the operands' values x[0], x[1], … at one point; a lambda's type each.
template <typename OnFloats, typename OnIntegers>
void PointReference(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  RefTensor& out = outputs[0];
  const size_t count = inputs.size();
  if (inputs[0]->is_float()) {
    std::vector<double> x(count);
    ForEachBroadcast(out.type.shape, inputs, [&](int64_t k, const std::vector<int64_t>& at) {
      for (size_t n = 0; n < count; ++n) x[n] = inputs[n]->f[at[n]];
      Store(out, k, OnFloats()(c, x.data()));
    });
  } else {
    std::vector<Wide> x(count);
    ForEachBroadcast(out.type.shape, inputs, [&](int64_t k, const std::vector<int64_t>& at) {
      for (size_t n = 0; n < count; ++n) x[n] = WideAt(*inputs[n], at[n]);
      Store(out, k, OnIntegers()(c, x.data()));
    });
  }
}

// infer of an op on operands of one type, of the class, that broadcast; the result has their type.
template <TypeClass kClass>
StatusOr<std::vector<TensorType>> InferMap(const OpContext& c) {
  for (int k = 0; k < c.num_inputs(); ++k) {
    RETURN_IF_ERROR(CheckType(c, k, kClass));
    RETURN_IF_ERROR(CheckSameType(c, k, 0));
  }
  ASSIGN_OR_RETURN(Shape shape, BroadcastOperands(c));
  return std::vector<TensorType>{{c.dtype(0), std::move(shape)}};
}

// Likewise with a bool result.
template <TypeClass kClass>
StatusOr<std::vector<TensorType>> InferPredicate(const OpContext& c) {
  ASSIGN_OR_RETURN(std::vector<TensorType> types, InferMap<kClass>(c));
  types[0].dtype = DType::kBool;
  return types;
}

// An element-wise op from its arithmetic said twice: as a Body, and plainly on floats and on integers.
template <typename Arithmetic, typename OnFloats, typename OnIntegers = NoMeaning>
OpDef ElementwiseOp(std::string_view doc, int num_operands, decltype(OpDef::infer) infer, Arithmetic, OnFloats,
                    OnIntegers = {}) {
  OpDef def = {};
  def.doc = doc;
  def.min_inputs = def.max_inputs = num_operands;
  def.infer = infer;
  def.reference = &PointReference<OnFloats, OnIntegers>;
  def.compute = &ComputeOf<Arithmetic>;
  def.body = &BodyOf<Arithmetic>;
  return def;
}

// `def` with parameters.
inline OpDef WithAttrs(OpDef def, std::vector<AttrDef> attrs) {
  def.attrs = std::move(attrs);
  return def;
}

}  // namespace tessera

#endif  // TESSERA_GRAPH_OPS_COMMON_H_
