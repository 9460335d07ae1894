// Annihilate: which elements of another operand, at 0 or 1, stop a dependence; and which integer operands are looked
// up.
//
//   clause   out0[a,b] <- in0[a,c]                      scrambling has found and fitted this much
//   hold     in1 all at 0: nothing moves any more; in1[bit 0 of row = 1, *] at 0: half of it …
//   clause   out0[a,b] <- in0[a,c]  unless in1[c,b] = 0
//
// An operand z is first held whole. Where that stops the dependence, slabs of z are held, one for each bit of the index
// along each axis, and its complement: the index whose slabs stop it is read off bit by bit, so that an axis of n
// indices takes 2 log2(n) measurements. If both slabs of a bit stop it any index does; if neither, all of the axis is
// needed. The indices read off at some points are then fitted by those points' variables (FitIndex). A guess like the
// fit itself: CheckRule holds it against random masks. Tested by scramble_test.cc.
#ifndef TESSERA_PROPAGATE_LEARN_ANNIHILATE_H_
#define TESSERA_PROPAGATE_LEARN_ANNIHILATE_H_

#include <cstdint>
#include <vector>

#include "propagate/learn/probe.h"
#include "propagate/rule/rule.h"

namespace tessera {

// What was measured of one input with nothing held.
struct Sampled {
  std::vector<int64_t> elements;
  Footprints footprints;  // [n] of elements[n]
  bool special = false;   // nothing moves but with NaN or infinity
};

// Adds to `clause`, which is clause `rule`.clauses[index], what scrambling finds. `sampled` is of its input.
void FindAnnihilators(Prober& prober, const Rule& rule, const Sampled& sampled, Clause& clause);

// Gives an axis of the clause's input that is free the value of an integer operand as its index, where that is so: the
// dependence under a fixed operand is narrower. `others`: clauses of the rule, of which those of the operand say where
// it is read. True when it found one.
bool FindLookup(Prober& prober, const Rule& rule, const Sampled& sampled, const std::vector<Clause>& others,
                Clause& clause);

// Holds a fitted rule against measurements: without masks on `rows` of each input, then with random elements and slices
// of operands held. kRuleNotLearned names the first disagreement.
struct CheckOptions {
  int rounds = 6;        // of random masks
  int rows = 6;          // input elements per round
  double seconds = 1e9;  // stops quietly when spent
};
Status CheckRule(Prober& prober, const Rule& rule, const std::vector<Sampled>& sampled, const CheckOptions& options);

// Does the rule, with nothing held, give exactly what was measured of one input in one output?
bool Agrees(const Prober& prober, const Rule& rule, const Sampled& sampled, const Clause& clause);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_LEARN_ANNIHILATE_H_
