// keeps_integers: what passes over quantised networks keep, on random ones (graph/testing/random_quantized.h).
//
//   TEST(UseIntegers, KeepsEveryBitOfExactNetworks) { ExpectKeepsExactNetworks(UseIntegers, 300); }
//   TEST(UseIntegers, StaysWithinAStep) { ExpectStaysWithinAStep(UseIntegers, 300); }
//
// Both report to googletest, with the seed and both graphs. Tested by the passes' tests, which it serves.
#ifndef TESSERA_GRAPH_PASSES_TESTING_KEEPS_INTEGERS_H_
#define TESSERA_GRAPH_PASSES_TESTING_KEEPS_INTEGERS_H_

#include "graph/passes/testing/keeps_meaning.h"

namespace tessera {

// Networks in which f32 holds every value: outputs are the same to the last bit, by references and by computes.
void ExpectKeepsExactNetworks(PassFunction pass, int num_graphs);

// Networks of one operation between quantised values, any scales: integers differ by one step at most, and in few
// elements (a real next to the middle of two steps may round to either); floats in their last digits, or by a step
// where they are dequantised.
void ExpectStaysWithinAStep(PassFunction pass, int num_graphs);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_TESTING_KEEPS_INTEGERS_H_
