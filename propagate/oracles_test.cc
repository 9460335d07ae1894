// The published figures of propagation (SparTA, OSDI 2022: figure 13, MobileNet-V1; technical report, figure 16: the
// MLP), three ways: what Propagate finds, a count by plain loops over the masks that shares no code with it, and the
// closed form that the two follow on average.
//
// For each level and each of 100 seeds the first two are equal, exactly, layer by layer. Their mean over the seeds
// equals the closed form to 1e-3 (MLP) or 0.005 (MobileNet), and each published value lies within three standard
// deviations. Patterns: `fine` drops each element independently, `block` each block of 64x64 (fewer at edges)
// independently, `coarse` an exact count of output channels in every layer, rounded up as often as the fraction says
// where the count is no whole number. No biases, as there.
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "graph/builder.h"
#include "gtest/gtest.h"
#include "propagate/propagate.h"
#include "tesa/random.h"

namespace tessera {
namespace {

constexpr int kSeeds = 100;

// One layer of weights [out, in, taps] between channels; a depthwise one has in = 1 and reads channel o for output o.
struct Layer {
  std::string name;
  int64_t out, in, taps;
  bool depthwise;
  bool masked;  // by the coarse pattern
  int64_t stride;
};

using Masks = std::vector<std::vector<uint8_t>>;  // of each layer, row-major, 1: kept

// ---- The count by plain loops ----

struct Counts {
  std::vector<int64_t> pruned;  // of each layer's weights
  bool collapsed = false;       // a layer without weights, or no output that depends on the input
};

Counts CountByLoops(const std::vector<Layer>& layers, const Masks& masks) {
  const size_t n = layers.size();
  std::vector<std::vector<bool>> zero(n + 1), dead(n + 1);
  zero[0].assign(static_cast<size_t>(layers[0].in), false);
  const auto kept = [&](size_t l, int64_t o, int64_t i) {
    for (int64_t t = 0; t < layers[l].taps; ++t) {
      if (masks[l][static_cast<size_t>((o * layers[l].in + i) * layers[l].taps + t)] != 0) return true;
    }
    return false;
  };
  const auto source = [&](size_t l, int64_t o, int64_t i) { return static_cast<size_t>(layers[l].depthwise ? o : i); };
  for (size_t l = 0; l < n; ++l) {
    zero[l + 1].assign(static_cast<size_t>(layers[l].out), true);
    for (int64_t o = 0; o < layers[l].out; ++o) {
      for (int64_t i = 0; i < layers[l].in && zero[l + 1][static_cast<size_t>(o)]; ++i) {
        if (!zero[l][source(l, o, i)] && kept(l, o, i)) zero[l + 1][static_cast<size_t>(o)] = false;
      }
    }
  }
  dead[n].assign(static_cast<size_t>(layers[n - 1].out), false);
  for (size_t l = n; l-- > 0;) {
    dead[l].assign(zero[l].size(), true);
    for (int64_t o = 0; o < layers[l].out; ++o) {
      if (dead[l + 1][static_cast<size_t>(o)]) continue;
      for (int64_t i = 0; i < layers[l].in; ++i) {
        if (dead[l][source(l, o, i)] && kept(l, o, i)) dead[l][source(l, o, i)] = false;
      }
    }
  }
  Counts counts;
  for (size_t l = 0; l < n; ++l) {
    int64_t pruned = 0;
    for (int64_t o = 0; o < layers[l].out; ++o) {
      for (int64_t i = 0; i < layers[l].in; ++i) {
        const bool lost = zero[l][source(l, o, i)] || dead[l + 1][static_cast<size_t>(o)];
        for (int64_t t = 0; t < layers[l].taps; ++t) {
          pruned += lost || masks[l][static_cast<size_t>((o * layers[l].in + i) * layers[l].taps + t)] == 0 ? 1 : 0;
        }
      }
    }
    counts.pruned.push_back(pruned);
    counts.collapsed |= pruned == layers[l].out * layers[l].in * layers[l].taps;
  }
  bool any = false;
  for (size_t o = 0; o < zero[n].size(); ++o) any |= !zero[n][o];
  counts.collapsed |= !any;
  return counts;
}

// ---- Masks ----

enum class Kind { kFine, kBlock, kCoarse };

std::vector<uint8_t> DrawMask(Random& random, const Layer& layer, Kind kind, double sparsity) {
  const int64_t count = layer.out * layer.in * layer.taps;
  std::vector<uint8_t> mask(static_cast<size_t>(count), 1);
  if (kind == Kind::kFine) {
    const uint64_t bound = static_cast<uint64_t>(sparsity * 0x1p63) * 2;
    for (uint8_t& bit : mask) bit = random.Next() >= bound ? 1 : 0;
  } else if (kind == Kind::kBlock) {
    for (int64_t r = 0; r < layer.out; r += 64) {
      for (int64_t c = 0; c < layer.in; c += 64) {
        if (!random.Chance(sparsity)) continue;
        for (int64_t o = r; o < std::min(r + 64, layer.out); ++o) {
          for (int64_t i = c; i < std::min(c + 64, layer.in); ++i) mask[static_cast<size_t>(o * layer.in + i)] = 0;
        }
      }
    }
  } else if (layer.masked) {
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

// ---- Networks ----

struct Network {
  std::vector<Layer> layers;
  Graph graph;
  std::vector<ValueId> weights;  // of each layer
};

Network Mlp() {
  Network net;
  GraphBuilder b("mlp");
  ValueId x = b.Input("x", DType::kF32, {1, 1024});
  const int64_t widths[] = {1024, 1024, 1024, 512, 10};
  for (int l = 0; l < 4; ++l) {
    const std::string name = "fc" + std::to_string(l + 1);
    net.layers.push_back({name, widths[l + 1], widths[l], 1, false, true, 1});
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

// Of 64x64 pixels, so that the last layers see 2x2 and each tap of a window still meets one.
Network MobileNet() {
  Network net;
  GraphBuilder b("mobilenet_v1");
  ValueId x = b.Input("image", DType::kF32, {1, 3, 64, 64});
  const auto conv = [&](const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride, bool dw) {
    net.layers.push_back({name, out, dw ? 1 : in, kernel * kernel, dw, true, stride});
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
  net.layers.push_back({"logits", 1000, in, 1, false, false, 1});
  net.weights.push_back(b.Constant("logits.w", Tensor::Full(DType::kF32, {1000, in}, 1)));
  b.Output(b.Named("logits").Matmul(x, net.weights.back(), false, true));
  net.graph = *std::move(b).Build();
  return net;
}

void SetMask(Network& net, size_t layer, const std::vector<uint8_t>& mask) {
  Value& value = net.graph[net.weights[layer]];
  Tensor data(DType::kF32, value.type.shape);
  const std::span<float> floats = data.mutable_data<float>();
  for (size_t k = 0; k < mask.size(); ++k) floats[k] = mask[k];
  value.tesa = Attribute::FromKept(value.type.shape, mask, 32);
  value.constant = std::move(data);
}

// ---- The experiment ----

struct Statistics {
  double sum = 0, squares = 0;
  int count = 0;
  void Add(double x) { sum += x, squares += x * x, ++count; }
  double mean() const { return sum / count; }
  double deviation() const { return std::sqrt(std::max(0.0, squares / count - mean() * mean())); }
};

// Shares of pruned weights by layer, or by group of layers, over the seeds.
struct Result {
  std::vector<Statistics> all;       // over all seeds
  std::vector<Statistics> survived;  // over those that did not collapse
  int collapsed = 0;
};

// `group[l]`: the row of the figure that layer l is averaged into; -1: none.
Result RunLevel(Network& net, Kind kind, double sparsity, const std::vector<int>& group) {
  Result result;
  const int rows = *std::max_element(group.begin(), group.end()) + 1;
  result.all.resize(static_cast<size_t>(rows));
  result.survived.resize(static_cast<size_t>(rows));
  RuleBook book(RuleMode::kExact);
  for (int seed = 1; seed <= kSeeds; ++seed) {
    Random random(static_cast<uint64_t>(seed) * 1000003 + static_cast<uint64_t>(sparsity * 1000));
    Masks masks;
    for (size_t l = 0; l < net.layers.size(); ++l) {
      masks.push_back(DrawMask(random, net.layers[l], kind, sparsity));
      SetMask(net, l, masks.back());
    }
    const Counts expected = CountByLoops(net.layers, masks);
    StatusOr<Facts> facts = Propagate(net.graph, book, {.on_collapse = OnCollapse::kKeep});
    if (!facts.ok()) {
      ADD_FAILURE() << facts.status();
      return result;
    }
    EXPECT_EQ(!facts->collapsed.empty(), expected.collapsed) << "seed " << seed;
    if (expected.collapsed && result.collapsed == 0) {
      // Once a level: it is refused, and the message says what is empty.
      StatusOr<Facts> refused = Propagate(net.graph, book);
      EXPECT_FALSE(refused.ok());
      EXPECT_EQ(refused.status().code(), ErrorCode::kNetworkCollapsed);
      EXPECT_NE(refused.status().message().find("declared pruned"), std::string::npos) << refused.status();
    }
    result.collapsed += expected.collapsed ? 1 : 0;
    std::vector<double> share(static_cast<size_t>(rows), 0), members(static_cast<size_t>(rows), 0);
    for (size_t l = 0; l < net.layers.size(); ++l) {
      const Attribute tesa = PrunedAttribute(net.graph, *facts, net.weights[l]);
      const int64_t pruned = tesa.num_elements() - tesa.num_kept();
      EXPECT_EQ(pruned, expected.pruned[l]) << net.layers[l].name << ", seed " << seed;
      if (group[l] < 0) continue;
      share[static_cast<size_t>(group[l])] += static_cast<double>(pruned) / static_cast<double>(tesa.num_elements());
      ++members[static_cast<size_t>(group[l])];
    }
    for (size_t r = 0; r < share.size(); ++r) {
      result.all[r].Add(share[r] / members[r]);
      if (!expected.collapsed) result.survived[r].Add(share[r] / members[r]);
    }
    if (testing::Test::HasFailure()) return result;
  }
  return result;
}

// One line of the table. `closed` is compared with the mean over the seeds that survived, where it is given.
void Report(const std::string& row, const Result& result, size_t r, double published, double closed, double tolerance) {
  const Statistics& s = result.all[r];
  std::printf("%-34s published %.4f  mean %.4f  sd %.4f  difference %+.4f  closed form %.4f  collapsed %d\n",
              row.c_str(), published, s.mean(), s.deviation(), s.mean() - published, closed, result.collapsed);
  // Published with three or four digits.
  const double digits = published * 1000 == std::round(published * 1000) ? 5e-4 : 5e-5;
  if (!std::isnan(published)) {
    EXPECT_LE(std::fabs(s.mean() - published), 3 * s.deviation() + digits) << row;
  }
  if (!std::isnan(closed) && result.survived[r].count > 0) {
    EXPECT_NEAR(result.survived[r].mean(), closed, tolerance) << row;
  }
}

std::string Percent(double s) { return std::to_string(static_cast<int>(std::lround(s * 100))) + " %"; }

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// ---- MLP 1024-1024-1024-512-10 ----

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

class MlpOracle : public testing::TestWithParam<double> {};

TEST_P(MlpOracle, Fine) {
  const double s = GetParam();
  Network net = Mlp();
  const Result result = RunLevel(net, Kind::kFine, s, {0, 1, 2, 3});
  // A unit of the third layer is unread with s^10, one of the second with the share of the third that is gone, ^512.
  const double third = 1 - (1 - s) * (1 - std::pow(s, 10));
  const double second = 1 - (1 - s) * (1 - std::pow(third, 512));
  const double first = 1 - (1 - s) * (1 - std::pow(second, 1024));
  const double closed[] = {first, second, third, s};
  for (size_t l = 0; l < 4; ++l) {
    Report("mlp fine " + Percent(s) + " L" + std::to_string(l + 1), result, l, kMlpFine.at(s)[l], closed[l], 1e-3);
  }
}

TEST_P(MlpOracle, Block) {
  const double s = GetParam();
  if (!kMlpBlock.contains(s)) return;
  Network net = Mlp();
  const Result result = RunLevel(net, Kind::kBlock, s, {0, 1, 2, 3});
  for (size_t l = 0; l < 4; ++l) {
    Report("mlp block " + Percent(s) + " L" + std::to_string(l + 1), result, l, kMlpBlock.at(s)[l], kNone, 0);
  }
}

TEST_P(MlpOracle, Coarse) {
  const double s = GetParam();
  if (!kMlpCoarse.contains(s)) return;
  Network net = Mlp();
  const Result result = RunLevel(net, Kind::kCoarse, s, {0, 1, 2, 3});
  for (size_t l = 0; l < 4; ++l) {
    const double closed = l == 0 ? s : 1 - (1 - s) * (1 - s);
    Report("mlp coarse " + Percent(s) + " L" + std::to_string(l + 1), result, l, kMlpCoarse.at(s)[l], closed, 1e-3);
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, MlpOracle, testing::Values(.5, .6, .7, .8, .9, .95, .98, .99));

// ---- MobileNet-V1 ----

// Rows: depthwise mean, pointwise mean, classifier.
const std::map<double, std::vector<double>> kMobileNetCoarse = {{.5, {.746, .930, .5}}, {.6, {.833, .970, .6}},
                                                                {.7, {.905, .990, .7}}, {.8, {.959, .998, .8}},
                                                                {.9, {1.0, 1.0, 1.0}},  {.95, {1.0, 1.0, 1.0}}};
const std::map<double, std::vector<double>> kMobileNetFine = {{.5, {.500, .502}}, {.6, {.600, .607}},
                                                              {.7, {.700, .722}}, {.8, {.800, .846}},
                                                              {.9, {.902, .962}}, {.95, {.960, .994}}};

std::vector<int> MobileNetGroups(const Network& net) {
  std::vector<int> group;
  for (const Layer& layer : net.layers) {
    group.push_back(layer.name == "stem" ? -1 : layer.name == "logits" ? 2 : layer.depthwise ? 0 : 1);
  }
  return group;
}

// The shares that are pruned when each channel is zero or dead by chance of its own: chances of the layers multiply.
std::vector<double> FineClosedForm(const Network& net, double s, const std::vector<int>& group) {
  const size_t n = net.layers.size();
  std::vector<double> lit(n + 1, 1), read(n + 1, 1);  // a channel is not zero, is not dead
  for (size_t l = 0; l < n; ++l) {
    const Layer& layer = net.layers[l];
    const double taps = static_cast<double>(layer.taps);
    const double one = lit[l] * (1 - std::pow(s, taps));  // a connection from a channel that is not zero
    lit[l + 1] = layer.depthwise ? one : 1 - std::pow(1 - one, static_cast<double>(layer.in));
  }
  for (size_t l = n; l-- > 0;) {
    const Layer& layer = net.layers[l];
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

class MobileNetOracle : public testing::TestWithParam<double> {};

TEST_P(MobileNetOracle, Fine) {
  const double s = GetParam();
  Network net = MobileNet();
  const std::vector<int> group = MobileNetGroups(net);
  const Result result = RunLevel(net, Kind::kFine, s, group);
  const std::vector<double> closed = FineClosedForm(net, s, group);
  Report("mobilenet fine " + Percent(s) + " depthwise", result, 0, kMobileNetFine.at(s)[0], closed[0], 0.005);
  Report("mobilenet fine " + Percent(s) + " pointwise", result, 1, kMobileNetFine.at(s)[1], closed[1], 0.005);
}

TEST_P(MobileNetOracle, Coarse) {
  const double s = GetParam(), kept = 1 - s;
  Network net = MobileNet();
  const Result result = RunLevel(net, Kind::kCoarse, s, MobileNetGroups(net));
  // A depthwise channel stands when it and its input do; a pointwise weight when both depthwise neighbours do. Behind
  // the last one there is no depthwise layer, and the classifier drops no class.
  const double closed[] = {1 - kept * kept, 1 - (12 * std::pow(kept, 4) + std::pow(kept, 3)) / 13, s};
  const char* rows[] = {"depthwise", "pointwise", "classifier"};
  for (size_t r = 0; r < 3; ++r) {
    Report("mobilenet coarse " + Percent(s) + " " + rows[r], result, r, kMobileNetCoarse.at(s)[r],
           result.collapsed > 90 ? kNone : closed[r], 0.005);
  }
  if (s >= 0.9) {
    EXPECT_GT(result.collapsed, 80);
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, MobileNetOracle, testing::Values(.5, .6, .7, .8, .9, .95));

}  // namespace
}  // namespace tessera
