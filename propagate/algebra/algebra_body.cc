// What annihilates what in a body alone, for tests of it: each input at 0, and at 1 for bool, all others unknown.
#include <optional>

#include "propagate/algebra/algebra.h"
#include "propagate/algebra/partial_body.h"

namespace tessera {

BodyAnnihilators AnnihilatorsOf(const Body& body) {
  BodyAnnihilators result;
  const int count = body.num_inputs;
  result.by_zero.resize(static_cast<size_t>(count));
  result.by_one.resize(static_cast<size_t>(count));
  const InputSet whole = EvaluatePartially(body, std::vector<std::optional<ScalarValue>>(count)).inputs;
  for (int z = 0; z < count; ++z) {
    for (int value = 0; value <= (IsBool(body.input_type(z)) ? 1 : 0); ++value) {
      std::vector<std::optional<ScalarValue>> known(static_cast<size_t>(count));
      known[z] = ScalarValue{.f = static_cast<double>(value), .i = value};
      const InputSet rest = EvaluatePartially(body, known).inputs;
      for (int r = 0; r < count; ++r) {
        if (r == z || !whole.test(r) || rest.test(r)) continue;
        (value == 0 ? result.by_zero : result.by_one)[r].push_back(z);
      }
    }
  }
  return result;
}

}  // namespace tessera
