#include "propagate/learn/rule_template.h"

#include <algorithm>
#include <cstdlib>

namespace tessera {
namespace {

// An extent in both witnesses and at the shapes to bind to.
struct Extent {
  int64_t first, second, target;
};

// Carries numbers of the witnesses to the target.
class Binder {
 public:
  Binder(const Rule& first, const Rule& second, const Rule& target) : first_(first), second_(second), target_(target) {}

  // False where an axis is one that the witnesses say nothing of.
  bool CollectExtents() {
    const auto collect = [&](const std::vector<TensorType>& a, const std::vector<TensorType>& b,
                             const std::vector<TensorType>& c, bool inputs) {
      if (a.size() != b.size() || a.size() != c.size()) return false;
      for (size_t k = 0; k < a.size(); ++k) {
        const int rank = a[k].shape.rank();
        if (b[k].shape.rank() != rank || c[k].shape.rank() != rank || a[k].dtype != c[k].dtype) return false;
        for (int d = 0; d < rank; ++d) {
          const Extent e = {a[k].shape[d], b[k].shape[d], c[k].shape[d]};
          // Outputs follow from inputs: where theirs differ, the others do, or Verify says so.
          if (inputs && e.first == e.second && e.target != e.first) return false;
          if (e.first != e.second && e.target < 2) return false;
          if (e.first != e.second) extents_.push_back(e);
          // Extents of one axis in the inputs before this one, for concatenations.
          if (inputs && static_cast<int>(k) > 0 && a[0].shape.rank() == rank) {
            Extent sum = {0, 0, 0};
            for (size_t before = 0; before < k; ++before) {
              if (a[before].shape.rank() != rank) continue;
              sum.first += a[before].shape[d];
              sum.second += b[before].shape[d];
              sum.target += c[before].shape[d];
            }
            if (sum.first != sum.second) sums_.push_back(sum);
          }
        }
      }
      return true;
    };
    return collect(first_.inputs, second_.inputs, target_.inputs, true) &&
           collect(first_.outputs, second_.outputs, target_.outputs, false);
  }

  std::optional<int64_t> Number(int64_t a, int64_t b) const {
    if (a == b) return a;
    // An extent or its negative, a sum before an operand, the same and a constant, a multiple, a part.
    // Witnesses in which one extent is twice another tell nothing: an extent and a multiple would both do.
    for (const Extent& e : extents_) {
      for (const Extent& f : extents_) {
        if (a % e.first != 0 || std::abs(a) != f.first || b % e.second != 0 || std::abs(b) != f.second) continue;
        if (a / e.first == b / e.second && std::abs(e.target * (a / e.first)) != f.target) return std::nullopt;
      }
    }
    for (const auto* list : {&extents_, &sums_}) {
      for (const Extent& e : *list) {
        if (e.first == a && e.second == b) return e.target;
        if (e.first == -a && e.second == -b) return -e.target;
      }
    }
    for (const auto* list : {&extents_, &sums_}) {
      std::optional<int64_t> best;
      int64_t least = 0;
      for (const Extent& e : *list) {
        for (int64_t sign : {1, -1}) {
          const int64_t rest = a - sign * e.first;
          if (rest != b - sign * e.second || (best && std::abs(rest) >= least)) continue;
          best = sign * e.target + rest;
          least = std::abs(rest);
        }
      }
      if (best) return best;
    }
    for (const Extent& e : extents_) {
      if (a % e.first == 0 && b % e.second == 0 && a / e.first == b / e.second) return e.target * (a / e.first);
    }
    for (const Extent& e : extents_) {
      if (a == 0 || b == 0 || e.first % a != 0 || e.second % b != 0 || e.first / a != e.second / b) continue;
      if (e.target % (e.first / a) == 0) return e.target / (e.first / a);
    }
    for (const Extent& e : extents_) {
      for (const Extent& f : extents_) {
        if (e.first * f.first == a && e.second * f.second == b) return e.target * f.target;
      }
    }
    return std::nullopt;
  }

  bool Numbers(const std::vector<int64_t>& a, const std::vector<int64_t>& b, std::vector<int64_t>& to) const {
    if (a.size() != b.size()) return false;
    for (size_t n = 0; n < a.size(); ++n) {
      const std::optional<int64_t> number = Number(a[n], b[n]);
      if (!number) return false;
      to.push_back(*number);
    }
    return true;
  }

  bool Index(const RuleIndex& a, const RuleIndex& b, RuleIndex& to) const {
    const std::optional<int64_t> offset = Number(a.offset, b.offset);
    if (!offset || a.lookup != b.lookup || a.terms.size() != b.terms.size()) return false;
    to.offset = *offset;
    to.lookup = a.lookup;
    for (size_t n = 0; n < a.terms.size(); ++n) {
      const std::optional<int64_t> coefficient = Number(a.terms[n].coefficient, b.terms[n].coefficient);
      if (!coefficient || *coefficient == 0 || a.terms[n].variable != b.terms[n].variable) return false;
      to.terms.push_back({a.terms[n].variable, *coefficient});
    }
    return true;
  }

  bool Access(const RuleAccess& a, const RuleAccess& b, RuleAccess& to) const {
    std::vector<int64_t> view;
    if (a.index.size() != b.index.size() || !Numbers(a.view.dims(), b.view.dims(), view)) return false;
    to.view = Shape(std::move(view));
    to.index.resize(a.index.size());
    for (size_t d = 0; d < a.index.size(); ++d) {
      if (!Index(a.index[d], b.index[d], to.index[d])) return false;
    }
    return true;
  }

  bool BindClause(const Clause& a, const Clause& b, Clause& to) const {
    to.output = a.output;
    to.input = a.input;
    if (b.output != a.output || b.input != a.input || a.unless.size() != b.unless.size() ||
        a.lookups.size() != b.lookups.size() || !a.links.empty() || !b.links.empty()) {
      return false;
    }
    if (!Numbers(a.extents, b.extents, to.extents) || !Access(a.out, b.out, to.out) || !Access(a.in, b.in, to.in)) {
      return false;
    }
    for (size_t n = 0; n < a.unless.size(); ++n) {
      const Annihilator &x = a.unless[n], &y = b.unless[n];
      Annihilator z = {.input = x.input, .value = x.value, .any = x.any, .extents = {}, .at = {}};
      if (x.input != y.input || x.value != y.value || x.any != y.any || !Numbers(x.extents, y.extents, z.extents) ||
          !Access(x.at, y.at, z.at)) {
        return false;
      }
      to.unless.push_back(std::move(z));
    }
    for (size_t n = 0; n < a.lookups.size(); ++n) {
      Lookup z = {.input = a.lookups[n].input, .at = {}};
      if (b.lookups[n].input != z.input || !Access(a.lookups[n].at, b.lookups[n].at, z.at)) return false;
      to.lookups.push_back(std::move(z));
    }
    return true;
  }

 private:
  const Rule &first_, &second_, &target_;
  std::vector<Extent> extents_, sums_;
};

}  // namespace

std::vector<TensorType> InputTypes(const BlackBox& box) {
  std::vector<TensorType> types;
  for (const auto& type : box.inputs) types.push_back(type.value_or(AbsentType()));
  return types;
}

std::optional<Rule> RuleTemplate::Bind(const BlackBox& box) const {
  Rule target = {.name = box.name, .inputs = InputTypes(box), .outputs = box.outputs, .clauses = {}};
  for (const Rule& witness : witnesses) {
    if (witness.inputs == target.inputs && witness.outputs == target.outputs) return witness;
  }
  if (witnesses.size() < 2) return std::nullopt;
  const Rule &first = witnesses[0], &second = witnesses[1];
  Binder binder(first, second, target);
  if (!binder.CollectExtents() || first.clauses.size() != second.clauses.size()) return std::nullopt;
  for (size_t n = 0; n < first.clauses.size(); ++n) {
    Clause clause;
    if (!binder.BindClause(first.clauses[n], second.clauses[n], clause)) return std::nullopt;
    target.clauses.push_back(std::move(clause));
  }
  if (!target.Verify().ok()) return std::nullopt;
  return Canonical(std::move(target));
}

}  // namespace tessera
