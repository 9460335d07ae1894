// tessera VERB ARGUMENTS…: all tools in one program, as they are installed.
#include <algorithm>

#include "tools/common/flags.h"
#include "tools/common/tool.h"
#include "tools/verbs.h"

namespace tessera {
namespace {

struct VerbRow {
  std::string name, doc;
  Verb verb;
};

const VerbRow kVerbs[] = {
#define TES_VERB(name, text, doc) {text, doc, name##Verb},
#include "tools/verbs.def"
#undef TES_VERB
};

std::string Help() {
  std::string text = "usage: tessera VERB [arguments]\n\nVerbs:\n";
  for (const VerbRow& row : kVerbs) text += "  " + row.name + std::string(10 - row.name.size(), ' ') + row.doc + "\n";
  return text + "\n`tessera VERB --help` says more; `tessera bench zoo:` lists the models that need no file.\n";
}

Status Tessera(const std::vector<std::string>& args) {
  if (args.empty()) return Error(ErrorCode::kUsageInvalid, "no verb given\n\n", Help());
  if (args[0] == "--help" || args[0] == "-h" || args[0] == "help") {
    PrintOut(Help());
    return OkStatus();
  }
  std::vector<std::string> names;
  for (const VerbRow& row : kVerbs) {
    if (row.name == args[0]) return row.verb(std::vector<std::string>(args.begin() + 1, args.end()));
    names.push_back(row.name);
  }
  const std::string nearest = Nearest(args[0], names);
  return Error(ErrorCode::kUsageInvalid, "there is no verb '", args[0], "'",
               nearest.empty() ? "; `tessera --help` lists them" : "; did you mean '" + nearest + "'?");
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) { return tessera::RunTool(argc, argv, tessera::Tessera); }
