// never_slower: one layer with sparse weights beside the same masked weights through dense kernels.
//
//   Layer layer = RandomLayer(random, DType::kF32);           // "f32 matmul 128x768x3072"
//   ASSIGN_OR_RETURN(Verdict verdict, Compare(layer, "90%:fine", {.threads = 1}));
//   verdict.ratio                                             // time of dense / time of sparse, median of the pairs
//   verdict.slower                                            // surely slower than dense, by more than the bound
//
// The criterion is MEASURE.md's: alternating pairs of runs; slower when the 95 % lower bound of the mean slowdown is
// above 3 %, and again on a repeat. One-sided, by Student's t on the logarithms of the pairs' ratios. A card's times
// are by its own clock, of replays of a graph; where both sides are the same kernels there, nothing is timed. Layers
// and contests belong to one thread at a time; different ones may be made on several. Tested by never_slower_test.cc.
#ifndef TESSERA_TESTS_GRID_NEVER_SLOWER_H_
#define TESSERA_TESTS_GRID_NEVER_SLOWER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "graph/graph.h"
#include "tesa/random.h"
#include "tesa/types.h"

namespace tessera {

struct Layer {
  std::string name;
  Graph graph;  // one product or convolution with bias and ReLU (int8: and requantisation) over constant weights
};

// Of f32, f16, bf16, or u8 with weights of i8 (kI8). Extents log-uniform: 8 … 2048 rows and depth, 1 … 1024 columns; a
// quarter are convolutions of 1x1 or 3x3. `times`: how much larger all that is.
Layer RandomLayer(Random& random, DType type, int64_t times = 1);

struct CompareOptions {
  std::string target = "host";  // "host:x86-64-v3": as on a processor without AVX-512
  int threads = 1;
  int pairs = 15;
  double run_seconds = 0.001;  // of each half of a pair, at least one run
  double bound = 0.03;
  int again = 60;  // pairs at most that are taken again because another process had one of our processors
  uint64_t seed = 1;
};

struct Verdict {
  double dense_us = 0, sparse_us = 0;  // medians
  double ratio = 1;                    // dense over sparse, median of the pairs
  bool slower = false;
  std::string way;       // what computes the layer, from the decision report
  std::string decision;  // that report's line
};

// The first third of the rows kept whole, of the others 1 %: what equal blocks of rows share out badly.
inline constexpr std::string_view kSkewed = "skewed";

// A cell, both of whose sides are compiled and loaded; that takes most of the time.
class Contest {
 public:
  // `prune`: as ParsePruneSpec takes it, or kSkewed.
  static StatusOr<std::unique_ptr<Contest>> Make(const Layer& layer, const std::string& prune,
                                                 const CompareOptions& options);
  virtual ~Contest() = default;
  // TES-4001 when the two give different results.
  virtual StatusOr<Verdict> Judge() = 0;
};

// Both in one.
StatusOr<Verdict> Compare(const Layer& layer, const std::string& prune, const CompareOptions& options);

// The lower end of a one-sided 95 % confidence interval of the mean of log(sparse / dense), as a slowdown: 0.03 is 3 %
// slower. At least two pairs.
double SlowdownLowerBound(std::span<const double> dense, std::span<const double> sparse);

}  // namespace tessera

#endif  // TESSERA_TESTS_GRID_NEVER_SLOWER_H_
