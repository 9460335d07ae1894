// MeasurePeakFlops: what a core's multiply-add units can do, measured: the yardstick of the benchmarks.
//
//   MeasurePeakFlops(target)                                              f32
//   MeasurePeakFlops(target, *Dot::Choose(target, DType::kU8, DType::kI8, &why))      vpdpbusd where the target has it
//
// Tested through its users: codegen/emit/host/matmul_benchmark.cc, codegen/emit/host/scattered_benchmark.cc.
#ifndef TESSERA_CODEGEN_EMIT_TESTING_PEAK_FLOPS_H_
#define TESSERA_CODEGEN_EMIT_TESTING_PEAK_FLOPS_H_

#include "codegen/emit/dot.h"
#include "codegen/target.h"

namespace tessera {

// Multiply-adds of `dot`'s elements a second, times two, on one core of this machine with what `target` has: a loop of
// nothing but its instruction. Takes tens of milliseconds.
double MeasurePeakFlops(const Target& target, const Dot& dot = {});

// The same of u8 times i8.
double MeasurePeakInt8(const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_TESTING_PEAK_FLOPS_H_
