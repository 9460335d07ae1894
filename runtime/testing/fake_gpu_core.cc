#include "runtime/testing/fake_gpu_core.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace tessera {

extern "C" FakeGpu* TesseraFakeGpu() { return &FakeCore(); }

void FakeGpuCore::Reset(Hook hook) {
  const std::lock_guard lock(mutex_);
  hook_ = hook;
  calls_.clear();
  faults_.clear();
  launches_.clear();
  // What a test left because giving it back was made to fail.
  for (const auto& [handle, owned] : owned_) owned.destroy(handle);
  owned_.clear();
  misuse_.clear();
  memory_.clear();
  tensor_maps_.clear();
  contexts_ = 0;
  left_ = int64_t{1} << 40;
  ResetVendor();
}

void FakeGpuCore::Fail(const std::string& function, int nth, int code, bool for_good) {
  const std::lock_guard lock(mutex_);
  faults_[function] = {calls_[function] + nth, code, for_good};
}

std::string FakeGpuCore::Owned() {
  std::string text;
  for (const auto& [handle, owned] : owned_) text += owned.what + "\n";
  if (contexts_ != 0) text += "context\n";
  return text;
}

int64_t FakeGpuCore::BytesFrom(uint64_t address) {
  const std::lock_guard lock(mutex_);
  const auto next = memory_.upper_bound(address);
  if (next == memory_.begin()) return 0;
  const auto& [start, size] = *std::prev(next);
  return address >= start + size ? 0 : static_cast<int64_t>(start + size - address);
}

GpuResult FakeGpuCore::Enter(std::string_view function, bool needs_card) {
  auto count = calls_.find(function);
  if (count == calls_.end()) count = calls_.emplace(function, 0).first;
  const int call = ++count->second;
  if (needs_card && CurrentCard() < 0) Wrong(std::string(function), "without a current context");
  const auto fault = faults_.find(function);
  if (fault == faults_.end()) return 0;
  const auto [nth, code, for_good] = fault->second;
  return call == nth || (for_good && call > nth) ? code : 0;
}

GpuResult FakeGpuCore::GiveMemory(GpuAddress* address, size_t bytes) {
  if (bytes == 0) return kGpuInvalidValue;
  if (static_cast<int64_t>(bytes) > left_) return kGpuOutOfMemory;
  left_ -= static_cast<int64_t>(bytes);
  // What nobody has written is not 0.
  const std::string& memory = *all_memory_.emplace_back(std::make_unique<std::string>(bytes, '\xa5'));
  *address = reinterpret_cast<GpuAddress>(memory.data());
  memory_[*address] = bytes;
  owned_[memory.data()] = {"memory of " + std::to_string(bytes) + " bytes", CurrentCard(), [](const void*) {}};
  return 0;
}

GpuResult FakeGpuCore::TakeMemory(const char* function, GpuAddress address) {
  if (memory_.erase(address) == 0) {
    Wrong(function, "given back what it never gave, or twice");
    return kGpuInvalidValue;
  }
  owned_.erase(reinterpret_cast<const void*>(address));
  return 0;  // the bytes stay, so that a late write does no harm to the test itself
}

GpuResult FakeGpuCore::GivePinned(void** address, size_t bytes) {
  *address = std::malloc(bytes);
  owned_[*address] = {"pinned memory", CurrentCard(), [](const void* it) { std::free(const_cast<void*>(it)); }};
  return 0;
}

GpuResult FakeGpuCore::Take(const char* function, const void* handle) {
  const auto found = owned_.find(handle);
  if (found == owned_.end()) {
    Wrong(function, "given back what it never gave, or twice");
    return kGpuInvalidHandle;
  }
  found->second.destroy(handle);
  owned_.erase(found);
  return 0;
}

bool FakeGpuCore::Owns(const char* function, const void* handle) {
  const auto found = owned_.find(handle);
  if (found == owned_.end()) {
    Wrong(function, "of a handle that is not one");
    return false;
  }
  if (found->second.card != CurrentCard()) Wrong(function, "of a " + found->second.what + " of another card");
  return true;
}

bool FakeGpuCore::IsPinned(const void* address) const {
  const auto found = owned_.find(address);
  return found != owned_.end() && found->second.what == "pinned memory";
}

bool FakeGpuCore::OnCard(const char* function, GpuAddress at, size_t bytes) {
  const int64_t left = BytesFrom(at);
  if (left > 0 && static_cast<int64_t>(bytes) > left) Wrong(function, "copies across the end of a buffer");
  return left > 0;
}

GpuResult FakeGpuCore::Copy(const char* function, GpuAddress to, GpuAddress from, size_t bytes, const void* stream) {
  if (!Owns(function, stream)) return kGpuInvalidHandle;
  const bool into = OnCard(function, to, bytes), out_of = OnCard(function, from, bytes);
  if (!into && !out_of) Wrong(function, "from the host to the host");
  std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
  return 0;
}

GpuResult FakeGpuCore::CheckLaunch(const FakeKernel& kernel, const GpuKernelNode& k) const {
  const bool fits = k.grid_x >= 1 && k.grid_y >= 1 && k.grid_z >= 1 && k.grid_x <= 2147483647u && k.grid_y <= 65535 &&
                    k.grid_z <= 65535 && k.threads >= 1 && k.threads <= 1024 &&
                    uint64_t{k.grid_x} * k.threads <= max_threads_x();
  if (!fits) return kGpuInvalidValue;
  return static_cast<int>(k.shared_bytes) > kernel.max_shared ? 701 : 0;
}

FakeLaunch FakeGpuCore::LaunchOf(const FakeKernel& kernel, const GpuKernelNode& k) {
  FakeLaunch launch = {.kernel = kernel.name,
                       .grid = {k.grid_x, k.grid_y, k.grid_z},
                       .threads = k.threads,
                       .shared_bytes = k.shared_bytes,
                       .params = {}};
  for (size_t p = 0; p < kernel.params.size(); ++p) {
    const auto* words = static_cast<const uint64_t*>(k.params[p]);
    if (!kernel.params[p]) {
      launch.params.push_back(words[0]);
    } else if (words[0] == kFakeTensorMapMark && words[1] < tensor_maps_.size()) {
      launch.tensor_maps.push_back(tensor_maps_[words[1]]);
    } else {
      Wrong("a launch", "of '" + kernel.name + "' with a tensor map that nobody encoded");
    }
  }
  return launch;
}

GpuResult FakeGpuCore::AddNode(const char* function, GpuGraphNode* node, GpuGraph graph,
                               const GpuGraphNode* dependencies, size_t count, const GpuKernelNode& kernel) {
  if (!Owns(function, graph)) return kGpuInvalidHandle;
  const auto& called = *reinterpret_cast<const FakeKernel*>(kernel.function);
  if (const GpuResult refused = CheckLaunch(called, kernel); refused != 0) return refused;
  auto* added = new FakeNode{.launch = LaunchOf(called, kernel), .before = {}};
  for (size_t d = 0; d < count; ++d) added->before.push_back(reinterpret_cast<FakeNode*>(dependencies[d]));
  added->launch.edges = static_cast<int>(count);
  reinterpret_cast<FakeGraph*>(graph)->nodes.push_back(added);
  *node = reinterpret_cast<GpuGraphNode>(added);
  return 0;
}

void FakeGpuCore::Execute(const FakeLaunch& launch) {
  launches_.push_back(launch);
  if (hook_ != nullptr) hook_(launch);
}

}  // namespace tessera
