// Sums, maxima and the like over the lanes of a warp or all threads of a block, in kernels for blocks.
//
//   IrValue sum = JoinThreads(b, mine, 128, [&](IrValue x, IrValue y) { return b.ir().CreateFAdd(x, y); });
//
// Halves are exchanged by shuffles (log2 of the lanes steps), so that every thread ends up with the same bits; warps
// meet once in shared memory. All threads of the block must come together. Works on scalars of any compute type.
// Tested by gpu_rowwise_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_WARP_JOIN_H_
#define TESSERA_CODEGEN_EMIT_GPU_WARP_JOIN_H_

#include <functional>

#include "codegen/emit/kernel_builder.h"

namespace tessera {

constexpr int kWarp = 32;

// Blocks that should fit on a multiprocessor at once, for kernels of few registers: with nothing said the assembler may
// save registers at the cost of local memory. Leaves a thread up to 128 registers.
inline int BlocksPerUnit(int64_t threads) { return static_cast<int>(threads >= 512 ? 1 : 512 / threads); }

using JoinFunction = std::function<IrValue(IrValue x, IrValue y)>;

// `value` of the lane whose number differs from this one's in the bits of `mask`.
IrValue ShuffleXor(KernelBuilder& b, IrValue value, int mask);

// Joins the values of each group of `width` neighbouring lanes (a power of two up to 32); all of them get the result.
IrValue JoinLanes(KernelBuilder& b, IrValue value, int width, const JoinFunction& join);

// Joins the values of each group of `width` neighbouring threads: a power of two up to 32, or all threads of the block,
// a power of two. The latter takes a piece of shared memory and one barrier each time.
IrValue JoinThreads(KernelBuilder& b, IrValue value, int width, const JoinFunction& join);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_WARP_JOIN_H_
