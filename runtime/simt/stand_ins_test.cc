// Tests stand-ins against what the PTX manual says, element by element: fragments of every matrix shape, shuffles,
// votes, reductions, matrices from and to shared memory, asynchronous copies, products of bytes.
#include "runtime/simt/stand_ins.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/simt/block.h"

namespace tessera {
namespace {

using Slots = std::array<uint64_t, 16>;

// Calls `op` on 32 lanes at once; operands[lane] and its results.
std::vector<Slots> OnWarp(std::string_view op, const std::vector<Slots>& operands) {
  struct Arguments {
    const Slots* operands;
    Slots* results;
  };
  std::vector<Slots> results(operands.size());
  const SimtStandIn ops[] = {FindSimtStandIn(op), FindSimtStandIn("gpu.thread_id.x")};
  EXPECT_NE(nullptr, ops[0]) << op;
  StatusOr<std::unique_ptr<SimtBlock>> block = SimtBlock::Make();
  SimtLaunch launch;
  launch.entry = [](SimtContext* context, const uint64_t* params) {
    uint64_t me = 0;
    context->ops[1](context, "", nullptr, &me);
    context->ops[0](context, "here", reinterpret_cast<const Slots*>(params[0])[me].data(),
                    reinterpret_cast<Slots*>(params[1])[me].data());
  };
  launch.ops = ops;
  launch.params = {reinterpret_cast<uint64_t>(operands.data()), reinterpret_cast<uint64_t>(results.data())};
  launch.threads = static_cast<int>(operands.size());
  const Status status = (*block)->Run(launch, {0, 0, 0}, {SimtOrder::kRandom, 3});
  EXPECT_TRUE(status.ok()) << op << ": " << status;
  return results;
}

// What the manual says of element i of a lane with g = lane / 4, t = lane % 4.
struct Place {
  int row, column;
};
struct Shape {
  const char* op;
  int m, k, elements;  // elements a register
  bool tf32, signed_a, signed_b;
  Place (*a)(int g, int t, int i);
  Place (*b)(int g, int t, int i);
};

// m16n8k16 of .f16 and .bf16, .u8 and .s8, and so on: sections "Matrix Fragments for mma.m16n8k…".
constexpr auto kA16x16 = [](int g, int t, int i) {
  return Place{i < 2 || (i >= 4 && i < 6) ? g : g + 8, t * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
};
constexpr auto kB16 = [](int g, int t, int i) { return Place{t * 2 + (i & 1) + (i >= 2 ? 8 : 0), g}; };
constexpr auto kA16x8 = [](int g, int t, int i) { return Place{i < 2 ? g : g + 8, t * 2 + (i & 1)}; };
constexpr auto kB8 = [](int g, int t, int i) { return Place{t * 2 + i, g}; };
constexpr auto kATf8 = [](int g, int t, int i) { return Place{i % 2 == 0 ? g : g + 8, i < 2 ? t : t + 4}; };
constexpr auto kBTf8 = [](int g, int t, int i) { return Place{i == 0 ? t : t + 4, g}; };
constexpr auto kATf4 = [](int g, int t, int i) { return Place{i == 0 ? g : g + 8, t}; };
constexpr auto kBTf4 = [](int g, int t, int) { return Place{t, g}; };
constexpr auto kABytes32 = [](int g, int t, int i) {
  return Place{i < 4 || (i >= 8 && i < 12) ? g : g + 8, t * 4 + (i & 3) + (i >= 8 ? 16 : 0)};
};
constexpr auto kBBytes32 = [](int g, int t, int i) { return Place{t * 4 + (i & 3) + (i >= 4 ? 16 : 0), g}; };
constexpr auto kABytes16 = [](int g, int t, int i) { return Place{i < 4 ? g : g + 8, t * 4 + (i & 3)}; };
constexpr auto kABytes8x16 = [](int g, int t, int i) { return Place{g, t * 4 + i}; };
constexpr auto kBBytes16 = [](int g, int t, int i) { return Place{t * 4 + i, g}; };

constexpr Shape kShapes[] = {
    {"nv.mma.m16n8k16.f32.f16", 16, 16, 2, false, true, true, kA16x16, kB16},
    {"nv.mma.m16n8k16.f16.f16", 16, 16, 2, false, true, true, kA16x16, kB16},
    {"nv.mma.m16n8k16.f32.bf16", 16, 16, 2, false, true, true, kA16x16, kB16},
    {"nv.mma.m16n8k8.f32.f16", 16, 8, 2, false, true, true, kA16x8, kB8},
    {"nv.mma.m16n8k8.f32.bf16", 16, 8, 2, false, true, true, kA16x8, kB8},
    {"nv.mma.m16n8k8.f32.tf32", 16, 8, 1, true, true, true, kATf8, kBTf8},
    {"nv.mma.m16n8k4.f32.tf32", 16, 4, 1, true, true, true, kATf4, kBTf4},
    {"nv.mma.m16n8k32.s32.s8", 16, 32, 4, false, true, true, kABytes32, kBBytes32},
    {"nv.mma.m16n8k32.s32.u8", 16, 32, 4, false, false, false, kABytes32, kBBytes32},
    {"nv.mma.m16n8k32.s32.u8.s8", 16, 32, 4, false, false, true, kABytes32, kBBytes32},
    {"nv.mma.m16n8k32.s32.s8.u8", 16, 32, 4, false, true, false, kABytes32, kBBytes32},
    {"nv.mma.m16n8k16.s32.s8", 16, 16, 4, false, true, true, kABytes16, kBBytes16},
    {"nv.mma.m16n8k16.s32.u8", 16, 16, 4, false, false, false, kABytes16, kBBytes16},
    {"nv.mma.m16n8k16.s32.u8.s8", 16, 16, 4, false, false, true, kABytes16, kBBytes16},
    {"nv.mma.m16n8k16.s32.s8.u8", 16, 16, 4, false, true, false, kABytes16, kBBytes16},
    {"nv.mma.m8n8k16.s32.s8", 8, 16, 4, false, true, true, kABytes8x16, kBBytes16},
    {"nv.mma.m8n8k16.s32.u8", 8, 16, 4, false, false, false, kABytes8x16, kBBytes16},
    {"nv.mma.m8n8k16.s32.u8.s8", 8, 16, 4, false, false, true, kABytes8x16, kBBytes16},
    {"nv.mma.m8n8k16.s32.s8.u8", 8, 16, 4, false, true, false, kABytes8x16, kBBytes16},
};

// The bits of a whole number as an element.
uint32_t Encode(const Shape& shape, int value) {
  const std::string_view op = shape.op;
  if (shape.elements == 4) return static_cast<uint8_t>(value);
  if (shape.tf32) return std::bit_cast<uint32_t>(static_cast<float>(value));
  if (op.find("bf16") != op.npos) return std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16;
  return std::bit_cast<uint16_t>(static_cast<_Float16>(value));
}

TEST(StandInsTest, MatrixProductsHaveTheManualsFragments) {
  std::mt19937 rng(1);
  for (const Shape& shape : kShapes) {
    const std::string_view op = shape.op;
    const bool half = op.find(".f16.f16") != op.npos, floats = op.find(".f32.") != op.npos;
    std::vector<std::vector<int>> a(shape.m, std::vector<int>(shape.k)), b(shape.k, std::vector<int>(8)),
        c(shape.m, std::vector<int>(8));
    const auto draw = [&](bool is_signed) { return static_cast<int>(rng() % 9) - (is_signed ? 4 : 0); };
    for (auto& row : a)
      for (int& x : row) x = draw(shape.signed_a);
    for (auto& row : b)
      for (int& x : row) x = draw(shape.signed_b);
    for (auto& row : c)
      for (int& x : row) x = draw(true);
    const int a_registers = shape.m * shape.k / 32 / shape.elements, b_registers = shape.k / 4 / shape.elements;
    const int bits = 32 / shape.elements;
    std::vector<Slots> operands(32);
    for (int l = 0; l < 32; ++l) {
      const auto put = [&](int first, int i, int value) {
        operands[l][first + i / shape.elements] |= static_cast<uint64_t>(Encode(shape, value))
                                                   << i % shape.elements * bits;
      };
      for (int i = 0; i < a_registers * shape.elements; ++i) {
        const Place at = shape.a(l / 4, l % 4, i);
        put(0, i, a[at.row][at.column]);
      }
      for (int i = 0; i < b_registers * shape.elements; ++i) {
        const Place at = shape.b(l / 4, l % 4, i);
        put(a_registers, i, b[at.row][at.column]);
      }
      for (int i = 0; i < shape.m / 4; ++i) {
        const int value = c[l / 4 + 8 * (i / 2)][l % 4 * 2 + i % 2];
        uint64_t& slot = operands[l][a_registers + b_registers + (half ? i / 2 : i)];
        if (half) {
          slot |= static_cast<uint64_t>(std::bit_cast<uint16_t>(static_cast<_Float16>(value))) << 16 * (i % 2);
        } else {
          slot = floats ? std::bit_cast<uint32_t>(static_cast<float>(value)) : static_cast<uint32_t>(value);
        }
      }
    }
    const std::vector<Slots> results = OnWarp(shape.op, operands);
    for (int l = 0; l < 32; ++l) {
      for (int i = 0; i < shape.m / 4; ++i) {
        const int row = l / 4 + 8 * (i / 2), column = l % 4 * 2 + i % 2;
        int expected = c[row][column];
        for (int k = 0; k < shape.k; ++k) expected += a[row][k] * b[k][column];
        const auto slot = static_cast<uint32_t>(results[l][half ? i / 2 : i]);
        const double found =
            half     ? static_cast<double>(std::bit_cast<_Float16>(static_cast<uint16_t>(slot >> 16 * (i % 2))))
            : floats ? static_cast<double>(std::bit_cast<float>(slot))
                     : static_cast<double>(static_cast<int32_t>(slot));
        ASSERT_EQ(expected, found) << shape.op << " lane " << l << " element " << i;
      }
    }
  }
}

// Of doubles: section "Matrix Fragments for mma.m8n8k4 with .f64", "… mma.m16n8k16 …".
TEST(StandInsTest, ProductsOfDoublesHaveTheManualsFragments) {
  std::mt19937 rng(3);
  for (const auto& [op, m, k] : {std::tuple{"nv.mma.m8n8k4.f64", 8, 4}, {"nv.mma.m16n8k16.f64", 16, 16}}) {
    std::vector<std::vector<double>> a(m, std::vector<double>(k)), b(k, std::vector<double>(8)),
        c(m, std::vector<double>(8));
    for (auto* matrix : {&a, &b, &c}) {
      for (auto& row : *matrix) {
        for (double& x : row) x = static_cast<double>(rng() % 1999) - 999;
      }
    }
    std::vector<Slots> operands(32);
    for (int l = 0; l < 32; ++l) {
      const int g = l / 4, t = l % 4;
      size_t slot = 0;
      for (int i = 0; i < m * k / 32; ++i) {
        const int row = m == 8 || i % 2 == 0 ? g : g + 8, column = m == 8 ? t : i / 2 * 4 + t;
        operands[l][slot++] = std::bit_cast<uint64_t>(a[row][column]);
      }
      for (int i = 0; i < k / 4; ++i) operands[l][slot++] = std::bit_cast<uint64_t>(b[4 * i + t][g]);
      for (int i = 0; i < m / 4; ++i) operands[l][slot++] = std::bit_cast<uint64_t>(c[g + i / 2 * 8][2 * t + i % 2]);
    }
    const std::vector<Slots> results = OnWarp(op, operands);
    for (int l = 0; l < 32; ++l) {
      for (int i = 0; i < m / 4; ++i) {
        const int row = l / 4 + i / 2 * 8, column = l % 4 * 2 + i % 2;
        double expected = c[row][column];
        for (int d = 0; d < k; ++d) expected += a[row][d] * b[d][column];
        ASSERT_EQ(expected, std::bit_cast<double>(results[l][i])) << op << " lane " << l << " element " << i;
      }
    }
  }
}

// Rows of A in which groups of four keep none, one or two; fragments and words as the manual has them, made from the
// whole matrix lane by lane.
TEST(StandInsTest, SparseProductsHaveTheManualsFragments) {
  std::mt19937 rng(2);
  for (const char* name : {"nv.mma.sp.m16n8k32.f32.f16", "nv.mma.sp.m16n8k32.f32.bf16", "nv.mma.sp.m16n8k64.s32.s8",
                           "nv.mma.sp.m16n8k64.s32.s8.u8"}) {
    const std::string_view op = name;
    const bool bytes = op.find(".s32.") != op.npos, unsigned_b = op.find(".u8") != op.npos;
    const Shape shape = {name, 16, bytes ? 64 : 32, bytes ? 4 : 2, false, true, true, nullptr, nullptr};
    for (int selected = 0; selected < (bytes ? 1 : 2); ++selected) {
      int a[16][64] = {}, b[64][8], c[16][8], kept[16][32] = {};
      uint32_t which[16][16];  // four bits of each group
      for (int row = 0; row < 16; ++row) {
        for (int group = 0; group < shape.k / 4; ++group) {
          const int first = static_cast<int>(rng() % 3), second = first + 1 + static_cast<int>(rng() % (3 - first));
          which[row][group] = static_cast<uint32_t>(first | second << 2);
          for (int i = 0; i < 2; ++i) {
            const int value = static_cast<int>(rng() % 9) - 4;
            a[row][group * 4 + (i == 0 ? first : second)] = kept[row][group * 2 + i] = value;
          }
        }
      }
      for (auto& row : b)
        for (int& x : row) x = static_cast<int>(rng() % 9) - (unsigned_b ? 0 : 4);
      for (auto& row : c)
        for (int& x : row) x = static_cast<int>(rng() % 9) - 4;
      std::vector<Slots> operands(32);
      for (int l = 0; l < 32; ++l) {
        const int g = l / 4, t = l % 4, e = shape.elements;
        const auto put = [&](int reg, int i, int value) {
          operands[l][reg] |= static_cast<uint64_t>(Encode(shape, value)) << i * 32 / e;
        };
        for (int reg = 0; reg < 4; ++reg) {
          for (int i = 0; i < e; ++i) {
            put(reg, i, kept[g + reg % 2 * 8][t * e + i + reg / 2 * 4 * e]);
            put(4 + reg, i, b[t * e + i + reg * 4 * e][g]);
          }
          const int value = c[g + reg / 2 * 8][2 * t + reg % 2];
          operands[l][8 + reg] =
              bytes ? static_cast<uint32_t>(value) : std::bit_cast<uint32_t>(static_cast<float>(value));
        }
        uint32_t word = 0xffffffff;  // of lanes that nobody asks
        if (bytes) {
          word = 0;
          for (int k = 0; k < 8; ++k) word |= which[g + t % 2 * 8][t / 2 * 8 + k] << 4 * k;
        } else if (t / 2 == selected) {
          word = 0;
          for (int k = 0; k < 8; ++k) word |= which[g + k / 4 * 8][t % 2 * 4 + k % 4] << 4 * k;
        }
        operands[l][12] = word;
        operands[l][13] = static_cast<uint64_t>(selected);
      }
      const std::vector<Slots> results = OnWarp(name, operands);
      for (int l = 0; l < 32; ++l) {
        for (int r = 0; r < 4; ++r) {
          const int row = l / 4 + 8 * (r / 2), column = l % 4 * 2 + r % 2;
          int expected = c[row][column];
          for (int k = 0; k < shape.k; ++k) expected += a[row][k] * b[k][column];
          const auto slot = static_cast<uint32_t>(results[l][r]);
          const double found = bytes ? static_cast<int32_t>(slot) : std::bit_cast<float>(slot);
          ASSERT_EQ(expected, found) << name << " lane " << l << " register " << r;
        }
      }
    }
  }
}

TEST(StandInsTest, ShufflesVotesAndReductions) {
  std::vector<Slots> operands(32);
  for (int l = 0; l < 32; ++l) operands[l] = {static_cast<uint64_t>(100 + l), 5};
  const struct {
    const char* op;
    int (*from)(int lane);
  } kShuffles[] = {{"gpu.shuffle_xor", [](int l) { return l ^ 5; }},
                   {"gpu.shuffle_down", [](int l) { return l + 5 < 32 ? l + 5 : l; }},
                   {"gpu.shuffle_up", [](int l) { return l >= 5 ? l - 5 : l; }},
                   {"gpu.shuffle_idx", [](int) { return 5; }}};
  for (const auto& shuffle : kShuffles) {
    const std::vector<Slots> results = OnWarp(shuffle.op, operands);
    for (int l = 0; l < 32; ++l) EXPECT_EQ(100u + shuffle.from(l), results[l][0]) << shuffle.op << l;
  }
  const auto all = [&](const char* op, const std::function<uint64_t(int)>& value, uint64_t expected) {
    for (int l = 0; l < 32; ++l) operands[l][0] = value(l);
    for (const Slots& result : OnWarp(op, operands)) EXPECT_EQ(expected, result[0]) << op;
  };
  all("gpu.vote_any", [](int l) { return l == 7; }, 1);
  all("gpu.vote_any", [](int) { return 0; }, 0);
  all("gpu.vote_all", [](int l) { return l != 7; }, 0);
  all("gpu.vote_all", [](int) { return 1; }, 1);
  all("nv.ballot", [](int l) { return l % 3 == 0; }, 0x49249249);
  const auto around_zero = [](int l) { return static_cast<uint32_t>(l * 7 % 32 - 16); };
  all("nv.redux_add", around_zero, static_cast<uint32_t>(-16));
  all("nv.redux_min", around_zero, static_cast<uint32_t>(-16));
  all("nv.redux_max", around_zero, 15);
  EXPECT_EQ(9u, OnWarp("gpu.lane_id", std::vector<Slots>(64))[41][0]);
}

TEST(StandInsTest, ArithmeticOfOneThread) {
  const auto one = [](const char* op, uint32_t a, uint32_t b = 0, uint32_t c = 0) {
    return static_cast<uint32_t>(OnWarp(op, {Slots{a, b, c}})[0][0]);
  };
  const auto real = [&](const char* op, float x) { return std::bit_cast<float>(one(op, std::bit_cast<uint32_t>(x))); };
  EXPECT_EQ(8.0f, real("gpu.exp2_approx", 3));
  EXPECT_EQ(0.0f, real("gpu.exp2_approx", -140)) << "subnormals are zero";
  EXPECT_EQ(-3.0f, real("gpu.log2_approx", 0.125f));
  EXPECT_EQ(0.25f, real("gpu.rcp_approx", 4));
  EXPECT_EQ(0.5f, real("gpu.rsqrt_approx", 4));
  EXPECT_FLOAT_EQ(std::tanh(0.3f), real("nv.tanh_approx", 0.3f));
  EXPECT_EQ(0x3f802000u, one("nv.to_tf32", 0x3f801000)) << "halves away from zero";
  EXPECT_EQ(0x3f800000u, one("nv.to_tf32", 0x3f800fff));
  EXPECT_EQ(10u + 1 * 4 - 2 * 3 + 127 * 2 + 1, one("gpu.dot4.s8.s8", 0x017ffe01, 0x01020304, 10));
  EXPECT_EQ(10u + 1 * 4 + 254 * 3 - 127 * 2 + 1, one("gpu.dot4.u8.s8", 0x017ffe01, 0x01fe0304, 10));
  EXPECT_EQ(10u + 1 * 4 + 254 * 3 + 127 * 254 + 1, one("gpu.dot4.u8.u8", 0x017ffe01, 0x01fe0304, 10));
}

// Kernels in C++ over shared memory: 32 lanes, what they do is `body`.
Status OnShared(int64_t bytes, const std::vector<std::string_view>& names, SimtKernel body,
                std::vector<uint64_t> params, std::vector<SimtRange> ranges = {}) {
  std::vector<SimtStandIn> ops;
  for (std::string_view name : names) ops.push_back(FindSimtStandIn(name));
  ASSIGN_OR_RETURN(const std::unique_ptr<SimtBlock> block, SimtBlock::Make());
  SimtLaunch launch;
  launch.entry = body;
  launch.ops = ops.data();
  launch.params = std::move(params);
  launch.threads = 32;
  launch.shared_bytes = bytes;
  launch.ranges = std::move(ranges);
  return block->Run(launch, {0, 0, 0}, {SimtOrder::kReverse, 1});
}

TEST(StandInsTest, MatricesGoFromAndToSharedMemory) {
  // Element (row, column) of matrix j is 64 j + 8 row + column. Lane 4 r + t stores and loads elements 2 t, 2 t + 1 of
  // row r; transposed, rows and columns change places.
  const SimtKernel kernel = [](SimtContext* context, const uint64_t* params) {
    uint64_t lane = 0, results[4];
    context->ops[0](context, "", nullptr, &lane);
    const auto element = [](uint64_t j, uint64_t row, uint64_t column) { return 64 * j + 8 * row + column; };
    const uint64_t r = lane / 4, t = lane % 4;
    uint64_t operands[5] = {reinterpret_cast<uint64_t>(context->shared + lane * 16)};
    for (uint64_t j = 0; j < 4; ++j) {
      operands[1 + j] = element(j, r, 2 * t) | element(j, r, 2 * t + 1) << 16;
    }
    context->ops[1](context, "store", operands, nullptr);
    context->ops[4](context, "meet", nullptr, nullptr);
    context->ops[2](context, "load", operands, results);
    for (uint64_t j = 0; j < 4; ++j) EXPECT_EQ(operands[1 + j], results[j]) << lane;
    context->ops[3](context, "load transposed", operands, results);
    for (uint64_t j = 0; j < 4; ++j) {
      EXPECT_EQ(element(j, 2 * t, r) | element(j, 2 * t + 1, r) << 16, results[j]) << lane;
    }
    ++*reinterpret_cast<int*>(params[0]);
  };
  int ended = 0;
  const Status status =
      OnShared(512, {"gpu.thread_id.x", "nv.stmatrix.x4", "nv.ldmatrix.x4", "nv.ldmatrix.x4.trans", "gpu.warp_barrier"},
               kernel, {reinterpret_cast<uint64_t>(&ended)});
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(32, ended);
  EXPECT_FALSE(OnShared(496, {"gpu.thread_id.x", "nv.stmatrix.x4"}, kernel, {0}).ok()) << "the last row is outside";
}

TEST(StandInsTest, CopiesFillUpWithZerosAndComeInGroups) {
  const SimtKernel kernel = [](SimtContext* context, const uint64_t* params) {
    uint64_t lane = 0;
    context->ops[0](context, "", nullptr, &lane);
    auto* to = reinterpret_cast<uint32_t*>(context->shared + lane * 32);
    const uint64_t whole[] = {reinterpret_cast<uint64_t>(to), params[0]};
    const uint64_t part[] = {reinterpret_cast<uint64_t>(to + 4), params[0], 8};
    context->ops[1](context, "copy", whole, nullptr);
    context->ops[3](context, "commit", nullptr, nullptr);
    context->ops[2](context, "copy a part", part, nullptr);
    context->ops[3](context, "commit", nullptr, nullptr);
    const uint64_t newest = 1, none = 0;
    context->ops[4](context, "wait", &newest, nullptr);
    for (uint32_t k = 0; k < 4; ++k) EXPECT_EQ(k + 1, to[k]);
    EXPECT_NE(1u, to[4]) << "under way";
    context->ops[4](context, "wait", &none, nullptr);
    EXPECT_EQ(1u, to[4]);
    EXPECT_EQ(2u, to[5]);
    EXPECT_EQ(0u, to[6]);
    EXPECT_EQ(0u, to[7]);
  };
  alignas(16) const uint32_t source[4] = {1, 2, 3, 4};
  const SimtRange range = {"source", reinterpret_cast<const std::byte*>(source), 16, false};
  const std::vector<std::string_view> ops = {"gpu.thread_id.x", "nv.cp_async.16", "nv.cp_async.16.zfill",
                                             "nv.cp_async.commit", "nv.cp_async.wait"};
  const Status status = OnShared(1024, ops, kernel, {reinterpret_cast<uint64_t>(source)}, {range});
  EXPECT_TRUE(status.ok()) << status;
  const SimtRange shorter = {"source", reinterpret_cast<const std::byte*>(source), 12, false};
  const Status outside = OnShared(1024, ops, kernel, {reinterpret_cast<uint64_t>(source)}, {shorter});
  EXPECT_NE(std::string::npos, outside.message().find("copy: loads 16 bytes at offset 0 of 'source'")) << outside;
}

}  // namespace
}  // namespace tessera
