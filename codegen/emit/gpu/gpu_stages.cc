// The stages emitter for GPUs: every stage of a node's Compute as a kernel for blocks; element-wise chains, movements,
// gathers, pooling, reductions.
//
//   points   a thread has V neighbouring results, loads and stores of 16 bytes where all accesses are consecutive, or
//   the
//            same, along the innermost axis; combined axes are loops, written out where they are short
//   rows     a group of threads, lanes of a warp or a block, combines one result along consecutive elements, 16 bytes a
//            load; halves are exchanged by shuffles (warp_join.h)
//   parts    few results side by side, each combined over many points: 32 columns of V results, P parts of the combined
//            points; the parts meet in shared memory
//
// Indices are 32 bits wide until they become addresses. Padding is read from a place that exists and replaced, so that
// loads stay together. Stages that do not fit (results smaller than a byte, nothing to do, too many points) are lowered
// as the generic emitter does.
//
// What binds: memory, for all but stages of many operations an element. Tested by gpu_stages_test.cc.
#include "codegen/emit/gpu/gpu_stages.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/round.h"
#include "codegen/emit/body_emitter.h"
#include "codegen/emit/gpu/warp_join.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/stage.h"
#include "codegen/emit/stage_axes.h"
#include "codegen/emit/stage_point.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr int64_t kThreads = 128;
constexpr int64_t kUnrolled = 8;   // combined points of a thread of a group that are written out
constexpr int64_t kStraight = 64;  // loads of a thread's combined points that are written out
constexpr int kVectorBits = 128;

struct GpuStage {
  enum class Way : uint8_t { kPoints, kRows, kParts };
  Way way = Way::kPoints;
  int vector_axis = -1;
  int lanes = 1;
  int64_t group = 1;  // kRows: threads of a result; kParts: parts
  int64_t threads = kThreads;
  int64_t blocks = 1;
  int64_t shared_bytes = 0;

  std::string Key() const {
    return internal::Join("gpu_stage way ", static_cast<int>(way), " axis ", vector_axis, " lanes ", lanes, " group ",
                          group, " threads ", threads);
  }
};

bool ReadsVaryAlong(const Stage& stage, const IndexExpr& expr, int axis) {
  if (expr.read < 0) return false;
  const Access& read = stage.reads[expr.read];
  if (StrideAlong(read, axis) != 0) return true;
  return std::any_of(read.index.begin(), read.index.end(),
                     [&](const IndexExpr& inner) { return ReadsVaryAlong(stage, inner, axis); });
}

// Is `access` the same along `axis`, or consecutive and, with `lanes` at once, aligned?
bool GoesByVectors(const Compute& single, const Access& access, int axis, int lanes) {
  const Stage& stage = single.stages[0];
  const std::vector<int64_t> strides = access.view.Strides();
  const int64_t stride = StrideAlong(access, axis);
  if (stride != 0 && stride != 1) return false;
  int64_t offset = 0;
  for (size_t d = 0; d < access.index.size(); ++d) {
    const IndexExpr& expr = access.index[d];
    if (ReadsVaryAlong(stage, expr, axis)) return false;
    // Padding must begin and end with whole vectors: only where it does not depend on the axis.
    if (access.guarded && CoefficientOf(expr, axis) != 0) {
      const int64_t reach = CoefficientOf(expr, axis) * (stage.extents[axis] - 1);
      if (expr.terms.size() != 1 || expr.read >= 0 || expr.offset < 0 || expr.offset + reach >= access.view[d]) {
        return false;
      }
    }
    if (stride == 1 && expr.read >= 0 && expr.read_scale * strides[d] % lanes != 0) return false;
    offset += expr.offset * strides[d];
  }
  if (stride == 0) return true;
  if (TypeInfo(single.BufferType(access.buffer).dtype).bits < 8 || offset % lanes != 0) return false;
  for (int other = 0; other < stage.rank(); ++other) {
    if (other != axis && StrideAlong(access, other) % lanes != 0) return false;
  }
  return true;
}

// The most lanes, up to 16 bytes of the widest type that is consecutive along the axis.
int LanesAlong(const Compute& single, int axis, bool parallel) {
  const Stage& stage = single.stages[0];
  std::vector<const Access*> accesses;
  for (const Access& access : stage.reads) accesses.push_back(&access);
  if (parallel) {
    for (const Access& access : stage.finish_reads) accesses.push_back(&access);
    accesses.push_back(&stage.write);
  }
  int widest = 8;
  for (const Access* access : accesses) {
    if (StrideAlong(*access, axis) == 1) {
      widest = std::max(widest, TypeInfo(single.BufferType(access->buffer).dtype).bits);
    }
  }
  int lanes = kVectorBits / widest;
  const auto fits = [&](const Access* access) { return GoesByVectors(single, *access, axis, lanes); };
  while (lanes > 1 && (stage.extents[axis] % lanes != 0 || !std::all_of(accesses.begin(), accesses.end(), fits))) {
    lanes /= 2;
  }
  return lanes;
}

// How the stage is laid on the card, or nothing where it does not fit. `aligned`: buffers are used from multiples of 16
// bytes on.
std::optional<GpuStage> Schedule(const Compute& single, bool aligned, const Target& target) {
  const Stage& stage = single.stages[0];
  const int64_t points = stage.parallel_points(), reduced = stage.reduced_points();
  constexpr int64_t kMost = int64_t{1} << 30;
  if (points == 0 || reduced == 0 || points * kWarp > kMost || reduced > kMost) return std::nullopt;
  if (TypeInfo(single.BufferType(stage.write.buffer).dtype).bits < 8) return std::nullopt;
  const GpuModel gpu(target);
  GpuStage s;
  int along = -1;  // the parallel axis whose results are neighbours
  for (int axis = 0; axis < stage.parallel_rank; ++axis) {
    if (StrideAlong(stage.write, axis) == 1 && stage.extents[axis] > 1) along = axis;
  }
  const bool combines = stage.combiner != Combiner::kNone;
  const auto walked = [&](int axis) {
    return axis >= 0 && std::all_of(stage.reads.begin(), stage.reads.end(), [&](const Access& access) {
             const int64_t stride = StrideAlong(access, axis);
             return stride == 0 || stride == 1;
           });
  };
  constexpr int64_t kShort = 16;
  const int last = stage.rank() - 1;
  if (combines && reduced >= kShort && walked(last) && !walked(along)) {
    s.way = GpuStage::Way::kRows;
    s.vector_axis = last;
    s.lanes = aligned ? LanesAlong(single, last, false) : 1;
    const int64_t vectors = reduced / s.lanes;
    constexpr int64_t kWanted = 4;
    while (s.group < kWarp && s.group * kWanted < vectors) s.group *= 2;
    while (s.group < kMaxBlockThreads && s.group * kWanted < vectors && points * s.group < gpu.units * 1024) {
      s.group *= 2;
    }
    s.threads = s.group > kWarp ? s.group : kThreads;  // more than a warp meet as a block
    if (points * s.group > kMost) return std::nullopt;
    s.blocks = DivideUp(points * s.group, s.threads);
    s.shared_bytes = s.group > kWarp ? std::max<int64_t>(16, s.group / kWarp * 8) : 0;
    return s;
  }
  s.vector_axis = along;
  s.lanes = aligned && along >= 0 ? LanesAlong(single, along, true) : 1;
  // Small results are spread over more threads instead.
  constexpr int64_t kFewThreads = 4096;
  while (s.lanes > 1 && points / s.lanes < kFewThreads) s.lanes /= 2;
  const int64_t vectors = points / s.lanes;
  if (combines && reduced >= kShort) {
    constexpr int64_t kMostParts = 32;
    while (s.group < kMostParts && vectors * s.group < gpu.units * 1024 && reduced > s.group * 4) s.group *= 2;
  }
  if (s.group == 1) {
    s.blocks = DivideUp(vectors, s.threads);
    return s;
  }
  s.way = GpuStage::Way::kParts;
  s.threads = s.group * kWarp;
  s.blocks = DivideUp(vectors, kWarp);
  const DType type = stage.body.result_type();
  s.shared_bytes = s.threads * s.lanes * (type == DType::kBool ? 4 : TypeInfo(type).bits / 8);
  return s;
}

class GpuStageEmitter {
 public:
  GpuStageEmitter(KernelBuilder& b, const Compute& single, const GpuStage& schedule)
      : b_(b), stage_(single.stages[0]), s_(schedule), point_(b, single, schedule.vector_axis) {}

  void Emit() {
    b_.AssumeAligned(true);
    thread_ = b_.ThreadId();
    switch (s_.way) {
      case GpuStage::Way::kPoints: return EmitPoints();
      case GpuStage::Way::kRows: return EmitRows();
      case GpuStage::Way::kParts: return EmitParts();
    }
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue Wide(IrValue x) { return ir().CreateZExt(x, ir().getInt64Ty()); }
  IrValue Narrow(IrValue x) { return ir().CreateTrunc(x, ir().getInt32Ty()); }
  DType type() const { return stage_.body.result_type(); }
  IrValue Join(IrValue x, IrValue y) { return EmitJoin(b_, stage_.combiner, type(), x, y); }
  IrValue Identity(int lanes) { return b_.Splat(EmitIdentity(b_, stage_.combiner, type(), 1), lanes); }

  // Sets axes [first, last) to place `number` (i32) of them, the vector axis innermost and by vectors.
  void Place(IrValue number, int first, int last) {
    std::vector<int> order;
    const bool has_vector = s_.vector_axis >= first && s_.vector_axis < last;
    if (has_vector) order.push_back(s_.vector_axis);
    for (int axis = last - 1; axis >= first; --axis) {
      if (axis != s_.vector_axis) order.push_back(axis);
    }
    for (size_t k = 0; k < order.size(); ++k) {
      const int axis = order[k];
      const bool by_vectors = axis == s_.vector_axis;
      const int64_t extent = stage_.extents[axis] / (by_vectors ? s_.lanes : 1);
      IrValue at = k + 1 == order.size() ? number : ir().CreateURem(number, I32(extent));
      if (k + 1 < order.size()) number = ir().CreateUDiv(number, I32(extent));
      if (by_vectors) at = ir().CreateMul(at, I32(s_.lanes), "", true, true);
      point_.SetAxis(axis, Wide(at));
    }
  }
  void PlaceResult(IrValue number) { Place(number, 0, stage_.parallel_rank); }
  void PlaceCombined(IrValue number) { Place(number, stage_.parallel_rank, stage_.rank()); }

  IrValue BlockTimes(int64_t threads, IrValue plus) {
    return ir().CreateAdd(ir().CreateMul(b_.BlockId(0), I32(threads), "", true, true), plus, "", true, true);
  }

  void EmitPoints() {
    const int64_t vectors = stage_.parallel_points() / s_.lanes;
    IrValue number = BlockTimes(s_.threads, thread_);
    const auto point = [&] {
      PlaceResult(number);
      IrValue value = stage_.combiner == Combiner::kNone ? point_.Value(s_.lanes, nullptr)
                                                         : Combine(stage_.parallel_rank, Identity(s_.lanes));
      point_.Write(value, s_.lanes, nullptr);
    };
    if (vectors % s_.threads == 0) return point();
    b_.If("exists", ir().CreateICmpULT(number, I32(vectors)), point);
  }

  // Loops over combined axes from `axis` on; short ones are written out, so that their loads go together.
  IrValue Combine(int axis, IrValue acc) {
    if (axis == stage_.rank()) return Join(acc, b_.Splat(point_.Value(s_.lanes, nullptr), s_.lanes));
    const int64_t extent = stage_.extents[axis];
    int64_t inner = static_cast<int64_t>(stage_.reads.size());
    for (int k = axis; k < stage_.rank(); ++k) inner *= stage_.extents[k];
    if (inner <= kStraight) {
      for (int64_t k = 0; k < extent; ++k) {
        point_.SetAxis(axis, b_.I64(k));
        acc = Combine(axis + 1, acc);
      }
      return acc;
    }
    return b_.For("r" + std::to_string(axis), b_.I64(0), b_.I64(extent), 1, {acc},
                  [&](IrValue k, const IrValues& carried) {
                    point_.SetAxis(axis, k);
                    return IrValues{Combine(axis + 1, carried[0])};
                  })[0];
  }

  // The value of combined points (vectors of them, by rows) first, first + step, … below `count`.
  IrValue CombineEvery(IrValue first, int64_t step, int64_t count) {
    const int64_t rounds = DivideUp(count, step);
    const auto at = [&](IrValue number) {
      PlaceCombined(number);
      return b_.Splat(point_.Value(s_.lanes, nullptr), s_.lanes);
    };
    IrValue acc = Identity(s_.lanes);
    if (rounds <= kUnrolled) {
      for (int64_t k = 0; k < rounds; ++k) {
        IrValue number = ir().CreateAdd(first, I32(k * step), "", true, true);
        if ((k + 1) * step <= count) {
          acc = Join(acc, at(number));
          continue;
        }
        IrValue exists = ir().CreateICmpULT(number, I32(count));
        IrValue value = at(ir().CreateSelect(exists, number, I32(count - 1)));
        acc = Join(acc, ir().CreateSelect(exists, value, Identity(s_.lanes)));
      }
      return acc;
    }
    // Four side by side, then what is left.
    constexpr int64_t kSums = 4;
    IrValues sums(kSums, acc);
    const int64_t whole = count / (kSums * step) * (kSums * step);
    sums = b_.For("combined", Wide(first), b_.I64(whole), kSums * step, sums,
                  [&](IrValue number, const IrValues& carried) {
                    IrValues next;
                    for (int64_t k = 0; k < kSums; ++k) {
                      IrValue place = ir().CreateAdd(Narrow(number), I32(k * step), "", true, true);
                      next.push_back(Join(carried[static_cast<size_t>(k)], at(place)));
                    }
                    return next;
                  });
    acc = Join(Join(sums[0], sums[1]), Join(sums[2], sums[3]));
    if (whole == count) return acc;
    return b_.For(
        "rest", Wide(ir().CreateAdd(first, I32(whole), "", true, true)), b_.I64(count), step, {acc},
        [&](IrValue number, const IrValues& carried) { return IrValues{Join(carried[0], at(Narrow(number)))}; })[0];
  }

  // Numbers beyond the last result do it once more, since all threads meet; *exists says which store.
  IrValue Existing(IrValue number, int64_t count, IrValue* exists) {
    *exists = ir().CreateICmpULT(number, I32(count));
    return ir().CreateSelect(*exists, number, I32(count - 1));
  }

  void EmitRows() {
    IrValue exists = nullptr;
    IrValue number = ir().CreateUDiv(BlockTimes(s_.threads, thread_), I32(s_.group));
    PlaceResult(Existing(number, stage_.parallel_points(), &exists));
    IrValue lane = ir().CreateAnd(thread_, I32(s_.group - 1));
    IrValue value = CombineEvery(lane, s_.group, stage_.reduced_points() / s_.lanes);
    value = EmitHorizontal(b_, stage_.combiner, type(), value);
    value = JoinThreads(b_, value, static_cast<int>(s_.group), [&](IrValue x, IrValue y) { return Join(x, y); });
    exists = ir().CreateAnd(exists, ir().CreateICmpEQ(lane, I32(0)));
    b_.If("first", exists, [&] { point_.Write(value, 1, nullptr); });
  }

  void EmitParts() {
    const int64_t vectors = stage_.parallel_points() / s_.lanes;
    IrValue column = ir().CreateAnd(thread_, I32(kWarp - 1)), part = ir().CreateLShr(thread_, I32(5));
    IrValue exists = nullptr;
    PlaceResult(Existing(BlockTimes(kWarp, column), vectors, &exists));
    IrValue value = CombineEvery(part, s_.group, stage_.reduced_points());
    // [part][lane][column]: a warp's accesses meet all banks.
    const bool bits = type() == DType::kBool;
    llvm::Type* element = bits ? static_cast<llvm::Type*>(ir().getInt32Ty()) : b_.ElementType(type());
    IrValue shared = b_.Shared(s_.shared_bytes);
    const auto place = [&](IrValue of_part, int lane) {
      IrValue at = ir().CreateAdd(ir().CreateMul(of_part, I32(s_.lanes)), I32(lane));
      at = ir().CreateAdd(ir().CreateMul(at, I32(kWarp)), column);
      return ir().CreateInBoundsGEP(element, shared, Wide(at));
    };
    const auto lane_of = [&](IrValue vector, int lane) {
      return s_.lanes == 1 ? vector : ir().CreateExtractElement(vector, static_cast<uint64_t>(lane));
    };
    for (int lane = 0; lane < s_.lanes; ++lane) {
      IrValue x = lane_of(value, lane);
      ir().CreateStore(bits ? ir().CreateZExt(x, element) : x, place(part, lane));
    }
    b_.Barrier();
    exists = ir().CreateAnd(exists, ir().CreateICmpEQ(part, I32(0)));
    b_.If("first", exists, [&] {
      IrValue total = value;
      for (int64_t k = 1; k < s_.group; ++k) {
        IrValue other = s_.lanes == 1 ? nullptr : llvm::PoisonValue::get(b_.VectorType(type(), s_.lanes));
        for (int lane = 0; lane < s_.lanes; ++lane) {
          IrValue x = ir().CreateLoad(element, place(I32(k), lane));
          if (bits) x = ir().CreateTrunc(x, ir().getInt1Ty());
          other = s_.lanes == 1 ? x : ir().CreateInsertElement(other, x, static_cast<uint64_t>(lane));
        }
        total = Join(total, other);
      }
      point_.Write(total, s_.lanes, nullptr);
    });
  }

  KernelBuilder& b_;
  const Stage& stage_;
  const GpuStage s_;
  StagePoint point_;
  IrValue thread_ = nullptr;
};

double StageMicroseconds(const Compute& single, const GpuStage& s, const Target& target) {
  const Stage& stage = single.stages[0];
  const GpuModel gpu(target);
  const double points = static_cast<double>(stage.parallel_points()),
               combined = static_cast<double>(stage.reduced_points());
  const double results = points * combined;
  // Instructions of a lane, and bytes through the second-level cache: what neighbouring threads read apart comes in
  // sectors of 32 bytes.
  double each = CostOf(stage.body) + 2, finish = CostOf(stage.finish) + 20, bytes = 0;
  constexpr double kSector = 32, kCached = 0.25;
  const auto traffic = [&](const Access& access, double times) {
    const TensorType type = single.BufferType(access.buffer);
    const double whole = static_cast<double>(ByteSize(type.dtype, type.shape.num_elements()));
    const int64_t stride = s.vector_axis >= 0 ? StrideAlong(access, s.vector_axis) : 0;
    const double apart = stride == 0 || stride == 1 ? 0 : times * kSector * kCached;
    bytes += std::max(std::min(whole, times * TypeInfo(type.dtype).bits / 8), apart);
    // Sums of few neighbouring results: lanes of a warp stand in different rows, which are read one after the other.
    double rows_apart = 0;
    if (s.way == GpuStage::Way::kParts && s.vector_axis >= 0 && stride == 0) {
      const double along = static_cast<double>(stage.extents[s.vector_axis]) / s.lanes;
      rows_apart = 4 * std::max(0.0, kWarp / along - 1) / s.lanes;
    }
    return (access.guarded ? 6.0 : 3.0) / (stride == 1 ? s.lanes : 1) + 2.0 * static_cast<double>(access.index.size()) +
           rows_apart;
  };
  for (const Access& access : stage.reads) each += traffic(access, results);
  for (const Access& access : stage.finish_reads) finish += traffic(access, points);
  finish += traffic(stage.write, points);
  const double instructions = results * each + points * finish;
  const double per_us = gpu.units * gpu.lanes_per_clock * gpu.clock_ghz * 1e3;
  // Loads one after the other: about four under way together.
  const double rounds = combined / static_cast<double>(s.group * (s.way == GpuStage::Way::kRows ? s.lanes : 1));
  const double latency = 0.5 + rounds / 4 * 0.4;
  return gpu.launch_us + std::max({instructions / per_us, bytes / gpu.l2_bytes_per_ns / 1000, latency});
}

bool Aligned(const PlanStep& step) {
  constexpr int64_t kBytes = 16;
  return std::all_of(step.args.begin(), step.args.end(), [](const StepArg& arg) { return arg.offset % kBytes == 0; });
}

}  // namespace

PlanStep PlanGpuStage(const Compute& compute, const Stage& stage, const Target& target,
                      const std::function<StepArg(BufferRef)>& place) {
  PreparedStage prepared = PrepareStage(compute, stage, place);
  const std::shared_ptr<const Compute> single = prepared.single;
  const std::optional<GpuStage> found = Schedule(*single, Aligned(prepared.step), target);
  if (!found) return PlanStage(compute, stage, target, place);
  const GpuStage s = *found;
  PlanStep step = std::move(prepared.step);
  step.launch = {.x = s.blocks, .threads = s.threads, .shared_bytes = s.shared_bytes};
  step.kernel.block_threads = static_cast<int>(s.threads);
  step.kernel.blocks_per_unit = BlocksPerUnit(s.threads);
  step.kernel.key = s.Key() + "\n" + single->ToString();
  step.kernel.emit = [single, s](KernelBuilder& b) { GpuStageEmitter(b, *single, s).Emit(); };
  return step;
}

double GpuStageMicroseconds(const Compute& compute, const Stage& stage, const Target& target) {
  const PreparedStage prepared = PrepareStage(compute, stage, [](BufferRef) { return StepArg(); });
  const std::optional<GpuStage> s = Schedule(*prepared.single, true, target);
  return s ? StageMicroseconds(*prepared.single, *s, target) : EstimateStage(compute, stage, target);
}

extern const std::string_view kGpuStagesDoc;
const std::string_view kGpuStagesDoc = "any op, stage by stage, by blocks of threads with accesses of 16 bytes";

std::optional<double> EstimateGpuStages(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const Compute compute = NodeCompute(graph, node);
  double us = 0;
  bool any = false;
  for (const Stage& stage : compute.stages) {
    const PreparedStage prepared = PrepareStage(compute, stage, [](BufferRef) { return StepArg(); });
    const std::optional<GpuStage> s = Schedule(*prepared.single, true, target);
    any |= s.has_value();
    us += GpuStageMicroseconds(compute, stage, target);
  }
  if (any) return us;
  *why = "no stage has results of whole bytes";
  return std::nullopt;
}

Status PlanGpuStages(const Node& node, PlanBuilder& builder) {
  return PlanStages(node, builder, [&](const Compute& compute, const Stage& stage, const auto& place) {
    return PlanGpuStage(compute, stage, builder.target(), place);
  });
}

}  // namespace tessera
