// The target that a benchmark measures: this machine, or what the environment's TESSERA_TARGET names
// ("host:x86-64-v3"). Tested through its users.
#ifndef TESSERA_CODEGEN_EMIT_TESTING_BENCHMARK_TARGET_H_
#define TESSERA_CODEGEN_EMIT_TESTING_BENCHMARK_TARGET_H_

#include "codegen/target.h"

namespace tessera {

// The same at every call; ends the process where there is no such target. Thread-safe.
const Target& BenchmarkTarget();

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_TESTING_BENCHMARK_TARGET_H_
