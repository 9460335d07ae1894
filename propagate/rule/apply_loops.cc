// The nest of loops of a ClauseWalk:
//
//   for each class of the result's axes          Mark: facts of these variables are tested at once
//     exists a combination that reaches it       Exists: ends at the first point
//       exists a class of what is left
//
// Each loop has the steps that its variables complete: an offset from a table is added, and where it was the last one
// of a test, the byte there decides. Tested by apply_test.cc.
#include <algorithm>
#include <utility>

#include "propagate/rule/apply_walk_state.h"

namespace tessera {

using apply_internal::Cluster;
using apply_internal::Level;
using apply_internal::Table;
using apply_internal::Test;

// Result first; then the combinations behind its classes; then what is left, the longest strides outside.
void ClauseWalk::State::MakeLevels() {
  levels.clear();
  std::vector<int> bound(extents.size(), -1);  // the level
  const auto bind = [&](Level& level) {
    for (const int v : level.binds) {
      if (bound[v] < 0) bound[v] = static_cast<int>(levels.size());
    }
  };
  const auto push = [&](Level level) {
    bind(level);
    levels.push_back(std::move(level));
  };
  push(Level{.kind = Level::kVariable});  // tests without variables
  for (size_t v = 0; v < clause.extents.size(); ++v) {
    if (counts[v] == 1) bound[v] = 0;
  }
  for (size_t c = 0; c < clusters.size(); ++c) {
    Level level{.kind = Level::kResult, .cluster = static_cast<int>(c)};
    if (clusters[c].simple) level.binds = clusters[c].variables;
    push(std::move(level));
  }
  result_levels = static_cast<int>(levels.size());
  for (size_t c = 0; c < clusters.size(); ++c) {
    if (clusters[c].simple) continue;
    push(Level{.kind = Level::kCombos, .cluster = static_cast<int>(c), .binds = clusters[c].variables});
  }
  std::vector<std::pair<int64_t, int>> rest;  // (-stride, variable)
  for (int v = 0; v < static_cast<int>(clause.extents.size()); ++v) {
    if (bound[v] >= 0) continue;
    int64_t stride = 0;
    for (const Test& test : tests) {
      for (const Table& table : test.tables) {
        for (size_t k = 0; k < table.variables.size(); ++k) {
          if (table.variables[k] != v) continue;
          for (size_t e = table.strides[k]; e < table.offsets.size(); e += table.strides[k]) {
            if (table.offsets[e] >= 0 && table.offsets[e - table.strides[k]] >= 0) {
              stride = std::max(stride, std::abs(table.offsets[e] - table.offsets[e - table.strides[k]]));
            }
          }
        }
      }
    }
    rest.push_back({-stride, v});
  }
  std::sort(rest.begin(), rest.end());
  for (const auto& [stride, v] : rest) push(Level{.kind = Level::kVariable, .binds = {v}});
  // Each table is used at the level that binds its last variable.
  for (int t = 0; t < static_cast<int>(tests.size()); ++t) {
    std::vector<std::pair<int, const Table*>> at;
    for (const Table& table : tests[t].tables) {
      int level = 0;
      for (const int v : table.variables) level = std::max(level, bound[v]);
      at.push_back({level, &table});
    }
    std::stable_sort(at.begin(), at.end(), [](auto& a, auto& b) { return a.first < b.first; });
    static const Table kScalar{{}, {}, {0}};
    if (at.empty()) at.push_back({0, &kScalar});
    for (size_t k = 0; k < at.size(); ++k) {
      Level::Step step{.test = t, .table = at[k].second};
      if (k > 0) {
        step.same = at[k - 1].first == at[k].first;
        step.source = at[k - 1].first;
      }
      step.completes = k + 1 == at.size();
      for (size_t i = 0; i < step.table->variables.size(); ++i) {
        const int v = step.table->variables[i];
        const bool here = bound[v] == at[k].first && counts[v] > 1;
        (here ? step.inner : step.outer).push_back({v, step.table->strides[i]});
      }
      levels[at[k].first].steps.push_back(std::move(step));
    }
  }
  for (int l = 0; l < static_cast<int>(clause.links.size()); ++l) {
    const Link& link = clause.links[l];
    levels[std::max(bound[link.from], bound[link.to])].links.push_back({link.from, link.to, l});
  }
}

// What of a level's offsets is already settled by the loops around it.
void ClauseWalk::State::Enter(Level& level) {
  for (Level::Step& step : level.steps) {
    step.base = 0;
    for (const auto& [v, stride] : step.outer) step.base += now[v] * stride;
    step.prior = step.same || step.source < 0 ? 0 : partial[step.source][step.test];
  }
}

bool ClauseWalk::State::Linked(const Level& level) const {
  for (const Level::LinkCheck& check : level.links) {
    const std::vector<int32_t>& met = meetings[check.link][now[check.from]];
    if (!std::binary_search(met.begin(), met.end(), now[check.to])) return false;
  }
  return true;
}

// The tests that the level's variables, now bound, advance or complete.
bool ClauseWalk::State::Pass(Level& level, int depth) {
  ++visited;
  std::vector<int64_t>& mine = partial[depth];
  for (const Level::Step& step : level.steps) {
    int64_t entry = step.base;
    for (const auto& [v, stride] : step.inner) entry += now[v] * stride;
    const int64_t offset = (step.same ? mine[step.test] : step.prior) + step.table->offsets[entry];
    if (offset < 0) return false;
    if (step.completes) {
      const Test& test = tests[step.test];
      if ((test.bytes[offset] == test.key) != test.want) return false;
    } else {
      mine[step.test] = offset;
    }
  }
  return level.links.empty() || Linked(level);
}

void ClauseWalk::State::Mark(int depth, int64_t offset) {
  if (depth == result_levels) {
    flags[offset] = Exists(depth);
    return;
  }
  Level& level = levels[depth];
  Enter(level);
  if (depth == 0) {
    if (Pass(level, depth)) Mark(1, offset);
    return;
  }
  const Cluster& cluster = clusters[level.cluster];
  const bool last = depth + 1 == static_cast<int>(levels.size());
  for (size_t c = 0; c < cluster.combos.size(); ++c) {
    const std::vector<int32_t>& combos = cluster.combos[c];
    if (combos.empty()) continue;
    for (size_t i = 0; i < level.binds.size(); ++i) now[level.binds[i]] = combos[i];
    if (!Pass(level, depth)) continue;
    if (last) {
      flags[offset + cluster.offsets[c]] = 1;
    } else {
      inside[level.cluster] = c;
      Mark(depth + 1, offset + cluster.offsets[c]);
    }
  }
}

// Is there a point for what is bound so far?
bool ClauseWalk::State::Exists(int depth) {
  if (depth == static_cast<int>(levels.size())) return true;
  Level& level = levels[depth];
  Enter(level);
  if (level.kind == Level::kCombos) {
    const std::vector<int32_t>& combos = clusters[level.cluster].combos[inside[level.cluster]];
    const size_t width = level.binds.size();
    for (size_t at = 0; at < combos.size(); at += width) {
      for (size_t i = 0; i < width; ++i) now[level.binds[i]] = combos[at + i];
      if (Pass(level, depth) && Exists(depth + 1)) return true;
    }
    return false;
  }
  const int v = level.binds[0];
  const bool last = depth + 1 == static_cast<int>(levels.size());
  if (last && level.links.empty() && level.steps.size() == 1 && level.steps[0].inner.size() == 1) {
    const Level::Step& step = level.steps[0];  // where nearly all the time goes
    const Test& test = tests[step.test];
    const int64_t* offsets = step.table->offsets.data() + step.base;
    const int64_t stride = step.inner[0].second;
    for (int64_t k = 0; k < counts[v]; ++k) {
      const int64_t offset = step.prior + offsets[k * stride];
      if (offset < 0 || (test.bytes[offset] == test.key) != test.want) continue;
      visited += k + 1;
      return true;
    }
    visited += counts[v];
    return false;
  }
  // A link from a variable that is bound lists the classes that are worth a look.
  const std::vector<int32_t>* listed = nullptr;
  for (const Level::LinkCheck& check : level.links) {
    if (check.to == v) listed = &meetings[check.link][now[check.from]];
  }
  const int64_t count = listed != nullptr ? static_cast<int64_t>(listed->size()) : counts[v];
  for (int64_t k = 0; k < count; ++k) {
    now[v] = listed != nullptr ? (*listed)[k] : static_cast<int32_t>(k);
    if (Pass(level, depth) && (last || Exists(depth + 1))) return true;
  }
  return false;
}

}  // namespace tessera
