#include "codegen/emit/x86_assembler.h"

#include "base/status.h"

namespace tessera {
namespace {

// Opcode maps and mandatory prefixes as VEX and EVEX number them.
constexpr int kMap0F = 1, kMap0F38 = 2;
constexpr int kNoPrefix = 0, kPrefix66 = 1;

int Number(X86Register r) { return static_cast<int>(r); }

}  // namespace

void X86Assembler::Int32(int32_t value) {
  for (int shift = 0; shift < 32; shift += 8) Byte(static_cast<uint32_t>(value) >> shift & 255);
}

// Intel's manual, volume 2, 2.3 (VEX) and 2.7 (EVEX). Register bits above the low three lie in the prefix, inverted.
void X86Assembler::Prefix(int map, int prefix, int reg, int vvvv, int rm_high, bool broadcast, int opcode) {
  const int r = ~reg >> 3 & 1, r2 = ~reg >> 4 & 1, b = ~rm_high & 1, x = ~rm_high >> 1 & 1;
  if (width_ == Width::k512) {
    Byte(0x62);
    Byte(r << 7 | x << 6 | b << 5 | r2 << 4 | map);
    Byte((~vvvv & 15) << 3 | 1 << 2 | prefix);
    Byte(2 << 5 | (broadcast ? 1 : 0) << 4 | (~vvvv >> 4 & 1) << 3);
  } else if (map == kMap0F && b == 1) {
    Byte(0xc5);
    Byte(r << 7 | (~vvvv & 15) << 3 | 1 << 2 | prefix);
  } else {
    Byte(0xc4);
    Byte(r << 7 | x << 6 | b << 5 | map);
    Byte((~vvvv & 15) << 3 | 1 << 2 | prefix);
  }
  Byte(opcode);
}

void X86Assembler::Memory(int reg, X86Register base, int32_t displacement, int unit) {
  const int low = (reg & 7) << 3 | (Number(base) & 7);
  const int32_t scaled = displacement / unit;
  if (displacement == 0) {
    Byte(low);
  } else if (displacement % unit == 0 && scaled >= -128 && scaled <= 127) {
    Byte(0x40 | low);
    Byte(scaled & 255);
  } else {
    Byte(0x80 | low);
    Int32(displacement);
  }
}

void X86Assembler::Move(int opcode, int vector, X86Register base, int32_t displacement) {
  Prefix(kMap0F, kNoPrefix, vector, 0, Number(base) >> 3, false, opcode);
  Memory(vector, base, displacement, width_ == Width::k512 ? 64 : 1);
}

void X86Assembler::Register(int map, int opcode, int to, int x, int y) {
  Prefix(map, kPrefix66, to, x, y >> 3, false, opcode);
  Byte(0xc0 | (to & 7) << 3 | (y & 7));
}

void X86Assembler::Broadcast(int to, X86Register base, int32_t displacement) {
  Prefix(kMap0F38, kPrefix66, to, 0, Number(base) >> 3, false, 0x18);
  Memory(to, base, displacement, width_ == Width::k512 ? 4 : 1);
}

void X86Assembler::MultiplyAdd(int sum, int x, int w) { Register(kMap0F38, 0xb8, sum, x, w); }

void X86Assembler::MultiplyAdd(int sum, int x, X86Register base, int32_t displacement) {
  TES_CHECK(width_ == Width::k512, "vfmadd231ps with a broadcast");
  Prefix(kMap0F38, kPrefix66, sum, x, Number(base) >> 3, true, 0xb8);
  Memory(sum, base, displacement, 4);
}

void X86Assembler::DotAdd(int sum, int x, X86Register base, int32_t displacement) {
  TES_CHECK(width_ == Width::k512, "vpdpbusd with a broadcast");
  Prefix(kMap0F38, kPrefix66, sum, x, Number(base) >> 3, true, 0x50);
  Memory(sum, base, displacement, 4);
}

void X86Assembler::Arithmetic(F32Op op, int to, int x, int y) {
  Prefix(kMap0F, kNoPrefix, to, x, y >> 3, false, static_cast<int>(op));
  Byte(0xc0 | (to & 7) << 3 | (y & 7));
}

void X86Assembler::Arithmetic(F32Op op, int to, int x, X86Register base, int32_t displacement, bool broadcast) {
  TES_CHECK(!broadcast || width_ == Width::k512, "a broadcast within an operation");
  Prefix(kMap0F, kNoPrefix, to, x, Number(base) >> 3, broadcast, static_cast<int>(op));
  Memory(to, base, displacement, broadcast ? 4 : width_ == Width::k512 ? 64 : 1);
}

void X86Assembler::Fill(int to, X86Register from) {
  TES_CHECK(width_ == Width::k512, "vpbroadcastd from a general register");
  Prefix(kMap0F38, kPrefix66, to, 0, Number(from) >> 3, false, 0x7c);
  Byte(0xc0 | (to & 7) << 3 | (Number(from) & 7));
}

void X86Assembler::Zero(int vector) {
  const int opcode = width_ == Width::k512 ? 0xef : 0x57;  // vpxord, which needs no AVX512DQ; vxorps
  Prefix(kMap0F, width_ == Width::k512 ? kPrefix66 : kNoPrefix, vector, vector, vector >> 3, false, opcode);
  Byte(0xc0 | (vector & 7) << 3 | (vector & 7));
}

void X86Assembler::Copy(X86Register to, X86Register from) {
  Byte(0x48 | Number(from) >> 3 << 2 | Number(to) >> 3);
  Byte(0x89);
  Byte(0xc0 | (Number(from) & 7) << 3 | (Number(to) & 7));
}

void X86Assembler::Add(X86Register to, int32_t value) {
  Byte(0x48 | Number(to) >> 3);
  Byte(0x81);
  Byte(0xc0 | (Number(to) & 7));
  Int32(value);
}

void X86Assembler::Set(X86Register to, int32_t value) {
  if (Number(to) >= 8) Byte(0x41);
  Byte(0xb8 | (Number(to) & 7));
  Int32(value);
}

void X86Assembler::CountDown(X86Register counter, int64_t top) {
  if (Number(counter) >= 8) Byte(0x41);
  Byte(0x83);  // sub, which fuses with the jump
  Byte(0xe8 | (Number(counter) & 7));
  Byte(1);
  const auto near = top - (size() + 2);
  if (near >= -128) {
    Byte(0x75);
    Byte(static_cast<int>(near) & 255);
  } else {
    Byte(0x0f);
    Byte(0x85);
    Int32(static_cast<int32_t>(top - (size() + 4)));
  }
}

void X86Assembler::Prefetch(X86Register base, int32_t displacement) {
  if (Number(base) >= 8) Byte(0x41);
  Byte(0x0f);
  Byte(0x18);
  Memory(2, base, displacement, 1);
}

void X86Assembler::Align(int alignment) {
  while (size() % alignment != 0) Byte(0x90);
}

}  // namespace tessera
