// fold: what the dropped steps of a sum added, as a constant for those that stay.
//
//   %y = conv(%x, %w)  loses channels {3, 9} of %x, which are 0.5 and 2 everywhere: each element of %y lacks
//   0.5 * (the sum of w[oc, 3, taps inside]) + 2 * (…): one number per channel, but fewer taps are inside at borders
//
// The op is applied, by its exact rule, to the dropped parts of its operands alone, all of which are known or do not
// matter; the classes of that result say along which axes the constant varies. Pure. Private to shrink/. Tested by
// shrink_test.cc.
#ifndef TESSERA_PROPAGATE_SHRINK_FOLD_H_
#define TESSERA_PROPAGATE_SHRINK_FOLD_H_

#include <optional>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "propagate/propagate.h"
#include "propagate/shrink/kept.h"
#include "propagate/shrink/rebuild.h"

namespace tessera {

// What `node` of `graph` loses with the steps that steps.kept leaves out: a tensor of the op's element type that
// broadcasts to the op's smaller result, extents of 1 where it does not vary. nullopt: nothing (zero everywhere).
StatusOr<std::optional<Tensor>> DroppedPart(const Graph& graph, const Facts& facts, const Node& node,
                                            const NodeLists& lists, const Steps& steps);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_SHRINK_FOLD_H_
