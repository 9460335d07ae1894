// Writes a Body (graph/body.h) as LLVM IR, for scalars or vectors alike.
//
// Operands may mix scalars and vectors of one width: what does not vary over the lanes stays scalar until it meets a
// vector, so that per-row work is done once per row. Meanings are those of scalar_ops.def; integer division by a zero
// lane, oversized shifts and NaN in min and max are handled here, in one place for every emitter.
// Tested by body_emitter_test.cc, which compares every scalar op with Body::Evaluate.
#ifndef TESSERA_CODEGEN_EMIT_BODY_EMITTER_H_
#define TESSERA_CODEGEN_EMIT_BODY_EMITTER_H_

#include <functional>
#include <span>

#include "codegen/emit/kernel_builder.h"
#include "graph/body.h"
#include "graph/compute.h"

namespace tessera {

// The value of `body` for `inputs` (scalars or vectors, in compute types). `index(axis)` gives the i64 position on an
// axis, scalar or vector; nullptr when the body uses none.
IrValue EmitBody(KernelBuilder& b, const Body& body, std::span<const IrValue> inputs,
                 const std::function<IrValue(int axis)>& index = nullptr);

// a ⊕ b for a combiner, on values of `type`.
IrValue EmitJoin(KernelBuilder& b, Combiner combiner, DType type, IrValue x, IrValue y);
// The combiner's identity as a scalar (lanes 1) or vector.
IrValue EmitIdentity(KernelBuilder& b, Combiner combiner, DType type, int lanes);
// Joins the lanes of a vector into a scalar, by halves.
IrValue EmitHorizontal(KernelBuilder& b, Combiner combiner, DType type, IrValue vector);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_BODY_EMITTER_H_
