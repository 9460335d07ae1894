// Tests the table of device ops (codegen/targets/device_ops.def): every row becomes instructions of each chip that has
// it and has a stand-in, and what a row does not say is an error that names kernel and op. What the ops compute:
// runtime/simt's tests.
#include "codegen/targets/device_ops.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/emit/kernel_builder.h"
#include "codegen/llvm_module.h"
#include "codegen/testing/device_op_probe.h"
#include "gtest/gtest.h"
#include "runtime/simt/stand_ins.h"

namespace tessera {
namespace {

// PTX for an NVIDIA chip, assembly of an AMD one.
StatusOr<std::string> Ptx(const std::string& chip, const KernelSpec& spec) {
  ASSIGN_OR_RETURN(const Target target, MakeTarget((chip[0] == 'g' ? "hip:" : "cuda:") + chip));
  const KernelSpec* const specs[] = {&spec};
  const std::string symbols[] = {"probe"};
  ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, CompileKernels(specs, symbols, target, CodeForm::kAssembly));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

StatusOr<std::string> Ptx(const std::string& chip, const std::function<void(KernelBuilder&)>& emit) {
  KernelSpec spec;
  spec.family = "probe";
  spec.num_args = 1;
  spec.emit = emit;
  return Ptx(chip, spec);
}

TEST(DeviceOpsTest, EveryRowBecomesInstructionsOfEveryChipThatHasIt) {
  for (const DeviceOpRow& row : AllDeviceOps()) {
    int chips = 0;
    for (const std::string chip :
         {"sm_75", "sm_80", "sm_90", "sm_90a", "gfx906", "gfx908", "gfx90a", "gfx942", "gfx1100"}) {
      const StatusOr<std::string> text = Ptx(chip, DeviceOpProbe(row));
      EXPECT_EQ(text.ok(), ChipHasDeviceOp(row.name, *MakeTarget((chip[0] == 'g' ? "hip:" : "cuda:") + chip)));
      if (text.status().code() == ErrorCode::kTargetUnsupported) {
        for (std::string_view part : {row.chip, std::string_view(chip)}) {
          EXPECT_NE(std::string::npos, text.status().message().find(part)) << text.status();
        }
        continue;
      }
      ASSERT_TRUE(text.ok()) << chip << " " << row.name << ": " << text.status();
      EXPECT_EQ(std::string::npos, text->find("tessera.")) << row.name << *text;
      if (row.name.substr(0, 4) == "amd.") {
        EXPECT_NE(std::string::npos, text->find("v_" + std::string(row.name.substr(4, 4)) + "_")) << row.name << *text;
      } else if (!row.constraints.empty() && chip[0] == 's') {
        EXPECT_NE(std::string::npos, text->find(row.text.substr(0, row.text.find_first_of(" ;")))) << row.name;
      }
      ++chips;
    }
    EXPECT_GT(chips, 0) << row.name;
  }
}

TEST(DeviceOpsTest, NamesAreUniqueAndHaveStandIns) {
  for (const DeviceOpRow& row : AllDeviceOps()) {
    EXPECT_EQ(&row, FindDeviceOp(row.name)) << row.name;
    EXPECT_NE(nullptr, FindSimtStandIn(row.name)) << row.name;
    const std::string_view of = row.name.substr(0, row.name.find('.'));
    EXPECT_TRUE(of == "gpu" || of == "nv" || of == "amd") << row.name;
  }
  for (std::string_view name : SimtStandInNames()) EXPECT_NE(nullptr, FindDeviceOp(name)) << name;
}

TEST(DeviceOpsTest, MisspeltNamesAreNamedWithWhatWasMeant) {
  const StatusOr<std::string> text = Ptx("sm_80", [](KernelBuilder& b) {
    const IrValues f(4, b.Constant(DType::kF32, 0)), i(6, b.ir().getInt32(0));
    IrValues operands = i;
    operands.insert(operands.end(), f.begin(), f.end());
    IrValue d = DeviceOp(b, "nv.mma.m16n8k16.f32.fp16", operands);
    b.ir().CreateStore(b.ir().CreateExtractValue(d, 3), b.arg(0));
  });
  EXPECT_EQ(ErrorCode::kInternal, text.status().code());
  for (const char* part : {"kernel 'probe'", "nv.mma.m16n8k16.f32.fp16", "did you mean 'nv.mma.m16n8k16.f32.f16'"}) {
    EXPECT_NE(std::string::npos, text.status().message().find(part)) << text.status();
  }
}

TEST(DeviceOpsTest, WrongTypesAndMissingConstantsAreNamed) {
  const StatusOr<std::string> types = Ptx("sm_80", [](KernelBuilder& b) {
    b.ir().CreateStore(DeviceOp(b, "gpu.shuffle_xor", {b.Constant(DType::kF32, 1), b.ir().getInt32(16)}), b.arg(0));
  });
  EXPECT_NE(std::string::npos, types.status().message().find("expected i32 (i32, i32), found i32 (float, i32)"))
      << types.status();
  const StatusOr<std::string> constant = Ptx("sm_80", [](KernelBuilder& b) {
    DeviceOp(b, "nv.cp_async.wait", {b.ir().CreateLoad(b.ir().getInt32Ty(), b.arg(0))});
  });
  EXPECT_NE(std::string::npos, constant.status().message().find("expected a constant as operand 0"))
      << constant.status();
}

// LLVM ends the process where it cannot select an instruction: the table refuses before.
TEST(DeviceOpsTest, WhatAChipLacksIsNamedWithOpAndChip) {
  const auto ballot = [](KernelBuilder& b) {
    b.ir().CreateStore(DeviceOp(b, "nv.ballot", {b.ir().getTrue()}), b.arg(0));
  };
  const auto mfma = [](KernelBuilder& b) {
    IrValues operands(2, b.ir().getInt32(0));
    operands.resize(6, b.ir().getInt32(1));
    b.ir().CreateStore(b.ir().CreateExtractValue(DeviceOp(b, "amd.mfma.s32.16x16x16.s8", operands), 3), b.arg(0));
  };
  const struct {
    const char* chip;
    std::function<void(KernelBuilder&)> emit;
    std::vector<const char*> parts;
  } kCases[] = {
      {"gfx942", ballot, {"kernel 'probe'", "'nv.ballot'", "expected sm_75 or newer", "found gfx942"}},
      {"gfx1100", ballot, {"kernel 'probe'", "'nv.ballot'", "found gfx1100"}},
      {"gfx942", mfma, {"'amd.mfma.s32.16x16x16.s8'", "expected one of gfx908 gfx90a", "found gfx942"}},
      {"gfx906", mfma, {"'amd.mfma.s32.16x16x16.s8'", "found gfx906"}},
      {"sm_90a", mfma, {"'amd.mfma.s32.16x16x16.s8'", "expected one of gfx908 gfx90a", "found sm_90a"}},
  };
  for (const auto& c : kCases) {
    const StatusOr<std::string> text = Ptx(c.chip, c.emit);
    EXPECT_EQ(ErrorCode::kTargetUnsupported, text.status().code()) << c.chip;
    for (const char* part : c.parts) EXPECT_NE(std::string::npos, text.status().message().find(part)) << text.status();
  }
  EXPECT_TRUE(Ptx("gfx90a", mfma).ok());
}

TEST(DeviceOpsTest, IntrinsicsOfChipsGoThroughTheTable) {
  for (const char* chip : {"gfx906", "sm_80"}) {
    const StatusOr<std::string> text = Ptx(chip, [](KernelBuilder& b) {
      llvm::FunctionType* type = llvm::FunctionType::get(b.ir().getInt32Ty(), false);
      IrValue id = b.ir().CreateCall(b.module().getOrInsertFunction("llvm.amdgcn.workitem.id.x", type));
      b.ir().CreateStore(id, b.arg(0));
    });
    EXPECT_NE(std::string::npos, text.status().message().find("calls 'llvm.amdgcn.workitem.id.x' itself"))
        << text.status();
  }
}

TEST(DeviceOpsTest, AnIntrinsicThatLlvmLacksIsNamed) {
  const StatusOr<std::string> text = Ptx("sm_80", [](KernelBuilder& b) {
    llvm::FunctionType* type = llvm::FunctionType::get(b.ir().getInt32Ty(), false);
    b.ir().CreateStore(b.ir().CreateCall(b.module().getOrInsertFunction("llvm.nvvm.nosuch", type)), b.arg(0));
  });
  EXPECT_NE(std::string::npos, text.status().message().find("llvm.nvvm.nosuch")) << text.status();
}

}  // namespace
}  // namespace tessera
