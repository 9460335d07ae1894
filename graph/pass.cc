#include "graph/pass.h"

#include <algorithm>
#include <optional>

#include "graph/text.h"
#include "graph/verifier.h"

namespace tessera {
namespace {

Status CheckName(std::string_view name, std::string_view what, std::span<const Pass> passes) {
  const bool known = std::any_of(passes.begin(), passes.end(), [&](const Pass& pass) { return pass.name == name; });
  if (known) return OkStatus();
  std::string names;
  for (const Pass& pass : passes) names += (names.empty() ? "" : ", ") + std::string(pass.name);
  return Error(ErrorCode::kUsageInvalid, what, ": expected one of ", names, ", found '", name, "'");
}

}  // namespace

Status RunPasses(Graph& graph, std::span<const Pass> passes, const PassOptions& options) {
  if (!options.stop_after.empty()) RETURN_IF_ERROR(CheckName(options.stop_after, "stop after", passes));
  const bool print_all = options.print_after == "all", print_changed = options.print_after == "changed";
  if (!options.print_after.empty() && !print_all && !print_changed) {
    RETURN_IF_ERROR(CheckName(options.print_after, "print after", passes));
  }
  if (options.verify) RETURN_IF_ERROR(Verify(graph).WithContext("before the first pass"));
  const PrintOptions print = {.elide = options.elide};
  const bool compare = print_changed && options.out != nullptr;
  std::string before = compare ? PrintGraph(graph, print) : "";
  for (const Pass& pass : passes) {
    RETURN_IF_ERROR(pass.run(graph).WithContext("pass " + std::string(pass.name)));
    // Passes move and replace constants; the data itself is checked where it enters and where it leaves.
    if (options.verify) {
      RETURN_IF_ERROR(Verify(graph, {.data = false}).WithContext("after pass " + std::string(pass.name)));
    }
    if (options.out != nullptr && !options.print_after.empty()) {
      bool wanted = print_all || pass.name == options.print_after;
      if (compare) {
        std::string after = PrintGraph(graph, print);
        wanted = after != before;
        before = std::move(after);
      }
      if (wanted) *options.out << "// after " << pass.name << "\n" << PrintGraph(graph, print);
    }
    if (pass.name == options.stop_after) break;
  }
  return OkStatus();
}

}  // namespace tessera
