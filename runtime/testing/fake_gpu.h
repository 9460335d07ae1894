// FakeGpu: NVIDIA's or AMD's driver as a test double, so that the drivers cuda and hip are tested where there is no
// card.
//
//   FakeGpu& fake = FakeGpu::Use("runtime/testing/fake_libcuda.so");     // before anything opens libcuda
//   fake.Fail("cuMemAlloc_v2", /*nth=*/2, /*code=*/2);                   // the second call from now on, once
//   ... OpenDevice("cuda") ...
//   EXPECT_EQ("", fake.Owned());                                         // nothing leaked
//   EXPECT_EQ("", fake.Misuse());                                        // no call that a driver would punish
//
// fake_libcuda.so and fake_libamdhip64.so export every function of gpu_functions.def under their vendor's names
// (fake_gpu_functions.cc, once for both) and the vendor's own (fake_cuda.cc, fake_hip.cc). Memory of the two cards is
// memory of the host, so that copies move bytes; modules are PTX or code objects, whose entries are kernels; a launch
// checks its geometry and then calls the hook that the test installed, with the values of the parameters. A graph runs
// its nodes in an order that its edges allow and that is as far as possible from the one in which they were added: an
// edge too few shows in the results. Functions are counted, may be told to fail, and everything that they give is
// tracked, with its card, until it is given back. One per library and process. Thread-safe as the drivers are. Tested
// by drivers/cuda_device_test.cc and drivers/hip_device_test.cc.
#ifndef TESSERA_RUNTIME_TESTING_FAKE_GPU_H_
#define TESSERA_RUNTIME_TESTING_FAKE_GPU_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// What a tensor map that was encoded says, as cuda.h's parameters have it.
struct FakeTensorMap {
  uint64_t address = 0;
  int type = 0, swizzle = 0;
  std::vector<uint64_t> dims, strides;
  std::vector<unsigned> box;
};

struct FakeLaunch {
  std::string kernel;
  unsigned grid[3] = {1, 1, 1};
  unsigned threads = 1;
  unsigned shared_bytes = 0;
  std::vector<uint64_t> params;
  std::vector<FakeTensorMap> tensor_maps;  // parameters of 128 bytes
  int programmatic_edges = 0;              // into its node of a graph
  int edges = 0;
};

class FakeGpu {
 public:
  using Hook = void (*)(const FakeLaunch& launch);

  // Opens the library, points $TESSERA_LIBCUDA or $TESSERA_LIBAMDHIP64 at it, and forgets what was before.
  static FakeGpu& Use(const char* path);
  virtual ~FakeGpu() = default;

  // Forgets counts, faults, the log and what is owned; kernels do `hook` from now on (null: nothing).
  virtual void Reset(Hook hook) = 0;
  // Lets the nth call from now on (1: the next) of a function return `code`, without doing anything else. For all later
  // ones too where `for_good`.
  virtual void Fail(const std::string& function, int nth, int code, bool for_good = false) = 0;
  // Calls of each function since the last Reset.
  virtual std::map<std::string, int> Calls() = 0;
  // Kernels in the order in which they ran.
  virtual std::vector<FakeLaunch> Launches() = 0;
  // What was taken and not given back, a line each: "stream", "memory of 64 bytes".
  virtual std::string Owned() = 0;
  // Calls that were wrong whatever they returned, a line each: given back twice, without a context, outside of memory,
  // on another card than that which the thing belongs to.
  virtual std::string Misuse() = 0;
  // Where [address, …) lies in memory of a card: how many bytes are left from there; 0 where it does not.
  virtual int64_t BytesFrom(uint64_t address) = 0;
  // The cards' chip, "sm_90" or "gfx942:sramecc+:xnack-", and the bytes of memory that are left.
  virtual void SetChip(std::string_view chip) = 0;
  virtual void SetMemory(int64_t bytes) = 0;
  // The environment variable that points the driver at the library.
  virtual const char* variable() const = 0;
};

// Exported by the library: the one FakeGpu.
extern "C" FakeGpu* TesseraFakeGpu();

}  // namespace tessera

#endif  // TESSERA_RUNTIME_TESTING_FAKE_GPU_H_
