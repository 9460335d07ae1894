#include "graph/passes/fold_batch_norm.h"

#include "graph/passes/testing/keeps_meaning.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

TEST(FoldBatchNorm, KeepsMeaningOfRandomGraphs) { ExpectKeepsMeaning(FoldBatchNorm); }

}  // namespace
}  // namespace tessera
