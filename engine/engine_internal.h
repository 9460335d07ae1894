// The door between the public API and Tessera's own tools, which import models as graphs and look inside.
// Thread-safety is that of Model and Session. Tested by engine_test.cc.
#ifndef TESSERA_ENGINE_ENGINE_INTERNAL_H_
#define TESSERA_ENGINE_ENGINE_INTERNAL_H_

#include "engine/engine.h"
#include "graph/graph.h"
#include "propagate/pipeline.h"
#include "runtime/program.h"

namespace tessera {

class Trace;

// A model over a graph made elsewhere (an importer, a builder). Verified.
StatusOr<Model> ModelFromGraph(Graph graph);
// The graph as loaded, before any pass.
const Graph& GraphOf(const Model& model);
// What graphs are lowered for with this target.
StatusOr<MachineKind> MachineFor(const std::string& target);
// The graph as it will be lowered for `options`, after all passes.
StatusOr<Graph> OptimizedGraphOf(const Model& model, const Options& options);

// What Compile would run, as data, for a target that need not be here. Its name says the chip.
StatusOr<std::shared_ptr<const Program>> CompileProgram(const Model& model, const Options& options);

struct SessionAccess {
  static const Program& ProgramOf(const Session& session);
  // Threads that a run really uses.
  static int ThreadsOf(const Session& session);
  // Records the steps of later runs; nullptr stops. Borrowed; see Executable::SetTrace.
  static void SetTrace(Session& session, Trace* trace);
};

}  // namespace tessera

#endif  // TESSERA_ENGINE_ENGINE_INTERNAL_H_
