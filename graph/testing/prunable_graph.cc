#include "graph/testing/prunable_graph.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "graph/builder.h"
#include "tesa/testing/random.h"

namespace tessera {
namespace {

class Generator {
 public:
  Generator(Random& random, const PrunableGraphOptions& options) : random_(random), options_(options), b_("prunable") {}

  Graph Generate() {
    const int64_t wanted = random_.Int(options_.min_nodes, options_.max_nodes);
    const bool image = random_.Chance(0.5);
    ValueId x =
        image ? b_.Input("x", DType::kF32, {random_.Int(1, 2), random_.Int(1, 4), random_.Int(4, 7), random_.Int(4, 7)})
              : b_.Input("x", DType::kF32, {random_.Int(1, 3), random_.Int(3, 12)});
    x = Layer(x);
    // Results of branches that end here are outputs now and then, so that some of what is pruned is still needed.
    while (nodes_ < wanted) {
      const int64_t before = nodes_;
      x = Step(x);
      if (nodes_ == before) x = Layer(x);
      if (random_.Chance(0.04)) b_.Output(b_.Tanh(x));
    }
    const ValueId m = AsMatrix(x);
    const int64_t depth = ShapeOf(m)[1];
    b_.Output(
        b_.Matmul(m, Weight({depth, 6}, 1 / std::sqrt(static_cast<double>(depth)), DType::kF32, random_.Chance(0.3))));
    StatusOr<Graph> graph = std::move(b_).Build();
    TES_CHECK(graph.ok(), graph.status());
    RemoveDeadNodes(*graph);
    return *std::move(graph);
  }

 private:
  const Shape& ShapeOf(ValueId id) const { return b_.ShapeOf(id); }
  ValueId Count(ValueId id, int64_t nodes = 1) {
    nodes_ += nodes;
    return id;
  }
  std::string Fresh(std::string_view what) { return std::string(what) + std::to_string(next_++); }
  int64_t Pick(int64_t count) { return random_.Int(0, count - 1); }

  // A mask on axis 0 (mostly), on another one, in blocks, or on elements.
  Tensor Pruned(Tensor data, int64_t choice, std::optional<Attribute>& declared) {
    const Shape& shape = data.shape();
    std::vector<uint8_t> kept(static_cast<size_t>(data.num_elements()), 1);
    const int axis = choice <= 5 || shape.rank() < 2 ? 0 : 1;
    const double share = random_.Uniform(0.2, 0.7);
    std::vector<bool> gone;
    for (int64_t i = 0; i < shape[axis]; ++i) gone.push_back(random_.Chance(share));
    std::vector<bool> block;
    for (int k = 0; k < 64; ++k) block.push_back(random_.Chance(share));
    size_t k = 0;
    ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
      if (choice <= 6) kept[k] = !gone[static_cast<size_t>(index[static_cast<size_t>(axis)])];
      if (choice == 7 && shape.rank() > 1) kept[k] = !block[static_cast<size_t>(index[0] / 2 * 8 + index[1] / 2) % 64];
      if (choice == 8) kept[k] = !random_.Chance(share);
      ++k;
    });
    const Attribute mask = Attribute::FromKept(shape, kept, TypeInfo(data.dtype()).bits);
    if (random_.Chance(0.5)) declared = mask;
    return mask.ApplyTo(data);
  }

  ValueId Weight(const Shape& shape, double stddev, DType dtype = DType::kF32, bool prune = true) {
    Tensor data =
        IsFloat(dtype) ? RandomTensor(random_, {dtype, shape}, stddev) : RandomTensorIn(random_, {dtype, shape}, -5, 5);
    std::optional<Attribute> declared;
    if (prune) data = Pruned(std::move(data), Pick(10), declared);
    const ValueId id = b_.Constant(Fresh("w"), std::move(data));
    if (declared) b_.SetTesa(id, *std::move(declared));
    return id;
  }
  // Of a pruned channel the bias is zero half of the time, in all channels or none.
  ValueId Bias(const Shape& shape) {
    if (random_.Chance(0.4)) return b_.Constant(Fresh("b"), Tensor(DType::kF32, shape));
    return Weight(shape, 1, DType::kF32, false);
  }

  ValueId AsMatrix(ValueId x) {
    const Shape& shape = ShapeOf(x);
    if (shape.rank() == 2) return x;
    const int64_t rows = shape.rank() == 0 ? 1 : shape[0];
    return Count(b_.Reshape(x, {rows, shape.num_elements() / rows}));
  }

  ValueId AsImage(ValueId x) {
    const Shape shape = ShapeOf(x);
    if (shape.rank() == 4) return x;
    const int64_t rows = shape.rank() == 0 ? 1 : shape[0], rest = shape.num_elements() / rows;
    for (int64_t side : {3, 2}) {
      if (rest % (side * side) == 0) return Count(b_.Reshape(x, {rows, rest / (side * side), side, side}));
    }
    return Count(b_.Reshape(x, {rows, rest, 1, 1}));
  }

  // Something pruned, with a bias and an activation.
  ValueId Layer(ValueId x) {
    if (ShapeOf(x).rank() == 4 && random_.Chance(0.8)) return Activated(Convolution(x));
    const ValueId m = AsMatrix(x);
    const int64_t depth = ShapeOf(m)[1], width = random_.Int(4, 16);
    const double stddev = 1 / std::sqrt(static_cast<double>(depth));
    const bool transposed = random_.Chance(0.7);
    const ValueId w = Weight(transposed ? Shape{width, depth} : Shape{depth, width}, stddev);
    const ValueId y = Count(b_.Named(Fresh("fc")).Matmul(m, w, false, transposed));
    if (random_.Chance(0.2)) return WithEpilogue(y);
    return Activated(Count(b_.Add(y, Bias({width}))));
  }

  ValueId WithEpilogue(ValueId y) {
    const Shape shape = ShapeOf(y);
    BodyBuilder body;
    const Scalar a = body.Input(DType::kF32), b = body.Input(DType::kF32);
    return b_.WithEpilogue(y, body.Finish(Max(a + b, a * 0.1)), {Bias({shape[shape.rank() - 1]})}, DType::kF32);
  }

  ValueId Convolution(ValueId x) {
    const Shape shape = ShapeOf(x);
    const int64_t channels = shape[1];
    int64_t groups = 1, outputs = random_.Int(3, 12);
    const int64_t kind = Pick(10);
    if (kind <= 2) {
      groups = channels;
      outputs = channels * random_.Int(1, 2);
    } else if (kind <= 4) {
      for (int64_t g : {2, 3}) {
        if (channels % g == 0 && channels > g) groups = g;
      }
      outputs = groups * random_.Int(1, 4);
    }
    std::vector<int64_t> kernel;
    for (int d : {2, 3}) kernel.push_back(std::min(shape[d], random_.Int(1, 3)));
    const double stddev = 1 / std::sqrt(static_cast<double>(channels / groups * kernel[0] * kernel[1]));
    const ValueId w = Weight({outputs, channels / groups, kernel[0], kernel[1]}, stddev);
    const int64_t pad = random_.Int(0, 1);
    const int64_t stride = shape[2] > 4 ? random_.Int(1, 2) : 1;
    const WindowParams window = {.strides = {stride, stride}, .pads = {pad, pad, pad, pad}};
    ValueId y = Count(b_.Named(Fresh("conv")).Conv(x, w, window, groups));
    if (random_.Chance(0.7)) y = Count(b_.Add(y, Bias({outputs, 1, 1})));
    return y;
  }

  ValueId Activated(ValueId x) { return random_.Chance(0.7) ? Count(b_.Relu(x)) : Unary(x); }

  ValueId Step(ValueId x) {
    if (ShapeOf(x).num_elements() > 1500) return Narrow(x);
    const int64_t choice = Pick(24);
    if (choice <= 5) return Layer(x);
    if (choice <= 7) return Unary(x);
    if (choice <= 9) return Binary(x);
    if (choice <= 11) return Branches(x);
    if (choice <= 12) return Reduction(x);
    if (choice <= 14) return random_.Chance(0.6) ? Layer(Normalisation(x)) : Normalisation(x);
    if (choice <= 16) return Window(x);
    if (choice <= 19) return Movement(x);
    if (choice <= 20) return Comparison(x);
    if (choice <= 21) return Attention(x);
    if (choice <= 22) return Quantised(x);
    return Integers(x);
  }

  ValueId Narrow(ValueId x) {
    const ValueId m = AsMatrix(x);
    const int64_t depth = ShapeOf(m)[1];
    return Count(b_.Matmul(m, Weight({depth, 8}, 1 / std::sqrt(static_cast<double>(depth)))));
  }

  ValueId Positive(ValueId x) { return Count(b_.Add(Count(b_.Abs(x)), b_.Number(0.5)), 1); }

  ValueId Unary(ValueId x) {
    switch (Pick(26)) {
      case 0: return Count(b_.Neg(x));
      case 1: return Count(b_.Abs(x));
      case 2: return Count(b_.Mul(Count(b_.Sign(x)), x));
      case 3: return Count(b_.Sub(x, Count(b_.Mul(Count(b_.Floor(x)), b_.Number(0.1)))));
      case 4: return Count(b_.Add(x, Count(b_.Mul(Count(b_.Ceil(x)), b_.Number(0.1)))));
      case 5: return Count(b_.Add(x, Count(b_.Mul(Count(b_.Round(x)), b_.Number(0.1)))));
      case 6: return Count(b_.Exp(Count(b_.Clip(x, -3, 2))));
      case 7: return Count(b_.Log(Positive(x)));
      case 8: return Count(b_.Sqrt(Positive(x)));
      case 9: return Count(b_.Reciprocal(Positive(x)));
      case 10: return Count(b_.Sin(x));
      case 11: return Count(b_.Cos(x));
      case 12: return Count(b_.Erf(x));
      case 13: return Count(b_.Tanh(x));
      case 14: return Count(b_.Clip(x, -1, 6));
      case 15: return Count(b_.LeakyRelu(x, 0.1));
      case 16: return Count(b_.Elu(x));
      case 17: return Count(b_.Selu(x));
      case 18: return Count(b_.Sigmoid(x));
      case 19: return Count(b_.HardSigmoid(x));
      case 20: return Count(b_.HardSwish(x));
      case 21: return Count(b_.Silu(x));
      case 22: return Count(b_.Gelu(x, random_.Chance(0.5)));
      case 23: return Count(b_.Softplus(x));
      case 24: return Count(b_.Softsign(x));
      default: return Count(b_.Prelu(x, Weight(Broadcastable(ShapeOf(x)), 0.3)));
    }
  }

  Shape Broadcastable(Shape shape) {
    for (int d = 0; d < shape.rank(); ++d) {
      if (random_.Chance(0.4)) shape[d] = 1;
    }
    return shape;
  }

  ValueId Binary(ValueId x) {
    const ValueId y = random_.Chance(0.5) ? Weight(Broadcastable(ShapeOf(x)), 1) : Unary(x);
    switch (Pick(8)) {
      case 0: return Count(b_.Sub(x, y));
      case 1: return Count(b_.Mul(x, Count(b_.Tanh(y))));
      case 2: return Count(b_.Min(x, y));
      case 3: return Count(b_.Max(y, x));
      case 4: return Count(b_.Div(x, Positive(y)));
      case 5: return Count(b_.Pow(Positive(x), b_.Number(1.5)));
      case 6: return Count(b_.Add(x, Count(b_.Mul(Count(b_.Mod(x, Positive(y), true)), b_.Number(0.1)))));
      default: return Count(b_.Add(x, y));
    }
  }

  // Two ways to the same shape, joined again.
  ValueId Branches(ValueId x) {
    const Shape shape = ShapeOf(x);
    if (shape.rank() != 4) {
      const ValueId a = Layer(x), b = Layer(x);
      if (random_.Chance(0.6)) return Count(b_.Concat({a, b}, 1));
      const int64_t depth = ShapeOf(b)[1];
      const ValueId again =
          Count(b_.Matmul(b, Weight({depth, ShapeOf(a)[1]}, 1 / std::sqrt(static_cast<double>(depth)))));
      return random_.Chance(0.7) ? Count(b_.Add(a, again)) : Count(b_.Mul(a, Count(b_.Sigmoid(again))));
    }
    const int64_t width = random_.Int(3, 8);
    const auto branch = [&] {
      const double stddev = 1 / std::sqrt(static_cast<double>(shape[1]));
      return Activated(Count(b_.Add(Count(b_.Conv(x, Weight({width, shape[1], 1, 1}, stddev))), Bias({width, 1, 1}))));
    };
    const ValueId a = branch(), b = branch();
    switch (Pick(3)) {
      case 0: return Count(b_.Add(a, b));
      case 1: return Count(b_.Mul(a, Count(b_.Sigmoid(b))));
      default: return Count(b_.Concat({a, b}, 1));
    }
  }

  ValueId Reduction(ValueId x) {
    const Shape shape = ShapeOf(x);
    const int64_t axis = random_.Int(std::min(1, shape.rank() - 1), shape.rank() - 1);
    static constexpr Op kOps[] = {Op::kReduceSum, Op::kReduceMean,      Op::kReduceMax,
                                  Op::kReduceMin, Op::kReduceProd,      Op::kReduceL1,
                                  Op::kReduceL2,  Op::kReduceLogSumExp, Op::kReduceSumSquare};
    const int64_t pick = Pick(11);
    ValueId y;
    if (pick >= 9) {
      const ValueId at = Count(pick == 9 ? b_.ArgMax(x, axis) : b_.ArgMin(x, axis));
      y = Count(b_.Mul(Count(b_.Cast(at, DType::kF32)), b_.Number(0.1)));
    } else {
      const Op op = kOps[pick];
      y = Count(b_.Reduce(op, op == Op::kReduceProd ? Count(b_.Tanh(x)) : x, {axis}, true));
      if (op == Op::kReduceSumSquare || op == Op::kReduceSum || op == Op::kReduceL1) y = Count(b_.Tanh(y));
    }
    // Back beside what it came from, now and then.
    return random_.Chance(0.6) ? Count(b_.Mul(x, Count(b_.Sigmoid(y)))) : Count(b_.Expand(y, shape.dims()));
  }

  ValueId Normalisation(ValueId x) {
    const Shape shape = ShapeOf(x);
    const int64_t axis = random_.Int(0, shape.rank() - 1);
    switch (Pick(4)) {
      case 0: return Count(b_.Softmax(x, axis));
      case 1: return Count(b_.LogSoftmax(x, axis));
      case 2: {
        const Shape tail({shape.begin() + axis, shape.end()});
        return Count(b_.LayerNorm(x, Weight(tail, 1), Weight(tail, 1), axis, 1e-2));
      }
      default: {
        if (shape.rank() < 2) return Unary(x);
        const Shape channels = {shape[1]};
        return Count(b_.BatchNorm(x, Weight(channels, 1), Bias(channels), Bias(channels),
                                  b_.Constant(Fresh("v"), Tensor::Full(DType::kF32, channels, 0.7))));
      }
    }
  }

  ValueId Window(ValueId x) {
    const ValueId image = AsImage(x);
    const Shape shape = ShapeOf(image);
    const std::vector<int64_t> kernel = {std::min<int64_t>(2, shape[2]), std::min<int64_t>(2, shape[3])};
    switch (Pick(3)) {
      case 0: return Count(b_.MaxPool(image, kernel, {.strides = {random_.Int(1, 2), 1}}));
      case 1: return Count(b_.AvgPool(image, kernel, {.strides = {1, random_.Int(1, 2)}}));
      default:
        return Count(b_.Resize(image, {shape[0], shape[1], shape[2] + 1, shape[3] * 2},
                               random_.Chance(0.5) ? "nearest" : "linear", "half_pixel"));
    }
  }

  ValueId Movement(ValueId x) {
    const Shape shape = ShapeOf(x);
    const int rank = shape.rank();
    const int64_t axis = random_.Int(std::min(1, rank - 1), rank - 1);
    const int64_t extent = shape[static_cast<int>(axis)];
    switch (Pick(10)) {
      case 0: {
        std::vector<int64_t> perm;
        for (int d = 0; d < rank; ++d) perm.push_back(d);
        std::swap(perm[static_cast<size_t>(axis)], perm.back());
        const ValueId turned = Count(b_.Transpose(x, perm));
        return random_.Chance(0.5) ? Count(b_.Transpose(Unary(turned), perm)) : turned;
      }
      case 1: return AsMatrix(x);
      case 2: {  // heads apart and together
        for (int64_t heads : {4, 3, 2}) {
          if (extent % heads != 0 || extent == heads) continue;
          std::vector<int64_t> dims = shape.dims();
          dims[static_cast<size_t>(axis)] = extent / heads;
          dims.insert(dims.begin() + axis, heads);
          return Count(b_.Reshape(Unary(Count(b_.Reshape(x, dims))), shape.dims()));
        }
        return Unary(x);
      }
      case 3: {  // split, and joined in another order
        if (extent < 2) return Unary(x);
        std::vector<int64_t> starts(static_cast<size_t>(rank), 0), first = shape.dims(), second = shape.dims();
        const int64_t at = random_.Int(1, extent - 1);
        first[static_cast<size_t>(axis)] = at;
        const ValueId a = Count(b_.Slice(x, starts, first));
        starts[static_cast<size_t>(axis)] = at;
        second[static_cast<size_t>(axis)] = extent - at;
        const ValueId b = Count(b_.Slice(x, starts, second));
        return random_.Chance(0.7) ? Count(b_.Concat({Unary(b), a}, axis)) : (at > 1 ? a : b);
      }
      case 4: {
        std::vector<int64_t> starts(static_cast<size_t>(rank), 0), sizes = shape.dims(),
                                                                   steps(static_cast<size_t>(rank), 1);
        if (extent < 3) return Unary(x);
        steps[static_cast<size_t>(axis)] = 2;
        sizes[static_cast<size_t>(axis)] = (extent + 1) / 2;
        return Count(b_.Slice(x, starts, sizes, steps));
      }
      case 5: {
        std::vector<int64_t> pads(static_cast<size_t>(2 * rank), 0);
        pads[static_cast<size_t>(axis)] = 1;
        pads[static_cast<size_t>(rank + axis)] = random_.Int(0, 2);
        static constexpr std::string_view kModes[] = {"constant", "constant", "edge", "wrap"};
        return Count(b_.Pad(x, pads, kModes[Pick(4)], random_.Chance(0.5) ? 0 : 0.5));
      }
      case 6: {
        std::vector<int64_t> repeats(static_cast<size_t>(rank), 1);
        repeats[static_cast<size_t>(axis)] = 2;
        return Count(b_.Tile(x, repeats));
      }
      case 7: {
        Shape one = shape;
        one[static_cast<int>(axis)] = 1;
        std::vector<int64_t> starts(static_cast<size_t>(rank), 0);
        return Count(b_.Mul(x, Count(b_.Expand(Count(b_.Slice(x, starts, one.dims())), shape.dims()))));
      }
      case 8: {
        std::vector<int64_t> indices;
        for (int64_t k = random_.Int(2, 5); k > 0; --k) indices.push_back(random_.Int(0, extent - 1));
        const ValueId at =
            b_.Constant(Fresh("i"), Tensor::FromVector<int64_t>({static_cast<int64_t>(indices.size())}, indices));
        return Count(b_.Gather(x, at, axis));
      }
      default: {
        Tensor at(DType::kI64, shape);
        for (int64_t k = 0; k < at.num_elements(); ++k) at.SetInt(k, random_.Int(0, extent - 1));
        return Count(b_.GatherElements(x, b_.Constant(Fresh("i"), std::move(at)), axis));
      }
    }
  }

  ValueId Comparison(ValueId x) {
    const ValueId y = Weight(Broadcastable(ShapeOf(x)), 1);
    ValueId c = ValueId::kNone;
    switch (Pick(5)) {
      case 0: c = Count(b_.Less(x, y)); break;
      case 1: c = Count(b_.LessEqual(y, x)); break;
      case 2: c = Count(b_.Equal(x, y)); break;
      case 3: c = Count(b_.IsNan(x)); break;
      default: c = Count(b_.IsInf(x)); break;
    }
    const ValueId mask = b_.Constant(Fresh("m"), RandomTensor(random_, {DType::kBool, Broadcastable(ShapeOf(x))}));
    switch (Pick(4)) {
      case 0: c = Count(b_.And(c, mask)); break;
      case 1: c = Count(b_.Or(mask, c)); break;
      case 2: c = Count(b_.Xor(c, mask)); break;
      default: c = Count(b_.Not(c)); break;
    }
    return Count(b_.Where(c, x, random_.Chance(0.5) ? b_.Number(0.25) : Unary(x)));
  }

  // Heads whose projections may be pruned.
  ValueId Attention(ValueId x) {
    const ValueId m = AsMatrix(x);
    const int64_t rows = ShapeOf(m)[0], depth = ShapeOf(m)[1];
    const int64_t heads = random_.Int(2, 4), width = random_.Int(2, 3);
    const double stddev = 1 / std::sqrt(static_cast<double>(depth));
    Tensor head_mask(DType::kF32, {heads});
    for (int64_t h = 0; h < heads; ++h) head_mask.Set(h, h > 0 && random_.Chance(0.5) ? 0 : 1);
    const auto project = [&] {
      // Whole heads at once.
      Tensor w = RandomTensor(random_, {DType::kF32, {depth, heads * width}}, stddev);
      for (int64_t k = 0; k < w.num_elements(); ++k) {
        if (head_mask.Get(k % (heads * width) / width) == 0) w.Set(k, 0);
      }
      const ValueId y = Count(b_.Matmul(m, b_.Constant(Fresh("w"), std::move(w))));
      return Count(b_.Reshape(y, {1, rows, heads, width}));
    };
    const ValueId q = project(), k = project(), v = project();
    const ValueId mixed = Count(b_.Attention(q, k, v, 0.5, ValueId::kNone, "bshd"));
    return Count(b_.Reshape(mixed, {rows, heads * width}));
  }

  // quantize, an integer matmul with pruned weights, dequantize; or a scale for each half of the depth.
  ValueId Quantised(ValueId x) {
    const ValueId m = AsMatrix(Count(b_.Clip(x, -4, 4)));
    const ValueId scale = b_.Constant(Fresh("s"), Tensor::FromVector<float>(Shape(), {0.05f}));
    const ValueId q = Count(b_.Quantize(m, scale, ValueId::kNone, DType::kI8));
    b_.SetQuant(q, {.scales = {static_cast<double>(0.05f)}});
    const int64_t width = random_.Int(4, 9);
    const int64_t depth = ShapeOf(m)[1];
    const ValueId w = Weight({depth, width}, 1, DType::kI8);
    if (random_.Chance(0.3)) {
      const int64_t blocks = depth % 2 == 0 ? 2 : 1;
      const Tensor factors = RandomTensor(random_, {DType::kF32, {blocks, width}}, 0.01);
      return Count(b_.Named(Fresh("qfc")).Apply(Op::kScaledMatmul, {q, w, b_.Constant(Fresh("s"), factors)}));
    }
    const ValueId sums = Count(b_.Named(Fresh("qfc")).Matmul(q, w));
    if (random_.Chance(0.15)) b_.Output(sums);
    std::vector<float> scales(static_cast<size_t>(width), 0.01f);
    return Count(
        b_.Dequantize(sums, b_.Constant(Fresh("s"), Tensor::FromVector<float>({width}, scales)), ValueId::kNone, 1));
  }

  // Integer arithmetic on what was rounded; an output of integers now and then.
  ValueId Integers(ValueId x) {
    ValueId i = Count(b_.Cast(Count(b_.Clip(x, -9, 9)), DType::kI32));
    const ValueId w = b_.Constant(Fresh("n"), RandomTensorIn(random_, {DType::kI32, Broadcastable(ShapeOf(x))}, 0, 3));
    switch (Pick(5)) {
      case 0: i = Count(b_.Mul(i, w)); break;
      case 1: i = Count(b_.And(i, w)); break;
      case 2: i = Count(b_.Or(i, w)); break;
      case 3: i = Count(b_.Mod(i, b_.Number(7, DType::kI32))); break;
      default: i = Count(b_.Xor(i, w)); break;
    }
    if (random_.Chance(0.2)) b_.Output(i);
    return Count(b_.Cast(i, DType::kF32));
  }

  Random& random_;
  const PrunableGraphOptions options_;
  GraphBuilder b_;
  int64_t nodes_ = 0;
  int next_ = 0;
};

}  // namespace

Graph PrunableGraph(Random& random, const PrunableGraphOptions& options) {
  return Generator(random, options).Generate();
}

}  // namespace tessera
