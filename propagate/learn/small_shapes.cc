#include "propagate/learn/small_shapes.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

namespace tessera {
namespace {

// Extents up to this are structure (kernels, heads of two): they stay in the first instance.
constexpr int64_t kStructure = 4;
// Outputs keep so many indices where they have them: with fewer, a stride looks like another.
constexpr int64_t kTelling = 4;
// More axes of one size than this are tried alone, all together and all but one only.
constexpr size_t kMaxSubsets = 10;
// The size of the n-th extent that changes, in the first instance; where a window needs more, more.
constexpr int64_t kFirst[] = {5, 6, 7, 8, 9, 10, 11, 12};
constexpr int64_t kMore[] = {0, 3, 7, 12};
// What is added for the second. No two extents have the same pair of sizes, nor, as far as possible, this difference.
constexpr int64_t kDifferences[] = {1, 2, -1, 3, 4, -2, 5, 6, -3, 7};
// Where those make the instance larger than this, all become smaller.
constexpr int64_t kMaxElements = 6000;
constexpr int64_t kFirstSmaller[] = {4, 3, 5, 3, 2, 2, 3, 2};

using Types = std::vector<std::optional<TensorType>>;

void Set(Types& types, const Tie& tie, int64_t extent) {
  for (const auto& [input, axis] : tie) types[input]->shape[axis] = extent;
}

int64_t LargestOf(const BlackBox& box) {
  int64_t largest = 0;
  for (const auto& type : box.inputs) {
    if (type) largest = std::max(largest, type->shape.num_elements());
  }
  for (const TensorType& type : box.outputs) largest = std::max(largest, type.shape.num_elements());
  return largest;
}

// Same types and ranks of all outputs, and none empty.
bool IsLike(const BlackBox& box, const BlackBox& real) {
  if (box.outputs.size() != real.outputs.size()) return false;
  for (size_t t = 0; t < box.outputs.size(); ++t) {
    if (box.outputs[t].dtype != real.outputs[t].dtype || box.outputs[t].shape.num_elements() == 0 ||
        box.outputs[t].shape.rank() != real.outputs[t].shape.rank()) {
      return false;
    }
    for (int d = 0; d < box.outputs[t].shape.rank(); ++d) {
      if (real.outputs[t].shape[d] > 1 && box.outputs[t].shape[d] < 2) return false;
      if (real.outputs[t].shape[d] == 1 && box.outputs[t].shape[d] != 1) return false;
    }
  }
  return true;
}

// The subsets of 0 … count-1, smallest first.
std::vector<std::vector<size_t>> Subsets(size_t count) {
  std::vector<std::vector<size_t>> subsets;
  if (count > kMaxSubsets) {
    std::vector<size_t> all;
    for (size_t n = 0; n < count; ++n) {
      subsets.push_back({n});
      all.push_back(n);
    }
    for (size_t n = 0; n < count; ++n) {
      std::vector<size_t> but = all;
      but.erase(but.begin() + static_cast<std::ptrdiff_t>(n));
      subsets.push_back(std::move(but));
    }
    subsets.push_back(std::move(all));
    return subsets;
  }
  for (unsigned mask = 1; mask < (1u << count); ++mask) {
    std::vector<size_t> subset;
    for (size_t n = 0; n < count; ++n) {
      if (mask >> n & 1) subset.push_back(n);
    }
    subsets.push_back(std::move(subset));
  }
  std::stable_sort(subsets.begin(), subsets.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
  return subsets;
}

// Sets the ties of `types` to sizes chosen by `size_of(tie)`, as far as the op allows, one by one.
class Shrinker {
 public:
  Shrinker(const BlackBox& box, bool smaller) : box_(box), smaller_(smaller), first_(box.inputs), second_(box.inputs) {}

  StatusOr<SmallShapes> Shrink() {
    std::map<int64_t, Tie> by_extent;
    for (size_t k = 0; k < box_.inputs.size(); ++k) {
      for (int d = 0; box_.inputs[k] && d < box_.inputs[k]->shape.rank(); ++d) {
        if (box_.inputs[k]->shape[d] > 1) by_extent[box_.inputs[k]->shape[d]].push_back({static_cast<int>(k), d});
      }
    }
    for (auto& [extent, axes] : by_extent) ShrinkAxes(extent, axes);
    if (result_.ties.empty()) return Error(ErrorCode::kRuleNotLearned, box_.name, ": no extent can change");
    ASSIGN_OR_RETURN(result_.first, box_.resized(first_));
    ASSIGN_OR_RETURN(result_.second, box_.resized(second_));
    return std::move(result_);
  }

 private:
  // Both instances exist and tell: an extent of an output that is small differs between them.
  bool Exist(const Types& a, const Types& b) const {
    const StatusOr<BlackBox> first = box_.resized(a);
    if (!first.ok() || !IsLike(*first, box_)) return false;
    const StatusOr<BlackBox> second = box_.resized(b);
    if (!second.ok() || !IsLike(*second, box_)) return false;
    for (size_t t = 0; t < box_.outputs.size(); ++t) {
      for (int d = 0; d < box_.outputs[t].shape.rank(); ++d) {
        const int64_t small = first->outputs[t].shape[d], other = second->outputs[t].shape[d];
        const int64_t real = box_.outputs[t].shape[d];
        if (small != real && small == other) return false;
        if (std::min(small, other) < std::min(real, kTelling)) return false;
      }
    }
    return true;
  }

  void ShrinkAxes(int64_t extent, Tie axes) {
    while (!axes.empty()) {
      bool changed = false;
      for (const std::vector<size_t>& subset : Subsets(axes.size())) {
        Tie tie;
        for (size_t n : subset) tie.push_back(axes[n]);
        if (!TryTie(extent, tie)) continue;
        for (auto n = subset.rbegin(); n != subset.rend(); ++n)
          axes.erase(axes.begin() + static_cast<std::ptrdiff_t>(*n));
        changed = true;
        break;
      }
      if (!changed) return;
    }
  }

  bool TryTie(int64_t extent, const Tie& tie) {
    const size_t number = result_.ties.size() % std::size(kFirst);
    std::vector<std::pair<int64_t, int64_t>> sizes;
    const auto add = [&](int64_t first) {
      // Small and fresh differences first, then fresh pairs, then what is left.
      for (const auto& [small, fresh] : {std::pair(true, true), {true, false}, {false, true}, {false, false}}) {
        for (int64_t difference : kDifferences) {
          if (used_pairs_.count({first, first + difference}) != 0 || (std::abs(difference) <= 3) != small) continue;
          if ((used_differences_.count(difference) == 0) == fresh) sizes.push_back({first, first + difference});
        }
      }
    };
    if (extent <= kStructure) {
      add(extent);
    } else {
      for (int64_t more : kMore) add((smaller_ ? kFirstSmaller : kFirst)[number] + more);
      if (extent % 2 == 0) sizes.push_back({4, 8});
      if (extent < 40) sizes.push_back({extent, extent + 1});
    }
    for (const auto& [first, second] : sizes) {
      if (first < 2 || second < 2) continue;
      Types a = first_, b = second_;
      Set(a, tie, first);
      Set(b, tie, second);
      if (!Exist(a, b)) continue;
      first_ = std::move(a);
      second_ = std::move(b);
      result_.ties.push_back(tie);
      used_pairs_.insert({first, second});
      used_differences_.insert(second - first);
      return true;
    }
    return false;
  }

  const BlackBox& box_;
  const bool smaller_;
  Types first_, second_;
  std::set<std::pair<int64_t, int64_t>> used_pairs_;
  std::set<int64_t> used_differences_;
  SmallShapes result_;
};

}  // namespace

StatusOr<SmallShapes> FindSmallShapes(const BlackBox& box) {
  if (!box.resized) return Error(ErrorCode::kRuleNotLearned, box.name, ": exists at these shapes only");
  ASSIGN_OR_RETURN(SmallShapes shapes, Shrinker(box, false).Shrink());
  if (LargestOf(shapes.first) <= kMaxElements) return shapes;
  StatusOr<SmallShapes> smaller = Shrinker(box, true).Shrink();
  return smaller.ok() ? std::move(smaller) : StatusOr<SmallShapes>(std::move(shapes));
}

StatusOr<BlackBox> Resized(const BlackBox& box, const std::vector<Tie>& ties, const std::vector<int64_t>& extents) {
  Types types = box.inputs;
  for (size_t n = 0; n < ties.size(); ++n) Set(types, ties[n], extents[n]);
  return box.resized(types);
}

}  // namespace tessera
