// Tests the driver cuda on a driver that is not there (testing/fake_cuda.h): what it launches and in which order, whose
// memory it takes and gives back, and that every call of libcuda that can fail ends in an error that names it, says
// what it was for and what to do, with nothing leaked. What a card computes is tested by tests/conformance on one.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <set>

#include "runtime/device.h"
#include "runtime/testing/allocation_counter.h"
#include "runtime/testing/fake_cuda.h"
#include "runtime/trace.h"

namespace tessera {
namespace {

constexpr char kPtx[] =
    ".version 7.8\n.target sm_90\n.address_size 64\n"
    ".visible .entry plus1(.param .u64 a, .param .u64 b, .param .u64 tasks, .param .u64 each)\n{ ret; }\n"
    ".visible .entry times2(.param .u64 a, .param .u64 b, .param .u64 tasks, .param .u64 each)\n{ ret; }\n"
    ".visible .entry sum(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 tasks, .param .u64 each)\n{ ret; }\n"
    ".visible .entry blocks(.param .u64 a, .param .u64 b)\n{ ret; }\n"
    ".visible .entry mapped(.param .u64 a, .param .u64 b, .param .align 64 .b8 m[128], .param .align 64 .b8 n[128])\n"
    "{ ret; }\n";

// What the kernels do, on four floats each.
void OnHost(const FakeLaunch& launch) {
  const auto at = [&](size_t p) { return reinterpret_cast<float*>(launch.params[p]); };
  for (int i = 0; i < 4; ++i) {
    if (launch.kernel == "plus1") at(1)[i] = at(0)[i] + 1;
    if (launch.kernel == "times2") at(1)[i] = 2 * at(0)[i];
    if (launch.kernel == "blocks" || launch.kernel == "mapped") at(1)[i] = 2 * at(0)[i];
    if (launch.kernel == "sum") at(2)[i] = at(0)[i] + at(1)[i];
  }
}

ProgramImage Image(const std::string& ptx) {
  const auto owner = std::make_shared<const std::string>(ptx);
  return {std::as_bytes(std::span(*owner)), owner};
}

// t = x + 1 and u = 2 x side by side; y = t + u; then v = 2 u where t lay; z = v + w. So y = 3 x + 1, z = 4 x + w.
std::shared_ptr<Program> Branches() {
  auto p = std::make_shared<Program>();
  p->name = "branches";
  p->target = "cuda:sm_90";
  const TensorType type = {DType::kF32, {4}};
  static const float w[16] = {10, 20, 30, 40};
  p->constants = std::as_bytes(std::span(w));
  p->memory.arena_bytes = 128;
  p->buffers = {{.name = "x", .kind = BufferClass::kInput, .bytes = 16, .offset = 0},
                {.name = "t", .kind = BufferClass::kTemp, .bytes = 16, .offset = 0},
                {.name = "u", .kind = BufferClass::kTemp, .bytes = 16, .offset = 64},
                {.name = "y", .kind = BufferClass::kOutput, .bytes = 16, .offset = 0},
                {.name = "v", .kind = BufferClass::kTemp, .bytes = 16, .offset = 0},
                {.name = "w", .kind = BufferClass::kConstant, .bytes = 64, .offset = 0},
                {.name = "z", .kind = BufferClass::kOutput, .bytes = 16, .offset = 1}};
  p->kernels = {"plus1", "times2", "sum", "blocks", "mapped"};
  const auto step = [&](int kernel, std::vector<int> buffers, const char* label) {
    Step s = {.kernel = kernel, .args = {}, .tasks = 300, .launch = {}, .label = label};
    for (int b : buffers) s.args.push_back({.buffer = b});
    s.args.back().writes = true;
    p->steps.push_back(s);
  };
  step(0, {0, 1}, "first");
  step(1, {0, 2}, "second");
  step(2, {1, 2, 3}, "third");
  step(1, {2, 4}, "fourth");
  step(2, {4, 5, 6}, "fifth");
  p->inputs = {{"x", type, 0}};
  p->outputs = {{"y", type, 3}, {"z", type, 6}};
  p->images = {Image(kPtx)};
  return p;
}

class CudaDeviceTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { FakeCuda::Use("runtime/testing/fake_libcuda.so"); }
  void SetUp() override { fake().Reset(OnHost); }
  void TearDown() override {
    EXPECT_EQ("", fake().Owned());
    EXPECT_EQ("", fake().Misuse());
  }
  static FakeCuda& fake() {
    static FakeCuda& the = FakeCuda::Use("runtime/testing/fake_libcuda.so");
    return the;
  }
  static std::unique_ptr<Device> Open(std::string_view name = "cuda") {
    StatusOr<std::unique_ptr<Device>> device = OpenDevice(name);
    EXPECT_TRUE(device.ok()) << device.status();
    return *std::move(device);
  }
  static std::unique_ptr<Executable> Load(Device& device, std::shared_ptr<const Program> program) {
    StatusOr<std::unique_ptr<Executable>> executable = device.Load(std::move(program), {});
    EXPECT_TRUE(executable.ok()) << executable.status();
    return *std::move(executable);
  }
};

struct Ports {
  float x[4] = {1, 2, 3, 4}, y[4] = {}, z[4] = {};
  const void* in[1] = {x};
  void* out[2] = {y, z};
  void Check() const {
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(y[i], 3 * x[i] + 1);
      EXPECT_EQ(z[i], 4 * x[i] + 10 * static_cast<float>(i + 1));
    }
  }
};

TEST_F(CudaDeviceTest, AGraphHasTheEdgesThatBuffersAskFor) {
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> executable = Load(*device, Branches());
  Ports ports;
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

TEST_F(CudaDeviceTest, BlocksSharedMemoryAndOverlapAreAsTheStepSays) {
  std::shared_ptr<Program> p = Branches();
  p->steps[1].kernel = 3;
  p->steps[1].launch = {.x = 3, .y = 2, .z = 5, .threads = 96, .shared_bytes = 100 << 10, .overlap = true};
  p->steps[1].tasks = 1;
  p->steps[3] = p->steps[1];
  p->steps[3].args = {{.buffer = 2}, {.buffer = 4, .writes = true}};
  p->steps[0].tasks = 0;  // nothing to do: t is what it was
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> executable = Load(*device, p);
  Ports ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  const std::vector<FakeLaunch> launches = fake().Launches();
  ASSERT_EQ(launches.size(), 4u);
  EXPECT_EQ(launches[0].kernel, "blocks");
  EXPECT_EQ(launches[0].grid[1] * 10 + launches[0].grid[2], 25u);
  EXPECT_EQ(launches[0].threads, 96u);
  EXPECT_EQ(launches[0].shared_bytes, 100u << 10);
  EXPECT_EQ(launches[0].params.size(), 2u);  // no tasks
  EXPECT_EQ(launches[2].programmatic_edges, 1);
  EXPECT_EQ(launches[3].programmatic_edges, 0);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(ports.z[i], 4 * ports.x[i] + 10 * static_cast<float>(i + 1));
}

// The fourth step sees u and w through tensor maps.
std::shared_ptr<Program> WithTensorMaps() {
  std::shared_ptr<Program> p = Branches();
  p->steps[3] = {.kernel = 4, .args = {{.buffer = 2}, {.buffer = 4, .writes = true}}, .label = "fourth"};
  p->steps[3].launch = {.x = 1, .threads = 128, .overlap = true};
  p->steps[3].tensor_maps = {
      {.arg = 0, .type = DType::kF32, .dims = {4}, .strides = {}, .box = {4}, .swizzle = 32},
      {.arg = 1, .type = DType::kI8, .dims = {16, 1}, .strides = {32}, .box = {16, 8}, .swizzle = 128}};
  return p;
}

TEST_F(CudaDeviceTest, TensorMapsAreEncodedAndPassed) {
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> executable = Load(*device, WithTensorMaps());
  Ports ports;
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
  executable = Load(*device, std::move(rounding));
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
  std::shared_ptr<Program> p = Branches();
  for (Step& step : p->steps) step.launch.overlap = true;
  fake().Fail("cuGraphAddDependencies_v2", 1, 801, /*for_good=*/true);
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> executable = Load(*device, p);
  Ports ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  ports.Check();
  for (const FakeLaunch& launch : fake().Launches()) EXPECT_EQ(launch.programmatic_edges, 0);
}

TEST_F(CudaDeviceTest, MemoryOfTheCardIsReadAndWrittenInPlaceOfTheHosts) {
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> first = Load(*device, Branches()), second = Load(*device, Branches());
  Ports ports;
  ASSERT_TRUE(first->Run(ports.in, ports.out).ok());
  const int pinned = fake().Calls()["cuMemHostAlloc"];
  EXPECT_EQ(pinned, 3);
  EXPECT_EQ(first->info().pinned_bytes, 48);
  // The other's output as input: y lies on the card.
  const uint64_t y = fake().Launches()[2].params[2];
  const void* in[] = {reinterpret_cast<const void*>(y)};
  Ports chained;
  void* out[] = {chained.y, reinterpret_cast<void*>(y)};
  ASSERT_TRUE(second->Run(in, out).ok());
  for (int i = 0; i < 4; ++i) EXPECT_EQ(chained.y[i], 3 * ports.y[i] + 1);
  EXPECT_EQ(fake().Calls()["cuMemHostAlloc"], pinned + 1);  // for the one output that lies on the host
}

TEST_F(CudaDeviceTest, ExecutablesOfOneProgramShareCodeAndConstants) {
  std::unique_ptr<Device> device = Open();
  std::shared_ptr<Program> p = Branches();
  std::unique_ptr<Executable> first = Load(*device, p);
  const int allocations = fake().Calls()["cuMemAlloc_v2"];
  const ExecutableInfo alone = first->info();
  EXPECT_EQ(alone.assembler, "driver 13.0");
  EXPECT_GE(alone.device_bytes, 128 + 64 + 3 * 16);
  EXPECT_GE(alone.device_bytes_peak, alone.device_bytes);
  std::unique_ptr<Executable> second = Load(*device, p);
  EXPECT_EQ(fake().Calls()["cuModuleLoadData"], 1);
  EXPECT_EQ(fake().Calls()["cuMemAlloc_v2"], 2 * allocations - 1);
  const int64_t peak = second->info().device_bytes_peak;
  EXPECT_GT(peak, alone.device_bytes_peak);
  first.reset();
  Ports ports;
  ASSERT_TRUE(second->Run(ports.in, ports.out).ok());
  ports.Check();
  second.reset();
  first = Load(*device, p);
  EXPECT_EQ(fake().Calls()["cuModuleLoadData"], 2);
  EXPECT_EQ(first->info().device_bytes_peak, peak);
}

TEST_F(CudaDeviceTest, ProfilesTracesAndMeasures) {
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> executable = Load(*device, Branches());
  Trace trace({.num_threads = 1});
  executable->SetTrace(&trace);
  executable->SetProfiling(true);
  Ports ports;
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

TEST_F(CudaDeviceTest, ARunAllocatesNothing) {
  fake().Reset(nullptr);  // whose log of launches takes memory of its own, in another library
  std::unique_ptr<Device> device = Open();
  std::shared_ptr<Program> p = Branches();
  p->steps.clear();
  std::unique_ptr<Executable> executable = Load(*device, p);
  Ports ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  const int64_t before = AllocationCount();
  const void* in[] = {ports.x};
  bool all = true;
  for (int k = 0; k < 20; ++k) all &= executable->Run(in, ports.out).ok();
  EXPECT_TRUE(all);
  // The fake counts calls by the names of functions, which it makes a string of.
  EXPECT_LE(AllocationCount() - before, fake().Calls().size() * 20 * 20);
}

TEST_F(CudaDeviceTest, KernelsAreLookedForWhereTheyAre) {
  std::shared_ptr<Program> p = Branches();
  const std::string other = ".target sm_90\n.visible .entry plus12(.param .u64 a)\n{ ret; }\n";
  p->images.insert(p->images.begin(), Image(other));
  std::unique_ptr<Device> device = Open();
  std::unique_ptr<Executable> executable = Load(*device, p);
  Ports ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  ports.Check();
  EXPECT_EQ(fake().Calls()["cuModuleLoadData"], 2);
  EXPECT_EQ(fake().Calls()["cuModuleGetFunction"], 5);
}

TEST_F(CudaDeviceTest, CardsAreNumbered) {
  EXPECT_NE(Open("cuda:1")->Describe().find("Fake card 1, sm_90"), std::string::npos);
  EXPECT_EQ(Open("cuda:1")->name(), "cuda:1");
  const Status missing = OpenDevice("cuda:2").status();
  EXPECT_EQ(missing.code(), ErrorCode::kDeviceMissing);
  EXPECT_NE(missing.message().find("sees 2 cards"), std::string::npos) << missing;
  EXPECT_EQ(OpenDevice("cuda:x").status().code(), ErrorCode::kTargetUnknown);
  EXPECT_EQ(OpenDevice("host:1").status().code(), ErrorCode::kDeviceMissing);
}

TEST_F(CudaDeviceTest, CardsAndStreamsWorkAtTheSameTime) {
  std::vector<std::future<void>> threads;
  for (const char* name : {"cuda", "cuda:1", "cuda", "cuda:1"}) {
    threads.push_back(std::async(std::launch::async, [name] {
      std::unique_ptr<Device> device = Open(name);
      std::unique_ptr<Executable> executable = Load(*device, Branches());
      for (int run = 0; run < 50; ++run) {
        Ports ports;
        for (float& x : ports.x) x += static_cast<float>(run);
        ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
        ports.Check();
      }
    }));
  }
  for (std::future<void>& thread : threads) thread.get();
  EXPECT_EQ(fake().Calls()["cuStreamCreate"], 8);  // one each, and one each to copy constants
}

TEST_F(CudaDeviceTest, TheWrongChipAndTooLittleMemoryAreExplained) {
  fake().SetCapability(80);
  Status status = Open()->Load(Branches(), {}).status();
  EXPECT_EQ(status.code(), ErrorCode::kTargetUnsupported);
  EXPECT_NE(status.message().find("compiled for sm_90, and the card is sm_80"), std::string::npos) << status;
  fake().SetCapability(90);
  fake().SetMemory(100);
  status = Open()->Load(Branches(), {}).status();
  EXPECT_EQ(status.code(), ErrorCode::kOutOfMemory);
  for (const char* part : {"cuMemAlloc", "program 'branches'", "bytes where", "are free", "smaller batch"}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << part << " in " << status;
  }
}

TEST_F(CudaDeviceTest, AKernelThatFailsIsNamedOnRequest) {
  std::unique_ptr<Device> device = Open();
  {
    std::unique_ptr<Executable> executable = Load(*device, Branches());
    Ports ports;
    fake().Fail("cuStreamSynchronize", 1, 700);
    const Status status = executable->Run(ports.in, ports.out);
    EXPECT_EQ(status.code(), ErrorCode::kDeviceFailed);
    for (const char* part : {"one of the 5 kernels of program 'branches'", "TESSERA_CUDA_SYNC=1", "outside of its"}) {
      EXPECT_NE(status.message().find(part), std::string::npos) << part << " in " << status;
    }
  }
  setenv("TESSERA_CUDA_SYNC", "1", 1);
  std::unique_ptr<Executable> executable = Load(*device, Branches());
  unsetenv("TESSERA_CUDA_SYNC");
  Ports ports;
  ASSERT_TRUE(executable->Run(ports.in, ports.out).ok());
  ports.Check();
  fake().Fail("cuStreamSynchronize", 3, 700);
  const Status status = executable->Run(ports.in, ports.out);
  EXPECT_NE(status.message().find("kernel 'sum' of node 'third'"), std::string::npos) << status;
}

TEST_F(CudaDeviceTest, BrokenProgramsAreRefused) {
  std::unique_ptr<Device> device = Open();
  std::shared_ptr<Program> p = Branches();
  p->kernels[2] = "nowhere";
  EXPECT_NE(device->Load(p, {}).status().message().find("'nowhere'"), std::string::npos);
  p = Branches();
  p->images = {Image("not PTX")};
  EXPECT_EQ(device->Load(p, {}).status().code(), ErrorCode::kProgramInvalid);
  p->images.clear();
  EXPECT_EQ(device->Load(p, {}).status().code(), ErrorCode::kProgramInvalid);
  p->outputs[0].buffer = 0;
  EXPECT_EQ(device->Load(p, {}).status().code(), ErrorCode::kProgramInvalid);
}

// All that a user does with a device, up to the first error.
Status Life(const std::string& cache_dir) {
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, OpenDevice("cuda:1"));
  device->Describe();
  std::shared_ptr<Program> p = WithTensorMaps();
  p->steps[3].launch.shared_bytes = 60 << 10;
  ASSIGN_OR_RETURN(std::unique_ptr<Executable> first, device->Load(p, {.cache_dir = cache_dir}));
  ASSIGN_OR_RETURN(std::unique_ptr<Executable> second, device->Load(p, {.cache_dir = cache_dir}));
  Ports ports;
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
TEST_F(CudaDeviceTest, EveryCallMayFail) {
  const std::string cache = std::string(testing::TempDir()) + "/faults";
  const auto fresh_cache = [&] {
    std::filesystem::remove_all(cache);
    std::filesystem::create_directories(cache);
  };
  fresh_cache();
  ASSERT_TRUE(Life(cache).ok()) << Life(cache);
  fake().Reset(OnHost);
  fresh_cache();
  ASSERT_TRUE(Life(cache).ok());
  const std::map<std::string, int> calls = fake().Calls();
  // Texts only, what there is another way for, and giving back, of which nobody waits for an answer.
  const std::set<std::string> harmless = {"cuDriverGetVersion",       "cuDeviceGetName",  "cuDeviceTotalMem_v2",
                                          "cuGetErrorName",           "cuGetErrorString", "cuMemHostAlloc",
                                          "cuPointerGetAttributes",   "cuLinkDestroy",    "cuGraphDestroy",
                                          "cuGraphAddDependencies_v2"};
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
      fake().Reset(OnHost);
      fake().Fail(function, nth, function.find("Mem") != std::string::npos ? 2 : 700);
      const Status status = Life(cache);
      ++injected;
      const std::string where = function + ", call " + std::to_string(nth) + " of " + std::to_string(count);
      if (gives_back(function)) {
        fake().Reset(OnHost);  // what could not be given back is still there
        continue;
      }
      EXPECT_EQ("", fake().Owned()) << where << ": " << status;
      EXPECT_EQ("", fake().Misuse()) << where << ": " << status;
      if (status.ok()) {
        // More ways to go on: awaiting what is destroyed anyway, making current what only gives back, and a graph
        // with plain edges where one with programmatic edges is refused.
        EXPECT_TRUE(harmless.count(function) != 0 || function == "cuStreamSynchronize" ||
                    function == "cuCtxPushCurrent_v2" || function == "cuGraphInstantiateWithFlags" ||
                    function == "cuGraphCreate" || function == "cuGraphAddKernelNode_v2" || function == "cuGraphUpload")
            << where << " was not noticed";
        continue;
      }
      const std::string plain = function.substr(0, function.find("_v2"));
      EXPECT_NE(status.message().find(plain.substr(0, plain.find("WithFlags"))), std::string::npos)
          << where << ": " << status;
      EXPECT_NE(status.message().find("; "), std::string::npos) << where << ": " << status;
      EXPECT_NE(status.message().find("CUDA_ERROR_"), std::string::npos) << where << ": " << status;
    }
  }
  std::printf("%d faults in calls of %zu functions\n", injected, calls.size());
  EXPECT_GT(injected, 100);
}

}  // namespace
}  // namespace tessera
