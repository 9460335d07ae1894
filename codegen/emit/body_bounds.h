// Bounds of a body's values, whatever its inputs are: what clamping, rounding and constants say about them.
//
//   (a: f32) { t1 = max(a, 0:f32); t2 = min(t1, 255:f32); t3 = round_even(t2); return cast:i32(t3) }
//              [0, inf]            [0, 255]               [0, 255]             a number that i32 holds: one instruction
//
// A float may be NaN in spite of its bounds. Pure. Tested by body_emitter_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_BODY_BOUNDS_H_
#define TESSERA_CODEGEN_EMIT_BODY_BOUNDS_H_

#include <limits>
#include <vector>

#include "graph/body.h"

namespace tessera {

struct ValueBounds {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
};

// Of the value of each instruction of f32.
std::vector<ValueBounds> BoundsOf(const Body& body);

// Instruction `n` as clamping: what it clamps, and to which constants; `value` is `n` where it clamps nothing.
struct Clamp {
  int value = -1;
  ValueBounds bounds;
};
Clamp ClampAt(const Body& body, int n);

// Is the value of instruction `n` read by nothing but narrowings to integers of at most 16 bits?
bool OnlyLowBitsRead(const Body& body, int n);
// By nothing but narrowings to `storage`?
bool OnlyReadAs(const Body& body, int n, DType storage);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_BODY_BOUNDS_H_
