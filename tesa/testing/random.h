// Random shapes, patterns and attributes for property tests; tensors come from tesa/random.h.
//
//   Random random(seed);
//   for (const Pattern& pattern : EveryPattern(shape)) { Attribute a = RandomAttribute(random, shape, pattern, 0.3,
//   32); }
//
// Tested by testing_test.cc.
#ifndef TESSERA_TESA_TESTING_RANDOM_H_
#define TESSERA_TESA_TESTING_RANDOM_H_

#include <vector>

#include "tesa/attribute.h"
#include "tesa/pattern.h"
#include "tesa/random.h"

namespace tessera {

// Of `rank` extents in [low, high]; odd sizes are as likely as round ones.
Shape RandomShape(Random& random, int rank, int64_t low, int64_t high);

// One pattern of each kind and each usual size that `shape` has room for.
std::vector<Pattern> EveryPattern(const Shape& shape);

// Any pattern, any share, one to three widths: layers that overlap included.
Attribute RandomAttributeOfAnyKind(Random& random, const Shape& shape);

}  // namespace tessera

#endif  // TESSERA_TESA_TESTING_RANDOM_H_
