#include "runtime/simt/stand_ins.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <span>

#include "runtime/simt/amd_stand_ins.h"
#include "runtime/simt/block.h"
#include "runtime/simt/matrix.h"

namespace tessera {
namespace {

using Meeting = SimtBlock::WarpMeeting;

SimtBlock& Block(SimtContext* context) { return *static_cast<SimtBlock*>(context); }
uint32_t U32(uint64_t slot) { return static_cast<uint32_t>(slot); }
int32_t I32(uint64_t slot) { return static_cast<int32_t>(slot); }
float F32(uint64_t slot) { return std::bit_cast<float>(U32(slot)); }
uint64_t Slot(float value) { return std::bit_cast<uint32_t>(value); }

// A number for each thread: what(block).
template <auto what>
void Place(SimtContext* context, const char*, const uint64_t*, uint64_t* results) {
  results[0] = static_cast<uint32_t>(what(Block(context)));
}

// f32 -> f32.
template <auto what>
void Function(SimtContext*, const char*, const uint64_t* operands, uint64_t* results) {
  // Subnormals count as zero, coming and going.
  const auto flush = [](float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; };
  results[0] = Slot(flush(static_cast<float>(what(static_cast<double>(flush(F32(operands[0])))))));
}

// All lanes meet, and op gives them their results.
template <SimtBlock::WarpOp op>
void Warp(SimtContext* context, const char* site, const uint64_t* operands, uint64_t* results) {
  Block(context).MeetWarp(site, operands, results, op);
}

// Lane l receives the value of lane from(l, its operand 1, the last lane); its own where there is no such lane.
template <auto from>
void Shuffle(const Meeting& meeting) {
  for (int l = 0; l < meeting.lanes; ++l) {
    if (meeting.operands[l] == nullptr) continue;
    const int other = from(l, I32(meeting.operands[l][1]), meeting.lanes - 1);
    const bool exists = other >= 0 && other < meeting.lanes && meeting.operands[other] != nullptr;
    meeting.results[l][0] = U32(meeting.operands[exists ? other : l][0]);
  }
}

// Every lane receives what all lanes' operands make together.
template <auto combine>
void Reduce(const Meeting& meeting) {
  uint32_t result = 0;
  bool first = true;
  for (int l = 0; l < meeting.lanes; ++l) {
    if (meeting.operands[l] == nullptr) continue;
    const uint32_t value = U32(meeting.operands[l][0]);
    result = first ? value : combine(result, value);
    first = false;
  }
  for (uint64_t* of_lane : meeting.results) {
    if (of_lane != nullptr) of_lane[0] = result;
  }
}

void Ballot(const Meeting& meeting) {
  uint32_t result = 0;
  for (int l = 0; l < meeting.lanes; ++l) {
    if (meeting.operands[l] != nullptr && (meeting.operands[l][0] & 1) != 0) result |= uint32_t{1} << l;
  }
  for (uint64_t* of_lane : meeting.results) {
    if (of_lane != nullptr) of_lane[0] = result;
  }
}

void WarpBarrier(const Meeting& meeting) { meeting.block.OrderWarp(meeting.first_thread); }

// NVIDIA's ops on fragments need every lane of 32.
void CheckWhole(const Meeting& meeting) {
  if (meeting.lanes == 32 && meeting.operands[31] != nullptr) return;
  meeting.block.NoteFault(meeting.first_thread, meeting.site, "expected a warp of 32 lanes");
  meeting.block.Leave();
}

// 8x8 matrices of 16-bit elements, rows of 16 bytes: row i of matrix j is where lane 8 j + i says. In registers, lane l
// has elements 2 (l % 4) and the next one of row l / 4; transposed, of column l / 4.
template <int kCount, bool kTransposed>
void LoadMatrix(const Meeting& meeting) {
  CheckWhole(meeting);
  uint16_t matrix[kCount][8][8];
  for (int j = 0; j < kCount; ++j) {
    for (int i = 0; i < 8; ++i) {
      const int lane = 8 * j + i;
      const auto* row = reinterpret_cast<const void*>(meeting.operands[lane][0]);
      meeting.block.CheckAccess(meeting.first_thread + lane, meeting.site, row,
                                {.bytes = 16, .align_log2 = 4, .shared = true});
      std::memcpy(matrix[j][i], row, 16);
    }
  }
  for (int l = 0; l < meeting.lanes; ++l) {
    for (int j = 0; j < kCount; ++j) {
      uint16_t pair[2];
      for (int k = 0; k < 2; ++k) {
        const int row = l / 4, column = l % 4 * 2 + k;
        pair[k] = kTransposed ? matrix[j][column][row] : matrix[j][row][column];
      }
      meeting.results[l][j] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
  }
}

template <int kCount>
void StoreMatrix(const Meeting& meeting) {
  CheckWhole(meeting);
  for (int j = 0; j < kCount; ++j) {
    for (int i = 0; i < 8; ++i) {
      const int lane = 8 * j + i;
      auto* row = reinterpret_cast<uint32_t*>(meeting.operands[lane][0]);
      meeting.block.CheckAccess(meeting.first_thread + lane, meeting.site, row,
                                {.bytes = 16, .align_log2 = 4, .stores = true, .shared = true});
      for (int k = 0; k < 4; ++k) row[k] = U32(meeting.operands[4 * i + k][1 + j]);
    }
  }
}

// Registers first … first + N - 1 of all lanes' operands.
template <int N>
Fragments<N> Take(const Meeting& meeting, int first) {
  Fragments<N> fragments;
  for (int l = 0; l < meeting.lanes; ++l) {
    for (int r = 0; r < N; ++r) fragments[l][r] = U32(meeting.operands[l][first + r]);
  }
  return fragments;
}

constexpr bool OfIntegers(FragmentType a) { return a == FragmentType::kS8 || a == FragmentType::kU8; }

// D = A·B + C for M x 8 x K of whole matrices A and B. C begins at operand `first`; accumulators are f32, f16 (kHalf)
// or i32.
template <int M, int K, bool kIntegers, bool kHalf>
void AddProduct(const Meeting& meeting, const std::array<std::array<double, K>, M>& a,
                const std::array<std::array<double, 8>, K>& b, int first) {
  const auto product = [&](int row, int column) {
    double sum = 0;
    for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][column];
    return sum;
  };
  constexpr int kAccumulators = kHalf ? M / 8 : M / 4;
  for (int l = 0; l < meeting.lanes; ++l) {
    for (int r = 0; r < kAccumulators; ++r) {
      const uint32_t c = U32(meeting.operands[l][first + r]);
      uint32_t d = 0;
      if constexpr (kHalf) {
        for (int i = 0; i < 2; ++i) {
          const double sum = product(l / 4 + 8 * r, l % 4 * 2 + i) + FragmentElement(FragmentType::kF16, c, i);
          d |= static_cast<uint32_t>(std::bit_cast<uint16_t>(static_cast<_Float16>(sum))) << 16 * i;
        }
      } else {
        const double sum = product(l / 4 + 8 * (r / 2), l % 4 * 2 + r % 2);
        // Sums of products of bytes are exact in double.
        d = kIntegers ? c + static_cast<uint32_t>(static_cast<int64_t>(sum))
                      : std::bit_cast<uint32_t>(static_cast<float>(sum + std::bit_cast<float>(c)));
      }
      meeting.results[l][r] = d;
    }
  }
}

// The same of fragments; see matrix.h.
template <FragmentType kA, FragmentType kB, int M, int K, bool kHalf = false>
void Multiply(const Meeting& meeting) {
  CheckWhole(meeting);
  constexpr int kRegistersA = M * K / 32 / ElementsOf(kA), kRegistersB = K * 8 / 32 / ElementsOf(kB);
  const auto a = UnpackA<M, K, kRegistersA>(kA, Take<kRegistersA>(meeting, 0));
  const auto b = UnpackB<K, kRegistersB>(kB, Take<kRegistersB>(meeting, kRegistersA));
  AddProduct<M, K, OfIntegers(kA), kHalf>(meeting, a, b, kRegistersA + kRegistersB);
}

// The same of doubles, a register each: A, B, then C.
template <int M, int K>
void MultiplyDoubles(const Meeting& meeting) {
  CheckWhole(meeting);
  constexpr int kOfA = M * K / 32, kOfB = K / 4, kSums = M / 4;
  const auto at = [&](int lane, int slot) { return std::bit_cast<double>(meeting.operands[lane][slot]); };
  for (int l = 0; l < meeting.lanes; ++l) {
    for (int r = 0; r < kSums; ++r) {
      const int row = l / 4 + 8 * (r / 2), column = l % 4 * 2 + r % 2;
      double sum = at(l, kOfA + kOfB + r);
      // Row and depth of A: lane 4 (row % 8) + depth % 4, registers by row / 8, then by depth / 4. B likewise.
      for (int k = 0; k < K; ++k) {
        const double a = at(row % 8 * 4 + k % 4, k / 4 * (M / 8) + row / 8), b = at(column * 4 + k % 4, kOfA + k / 4);
        sum = std::fma(a, b, sum);
      }
      meeting.results[l][r] = std::bit_cast<uint64_t>(sum);
    }
  }
}

// Of an A that keeps two of each four along K, 32 halves or 64 bytes: the row's group's two numbers are four bits of a
// lane's word, as device_ops.def says.
template <FragmentType kA, FragmentType kB>
void MultiplySparse(const Meeting& meeting) {
  CheckWhole(meeting);
  constexpr bool kBytes = OfIntegers(kA);
  constexpr int kM = 16, kK = kBytes ? 64 : 32, kWords = 12;
  const auto kept = UnpackA<kM, kK / 2, 4>(kA, Take<4>(meeting, 0));
  const auto b = UnpackB<kK, 4>(kB, Take<4>(meeting, 4));
  std::array<std::array<double, kK>, kM> a = {};
  for (int row = 0; row < kM; ++row) {
    for (int group = 0; group < kK / 4; ++group) {
      const int upper = row / 8, of_word = kBytes ? 8 : 4;
      const int selected = kBytes ? 0 : static_cast<int>(U32(meeting.operands[0][kWords + 1]));
      const int lane = row % 8 * 4 + (kBytes ? upper + group / of_word * 2 : selected * 2 + group / of_word);
      const uint32_t word = U32(meeting.operands[lane][kWords]);
      const uint32_t bits = word >> (group % of_word * 4 + (kBytes ? 0 : upper * 16));
      const uint32_t first = bits & 3, second = bits >> 2 & 3;
      if (first >= second) {
        meeting.block.NoteFault(meeting.first_thread + lane, meeting.site,
                                "which two of four are kept must be said in order");
        meeting.block.Leave();
      }
      a[row][group * 4 + static_cast<int>(first)] = kept[row][group * 2];
      a[row][group * 4 + static_cast<int>(second)] = kept[row][group * 2 + 1];
    }
  }
  AddProduct<kM, kK, kBytes, false>(meeting, a, b, 8);
}

// Four products of bytes and a sum.
template <FragmentType kA, FragmentType kB>
void Dot4(SimtContext*, const char*, const uint64_t* operands, uint64_t* results) {
  int64_t sum = 0;
  for (int i = 0; i < 4; ++i) {
    sum += static_cast<int64_t>(FragmentElement(kA, U32(operands[0]), i) * FragmentElement(kB, U32(operands[1]), i));
  }
  results[0] = U32(operands[2]) + static_cast<uint32_t>(sum);
}

// To the nearest of 10 bits of mantissa, halves away from zero.
void ToTf32(SimtContext*, const char*, const uint64_t* operands, uint64_t* results) {
  const uint32_t bits = U32(operands[0]);
  results[0] = (bits & 0x7f800000) == 0x7f800000 ? bits : (bits + 0x1000) & 0xffffe000;
}

void Barrier(SimtContext* context, const char* site, const uint64_t*, uint64_t*) { Block(context).MeetBlock(site); }

template <int kBytes, bool kFills>
void CopyAsync(SimtContext* context, const char* site, const uint64_t* operands, uint64_t*) {
  const int64_t bytes = kFills ? std::clamp<int64_t>(I32(operands[2]), 0, kBytes) : kBytes;
  Block(context).StartCopy(site, reinterpret_cast<std::byte*>(operands[0]),
                           reinterpret_cast<const std::byte*>(operands[1]), bytes, kBytes);
}

void CommitCopies(SimtContext* context, const char*, const uint64_t*, uint64_t*) { Block(context).CommitCopies(); }
void WaitForCopies(SimtContext* context, const char*, const uint64_t* operands, uint64_t*) {
  Block(context).WaitForCopies(U32(operands[0]));
}
void WaitForAllCopies(SimtContext* context, const char*, const uint64_t*, uint64_t*) {
  Block(context).CommitCopies();
  Block(context).WaitForCopies(0);
}
void WaitForGrid(SimtContext* context, const char*, const uint64_t*, uint64_t*) { Block(context).WaitForGrid(); }
// There is no cache to fill, and no step starts before the one before has ended.
void Nothing(SimtContext*, const char*, const uint64_t*, uint64_t*) {}

// ---- What is new in sm_90a: see block.h.

std::byte* At(uint64_t slot) { return reinterpret_cast<std::byte*>(slot); }

template <bool kWaits>
void NamedBarrier(SimtContext* context, const char* site, const uint64_t* operands, uint64_t*) {
  Block(context).MeetNamed(site, I32(operands[0]), I32(operands[1]), kWaits);
}
void InitBarrier(SimtContext* context, const char* site, const uint64_t* operands, uint64_t*) {
  Block(context).InitBarrier(site, At(operands[0]), I32(operands[1]));
}
template <bool kArrives, bool kExpects>
void ArriveAtBarrier(SimtContext* context, const char* site, const uint64_t* operands, uint64_t*) {
  Block(context).ArriveAtBarrier(site, At(operands[0]), kExpects ? I32(operands[1]) : 0, kArrives);
}
void WaitForBarrier(SimtContext* context, const char* site, const uint64_t* operands, uint64_t*) {
  Block(context).WaitForBarrier(site, At(operands[0]), (operands[1] & 1) != 0);
}
void FenceBarriers(SimtContext* context, const char*, const uint64_t*, uint64_t*) { Block(context).FenceBarriers(); }
void FenceProxy(SimtContext* context, const char*, const uint64_t*, uint64_t*) {
  Block(context).FenceProducts();
  Block(context).FenceBarriers();
}
void BulkLoad(SimtContext* context, const char* site, const uint64_t* operands, uint64_t*) {
  Block(context).StartBulkCopy(site, At(operands[0]), At(operands[1]), I32(operands[2]), At(operands[3]));
}
template <int kRank>
void BoxLoad(SimtContext* context, const char* site, const uint64_t* operands, uint64_t*) {
  std::array<int32_t, kRank> coordinates;
  for (size_t d = 0; d < kRank; ++d) coordinates[d] = I32(operands[3 + d]);
  Block(context).StartBoxCopy(site, At(operands[0]), At(operands[1]), At(operands[2]), coordinates);
}
void PrefetchMap(SimtContext* context, const char* site, const uint64_t* operands, uint64_t*) {
  Block(context).CheckTensorMap(site, At(operands[0]), 0);
}

using GroupMeeting = SimtBlock::GroupMeeting;

// All threads of the warpgroup meet.
template <SimtBlock::GroupOp op>
void Group(SimtContext* context, const char* site, const uint64_t* operands, uint64_t* results) {
  Block(context).MeetGroup(site, operands, results, op);
}
void WgmmaFence(const GroupMeeting& meeting) { meeting.block.FenceProductRegisters(meeting); }
void WgmmaCommit(const GroupMeeting& meeting) { meeting.block.CommitProducts(meeting); }
template <int kAccumulators>
void WgmmaWait(const GroupMeeting& meeting) {
  meeting.block.WaitForProducts(meeting, kAccumulators);
}
template <FragmentType kA, FragmentType kB, int kN, bool kRegisters>
void Wgmma(const GroupMeeting& meeting) {
  meeting.block.StartProduct(meeting, {.a = kA, .b = kB, .n = kN, .registers = kRegisters});
}
template <bool kMore>
void SetRegisters(const GroupMeeting& meeting) {
  meeting.block.SetRegisters(meeting, kMore);
}

constexpr FragmentType kF16 = FragmentType::kF16, kBF16 = FragmentType::kBF16, kTF32 = FragmentType::kTF32,
                       kS8 = FragmentType::kS8, kU8 = FragmentType::kU8;

constexpr SimtStandInRow kRows[] = {
    {"gpu.thread_id.x", Place<[](SimtBlock& b) { return b.thread(); }>},
    {"gpu.block_id.x", Place<[](SimtBlock& b) { return b.id()[0]; }>},
    {"gpu.block_id.y", Place<[](SimtBlock& b) { return b.id()[1]; }>},
    {"gpu.block_id.z", Place<[](SimtBlock& b) { return b.id()[2]; }>},
    {"gpu.block_size.x", Place<[](SimtBlock& b) { return b.launch().threads; }>},
    {"gpu.grid_size.x", Place<[](SimtBlock& b) { return b.launch().grid[0]; }>},
    {"gpu.grid_size.y", Place<[](SimtBlock& b) { return b.launch().grid[1]; }>},
    {"gpu.grid_size.z", Place<[](SimtBlock& b) { return b.launch().grid[2]; }>},
    {"gpu.lane_id", Place<[](SimtBlock& b) { return b.lane(); }>},
    {"gpu.barrier", Barrier},
    {"gpu.warp_barrier", Warp<WarpBarrier>},
    {"gpu.shuffle_xor", Warp<Shuffle<[](int lane, int mask, int last) { return lane ^ (mask & last); }>>},
    {"gpu.shuffle_down", Warp<Shuffle<[](int lane, int by, int last) { return lane + (by & last); }>>},
    {"gpu.shuffle_up", Warp<Shuffle<[](int lane, int by, int last) { return lane - (by & last); }>>},
    {"gpu.shuffle_idx", Warp<Shuffle<[](int, int from, int last) { return from & last; }>>},
    {"gpu.vote_any", Warp<Reduce<[](uint32_t a, uint32_t b) { return (a | b) & 1; }>>},
    {"gpu.vote_all", Warp<Reduce<[](uint32_t a, uint32_t b) { return a & b & 1; }>>},
    {"nv.ballot", Warp<Ballot>},
    {"nv.redux_add", Warp<Reduce<[](uint32_t a, uint32_t b) { return a + b; }>>},
    {"nv.redux_min", Warp<Reduce<[](uint32_t a, uint32_t b) {
       return static_cast<uint32_t>(std::min(static_cast<int32_t>(a), static_cast<int32_t>(b)));
     }>>},
    {"nv.redux_max", Warp<Reduce<[](uint32_t a, uint32_t b) {
       return static_cast<uint32_t>(std::max(static_cast<int32_t>(a), static_cast<int32_t>(b)));
     }>>},
    {"gpu.exp2_approx", Function<[](double x) { return std::exp2(x); }>},
    {"gpu.log2_approx", Function<[](double x) { return std::log2(x); }>},
    {"gpu.rcp_approx", Function<[](double x) { return 1 / x; }>},
    {"gpu.rsqrt_approx", Function<[](double x) { return 1 / std::sqrt(x); }>},
    {"nv.tanh_approx", Function<[](double x) { return std::tanh(x); }>},
    {"nv.to_tf32", ToTf32},
    {"gpu.dot4.s8.s8", Dot4<kS8, kS8>},
    {"gpu.dot4.u8.s8", Dot4<kU8, kS8>},
    {"gpu.dot4.u8.u8", Dot4<kU8, kU8>},
    {"nv.ldmatrix.x1", Warp<LoadMatrix<1, false>>},
    {"nv.ldmatrix.x2", Warp<LoadMatrix<2, false>>},
    {"nv.ldmatrix.x4", Warp<LoadMatrix<4, false>>},
    {"nv.ldmatrix.x1.trans", Warp<LoadMatrix<1, true>>},
    {"nv.ldmatrix.x2.trans", Warp<LoadMatrix<2, true>>},
    {"nv.ldmatrix.x4.trans", Warp<LoadMatrix<4, true>>},
    {"nv.stmatrix.x1", Warp<StoreMatrix<1>>},
    {"nv.stmatrix.x2", Warp<StoreMatrix<2>>},
    {"nv.stmatrix.x4", Warp<StoreMatrix<4>>},
    {"nv.mma.m16n8k8.f32.f16", Warp<Multiply<kF16, kF16, 16, 8>>},
    {"nv.mma.m16n8k16.f32.f16", Warp<Multiply<kF16, kF16, 16, 16>>},
    {"nv.mma.m16n8k16.f16.f16", Warp<Multiply<kF16, kF16, 16, 16, true>>},
    {"nv.mma.m16n8k8.f32.bf16", Warp<Multiply<kBF16, kBF16, 16, 8>>},
    {"nv.mma.m16n8k16.f32.bf16", Warp<Multiply<kBF16, kBF16, 16, 16>>},
    {"nv.mma.m16n8k4.f32.tf32", Warp<Multiply<kTF32, kTF32, 16, 4>>},
    {"nv.mma.m16n8k8.f32.tf32", Warp<Multiply<kTF32, kTF32, 16, 8>>},
    {"nv.mma.m8n8k4.f64", Warp<MultiplyDoubles<8, 4>>},
    {"nv.mma.m16n8k16.f64", Warp<MultiplyDoubles<16, 16>>},
    {"nv.mma.m8n8k16.s32.s8", Warp<Multiply<kS8, kS8, 8, 16>>},
    {"nv.mma.m8n8k16.s32.u8", Warp<Multiply<kU8, kU8, 8, 16>>},
    {"nv.mma.m8n8k16.s32.u8.s8", Warp<Multiply<kU8, kS8, 8, 16>>},
    {"nv.mma.m8n8k16.s32.s8.u8", Warp<Multiply<kS8, kU8, 8, 16>>},
    {"nv.mma.m16n8k16.s32.s8", Warp<Multiply<kS8, kS8, 16, 16>>},
    {"nv.mma.m16n8k16.s32.u8", Warp<Multiply<kU8, kU8, 16, 16>>},
    {"nv.mma.m16n8k16.s32.u8.s8", Warp<Multiply<kU8, kS8, 16, 16>>},
    {"nv.mma.m16n8k16.s32.s8.u8", Warp<Multiply<kS8, kU8, 16, 16>>},
    {"nv.mma.m16n8k32.s32.s8", Warp<Multiply<kS8, kS8, 16, 32>>},
    {"nv.mma.m16n8k32.s32.u8", Warp<Multiply<kU8, kU8, 16, 32>>},
    {"nv.mma.m16n8k32.s32.u8.s8", Warp<Multiply<kU8, kS8, 16, 32>>},
    {"nv.mma.m16n8k32.s32.s8.u8", Warp<Multiply<kS8, kU8, 16, 32>>},
    {"nv.mma.sp.m16n8k32.f32.f16", Warp<MultiplySparse<kF16, kF16>>},
    {"nv.mma.sp.m16n8k32.f32.bf16", Warp<MultiplySparse<kBF16, kBF16>>},
    {"nv.mma.sp.m16n8k64.s32.s8", Warp<MultiplySparse<kS8, kS8>>},
    {"nv.mma.sp.m16n8k64.s32.s8.u8", Warp<MultiplySparse<kS8, kU8>>},
    {"nv.cp_async.4", CopyAsync<4, false>},
    {"nv.cp_async.8", CopyAsync<8, false>},
    {"nv.cp_async.16", CopyAsync<16, false>},
    {"nv.cp_async.4.zfill", CopyAsync<4, true>},
    {"nv.cp_async.8.zfill", CopyAsync<8, true>},
    {"nv.cp_async.16.zfill", CopyAsync<16, true>},
    {"nv.cp_async.commit", CommitCopies},
    {"nv.cp_async.wait", WaitForCopies},
    {"nv.cp_async.wait_all", WaitForAllCopies},
    {"nv.prefetch_l2", Nothing},
    {"nv.grid_wait", WaitForGrid},
    {"nv.grid_launch_dependents", Nothing},
    {"gpu.barrier.named", NamedBarrier<true>},
    {"gpu.barrier.arrive", NamedBarrier<false>},
    {"nv.mbarrier.init", InitBarrier},
    {"nv.mbarrier.arrive", ArriveAtBarrier<true, false>},
    {"nv.mbarrier.expect_tx", ArriveAtBarrier<false, true>},
    {"nv.mbarrier.arrive_expect_tx", ArriveAtBarrier<true, true>},
    {"nv.mbarrier.wait", WaitForBarrier},
    {"nv.fence.mbarrier_init", FenceBarriers},
    {"nv.fence.proxy_async", FenceProxy},
    {"nv.bulk_load", BulkLoad},
    {"nv.bulk_prefetch_l2", Nothing},
    {"nv.tma.load.1d", BoxLoad<1>},
    {"nv.tma.load.2d", BoxLoad<2>},
    {"nv.tma.load.3d", BoxLoad<3>},
    {"nv.tma.load.4d", BoxLoad<4>},
    {"nv.tma.load.5d", BoxLoad<5>},
    {"nv.tma.prefetch", PrefetchMap},
    {"nv.setmaxnreg.inc", Group<SetRegisters<true>>},
    {"nv.setmaxnreg.dec", Group<SetRegisters<false>>},
    {"nv.wgmma.fence", Group<WgmmaFence>},
    {"nv.wgmma.commit", Group<WgmmaCommit>},
    {"nv.wgmma.wait", Group<WgmmaWait<0>>},
#define TES_WGMMA_KIND(n, kind, a, b) \
  {"nv.wgmma.m64n" #n kind, Group<Wgmma<a, b, n, false>>}, {"nv.wgmma.m64n" #n kind ".rs", Group<Wgmma<a, b, n, true>>},
#define TES_WGMMA(n, half)                                                                                    \
  {"nv.wgmma.wait.f32x" #half, Group<WgmmaWait<half>>}, {"nv.wgmma.wait.s32x" #half, Group<WgmmaWait<half>>}, \
      TES_WGMMA_KIND(n, "k16.f32.f16", kF16, kF16) TES_WGMMA_KIND(n, "k16.f32.bf16", kBF16, kBF16)            \
          TES_WGMMA_KIND(n, "k8.f32.tf32", kTF32, kTF32) TES_WGMMA_KIND(n, "k32.s32.s8", kS8, kS8)            \
              TES_WGMMA_KIND(n, "k32.s32.u8.s8", kU8, kS8)
    TES_WGMMA(8, 4) TES_WGMMA(16, 8) TES_WGMMA(32, 16) TES_WGMMA(64, 32) TES_WGMMA(96, 48) TES_WGMMA(128, 64)
        TES_WGMMA(192, 96) TES_WGMMA(256, 128)
#undef TES_WGMMA
#undef TES_WGMMA_KIND
};

}  // namespace

SimtStandIn FindSimtStandIn(std::string_view op) {
  for (std::span<const SimtStandInRow> rows : {std::span<const SimtStandInRow>(kRows), AmdStandIns()}) {
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const SimtStandInRow& r) { return r.op == op; });
    if (row != rows.end()) return row->function;
  }
  return nullptr;
}

std::vector<std::string_view> SimtStandInNames() {
  std::vector<std::string_view> names;
  for (const SimtStandInRow& row : kRows) names.push_back(row.op);
  for (const SimtStandInRow& row : AmdStandIns()) names.push_back(row.op);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace tessera
