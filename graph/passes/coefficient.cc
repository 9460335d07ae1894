#include "graph/passes/coefficient.h"

#include <cmath>
#include <utility>

namespace tessera {
namespace {

// One number where all values are the same.
Coefficient Simplest(Coefficient c) {
  const bool same = !c.values.empty() && std::all_of(c.values.begin(), c.values.end(),
                                                     [&](double v) { return v == c.values[0] && !std::isnan(v); });
  return same ? Number(c.values[0]) : c;
}

template <typename Operation>
std::optional<Coefficient> Combine(const Coefficient& a, const Coefficient& b, Operation op) {
  if (a.is_number() && b.is_number()) return Number(op(a.number, b.number));
  const std::optional<Shape> shape = BroadcastShapes(a.shape, b.shape);
  if (!shape || shape->num_elements() > Coefficient::kMaxElements) return std::nullopt;
  Coefficient c = {.number = 0, .shape = *shape, .values = {}};
  const auto at = [&](const Coefficient& x, const std::vector<int64_t>& index) {
    if (x.is_number()) return x.number;
    int64_t position = 0;
    for (int d = 0; d < x.shape.rank(); ++d) {
      const int64_t i = x.shape[d] == 1 ? 0 : index[index.size() - static_cast<size_t>(x.shape.rank() - d)];
      position = position * x.shape[d] + i;
    }
    return x.values[static_cast<size_t>(position)];
  };
  ForEachIndex(*shape, [&](const std::vector<int64_t>& index) { c.values.push_back(op(at(a, index), at(b, index))); });
  return Simplest(std::move(c));
}

}  // namespace

bool Coefficient::is_normal() const {
  return all([](double v) { return v == 0 || (std::abs(v) > 1e-30 && std::abs(v) < 1e30); });
}

Tensor Coefficient::ToTensor() const {
  if (is_number()) return Tensor::Full(DType::kF32, Shape(), number);
  Tensor tensor(DType::kF32, shape);
  for (size_t k = 0; k < values.size(); ++k) tensor.Set(static_cast<int64_t>(k), values[k]);
  return tensor;
}

Coefficient Number(double value) { return {.number = value, .shape = Shape(), .values = {}}; }

Coefficient CoefficientOf(const Tensor& tensor) {
  Coefficient c = {.number = 0, .shape = tensor.shape(), .values = {}};
  for (int64_t k = 0; k < tensor.num_elements(); ++k) c.values.push_back(tensor.Get(k));
  return Simplest(std::move(c));
}

std::optional<Coefficient> Sum(const Coefficient& a, const Coefficient& b) {
  return Combine(a, b, [](double x, double y) { return x + y; });
}
std::optional<Coefficient> Product(const Coefficient& a, const Coefficient& b) {
  return Combine(a, b, [](double x, double y) { return x * y; });
}
std::optional<Coefficient> Quotient(const Coefficient& a, const Coefficient& b) {
  return Combine(a, b, [](double x, double y) { return x / y; });
}

}  // namespace tessera
