// fake_quant: a network with its weights and the activations that they meet rounded to chosen widths, still in floats.
//
//   FakeQuantized q(graph, calibration);           // a site for each weight and each operand of a contraction
//   q.SetWidth(0, 4);                              // %x of 'conv1' on 15 levels
//   Interpret(q.graph(), inputs);
//
//   weights       per output channel, symmetric: w ~ s[c] * clamp(round(w / s[c]), -L, L), L = 2^(bits-1) - 1
//   activations   per tensor: x ~ s * clamp(round(x / s), low, high); [0, 2^bits - 1] where calibration saw no negative
//                 value, else [-L, L]; in the graph as div, round, clip and mul
//
// The scale s is the one of 40 candidates, from the largest magnitude down to a fifth of it, whose rounding has the
// least mean squared error (over the channel; over a sample of calibration's values). The structure of graph() is
// always the same; SetWidth exchanges constants and bounds. Sites are in topological order, the activation of a node
// before its weight. Widths are 2 to 16. Thread-compatible. Tested by lower_bits_test.cc.
#ifndef TESSERA_PROPAGATE_BITS_FAKE_QUANT_H_
#define TESSERA_PROPAGATE_BITS_FAKE_QUANT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace tessera {

struct QuantSite {
  std::string name;                // of the tensor
  std::string node;                // that reads it first
  ValueId value = ValueId::kNone;  // of the original graph
  bool is_weight = false;
  int channel_axis = 0;  // of a weight
  int64_t elements = 0;
};

// f32 weights and activations of f32 convolutions and matmuls; several readers of a tensor share its site. An
// activation is quantised for all of its readers.
std::vector<QuantSite> QuantSites(const Graph& graph);

class FakeQuantized {
 public:
  // `samples`: for each site of an activation values that it takes (any number above 0); not used for weights.
  FakeQuantized(const Graph& graph, std::vector<std::vector<float>> samples);

  const std::vector<QuantSite>& sites() const { return sites_; }
  const Graph& graph() const { return graph_; }
  int width(size_t site) const { return widths_[site]; }
  const std::vector<int>& widths() const { return widths_; }
  void SetWidth(size_t site, int width);
  // The first node of graph() that a change of the site's width touches.
  size_t first_node(size_t site) const { return first_nodes_[site]; }
  // Mean squared rounding error over mean square at this width, in decibels: how well the site alone is kept.
  double SignalToNoise(size_t site, int width) const;

 private:
  struct Rounding {
    Tensor weight;    // rounded, of a weight
    float scale = 1;  // of an activation
    double low = 0, high = 0;
    double error = 0, power = 0;  // sums of squares
  };
  Rounding Round(size_t site, int width) const;

  std::vector<QuantSite> sites_;
  Graph graph_;
  std::vector<Tensor> weights_;  // as they were
  std::vector<std::vector<float>> samples_;
  std::vector<ValueId> targets_;             // of graph_: a weight, or the constant that holds the scale
  std::vector<size_t> first_nodes_, clips_;  // of graph_
  std::vector<int> widths_;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_BITS_FAKE_QUANT_H_
