#include "runtime/simt/amd_stand_ins.h"

#include <bit>
#include <cstdint>

#include "runtime/simt/block.h"
#include "runtime/simt/matrix.h"

namespace tessera {
namespace {

uint32_t U32(uint64_t slot) { return static_cast<uint32_t>(slot); }

// D = A·B + C. `kRowOf(lane, register)` is the row of an accumulator, lane % N its column; lane l has A's row and B's
// column l % M, and K / kGroups elements of the depth from its group's place on.
template <FragmentType kA, FragmentType kB, int M, int K, int kLanes, int kGroups, auto kRowOf>
struct WaveProduct {
  static constexpr int kDepth = K / kGroups;  // of a lane
  static constexpr int kRegisters = kDepth / ElementsOf(kA);
  static constexpr int kAccumulators = M * M / kLanes;
  static constexpr bool kIntegers = kA == FragmentType::kS8 || kA == FragmentType::kU8;

  template <typename Meeting>
  static void Run(const Meeting& meeting) {
    double a[M][K], b[K][M];
    for (int l = 0; l < M * kGroups; ++l) {
      for (int i = 0; i < kDepth; ++i) {
        const int r = i / ElementsOf(kA), element = i % ElementsOf(kA), k = l / M * kDepth + i;
        a[l % M][k] = FragmentElement(kA, U32(meeting.operands[l][r]), element);
        b[k][l % M] = FragmentElement(kB, U32(meeting.operands[l][kRegisters + r]), element);
      }
    }
    for (int l = 0; l < kLanes; ++l) {
      for (int r = 0; r < kAccumulators; ++r) {
        double sum = 0;
        for (int k = 0; k < K; ++k) sum += a[kRowOf(l, r)][k] * b[k][l % M];
        const uint32_t c = U32(meeting.operands[l][2 * kRegisters + r]);
        // Sums of products of bytes are exact in double.
        meeting.results[l][r] = kIntegers ? c + static_cast<uint32_t>(static_cast<int64_t>(sum))
                                          : std::bit_cast<uint32_t>(static_cast<float>(sum + std::bit_cast<float>(c)));
      }
    }
  }
};

// ---- MFMA: all 64 lanes of a wave meet.
constexpr auto kRow16 = [](int lane, int r) { return 4 * (lane / 16) + r; };
constexpr auto kRow32 = [](int lane, int r) { return 8 * (r / 4) + 4 * (lane / 32) + r % 4; };

template <FragmentType kType, int K, int M = 16>
void Mfma(SimtContext* context, const char* site, const uint64_t* operands, uint64_t* results) {
  if constexpr (M == 16) {
    static_cast<SimtBlock*>(context)->MeetGroup(site, operands, results,
                                                WaveProduct<kType, kType, 16, K, 64, 4, kRow16>::Run, SimtBlock::kWave);
  } else {
    static_cast<SimtBlock*>(context)->MeetGroup(site, operands, results,
                                                WaveProduct<kType, kType, 32, K, 64, 2, kRow32>::Run, SimtBlock::kWave);
  }
}

// ---- WMMA: waves are warps. Lanes 16 to 31 have A and B once more.
constexpr auto kRowWmma = [](int lane, int r) { return 2 * r + lane / 16; };

template <FragmentType kA, FragmentType kB>
void MultiplyWmma(const SimtBlock::WarpMeeting& meeting) {
  if (meeting.lanes != 32 || meeting.operands[31] == nullptr) {
    meeting.block.NoteFault(meeting.first_thread, meeting.site, "expected a wave of 32 lanes");
    meeting.block.Leave();
  }
  constexpr int kRegisters = 2 * 16 / ElementsOf(kA);
  for (int l = 0; l < 16; ++l) {
    for (int r = 0; r < kRegisters; ++r) {
      if (U32(meeting.operands[l][r]) == U32(meeting.operands[l + 16][r])) continue;
      meeting.block.NoteFault(meeting.first_thread + l + 16, meeting.site,
                              "expected the operands of the lane 16 below once more");
      meeting.block.Leave();
    }
  }
  WaveProduct<kA, kB, 16, 16, 32, 1, kRowWmma>::Run(meeting);
}
template <FragmentType kA, FragmentType kB = kA>
void Wmma(SimtContext* context, const char* site, const uint64_t* operands, uint64_t* results) {
  static_cast<SimtBlock*>(context)->MeetWarp(site, operands, results, MultiplyWmma<kA, kB>);
}

constexpr FragmentType kF16 = FragmentType::kF16, kBF16 = FragmentType::kBF16, kF32 = FragmentType::kF32,
                       kS8 = FragmentType::kS8, kU8 = FragmentType::kU8;

constexpr SimtStandInRow kRows[] = {
    {"amd.mfma.f32.16x16x4.f32", Mfma<kF32, 4>},     {"amd.mfma.f32.32x32x2.f32", Mfma<kF32, 2, 32>},
    {"amd.mfma.f32.16x16x16.f16", Mfma<kF16, 16>},   {"amd.mfma.f32.16x16x8.bf16", Mfma<kBF16, 8>},
    {"amd.mfma.f32.16x16x16.bf16", Mfma<kBF16, 16>}, {"amd.mfma.s32.16x16x16.s8", Mfma<kS8, 16>},
    {"amd.mfma.s32.16x16x32.s8", Mfma<kS8, 32>},     {"amd.wmma.f32.16x16x16.f16", Wmma<kF16>},
    {"amd.wmma.f32.16x16x16.bf16", Wmma<kBF16>},     {"amd.wmma.s32.16x16x16.s8", Wmma<kS8>},
    {"amd.wmma.s32.16x16x16.u8", Wmma<kU8>},         {"amd.wmma.s32.16x16x16.u8.s8", Wmma<kU8, kS8>},
    {"amd.wmma.s32.16x16x16.s8.u8", Wmma<kS8, kU8>},
};

}  // namespace

std::span<const SimtStandInRow> AmdStandIns() { return kRows; }

}  // namespace tessera
