// Probe: runs a black box on random values and says which elements of its outputs move when elements of an input
// change.
//
//   Prober prober(box, /*seed=*/1);
//   Footprints f = prober.Measure(/*input=*/0, {{0}, {1}, {2}}, held, {.max_error = 1e-9});
//   f.moved[2][j];                     // output element j moves with element 2 of input 0
//
// One trial draws a base point, runs it, changes one group of elements, runs again and compares every output element
// exactly: equal as numbers, or both NaN. There is no threshold, so that tiny weights and half-precision numbers are
// seen like any others. How a base point is drawn and a group changed is the trial's kind, because no single way shows
// every dependence:
//
//   kSmooth    magnitudes log-uniform in 0.05…4, both signs; redrawn                             matmul, softmax, gelu
//   kPositive  the same, all positive, bools true; redrawn                               sqrt, log, batch norm, and
//   kSpike     as smooth; up to +1e3…1e6 times the largest held, then down to the opposite      max, arg max, relu6,
//   clip: all that select or
//                                                                          saturate and rise or fall without end
//   kTies      values of {-1, 0, 1, 2}, bools false; every other one of them in turn      equal, floor, casts, or
//
// Integers without a range of their own walk through all indices, modulo the largest extent and each starting at its
// own, so that a look-up meets every index equally often; in every other trial they are small numbers of both signs.
//
// Assumption, per trial of the kind that fits: a dependence shows with probability at least kShowsFirm. Which kinds fit
// is read off the dependences that a pilot finds: those that show in every pilot trial of a kind, and in three of four
// of all trials of it afterwards, are firm under it. Where some are firm under none (a logical `and` of many),
// kShowsWeak is assumed instead, of trials of all kinds. NaN and infinity (kSpecial) are for ops of which nothing else
// moves anything: is_nan. One thread per object. Tested by probe_test.cc.
#ifndef TESSERA_PROPAGATE_LEARN_PROBE_H_
#define TESSERA_PROPAGATE_LEARN_PROBE_H_

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "propagate/rule/black_box.h"

namespace tessera {

// A smooth dependence is lost to rounding only (exp of large numbers, sums that cancel): rarely. A spike against a
// selecting or saturating op shows always; 0.9 leaves room for one draw in ten that does not.
inline constexpr double kShowsFirm = 0.9;
// Where the kind is not known, trials of the four kinds take turns: one in four fits, nine times in ten.
inline constexpr double kShowsWeak = 0.2;

enum class ProbeKind : uint8_t { kSmooth, kPositive, kSpike, kTies, kSpecial };
inline constexpr int kProbeKinds = 4;  // without kSpecial

// Elements that stay at a value through all trials; an empty vector: all of that input are free.
struct Held {
  std::vector<std::vector<uint8_t>> is_held;  // [input][element]
  std::vector<std::vector<double>> value;

  explicit Held(size_t inputs = 0) : is_held(inputs), value(inputs) {}
  void Set(const BlackBox& box, int input, int64_t element, double to);
  bool Has(int input, int64_t element) const { return !is_held[input].empty() && is_held[input][element]; }
};

using Group = std::vector<int64_t>;  // elements of one input that change together

struct Footprints {
  std::vector<std::vector<uint8_t>> moved;  // [group][output element, all outputs one behind the other]
  // [output element]: trials in which it was finite before and after; a verdict of "did not move" rests on these.
  std::vector<std::vector<uint8_t>> finite;
  std::vector<ProbeKind> kinds;  // under which every dependence found was firm; empty: none, weak trials were added
  int trials = 0;                // per group
  double error_bound = 0;        // chance that any dependence was missed
};

struct MeasureOptions {
  double max_error = 1e-9;
  std::vector<ProbeKind> kinds = {};  // known to be firm; empty: found out by a pilot
  int trials = 0;                     // at most; 0: as many as max_error asks for
  bool finite_only = false;           // moves from or to NaN or infinity do not count: 0 * NaN does not arise
  bool until_moved = false;           // a group's trials end when all that `expected` names has moved
  bool until_any = false;             // … when any that `expected` names has moved
  std::vector<std::vector<uint8_t>> expected = {};  // [group][output element], may be empty
};

// The least number of trials for which `tests` tests err with probability at most max_error in all.
int Trials(int64_t tests, double shows, double max_error);

class Prober {
 public:
  Prober(const BlackBox& box, uint64_t seed);

  const BlackBox& box() const { return box_; }
  int num_inputs() const { return static_cast<int>(box_.inputs.size()); }
  bool has_input(int k) const { return box_.inputs[k].has_value(); }
  const Shape& shape(int k) const { return box_.inputs[k]->shape; }
  // Of all outputs; output t's elements begin at first(t).
  int64_t num_outputs() const { return first_.back(); }
  int64_t first(int t) const { return first_[t]; }
  int64_t runs() const { return runs_; }
  std::mt19937_64& rng() { return rng_; }
  // Seconds that one run takes, from a few of them.
  double SecondsPerRun();

  Footprints Measure(int input, std::span<const Group> groups, const Held& held, const MeasureOptions& options = {});

  // One base point of a kind with what is held, run: the outputs' values (integers exact up to 2^53).
  const std::vector<double>& RunBase(ProbeKind kind, int trial, const Held& held);
  // As RunBase with every free element a spike: +1 up, -1 down, 0 either.
  const std::vector<double>& RunSpikes(int sign, int trial, const Held& held);

 private:
  class Measurement;

  double Spike();
  void DrawBase(ProbeKind kind, int trial, const Held& held);
  bool HasIntegers() const;
  int NumChanges(ProbeKind kind) const;
  void Change(ProbeKind kind, int change, int input, const Group& group);
  void Run(std::vector<double>& results);
  double Draw(ProbeKind kind);
  int64_t DrawInt(ProbeKind kind, int input, int64_t element, int trial);
  // What integers of an input are drawn from, [first, second).
  std::pair<int64_t, int64_t> IndexRange(int input) const;

  const BlackBox& box_;
  std::mt19937_64 rng_;
  int64_t runs_ = 0;
  int64_t largest_extent_ = 1;
  double largest_held_ = 1;  // magnitude: spikes are larger
  std::vector<int64_t> first_;
  std::vector<RefTensor> point_, outputs_;
  std::vector<const RefTensor*> arguments_;
  std::vector<double> base_, changed_;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_LEARN_PROBE_H_
