// RandomPattern: kept elements for tests of streams of weights, each drawn by itself. Pure. Tested through its users.
#ifndef TESSERA_CODEGEN_EMIT_GPU_TESTING_RANDOM_PATTERN_H_
#define TESSERA_CODEGEN_EMIT_GPU_TESTING_RANDOM_PATTERN_H_

#include <cstdint>
#include <random>

#include "codegen/emit/scattered_stream.h"

namespace tessera {

inline ScatteredPattern RandomPattern(int64_t rows, int64_t depth, double density, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::bernoulli_distribution keep(density);
  ScatteredPattern pattern;
  pattern.rows = rows;
  pattern.depth = depth;
  pattern.begin.push_back(0);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t k = 0; k < depth; ++k) {
      if (keep(rng)) pattern.columns.push_back(static_cast<int32_t>(k));
    }
    pattern.begin.push_back(static_cast<int64_t>(pattern.columns.size()));
  }
  return pattern;
}

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_TESTING_RANDOM_PATTERN_H_
