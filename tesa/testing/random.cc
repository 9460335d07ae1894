#include "tesa/testing/random.h"

#include <algorithm>

namespace tessera {

Shape RandomShape(Random& random, int rank, int64_t low, int64_t high) {
  std::vector<int64_t> dims(rank);
  for (int64_t& dim : dims) dim = random.Int(low, high);
  return Shape(std::move(dims));
}

std::vector<Pattern> EveryPattern(const Shape& shape) {
  std::vector<Pattern> patterns = {Pattern::Dense(), Pattern::Scattered()};
  for (int axis = 0; axis < shape.rank(); ++axis) patterns.push_back(Pattern::Slices(axis));
  if (shape.rank() >= 2) {
    Pattern both = Pattern::Slices(0);
    both.other_axis = 1;
    patterns.push_back(both);
  }
  const auto [rows, columns] = MatrixView(shape);
  constexpr int64_t kBlocks[][2] = {{1, 4}, {4, 1}, {8, 1},   {16, 1},  {32, 1},
                                    {4, 4}, {8, 8}, {16, 16}, {32, 32}, {64, 64}};
  for (const auto& [height, width] : kBlocks) {
    if (height <= rows && width <= columns) patterns.push_back(Pattern::Block(height, width));
  }
  constexpr int kGroups[][2] = {{1, 4}, {2, 4}, {4, 8}, {1, 2}, {3, 16}};
  for (int axis = 0; axis < std::min(shape.rank(), 2); ++axis) {
    for (const auto& [n, m] : kGroups) {
      if (m <= shape[axis]) patterns.push_back(Pattern::Nm(n, m, axis));
    }
  }
  return patterns;
}

Attribute RandomAttributeOfAnyKind(Random& random, const Shape& shape) {
  const std::vector<Pattern> patterns = EveryPattern(shape);
  constexpr int kWidths[] = {2, 4, 8, 16, 32};
  std::vector<uint8_t> bits(static_cast<size_t>(shape.num_elements()), 0);
  const int64_t layers = random.Int(1, 3);
  for (int64_t k = 0; k < layers; ++k) {
    const Pattern& pattern = patterns[static_cast<size_t>(random.Int(0, static_cast<int64_t>(patterns.size()) - 1))];
    const Bitmap mask = RandomMask(random, shape, pattern, random.Uniform());
    const int width = kWidths[random.Int(0, 4)];
    for (int64_t i : mask.Positions()) bits[static_cast<size_t>(i)] = static_cast<uint8_t>(width);
  }
  return Attribute::FromBits(shape, bits);
}

}  // namespace tessera
