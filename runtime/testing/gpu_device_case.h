// What tests of the drivers cuda and hip share: a program of five steps, what its kernels do on a driver that is not
// there (fake_gpu.h), and the vendors with their names for things.
#ifndef TESSERA_RUNTIME_TESTING_GPU_DEVICE_CASE_H_
#define TESSERA_RUNTIME_TESTING_GPU_DEVICE_CASE_H_

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/device.h"
#include "runtime/testing/code_object_writer.h"
#include "runtime/testing/fake_gpu.h"

namespace tessera {

struct GpuVendor {
  const char* device;   // "cuda"
  const char* library;  // the fake one
  const char* target;   // of programs: "cuda:sm_90"
  // What the card of another chip calls itself, and what is said of programs then.
  const char* other_chip;
  const char* wrong_chip;
  const char* describes;
  const char* error_prefix;  // of errors' names
  const char* sync_variable;
  const char* assembler;
  // An image with kernels of that many parameters.
  std::string (*image)(const std::vector<std::pair<const char*, int>>& kernels);
  // The vendor's names of gpu_functions.def.
  struct Names {
#define TES_GPU(member, parameters, cuda, hip) const char* member;
#define TES_GPU_OPTIONAL(member, parameters, cuda, hip) TES_GPU(member, parameters, cuda, hip)
#include "runtime/drivers/gpu_functions.def"
#undef TES_GPU
  } names;
  bool has_programmatic_edges;
  // A program that uses all that the vendor has.
  std::shared_ptr<Program> (*everything)();
  // Functions that make a card current.
  const char* make_current;
  // Functions that may fail and nothing is lost: those of texts only, those that there is another way for (copies
  // without pinned memory, a graph with plain edges), and awaiting what is destroyed anyway.
  const char* harmless;
};
inline std::ostream& operator<<(std::ostream& out, const GpuVendor& vendor) { return out << vendor.device; }

inline std::string PtxWith(const std::vector<std::pair<const char*, int>>& kernels) {
  std::string text = ".version 7.8\n.target sm_90\n.address_size 64\n";
  for (const auto& [name, params] : kernels) {
    text += ".visible .entry " + std::string(name) + "(";
    for (int p = 0; p < params; ++p) text += (p == 0 ? ".param .u64 p" : ", .param .u64 p") + std::to_string(p);
    text += ")\n{ ret; }\n";
  }
  return text;
}

inline std::string CodeObjectWith(const std::vector<std::pair<const char*, int>>& kernels) {
  std::vector<CodeObjectKernel> all;
  for (const auto& [name, params] : kernels) all.push_back({.name = name, .kernarg_bytes = 8 * params});
  return WriteCodeObject(CodeObjectMachine("gfx942"), all);
}

std::shared_ptr<Program> WithTensorMaps();
std::shared_ptr<Program> WithBlocks();

inline constexpr GpuVendor kNvidia = {
    .device = "cuda",
    .library = "runtime/testing/fake_libcuda.so",
    .target = "cuda:sm_90",
    .other_chip = "sm_80",
    .wrong_chip = "compiled for sm_90, and the card is sm_80",
    .describes = "Fake card 1, sm_90",
    .error_prefix = "CUDA_ERROR_",
    .sync_variable = "TESSERA_CUDA_SYNC",
    .assembler = "driver 13.0",
    .image = PtxWith,
#define TES_GPU(member, parameters, cuda, hip) .member = #cuda,
    .names =
        {
#include "runtime/drivers/gpu_functions.def"
        },
#undef TES_GPU
    .has_programmatic_edges = true,
    .everything = WithTensorMaps,
    .make_current = "cuCtxPushCurrent_v2",
    .harmless =
        "cuDriverGetVersion cuDeviceGetName cuDeviceTotalMem_v2 cuGetErrorName cuGetErrorString cuMemHostAlloc "
        "cuPointerGetAttributes cuStreamSynchronize cuGraphAddDependencies_v2 cuGraphInstantiateWithFlags "
        "cuGraphCreate cuGraphAddKernelNode_v2 cuGraphUpload",
};

inline constexpr GpuVendor kAmd = {
    .device = "hip",
    .library = "runtime/testing/fake_libamdhip64.so",
    .target = "hip:gfx942",
    .other_chip = "gfx90a:sramecc+:xnack-",
    .wrong_chip = "compiled for gfx942, and the card is gfx90a:sramecc+:xnack-",
    .describes = "Fake card 1, gfx942:sramecc+:xnack-, 65536 MiB, HIP 6.2",
    .error_prefix = "hipError",
    .sync_variable = "TESSERA_HIP_SYNC",
    .assembler = "",
    .image = CodeObjectWith,
#define TES_GPU(member, parameters, cuda, hip) .member = #hip,
    .names =
        {
#include "runtime/drivers/gpu_functions.def"
        },
#undef TES_GPU
#undef TES_GPU_OPTIONAL
    .has_programmatic_edges = false,
    .everything = WithBlocks,
    .make_current = "hipGetDevice hipSetDevice",
    .harmless =
        "hipRuntimeGetVersion hipGetErrorName hipGetErrorString hipHostMalloc hipPointerGetAttributes "
        "hipStreamSynchronize",
};

inline ProgramImage ImageOf(std::string bytes) {
  const auto owner = std::make_shared<const std::string>(std::move(bytes));
  return {std::as_bytes(std::span(*owner)), owner};
}

// What the kernels do, on four floats each.
inline void FiveStepsOnHost(const FakeLaunch& launch) {
  const auto at = [&](size_t p) { return reinterpret_cast<float*>(launch.params[p]); };
  for (int i = 0; i < 4; ++i) {
    if (launch.kernel == "plus1") at(1)[i] = at(0)[i] + 1;
    if (launch.kernel == "times2") at(1)[i] = 2 * at(0)[i];
    if (launch.kernel == "blocks" || launch.kernel == "mapped") at(1)[i] = 2 * at(0)[i];
    if (launch.kernel == "sum") at(2)[i] = at(0)[i] + at(1)[i];
  }
}

// t = x + 1 and u = 2 x side by side; y = t + u; then v = 2 u where t lay; z = v + w. So y = 3 x + 1, z = 4 x + w.
inline std::shared_ptr<Program> FiveSteps(const GpuVendor& vendor) {
  auto p = std::make_shared<Program>();
  p->name = "branches";
  p->target = vendor.target;
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
  p->kernels = {"plus1", "times2", "sum", "blocks"};
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
  p->images = {ImageOf(vendor.image({{"plus1", 4}, {"times2", 4}, {"sum", 5}, {"blocks", 2}}))};
  return p;
}

// The fourth step is written for blocks.
inline std::shared_ptr<Program> WithBlocks() {
  std::shared_ptr<Program> p = FiveSteps(kAmd);
  p->steps[3] = {.kernel = 3, .args = {{.buffer = 2}, {.buffer = 4, .writes = true}}, .label = "fourth"};
  p->steps[3].launch = {.x = 1, .threads = 128};
  return p;
}

// The fourth step overlaps with what is before it, and sees u and w through tensor maps.
inline std::shared_ptr<Program> WithTensorMaps() {
  std::shared_ptr<Program> p = FiveSteps(kNvidia);
  p->kernels.push_back("mapped");
  p->images.push_back(
      ImageOf(".target sm_90\n.visible .entry mapped(.param .u64 a, .param .u64 b, .param .align 64 .b8 m[128], "
              ".param .align 64 .b8 n[128])\n{ ret; }\n"));
  p->steps[3] = {.kernel = 4, .args = {{.buffer = 2}, {.buffer = 4, .writes = true}}, .label = "fourth"};
  p->steps[3].launch = {.x = 1, .threads = 128, .overlap = true};
  p->steps[3].tensor_maps = {
      {.arg = 0, .type = DType::kF32, .dims = {4}, .strides = {}, .box = {4}, .swizzle = 32},
      {.arg = 1, .type = DType::kI8, .dims = {16, 1}, .strides = {32}, .box = {16, 8}, .swizzle = 128}};
  return p;
}

struct FiveStepPorts {
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

// The vendor's driver with a fake library, forgotten before each test and without leaks or misuse after it.
class FakeVendor {
 public:
  explicit FakeVendor(const GpuVendor& vendor) : vendor_(vendor), fake_(FakeGpu::Use(vendor.library)) {
    fake_.Reset(FiveStepsOnHost);
  }
  ~FakeVendor() {
    EXPECT_EQ("", fake_.Owned());
    EXPECT_EQ("", fake_.Misuse());
  }
  FakeGpu& fake() { return fake_; }
  // The vendor's first card, or ":1".
  std::unique_ptr<Device> Open(std::string_view card = "") const {
    StatusOr<std::unique_ptr<Device>> device = OpenDevice(std::string(vendor_.device) + std::string(card));
    EXPECT_TRUE(device.ok()) << device.status();
    return *std::move(device);
  }
  static std::unique_ptr<Executable> Load(Device& device, std::shared_ptr<const Program> program) {
    StatusOr<std::unique_ptr<Executable>> executable = device.Load(std::move(program), {});
    EXPECT_TRUE(executable.ok()) << executable.status();
    return *std::move(executable);
  }

 private:
  const GpuVendor& vendor_;
  FakeGpu& fake_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_TESTING_GPU_DEVICE_CASE_H_
