// KnownClause: a clause's walk with what its lookups and annihilators are known to be. Internal to RuleTransfer.
// Tested by apply_test.cc.
#ifndef TESSERA_PROPAGATE_RULE_APPLY_KNOWN_CLAUSE_H_
#define TESSERA_PROPAGATE_RULE_APPLY_KNOWN_CLAUSE_H_

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "propagate/rule/apply_walk.h"
#include "tesa/known.h"

namespace tessera {

class KnownClause {
 public:
  // `cache` holds what was looked up, by operand; all arguments outlive the object. Without `stops` no annihilator
  // takes part.
  KnownClause(const Clause& clause, std::span<const Known* const> inputs, std::map<int, LookupValues>& cache,
              bool stops = true)
      : inputs_(inputs), lookups_(Lookups(clause, inputs, cache)), walk_(clause, lookups_) {
    if (!stops) return;
    for (const Annihilator& unless : clause.unless) Stop(unless);
  }

  void Stop(const Annihilator& unless) {
    const Known* known = inputs_[unless.input];
    if (known == nullptr) return;  // an absent operand annihilates nothing
    if (unless.value == 0) {
      walk_.Stop(unless, known->kind, static_cast<uint8_t>(Certainty::kZero));
    } else {
      equal_.push_back(std::make_unique<Cells<uint8_t>>(known->EqualTo(unless.value)));
      walk_.Stop(unless, *equal_.back(), 1);
    }
  }
  ClauseWalk& walk() { return walk_; }

 private:
  static std::vector<const LookupValues*> Lookups(const Clause& clause, std::span<const Known* const> inputs,
                                                  std::map<int, LookupValues>& cache) {
    std::vector<const LookupValues*> lookups;
    for (const Lookup& lookup : clause.lookups) {
      const auto [found, fresh] = cache.try_emplace(lookup.input);
      if (fresh && inputs[lookup.input] != nullptr) {
        found->second = LookupValues::Of(*inputs[lookup.input]);
      } else if (fresh) {
        found->second.values.assign(lookup.at.view.num_elements(), LookupValues::kNotKnown);
      }
      lookups.push_back(&found->second);
    }
    return lookups;
  }

  std::span<const Known* const> inputs_;
  std::vector<const LookupValues*> lookups_;
  std::vector<std::unique_ptr<Cells<uint8_t>>> equal_;
  ClauseWalk walk_;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_RULE_APPLY_KNOWN_CLAUSE_H_
