#include "propagate/apply_walk.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "base/status.h"

namespace tessera {
namespace {

constexpr int64_t kOut = -(int64_t{1} << 50);  // an offset that stays negative whatever is added

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

}  // namespace

struct ClauseWalk::State {
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

ClauseWalk::ClauseWalk(const Clause& clause, std::span<const LookupValues* const> lookups)
    : state_(std::make_unique<State>(clause, lookups)) {
  // A point exists only where its lookups are in range, even if nothing but an annihilator asks for the value.
  for (const Lookup& lookup : clause.lookups) Need(lookup.at, Cells<uint8_t>::Uniform(lookup.at.view, 1), 1);
}
ClauseWalk::~ClauseWalk() = default;
int64_t ClauseWalk::visited() const { return state_->visited; }

void ClauseWalk::Need(const RuleAccess& access, const Cells<uint8_t>& facts, uint8_t key) {
  Met met;
  met.access = access;
  state_->Add(std::move(met), facts, key);
}

void ClauseWalk::Stop(const Annihilator& unless, const Cells<uint8_t>& facts, uint8_t key) {
  State& s = *state_;
  Met met;
  met.want = false;
  met.any = unless.any;
  met.access = unless.at;
  const int n = static_cast<int>(s.clause.extents.size()), first = static_cast<int>(s.extents.size());
  bool empty = false;
  for (RuleIndex& index : met.access.index) {
    for (RuleIndex::Term& term : index.terms) term.variable += term.variable >= n ? first - n : 0;
  }
  for (const int64_t extent : unless.extents) {
    met.own.push_back(static_cast<int>(s.extents.size()));
    s.extents.push_back(extent);
    empty = empty || extent == 0;
  }
  if (empty) {  // all of nothing are equal, any of nothing is not
    s.no_points = s.no_points || !unless.any;
    return;
  }
  s.Add(std::move(met), facts, key);
}

void ClauseWalk::Fix(const RuleAccess& access, int64_t element) {
  CellGrid grid{access.view, {}};
  std::vector<int64_t> index(access.view.rank());
  for (int d = access.view.rank() - 1; d >= 0; --d) {
    index[d] = element % access.view[d];
    element /= access.view[d];
  }
  for (int d = 0; d < access.view.rank(); ++d) {
    std::vector<int64_t> labels(access.view[d], 0);
    labels[index[d]] = 1;
    grid.axes.push_back(Partition::FromLabels(labels));
  }
  std::vector<uint8_t> values(grid.num_cells(), 0);
  values[grid.CellOf(index)] = 1;
  state_->fixed.push_back(std::make_unique<Cells<uint8_t>>(std::move(grid), std::move(values)));
  Need(access, *state_->fixed.back(), 1);
}

void ClauseWalk::State::Add(Met met, const Cells<uint8_t>& facts, uint8_t key) {
  met.key = key;
  int64_t equal = 0;
  for (const uint8_t value : facts.values) equal += value == key;
  const int64_t cells = static_cast<int64_t>(facts.values.size());
  if (equal == 0 || equal == cells) {
    if ((equal == 0) == met.want) {
      no_points = true;
      return;
    }
    met.uniform = true;
    met.key = 1;
    met.held = Cells<uint8_t>::Uniform(met.access.view, met.want);
  } else if (met.access.view != facts.shape) {
    met.held = facts.Mapped(ReshapeMap(facts, met.access.view));
  } else {
    met.grid = &facts;
    met.bytes = facts.values.data();
  }
  this->met.push_back(std::move(met));
}

std::vector<IndexFunction> ClauseWalk::State::Functions(const RuleAccess& access) const {
  std::vector<IndexFunction> functions;
  for (size_t d = 0; d < access.index.size(); ++d) {
    functions.emplace_back(access.index[d], access.view[static_cast<int>(d)], clause.lookups, lookups);
  }
  return functions;
}

bool ClauseWalk::State::AlwaysInside(const Met& met) const {
  return std::all_of(met.axes.begin(), met.axes.end(),
                     [&](const IndexFunction& index) { return index.AlwaysInside(extents); });
}

Cells<uint8_t> ClauseWalk::Reached(const RuleAccess& result) {
  State& s = *state_;
  const Cells<uint8_t> nothing = Cells<uint8_t>::Uniform(result.view, 0);
  if (s.no_points || result.view.num_elements() == 0) return nothing;
  VariableClasses classes(s.extents, static_cast<int>(s.extents.size() - s.clause.extents.size()));
  for (Met& one : s.met) {
    one.axes = s.Functions(one.access);
    if (one.grid == nullptr) one.grid = &one.held, one.bytes = one.held.values.data();
    // A uniform fact that is always in range says nothing.
    if (one.uniform && s.AlwaysInside(one)) continue;
    for (size_t d = 0; d < one.axes.size(); ++d) classes.Meet(one.axes[d], one.grid->axes[d]);
  }
  const std::vector<IndexFunction> axes = s.Functions(result);
  // Variables on two axes of the result stay apart.
  std::vector<int> uses(s.extents.size(), 0), in_result;
  for (const IndexFunction& index : axes) {
    for (const int v : index.variables()) {
      if (uses[v]++ == 0) in_result.push_back(v);
    }
  }
  for (bool grown = true; grown;) {  // all variables of axes that hang together
    grown = false;
    for (const IndexFunction& index : axes) {
      const auto twice = [&](int v) { return uses[v] > 1; };
      if (std::none_of(index.variables().begin(), index.variables().end(), twice)) continue;
      for (const int v : index.variables()) {
        grown = grown || uses[v] < 2;
        uses[v] = std::max(uses[v], 2);
      }
    }
  }
  for (const int v : in_result) {
    if (uses[v] > 1) classes.KeepApart(v);
  }
  classes.Sort(s.clause.links, in_result);
  s.counts.clear();
  for (size_t v = 0; v < s.extents.size(); ++v) s.counts.push_back(classes.count(static_cast<int>(v)));
  s.tests.clear();
  s.reduced.clear();
  for (Met& one : s.met) {
    if (!one.uniform || !s.AlwaysInside(one)) s.MakeTest(one, classes);
  }
  s.meetings.clear();
  for (const Link& link : s.clause.links) s.meetings.push_back(classes.Meetings(link));
  CellGrid grid{result.view, std::vector<Partition>(result.view.rank())};
  s.MakeClusters(result, axes, classes, grid);
  s.MakeLevels();
  s.flags.assign(grid.num_cells(), 0);
  s.now.assign(s.extents.size(), 0);
  s.inside.assign(s.clusters.size(), 0);
  s.partial.assign(s.levels.size(), std::vector<int64_t>(s.tests.size(), 0));
  s.Mark(0, 0);
  return Cells<uint8_t>(std::move(grid), std::move(s.flags));
}

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
