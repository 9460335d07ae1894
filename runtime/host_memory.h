// HostMemory: zeroed memory for arenas, constants and scratch, on huge pages where it is large.
//
//   ASSIGN_OR_RETURN(HostMemory arena, HostMemory::Allocate(bytes, "arena"));
//   arena.data()                          // 64-byte aligned; 2 MiB aligned from kHugePageThreshold on
//
// A network's weights are read once an inference, in order: on 4 KiB pages each page costs an address translation and
// stops the processor's prefetching, on 2 MiB pages one in 512 does. Systems that give huge pages only to who asks
// (transparent_hugepage = madvise, Debian's default) are asked. Movable, not copyable. Tested by host_memory_test.cc.
#ifndef TESSERA_RUNTIME_HOST_MEMORY_H_
#define TESSERA_RUNTIME_HOST_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/status.h"

namespace tessera {

inline constexpr uint64_t kHugePage = uint64_t{2} << 20;

// `size` zeroed bytes of address space that start on a huge page, to be given back by munmap; null with errno where the
// system refuses. Which parts of them should be huge pages is for the caller to say (madvise), before they are touched.
std::byte* MapFromHugePage(size_t size);

class HostMemory {
 public:
  static constexpr int64_t kHugePageThreshold = int64_t{1} << 20;
  // Bytes after the end that may be read, so that whole-vector loads of a tail stay inside.
  static constexpr int64_t kSlack = 128;

  // TES-3002 when the system gives none, naming `what`; TES-2001 for a negative size.
  static StatusOr<HostMemory> Allocate(int64_t size, const char* what);

  HostMemory() = default;  // empty
  HostMemory(HostMemory&& other) noexcept { *this = std::move(other); }
  HostMemory& operator=(HostMemory&& other) noexcept;
  ~HostMemory() { Free(); }

  std::byte* data() const { return data_; }
  std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  void Free();

  std::byte* data_ = nullptr;
  size_t size_ = 0;
  size_t mapped_ = 0;  // bytes of the mapping that starts at data_; 0: from operator new
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_HOST_MEMORY_H_
