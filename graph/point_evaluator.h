// PointEvaluator: single elements of an op's result, without computing the others: the values of constants that
// propagation finds, in the time of those elements.
//
//   PointEvaluator at(NodeCompute(graph, node), [&](int input, int64_t element) { return ScalarValue{.f = …}; });
//   at.Value(/*output=*/0, /*element=*/17).f;
//
// Demand-driven evaluation of a Compute: an element of a temporary is computed when it is first asked for and kept.
// Sums run in double, as in Evaluate. Input elements are asked for through the callback, or read from tensors. One
// thread per object.
// Tested by point_evaluator_test.cc against Evaluate, for every op.
#ifndef TESSERA_GRAPH_POINT_EVALUATOR_H_
#define TESSERA_GRAPH_POINT_EVALUATOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "graph/compute.h"

namespace tessera {

class PointEvaluator {
 public:
  using Read = std::function<ScalarValue(int input, int64_t element)>;
  PointEvaluator(Compute compute, Read read);
  // With all inputs at hand, which sums of products then walk directly: a nanosecond for each product. Borrowed; null
  // for operands that are absent.
  PointEvaluator(Compute compute, std::vector<const RefTensor*> inputs);
  PointEvaluator(PointEvaluator&&) noexcept;
  ~PointEvaluator();

  // Element `element` (row-major) of output `output`, wrapped and narrowed to integers' storage type as RefTensor::Set.
  ScalarValue Value(int output, int64_t element);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera

#endif  // TESSERA_GRAPH_POINT_EVALUATOR_H_
