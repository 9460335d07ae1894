// The MLP of the SparTA paper (Zheng et al., OSDI 2022, section 6.1): 1024-1024-1024-512-10.
#include <cmath>

#include "models/catalog/networks.h"

namespace tessera {

void BuildMlp(NetworkBuilder& net) {
  GraphBuilder& graph = net.graph();
  ValueId x = graph.Input("input", DType::kF32, {net.batch(), 1024});
  int layer = 1;
  for (int64_t width : {1024, 1024, 512}) {
    const std::string name = "fc" + std::to_string(layer++);
    x = net.Linear(x, name, width, std::sqrt(2.0));
    x = graph.Named(name + ".relu").Relu(x);
  }
  graph.Output(net.Linear(x, "logits", 10));
}

}  // namespace tessera
