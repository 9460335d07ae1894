// The CUDA driver: kernels are PTX, which NVIDIA's driver assembles when a program is loaded.
//
// A loaded program owns its memory on the card: the arena, the constants, and a buffer for each input and output. All
// steps are recorded once into a CUDA graph; a run copies inputs in, launches the graph and copies outputs out, on a
// stream of its own. Steps run in order, one grid each: the blocks that the step says, or tasks / 128 blocks of 128
// threads, a task a thread.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/drivers/cuda_api.h"
#include "runtime/drivers/drivers.h"
#include "runtime/trace.h"

namespace tessera {
namespace {

constexpr int64_t kBlock = 128;

// The card's context, current while this lives.
class Current {
 public:
  Current(const CudaApi& cuda, CUcontext context) : cuda_(cuda) { cuda_.cuCtxPushCurrent_v2(context); }
  ~Current() { cuda_.cuCtxPopCurrent_v2(nullptr); }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  const CudaApi& cuda_;
};

// The first card and its primary context, given back with the last user.
class Card {
 public:
  static StatusOr<std::shared_ptr<Card>> Open() {
    ASSIGN_OR_RETURN(const CudaApi* cuda, OpenCuda());
    std::shared_ptr<Card> card(new Card(*cuda));
    RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGet(&card->device_, 0), "cuDeviceGet", "the first card"));
    RETURN_IF_ERROR(cuda->Check(cuda->cuDevicePrimaryCtxRetain(&card->context_, card->device_),
                                "cuDevicePrimaryCtxRetain", "the first card"));
    return card;
  }
  ~Card() {
    if (context_ != nullptr) cuda_.cuDevicePrimaryCtxRelease_v2(device_);
  }
  const CudaApi& cuda() const { return cuda_; }
  CUcontext context() const { return context_; }
  CUdevice device() const { return device_; }

 private:
  explicit Card(const CudaApi& cuda) : cuda_(cuda) {}
  const CudaApi& cuda_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
};

class CudaExecutable : public Executable {
 public:
  static StatusOr<std::unique_ptr<Executable>> Create(std::shared_ptr<Card> card,
                                                      std::shared_ptr<const Program> program) {
    RETURN_IF_ERROR(program->Verify());
    std::unique_ptr<CudaExecutable> self(new CudaExecutable(std::move(card), std::move(program)));
    const Current current(self->cuda_, self->card_->context());
    RETURN_IF_ERROR(self->LoadCode());
    RETURN_IF_ERROR(self->PlaceMemory());
    RETURN_IF_ERROR(self->BindSteps());
    RETURN_IF_ERROR(self->RecordGraph());
    return std::unique_ptr<Executable>(std::move(self));
  }

  ~CudaExecutable() override {
    const Current current(cuda_, card_->context());
    if (stream_ != nullptr) cuda_.cuStreamSynchronize(stream_);
    for (CUevent event : events_) cuda_.cuEventDestroy_v2(event);
    if (exec_ != nullptr) cuda_.cuGraphExecDestroy(exec_);
    for (CUdeviceptr memory : allocations_) cuda_.cuMemFree_v2(memory);
    if (stream_ != nullptr) cuda_.cuStreamDestroy_v2(stream_);
    for (CUmodule module : modules_) cuda_.cuModuleUnload(module);
  }

  Status Run(std::span<const void* const> inputs, std::span<void* const> outputs) override {
    if (inputs.size() != program_->inputs.size() || outputs.size() != program_->outputs.size()) {
      return Error(ErrorCode::kInputMissing, "program '", program_->name, "': expected ", program_->inputs.size(),
                   " inputs and ", program_->outputs.size(), " outputs, found ", inputs.size(), " and ",
                   outputs.size());
    }
    const Current current(cuda_, card_->context());
    // Messages are made only where a call failed: a run allocates nothing.
    for (size_t k = 0; k < inputs.size(); ++k) {
      const size_t bytes = static_cast<size_t>(BytesOf(program_->inputs[k]));
      if (bytes == 0) continue;
      if (const CUresult r = cuda_.cuMemcpyHtoDAsync_v2(inputs_[k], inputs[k], bytes, stream_); r != 0) {
        return cuda_.Check(r, "cuMemcpyHtoDAsync", "input '" + program_->inputs[k].name + "'");
      }
    }
    if (profiling_ || trace_ != nullptr) {
      RETURN_IF_ERROR(RunMeasured());
    } else if (exec_ != nullptr) {
      if (const CUresult r = cuda_.cuGraphLaunch(exec_, stream_); r != 0)
        return cuda_.Check(r, "cuGraphLaunch", Name());
    }
    for (size_t k = 0; k < outputs.size(); ++k) {
      const size_t bytes = static_cast<size_t>(BytesOf(program_->outputs[k]));
      if (bytes == 0) continue;
      if (const CUresult r = cuda_.cuMemcpyDtoHAsync_v2(outputs[k], outputs_[k], bytes, stream_); r != 0) {
        return cuda_.Check(r, "cuMemcpyDtoHAsync", "output '" + program_->outputs[k].name + "'");
      }
    }
    const CUresult r = cuda_.cuStreamSynchronize(stream_);
    return r == 0 ? OkStatus() : cuda_.Check(r, "cuStreamSynchronize", Name());
  }

  const Program& program() const override { return *program_; }
  void SetTrace(Trace* trace) override {
    trace_ = trace;
    trace_names_.clear();
    if (trace == nullptr) return;
    for (const Step& step : program_->steps) {
      trace_names_.push_back(trace->AddName(step.label, program_->kernels[step.kernel]));
    }
  }
  int threads() const override { return 1; }
  void SetProfiling(bool enabled) override { profiling_ = enabled; }
  std::span<const int64_t> step_nanoseconds() const override { return nanoseconds_; }

 private:
  // A step with its launch: the values of its parameters, and where cuLaunchKernel finds them.
  struct BoundStep {
    CUfunction function = nullptr;
    unsigned x = 0, y = 1, z = 1, threads = 0, shared_bytes = 0;
    std::vector<uint64_t> values;
    std::vector<void*> params;
  };

  CudaExecutable(std::shared_ptr<Card> card, std::shared_ptr<const Program> program)
      : card_(std::move(card)), cuda_(card_->cuda()), program_(std::move(program)) {}

  std::string Name() const { return "program '" + program_->name + "'"; }
  static int64_t BytesOf(const ProgramPort& port) { return ByteSize(port.type.dtype, port.type.shape.num_elements()); }

  Status LoadCode() {
    for (const auto& image : program_->images) {
      std::string text(reinterpret_cast<const char*>(image->data()), image->size());  // with the final zero
      // The assembler's own words are part of the error.
      std::string log(16384, '\0');
      int options[] = {5, 6};  // CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES
      void* values[] = {log.data(), reinterpret_cast<void*>(log.size())};
      CUmodule module = nullptr;
      const CUresult result = cuda_.cuModuleLoadDataEx(&module, text.c_str(), 2, options, values);
      if (result != 0) {
        return cuda_.Check(result, "cuModuleLoadDataEx", Name()).WithContext("assembler: " + std::string(log.c_str()));
      }
      modules_.push_back(module);
    }
    return cuda_.Check(cuda_.cuStreamCreate(&stream_, /*non-blocking*/ 1), "cuStreamCreate", Name());
  }

  StatusOr<CUdeviceptr> Allocate(int64_t bytes, std::string_view what) {
    CUdeviceptr memory = 0;
    // Never empty, so that every buffer has an address.
    RETURN_IF_ERROR(cuda_.Check(cuda_.cuMemAlloc_v2(&memory, static_cast<size_t>(bytes) + 256), "cuMemAlloc",
                                internal::Join(what, " of ", Name(), ", ", bytes, " bytes")));
    allocations_.push_back(memory);
    return memory;
  }

  Status PlaceMemory() {
    ASSIGN_OR_RETURN(arena_, Allocate(program_->memory.arena_bytes, "the arena"));
    ASSIGN_OR_RETURN(constants_, Allocate(static_cast<int64_t>(program_->constants.size()), "the constants"));
    if (!program_->constants.empty()) {
      RETURN_IF_ERROR(cuda_.Check(
          cuda_.cuMemcpyHtoDAsync_v2(constants_, program_->constants.data(), program_->constants.size(), stream_),
          "cuMemcpyHtoDAsync", "the constants of " + Name()));
    }
    for (const ProgramPort& port : program_->inputs) {
      ASSIGN_OR_RETURN(const CUdeviceptr memory, Allocate(BytesOf(port), "input '" + port.name + "'"));
      inputs_.push_back(memory);
    }
    for (const ProgramPort& port : program_->outputs) {
      ASSIGN_OR_RETURN(const CUdeviceptr memory, Allocate(BytesOf(port), "output '" + port.name + "'"));
      outputs_.push_back(memory);
    }
    std::vector<CUfunction> functions;
    for (const std::string& symbol : program_->kernels) {
      CUfunction function = nullptr;
      for (CUmodule module : modules_) {
        if (function == nullptr && cuda_.cuModuleGetFunction(&function, module, symbol.c_str()) != 0)
          function = nullptr;
      }
      if (function == nullptr) {
        return Error(ErrorCode::kProgramInvalid, Name(), ": no image defines the kernel '", symbol, "'");
      }
      functions_.push_back(function);
    }
    nanoseconds_.assign(program_->steps.size(), 0);
    return OkStatus();
  }

  CUdeviceptr AddressOf(const StepArg& arg) const {
    const ProgramBuffer& buffer = program_->buffers[arg.buffer];
    const auto within = [&](CUdeviceptr base) { return base + static_cast<uint64_t>(buffer.offset + arg.offset); };
    switch (buffer.kind) {
      case BufferClass::kTemp: return within(arena_);
      case BufferClass::kConstant: return within(constants_);
      case BufferClass::kInput: return inputs_[buffer.offset] + static_cast<uint64_t>(arg.offset);
      default: return outputs_[buffer.offset] + static_cast<uint64_t>(arg.offset);
    }
  }

  Status BindSteps() {
    for (const Step& step : program_->steps) {
      BoundStep bound;
      bound.function = functions_[step.kernel];
      for (const StepArg& arg : step.args) bound.values.push_back(AddressOf(arg));
      if (const tessera::Launch& launch = step.launch; launch.by_blocks()) {
        bound.x = static_cast<unsigned>(launch.x);
        bound.y = static_cast<unsigned>(launch.y);
        bound.z = static_cast<unsigned>(launch.z);
        bound.threads = static_cast<unsigned>(launch.threads);
        bound.shared_bytes = static_cast<unsigned>(launch.shared_bytes);
        constexpr int kMaxDynamicShared = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        constexpr int64_t kWithoutAsking = 48 << 10;
        if (launch.shared_bytes > kWithoutAsking) {
          RETURN_IF_ERROR(cuda_.Check(
              cuda_.cuFuncSetAttribute(bound.function, kMaxDynamicShared, static_cast<int>(launch.shared_bytes)),
              "cuFuncSetAttribute",
              internal::Join(launch.shared_bytes, " bytes of shared memory for ", KernelOf(step))));
        }
        steps_.push_back(std::move(bound));
        continue;
      }
      const int64_t per_thread = step.serial ? step.tasks : 1;
      const int64_t threads = step.tasks == 0 ? 0 : (step.tasks + per_thread - 1) / per_thread;
      bound.threads = static_cast<unsigned>(std::min(threads, kBlock));
      bound.x = static_cast<unsigned>((threads + kBlock - 1) / kBlock);
      bound.values.push_back(static_cast<uint64_t>(step.tasks));
      bound.values.push_back(static_cast<uint64_t>(per_thread));
      steps_.push_back(std::move(bound));
    }
    for (BoundStep& step : steps_) {
      for (uint64_t& value : step.values) step.params.push_back(&value);
    }
    return OkStatus();
  }

  std::string KernelOf(const Step& step) const {
    return "kernel '" + program_->kernels[step.kernel] + "' of node '" + step.label + "'";
  }

  Status Launch(size_t s) {
    BoundStep& step = steps_[s];
    if (step.x == 0) return OkStatus();
    return cuda_.Check(cuda_.cuLaunchKernel(step.function, step.x, step.y, step.z, step.threads, 1, 1,
                                            step.shared_bytes, stream_, step.params.data(), nullptr),
                       "cuLaunchKernel", KernelOf(program_->steps[s]));
  }

  Status RecordGraph() {
    if (steps_.empty()) return OkStatus();
    constexpr int kRelaxed = 2;  // CU_STREAM_CAPTURE_MODE_RELAXED: other threads may use the driver meanwhile
    RETURN_IF_ERROR(cuda_.Check(cuda_.cuStreamBeginCapture_v2(stream_, kRelaxed), "cuStreamBeginCapture", Name()));
    Status launched;
    for (size_t s = 0; s < steps_.size() && launched.ok(); ++s) launched = Launch(s);
    CUgraph graph = nullptr;
    const CUresult ended = cuda_.cuStreamEndCapture(stream_, &graph);
    RETURN_IF_ERROR(launched);
    RETURN_IF_ERROR(cuda_.Check(ended, "cuStreamEndCapture", Name()));
    const CUresult made = cuda_.cuGraphInstantiateWithFlags(&exec_, graph, 0);
    cuda_.cuGraphDestroy(graph);
    return cuda_.Check(made, "cuGraphInstantiate", Name());
  }

  // Step by step, with an event between any two.
  Status RunMeasured() {
    while (events_.size() <= steps_.size()) {
      CUevent event = nullptr;
      RETURN_IF_ERROR(cuda_.Check(cuda_.cuEventCreate(&event, 0), "cuEventCreate", Name()));
      events_.push_back(event);
    }
    const int64_t start = Trace::NowNs();
    RETURN_IF_ERROR(cuda_.Check(cuda_.cuEventRecord(events_[0], stream_), "cuEventRecord", Name()));
    for (size_t s = 0; s < steps_.size(); ++s) {
      RETURN_IF_ERROR(Launch(s));
      RETURN_IF_ERROR(cuda_.Check(cuda_.cuEventRecord(events_[s + 1], stream_), "cuEventRecord", Name()));
    }
    RETURN_IF_ERROR(cuda_.Check(cuda_.cuStreamSynchronize(stream_), "cuStreamSynchronize", Name()));
    int64_t now = start;
    for (size_t s = 0; s < steps_.size(); ++s) {
      float milliseconds = 0;
      RETURN_IF_ERROR(cuda_.Check(cuda_.cuEventElapsedTime(&milliseconds, events_[s], events_[s + 1]),
                                  "cuEventElapsedTime", Name()));
      nanoseconds_[s] = static_cast<int64_t>(static_cast<double>(milliseconds) * 1e6);
      if (trace_ != nullptr) trace_->Record(0, trace_names_[s], now, now + nanoseconds_[s]);
      now += nanoseconds_[s];
    }
    return OkStatus();
  }

  std::shared_ptr<Card> card_;
  const CudaApi& cuda_;
  std::shared_ptr<const Program> program_;
  std::vector<CUmodule> modules_;
  std::vector<CUfunction> functions_;
  std::vector<CUdeviceptr> allocations_;
  CUdeviceptr arena_ = 0, constants_ = 0;
  std::vector<CUdeviceptr> inputs_, outputs_;
  std::vector<BoundStep> steps_;
  CUstream stream_ = nullptr;
  CUgraphExec exec_ = nullptr;
  std::vector<CUevent> events_;
  std::vector<int64_t> nanoseconds_;
  Trace* trace_ = nullptr;
  std::vector<Trace::Name> trace_names_;
  bool profiling_ = false;
};

class CudaDevice : public Device {
 public:
  explicit CudaDevice(std::shared_ptr<Card> card) : card_(std::move(card)) {}
  std::string_view name() const override { return "cuda"; }
  std::string Describe() const override {
    char name[256] = "NVIDIA card";
    size_t bytes = 0;
    int version = 0;
    const CudaApi& cuda = card_->cuda();
    cuda.cuDeviceGetName(name, sizeof(name), card_->device());
    cuda.cuDeviceTotalMem_v2(&bytes, card_->device());
    cuda.cuDriverGetVersion(&version);
    return internal::Join(name, ", ", bytes >> 20, " MiB, driver for CUDA ", version / 1000, ".", version % 1000 / 10);
  }
  StatusOr<std::unique_ptr<Executable>> Load(std::shared_ptr<const Program> program, const LoadOptions&) override {
    return CudaExecutable::Create(card_, std::move(program));
  }

 private:
  std::shared_ptr<Card> card_;
};

}  // namespace

StatusOr<std::unique_ptr<Device>> MakeCudaDevice() {
  ASSIGN_OR_RETURN(std::shared_ptr<Card> card, Card::Open());
  return std::unique_ptr<Device>(std::make_unique<CudaDevice>(std::move(card)));
}

}  // namespace tessera
