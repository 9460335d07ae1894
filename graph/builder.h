// GraphBuilder: the one way to make a graph from C++.
//
//   GraphBuilder b("mlp");
//   ValueId x = b.Input("x", DType::kF32, {1, 784});
//   ValueId h = b.Relu(b.Add(b.Matmul(x, b.Constant("w0", w0)), b.Constant("b0", b0)));
//   b.Output(b.Named("logits").Matmul(h, b.Constant("w1", w1)));
//   ASSIGN_OR_RETURN(Graph graph, std::move(b).Build());
//
// Each call adds one node, infers the types of its result and returns it. The first error is remembered and returned by
// Build(); after it every call returns ValueId::kNone and does nothing, so that code between needs no checks. Results
// are named after the node; names that repeat get a number. Required parameters are arguments; what ONNX and README.md
// of graph/ops call optional has its default here. Not for sharing between threads. Tested by builder_test.cc.
#ifndef TESSERA_GRAPH_BUILDER_H_
#define TESSERA_GRAPH_BUILDER_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/graph.h"
#include "graph/op.h"

namespace tessera {

// The window of conv and the pools; an empty list stands for all ones (strides, dilations) or all zeros (pads).
struct WindowParams {
  std::vector<int64_t> strides = {};
  std::vector<int64_t> dilations = {};
  std::vector<int64_t> pads = {};  // begins, then ends
  std::string layout = "nchw";
};

class GraphBuilder {
 public:
  explicit GraphBuilder(std::string name);

  // ---- The frame ----
  ValueId Input(std::string_view name, DType dtype, Shape shape);
  ValueId Constant(std::string_view name, Tensor data);
  // A scalar constant named after its value.
  ValueId Number(double value, DType dtype = DType::kF32);
  // Marks a result of the graph; outputs are in the order of these calls.
  void Output(ValueId value);
  // The graph, which Verify accepts, or the first error.
  StatusOr<Graph> Build() &&;

  // Names the next node and its result.
  GraphBuilder& Named(std::string_view name);
  // Any op with one result. An absent optional operand is ValueId::kNone.
  ValueId Apply(Op op, std::vector<ValueId> inputs, Attrs attrs = {});
  // Gives the node of `result`, which nothing has read yet, an epilogue: result' = body(result, inputs..), as `dtype`.
  ValueId WithEpilogue(ValueId result, Body body, std::vector<ValueId> inputs, DType dtype);
  void SetTesa(ValueId value, Attribute tesa);
  void SetQuant(ValueId value, QuantParams quant);
  void SetMetadata(std::string_view key, std::string_view value);

  // The type of a value; f32 scalar after an error.
  const TensorType& TypeOf(ValueId value) const;
  const Shape& ShapeOf(ValueId value) const { return TypeOf(value).shape; }
  const Status& status() const { return status_; }
  // Remembers an error found outside, unless there is one already.
  void Fail(Status status);

  // ---- Element-wise, one operand ----
  ValueId Neg(ValueId x) { return Apply(Op::kNeg, {x}); }
  ValueId Abs(ValueId x) { return Apply(Op::kAbs, {x}); }
  ValueId Sign(ValueId x) { return Apply(Op::kSign, {x}); }
  ValueId Floor(ValueId x) { return Apply(Op::kFloor, {x}); }
  ValueId Ceil(ValueId x) { return Apply(Op::kCeil, {x}); }
  ValueId Round(ValueId x) { return Apply(Op::kRound, {x}); }
  ValueId Exp(ValueId x) { return Apply(Op::kExp, {x}); }
  ValueId Log(ValueId x) { return Apply(Op::kLog, {x}); }
  ValueId Sqrt(ValueId x) { return Apply(Op::kSqrt, {x}); }
  ValueId Reciprocal(ValueId x) { return Apply(Op::kReciprocal, {x}); }
  ValueId Sin(ValueId x) { return Apply(Op::kSin, {x}); }
  ValueId Cos(ValueId x) { return Apply(Op::kCos, {x}); }
  ValueId Erf(ValueId x) { return Apply(Op::kErf, {x}); }
  ValueId Tanh(ValueId x) { return Apply(Op::kTanh, {x}); }
  ValueId Not(ValueId x) { return Apply(Op::kNot, {x}); }
  ValueId IsNan(ValueId x) { return Apply(Op::kIsNan, {x}); }
  ValueId IsInf(ValueId x, bool positive = true, bool negative = true);
  ValueId Cast(ValueId x, DType to);
  ValueId Relu(ValueId x) { return Apply(Op::kRelu, {x}); }
  ValueId Clip(ValueId x, std::optional<double> min, std::optional<double> max);
  ValueId LeakyRelu(ValueId x, double alpha = 0.01);
  ValueId Elu(ValueId x, double alpha = 1);
  ValueId Selu(ValueId x) { return Apply(Op::kSelu, {x}); }
  ValueId Sigmoid(ValueId x) { return Apply(Op::kSigmoid, {x}); }
  ValueId HardSigmoid(ValueId x, double alpha = 0.2, double beta = 0.5);
  ValueId HardSwish(ValueId x) { return Apply(Op::kHardSwish, {x}); }
  ValueId Silu(ValueId x) { return Apply(Op::kSilu, {x}); }
  ValueId Gelu(ValueId x, bool approximate_by_tanh = false);
  ValueId Softplus(ValueId x) { return Apply(Op::kSoftplus, {x}); }
  ValueId Softsign(ValueId x) { return Apply(Op::kSoftsign, {x}); }

  // ---- Element-wise, several operands that broadcast ----
  ValueId Prelu(ValueId x, ValueId slope) { return Apply(Op::kPrelu, {x, slope}); }
  ValueId Add(ValueId a, ValueId b) { return Apply(Op::kAdd, {a, b}); }
  ValueId Sub(ValueId a, ValueId b) { return Apply(Op::kSub, {a, b}); }
  ValueId Mul(ValueId a, ValueId b) { return Apply(Op::kMul, {a, b}); }
  ValueId Div(ValueId a, ValueId b) { return Apply(Op::kDiv, {a, b}); }
  ValueId Mod(ValueId a, ValueId b, bool fmod = false);
  ValueId Pow(ValueId a, ValueId b) { return Apply(Op::kPow, {a, b}); }
  ValueId Min(ValueId a, ValueId b) { return Apply(Op::kMin, {a, b}); }
  ValueId Max(ValueId a, ValueId b) { return Apply(Op::kMax, {a, b}); }
  ValueId Equal(ValueId a, ValueId b) { return Apply(Op::kEqual, {a, b}); }
  ValueId Less(ValueId a, ValueId b) { return Apply(Op::kLess, {a, b}); }
  ValueId LessEqual(ValueId a, ValueId b) { return Apply(Op::kLessEqual, {a, b}); }
  ValueId And(ValueId a, ValueId b) { return Apply(Op::kAnd, {a, b}); }
  ValueId Or(ValueId a, ValueId b) { return Apply(Op::kOr, {a, b}); }
  ValueId Xor(ValueId a, ValueId b) { return Apply(Op::kXor, {a, b}); }
  ValueId Where(ValueId condition, ValueId a, ValueId b) { return Apply(Op::kWhere, {condition, a, b}); }

  // ---- Quantisation; zero_point may be kNone ----
  ValueId Quantize(ValueId x, ValueId scale, ValueId zero_point, DType dtype, std::optional<int64_t> axis = {},
                   int64_t block_size = 0);
  ValueId Dequantize(ValueId x, ValueId scale, ValueId zero_point, std::optional<int64_t> axis = {},
                     int64_t block_size = 0);

  // ---- Contractions ----
  ValueId Matmul(ValueId a, ValueId b, bool transpose_a = false, bool transpose_b = false);
  // w: [output channels, input channels of a group, kernel..].
  ValueId Conv(ValueId x, ValueId w, const WindowParams& window = {}, int64_t groups = 1);
  // layout "bshd": positions before heads in q, k, v and the result.
  ValueId Attention(ValueId q, ValueId k, ValueId v, double scale, ValueId mask = ValueId::kNone,
                    std::string_view layout = "bhsd");

  // ---- Windows ----
  ValueId MaxPool(ValueId x, std::vector<int64_t> kernel, const WindowParams& window = {});
  ValueId AvgPool(ValueId x, std::vector<int64_t> kernel, const WindowParams& window = {},
                  bool count_include_pad = false, bool out_shape_ceil = false);
  // Scales are sizes / extents of x where none are given.
  ValueId Resize(ValueId x, std::vector<int64_t> sizes, std::string_view mode, std::string_view coordinate,
                 std::string_view nearest = "round_prefer_floor", std::vector<double> scales = {});

  // ---- Reductions and normalisations ----
  // `op`: kReduceSum, kReduceMean, …; axes ascending.
  ValueId Reduce(Op op, ValueId x, std::vector<int64_t> axes, bool keepdims = true);
  ValueId ArgMax(ValueId x, int64_t axis, bool keepdims = true, bool select_last = false);
  ValueId ArgMin(ValueId x, int64_t axis, bool keepdims = true, bool select_last = false);
  ValueId Softmax(ValueId x, int64_t axis);
  ValueId LogSoftmax(ValueId x, int64_t axis);
  ValueId LayerNorm(ValueId x, ValueId scale, ValueId bias, int64_t axis, double epsilon = 1e-5);
  ValueId BatchNorm(ValueId x, ValueId scale, ValueId bias, ValueId mean, ValueId variance, double epsilon = 1e-5,
                    int64_t axis = 1);

  // ---- Movement ----
  ValueId Reshape(ValueId x, std::vector<int64_t> shape);
  ValueId Transpose(ValueId x, std::vector<int64_t> perm);
  ValueId Expand(ValueId x, std::vector<int64_t> shape);
  ValueId Tile(ValueId x, std::vector<int64_t> repeats);
  // All dimensions; steps of 1 when none are given.
  ValueId Slice(ValueId x, std::vector<int64_t> starts, std::vector<int64_t> sizes, std::vector<int64_t> steps = {});
  ValueId Concat(std::vector<ValueId> operands, int64_t axis);
  ValueId Pad(ValueId x, std::vector<int64_t> pads, std::string_view mode = "constant", double value = 0);
  ValueId Gather(ValueId x, ValueId indices, int64_t axis);
  ValueId GatherElements(ValueId x, ValueId indices, int64_t axis);

 private:
  // `wanted`, or with a number behind it when it is taken.
  std::string UniqueName(std::string_view wanted);
  ValueId AddValue(std::string_view name, TensorType type, ValueKind kind);
  // An id that this builder gave out; anything else is an error.
  bool IsKnown(ValueId value, std::string_view what);
  // Is `body` one over `result` and `inputs`, storing `dtype`?
  Status CheckEpilogue(const Body& body, ValueId result, const std::vector<ValueId>& inputs, DType dtype) const;
  // strides, dilations, pads and layout for a window over x.
  Attrs WindowAttrsOf(ValueId x, const WindowParams& window) const;

  Graph graph_;
  Status status_;
  std::map<std::string, int, std::less<>> names_;  // how often each was wanted
  std::string next_name_;
};

}  // namespace tessera

#endif  // TESSERA_GRAPH_BUILDER_H_
