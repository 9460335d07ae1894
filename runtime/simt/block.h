// SimtBlock: runs the threads of one block of a GPU's kernel on the host, one after the other, and watches them.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<SimtBlock> block, SimtBlock::Make());
//   RETURN_IF_ERROR(block->Run(launch, {0, 0, 0}, {.order = SimtOrder::kRandom, .seed = 7}));
//
// A thread runs until it must meet others (a barrier, a shuffle, a matrix product); then it waits on its fibre while
// others come. The last to arrive does what the meeting is for. On the way is found, and named by kernel, node, block,
// thread and place: an access outside the step's buffers, or misaligned, or to shared memory without a barrier between
// (shared_memory.h); lanes of a warp that come to different operations; threads that end while others wait.
//
// A SimtBlock belongs to one thread of the system and may run any number of blocks. What device ops compute:
// stand_ins.h. Tested by block_test.cc.
#ifndef TESSERA_RUNTIME_SIMT_BLOCK_H_
#define TESSERA_RUNTIME_SIMT_BLOCK_H_

#include <array>
#include <deque>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "runtime/simt/context.h"
#include "runtime/simt/fibre.h"
#include "runtime/simt/shared_memory.h"
#include "runtime/tensor_map.h"

namespace tessera {

// In which order threads that could run do so.
enum class SimtOrder : uint8_t { kForward, kReverse, kRandom };

struct SimtSchedule {
  SimtOrder order = SimtOrder::kForward;
  uint64_t seed = 1;  // of kRandom
};

// Memory that the kernel may touch.
struct SimtRange {
  std::string name;
  const std::byte* begin = nullptr;
  int64_t bytes = 0;
  bool writes = false;
  bool early = false;  // no step before writes it: may be read while they run (Launch::overlap)
};

// A tensor map as kernels get it here.
struct SimtTensorMap {
  TensorMap map;
  const std::byte* start = nullptr;
};

// A kernel's launch. Pointers are borrowed.
struct SimtLaunch {
  SimtKernel entry = nullptr;
  const SimtStandIn* ops = nullptr;
  std::vector<uint64_t> params;
  std::string kernel, node;  // for messages
  std::array<int64_t, 3> grid = {1, 1, 1};
  int threads = 1;
  int warp = 32;  // lanes that meet at a warp's operation
  int64_t shared_bytes = 0;
  bool overlap = false;  // starts while steps before it run, and waits for them itself
  std::vector<SimtRange> ranges;
  std::vector<SimtTensorMap> tensor_maps;  // what parameters point to; none is added afterwards
};

class SimtBlock : public SimtContext {
 public:
  static constexpr int kMaxWarp = 64;
  static constexpr int kMaxThreads = 1024;

  // kOutOfMemory; kTargetUnsupported where there are no fibres.
  static StatusOr<std::unique_ptr<SimtBlock>> Make();

  // Runs all threads of block `id`. kKernelFaulty with what was found; the block's effects until then stay.
  Status Run(const SimtLaunch& launch, std::array<int64_t, 3> id, const SimtSchedule& schedule);

  // ---- For stand-ins, called by the thread that runs.
  const SimtLaunch& launch() const { return *launch_; }
  const std::array<int64_t, 3>& id() const { return id_; }
  int thread() const { return current_; }
  int lane() const { return current_ % launch_->warp; }

  // All lanes of a warp at one operation: what each of them brought and where its results go. Lanes that the block
  // does not have are null.
  struct WarpMeeting {
    SimtBlock& block;
    const char* site;
    int first_thread;
    int lanes;  // of a whole warp; the first so many are used
    std::array<const uint64_t*, kMaxWarp> operands;
    std::array<uint64_t*, kMaxWarp> results;
  };
  using WarpOp = void (*)(const WarpMeeting& meeting);
  // Returns when all lanes have come and `op`, called once, has given them their results.
  void MeetWarp(const char* site, const uint64_t* operands, uint64_t* results, WarpOp op);
  // Returns when all threads of the block have come.
  void MeetBlock(const char* site);
  // Orders shared memory within a warp; by a WarpOp.
  void OrderWarp(int first_thread);

  // Is [address, address + bytes) memory that `thread` may access so? Does not return where it is not.
  void CheckAccess(int thread, const char* site, const void* address, SimtAccess access);
  // Asynchronous copies of the current thread: `bytes` from global memory and zeros up to `size`. Lands at the wait for
  // all but the newest `groups`.
  void StartCopy(const char* site, std::byte* to, const std::byte* from, int64_t bytes, int64_t size);
  void CommitCopies();
  void WaitForCopies(size_t groups);

  // The steps before this one have ended, for the current thread, and for all after the next barrier.
  void WaitForGrid();

  // Ends the run with an error about `thread`, in two steps: Leave does not come back, so that nothing that must be
  // destroyed may be alive at it.
  void NoteFault(int thread, const char* site, std::string_view what);
  [[noreturn]] void Leave();

 private:
  enum class State : uint8_t { kNew, kReady, kAtWarp, kAtBlock, kEnded };
  struct Copy {
    std::byte* to;
    const std::byte* from;
    int64_t bytes, size;
  };
  struct Thread {
    State state = State::kNew;
    Fibre* fibre = nullptr;
    const char* site = nullptr;  // where it waits
    const uint64_t* operands = nullptr;
    uint64_t* results = nullptr;
    uint16_t warp_meetings = 0;
    bool waited = false;                   // for the steps before
    std::vector<Copy> copies;              // not committed
    std::deque<std::vector<Copy>> groups;  // committed, oldest first
  };
  struct Warp {
    int lanes = 0, waiting = 0, ended = 0;
  };

  SimtBlock() = default;
  static void RunThreads(void* self);
  int Next();
  void Wait(State state, const char* site);
  void Continue(int next);
  Fibre* TakeFibre();
  void EndThread();
  void Shuffle();
  std::string WhoWaits() const;
  void CheckNeighbours(const char* site);
  void CheckShared(int thread, const char* site, const std::byte* address, SimtAccess access);
  std::string Where(const void* address) const;
  SharedMemory::Access By(int thread) const { return {thread, threads_[static_cast<size_t>(thread)].warp_meetings}; }

  const SimtLaunch* launch_ = nullptr;
  std::array<int64_t, 3> id_ = {};
  SimtSchedule schedule_;
  std::mt19937_64 random_;
  SharedMemory memory_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<int> order_;  // the order of a round
  size_t cursor_ = 0;
  int current_ = 0, runnable_ = 0, ended_ = 0, at_block_ = 0;
  std::unique_ptr<Fibre> caller_;
  std::thread::id caller_thread_;
  std::vector<std::unique_ptr<Fibre>> fibres_;
  std::vector<Fibre*> idle_;
  Fibre* running_ = nullptr;
  Status fault_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_SIMT_BLOCK_H_
