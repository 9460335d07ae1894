#include "codegen/emit/widen.h"

#include <algorithm>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "codegen/emit/kernel_builder.h"

namespace tessera {
namespace {

constexpr int64_t kElements = 4096;  // of a task

}  // namespace

StepArg PlanWords(ValueId x, PlanBuilder& builder) {
  const Value& value = builder.graph()[x];
  const DType type = value.type.dtype;
  const int64_t elements = value.type.shape.num_elements();
  const int lanes = builder.target().Lanes(16);
  bool made = false;
  StepArg to = {.writes = true};
  to.buffer = builder.TempOnce(internal::Join("words of value ", static_cast<int>(x)), value.name + ".words",
                               ByteSize(DType::kI16, elements), &made);
  if (!made) return {.buffer = to.buffer};
  PlanStep step;
  step.kernel.family = "widen";
  step.kernel.num_args = 2;
  step.kernel.key = internal::Join("widen ", Name(type), " ", elements);
  step.kernel.emit = [type, elements, lanes](KernelBuilder& b) {
    auto& ir = b.ir();
    const auto times = [&](IrValue task) { return ir.CreateMul(task, b.I64(kElements), "", true, true); };
    IrValue first = times(b.begin()), end = times(b.end());
    end = ir.CreateSelect(ir.CreateICmpSLT(end, b.I64(elements)), end, b.I64(elements));
    IrValue rest = ir.CreateURem(ir.CreateSub(end, first), b.I64(lanes)), whole = ir.CreateSub(end, rest);
    const auto copy = [&](IrValue k, int count) {
      b.Store(b.arg(1), k, DType::kI16, b.Load(b.arg(0), k, type, count));
    };
    b.For("vector", first, whole, lanes, [&](IrValue k) { copy(k, lanes); });
    b.For("element", whole, end, 1, [&](IrValue k) { copy(k, 1); });
  };
  step.args = {builder.Read(x), to};
  step.tasks = DivideUp(elements, kElements);
  step.bytes = static_cast<double>(ByteSize(type, elements) + ByteSize(DType::kI16, elements));
  step.label = value.name;
  builder.AddStep(std::move(step));
  return {.buffer = to.buffer};
}

double WordsMicroseconds(int64_t elements, const Target& target) {
  const MachineModel machine(target);
  // A byte in, two out, and these in again, by the second-level cache; a load, a conversion and a store a vector.
  const double vectors = static_cast<double>(DivideUp(elements, target.Lanes(16)));
  const double ns = std::max(vectors * 3 * machine.op_ns, static_cast<double>(elements) * 3 / machine.l2_bytes_per_ns);
  return (machine.Shared(ns, DivideUp(elements, kElements)) + machine.step_ns) / 1000;
}

}  // namespace tessera
