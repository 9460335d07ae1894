#include "runtime/drivers/gpu_card.h"

#include <algorithm>
#include <utility>

namespace tessera {

StatusOr<std::shared_ptr<GpuCard>> GpuCards::Find(int ordinal,
                                                  StatusOr<std::shared_ptr<GpuCard>> (*make)(int ordinal)) {
  const std::lock_guard lock(mutex_);
  if (std::shared_ptr<GpuCard> open = cards_[ordinal].lock(); open != nullptr) return open;
  ASSIGN_OR_RETURN(std::shared_ptr<GpuCard> card, make(ordinal));
  cards_[ordinal] = card;
  return card;
}

Status CheckCardExists(const GpuApi& api, int ordinal, std::string_view vendor, std::string_view see) {
  int count = 0;
  RETURN_IF_ERROR(api.Check(api.CountCards(&count), api.CountCards, "card " + std::to_string(ordinal)));
  if (ordinal < count) return OkStatus();
  return Error(ErrorCode::kDeviceMissing, "device '", vendor, ":", ordinal, "': this process sees ", count,
               count == 1 ? " card" : " cards", ", numbered from 0; see ", see);
}

Status GpuCard::AllocationFailed(GpuResult result, std::string_view call, int64_t bytes, std::string_view what) const {
  size_t free_bytes = 0, total_bytes = 0;
  if (api_.GetMemoryInfo(&free_bytes, &total_bytes) != 0) return api_.Check(result, call, what);
  return api_.Check(result, call,
                    internal::Join(what, ", ", bytes, " bytes where ", free_bytes, " of ", total_bytes,
                                   " are free and Tessera holds ", this->bytes()));
}

int64_t GpuCard::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

int64_t GpuCard::peak_bytes() const {
  const std::lock_guard lock(mutex_);
  return peak_bytes_;
}

void GpuCard::Count(int64_t bytes) {
  const std::lock_guard lock(mutex_);
  bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, bytes_);
}

StatusOr<GpuMemory> GpuMemory::Allocate(std::shared_ptr<GpuCard> card, int64_t bytes, std::string_view what) {
  GpuMemory memory;
  GpuAddress address = 0;
  const int64_t taken = std::max<int64_t>(bytes, 16);
  const GpuResult result = card->api().Allocate(&address, static_cast<size_t>(taken));
  if (result != 0) return card->AllocationFailed(result, card->api().Allocate, bytes, what);
  card->Count(taken);
  memory.card_ = std::move(card);
  memory.address_ = address;
  memory.bytes_ = taken;
  return memory;
}

GpuMemory& GpuMemory::operator=(GpuMemory&& other) noexcept {
  std::swap(card_, other.card_);
  std::swap(address_, other.address_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

GpuMemory::~GpuMemory() {
  if (card_ == nullptr) return;
  const GpuCurrent current(*card_);
  card_->api().Free(address_);
  card_->Count(-bytes_);
}

StatusOr<GpuPinnedMemory> GpuPinnedMemory::Allocate(std::shared_ptr<GpuCard> card, int64_t bytes,
                                                    std::string_view what) {
  GpuPinnedMemory memory;
  void* data = nullptr;
  const GpuApi& api = card->api();
  RETURN_IF_ERROR(api.Check(api.AllocateHost(&data, static_cast<size_t>(bytes), 0), api.AllocateHost, what));
  memory.card_ = std::move(card);
  memory.data_ = data;
  return memory;
}

GpuPinnedMemory& GpuPinnedMemory::operator=(GpuPinnedMemory&& other) noexcept {
  std::swap(card_, other.card_);
  std::swap(data_, other.data_);
  return *this;
}

GpuPinnedMemory::~GpuPinnedMemory() {
  if (card_ == nullptr) return;
  const GpuCurrent current(*card_);
  card_->api().FreeHost(data_);
}

}  // namespace tessera
