// MeasurePeakFlops: what a core's multiply-add units can do, measured: the yardstick of the benchmarks.
// Tested through its users: codegen/emit/matmul_benchmark.cc, codegen/emit/scattered_benchmark.cc.
#ifndef TESSERA_CODEGEN_EMIT_TESTING_PEAK_FLOPS_H_
#define TESSERA_CODEGEN_EMIT_TESTING_PEAK_FLOPS_H_

#include "codegen/target.h"

namespace tessera {

// Multiply-adds of f32 vectors a second, times two, on one core of this machine with what `target` has. Takes tens of
// milliseconds.
double MeasurePeakFlops(const Target& target);

// The same of u8 times i8, as int8_dot.h multiplies them.
double MeasurePeakInt8(const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_TESTING_PEAK_FLOPS_H_
