// Random numbers, tensors and attributes that are the same on every machine: the seeds of tests, examples and --impose.
//
//   Random random(7);
//   Tensor w = RandomTensor(random, {DType::kF32, {1024, 784}}, 0.02);         // normal, mean 0
//   Attribute a = RandomAttribute(random, {1024, 784}, Pattern::Block(32, 32), 0.1, 32);
//
// The generator is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014); the
// standard library's distributions are avoided because each library has its own. One thread at a time.
// Tested by random_test.cc.
#ifndef TESSERA_TESA_RANDOM_H_
#define TESSERA_TESA_RANDOM_H_

#include <cstdint>

#include "tesa/attribute.h"
#include "tesa/pattern.h"
#include "tesa/tensor.h"

namespace tessera {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // In [0, 1), 53 bits.
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  double Uniform(double low, double high) { return low + (high - low) * Uniform(); }
  // In [low, high], low <= high. The bias is below (high - low) / 2^64.
  int64_t Int(int64_t low, int64_t high);
  // Standard normal, by the polar method.
  double Normal();
  bool Chance(double probability) { return Uniform() < probability; }

 private:
  uint64_t state_;
  bool has_spare_ = false;
  double spare_ = 0;
};

// Floats: normal with this standard deviation, rounded to the type. Integers: uniform over the type, but within ±1000.
// Bool: even odds.
Tensor RandomTensor(Random& random, const TensorType& type, double stddev = 1);
// Floats uniform in [low, high]; integers in the same range, rounded.
Tensor RandomTensorIn(Random& random, const TensorType& type, double low, double high);

// `kept` of the elements are kept at `bits`, by pattern: scattered: each element independently; slices and blocks: each
// slice (per axis) or block independently; n:m: n at random in each group of m along the axis (`kept` is not used).
// Blocks are those of the matrix view. The axes of `pattern` are below the shape's rank.
Attribute RandomAttribute(Random& random, const Shape& shape, const Pattern& pattern, double kept, int bits);
// The same as a plain mask.
Bitmap RandomMask(Random& random, const Shape& shape, const Pattern& pattern, double kept);

}  // namespace tessera

#endif  // TESSERA_TESA_RANDOM_H_
