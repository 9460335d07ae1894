// What results are held to: the graph run by the interpreter in double on the declared (masked) weights.
//
//   ASSIGN_OR_RETURN(std::vector<Tensor> expected, Reference(graph, inputs, CacheFolder() + "/reference"));
//   const Difference d = Compare(outputs[0], expected[0]);
//   if (d.relative > ErrorBound(graph)) ...                      // a wrong result
//
// The interpreter takes seconds for an image network and minutes for BERT, so its results are kept in a folder between
// processes, under a key of all that they depend on: graph, weights, inputs, and this program's own bytes. Not for
// sharing between threads. Tested by reference_test.cc.
#ifndef TESSERA_TOOLS_COMMON_REFERENCE_H_
#define TESSERA_TOOLS_COMMON_REFERENCE_H_

#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "tesa/tensor.h"

namespace tessera {

// The outputs of `graph`: floats as f64, others in their own type. `folder` may be empty: nothing is kept.
StatusOr<std::vector<Tensor>> Reference(const Graph& graph, std::span<const Tensor> inputs, const std::string& folder);

struct Difference {
  double absolute = 0;  // max |y - r|; infinite where one is NaN and the other is not
  double relative = 0;  // the same over max |r| of finite r; the absolute where all r are 0
  int64_t worst = 0;    // the element, row-major
};
// Same shape; types may differ. Equal infinities and two NaN do not differ.
Difference Compare(const Tensor& result, const Tensor& reference);

// The relative error that a correct result may have (MEASURE.md): 1e-4 for f32 networks, five times the bound of the
// narrowest float type computed with otherwise; 0 for networks of integers only. Where floats are quantised on the way
// a value on the border of two integers may fall to either side: 5 %.
double ErrorBound(const Graph& graph);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_REFERENCE_H_
