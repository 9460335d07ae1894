#include "codegen/emit/gpu/mask_stream.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/round.h"
#include "base/status.h"

namespace tessera {
namespace {

constexpr int kSets = 1 << kMaskRows;
constexpr int kMaxRuns = kSegmentHead / 4 - 1;

int Rows(int mask) { return std::popcount(static_cast<unsigned>(mask)); }

// Which masks of the family a group uses, and what each set of rows becomes.
class GroupPlan {
 public:
  explicit GroupPlan(const MaskFamily& family) : f_(family), open_(family.masks.size(), true) {}

  // `counts`: of each set of rows, how many k have it.
  double Choose(const std::array<int, kSets>& counts) {
    double best = Cycles(counts);
    // Masks that least is done for are closed first, if it pays.
    std::vector<size_t> order;
    for (size_t m = 0; m < open_.size(); ++m) order.push_back(m);
    const std::vector<int64_t> used = used_;
    std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) { return used[x] < used[y]; });
    for (size_t m : order) {
      open_[m] = false;
      const double cycles = Coverable() ? Cycles(counts) : best;
      if (Coverable() && cycles <= best) {
        best = cycles;
      } else {
        open_[m] = true;
      }
    }
    return Cycles(counts);
  }

  // The mask, of which `set` takes what it has in common; the rest of `set` goes on.
  size_t First(int set) const { return first_[static_cast<size_t>(set)]; }
  // Entries of a mask beyond whole trips go to this one, if it is another.
  size_t RestTo(size_t mask) const { return rest_to_[mask]; }

 private:
  bool Coverable() const {
    int all = 0;
    for (size_t m = 0; m < open_.size(); ++m) all |= open_[m] ? f_.masks[m] : 0;
    return all == kSets - 1;
  }

  double Cycles(const std::array<int, kSets>& counts) {
    // The cheapest way to cover each set: the mask that has its lowest row, then what is left.
    cost_[0] = 0;
    for (int set = 1; set < kSets; ++set) {
      double best = 1e30;
      for (size_t m = 0; m < open_.size(); ++m) {
        const int mask = f_.masks[m];
        if (!open_[m] || (mask & (set & -set)) == 0) continue;
        const double cost = MaskRunCycles(Rows(mask), 1) / kMaskTrip + cost_[static_cast<size_t>(set & ~mask)];
        if (cost >= best) continue;
        best = cost;
        first_[static_cast<size_t>(set)] = m;
      }
      cost_[static_cast<size_t>(set)] = best;
    }
    used_.assign(open_.size(), 0);
    for (int set = 1; set < kSets; ++set) {
      for (int left = set; left != 0; left &= ~f_.masks[First(left)]) used_[First(left)] += counts[set];
    }
    std::vector<int64_t> entries = used_;
    rest_to_.resize(open_.size());
    double cycles = 0;
    for (size_t m = 0; m < open_.size(); ++m) {
      rest_to_[m] = m;
      const int64_t rest = entries[m] % kMaskTrip;
      if (rest > 0) {
        size_t to = m;
        for (size_t h = m + 1; h < open_.size(); ++h) {
          if (!open_[h] || (f_.masks[h] & f_.masks[m]) != f_.masks[m] || entries[h] == 0) continue;
          if (to == m || entries[h] > entries[to]) to = h;
        }
        // Each of the rest in the larger mask, or a trip that is not full.
        if (to != m && static_cast<double>(rest) * MaskRunCycles(Rows(f_.masks[to]), 1) / kMaskTrip <
                           MaskRunCycles(Rows(f_.masks[m]), 1)) {
          rest_to_[m] = to;
          entries[to] += rest;
          entries[m] -= rest;
        }
      }
      cycles += MaskRunCycles(Rows(f_.masks[m]), DivideUp(entries[m], kMaskTrip));
    }
    return cycles;
  }

  const MaskFamily& f_;
  std::vector<bool> open_;
  std::array<double, kSets> cost_ = {};
  std::array<size_t, kSets> first_ = {};
  std::vector<size_t> rest_to_;
  std::vector<int64_t> used_;
};

// The set of rows of each k of a group's chunk that any row keeps.
struct KeptBy {
  int64_t k = 0;
  int set = 0;
};
std::vector<KeptBy> SetsOf(const ScatteredPattern& pattern, int64_t group, int64_t from, int64_t to) {
  std::vector<uint8_t> sets(static_cast<size_t>(to - from), 0);
  const int64_t last = std::min(pattern.rows, (group + 1) * kMaskRows);
  for (int64_t row = group * kMaskRows; row < last; ++row) {
    const auto begin = pattern.columns.begin() + pattern.begin[row],
               end = pattern.columns.begin() + pattern.begin[row + 1];
    for (auto at = std::lower_bound(begin, end, from); at != end && *at < to; ++at) {
      sets[static_cast<size_t>(*at - from)] |= static_cast<uint8_t>(1 << (row - group * kMaskRows));
    }
  }
  std::vector<KeptBy> result;
  for (int64_t k = from; k < to; ++k) {
    if (sets[static_cast<size_t>(k - from)] != 0) result.push_back({k, sets[static_cast<size_t>(k - from)]});
  }
  return result;
}

std::array<int, kSets> CountsOf(const std::vector<KeptBy>& sets) {
  std::array<int, kSets> counts = {};
  for (const KeptBy& kept : sets) ++counts[static_cast<size_t>(kept.set)];
  return counts;
}

// Segments, one after the other.
class SegmentWriter {
 public:
  explicit SegmentWriter(std::vector<uint32_t>& words) : words_(words) {}

  int32_t segments() const { return static_cast<int32_t>(words_.size() * 4 / kSegmentBytes); }
  // Room for as many of `trips` trips of `rows` rows as this segment has, at least one: their first word.
  uint32_t* Run(size_t mask, int rows, int64_t trips, int64_t* taken) {
    const int bytes = TripBytes(rows);
    if (open_ && (runs_ == kMaxRuns || kSegmentBytes - used_ < bytes)) open_ = false;
    if (!open_) {
      words_.resize(words_.size() + kSegmentBytes / 4, 0);
      open_ = true;
      used_ = kSegmentHead;
      runs_ = 0;
    }
    *taken = std::min<int64_t>(trips, (kSegmentBytes - used_) / bytes);
    uint32_t* head = words_.data() + words_.size() - kSegmentBytes / 4;
    head[0] = static_cast<uint32_t>(++runs_);
    head[runs_] = static_cast<uint32_t>(mask) | static_cast<uint32_t>(*taken) << 8;
    uint32_t* result = head + used_ / 4;
    used_ += static_cast<int>(*taken) * bytes;
    return result;
  }
  void End() { open_ = false; }

 private:
  std::vector<uint32_t>& words_;
  bool open_ = false;
  int used_ = 0, runs_ = 0;
};

}  // namespace

const MaskFamily& UsualMasks() {
  static const MaskFamily& family = *new MaskFamily([] {
    MaskFamily usual;
    for (int pairs = 1; pairs < 1 << kMaskRows / 2; ++pairs) {
      int mask = 0;
      for (int pair = 0; pair < kMaskRows / 2; ++pair) mask |= (pairs >> pair & 1) * (3 << 2 * pair);
      usual.masks.push_back(static_cast<uint8_t>(mask));
    }
    std::stable_sort(usual.masks.begin(), usual.masks.end(), [](int x, int y) { return Rows(x) < Rows(y); });
    return usual;
  }());
  return family;
}

// What reaches registers is 128 bytes a cycle for all warps together, whether lanes get the same or not: eight rows of
// the panel, places, a row's weights each take a cycle. Beside that, products and some ten instructions of a warp, of
// which four start in a cycle.
double MaskRunCycles(int rows, int64_t trips) {
  const double loads = kMaskTrip + 1.0 + rows, instructions = (9.0 * rows + 10) / 4;
  const double trip = std::max(loads, instructions) + 0.3 * std::min(loads, instructions);
  constexpr double kDispatch = 10;
  return trips == 0 ? 0 : static_cast<double>(trips) * trip + kDispatch;
}

MaskStream EncodeMaskStream(const ScatteredPattern& pattern, const MaskFamily& family, int64_t chunk, int64_t zeros,
                            const std::function<uint32_t(int64_t row, int64_t k)>& weight) {
  MaskStream stream;
  stream.groups = DivideUp(pattern.rows, kMaskRows);
  stream.chunks = DivideUp(pattern.depth, chunk);
  SegmentWriter writer(stream.words);
  for (int64_t group = 0; group < stream.groups; ++group) {
    for (int64_t c = 0; c < stream.chunks; ++c) {
      stream.first.push_back(writer.segments());
      const int64_t from = c * chunk;
      const std::vector<KeptBy> sets = SetsOf(pattern, group, from, std::min(pattern.depth, from + chunk));
      GroupPlan plan(family);
      plan.Choose(CountsOf(sets));
      std::vector<std::vector<KeptBy>> entries(family.masks.size());
      for (const KeptBy& kept : sets) {
        for (int left = kept.set; left != 0;) {
          const size_t mask = plan.First(left);
          entries[mask].push_back({kept.k, left & family.masks[mask]});
          left &= ~family.masks[mask];
        }
      }
      for (size_t m = 0; m < entries.size(); ++m) {
        std::vector<KeptBy>& own = entries[m];
        if (const size_t to = plan.RestTo(m); to != m) {
          const auto rest = static_cast<std::ptrdiff_t>(own.size() % kMaskTrip);
          entries[to].insert(entries[to].end(), own.end() - rest, own.end());
          own.erase(own.end() - rest, own.end());
        }
        const int mask = family.masks[m], rows = Rows(mask);
        const auto trips = static_cast<int64_t>(DivideUp(static_cast<int64_t>(own.size()), kMaskTrip));
        for (int64_t trip = 0, taken = 0; trip < trips; trip += taken) {
          uint32_t* words = writer.Run(m, rows, trips - trip, &taken);
          for (int64_t t = trip; t < trip + taken; ++t, words += TripBytes(rows) / 4) {
            for (int e = 0; e < kMaskTrip; ++e) {
              const auto number = static_cast<size_t>(t * kMaskTrip + e);
              uint32_t* word = words + e;
              *word = PlaceOf(number < own.size() ? own[number].k - from : zeros);
              if (number >= own.size()) continue;
              for (int row = 0; row < kMaskRows; ++row) {
                if ((mask >> row & 1) == 0) continue;
                word += kMaskTrip;
                if ((own[number].set >> row & 1) != 0) *word = weight(group * kMaskRows + row, own[number].k);
              }
            }
          }
        }
      }
      writer.End();
    }
  }
  stream.first.push_back(writer.segments());
  return stream;
}

double MaskStreamCycles(const ScatteredPattern& pattern, const MaskFamily& family, int64_t chunk) {
  const int64_t chunks = DivideUp(pattern.depth, chunk);
  // Groups that keep nothing take no time, and a sample of them would say nothing of the others.
  const auto kept_of = [&](int64_t group) {
    const int64_t end = std::min(pattern.rows, (group + 1) * kMaskRows);
    return pattern.begin[static_cast<size_t>(end)] - pattern.begin[static_cast<size_t>(group * kMaskRows)];
  };
  std::vector<int64_t> groups;
  for (int64_t group = 0; group < DivideUp(pattern.rows, kMaskRows); ++group) {
    if (kept_of(group) > 0) groups.push_back(group);
  }
  constexpr int64_t kSample = 8;
  const int64_t pieces = static_cast<int64_t>(groups.size()) * chunks, step = std::max<int64_t>(1, pieces / kSample);
  double cycles = 0, seen = 0;  // kept elements, chunks alike
  for (int64_t at = 0; at < pieces; at += step) {
    const int64_t group = groups[static_cast<size_t>(at / chunks)], from = at % chunks * chunk;
    GroupPlan plan(family);
    cycles += plan.Choose(CountsOf(SetsOf(pattern, group, from, std::min(pattern.depth, from + chunk))));
    seen += static_cast<double>(kept_of(group)) / static_cast<double>(chunks);
  }
  return seen == 0 ? 0 : cycles * static_cast<double>(pattern.columns.size()) / seen;
}

}  // namespace tessera
