// floats: a network in another float type, or without its quantisation. The parts of QuantizeGraph that measure
// nothing.
//
//   RETURN_IF_ERROR(CastFloats(graph, DType::kBF16));       // inputs and outputs stay f32 and are cast
//   RETURN_IF_ERROR(RemoveQuantization(graph));             // dequantize(quantize(x)) -> x; integer weights become f32
//
// Tested by quantize_test.cc.
#ifndef TESSERA_MODELS_QUANTIZE_FLOATS_H_
#define TESSERA_MODELS_QUANTIZE_FLOATS_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

// Every f32 value but graph inputs and outputs is stored as `to`; constants are rounded, pruned elements stay declared.
// TES-1104 where the network holds quantised values.
Status CastFloats(Graph& graph, DType to);

// Values lose the rounding of a quantize that only dequantize reads, and of integer constants what the rounding to f32
// of (integer - zero_point) * scale is. Other integers stay.
Status RemoveQuantization(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_MODELS_QUANTIZE_FLOATS_H_
