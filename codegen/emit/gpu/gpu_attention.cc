// The attention emitter for GPUs in f32: scores, softmax and the weighed sum without a score leaving the
// multiprocessor.
//
//   block = P parts of W warps: W * M * R queries of one head;  a part has every P-th N * C keys, where M * N = 32
//     Q and the first keys -> shared memory; barrier
//     for each N * C keys of the part:
//       start to fetch these keys' values
//       s[i][j] = sum over d of Q[m + M i][d] * K[n + N j][d]             a thread has R x C scores
//       values there, keys no longer needed: barrier; start to fetch the next keys
//       m' = max(m, max s);  p = 2^(s - m');  f = 2^(m - m');  l = l * f + p;  o = o * f
//       32 keys at a time: p -> shared memory, a warp's own rows; o[i][c] += sum over t of p[m + M i][t] * V[t][c]
//       next keys there, values no longer needed: barrier
//     parts: m, l and o -> shared memory; barrier; each part adds all parts' for its share of the rows
//     out[i] = epilogue(o[i] / sum over the N lanes of l[i])
//
// Sums, maxima and weights are f32, whatever is stored. Without a mask the scale is part of the exponent. Rows of Q and
// K lie an odd number of 16 bytes apart, so that eight lanes' loads meet all banks. Keys that do not exist have the
// score -infinity, their values are 0. Where the chip has it and rows are aligned, copies go on by themselves
// (cp.async).
//
// What binds: a load of 16 bytes takes the multiprocessor's path from shared memory four cycles, a thread's 8 x 8
// results of four steps of the depth 16 such loads, as long as their products take. Fewer queries or heads: smaller
// tiles, whose parts share the keys, since a block alone is bound by latency. Tested by gpu_attention_test.cc.
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "base/round.h"
#include "codegen/emit/attention_problem.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/gpu/warp_join.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr int64_t kMostDepth = 128;
constexpr int kVector = 4;  // f32 of a load from shared memory
constexpr double kLog2E = 1.4426950408889634;

struct AttentionTile {
  int rows, keys;  // of a thread: R and C
  int lanes_m;     // M: lanes of a warp along the queries
  int warps;       // W: of a part
  int parts;       // P
  int weighed;     // keys of a part whose weights are in shared memory at once
};
constexpr AttentionTile kTiles[] = {
    {8, 8, 4, 4, 2, 64}, {4, 8, 4, 4, 1, 32}, {4, 4, 4, 4, 1, 32}, {4, 4, 4, 2, 2, 32},
    {4, 4, 4, 1, 4, 32}, {4, 4, 2, 2, 2, 64}, {4, 4, 4, 1, 2, 32}, {4, 4, 4, 2, 1, 32},
};

struct GpuAttention : AttentionShape {
  AttentionTile tile = kTiles[0];
  bool aligned = true;  // rows of q, k and v begin at multiples of four elements
  int vector = 1;       // results that are stored at once

  int64_t lanes_n() const { return kWarp / tile.lanes_m; }
  int64_t warp_rows() const { return int64_t{tile.lanes_m} * tile.rows; }
  int64_t rows() const { return tile.warps * warp_rows(); }  // of a block
  int64_t tiles() const { return DivideUp(queries, rows()); }
  int64_t blocks() const { return batch * heads * tiles(); }
  int64_t part_threads() const { return kWarp * tile.warps; }
  int64_t threads() const { return part_threads() * tile.parts; }
  int64_t part_keys() const { return lanes_n() * tile.keys; }
  int64_t keys_at_once() const { return part_keys() * tile.parts; }
  int64_t steps() const { return DivideUp(keys, keys_at_once()); }
  bool whole_keys() const { return keys % keys_at_once() == 0; }
  // Elements of rows in shared memory.
  int64_t depth_vectors() const { return DivideUp(depth, kVector); }
  int64_t pitch() const { return (depth_vectors() | 1) * kVector; }
  int64_t groups() const { return DivideUp(value_depth, kVector * lanes_n()); }  // of four columns, of a thread
  int64_t v_pitch() const { return groups() * kVector * lanes_n(); }
  int64_t weights_pitch() const { return tile.weighed + lanes_n() % kWarp; }
  int64_t row_values() const { return 2 + groups() * kVector; }  // of a thread: maximum, sum, columns
  // Elements of shared memory that each part has: keys, values, weights; later what it has found.
  int64_t part_elements() const {
    return std::max(part_keys() * (pitch() + v_pitch()) + rows() * weights_pitch(),
                    tile.parts == 1 ? 0 : tile.rows * row_values() * part_threads());
  }
  int64_t shared_bytes() const { return 4 * (rows() * pitch() + tile.parts * part_elements()); }
  // About what a thread needs: sums, fragments, addresses; and the blocks that a multiprocessor then holds.
  int64_t registers() const {
    return tile.rows * (tile.keys + groups() * kVector) + kVector * (tile.rows + tile.keys) + 40;
  }
  int64_t per_unit(int64_t all_shared_bytes) const {
    constexpr int64_t kRegisters = 65536;
    return std::max<int64_t>(1, std::min(kRegisters / (threads() * registers()),
                                         all_shared_bytes / (shared_bytes() + kReservedSharedBytes)));
  }
  // Is the scale part of the exponent?
  bool scales_late() const { return !masked && scale > 0; }
  std::string Way() const {
    return internal::Join(tile.rows, "x", tile.keys, " of ", tile.lanes_m, " warps ", tile.warps, "x", tile.parts);
  }
  std::string Key() const {
    return internal::Join("gpu_", AttentionShape::Key(), " tile ", Way(), aligned ? " aligned" : "", " vectors ",
                          vector);
  }
};

// Arguments: q, k, v, the mask if there is one, the epilogue's operands, the output.
class GpuAttentionEmitter {
 public:
  GpuAttentionEmitter(KernelBuilder& b, const GpuAttention& problem, const TileEpilogue& epilogue)
      : b_(b), p_(problem), epilogue_(epilogue) {
    vector_ = llvm::FixedVectorType::get(ir().getFloatTy(), kVector);
    asynchronous_ = b_.target().has_async_copy && p_.stored == DType::kF32 && p_.aligned && p_.depth % kVector == 0 &&
                    p_.value_depth % kVector == 0;
  }

  void Emit() {
    b_.AssumeAligned(true);
    FindPlace();
    Copy(0, first_query_, p_.rows(), p_.depth, p_.queries, q_, p_.pitch(), b_.ThreadId(), p_.threads(),
         p_.queries % p_.rows() == 0);
    CopyKeys(Times(part_, p_.part_keys()));
    Await();
    IrValues rows;
    for (int i = 0; i < p_.tile.rows; ++i) {
      rows.push_back(Lowest());
      rows.resize(rows.size() + RowValues() - 1, F32(0));
    }
    if (p_.steps() == 1) {
      rows = EmitKeys(Times(part_, p_.part_keys()), rows);
    } else {
      rows = b_.For("keys", b_.I64(0), b_.I64(p_.steps() * p_.keys_at_once()), p_.keys_at_once(), rows,
                    [&](IrValue first, const IrValues& carried) {
                      IrValue of_part = Times(part_, p_.part_keys());
                      return EmitKeys(Plus(ir().CreateTrunc(first, ir().getInt32Ty()), of_part), carried);
                    });
    }
    if (p_.tile.parts > 1) return JoinParts(rows);
    for (int i = 0; i < p_.tile.rows; ++i) EmitResult(I32(i), &rows[static_cast<size_t>(i) * RowValues()]);
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue F32(double value) { return b_.Constant(DType::kF32, value); }
  IrValue Lowest() { return llvm::ConstantFP::getInfinity(ir().getFloatTy(), /*Negative=*/true); }
  IrValue Wide(IrValue x) { return ir().CreateZExt(x, ir().getInt64Ty()); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : Plus(x, I32(y)); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(x, I32(by), "", true, true); }
  IrValue Least(IrValue x, int64_t y) { return ir().CreateSelect(ir().CreateICmpULT(x, I32(y)), x, I32(y)); }
  IrValue Shared(IrValue base, IrValue at) { return ir().CreateInBoundsGEP(ir().getFloatTy(), base, Wide(at)); }
  IrValue Shared(IrValue base, int64_t at) { return ir().CreateConstInBoundsGEP1_64(ir().getFloatTy(), base, at); }
  IrValue LoadVector(IrValue address) { return ir().CreateAlignedLoad(vector_, address, llvm::Align(16)); }
  IrValue Lane(IrValue vector, int l) { return ir().CreateExtractElement(vector, static_cast<uint64_t>(l)); }
  // A NaN among the scores makes the sum NaN: the maximum need not pass it on.
  IrValue Max(IrValue x, IrValue y) { return ir().CreateBinaryIntrinsic(llvm::Intrinsic::maxnum, x, y); }
  // e^(score - shift), or of scores that lack the scale e^(scale · (score - shift)).
  IrValue PowerOf(IrValue score, IrValue shift) {
    const double factor = p_.scales_late() ? p_.scale * kLog2E : kLog2E;
    return DeviceOp(b_, "gpu.exp2_approx", {ir().CreateFMul(ir().CreateFSub(score, shift), F32(factor))});
  }
  // What is subtracted from scores: where no key counts so far, whatever it is leaves -infinity.
  IrValue Shift(IrValue largest) { return ir().CreateSelect(ir().CreateFCmpOEQ(largest, Lowest()), F32(0), largest); }
  // Values that a row carries from keys to keys: the maximum, this lane's share of the sum, the columns.
  size_t RowValues() const { return static_cast<size_t>(p_.row_values()); }

  void FindPlace() {
    IrValue in_block = b_.ThreadId();
    part_ = p_.tile.parts == 1 ? I32(0) : ir().CreateUDiv(in_block, I32(p_.part_threads()));
    thread_ = p_.tile.parts == 1 ? in_block : ir().CreateURem(in_block, I32(p_.part_threads()));
    IrValue lane = ir().CreateAnd(thread_, I32(kWarp - 1)), warp = ir().CreateLShr(thread_, I32(5));
    lane_m_ = ir().CreateUDiv(lane, I32(p_.lanes_n()));
    lane_n_ = ir().CreateURem(lane, I32(p_.lanes_n()));
    first_row_ = Plus(Times(warp, p_.warp_rows()), lane_m_);
    q_ = b_.Shared(4 * p_.rows() * p_.pitch());
    all_parts_ = b_.Shared(4 * p_.tile.parts * p_.part_elements());
    k_ = Shared(all_parts_, Times(part_, p_.part_elements()));
    v_ = Shared(k_, p_.part_keys() * p_.pitch());
    weights_ = Shared(v_, p_.part_keys() * p_.v_pitch());
    IrValue block = b_.BlockId(0);
    IrValue tile = ir().CreateURem(block, I32(p_.tiles())), rest = ir().CreateUDiv(block, I32(p_.tiles()));
    head_ = ir().CreateURem(rest, I32(p_.heads));
    batch_ = ir().CreateUDiv(rest, I32(p_.heads));
    first_query_ = Times(tile, p_.rows());
  }

  // The first element of a position's row of the head (i64).
  IrValue RowAt(IrValue position, int64_t positions, int64_t depth) {
    IrValue row = p_.positions_first ? Plus(Times(Plus(Times(batch_, positions), position), p_.heads), head_)
                                     : Plus(Times(Plus(Times(batch_, p_.heads), head_), positions), position);
    return ir().CreateMul(Wide(row), b_.I64(depth), "", true, true);
  }

  // Starts to copy rows of argument `arg` from `first` on to shared memory, by threads of which this is `thread`; what
  // does not exist is 0, `whole` says that all does.
  void Copy(int arg, IrValue first, int64_t rows, int64_t depth, int64_t positions, IrValue shared, int64_t pitch,
            IrValue thread, int64_t threads, bool whole) {
    const int64_t vectors = DivideUp(depth, kVector), all = rows * vectors;
    constexpr int64_t kHeld = 8;  // vectors under way at once, where they pass through registers
    const bool keeps_column = threads % vectors == 0 && all % threads == 0;
    struct Piece {
      IrValue row = nullptr, column = nullptr, start = nullptr;
      IrValue exists = nullptr;  // nullptr: all do
      IrValue held = nullptr;
    };
    for (int64_t begin = 0; begin * threads < all; begin += kHeld) {
      const int64_t end = std::min(begin + kHeld, DivideUp(all, threads));
      std::vector<Piece> pieces;
      for (int64_t k = begin; k < end; ++k) {
        IrValue number = Plus(thread, k * threads);
        if ((k + 1) * threads > all) number = Least(number, all - 1);  // the others read the last
        Piece piece;
        piece.row = ir().CreateUDiv(number, I32(vectors));
        piece.column = Times(ir().CreateURem(number, I32(vectors)), kVector);
        if (keeps_column) {  // constants apart from the thread's first, which takes no registers
          piece.row = Plus(ir().CreateUDiv(thread, I32(vectors)), k * (threads / vectors));
          piece.column = Times(ir().CreateURem(thread, I32(vectors)), kVector);
        }
        IrValue position = Plus(first, piece.row);
        if (!whole) piece.exists = ir().CreateICmpULT(position, I32(positions));
        if (whole && keeps_column) {
          IrValue start = RowAt(Plus(first, ir().CreateUDiv(thread, I32(vectors))), positions, depth);
          const int64_t apart = k * (threads / vectors) * (p_.positions_first ? p_.heads : 1) * depth;
          piece.start = ir().CreateAdd(start, b_.I64(apart), "", true, true);
        } else {
          piece.start = RowAt(whole ? position : Least(position, positions - 1), positions, depth);
        }
        if (!asynchronous_) piece.held = FetchVector(arg, piece.start, piece.column, depth, piece.exists);
        pieces.push_back(piece);
      }
      for (int64_t k = begin; k < end; ++k) {
        const Piece& piece = pieces[static_cast<size_t>(k - begin)];
        const auto store = [&] {
          IrValue to = Shared(shared, Plus(Times(piece.row, pitch), piece.column));
          if (!asynchronous_) {
            ir().CreateAlignedStore(piece.held, to, llvm::Align(16));
            return;
          }
          IrValue from = b_.ElementPointer(b_.arg(arg), ir().CreateAdd(piece.start, Wide(piece.column)), p_.stored);
          if (piece.exists == nullptr) {
            DeviceOp(b_, "nv.cp_async.16", {to, from});
          } else {
            DeviceOp(b_, "nv.cp_async.16.zfill", {to, from, ir().CreateSelect(piece.exists, I32(16), I32(0))});
          }
        };
        if ((k + 1) * threads <= all) {
          store();
        } else {
          b_.If("last", ir().CreateICmpULT(Plus(thread, k * threads), I32(all)), store);
        }
      }
    }
  }
  IrValue FetchVector(int arg, IrValue start, IrValue column, int64_t depth, IrValue exists) {
    IrValue vector = llvm::PoisonValue::get(vector_);
    if (p_.aligned && depth % kVector == 0) {
      vector = b_.Load(b_.arg(arg), ir().CreateAdd(start, Wide(column)), p_.stored, kVector);
    } else {
      for (int l = 0; l < kVector; ++l) {
        IrValue at = Plus(column, l);
        IrValue x = b_.Load(b_.arg(arg), ir().CreateAdd(start, Wide(Least(at, depth - 1))), p_.stored, 1);
        x = ir().CreateSelect(ir().CreateICmpULT(at, I32(depth)), x, F32(0));
        vector = ir().CreateInsertElement(vector, x, static_cast<uint64_t>(l));
      }
    }
    return exists == nullptr ? vector : ir().CreateSelect(exists, vector, b_.Zero(DType::kF32, kVector));
  }
  void CopyKeys(IrValue first) {
    Copy(1, first, p_.part_keys(), p_.depth, p_.keys, k_, p_.pitch(), thread_, p_.part_threads(), p_.whole_keys());
  }
  void CopyValues(IrValue first) {
    Copy(2, first, p_.part_keys(), p_.value_depth, p_.keys, v_, p_.v_pitch(), thread_, p_.part_threads(),
         p_.whole_keys());
  }
  // What was copied is there, and nobody needs any more what was read.
  void Await() {
    if (asynchronous_) DeviceOp(b_, "nv.cp_async.wait_all", {});
    b_.Barrier();
  }

  IrValues EmitKeys(IrValue first, IrValues rows) {
    CopyValues(first);
    IrValues scores = EmitScores();
    Await();
    IrValue next = Plus(first, p_.keys_at_once());
    if (p_.steps() > 1) {
      b_.If("more", ir().CreateICmpULT(next, I32(p_.keys)), [&] { CopyKeys(next); });
    }
    FinishScores(first, scores);
    for (int i = 0; i < p_.tile.rows; ++i) {
      IrValue* row = &rows[static_cast<size_t>(i) * RowValues()];
      EmitWeights(&scores[static_cast<size_t>(i) * p_.tile.keys], row);
    }
    for (int64_t half = 0; half < p_.part_keys() / p_.tile.weighed; ++half) EmitValues(scores, half, rows);
    if (p_.steps() > 1) Await();
    return rows;
  }

  // [row][key] of the thread: sums of products.
  IrValues EmitScores() {
    IrValue query = Shared(q_, Times(first_row_, p_.pitch())), key = Shared(k_, Times(lane_n_, p_.pitch()));
    IrValues sums(static_cast<size_t>(p_.tile.rows * p_.tile.keys), F32(0));
    const auto multiply = [&](IrValue d, IrValues so_far) {
      IrValue query_d = Shared(query, d), key_d = Shared(key, d);
      IrValues left, right;
      for (int j = 0; j < p_.tile.keys; ++j) right.push_back(LoadVector(Shared(key_d, j * p_.lanes_n() * p_.pitch())));
      for (int i = 0; i < p_.tile.rows; ++i) {
        left.push_back(LoadVector(Shared(query_d, int64_t{i} * p_.tile.lanes_m * p_.pitch())));
      }
      for (int l = 0; l < kVector; ++l) {
        for (int i = 0; i < p_.tile.rows; ++i) {
          for (int j = 0; j < p_.tile.keys; ++j) {
            IrValue& sum = so_far[static_cast<size_t>(i * p_.tile.keys + j)];
            sum = b_.Fma(Lane(left[static_cast<size_t>(i)], l), Lane(right[static_cast<size_t>(j)], l), sum);
          }
        }
      }
      return so_far;
    };
    const int64_t at_once = AtOnce(), looped = p_.depth_vectors() / at_once * at_once * kVector;
    sums = b_.For("depth", b_.I64(0), b_.I64(looped), at_once * kVector, sums, [&](IrValue d, const IrValues& so_far) {
      IrValues result = so_far;
      for (int64_t k = 0; k < at_once; ++k) {
        result = multiply(Plus(ir().CreateTrunc(d, ir().getInt32Ty()), k * kVector), result);
      }
      return result;
    });
    for (int64_t d = looped; d < p_.depth_vectors() * kVector; d += kVector) sums = multiply(I32(d), sums);
    return sums;
  }
  // Vectors of the depth, or of keys, that a pass of a loop multiplies: the code must stay within the instruction
  // cache.
  int64_t AtOnce() const { return p_.tile.rows * p_.tile.keys >= 32 ? 2 : 4; }

  // Scale, mask, and which keys exist.
  void FinishScores(IrValue first, IrValues& scores) {
    for (int j = 0; j < p_.tile.keys; ++j) {
      IrValue t = Plus(Plus(first, lane_n_), j * p_.lanes_n());
      IrValue exists = ir().CreateICmpULT(t, I32(p_.keys)), added = nullptr;
      for (int i = 0; i < p_.tile.rows; ++i) {
        IrValue& score = scores[static_cast<size_t>(i * p_.tile.keys + j)];
        if (p_.masked) {
          // The same for all queries: loaded once.
          if (added == nullptr || p_.mask_steps[2] != 0) added = LoadMask(RowOf(I32(i)), t);
          score = b_.Fma(score, F32(p_.scale), added);
        } else if (!p_.scales_late()) {
          score = ir().CreateFMul(score, F32(p_.scale));
        }
        if (!p_.whole_keys()) score = ir().CreateSelect(exists, score, Lowest());
      }
    }
  }
  IrValue LoadMask(IrValue row, IrValue t) {
    const IrValue places[] = {batch_, head_, Least(Plus(first_query_, row), p_.queries - 1), Least(t, p_.keys - 1)};
    IrValue at = b_.I64(0);
    for (int d = 0; d < 4; ++d) at = ir().CreateAdd(at, ir().CreateMul(Wide(places[d]), b_.I64(p_.mask_steps[d])));
    return b_.Load(b_.arg(3), at, p_.stored, 1);
  }
  // The tile's row that is row `i` (i32) of this thread.
  IrValue RowOf(IrValue i) { return Plus(first_row_, Times(i, p_.tile.lanes_m)); }

  // A row's scores become weights; its maximum, sum and columns are brought to the new maximum.
  void EmitWeights(IrValue* scores, IrValue* row) {
    IrValue largest = scores[0];
    for (int j = 1; j < p_.tile.keys; ++j) largest = Max(largest, scores[j]);
    largest = JoinLanes(b_, largest, static_cast<int>(p_.lanes_n()), [&](IrValue x, IrValue y) { return Max(x, y); });
    if (p_.steps() > 1) largest = Max(largest, row[0]);
    IrValue shift = Shift(largest), sum = nullptr;
    for (int j = 0; j < p_.tile.keys; ++j) {
      scores[j] = PowerOf(scores[j], shift);
      sum = sum == nullptr ? scores[j] : ir().CreateFAdd(sum, scores[j]);
    }
    if (p_.steps() > 1) {
      IrValue factor = PowerOf(row[0], shift);
      sum = b_.Fma(row[1], factor, sum);
      for (size_t k = 2; k < RowValues(); ++k) row[k] = ir().CreateFMul(row[k], factor);
    }
    row[0] = largest;
    row[1] = sum;
  }

  // The columns with the values of 32 of the keys.
  void EmitValues(const IrValues& weights, int64_t half, IrValues& rows) {
    const int64_t of_thread = p_.tile.weighed / p_.lanes_n();
    IrValue own = Shared(weights_, Times(first_row_, p_.weights_pitch()));
    IrValue values = Shared(Shared(v_, half * p_.tile.weighed * p_.v_pitch()), Times(lane_n_, kVector));
    if (half > 0) DeviceOp(b_, "gpu.warp_barrier", {});
    for (int i = 0; i < p_.tile.rows; ++i) {
      IrValue row = Shared(own, int64_t{i} * p_.tile.lanes_m * p_.weights_pitch());
      for (int64_t j = 0; j < of_thread; ++j) {
        IrValue weight = weights[static_cast<size_t>(i * p_.tile.keys + half * of_thread + j)];
        ir().CreateStore(weight, Shared(Shared(row, lane_n_), j * p_.lanes_n()));
      }
    }
    DeviceOp(b_, "gpu.warp_barrier", {});
    const int64_t at_once = AtOnce();
    rows = b_.For("weigh", b_.I64(0), b_.I64(p_.tile.weighed), at_once * kVector, rows,
                  [&](IrValue first, const IrValues& carried) {
                    IrValues next = carried;
                    for (int64_t k = 0; k < at_once; ++k) {
                      IrValue t = Plus(ir().CreateTrunc(first, ir().getInt32Ty()), k * kVector);
                      IrValue own_t = Shared(own, t), values_t = Shared(values, Times(t, p_.v_pitch()));
                      IrValues left;
                      for (int i = 0; i < p_.tile.rows; ++i) {
                        left.push_back(LoadVector(Shared(own_t, int64_t{i} * p_.tile.lanes_m * p_.weights_pitch())));
                      }
                      for (int l = 0; l < kVector; ++l) {
                        for (int64_t g = 0; g < p_.groups(); ++g) {
                          IrValue value = LoadVector(Shared(values_t, l * p_.v_pitch() + g * kVector * p_.lanes_n()));
                          for (int i = 0; i < p_.tile.rows; ++i) {
                            for (int c = 0; c < kVector; ++c) {
                              IrValue& sum =
                                  next[static_cast<size_t>(i) * RowValues() + 2 + static_cast<size_t>(g * kVector + c)];
                              sum = b_.Fma(Lane(left[static_cast<size_t>(i)], l), Lane(value, c), sum);
                            }
                          }
                        }
                      }
                    }
                    return next;
                  });
  }

  // All parts' rows to shared memory; then each part adds and finishes its share of them.
  void JoinParts(const IrValues& rows) {
    const auto place = [&](IrValue part, IrValue k) {
      return Shared(all_parts_, Plus(Plus(Times(part, p_.part_elements()), thread_), Times(k, p_.part_threads())));
    };
    if (p_.steps() == 1) b_.Barrier();  // otherwise the last keys ended with one
    for (size_t k = 0; k < rows.size(); ++k) {
      ir().CreateStore(rows[k], place(part_, I32(static_cast<int64_t>(k))));
    }
    b_.Barrier();
    const int parts = p_.tile.parts, share = p_.tile.rows / parts;
    for (int k = 0; k < share; ++k) {
      IrValue i = Plus(Times(part_, share), k);
      const auto value = [&](int part, size_t n) {
        return ir().CreateLoad(ir().getFloatTy(),
                               place(I32(part), Plus(Times(i, p_.row_values()), static_cast<int64_t>(n))));
      };
      IrValues largest, sums(RowValues(), F32(0));
      for (int part = 0; part < parts; ++part) largest.push_back(value(part, 0));
      IrValue all = largest[0];
      for (int part = 1; part < parts; ++part) all = Max(all, largest[static_cast<size_t>(part)]);
      IrValue shift = Shift(all);
      for (int part = 0; part < parts; ++part) {
        IrValue factor = PowerOf(largest[static_cast<size_t>(part)], shift);
        for (size_t n = 1; n < RowValues(); ++n) sums[n] = b_.Fma(value(part, n), factor, sums[n]);
      }
      EmitResult(i, sums.data());
    }
  }

  void EmitResult(IrValue i, const IrValue* row) {
    const int lanes = static_cast<int>(p_.lanes_n());
    IrValue sum = JoinLanes(b_, row[1], lanes, [&](IrValue x, IrValue y) { return ir().CreateFAdd(x, y); });
    IrValue factor = ir().CreateFDiv(F32(1), sum);
    IrValue query = Plus(first_query_, RowOf(i));
    IrValue number = p_.positions_first ? Plus(Times(Plus(Times(batch_, p_.queries), query), p_.heads), head_)
                                        : Plus(Times(Plus(Times(batch_, p_.heads), head_), p_.queries), query);
    IrValue wide = Wide(number), query_exists = ir().CreateICmpULT(query, I32(p_.queries));
    for (int64_t c = 0; c < p_.groups() * kVector; c += p_.vector) {
      const int64_t group = c / kVector * kVector * p_.lanes_n();
      IrValue column = Plus(Times(lane_n_, kVector), group + c % kVector), exists = query_exists;
      if (group + kVector * p_.lanes_n() > p_.value_depth) {
        exists = ir().CreateAnd(exists, ir().CreateICmpULT(column, I32(p_.value_depth)));
      }
      b_.If("store", exists, [&] {
        IrValue values = p_.vector == 1 ? nullptr : llvm::PoisonValue::get(b_.VectorType(DType::kF32, p_.vector));
        for (int l = 0; l < p_.vector; ++l) {
          IrValue value = ir().CreateFMul(row[2 + c + l], factor);
          values = p_.vector == 1 ? value : ir().CreateInsertElement(values, value, static_cast<uint64_t>(l));
        }
        EpilogueEmitter finish(b_, epilogue_, p_.masked ? 4 : 3);
        finish.Store(values, wide, Wide(column));
      });
    }
  }

  KernelBuilder& b_;
  const GpuAttention& p_;
  const TileEpilogue& epilogue_;
  bool asynchronous_ = false;
  llvm::FixedVectorType* vector_ = nullptr;
  IrValue part_, thread_, lane_m_, lane_n_, first_row_;  // i32: of the block, of the part, of the warp, of the tile
  IrValue head_, batch_, first_query_;                   // i32
  IrValue q_, all_parts_, k_, v_, weights_;              // in shared memory
};

// What a block's warps issue in turn, or one of them needs alone, where it waits for each piece that it loads; what
// blocks need to begin; and part of the way to memory and of what is read for each tile, where nothing is multiplied.
double Microseconds(const GpuAttention& p, const Target& target) {
  const GpuModel gpu(target);
  const double rows = p.tile.rows, keys = p.tile.keys, part_keys = static_cast<double>(p.part_keys());
  const double depth = static_cast<double>(p.depth_vectors()), groups = static_cast<double>(p.groups());
  const double products = rows * kVector * (keys * depth + groups * part_keys);
  const double loads = (rows + keys) * depth + (rows + kVector * groups) * part_keys / kVector;
  const double others = rows * keys * 8 + rows * (30 + 4 * groups);
  const double issued = (products + others + loads) * kWarp / gpu.fma_per_clock, alone = products + others + 3 * loads;
  const double blocks = static_cast<double>(DivideUp(p.blocks(), gpu.units));
  const double resident = std::min(blocks, static_cast<double>(p.per_unit(gpu.shared_bytes)));
  const double together = p.tile.warps * p.tile.parts * resident * issued;
  const double step = std::pow(std::pow(alone, 4) + std::pow(together, 4), 0.25);
  const double cycles = blocks / resident * (static_cast<double>(p.steps()) * step + 4000);
  const double head_rows = static_cast<double>(p.batch * p.heads) * 4;
  const double keys_bytes = static_cast<double>(p.keys * (p.depth + p.value_depth));
  const double rows_bytes = static_cast<double>(p.queries * (p.depth + p.value_depth));
  const double moved = head_rows * (keys_bytes + rows_bytes);
  const double read = head_rows * (keys_bytes * static_cast<double>(p.tiles()) + rows_bytes);
  return gpu.launch_us + cycles / (gpu.clock_ghz * 1e3) +
         0.3 * (moved / gpu.memory_bytes_per_ns + read / gpu.l2_bytes_per_ns) / 1e3;
}

// The problem by tiles that it may be cut into, the quickest first; none with the reason in *why.
std::vector<GpuAttention> TilesOf(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::vector<GpuAttention>();
  };
  const std::optional<AttentionShape> shape = AttentionShapeOf(graph, node, why);
  if (!shape) return {};
  if (shape->type != DType::kF32) return no("expected sums of f32, found ", Name(shape->type));
  if (TypeInfo(shape->stored).bits < 16) return no("elements smaller than 16 bits");
  if (shape->depth == 0 || shape->depth > kMostDepth || shape->value_depth > kMostDepth) {
    return no("expected a depth up to ", kMostDepth, ", found ", shape->depth, " and ", shape->value_depth);
  }
  if (!TileEpilogue(graph, node).bytewise()) return no("results or operands smaller than a byte");
  constexpr int64_t kMost = int64_t{1} << 30;
  if (shape->batch * shape->heads * std::max(shape->queries, shape->keys) > kMost) {
    return no("too large for 32-bit indices");
  }
  std::vector<GpuAttention> tiles;
  for (const AttentionTile& tile : kTiles) {
    GpuAttention p = {*shape, tile};
    constexpr int64_t kMostRegisters = 255;
    if (p.registers() > kMostRegisters || p.shared_bytes() > GpuModel(target).shared_bytes) continue;
    tiles.push_back(p);
  }
  std::stable_sort(tiles.begin(), tiles.end(), [&](const GpuAttention& a, const GpuAttention& b) {
    return Microseconds(a, target) < Microseconds(b, target);
  });
  if (tiles.empty()) *why = "tiles larger than shared memory";
  return tiles;
}

}  // namespace

extern const std::string_view kGpuAttentionDoc;
const std::string_view kGpuAttentionDoc = "attention, a tile of queries a block, softmax while keys pass by";

std::vector<Way> WaysGpuAttention(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  std::vector<Way> ways;
  for (const GpuAttention& tile : TilesOf(graph, node, target, why)) {
    if (ways.empty() || target.whole_space) ways.push_back({.name = tile.Way(), .us = Microseconds(tile, target)});
  }
  return ways;
}

Status PlanGpuAttention(const Node& node, const std::string& way, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::string why;
  std::vector<GpuAttention> tiles = TilesOf(graph, node, builder.target(), &why);
  const auto found =
      std::find_if(tiles.begin(), tiles.end(), [&](const GpuAttention& tile) { return tile.Way() == way; });
  TES_CHECK(found != tiles.end(), node.name, ": ", way, " ", why);
  auto epilogue = std::make_shared<const TileEpilogue>(graph, node);
  PlanStep step;
  for (ValueId id : node.inputs) {
    if (id != ValueId::kNone) step.args.push_back(builder.Read(id));
  }
  constexpr int64_t kBytes = 16;
  found->aligned = std::all_of(step.args.begin(), step.args.begin() + 3,
                               [](const StepArg& arg) { return arg.offset % kBytes == 0; });
  const size_t first_of_epilogue = step.args.size();
  epilogue->AddArguments(node, builder, step);
  found->vector = std::min(kVector, epilogue->VectorWidth(std::span(step.args).subspan(first_of_epilogue)));
  auto p = std::make_shared<const GpuAttention>(std::move(*found));
  step.launch = {.x = p->blocks(), .threads = p->threads(), .shared_bytes = p->shared_bytes()};
  step.label = node.name;
  step.flops = p->flops();
  step.bytes = static_cast<double>(p->operand_bytes() +
                                   ByteSize(epilogue->dtype(), p->batch * p->heads * p->queries * p->value_depth));
  step.kernel.family = "attention";
  step.kernel.key = p->Key() + "\n" + epilogue->Key();
  step.kernel.block_threads = static_cast<int>(p->threads());
  step.kernel.blocks_per_unit = static_cast<int>(p->per_unit(GpuModel(builder.target()).shared_bytes));
  step.kernel.emit = [p, epilogue](KernelBuilder& b) { GpuAttentionEmitter(b, *p, *epilogue).Emit(); };
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
