// The attention emitter for GPUs: scores, softmax and the weighed sum without a score leaving the multiprocessor.
//
//   block = P parts of 4 warps: a tile of 4 * R queries of one head;  a warp has R of them and each P-th 32 keys
//     Q tile -> shared memory;  fetch keys and values 0 … 31
//     for each 32 keys:
//       what was fetched -> shared memory; barrier; fetch the next 32
//       s[r] = scale * sum over d of Q[r][d] * K[lane][d] + mask         a lane has a key
//       m' = max(m, max over lanes of s);  p = e^(s - m');  f = e^(m - m')
//       l = l * f + p;  o[r][j] = o[r][j] * f + sum over t of p[t] * V[t][lane + 32 j]      a lane has some columns
//       barrier
//     parts: m, l and o of all but the first -> shared memory; barrier; the first adds them to its own
//     out[r] = epilogue(o / sum over lanes of l)
//
// Sums, maxima and weights are f32, whatever is stored. Q is read four d at once and is the same for all lanes; rows of
// K are an odd number of 16 bytes apart, so that eight lanes' loads meet all banks; weights pass to the other lanes
// through shared memory. Keys that do not exist have the score -infinity. R is 8, or 4 where there are few tiles; then
// there are two parts, since a block alone is bound by latency.
//
// What binds: loads from shared memory, 9 of 16 bytes for 32 products a lane. Tested by gpu_attention_test.cc.
#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "base/round.h"
#include "codegen/emit/attention_problem.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/gpu/warp_join.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/vector_math.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr int64_t kWarps = 4, kThreads = kWarps * kWarp;  // of a part
constexpr int64_t kKeys = kWarp;                          // at once
constexpr int64_t kMostDepth = 128;                       // what registers hold of keys and values that are under way
constexpr int kVector = 4;                                // f32 of a load from shared memory

struct GpuAttention : AttentionShape {
  int64_t rows = 8;     // queries of a warp
  int64_t parts = 1;    // that share the keys
  bool aligned = true;  // rows of q, k and v begin at multiples of four elements

  int64_t tile() const { return kWarps * rows; }
  int64_t tiles() const { return DivideUp(queries, tile()); }
  int64_t blocks() const { return batch * heads * tiles(); }
  // Elements of rows in shared memory.
  int64_t depth_vectors() const { return DivideUp(depth, kVector); }
  int64_t value_vectors() const { return DivideUp(value_depth, kVector); }
  int64_t q_pitch() const { return depth_vectors() * kVector; }
  int64_t k_pitch() const { return (depth_vectors() | 1) * kVector; }
  int64_t v_pitch() const { return RoundUp(value_depth, kWarp); }
  int64_t columns() const { return DivideUp(value_depth, kWarp); }  // of a lane
  int64_t row_values() const { return 2 + columns(); }              // of a lane: maximum, sum, columns
  int64_t threads() const { return kThreads * parts; }
  int64_t keys_at_once() const { return kKeys * parts; }
  // Elements of shared memory that each part has: keys, values, weights; later what it adds to the first.
  int64_t part_elements() const {
    return std::max(kKeys * (k_pitch() + v_pitch()) + tile() * kKeys, tile() * row_values() * kWarp);
  }
  int64_t shared_bytes() const { return 4 * (tile() * q_pitch() + parts * part_elements()); }
  std::string Key() const {
    return internal::Join("gpu_", AttentionShape::Key(), " rows ", rows, " parts ", parts, aligned ? " aligned" : "");
  }
};

// Arguments: q, k, v, the mask if there is one, the epilogue's operands, the output.
class GpuAttentionEmitter {
 public:
  GpuAttentionEmitter(KernelBuilder& b, const GpuAttention& problem, const TileEpilogue& epilogue)
      : b_(b), p_(problem), epilogue_(epilogue) {
    vector_ = llvm::FixedVectorType::get(ir().getFloatTy(), kVector);
  }

  void Emit() {
    b_.AssumeAligned(true);
    IrValue in_block = b_.ThreadId();
    part_ = p_.parts == 1 ? I32(0) : ir().CreateLShr(in_block, I32(7));
    thread_ = p_.parts == 1 ? in_block : ir().CreateAnd(in_block, I32(kThreads - 1));
    lane_ = ir().CreateAnd(thread_, I32(kWarp - 1));
    warp_ = ir().CreateLShr(thread_, I32(5));
    q_ = b_.Shared(4 * p_.tile() * p_.q_pitch());
    all_parts_ = b_.Shared(4 * p_.parts * p_.part_elements());
    k_ = Shared(all_parts_, Times(part_, p_.part_elements()));
    v_ = Shared(k_, I32(kKeys * p_.k_pitch()));
    weights_ = Shared(v_, I32(kKeys * p_.v_pitch()));
    IrValue block = b_.BlockId(0);
    IrValue tile = ir().CreateURem(block, I32(p_.tiles())), rest = ir().CreateUDiv(block, I32(p_.tiles()));
    head_ = ir().CreateURem(rest, I32(p_.heads));
    batch_ = ir().CreateUDiv(rest, I32(p_.heads));
    first_query_ = Times(tile, p_.tile());

    const auto query = [&](IrValue row) { return Plus(first_query_, row); };
    const auto keep_queries = [&] {
      KeepRows(FetchRows(0, p_.tile(), p_.depth, p_.queries, query), q_, p_.tile(), p_.depth, p_.q_pitch());
    };
    if (p_.parts == 1) {
      keep_queries();
    } else {
      b_.If("queries", ir().CreateICmpEQ(part_, I32(0)), keep_queries);
    }
    IrValues initial = Fetch(Times(part_, kKeys));
    const size_t num_held = initial.size();
    for (int64_t r = 0; r < p_.rows; ++r) {
      initial.push_back(llvm::ConstantFP::getInfinity(ir().getFloatTy(), /*Negative=*/true));
      initial.push_back(b_.Zero(DType::kF32, 1));
      for (int64_t j = 0; j < p_.columns(); ++j) initial.push_back(b_.Zero(DType::kF32, 1));
    }
    IrValues last = b_.For(
        "keys", b_.I64(0), b_.I64(p_.keys), p_.keys_at_once(), initial, [&](IrValue first, const IrValues& carried) {
          return EmitKeys(Plus(ir().CreateTrunc(first, ir().getInt32Ty()), Times(part_, kKeys)), num_held, carried);
        });
    last.erase(last.begin(), last.begin() + static_cast<std::ptrdiff_t>(num_held));
    const auto results = [&] {
      for (int64_t r = 0; r < p_.rows; ++r) EmitResult(r, &last[static_cast<size_t>(r) * RowValues()]);
    };
    if (p_.parts == 1) return results();
    b_.If("others", ir().CreateICmpNE(part_, I32(0)), [&] {
      for (size_t k = 0; k < last.size(); ++k) ir().CreateStore(last[k], PartValue(part_, k));
    });
    b_.Barrier();
    b_.If("first", ir().CreateICmpEQ(part_, I32(0)), [&] {
      for (int64_t part = 1; part < p_.parts; ++part) AddPart(part, last);
      results();
    });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue Wide(IrValue x) { return ir().CreateZExt(x, ir().getInt64Ty()); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue Plus(IrValue x, int64_t y) { return Plus(x, I32(y)); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(x, I32(by), "", true, true); }
  IrValue Least(IrValue x, int64_t y) { return ir().CreateSelect(ir().CreateICmpULT(x, I32(y)), x, I32(y)); }
  IrValue Shared(IrValue base, IrValue at) { return ir().CreateInBoundsGEP(ir().getFloatTy(), base, Wide(at)); }
  IrValue LoadVector(IrValue base, IrValue at) {
    return ir().CreateAlignedLoad(vector_, Shared(base, at), llvm::Align(16));
  }
  IrValue Lane(IrValue vector, int l) { return ir().CreateExtractElement(vector, static_cast<uint64_t>(l)); }
  // Values that a query carries from keys to keys: the maximum, the sum, the columns.
  size_t RowValues() const { return static_cast<size_t>(p_.row_values()); }

  // Where value k of this lane of a part's warp lies for the first part, over the part's keys.
  IrValue PartValue(IrValue part, size_t k) {
    IrValue at = Plus(Times(warp_, p_.rows * p_.row_values()), static_cast<int64_t>(k));
    return Shared(all_parts_, Plus(Plus(Times(at, kWarp), lane_), Times(part, p_.part_elements())));
  }
  void AddPart(int64_t part, IrValues& rows) {
    for (int64_t r = 0; r < p_.rows; ++r) {
      IrValue* row = &rows[static_cast<size_t>(r) * RowValues()];
      const auto other = [&](size_t k) {
        return ir().CreateLoad(ir().getFloatTy(), PartValue(I32(part), static_cast<size_t>(r) * RowValues() + k));
      };
      IrValue of_other = other(0);
      IrValue largest = ir().CreateSelect(ir().CreateFCmpOGT(of_other, row[0]), of_other, row[0]);
      IrValue shift = Shift(largest);
      IrValue factor = EmitExpNonPositive(b_, ir().CreateFSub(row[0], shift));
      IrValue others_factor = EmitExpNonPositive(b_, ir().CreateFSub(of_other, shift));
      row[0] = largest;
      for (size_t k = 1; k < RowValues(); ++k) {
        row[k] = b_.Fma(other(k), others_factor, ir().CreateFMul(row[k], factor));
      }
    }
  }
  // What is subtracted from scores: where no key counts so far, whatever it is leaves -infinity.
  IrValue Shift(IrValue largest) {
    IrValue none = ir().CreateFCmpOEQ(largest, llvm::ConstantFP::getInfinity(ir().getFloatTy(), true));
    return ir().CreateSelect(none, b_.Zero(DType::kF32, 1), largest);
  }

  // The first element of a position's row of the head (i64).
  IrValue RowAt(IrValue position, int64_t positions, int64_t depth) {
    IrValue row = p_.positions_first ? Plus(Times(Plus(Times(batch_, positions), position), p_.heads), head_)
                                     : Plus(Times(Plus(Times(batch_, p_.heads), head_), positions), position);
    return ir().CreateMul(Wide(row), b_.I64(depth), "", true, true);
  }

  // Which vector of a block of `rows` rows this thread moves in round `k`: its row and first column.
  std::pair<IrValue, IrValue> Piece(int64_t k, int64_t rows, int64_t depth) {
    const int64_t vectors = DivideUp(depth, kVector), all = rows * vectors;
    IrValue number = Plus(thread_, k * kThreads);
    if ((k + 1) * kThreads > all) number = Least(number, all - 1);  // the others read the last
    return {ir().CreateUDiv(number, I32(vectors)), Times(ir().CreateURem(number, I32(vectors)), kVector)};
  }
  int64_t Rounds(int64_t rows, int64_t depth) const { return DivideUp(rows * DivideUp(depth, kVector), kThreads); }

  // This thread's share of `rows` rows of argument `arg`; what does not exist is 0.
  IrValues FetchRows(int arg, int64_t rows, int64_t depth, int64_t positions,
                     const std::function<IrValue(IrValue row)>& position_of) {
    IrValues held;
    for (int64_t k = 0; k < Rounds(rows, depth); ++k) {
      const auto [row, column] = Piece(k, rows, depth);
      IrValue position = position_of(row);
      IrValue exists = ir().CreateICmpULT(position, I32(positions));
      IrValue start = RowAt(Least(position, positions - 1), positions, depth);
      IrValue vector = nullptr;
      if (p_.aligned && depth % kVector == 0) {
        vector = b_.Load(b_.arg(arg), ir().CreateAdd(start, Wide(column)), p_.stored, kVector);
      } else {
        vector = llvm::PoisonValue::get(vector_);
        for (int l = 0; l < kVector; ++l) {
          IrValue at = Plus(column, l);
          IrValue x = b_.Load(b_.arg(arg), ir().CreateAdd(start, Wide(Least(at, depth - 1))), p_.stored, 1);
          x = ir().CreateSelect(ir().CreateICmpULT(at, I32(depth)), x, b_.Zero(DType::kF32, 1));
          vector = ir().CreateInsertElement(vector, x, static_cast<uint64_t>(l));
        }
      }
      held.push_back(ir().CreateSelect(exists, vector, b_.Zero(DType::kF32, kVector)));
    }
    return held;
  }
  void KeepRows(const IrValues& held, IrValue shared, int64_t rows, int64_t depth, int64_t pitch) {
    const int64_t all = rows * DivideUp(depth, kVector);
    for (size_t k = 0; k < held.size(); ++k) {
      const int64_t round = static_cast<int64_t>(k);
      const auto store = [&] {
        const auto [row, column] = Piece(round, rows, depth);
        ir().CreateAlignedStore(held[k], Shared(shared, Plus(Times(row, pitch), column)), llvm::Align(16));
      };
      if ((round + 1) * kThreads <= all) {
        store();
      } else {
        b_.If("last", ir().CreateICmpULT(Plus(thread_, round * kThreads), I32(all)), store);
      }
    }
  }
  IrValues Fetch(IrValue first) {
    const auto key = [&](IrValue row) { return Plus(first, row); };
    IrValues held = FetchRows(1, kKeys, p_.depth, p_.keys, key);
    const IrValues values = FetchRows(2, kKeys, p_.value_depth, p_.keys, key);
    held.insert(held.end(), values.begin(), values.end());
    return held;
  }

  IrValues EmitKeys(IrValue first, size_t num_held, const IrValues& carried) {
    const auto values_at = static_cast<std::ptrdiff_t>(Rounds(kKeys, p_.depth));
    const auto held_end = carried.begin() + static_cast<std::ptrdiff_t>(num_held);
    KeepRows(IrValues(carried.begin(), carried.begin() + values_at), k_, kKeys, p_.depth, p_.k_pitch());
    KeepRows(IrValues(carried.begin() + values_at, held_end), v_, kKeys, p_.value_depth, p_.v_pitch());
    b_.Barrier();
    IrValues next = Fetch(Plus(first, p_.keys_at_once()));
    const IrValues weights = EmitScores(first);
    const IrValues rows = EmitRows(weights, IrValues(held_end, carried.end()));
    b_.Barrier();
    next.insert(next.end(), rows.begin(), rows.end());
    return next;
  }

  // Each query's score with this lane's key.
  IrValues EmitScores(IrValue first) {
    IrValue query = Times(Times(warp_, p_.rows), p_.q_pitch()), key = Times(lane_, p_.k_pitch());
    IrValues sums(static_cast<size_t>(p_.rows), b_.Zero(DType::kF32, 1));
    const auto multiply = [&](IrValue d, IrValues so_far) {
      IrValue k = LoadVector(k_, Plus(key, d));
      for (int64_t r = 0; r < p_.rows; ++r) {
        IrValue q = LoadVector(q_, Plus(Plus(query, d), r * p_.q_pitch()));
        IrValue& sum = so_far[static_cast<size_t>(r)];
        for (int l = 0; l < kVector; ++l) sum = b_.Fma(Lane(q, l), Lane(k, l), sum);
      }
      return so_far;
    };
    // Some vectors at a time, so that the code stays within the instruction cache.
    constexpr int64_t kAtOnce = 4;
    const int64_t looped = p_.depth_vectors() / kAtOnce * kAtOnce * kVector;
    sums = b_.For("depth", b_.I64(0), b_.I64(looped), kAtOnce * kVector, sums, [&](IrValue d, const IrValues& so_far) {
      IrValues result = so_far;
      for (int64_t k = 0; k < kAtOnce; ++k) {
        result = multiply(Plus(ir().CreateTrunc(d, ir().getInt32Ty()), k * kVector), result);
      }
      return result;
    });
    for (int64_t d = looped; d < p_.q_pitch(); d += kVector) sums = multiply(I32(d), sums);

    IrValue t = Plus(first, lane_);
    IrValue exists = ir().CreateICmpULT(t, I32(p_.keys));
    IrValue lowest = llvm::ConstantFP::getInfinity(ir().getFloatTy(), /*Negative=*/true);
    for (int64_t r = 0; r < p_.rows; ++r) {
      IrValue& sum = sums[static_cast<size_t>(r)];
      sum = ir().CreateFMul(sum, b_.Constant(DType::kF32, p_.scale));
      if (p_.masked) {
        IrValue s = Least(Plus(Plus(first_query_, Times(warp_, p_.rows)), r), p_.queries - 1);
        const IrValue places[] = {batch_, head_, s, Least(t, p_.keys - 1)};
        IrValue at = b_.I64(0);
        for (int d = 0; d < 4; ++d) {
          at = ir().CreateAdd(at, ir().CreateMul(Wide(places[d]), b_.I64(p_.mask_steps[d])));
        }
        sum = ir().CreateFAdd(sum, b_.Load(b_.arg(3), at, p_.stored, 1));
      }
      sum = ir().CreateSelect(exists, sum, lowest);
    }
    return sums;
  }

  // The rows' maxima, sums and columns after these keys.
  IrValues EmitRows(const IrValues& scores, IrValues rows) {
    // A NaN among the scores makes the sum NaN: the maximum need not pass it on.
    const auto max = [&](IrValue x, IrValue y) { return ir().CreateSelect(ir().CreateFCmpOGT(x, y), x, y); };
    IrValue own = Times(Times(warp_, p_.rows), kKeys);
    for (int64_t r = 0; r < p_.rows; ++r) {
      IrValue* row = &rows[static_cast<size_t>(r) * RowValues()];
      IrValue score = scores[static_cast<size_t>(r)];
      IrValue largest = max(row[0], JoinLanes(b_, score, kWarp, max));
      IrValue shift = Shift(largest);
      IrValue factor = EmitExpNonPositive(b_, ir().CreateFSub(row[0], shift));
      IrValue weight = EmitExpNonPositive(b_, ir().CreateFSub(score, shift));
      row[0] = largest;
      row[1] = b_.Fma(row[1], factor, weight);
      for (int64_t j = 0; j < p_.columns(); ++j) row[2 + j] = ir().CreateFMul(row[2 + j], factor);
      ir().CreateStore(weight, Shared(weights_, Plus(Plus(own, r * kKeys), lane_)));
    }
    DeviceOp(b_, "gpu.warp_barrier", {});
    return b_.For("weigh", b_.I64(0), b_.I64(kKeys), 2 * kVector, rows, [&](IrValue first, const IrValues& carried) {
      IrValues next = carried;
      for (int64_t half = 0; half < 2; ++half) {
        IrValue t = Plus(ir().CreateTrunc(first, ir().getInt32Ty()), half * kVector);
        IrValues weights;
        for (int64_t r = 0; r < p_.rows; ++r) weights.push_back(LoadVector(weights_, Plus(Plus(own, r * kKeys), t)));
        for (int l = 0; l < kVector; ++l) {
          for (int64_t j = 0; j < p_.columns(); ++j) {
            IrValue at = Plus(Plus(Times(Plus(t, l), p_.v_pitch()), lane_), j * kWarp);
            IrValue value = ir().CreateLoad(ir().getFloatTy(), Shared(v_, at));
            for (int64_t r = 0; r < p_.rows; ++r) {
              IrValue& sum = next[static_cast<size_t>(r) * RowValues() + 2 + static_cast<size_t>(j)];
              sum = b_.Fma(Lane(weights[static_cast<size_t>(r)], l), value, sum);
            }
          }
        }
      }
      return next;
    });
  }

  void EmitResult(int64_t r, const IrValue* row) {
    IrValue sum = JoinLanes(b_, row[1], kWarp, [&](IrValue x, IrValue y) { return ir().CreateFAdd(x, y); });
    IrValue factor = ir().CreateFDiv(b_.Constant(DType::kF32, 1), sum);
    IrValue query = Plus(Plus(first_query_, Times(warp_, p_.rows)), r);
    IrValue query_exists = ir().CreateICmpULT(query, I32(p_.queries));
    for (int64_t j = 0; j < p_.columns(); ++j) {
      IrValue column = Plus(lane_, j * kWarp), exists = query_exists;
      if ((j + 1) * kWarp > p_.value_depth) {
        exists = ir().CreateAnd(exists, ir().CreateICmpULT(column, I32(p_.value_depth)));
      }
      b_.If("store", exists, [&] {
        IrValue number = p_.positions_first ? Plus(Times(Plus(Times(batch_, p_.queries), query), p_.heads), head_)
                                            : Plus(Times(Plus(Times(batch_, p_.heads), head_), p_.queries), query);
        EpilogueEmitter finish(b_, epilogue_, p_.masked ? 4 : 3);
        finish.Store(ir().CreateFMul(row[2 + j], factor), Wide(number), Wide(column));
      });
    }
  }

  KernelBuilder& b_;
  const GpuAttention& p_;
  const TileEpilogue& epilogue_;
  llvm::FixedVectorType* vector_ = nullptr;
  IrValue thread_, lane_, warp_, head_, batch_, first_query_;  // i32
  IrValue part_;                                               // i32
  IrValue q_, all_parts_, k_, v_, weights_;                    // in shared memory
};

std::optional<GpuAttention> ProblemOf(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  const std::optional<AttentionShape> shape = AttentionShapeOf(graph, node, why);
  if (!shape) return std::nullopt;
  GpuAttention p = {*shape};
  if (p.type != DType::kF32) return no("expected sums of f32, found ", Name(p.type));
  if (TypeInfo(p.stored).bits < 16) return no("elements smaller than 16 bits");
  if (p.depth == 0 || p.depth > kMostDepth || p.value_depth > kMostDepth) {
    return no("expected a depth up to ", kMostDepth, ", found ", p.depth, " and ", p.value_depth);
  }
  if (!TileEpilogue(graph, node).bytewise()) return no("results or operands smaller than a byte");
  constexpr int64_t kMost = int64_t{1} << 30;
  if (p.batch * p.heads * std::max(p.queries, p.keys) > kMost) return no("too large for 32-bit indices");
  const GpuModel gpu(target);
  if (p.blocks() < gpu.units) p.rows = 4;
  if (p.rows == 4 && p.keys > kKeys && p.blocks() <= 2 * gpu.units) p.parts = 2;
  if (p.shared_bytes() > gpu.shared_bytes) p.parts = 1;
  if (p.shared_bytes() > gpu.shared_bytes) return no("tiles larger than shared memory");
  return p;
}

}  // namespace

extern const std::string_view kGpuAttentionDoc;
const std::string_view kGpuAttentionDoc = "attention, a tile of queries a block, softmax while keys pass by";

std::optional<double> EstimateGpuAttention(const Graph& graph, const Node& node, const Target& target,
                                           std::string* why) {
  const std::optional<GpuAttention> p = ProblemOf(graph, node, target, why);
  if (!p) return std::nullopt;
  const GpuModel gpu(target);
  // Cycles of a block for 32 keys on a multiprocessor of its own: products at the rate that shared memory allows, the
  // softmax, two barriers.
  const double rows = static_cast<double>(p->rows);
  const double products = static_cast<double>((p->depth + p->value_depth) * p->tile() * kKeys) / gpu.fma_per_clock;
  const double cycles = products * (1 + 4 / rows) + rows * 60 + 200;
  const double chunks = static_cast<double>(DivideUp(p->keys, p->keys_at_once()));
  const double per_unit = static_cast<double>(DivideUp(p->blocks(), gpu.units));
  return gpu.launch_us + (per_unit * chunks * cycles + 2500) / (gpu.clock_ghz * 1e3);
}

Status PlanGpuAttention(const Node& node, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::string why;
  std::optional<GpuAttention> found = ProblemOf(graph, node, builder.target(), &why);
  TES_CHECK(found.has_value(), node.name, ": ", why);
  auto epilogue = std::make_shared<const TileEpilogue>(graph, node);
  PlanStep step;
  for (ValueId id : node.inputs) {
    if (id != ValueId::kNone) step.args.push_back(builder.Read(id));
  }
  constexpr int64_t kBytes = 16;
  found->aligned = std::all_of(step.args.begin(), step.args.begin() + 3,
                               [](const StepArg& arg) { return arg.offset % kBytes == 0; });
  auto p = std::make_shared<const GpuAttention>(*std::move(found));
  epilogue->AddArguments(node, builder, step);
  step.launch = {.x = p->blocks(), .threads = p->threads(), .shared_bytes = p->shared_bytes()};
  step.label = node.name;
  step.flops = p->flops();
  step.bytes = static_cast<double>(p->operand_bytes() +
                                   ByteSize(epilogue->dtype(), p->batch * p->heads * p->queries * p->value_depth));
  step.kernel.family = "attention";
  step.kernel.key = p->Key() + "\n" + epilogue->Key();
  step.kernel.block_threads = static_cast<int>(p->threads());
  step.kernel.blocks_per_unit = p->parts == 1 ? 2 : 1;
  step.kernel.emit = [p, epilogue](KernelBuilder& b) { GpuAttentionEmitter(b, *p, *epilogue).Emit(); };
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
