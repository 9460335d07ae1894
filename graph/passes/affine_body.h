// affine_body: a body rewritten so that scales and shifts by constants are done once (requantize.h says what and why).
//
//   AffineBody affine = MakeAffine(body, inputs, DType::kU8, /*exact=*/true, /*keep_first=*/true);
//   affine.body;                    // over the operands that are left and new constants
//   affine.operands;                // which: positions of old operands, or constants to be made
//
// Works on f32 values only; everything else is kept as it is. Pure functions. Tested by requantize_test.cc.
#ifndef TESSERA_GRAPH_PASSES_AFFINE_BODY_H_
#define TESSERA_GRAPH_PASSES_AFFINE_BODY_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "graph/body.h"
#include "tesa/tensor.h"
#include "tesa/types.h"

namespace tessera {

// What input k of a body is.
struct AffineInput {
  DType dtype = DType::kF32;     // as stored
  const Tensor* data = nullptr;  // of a constant; nullptr: computed
};

// Input k of the new body.
struct AffineOperand {
  int old = -1;     // the old input, or -1:
  Tensor constant;  // a new f32 constant
};

struct AffineBody {
  Body body;  // num_inputs == operands.size()
  std::vector<AffineOperand> operands;
};

// The same function of `inputs`, whose results are stored as `stored`: an integer result is narrowed to it, so that
// code which clamps and then narrows is seen as such. `exact`: each f32 operation is followed by a rounding to f32.
// With `keep_first`, input 0 stays input 0 (an epilogue's own result), read or not.
AffineBody MakeAffine(const Body& body, std::span<const AffineInput> inputs, DType stored, bool exact, bool keep_first);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_AFFINE_BODY_H_
