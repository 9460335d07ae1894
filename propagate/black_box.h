// BlackBox: an op of which nothing is known but that it can be run: a callable, shapes and types. Tensor scrambling
// learns its rule from this alone; it reaches neither compute descriptions nor the algebra.
//
//   BlackBox roll{.name = "roll", .inputs = {{DType::kF32, {7}}}, .outputs = {{DType::kF32, {7}}},
//                 .run = [](const BlackBox& self, std::span<const RefTensor* const> in, std::span<RefTensor> out) {…},
//                 .resized = [](const BlackBox& self, std::span<const TensorType> inputs) -> StatusOr<BlackBox> {…}};
//
// The callable must be a function of its arguments. Thread-safety is that of the callable. Tested by scramble_test.cc.
#ifndef TESSERA_PROPAGATE_BLACK_BOX_H_
#define TESSERA_PROPAGATE_BLACK_BOX_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/compute.h"
#include "tesa/types.h"

namespace tessera {

struct BlackBox {
  std::string name;  // with its parameters: the key under which what was learned is kept; empty: not kept
  std::vector<std::optional<TensorType>> inputs;  // nullopt: an optional operand that is absent
  std::vector<TensorType> outputs;
  // Fills outputs, which are sized and typed. Absent inputs are nullptr.
  std::function<void(std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs)> run;
  // The same op on inputs of other shapes (same types, same operands absent), or an error when it has none there.
  // Empty: the op exists only at these shapes.
  std::function<StatusOr<BlackBox>(std::span<const std::optional<TensorType>> inputs)> resized;
};

// A C function as a black box: `in` and `out` point to dense row-major doubles (integers and bool too, as doubles),
// one pointer per operand, NULL where absent; `context` is passed through. Returns 0, or else is a fault.
using BlackBoxFunction = int (*)(void* context, const double* const* in, double* const* out);
BlackBox MakeBlackBox(std::string name, std::vector<TensorType> inputs, std::vector<TensorType> outputs,
                      BlackBoxFunction function, void* context);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_BLACK_BOX_H_
