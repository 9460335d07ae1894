// The CUDA driver: a program's steps as one CUDA graph on an NVIDIA card.
//
// Code and constants of a program are on the card once, for all executables of it (cuda_code.h). An executable adds
// what a run changes: the arena, a buffer for each input and output, a stream, and a graph whose nodes are the steps
// and whose edges are what the steps' buffers ask for (runtime/step_order.h), so that independent steps run side by
// side. A step whose kernel waits for its predecessors by itself (Launch::overlap) hangs on programmatic edges: it
// starts, and reads its weights, while they end.
//
// A run copies inputs in, launches the graph and copies outputs out. Callers' addresses may be of the host or of a
// card. Memory of the host that the card cannot reach by itself goes through pinned buffers, taken when first needed.
//
// What goes wrong on the card shows only after the graph: $TESSERA_CUDA_SYNC=1 awaits each kernel and names the one
// that failed. Tested by cuda_device_test.cc on a driver that is not there (runtime/testing/fake_cuda.h), and by
// device_test and tests/conformance on a card.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/drivers/cuda_api.h"
#include "runtime/drivers/cuda_card.h"
#include "runtime/drivers/cuda_chip.h"
#include "runtime/drivers/cuda_code.h"
#include "runtime/drivers/cuda_tensor_map.h"
#include "runtime/drivers/drivers.h"
#include "runtime/step_order.h"
#include "runtime/trace.h"

namespace tessera {
namespace {

int64_t BytesOf(const ProgramPort& port) { return ByteSize(port.type.dtype, port.type.shape.num_elements()); }

class CudaExecutable : public Executable {
 public:
  static StatusOr<std::unique_ptr<Executable>> Create(std::shared_ptr<CudaCard> card, std::shared_ptr<CudaCode> code) {
    std::unique_ptr<CudaExecutable> self(new CudaExecutable(std::move(card), std::move(code)));
    RETURN_IF_ERROR(self->cuda_.Check(self->cuda_.cuStreamCreate(&self->stream_, kCudaNonBlockingStream),
                                      "cuStreamCreate", self->name_));
    RETURN_IF_ERROR(self->PlaceMemory());
    RETURN_IF_ERROR(self->BindSteps());
    if (!self->one_by_one_) RETURN_IF_ERROR(self->MakeGraph());
    return std::unique_ptr<Executable>(std::move(self));
  }

  ~CudaExecutable() override {
    const CudaCurrent current(*card_);
    if (stream_ != nullptr) cuda_.cuStreamSynchronize(stream_);
    for (CUevent event : events_) cuda_.cuEventDestroy_v2(event);
    if (exec_ != nullptr) cuda_.cuGraphExecDestroy(exec_);
    if (stream_ != nullptr) cuda_.cuStreamDestroy_v2(stream_);
  }

  Status Run(std::span<const void* const> inputs, std::span<void* const> outputs) override {
    if (inputs.size() != inputs_.size() || outputs.size() != outputs_.size()) {
      return Error(ErrorCode::kInputMissing, name_, ": expected ", inputs_.size(), " inputs and ", outputs_.size(),
                   " outputs, found ", inputs.size(), " and ", outputs.size());
    }
    const CudaCurrent current(*card_);
    RETURN_IF_ERROR(current.status());
    // Messages are made only where a call failed: a run allocates nothing.
    for (size_t k = 0; k < inputs.size(); ++k) RETURN_IF_ERROR(CopyIn(inputs_[k], inputs[k]));
    if (profiling_ || trace_ != nullptr || one_by_one_) {
      RETURN_IF_ERROR(RunMeasured());
    } else if (exec_ != nullptr) {
      if (const CUresult r = cuda_.cuGraphLaunch(exec_, stream_); r != 0) return cuda_.Check(r, "cuGraphLaunch", name_);
    }
    for (size_t k = 0; k < outputs.size(); ++k) RETURN_IF_ERROR(CopyOut(outputs_[k], outputs[k]));
    RETURN_IF_ERROR(Await());
    for (size_t k = 0; k < outputs.size(); ++k) {
      Port& port = outputs_[k];
      if (port.staged) std::memcpy(outputs[k], port.staging.data(), port.bytes);
    }
    return OkStatus();
  }

  StatusOr<double> MeasureUs(int runs) override {
    if (runs < 1) return Error(ErrorCode::kUsageInvalid, "expected at least 1 run to measure, found ", runs);
    const CudaCurrent current(*card_);
    RETURN_IF_ERROR(current.status());
    RETURN_IF_ERROR(TakeEvents(2));
    RETURN_IF_ERROR(RecordEvent(0));
    for (int k = 0; k < runs; ++k) {
      if (exec_ != nullptr) {
        RETURN_IF_ERROR(cuda_.Check(cuda_.cuGraphLaunch(exec_, stream_), "cuGraphLaunch", name_));
      } else {
        for (size_t s = 0; s < steps_.size(); ++s) RETURN_IF_ERROR(LaunchStep(s));
      }
    }
    RETURN_IF_ERROR(RecordEvent(1));
    RETURN_IF_ERROR(Await());
    float milliseconds = 0;
    RETURN_IF_ERROR(
        cuda_.Check(cuda_.cuEventElapsedTime(&milliseconds, events_[0], events_[1]), "cuEventElapsedTime", name_));
    return static_cast<double>(milliseconds) * 1e3 / runs;
  }

  StatusOr<std::unique_ptr<Executable>> Clone(const LoadOptions&) const override {
    const CudaCurrent current(*card_);
    RETURN_IF_ERROR(current.status());
    return Create(card_, code_);
  }
  const Program& program() const override { return program_; }
  void SetTrace(Trace* trace) override {
    trace_ = trace;
    trace_names_.clear();
    if (trace == nullptr) return;
    for (const Step& step : program_.steps) {
      trace_names_.push_back(trace->AddName(step.label, program_.kernels[step.kernel]));
    }
  }
  int threads() const override { return 1; }
  void SetProfiling(bool enabled) override { profiling_ = enabled; }
  std::span<const int64_t> step_nanoseconds() const override { return nanoseconds_; }

  ExecutableInfo info() const override {
    ExecutableInfo info = code_->info();
    info.device_bytes += own_bytes_;
    info.device_bytes_peak = card_->peak_bytes();
    info.pinned_bytes = pinned_bytes_;
    return info;
  }

 private:
  // An input or output of the program: its place on the card, and the pinned memory that copies go through.
  struct Port {
    const ProgramPort* port = nullptr;
    size_t bytes = 0;
    CudaMemory memory;
    CudaPinnedMemory staging;
    bool staged = false;      // the last copy went through `staging`
    bool no_staging = false;  // there was no pinned memory to be had
  };
  // A step with its launch: the values of its parameters, and where the driver finds them.
  struct BoundStep {
    CudaKernelNode kernel;
    std::vector<uint64_t> values;
    std::vector<CudaTensorMap> tensor_maps;
    std::vector<void*> params;
  };

  CudaExecutable(std::shared_ptr<CudaCard> card, std::shared_ptr<CudaCode> code)
      : card_(std::move(card)),
        code_(std::move(code)),
        cuda_(card_->cuda()),
        program_(code_->program()),
        name_(ProgramName(program_)) {
    const char* sync = std::getenv("TESSERA_CUDA_SYNC");
    one_by_one_ = sync != nullptr && std::string_view(sync) == "1";
  }

  StatusOr<CudaMemory> Take(int64_t bytes, const std::string& what) {
    own_bytes_ += bytes;
    return CudaMemory::Allocate(card_, bytes, what + " of " + name_);
  }

  Status PlaceMemory() {
    ASSIGN_OR_RETURN(arena_, Take(program_.memory.arena_bytes, "the arena"));
    for (auto [ports, mine, kind] :
         {std::tuple(&program_.inputs, &inputs_, "input '"), {&program_.outputs, &outputs_, "output '"}}) {
      for (const ProgramPort& port : *ports) {
        Port& placed = mine->emplace_back();
        placed.port = &port;
        placed.bytes = static_cast<size_t>(BytesOf(port));
        ASSIGN_OR_RETURN(placed.memory, Take(BytesOf(port), kind + port.name + "'"));
      }
    }
    nanoseconds_.assign(program_.steps.size(), 0);
    return OkStatus();
  }

  CUdeviceptr AddressOf(const StepArg& arg) const {
    const ProgramBuffer& buffer = program_.buffers[arg.buffer];
    const auto within = [&](CUdeviceptr base) { return base + static_cast<uint64_t>(buffer.offset + arg.offset); };
    switch (buffer.kind) {
      case BufferClass::kTemp: return within(arena_.address());
      case BufferClass::kConstant: return within(code_->constants());
      case BufferClass::kInput: return inputs_[buffer.offset].memory.address() + static_cast<uint64_t>(arg.offset);
      default: return outputs_[buffer.offset].memory.address() + static_cast<uint64_t>(arg.offset);
    }
  }

  Status BindSteps() {
    for (const Step& step : program_.steps) {
      BoundStep bound;
      bound.kernel.function = code_->function(step.kernel);
      for (const StepArg& arg : step.args) bound.values.push_back(AddressOf(arg));
      if (const Launch& launch = step.launch; launch.by_blocks()) {
        bound.kernel.grid_x = static_cast<unsigned>(launch.x);
        bound.kernel.grid_y = static_cast<unsigned>(launch.y);
        bound.kernel.grid_z = static_cast<unsigned>(launch.z);
        bound.kernel.block_x = static_cast<unsigned>(launch.threads);
        bound.kernel.shared_bytes = static_cast<unsigned>(launch.shared_bytes);
      } else {
        const int64_t per_thread = step.serial ? step.tasks : 1;
        const int64_t threads = step.tasks == 0 ? 0 : (step.tasks + per_thread - 1) / per_thread;
        bound.kernel.grid_x =
            static_cast<unsigned>((threads + kTaskBlockThreads - 1) / kTaskBlockThreads);  // 0: nothing to do
        bound.kernel.block_x = static_cast<unsigned>(std::min(threads, kTaskBlockThreads));
        bound.values.push_back(static_cast<uint64_t>(step.tasks));
        bound.values.push_back(static_cast<uint64_t>(per_thread));
      }
      // Whose products may round, rounds what they read.
      const bool rounds_to_tf32 = program_.target.ends_with("+tf32");
      for (const TensorMap& map : step.tensor_maps) {
        RETURN_IF_ERROR(EncodeTensorMap(cuda_, map, AddressOf(step.args[static_cast<size_t>(map.arg)]),
                                        KernelName(program_, step), rounds_to_tf32, &bound.tensor_maps.emplace_back()));
      }
      steps_.push_back(std::move(bound));
    }
    for (BoundStep& step : steps_) {
      for (uint64_t& value : step.values) step.params.push_back(&value);
      for (CudaTensorMap& map : step.tensor_maps) step.params.push_back(&map);
      step.kernel.params = step.params.data();
    }
    return OkStatus();
  }

  bool IsEmpty(size_t s) const { return steps_[s].kernel.grid_x == 0; }

  Status LaunchStep(size_t s) {
    if (IsEmpty(s)) return OkStatus();
    const CudaKernelNode& k = steps_[s].kernel;
    const CUresult r = cuda_.cuLaunchKernel(k.function, k.grid_x, k.grid_y, k.grid_z, k.block_x, 1, 1, k.shared_bytes,
                                            stream_, k.params, nullptr);
    return r == 0 ? OkStatus() : cuda_.Check(r, "cuLaunchKernel", KernelName(program_, program_.steps[s]));
  }

  // The graph of all steps; a driver that does not take programmatic edges gets plain ones.
  Status MakeGraph() {
    bool programmatic = false;
    for (const Step& step : program_.steps) programmatic |= step.launch.overlap;
    if (programmatic && cuda_.cuGraphAddDependencies_v2 != nullptr && MakeGraph(/*programmatic=*/true).ok()) {
      return OkStatus();
    }
    return MakeGraph(/*programmatic=*/false);
  }

  Status MakeGraph(bool programmatic) {
    CUgraph graph = nullptr;
    RETURN_IF_ERROR(cuda_.Check(cuda_.cuGraphCreate(&graph, 0), "cuGraphCreate", name_));
    bool any = false;
    Status made = AddNodes(graph, programmatic, &any);
    if (made.ok() && any) {
      made = cuda_.Check(cuda_.cuGraphInstantiateWithFlags(&exec_, graph, 0), "cuGraphInstantiate", name_);
    }
    cuda_.cuGraphDestroy(graph);
    if (!made.ok() || !any) return made;
    // So that the first launch need not.
    made = cuda_.Check(cuda_.cuGraphUpload(exec_, stream_), "cuGraphUpload", name_);
    if (!made.ok()) {
      cuda_.cuGraphExecDestroy(exec_);
      exec_ = nullptr;
    }
    return made;
  }

  Status AddNodes(CUgraph graph, bool programmatic, bool* any) {
    std::vector<bool> empty(steps_.size());
    for (size_t s = 0; s < steps_.size(); ++s) empty[s] = IsEmpty(s);
    const std::vector<std::vector<int>> dependencies = StepDependencies(program_, empty);
    std::vector<CUgraphNode> nodes(steps_.size());
    for (size_t s = 0; s < steps_.size(); ++s) {
      if (empty[s]) continue;
      *any = true;
      const bool overlap = programmatic && program_.steps[s].launch.overlap;
      std::vector<CUgraphNode> before;
      for (int t : dependencies[s]) before.push_back(nodes[t]);
      const auto check = [&](CUresult r, std::string_view call) {
        return r == 0 ? OkStatus() : cuda_.Check(r, call, KernelName(program_, program_.steps[s]));
      };
      RETURN_IF_ERROR(check(cuda_.cuGraphAddKernelNode_v2(&nodes[s], graph, before.data(), overlap ? 0 : before.size(),
                                                          &steps_[s].kernel),
                            "cuGraphAddKernelNode"));
      if (!overlap || before.empty()) continue;
      const std::vector<CUgraphNode> to(before.size(), nodes[s]);
      const std::vector<CudaGraphEdge> edges(before.size(), kProgrammaticEdge);
      RETURN_IF_ERROR(
          check(cuda_.cuGraphAddDependencies_v2(graph, before.data(), to.data(), edges.data(), before.size()),
                "cuGraphAddDependencies"));
    }
    return OkStatus();
  }

  // Whether the card's copy engines reach `address` by themselves: memory of a card, or pinned.
  bool IsReachable(const void* address) const {
    // Asked in the plural, the driver answers 0 for memory that it does not know, and that is no error.
    int type = 0;
    void* values[] = {&type};
    return cuda_.cuPointerGetAttributes(1, &kCudaPointerMemoryType, values, reinterpret_cast<CUdeviceptr>(address)) ==
               0 &&
           type != 0;
  }

  // Decides whether a copy of `port` goes through pinned memory, which is taken when it is first needed.
  void ChooseWay(Port& port, const void* address) {
    port.staged = !IsReachable(address);
    if (!port.staged || port.staging.data() != nullptr) return;
    if (!port.no_staging) {
      StatusOr<CudaPinnedMemory> memory =
          CudaPinnedMemory::Allocate(card_, static_cast<int64_t>(port.bytes), "copies of '" + port.port->name + "'");
      port.no_staging = !memory.ok();
      if (memory.ok()) {
        port.staging = *std::move(memory);
        pinned_bytes_ += static_cast<int64_t>(port.bytes);
      }
    }
    // Without, the driver copies by pieces of its own.
    if (port.no_staging) port.staged = false;
  }

  Status CopyIn(Port& port, const void* from) {
    if (port.bytes == 0) return OkStatus();
    ChooseWay(port, from);
    if (port.staged) {
      std::memcpy(port.staging.data(), from, port.bytes);
      from = port.staging.data();
    }
    const CUresult r =
        cuda_.cuMemcpyAsync(port.memory.address(), reinterpret_cast<CUdeviceptr>(from), port.bytes, stream_);
    return r == 0 ? OkStatus() : cuda_.Check(r, "cuMemcpyAsync", "input '" + port.port->name + "' of " + name_);
  }

  Status CopyOut(Port& port, void* to) {
    port.staged = false;
    if (port.bytes == 0) return OkStatus();
    ChooseWay(port, to);
    const auto target = reinterpret_cast<CUdeviceptr>(port.staged ? port.staging.data() : to);
    const CUresult r = cuda_.cuMemcpyAsync(target, port.memory.address(), port.bytes, stream_);
    return r == 0 ? OkStatus() : cuda_.Check(r, "cuMemcpyAsync", "output '" + port.port->name + "' of " + name_);
  }

  Status Await() {
    const CUresult r = cuda_.cuStreamSynchronize(stream_);
    if (r == 0) return OkStatus();
    return cuda_.Check(r, "cuStreamSynchronize",
                       internal::Join("one of the ", steps_.size(), " kernels of ", name_,
                                      " (TESSERA_CUDA_SYNC=1 in the environment names it)"));
  }

  Status TakeEvents(size_t count) {
    while (events_.size() < count) {
      CUevent event = nullptr;
      RETURN_IF_ERROR(cuda_.Check(cuda_.cuEventCreate(&event, 0), "cuEventCreate", name_));
      events_.push_back(event);
    }
    return OkStatus();
  }

  Status RecordEvent(size_t k) {
    const CUresult r = cuda_.cuEventRecord(events_[k], stream_);
    return r == 0 ? OkStatus() : cuda_.Check(r, "cuEventRecord", name_);
  }

  // Step by step in the program's order, with an event between any two.
  Status RunMeasured() {
    RETURN_IF_ERROR(TakeEvents(steps_.size() + 1));
    const int64_t start = Trace::NowNs();
    RETURN_IF_ERROR(RecordEvent(0));
    for (size_t s = 0; s < steps_.size(); ++s) {
      RETURN_IF_ERROR(LaunchStep(s));
      RETURN_IF_ERROR(RecordEvent(s + 1));
      if (!one_by_one_) continue;
      const CUresult r = cuda_.cuStreamSynchronize(stream_);
      if (r != 0) return cuda_.Check(r, "cuStreamSynchronize", KernelName(program_, program_.steps[s]));
    }
    RETURN_IF_ERROR(Await());
    int64_t now = start;
    for (size_t s = 0; s < steps_.size(); ++s) {
      float milliseconds = 0;
      const CUresult r = cuda_.cuEventElapsedTime(&milliseconds, events_[s], events_[s + 1]);
      if (r != 0) return cuda_.Check(r, "cuEventElapsedTime", KernelName(program_, program_.steps[s]));
      nanoseconds_[s] = static_cast<int64_t>(static_cast<double>(milliseconds) * 1e6);
      if (trace_ != nullptr) trace_->Record(0, trace_names_[s], now, now + nanoseconds_[s]);
      now += nanoseconds_[s];
    }
    return OkStatus();
  }

  std::shared_ptr<CudaCard> card_;
  std::shared_ptr<CudaCode> code_;
  const CudaApi& cuda_;
  const Program& program_;
  const std::string name_;
  CudaMemory arena_;
  std::vector<Port> inputs_, outputs_;
  std::vector<BoundStep> steps_;
  CUstream stream_ = nullptr;
  CUgraphExec exec_ = nullptr;  // null where no step does anything
  std::vector<CUevent> events_;
  std::vector<int64_t> nanoseconds_;
  Trace* trace_ = nullptr;
  std::vector<Trace::Name> trace_names_;
  int64_t own_bytes_ = 0, pinned_bytes_ = 0;
  bool profiling_ = false;
  bool one_by_one_ = false;  // TESSERA_CUDA_SYNC
};

class CudaDevice : public Device {
 public:
  CudaDevice(std::string name, std::shared_ptr<CudaCard> card) : name_(std::move(name)), card_(std::move(card)) {}
  std::string_view name() const override { return name_; }
  std::string Describe() const override { return card_->Describe(); }

  StatusOr<std::unique_ptr<Executable>> Load(std::shared_ptr<const Program> program,
                                             const LoadOptions& options) override {
    RETURN_IF_ERROR(program->Verify());
    const CudaCurrent current(*card_);
    RETURN_IF_ERROR(current.status());
    std::shared_ptr<CudaCode> code = Find(program.get());
    if (code == nullptr) {
      ASSIGN_OR_RETURN(code, CudaCode::Load(card_, program, options.cache_dir));
      const std::lock_guard lock(mutex_);
      std::erase_if(loaded_, [](const auto& entry) { return entry.second.expired(); });
      loaded_[program.get()] = code;
    }
    return CudaExecutable::Create(card_, std::move(code));
  }

 private:
  // What another executable of the same program has loaded; it keeps the program, so its address names it.
  std::shared_ptr<CudaCode> Find(const Program* program) {
    const std::lock_guard lock(mutex_);
    const auto found = loaded_.find(program);
    return found == loaded_.end() ? nullptr : found->second.lock();
  }

  const std::string name_;
  std::shared_ptr<CudaCard> card_;
  std::mutex mutex_;
  std::map<const Program*, std::weak_ptr<CudaCode>> loaded_;
};

}  // namespace

StatusOr<std::unique_ptr<Device>> MakeCudaDevice(std::string_view name) {
  ASSIGN_OR_RETURN(const int ordinal, CudaOrdinal(name));
  ASSIGN_OR_RETURN(std::shared_ptr<CudaCard> card, CudaCard::Open(ordinal));
  return std::unique_ptr<Device>(std::make_unique<CudaDevice>(std::string(name), std::move(card)));
}

}  // namespace tessera
