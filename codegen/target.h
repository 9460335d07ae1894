// Target: the machine that kernels are written for, as facts that emitters and cost models read.
//
//   ASSIGN_OR_RETURN(Target target, MakeTarget("host"));            // this machine
//   ASSIGN_OR_RETURN(Target old, MakeTarget("host:x86-64-v3"));     // AVX2 without AVX-512
//   ASSIGN_OR_RETURN(Target arm, MakeTarget("arm64:neoverse-v1"));  // code that can be looked at, not run here
//   ASSIGN_OR_RETURN(Target h100, MakeTarget("cuda:sm_90"));        // an NVIDIA chip, present or not
//   ASSIGN_OR_RETURN(Target amd, MakeTarget("hip:gfx942"));         // an AMD chip
//   ASSIGN_OR_RETURN(Target simt, MakeTarget("simt:nvptx:sm_90"));  // its kernels, run and checked on the host
//
// Emitters never ask LLVM what the machine has; they read these fields, so a forced target behaves the same everywhere.
// Values only. Adding a target: a file in targets/ and a line in the list of target.cc. Tested by target_test.cc.
#ifndef TESSERA_CODEGEN_TARGET_H_
#define TESSERA_CODEGEN_TARGET_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace tessera {

enum class TargetKind : uint8_t { kX86, kArm64, kNvptx, kAmdgpu };

struct Target {
  TargetKind kind = TargetKind::kX86;
  std::string name;             // as the user spelled it: "host", "host:x86-64-v3", "cuda:sm_90"
  std::string device = "host";  // the driver that runs its programs (runtime/device.h)
  std::string triple;           // LLVM's
  std::string cpu;              // LLVM's -mcpu
  std::string features;         // LLVM's -mattr: "+avx2,+fma,…"
  // One vector register.
  int vector_bits = 128;
  int vector_registers = 16;
  bool has_fma = false;
  bool has_f16c = false;           // f16 <-> f32 conversions
  bool has_masked_memory = false;  // masked loads and stores of 32-bit lanes are single instructions
  bool has_avx512 = false;         // F, BW, DQ, VL together
  bool has_vnni = false;           // AVX512-VNNI with VL
  bool has_avx_vnni = false;       // the same for 256 bits without AVX-512
  bool has_vbmi = false;           // vpermb and its kin: any byte of one or two registers
  bool has_bf16 = false;           // vdpbf16ps
  bool has_i8mm = false;           // usdot
  // Caches of one core, in bytes; from the machine where it can be asked, otherwise typical values.
  int64_t l1d_bytes = 32 << 10;
  int64_t l2_bytes = 512 << 10;
  // Threads of an inference: what a step costs them is part of estimates. Code does not depend on it.
  int threads = 1;

  // Of a GPU, facts of its chip's row (targets/nvptx.cc, targets/amdgpu.cc): multiprocessors (AMD: compute units) of
  // the usual card of that chip, lanes that run together, NVIDIA's compute capability (80 is 8.0; 0 for others).
  int multiprocessors = 0;
  int wave = 32;
  int capability = 0;
  // Of a block: bytes of shared memory (AMD: LDS) and threads, at most.
  int64_t shared_bytes = 0;
  int max_threads = 1024;
  // Who multiplies small matrices in registers: nobody; a warp (mma.sync), of sm_75 in half the depth and without bf16;
  // a wave of 64 lanes (MFMA); one of 32 (WMMA). Which of these products a chip has is the table's of device ops to say
  // (targets/device_ops.h, ChipHasDeviceOp).
  enum class MatrixCores : uint8_t { kNone, kMmaOfHalfDepth, kMma, kMfma, kWmma };
  MatrixCores matrix = MatrixCores::kNone;
  bool has_async_copy = false;  // from global to shared memory, which go on by themselves (cp.async)
  bool has_warpgroups = false;  // and their products (wgmma), tensor maps, barriers in shared memory: sm_90a
  bool has_tf32 = false;        // products of f32 that round operands to 10 bits of mantissa,
  bool allow_tf32 = false;      // and whether they may be used
  // Emitters for GPUs offer every legal way of theirs and not only those that promise most: what a tuner measures, and
  // what it may have found. Code does not depend on it.
  bool whole_space = false;
  // Does a GPU start a step's blocks while the step before ends (programmatic dependent launch)?
  bool OverlapsSteps() const { return capability >= 90; }

  // A thread of a GPU works on one element where a core of a processor works on a vector.
  bool IsGpu() const { return kind == TargetKind::kNvptx || kind == TargetKind::kAmdgpu; }
  // A GPU whose kernels run on the host, thread by thread (runtime/drivers/simt_device.cc).
  bool IsEmulated() const { return device.substr(0, 4) == "simt"; }
  // Lanes of `bits`-wide elements in one vector register.
  int Lanes(int bits) const { return vector_bits < bits ? 1 : vector_bits / bits; }
  // Everything above that code depends on, for cache keys.
  std::string Key() const;
};

// "host", "host:CPU" with an LLVM processor name (x86-64, x86-64-v3, znver4, …); "arm64:CPU"; "cuda:CHIP" (sm_75,
// sm_80, sm_90, …), "cuda" for the chip of this machine; "hip:CHIP" (gfx90a, gfx942, gfx1100, …); "simt:nvptx:CHIP"
// and "simt:amdgpu:CHIP", after which ":reverse", ":random" or ":random:SEED" is the order in which threads run. With
// "+tf32" behind, an NVIDIA chip's products of f32 may round to tf32.
// kTargetUnknown lists what there is.
StatusOr<Target> MakeTarget(std::string_view spec);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TARGET_H_
