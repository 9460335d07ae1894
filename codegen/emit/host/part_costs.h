// What the parts of a sparse product cost on this kind of machine, for covers: measured once, written down as a table.
//
//   const CoverCosts& costs = CoverCostsFor(SparseUnit::kF32, target);
//   costs.scattered_ns == 0.29;                               // a kept element and a panel of 16 columns, AVX-512
//
// The numbers are of one core with everything in its caches. Between machines they differ far more than their ratios,
// which alone decide how a matrix is cut; the time of a whole plan comes from its parts' own estimates (sparse_parts.h,
// sparse_tiles.h). Values only. Tested by tests/conformance/pattern_test.cc (what is chosen by them).
#ifndef TESSERA_CODEGEN_EMIT_HOST_PART_COSTS_H_
#define TESSERA_CODEGEN_EMIT_HOST_PART_COSTS_H_

#include "codegen/cover.h"
#include "codegen/emit/scattered_stream.h"
#include "codegen/target.h"

namespace tessera {

const CoverCosts& CoverCostsFor(SparseUnit unit, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_PART_COSTS_H_
