#include "runtime/drivers/cuda_card.h"

#include <algorithm>
#include <map>
#include <utility>

namespace tessera {

StatusOr<std::shared_ptr<CudaCard>> CudaCard::Open(int ordinal) {
  // One for each card of the machine, so that its memory is counted once.
  static std::mutex& mutex = *new std::mutex;
  static auto& cards = *new std::map<int, std::weak_ptr<CudaCard>>;
  const std::lock_guard lock(mutex);
  if (std::shared_ptr<CudaCard> open = cards[ordinal].lock(); open != nullptr) return open;
  ASSIGN_OR_RETURN(const CudaApi* cuda, OpenCuda());
  const std::string what = "card " + std::to_string(ordinal);
  int count = 0;
  RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGetCount(&count), "cuDeviceGetCount", what));
  if (ordinal >= count) {
    return Error(ErrorCode::kDeviceMissing, "device 'cuda:", ordinal, "': this process sees ", count,
                 count == 1 ? " card" : " cards", ", numbered from 0; see nvidia-smi and CUDA_VISIBLE_DEVICES");
  }
  std::shared_ptr<CudaCard> card(new CudaCard(*cuda));
  RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGet(&card->device_, ordinal), "cuDeviceGet", what));
  int major = 0, minor = 0;
  for (const auto& [value, attribute] : {std::pair(&major, kCudaCapabilityMajor), {&minor, kCudaCapabilityMinor}}) {
    RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGetAttribute(value, attribute, card->device_), "cuDeviceGetAttribute",
                                "the compute capability of " + what));
  }
  card->capability_ = major * 10 + minor;
  CUcontext context = nullptr;
  RETURN_IF_ERROR(
      cuda->Check(cuda->cuDevicePrimaryCtxRetain(&context, card->device_), "cuDevicePrimaryCtxRetain", what));
  card->context_ = context;
  cards[ordinal] = card;
  return card;
}

CudaCard::~CudaCard() {
  if (context_ != nullptr) cuda_.cuDevicePrimaryCtxRelease_v2(device_);
}

std::string CudaCard::Describe() const {
  char name[256] = "NVIDIA card";
  size_t bytes = 0;
  int version = 0;
  cuda_.cuDeviceGetName(name, sizeof(name), device_);
  cuda_.cuDeviceTotalMem_v2(&bytes, device_);
  cuda_.cuDriverGetVersion(&version);
  return internal::Join(name, ", sm_", capability_, ", ", bytes >> 20, " MiB, driver for CUDA ", version / 1000, ".",
                        version % 1000 / 10);
}

Status CudaCard::AllocationFailed(CUresult result, std::string_view call, int64_t bytes, std::string_view what) const {
  size_t free_bytes = 0, total_bytes = 0;
  if (cuda_.cuMemGetInfo_v2(&free_bytes, &total_bytes) != 0) return cuda_.Check(result, call, what);
  return cuda_.Check(result, call,
                     internal::Join(what, ", ", bytes, " bytes where ", free_bytes, " of ", total_bytes,
                                    " are free and Tessera holds ", this->bytes()));
}

int64_t CudaCard::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

int64_t CudaCard::peak_bytes() const {
  const std::lock_guard lock(mutex_);
  return peak_bytes_;
}

void CudaCard::Count(int64_t bytes) {
  const std::lock_guard lock(mutex_);
  bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, bytes_);
}

CudaCurrent::CudaCurrent(const CudaCard& card)
    : cuda_(card.cuda()), result_(cuda_.cuCtxPushCurrent_v2(card.context())) {}

CudaCurrent::~CudaCurrent() {
  CUcontext context = nullptr;
  if (result_ == 0) cuda_.cuCtxPopCurrent_v2(&context);
}

Status CudaCurrent::status() const {
  return result_ == 0 ? OkStatus() : cuda_.Check(result_, "cuCtxPushCurrent", "the card's context");
}

StatusOr<CudaMemory> CudaMemory::Allocate(std::shared_ptr<CudaCard> card, int64_t bytes, std::string_view what) {
  CudaMemory memory;
  CUdeviceptr address = 0;
  const int64_t taken = std::max<int64_t>(bytes, 16);
  const CUresult result = card->cuda().cuMemAlloc_v2(&address, static_cast<size_t>(taken));
  if (result != 0) return card->AllocationFailed(result, "cuMemAlloc", bytes, what);
  card->Count(taken);
  memory.card_ = std::move(card);
  memory.address_ = address;
  memory.bytes_ = taken;
  return memory;
}

CudaMemory& CudaMemory::operator=(CudaMemory&& other) noexcept {
  std::swap(card_, other.card_);
  std::swap(address_, other.address_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

CudaMemory::~CudaMemory() {
  if (card_ == nullptr) return;
  const CudaCurrent current(*card_);
  card_->cuda().cuMemFree_v2(address_);
  card_->Count(-bytes_);
}

StatusOr<CudaPinnedMemory> CudaPinnedMemory::Allocate(std::shared_ptr<CudaCard> card, int64_t bytes,
                                                      std::string_view what) {
  CudaPinnedMemory memory;
  void* data = nullptr;
  RETURN_IF_ERROR(
      card->cuda().Check(card->cuda().cuMemHostAlloc(&data, static_cast<size_t>(bytes), 0), "cuMemHostAlloc", what));
  memory.card_ = std::move(card);
  memory.data_ = data;
  return memory;
}

CudaPinnedMemory& CudaPinnedMemory::operator=(CudaPinnedMemory&& other) noexcept {
  std::swap(card_, other.card_);
  std::swap(data_, other.data_);
  return *this;
}

CudaPinnedMemory::~CudaPinnedMemory() {
  if (card_ == nullptr) return;
  const CudaCurrent current(*card_);
  card_->cuda().cuMemFreeHost(data_);
}

}  // namespace tessera
