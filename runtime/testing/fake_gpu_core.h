// What the fake drivers of both vendors share behind their functions: counts, faults, ownership, memory, launches. See
// fake_gpu.h; a vendor's file gives the functions at the end.
#ifndef TESSERA_RUNTIME_TESTING_FAKE_GPU_CORE_H_
#define TESSERA_RUNTIME_TESTING_FAKE_GPU_CORE_H_

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/drivers/gpu_api.h"
#include "runtime/testing/fake_gpu.h"

namespace tessera {

constexpr int kFakeCards = 2;
constexpr uint64_t kFakeTensorMapMark = 0x70616d726f736e65;  // the first word of a map

struct FakeKernel {
  std::string name;
  std::vector<bool> params;  // of each: is it a tensor map?
  int max_shared = 48 << 10;
};
struct FakeModule {
  std::map<std::string, FakeKernel> kernels;
};
struct FakeNode {
  FakeLaunch launch;
  std::vector<FakeNode*> before;
};
struct FakeGraph {
  ~FakeGraph() {
    for (FakeNode* node : nodes) delete node;
  }
  std::vector<FakeNode*> nodes;
};
struct FakeExec {
  std::vector<FakeLaunch> order;
};

class FakeGpuCore : public FakeGpu {
 public:
  void Reset(Hook hook) override;
  void Fail(const std::string& function, int nth, int code, bool for_good) override;
  std::map<std::string, int> Calls() override { return {calls_.begin(), calls_.end()}; }
  std::vector<FakeLaunch> Launches() override { return launches_; }
  std::string Owned() override;
  std::string Misuse() override { return misuse_; }
  int64_t BytesFrom(uint64_t address) override;
  void SetMemory(int64_t bytes) override { left_ = bytes; }

  // Counts a call; the code that it is to return, 0 for none. Most calls need a current card.
  GpuResult Enter(std::string_view function, bool needs_card = true);
  void Wrong(const std::string& function, const std::string& what) { misuse_ += function + ": " + what + "\n"; }

  // Ownership of what the current card gives.
  template <typename T, typename Handle>
  GpuResult Give(Handle* handle, T* object, const std::string& what) {
    *handle = reinterpret_cast<Handle>(object);
    owned_[object] = {what, CurrentCard(), [](const void* it) { delete static_cast<const T*>(it); }};
    return 0;
  }
  GpuResult GiveMemory(GpuAddress* address, size_t bytes);
  GpuResult TakeMemory(const char* function, GpuAddress address);
  GpuResult GivePinned(void** address, size_t bytes);
  GpuResult Take(const char* function, const void* handle);
  bool Owns(const char* function, const void* handle);
  bool IsPinned(const void* address) const;

  // Whether [at, at + bytes) lies in the memory of a card; wrong where it starts there and ends elsewhere.
  bool OnCard(const char* function, GpuAddress at, size_t bytes);
  GpuResult Copy(const char* function, GpuAddress to, GpuAddress from, size_t bytes, const void* stream);

  // What a launch of `kernel` would be refused for; 0 for nothing.
  GpuResult CheckLaunch(const FakeKernel& kernel, const GpuKernelNode& k) const;
  FakeLaunch LaunchOf(const FakeKernel& kernel, const GpuKernelNode& k);
  GpuResult AddNode(const char* function, GpuGraphNode* node, GpuGraph graph, const GpuGraphNode* dependencies,
                    size_t count, const GpuKernelNode& kernel);
  void Execute(const FakeLaunch& launch);

  std::recursive_mutex mutex_;
  std::vector<FakeTensorMap> tensor_maps_;
  int contexts_ = 0;
  int64_t left_ = int64_t{1} << 40;

  // The vendor's: the thread's card, -1 for none; what a module holds, or the code for why it does not load.
  virtual int CurrentCard() const = 0;
  virtual GpuResult Parse(const void* image, FakeModule* module) const = 0;
  virtual int version() const = 0;
  // Work-items of a grid's first axis, and bytes of shared memory that need no asking.
  virtual uint64_t max_threads_x() const = 0;
  virtual void ResetVendor() = 0;

 private:
  Hook hook_ = nullptr;
  // Found by names that are no strings: a call that was made before allocates nothing.
  std::map<std::string, int, std::less<>> calls_;
  struct Fault {
    int nth, code;
    bool for_good;
  };
  std::map<std::string, Fault, std::less<>> faults_;
  std::vector<FakeLaunch> launches_;
  struct OwnedThing {
    std::string what;
    int card;
    void (*destroy)(const void* handle);
  };
  std::map<const void*, OwnedThing> owned_;
  std::map<GpuAddress, size_t> memory_;
  std::vector<std::unique_ptr<std::string>> all_memory_;  // also what was given back: see TakeMemory
  std::string misuse_;
};

// The vendor's one object.
FakeGpuCore& FakeCore();

// Each function: one at a time, counted, and failing where it was told to.
#define TES_FAKE(...)                            \
  const std::lock_guard lock(FakeCore().mutex_); \
  if (const GpuResult fault = FakeCore().Enter(__VA_ARGS__); fault != 0) return fault

}  // namespace tessera

#endif  // TESSERA_RUNTIME_TESTING_FAKE_GPU_CORE_H_
