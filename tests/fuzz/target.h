// A fuzz target: what a file in tests/fuzz defines, for libFuzzer and for our own short replay alike.
//
//   extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)     // never crashes, always returns 0
//   std::vector<std::string> Seeds()                                            // good inputs to start from
//
// As a test (replay_main.cc) each target runs its seeds and random damage to them for a few seconds, seeded, the same
// on every machine but for how far it comes. As a fuzzer it is built by Clang and runs for as long as one likes:
//   bazel run --config=clang --config=asan //tests/fuzz:model_file_fuzzer -- -max_total_time=600
// A crash that either finds becomes a case of the unit test beside the code at fault.
#ifndef TESSERA_TESTS_FUZZ_TARGET_H_
#define TESSERA_TESTS_FUZZ_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tessera {

std::vector<std::string> Seeds();

}  // namespace tessera

#endif  // TESSERA_TESTS_FUZZ_TARGET_H_
