#include "engine/second_tier.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

namespace tessera {

SecondTier::SecondTier(Work work) : product_(Error(ErrorCode::kInternal, "the second tier has not ended")) {
  thread_ = std::thread([this, work = std::move(work)]() mutable {
    // Of this thread alone, as Linux has it; where that is refused the work is merely no less important.
    constexpr int kLowest = 19;
    setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kLowest);
    StatusOr<Product> product = work(cancelled_);
    work = nullptr;  // with the graph that it holds
    {
      std::lock_guard<std::mutex> lock(mutex_);
      product_ = std::move(product);
    }
    ended_.store(true, std::memory_order_release);
    ended_.notify_all();
  });
}

SecondTier::~SecondTier() {
  cancelled_.store(true, std::memory_order_relaxed);
  thread_.join();
}

StatusOr<SecondTier::Product> SecondTier::Take(const LoadOptions& options) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!product_.ok()) return product_.status();
  if (!std::exchange(taken_, true)) return *product_;
  Product clone = {nullptr, product_->report};
  ASSIGN_OR_RETURN(clone.executable, product_->executable->Clone(options));
  return clone;
}

}  // namespace tessera
