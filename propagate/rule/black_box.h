// BlackBox: an op of which nothing is known but that it can be run: a callable, shapes and types. Tensor scrambling
// learns its rule from this alone; it reaches neither compute descriptions nor the algebra.
//
//   BlackBox roll{.name = "roll", .inputs = {{DType::kF32, {7}}}, .outputs = {{DType::kF32, {7}}},
//                 .run = [](std::span<const RefTensor* const> in, std::span<RefTensor> out) {…},
//                 .resized = [](std::span<const std::optional<TensorType>> inputs) -> StatusOr<BlackBox> {…}};
//
// The callable must be a function of its arguments, and total: any values of the types may be asked for, unless
// integer_ranges says which. Thread-safety is that of the callable. Tested by black_box_test.cc.
#ifndef TESSERA_PROPAGATE_RULE_BLACK_BOX_H_
#define TESSERA_PROPAGATE_RULE_BLACK_BOX_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
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
  // Optional, by input: what integer operands may hold, [first, second). Without it indices are drawn from 0 up to the
  // largest extent of any operand, and other integers from all that the type has.
  std::vector<std::optional<std::pair<int64_t, int64_t>>> integer_ranges;
};

// A C function as a black box: `in` and `out` point to dense row-major doubles (integers and bool too, as doubles),
// one pointer per operand, NULL where absent; `context` is passed through and must outlive the box. A return other than
// 0 is a fault of the callable and ends the process. The box exists only at these shapes.
using BlackBoxFunction = int (*)(void* context, const double* const* in, double* const* out);
BlackBox MakeBlackBox(std::string name, std::vector<TensorType> inputs, std::vector<TensorType> outputs,
                      BlackBoxFunction function, void* context);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_RULE_BLACK_BOX_H_
