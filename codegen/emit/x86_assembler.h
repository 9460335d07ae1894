// X86Assembler: machine code for the few instructions that long straight sparse streams are made of.
//
//   X86Assembler code(X86Assembler::Width::k512);
//   code.Load(31, kRdi, 64 * column);                     // vmovups zmm31, [rdi + 64 * column]
//   code.MultiplyAdd(row, 31, kRsi, 4 * i);               // vfmadd231ps zmm_row, zmm31, dword [rsi + 4 * i]{1to16}
//   code.Return();
//
// Why not LLVM: such a stream is one basic block of 10^4 to 10^6 instructions whose registers and order are decided
// already. SelectionDAG takes 60-75 us an instruction and is quadratic beyond a few thousand in a block (12.5 s for
// 82 000), and its scheduler undoes the order, so that sums spill; inline assembly through LLVM's parser takes 2-3 us
// an instruction; writing the bytes takes some nanoseconds (encode_ns_per_instruction of scattered_benchmark). What
// cannot be had otherwise at all are the short displacements: EVEX scales its one-byte displacement by the size of
// what is loaded, so that with a base that moves along an instruction has 7 bytes rather than 10, and code is what a
// stream reads most of.
//
// The bytes become the prologue data of an LLVM function (KernelBuilder::MachineCode), hence land in the same object
// as all other kernels and need no relocation. Compared with LLVM's disassembler, instruction by instruction, in
// x86_assembler_test.cc. Thread-compatible.
#ifndef TESSERA_CODEGEN_EMIT_X86_ASSEMBLER_H_
#define TESSERA_CODEGEN_EMIT_X86_ASSEMBLER_H_

#include <cstdint>
#include <string>

namespace tessera {

// General registers that may be bases here: caller-saved ones of the System V ABI whose encoding as a base is regular.
enum class X86Register : uint8_t { kRax = 0, kRcx = 1, kRdx = 2, kRsi = 6, kRdi = 7, kR8 = 8, kR9 = 9 };

class X86Assembler {
 public:
  // k256: VEX encodings, registers ymm0-15. k512: EVEX encodings, registers zmm0-31.
  enum class Width : uint8_t { k256, k512 };
  explicit X86Assembler(Width width) : width_(width) {}

  // Whole vectors, unaligned.
  void Load(int to, X86Register base, int32_t displacement) { Move(0x10, to, base, displacement); }
  void Store(int from, X86Register base, int32_t displacement) { Move(0x11, from, base, displacement); }
  // All lanes = the 32 bits at [base + displacement].
  void Broadcast(int to, X86Register base, int32_t displacement);
  // sum += x * w
  void MultiplyAdd(int sum, int x, int w);
  // sum += x * the f32 at [base + displacement], in all lanes. k512 only.
  void MultiplyAdd(int sum, int x, X86Register base, int32_t displacement);
  // sum += the products of x's unsigned and memory's signed bytes, four to a lane. k512 only, AVX512-VNNI.
  void DotAdd(int sum, int x, X86Register base, int32_t displacement);
  // to = the products of x's and w's signed 16-bit numbers, pairs added up. Never saturates below 2^31.
  void MultiplyPairs(int to, int x, int w) { Register(1, 0xf5, to, x, w); }
  void AddInt32(int to, int x, int y) { Register(1, 0xfe, to, x, y); }
  // to = x op y, f32. Where either is a NaN, min and max give y.
  enum class F32Op : uint8_t { kAdd = 0x58, kMul = 0x59, kSub = 0x5c, kMin = 0x5d, kMax = 0x5f };
  void Arithmetic(F32Op op, int to, int x, int y);
  // y is a vector at [base + displacement], or with `broadcast` (k512 only) the f32 there in all lanes.
  void Arithmetic(F32Op op, int to, int x, X86Register base, int32_t displacement, bool broadcast);
  // All lanes = a general register's low 32 bits. k512 only.
  void Fill(int to, X86Register from);
  void Zero(int vector);
  void Copy(X86Register to, X86Register from);
  void Add(X86Register to, int32_t value);
  // Its low 32 bits; the others become zero.
  void Set(X86Register to, int32_t value);
  // counter -= 1 (32 bits); if that leaves anything, back to `top`, an earlier size().
  void CountDown(X86Register counter, int64_t top);
  // Asks for the cache line at [base + displacement], to be in the second level soon. Never faults.
  void Prefetch(X86Register base, int32_t displacement);
  void Return() { Byte(0xc3); }

  // No-operations up to the next multiple of `alignment`.
  void Align(int alignment);

  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  const std::string& bytes() const { return bytes_; }
  std::string TakeBytes() { return std::move(bytes_); }

 private:
  void Byte(int value) { bytes_.push_back(static_cast<char>(value)); }
  void Int32(int32_t value);
  void Move(int opcode, int vector, X86Register base, int32_t displacement);
  // ModRM and displacement of a memory operand; a one-byte displacement counts in units of `unit`.
  void Memory(int reg, X86Register base, int32_t displacement, int unit);
  // to = x op y, all registers, with the prefix 66.
  void Register(int map, int opcode, int to, int x, int y);
  // Everything before ModRM. `rm_high`: bits 3 and 4 of the operand in ModRM's rm (of a base: bit 3).
  void Prefix(int map, int prefix, int reg, int vvvv, int rm_high, bool broadcast, int opcode);

  Width width_;
  std::string bytes_;
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_X86_ASSEMBLER_H_
