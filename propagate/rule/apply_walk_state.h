// What a ClauseWalk is made of: the facts it meets, their tables of offsets by classes, the result's clusters, the nest
// of loops. Built in apply_walk.cc and apply_tables.cc, run in apply_loops.cc. Tested by apply_test.cc.
#ifndef TESSERA_PROPAGATE_RULE_APPLY_WALK_STATE_H_
#define TESSERA_PROPAGATE_RULE_APPLY_WALK_STATE_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "propagate/rule/apply_walk.h"

namespace tessera {
namespace apply_internal {

inline constexpr int64_t kOut = -(int64_t{1} << 50);  // an offset that stays negative whatever is added

// Offsets into what an access meets, by the classes of some variables.
struct Table {
  std::vector<int> variables;
  std::vector<int64_t> strides;  // of `offsets`, per variable
  std::vector<int64_t> offsets;
};

// One fact that points have to pass: the byte at the sum of the tables' offsets is `key`, or (want = false) is not.
// Out of range does not pass: a point does not exist there, an absent element annihilates.
struct Test {
  const uint8_t* bytes = nullptr;
  uint8_t key = 1;
  bool want = true;
  std::vector<Table> tables;
};

// What was handed to Need or Stop, under the view of its access.
struct Met {
  RuleAccess access;  // an annihilator's own variables numbered behind all others
  Cells<uint8_t> held;
  const CellGrid* grid = nullptr;
  const uint8_t* bytes = nullptr;
  uint8_t key = 1;
  bool want = true;
  bool uniform = false;  // only its borders matter
  bool any = false;
  std::vector<int> own;
  std::vector<IndexFunction> axes;
};

// Axes of the result that share variables, and which classes of these variables reach which of its classes.
struct Cluster {
  std::vector<int> axes;
  std::vector<int> variables;
  std::vector<int64_t> offsets;              // of each class, into the result's cells
  std::vector<std::vector<int32_t>> combos;  // of each class: classes of the variables, one after the other
  bool simple = true;                        // at most one combination each
};

// A loop: over the classes of a result's cluster, over the combinations that reach one, or over a variable's classes.
struct Level {
  enum Kind { kResult, kCombos, kVariable } kind = kVariable;
  int cluster = -1;
  std::vector<int> binds;
  struct Step {
    int test = 0;
    const Table* table = nullptr;
    std::vector<std::pair<int, int64_t>> outer, inner;  // variables bound before, bound here; strides
    int source = -1;    // the level at which the test's offset was last changed; -1: none
    bool same = false;  // an earlier step of this level changes it
    bool completes = false;
    int64_t base = 0, prior = 0;  // set on entry
  };
  std::vector<Step> steps;
  struct LinkCheck {
    int from = 0, to = 0, link = 0;
  };
  std::vector<LinkCheck> links;
};

}  // namespace apply_internal

struct ClauseWalk::State {
  using Met = apply_internal::Met;
  using Test = apply_internal::Test;
  using Table = apply_internal::Table;
  using Cluster = apply_internal::Cluster;
  using Level = apply_internal::Level;

  const Clause& clause;
  std::span<const LookupValues* const> lookups;
  std::vector<Met> met;
  std::vector<std::unique_ptr<Cells<uint8_t>>> fixed;
  std::vector<int64_t> extents;  // of the clause, then of annihilators
  bool no_points = false;
  int64_t visited = 0;

  // While walking.
  std::vector<Test> tests;
  std::vector<std::vector<uint8_t>> reduced;
  std::vector<Cluster> clusters;
  std::vector<Level> levels;
  std::vector<std::vector<std::vector<int32_t>>> meetings;  // by link
  std::vector<int64_t> counts;                              // classes of variables
  std::vector<int32_t> now;                                 // classes of variables at this moment
  std::vector<size_t> inside;                               // of clusters: the class of the result at this moment
  std::vector<std::vector<int64_t>> partial;                // offsets by level and test
  std::vector<uint8_t> flags;
  int result_levels = 0;

  State(const Clause& clause, std::span<const LookupValues* const> lookups)
      : clause(clause), lookups(lookups), extents(clause.extents) {
    for (const int64_t extent : extents) no_points = no_points || extent == 0;
  }

  void Add(Met met, const Cells<uint8_t>& facts, uint8_t key);
  std::vector<IndexFunction> Functions(const RuleAccess& access) const;
  bool AlwaysInside(const Met& met) const;
  void MakeTest(Met& met, const VariableClasses& classes);
  void ReduceOwn(const Met& met, Test& test);
  void MakeClusters(const RuleAccess& result, const std::vector<IndexFunction>& axes, const VariableClasses& classes,
                    CellGrid& grid);
  void FillCluster(Cluster& cluster, const RuleAccess& result, const std::vector<IndexFunction>& axes,
                   const VariableClasses& classes, CellGrid& grid);
  void MakeLevels();
  void Enter(Level& level);
  bool Pass(Level& level, int depth);
  bool Linked(const Level& level) const;
  void Mark(int depth, int64_t offset);
  bool Exists(int depth);
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_RULE_APPLY_WALK_STATE_H_
