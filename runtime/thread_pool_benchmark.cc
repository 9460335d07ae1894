// What the thread pool costs: an empty region while the workers spin (the price of one inference), one that wakes
// sleeping workers (the price of the first after a pause), and the barrier between layers.
//
//   bazel run //runtime:thread_pool_benchmark
//
// Every region is timed by itself and the quantiles are the result: on a machine with other work, one region in which a
// thread loses its processor weighs as much in a mean as ten thousand others. The clock itself takes about 25 ns.

#include "runtime/thread_pool.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

namespace tessera {
namespace {

std::unique_ptr<ThreadPool> MakePool(benchmark::State& state, int spin_us) {
  const int threads = static_cast<int>(state.range(0));
  StatusOr<std::unique_ptr<ThreadPool>> pool = ThreadPool::Create({.num_threads = threads, .spin_us = spin_us});
  TES_CHECK(pool.ok(), pool.status());
  if ((*pool)->oversubscribed()) state.SetLabel("oversubscribed");
  return *std::move(pool);
}

// Times `pool` running `region`, after `pause` each time, and reports nanoseconds per `parts` of a region.
template <typename Region>
void Measure(benchmark::State& state, ThreadPool& pool, std::chrono::microseconds pause, int parts, Region region) {
  std::vector<double> samples;
  samples.reserve(1 << 20);
  for (auto _ : state) {
    if (pause.count() > 0) std::this_thread::sleep_for(pause);
    const auto begin = std::chrono::steady_clock::now();
    pool.RunRegion(region);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    state.SetIterationTime(elapsed.count());
    if (samples.size() < samples.capacity()) samples.push_back(elapsed.count() * 1e9 / parts);
  }
  std::sort(samples.begin(), samples.end());
  state.counters["ns_min"] = samples.front();
  state.counters["ns_median"] = samples[samples.size() / 2];
  state.counters["ns_p90"] = samples[samples.size() * 9 / 10];
}

void BM_ForkJoin(benchmark::State& state) {
  auto pool = MakePool(state, 1000);
  Measure(state, *pool, std::chrono::microseconds(0), 1, [](int, int, SpinBarrier&) {});
}
BENCHMARK(BM_ForkJoin)->Arg(1)->Arg(2)->Arg(4)->UseManualTime();

void BM_ForkJoinAsleep(benchmark::State& state) {
  auto pool = MakePool(state, 0);
  Measure(state, *pool, std::chrono::microseconds(200), 1, [](int, int, SpinBarrier&) {});
}
BENCHMARK(BM_ForkJoinAsleep)->Arg(2)->UseManualTime()->Iterations(2000);

// A hundred barriers in a region, as between the layers of an inference.
void BM_Barrier(benchmark::State& state) {
  constexpr int kBarriers = 100;
  auto pool = MakePool(state, 1000);
  Measure(state, *pool, std::chrono::microseconds(0), kBarriers, [](int, int, SpinBarrier& barrier) {
    for (int i = 0; i < kBarriers; ++i) barrier.Wait();
  });
}
BENCHMARK(BM_Barrier)->Arg(1)->Arg(2)->Arg(4)->UseManualTime();

}  // namespace
}  // namespace tessera
