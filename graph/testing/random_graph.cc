#include "graph/testing/random_graph.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "graph/builder.h"
#include "tesa/testing/random.h"

namespace tessera {
namespace {

constexpr int64_t kMaxElements = 2048;

class Generator {
 public:
  Generator(Random& random, const RandomGraphOptions& options) : random_(random), options_(options), b_("random") {}

  Graph Generate() {
    const int64_t inputs = random_.Int(1, 3);
    for (int64_t k = 0; k < inputs; ++k) {
      Shape shape = random_.Chance(0.5)
                        ? Shape{random_.Int(1, 2), random_.Int(1, 6), random_.Int(3, 8), random_.Int(3, 8)}
                        : RandomShape(random_, static_cast<int>(random_.Int(2, 3)), 1, 12);
      pool_.push_back(b_.Input("in" + std::to_string(k), DType::kF32, shape));
    }
    const int64_t steps = random_.Int(options_.min_nodes, options_.max_nodes);
    for (int64_t k = 0; k < steps; ++k) {
      const ValueId made = Step(Any());
      if (b_.ShapeOf(made).num_elements() <= kMaxElements) {
        pool_.push_back(made);
      } else {
        b_.Output(made);
      }
    }
    b_.Output(pool_.back());
    for (int64_t k = random_.Int(0, 2); k > 0; --k) b_.Output(b_.Relu(Any()));
    b_.SetMetadata("seed", std::to_string(steps));
    StatusOr<Graph> graph = std::move(b_).Build();
    TES_CHECK(graph.ok(), graph.status());
    // Nothing dead: what no output needs is dropped, so that every node counts.
    RemoveDeadNodes(*graph);
    return *std::move(graph);
  }

 private:
  // Late values more often than early ones: long chains, and now and then a long way back.
  ValueId Any() {
    const auto last = static_cast<int64_t>(pool_.size()) - 1;
    return pool_[static_cast<size_t>(random_.Chance(0.6) ? last : random_.Int(0, last))];
  }

  std::string Fresh(std::string_view what) { return std::string(what) + std::to_string(next_++); }

  // A constant whose pruned elements are 0.
  ValueId Weight(Shape shape, double stddev, DType dtype = DType::kF32) {
    Tensor data = RandomTensor(random_, {dtype, shape}, stddev);
    if (!IsFloat(dtype)) data = RandomTensorIn(random_, {dtype, shape}, -5, 5);
    const int width = TypeInfo(dtype).bits;
    std::optional<Attribute> attribute;
    if (options_.attributes && random_.Chance(0.6)) {
      const std::vector<Pattern> patterns = EveryPattern(shape);
      const Pattern& pattern = patterns[static_cast<size_t>(random_.Int(0, static_cast<int64_t>(patterns.size()) - 1))];
      const int bits = random_.Chance(0.7) ? width : std::min(width, 4);
      attribute = RandomAttribute(random_, shape, pattern, random_.Uniform(0.1, 0.9), bits);
      data = attribute->ApplyTo(data);
    }
    const ValueId id = b_.Constant(Fresh("w"), std::move(data));
    if (attribute) b_.SetTesa(id, *std::move(attribute));
    return id;
  }

  // A matrix of x's elements, rows as they come.
  ValueId AsMatrix(ValueId x) {
    const Shape& shape = b_.ShapeOf(x);
    if (shape.rank() == 2) return x;
    const int64_t columns = shape.rank() == 0 ? 1 : shape[shape.rank() - 1];
    return b_.Reshape(x, {shape.num_elements() / columns, columns});
  }

  // [N, C, H, W] of x's elements.
  ValueId AsImage(ValueId x) {
    const Shape& shape = b_.ShapeOf(x);
    if (shape.rank() == 4) return x;
    const int64_t count = shape.num_elements();
    for (int64_t channels : {6, 4, 3, 2}) {
      if (count % channels == 0) return b_.Reshape(x, {1, channels, count / channels, 1});
    }
    return b_.Reshape(x, {1, 1, count, 1});
  }

  // relu, or scale and shift by a broadcast operand: bodies as fusion makes them.
  ValueId MaybeEpilogue(ValueId result) {
    if (!options_.epilogues || !random_.Chance(0.4)) return result;
    const Shape shape = b_.ShapeOf(result);
    BodyBuilder body;
    const Scalar x = body.Input(DType::kF32);
    if (random_.Chance(0.4)) {
      return b_.WithEpilogue(result, body.Finish(Max(x, 0.0)), {}, DType::kF32);
    }
    const Scalar y = body.Input(DType::kF32);
    const ValueId operand = Weight({shape[shape.rank() - 1]}, 1);
    return b_.WithEpilogue(result, body.Finish(Max(x + y, x * 0.1)), {operand}, DType::kF32);
  }

  ValueId Step(ValueId x) {
    const int64_t choice = random_.Int(0, 19);
    if (choice <= 3) return Unary(x);
    if (choice <= 6) return Binary(x);
    if (choice <= 9) return Contraction(x);
    if (choice <= 11) return Normalisation(x);
    if (choice <= 13) return Window(x);
    if (choice <= 17) return Movement(x);
    if (choice == 18) return b_.Cast(b_.Cast(x, DType::kF16), DType::kF32);
    return options_.quantization ? Quantised(x) : Unary(x);
  }

  ValueId Unary(ValueId x) {
    switch (random_.Int(0, 12)) {
      case 0: return b_.Neg(x);
      case 1: return b_.Abs(x);
      case 2: return b_.Tanh(x);
      case 3: return b_.Sigmoid(x);
      case 4: return b_.HardSwish(x);
      case 5: return b_.Silu(x);
      case 6: return b_.Gelu(x);
      case 7: return b_.Clip(x, -1, 6);
      case 8: return b_.LeakyRelu(x, 0.1);
      case 9: return b_.Erf(x);
      case 10: return b_.Exp(b_.Clip(x, -3, 3));
      case 11: return b_.Sqrt(b_.Add(b_.Abs(x), b_.Number(0.5)));
      default: return b_.Relu(x);
    }
  }

  // With a value of the same shape where there is one (a residual), else with a constant that broadcasts.
  ValueId Binary(ValueId x) {
    ValueId y = ValueId::kNone;
    for (ValueId other : pool_) {
      if (other != x && b_.ShapeOf(other) == b_.ShapeOf(x) && random_.Chance(0.7)) y = other;
    }
    if (y == ValueId::kNone) {
      Shape shape = b_.ShapeOf(x);
      for (int d = 0; d < shape.rank(); ++d) {
        if (random_.Chance(0.4)) shape[d] = 1;
      }
      y = Weight(shape, 1);
    }
    switch (random_.Int(0, 6)) {
      case 0: return b_.Sub(x, y);
      case 1: return b_.Mul(x, b_.Tanh(y));
      case 2: return b_.Min(x, y);
      case 3: return b_.Max(y, x);
      case 4: return b_.Where(b_.Less(x, y), y, b_.Number(0.25));
      case 5: return b_.Div(x, b_.Add(b_.Abs(y), b_.Number(1)));
      default: return b_.Add(x, y);
    }
  }

  ValueId Contraction(ValueId x) {
    if (random_.Chance(0.6)) {
      const ValueId matrix = AsMatrix(x);
      const int64_t depth = b_.ShapeOf(matrix)[1], width = random_.Int(1, 40);
      const double stddev = 1 / std::sqrt(static_cast<double>(depth));
      const bool transposed = random_.Chance(0.5);
      const ValueId w = Weight(transposed ? Shape{width, depth} : Shape{depth, width}, stddev);
      return MaybeEpilogue(b_.Named(Fresh("fc")).Matmul(matrix, w, false, transposed));
    }
    const ValueId image = AsImage(x);
    const Shape shape = b_.ShapeOf(image);
    const int64_t channels = shape[1];
    const int64_t groups = random_.Chance(0.3) ? channels : 1;
    const int64_t kernel_h = std::min<int64_t>(shape[2], random_.Int(1, 3));
    const int64_t kernel_w = std::min<int64_t>(shape[3], random_.Int(1, 3));
    const int64_t outputs = groups * random_.Int(1, groups > 1 ? 2 : 8);
    const double stddev = 1 / std::sqrt(static_cast<double>(channels / groups * kernel_h * kernel_w));
    const ValueId w = Weight({outputs, channels / groups, kernel_h, kernel_w}, stddev);
    const int64_t stride = random_.Int(1, 2), pad = random_.Int(0, 1);
    WindowParams window = {.strides = {stride, stride}, .pads = {pad, pad, pad, pad}};
    return MaybeEpilogue(b_.Named(Fresh("conv")).Conv(image, w, window, groups));
  }

  ValueId Normalisation(ValueId x) {
    const Shape shape = b_.ShapeOf(x);
    const int64_t axis = random_.Int(0, shape.rank() - 1);
    switch (random_.Int(0, 3)) {
      case 0: return b_.Softmax(x, axis);
      case 1: {
        const Shape tail({shape.begin() + axis, shape.end()});
        return b_.LayerNorm(x, Weight(tail, 1), Weight(tail, 1), axis, 1e-2);
      }
      case 2: return b_.Reduce(Op::kReduceMean, x, {axis}, true);
      default: return b_.Reduce(Op::kReduceMax, x, {axis}, shape.rank() <= 2 || random_.Chance(0.5));
    }
  }

  ValueId Window(ValueId x) {
    const ValueId image = AsImage(x);
    const Shape shape = b_.ShapeOf(image);
    const std::vector<int64_t> kernel = {std::min<int64_t>(2, shape[2]), std::min<int64_t>(2, shape[3])};
    const WindowParams window = {.strides = {random_.Int(1, 2), 1}};
    return random_.Chance(0.5) ? b_.MaxPool(image, kernel, window) : b_.AvgPool(image, kernel, window);
  }

  ValueId Movement(ValueId x) {
    const Shape shape = b_.ShapeOf(x);
    const int64_t axis = random_.Int(0, shape.rank() - 1);
    switch (random_.Int(0, 5)) {
      case 0: {
        std::vector<int64_t> perm;
        for (int d = 0; d < shape.rank(); ++d) perm.push_back(d);
        for (size_t d = perm.size(); d > 1; --d) {
          std::swap(perm[d - 1], perm[static_cast<size_t>(random_.Int(0, static_cast<int64_t>(d) - 1))]);
        }
        return b_.Transpose(x, perm);
      }
      case 1: return b_.Reshape(x, {1, shape.num_elements()});
      case 2: return b_.Concat({x, b_.Neg(x)}, axis);
      case 3: {
        std::vector<int64_t> starts, sizes;
        for (int64_t extent : shape) {
          starts.push_back(random_.Int(0, extent - 1));
          sizes.push_back(random_.Int(1, extent - starts.back()));
        }
        return b_.Slice(x, starts, sizes);
      }
      case 4: {
        std::vector<int64_t> pads(static_cast<size_t>(2 * shape.rank()), 0);
        pads[static_cast<size_t>(axis)] = 1;
        return b_.Pad(x, pads);
      }
      default: {
        std::vector<int64_t> indices;
        for (int64_t k = random_.Int(1, 5); k > 0; --k)
          indices.push_back(random_.Int(0, shape[static_cast<int>(axis)] - 1));
        const Shape count = {static_cast<int64_t>(indices.size())};
        return b_.Gather(x, b_.Constant(Fresh("indices"), Tensor::FromVector<int64_t>(count, indices)), axis);
      }
    }
  }

  // quantize, an integer matmul, dequantize; the edges carry what their integers mean.
  ValueId Quantised(ValueId x) {
    const ValueId matrix = AsMatrix(b_.Clip(x, -4, 4));
    const ValueId scale = b_.Constant(Fresh("scale"), Tensor::FromVector<float>(Shape(), {0.05f}));
    const ValueId q = b_.Quantize(matrix, scale, ValueId::kNone, DType::kI8);
    b_.SetQuant(q, {.scales = {static_cast<double>(0.05f)}});
    const ValueId w = Weight({b_.ShapeOf(matrix)[1], random_.Int(1, 9)}, 1, DType::kI8);
    const ValueId sums = b_.Named(Fresh("qfc")).Matmul(q, w);
    return b_.Dequantize(sums, b_.Constant(Fresh("scale"), Tensor::FromVector<float>(Shape(), {0.01f})),
                         ValueId::kNone);
  }

  Random& random_;
  const RandomGraphOptions options_;
  GraphBuilder b_;
  std::vector<ValueId> pool_;
  int next_ = 0;
};

}  // namespace

Graph RandomGraph(Random& random, const RandomGraphOptions& options) { return Generator(random, options).Generate(); }

std::vector<Tensor> RandomInputs(Random& random, const Graph& graph) {
  std::vector<Tensor> inputs;
  for (ValueId id : graph.inputs) inputs.push_back(RandomTensor(random, graph[id].type));
  return inputs;
}

}  // namespace tessera
