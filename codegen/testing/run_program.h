// RunProgram: a compiled program's outputs, for tests and with no session around it.
//
//   ASSIGN_OR_RETURN(std::vector<Tensor> outputs, RunProgram(compiled.program, "simt:reverse", inputs, 1));
//
// Pure. Tested through its users.
#ifndef TESSERA_CODEGEN_TESTING_RUN_PROGRAM_H_
#define TESSERA_CODEGEN_TESTING_RUN_PROGRAM_H_

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/program.h"
#include "tesa/tensor.h"

namespace tessera {

// `inputs` in the program's order. `device`: as OpenDevice takes it ("host", "simt", "simt:reverse", …).
StatusOr<std::vector<Tensor>> RunProgram(const std::shared_ptr<const Program>& program, std::string_view device,
                                         std::span<const Tensor> inputs, int threads);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TESTING_RUN_PROGRAM_H_
