// StreamSteps: an epilogue as steps that a stream does on its sums before they leave the registers.
//
//   relu(sum + bias[row]) + residual[row][column]
//   ->  sum += operand 0 (a row's)      the sums' first value, in fact: a broadcast instead of a zero
//       sum = max(sum, 0)
//       sum += operand 1 (16 elements)
//
// Of bodies in which every operation takes the value so far and something else: an operand of the epilogue or a
// constant. Others (a hard swish reads its value twice) go through memory. Pure functions. Tested by
// planes_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_STREAM_FINISH_H_
#define TESSERA_CODEGEN_EMIT_HOST_STREAM_FINISH_H_

#include <optional>
#include <vector>

#include "codegen/emit/epilogue.h"
#include "codegen/emit/scattered_stream.h"

namespace tessera {

// Of an epilogue from f32 to f32 over planes × pixels (see epilogue.h), `channels` planes an image; nullopt where it is
// no such chain or has more operands than steps can name. Operand k of a step is operand k of the epilogue.
std::optional<std::vector<StreamStep>> StreamSteps(const TileEpilogue& epilogue, int64_t channels);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_STREAM_FINISH_H_
