// Tests what only NVIDIA's driver has, on one that is not there: tensor maps and programmatic edges. What it shares
// with AMD's is tested by gpu_device_test.cc.
#include <gtest/gtest.h>

#include "runtime/device.h"
#include "runtime/testing/gpu_device_case.h"

namespace tessera {
namespace {

class CudaDeviceTest : public testing::Test {
 protected:
  FakeVendor vendor_{kNvidia};
  FakeGpu& fake() { return vendor_.fake(); }
};

TEST_F(CudaDeviceTest, TensorMapsAreEncodedAndPassed) {
  std::unique_ptr<Device> device = vendor_.Open();
  std::unique_ptr<Executable> executable = FakeVendor::Load(*device, WithTensorMaps());
  FiveStepPorts ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  ports.Check();
  executable->SetProfiling(true);  // one by one as well
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  int found = 0;
  for (const FakeLaunch& launch : fake().Launches()) {
    if (launch.kernel != "mapped") continue;
    ++found;
    ASSERT_EQ(launch.params.size(), 2u);
    ASSERT_EQ(launch.tensor_maps.size(), 2u);
    const FakeTensorMap &first = launch.tensor_maps[0], &second = launch.tensor_maps[1];
    EXPECT_EQ(first.address, launch.params[0]);
    EXPECT_EQ(second.address, launch.params[1]);
    EXPECT_EQ(first.type * 10 + first.swizzle, 71);  // CU_TENSOR_MAP_DATA_TYPE_FLOAT32, SWIZZLE_32B
    EXPECT_EQ(second.type * 10 + second.swizzle, 3);
    EXPECT_EQ(second.dims, (std::vector<uint64_t>{16, 1}));
    EXPECT_EQ(second.strides, (std::vector<uint64_t>{32}));
    EXPECT_EQ(second.box, (std::vector<unsigned>{16, 8}));
  }
  EXPECT_EQ(found, 2);

  // Where products may round to tf32, f32 is rounded on the way.
  std::shared_ptr<Program> rounding = WithTensorMaps();
  rounding->target += "+tf32";
  executable = FakeVendor::Load(*device, std::move(rounding));
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  FakeLaunch last;
  for (const FakeLaunch& launch : fake().Launches()) {
    if (launch.kernel == "mapped") last = launch;
  }
  ASSERT_EQ(last.tensor_maps.size(), 2u);
  EXPECT_EQ(last.tensor_maps[0].type, 11);  // CU_TENSOR_MAP_DATA_TYPE_TFLOAT32
  EXPECT_EQ(last.tensor_maps[1].type, 0);
}

TEST_F(CudaDeviceTest, ADriverWithoutProgrammaticEdgesGetsPlainOnes) {
  std::shared_ptr<Program> p = FiveSteps(kNvidia);
  for (Step& step : p->steps) step.launch.overlap = true;
  fake().Fail("cuGraphAddDependencies_v2", 1, 801, /*for_good=*/true);
  std::unique_ptr<Device> device = vendor_.Open();
  std::unique_ptr<Executable> executable = FakeVendor::Load(*device, p);
  FiveStepPorts ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  ports.Check();
  for (const FakeLaunch& launch : fake().Launches()) EXPECT_EQ(launch.programmatic_edges, 0);
}

}  // namespace
}  // namespace tessera
