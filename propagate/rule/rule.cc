// The invariants of a Rule and the shorthands for writing one. Its normal form is in rule_canonical.cc, its text form
// in rule_text.cc. Tested by rule_test.cc.
#include "propagate/rule/rule.h"

#include <cstddef>

namespace tessera {
namespace {

// Above any network's, and small enough that no sum of products below overflows int64.
constexpr int64_t kMaxExtent = int64_t{1} << 40;
constexpr int64_t kMaxIndex = int64_t{1} << 60;
constexpr size_t kMaxVariables = 64;

// Checks one clause; `where` is what messages begin with.
class ClauseVerifier {
 public:
  ClauseVerifier(const Rule& rule, const Clause& clause, size_t number)
      : rule_(rule), clause_(clause), where_("rule '" + rule.name + "', clause " + std::to_string(number) + ": ") {}

  Status Verify() const {
    RETURN_IF_ERROR(Operand("output", clause_.output, rule_.outputs.size()));
    RETURN_IF_ERROR(Operand("input", clause_.input, rule_.inputs.size()));
    RETURN_IF_ERROR(Extents(clause_.extents, 0));
    RETURN_IF_ERROR(Access("out", clause_.out, rule_.outputs[clause_.output].shape, clause_.extents, true));
    RETURN_IF_ERROR(Access("in", clause_.in, rule_.inputs[clause_.input].shape, clause_.extents, true));
    for (const Lookup& lookup : clause_.lookups) {
      RETURN_IF_ERROR(Operand("input of a lookup", lookup.input, rule_.inputs.size()));
      const TensorType& type = rule_.inputs[lookup.input];
      if (!IsInteger(type.dtype)) return Fail("a lookup reads in", lookup.input, ", which is ", type, ", not integer");
      RETURN_IF_ERROR(Access("lookup", lookup.at, type.shape, clause_.extents, false));
    }
    for (const Annihilator& unless : clause_.unless) {
      RETURN_IF_ERROR(Operand("input of an annihilator", unless.input, rule_.inputs.size()));
      const TensorType& type = rule_.inputs[unless.input];
      if (unless.value != 0 && !(unless.value == 1 && IsBool(type.dtype))) {
        return Fail("an annihilator is 0, or 1 for bool; found ", unless.value, " for ", type);
      }
      RETURN_IF_ERROR(Extents(unless.extents, clause_.extents.size()));
      std::vector<int64_t> extents = clause_.extents;
      extents.insert(extents.end(), unless.extents.begin(), unless.extents.end());
      RETURN_IF_ERROR(Access("annihilator", unless.at, type.shape, extents, true));
    }
    for (const Link& link : clause_.links) RETURN_IF_ERROR(VerifyLink(link));
    return OkStatus();
  }

 private:
  template <typename... Pieces>
  Status Fail(const Pieces&... pieces) const {
    return Error(ErrorCode::kRuleInvalid, where_, pieces...);
  }

  Status Operand(const char* what, int number, size_t count) const {
    if (number >= 0 && static_cast<size_t>(number) < count) return OkStatus();
    return Fail(what, " ", number, " does not exist; the rule has ", count);
  }

  Status Extents(const std::vector<int64_t>& extents, size_t before) const {
    if (extents.size() + before > kMaxVariables) return Fail("more than ", kMaxVariables, " variables");
    for (const int64_t extent : extents) {
      if (extent < 0 || extent > kMaxExtent) return Fail("a variable has the extent ", extent);
    }
    return OkStatus();
  }

  Status Access(const char* what, const RuleAccess& access, const Shape& shape, const std::vector<int64_t>& extents,
                bool lookups) const {
    if (static_cast<size_t>(access.view.rank()) != access.index.size()) {
      return Fail(what, " has ", access.index.size(), " indices for ", access.view);
    }
    int64_t elements = 1;
    for (const int64_t extent : access.view) {
      if (extent < 0 || __builtin_mul_overflow(elements, extent, &elements) || elements > kMaxIndex) {
        return Fail(what, " has the view ", access.view);
      }
    }
    if (elements != shape.num_elements()) {
      return Fail(what, " views ", shape, " as ", access.view, ", which has another number of elements");
    }
    for (const RuleIndex& index : access.index) RETURN_IF_ERROR(Index(what, index, extents, lookups));
    return OkStatus();
  }

  Status Index(const char* what, const RuleIndex& index, const std::vector<int64_t>& extents, bool lookups) const {
    if (index.lookup >= 0 && !lookups) return Fail("a lookup is indexed by a lookup");
    if (index.lookup < -1 || index.lookup >= static_cast<int>(clause_.lookups.size())) {
      return Fail(what, " uses lookup ", index.lookup, " of ", clause_.lookups.size());
    }
    if (index.offset < -kMaxIndex || index.offset > kMaxIndex) return Fail(what, " has the offset ", index.offset);
    int last = -1;
    for (const RuleIndex::Term& term : index.terms) {
      if (term.variable <= last || term.variable >= static_cast<int>(extents.size())) {
        return Fail(what, " uses variable ", term.variable, " of ", extents.size(), ", or not in ascending order");
      }
      int64_t reach;
      if (term.coefficient == 0 || __builtin_mul_overflow(term.coefficient, extents[term.variable] + 1, &reach) ||
          reach < -kMaxIndex / static_cast<int64_t>(kMaxVariables) ||
          reach > kMaxIndex / static_cast<int64_t>(kMaxVariables)) {
        return Fail(what, " has the coefficient ", term.coefficient);
      }
      last = term.variable;
    }
    return OkStatus();
  }

  Status VerifyLink(const Link& link) const {
    const int variables = static_cast<int>(clause_.extents.size());
    if (link.from < 0 || link.from >= variables || link.to < 0 || link.to >= variables || link.from == link.to) {
      return Fail("a link joins variables ", link.from, " and ", link.to, " of ", variables);
    }
    if (static_cast<int64_t>(link.runs.size()) != clause_.extents[link.from]) {
      return Fail("a link has ", link.runs.size(), " rows for ", clause_.extents[link.from], " values");
    }
    for (const auto& row : link.runs) {
      int64_t end = -1;
      for (const auto& [low, high] : row) {
        if (low <= end || low >= high || high > clause_.extents[link.to]) {
          return Fail("a link has the run ", low, ":", high, " of ", clause_.extents[link.to],
                      "; runs are ascending, half-open and apart");
        }
        end = high;
      }
    }
    return OkStatus();
  }

  const Rule& rule_;
  const Clause& clause_;
  std::string where_;
};

}  // namespace

Status Rule::Verify() const {
  for (const auto* types : {&inputs, &outputs}) {
    for (const TensorType& type : *types) {
      if (Status status = CheckShape(type.dtype, type.shape, kMaxIndex); !status.ok()) {
        return status.WithContext("rule '" + name + "'");
      }
    }
  }
  for (size_t i = 0; i < clauses.size(); ++i) RETURN_IF_ERROR(ClauseVerifier(*this, clauses[i], i).Verify());
  return OkStatus();
}

RuleAccess Straight(const Shape& shape, int first) {
  RuleAccess access{.view = shape};
  for (int d = 0; d < shape.rank(); ++d) access.index.push_back(Variable(first + d));
  return access;
}

RuleIndex Variable(int variable, int64_t coefficient, int64_t offset) {
  return RuleIndex{.offset = offset, .terms = {{variable, coefficient}}};
}

}  // namespace tessera
