#include "graph/passes/move_scales.h"

#include "graph/passes/testing/keeps_integers.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

TEST(MoveScales, KeepsEveryBitOfExactNetworks) { ExpectKeepsExactNetworks(MoveScales, 500); }
TEST(MoveScales, StaysWithinAStep) { ExpectStaysWithinAStep(MoveScales, 300); }

}  // namespace
}  // namespace tessera
