// The tables of a ClauseWalk: where a fact lies by the classes of variables, an annihilator's own variables run through
// beforehand, and by which combinations of classes the result's axes are reached. Tested by apply_test.cc.
#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "propagate/rule/apply_walk_state.h"

namespace tessera {

using apply_internal::Cluster;
using apply_internal::kOut;
using apply_internal::Met;
using apply_internal::Table;
using apply_internal::Test;

// Tables of offsets from classes, one for each axis.
void ClauseWalk::State::MakeTest(Met& met, const VariableClasses& classes) {
  const int rank = met.access.view.rank();
  std::vector<int64_t> at(extents.size(), 0), first_of(extents.size(), 0);
  std::vector<Table> tables(rank);
  std::vector<bool> any(rank);
  for (int d = 0; d < rank; ++d) {
    const IndexFunction& index = met.axes[d];
    Table& table = tables[d];
    table.variables = index.variables();
    table.strides.resize(table.variables.size());
    int64_t size = 1;
    for (size_t k = table.variables.size(); k-- > 0;) {
      table.strides[k] = size;
      size *= counts[table.variables[k]];
    }
    table.offsets.reserve(size);
    const Partition& partition = met.grid->axes[d];
    ForEachValue(table.variables, counts, at, [&] {  // `at`: numbers of classes
      for (const int v : table.variables) first_of[v] = classes.first(v, at[v]);
      const int64_t where = index(first_of);
      any[d] = any[d] || where == IndexFunction::kAny;
      table.offsets.push_back(where >= 0                         ? partition[where]
                              : where == IndexFunction::kOutside ? kOut
                                                                 : partition.num_classes());
    });
    for (const int v : table.variables) at[v] = 0;
  }
  Test test{.bytes = met.bytes, .key = met.key, .want = met.want, .tables = {}};
  std::vector<int64_t> dims;
  for (const Partition& axis : met.grid->axes) dims.push_back(axis.num_classes());
  if (std::find(any.begin(), any.end(), true) != any.end()) {
    // An index that may be any: one more class on that axis, which passes when one of the others might.
    std::vector<uint8_t> bytes(met.grid->num_cells());
    for (size_t k = 0; k < bytes.size(); ++k) bytes[k] = met.bytes[k] == met.key;
    for (int d = 0; d < rank; ++d) {
      if (!any[d]) continue;
      int64_t outer = 1, inner = 1;
      for (int e = 0; e < d; ++e) outer *= dims[e];
      for (int e = d + 1; e < rank; ++e) inner *= dims[e];
      std::vector<uint8_t> wider;
      wider.reserve(outer * (dims[d] + 1) * inner);
      for (int64_t o = 0; o < outer; ++o) {
        const uint8_t* from = bytes.data() + o * dims[d] * inner;
        wider.insert(wider.end(), from, from + dims[d] * inner);
        for (int64_t i = 0; i < inner; ++i) {
          uint8_t joined = met.want ? 0 : 1;
          for (int64_t k = 0; k < dims[d]; ++k) {
            joined = met.want ? joined | from[k * inner + i] : joined & from[k * inner + i];
          }
          wider.push_back(joined);
        }
      }
      ++dims[d];
      bytes = std::move(wider);
    }
    reduced.push_back(std::move(bytes));
    test.bytes = reduced.back().data();
    test.key = 1;
  }
  int64_t stride = 1;
  for (int d = rank - 1; d >= 0; --d) {
    for (int64_t& offset : tables[d].offsets) offset = offset < 0 ? kOut : offset * stride;
    stride *= dims[d];
  }
  test.tables = std::move(tables);
  if (!met.own.empty()) ReduceOwn(met, test);
  tests.push_back(std::move(test));
}

// Runs an annihilator's own variables through their classes, once for each combination of classes of the clause's.
void ClauseWalk::State::ReduceOwn(const Met& met, Test& test) {
  std::vector<int> kept;
  for (const Table& table : test.tables) {
    for (const int v : table.variables) {
      const bool own = std::find(met.own.begin(), met.own.end(), v) != met.own.end();
      if (!own && std::find(kept.begin(), kept.end(), v) == kept.end()) kept.push_back(v);
    }
  }
  std::sort(kept.begin(), kept.end());
  std::vector<uint8_t> bytes;
  std::vector<int64_t> at(extents.size(), 0);
  ForEachValue(kept, counts, at, [&] {
    bool equal = !met.any;
    ForEachValue(met.own, counts, at, [&] {
      if (equal == met.any) return;  // decided
      int64_t offset = 0;
      for (const Table& table : test.tables) {
        int64_t entry = 0;
        for (size_t k = 0; k < table.variables.size(); ++k) entry += at[table.variables[k]] * table.strides[k];
        offset += table.offsets[entry];
      }
      equal = offset < 0 || test.bytes[offset] == test.key;
    });
    bytes.push_back(equal);
  });
  test.key = 1;
  test.tables.clear();
  int64_t stride = 1;
  for (size_t k = kept.size(); k-- > 0;) {
    Table table{.variables = {kept[k]}, .strides = {1}, .offsets = {}};
    for (int64_t c = 0; c < counts[kept[k]]; ++c) table.offsets.push_back(c * stride);
    stride *= counts[kept[k]];
    test.tables.push_back(std::move(table));
  }
  reduced.push_back(std::move(bytes));
  test.bytes = reduced.back().data();
}

void ClauseWalk::State::MakeClusters(const RuleAccess& result, const std::vector<IndexFunction>& axes,
                                     const VariableClasses& classes, CellGrid& grid) {
  clusters.clear();
  for (int d = 0; d < static_cast<int>(axes.size()); ++d) {
    Cluster joined{.axes = {d}, .variables = axes[d].variables()};
    // Takes in earlier ones with which it shares a variable.
    for (size_t c = clusters.size(); c-- > 0;) {
      const auto shared = [&](int v) {
        return std::find(clusters[c].variables.begin(), clusters[c].variables.end(), v) != clusters[c].variables.end();
      };
      if (std::none_of(joined.variables.begin(), joined.variables.end(), shared)) continue;
      joined.axes.insert(joined.axes.begin(), clusters[c].axes.begin(), clusters[c].axes.end());
      for (const int v : clusters[c].variables) {
        if (std::find(joined.variables.begin(), joined.variables.end(), v) == joined.variables.end()) {
          joined.variables.push_back(v);
        }
      }
      clusters.erase(clusters.begin() + c);
    }
    std::sort(joined.axes.begin(), joined.axes.end());
    std::sort(joined.variables.begin(), joined.variables.end());
    clusters.push_back(std::move(joined));
  }
  for (Cluster& cluster : clusters) FillCluster(cluster, result, axes, classes, grid);
  // Offsets need the classes of all axes.
  std::vector<int64_t> strides(axes.size(), 1);
  for (int d = static_cast<int>(axes.size()) - 2; d >= 0; --d)
    strides[d] = strides[d + 1] * grid.axes[d + 1].num_classes();
  for (Cluster& cluster : clusters) {
    for (int64_t& offset : cluster.offsets) {
      int64_t rest = offset, sum = 0;
      for (size_t a = cluster.axes.size(); a-- > 0;) {
        const int64_t count = grid.axes[cluster.axes[a]].num_classes();
        sum += rest % count * strides[cluster.axes[a]];
        rest /= count;
      }
      offset = sum;
    }
  }
}

// Sorts the indices of the cluster's axis by the combinations of classes that reach them; of several axes each index
// stays apart.
void ClauseWalk::State::FillCluster(Cluster& cluster, const RuleAccess& result, const std::vector<IndexFunction>& axes,
                                    const VariableClasses& classes, CellGrid& grid) {
  int64_t size = 1;
  for (const int d : cluster.axes) size *= result.view[d];
  const size_t width = cluster.variables.size();
  std::vector<int64_t> at(extents.size(), 0);
  if (cluster.axes.size() == 1 && width == 1 && result.index[cluster.axes[0]].lookup < 0) {  // one value reaches each
    const int d = cluster.axes[0], v = cluster.variables[0];
    std::vector<int64_t> label(size, -1);
    for (at[v] = 0; at[v] < extents[v]; ++at[v]) {
      const int64_t where = axes[d](at);
      if (where >= 0) label[where] = classes.class_of(v, at[v]);
    }
    grid.axes[d] = Partition::FromLabels(label);
    for (const int64_t first : grid.axes[d].Firsts()) {
      cluster.combos.emplace_back();
      if (label[first] >= 0) cluster.combos.back().push_back(static_cast<int32_t>(label[first]));
    }
  } else {
    std::map<std::vector<int32_t>, int32_t> number;  // of a combination
    std::vector<std::vector<int32_t>> reached(size);
    std::vector<int64_t> element_of(cluster.axes.size());
    ForEachValue(cluster.variables, extents, at, [&] {
      std::vector<int32_t> combo;
      for (const int v : cluster.variables) combo.push_back(static_cast<int32_t>(classes.class_of(v, at[v])));
      std::vector<int64_t> elements = {0};
      for (const int d : cluster.axes) {
        const int64_t where = axes[d](at);
        if (where == IndexFunction::kOutside) return;
        std::vector<int64_t> next;
        for (const int64_t element : elements) {
          if (where >= 0) next.push_back(element * result.view[d] + where);
          for (int64_t i = 0; where < 0 && i < result.view[d]; ++i) next.push_back(element * result.view[d] + i);
        }
        elements = std::move(next);
      }
      const int32_t id = number.try_emplace(std::move(combo), static_cast<int32_t>(number.size())).first->second;
      for (const int64_t element : elements) reached[element].push_back(id);
    });
    std::vector<const std::vector<int32_t>*> combo_of(number.size());
    for (const auto& [combo, id] : number) combo_of[id] = &combo;
    std::map<std::vector<int32_t>, int64_t> sets;
    std::vector<int64_t> label(size);
    for (int64_t element = 0; element < size; ++element) {
      std::vector<int32_t>& set = reached[element];
      std::sort(set.begin(), set.end());
      set.erase(std::unique(set.begin(), set.end()), set.end());
      label[element] = sets.try_emplace(set, static_cast<int64_t>(sets.size())).first->second;
    }
    std::vector<int64_t> firsts;
    if (cluster.axes.size() == 1) {
      grid.axes[cluster.axes[0]] = Partition::FromLabels(label);
      firsts = grid.axes[cluster.axes[0]].Firsts();
    } else {
      for (const int d : cluster.axes) grid.axes[d] = Partition::Identity(result.view[d]);
      firsts.resize(size);
      std::iota(firsts.begin(), firsts.end(), 0);
    }
    for (const int64_t first : firsts) {
      std::vector<int32_t>& flat = cluster.combos.emplace_back();
      for (const int32_t id : reached[first]) flat.insert(flat.end(), combo_of[id]->begin(), combo_of[id]->end());
      // Without variables a combination is empty: one entry says that it is there.
      if (width == 0 && !reached[first].empty()) flat.push_back(0);
      cluster.simple = cluster.simple && flat.size() <= std::max<size_t>(width, 1);
    }
  }
  cluster.offsets.resize(cluster.combos.size());
  std::iota(cluster.offsets.begin(), cluster.offsets.end(), 0);
}

}  // namespace tessera
