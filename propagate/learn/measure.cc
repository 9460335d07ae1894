// Prober::Measure: a pilot of all kinds of trials, the kinds that are firm, and as many trials of these as the bound
// asks.
#include <algorithm>
#include <cmath>

#include "propagate/learn/probe.h"

namespace tessera {
namespace {

// Trials of each kind in a pilot. A tensor of few elements has few dependences to tell what is firm from.
constexpr int kPilot[kProbeKinds] = {3, 3, 2, 2};
constexpr int kLongPilot[kProbeKinds] = {10, 10, 8, 8};
constexpr size_t kFewTests = 400;
// A dependence that showed in less than this share of the trials of each kind is not firm after all.
constexpr double kFirmShare = 0.75;
constexpr ProbeKind kAllKinds[] = {ProbeKind::kSmooth, ProbeKind::kPositive, ProbeKind::kSpike, ProbeKind::kTies};

bool SameNumber(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

}  // namespace

// One call of Measure.
class Prober::Measurement {
 public:
  Measurement(Prober& prober, int input, std::span<const Group> groups, const Held& held, const MeasureOptions& options)
      : prober_(prober),
        x_(prober.point_[input]),
        input_(input),
        groups_(groups),
        held_(held),
        options_(options),
        outputs_(static_cast<size_t>(prober.num_outputs())),
        trial_(static_cast<int>(prober.rng_() % 1024)),
        done_(groups.size(), 0),
        showed_(outputs_) {
    found_.moved.assign(groups.size(), std::vector<uint8_t>(outputs_, 0));
    found_.finite = found_.moved;
    found_.kinds = options.kinds;
    for (auto& shown : shown_) shown = found_.moved;
  }

  Footprints Run() {
    const int64_t tests = static_cast<int64_t>(groups_.size() * outputs_);
    const bool told = !options_.kinds.empty();
    if (!told) ChooseKinds(Pilot());
    if (!found_.kinds.empty()) {
      const int wanted = Trials(tests, kShowsFirm, options_.max_error);
      RunFirm(wanted);
      if (told || StillFirm()) {
        int least = wanted;
        for (ProbeKind kind : found_.kinds) least = std::min(least, made_[static_cast<int>(kind)]);
        return Finish(tests, kShowsFirm, least);
      }
      found_.kinds.clear();
    }
    int wanted = Trials(tests, kShowsWeak, options_.max_error);
    // Each index is met twice by each kind.
    if (prober_.HasIntegers()) {
      wanted = std::max(wanted, 16 * static_cast<int>(std::min<int64_t>(prober_.largest_extent_, 16)));
    }
    for (int n = 0; found_.trials < wanted && !Enough(); ++n) Try(kAllKinds[n % kProbeKinds]);
    return Finish(tests, kShowsWeak, found_.trials);
  }

 private:
  bool Enough() const {
    return (options_.trials > 0 && found_.trials >= options_.trials) ||
           std::find(done_.begin(), done_.end(), 0) == done_.end();
  }

  Footprints Finish(int64_t tests, double shows, int trials) {
    found_.error_bound = std::min(1.0, static_cast<double>(tests) * std::pow(1 - shows, trials));
    return std::move(found_);
  }

  // One trial of all groups.
  void Try(ProbeKind kind) {
    prober_.DrawBase(kind, trial_++, held_);
    prober_.Run(prober_.base_);
    for (size_t g = 0; g < groups_.size(); ++g) {
      if (!done_[g]) TryGroup(kind, g);
    }
    ++found_.trials;
    ++made_[static_cast<int>(kind)];
  }

  void TryGroup(ProbeKind kind, size_t g) {
    const std::vector<double>&base = prober_.base_, &changed = prober_.changed_;
    std::fill(showed_.begin(), showed_.end(), 0);
    before_.clear();
    for (int64_t e : groups_[g]) before_.push_back(x_.Get(e));
    const int changes = IsBool(x_.type.dtype) ? 1 : prober_.NumChanges(kind);
    for (int change = 0; change < changes; ++change) {
      prober_.Change(kind, change, input_, groups_[g]);
      prober_.Run(prober_.changed_);
      for (size_t j = 0; j < outputs_; ++j) {
        const bool finite = std::isfinite(base[j]) && std::isfinite(changed[j]);
        // Bit 0: it moved; bit 1: from a number to a number, which is what firmness rests on.
        const bool differs = !SameNumber(base[j], changed[j]);
        showed_[j] |= static_cast<uint8_t>(!differs ? 0 : finite ? 3 : options_.finite_only ? 0 : 1);
        if (change == 0) found_.finite[g][j] += finite && found_.finite[g][j] < 255;
      }
    }
    for (size_t n = 0; n < before_.size(); ++n) x_.Set(groups_[g][n], before_[n]);
    uint8_t* moved = found_.moved[g].data();
    for (size_t j = 0; j < outputs_; ++j) moved[j] |= showed_[j] & 1;
    if (kind != ProbeKind::kSpecial) {
      uint8_t* shown = shown_[static_cast<int>(kind)][g].data();
      for (size_t j = 0; j < outputs_; ++j)
        shown[j] = static_cast<uint8_t>(shown[j] + (showed_[j] > 1 && shown[j] < 255));
    }
    if (options_.until_moved && g < options_.expected.size()) {
      bool all = true;
      for (size_t j = 0; all && j < outputs_; ++j) all = !options_.expected[g][j] || moved[j];
      done_[g] = all;
    }
    for (size_t j = 0; options_.until_any && !done_[g] && j < outputs_; ++j) {
      done_[g] = moved[j] && (g >= options_.expected.size() || options_.expected[g][j]);
    }
  }

  // Trials per kind.
  const int* Pilot() {
    const int* pilot = groups_.size() * outputs_ < kFewTests ? kLongPilot : kPilot;
    for (ProbeKind kind : kAllKinds) {
      for (int n = 0; n < pilot[static_cast<int>(kind)] && !Enough(); ++n) Try(kind);
    }
    return pilot;
  }

  // The kinds, in order, that are firm for something for which no earlier one is; none, where some dependence is firm
  // under none.
  void ChooseKinds(const int* pilot) {
    unsigned chosen = 0;
    for (size_t g = 0; g < groups_.size(); ++g) {
      for (size_t j = 0; j < outputs_; ++j) {
        if (!found_.moved[g][j]) continue;
        unsigned firm = 0;
        for (int k = 0; k < kProbeKinds; ++k) firm |= (shown_[k][g][j] == pilot[k] ? 1u : 0u) << k;
        if (firm == 0) return;
        if ((firm & chosen) == 0) chosen |= firm & -firm;
      }
    }
    for (ProbeKind kind : kAllKinds) {
      if ((chosen >> static_cast<int>(kind) & 1) != 0) found_.kinds.push_back(kind);
    }
  }

  void RunFirm(int wanted) {
    for (int n = 0; n < wanted; ++n) {
      for (ProbeKind kind : found_.kinds) {
        if (made_[static_cast<int>(kind)] < wanted && !Enough()) Try(kind);
      }
    }
  }

  // Did all that was found go on showing? What was firm by luck in a short pilot is not.
  bool StillFirm() const {
    for (size_t g = 0; g < groups_.size(); ++g) {
      for (size_t j = 0; j < outputs_; ++j) {
        if (!found_.moved[g][j] || done_[g]) continue;
        bool firm = false;
        for (ProbeKind kind : found_.kinds) {
          const int k = static_cast<int>(kind);
          firm |= shown_[k][g][j] >= kFirmShare * std::min(made_[k], 255);
        }
        if (!firm) return false;
      }
    }
    return true;
  }

  Prober& prober_;
  RefTensor& x_;
  const int input_;
  const std::span<const Group> groups_;
  const Held& held_;
  const MeasureOptions& options_;
  const size_t outputs_;
  int trial_;
  Footprints found_;
  std::vector<std::vector<uint8_t>> shown_[kProbeKinds];  // [kind][group][output element]: in how many trials
  int made_[kProbeKinds + 1] = {};                        // trials of each kind
  std::vector<uint8_t> done_, showed_;
  std::vector<ScalarValue> before_;
};

Footprints Prober::Measure(int input, std::span<const Group> groups, const Held& held, const MeasureOptions& options) {
  return Measurement(*this, input, groups, held, options).Run();
}

}  // namespace tessera
