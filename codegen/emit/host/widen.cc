#include "codegen/emit/host/widen.h"

#include <algorithm>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "codegen/emit/kernel_builder.h"

namespace tessera {
namespace {

constexpr int64_t kElements = 4096;  // of a task

}  // namespace

StepArg PlanWidened(ValueId x, DType to_type, PlanBuilder& builder) {
  const Value& value = builder.graph()[x];
  const DType type = value.type.dtype;
  const int64_t elements = value.type.shape.num_elements();
  const int lanes = builder.target().Lanes(TypeInfo(to_type).bits);
  bool made = false;
  StepArg to = {.writes = true};
  to.buffer = builder.TempOnce(internal::Join(Name(to_type), " of value ", static_cast<int>(x)),
                               internal::Join(value.name, ".", Name(to_type)), ByteSize(to_type, elements), &made);
  if (!made) return {.buffer = to.buffer};
  PlanStep step;
  step.kernel.family = "widen";
  step.kernel.num_args = 2;
  step.kernel.key = internal::Join("widen ", Name(type), " to ", Name(to_type), " ", elements);
  step.kernel.emit = [type, to_type, elements, lanes](KernelBuilder& b) {
    auto& ir = b.ir();
    const auto times = [&](IrValue task) { return ir.CreateMul(task, b.I64(kElements), "", true, true); };
    IrValue first = times(b.begin()), end = times(b.end());
    end = ir.CreateSelect(ir.CreateICmpSLT(end, b.I64(elements)), end, b.I64(elements));
    IrValue rest = ir.CreateURem(ir.CreateSub(end, first), b.I64(lanes)), whole = ir.CreateSub(end, rest);
    const auto copy = [&](IrValue k, int count) {
      IrValue x = b.Load(b.arg(0), k, type, count);
      if (IsFloat(to_type)) x = ir.CreateSIToFP(x, b.VectorType(to_type, count));
      b.Store(b.arg(1), k, to_type, x);
    };
    b.For("vector", first, whole, lanes, [&](IrValue k) { copy(k, lanes); });
    b.For("element", whole, end, 1, [&](IrValue k) { copy(k, 1); });
  };
  step.args = {builder.Read(x), to};
  step.tasks = DivideUp(elements, kElements);
  step.bytes = static_cast<double>(ByteSize(type, elements) + ByteSize(to_type, elements));
  step.label = value.name;
  builder.AddStep(std::move(step));
  return {.buffer = to.buffer};
}

double WidenMicroseconds(int64_t elements, DType to, const Target& target) {
  const MachineModel machine(target);
  // A byte in and two or four out by the second-level cache; a load, a conversion and a store a vector.
  const double vectors = static_cast<double>(DivideUp(elements, target.Lanes(TypeInfo(to).bits)));
  const double ns = std::max(vectors * 3 * machine.op_ns,
                             static_cast<double>(elements + ByteSize(to, elements)) / machine.l2_bytes_per_ns);
  return (machine.Shared(ns, DivideUp(elements, kElements)) + machine.step_ns) / 1000;
}

}  // namespace tessera
