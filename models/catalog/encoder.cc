// A transformer encoder as BERT has it (Devlin et al., arXiv:1810.04805): post-norm, GELU by erf, attention spelled out
// as exporters write it, with the scale as a division of the scores.
#include <cmath>

#include "models/catalog/networks.h"

namespace tessera {
namespace {

ValueId LayerNorm(NetworkBuilder& net, ValueId x, const std::string& name) {
  const int64_t hidden = net.Get("hidden");
  return net.graph().Named(name).LayerNorm(x, net.Uniform(name + ".weight", {hidden}, 0.8, 1.2),
                                           net.Uniform(name + ".bias", {hidden}, -0.1, 0.1), 2, 1e-12);
}

ValueId Attention(NetworkBuilder& net, ValueId x, const std::string& name) {
  GraphBuilder& graph = net.graph();
  const int64_t hidden = net.Get("hidden"), heads = net.Get("heads"), seq = net.Get("seq"), depth = hidden / heads;
  const auto split = [&](const char* which, double gain) {
    const std::string part = name + "." + which;
    const ValueId flat = net.Projection(x, part, hidden, gain);
    return graph.Named(part + ".split").Reshape(flat, {net.batch(), seq, heads, depth});
  };
  // Twice the usual weights in front of the softmax make it prefer some positions, as a trained one does.
  const ValueId q = graph.Named(name + ".q.heads").Transpose(split("query", 2), {0, 2, 1, 3});
  const ValueId k = graph.Named(name + ".k.heads").Transpose(split("key", 2), {0, 2, 3, 1});
  const ValueId v = graph.Named(name + ".v.heads").Transpose(split("value", 1), {0, 2, 1, 3});
  const ValueId scores = graph.Named(name + ".scores").Matmul(q, k);
  const ValueId scaled = graph.Named(name + ".scale").Div(scores, graph.Number(std::sqrt(static_cast<double>(depth))));
  const ValueId shares = graph.Named(name + ".softmax").Softmax(scaled, 3);
  const ValueId mix = graph.Named(name + ".mix").Matmul(shares, v);
  const ValueId mixed = graph.Named(name + ".context").Transpose(mix, {0, 2, 1, 3});
  const ValueId joined = graph.Named(name + ".join").Reshape(mixed, {net.batch(), seq, hidden});
  return net.Projection(joined, name + ".output", hidden);
}

}  // namespace

void BuildEncoder(NetworkBuilder& net) {
  GraphBuilder& graph = net.graph();
  ValueId x = graph.Input("embeddings", DType::kF32, {net.batch(), net.Get("seq"), net.Get("hidden")});
  x = LayerNorm(net, x, "embeddings.norm");
  for (int64_t layer = 0; layer < net.Get("layers"); ++layer) {
    const std::string name = "layer" + std::to_string(layer);
    const ValueId attended = Attention(net, x, name + ".attention");
    x = LayerNorm(net, graph.Named(name + ".attention.add").Add(attended, x), name + ".attention.norm");
    const ValueId wide = net.Projection(x, name + ".inner", net.Get("inner"));
    const ValueId inner = graph.Named(name + ".gelu").Gelu(wide);
    const ValueId outer = net.Projection(inner, name + ".outer", net.Get("hidden"));
    x = LayerNorm(net, graph.Named(name + ".add").Add(outer, x), name + ".norm");
  }
  graph.Output(x);
}

}  // namespace tessera
