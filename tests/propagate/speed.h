// speed: how long propagation of a pruned network of the catalog takes, and how much memory.
//
//   ASSIGN_OR_RETURN(SpeedFigures f, MeasurePropagation({.network = "bert_base", .prune = "90%:fine"}));
//   f.seconds_first, f.seconds_cached, f.peak_bytes / f.weight_bytes
//
// `first` includes all that a fresh process does: rules are learned (or derived) and checked. `cached` is a second book
// that was given the file of the first. Times are of the processor, not of the clock: other programs on the machine do
// not count. The peak is that of the process while it propagates, the model itself included.
#ifndef TESSERA_TESTS_PROPAGATE_SPEED_H_
#define TESSERA_TESTS_PROPAGATE_SPEED_H_

#include <cstdint>
#include <string>

#include "base/status.h"
#include "propagate/rule_book.h"

namespace tessera {

struct SpeedCase {
  std::string network;
  std::string prune;  // as ParsePruneSpec
  RuleMode rules = RuleMode::kExact;
};

struct SpeedFigures {
  double seconds_first = 0, seconds_cached = 0;
  double seconds_rules = 0;  // of seconds_first: getting the rules
  int64_t weight_bytes = 0, peak_bytes = 0, fact_bytes = 0;
  int64_t kept_before = 0, kept_after = 0;  // of all weights
  int64_t nodes = 0, rules = 0;
  std::string ToString() const;
};

// Of this process so far.
double ProcessorSeconds();

StatusOr<SpeedFigures> MeasurePropagation(const SpeedCase& c);

}  // namespace tessera

#endif  // TESSERA_TESTS_PROPAGATE_SPEED_H_
