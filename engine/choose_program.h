// ChooseProgram: which of a file's compiled programs a machine takes.
//
//   RankPrograms({"host:x86-64-v3", "cuda:sm_80", "cuda:sm_90a", "hip:gfx942"}, *MakeTarget("cuda"))    // {2, 1}
//
// Pure functions. Tested by choose_program_test.cc.
#ifndef TESSERA_ENGINE_CHOOSE_PROGRAM_H_
#define TESSERA_ENGINE_CHOOSE_PROGRAM_H_

#include <cstddef>
#include <string>
#include <vector>

#include "codegen/target.h"

namespace tessera {

// The programs, by the names of their targets, that run where `machine` does, the one that asks most of it first. Of a
// processor those whose features it has; of an NVIDIA card those of its chip, then of older ones (not of older chips'
// own variants, "sm_90a"); of an AMD card those of its chip. One that may round to tf32 counts where `machine` says so.
// "host" alone does not say which processor it was; it is tried last.
std::vector<size_t> RankPrograms(const std::vector<std::string>& targets, const Target& machine);

// Does a processor with the features of `machine` ("+avx2,+fma,…") have all that are required?
bool HasFeatures(const std::string& machine, const std::string& required);

}  // namespace tessera

#endif  // TESSERA_ENGINE_CHOOSE_PROGRAM_H_
