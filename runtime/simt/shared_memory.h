// SharedMemory: the shared memory of an emulated block, and who touched which byte when.
//
//   SharedMemory shared;
//   RETURN_IF_ERROR(shared.Resize(bytes));
//   shared.StartBlock();                              // filled with NaNs
//   if (auto fault = shared.Read(at, 4, {.thread = 3, .warp_meetings = 0})) …      // "which thread 7 wrote since the
//   …" shared.Barrier();                                 // what was done before is done for all
//
// Two threads that touch the same byte, one of them writing, must meet between: at a barrier of the block, or, within a
// warp, at one of the warp. Checking that on every access finds a missing barrier whatever order threads run in. Bytes
// that an asynchronous copy will write belong to it until its thread has waited. Single-threaded. Tested by
// shared_memory_test.cc.
#ifndef TESSERA_RUNTIME_SIMT_SHARED_MEMORY_H_
#define TESSERA_RUNTIME_SIMT_SHARED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace tessera {

class SharedMemory {
 public:
  // Fills memory that nobody has written: a NaN as f16, bf16, f32 and f64, a large number as an integer.
  static constexpr uint16_t kPoison = 0x7fff;

  // Who accesses: a thread of the block, and how many warp barriers it has passed.
  struct Access {
    int thread = 0;
    uint16_t warp_meetings = 0;
  };

  // At least `bytes`, aligned to kSimtSharedAlign. kOutOfMemory.
  Status Resize(int64_t bytes);
  // A new block, of warps of `warp` threads: all bytes are poisoned and untouched.
  void StartBlock(int warp = 32);
  // All threads of the block have met.
  void Barrier() { ++epoch_; }

  std::byte* data() const { return data_; }
  int64_t size() const { return size_; }

  // Notes an access to [at, at + bytes), which lies inside. What is wrong with it, if anything: "bytes that thread 7
  // wrote …".
  std::optional<std::string> Read(int64_t at, int64_t bytes, Access by);
  std::optional<std::string> Write(int64_t at, int64_t bytes, Access by);
  // The same bytes belong to a copy from now on, and are poisoned; and have arrived.
  std::optional<std::string> StartCopy(int64_t at, int64_t bytes, Access by);
  void EndCopy(int64_t at, int64_t bytes, Access by);

 private:
  // Of one byte. Epochs count barriers and blocks; an access of an earlier epoch is over for all.
  struct Touch {
    uint32_t epoch = 0;
    uint16_t warp_meetings = 0;
    uint16_t thread = 0;
  };
  struct Byte {
    Touch write, read;
    bool copying = false;
    uint8_t readers = 0;  // kOne thread, kWarp: several of one warp, kMany
  };
  enum Readers : uint8_t { kOne, kWarp, kMany };

  bool Ordered(const Touch& before, Access now) const;
  std::optional<std::string> Hazard(const Byte& byte, int64_t at, Access by, bool writes) const;

  std::unique_ptr<std::byte[]> memory_;
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
  int warp_ = 32;
  uint32_t epoch_ = 1;
  int64_t copying_ = 0;  // bytes that belong to copies
  std::vector<Byte> bytes_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_SIMT_SHARED_MEMORY_H_
