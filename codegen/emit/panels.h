// Panels: the order in which a contraction's second operand is packed, so that a kernel reads it front to back.
//
//   B[depth, columns]  ->  [matrix][panel][unit of depth][part][width] words       column = panel * width + position
//
// A word is an element of f32 or f64, or 32 bits that hold a unit of narrower elements (dot.h): those of one column,
// with zeros where the depth has ended or the column does not exist.
//
//   u8 x i8, width 32:   b[0..3][0] b[0..3][1] … b[0..3][31]   b[4..7][0] …
//
// Constants are packed while planning; an operand that is only known when the program runs is packed by a step of its
// own where its words do not lie ready. Pure functions. Tested by matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_PANELS_H_
#define TESSERA_CODEGEN_EMIT_PANELS_H_

#include <cstdint>
#include <functional>

#include "codegen/emit/dot.h"
#include "codegen/plan.h"
#include "tesa/tensor.h"

namespace tessera {

// One matrix after the other: element (depth k, column n) of matrix m is at m * matrix_step + k * depth_step + n *
// column_step.
struct PanelSource {
  DType type = DType::kF32;
  int64_t matrices = 1, depth = 1, columns = 1;
  int64_t matrix_step = 0, depth_step = 0, column_step = 1;
  // How elements make words. `run`: depth elements after which units start anew, because A's lie together only so far
  // (0: all).
  Dot dot = {};
  int64_t run = 0;

  int64_t units() const { return run == 0 ? dot.units(depth) : depth / run * dot.units(run); }
};

int64_t PackedWords(const PanelSource& source, int64_t width);  // of all matrices
int64_t PackedBytes(const PanelSource& source, int64_t width);

// `tensor` holds the source's elements; the result holds words of source.dot.word().
Tensor PackPanels(const Tensor& tensor, const PanelSource& source, int64_t width);

// A step that packs while the program runs; args: from, to (PackedBytes). depth_step or column_step must be 1, and the
// run whole. Positions of the last panel that have no column hold anything.
PlanStep PlanPackPanels(const PanelSource& source, int64_t width, StepArg from, StepArg to, const Target& target);
// The same for one panel of the only matrix, within a kernel whose argument 0 is the source; `to` points at its words.
void EmitPackPanel(KernelBuilder& b, const PanelSource& source, int64_t width, IrValue panel, IrValue to);
double PackPanelsMicroseconds(const PanelSource& source, const Target& target);

// The loop over the tasks of a step that packs into panels `panel_depth` vectors of `width` words deep. A task is one
// vector of columns of one panel of one matrix: `body` gets the matrix, the vector among all of its columns, and the
// word where its first vector lies.
void ForEachPanelVector(KernelBuilder& b, const PanelSource& source, int64_t panel_depth, int64_t width, int lanes,
                        const std::function<void(IrValue matrix, IrValue vector, IrValue to)>& body);
// The vectors of columns of one panel: `body` gets the vector among all of its matrix, and the word of the panel where
// its first vector lies.
void ForEachVectorOfPanel(KernelBuilder& b, const PanelSource& source, int64_t width, int lanes, IrValue panel,
                          const std::function<void(IrValue vector, IrValue to)>& body);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_PANELS_H_
