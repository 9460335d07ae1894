// Both forms on every processor level against plain integers, extremes included.
#include "codegen/emit/int8_dot.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "codegen/emit/testing/kernel_runner.h"
#include "codegen/target.h"
#include "codegen/testing/run_compiled.h"

namespace tessera {
namespace {

// sums += dot of x and w, four vectors of `lanes`.
KernelRunner MakeDot(const Target& target, int lanes, bool pairs) {
  KernelSpec kernel;
  kernel.family = "dot";
  kernel.num_args = 3;
  kernel.emit = [=](KernelBuilder& b) {
    for (int k = 0; k < 4; ++k) {
      const auto load = [&](int arg) { return b.Load(b.arg(arg), b.I64(k * lanes), DType::kI32, lanes); };
      IrValue sum = pairs ? EmitDotPairs(b, load(0), load(1), load(2)) : EmitDotBytes(b, load(0), load(1), load(2));
      b.Store(b.arg(0), b.I64(k * lanes), DType::kI32, sum);
    }
  };
  StatusOr<KernelRunner> run = KernelRunner::Make(kernel, target);
  TES_CHECK(run.ok(), run.status());
  return *std::move(run);
}

TEST(Int8DotTest, EveryLevelAndWidthIsExact) {
  std::mt19937_64 random(3);
  for (const std::string& level : RunnableLevels()) {
    const StatusOr<Target> target = MakeTarget(level);
    ASSERT_TRUE(target.ok());
    Target without = *target;  // AVX-512 without VNNI
    without.has_vnni = false;
    for (const Target& t : {*target, without}) {
      for (int lanes = 4; lanes <= t.Lanes(32); lanes *= 2) {
        for (const bool pairs : {false, true}) {
          SCOPED_TRACE(internal::Join(level, t.has_vnni ? " vnni " : " ", lanes, pairs ? " pairs" : " bytes"));
          const int count = 4 * lanes;
          std::vector<uint32_t> sums(count), x(count), w(count);
          std::vector<uint32_t> expected(count);
          for (int k = 0; k < count; ++k) {
            const auto number = [&](int low, int high) {
              const uint64_t r = random();
              return r % 4 == 0 ? low : r % 4 == 1 ? high : low + static_cast<int>(r / 4 % (high - low + 1));
            };
            sums[k] = static_cast<uint32_t>(random());
            expected[k] = sums[k];
            for (int e = 0; e < (pairs ? 2 : 4); ++e) {
              const int a = number(0, 255), c = number(-128, 127), shift = e * (pairs ? 16 : 8);
              x[k] |= static_cast<uint32_t>(a) << shift;
              w[k] |= (static_cast<uint32_t>(c) & (pairs ? 0xffff : 0xff)) << shift;
              expected[k] += static_cast<uint32_t>(a * c);
            }
          }
          MakeDot(t, lanes, pairs)({sums.data(), x.data(), w.data()}, 0, 1);
          EXPECT_EQ(sums, expected);
        }
      }
    }
  }
}

}  // namespace
}  // namespace tessera
