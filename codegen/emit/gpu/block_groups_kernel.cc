// The kernel of block_groups.h. As many blocks as the card holds stay from the first tile to the last. Two rings of
// stages in shared memory; a barrier of each stage ends its phase when it was read, and one of X's when the whole step
// has come, X and the blocks:
//
//   bringing warp, one thread            a multiplying warpgroup
//   for tile of this block:              for tile of this block:
//     for step of the tile:                for turn of this warpgroup:
//       wait for X's next empty stage        X's stages up to the turn's step are nothing to it: empty
//       X[tokens, stage] -> it               wait for X's stage: the step has come
//       for block of the step:               sums += W · Xᵀ                       # wgmma, 64 x tokens
//         wait for W's next empty stage      both stages are empty
//         the block -> it                  sums -> shared memory, turned -> epilogue -> Y
//
// Stages are counted over all tiles of a block, c-th stage in slot c mod stages, whose phase has parity c / stages
// mod 2. Who waits for a phase must have waited for the one before: all pass by all of X's stages, but a block is only
// its warpgroup's, and could still be on its way when that of the slot's next phase is asked for. W is the first
// operand: a warpgroup reads 64 lines of it and `tokens` of X for 64 x tokens results, so that shared memory keeps up;
// and a block row needs no warpgroup but its own. That one waits for its products before the next ones start costs
// nothing, since the others multiply meanwhile.
#include "codegen/emit/gpu/block_groups.h"

namespace tessera {
namespace {

constexpr int kWarp = 32, kGroupWarps = 4, kBlockRows = 64, kWarpRows = 16;
constexpr int kLineBytes = 128, kStepBytes = 32;  // of depth: a stage's line, one instruction's part of it
constexpr int kBarrierBytes = 8;                  // X's stages have two: full, empty; W's one
// Tokens that a warpgroup stages at once, and elements from one of them to the next: its writes meet all banks.
constexpr int kChunk = 32, kPitch = kBlockRows + 4;
constexpr int kStagingBytes = kChunk * kPitch * 4;
constexpr int kBlockBytes = kBlockRows * kLineBytes;
constexpr int kHeader = 6, kOfGroup = 4;  // of a tile's record

class GroupedEmitter {
 public:
  GroupedEmitter(KernelBuilder& b, const GroupedProduct& product, const TileEpilogue& epilogue)
      : b_(b), p_(product), m_(product.matmul), epilogue_(epilogue), sums_(product.tokens() / 2) {}

  void Emit() {
    x_ = {b_.Shared(m_.tiling.stages * XBytes(), 1024), m_.tiling.stages, XBytes()};
    w_ = {b_.Shared(int64_t{p_.weight_stages} * kBlockBytes, 1024), p_.weight_stages, kBlockBytes};
    staging_ = b_.Shared(int64_t{p_.size} * kStagingBytes, 16);
    full_ = b_.Shared(x_.stages * kBarrierBytes, kBarrierBytes);
    x_.empty = b_.Shared(x_.stages * kBarrierBytes, kBarrierBytes);
    w_.empty = b_.Shared(w_.stages * kBarrierBytes, kBarrierBytes);
    IrValue thread = b_.ThreadId();
    lane_ = ir().CreateAnd(thread, I32(kWarp - 1), "lane");
    // By way of a shuffle, so that the assembler knows it to be the same for all lanes.
    warp_ = DeviceOp(b_, "gpu.shuffle_idx", {ir().CreateUDiv(thread, I32(kWarp)), I32(0)});
    b_.If("init", ir().CreateICmpEQ(thread, I32(0)), [&] {
      const auto init = [&](IrValue barriers, int stages, int arrivals) {
        for (int s = 0; s < stages; ++s)
          DeviceOp(b_, "nv.mbarrier.init", {At(barriers, s * kBarrierBytes), I32(arrivals)});
      };
      init(full_, x_.stages, 1);
      init(x_.empty, x_.stages, p_.size * kGroupWarps);
      init(w_.empty, w_.stages, kGroupWarps);
      DeviceOp(b_, "nv.fence.mbarrier_init", {});
    });
    b_.Barrier();
    b_.IfElse(
        "role", ir().CreateICmpUGE(warp_, I32(p_.size * kGroupWarps)),
        [&] {
          b_.If("bring", ir().CreateICmpEQ(thread, I32(p_.size * kGroupWarps * kWarp)), [&] { Bring(); });
          return IrValues();
        },
        [&] {
          Multiply();
          return IrValues();
        });
  }

 private:
  struct Ring {
    IrValue data = nullptr;
    int stages = 1;
    int64_t bytes = 0;        // of a stage
    IrValue empty = nullptr;  // barriers
  };
  struct Stage {
    IrValue slot, data, empty, parity;
  };

  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return b_.ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue I64Of(IrValue value) { return ir().CreateZExt(value, ir().getInt64Ty()); }
  IrValue I32Of(IrValue value) { return ir().CreateTrunc(value, ir().getInt32Ty()); }
  IrValue At(IrValue base, IrValue offset) { return ir().CreateGEP(ir().getInt8Ty(), base, offset); }
  IrValue At(IrValue base, int64_t offset) { return At(base, I32(offset)); }
  IrValue Entry(int arg, IrValue index) { return b_.Load(b_.arg(arg), I64Of(index), DType::kI32, 1); }
  int64_t XBytes() const { return int64_t{p_.tokens()} * kLineBytes; }

  // The ring's stage that is used as the `count`-th (i32).
  Stage StageOf(const Ring& ring, IrValue count) {
    IrValue slot = ir().CreateURem(count, I32(ring.stages));
    IrValue parity = ir().CreateAnd(ir().CreateUDiv(count, I32(ring.stages)), I32(1));
    return {slot, At(ring.data, ir().CreateMul(slot, I32(ring.bytes))),
            At(ring.empty, ir().CreateMul(slot, I32(kBarrierBytes))), parity};
  }
  // The barrier of a step whose X has this stage.
  IrValue Full(const Stage& x) { return At(full_, ir().CreateMul(x.slot, I32(kBarrierBytes))); }

  // A tile's record, as far as a role reads it: the fields at these places (i32).
  IrValues Record(IrValue tile, const IrValues& places) {
    IrValue first = ir().CreateMul(tile, I32(kHeader + kOfGroup * p_.size));
    IrValues fields;
    for (IrValue place : places) fields.push_back(Entry(3, ir().CreateAdd(first, place)));
    return fields;
  }

  // Both roles walk the same tiles; the next one's record is under way meanwhile. Carried: what `body` is given and
  // gives.
  void ForTiles(const IrValues& places,
                const std::function<IrValues(const IrValues& record, const IrValues& at)>& body) {
    // Its first tile is the block's own number, so that nothing waits for where the others begin.
    IrValues carried = Record(b_.BlockId(0), places);
    IrValue second = Entry(2, b_.BlockId(0)), end = Entry(2, ir().CreateAdd(b_.BlockId(0), I32(1)));
    const auto fields = static_cast<std::ptrdiff_t>(carried.size());
    carried.insert(carried.end(), {I32(0), I32(0)});  // stages of X and W so far
    IrValue low = ir().CreateSub(I64Of(second), b_.I64(1)), high = I64Of(end);
    b_.For("tile", low, high, 1, carried, [&](IrValue tile, const IrValues& now) {
      IrValue after = ir().CreateAdd(I32Of(tile), I32(1)), last = ir().CreateSub(end, I32(1));
      IrValues next = Record(ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, after, last), places);
      const IrValues at = body(IrValues(now.begin(), now.begin() + fields), IrValues(now.begin() + fields, now.end()));
      next.insert(next.end(), at.begin(), at.end());
      return next;
    });
  }

  // The entry after this one of a table, or the last one again.
  IrValue Next(int arg, IrValue first, IrValue number, IrValue count) {
    IrValue next = ir().CreateAdd(number, I32(1));
    next = ir().CreateSelect(ir().CreateICmpULT(next, count), next, number);
    return Entry(arg, ir().CreateAdd(first, next));
  }

  void Bring() {
    const IrValue map_x = b_.TensorMap(0), map_w = b_.TensorMap(1);
    DeviceOp(b_, "nv.tma.prefetch", {map_x});
    DeviceOp(b_, "nv.tma.prefetch", {map_w});
    ForTiles({I32(0), I32(1), I32(2), I32(3), I32(5)}, [&](const IrValues& record, const IrValues& at) {
      IrValue token = record[0], first = record[1], count = record[2];
      // The step's entry, X's stage, W's stage, the block.
      const IrValues start = {record[4], at[0], at[1], record[3]};
      const IrValues end = b_.For("step", b_.I64(0), I64Of(count), 1, start, [&](IrValue step, const IrValues& now) {
        IrValue next = Next(4, first, I32Of(step), count);
        const Stage x = StageOf(x_, now[1]);
        DeviceOp(b_, "nv.mbarrier.wait", {x.empty, ir().CreateXor(x.parity, I32(1))});
        IrValue full = Full(x), blocks = ir().CreateAnd(now[0], I32(7));
        IrValue bytes = ir().CreateAdd(ir().CreateMul(blocks, I32(kBlockBytes)), I32(XBytes()));
        DeviceOp(b_, "nv.mbarrier.arrive_expect_tx", {full, bytes});
        IrValue depth = ir().CreateMul(ir().CreateLShr(now[0], I32(3)), I32(m_.tile_k()));
        DeviceOp(b_, "nv.tma.load.2d", {x.data, map_x, full, depth, token});
        b_.For("block", b_.I64(0), I64Of(blocks), 1, [&](IrValue number) {
          const Stage w = StageOf(w_, ir().CreateAdd(now[2], I32Of(number)));
          DeviceOp(b_, "nv.mbarrier.wait", {w.empty, ir().CreateXor(w.parity, I32(1))});
          IrValue line = ir().CreateMul(ir().CreateAdd(now[3], I32Of(number)), I32(kBlockRows));
          DeviceOp(b_, "nv.tma.load.2d", {w.data, map_w, full, I32(0), line});
        });
        return IrValues{next, ir().CreateAdd(now[1], I32(1)), ir().CreateAdd(now[2], blocks),
                        ir().CreateAdd(now[3], blocks)};
      });
      return IrValues{end[1], end[2]};
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
    const std::string shape = internal::Join("nv.wgmma.m64n", p_.tokens(), "k");
    switch (m_.a.type) {
      case DType::kF16: return shape + "16.f32.f16";
      case DType::kBF16: return shape + "16.f32.bf16";
      case DType::kF32: return shape + "8.f32.tf32";
      default: return shape + "32.s32.s8";
    }
  }

  IrValues Members(IrValue all) {
    IrValues members;
    for (unsigned k = 0; k < static_cast<unsigned>(sums_); ++k) members.push_back(ir().CreateExtractValue(all, {k}));
    return members;
  }

  // sums += the products of a stage of X and a block. The first of a tile leaves out the sums.
  IrValues Products(const Stage& x, const Stage& w, IrValue is_later, IrValues sums) {
    const std::string op = ProductOp();
    IrValue a = Descriptor(w.data), b = Descriptor(x.data);
    DeviceOp(b_, "nv.wgmma.fence", {});
    for (int k = 0; k < kLineBytes / kStepBytes; ++k) {
      const auto part = [&](IrValue descriptor) { return ir().CreateAdd(descriptor, b_.I64(k * kStepBytes >> 4)); };
      IrValues operands = {part(a), part(b), k > 0 ? I32(1) : is_later};
      if (m_.a.element_bytes() == 2) operands.insert(operands.end(), {I32(0), I32(0)});  // the depth runs fastest
      operands.insert(operands.end(), sums.begin(), sums.end());
      sums = Members(DeviceOp(b_, op, operands));
    }
    DeviceOp(b_, "nv.wgmma.commit", {});
    IrValues operands = {I32(0)};
    operands.insert(operands.end(), sums.begin(), sums.end());
    return Members(
        DeviceOp(b_, internal::Join("nv.wgmma.wait.", IsFloat(m_.a.type) ? "f32x" : "s32x", sums_), operands));
  }

  void Release(const Stage& stage) {
    b_.If("release", ir().CreateICmpEQ(lane_, I32(0)), [&] { DeviceOp(b_, "nv.mbarrier.arrive", {stage.empty}); });
  }

  // X's stages from `first` to before `end` have nothing for this warpgroup. A lane waits until they have come all the
  // same, so that its warp's arrival counts for this phase; and its warp for it, so that no lane is a phase ahead.
  void PassBy(IrValue first, IrValue end) {
    b_.If("pass", ir().CreateICmpEQ(lane_, I32(0)), [&] {
      b_.For("pass", I64Of(first), I64Of(end), 1, [&](IrValue count) {
        const Stage x = StageOf(x_, I32Of(count));
        DeviceOp(b_, "nv.mbarrier.wait", {Full(x), x.parity});
        DeviceOp(b_, "nv.mbarrier.arrive", {x.empty});
      });
    });
    DeviceOp(b_, "gpu.warp_barrier", {});
  }

  void Multiply() {
    IrValue mine =
        ir().CreateAdd(ir().CreateMul(ir().CreateUDiv(warp_, I32(kGroupWarps)), I32(kOfGroup)), I32(kHeader));
    const auto field = [&](int k) { return ir().CreateAdd(mine, I32(k)); };
    ForTiles(
        {I32(0), I32(2), I32(4), field(0), field(1), field(2), field(3)}, [&](const IrValues& r, const IrValues& at) {
          IrValue token = r[0], steps = r[1], blocks = r[2], first_turn = r[3], turns = r[4], row = r[5];
          // The first products do not read what the sums are before them.
          IrValues carried(static_cast<size_t>(sums_), llvm::UndefValue::get(b_.ElementType(m_.sum())));
          // The turn's entry; stages of X that this warpgroup has done with.
          carried.insert(carried.end(), {r[6], at[0]});
          carried = b_.For("turn", b_.I64(0), I64Of(turns), 1, carried, [&](IrValue turn, const IrValues& now) {
            IrValue next = Next(5, first_turn, I32Of(turn), turns), entry = now[static_cast<size_t>(sums_)];
            IrValue step = ir().CreateAdd(at[0], ir().CreateAnd(entry, I32(0xffff)));
            PassBy(now[static_cast<size_t>(sums_) + 1], step);
            const Stage x = StageOf(x_, step), w = StageOf(w_, ir().CreateAdd(at[1], ir().CreateLShr(entry, I32(16))));
            DeviceOp(b_, "nv.mbarrier.wait", {Full(x), x.parity});
            IrValue is_later = ir().CreateZExt(ir().CreateICmpNE(turn, b_.I64(0)), ir().getInt32Ty());
            IrValues sums = Products(x, w, is_later, IrValues(now.begin(), now.begin() + sums_));
            Release(x);
            Release(w);
            sums.insert(sums.end(), {next, ir().CreateAdd(step, I32(1))});
            return sums;
          });
          IrValue end = ir().CreateAdd(at[0], steps);
          PassBy(carried[static_cast<size_t>(sums_) + 1], end);
          carried.resize(static_cast<size_t>(sums_));
          b_.If("finish", ir().CreateICmpNE(turns, I32(0)), [&] { Finish(token, row, carried); });
          return IrValues{end, ir().CreateAdd(at[1], blocks)};
        });
  }

  // Of a warp's 16 rows of W, lane l has rows l / 4 and l / 4 + 8, and of each 8 tokens 2 (l % 4) and the next. They
  // are turned on their way through shared memory, kChunk tokens of a warpgroup at a time: a token's 64 rows beside
  // each other, whole lines of Y.
  void Finish(IrValue first_token, IrValue first_row, const IrValues& sums) {
    IrValue group = ir().CreateUDiv(warp_, I32(kGroupWarps)), of_group = ir().CreateAnd(warp_, I32(kGroupWarps - 1));
    IrValue thread = ir().CreateAdd(ir().CreateMul(of_group, I32(kWarp)), lane_);
    IrValue mine = At(staging_, ir().CreateMul(group, I32(kStagingBytes)));
    IrValue corner =
        ir().CreateAdd(ir().CreateMul(ir().CreateAnd(lane_, I32(3)), I32(2 * kPitch)),
                       ir().CreateAdd(ir().CreateMul(of_group, I32(kWarpRows)), ir().CreateLShr(lane_, I32(2))));
    const auto meet = [&] {
      DeviceOp(b_, "gpu.barrier.named", {ir().CreateAdd(group, I32(1)), I32(kGroupWarps * kWarp)});
    };
    llvm::Type* element = b_.ElementType(m_.sum());
    EpilogueEmitter finish(b_, epilogue_, kGroupedFirstEpilogueArg);
    TilePlace place;
    place.split = place.group = I32(0);
    const int across = kBlockRows / m_.vector, at_once = kGroupWarps * kWarp / across;  // vectors of a token; tokens
    IrValue column = ir().CreateMul(ir().CreateURem(thread, I32(across)), I32(m_.vector));
    IrValue in_row = ir().CreateAdd(first_row, column), in_c = nullptr;
    for (int first = 0; first < p_.tokens(); first += kChunk) {
      meet();  // the chunk before has been read
      for (int j = 0; j < kChunk / 8; ++j) {
        for (int k = 0; k < 4; ++k) {  // the next token, 8 rows further
          const int next = k % 2, half = k / 2;
          IrValue at = ir().CreateAdd(corner, I32((j * 8 + next) * kPitch + half * 8));
          ir().CreateAlignedStore(sums[static_cast<size_t>(((first / 8 + j) * 2 + half) * 2 + next)],
                                  ir().CreateGEP(element, mine, at), llvm::Align(4));
        }
      }
      meet();
      // What the epilogue reads is asked for before any of it is stored.
      std::vector<StagedResult> vectors;
      for (int pass = 0; pass < kChunk / at_once; ++pass) {
        IrValue token = ir().CreateAdd(ir().CreateUDiv(thread, I32(across)), I32(pass * at_once));
        IrValue in_matrix = ir().CreateAdd(first_token, ir().CreateAdd(token, I32(first)));
        StagedResult v = {ir().CreateAdd(ir().CreateMul(token, I32(kPitch)), column),
                          InsideResult(b_, m_, in_matrix, in_row), PlaceInResult(b_, m_, place, in_matrix, in_row)};
        v.at.column = in_c = in_c == nullptr ? v.at.column : in_c;  // one value, by which the emitter knows it
        FetchOperands(b_, m_, finish, v.at);
        vectors.push_back(v);
      }
      for (const StagedResult& v : vectors) FinishSums(b_, m_, finish, place, mine, v);
    }
  }

  KernelBuilder& b_;
  const GroupedProduct& p_;
  const GpuMatmul& m_;
  const TileEpilogue& epilogue_;
  const int sums_;  // of a thread
  Ring x_, w_;
  IrValue full_ = nullptr;  // barriers of steps, one for each of X's stages
  IrValue staging_ = nullptr, lane_ = nullptr, warp_ = nullptr;
};

}  // namespace

// Results, 64 rows of W by 128 to 256 tokens for a warpgroup, fill half of a multiprocessor's registers or more; X and
// W come as often as that allows. Stages are what shared memory holds.
const std::vector<GroupedTile> kGroupedTiles = {{256, 2, 5, 6}, {128, 3, 7, 10}, {128, 2, 8, 10}};

int64_t GroupedProduct::shared_bytes() const {
  return matmul.tiling.stages * (int64_t{tokens()} * kLineBytes + 2 * kBarrierBytes) +
         int64_t{weight_stages} * (kBlockBytes + kBarrierBytes) + int64_t{size} * kStagingBytes;
}

std::string GroupedProduct::Name() const { return internal::Join("wgmma ", tokens(), "x64 by ", size); }

KernelSpec GroupedKernel(const GroupedProduct& product, const TileEpilogue& epilogue) {
  KernelSpec kernel;
  kernel.family = "block_groups";
  kernel.num_args = kGroupedFirstEpilogueArg + epilogue.num_args();
  kernel.block_threads = product.threads();
  kernel.blocks_per_unit = 1;
  kernel.tensor_maps = 2;
  kernel.key = internal::Join(product.matmul.Key(), " by ", product.size, " weights ", product.weight_stages, " ",
                              epilogue.Key());
  kernel.emit = [product, epilogue](KernelBuilder& b) { GroupedEmitter(b, product, epilogue).Emit(); };
  return kernel;
}

std::vector<TensorMap> GroupedTensorMaps(const GroupedProduct& product) {
  const GpuMatmul& m = product.matmul;
  const auto map = [&](int arg, DType type, int64_t run, int64_t pitch, int64_t lines, int box) {
    return TensorMap{.arg = arg,
                     .type = type,
                     .dims = {run, lines},
                     .strides = {pitch * m.a.element_bytes()},
                     .box = {m.tile_k(), box},
                     .swizzle = kLineBytes};
  };
  return {map(0, m.a.type, m.a.run, m.a.pitch, m.problem.rows, product.tokens()),
          map(1, m.b.type, m.tile_k(), m.tile_k(), product.blocks * kBlockRows, kBlockRows)};
}

}  // namespace tessera
