// Tests fibres: who runs when, that stacks and registers survive a switch, and that a fibre can be used again.
#include "runtime/simt/fibre.h"

#include <vector>

#include "gtest/gtest.h"

namespace tessera {
namespace {

struct Pair {
  std::unique_ptr<Fibre> caller = Fibre::OfCaller(), other = Fibre::Make();
  std::vector<int> seen;
};

TEST(FibreTest, SwitchesBackAndForthWithItsStack) {
  Pair pair;
  ASSERT_NE(nullptr, pair.other);
  pair.other->Start(
      [](void* argument) {
        auto& p = *static_cast<Pair*>(argument);
        int local[100];
        for (int k = 0; k < 100; ++k) local[k] = k;
        for (int k = 0;; ++k) {
          p.seen.push_back(local[k]);
          EXPECT_TRUE(p.other->Contains(local));
          Fibre::Switch(*p.other, *p.caller);
        }
      },
      &pair);
  double sum = 0;
  for (int k = 0; k < 5; ++k) {
    Fibre::Switch(*pair.caller, *pair.other);
    sum += k * 0.5;
  }
  EXPECT_EQ(5.0, sum);
  EXPECT_EQ((std::vector<int>{0, 1, 2, 3, 4}), pair.seen);
  int here = 0;
  EXPECT_FALSE(pair.other->Contains(&here));
}

TEST(FibreTest, StartsAnewAfterItWasLeftBehind) {
  Pair pair;
  for (int round = 0; round < 3; ++round) {
    pair.other->Start(
        [](void* argument) {
          auto& p = *static_cast<Pair*>(argument);
          p.seen.push_back(static_cast<int>(p.seen.size()));
          Fibre::Switch(*p.other, *p.caller);
          ADD_FAILURE() << "went on after a new start";
        },
        &pair);
    Fibre::Switch(*pair.caller, *pair.other);
  }
  EXPECT_EQ((std::vector<int>{0, 1, 2}), pair.seen);
}

TEST(FibreTest, ManyTakeTurns) {
  struct Ring {
    std::unique_ptr<Fibre> caller = Fibre::OfCaller();
    std::vector<std::unique_ptr<Fibre>> fibres;
    size_t current = 0;
    int turns = 0;
  } ring;
  for (int k = 0; k < 100; ++k) ring.fibres.push_back(Fibre::Make());
  for (auto& fibre : ring.fibres) {
    fibre->Start(
        [](void* argument) {
          auto& r = *static_cast<Ring*>(argument);
          for (;;) {
            ++r.turns;
            const size_t me = r.current;
            r.current = (me + 1) % r.fibres.size();
            Fibre::Switch(*r.fibres[me], r.turns == 1000 ? *r.caller : *r.fibres[r.current]);
          }
        },
        &ring);
  }
  Fibre::Switch(*ring.caller, *ring.fibres[0]);
  EXPECT_EQ(1000, ring.turns);
}

}  // namespace
}  // namespace tessera
