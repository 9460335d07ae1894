// Every instruction with every register and displacements on both sides of each limit, read back by LLVM's
// disassembler.
#include "codegen/emit/x86_assembler.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/status.h"
#include "llvm-c/Disassembler.h"
#include "llvm-c/Target.h"

namespace tessera {
namespace {

// The instructions in `code` as Intel's syntax has them, blanks and memory operands' sizes normalised.
std::vector<std::string> Disassemble(const std::string& code) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86Disassembler();
  LLVMDisasmContextRef context =
      LLVMCreateDisasmCPU("x86_64-unknown-linux-gnu", "znver4", nullptr, 0, nullptr, nullptr);
  LLVMSetDisasmOptions(context, LLVMDisassembler_Option_AsmPrinterVariant);
  std::vector<std::string> lines;
  std::vector<uint8_t> bytes(code.begin(), code.end());
  for (size_t at = 0; at < bytes.size();) {
    char text[200];
    const size_t length = LLVMDisasmInstruction(context, bytes.data() + at, bytes.size() - at, at, text, sizeof(text));
    if (length == 0) {
      lines.push_back("invalid");
      break;
    }
    std::string line(text);
    for (size_t k = 0; k < line.size(); ++k) {
      if (line[k] == '\t') line[k] = ' ';
    }
    lines.push_back(line.substr(line.find_first_not_of(' ')));
    at += length;
  }
  LLVMDisasmDispose(context);
  return lines;
}

constexpr X86Register kBases[] = {X86Register::kRax, X86Register::kRcx, X86Register::kRdx, X86Register::kRsi,
                                  X86Register::kRdi, X86Register::kR8,  X86Register::kR9};
const char* const kNames[] = {"rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9"};
constexpr int32_t kDisplacements[] = {0,    4,    64,   -64,  124,   128,   -128, -132,    508,       512,
                                      -512, -516, 8128, 8192, -8192, -8256, 100,  1 << 20, -(1 << 20)};

std::string Address(int base, int32_t displacement) {
  std::string text = std::string("[") + kNames[base];
  if (displacement != 0) text += (displacement < 0 ? " - " : " + ") + std::to_string(std::abs(displacement));
  return text + "]";
}

class X86AssemblerTest : public testing::TestWithParam<X86Assembler::Width> {
 protected:
  bool wide() const { return GetParam() == X86Assembler::Width::k512; }
  int registers() const { return wide() ? 32 : 16; }
  std::string Vector(int number) const { return (wide() ? "zmm" : "ymm") + std::to_string(number); }
  void Expect(const std::vector<std::string>& expected) { EXPECT_EQ(Disassemble(code_.bytes()), expected); }

  X86Assembler code_{GetParam()};
};

TEST_P(X86AssemblerTest, LoadsAndStores) {
  std::vector<std::string> expected;
  const std::string size = wide() ? "zmmword ptr " : "ymmword ptr ";
  for (int vector = 0; vector < registers(); ++vector) {
    for (int base = 0; base < 7; ++base) {
      for (int32_t displacement : kDisplacements) {
        code_.Load(vector, kBases[base], displacement);
        expected.push_back("vmovups " + Vector(vector) + ", " + size + Address(base, displacement));
        code_.Store(vector, kBases[base], displacement);
        expected.push_back("vmovups " + size + Address(base, displacement) + ", " + Vector(vector));
      }
    }
  }
  Expect(expected);
}

TEST_P(X86AssemblerTest, ProductsWithMemory) {
  std::vector<std::string> expected;
  for (int sum = 0; sum < registers(); ++sum) {
    for (int base = 0; base < 7; ++base) {
      for (int32_t displacement : kDisplacements) {
        const int x = (sum * 7 + base) % registers();
        if (wide()) {
          code_.MultiplyAdd(sum, x, kBases[base], displacement);
          expected.push_back("vfmadd231ps " + Vector(sum) + ", " + Vector(x) + ", dword ptr " +
                             Address(base, displacement) + "{1to16}");
          code_.DotAdd(sum, x, kBases[base], displacement);
          expected.push_back("vpdpbusd " + Vector(sum) + ", " + Vector(x) + ", dword ptr " +
                             Address(base, displacement) + "{1to16}");
        }
        code_.Broadcast(sum, kBases[base], displacement);
        expected.push_back("vbroadcastss " + Vector(sum) + ", dword ptr " + Address(base, displacement));
      }
    }
  }
  Expect(expected);
}

TEST_P(X86AssemblerTest, ProductsOfRegistersAndZeros) {
  std::vector<std::string> expected;
  for (int sum = 0; sum < registers(); ++sum) {
    for (int x = 0; x < registers(); ++x) {
      const int w = (sum + 3 * x) % registers();
      code_.MultiplyAdd(sum, x, w);
      const std::string operands = Vector(sum) + ", " + Vector(x) + ", " + Vector(w);
      expected.push_back("vfmadd231ps " + operands);
      code_.MultiplyPairs(sum, x, w);
      expected.push_back("vpmaddwd " + operands);
      code_.AddInt32(sum, x, w);
      expected.push_back("vpaddd " + operands);
    }
    code_.Zero(sum);
    expected.push_back((wide() ? "vpxord " : "vxorps ") + Vector(sum) + ", " + Vector(sum) + ", " + Vector(sum));
  }
  Expect(expected);
}

TEST_P(X86AssemblerTest, Arithmetic) {
  using Op = X86Assembler::F32Op;
  constexpr std::pair<Op, const char*> kOps[] = {{Op::kAdd, "vaddps "},
                                                 {Op::kMul, "vmulps "},
                                                 {Op::kSub, "vsubps "},
                                                 {Op::kMin, "vminps "},
                                                 {Op::kMax, "vmaxps "}};
  std::vector<std::string> expected;
  for (const auto& [op, name] : kOps) {
    for (int to = 0; to < registers(); ++to) {
      const int x = (to * 5 + 2) % registers(), y = (to * 3 + 1) % registers(), base = to % 7;
      const std::string start = name + Vector(to) + ", " + Vector(x) + ", ";
      code_.Arithmetic(op, to, x, y);
      expected.push_back(start + Vector(y));
      for (int32_t displacement : kDisplacements) {
        code_.Arithmetic(op, to, x, kBases[base], displacement, false);
        expected.push_back(start + (wide() ? "zmmword ptr " : "ymmword ptr ") + Address(base, displacement));
        if (!wide()) continue;
        code_.Arithmetic(op, to, x, kBases[base], displacement, true);
        expected.push_back(start + "dword ptr " + Address(base, displacement) + "{1to16}");
      }
    }
  }
  Expect(expected);
}

TEST_P(X86AssemblerTest, FillsFromAGeneralRegister) {
  if (!wide()) GTEST_SKIP() << "EVEX only";
  std::vector<std::string> expected;
  for (int to = 0; to < registers(); ++to) {
    code_.Set(X86Register::kRax, 0x40c00000);
    code_.Fill(to, X86Register::kRax);
    code_.Fill(to, X86Register::kR9);
    expected.push_back("mov eax, 1086324736");
    expected.push_back("vpbroadcastd " + Vector(to) + ", eax");
    expected.push_back("vpbroadcastd " + Vector(to) + ", r9d");
  }
  Expect(expected);
}

TEST_P(X86AssemblerTest, Addresses) {
  std::vector<std::string> expected;
  for (int to = 0; to < 7; ++to) {
    for (int from = 0; from < 7; ++from) {
      code_.Copy(kBases[to], kBases[from]);
      expected.push_back(std::string("mov ") + kNames[to] + ", " + kNames[from]);
    }
    code_.Add(kBases[to], 1024);
    expected.push_back(std::string("add ") + kNames[to] + ", 1024");
    code_.Add(kBases[to], -70000);
    expected.push_back(std::string("add ") + kNames[to] + ", -70000");
  }
  code_.Return();
  expected.push_back("ret");
  Expect(expected);
}

TEST_P(X86AssemblerTest, LoopsCountDown) {
  std::vector<std::string> expected;
  const char* const low[] = {"eax", "ecx", "edx", "esi", "edi", "r8d", "r9d"};
  for (int counter = 0; counter < 7; ++counter) {
    for (const int body : {1, 50}) {  // a near jump and a far one
      code_.Set(kBases[counter], 1000 + body);
      expected.push_back(std::string("mov ") + low[counter] + ", " + std::to_string(1000 + body));
      const int64_t top = code_.size();
      for (int k = 0; k < body; ++k) {
        code_.Zero(1);
        expected.push_back((wide() ? "vpxord " : "vxorps ") + Vector(1) + ", " + Vector(1) + ", " + Vector(1));
      }
      code_.CountDown(kBases[counter], top);
      expected.push_back(std::string("sub ") + low[counter] + ", 1");
      // The disassembler prints the distance from the next instruction.
      expected.push_back("jne " + std::to_string(top - code_.size()));
    }
  }
  Expect(expected);
}

TEST_P(X86AssemblerTest, Prefetches) {
  std::vector<std::string> expected;
  for (int base = 0; base < 7; ++base) {
    for (int32_t displacement : kDisplacements) {
      code_.Prefetch(kBases[base], displacement);
      expected.push_back("prefetcht1 byte ptr " + Address(base, displacement));
    }
  }
  Expect(expected);
}

TEST_P(X86AssemblerTest, NearOperandsAreShort) {
  if (!wide()) GTEST_SKIP() << "VEX does not scale displacements";
  code_.MultiplyAdd(30, 31, X86Register::kRsi, -512);
  EXPECT_EQ(code_.size(), 7);
  code_.Load(31, X86Register::kRdi, 127 * 64);
  EXPECT_EQ(code_.size(), 14);
  code_.Align(64);
  EXPECT_EQ(code_.size(), 64);
}

INSTANTIATE_TEST_SUITE_P(Widths, X86AssemblerTest,
                         testing::Values(X86Assembler::Width::k256, X86Assembler::Width::k512));

}  // namespace
}  // namespace tessera
