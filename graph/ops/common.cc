#include "graph/ops/common.h"

#include <algorithm>

namespace tessera {
namespace {

std::string_view Describe(TypeClass wanted) {
  switch (wanted) {
    case TypeClass::kAny: return "any element type";
    case TypeClass::kFloat: return "a float type";
    case TypeClass::kInteger: return "an integer type";
    case TypeClass::kNumber: return "a float or integer type";
    case TypeClass::kBitwise: return "an integer type or bool";
    case TypeClass::kBool: return "bool";
  }
  return "";
}

}  // namespace

bool IsIn(DType dtype, TypeClass wanted) {
  switch (wanted) {
    case TypeClass::kAny: return true;
    case TypeClass::kFloat: return IsFloat(dtype);
    case TypeClass::kInteger: return IsInteger(dtype);
    case TypeClass::kNumber: return !IsBool(dtype);
    case TypeClass::kBitwise: return !IsFloat(dtype);
    case TypeClass::kBool: return IsBool(dtype);
  }
  return false;
}

Status CheckType(const OpContext& c, int k, TypeClass wanted) {
  if (IsIn(c.dtype(k), wanted)) return OkStatus();
  return Error(ErrorCode::kTypeMismatch, "operand ", k, ": expected ", Describe(wanted), ", found ", c.input(k));
}

Status CheckSameType(const OpContext& c, int k, int other) {
  if (c.dtype(k) == c.dtype(other)) return OkStatus();
  return Error(ErrorCode::kTypeMismatch, "operand ", k, ": expected ", c.dtype(other), " as operand ", other,
               " has, found ", c.input(k), "; insert a cast");
}

Status CheckSameComputeType(const OpContext& c, int k, int other) {
  const DType wanted = ComputeType(c.dtype(other));
  if (ComputeType(c.dtype(k)) == wanted) return OkStatus();
  return Error(ErrorCode::kTypeMismatch, "operand ", k, ": expected a type that computes in ", wanted, " as operand ",
               other, " does, found ", c.input(k), "; insert a cast");
}

Status CheckShapeIs(const OpContext& c, int k, const Shape& expected) {
  if (c.shape(k) == expected) return OkStatus();
  return Error(ErrorCode::kShapeMismatch, "operand ", k, ": expected the shape ", expected, ", found ", c.input(k));
}

Status CheckBroadcastsTo(const OpContext& c, int k, const Shape& target) {
  if (std::optional<Shape> both = BroadcastShapes(c.shape(k), target); both && *both == target) return OkStatus();
  return Error(ErrorCode::kShapeMismatch, "operand ", k, ": expected a shape that broadcasts to ", target, ", found ",
               c.input(k));
}

Status CheckAxis(int64_t axis, int rank) {
  if (axis >= 0 && axis < rank) return OkStatus();
  return Error(ErrorCode::kAttributeInvalid, "expected an axis from 0 to ", rank - 1, ", found ", axis);
}

Status CheckAxes(std::span<const int64_t> axes, int rank) {
  for (size_t k = 0; k < axes.size(); ++k) {
    RETURN_IF_ERROR(CheckAxis(axes[k], rank));
    if (k > 0 && axes[k] <= axes[k - 1]) {
      return Error(ErrorCode::kAttributeInvalid, "expected axes in ascending order, each once, found ", axes[k],
                   " after ", axes[k - 1]);
    }
  }
  return OkStatus();
}

StatusOr<Shape> BroadcastOperands(const OpContext& c, int first) {
  Shape shape;
  for (int k = first; k < c.num_inputs(); ++k) {
    if (!c.has_input(k)) continue;
    std::optional<Shape> both = BroadcastShapes(shape, c.shape(k));
    if (!both) {
      return Error(ErrorCode::kShapeMismatch, "operand ", k, ": expected a shape that broadcasts with ", shape,
                   ", found ", c.input(k));
    }
    shape = *std::move(both);
  }
  return shape;
}

Compute StartCompute(const OpContext& c) {
  Compute compute;
  for (int k = 0; k < c.num_inputs(); ++k) {
    compute.inputs.push_back(c.has_input(k) ? c.input(k) : TensorType{DType::kF32, Shape()});
  }
  compute.outputs = c.outputs;
  return compute;
}

Compute ElementwiseCompute(const OpContext& c, Body body) {
  Compute compute = StartCompute(c);
  const Shape& shape = c.outputs[0].shape;
  std::vector<Access> reads;
  for (int k = 0; k < c.num_inputs(); ++k) reads.push_back(Broadcast(In(k), c.shape(k), shape));
  compute.stages.push_back(MapStage("map", shape, std::move(reads), std::move(body), Out()));
  return compute;
}

Reduction ReduceAxes(const Shape& shape, const std::vector<int64_t>& axes, bool keep_dims) {
  Reduction reduction;
  const auto reduced = [&](int d) { return std::find(axes.begin(), axes.end(), d) != axes.end(); };
  std::vector<int64_t> result;
  for (int d = 0; d < shape.rank(); ++d) {
    if (!reduced(d) || keep_dims) result.push_back(reduced(d) ? 1 : shape[d]);
  }
  reduction.result = Shape(result);
  reduction.extents = std::move(result);
  int next = 0;
  for (int d = 0; d < shape.rank(); ++d) {
    if (reduced(d)) {
      reduction.index.push_back(Axis(static_cast<int>(reduction.extents.size())));
      reduction.extents.push_back(shape[d]);
      next += keep_dims;
    } else {
      reduction.index.push_back(Axis(next++));
    }
  }
  return reduction;
}

Stage Reduction::MakeStage(std::string name, std::vector<Access> reads, Body body, Combiner combiner,
                           BufferRef out) const {
  Stage stage;
  stage.name = std::move(name);
  stage.extents = extents;
  stage.parallel_rank = parallel_rank();
  stage.reads = std::move(reads);
  stage.body = std::move(body);
  stage.combiner = combiner;
  stage.write = Result(out);
  return stage;
}

void ForEachGroup(const Shape& shape, const std::vector<int64_t>& axes,
                  const std::function<void(int64_t, const std::vector<int64_t>&)>& visit) {
  const std::vector<int64_t> strides = shape.Strides();
  std::vector<int64_t> kept, kept_strides, combined, combined_strides;
  for (int d = 0; d < shape.rank(); ++d) {
    const bool reduced = std::find(axes.begin(), axes.end(), d) != axes.end();
    (reduced ? combined : kept).push_back(shape[d]);
    (reduced ? combined_strides : kept_strides).push_back(strides[d]);
  }
  const auto offset = [](const std::vector<int64_t>& index, const std::vector<int64_t>& steps) {
    int64_t position = 0;
    for (size_t d = 0; d < index.size(); ++d) position += index[d] * steps[d];
    return position;
  };
  std::vector<int64_t> within;  // the group's positions relative to its first
  ForEachIndex(Shape(combined),
               [&](const std::vector<int64_t>& index) { within.push_back(offset(index, combined_strides)); });
  std::vector<int64_t> group(within.size());
  int64_t k = 0;
  ForEachIndex(Shape(kept), [&](const std::vector<int64_t>& index) {
    const int64_t first = offset(index, kept_strides);
    for (size_t n = 0; n < within.size(); ++n) group[n] = first + within[n];
    visit(k++, group);
  });
}

void ForEachBroadcast(const Shape& shape, std::span<const RefTensor* const> inputs,
                      const std::function<void(int64_t, const std::vector<int64_t>&)>& visit) {
  std::vector<int64_t> positions(inputs.size());
  int64_t k = 0;
  bool plain = true;
  for (const RefTensor* input : inputs) plain &= input->type.shape == shape;
  if (plain) {
    for (const int64_t count = shape.num_elements(); k < count; ++k) {
      std::fill(positions.begin(), positions.end(), k);
      visit(k, positions);
    }
    return;
  }
  ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
    for (size_t n = 0; n < inputs.size(); ++n) {
      const Shape& own = inputs[n]->type.shape;
      int64_t position = 0;
      for (int d = 0; d < own.rank(); ++d) {
        position = position * own[d] + (own[d] == 1 ? 0 : index[shape.rank() - own.rank() + d]);
      }
      positions[n] = position;
    }
    visit(k++, positions);
  });
}

}  // namespace tessera
