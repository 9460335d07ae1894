// Normalisations: each several stages that are sound in f32.
//
//   softmax      max over the axis · sum of exp(x - max) · exp(x - max) / sum       (log_softmax: x - max - log(sum))
//   layer_norm   mean · 1 / sqrt(mean of (x - mean)² + epsilon), a second pass · (x - mean) · that · scale + bias
//   batch_norm   scale / sqrt(variance + epsilon) per channel · (x - mean) · that + bias
#include <cmath>

#include "graph/ops/common.h"

namespace tessera {
namespace {

using Context = const OpContext&;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// ---- softmax, log_softmax ----

StatusOr<std::vector<TensorType>> InferSoftmax(Context c) {
  RETURN_IF_ERROR(CheckType(c, 0, TypeClass::kFloat));
  RETURN_IF_ERROR(CheckAxis(c.attrs.Int("axis"), c.shape(0).rank()));
  return std::vector<TensorType>{c.input(0)};
}

Compute SoftmaxCompute(Context c, bool logarithm) {
  const Shape& shape = c.shape(0);
  const DType dtype = c.dtype(0), type = ComputeType(dtype);
  const Reduction rows = ReduceAxes(shape, {c.attrs.Int("axis")}, true);
  Compute compute = StartCompute(c);
  compute.temps = {{type, rows.result}, {type, rows.result}};
  const Access x = rows.Whole(In(0), shape);
  compute.stages.push_back(rows.MakeStage("row_max", {x}, IdentityBody(dtype), Combiner::kMax, Temp(0)));
  {
    BodyBuilder b;
    const Scalar element = b.Input(dtype), max = b.Input(type);
    compute.stages.push_back(
        rows.MakeStage("exp_sum", {x, rows.Result(Temp(0))}, b.Finish(Exp(element - max)), Combiner::kAdd, Temp(1)));
  }
  if (logarithm) {
    BodyBuilder b;
    compute.stages.back().finish = b.Finish(Log(b.Input(type)));
  }
  BodyBuilder b;
  const Scalar element = b.Input(dtype), max = b.Input(type), sum = b.Input(type);
  Body body = b.Finish(logarithm ? (element - max) - sum : Exp(element - max) / sum);
  compute.stages.push_back(MapStage(
      "normalize", shape,
      {Elementwise(In(0), shape), Broadcast(Temp(0), rows.result, shape), Broadcast(Temp(1), rows.result, shape)},
      std::move(body), Out()));
  return compute;
}

template <bool kLogarithm>
void SoftmaxReference(Context c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const std::vector<double>& x = inputs[0]->f;
  ForEachGroup(c.shape(0), {c.attrs.Int("axis")}, [&](int64_t, const std::vector<int64_t>& row) {
    double max = -kInfinity, sum = 0;
    for (int64_t at : row) max = x[at] > max ? x[at] : max;
    for (int64_t at : row) sum += std::exp(x[at] - max);
    for (int64_t at : row) {
      outputs[0].f[at] = kLogarithm ? x[at] - (max + std::log(sum)) : std::exp(x[at] - max) / sum;
    }
  });
}

template <bool kLogarithm>
OpDef SoftmaxOp(std::string_view doc) {
  OpDef def = {};
  def.doc = doc;
  def.attrs = {{"axis", AttrKind::kInt, true, "the dimension along which the exponentials sum to 1"}};
  def.infer = &InferSoftmax;
  def.reference = &SoftmaxReference<kLogarithm>;
  def.compute = [](Context c) { return SoftmaxCompute(c, kLogarithm); };
  return def;
}

// ---- layer_norm ----

// The dimensions from `axis` on.
std::vector<int64_t> InnerAxes(Context c) {
  std::vector<int64_t> axes;
  for (int64_t d = c.attrs.Int("axis"); d < c.shape(0).rank(); ++d) axes.push_back(d);
  return axes;
}

Shape InnerShape(Context c) {
  const std::vector<int64_t>& dims = c.shape(0).dims();
  return Shape(std::vector<int64_t>(dims.begin() + c.attrs.Int("axis"), dims.end()));
}

StatusOr<std::vector<TensorType>> InferLayerNorm(Context c) {
  RETURN_IF_ERROR(CheckType(c, 0, TypeClass::kFloat));
  RETURN_IF_ERROR(CheckAxis(c.attrs.Int("axis"), c.shape(0).rank()));
  for (int k : {1, 2}) {
    if (!c.has_input(k)) continue;
    RETURN_IF_ERROR(CheckType(c, k, TypeClass::kFloat));
    RETURN_IF_ERROR(CheckSameComputeType(c, k, 0));
    RETURN_IF_ERROR(CheckShapeIs(c, k, InnerShape(c)));
  }
  return std::vector<TensorType>{c.input(0)};
}

Compute LayerNormCompute(Context c) {
  const Shape& shape = c.shape(0);
  const DType dtype = c.dtype(0), type = ComputeType(dtype);
  const Reduction rows = ReduceAxes(shape, InnerAxes(c), true);
  const double count = static_cast<double>(InnerShape(c).num_elements());
  Compute compute = StartCompute(c);
  compute.temps = {{type, rows.result}, {type, rows.result}};
  const Access x = rows.Whole(In(0), shape);
  {
    Stage mean = rows.MakeStage("mean", {x}, IdentityBody(dtype), Combiner::kAdd, Temp(0));
    BodyBuilder b;
    mean.finish = b.Finish(b.Input(type) / count);
    compute.stages.push_back(std::move(mean));
  }
  {
    BodyBuilder b;
    const Scalar element = b.Input(dtype), mean = b.Input(type);
    const Scalar deviation = element - mean;
    Stage scale = rows.MakeStage("inverse_deviation", {x, rows.Result(Temp(0))}, b.Finish(deviation * deviation),
                                 Combiner::kAdd, Temp(1));
    BodyBuilder f;
    scale.finish = f.Finish(1.0 / Sqrt(f.Input(type) / count + c.attrs.Float("epsilon")));
    compute.stages.push_back(std::move(scale));
  }
  std::vector<Access> reads = {Elementwise(In(0), shape), Broadcast(Temp(0), rows.result, shape),
                               Broadcast(Temp(1), rows.result, shape)};
  BodyBuilder b;
  const Scalar element = b.Input(dtype), mean = b.Input(type), inverse = b.Input(type);
  Scalar value = (element - mean) * inverse;
  for (int k : {1, 2}) {
    if (!c.has_input(k)) continue;
    reads.push_back(Broadcast(In(k), c.shape(k), shape));
    const Scalar operand = b.Input(c.dtype(k));
    value = k == 1 ? value * operand : value + operand;
  }
  compute.stages.push_back(MapStage("normalize", shape, std::move(reads), b.Finish(value), Out()));
  return compute;
}

void LayerNormReference(Context c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const std::vector<double>& x = inputs[0]->f;
  const RefTensor* scale = c.has_input(1) ? inputs[1] : nullptr;
  const RefTensor* bias = c.has_input(2) ? inputs[2] : nullptr;
  ForEachGroup(c.shape(0), InnerAxes(c), [&](int64_t, const std::vector<int64_t>& row) {
    double mean = 0, variance = 0;
    for (int64_t at : row) mean += x[at] / static_cast<double>(row.size());
    for (int64_t at : row) variance += (x[at] - mean) * (x[at] - mean) / static_cast<double>(row.size());
    for (size_t n = 0; n < row.size(); ++n) {
      const double normal = (x[row[n]] - mean) / std::sqrt(variance + c.attrs.Float("epsilon"));
      outputs[0].f[row[n]] = normal * (scale ? scale->f[n] : 1) + (bias ? bias->f[n] : 0);
    }
  });
}

// ---- batch_norm ----

StatusOr<std::vector<TensorType>> InferBatchNorm(Context c) {
  const int64_t axis = c.attrs.Int("axis", 1);
  RETURN_IF_ERROR(CheckAxis(axis, c.shape(0).rank()));
  const Shape channels = {c.shape(0)[static_cast<int>(axis)]};
  for (int k = 0; k < 5; ++k) {
    RETURN_IF_ERROR(CheckType(c, k, TypeClass::kFloat));
    RETURN_IF_ERROR(CheckSameComputeType(c, k, 0));
    if (k > 0) RETURN_IF_ERROR(CheckShapeIs(c, k, channels));
  }
  return std::vector<TensorType>{c.input(0)};
}

Compute BatchNormCompute(Context c) {
  const Shape& shape = c.shape(0);
  const int axis = static_cast<int>(c.attrs.Int("axis", 1));
  const Shape channels = {shape[axis]};
  const DType type = ComputeType(c.dtype(0));
  Compute compute = StartCompute(c);
  compute.temps = {{type, channels}};
  {
    BodyBuilder b;
    const Scalar scale = b.Input(c.dtype(1)), variance = b.Input(c.dtype(4));
    compute.stages.push_back(MapStage("channel_scale", channels,
                                      {Elementwise(In(1), channels), Elementwise(In(4), channels)},
                                      b.Finish(scale / Sqrt(variance + c.attrs.Float("epsilon"))), Temp(0)));
  }
  const auto of_channel = [&](BufferRef buffer) {
    return Access{.buffer = buffer, .view = channels, .index = {Axis(axis)}};
  };
  BodyBuilder b;
  const Scalar x = b.Input(c.dtype(0)), mean = b.Input(c.dtype(3)), factor = b.Input(type), bias = b.Input(c.dtype(2));
  compute.stages.push_back(MapStage(
      "normalize", shape, {Elementwise(In(0), shape), of_channel(In(3)), of_channel(Temp(0)), of_channel(In(2))},
      b.Finish((x - mean) * factor + bias), Out()));
  return compute;
}

void BatchNormReference(Context c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const int axis = static_cast<int>(c.attrs.Int("axis", 1));
  int64_t k = 0;
  ForEachIndex(c.shape(0), [&](const std::vector<int64_t>& index) {
    const int64_t channel = index[axis];
    const double normal =
        (inputs[0]->f[k] - inputs[3]->f[channel]) / std::sqrt(inputs[4]->f[channel] + c.attrs.Float("epsilon"));
    outputs[0].f[k++] = inputs[1]->f[channel] * normal + inputs[2]->f[channel];
  });
}

}  // namespace

OpDef MakeSoftmaxOp() { return SoftmaxOp<false>("e^x / (sum of e^x along the axis)."); }
OpDef MakeLogSoftmaxOp() { return SoftmaxOp<true>("The logarithm of softmax."); }

OpDef MakeLayerNormOp() {
  OpDef def = {};
  def.doc = "(x - mean) / sqrt(variance + epsilon) * scale + bias over the dimensions from axis on.";
  def.max_inputs = 3;
  def.attrs = {{"axis", AttrKind::kInt, true, "the first dimension that is normalised over"},
               {"epsilon", AttrKind::kFloat, true, "added to the variance"}};
  def.infer = &InferLayerNorm;
  def.reference = &LayerNormReference;
  def.compute = &LayerNormCompute;
  return def;
}

OpDef MakeBatchNormOp() {
  OpDef def = {};
  def.doc = "scale * (x - mean) / sqrt(variance + epsilon) + bias, all of them per channel.";
  def.min_inputs = def.max_inputs = 5;
  def.attrs = {{"epsilon", AttrKind::kFloat, true, "added to the variance"},
               {"axis", AttrKind::kInt, false, "the dimension of the channels; default 1"}};
  def.infer = &InferBatchNorm;
  def.reference = &BatchNormReference;
  def.compute = &BatchNormCompute;
  return def;
}

}  // namespace tessera
