#include "models/quantize/quantize.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "graph/passes/pipeline.h"
#include "graph/passes/rewriter.h"
#include "graph/verifier.h"
#include "models/quantize/floats.h"
#include "models/quantize/plan.h"
#include "models/quantize/weights.h"

namespace tessera {
namespace {

// A bias of i32 steps may reach this far: sums of products are added to it.
constexpr double kBiasReach = 0x1p30;

bool IsQuantized(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(),
                     [](const Node& node) { return node.op == Op::kQuantize || node.op == Op::kDequantize; });
}

std::set<std::string> NamesOf(const Graph& graph) {
  std::set<std::string> names;
  for (const Value& value : graph.values) names.insert(value.name);
  return names;
}

// Passes number what takes the place of something: "w.1" is the new "w". Where only that is left, it takes the name
// that users know.
void RestoreConstants(const std::set<std::string>& before, Graph& graph) {
  std::set<std::string> names = NamesOf(graph);
  for (Value& value : graph.values) {
    const size_t dot = value.name.rfind('.');
    if (value.kind != ValueKind::kConstant || dot == std::string::npos || dot + 1 == value.name.size()) continue;
    const bool numbered = value.name.find_first_not_of("0123456789", dot + 1) == std::string::npos;
    const std::string plain = value.name.substr(0, dot);
    if (numbered && before.count(value.name) == 0 && before.count(plain) > 0 && names.insert(plain).second) {
      value.name = plain;
    }
  }
}

// Where only the name "x.dq" is left of what was the constant "x", it takes that name.
void RestoreDequantized(Graph& graph) {
  std::set<std::string> names = NamesOf(graph);
  for (Node& node : graph.nodes) {
    if (node.op != Op::kDequantize || !graph.IsConstant(node.inputs[0])) continue;
    std::string& name = graph[node.outputs[0]].name;
    constexpr std::string_view kSuffix = ".dq";
    if (name.size() <= kSuffix.size() || name.substr(name.size() - kSuffix.size()) != kSuffix) continue;
    const std::string plain = name.substr(0, name.size() - kSuffix.size());
    if (!names.insert(plain).second) continue;
    name = plain;
    node.name = plain;
  }
}

class Quantizer {
 public:
  Quantizer(Graph& graph, const QuantizeSpec& spec, QuantizePlan plan)
      : graph_(graph), spec_(spec), plan_(std::move(plan)), r_(graph) {}

  // The scale of each edge, from what calibration saw of its roots.
  void SetRanges(const std::vector<ValueId>& roots, const std::vector<RangeObserver>& seen) {
    for (size_t k = 0; k < roots.size(); ++k) {
      const Range range = seen[k].Choose(spec_.range, spec_.percentile);
      affine_[roots[k]] = AffineOf(range, spec_.activations);
      const Affine& affine = affine_[roots[k]];
      report_.tensors.push_back({.name = graph_[roots[k]].name,
                                 .role = "activation",
                                 .node = ReaderOf(roots[k]),
                                 .type = {spec_.activations, graph_[roots[k]].type.shape},
                                 .low = range.low,
                                 .high = range.high,
                                 .num_scales = 1,
                                 .least_scale = affine.scale,
                                 .largest_scale = affine.scale,
                                 .zero_point = affine.zero_point,
                                 .kept = 1,
                                 .signal_to_noise = seen[k].SignalToNoise(affine, spec_.activations)});
    }
  }

  StatusOr<QuantizeReport> Run() {
    for (const QuantizeEdge& edge : plan_.edges) QuantizeEdgeOf(edge);
    FindLeastScales();
    for (const QuantizeSite& site : plan_.sites) {
      const Status status = QuantizeSiteOf(site);
      if (!status.ok()) return status.WithContext("weight '" + graph_[site.weight].name + "'");
    }
    report_.floats = std::move(plan_.floats);
    RETURN_IF_ERROR(std::move(r_).Finish());
    RestoreDequantized(graph_);
    return std::move(report_);
  }

 private:
  std::string ReaderOf(ValueId id) const {
    const auto& readers = r_.Readers(id);
    return readers.empty() ? "" : r_.node(*readers.begin()).name;
  }

  ValueId ScalarConstant(const std::string& name, DType dtype, double value) {
    return r_.Constant(name, Tensor::Full(dtype, Shape(), value));
  }

  // All readers of the value read its rounded form.
  void QuantizeEdgeOf(const QuantizeEdge& edge) {
    const Affine affine = affine_.at(edge.root);
    if (constants_.count(edge.root) == 0) {
      const std::string name = graph_[edge.root].name;  // values move when constants are added
      constants_[edge.root] = {
          ScalarConstant(name + ".scale", DType::kF32, affine.scale),
          ScalarConstant(name + ".zero_point", spec_.activations, static_cast<double>(affine.zero_point))};
    }
    const auto [scale, zero_point] = constants_[edge.root];
    const std::set<NodeId> readers = r_.Readers(edge.value);
    const std::string name = graph_[edge.value].name;
    const ValueId q = r_.Emit(r_.Behind(edge.value), Op::kQuantize, {edge.value, scale, zero_point},
                              MakeAttrs({{"dtype", spec_.activations}}), name + ".q");
    if (q == ValueId::kNone) return;
    r_.SetQuant(q, {.scales = {affine.scale}, .zero_points = {affine.zero_point}});
    const ValueId dq = r_.Emit(r_.Behind(q), Op::kDequantize, {q, scale, zero_point}, {}, name + ".dq");
    rounded_[edge.value] = dq;
    for (NodeId reader : readers) {
      Node node = r_.node(reader);
      std::replace(node.inputs.begin(), node.inputs.end(), edge.value, dq);
      if (node.epilogue) std::replace(node.epilogue->inputs.begin(), node.epilogue->inputs.end(), edge.value, dq);
      r_.Rebuild(reader, std::move(node));
    }
  }

  double InputScale(const QuantizeSite& site) const {
    for (const QuantizeEdge& edge : plan_.edges) {
      if (edge.value == site.x) return affine_.at(edge.root).scale;
    }
    return 0;
  }

  using WeightKey = std::pair<ValueId, int>;  // the weight and the axis of its channels
  static WeightKey KeyOf(const QuantizeSite& site) { return {site.weight, site.channel_axis}; }

  // A channel of tiny weights beside a large bias gets a scale at which the bias fits its integer.
  void FindLeastScales() {
    if (spec_.scheme != QuantizeScheme::kIntegers) return;
    for (const QuantizeSite& site : plan_.sites) {
      if (site.bias == ValueId::kNone) continue;
      const Tensor& bias = graph_[site.bias].constant;
      std::vector<double>& least = least_scales_[KeyOf(site)];
      least.resize(static_cast<size_t>(bias.num_elements()), 0);
      for (size_t c = 0; c < least.size(); ++c) {
        const double needed = std::fabs(bias.Get(static_cast<int64_t>(c))) / (InputScale(site) * kBiasReach);
        if (std::isfinite(needed)) least[c] = std::max(least[c], needed);
      }
    }
  }

  WeightOptions OptionsFor(const QuantizeSite& site) const {
    WeightOptions options{.type = spec_.weights, .axis = site.channel_axis, .range = spec_.weight_range};
    if (spec_.scheme == QuantizeScheme::kWeightsOnly && site.spatial) {
      options.type = DType::kI8;
    } else if (spec_.scheme == QuantizeScheme::kWeightsOnly && spec_.group > 0) {
      options.group = spec_.group;
      options.group_axis = site.sum_axis;
    }
    options.outliers = spec_.outliers;
    if (const auto least = least_scales_.find(KeyOf(site)); least != least_scales_.end()) {
      options.least_scales = least->second;
    }
    return options;
  }

  struct Weight {
    ValueId rounded = ValueId::kNone, outliers = ValueId::kNone;  // f32 values
    std::vector<double> scales;
  };

  StatusOr<Weight> WeightOf(const QuantizeSite& site) {
    if (const auto found = weights_.find(KeyOf(site)); found != weights_.end()) return found->second;
    const WeightOptions options = OptionsFor(site);
    const Value original = graph_[site.weight];
    ASSIGN_OR_RETURN(const QuantizedWeight q, QuantizeWeight(original.constant, original.tesa, options));
    const DType type = q.integers.dtype();
    Report(site, original, q);
    const std::string& name = original.name;
    const ValueId integers = r_.Constant(name + "." + std::string(Name(type)), q.integers, q.tesa);
    std::vector<ValueId> operands = {integers, r_.Constant(name + ".scale", q.scales)};
    if (q.zero_points) operands.push_back(r_.Constant(name + ".zero_point", *q.zero_points));
    Attrs attrs = MakeAttrs({{"axis", int64_t{options.group > 0 ? options.group_axis : options.axis}}});
    if (options.group > 0) attrs.Set("block_size", options.group);
    QuantParams params{.scales = {}, .zero_points = {}, .axis = static_cast<int>(attrs.Int("axis"))};
    params.block_size = options.group;
    Weight weight;
    for (int64_t k = 0; k < q.scales.num_elements(); ++k) {
      weight.scales.push_back(q.scales.Get(k));
      if (q.zero_points) params.zero_points.push_back(q.zero_points->GetInt(k));
    }
    params.scales = weight.scales;
    if (CheckQuantParams(params, type, original.type.shape).ok()) r_.SetQuant(integers, std::move(params));
    weight.rounded = r_.Emit(r_.First(), Op::kDequantize, operands, std::move(attrs), name + ".dq");
    if (q.num_outliers > 0) weight.outliers = r_.Constant(name + ".outliers", q.outliers, q.outlier_tesa);
    return weights_.emplace(KeyOf(site), std::move(weight)).first->second;
  }

  void Report(const QuantizeSite& site, const Value& original, const QuantizedWeight& q) {
    QuantizedTensor row{.name = original.name,
                        .role = "weight",
                        .node = r_.node(site.node).name,
                        .type = q.integers.type(),
                        .num_scales = q.scales.num_elements(),
                        .kept = q.tesa ? q.tesa->density() : 1,
                        .signal_to_noise = q.signal_to_noise};
    for (int64_t k = 0; k < original.constant.num_elements(); ++k) {
      const double value = original.constant.data<float>()[static_cast<size_t>(k)];
      row.low = std::min(row.low, value);
      row.high = std::max(row.high, value);
    }
    row.least_scale = row.largest_scale = q.scales.Get(0);
    for (int64_t k = 0; k < q.scales.num_elements(); ++k) {
      row.least_scale = std::min(row.least_scale, q.scales.Get(k));
      row.largest_scale = std::max(row.largest_scale, q.scales.Get(k));
    }
    if (!q.zero_points) row.zero_point = 0;
    report_.tensors.push_back(row);
    if (q.num_outliers == 0) return;
    report_.tensors.push_back({.name = original.name + ".outliers",
                               .role = "outliers",
                               .node = row.node,
                               .type = q.outliers.type(),
                               .low = row.low,
                               .high = row.high,
                               .kept = q.outlier_tesa->density(),
                               .signal_to_noise = {}});
  }

  // As values are now: those of an outlier site have been replaced.
  ValueId Current(ValueId id) const {
    const auto found = replaced_.find(id);
    return found == replaced_.end() ? id : Current(found->second);
  }

  Status QuantizeSiteOf(const QuantizeSite& site) {
    ASSIGN_OR_RETURN(const Weight weight, WeightOf(site));
    if (weight.rounded == ValueId::kNone) return r_.status();
    Node node = r_.node(site.node);
    node.inputs[1] = weight.rounded;
    if (weight.outliers == ValueId::kNone) {
      r_.Rebuild(site.node, std::move(node));
      if (spec_.scheme == QuantizeScheme::kIntegers && site.bias_add != NodeId::kNone) {
        return QuantizeBias(site, weight);
      }
      return r_.status();
    }
    const ValueId result = node.outputs[0];
    Node few = node;
    few.inputs = {Current(site.x), weight.outliers};
    few.name = node.name + ".outliers";
    const std::string name = node.name;
    node.name += ".i8";
    const ValueId most = r_.Emit(site.node, std::move(node));
    const ValueId rest = r_.Emit(site.node, std::move(few));
    const ValueId sum = r_.Emit(site.node, Op::kAdd, {most, rest}, {}, name + ".sum");
    if (sum == ValueId::kNone) return r_.status();
    const bool keeps_id = r_.IsOutput(result);
    r_.Replace(result, sum);
    if (!keeps_id) replaced_[result] = sum;
    return r_.status();
  }

  Status QuantizeBias(const QuantizeSite& site, const Weight& weight) {
    const Value bias = graph_[site.bias];
    const auto count = bias.constant.num_elements();
    const double x_scale = InputScale(site);
    Tensor integers(DType::kI32, Shape{count}), scales(DType::kF32, Shape{count});
    double signal = 0, noise = 0;
    QuantizedTensor row{.name = bias.name,
                        .role = "bias",
                        .node = r_.node(site.node).name,
                        .type = {DType::kI32, bias.type.shape},
                        .num_scales = count,
                        .zero_point = 0,
                        .signal_to_noise = {}};
    for (int64_t c = 0; c < count; ++c) {
      const double value = bias.constant.Get(c);
      if (!std::isfinite(value))
        return Error(ErrorCode::kValueInvalid, "bias '", bias.name, "': expected finite numbers, found ", value);
      const double scale = static_cast<float>(x_scale) * static_cast<float>(weight.scales[static_cast<size_t>(c)]);
      const double integer = std::clamp(std::nearbyint(value / scale), -0x1p31, 0x1p31 - 1);
      integers.SetInt(c, static_cast<int64_t>(integer));
      scales.Set(c, scale);
      signal += value * value;
      noise += (value - integer * scale) * (value - integer * scale);
      row.low = std::min(row.low, value);
      row.high = std::max(row.high, value);
      row.least_scale = c == 0 ? scale : std::min(row.least_scale, scale);
      row.largest_scale = std::max(row.largest_scale, scale);
    }
    row.signal_to_noise = noise == 0 ? std::numeric_limits<double>::infinity() : 10 * std::log10(signal / noise);
    report_.tensors.push_back(row);
    const ValueId constant = r_.Constant(bias.name + ".i32", std::move(integers));
    const ValueId scale = r_.Constant(bias.name + ".scale", std::move(scales));
    ValueId shaped = r_.Emit(site.bias_add, Op::kDequantize, {constant, scale}, MakeAttrs({{"axis", int64_t{0}}}),
                             bias.name + ".dq");
    if (bias.type.shape.rank() != 1 && shaped != ValueId::kNone) {
      shaped = r_.Emit(site.bias_add, Op::kReshape, {shaped}, MakeAttrs({{"shape", bias.type.shape.dims()}}),
                       bias.name + ".shaped");
    }
    if (shaped == ValueId::kNone) return r_.status();
    Node add = r_.node(site.bias_add);
    std::replace(add.inputs.begin(), add.inputs.end(), site.bias, shaped);
    r_.Rebuild(site.bias_add, std::move(add));
    return r_.status();
  }

  Graph& graph_;
  const QuantizeSpec& spec_;
  QuantizePlan plan_;
  Rewriter r_;
  QuantizeReport report_;
  std::map<ValueId, Affine> affine_;                          // by root
  std::map<ValueId, std::pair<ValueId, ValueId>> constants_;  // by root: scale and zero point
  std::map<ValueId, ValueId> rounded_, replaced_;
  std::map<WeightKey, Weight> weights_;
  std::map<WeightKey, std::vector<double>> least_scales_;
};

}  // namespace

StatusOr<QuantizeReport> QuantizeGraph(Graph& graph, const QuantizeSpec& spec, const SampleSource& samples,
                                       const Options& options) {
  switch (spec.scheme) {
    case QuantizeScheme::kNone: return QuantizeReport();
    case QuantizeScheme::kCast: RETURN_IF_ERROR(CastFloats(graph, spec.weights)); return QuantizeReport();
    case QuantizeScheme::kFloats: RETURN_IF_ERROR(RemoveQuantization(graph)); return QuantizeReport();
    case QuantizeScheme::kIntegers:
    case QuantizeScheme::kWeightsOnly: break;
  }
  if (IsQuantized(graph)) {
    return Error(ErrorCode::kOpUnsupported, "the network '", graph.name,
                 "' is quantised already; --quantize=f32 makes it one of floats");
  }
  const std::set<std::string> names = NamesOf(graph);
  RETURN_IF_ERROR(RunPasses(graph, SimplifyPipeline()));
  RestoreConstants(names, graph);
  QuantizePlan plan = PlanQuantization(graph, spec);
  std::vector<ValueId> roots;
  for (const QuantizeEdge& edge : plan.edges) {
    if (edge.value == edge.root) roots.push_back(edge.root);
  }
  std::vector<RangeObserver> seen;
  if (!roots.empty()) {
    ASSIGN_OR_RETURN(seen, Calibrate(graph, roots, samples, options));
  }
  Quantizer quantizer(graph, spec, std::move(plan));
  quantizer.SetRanges(roots, seen);
  ASSIGN_OR_RETURN(QuantizeReport report, quantizer.Run());
  graph.metadata["quantized"] = spec.text;
  RETURN_IF_ERROR(Verify(graph));
  return report;
}

}  // namespace tessera
