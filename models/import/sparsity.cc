#include "models/import/sparsity.h"

#include <algorithm>
#include <optional>

#include "tesa/attribute.h"
#include "tesa/pattern.h"
#include "tesa/text.h"

namespace tessera {
namespace {

// How a constant is used as a weight.
struct Use {
  bool weight = false;
  bool shifted = false;  // through a dequantisation with a zero point other than 0: an integer 0 is not the real 0
};

bool HasZeroPoint(const Graph& graph, const Node& node) {
  if (node.op != Op::kDequantize || node.inputs.size() < 3 || node.inputs[2] == ValueId::kNone) return false;
  if (!graph.IsConstant(node.inputs[2])) return true;
  const Tensor& zero_points = graph[node.inputs[2]].constant;
  for (int64_t i = 0; i < zero_points.num_elements(); ++i) {
    if (zero_points.GetInt(i) != 0) return true;
  }
  return false;
}

std::vector<Use> FindWeights(const Graph& graph) {
  const Uses graph_uses(graph);
  std::vector<Use> uses(graph.values.size());
  const auto trace = [&](ValueId id) {
    bool shifted = false;
    while (id != ValueId::kNone && !graph.IsConstant(id)) {
      const NodeId producer = graph_uses.producer[Index(id)];
      if (producer == NodeId::kNone) return;
      const Node& node = graph[producer];
      const bool through =
          node.op == Op::kDequantize || node.op == Op::kCast || node.op == Op::kTranspose || node.op == Op::kReshape;
      if (!through) return;
      shifted = shifted || HasZeroPoint(graph, node);
      id = node.inputs[0];
    }
    if (id == ValueId::kNone) return;
    uses[Index(id)].weight = true;
    uses[Index(id)].shifted = uses[Index(id)].shifted || shifted;
  };
  for (const Node& node : graph.nodes) {
    if (node.op == Op::kMatmul) trace(node.inputs[0]);
    if (node.op == Op::kMatmul || node.op == Op::kConv) trace(node.inputs[1]);
  }
  return uses;
}

std::string DescribeFit(const PatternFit& fit) {
  std::string text = FormatPercent(1 - fit.density) + " zero, " + fit.pattern.ToString();
  if (fit.slack > 0) text += ", slack " + FormatPercent(fit.slack);
  return text;
}

// Whole rows, columns or channels are worth more than their bytes, which is what FitPattern goes by: they make the
// network smaller. So they come first when they explain all zeros.
PatternFit BestFit(const Attribute& found) {
  const Bitmap kept = found.KeptBitmap();
  for (int axis = 0; axis < found.shape().rank(); ++axis) {
    const std::optional<PatternFit> fit = FitGiven(Pattern::Slices(axis), found.shape(), kept);
    if (fit && fit->slack == 0) return *fit;
  }
  return FitPattern(found);
}

Attribute FromMask(const Tensor& mask, DType dtype) {
  const uint8_t own = static_cast<uint8_t>(TypeInfo(dtype).bits);
  const auto data = mask.data<uint8_t>();
  std::vector<uint8_t> bits(data.begin(), data.end());
  for (uint8_t& width : bits) width = std::min(width, own);  // kOwnWidth is the largest of all
  return Attribute::FromBits(mask.shape(), bits);
}

}  // namespace

std::vector<TensorReport> AnnotateSparsity(Graph& graph, const std::vector<ConstantOrigin>& origins,
                                           AnnotateMode mode) {
  const std::vector<Use> uses = FindWeights(graph);
  std::vector<TensorReport> reports;
  for (size_t k = 0; k < graph.values.size(); ++k) {
    Value& value = graph.values[k];
    const ConstantOrigin& origin = origins[k];
    if (value.kind != ValueKind::kConstant || !(uses[k].weight || origin.mask)) continue;
    TensorReport report = {.name = origin.name.empty() ? value.name : origin.name,
                           .type = origin.name.empty() ? value.type : origin.type,
                           .declared = "-",
                           .found = "dense",
                           .kept = "-"};
    std::optional<Attribute> declared, found;
    if (origin.mask) {
      declared = FromMask(*origin.mask, value.type.dtype);
      report.declared = origin.declared + ", " + FormatPercent(declared->density()) + " kept";
    }
    PatternFit fit;
    if (uses[k].shifted) {
      report.found = "not looked for";
    } else if (value.type.shape.num_elements() > 0) {
      found = Attribute::FromZeros(value.constant);
      if (!found->keeps_all()) {
        fit = BestFit(*found);
        report.found = DescribeFit(fit);
      }
    }
    const double zero_share = 1 - fit.density;
    const bool structured = fit.pattern.kind != PatternKind::kDense && fit.pattern.kind != PatternKind::kScattered;
    if (mode == AnnotateMode::kNone && origin.declared != kSideFile) {
      report.reason = "--annotate=none";
    } else if (declared && !uses[k].shifted) {
      value.constant = declared->ApplyTo(value.constant);
      value.tesa = std::move(declared);
      report.reason = "declared";
    } else if (uses[k].shifted) {
      report.reason = "the zero point is not 0, so no element is a plain zero";
    } else if (zero_share == 0) {
      report.reason = "no element is zero";
    } else if (mode == AnnotateMode::kDeclared) {
      report.reason = "--annotate=declared";
    } else if (zero_share >= kMinZeroShare || structured) {
      value.constant = found->ApplyTo(value.constant);  // no -0 where nothing is
      value.tesa = std::move(found);
      report.reason = "exact zeros";
    } else {
      report.reason = "fewer than " + FormatPercent(kMinZeroShare) + " zeros, scattered";
    }
    if (value.tesa) report.kept = Summary(*value.tesa, value.type.dtype);
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace tessera
