// The catalog: well-known networks built from C++, with seeded weights, in the shapes that publications measure.
//
//   ASSIGN_OR_RETURN(Graph graph, BuildCatalogModel("mobilenet_v1", {.batch = 8}));
//   ASSIGN_OR_RETURN(graph, BuildCatalogModel("bert_base", {.parameters = {{"layers", 2}, {"seq", 64}}}));
//
// Graphs look as an exporter writes them: biases are adds, BatchNorm stands by itself, attention and GELU are spelled
// out; recognising them is the passes' work. A weight's values depend on the seed and its name only, so that every
// batch size has the same weights. Pure functions. Adding a network: its Build function in a .cc of this folder,
// declared in networks.h, and a row in catalog.cc. Tested by catalog_test.cc.
#ifndef TESSERA_MODELS_CATALOG_CATALOG_H_
#define TESSERA_MODELS_CATALOG_CATALOG_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

struct CatalogOptions {
  int64_t batch = 1;
  uint64_t seed = 1;
  // Of the network, by name; those not given have their defaults.
  std::map<std::string, int64_t, std::less<>> parameters = {};
};

struct CatalogParameter {
  std::string_view name;
  int64_t standard;
  int64_t min, max;
};

struct CatalogNetwork {
  std::string_view name;
  std::string_view doc;  // layers, input, source
  std::span<const CatalogParameter> parameters;
};

std::span<const CatalogNetwork> CatalogNetworks();

// TES-2001 for an unknown network or parameter, or one out of range.
StatusOr<Graph> BuildCatalogModel(std::string_view name, const CatalogOptions& options);

}  // namespace tessera

#endif  // TESSERA_MODELS_CATALOG_CATALOG_H_
