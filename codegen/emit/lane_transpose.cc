#include "codegen/emit/lane_transpose.h"

#include <algorithm>

namespace tessera {
namespace {

// The units (runs of `unit` lanes) that `picks` names: (0, u) is unit u of x, (1, u) of y.
IrValue Shuffle(KernelBuilder& b, IrValue x, IrValue y, int unit, const std::vector<std::pair<int, int>>& picks) {
  const int lanes = KernelBuilder::LanesOf(x);
  std::vector<int> mask;
  for (const auto& [source, position] : picks) {
    for (int l = 0; l < unit; ++l) mask.push_back(source * lanes + position * unit + l);
  }
  return b.ir().CreateShuffleVector(x, y, mask);
}

// Interleaves units within blocks of `block` units: the lower or upper half of each block of x and y.
IrValue Interleave(KernelBuilder& b, IrValue x, IrValue y, int unit, int block, bool upper) {
  const int units = KernelBuilder::LanesOf(x) / unit;
  std::vector<std::pair<int, int>> picks;
  for (int base = 0; base < units; base += block) {
    for (int u = 0; u < block / 2; ++u) {
      const int position = base + u + (upper ? block / 2 : 0);
      picks.emplace_back(0, position);
      picks.emplace_back(1, position);
    }
  }
  return Shuffle(b, x, y, unit, picks);
}

// The even or odd units of x, then those of y.
IrValue Unzip(KernelBuilder& b, IrValue x, IrValue y, int unit, bool odd) {
  const int units = KernelBuilder::LanesOf(x) / unit;
  std::vector<std::pair<int, int>> picks;
  for (int source : {0, 1}) {
    for (int u = odd ? 1 : 0; u < units; u += 2) picks.emplace_back(source, u);
  }
  return Shuffle(b, x, y, unit, picks);
}

// Transposes the matrix whose rows are `vectors` and whose elements are their units, as many as there are vectors.
IrValues TransposeUnits(KernelBuilder& b, const IrValues& vectors, int unit) {
  const size_t count = vectors.size();
  if (count == 1) return vectors;
  // Unzipping two rows gives their even units and their odd ones. Doing so again with what neighbouring pairs gave
  // separates units by their next bit, until each vector holds one unit of every row.
  IrValues current = vectors;
  for (size_t rows = 1; rows < count; rows *= 2) {
    // current[g * rows + c]: of the rows in group g (rows of them), the units whose low bits are c.
    IrValues next(count);
    for (size_t pair = 0; pair < count / rows; pair += 2) {
      for (size_t c = 0; c < rows; ++c) {
        IrValue x = current[pair * rows + c], y = current[(pair + 1) * rows + c];
        next[pair * rows + c] = Unzip(b, x, y, unit, false);
        next[pair * rows + rows + c] = Unzip(b, x, y, unit, true);
      }
    }
    current = std::move(next);
  }
  return current;
}

}  // namespace

IrValues EmitLaneTranspose(KernelBuilder& b, const IrValues& rows) {
  const int lanes = static_cast<int>(rows.size());
  if (lanes == 1) return rows;
  TES_CHECK(KernelBuilder::LanesOf(rows[0]) == lanes, lanes, " rows");
  const int bits = static_cast<int>(rows[0]->getType()->getScalarSizeInBits());
  const int block = std::min(lanes, std::max(1, 128 / bits));  // elements of a quarter
  // Squares of block x block: interleaving rows whose numbers differ in one bit, nearest first, with units that double.
  IrValues current = rows;
  for (int unit = 1; unit < block; unit *= 2) {
    // Rows come in groups of 2 * unit that are done; within them the bit of value `unit` chooses the partner.
    IrValues next(lanes);
    for (int r = 0; r < lanes; ++r) {
      if ((r & unit) != 0) continue;
      next[r] = Interleave(b, current[r], current[r + unit], unit, block / unit, false);
      next[r + unit] = Interleave(b, current[r], current[r + unit], unit, block / unit, true);
    }
    current = std::move(next);
  }
  // current[g * block + c'] now holds, for the rows of group g, in each quarter one column of that quarter; c' is the
  // column's number with its bits reversed.
  const auto reversed = [&](int c) {
    int result = 0;
    for (int bit = 1, mirror = block / 2; bit < block; bit *= 2, mirror /= 2) {
      if ((c & bit) != 0) result |= mirror;
    }
    return result;
  };
  IrValues results(lanes);
  for (int c = 0; c < block; ++c) {
    IrValues quarters;
    for (int g = 0; g < lanes / block; ++g) quarters.push_back(current[g * block + reversed(c)]);
    quarters = TransposeUnits(b, quarters, block);
    for (int g = 0; g < lanes / block; ++g) results[g * block + c] = quarters[g];
  }
  return results;
}

}  // namespace tessera
