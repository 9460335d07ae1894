#include "graph/passes/integer_product.h"

#include <algorithm>
#include <utility>

#include "graph/interpreter.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr int64_t kLow = -128, kHigh = 127;
constexpr int64_t kMaxActivation = 255;
// Weights of which an importer could not say anything, as they had a zero point, count as pruned from this share on.
constexpr double kMinZeroShare = 0.5;

// The left operand of a product: i8 or u8, and what takes it to the reals (or integers) that are meant.
struct LeftOperand {
  ValueId integers = ValueId::kNone;
  Scaling scaling;
};

// x of a product of integers: x, cast(x), or what a zero point is subtracted from: sub(cast(x), cast(zero)).
std::optional<LeftOperand> ReadIntegers(const Rewriter& r, ValueId id) {
  LeftOperand x;
  x.scaling.zero_value = 0;
  if (r.ProducerIs(id, Op::kSub)) {
    const Node& node = r.node(r.Producer(id));
    ValueId zero = node.inputs[1];
    if (r.shape(zero).num_elements() != 1 || r.shape(node.inputs[0]) != r.shape(id)) return std::nullopt;
    if (r.ProducerIs(zero, Op::kCast)) zero = r.node(r.Producer(zero)).inputs[0];
    if (!IsInteger(r.type(zero).dtype) || TypeInfo(r.type(zero).dtype).bits > 32) return std::nullopt;
    x.scaling.zero_point = zero;
    x.scaling.zero_value.reset();
    if (r.graph().IsConstant(zero)) x.scaling.zero_value = r.value(zero).constant.GetInt(0);
    id = node.inputs[0];
  } else if (r.ProducerIs(id, Op::kAdd)) {  // as canonicalize writes a constant that is subtracted
    const Node& node = r.node(r.Producer(id));
    const ValueId zero = node.inputs[1];
    if (!r.graph().IsConstant(zero) || r.shape(zero).num_elements() != 1) return std::nullopt;
    x.scaling.zero_value = -r.value(zero).constant.GetInt(0);
    id = node.inputs[0];
  }
  if (r.ProducerIs(id, Op::kCast) && r.type(id).dtype == DType::kI32) id = r.node(r.Producer(id)).inputs[0];
  x.integers = id;
  return x;
}

std::optional<LeftOperand> ReadLeft(const Rewriter& r, const Node& node, std::string* why) {
  std::optional<LeftOperand> x;
  if (IsFloat(r.type(node.outputs[0]).dtype)) {
    if (const std::optional<Dequantized> d = ReadDequantize(r, node.inputs[0]))
      x = LeftOperand{d->integers, d->scaling};
  } else {
    x = ReadIntegers(r, node.inputs[0]);
  }
  if (!x) {
    *why = "its first operand is not quantised with one scale";
    return std::nullopt;
  }
  const DType dtype = r.type(x->integers).dtype;
  if (dtype != DType::kU8 && dtype != DType::kI8) {
    *why = internal::Join("its first operand is ", dtype, ", not an integer of 8 bits");
    return std::nullopt;
  }
  if (r.graph().IsConstant(x->integers)) {
    *why = "its first operand is a constant";
    return std::nullopt;
  }
  const std::optional<int64_t>& zero = x->scaling.zero_value;
  if (!zero && dtype == DType::kI8) {
    *why = "the zero point of its signed first operand is computed";
    return std::nullopt;
  }
  if (zero && (*zero < MinInt(dtype) || *zero > MaxInt(dtype))) {
    *why = internal::Join("the zero point of its first operand, ", *zero, ", is not of its type");
    return std::nullopt;
  }
  return x;
}

bool HasPads(const Node& node) {
  if (node.op != Op::kConv) return false;
  const std::vector<int64_t>& pads = node.attrs.Ints("pads");
  return std::any_of(pads.begin(), pads.end(), [](int64_t pad) { return pad != 0; });
}

// matmul or conv `like` of x with `weights` instead of its own.
Node ProductLike(const Node& like, ValueId x, ValueId weights, std::optional<int64_t> zero) {
  Node node = MakeNode(like.op, like.name, {x, weights}, like.attrs);
  node.attrs.Erase("pad_value");
  if (HasPads(like) && zero.value_or(0) != 0) node.attrs.Set("pad_value", *zero);
  return node;
}

// The sums of x that each element of the product is made of, broadcast to it: a product with ones.
ValueId EmitSums(Rewriter& r, NodeId before, const ProductForm& form, const IntegerActivation& x,
                 const IntegerWeights& weights) {
  const Node& node = form.node;
  Shape shape = weights.shape;
  int64_t groups = 1;
  if (node.op == Op::kConv) groups = node.attrs.Int("groups");
  const int64_t channels_of_group = weights.channels() / groups;
  shape[weights.channel_axis] = groups;
  const ValueId ones = r.Constant(weights.name + ".ones", Tensor::Full(DType::kI8, shape, 1));
  Node product = ProductLike(node, x.integers, ones, x.zero);
  product.name += ".sums";
  const ValueId sums = r.Emit(before, std::move(product));
  if (groups == 1 || channels_of_group == 1 || !r.status().ok()) return sums;
  // One sum for all channels of a group.
  std::vector<int64_t> group_of;
  for (int64_t c = 0; c < weights.channels(); ++c) group_of.push_back(c / channels_of_group);
  const Shape count = {weights.channels()};
  const ValueId indices = r.Constant(weights.name + ".groups", Tensor::FromVector<int64_t>(count, group_of));
  return r.Emit(before, Op::kGather, {sums, indices}, MakeAttrs({{"axis", int64_t{form.channel_dim()}}}),
                node.name + ".sums");
}

// What a zero point of 1 takes from each sum: the weights that meet x there. One value for each channel, or, where
// padding counts as nothing (a computed zero point cannot be a pad_value), one for each element of the result.
ValueId WeightSums(Rewriter& r, const ProductForm& form, const IntegerActivation& x, const IntegerWeights& weights,
                   const FittedWeights& fitted) {
  const Node& node = form.node;
  const std::string name = weights.name + ".sums";
  const int rank = form.result.rank(), dim = form.channel_dim();
  if (!HasPads(node)) {
    return ConstantAlong(r, name, DType::kI32, rank, dim, {fitted.sums.begin(), fitted.sums.end()});
  }
  Graph part;
  Node conv = ProductLike(node, ValueId::kNone, ValueId::kNone, std::nullopt);
  Shape image = r.shape(x.integers);
  image[0] = 1;
  Tensor meant(DType::kI32, weights.shape);
  for (int64_t k = 0; k < meant.num_elements(); ++k) meant.SetInt(k, weights.values[static_cast<size_t>(k)]);
  const Tensor ones = Tensor::Full(DType::kI32, image, 1);
  conv.inputs = {part.AddValue({.name = "x", .type = ones.type(), .kind = ValueKind::kInput}),
                 part.AddValue({.name = "w", .type = meant.type(), .kind = ValueKind::kInput})};
  Shape result = form.result;
  result[0] = 1;
  conv.outputs = {part.AddValue({.name = "y", .type = {DType::kI32, result}})};
  const RefTensor all_ones = RefTensor::From(ones), w = RefTensor::From(meant);
  const RefTensor* operands[] = {&all_ones, &w};
  return r.Constant(name, InterpretNode(part, conv, operands)[0].ToTensor());
}

}  // namespace

ValueId ConstantAlong(Rewriter& r, const std::string& name, DType dtype, int rank, int dim,
                      const std::vector<double>& values) {
  const bool uniform = std::all_of(values.begin(), values.end(), [&](double v) { return v == values[0]; });
  Tensor tensor(dtype, uniform ? Shape() : AlongDim(rank, dim, static_cast<int64_t>(values.size())));
  for (int64_t k = 0; k < tensor.num_elements(); ++k) tensor.Set(k, values[static_cast<size_t>(k)]);
  return r.Constant(name, std::move(tensor));
}

std::optional<FittedWeights> FitWeights(const IntegerWeights& weights, std::string* why) {
  const int64_t channels = weights.channels(), step = weights.shape.Strides()[weights.channel_axis];
  const int64_t count = weights.shape.num_elements();
  std::vector<int64_t> low(channels, 0), high(channels, 0);
  // Runs of `step` elements belong to one channel, and channels follow each other.
  const auto each = [&](auto&& visit) {
    for (int64_t k = 0; k < count;) {
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t end = k + step; k < end; ++k) visit(k, c, weights.values[static_cast<size_t>(k)]);
      }
    }
  };
  each([&](int64_t, int64_t c, int64_t v) {
    low[c] = std::min(low[c], v);
    high[c] = std::max(high[c], v);
  });
  FittedWeights fitted = {.i8 = Tensor(DType::kI8, weights.shape)};
  for (int64_t c = 0; c < channels; ++c) {
    int64_t shift = 0;
    if (high[c] > kHigh) shift = kHigh - high[c];
    if (low[c] < kLow) shift = kLow - low[c];
    if (low[c] + shift < kLow || high[c] + shift > kHigh) {
      *why = internal::Join("weights of channel ", c, " reach from ", low[c], " to ", high[c],
                            ", further than 8 bits with any zero point");
      return std::nullopt;
    }
    fitted.shifts.push_back(shift);
    fitted.shifted |= shift != 0;
  }
  fitted.sums.assign(channels, 0);
  fitted.magnitudes.assign(channels, 0);
  int64_t zeros = 0;
  const std::span<int8_t> to = fitted.i8.mutable_data<int8_t>();
  each([&](int64_t k, int64_t c, int64_t v) {
    const int64_t stored = v + fitted.shifts[c];
    to[static_cast<size_t>(k)] = static_cast<int8_t>(stored);
    fitted.sums[c] += v;
    fitted.magnitudes[c] += stored < 0 ? -stored : stored;
    zeros += v == 0;
  });
  if (fitted.shifted) return fitted;
  if (weights.tesa) {
    fitted.tesa = weights.tesa;
  } else if (weights.zeros_not_looked_for && static_cast<double>(zeros) >= kMinZeroShare * static_cast<double>(count)) {
    fitted.tesa = Attribute::FromZeros(fitted.i8);
  }
  return fitted;
}

bool MayOverflow(const FittedWeights& fitted, int64_t terms, const std::vector<int64_t>& bias) {
  for (size_t c = 0; c < fitted.sums.size(); ++c) {
    const int64_t shift = std::abs(fitted.shifts[c]);
    int64_t most = kMaxActivation * (fitted.magnitudes[c] + std::abs(fitted.sums[c]) + shift * terms);
    if (!bias.empty()) most += std::abs(bias[c]);
    if (most > INT32_MAX) return true;
  }
  return false;
}

ValueId EmitIntegerProduct(Rewriter& r, NodeId before, const ProductForm& form, const IntegerActivation& x,
                           const IntegerWeights& weights, const FittedWeights& fitted,
                           const std::vector<int64_t>& bias) {
  const Node& node = form.node;
  const int rank = form.result.rank(), dim = form.channel_dim();
  const auto emit = [&](Op op, std::vector<ValueId> inputs) {
    return r.status().ok() ? r.Emit(before, op, std::move(inputs), {}, node.name) : ValueId::kNone;
  };
  Node product = ProductLike(node, x.integers, r.Constant(weights.name, fitted.i8, fitted.tesa), x.zero);
  if (!x.zero) {
    BodyBuilder b;
    const Scalar sum = b.Input(DType::kI32), zero = b.Input(r.type(x.computed_zero).dtype), of = b.Input(DType::kI32);
    Epilogue epilogue = {.dtype = DType::kI32};
    epilogue.inputs = {x.computed_zero, WeightSums(r, form, x, weights, fitted)};
    epilogue.body = b.Finish(sum - zero * of);
    product.epilogue = std::move(epilogue);
  }
  ValueId sums = r.Emit(before, std::move(product));
  if (fitted.shifted) {
    const ValueId of_x = EmitSums(r, before, form, x, weights);
    const ValueId shifts = ConstantAlong(r, weights.name + ".shifts", DType::kI32, rank, dim,
                                         {fitted.shifts.begin(), fitted.shifts.end()});
    sums = emit(Op::kSub, {sums, emit(Op::kMul, {of_x, shifts})});
  }
  std::vector<double> corrections(fitted.sums.size(), 0);
  for (size_t c = 0; c < corrections.size(); ++c) {
    const int64_t zero = -x.zero.value_or(0) * fitted.sums[c];
    corrections[c] = static_cast<double>(zero + (bias.empty() ? 0 : bias[c]));
  }
  if (std::all_of(corrections.begin(), corrections.end(), [](double v) { return v == 0; })) return sums;
  return emit(Op::kAdd, {sums, ConstantAlong(r, weights.name + ".correction", DType::kI32, rank, dim, corrections)});
}

std::optional<ProductParts> ReadProduct(const Rewriter& r, const Node& node, std::string* why) {
  const DType dtype = r.type(node.outputs[0]).dtype;
  if (dtype != DType::kF32 && dtype != DType::kI32) {
    *why = internal::Join("its result is ", dtype);
    return std::nullopt;
  }
  if (node.attrs.Has("pad_value")) {
    *why = "it has a pad value already";
    return std::nullopt;
  }
  ProductParts parts;
  std::optional<LeftOperand> x = ReadLeft(r, node, why);
  if (!x) return std::nullopt;
  parts.x = x->integers;
  parts.scaling = x->scaling;
  std::optional<IntegerWeights> weights = ReadIntegerWeights(r, node, why);
  if (!weights) return std::nullopt;
  parts.weights = *std::move(weights);
  if (parts.weights.values.empty() || r.shape(node.outputs[0]).num_elements() == 0) {
    *why = "there is nothing to compute";
    return std::nullopt;
  }
  std::optional<FittedWeights> fitted = FitWeights(parts.weights, why);
  if (!fitted) return std::nullopt;
  parts.fitted = *std::move(fitted);
  parts.terms = parts.weights.shape.num_elements() / parts.weights.channels();
  if (MayOverflow(parts.fitted, parts.terms, {})) {
    *why = internal::Join("32 bits may not hold a sum of its ", parts.terms, " products");
    return std::nullopt;
  }
  return parts;
}

}  // namespace tessera
