#include "codegen/emit/gpu/gpu_scattered.h"

#include <algorithm>
#include <bit>

#include "base/round.h"
#include "codegen/emit/gpu/mask_stream.h"
#include "codegen/emit/gpu/row_stream.h"
#include "codegen/emit/gpu/scattered_parts.h"

namespace tessera {
namespace {

constexpr int kWarp = 32;
constexpr unsigned kGlobalSpace = 1;
constexpr int kPieceColumns = 4, kRowBytes = kMaskColumns * 4;
constexpr int kTileDepth = 16;  // of the panel's depth, that a warp writes at once
constexpr int kRingBytes = 2 * kSegmentBytes;
constexpr int kLaneColumns = 8, kSums = kMaskRows * kLaneColumns;

class ScatteredEmitter : public ScatteredParts {
 public:
  ScatteredEmitter(KernelBuilder& b, const GpuScattered& scattered, const TileEpilogue& epilogue)
      : ScatteredParts(b, scattered, epilogue), asynchronous_(b.target().has_async_copy) {}

  void Emit() {
    panel_ = b_.Shared(s_.panel_rows() * kRowBytes, 1024);
    IrValue rings = b_.Shared(int64_t{s_.warps} * kRingBytes, 128);
    IrValue thread = b_.ThreadId();
    lane_ = ir().CreateAnd(thread, I32(kWarp - 1), "lane");
    warp_ = ir().CreateUDiv(thread, I32(kWarp), "warp");
    ring_ = At(rings, ir().CreateMul(warp_, I32(kRingBytes)));
    first_column_ = ir().CreateMul(ir().CreateURem(b_.BlockId(0), I32(s_.panels())), I32(kMaskColumns), "first_column");
    IrValue row_block = ir().CreateUDiv(b_.BlockId(0), I32(s_.panels()));
    IrValue unit = ir().CreateAdd(ir().CreateMul(row_block, I32(s_.warps)), warp_);
    first_group_ = ir().CreateMul(unit, I32(s_.groups), "first_group");
    // Lane c of lane group g: pieces c and c + 4 of a row; groups of odd number take the second half first, so that
    // two of them meet all banks.
    IrValue odd = ir().CreateAnd(ir().CreateLShr(lane_, I32(2)), I32(1));
    piece_ = ir().CreateXor(ir().CreateAnd(lane_, I32(3)), ir().CreateMul(odd, I32(4)));
    piece_ = ir().CreateMul(piece_, I32(16), "piece");
    lane_group_ = ir().CreateLShr(lane_, I32(2));

    // The weights do not depend on the steps before.
    start_ = FirstSegment(0);
    end_ = FirstSegment(s_.groups);
    Fetch(start_, I32(0));
    Fetch(ir().CreateAdd(start_, I32(1)), I32(1));
    b_.AwaitSteps();

    if (s_.chunks() == 1) {
      LoadPanel(I32(0));
      b_.Barrier();
      b_.For("group", b_.I64(0), b_.I64(s_.groups), 1, {start_}, [&](IrValue number, const IrValues& at) {
        IrValue group = ir().CreateTrunc(number, ir().getInt32Ty());
        IrValue end = SegmentOf(ir().CreateAdd(first_group_, ir().CreateAdd(group, I32(1))));
        IrValues state = Segments(at[0], end, Zeros());
        IrValue segment = state.back();
        state.pop_back();
        Finish(ir().CreateAdd(first_group_, group), state);
        return IrValues{segment};
      });
      return;
    }
    IrValues state = Zeros();
    state.push_back(start_);
    state = b_.For("chunk", b_.I64(0), b_.I64(s_.chunks()), 1, state, [&](IrValue number, const IrValues& now) {
      IrValue chunk = ir().CreateTrunc(number, ir().getInt32Ty());
      b_.Barrier();  // all have read the chunk before
      LoadPanel(ir().CreateMul(chunk, I32(s_.chunk)));
      b_.Barrier();
      IrValue at = ir().CreateAdd(ir().CreateMul(first_group_, I32(s_.chunks())), ir().CreateAdd(chunk, I32(1)));
      return Segments(now.back(), LoadFirst(at), IrValues(now.begin(), now.end() - 1));
    });
    state.pop_back();
    Finish(first_group_, state);
  }

 private:
  IrValue Shared32(IrValue at) { return ir().CreateAlignedLoad(ir().getInt32Ty(), at, llvm::Align(4)); }
  IrValues Zeros() { return IrValues(kSums, b_.Zero(s_.sum(), 1)); }

  // ---- The stream.

  IrValue LoadFirst(IrValue number) {
    return b_.Load(b_.arg(2), ir().CreateZExt(number, ir().getInt64Ty()), DType::kI32, 1);
  }
  IrValue SegmentOf(IrValue group) { return LoadFirst(ir().CreateMul(group, I32(s_.chunks()))); }
  IrValue FirstSegment(int groups_on) { return SegmentOf(ir().CreateAdd(first_group_, I32(groups_on))); }

  // Starts to copy segment `number` to slot `slot` (0 or 1), where it is one of this warp's; where copies are not
  // asynchronous, it is there at once.
  void Fetch(IrValue number, IrValue slot) {
    b_.If("fetch", ir().CreateICmpSLT(number, end_), [&] {
      llvm::Type* i64 = ir().getInt64Ty();
      IrValue global = ir().CreateAddrSpaceCast(b_.arg(1), llvm::PointerType::get(b_.context(), kGlobalSpace));
      IrValue mine = ir().CreateMul(lane_, I32(16));
      IrValue from = At(global, ir().CreateAdd(ir().CreateMul(ir().CreateZExt(number, i64), b_.I64(kSegmentBytes)),
                                               ir().CreateZExt(mine, i64)));
      IrValue to = At(ring_, ir().CreateAdd(ir().CreateMul(slot, I32(kSegmentBytes)), mine));
      const auto part = [&](IrValue base, int at) {
        return ir().CreateConstGEP1_32(ir().getInt8Ty(), base, static_cast<unsigned>(at));
      };
      IrValues held;
      for (int at = 0; at < kSegmentBytes; at += 16 * kWarp) {
        if (asynchronous_) {
          DeviceOp(b_, "nv.cp_async.16", {part(to, at), part(from, at)});
        } else {
          llvm::Type* four = llvm::FixedVectorType::get(ir().getInt32Ty(), 4);
          held.push_back(ir().CreateAlignedLoad(four, part(from, at), llvm::Align(16)));
        }
      }
      for (size_t k = 0; k < held.size(); ++k) {
        ir().CreateAlignedStore(held[k], part(to, static_cast<int>(k) * 16 * kWarp), llvm::Align(16));
      }
    });
    if (asynchronous_) DeviceOp(b_, "nv.cp_async.commit", {});
  }

  // Segments [from, to): the sums behind them, then `to`.
  IrValues Segments(IrValue from, IrValue to, IrValues sums) {
    llvm::Type* i64 = ir().getInt64Ty();
    sums = b_.For("segment", ir().CreateZExt(from, i64), ir().CreateZExt(to, i64), 1, sums,
                  [&](IrValue number, const IrValues& now) {
                    IrValue segment = ir().CreateTrunc(number, ir().getInt32Ty());
                    IrValue slot = ir().CreateAnd(ir().CreateSub(segment, start_), I32(1));
                    if (asynchronous_) DeviceOp(b_, "nv.cp_async.wait", {I32(1)});
                    DeviceOp(b_, "gpu.warp_barrier", {});
                    IrValues result = Runs(At(ring_, ir().CreateMul(slot, I32(kSegmentBytes))), now);
                    DeviceOp(b_, "gpu.warp_barrier", {});
                    Fetch(ir().CreateAdd(segment, I32(2)), slot);
                    return result;
                  });
    // Where a group has nothing kept, the next one goes on from the same segment.
    sums.push_back(to);
    return sums;
  }

  IrValues Runs(IrValue segment, IrValues sums) {
    IrValue runs = ir().CreateZExt(Shared32(segment), ir().getInt64Ty());
    // Where this lane group's places of the first trip are.
    IrValue at = ir().CreateAdd(I32(kSegmentHead), ir().CreateMul(lane_group_, I32(4)));
    sums.push_back(at);
    sums = b_.For("run", b_.I64(0), runs, 1, sums, [&](IrValue number, const IrValues& now) {
      IrValue word = ir().CreateTrunc(ir().CreateAdd(number, b_.I64(1)), ir().getInt32Ty());
      word = Shared32(At(segment, ir().CreateMul(word, I32(4))));
      return Dispatch(0, static_cast<int>(UsualMasks().masks.size()), ir().CreateAnd(word, I32(255)),
                      ir().CreateLShr(word, I32(8)), segment, now);
    });
    sums.pop_back();
    return sums;
  }

  // To the code of mask number `mask`, which is in [low, high).
  IrValues Dispatch(int low, int high, IrValue mask, IrValue trips, IrValue segment, const IrValues& state) {
    if (high - low == 1) return Trips(UsualMasks().masks[static_cast<size_t>(low)], trips, segment, state);
    const int middle = (low + high) / 2;
    return b_.IfElse(
        "mask", ir().CreateICmpULT(mask, I32(middle)),
        [&] { return Dispatch(low, middle, mask, trips, segment, state); },
        [&] { return Dispatch(middle, high, mask, trips, segment, state); });
  }

  // `trips`, at least one, of the rows in `mask`. The state is the sums and where the next trip is in the segment.
  IrValues Trips(int mask, IrValue trips, IrValue segment, IrValues state) {
    const int rows = std::popcount(static_cast<unsigned>(mask));
    IrValue begin = state.back();
    IrValue end = ir().CreateAdd(begin, ir().CreateMul(trips, I32(TripBytes(rows))));
    llvm::BasicBlock* before = ir().GetInsertBlock();
    llvm::Function* function = before->getParent();
    auto* body = llvm::BasicBlock::Create(b_.context(), "trip", function);
    auto* after = llvm::BasicBlock::Create(b_.context(), "trip.end", function);
    ir().CreateBr(body);
    ir().SetInsertPoint(body);
    llvm::PHINode* at = ir().CreatePHI(ir().getInt32Ty(), 2, "at");
    at->addIncoming(begin, before);
    std::vector<std::pair<size_t, llvm::PHINode*>> phis;
    for (int row = 0; row < kMaskRows; ++row) {
      for (int c = 0; c < kLaneColumns && (mask >> row & 1) != 0; ++c) {
        const auto number = static_cast<size_t>(row * kLaneColumns + c);
        llvm::PHINode* phi = ir().CreatePHI(SumType(), 2, "sum");
        phi->addIncoming(state[number], before);
        state[number] = phi;
        phis.emplace_back(number, phi);
      }
    }
    Trip(mask, At(segment, at), state);
    IrValue next = ir().CreateAdd(at, I32(TripBytes(rows)));
    at->addIncoming(next, body);
    for (const auto& [number, phi] : phis) phi->addIncoming(state[number], body);
    ir().CreateCondBr(ir().CreateICmpNE(next, end), body, after);
    ir().SetInsertPoint(after);
    state.back() = next;
    return state;
  }

  void Trip(int mask, IrValue trip, IrValues& sums) {
    llvm::Type* four = llvm::FixedVectorType::get(SumType(), kPieceColumns);
    IrValue byte = ir().CreateXor(Shared32(trip), piece_);
    IrValues weights, x;
    for (int row = 0; row < std::popcount(static_cast<unsigned>(mask)); ++row) {
      IrValue from = ir().CreateConstGEP1_32(ir().getInt8Ty(), trip, static_cast<unsigned>((row + 1) * kMaskTrip * 4));
      weights.push_back(ir().CreateAlignedLoad(SumType(), from, llvm::Align(4)));
    }
    for (int half = 0; half < 2; ++half) {
      IrValue from = At(panel_, half == 0 ? byte : ir().CreateXor(byte, I32(kRowBytes / 2)));
      IrValue piece = ir().CreateAlignedLoad(four, from, llvm::Align(16));
      for (int c = 0; c < kPieceColumns; ++c) x.push_back(ir().CreateExtractElement(piece, c));
    }
    for (int row = 0, number = 0; row < kMaskRows; ++row) {
      if ((mask >> row & 1) == 0) continue;
      IrValue weight = weights[static_cast<size_t>(number++)];
      for (int c = 0; c < kLaneColumns; ++c) {
        IrValue& sum = sums[static_cast<size_t>(row * kLaneColumns + c)];
        sum = MultiplyAdd(x[static_cast<size_t>(c)], weight, sum);
      }
    }
  }
  // ---- The way out.

  IrValue FromLane(IrValue value, int distance) {
    IrValue bits = ir().CreateBitCast(value, ir().getInt32Ty());
    return ir().CreateBitCast(DeviceOp(b_, "gpu.shuffle_xor", {bits, I32(distance)}), SumType());
  }

  void Finish(IrValue group, const IrValues& sums) {
    // Neighbouring lane groups have their halves of the columns the other way round: each gives the other its second
    // one, and keeps four columns.
    std::vector<IrValues> rows;
    for (int row = 0; row < kMaskRows; ++row) {
      IrValues mine;
      for (int c = 0; c < kPieceColumns; ++c) {
        const auto at = static_cast<size_t>(row * kLaneColumns + c);
        mine.push_back(Plus(sums[at], FromLane(sums[at + kPieceColumns], kMaskLanes)));
      }
      rows.push_back(std::move(mine));
    }
    // Then halves of the rows, twice.
    for (int distance = 2 * kMaskLanes; distance < kWarp; distance *= 2) {
      IrValue upper = ir().CreateICmpNE(ir().CreateAnd(lane_, I32(distance)), I32(0));
      const size_t half = rows.size() / 2;
      std::vector<IrValues> kept(half);
      for (size_t row = 0; row < half; ++row) {
        for (int c = 0; c < kPieceColumns; ++c) {
          IrValue low = rows[row][c], high = rows[row + half][c];
          IrValue keep = ir().CreateSelect(upper, high, low), send = ir().CreateSelect(upper, low, high);
          kept[row].push_back(Plus(keep, FromLane(send, distance)));
        }
      }
      rows = std::move(kept);
    }
    const auto bit = [&](int distance, int worth) {
      return ir().CreateMul(ir().CreateAnd(ir().CreateUDiv(lane_, I32(distance)), I32(1)), I32(worth));
    };
    IrValue row = ir().CreateAdd(ir().CreateMul(group, I32(kMaskRows)),
                                 ir().CreateAdd(bit(2 * kMaskLanes, 4), bit(4 * kMaskLanes, 2)));
    IrValue column = ir().CreateMul(ir().CreateAnd(lane_, I32(3)), I32(kPieceColumns));
    column = ir().CreateAdd(first_column_, ir().CreateAdd(column, bit(kMaskLanes, kMaskColumns / 2)));
    if (s_.by_columns) {
      for (int c = 0; c < kPieceColumns; ++c) {
        IrValue at = ir().CreateAdd(column, I32(c));
        StoreSeveral(at, s_.columns, row, s_.rows, {rows[0][c], rows[1][c]}, s_.y_vector);
      }
    } else {
      for (int r = 0; r < 2; ++r)
        StoreSeveral(ir().CreateAdd(row, I32(r)), s_.rows, column, s_.columns, rows[r], s_.y_vector);
    }
  }

  const bool asynchronous_;
  IrValue ring_ = nullptr, first_group_ = nullptr, piece_ = nullptr, lane_group_ = nullptr;
  IrValue start_ = nullptr, end_ = nullptr;
};

}  // namespace

int64_t GpuScattered::row_groups() const { return DivideUp(rows, by_row ? kRowSet : kMaskRows); }
int64_t GpuScattered::block_rows() const { return int64_t{warps} * groups * (by_row ? kRowSet : kMaskRows); }
int64_t GpuScattered::row_blocks() const { return DivideUp(row_groups(), int64_t{warps} * groups); }
int64_t GpuScattered::panels() const { return DivideUp(columns, kMaskColumns); }
int64_t GpuScattered::chunks() const { return DivideUp(depth, chunk); }
int64_t GpuScattered::panel_rows() const { return DivideUp(chunk, kTileDepth) * kTileDepth + 1; }
int64_t GpuScattered::shared_bytes() const {
  const int64_t panel = DivideUp(panel_rows() * kRowBytes, 128) * 128;
  if (!by_row) return panel + int64_t{warps} * kRingBytes;
  return by_columns ? std::max(panel, StagedBytes(*this)) : panel;
}
std::string GpuScattered::Way() const { return internal::Join(by_row ? "rows " : "", warps, "x", groups); }
std::string GpuScattered::Key() const {
  return internal::Join("gpu scattered ", Way(), " ", Name(unit), " of ", Name(x), " ", rows, "x", depth, "/", elements,
                        "x", columns, by_columns ? " by columns" : " by rows", " chunk ", chunk,
                        whole_units ? " words " : " bytes ", x_vector, " ", y_vector, adds ? " adds" : "");
}

KernelSpec GpuScatteredKernel(const GpuScattered& s, const TileEpilogue& epilogue) {
  KernelSpec kernel;
  kernel.family = "scattered";
  kernel.num_args = (s.adds ? 4 : 3) + epilogue.num_args();
  kernel.block_threads = s.warps * kWarp;
  kernel.blocks_per_unit = std::max(1, 16 / s.warps);
  kernel.key = s.Key() + " " + epilogue.Key();
  kernel.waits = true;
  kernel.emit = [s, epilogue](KernelBuilder& b) {
    if (s.by_row) {
      EmitScatteredRows(b, s, epilogue);
    } else {
      ScatteredEmitter(b, s, epilogue).Emit();
    }
  };
  return kernel;
}

}  // namespace tessera
