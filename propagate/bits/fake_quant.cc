#include "propagate/bits/fake_quant.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <utility>

namespace tessera {
namespace {

constexpr int kCandidates = 40;  // scales that are tried
constexpr int kFullWidth = 16;   // before SetWidth

struct Levels {
  double low, high;
};
Levels SymmetricLevels(int width) { return {-(std::exp2(width - 1) - 1), std::exp2(width - 1) - 1}; }
Levels PositiveLevels(int width) { return {0, std::exp2(width) - 1}; }

// As the graph computes it, in f32.
float Rounded(float x, float scale, const Levels& levels) {
  const float q = std::nearbyintf(x / scale);
  return std::clamp(q, static_cast<float>(levels.low), static_cast<float>(levels.high)) * scale;
}

double SquaredError(std::span<const float> values, int64_t stride, float scale, const Levels& levels) {
  double sum = 0;
  for (size_t k = 0; k < values.size(); k += static_cast<size_t>(stride)) {
    const double d = static_cast<double>(values[k]) - Rounded(values[k], scale, levels);
    sum += d * d;
  }
  return sum;
}

// The scale of least squared error, and that error.
std::pair<float, double> BestScale(std::span<const float> values, const Levels& levels) {
  float largest = 0;
  for (float v : values) largest = std::max(largest, std::fabs(v));
  if (!(largest > 0) || !std::isfinite(largest)) return {1.0f, 0.0};
  std::pair<float, double> best = {0, 0};
  for (int k = 0; k < kCandidates; ++k) {
    const double part = 1 - 0.8 * k / kCandidates;
    const float scale = static_cast<float>(largest * part / levels.high);
    if (!(scale > 0)) continue;
    const double error = SquaredError(values, 1, scale, levels);
    if (k == 0 || error < best.second) best = {scale, error};
  }
  return best;
}

bool IsContraction(const Graph& graph, const Node& node) {
  if (node.op != Op::kConv && node.op != Op::kMatmul) return false;
  return graph[node.inputs[0]].type.dtype == DType::kF32 && graph[node.inputs[1]].type.dtype == DType::kF32;
}

int ChannelAxis(const Graph& graph, const Node& node) {
  if (node.op == Op::kConv) return 0;
  const int rank = graph[node.inputs[1]].type.shape.rank();
  return node.attrs.Int("transpose_b", 0) != 0 ? rank - 2 : rank - 1;
}

}  // namespace

std::vector<QuantSite> QuantSites(const Graph& graph) {
  std::vector<QuantSite> sites;
  std::vector<bool> seen(graph.values.size(), false);
  for (const Node& node : graph.nodes) {
    if (!IsContraction(graph, node)) continue;
    for (int k = 0; k < 2; ++k) {
      const ValueId id = node.inputs[k];
      const Value& value = graph[id];
      if (seen[Index(id)] || (k == 0 && value.kind == ValueKind::kConstant)) continue;
      seen[Index(id)] = true;
      sites.push_back({.name = value.name,
                       .node = node.name,
                       .value = id,
                       .is_weight = value.kind == ValueKind::kConstant,
                       .channel_axis = k == 1 ? ChannelAxis(graph, node) : 0,
                       .elements = value.type.shape.num_elements()});
    }
  }
  return sites;
}

FakeQuantized::FakeQuantized(const Graph& graph, std::vector<std::vector<float>> samples)
    : sites_(QuantSites(graph)), samples_(std::move(samples)) {
  TES_CHECK(samples_.size() == sites_.size(), "samples of ", samples_.size(), " sites, expected ", sites_.size());
  graph_ = graph;
  std::vector<Node> nodes;
  std::map<int, size_t> site_of;  // by value
  for (size_t k = 0; k < sites_.size(); ++k) site_of[Index(sites_[k].value)] = k;
  weights_.resize(sites_.size());
  targets_.assign(sites_.size(), ValueId::kNone);
  first_nodes_.assign(sites_.size(), 0);
  clips_.assign(sites_.size(), 0);
  std::map<int, ValueId> replaced;  // activation -> its rounded form
  for (Node node : graph.nodes) {
    for (ValueId id : Operands(node)) {
      const auto found = id == ValueId::kNone ? site_of.end() : site_of.find(Index(id));
      if (found == site_of.end() || targets_[found->second] != ValueId::kNone) continue;
      const size_t k = found->second;
      const QuantSite& site = sites_[k];
      first_nodes_[k] = nodes.size();
      if (site.is_weight) {
        weights_[k] = graph[id].constant;
        targets_[k] = id;
        continue;
      }
      // x -> div -> round -> clip -> mul
      Value scale;
      scale.name = site.name + ".scale";
      scale.type = {DType::kF32, Shape()};
      scale.kind = ValueKind::kConstant;
      scale.constant = Tensor::Full(DType::kF32, {}, 1);
      targets_[k] = graph_.AddValue(std::move(scale));
      ValueId x = id;
      for (Op op : {Op::kDiv, Op::kRound, Op::kClip, Op::kMul}) {
        Value value;
        value.name = site.name + (op == Op::kDiv     ? ".div"
                                  : op == Op::kRound ? ".round"
                                  : op == Op::kClip  ? ".clip"
                                                     : ".q");
        value.type = graph[id].type;
        value.kind = ValueKind::kComputed;
        Node step{.op = op, .name = value.name, .inputs = {x}, .outputs = {}, .attrs = {}, .epilogue = {}};
        if (op == Op::kDiv || op == Op::kMul) step.inputs.push_back(targets_[k]);
        x = graph_.AddValue(std::move(value));
        step.outputs = {x};
        if (op == Op::kClip) clips_[k] = nodes.size();
        nodes.push_back(std::move(step));
      }
      replaced[Index(id)] = x;
    }
    const auto rename = [&](std::vector<ValueId>& ids) {
      for (ValueId& id : ids) {
        const auto found = id == ValueId::kNone ? replaced.end() : replaced.find(Index(id));
        if (found != replaced.end()) id = found->second;
      }
    };
    rename(node.inputs);
    if (node.epilogue) rename(node.epilogue->inputs);
    nodes.push_back(std::move(node));
  }
  graph_.nodes = std::move(nodes);
  widths_.assign(sites_.size(), 0);
  for (size_t k = 0; k < sites_.size(); ++k) SetWidth(k, kFullWidth);
}

FakeQuantized::Rounding FakeQuantized::Round(size_t site, int width) const {
  Rounding result;
  if (!sites_[site].is_weight) {
    const std::vector<float>& values = samples_[site];
    TES_CHECK(!values.empty(), "no samples of ", sites_[site].name);
    const bool negative = std::any_of(values.begin(), values.end(), [](float v) { return v < 0; });
    const Levels levels = negative ? SymmetricLevels(width) : PositiveLevels(width);
    const auto [scale, error] = BestScale(values, levels);
    result.scale = scale;
    result.low = levels.low;
    result.high = levels.high;
    result.error = error;
    for (float v : values) result.power += static_cast<double>(v) * v;
    return result;
  }
  const Tensor& weight = weights_[site];
  const Levels levels = SymmetricLevels(width);
  const Shape& shape = weight.shape();
  const int axis = sites_[site].channel_axis;
  const int64_t stride = shape.Strides()[axis], channels = shape[axis], count = weight.num_elements();
  const std::span<const float> from = weight.data<float>();
  result.weight = Tensor(DType::kF32, shape);
  const std::span<float> to = result.weight.mutable_data<float>();
  std::vector<float> values;
  for (int64_t c = 0; c < channels; ++c) {
    const auto each = [&](auto visit) {
      for (int64_t block = c * stride; block < count; block += channels * stride) {
        for (int64_t k = block; k < block + stride; ++k) visit(k);
      }
    };
    values.clear();
    each([&](int64_t k) { values.push_back(from[k]); });
    const auto [scale, error] = BestScale(values, levels);
    result.error += error;
    for (float v : values) result.power += static_cast<double>(v) * v;
    each([&](int64_t k) { to[k] = Rounded(from[k], scale, levels); });
  }
  return result;
}

void FakeQuantized::SetWidth(size_t site, int width) {
  TES_CHECK(width >= 2 && width <= kFullWidth, "width ", width);
  if (widths_[site] == width) return;
  widths_[site] = width;
  const Rounding rounding = Round(site, width);
  Value& target = graph_[targets_[site]];
  if (sites_[site].is_weight) {
    target.constant = rounding.weight;
    return;
  }
  target.constant = Tensor::Full(DType::kF32, {}, rounding.scale);
  Node& clip = graph_.nodes[clips_[site]];
  clip.attrs.Set("min", rounding.low);
  clip.attrs.Set("max", rounding.high);
}

double FakeQuantized::SignalToNoise(size_t site, int width) const {
  const Rounding rounding = Round(site, width);
  return rounding.error > 0 ? 10 * std::log10(rounding.power / rounding.error) : 200;
}

}  // namespace tessera
