#include "codegen/emit/gpu/wgmma_kernel.h"

#include <algorithm>

namespace tessera {
namespace {

constexpr int kWarp = 32, kGroupWarps = 4, kGroupRows = 64, kWarpRows = 16;
constexpr int kLineBytes = 128, kStepBytes = 32;  // of depth: a stage's line, one instruction's part of it
constexpr int kBarrierBytes = 16;                 // of a stage: full, empty
// Registers of a thread, where they are given: 128 threads a warpgroup, 65536 in all.
struct Registers {
  int multiplying, bringing;
};
Registers RegistersOf(const MatmulTiling& tiling) {
  return tiling.tile_m > 2 * kGroupRows ? Registers{152, 56} : Registers{232, 40};
}

// Columns that a warp stages at once, and elements behind a staged row that keep its writes in different banks.
int ChunkColumns(const MatmulTiling& tiling) { return tiling.tile_n % 64 == 0 && tiling.tile_n <= 128 ? 64 : 32; }
constexpr int kPadding = 8;

int64_t StageBytes(const MatmulTiling& tiling) { return int64_t{tiling.tile_m + tiling.tile_n} * kLineBytes; }
int64_t StagingBytes(const MatmulTiling& tiling) {  // of a warp
  return int64_t{kWarpRows} * (ChunkColumns(tiling) + kPadding) * 4;
}

class WgmmaEmitter {
 public:
  WgmmaEmitter(KernelBuilder& b, const GpuMatmul& matmul, const TileEpilogue& epilogue)
      : b_(b), m_(matmul), t_(matmul.tiling), epilogue_(epilogue), sums_(t_.tile_n / 2) {}

  void Emit() {
    tiles_ = b_.Shared(t_.stages * StageBytes(t_), 1024);
    barriers_ = b_.Shared(t_.stages * kBarrierBytes, 16);
    staging_ = b_.Shared(t_.warps_m * StagingBytes(t_), 16);
    IrValue thread = b_.ThreadId();
    lane_ = ir().CreateAnd(thread, I32(kWarp - 1), "lane");
    // By way of a shuffle, so that the assembler knows it to be the same for all lanes.
    warp_ = DeviceOp(b_, "gpu.shuffle_idx", {ir().CreateUDiv(thread, I32(kWarp)), I32(0)});
    b_.If("init", ir().CreateICmpEQ(thread, I32(0)), [&] {
      for (int s = 0; s < t_.stages; ++s) {
        DeviceOp(b_, "nv.mbarrier.init", {Full(I32(s)), I32(1)});
        DeviceOp(b_, "nv.mbarrier.init", {Empty(I32(s)), I32(t_.warps_m)});
      }
      DeviceOp(b_, "nv.fence.mbarrier_init", {});
    });
    b_.Barrier();
    b_.IfElse(
        "role", ir().CreateICmpUGE(warp_, I32(t_.warps_m)),
        [&] {
          if (t_.gives_registers()) DeviceOp(b_, "nv.setmaxnreg.dec", {I32(RegistersOf(t_).bringing)});
          IrValue one = ir().CreateICmpEQ(thread, I32(int64_t{kWarp} * t_.warps_m));
          b_.If("bring", one, [&] { Bring(); });
          return IrValues();
        },
        [&] {
          if (t_.gives_registers()) DeviceOp(b_, "nv.setmaxnreg.inc", {I32(RegistersOf(t_).multiplying)});
          Multiply();
          return IrValues();
        });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return b_.ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue I64Of(IrValue value) { return ir().CreateZExt(value, ir().getInt64Ty()); }
  IrValue I32Of(IrValue value) { return ir().CreateTrunc(value, ir().getInt32Ty()); }
  IrValue At(IrValue base, IrValue offset) { return ir().CreateGEP(ir().getInt8Ty(), base, offset); }
  IrValue At(IrValue base, int64_t offset) { return At(base, I32(offset)); }
  IrValue Full(IrValue stage) { return At(barriers_, ir().CreateMul(stage, I32(kBarrierBytes))); }
  IrValue Empty(IrValue stage) { return At(Full(stage), kBarrierBytes / 2); }

  // The stage after `stage`, and the parity that its phase then has.
  IrValues Advance(IrValue stage, IrValue parity) {
    IrValue next = ir().CreateAdd(stage, I32(1));
    IrValue around = ir().CreateICmpEQ(next, I32(t_.stages));
    return {ir().CreateSelect(around, I32(0), next),
            ir().CreateXor(parity, ir().CreateZExt(around, ir().getInt32Ty()))};
  }

  // Both roles walk the same tiles, and carry the stage and its parity from one to the next.
  void ForTiles(const std::function<IrValues(const TilePlace& place, const IrValues& stage)>& body) {
    IrValue first = I64Of(b_.BlockId(0));
    b_.For("tile", first, b_.I64(m_.tiles()), m_.blocks(), {I32(0), I32(0)},
           [&](IrValue tile, const IrValues& stage) { return body(PlaceOfTile(b_, m_, I32Of(tile)), stage); });
  }

  void Bring() {
    const IrValue map_a = b_.TensorMap(0), map_b = b_.TensorMap(1);
    DeviceOp(b_, "nv.tma.prefetch", {map_a});
    DeviceOp(b_, "nv.tma.prefetch", {map_b});
    ForTiles([&](const TilePlace& place, const IrValues& stage) {
      const auto line = [&](IrValue matrix, int64_t lines, IrValue first) {
        return ir().CreateAdd(ir().CreateMul(I32Of(matrix), I32(lines)), first);
      };
      IrValue row = line(place.a_matrix, m_.problem.rows, place.first_row);
      IrValue column = line(place.b_matrix, m_.problem.columns, place.first_column);
      return b_.For("bring", b_.I64(0), I64Of(place.num_steps), 1, stage, [&](IrValue step, const IrValues& now) {
        IrValue full = Full(now[0]);
        DeviceOp(b_, "nv.mbarrier.wait", {Empty(now[0]), ir().CreateXor(now[1], I32(1))});
        DeviceOp(b_, "nv.mbarrier.arrive_expect_tx", {full, I32(StageBytes(t_))});
        const StepPlace at = PlaceOfStep(b_, m_, place, I32Of(step));
        IrValue to = At(tiles_, ir().CreateMul(now[0], I32(StageBytes(t_))));
        DeviceOp(b_, "nv.tma.load.2d", {to, map_a, full, at.a_depth, row});
        DeviceOp(
            b_, "nv.tma.load.2d",
            {At(to, int64_t{t_.tile_m} * kLineBytes), map_b, full, at.b_depth, m_.listed >= 0 ? at.b_line : column});
        return Advance(now[0], now[1]);
      });
    });
  }

  // The descriptor of lines that begin at `address` of shared memory: 128-byte swizzle, eight lines 1024 bytes apart.
  IrValue Descriptor(IrValue address) {
    constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kEightLines = uint64_t{1024 >> 4} << 32, kOne = 1 << 16;
    IrValue start = ir().CreateLShr(ir().CreatePtrToInt(address, ir().getInt64Ty()), 4);
    start = ir().CreateAnd(start, ir().getInt64(0x3fff));
    return ir().CreateOr(start, ir().getInt64(kSwizzle128 | kEightLines | kOne));
  }

  std::string ProductOp() const {
    const std::string shape = internal::Join("nv.wgmma.m64n", t_.tile_n, "k");
    switch (m_.a.type) {
      case DType::kF16: return shape + "16.f32.f16";
      case DType::kBF16: return shape + "16.f32.bf16";
      case DType::kF32: return shape + "8.f32.tf32";
      case DType::kU8: return shape + "32.s32.u8.s8";
      default: return shape + "32.s32.s8";
    }
  }

  IrValues Members(IrValue all) {
    IrValues members;
    for (unsigned k = 0; k < static_cast<unsigned>(sums_); ++k) members.push_back(ir().CreateExtractValue(all, {k}));
    return members;
  }

  // sums += the products of the stage, which then go on by themselves. The first of a tile leaves out the sums.
  IrValues Products(IrValue stage, IrValue step, IrValues sums) {
    const std::string op = ProductOp();
    IrValue first_group = I32Of(ir().CreateUDiv(I64Of(warp_), b_.I64(kGroupWarps)));
    IrValue to = At(tiles_, ir().CreateMul(stage, I32(StageBytes(t_))));
    IrValue a = Descriptor(At(to, ir().CreateMul(first_group, I32(kGroupRows * kLineBytes))));
    IrValue b = Descriptor(At(to, int64_t{t_.tile_m} * kLineBytes));
    DeviceOp(b_, "nv.wgmma.fence", {});
    for (int k = 0; k < kLineBytes / kStepBytes; ++k) {
      const auto part = [&](IrValue descriptor) { return ir().CreateAdd(descriptor, b_.I64(k * kStepBytes >> 4)); };
      IrValue adds = k > 0 ? I32(1) : ir().CreateZExt(ir().CreateICmpNE(step, b_.I64(0)), ir().getInt32Ty());
      IrValues operands = {part(a), part(b), adds};
      if (m_.a.element_bytes() == 2) operands.insert(operands.end(), {I32(0), I32(0)});  // the depth runs fastest
      operands.insert(operands.end(), sums.begin(), sums.end());
      sums = Members(DeviceOp(b_, op, operands));
    }
    DeviceOp(b_, "nv.wgmma.commit", {});
    return sums;
  }

  // Until at most `running` of the newest steps' products are under way.
  IrValues WaitForProducts(int running, const IrValues& sums) {
    IrValues operands = {I32(running)};
    operands.insert(operands.end(), sums.begin(), sums.end());
    return Members(
        DeviceOp(b_, internal::Join("nv.wgmma.wait.", IsFloat(m_.a.type) ? "f32x" : "s32x", sums_), operands));
  }

  void Release(IrValue stage, IrValue condition) {
    b_.If("release", condition, [&] { DeviceOp(b_, "nv.mbarrier.arrive", {Empty(stage)}); });
  }

  void Multiply() {
    IrValue one = ir().CreateICmpEQ(lane_, I32(0));
    const auto before = [&](IrValue stage) {
      return ir().CreateSelect(ir().CreateICmpEQ(stage, I32(0)), I32(t_.stages - 1), ir().CreateSub(stage, I32(1)));
    };
    ForTiles([&](const TilePlace& place, const IrValues& stage) {
      // The first step's products do not read what the sums are before it.
      IrValues carried(static_cast<size_t>(sums_), llvm::UndefValue::get(b_.ElementType(m_.sum())));
      carried.insert(carried.end(), stage.begin(), stage.end());
      carried = b_.For("step", b_.I64(0), I64Of(place.num_steps), 1, carried, [&](IrValue step, const IrValues& now) {
        IrValue at = now[sums_], parity = now[sums_ + 1];
        DeviceOp(b_, "nv.mbarrier.wait", {Full(at), parity});
        IrValues next = Products(at, step, IrValues(now.begin(), now.begin() + sums_));
        next = WaitForProducts(1, next);
        Release(before(at), ir().CreateAnd(one, ir().CreateICmpNE(step, b_.I64(0))));
        const IrValues advanced = Advance(at, parity);
        next.insert(next.end(), advanced.begin(), advanced.end());
        return next;
      });
      const IrValues after(carried.begin() + sums_, carried.end());
      carried.resize(static_cast<size_t>(sums_));
      const IrValues sums = WaitForProducts(0, carried);
      Release(before(after[0]), one);
      Finish(place, sums);
      return after;
    });
  }

  // Vectors of a part that a lane has, and how many at once, in straight code: what the epilogue reads is asked for
  // before any of them is stored.
  int Passes() const { return kWarpRows * ChunkColumns(t_) / m_.vector / kWarp; }
  static constexpr int kMostAtOnce = 8;

  // Of a warp's 16 rows, lane l has rows l / 4 and l / 4 + 8 and of each 8 columns 2 (l % 4) and the next.
  void Finish(const TilePlace& place, const IrValues& sums) {
    const int chunk = ChunkColumns(t_), pitch = chunk + kPadding;
    IrValue mine = At(staging_, ir().CreateMul(warp_, I32(StagingBytes(t_))));
    IrValue corner = ir().CreateAdd(ir().CreateMul(ir().CreateLShr(lane_, I32(2)), I32(pitch)),
                                    ir().CreateMul(ir().CreateAnd(lane_, I32(3)), I32(2)));
    llvm::Type* pair_type = llvm::FixedVectorType::get(b_.ElementType(m_.sum()), 2);
    EpilogueEmitter finish(b_, epilogue_, m_.first_epilogue_arg());
    const bool straight = Passes() <= kMostAtOnce;
    std::vector<StagedResult> vectors =
        straight ? Fetched(place, finish, 0, I32(0), Passes()) : std::vector<StagedResult>();
    for (int first = 0; first < t_.tile_n; first += chunk) {
      DeviceOp(b_, "gpu.warp_barrier", {});  // the part before has been read
      for (int j = 0; j < chunk / 8; ++j) {
        for (int half = 0; half < 2; ++half) {
          IrValue pair = llvm::PoisonValue::get(pair_type);
          for (uint64_t k = 0; k < 2; ++k) {
            pair = ir().CreateInsertElement(pair, sums[((first / 8 + j) * 2 + half) * 2 + static_cast<int>(k)], k);
          }
          IrValue at = ir().CreateAdd(corner, I32(half * 8 * pitch + j * 8));
          ir().CreateAlignedStore(pair, ir().CreateGEP(b_.ElementType(m_.sum()), mine, at), llvm::Align(8));
        }
      }
      DeviceOp(b_, "gpu.warp_barrier", {});
      if (straight) {
        // The next part's operands are under way while this one is finished.
        const std::vector<StagedResult> now = std::move(vectors);
        if (first + chunk < t_.tile_n) vectors = Fetched(place, finish, first + chunk, I32(0), Passes());
        Write(place, finish, mine, now);
        continue;
      }
      b_.For("finish", b_.I64(0), b_.I64(Passes()), kMostAtOnce, [&](IrValue pass) {
        EpilogueEmitter of_loop(b_, epilogue_, m_.first_epilogue_arg());
        Write(place, of_loop, mine, Fetched(place, of_loop, first, I32Of(pass), kMostAtOnce));
      });
    }
  }

  // Neighbouring lanes take neighbouring vectors of a row.
  std::vector<StagedResult> Fetched(const TilePlace& place, EpilogueEmitter& finish, int first, IrValue pass,
                                    int count) {
    const int chunk = ChunkColumns(t_), pitch = chunk + kPadding, across = chunk / m_.vector;  // vectors of a row
    const auto column_of = [&](IrValue number) {
      return ir().CreateMul(ir().CreateURem(number, I32(across)), I32(m_.vector));
    };
    // All passes have the same columns where they are of whole rows: one value, by which the emitter knows it.
    IrValue column = column_of(lane_), in_c = nullptr;
    std::vector<StagedResult> vectors;
    for (int k = 0; k < count; ++k) {
      IrValue number = ir().CreateAdd(ir().CreateMul(ir().CreateAdd(pass, I32(k)), I32(kWarp)), lane_);
      if (across > kWarp) column = column_of(number), in_c = nullptr;
      IrValue row = ir().CreateUDiv(number, I32(across));
      IrValue in_matrix = ir().CreateAdd(place.first_row, ir().CreateAdd(ir().CreateMul(warp_, I32(kWarpRows)), row));
      IrValue in_row = ir().CreateAdd(place.first_column, ir().CreateAdd(I32(first), column));
      StagedResult v = {ir().CreateAdd(ir().CreateMul(row, I32(pitch)), column),
                        InsideResult(b_, m_, in_matrix, in_row), PlaceInResult(b_, m_, place, in_matrix, in_row)};
      v.at.column = in_c = in_c == nullptr ? v.at.column : in_c;
      FetchOperands(b_, m_, finish, v.at);
      vectors.push_back(v);
    }
    return vectors;
  }

  void Write(const TilePlace& place, EpilogueEmitter& finish, IrValue staging,
             const std::vector<StagedResult>& vectors) {
    for (const StagedResult& v : vectors) FinishSums(b_, m_, finish, place, staging, v);
  }

  KernelBuilder& b_;
  const GpuMatmul& m_;
  const MatmulTiling& t_;
  const TileEpilogue& epilogue_;
  const int sums_;  // of a thread
  IrValue tiles_ = nullptr, barriers_ = nullptr, staging_ = nullptr;
  IrValue lane_ = nullptr, warp_ = nullptr;
};

}  // namespace

bool WgmmaTakes(const GpuMatmul& m, const Target& target, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return false;
  };
  if (!target.has_warpgroups) return no("expected sm_90a, found ", target.cpu);
  const DType a = m.a.type, b = m.b.type;
  const bool halves = a == b && (a == DType::kF16 || a == DType::kBF16);
  const bool tf32 = a == b && a == DType::kF32 && target.allow_tf32;
  const bool bytes = (a == DType::kU8 || a == DType::kI8) && b == DType::kI8;
  if (!halves && !tf32 && !bytes) return no("no warpgroups' product of ", Name(a), " and ", Name(b));
  for (const TileOperand* operand : {&m.a, &m.b}) {
    if (!operand->depth_inner) return no("the depth does not run along lines");
    if (operand->granule != kPieceBytes) return no("lines do not start at multiples of 16 bytes");
  }
  if (m.problem.depth == 0 || m.tiles() == 0) return no("nothing to multiply");
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  if (std::max({m.problem.a_matrices * m.problem.rows, m.problem.b_matrices * m.problem.columns, m.tiles()}) > kMost) {
    return no("too large for 32-bit indices");
  }
  return true;
}

int64_t WgmmaSharedBytes(const MatmulTiling& tiling) {
  return tiling.stages * (StageBytes(tiling) + kBarrierBytes) + tiling.warps_m * StagingBytes(tiling);
}

KernelSpec WgmmaKernel(const GpuMatmul& matmul, const TileEpilogue& epilogue) {
  KernelSpec kernel;
  kernel.family = "matmul_groups";  // (what ptxas says of kernels is searched for complaints about wgmma)
  kernel.num_args = matmul.tiling.splits > 1 ? 3 : matmul.first_epilogue_arg() + epilogue.num_args();
  kernel.block_threads = matmul.tiling.threads();
  kernel.blocks_per_unit = matmul.tiling.per_unit;
  kernel.tensor_maps = 2;
  kernel.key = internal::Join(matmul.Key(), " blocks ", matmul.blocks());
  if (matmul.tiling.splits == 1) kernel.key += " " + epilogue.Key();
  kernel.emit = [matmul, epilogue](KernelBuilder& b) { WgmmaEmitter(b, matmul, epilogue).Emit(); };
  return kernel;
}

std::vector<TensorMap> WgmmaTensorMaps(const GpuMatmul& m) {
  const auto map = [&](int arg, const TileOperand& operand, int64_t lines) {
    return TensorMap{.arg = arg,
                     .type = operand.type,
                     .dims = {operand.run, lines},
                     .strides = {operand.pitch * operand.element_bytes()},
                     .box = {operand.tile_run, operand.tile_lines},
                     .swizzle = kLineBytes};
  };
  const int64_t b_lines = m.listed >= 0 ? m.b.lines : m.problem.b_matrices * m.problem.columns;
  return {map(0, m.a, m.problem.a_matrices * m.problem.rows), map(1, m.b, b_lines)};
}

}  // namespace tessera
