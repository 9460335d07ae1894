// Tests what is said about accesses to shared memory: which pairs must meet between, and what counts as a meeting.
#include "runtime/simt/shared_memory.h"

#include <cstring>

#include "gtest/gtest.h"

namespace tessera {
namespace {

class SharedMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(shared_.Resize(256).ok());
    shared_.StartBlock();
  }
  static bool Names(const std::optional<std::string>& hazard, const std::string& part) {
    return hazard.has_value() && hazard->find(part) != std::string::npos;
  }

  SharedMemory shared_;
};

TEST_F(SharedMemoryTest, StartsAsNaNs) {
  float values[64];
  std::memcpy(values, shared_.data(), sizeof(values));
  for (float value : values) EXPECT_NE(value, value);
}

TEST_F(SharedMemoryTest, ReadingWhatAnotherWroteNeedsABarrier) {
  EXPECT_FALSE(shared_.Write(8, 4, {.thread = 3}));
  EXPECT_FALSE(shared_.Read(8, 4, {.thread = 3})) << "its own";
  EXPECT_TRUE(Names(shared_.Read(11, 4, {.thread = 40}), "byte 11 of shared memory, which thread 3 wrote"));
  EXPECT_FALSE(shared_.Read(12, 4, {.thread = 40}));
  shared_.Barrier();
  EXPECT_FALSE(shared_.Read(8, 4, {.thread = 40}));
}

TEST_F(SharedMemoryTest, WritingWhatAnotherReadOrWroteNeedsABarrier) {
  EXPECT_FALSE(shared_.Read(0, 4, {.thread = 1}));
  EXPECT_FALSE(shared_.Write(0, 4, {.thread = 1})) << "the only reader";
  shared_.Barrier();
  EXPECT_FALSE(shared_.Read(0, 4, {.thread = 1}));
  EXPECT_FALSE(shared_.Read(0, 4, {.thread = 2}));
  EXPECT_TRUE(Names(shared_.Write(0, 4, {.thread = 2}), "read since the last barrier")) << "one of two readers";
  shared_.Barrier();
  EXPECT_FALSE(shared_.Write(0, 4, {.thread = 2}));
  EXPECT_TRUE(Names(shared_.Write(3, 1, {.thread = 5}), "which thread 2 wrote"));
}

TEST_F(SharedMemoryTest, AWarpsMeetingCountsWithinTheWarp) {
  EXPECT_FALSE(shared_.Write(0, 4, {.thread = 1, .warp_meetings = 0}));
  EXPECT_TRUE(shared_.Read(0, 4, {.thread = 2, .warp_meetings = 0}));
  EXPECT_FALSE(shared_.Read(0, 4, {.thread = 2, .warp_meetings = 1}));
  EXPECT_TRUE(shared_.Read(0, 4, {.thread = 33, .warp_meetings = 1})) << "another warp";
  // All lanes read, meet, and one writes.
  for (int t = 0; t < 32; ++t) EXPECT_FALSE(shared_.Read(16, 4, {.thread = t, .warp_meetings = 1}));
  EXPECT_TRUE(shared_.Write(16, 4, {.thread = 31, .warp_meetings = 1}));
  EXPECT_FALSE(shared_.Write(16, 4, {.thread = 31, .warp_meetings = 2}));
}

TEST_F(SharedMemoryTest, BytesOfACopyAreItsOwnUntilItHasArrived) {
  std::memset(shared_.data(), 0, 256);
  EXPECT_FALSE(shared_.StartCopy(32, 16, {.thread = 7}));
  EXPECT_TRUE(Names(shared_.Read(40, 4, {.thread = 7}), "an asynchronous copy of thread 7 has yet to bring"));
  shared_.Barrier();
  EXPECT_TRUE(Names(shared_.Read(40, 4, {.thread = 9}), "a wait or a barrier is missing")) << "a barrier is no wait";
  float value;
  std::memcpy(&value, shared_.data() + 32, 4);
  EXPECT_NE(value, value);
  shared_.EndCopy(32, 16, {.thread = 7});
  EXPECT_FALSE(shared_.Read(40, 4, {.thread = 7}));
  EXPECT_TRUE(shared_.Read(40, 4, {.thread = 9})) << "others see it after a barrier";
  shared_.Barrier();
  EXPECT_FALSE(shared_.Read(40, 4, {.thread = 9}));
}

TEST_F(SharedMemoryTest, ABlockForgetsTheOneBefore) {
  EXPECT_FALSE(shared_.Write(0, 4, {.thread = 3}));
  EXPECT_FALSE(shared_.StartCopy(32, 16, {.thread = 7}));
  shared_.StartBlock();
  EXPECT_FALSE(shared_.Read(0, 48, {.thread = 40}));
}

}  // namespace
}  // namespace tessera
