// SharedMemory: the shared memory of an emulated block, and who touched which byte when.
//
//   SharedMemory shared;
//   RETURN_IF_ERROR(shared.Resize(bytes));
//   shared.StartBlock();                              // filled with NaNs
//   if (auto fault = shared.Read(at, 4, {.thread = 3, .warp_meetings = 0})) …      // "which thread 7 wrote since the
//   …" shared.Barrier();                                 // what was done before is done for all
//
// Two threads that touch the same byte, one of them writing, must meet between: at a barrier of the block, or, within a
// warp, at one of the warp, or know of each other through barriers of some threads (clocks.h). Checking that on every
// access finds a missing barrier whatever order threads run in. Bytes that an asynchronous copy will write belong to it
// until its thread has waited, those that a warpgroup's product reads to the product until that has been waited for;
// and what threads wrote needs a fence of theirs before such products read it. Single-threaded. Tested by
// shared_memory_test.cc.
#ifndef TESSERA_RUNTIME_SIMT_SHARED_MEMORY_H_
#define TESSERA_RUNTIME_SIMT_SHARED_MEMORY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/simt/clocks.h"

namespace tessera {

class SharedMemory {
 public:
  // Fills memory that nobody has written: a NaN as f16, bf16, f32 and f64, a large number as an integer.
  static constexpr uint16_t kPoison = 0x7fff;

  // Who accesses: a thread of the block, how many warp barriers and fences for products it has passed, and its time.
  struct Access {
    int thread = 0;
    uint16_t warp_meetings = 0;
    uint16_t fences = 0;
    uint32_t time = 1;
  };
  // How a copy of a box laid out its bytes, 0 for no pattern.
  static constexpr int kNoCopy = -1;

  // At least `bytes`, aligned to kSimtSharedAlign. kOutOfMemory.
  Status Resize(int64_t bytes);
  // A new block, of warps of `warp` threads: all bytes are poisoned and untouched. `clocks`, which outlive it, know of
  // barriers of some threads.
  void StartBlock(int warp = 32, const SimtClocks* clocks = nullptr);
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
  // `swizzle`: of a copy that wgmma may read without a fence, in bytes; kNoCopy for one that it may not.
  void EndCopy(int64_t at, int64_t bytes, Access by, int swizzle = kNoCopy);
  // The same bytes hold a barrier from now on, which only barriers' operations touch.
  void MarkBarrier(int64_t at, int64_t bytes);
  // Has what was last written at `at` been done for `by`?
  bool IsOrdered(int64_t at, Access by) const { return Ordered(bytes_[static_cast<size_t>(at)].write, by); }

  // A product on behalf of `by` reads the bytes from now on, in a pattern of `swizzle` bytes; and has read them.
  // `fences`: of each thread, as Access has it.
  std::optional<std::string> StartProduct(int64_t at, int64_t bytes, Access by, int swizzle,
                                          std::span<const uint16_t> fences);
  void EndProduct(int64_t at, int64_t bytes, Access by);

 private:
  // Of one byte. Epochs count barriers and blocks; an access of an earlier epoch is over for all.
  struct Touch {
    uint32_t epoch = 0;
    uint32_t time = 0;
    uint16_t warp_meetings = 0;
    uint16_t thread = 0;
  };
  enum Readers : uint8_t { kOne, kWarp, kMany };
  enum State : uint8_t { kFree, kCopying, kBarrier };
  struct Byte {
    Touch write, read;
    uint16_t fences = 0;  // of its writer, when it wrote
    State state = kFree;
    Readers readers = kOne;  // kOne thread, kWarp: several of one warp, kMany
    uint8_t products = 0;    // that read it
    int8_t copy = kNoCopy;   // log2 of the swizzle of the copy that brought it
  };
  // Where clocks are on, more readers that do not know of each other.
  using OtherReaders = std::array<Touch, 3>;

  bool Ordered(const Touch& before, Access now) const;
  bool OrderedRead(const Byte& byte, int64_t at, Access now) const;
  void NoteReader(Byte& byte, int64_t at, Access by);
  void NoteReaderByClock(Byte& byte, int64_t at, Access by);
  Touch Now(Access by) const { return {epoch_, by.time, by.warp_meetings, static_cast<uint16_t>(by.thread)}; }
  std::optional<std::string> Hazard(const Byte& byte, int64_t at, Access by, bool writes) const;

  std::unique_ptr<std::byte[]> memory_;
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
  int warp_ = 32;
  uint32_t epoch_ = 1;
  uint32_t first_epoch_ = 1;  // of the block
  bool marked_ = false;       // some bytes are not free, or read by products
  const SimtClocks* clocks_ = nullptr;
  std::vector<Byte> bytes_;
  std::vector<OtherReaders> other_readers_;  // none until clocks are on
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_SIMT_SHARED_MEMORY_H_
