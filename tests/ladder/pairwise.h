// PairwiseCover: few rows in which any two factors meet at every pair of their levels.
//
//   PairwiseCover({8, 7, 3})           // 8 chips, 7 patterns, 3 precisions: 56 rows instead of 168
//   rows[0] == {0, 0, 0}
//
// Most faults that depend on several factors depend on two of them (Kuhn, Wallace, Gallo, IEEE TSE 30(6), 2004), so
// that such rows stand for all combinations where there is no time for these. Greedy and deterministic: equal arguments
// give equal rows. Pure function. Tested by pairwise_test.cc.
#ifndef TESSERA_TESTS_LADDER_PAIRWISE_H_
#define TESSERA_TESTS_LADDER_PAIRWISE_H_

#include <vector>

namespace tessera {

// A row has a level of each factor, from 0 to levels[factor] - 1. At least as many rows as the two largest factors have
// pairs. No factor may be without levels.
std::vector<std::vector<int>> PairwiseCover(const std::vector<int>& levels);

}  // namespace tessera

#endif  // TESSERA_TESTS_LADDER_PAIRWISE_H_
