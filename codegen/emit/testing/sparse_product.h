// Products with pruned constant weights as small graphs, with random tensors to run them on, for tests of the emitters
// that compute such products; and running them where reading past an end is seen.
//
//   OneProduct product({.rows = 33, .depth = 77, .columns = 10, .density = 0.1, .integers = true}, random);
//   product.BiasAndActivation(random, 1, 2);
//   const Graph graph = product.Build();
//   RunGuarded(graph, product.inputs, "host", "sparse_stream", {1, 2});
//
// For one thread. Tested through its users.
#ifndef TESSERA_CODEGEN_EMIT_TESTING_SPARSE_PRODUCT_H_
#define TESSERA_CODEGEN_EMIT_TESTING_SPARSE_PRODUCT_H_

#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/builder.h"
#include "graph/graph.h"
#include "tesa/attribute.h"
#include "tesa/tensor.h"

namespace tessera {

class Random {
 public:
  explicit Random(uint64_t seed) : rng_(seed) {}
  int64_t Int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng_); }
  bool Chance(double p) { return std::uniform_real_distribution<double>(0, 1)(rng_) < p; }
  // f32 in [-1, 1], i32 in a few thousands, bytes from all that there are, the ends often.
  Tensor Make(const Shape& shape, DType type = DType::kF32) {
    Tensor tensor(type, shape);
    if (type == DType::kF32) {
      std::uniform_real_distribution<float> value(-1, 1);
      for (float& element : tensor.mutable_data<float>()) element = value(rng_);
      return tensor;
    }
    const int64_t low = type == DType::kU8 ? 0 : type == DType::kI8 ? -128 : -5000;
    const int64_t high = type == DType::kU8 ? 255 : type == DType::kI8 ? 127 : 5000;
    for (int64_t k = 0; k < shape.num_elements(); ++k) {
      tensor.Set(k, static_cast<double>(Chance(0.1) ? (Chance(0.5) ? low : high) : Int(low, high)));
    }
    return tensor;
  }

 private:
  std::mt19937_64 rng_;
};

// The outputs of the graph, compiled for the last number of threads and run with each; inputs and outputs end where
// memory ends.
StatusOr<std::vector<std::vector<Tensor>>> RunGuarded(const Graph& graph, std::span<const Tensor> inputs,
                                                      const std::string& level, const std::string& emitter,
                                                      const std::vector<int>& threads);

struct Case {
  int64_t rows = 1, depth = 1, columns = 1;  // of Y = W · X
  bool weights_left = false, transpose_w = false, transpose_x = false;
  double density = 0.1;
  bool integers = false;
};

// A graph of one product, f32 or u8 · i8, and the tensors to run it on.
struct OneProduct {
  GraphBuilder builder{"sparse"};
  bool integers = false;
  std::vector<Tensor> inputs;
  ValueId result;
  int64_t rows, columns;

  DType x_type() const { return integers ? DType::kU8 : DType::kF32; }
  DType sum_type() const { return integers ? DType::kI32 : DType::kF32; }
  // Weights of `shape`, kept where `keep` says so.
  ValueId Weights(const Shape& shape, Random& random, const std::function<bool(int64_t)>& keep) {
    std::vector<uint8_t> kept;
    for (int64_t k = 0; k < shape.num_elements(); ++k) kept.push_back(keep(k) ? 1 : 0);
    const DType type = integers ? DType::kI8 : DType::kF32;
    const Attribute tesa = Attribute::FromKept(shape, kept, TypeInfo(type).bits);
    const ValueId id = builder.Constant("w", tesa.ApplyTo(random.Make(shape, type)));
    builder.SetTesa(id, tesa);
    return id;
  }

  OneProduct(const Case& c, Random& random)
      : OneProduct(c, random, [&](int64_t) { return random.Chance(c.density); }) {}
  OneProduct(const Case& c, Random& random, const std::function<bool(int64_t)>& keep)
      : integers(c.integers), rows(c.weights_left ? c.rows : c.columns), columns(c.weights_left ? c.columns : c.rows) {
    // W lies [rows, depth], or transposed, in place A; [depth, rows], or transposed, in place B.
    const Shape w = c.weights_left != c.transpose_w ? Shape{c.rows, c.depth} : Shape{c.depth, c.rows};
    const Shape x = c.weights_left != c.transpose_x ? Shape{c.depth, c.columns} : Shape{c.columns, c.depth};
    inputs.push_back(random.Make(x, x_type()));
    const ValueId activations = builder.Input("x", x_type(), x);
    const ValueId weights = Weights(w, random, keep);
    result = c.weights_left ? builder.Matmul(weights, activations, c.transpose_w, c.transpose_x)
                            : builder.Matmul(activations, weights, c.transpose_x, c.transpose_w);
  }
  explicit OneProduct(bool of_integers) : integers(of_integers), rows(0), columns(0) {}

  ValueId Operand(const Shape& shape, Random& random) {
    const std::string name = "operand" + std::to_string(inputs.size());
    inputs.push_back(random.Make(shape, sum_type()));
    return builder.Input(name, sum_type(), shape);
  }
  // bias along the columns or rows of the result, then an activation; of integers the second one is a shift to u8.
  void BiasAndActivation(Random& random, int bias, int activation) {
    BodyBuilder body;
    Scalar value = body.Input(sum_type());
    DType type = sum_type();
    std::vector<ValueId> operands;
    if (bias != 0) {
      operands.push_back(Operand(bias == 1   ? Shape{columns}
                                 : bias == 2 ? Shape{rows, 1}
                                             : Shape{rows, columns},
                                 random));
      value = value + body.Input(sum_type());
    }
    if (activation == 1) value = Max(value, 0.0);
    if (activation == 2 && integers) {
      type = DType::kU8;
      value = Min(Max(body.Op(ScalarOp::kShr, {value, body.ConstInt(DType::kI32, 9)}) + 128.0, 0.0), 255.0);
    } else if (activation == 2) {
      value = value * 0.5 * (Erf(value * 0.7071067811865476) + 1.0);
    }
    result = builder.WithEpilogue(result, body.Finish(value), operands, type);
  }
  Graph Build() {
    builder.Output(result);
    StatusOr<Graph> graph = std::move(builder).Build();
    TES_CHECK(graph.ok(), graph.status());
    return *std::move(graph);
  }
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_TESTING_SPARSE_PRODUCT_H_
