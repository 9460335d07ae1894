#include "propagate/testing/oracles.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "graph/builder.h"

namespace tessera {
namespace {

std::vector<uint8_t> DrawMask(Random& random, const OracleLayer& layer, OraclePattern pattern, double sparsity) {
  const int64_t count = layer.num_weights();
  std::vector<uint8_t> mask(static_cast<size_t>(count), 1);
  if (pattern == OraclePattern::kFine) {
    const uint64_t bound = static_cast<uint64_t>(sparsity * 0x1p63) * 2;
    for (uint8_t& bit : mask) bit = random.Next() >= bound ? 1 : 0;
  } else if (pattern == OraclePattern::kBlock) {
    for (int64_t r = 0; r < layer.out; r += 64) {
      for (int64_t c = 0; c < layer.in; c += 64) {
        if (!random.Chance(sparsity)) continue;
        for (int64_t o = r; o < std::min(r + 64, layer.out); ++o) {
          for (int64_t i = c; i < std::min(c + 64, layer.in); ++i) mask[static_cast<size_t>(o * layer.in + i)] = 0;
        }
      }
    }
  } else if (layer.masked_by_channels) {
    const double exact = sparsity * static_cast<double>(layer.out);
    int64_t drop = static_cast<int64_t>(std::floor(exact + 1e-9));
    if (random.Chance(exact - static_cast<double>(drop) - 1e-9)) ++drop;
    std::vector<int64_t> order(static_cast<size_t>(layer.out));
    for (int64_t o = 0; o < layer.out; ++o) order[static_cast<size_t>(o)] = o;
    for (int64_t k = 0; k < drop; ++k) {
      std::swap(order[static_cast<size_t>(k)], order[static_cast<size_t>(random.Int(k, layer.out - 1))]);
      const int64_t row = layer.in * layer.taps;
      std::fill_n(mask.begin() + order[static_cast<size_t>(k)] * row, row, uint8_t{0});
    }
  }
  return mask;
}

const std::map<double, std::vector<double>> kMlpFine = {{.5, {.5, .5, .5029, .5}},      {.6, {.6, .6, .6039, .6}},
                                                        {.7, {.7, .7, .7081, .7}},      {.8, {.8, .8, .8214, .8}},
                                                        {.9, {.9, .9, .9344, .9}},      {.95, {.95, .95, .9797, .95}},
                                                        {.98, {.98, .983, .9963, .98}}, {.99, {.99, .9962, .999, .99}}};
const std::map<double, std::vector<double>> kMlpBlock = {{.5, {.5, .5312, .7344, .5}},
                                                         {.6, {.6, .6211, .7578, .6}},
                                                         {.7, {.7, .8164, .8906, .7}},
                                                         {.8, {.8, .9336, .9453, .8}},
                                                         {.9, {.9453, .9961, .9922, .9}}};
const std::map<double, std::vector<double>> kMlpCoarse = {{.5, {.5, .75, .75, .75}},
                                                          {.6, {.6, .8397, .8397, .8397}},
                                                          {.7, {.7, .9095, .9095, .9098}},
                                                          {.8, {.8, .9599, .9599, .9599}},
                                                          {.9, {.9, .9899, .9899, .9899}}};

const std::map<double, std::vector<double>> kMobileNetCoarse = {{.5, {.746, .930, .5}}, {.6, {.833, .970, .6}},
                                                                {.7, {.905, .990, .7}}, {.8, {.959, .998, .8}},
                                                                {.9, {1.0, 1.0, 1.0}},  {.95, {1.0, 1.0, 1.0}}};
const std::map<double, std::vector<double>> kMobileNetFine = {{.5, {.500, .502}}, {.6, {.600, .607}},
                                                              {.7, {.700, .722}}, {.8, {.800, .846}},
                                                              {.9, {.902, .962}}, {.95, {.960, .994}}};

const std::map<double, std::vector<double>> kNothing;

// The shares that are pruned when each channel is zero or dead by chance of its own: chances of the layers multiply.
std::vector<double> FineClosedForm(const OracleNetwork& net, double s) {
  const size_t n = net.layers.size();
  const std::vector<int> group = MobileNetRows(net);
  std::vector<double> lit(n + 1, 1), read(n + 1, 1);  // a channel is not zero, is not dead
  for (size_t l = 0; l < n; ++l) {
    const OracleLayer& layer = net.layers[l];
    const double taps = static_cast<double>(layer.taps);
    const double one = lit[l] * (1 - std::pow(s, taps));  // a connection from a channel that is not zero
    lit[l + 1] = layer.depthwise ? one : 1 - std::pow(1 - one, static_cast<double>(layer.in));
  }
  for (size_t l = n; l-- > 0;) {
    const OracleLayer& layer = net.layers[l];
    const double one = read[l + 1] * (1 - std::pow(s, static_cast<double>(layer.taps)));
    read[l] = layer.depthwise ? one : 1 - std::pow(1 - one, static_cast<double>(layer.out));
  }
  std::vector<double> sums(3, 0), members(3, 0);
  for (size_t l = 0; l < n; ++l) {
    if (group[l] < 0) continue;
    sums[static_cast<size_t>(group[l])] += 1 - (1 - s) * lit[l] * read[l + 1];
    ++members[static_cast<size_t>(group[l])];
  }
  for (size_t r = 0; r < sums.size(); ++r) sums[r] /= members[r];
  return sums;
}

}  // namespace

OracleNetwork OracleMlp() {
  OracleNetwork net;
  GraphBuilder b("mlp");
  ValueId x = b.Input("x", DType::kF32, {1, 1024});
  const int64_t widths[] = {1024, 1024, 1024, 512, 10};
  for (int l = 0; l < 4; ++l) {
    const std::string name = "fc" + std::to_string(l + 1);
    net.layers.push_back({name, widths[l + 1], widths[l], 1, false, true, 1, 1, 1});
    const ValueId w = b.Constant(name + ".w", Tensor::Full(DType::kF32, {widths[l + 1], widths[l]}, 1));
    const ValueId bias = b.Constant(name + ".b", Tensor(DType::kF32, {widths[l + 1]}));
    x = b.Add(b.Named(name).Matmul(x, w, false, true), bias);
    if (l < 3) x = b.Relu(x);
    net.weights.push_back(w);
  }
  b.Output(x);
  net.graph = *std::move(b).Build();
  return net;
}

OracleNetwork OracleMobileNet() {
  OracleNetwork net;
  GraphBuilder b("mobilenet_v1");
  ValueId x = b.Input("image", DType::kF32, {1, 3, 64, 64});
  const auto conv = [&](const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride, bool dw) {
    const int64_t size_in = b.ShapeOf(x)[2], size_out = (size_in + stride - 1) / stride;
    net.layers.push_back({name, out, dw ? 1 : in, kernel * kernel, dw, true, size_in, size_out, stride});
    const ValueId w = b.Constant(name + ".w", Tensor::Full(DType::kF32, {out, dw ? 1 : in, kernel, kernel}, 1));
    const int64_t pad = kernel / 2;
    x = b.Named(name).Conv(x, w, {.strides = {stride, stride}, .pads = {pad, pad, pad, pad}}, dw ? in : 1);
    x = b.Named(name + ".relu6").Clip(x, 0, 6);
    net.weights.push_back(w);
  };
  conv("stem", 3, 32, 3, 2, false);
  const std::vector<std::pair<int64_t, int64_t>> blocks = {{64, 1},  {128, 2},  {128, 1}, {256, 2}, {256, 1},
                                                           {512, 2}, {512, 1},  {512, 1}, {512, 1}, {512, 1},
                                                           {512, 1}, {1024, 2}, {1024, 1}};
  int64_t in = 32;
  for (size_t k = 0; k < blocks.size(); ++k) {
    const std::string name = "block" + std::to_string(k + 1);
    conv(name + ".dw", in, in, 3, blocks[k].second, true);
    conv(name + ".pw", in, blocks[k].first, 1, 1, false);
    in = blocks[k].first;
  }
  x = b.Reduce(Op::kReduceMean, x, {2, 3}, false);
  net.layers.push_back({"logits", 100, in, 1, false, false, 1, 1, 1});
  net.weights.push_back(b.Constant("logits.w", Tensor::Full(DType::kF32, {100, in}, 1)));
  b.Output(b.Named("logits").Matmul(x, net.weights.back(), false, true));
  net.graph = *std::move(b).Build();
  return net;
}

OracleMasks DrawMasks(Random& random, const OracleNetwork& network, OraclePattern pattern, double sparsity) {
  OracleMasks masks;
  for (const OracleLayer& layer : network.layers) masks.push_back(DrawMask(random, layer, pattern, sparsity));
  return masks;
}

// Finding the smallest form of a scattered attribute takes longer than propagating it.
constexpr int64_t kDeclared = 50000;

void SetMasks(OracleNetwork& network, const OracleMasks& masks) {
  for (size_t l = 0; l < masks.size(); ++l) {
    Value& value = network.graph[network.weights[l]];
    Tensor data(DType::kF32, value.type.shape);
    const std::span<float> floats = data.mutable_data<float>();
    for (size_t k = 0; k < masks[l].size(); ++k) floats[k] = masks[l][k];
    value.tesa.reset();
    if (network.layers[l].num_weights() <= kDeclared) value.tesa = Attribute::FromKept(value.type.shape, masks[l], 32);
    value.constant = std::move(data);
  }
}

std::vector<int64_t> PrunedCounts(const OracleNetwork& network, const Facts& facts) {
  std::vector<int64_t> counts;
  for (ValueId weight : network.weights) counts.push_back(NumPruned(facts, weight));
  return counts;
}

std::vector<int> MobileNetRows(const OracleNetwork& network) {
  std::vector<int> rows;
  for (const OracleLayer& layer : network.layers) {
    rows.push_back(layer.name == "stem" ? -1 : layer.name == "logits" ? 2 : layer.depthwise ? 0 : 1);
  }
  return rows;
}

const std::map<double, std::vector<double>>& PublishedMlp(OraclePattern pattern) {
  return pattern == OraclePattern::kFine ? kMlpFine : pattern == OraclePattern::kBlock ? kMlpBlock : kMlpCoarse;
}

const std::map<double, std::vector<double>>& PublishedMobileNet(OraclePattern pattern) {
  return pattern == OraclePattern::kFine     ? kMobileNetFine
         : pattern == OraclePattern::kCoarse ? kMobileNetCoarse
                                             : kNothing;
}

std::vector<double> ClosedFormMlp(OraclePattern pattern, double s) {
  const double both = 1 - (1 - s) * (1 - s);  // a weight stands when its unit and the one before do
  if (pattern == OraclePattern::kCoarse) return {s, both, both, both};
  if (pattern == OraclePattern::kBlock) return {};
  // A unit of the third layer is unread with s^10, one of the second with the share of the third that is gone, ^512.
  const double third = 1 - (1 - s) * (1 - std::pow(s, 10));
  const double second = 1 - (1 - s) * (1 - std::pow(third, 512));
  return {1 - (1 - s) * (1 - std::pow(second, 1024)), second, third, s};
}

std::vector<double> ClosedFormMobileNet(const OracleNetwork& network, OraclePattern pattern, double s) {
  const double kept = 1 - s;
  if (pattern == OraclePattern::kFine) return FineClosedForm(network, s);
  if (pattern == OraclePattern::kBlock) return {};
  // A depthwise channel stands when it and its input do; a pointwise weight when both depthwise neighbours do. Behind
  // the last one there is no depthwise layer, and the classifier drops no class.
  return {1 - kept * kept, 1 - (12 * std::pow(kept, 4) + std::pow(kept, 3)) / 13, s};
}

}  // namespace tessera
