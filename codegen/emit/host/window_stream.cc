#include "codegen/emit/host/window_stream.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/status.h"

namespace tessera {
namespace {

constexpr int kSlots = 4;  // bytes that a lane takes in a step

// Walks the steps of `group`: on_step(place), then on_element(lane, slot, k) for what each row takes in it.
template <typename OnStep, typename OnElement>
void WalkSteps(const ScatteredPattern& kept, int64_t group, OnStep on_step, OnElement on_element) {
  const int64_t first = group * kWindowRows;
  const auto lanes = static_cast<int>(std::min<int64_t>(kWindowRows, kept.rows - first));
  const auto last_place = static_cast<int32_t>(std::max<int64_t>(0, kept.depth - kWindow));
  std::array<int64_t, kWindowRows> next;
  for (int l = 0; l < lanes; ++l) next[l] = kept.begin[first + l];
  while (true) {
    int32_t slowest = INT32_MAX;
    for (int l = 0; l < lanes; ++l) {
      if (next[l] < kept.begin[first + l + 1]) slowest = std::min(slowest, kept.columns[next[l]]);
    }
    if (slowest == INT32_MAX) return;
    const int32_t place = std::min(slowest, last_place);
    on_step(place);
    for (int l = 0; l < lanes; ++l) {
      for (int slot = 0; slot < kSlots && next[l] < kept.begin[first + l + 1]; ++slot) {
        const int32_t k = kept.columns[next[l]];
        if (k >= place + kWindow) break;
        on_element(l, slot, k);
        ++next[l];
      }
    }
  }
}

int64_t Groups(const ScatteredPattern& kept) { return (kept.rows + kWindowRows - 1) / kWindowRows; }

template <typename T>
Tensor ToTensor(std::vector<T>& values) {
  // Buffers of no bytes are more trouble than one that nobody reads.
  if (values.empty()) values.push_back(0);
  return Tensor::FromVector<T>(Shape({static_cast<int64_t>(values.size())}), values);
}

}  // namespace

double EstimateWindowSteps(const ScatteredPattern& kept, int64_t sample) {
  const int64_t groups = Groups(kept);
  sample = std::min(sample, groups);
  int64_t steps = 0;
  for (int64_t s = 0; s < sample; ++s) {
    WalkSteps(kept, groups * s / sample, [&](int32_t) { ++steps; }, [](int, int, int32_t) {});
  }
  return static_cast<double>(steps) * static_cast<double>(groups) / static_cast<double>(std::max<int64_t>(1, sample));
}

WindowStream PackWindowStream(const ScatteredPattern& kept, const Tensor& weights, int64_t row_step,
                              int64_t depth_step) {
  TES_CHECK(kept.depth <= kMaxWindowDepth, kept.depth);
  TES_CHECK(weights.dtype() == DType::kI8, Name(weights.dtype()));
  const std::byte* data = weights.bytes().data();
  std::vector<uint8_t> values;
  std::vector<uint16_t> places;
  std::vector<int32_t> begin = {0};
  for (int64_t group = 0; group < Groups(kept); ++group) {
    WalkSteps(
        kept, group,
        [&](int32_t place) {
          places.push_back(static_cast<uint16_t>(place));
          // Padding takes the window's first byte times zero.
          values.resize(values.size() + kWindowStepBytes, 0);
        },
        [&](int lane, int slot, int32_t k) {
          uint8_t* step = values.data() + values.size() - kWindowStepBytes + lane * kSlots + slot;
          step[0] = static_cast<uint8_t>(k - places.back());
          step[kWindow] = static_cast<uint8_t>(data[(group * kWindowRows + lane) * row_step + k * depth_step]);
        });
    begin.push_back(static_cast<int32_t>(places.size()));
  }
  return {.values = ToTensor(values), .places = ToTensor(places), .begin = ToTensor(begin)};
}

}  // namespace tessera
