#include "runtime/simt/shared_memory.h"

#include <cstring>
#include <new>

#include "runtime/simt/context.h"

namespace tessera {
namespace {

void Poison(std::byte* at, int64_t bytes) {
  constexpr uint8_t kBytes[2] = {SharedMemory::kPoison & 0xff, SharedMemory::kPoison >> 8};
  // By address, so that pieces of any size and place make the same pattern.
  int64_t k = 0;
  for (; k < bytes && (reinterpret_cast<uintptr_t>(at + k) & 1) != 0; ++k) at[k] = std::byte{kBytes[1]};
  for (; k + 1 < bytes; k += 2) std::memcpy(at + k, kBytes, 2);
  if (k < bytes) at[k] = std::byte{kBytes[0]};
}

}  // namespace

Status SharedMemory::Resize(int64_t bytes) {
  size_ = bytes;
  if (bytes <= static_cast<int64_t>(bytes_.size())) return OkStatus();
  memory_.reset(new (std::nothrow) std::byte[static_cast<size_t>(bytes + kSimtSharedAlign)]);
  if (memory_ == nullptr) return Error(ErrorCode::kOutOfMemory, "no memory for ", bytes, " bytes of shared memory");
  const auto start = reinterpret_cast<uintptr_t>(memory_.get());
  data_ = memory_.get() + (kSimtSharedAlign - start % kSimtSharedAlign) % kSimtSharedAlign;
  bytes_.assign(static_cast<size_t>(bytes), Byte());
  return OkStatus();
}

void SharedMemory::StartBlock(int warp) {
  warp_ = warp;
  ++epoch_;
  Poison(data_, size_);
  if (copying_ > 0) {
    for (Byte& byte : bytes_) byte.copying = false;
  }
  copying_ = 0;
}

bool SharedMemory::Ordered(const Touch& before, Access now) const {
  if (before.epoch != epoch_ || before.thread == now.thread) return true;
  return before.thread / warp_ == now.thread / warp_ && before.warp_meetings != now.warp_meetings;
}

std::optional<std::string> SharedMemory::Hazard(const Byte& byte, int64_t at, Access by, bool writes) const {
  if (byte.copying) {
    return internal::Join("byte ", at, " of shared memory, which an asynchronous copy of thread ", byte.write.thread,
                          " has yet to bring: a wait or a barrier is missing");
  }
  if (!Ordered(byte.write, by)) {
    return internal::Join("byte ", at, " of shared memory, which thread ", byte.write.thread,
                          " wrote since the last barrier: a barrier is missing");
  }
  if (!writes || byte.read.epoch != epoch_) return std::nullopt;
  bool ordered = Ordered(byte.read, by);
  if (byte.readers == kMany) ordered = false;
  if (byte.readers == kWarp) {
    ordered = byte.read.thread / warp_ == by.thread / warp_ && byte.read.warp_meetings != by.warp_meetings;
  }
  if (ordered) return std::nullopt;
  return internal::Join("byte ", at, " of shared memory, which thread ", byte.read.thread,
                        " read since the last barrier: a barrier is missing");
}

std::optional<std::string> SharedMemory::Read(int64_t at, int64_t bytes, Access by) {
  for (int64_t k = at; k < at + bytes; ++k) {
    Byte& byte = bytes_[static_cast<size_t>(k)];
    if (byte.copying || !Ordered(byte.write, by)) return Hazard(byte, k, by, false);
    const Touch now = {epoch_, by.warp_meetings, static_cast<uint16_t>(by.thread)};
    if (byte.read.epoch != epoch_ || (byte.read.thread == by.thread && byte.readers == kOne)) {
      byte.readers = kOne;
    } else if (byte.read.thread / warp_ != by.thread / warp_) {
      byte.readers = kMany;
    } else if (byte.readers != kMany) {
      // Readers before the warp's last meeting are over for all of the warp.
      byte.readers = byte.read.warp_meetings == by.warp_meetings ? kWarp : kOne;
    }
    byte.read = now;
  }
  return std::nullopt;
}

std::optional<std::string> SharedMemory::Write(int64_t at, int64_t bytes, Access by) {
  for (int64_t k = at; k < at + bytes; ++k) {
    Byte& byte = bytes_[static_cast<size_t>(k)];
    if (auto hazard = Hazard(byte, k, by, true)) return hazard;
    byte.write = {epoch_, by.warp_meetings, static_cast<uint16_t>(by.thread)};
  }
  return std::nullopt;
}

std::optional<std::string> SharedMemory::StartCopy(int64_t at, int64_t bytes, Access by) {
  if (auto hazard = Write(at, bytes, by)) return hazard;
  for (int64_t k = at; k < at + bytes; ++k) bytes_[static_cast<size_t>(k)].copying = true;
  copying_ += bytes;
  Poison(data_ + at, bytes);
  return std::nullopt;
}

void SharedMemory::EndCopy(int64_t at, int64_t bytes, Access by) {
  copying_ -= bytes;
  for (int64_t k = at; k < at + bytes; ++k) {
    Byte& byte = bytes_[static_cast<size_t>(k)];
    byte.copying = false;
    byte.write = {epoch_, by.warp_meetings, static_cast<uint16_t>(by.thread)};
  }
}

}  // namespace tessera
