// The simt driver: kernels of a GPU on the host, thread by thread, under supervision.
//
// Programs for `simt:nvptx:CHIP` hold host code made from the very IR that the chip would get (codegen/targets/
// emulate.h). Steps run in order, their blocks on the threads of a pool, the threads of a block on fibres
// (simt/block.h). Memory is as on a card, a buffer for each input and output, one arena, and everything that was not
// yet written is NaN; around each buffer lie bytes that are looked at after every step. A kernel that breaks a rule
// ends the run with kKernelFaulty, which names it. "simt:reverse", "simt:random" and "simt:random:SEED" run threads and
// blocks in another order, which no correct kernel notices.
#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/drivers/drivers.h"
#include "runtime/host_memory.h"
#include "runtime/processors.h"
#include "runtime/simt/block.h"
#include "runtime/simt/code.h"
#include "runtime/thread_pool.h"
#include "runtime/trace.h"

namespace tessera {
namespace {

// Memory between two strips of bytes that nobody may change.
class GuardedMemory {
 public:
  static constexpr int64_t kGuard = 256;
  static constexpr auto kMark = std::byte{0xa5};

  static StatusOr<GuardedMemory> Allocate(int64_t bytes, const char* what) {
    GuardedMemory memory;
    ASSIGN_OR_RETURN(memory.memory_, HostMemory::Allocate(bytes + 3 * kGuard, what));
    const auto start = reinterpret_cast<uintptr_t>(memory.memory_.data());
    memory.data_ = memory.memory_.data() + kGuard + (kGuard - start % kGuard) % kGuard;
    memory.bytes_ = bytes;
    std::memset(memory.data_ - kGuard, static_cast<int>(kMark), kGuard);
    std::memset(memory.data_ + bytes, static_cast<int>(kMark), kGuard);
    memory.Poison();
    return memory;
  }
  std::byte* data() const { return data_; }
  void Poison() {
    for (int64_t k = 0; k + 2 <= bytes_; k += 2) std::memcpy(data_ + k, &SharedMemory::kPoison, 2);
  }
  bool GuardsHold() const {
    for (int64_t k = 0; k < kGuard; ++k) {
      if (data_[k - kGuard] != kMark || data_[bytes_ + k] != kMark) return false;
    }
    return true;
  }

 private:
  HostMemory memory_;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

class SimtExecutable : public Executable {
 public:
  static StatusOr<std::unique_ptr<Executable>> Create(std::shared_ptr<const Program> program, SimtSchedule schedule,
                                                      const LoadOptions& options) {
    RETURN_IF_ERROR(program->Verify());
    auto self = std::unique_ptr<SimtExecutable>(new SimtExecutable(std::move(program), schedule));
    ASSIGN_OR_RETURN(self->pool_, ThreadPool::Create({.num_threads = options.threads}));
    for (int t = 0; t < self->pool_->num_threads(); ++t) {
      ASSIGN_OR_RETURN(std::unique_ptr<SimtBlock> block, SimtBlock::Make());
      self->blocks_.push_back(std::move(block));
    }
    ASSIGN_OR_RETURN(self->code_, SimtCode::Load(*self->program_));
    RETURN_IF_ERROR(self->PlaceMemory());
    RETURN_IF_ERROR(self->BindSteps());
    return std::unique_ptr<Executable>(std::move(self));
  }

  Status Run(std::span<const void* const> inputs, std::span<void* const> outputs) override {
    if (inputs.size() != program_->inputs.size() || outputs.size() != program_->outputs.size()) {
      return Error(ErrorCode::kInputMissing, "program '", program_->name, "': expected ", program_->inputs.size(),
                   " inputs and ", program_->outputs.size(), " outputs, found ", inputs.size(), " and ",
                   outputs.size());
    }
    for (size_t k = 0; k < inputs.size(); ++k) Copy(inputs_[k].data(), inputs[k], BytesOf(program_->inputs[k]));
    arena_.Poison();
    for (GuardedMemory& output : outputs_) output.Poison();
    for (size_t s = 0; s < launches_.size(); ++s) {
      const int64_t start = Trace::NowNs();
      RETURN_IF_ERROR(RunStep(launches_[s]));
      RETURN_IF_ERROR(CheckGuards(program_->steps[s]));
      const int64_t stop = Trace::NowNs();
      if (trace_ != nullptr) trace_->Record(0, trace_names_[s], start, stop);
      nanoseconds_[s] = stop - start;
    }
    for (size_t k = 0; k < outputs.size(); ++k) Copy(outputs[k], outputs_[k].data(), BytesOf(program_->outputs[k]));
    return OkStatus();
  }

  StatusOr<std::unique_ptr<Executable>> Clone(const LoadOptions& options) const override {
    return Create(program_, schedule_, options);
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
  int threads() const override { return pool_->num_threads(); }
  void SetProfiling(bool) override {}
  std::span<const int64_t> step_nanoseconds() const override { return nanoseconds_; }

 private:
  SimtExecutable(std::shared_ptr<const Program> program, SimtSchedule schedule)
      : program_(std::move(program)), schedule_(schedule) {}

  static int64_t BytesOf(const ProgramPort& port) { return ByteSize(port.type.dtype, port.type.shape.num_elements()); }
  static void Copy(void* to, const void* from, int64_t bytes) {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
  }

  Status PlaceMemory() {
    ASSIGN_OR_RETURN(arena_, GuardedMemory::Allocate(program_->memory.arena_bytes, "arena"));
    for (const ProgramPort& port : program_->inputs) {
      ASSIGN_OR_RETURN(GuardedMemory memory, GuardedMemory::Allocate(BytesOf(port), "input"));
      inputs_.push_back(std::move(memory));
    }
    for (const ProgramPort& port : program_->outputs) {
      ASSIGN_OR_RETURN(GuardedMemory memory, GuardedMemory::Allocate(BytesOf(port), "output"));
      outputs_.push_back(std::move(memory));
    }
    nanoseconds_.assign(program_->steps.size(), 0);
    return OkStatus();
  }

  const std::byte* StartOf(const ProgramBuffer& buffer) const {
    switch (buffer.kind) {
      case BufferClass::kTemp: return arena_.data() + buffer.offset;
      case BufferClass::kConstant: return program_->constants.data() + buffer.offset;
      case BufferClass::kInput: return inputs_[static_cast<size_t>(buffer.offset)].data();
      default: return outputs_[static_cast<size_t>(buffer.offset)].data();
    }
  }

  Status BindSteps() {
    for (const Step& step : program_->steps) {
      SimtLaunch launch;
      launch.kernel = program_->kernels[static_cast<size_t>(step.kernel)];
      launch.node = step.label;
      RETURN_IF_ERROR(code_->Bind(&launch));
      for (const StepArg& arg : step.args) {
        const ProgramBuffer& buffer = program_->buffers[static_cast<size_t>(arg.buffer)];
        const std::byte* start = StartOf(buffer);
        launch.params.push_back(reinterpret_cast<uint64_t>(start + arg.offset));
        const bool early = buffer.kind == BufferClass::kInput || buffer.kind == BufferClass::kConstant;
        launch.ranges.push_back(
            {.name = buffer.name, .begin = start, .bytes = buffer.bytes, .writes = arg.writes, .early = early});
      }
      if (step.launch.by_blocks()) {
        launch.grid = {step.launch.x, step.launch.y, step.launch.z};
        launch.threads = static_cast<int>(step.launch.threads);
        launch.shared_bytes = step.launch.shared_bytes;
        launch.overlap = step.launch.overlap;
      } else {
        const int64_t per_thread = step.serial ? std::max<int64_t>(1, step.tasks) : 1;
        const int64_t threads = (step.tasks + per_thread - 1) / per_thread;
        launch.threads = static_cast<int>(std::clamp<int64_t>(threads, 1, kTaskBlockThreads));
        launch.grid = {(threads + kTaskBlockThreads - 1) / kTaskBlockThreads, 1, 1};
        launch.params.push_back(static_cast<uint64_t>(step.tasks));
        launch.params.push_back(static_cast<uint64_t>(per_thread));
      }
      for (const TensorMap& map : step.tensor_maps) {
        const StepArg& arg = step.args[static_cast<size_t>(map.arg)];
        const ProgramBuffer& buffer = program_->buffers[static_cast<size_t>(arg.buffer)];
        launch.tensor_maps.push_back({map, StartOf(buffer) + arg.offset});
      }
      for (const SimtTensorMap& map : launch.tensor_maps) launch.params.push_back(reinterpret_cast<uint64_t>(&map));
      launches_.push_back(std::move(launch));
    }
    return OkStatus();
  }

  Status RunStep(const SimtLaunch& launch) {
    const int64_t count = launch.grid[0] * launch.grid[1] * launch.grid[2];
    // A step that has nothing in common with the number of blocks visits each of them once.
    int64_t stride = 1;
    if (schedule_.order == SimtOrder::kRandom && count > 1) {
      stride = static_cast<int64_t>((schedule_.seed * 0x9e3779b97f4a7c15u >> 33) % static_cast<uint64_t>(count)) | 1;
      while (std::gcd(stride, count) != 1) ++stride;
    }
    std::atomic<int64_t> next{0};
    Status fault;
    std::mutex one_fault;
    pool_->RunRegion([&](int thread, int, SpinBarrier&) {
      for (int64_t k = next++; k < count; k = next++) {
        const int64_t b = schedule_.order == SimtOrder::kReverse
                              ? count - 1 - k
                              : static_cast<int64_t>(static_cast<unsigned __int128>(k) * stride % count);
        const std::array<int64_t, 3> id = {b % launch.grid[0], b / launch.grid[0] % launch.grid[1],
                                           b / launch.grid[0] / launch.grid[1]};
        Status status = blocks_[static_cast<size_t>(thread)]->Run(launch, id, schedule_);
        if (status.ok()) continue;
        const std::lock_guard<std::mutex> lock(one_fault);
        if (fault.ok()) fault = std::move(status);
        next = count;
      }
    });
    return fault;
  }

  Status CheckGuards(const Step& step) const {
    const auto broken = [&](std::string_view what) {
      return Error(ErrorCode::kKernelFaulty, "kernel '", program_->kernels[static_cast<size_t>(step.kernel)],
                   "' of node '", step.label, "' wrote outside ", what);
    };
    if (!arena_.GuardsHold()) return broken("the arena");
    for (size_t k = 0; k < inputs_.size(); ++k) {
      if (!inputs_[k].GuardsHold()) return broken("input '" + program_->inputs[k].name + "'");
    }
    for (size_t k = 0; k < outputs_.size(); ++k) {
      if (!outputs_[k].GuardsHold()) return broken("output '" + program_->outputs[k].name + "'");
    }
    return OkStatus();
  }

  std::shared_ptr<const Program> program_;
  const SimtSchedule schedule_;
  std::unique_ptr<ThreadPool> pool_;
  std::vector<std::unique_ptr<SimtBlock>> blocks_;  // one a thread of the pool
  std::unique_ptr<SimtCode> code_;
  GuardedMemory arena_;
  std::vector<GuardedMemory> inputs_, outputs_;
  std::vector<SimtLaunch> launches_;
  std::vector<int64_t> nanoseconds_;
  Trace* trace_ = nullptr;
  std::vector<Trace::Name> trace_names_;
};

class SimtDevice : public Device {
 public:
  SimtDevice(std::string_view name, SimtSchedule schedule) : name_(name), schedule_(schedule) {}
  std::string_view name() const override { return name_; }
  std::string Describe() const override { return "GPU kernels on the host, checked: " + DescribeProcessor(); }
  StatusOr<std::unique_ptr<Executable>> Load(std::shared_ptr<const Program> program,
                                             const LoadOptions& options) override {
    return SimtExecutable::Create(std::move(program), schedule_, options);
  }

 private:
  const std::string name_;
  const SimtSchedule schedule_;
};

}  // namespace

StatusOr<std::unique_ptr<Device>> MakeSimtDevice(std::string_view name) {
  constexpr std::string_view kRandom = "simt:random:";
  SimtSchedule schedule;
  bool known = name == "simt" || name == "simt:forward";
  if (name == "simt:reverse") {
    schedule.order = SimtOrder::kReverse;
    known = true;
  } else if (name == "simt:random" || name.substr(0, kRandom.size()) == kRandom) {
    schedule.order = SimtOrder::kRandom;
    const std::string_view seed = name.substr(std::min(name.size(), kRandom.size()));
    const auto [end, error] = std::from_chars(seed.data(), seed.data() + seed.size(), schedule.seed);
    known = name == "simt:random" || (error == std::errc() && end == seed.data() + seed.size());
  }
  if (!known) {
    return Error(ErrorCode::kDeviceMissing, "device '", name,
                 "': expected simt, simt:forward, simt:reverse, simt:random or simt:random:SEED");
  }
  return std::unique_ptr<Device>(std::make_unique<SimtDevice>(name, schedule));
}

}  // namespace tessera
