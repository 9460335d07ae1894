// Tests the table of device ops (codegen/targets/device_ops.def): every row becomes instructions of each chip that has
// it and has a stand-in, and what a row does not say is an error that names kernel and op. What the ops compute:
// runtime/simt's tests.
#include "codegen/targets/device_ops.h"

#include <string>
#include <vector>

#include "codegen/emit/kernel_builder.h"
#include "codegen/llvm_module.h"
#include "codegen/testing/device_op_probe.h"
#include "gtest/gtest.h"
#include "runtime/simt/stand_ins.h"

namespace tessera {
namespace {

StatusOr<std::string> Ptx(const std::string& chip, const KernelSpec& spec) {
  ASSIGN_OR_RETURN(const Target target, MakeTarget("cuda:" + chip));
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
    for (const char* chip : {"sm_75", "sm_80", "sm_90", "sm_90a"}) {
      const StatusOr<std::string> text = Ptx(chip, DeviceOpProbe(row));
      if (text.status().code() == ErrorCode::kTargetUnsupported) {
        EXPECT_NE(std::string::npos, text.status().message().find(row.chip)) << text.status();
        continue;
      }
      ASSERT_TRUE(text.ok()) << chip << " " << row.name << ": " << text.status();
      EXPECT_EQ(std::string::npos, text->find("tessera.")) << row.name << *text;
      if (!row.constraints.empty()) {
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
    EXPECT_TRUE(row.name.substr(0, 4) == "gpu." || row.name.substr(0, 3) == "nv.") << row.name;
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

TEST(DeviceOpsTest, AnIntrinsicThatLlvmLacksIsNamed) {
  const StatusOr<std::string> text = Ptx("sm_80", [](KernelBuilder& b) {
    llvm::FunctionType* type = llvm::FunctionType::get(b.ir().getInt32Ty(), false);
    b.ir().CreateStore(b.ir().CreateCall(b.module().getOrInsertFunction("llvm.nvvm.nosuch", type)), b.arg(0));
  });
  EXPECT_NE(std::string::npos, text.status().message().find("llvm.nvvm.nosuch")) << text.status();
}

}  // namespace
}  // namespace tessera
