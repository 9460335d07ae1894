// The host driver: kernels are machine code in this process, steps are split statically over a thread pool.
//
// One parallel region per inference: every thread walks the list of steps and does its share of each, meeting the
// others at a spin barrier where a step's results cross threads. A step too small to split runs on thread 0, and a run
// of such steps costs no barrier. All pointers are resolved when the program is loaded; a run only patches those of the
// caller's inputs and outputs, and allocates nothing.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/device.h"
#include "runtime/drivers/drivers.h"
#include "runtime/host_memory.h"
#include "runtime/library.h"
#include "runtime/processors.h"
#include "runtime/thread_pool.h"
#include "runtime/trace.h"

namespace tessera {
namespace {

using Kernel = void (*)(void* const* args, int64_t begin, int64_t end, void* scratch);

// A program with its code in memory, which executables share. What its images held lies in the libraries now, so they
// are gone: code runs to as many bytes as the weights that it came from.
struct LoadedProgram {
  Program program;
  std::vector<KernelLibrary> libraries;
  std::vector<Kernel> kernels;  // of program.kernels
};

StatusOr<std::shared_ptr<const LoadedProgram>> LoadProgram(const Program& program) {
  RETURN_IF_ERROR(program.Verify());
  auto loaded = std::make_shared<LoadedProgram>();
  for (const ProgramImage& image : program.images) {
    ASSIGN_OR_RETURN(KernelLibrary library, KernelLibrary::Load(image.bytes, program.name));
    loaded->libraries.push_back(std::move(library));
  }
  for (const std::string& symbol : program.kernels) {
    void* address = nullptr;
    for (const KernelLibrary& library : loaded->libraries) {
      if (address == nullptr) address = library.Lookup(symbol);
    }
    if (address == nullptr) {
      return Error(ErrorCode::kProgramInvalid, "program '", program.name, "': no image defines the kernel '", symbol,
                   "'");
    }
    loaded->kernels.push_back(reinterpret_cast<Kernel>(address));
  }
  for (const Step& step : program.steps) {
    if (!step.launch.by_blocks()) continue;
    return Error(ErrorCode::kProgramInvalid, "program '", program.name, "': kernel '", program.kernels[step.kernel],
                 "' of node '", step.label, "' is written for a GPU's blocks; it was compiled for '", program.target,
                 "', expected host");
  }
  loaded->program = program;
  loaded->program.images.clear();
  return std::shared_ptr<const LoadedProgram>(std::move(loaded));
}

class HostExecutable : public Executable {
 public:
  static StatusOr<std::unique_ptr<Executable>> Create(std::shared_ptr<const LoadedProgram> loaded,
                                                      const LoadOptions& options) {
    auto self = std::unique_ptr<HostExecutable>(new HostExecutable(std::move(loaded)));
    const Program& p = self->program();
    ASSIGN_OR_RETURN(self->pool_, ThreadPool::Create({.num_threads = options.threads}));
    ASSIGN_OR_RETURN(self->arena_, HostMemory::Allocate(p.memory.arena_bytes, "arena"));
    self->scratch_stride_ = (p.memory.scratch_bytes + 4095) / 4096 * 4096 + 128;
    ASSIGN_OR_RETURN(self->scratch_,
                     HostMemory::Allocate(self->scratch_stride_ * self->pool_->num_threads(), "scratch"));
    self->Bind();
    return std::unique_ptr<Executable>(std::move(self));
  }

  Status Run(std::span<const void* const> inputs, std::span<void* const> outputs) override {
    const Program& p = program();
    if (inputs.size() != p.inputs.size() || outputs.size() != p.outputs.size()) {
      return Error(ErrorCode::kInputMissing, "program '", p.name, "': expected ", p.inputs.size(), " inputs and ",
                   p.outputs.size(), " outputs, found ", inputs.size(), " and ", outputs.size());
    }
    for (const PortUse& use : input_uses_) {
      args_[use.slot] = const_cast<std::byte*>(static_cast<const std::byte*>(inputs[use.port])) + use.offset;
    }
    for (const PortUse& use : output_uses_) args_[use.slot] = static_cast<std::byte*>(outputs[use.port]) + use.offset;
    if (all_alone_) {
      // Nobody to wake or to wait for, which is 0.3 us and more.
      RunSteps(0, pool_->num_threads(), nobody_);
      return OkStatus();
    }
    pool_->RunRegion([this](int thread, int threads, SpinBarrier& barrier) { RunSteps(thread, threads, barrier); });
    return OkStatus();
  }

  StatusOr<std::unique_ptr<Executable>> Clone(const LoadOptions& options) const override {
    return Create(loaded_, options);
  }
  const Program& program() const override { return loaded_->program; }
  void SetTrace(Trace* trace) override {
    trace_ = trace;
    trace_names_.clear();
    if (trace == nullptr) return;
    for (const Step& step : program().steps) {
      trace_names_.push_back(trace->AddName(step.label, program().kernels[step.kernel]));
    }
  }
  int threads() const override { return pool_->num_threads(); }
  void SetProfiling(bool enabled) override { profiling_ = enabled; }
  std::span<const int64_t> step_nanoseconds() const override { return nanoseconds_; }

 private:
  // A step with its kernel and its slice of args_.
  struct BoundStep {
    Kernel kernel;
    int64_t first_arg;
    int64_t tasks;
    bool alone;           // on thread 0 only
    bool barrier_before;  // results of earlier steps must have arrived
  };
  struct PortUse {
    size_t slot;
    int64_t port;
    int64_t offset;
  };

  explicit HostExecutable(std::shared_ptr<const LoadedProgram> loaded) : loaded_(std::move(loaded)) {}

  void Bind() {
    const Program& p = program();
    bool last_alone = true;
    for (const Step& step : p.steps) {
      const int64_t first_arg = static_cast<int64_t>(args_.size());
      for (const StepArg& arg : step.args) {
        const ProgramBuffer& buffer = p.buffers[arg.buffer];
        const PortUse use = {args_.size(), buffer.offset, arg.offset};
        std::byte* address = nullptr;
        switch (buffer.kind) {
          case BufferClass::kTemp: address = arena_.data() + buffer.offset + arg.offset; break;
          case BufferClass::kConstant:
            address = const_cast<std::byte*>(p.constants.data()) + buffer.offset + arg.offset;
            break;
          case BufferClass::kInput: input_uses_.push_back(use); break;
          case BufferClass::kOutput: output_uses_.push_back(use); break;
        }
        args_.push_back(address);
      }
      const bool alone = step.serial || step.tasks == 1 || pool_->num_threads() == 1;
      steps_.push_back({loaded_->kernels[step.kernel], first_arg, step.tasks, alone, !(alone && last_alone)});
      last_alone = alone;
      all_alone_ &= alone;
    }
    nanoseconds_.assign(p.steps.size(), 0);
  }

  void RunSteps(int thread, int threads, SpinBarrier& barrier) {
    std::byte* scratch = scratch_.data() + thread * scratch_stride_;
    for (size_t s = 0; s < steps_.size(); ++s) {
      const BoundStep& step = steps_[s];
      if (step.barrier_before) barrier.Wait();
      int64_t begin = step.tasks * thread / threads, end = step.tasks * (thread + 1) / threads;
      if (step.alone) begin = 0, end = thread == 0 ? step.tasks : 0;
      if (begin >= end) continue;
      const bool measured = profiling_ || trace_ != nullptr;
      const int64_t start = measured ? Trace::NowNs() : 0;
      step.kernel(args_.data() + step.first_arg, begin, end, scratch);
      if (!measured) continue;
      const int64_t stop = Trace::NowNs();
      if (trace_ != nullptr) trace_->Record(thread, trace_names_[s], start, stop);
      if (thread == 0) nanoseconds_[s] = stop - start;
    }
  }

  std::shared_ptr<const LoadedProgram> loaded_;
  std::unique_ptr<ThreadPool> pool_;
  HostMemory arena_, scratch_;
  int64_t scratch_stride_ = 0;
  std::vector<BoundStep> steps_;
  bool all_alone_ = true;  // every step is thread 0's
  SpinBarrier nobody_{1, 0};
  std::vector<void*> args_;  // of all steps, one after the other
  std::vector<PortUse> input_uses_, output_uses_;
  std::vector<int64_t> nanoseconds_;
  Trace* trace_ = nullptr;
  std::vector<Trace::Name> trace_names_;
  bool profiling_ = false;
};

class HostDevice : public Device {
 public:
  std::string_view name() const override { return "host"; }
  std::string Describe() const override { return DescribeProcessor(); }
  StatusOr<std::unique_ptr<Executable>> Load(std::shared_ptr<const Program> program,
                                             const LoadOptions& options) override {
    ASSIGN_OR_RETURN(std::shared_ptr<const LoadedProgram> loaded, LoadProgram(*program));
    return HostExecutable::Create(std::move(loaded), options);
  }
};

}  // namespace

StatusOr<std::unique_ptr<Device>> MakeHostDevice() { return std::unique_ptr<Device>(std::make_unique<HostDevice>()); }

}  // namespace tessera
