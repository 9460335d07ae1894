// opt: any stage of compilation as text; golden tests are made with it.
#include <algorithm>
#include <iostream>
#include <sstream>

#include "engine/engine_internal.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "propagate/pipeline.h"
#include "tools/common/flags.h"
#include "tools/common/model_flags.h"
#include "tools/common/model_source.h"
#include "tools/common/tool.h"
#include "tools/verbs.h"

namespace tessera {
namespace {

// The stages in order: those before the passes, the passes and what stands between them (each name once), those after.
std::vector<std::string> StageNames() {
  std::vector<std::string> names = {"parse", "verify"};
  for (const StageInfo& stage : PrepareStages()) names.emplace_back(stage.name);
  names.insert(names.end(), {"passes", "program"});
  return names;
}

struct OptFlags {
  std::string stop_after = "passes", print_after, target = "host", rules = "exact", on_collapse = "keep";
  bool list = false, data = false, propagate = true;
  ModelFlags model;
  FlagSet flags =
      FlagSet("opt", "MODEL [flags]", "Runs a model through the stages of compilation and prints it as text.");

  OptFlags() {
    std::vector<std::string> printable = StageNames();
    printable.insert(printable.end(), {"changed", "all", ""});
    flags.Section("Stages");
    flags.Choice("stop_after", StageNames(),
                 "the last stage; it is always printed. A pass that stands several times stops at its first",
                 &stop_after);
    flags.Choice("print_after", printable, "also after this pass, after each that changed something, or after all",
                 &print_after);
    flags.Bool("list", "prints the stages, each with what it does", &list);
    flags.Section("Propagation");
    flags.Bool("propagate", "off: passes only", &propagate);
    flags.Choice("rules", {"learned", "instance", "exact"},
                 "how attributes cross an op: by scrambling, generalised; by scrambling each instance; by the algebra "
                 "of the op's description",
                 &rules);
    flags.Choice("on_collapse", {"error", "keep"}, "what to do when nothing is left of an output or a layer",
                 &on_collapse);
    flags.Section("Output");
    flags.Bool("data", "with the data of all constants, so that the text can be read back", &data);
    flags.String("target", "host|host:CPU|cuda:CHIP|hip:CHIP", "what passes and a program are for", &target);
    model.Declare(flags);
    flags.Example("opt model.onnx --stop_after=verify", "the network as it was imported");
    flags.Example("opt graph.txt --print_after=changed", "what each pass did to a graph in its text form");
    flags.Example("opt zoo:mlp --stop_after=program", "buffers, steps and kernels");
  }
};

std::string StageList() {
  std::string text = "parse     reads or imports the model\nverify    checks every invariant of the graph\n";
  for (const StageInfo& stage : PrepareStages()) text += internal::Join(stage.name, "    ", stage.doc, "\n");
  return text + "passes    all of the stages above\nprogram   emitters are chosen, kernels compiled, buffers placed\n";
}

}  // namespace

Status OptVerb(const std::vector<std::string>& args) {
  OptFlags f;
  RETURN_IF_ERROR(f.flags.Parse(args));
  if (f.list) {
    PrintOut(StageList());
    return OkStatus();
  }
  ASSIGN_OR_RETURN(const bool answered, AnswerAtOnce(f.flags, 1));
  if (answered) return OkStatus();
  ASSIGN_OR_RETURN(OpenedModel opened, f.model.Open(f.flags.positional()[0]));
  Graph& graph = opened.graph;
  if (f.stop_after != "parse") RETURN_IF_ERROR(Verify(graph));
  if (f.stop_after == "parse" || f.stop_after == "verify") {
    PrintOut(PrintGraph(graph, {.elide = !f.data}));
    return OkStatus();
  }
  std::ostringstream printed;
  PrepareOptions prepare;
  ASSIGN_OR_RETURN(prepare.machine, MachineFor(f.target));
  prepare.propagate = f.propagate;
  ASSIGN_OR_RETURN(prepare.rules, ParseRuleMode(f.rules));
  ASSIGN_OR_RETURN(prepare.on_collapse, ParseOnCollapse(f.on_collapse));
  PassOptions& passes = prepare.passes;
  passes.print_after = f.print_after;
  passes.out = &printed;
  passes.elide = !f.data;
  if (f.stop_after == "program") {
    ASSIGN_OR_RETURN(const Model model, ModelFromGraph(graph));
    RETURN_IF_ERROR(Prepare(graph, prepare).status());
    Options compile;
    compile.target = f.target;
    compile.propagate = f.propagate;
    compile.on_collapse = f.on_collapse;
    ASSIGN_OR_RETURN(const Session session, model.Compile(compile));
    PrintOut(printed.str() + session.ProgramText());
    return OkStatus();
  }
  if (f.stop_after != "passes") passes.stop_after = f.stop_after;
  ASSIGN_OR_RETURN(const PrepareReport report, Prepare(graph, prepare));
  for (const std::string& line : report.shrink.lines) PrintNote("shrunk: " + line);
  for (const std::string& line : report.in_float) PrintNote("in float: " + line);
  for (const std::string& warning : report.shrink.warnings) PrintNote("warning: " + warning);
  PrintOut(printed.str() +
           (f.stop_after == "propagate" && report.propagated ? "" : PrintGraph(graph, {.elide = !f.data})));
  return OkStatus();
}

}  // namespace tessera
