// Forms of pairs of axes and of single indices; see fit.h.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

#include "propagate/learn/fit.h"

namespace tessera {
namespace {

constexpr int64_t kMaxScale = 16;  // of strides; dilations and offsets may be anything

// 1, -1, 2, -2, …
std::vector<int64_t> Scales() {
  std::vector<int64_t> scales;
  for (int64_t s = 1; s <= kMaxScale; ++s) {
    scales.push_back(s);
    scales.push_back(-s);
  }
  return scales;
}

// The differences y - s*x of all pairs, if the pairs are all that have one of them and they are in equal steps.
std::optional<std::vector<int64_t>> Taps(const AxisPair& pair, int64_t s, bool out_is_x) {
  std::set<int64_t> differences;
  for (int64_t i = 0; i < pair.in; ++i) {
    for (int64_t o = 0; o < pair.out; ++o) {
      if (pair.meets[i * pair.out + o]) differences.insert(out_is_x ? i - s * o : o - s * i);
    }
  }
  const std::vector<int64_t> taps(differences.begin(), differences.end());
  for (size_t n = 2; n < taps.size(); ++n) {
    if (taps[n] - taps[n - 1] != taps[1] - taps[0]) return std::nullopt;
  }
  for (int64_t i = 0; i < pair.in; ++i) {
    if (!pair.seen[i]) continue;
    for (int64_t o = 0; o < pair.out; ++o) {
      const bool meets = differences.count(out_is_x ? i - s * o : o - s * i) != 0;
      if (meets != (pair.meets[i * pair.out + o] != 0)) return std::nullopt;
    }
  }
  return taps;
}

AxisForm FormOfTaps(AxisForm::Kind kind, int64_t s, const std::vector<int64_t>& taps) {
  AxisForm form = {.kind = kind, .scale = s};
  form.taps = static_cast<int64_t>(taps.size());
  form.offset = taps[0];
  form.step = taps.size() > 1 ? taps[1] - taps[0] : 1;
  return form;
}

bool IsBlock(const AxisPair& pair, int64_t groups) {
  const int64_t m = pair.out / groups, n = pair.in / groups;
  for (int64_t i = 0; i < pair.in; ++i) {
    if (!pair.seen[i]) continue;
    for (int64_t o = 0; o < pair.out; ++o) {
      if ((o / m == i / n) != (pair.meets[i * pair.out + o] != 0)) return false;
    }
  }
  return true;
}

}  // namespace

AxisForm FormOf(const AxisPair& pair) {
  std::optional<AxisForm> best;
  for (int64_t s : Scales()) {
    const std::optional<std::vector<int64_t>> taps = Taps(pair, s, true);
    if (!taps || taps->empty()) continue;
    if (best && static_cast<int64_t>(taps->size()) >= best->taps) continue;
    best = FormOfTaps(AxisForm::Kind::kWindow, s, *taps);
    if (taps->size() == 1) return *best;
  }
  if (best) return *best;
  for (int64_t groups = std::min(pair.out, pair.in); groups > 1; --groups) {
    if (pair.out % groups == 0 && pair.in % groups == 0 && IsBlock(pair, groups)) {
      return {.kind = AxisForm::Kind::kBlock, .groups = groups};
    }
  }
  for (int64_t s = 2; s <= kMaxScale; ++s) {
    const std::optional<std::vector<int64_t>> taps = Taps(pair, s, false);
    if (taps && !taps->empty()) return FormOfTaps(AxisForm::Kind::kSpread, s, *taps);
  }
  return {};
}

namespace {

using Samples = std::vector<std::vector<int64_t>>;

// The coefficient of variable v, from two samples that differ in it and not in w (-1: nothing else matters); 0: none.
std::optional<int64_t> CoefficientOf(const Samples& values, const std::vector<int64_t>& indices, int v, int w) {
  std::map<int64_t, size_t> first;  // by the value of w
  for (size_t n = 0; n < values.size(); ++n) {
    const auto [at, fresh] = first.emplace(w < 0 ? 0 : values[n][w], n);
    const int64_t run = values[n][v] - values[at->second][v];
    if (fresh || run == 0) continue;
    const int64_t rise = indices[n] - indices[at->second];
    if (rise % run != 0) return std::nullopt;
    return rise / run;
  }
  return std::nullopt;
}

bool Explains(const RuleIndex& index, const Samples& values, const std::vector<int64_t>& indices) {
  for (size_t n = 0; n < values.size(); ++n) {
    int64_t at = index.offset;
    for (const RuleIndex::Term& term : index.terms) at += term.coefficient * values[n][term.variable];
    if (at != indices[n]) return false;
  }
  return true;
}

}  // namespace

std::optional<RuleIndex> FitIndex(const Samples& values, const std::vector<int64_t>& indices,
                                  const std::vector<int64_t>& extents, int64_t extent) {
  if (values.empty()) return std::nullopt;
  if (extent == 1) return RuleIndex{};
  const int count = static_cast<int>(extents.size());
  std::optional<RuleIndex> best;
  int best_cost = 0;
  const auto consider = [&](RuleIndex index, int cost) {
    if ((best && cost >= best_cost) || !Explains(index, values, indices)) return;
    best = std::move(index);
    best_cost = cost;
  };
  // Equal extents first: a variable that is this axis.
  for (int v = 0; v < count; ++v) {
    const std::optional<int64_t> c = CoefficientOf(values, indices, v, -1);
    if (!c || *c == 0) continue;
    const int64_t offset = indices[0] - *c * values[0][v];
    const bool same = *c == 1 && offset == 0;
    consider({.offset = offset, .terms = {{v, *c}}}, same && extents[v] == extent ? 0 : same ? 1 : 2);
  }
  if (best) return best;
  consider({.offset = indices[0], .terms = {}}, 3);
  for (int v = 0; v < count && !best; ++v) {
    for (int w = v + 1; w < count; ++w) {
      const std::optional<int64_t> a = CoefficientOf(values, indices, v, w), b = CoefficientOf(values, indices, w, v);
      if (!a || !b || *a == 0 || *b == 0) continue;
      consider({.offset = indices[0] - *a * values[0][v] - *b * values[0][w], .terms = {{v, *a}, {w, *b}}}, 4);
    }
  }
  return best;
}

}  // namespace tessera
