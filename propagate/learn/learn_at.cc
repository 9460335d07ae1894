// LearnAt: measure, fit, find what annihilates, check: the rule of one instance; see learn.h.
#include <algorithm>
#include <map>

#include "propagate/learn/annihilate.h"
#include "propagate/learn/fit.h"
#include "propagate/learn/learn.h"

namespace tessera {
namespace {

constexpr size_t kMaxRows = 1024, kMinRows = 40;  // input elements tried, per input
constexpr size_t kRowElements = 120000;           // rows times elements of the instance
constexpr double kMaxSeconds = 5;                 // instances on which few rows take longer are not learned
constexpr int kRunsPerRow = 24;
constexpr int kAttempts = 3;

constexpr int64_t kWholePool = 8;      // axes up to this are tried at all indices
constexpr int64_t kLongestLine = 256;  // axes up to this are tried at all indices through one element
constexpr int64_t kMostSlabs = 4096;   // along longer axes slices are tried one by one, up to so many

// Of the indices along a long axis: the ends, neighbours, some between.
void AddSome(const std::vector<int64_t>& indices, std::mt19937_64& rng, std::vector<int64_t>& pool) {
  const size_t count = indices.size();
  std::vector<size_t> at = {0, 1, count - 2, count - 1};
  const size_t middle = static_cast<size_t>(rng() % count);
  at.push_back(middle);
  at.push_back(middle + 1);
  for (size_t n : at) {
    if (n < count) pool.push_back(indices[n]);
  }
}

// Elements of input k: all, or some whose indices come from a small pool along each axis, so that they repeat. Along
// long axes the pool is drawn from the slices that move anything at all, and from those that do not.
std::vector<int64_t> ChooseElements(Prober& prober, int k, size_t most) {
  const Shape& shape = prober.shape(k);
  std::mt19937_64& rng = prober.rng();
  const int64_t count = shape.num_elements();
  std::vector<int64_t> chosen;
  if (count <= static_cast<int64_t>(most)) {
    for (int64_t e = 0; e < count; ++e) chosen.push_back(e);
    return chosen;
  }
  std::vector<std::vector<int64_t>> pools(shape.rank());
  for (int d = 0; d < shape.rank(); ++d) {
    const int64_t extent = shape[d], stride = shape.Strides()[d];
    std::vector<int64_t> live, dead;
    std::vector<Group> slabs;
    for (int64_t i = 0; i < extent; ++i) live.push_back(i);
    if (extent <= kWholePool) {
      pools[d] = live;
      continue;
    }
    if (extent <= kMostSlabs) {
      slabs.resize(extent);
      for (int64_t e = 0; e < count; ++e) slabs[e / stride % extent].push_back(e);
      MeasureOptions options = {.trials = 6, .until_any = true};
      options.expected.assign(extent, std::vector<uint8_t>(prober.num_outputs(), 1));
      const Footprints f = prober.Measure(k, slabs, Held(prober.num_inputs()), options);
      live.clear();
      for (int64_t i = 0; i < extent; ++i) {
        const auto& moved = f.moved[i];
        (std::find(moved.begin(), moved.end(), 1) != moved.end() ? live : dead).push_back(i);
      }
    }
    if (!live.empty()) AddSome(live, rng, pools[d]);
    if (!dead.empty()) AddSome(dead, rng, pools[d]);
  }
  chosen = {0, count - 1};
  const std::vector<int64_t> strides = shape.Strides();
  for (size_t tries = 0; tries < 8 * most && chosen.size() < most; ++tries) {
    int64_t e = 0;
    for (int d = 0; d < shape.rank(); ++d) e += strides[d] * pools[d][rng() % pools[d].size()];
    if (std::find(chosen.begin(), chosen.end(), e) == chosen.end()) chosen.push_back(e);
  }
  // And all along each axis through one element that may move something, for what is no affine function of the index.
  int64_t through = 0;
  for (int d = 0; d < shape.rank(); ++d) through += strides[d] * pools[d][std::min<size_t>(2, pools[d].size() - 1)];
  for (int d = 0; d < shape.rank(); ++d) {
    const int64_t start = through - through / strides[d] % shape[d] * strides[d];
    for (int64_t i = 0; shape[d] <= kLongestLine && i < shape[d]; ++i) chosen.push_back(start + i * strides[d]);
  }
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return chosen;
}

Rows RowsOf(const Prober& prober, const Sampled& sampled, int output) {
  Rows rows = {.in = sampled.elements, .out = {}};
  for (const auto& moved : sampled.footprints.moved) {
    std::vector<int64_t> out;
    for (int64_t j = prober.first(output); j < prober.first(output + 1); ++j) {
      if (moved[j]) out.push_back(j - prober.first(output));
    }
    rows.out.push_back(std::move(out));
  }
  return rows;
}

class Learner {
 public:
  Learner(const BlackBox& box, const ScrambleOptions& options, ScrambleStats& stats)
      : box_(box), options_(options), stats_(stats), prober_(box, options.seed), sampled_(box.inputs.size()) {
    rule_ = {.name = box.name, .inputs = InputTypes(box), .outputs = box.outputs, .clauses = {}};
  }

  StatusOr<Rule> Learn() {
    if (MovesInOrder()) return Canonical(rule_);
    RETURN_IF_ERROR(Measure());
    // Once under the natural shapes; where axes fall into groups, again under shapes that show them.
    std::vector<std::vector<Split>> out_splits(box_.outputs.size()), in_splits(box_.inputs.size());
    std::vector<Clause> clauses;
    for (int pass = 0; pass < 2; ++pass) {
      clauses.clear();
      const std::vector<std::vector<Split>> out_views = out_splits, in_views = in_splits;
      bool split = false;
      for (const auto& [t, k] : Dependent()) {
        ASSIGN_OR_RETURN(Fitted fitted, Fit(t, k, out_views[t], in_views[k]));
        for (const Split& s : fitted.split_out) out_splits[t].push_back(s);
        for (const Split& s : fitted.split_in) in_splits[k].push_back(s);
        split |= !fitted.split_out.empty() || !fitted.split_in.empty();
        equal_in_[{t, k}] = fitted.equal_in;
        clauses.push_back(std::move(fitted.clause));
      }
      if (!split) break;
      if (pass == 1) return Error(ErrorCode::kRuleNotLearned, box_.name, ": groups within groups");
      // Whatever equals an axis that splits, splits.
      for (const auto& [pair, equal] : equal_in_) {
        for (const Split& s : out_splits[pair.first]) {
          if (s.axis < static_cast<int>(equal.size()) && equal[s.axis] >= 0) {
            in_splits[pair.second].push_back({equal[s.axis], s.groups});
          }
        }
      }
    }
    rule_.clauses = std::move(clauses);
    for (Clause& clause : rule_.clauses) {
      Clause narrowed = clause;
      narrowed.unless.clear();
      if (!FindLookup(prober_, rule_, sampled_[clause.input], rule_.clauses, narrowed)) continue;
      FindAnnihilators(prober_, rule_, sampled_[clause.input], narrowed);
      clause = std::move(narrowed);
    }
    RETURN_IF_ERROR(rule_.Verify());
    // What annihilates is read off a few elements; where these happened not to tell, others are taken.
    Status status;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      status = CheckRule(prober_, rule_, sampled_, {.rounds = 7, .rows = 6});
      if (status.ok()) break;
      for (Clause& clause : rule_.clauses) {
        clause.unless.clear();
        FindAnnihilators(prober_, rule_, sampled_[clause.input], clause);
      }
    }
    RETURN_IF_ERROR(status);
    return Canonical(rule_);
  }

  int64_t runs() const { return prober_.runs(); }

 private:
  // A large input each element of which moves the output element of its own number, and nothing else: a reshape. Said
  // by the groups of the elements whose number has some bit, and of those that have it not: two for each bit.
  bool MovesInOrder() {
    if (box_.inputs.size() != 1 || box_.outputs.size() != 1) return false;
    const int64_t count = prober_.num_outputs();
    if (prober_.shape(0).num_elements() != count || count <= static_cast<int64_t>(kMaxRows)) return false;
    std::vector<Group> groups;
    for (int bit = 0; int64_t{1} << bit < count; ++bit) {
      for (int64_t side : {0, 1}) {
        groups.emplace_back();
        for (int64_t e = 0; e < count; ++e) {
          if ((e >> bit & 1) == side) groups.back().push_back(e);
        }
      }
    }
    // One trial tells whether it is worth more.
    const Held nothing(1);
    for (int trials : {1, 0}) {
      const MeasureOptions options = {.max_error = options_.max_error, .trials = trials};
      const Footprints found = prober_.Measure(0, groups, nothing, options);
      for (size_t g = 0; g < groups.size(); ++g) {
        std::vector<uint8_t> expected(count, 0);
        for (int64_t e : groups[g]) expected[e] = 1;
        if (found.moved[g] != expected) return false;
      }
      stats_.trials = found.trials;
      stats_.error_bound = found.error_bound;
    }
    Clause clause;
    clause.extents = box_.outputs[0].shape.dims();
    clause.out = clause.in = Straight(box_.outputs[0].shape);
    rule_.clauses = {clause};
    return true;
  }

  Status Measure() {
    // As many rows as the size of the instance allows, not its speed: the same seed gives the same rule.
    int64_t elements = prober_.num_outputs();
    for (int k = 0; k < prober_.num_inputs(); ++k)
      elements += prober_.has_input(k) ? prober_.shape(k).num_elements() : 0;
    const size_t rows = std::clamp(kRowElements / static_cast<size_t>(elements + 1), kMinRows, kMaxRows);
    if (const double each = prober_.SecondsPerRun();
        each * static_cast<double>(kMinRows * kRunsPerRow * box_.inputs.size()) > kMaxSeconds) {
      return Error(ErrorCode::kRuleNotLearned, box_.name, ": a run takes ", each, " s, too long to learn from");
    }
    const Held nothing(box_.inputs.size());
    for (int k = 0; k < prober_.num_inputs(); ++k) {
      if (!prober_.has_input(k)) continue;
      Sampled& sampled = sampled_[k];
      sampled.elements = ChooseElements(prober_, k, rows);
      std::vector<Group> groups;
      for (int64_t e : sampled.elements) groups.push_back({e});
      MeasureOptions measure = {.max_error = options_.max_error};
      sampled.special = !AnythingMoves(k);
      if (sampled.special) measure.kinds = {ProbeKind::kSpecial}, measure.trials = 2;
      sampled.footprints = prober_.Measure(k, groups, nothing, measure);
      stats_.trials = std::max(stats_.trials, sampled.footprints.trials);
      const double bound = sampled.special ? options_.max_error : sampled.footprints.error_bound;
      stats_.error_bound = std::max(stats_.error_bound, bound);
    }
    return OkStatus();
  }

  // All of the input changed at once: when that moves nothing, no element of it need be tried alone.
  bool AnythingMoves(int k) {
    Group all(prober_.shape(k).num_elements());
    for (size_t e = 0; e < all.size(); ++e) all[e] = static_cast<int64_t>(e);
    MeasureOptions options = {.max_error = options_.max_error, .until_any = true};
    options.expected.emplace_back(prober_.num_outputs(), 1);
    const Footprints f = prober_.Measure(k, {&all, 1}, Held(prober_.num_inputs()), options);
    return std::find(f.moved[0].begin(), f.moved[0].end(), 1) != f.moved[0].end();
  }

  // Pairs of an output and an input of which something moved.
  std::vector<std::pair<int, int>> Dependent() const {
    std::vector<std::pair<int, int>> pairs;
    for (int t = 0; t < static_cast<int>(box_.outputs.size()); ++t) {
      for (int k = 0; k < prober_.num_inputs(); ++k) {
        if (prober_.has_input(k) && !RowsOf(prober_, sampled_[k], t).empty()) pairs.push_back({t, k});
      }
    }
    return pairs;
  }

  // The first guess that says exactly what was measured.
  StatusOr<Fitted> Fit(int t, int k, const std::vector<Split>& out_splits, const std::vector<Split>& in_splits) {
    const Rows rows = RowsOf(prober_, sampled_[k], t);
    FitOptions fit = {.out_view = SplitShape(box_.outputs[t].shape, out_splits),
                      .in_view = SplitShape(prober_.shape(k), in_splits)};
    Status failure = Error(ErrorCode::kRuleNotLearned, box_.name, ": how out", t, " depends on in", k,
                           ": no affine relation says exactly what was found");
    bool ragged = true;
    for (int guess = 0; guess < 3; ++guess) {
      if (guess == 1 && !ragged) continue;
      fit.ragged_free = guess == 0;
      fit.tables = guess == 2;
      StatusOr<Fitted> fitted = FitClause(t, k, rows, fit);
      if (!fitted.ok()) {
        failure = fitted.status().WithContext(box_.name);
        continue;
      }
      if (!fitted->split_out.empty() || !fitted->split_in.empty()) return fitted;
      ragged = fitted->ragged;
      FindAnnihilators(prober_, rule_, sampled_[k], fitted->clause);
      if (Agrees(prober_, rule_, sampled_[k], fitted->clause)) return fitted;
    }
    return failure;
  }

  const BlackBox& box_;
  const ScrambleOptions& options_;
  ScrambleStats& stats_;
  Prober prober_;
  std::vector<Sampled> sampled_;  // by input
  Rule rule_;
  std::map<std::pair<int, int>, std::vector<int>> equal_in_;
};

}  // namespace

StatusOr<Rule> LearnAt(const BlackBox& box, const ScrambleOptions& options, ScrambleStats& stats) {
  Learner learner(box, options, stats);
  StatusOr<Rule> rule = learner.Learn();
  stats.runs += learner.runs();
  return rule;
}

}  // namespace tessera
