// What the drivers cuda and hip share: a program's steps as one graph on a card.
//
// Code and constants of a program are on the card once, for all executables of it (gpu_code.h). An executable adds
// what a run changes: the arena, a buffer for each input and output, a stream, and a graph whose nodes are the steps
// and whose edges are what the steps' buffers ask for (runtime/step_order.h), so that independent steps run side by
// side. A step whose kernel waits for its predecessors by itself (Launch::overlap) hangs on programmatic edges where
// the vendor has them: it starts, and reads its weights, while they end. A driver that takes no graph of loaded
// kernels (HIP before 5.3) gets the steps one after the other on the stream.
//
// A run copies inputs in, launches the graph and copies outputs out. Callers' addresses may be of the host or of a
// card. Memory of the host that the card cannot reach by itself goes through pinned buffers, taken when first needed.
//
// What goes wrong on the card shows only after the graph: $TESSERA_CUDA_SYNC=1 or $TESSERA_HIP_SYNC=1 awaits each
// kernel and names the one that failed. Tested by cuda_device_test.cc and hip_device_test.cc on drivers that are not
// there (runtime/testing/fake_gpu.h), and by device_test and tests/conformance on a card.
#include "runtime/drivers/gpu_device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/drivers/gpu_code.h"
#include "runtime/step_order.h"
#include "runtime/trace.h"

namespace tessera {
namespace {

int64_t BytesOf(const ProgramPort& port) { return ByteSize(port.type.dtype, port.type.shape.num_elements()); }

class GpuExecutable : public Executable {
 public:
  static StatusOr<std::unique_ptr<Executable>> Create(std::shared_ptr<GpuCard> card, std::shared_ptr<GpuCode> code) {
    std::unique_ptr<GpuExecutable> self(new GpuExecutable(std::move(card), std::move(code)));
    RETURN_IF_ERROR(self->api_.Check(self->api_.CreateStream(&self->stream_, kGpuNonBlockingStream),
                                     self->api_.CreateStream, self->name_));
    RETURN_IF_ERROR(self->PlaceMemory());
    RETURN_IF_ERROR(self->BindSteps());
    if (!self->one_by_one_) RETURN_IF_ERROR(self->MakeGraph());
    return std::unique_ptr<Executable>(std::move(self));
  }

  ~GpuExecutable() override {
    const GpuCurrent current(*card_);
    if (stream_ != nullptr) api_.SynchronizeStream(stream_);
    for (GpuEvent event : events_) api_.DestroyEvent(event);
    if (exec_ != nullptr) api_.DestroyGraphExec(exec_);
    if (stream_ != nullptr) api_.DestroyStream(stream_);
  }

  Status Run(std::span<const void* const> inputs, std::span<void* const> outputs) override {
    if (inputs.size() != inputs_.size() || outputs.size() != outputs_.size()) {
      return Error(ErrorCode::kInputMissing, name_, ": expected ", inputs_.size(), " inputs and ", outputs_.size(),
                   " outputs, found ", inputs.size(), " and ", outputs.size());
    }
    const GpuCurrent current(*card_);
    RETURN_IF_ERROR(current.status());
    // Messages are made only where a call failed: a run allocates nothing.
    for (size_t k = 0; k < inputs.size(); ++k) RETURN_IF_ERROR(CopyIn(inputs_[k], inputs[k]));
    if (profiling_ || trace_ != nullptr || one_by_one_) {
      RETURN_IF_ERROR(RunMeasured());
    } else {
      RETURN_IF_ERROR(LaunchSteps());
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
    const GpuCurrent current(*card_);
    RETURN_IF_ERROR(current.status());
    RETURN_IF_ERROR(TakeEvents(2));
    RETURN_IF_ERROR(RecordEvent(0));
    for (int k = 0; k < runs; ++k) RETURN_IF_ERROR(LaunchSteps());
    RETURN_IF_ERROR(RecordEvent(1));
    RETURN_IF_ERROR(Await());
    float milliseconds = 0;
    RETURN_IF_ERROR(api_.Check(api_.ElapsedTime(&milliseconds, events_[0], events_[1]), api_.ElapsedTime, name_));
    return static_cast<double>(milliseconds) * 1e3 / runs;
  }

  StatusOr<std::unique_ptr<Executable>> Clone(const LoadOptions&) const override {
    const GpuCurrent current(*card_);
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
    GpuMemory memory;
    GpuPinnedMemory staging;
    bool staged = false;      // the last copy went through `staging`
    bool no_staging = false;  // there was no pinned memory to be had
  };
  // A step with its launch: the values of its parameters, and where the driver finds them.
  struct BoundStep {
    GpuKernelNode kernel;
    std::vector<uint64_t> values;
    std::vector<GpuCard::TensorMapWords> tensor_maps;
    std::vector<void*> params;
  };

  GpuExecutable(std::shared_ptr<GpuCard> card, std::shared_ptr<GpuCode> code)
      : card_(std::move(card)),
        code_(std::move(code)),
        api_(card_->api()),
        program_(code_->program()),
        name_(ProgramName(program_)) {
    const char* sync = std::getenv(card_->sync_variable());
    one_by_one_ = sync != nullptr && std::string_view(sync) == "1";
  }

  StatusOr<GpuMemory> Take(int64_t bytes, const std::string& what) {
    own_bytes_ += bytes;
    return GpuMemory::Allocate(card_, bytes, what + " of " + name_);
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

  GpuAddress AddressOf(const StepArg& arg) const {
    const ProgramBuffer& buffer = program_.buffers[arg.buffer];
    const auto within = [&](GpuAddress base) { return base + static_cast<uint64_t>(buffer.offset + arg.offset); };
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
        bound.kernel.threads = static_cast<unsigned>(launch.threads);
        bound.kernel.shared_bytes = static_cast<unsigned>(launch.shared_bytes);
      } else {
        const int64_t per_thread = step.serial ? step.tasks : 1;
        const int64_t threads = step.tasks == 0 ? 0 : (step.tasks + per_thread - 1) / per_thread;
        bound.kernel.grid_x =
            static_cast<unsigned>((threads + kTaskBlockThreads - 1) / kTaskBlockThreads);  // 0: nothing to do
        bound.kernel.threads = static_cast<unsigned>(std::min(threads, kTaskBlockThreads));
        bound.values.push_back(static_cast<uint64_t>(step.tasks));
        bound.values.push_back(static_cast<uint64_t>(per_thread));
      }
      for (const TensorMap& map : step.tensor_maps) {
        RETURN_IF_ERROR(card_->EncodeMap(program_, map, AddressOf(step.args[static_cast<size_t>(map.arg)]),
                                         KernelName(program_, step), &bound.tensor_maps.emplace_back()));
      }
      steps_.push_back(std::move(bound));
    }
    for (BoundStep& step : steps_) {
      for (uint64_t& value : step.values) step.params.push_back(&value);
      for (GpuCard::TensorMapWords& map : step.tensor_maps) step.params.push_back(&map);
      step.kernel.params = step.params.data();
    }
    return OkStatus();
  }

  bool IsEmpty(size_t s) const { return steps_[s].kernel.grid_x == 0; }

  Status LaunchStep(size_t s) {
    if (IsEmpty(s)) return OkStatus();
    const GpuKernelNode& k = steps_[s].kernel;
    const GpuResult r = api_.LaunchKernel(k.function, k.grid_x, k.grid_y, k.grid_z, k.threads, 1, 1, k.shared_bytes,
                                          stream_, k.params, nullptr);
    return r == 0 ? OkStatus() : api_.Check(r, api_.LaunchKernel, KernelName(program_, program_.steps[s]));
  }

  Status LaunchSteps() {
    if (exec_ != nullptr) {
      const GpuResult r = api_.LaunchGraph(exec_, stream_);
      return r == 0 ? OkStatus() : api_.Check(r, api_.LaunchGraph, name_);
    }
    for (size_t s = 0; s < steps_.size(); ++s) RETURN_IF_ERROR(LaunchStep(s));
    return OkStatus();
  }

  // The graph of all steps; a driver that does not take programmatic edges gets plain ones.
  Status MakeGraph() {
    bool programmatic = false;
    for (const Step& step : program_.steps) programmatic |= step.launch.overlap;
    if (programmatic && api_.has_programmatic_edges() && MakeGraph(/*programmatic=*/true).ok()) {
      return OkStatus();
    }
    const Status made = MakeGraph(/*programmatic=*/false);
    return graph_refused_ ? OkStatus() : made;
  }

  Status MakeGraph(bool programmatic) {
    GpuGraph graph = nullptr;
    RETURN_IF_ERROR(api_.Check(api_.CreateGraph(&graph, 0), api_.CreateGraph, name_));
    bool any = false;
    Status made = AddNodes(graph, programmatic, &any);
    if (made.ok() && any) {
      made = api_.Check(api_.InstantiateGraph(&exec_, graph, 0), api_.InstantiateGraph, name_);
    }
    api_.DestroyGraph(graph);
    if (!made.ok() || !any || !api_.UploadGraph.is_bound()) return made;
    // So that the first launch need not.
    made = api_.Check(api_.UploadGraph(exec_, stream_), api_.UploadGraph, name_);
    if (!made.ok()) {
      api_.DestroyGraphExec(exec_);
      exec_ = nullptr;
    }
    return made;
  }

  Status AddNodes(GpuGraph graph, bool programmatic, bool* any) {
    std::vector<bool> empty(steps_.size());
    for (size_t s = 0; s < steps_.size(); ++s) empty[s] = IsEmpty(s);
    const std::vector<std::vector<int>> dependencies = StepDependencies(program_, empty);
    std::vector<GpuGraphNode> nodes(steps_.size());
    for (size_t s = 0; s < steps_.size(); ++s) {
      if (empty[s]) continue;
      *any = true;
      const bool overlap = programmatic && program_.steps[s].launch.overlap;
      std::vector<GpuGraphNode> before;
      for (int t : dependencies[s]) before.push_back(nodes[t]);
      const auto check = [&](GpuResult r, std::string_view call) {
        return r == 0 ? OkStatus() : api_.Check(r, call, KernelName(program_, program_.steps[s]));
      };
      const GpuResult added =
          api_.AddKernelNode(&nodes[s], graph, before.data(), overlap ? 0 : before.size(), steps_[s].kernel);
      graph_refused_ |= api_.RefusesGraphs(added);
      RETURN_IF_ERROR(check(added, api_.add_kernel_node_name()));
      if (!overlap || before.empty()) continue;
      RETURN_IF_ERROR(
          check(api_.AddProgrammaticEdges(graph, before.data(), nodes[s], before.size()), api_.add_edges_name()));
    }
    return OkStatus();
  }

  // Decides whether a copy of `port` goes through pinned memory, which is taken when it is first needed.
  void ChooseWay(Port& port, const void* address) {
    port.staged = !api_.IsReachable(address);
    if (!port.staged || port.staging.data() != nullptr) return;
    if (!port.no_staging) {
      StatusOr<GpuPinnedMemory> memory =
          GpuPinnedMemory::Allocate(card_, static_cast<int64_t>(port.bytes), "copies of '" + port.port->name + "'");
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
    const GpuResult r = api_.Copy(port.memory.address(), reinterpret_cast<GpuAddress>(from), port.bytes, stream_);
    return r == 0 ? OkStatus() : api_.Check(r, api_.copy_name(), "input '" + port.port->name + "' of " + name_);
  }

  Status CopyOut(Port& port, void* to) {
    port.staged = false;
    if (port.bytes == 0) return OkStatus();
    ChooseWay(port, to);
    const auto target = reinterpret_cast<GpuAddress>(port.staged ? port.staging.data() : to);
    const GpuResult r = api_.Copy(target, port.memory.address(), port.bytes, stream_);
    return r == 0 ? OkStatus() : api_.Check(r, api_.copy_name(), "output '" + port.port->name + "' of " + name_);
  }

  Status Await() {
    const GpuResult r = api_.SynchronizeStream(stream_);
    if (r == 0) return OkStatus();
    return api_.Check(r, api_.SynchronizeStream,
                      internal::Join("one of the ", steps_.size(), " kernels of ", name_, " (", card_->sync_variable(),
                                     "=1 in the environment names it)"));
  }

  Status TakeEvents(size_t count) {
    while (events_.size() < count) {
      GpuEvent event = nullptr;
      RETURN_IF_ERROR(api_.Check(api_.CreateEvent(&event, 0), api_.CreateEvent, name_));
      events_.push_back(event);
    }
    return OkStatus();
  }

  Status RecordEvent(size_t k) {
    const GpuResult r = api_.RecordEvent(events_[k], stream_);
    return r == 0 ? OkStatus() : api_.Check(r, api_.RecordEvent, name_);
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
      const GpuResult r = api_.SynchronizeStream(stream_);
      if (r != 0) return api_.Check(r, api_.SynchronizeStream, KernelName(program_, program_.steps[s]));
    }
    RETURN_IF_ERROR(Await());
    int64_t now = start;
    for (size_t s = 0; s < steps_.size(); ++s) {
      float milliseconds = 0;
      const GpuResult r = api_.ElapsedTime(&milliseconds, events_[s], events_[s + 1]);
      if (r != 0) return api_.Check(r, api_.ElapsedTime, KernelName(program_, program_.steps[s]));
      nanoseconds_[s] = static_cast<int64_t>(static_cast<double>(milliseconds) * 1e6);
      if (trace_ != nullptr) trace_->Record(0, trace_names_[s], now, now + nanoseconds_[s]);
      now += nanoseconds_[s];
    }
    return OkStatus();
  }

  std::shared_ptr<GpuCard> card_;
  std::shared_ptr<GpuCode> code_;
  const GpuApi& api_;
  const Program& program_;
  const std::string name_;
  GpuMemory arena_;
  std::vector<Port> inputs_, outputs_;
  std::vector<BoundStep> steps_;
  GpuStream stream_ = nullptr;
  GpuGraphExec exec_ = nullptr;  // null where no step does anything
  std::vector<GpuEvent> events_;
  std::vector<int64_t> nanoseconds_;
  Trace* trace_ = nullptr;
  std::vector<Trace::Name> trace_names_;
  int64_t own_bytes_ = 0, pinned_bytes_ = 0;
  bool profiling_ = false;
  bool one_by_one_ = false;     // GpuCard::sync_variable
  bool graph_refused_ = false;  // by a driver whose graphs take no loaded kernels
};

class GpuDevice : public Device {
 public:
  GpuDevice(std::string name, std::shared_ptr<GpuCard> card) : name_(std::move(name)), card_(std::move(card)) {}
  std::string_view name() const override { return name_; }
  std::string Describe() const override { return card_->Describe(); }

  StatusOr<std::unique_ptr<Executable>> Load(std::shared_ptr<const Program> program,
                                             const LoadOptions& options) override {
    RETURN_IF_ERROR(program->Verify());
    const GpuCurrent current(*card_);
    RETURN_IF_ERROR(current.status());
    std::shared_ptr<GpuCode> code = Find(program.get());
    if (code == nullptr) {
      ASSIGN_OR_RETURN(code, GpuCode::Load(card_, program, options.cache_dir));
      const std::lock_guard lock(mutex_);
      std::erase_if(loaded_, [](const auto& entry) { return entry.second.expired(); });
      loaded_[program.get()] = code;
    }
    return GpuExecutable::Create(card_, std::move(code));
  }

 private:
  // What another executable of the same program has loaded; it keeps the program, so its address names it.
  std::shared_ptr<GpuCode> Find(const Program* program) {
    const std::lock_guard lock(mutex_);
    const auto found = loaded_.find(program);
    return found == loaded_.end() ? nullptr : found->second.lock();
  }

  const std::string name_;
  std::shared_ptr<GpuCard> card_;
  std::mutex mutex_;
  std::map<const Program*, std::weak_ptr<GpuCode>> loaded_;
};

}  // namespace

std::unique_ptr<Device> MakeGpuDevice(std::string_view name, std::shared_ptr<GpuCard> card) {
  return std::make_unique<GpuDevice>(std::string(name), std::move(card));
}

}  // namespace tessera
