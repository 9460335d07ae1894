// What the axes of a Stage mean to its accesses, and fewer of them: neighbouring axes that every access walks together
// become one, so that an element-wise chain over [2,3,4] is one axis of 24. Pure functions on data; Index in a body
// keeps its axis. Tested by stage_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_STAGE_AXES_H_
#define TESSERA_CODEGEN_EMIT_STAGE_AXES_H_

#include <cstdint>

#include "graph/compute.h"

namespace tessera {

// The factor of `axis` in an index expression; 0 when it does not occur.
int64_t CoefficientOf(const IndexExpr& expr, int axis);
// Elements by which the flat position moves when `axis` advances by one; reads of indices are left out.
int64_t StrideAlong(const Access& access, int axis);

// The same stage with neighbouring axes merged wherever all accesses allow it and unit axes dropped. Bodies that use
// Index keep their axes.
Stage CollapseAxes(const Stage& stage);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_STAGE_AXES_H_
