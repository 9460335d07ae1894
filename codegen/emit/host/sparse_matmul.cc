#include "codegen/emit/host/sparse_matmul.h"

#include <algorithm>

#include "base/round.h"
#include "codegen/emit/lane_transpose.h"

namespace tessera {
namespace {

// Are results narrowed before they are turned?
bool FinishesBytes(const TileEpilogue& epilogue) {
  return (epilogue.dtype() == DType::kU8 || epilogue.dtype() == DType::kI8) && epilogue.by_column();
}

// Where, in elements of a thread's scratch, tasks that pack have their panels: behind a block's sums and their square.
int64_t PackedPlace(const SparseSchedule& schedule) { return (schedule.blocks.block_rows + kPanelLanes) * kPanelLanes; }

// task = a block of a panel: the core, then the way to memory.
class SparseEmitter {
 public:
  SparseEmitter(KernelBuilder& b, const SparseProblem& problem, const SparseSchedule& schedule,
                const TileEpilogue& epilogue, int first_arg)
      : b_(b),
        s_(schedule),
        unit_(problem.unit),
        source_(problem.source),
        depth_(problem.depth()),
        columns_(problem.columns()),
        by_columns_(problem.by_columns),
        sums_(SumsOf(problem.unit)),
        epilogue_(epilogue),
        first_arg_(first_arg),
        lanes_(std::min(kPanelLanes, b.target().Lanes(32))) {}

  void Emit(const std::vector<SparsePart>& parts) {
    b_.For("task", b_.begin(), b_.end(), 1, [&](IrValue task) {
      const int64_t blocks = s_.blocks.blocks(), panels = DivideUp(columns_, kPanelLanes);
      const int64_t inner = s_.panels_outer ? blocks : panels;
      IrValue outer_at = ir().CreateUDiv(task, b_.I64(inner)), inner_at = ir().CreateURem(task, b_.I64(inner));
      IrValue block = s_.panels_outer ? inner_at : outer_at, panel = s_.panels_outer ? outer_at : inner_at;
      if (s_.packs) return EmitBlock(parts, block, panel, EmitPack(task, block, panel));
      IrValue x = b_.ElementPointer(b_.arg(0), Times(panel, depth_ * kPanelLanes), DType::kF32);
      EmitBlock(parts, block, panel, x);
    });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(x, b_.I64(by), "", true, true); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  // min(limit - from, most)
  IrValue Left(int64_t limit, IrValue from, int64_t most) {
    if (limit % most == 0) return b_.I64(most);
    IrValue left = ir().CreateSub(b_.I64(limit), from);
    return ir().CreateSelect(ir().CreateICmpSLT(left, b_.I64(most)), left, b_.I64(most));
  }
  IrValue LoadSums(IrValue row, int64_t lane) {
    return b_.Load(b_.scratch(), Plus(Times(row, kPanelLanes), b_.I64(lane)), sums_, lanes_);
  }

  // All parts of one block on the panel at `x`, then the way to memory.
  void EmitBlock(const std::vector<SparsePart>& parts, IrValue block, IrValue panel, IrValue x) {
    SparseSite site = {.block = block, .panel_number = panel, .panel = x, .sums = b_.scratch()};
    for (const SparsePart& part : parts) {
      part.core(b_, site);
      site.first_arg += static_cast<int>(part.constants.size());
      site.adds = true;
    }
    const auto [row, rows] = EmitBlockRows(b_, s_.blocks, block);
    IrValue column = Times(panel, kPanelLanes);
    // A function of its own, so that the epilogue's constants do not wait in registers around the core.
    b_.Outline("finish", {row, rows, column}, [&](const IrValues& at) { Finish(at[0], at[1], at[2]); });
  }

  // Packs the panel unless this thread has packed it for a task before; where it is. One place for each panel, or,
  // where all blocks of a panel follow each other, one for all.
  IrValue EmitPack(IrValue task, IrValue block, IrValue panel) {
    IrValue place = b_.I64(PackedPlace(s_)), is_new = nullptr;
    if (s_.panels_outer) {
      is_new = ir().CreateOr(ir().CreateICmpEQ(block, b_.I64(0)), ir().CreateICmpEQ(task, b_.begin()));
    } else {
      place = Plus(place, Times(panel, depth_ * kPanelLanes));
      is_new = ir().CreateICmpSLT(ir().CreateSub(task, b_.begin()), b_.I64(DivideUp(columns_, kPanelLanes)));
    }
    b_.If("new_panel", is_new, [&] {
      b_.Outline("pack", {panel, place}, [&](const IrValues& at) {
        IrValue to = b_.ElementPointer(b_.scratch(), at[1], DType::kF32);
        const int elements = ElementsOf(unit_);
        elements == 1 ? EmitPackPanel(b_, source_, kPanelLanes, at[0], to)
                      : EmitPackUnitsPanel(b_, source_, elements, kPanelLanes, at[0], to);
      });
    });
    return b_.ElementPointer(b_.scratch(), place, DType::kF32);
  }

  void Finish(IrValue first_row, IrValue rows, IrValue first_column) {
    if (by_columns_) return FinishByColumns(first_row, first_column, rows);
    // Y lies as the sums do.
    b_.For("row", b_.I64(0), rows, 1, [&](IrValue r) {
      EpilogueEmitter finish(b_, epilogue_, first_arg_);
      IrValue row = Plus(first_row, r);
      for (int lane = 0; lane < kPanelLanes; lane += lanes_) {
        IrValue column = Plus(first_column, b_.I64(lane));
        IrValue mask = nullptr;
        if (columns_ % kPanelLanes != 0) mask = b_.MaskBelow(ir().CreateSub(b_.I64(columns_), column), lanes_);
        finish.Store(LoadSums(r, lane), row, column, mask);
      }
    });
  }

  // Squares of lanes × lanes: rows of the matrix become the lanes of Y's rows.
  void FinishByColumns(IrValue first_row, IrValue first_column, IrValue rows) {
    IrValue tokens = Left(columns_, first_column, kPanelLanes);
    if (FinishesBytes(epilogue_)) return FinishBytesByColumns(first_row, first_column, rows, tokens);
    b_.For("square", b_.I64(0), rows, lanes_, [&](IrValue r) {
      IrValue feature = Plus(first_row, r);
      const bool straight = epilogue_.cost() <= kMaxStraightSparse;
      const auto any = [&] {
        FinishSquares(r, feature, first_column, tokens);
        return IrValues();
      };
      if (!straight) {
        any();
        return;
      }
      const auto whole = [&] {
        EpilogueEmitter finish(b_, epilogue_, first_arg_);
        for (int lane = 0; lane < kPanelLanes; lane += lanes_) {
          const IrValues turned = Turn(r, lane);
          for (int t = 0; t < lanes_; ++t) {
            finish.Store(turned[t], Plus(first_column, b_.I64(lane + t)), feature);
          }
        }
        return IrValues();
      };
      IrValue is_whole = nullptr;
      const auto require = [&](IrValue condition) {
        is_whole = is_whole == nullptr ? condition : ir().CreateAnd(is_whole, condition);
      };
      if (columns_ % kPanelLanes != 0) require(ir().CreateICmpEQ(tokens, b_.I64(kPanelLanes)));
      if (s_.blocks.rows % lanes_ != 0) require(ir().CreateICmpSLE(Plus(r, b_.I64(lanes_)), rows));
      if (is_whole == nullptr) {
        whole();
      } else {
        b_.IfElse("whole", is_whole, whole, any);
      }
    });
  }

  // Results of 8 bits: the epilogue on the rows as they lie among the sums, then bytes are turned, a quarter of the
  // work of turning 32 bits and then narrowing. 16 rows at a time:
  //   quad[q][column] = rows 4q … 4q + 3 of a column, one byte each        merged as they come from the epilogue
  //   quads are turned in squares of 4x4 within quarters of registers      16 bytes of a column follow each other
  void FinishBytesByColumns(IrValue first_row, IrValue first_column, IrValue rows, IrValue tokens) {
    constexpr int kSquare = kPanelLanes;
    const bool whole_rows = s_.blocks.rows % kSquare == 0, whole_columns = columns_ % kPanelLanes == 0;
    b_.For("square", b_.I64(0), rows, kSquare, [&](IrValue r) {
      EpilogueEmitter finish(b_, epilogue_, first_arg_);
      IrValue feature = Plus(first_row, r);
      IrValues features;
      for (int k = 0; k < kSquare; ++k) {
        IrValue at = Plus(feature, b_.I64(k));
        // Beyond the last row there are no operands.
        const int64_t last = s_.blocks.rows - 1;
        if (!whole_rows) at = ir().CreateSelect(ir().CreateICmpSLT(at, b_.I64(last)), at, b_.I64(last));
        features.push_back(at);
      }
      IrValues bytes(kPanelLanes);  // of each column, 16 rows
      for (int lane = 0; lane < kPanelLanes; lane += lanes_) {
        IrValues quads;
        for (int q = 0; q < 4; ++q) {
          IrValues four;
          for (int k = 4 * q; k < 4 * q + 4; ++k) {
            four.push_back(finish.ApplyToColumn(LoadSums(Plus(r, b_.I64(k)), lane), features[k]));
          }
          quads.push_back(MergeBytes(four));
        }
        const IrValues turned = TurnQuarters(quads);
        for (int t = 0; t < lanes_; ++t) {
          std::vector<int> picks;
          for (int k = 0; k < kSquare; ++k) picks.push_back(t / 4 * kSquare + k);
          bytes[lane + t] = ir().CreateShuffleVector(AsBytes(turned[t % 4]), picks);
        }
      }
      const auto direct = [&] {
        for (int t = 0; t < kPanelLanes; ++t) StoreBytes(bytes[t], Plus(first_column, b_.I64(t)), feature);
        return IrValues();
      };
      // Through memory behind the sums: fewer columns, fewer rows.
      const auto some = [&] {
        const int64_t place = s_.blocks.block_rows * kPanelLanes;
        for (int t = 0; t < kPanelLanes; ++t) {
          ir().CreateAlignedStore(
              bytes[t], b_.ElementPointer(b_.scratch(), b_.I64(place * 4 + t * kSquare), DType::kU8), llvm::Align(1));
        }
        IrValue mask = whole_rows ? nullptr : b_.MaskBelow(ir().CreateSub(b_.I64(s_.blocks.rows), feature), kSquare);
        b_.For("token", b_.I64(0), tokens, 1, [&](IrValue t) {
          IrValue from = b_.ElementPointer(b_.scratch(), Plus(Times(t, kSquare), b_.I64(place * 4)), DType::kU8);
          StoreBytes(ir().CreateAlignedLoad(bytes[0]->getType(), from, llvm::Align(1)), Plus(first_column, t), feature,
                     mask);
        });
        return IrValues();
      };
      IrValue is_whole = nullptr;
      if (!whole_columns) is_whole = ir().CreateICmpEQ(tokens, b_.I64(kPanelLanes));
      if (!whole_rows) {
        IrValue all = ir().CreateICmpSLE(Plus(r, b_.I64(kSquare)), rows);
        is_whole = is_whole == nullptr ? all : ir().CreateAnd(is_whole, all);
      }
      if (is_whole == nullptr) {
        direct();
      } else {
        b_.IfElse("whole", is_whole, direct, some);
      }
    });
  }

  IrValue AsBytes(IrValue lanes) {
    return ir().CreateBitCast(lanes, llvm::FixedVectorType::get(ir().getInt8Ty(), 4 * lanes_));
  }

  // The low bytes of each lane of four vectors as the four bytes of one.
  IrValue MergeBytes(const IrValues& four) {
    IrValue merged = AsBytes(four[0]);
    for (int k = 1; k < 4; ++k) {
      std::vector<int> picks;
      for (int at = 0; at < 4 * lanes_; ++at) {
        picks.push_back(at % 4 < k ? at : at % 4 == k ? 4 * lanes_ + at - k : -1);
      }
      merged = ir().CreateShuffleVector(merged, AsBytes(four[k]), picks);
    }
    return ir().CreateBitCast(merged, four[0]->getType());
  }

  // Four vectors; result[j] has in its quarter q lane 4q + j of each of them.
  IrValues TurnQuarters(const IrValues& quads) {
    const auto pick = [&](IrValue x, IrValue y, int unit, int half) {
      std::vector<int> picks;
      for (int quarter = 0; quarter < lanes_; quarter += 4) {
        for (int at = 0; at < 2 / unit; ++at) {
          for (const int from : {0, lanes_}) {
            for (int u = 0; u < unit; ++u) picks.push_back(from + quarter + half * 2 + at * unit + u);
          }
        }
      }
      return ir().CreateShuffleVector(x, y, picks);
    };
    IrValues pairs, result;
    for (const int half : {0, 1}) {
      for (const int q : {0, 2}) pairs.push_back(pick(quads[q], quads[q + 1], 1, half));
    }
    for (const int half : {0, 1}) {
      for (const int part : {0, 1}) result.push_back(pick(pairs[2 * half], pairs[2 * half + 1], 2, part));
    }
    return result;
  }

  void StoreBytes(IrValue bytes, IrValue token, IrValue feature, IrValue mask = nullptr) {
    IrValue out = b_.arg(first_arg_ + epilogue_.num_args() - 1);
    IrValue at = b_.ElementPointer(out, Plus(Times(token, epilogue_.columns()), feature), DType::kU8);
    if (mask == nullptr) {
      ir().CreateAlignedStore(bytes, at, llvm::Align(1));
    } else {
      ir().CreateMaskedStore(bytes, at, llvm::Align(1), mask);
    }
  }

  IrValues Turn(IrValue r, int lane) {
    IrValues sums;
    for (int k = 0; k < lanes_; ++k) sums.push_back(LoadSums(Plus(r, b_.I64(k)), lane));
    return EmitLaneTranspose(b_, sums);
  }

  // Through memory behind the sums, row by row: with a mask, fewer rows, or a long body.
  void FinishSquares(IrValue r, IrValue feature, IrValue first_column, IrValue tokens) {
    const int64_t square = s_.blocks.block_rows * kPanelLanes;
    for (int lane = 0; lane < kPanelLanes; lane += lanes_) {
      const IrValues turned = Turn(r, lane);
      for (int t = 0; t < lanes_; ++t) {
        b_.Store(b_.scratch(), b_.I64(square + (lane + t) * int64_t{lanes_}), sums_, turned[t]);
      }
    }
    IrValue mask = nullptr;
    if (s_.blocks.rows % lanes_ != 0) {
      mask = b_.MaskBelow(ir().CreateSub(b_.I64(s_.blocks.rows), feature), lanes_);
    }
    b_.For("token", b_.I64(0), tokens, 1, [&](IrValue t) {
      EpilogueEmitter finish(b_, epilogue_, first_arg_);
      IrValue value = b_.Load(b_.scratch(), Plus(Times(t, lanes_), b_.I64(square)), sums_, lanes_);
      finish.Store(value, Plus(first_column, t), feature, mask);
    });
  }

  KernelBuilder& b_;
  const SparseSchedule& s_;
  const SparseUnit unit_;
  const PanelSource& source_;
  const int64_t depth_, columns_;
  const bool by_columns_;
  const DType sums_;
  const TileEpilogue& epilogue_;
  const int first_arg_;
  const int lanes_;
};

}  // namespace

std::string SparseSchedule::Key() const {
  return blocks.Key() + (panels_outer ? " panels first" : "") + (packs ? " packing" : "");
}

std::pair<IrValue, IrValue> EmitBlockRows(KernelBuilder& b, const ScatteredBlocks& blocks, IrValue block) {
  auto& ir = b.ir();
  if (!blocks.cuts.empty()) {
    IrValue cuts = b.ConstantArray("cuts", DType::kI64, blocks.cuts);
    IrValue first = b.Load(cuts, block, DType::kI64, 1);
    IrValue end = b.Load(cuts, ir.CreateAdd(block, b.I64(1)), DType::kI64, 1);
    return {first, ir.CreateSub(end, first, "", true, true)};
  }
  IrValue first = ir.CreateMul(block, b.I64(blocks.block_rows), "", true, true);
  if (blocks.rows % blocks.block_rows == 0) return {first, b.I64(blocks.block_rows)};
  IrValue left = ir.CreateSub(b.I64(blocks.rows), first);
  return {first, ir.CreateSelect(ir.CreateICmpSLT(left, b.I64(blocks.block_rows)), left, b.I64(blocks.block_rows))};
}

StepArg PlanSparsePanels(const Node& node, const SparseProblem& problem, PlanBuilder& builder) {
  StepArg to = {.writes = true};
  const StepArg from = builder.Read(problem.x);
  const int elements = ElementsOf(problem.unit);
  PlanStep pack = elements == 1 ? PlanPackPanels(problem.source, kPanelLanes, from, to, builder.target())
                                : PlanPackUnits(problem.source, elements, kPanelLanes, from, to, builder.target());
  // Query, key and value read the same panels.
  bool made = false;
  const std::string key = internal::Join("value ", static_cast<int>(problem.x), " ", pack.kernel.key);
  to.buffer = builder.TempOnce(key, node.name + ".panels", problem.panel_bytes(), &made);
  if (!made) return {.buffer = to.buffer};
  pack.args[1] = to;
  pack.label = node.name;
  builder.AddStep(std::move(pack));
  return {.buffer = to.buffer};
}

void PlanSparseKernel(const Node& node, const SparseProblem& problem, const SparseSchedule& schedule,
                      const std::string& family, std::vector<SparsePart> parts, StepArg panels, PlanBuilder& builder) {
  const TileEpilogue epilogue(builder.graph(), node, SparseColumnDims(builder.graph(), node));
  PlanStep step;
  step.args = {panels};
  step.kernel.family = family;
  step.kernel.key = internal::Join(family, " ", Name(problem.unit), " ", problem.rows(), "x", problem.columns(), "x",
                                   problem.depth(), problem.by_columns ? " by columns " : " by rows ", schedule.Key());
  for (const SparsePart& part : parts) {
    for (int constant : part.constants) step.args.push_back({.buffer = constant});
    step.kernel.key += "; " + part.key;
    step.flops += part.flops * static_cast<double>(problem.columns());
  }
  step.kernel.key += "; " + epilogue.Key();
  if (schedule.packs) {
    step.kernel.key += internal::Join("; from ", problem.source.depth, " deep, steps ", problem.source.depth_step, " ",
                                      problem.source.column_step);
  }
  const auto first_arg = static_cast<int>(step.args.size());
  step.kernel.emit = [problem, schedule, epilogue, first_arg, parts = std::move(parts)](KernelBuilder& b) {
    SparseEmitter(b, problem, schedule, epilogue, first_arg).Emit(parts);
  };
  epilogue.AddArguments(node, builder, step);
  step.tasks = schedule.blocks.blocks() * problem.panels();
  // Sums, and a square on its way.
  step.scratch_bytes = 4 * PackedPlace(schedule);
  if (schedule.packs) step.scratch_bytes += problem.panel_bytes() / (schedule.panels_outer ? problem.panels() : 1);
  step.label = node.name;
  const int64_t columns = problem.columns();
  step.bytes = static_cast<double>(4 * problem.all.pattern->num_kept() +
                                   ByteSize(problem.source.type, columns * problem.source.depth) +
                                   ByteSize(epilogue.dtype(), columns * problem.rows()));
  builder.AddStep(std::move(step));
}

void PlanSparseSteps(const Node& node, const SparseProblem& problem, const SparseSchedule& schedule,
                     const std::string& family, std::vector<SparsePart> parts, PlanBuilder& builder) {
  const StepArg panels = schedule.packs ? builder.Read(problem.x) : PlanSparsePanels(node, problem, builder);
  PlanSparseKernel(node, problem, schedule, family, std::move(parts), panels, builder);
}

}  // namespace tessera
