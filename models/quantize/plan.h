// plan: which tensors of a network become integers, before anything is measured or changed.
//
//   const QuantizePlan plan = PlanQuantization(graph, spec);
//   plan.sites                          // convolutions and products with constant weights, and their bias
//   plan.edges                          // activations that they read
//   plan.floats                         // "matmul 'scores': both operands are computed"
//
// An edge is quantised once, for all of its readers. What only moves elements (reshape, transpose, slice, max pooling)
// between an edge and what computes it reads and gives integers of the same scale, so that its operand is an edge as
// well, with the same root; so is what an average pooling reads behind a quantised convolution. The graph is one that
// SimplifyPipeline has been over: biases are adds, factors of BatchNorm are in the weights. Pure function. Tested by
// quantize_test.cc.
#ifndef TESSERA_MODELS_QUANTIZE_PLAN_H_
#define TESSERA_MODELS_QUANTIZE_PLAN_H_

#include <string>
#include <vector>

#include "graph/graph.h"
#include "models/quantize/spec.h"

namespace tessera {

// A convolution or product whose operand 1 is a constant.
struct QuantizeSite {
  NodeId node = NodeId::kNone;
  ValueId x = ValueId::kNone, weight = ValueId::kNone;
  int channel_axis = 0;  // of the weight
  int sum_axis = 1;      // of the weight, that is summed over; of a convolution its input channels
  bool spatial = false;  // a convolution whose window has more than one element, or that is depthwise
  // The add of a constant per output channel that is the node's only reader; kNone where there is none.
  NodeId bias_add = NodeId::kNone;
  ValueId bias = ValueId::kNone;
};

struct QuantizeEdge {
  ValueId value = ValueId::kNone;
  ValueId root = ValueId::kNone;  // whose scale it has; itself, where nothing was moved
};

struct QuantizePlan {
  std::vector<QuantizeSite> sites;
  std::vector<QuantizeEdge> edges;  // each value once; of kIntegers
  std::vector<std::string> floats;  // what stays in float, and why
};

QuantizePlan PlanQuantization(const Graph& graph, const QuantizeSpec& spec);

}  // namespace tessera

#endif  // TESSERA_MODELS_QUANTIZE_PLAN_H_
