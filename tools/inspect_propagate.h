// What `inspect --stage=propagate` prints: per tensor the attribute before and after propagation, the pattern found,
// and for pruned slices the chain of rules that pruned them; and the rules themselves. As a table, JSON, or one HTML
// page with pictures of the masks that needs nothing else. Tested by inspect_test.py.
#ifndef TESSERA_TOOLS_INSPECT_PROPAGATE_H_
#define TESSERA_TOOLS_INSPECT_PROPAGATE_H_

#include <string>
#include <vector>

#include "graph/graph.h"
#include "propagate/propagate.h"
#include "propagate/report.h"
#include "propagate/rule_book.h"
#include "tools/common/table.h"

namespace tessera {

struct PropagationPage {
  std::string title;  // the model
  const Graph& graph;
  const Facts& facts;
  const PropagationReport& report;
  std::vector<RuleBook::Entry> rules;
  double seconds = 0;  // that propagation took, learning rules included
};

// `kTable` and `kMarkdown` for people: tensors about which there is something to say, then why. `kCsv`, `kJson`,
// `kJsonLines`: all tensors; JSON with slices, chains and rules.
std::string PrintPropagation(const PropagationPage& page, TableForm form);
std::string PropagationHtml(const PropagationPage& page);

}  // namespace tessera

#endif  // TESSERA_TOOLS_INSPECT_PROPAGATE_H_
