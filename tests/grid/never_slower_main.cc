// Prints how the grid of never_slower.h comes out:
//
//   bazel run //tests/grid:never_slower [-- [FLAG…] [LAYERS [SEED [THREADS [ONLY]]]]]
//
//   --cpu=CPU        as on that processor ("x86-64-v3")
//   --target=TARGET  "cuda": on a card, by its clock
//   --types=f32,i8   of the layers
//   --times=N        layers that many times larger
//   --jobs=N         threads that compile cells, 200 of them before any is timed
//   --seconds=N      begins no cell after that; 0: no end
//   --lock=FILE      several of these may run at once, of which one takes times while the others compile
//
// ONLY: nothing but cells whose name ("f32 matmul 22x500x185, 50%:fine") has this text, each that is timed printed.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/testing/timing_lock.h"
#include "tests/grid/never_slower.h"

namespace tessera {
namespace {

struct Settings {
  CompareOptions compare;
  std::vector<DType> types = {DType::kF32, DType::kI8};
  int layers = 40, jobs = 0;
  int64_t times = 1;
  double seconds = 0;
  std::string only, lock;
};

std::vector<std::string> Prunes(const std::string& only) {
  if (only.find(kSkewed) != std::string::npos) return {std::string(kSkewed)};
  std::vector<std::string> prunes = {"none"};
  for (const char* share : {"30%", "50%", "70%", "90%"}) {
    for (const char* pattern : {"fine", "4x1", "16x16", "channels"}) {
      prunes.push_back(std::string(share) + ":" + pattern);
    }
  }
  prunes.emplace_back("2:4");
  return prunes;
}

struct Cell {
  std::string name, kind;  // "f32 matmul 22x500x185, 50%:fine", "f32 50%:fine"
  size_t layer = 0;
  std::string prune;
};

struct Sum {
  int cells = 0, slower = 0, timed = 0;
  double log_ratio = 0, least = 1e9;
};

class Grid {
 public:
  explicit Grid(Settings settings) : settings_(std::move(settings)) {
    Random random(settings_.compare.seed);
    for (int k = 0; k < settings_.layers; ++k) {
      const Random at = random;  // the same shape in all types
      for (const DType type : settings_.types) {
        Random same = at;
        layers_.push_back(RandomLayer(same, type, settings_.times));
        random = same;
        for (const std::string& prune : Prunes(settings_.only)) {
          Cell cell = {layers_.back().name + ", " + prune, internal::Join(Name(type), " ", prune), layers_.size() - 1,
                       prune};
          if (cell.name.find(settings_.only) != std::string::npos) cells_.push_back(std::move(cell));
        }
      }
    }
    // Where time may run out, what comes before that is to be of all kinds.
    if (settings_.seconds > 0) {
      for (size_t k = cells_.size(); k > 1; --k) {
        std::swap(cells_[k - 1], cells_[static_cast<size_t>(random.Int(0, static_cast<int64_t>(k) - 1))]);
      }
    }
  }

  // 0, or 1 where a cell is slower, or 3 where one is wrong.
  int Run() {
    int result = 0;
    if (settings_.jobs == 0) {
      for (const Cell& cell : cells_) {
        if (TimeIsUp()) break;
        result = std::max(result, Judge(cell, Make(cell)));
        if (result == 3) break;
      }
    } else {
      result = RunInParallel();
    }
    Print();
    return result;
  }

 private:
  using Made = StatusOr<std::unique_ptr<Contest>>;

  Made Make(const Cell& cell) { return Contest::Make(layers_[cell.layer], cell.prune, settings_.compare); }
  bool TimeIsUp() const {
    const std::chrono::duration<double> since = std::chrono::steady_clock::now() - start_;
    return settings_.seconds > 0 && since.count() > settings_.seconds;
  }

  // Some cells at a time are compiled by all threads, then judged while none of them runs. What is under way when time
  // is up is waited for by nobody: some kernels take their assembler a minute.
  int RunInParallel() {
    constexpr size_t kAtOnce = 200;
    int result = 0;
    for (size_t first = 0; first < cells_.size() && !TimeIsUp() && result < 3; first += kAtOnce) {
      const size_t end = std::min(cells_.size(), first + kAtOnce);
      struct Shared {
        std::mutex mutex;
        std::condition_variable done;
        std::atomic<size_t> next;
        std::vector<std::pair<size_t, Made>> made;
      };
      auto* const shared = new Shared;  // outlives threads that nobody waits for
      shared->next = first;
      for (int j = 0; j < settings_.jobs; ++j) {
        std::thread([this, shared, end] {
          for (size_t k; (k = shared->next++) < end && !TimeIsUp();) {
            Made made = Make(cells_[k]);
            const std::lock_guard lock(shared->mutex);
            shared->made.emplace_back(k, std::move(made));
            shared->done.notify_one();
          }
        }).detach();
      }
      std::unique_lock lock(shared->mutex);
      while (shared->made.size() < end - first && !TimeIsUp()) {
        shared->done.wait_for(lock, std::chrono::milliseconds(100));
      }
      std::vector<std::pair<size_t, Made>> made = std::move(shared->made);
      shared->made.clear();
      lock.unlock();
      for (auto& [k, contest] : made) {
        result = std::max(result, Judge(cells_[k], std::move(contest)));
        if (result == 3) break;
      }
    }
    return result;
  }

  int Judge(const Cell& cell, Made made) {
    const StatusOr<Verdict> verdict = [&]() -> StatusOr<Verdict> {
      RETURN_IF_ERROR(made.status());
      const TimingLock alone(settings_.lock);
      return (*made)->Judge();
    }();
    if (!verdict.ok()) {
      std::printf("%s: %s\n", cell.name.c_str(), verdict.status().ToString().c_str());
      return 3;
    }
    Sum& sum = sums_[cell.kind];
    ++sum.cells;
    sum.timed += verdict->dense_us > 0 ? 1 : 0;
    sum.log_ratio += std::log(verdict->ratio);
    sum.least = std::min(sum.least, verdict->ratio);
    sum.slower += verdict->slower ? 1 : 0;
    const bool told = settings_.only.empty() ? verdict->slower : verdict->dense_us > 0;
    if (told) {
      std::printf("%s%s: dense %.2f us, %.2f us by %s (%.2f)\n", verdict->slower ? "slower: " : "", cell.name.c_str(),
                  verdict->dense_us, verdict->sparse_us, verdict->way.c_str(), verdict->ratio);
      std::printf("  %s\n", verdict->decision.c_str());
      std::fflush(stdout);
    }
    return verdict->slower ? 1 : 0;
  }

  void Print() const {
    int slower = 0, cells = 0;
    for (const auto& [kind, sum] : sums_) slower += sum.slower, cells += sum.cells;
    const CompareOptions& compare = settings_.compare;
    std::printf("\n%s, %d layers, seed %llu, %d threads: %d of %d cells slower than dense (%zu in the grid)\n\n",
                compare.target.c_str(), settings_.layers, static_cast<unsigned long long>(compare.seed),
                compare.threads, slower, cells, cells_.size());
    std::printf("| type, pruned | cells | timed | slower | geometric mean x dense | least |\n");
    std::printf("| --- | --: | --: | --: | --: | --: |\n");
    for (const auto& [kind, sum] : sums_) {
      std::printf("| %s | %d | %d | %d | %.2f | %.2f |\n", kind.c_str(), sum.cells, sum.timed, sum.slower,
                  std::exp(sum.log_ratio / sum.cells), sum.least);
    }
    std::fflush(stdout);
  }

  const Settings settings_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::vector<Layer> layers_;
  std::vector<Cell> cells_;
  std::map<std::string, Sum> sums_;
};

// False for a flag that there is not.
bool TakeFlag(const std::string& flag, Settings& settings) {
  const size_t equals = std::min(flag.find('='), flag.size() - 1);
  const std::string name = flag.substr(0, equals), value = flag.substr(equals + 1);
  if (name == "--cpu") {
    settings.compare.target = "host:" + value;
  } else if (name == "--target") {
    settings.compare.target = value;
  } else if (name == "--times") {
    settings.times = std::atoll(value.c_str());
  } else if (name == "--jobs") {
    settings.jobs = std::atoi(value.c_str());
  } else if (name == "--seconds") {
    settings.seconds = std::atof(value.c_str());
  } else if (name == "--lock") {
    settings.lock = value;
  } else if (name == "--types") {
    settings.types.clear();
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
      if (("," + value + ",").find(internal::Join(",", Name(type), ",")) != std::string::npos) {
        settings.types.push_back(type);
      }
    }
    return !settings.types.empty();
  } else {
    return false;
  }
  return true;
}

int Main(int argc, char** argv) {
  Settings settings;
  std::vector<std::string> numbers;
  for (int k = 1; k < argc; ++k) {
    const std::string arg = argv[k];
    if (arg.rfind("--", 0) != 0) {
      numbers.push_back(arg);
    } else if (!TakeFlag(arg, settings)) {
      std::fprintf(stderr, "unknown flag '%s'; see never_slower_main.cc\n", arg.c_str());
      return 2;
    }
  }
  if (!numbers.empty()) settings.layers = std::atoi(numbers[0].c_str());
  if (numbers.size() > 1) settings.compare.seed = std::strtoull(numbers[1].c_str(), nullptr, 10);
  if (numbers.size() > 2) settings.compare.threads = std::atoi(numbers[2].c_str());
  if (numbers.size() > 3) settings.only = numbers[3];
  return Grid(std::move(settings)).Run();
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  // Threads may still compile: nothing is torn down under them.
  std::_Exit(tessera::Main(argc, argv));
}
