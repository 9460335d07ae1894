#include "codegen/emit/testing/peak_flops.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "codegen/emit/int8_dot.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/testing/kernel_runner.h"

namespace tessera {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Twelve independent sums, which hide a latency of up to six cycles: sums = step(sum, factor), vectors of `type`.
// Returns steps of one lane a second.
double MeasureSteps(const Target& target, DType type, IrValue (*step)(KernelBuilder& b, IrValue sum, IrValue factor)) {
  constexpr int kSums = 12;
  constexpr int64_t kTrips = 1 << 20;
  const int lanes = target.Lanes(32);
  KernelSpec kernel;
  kernel.family = "peak";
  kernel.num_args = 1;
  kernel.emit = [=](KernelBuilder& b) {
    const IrValue factor = b.Load(b.arg(0), b.I64(0), type, lanes);
    const IrValues sums =
        b.For("trip", b.begin(), b.end(), 1, IrValues(kSums, factor), [&](IrValue, const IrValues& sum) {
          IrValues next;
          for (IrValue value : sum) next.push_back(step(b, value, factor));
          return next;
        });
    for (int k = 0; k < kSums; ++k) b.Store(b.arg(0), b.I64(k * lanes), type, sums[k]);
  };
  const StatusOr<KernelRunner> run = KernelRunner::Make(kernel, target);
  TES_CHECK(run.ok(), run.status());
  std::vector<float> data(kSums * lanes, 0.5f);
  double best = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {
    const double start = Seconds();
    (*run)({data.data()}, 0, kTrips);
    best = std::max(best, kSums * lanes * kTrips / (Seconds() - start));
  }
  return best;
}

}  // namespace

double MeasurePeakFlops(const Target& target) {
  return 2 * MeasureSteps(target, DType::kF32,
                          [](KernelBuilder& b, IrValue sum, IrValue factor) { return b.Fma(sum, factor, factor); });
}

double MeasurePeakInt8(const Target& target) {
  if (target.has_vnni) {
    return 8 * MeasureSteps(target, DType::kI32, [](KernelBuilder& b, IrValue sum, IrValue factor) {
             return EmitDotBytes(b, sum, factor, factor);
           });
  }
  return 4 * MeasureSteps(target, DType::kI32, [](KernelBuilder& b, IrValue sum, IrValue factor) {
           return EmitDotPairs(b, sum, factor, factor);
         });
}

}  // namespace tessera
