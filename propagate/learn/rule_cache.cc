// RuleCache: what was learned, by the name of the box; its text is the rules' own, one witness behind the other.
#include <map>

#include "propagate/learn/learn.h"
#include "propagate/learn/scramble.h"

namespace tessera {

struct RuleCache::State {
  // Relations of one name: such as were learned of operands that broadcast and of such that do not.
  std::map<std::string, std::vector<RuleTemplate>, std::less<>> relations;
};

RuleCache::RuleCache() : state_(std::make_unique<State>()) {}
RuleCache::~RuleCache() = default;
RuleCache::RuleCache(RuleCache&&) noexcept = default;
RuleCache& RuleCache::operator=(RuleCache&&) noexcept = default;

std::optional<Rule> RuleCache::Find(const BlackBox& box) const {
  if (box.name.empty()) return std::nullopt;
  const auto found = state_->relations.find(box.name);
  if (found == state_->relations.end()) return std::nullopt;
  for (const RuleTemplate& relation : found->second) {
    if (std::optional<Rule> rule = relation.Bind(box)) return rule;
  }
  return std::nullopt;
}

StatusOr<Rule> RuleCache::FindOrLearn(const BlackBox& box, const ScrambleOptions& options, ScrambleStats* stats) {
  if (std::optional<Rule> rule = Find(box)) return *std::move(rule);
  ScrambleStats own;
  ASSIGN_OR_RETURN(Learned learned, LearnTemplate(box, options, stats == nullptr ? own : *stats));
  if (!box.name.empty()) state_->relations[box.name].push_back(std::move(learned.relation));
  return std::move(learned.rule);
}

// A relation is one rule or two; "---" ends it.
std::string RuleCache::ToString() const {
  std::string text;
  for (const auto& [name, relations] : state_->relations) {
    for (const RuleTemplate& relation : relations) {
      for (const Rule& witness : relation.witnesses) text += witness.ToString() + "\n";
      text += "---\n";
    }
  }
  return text;
}

Status RuleCache::Parse(std::string_view text) {
  std::map<std::string, std::vector<RuleTemplate>, std::less<>> relations;
  RuleTemplate relation;
  std::string rule;
  const auto finish_rule = [&]() -> Status {
    if (rule.empty()) return OkStatus();
    ASSIGN_OR_RETURN(Rule parsed, ParseRule(rule));
    rule.clear();
    if (!relation.witnesses.empty() && relation.witnesses[0].name != parsed.name) {
      return Error(ErrorCode::kTextInvalid, "cached rules: expected a second rule of '", relation.witnesses[0].name,
                   "' or '---', found one of '", parsed.name, "'");
    }
    if (relation.witnesses.size() == 2) {
      return Error(ErrorCode::kTextInvalid, "cached rules: expected '---' after two rules of '", parsed.name, "'");
    }
    relation.witnesses.push_back(std::move(parsed));
    return OkStatus();
  };
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line == "---") {
      RETURN_IF_ERROR(finish_rule());
      if (!relation.witnesses.empty()) relations[relation.witnesses[0].name].push_back(std::move(relation));
      relation = {};
      continue;
    }
    if (line.substr(0, 5) == "rule ") RETURN_IF_ERROR(finish_rule());
    if (line.empty()) continue;
    rule += std::string(line) + "\n";
  }
  RETURN_IF_ERROR(finish_rule());
  if (!relation.witnesses.empty()) {
    return Error(ErrorCode::kTextInvalid, "cached rules: expected '---' at the end, found none: the file is cut off");
  }
  state_->relations = std::move(relations);
  return OkStatus();
}

}  // namespace tessera
