// The transpose emitter: elements in another order, at the speed of the caches instead of one by one.
//
//   out[…, c, …, o] = epilogue(in[…, o, …, c])            c: neighbours in memory there, o: neighbours here
//
//   for unit in the thread's share:                        a unit: one position of the other dimensions, a block of c,
//     for r in a square's rows:  v[r] = in[o + r, c…]      a block of o; o-blocks run fastest, so that stores follow
//     w = lane_transpose(v)                                each other
//     for r in a square's rows:  out[c + r, o…] = epilogue(w[r])
//
// Dimensions that stay neighbours are one; where a run of neighbours keeps its order, runs are the elements (up to 64
// bits), and where that leaves c = o, rows are copied. With few o (an image of 3 planes becomes pixels) or few c (the
// way back) squares would be mostly empty: then a block is a run of neighbours on both sides, and each vector is put
// together from the o (or c) vectors that hold its lanes.
//
// What binds: for 32-bit elements 4 shuffles, a load and a store for each 64 bytes, which is less than what the
// second-level cache takes. Tested by transpose_test.cc.
#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/lane_transpose.h"
#include "codegen/emit/transpose_shape.h"
#include "codegen/emitter.h"
#include "graph/op.h"

namespace tessera {
namespace {

enum class Shuffling : uint8_t { kRows, kSquares, kInterleave, kDeinterleave };

struct TransposeProblem : TransposeShape {
  int lanes = 16;  // of the vectors that are moved
  Shuffling shuffling = Shuffling::kRows;
  int64_t units_per_task = 1;

  // Blocks of dimension d in a unit's space.
  int64_t Blocks(int d) const {
    switch (shuffling) {
      case Shuffling::kRows: return d == o() ? 1 : extents[d];
      case Shuffling::kSquares: return d == o() || d == c ? DivideUp(extents[d], lanes) : extents[d];
      case Shuffling::kInterleave: return d == o() ? 1 : (d == c ? DivideUp(extents[d], lanes) : extents[d]);
      case Shuffling::kDeinterleave: return d == c ? 1 : (d == o() ? DivideUp(extents[d], lanes) : extents[d]);
    }
    return 1;
  }
  int64_t units() const {
    int64_t units = 1;
    for (int d = 0; d <= o(); ++d) units *= Blocks(d);
    return units;
  }
  int64_t tasks() const { return DivideUp(units(), units_per_task); }
  // Vector instructions of a unit, the epilogue's aside, and vectors that it stores.
  int64_t UnitCost() const {
    const int64_t few = shuffling == Shuffling::kInterleave ? extents[o()] : extents[c];
    switch (shuffling) {
      case Shuffling::kRows: return 2 * Stores() + 4;
      case Shuffling::kSquares: {
        int64_t rounds = 0;
        for (int n = lanes; n > 1; n /= 2) ++rounds;
        return lanes * (rounds + 2) + 10;
      }
      default: return few * (few + 1) + 10;
    }
  }
  int64_t Stores() const {
    switch (shuffling) {
      case Shuffling::kRows: return DivideUp(extents[o()], lanes);
      case Shuffling::kSquares: return std::min<int64_t>(lanes, extents[c]);
      case Shuffling::kInterleave: return extents[o()];
      case Shuffling::kDeinterleave: return extents[c];
    }
    return 1;
  }
  std::string Key() const {
    return internal::Join("transpose ", TransposeShape::Key(), " lanes ", lanes, " way ", static_cast<int>(shuffling),
                          " units ", units_per_task);
  }
};

// Writes the kernel. Arguments: the operand, the epilogue's operands, the output.
class TransposeEmitter {
 public:
  TransposeEmitter(KernelBuilder& b, const TransposeProblem& problem, const TileEpilogue& epilogue, DType stored)
      : b_(b), p_(problem), epilogue_(epilogue), stored_(stored) {
    vector_ = llvm::FixedVectorType::get(ir().getIntNTy(static_cast<unsigned>(p_.bits)), p_.lanes);
  }

  void Emit() {
    IrValue low = Times(b_.begin(), p_.units_per_task), high = Times(b_.end(), p_.units_per_task);
    high = ir().CreateSelect(ir().CreateICmpSLT(high, b_.I64(p_.units())), high, b_.I64(p_.units()));
    b_.For("unit", low, high, 1, [&](IrValue unit) { EmitUnit(unit); });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(x, b_.I64(by), "", true, true); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : Plus(x, b_.I64(y)); }
  IrValue Minus(int64_t x, IrValue y) { return ir().CreateSub(b_.I64(x), y, "", true, true); }

  // Finds where the unit lies: o runs fastest, then c, then the others from the innermost outwards.
  void EmitUnit(IrValue unit) {
    IrValue rest = unit;
    in_ = out_ = b_.I64(0);
    IrValue at_c = b_.I64(0), at_o = b_.I64(0);
    std::vector<int> order = {p_.o()};
    if (p_.c != p_.o()) order.push_back(p_.c);
    for (int d = p_.o(); d >= 0; --d) {
      if (d != p_.o() && d != p_.c) order.push_back(d);
    }
    for (size_t k = 0; k < order.size(); ++k) {
      const int d = order[k];
      const int64_t blocks = p_.Blocks(d);
      if (blocks == 1) continue;
      const bool last = k + 1 == order.size();
      IrValue block = last ? rest : ir().CreateURem(rest, b_.I64(blocks));
      if (!last) rest = ir().CreateUDiv(rest, b_.I64(blocks));
      IrValue at = blocks == p_.extents[d] ? block : Times(block, p_.lanes);
      if (d == p_.c) at_c = at;
      if (d == p_.o()) at_o = at;
      in_ = Plus(in_, Times(at, p_.strides[d]));
      if (d != p_.o()) out_ = Plus(out_, Times(at, p_.OutStride(d)));
    }
    column_ = at_o;
    switch (p_.shuffling) {
      case Shuffling::kRows: return EmitRow();
      case Shuffling::kSquares: return EmitSquare(at_c, at_o);
      case Shuffling::kInterleave: return WithEdge(p_.c, at_c, [&](IrValue count) { EmitInterleave(count); });
      case Shuffling::kDeinterleave: return WithEdge(p_.o(), at_o, [&](IrValue count) { EmitDeinterleave(count); });
    }
  }

  // Calls body(nullptr) for whole blocks of dimension d, body(what is left of it) for its last one.
  void WithEdge(int d, IrValue at, const std::function<void(IrValue)>& body) {
    if (p_.extents[d] % p_.lanes == 0) return body(nullptr);
    IrValue left = Minus(p_.extents[d], at);
    b_.IfElse(
        "whole", ir().CreateICmpSGE(left, b_.I64(p_.lanes)),
        [&] {
          body(nullptr);
          return IrValues();
        },
        [&] {
          body(left);
          return IrValues();
        });
  }

  // Bits as they are stored, unlike what KernelBuilder loads.
  IrValue Load(IrValue at, IrValue mask) {
    const int64_t step = p_.bits / 8;
    IrValue address = ir().CreateInBoundsGEP(ir().getInt8Ty(), b_.arg(0), Times(at, step));
    const llvm::Align align(static_cast<uint64_t>(p_.bytes));
    if (mask == nullptr) return ir().CreateAlignedLoad(vector_, address, align);
    return ir().CreateMaskedLoad(vector_, address, align, mask, llvm::Constant::getNullValue(vector_));
  }

  // `row` is the element of the output at which its row of columns begins, `column` the place in it.
  void Store(IrValue bits, IrValue row, IrValue column, IrValue mask) {
    if (!epilogue_.body().empty()) {
      IrValue stored = bits;
      if (stored_ == DType::kF32 || stored_ == DType::kF64) {
        stored = ir().CreateBitCast(bits, b_.VectorType(stored_, p_.lanes));
      }
      EpilogueEmitter finish(b_, epilogue_, 1);
      IrValue value = b_.Widen(stored, stored_);
      // Without operands it does not matter where the vector lies, which need not be within one row.
      IrValue number = epilogue_.operands().empty() ? b_.I64(0) : ir().CreateUDiv(row, b_.I64(epilogue_.columns()));
      value = finish.Apply(value, number, column, mask);
      b_.Store(b_.arg(1 + static_cast<int>(epilogue_.operands().size())), Plus(row, column), epilogue_.dtype(), value,
               mask);
      return;
    }
    const int64_t step = p_.bits / 8;
    IrValue address = ir().CreateInBoundsGEP(ir().getInt8Ty(), b_.arg(1), Times(Plus(row, column), step));
    const llvm::Align align(static_cast<uint64_t>(p_.bytes));
    if (mask == nullptr) {
      ir().CreateAlignedStore(bits, address, align);
    } else {
      ir().CreateMaskedStore(bits, address, align, mask);
    }
  }

  void EmitRow() {
    const int64_t length = p_.extents[p_.o()], whole = length / p_.lanes * p_.lanes;
    b_.For("run", b_.I64(0), b_.I64(whole), p_.lanes,
           [&](IrValue at) { Store(Load(Plus(in_, at), nullptr), out_, at, nullptr); });
    if (whole == length) return;
    IrValue mask = b_.MaskBelow(b_.I64(length - whole), p_.lanes);
    Store(Load(Plus(in_, whole), mask), out_, b_.I64(whole), mask);
  }

  void EmitSquare(IrValue at_c, IrValue at_o) {
    const int64_t lanes = p_.lanes, columns = p_.extents[p_.c], rows = p_.extents[p_.o()];
    const int64_t row_step = p_.strides[p_.o()], out_step = p_.OutStride(p_.c);
    const auto square = [&](IrValue columns_left, IrValue rows_left) {
      IrValue column_mask = columns_left == nullptr ? nullptr : b_.MaskBelow(columns_left, p_.lanes);
      IrValue row_mask = rows_left == nullptr ? nullptr : b_.MaskBelow(rows_left, p_.lanes);
      IrValues vectors;
      for (int64_t r = 0; r < lanes; ++r) {
        // Rows that do not exist are read as the first and not stored.
        IrValue step = b_.I64(r * row_step);
        if (r >= rows) {
          vectors.push_back(llvm::Constant::getNullValue(vector_));
          continue;
        }
        if (rows_left != nullptr) {
          step = ir().CreateSelect(ir().CreateICmpSGT(rows_left, b_.I64(r)), step, b_.I64(0));
        }
        vectors.push_back(Load(Plus(in_, step), column_mask));
      }
      vectors = EmitLaneTranspose(b_, vectors);
      for (int64_t r = 0; r < std::min(lanes, columns); ++r) {
        IrValue mask = row_mask;
        if (columns_left != nullptr && r > 0) {
          IrValue exists = ir().CreateICmpSGT(columns_left, b_.I64(r));
          IrValue all = mask != nullptr ? mask : b_.MaskBelow(b_.I64(lanes), p_.lanes);
          mask = ir().CreateSelect(exists, all, llvm::Constant::getNullValue(all->getType()));
        }
        Store(vectors[r], Plus(out_, r * out_step), column_, mask);
      }
    };
    const bool even_c = columns % lanes == 0, even_o = rows % lanes == 0;
    if (even_c && even_o) return square(nullptr, nullptr);
    IrValue columns_left = Minus(columns, at_c), rows_left = Minus(rows, at_o);
    IrValue whole =
        ir().CreateAnd(ir().CreateICmpSGE(columns_left, b_.I64(lanes)), ir().CreateICmpSGE(rows_left, b_.I64(lanes)));
    const auto edge = [&] {
      square(even_c ? nullptr : columns_left, even_o ? nullptr : rows_left);
      return IrValues();
    };
    if (columns < lanes || rows < lanes) {
      edge();
      return;
    }
    b_.IfElse(
        "whole", whole,
        [&] {
          square(nullptr, nullptr);
          return IrValues();
        },
        edge);
  }

  // The vector whose lane l is lane picks[l].second of vectors[picks[l].first].
  IrValue Pick(const IrValues& vectors, const std::vector<std::pair<int, int>>& picks) {
    IrValue result = vectors[0];
    std::vector<int> mask;
    for (const auto& [source, lane] : picks) mask.push_back(source == 0 ? lane : 0);
    for (size_t source = 1; source < vectors.size(); ++source) {
      // Lanes that are in place stay; those of this source come; the first shuffle also places those of the first.
      for (size_t l = 0; l < picks.size(); ++l) {
        if (picks[l].first == static_cast<int>(source)) {
          mask[l] = p_.lanes + picks[l].second;
        } else if (source > 1) {
          mask[l] = static_cast<int>(l);
        }
      }
      result = ir().CreateShuffleVector(result, vectors[source], mask);
    }
    return result;
  }

  // `few` vectors of consecutive elements, or of one row each, with what is left of a block of `count` positions.
  IrValue RunMask(IrValue count, int64_t few, int64_t vector) {
    return count == nullptr ? nullptr : b_.MaskBelow(Plus(Times(count, few), -vector * p_.lanes), p_.lanes);
  }

  // c positions of each of few rows become a run in which the rows alternate.
  void EmitInterleave(IrValue count) {
    const int64_t few = p_.extents[p_.o()];
    IrValue mask = count == nullptr ? nullptr : b_.MaskBelow(count, p_.lanes);
    IrValues rows;
    for (int64_t r = 0; r < few; ++r) rows.push_back(Load(Plus(in_, r * p_.strides[p_.o()]), mask));
    for (int64_t v = 0; v < few; ++v) {
      std::vector<std::pair<int, int>> picks;
      for (int64_t l = 0; l < p_.lanes; ++l) {
        const int64_t at = v * p_.lanes + l;
        picks.emplace_back(static_cast<int>(at % few), static_cast<int>(at / few));
      }
      Store(Pick(rows, picks), out_, b_.I64(v * p_.lanes), RunMask(count, few, v));
    }
  }

  // A run in which few c alternate becomes a vector of each.
  void EmitDeinterleave(IrValue count) {
    const int64_t few = p_.extents[p_.c];
    IrValues run;
    for (int64_t v = 0; v < few; ++v) run.push_back(Load(Plus(in_, v * p_.lanes), RunMask(count, few, v)));
    IrValue mask = count == nullptr ? nullptr : b_.MaskBelow(count, p_.lanes);
    for (int64_t k = 0; k < few; ++k) {
      std::vector<std::pair<int, int>> picks;
      for (int64_t l = 0; l < p_.lanes; ++l) {
        const int64_t at = l * few + k;
        picks.emplace_back(static_cast<int>(at / p_.lanes), static_cast<int>(at % p_.lanes));
      }
      Store(Pick(run, picks), Plus(out_, k * p_.OutStride(p_.c)), column_, mask);
    }
  }

  KernelBuilder& b_;
  const TransposeProblem& p_;
  const TileEpilogue& epilogue_;
  const DType stored_;
  llvm::FixedVectorType* vector_ = nullptr;
  IrValue in_ = nullptr, out_ = nullptr;  // the unit's first element of the operand; of the output, without the column
  IrValue column_ = nullptr;
};

std::optional<TransposeProblem> ProblemOf(const Graph& graph, const Node& node, const Target& target,
                                          std::string* why) {
  const std::optional<TransposeShape> shape = TransposeShapeOf(graph, node, why);
  if (!shape) return std::nullopt;
  TransposeProblem p = {*shape};
  const bool operands = node.epilogue && !node.epilogue->inputs.empty();
  // Squares of bytes are 16 by 16: more would not fit into the registers.
  p.lanes = std::min(16, target.vector_bits / p.bits);
  constexpr int64_t kFew = 4;
  if (p.c == p.o()) {
    p.shuffling = Shuffling::kRows;
    p.lanes = target.vector_bits / p.bits;
    while (p.lanes > 2 && p.lanes / 2 >= p.extents[p.o()]) p.lanes /= 2;
  } else if (!operands && p.extents[p.o()] <= kFew && p.c + 1 == p.o() && p.extents[p.c] >= p.lanes) {
    p.shuffling = Shuffling::kInterleave;
  } else if (!operands && p.extents[p.c] <= kFew && p.strides[p.o()] == p.extents[p.c] && p.extents[p.o()] >= p.lanes) {
    p.shuffling = Shuffling::kDeinterleave;
  } else {
    p.shuffling = Shuffling::kSquares;
  }
  return p;
}

double UnitMicroseconds(const TransposeProblem& p, const Target& target, int epilogue_cost) {
  const MachineModel machine(target);
  const double stores = static_cast<double>(p.Stores());
  const double ns = (static_cast<double>(p.UnitCost()) + stores * epilogue_cost) * machine.op_ns;
  // A unit reads and writes its elements, from and to the second-level cache at best.
  const double bytes = 2 * stores * p.lanes * p.bits / 8;
  return std::max(ns, bytes / machine.l2_bytes_per_ns) * 1e-3;
}

}  // namespace

extern const std::string_view kTransposeDoc;
const std::string_view kTransposeDoc = "transpositions by squares in registers, by rows where runs keep their order";

std::optional<double> EstimateTranspose(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<TransposeProblem> problem = ProblemOf(graph, node, target, why);
  if (!problem) return std::nullopt;
  const int epilogue_cost = node.epilogue ? static_cast<int>(node.epilogue->body.insts.size()) : 0;
  return static_cast<double>(problem->units()) * UnitMicroseconds(*problem, target, epilogue_cost);
}

Status PlanTranspose(const Node& node, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::string why;
  std::optional<TransposeProblem> found = ProblemOf(graph, node, builder.target(), &why);
  TES_CHECK(found.has_value(), node.name, ": ", why);
  auto problem = std::make_shared<TransposeProblem>(*std::move(found));
  auto epilogue = std::make_shared<const TileEpilogue>(graph, node);
  constexpr double kTaskMicroseconds = 2;
  const double unit_us = UnitMicroseconds(*problem, builder.target(), epilogue->body().empty() ? 0 : epilogue->cost());
  problem->units_per_task = std::clamp<int64_t>(static_cast<int64_t>(kTaskMicroseconds / unit_us), 1, problem->units());

  const DType stored = graph[node.inputs[0]].type.dtype;
  PlanStep step;
  step.args.push_back(builder.Read(node.inputs[0]));
  epilogue->AddArguments(node, builder, step);
  step.tasks = problem->tasks();
  step.label = node.name;
  const int64_t elements = graph[node.outputs[0]].type.shape.num_elements();
  step.bytes = static_cast<double>(ByteSize(stored, elements) + ByteSize(epilogue->dtype(), elements));
  step.kernel.family = "transpose";
  step.kernel.key = problem->Key() + internal::Join(" ", Name(stored), "\n") + epilogue->Key();
  step.kernel.emit = [problem, epilogue, stored](KernelBuilder& b) {
    TransposeEmitter(b, *problem, *epilogue, stored).Emit();
  };
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
