// random_node: for any op, a random small node with tensors to run it on.
//
//   std::mt19937_64 rng(7);
//   RandomCase c = RandomNode(Op::kSoftmax, rng);    // one node; odd small shapes, any parameters, types the op has
//   AddRandomEpilogue(c, rng);                       // and perhaps an element-wise body over its result
//   Run(c.graph, c.inputs) …
//
// What every test of "all ops" draws from: the evaluator against the references, generated kernels, passes,
// propagation. Values are benign for f32 arithmetic: of moderate size, divisors away from 0, sums short. A row of
// ops.def has its case in random_<family>.cc: a function Random<Name>(CaseBuilder&); a row without one does not link,
// and one whose case infer rejects aborts. Tested by ops_test.cc.
#ifndef TESSERA_GRAPH_TESTING_RANDOM_NODE_H_
#define TESSERA_GRAPH_TESTING_RANDOM_NODE_H_

#include <cstdint>
#include <initializer_list>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/graph.h"
#include "tesa/tensor.h"

namespace tessera {

struct RandomCase {
  Graph graph;                 // valid: graph.nodes[0] is the node, all its outputs are the graph's
  std::vector<Tensor> inputs;  // as graph.inputs, the node's present operands in order
};

RandomCase RandomNode(Op op, std::mt19937_64& rng);

// Gives the node, which has one output and no epilogue, a random element-wise body over its result and up to two
// further operands that broadcast; the case's graph and inputs grow by those. The body is continuous in its float
// operands, so that rounding stays rounding.
void AddRandomEpilogue(RandomCase& random_case, std::mt19937_64& rng);

// What a random_<family>.cc draws with: operands and parameters are added in order.
//
//   void RandomSoftmax(CaseBuilder& c) {
//     const Shape shape = c.RandomShape(1, 4);
//     c.Input(c.FloatType(), shape);
//     c.attrs.Set("axis", c.Int(0, shape.rank() - 1));
//   }
class CaseBuilder {
 public:
  CaseBuilder(Op op, std::mt19937_64& rng) : op_(op), rng_(rng) {}

  Attrs attrs;

  // Uniform, both ends included.
  int64_t Int(int64_t low, int64_t high);
  double Real(double low, double high);
  // True with this probability.
  bool Chance(double probability);
  template <typename T>
  T Pick(std::initializer_list<T> choices) {
    return choices.begin()[Int(0, static_cast<int64_t>(choices.size()) - 1)];
  }
  // Mostly f32; sometimes f64, f16, bf16.
  DType FloatType();
  // An integer type; below 64 bits more often than not.
  DType IntegerType();
  // Float or integer.
  DType NumberType() { return Chance(0.6) ? FloatType() : IntegerType(); }
  // Extents 1…9, few elements, sometimes an extent above a vector's length.
  Shape RandomShape(int min_rank, int max_rank);
  // A shape that broadcasts (NumPy) to `target`: some extents 1, some leading dimensions gone.
  Shape RandomBroadcast(const Shape& target);

  // A random tensor. Floats lie in [low, high], one in four at a multiple of 1/2, so that ties and zeros occur where
  // the range allows them; integers are the integers of the range that the type has; bools are even.
  Tensor RandomTensor(DType dtype, const Shape& shape, double low = -3, double high = 3);

  // Adds an operand: a random tensor, this tensor, or none (an absent optional one).
  void Input(DType dtype, const Shape& shape, double low = -3, double high = 3) {
    Input(RandomTensor(dtype, shape, low, high));
  }
  void Input(Tensor tensor);
  void NoInput();

  // Infers the result types (which must succeed) and makes the graph.
  RandomCase Finish();

  std::mt19937_64& rng() { return rng_; }

 private:
  Op op_;
  std::mt19937_64& rng_;
  std::vector<std::pair<bool, Tensor>> operands_;  // present?
};

// One drawer for each row of ops.def, defined in random_<family>.cc.
#define TES_OP(name, text, family) void Random##name(CaseBuilder& c);
#include "graph/ops/ops.def"
#undef TES_OP

}  // namespace tessera

#endif  // TESSERA_GRAPH_TESTING_RANDOM_NODE_H_
