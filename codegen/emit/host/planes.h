// Planes of images with channels first: gaps between them, and bands of rows that lie apart.
//
//   [N, C, H, W]:  element (n, c, y, x) at (n * C + c) * pitch + y * W + x
//
// A product of scattered weights with an image (planes_conv.cc) loads 16 neighbouring pixels of many channels, one line
// of the cache each. Where planes are no whole number of lines, three of four such loads touch two lines; where they
// are a multiple of many lines, all channels share a few sets of the first-level cache. A pitch that is an odd number
// of lines has neither fault. Measured, 512x512 weights, 10 % kept, 14x14 pixels, the product alone on a Zen 4 (us):
// panels packed for it 106, planes 13 lines apart 109, planes of 196 elements without gaps 171; 64x32, 112x112 pixels,
// results stored: 785 lines apart 70, 784 apart 163.
//
// Several threads share an image by rows. Were a plane one piece, the rows of one thread would lie between those of
// another, plane after plane, and each would lose lines to what the other core fetches ahead. So rows fall into as many
// *bands* as there are threads, each with its part of all planes:
//
//   two bands of [1, 3, 4, W]:   c0 y0 y1 | c1 y0 y1 | c2 y0 y1 || c0 y2 y3 | c1 y2 y3 | c2 y2 y3
//                                the first thread's             the second one's
//
// What is read of the other's are the rows at the border, by filters. Measured with a loop that reads a row above and
// one below and then adds up planes, 128 planes of 36 lines, two cores (us): one core alone computing its half 11, both
// 32 without bands, 18 with them, 12 were there no rows to fetch.
//
// What lies between planes holds anything; whoever reads it must not let it reach a result. Tested by planes_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_PLANES_H_
#define TESSERA_CODEGEN_EMIT_HOST_PLANES_H_

#include <cstdint>
#include <span>

#include "codegen/emit/kernel_builder.h"
#include "codegen/emitter.h"
#include "codegen/plan.h"

namespace tessera {

// The least odd number of cache lines that holds `elements` f32, in elements.
int64_t PaddedPitch(int64_t elements);

// Says how every f32 image with channels first lies that only ways with `padded_planes` make and read. choices[n] is
// how node n of the builder's graph is computed. Before any value has a place.
void ChoosePlaneLayouts(std::span<const Choice> choices, PlanBuilder& builder);

// What bands add to the number of an element: i64, of pixel `pixel` of a plane; nullptr where there are none.
IrValue EmitBandOffset(KernelBuilder& b, const PlaneLayout& layout, IrValue pixel);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_PLANES_H_
