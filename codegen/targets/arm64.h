// The AArch64 target: facts about a named 64-bit Arm processor, whose code is made here and checked as bytes.
//
// What is peculiar: 32 registers of 128 bits, fused multiply-adds everywhere, half floats in hardware; dot products of
// u8 and i8 from Armv8.6 on (usdot). Fixed-length vectors only: SVE's length is not known when code is made. There is
// no such machine at hand: that every op becomes code that calls nothing, with the expected instructions, is what
// that test shows; nothing has been run. Tested by codegen/arm64_test.cc.
#ifndef TESSERA_CODEGEN_TARGETS_ARM64_H_
#define TESSERA_CODEGEN_TARGETS_ARM64_H_

#include <string_view>

#include "codegen/target.h"

namespace tessera {

// `spec` is "arm64" (an Armv8.2 server core, neoverse-n1) or "arm64:CPU".
StatusOr<Target> MakeArm64Target(std::string_view spec);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TARGETS_ARM64_H_
