// SecondTier: a better program for sessions that run already, made meanwhile.
//
//   auto tier = std::make_shared<SecondTier>([=](const std::atomic<bool>& cancelled) { … });    // compiles and loads
//   if (tier->ended()) ASSIGN_OR_RETURN(executable, tier->Take(load));                 // a session, between two runs
//
// The work runs on a thread of the lowest priority, which threads that it starts inherit, so that inferences go first.
// It is told when nobody waits for it any more, and ends as soon as it can; the destructor waits for that. Sessions
// that are clones of each other share one SecondTier: the first that asks gets what was loaded, the others clones of
// it, which share its code and weights. What a session ran before is its own to free.
//
// Thread-safe, but for construction and destruction. Tested by second_tier_test.cc, and through sessions by
// engine_test.cc.
#ifndef TESSERA_ENGINE_SECOND_TIER_H_
#define TESSERA_ENGINE_SECOND_TIER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "base/status.h"
#include "engine/engine.h"
#include "runtime/device.h"

namespace tessera {

class SecondTier {
 public:
  struct Product {
    std::shared_ptr<Executable> executable;
    SessionReport report;
  };
  using Work = std::function<StatusOr<Product>(const std::atomic<bool>& cancelled)>;

  explicit SecondTier(Work work);
  ~SecondTier();
  SecondTier(const SecondTier&) = delete;
  SecondTier& operator=(const SecondTier&) = delete;

  // Never blocks, and is true from then on.
  bool ended() const { return ended_.load(std::memory_order_acquire); }
  // Until it has ended.
  void Wait() const { ended_.wait(false, std::memory_order_acquire); }
  // Once it has ended: the program for one session, and what there is to say of it; or why there is none.
  StatusOr<Product> Take(const LoadOptions& options);

 private:
  std::atomic<bool> cancelled_{false}, ended_{false};
  std::mutex mutex_;           // of what follows
  StatusOr<Product> product_;  // written before ended_
  bool taken_ = false;
  std::thread thread_;
};

}  // namespace tessera

#endif  // TESSERA_ENGINE_SECOND_TIER_H_
