#include "propagate/rule/apply_walk.h"

#include <algorithm>
#include <utility>

#include "propagate/rule/apply_walk_state.h"

namespace tessera {

using apply_internal::Met;

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

}  // namespace tessera
