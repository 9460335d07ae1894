// write_model OUT.tess: writes doubled = x + x over f32[2,3], for tests that cannot build a graph themselves.
#include <cstdio>

#include "graph/builder.h"
#include "graph/model_file.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  tessera::GraphBuilder b("doubler");
  const tessera::ValueId x = b.Input("x", tessera::DType::kF32, {2, 3});
  b.Output(b.Named("doubled").Add(x, x));
  tessera::StatusOr<tessera::Graph> graph = std::move(b).Build();
  const tessera::Status status = graph.ok() ? tessera::WriteModel(*graph, argv[1]) : graph.status();
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
