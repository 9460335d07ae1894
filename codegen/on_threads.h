// OnThreads: many independent pieces of a compilation, spread over threads.
//
//   OnThreads(options.threads, graph.nodes.size(), [&](size_t n) { ranked[n] = RankWays(…, graph.nodes[n], …); });
//
// Tested by whoever uses it, compile_test.cc first.
#ifndef TESSERA_CODEGEN_ON_THREADS_H_
#define TESSERA_CODEGEN_ON_THREADS_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <future>
#include <thread>
#include <vector>

namespace tessera {

// Calls body(n) for n in [0, count), each once, on up to `threads` threads (0: as many as the machine has).
inline void OnThreads(int threads, size_t count, const std::function<void(size_t)>& body) {
  const size_t limit = threads > 0 ? static_cast<size_t>(threads) : std::thread::hardware_concurrency();
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t n = next.fetch_add(1); n < count; n = next.fetch_add(1)) body(n);
  };
  std::vector<std::future<void>> others;
  for (size_t k = 1; k < std::min(limit, count); ++k) others.push_back(std::async(std::launch::async, work));
  work();
  for (std::future<void>& other : others) other.get();
}

}  // namespace tessera

#endif  // TESSERA_CODEGEN_ON_THREADS_H_
