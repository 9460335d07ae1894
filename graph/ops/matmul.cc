// matmul: one contraction, batched.  C[.., m, n] = sum over k of A[.., m, k] * B[.., k, n]
// scaled_matmul: of integers, with a scale for each block of the depth.
#include "graph/multiply_add.h"
#include "graph/ops/common.h"
#include "graph/ops/contraction.h"

namespace tessera {
namespace {

// One operand's part: its last two dimensions, in the order [rows, columns] that the product wants.
struct Factor {
  bool transposed;
  int64_t rows, columns;
  Shape batch;
};

Factor FactorOf(const OpContext& c, int operand, std::string_view transpose) {
  const Shape& shape = c.shape(operand);
  const int rank = shape.rank();
  Factor factor = {.transposed = c.attrs.Int(transpose, 0) != 0,
                   .rows = shape[rank - 2],
                   .columns = shape[rank - 1],
                   .batch = Shape(std::vector<int64_t>(shape.begin(), shape.end() - 2))};
  if (factor.transposed) std::swap(factor.rows, factor.columns);
  return factor;
}

StatusOr<std::vector<TensorType>> Infer(const OpContext& c) {
  for (int operand : {0, 1}) {
    if (c.shape(operand).rank() < 2) {
      return Error(ErrorCode::kShapeMismatch, "operand ", operand, ": expected at least 2 dimensions, found ",
                   c.input(operand), "; reshape a vector to [1, K] or [K, 1]");
    }
  }
  for (std::string_view name : {"transpose_a", "transpose_b"}) {
    if (const int64_t value = c.attrs.Int(name, 0); value != 0 && value != 1) {
      return Error(ErrorCode::kAttributeInvalid, "expected ", name, " to be 0 or 1, found ", value);
    }
  }
  ASSIGN_OR_RETURN(DType dtype, ContractionType(c));
  const Factor a = FactorOf(c, 0, "transpose_a"), b = FactorOf(c, 1, "transpose_b");
  if (a.columns != b.rows) {
    return Error(ErrorCode::kShapeMismatch, "expected as many rows of operand 1 as operand 0 has columns (", a.columns,
                 "), found ", b.rows, " in ", c.input(0), " x ", c.input(1));
  }
  std::optional<Shape> batch = BroadcastShapes(a.batch, b.batch);
  if (!batch) {
    return Error(ErrorCode::kShapeMismatch, "expected leading dimensions that broadcast, found ", c.input(0), " x ",
                 c.input(1));
  }
  std::vector<int64_t> dims = batch->dims();
  dims.push_back(a.rows);
  dims.push_back(b.columns);
  return std::vector<TensorType>{{dtype, Shape(std::move(dims))}};
}

// The position of batch `index` (of the result) among the matrices of an operand.
int64_t BatchPosition(const Shape& batch, const std::vector<int64_t>& index) {
  int64_t position = 0;
  for (int d = 0; d < batch.rank(); ++d) {
    const int64_t at = batch[d] == 1 ? 0 : index[index.size() - batch.rank() + d];
    position = position * batch[d] + at;
  }
  return position;
}

// The matrices of one operand as [rows, columns], one at a time.
template <typename T>
class Matrices {
 public:
  Matrices(const RefTensor& tensor, Factor factor) : values_(ValuesOf<T>(tensor)), factor_(std::move(factor)) {}

  // The matrix for batch `index` of the result; valid until the next call.
  const T* At(const std::vector<int64_t>& index) {
    const int64_t rows = factor_.rows, columns = factor_.columns, at = BatchPosition(factor_.batch, index);
    const T* from = values_.data() + at * rows * columns;
    if (!factor_.transposed) return from;
    if (at == turned_at_) return turned_.data();
    turned_at_ = at;
    turned_.resize(rows * columns);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < columns; ++j) turned_[r * columns + j] = from[j * rows + r];
    }
    return turned_.data();
  }

 private:
  const std::vector<T>& values_;
  const Factor factor_;
  std::vector<T> turned_;
  int64_t turned_at_ = -1;
};

template <typename T>
void Multiply(const OpContext& c, const RefTensor& x, const RefTensor& y, RefTensor& out) {
  const Factor a = FactorOf(c, 0, "transpose_a"), b = FactorOf(c, 1, "transpose_b");
  const Shape& shape = out.type.shape;
  if (shape.num_elements() == 0) return;
  const Shape batch(std::vector<int64_t>(shape.begin(), shape.end() - 2));
  Matrices<T> left(x, a), right(y, b);
  std::vector<T>& result = ValuesOf<T>(out);
  int64_t n = 0;
  ForEachIndex(batch, [&](const std::vector<int64_t>& index) {
    MultiplyAdd(a.rows, b.columns, a.columns, left.At(index), right.At(index),
                result.data() + n++ * a.rows * b.columns);
  });
}

void Reference(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  RefTensor& out = outputs[0];
  if (out.is_float()) return Multiply<double>(c, *inputs[0], *inputs[1], out);
  Multiply<int64_t>(c, *inputs[0], *inputs[1], out);
  for (int64_t k = 0; k < out.size(); ++k) out.Set(k, out.Get(k));  // wraps to i32
}

// for batch.., m, n | k:  out[batch.., m, n] = add a[.., m, k] * b[.., k, n]
Compute MakeCompute(const OpContext& c) {
  Compute compute = StartCompute(c);
  const Shape& out = c.outputs[0].shape;
  const Factor a = FactorOf(c, 0, "transpose_a"), b = FactorOf(c, 1, "transpose_b");
  const int m = out.rank() - 2, n = out.rank() - 1, k = out.rank();
  const auto read = [&](int operand, const Factor& factor, int row, int column) {
    Access access = {.buffer = In(operand), .view = c.shape(operand)};
    const Shape target(std::vector<int64_t>(out.begin(), out.end() - 2));
    access.index = Broadcast(In(operand), factor.batch, target).index;
    if (factor.transposed) std::swap(row, column);
    access.index.push_back(Axis(row));
    access.index.push_back(Axis(column));
    return access;
  };
  Stage stage = {.name = "matmul", .extents = out.dims(), .parallel_rank = out.rank()};
  stage.extents.push_back(a.columns);
  stage.reads = {read(0, a, m, k), read(1, b, k, n)};
  stage.body = ProductBody(c.dtype(0), c.dtype(1));
  stage.combiner = Combiner::kAdd;
  stage.write = Elementwise(Out(), out);
  compute.stages.push_back(std::move(stage));
  return compute;
}

// ---- scaled_matmul ----

StatusOr<std::vector<TensorType>> InferScaled(const OpContext& c) {
  for (int operand : {0, 1}) {
    RETURN_IF_ERROR(CheckType(c, operand, TypeClass::kInteger));
    if (TypeInfo(c.dtype(operand)).bits > 8) {
      return Error(ErrorCode::kTypeMismatch, "operand ", operand, ": expected an integer of at most 8 bits, found ",
                   c.input(operand));
    }
  }
  if (c.dtype(2) != DType::kF32) {
    return Error(ErrorCode::kTypeMismatch, "operand 2: expected scales of f32, found ", c.input(2));
  }
  if (c.shape(0).rank() < 2 || c.shape(1).rank() != 2 || c.shape(2).rank() != 2) {
    return Error(ErrorCode::kShapeMismatch, "expected x [.., M, K], weights [K, N] and scales [K / block, N], found ",
                 c.input(0), ", ", c.input(1), " and ", c.input(2));
  }
  const int64_t depth = c.shape(1)[0], columns = c.shape(1)[1], blocks = c.shape(2)[0];
  if (c.shape(0)[c.shape(0).rank() - 1] != depth || c.shape(2)[1] != columns) {
    return Error(ErrorCode::kShapeMismatch, "expected x [.., M, ", depth, "] and scales [.., ", columns,
                 "] for weights ", c.input(1), ", found ", c.input(0), " and ", c.input(2));
  }
  if (blocks < 1 || depth % blocks != 0) {
    return Error(ErrorCode::kShapeMismatch, "expected a number of blocks that divides the depth ", depth, ", found ",
                 c.input(2));
  }
  std::vector<int64_t> dims = c.shape(0).dims();
  dims.back() = columns;
  return std::vector<TensorType>{{DType::kF32, Shape(std::move(dims))}};
}

void ScaledReference(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const RefTensor &x = *inputs[0], &w = *inputs[1], &scales = *inputs[2];
  RefTensor& out = outputs[0];
  const int64_t depth = c.shape(1)[0], columns = c.shape(1)[1], block = depth / c.shape(2)[0];
  for (int64_t at = 0; at < out.size(); ++at) {
    const int64_t m = at / columns, n = at % columns;
    double result = 0;
    for (int64_t first = 0; first < depth; first += block) {
      int64_t sum = 0;
      for (int64_t k = first; k < first + block; ++k) sum += x.i[m * depth + k] * w.i[k * columns + n];
      result += static_cast<double>(sum) * scales.f[first / block * columns + n];
    }
    out.f[at] = result;
  }
}

// for .., m, n | g, k:  out[.., m, n] = add x[.., m, g * block + k] * w[g * block + k, n] * scales[g, n]
Compute MakeScaledCompute(const OpContext& c) {
  Compute compute = StartCompute(c);
  const Shape& out = c.outputs[0].shape;
  const int64_t blocks = c.shape(2)[0], block = c.shape(1)[0] / blocks;
  const int n = out.rank() - 1, g = out.rank(), k = out.rank() + 1;
  const IndexExpr along = AxisPlus(Axis(g, block), k, 1);
  Stage stage = {.name = "scaled_matmul", .extents = out.dims(), .parallel_rank = out.rank()};
  stage.extents.insert(stage.extents.end(), {blocks, block});
  Access x = Elementwise(In(0), c.shape(0));
  x.index.back() = along;
  stage.reads = {x,
                 {.buffer = In(1), .view = c.shape(1), .index = {along, Axis(n)}},
                 {.buffer = In(2), .view = c.shape(2), .index = {Axis(g), Axis(n)}}};
  BodyBuilder b;
  const Scalar left = b.Input(c.dtype(0)), right = b.Input(c.dtype(1)), scale = b.Input(DType::kF32);
  stage.body = b.Finish(b.Cast(left * right, DType::kF32) * scale);
  stage.combiner = Combiner::kAdd;
  stage.write = Elementwise(Out(), out);
  compute.stages.push_back(std::move(stage));
  return compute;
}

}  // namespace

OpDef MakeScaledMatmulOp() {
  OpDef def = {};
  def.doc =
      "Product of integers with a scale for each block of the depth: sum over k of x[.., m, k] * w[k, n] * "
      "scales[k / block, n].";
  def.min_inputs = def.max_inputs = 3;
  def.infer = &InferScaled;
  def.reference = &ScaledReference;
  def.compute = &MakeScaledCompute;
  return def;
}

OpDef MakeMatmulOp() {
  OpDef def = {};
  def.doc = "Product of matrices: sum over k of a[.., m, k] * b[.., k, n]; leading dimensions broadcast. ONNX MatMul.";
  def.min_inputs = def.max_inputs = 2;
  def.attrs = {{"transpose_a", AttrKind::kInt, false, "1: the last two dimensions of a are [K, M]"},
               {"transpose_b", AttrKind::kInt, false, "1: the last two dimensions of b are [N, K]"}};
  def.infer = &Infer;
  def.reference = &Reference;
  def.compute = &MakeCompute;
  return def;
}

}  // namespace tessera
