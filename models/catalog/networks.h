// The networks of the catalog, one Build function each, and what they share. Only catalog.cc calls them; parameters are
// complete and in range. Tested by catalog_test.cc.
#ifndef TESSERA_MODELS_CATALOG_NETWORKS_H_
#define TESSERA_MODELS_CATALOG_NETWORKS_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "graph/builder.h"

namespace tessera {

// Parameters, batch and seed of one network under construction.
class NetworkBuilder {
 public:
  NetworkBuilder(std::string_view name, int64_t batch, uint64_t seed,
                 std::map<std::string, int64_t, std::less<>> parameters)
      : graph_(std::string(name)), batch_(batch), seed_(seed), parameters_(std::move(parameters)) {}

  GraphBuilder& graph() { return graph_; }
  int64_t batch() const { return batch_; }
  int64_t Get(std::string_view parameter) const { return parameters_.find(parameter)->second; }

  // Uniform, of standard deviation gain / sqrt(fan_in), so that activations neither vanish nor explode over many
  // layers.
  ValueId Weight(std::string_view name, Shape shape, int64_t fan_in, double gain = 1);
  // Uniform in [low, high].
  ValueId Uniform(std::string_view name, Shape shape, double low, double high);

  // x · Wᵀ + b over the last axis, as `name`.weight [out, in] and `name`.bias.
  ValueId Linear(ValueId x, std::string_view name, int64_t out, double gain = 1);
  // The same with the weight as [in, out], which is how exporters write the projections of a transformer.
  ValueId Projection(ValueId x, std::string_view name, int64_t out, double gain = 1);
  // A square convolution padded as PyTorch's padding = kernel / 2, then BatchNorm; groups as given.
  ValueId ConvBatchNorm(ValueId x, std::string_view name, int64_t out, int64_t kernel, int64_t stride,
                        int64_t groups = 1);
  // Mean over the image, as [batch, channels].
  ValueId GlobalAverage(ValueId x);

 private:
  Tensor Draw(std::string_view name, const Shape& shape, double low, double high) const;

  GraphBuilder graph_;
  int64_t batch_;
  uint64_t seed_;
  std::map<std::string, int64_t, std::less<>> parameters_;
};

void BuildMlp(NetworkBuilder& net);
void BuildMobileNetV1(NetworkBuilder& net);
void BuildMobileNetV2(NetworkBuilder& net);
void BuildResNet(NetworkBuilder& net);
// bert_base and minilm: a transformer encoder.
void BuildEncoder(NetworkBuilder& net);

}  // namespace tessera

#endif  // TESSERA_MODELS_CATALOG_NETWORKS_H_
