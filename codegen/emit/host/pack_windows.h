// Windows: what a convolution's taps see of an image with channels first, as panels that a sparse product reads.
//
//   panels[image][pixel / 16][tap * channels + channel][16] = x[image][channel][y][x]      y = oy * stride - pad + ky
//                                                                                         zero outside the image
//
// Pixels are those of the result, row after row; 16 of them may run over the ends of rows. For each tap a panel is made
// of pieces, one for each row of the result that it touches: runs of the image's row, or every second pixel of one,
// under a mask that is the same for all channels. Tested by planes_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_PACK_WINDOWS_H_
#define TESSERA_CODEGEN_EMIT_HOST_PACK_WINDOWS_H_

#include "codegen/emit/conv_geometry.h"
#include "codegen/plan.h"

namespace tessera {

// Elements of all panels.
int64_t WindowElements(const ConvGeometry& geometry);
// A step that packs; args: the image, whose planes lie `pitch` elements apart, and the panels. f32.
PlanStep PlanPackWindows(const ConvGeometry& geometry, int64_t pitch, StepArg from, StepArg to);
double PackWindowsMicroseconds(const ConvGeometry& geometry, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_PACK_WINDOWS_H_
