// Places for values that are parts or other names of other values, chosen before any node is planned.
//
//   y = conv(x); z = concat(y, w) along the outermost dimension; out = reshape(z)
//
// conv writes its result straight into the first part of z's place, which is the output's: nothing is copied.
// Tested by view_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_VIEW_H_
#define TESSERA_CODEGEN_EMIT_VIEW_H_

#include <span>

#include "codegen/emitter.h"
#include "codegen/plan.h"

namespace tessera {

// choices[n] is the choice for node n of the builder's graph. Only nodes of the view emitter are looked at.
void ChoosePlaces(std::span<const Choice> choices, PlanBuilder& builder);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_VIEW_H_
