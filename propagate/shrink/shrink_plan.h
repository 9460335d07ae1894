// shrink_plan: what a graph will look like when it is cut, decided before anything is changed.
//
//   ASSIGN_OR_RETURN(ShrinkPlan plan, PlanShrink(graph, facts, needed));
//   plan.becomes[Index(h)] == ShrinkPlan::Becomes::kConstant;       // every element of %h is known
//   plan.kept.of[Index(x)][1];                                      // the channels of %x that stay
//   plan.added[3];                                                  // what node 3 lacks and gets added
//
// Each node that is cut was made anew and compared with the old one loop by loop (rebuild.h); what does not pass keeps
// its operands and results whole, and the plan is made again without it. Private to shrink/. Tested by
// shrink_test.cc.
#ifndef TESSERA_PROPAGATE_SHRINK_SHRINK_PLAN_H_
#define TESSERA_PROPAGATE_SHRINK_SHRINK_PLAN_H_

#include <cstdint>
#include <map>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "propagate/propagate.h"
#include "propagate/shrink/kept.h"
#include "tesa/needed.h"

namespace tessera {

struct ShrinkPlan {
  // What a computed value turns into.
  enum class Becomes : uint8_t {
    kItself,
    kConstant,  // known or dead throughout, and read by a node that stays
    kNothing,   // known or dead throughout, and nobody is left to read it
  };
  std::vector<Becomes> becomes;      // by value; inputs, constants and graph outputs: kItself
  std::vector<bool> stays;           // by node
  KeptAxes kept;                     // by value
  std::map<size_t, Attrs> attrs;     // of nodes that read or make something that is cut
  std::map<size_t, Tensor> added;    // by node: added to the op's result, before the epilogue
  std::vector<size_t> frozen_nodes;  // nodes that could not be made smaller though facts allowed it
};

StatusOr<ShrinkPlan> PlanShrink(const Graph& graph, const Facts& facts, const std::vector<Needed>& needed);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_SHRINK_SHRINK_PLAN_H_
