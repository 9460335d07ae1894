#include "runtime/host_memory.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace tessera {
namespace {

constexpr std::align_val_t kAlign{64};

uint64_t RoundUp(uint64_t value, uint64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

}  // namespace

std::byte* MapFromHugePage(size_t size) {
  // Reserved with room to start on a huge page; the ends go back.
  void* reserved = mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  const uint64_t begin = reinterpret_cast<uint64_t>(reserved), end = begin + size + kHugePage;
  const uint64_t aligned = RoundUp(begin, kHugePage);
  if (aligned > begin) munmap(reserved, aligned - begin);
  if (end > aligned + size) munmap(reinterpret_cast<void*>(aligned + size), end - aligned - size);
  return reinterpret_cast<std::byte*>(aligned);
}

StatusOr<HostMemory> HostMemory::Allocate(int64_t size, const char* what) {
  if (size < 0 || size > INT64_MAX - static_cast<int64_t>(2 * kHugePage)) {
    return Error(ErrorCode::kUsageInvalid, "memory of ", size, " bytes for the ", what);
  }
  const auto refused = [&] {
    return Error(ErrorCode::kOutOfMemory, "no memory for the ", what, " of ", size, " bytes");
  };
  HostMemory memory;
  memory.size_ = static_cast<size_t>(size);
  const size_t wanted = static_cast<size_t>(size + kSlack);
  if (size < kHugePageThreshold) {
    auto* bytes = static_cast<std::byte*>(::operator new(wanted, kAlign, std::nothrow));
    if (bytes == nullptr) return refused();
    std::memset(bytes, 0, wanted);
    memory.data_ = bytes;
    return memory;
  }
  const size_t mapped = RoundUp(wanted, kHugePage);
  memory.data_ = MapFromHugePage(mapped);
  if (memory.data_ == nullptr) return refused();
  memory.mapped_ = mapped;
  // A wish: where there are no huge pages to give, small ones serve. What is left beyond whole ones is not worth one.
  const size_t whole = wanted < kHugePage ? mapped : wanted / kHugePage * kHugePage;
  madvise(memory.data_, whole, MADV_HUGEPAGE);
  return memory;
}

HostMemory& HostMemory::operator=(HostMemory&& other) noexcept {
  if (this == &other) return *this;
  Free();
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  mapped_ = std::exchange(other.mapped_, 0);
  return *this;
}

void HostMemory::Free() {
  if (data_ == nullptr) return;
  if (mapped_ > 0) {
    munmap(data_, mapped_);
  } else {
    ::operator delete(data_, kAlign);
  }
  data_ = nullptr;
}

}  // namespace tessera
