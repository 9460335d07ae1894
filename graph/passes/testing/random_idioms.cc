#include "graph/passes/testing/random_idioms.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>

#include "graph/builder.h"

namespace tessera {
namespace {

constexpr int64_t kMaxElements = 3000;

// What two spellings of one idiom differ in, and all else that is drawn, comes from one generator.
class Maker {
 public:
  explicit Maker(uint64_t seed) : rng_(seed), b_("random" + std::to_string(seed)) {}

  IdiomCase Make(const IdiomOptions& options) {
    const int64_t channels = Int(1, 3) * 2;
    AddInput({Int(1, 2), channels, Int(3, 7), Int(3, 7)});
    AddInput({Int(1, 2), Int(2, 5), channels * 2});
    if (Chance(0.5)) AddInput({Int(2, 5), Int(2, 6)});
    if (Chance(0.3)) AddInput({Int(1, 2), channels, Int(3, 9)});
    if (Chance(0.4)) AddIntegers();
    for (int k = 0; k < options.pieces; ++k) Piece();
    for (ValueId x : pool_) {
      if (!read_[x] || Chance(0.08)) b_.Output(x);
    }
    StatusOr<Graph> graph = std::move(b_).Build();
    TES_CHECK(graph.ok(), graph.status());
    return {*std::move(graph), std::move(inputs_)};
  }

 private:
  using Dims = std::vector<int64_t>;

  int64_t Int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng_); }
  bool Chance(double p) { return std::bernoulli_distribution(p)(rng_); }
  Tensor Random(const Shape& shape, double low = -1, double high = 1) {
    Tensor tensor(DType::kF64, shape);
    for (double& v : tensor.mutable_data<double>()) v = std::uniform_real_distribution<double>(low, high)(rng_);
    return tensor;
  }
  ValueId Weights(const Shape& shape, double low = -1, double high = 1) {
    return b_.Constant("c", Random(shape, low, high));
  }
  ValueId Number(double value) { return b_.Number(value, DType::kF64); }

  void AddInput(Shape shape) {
    inputs_.push_back(Random(shape, -2, 2));
    Keep(b_.Input("x" + std::to_string(inputs_.size()), DType::kF64, std::move(shape)));
  }
  ValueId Keep(ValueId x) {
    if (read_.emplace(x, false).second) pool_.push_back(x);
    return x;
  }
  ValueId Read(ValueId x) {
    read_[x] = true;
    return x;
  }
  // Every piece is drawn so that it infers; one that does not says which.
  const Shape& ShapeOf(ValueId x) {
    TES_CHECK(b_.status().ok(), b_.status());
    return b_.ShapeOf(x);
  }
  bool IsReal(ValueId x) { return b_.TypeOf(x).dtype == DType::kF64; }

  // A value of one of these ranks, rather a recent one.
  ValueId Pick(int min_rank, int max_rank) {
    for (int attempt = 0; attempt < 40; ++attempt) {
      const int64_t last = static_cast<int64_t>(pool_.size()) - 1;
      const ValueId x = pool_[Chance(0.5) ? std::max<int64_t>(0, last - Int(0, 2)) : Int(0, last)];
      if (IsReal(x) && ShapeOf(x).rank() >= min_rank && ShapeOf(x).rank() <= max_rank) return Read(x);
    }
    return ValueId::kNone;
  }

  // ---- pieces ----

  void Piece() {
    switch (Int(0, 19)) {
      case 0:
      case 1:
      case 2: return ConvBlock();
      case 3: return Unary(Pick(1, 4));
      case 4:
      case 5: return Binary(Pick(1, 4));
      case 6: return Pool();
      case 7:
      case 8: return Linear();
      case 9: return Movement(Pick(1, 4));
      case 10: return Movement(Pick(3, 4));
      case 11: return Normalize(Pick(2, 4));
      case 12: return LayerNormInParts(Pick(2, 3));
      case 13: return ActivationInParts(Pick(1, 4));
      case 14: return Attention();
      case 15: return SqueezeAndExcite();
      case 16: return NoOps(Pick(1, 4));
      case 17: return Integers();
      case 18: return Join();
      default: return ConstantBranch(Pick(1, 4));
    }
  }

  ValueId Activate(ValueId x) {
    switch (Int(0, 9)) {
      case 0: return b_.Relu(x);
      case 1: return b_.Clip(x, 0, 6);
      case 2: return b_.Sigmoid(x);
      case 3: return b_.Silu(x);
      case 4: return b_.Gelu(x, Chance(0.5));
      case 5: return b_.HardSwish(x);
      case 6: return b_.Tanh(x);
      case 7: return b_.LeakyRelu(x, 0.1);
      case 8: return b_.Max(x, Number(Chance(0.5) ? 0 : -0.5));
      default: return x;
    }
  }
  void Unary(ValueId x) {
    if (x == ValueId::kNone) return;
    const ValueId y = Activate(x);
    Keep(Chance(0.3) ? b_.Abs(y) : y);
  }

  // Another operand that broadcasts to the shape of x.
  ValueId Partner(ValueId x) {
    const Shape shape = ShapeOf(x);
    if (Chance(0.4)) {
      for (int attempt = 0; attempt < 10; ++attempt) {
        const ValueId y = pool_[Int(0, static_cast<int64_t>(pool_.size()) - 1)];
        if (IsReal(y) && BroadcastShapes(ShapeOf(y), shape) == shape) return Read(y);
      }
    }
    if (Chance(0.3)) return Number(std::ldexp(1, static_cast<int>(Int(-2, 2))));
    if (Chance(0.2)) return Number(0.3);
    Dims dims = shape.dims();
    for (int64_t& d : dims) {
      if (Chance(0.4)) d = 1;
    }
    if (Chance(0.4)) {  // one value for each channel
      std::fill(dims.begin(), dims.end(), 1);
      if (dims.size() > 1) dims[1] = shape[1];
    }
    while (!dims.empty() && Chance(0.3)) dims.erase(dims.begin());
    return Weights(Shape(dims), 0.25, 1.5);
  }
  void Binary(ValueId x) {
    if (x == ValueId::kNone) return;
    const ValueId y = Partner(x);
    switch (Int(0, 6)) {
      case 0: return void(Keep(b_.Sub(x, y)));
      case 1:
      case 2: return void(Keep(b_.Mul(x, y)));
      case 3: return void(Keep(Chance(0.5) ? b_.Max(x, y) : b_.Min(x, y)));
      case 4: return void(Keep(b_.Div(x, b_.Add(b_.Abs(y), Number(1)))));
      case 5:
        return void(
            Keep(Chance(0.5) ? b_.Div(x, Number(4)) : b_.Pow(b_.Tanh(x), Number(static_cast<double>(Int(1, 3))))));
      default: return void(Keep(Chance(0.5) ? b_.Add(x, y) : b_.Add(y, x)));
    }
  }

  ValueId BatchNorm(ValueId x) {
    const Shape channels = {ShapeOf(x)[1]};
    return b_.BatchNorm(x, Weights(channels, 0.5, 1.5), Weights(channels), Weights(channels),
                        Weights(channels, 0.5, 2));
  }

  ValueId Conv(ValueId x, int64_t out, bool same) {
    const Shape shape = ShapeOf(x);
    const int spatial = shape.rank() - 2;
    WindowParams window;
    Dims dims = {out, shape[1]};
    int64_t groups = 1;
    if (Chance(0.3) && out % shape[1] == 0) {
      groups = shape[1];
      dims[1] = 1;
    }
    Dims before, after;
    for (int i = 0; i < spatial; ++i) {
      const int64_t kernel = shape[2 + i] >= 3 ? 1 + 2 * Int(0, 1) : 1;
      dims.push_back(kernel);
      before.push_back(same ? kernel / 2 : Int(0, kernel / 2));
      after.push_back(same ? kernel / 2 : Int(0, kernel / 2));
      window.strides.push_back(same ? 1 : Int(1, 2));
    }
    if (Chance(0.2)) {  // the pads as a node of their own
      Dims pads = {0, 0};
      pads.insert(pads.end(), before.begin(), before.end());
      pads.insert(pads.end(), {0, 0});
      pads.insert(pads.end(), after.begin(), after.end());
      x = b_.Pad(x, pads, "constant", Chance(0.8) ? 0 : 0.5);
    } else {
      window.pads = before;
      window.pads.insert(window.pads.end(), after.begin(), after.end());
    }
    const Shape wanted(dims);
    if (shared_ != ValueId::kNone && ShapeOf(shared_) == wanted) return b_.Conv(x, shared_, window, groups);
    const ValueId w = Weights(wanted, -0.5, 0.5);
    if (Chance(0.3)) shared_ = w;
    return b_.Conv(x, w, window, groups);
  }

  void ConvBlock() {
    const ValueId x = Pick(3, 4);
    if (x == ValueId::kNone || ShapeOf(x)[1] > 16) return;
    const bool residual = Chance(0.4);
    const int64_t channels = ShapeOf(x)[1];
    ValueId y = Conv(x, residual ? channels : channels * Int(1, 2), residual);
    if (Chance(0.1)) Keep(y);
    Dims per_channel(ShapeOf(y).rank() - 1, 1);
    per_channel[0] = ShapeOf(y)[1];
    if (Chance(0.2)) y = b_.Mul(y, Chance(0.5) ? Number(0.5) : Weights(Shape(per_channel), 0.5, 1.5));
    y = Chance(0.6) ? BatchNorm(y) : b_.Add(y, Weights(Shape(per_channel)));
    if (Chance(0.1)) Keep(y);
    if (residual) y = Chance(0.5) ? b_.Add(y, x) : b_.Add(x, y);
    Keep(Activate(y));
  }

  void Pool() {
    const ValueId x = Pick(3, 4);
    if (x == ValueId::kNone) return;
    const Shape shape = ShapeOf(x);
    Dims kernel, pads;
    WindowParams window;
    const bool global = Chance(0.3);
    for (int i = 2; i < shape.rank(); ++i) {
      kernel.push_back(global ? shape[i] : std::min<int64_t>(shape[i], Int(1, 3)));
      window.strides.push_back(Int(1, 2));
      pads.push_back(global || kernel.back() < 2 ? 0 : Int(0, 1));
    }
    window.pads = pads;
    window.pads.insert(window.pads.end(), pads.begin(), pads.end());
    Keep(Chance(0.5) ? b_.MaxPool(x, kernel, window) : b_.AvgPool(x, kernel, window, Chance(0.5)));
  }

  void Linear() {
    const ValueId x = Pick(2, 3);
    if (x == ValueId::kNone) return;
    const Shape shape = ShapeOf(x);
    const int64_t depth = shape[shape.rank() - 1], width = Int(1, 8);
    ValueId y = ValueId::kNone;
    if (Chance(0.25)) {
      y = b_.Matmul(x, x, false, true);
    } else if (Chance(0.5)) {
      y = b_.Matmul(x, Weights({depth, width}));
    } else if (Chance(0.5)) {
      y = b_.Matmul(x, b_.Transpose(Weights({width, depth}), {1, 0}));
    } else {
      y = b_.Matmul(x, Weights({width, depth}), false, true);
    }
    if (Chance(0.2)) Keep(y);
    const int64_t columns = ShapeOf(y)[ShapeOf(y).rank() - 1];
    if (Chance(0.3)) y = b_.Mul(y, Chance(0.5) ? Number(0.25) : Weights({columns}));
    if (Chance(0.7)) y = b_.Add(Weights({columns}), y);
    if (Chance(0.2)) y = b_.Add(b_.Reshape(y, {ShapeOf(y).num_elements() / columns, columns}), Weights({columns}));
    Keep(Activate(y));
  }

  Dims RandomPerm(int rank) {
    Dims perm;
    for (int d = 0; d < rank; ++d) perm.push_back(d);
    if (Chance(0.5) && rank > 2) {  // channels to the end, or back
      if (Chance(0.5)) {
        std::rotate(perm.begin() + 1, perm.begin() + 2, perm.end());
      } else {
        std::rotate(perm.begin() + 1, perm.end() - 1, perm.end());
      }
    } else {
      std::shuffle(perm.begin(), perm.end(), rng_);
    }
    return perm;
  }

  void Movement(ValueId x) {
    if (x == ValueId::kNone) return;
    const Shape shape = ShapeOf(x);
    const int rank = shape.rank();
    Dims zeros(rank, 0), ones(rank, 1), dims = shape.dims();
    const int axis = static_cast<int>(Int(0, rank - 1));
    switch (Int(0, 8)) {
      case 0:
      case 1: return void(Keep(b_.Transpose(x, RandomPerm(rank))));
      case 2:  // flatten
        return void(Keep(b_.Reshape(x, {shape[0], shape.num_elements() / std::max<int64_t>(1, shape[0])})));
      case 3: {
        dims[axis] = Int(1, shape[axis]);
        zeros[axis] = Int(0, shape[axis] - dims[axis]);
        return void(Keep(b_.Slice(x, zeros, dims, ones)));
      }
      case 4: {
        if (shape.num_elements() * 2 > kMaxElements) return;
        const ValueId y = Chance(0.5) ? x : b_.Neg(x);
        return void(Keep(b_.Concat({x, y}, axis)));
      }
      case 5: {
        Dims pads(2 * rank, 0);
        pads[rank - 1] = Int(0, 1);
        pads[2 * rank - 1] = Int(0, 2);
        return void(Keep(b_.Pad(x, pads, Chance(0.7) ? "constant" : "edge", Chance(0.5) ? 0 : 1.5)));
      }
      case 6: {
        const Op op = Chance(0.5) ? Op::kReduceMean : (Chance(0.5) ? Op::kReduceSum : Op::kReduceMax);
        Dims axes = {axis};
        if (rank == 4 && Chance(0.6)) axes = {2, 3};
        return void(Keep(b_.Reduce(op, x, axes, Chance(0.6))));
      }
      case 7: {
        Dims sizes = dims;
        if (rank != 4 || shape.num_elements() * 4 > kMaxElements) return;
        sizes[2] *= 2;
        sizes[3] *= 2;
        const bool nearest = Chance(0.5);
        return void(Keep(b_.Resize(x, sizes, nearest ? "nearest" : "linear", nearest ? "asymmetric" : "half_pixel",
                                   nearest ? "floor" : "round_prefer_floor")));
      }
      default: {
        if (dims[axis] != 1 || shape.num_elements() * 3 > kMaxElements) return;
        dims[axis] = 3;
        return void(Keep(Chance(0.5) ? b_.Mul(b_.Expand(x, dims), Weights(Shape(dims))) : b_.Expand(x, dims)));
      }
    }
  }

  void Normalize(ValueId x) {
    if (x == ValueId::kNone) return;
    const Shape shape = ShapeOf(x);
    const int64_t axis = Int(1, shape.rank() - 1);
    if (Chance(0.4)) return void(Keep(b_.Softmax(x, axis)));
    if (Chance(0.5)) return void(Keep(BatchNorm(x)));
    const Shape inner(Dims(shape.begin() + axis, shape.end()));
    Keep(b_.LayerNorm(x, Chance(0.8) ? Weights(inner) : ValueId::kNone, Chance(0.8) ? Weights(inner) : ValueId::kNone,
                      axis));
  }

  void LayerNormInParts(ValueId x) {
    if (x == ValueId::kNone) return;
    const int64_t last = ShapeOf(x).rank() - 1;
    const Shape row = {ShapeOf(x)[static_cast<int>(last)]};
    const ValueId mean = b_.Reduce(Op::kReduceMean, x, {last});
    const ValueId d = b_.Sub(x, mean);
    const ValueId d2 = Chance(0.3) ? b_.Sub(x, mean) : d;
    const ValueId square = Chance(0.5) ? b_.Mul(d2, d2) : b_.Pow(d2, Number(2));
    const ValueId variance = b_.Add(b_.Reduce(Op::kReduceMean, square, {last}), Number(1e-5));
    const ValueId deviation = Chance(0.8) ? b_.Sqrt(variance) : b_.Pow(variance, Number(0.5));
    ValueId y = Chance(0.6) ? b_.Div(d, deviation) : b_.Mul(d, b_.Reciprocal(deviation));
    if (Chance(0.1)) Keep(d);
    if (Chance(0.8)) y = Chance(0.5) ? b_.Mul(y, Weights(row)) : b_.Mul(Weights(row), y);
    if (Chance(0.8)) y = b_.Add(y, Weights(row));
    Keep(y);
  }

  void ActivationInParts(ValueId x) {
    if (x == ValueId::kNone) return;
    switch (Int(0, 5)) {
      case 0: {  // gelu by erf
        const ValueId inner = Chance(0.5) ? b_.Div(x, Number(std::sqrt(2.0))) : b_.Mul(x, Number(std::sqrt(0.5)));
        const ValueId one = b_.Add(b_.Erf(inner), Number(1));
        if (Chance(0.4)) return void(Keep(b_.Mul(b_.Mul(x, one), Number(0.5))));
        if (Chance(0.5)) return void(Keep(b_.Mul(b_.Mul(x, Number(0.5)), one)));
        return void(Keep(b_.Mul(x, b_.Mul(one, Number(0.5)))));
      }
      case 1: {  // gelu by tanh
        const ValueId cube = Chance(0.5) ? b_.Pow(x, Number(3)) : b_.Mul(x, b_.Mul(x, x));
        const ValueId inner = b_.Mul(b_.Add(x, b_.Mul(cube, Number(0.044715))), Number(std::sqrt(2 / std::acos(-1.0))));
        return void(Keep(b_.Mul(b_.Mul(x, Number(0.5)), b_.Add(b_.Tanh(inner), Number(1)))));
      }
      case 2:  // hard swish
        if (Chance(0.5)) return void(Keep(b_.Mul(x, b_.HardSigmoid(x, 1.0 / 6, 0.5))));
        return void(Keep(b_.Div(b_.Mul(x, b_.Clip(b_.Add(x, Number(3)), 0, 6)), Number(6))));
      case 3:  // silu
        return void(Keep(Chance(0.5) ? b_.Mul(x, b_.Sigmoid(x)) : b_.Mul(b_.Sigmoid(x), x)));
      case 4:  // softplus
        return void(Keep(b_.Log(b_.Add(b_.Exp(b_.Clip(x, -9, 9)), Number(1)))));
      default:  // mish
        return void(Keep(b_.Mul(x, b_.Tanh(b_.Softplus(x)))));
    }
  }

  void Attention() {
    const ValueId x = Pick(3, 3);
    if (x == ValueId::kNone || ShapeOf(x)[2] % 2 != 0 || ShapeOf(x)[1] > 8) return;
    const Shape shape = ShapeOf(x);
    const int64_t heads = 2, depth = shape[2] / heads;
    const auto split = [&](Dims perm) {
      const ValueId y = b_.Add(b_.Matmul(x, Weights({shape[2], shape[2]})), Weights({shape[2]}));
      return b_.Transpose(b_.Reshape(y, {shape[0], shape[1], heads, depth}), std::move(perm));
    };
    ValueId q = split({0, 2, 1, 3});
    if (Chance(0.3)) q = b_.Mul(q, Number(0.5));
    const ValueId k = Chance(0.5) ? split({0, 2, 3, 1}) : b_.Transpose(split({0, 2, 1, 3}), {0, 1, 3, 2});
    ValueId scores = b_.Matmul(q, k);
    if (Chance(0.8)) scores = Chance(0.5) ? b_.Div(scores, Number(1.7)) : b_.Mul(scores, Number(0.6));
    if (Chance(0.5)) scores = b_.Add(scores, Weights({shape[0], 1, 1, shape[1]}, -5, 0));
    const ValueId y = b_.Matmul(b_.Softmax(scores, 3), split({0, 2, 1, 3}));
    if (Chance(0.2)) return void(Keep(y));
    Keep(b_.Reshape(b_.Transpose(y, {0, 2, 1, 3}), shape.dims()));
  }

  void SqueezeAndExcite() {
    const ValueId x = Pick(4, 4);
    if (x == ValueId::kNone || ShapeOf(x)[1] > 16) return;
    const int64_t channels = ShapeOf(x)[1];
    ValueId y = b_.Reduce(Op::kReduceMean, x, {2, 3});
    y = b_.Relu(b_.Conv(y, Weights({2, channels, 1, 1})));
    y = b_.Conv(y, Weights({channels, 2, 1, 1}));
    Keep(b_.Mul(x, Chance(0.5) ? b_.Sigmoid(y) : b_.HardSigmoid(y)));
  }

  void NoOps(ValueId x) {
    if (x == ValueId::kNone) return;
    const Shape shape = ShapeOf(x);
    const int rank = shape.rank();
    const Dims perm = RandomPerm(rank);
    Dims inverse(rank);
    for (int d = 0; d < rank; ++d) inverse[perm[d]] = d;
    switch (Int(0, 7)) {
      case 0: return void(Keep(b_.Reshape(x, shape.dims())));
      case 1: return void(Keep(b_.Transpose(Activate(b_.Transpose(x, perm)), inverse)));
      case 2: return void(Keep(b_.Mul(x, Number(1))));
      case 3: return void(Keep(b_.Add(x, Number(0))));
      case 4: return void(Keep(b_.Cast(x, DType::kF64)));
      case 5: return void(Keep(b_.Slice(x, Dims(rank, 0), shape.dims())));
      case 6: return void(Keep(b_.Clip(b_.Relu(x), {}, 3)));
      default: return void(Keep(b_.Reshape(b_.Reshape(x, {shape.num_elements()}), shape.dims())));
    }
  }

  void Join() {
    const ValueId x = Pick(1, 4);
    if (x == ValueId::kNone) return;
    for (ValueId y : pool_) {
      if (y == x || ShapeOf(y) != ShapeOf(x) || !IsReal(y)) continue;
      Read(y);
      return void(Keep(Activate(Chance(0.7) ? b_.Add(Activate(x), y) : b_.Mul(x, Activate(y)))));
    }
  }

  void ConstantBranch(ValueId x) {
    if (x == ValueId::kNone) return;
    const int64_t columns = ShapeOf(x)[ShapeOf(x).rank() - 1];
    const ValueId c = b_.Sqrt(b_.Add(b_.Abs(b_.Reshape(Weights({1, columns}), {columns})), Number(1)));
    Keep(b_.Mul(x, Chance(0.5) ? b_.Expand(c, ShapeOf(x).dims()) : c));
  }

  // ---- integers: exact, so they may wrap ----

  void AddIntegers() {
    constexpr DType kTypes[] = {DType::kI8, DType::kU8, DType::kI16, DType::kI32, DType::kI64};
    integer_type_ = kTypes[Int(0, 4)];
    integer_shape_ = {Int(1, 3), Int(1, 5)};
    for (int k = 0; k < 2; ++k) {
      inputs_.push_back(RandomIntegers());
      Keep(b_.Input("n" + std::to_string(inputs_.size()), integer_type_, integer_shape_));
    }
  }
  Tensor RandomIntegers() {
    Tensor tensor(integer_type_, integer_shape_);
    for (int64_t k = 0; k < tensor.num_elements(); ++k) tensor.SetInt(k, Int(-200, 200));
    return tensor;
  }
  ValueId PickInteger() {
    for (int attempt = 0; attempt < 60; ++attempt) {
      const ValueId x = pool_[Int(0, static_cast<int64_t>(pool_.size()) - 1)];
      if (b_.TypeOf(x).dtype == integer_type_ && ShapeOf(x) == integer_shape_) return Read(x);
    }
    return ValueId::kNone;
  }
  void Integers() {
    if (integer_shape_.rank() == 0) return;
    ValueId x = PickInteger();
    if (x == ValueId::kNone) return;
    for (int k = 0; k < 3; ++k) {
      const ValueId y = Chance(0.5) ? PickInteger() : b_.Constant("n", RandomIntegers());
      if (y == ValueId::kNone) return;
      switch (Int(0, 6)) {
        case 0: x = b_.Add(x, y); break;
        case 1: x = b_.Mul(x, y); break;
        case 2: x = b_.Sub(x, y); break;
        case 3: x = b_.Max(x, y); break;
        case 4: x = b_.Div(b_.Mul(x, y), b_.Constant("seven", Tensor::Full(integer_type_, {}, 7))); break;
        case 5: x = b_.Cast(b_.Cast(x, Chance(0.5) ? DType::kI8 : DType::kI64), integer_type_); break;
        default: x = b_.Where(b_.Less(x, y), y, x);
      }
      if (Chance(0.3)) Keep(x);
    }
    Keep(x);
    if (Chance(0.3)) Keep(b_.Tanh(b_.Cast(x, DType::kF64)));
  }

  std::mt19937_64 rng_;
  GraphBuilder b_;
  std::vector<Tensor> inputs_;
  std::vector<ValueId> pool_;
  std::map<ValueId, bool> read_;
  ValueId shared_ = ValueId::kNone;
  DType integer_type_ = DType::kI8;
  Shape integer_shape_;
};

}  // namespace

IdiomCase RandomIdioms(uint64_t seed, const IdiomOptions& options) { return Maker(seed).Make(options); }

}  // namespace tessera
