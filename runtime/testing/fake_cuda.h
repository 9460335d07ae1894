// FakeCuda: NVIDIA's driver as a test double, so that the driver cuda is tested where there is no card.
//
//   FakeCuda& fake = FakeCuda::Use("runtime/testing/fake_libcuda.so");   // before anything opens libcuda
//   fake.Fail("cuMemAlloc_v2", /*nth=*/2, /*code=*/2);                   // the second call from now on, once
//   ... OpenDevice("cuda") ...
//   EXPECT_EQ("", fake.Owned());                                         // nothing leaked
//   EXPECT_EQ("", fake.Misuse());                                        // no call that a driver would punish
//
// fake_libcuda.so exports every function of cuda_functions.def. Memory of its two cards is memory of the host, so that
// copies move bytes; modules are PTX, whose entries are kernels; a launch checks its geometry and then calls the hook
// that the test installed, with the values of the parameters. A graph runs its nodes in an order that its edges allow
// and that is as far as possible from the one in which they were added: an edge too few shows in the results. Functions
// are counted, may be told to fail, and everything that they give is tracked until it is given back. One per process.
// Thread-safe as the driver is. Tested by drivers/cuda_device_test.cc.
#ifndef TESSERA_RUNTIME_TESTING_FAKE_CUDA_H_
#define TESSERA_RUNTIME_TESTING_FAKE_CUDA_H_

#include <cstdint>
#include <map>
#include <string>
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

class FakeCuda {
 public:
  using Hook = void (*)(const FakeLaunch& launch);

  // Opens the library, points $TESSERA_LIBCUDA at it, and forgets what was before.
  static FakeCuda& Use(const char* path);
  virtual ~FakeCuda() = default;

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
  // Calls that were wrong whatever they returned, a line each: given back twice, without a context, outside of memory.
  virtual std::string Misuse() = 0;
  // What cuGetErrorName says of results, cards' compute capability, bytes of memory left.
  virtual void SetCapability(int capability) = 0;
  virtual void SetMemory(int64_t bytes) = 0;
};

// Exported by the library: the one FakeCuda.
extern "C" FakeCuda* TesseraFakeCuda();

}  // namespace tessera

#endif  // TESSERA_RUNTIME_TESTING_FAKE_CUDA_H_
