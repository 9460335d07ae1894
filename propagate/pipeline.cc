#include "propagate/pipeline.h"

#include <algorithm>
#include <chrono>

#include "graph/passes/float_report.h"
#include "graph/passes/pipeline.h"
#include "graph/text.h"

namespace tessera {
namespace {

constexpr std::string_view kPropagate = "propagate", kShrink = "shrink";

bool Has(std::span<const Pass> passes, std::string_view name) {
  return std::any_of(passes.begin(), passes.end(), [&](const Pass& pass) { return pass.name == name; });
}

// Is a whole slice of it zero? An element or two of each slice tell, unless it is mostly zeros: the cost is that of the
// extents, not of the elements.
bool HoldsZeroSlice(const Tensor& tensor) {
  const Shape& shape = tensor.shape();
  if (tensor.num_elements() <= 1) return false;
  const std::vector<int64_t> strides = shape.Strides();
  for (int d = 0; d < shape.rank(); ++d) {
    const int64_t inner = strides[static_cast<size_t>(d)], block = inner * shape[d];
    for (int64_t i = 0; i < shape[d]; ++i) {
      bool zero = true;
      for (int64_t outer = i * inner; zero && outer < tensor.num_elements(); outer += block) {
        for (int64_t k = outer; zero && k < outer + inner; ++k) zero = tensor.Get(k) == 0;
      }
      if (zero) return true;
    }
  }
  return false;
}

// Does a zero of this operand make a result known, or another operand dead?
bool Multiplies(Op op) {
  switch (op) {
    case Op::kAdd:
    case Op::kSub:
    case Op::kMin:
    case Op::kMax:
    case Op::kReshape:
    case Op::kQuantize:
    case Op::kDequantize:
    case Op::kPrelu:
    case Op::kGather: return false;
    default: return true;
  }
}

// Does it leave parts of something computed unread?
bool CutsAway(const Graph& graph, const Node& node) {
  switch (node.op) {
    case Op::kSlice:
    case Op::kGather:
    case Op::kGatherElements: return !graph.IsConstant(node.inputs[0]);
    case Op::kWhere: return graph.IsConstant(node.inputs[0]);
    default: return false;
  }
}

// Do only whole slices of its constant operand, when they are zero, make anything known or dead? (A group or a head of
// a batched product sees but a part of each slice.)
bool SumsOverSlices(const Graph& graph, const Node& node) {
  if (node.op == Op::kMatmul) {
    return std::all_of(node.inputs.begin(), node.inputs.end(),
                       [&](ValueId id) { return !graph.IsConstant(id) || graph[id].type.shape.rank() == 2; });
  }
  return node.op == Op::kConv && node.attrs.Int("groups") == 1;
}

// A comment on each value about which something is known or of which something is dead.
std::string FactsText(const Graph& graph, const Facts& facts) {
  std::string text;
  for (size_t v = 0; v < graph.values.size(); ++v) {
    const Known& known = facts.known[v];
    const Needed& needed = facts.needed[v];
    std::string line;
    if (graph.values[v].kind != ValueKind::kConstant && !known.nothing_known()) line += ", " + known.ToString();
    if (!needed.all_live()) line += ", " + needed.ToString();
    if (!line.empty()) text += "// %" + graph.values[v].name + ": " + line.substr(2) + "\n";
  }
  return text;
}

}  // namespace

std::vector<StageInfo> PrepareStages() {
  std::vector<StageInfo> stages;
  const auto add = [&](std::string_view name, std::string_view doc) {
    const bool there = std::any_of(stages.begin(), stages.end(), [&](const StageInfo& s) { return s.name == name; });
    if (!there) stages.push_back({name, doc});
  };
  for (const Pass& pass : SimplifyPipeline()) add(pass.name, pass.doc);
  add(kPropagate, "finds which elements are known and which nobody needs");
  add(kShrink, "what is dead or constant becomes smaller shapes and folded constants");
  for (MachineKind machine : {MachineKind::kProcessor, MachineKind::kGpu}) {
    for (const Pass& pass : LoweringPipeline(machine)) add(pass.name, pass.doc);
  }
  return stages;
}

bool MayShrink(const Graph& graph) {
  std::vector<bool> asked(graph.values.size(), false);
  for (const Node& node : graph.nodes) {
    if (CutsAway(graph, node)) return true;
    const bool multiplies = Multiplies(node.op);
    for (ValueId id : node.inputs) {
      if (!graph.IsConstant(id)) continue;
      if (!multiplies || asked[static_cast<size_t>(Index(id))]) continue;
      asked[static_cast<size_t>(Index(id))] = true;
      const Value& value = graph[id];
      if (value.tesa && !value.tesa->keeps_all() && !SumsOverSlices(graph, node)) return true;
      if (HoldsZeroSlice(value.constant)) return true;
    }
  }
  return false;
}

StatusOr<PrepareReport> Prepare(Graph& graph, const PrepareOptions& options) {
  PrepareReport report;
  PassOptions passes = options.passes;
  const std::string stop = std::exchange(passes.stop_after, {});
  const std::string print = options.passes.print_after;
  const auto print_graph = [&](std::string_view stage, std::string_view comments) {
    if (passes.out == nullptr) return;
    *passes.out << "// after " << stage << "\n" << comments << PrintGraph(graph, {.elide = passes.elide});
  };
  const std::span<const Pass> lowering = LoweringPipeline(options.machine);
  // Each half knows its own passes only.
  const auto run = [&](std::span<const Pass> part, bool stops) {
    if (stops) passes.stop_after = stop;
    passes.print_after = print == "all" || print == "changed" || Has(part, print) ? print : "";
    return RunPasses(graph, part, passes);
  };
  for (const std::string& name : {stop, print == "all" || print == "changed" ? "" : print}) {
    if (name.empty() || name == kPropagate || name == kShrink || Has(SimplifyPipeline(), name) || Has(lowering, name))
      continue;
    return Error(ErrorCode::kUsageInvalid, "there is no stage '", name, "' for ",
                 options.machine == MachineKind::kGpu ? "GPUs" : "processors");
  }
  const bool stops_early = Has(SimplifyPipeline(), stop);
  RETURN_IF_ERROR(run(SimplifyPipeline(), stops_early));
  report.in_float = WhyFloat(graph);
  if (stops_early) return report;

  if (options.propagate && MayShrink(graph)) {
    const auto start = std::chrono::steady_clock::now();
    report.propagated = true;
    RuleBook book(options.rules);
    ASSIGN_OR_RETURN(const Facts facts, Propagate(graph, book, {.on_collapse = options.on_collapse}));
    if (print == kPropagate || print == "all" || stop == kPropagate) print_graph(kPropagate, FactsText(graph, facts));
    if (stop == kPropagate) return report;
    ASSIGN_OR_RETURN(report.shrink, Shrink(graph, facts, book));
    for (const Collapse& collapse : facts.collapsed) report.shrink.warnings.push_back(collapse.chain);
    report.propagate_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    if (print == kShrink || print == "all" || (print == "changed" && report.shrink.changed())) print_graph(kShrink, "");
  }
  if (stop == kPropagate || stop == kShrink) return report;
  RETURN_IF_ERROR(run(lowering, !stop.empty()));
  // What lowering has put on integers after all.
  for (const Node& node : graph.nodes) {
    if (node.op != Op::kScaledMatmul) continue;
    const std::string start = FloatLineStart(Op::kMatmul, node.name);
    std::erase_if(report.in_float, [&](const std::string& line) { return line.starts_with(start); });
  }
  return report;
}

}  // namespace tessera
