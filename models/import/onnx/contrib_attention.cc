// Attention as ONNX Runtime's optimiser writes it (domain com.microsoft): with its projections in one product, or on
// queries, keys and values that are there already. Contracts: docs/ContribOperators.md of ONNX Runtime.
//
//   Attention(x [B, S, K], w [K, 3 * N], b [3 * N], mask?)         ->  three runs of columns of x w + b, heads in each
//   MultiHeadAttention(q [B, S, N], k, v, b?, mask?)               or q [B, S, heads, 3, depth] alone
//
// What is between is one attention in layout "bshd". Caches of past keys are not supported. Tested by contrib_test.cc.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

// Which keys a query may see, as an addend for scores [B, H, S, T]; kNone: all.
class MaskMaker {
 public:
  MaskMaker(OnnxNode& node, int64_t batch, int64_t queries, int64_t keys, DType type)
      : node_(node), batch_(batch), queries_(queries), keys_(keys), type_(type) {}

  // `mask` and `addend` may be kNone.
  StatusOr<ValueId> Make(ValueId mask, ValueId addend) {
    ValueId sum = addend;
    const auto add = [&](ValueId term) -> Status {
      if (sum == ValueId::kNone) {
        sum = term;
        return OkStatus();
      }
      ASSIGN_OR_RETURN(sum, node_.Emit(Op::kAdd, {sum, term}));
      return OkStatus();
    };
    if (mask != ValueId::kNone) {
      ASSIGN_OR_RETURN(const ValueId term, OfMask(mask));
      RETURN_IF_ERROR(add(term));
    }
    if (node_.Int("unidirectional", 0) != 0) {
      Tensor causal(type_, Shape({1, 1, queries_, keys_}));
      const double lowest = type_ == DType::kF32 ? -std::numeric_limits<float>::max() : -65504;
      for (int64_t i = 0; i < causal.num_elements(); ++i) {
        causal.Set(i, i % keys_ > i / keys_ + keys_ - queries_ ? lowest : 0);
      }
      RETURN_IF_ERROR(add(node_.writer().AddConstant(node_.name() + ".causal", std::move(causal))));
    }
    return sum;
  }

 private:
  // 1 where a key is seen, [B, T] or [B, S, T]; or the number of keys that are, [B].
  StatusOr<ValueId> OfMask(ValueId mask) {
    const Shape shape = node_.shape(mask);
    ValueId seen = mask;
    if (shape == Shape({batch_})) {
      Tensor numbers(node_.dtype(mask), Shape({1, 1, 1, keys_}));
      for (int64_t t = 0; t < keys_; ++t) numbers.SetInt(t, t);
      const ValueId number = node_.writer().AddConstant(node_.name() + ".keys", std::move(numbers));
      ASSIGN_OR_RETURN(const ValueId count, node_.Reshape(mask, {batch_, 1, 1, 1}));
      ASSIGN_OR_RETURN(seen, node_.Emit(Op::kLess, {number, count}));
    } else if (shape == Shape({batch_, keys_}) || shape == Shape({batch_, queries_, keys_})) {
      ASSIGN_OR_RETURN(seen, node_.Reshape(mask, {batch_, 1, shape.rank() == 2 ? 1 : queries_, keys_}));
      ASSIGN_OR_RETURN(seen, node_.Cast(seen, DType::kBool));
    } else {
      return node_.Error(ErrorCode::kOpUnsupported, "expected a mask [", batch_, "], [", batch_, ",", keys_, "] or [",
                         batch_, ",", queries_, ",", keys_, "], found ", node_.type(mask));
    }
    const auto number = [&](double value) {
      return node_.writer().AddConstant(node_.name() + ".mask", Tensor::Full(type_, Shape(), value));
    };
    return node_.Emit(Op::kWhere, {seen, number(0), number(node_.Float("mask_filter_value", -10000))});
  }

  OnnxNode& node_;
  const int64_t batch_, queries_, keys_;
  const DType type_;
};

// q, k, v [B, S or T, heads * depth] as attention of `heads`, [B, S, heads * depth of v].
StatusOr<ValueId> EmitAttention(OnnxNode& node, ValueId q, ValueId k, ValueId v, int64_t heads, ValueId mask,
                                ValueId addend) {
  const auto split = [&](ValueId x) -> StatusOr<ValueId> {
    const Shape shape = node.shape(x);
    if (shape.rank() != 3 || shape[2] % heads != 0 || shape[2] == 0) {
      return node.Error(ErrorCode::kShapeMismatch, "expected [batch, positions, heads * depth] of ", heads,
                        " heads, found ", node.type(x));
    }
    return node.Reshape(x, {shape[0], shape[1], heads, shape[2] / heads});
  };
  ASSIGN_OR_RETURN(q, split(q));
  ASSIGN_OR_RETURN(k, split(k));
  ASSIGN_OR_RETURN(v, split(v));
  const int64_t batch = node.shape(q)[0], queries = node.shape(q)[1], depth = node.shape(q)[3];
  MaskMaker masks(node, batch, queries, node.shape(k)[1], node.dtype(q));
  ASSIGN_OR_RETURN(mask, masks.Make(mask, addend));
  double scale = node.Float("scale", 0);
  if (scale == 0) scale = 1 / std::sqrt(static_cast<double>(depth));
  std::vector<ValueId> inputs = {q, k, v};
  if (mask != ValueId::kNone) inputs.push_back(mask);
  ASSIGN_OR_RETURN(const ValueId y,
                   node.Emit(Op::kAttention, std::move(inputs), MakeAttrs({{"scale", scale}, {"layout", "bshd"}})));
  return node.Reshape(y, {batch, queries, heads * node.shape(v)[3]});
}

Status CheckHeads(const OnnxNode& node, int64_t heads) {
  if (heads > 0) return OkStatus();
  return node.Error(ErrorCode::kAttributeInvalid, "expected num_heads > 0, found ", heads);
}

// Nobody may ask for, or give, keys and values of earlier calls.
Status CheckNoPast(const OnnxNode& node, int first, int end) {
  bool past = node.wants(1) || node.wants(2);
  for (int k = first; k < end; ++k) past |= node.has(k);
  return past ? node.Error(ErrorCode::kOpUnsupported, "keys and values of earlier calls are not supported")
              : OkStatus();
}

}  // namespace

// Operands: x, weights, bias?, mask?, past?, an addend for scores?
Imported ImportContribAttention(OnnxNode& node) {
  const int64_t heads = node.Int("num_heads", 0);
  RETURN_IF_ERROR(CheckHeads(node, heads));
  RETURN_IF_ERROR(CheckNoPast(node, 4, 5));
  RETURN_IF_ERROR(CheckNoPast(node, 6, 7));
  if (node.Int("do_rotary", 0) != 0) return node.Error(ErrorCode::kOpUnsupported, "do_rotary = 1 is not supported");
  ASSIGN_OR_RETURN(ValueId y, EmitMatMul(node, node.in(0), node.in(1)));
  if (node.rank(y) != 3) {
    return node.Error(ErrorCode::kShapeMismatch, "expected x [batch, positions, K], found ", node.type(node.in(0)));
  }
  const int64_t columns = node.shape(y)[2];
  if (node.has(2)) {
    ASSIGN_OR_RETURN(y, node.AddAlong(y, node.in(2), 2));
  }
  std::vector<int64_t> sizes = node.Ints("qkv_hidden_sizes");
  if (sizes.empty()) sizes.assign(3, columns / 3);
  if (sizes.size() != 3 || std::any_of(sizes.begin(), sizes.end(), [&](int64_t n) { return n <= 0 || n > columns; }) ||
      sizes[0] + sizes[1] + sizes[2] != columns) {
    return node.Error(ErrorCode::kAttributeInvalid, "expected three sizes of queries, keys and values that are ",
                      columns, " together");
  }
  std::vector<ValueId> parts;
  int64_t start = 0;
  for (int64_t size : sizes) {
    ASSIGN_OR_RETURN(const ValueId part, node.SliceAxis(y, 2, start, size));
    parts.push_back(part);
    start += size;
  }
  return EmitAttention(node, parts[0], parts[1], parts[2], heads, node.in(3), node.in(5));
}

// Operands: q (or all three), k?, v?, bias?, mask?, an addend for scores?, past keys?, past values?
Imported ImportMultiHeadAttention(OnnxNode& node) {
  const int64_t heads = node.Int("num_heads", 0);
  RETURN_IF_ERROR(CheckHeads(node, heads));
  RETURN_IF_ERROR(CheckNoPast(node, 6, 10));
  std::vector<ValueId> parts = {node.in(0), node.in(1), node.in(2)};
  const Shape shape = node.shape(parts[0]);
  if (shape.rank() == 5 && !node.has(1) && !node.has(2) && shape[2] == heads && shape[3] == 3) {
    for (int k = 0; k < 3; ++k) {
      ASSIGN_OR_RETURN(const ValueId part, node.SliceAxis(node.in(0), 3, k, 1));
      ASSIGN_OR_RETURN(parts[k], node.Reshape(part, {shape[0], shape[1], heads * shape[4]}));
    }
  } else if (!node.has(1) || !node.has(2) || node.rank(parts[1]) != 3 || node.rank(parts[2]) != 3) {
    return node.Error(ErrorCode::kOpUnsupported,
                      "expected q, k and v of 3 dimensions, or q [batch, positions, heads, 3, "
                      "depth] alone, found ",
                      node.type(parts[0]));
  }
  if (node.has(3)) {
    int64_t start = 0;
    for (ValueId& part : parts) {
      const int64_t size = node.shape(part)[node.rank(part) - 1];
      ASSIGN_OR_RETURN(const ValueId bias, node.SliceAxis(node.in(3), 0, start, size));
      ASSIGN_OR_RETURN(part, node.AddAlong(part, bias, 2));
      start += size;
    }
  }
  return EmitAttention(node, parts[0], parts[1], parts[2], heads, node.in(4), node.in(5));
}

}  // namespace tessera
