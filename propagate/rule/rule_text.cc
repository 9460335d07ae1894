// The text form of rules, both ways:
//
//   rule conv: f32[2,3,9,9], f32[4,3,3,3] -> f32[2,4,5,5]
//     out0[a,b,c,d] <- in0[a,e,2*c+f-1,2*d+g-1] for f < 3, g < 3  unless in1[b,e,f,g] = 0
//     out0[a,*] <- in2:[2,6][a,b] for b in table(a) {0:1, 2:4+5:6}  unless in0[a,*] = 0 or in0[c,d] = 0 for any c, d <
//     2 out0[a,b] <- in0[value in1[a],b]
//
// Variables are named in order of appearance, which is their order in a canonical rule. A variable that stands alone
// on some axis of the clause runs over that axis (the smallest, if several) unless `for` says otherwise; one that is
// used nowhere else is `*`. In an annihilator `*` is every element along that axis. Tested by rule_test.cc.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstddef>
#include <map>

#include "propagate/rule/rule.h"

namespace tessera {
namespace {

std::string VariableName(int variable) {
  return variable < 26 ? std::string(1, static_cast<char>('a' + variable)) : "v" + std::to_string(variable);
}

bool IsPlain(const RuleIndex& index) {
  return index.lookup < 0 && index.offset == 0 && index.terms.size() == 1 && index.terms[0].coefficient == 1;
}

// What the text implies without `for`: the smallest axis on which a variable stands alone; -1 where on none.
void AddImplied(const RuleAccess& access, std::vector<int64_t>& implied) {
  for (size_t d = 0; d < access.index.size(); ++d) {
    if (!IsPlain(access.index[d])) continue;
    int64_t& extent = implied[access.index[d].terms[0].variable];
    const int64_t axis = access.view[static_cast<int>(d)];
    extent = extent < 0 ? axis : std::min(extent, axis);
  }
}

void CountUses(const RuleAccess& access, std::vector<int>& uses) {
  for (const RuleIndex& index : access.index) {
    for (const RuleIndex::Term& term : index.terms) ++uses[term.variable];
  }
}

class ClausePrinter {
 public:
  ClausePrinter(const Rule& rule, const Clause& clause) : rule_(rule), clause_(clause) {}

  std::string Print() {
    const size_t n = clause_.extents.size();
    implied_.assign(n, -1);
    uses_.assign(n, 0);
    AddImplied(clause_.out, implied_);
    AddImplied(clause_.in, implied_);
    CountUses(clause_.out, uses_);
    CountUses(clause_.in, uses_);
    for (const Lookup& lookup : clause_.lookups) {
      AddImplied(lookup.at, implied_);
      for (int times = 0; times < 2; ++times) CountUses(lookup.at, uses_);  // may be printed more than once
    }
    for (const Link& link : clause_.links) uses_[link.from] += 2, uses_[link.to] += 2;
    for (const Annihilator& unless : clause_.unless) {
      std::vector<int> uses(n + unless.extents.size(), 0);
      CountUses(unless.at, uses);
      for (size_t v = 0; v < n; ++v) uses_[v] += uses[v];
    }
    int named = 0;
    for (size_t v = 0; v < n; ++v) names_.push_back(IsStar(static_cast<int>(v)) ? "*" : VariableName(named++));
    std::string text = AccessText("out", clause_.output, rule_.outputs[clause_.output].shape, clause_.out);
    text += " <- " + AccessText("in", clause_.input, rule_.inputs[clause_.input].shape, clause_.in);
    text += ForText();
    for (size_t k = 0; k < clause_.unless.size(); ++k) {
      text += (k == 0 ? "  unless " : " or ") + UnlessText(clause_.unless[k]);
    }
    return text;
  }

 private:
  // A variable that nothing but this plain use of a whole axis says anything about.
  bool IsStar(int variable) const {
    return uses_[variable] == 1 && Extent(variable) == implied_[variable] &&
           (own_ == nullptr || (variable >= static_cast<int>(clause_.extents.size()) && !own_->any));
  }
  int64_t Extent(int variable) const {
    const int n = static_cast<int>(clause_.extents.size());
    return variable < n ? clause_.extents[variable] : own_->extents[variable - n];
  }

  // In front of `for`? If not, `for` is where it gets its place among the variables.
  bool Appeared(int variable) const {
    std::vector<int> uses(clause_.extents.size(), 0);
    for (const RuleAccess* access : {&clause_.out, &clause_.in}) {
      CountUses(*access, uses);
      for (const RuleIndex& index : access->index) {
        if (index.lookup >= 0) CountUses(clause_.lookups[index.lookup].at, uses);
      }
    }
    return uses[variable] > 0;
  }

  std::string ForText() const {
    std::string text;
    for (int v = 0; v < static_cast<int>(clause_.extents.size()); ++v) {
      if (clause_.extents[v] == implied_[v] && Appeared(v)) continue;
      text += (text.empty() ? " for " : ", ") + names_[v] + " < " + std::to_string(clause_.extents[v]);
    }
    for (const Link& link : clause_.links) {
      text += (text.empty() ? " for " : ", ") + names_[link.to] + " in table(" + names_[link.from] + ") {";
      for (size_t x = 0; x < link.runs.size(); ++x) {
        if (x > 0) text += ", ";
        if (link.runs[x].empty()) text += "-";
        for (size_t r = 0; r < link.runs[x].size(); ++r) {
          const auto& [low, high] = link.runs[x][r];
          text += (r > 0 ? "+" : "") + std::to_string(low) + ":" + std::to_string(high);
        }
      }
      text += "}";
    }
    return text;
  }

  std::string UnlessText(const Annihilator& unless) {
    own_ = &unless;
    const size_t n = clause_.extents.size();
    implied_.resize(n + unless.extents.size(), -1);
    uses_.resize(n + unless.extents.size(), 0);
    std::vector<int64_t> implied(implied_.size(), -1);
    std::vector<int> uses(uses_.size(), 0);
    AddImplied(unless.at, implied);
    CountUses(unless.at, uses);
    std::copy(implied.begin() + n, implied.end(), implied_.begin() + n);
    std::copy(uses.begin() + n, uses.end(), uses_.begin() + n);
    int named = static_cast<int>(std::count_if(names_.begin(), names_.end(), [](auto& name) { return name != "*"; }));
    for (size_t k = 0; k < unless.extents.size(); ++k) {
      names_.push_back(IsStar(static_cast<int>(n + k)) ? "*" : VariableName(named++));
    }
    std::string text = AccessText("in", unless.input, rule_.inputs[unless.input].shape, unless.at);
    text += " = " + std::to_string(unless.value);
    std::string list;
    for (size_t k = 0; k < unless.extents.size(); ++k) {
      const int v = static_cast<int>(n + k);
      if (IsStar(v)) continue;
      list += (list.empty() ? "" : ", ") + names_[v];
      if (unless.extents[k] != implied_[v]) list += " < " + std::to_string(unless.extents[k]);
    }
    if (unless.any) {
      text += list.empty() ? " for any" : " for any " + list;
    } else if (!list.empty()) {
      text += " for all " + list;
    }
    implied_.resize(n);
    uses_.resize(n);
    names_.resize(n);
    own_ = nullptr;
    return text;
  }

  std::string AccessText(const char* kind, int number, const Shape& shape, const RuleAccess& access) const {
    std::string text = kind + std::to_string(number);
    if (access.view != shape) text += ":" + access.view.ToString();
    text += "[";
    for (size_t d = 0; d < access.index.size(); ++d) text += (d > 0 ? "," : "") + IndexText(access.index[d]);
    return text + "]";
  }

  std::string IndexText(const RuleIndex& index) const {
    std::string text;
    if (index.lookup >= 0) {
      const Lookup& lookup = clause_.lookups[index.lookup];
      text = "value " + AccessText("in", lookup.input, rule_.inputs[lookup.input].shape, lookup.at);
    }
    const auto sign = [&](bool negative) { text += negative ? "-" : text.empty() ? "" : "+"; };
    for (const RuleIndex::Term& term : index.terms) {
      sign(term.coefficient < 0);
      const int64_t magnitude = std::abs(term.coefficient);
      if (magnitude != 1) text += std::to_string(magnitude) + "*";
      text += names_[term.variable];
    }
    if (index.offset != 0 || text.empty()) {
      sign(index.offset < 0);
      text += std::to_string(std::abs(index.offset));
    }
    return text;
  }

  const Rule& rule_;
  const Clause& clause_;
  const Annihilator* own_ = nullptr;  // the annihilator being printed
  std::vector<int64_t> implied_;
  std::vector<int> uses_;
  std::vector<std::string> names_;  // "*", or the next letter
};

std::string NameText(const std::string& name) {
  const auto plain = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.'; };
  if (!name.empty() && std::all_of(name.begin(), name.end(), plain)) return name;
  std::string text = "\"";
  for (const char c : name) {
    if (c == '\n') {
      text += "\\n";
    } else {
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
  }
  return text + "\"";
}

// Reads the form above. Every function leaves `at_` behind what it read; the first error stays.
class RuleParser {
 public:
  explicit RuleParser(std::string_view text) : text_(text) {}

  StatusOr<Rule> Parse() {
    RETURN_IF_ERROR(Need("rule"));
    RETURN_IF_ERROR(Name(rule_.name));
    RETURN_IF_ERROR(Need(":"));
    if (!Peek("->")) RETURN_IF_ERROR(Types(rule_.inputs));
    RETURN_IF_ERROR(Need("->"));
    if (!Peek("out") && !AtEnd()) RETURN_IF_ERROR(Types(rule_.outputs));
    while (!AtEnd()) RETURN_IF_ERROR(ReadClause());
    RETURN_IF_ERROR(rule_.Verify());
    return std::move(rule_);
  }

 private:
  template <typename... Pieces>
  Status Fail(const Pieces&... pieces) const {
    const size_t line = 1 + std::count(text_.begin(), text_.begin() + at_, '\n');
    return Error(ErrorCode::kTextInvalid, "rule text, line ", line, ": ", pieces..., ", found '", text_.substr(at_, 20),
                 "'");
  }
  void Skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool AtEnd() { return Skip(), at_ == text_.size(); }
  bool Peek(std::string_view word) { return Skip(), text_.substr(at_).starts_with(word); }
  bool Take(std::string_view word) {
    if (!Peek(word)) return false;
    const size_t end = at_ + word.size();
    if (std::isalpha(static_cast<unsigned char>(word.back())) && end < text_.size() &&
        (std::isalnum(static_cast<unsigned char>(text_[end])) || text_[end] == '_')) {
      return false;  // the beginning of a longer word
    }
    at_ = end;
    return true;
  }
  Status Need(std::string_view word) { return Take(word) ? OkStatus() : Fail("expected '", word, "'"); }
  bool AtDigit() { return Skip(), at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])); }

  Status Number(int64_t& value) {
    if (!AtDigit()) return Fail("expected a number");
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc()) return Fail("expected a smaller number");
    at_ = end - text_.data();
    return OkStatus();
  }
  Status SmallNumber(int& value) {
    int64_t number;
    RETURN_IF_ERROR(Number(number));
    if (number > 1 << 20) return Fail("expected the number of an operand");
    value = static_cast<int>(number);
    return OkStatus();
  }
  Status Word(std::string& word) {
    Skip();
    const size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_')) ++at_;
    word = text_.substr(begin, at_ - begin);
    return word.empty() ? Fail("expected a name") : OkStatus();
  }
  Status Name(std::string& name) {
    if (!Take("\"")) {
      Skip();
      while (at_ < text_.size() &&
             (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_' || text_[at_] == '.')) {
        name += text_[at_++];
      }
      return name.empty() ? Fail("expected the name of an op") : OkStatus();
    }
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\' && ++at_ == text_.size()) break;
      name += text_[at_ - 1] == '\\' && text_[at_] == 'n' ? '\n' : text_[at_];
    }
    return Need("\"");
  }
  Status ReadShape(Shape& shape) {
    RETURN_IF_ERROR(Need("["));
    std::vector<int64_t> dims;
    while (!Take("]")) {
      if (!dims.empty()) RETURN_IF_ERROR(Need(","));
      RETURN_IF_ERROR(Number(dims.emplace_back()));
      if (dims.size() > 64) return Fail("expected at most 64 dimensions");
    }
    shape = Shape(std::move(dims));
    return OkStatus();
  }
  Status Types(std::vector<TensorType>& types) {
    do {
      std::string word;
      RETURN_IF_ERROR(Word(word));
      const std::optional<DType> dtype = ParseDType(word);
      if (!dtype) return Fail("expected a type instead of '", word, "'");
      TensorType& type = types.emplace_back(TensorType{*dtype, {}});
      RETURN_IF_ERROR(ReadShape(type.shape));
      RETURN_IF_ERROR(CheckShape(type.dtype, type.shape));
    } while (Take(","));
    return OkStatus();
  }

  // Names of the clause's variables in order of appearance; an annihilator's own are in scope only there.
  int VariableOf(const std::string& name) {
    for (auto* scope : {&own_names_, &names_}) {
      if (scope == &own_names_ && in_lookup_) continue;  // a lookup uses the clause's variables only
      for (size_t v = 0; v < scope->size(); ++v) {
        if ((*scope)[v] == name) return static_cast<int>(v) + (scope == &own_names_ ? kOwn : 0);
      }
    }
    const bool own = in_unless_ && !in_lookup_;
    auto& scope = own ? own_names_ : names_;
    scope.push_back(name);
    return static_cast<int>(scope.size()) - 1 + (own ? kOwn : 0);
  }

  Status ReadIndex(RuleIndex& index) {
    if (Take("*")) {
      index.terms.push_back({VariableOf("*" + std::to_string(stars_++)), 1});
      return OkStatus();
    }
    bool first = true;
    if (Take("value")) {
      if (in_lookup_) return Fail("expected an index without a lookup in a lookup");
      Lookup lookup;
      in_lookup_ = true;
      RETURN_IF_ERROR(NeedOperand("in"));
      RETURN_IF_ERROR(ReadAccess(rule_.inputs, lookup.input, lookup.at));
      in_lookup_ = false;
      auto& all = clause_.lookups;
      const auto same = std::find(all.begin(), all.end(), lookup);
      index.lookup = static_cast<int>(same - all.begin());
      if (same == all.end()) all.push_back(std::move(lookup));
      first = false;
    }
    while (true) {
      int64_t sign = 1;
      if (Take("-")) {
        sign = -1;
      } else if (!Take("+") && !first) {
        break;
      }
      first = false;
      int64_t factor = 1;
      const bool number = AtDigit();
      if (number) RETURN_IF_ERROR(Number(factor));
      if (number && !Take("*")) {
        if (__builtin_add_overflow(index.offset, sign * factor, &index.offset)) return Fail("the offset overflows");
        continue;
      }
      std::string name;
      RETURN_IF_ERROR(Word(name));
      const int variable = VariableOf(name);
      for (const RuleIndex::Term& term : index.terms) {
        if (term.variable == variable) return Fail("expected '", name, "' once in an index");
      }
      index.terms.push_back({variable, sign * factor});
    }
    return OkStatus();
  }

  // Behind "in" or "out": a number, a view, indices.
  Status ReadAccess(const std::vector<TensorType>& types, int& operand, RuleAccess& access) {
    RETURN_IF_ERROR(SmallNumber(operand));
    if (static_cast<size_t>(operand) >= types.size()) return Fail("operand ", operand, " does not exist");
    access.view = types[operand].shape;
    if (Take(":")) RETURN_IF_ERROR(ReadShape(access.view));
    RETURN_IF_ERROR(Need("["));
    while (!Take("]")) {
      if (!access.index.empty()) RETURN_IF_ERROR(Need(","));
      RETURN_IF_ERROR(ReadIndex(access.index.emplace_back()));
    }
    if (access.index.size() != static_cast<size_t>(access.view.rank())) {
      return Fail("expected ", access.view.rank(), " indices, one for each axis of ", access.view);
    }
    return OkStatus();
  }
  Status NeedOperand(std::string_view word) {
    if (!Peek(word)) return Fail("expected '", word, "'");
    at_ += word.size();
    return OkStatus();
  }

  Status ReadLink(int to) {
    Link link{.to = to};
    std::string from;
    RETURN_IF_ERROR(Need("table"));
    RETURN_IF_ERROR(Need("("));
    RETURN_IF_ERROR(Word(from));
    RETURN_IF_ERROR(Need(")"));
    link.from = VariableOf(from);
    RETURN_IF_ERROR(Need("{"));
    while (!Take("}")) {
      if (!link.runs.empty()) RETURN_IF_ERROR(Need(","));
      auto& row = link.runs.emplace_back();
      if (Take("-")) continue;
      do {
        auto& [low, high] = row.emplace_back();
        RETURN_IF_ERROR(Number(low));
        RETURN_IF_ERROR(Need(":"));
        RETURN_IF_ERROR(Number(high));
      } while (Take("+"));
    }
    clause_.links.push_back(std::move(link));
    return OkStatus();
  }

  Status ReadUnless() {
    Annihilator& unless = clause_.unless.emplace_back();
    in_unless_ = true;
    own_names_.clear();
    RETURN_IF_ERROR(NeedOperand("in"));
    RETURN_IF_ERROR(ReadAccess(rule_.inputs, unless.input, unless.at));
    RETURN_IF_ERROR(Need("="));
    RETURN_IF_ERROR(SmallNumber(unless.value));
    std::map<std::string, int64_t> given;  // own variable -> extent, -1 where implied
    if (Take("for")) {
      unless.any = Take("any");
      if (!unless.any) RETURN_IF_ERROR(Need("all"));
      while (!AtEnd() && !Peek("or ") && !Peek("out")) {
        if (!given.empty()) RETURN_IF_ERROR(Need(","));
        std::string name;
        RETURN_IF_ERROR(Word(name));
        int64_t& extent = given.emplace(name, -1).first->second;
        if (Take("<")) RETURN_IF_ERROR(Number(extent));
        VariableOf(name);
        if (!Peek(",")) break;
      }
    }
    in_unless_ = false;
    // Names that `for` does not list are the clause's, even if they first appear here.
    std::vector<int> number(own_names_.size());
    std::vector<int64_t> extents;
    for (size_t k = 0; k < own_names_.size(); ++k) {
      if (own_names_[k][0] == '*' || given.contains(own_names_[k])) {
        number[k] = kOwn + static_cast<int>(extents.size());
        extents.push_back(given.contains(own_names_[k]) ? given[own_names_[k]] : -1);
      } else {
        const auto found = std::find(names_.begin(), names_.end(), own_names_[k]);
        number[k] = static_cast<int>(found - names_.begin());
        if (found == names_.end()) names_.push_back(own_names_[k]);
      }
    }
    own_names_.clear();
    for (size_t d = 0; d < unless.at.index.size(); ++d) {
      RuleIndex& index = unless.at.index[d];
      for (RuleIndex::Term& term : index.terms) {
        if (term.variable >= kOwn) term.variable = number[term.variable - kOwn];
      }
      if (!IsPlain(index) || index.terms[0].variable < kOwn) continue;
      int64_t& extent = implied_own_[{clause_.unless.size() - 1, index.terms[0].variable - kOwn}];
      const int64_t axis = unless.at.view[static_cast<int>(d)];
      extent = extent == 0 ? axis + 1 : std::min(extent, axis + 1);
    }
    for (size_t k = 0; k < extents.size(); ++k) {
      if (extents[k] < 0) extents[k] = implied_own_[{clause_.unless.size() - 1, static_cast<int>(k)}] - 1;
      if (extents[k] < 0) return Fail("an annihilator's variable stands alone nowhere: say how far it runs");
    }
    unless.extents = std::move(extents);
    return OkStatus();
  }

  Status ReadClause() {
    clause_ = Clause();
    names_.clear();
    implied_own_.clear();
    stars_ = 0;
    std::map<int, int64_t> given;
    RETURN_IF_ERROR(NeedOperand("out"));
    RETURN_IF_ERROR(ReadAccess(rule_.outputs, clause_.output, clause_.out));
    RETURN_IF_ERROR(Need("<-"));
    RETURN_IF_ERROR(NeedOperand("in"));
    RETURN_IF_ERROR(ReadAccess(rule_.inputs, clause_.input, clause_.in));
    if (Take("for")) {
      do {
        std::string name;
        RETURN_IF_ERROR(Word(name));
        const int variable = VariableOf(name);
        if (Take("in")) {
          RETURN_IF_ERROR(ReadLink(variable));
        } else {
          RETURN_IF_ERROR(Need("<"));
          RETURN_IF_ERROR(Number(given[variable]));
        }
      } while (Take(","));
    }
    if (Take("unless")) {
      do {
        RETURN_IF_ERROR(ReadUnless());
      } while (Take("or"));
    }
    return FinishClause(given);
  }

  Status FinishClause(const std::map<int, int64_t>& given) {
    std::vector<int64_t> implied(names_.size(), -1);
    AddImplied(clause_.out, implied);
    AddImplied(clause_.in, implied);
    for (const Lookup& lookup : clause_.lookups) AddImplied(lookup.at, implied);
    for (size_t v = 0; v < names_.size(); ++v) {
      const auto found = given.find(static_cast<int>(v));
      clause_.extents.push_back(found != given.end() ? found->second : implied[v]);
      if (clause_.extents[v] < 0) return Fail("variable '", names_[v], "' stands alone nowhere: say how far it runs");
    }
    const auto ascending = [&](RuleAccess& access) {
      for (RuleIndex& index : access.index) {
        for (RuleIndex::Term& term : index.terms) {
          if (term.variable >= kOwn) term.variable += static_cast<int>(names_.size()) - kOwn;
        }
        std::sort(index.terms.begin(), index.terms.end(), [](auto& a, auto& b) { return a.variable < b.variable; });
      }
    };
    ascending(clause_.out);
    ascending(clause_.in);
    for (Lookup& lookup : clause_.lookups) ascending(lookup.at);
    for (Annihilator& unless : clause_.unless) ascending(unless.at);
    rule_.clauses.push_back(std::move(clause_));
    return OkStatus();
  }

  static constexpr int kOwn = 1 << 20;  // numbers of an annihilator's own variables until the clause is read
  std::string_view text_;
  size_t at_ = 0;
  Rule rule_;
  Clause clause_;
  std::vector<std::string> names_, own_names_;
  std::map<std::pair<size_t, int>, int64_t> implied_own_;  // (annihilator, variable) -> extent + 1
  bool in_unless_ = false, in_lookup_ = false;
  int stars_ = 0;
};

}  // namespace

std::string Rule::ToString() const {
  const Rule rule = Canonical(*this);
  std::string text = "rule " + NameText(name) + ":";
  for (size_t i = 0; i < inputs.size(); ++i) text += (i > 0 ? ", " : " ") + inputs[i].ToString();
  text += " ->";
  for (size_t i = 0; i < outputs.size(); ++i) text += (i > 0 ? ", " : " ") + outputs[i].ToString();
  text += "\n";
  for (const Clause& clause : rule.clauses) text += "  " + ClausePrinter(rule, clause).Print() + "\n";
  return text;
}

StatusOr<Rule> ParseRule(std::string_view text) { return RuleParser(text).Parse(); }

}  // namespace tessera
