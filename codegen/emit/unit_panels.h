// Panels of units: the activations of sparse products, several bytes to a 32-bit lane.
//
//   B[depth, columns], u8  ->  [matrix][panel][ceil(depth / elements)][width] lanes
//
// A lane holds `elements` consecutive depths, 4 as they are or 2 widened to 16 bits; zeros beyond the depth. For
// products that take several elements a lane: u8 times i8 by vpdpbusd (4) or by vpmaddwd (2). Dense products pack their
// constant operand otherwise: panels.h. Pure functions. Tested by sparse_matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_UNIT_PANELS_H_
#define TESSERA_CODEGEN_EMIT_UNIT_PANELS_H_

#include "codegen/emit/panels.h"

namespace tessera {

int64_t PackedUnits(const PanelSource& source, int elements, int64_t width);  // lanes of all matrices
PlanStep PlanPackUnits(const PanelSource& source, int elements, int64_t width, StepArg from, StepArg to,
                       const Target& target);
// The same for one panel of the only matrix, within a kernel whose argument 0 is the source; `to` points at its lanes.
void EmitPackUnitsPanel(KernelBuilder& b, const PanelSource& source, int elements, int64_t width, IrValue panel,
                        IrValue to);
double PackUnitsMicroseconds(const PanelSource& source, int elements, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_UNIT_PANELS_H_
