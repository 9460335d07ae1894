// Tests which steps wait for which: by hand for each way to depend, and at random against all pairs.
#include "runtime/step_order.h"

#include <random>

#include "gtest/gtest.h"

namespace tessera {
namespace {

using Order = std::vector<std::vector<int>>;

// Buffers of 16 bytes in the arena at these offsets, then an input and an output.
Program WithBuffers(const std::vector<int64_t>& offsets) {
  Program p;
  for (int64_t offset : offsets) p.buffers.push_back({.kind = BufferClass::kTemp, .bytes = 16, .offset = offset});
  p.buffers.push_back({.kind = BufferClass::kInput, .bytes = 16, .offset = 0});
  p.buffers.push_back({.kind = BufferClass::kOutput, .bytes = 16, .offset = 0});
  return p;
}

void Add(Program& p, const std::vector<int>& reads, const std::vector<int>& writes) {
  Step step;
  for (int b : reads) step.args.push_back({.buffer = b});
  for (int b : writes) step.args.push_back({.buffer = b, .writes = true});
  p.steps.push_back(step);
}

TEST(StepOrderTest, BranchesMeetWhereBothAreRead) {
  Program p = WithBuffers({0, 16});
  Add(p, {2}, {0});
  Add(p, {2}, {1});
  Add(p, {0, 1}, {3});
  EXPECT_EQ(StepDependencies(p), (Order{{}, {}, {0, 1}}));
}

TEST(StepOrderTest, MemoryTakenAgainWaitsForItsReaders) {
  Program p = WithBuffers({0, 16, 8});  // the third lies over both
  Add(p, {3}, {0});
  Add(p, {0}, {1});
  Add(p, {3}, {2});
  EXPECT_EQ(StepDependencies(p), (Order{{}, {0}, {1}}));
}

TEST(StepOrderTest, ReadersOfOneBufferDoNotWaitForEachOther) {
  Program p = WithBuffers({0, 16, 32});
  Add(p, {3}, {0});
  Add(p, {0}, {1});
  Add(p, {0}, {2});
  EXPECT_EQ(StepDependencies(p), (Order{{}, {0}, {0}}));
}

TEST(StepOrderTest, OutputsCountAndSkippedStepsDoNot) {
  Program p = WithBuffers({0});
  Add(p, {1}, {2});
  Add(p, {1}, {0});
  Add(p, {2}, {2});
  EXPECT_EQ(StepDependencies(p), (Order{{}, {}, {0}}));
  EXPECT_EQ(StepDependencies(p, {true, false, false}), (Order{{}, {}, {}}));
}

// Whatever the edges leave out follows from them, and no edge follows from the others.
TEST(StepOrderTest, RandomProgramsHaveTheLeastEdgesThatOrderAllConflicts) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    std::mt19937_64 rng(seed);
    std::vector<int64_t> offsets(8);
    for (int64_t& offset : offsets) offset = static_cast<int64_t>(rng() % 64);
    Program p = WithBuffers(offsets);
    const int count = 24;
    for (int s = 0; s < count; ++s) Add(p, {static_cast<int>(rng() % 9)}, {static_cast<int>(rng() % 8)});
    const Order order = StepDependencies(p);
    std::vector<std::vector<bool>> reach(count, std::vector<bool>(count));
    for (int s = 0; s < count; ++s) {
      for (int t : order[s]) {
        for (int u : order[s]) EXPECT_FALSE(u != t && reach[t][u]) << "seed " << seed << ": " << s << " needs no " << u;
        reach[s][t] = true;
        for (int u = 0; u < count; ++u) reach[s][u] = reach[s][u] || reach[t][u];
      }
    }
    for (int s = 0; s < count; ++s) {
      for (int t = 0; t < s; ++t) {
        bool conflict = false;
        for (const StepArg& a : p.steps[s].args) {
          for (const StepArg& b : p.steps[t].args) {
            const ProgramBuffer &x = p.buffers[a.buffer], &y = p.buffers[b.buffer];
            conflict |= (a.writes || b.writes) && x.kind == BufferClass::kTemp && y.kind == x.kind &&
                        x.offset < y.offset + 16 && y.offset < x.offset + 16;
          }
        }
        EXPECT_TRUE(!conflict || reach[s][t]) << "seed " << seed << ": " << s << " must wait for " << t;
      }
    }
  }
}

}  // namespace
}  // namespace tessera
