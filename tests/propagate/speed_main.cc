// Prints the figures of speed.h for the published networks: bazel run -c opt //tests/propagate:speed [-- NETWORK
// PRUNE].
#include <cstdio>
#include <string>
#include <vector>

#include "tests/propagate/speed.h"

int main(int argc, char** argv) {
  using tessera::RuleMode;
  std::vector<std::pair<std::string, std::string>> networks;
  if (argc == 3) {
    networks = {{argv[1], argv[2]}};
  } else {
    for (const char* network : {"mlp", "mobilenet_v1", "bert_base"}) {
      for (const char* prune : {"none", "90%:fine", "60%:channels", "90%:32x32"}) networks.emplace_back(network, prune);
    }
  }
  for (const auto& [network, prune] : networks) {
    for (RuleMode rules : {RuleMode::kExact, RuleMode::kLearned}) {
      tessera::StatusOr<tessera::SpeedFigures> figures = tessera::MeasurePropagation({network, prune, rules});
      std::printf("%-14s %-13s %-8s %s\n", network.c_str(), prune.c_str(), std::string(Name(rules)).c_str(),
                  figures.ok() ? figures->ToString().c_str() : figures.status().ToString().c_str());
      std::fflush(stdout);
      if (!figures.ok()) return 1;
    }
  }
}
