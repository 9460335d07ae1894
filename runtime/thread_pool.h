// ThreadPool: runs one function on all threads at once, and is quick about it.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<ThreadPool> pool, ThreadPool::Create({.num_threads = 2}));
//   pool->RunRegion([&](int thread, int threads, SpinBarrier& barrier) {
//     for (const Step& step : steps) {
//       step.RunShare(thread, threads);
//       barrier.Wait();                          // nobody starts a step before all have finished the one before
//     }
//   });
//
// Made for inference, where a layer takes 10 to 50 us: waking a sleeping thread costs about as much, so there is one
// region per *inference*, and threads meet between layers at a barrier that spins (about 0.1 us for two). After a
// region the workers spin a little longer, in case another inference follows, then sleep until the next. With fewer
// processors than threads (see processors.h) spinning would keep the others from running: then threads yield after a
// microsecond and sleep at once. The same at barriers where two threads happen to share a processor, because another
// program has the rest. Tested by thread_pool_test.cc, also under ThreadSanitizer; measured by
// thread_pool_benchmark.cc.
#ifndef TESSERA_RUNTIME_THREAD_POOL_H_
#define TESSERA_RUNTIME_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/status.h"

namespace tessera {

// Bytes that two processors should not both write: a cache line, twice, because x86 fetches lines in pairs.
inline constexpr size_t kNoSharing = 128;

// A meeting point for a fixed number of threads, which wait by spinning. What a thread wrote before Wait() is seen by
// all after it. May be used any number of times, by the same threads.
//
// One counter and one generation: the last to arrive resets the counter and moves the generation on, which is the sense
// that the others watch. A single counter serves up to about 16 threads; beyond, arrivals would queue for its cache
// line.
class SpinBarrier {
 public:
  // A thread that has waited `yield_after_ns` gives its processor to others between looks.
  SpinBarrier(int num_threads, int64_t yield_after_ns) : num_threads_(num_threads), yield_after_ns_(yield_after_ns) {}
  SpinBarrier(const SpinBarrier&) = delete;
  SpinBarrier& operator=(const SpinBarrier&) = delete;

  // Returns when all threads have called it.
  void Wait();

  int num_threads() const { return num_threads_; }

 private:
  alignas(kNoSharing) std::atomic<int> arrived_{0};
  alignas(kNoSharing) std::atomic<uint32_t> generation_{0};
  // Whoever got the processor that the last long wait gave away was who it waited for.
  alignas(kNoSharing) std::atomic<bool> shares_processor_{false};
  alignas(kNoSharing) const int num_threads_;
  const int64_t yield_after_ns_;
};

struct ThreadPoolOptions {
  // Threads of a region, the caller of RunRegion included. 0: as many as AvailableProcessors(), rounded down, at
  // least 1.
  int num_threads = 0;
  // How long a worker spins after a region before it sleeps. 0: not at all. Ignored when oversubscribed.
  int spin_us = 100;
};

// Owns num_threads - 1 workers. RunRegion may be called from several threads: one region runs at a time, the others
// wait.
class ThreadPool {
 public:
  static constexpr int kMaxThreads = 1024;

  // TES-2001 for a number of threads outside [0, kMaxThreads]; TES-3002 when the system gives no more threads.
  static StatusOr<std::unique_ptr<ThreadPool>> Create(const ThreadPoolOptions& options);

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  // Waits for a running region.
  ~ThreadPool();

  // Calls function(thread_index, num_threads, barrier) on every thread, the caller being thread 0, and returns when all
  // are done. Allocates nothing. All threads must pass the barrier equally often. Regions do not nest.
  template <typename Function>
  void RunRegion(Function&& function) {
    using Plain = std::remove_reference_t<Function>;
    Run([](void* context, int thread, int threads,
           SpinBarrier& barrier) { (*static_cast<Plain*>(context))(thread, threads, barrier); },
        const_cast<void*>(static_cast<const void*>(std::addressof(function))));
  }

  int num_threads() const { return num_threads_; }
  // Whether there were fewer processors than threads when the pool was made.
  bool oversubscribed() const { return oversubscribed_; }

 private:
  using Region = void (*)(void* context, int thread, int threads, SpinBarrier& barrier);

  ThreadPool(const ThreadPoolOptions& options, int num_threads, bool oversubscribed);
  void Run(Region region, void* context);
  void WorkerLoop(int thread);
  void WaitForNextRegion(uint32_t seen);

  const int num_threads_;
  const bool oversubscribed_;
  const int64_t spin_ns_;
  SpinBarrier barrier_;

  std::mutex one_region_;
  // Written by the caller before it moves epoch_ on, read by workers after they see that.
  Region region_ = nullptr;  // null: the pool ends
  void* context_ = nullptr;
  // Regions started so far, modulo 2^32; workers wait for it to change, spinning and then as a futex.
  alignas(kNoSharing) std::atomic<uint32_t> epoch_{0};
  alignas(kNoSharing) std::atomic<int> sleepers_{0};
  alignas(kNoSharing) std::atomic<int> unfinished_{0};

  std::vector<std::thread> workers_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_THREAD_POOL_H_
