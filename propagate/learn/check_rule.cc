// CheckRule: a rule's predictions against measurements, where operands are held at random; see annihilate.h.
#include <algorithm>
#include <chrono>
#include <sstream>

#include "propagate/learn/annihilate.h"
#include "propagate/learn/footprint.h"

namespace tessera {
namespace {

constexpr int kFirmTrials = 12, kWeakTrials = 60;

std::string ElementText(const char* side, int number, const Shape& shape, int64_t element) {
  std::ostringstream text;
  text << side << number << "[";
  const std::vector<int64_t> at = CoordinatesOf(shape, element);
  for (size_t d = 0; d < at.size(); ++d) text << (d > 0 ? "," : "") << at[d];
  text << "]";
  return text.str();
}

constexpr int kOutputsTried = 3;  // per round and input

// Holds random elements of operand z: each with one chance in two, or slices of one axis.
void HoldAtRandom(Prober& prober, int z, bool slices, Held& held) {
  const TensorType& type = *prober.box().inputs[z];
  const int64_t count = type.shape.num_elements();
  std::mt19937_64& rng = prober.rng();
  int axis = -1;
  std::vector<uint8_t> chosen;
  if (slices && type.shape.rank() > 0) {
    axis = static_cast<int>(rng() % static_cast<uint64_t>(type.shape.rank()));
    for (int64_t i = 0; i < type.shape[axis]; ++i) chosen.push_back(rng() & 1);
  }
  for (int64_t e = 0; e < count; ++e) {
    const bool hold = axis >= 0 ? chosen[CoordinatesOf(type.shape, e)[axis]] != 0 : (rng() & 1) != 0;
    if (hold) held.Set(prober.box(), z, e, IsBool(type.dtype) ? static_cast<double>(rng() & 1) : 0);
  }
}

class Checker {
 public:
  Checker(Prober& prober, const Rule& rule, const std::vector<Sampled>& sampled, const CheckOptions& options)
      : prober_(prober), rule_(rule), sampled_(sampled), options_(options), looked_up_(prober.num_inputs(), 0) {
    for (int k = 0; k < prober.num_inputs(); ++k) {
      if (prober.has_input(k) && prober.shape(k).num_elements() > 0) present_.push_back(k);
    }
    for (const Clause& clause : rule.clauses) {
      for (size_t d = 0; d < clause.in.index.size(); ++d) {
        if (clause.in.index[d].lookup < 0) continue;
        looked_up_[clause.lookups[clause.in.index[d].lookup].input] = clause.in.view[static_cast<int>(d)];
      }
    }
  }

  Status Check() {
    const auto start = std::chrono::steady_clock::now();
    for (int round = 0; round < options_.rounds && !present_.empty(); ++round) {
      // First nothing is held, then one operand, elements and slices in turn, now and then all of them.
      const bool all = round > 0 && round % 3 == 0;
      const int one = round == 0 ? -1 : present_[prober_.rng()() % present_.size()];
      for (int k : present_) {
        if (sampled_[k].special) continue;
        Held held(prober_.num_inputs());
        for (int z : present_) {
          if (looked_up_[z] > 0) {
            if (z != k) HoldIndices(z, held);
          } else if (all || z == one) {
            HoldAtRandom(prober_, z, round % 2 == 0, held);
          }
        }
        RETURN_IF_ERROR(CheckInput(k, held, round > 0, !all));
      }
      const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (passed > options_.seconds) break;
    }
    return OkStatus();
  }

 private:
  void HoldIndices(int z, Held& held) {
    for (int64_t e = 0; e < prober_.shape(z).num_elements(); ++e) {
      held.Set(prober_.box(), z, e, static_cast<double>(prober_.rng()() % static_cast<uint64_t>(looked_up_[z])));
    }
  }

  int64_t Random(int64_t count) { return static_cast<int64_t>(prober_.rng()() % static_cast<uint64_t>(count)); }

  // `complete`: what the rule calls live has to move. Not where several operands are held, whose values then conspire:
  // where(c, 0, 0) does not depend on c.
  Status CheckInput(int k, const Held& held, bool masked, bool complete) {
    const Footprint predicted(rule_, held);
    const Footprints& known = sampled_[k].footprints;
    MeasureOptions measure = {
        .kinds = known.kinds,
        .trials = known.kinds.empty() || IsInteger(prober_.box().inputs[k]->dtype) ? kWeakTrials : kFirmTrials,
        .finite_only = true,
        .until_moved = true};
    if (known.kinds.empty()) {
      measure.kinds = {ProbeKind::kSmooth, ProbeKind::kPositive, ProbeKind::kSpike, ProbeKind::kTies};
    } else if (std::find(known.kinds.begin(), known.kinds.end(), ProbeKind::kTies) == known.kinds.end()) {
      measure.kinds.insert(measure.kinds.end(), {known.kinds[0], ProbeKind::kTies});
    }
    // Input elements: some at random, some on which a random output element depends. And for output elements: all input
    // elements together on which it does not.
    std::vector<Group> groups;
    const auto add = [&](int64_t e) {
      if (held.Has(k, e)) return;
      groups.push_back({e});
      measure.expected.push_back(predicted.Forward(k, e));
    };
    for (int n = 0; n < 2 * options_.rows && static_cast<int>(groups.size()) < options_.rows; ++n) {
      add(Random(prober_.shape(k).num_elements()));
    }
    std::vector<Group> unrelated;
    std::vector<int64_t> unmoved;
    for (int n = 0; n < kOutputsTried && prober_.num_outputs() > 0; ++n) {
      const int64_t j = Random(prober_.num_outputs());
      const int t = OutputOf(j);
      const std::vector<uint8_t> depends = predicted.Backward(t, j - prober_.first(t), k);
      std::vector<int64_t> on;
      Group others;
      for (int64_t e = 0; e < static_cast<int64_t>(depends.size()); ++e) {
        if (held.Has(k, e)) continue;
        if (depends[e]) {
          on.push_back(e);
        } else {
          others.push_back(e);
        }
      }
      if (!on.empty()) add(on[static_cast<size_t>(Random(static_cast<int64_t>(on.size())))]);
      if (others.empty()) continue;
      unrelated.push_back(std::move(others));
      unmoved.push_back(j);
    }
    const Footprints found = prober_.Measure(k, groups, held, measure);
    for (size_t g = 0; g < groups.size(); ++g) {
      for (int64_t j = 0; j < prober_.num_outputs(); ++j) {
        const bool expected = measure.expected[g][j] != 0, moved = found.moved[g][j] != 0;
        if (expected == moved || (expected && (!complete || found.finite[g][j] < 2))) continue;
        return Differs(j, moved ? " moves with " : " does not move with ",
                       ElementText("in", k, prober_.shape(k), groups[g][0]), masked,
                       moved ? ", which the relation does not say" : ", though the relation says so");
      }
    }
    measure.until_moved = false;
    measure.trials = 4;
    const Footprints others = prober_.Measure(k, unrelated, held, measure);
    for (size_t g = 0; g < unrelated.size(); ++g) {
      if (!others.moved[g][unmoved[g]]) continue;
      return Differs(unmoved[g], " moves with elements of ", "in" + std::to_string(k), masked,
                     " that the relation does not list");
    }
    return OkStatus();
  }

  int OutputOf(int64_t j) const {
    int t = 0;
    while (prober_.first(t + 1) <= j) ++t;
    return t;
  }

  Status Differs(int64_t j, const char* verb, const std::string& what, bool masked, const char* rest) const {
    const int t = OutputOf(j);
    return Error(ErrorCode::kRuleNotLearned, rule_.name, ": ",
                 ElementText("out", t, prober_.box().outputs[t].shape, j - prober_.first(t)), verb, what,
                 masked ? " while others are held" : "", rest, "; the relation is ", rule_.ToString());
  }

  Prober& prober_;
  const Rule& rule_;
  const std::vector<Sampled>& sampled_;
  const CheckOptions& options_;
  std::vector<int> present_;
  std::vector<int64_t> looked_up_;  // [input]: the extent that its values index, or 0
};

}  // namespace

Status CheckRule(Prober& prober, const Rule& rule, const std::vector<Sampled>& sampled, const CheckOptions& options) {
  return Checker(prober, rule, sampled, options).Check();
}

}  // namespace tessera
