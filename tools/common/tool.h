// RunTool: what every command line does around its own work: arguments in, errors and exit status out.
//
//   int main(int argc, char** argv) { return tessera::RunTool(argc, argv, tessera::ConvertVerb); }
//
// A verb takes the arguments after the program's name and returns a Status. An error is printed to stderr as one line
// `TES-1001: …`, never with a stack trace, and becomes the exit status: 1 bad input or a missing device, 2 bad usage
// (TES-2xxx), 3 a wrong result (TES-4xxx). Running out of memory anywhere is TES-3002. Results go to stdout, which is
// flushed and checked at the end: a full disk is an error too. Tested by tool_test.cc.
#ifndef TESSERA_TOOLS_COMMON_TOOL_H_
#define TESSERA_TOOLS_COMMON_TOOL_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tessera {

using Verb = Status (*)(const std::vector<std::string>& args);

int RunTool(int argc, char** argv, Verb verb);
// The same with the arguments already taken apart.
int RunWithStatus(const std::vector<std::string>& args, Verb verb);

// 0, 1, 2 or 3, as said above.
int ExitStatusOf(const Status& status);

// Writes to stdout, whole.
void PrintOut(std::string_view text);
// A line to stderr: what is going on, for people. Nothing while `--quiet` or before a timed region matters.
void PrintNote(std::string_view text);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_TOOL_H_
