#include "codegen/testing/run_program.h"

#include "runtime/device.h"

namespace tessera {

StatusOr<std::vector<Tensor>> RunProgram(const std::shared_ptr<const Program>& program, std::string_view device,
                                         std::span<const Tensor> inputs, int threads) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> opened, OpenDevice(device));
  ASSIGN_OR_RETURN(const std::unique_ptr<Executable> executable, opened->Load(program, {.threads = threads}));
  std::vector<const void*> from;
  for (const Tensor& input : inputs) from.push_back(input.bytes().data());
  std::vector<Tensor> outputs;
  std::vector<void*> to;
  for (const ProgramPort& port : program->outputs) outputs.emplace_back(port.type.dtype, port.type.shape);
  for (Tensor& output : outputs) to.push_back(output.mutable_bytes().data());
  RETURN_IF_ERROR(executable->Run(from, to));
  return outputs;
}

}  // namespace tessera
