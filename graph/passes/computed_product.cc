#include "graph/passes/computed_product.h"

#include <utility>
#include <vector>

#include "graph/op.h"

namespace tessera {
namespace {

// With so many terms neither the sum of products nor a correction, each at most 255 * 128 a term, leaves 32 bits.
constexpr int64_t kMaxTerms = INT32_MAX / (4 * 255 * 128);

bool IsByte(DType dtype) { return dtype == DType::kU8 || dtype == DType::kI8; }

// The scaled sums of a matrix along its dimension `dim` from the end, shaped so that they broadcast to the product:
// factor * sum + shift.
ValueId Sums(Rewriter& r, NodeId before, ValueId matrix, int dim_from_end, bool of_rows, int64_t factor,
             int64_t shift) {
  const std::string name = r.node(before).name + (of_rows ? ".row_sums" : ".column_sums");
  const auto emit = [&](Op op, std::vector<ValueId> inputs, Attrs attrs = {}) {
    return r.status().ok() ? r.Emit(before, op, std::move(inputs), std::move(attrs), name) : ValueId::kNone;
  };
  const auto number = [&](int64_t value) {
    return r.Constant(name + ".factor", Tensor::Full(DType::kI32, Shape(), static_cast<double>(value)));
  };
  const Shape shape = r.shape(matrix);
  const int64_t axis = shape.rank() - dim_from_end;
  ValueId sums =
      emit(Op::kReduceSum, {matrix},
           MakeAttrs({{"axes", std::vector<int64_t>{axis}}, {"keepdims", int64_t{0}}, {"dtype", DType::kI32}}));
  sums = emit(Op::kMul, {sums, number(factor)});
  if (shift != 0) sums = emit(Op::kAdd, {sums, number(shift)});
  // The rows (or columns) that are left are the last dimension.
  std::vector<int64_t> dims(shape.begin(), shape.end());
  dims.erase(dims.begin() + axis);
  dims.insert(of_rows ? dims.end() : dims.end() - 1, 1);
  return emit(Op::kReshape, {sums}, MakeAttrs({{"shape", dims}}));
}

}  // namespace

std::optional<ComputedProduct> ReadComputedProduct(const Rewriter& r, const Node& node, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  if (node.op != Op::kMatmul) return no("its second operand is computed");
  if (r.type(node.outputs[0]).dtype != DType::kF32) return no("its result is ", r.type(node.outputs[0]).dtype);
  ComputedProduct product;
  for (int k : {0, 1}) {
    const char* which = k == 0 ? "first" : "second";
    const std::optional<Dequantized> x = ReadDequantize(r, node.inputs[k]);
    if (!x) return no("its ", which, " operand is not quantised with one scale");
    const DType dtype = r.type(x->integers).dtype;
    if (!IsByte(dtype)) return no("its ", which, " operand is ", dtype, ", not an integer of 8 bits");
    if (r.graph().IsConstant(x->integers)) return no("its ", which, " operand is a constant");
    if (!x->scaling.is_constant()) return no("both operands are computed, and the scaling of the ", which, " one too");
    const int64_t zero = *x->scaling.zero_value;
    if (zero < MinInt(dtype) || zero > MaxInt(dtype)) {
      return no("the zero point of its ", which, " operand, ", zero, ", is not of its type");
    }
    if (r.shape(x->integers).rank() < 2) return no("its ", which, " operand is a vector");
    (k == 0 ? product.left : product.right) = *x;
  }
  // Units of bytes would not lie together.
  if (node.attrs.Int("transpose_a", 0) != 0) return no("its first operand is transposed, its second one computed");
  const Shape& left = r.shape(product.left.integers);
  product.terms = left[left.rank() - 1];
  if (product.terms > kMaxTerms) return no("32 bits may not hold a sum of its ", product.terms, " products");
  if (product.terms == 0 || r.shape(node.outputs[0]).num_elements() == 0) return no("there is nothing to compute");
  return product;
}

ValueId EmitComputedProduct(Rewriter& r, NodeId before, ValueId left, int64_t left_zero, ValueId right,
                            int64_t right_zero) {
  const Node node = r.node(before);
  const int64_t terms = r.shape(left)[r.shape(left).rank() - 1];
  const auto emit = [&](Op op, std::vector<ValueId> inputs, Attrs attrs = {}) {
    return r.status().ok() ? r.Emit(before, op, std::move(inputs), std::move(attrs), node.name) : ValueId::kNone;
  };
  ValueId sums = emit(Op::kMatmul, {left, right}, node.attrs);
  if (right_zero != 0) {
    sums = emit(Op::kAdd, {sums, Sums(r, before, left, 1, true, -right_zero, terms * left_zero * right_zero)});
  }
  if (left_zero != 0) {
    const int depth_dim = node.attrs.Int("transpose_b", 0) != 0 ? 1 : 2;
    sums = emit(Op::kAdd, {sums, Sums(r, before, right, depth_dim, false, -left_zero, 0)});
  }
  return sums;
}

}  // namespace tessera
