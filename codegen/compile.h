// Compile: a Graph becomes a Program. compile.cc reads as the table of contents of code generation.
//
//   ASSIGN_OR_RETURN(Target target, MakeTarget("host"));
//   ASSIGN_OR_RETURN(CompileResult result, Compile(graph, target, {}));
//
// Thread-safe. Tested by compile_test.cc and by every end-to-end test.
#ifndef TESSERA_CODEGEN_COMPILE_H_
#define TESSERA_CODEGEN_COMPILE_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "codegen/plan.h"
#include "codegen/target.h"
#include "codegen/tuning_records.h"
#include "graph/graph.h"
#include "runtime/program.h"

namespace tessera {

struct CompileOptions {
  // Threads that compile kernels; 0: as many as the machine has.
  int threads = 0;
  // A folder that keeps programs and their code between processes (compile_cache.h); empty: none.
  std::string cache_dir;
  // Use this emitter, or way of one, wherever it applies ("generic" compares special emitters with the plain ones).
  std::string only_emitter;
  // What was measured of the network's nodes (tuner.h) decides where it says anything; borrowed, may be null.
  const TuningRecords* tuning = nullptr;
  int tuning_threads = 0;  // of an inference, as given to Tune
  // Threads of an inference: estimates count what steps cost them. What is compiled runs on any number.
  int run_threads = 1;
  // Machine code that patterns of weights may become, all layers together: beyond it, layers that gain least by it have
  // their pattern read as data. 0: as much as is quickest.
  int64_t max_code_bytes = 0;
  // The program that is there soonest: patterns of weights are read as data, and ways that take long to decide on are
  // not asked.
  bool first_tier = false;
  // Set by another thread when nobody wants the result any more: Compile then ends early with an error. Borrowed, may
  // be null.
  const std::atomic<bool>* cancelled = nullptr;
};

struct CompileResult {
  std::shared_ptr<const Program> program;
  // One line per node: the emitter taken, and each other candidate with its estimate or the reason against it.
  std::vector<std::string> decisions;
  bool from_cache = false;  // the code was there already
  int num_planned = 0;      // nodes for which a way was chosen: 0 where the whole program was there
  int num_kernels = 0;
  int64_t code_bytes = 0;
};

// `graph` is verified first; it is lowered as it stands, so run the passes before.
StatusOr<CompileResult> Compile(const Graph& graph, const Target& target, const CompileOptions& options);

// What Compile would find in options.cache_dir, where all of it is there.
std::optional<CompileResult> FindCompiled(const Graph& graph, const Target& target, const CompileOptions& options);

// Can the program of the first tier be any other than the final one?
bool HasSecondTier(const Graph& graph, const Target& target);

// The plan alone, before code: for inspection and tests.
StatusOr<Plan> MakePlan(const Graph& graph, const Target& target, const CompileOptions& options);

// The code of every kernel of a plan whose symbol contains `filter`, as text.
enum class ListingForm { kIr, kOptimizedIr, kAssembly };
StatusOr<std::string> KernelListing(const Plan& plan, const Target& target, ListingForm form,
                                    const std::string& filter);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_COMPILE_H_
