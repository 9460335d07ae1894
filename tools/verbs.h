// The verbs of verbs.def: each takes the arguments after its name and is all of one command line tool. RunTool
// (common/tool.h) turns what they return into messages and exit statuses. Tested by convert_test.py, compile_test.py,
// inspect_test.py, opt_test.py, run_test.py, bench_test.py, and all of tools/verbs.def by tessera_test.py.
#ifndef TESSERA_TOOLS_VERBS_H_
#define TESSERA_TOOLS_VERBS_H_

#include <string>
#include <vector>

#include "base/status.h"

namespace tessera {

#define TES_VERB(name, text, doc) Status name##Verb(const std::vector<std::string>& args);
#include "tools/verbs.def"
#undef TES_VERB

}  // namespace tessera

#endif  // TESSERA_TOOLS_VERBS_H_
