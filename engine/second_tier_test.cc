// Work in the background with executables that compute nothing: who gets what, errors, and ends before the end.
#include "engine/second_tier.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <vector>

namespace tessera {
namespace {

class FakeExecutable : public Executable {
 public:
  explicit FakeExecutable(int generation) : generation_(generation) {}
  Status Run(std::span<const void* const>, std::span<void* const>) override { return OkStatus(); }
  StatusOr<std::unique_ptr<Executable>> Clone(const LoadOptions& options) const override {
    if (options.threads < 0) return Error(ErrorCode::kUsageInvalid, "threads");
    return std::unique_ptr<Executable>(std::make_unique<FakeExecutable>(generation_ + 1));
  }
  const Program& program() const override { return program_; }
  void SetTrace(Trace*) override {}
  int threads() const override { return generation_; }
  void SetProfiling(bool) override {}
  std::span<const int64_t> step_nanoseconds() const override { return {}; }

 private:
  Program program_;
  const int generation_;
};

StatusOr<SecondTier::Product> Made() {
  SecondTier::Product product;
  product.executable = std::make_shared<FakeExecutable>(0);
  product.report.steps = 7;
  return product;
}

TEST(SecondTier, TheFirstGetsWhatWasMadeAndOthersClones) {
  SecondTier tier([](const std::atomic<bool>&) { return Made(); });
  tier.Wait();
  EXPECT_TRUE(tier.ended());
  for (int generation : {0, 1, 1}) {
    const StatusOr<SecondTier::Product> product = tier.Take({});
    ASSERT_TRUE(product.ok()) << product.status();
    EXPECT_EQ(product->executable->threads(), generation);
    EXPECT_EQ(product->report.steps, 7);
  }
  EXPECT_EQ(tier.Take({.threads = -1, .cache_dir = {}}).status().code(), ErrorCode::kUsageInvalid);
}

TEST(SecondTier, ErrorsAreToldToEverySession) {
  SecondTier tier([](const std::atomic<bool>&) -> StatusOr<SecondTier::Product> {
    return Error(ErrorCode::kOutOfMemory, "no room");
  });
  tier.Wait();
  for (int session = 0; session < 2; ++session) EXPECT_EQ(tier.Take({}).status().code(), ErrorCode::kOutOfMemory);
}

TEST(SecondTier, NothingIsThereBeforeTheEnd) {
  std::atomic<bool> go{false};
  SecondTier tier([&](const std::atomic<bool>&) {
    go.wait(false);
    return Made();
  });
  EXPECT_FALSE(tier.ended());
  EXPECT_FALSE(tier.Take({}).ok());
  go = true;
  go.notify_all();
  tier.Wait();
  EXPECT_TRUE(tier.Take({}).ok());
}

TEST(SecondTier, DestructionEndsTheWork) {
  std::atomic<bool> saw{false};
  {
    SecondTier tier([&](const std::atomic<bool>& cancelled) -> StatusOr<SecondTier::Product> {
      while (!cancelled) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      saw = true;
      return Error(ErrorCode::kInternal, "cancelled");
    });
  }
  EXPECT_TRUE(saw);
}

TEST(SecondTier, InferencesGoFirst) {
  int priority = 0;
  SecondTier tier([&](const std::atomic<bool>&) {
    priority = getpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)));
    return Made();
  });
  tier.Wait();
  EXPECT_EQ(priority, 19);
  EXPECT_NE(getpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid))), 19);
}

TEST(SecondTier, SeveralSessionsTakeAtOnce) {
  SecondTier tier([](const std::atomic<bool>&) { return Made(); });
  std::atomic<int> originals{0}, clones{0};
  std::vector<std::thread> sessions;
  for (int k = 0; k < 8; ++k) {
    sessions.emplace_back([&] {
      tier.Wait();
      const StatusOr<SecondTier::Product> product = tier.Take({});
      if (product.ok()) ++(product->executable->threads() == 0 ? originals : clones);
    });
  }
  for (std::thread& session : sessions) session.join();
  EXPECT_EQ(originals, 1);
  EXPECT_EQ(clones, 7);
}

}  // namespace
}  // namespace tessera
