// The cores of matmul_core.h for AMD's matrix cores: MFMA over waves of 64 lanes, WMMA over waves of 32.
//
//   for step of this slice:                          # 64 bytes of the depth; WMMA 32, of bytes 16
//     a[i] = words of row (lane % 16) of block row i, b[j] likewise of columns         # MFMA: a fourth of the step
//     each sums[i, j] += a[i] · b[j]                      # 16x16, one product for each two, four or eight words
//
// Both operands have the step's depth in the same order, whatever that is, so that a lane reads pieces of 16 bytes as
// they lie. Which product a chip has for what types is the table's of device ops to say. MFMA's bytes are signed: of
// unsigned ones 128 less is multiplied, and what that leaves out added, as the sums of the other operand times 128,
// which are products with rows or columns of 64 (128 is no signed byte), twice.
//
// Tested by gpu_matmul_test.cc, codegen/amdgpu_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_WAVE_CORE_H_
#define TESSERA_CODEGEN_EMIT_GPU_WAVE_CORE_H_

#include <memory>
#include <string>

#include "codegen/emit/gpu/matmul_core.h"

namespace tessera {

// The device op that multiplies operands of these types on the target; empty where its chip has none.
std::string WaveProduct(DType a, DType b, const Target& target);

std::unique_ptr<MatmulCore> MakeWaveCore(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a,
                                         const TileOperand& bt);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_WAVE_CORE_H_
