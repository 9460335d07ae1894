#include "graph/passes/recognize.h"

#include "graph/passes/testing/keeps_meaning.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

TEST(Recognize, KeepsMeaningOfRandomGraphs) { ExpectKeepsMeaning(Recognize); }

}  // namespace
}  // namespace tessera
