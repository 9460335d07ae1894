#include "tools/common/tool.h"
#include "tools/verbs.h"

int main(int argc, char** argv) { return tessera::RunTool(argc, argv, tessera::CompileVerb); }
