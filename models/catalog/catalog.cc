#include "models/catalog/catalog.h"

#include <algorithm>
#include <cmath>

#include "base/hash.h"
#include "models/catalog/networks.h"
#include "tesa/random.h"

namespace tessera {
namespace {

constexpr CatalogParameter kImageParameters[] = {
    {"size", 224, 32, 1024}, {"width", 100, 10, 400}, {"classes", 1000, 1, 100000}};
constexpr CatalogParameter kResNetParameters[] = {
    {"blocks", 2, 1, 8}, {"size", 224, 32, 1024}, {"width", 100, 10, 400}, {"classes", 1000, 1, 100000}};
constexpr CatalogParameter kBertParameters[] = {{"layers", 12, 1, 64},
                                                {"hidden", 768, 8, 8192},
                                                {"heads", 12, 1, 128},
                                                {"inner", 3072, 8, 32768},
                                                {"seq", 128, 1, 4096}};
constexpr CatalogParameter kMiniLmParameters[] = {{"layers", 6, 1, 64},
                                                  {"hidden", 384, 8, 8192},
                                                  {"heads", 12, 1, 128},
                                                  {"inner", 1536, 8, 32768},
                                                  {"seq", 128, 1, 4096}};

struct Row {
  CatalogNetwork network;
  void (*build)(NetworkBuilder&);
};

const Row kRows[] = {
    {{"mlp", "the MLP of the SparTA paper, 1024-1024-1024-512-10 with ReLU", {}}, BuildMlp},
    {{"mobilenet_v1", "MobileNet-V1 (arXiv:1704.04861); width in percent", kImageParameters}, BuildMobileNetV1},
    {{"mobilenet_v2", "MobileNet-V2 (arXiv:1801.04381); width in percent", kImageParameters}, BuildMobileNetV2},
    {{"resnet18", "ResNet of basic blocks (arXiv:1512.03385), 2 in each of 4 stages; width in percent",
      kResNetParameters},
     BuildResNet},
    {{"bert_base", "BERT-base's encoder (arXiv:1810.04805) from embeddings on", kBertParameters}, BuildEncoder},
    {{"minilm", "MiniLM-L6's encoder (arXiv:2002.10957) from embeddings on", kMiniLmParameters}, BuildEncoder},
};

Status Usage(const auto&... pieces) { return Error(ErrorCode::kUsageInvalid, pieces...); }

}  // namespace

Tensor NetworkBuilder::Draw(std::string_view name, const Shape& shape, double low, double high) const {
  // The name, not the order of calls, decides: a network with fewer layers has the same first layers.
  Random random(HashBytes64(name, seed_));
  Tensor tensor(DType::kF32, shape);
  for (float& value : tensor.mutable_data<float>()) value = static_cast<float>(random.Uniform(low, high));
  return tensor;
}

ValueId NetworkBuilder::Uniform(std::string_view name, Shape shape, double low, double high) {
  Tensor values = Draw(name, shape, low, high);
  return graph_.Constant(name, std::move(values));
}

ValueId NetworkBuilder::Weight(std::string_view name, Shape shape, int64_t fan_in, double gain) {
  const double bound = gain * std::sqrt(3.0 / static_cast<double>(fan_in));
  return Uniform(name, std::move(shape), -bound, bound);
}

ValueId NetworkBuilder::Linear(ValueId x, std::string_view name, int64_t out, double gain) {
  const std::string text(name);
  const Shape& shape = graph_.ShapeOf(x);
  const int64_t in = shape.rank() == 0 ? 1 : shape[shape.rank() - 1];
  const ValueId weight = Weight(text + ".weight", {out, in}, in, gain);
  const ValueId bias = Uniform(text + ".bias", {out}, -0.1, 0.1);
  const ValueId product = graph_.Named(text + ".matmul").Matmul(x, weight, false, true);
  return graph_.Named(text).Add(product, bias);
}

ValueId NetworkBuilder::Projection(ValueId x, std::string_view name, int64_t out, double gain) {
  const std::string text(name);
  const Shape& shape = graph_.ShapeOf(x);
  const int64_t in = shape.rank() == 0 ? 1 : shape[shape.rank() - 1];
  const ValueId weight = Weight(text + ".weight", {in, out}, in, gain);
  const ValueId bias = Uniform(text + ".bias", {out}, -0.1, 0.1);
  const ValueId product = graph_.Named(text + ".matmul").Matmul(x, weight);
  return graph_.Named(text).Add(product, bias);
}

ValueId NetworkBuilder::ConvBatchNorm(ValueId x, std::string_view name, int64_t out, int64_t kernel, int64_t stride,
                                      int64_t groups) {
  const std::string text(name);
  const Shape& shape = graph_.ShapeOf(x);
  const int64_t in = (shape.rank() == 4 ? shape[1] : 1) / groups;
  const int64_t pad = kernel / 2;
  // ReLU halves the variance of what it passes on.
  const ValueId weight = Weight(text + ".weight", {out, in, kernel, kernel}, in * kernel * kernel, std::sqrt(2.0));
  WindowParams window;
  window.strides = {stride, stride};
  window.pads = {pad, pad, pad, pad};
  const ValueId conv = graph_.Named(text).Conv(x, weight, window, groups);
  return graph_.Named(text + ".bn")
      .BatchNorm(conv, Uniform(text + ".bn.weight", {out}, 0.8, 1.2), Uniform(text + ".bn.bias", {out}, -0.2, 0.2),
                 Uniform(text + ".bn.running_mean", {out}, -0.1, 0.1),
                 Uniform(text + ".bn.running_var", {out}, 0.8, 1.2));
}

ValueId NetworkBuilder::GlobalAverage(ValueId x) {
  return graph_.Named("pool").Reduce(Op::kReduceMean, x, {2, 3}, /*keepdims=*/false);
}

std::span<const CatalogNetwork> CatalogNetworks() {
  static const auto& networks = *[] {
    auto* list = new std::vector<CatalogNetwork>;
    for (const Row& row : kRows) list->push_back(row.network);
    return list;
  }();
  return networks;
}

StatusOr<Graph> BuildCatalogModel(std::string_view name, const CatalogOptions& options) {
  const auto row =
      std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) { return r.network.name == name; });
  if (row == std::end(kRows)) {
    std::string known;
    for (const Row& r : kRows) known += (known.empty() ? "" : ", ") + std::string(r.network.name);
    return Usage("the catalog has no network '", name, "'; it has ", known);
  }
  if (options.batch < 1 || options.batch > 65536)
    return Usage("expected a batch from 1 to 65536, found ", options.batch);
  std::map<std::string, int64_t, std::less<>> parameters;
  for (const CatalogParameter& parameter : row->network.parameters)
    parameters[std::string(parameter.name)] = parameter.standard;
  for (const auto& [key, value] : options.parameters) {
    const auto parameter = std::find_if(row->network.parameters.begin(), row->network.parameters.end(),
                                        [&k = key](const CatalogParameter& p) { return p.name == k; });
    if (parameter == row->network.parameters.end()) {
      std::string known;
      for (const CatalogParameter& p : row->network.parameters)
        known += (known.empty() ? "" : ", ") + std::string(p.name);
      return Usage(name, " has no parameter '", key, "'; it has ", known.empty() ? "none" : known);
    }
    if (value < parameter->min || value > parameter->max) {
      return Usage(name, ": expected ", key, " from ", parameter->min, " to ", parameter->max, ", found ", value);
    }
    parameters[key] = value;
  }
  if (parameters.count("heads") != 0 && parameters["hidden"] % parameters["heads"] != 0) {
    return Usage(name, ": hidden = ", parameters["hidden"], " is not a multiple of heads = ", parameters["heads"]);
  }
  NetworkBuilder net(name, options.batch, options.seed, std::move(parameters));
  row->build(net);
  net.graph().SetMetadata("source", "catalog " + std::string(name));
  net.graph().SetMetadata("weights", "random, seed " + std::to_string(options.seed));
  return std::move(net.graph()).Build();
}

}  // namespace tessera
