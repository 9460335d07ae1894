#include "graph/passes/min_cut.h"

#include <algorithm>

namespace tessera {

int MinCut::AddNode() {
  edges_of_.emplace_back();
  return static_cast<int>(edges_of_.size()) - 1;
}

void MinCut::AddEdge(int from, int to, int64_t cost) {
  edges_of_[from].push_back(static_cast<int>(edges_.size()));
  edges_.push_back({to, cost});
  edges_of_[to].push_back(static_cast<int>(edges_.size()));
  edges_.push_back({from, 0});
}

std::vector<int> MinCut::Levels(int source) const {
  std::vector<int> level(edges_of_.size(), -1), reached = {source};
  level[source] = 0;
  for (size_t k = 0; k < reached.size(); ++k) {
    for (int e : edges_of_[reached[k]]) {
      if (edges_[e].left == 0 || level[edges_[e].to] >= 0) continue;
      level[edges_[e].to] = level[reached[k]] + 1;
      reached.push_back(edges_[e].to);
    }
  }
  return level;
}

std::vector<bool> MinCut::Solve(int source, int sink) {
  std::vector<int> level;
  while (level = Levels(source), level[sink] >= 0) {
    std::vector<size_t> next(edges_of_.size(), 0);  // the edges before it are of no more use in this phase
    std::vector<int> path;                          // edges from the source on
    for (int at = source;;) {
      if (at == sink) {
        int64_t amount = kUncuttable;
        for (int e : path) amount = std::min(amount, edges_[e].left);
        for (int e : path) {
          edges_[e].left -= amount;
          edges_[e ^ 1].left += amount;
        }
        path.clear();
        at = source;
        continue;
      }
      bool advanced = false;
      for (; next[at] < edges_of_[at].size() && !advanced; next[at] += advanced ? 0 : 1) {
        const int e = edges_of_[at][next[at]];
        advanced = edges_[e].left > 0 && level[edges_[e].to] == level[at] + 1;
        if (advanced) path.push_back(e);
      }
      if (advanced) {
        at = edges_[path.back()].to;
      } else if (path.empty()) {
        break;
      } else {
        // A dead end: back up, and do not come here again.
        at = edges_[path.back() ^ 1].to;
        path.pop_back();
        ++next[at];
      }
    }
  }
  std::vector<bool> on_source_side(level.size());
  for (size_t n = 0; n < level.size(); ++n) on_source_side[n] = level[n] >= 0;
  return on_source_side;
}

}  // namespace tessera
