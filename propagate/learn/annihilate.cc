#include "propagate/learn/annihilate.h"

#include <algorithm>
#include <array>
#include <map>

#include "propagate/learn/fit.h"
#include "propagate/learn/footprint.h"

namespace tessera {
namespace {

constexpr int kSamples = 8;       // input elements whose dependences are stopped
constexpr int kFirmTrials = 6;    // per measurement; what they miss CheckRule finds
constexpr int kWeakTrials = 40;   // where no kind of trial is firm
constexpr int kLookupRounds = 3;  // of fixed indices
constexpr int kMinFinite = 2;     // trials with numbers, or there is no verdict
constexpr int kAny = -1, kAll = -2;

// The kinds of `f` with one of ties among them, which shows what holds of positive or of generic values only.
MeasureOptions OptionsLike(const Footprints& f) {
  MeasureOptions options = {.finite_only = true, .until_moved = true};
  options.kinds = f.kinds;
  options.trials = kFirmTrials;
  if (f.kinds.empty()) {
    options.kinds = {ProbeKind::kSmooth, ProbeKind::kPositive, ProbeKind::kSpike, ProbeKind::kTies};
    options.trials = kWeakTrials;
  } else if (std::find(f.kinds.begin(), f.kinds.end(), ProbeKind::kTies) == f.kinds.end()) {
    for (int n = 0; n < 4; ++n) options.kinds.push_back(f.kinds[0]);
    options.kinds.push_back(ProbeKind::kTies);
  }
  return options;
}

// A point of the clause: the output element, and the values of the variables there.
struct Point {
  int64_t out = 0;  // among all outputs
  std::vector<int64_t> values;
};

class Finder {
 public:
  Finder(Prober& prober, const Rule& rule, const Sampled& sampled, Clause& clause)
      : prober_(prober), sampled_(sampled), clause_(clause), options_(OptionsLike(sampled.footprints)) {
    // An index shows when it comes to choose another element that is not held: now and then.
    if (IsInteger(prober.box().inputs[clause.input]->dtype)) options_.trials = kWeakTrials;
    const Held nothing(prober.num_inputs());
    const Footprint footprint(rule, nothing);
    const int64_t first = prober.first(clause.output);
    std::vector<size_t> order(sampled.elements.size());
    for (size_t n = 0; n < order.size(); ++n) order[n] = n;
    std::shuffle(order.begin(), order.end(), prober.rng());
    for (size_t n : order) {
      if (elements_.size() == kSamples) break;
      std::map<int64_t, Point> points;
      std::map<int64_t, int> times;
      Clause bare = clause;
      bare.unless.clear();
      footprint.ForEachPoint(bare, true, sampled.elements[n], [&](const std::vector<int64_t>& values, int64_t out) {
        if (!sampled.footprints.moved[n][first + out]) return;
        points[out] = {first + out, values};
        ++times[out];
      });
      std::vector<Point> unique;
      for (const auto& [out, point] : points) {
        if (times[out] == 1) unique.push_back(point);
      }
      if (unique.empty()) continue;
      elements_.push_back(sampled.elements[n]);
      points_.push_back(std::move(unique));
      std::vector<uint8_t> expected(prober.num_outputs(), 0);
      for (const Point& point : points_.back()) expected[point.out] = 1;
      options_.expected.push_back(std::move(expected));
    }
  }

  void Find(int z, int value) {
    if (elements_.empty()) return;
    const Shape& shape = prober_.shape(z);
    // 1 stopped, 0 not, -1 no verdict.
    const Verdicts whole = Stopped(z, value, [](int64_t) { return true; });
    bool any = false, all = true;
    for (const auto& row : whole) {
      for (int verdict : row) {
        any |= verdict == 1;
        all &= verdict != 0;
      }
    }
    if (!any || !all) return;
    std::vector<std::vector<std::vector<int>>> index(shape.rank());  // [axis][sample][point]
    for (int x = 0; x < shape.rank(); ++x) {
      if (!ReadIndex(z, value, x, whole, index[x])) return;
    }
    Annihilator found = {.input = z, .value = value, .at = {.view = shape}};
    found.at.index.resize(shape.rank());
    bool has_all = false;
    for (int x = 0; x < shape.rank(); ++x) {
      if (shape[x] == 1) continue;
      std::vector<std::vector<int64_t>> values;
      std::vector<int64_t> indices;
      for (size_t s = 0; s < index[x].size(); ++s) {
        for (size_t p = 0; p < index[x][s].size(); ++p) {
          if (whole[s][p] != 1) continue;
          values.push_back(points_[s][p].values);
          indices.push_back(index[x][s][p]);
        }
      }
      const int64_t kind = indices[0] < 0 ? indices[0] : 0;
      for (int64_t i : indices) {
        if ((i < 0 ? i : 0) != kind) return;
      }
      if (kind < 0) {
        (kind == kAny ? found.any : has_all) = true;
        found.at.index[x] = Variable(static_cast<int>(clause_.extents.size() + found.extents.size()));
        found.extents.push_back(shape[x]);
        continue;
      }
      const std::optional<RuleIndex> fitted = FitIndex(values, indices, clause_.extents, shape[x]);
      if (!fitted) return;
      found.at.index[x] = *fitted;
    }
    if (found.any && has_all) return;
    clause_.unless.push_back(std::move(found));
  }

 private:
  using Verdicts = std::vector<std::vector<int>>;

  // Whether holding the elements of z that `held` names stops each point.
  template <typename F>
  Verdicts Stopped(int z, int value, const F& held) {
    Verdicts verdicts(elements_.size());
    const int64_t count = prober_.shape(z).num_elements();
    const auto measure = [&](size_t from, size_t to) {
      Held holding(prober_.num_inputs());
      for (int64_t e = 0; e < count; ++e) {
        if (held(e) && !(z == clause_.input && e == elements_[from])) holding.Set(prober_.box(), z, e, value);
      }
      std::vector<Group> groups;
      MeasureOptions options = options_;
      options.expected.clear();
      for (size_t s = from; s < to; ++s) {
        groups.push_back({elements_[s]});
        options.expected.push_back(options_.expected[s]);
      }
      const Footprints f = prober_.Measure(clause_.input, groups, holding, options);
      for (size_t s = from; s < to; ++s) {
        for (const Point& point : points_[s]) {
          const bool moved = f.moved[s - from][point.out] != 0;
          verdicts[s].push_back(moved ? 0 : f.finite[s - from][point.out] >= kMinFinite ? 1 : -1);
        }
      }
    };
    if (z != clause_.input) {
      measure(0, elements_.size());
    } else {
      for (size_t s = 0; s < elements_.size(); ++s) measure(s, s + 1);
    }
    return verdicts;
  }

  // The index along axis x of the element that stops each point, bit by bit; kAny, kAll. False: neither.
  bool ReadIndex(int z, int value, int x, const Verdicts& whole, std::vector<std::vector<int>>& index) {
    const Shape& shape = prober_.shape(z);
    const int64_t extent = shape[x], stride = shape.Strides()[x];
    index.resize(elements_.size());
    for (size_t s = 0; s < elements_.size(); ++s) index[s].assign(points_[s].size(), 0);
    if (extent == 1) return true;
    int bits = 0;
    while ((int64_t{1} << bits) < extent) ++bits;
    // Per point: how many bits were a digit, any, all.
    std::vector<std::vector<std::array<int, 3>>> seen(elements_.size());
    for (size_t s = 0; s < elements_.size(); ++s) seen[s].resize(points_[s].size());
    for (int bit = 0; bit < bits; ++bit) {
      Verdicts stops[2];
      for (int side = 0; side < 2; ++side) {
        stops[side] = Stopped(z, value, [&](int64_t e) { return (e / stride % extent >> bit & 1) == side; });
      }
      for (size_t s = 0; s < elements_.size(); ++s) {
        const int64_t own = elements_[s] / stride % extent;  // matters where z is the clause's own input
        for (size_t p = 0; p < points_[s].size(); ++p) {
          if (whole[s][p] != 1) continue;
          bool zero = stops[0][s][p] == 1, one = stops[1][s][p] == 1;
          if (z == clause_.input) {
            // Where any element of this axis would do, a slab of the element's own index alone cannot tell: it holds
            // nothing but the element itself.
            const bool own_side = (own >> bit & 1) != 0;
            int64_t same = 0;
            for (int64_t i = 0; i < extent; ++i) same += ((i >> bit & 1) != 0) == own_side;
            if (same == 1) (own_side ? one : zero) |= own_side ? zero : one;
          }
          if (zero != one) index[s][p] |= one ? 1 << bit : 0;
          ++seen[s][p][zero != one ? 0 : zero ? 1 : 2];
        }
      }
    }
    for (size_t s = 0; s < elements_.size(); ++s) {
      for (size_t p = 0; p < points_[s].size(); ++p) {
        if (whole[s][p] != 1) continue;
        if (seen[s][p][0] == bits) {
          if (index[s][p] >= extent) return false;
          continue;
        }
        if (seen[s][p][1] != bits && seen[s][p][2] != bits) return false;
        index[s][p] = seen[s][p][1] == bits ? kAny : kAll;
      }
    }
    return true;
  }

  Prober& prober_;
  const Sampled& sampled_;
  Clause& clause_;
  MeasureOptions options_;
  std::vector<int64_t> elements_;
  std::vector<std::vector<Point>> points_;
};

}  // namespace

void FindAnnihilators(Prober& prober, const Rule& rule, const Sampled& sampled, Clause& clause) {
  if (sampled.special) return;
  Finder finder(prober, rule, sampled, clause);
  for (int z = 0; z < prober.num_inputs(); ++z) {
    if (!prober.has_input(z)) continue;
    const bool looked_up = std::any_of(clause.lookups.begin(), clause.lookups.end(),
                                       [&](const Lookup& lookup) { return lookup.input == z; });
    if (looked_up) continue;
    finder.Find(z, 0);
    if (IsBool(prober.box().inputs[z]->dtype)) finder.Find(z, 1);
  }
}

bool FindLookup(Prober& prober, const Rule& rule, const Sampled& sampled, const std::vector<Clause>& others,
                Clause& clause) {
  for (const Clause& reading : others) {
    const int z = reading.input;
    if (z == clause.input || reading.output != clause.output || !IsInteger(prober.box().inputs[z]->dtype)) continue;
    // Where z is read, in this clause's variables: those of the output's axes.
    Lookup lookup = {.input = z, .at = reading.in};
    bool translates = reading.out.view == clause.out.view;
    for (RuleIndex& index : lookup.at.index) {
      for (RuleIndex::Term& term : index.terms) {
        int to = -1;
        for (size_t a = 0; translates && a < reading.out.index.size(); ++a) {
          if (reading.out.index[a] == Variable(term.variable) && clause.out.index[a].terms.size() == 1) {
            to = clause.out.index[a].terms[0].variable;
          }
        }
        translates &= to >= 0;
        term.variable = to;
      }
      std::sort(index.terms.begin(), index.terms.end(), [](auto& x, auto& y) { return x.variable < y.variable; });
    }
    if (!translates) continue;
    // The operand fixed at indices that vary: those of one base point.
    Held held(prober.num_inputs());
    const int64_t count = prober.shape(z).num_elements();
    std::vector<Group> groups;
    std::vector<size_t> rows;
    for (size_t n = 0; n < sampled.elements.size(); ++n) {
      groups.push_back({sampled.elements[n]});
      rows.push_back(n);
    }
    for (size_t b = 0; b < clause.in.index.size(); ++b) {
      const RuleIndex before = clause.in.index[b];
      const int64_t extent = clause.in.view[static_cast<int>(b)];
      const int variable = before.terms.size() == 1 ? before.terms[0].variable : -1;
      bool free = before.lookup < 0 && before.offset == 0 && (variable >= 0 || extent == 1);
      for (const RuleIndex& index : clause.out.index) {
        for (const RuleIndex::Term& term : index.terms) free &= extent == 1 || term.variable != variable;
      }
      if (!free) continue;
      Clause candidate = clause;
      if (variable >= 0 && extent > 1) candidate.extents[variable] = 1;
      candidate.in.index[b] = {.offset = 0, .terms = {}, .lookup = static_cast<int>(candidate.lookups.size())};
      candidate.lookups.push_back(lookup);
      Rule alone = rule;
      alone.clauses = {candidate};
      const int64_t first = prober.first(clause.output), end = prober.first(clause.output + 1);
      bool agrees = true, narrower = false;
      for (int round = 0; agrees && round < kLookupRounds; ++round) {
        for (int64_t e = 0; e < count; ++e) {
          // Once all are out of range, where nothing is picked; then one index in a few.
          const uint64_t pick = round == 0 ? extent : prober.rng()() % static_cast<uint64_t>(extent + 1);
          held.Set(prober.box(), z, e, static_cast<double>(pick));
        }
        const Footprints narrowed = prober.Measure(clause.input, groups, held, {.trials = kFirmTrials});
        const Footprint predicted(alone, held);
        for (size_t n = 0; agrees && n < groups.size(); ++n) {
          const std::vector<uint8_t> row = predicted.Forward(clause.input, groups[n][0]);
          const auto& before_row = sampled.footprints.moved[n];
          agrees = std::equal(row.begin() + first, row.begin() + end, narrowed.moved[n].begin() + first);
          narrower |= !std::equal(row.begin() + first, row.begin() + end, before_row.begin() + first);
        }
      }
      agrees &= narrower;
      if (agrees) {
        clause = std::move(candidate);
        return true;
      }
    }
  }
  return false;
}

bool Agrees(const Prober& prober, const Rule& rule, const Sampled& sampled, const Clause& clause) {
  const Held nothing(prober.num_inputs());
  Rule alone = rule;
  alone.clauses = {clause};
  const Footprint predicted(alone, nothing);
  const int64_t first = prober.first(clause.output), end = prober.first(clause.output + 1);
  for (size_t n = 0; n < sampled.elements.size(); ++n) {
    const std::vector<uint8_t> row = predicted.Forward(clause.input, sampled.elements[n]);
    const std::vector<uint8_t>& found = sampled.footprints.moved[n];
    if (!std::equal(row.begin() + first, row.begin() + end, found.begin() + first)) return false;
  }
  return true;
}

}  // namespace tessera
