// What goes on by itself on sm_90a, on the target simt: copies that mbarriers count, boxes of tensor maps, products of
// warpgroups, barriers of some threads; in every order of threads, and with each planted fault found and named.
#include <bit>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "codegen/emit/kernel_builder.h"
#include "codegen/testing/simt_case.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

// Faults that a test plants.
enum class Fault {
  kNone,
  kNoInit,
  kNoInitFence,
  kNoWaitForFull,
  kNoWaitForEmpty,
  kFewerBytesExpected,
  kMoreBytesExpected,
  kNoBlockBarrier,
  kArrivesTwice,
};

// Warp 4 fetches tiles of 128 words into two stages; threads 0 to 127 add them up, mirrored.
SimtCase Pipeline(int tiles, Fault fault) {
  constexpr int kTile = 128 * 4;
  SimtCase c;
  c.chip = "sm_90a";
  c.threads = 160;
  c.shared_bytes = 2 * kTile + 4 * 8;
  c.output_bytes = kTile;
  std::vector<int32_t> x(static_cast<size_t>(tiles) * 128);
  for (size_t k = 0; k < x.size(); ++k) x[k] = static_cast<int32_t>(k * 7 % 1001);
  c.inputs = {Bytes(x)};
  c.emit = [=](KernelBuilder& b) {
    llvm::IRBuilder<>& ir = b.ir();
    IrValue stages = b.Shared(2 * kTile, 128), barriers = b.Shared(4 * 8, 8);
    const auto barrier = [&](int base, IrValue tile) {
      IrValue at = ir.CreateAdd(ir.CreateAnd(tile, 1), b.I64(base));
      return ir.CreateInBoundsGEP(ir.getInt64Ty(), barriers, at);
    };
    const auto full = [&](IrValue tile) { return barrier(0, tile); };
    const auto empty = [&](IrValue tile) { return barrier(2, tile); };
    const auto round = [&](IrValue tile) { return ir.CreateTrunc(ir.CreateLShr(tile, 1), ir.getInt32Ty()); };
    const auto parity = [&](IrValue of, int flip) {
      return ir.CreateXor(ir.CreateAnd(of, ir.getInt32(1)), ir.getInt32(flip));
    };
    const auto stage = [&](IrValue tile) {
      return ir.CreateInBoundsGEP(ir.getInt8Ty(), stages, ir.CreateMul(ir.CreateAnd(tile, 1), b.I64(kTile)));
    };
    IrValue thread = b.ThreadId();
    b.If("first", ir.CreateICmpEQ(thread, ir.getInt32(0)), [&] {
      for (int s = 0; s < 2 && fault != Fault::kNoInit; ++s) {
        DeviceOp(b, "nv.mbarrier.init", {full(b.I64(s)), ir.getInt32(1)});
        DeviceOp(b, "nv.mbarrier.init", {empty(b.I64(s)), ir.getInt32(128)});
      }
      if (fault != Fault::kNoInitFence) DeviceOp(b, "nv.fence.mbarrier_init", {});
    });
    if (fault != Fault::kNoBlockBarrier) b.Barrier();
    b.If("producer", ir.CreateICmpEQ(thread, ir.getInt32(128)), [&] {
      b.For("tile", b.I64(0), b.I64(tiles), 1, [&](IrValue tile) {
        if (fault != Fault::kNoWaitForEmpty) {
          DeviceOp(b, "nv.mbarrier.wait", {empty(tile), parity(round(tile), 1)});
        }
        const int bytes = kTile + (fault == Fault::kMoreBytesExpected    ? 16
                                   : fault == Fault::kFewerBytesExpected ? -16
                                                                         : 0);
        DeviceOp(b, "nv.mbarrier.arrive_expect_tx", {full(tile), ir.getInt32(static_cast<uint32_t>(bytes))});
        IrValue from = b.ElementPointer(b.arg(0), ir.CreateMul(tile, b.I64(128)), DType::kI32);
        DeviceOp(b, "nv.bulk_load", {stage(tile), from, ir.getInt32(kTile), full(tile)});
      });
    });
    b.If("consumer", ir.CreateICmpULT(thread, ir.getInt32(128)), [&] {
      IrValue mirror = ir.CreateSub(b.I64(127), Wide(b, thread));
      IrValue sum =
          b.For("tile", b.I64(0), b.I64(tiles), 1, {ir.getInt32(0)}, [&](IrValue tile, const IrValues& carried) {
            if (fault != Fault::kNoWaitForFull) {
              DeviceOp(b, "nv.mbarrier.wait", {full(tile), parity(round(tile), 0)});
            }
            IrValue value = b.Load(stage(tile), mirror, DType::kI32, 1);
            DeviceOp(b, "nv.mbarrier.arrive", {empty(tile)});
            if (fault == Fault::kArrivesTwice) DeviceOp(b, "nv.mbarrier.arrive", {empty(tile)});
            return IrValues{ir.CreateAdd(carried[0], value)};
          })[0];
      b.Store(b.arg(1), Wide(b, thread), DType::kI32, sum);
    });
  };
  return c;
}

TEST(SimtAsyncTest, BulkCopiesFlowThroughStages) {
  for (const int tiles : {1, 2, 7}) {
    const SimtCase c = Pipeline(tiles, Fault::kNone);
    std::vector<int32_t> x(static_cast<size_t>(tiles) * 128), expected(128);
    std::memcpy(x.data(), c.inputs[0].data(), c.inputs[0].size());
    for (size_t k = 0; k < x.size(); ++k) expected[127 - k % 128] += x[k];
    for (const char* order : kOrders) EXPECT_EQ(expected, RunAs<int32_t>(c, order)) << order;
  }
}

TEST(SimtAsyncTest, FaultsOfMbarriersAreNamed) {
  ExpectFault(Pipeline(4, Fault::kNoInit), {"kernel 'probe' of node 'node'", "nv.mbarrier.init is missing"});
  ExpectFault(Pipeline(4, Fault::kNoInitFence), {"nv.bulk_load #1", "without nv.fence.mbarrier_init"});
  ExpectFault(Pipeline(4, Fault::kNoBlockBarrier), {"mbarrier"});
  // What shows first depends on who runs first: what is not there yet, or a barrier that is a phase too far.
  ExpectFault(Pipeline(4, Fault::kNoWaitForFull), {"kernel 'probe' of node 'node'"});
  ExpectFault(Pipeline(4, Fault::kNoWaitForEmpty), {"byte", "of shared memory"});
  ExpectFault(Pipeline(4, Fault::kMoreBytesExpected),
              {"threads wait", "nv.mbarrier.wait", "its copies bring 512 of 528 expected bytes"});
  ExpectFault(Pipeline(4, Fault::kFewerBytesExpected), {"bring 512 bytes", "which expects 496"});
  ExpectFault(Pipeline(4, Fault::kArrivesTwice), {"byte", "of shared memory"});
}

// One thread fetches `y`, which steps before may still write, and waits for them before or after.
TEST(SimtAsyncTest, CopiesOfWhatStepsBeforeWriteAreFound) {
  for (const bool first : {true, false}) {
    SimtCase c;
    c.chip = "sm_90a";
    c.launch.overlap = true;
    c.shared_bytes = 128 + 8;
    c.output_bytes = 128;
    c.emit = [first](KernelBuilder& b) {
      llvm::IRBuilder<>& ir = b.ir();
      IrValue tile = b.Shared(128, 128), barrier = b.Shared(8, 8);
      if (first) DeviceOp(b, "nv.grid_wait", {});
      b.If("first", ir.CreateICmpEQ(b.ThreadId(), ir.getInt32(0)), [&] {
        DeviceOp(b, "nv.mbarrier.init", {barrier, ir.getInt32(1)});
        DeviceOp(b, "nv.fence.mbarrier_init", {});
        DeviceOp(b, "nv.mbarrier.arrive_expect_tx", {barrier, ir.getInt32(128)});
        DeviceOp(b, "nv.bulk_load", {tile, b.arg(0), ir.getInt32(128), barrier});
      });
      b.Barrier();
      DeviceOp(b, "nv.mbarrier.wait", {barrier, ir.getInt32(0)});
      if (!first) DeviceOp(b, "nv.grid_wait", {});
      IrValue thread = Wide(b, b.ThreadId());
      b.Store(b.arg(0), thread, DType::kI32, b.Load(tile, thread, DType::kI32, 1));
    };
    if (first) {
      for (const char* order : kOrders) EXPECT_TRUE(RunBytes(c, order).ok()) << RunBytes(c, order).status();
    } else {
      ExpectFault(c, {"nv.bulk_load #1", "loads 128 bytes", "of 'y'", "before nv.grid_wait"});
    }
  }
}

// A box of f16 [rows, columns] at coordinates that reach outside, as it lies in shared memory, to the output.
SimtCase BoxCopy(int swizzle, int columns, std::array<int, 2> at) {
  constexpr int kRows = 20, kWide = 72;
  SimtCase c;
  c.chip = "sm_90a";
  c.threads = 32;
  const int box_bytes = columns * 2 * 8;
  c.shared_bytes = 1024 + box_bytes + 8;
  c.output_bytes = box_bytes;
  std::vector<uint16_t> x(kRows * kWide);
  for (size_t k = 0; k < x.size(); ++k) x[k] = static_cast<uint16_t>(k + 1);
  c.inputs = {Bytes(x)};
  c.tensor_maps = {{.arg = 0,
                    .type = DType::kF16,
                    .dims = {70, kRows},
                    .strides = {kWide * 2},
                    .box = {columns, 8},
                    .swizzle = swizzle}};
  c.emit = [=](KernelBuilder& b) {
    llvm::IRBuilder<>& ir = b.ir();
    b.Shared(128, 128);  // so that the box starts within a pattern
    IrValue tile = b.Shared(box_bytes, swizzle == 0 ? 128 : 1024), barrier = b.Shared(8, 8);
    b.If("first", ir.CreateICmpEQ(b.ThreadId(), ir.getInt32(0)), [&] {
      DeviceOp(b, "nv.tma.prefetch", {b.TensorMap(0)});
      DeviceOp(b, "nv.mbarrier.init", {barrier, ir.getInt32(1)});
      DeviceOp(b, "nv.fence.mbarrier_init", {});
      DeviceOp(b, "nv.mbarrier.arrive_expect_tx", {barrier, ir.getInt32(static_cast<uint32_t>(box_bytes))});
      DeviceOp(b, "nv.tma.load.2d",
               {tile, b.TensorMap(0), barrier, ir.getInt32(static_cast<uint32_t>(at[0])),
                ir.getInt32(static_cast<uint32_t>(at[1]))});
    });
    b.Barrier();
    DeviceOp(b, "nv.mbarrier.wait", {barrier, ir.getInt32(0)});
    b.For("k", Wide(b, b.ThreadId()), b.I64(box_bytes / 4), 32,
          [&](IrValue k) { b.Store(b.arg(1), k, DType::kI32, b.Load(tile, k, DType::kI32, 1)); });
  };
  return c;
}

TEST(SimtAsyncTest, BoxesLieInTheirPatternWithZerosAround) {
  for (const int swizzle : {0, 32, 64, 128}) {
    const int columns = swizzle == 0 ? 24 : swizzle / 2;
    for (const std::array<int, 2> at : {std::array{0, 0}, std::array{8, 4}, std::array{-5, -3}, std::array{60, 15}}) {
      for (const char* order : kOrders) {
        const std::vector<uint16_t> y = RunAs<uint16_t>(BoxCopy(swizzle, columns, at), order);
        for (int row = 0; row < 8; ++row) {
          for (int column = 0; column < columns; ++column) {
            const int r = at[1] + row, col = at[0] + column;
            const bool inside = r >= 0 && r < 20 && col >= 0 && col < 70;
            // The manual's pattern: 16-byte pieces, exchanged by the number of the 128-byte line.
            int byte = (row * columns + column) * 2;
            const int line = byte / 128;
            if (swizzle == 128) byte ^= line % 8 * 16;
            if (swizzle == 64) byte ^= line % 4 * 16;
            if (swizzle == 32) byte ^= line % 2 * 16;
            EXPECT_EQ(inside ? r * 72 + col + 1 : 0, y[static_cast<size_t>(byte / 2)])
                << swizzle << " " << row << " " << column << " at " << at[0] << "," << at[1];
          }
        }
      }
    }
  }
}

// D = A·B by one warpgroup: A [64, k_size] and B, [n, k_size] or, transposed, [k_size, n], whose tiles come as boxes.
struct Product {
  DType type = DType::kF16;
  std::string op = "f32.f16";
  int n = 64, k_size = 64, swizzle = 128;
  bool transposed_b = false, from_registers = false;
  // Faults.
  bool wait = true, swap = false, by_threads = false, fence = true, wgmma_fence = true, early_reuse = false;
  int wrong_swizzle = 0;
};

int64_t ElementBytes(DType type) { return TypeInfo(type).bits / 8; }

SimtCase MakeProduct(const Product& p, std::vector<std::byte> a, std::vector<std::byte> b_bytes) {
  const int element = static_cast<int>(ElementBytes(p.type));
  const int per_k = 32 / element;          // of one instruction
  const int across = p.swizzle / element;  // elements in a row of the pattern
  const int a_bytes = 64 * p.k_size * element, b_size = p.n * p.k_size * element;
  SimtCase c;
  c.chip = "sm_90a";
  c.threads = 128;
  c.shared_bytes = a_bytes + b_size + 8;
  c.output_bytes = 64 * p.n * 4;
  c.inputs = {std::move(a), std::move(b_bytes)};
  c.tensor_maps = {{.arg = 0,
                    .type = p.type,
                    .dims = {p.k_size, 64},
                    .strides = {p.k_size * element},
                    .box = {across, 64},
                    .swizzle = p.swizzle},
                   {.arg = 1,
                    .type = p.type,
                    .dims = {p.transposed_b ? p.n : p.k_size, p.transposed_b ? p.k_size : p.n},
                    .strides = {(p.transposed_b ? p.n : p.k_size) * element},
                    .box = {across, p.transposed_b ? p.k_size : p.n},
                    .swizzle = p.swizzle}};
  c.emit = [=](KernelBuilder& b) {
    llvm::IRBuilder<>& ir = b.ir();
    IrValue tile_a = b.Shared(a_bytes, 1024), tile_b = b.Shared(b_size, 1024), barrier = b.Shared(8, 8);
    IrValue thread = b.ThreadId();
    const auto number = [&](int value) { return ir.getInt32(static_cast<uint32_t>(value)); };
    const auto at = [&](IrValue base, int bytes) { return ir.CreateConstInBoundsGEP1_64(ir.getInt8Ty(), base, bytes); };
    const int columns_b = p.transposed_b ? p.n : p.k_size, rows_b = p.transposed_b ? p.k_size : p.n;
    if (p.by_threads) {
      // Without a pattern and by plain stores: 16-byte pieces of 8 rows together, as "no swizzle" has them.
      const auto place = [&](IrValue tile, int arg, int rows) {
        const int pieces = p.k_size * element / 16;
        auto* four = llvm::FixedVectorType::get(ir.getInt32Ty(), 4);
        b.For("piece", Wide(b, thread), b.I64(rows * pieces), 128, [&](IrValue k) {
          IrValue row = ir.CreateUDiv(k, b.I64(pieces)), piece = ir.CreateURem(k, b.I64(pieces));
          // [piece, row]: leading offset rows * 16, stride offset 128.
          IrValue to = ir.CreateAdd(ir.CreateMul(piece, b.I64(rows)), row);
          ir.CreateAlignedStore(ir.CreateAlignedLoad(four, ir.CreateInBoundsGEP(four, b.arg(arg), k), llvm::Align(16)),
                                ir.CreateInBoundsGEP(four, tile, to), llvm::Align(16));
        });
      };
      place(tile_a, 0, 64);
      place(tile_b, 1, p.n);
      if (p.fence) DeviceOp(b, "nv.fence.proxy_async", {});
      b.Barrier();
    } else {
      b.If("first", ir.CreateICmpEQ(thread, ir.getInt32(0)), [&] {
        DeviceOp(b, "nv.mbarrier.init", {barrier, ir.getInt32(1)});
        DeviceOp(b, "nv.fence.mbarrier_init", {});
        DeviceOp(b, "nv.mbarrier.arrive_expect_tx", {barrier, number(a_bytes + b_size)});
        for (int k = 0; k < p.k_size; k += across) {
          DeviceOp(b, "nv.tma.load.2d",
                   {at(tile_a, k * 64 * element), b.TensorMap(0), barrier, number(k), ir.getInt32(0)});
        }
        for (int k = 0; k < columns_b; k += across) {
          DeviceOp(b, "nv.tma.load.2d",
                   {at(tile_b, k * rows_b * element), b.TensorMap(1), barrier, number(k), ir.getInt32(0)});
        }
      });
      b.Barrier();
      DeviceOp(b, "nv.mbarrier.wait", {barrier, ir.getInt32(0)});
    }
    // A descriptor: start, leading and stride offsets, pattern.
    const auto descriptor = [&](IrValue base, int bytes, int leading, int stride, int swizzle) {
      const uint64_t mode = swizzle == 128 ? 1 : swizzle == 64 ? 2 : swizzle == 32 ? 3 : 0;
      IrValue start = ir.CreateAnd(ir.CreateLShr(ir.CreatePtrToInt(at(base, bytes), ir.getInt64Ty()), 4), 0x3fff);
      return ir.CreateOr(start, b.I64(static_cast<int64_t>(static_cast<uint64_t>(leading / 16) << 16 |
                                                           static_cast<uint64_t>(stride / 16) << 32 | mode << 62)));
    };
    const int pattern = p.wrong_swizzle != 0 ? p.wrong_swizzle : p.swizzle;
    const bool half = p.type == DType::kF16 || p.type == DType::kBF16;
    const bool integers = p.op[0] == 's';
    const int count = p.n / 2;
    llvm::Type* type = integers ? ir.getInt32Ty() : ir.getFloatTy();
    IrValues accumulators(static_cast<size_t>(count), llvm::Constant::getNullValue(type));
    if (p.wgmma_fence) DeviceOp(b, "nv.wgmma.fence", {});
    for (int k = 0; k < p.k_size; k += per_k) {
      IrValue desc_a, desc_b;
      if (p.by_threads) {
        desc_a = descriptor(tile_a, k * element / 16 * 64 * 16, 64 * 16, 128, 0);
        desc_b = descriptor(tile_b, k * element / 16 * p.n * 16, p.n * 16, 128, 0);
      } else {
        const int inside = k % across * element, outside = k / across * across * element;
        desc_a = descriptor(tile_a, outside * 64 + inside, 16, 8 * pattern, pattern);
        desc_b = p.transposed_b ? descriptor(tile_b, k * p.swizzle, p.k_size * p.swizzle, 8 * pattern, pattern)
                                : descriptor(tile_b, outside * p.n + inside, 16, 8 * pattern, pattern);
      }
      if (p.swap) std::swap(desc_a, desc_b);
      IrValues operands = {desc_a};
      if (p.from_registers) {
        // Of mma.m16n8: rows lane / 4 and 8 more, two words of each 16 bytes.
        operands.clear();
        IrValue lane = ir.CreateAnd(thread, 31), warp = ir.CreateLShr(thread, 5);
        for (int r = 0; r < 4; ++r) {
          IrValue row = ir.CreateAdd(ir.CreateAdd(ir.CreateMul(warp, ir.getInt32(16)), ir.CreateLShr(lane, 2)),
                                     number(8 * (r % 2)));
          IrValue word = ir.CreateAdd(ir.CreateMul(row, number(p.k_size * element / 4)),
                                      ir.CreateAdd(ir.CreateAnd(lane, 3), number(k * element / 4 + 4 * (r / 2))));
          operands.push_back(b.Load(b.arg(0), Wide(b, word), DType::kI32, 1));
        }
      }
      operands.push_back(desc_b);
      operands.push_back(number(k == 0 ? 0 : 1));
      if (half && !p.from_registers) operands.push_back(ir.getInt32(0));
      if (half) operands.push_back(number(p.transposed_b ? 1 : 0));
      operands.insert(operands.end(), accumulators.begin(), accumulators.end());
      const std::string name = "nv.wgmma.m64n" + std::to_string(p.n) + "k" + std::to_string(per_k) + "." + p.op;
      IrValue d = DeviceOp(b, name + (p.from_registers ? ".rs" : ""), operands);
      for (int r = 0; r < count; ++r)
        accumulators[static_cast<size_t>(r)] = ir.CreateExtractValue(d, static_cast<unsigned>(r));
    }
    DeviceOp(b, "nv.wgmma.commit", {});
    if (p.early_reuse) {
      b.If("reuse", ir.CreateICmpEQ(thread, ir.getInt32(64)),
           [&] { b.Store(tile_b, b.I64(0), DType::kI32, ir.getInt32(0)); });
    }
    if (p.wait) {
      IrValues operands = {ir.getInt32(0)};
      operands.insert(operands.end(), accumulators.begin(), accumulators.end());
      IrValue d =
          DeviceOp(b, "nv.wgmma.wait." + std::string(integers ? "s32x" : "f32x") + std::to_string(count), operands);
      for (int r = 0; r < count; ++r)
        accumulators[static_cast<size_t>(r)] = ir.CreateExtractValue(d, static_cast<unsigned>(r));
    }
    // The manual's places: of warp w, row 16 w + lane / 4 (+ 8), columns 8 j + 2 (lane % 4) (+ 1).
    IrValue lane = ir.CreateAnd(thread, 31), warp = ir.CreateLShr(thread, 5);
    for (int r = 0; r < count; ++r) {
      IrValue row = ir.CreateAdd(ir.CreateAdd(ir.CreateMul(warp, ir.getInt32(16)), ir.CreateLShr(lane, 2)),
                                 number(8 * (r / 2 % 2)));
      IrValue column = ir.CreateAdd(ir.CreateShl(ir.CreateAnd(lane, 3), 1), number(r / 4 * 8 + r % 2));
      ir.CreateStore(
          accumulators[static_cast<size_t>(r)],
          ir.CreateInBoundsGEP(type, b.arg(2), Wide(b, ir.CreateAdd(ir.CreateMul(row, number(p.n)), column))));
    }
  };
  return c;
}

// Small whole numbers as `type` has them.
template <typename T>
std::vector<std::byte> Stored(const std::vector<int>& values) {
  std::vector<T> stored;
  for (int value : values) stored.push_back(static_cast<T>(value));
  return Bytes(stored);
}
std::vector<std::byte> StoredAs(DType type, const std::vector<int>& values) {
  if (type == DType::kF16) return Stored<_Float16>(values);
  if (type == DType::kF32) return Stored<float>(values);
  if (type == DType::kI8) return Stored<int8_t>(values);
  std::vector<uint16_t> upper;
  for (int value : values) {
    upper.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16));
  }
  return Bytes(upper);
}

struct Made {
  SimtCase c;
  std::vector<int> expected;  // [64, n]
};

Made Make(const Product& p) {
  std::mt19937 rng(7);
  std::vector<int> a(static_cast<size_t>(64 * p.k_size)), b(static_cast<size_t>(p.n * p.k_size));
  for (int& value : a) value = static_cast<int>(rng() % 7) - 3;
  for (int& value : b) value = static_cast<int>(rng() % 7) - 2;
  Made made;
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < p.n; ++j) {
      int sum = 0;
      for (int k = 0; k < p.k_size; ++k) {
        sum += a[static_cast<size_t>(i * p.k_size + k)] *
               b[static_cast<size_t>(p.transposed_b ? k * p.n + j : j * p.k_size + k)];
      }
      made.expected.push_back(sum);
    }
  }
  made.c = MakeProduct(p, StoredAs(p.type, a), StoredAs(p.type, b));
  return made;
}

TEST(SimtAsyncTest, ProductsOfWarpgroupsOfEveryTypeAndPattern) {
  const Product products[] = {
      {},
      {.n = 256, .k_size = 128},
      {.n = 96, .k_size = 32, .swizzle = 64},
      {.n = 8, .k_size = 16, .swizzle = 32},
      {.type = DType::kBF16, .op = "f32.bf16", .n = 32},
      {.type = DType::kF32, .op = "f32.tf32", .n = 128},
      {.type = DType::kI8, .op = "s32.s8", .n = 16, .k_size = 256},
      {.n = 128, .k_size = 64, .transposed_b = true},
      {.n = 96, .k_size = 64, .swizzle = 64, .transposed_b = true},
      {.n = 64, .k_size = 64, .by_threads = true},
      {.n = 64, .k_size = 64, .from_registers = true},
      {.type = DType::kI8, .op = "s32.s8", .n = 32, .k_size = 128, .from_registers = true},
      {.type = DType::kF32, .op = "f32.tf32", .n = 8, .k_size = 32, .from_registers = true},
  };
  int number = 0;
  for (const Product& p : products) {
    const Made made = Make(p);
    for (const char* order : kOrders) {
      if (p.type == DType::kI8) {
        EXPECT_EQ(made.expected, RunAs<int32_t>(made.c, order)) << number << order;
      } else {
        EXPECT_EQ(std::vector<float>(made.expected.begin(), made.expected.end()), RunAs<float>(made.c, order))
            << number << order;
      }
    }
    ++number;
  }
}

TEST(SimtAsyncTest, FaultsOfProductsAreNamed) {
  // Nobody waited: what is stored are NaNs.
  for (const char* order : kOrders) {
    for (float value : RunAs<float>(Make({.wait = false}).c, order)) ASSERT_NE(value, value) << order;
  }
  ExpectFault(Make({.n = 8, .swap = true}).c,
              {"nv.wgmma.m64n8k16", "the descriptor of A reaches offset", "of shared memory"});
  ExpectFault(Make({.by_threads = true, .fence = false}).c,
              {"nv.wgmma.m64n64k16", "reads A, byte 0", "wrote without nv.fence.proxy_async"});
  ExpectFault(Make({.wrong_swizzle = 64}).c, {"laid out with a swizzle of 128 bytes, with one of 64"});
  ExpectFault(Make({.wgmma_fence = false}).c, {"nv.wgmma.fence is missing"});
  ExpectFault(Make({.early_reuse = true}).c, {"a product still reads: nv.wgmma.wait is missing"});
}

// Threads 0 to 63 write, meet, and read each other's, while 64 to 95 only arrive and 96 to 127 stay away.
SimtCase NamedBarriers(bool meets, int count) {
  SimtCase c;
  c.threads = 128;
  c.shared_bytes = 64 * 4;
  c.output_bytes = 64 * 4;
  c.inputs = {Bytes(std::vector<int32_t>(64, 5))};
  c.emit = [=](KernelBuilder& b) {
    llvm::IRBuilder<>& ir = b.ir();
    IrValue shared = b.Shared(64 * 4), thread = b.ThreadId();
    b.IfElse(
        "half", ir.CreateICmpULT(thread, ir.getInt32(64)),
        [&] {
          b.Store(shared, Wide(b, thread), DType::kI32, thread);
          if (meets) DeviceOp(b, "gpu.barrier.named", {ir.getInt32(3), ir.getInt32(static_cast<uint32_t>(count))});
          IrValue other = b.Load(shared, ir.CreateSub(b.I64(63), Wide(b, thread)), DType::kI32, 1);
          b.Store(b.arg(1), Wide(b, thread), DType::kI32, other);
          return IrValues{};
        },
        [&] {
          b.If("arrives", ir.CreateICmpULT(thread, ir.getInt32(96)),
               [&] { DeviceOp(b, "gpu.barrier.arrive", {ir.getInt32(3), ir.getInt32(96)}); });
          return IrValues{};
        });
  };
  return c;
}

TEST(SimtAsyncTest, SomeThreadsMeetAtNamedBarriers) {
  std::vector<int32_t> expected;
  for (int k = 0; k < 64; ++k) expected.push_back(63 - k);
  for (const char* order : kOrders) EXPECT_EQ(expected, RunAs<int32_t>(NamedBarriers(true, 96), order)) << order;
  ExpectFault(NamedBarriers(false, 96), {"since the last barrier: a barrier is missing"});
  ExpectFault(NamedBarriers(true, 64), {"barrier 3"});
  ExpectFault(NamedBarriers(true, 40), {"a multiple of 32"});
}

TEST(SimtAsyncTest, RegistersAreSetByWholeWarpgroups) {
  const auto with = [](int first, int second, bool uniform) {
    SimtCase c;
    c.chip = "sm_90a";
    c.threads = 256;
    c.output_bytes = 4;
    c.emit = [=](KernelBuilder& b) {
      llvm::IRBuilder<>& ir = b.ir();
      IrValue producer = ir.CreateICmpULT(b.ThreadId(), ir.getInt32(uniform ? 128 : 64));
      b.IfElse(
          "role", producer,
          [&] {
            DeviceOp(b, "nv.setmaxnreg.dec", {ir.getInt32(static_cast<uint32_t>(first))});
            return IrValues{};
          },
          [&] {
            DeviceOp(b, "nv.setmaxnreg.inc", {ir.getInt32(static_cast<uint32_t>(second))});
            return IrValues{};
          });
      b.If("store", ir.CreateICmpEQ(b.ThreadId(), ir.getInt32(0)),
           [&] { b.Store(b.arg(0), b.I64(0), DType::kI32, ir.getInt32(9)); });
    };
    return c;
  };
  for (const char* order : kOrders) EXPECT_EQ(std::vector<int32_t>{9}, RunAs<int32_t>(with(40, 232, true), order));
  ExpectFault(with(40, 230, true), {"nv.setmaxnreg.inc", "230 registers a thread; expected a multiple of 8"});
  ExpectFault(with(40, 232, false), {"nv.setmaxnreg", "of the same warpgroup waits at another place"});
}

}  // namespace
}  // namespace tessera
