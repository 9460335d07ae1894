// RunsOn: can a processor run what was compiled for another one, or for a level of them?
//
//   RunsOn(*MakeTarget("host:x86-64-v3"), *MakeTarget("host"))          // has this machine AVX2 and FMA?
//
// Pure function. Tested by engine/choose_program_test.cc.
#ifndef TESSERA_CODEGEN_RUNS_ON_H_
#define TESSERA_CODEGEN_RUNS_ON_H_

#include "codegen/target.h"

namespace tessera {

// Has `machine` every instruction set that LLVM would use for `program`? Both are x86 processors.
bool RunsOn(const Target& program, const Target& machine);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_RUNS_ON_H_
