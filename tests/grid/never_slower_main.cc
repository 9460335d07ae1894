// Prints how the grid of never_slower.h comes out: bazel run //tests/grid:never_slower [-- [--cpu=CPU] LAYERS [SEED
// [THREADS [ONLY]]]]. CPU: as on that processor ("x86-64-v3"). ONLY: nothing but cells whose name ("f32 matmul
// 22x500x185, 50%:fine") has this text, each of them printed.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "tests/grid/never_slower.h"

namespace tessera {
namespace {

std::vector<std::string> Prunes(const std::string& only) {
  if (only.find(kSkewed) != std::string::npos) return {std::string(kSkewed)};
  std::vector<std::string> prunes = {"none"};
  for (const char* share : {"30%", "50%", "70%", "90%"}) {
    for (const char* pattern : {"fine", "4x1", "16x16", "channels"}) {
      prunes.push_back(std::string(share) + ":" + pattern);
    }
  }
  prunes.emplace_back("2:4");
  return prunes;
}

struct Sum {
  int cells = 0, slower = 0;
  double log_ratio = 0, least = 1e9;
};

int Main(const std::string& target, int layers, uint64_t seed, int threads, const std::string& only) {
  Random random(seed);
  std::map<std::string, Sum> sums;
  int failed = 0, cells = 0;
  for (int k = 0; k < layers; ++k) {
    const Random at = random;  // the same shape in both types
    for (const bool int8 : {false, true}) {
      Random same = at;
      const Layer layer = RandomLayer(same, int8);
      if (int8) random = same;
      for (const std::string& prune : Prunes(only)) {
        const std::string cell = layer.name + ", " + prune;
        if (cell.find(only) == std::string::npos) continue;
        const StatusOr<Verdict> verdict = Compare(layer, prune, {.target = target, .threads = threads, .seed = seed});
        if (!verdict.ok()) {
          std::printf("%s\n", verdict.status().ToString().c_str());
          return 3;
        }
        Sum& sum = sums[(int8 ? "i8 " : "f32 ") + prune];
        ++cells;
        ++sum.cells;
        sum.log_ratio += std::log(verdict->ratio);
        sum.least = std::min(sum.least, verdict->ratio);
        sum.slower += verdict->slower ? 1 : 0;
        failed += verdict->slower ? 1 : 0;
        if (!verdict->slower && only.empty()) continue;
        std::printf("%s%s: dense %.2f us, %.2f us by %s (%.2f)\n", verdict->slower ? "slower: " : "", cell.c_str(),
                    verdict->dense_us, verdict->sparse_us, verdict->way.c_str(), verdict->ratio);
        if (!only.empty()) std::printf("  %s\n", verdict->decision.c_str());
        std::fflush(stdout);
      }
    }
  }
  std::printf("\n%s, %d layers, seed %llu, %d threads: %d of %d cells slower than dense\n\n", target.c_str(), layers,
              static_cast<unsigned long long>(seed), threads, failed, cells);
  std::printf("| type, pruned | cells | slower | geometric mean x dense | least |\n| --- | --: | --: | --: | --: |\n");
  for (const auto& [name, sum] : sums) {
    std::printf("| %s | %d | %d | %.2f | %.2f |\n", name.c_str(), sum.cells, sum.slower,
                std::exp(sum.log_ratio / sum.cells), sum.least);
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  std::string target = "host";
  const std::string flag = "--cpu=";
  if (argc > 1 && std::string(argv[1]).rfind(flag, 0) == 0) {
    target += ":" + std::string(argv[1]).substr(flag.size());
    --argc;
    ++argv;
  }
  const int layers = argc > 1 ? std::atoi(argv[1]) : 40;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  return tessera::Main(target, layers, seed, argc > 3 ? std::atoi(argv[3]) : 1, argc > 4 ? argv[4] : "");
}
