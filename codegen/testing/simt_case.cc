#include "codegen/testing/simt_case.h"

#include <algorithm>
#include <memory>

#include "codegen/llvm_module.h"
#include "codegen/target.h"
#include "runtime/device.h"

namespace tessera {

StatusOr<std::vector<std::byte>> RunBytes(const SimtCase& c, const std::string& order) {
  ASSIGN_OR_RETURN(const Target target, MakeTarget("simt:nvptx:" + c.chip + order));
  KernelSpec spec;
  spec.family = "probe";
  spec.num_args = static_cast<int>(c.inputs.size()) + 1;
  spec.block_threads = c.threads;
  spec.blocks_per_unit = 1;
  spec.tensor_maps = static_cast<int>(c.tensor_maps.size());
  spec.emit = c.emit;
  const KernelSpec* const specs[] = {&spec};
  const std::string symbols[] = {"probe"};
  ASSIGN_OR_RETURN(std::vector<std::byte> image, CompileKernels(specs, symbols, target));
  auto program = std::make_shared<Program>();
  program->name = "probes";
  program->target = target.name;
  program->kernels = {"probe"};
  const auto owner = std::make_shared<const std::vector<std::byte>>(std::move(image));
  program->images = {{.bytes = *owner, .owner = owner}};
  Step step;
  step.label = "node";
  step.launch = c.launch;
  step.tensor_maps = c.tensor_maps;
  step.launch.x = std::max<int64_t>(1, c.launch.x);
  step.launch.threads = c.threads;
  step.launch.shared_bytes = c.shared_bytes;
  const auto port = [&](const std::string& name, BufferClass kind, int64_t bytes, std::vector<ProgramPort>& ports) {
    const int buffer = static_cast<int>(program->buffers.size());
    program->buffers.push_back(
        {.name = name, .kind = kind, .bytes = bytes, .offset = static_cast<int64_t>(ports.size())});
    ports.push_back({name, {DType::kU8, {bytes}}, buffer});
    step.args.push_back({.buffer = buffer, .writes = kind == BufferClass::kOutput});
  };
  for (size_t k = 0; k < c.inputs.size(); ++k) {
    port("x" + std::to_string(k), BufferClass::kInput, static_cast<int64_t>(c.inputs[k].size()), program->inputs);
  }
  port("y", BufferClass::kOutput, c.output_bytes, program->outputs);
  program->steps.push_back(step);
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, OpenDevice(target.device));
  ASSIGN_OR_RETURN(const std::unique_ptr<Executable> executable,
                   device->Load(program, {.threads = 2, .cache_dir = {}}));
  std::vector<const void*> inputs;
  for (const auto& input : c.inputs) inputs.push_back(input.data());
  std::vector<std::byte> output(static_cast<size_t>(c.output_bytes));
  void* outputs[] = {output.data()};
  RETURN_IF_ERROR(executable->Run(inputs, outputs));
  return output;
}

void ExpectFault(const SimtCase& c, std::initializer_list<const char*> parts) {
  for (const char* order : kOrders) {
    const StatusOr<std::vector<std::byte>> bytes = RunBytes(c, order);
    EXPECT_EQ(ErrorCode::kKernelFaulty, bytes.status().code()) << order << ": " << bytes.status();
    for (const char* part : parts) {
      EXPECT_NE(std::string::npos, bytes.status().message().find(part)) << order << ": " << bytes.status();
    }
  }
}

}  // namespace tessera
