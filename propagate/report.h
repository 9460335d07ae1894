// report: what propagation did to each tensor, for people and programs: the attribute before and after, the pattern
// found, and for pruned slices why.
//
//   PropagationReport report = MakeReport(graph, facts, book);
//   report.values[3].slices[0].why;    // "%h[*,5] is dead: matmul 'fc2' reads it only through %w2[5,*] …"
//
// Data only; tools print it (tools/inspect_propagate.h). Pure. Tested by report_test.cc.
#ifndef TESSERA_PROPAGATE_REPORT_H_
#define TESSERA_PROPAGATE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "propagate/bits/bits.h"
#include "propagate/propagate.h"
#include "propagate/rule_book.h"
#include "tesa/attribute.h"
#include "tesa/pattern.h"

namespace tessera {

// Indices of one axis whose whole slices are pruned for the same reason.
struct SliceReport {
  int axis = 0;
  std::vector<int64_t> indices;  // ascending
  std::string why;               // the chain for the first of them, a cause per line; empty where it was not asked for
};

struct ValueReport {
  ValueId value = ValueId::kNone;
  // Declared (of the type's width where nothing was), and after propagation: pruned is zero, dead or folded.
  Attribute before, after;
  PatternFit pattern_before, pattern_after;
  // Elements that are zero; known constants other than zero; dead. An element may be known and dead.
  int64_t zero = 0, constant = 0, dead = 0;
  // Widths: what its values need, what its readers read, and at which it may be stored. All 0 where a declared width
  // contradicts a constant (PropagateBits says which).
  ValueBits bits;
  std::vector<SliceReport> slices;
};

struct PropagationReport {
  std::vector<ValueReport> values;  // by ValueId
  // Of the graph's constants: elements, and what is kept of them.
  int64_t elements = 0, kept_before = 0, kept_after = 0;
};

struct ReportOptions {
  // How many different chains are worked out for each axis of each tensor; the other slices stand without.
  int max_chains = 16;
};

PropagationReport MakeReport(const Graph& graph, const Facts& facts, RuleBook& book, const ReportOptions& options = {});

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_REPORT_H_
