// SimtBlock: runs the threads of one block of a GPU's kernel on the host, one after the other, and watches them.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<SimtBlock> block, SimtBlock::Make());
//   RETURN_IF_ERROR(block->Run(launch, {0, 0, 0}, {.order = SimtOrder::kRandom, .seed = 7}));
//
// A thread runs until it must meet others (a barrier, a shuffle, a matrix product); then it waits on its fibre while
// others come. The last to arrive does what the meeting is for. What goes on by itself (copies that an mbarrier counts,
// products of warpgroups) takes effect as late as it may: at the wait for it. On the way is found, and named by kernel,
// node, block, thread and place: an access outside the step's buffers, or misaligned, or to shared memory without a
// barrier between (shared_memory.h); lanes of a warp that come to different operations; threads that end while others
// wait.
//
// A SimtBlock belongs to one thread of the system and may run any number of blocks. What device ops compute:
// stand_ins.h. Tested by block_test.cc.
#ifndef TESSERA_RUNTIME_SIMT_BLOCK_H_
#define TESSERA_RUNTIME_SIMT_BLOCK_H_

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "runtime/simt/clocks.h"
#include "runtime/simt/context.h"
#include "runtime/simt/fibre.h"
#include "runtime/simt/shared_memory.h"
#include "runtime/simt/wgmma.h"
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
  // Returns when all threads of the block have come; or `count` threads to the barrier of that number, of which those
  // that do not wait only arrive.
  void MeetBlock(const char* site);
  void MeetNamed(const char* site, int64_t number, int64_t count, bool waits);

  // The same of the 128 threads of a warpgroup, or of the 64 lanes of an AMD wave, which have the first of the places.
  static constexpr int kGroup = 128, kWave = 64;
  struct GroupMeeting {
    SimtBlock& block;
    const char* site;
    int first_thread;
    std::array<const uint64_t*, kGroup> operands;
    std::array<uint64_t*, kGroup> results;
  };
  using GroupOp = void (*)(const GroupMeeting& meeting);
  void MeetGroup(const char* site, const uint64_t* operands, uint64_t* results, GroupOp op, int threads = kGroup);
  // Orders shared memory within a warp; by a WarpOp.
  void OrderWarp(int first_thread);

  // Is [address, address + bytes) memory that `thread` may access so? Does not return where it is not.
  void CheckAccess(int thread, const char* site, const void* address, SimtAccess access);
  // Asynchronous copies of the current thread: `bytes` from global memory and zeros up to `size`. Lands at the wait for
  // all but the newest `groups`.
  void StartCopy(const char* site, std::byte* to, const std::byte* from, int64_t bytes, int64_t size);
  void CommitCopies();
  void WaitForCopies(size_t groups);

  // mbarriers, in shared memory; `at` is checked.
  void InitBarrier(const char* site, std::byte* at, int64_t count);
  void ArriveAtBarrier(const char* site, std::byte* at, int64_t expected_bytes, bool arrives);
  void WaitForBarrier(const char* site, std::byte* at, bool parity);
  void FenceBarriers();
  // Copies that `barrier` counts: `bytes` bytes, and a box of a tensor map at coordinates.
  void StartBulkCopy(const char* site, std::byte* to, const std::byte* from, int64_t bytes, std::byte* barrier);
  void StartBoxCopy(const char* site, std::byte* to, const void* map, std::byte* barrier,
                    std::span<const int32_t> coordinates);
  void CheckTensorMap(const char* site, const void* map, size_t rank);
  // What the current thread wrote to shared memory is there for products.
  void FenceProducts() { ++fences_[static_cast<size_t>(current_)]; }

  // By GroupOps; see stand_ins.cc.
  void FenceProductRegisters(const GroupMeeting& meeting);
  void StartProduct(const GroupMeeting& meeting, const WgmmaShape& shape);
  void CommitProducts(const GroupMeeting& meeting);
  // Operand 0: how many groups may be under way; then `accumulators` of them.
  void WaitForProducts(const GroupMeeting& meeting, int accumulators);
  void SetRegisters(const GroupMeeting& meeting, bool more);

  // The steps before this one have ended, for the current thread, and for all after the next barrier.
  void WaitForGrid();

  // Ends the run with an error about `thread`, in two steps: Leave does not come back, so that nothing that must be
  // destroyed may be alive at it.
  void NoteFault(int thread, const char* site, std::string_view what);
  [[noreturn]] void Leave();

 private:
  enum class State : uint8_t { kNew, kReady, kAtWarp, kAtGroup, kAtBlock, kAtNamed, kAtBarrier, kEnded };
  struct Copy {
    std::byte* to;
    const std::byte* from;
    int64_t bytes, size;
  };
  struct Barrier;
  struct Thread {
    State state = State::kNew;
    Fibre* fibre = nullptr;
    const char* site = nullptr;  // where it waits
    const Barrier* barrier = nullptr;
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
  // What threads tell each other through a barrier of some of them.
  struct Told {
    SimtClocks::Stamp stamp;
    bool waited = false;  // for the steps before
  };
  struct Named {
    int64_t count = 0, came = 0;
    Told told;
    std::vector<int> waiting;
  };
  struct BulkCopy {
    const SimtTensorMap* map = nullptr;  // null: of bytes in a row
    std::byte* to = nullptr;
    const std::byte* from = nullptr;
    int64_t bytes = 0;
    std::array<int32_t, 5> at = {};
    SharedMemory::Access by;
  };
  struct Barrier {
    int64_t offset = 0, count = 0, missing = 0, expected = 0, phase = 0;
    int thread = 0;       // that made it
    bool fenced = false;  // for copies
    int waiting = 0;
    Told collecting, completed;
    std::vector<BulkCopy> copies;  // of the phase under way
    int64_t bytes() const {
      int64_t sum = 0;
      for (const BulkCopy& copy : copies) sum += copy.bytes;
      return sum;
    }
  };
  // A product of a warpgroup that nobody has waited for. The registers that its threads hold in the meantime are marks.
  struct Product {
    uint32_t first_mark = 0;
    int warpgroup = 0, commit = -1;  // which of the warpgroup's commits; -1: none yet
    int accumulators = 0, delivered = 0;
    std::vector<uint32_t> values;  // [thread of the warpgroup, accumulator]
  };
  // What one instruction reads until its commit has been waited for.
  struct Reading {
    int warpgroup = 0, commit = -1;
    std::vector<WgmmaOperand> operands;
  };
  struct Warpgroup {
    int waiting = 0, commits = 0;
    bool fenced = false;    // since registers could be accessed
    int64_t registers = 0;  // of a thread, where it was set
  };

  SimtBlock() = default;
  static void RunThreads(void* self);
  int Next();
  void Wait(State state, const char* site);
  void Continue(int next);
  Fibre* TakeFibre();
  void CheckEnd();
  void EndThread();
  void Shuffle();
  std::string WhoWaits() const;
  void CheckNeighbours(const char* site);
  [[noreturn]] void Fault(const char* site, std::string_view what);
  void Tell(Told& told);
  void Hear(int thread, const Told& told);
  Barrier& BarrierAt(const char* site, std::byte* at);
  void AddCopy(const char* site, BulkCopy copy, std::byte* barrier);
  void TryComplete(const char* site, Barrier& barrier);
  void Land(const BulkCopy& copy);
  std::string Lacks(const Barrier& barrier) const;
  void CheckUniform(const GroupMeeting& meeting, int first, int narrow, int last);
  template <typename Take>
  void ReadOperand(const GroupMeeting& meeting, const WgmmaOperand& operand, const Take& take);
  Product* ProductOf(uint32_t mark);
  void CheckShared(int thread, const char* site, const std::byte* address, SimtAccess access);
  std::string Where(const void* address) const;
  SharedMemory::Access By(int thread) const {
    return {.thread = thread,
            .warp_meetings = threads_[static_cast<size_t>(thread)].warp_meetings,
            .fences = fences_[static_cast<size_t>(thread)],
            .time = clocks_.time(thread)};
  }

  const SimtLaunch* launch_ = nullptr;
  std::array<int64_t, 3> id_ = {};
  SimtSchedule schedule_;
  std::mt19937_64 random_;
  SharedMemory memory_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<Warpgroup> warpgroups_;
  std::vector<int> waves_;        // how many lanes of each AMD wave wait
  std::vector<uint16_t> fences_;  // of each thread, for products
  SimtClocks clocks_;
  std::map<int64_t, Named> named_;
  std::map<int64_t, Barrier> barriers_;  // by offset in shared memory
  std::deque<Product> products_;         // oldest first
  std::deque<Reading> readings_;
  SimtClocks::Stamp read_;
  uint32_t next_mark_ = 1;
  std::unique_ptr<WgmmaMatrices> matrices_;
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
