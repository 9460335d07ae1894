// VariableClasses: the values of a clause's variables, sorted into classes that are alike to all that the clause meets.
// How, and when that is exact: apply_walk.h. Internal to ClauseWalk. Tested by apply_test.cc.
#ifndef TESSERA_PROPAGATE_RULE_APPLY_CLASSES_H_
#define TESSERA_PROPAGATE_RULE_APPLY_CLASSES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "propagate/rule/rule.h"
#include "tesa/known.h"
#include "tesa/partition.h"

namespace tessera {

// The values of an integer operand by element, kNotKnown where unknown.
struct LookupValues {
  static constexpr int64_t kNotKnown = INT64_MIN;
  std::vector<int64_t> values;
  static LookupValues Of(const Known& known);
};

// The index along one axis as a function of the values of variables.
class IndexFunction {
 public:
  static constexpr int64_t kOutside = -1;  // out of range
  static constexpr int64_t kAny = -2;      // an unknown value is looked up: every index of the axis

  // The arguments outlive it.
  IndexFunction(const RuleIndex& index, int64_t extent, std::span<const Lookup> lookups,
                std::span<const LookupValues* const> values);

  // Those that it depends on, ascending.
  const std::vector<int>& variables() const { return variables_; }
  int64_t extent() const { return extent_; }
  // `at` by number of variable.
  int64_t operator()(std::span<const int64_t> at) const;
  // In range at all values below `extents`; false when that takes a look at each.
  bool AlwaysInside(std::span<const int64_t> extents) const;

 private:
  int64_t Affine(const RuleIndex& index, std::span<const int64_t> at) const;

  const RuleIndex& index_;
  int64_t extent_;
  const Lookup* lookup_ = nullptr;
  const LookupValues* values_ = nullptr;
  std::vector<int64_t> lookup_strides_;
  std::vector<int> variables_;
};

// Calls `visit` with `at` set to each combination of values of `variables`, which are below their `extents`.
template <typename Visit>
void ForEachValue(std::span<const int> variables, std::span<const int64_t> extents, std::vector<int64_t>& at,
                  Visit visit) {
  for (const int v : variables) {
    if (extents[v] == 0) return;
    at[v] = 0;
  }
  while (true) {
    visit();
    size_t d = variables.size();
    while (d > 0 && ++at[variables[d - 1]] == extents[variables[d - 1]]) at[variables[--d]] = 0;
    if (d == 0) return;
  }
}

class VariableClasses {
 public:
  // `own` of these variables, the last ones, are annihilators' own.
  VariableClasses(std::vector<int64_t> extents, int own);

  // These values stay apart.
  void KeepApart(int variable) { apart_[variable] = true; }
  // What is met along an axis: `classes` of its indices. All axes are added before Sort.
  void Meet(const IndexFunction& index, const Partition& classes) { met_.push_back({&index, &classes}); }
  // Variables that the result's axes depend on; with links these may have to stay apart.
  void Sort(std::span<const Link> links, std::span<const int> result_variables);

  int64_t count(int variable) const { return count_[variable]; }
  int64_t class_of(int variable, int64_t value) const { return label_[variable][value]; }
  // The first member of a class.
  int64_t first(int variable, int64_t number) const { return first_[variable][number]; }
  // For each class of link.from the classes of link.to that it meets, ascending.
  std::vector<std::vector<int32_t>> Meetings(const Link& link) const;

 private:
  struct Met {
    const IndexFunction* index;
    const Partition* classes;
  };
  int Largest(const IndexFunction& index) const;
  void SortBy(const Met& met);
  void SortByLinks(std::span<const Link> links);
  bool Refine(int variable, std::span<const int64_t> keys, int64_t num_keys);
  bool Refine(int variable, const std::vector<std::vector<int32_t>>& keys);

  std::vector<int64_t> extents_;
  int clause_variables_;
  std::vector<bool> apart_;
  std::vector<Met> met_;
  std::vector<std::vector<int32_t>> label_;
  std::vector<int64_t> count_;
  std::vector<std::vector<int64_t>> first_;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_RULE_APPLY_CLASSES_H_
