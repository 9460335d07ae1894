#include "propagate/rule/apply_classes.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <unordered_map>

namespace tessera {

LookupValues LookupValues::Of(const Known& known) {
  LookupValues result;
  const int64_t count = known.shape().num_elements();
  result.values.assign(count, kNotKnown);
  if (known.nothing_known()) return result;
  const std::vector<uint8_t> kinds = known.kind.Elements();
  std::vector<double> values;
  if (!known.data) values = Cells<double>(known.kind, known.values).Elements();
  for (int64_t k = 0; k < count; ++k) {
    if (kinds[k] == static_cast<uint8_t>(Certainty::kUnknown)) continue;
    const bool zero = kinds[k] == static_cast<uint8_t>(Certainty::kZero);
    result.values[k] = zero ? 0 : static_cast<int64_t>(known.data ? known.data->Get(k) : values[k]);
  }
  return result;
}

IndexFunction::IndexFunction(const RuleIndex& index, int64_t extent, std::span<const Lookup> lookups,
                             std::span<const LookupValues* const> values)
    : index_(index), extent_(extent) {
  std::set<int> variables;
  for (const RuleIndex::Term& term : index.terms) variables.insert(term.variable);
  if (index.lookup >= 0) {
    lookup_ = &lookups[index.lookup];
    values_ = values[index.lookup];
    lookup_strides_ = lookup_->at.view.Strides();
    for (const RuleIndex& inner : lookup_->at.index) {
      for (const RuleIndex::Term& term : inner.terms) variables.insert(term.variable);
    }
  }
  variables_.assign(variables.begin(), variables.end());
}

int64_t IndexFunction::Affine(const RuleIndex& index, std::span<const int64_t> at) const {
  int64_t sum = index.offset;
  for (const RuleIndex::Term& term : index.terms) sum += term.coefficient * at[term.variable];
  return sum;
}

int64_t IndexFunction::operator()(std::span<const int64_t> at) const {
  int64_t sum = Affine(index_, at);
  if (lookup_ != nullptr) {
    int64_t element = 0;
    for (size_t d = 0; d < lookup_->at.index.size(); ++d) {
      const int64_t inner = Affine(lookup_->at.index[d], at);
      if (inner < 0 || inner >= lookup_->at.view[static_cast<int>(d)]) return kOutside;
      element += inner * lookup_strides_[d];
    }
    int64_t value = values_->values[element];
    if (value == LookupValues::kNotKnown) return extent_ > 0 ? kAny : kOutside;
    if (value < 0) value += extent_;
    if (__builtin_add_overflow(sum, value, &sum)) return kOutside;
  }
  return sum >= 0 && sum < extent_ ? sum : kOutside;
}

bool IndexFunction::AlwaysInside(std::span<const int64_t> extents) const {
  if (lookup_ != nullptr) return false;
  int64_t low = index_.offset, high = index_.offset;
  for (const RuleIndex::Term& term : index_.terms) {
    (term.coefficient > 0 ? high : low) += term.coefficient * std::max<int64_t>(extents[term.variable] - 1, 0);
  }
  return low >= 0 && high < extent_;
}

VariableClasses::VariableClasses(std::vector<int64_t> extents, int own)
    : extents_(std::move(extents)),
      clause_variables_(static_cast<int>(extents_.size()) - own),
      apart_(extents_.size()),
      label_(extents_.size()),
      count_(extents_.size()),
      first_(extents_.size()) {}

// The clause's variable of the largest extent, or an annihilator's own where it has none; -1 where there is none at
// all.
int VariableClasses::Largest(const IndexFunction& index) const {
  int largest = -1;
  for (const int v : index.variables()) {
    const auto rank = [&](int w) { return std::pair(w < clause_variables_, extents_[w]); };
    if (largest < 0 || rank(v) > rank(largest)) largest = v;
  }
  return largest;
}

void VariableClasses::Sort(std::span<const Link> links, std::span<const int> result_variables) {
  for (const Met& met : met_) {
    if (met.index->variables().size() < 2) continue;
    const int largest = Largest(*met.index);
    for (const int v : met.index->variables()) {
      if (v != largest) apart_[v] = true;
    }
  }
  // Links in a ring, or between two variables of the result, tell more than which classes meet.
  std::vector<int> root(extents_.size());
  std::iota(root.begin(), root.end(), 0);
  const std::function<int(int)> find = [&](int v) { return root[v] == v ? v : root[v] = find(root[v]); };
  std::set<int> whole;  // roots of those that stay apart
  for (const Link& link : links) {
    const int a = find(link.from), b = find(link.to);
    if (a == b || whole.contains(a) || whole.contains(b)) whole.insert({a, b});
    root[a] = b;
    if (whole.contains(a)) whole.insert(b);
  }
  std::map<int, std::set<int>> in_result;
  for (const int v : result_variables) in_result[find(v)].insert(v);
  for (const Link& link : links) {
    if (!whole.contains(find(link.from)) && in_result[find(link.from)].size() < 2) continue;
    apart_[link.from] = apart_[link.to] = true;
  }
  for (size_t v = 0; v < extents_.size(); ++v) {
    label_[v].assign(extents_[v], 0);
    count_[v] = std::min<int64_t>(extents_[v], 1);
    if (!apart_[v]) continue;
    std::iota(label_[v].begin(), label_[v].end(), 0);
    count_[v] = extents_[v];
  }
  for (const Met& met : met_) SortBy(met);
  SortByLinks(links);
  for (size_t v = 0; v < extents_.size(); ++v) {
    first_[v].assign(count_[v], -1);
    for (int64_t i = extents_[v]; i-- > 0;) first_[v][label_[v][i]] = i;
  }
}

void VariableClasses::SortBy(const Met& met) {
  const IndexFunction& index = *met.index;
  const int variable = Largest(index);
  if (variable < 0 || apart_[variable] || (met.classes->is_whole() && index.AlwaysInside(extents_))) return;
  std::vector<int> others;
  for (const int v : index.variables()) {
    if (v != variable) others.push_back(v);
  }
  const int64_t classes = met.classes->num_classes();
  std::vector<int64_t> at(extents_.size(), 0), keys(extents_[variable]);
  ForEachValue(others, extents_, at, [&] {
    if (count_[variable] == extents_[variable]) return;
    for (int64_t i = 0; i < extents_[variable]; ++i) {
      at[variable] = i;
      const int64_t where = index(at);
      keys[i] = where >= 0 ? (*met.classes)[where] : where == IndexFunction::kOutside ? classes : classes + 1;
    }
    Refine(variable, keys, classes + 2);
  });
}

// Splits the classes of `variable` by the keys of its values; whether that made more of them.
bool VariableClasses::Refine(int variable, std::span<const int64_t> keys, int64_t num_keys) {
  std::vector<int32_t>& label = label_[variable];
  const int64_t before = count_[variable];
  int32_t next = 0;
  if (before * num_keys <= 4 * extents_[variable] + 4096) {
    std::vector<int32_t> number(before * num_keys, -1);
    for (size_t i = 0; i < label.size(); ++i) {
      int32_t& found = number[label[i] * num_keys + keys[i]];
      if (found < 0) found = next++;
      label[i] = found;
    }
  } else {
    std::unordered_map<int64_t, int32_t> number;
    for (size_t i = 0; i < label.size(); ++i) {
      const auto [found, fresh] = number.try_emplace(label[i] * num_keys + keys[i], next);
      next += fresh;
      label[i] = found->second;
    }
  }
  count_[variable] = next;
  return next > before;
}

bool VariableClasses::Refine(int variable, const std::vector<std::vector<int32_t>>& keys) {
  std::map<std::vector<int32_t>, int64_t> number;
  std::vector<int64_t> dense(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    dense[i] = number.try_emplace(keys[i], static_cast<int64_t>(number.size())).first->second;
  }
  return Refine(variable, dense, static_cast<int64_t>(number.size()));
}

void VariableClasses::SortByLinks(std::span<const Link> links) {
  for (bool changed = !links.empty(); changed;) {
    changed = false;
    for (const Link& link : links) {
      std::vector<std::vector<int32_t>> there(extents_[link.from]), back(extents_[link.to]);
      for (size_t x = 0; x < link.runs.size(); ++x) {
        for (const auto& [low, high] : link.runs[x]) {
          for (int64_t y = low; y < high; ++y) {
            const int32_t to = label_[link.to][y], from = label_[link.from][x];
            if (there[x].empty() || there[x].back() != to) there[x].push_back(to);
            if (back[y].empty() || back[y].back() != from) back[y].push_back(from);
          }
        }
      }
      for (auto* lists : {&there, &back}) {
        for (std::vector<int32_t>& list : *lists) {
          std::sort(list.begin(), list.end());
          list.erase(std::unique(list.begin(), list.end()), list.end());
        }
      }
      if (!apart_[link.from]) changed |= Refine(link.from, there);
      if (!apart_[link.to]) changed |= Refine(link.to, back);
    }
  }
}

std::vector<std::vector<int32_t>> VariableClasses::Meetings(const Link& link) const {
  std::vector<std::vector<int32_t>> result(count_[link.from]);
  for (size_t x = 0; x < result.size(); ++x) {
    // One member stands for all: they meet the same classes.
    for (const auto& [low, high] : link.runs[first_[link.from][x]]) {
      for (int64_t y = low; y < high; ++y) {
        const int32_t to = label_[link.to][y];
        if (result[x].empty() || result[x].back() != to) result[x].push_back(to);
      }
    }
    std::sort(result[x].begin(), result[x].end());
    result[x].erase(std::unique(result[x].begin(), result[x].end()), result[x].end());
  }
  return result;
}

}  // namespace tessera
