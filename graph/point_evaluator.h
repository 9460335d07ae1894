// PointEvaluator: single elements of an op's result, without computing the others: the values of constants that
// propagation finds, in the time of those elements.
//
//   PointEvaluator at(NodeCompute(graph, node), [&](int input, int64_t element) { return ScalarValue{.f = …}; });
//   at.Value(/*output=*/0, /*element=*/17).f;
//
// Demand-driven evaluation of a Compute: an element of a temporary is computed when it is first asked for and kept.
// Sums run in double, as in Evaluate. Each input element is asked for through the callback. One thread per object.
// Tested by point_evaluator_test.cc against Evaluate, for every op.
#ifndef TESSERA_GRAPH_POINT_EVALUATOR_H_
#define TESSERA_GRAPH_POINT_EVALUATOR_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "graph/compute.h"

namespace tessera {

class PointEvaluator {
 public:
  using Read = std::function<ScalarValue(int input, int64_t element)>;
  PointEvaluator(Compute compute, Read read);
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
