#include "codegen/emit/conv_geometry.h"

#include <cstring>

namespace tessera {

double ConvGeometry::bytes() const {
  const int64_t filters = taps() * in_channels * all_out_channels();
  return static_cast<double>(ByteSize(type, image_elements() + pixels() * all_out_channels()) +
                             ByteSize(weights_type, filters));
}

std::string ConvGeometry::Key() const {
  std::string key = internal::Join(Name(type), "*", Name(weights_type), " outside ", pad_value, " batch ", batch,
                                   " groups ", groups, " of ", in_channels, "->", out_channels);
  for (const ConvAxis* axis : {&y, &x}) {
    key += internal::Join(axis == &y ? " y " : " x ", axis->in, "->", axis->out, " taps ", axis->taps, " stride ",
                          axis->stride, " dilation ", axis->dilation, " pad ", axis->pad);
  }
  return key;
}

std::optional<ConvGeometry> ReadConvGeometry(const Graph& graph, const Node& node, std::string* why,
                                             std::string_view layout) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  if (node.op != Op::kConv) return no("no conv");
  if (node.attrs.String("layout") != layout) {
    return no("expected layout ", layout, ", found ", node.attrs.String("layout"));
  }
  const Value& input = graph[node.inputs[0]];
  const Value& weights = graph[node.inputs[1]];
  ConvGeometry g;
  g.type = input.type.dtype;
  g.weights_type = weights.type.dtype;
  g.pad_value = node.attrs.Int("pad_value", 0);
  if (!graph.IsConstant(node.inputs[1])) return no("the weights are computed");
  const Shape& in = input.type.shape;
  const Shape& w = weights.type.shape;
  const Shape& out = graph[node.outputs[0]].type.shape;
  const int axes = in.rank() - 2;
  if (axes < 1 || axes > 2) return no("expected one or two spatial axes, found ", axes);
  const int first = layout == "nhwc" ? 1 : 2;  // of the spatial axes
  g.batch = in[0];
  g.groups = node.attrs.Int("groups");
  g.in_channels = w[1];
  g.out_channels = w[0] / g.groups;
  for (int a = 0; a < axes; ++a) {
    ConvAxis& axis = a == axes - 1 ? g.x : g.y;
    axis = {.in = in[first + a],
            .out = out[first + a],
            .taps = w[2 + a],
            .stride = node.attrs.Ints("strides")[a],
            .dilation = node.attrs.Ints("dilations")[a],
            .pad = node.attrs.Ints("pads")[a]};
  }
  if (out.num_elements() == 0 || in.num_elements() == 0 || w.num_elements() == 0) return no("nothing to compute");
  return g;
}

Tensor WeightsInWindowOrder(const Tensor& weights, const ConvGeometry& g) {
  const int64_t taps = g.taps(), channels = g.in_channels, bytes = TypeInfo(weights.dtype()).bits / 8;
  if (taps == 1) return weights;
  Tensor turned(weights.dtype(), weights.shape());
  const std::byte* from = weights.bytes().data();
  std::byte* to = turned.mutable_bytes().data();
  for (int64_t o = 0; o < g.all_out_channels(); ++o) {
    for (int64_t t = 0; t < taps; ++t) {
      for (int64_t c = 0; c < channels; ++c) {
        std::memcpy(to, from + ((o * channels + c) * taps + t) * bytes, bytes);
        to += bytes;
      }
    }
  }
  return turned;
}

Tensor FilterByTaps(const Tensor& weights, const ConvGeometry& g) {
  const int64_t bytes = TypeInfo(weights.dtype()).bits / 8;
  Tensor turned(weights.dtype(), Shape({g.taps(), g.groups}));
  const std::byte* from = weights.bytes().data();
  std::byte* to = turned.mutable_bytes().data();
  for (int64_t c = 0; c < g.groups; ++c) {
    for (int64_t t = 0; t < g.taps(); ++t) {
      std::memcpy(to + (t * g.groups + c) * bytes, from + (c * g.taps() + t) * bytes, bytes);
    }
  }
  return turned;
}

}  // namespace tessera
