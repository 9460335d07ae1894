// Kernels for a GPU's blocks on the target simt: what barriers, shuffles, matrix products and asynchronous copies give
// in every order of threads, and that each fault planted here is found and named: kernel, thread and place.
#include <bit>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "codegen/emit/kernel_builder.h"
#include "codegen/target.h"
#include "codegen/testing/simt_case.h"
#include "gtest/gtest.h"
#include "runtime/device.h"

namespace tessera {
namespace {

// y[block] = sum of 256 elements of x a block: shuffles within a warp, shared memory and a barrier across them.
SimtCase BlockSum(int blocks, bool with_barrier) {
  SimtCase c;
  c.threads = 256;
  c.launch.x = blocks;
  c.shared_bytes = 8 * 4;
  c.output_bytes = blocks * 4;
  c.emit = [with_barrier](KernelBuilder& b) {
    llvm::IRBuilder<>& ir = b.ir();
    const auto warp_sum = [&](IrValue value, int from) {
      for (int mask = from; mask >= 1; mask /= 2) {
        IrValue bits = DeviceOp(b, "gpu.shuffle_xor", {ir.CreateBitCast(value, ir.getInt32Ty()), ir.getInt32(mask)});
        value = ir.CreateFAdd(value, ir.CreateBitCast(bits, ir.getFloatTy()));
      }
      return value;
    };
    IrValue thread = b.ThreadId(), block = b.BlockId(0);
    IrValue shared = b.Shared(8 * 4);
    IrValue at = Wide(b, ir.CreateAdd(ir.CreateMul(block, ir.getInt32(256)), thread));
    IrValue sum = warp_sum(b.Load(b.arg(0), at, DType::kF32, 1), 16);
    IrValue lane = ir.CreateAnd(thread, 31), warp = ir.CreateLShr(thread, 5);
    b.If("first", ir.CreateICmpEQ(lane, ir.getInt32(0)),
         [&] { ir.CreateStore(sum, b.ElementPointer(shared, Wide(b, warp), DType::kF32)); });
    if (with_barrier) b.Barrier();
    b.If("last", ir.CreateICmpEQ(warp, ir.getInt32(0)), [&] {
      IrValue of_warp =
          ir.CreateLoad(ir.getFloatTy(), b.ElementPointer(shared, Wide(b, ir.CreateAnd(thread, 7)), DType::kF32));
      IrValue total = warp_sum(of_warp, 4);
      b.If("store", ir.CreateICmpEQ(thread, ir.getInt32(0)),
           [&] { b.Store(b.arg(1), Wide(b, block), DType::kF32, total); });
    });
  };
  std::vector<float> x(static_cast<size_t>(blocks) * 256);
  for (size_t k = 0; k < x.size(); ++k) x[k] = static_cast<float>(k % 97) - 40;
  c.inputs = {Bytes(x)};
  return c;
}

TEST(SimtTest, BlocksSumThroughShufflesAndSharedMemory) {
  const SimtCase c = BlockSum(5, true);
  std::vector<float> x(5 * 256);
  std::memcpy(x.data(), c.inputs[0].data(), c.inputs[0].size());
  for (const char* order : kOrders) {
    const std::vector<float> y = RunAs<float>(c, order);
    for (int block = 0; block < 5; ++block) {
      EXPECT_EQ(std::accumulate(x.begin() + block * 256, x.begin() + (block + 1) * 256, 0.0f), y[block]) << order;
    }
  }
}

TEST(SimtTest, ARemovedBarrierIsFoundInEveryOrder) {
  ExpectFault(BlockSum(1, false), {"kernel 'probe' of node 'node'", "block (0,0,0)", "shared memory",
                                   "since the last barrier: a barrier is missing"});
}

// y[k] = x[k + shift] by 64 threads.
SimtCase ShiftedCopy(int shift_from, int shift_to) {
  SimtCase c;
  c.threads = 64;
  c.output_bytes = 64 * 4;
  c.inputs = {Bytes(std::vector<float>(64, 3))};
  c.emit = [=](KernelBuilder& b) {
    IrValue k = Wide(b, b.ThreadId());
    IrValue x = b.Load(b.arg(0), b.ir().CreateAdd(k, b.I64(shift_from)), DType::kF32, 1);
    b.Store(b.arg(1), b.ir().CreateAdd(k, b.I64(shift_to)), DType::kF32, x);
  };
  return c;
}

TEST(SimtTest, AccessesOutsideBuffersAreFound) {
  EXPECT_EQ(std::vector<float>(64, 3), RunAs<float>(ShiftedCopy(0, 0), ""));
  ExpectFault(ShiftedCopy(0, 1), {"kernel 'probe' of node 'node', block (0,0,0), thread 63 (warp 1, lane 31)", "store",
                                  "stores 4 bytes at offset 256 of 'y', which has 256 bytes"});
  ExpectFault(ShiftedCopy(-1, 0), {"thread 0 (warp 0, lane 0)", "loads 4 bytes at offset -4 of 'x0'"});
  SimtCase c = ShiftedCopy(0, 0);
  c.emit = [](KernelBuilder& b) { b.Store(b.arg(0), Wide(b, b.ThreadId()), DType::kF32, b.Constant(DType::kF32, 1)); };
  ExpectFault(c, {"of 'x0'", "may only be read"});
}

TEST(SimtTest, MisalignedVectorsAreFound) {
  SimtCase c = ShiftedCopy(0, 0);
  c.threads = 8;
  c.emit = [](KernelBuilder& b) {
    llvm::IRBuilder<>& ir = b.ir();
    auto* four = llvm::FixedVectorType::get(ir.getFloatTy(), 4);
    IrValue at = b.ElementPointer(b.arg(0), Wide(b, ir.CreateMul(b.ThreadId(), ir.getInt32(2))), DType::kF32);
    IrValue value = ir.CreateAlignedLoad(four, at, llvm::Align(16));
    ir.CreateAlignedStore(value, b.arg(1), llvm::Align(16));
  };
  ExpectFault(c, {"loads 16 bytes at offset", "of 'x0'", "a multiple of 16"});
}

TEST(SimtTest, UnequalBarriersAndDivergedLanesAreFound) {
  SimtCase c = ShiftedCopy(0, 0);
  c.emit = [](KernelBuilder& b) {
    b.If("half", b.ir().CreateICmpULT(b.ThreadId(), b.ir().getInt32(32)), [&] { b.Barrier(); });
  };
  ExpectFault(c, {"kernel 'probe' of node 'node'", "32 of 64 threads wait", "gpu.barrier #1 in 'half.then"});
  c.emit = [](KernelBuilder& b) {
    llvm::IRBuilder<>& ir = b.ir();
    IrValue odd = ir.CreateICmpEQ(ir.CreateAnd(b.ThreadId(), 1), ir.getInt32(1));
    IrValue sum = b.IfElse(
        "odd", odd, [&] { return IrValues{DeviceOp(b, "gpu.shuffle_down", {b.ThreadId(), ir.getInt32(2)})}; },
        [&] { return IrValues{DeviceOp(b, "gpu.shuffle_down", {b.ThreadId(), ir.getInt32(4)})}; })[0];
    b.Store(b.arg(1), Wide(b, b.ThreadId()), DType::kI32, sum);
  };
  ExpectFault(c, {"gpu.shuffle_down", "of the same warp waits at another place: gpu.shuffle_down"});
  c.emit = [](KernelBuilder& b) {
    b.If("some", b.ir().CreateICmpULT(b.ThreadId(), b.ir().getInt32(40)), [&] { DeviceOp(b, "gpu.warp_barrier", {}); });
  };
  ExpectFault(c, {"ended"});
}

// Tiles of x come by asynchronous copies into two halves of shared memory in turn; y = sum over tiles, mirrored.
SimtCase DoubleBuffer(int tiles, int groups_under_way, bool barrier_after_use) {
  constexpr int kThreads = 64;
  SimtCase c;
  c.threads = kThreads;
  c.shared_bytes = 2 * kThreads * 16;
  c.output_bytes = kThreads * 16;
  std::vector<int32_t> x(static_cast<size_t>(tiles) * kThreads * 4);
  for (size_t k = 0; k < x.size(); ++k) x[k] = static_cast<int32_t>(k * 7 % 1001);
  c.inputs = {Bytes(x)};
  c.emit = [=](KernelBuilder& b) {
    llvm::IRBuilder<>& ir = b.ir();
    IrValue thread = Wide(b, b.ThreadId());
    IrValue shared = b.Shared(2 * kThreads * 16);
    auto* four = llvm::FixedVectorType::get(ir.getInt32Ty(), 4);
    const auto slot = [&](IrValue tile, IrValue lane) {
      IrValue half = ir.CreateAnd(tile, 1);
      return ir.CreateInBoundsGEP(four, shared, ir.CreateAdd(ir.CreateMul(half, b.I64(kThreads)), lane));
    };
    const auto fetch = [&](IrValue tile) {
      b.If("fetch", ir.CreateICmpSLT(tile, b.I64(tiles)), [&] {
        IrValue from = ir.CreateInBoundsGEP(four, b.arg(0), ir.CreateAdd(ir.CreateMul(tile, b.I64(kThreads)), thread));
        DeviceOp(b, "nv.cp_async.16", {slot(tile, thread), from});
      });
      DeviceOp(b, "nv.cp_async.commit", {});
    };
    fetch(b.I64(0));
    IrValue mirror = ir.CreateSub(b.I64(kThreads - 1), thread);
    IrValue sum = b.For("tile", b.I64(0), b.I64(tiles), 1, {llvm::Constant::getNullValue(four)},
                        [&](IrValue tile, const IrValues& carried) {
                          fetch(ir.CreateAdd(tile, b.I64(1)));
                          DeviceOp(b, "nv.cp_async.wait", {ir.getInt32(groups_under_way)});
                          b.Barrier();
                          IrValue value = ir.CreateAlignedLoad(four, slot(tile, mirror), llvm::Align(16));
                          if (barrier_after_use) b.Barrier();
                          return IrValues{ir.CreateAdd(carried[0], value)};
                        })[0];
    ir.CreateAlignedStore(sum, ir.CreateInBoundsGEP(four, b.arg(1), thread), llvm::Align(16));
  };
  return c;
}

TEST(SimtTest, CopiesArriveAtTheirWait) {
  const SimtCase c = DoubleBuffer(5, 1, true);
  std::vector<int32_t> x(5 * 256), expected(256);
  std::memcpy(x.data(), c.inputs[0].data(), c.inputs[0].size());
  for (int thread = 0; thread < 64; ++thread) {
    for (int i = 0; i < 4; ++i) {
      for (int tile = 0; tile < 5; ++tile) expected[thread * 4 + i] += x[tile * 256 + (63 - thread) * 4 + i];
    }
  }
  for (const char* order : kOrders) EXPECT_EQ(expected, RunAs<int32_t>(c, order)) << order;
}

TEST(SimtTest, AMissingWaitIsFound) {
  // Two groups may be under way: the tile that is read is one of them.
  ExpectFault(DoubleBuffer(5, 2, true),
              {"kernel 'probe'", "load in '", "an asynchronous copy of thread", "has yet to bring: a wait"});
}

TEST(SimtTest, ABufferFilledWhileOthersReadItIsFound) {
  ExpectFault(DoubleBuffer(5, 1, false), {"kernel 'probe'", "an asynchronous copy", "a barrier is missing"});
}

// D = A·B + C for one tile: A is 16 rows of 32 bytes, B 8 columns of 32 bytes, both through ldmatrix.
SimtCase MatrixTile(const std::string& op, int accumulators, std::vector<std::byte> a, std::vector<std::byte> b_columns,
                    std::vector<std::byte> c_rows) {
  SimtCase c;
  c.shared_bytes = 24 * 32;
  c.output_bytes = static_cast<int64_t>(c_rows.size());
  c.inputs = {std::move(a), std::move(b_columns), std::move(c_rows)};
  c.emit = [op, accumulators](KernelBuilder& b) {
    llvm::IRBuilder<>& ir = b.ir();
    IrValue lane = Wide(b, b.ThreadId());
    IrValue shared = b.Shared(24 * 32);
    auto* four = llvm::FixedVectorType::get(ir.getInt32Ty(), 4);
    const auto fetch = [&](int arg, IrValue to, IrValue from) {
      ir.CreateAlignedStore(ir.CreateAlignedLoad(four, ir.CreateInBoundsGEP(four, b.arg(arg), from), llvm::Align(16)),
                            ir.CreateInBoundsGEP(four, shared, to), llvm::Align(16));
    };
    fetch(0, lane, lane);
    b.If("columns", ir.CreateICmpSLT(lane, b.I64(16)), [&] { fetch(1, ir.CreateAdd(lane, b.I64(32)), lane); });
    b.Barrier();
    const auto piece = [&](IrValue row, IrValue half) {
      return ir.CreateInBoundsGEP(four, shared, ir.CreateAdd(ir.CreateShl(row, 1), half));
    };
    IrValue from_a = DeviceOp(b, "nv.ldmatrix.x4", {piece(ir.CreateAnd(lane, 15), ir.CreateLShr(lane, 4))});
    IrValue of_b = ir.CreateAnd(lane, 15);
    IrValue from_b =
        DeviceOp(b, "nv.ldmatrix.x2", {piece(ir.CreateAdd(ir.CreateAnd(of_b, 7), b.I64(16)), ir.CreateLShr(of_b, 3))});
    IrValues operands;
    for (unsigned k = 0; k < 4; ++k) operands.push_back(ir.CreateExtractValue(from_a, k));
    for (unsigned k = 0; k < 2; ++k) operands.push_back(ir.CreateExtractValue(from_b, k));
    // C and D lie as rows of 8: rows l / 4 and l / 4 + 8, a pair of columns each.
    IrValue group = ir.CreateLShr(lane, 2), pair = ir.CreateAnd(lane, 3);
    const bool half = accumulators == 2;
    llvm::Type* type = op.find(".f32.") == std::string::npos ? ir.getInt32Ty() : ir.getFloatTy();
    const auto place = [&](IrValue of, int k) {
      const int row = 8 * (half ? k : k / 2);
      IrValue at = ir.CreateMul(ir.CreateAdd(group, b.I64(row)), b.I64(half ? 4 : 8));
      at = ir.CreateAdd(at, half ? pair : ir.CreateAdd(ir.CreateShl(pair, 1), b.I64(k % 2)));
      return ir.CreateInBoundsGEP(type, of, at);
    };
    for (int k = 0; k < accumulators; ++k) operands.push_back(ir.CreateLoad(type, place(b.arg(2), k)));
    IrValue d = DeviceOp(b, op, operands);
    for (int k = 0; k < accumulators; ++k) {
      ir.CreateStore(ir.CreateExtractValue(d, static_cast<unsigned>(k)), place(b.arg(3), k));
    }
  };
  return c;
}

// Small whole numbers, which every type holds.
template <typename T, typename Convert>
std::vector<T> Numbers(size_t count, int low, std::mt19937& rng, Convert convert) {
  std::vector<T> values(count);
  for (T& value : values) value = convert(static_cast<int>(rng() % 7) + low);
  return values;
}

// The product of 16 x K and K x 8 (by columns) plus C, by the definition.
template <typename D, typename A, typename B>
std::vector<D> Product(const std::vector<A>& a, const std::vector<B>& b, const std::vector<D>& c) {
  const size_t k_size = a.size() / 16;
  std::vector<D> d = c;
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      for (size_t k = 0; k < k_size; ++k) {
        d[i * 8 + j] =
            static_cast<D>(d[i * 8 + j] + static_cast<D>(a[i * k_size + k]) * static_cast<D>(b[j * k_size + k]));
      }
    }
  }
  return d;
}

TEST(SimtTest, MatrixProductsOfEveryType) {
  std::mt19937 rng(3);
  const auto same = [](int v) { return v; };
  for (const char* order : kOrders) {
    const auto c = Numbers<float>(128, -3, rng, same);
    const auto half_c = Numbers<_Float16>(128, -3, rng, same);
    const auto a = Numbers<_Float16>(256, -3, rng, same), b = Numbers<_Float16>(128, -2, rng, same);
    EXPECT_EQ(Product<float>(a, b, c),
              RunAs<float>(MatrixTile("nv.mma.m16n8k16.f32.f16", 4, Bytes(a), Bytes(b), Bytes(c)), order));
    EXPECT_TRUE(Product<_Float16>(a, b, half_c) ==
                RunAs<_Float16>(MatrixTile("nv.mma.m16n8k16.f16.f16", 2, Bytes(a), Bytes(b), Bytes(half_c)), order));
    const auto fa = Numbers<float>(256, -3, rng, same), fb = Numbers<float>(128, -2, rng, same);
    const auto upper = [](const std::vector<float>& values) {
      std::vector<uint16_t> bits;
      for (float value : values) bits.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
      return Bytes(bits);
    };
    EXPECT_EQ(Product<float>(fa, fb, c),
              RunAs<float>(MatrixTile("nv.mma.m16n8k16.f32.bf16", 4, upper(fa), upper(fb), Bytes(c)), order));
    const std::vector<float> ta(fa.begin(), fa.begin() + 128), tb(fb.begin(), fb.begin() + 64);
    EXPECT_EQ(Product<float>(ta, tb, c),
              RunAs<float>(MatrixTile("nv.mma.m16n8k8.f32.tf32", 4, Bytes(ta), Bytes(tb), Bytes(c)), order));
    const auto ic = Numbers<int32_t>(128, -9, rng, same);
    const auto sa = Numbers<int8_t>(512, -128, rng, same), sb = Numbers<int8_t>(256, 120, rng, same);
    const auto ua = Numbers<uint8_t>(512, 249, rng, same), ub = Numbers<uint8_t>(256, 100, rng, same);
    const auto tile = [&](const char* op, const auto& left, const auto& right) {
      EXPECT_EQ(Product<int32_t>(left, right, ic),
                RunAs<int32_t>(MatrixTile(op, 4, Bytes(left), Bytes(right), Bytes(ic)), order))
          << op;
    };
    tile("nv.mma.m16n8k32.s32.s8", sa, sb);
    tile("nv.mma.m16n8k32.s32.u8", ua, ub);
    tile("nv.mma.m16n8k32.s32.u8.s8", ua, sb);
    tile("nv.mma.m16n8k32.s32.s8.u8", sa, ub);
  }
}

TEST(SimtTest, WritingBeforeTheStepsBeforeHaveEndedIsFound) {
  // An input may be read before the wait; the output may not be written.
  for (const bool waits : {true, false}) {
    SimtCase c = ShiftedCopy(0, 0);
    c.chip = "sm_90";
    c.launch.overlap = true;
    c.emit = [waits](KernelBuilder& b) {
      IrValue k = Wide(b, b.ThreadId());
      IrValue x = b.Load(b.arg(0), k, DType::kF32, 1);
      if (waits) DeviceOp(b, "nv.grid_wait", {});
      b.Store(b.arg(1), k, DType::kF32, x);
    };
    if (waits) {
      EXPECT_EQ(std::vector<float>(64, 3), RunAs<float>(c, ""));
    } else {
      ExpectFault(c, {"stores 4 bytes", "of 'y'", "before nv.grid_wait"});
    }
  }
}

TEST(SimtTest, ABlockThatNeverWaitsForTheStepsBeforeIsFound) {
  // Even one that has nothing to do: the step after it relies on it.
  SimtCase c = ShiftedCopy(0, 0);
  c.chip = "sm_90";
  c.launch.overlap = true;
  c.emit = [](KernelBuilder& b) { DeviceOp(b, "nv.grid_launch_dependents", {}); };
  ExpectFault(c, {"the block ends without nv.grid_wait"});
}

TEST(SimtTest, MisspeltOpsAreNamed) {
  SimtCase c = ShiftedCopy(0, 0);
  c.emit = [](KernelBuilder& b) { DeviceOp(b, "gpu.barier", {}); };
  const Status status = RunBytes(c, "").status();
  EXPECT_EQ(ErrorCode::kInternal, status.code());
  for (const char* part : {"kernel 'probe'", "'gpu.barier'", "did you mean 'gpu.barrier'"}) {
    EXPECT_NE(std::string::npos, status.message().find(part)) << status;
  }
}

TEST(SimtTest, UnknownOrdersAndChipsAreNamed) {
  EXPECT_EQ(ErrorCode::kTargetUnknown, MakeTarget("simt:nvptx:sm_12").status().code());
  EXPECT_EQ(ErrorCode::kTargetUnknown, MakeTarget("simt:sm_80").status().code());
  const Status status = OpenDevice("simt:sideways").status();
  EXPECT_NE(std::string::npos, status.message().find("simt:reverse")) << status;
}

}  // namespace
}  // namespace tessera
