// The x86-64 target: facts about the processor that this runs on, or about a named one.
//
// What is peculiar: three very different vector levels (SSE2, AVX2, AVX-512) behind one instruction set; features can
// be taken away (host:x86-64-v3 on an AVX-512 machine), which is how the lower levels are tested. Zen 4 executes
// 512-bit operations as two halves, one per cycle, so that 512 bits cost nothing against 256 and halve the
// instructions. Tested by codegen/target_test.cc.
#ifndef TESSERA_CODEGEN_TARGETS_X86_H_
#define TESSERA_CODEGEN_TARGETS_X86_H_

#include <string_view>

#include "codegen/target.h"

namespace tessera {

// `spec` is "host" or "host:CPU".
StatusOr<Target> MakeX86Target(std::string_view spec);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TARGETS_X86_H_
