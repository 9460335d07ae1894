// Tests what the drivers cuda and hip share, on drivers that are not there (testing/fake_gpu.h), the same cases for
// both: what a program launches and in which order, whose memory it takes and gives back, and that every call of the
// driver that can fail ends in an error that names it, says what it was for and what to do, with nothing leaked. What a
// card computes is tested by tests/conformance on one.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>

#include "runtime/device.h"
#include "runtime/testing/allocation_counter.h"
#include "runtime/testing/gpu_device_case.h"
#include "runtime/trace.h"

namespace tessera {
namespace {

class GpuDeviceTest : public testing::TestWithParam<GpuVendor> {
 protected:
  const GpuVendor& vendor() const { return GetParam(); }
  const GpuVendor::Names& names() const { return vendor().names; }
  FakeGpu& fake() { return fake_.fake(); }
  std::unique_ptr<Device> Open(std::string_view card = "") const { return fake_.Open(card); }
  static std::unique_ptr<Executable> Load(Device& device, std::shared_ptr<const Program> program) {
    return FakeVendor::Load(device, std::move(program));
  }
  std::shared_ptr<Program> Steps() const { return FiveSteps(vendor()); }

 private:
  FakeVendor fake_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Vendors, GpuDeviceTest, testing::Values(kNvidia, kAmd),
                         [](const auto& info) { return std::string(info.param.device); });

TEST_P(GpuDeviceTest, AGraphHasTheEdgesThatBuffersAskFor) {
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> executable = Load(*device, Steps());
  FiveStepPorts ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  ports.Check();
  const std::vector<FakeLaunch> launches = fake().Launches();
  ASSERT_EQ(launches.size(), 5u);
  EXPECT_EQ(launches[0].kernel, "times2");  // side by side with the first, which the fake runs later
  const int edges[] = {0, 0, 2, 1, 1};
  for (int s = 0; s < 5; ++s) EXPECT_EQ(launches[s].edges, edges[s]) << s;
  EXPECT_EQ(launches[0].grid[0], 3u);  // 300 tasks
  EXPECT_EQ(launches[0].threads, 128u);
  EXPECT_EQ(launches[0].params[2], 300u);
  EXPECT_EQ(launches[0].params[3], 1u);
}

TEST_P(GpuDeviceTest, BlocksSharedMemoryAndOverlapAreAsTheStepSays) {
  std::shared_ptr<Program> p = Steps();
  p->steps[1].kernel = 3;
  p->steps[1].launch = {.x = 3, .y = 2, .z = 5, .threads = 96, .shared_bytes = 60 << 10, .overlap = true};
  p->steps[1].tasks = 1;
  p->steps[3] = p->steps[1];
  p->steps[3].args = {{.buffer = 2}, {.buffer = 4, .writes = true}};
  p->steps[0].tasks = 0;  // nothing to do: t is what it was
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> executable = Load(*device, p);
  FiveStepPorts ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  const std::vector<FakeLaunch> launches = fake().Launches();
  ASSERT_EQ(launches.size(), 4u);
  EXPECT_EQ(launches[0].kernel, "blocks");
  EXPECT_EQ(launches[0].grid[1] * 10 + launches[0].grid[2], 25u);
  EXPECT_EQ(launches[0].threads, 96u);
  EXPECT_EQ(launches[0].shared_bytes, 60u << 10);
  EXPECT_EQ(launches[0].params.size(), 2u);  // no tasks
  EXPECT_EQ(launches[2].programmatic_edges, vendor().has_programmatic_edges ? 1 : 0);
  EXPECT_EQ(launches[3].programmatic_edges, 0);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(ports.z[i], 4 * ports.x[i] + 10 * static_cast<float>(i + 1));
}

TEST_P(GpuDeviceTest, MemoryOfTheCardIsReadAndWrittenInPlaceOfTheHosts) {
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> first = Load(*device, Steps()), second = Load(*device, Steps());
  FiveStepPorts ports;
  ASSERT_TRUE(first->Run(ports.in, ports.out).ok());
  const int pinned = fake().Calls()[names().AllocateHost];
  EXPECT_EQ(pinned, 3);
  EXPECT_EQ(first->info().pinned_bytes, 48);
  // The other's output as input: y lies on the card.
  const uint64_t y = fake().Launches()[2].params[2];
  const void* in[] = {reinterpret_cast<const void*>(y)};
  FiveStepPorts chained;
  void* out[] = {chained.y, reinterpret_cast<void*>(y)};
  ASSERT_TRUE(second->Run(in, out).ok());
  for (int i = 0; i < 4; ++i) EXPECT_EQ(chained.y[i], 3 * ports.y[i] + 1);
  EXPECT_EQ(fake().Calls()[names().AllocateHost], pinned + 1);  // for the one output that lies on the host
}

TEST_P(GpuDeviceTest, ExecutablesOfOneProgramShareCodeAndConstants) {
  std::unique_ptr<Device> device = Open();
  std::shared_ptr<Program> p = Steps();
  std::unique_ptr<Executable> first = Load(*device, p);
  const int allocations = fake().Calls()[names().Allocate];
  const ExecutableInfo alone = first->info();
  EXPECT_EQ(alone.assembler, vendor().assembler);
  EXPECT_GE(alone.device_bytes, 128 + 64 + 3 * 16);
  EXPECT_GE(alone.device_bytes_peak, alone.device_bytes);
  std::unique_ptr<Executable> second = Load(*device, p);
  EXPECT_EQ(fake().Calls()[names().LoadModule], 1);
  EXPECT_EQ(fake().Calls()[names().Allocate], 2 * allocations - 1);
  const int64_t peak = second->info().device_bytes_peak;
  EXPECT_GT(peak, alone.device_bytes_peak);
  first.reset();
  FiveStepPorts ports;
  ASSERT_TRUE(second->Run(ports.in, ports.out).ok());
  ports.Check();
  second.reset();
  first = Load(*device, p);
  EXPECT_EQ(fake().Calls()[names().LoadModule], 2);
  EXPECT_EQ(first->info().device_bytes_peak, peak);
}

TEST_P(GpuDeviceTest, ProfilesTracesAndMeasures) {
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> executable = Load(*device, Steps());
  Trace trace({.num_threads = 1});
  executable->SetTrace(&trace);
  executable->SetProfiling(true);
  FiveStepPorts ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  ports.Check();
  EXPECT_EQ(executable->step_nanoseconds()[4], 500000);
  const size_t launches = fake().Launches().size();
  const StatusOr<double> us = executable->MeasureUs(10);
  ASSERT_TRUE(us.ok()) << us.status();
  EXPECT_DOUBLE_EQ(*us, 50);  // the fake's clock: half a millisecond between any two events
  EXPECT_EQ(fake().Launches().size(), launches + 50);
  EXPECT_EQ(executable->MeasureUs(0).status().code(), ErrorCode::kUsageInvalid);
}

TEST_P(GpuDeviceTest, ARunAllocatesNothing) {
  fake().Reset(nullptr);  // whose log of launches takes memory of its own, in another library
  std::unique_ptr<Device> device = Open();
  std::shared_ptr<Program> p = Steps();
  p->steps.clear();
  std::unique_ptr<Executable> executable = Load(*device, p);
  FiveStepPorts ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  const int64_t before = AllocationCount();
  const void* in[] = {ports.x};
  bool all = true;
  for (int k = 0; k < 20; ++k) all &= executable->Run(in, ports.out).ok();
  EXPECT_TRUE(all);
  EXPECT_EQ(AllocationCount(), before);
}

TEST_P(GpuDeviceTest, KernelsAreLookedForWhereTheyAre) {
  std::shared_ptr<Program> p = Steps();
  p->images.insert(p->images.begin(), ImageOf(vendor().image({{"plus12", 1}})));
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> executable = Load(*device, p);
  FiveStepPorts ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  ports.Check();
  EXPECT_EQ(fake().Calls()[names().LoadModule], 2);
  EXPECT_EQ(fake().Calls()[names().GetFunction], 4);
}

TEST_P(GpuDeviceTest, CardsAreNumbered) {
  const std::string device = vendor().device;
  EXPECT_EQ(Open(":1")->Describe().rfind(vendor().describes, 0), 0u) << Open(":1")->Describe();
  EXPECT_EQ(Open(":1")->name(), device + ":1");
  const Status missing = OpenDevice(device + ":2").status();
  EXPECT_EQ(missing.code(), ErrorCode::kDeviceMissing);
  EXPECT_NE(missing.message().find("sees 2 cards"), std::string::npos) << missing;
  EXPECT_EQ(OpenDevice(device + ":x").status().code(), ErrorCode::kTargetUnknown);
  EXPECT_EQ(OpenDevice("host:1").status().code(), ErrorCode::kDeviceMissing);
}

TEST_P(GpuDeviceTest, CardsAndStreamsWorkAtTheSameTime) {
  std::vector<std::future<void>> threads;
  for (const char* card : {"", ":1", "", ":1"}) {
    threads.push_back(std::async(std::launch::async, [this, card] {
      std::unique_ptr<Device> device = Open(card);
      std::unique_ptr<Executable> executable = Load(*device, Steps());
      for (int run = 0; run < 50; ++run) {
        FiveStepPorts ports;
        for (float& x : ports.x) x += static_cast<float>(run);
        ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
        ports.Check();
      }
    }));
  }
  for (std::future<void>& thread : threads) thread.get();
  EXPECT_EQ(fake().Calls()[names().CreateStream], 8);  // one each, and one each to copy constants
}

TEST_P(GpuDeviceTest, TheWrongChipAndTooLittleMemoryAreExplained) {
  fake().SetChip(vendor().other_chip);
  Status status = Open()->Load(Steps(), {}).status();
  EXPECT_EQ(status.code(), ErrorCode::kTargetUnsupported);
  EXPECT_NE(status.message().find(vendor().wrong_chip), std::string::npos) << status;
  fake().Reset(FiveStepsOnHost);
  fake().SetMemory(100);
  status = Open()->Load(Steps(), {}).status();
  EXPECT_EQ(status.code(), ErrorCode::kOutOfMemory);
  const std::string allocate(names().Allocate);  // without its version
  for (const std::string& part : {allocate.substr(0, allocate.find("_v2")), std::string("program 'branches'"),
                                  std::string("bytes where"), std::string("are free"), std::string("smaller batch")}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << part << " in " << status;
  }
}

TEST_P(GpuDeviceTest, AKernelThatFailsIsNamedOnRequest) {
  std::unique_ptr<Device> device = Open();
  {
    std::unique_ptr<Executable> executable = Load(*device, Steps());
    FiveStepPorts ports;
    fake().Fail(names().SynchronizeStream, 1, 700);
    const Status status = executable->Run(ports.in, ports.out);
    EXPECT_EQ(status.code(), ErrorCode::kDeviceFailed);
    for (const char* part :
         {"one of the 5 kernels of program 'branches'", vendor().sync_variable, "=1", "outside of its"}) {
      EXPECT_NE(status.message().find(part), std::string::npos) << part << " in " << status;
    }
  }
  setenv(vendor().sync_variable, "1", 1);
  std::unique_ptr<Executable> executable = Load(*device, Steps());
  unsetenv(vendor().sync_variable);
  FiveStepPorts ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  ports.Check();
  fake().Fail(names().SynchronizeStream, 3, 700);
  const Status status = executable->Run(ports.in, ports.out);
  EXPECT_NE(status.message().find("kernel 'sum' of node 'third'"), std::string::npos) << status;
}

TEST_P(GpuDeviceTest, BrokenProgramsAreRefused) {
  std::unique_ptr<Device> device = Open();
  std::shared_ptr<Program> p = Steps();
  p->kernels[2] = "nowhere";
  EXPECT_NE(device->Load(p, {}).status().message().find("'nowhere'"), std::string::npos);
  p = Steps();
  p->images = {ImageOf("neither PTX nor ELF")};
  EXPECT_EQ(device->Load(p, {}).status().code(), ErrorCode::kProgramInvalid);
  p->images.clear();
  EXPECT_EQ(device->Load(p, {}).status().code(), ErrorCode::kProgramInvalid);
  p->outputs[0].buffer = 0;
  EXPECT_EQ(device->Load(p, {}).status().code(), ErrorCode::kProgramInvalid);
}

// All that a user does with a device, up to the first error.
Status Life(const GpuVendor& vendor, const std::string& cache_dir) {
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, OpenDevice(std::string(vendor.device) + ":1"));
  device->Describe();
  std::shared_ptr<Program> p = vendor.everything();
  p->steps[3].launch.shared_bytes = 60 << 10;
  ASSIGN_OR_RETURN(std::unique_ptr<Executable> first, device->Load(p, {.cache_dir = cache_dir}));
  ASSIGN_OR_RETURN(std::unique_ptr<Executable> second, device->Load(p, {.cache_dir = cache_dir}));
  FiveStepPorts ports;
  for (const auto& executable : {first.get(), second.get()}) {
    for (int k = 0; k < 2; ++k) RETURN_IF_ERROR(executable->Run(ports.in, ports.out));
  }
  first->SetProfiling(true);
  RETURN_IF_ERROR(first->Run(ports.in, ports.out));
  RETURN_IF_ERROR(second->MeasureUs(3).status());
  ports.Check();
  return OkStatus();
}

// Every call of every function, made to fail once: an error that names the function and says what to do, or none where
// there is another way; and nothing is leaked or given back twice.
TEST_P(GpuDeviceTest, EveryCallMayFail) {
  const std::string cache = std::string(testing::TempDir()) + "/faults";
  const auto fresh_cache = [&] {
    std::filesystem::remove_all(cache);
    std::filesystem::create_directories(cache);
  };
  fresh_cache();
  ASSERT_TRUE(Life(vendor(), cache).ok()) << Life(vendor(), cache);
  fake().Reset(FiveStepsOnHost);
  fresh_cache();
  ASSERT_TRUE(Life(vendor(), cache).ok());
  const std::map<std::string, int> calls = fake().Calls();
  const auto is_one_of = [](std::string_view names, const std::string& function) {
    return (" " + std::string(names) + " ").find(" " + function + " ") != std::string::npos;
  };
  const auto gives_back = [](const std::string& function) {
    for (const char* word : {"Destroy", "Free", "Release", "Unload", "Pop"}) {
      if (function.find(word) != std::string::npos) return true;
    }
    return false;
  };
  int injected = 0;
  for (const auto& [function, count] : calls) {
    for (int nth = 1; nth <= count; ++nth) {
      fresh_cache();
      fake().Reset(FiveStepsOnHost);
      fake().Fail(function, nth, function.find("Mem") != std::string::npos ? 2 : 700);
      const Status status = Life(vendor(), cache);
      ++injected;
      const std::string where = function + ", call " + std::to_string(nth) + " of " + std::to_string(count);
      if (gives_back(function)) {
        fake().Reset(FiveStepsOnHost);  // what could not be given back is still there
        continue;
      }
      EXPECT_EQ("", fake().Owned()) << where << ": " << status;
      // Who cannot make the card current to give something back gives it back without.
      const bool only_gave_back = status.ok() && is_one_of(vendor().make_current, function);
      if (!only_gave_back) {
        EXPECT_EQ("", fake().Misuse()) << where << ": " << status;
      }
      if (status.ok()) {
        EXPECT_TRUE(only_gave_back || is_one_of(vendor().harmless, function)) << where << " was not noticed";
        fake().Reset(FiveStepsOnHost);
        continue;
      }
      const std::string plain = function.substr(0, function.find("_v2"));
      EXPECT_NE(status.message().find(plain.substr(0, plain.find("WithFlags"))), std::string::npos)
          << where << ": " << status;
      EXPECT_NE(status.message().find("; "), std::string::npos) << where << ": " << status;
      EXPECT_NE(status.message().find(vendor().error_prefix), std::string::npos) << where << ": " << status;
    }
  }
  std::printf("%d faults in calls of %zu functions\n", injected, calls.size());
  EXPECT_GT(injected, 100);
}

}  // namespace
}  // namespace tessera
