#include "propagate/report.h"

#include <cctype>
#include <map>
#include <utility>

#include "base/status.h"
#include "tesa/cells.h"

namespace tessera {
namespace {

// A chain with every index left out: slices that die in the same way have the same one.
std::string Form(const std::string& chain) {
  std::string form;
  bool in_index = false;
  for (char c : chain) {
    if (c == '[') in_index = true;
    if (c == ']') in_index = false;
    if (!in_index || !(std::isdigit(static_cast<unsigned char>(c)) != 0)) form += c;
  }
  return form;
}

// For each class of `axis`, whether every element of its slices is pruned.
std::vector<bool> PrunedClasses(const Cells<uint8_t>& bits, int axis) {
  const Shape cells = bits.CellShape();
  std::vector<bool> pruned(static_cast<size_t>(cells[axis]), true);
  int64_t inner = 1;
  for (int d = axis + 1; d < cells.rank(); ++d) inner *= cells[d];
  for (size_t cell = 0; cell < bits.values.size(); ++cell) {
    if (bits.values[cell] != 0) pruned[static_cast<size_t>(static_cast<int64_t>(cell) / inner % cells[axis])] = false;
  }
  return pruned;
}

class Reporter {
 public:
  Reporter(const Graph& graph, const Facts& facts, RuleBook& book, const ReportOptions& options)
      : graph_(graph), facts_(facts), book_(book), options_(options) {}

  ValueReport Make(ValueId id) {
    const Value& value = graph_[id];
    const Known& known = facts_.known[Index(id)];
    ValueReport report;
    report.value = id;
    report.before = value.tesa ? *value.tesa : Attribute::Dense(value.type.shape, TypeInfo(value.type.dtype).bits);
    report.after = PrunedAttribute(graph_, facts_, id);
    report.pattern_before = FitPattern(report.before);
    report.pattern_after = FitPattern(report.after);
    report.zero = known.CountOf(Certainty::kZero);
    report.constant = value.kind == ValueKind::kConstant ? 0 : known.CountOf(Certainty::kConstant);
    report.dead = facts_.needed[Index(id)].live.Count(0);
    if (!report.after.keeps_all()) AddSlices(&report);
    return report;
  }

 private:
  void AddSlices(ValueReport* report) {
    const Shape& shape = report->after.shape();
    const Cells<uint8_t> bits = BitCells(report->after).Coarsest();
    const std::vector<int64_t> strides = shape.Strides();
    for (int axis = 0; axis < shape.rank(); ++axis) {
      if (shape[axis] <= 1) continue;
      const std::vector<bool> pruned = PrunedClasses(bits, axis);
      std::map<std::string, size_t> slice_of_form;
      int chains = 0;
      for (int64_t i = 0; i < shape[axis]; ++i) {
        if (!pruned[static_cast<size_t>(bits.axes[axis][i])]) continue;
        const std::string chain =
            chains++ < options_.max_chains ? Explain(graph_, facts_, book_, report->value, i * strides[axis]) : "";
        const auto [entry, is_new] = slice_of_form.try_emplace(Form(chain), report->slices.size());
        if (is_new) report->slices.push_back({.axis = axis, .indices = {}, .why = chain});
        report->slices[entry->second].indices.push_back(i);
      }
    }
  }

  const Graph& graph_;
  const Facts& facts_;
  RuleBook& book_;
  const ReportOptions& options_;
};

}  // namespace

PropagationReport MakeReport(const Graph& graph, const Facts& facts, RuleBook& book, const ReportOptions& options) {
  PropagationReport report;
  Reporter reporter(graph, facts, book, options);
  const StatusOr<BitReport> bits = PropagateBits(graph);
  for (size_t v = 0; v < graph.values.size(); ++v) {
    report.values.push_back(reporter.Make(static_cast<ValueId>(v)));
    if (bits.ok()) report.values.back().bits = bits->values[v];
    if (graph.values[v].kind != ValueKind::kConstant) continue;
    report.elements += report.values.back().before.num_elements();
    report.kept_before += report.values.back().before.num_kept();
    report.kept_after += report.values.back().after.num_kept();
  }
  return report;
}

}  // namespace tessera
