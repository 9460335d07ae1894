#include "codegen/emit/stage.h"

#include <algorithm>
#include <memory>

#include "codegen/emit/body_emitter.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/stage_axes.h"
#include "codegen/emit/stage_point.h"
#include "codegen/gpu_model.h"
#include "graph/op.h"

namespace tessera {
namespace {

// How a stage is laid on the machine.
struct StageSchedule {
  int vector_axis = -1;  // -1: scalar
  int lanes = 1;
  int64_t chunk = 1;  // of the vector axis, when it is parallel
  int task_axes = 0;  // so many leading parallel axes make up tasks (the vector axis by chunks); the others are loops
};

// Points of the parallel axes [first, last) without the vector axis.
int64_t PointsBetween(const Stage& stage, const StageSchedule& schedule, int first, int last) {
  int64_t points = 1;
  for (int axis = first; axis < last; ++axis) {
    if (axis != schedule.vector_axis) points *= stage.extents[axis];
  }
  return points;
}

int WidestBits(const Stage& stage) {
  int bits = 32;
  for (const Body* body : {&stage.body, &stage.finish}) {
    for (const ScalarInst& inst : body->insts) {
      if (!IsBool(inst.type) && inst.op != ScalarOp::kIndex) bits = std::max(bits, TypeInfo(inst.type).bits);
    }
  }
  return bits;
}

bool ReadsIndex(const Access& access) {
  return std::any_of(access.index.begin(), access.index.end(), [](const IndexExpr& expr) { return expr.read >= 0; });
}

double ScoreAxis(const Stage& stage, int axis, int lanes) {
  const int64_t extent = stage.extents[axis];
  if (extent < 2) return -1e9;
  const bool parallel = axis < stage.parallel_rank;
  double score = 0;
  const auto add = [&](const Access& access, double weight) {
    const int64_t stride = StrideAlong(access, axis);
    // An index that is the same for all lanes (a row of an embedding) leaves whole vectors to load.
    bool varies = false;
    for (const IndexExpr& expr : access.index) {
      varies |=
          expr.read >= 0 && (StrideAlong(stage.reads[expr.read], axis) != 0 || ReadsIndex(stage.reads[expr.read]));
    }
    score += weight * (varies ? 0.2 : (stride == 0 || stride == 1 ? 1.0 : -0.5));
  };
  for (const Access& access : stage.reads) add(access, 1);
  if (parallel) {
    add(stage.write, 1);
    for (const Access& access : stage.finish_reads) add(access, 0.25);
  } else {
    score += 0.5;  // the joined lanes are written once
  }
  const double filled = static_cast<double>(extent) / static_cast<double>((extent + lanes - 1) / lanes * lanes);
  return score > 0 ? score * filled : score / filled;
}

StageSchedule ScheduleStage(const Stage& stage, const Target& target) {
  StageSchedule schedule;
  if (target.IsGpu()) {  // a thread for each result, neighbours in memory on neighbouring threads
    schedule.task_axes = stage.parallel_rank;
    return schedule;
  }
  // A value is at most 64 bits wide; wider vectors than the machine's would only spill.
  const int lanes = std::max(4, target.Lanes(32) * 32 / std::max(32, WidestBits(stage) / 2));
  double best = -1e8;
  for (int axis = stage.rank() - 1; axis >= 0; --axis) {
    const double score = ScoreAxis(stage, axis, lanes);
    if (score <= best) continue;
    best = score;
    schedule.vector_axis = axis;
  }
  // Tasks of at least some thousand element operations each, and enough of them to balance threads.
  constexpr int64_t kMinTaskWork = 16384;
  constexpr int64_t kWantedTasks = 64;
  const int64_t work_per_point = stage.reduced_points() * static_cast<int64_t>(stage.body.insts.size() + 1);
  const int64_t work = stage.parallel_points() * work_per_point;
  int64_t tasks = 1;
  while (schedule.task_axes < stage.parallel_rank && tasks < kWantedTasks && work / tasks > kMinTaskWork) {
    tasks *= PointsBetween(stage, schedule, schedule.task_axes, schedule.task_axes + 1);
    ++schedule.task_axes;
  }
  if (schedule.vector_axis < 0) return schedule;
  const int64_t extent = stage.extents[schedule.vector_axis];
  schedule.lanes = 2;
  while (schedule.lanes < lanes && schedule.lanes < extent) schedule.lanes *= 2;
  if (schedule.vector_axis >= stage.parallel_rank) return schedule;
  int64_t chunks = std::max<int64_t>(1, kWantedTasks / std::max<int64_t>(1, tasks));
  chunks = std::min(chunks, std::max<int64_t>(1, work / tasks / kMinTaskWork));
  chunks = std::min(chunks, std::max<int64_t>(1, extent / schedule.lanes));
  const int64_t chunk = (extent + chunks - 1) / chunks;
  schedule.chunk = std::min(extent, (chunk + schedule.lanes - 1) / schedule.lanes * schedule.lanes);
  return schedule;
}

// Writes the kernel of one stage whose buffers are the kernel's arguments.
class StageEmitter {
 public:
  StageEmitter(KernelBuilder& b, const Compute& compute, const StageSchedule& schedule)
      : b_(b), stage_(compute.stages[0]), schedule_(schedule), point_(b, compute, schedule.vector_axis) {}

  void Emit() {
    b_.For("task", b_.begin(), b_.end(), 1, [&](IrValue task) { EmitTask(task); });
  }

 private:
  bool VectorIsParallel() const { return schedule_.vector_axis >= 0 && schedule_.vector_axis < stage_.parallel_rank; }
  auto& ir() { return b_.ir(); }

  void EmitTask(IrValue task) {
    IrValue rest = task;
    IrValue chunk = nullptr;
    const int64_t extent = schedule_.vector_axis >= 0 ? stage_.extents[schedule_.vector_axis] : 1;
    if (VectorIsParallel()) {
      const int64_t chunks = (extent + schedule_.chunk - 1) / schedule_.chunk;
      chunk = ir().CreateURem(rest, b_.I64(chunks));
      rest = ir().CreateUDiv(rest, b_.I64(chunks));
    }
    for (int axis = schedule_.task_axes - 1; axis >= 0; --axis) {
      if (axis == schedule_.vector_axis) continue;
      point_.SetAxis(axis, ir().CreateURem(rest, b_.I64(stage_.extents[axis]), "x" + std::to_string(axis)));
      rest = ir().CreateUDiv(rest, b_.I64(stage_.extents[axis]));
    }
    EmitLoops(schedule_.task_axes, chunk);
  }

  // The parallel axes from `axis` on that are not tasks, and inside them the vector axis.
  void EmitLoops(int axis, IrValue chunk) {
    if (axis == schedule_.vector_axis) return EmitLoops(axis + 1, chunk);
    if (axis < stage_.parallel_rank) {
      b_.For("x" + std::to_string(axis), b_.I64(0), b_.I64(stage_.extents[axis]), 1, [&](IrValue iv) {
        point_.SetAxis(axis, iv);
        EmitLoops(axis + 1, chunk);
      });
      return;
    }
    if (!VectorIsParallel()) {
      EmitPoint(1, nullptr);
      return;
    }
    const int64_t extent = stage_.extents[schedule_.vector_axis];
    const int lanes = schedule_.lanes;
    IrValue low = ir().CreateMul(chunk, b_.I64(schedule_.chunk));
    IrValue high = ir().CreateAdd(low, b_.I64(schedule_.chunk));
    high = ir().CreateSelect(ir().CreateICmpSLT(high, b_.I64(extent)), high, b_.I64(extent));
    IrValue count = ir().CreateSub(high, low);
    IrValue whole = ir().CreateAdd(low, ir().CreateAnd(count, b_.I64(-static_cast<int64_t>(lanes))));
    b_.For("v", low, whole, lanes, [&](IrValue v) {
      point_.SetAxis(schedule_.vector_axis, v);
      EmitPoint(lanes, nullptr);
    });
    b_.If("tail", ir().CreateICmpSLT(whole, high), [&] {
      point_.SetAxis(schedule_.vector_axis, whole);
      EmitPoint(lanes, b_.MaskBelow(ir().CreateSub(high, whole), lanes));
    });
  }

  // One parallel point, or `lanes` of them along the vector axis.
  void EmitPoint(int lanes, IrValue mask) {
    const DType type = stage_.body.result_type();
    IrValue value = nullptr;
    if (stage_.combiner == Combiner::kNone) {
      value = point_.Value(lanes, mask);
    } else if (VectorIsParallel() || schedule_.vector_axis < 0) {
      value =
          EmitReduction(stage_.parallel_rank, b_.Splat(EmitIdentity(b_, stage_.combiner, type, 1), lanes), lanes, mask);
    } else {
      const int width = schedule_.lanes;
      value = EmitReduction(stage_.parallel_rank, EmitIdentity(b_, stage_.combiner, type, width), width, nullptr);
      value = EmitHorizontal(b_, stage_.combiner, type, value);
    }
    point_.Write(value, lanes, mask);
  }

  // Loops over reduced axes from `axis` on, carrying the combined value.
  IrValue EmitReduction(int axis, IrValue acc, int lanes, IrValue mask) {
    if (axis == stage_.rank()) {
      return EmitJoin(b_, stage_.combiner, stage_.body.result_type(), acc, b_.Splat(point_.Value(lanes, mask), lanes));
    }
    const std::string name = "r" + std::to_string(axis);
    const int64_t extent = stage_.extents[axis];
    if (axis != schedule_.vector_axis) {
      return b_.For(name, b_.I64(0), b_.I64(extent), 1, {acc}, [&](IrValue iv, const IrValues& carried) {
        point_.SetAxis(axis, iv);
        return IrValues{EmitReduction(axis + 1, carried[0], lanes, mask)};
      })[0];
    }
    const int64_t whole = extent / lanes * lanes;
    // Four sums side by side hide the latency of one.
    constexpr int64_t kSums = 4;
    if (axis + 1 == stage_.rank() && whole >= kSums * lanes && whole % (kSums * lanes) == 0) {
      IrValues sums(kSums, EmitIdentity(b_, stage_.combiner, stage_.body.result_type(), lanes));
      sums[0] = acc;
      sums = b_.For(name, b_.I64(0), b_.I64(whole), kSums * lanes, sums, [&](IrValue iv, const IrValues& carried) {
        IrValues next;
        for (int64_t k = 0; k < kSums; ++k) {
          point_.SetAxis(axis, ir().CreateAdd(iv, b_.I64(k * lanes)));
          next.push_back(EmitReduction(axis + 1, carried[k], lanes, nullptr));
        }
        return next;
      });
      const DType type = stage_.body.result_type();
      acc = EmitJoin(b_, stage_.combiner, type, EmitJoin(b_, stage_.combiner, type, sums[0], sums[1]),
                     EmitJoin(b_, stage_.combiner, type, sums[2], sums[3]));
    } else
      acc = b_.For(name, b_.I64(0), b_.I64(whole), lanes, {acc}, [&](IrValue iv, const IrValues& carried) {
        point_.SetAxis(axis, iv);
        return IrValues{EmitReduction(axis + 1, carried[0], lanes, nullptr)};
      })[0];
    if (whole == extent) return acc;
    point_.SetAxis(axis, b_.I64(whole));
    IrValue tail_mask = b_.MaskBelow(b_.I64(extent - whole), lanes);
    return ir().CreateSelect(tail_mask, EmitReduction(axis + 1, acc, lanes, tail_mask), acc);
  }

  KernelBuilder& b_;
  const Stage& stage_;
  const StageSchedule schedule_;
  StagePoint point_;
};

}  // namespace

PreparedStage PrepareStage(const Compute& compute, const Stage& original,
                           const std::function<StepArg(BufferRef)>& place) {
  PreparedStage prepared;
  auto single = std::make_shared<Compute>();
  single->stages.push_back(CollapseAxes(original));
  Stage& stage = single->stages[0];
  PlanStep& step = prepared.step;
  std::vector<BufferRef> seen;
  const auto rename = [&](Access& access) {
    auto at = std::find(seen.begin(), seen.end(), access.buffer);
    const int position = static_cast<int>(at - seen.begin());
    if (at == seen.end()) {
      seen.push_back(access.buffer);
      single->inputs.push_back(compute.BufferType(access.buffer));
      step.args.push_back(place(access.buffer));
      step.args.back().writes = false;
    }
    access.buffer = {BufferKind::kInput, position};
  };
  // Memory may be shared with an operand of the same width that is read just where the result is written.
  std::vector<std::pair<int, int>> in_place;
  const int bits = TypeInfo(compute.BufferType(stage.write.buffer).dtype).bits;
  const auto walks_like_write = [&](const Access& access) {
    return access.index == stage.write.index && access.view == stage.write.view && !access.guarded;
  };
  const auto take = [&](std::vector<Access>& accesses, bool may_share) {
    for (Access& access : accesses) {
      const bool share =
          may_share && walks_like_write(access) && TypeInfo(compute.BufferType(access.buffer).dtype).bits == bits;
      rename(access);
      if (share) in_place.emplace_back(access.buffer.index, -1);
    }
  };
  take(stage.reads, stage.combiner == Combiner::kNone);
  take(stage.finish_reads, true);
  // Not with a buffer that is also read at another place (a broadcast, a window).
  for (const auto* accesses : {&stage.reads, &stage.finish_reads}) {
    for (const Access& access : *accesses) {
      if (walks_like_write(access) && (accesses == &stage.finish_reads || stage.combiner == Combiner::kNone)) continue;
      std::erase_if(in_place, [&](const auto& pair) { return pair.first == access.buffer.index; });
    }
  }
  single->outputs.push_back(compute.BufferType(stage.write.buffer));
  step.args.push_back(place(stage.write.buffer));
  step.args.back().writes = true;
  stage.write.buffer = {BufferKind::kOutput, 0};
  const int out = static_cast<int>(step.args.size()) - 1;
  // Nor with one that another argument reads too: what a convolution reads, added to its result.
  std::erase_if(in_place, [&](const auto& pair) {
    return std::count_if(step.args.begin(), step.args.end() - 1,
                         [&](const StepArg& arg) { return arg.buffer == step.args[pair.first].buffer; }) > 1;
  });
  for (auto& pair : in_place) pair.second = out;
  step.in_place = in_place;

  const int64_t points = stage.parallel_points();
  step.serial = bits < 8;  // two results share a byte
  // Operations on elements; a movement has none.
  const auto operations = [](const Body& body) {
    return static_cast<double>(std::count_if(body.insts.begin(), body.insts.end(),
                                             [](const ScalarInst& inst) { return ScalarInfo(inst.op).arity > 0; }));
  };
  const double per_point = operations(stage.body) + (stage.combiner == Combiner::kNone ? 0 : 1);
  step.flops = static_cast<double>(points) *
               (per_point * static_cast<double>(stage.reduced_points()) + operations(stage.finish));
  for (const TensorType& type : single->inputs) step.bytes += ByteSize(type.dtype, type.shape.num_elements());
  step.bytes += ByteSize(single->outputs[0].dtype, single->outputs[0].shape.num_elements());

  KernelSpec& kernel = step.kernel;
  kernel.family = stage.name;
  kernel.num_args = static_cast<int>(step.args.size());
  kernel.may_alias.assign(kernel.num_args, false);
  for (const auto& [in, to] : in_place) kernel.may_alias[in] = kernel.may_alias[to] = true;
  prepared.single = std::move(single);
  return prepared;
}

PlanStep PlanStage(const Compute& compute, const Stage& original, const Target& target,
                   const std::function<StepArg(BufferRef)>& place) {
  PreparedStage prepared = PrepareStage(compute, original, place);
  PlanStep& step = prepared.step;
  const std::shared_ptr<const Compute> single = prepared.single;
  const Stage& stage = single->stages[0];
  const StageSchedule schedule = ScheduleStage(stage, target);
  const bool vector_parallel = schedule.vector_axis >= 0 && schedule.vector_axis < stage.parallel_rank;
  if (stage.parallel_points() > 0) {
    step.tasks = PointsBetween(stage, schedule, 0, schedule.task_axes);
    if (vector_parallel) {
      step.tasks *= (stage.extents[schedule.vector_axis] + schedule.chunk - 1) / schedule.chunk;
    }
  } else {
    step.tasks = 0;
  }
  KernelSpec& kernel = step.kernel;
  kernel.key = "stage axis " + std::to_string(schedule.vector_axis) + " lanes " + std::to_string(schedule.lanes) +
               " chunk " + std::to_string(schedule.chunk) + " tasks " + std::to_string(schedule.task_axes) + "\n" +
               single->ToString();
  kernel.emit = [single, schedule](KernelBuilder& b) { StageEmitter(b, *single, schedule).Emit(); };
  return std::move(prepared.step);
}

namespace {

// Instructions of a vector that one scalar operation becomes.
double CostOf(const ScalarInst& inst) {
  switch (inst.op) {
    case ScalarOp::kInput:
    case ScalarOp::kConst:
    case ScalarOp::kIndex: return 0;
    case ScalarOp::kDiv: return IsFloat(inst.type) ? 6 : 40;
    case ScalarOp::kRem: return 40;
    case ScalarOp::kSqrt: return 8;
    case ScalarOp::kExp: return 20;
    case ScalarOp::kExpm1:
    case ScalarOp::kTanh:
    case ScalarOp::kErf:
    case ScalarOp::kLog: return 25;
    case ScalarOp::kLog1p: return 35;
    case ScalarOp::kSin:
    case ScalarOp::kCos: return 80;
    case ScalarOp::kPow: return 150;
    default: return 1;
  }
}

}  // namespace

double CostOf(const Body& body) {
  double cost = 0;
  for (const ScalarInst& inst : body.insts) cost += CostOf(inst);
  return cost;
}

double EstimateStage(const Compute& compute, const Stage& original, const Target& target) {
  const Stage stage = CollapseAxes(original);
  const StageSchedule schedule = ScheduleStage(stage, target);
  const bool joined = schedule.vector_axis >= stage.parallel_rank;  // lanes become one result
  const auto of_access = [&](const Access& access) {
    const int64_t stride = schedule.vector_axis >= 0 ? StrideAlong(access, schedule.vector_axis) : 0;
    return (stride == 0 || stride == 1 ? 1.0 : 2.0 * schedule.lanes) + (access.guarded ? 4.0 : 0.0);
  };
  // A combination waits for the one before it.
  double per_point = CostOf(stage.body) + (stage.combiner == Combiner::kNone ? 0 : 3);
  for (const Access& access : stage.reads) per_point += of_access(access);
  double per_result = CostOf(stage.finish) + (joined ? 40 : of_access(stage.write) + 1);
  for (const Access& access : stage.finish_reads) per_result += of_access(access);
  const double results = static_cast<double>(stage.parallel_points());
  const double points = results * static_cast<double>(stage.reduced_points());
  double bytes = 0;
  for (const TensorType& type : compute.inputs) bytes += ByteSize(type.dtype, type.shape.num_elements());
  if (target.IsGpu()) {
    // A result a thread, element by element, 64-bit indices, and loads one after the other.
    const GpuModel gpu(target);
    constexpr double kIndices = 30, kLoadMicroseconds = 0.3;
    const double instructions = points * (per_point + kIndices) + results * (per_result + kIndices);
    const double latency = 1 + static_cast<double>(stage.reduced_points()) * kLoadMicroseconds;
    return gpu.launch_us + std::max({instructions / (gpu.units * gpu.clock_ghz * 1e3 * 128),
                                     4 * bytes / gpu.l2_bytes_per_ns / 1000, latency});
  }
  constexpr double kNanosecondsPerInstruction = 0.25;
  constexpr double kBytesPerNanosecond = 20;
  const double instructions =
      points * per_point / schedule.lanes + results * per_result / (joined ? 1 : schedule.lanes);
  // A step costs a meeting of the threads.
  constexpr double kStepMicroseconds = 0.5;
  return (instructions * kNanosecondsPerInstruction + bytes / kBytesPerNanosecond) / 1000 + kStepMicroseconds;
}

Status PlanStages(const Node& node, PlanBuilder& builder, const StagePlanner& plan) {
  const Compute compute = NodeCompute(builder.graph(), node);
  RETURN_IF_ERROR(compute.Verify().WithContext("node '" + node.name + "'"));
  const std::vector<ValueId> operands = Operands(node);
  std::vector<int> temps, tables;
  for (size_t k = 0; k < compute.temps.size(); ++k) {
    const TensorType& type = compute.temps[k];
    temps.push_back(
        builder.Temp(node.name + ".temp" + std::to_string(k), ByteSize(type.dtype, type.shape.num_elements())));
  }
  for (size_t k = 0; k < compute.tables.size(); ++k) {
    tables.push_back(builder.Constant(node.name + ".table" + std::to_string(k), compute.tables[k]));
  }
  const auto place = [&](BufferRef ref) -> StepArg {
    switch (ref.kind) {
      case BufferKind::kInput: return builder.Read(operands[ref.index]);
      case BufferKind::kOutput: return builder.Write(node.outputs[ref.index]);
      case BufferKind::kTemp: return {.buffer = temps[ref.index]};
      default: return {.buffer = tables[ref.index]};
    }
  };
  for (const Stage& stage : compute.stages) {
    PlanStep step = plan(compute, stage, place);
    step.label = node.name;
    builder.AddStep(std::move(step));
  }
  return OkStatus();
}

}  // namespace tessera
