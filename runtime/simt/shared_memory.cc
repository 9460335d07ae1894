#include "runtime/simt/shared_memory.h"

#include <bit>
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

void SharedMemory::StartBlock(int warp, const SimtClocks* clocks) {
  warp_ = warp;
  clocks_ = clocks;
  first_epoch_ = ++epoch_;
  Poison(data_, size_);
  if (marked_) {
    for (Byte& byte : bytes_) {
      byte.state = kFree;
      byte.products = 0;
      byte.copy = kNoCopy;
    }
  }
  marked_ = false;
}

bool SharedMemory::Ordered(const Touch& before, Access now) const {
  if (before.epoch != epoch_ || before.thread == now.thread) return true;
  if (before.thread / warp_ == now.thread / warp_ && before.warp_meetings != now.warp_meetings) return true;
  return clocks_ != nullptr && clocks_->Saw(now.thread, before.thread, before.time);
}

// Is all that was read of the byte done for `now`?
bool SharedMemory::OrderedRead(const Byte& byte, int64_t at, Access now) const {
  const bool clocked = clocks_ != nullptr && clocks_->on() && !other_readers_.empty();
  if (clocked) {
    for (const Touch& touch : other_readers_[static_cast<size_t>(at)]) {
      if (!Ordered(touch, now)) return false;
    }
  }
  if (byte.read.epoch != epoch_) return true;
  if (byte.readers == kMany) return false;
  if (byte.readers == kOne) return Ordered(byte.read, now);
  if (byte.read.thread / warp_ == now.thread / warp_) return byte.read.warp_meetings != now.warp_meetings;
  return clocked && clocks_->Saw(now.thread, byte.read.thread, byte.read.time);
}

std::optional<std::string> SharedMemory::Hazard(const Byte& byte, int64_t at, Access by, bool writes) const {
  if (byte.state == kCopying) {
    return internal::Join("byte ", at, " of shared memory, which an asynchronous copy of thread ", byte.write.thread,
                          " has yet to bring: a wait or a barrier is missing");
  }
  if (byte.state == kBarrier) {
    return internal::Join("byte ", at, " of shared memory, which belongs to an mbarrier of thread ", byte.write.thread);
  }
  if (writes && byte.products > 0) {
    return internal::Join("byte ", at, " of shared memory, which a product still reads: nv.wgmma.wait is missing");
  }
  if (!Ordered(byte.write, by)) {
    return internal::Join("byte ", at, " of shared memory, which thread ", byte.write.thread,
                          " wrote since the last barrier: a barrier is missing");
  }
  if (!writes || OrderedRead(byte, at, by)) return std::nullopt;
  return internal::Join("byte ", at, " of shared memory, which thread ", byte.read.thread,
                        " read since the last barrier: a barrier is missing");
}

void SharedMemory::NoteReader(Byte& byte, int64_t at, Access by) {
  if (clocks_ != nullptr && clocks_->on()) return NoteReaderByClock(byte, at, by);
  if (byte.read.epoch != epoch_ || (byte.read.thread == by.thread && byte.readers == kOne)) {
    byte.readers = kOne;
  } else if (byte.read.thread / warp_ != by.thread / warp_) {
    byte.readers = kMany;
  } else if (byte.readers != kMany) {
    // Readers before the warp's last meeting are over for all of the warp.
    byte.readers = byte.read.warp_meetings == by.warp_meetings ? kWarp : kOne;
  }
  byte.read = Now(by);
}

// Keeps one reader of each warp, of those that `by` does not know of; the last of a warp's stands for all its lanes.
void SharedMemory::NoteReaderByClock(Byte& byte, int64_t at, Access by) {
  if (other_readers_.size() < bytes_.size()) other_readers_.resize(bytes_.size());
  OtherReaders& others = other_readers_[static_cast<size_t>(at)];
  Touch* slots[] = {&byte.read, &others[0], &others[1], &others[2]};
  if (byte.read.epoch != epoch_) byte.readers = kOne;
  Touch* free = nullptr;
  for (Touch* slot : slots) {
    const bool same_warp = slot->thread / warp_ == by.thread / warp_;
    if (slot->epoch == epoch_ && !same_warp && !Ordered(*slot, by)) continue;
    slot->epoch = 0;
    if (free == nullptr) free = slot;
  }
  if (free == nullptr) {
    byte.readers = kMany;
    free = &byte.read;
  }
  if (byte.read.epoch != epoch_ && byte.readers != kMany) byte.readers = kOne;
  *free = Now(by);
}

std::optional<std::string> SharedMemory::Read(int64_t at, int64_t bytes, Access by) {
  for (int64_t k = at; k < at + bytes; ++k) {
    Byte& byte = bytes_[static_cast<size_t>(k)];
    if (byte.state != kFree || !Ordered(byte.write, by)) return Hazard(byte, k, by, false);
    NoteReader(byte, k, by);
  }
  return std::nullopt;
}

std::optional<std::string> SharedMemory::Write(int64_t at, int64_t bytes, Access by) {
  for (int64_t k = at; k < at + bytes; ++k) {
    Byte& byte = bytes_[static_cast<size_t>(k)];
    if (auto hazard = Hazard(byte, k, by, true)) return hazard;
    byte.write = Now(by);
    byte.fences = by.fences;
    byte.copy = kNoCopy;
  }
  return std::nullopt;
}

std::optional<std::string> SharedMemory::StartCopy(int64_t at, int64_t bytes, Access by) {
  if (auto hazard = Write(at, bytes, by)) return hazard;
  for (int64_t k = at; k < at + bytes; ++k) bytes_[static_cast<size_t>(k)].state = kCopying;
  marked_ = true;
  Poison(data_ + at, bytes);
  return std::nullopt;
}

void SharedMemory::EndCopy(int64_t at, int64_t bytes, Access by, int swizzle) {
  const auto copy = static_cast<int8_t>(swizzle == kNoCopy ? kNoCopy : std::bit_width(static_cast<unsigned>(swizzle)));
  for (int64_t k = at; k < at + bytes; ++k) {
    Byte& byte = bytes_[static_cast<size_t>(k)];
    byte.state = kFree;
    byte.write = Now(by);
    byte.fences = by.fences;
    byte.copy = copy;
  }
}

void SharedMemory::MarkBarrier(int64_t at, int64_t bytes) {
  for (int64_t k = at; k < at + bytes; ++k) bytes_[static_cast<size_t>(k)].state = kBarrier;
  marked_ = true;
}

std::optional<std::string> SharedMemory::StartProduct(int64_t at, int64_t bytes, Access by, int swizzle,
                                                      std::span<const uint16_t> fences) {
  for (int64_t k = at; k < at + bytes; ++k) {
    Byte& byte = bytes_[static_cast<size_t>(k)];
    if (auto hazard = Hazard(byte, k, by, false)) return hazard;
    if (byte.write.epoch < first_epoch_) return internal::Join("byte ", k, " of shared memory, which nobody wrote");
    const int copied = byte.copy == kNoCopy ? kNoCopy : byte.copy == 0 ? 0 : 1 << (byte.copy - 1);
    if (byte.copy == kNoCopy && byte.fences == fences[byte.write.thread]) {
      return internal::Join("byte ", k, " of shared memory, which thread ", byte.write.thread,
                            " wrote without nv.fence.proxy_async behind it");
    }
    if (copied > 0 && copied != swizzle) {
      return internal::Join("byte ", k, " of shared memory, which a copy laid out with a swizzle of ", copied,
                            " bytes, with one of ", swizzle);
    }
    ++byte.products;
  }
  marked_ = true;
  return std::nullopt;
}

void SharedMemory::EndProduct(int64_t at, int64_t bytes, Access by) {
  for (int64_t k = at; k < at + bytes; ++k) {
    Byte& byte = bytes_[static_cast<size_t>(k)];
    if (byte.products > 0) --byte.products;
    NoteReader(byte, k, by);
  }
}

}  // namespace tessera
