// Panels: the order in which a contraction's second operand is packed, so that a kernel reads it front to back.
//
//   B[depth, columns]  ->  [matrix][panel][depth][width]        column = panel * width + position, zero where there is
//   none
//
// Constants are packed while planning; an operand that is only known when the program runs, and whose columns are not
// consecutive in memory (attention's keys), is packed by a step of its own. Pure functions. Tested by matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_PANELS_H_
#define TESSERA_CODEGEN_EMIT_PANELS_H_

#include <cstdint>

#include "codegen/plan.h"
#include "tesa/tensor.h"

namespace tessera {

// One matrix after the other: element (depth k, column n) of matrix m is at m * matrix_step + k * depth_step + n *
// column_step.
struct PanelSource {
  DType type = DType::kF32;
  int64_t matrices = 1, depth = 1, columns = 1;
  int64_t matrix_step = 0, depth_step = 0, column_step = 1;
};

int64_t PackedElements(const PanelSource& source, int64_t width);  // of all matrices

// f32 or f64.
Tensor PackPanels(const Tensor& tensor, const PanelSource& source, int64_t width);

// A step that packs while the program runs; args: from, to (PackedElements of `source.type`). depth_step or column_step
// must be 1. Positions of the last panel that have no column hold anything.
PlanStep PlanPackPanels(const PanelSource& source, int64_t width, StepArg from, StepArg to, const Target& target);
double PackPanelsMicroseconds(const PanelSource& source, const Target& target);

// Panels of units: 32-bit lanes that hold `elements` consecutive depths of a u8 operand each, 4 as they are or 2
// widened to 16 bits; zeros beyond the depth.
//
//   B[depth, columns], u8  ->  [matrix][panel][ceil(depth / elements)][width] lanes
//
// For products that take several elements a lane: u8 times i8 by vpdpbusd (4) or by vpmaddwd (2).
int64_t PackedUnits(const PanelSource& source, int elements, int64_t width);  // lanes of all matrices
PlanStep PlanPackUnits(const PanelSource& source, int elements, int64_t width, StepArg from, StepArg to,
                       const Target& target);
double PackUnitsMicroseconds(const PanelSource& source, int elements, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_PANELS_H_
