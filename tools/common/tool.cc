#include "tools/common/tool.h"

#include <cstdio>
#include <exception>
#include <new>

namespace tessera {

int ExitStatusOf(const Status& status) {
  if (status.ok()) return 0;
  switch (static_cast<int>(status.code()) / 1000) {
    case 2: return 2;
    case 4: return 3;
    default: return 1;
  }
}

void PrintOut(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void PrintNote(std::string_view text) {
  // Notes and results may share a terminal: keep them in order.
  std::fflush(stdout);
  std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
}

int RunWithStatus(const std::vector<std::string>& args, Verb verb) {
  Status status;
  // Our own code does not throw; the standard library does when memory runs out.
  try {
    status = verb(args);
  } catch (const std::bad_alloc&) {
    status = Error(ErrorCode::kOutOfMemory, "not enough memory for this model on this machine");
  } catch (const std::exception& error) {
    status = Error(ErrorCode::kInternal, "a fault of Tessera itself, please report it: ", error.what());
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    if (status.ok()) status = Error(ErrorCode::kFileUnwritable, "the results could not be written to standard output");
  }
  if (!status.ok()) PrintNote(status.ToString());
  return ExitStatusOf(status);
}

int RunTool(int argc, char** argv, Verb verb) {
  return RunWithStatus(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc), verb);
}

}  // namespace tessera
