// Stage by stage: each read becomes clauses (direct for an input, those of the temporary joined to the access
// otherwise) and conditions under which it is 0 (or 1, for bool). Each condition is tried on the body, the combiner and
// the finish: reads that the simplified body no longer reaches are annihilated by it, and where the result itself is
// known it becomes a condition of what the stage writes.
#include "propagate/algebra/algebra.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "propagate/algebra/clause_algebra.h"
#include "propagate/algebra/partial_body.h"

namespace tessera {
namespace {

// How an output or a temporary depends on the inputs. Clauses have the element as `out`; a condition's variable d is
// the element's index along dimension d of `view`.
struct Buffer {
  std::vector<Clause> clauses;
  std::vector<Condition> conditions;
  Shape view;
  const Stage* writer = nullptr;  // the only one
  int writers = 0;
};

// A read of a stage. Conditions are over the stage's axes. So are clauses at first, but joining may shift and drop
// some: index `a` of a clause's `out` is what became of axis a.
struct Read {
  std::vector<Clause> clauses;
  std::vector<Condition> conditions;  // each suffices to fix the value
  std::vector<int> chosen_by;         // reads whose value is an index of this one
  std::vector<Condition> whatever;    // conditions that fix the value whatever those are
};

// An access in a clause: what it adds to the axes of the stage.
struct Resolved {
  Clause clause;  // extents, in, links, lookups
  std::vector<int> chosen_by;
};

bool SameElement(ScalarValue a, DType type, double value) {
  return IsFloat(type) ? a.f == value : a.i == static_cast<int64_t>(value);
}

RuleIndex IndexOf(const IndexExpr& expr) {
  RuleIndex index;
  index.offset = expr.offset;
  for (const IndexExpr::Term& term : expr.terms) index.terms.push_back({term.axis, term.coefficient});
  return index;
}

// May the access be out of range somewhere?
bool MayLeave(const Access& access, std::span<const int64_t> extents) {
  if (!access.guarded) return false;
  for (size_t d = 0; d < access.index.size(); ++d) {
    if (access.index[d].read >= 0) return true;
    int64_t low, high;
    RangeOf(IndexOf(access.index[d]), extents, {}, low, high);
    if (low < 0 || high >= access.view[static_cast<int>(d)]) return true;
  }
  return false;
}

// Which dimension of the write each axis walks, if each walks one from end to end.
std::optional<std::vector<int>> PlainWrite(const Stage& stage) {
  std::vector<int> dims(stage.parallel_rank, -1);
  for (size_t d = 0; d < stage.write.index.size(); ++d) {
    const IndexExpr& expr = stage.write.index[d];
    const int64_t extent = stage.write.view[static_cast<int>(d)];
    if (expr.terms.empty() && expr.offset == 0 && extent == 1) continue;
    if (expr.terms.size() != 1 || expr.terms[0].coefficient != 1 || expr.offset != 0) return std::nullopt;
    const int axis = expr.terms[0].axis;
    if (dims[axis] >= 0 || stage.extents[axis] != extent) return std::nullopt;
    dims[axis] = static_cast<int>(d);
  }
  for (int axis = 0; axis < stage.parallel_rank; ++axis) {
    if (dims[axis] < 0 && stage.extents[axis] != 1) return std::nullopt;
  }
  return dims;
}

// v < 0 ? v + length : v, as gathers write it.
bool CountsFromTheEnd(const Body& body, DType stored, int64_t length) {
  BodyBuilder b;
  const Scalar v = b.Cast(b.Input(stored), DType::kI64);
  const Scalar zero = b.ConstInt(DType::kI64, 0), extent = b.ConstInt(DType::kI64, length);
  return body == b.Finish(Select(Less(v, zero), v + extent, v));
}

class Deriver {
 public:
  Deriver(const Compute& compute, std::vector<std::string>* widened) : compute_(compute), widened_(widened) {
    outputs_.resize(compute.outputs.size());
    temps_.resize(compute.temps.size());
    for (const Stage& stage : compute.stages) ++BufferOf(stage.write.buffer).writers;
  }

  std::vector<Clause> Run() {
    for (const Stage& stage : compute_.stages) {
      if (stage.parallel_points() > 0) Derive(stage);
    }
    std::vector<Clause> clauses;
    for (size_t out = 0; out < outputs_.size(); ++out) {
      Simplify(outputs_[out].clauses);
      for (Clause& clause : outputs_[out].clauses) {
        clause.output = static_cast<int>(out);
        Finish(clause);
        clauses.push_back(std::move(clause));
      }
    }
    return clauses;
  }

 private:
  Buffer& BufferOf(BufferRef ref) { return ref.kind == BufferKind::kOutput ? outputs_[ref.index] : temps_[ref.index]; }
  void Widen(std::string why) {
    if (widened_) widened_->push_back(std::move(why));
  }

  // ---- Reads ----

  // The index that the value of table read `by` adds: a link from the one axis that it walks.
  bool ResolveTable(const Stage& stage, const Access& by, const IndexExpr& expr, int64_t extent, RuleIndex& index,
                    Clause& clause) {
    int axis = -1;
    for (const IndexExpr& at : by.index) {
      if (at.read >= 0) return false;
      for (const IndexExpr::Term& term : at.terms) {
        if (axis >= 0 && axis != term.axis) return false;
        axis = term.axis;
      }
    }
    if (by.guarded || axis < 0) return false;
    const Tensor& table = compute_.tables[by.buffer.index];
    std::vector<int64_t> values(static_cast<size_t>(stage.extents[axis]));
    for (int64_t x = 0; x < stage.extents[axis]; ++x) {
      int64_t position = 0;
      for (size_t d = 0; d < by.index.size(); ++d) {
        int64_t at = by.index[d].offset;
        for (const IndexExpr::Term& term : by.index[d].terms) at += term.coefficient * x;
        position = position * by.view[static_cast<int>(d)] + at;
      }
      values[static_cast<size_t>(x)] = expr.read_scale * table.GetInt(position);
    }
    // Alone in its index the link's variable is the index itself.
    const bool alone = expr.terms.empty();
    int64_t low = 0, count = extent;
    if (!alone) {
      low = *std::min_element(values.begin(), values.end());
      count = *std::max_element(values.begin(), values.end()) - low + 1;
    } else {
      for (int64_t& value : values) value += expr.offset;
    }
    const int variable = static_cast<int>(clause.extents.size());
    clause.extents.push_back(count);
    Link link = {.from = axis, .to = variable, .runs = {}};
    for (int64_t value : values) {
      const bool inside = value - low >= 0 && value - low < count;
      link.runs.emplace_back();
      if (inside) link.runs.back().push_back({value - low, value - low + 1});
    }
    clause.links.push_back(std::move(link));
    index = alone ? Variable(variable) : IndexOf(expr);
    if (!alone) {
      index.offset += low;
      index.terms.push_back({variable, 1});
    }
    return true;
  }

  // The index that is the value of read `by` of an integer input, perhaps brought into range by a temporary.
  bool ResolveLookup(const Access& by, const IndexExpr& expr, int64_t extent, RuleIndex& index, Clause& clause) {
    if (!expr.terms.empty() || expr.offset != 0 || expr.read_scale != 1 || by.guarded) return false;
    Lookup lookup;
    if (by.buffer.kind == BufferKind::kInput) {
      lookup.input = by.buffer.index;
      lookup.at.view = by.view;
      for (const IndexExpr& at : by.index) {
        if (at.read >= 0) return false;
        lookup.at.index.push_back(IndexOf(at));
      }
      Widen("an index that is negative counts from the end");
    } else {
      const Buffer& temp = BufferOf(by.buffer);
      if (temp.writers != 1 || temp.writer == nullptr || temp.view != by.view) return false;
      const Stage& writer = *temp.writer;
      const std::optional<std::vector<int>> dims = PlainWrite(writer);
      if (!dims || writer.rank() != writer.parallel_rank || writer.reads.size() != 1 || !writer.finish.empty()) {
        return false;
      }
      const Access& source = writer.reads[0];
      if (source.buffer.kind != BufferKind::kInput || source.guarded ||
          !CountsFromTheEnd(writer.body, compute_.BufferType(source.buffer).dtype, extent)) {
        return false;
      }
      Substitution axes;
      for (int dim : *dims) axes.push_back(dim < 0 ? RuleIndex{} : IndexOf(by.index[dim]));
      for (const IndexExpr& at : by.index) {
        if (at.read >= 0) return false;
      }
      lookup.input = source.buffer.index;
      lookup.at.view = source.view;
      for (const IndexExpr& at : source.index) lookup.at.index.push_back(Substituted(IndexOf(at), axes));
    }
    index.lookup = static_cast<int>(clause.lookups.size());
    clause.lookups.push_back(std::move(lookup));
    return true;
  }

  // `extents` are those of the axes that the access may use.
  Resolved Resolve(const Stage& stage, const Access& access, std::span<const int64_t> extents) {
    Resolved resolved;
    Clause& clause = resolved.clause;
    clause.extents.assign(extents.begin(), extents.end());
    for (size_t axis = 0; axis < extents.size(); ++axis) clause.out.index.push_back(Variable(static_cast<int>(axis)));
    clause.in.view = access.view;
    for (size_t d = 0; d < access.index.size(); ++d) {
      const IndexExpr& expr = access.index[d];
      const int64_t extent = access.view[static_cast<int>(d)];
      RuleIndex index;
      if (expr.read < 0) {
        index = IndexOf(expr);
      } else {
        const Access& by = stage.reads[expr.read];
        const bool is_table = by.buffer.kind == BufferKind::kTable;
        if (!is_table) resolved.chosen_by.push_back(expr.read);
        const bool done = is_table ? ResolveTable(stage, by, expr, extent, index, clause)
                                   : ResolveLookup(by, expr, extent, index, clause);
        if (!done) {
          Widen("stage '" + stage.name + "': an index that is computed");
          index = Variable(static_cast<int>(clause.extents.size()));
          clause.extents.push_back(extent);
        }
      }
      clause.in.index.push_back(std::move(index));
    }
    return resolved;
  }

  // Variables from `axes` on, which are the access's own, run through all their values.
  static void Generalise(Condition& condition, size_t axes, std::span<const int64_t> extents) {
    Substitution by;
    for (size_t v = 0; v < extents.size(); ++v) {
      if (v < axes) {
        by.push_back(Variable(static_cast<int>(v)));
      } else {
        by.push_back(Variable(kExtra + static_cast<int>(condition.test.extents.size())));
        condition.test.extents.push_back(extents[v]);
      }
    }
    condition.test = Substituted(std::move(condition.test), by);
  }

  // The condition with the dimensions that are looked up at any index.
  static Condition AtAnyIndex(Condition condition) {
    for (size_t d = 0; d < condition.test.at.index.size(); ++d) {
      RuleIndex& index = condition.test.at.index[d];
      if (index.lookup < 0) continue;
      index = Variable(kExtra + static_cast<int>(condition.test.extents.size()));
      condition.test.extents.push_back(condition.test.at.view[static_cast<int>(d)]);
    }
    condition.lookups.clear();
    return condition;
  }

  Read ReadOf(const Stage& stage, const Access& access, std::span<const int64_t> extents) {
    Read read;
    if (access.buffer.kind == BufferKind::kTable) return read;
    Resolved resolved = Resolve(stage, access, extents);
    read.chosen_by = resolved.chosen_by;
    const Clause& clause = resolved.clause;
    const DType type = compute_.BufferType(access.buffer).dtype;
    const bool leaves = MayLeave(access, extents);
    if (access.buffer.kind == BufferKind::kInput) {
      read.clauses.push_back(clause);
      read.clauses.back().input = access.buffer.index;
      for (int value = 0; value <= (IsBool(type) ? 1 : 0); ++value) {
        // Where it is out of range the element is `fill`, and the condition counts as satisfied. An extreme that is
        // never taken is as good as absent.
        const bool absent = stage.combiner == Combiner::kMax || stage.combiner == Combiner::kMin
                                ? access.fill == IdentityAsDouble(stage) && stage.reads.size() == 1
                                : false;
        if (leaves && access.fill != value && !absent) continue;
        Condition condition;
        condition.test.input = access.buffer.index;
        condition.test.value = value;
        condition.test.at = clause.in;
        condition.lookups = clause.lookups;
        condition.result = {.f = static_cast<double>(value), .i = value};
        Generalise(condition, extents.size(), clause.extents);
        if (!read.chosen_by.empty()) read.whatever.push_back(AtAnyIndex(condition));
        read.conditions.push_back(std::move(condition));
      }
    } else {
      Buffer& buffer = BufferOf(access.buffer);
      for (const Clause& inner : buffer.clauses) {
        if (std::optional<Clause> joint = tessera::Join(clause, inner, widened_)) {
          read.clauses.push_back(*std::move(joint));
        }
      }
      const bool same_view = buffer.view == access.view;
      for (const Condition& inner : buffer.conditions) {
        if (!same_view || !read.chosen_by.empty()) break;
        if (leaves && !SameElement(inner.result, type, access.fill)) continue;
        Condition condition = inner;
        condition.test = Substituted(std::move(condition.test), clause.in.index);
        for (Lookup& lookup : condition.lookups) lookup.at = Substituted(std::move(lookup.at), clause.in.index);
        Generalise(condition, extents.size(), clause.extents);
        read.conditions.push_back(std::move(condition));
      }
    }
    return read;
  }

  static double IdentityAsDouble(const Stage& stage) {
    const DType type = stage.body.result_type();
    const ScalarValue value = Identity(stage.combiner, type);
    return IsFloat(type) ? value.f : static_cast<double>(value.i);
  }

  // ---- Bodies ----

  // Conditions to try, each once.
  static void AddCandidates(std::vector<Condition>& candidates, const std::vector<Condition>& more) {
    for (const Condition& condition : more) {
      const bool known = std::any_of(candidates.begin(), candidates.end(), [&](const Condition& other) {
        return other.test == condition.test && other.lookups == condition.lookups;
      });
      if (!known) candidates.push_back(condition);
    }
  }

  // What is known of a value when `candidate` is satisfied.
  static std::optional<ScalarValue> ValueUnder(const Condition& candidate, const std::vector<Condition>& conditions) {
    for (const Condition& condition : conditions) {
      if (Implies(candidate, condition)) return condition.result;
    }
    return std::nullopt;
  }

  // Does the condition speak of one of the axes from `begin` to `end`?
  static bool UsesAxes(const Condition& condition, int begin, int end) {
    for (int axis = begin; axis < end; ++axis) {
      if (Uses(condition.test.at, axis)) return true;
    }
    return false;
  }
  static bool LooksUpAxes(const Condition& condition, int begin, int end) {
    for (const Lookup& lookup : condition.lookups) {
      for (int axis = begin; axis < end; ++axis) {
        if (Uses(lookup.at, axis)) return true;
      }
    }
    return false;
  }

  // The condition at each (any = false) or at some reduced point. nullopt where that is not of its form.
  static std::optional<Condition> Quantified(const Stage& stage, Condition condition, bool any) {
    const int begin = stage.parallel_rank, end = stage.rank();
    if (LooksUpAxes(condition, begin, end)) return std::nullopt;
    if (!UsesAxes(condition, begin, end)) return condition;
    if (!condition.test.extents.empty() && condition.test.any != any) return std::nullopt;
    Substitution by;
    for (int axis = 0; axis < end; ++axis) {
      by.push_back(Variable(axis));
      if (axis < begin || !Uses(condition.test.at, axis)) continue;
      by.back() = Variable(kExtra + static_cast<int>(condition.test.extents.size()));
      condition.test.extents.push_back(stage.extents[axis]);
    }
    condition.test.any = any;
    condition.test = Substituted(std::move(condition.test), by);
    return condition;
  }

  // The value of the combination is `value` whatever the other points give.
  bool Absorbs(const Stage& stage, ScalarValue value) const {
    const DType type = stage.body.result_type();
    const bool zero = SameElement(value, type, 0);
    switch (stage.combiner) {
      case Combiner::kMul: return zero;
      case Combiner::kAnd: return zero;
      case Combiner::kOr: return IsBool(type) && value.i != 0;
      case Combiner::kMin: {
        // Nothing is below 0 when all that is combined is unsigned as it is stored.
        if (IsFloat(type) || !zero) return false;
        const PartialValue any = EvaluatePartially(
            stage.body, std::vector<std::optional<ScalarValue>>(stage.reads.size()), StoredTypes(stage.reads));
        return IsUnsigned(type) || (any.ranged && any.low >= 0);
      }
      default: return false;
    }
  }

  // The combination is `value` when each point gives it.
  static bool Keeps(const Stage& stage, ScalarValue value) {
    switch (stage.combiner) {
      case Combiner::kNone: return true;
      case Combiner::kAdd: return SameElement(value, stage.body.result_type(), 0);
      case Combiner::kMul: return false;
      default: return true;
    }
  }

  std::vector<DType> StoredTypes(const std::vector<Access>& reads) const {
    std::vector<DType> types;
    for (const Access& access : reads) types.push_back(compute_.BufferType(access.buffer).dtype);
    return types;
  }

  // ---- Stages ----

  // A read of the body or the finish that reaches the result, and what stops it.
  struct Reaching {
    const Read* read;
    std::vector<Condition> unless;
  };

  void Derive(const Stage& stage) {
    const bool has_points = stage.reduced_points() > 0;
    std::vector<Read> reads, finish_reads;
    const std::span<const int64_t> axes(stage.extents);
    if (has_points) {
      for (const Access& access : stage.reads) reads.push_back(ReadOf(stage, access, axes));
    }
    for (const Access& access : stage.finish_reads) {
      finish_reads.push_back(ReadOf(stage, access, axes.first(static_cast<size_t>(stage.parallel_rank))));
    }

    std::vector<Reaching> reaching;           // of the body
    std::vector<Condition> combined, result;  // of the combined value and of what is stored
    if (has_points) DeriveBody(stage, reads, reaching, combined);
    if (stage.finish.empty()) {
      result = std::move(combined);
    } else {
      DeriveFinish(stage, finish_reads, combined, reaching, result);
    }

    Buffer& buffer = BufferOf(stage.write.buffer);
    RuleAccess out = {.view = stage.write.view, .index = {}};
    for (const IndexExpr& expr : stage.write.index) out.index.push_back(IndexOf(expr));
    for (const Reaching& r : reaching) {
      for (Clause clause : r.read->clauses) {
        const Substitution axes = clause.out.index;
        clause.out = Substituted(out, axes);
        for (Condition condition : r.unless) {
          condition.test = Substituted(std::move(condition.test), axes);
          for (Lookup& lookup : condition.lookups) lookup.at = Substituted(std::move(lookup.at), axes);
          // An element that is among those that stop it is known then anyway.
          Condition self;
          self.test.input = clause.input;
          self.test.value = condition.test.value;
          self.test.at = clause.in;
          self.lookups = clause.lookups;
          const bool several = condition.test.any && !condition.test.extents.empty();
          if (!several && Implies(condition, self)) continue;
          AddUnless(clause, condition);
        }
        buffer.clauses.push_back(std::move(clause));
      }
    }
    Simplify(buffer.clauses);
    KeepConditions(stage, std::move(result), buffer);
  }

  void KeepConditions(const Stage& stage, std::vector<Condition> conditions, Buffer& buffer) {
    buffer.view = stage.write.view;
    buffer.writer = &stage;
    const std::optional<std::vector<int>> dims = PlainWrite(stage);
    if (!dims || buffer.writers != 1) return;
    Substitution by;
    for (int dim : *dims) by.push_back(dim < 0 ? RuleIndex{} : Variable(dim));
    const DType stored = compute_.BufferType(stage.write.buffer).dtype;
    for (Condition& condition : conditions) {
      if (!SameElement(condition.result, stage.result_type(), 0) && !IsBool(stored)) continue;
      condition.test = Substituted(std::move(condition.test), by);
      for (Lookup& lookup : condition.lookups) lookup.at = Substituted(std::move(lookup.at), by);
      buffer.conditions.push_back(std::move(condition));
    }
  }

  void DeriveBody(const Stage& stage, const std::vector<Read>& reads, std::vector<Reaching>& reaching,
                  std::vector<Condition>& combined) {
    const std::vector<DType> stored = StoredTypes(stage.reads);
    const std::vector<std::optional<ScalarValue>> nothing(reads.size());
    const PartialValue whole = EvaluatePartially(stage.body, nothing, stored);
    std::vector<Condition> candidates;
    for (const Read& read : reads) {
      AddCandidates(candidates, read.conditions);
      AddCandidates(candidates, read.whatever);
    }
    // Reads that reach the result, each by itself or as the index of one that does.
    struct Use {
      size_t read;
      int chooses;  // the read that it is an index of, or -1
    };
    std::vector<Use> uses;
    for (size_t r = 0; r < reads.size(); ++r) {
      if (!whole.inputs.test(r < kMaxPartialInputs ? r : 0)) continue;
      uses.push_back({r, -1});
      for (int by : reads[r].chosen_by) uses.push_back({static_cast<size_t>(by), static_cast<int>(r)});
    }
    for (const Use& use : uses) reaching.push_back({&reads[use.read], {}});

    std::vector<Condition> absorbing;
    for (const Condition& candidate : candidates) {
      std::vector<std::optional<ScalarValue>> known(reads.size());
      for (size_t r = 0; r < reads.size(); ++r) known[r] = ValueUnder(candidate, reads[r].conditions);
      // A read that the candidate fixes may itself be what matters: without it.
      for (size_t u = 0; u < uses.size(); ++u) {
        const size_t r = uses[u].chooses >= 0 ? static_cast<size_t>(uses[u].chooses) : uses[u].read;
        const std::optional<ScalarValue> own = std::exchange(known[r], std::nullopt);
        const bool reached = EvaluatePartially(stage.body, known, stored).inputs.test(r < kMaxPartialInputs ? r : 0);
        known[r] = own;
        const bool whatever = uses[u].chooses >= 0 && ValueUnder(candidate, reads[r].whatever).has_value();
        if (!reached || whatever) reaching[u].unless.push_back(candidate);
      }
      const PartialValue value = EvaluatePartially(stage.body, known, stored);
      if (!value.known) continue;
      if (stage.reduced_points() > 1 && Absorbs(stage, *value.known)) {
        if (std::optional<Condition> some = Quantified(stage, candidate, true)) {
          some->result = *value.known;
          absorbing.push_back(*some);
          combined.push_back(*std::move(some));
        }
      }
      if (Keeps(stage, *value.known)) {
        if (std::optional<Condition> each = Quantified(stage, candidate, false)) {
          each->result = *value.known;
          combined.push_back(*std::move(each));
        }
      }
    }
    for (Reaching& r : reaching) r.unless.insert(r.unless.end(), absorbing.begin(), absorbing.end());
  }

  void DeriveFinish(const Stage& stage, const std::vector<Read>& finish_reads, const std::vector<Condition>& combined,
                    std::vector<Reaching>& reaching, std::vector<Condition>& result) {
    std::vector<DType> stored = StoredTypes(stage.finish_reads);
    stored.insert(stored.begin(), stage.body.result_type());
    std::vector<std::optional<ScalarValue>> known(stored.size());
    const PartialValue whole = EvaluatePartially(stage.finish, known, stored);
    const auto reaches = [](const PartialValue& value, size_t k) {
      return value.inputs.test(k < kMaxPartialInputs ? k : 0);
    };
    if (!reaches(whole, 0)) reaching.clear();
    const size_t of_body = reaching.size();
    std::vector<size_t> number(of_body, 0);  // the finish's input behind each of `reaching`
    for (size_t k = 1; k < stored.size(); ++k) {
      if (!reaches(whole, k)) continue;
      reaching.push_back({&finish_reads[k - 1], {}});
      number.push_back(k);
    }
    std::vector<Condition> candidates;
    AddCandidates(candidates, combined);
    for (const Read& read : finish_reads) AddCandidates(candidates, read.conditions);
    for (const Condition& candidate : candidates) {
      known[0] = ValueUnder(candidate, combined);
      for (size_t k = 1; k < stored.size(); ++k) known[k] = ValueUnder(candidate, finish_reads[k - 1].conditions);
      for (size_t k = 0; k < stored.size(); ++k) {
        const std::optional<ScalarValue> own = std::exchange(known[k], std::nullopt);
        const bool reached = reaches(EvaluatePartially(stage.finish, known, stored), k);
        known[k] = own;
        if (reached) continue;
        for (size_t r = 0; r < reaching.size(); ++r) {
          if (number[r] == k) reaching[r].unless.push_back(candidate);
        }
      }
      const PartialValue value = EvaluatePartially(stage.finish, known, stored);
      if (!value.known) continue;
      result.push_back(candidate);
      result.back().result = *value.known;
    }
  }

  const Compute& compute_;
  std::vector<std::string>* widened_;
  std::vector<Buffer> outputs_, temps_;
};

}  // namespace

Rule RuleOf(std::string name, const Compute& compute, std::vector<std::string>* widened) {
  Rule rule;
  rule.name = std::move(name);
  rule.inputs = compute.inputs;
  rule.outputs = compute.outputs;
  rule.clauses = Deriver(compute, widened).Run();
  return Canonical(std::move(rule));
}

}  // namespace tessera
