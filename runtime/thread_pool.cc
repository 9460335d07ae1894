#include "runtime/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <string>
#include <system_error>

#include "runtime/processors.h"

namespace tessera {
namespace {

// Looks between two readings of the clock: a look with its pause takes 10 to 40 ns, the clock about 25.
constexpr int kLooksPerClock = 16;
// How long to spin at a barrier. Threads that have processors of their own wait only as long as their shares of a layer
// differ; one that waits longer than a layer takes waits for a thread that lost its processor, and had better offer its
// own. Where that one then arrives after a yield or two, both had the same processor: until a wait is short again the
// next ones yield as if there were too few. (MiniLM, 130 barriers, two threads, another program on one of two
// processors: 33 ms in such a run before.)
constexpr int64_t kYieldAfterNs = 200'000;
constexpr int64_t kYieldAfterNsOversubscribed = 1'000;
constexpr int kYieldsToOther = 2;

// Tells the processor that this is a spin: saves power and leaves a sibling thread the core.
inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Spins until ready() or `limit_ns` is over; whether it was ready. The clock starts after the first looks.
template <typename Ready>
bool SpinFor(int64_t limit_ns, Ready ready) {
  int64_t deadline = 0;
  do {
    for (int look = 0; look < kLooksPerClock; ++look) {
      if (ready()) return true;
      Pause();
    }
    if (deadline == 0) deadline = NowNs() + limit_ns;
  } while (NowNs() < deadline);
  return false;
}

template <typename Ready>
void SpinThenYield(int64_t yield_after_ns, Ready ready) {
  if (SpinFor(yield_after_ns, ready)) return;
  while (!ready()) sched_yield();
}

// libstdc++'s atomic wait would spin and keep its own table of waiters first; we have just spun.
void SleepWhileEqual(std::atomic<uint32_t>& word, uint32_t value) {
  static_assert(sizeof(word) == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free);
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void WakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

// The pool whose region this thread is in.
thread_local const ThreadPool* current_pool = nullptr;

}  // namespace

void SpinBarrier::Wait() {
  // Cannot move on before we arrive.
  const uint32_t generation = generation_.load(std::memory_order_relaxed);
  // Acquire and release: the last one has seen what all others wrote, and passes it on with the generation.
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.store(generation + 1, std::memory_order_release);
    return;
  }
  const auto moved_on = [&] { return generation_.load(std::memory_order_acquire) != generation; };
  const bool shares = shares_processor_.load(std::memory_order_relaxed);
  if (SpinFor(shares ? std::min(yield_after_ns_, kYieldAfterNsOversubscribed) : yield_after_ns_, moved_on)) {
    if (shares) shares_processor_.store(false, std::memory_order_relaxed);
    return;
  }
  int yields = 0;
  do {
    sched_yield();
    ++yields;
  } while (!moved_on());
  shares_processor_.store(yields <= kYieldsToOther, std::memory_order_relaxed);
}

StatusOr<std::unique_ptr<ThreadPool>> ThreadPool::Create(const ThreadPoolOptions& options) {
  if (options.num_threads < 0 || options.num_threads > kMaxThreads) {
    return Error(ErrorCode::kUsageInvalid, "a thread pool of ", options.num_threads, " threads; expected 1 to ",
                 kMaxThreads, ", or 0 for one per processor");
  }
  const double processors = AvailableProcessors();
  const int num_threads = std::min(ThreadsToUse(options.num_threads), kMaxThreads);
  std::unique_ptr<ThreadPool> pool(new ThreadPool(options, num_threads, processors < num_threads));
  try {
    pool->workers_.reserve(static_cast<size_t>(num_threads - 1));
    for (int thread = 1; thread < num_threads; ++thread) {
      pool->workers_.emplace_back(&ThreadPool::WorkerLoop, pool.get(), thread);
      // At most 15 characters, as a debugger or `top -H` shows them.
      pthread_setname_np(pool->workers_.back().native_handle(), ("tessera-" + std::to_string(thread)).c_str());
    }
  } catch (const std::system_error& error) {
    return Error(ErrorCode::kOutOfMemory, "cannot start thread ", pool->workers_.size() + 1, " of ", num_threads, ": ",
                 error.what(), "; ask for fewer");
  }
  return pool;
}

ThreadPool::ThreadPool(const ThreadPoolOptions& options, int num_threads, bool oversubscribed)
    : num_threads_(num_threads),
      oversubscribed_(oversubscribed),
      spin_ns_(oversubscribed ? 0 : int64_t{std::max(options.spin_us, 0)} * 1000),
      barrier_(num_threads, oversubscribed ? kYieldAfterNsOversubscribed : kYieldAfterNs) {}

ThreadPool::~ThreadPool() {
  std::lock_guard<std::mutex> lock(one_region_);
  region_ = nullptr;
  epoch_.fetch_add(1, std::memory_order_seq_cst);
  WakeAll(epoch_);
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(Region region, void* context) {
  TES_CHECK(current_pool == nullptr, "a parallel region inside a parallel region");
  std::lock_guard<std::mutex> lock(one_region_);
  current_pool = this;
  if (num_threads_ > 1) {
    region_ = region;
    context_ = context;
    unfinished_.store(num_threads_ - 1, std::memory_order_relaxed);
    // This and the next load are ordered against a worker's increment of sleepers_ and its sleep, which looks at epoch_
    // again: either we see the sleeper, or it sees the new epoch.
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) WakeAll(epoch_);
  }
  region(context, 0, num_threads_, barrier_);
  if (num_threads_ > 1) {
    SpinThenYield(oversubscribed_ ? kYieldAfterNsOversubscribed : kYieldAfterNs,
                  [&] { return unfinished_.load(std::memory_order_acquire) == 0; });
  }
  current_pool = nullptr;
}

void ThreadPool::WorkerLoop(int thread) {
  current_pool = this;
  // Regions are counted from the pool's birth: one that starts before this line is not missed.
  for (uint32_t seen = 0;; ++seen) {
    WaitForNextRegion(seen);
    if (region_ == nullptr) return;
    region_(context_, thread, num_threads_, barrier_);
    unfinished_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::WaitForNextRegion(uint32_t seen) {
  auto started = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
  if (spin_ns_ > 0 ? SpinFor(spin_ns_, started) : started()) return;
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (!started()) SleepWhileEqual(epoch_, seen);  // may wake without reason
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace tessera
