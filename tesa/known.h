// Known: what is certain of a tensor's elements before the network runs. It flows forward, from constants and declared
// masks to outputs.
//
//   unknown > constant(c) > zero      for each element, plus one value range for the tensor
//
// A zero is a constant whose value is 0; it is told apart because it annihilates what it is multiplied with. `kind` is
// stored by cells; the values of constant cells are stored by the same cells, or, for a tensor whose data the graph
// holds, read from there, so that a weight of a million different values with ten dead rows is two cells. What is known
// is a fact about every run; whether a result needs an element is another matter (needed.h), and what the user's model
// declares a third (attribute.h). Values only; thread-compatible. Tested by known_test.cc.
#ifndef TESSERA_TESA_KNOWN_H_
#define TESSERA_TESA_KNOWN_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tesa/attribute.h"
#include "tesa/cells.h"
#include "tesa/tensor.h"
#include "tesa/types.h"

namespace tessera {

enum class Certainty : uint8_t { kZero = 0, kConstant = 1, kUnknown = 2 };

// All elements lie within [low, high]; unbounded by default. Never NaN.
struct Interval {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  friend bool operator==(const Interval&, const Interval&) = default;
};

struct Known {
  TensorType type;
  Cells<uint8_t> kind;  // Certainty
  // The values of cells of kind kConstant, on the grid of `kind` (others: 0). Not used when `data` is there.
  std::vector<double> values;
  std::optional<Tensor> data;  // the tensor itself, wholly known; shares its bytes
  Interval range;

  // Nothing is known; the range is that of the type for integers and bool.
  static Known Unknown(const TensorType& type);
  // A tensor that the graph holds. `declared` says which elements are pruned; these and exact zeros are kZero.
  static Known OfConstant(const Tensor& tensor, const Attribute* declared = nullptr);
  // kinds and values of each element, row-major (Certainty; values where kConstant). Integers beyond 2^53 in magnitude
  // cannot be told exactly in double: make them kUnknown.
  static Known FromElements(const TensorType& type, std::span<const uint8_t> kinds, std::span<const double> values);

  const Shape& shape() const { return type.shape; }
  Certainty at(std::span<const int64_t> index) const { return static_cast<Certainty>(kind.at(index)); }
  // Of an element that is not kUnknown: by index, or by row-major number.
  double ValueAt(std::span<const int64_t> index) const;
  // Every element is known.
  bool all_known() const;
  // No element is.
  bool nothing_known() const { return kind.IsUniform(static_cast<uint8_t>(Certainty::kUnknown)); }
  int64_t CountOf(Certainty c) const { return kind.Count(static_cast<uint8_t>(c)); }
  // 1 where the element is known to equal `value` (0 or 1), by cells that are as coarse as can be.
  Cells<uint8_t> EqualTo(double value) const;
  // The same fact on cells fine enough to tell constants of different value apart, `data` taken in.
  Known WithValues() const;
  int64_t byte_size() const;
  // "unknown", "zero", "constant 3", "unknown with zero rows {3, 7}", …: one line for people.
  std::string ToString() const;

  // The same kinds, values and range, however stored.
  friend bool operator==(const Known& a, const Known& b);
};

bool operator==(const Known& a, const Known& b);
// What holds when both hold: an element known to either is known. Contradictory constants are a fault of the caller
// that the result reports as nullopt.
std::optional<Known> Meet(const Known& a, const Known& b);

}  // namespace tessera

#endif  // TESSERA_TESA_KNOWN_H_
