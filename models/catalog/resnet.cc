// ResNet of basic blocks (He et al., arXiv:1512.03385, table 1): 18 layers at two blocks a stage.
#include <algorithm>

#include "models/catalog/networks.h"

namespace tessera {

void BuildResNet(NetworkBuilder& net) {
  GraphBuilder& graph = net.graph();
  const auto scaled = [&](int64_t channels) { return std::max<int64_t>(1, channels * net.Get("width") / 100); };
  ValueId x = graph.Input("image", DType::kF32, {net.batch(), 3, net.Get("size"), net.Get("size")});
  x = net.ConvBatchNorm(x, "stem", scaled(64), 7, 2);
  x = graph.Named("stem.relu").Relu(x);
  WindowParams window;
  window.strides = {2, 2};
  window.pads = {1, 1, 1, 1};
  x = graph.Named("stem.pool").MaxPool(x, {3, 3}, window);
  int64_t in = scaled(64);
  for (int64_t stage = 0; stage < 4; ++stage) {
    const int64_t out = scaled(64 << stage);
    for (int64_t block = 0; block < net.Get("blocks"); ++block) {
      const std::string name = "stage" + std::to_string(stage + 1) + ".block" + std::to_string(block + 1);
      const int64_t stride = stage > 0 && block == 0 ? 2 : 1;
      ValueId y = net.ConvBatchNorm(x, name + ".conv1", out, 3, stride);
      y = graph.Named(name + ".relu1").Relu(y);
      y = net.ConvBatchNorm(y, name + ".conv2", out, 3, 1);
      const ValueId shortcut =
          stride == 1 && in == out ? x : net.ConvBatchNorm(x, name + ".downsample", out, 1, stride);
      const ValueId sum = graph.Named(name + ".add").Add(y, shortcut);
      x = graph.Named(name + ".relu2").Relu(sum);
      in = out;
    }
  }
  graph.Output(net.Linear(net.GlobalAverage(x), "logits", net.Get("classes")));
}

}  // namespace tessera
