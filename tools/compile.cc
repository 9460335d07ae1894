// compile: ahead-of-time programs of a model for one or more targets, in one file.
#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "engine/engine_internal.h"
#include "runtime/program_bundle.h"
#include "tools/common/flags.h"
#include "tools/common/model_flags.h"
#include "tools/common/model_source.h"
#include "tools/common/table.h"
#include "tools/common/tool.h"
#include "tools/verbs.h"

namespace tessera {
namespace {

struct CompileFlags {
  std::vector<std::string> targets = {"host"};
  std::string out, cache, form = "table";
  int64_t threads = 0;
  bool sparsity = true;
  ModelFlags model;
  FlagSet flags = FlagSet("compile", "MODEL --out=FILE.tessx [flags]",
                          "Compiles a model for targets that need not be here, into one file that `run` and "
                          "Session::Load start without compiling anything.");

  CompileFlags() {
    flags.Section("What is compiled");
    flags.StringList("target", "LIST", "host, host:CPU, cuda:CHIP, hip:CHIP, simt:VENDOR:CHIP, between commas",
                     &targets);
    flags.Int("threads", "N", "of an inference on a processor, which kernels are chosen for; 0: as here", &threads, 0,
              1024);
    flags.Bool("sparsity", "off: the masked weights through dense kernels", &sparsity);
    flags.String("cache", "FOLDER", "keeps compiled programs", &cache);
    model.Declare(flags);
    flags.Section("Output");
    flags.String("out", "FILE.tessx", "the file with all programs; without it nothing is written", &out);
    flags.Short('o');
    flags.Choice("form", TableFormNames(), "how the table looks", &form);
    flags.Note(
        "Which program runs",
        "Of a file's programs a machine takes the one for its kind that asks most of what it has: on the host "
        "the highest level of processor, on an NVIDIA card its chip before older ones, on an AMD card its chip.");
    flags.Note("Exit status", "1 bad input, 2 bad usage.");
    flags.Example("compile zoo:bert_base --target=host:x86-64-v3,cuda:sm_80,cuda:sm_90a,hip:gfx942 -o bert.tessx",
                  "one file for many machines");
    flags.Example("run bert.tessx --target=cuda --random", "runs what the card of this machine can");
  }
};

}  // namespace

Status CompileVerb(const std::vector<std::string>& args) {
  CompileFlags f;
  RETURN_IF_ERROR(f.flags.Parse(args));
  ASSIGN_OR_RETURN(const bool answered, AnswerAtOnce(f.flags, 1));
  if (answered) return OkStatus();
  if (f.targets.empty()) return Error(ErrorCode::kUsageInvalid, "--target: expected at least one");
  const std::set<std::string> distinct(f.targets.begin(), f.targets.end());
  if (distinct.size() != f.targets.size()) {
    return Error(ErrorCode::kUsageInvalid, "--target: expected each target once");
  }
  // Misspelt ones first: compiling takes seconds.
  for (const std::string& target : f.targets) RETURN_IF_ERROR(MachineFor(target).status());
  ASSIGN_OR_RETURN(const OpenedModel opened, f.model.Open(f.flags.positional()[0]));
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(opened.graph));
  Table table({{.key = "target", .title = "target"},
               {.key = "kernels", .title = "kernels"},
               {.key = "steps", .title = "steps"},
               {.key = "code_bytes", .title = "code bytes"},
               {.key = "constant_bytes", .title = "weights"},
               {.key = "arena_bytes", .title = "activations"},
               {.key = "compile_ms", .title = "ms"}});
  std::vector<std::shared_ptr<const Program>> programs;
  for (const std::string& target : f.targets) {
    Options options;
    options.target = target;
    options.threads = static_cast<int>(f.threads);
    options.sparsity = f.sparsity;
    if (!f.cache.empty()) options.cache_dir = UserPath(f.cache);
    const auto start = std::chrono::steady_clock::now();
    StatusOr<std::shared_ptr<const Program>> program = CompileProgram(model, options);
    if (!program.ok()) return program.status().WithContext("target '" + target + "'");
    const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - start;
    int64_t code_bytes = 0;
    for (const ProgramImage& image : (*program)->images) code_bytes += static_cast<int64_t>(image.bytes.size());
    table.AddRow({target, static_cast<int64_t>((*program)->kernels.size()),
                  static_cast<int64_t>((*program)->steps.size()), code_bytes, (*program)->memory.constant_bytes,
                  (*program)->memory.arena_bytes, ms.count()});
    programs.push_back(*std::move(program));
  }
  if (!f.out.empty()) RETURN_IF_ERROR(WriteBundle(programs, UserPath(f.out)));
  PrintOut(table.Print(ParseTableForm(f.form)));
  return OkStatus();
}

}  // namespace tessera
