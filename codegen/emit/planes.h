// Padded planes: images with channels first whose planes lie some elements further apart than they are long.
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
// What lies between planes holds anything; whoever reads it must not let it reach a result. Tested by planes_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_PLANES_H_
#define TESSERA_CODEGEN_EMIT_PLANES_H_

#include <cstdint>
#include <span>

#include "codegen/emitter.h"
#include "codegen/plan.h"

namespace tessera {

// The least odd number of cache lines that holds `elements` f32, in elements.
int64_t PaddedPitch(int64_t elements);

// Gives a pitch to every f32 image with channels first that only ways with `padded_planes` make and read. choices[n] is
// how node n of the builder's graph is computed. Before any value has a place.
void ChoosePitches(std::span<const Choice> choices, PlanBuilder& builder);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_PLANES_H_
