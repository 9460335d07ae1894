// random_body: random scalar expressions, for tests of whatever reads or rewrites a Body.
//
//   Body body = RandomBody({DType::kF32, DType::kI8}, {.continuous = true}, rng);
//   body.Verify(0).ok();
//
// Tested by body_test.cc.
#ifndef TESSERA_GRAPH_TESTING_RANDOM_BODY_H_
#define TESSERA_GRAPH_TESTING_RANDOM_BODY_H_

#include <random>
#include <span>

#include "graph/body.h"

namespace tessera {

struct RandomBodyOptions {
  int num_axes = 0;         // Index instructions over so many axes may occur
  bool continuous = false;  // only what is continuous and of moderate size in float operands: small errors stay small
  int max_ops = 12;
};

// A valid Body over inputs stored as `inputs`; it reads input 0 and usually the others.
Body RandomBody(std::span<const DType> inputs, const RandomBodyOptions& options, std::mt19937_64& rng);

// A storage type that computes in `compute`.
DType RandomStorage(DType compute, std::mt19937_64& rng);

}  // namespace tessera

#endif  // TESSERA_GRAPH_TESTING_RANDOM_BODY_H_
