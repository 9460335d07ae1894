// oracles: the networks and masks of the published propagation figures (SparTA, OSDI 2022: figure 13, MobileNet-V1;
// technical report, figure 16: the MLP), and the values that were published.
//
//   OracleNetwork net = OracleMlp();
//   Random random(seed);
//   Masks masks = DrawMasks(random, net, OraclePattern::kFine, 0.9);
//   SetMasks(net, masks);                              // then Propagate(net.graph, …)
//   PrunedShares(net, facts)[2];                       // of the third layer's weights
//   PublishedMlp(OraclePattern::kFine)[0.9][2];        // .9344
//
// Layers have no biases, as there. Patterns: `fine` drops each element independently, `block` each block of 64x64
// (smaller at edges) independently, `coarse` an exact count of output channels in every layer, rounded up as often as
// the fraction says where the count is no whole number. For tests and for the tool that prints the figures.
// Tested by //propagate:oracles_test.
#ifndef TESSERA_PROPAGATE_TESTING_ORACLES_H_
#define TESSERA_PROPAGATE_TESTING_ORACLES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "propagate/propagate.h"
#include "tesa/random.h"

namespace tessera {

enum class OraclePattern : uint8_t { kFine, kBlock, kCoarse };

// One layer of weights [out, in, taps] between channels of size x size pixels (1 x 1 in the MLP); a depthwise one has
// in = 1 and reads channel o for output o. Windows of 3x3 are padded by 1.
struct OracleLayer {
  std::string name;
  int64_t out, in, taps;
  bool depthwise;
  bool masked_by_channels;  // does `coarse` drop output channels here?
  int64_t size_in, size_out, stride;
  int64_t num_weights() const { return out * in * taps; }
};

using OracleMasks = std::vector<std::vector<uint8_t>>;  // of each layer, row-major, 1: kept

struct OracleNetwork {
  std::vector<OracleLayer> layers;
  Graph graph;
  std::vector<ValueId> weights;  // of each layer
};

// 1024-1024-1024-512-10 with ReLU.
OracleNetwork OracleMlp();
// 28 layers with ReLU6. Images of 64x64: the last layers see 2x2, and each tap of a window still meets a pixel. The
// classifier has 100 classes.
OracleNetwork OracleMobileNet();

OracleMasks DrawMasks(Random& random, const OracleNetwork& network, OraclePattern pattern, double sparsity);
// Weights are 1 where kept and 0 elsewhere. Small ones declare it; the large ones' zeros say so by themselves.
void SetMasks(OracleNetwork& network, const OracleMasks& masks);

// Of each layer's weights after propagation.
std::vector<int64_t> PrunedCounts(const OracleNetwork& network, const Facts& facts);
// The row of MobileNet's figure that each layer is averaged into: 0 depthwise, 1 pointwise, 2 classifier, -1 none.
std::vector<int> MobileNetRows(const OracleNetwork& network);

// By share that was dropped: layers 1 … 4.
const std::map<double, std::vector<double>>& PublishedMlp(OraclePattern pattern);
// By share that was dropped: means of depthwise and pointwise layers, and (coarse) the classifier. Not for kBlock.
const std::map<double, std::vector<double>>& PublishedMobileNet(OraclePattern pattern);

// What the shares are on average: of the MLP's layers, of MobileNet's rows. Empty where no formula is known (kBlock).
std::vector<double> ClosedFormMlp(OraclePattern pattern, double sparsity);
std::vector<double> ClosedFormMobileNet(const OracleNetwork& network, OraclePattern pattern, double sparsity);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_TESTING_ORACLES_H_
