// The door between the public API and Tessera's own tools, which import models as graphs and look inside.
#ifndef TESSERA_ENGINE_ENGINE_INTERNAL_H_
#define TESSERA_ENGINE_ENGINE_INTERNAL_H_

#include "engine/engine.h"
#include "graph/graph.h"

namespace tessera {

// A model over a graph made elsewhere (an importer, a builder). Verified.
StatusOr<Model> ModelFromGraph(Graph graph);
// The graph as loaded, before any pass.
const Graph& GraphOf(const Model& model);
// The graph as it will be lowered for `options`, after all passes.
StatusOr<Graph> OptimizedGraphOf(const Model& model, const Options& options);

}  // namespace tessera

#endif  // TESSERA_ENGINE_ENGINE_INTERNAL_H_
