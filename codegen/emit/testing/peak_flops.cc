#include "codegen/emit/testing/peak_flops.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/testing/kernel_runner.h"

namespace tessera {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

// Twelve independent sums, which hide a latency of up to six cycles. Operands whose units come apart into several parts
// (dot.h) are taken apart before the loop.
double MeasurePeakFlops(const Target& target, const Dot& dot) {
  constexpr int kSums = 12;
  constexpr int64_t kTrips = 1 << 20;
  const int lanes = target.Lanes(TypeInfo(dot.sum()).bits);
  KernelSpec kernel;
  kernel.family = "peak";
  kernel.num_args = 1;
  kernel.emit = [lanes, dot](KernelBuilder& b) {
    const IrValues factor(dot.parts(), b.Load(b.arg(0), b.I64(0), dot.word(), lanes));
    const IrValues first(kSums, b.Load(b.arg(0), b.I64(0), dot.sum(), lanes));
    const IrValues sums = b.For("trip", b.begin(), b.end(), 1, first, [&](IrValue, const IrValues& sum) {
      IrValues next;
      for (IrValue value : sum) next.push_back(EmitDot(b, dot, factor, factor, value));
      return next;
    });
    for (int k = 0; k < kSums; ++k) b.Store(b.arg(0), b.I64(int64_t{k} * lanes), dot.sum(), sums[k]);
  };
  const StatusOr<KernelRunner> run = KernelRunner::Make(kernel, target);
  TES_CHECK(run.ok(), run.status());
  std::vector<float> data(kSums * 16, 0.5f);
  double best = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {
    const double start = Seconds();
    (*run)({data.data()}, 0, kTrips);
    best = std::max(best, 2.0 * kSums * lanes * dot.unit() * kTrips / (Seconds() - start));
  }
  return best;
}

double MeasurePeakInt8(const Target& target) {
  std::string why;
  return MeasurePeakFlops(target, *Dot::Choose(target, DType::kU8, DType::kI8, &why));
}

}  // namespace tessera
