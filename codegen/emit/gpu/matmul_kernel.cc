#include "codegen/emit/gpu/matmul_kernel.h"

#include <algorithm>
#include <optional>

#include "codegen/emit/gpu/two_of_four_core.h"
#include "codegen/emit/gpu/wgmma_kernel.h"
#include "codegen/gpu_model.h"

namespace tessera {
namespace {

// Rows of tiles that are walked together: their A and the column's B stay in the second-level cache.
constexpr int64_t kStrip = 8;

class MatmulEmitter {
 public:
  MatmulEmitter(KernelBuilder& b, const GpuMatmul& matmul, const TileEpilogue& epilogue)
      : b_(b), m_(matmul), t_(matmul.tiling), epilogue_(epilogue) {}

  void Emit() {
    place_ = PlaceOfTile(b_, m_, b_.BlockId(0));
    core_ = MakeMatmulCore(b_, t_, m_.a, m_.b);
    const int64_t stage = m_.stage_bytes();
    shared_ = b_.Shared(m_.shared_bytes(), 1024);
    const std::unique_ptr<TileSource> source =
        m_.make_a ? m_.make_a(b_, place_.first_row)
                  : std::make_unique<TileCopy>(b_, m_.a, t_.threads(),
                                               MatrixAt(0, place_.a_matrix, m_.a_matrix, m_.a.type), place_.first_row);
    TileSource& a = *source;
    TileCopy b(b_, m_.b, t_.threads(), MatrixAt(1, place_.b_matrix, m_.b_matrix, m_.b.type), place_.first_column);
    std::optional<TileCopy> which;
    if (m_.packed()) which.emplace(b_, m_.which, t_.threads(), b_.arg(2), I32(0));
    asynchronous_ = a.asynchronous() || b.asynchronous();
    const auto of_b = [&](IrValue offset) { return At(ir().CreateAdd(offset, I32(m_.a.tile_bytes()))); };
    const auto fetch_a = [&](const StepPlace& at, IrValue offset) { return a.Fetch(at.a_depth, At(offset)); };
    const auto fetch_b = [&](const StepPlace& at, IrValue offset) {
      if (which) {
        IrValue line = ir().CreateUDiv(at.b_line, I32(RowsOfWhich(m_.b.type)));
        IrValue depth = ir().CreateMul(ir().CreateUDiv(at.b_depth, I32(m_.b.tile_run)), I32(m_.which.tile_run));
        which->Fetch(depth, At(ir().CreateAdd(offset, I32(stage - m_.which.tile_bytes()))), line);
      }
      return b.Fetch(at.b_depth, of_b(offset), at.b_line);
    };
    const auto fetch = [&](IrValue step, IrValue offset) {
      const StepPlace at = PlaceOfStep(b_, m_, place_, step);
      IrValues held = fetch_a(at, offset);
      const IrValues more = fetch_b(at, offset);
      held.insert(held.end(), more.begin(), more.end());
      return held;
    };
    const auto store = [&](const IrValues& held, IrValue offset) {
      const auto middle = held.begin() + a.num_held();
      a.Store(IrValues(held.begin(), middle), At(offset));
      b.Store(IrValues(middle, held.end()), of_b(offset));
    };
    const auto commit = [&] {
      if (asynchronous_) DeviceOp(b_, "nv.cp_async.commit", {});
    };
    // What is constant is there before the steps before have ended.
    const bool early = m_.problem.b_constant && b_.overlaps();
    for (const bool before : {true, false}) {
      if (before && !early) continue;
      if (!before) b_.AwaitSteps();
      for (int s = 0; s + 1 < t_.stages; ++s) {
        b_.If("first_stages", ir().CreateICmpSLT(I32(s), place_.num_steps), [&] {
          const StepPlace at = PlaceOfStep(b_, m_, place_, I32(s));
          IrValue offset = I32(s * stage);
          if (!before) a.Store(fetch_a(at, offset), At(offset));
          if (before == early) b.Store(fetch_b(at, offset), of_b(offset));
        });
        if (!before) commit();
      }
      if (before) PrefetchConstant();
    }
    const int held_count = a.num_held() + b.num_held();
    const IrValues nothing(static_cast<size_t>(held_count), TileCopy::NothingHeld(b_));
    IrValues carried = core_->Start();
    const size_t sums = carried.size();
    carried.push_back(I32(0));                        // the stage that is read
    carried.push_back(I32((t_.stages - 1) * stage));  // the stage that is written
    IrValue steps = ir().CreateZExt(place_.num_steps, ir().getInt64Ty());
    carried = b_.For("step", b_.I64(0), steps, 1, carried, [&](IrValue step64, const IrValues& now) {
      IrValue step = ir().CreateTrunc(step64, ir().getInt32Ty());
      IrValue read = now[sums], write = now[sums + 1];
      if (asynchronous_) DeviceOp(b_, "nv.cp_async.wait", {I32(std::max(0, t_.stages - 2))});
      b_.Barrier();
      IrValue next = ir().CreateAdd(step, I32(t_.stages - 1));
      IrValue more = ir().CreateICmpSLT(next, place_.num_steps);
      const IrValues held = b_.IfElse("fetch", more, [&] { return fetch(next, write); }, [&] { return nothing; });
      commit();
      IrValues result = core_->Multiply(At(read), At(ir().CreateAdd(read, I32(m_.a.tile_bytes()))),
                                        IrValues(now.begin(), now.begin() + static_cast<std::ptrdiff_t>(sums)));
      store(held, write);
      const auto advance = [&](IrValue offset) {
        IrValue after = ir().CreateAdd(offset, I32(stage));
        return ir().CreateSelect(ir().CreateICmpEQ(after, I32(t_.stages * stage)), I32(0), after);
      };
      result.push_back(advance(read));
      result.push_back(advance(write));
      return result;
    });
    carried.resize(sums);
    if (asynchronous_) DeviceOp(b_, "nv.cp_async.wait_all", {});
    Finish(carried);
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return b_.ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue At(IrValue offset) { return ir().CreateGEP(ir().getInt8Ty(), shared_, offset); }

  // Element 0 of matrix `number` of argument `arg`.
  IrValue MatrixAt(int arg, IrValue number, int64_t elements, DType type) {
    return b_.ElementPointer(b_.arg(arg), ir().CreateMul(number, b_.I64(elements)), type);
  }

  // Asks for what the first stages leave of this block's share of a constant B, so that it is in the second-level cache
  // by then; blocks with the same columns share the asking. Where blocks run one after the other the cache has better
  // uses.
  void PrefetchConstant() {
    const int64_t lines = m_.steps_of_split() - (t_.stages - 1);  // of 128 bytes, of a column
    if (m_.listed >= 0 || lines <= 0 || !m_.b.depth_inner || m_.blocks() > 2 * GpuModel(b_.target()).units) return;
    IrValue matrix = MatrixAt(1, place_.b_matrix, m_.b_matrix, m_.b.type);
    matrix = ir().CreateAddrSpaceCast(matrix, llvm::PointerType::get(b_.context(), /*global*/ 1));
    const int64_t line_bytes = m_.b.pitch * m_.b.element_bytes();
    const int64_t sharing = m_.tiles_m(), all = lines * t_.tile_n;
    IrValue tile_m = ir().CreateUDiv(place_.first_row, I32(t_.tile_m));
    for (int64_t start = 0; start * sharing < all; start += t_.threads()) {
      IrValue number = ir().CreateMul(ir().CreateAdd(b_.ThreadId(), I32(start)), I32(sharing));
      number = ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, ir().CreateAdd(number, tile_m), I32(all - 1));
      IrValue column = ir().CreateAdd(place_.first_column, ir().CreateUDiv(number, I32(lines)));
      IrValue step = ir().CreateAdd(ir().CreateURem(number, I32(lines)), I32(t_.stages - 1));
      IrValue along = ir().CreateMul(ir().CreateAdd(place_.first_step, step), I32(m_.b.line_bytes()));
      const auto within = [&](IrValue x, int64_t most) {
        x = ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, x, I32(most));
        return ir().CreateZExt(x, ir().getInt64Ty());
      };
      IrValue at = ir().CreateMul(within(column, m_.problem.columns - 1), b_.I64(line_bytes));
      at = ir().CreateAdd(at, within(along, line_bytes - 1));
      DeviceOp(b_, "nv.prefetch_l2", {ir().CreateGEP(ir().getInt8Ty(), matrix, at)});
    }
  }

  void Finish(const IrValues& sums) {
    const int all = core_->num_register_rows(), count = m_.rows_at_once(all);
    const int pitch = t_.tile_n + core_->padding();
    for (int first = 0; first < all; first += count) {
      b_.Barrier();  // what lies in shared memory has been read
      for (int slice = 0; slice < t_.slices; ++slice) {
        const auto stage = [&] { core_->Stage(sums, first, count, shared_, pitch, slice > 0); };
        if (t_.slices == 1) {
          stage();
        } else {
          IrValue mine = ir().CreateUDiv(b_.ThreadId(), I32(t_.wave * t_.warps_m * t_.warps_n));
          b_.If("slice", ir().CreateICmpEQ(mine, I32(slice)), stage);
        }
        b_.Barrier();
      }
      FinishRows(first, count, all, pitch);
    }
  }

  // The staged rows, a vector a thread at a time.
  void FinishRows(int first, int count, int all, int pitch) {
    const int register_row = t_.warp_m() / all;  // rows of a warp that a register row has
    const int warp_rows = register_row * count, rows = warp_rows * t_.warps_m;
    const int across = t_.tile_n / m_.vector, total = rows * across;
    constexpr int kUnroll = 4;
    const int chunk = t_.threads() * kUnroll;
    const auto place = [&](IrValue number) {
      IrValue row = ir().CreateUDiv(number, I32(across));
      IrValue column = ir().CreateMul(ir().CreateURem(number, I32(across)), I32(m_.vector));
      IrValue staged = ir().CreateAdd(ir().CreateMul(row, I32(pitch)), column);
      IrValue in_tile = row;
      if (count < all) {
        in_tile = ir().CreateMul(ir().CreateUDiv(row, I32(warp_rows)), I32(t_.warp_m()));
        in_tile = ir().CreateAdd(in_tile, ir().CreateURem(row, I32(warp_rows)));
        in_tile = ir().CreateAdd(in_tile, I32(int64_t{first} * register_row));
      }
      IrValue in_matrix = ir().CreateAdd(place_.first_row, in_tile);
      IrValue in_row = ir().CreateAdd(place_.first_column, column);
      return StagedResult{staged, InsideResult(b_, m_, in_matrix, in_row),
                          PlaceInResult(b_, m_, place_, in_matrix, in_row)};
    };
    const auto write = [&](EpilogueEmitter& finish, const StagedResult& v) {
      FinishSums(b_, m_, finish, place_, shared_, v);
    };
    // Several at once: what the epilogue reads is asked for before the first is stored. What all rows share can wait;
    // where the kernel makes A, what makes it has the registers.
    const auto several = [&](IrValue base, int times) {
      const auto number = [&](int u) { return ir().CreateAdd(base, I32(int64_t{u} * t_.threads())); };
      if (epilogue_.by_column() || m_.make_a) {
        for (int u = 0; u < times; ++u) {
          EpilogueEmitter finish(b_, epilogue_, m_.first_epilogue_arg());
          write(finish, place(number(u)));
        }
        return;
      }
      std::vector<StagedResult> vectors;
      EpilogueEmitter finish(b_, epilogue_, m_.first_epilogue_arg());
      for (int u = 0; u < times; ++u) {
        vectors.push_back(place(number(u)));
        FetchOperands(b_, m_, finish, vectors.back().at);
      }
      for (const StagedResult& v : vectors) write(finish, v);
    };
    IrValue thread = b_.ThreadId();
    const int whole = total / chunk * chunk;
    if (whole > 0) {
      b_.For("finish", b_.I64(0), b_.I64(whole), chunk, [&](IrValue start) {
        several(ir().CreateAdd(ir().CreateTrunc(start, ir().getInt32Ty()), thread), kUnroll);
      });
    }
    const int left = (total - whole) / t_.threads();
    several(ir().CreateAdd(I32(whole), thread), left);
    const int last = whole + left * t_.threads();
    if (last < total) {
      b_.If("last", ir().CreateICmpULT(thread, I32(total - last)),
            [&] { several(ir().CreateAdd(I32(last), thread), 1); });
    }
  }

  KernelBuilder& b_;
  const GpuMatmul& m_;
  const MatmulTiling& t_;
  const TileEpilogue& epilogue_;
  std::unique_ptr<MatmulCore> core_;
  bool asynchronous_ = false;
  IrValue shared_ = nullptr;
  TilePlace place_ = {};
};

}  // namespace

TilePlace PlaceOfTile(KernelBuilder& b, const GpuMatmul& m, IrValue number) {
  auto& ir = b.ir();
  const auto i32 = [&](int64_t value) { return ir.getInt32(static_cast<uint32_t>(value)); };
  const MatmulTiling& t = m.tiling;
  const int64_t tiles_m = m.tiles_m(), tiles_n = m.tiles_n();
  TilePlace place;
  IrValue tile = ir.CreateURem(number, i32(tiles_m * tiles_n));
  IrValue rest = ir.CreateUDiv(number, i32(tiles_m * tiles_n));
  place.split = ir.CreateURem(rest, i32(t.splits), "split");
  place.group = ir.CreateUDiv(rest, i32(t.splits), "group");
  IrValue strip = ir.CreateUDiv(tile, i32(kStrip * tiles_n));
  IrValue in_strip = ir.CreateURem(tile, i32(kStrip * tiles_n));
  IrValue height = i32(kStrip);
  IrValue above = ir.CreateMul(strip, i32(kStrip));
  if (tiles_m % kStrip != 0) {
    height = ir.CreateBinaryIntrinsic(llvm::Intrinsic::umin, height, ir.CreateSub(i32(tiles_m), above));
  }
  IrValue tile_m = ir.CreateAdd(above, ir.CreateURem(in_strip, height));
  IrValue tile_n = ir.CreateUDiv(in_strip, height);
  place.first_row = ir.CreateMul(tile_m, i32(t.tile_m), "first_row");
  place.first_column = ir.CreateMul(tile_n, i32(t.tile_n), "first_column");
  place.first_step = ir.CreateMul(place.split, i32(m.steps_of_split()));
  place.num_steps = i32(m.steps());
  if (t.splits > 1) {
    place.num_steps = ir.CreateBinaryIntrinsic(llvm::Intrinsic::umin, i32(m.steps_of_split()),
                                               ir.CreateSub(i32(m.steps()), place.first_step));
  }
  if (m.listed >= 0) {
    const auto begin = [&](IrValue column) {
      return b.Load(b.arg(2), ir.CreateZExt(column, ir.getInt64Ty()), DType::kI32, 1);
    };
    place.first_step = begin(tile_n);
    place.num_steps = ir.CreateSub(begin(ir.CreateAdd(tile_n, i32(1))), place.first_step);
  }
  place.a_matrix = place.b_matrix = b.I64(0);
  rest = ir.CreateZExt(place.group, ir.getInt64Ty());
  const std::vector<MatmulProblem::BatchDim>& batch = m.problem.batch;
  for (size_t d = batch.size(); d-- > 0;) {
    IrValue index = d == 0 ? rest : ir.CreateURem(rest, b.I64(batch[d].extent));
    if (d > 0) rest = ir.CreateUDiv(rest, b.I64(batch[d].extent));
    place.a_matrix = ir.CreateAdd(place.a_matrix, ir.CreateMul(index, b.I64(batch[d].a_step)));
    place.b_matrix = ir.CreateAdd(place.b_matrix, ir.CreateMul(index, b.I64(batch[d].b_step)));
  }
  return place;
}

IrValue InsideResult(KernelBuilder& b, const GpuMatmul& m, IrValue row, IrValue column) {
  auto& ir = b.ir();
  IrValue there = nullptr;
  if (m.problem.rows % m.tiling.tile_m != 0) {
    there = ir.CreateICmpULT(row, ir.getInt32(static_cast<uint32_t>(m.problem.rows)));
  }
  if (m.problem.columns % m.tiling.tile_n != 0) {
    IrValue inside = ir.CreateICmpULT(column, ir.getInt32(static_cast<uint32_t>(m.problem.columns)));
    there = there == nullptr ? inside : ir.CreateAnd(there, inside);
  }
  return there;
}

StepPlace PlaceOfStep(KernelBuilder& b, const GpuMatmul& m, const TilePlace& place, IrValue step) {
  auto& ir = b.ir();
  const auto i32 = [&](int64_t value) { return ir.getInt32(static_cast<uint32_t>(value)); };
  IrValue number = ir.CreateAdd(place.first_step, step);
  if (m.listed < 0) {
    const int of_b = m.b.depth_inner ? m.b.tile_run : m.b.tile_lines;
    return {ir.CreateMul(number, i32(m.tile_k())), ir.CreateMul(number, i32(of_b)), place.first_column};
  }
  IrValue stage = b.Load(b.arg(3), ir.CreateZExt(number, ir.getInt64Ty()), DType::kI32, 1);
  return {ir.CreateMul(stage, i32(m.tile_k())), i32(0), ir.CreateMul(number, i32(m.tiling.tile_n))};
}

ResultPlace PlaceInResult(KernelBuilder& b, const GpuMatmul& m, const TilePlace& place, IrValue row, IrValue column) {
  auto& ir = b.ir();
  const auto i64 = [&](IrValue value) { return ir.CreateZExt(value, ir.getInt64Ty()); };
  const auto within = [&](IrValue value, int64_t extent, int tile, int at_once) {
    if (extent % tile == 0) return value;
    IrValue last = ir.getInt32(static_cast<uint32_t>(extent - at_once));
    return ir.CreateBinaryIntrinsic(llvm::Intrinsic::umin, value, last);
  };
  ResultPlace at = {i64(within(row, m.problem.rows, m.tiling.tile_m, 1)),
                    i64(within(column, m.problem.columns, m.tiling.tile_n, m.vector))};
  if (m.groups_beside) {
    at.column = ir.CreateAdd(ir.CreateMul(i64(place.group), b.I64(m.problem.columns)), at.column);
  } else {
    at.row = ir.CreateAdd(ir.CreateMul(i64(place.group), b.I64(m.problem.rows)), at.row);
  }
  return at;
}

void FetchOperands(KernelBuilder& b, const GpuMatmul& m, EpilogueEmitter& finish, const ResultPlace& at) {
  if (m.tiling.splits > 1) return;
  b.AssumeAligned(m.vector > 1);
  finish.Fetch(m.vector, at.row, at.column);
  b.AssumeAligned(false);
}

void FinishSums(KernelBuilder& b, const GpuMatmul& m, EpilogueEmitter& finish, const TilePlace& place, IrValue staging,
                const StagedResult& vector) {
  const auto write = [&] {
    auto& ir = b.ir();
    const ResultPlace& at = vector.at;
    const auto i64 = [&](IrValue value) { return ir.CreateZExt(value, ir.getInt64Ty()); };
    b.AssumeAligned(m.vector > 1);
    IrValue sums = b.Load(staging, i64(vector.from), m.sum(), m.vector);
    if (m.tiling.splits > 1) {
      IrValue of_split = ir.CreateMul(i64(place.split), b.I64(m.problem.groups() * m.problem.rows));
      IrValue there = ir.CreateMul(ir.CreateAdd(of_split, at.row), b.I64(m.problem.columns));
      b.Store(b.arg(m.first_epilogue_arg()), ir.CreateAdd(there, at.column), m.sum(), sums);
    } else {
      finish.Store(sums, at.row, at.column);
    }
    b.AssumeAligned(false);
  };
  if (vector.there == nullptr) {
    write();
  } else {
    b.If("inside", vector.there, write);
  }
}

int64_t GpuMatmul::staging_bytes(int padding, int register_rows, int all) const {
  return int64_t{tiling.tile_m} / all * register_rows * (tiling.tile_n + padding) * 4;
}

int GpuMatmul::rows_at_once(int all) const {
  const int64_t stages = tiling.stages * stage_bytes();
  // Where rows run along A's lines, a thread has neighbours of them in several register rows.
  using Core = MatmulTiling::Core;
  const int least = a.depth_inner ? 1 : tiling.core == Core::kFma ? 4 : tiling.core == Core::kMmaF64 ? 2 : 1;
  int count = all;
  while (count % 2 == 0 && count / 2 >= least && staging_bytes(tiling.padding(), count, all) > stages) count /= 2;
  return count;
}

int64_t GpuMatmul::shared_bytes() const {
  if (tiling.core == MatmulTiling::Core::kWgmma) return WgmmaSharedBytes(tiling);
  const int all = tiling.warp_m() / tiling.register_row();
  return std::max(tiling.stages * stage_bytes(), staging_bytes(tiling.padding(), rows_at_once(all), all));
}

std::string GpuMatmul::Key() const {
  std::string key = internal::Join("gpu matmul ", tiling.Name(), " k ", tiling.tile_k_bytes, " a ", a.Key(), "/",
                                   a_matrix, " b ", b.Key(), "/", b_matrix, " ", problem.rows, "x", problem.columns,
                                   "x", problem.depth, " vectors ", vector);
  if (groups_beside) key += " groups beside";
  for (const auto& dim : problem.batch) key += internal::Join(" batch ", dim.extent, "/", dim.a_step, "/", dim.b_step);
  if (listed >= 0) key += internal::Join(" listed ", listed);
  if (packed()) key += internal::Join(" which ", which.Key());
  key += a_key;
  return key;
}

KernelSpec GpuMatmulKernel(const GpuMatmul& matmul, const TileEpilogue& epilogue) {
  KernelSpec kernel;
  const std::string name = matmul.tiling.Name();
  kernel.family = "matmul_" + name.substr(0, name.find(' '));
  kernel.num_args =
      matmul.first_epilogue_arg() + (matmul.tiling.splits > 1 ? 1 : epilogue.num_args() + matmul.more_args);
  kernel.block_threads = matmul.tiling.threads();
  // Registers as the sums need them. Small tiles have few, and with no bound the assembler starts so many loads early
  // that it runs out (seen on sm_75).
  constexpr int kSmallTile = 32 * 32;
  const bool small = matmul.tiling.tile_m * matmul.tiling.tile_n <= kSmallTile;
  kernel.blocks_per_unit = small && !matmul.make_a ? 2 : 1;  // what makes A holds windows too
  if (matmul.tiling.core == MatmulTiling::Core::kMmaF64) kernel.blocks_per_unit = matmul.tiling.per_unit;
  kernel.waits = true;
  kernel.key = matmul.Key();
  if (matmul.tiling.splits == 1) kernel.key += " " + epilogue.Key();
  kernel.emit = [matmul, epilogue](KernelBuilder& b) { MatmulEmitter(b, matmul, epilogue).Emit(); };
  return kernel;
}

KernelSpec SplitSumKernel(DType sum, int splits, int64_t rows, int64_t columns, int vector,
                          const TileEpilogue& epilogue) {
  KernelSpec kernel;
  kernel.family = "split_sum";
  kernel.num_args = 1 + epilogue.num_args();
  kernel.block_threads = kSplitSumThreads;
  kernel.key = internal::Join("split sum ", Name(sum), " ", splits, " of ", rows, "x", columns, " vectors ", vector,
                              " ", epilogue.Key());
  kernel.emit = [=](KernelBuilder& b) {
    auto& ir = b.ir();
    llvm::Type* i64 = ir.getInt64Ty();
    IrValue number = ir.CreateAdd(ir.CreateMul(ir.CreateZExt(b.BlockId(0), i64), b.I64(kSplitSumThreads)),
                                  ir.CreateZExt(b.ThreadId(), i64));
    b.If("inside", ir.CreateICmpULT(number, b.I64(rows * columns / vector)), [&] {
      b.AssumeAligned(vector > 1);
      IrValue row = ir.CreateUDiv(number, b.I64(columns / vector));
      IrValue column = ir.CreateMul(ir.CreateURem(number, b.I64(columns / vector)), b.I64(vector));
      IrValue total = nullptr;
      for (int s = 0; s < splits; ++s) {
        IrValue at = ir.CreateAdd(ir.CreateMul(number, b.I64(vector)), b.I64(s * rows * columns));
        IrValue part = b.Load(b.arg(0), at, sum, vector);
        total = total == nullptr ? part : IsFloat(sum) ? ir.CreateFAdd(total, part) : ir.CreateAdd(total, part);
      }
      EpilogueEmitter(b, epilogue, 1).Store(total, row, column);
      b.AssumeAligned(false);
    });
  };
  return kernel;
}

}  // namespace tessera
