// Writes programs for an AMD chip as files that an emulator of its instructions can run and judge: the code objects,
// what every step launches, inputs, and the outputs that must come out. No card is needed, and nothing of Tessera to
// run them (oracle.py).
//
//   write_cases gfx1100 FOLDER product=tests/oracle/product_f16.graph relu=op:relu:7 mlp=zoo:mlp
//
// A case is NAME=SPEC: a random node of an op with a seed, or whatever OpenModel takes; SPEC@EMITTER takes that emitter
// (product_f16.graph@gpu_matmul: on matrix cores where the chip has them, however small the product).
// FOLDER/NAME/case.json describes it (README.md has an example); beside it lie code*.hsaco, constants.bin, input*.bin,
// and for each output what the interpreter says in double and what the same kernels compute on the host (simt). The two
// are compared first: a case that is wrong already on the host is not written.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "codegen/compile.h"
#include "codegen/target.h"
#include "codegen/testing/run_compiled.h"
#include "engine/engine_internal.h"
#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "runtime/drivers/code_object.h"
#include "tesa/testing/close.h"
#include "tools/common/model_source.h"
#include "tools/common/reference.h"

namespace tessera {
namespace {

StatusOr<Graph> BuildCase(const std::string& spec, const Target& target) {
  if (spec.rfind("op:", 0) == 0) {
    const size_t colon = spec.find(':', 3);
    const std::optional<Op> op = FindOp(spec.substr(3, colon == std::string::npos ? colon : colon - 3));
    if (!op) return Error(ErrorCode::kUsageInvalid, "case '", spec, "': expected op:NAME:SEED");
    std::mt19937_64 rng(colon == std::string::npos ? 1 : std::strtoull(spec.c_str() + colon + 1, nullptr, 10));
    return RandomNode(*op, rng).graph;
  }
  ASSIGN_OR_RETURN(OpenedModel opened, OpenModel(spec));
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(std::move(opened.graph)));
  Options options;
  options.target = target.name;
  return OptimizedGraphOf(model, options);
}

class CaseWriter {
 public:
  CaseWriter(std::string folder, const Program& program) : folder_(std::move(folder)), program_(program) {}

  Status Write(const std::string& name, const Target& target, const std::vector<Tensor>& inputs,
               const std::vector<Tensor>& expected, const std::vector<Tensor>& simt, double allowed) {
    std::filesystem::create_directories(folder_);
    json_.BeginObject().Key("format").String("tessera oracle case 1").Key("case").String(name);
    json_.Key("chip").String(target.cpu).Key("wave").Number(target.wave);
    json_.Key("allowed").Number(allowed);
    RETURN_IF_ERROR(WriteCode());
    json_.Key("arena_bytes").Number(program_.memory.arena_bytes);
    json_.Key("constants");
    RETURN_IF_ERROR(WriteFile("constants.bin", program_.constants));
    json_.Key("buffers").BeginArray();
    for (const ProgramBuffer& buffer : program_.buffers) WriteBuffer(buffer);
    json_.EndArray().Key("inputs").BeginArray();
    for (size_t k = 0; k < inputs.size(); ++k) {
      BeginPort(program_.inputs[k], inputs[k]);
      RETURN_IF_ERROR(WriteFile("input" + std::to_string(k) + ".bin", inputs[k].bytes()));
      json_.EndObject();
    }
    json_.EndArray().Key("outputs").BeginArray();
    for (size_t k = 0; k < expected.size(); ++k) {
      BeginPort(program_.outputs[k], simt[k]);
      RETURN_IF_ERROR(WriteFile("simt" + std::to_string(k) + ".bin", simt[k].bytes()));
      json_.Key("expected_dtype").String(tessera::Name(expected[k].dtype())).Key("expected");
      RETURN_IF_ERROR(WriteFile("expected" + std::to_string(k) + ".bin", expected[k].bytes()));
      json_.EndObject();
    }
    json_.EndArray().Key("steps").BeginArray();
    for (const Step& step : program_.steps) WriteStep(step);
    json_.EndArray().EndObject();
    return WriteFileAtomically(folder_ + "/case.json", json_.text() + "\n");
  }

 private:
  Status WriteFile(const std::string& name, std::span<const std::byte> bytes) {
    json_.BeginObject().Key("file").String(name).Key("bytes").Number(bytes.size()).EndObject();
    return WriteFileAtomically(folder_ + "/" + name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  Status WriteCode() {
    json_.Key("code").BeginArray();
    for (size_t k = 0; k < program_.images.size(); ++k) {
      ASSIGN_OR_RETURN(CodeObject object, ReadCodeObject(program_.images[k].bytes, program_.name));
      objects_.push_back(std::move(object));
      RETURN_IF_ERROR(WriteFile("code" + std::to_string(k) + ".hsaco", program_.images[k].bytes));
    }
    json_.EndArray();
    return OkStatus();
  }

  void WriteBuffer(const ProgramBuffer& buffer) {
    constexpr const char* kKinds[] = {"input", "output", "constant", "temp"};  // BufferClass
    json_.BeginObject().Key("name").String(buffer.name).Key("kind").String(kKinds[static_cast<int>(buffer.kind)]);
    json_.Key("bytes").Number(buffer.bytes).Key("offset").Number(buffer.offset).EndObject();
  }

  void BeginPort(const ProgramPort& port, const Tensor& tensor) {
    json_.BeginObject().Key("name").String(port.name).Key("dtype").String(tessera::Name(tensor.dtype()));
    json_.Key("shape").BeginArray();
    for (int i = 0; i < tensor.shape().rank(); ++i) json_.Number(tensor.shape()[i]);
    json_.EndArray().Key("data");
  }

  void WriteStep(const Step& step) {
    const std::string& kernel = program_.kernels[static_cast<size_t>(step.kernel)];
    size_t code = 0;
    while (code + 1 < objects_.size() && objects_[code].Find(kernel) == nullptr) ++code;
    const Launch& launch = step.launch;
    const int64_t per_thread = step.serial ? step.tasks : 1;
    const int64_t threads = per_thread == 0 ? 0 : (step.tasks + per_thread - 1) / per_thread;
    json_.BeginObject().Key("kernel").String(kernel).Key("code").Number(code).Key("node").String(step.label);
    json_.Key("blocks").BeginArray();
    if (launch.by_blocks()) {
      json_.Number(launch.x).Number(launch.y).Number(launch.z);
    } else {
      json_.Number((threads + kTaskBlockThreads - 1) / kTaskBlockThreads).Number(1).Number(1);
    }
    json_.EndArray().Key("threads").Number(launch.by_blocks() ? launch.threads : std::min(threads, kTaskBlockThreads));
    json_.Key("shared_bytes").Number(launch.shared_bytes).Key("args").BeginArray();
    for (const StepArg& arg : step.args) {
      json_.BeginObject().Key("buffer").Number(arg.buffer).Key("offset").Number(arg.offset);
      json_.Key("writes").Bool(arg.writes).EndObject();
    }
    json_.EndArray().Key("values").BeginArray();
    if (!launch.by_blocks()) json_.Number(step.tasks).Number(per_thread);
    json_.EndArray().EndObject();
  }

  const std::string folder_;
  const Program& program_;
  std::vector<CodeObject> objects_;
  JsonWriter json_{2};
};

Status WriteCase(const std::string& chip, const std::string& folder, const std::string& name, const std::string& text) {
  const size_t at = text.rfind('@');
  const std::string spec = text.substr(0, at);
  CompileOptions options;
  if (at != std::string::npos) options.only_emitter = text.substr(at + 1);
  ASSIGN_OR_RETURN(const Target target, MakeTarget("hip:" + chip));
  ASSIGN_OR_RETURN(const Graph graph, BuildCase(spec, target));
  const std::vector<Tensor> inputs = RandomInputs(graph, /*seed=*/1);
  ASSIGN_OR_RETURN(const std::vector<Tensor> expected, Reference(graph, inputs, ""));
  ASSIGN_OR_RETURN(const std::vector<Tensor> simt, RunCompiled(graph, inputs, "simt:amdgpu:" + chip, options));
  const double allowed = ErrorBound(graph);
  for (size_t k = 0; k < simt.size(); ++k) {
    if (const testing::AssertionResult close = Close(simt[k], expected[k], allowed); !close) {
      return Error(ErrorCode::kKernelFaulty, "output ", k, " on simt:amdgpu:", chip, ": ", close.message());
    }
  }
  ASSIGN_OR_RETURN(const CompileResult compiled, Compile(graph, target, options));
  CaseWriter writer(folder + "/" + name, *compiled.program);
  return writer.Write(name, target, inputs, expected, simt, allowed);
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: write_cases CHIP FOLDER NAME=SPEC[@EMITTER]…\n");
    return 2;
  }
  for (int k = 3; k < argc; ++k) {
    const std::string text = argv[k];
    const size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    const std::string spec = equals == std::string::npos ? text : text.substr(equals + 1);
    const tessera::Status status = tessera::WriteCase(argv[1], argv[2], name, spec);
    if (status.ok()) continue;
    std::fprintf(stderr, "%s\n", status.WithContext("case " + name).ToString().c_str());
    return 1;
  }
  return 0;
}
