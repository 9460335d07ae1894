#include "propagate/learn/fit.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "propagate/learn/footprint.h"

namespace tessera {
namespace {

// Pairs of larger axes are not tabulated.
constexpr int64_t kMaxPairs = int64_t{1} << 24;
// Two axes are nearly free of each other when at least this share of their pairs occurs.
constexpr double kRaggedShare = 0.5;

using Indices = std::set<int64_t>;

// start, start + step, …: `count` of them.
struct Range {
  int64_t start = 0, step = 1, count = 0;
};

std::optional<Range> RangeOf(const Indices& indices) {
  if (indices.empty()) return std::nullopt;
  Range range = {.start = *indices.begin(), .count = static_cast<int64_t>(indices.size())};
  if (range.count > 1) range.step = *std::next(indices.begin()) - range.start;
  int64_t expected = range.start;
  for (int64_t index : indices) {
    if (index != expected) return std::nullopt;
    expected += range.step;
  }
  return range;
}

class Fitter {
 public:
  Fitter(int output, int input, const Rows& rows, const FitOptions& options)
      : rows_(rows), options_(options), out_rank_(options.out_view.rank()), in_rank_(options.in_view.rank()) {
    result_.clause.output = output;
    result_.clause.input = input;
    result_.equal_in.assign(out_rank_, -1);
  }

  StatusOr<Fitted> Fit() {
    if (FitSameElement()) return std::move(result_);
    RETURN_IF_ERROR(Decode());
    RETURN_IF_ERROR(Relate());
    if (!result_.split_out.empty() || !result_.split_in.empty()) return std::move(result_);
    return Assemble();
  }

 private:
  Status Fail(const std::string& what) const {
    return Error(ErrorCode::kRuleNotLearned, "how out", result_.clause.output, options_.out_view, " depends on in",
                 result_.clause.input, options_.in_view, ": ", what);
  }

  // Each element moves the element of its own number, under other extents: a reshape.
  bool FitSameElement() {
    const Shape &out = options_.out_view, &in = options_.in_view;
    if (out.num_elements() != in.num_elements()) return false;
    for (size_t n = 0; n < rows_.in.size(); ++n) {
      if (rows_.out[n].size() != 1 || rows_.out[n][0] != rows_.in[n]) return false;
    }
    Clause& clause = result_.clause;
    clause.extents = out.dims();
    clause.out = clause.in = Straight(out);
    if (out == in) {
      for (int a = 0; a < out_rank_; ++a) result_.equal_in[a] = a;
    }
    return true;
  }

  // Coordinates of what moved, row by row; rows that moved nothing are left out.
  Status Decode() {
    seen_.resize(in_rank_);
    support_.resize(in_rank_);
    for (size_t n = 0; n < rows_.in.size(); ++n) {
      const std::vector<int64_t> at = CoordinatesOf(options_.in_view, rows_.in[n]);
      for (int b = 0; b < in_rank_; ++b) seen_[b].insert(at[b]);
      if (rows_.out[n].empty()) {
        has_empty_ = true;
        continue;
      }
      std::vector<Indices> moved(out_rank_);
      for (int64_t o : rows_.out[n]) {
        const std::vector<int64_t> to = CoordinatesOf(options_.out_view, o);
        for (int a = 0; a < out_rank_; ++a) moved[a].insert(to[a]);
      }
      for (int b = 0; b < in_rank_; ++b) support_[b].insert(at[b]);
      at_.push_back(at);
      moved_.push_back(std::move(moved));
    }
    return OkStatus();
  }

  // Are the indices along output axis a that move a function of the index along input axis b?
  bool Follows(int a, int b) const {
    std::map<int64_t, const Indices*> by_index;
    for (size_t n = 0; n < at_.size(); ++n) {
      const auto [found, fresh] = by_index.emplace(at_[n][b], &moved_[n][a]);
      if (!fresh && *found->second != moved_[n][a]) return false;
    }
    return true;
  }

  bool Constant(int a) const {
    return std::all_of(moved_.begin(), moved_.end(), [&](const auto& row) { return row[a] == moved_[0][a]; });
  }

  // Nothing: the table would be too large.
  std::optional<AxisPair> PairOf(int a, int b) const {
    AxisPair pair = {.out = options_.out_view[a], .in = options_.in_view[b]};
    if (pair.out * pair.in > kMaxPairs) return std::nullopt;
    pair.meets.assign(pair.out * pair.in, 0);
    pair.seen.assign(pair.in, 0);
    // Where indices move nothing because of another axis says nothing of this one.
    for (size_t n = 0; n < at_.size(); ++n) {
      pair.seen[at_[n][b]] = 1;
      for (int64_t o : moved_[n][a]) pair.meets[at_[n][b] * pair.out + o] = 1;
    }
    for (int64_t i : seen_[b]) pair.seen[i] = 1;
    return pair;
  }

  Status Relate() {
    form_.resize(in_rank_);
    partner_.assign(in_rank_, -1);
    driven_.assign(out_rank_, 0);
    for (int a = 0; a < out_rank_; ++a) {
      if (options_.out_view[a] == 1 || Constant(a)) continue;
      RETURN_IF_ERROR(RelateOut(a));
    }
    // An input axis that only matters where something moves at all: a band, a diagonal.
    if (!has_empty_ || Rectangular()) return OkStatus();
    for (int b = 0; b < in_rank_; ++b) {
      if (partner_[b] >= 0 || options_.in_view[b] == 1) continue;
      for (int a = 0; a < out_rank_ && partner_[b] < 0; ++a) {
        const std::optional<AxisPair> pair = PairOf(a, b);
        if (!pair || Share(*pair) == 1) continue;
        const AxisForm form = FormOf(*pair);
        if (form.kind != AxisForm::Kind::kWindow) continue;
        partner_[b] = a;
        form_[b] = form;
      }
    }
    return OkStatus();
  }

  // Is what moves something a product of ranges, axis by axis?
  bool Rectangular() const {
    for (size_t n = 0; n < rows_.in.size(); ++n) {
      if (!rows_.out[n].empty()) continue;
      const std::vector<int64_t> at = CoordinatesOf(options_.in_view, rows_.in[n]);
      bool inside = true;
      for (int b = 0; b < in_rank_; ++b) inside &= support_[b].count(at[b]) != 0;
      if (inside) return false;
    }
    return true;
  }

  static double Share(const AxisPair& pair) {
    int64_t meets = 0, all = 0;
    for (int64_t i = 0; i < pair.in; ++i) {
      if (!pair.seen[i]) continue;
      all += pair.out;
      for (int64_t o = 0; o < pair.out; ++o) meets += pair.meets[i * pair.out + o];
    }
    return static_cast<double>(meets) / static_cast<double>(all);
  }

  Status RelateOut(int a) {
    std::optional<AxisForm> best;
    int best_in = -1;
    for (int b = 0; b < in_rank_; ++b) {
      if (options_.in_view[b] == 1 || partner_[b] >= 0 || !Follows(a, b)) continue;
      const std::optional<AxisPair> pair = PairOf(a, b);
      if (!pair) return Fail("axes too large to learn");
      const AxisForm form = FormOf(*pair);
      // A window of more taps than the axis has indices is none: a few pairs at the border are missing.
      const bool window = form.kind == AxisForm::Kind::kWindow && form.taps < pair->in;
      if (Share(*pair) >= kRaggedShare && !window) {
        result_.ragged = true;
        if (options_.ragged_free) return OkStatus();
      }
      const auto cost = [](const AxisForm& f) { return static_cast<int64_t>(f.kind) * 1000 + f.taps; };
      if (best && cost(form) >= cost(*best)) continue;
      best = form;
      best_in = b;
    }
    if (!best) return Fail("axis " + std::to_string(a) + " of the output follows no single axis of the input");
    if (best->kind == AxisForm::Kind::kTable && !options_.tables) {
      return Fail("axis " + std::to_string(a) + " of the output meets axis " + std::to_string(best_in) +
                  " of the input in no regular way");
    }
    if (best->kind == AxisForm::Kind::kBlock) {
      if (best->groups < options_.out_view[a]) result_.split_out.push_back({a, best->groups});
      if (best->groups < options_.in_view[best_in]) result_.split_in.push_back({best_in, best->groups});
    }
    partner_[best_in] = a;
    form_[best_in] = *best;
    driven_[a] = 1;
    if (best->kind == AxisForm::Kind::kWindow && best->scale == 1 && best->taps == 1 && best->offset == 0 &&
        options_.out_view[a] == options_.in_view[best_in]) {
      result_.equal_in[a] = best_in;
    }
    return OkStatus();
  }

  int NewVariable(int64_t extent) {
    result_.clause.extents.push_back(extent);
    return static_cast<int>(result_.clause.extents.size()) - 1;
  }

  static RuleIndex IndexOf(std::vector<RuleIndex::Term> terms, int64_t offset) {
    std::erase_if(terms, [](const RuleIndex::Term& term) { return term.coefficient == 0; });
    std::sort(terms.begin(), terms.end(), [](const auto& x, const auto& y) { return x.variable < y.variable; });
    return {.offset = offset, .terms = std::move(terms)};
  }

  // An axis of which exactly these indices occur, by a variable of its own.
  StatusOr<RuleIndex> FreeIndex(const Indices& indices, int64_t extent, int64_t of) {
    if (extent == 1) return RuleIndex{};
    // All that were tried occur: so do the others.
    if (static_cast<int64_t>(indices.size()) == of) return IndexOf({{NewVariable(extent), 1}}, 0);
    const std::optional<Range> range = RangeOf(indices);
    if (!range || of != extent) return Fail("an axis of extent " + std::to_string(extent) + " occurs in part");
    if (range->count == 1) return IndexOf({}, range->start);
    return IndexOf({{NewVariable(range->count), range->step}}, range->start);
  }

  StatusOr<Fitted> Assemble() {
    Clause& clause = result_.clause;
    clause.out.view = options_.out_view;
    clause.in.view = options_.in_view;
    clause.out.index.resize(out_rank_);
    clause.in.index.resize(in_rank_);
    std::vector<int> variable_of(out_rank_, -1);
    std::vector<int> spread_of(out_rank_, -1);
    for (int b = 0; b < in_rank_; ++b) {
      if (partner_[b] >= 0 && form_[b].kind == AxisForm::Kind::kSpread) spread_of[partner_[b]] = b;
    }
    // Output axes in order, one variable each; a spread axis is two.
    for (int a = 0; a < out_rank_; ++a) {
      const int64_t extent = options_.out_view[a];
      if (const int b = spread_of[a]; b >= 0) {
        const int v = NewVariable(options_.in_view[b]);
        std::vector<RuleIndex::Term> terms = {{v, form_[b].scale}};
        if (form_[b].taps > 1) terms.push_back({NewVariable(form_[b].taps), form_[b].step});
        clause.out.index[a] = IndexOf(std::move(terms), form_[b].offset);
        clause.in.index[b] = IndexOf({{v, 1}}, 0);
        continue;
      }
      if (extent == 1) continue;
      bool has_partner = driven_[a] != 0;
      for (int b = 0; b < in_rank_; ++b) has_partner |= partner_[b] == a;
      if (has_partner || ragged_out(a)) {
        variable_of[a] = NewVariable(extent);
        clause.out.index[a] = IndexOf({{variable_of[a], 1}}, 0);
      } else if (static_cast<int64_t>(moved_[0][a].size()) < extent && options_.ragged_free) {
        // Only a part of the axis moves: as if of a kernel of one tap at the border.
        result_.ragged = true;
        clause.out.index[a] = IndexOf({{NewVariable(extent), 1}}, 0);
      } else {
        ASSIGN_OR_RETURN(clause.out.index[a], FreeIndex(moved_[0][a], extent, extent));
      }
    }
    for (int b = 0; b < in_rank_; ++b) {
      const int64_t extent = options_.in_view[b];
      if (extent == 1) continue;
      if (partner_[b] < 0) {
        ASSIGN_OR_RETURN(clause.in.index[b], FreeIndex(support_[b], extent, static_cast<int64_t>(seen_[b].size())));
        continue;
      }
      const AxisForm& form = form_[b];
      if (form.kind == AxisForm::Kind::kSpread) continue;
      const int v = variable_of[partner_[b]];
      if (form.kind == AxisForm::Kind::kTable) {
        RETURN_IF_ERROR(AddTable(b, v));
        continue;
      }
      std::vector<RuleIndex::Term> terms = {{v, form.scale}};
      if (form.taps > 1) terms.push_back({NewVariable(form.taps), form.step});
      clause.in.index[b] = IndexOf(std::move(terms), form.offset);
    }
    return std::move(result_);
  }

  // Under ragged_free an axis whose moved indices differ from row to row is all of its extent.
  bool ragged_out(int a) const { return !Constant(a); }

  // The variable of the output axis may meet what it met; all of the input axis must have been seen.
  Status AddTable(int b, int from) {
    const std::optional<AxisPair> pair = PairOf(partner_[b], b);
    if (static_cast<int64_t>(seen_[b].size()) != pair->in) return Fail("a table of which only a part was seen");
    Link link = {.from = from, .to = NewVariable(pair->in), .runs = {}};
    link.runs.resize(pair->out);
    for (int64_t o = 0; o < pair->out; ++o) {
      for (int64_t i = 0; i < pair->in; ++i) {
        if (!pair->meets[i * pair->out + o]) continue;
        auto& runs = link.runs[o];
        if (!runs.empty() && runs.back().second == i) {
          ++runs.back().second;
        } else {
          runs.push_back({i, i + 1});
        }
      }
    }
    result_.clause.in.index[b] = IndexOf({{link.to, 1}}, 0);
    result_.clause.links.push_back(std::move(link));
    return OkStatus();
  }

  const Rows& rows_;
  const FitOptions& options_;
  const int out_rank_, in_rank_;
  Fitted result_;
  std::vector<Indices> seen_, support_;      // [input axis]: indices tried, indices that moved something
  bool has_empty_ = false;                   // some row moved nothing
  std::vector<std::vector<int64_t>> at_;     // [row that moved something][input axis]
  std::vector<std::vector<Indices>> moved_;  // [the same row][output axis]
  std::vector<AxisForm> form_;               // [input axis]
  std::vector<int> partner_;                 // [input axis]: the output axis that it goes with, or -1
  std::vector<uint8_t> driven_;              // [output axis]
};

}  // namespace

bool Rows::empty() const {
  return std::all_of(out.begin(), out.end(), [](const auto& row) { return row.empty(); });
}

Shape SplitShape(const Shape& shape, const std::vector<Split>& splits) {
  std::vector<int64_t> dims;
  for (int d = 0; d < shape.rank(); ++d) {
    int64_t rest = shape[d];
    for (const Split& split : splits) {
      if (split.axis != d || split.groups <= 1 || rest % split.groups != 0) continue;
      dims.push_back(split.groups);
      rest /= split.groups;
      break;
    }
    dims.push_back(rest);
  }
  return Shape(std::move(dims));
}

StatusOr<Fitted> FitClause(int output, int input, const Rows& rows, const FitOptions& options) {
  return Fitter(output, input, rows, options).Fit();
}

}  // namespace tessera
