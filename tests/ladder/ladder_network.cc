#include "tests/ladder/ladder_network.h"

#include <algorithm>
#include <string>

#include "models/prune/prune.h"
#include "models/quantize/quantize.h"
#include "tools/common/data_set.h"
#include "tools/common/model_source.h"

namespace tessera {
namespace {

constexpr uint64_t kSeed = 1;

constexpr std::string_view kChips[] = {"nvptx:sm_75",   "nvptx:sm_80",   "nvptx:sm_90a",  "amdgpu:gfx906",
                                       "amdgpu:gfx908", "amdgpu:gfx90a", "amdgpu:gfx942", "amdgpu:gfx1100"};
constexpr std::string_view kNetworks[] = {"mlp", "mobilenet_v1", "bert", "fashion_mlp", "fashion_mobilenet"};
constexpr std::string_view kPatterns[] = {"none",      "90%:fine",     "90%:4x1", "80%:16x16",
                                          "80%:64x64", "50%:channels", "2:4"};
constexpr std::string_view kPrecisions[] = {"f32", "f16", "i8"};

// How tools/common/model_source.h names them.
struct Source {
  std::string_view network, spec;
  int64_t batch;
};
constexpr Source kSources[] = {
    {"mlp", "zoo:mlp", 3},
    {"mobilenet_v1", "zoo:mobilenet_v1:size=32,classes=10", 1},
    {"bert", "zoo:bert_base:layers=2,hidden=128,heads=2,inner=512,seq=32", 1},
    {"fashion_mlp", "zoo:fashion_mlp", 2},
    {"fashion_mobilenet", "zoo:fashion_mobilenet", 1},
};

// Patterns that the networks of Fashion-MNIST were trained with, and the endings of those files.
struct Trained {
  std::string_view pattern, ending;
};
constexpr Trained kTrained[] = {{"90%:fine", "_scattered90"}, {"90%:4x1", "_block4x1_90"}};

}  // namespace

std::span<const std::string_view> LadderChips() { return kChips; }
std::span<const std::string_view> LadderNetworks() { return kNetworks; }
std::span<const std::string_view> LadderPatterns() { return kPatterns; }
std::span<const std::string_view> LadderPrecisions() { return kPrecisions; }

StatusOr<Graph> BuildLadderGraph(std::string_view network, std::string_view pattern, std::string_view precision) {
  const auto* source =
      std::find_if(std::begin(kSources), std::end(kSources), [&](const Source& s) { return s.network == network; });
  if (source == std::end(kSources)) return Error(ErrorCode::kUsageInvalid, "the ladder has no network '", network, "'");
  std::string spec(source->spec);
  bool trained = false;
  for (const Trained& row : kTrained) {
    if (network.substr(0, 8) != "fashion_" || row.pattern != pattern) continue;
    spec += row.ending;
    trained = true;
  }
  ASSIGN_OR_RETURN(OpenedModel model, OpenModel(spec, {.batch = source->batch, .seed = kSeed}));
  if (!trained) {
    ASSIGN_OR_RETURN(const PruneSpec prune, ParsePruneSpec(pattern));
    if (Prune(model.graph, prune, kSeed) == 0 && !prune.none) {
      return Error(ErrorCode::kInternal, spec, ": '", pattern, "' prunes nothing");
    }
  }
  if (precision != "f32") {
    ASSIGN_OR_RETURN(const QuantizeSpec quantize, ParseQuantizeSpec(precision));
    ASSIGN_OR_RETURN(DataSet noise, OpenDataSet(model.graph, "random:1:4", FashionSplit::kTrain));
    const auto next = [&noise](std::vector<Tensor>& inputs) { return noise.Next(inputs); };
    RETURN_IF_ERROR(QuantizeGraph(model.graph, quantize, next, {}).status());
  }
  return std::move(model.graph);
}

}  // namespace tessera
