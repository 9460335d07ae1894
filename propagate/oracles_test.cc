// The published figures of propagation, three ways: what Propagate finds, a count by plain loops over the masks that
// shares no code with it, and the closed form that the two follow on average.
//
// For each level and each of 100 seeds the first two are equal, exactly, layer by layer. Their mean over the seeds
// equals the closed form to 1e-3 (MLP) or 0.005 (MobileNet), and each published value lies within three standard
// deviations. Networks and masks: testing/oracles.h.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "propagate/propagate.h"
#include "propagate/testing/oracles.h"
#include "tesa/random.h"

namespace tessera {
namespace {

constexpr int kSeeds = 100;

// ---- The count by plain loops ----

struct Counts {
  std::vector<int64_t> pruned;  // of each layer's weights
  bool collapsed = false;       // a layer without weights, or no output that depends on the input
};

// Which pixels of each channel, 64 to a word.
struct Pixels {
  int64_t words = 0;
  std::vector<uint64_t> bits;
  Pixels(int64_t channels, int64_t size, bool all) : words((size * size + 63) / 64) {
    bits.assign(static_cast<size_t>(channels * words), 0);
    for (int64_t c = 0; c < channels && all; ++c) {
      for (int64_t p = 0; p < size * size; ++p) Set(c, p);
    }
  }
  bool Has(int64_t c, int64_t p) const { return bits[static_cast<size_t>(c * words + p / 64)] >> (p % 64) & 1; }
  void Set(int64_t c, int64_t p) { bits[static_cast<size_t>(c * words + p / 64)] |= uint64_t{1} << (p % 64); }
  bool Any(int64_t c) const {
    for (int64_t w = 0; w < words; ++w) {
      if (bits[static_cast<size_t>(c * words + w)] != 0) return true;
    }
    return false;
  }
};

// Calls visit(o, c, t, p, q) for each kept weight (o, tap t) that reads channel c: output pixel p reads input pixel q.
template <typename Visit>
void ForEachRead(const OracleLayer& layer, const std::vector<uint8_t>& mask, Visit visit) {
  const int64_t pad = layer.taps == 9 ? 1 : 0, width = layer.taps == 9 ? 3 : 1;
  for (int64_t o = 0; o < layer.out; ++o) {
    for (int64_t i = 0; i < layer.in; ++i) {
      for (int64_t t = 0; t < layer.taps; ++t) {
        if (mask[static_cast<size_t>((o * layer.in + i) * layer.taps + t)] == 0) continue;
        for (int64_t y = 0; y < layer.size_out; ++y) {
          for (int64_t x = 0; x < layer.size_out; ++x) {
            const int64_t v = y * layer.stride + t / width - pad, u = x * layer.stride + t % width - pad;
            if (v < 0 || u < 0 || v >= layer.size_in || u >= layer.size_in) continue;
            visit(o, layer.depthwise ? o : i, t, y * layer.size_out + x, v * layer.size_in + u);
          }
        }
      }
    }
  }
}

// Windows of one pixel are walked a word of pixels at a time.
bool IsPointwise(const OracleLayer& layer) { return layer.taps == 1; }

Counts CountByLoops(const std::vector<OracleLayer>& layers, const OracleMasks& masks) {
  const size_t n = layers.size();
  // Pixels that may differ from zero, of the inputs of each layer and of the last one's outputs; pixels that are read,
  // of the outputs of each layer.
  std::vector<Pixels> lit = {Pixels(layers[0].in, layers[0].size_in, true)};
  for (size_t l = 0; l < n; ++l) {
    const OracleLayer& layer = layers[l];
    Pixels out(layer.out, layer.size_out, false);
    const Pixels& in = lit.back();
    if (IsPointwise(layer)) {
      for (int64_t o = 0; o < layer.out; ++o) {
        for (int64_t i = 0; i < layer.in; ++i) {
          if (masks[l][static_cast<size_t>(o * layer.in + i)] == 0) continue;
          for (int64_t w = 0; w < in.words; ++w) {
            out.bits[static_cast<size_t>(o * in.words + w)] |= in.bits[static_cast<size_t>(i * in.words + w)];
          }
        }
      }
    } else {
      ForEachRead(layer, masks[l], [&](int64_t o, int64_t c, int64_t, int64_t p, int64_t q) {
        if (in.Has(c, q)) out.Set(o, p);
      });
    }
    if (l + 1 < n && layers[l + 1].size_in != layer.size_out) {  // the mean over the image
      Pixels mean(layer.out, 1, false);
      for (int64_t o = 0; o < layer.out; ++o) {
        if (out.Any(o)) mean.Set(o, 0);
      }
      out = mean;
    }
    lit.push_back(std::move(out));
  }
  Counts counts;
  counts.pruned.resize(n);
  Pixels read(layers[n - 1].out, layers[n - 1].size_out, true);
  for (size_t l = n; l-- > 0;) {
    const OracleLayer& layer = layers[l];
    const Pixels& in = lit[l];
    Pixels read_in(layer.depthwise ? layer.out : layer.in, layer.size_in, false);
    std::vector<uint8_t> needed(masks[l].size(), 0);
    if (IsPointwise(layer)) {
      for (int64_t o = 0; o < layer.out; ++o) {
        for (int64_t i = 0; i < layer.in; ++i) {
          const size_t k = static_cast<size_t>(o * layer.in + i);
          if (masks[l][k] == 0) continue;
          for (int64_t w = 0; w < in.words; ++w) {
            const uint64_t wanted = read.bits[static_cast<size_t>(o * in.words + w)];
            read_in.bits[static_cast<size_t>(i * in.words + w)] |= wanted;
            if ((wanted & in.bits[static_cast<size_t>(i * in.words + w)]) != 0) needed[k] = 1;
          }
        }
      }
    } else {
      ForEachRead(layer, masks[l], [&](int64_t o, int64_t c, int64_t t, int64_t p, int64_t q) {
        if (!read.Has(o, p)) return;
        read_in.Set(c, q);
        const int64_t i = layer.depthwise ? 0 : c;
        if (in.Has(c, q)) needed[static_cast<size_t>((o * layer.in + i) * layer.taps + t)] = 1;
      });
    }
    for (uint8_t one : needed) counts.pruned[l] += one == 0 ? 1 : 0;
    counts.collapsed |= counts.pruned[l] == layer.num_weights();
    if (l > 0 && layers[l - 1].size_out != layer.size_in) {
      Pixels image(layer.in, layers[l - 1].size_out, false);
      for (int64_t c = 0; c < layer.in; ++c) {
        for (int64_t p = 0; p < layers[l - 1].size_out * layers[l - 1].size_out && read_in.Any(c); ++p) image.Set(c, p);
      }
      read_in = image;
    }
    read = std::move(read_in);
  }
  bool any = false;
  for (int64_t o = 0; o < layers[n - 1].out; ++o) any |= lit[n].Any(o);
  counts.collapsed |= !any;
  return counts;
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
Result RunLevel(OracleNetwork& net, OraclePattern pattern, double sparsity, const std::vector<int>& group) {
  Result result;
  const int rows = *std::max_element(group.begin(), group.end()) + 1;
  result.all.resize(static_cast<size_t>(rows));
  result.survived.resize(static_cast<size_t>(rows));
  RuleBook book(RuleMode::kExact);
  for (int seed = 1; seed <= kSeeds; ++seed) {
    Random random(static_cast<uint64_t>(seed) * 1000003 + static_cast<uint64_t>(sparsity * 1000));
    const OracleMasks masks = DrawMasks(random, net, pattern, sparsity);
    SetMasks(net, masks);
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
      EXPECT_NE(refused.status().message().find("nothing is left of"), std::string::npos) << refused.status();
    }
    result.collapsed += expected.collapsed ? 1 : 0;
    std::vector<double> share(static_cast<size_t>(rows), 0), members(static_cast<size_t>(rows), 0);
    const std::vector<int64_t> pruned = PrunedCounts(net, *facts);
    for (size_t l = 0; l < net.layers.size(); ++l) {
      EXPECT_EQ(pruned[l], expected.pruned[l]) << net.layers[l].name << ", seed " << seed;
      if (group[l] < 0) continue;
      const double weights = static_cast<double>(net.layers[l].num_weights());
      share[static_cast<size_t>(group[l])] += static_cast<double>(pruned[l]) / weights;
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

std::string_view PatternName(OraclePattern pattern) {
  return pattern == OraclePattern::kFine ? "fine" : pattern == OraclePattern::kBlock ? "block" : "coarse";
}

// Every level of a figure; rows in the order of the published values.
class Mlp : public testing::TestWithParam<std::pair<OraclePattern, double>> {};

TEST_P(Mlp, EqualsTheCountTheFormulaAndThePaper) {
  const auto [pattern, s] = GetParam();
  OracleNetwork net = OracleMlp();
  const Result result = RunLevel(net, pattern, s, {0, 1, 2, 3});
  if (HasFailure()) return;
  const std::vector<double> closed = ClosedFormMlp(pattern, s);
  for (size_t l = 0; l < 4; ++l) {
    Report("mlp " + std::string(PatternName(pattern)) + " " + Percent(s) + " L" + std::to_string(l + 1), result, l,
           PublishedMlp(pattern).at(s)[l], closed.empty() ? kNone : closed[l], 1e-3);
  }
}

class MobileNet : public testing::TestWithParam<std::pair<OraclePattern, double>> {};

TEST_P(MobileNet, EqualsTheCountTheFormulaAndThePaper) {
  const auto [pattern, s] = GetParam();
  OracleNetwork net = OracleMobileNet();
  const Result result = RunLevel(net, pattern, s, MobileNetRows(net));
  if (HasFailure()) return;
  const std::vector<double> closed = ClosedFormMobileNet(net, pattern, s);
  const std::vector<double>& published = PublishedMobileNet(pattern).at(s);
  const char* rows[] = {"depthwise", "pointwise", "classifier"};
  for (size_t r = 0; r < published.size(); ++r) {
    Report("mobilenet " + std::string(PatternName(pattern)) + " " + Percent(s) + " " + rows[r], result, r, published[r],
           closed[r], 0.005);
  }
  if (pattern == OraclePattern::kCoarse && s >= 0.9) {
    EXPECT_GT(result.collapsed, 80);
  }
}

std::vector<std::pair<OraclePattern, double>> Levels(
    const std::map<double, std::vector<double>>& (*published)(OraclePattern)) {
  std::vector<std::pair<OraclePattern, double>> levels;
  for (OraclePattern pattern : {OraclePattern::kFine, OraclePattern::kBlock, OraclePattern::kCoarse}) {
    for (const auto& [level, values] : published(pattern)) levels.emplace_back(pattern, level);
  }
  return levels;
}

INSTANTIATE_TEST_SUITE_P(Levels, Mlp, testing::ValuesIn(Levels(&PublishedMlp)));
INSTANTIATE_TEST_SUITE_P(Levels, MobileNet, testing::ValuesIn(Levels(&PublishedMobileNet)));

}  // namespace
}  // namespace tessera
