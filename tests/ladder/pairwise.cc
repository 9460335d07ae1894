#include "tests/ladder/pairwise.h"

#include <cstddef>

namespace tessera {
namespace {

// Which pairs of levels no row has yet.
class OpenPairs {
 public:
  explicit OpenPairs(const std::vector<int>& levels) : levels_(levels) {
    for (size_t a = 0; a < levels.size(); ++a) {
      for (size_t b = a + 1; b < levels.size(); ++b) left_ += levels[a] * levels[b];
    }
    open_.assign(levels.size() * levels.size(), {});
    for (size_t a = 0; a < levels.size(); ++a) {
      for (size_t b = 0; b < levels.size(); ++b) {
        open_[a * levels.size() + b].assign(static_cast<size_t>(levels[a] * levels[b]), true);
      }
    }
  }

  int left() const { return left_; }
  // For a < b as for b < a.
  bool Has(size_t a, int level_a, size_t b, int level_b) const {
    return a < b ? open_[a * levels_.size() + b][At(level_a, b, level_b)] : Has(b, level_b, a, level_a);
  }
  // Pairs that `level` of `factor` would close with the levels of `row` that are chosen, not -1.
  int Closes(const std::vector<int>& row, size_t factor, int level) const {
    int count = 0;
    for (size_t other = 0; other < row.size(); ++other) {
      if (other != factor && row[other] >= 0 && Has(factor, level, other, row[other])) ++count;
    }
    return count;
  }
  // Chooses the first open pair of the first factors that have one.
  void PutFirst(std::vector<int>& row) const {
    for (size_t a = 0; a < levels_.size(); ++a) {
      for (size_t b = a + 1; b < levels_.size(); ++b) {
        const std::vector<bool>& pairs = open_[a * levels_.size() + b];
        for (size_t at = 0; at < pairs.size(); ++at) {
          if (!pairs[at]) continue;
          row[a] = static_cast<int>(at) / levels_[b], row[b] = static_cast<int>(at) % levels_[b];
          return;
        }
      }
    }
  }
  void Close(const std::vector<int>& row) {
    for (size_t a = 0; a < row.size(); ++a) {
      for (size_t b = a + 1; b < row.size(); ++b) {
        std::vector<bool>& pairs = open_[a * levels_.size() + b];
        const size_t at = At(row[a], b, row[b]);
        if (pairs[at]) --left_;
        pairs[at] = false;
      }
    }
  }

 private:
  size_t At(int level_a, size_t b, int level_b) const { return static_cast<size_t>(level_a * levels_[b] + level_b); }

  const std::vector<int>& levels_;
  std::vector<std::vector<bool>> open_;
  int left_ = 0;
};

}  // namespace

std::vector<std::vector<int>> PairwiseCover(const std::vector<int>& levels) {
  OpenPairs open(levels);
  std::vector<std::vector<int>> used(levels.size());
  for (size_t f = 0; f < levels.size(); ++f) used[f].assign(static_cast<size_t>(levels[f]), 0);
  std::vector<std::vector<int>> rows;
  while (rows.empty() || open.left() > 0) {
    std::vector<int> row(levels.size(), -1);
    // Any pair that is still open, then level by level what closes most, and of equals what was used least.
    open.PutFirst(row);
    for (size_t f = 0; f < levels.size(); ++f) {
      if (row[f] >= 0) continue;
      int best = 0;
      for (int level = 1; level < levels[f]; ++level) {
        const int gain = open.Closes(row, f, level) - open.Closes(row, f, best);
        if (gain > 0 || (gain == 0 && used[f][level] < used[f][best])) best = level;
      }
      row[f] = best;
    }
    for (size_t f = 0; f < levels.size(); ++f) ++used[f][static_cast<size_t>(row[f])];
    open.Close(row);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace tessera
