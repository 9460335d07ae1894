// SimtClocks: which thread of an emulated block knows what of which other.
//
//   clocks.Release(producer, stamp);  …  clocks.Acquire(consumer, stamp);
//   clocks.Saw(consumer, producer, time)         // does it know what the producer did at its time `time`?
//
// A thread's time grows with each release; what it did before is known to whoever acquires what it released, and so on
// from thread to thread. For barriers that only some threads take part in, mbarriers among them; without such, nothing
// is stored (on() is false) and a barrier of the whole block orders all. Single-threaded. Tested by
// shared_memory_test.cc.
#ifndef TESSERA_RUNTIME_SIMT_CLOCKS_H_
#define TESSERA_RUNTIME_SIMT_CLOCKS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tessera {

class SimtClocks {
 public:
  // What was released to a barrier: of each thread, the time below which all is known. Empty: nothing.
  using Stamp = std::vector<uint32_t>;

  // A new block, in which nobody knows anything of others.
  void Start(int threads) {
    threads_ = static_cast<size_t>(threads);
    on_ = false;
  }
  bool on() const { return on_; }
  uint32_t time(int thread) const { return on_ ? Of(thread)[thread] : 1; }
  bool Saw(int thread, int other, uint32_t time) const { return on_ && Of(thread)[other] > time; }

  void Release(int thread, Stamp& into) {
    TurnOn();
    ++Of(thread)[thread];
    into.resize(threads_, 0);
    Join(into.data(), Of(thread));
  }
  // Only what the thread itself did, not what it knows.
  void ReleaseOwn(int thread, Stamp& into) {
    TurnOn();
    into.resize(threads_, 0);
    into[static_cast<size_t>(thread)] = std::max(into[static_cast<size_t>(thread)], ++Of(thread)[thread]);
  }
  void Acquire(int thread, const Stamp& from) {
    if (from.empty()) return;
    TurnOn();
    Join(Of(thread), from.data());
  }
  // Threads [first, first + count) tell each other all.
  void Meet(int first, int count) {
    if (!on_) return;
    meeting_.assign(threads_, 0);
    for (int t = first; t < first + count; ++t) ++Of(t)[t], Join(meeting_.data(), Of(t));
    for (int t = first; t < first + count; ++t) std::copy(meeting_.begin(), meeting_.end(), Of(t));
  }

 private:
  void TurnOn() {
    if (on_) return;
    on_ = true;
    known_.assign(threads_ * threads_, 0);
    for (size_t t = 0; t < threads_; ++t) known_[t * threads_ + t] = 1;
  }
  uint32_t* Of(int thread) { return known_.data() + static_cast<size_t>(thread) * threads_; }
  const uint32_t* Of(int thread) const { return known_.data() + static_cast<size_t>(thread) * threads_; }
  void Join(uint32_t* into, const uint32_t* from) const {
    for (size_t t = 0; t < threads_; ++t) into[t] = std::max(into[t], from[t]);
  }

  size_t threads_ = 0;
  bool on_ = false;
  std::vector<uint32_t> known_;  // [thread, other]; of itself: its time
  Stamp meeting_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_SIMT_CLOCKS_H_
