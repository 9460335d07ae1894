// Emulate: the module that a GPU's back end would get becomes one for the host, whose functions are threads.
//
//   define ptx_kernel void @k(ptr %x)          define void @k(ptr %context, ptr %params)
//     %t = call i32 @tessera.gpu.thread_id.x()   …load the op's stand-in from %context, and call it with slots for
//     operands store float 1.0, ptr %p                    …ask %context whether 4 bytes at %p may be stored, then
//                                                store float 1.0, ptr %p
//
// For the target simt. Emitters, builders and the middle end are those of the chip; only this pass and the host's back
// end differ, so what runs is what the chip would run up to the selection of instructions. The interface of the result
// is runtime/simt/context.h. Shared memory is the context's; pointers of all address spaces are addresses of the host.
// Every access to memory but those to the thread's own stack and to constants of the module is checked first, for its
// bounds, its alignment and who else touched it. Tested by codegen/simt_test.cc.
#ifndef TESSERA_CODEGEN_TARGETS_EMULATE_H_
#define TESSERA_CODEGEN_TARGETS_EMULATE_H_

#include "base/status.h"
#include "codegen/target.h"
#include "llvm/IR/Module.h"

namespace tessera {

// `target` is the chip, `host` the machine with its data layout. kInternal for device ops that are not in the table or
// have no stand-in, and for what only a back end for GPUs could lower.
Status Emulate(llvm::Module& module, const Target& target, const Target& host, const llvm::DataLayout& host_layout);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TARGETS_EMULATE_H_
