// Body: a scalar expression as data, the part of an op that says what happens at one point of its loops.
//
//   BodyBuilder b;                                     // relu(x + bias)
//   Scalar x = b.Input(DType::kF32), bias = b.Input(DType::kF32);
//   Body body = b.Finish(Max(x + bias, b.Const(DType::kF32, 0)));
//   body.ToString() == "(a: f32, b: f32) { t2 = add(a, b); t3 = 0:f32; return max(t2, t3) }"
//
// One Body serves the reference evaluator, the fusion passes, the rule algebra and every code generator, so an op's
// arithmetic is written once. Bodies are typed in *compute types* (f32 f64 i32 u32 i64 u64 bool): narrower storage
// types widen when read and narrow when stored. Values only; thread-compatible. scalar_ops.def is the one list of
// operations and states what each means. Tested by body_test.cc.
#ifndef TESSERA_GRAPH_BODY_H_
#define TESSERA_GRAPH_BODY_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tesa/types.h"

namespace tessera {

enum class ScalarOp : uint8_t {
#define TES_SCALAR_OP(name, text, arity, result, on_double, on_int) k##name,
#include "graph/scalar_ops.def"
#undef TES_SCALAR_OP
};

struct ScalarOpInfo {
  std::string_view name;
  int arity;
  enum class Result : uint8_t { kSame, kBool, kGiven } result;
  bool on_float;  // allowed on floats
  bool on_int;    // allowed on integers and bool
};
const ScalarOpInfo& ScalarInfo(ScalarOp op);

// The type in which elements stored as `storage` are computed: f16, bf16, f8 -> f32; integers below 32 bits -> i32.
DType ComputeType(DType storage);

// One instruction; `args` are positions of earlier instructions.
struct ScalarInst {
  ScalarOp op = ScalarOp::kConst;
  DType type = DType::kF32;  // of the result, a compute type
  int args[3] = {-1, -1, -1};
  double imm = 0;       // Const of a float type
  int64_t imm_int = 0;  // Const of another type; Input: read; Index: axis; Narrow: storage DType
  friend bool operator==(const ScalarInst&, const ScalarInst&) = default;
};

// A value at one point: `f` for float types, `i` for integers and bool.
struct ScalarValue {
  double f = 0;
  int64_t i = 0;
};

struct Body {
  std::vector<ScalarInst> insts;  // in order of definition
  int result = -1;                // the position whose value is the body's; -1 only in an empty Body
  int num_inputs = 0;

  bool empty() const { return insts.empty(); }
  DType result_type() const { return insts[result].type; }
  // The type under which input `k` is read; every Input instruction of one k agrees. f32 for an input never read.
  DType input_type(int k) const;
  // Does any Index instruction occur?
  bool uses_index() const;

  // The value for these inputs at iteration point `index`. Floats are evaluated in double, without rounding to f32.
  ScalarValue Evaluate(std::span<const ScalarValue> inputs, std::span<const int64_t> index) const;

  // Position order, argument types, arity. `num_axes` bounds Index instructions.
  Status Verify(int num_axes) const;
  // The text form shown at the top; ParseBody reads it back.
  std::string ToString() const;

  friend bool operator==(const Body&, const Body&) = default;
};

StatusOr<Body> ParseBody(std::string_view text);

class BodyBuilder;

// A handle to an instruction under construction. Operands of one operation must have the same type; a plain double or
// int converts to a constant of the other operand's type.
struct Scalar {
  BodyBuilder* builder = nullptr;
  int id = -1;
  DType type() const;
};

class BodyBuilder {
 public:
  // The next input, read as ComputeType(storage).
  Scalar Input(DType storage);
  // Input number `k` explicitly.
  Scalar InputAt(int k, DType storage);
  Scalar Index(int axis);  // i64
  Scalar Const(DType type, double value);
  Scalar ConstInt(DType type, int64_t value);
  Scalar Op(ScalarOp op, std::initializer_list<Scalar> args);
  Scalar Cast(Scalar x, DType type);  // `type` may be a storage type: then the value is also narrowed to it
  Scalar Narrow(Scalar x, DType storage);
  // Inlines `body`: its inputs become `inputs`. Index instructions are kept.
  Scalar Inline(const Body& body, std::span<const Scalar> inputs);
  // The canonical form: only what `result` needs, equal instructions once, read inputs first, then operands before
  // operations from left to right. The builder is spent. num_inputs stays as declared.
  Body Finish(Scalar result);

 private:
  friend struct Scalar;
  Scalar Append(ScalarInst inst);
  std::vector<ScalarInst> insts_;
  int num_inputs_ = 0;
};

// The identity body of one input stored as `storage`.
Body IdentityBody(DType storage);

Scalar operator+(Scalar a, Scalar b);
Scalar operator-(Scalar a, Scalar b);
Scalar operator*(Scalar a, Scalar b);
Scalar operator/(Scalar a, Scalar b);
Scalar operator-(Scalar a);
Scalar operator+(Scalar a, double b);
Scalar operator-(Scalar a, double b);
Scalar operator*(Scalar a, double b);
Scalar operator/(Scalar a, double b);
Scalar operator+(double a, Scalar b);
Scalar operator-(double a, Scalar b);
Scalar operator*(double a, Scalar b);
Scalar operator/(double a, Scalar b);
Scalar Min(Scalar a, Scalar b);
Scalar Max(Scalar a, Scalar b);
Scalar Min(Scalar a, double b);
Scalar Max(Scalar a, double b);
Scalar Less(Scalar a, Scalar b);
Scalar LessEqual(Scalar a, Scalar b);
Scalar Equal(Scalar a, Scalar b);
Scalar Less(Scalar a, double b);
Scalar Less(double a, Scalar b);
Scalar Select(Scalar condition, Scalar x, Scalar y);
// Unary shorthands: Exp(x), Sqrt(x), …
inline Scalar Unary(ScalarOp op, Scalar x) { return x.builder->Op(op, {x}); }
inline Scalar Exp(Scalar x) { return Unary(ScalarOp::kExp, x); }
inline Scalar Log(Scalar x) { return Unary(ScalarOp::kLog, x); }
inline Scalar Sqrt(Scalar x) { return Unary(ScalarOp::kSqrt, x); }
inline Scalar Erf(Scalar x) { return Unary(ScalarOp::kErf, x); }
inline Scalar Tanh(Scalar x) { return Unary(ScalarOp::kTanh, x); }
inline Scalar Abs(Scalar x) { return Unary(ScalarOp::kAbs, x); }
inline Scalar Floor(Scalar x) { return Unary(ScalarOp::kFloor, x); }
inline Scalar RoundEven(Scalar x) { return Unary(ScalarOp::kRoundEven, x); }

}  // namespace tessera

#endif  // TESSERA_GRAPH_BODY_H_
