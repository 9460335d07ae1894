#include "codegen/emit/testing/benchmark_target.h"

#include <cstdlib>

namespace tessera {

const Target& BenchmarkTarget() {
  static const Target& target = []() -> const Target& {
    const char* name = std::getenv("TESSERA_TARGET");
    const StatusOr<Target> made = MakeTarget(name != nullptr ? name : "host");
    TES_CHECK(made.ok(), made.status());
    return *new Target(*made);
  }();
  return target;
}

}  // namespace tessera
