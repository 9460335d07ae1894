#include "tools/common/machine.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "base/file.h"
#include "runtime/processors.h"

namespace tessera {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The value of the first line `key : value` of /proc/cpuinfo.
std::string CpuInfo(const std::string& key) {
  StatusOr<std::string> text = ReadFile("/proc/cpuinfo");
  if (!text.ok()) return "";
  const size_t line = text->find(key);
  const size_t colon = line == std::string::npos ? line : text->find(": ", line);
  if (colon == std::string::npos) return "";
  return text->substr(colon + 2, text->find('\n', colon) - colon - 2);
}

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

#if defined(__x86_64__)

constexpr int64_t kFmaRounds = 20000;

// `round` runs kAccumulators independent multiply-adds; at a latency of 4 cycles and two units 8 would be enough, 12
// also cover a latency of 5 and leave four registers. `lanes` is the vector's width in floats.
// The loops over accumulators must be unrolled: an array that is indexed lives in memory, at half the rate.
#define TES_FMA_LOOP(name, isa, type, lanes)                                                  \
  __attribute__((target(isa), noinline)) double name() {                                      \
    typedef float type __attribute__((vector_size(4 * lanes)));                               \
    type a[12], x = {}, y = {};                                                               \
    _Pragma("GCC unroll 12") for (int k = 0; k < 12; ++k) a[k] = x;                           \
    for (int64_t round = 0; round < kFmaRounds; ++round) {                                    \
      asm volatile("" : "+v"(x), "+v"(y));                                                    \
      _Pragma("GCC unroll 12") for (int k = 0; k < 12; ++k) {                                 \
        asm volatile("vfmadd231ps %1, %2, %0" : "+v"(a[k]) : "v"(x), "v"(y));                 \
      }                                                                                       \
    }                                                                                         \
    _Pragma("GCC unroll 12") for (int k = 0; k < 12; ++k) { asm volatile("" : : "v"(a[k])); } \
    return 2.0 * lanes * 12 * kFmaRounds;                                                     \
  }
TES_FMA_LOOP(FmaLoop512, "avx512f", Vector16, 16)
TES_FMA_LOOP(FmaLoop256, "avx2,fma", Vector8, 8)
#undef TES_FMA_LOOP

__attribute__((noinline)) double MulAddLoopSse() {
  typedef float Vector4 __attribute__((vector_size(16)));
  Vector4 a[6], m[6], x = {}, y = {};
#pragma GCC unroll 6
  for (int k = 0; k < 6; ++k) a[k] = m[k] = x;
  for (int64_t round = 0; round < kFmaRounds; ++round) {
#pragma GCC unroll 6
    for (int k = 0; k < 6; ++k) {
      asm volatile("mulps %2, %0\n\taddps %3, %1" : "+x"(m[k]), "+x"(a[k]) : "x"(x), "x"(y));
    }
  }
#pragma GCC unroll 6
  for (int k = 0; k < 6; ++k) asm volatile("" : : "x"(a[k]), "x"(m[k]));
  return 2.0 * 4 * 6 * kFmaRounds;
}

// Runs a fixed number of multiply-adds of the widest vectors; how many flops that was.
double RunFlops() {
  if (__builtin_cpu_supports("avx512f")) return FmaLoop512();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return FmaLoop256();
  return MulAddLoopSse();
}

std::string Isa() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
    std::string isa = "avx512";
    if (__builtin_cpu_supports("avx512vnni")) isa += " vnni";
    if (__builtin_cpu_supports("avx512bf16")) isa += " bf16";
    return isa;
  }
  if (__builtin_cpu_supports("avx2")) return __builtin_cpu_supports("fma") ? "avx2 fma" : "avx2";
  return __builtin_cpu_supports("avx") ? "avx" : "sse2";
}

// imul of 64 bits has had a latency of 3 cycles on every x86-64 core since Nehalem and Zen.
double MeasureClockGhz() {
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    constexpr int64_t kRounds = 400000;
    uint64_t x = 3;
    const double start = Seconds();
    for (int64_t round = 0; round < kRounds; ++round) {
      asm volatile("imul %0, %0\n\timul %0, %0\n\timul %0, %0\n\timul %0, %0" : "+r"(x));
    }
    best = std::max(best, 12.0 * kRounds / (Seconds() - start) / 1e9);
  }
  return best;
}

#else
#error "the host tools know x86-64; another processor needs its own RunFlops, Isa and MeasureClockGhz"
#endif

// Reads all of a buffer with loads of `Vector`, eight sums side by side so that additions never wait for each other.
template <typename Vector>
__attribute__((always_inline)) inline uint64_t SumVectors(const uint64_t* words, size_t count) {
  constexpr size_t kWords = sizeof(Vector) / sizeof(uint64_t);
  Vector sums[8] = {};
  for (size_t at = 0; at + 8 * kWords <= count; at += 8 * kWords) {
#pragma GCC unroll 8
    for (size_t j = 0; j < 8; ++j) {
      Vector value;
      std::memcpy(&value, words + at + j * kWords, sizeof(value));
      sums[j] += value;
    }
  }
  uint64_t total = 0;
#pragma GCC unroll 8
  for (size_t j = 0; j < 8; ++j) {
    for (size_t k = 0; k < kWords; ++k) total += sums[j][k];
  }
  return total;
}

__attribute__((target("avx2"))) uint64_t SumWordsAvx2(const uint64_t* words, size_t count) {
  typedef uint64_t Words4 __attribute__((vector_size(32)));
  return SumVectors<Words4>(words, count);
}

uint64_t SumWords(const uint64_t* words, size_t count) {
  typedef uint64_t Words2 __attribute__((vector_size(16)));
  return __builtin_cpu_supports("avx2") ? SumWordsAvx2(words, count) : SumVectors<Words2>(words, count);
}

// The best rate of `work` on `threads` threads at once over a few trials; work returns the units it did.
double BestRate(int threads, const std::function<double(int thread)>& work) {
  constexpr int kTrials = 5;
  std::vector<double> rates(static_cast<size_t>(threads) * kTrials);
  std::atomic<int> waiting{0};
  const auto run = [&](int thread) {
    for (int trial = 0; trial < kTrials; ++trial) {
      // All start a trial together, so that they share caches, memory and clock.
      waiting.fetch_add(1);
      while (waiting.load() < threads * (trial + 1)) std::this_thread::yield();
      const double start = Seconds();
      double done = 0, now = start;
      while (now - start < 0.008) {
        done += work(thread);
        now = Seconds();
      }
      rates[static_cast<size_t>(trial * threads + thread)] = done / (now - start);
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  run(0);
  for (std::thread& other : others) other.join();
  double best = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    double sum = 0;
    for (int thread = 0; thread < threads; ++thread) sum += rates[static_cast<size_t>(trial * threads + thread)];
    best = std::max(best, sum);
  }
  return best;
}

std::string ReadLine(const std::string& path) {
  StatusOr<std::string> text = ReadFile(path, 1 << 20);
  return text.ok() ? FirstLine(*text) : "";
}

// The commit that the git folder's HEAD names, directly or through a reference, loose or packed.
std::string HeadOf(const std::string& git, const std::string& common) {
  const std::string head = ReadLine(git + "/HEAD");
  if (head.compare(0, 5, "ref: ") != 0) return head;
  const std::string reference = head.substr(5);
  std::string commit = ReadLine(common + "/" + reference);
  if (!commit.empty()) return commit;
  StatusOr<std::string> packed = ReadFile(common + "/packed-refs", 1 << 26);
  if (!packed.ok()) return "";
  const size_t at = packed->find(" " + reference + "\n");
  return at == std::string::npos || at < 40 ? "" : packed->substr(at - 40, 40);
}

}  // namespace

std::string CommitOf(const std::string& folder) {
  for (std::string at = folder; !at.empty(); at = at.substr(0, at.rfind('/'))) {
    std::string git = at + "/.git";
    // A work tree's .git is a file that says where its folder is; references are shared with the main one.
    const std::string link = ReadLine(git);
    if (link.compare(0, 8, "gitdir: ") == 0) {
      git = link[8] == '/' ? link.substr(8) : at + "/" + link.substr(8);
    } else if (ReadLine(git + "/HEAD").empty()) {
      continue;
    }
    const std::string shared = ReadLine(git + "/commondir");
    const std::string common = shared.empty() ? git : shared[0] == '/' ? shared : git + "/" + shared;
    return HeadOf(git, common);
  }
  return "";
}

HostMachine DescribeMachine() {
  HostMachine machine;
  machine.cpu = CpuInfo("model name");
  machine.processors = AvailableProcessors();
  machine.isa = Isa();
  machine.clock_ghz = MeasureClockGhz();
  utsname name;
  if (uname(&name) == 0) machine.os = std::string(name.sysname) + " " + name.release;
  if (const char* commit = std::getenv("TESSERA_COMMIT"); commit != nullptr) {
    machine.commit = commit;
  } else if (const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY"); workspace != nullptr) {
    machine.commit = CommitOf(workspace);
  } else {
    char self[4096];
    const ssize_t size = readlink("/proc/self/exe", self, sizeof(self));
    const std::string exe(self, static_cast<size_t>(std::max<ssize_t>(0, size)));
    const std::string bin = exe.substr(0, exe.rfind('/') == std::string::npos ? 0 : exe.rfind('/'));
    machine.commit = ReadLine(bin + "/../share/tessera/COMMIT");
    char* here = getcwd(nullptr, 0);
    if (machine.commit.empty() && here != nullptr) machine.commit = CommitOf(here);
    std::free(here);
  }
  return machine;
}

Peaks MeasurePeaks(int threads, int64_t working_set) {
  threads = std::clamp(threads, 1, 256);
  Peaks peaks;
  peaks.flops = BestRate(threads, [](int) { return RunFlops(); });
  const int64_t bytes = std::clamp<int64_t>(working_set, 64 << 10, 512 << 20) / threads / 256 * 256;
  std::vector<std::vector<uint64_t>> buffers(static_cast<size_t>(threads));
  for (size_t k = 0; k < buffers.size(); ++k) buffers[k].assign(static_cast<size_t>(bytes / 8), k + 1);
  std::atomic<uint64_t> sink{0};
  peaks.bytes = BestRate(threads, [&](int thread) {
    const std::vector<uint64_t>& buffer = buffers[static_cast<size_t>(thread)];
    sink.fetch_add(SumWords(buffer.data(), buffer.size()), std::memory_order_relaxed);
    return static_cast<double>(buffer.size() * 8);
  });
  return peaks;
}

}  // namespace tessera
