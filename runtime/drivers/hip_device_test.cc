// Tests what only AMD's driver has, on one that is not there: code objects that are looked at before the driver gets
// them, libraries of several versions, and graphs that are refused. What it shares with NVIDIA's is tested by
// gpu_device_test.cc.
#include <gtest/gtest.h>

#include "runtime/device.h"
#include "runtime/drivers/hip_chip.h"
#include "runtime/testing/gpu_device_case.h"

namespace tessera {
namespace {

class HipDeviceTest : public testing::Test {
 protected:
  FakeVendor vendor_{kAmd};
  FakeGpu& fake() { return vendor_.fake(); }

  Status LoadStatus(std::shared_ptr<Program> program) { return vendor_.Open()->Load(std::move(program), {}).status(); }
};

// The program's kernels in a code object of its own making.
std::shared_ptr<Program> WithCode(uint32_t machine, const CodeObjectKernel& sum) {
  std::shared_ptr<Program> p = FiveSteps(kAmd);
  p->images = {ImageOf(WriteCodeObject(machine, {{.name = "plus1", .kernarg_bytes = 32},
                                                 {.name = "times2", .kernarg_bytes = 32},
                                                 sum,
                                                 {.name = "blocks", .kernarg_bytes = 16}}))};
  return p;
}

// Before 5.3 graphs take no kernels of loaded modules, and some libraries know no graphs at all.
TEST_F(HipDeviceTest, ADriverThatRefusesGraphsGetsTheStepsOneByOne) {
  for (const int code : {98, 801}) {
    fake().Reset(FiveStepsOnHost);
    fake().Fail("hipGraphAddKernelNode", 1, code, /*for_good=*/true);
    std::unique_ptr<Device> device = vendor_.Open();
    std::unique_ptr<Executable> executable = FakeVendor::Load(*device, FiveSteps(kAmd));
    FiveStepPorts ports;
    ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
    ports.Check();
    EXPECT_EQ(fake().Calls()["hipGraphLaunch"], 0);
    EXPECT_EQ(fake().Calls()["hipModuleLaunchKernel"], 5);
    EXPECT_EQ(fake().Calls()["hipStreamSynchronize"], 2);  // constants, and the run
    const StatusOr<double> us = executable->MeasureUs(2);
    ASSERT_TRUE(us.ok()) << us.status();
    EXPECT_EQ(fake().Calls()["hipModuleLaunchKernel"], 15);
    fake().Fail("hipModuleLaunchKernel", 4, 719);
    const Status status = executable->Run(ports.in, ports.out);
    EXPECT_NE(status.message().find("kernel 'times2' of node 'fourth'"), std::string::npos) << status;
  }
  // Anything else is an error.
  fake().Fail("hipGraphAddKernelNode", 1, 1);
  EXPECT_EQ(LoadStatus(FiveSteps(kAmd)).code(), ErrorCode::kDeviceFailed);
}

TEST_F(HipDeviceTest, AThreadKeepsTheCardThatItChose) {
  std::unique_ptr<Device> device = vendor_.Open(":1");
  std::unique_ptr<Executable> executable = FakeVendor::Load(*device, FiveSteps(kAmd));
  FiveStepPorts ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  ports.Check();
  executable.reset();
  const std::map<std::string, int> calls = fake().Calls();
  EXPECT_EQ(calls.at("hipSetDevice"), 2 * calls.at("hipGetDevice"));
  // The fake would have said so had anything been asked of a card while another was current.
}

TEST_F(HipDeviceTest, TheWrongChipIsNamedWhateverTheCardsModes) {
  for (const char* chip : {"gfx942", "gfx942:sramecc+:xnack+"}) {
    fake().SetChip(chip);
    vendor_.Open()->Describe();
  }
  const Status status = LoadStatus(WithCode(CodeObjectMachine("gfx1100"), {.name = "sum", .kernarg_bytes = 40}));
  EXPECT_EQ(status.code(), ErrorCode::kTargetUnsupported);
  EXPECT_NE(status.message().find("compiled for gfx1100"), std::string::npos) << status;
  EXPECT_EQ(LoadStatus(WithCode(0x7e, {.name = "sum", .kernarg_bytes = 40})).code(), ErrorCode::kTargetUnsupported);
}

TEST_F(HipDeviceTest, KernelsThatTakeOtherArgumentsAreRefused) {
  const uint32_t machine = CodeObjectMachine("gfx942");
  // Hidden arguments of HIP's own compiler: the driver would read beyond what the step gives.
  Status status = LoadStatus(WithCode(machine, {.name = "sum", .kernarg_bytes = 40 + 256}));
  EXPECT_EQ(status.code(), ErrorCode::kProgramInvalid);
  EXPECT_NE(status.message().find("kernel 'sum' of node 'third' takes 296 bytes of arguments, and its step gives 40"),
            std::string::npos)
      << status;
  status = LoadStatus(WithCode(machine, {.name = "sum", .kernarg_bytes = 40, .shared_bytes = 70000}));
  EXPECT_EQ(status.code(), ErrorCode::kTargetUnsupported);
  EXPECT_NE(status.message().find("needs 70000 bytes of LDS, and a work-group of Fake card 0 has 65536"),
            std::string::npos)
      << status;
  std::shared_ptr<Program> p = WithBlocks();
  p->steps[3].launch.shared_bytes = 65 << 10;
  EXPECT_EQ(LoadStatus(p).code(), ErrorCode::kTargetUnsupported);
  p = WithBlocks();
  p->steps[3].tensor_maps = {{.arg = 0, .type = DType::kF32, .dims = {4}, .strides = {}, .box = {4}, .swizzle = 32}};
  EXPECT_EQ(LoadStatus(p).code(), ErrorCode::kTargetUnsupported);
}

TEST_F(HipDeviceTest, TheChipOfACardIsWithoutItsModes) {
  EXPECT_EQ(*HipChip(0), "gfx942");
  fake().SetChip("gfx1100");
  EXPECT_EQ(*HipChip(1), "gfx1100");
  EXPECT_EQ(HipChip(2).status().code(), ErrorCode::kDeviceMissing);
}

}  // namespace
}  // namespace tessera
