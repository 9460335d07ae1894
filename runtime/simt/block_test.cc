// Tests how the threads of a block take turns and meet, with kernels written in C++: every order, partial warps, and
// meetings that cannot happen.
#include "runtime/simt/block.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/simt/stand_ins.h"

namespace tessera {
namespace {

enum Op { kThread, kBarrier, kShuffleXor, kWarpBarrier };
const SimtStandIn kOps[] = {FindSimtStandIn("gpu.thread_id.x"), FindSimtStandIn("gpu.barrier"),
                            FindSimtStandIn("gpu.shuffle_xor"), FindSimtStandIn("gpu.warp_barrier")};

uint32_t Call(SimtContext* context, Op op, const char* site, uint64_t a = 0, uint64_t b = 0) {
  const uint64_t operands[] = {a, b};
  uint64_t result = 0;
  context->ops[op](context, site, operands, &result);
  return static_cast<uint32_t>(result);
}

constexpr SimtSchedule kSchedules[] = {{SimtOrder::kForward, 1}, {SimtOrder::kReverse, 1}, {SimtOrder::kRandom, 5}};

Status RunKernel(SimtKernel kernel, int threads, std::vector<uint32_t>& memory, const SimtSchedule& schedule,
                 int64_t shared_bytes = 0) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SimtBlock> block, SimtBlock::Make());
  SimtLaunch launch;
  launch.entry = kernel;
  launch.ops = kOps;
  launch.params = {reinterpret_cast<uint64_t>(memory.data())};
  launch.kernel = "k";
  launch.node = "n";
  launch.threads = threads;
  launch.shared_bytes = shared_bytes;
  launch.ranges = {
      {"memory", reinterpret_cast<std::byte*>(memory.data()), static_cast<int64_t>(memory.size() * 4), true}};
  return block->Run(launch, {0, 0, 0}, schedule);
}

uint32_t* MemoryOf(const uint64_t* params) { return reinterpret_cast<uint32_t*>(params[0]); }

TEST(SimtBlockTest, ThreadsRunInTheOrderAskedFor) {
  const SimtKernel notes_order = [](SimtContext* context, const uint64_t* params) {
    uint32_t* memory = MemoryOf(params);
    memory[1 + memory[0]++] = Call(context, kThread, "here");
  };
  std::vector<uint32_t> ids(100);
  std::iota(ids.begin(), ids.end(), 0);
  for (const SimtSchedule& schedule : kSchedules) {
    std::vector<uint32_t> memory(101);
    ASSERT_TRUE(RunKernel(notes_order, 100, memory, schedule).ok());
    EXPECT_EQ(100u, memory[0]);
    std::vector<uint32_t> order(memory.begin() + 1, memory.end());
    if (schedule.order == SimtOrder::kForward) {
      EXPECT_EQ(ids, order);
    }
    if (schedule.order == SimtOrder::kReverse) {
      EXPECT_EQ(ids, std::vector<uint32_t>(order.rbegin(), order.rend()));
    }
    if (schedule.order == SimtOrder::kRandom) {
      EXPECT_NE(ids, order);
    }
    std::sort(order.begin(), order.end());
    EXPECT_EQ(ids, order);
  }
}

TEST(SimtBlockTest, BarriersAndShufflesJoinAllThreads) {
  // After each barrier every thread sees what all did before it; the last warp has 4 lanes.
  const SimtKernel kernel = [](SimtContext* context, const uint64_t* params) {
    uint32_t* memory = MemoryOf(params);
    const uint32_t me = Call(context, kThread, "id");
    for (int round = 0; round < 20; ++round) {
      ++memory[1000];
      Call(context, kBarrier, "first");
      EXPECT_EQ(100u * (round + 1), memory[1000]);
      Call(context, kBarrier, "second");
    }
    const uint32_t other = Call(context, kShuffleXor, "shuffle", me * 10, 3);
    EXPECT_EQ((me ^ 3) * 10, other);
    memory[me] = other;
  };
  for (const SimtSchedule& schedule : kSchedules) {
    std::vector<uint32_t> memory(1001);
    ASSERT_TRUE(RunKernel(kernel, 100, memory, schedule).ok());
    for (uint32_t t = 0; t < 100; ++t) EXPECT_EQ((t ^ 3) * 10, memory[t]);
  }
}

TEST(SimtBlockTest, AThreadThatEndsEarlyIsNamed) {
  const SimtKernel kernel = [](SimtContext* context, const uint64_t*) {
    if (Call(context, kThread, "id") != 70) Call(context, kBarrier, "barrier of 'loop'");
  };
  std::vector<uint32_t> memory(1);
  for (const SimtSchedule& schedule : kSchedules) {
    const Status status = RunKernel(kernel, 100, memory, schedule);
    EXPECT_EQ(ErrorCode::kKernelFaulty, status.code());
    for (const char* part : {"kernel 'k' of node 'n', block (0,0,0)", "99 of 100 threads wait", "barrier of 'loop'",
                             "thread 70 has ended"}) {
      EXPECT_NE(std::string::npos, status.message().find(part)) << status;
    }
  }
}

TEST(SimtBlockTest, LanesAtDifferentPlacesAreNamed) {
  const SimtKernel kernel = [](SimtContext* context, const uint64_t*) {
    const char* site = Call(context, kThread, "id") % 2 == 0 ? "even's" : "odd's";
    Call(context, kShuffleXor, site, 1, 2);
  };
  std::vector<uint32_t> memory(1);
  for (const SimtSchedule& schedule : kSchedules) {
    const Status status = RunKernel(kernel, 32, memory, schedule);
    EXPECT_NE(std::string::npos, status.message().find("waits at another place")) << status;
  }
}

TEST(SimtBlockTest, ChecksBoundsAlignmentAndWarpOrder) {
  std::vector<uint32_t> memory(4);
  const SimtKernel outside = [](SimtContext* context, const uint64_t* params) {
    const SimtAccess access = {.bytes = 4, .align_log2 = 2};
    context->check(context, "load", MemoryOf(params) + 3, access.Encode());
    context->check(context, "load", MemoryOf(params) + 4, access.Encode());
    ADD_FAILURE() << "went on after a fault";
  };
  EXPECT_NE(
      std::string::npos,
      RunKernel(outside, 1, memory, {}).message().find("loads 4 bytes at offset 16 of 'memory', which has 16 bytes"));
  const SimtKernel crooked = [](SimtContext* context, const uint64_t* params) {
    const SimtAccess access = {.bytes = 8, .align_log2 = 3, .stores = true};
    context->check(context, "store", reinterpret_cast<std::byte*>(MemoryOf(params)) + 4, access.Encode());
    context->check(context, "store", MemoryOf(params) + 2, access.Encode());
  };
  EXPECT_NE(std::string::npos, RunKernel(crooked, 1, memory, {}).message().find("a multiple of 8"));
  // One lane writes for its warp.
  const SimtKernel broadcast = [](SimtContext* context, const uint64_t*) {
    SimtAccess access = {.bytes = 4, .align_log2 = 2, .stores = true, .shared = true};
    if (Call(context, kThread, "id") == 5) context->check(context, "store", context->shared, access.Encode());
    Call(context, kWarpBarrier, "meet");
    access.stores = false;
    context->check(context, "load", context->shared, access.Encode());
  };
  for (const SimtSchedule& schedule : kSchedules) {
    const Status status = RunKernel(broadcast, 32, memory, schedule, 16);
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_FALSE(RunKernel(broadcast, 64, memory, {}, 16).ok()) << "the second warp did not meet the first";
}

}  // namespace
}  // namespace tessera
