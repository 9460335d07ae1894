#include "graph/testing/random_quantized.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "graph/builder.h"

namespace tessera {
namespace {

using Dims = std::vector<int64_t>;
constexpr int64_t kMaxElements = 4000;

// A quantised activation: the integers, and what makes them reals.
struct Quantised {
  ValueId integers = ValueId::kNone, scale = ValueId::kNone, zero = ValueId::kNone;
  double scale_value = 0;
  ValueId real = ValueId::kNone;  // the dequantize that all readers share, once there is one
};

class Maker {
 public:
  Maker(uint64_t seed, const QuantizedOptions& options)
      : rng_(seed), options_(options), b_("quantised" + std::to_string(seed)) {}

  QuantizedCase Make() {
    AddInput({Int(1, 2), Int(1, 3) * 2, Int(4, 7), Int(4, 7)});
    AddInput({Int(1, 2), Int(2, 5), Int(1, 4) * 4});
    if (Chance(0.4)) AddInput({Int(1, 6), Int(5, 21)});
    for (int k = 0; k < options_.pieces; ++k) Piece();
    for (size_t k = 0; k < pool_.size(); ++k) {
      if (!read_[k] || Chance(0.1)) b_.Output(Chance(0.5) ? pool_[k].integers : b_.Relu(Real(k)));
    }
    StatusOr<Graph> graph = std::move(b_).Build();
    TES_CHECK(graph.ok(), graph.status());
    RemoveDeadNodes(*graph);
    return {*std::move(graph), std::move(inputs_)};
  }

 private:
  int64_t Int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng_); }
  bool Chance(double p) { return std::bernoulli_distribution(p)(rng_); }
  double Uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(rng_); }
  std::string Fresh(const std::string& what) { return what + std::to_string(next_++); }
  const Shape& ShapeOf(ValueId x) {
    TES_CHECK(b_.status().ok(), b_.status());
    return b_.ShapeOf(x);
  }

  // ---- quantised values ----

  double Scale(double about) {
    if (options_.exact)
      return std::ldexp(1, static_cast<int>(std::lround(std::log2(about))) + static_cast<int>(Int(-1, 1)));
    return static_cast<float>(about * Uniform(0.5, 1.5));
  }
  ValueId Number(double value) { return b_.Constant(Fresh("scale"), Tensor::Full(DType::kF32, Shape(), value)); }

  // Quantises a real, which the pool then holds. A scale and zero point of its own, or those of `like`.
  void Keep(ValueId real, const Quantised* like = nullptr) {
    if (ShapeOf(real).num_elements() > kMaxElements) return;
    Quantised q;
    const DType dtype = like != nullptr ? b_.TypeOf(like->integers).dtype : (Chance(0.6) ? DType::kU8 : DType::kI8);
    if (like != nullptr) {
      q.scale_value = like->scale_value;
      q.zero = like->zero;
    } else {
      q.scale_value = Scale(0.03);
      if (Chance(0.8)) {
        const double zero = static_cast<double>(dtype == DType::kU8 ? Int(0, 255) : Int(-128, 127));
        q.zero = b_.Constant(Fresh("zero"), Tensor::Full(dtype, Shape(), zero));
      }
    }
    q.scale = Number(q.scale_value);
    q.integers = b_.Quantize(real, q.scale, q.zero, dtype);
    Add(q);
  }
  void Add(Quantised q) {
    pool_.push_back(q);
    read_.push_back(false);
  }

  void AddInput(Shape shape) {
    const std::string name = "x" + std::to_string(inputs_.size());
    if (options_.integer_inputs || Chance(0.3)) {  // integers come in, as into TFLite's networks
      Quantised q = {.scale_value = Scale(0.03)};
      const DType dtype = Chance(0.5) ? DType::kU8 : DType::kI8;
      q.scale = Number(q.scale_value);
      q.zero = b_.Constant(Fresh("zero"), Tensor::Full(dtype, Shape(), static_cast<double>(Int(0, 100))));
      Tensor data(dtype, shape);
      for (int64_t k = 0; k < data.num_elements(); ++k) data.SetInt(k, Int(MinInt(dtype), MaxInt(dtype)));
      q.integers = b_.Input(name, dtype, shape);
      inputs_.push_back(std::move(data));
      return Add(q);
    }
    Tensor data(DType::kF32, shape);
    for (int64_t k = 0; k < data.num_elements(); ++k) {
      data.Set(k, options_.exact ? std::ldexp(static_cast<double>(Int(-512, 512)), -8) : Uniform(-2, 2));
    }
    inputs_.push_back(std::move(data));
    Keep(b_.Input(name, DType::kF32, shape));
  }

  // A value of such rank, rather a recent one; -1: none was found.
  int Pick(int min_rank, int max_rank) {
    for (int attempt = 0; attempt < 30; ++attempt) {
      const int64_t last = static_cast<int64_t>(pool_.size()) - 1;
      const int64_t k = Chance(0.5) ? std::max<int64_t>(0, last - Int(0, 2)) : Int(0, last);
      const int rank = ShapeOf(pool_[k].integers).rank();
      if (rank < min_rank || rank > max_rank) continue;
      read_[k] = true;
      return static_cast<int>(k);
    }
    return -1;
  }

  // The reals of a pooled value: by a dequantize of its own, or by the one that others read.
  ValueId Real(size_t k) {
    Quantised& q = pool_[k];
    if (q.real != ValueId::kNone && Chance(0.6)) return q.real;
    const ValueId scale = Chance(0.5) ? q.scale : Number(q.scale_value);
    return q.real = b_.Dequantize(q.integers, scale, q.zero);
  }

  // ---- weights and biases ----

  struct Weights {
    ValueId integers = ValueId::kNone, real = ValueId::kNone;
    std::vector<double> scales;
  };

  Weights MakeWeights(const Shape& shape, int channel_axis) {
    const DType dtype = Chance(0.7) ? DType::kI8 : (Chance(0.6) ? DType::kU8 : (Chance(0.5) ? DType::kI4 : DType::kU4));
    const bool shifted = dtype == DType::kU8 || dtype == DType::kU4 || Chance(0.2);
    const bool per_channel = Chance(0.6);
    const int64_t channels = shape[channel_axis], count = per_channel ? channels : 1;
    const Shape scale_shape = per_channel ? Shape{channels} : Shape();
    Weights w;
    Tensor data(dtype, shape), scales(DType::kF32, scale_shape), zeros(dtype, scale_shape);
    const int64_t terms = std::max<int64_t>(1, shape.num_elements() / std::max<int64_t>(1, channels));
    const int bits = TypeInfo(dtype).bits;
    for (int64_t c = 0; c < count; ++c) {
      scales.Set(c, Scale(2.0 / std::ldexp(std::sqrt(static_cast<double>(terms)), bits - 1)));
      w.scales.push_back(scales.Get(c));
      const int64_t middle = (MinInt(dtype) + MaxInt(dtype) + 1) / 2, reach = bits == 8 ? 10 : 2;
      if (shifted) zeros.SetInt(c, middle + Int(-reach, reach));
    }
    for (int64_t k = 0; k < data.num_elements(); ++k) data.SetInt(k, Int(MinInt(dtype), MaxInt(dtype)));
    std::optional<Attribute> tesa;
    if (!shifted && Chance(0.5)) {
      std::vector<uint8_t> kept(static_cast<size_t>(data.num_elements()));
      const double density = Uniform(0, 1);
      for (uint8_t& k : kept) k = Chance(density) ? 1 : 0;
      tesa = Attribute::FromKept(shape, kept, bits);
      data = tesa->ApplyTo(data);
    }
    w.integers = b_.Constant(Fresh("w"), std::move(data));
    if (tesa) b_.SetTesa(w.integers, *std::move(tesa));
    const ValueId scale = b_.Constant(Fresh("scale"), std::move(scales));
    const ValueId zero = shifted || Chance(0.5) ? b_.Constant(Fresh("zero"), std::move(zeros)) : ValueId::kNone;
    const std::optional<int64_t> axis = per_channel ? std::optional<int64_t>(channel_axis) : std::nullopt;
    w.real = b_.Dequantize(w.integers, scale, zero, axis);
    return w;
  }

  // y + bias along `dim`: none, reals, or integers with the scale of the product or another one.
  ValueId Biased(ValueId y, int dim, double x_scale, const Weights& w) {
    const Shape shape = ShapeOf(y);
    const int64_t channels = shape[dim];
    Dims dims(static_cast<size_t>(shape.rank() - dim), 1);
    dims[0] = channels;
    const int64_t kind = Int(0, 4);
    if (kind == 0) return y;
    if (kind == 1) {
      Tensor bias(DType::kF32, Shape(dims));
      for (int64_t k = 0; k < channels; ++k) {
        bias.Set(k, options_.exact ? std::ldexp(static_cast<double>(Int(-64, 64)), -6) : Uniform(-1, 1));
      }
      const ValueId constant = b_.Constant(Fresh("bias"), std::move(bias));
      return Chance(0.5) ? b_.Add(y, constant) : b_.Add(constant, y);
    }
    const bool other_scale = kind == 2 && Chance(0.5);
    const bool per_channel = w.scales.size() > 1;
    Tensor bias(DType::kI32, {channels}), scales(DType::kF32, per_channel ? Shape{channels} : Shape());
    for (int64_t k = 0; k < scales.num_elements(); ++k) {
      scales.Set(k, x_scale * w.scales[static_cast<size_t>(k)] * (other_scale ? 2 : 1));
    }
    for (int64_t k = 0; k < channels; ++k) bias.SetInt(k, Int(-4000, 4000));
    const ValueId integers = b_.Constant(Fresh("bias"), std::move(bias));
    const std::optional<int64_t> axis = per_channel ? std::optional<int64_t>(0) : std::nullopt;
    ValueId real = b_.Dequantize(integers, b_.Constant(Fresh("scale"), std::move(scales)), ValueId::kNone, axis);
    if (dims.size() > 1) real = b_.Reshape(real, dims);
    return b_.Add(y, real);
  }

  ValueId Activated(ValueId y) {
    switch (Int(0, plain_ ? 4 : 7)) {
      case 0:
      case 1: return b_.Relu(y);
      case 2: return b_.Clip(y, 0, 6);
      case 3: return b_.Max(y, b_.Number(-0.5));
      case 5: return b_.Gelu(y);
      case 6: return b_.Sigmoid(y);
      case 7: return b_.HardSwish(y);
      default: return y;
    }
  }

  // ---- pieces ----

  void Piece() {
    switch (Int(0, 14)) {
      case 0:
      case 1:
      case 2:
      case 3: return Conv();
      case 4:
      case 5: return Linear();
      case 6: return Residual();
      case 7: return Pool();
      case 8: return Join();
      case 9: return Mean();
      case 10: return plain_ ? Linear() : Float();
      case 11: return Integers();
      case 12: return plain_ ? Conv() : Dynamic();
      case 13: return Computed();
      default: return Move();
    }
  }

  void Conv() {
    const int k = Pick(4, 4);
    if (k < 0) return;
    const Shape shape = ShapeOf(pool_[k].integers);
    const bool last = Chance(0.3);
    const int64_t channels = shape[last ? 3 : 1];
    if (channels > 24) return;
    int64_t groups = 1, outputs = Int(1, 9);
    if (Chance(0.3)) groups = outputs = channels;
    if (Chance(0.2) && channels % 2 == 0) groups = 2, outputs = 2 * Int(1, 3);
    WindowParams window = {.layout = last ? "nhwc" : "nchw"};
    Dims kernel, pads;
    for (int i = 0; i < 2; ++i) {
      kernel.push_back(std::min<int64_t>(shape[(last ? 1 : 2) + i], Int(1, 3)));
      window.strides.push_back(Int(1, 2));
      pads.push_back(kernel.back() > 1 ? Int(0, 1) : 0);
    }
    window.pads = pads;
    window.pads.insert(window.pads.end(), pads.begin(), pads.end());
    const Weights w = MakeWeights({outputs, channels / groups, kernel[0], kernel[1]}, 0);
    ValueId y = b_.Named(Fresh("conv")).Conv(Real(k), w.real, window, groups);
    y = Biased(y, last ? 3 : 1, pool_[k].scale_value, w);
    Keep(Activated(y));
  }

  void Linear() {
    const int k = Pick(2, 3);
    if (k < 0) return;
    const Shape shape = ShapeOf(pool_[k].integers);
    const int64_t depth = shape[shape.rank() - 1], width = Int(1, 18);
    if (depth > 40) return;
    const bool transposed = Chance(0.4), detour = Chance(0.2);
    const Weights w = transposed || detour ? MakeWeights({width, depth}, 0) : MakeWeights({depth, width}, 1);
    const ValueId weights = detour ? b_.Transpose(w.real, {1, 0}) : w.real;
    ValueId y = b_.Named(Fresh("fc")).Matmul(Real(k), weights, false, transposed && !detour);
    y = Biased(y, shape.rank() - 1, pool_[k].scale_value, w);
    if (Chance(0.15)) b_.Output(y);
    Keep(Activated(y));
  }

  void Residual() {
    const int k = Pick(2, 4);
    if (k < 0) return;
    for (size_t other = 0; other < pool_.size(); ++other) {
      if (static_cast<int>(other) == k || ShapeOf(pool_[other].integers) != ShapeOf(pool_[k].integers)) continue;
      read_[other] = true;
      const ValueId a = Real(k), c = Real(other);
      return Keep(Activated(Chance(0.8) || options_.exact ? b_.Add(a, c) : b_.Mul(a, c)));
    }
    Keep(b_.Add(Real(k), b_.Number(0.5)));
  }

  void Pool() {
    const int k = Pick(4, 4);
    if (k < 0) return;
    const Quantised q = pool_[k];
    const Shape shape = ShapeOf(q.integers);
    if (shape[2] < 2 || shape[3] < 2) return;
    const int64_t pad = Int(0, 1);
    const WindowParams window = {.strides = {Int(1, 2), 1}, .pads = {pad, pad, pad, pad}};
    const Dims kernel = {2, options_.exact ? 2 : Int(1, 2) + 1};
    if (kernel[1] > shape[3]) return;
    if (Chance(0.5)) return Keep(b_.MaxPool(Real(k), kernel, window), Chance(0.7) ? &q : nullptr);
    Keep(b_.AvgPool(Real(k), kernel, window, options_.exact || Chance(0.5)));
  }

  void Mean() {
    const int k = Pick(3, 4);
    if (k < 0) return;
    const Shape shape = ShapeOf(pool_[k].integers);
    Dims axes = {2};
    if (shape.rank() == 4 && Chance(0.7)) axes = {2, 3};
    int64_t count = 1;
    for (int64_t axis : axes) count *= shape[static_cast<int>(axis)];
    if (options_.exact && (count & (count - 1)) != 0) return;
    Keep(b_.Reduce(Op::kReduceMean, Real(k), axes, shape.rank() == 3 || Chance(0.5)));
  }

  // Integers of one scaling, or of several, side by side.
  void Join() {
    const int k = Pick(2, 4);
    if (k < 0) return;
    const Quantised q = pool_[k];
    ValueId other = Real(k);
    for (size_t o = 0; o < pool_.size(); ++o) {
      if (static_cast<int>(o) != k && ShapeOf(pool_[o].integers) == ShapeOf(q.integers) && Chance(0.7)) {
        read_[o] = true;
        other = Real(o);
      }
    }
    Keep(b_.Concat({Real(k), other}, Int(1, ShapeOf(q.integers).rank() - 1)), Chance(0.5) ? &q : nullptr);
  }

  void Move() {
    const int k = Pick(2, 4);
    if (k < 0) return;
    const Quantised q = pool_[k];
    const Shape shape = ShapeOf(q.integers);
    const ValueId real = Real(k);
    ValueId moved = ValueId::kNone;
    const int last = shape.rank() - 1;
    switch (Int(0, 4)) {
      case 0: moved = b_.Reshape(real, {shape[0], shape.num_elements() / shape[0]}); break;
      case 1: {
        Dims perm;
        for (int d = 0; d <= last; ++d) perm.push_back(d);
        std::shuffle(perm.begin(), perm.end(), rng_);
        moved = b_.Transpose(real, perm);
        break;
      }
      case 2: {
        Dims starts(shape.rank(), 0), sizes = shape.dims();
        sizes[last] = Int(1, sizes[last]);
        starts[last] = Int(0, shape[last] - sizes[last]);
        moved = b_.Slice(real, starts, sizes, Dims(shape.rank(), 1));
        break;
      }
      case 3: {
        Dims pads(2 * shape.rank(), 0);
        pads[last] = 1;
        pads[2 * shape.rank() - 1] = Int(0, 2);
        moved = b_.Pad(real, pads, "constant", Chance(0.8) ? 0 : 0.5);
        break;
      }
      default: moved = b_.Relu(real); break;
    }
    Keep(moved, Chance(0.7) ? &q : nullptr);
  }

  // What has no integer form.
  void Float() {
    const int k = Pick(2, 4);
    if (k < 0) return;
    const ValueId x = Real(k);
    const int64_t last = ShapeOf(x).rank() - 1;
    if (Chance(0.3)) return Keep(b_.Softmax(x, last));
    if (Chance(0.3)) return Keep(b_.LayerNorm(x, ValueId::kNone, ValueId::kNone, last));
    if (Chance(0.5) && last >= 1) return Keep(b_.Mul(b_.Matmul(x, x, false, true), b_.Number(0.1)));
    Keep(b_.Tanh(x));
  }

  // A product of integers as MatMulInteger writes it, scaled by hand.
  void Integers() {
    const int k = Pick(2, 3);
    if (k < 0) return;
    const Quantised q = pool_[k];
    const int64_t depth = ShapeOf(q.integers)[ShapeOf(q.integers).rank() - 1];
    if (depth > 40) return;
    Weights w = MakeWeights({depth, Int(1, 12)}, 1);
    ValueId x = q.integers;
    if (q.zero != ValueId::kNone) x = b_.Sub(b_.Cast(x, DType::kI32), b_.Cast(q.zero, DType::kI32));
    const ValueId sums = b_.Named(Fresh("integers")).Matmul(x, w.integers);
    Keep(b_.Mul(b_.Cast(sums, DType::kF32), Number(Scale(0.002))));
  }

  // A product of two activations, or of one with itself.
  void Computed() {
    const int k = Pick(2, 3);
    if (k < 0) return;
    const Shape shape = ShapeOf(pool_[k].integers);
    size_t other = static_cast<size_t>(k);
    for (size_t o = 0; o < pool_.size(); ++o) {
      if (ShapeOf(pool_[o].integers) == shape && Chance(0.6)) other = o;
    }
    read_[other] = true;
    const ValueId x = Real(k);
    ValueId y = Real(other);
    const bool turned = Chance(0.4);
    if (turned) y = b_.Transpose(y, shape.rank() == 2 ? Dims{1, 0} : Dims{0, 2, 1});
    if (turned && Chance(0.3)) {
      Quantised q = pool_[other];
      q.scale = Number(q.scale_value);
      y = b_.Dequantize(b_.Quantize(y, q.scale, q.zero, b_.TypeOf(pool_[other].integers).dtype), q.scale, q.zero);
    }
    y = b_.Named(Fresh("computed")).Matmul(x, y, false, !turned);
    Keep(Activated(b_.Mul(y, b_.Number(0.125))));
  }

  // Quantised with what is found during the run, times integers.
  void Dynamic() {
    const int k = Pick(2, 4);
    if (k < 0) return;
    const ValueId x = b_.Tanh(Real(k));
    Dims all;
    for (int d = 0; d < ShapeOf(x).rank(); ++d) all.push_back(d);
    const ValueId high = b_.Reduce(Op::kReduceMax, b_.Abs(x), all, false);
    const ValueId scale = b_.Div(b_.Add(high, b_.Number(0.1)), b_.Number(100));
    const ValueId zero = b_.Cast(b_.Clip(b_.Round(b_.Mul(high, b_.Number(90))), 0, 255), DType::kU8);
    const ValueId integers = b_.Quantize(x, scale, zero, DType::kU8);
    const Shape shape = ShapeOf(x);
    const bool conv = shape.rank() == 4 && shape[1] <= 24;
    const int64_t depth = conv ? shape[1] : shape[shape.rank() - 1];
    if (depth > 40) return;
    const bool as_integers = Chance(0.6);
    const Weights w = conv ? MakeWeights({Int(1, 6), depth, 2, 2}, 0) : MakeWeights({depth, Int(1, 12)}, 1);
    const ValueId left = as_integers ? b_.Sub(b_.Cast(integers, DType::kI32), b_.Cast(zero, DType::kI32))
                                     : b_.Dequantize(integers, scale, zero);
    const ValueId right = as_integers ? w.integers : w.real;
    if (conv && (shape[2] < 2 || shape[3] < 2)) return;
    ValueId y = conv ? b_.Named(Fresh("dynamic")).Conv(left, right, {.pads = {1, 0, 1, 0}})
                     : b_.Named(Fresh("dynamic")).Matmul(left, right);
    if (as_integers) y = b_.Mul(b_.Mul(b_.Cast(y, DType::kF32), scale), b_.Number(0.01));
    Keep(y);
  }

  std::mt19937_64 rng_;
  const QuantizedOptions options_;
  const bool plain_ = options_.exact || options_.plain;
  GraphBuilder b_;
  std::vector<Tensor> inputs_;
  std::vector<Quantised> pool_;
  std::vector<bool> read_;
  int next_ = 0;
};

}  // namespace

QuantizedCase RandomQuantized(uint64_t seed, const QuantizedOptions& options) { return Maker(seed, options).Make(); }

}  // namespace tessera
