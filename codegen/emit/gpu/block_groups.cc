#include "codegen/emit/gpu/block_groups.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace tessera {
namespace {

using Bits = std::vector<uint64_t>;

int64_t Count(const Bits& bits) {
  int64_t count = 0;
  for (uint64_t word : bits) count += std::popcount(word);
  return count;
}
int64_t CountOfBoth(const Bits& a, const Bits& b) {
  int64_t count = 0;
  for (size_t k = 0; k < a.size(); ++k) count += std::popcount(a[k] | b[k]);
  return count;
}
void Add(Bits& to, const Bits& from) {
  for (size_t k = 0; k < to.size(); ++k) to[k] |= from[k];
}

// Steps of a group of these rows with row `but` (an index) replaced by `row`.
int64_t StepsWith(const std::vector<Bits>& rows, const std::vector<size_t>& group, size_t but, size_t row) {
  Bits all = rows[row];
  for (size_t k = 0; k < group.size(); ++k) {
    if (k != but) Add(all, rows[group[k]]);
  }
  return Count(all);
}

// Exchanges rows between two groups while that saves steps. Did it?
bool Exchange(const std::vector<Bits>& rows, std::vector<size_t>& a, int64_t& a_steps, std::vector<size_t>& b,
              int64_t& b_steps) {
  bool any = false;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < b.size(); ++j) {
      const int64_t a_then = StepsWith(rows, a, i, b[j]);
      if (a_then >= a_steps + b_steps) continue;
      const int64_t b_then = StepsWith(rows, b, j, a[i]);
      if (a_then + b_then >= a_steps + b_steps) continue;
      std::swap(a[i], b[j]);
      a_steps = a_then, b_steps = b_then, any = true;
    }
  }
  return any;
}

// Above so many rows exchanges take longer than they are worth.
constexpr size_t kMostRowsExchanged = 1024;
constexpr int kMostPasses = 8;

}  // namespace

int64_t BlockGroup::blocks() const {
  int64_t count = 0;
  for (const auto& row : kept) count += std::count(row.begin(), row.end(), true);
  return count;
}

std::vector<BlockGroup> GroupBlocks(const BlockPattern& pattern, int size) {
  std::vector<Bits> rows(static_cast<size_t>(pattern.rows), Bits(static_cast<size_t>(pattern.stages + 63) / 64));
  for (size_t row = 0; row < rows.size(); ++row) {
    for (int64_t s = 0; s < pattern.stages; ++s) {
      if (pattern.Keeps(static_cast<int64_t>(row), s))
        rows[row][static_cast<size_t>(s / 64)] |= uint64_t{1} << (s % 64);
    }
  }
  // The fullest row that is left, and those that add least to it.
  std::vector<size_t> left(rows.size());
  std::iota(left.begin(), left.end(), 0);
  std::stable_sort(left.begin(), left.end(), [&](size_t a, size_t b) { return Count(rows[a]) > Count(rows[b]); });
  std::vector<std::vector<size_t>> members;
  std::vector<int64_t> steps;
  while (!left.empty()) {
    std::vector<size_t> group = {left.front()};
    left.erase(left.begin());
    Bits all = rows[group[0]];
    while (group.size() < static_cast<size_t>(size) && !left.empty()) {
      const auto least = std::min_element(left.begin(), left.end(), [&](size_t a, size_t b) {
        return CountOfBoth(all, rows[a]) - Count(rows[a]) < CountOfBoth(all, rows[b]) - Count(rows[b]);
      });
      Add(all, rows[*least]);
      group.push_back(*least);
      left.erase(least);
    }
    steps.push_back(Count(all));
    members.push_back(std::move(group));
  }
  bool better = rows.size() <= kMostRowsExchanged;
  for (int pass = 0; better && pass < kMostPasses; ++pass) {
    better = false;
    for (size_t a = 0; a < members.size(); ++a) {
      for (size_t b = 0; b < a; ++b) better |= Exchange(rows, members[a], steps[a], members[b], steps[b]);
    }
  }
  std::vector<BlockGroup> groups;
  for (const std::vector<size_t>& group : members) {
    BlockGroup g;
    Bits all(rows.empty() ? 0 : rows[0].size());
    for (size_t row : group) Add(all, rows[row]);
    for (int64_t s = 0; s < pattern.stages; ++s) {
      if (all[static_cast<size_t>(s / 64)] >> (s % 64) & 1) g.steps.push_back(s);
    }
    if (g.steps.empty()) g.steps.push_back(0);
    for (size_t row : group) {
      g.rows.push_back(static_cast<int64_t>(row));
      std::vector<bool> kept;
      for (int64_t s : g.steps) kept.push_back(pattern.Keeps(static_cast<int64_t>(row), s));
      if (std::find(kept.begin(), kept.end(), true) == kept.end()) kept[0] = true;
      g.kept.push_back(std::move(kept));
    }
    groups.push_back(std::move(g));
  }
  std::stable_sort(groups.begin(), groups.end(), [](const BlockGroup& a, const BlockGroup& b) {
    return std::pair(a.steps.size(), a.blocks()) > std::pair(b.steps.size(), b.blocks());
  });
  return groups;
}

std::vector<std::vector<int64_t>> ScheduleTiles(const std::vector<double>& cost, int64_t token_tiles, int64_t units) {
  const int64_t groups = static_cast<int64_t>(cost.size());
  std::vector<std::vector<int64_t>> tiles(static_cast<size_t>(std::min(units, groups * token_tiles)));
  if (tiles.empty()) return tiles;
  std::vector<int64_t> longest_first(cost.size());
  std::iota(longest_first.begin(), longest_first.end(), 0);
  std::stable_sort(longest_first.begin(), longest_first.end(),
                   [&](int64_t a, int64_t b) { return cost[static_cast<size_t>(a)] > cost[static_cast<size_t>(b)]; });
  // As many token tiles at once as the blocks have tiles of at the same time.
  const int64_t strip = std::max<int64_t>(1, (static_cast<int64_t>(tiles.size()) + groups / 2) / groups);
  using Load = std::pair<double, size_t>;
  std::vector<Load> loads;  // a heap, the least first
  for (size_t k = 0; k < tiles.size(); ++k) loads.emplace_back(0, k);
  for (int64_t first = 0; first < token_tiles; first += strip) {
    for (int64_t group : longest_first) {
      for (int64_t token = first; token < std::min(token_tiles, first + strip); ++token) {
        std::pop_heap(loads.begin(), loads.end(), std::greater<>());
        loads.back().first += cost[static_cast<size_t>(group)];
        tiles[loads.back().second].push_back(token * groups + group);
        std::push_heap(loads.begin(), loads.end(), std::greater<>());
      }
    }
  }
  return tiles;
}

bool TablesFit(int64_t stages, int size) { return stages * size < 1 << 15; }

GroupedTables TablesOf(const GroupedProduct& p, const std::vector<BlockGroup>& groups, int64_t units) {
  GroupedTables tables;
  const int64_t num_groups = static_cast<int64_t>(groups.size());
  // What a group's records have in common: everything but the first token.
  std::vector<std::vector<int32_t>> records;
  std::vector<double> cost;
  int32_t block = 0;
  for (const BlockGroup& g : groups) {
    std::vector<int32_t> record = {
        0,     static_cast<int32_t>(tables.steps.size()), static_cast<int32_t>(g.steps.size()),
        block, static_cast<int32_t>(g.blocks()),          0};
    std::vector<std::vector<int32_t>> turns(static_cast<size_t>(p.size));
    int32_t number = 0;
    for (size_t step = 0; step < g.steps.size(); ++step) {
      const int32_t before = number;
      for (size_t row = 0; row < g.rows.size(); ++row) {
        if (g.kept[row][step]) turns[row].push_back(static_cast<int32_t>(step) | number++ << 16);
      }
      tables.steps.push_back(static_cast<int32_t>(g.steps[step] * 8) | (number - before));
    }
    record[5] = tables.steps[static_cast<size_t>(record[1])];
    for (size_t row = 0; row < turns.size(); ++row) {
      record.push_back(static_cast<int32_t>(tables.turns.size()));
      record.push_back(static_cast<int32_t>(turns[row].size()));
      record.push_back(row < g.rows.size() ? static_cast<int32_t>(g.rows[row] * p.matmul.tiling.tile_n) : 0);
      record.push_back(turns[row].empty() ? 0 : turns[row][0]);
      tables.turns.insert(tables.turns.end(), turns[row].begin(), turns[row].end());
    }
    records.push_back(std::move(record));
    block += number;
    // In bytes that a tile brings; its results count like some.
    constexpr double kResults = 1.5;
    cost.push_back((static_cast<double>(g.steps.size()) + kResults) * p.tokens() + number * p.matmul.tiling.tile_n);
  }
  tables.turns.push_back(0);  // who has no turns asks for the first of them all the same
  const auto append = [&](int64_t tile) {
    std::vector<int32_t>& record = records[static_cast<size_t>(tile % num_groups)];
    record[0] = static_cast<int32_t>(tile / num_groups * p.tokens());
    tables.tiles.insert(tables.tiles.end(), record.begin(), record.end());
  };
  const std::vector<std::vector<int64_t>> tiles = ScheduleTiles(cost, p.token_tiles(), units);
  for (const auto& of_unit : tiles) append(of_unit[0]);
  tables.begins.push_back(static_cast<int32_t>(tiles.size()));
  for (const auto& of_unit : tiles) {
    for (size_t k = 1; k < of_unit.size(); ++k) append(of_unit[k]);
    tables.begins.push_back(tables.begins.back() + static_cast<int32_t>(of_unit.size()) - 1);
  }
  return tables;
}

}  // namespace tessera
