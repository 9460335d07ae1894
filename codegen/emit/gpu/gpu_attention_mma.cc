// Attention on tensor cores: f16 and bf16, and f32 where the target allows tf32.
//
//   block = Wq x Wk warps: 16 * Wq queries of one head; keys pass by as tiles of Wk * N, of which each warp has N
//     Q tile -> shared memory -> fragments, which stay
//     for each tile of keys, fetched one tile ahead (cp.async):
//       S = Q · Kᵀ                                     mma.sync; a warp's 16 x N scores are sums in its registers
//       s = scale · s + mask;  m' = max(m, max s);  p = 2^(s - m');  f = 2^(m - m')
//       l = l · f + sum p;  O = O · f + P · V          P's registers are S's: as sums lie, an operand lies
//     O, m, l -> shared memory; barrier
//     out = epilogue(sum over the Wk of 2^(m_k - max m) · O_k / sum over them of 2^(m_k - max m) · l_k)
//
// Scores are of base 2: scale and mask carry log2(e); without a mask the scale is part of the exponent. A quad of lanes
// has two rows of a fragment, so that maxima meet in two shuffles. Statistics and sums are f32. The second operand of P
// · V is V as it lies: ldmatrix turns 16-bit numbers on the way; 32-bit ones are loaded singly, and the step's depth is
// taken in the order 0 2 4 6 1 3 5 7, in which P's sums already are an operand. tf32: all operands are rounded to
// nearest. Few queries or heads: more warps share the keys of fewer rows, since a block alone is bound by latency.
//
// Memory, tiles and their zeros are TileCopy's. Tested by gpu_attention_mma_test.cc.
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/round.h"
#include "codegen/emit/attention_problem.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/gpu/tile_copy.h"
#include "codegen/emit/gpu/warp_join.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr int kRows = 16, kColumns = 8, kStepBytes = 32;  // of mma.sync
constexpr int64_t kMostDepth = 128;                       // what registers hold of Q and O
constexpr double kLog2E = 1.4426950408889634;

// Warps along the queries and along the keys, keys of a warp.
struct AttentionTile {
  int warps_q, warps_k, keys;
};
constexpr AttentionTile kTiles[] = {{4, 1, 64}, {4, 1, 32}, {2, 2, 64}, {2, 2, 32}, {1, 4, 32}, {1, 4, 16}};

struct GpuAttentionMma : AttentionShape {
  AttentionTile tile = kTiles[0];
  TileOperand q, k, v;
  int vector = 1;  // results that are stored at once

  int threads() const { return kWarp * tile.warps_q * tile.warps_k; }
  int rows() const { return kRows * tile.warps_q; }  // queries of a block
  int keys_at_once() const { return tile.warps_k * tile.keys; }
  int64_t tiles() const { return DivideUp(queries, rows()); }
  int64_t blocks() const { return batch * heads * tiles(); }
  int64_t steps() const { return DivideUp(keys, keys_at_once()); }
  int stages() const { return steps() > 1 ? 2 : 1; }
  int element_bytes() const { return TypeInfo(stored).bits / 8; }
  bool is_wide() const { return element_bytes() == 4; }
  int step() const { return kStepBytes / element_bytes(); }  // depth of a product
  int value_columns() const { return static_cast<int>(RoundUp(value_depth, 2 * kColumns)); }
  // In shared memory: Q, then stages of K and V; later a part of O for each warp, its maxima and sums.
  int64_t stage_bytes() const { return k.tile_bytes() + v.tile_bytes(); }
  int pitch() const { return value_columns() + 8; }  // f32 of a row of O
  int64_t result_bytes() const { return int64_t{rows()} * tile.warps_k * (pitch() + 2) * 4; }
  int64_t shared_bytes() const { return std::max(q.tile_bytes() + stages() * stage_bytes(), result_bytes()); }
  std::string Way() const { return internal::Join(tile.warps_q, "x", tile.warps_k, "x", tile.keys); }
  std::string Key() const {
    return internal::Join("gpu_mma_", AttentionShape::Key(), " tile ", Way(), " q ", q.Key(), " k ", k.Key(), " v ",
                          v.Key(), " vectors ", vector);
  }
};

// Arguments: q, k, v, the mask if there is one, the epilogue's operands, the output.
class AttentionMmaEmitter {
 public:
  AttentionMmaEmitter(KernelBuilder& b, const GpuAttentionMma& problem, const TileEpilogue& epilogue)
      : b_(b), p_(problem), epilogue_(epilogue) {}

  void Emit() {
    FindPlace();
    const auto matrix = [&](int arg, int64_t positions, int64_t depth) {
      IrValue row = p_.positions_first ? Plus(Times(batch_, positions * p_.heads), head_)
                                       : Times(Plus(Times(batch_, p_.heads), head_), positions);
      return b_.ElementPointer(b_.arg(arg), ir().CreateMul(Wide(row), b_.I64(depth)), p_.stored);
    };
    TileCopy q(b_, p_.q, p_.threads(), matrix(0, p_.queries, p_.depth), I32(0));
    TileCopy k(b_, p_.k, p_.threads(), matrix(1, p_.keys, p_.depth), I32(0));
    TileCopy v(b_, p_.v, p_.threads(), matrix(2, p_.keys, p_.value_depth), I32(0));
    const bool asynchronous = q.asynchronous() || k.asynchronous() || v.asynchronous();
    const auto await = [&] {
      if (asynchronous) DeviceOp(b_, "nv.cp_async.wait_all", {});
      b_.Barrier();
    };
    const auto at_stage = [&](IrValue stage) { return At(Plus(Times(stage, p_.stage_bytes()), p_.q.tile_bytes())); };
    const auto fetch = [&](IrValue first, IrValue stage) {
      IrValues held = k.Fetch(first, at_stage(stage));
      const IrValues more = v.Fetch(first, Behind(at_stage(stage), p_.k.tile_bytes()));
      held.insert(held.end(), more.begin(), more.end());
      return held;
    };
    const auto store = [&](const IrValues& held, IrValue stage) {
      const auto middle = held.begin() + k.num_held();
      k.Store(IrValues(held.begin(), middle), at_stage(stage));
      v.Store(IrValues(middle, held.end()), Behind(at_stage(stage), p_.k.tile_bytes()));
    };

    const IrValues queries = q.Fetch(first_query_, shared_);
    store(fetch(I32(0), I32(0)), I32(0));
    q.Store(queries, shared_);
    await();
    LoadQueries();
    IrValues carried = Start();
    if (p_.steps() == 1) {
      carried = EmitKeys(I32(0), at_stage(I32(0)), carried);
    } else {
      const IrValues nothing(static_cast<size_t>(k.num_held() + v.num_held()), TileCopy::NothingHeld(b_));
      carried = b_.For("keys", b_.I64(0), b_.I64(p_.steps()), 1, carried, [&](IrValue step64, const IrValues& now) {
        IrValue step = ir().CreateTrunc(step64, ir().getInt32Ty());
        IrValue stage = ir().CreateAnd(step, I32(1)), other = ir().CreateXor(stage, I32(1));
        IrValue more = ir().CreateICmpULT(Plus(step, 1), I32(p_.steps()));
        IrValue first = Times(step, p_.keys_at_once());
        const IrValues held = b_.IfElse(
            "fetch", more, [&] { return fetch(Plus(first, p_.keys_at_once()), other); }, [&] { return nothing; });
        IrValues result = EmitKeys(first, at_stage(stage), now);
        store(held, other);
        await();
        return result;
      });
    }
    Finish(carried);
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue Wide(IrValue x) { return ir().CreateZExt(x, ir().getInt64Ty()); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : Plus(x, I32(y)); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(x, I32(by), "", true, true); }
  IrValue Least(IrValue x, int64_t y) { return ir().CreateSelect(ir().CreateICmpULT(x, I32(y)), x, I32(y)); }
  IrValue F32(double value) { return b_.Constant(DType::kF32, value); }
  IrValue Lowest() { return llvm::ConstantFP::getInfinity(ir().getFloatTy(), /*Negative=*/true); }
  IrValue Power(IrValue x) { return DeviceOp(b_, "gpu.exp2_approx", {x}); }
  // A NaN among the scores makes the sum NaN: the maximum need not pass it on.
  IrValue Max(IrValue x, IrValue y) { return ir().CreateBinaryIntrinsic(llvm::Intrinsic::maxnum, x, y); }
  // 2^(scale · log2(e) · (score - shift)), where `shift` is scaled already: scores of a mask carry their scale.
  bool scales_late() const { return !p_.masked && p_.scale > 0; }
  IrValue Scaled(IrValue x) { return scales_late() ? ir().CreateFMul(x, F32(p_.scale * kLog2E)) : x; }
  IrValue PowerOf(IrValue score, IrValue shift) {
    if (!scales_late()) return Power(ir().CreateFSub(score, shift));
    return Power(b_.Fma(score, F32(p_.scale * kLog2E), ir().CreateFNeg(shift)));
  }
  IrValue At(IrValue offset) { return ir().CreateGEP(ir().getInt8Ty(), shared_, offset); }
  IrValue Behind(IrValue base, int64_t bytes) {
    return ir().CreateConstGEP1_64(ir().getInt8Ty(), base, static_cast<uint64_t>(bytes));
  }
  IrValue LaneBit(int bit) { return ir().CreateAnd(ir().CreateLShr(lane_, I32(bit)), I32(1)); }
  // What is subtracted from scores: where no key counts so far, whatever it is leaves -infinity.
  IrValue Shift(IrValue largest) { return ir().CreateSelect(ir().CreateFCmpOEQ(largest, Lowest()), F32(0), largest); }

  int query_steps() const { return static_cast<int>(DivideUp(p_.depth, p_.step())); }
  int key_blocks() const { return p_.tile.keys / kColumns; }
  int value_blocks() const { return p_.value_columns() / kColumns; }

  void FindPlace() {
    IrValue thread = b_.ThreadId();
    lane_ = ir().CreateAnd(thread, I32(kWarp - 1));
    IrValue warp = ir().CreateLShr(thread, I32(5));
    warp_q_ = ir().CreateURem(warp, I32(p_.tile.warps_q));
    warp_k_ = ir().CreateUDiv(warp, I32(p_.tile.warps_q));
    in_quad_ = ir().CreateAnd(lane_, I32(3));
    quad_ = ir().CreateLShr(lane_, I32(2));
    shared_ = b_.Shared(p_.shared_bytes(), 128);
    IrValue block = b_.BlockId(0);
    IrValue tile = ir().CreateURem(block, I32(p_.tiles())), rest = ir().CreateUDiv(block, I32(p_.tiles()));
    head_ = ir().CreateURem(rest, I32(p_.heads));
    batch_ = ir().CreateUDiv(rest, I32(p_.heads));
    first_query_ = Times(tile, p_.rows());
  }

  // Four 8x8 matrices, whose rows' addresses the lanes give. The line's number ends in the lane's last three bits.
  IrValues LoadMatrices(IrValue tile, const TileOperand& operand, IrValue line, IrValue piece, bool transposed) {
    IrValue turned = ir().CreateXor(piece, ir().CreateAnd(lane_, I32(7)));
    IrValue at = Plus(Times(turned, kPieceBytes), Times(line, operand.line_bytes()));
    IrValue four = DeviceOp(b_, transposed ? "nv.ldmatrix.x4.trans" : "nv.ldmatrix.x4",
                            {ir().CreateGEP(ir().getInt8Ty(), tile, at)});
    IrValues result;
    for (unsigned k = 0; k < 4; ++k) result.push_back(ir().CreateExtractValue(four, {k}));
    return result;
  }
  IrValue Rounded(IrValue bits) {
    return p_.is_wide() ? DeviceOp(b_, "nv.to_tf32", {ir().CreateBitCast(bits, ir().getFloatTy())}) : bits;
  }
  IrValues Rounded(IrValues fragment) {
    for (IrValue& x : fragment) x = Rounded(x);
    return fragment;
  }
  // sums += A · B for one block of 8 columns.
  void Multiply(const IrValues& a, IrValue b0, IrValue b1, IrValue* sums) {
    const char* op = p_.is_wide()               ? "nv.mma.m16n8k8.f32.tf32"
                     : p_.stored == DType::kF16 ? "nv.mma.m16n8k16.f32.f16"
                                                : "nv.mma.m16n8k16.f32.bf16";
    IrValue result = DeviceOp(b_, op, {a[0], a[1], a[2], a[3], b0, b1, sums[0], sums[1], sums[2], sums[3]});
    for (unsigned k = 0; k < 4; ++k) sums[k] = ir().CreateExtractValue(result, {k});
  }

  // Matrices: rows 0-7, rows 8-15 of the first half of the step's depth, then of the second.
  void LoadQueries() {
    IrValue line = Plus(Plus(Times(warp_q_, kRows), Times(LaneBit(3), 8)), ir().CreateAnd(lane_, I32(7)));
    for (int s = 0; s < query_steps(); ++s) {
      queries_.push_back(Rounded(LoadMatrices(shared_, p_.q, line, Plus(LaneBit(4), 2 * s), false)));
    }
  }

  // Of each of the lane's two rows the maximum and this lane's share of the sum, then O's blocks.
  IrValues Start() {
    IrValues carried = {Lowest(), F32(0), Lowest(), F32(0)};
    carried.resize(carried.size() + static_cast<size_t>(value_blocks()) * 4, F32(0));
    return carried;
  }

  IrValues EmitKeys(IrValue first, IrValue stage, IrValues carried) {
    IrValue own = Times(warp_k_, p_.tile.keys);  // of the tile's lines
    IrValues scores = EmitScores(first, own, stage);
    for (int half = 0; half < 2; ++half) {
      IrValue largest = nullptr;
      ForRow(scores, half, [&](IrValue& s) { largest = largest == nullptr ? s : Max(largest, s); });
      largest = JoinLanes(b_, largest, 4, [&](IrValue x, IrValue y) { return Max(x, y); });
      IrValue& so_far = carried[static_cast<size_t>(half) * 2];
      largest = Max(so_far, largest);
      IrValue shift = Scaled(Shift(largest)), factor = PowerOf(so_far, shift), sum = nullptr;
      ForRow(scores, half, [&](IrValue& s) {
        s = PowerOf(s, shift);
        sum = sum == nullptr ? s : ir().CreateFAdd(sum, s);
      });
      so_far = largest;
      IrValue& total = carried[static_cast<size_t>(half) * 2 + 1];
      total = b_.Fma(total, factor, sum);
      for (int j = 0; j < value_blocks(); ++j) {
        for (int k = 0; k < 2; ++k) {
          IrValue& x = carried[static_cast<size_t>(4 + 4 * j + 2 * half + k)];
          x = ir().CreateFMul(x, factor);
        }
      }
    }
    EmitValues(scores, own, Behind(stage, p_.k.tile_bytes()), &carried[4]);
    return carried;
  }
  // The scores of row 0 or 1 of the lane.
  void ForRow(IrValues& scores, int half, const std::function<void(IrValue&)>& body) {
    for (int j = 0; j < key_blocks(); ++j) {
      for (int k = 0; k < 2; ++k) body(scores[static_cast<size_t>(4 * j + 2 * half + k)]);
    }
  }

  // [block of 8 keys][row of the lane][two neighbours]; of a mask, or of a scale that is not positive, times log2(e).
  IrValues EmitScores(IrValue first, IrValue own, IrValue stage) {
    IrValues scores(static_cast<size_t>(key_blocks()) * 4, F32(0));
    // Matrices: keys 0-7 of the first half of the step's depth, of the second half; then keys 8-15.
    IrValue line = Plus(Plus(own, Times(LaneBit(4), 8)), ir().CreateAnd(lane_, I32(7)));
    for (int s = 0; s < query_steps(); ++s) {
      for (int j = 0; j < key_blocks(); j += 2) {
        const IrValues four =
            Rounded(LoadMatrices(stage, p_.k, Plus(line, int64_t{j} * kColumns), Plus(LaneBit(3), 2 * s), false));
        Multiply(queries_[static_cast<size_t>(s)], four[0], four[1], &scores[static_cast<size_t>(4 * j)]);
        Multiply(queries_[static_cast<size_t>(s)], four[2], four[3], &scores[static_cast<size_t>(4 * j + 4)]);
      }
    }
    for (int j = 0; j < key_blocks(); ++j) {
      for (int k = 0; k < 4; ++k) {
        IrValue& s = scores[static_cast<size_t>(4 * j + k)];
        if (!scales_late()) s = ir().CreateFMul(s, F32(p_.scale * kLog2E));
        if (!p_.masked && p_.keys % p_.keys_at_once() == 0) continue;
        IrValue key = Plus(Plus(Plus(first, own), Times(in_quad_, 2)), int64_t{j} * kColumns + k % 2);
        if (p_.masked) {
          IrValue query = Plus(Plus(first_query_, Times(warp_q_, kRows)), Plus(quad_, k / 2 * 8));
          const IrValue places[] = {batch_, head_, Least(query, p_.queries - 1), Least(key, p_.keys - 1)};
          IrValue at = b_.I64(0);
          for (int d = 0; d < 4; ++d) {
            at = ir().CreateAdd(at, ir().CreateMul(Wide(places[d]), b_.I64(p_.mask_steps[d])));
          }
          s = b_.Fma(b_.Load(b_.arg(3), at, p_.stored, 1), F32(kLog2E), s);
        }
        s = ir().CreateSelect(ir().CreateICmpULT(key, I32(p_.keys)), s, Lowest());
      }
    }
    return scores;
  }

  // sums += P · V.
  void EmitValues(const IrValues& powers, IrValue own, IrValue tile, IrValue* sums) {
    if (p_.is_wide()) return EmitWideValues(powers, own, tile, sums);
    const auto pair = [&](int j, int k) {
      IrValue two = llvm::PoisonValue::get(llvm::FixedVectorType::get(ir().getFloatTy(), 2));
      for (int l = 0; l < 2; ++l) {
        two = ir().CreateInsertElement(two, powers[static_cast<size_t>(4 * j + k + l)], static_cast<uint64_t>(l));
      }
      return ir().CreateBitCast(b_.NarrowToStorage(two, p_.stored), ir().getInt32Ty());
    };
    // Matrices: keys 0-7, keys 8-15 of the first 8 columns, then of the second.
    IrValue line = Plus(Plus(own, Times(LaneBit(3), 8)), ir().CreateAnd(lane_, I32(7)));
    for (int j = 0; j < key_blocks(); j += 2) {
      const IrValues a = {pair(j, 0), pair(j, 2), pair(j + 1, 0), pair(j + 1, 2)};
      for (int c = 0; c < value_blocks(); c += 2) {
        const IrValues four =
            LoadMatrices(tile, p_.v, Plus(line, int64_t{j} * kColumns), Plus(LaneBit(4), c), /*transposed=*/true);
        Multiply(a, four[0], four[1], sums + 4 * c);
        Multiply(a, four[2], four[3], sums + 4 * c + 4);
      }
    }
  }

  // Depth t of a step is key 2 t, depth t + 4 is key 2 t + 1, t the lane's place in its quad.
  void EmitWideValues(const IrValues& powers, IrValue own, IrValue tile, IrValue* sums) {
    for (int j = 0; j < key_blocks(); ++j) {
      const IrValue* s = &powers[static_cast<size_t>(4 * j)];
      IrValues a;
      for (int k : {0, 2, 1, 3}) a.push_back(Rounded(s[k]));
      for (int c = 0; c < value_blocks(); ++c) {
        IrValue two[2];
        for (int k = 0; k < 2; ++k) {
          IrValue in_eight = Plus(Times(in_quad_, 2), k);
          IrValue piece = Plus(ir().CreateLShr(quad_, I32(2)), 2 * c);
          IrValue at = Times(Plus(Plus(own, in_eight), int64_t{j} * kColumns), p_.v.line_bytes());
          at = Plus(at, Times(ir().CreateXor(piece, in_eight), kPieceBytes));
          at = Plus(at, Times(ir().CreateAnd(quad_, I32(3)), 4));
          IrValue address = ir().CreateGEP(ir().getInt8Ty(), tile, at);
          two[k] = Rounded(ir().CreateAlignedLoad(ir().getInt32Ty(), address, llvm::Align(4)));
        }
        Multiply(a, two[0], two[1], sums + 4 * c);
      }
    }
  }

  // What each warp has meets in shared memory; then a thread makes some vectors of results.
  void Finish(const IrValues& carried) {
    b_.Barrier();  // keys and values have been read
    const int pitch = p_.pitch(), of_part = p_.rows() * pitch;
    const auto element = [&](IrValue at) { return ir().CreateGEP(ir().getFloatTy(), shared_, at); };
    llvm::Type* pair_type = llvm::FixedVectorType::get(ir().getFloatTy(), 2);
    const int64_t statistics = int64_t{p_.tile.warps_k} * of_part;  // [part][row][maximum, sum]
    const auto write = [&](IrValue x, IrValue y, IrValue at) {
      IrValue two = ir().CreateInsertElement(llvm::PoisonValue::get(pair_type), x, uint64_t{0});
      ir().CreateAlignedStore(ir().CreateInsertElement(two, y, uint64_t{1}), element(at), llvm::Align(8));
    };
    for (int half = 0; half < 2; ++half) {
      IrValue row = Plus(Times(warp_q_, kRows), Plus(quad_, half * 8));
      const size_t own = static_cast<size_t>(half) * 2;
      IrValue sum = JoinLanes(b_, carried[own + 1], 4, [&](IrValue x, IrValue y) { return ir().CreateFAdd(x, y); });
      b_.If("statistics", ir().CreateICmpEQ(in_quad_, I32(0)),
            [&] { write(carried[own], sum, Plus(Times(Plus(Times(warp_k_, p_.rows()), row), 2), statistics)); });
      IrValue corner = Plus(Plus(Times(warp_k_, of_part), Times(row, pitch)), Times(in_quad_, 2));
      for (int j = 0; j < value_blocks(); ++j) {
        const size_t at = 4 + 4 * static_cast<size_t>(j) + own;
        write(carried[at], carried[at + 1], Plus(corner, int64_t{j} * kColumns));
      }
    }
    b_.Barrier();

    const int64_t across = DivideUp(p_.value_depth, p_.vector), all = p_.rows() * across;
    b_.For("finish", b_.I64(0), b_.I64(RoundUp(all, p_.threads())), p_.threads(), [&](IrValue start) {
      IrValue number = Plus(ir().CreateTrunc(start, ir().getInt32Ty()), b_.ThreadId());
      IrValue row = ir().CreateUDiv(number, I32(across));
      IrValue column = Times(ir().CreateURem(number, I32(across)), p_.vector);
      IrValue query = Plus(first_query_, row);
      IrValue inside = ir().CreateICmpULT(query, I32(p_.queries));
      if (all % p_.threads() != 0) inside = ir().CreateAnd(inside, ir().CreateICmpULT(number, I32(all)));
      b_.If("inside", inside, [&] {
        IrValues largest, sums;
        for (int part = 0; part < p_.tile.warps_k; ++part) {
          IrValue at = Plus(Times(Plus(row, int64_t{part} * p_.rows()), 2), statistics);
          IrValue two = ir().CreateAlignedLoad(pair_type, element(at), llvm::Align(8));
          largest.push_back(ir().CreateExtractElement(two, uint64_t{0}));
          sums.push_back(ir().CreateExtractElement(two, uint64_t{1}));
        }
        IrValue most = largest[0];
        for (IrValue x : largest) most = Max(most, x);
        IrValue shift = Scaled(Shift(most)), sum = F32(0), result = nullptr;
        b_.AssumeAligned(p_.vector > 1);
        for (int part = 0; part < p_.tile.warps_k; ++part) {
          const size_t k = static_cast<size_t>(part);
          IrValue factor = p_.tile.warps_k == 1 ? F32(1) : PowerOf(largest[k], shift);
          sum = b_.Fma(sums[k], factor, sum);
          IrValue at = Plus(Plus(Times(row, pitch), column), int64_t{part} * of_part);
          IrValue x = b_.Load(shared_, Wide(at), DType::kF32, p_.vector);
          IrValue factors = b_.Splat(factor, p_.vector);
          result = result == nullptr ? ir().CreateFMul(x, factors) : b_.Fma(x, factors, result);
        }
        result = ir().CreateFMul(result, b_.Splat(ir().CreateFDiv(F32(1), sum), p_.vector));
        IrValue place = p_.positions_first ? Plus(Times(Plus(Times(batch_, p_.queries), query), p_.heads), head_)
                                           : Plus(Times(Plus(Times(batch_, p_.heads), head_), p_.queries), query);
        EpilogueEmitter(b_, epilogue_, p_.masked ? 4 : 3).Store(result, Wide(place), Wide(column));
        b_.AssumeAligned(false);
      });
    });
  }

  KernelBuilder& b_;
  const GpuAttentionMma& p_;
  const TileEpilogue& epilogue_;
  IrValue lane_, quad_, in_quad_, warp_q_, warp_k_, head_, batch_, first_query_;  // i32
  IrValue shared_;
  std::vector<IrValues> queries_;  // fragments by steps of the depth
};

// How the operands lie with that tile, in buffers that are used from `offsets` bytes on.
GpuAttentionMma Lay(const AttentionShape& shape, const AttentionTile& tile, const int64_t (&offsets)[3]) {
  GpuAttentionMma p = {shape};
  p.tile = tile;
  const auto lay = [&](int64_t positions, int64_t depth, int tile_lines, int64_t offset) {
    TileOperand operand;
    operand.type = p.stored;
    operand.depth_inner = false;
    operand.lines = positions;
    operand.run = depth;
    operand.pitch = p.positions_first ? p.heads * depth : depth;
    operand.granule = GranuleOf(p.stored, depth, offset);  // heads and positions start at multiples of the depth
    operand.tile_lines = tile_lines;
    constexpr int kLine = 128;
    operand.tile_run = static_cast<int>(RoundUp(depth, kLine / p.element_bytes()));
    return operand;
  };
  p.q = lay(p.queries, p.depth, p.rows(), offsets[0]);
  p.k = lay(p.keys, p.depth, p.keys_at_once(), offsets[1]);
  p.v = lay(p.keys, p.value_depth, p.keys_at_once(), offsets[2]);
  return p;
}

double Microseconds(const GpuAttentionMma& p, const Target& target) {
  const GpuModel gpu(target);
  const double scores = static_cast<double>(p.rows()) * p.keys_at_once();
  const double products = scores * static_cast<double>(p.depth + p.value_depth);
  // Cycles of a block for a tile of keys: mma.sync, exponentials and what goes with each score, fragments.
  const double mma = products / (gpu.mma_f16_per_clock * 2 / p.element_bytes());
  const double softmax = scores / 16 + scores * (p.masked ? 12 : 8) / gpu.fma_per_clock;
  const double fragments = p.tile.warps_q * static_cast<double>(p.stage_bytes()) / 128;
  const double cycles = 2 * mma + softmax + fragments;
  const double per_unit = static_cast<double>(DivideUp(p.blocks(), gpu.units));
  const double fit =
      static_cast<double>(std::clamp<int64_t>(gpu.shared_bytes / p.shared_bytes(), 1, 2048 / (2 * p.threads())));
  const double steps = static_cast<double>(p.steps());
  // A warp alone needs longer than its share: chains of loads, products and powers.
  const double latency = 300 + p.tile.keys * 12.0 + static_cast<double>(p.depth + p.value_depth) * 2;
  const double work = std::max(per_unit * steps * cycles, std::ceil(per_unit / fit) * steps * latency);
  return gpu.launch_us + (work + 2000) / (gpu.clock_ghz * 1e3);
}

// The problem by tiles that it may be cut into, the quickest first; none with the reason in *why.
std::vector<GpuAttentionMma> TilesOf(const Graph& graph, const Node& node, const Target& target,
                                     const int64_t (&offsets)[3], std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::vector<GpuAttentionMma>();
  };
  const std::optional<AttentionShape> shape = AttentionShapeOf(graph, node, why);
  if (!shape) return {};
  if (target.matrix != Target::MatrixCores::kMma) return no("needs mma.sync of compute capability 8.0");
  const bool takes = shape->stored == DType::kF16 || shape->stored == DType::kBF16 ||
                     (shape->stored == DType::kF32 && target.allow_tf32);
  if (!takes) return no("expected f16, bf16, or f32 that may be rounded to tf32, found ", Name(shape->stored));
  if (shape->depth == 0 || shape->depth > kMostDepth || shape->value_depth > kMostDepth) {
    return no("expected a depth up to ", kMostDepth, ", found ", shape->depth, " and ", shape->value_depth);
  }
  if (!TileEpilogue(graph, node).bytewise()) return no("results or operands smaller than a byte");
  constexpr int64_t kMost = int64_t{1} << 30;
  if (shape->batch * shape->heads * std::max(shape->queries, shape->keys) * kMostDepth > kMost) {
    return no("too large for 32-bit indices");
  }
  std::vector<GpuAttentionMma> tiles;
  for (const AttentionTile& tile : kTiles) {
    GpuAttentionMma p = Lay(*shape, tile, offsets);
    if (p.shared_bytes() <= GpuModel(target).shared_bytes) tiles.push_back(std::move(p));
  }
  std::stable_sort(tiles.begin(), tiles.end(), [&](const GpuAttentionMma& a, const GpuAttentionMma& b) {
    return Microseconds(a, target) < Microseconds(b, target);
  });
  if (tiles.empty()) *why = "tiles larger than shared memory";
  return tiles;
}

}  // namespace

extern const std::string_view kGpuAttentionMmaDoc;
const std::string_view kGpuAttentionMmaDoc =
    "attention on tensor cores, scores and softmax in registers while keys pass by";

std::vector<Way> WaysGpuAttentionMma(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  std::vector<Way> ways;
  for (const GpuAttentionMma& tile : TilesOf(graph, node, target, {0, 0, 0}, why)) {
    if (ways.empty() || target.whole_space) ways.push_back({.name = tile.Way(), .us = Microseconds(tile, target)});
  }
  return ways;
}

Status PlanGpuAttentionMma(const Node& node, const std::string& way, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  PlanStep step;
  for (ValueId id : node.inputs) {
    if (id != ValueId::kNone) step.args.push_back(builder.Read(id));
  }
  std::string why;
  std::vector<GpuAttentionMma> tiles =
      TilesOf(graph, node, builder.target(), {step.args[0].offset, step.args[1].offset, step.args[2].offset}, &why);
  const auto found =
      std::find_if(tiles.begin(), tiles.end(), [&](const GpuAttentionMma& tile) { return tile.Way() == way; });
  TES_CHECK(found != tiles.end(), node.name, ": ", way, " ", why);
  auto epilogue = std::make_shared<const TileEpilogue>(graph, node);
  const size_t first_of_epilogue = step.args.size();
  epilogue->AddArguments(node, builder, step);
  found->vector = std::min(4, epilogue->VectorWidth(std::span(step.args).subspan(first_of_epilogue)));
  auto p = std::make_shared<const GpuAttentionMma>(std::move(*found));
  step.launch = {.x = p->blocks(), .threads = p->threads(), .shared_bytes = p->shared_bytes()};
  step.label = node.name;
  step.flops = p->flops();
  step.bytes = static_cast<double>(p->operand_bytes() +
                                   ByteSize(epilogue->dtype(), p->batch * p->heads * p->queries * p->value_depth));
  step.kernel.family = "attention_mma";
  step.kernel.key = p->Key() + "\n" + epilogue->Key();
  step.kernel.block_threads = p->threads();
  step.kernel.blocks_per_unit = 2;
  step.kernel.emit = [p, epilogue](KernelBuilder& b) { AttentionMmaEmitter(b, *p, *epilogue).Emit(); };
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
