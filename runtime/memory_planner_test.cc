#include "runtime/memory_planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace tessera {
namespace {

using Requests = std::vector<BufferRequest>;

constexpr double kMiB = 1024.0 * 1024.0;

BufferRequest Buffer(uint64_t size, int32_t first, int32_t last) {
  return BufferRequest{.size_bytes = size, .first_step = first, .last_step = last};
}

BufferRequest View(uint64_t size, int32_t first, int32_t last, int32_t of, uint64_t offset) {
  BufferRequest request = Buffer(size, first, last);
  request.alias_of = of;
  request.alias_offset = offset;
  return request;
}

BufferRequest InPlace(uint64_t size, int32_t first, int32_t last, std::vector<int32_t> candidates) {
  BufferRequest request = Buffer(size, first, last);
  request.in_place_of = std::move(candidates);
  return request;
}

MemoryPlan Plan(const Requests& requests, const MemoryPlanOptions& options = {}) {
  StatusOr<MemoryPlan> plan = PlanMemory(requests, options);
  if (!plan.ok()) {
    ADD_FAILURE() << plan.status();
    return MemoryPlan{.offsets = std::vector<uint64_t>(requests.size()),
                      .in_place_of = std::vector<int32_t>(requests.size(), -1)};
  }
  return *std::move(plan);
}

int32_t Root(const Requests& requests, int32_t i) {
  while (requests[i].alias_of >= 0) i = requests[i].alias_of;
  return i;
}

// Follows the content of the arena the slow way, byte by byte, as a run would: a buffer writes the bytes that no
// earlier relative wrote at its first step, and finds them intact at every step up to its last. `granted` in-place
// results may overwrite their candidate at its last step, after it was read.
void SimulateRun(const Requests& requests, const MemoryPlan& plan) {
  constexpr int32_t kNobody = -1;
  const int32_t count = static_cast<int32_t>(requests.size());
  ASSERT_EQ(plan.offsets.size(), requests.size());
  int32_t steps = 0;
  for (const BufferRequest& request : requests) steps = std::max(steps, request.last_step + 1);
  for (int32_t i = 0; i < count; ++i) {
    ASSERT_LE(plan.offsets[i] + requests[i].size_bytes, plan.arena_bytes) << "buffer " << i << " leaves the arena";
    if (requests[i].alias_of >= 0) {
      ASSERT_EQ(plan.offsets[i], plan.offsets[requests[i].alias_of] + requests[i].alias_offset) << "view " << i;
    } else {
      ASSERT_EQ(plan.offsets[i] % kBufferAlignment, 0u) << "buffer " << i;
    }
    if (plan.in_place_of[i] >= 0) {
      ASSERT_EQ(plan.offsets[i], plan.offsets[plan.in_place_of[i]]) << "buffer " << i << " in place";
      ASSERT_TRUE(std::count(requests[i].in_place_of.begin(), requests[i].in_place_of.end(), plan.in_place_of[i]));
    }
  }
  std::vector<int32_t> owner(plan.arena_bytes, kNobody);  // the root whose content each byte holds
  for (int32_t step = 0; step < steps; ++step) {
    // Reads come before writes, except that the step's own results may not destroy each other or what is read
    // elsewhere: a result may only write over what this step reads if it was granted that.
    std::vector<bool> read_now(plan.arena_bytes, false);
    std::vector<int32_t> reader(plan.arena_bytes, kNobody);
    for (int32_t i = 0; i < count; ++i) {
      if (requests[i].first_step >= step || requests[i].last_step < step) continue;
      for (uint64_t byte = plan.offsets[i]; byte < plan.offsets[i] + requests[i].size_bytes; ++byte) {
        ASSERT_EQ(owner[byte], Root(requests, i))
            << "step " << step << ": byte " << byte << " of buffer " << i << " was overwritten";
        if (read_now[byte]) {
          reader[byte] = -2;  // two relatives read it: nobody may take it over
        } else {
          read_now[byte] = true;
          reader[byte] = i;
        }
      }
    }
    for (int32_t i = 0; i < count; ++i) {
      if (requests[i].first_step != step) continue;
      const int32_t root = Root(requests, i);
      const int32_t candidate = plan.in_place_of[root];
      for (uint64_t byte = plan.offsets[i]; byte < plan.offsets[i] + requests[i].size_bytes; ++byte) {
        if (owner[byte] == root) continue;  // a relative wrote it, before or in this step
        ASSERT_TRUE(!read_now[byte] || (candidate >= 0 && reader[byte] == candidate))
            << "step " << step << ": buffer " << i << " overwrites byte " << byte << ", which buffer " << reader[byte]
            << " still holds";
        owner[byte] = root;
        read_now[byte] = true;
        reader[byte] = i;
      }
    }
  }
}

// The bound, computed the slow way for requests without views and wishes.
uint64_t SlowBound(const Requests& requests) {
  uint64_t bound = 0;
  int32_t steps = 0;
  for (const BufferRequest& request : requests) steps = std::max(steps, request.last_step + 1);
  for (int32_t step = 0; step < steps; ++step) {
    uint64_t live = 0;
    for (const BufferRequest& request : requests) {
      if (request.first_step <= step && step <= request.last_step) live += (request.size_bytes + 63) / 64 * 64;
    }
    bound = std::max(bound, live);
  }
  return bound;
}

// A chain in which step i writes buffer i and reads the buffers of `reads`; appended with Add.
class Network {
 public:
  explicit Network(int element_bytes = 4) : element_bytes_(element_bytes) {}

  // A tensor written at the next step from `inputs`; in place of the first one when `in_place`.
  int32_t Add(double elements, const std::vector<int32_t>& inputs, bool in_place = false) {
    const int32_t step = static_cast<int32_t>(requests_.size());
    for (int32_t input : inputs) requests_[input].last_step = step;
    requests_.push_back(Buffer(static_cast<uint64_t>(elements * element_bytes_), step, step));
    if (in_place) requests_.back().in_place_of = inputs;
    return step;
  }

  const Requests& requests() const { return requests_; }

 private:
  int element_bytes_;
  Requests requests_;
};

Requests MobileNetV1() {
  Network net;
  int32_t x = net.Add(224 * 224 * 3, {});
  x = net.Add(112 * 112 * 32, {x});
  int size = 112, channels = 32;
  const int blocks[][2] = {{64, 1},  {128, 2}, {128, 1}, {256, 2}, {256, 1},  {512, 2}, {512, 1},
                           {512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1}};
  for (const auto& [out, stride] : blocks) {
    size /= stride;
    x = net.Add(size * size * channels, {x});
    channels = out;
    x = net.Add(size * size * channels, {x});
  }
  x = net.Add(1024, {x});
  net.Add(1000, {x});
  return net.requests();
}

// `fused`: expansion and depthwise are one kernel and the residual is added in place.
Requests MobileNetV2(bool fused) {
  Network net;
  int32_t x = net.Add(224 * 224 * 3, {});
  x = net.Add(112 * 112 * 32, {x});
  int size = 112, channels = 32;
  const int stages[][4] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                           {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  for (const auto& [factor, out, repeats, first_stride] : stages) {
    for (int repeat = 0; repeat < repeats; ++repeat) {
      const int stride = repeat == 0 ? first_stride : 1;
      const int32_t skip = x;
      if (factor != 1 && !fused) x = net.Add(size * size * channels * factor, {x});
      size /= stride;
      x = net.Add(size * size * channels * factor, {x});
      const bool residual = stride == 1 && channels == out;
      if (residual && fused) {
        x = net.Add(size * size * out, {skip, x}, /*in_place=*/true);
      } else {
        x = net.Add(size * size * out, {x});
        if (residual) x = net.Add(size * size * out, {skip, x}, /*in_place=*/fused);
      }
      channels = out;
    }
  }
  x = net.Add(7 * 7 * 1280, {x});
  x = net.Add(1280, {x});
  net.Add(1000, {x});
  return net.requests();
}

Requests Bert(int layers, int sequence, int hidden, int heads, bool in_place) {
  Network net;
  const double tokens = static_cast<double>(sequence) * hidden;
  const double scores = static_cast<double>(sequence) * sequence * heads;
  int32_t x = net.Add(tokens, {});
  x = net.Add(tokens, {x}, in_place);
  for (int layer = 0; layer < layers; ++layer) {
    int32_t projected[3];
    for (int32_t& p : projected) p = net.Add(tokens, {net.Add(tokens, {x})}, in_place);
    int32_t score = net.Add(scores, {projected[0], projected[1]});
    score = net.Add(scores, {score}, in_place);
    score = net.Add(scores, {score}, in_place);
    const int32_t context = net.Add(tokens, {net.Add(tokens, {score, projected[2]})});
    int32_t attended = net.Add(tokens, {net.Add(tokens, {context})}, in_place);
    attended = net.Add(tokens, {attended, x}, in_place);
    attended = net.Add(tokens, {attended}, in_place);
    int32_t wide = net.Add(4 * tokens, {attended});
    wide = net.Add(4 * tokens, {wide}, in_place);
    wide = net.Add(4 * tokens, {wide}, in_place);
    int32_t narrow = net.Add(tokens, {net.Add(tokens, {wide})}, in_place);
    narrow = net.Add(tokens, {narrow, attended}, in_place);
    x = net.Add(tokens, {narrow}, in_place);
  }
  return net.requests();
}

TEST(MemoryPlannerTest, NothingToPlace) {
  const MemoryPlan plan = Plan({});
  EXPECT_EQ(plan.arena_bytes, 0u);
  EXPECT_EQ(plan.ratio(), 1.0);
  const MemoryPlan empty = Plan({Buffer(0, 0, 3), Buffer(0, 1, 1)});
  EXPECT_EQ(empty.arena_bytes, 0u);
  EXPECT_EQ(empty.offsets, (std::vector<uint64_t>{0, 0}));
}

TEST(MemoryPlannerTest, TheExampleOfTheHeader) {
  const Requests requests = {Buffer(4096, 0, 1), InPlace(4096, 1, 2, {0}), View(1024, 2, 3, 1, 1024)};
  const MemoryPlan plan = Plan(requests);
  EXPECT_EQ(plan.offsets, (std::vector<uint64_t>{0, 0, 1024}));
  EXPECT_EQ(plan.in_place_of, (std::vector<int32_t>{-1, 0, -1}));
  EXPECT_EQ(plan.arena_bytes, 4096u);
  EXPECT_EQ(plan.lower_bound_bytes, 4096u);
  EXPECT_EQ(plan.naive_bytes, 8192u);
}

TEST(MemoryPlannerTest, BuffersThatMeetAtOneStepDoNotShare) {
  const MemoryPlan plan = Plan({Buffer(64, 0, 1), Buffer(64, 1, 2), Buffer(64, 2, 3)});
  EXPECT_NE(plan.offsets[0], plan.offsets[1]);
  EXPECT_NE(plan.offsets[1], plan.offsets[2]);
  EXPECT_EQ(plan.offsets[0], plan.offsets[2]);
  EXPECT_EQ(plan.arena_bytes, 128u);
}

TEST(MemoryPlannerTest, RandomBuffersNeverOverlapAndTheBoundIsRight) {
  std::mt19937 random(11);
  for (int trial = 0; trial < 200; ++trial) {
    Requests requests(1 + random() % 40);
    const int steps = 1 + static_cast<int>(random() % 30);
    for (BufferRequest& request : requests) {
      const int32_t first = static_cast<int32_t>(random() % steps);
      const uint64_t size = random() % 8 == 0 ? 0 : random() % (random() % 4 == 0 ? 3000 : 300);
      request = Buffer(size, first, first + static_cast<int32_t>(random() % (steps - first)));
    }
    const MemoryPlan plan = Plan(requests, {.max_search_steps = 200, .seed = random()});
    SimulateRun(requests, plan);
    if (HasFatalFailure()) FAIL() << "trial " << trial;
    EXPECT_EQ(plan.lower_bound_bytes, SlowBound(requests));
    EXPECT_GE(plan.arena_bytes, plan.lower_bound_bytes);
    EXPECT_LE(plan.arena_bytes, plan.naive_bytes);
  }
}

TEST(MemoryPlannerTest, RandomViewsAndWishesKeepTheirContent) {
  std::mt19937 random(12);
  int granted = 0, wished = 0;
  for (int trial = 0; trial < 300; ++trial) {
    Requests requests;
    const int steps = 2 + static_cast<int>(random() % 25);
    const size_t count = 2 + random() % 40;
    for (size_t i = 0; i < count; ++i) {
      const int32_t first = static_cast<int32_t>(random() % steps);
      const int32_t last = first + static_cast<int32_t>(random() % std::min(steps - first, 6));
      requests.push_back(Buffer(random() % 700, first, last));
      if (i > 0 && random() % 3 == 0) {
        const int32_t whole = static_cast<int32_t>(random() % i);
        const uint64_t offset = random() % (requests[whole].size_bytes + 1) / (random() % 2 ? 1 : 64) * 64;
        if (offset <= requests[whole].size_bytes) {
          const uint64_t most = requests[whole].size_bytes - offset;
          requests[i].alias_of = whole;
          requests[i].alias_offset = offset;
          requests[i].size_bytes = random() % 2 ? most : random() % (most + 1);
        }
      } else if (i > 0 && random() % 2 == 0) {
        // Something that dies where this begins, often of the same size.
        const int32_t candidate = static_cast<int32_t>(random() % i);
        if (requests[candidate].last_step > requests[candidate].first_step) {
          requests[i].first_step = requests[candidate].last_step;
          requests[i].last_step = std::max(requests[i].last_step, requests[i].first_step);
          if (random() % 2) requests[i].size_bytes = requests[candidate].size_bytes;
        }
        requests[i].in_place_of = {static_cast<int32_t>(random() % i), candidate};
        ++wished;
      }
    }
    const MemoryPlan plan = Plan(requests, {.max_search_steps = 100});
    SimulateRun(requests, plan);
    if (HasFatalFailure()) FAIL() << "trial " << trial;
    EXPECT_GE(plan.arena_bytes, plan.lower_bound_bytes);
    granted += static_cast<int>(
        std::count_if(plan.in_place_of.begin(), plan.in_place_of.end(), [](int32_t i) { return i >= 0; }));
  }
  EXPECT_GT(granted, wished / 10) << "the test hardly grants anything, of " << wished;
}

TEST(MemoryPlannerTest, AWishIsRefusedWhenTheBytesAreNeeded) {
  // The candidate is read again later.
  EXPECT_EQ(Plan({Buffer(64, 0, 3), InPlace(64, 1, 2, {0})}).in_place_of[1], -1);
  // The candidate is smaller.
  EXPECT_EQ(Plan({Buffer(64, 0, 1), InPlace(65, 1, 2, {0})}).in_place_of[1], -1);
  // Another view of the same bytes is read later, or at the same step.
  EXPECT_EQ(Plan({Buffer(64, 0, 1), View(64, 1, 4, 0, 0), InPlace(64, 1, 2, {0})}).in_place_of[2], -1);
  EXPECT_EQ(Plan({Buffer(64, 0, 1), View(64, 0, 1, 0, 0), InPlace(64, 1, 2, {0})}).in_place_of[2], -1);
  // ... but a view of other bytes does not matter.
  EXPECT_EQ(
      Plan({Buffer(128, 0, 0), View(64, 0, 1, 0, 0), View(64, 0, 5, 0, 64), InPlace(64, 1, 2, {1})}).in_place_of[3], 1);
  // The bytes were produced for a concatenation that is read later.
  EXPECT_EQ(Plan({Buffer(128, 3, 4), View(64, 0, 1, 0, 0), InPlace(64, 1, 2, {1})}).in_place_of[2], -1);
  // A view at an odd offset would leave the result misaligned.
  EXPECT_EQ(Plan({Buffer(128, 0, 0), View(64, 0, 1, 0, 4), InPlace(64, 1, 2, {1})}).in_place_of[2], -1);
  // Two results of one step want the same bytes: one gets them. The second choice of the other is granted.
  const MemoryPlan two = Plan({Buffer(64, 0, 1), Buffer(64, 0, 1), InPlace(64, 1, 2, {0}), InPlace(64, 1, 2, {0, 1})});
  EXPECT_EQ(two.in_place_of, (std::vector<int32_t>{-1, -1, 0, 1}));
  EXPECT_EQ(two.arena_bytes, 128u);
  // Wishes can be switched off.
  EXPECT_EQ(Plan({Buffer(64, 0, 1), InPlace(64, 1, 2, {0})}, {.allow_in_place = false}).arena_bytes, 128u);
}

TEST(MemoryPlannerTest, ASmallResultDoesNotHoldTheLargeBufferThatItTookOver) {
  // 1 MiB shrinks to 64 bytes in place, which live on while another 1 MiB comes and goes.
  const Requests requests = {Buffer(1 << 20, 0, 1), InPlace(64, 1, 9, {0}), Buffer(1 << 20, 2, 3)};
  const MemoryPlan plan = Plan(requests);
  SimulateRun(requests, plan);
  EXPECT_EQ(plan.lower_bound_bytes, (1u << 20) + 64);
  EXPECT_EQ(plan.arena_bytes, (1u << 20) + 64);
}

TEST(MemoryPlannerTest, AConcatenationIsWrittenPieceByPiece) {
  // Three producers write into their share of buffer 0; the early share is kept until the whole is read.
  const Requests requests = {Buffer(192, 5, 7), View(64, 0, 1, 0, 0), View(64, 2, 3, 0, 64), View(64, 4, 5, 0, 128),
                             Buffer(64, 1, 2),  Buffer(128, 0, 1),    Buffer(64, 0, 3)};
  const MemoryPlan plan = Plan(requests);
  SimulateRun(requests, plan);
  EXPECT_EQ(plan.offsets[2], plan.offsets[0] + 64);
  EXPECT_LE(plan.ratio(), 1.05);
}

struct Shape {
  const char* name;
  Requests requests;
  double naive_mib;  // as published for the unfused networks, 0: not checked
  double bound_mib;
};

TEST(MemoryPlannerTest, RealNetworksReachTheBound) {
  const Shape shapes[] = {
      {"MobileNet-V1 f32", MobileNetV1(), 19.24, 4.594},
      {"MobileNet-V2 f32", MobileNetV2(false), 26.30, 5.742},
      {"MobileNet-V2 f32 fused, residual in place", MobileNetV2(true), 0, 3.062},
      {"BERT-base S128", Bert(12, 128, 768, 12, false), 0, 3.375},
      {"BERT-base S128 in place", Bert(12, 128, 768, 12, true), 0, 0},
      {"BERT-base S384", Bert(12, 384, 768, 12, false), 0, 15.75},
      {"BERT-base S384 in place", Bert(12, 384, 768, 12, true), 0, 0},
      {"MiniLM-L6 S128", Bert(6, 128, 384, 12, false), 0, 1.875},
  };
  for (const Shape& shape : shapes) {
    const MemoryPlan plan = Plan(shape.requests);
    EXPECT_LE(plan.ratio(), 1.05) << shape.name << ": " << plan.arena_bytes << " bytes by " << plan.order << ", bound "
                                  << plan.lower_bound_bytes;
    if (shape.naive_mib > 0) {
      // The published figures leave the network's input and output out.
      const uint64_t ends = shape.requests.front().size_bytes + shape.requests.back().size_bytes;
      EXPECT_NEAR((plan.naive_bytes - ends) / kMiB, shape.naive_mib, 0.01) << shape.name;
    }
    if (shape.bound_mib > 0) {
      EXPECT_NEAR(plan.lower_bound_bytes / kMiB, shape.bound_mib, 0.001) << shape.name;
    }
    std::printf("%-45s %4zu buffers  naive %7.2f MiB  bound %6.3f MiB  arena %6.3f MiB  ratio %.4f by %s\n", shape.name,
                shape.requests.size(), plan.naive_bytes / kMiB, plan.lower_bound_bytes / kMiB, plan.arena_bytes / kMiB,
                plan.ratio(), plan.order.c_str());
  }
}

TEST(MemoryPlannerTest, InPlaceSavesMemoryOnBert) {
  const Requests requests = Bert(12, 384, 768, 12, true);
  const MemoryPlan with = Plan(requests);
  const MemoryPlan without = Plan(requests, {.allow_in_place = false});
  EXPECT_LT(with.arena_bytes, without.arena_bytes);
}

TEST(MemoryPlannerTest, TheSameSeedGivesTheSamePlan) {
  std::mt19937 random(13);
  Requests requests(60);
  for (BufferRequest& request : requests) {
    const int32_t first = static_cast<int32_t>(random() % 50);
    request = Buffer(64 * (1 + random() % 100), first, first + static_cast<int32_t>(random() % 10));
  }
  const MemoryPlan first = Plan(requests), second = Plan(requests);
  EXPECT_EQ(first.offsets, second.offsets);
  EXPECT_EQ(first.order, second.order);
  EXPECT_LE(first.arena_bytes, Plan(requests, {.max_search_steps = 0}).arena_bytes);
}

TEST(MemoryPlannerTest, ThousandsOfBuffersStayWithinTheBudgetOfTime) {
  std::mt19937 random(14);
  Requests requests(2000);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i] = Buffer(64 * (1 + random() % 1000), static_cast<int32_t>(i),
                         static_cast<int32_t>(i + 1 + (random() % 20 == 0 ? random() % 500 : random() % 3)));
  }
  const MemoryPlan plan = Plan(requests);
  EXPECT_LE(plan.ratio(), 1.3);
}

void ExpectError(const Requests& requests, ErrorCode code, const std::string& piece) {
  const StatusOr<MemoryPlan> plan = PlanMemory(requests);
  ASSERT_FALSE(plan.ok()) << "expected: " << piece;
  EXPECT_EQ(plan.status().code(), code) << plan.status();
  EXPECT_NE(plan.status().message().find(piece), std::string::npos) << plan.status();
}

TEST(MemoryPlannerTest, ContradictionsAreErrors) {
  ExpectError({Buffer(1, 2, 1)}, ErrorCode::kInternal, "buffer 0 lives from step 2 to step 1");
  ExpectError({Buffer(1, -1, 1)}, ErrorCode::kInternal, "lives from step -1");
  ExpectError({Buffer(10, 0, 1), View(5, 0, 1, 0, 6)}, ErrorCode::kInternal, "bytes [6, 6 + 5) of buffer 0");
  ExpectError({Buffer(10, 0, 1), View(~0ull, 0, 1, 0, 6)}, ErrorCode::kLimitExceeded, "2^62");
  ExpectError({Buffer(10, 0, 1), View(5, 0, 1, 0, ~0ull)}, ErrorCode::kInternal, "of buffer 0");
  ExpectError({Buffer(10, 0, 1), View(5, 0, 1, 2, 0)}, ErrorCode::kInternal, "view of buffer 2");
  ExpectError({Buffer(10, 0, 1), View(5, 0, 1, -2, 0)}, ErrorCode::kInternal, "view of buffer -2");
  ExpectError({View(5, 0, 1, 1, 0), View(5, 0, 1, 0, 0)}, ErrorCode::kInternal, "view of itself");
  ExpectError({View(5, 0, 1, 0, 0)}, ErrorCode::kInternal, "view of itself");
  ExpectError({InPlace(5, 0, 1, {1})}, ErrorCode::kInternal, "wants the place of buffer 1");
  ExpectError({Buffer(uint64_t{1} << 61, 0, 1), Buffer(uint64_t{1} << 61, 0, 1), Buffer(64, 0, 1)},
              ErrorCode::kLimitExceeded, "2^62");
  ExpectError({Buffer(~0ull, 0, 1)}, ErrorCode::kLimitExceeded, "2^62");
}

}  // namespace
}  // namespace tessera
