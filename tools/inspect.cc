// inspect: what is in a model: nodes, tensors and their sparsity, sizes, the compiled program, kernels, decisions.
#include <algorithm>
#include <chrono>

#include "codegen/compile.h"
#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "graph/op.h"
#include "graph/pass.h"
#include "graph/passes/pipeline.h"
#include "propagate/propagate.h"
#include "propagate/report.h"
#include "propagate/rule_book.h"
#include "tesa/text.h"
#include "tools/common/flags.h"
#include "tools/common/model_flags.h"
#include "tools/common/model_source.h"
#include "tools/common/table.h"
#include "tools/common/tool.h"
#include "tools/inspect_propagate.h"
#include "tools/verbs.h"

namespace tessera {
namespace {

struct InspectFlags {
  std::string form = "table", stage = "parse", kernel, as = "ir", target = "host", rules = "learned", collapse = "keep";
  int64_t chains = 16;
  ModelFlags model;
  FlagSet flags = FlagSet("inspect", "MODEL [flags]", "Shows what is in a model and what becomes of it.");

  InspectFlags() {
    flags.Section("What is shown");
    flags.Choice("stage", {"parse", "propagate", "passes", "program"},
                 "the network as given, its attributes before and after propagation, the network after all passes, or "
                 "as a program with its decisions",
                 &stage);
    flags.String("kernel", "NAME", "the code of kernels whose name holds NAME (as `--stage=program` lists them)",
                 &kernel);
    flags.Choice("as", {"ir", "optimized_ir", "asm"}, "the form of that code", &as);
    flags.String("target", "host|host:CPU|cuda:CHIP|hip:CHIP|simt:nvptx:CHIP|simt:amdgpu:CHIP",
                 "what kernels are compiled for", &target);
    flags.Section("Propagation");
    flags.Choice(
        "rules", {"learned", "instance", "exact"},
        "how attributes cross an op: by scrambling, generalised; by scrambling each instance; by the algebra of "
        "the op's description",
        &rules);
    flags.Choice("on_collapse", {"error", "keep"}, "what to do when nothing is left of an output or a layer",
                 &collapse);
    flags.Int("why", "N", "chains of causes that are worked out for each axis of each tensor", &chains, 0, 1 << 20);
    flags.Section("Output");
    std::vector<std::string> forms = TableFormNames();
    forms.insert(forms.end(), {"html", "dot"});
    flags.Choice("form", forms,
                 "html: a page with pictures of masks (--stage=propagate); dot: a drawing of the nodes for Graphviz",
                 &form);
    flags.Short('o');
    model.Declare(flags);
    flags.Example("inspect zoo:fashion_mlp_scattered90", "nodes, weights and what is kept of them");
    flags.Example("inspect model.onnx --stage=propagate -o html > model.html",
                  "what is pruned after propagation, and why");
    flags.Example("inspect model.onnx --stage=program", "steps, memory, and why each node got its emitter");
    flags.Example("inspect zoo:mlp --kernel=matmul --as=asm", "machine code as text");
    flags.Example("inspect model.tess -o dot | dot -Tsvg > model.svg", "a picture");
  }
};

std::string InputTypes(const Graph& graph, const Node& node) {
  std::string text;
  for (ValueId id : Operands(node)) {
    text += text.empty() ? "" : ", ";
    if (id == ValueId::kNone) {
      text += "_";
      continue;
    }
    const Value& value = graph[id];
    text += Summary(value.type, value.tesa ? &*value.tesa : nullptr);
  }
  return text;
}

std::string NodeTable(const Graph& graph, TableForm form) {
  Table table({{.key = "node", .title = "#"},
               {.key = "op", .title = "op"},
               {.key = "name", .title = "name"},
               {.key = "operands", .title = "operands"},
               {.key = "result", .title = "result"},
               {.key = "epilogue", .title = "epilogue"}});
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    std::string result;
    for (ValueId id : node.outputs) result += (result.empty() ? "" : ", ") + graph[id].type.ToString();
    table.AddRow({static_cast<int64_t>(n), std::string(Name(node.op)), node.name, InputTypes(graph, node), result,
                  node.epilogue ? node.epilogue->body.ToString() : ""});
  }
  return table.Print(form);
}

// Where the bytes are: all constants as they are, and what is kept of them.
std::string Header(const OpenedModel& model, const Graph& graph) {
  int64_t dense = 0, kept_bytes = 0, elements = 0, kept = 0;
  for (const Value& value : graph.values) {
    if (value.kind != ValueKind::kConstant) continue;
    const int64_t count = value.type.shape.num_elements(), stays = value.tesa ? value.tesa->num_kept() : count;
    dense += ByteSize(value.type.dtype, count);
    kept_bytes += ByteSize(value.type.dtype, stays);
    elements += count;
    kept += stays;
  }
  std::string text = internal::Join(model.source, "\nhash      ", model.hash, "\n");
  for (const auto& [key, value] : graph.metadata) text += "metadata  " + key + " = " + value + "\n";
  for (ValueId id : graph.inputs) text += internal::Join("input     ", graph[id].name, ": ", graph[id].type, "\n");
  for (ValueId id : graph.outputs) text += internal::Join("output    ", graph[id].name, ": ", graph[id].type, "\n");
  text += internal::Join(
      "constants ", elements, " elements, ", FormatBytes(dense), "; kept ", kept, ", ", FormatBytes(kept_bytes), " (",
      FormatPercent(elements == 0 ? 1 : static_cast<double>(kept) / static_cast<double>(elements)), ")\n");
  return text + internal::Join("nodes     ", graph.nodes.size(), "\n\n");
}

std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text)
    out += c == '"' || c == '\\' ? std::string("\\") + c : c == '\n' ? std::string(" ") : std::string(1, c);
  return out + "\"";
}

std::string Dot(const Graph& graph) {
  std::string text = "digraph " + Quoted(graph.name) + " {\n  node [shape=box];\n";
  const Uses uses(graph);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    text += internal::Join("  n", n, " [label=", Quoted(std::string(Name(node.op)) + "\\n" + node.name), "];\n");
  }
  for (ValueId id : graph.inputs)
    text += internal::Join("  v", Index(id), " [shape=oval label=", Quoted(graph[id].name), "];\n");
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    for (ValueId id : Operands(graph.nodes[n])) {
      if (id == ValueId::kNone || graph.IsConstant(id)) continue;
      const NodeId maker = uses.producer[Index(id)];
      const std::string from =
          maker == NodeId::kNone ? internal::Join("v", Index(id)) : internal::Join("n", Index(maker));
      text += internal::Join("  ", from, " -> n", n, " [label=", Quoted(graph[id].type.ToString()), "];\n");
    }
  }
  return text + "}\n";
}

Status ShowKernels(const InspectFlags& f, const Graph& optimized) {
  ASSIGN_OR_RETURN(const Target target, MakeTarget(f.target));
  ASSIGN_OR_RETURN(const Plan plan, MakePlan(optimized, target, {}));
  const ListingForm form = f.as == "ir"    ? ListingForm::kIr
                           : f.as == "asm" ? ListingForm::kAssembly
                                           : ListingForm::kOptimizedIr;
  ASSIGN_OR_RETURN(const std::string listing, KernelListing(plan, target, form, f.kernel));
  if (listing.find(f.kernel) == std::string::npos) {
    return Error(ErrorCode::kUsageInvalid, "no kernel's name holds '", f.kernel,
                 "'; `inspect --stage=program` lists them");
  }
  PrintOut(listing);
  return OkStatus();
}

Status ShowProgram(const InspectFlags& f, const Model& model, TableForm form) {
  Options options;
  options.target = f.target;
  ASSIGN_OR_RETURN(const Session session, model.Compile(options));
  const SessionReport& report = session.report();
  const bool people = form == TableForm::kTable || form == TableForm::kMarkdown;
  if (people) {
    PrintOut(internal::Join("target    ", report.target, "\ncode      ", report.kernels, " kernels, ",
                            FormatBytes(report.code_bytes), "\narena     ", FormatBytes(report.arena_bytes),
                            ", lower bound ", FormatBytes(report.max_live_bytes), "\nconstants ",
                            FormatBytes(report.constant_bytes), " as stored for the kernels\nwork      ", report.flops,
                            " flops\n\n"));
  }
  Table table({{.key = "step", .title = "step"},
               {.key = "node", .title = "node"},
               {.key = "kernel", .title = "kernel"},
               {.key = "flops", .title = "flops"},
               {.key = "bytes", .title = "bytes"}});
  int64_t step = 0;
  for (const StepProfile& row : session.Profile()) table.AddRow({step++, row.label, row.kernel, row.flops, row.bytes});
  PrintOut(table.Print(form));
  if (!people) return OkStatus();
  std::string decisions;
  if (!report.shrunk.empty()) decisions += "\nshrunk in " + FormatSignificant(report.propagate_ms) + " ms\n";
  for (const std::string& line : report.shrunk) decisions += "  " + line + "\n";
  if (!report.in_float.empty()) decisions += "\nin float\n";
  for (const std::string& line : report.in_float) decisions += "  " + line + "\n";
  for (const std::string& warning : report.warnings) decisions += "\ncollapsed\n" + warning + "\n";
  decisions += "\ndecisions\n";
  for (const std::string& decision : report.decisions) decisions += "  " + decision + "\n";
  PrintOut(decisions);
  return OkStatus();
}

// Rules that were learned are kept in the cache folder, so that the next call learns only what is new.
Status ShowPropagation(const InspectFlags& f, const OpenedModel& opened) {
  Graph graph = opened.graph;
  RETURN_IF_ERROR(RunPasses(graph, SimplifyPipeline()));
  ASSIGN_OR_RETURN(const RuleMode mode, ParseRuleMode(f.rules));
  RuleBook book(mode);
  const std::string cache = CacheFolder() + "/rules.txt";
  RETURN_IF_ERROR(book.Load(cache));
  PropagateOptions options;
  ASSIGN_OR_RETURN(options.on_collapse, ParseOnCollapse(f.collapse));
  const auto start = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const Facts facts, Propagate(graph, book, options));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (const Status saved = book.Save(cache); !saved.ok()) PrintNote("warning: " + saved.ToString());
  const PropagationReport report = MakeReport(graph, facts, book, {.max_chains = static_cast<int>(f.chains)});
  const PropagationPage page = {opened.name, graph, facts, report, book.Entries(), seconds};
  PrintOut(f.form == "html" ? PropagationHtml(page) : PrintPropagation(page, ParseTableForm(f.form)));
  return OkStatus();
}

}  // namespace

Status InspectVerb(const std::vector<std::string>& args) {
  InspectFlags f;
  RETURN_IF_ERROR(f.flags.Parse(args));
  ASSIGN_OR_RETURN(const bool answered, AnswerAtOnce(f.flags, 1));
  if (answered) return OkStatus();
  ASSIGN_OR_RETURN(const OpenedModel opened, f.model.Open(f.flags.positional()[0]));
  if (f.stage == "propagate" && f.kernel.empty() && f.form != "dot") return ShowPropagation(f, opened);
  if (f.form == "html") {
    return Error(ErrorCode::kUsageInvalid,
                 "there is a page of --stage=propagate only; other stages have table, md, json");
  }
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(opened.graph));
  Graph graph = opened.graph;
  if (f.stage != "parse" || !f.kernel.empty()) {
    Options options;
    options.target = f.target;
    ASSIGN_OR_RETURN(graph, OptimizedGraphOf(model, options));
  }
  if (!f.kernel.empty()) return ShowKernels(f, graph);
  if (f.form == "dot") {
    PrintOut(Dot(graph));
    return OkStatus();
  }
  const TableForm form = ParseTableForm(f.form);
  if (form == TableForm::kTable || form == TableForm::kMarkdown) PrintOut(Header(opened, graph));
  if (f.stage == "program") return ShowProgram(f, model, form);
  PrintOut(NodeTable(graph, form));
  return OkStatus();
}

}  // namespace tessera
