// coefficient: constants that scale or shift what a body computes: one number, or a tensor that broadcasts.
//
//   Coefficient scales = CoefficientOf(tensor);                    // f32[64,1,1]
//   *Product(scales, Number(0.5));                                 // 64 values; all alike would be one number
//
// In double; rounded to f32 once, when they become constants again. Values only. Tested by requantize_test.cc.
#ifndef TESSERA_GRAPH_PASSES_COEFFICIENT_H_
#define TESSERA_GRAPH_PASSES_COEFFICIENT_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "tesa/tensor.h"
#include "tesa/types.h"

namespace tessera {

struct Coefficient {
  // Larger constants are operands like others: joining them would make new ones of their size.
  static constexpr int64_t kMaxElements = int64_t{1} << 16;

  double number = 0;
  Shape shape;                 // of `values`
  std::vector<double> values;  // empty: the number

  bool is_number() const { return values.empty(); }
  bool is(double value) const { return is_number() && number == value; }
  template <typename Predicate>
  bool all(Predicate holds) const {
    return is_number() ? holds(number) : std::all_of(values.begin(), values.end(), holds);
  }
  // f32 holds it without becoming infinite or losing digits.
  bool is_normal() const;
  Tensor ToTensor() const;  // f32
};

Coefficient Number(double value);
// Of a tensor of at most kMaxElements elements.
Coefficient CoefficientOf(const Tensor& tensor);

// Nothing where the result would be large, or the two do not broadcast.
std::optional<Coefficient> Sum(const Coefficient& a, const Coefficient& b);
std::optional<Coefficient> Product(const Coefficient& a, const Coefficient& b);
std::optional<Coefficient> Quotient(const Coefficient& a, const Coefficient& b);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_COEFFICIENT_H_
