// CudaCard: one NVIDIA card as the driver sees it, with its memory counted; and owners of what is taken from it.
//
//   ASSIGN_OR_RETURN(std::shared_ptr<CudaCard> card, CudaCard::Open(/*ordinal=*/0));
//   ASSIGN_OR_RETURN(CudaMemory arena, CudaMemory::Allocate(card, bytes, "the arena of program 'mlp'"));
//
// All programs of a card share its primary context, as other libraries in the process do (PyTorch), so that memory of
// one is memory of all. An owner gives back what it has when it is destroyed; it keeps the card alive for that.
// CudaCard is thread-safe; an owner has one thread at a time. Tested by cuda_device_test.cc.
#ifndef TESSERA_RUNTIME_DRIVERS_CUDA_CARD_H_
#define TESSERA_RUNTIME_DRIVERS_CUDA_CARD_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/status.h"
#include "runtime/drivers/cuda_api.h"

namespace tessera {

class CudaCard {
 public:
  // The same one for all who have it open.
  static StatusOr<std::shared_ptr<CudaCard>> Open(int ordinal);
  ~CudaCard();
  CudaCard(const CudaCard&) = delete;
  CudaCard& operator=(const CudaCard&) = delete;

  const CudaApi& cuda() const { return cuda_; }
  CUcontext context() const { return context_; }
  int capability() const { return capability_; }
  // "NVIDIA H100 80GB HBM3, sm_90, 81559 MiB, driver for CUDA 13.0".
  std::string Describe() const;
  // "CUDA_ERROR_OUT_OF_MEMORY …" of an allocation, with what is free.
  Status AllocationFailed(CUresult result, std::string_view call, int64_t bytes, std::string_view what) const;

  // Bytes that Tessera holds on the card now, and the most it has held at once.
  int64_t bytes() const;
  int64_t peak_bytes() const;
  void Count(int64_t bytes);

 private:
  explicit CudaCard(const CudaApi& cuda) : cuda_(cuda) {}

  const CudaApi& cuda_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  int capability_ = 0;
  mutable std::mutex mutex_;
  int64_t bytes_ = 0, peak_bytes_ = 0;
};

// The card's context, current on this thread while this lives.
class CudaCurrent {
 public:
  explicit CudaCurrent(const CudaCard& card);
  ~CudaCurrent();
  CudaCurrent(const CudaCurrent&) = delete;
  CudaCurrent& operator=(const CudaCurrent&) = delete;
  // Whether the driver took it; nothing else works otherwise.
  Status status() const;

 private:
  const CudaApi& cuda_;
  CUresult result_;
};

// Memory of the card.
class CudaMemory {
 public:
  // Never empty, so that every buffer has an address. In the card's current context, as everything here.
  static StatusOr<CudaMemory> Allocate(std::shared_ptr<CudaCard> card, int64_t bytes, std::string_view what);
  CudaMemory() = default;
  CudaMemory(CudaMemory&& other) noexcept { *this = std::move(other); }
  CudaMemory& operator=(CudaMemory&& other) noexcept;
  ~CudaMemory();
  CUdeviceptr address() const { return address_; }

 private:
  std::shared_ptr<CudaCard> card_;
  CUdeviceptr address_ = 0;
  int64_t bytes_ = 0;
};

// Memory of the host that the card's copy engines reach by themselves.
class CudaPinnedMemory {
 public:
  static StatusOr<CudaPinnedMemory> Allocate(std::shared_ptr<CudaCard> card, int64_t bytes, std::string_view what);
  CudaPinnedMemory() = default;
  CudaPinnedMemory(CudaPinnedMemory&& other) noexcept { *this = std::move(other); }
  CudaPinnedMemory& operator=(CudaPinnedMemory&& other) noexcept;
  ~CudaPinnedMemory();
  void* data() const { return data_; }

 private:
  std::shared_ptr<CudaCard> card_;
  void* data_ = nullptr;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_CUDA_CARD_H_
