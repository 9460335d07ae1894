// GpuCard: one card as its vendor's driver sees it, with its memory counted; and owners of what is taken from it.
//
//   ASSIGN_OR_RETURN(std::shared_ptr<GpuCard> card, OpenCudaCard(/*ordinal=*/0));
//   const GpuCurrent current(*card);
//   ASSIGN_OR_RETURN(GpuMemory arena, GpuMemory::Allocate(card, bytes, "the arena of program 'mlp'"));
//
// A driver is a GpuApi (gpu_api.h) and a GpuCard: what its cards are, and how a program's images become their code.
// All else is shared (gpu_code.h, gpu_device.h). An owner gives back what it has when it is destroyed; it keeps the
// card alive for that. GpuCard is thread-safe; an owner has one thread at a time. Tested by cuda_device_test.cc and
// hip_device_test.cc.
#ifndef TESSERA_RUNTIME_DRIVERS_GPU_CARD_H_
#define TESSERA_RUNTIME_DRIVERS_GPU_CARD_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/drivers/gpu_api.h"
#include "runtime/program.h"

namespace tessera {

// What a driver loads for an image of a program.
struct GpuBinary {
  std::string assembled;             // what an assembler made of it; empty: the image is loaded as it is
  std::span<const std::byte> image;  // of the program, which stays as long as the module: HIP makes no copy
  std::vector<std::string> kernels;  // that it defines
  std::string assembler;             // "nvJitLink 13.0"
  bool from_cache = false;
  const void* data() const { return assembled.empty() ? static_cast<const void*>(image.data()) : assembled.data(); }
  size_t size() const { return assembled.empty() ? image.size() : assembled.size(); }
};

class GpuCard {
 public:
  virtual ~GpuCard() = default;
  GpuCard(const GpuCard&) = delete;
  GpuCard& operator=(const GpuCard&) = delete;

  const GpuApi& api() const { return api_; }
  // "NVIDIA H100 80GB HBM3, sm_90, 81559 MiB, driver for CUDA 13.0".
  virtual std::string Describe() const = 0;
  // The environment variable that makes a driver await each kernel.
  virtual const char* sync_variable() const = 0;

  // Makes this card the thread's, and what was before again. See GpuCurrent.
  virtual Status Enter(int* before) const = 0;
  virtual void Leave(int before) const = 0;

  // What the driver is to load, one for each image, of a program that Verify accepts. In the card's context.
  // kTargetUnsupported where the program is for another chip.
  virtual StatusOr<std::vector<GpuBinary>> MakeBinaries(const Program& program, const std::string& cache_dir) const = 0;
  // Before the first launch of a step: what it asks of the function, or why the card cannot. `what` names the kernel.
  virtual Status PrepareLaunch(GpuFunction function, const Step& step, std::string_view what) const = 0;
  // A tensor map as the kernel takes it, 64-byte aligned words; kTargetUnsupported where a vendor has none.
  struct alignas(64) TensorMapWords {
    uint64_t words[16] = {};
  };
  virtual Status EncodeMap(const Program& program, const TensorMap& map, GpuAddress address, std::string_view what,
                           TensorMapWords* encoded) const = 0;

  // "… OUT_OF_MEMORY …" of an allocation, with what is free.
  Status AllocationFailed(GpuResult result, std::string_view call, int64_t bytes, std::string_view what) const;

  // Bytes that Tessera holds on the card now, and the most it has held at once.
  int64_t bytes() const;
  int64_t peak_bytes() const;
  void Count(int64_t bytes);

 protected:
  explicit GpuCard(const GpuApi& api) : api_(api) {}

 private:
  const GpuApi& api_;
  mutable std::mutex mutex_;
  int64_t bytes_ = 0, peak_bytes_ = 0;
};

// The open cards of a vendor: one object for each card of the machine, so that its memory is counted once.
class GpuCards {
 public:
  // The card of that number, the same one for all who have it open; `make` opens it anew.
  StatusOr<std::shared_ptr<GpuCard>> Find(int ordinal, StatusOr<std::shared_ptr<GpuCard>> (*make)(int ordinal));

 private:
  std::mutex mutex_;
  std::map<int, std::weak_ptr<GpuCard>> cards_;
};

// kDeviceMissing where there is no card of that number; `vendor` is "cuda", `see` says where cards are listed.
Status CheckCardExists(const GpuApi& api, int ordinal, std::string_view vendor, std::string_view see);

// The card is current on this thread while this lives.
class GpuCurrent {
 public:
  explicit GpuCurrent(const GpuCard& card) : card_(card), status_(card.Enter(&before_)) {}
  ~GpuCurrent() {
    if (status_.ok()) card_.Leave(before_);
  }
  GpuCurrent(const GpuCurrent&) = delete;
  GpuCurrent& operator=(const GpuCurrent&) = delete;
  // Whether the driver took it; nothing else works otherwise.
  const Status& status() const { return status_; }

 private:
  const GpuCard& card_;
  int before_ = 0;
  const Status status_;
};

// Memory of the card.
class GpuMemory {
 public:
  // Never empty, so that every buffer has an address. The card is current, as for everything here.
  static StatusOr<GpuMemory> Allocate(std::shared_ptr<GpuCard> card, int64_t bytes, std::string_view what);
  GpuMemory() = default;
  GpuMemory(GpuMemory&& other) noexcept { *this = std::move(other); }
  GpuMemory& operator=(GpuMemory&& other) noexcept;
  ~GpuMemory();
  GpuAddress address() const { return address_; }

 private:
  std::shared_ptr<GpuCard> card_;
  GpuAddress address_ = 0;
  int64_t bytes_ = 0;
};

// Memory of the host that the card's copy engines reach by themselves.
class GpuPinnedMemory {
 public:
  static StatusOr<GpuPinnedMemory> Allocate(std::shared_ptr<GpuCard> card, int64_t bytes, std::string_view what);
  GpuPinnedMemory() = default;
  GpuPinnedMemory(GpuPinnedMemory&& other) noexcept { *this = std::move(other); }
  GpuPinnedMemory& operator=(GpuPinnedMemory&& other) noexcept;
  ~GpuPinnedMemory();
  void* data() const { return data_; }

 private:
  std::shared_ptr<GpuCard> card_;
  void* data_ = nullptr;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_GPU_CARD_H_
