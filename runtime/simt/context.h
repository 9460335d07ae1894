// SimtContext: what a GPU's kernel sees of the machine when it runs on the host.
//
// The target simt compiles the IR that a chip would get to host code in which every device op, and the check before
// every access to memory, is a call through this struct (codegen/targets/emulate.h writes it, block.h fills it in). A
// kernel becomes
//
//   void kernel(SimtContext* context, const uint64_t* params)         // one call is one thread; params as on the
//   device
//
// Its image defines, beside the kernels, kSimtOpsSymbol: the names of the device ops that it calls, each ended by a
// zero byte, after the last one another zero. Op k of that list is called as
//
//   context->ops[k](context, site, operands, results)                 // 8 bytes for each operand and result
//
// where `site` is a text, at an address of its own for each place in the kernel, that says where in the kernel it is.
// The layout is an interface between compiled code and runtime: append only. Tested by block_test.cc and by
// codegen/simt_test.cc.
#ifndef TESSERA_RUNTIME_SIMT_CONTEXT_H_
#define TESSERA_RUNTIME_SIMT_CONTEXT_H_

#include <cstddef>
#include <cstdint>

namespace tessera {

struct SimtContext;

using SimtKernel = void (*)(SimtContext* context, const uint64_t* params);
using SimtStandIn = void (*)(SimtContext* context, const char* site, const uint64_t* operands, uint64_t* results);

struct SimtContext {
  const SimtStandIn* ops = nullptr;
  // Called before `address` is accessed as SimtAccess says; does not return where that is not allowed.
  void (*check)(SimtContext* context, const char* site, const void* address, uint64_t access) = nullptr;
  std::byte* shared = nullptr;  // the block's shared memory
};

inline constexpr const char* kSimtOpsSymbol = "tessera_simt_ops";
// The block's shared memory starts at a multiple of this.
inline constexpr int64_t kSimtSharedAlign = 1024;

// An access: how many bytes, how aligned the address must be, and which kind, in one number.
struct SimtAccess {
  uint32_t bytes = 0;
  uint8_t align_log2 = 0;
  bool stores = false, atomic = false;
  bool shared = false;  // in shared memory for certain; otherwise anywhere

  uint64_t Encode() const {
    return bytes | static_cast<uint64_t>(align_log2) << 32 | static_cast<uint64_t>(stores) << 40 |
           static_cast<uint64_t>(atomic) << 41 | static_cast<uint64_t>(shared) << 42;
  }
  static SimtAccess Decode(uint64_t code) {
    return {.bytes = static_cast<uint32_t>(code),
            .align_log2 = static_cast<uint8_t>(code >> 32),
            .stores = (code >> 40 & 1) != 0,
            .atomic = (code >> 41 & 1) != 0,
            .shared = (code >> 42 & 1) != 0};
  }
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_SIMT_CONTEXT_H_
