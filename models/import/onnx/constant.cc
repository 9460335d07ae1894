// Operators whose results are known at import: constants in their many spellings, and what depends on shapes only.
#include <algorithm>
#include <cmath>

#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

// The longest Range that is written out; such vectors index positions of a sequence.
constexpr double kMaxRange = 1 << 26;

Tensor IntVector(const std::vector<int64_t>& values) {
  return Tensor::FromVector<int64_t>({static_cast<int64_t>(values.size())}, values);
}

template <typename To, typename From>
std::vector<To> Converted(const std::vector<From>& values) {
  return std::vector<To>(values.begin(), values.end());
}

ValueId AddNamed(const OnnxNode& node, Tensor data) {
  ConstantOrigin origin = {.name = node.name(), .type = data.type()};
  return node.writer().AddConstant(node.name(), std::move(data), std::move(origin));
}

}  // namespace

Imported ImportShape(OnnxNode& node) {
  const Shape& s = node.shape(node.in(0));
  const int64_t rank = s.rank();
  int64_t start = node.Int("start", 0), end = node.Int("end", rank);
  start = std::clamp(start < 0 ? start + rank : start, int64_t{0}, rank);
  end = std::clamp(end < 0 ? end + rank : end, start, std::max(start, rank));
  return node.writer().AddConstant(node.name(), IntVector({s.begin() + start, s.begin() + end}));
}

Imported ImportSize(OnnxNode& node) {
  return node.writer().AddConstant(node.name(),
                                   Tensor::FromVector<int64_t>({}, {node.shape(node.in(0)).num_elements()}));
}

Imported ImportConstant(OnnxNode& node) {
  if (node.HasAttr("value")) {
    ASSIGN_OR_RETURN(Tensor tensor, node.TensorAttr("value"));
    return AddNamed(node, std::move(tensor));
  }
  if (node.HasAttr("sparse_value")) {
    ASSIGN_OR_RETURN(DeclaredSparse sparse, node.SparseAttr("sparse_value"));
    ConstantOrigin origin = {
        .name = node.name(), .type = sparse.dense.type(), .declared = "sparse_value", .mask = std::move(sparse.mask)};
    return node.writer().AddConstant(node.name(), std::move(sparse.dense), std::move(origin));
  }
  const auto vector = [&](auto values) {
    const Shape shape = {static_cast<int64_t>(values.size())};
    return AddNamed(node, Tensor::FromVector(shape, values));
  };
  if (node.HasAttr("value_ints")) return vector(node.Ints("value_ints"));
  if (node.HasAttr("value_floats")) return vector(Converted<float>(node.Floats("value_floats")));
  if (node.HasAttr("value_int")) return AddNamed(node, Tensor::FromVector<int64_t>({}, {node.Int("value_int", 0)}));
  if (node.HasAttr("value_float")) {
    return AddNamed(node, Tensor::FromVector<float>({}, {static_cast<float>(node.Float("value_float", 0))}));
  }
  if (node.HasAttr("value_string") || node.HasAttr("value_strings")) {
    return node.Error(ErrorCode::kTypeMismatch, "expected numbers, found strings; Tessera has no string type");
  }
  return node.Error(ErrorCode::kAttributeInvalid, "expected one of the attributes value…, found none");
}

Imported ImportConstantOfShape(OnnxNode& node) {
  ASSIGN_OR_RETURN(std::vector<int64_t> dims, node.ConstInts(0, "shape"));
  Tensor value = Tensor::Full(DType::kF32, {}, 0);
  if (node.HasAttr("value")) {
    ASSIGN_OR_RETURN(value, node.TensorAttr("value"));
    if (value.num_elements() != 1) {
      return node.Error(ErrorCode::kShapeMismatch, "expected one value, found ", value.type());
    }
  }
  const Shape target(std::move(dims));
  const Status size = CheckShape(value.dtype(), target);
  if (!size.ok()) return size.WithContext(node.Where());
  return node.Expand(node.writer().AddConstant(node.name(), value.Reshaped({})), target);
}

Imported ImportRange(OnnxNode& node) {
  ASSIGN_OR_RETURN(const Tensor start, node.Const(0, "start"));
  ASSIGN_OR_RETURN(const double first, node.ConstScalar(0, "start"));
  ASSIGN_OR_RETURN(const double limit, node.ConstScalar(1, "limit"));
  ASSIGN_OR_RETURN(const double delta, node.ConstScalar(2, "delta"));
  const double count = std::max(std::ceil((limit - first) / delta), 0.0);
  if (!(count <= kMaxRange)) {
    return node.Error(ErrorCode::kLimitExceeded, "a range from ", first, " to ", limit, " by ", delta, " has ", count,
                      " elements, expected at most ", kMaxRange);
  }
  Tensor values(start.dtype(), {static_cast<int64_t>(count)});
  ASSIGN_OR_RETURN(const Tensor step, node.Const(2, "delta"));
  for (int64_t i = 0; i < values.num_elements(); ++i) {
    if (IsFloat(start.dtype())) {
      values.Set(i, first + static_cast<double>(i) * delta);
    } else {  // unsigned, so that a hostile range wraps
      values.SetInt(i, static_cast<int64_t>(static_cast<uint64_t>(start.GetInt(0)) +
                                            static_cast<uint64_t>(i) * static_cast<uint64_t>(step.GetInt(0))));
    }
  }
  return node.writer().AddConstant(node.name(), std::move(values));
}

}  // namespace tessera
