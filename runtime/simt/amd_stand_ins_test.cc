// Products of an AMD wave against products of whole matrices, with elements put into registers as AMD's matrix
// instruction calculator lists them for each instruction; and what is found where lanes do not come as they must.
#include "runtime/simt/amd_stand_ins.h"

#include <array>
#include <bit>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/simt/block.h"
#include "runtime/simt/stand_ins.h"

namespace tessera {
namespace {

using Slots = std::array<uint64_t, 24>;

// Calls `op` on as many threads as there are operands; `skips`: that thread does not come.
Status OnThreads(std::string_view op, const std::vector<Slots>& operands, std::vector<Slots>& results,
                 int64_t skips = -1) {
  results.assign(operands.size(), Slots());
  const SimtStandIn ops[] = {FindSimtStandIn(op), FindSimtStandIn("gpu.thread_id.x")};
  ASSIGN_OR_RETURN(const std::unique_ptr<SimtBlock> block, SimtBlock::Make());
  SimtLaunch launch;
  launch.entry = [](SimtContext* context, const uint64_t* params) {
    uint64_t me = 0;
    context->ops[1](context, "", nullptr, &me);
    if (me == params[2]) return;
    context->ops[0](context, "here", reinterpret_cast<const Slots*>(params[0])[me].data(),
                    reinterpret_cast<Slots*>(params[1])[me].data());
  };
  launch.ops = ops;
  launch.params = {reinterpret_cast<uint64_t>(operands.data()), reinterpret_cast<uint64_t>(results.data()),
                   static_cast<uint64_t>(skips)};
  launch.threads = static_cast<int>(operands.size());
  return block->Run(launch, {0, 0, 0}, {SimtOrder::kRandom, 3});
}

enum class Type { kF32, kF16, kBF16, kS8, kU8 };
struct Instruction {
  const char* op;
  int m, k, lanes;
  Type a, b;
};
// For each: which lane and which of its elements hold A[row][k] (of B: column in place of row).
constexpr Instruction kInstructions[] = {
    {"amd.mfma.f32.16x16x4.f32", 16, 4, 64, Type::kF32, Type::kF32},
    {"amd.mfma.f32.32x32x2.f32", 32, 2, 64, Type::kF32, Type::kF32},
    {"amd.mfma.f32.16x16x16.f16", 16, 16, 64, Type::kF16, Type::kF16},
    {"amd.mfma.f32.16x16x8.bf16", 16, 8, 64, Type::kBF16, Type::kBF16},
    {"amd.mfma.f32.16x16x16.bf16", 16, 16, 64, Type::kBF16, Type::kBF16},
    {"amd.mfma.s32.16x16x16.s8", 16, 16, 64, Type::kS8, Type::kS8},
    {"amd.mfma.s32.16x16x32.s8", 16, 32, 64, Type::kS8, Type::kS8},
    {"amd.wmma.f32.16x16x16.f16", 16, 16, 32, Type::kF16, Type::kF16},
    {"amd.wmma.f32.16x16x16.bf16", 16, 16, 32, Type::kBF16, Type::kBF16},
    {"amd.wmma.s32.16x16x16.s8", 16, 16, 32, Type::kS8, Type::kS8},
    {"amd.wmma.s32.16x16x16.u8", 16, 16, 32, Type::kU8, Type::kU8},
    {"amd.wmma.s32.16x16x16.u8.s8", 16, 16, 32, Type::kU8, Type::kS8},
    {"amd.wmma.s32.16x16x16.s8.u8", 16, 16, 32, Type::kS8, Type::kU8},
};

int BitsOf(Type type) { return type == Type::kF32 ? 32 : type == Type::kF16 || type == Type::kBF16 ? 16 : 8; }
uint32_t Encode(Type type, int value) {
  switch (type) {
    case Type::kF32: return std::bit_cast<uint32_t>(static_cast<float>(value));
    case Type::kF16: return std::bit_cast<uint16_t>(static_cast<_Float16>(value));
    case Type::kBF16: return std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16;
    default: return static_cast<uint8_t>(value);
  }
}

// Whole matrices, and operands of every lane that hold them.
struct Case {
  std::vector<std::vector<int>> a, b, c;
  std::vector<Slots> operands;
};

// Where register r of lane l is in D.
std::pair<int, int> PlaceOf(const Instruction& i, int l, int r) {
  if (i.lanes == 32) return {2 * r + l / 16, l % 16};
  if (i.m == 16) return {4 * (l / 16) + r, l % 16};
  return {8 * (r / 4) + 4 * (l / 32) + r % 4, l % 32};
}

Case Draw(const Instruction& i, uint32_t seed) {
  std::mt19937 rng(seed);
  Case c;
  const auto draw = [&](Type type, int rows, int columns) {
    std::vector<std::vector<int>> matrix(rows, std::vector<int>(columns));
    for (auto& row : matrix) {
      for (int& x : row) {
        x = type == Type::kS8   ? static_cast<int>(rng() % 256) - 128
            : type == Type::kU8 ? static_cast<int>(rng() % 256)
                                : static_cast<int>(rng() % 9) - 4;
      }
    }
    return matrix;
  };
  c.a = draw(i.a, i.m, i.k);
  c.b = draw(i.b, i.k, i.m);
  c.c = draw(Type::kF32, i.m, i.m);
  c.operands.resize(static_cast<size_t>(i.lanes));
  const int groups = i.lanes == 32 ? 1 : 64 / i.m, depth = i.k / groups, bits = BitsOf(i.a),
            registers = depth * bits / 32;
  for (int l = 0; l < i.lanes; ++l) {
    const int first = i.lanes == 32 ? 0 : l / i.m * depth;
    for (int e = 0; e < depth; ++e) {
      const auto put = [&](int r, uint32_t value) {
        c.operands[l][r + e * bits / 32] |= static_cast<uint64_t>(value) << e * bits % 32;
      };
      put(0, Encode(i.a, c.a[l % i.m][first + e]));
      put(registers, Encode(i.b, c.b[first + e][l % i.m]));
    }
    for (int r = 0; r < i.m * i.m / i.lanes; ++r) {
      const auto [row, column] = PlaceOf(i, l, r);
      c.operands[l][2 * registers + r] =
          bits == 8 ? static_cast<uint32_t>(c.c[row][column]) : Encode(Type::kF32, c.c[row][column]);
    }
  }
  return c;
}

TEST(AmdStandInsTest, ProductsOfWholeMatrices) {
  for (const Instruction& i : kInstructions) {
    const Case c = Draw(i, 5);
    std::vector<Slots> results;
    const Status status = OnThreads(i.op, c.operands, results);
    ASSERT_TRUE(status.ok()) << i.op << ": " << status;
    for (int l = 0; l < i.lanes; ++l) {
      for (int r = 0; r < i.m * i.m / i.lanes; ++r) {
        const auto [row, column] = PlaceOf(i, l, r);
        int expected = c.c[row][column];
        for (int k = 0; k < i.k; ++k) expected += c.a[row][k] * c.b[k][column];
        const auto bits = static_cast<uint32_t>(results[l][r]);
        const double found = BitsOf(i.a) == 8 ? static_cast<double>(static_cast<int32_t>(bits))
                                              : static_cast<double>(std::bit_cast<float>(bits));
        ASSERT_EQ(expected, found) << i.op << " lane " << l << " register " << r;
      }
    }
  }
}

TEST(AmdStandInsTest, EveryRowIsTested) {
  EXPECT_EQ(std::size(kInstructions), AmdStandIns().size());
  for (const Instruction& i : kInstructions) EXPECT_NE(nullptr, FindSimtStandIn(i.op)) << i.op;
}

TEST(AmdStandInsTest, WavesThatAreNotWholeAreNamed) {
  const Instruction mfma = kInstructions[0], wmma = kInstructions[7];
  std::vector<Slots> results;
  Case c = Draw(mfma, 6);
  EXPECT_NE(std::string::npos, OnThreads(mfma.op, c.operands, results, 40).message().find("threads wait"));
  c.operands.resize(32);
  EXPECT_NE(std::string::npos, OnThreads(mfma.op, c.operands, results).message().find("whole waves of 64 lanes"));
  c = Draw(wmma, 7);
  c.operands[17][0] ^= 1;
  const Status status = OnThreads(wmma.op, c.operands, results);
  EXPECT_NE(std::string::npos, status.message().find("once more")) << status;
}

}  // namespace
}  // namespace tessera
