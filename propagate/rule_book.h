// RuleBook: finds the Transfer of a node: the one place where rules are registered, learned, derived and kept.
//
//   RuleBook book(RuleMode::kLearned);
//   RETURN_IF_ERROR(book.Load(cache_file));            // what earlier runs learned
//   ASSIGN_OR_RETURN(const Transfer* transfer, book.For(graph, node));
//
// learned   scrambling, generalised to a relation; where none fits, instance scrambling of small nodes, and of large
//           ones, which would take hours, the exact rule (Entry::source says so)
// instance  scrambling of each instance, nothing generalised
// exact     the algebra of the op's compute description
//
// A rule written by hand for an op goes before all of these. Transfers live as long as the book. One thread per book.
// Tested by rule_book_test.cc.
#ifndef TESSERA_PROPAGATE_RULE_BOOK_H_
#define TESSERA_PROPAGATE_RULE_BOOK_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "propagate/learn/scramble.h"
#include "propagate/rule/black_box.h"
#include "propagate/rule/rule.h"
#include "propagate/rule/transfer.h"

namespace tessera {

enum class RuleMode : uint8_t { kLearned, kInstance, kExact };
std::string_view Name(RuleMode mode);
StatusOr<RuleMode> ParseRuleMode(std::string_view text);

// A node (with its epilogue) as a callable: its op's reference, its shapes and types.
BlackBox BlackBoxOf(const Graph& graph, const Node& node);

class RuleBook {
 public:
  explicit RuleBook(RuleMode mode = RuleMode::kLearned, ScrambleOptions options = {});
  ~RuleBook();
  RuleBook(RuleBook&&) noexcept;

  // `make` gives the rule for nodes of this op, or nullopt to leave a node to the mode.
  using HandWritten = std::function<std::optional<Rule>(const Graph& graph, const Node& node)>;
  void Register(Op op, HandWritten make);

  // Equal op, parameters, types and shapes share one Transfer.
  StatusOr<const Transfer*> For(const Graph& graph, const Node& node);
  // The same door for an op that is in no table: learned, or in mode kInstance scrambled at this shape.
  StatusOr<const Transfer*> For(const BlackBox& box);

  // What was learned, as text in a file. A file that does not exist is no error; one that is broken is left aside with
  // a warning in the log.
  Status Load(const std::string& path);
  Status Save(const std::string& path) const;

  // Per distinct node that was asked for: its rule, where it came from, what it took. For reports.
  struct Entry {
    std::string name;    // op and parameters
    std::string source;  // "learned", "cached", "scrambled at this shape", "exact", "by hand"
    std::string text;    // of the rule
    ScrambleStats stats;
  };
  std::vector<Entry> Entries() const;
  RuleMode mode() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_RULE_BOOK_H_
