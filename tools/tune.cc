// tune: measures the ways in which each node of a model could be computed and remembers the times (codegen/tuner.h).
#include <string>
#include <vector>

#include "base/file.h"
#include "codegen/tuner.h"
#include "codegen/tuning_records.h"
#include "engine/engine_internal.h"
#include "runtime/processors.h"
#include "tools/common/flags.h"
#include "tools/common/input_spec.h"
#include "tools/common/model_flags.h"
#include "tools/common/model_source.h"
#include "tools/common/table.h"
#include "tools/common/tool.h"
#include "tools/verbs.h"

namespace tessera {
namespace {

struct TuneFlags {
  std::string target = "host", cache, form = "table";
  std::vector<std::string> merge;
  int64_t threads = 0, rounds = 15;
  double budget = 60;
  ModelFlags model;
  FlagSet flags = FlagSet("tune", "MODEL [flags]",
                          "Measures, on this machine, the ways in which each node of a model could be computed, and "
                          "keeps the times in a file that `bench --tuning` and Options::tuning_file decide by.");

  TuneFlags() {
    flags.Section("What is measured");
    flags.String("target", "host|host:CPU|cuda", "host, or a lower level of it; cuda: the NVIDIA card", &target);
    flags.Int("threads", "N", "of one inference on a processor; 0: all. Times hold for this number only", &threads, 0,
              1024);
    flags.Double("budget", "SECONDS", "no node is begun after that; what promises most comes first", &budget, 0, 86400);
    flags.Int("rounds", "N", "measurements of each way, in turn with the others; their median counts", &rounds, 1,
              1000);
    flags.Section("Records");
    flags.String("cache", "FILE", "where times are kept; by default tuning.tsv in Tessera's cache folder", &cache);
    flags.StringList("merge", "FILES", "takes over the times of these files first", &merge);
    model.Declare(flags);
    flags.Section("Output");
    flags.Choice("form", TableFormNames(), "how the table looks", &form);
    flags.Short('o');
    flags.Note("Columns",
               "count: equal nodes of the network; estimated: the way that would be taken without measuring; "
               "gain: its time over that of the best one.");
    flags.Note("Exit status", "1 bad input, 2 bad usage, 3 a way gave a wrong result.");
    flags.Example("tune model.onnx --cache=tuned.tsv && bench model.onnx --tuning=tuned.tsv", "measures, then uses it");
  }
};

}  // namespace

Status TuneVerb(const std::vector<std::string>& args) {
  TuneFlags f;
  RETURN_IF_ERROR(f.flags.Parse(args));
  ASSIGN_OR_RETURN(const bool answered, AnswerAtOnce(f.flags, 1));
  if (answered) return OkStatus();
  const std::string path = f.cache.empty() ? CacheFolder() + "/tuning.tsv" : UserPath(f.cache);
  ASSIGN_OR_RETURN(TuningRecords records, TuningRecords::ReadIfPresent(path));
  for (const std::string& other : f.merge) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(UserPath(other)));
    const StatusOr<TuningRecords> more = TuningRecords::Parse(text);
    RETURN_IF_ERROR(more.status().WithContext(other));
    records.Merge(*more);
  }
  ASSIGN_OR_RETURN(const OpenedModel opened, f.model.Open(f.flags.positional()[0]));
  ASSIGN_OR_RETURN(const Target target, MakeTarget(f.target));
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(opened.graph));
  Options options;
  options.target = f.target;
  ASSIGN_OR_RETURN(const Graph graph, OptimizedGraphOf(model, options));
  TuneOptions tune;
  tune.threads = ThreadsToUse(static_cast<int>(f.threads));
  tune.budget_seconds = f.budget;
  tune.rounds = static_cast<int>(f.rounds);
  tune.seed = static_cast<uint64_t>(f.model.seed);
  const StatusOr<TuneReport> report = Tune(graph, target, tune, records);
  // What was measured before an error is worth keeping too.
  RETURN_IF_ERROR(WriteFileAtomically(path, records.ToString()));
  RETURN_IF_ERROR(report.status());

  Table table({{.key = "node", .title = "node"},
               {.key = "count", .title = "count"},
               {.key = "estimated", .title = "estimated"},
               {.key = "estimated_us", .title = "us"},
               {.key = "best", .title = "best"},
               {.key = "best_us", .title = "us"},
               {.key = "gain", .title = "gain", .digits = 2},
               {.key = "measured", .title = "measured"},
               {.key = "what", .title = "what"}});
  for (const TunedNode& node : report->nodes) {
    const bool known = node.estimated_us > 0;
    table.AddRow({node.name, int64_t{node.count}, node.estimated, known ? Cell(node.estimated_us) : Cell(), node.best,
                  node.best_us, known ? Cell(node.estimated_us / node.best_us) : Cell(),
                  std::string(node.measured ? "now" : "before"), node.what});
  }
  PrintOut(table.Print(ParseTableForm(f.form)));
  PrintNote(internal::Join(report->ways_measured, " ways measured, ", report->nodes_left,
                           " nodes left for another time; ", records.size(), " times in ", path));
  for (const std::string& problem : report->problems) PrintNote("problem: " + problem);
  if (!report->problems.empty()) return Error(ErrorCode::kResultWrong, report->problems[0]);
  return OkStatus();
}

}  // namespace tessera
