// The same cases for every driver of this machine: host, null, simt, and cuda and hip where there is a card. Programs
// with kernels run in codegen/compile_test.cc and tests/conformance, where there is a compiler.
#include "runtime/device.h"

#include <gtest/gtest.h>

#include "runtime/testing/allocation_counter.h"
#include "runtime/trace.h"

namespace tessera {
namespace {

// A program without steps: ports only.
std::shared_ptr<Program> PortsOnly() {
  auto p = std::make_shared<Program>();
  p->name = "ports";
  const TensorType type = {DType::kF32, {4}};
  p->buffers = {{.name = "x", .kind = BufferClass::kInput, .bytes = 16, .offset = 0},
                {.name = "y", .kind = BufferClass::kOutput, .bytes = 16, .offset = 0}};
  p->inputs = {{"x", type, 0}};
  p->outputs = {{"y", type, 1}};
  return p;
}

class DeviceTest : public testing::TestWithParam<const char*> {};

TEST_P(DeviceTest, LoadsRunsAndDescribes) {
  StatusOr<std::unique_ptr<Device>> device = OpenDevice(GetParam());
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ((*device)->name(), GetParam());
  EXPECT_FALSE((*device)->Describe().empty());
  StatusOr<std::unique_ptr<Executable>> executable = (*device)->Load(PortsOnly(), {.threads = 2});
  ASSERT_TRUE(executable.ok()) << executable.status();
  float x[4] = {}, y[4] = {};
  const void* inputs[] = {x};
  void* outputs[] = {y};
  EXPECT_TRUE((*executable)->Run(inputs, outputs).ok());
  EXPECT_EQ((*executable)->step_nanoseconds().size(), 0u);
}

TEST_P(DeviceTest, ACloneRunsWithoutTheOneItCameFrom) {
  StatusOr<std::unique_ptr<Device>> device = OpenDevice(GetParam());
  ASSERT_TRUE(device.ok()) << device.status();
  StatusOr<std::unique_ptr<Executable>> executable = (*device)->Load(PortsOnly(), {.threads = 2});
  ASSERT_TRUE(executable.ok()) << executable.status();
  StatusOr<std::unique_ptr<Executable>> clone = (*executable)->Clone({.threads = 1});
  ASSERT_TRUE(clone.ok()) << clone.status();
  EXPECT_EQ((*clone)->threads(), 1);
  executable->reset();
  EXPECT_EQ((*clone)->program().name, "ports");
  float x[4] = {}, y[4] = {};
  const void* inputs[] = {x};
  void* outputs[] = {y};
  EXPECT_TRUE((*clone)->Run(inputs, outputs).ok());
}

TEST_P(DeviceTest, WrongPortCountsAreErrors) {
  StatusOr<std::unique_ptr<Device>> device = OpenDevice(GetParam());
  ASSERT_TRUE(device.ok());
  StatusOr<std::unique_ptr<Executable>> executable = (*device)->Load(PortsOnly(), {.threads = 1});
  ASSERT_TRUE(executable.ok());
  const Status status = (*executable)->Run({}, {});
  EXPECT_EQ(status.code(), ErrorCode::kInputMissing);
  EXPECT_NE(status.message().find("expected 1 inputs"), std::string::npos) << status;
}

TEST_P(DeviceTest, BrokenProgramsAreRefused) {
  StatusOr<std::unique_ptr<Device>> device = OpenDevice(GetParam());
  ASSERT_TRUE(device.ok());
  std::shared_ptr<Program> broken = PortsOnly();
  broken->outputs[0].buffer = 0;
  EXPECT_EQ((*device)->Load(broken, {}).status().code(), ErrorCode::kProgramInvalid);
}

TEST_P(DeviceTest, SteadyStateAllocatesNothing) {
  StatusOr<std::unique_ptr<Device>> device = OpenDevice(GetParam());
  ASSERT_TRUE(device.ok());
  StatusOr<std::unique_ptr<Executable>> executable = (*device)->Load(PortsOnly(), {.threads = 2});
  ASSERT_TRUE(executable.ok());
  Trace trace({.num_threads = (*executable)->threads()});
  (*executable)->SetTrace(&trace);
  float x[4] = {}, y[4] = {};
  const void* inputs[] = {x};
  void* outputs[] = {y};
  ASSERT_TRUE((*executable)->Run(inputs, outputs).ok());
  const int64_t before = AllocationCount();
  for (int k = 0; k < 100; ++k) {
    if (!(*executable)->Run(inputs, outputs).ok()) FAIL();
  }
  EXPECT_EQ(AllocationCount(), before);
}

// With a card, its driver's name too.
std::vector<const char*> Drivers() {
  std::vector<const char*> drivers = {"host", "null", "simt", "simt:random:3"};
  for (const char* cards : {"cuda", "hip"}) {
    if (OpenDevice(cards).ok()) drivers.push_back(cards);
  }
  return drivers;
}

INSTANTIATE_TEST_SUITE_P(Drivers, DeviceTest, testing::ValuesIn(Drivers()));

TEST(CardDeviceTest, WithoutDriverTheErrorSaysWhatIsMissing) {
  for (const auto& [name, vendor] : {std::pair("cuda", "NVIDIA"), {"hip", "AMD"}, {"hip:1", "AMD"}}) {
    const StatusOr<std::unique_ptr<Device>> device = OpenDevice(name);
    if (device.ok()) continue;  // tested above
    EXPECT_EQ(device.status().code(), ErrorCode::kDeviceMissing) << name;
    EXPECT_NE(device.status().message().find(vendor), std::string::npos) << device.status();
    EXPECT_NE(device.status().message().find("--target=host"), std::string::npos) << device.status();
  }
}

TEST(OpenDeviceTest, UnknownDevicesSayWhatThereIs) {
  const Status status = OpenDevice("abacus").status();
  EXPECT_EQ(status.code(), ErrorCode::kDeviceMissing);
  EXPECT_NE(status.message().find("host, null, cuda, hip"), std::string::npos) << status;
}

TEST(HostDeviceTest, AMissingKernelIsNamed) {
  StatusOr<std::unique_ptr<Device>> device = OpenDevice("host");
  ASSERT_TRUE(device.ok());
  std::shared_ptr<Program> program = PortsOnly();
  program->kernels = {"nowhere"};
  program->steps = {{.kernel = 0, .args = {{.buffer = 0}, {.buffer = 1, .writes = true}}, .label = "s"}};
  const Status status = (*device)->Load(program, {}).status();
  EXPECT_EQ(status.code(), ErrorCode::kProgramInvalid);
  EXPECT_NE(status.message().find("'nowhere'"), std::string::npos) << status;
}

TEST(HostDeviceTest, KernelsForBlocksAreRefused) {
  StatusOr<std::unique_ptr<Device>> device = OpenDevice("host");
  ASSERT_TRUE(device.ok());
  std::shared_ptr<Program> program = PortsOnly();
  program->target = "cuda:sm_90";
  program->steps = {{.kernel = 0, .launch = {.x = 1, .threads = 32}, .label = "s"}};
  program->kernels = {"k"};
  const Status status = (*device)->Load(program, {}).status();
  EXPECT_EQ(status.code(), ErrorCode::kProgramInvalid);
}

}  // namespace
}  // namespace tessera
