#include "codegen/emit/host/gemv_format.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace tessera {
namespace {

constexpr int64_t kMaxPlace = 0xffff;
// Groups whose vectors are counted for an estimate.
constexpr int64_t kSample = 24;
// Tasks of a product: enough that threads' shares differ little, few enough that each is worth its start.
constexpr int64_t kTasks = 48;

struct KeptUnit {
  int32_t unit = 0;
  uint32_t bits = 0;  // of its elements; what is not kept is 0
};

// The kept units of one group's rows, each row's in order.
using GroupUnits = std::vector<std::vector<KeptUnit>>;

class GroupReader {
 public:
  GroupReader(const GemvFormat& format, const GemvWeights& weights)
      : format_(format), w_(weights), data_(weights.tensor.bytes().data()) {}

  GroupUnits Read(int64_t group) const {
    GroupUnits units(format_.lanes);
    const int64_t first = group * format_.lanes;
    const auto lanes = static_cast<int>(std::min<int64_t>(format_.lanes, w_.rows - first));
    // In the order in which the elements lie.
    if (w_.depth_step == 1) {
      for (int l = 0; l < lanes; ++l) {
        for (int64_t k = 0; k < w_.depth; ++k) Add(units[l], first + l, k);
      }
    } else {
      for (int64_t k = 0; k < w_.depth; ++k) {
        for (int l = 0; l < lanes; ++l) Add(units[l], first + l, k);
      }
    }
    return units;
  }

 private:
  void Add(std::vector<KeptUnit>& row, int64_t r, int64_t k) const {
    const int64_t at = r * w_.row_step + k * w_.depth_step;
    if (w_.kept.size() != 0 && !w_.kept[at]) return;
    const auto unit = static_cast<int32_t>(k / format_.elements());
    if (row.empty() || row.back().unit != unit) row.push_back({unit, 0});
    if (format_.unit == GemvUnit::kF32) {
      std::memcpy(&row.back().bits, data_ + at * 4, 4);
    } else {
      row.back().bits |= static_cast<uint32_t>(data_[at]) << (8 * (k % format_.elements()));
    }
  }

  const GemvFormat& format_;
  const GemvWeights& w_;
  const std::byte* data_;
};

// One group's part of a stream.
struct GroupStream {
  std::vector<uint8_t> values;
  std::vector<uint16_t> places;
  int64_t count = 0;  // vectors or bundles
};

// Puts `bytes` at `to`, or where two share a vector its low halves into this one's half of each byte.
void PutValue(const GemvFormat& format, int half, uint8_t* to, const uint32_t bits, int bytes) {
  for (int e = 0; e < bytes; ++e) {
    const auto byte = static_cast<uint8_t>(bits >> (8 * e));
    to[e] = format.value_bits == 4 ? static_cast<uint8_t>(to[e] | (byte & 15) << (4 * half)) : byte;
  }
}

// Whole vectors of units: those that any row keeps, or all.
GroupStream PackVectors(const GemvFormat& format, const GroupUnits& rows, int64_t all_units, bool only_count) {
  GroupStream out;
  std::vector<int32_t> units;
  if (format.kind == GemvKind::kDense) {
    out.count = all_units;
  } else {
    for (const auto& row : rows) {
      for (const KeptUnit& kept : row) units.push_back(kept.unit);
    }
    std::sort(units.begin(), units.end());
    units.erase(std::unique(units.begin(), units.end()), units.end());
    out.count = static_cast<int64_t>(units.size());
  }
  out.count = (out.count + format.shared() - 1) / format.shared() * format.shared();
  if (only_count) return out;
  out.values.resize(out.count / format.shared() * format.vector_bytes());
  for (int32_t unit : units) out.places.push_back(static_cast<uint16_t>(unit));
  if (format.kind == GemvKind::kColumns) out.places.resize(out.count, 0);
  for (int l = 0; l < format.lanes; ++l) {
    size_t at = 0;
    for (const KeptUnit& kept : rows[l]) {
      if (format.kind == GemvKind::kDense) at = kept.unit;
      while (format.kind == GemvKind::kColumns && units[at] != kept.unit) ++at;
      uint8_t* vector = out.values.data() + at / format.shared() * format.vector_bytes();
      PutValue(format, static_cast<int>(at % format.shared()), vector + l * 4, kept.bits, 4);
    }
  }
  return out;
}

// Bundles: see the picture in the header.
GroupStream PackBundles(const GemvFormat& format, const GroupUnits& rows, bool only_count) {
  GroupStream out;
  std::vector<size_t> next(rows.size(), 0);
  const int slot_bytes = 4 / format.slots();
  while (true) {
    int32_t slowest = INT32_MAX;
    for (size_t l = 0; l < rows.size(); ++l) {
      if (next[l] < rows[l].size()) slowest = std::min(slowest, rows[l][next[l]].unit);
    }
    if (slowest == INT32_MAX) return out;
    const int32_t place = slowest / kWindowAlign, window = place * kWindowAlign;
    const size_t start = out.values.size();
    if (!only_count) {
      out.places.push_back(static_cast<uint16_t>(place));
      out.values.resize(start + format.bundle_bytes());
      // Padding: f32 must meet the zero that stands behind the window.
      const uint8_t nothing = format.unit == GemvUnit::kF32 ? format.window() : 0;
      std::fill_n(out.values.data() + start, format.index_bytes(), nothing);
    }
    ++out.count;
    for (int step = 0; step < format.steps(); ++step) {
      for (int l = 0; l < format.lanes; ++l) {
        for (int slot = 0; slot < format.slots() && next[l] < rows[l].size(); ++slot) {
          const KeptUnit& kept = rows[l][next[l]];
          if (kept.unit >= window + format.window()) break;
          ++next[l];
          if (only_count) continue;
          uint8_t* bundle = out.values.data() + start;
          // Single bytes: an index for each byte of a step's vector. Otherwise byte `step` of the lane.
          const int index = format.unit == GemvUnit::kByte ? step * format.vector_bytes() + l * 4 + slot : l * 4 + step;
          bundle[index] = static_cast<uint8_t>(kept.unit - window);
          uint8_t* vector = bundle + format.index_bytes() + step / format.shared() * format.vector_bytes();
          PutValue(format, step % format.shared(), vector + l * 4 + slot * slot_bytes, kept.bits, slot_bytes);
        }
      }
    }
  }
}

int64_t UnitsOf(const GemvFormat& format, int64_t depth) { return (depth + format.elements() - 1) / format.elements(); }

GroupStream PackGroup(const GemvFormat& format, const GemvWeights& weights, int64_t group, bool only_count) {
  const GroupUnits rows = GroupReader(format, weights).Read(group);
  if (format.kind == GemvKind::kScattered) return PackBundles(format, rows, only_count);
  return PackVectors(format, rows, UnitsOf(format, weights.depth), only_count);
}

// Contiguous runs of groups of about equal work; a group's is its vectors or bundles and a little for itself.
Tensor SplitTasks(const std::vector<int64_t>& work) {
  const auto groups = static_cast<int64_t>(work.size());
  const int64_t tasks = std::min(kTasks, groups);
  int64_t all = 0;
  for (int64_t w : work) all += w + 1;
  Tensor first(DType::kI32, Shape({tasks + 1}));
  const std::span<int32_t> at = first.mutable_data<int32_t>();
  int64_t group = 0, done = 0;
  for (int64_t t = 1; t <= tasks; ++t) {
    // Up to the t-th share, to the nearest group.
    while (group < groups && (done + (work[group] + 1) / 2) * tasks < all * t) done += work[group++] + 1;
    at[t] = static_cast<int32_t>(t == tasks ? groups : group);
  }
  return first;
}

template <typename T>
Tensor ToTensor(const std::vector<T>& values) {
  return Tensor::FromVector<T>(Shape({static_cast<int64_t>(values.size())}), values);
}

}  // namespace

std::string GemvFormat::Name() const {
  std::string name = kind == GemvKind::kDense     ? "dense"
                     : kind == GemvKind::kColumns ? "columns"
                     : unit == GemvUnit::kQuad    ? "quads"
                                                  : "scattered";
  return value_bits == 4 ? name + "4" : name;
}

double GemvWeights::density() const {
  return rows * depth == 0 ? 1 : static_cast<double>(num_kept()) / static_cast<double>(rows * depth);
}

bool CanStore(const GemvFormat& format, const GemvWeights& weights) {
  const int64_t units = UnitsOf(format, weights.depth);
  if (format.kind == GemvKind::kColumns && units > kMaxPlace) return false;
  if (format.kind == GemvKind::kScattered && units / kWindowAlign > kMaxPlace) return false;
  if (format.value_bits == 4) {
    if (weights.depth > kMaxDepth4Bit) return false;
    for (int8_t value : weights.tensor.data<int8_t>()) {
      if (value < -8 || value > 7) return false;
    }
  }
  if (format.kind == GemvKind::kColumns && format.unit == GemvUnit::kF32) {
    for (int64_t g = 0; g < weights.groups(format.lanes); ++g) {
      const GroupUnits rows = GroupReader(format, weights).Read(g);
      const int64_t lanes = std::min<int64_t>(format.lanes, weights.rows - g * format.lanes);
      for (int64_t l = 1; l < lanes; ++l) {
        const auto same = [](const KeptUnit& a, const KeptUnit& b) { return a.unit == b.unit; };
        if (!std::equal(rows[l].begin(), rows[l].end(), rows[0].begin(), rows[0].end(), same)) return false;
      }
    }
  }
  return true;
}

double EstimateVectors(const GemvFormat& format, const GemvWeights& weights) {
  const int64_t groups = weights.groups(format.lanes);
  if (format.kind == GemvKind::kDense) return static_cast<double>(groups * UnitsOf(format, weights.depth));
  const int64_t sample = std::min(kSample, groups);
  int64_t count = 0;
  for (int64_t s = 0; s < sample; ++s) count += PackGroup(format, weights, groups * s / sample, true).count;
  return static_cast<double>(count) * static_cast<double>(groups) / static_cast<double>(std::max<int64_t>(1, sample));
}

GemvStream PackGemv(const GemvFormat& format, const GemvWeights& weights) {
  TES_CHECK(CanStore(format, weights), format.Name());
  std::vector<uint8_t> values;
  std::vector<uint16_t> places;
  std::vector<int32_t> begin = {0};
  std::vector<int64_t> work;
  for (int64_t g = 0; g < weights.groups(format.lanes); ++g) {
    const GroupStream group = PackGroup(format, weights, g, false);
    values.insert(values.end(), group.values.begin(), group.values.end());
    places.insert(places.end(), group.places.begin(), group.places.end());
    begin.push_back(static_cast<int32_t>(begin.back() + group.count));
    work.push_back(group.count);
  }
  // Buffers of no bytes are more trouble than a vector that nobody reads.
  if (values.empty()) values.resize(format.vector_bytes());
  if (places.empty()) places.push_back(0);
  GemvStream stream;
  stream.values = ToTensor(values);
  if (format.kind != GemvKind::kDense) {
    stream.places = ToTensor(places);
    stream.begin = ToTensor(begin);
  }
  stream.tasks = SplitTasks(work);
  return stream;
}

}  // namespace tessera
