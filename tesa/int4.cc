#include "tesa/int4.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tessera {
namespace {

constexpr int64_t kBlocks[] = {256, 128, 64, 32, 16};
// The largest distance of two integers of a block.
constexpr int kRange = 15;

// The integers that `values` are multiples of `scale` by, if all are, to the last bit.
std::optional<std::pair<int, int>> Multiples(std::span<const float> values, float scale) {
  int low = 0, high = 0;
  for (float value : values) {
    const double quotient = static_cast<double>(value) / scale;
    if (!(std::abs(quotient) <= kRange + 0.5)) return std::nullopt;
    const auto integer = static_cast<int>(std::lround(quotient));
    if (static_cast<float>(static_cast<double>(integer) * scale) != value) return std::nullopt;
    low = std::min(low, integer);
    high = std::max(high, integer);
  }
  if (high - low > kRange) return std::nullopt;
  return std::make_pair(low, high);
}

}  // namespace

std::optional<Int4Block> FitInt4Block(std::span<const float> values) {
  float largest = 0;
  for (float value : values) {
    if (!std::isfinite(value)) return std::nullopt;
    largest = std::max(largest, std::abs(value));
  }
  if (largest == 0) return Int4Block();
  // The largest value is an integer of 1 … 15 times the scale, rounded: the scale is within a step of the quotient.
  for (int m = 1; m <= kRange; ++m) {
    const float near = static_cast<float>(static_cast<double>(largest) / m);
    for (const float scale : {near, std::nextafter(near, 0.0f), std::nextafter(near, 2 * near)}) {
      if (!(scale > 0) || !std::isfinite(scale)) continue;
      const auto range = Multiples(values, scale);
      if (!range) continue;
      const bool centred = range->first >= -8 && range->second <= 7;
      return Int4Block{scale, centred ? 0 : range->first + 8};
    }
  }
  return std::nullopt;
}

std::optional<Int4Weights> FindInt4(int64_t rows, int64_t depth,
                                    const std::function<void(int64_t row, std::span<float> values)>& read_row) {
  if (rows * depth == 0) return std::nullopt;
  std::vector<float> row(static_cast<size_t>(depth));
  std::vector<int64_t> sizes = {depth};
  for (int64_t size : kBlocks) {
    if (size < depth) sizes.push_back(size);
  }
  for (int64_t size : sizes) {
    Int4Weights found = {.rows = rows, .depth = depth, .block = size, .blocks = {}, .elements = {}};
    bool fits = true;
    for (int64_t r = 0; fits && r < rows; ++r) {
      read_row(r, row);
      for (int64_t first = 0; fits && first < depth; first += size) {
        const std::span<const float> values(row.data() + first, static_cast<size_t>(std::min(size, depth - first)));
        const std::optional<Int4Block> block = FitInt4Block(values);
        fits = block.has_value();
        if (!fits) break;
        found.offsets |= block->offset != 0;
        found.blocks.push_back(*block);
        for (float value : values) {
          const auto integer = static_cast<int>(std::lround(static_cast<double>(value) / block->scale));
          found.elements.push_back(static_cast<int8_t>(integer - block->offset));
        }
      }
    }
    if (fits) return found;
  }
  return std::nullopt;
}

}  // namespace tessera
