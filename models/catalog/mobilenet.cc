// MobileNet-V1 (Howard et al., arXiv:1704.04861, table 1) and V2 (Sandler et al., arXiv:1801.04381, table 2), as the
// usual PyTorch and TensorFlow exports write them: convolutions without bias, BatchNorm, ReLU6.
#include <algorithm>

#include "models/catalog/networks.h"

namespace tessera {
namespace {

// `channels` times the width in percent, as a multiple of 8 that loses no more than a tenth.
int64_t Scaled(const NetworkBuilder& net, int64_t channels) {
  const int64_t exact = channels * net.Get("width");
  const int64_t rounded = std::max<int64_t>(8, (exact + 400) / 800 * 8);
  return rounded * 1000 < exact * 9 ? rounded + 8 : rounded;
}

ValueId Relu6(NetworkBuilder& net, ValueId x, const std::string& name) { return net.graph().Named(name).Clip(x, 0, 6); }

ValueId Image(NetworkBuilder& net) {
  return net.graph().Input("image", DType::kF32, {net.batch(), 3, net.Get("size"), net.Get("size")});
}

ValueId Channels(NetworkBuilder& net, ValueId x, const std::string& name, int64_t out, int64_t kernel, int64_t stride,
                 int64_t groups) {
  return Relu6(net, net.ConvBatchNorm(x, name, out, kernel, stride, groups), name + ".relu6");
}

}  // namespace

void BuildMobileNetV1(NetworkBuilder& net) {
  ValueId x = Channels(net, Image(net), "stem", Scaled(net, 32), 3, 2, 1);
  int64_t in = Scaled(net, 32);
  struct Block {
    int64_t out, stride;
  };
  const Block blocks[] = {{64, 1},  {128, 2}, {128, 1}, {256, 2}, {256, 1},  {512, 2}, {512, 1},
                          {512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1}};
  int number = 1;
  for (const Block& block : blocks) {
    const std::string name = "block" + std::to_string(number++);
    x = Channels(net, x, name + ".dw", in, 3, block.stride, in);
    in = Scaled(net, block.out);
    x = Channels(net, x, name + ".pw", in, 1, 1, 1);
  }
  net.graph().Output(net.Linear(net.GlobalAverage(x), "logits", net.Get("classes")));
}

void BuildMobileNetV2(NetworkBuilder& net) {
  ValueId x = Channels(net, Image(net), "stem", Scaled(net, 32), 3, 2, 1);
  int64_t in = Scaled(net, 32);
  struct Stage {
    int64_t expand, out, repeats, stride;
  };
  const Stage stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                          {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  int number = 1;
  for (const Stage& stage : stages) {
    for (int64_t repeat = 0; repeat < stage.repeats; ++repeat) {
      const std::string name = "block" + std::to_string(number++);
      const int64_t stride = repeat == 0 ? stage.stride : 1, out = Scaled(net, stage.out), inner = in * stage.expand;
      ValueId y = stage.expand == 1 ? x : Channels(net, x, name + ".expand", inner, 1, 1, 1);
      y = Channels(net, y, name + ".dw", inner, 3, stride, inner);
      y = net.ConvBatchNorm(y, name + ".project", out, 1, 1);
      x = stride == 1 && in == out ? net.graph().Named(name + ".add").Add(x, y) : y;
      in = out;
    }
  }
  x = Channels(net, x, "head", std::max<int64_t>(1280, Scaled(net, 1280)), 1, 1, 1);
  net.graph().Output(net.Linear(net.GlobalAverage(x), "logits", net.Get("classes")));
}

}  // namespace tessera
