#include "codegen/emit/gpu/row_stream.h"

#include <algorithm>
#include <numeric>

#include "base/round.h"
#include "codegen/emit/gpu/mask_stream.h"

namespace tessera {
namespace {

struct Slots {
  int64_t blocks = 0;
  std::vector<int32_t> rows;  // as RowStream's
};

Slots DealRows(const ScatteredPattern& pattern, const RowStreamShape& shape) {
  Slots slots;
  slots.blocks = DivideUp(pattern.rows, shape.block_rows());
  slots.rows.assign(static_cast<size_t>(slots.blocks * shape.block_rows()), static_cast<int32_t>(pattern.rows));
  for (int64_t block = 0; block < slots.blocks; ++block) {
    const int64_t first = block * shape.block_rows(), end = std::min(pattern.rows, first + shape.block_rows());
    std::vector<int32_t> order(static_cast<size_t>(end - first));
    std::iota(order.begin(), order.end(), static_cast<int32_t>(first));
    const auto kept = [&](int32_t row) { return pattern.begin[row + 1] - pattern.begin[row]; };
    std::stable_sort(order.begin(), order.end(), [&](int32_t x, int32_t y) { return kept(x) > kept(y); });
    for (size_t k = 0; k < order.size(); ++k) {
      const auto set = static_cast<int64_t>(k) / kRowSet;
      const int64_t round = set / shape.warps, at = set % shape.warps;
      const int64_t warp = round % 2 == 0 ? at : shape.warps - 1 - at;
      const int64_t slot = ((block * shape.warps + warp) * shape.sets + round) * kRowSet;
      slots.rows[static_cast<size_t>(slot) + k % kRowSet] = order[k];
    }
  }
  return slots;
}

// The kept elements of `row` whose depth is in [begin, end): numbers into pattern.columns.
std::pair<int64_t, int64_t> Range(const ScatteredPattern& pattern, int64_t row, int64_t begin, int64_t end) {
  if (row >= pattern.rows) return {0, 0};
  const auto from = pattern.columns.begin() + pattern.begin[row], to = pattern.columns.begin() + pattern.begin[row + 1];
  return {std::lower_bound(from, to, begin) - pattern.columns.begin(),
          std::lower_bound(from, to, end) - pattern.columns.begin()};
}

}  // namespace

RowStream EncodeRowStream(const ScatteredPattern& pattern, const RowStreamShape& shape,
                          const std::function<uint32_t(int64_t row, int64_t k)>& weight) {
  RowStream stream;
  Slots slots = DealRows(pattern, shape);
  const int64_t chunks = DivideUp(pattern.depth, shape.chunk);
  int32_t trip = 0;
  for (int64_t unit = 0; unit < slots.blocks * shape.warps; ++unit) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      for (int set = 0; set < shape.sets; ++set) {
        stream.first.push_back(trip);
        const int32_t* rows = slots.rows.data() + (unit * shape.sets + set) * kRowSet;
        std::pair<int64_t, int64_t> ranges[kRowSet];
        int64_t most = 0;
        for (int g = 0; g < kRowSet; ++g) {
          ranges[g] = Range(pattern, rows[g], chunk * shape.chunk, (chunk + 1) * shape.chunk);
          most = std::max(most, ranges[g].second - ranges[g].first);
        }
        for (int64_t done = 0; done < most; done += kTripElements, ++trip) {
          uint32_t places[kRowSet] = {}, weights[kRowSet][kTripElements] = {};
          for (int g = 0; g < kRowSet; ++g) {
            for (int e = 0; e < kTripElements; ++e) {
              const int64_t at = ranges[g].first + done + e;
              const bool there = at < ranges[g].second;
              const int64_t k = there ? pattern.columns[static_cast<size_t>(at)] : 0;
              places[g] |= PlaceOf(there ? k - chunk * shape.chunk : shape.zeros) / kPlaceUnit << 16 * e;
              if (there) weights[g][e] = weight(rows[g], k);
            }
          }
          stream.words.insert(stream.words.end(), std::begin(places), std::end(places));
          for (const auto& of_group : weights) {
            stream.words.insert(stream.words.end(), std::begin(of_group), std::end(of_group));
          }
        }
      }
    }
  }
  stream.first.push_back(trip);
  stream.words.resize(stream.words.size() + kRowTripBytes / 4, 0);
  stream.rows = std::move(slots.rows);
  return stream;
}

double LongestTrips(const ScatteredPattern& pattern, const RowStreamShape& shape) {
  const Slots slots = DealRows(pattern, shape);
  const double chunks = static_cast<double>(DivideUp(pattern.depth, shape.chunk));
  double total = 0;
  for (int64_t block = 0; block < slots.blocks; ++block) {
    double longest = 0;
    for (int64_t warp = 0; warp < shape.warps; ++warp) {
      double trips = 0;
      for (int64_t set = 0; set < shape.sets; ++set) {
        // The first of a set keeps most.
        const int64_t row =
            slots.rows[static_cast<size_t>(((block * shape.warps + warp) * shape.sets + set) * kRowSet)];
        if (row >= pattern.rows) continue;
        // A row's last trip in each chunk is filled up.
        trips += static_cast<double>(pattern.begin[row + 1] - pattern.begin[row]) / kTripElements + 0.5 * chunks;
      }
      longest = std::max(longest, trips);
    }
    total += longest;
  }
  return total;
}

}  // namespace tessera
