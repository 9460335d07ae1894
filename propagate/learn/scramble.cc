#include "propagate/learn/scramble.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "propagate/learn/annihilate.h"
#include "propagate/learn/learn.h"
#include "propagate/learn/small_shapes.h"

namespace tessera {
namespace {

constexpr int kSpotRounds = 3;
constexpr double kSpotRuns = 120;             // about what a spot check takes per input
constexpr int64_t kMaxSpotElements = 100000;  // of an input
constexpr int kGrowSteps = 24;

// Does a spot check of this instance fit the time? Runs it a few times to see. Predictions walk over elements: large
// instances do not fit, however fast they run.
bool Fits(const BlackBox& box, double seconds) {
  for (const auto& type : box.inputs) {
    if (type && type->shape.num_elements() > kMaxSpotElements) return false;
  }
  const double runs = kSpotRuns * static_cast<double>(std::max<size_t>(box.inputs.size(), 1));
  return Prober(box, 1).SecondsPerRun() * runs < seconds;
}

// The largest instance between the small one and the real one whose spot check fits the time: all that can change grown
// together, a half at a time.
BlackBox SpotInstance(const BlackBox& box, const SmallShapes& small, double seconds) {
  BlackBox best = small.second;
  std::vector<int64_t> extents, real;
  for (const Tie& tie : small.ties) {
    extents.push_back(small.second.inputs[tie[0].first]->shape[tie[0].second]);
    real.push_back(box.inputs[tie[0].first]->shape[tie[0].second]);
  }
  for (int step = 0; step < kGrowSteps; ++step) {
    bool grown = false;
    for (size_t n = 0; n < extents.size(); ++n) {
      const int64_t next = std::min(extents[n] + (extents[n] + 1) / 2, std::max(real[n], extents[n]));
      grown |= next != extents[n];
      extents[n] = next;
    }
    StatusOr<BlackBox> next = Resized(box, small.ties, extents);
    if (next.ok()) {
      if (!Fits(*next, seconds)) return best;
      best = *std::move(next);
    }
    if (!grown) break;
  }
  return best;
}

// Holds the relation against a few elements of a larger instance.
Status SpotCheck(const BlackBox& box, const RuleTemplate& relation, const SmallShapes& small,
                 const ScrambleOptions& options, ScrambleStats& stats) {
  if (options.spot_check_seconds <= 0) return OkStatus();
  // Best of all at the shape itself, whose extents may be smaller than those that were learned from.
  const bool here = Fits(box, options.spot_check_seconds);
  const BlackBox instance = here ? box : SpotInstance(box, small, options.spot_check_seconds);
  const std::optional<Rule> rule = relation.Bind(instance);
  if (!rule) return OkStatus();
  Prober prober(instance, options.seed + 1);
  std::vector<Sampled> sampled(instance.inputs.size());
  const Status status =
      CheckRule(prober, *rule, sampled, {.rounds = kSpotRounds, .rows = 2, .seconds = options.spot_check_seconds});
  stats.runs += prober.runs();
  return status;
}

}  // namespace

StatusOr<Learned> LearnTemplate(const BlackBox& box, const ScrambleOptions& options, ScrambleStats& stats) {
  const auto start = std::chrono::steady_clock::now();
  const auto finish = [&](StatusOr<Learned> learned) {
    stats.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return learned;
  };
  Learned learned;
  Status failure;
  if (const StatusOr<SmallShapes> small = FindSmallShapes(box); small.ok()) {
    StatusOr<Rule> first = LearnAt(small->first, options, stats);
    StatusOr<Rule> second = first.ok() ? LearnAt(small->second, options, stats) : first;
    if (first.ok() && second.ok()) {
      learned.relation.witnesses = {*first, *second};
      if (std::optional<Rule> rule = learned.relation.Bind(box)) {
        learned.rule = *std::move(rule);
        failure = SpotCheck(box, learned.relation, *small, options, stats);
        if (failure.ok()) return finish(std::move(learned));
      } else {
        failure = Error(ErrorCode::kRuleNotLearned, box.name, ": what was found at two small shapes does not carry to ",
                        "others: ", first->ToString(), second->ToString());
      }
    } else {
      failure = first.ok() ? second.status() : first.status();
    }
  }
  StatusOr<Rule> here = LearnAt(box, options, stats);
  if (!here.ok()) return finish(here.status());
  learned.relation.witnesses = {*here};
  learned.rule = *std::move(here);
  return finish(std::move(learned));
}

StatusOr<Rule> LearnRule(const BlackBox& box, const ScrambleOptions& options, ScrambleStats* stats) {
  ScrambleStats own;
  ASSIGN_OR_RETURN(Learned learned, LearnTemplate(box, options, stats == nullptr ? own : *stats));
  return std::move(learned.rule);
}

}  // namespace tessera
