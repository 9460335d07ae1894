#include "propagate/rule/black_box.h"

#include <cmath>
#include <utility>

namespace tessera {
namespace {

// A float that a C function wrote for an integer or bool element; what no integer can hold becomes 0.
ScalarValue IntegerOf(double value) {
  if (!(std::fabs(value) < 9.2e18)) return {};
  return {.i = static_cast<int64_t>(value)};
}

}  // namespace

BlackBox MakeBlackBox(std::string name, std::vector<TensorType> inputs, std::vector<TensorType> outputs,
                      BlackBoxFunction function, void* context) {
  BlackBox box = {.name = name, .inputs = {}, .outputs = std::move(outputs)};
  for (TensorType& type : inputs) box.inputs.emplace_back(std::move(type));
  box.run = [name = std::move(name), function, context](std::span<const RefTensor* const> in,
                                                        std::span<RefTensor> out) {
    std::vector<std::vector<double>> widened(in.size());
    std::vector<const double*> from(in.size(), nullptr);
    for (size_t k = 0; k < in.size(); ++k) {
      if (in[k] == nullptr) continue;
      if (!in[k]->is_float()) widened[k].assign(in[k]->i.begin(), in[k]->i.end());
      from[k] = in[k]->is_float() ? in[k]->f.data() : widened[k].data();
    }
    std::vector<std::vector<double>> results(out.size());
    std::vector<double*> to(out.size());
    for (size_t k = 0; k < out.size(); ++k) {
      results[k].resize(out[k].size());
      to[k] = results[k].data();
    }
    const int fault = function(context, from.data(), to.data());
    TES_CHECK(fault == 0, "the function behind '", name, "' returned ", fault);
    for (size_t k = 0; k < out.size(); ++k) {
      if (out[k].is_float()) {
        out[k].f = std::move(results[k]);
      } else {
        for (int64_t n = 0; n < out[k].size(); ++n) out[k].Set(n, IntegerOf(results[k][n]));
      }
    }
  };
  return box;
}

}  // namespace tessera
