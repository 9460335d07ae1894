// What the thread pool costs: an empty region while the workers spin (the price of one inference), one that wakes
// sleeping workers (the price of the first after a pause), and the barrier between layers.
//
//   bazel run //runtime:thread_pool_benchmark

#include "runtime/thread_pool.h"

#include <benchmark/benchmark.h>

#include <chrono>
#include <thread>

namespace tessera {
namespace {

std::unique_ptr<ThreadPool> MakePool(int threads, int spin_us) {
  StatusOr<std::unique_ptr<ThreadPool>> pool = ThreadPool::Create({.num_threads = threads, .spin_us = spin_us});
  TES_CHECK(pool.ok(), pool.status());
  return *std::move(pool);
}

void BM_ForkJoin(benchmark::State& state) {
  auto pool = MakePool(static_cast<int>(state.range(0)), 1000);
  for (auto _ : state) pool->RunRegion([](int, int, SpinBarrier&) {});
  state.SetLabel(pool->oversubscribed() ? "oversubscribed" : "");
}
BENCHMARK(BM_ForkJoin)->Arg(1)->Arg(2)->Arg(4)->UseRealTime();

// The time from the call to the return of a region that finds the workers asleep.
void BM_ForkJoinAsleep(benchmark::State& state) {
  auto pool = MakePool(static_cast<int>(state.range(0)), 0);
  for (auto _ : state) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    const auto begin = std::chrono::steady_clock::now();
    pool->RunRegion([](int, int, SpinBarrier&) {});
    state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
}
BENCHMARK(BM_ForkJoinAsleep)->Arg(2)->UseManualTime()->Iterations(2000);

// One barrier, from a region of 1000, as between the layers of an inference.
void BM_Barrier(benchmark::State& state) {
  auto pool = MakePool(static_cast<int>(state.range(0)), 1000);
  constexpr int kBarriers = 1000;
  for (auto _ : state) {
    pool->RunRegion([](int, int, SpinBarrier& barrier) {
      for (int i = 0; i < kBarriers; ++i) barrier.Wait();
    });
  }
  state.counters["per_barrier"] = benchmark::Counter(static_cast<double>(state.iterations()) * kBarriers,
                                                     benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.SetLabel(pool->oversubscribed() ? "oversubscribed" : "");
}
BENCHMARK(BM_Barrier)->Arg(1)->Arg(2)->Arg(4)->UseRealTime();

}  // namespace
}  // namespace tessera
