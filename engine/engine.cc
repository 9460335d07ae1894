#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "codegen/compile.h"
#include "codegen/emitter.h"
#include "codegen/target.h"
#include "engine/choose_program.h"
#include "engine/engine_internal.h"
#include "engine/second_tier.h"
#include "graph/model_file.h"
#include "graph/verifier.h"
#include "propagate/pipeline.h"
#include "runtime/device.h"
#include "runtime/processors.h"
#include "runtime/program_bundle.h"

namespace tessera {
namespace {

TensorInfo InfoOf(const std::string& name, const TensorType& type) {
  return {name, std::string(Name(type.dtype)), type.shape.dims(),
          static_cast<size_t>(ByteSize(type.dtype, type.shape.num_elements()))};
}

std::string ShapeText(const TensorInfo& info) { return info.type + Shape(info.shape).ToString(); }

// The position of `name` among `ports`, or an error that lists what there is.
StatusOr<size_t> FindPort(const std::vector<TensorInfo>& ports, const std::string& name, const char* what) {
  for (size_t k = 0; k < ports.size(); ++k) {
    if (ports[k].name == name) return k;
  }
  std::string known;
  for (const TensorInfo& port : ports) known += (known.empty() ? "'" : ", '") + port.name + "'";
  return Error(ErrorCode::kInputUnknown, "the model has no ", what, " '", name, "'; it has ", known);
}

// What is held of the device, for the report.
void NoteDevice(const Executable& executable, SessionReport* report) {
  const ExecutableInfo info = executable.info();
  report->device_bytes = info.device_bytes;
  report->device_bytes_peak = info.device_bytes_peak;
  report->pinned_bytes = info.pinned_bytes;
  report->assembler = info.assembler;
}

void NoteProgram(const Program& program, const CompileResult& compiled, SessionReport* report) {
  report->from_cache = compiled.from_cache;
  report->steps = static_cast<int>(program.steps.size());
  report->kernels = compiled.num_kernels;
  report->code_bytes = compiled.code_bytes;
  report->arena_bytes = program.memory.arena_bytes;
  report->max_live_bytes = program.memory.max_live_bytes;
  report->constant_bytes = program.memory.constant_bytes;
  report->flops = 0;
  for (const Step& step : program.steps) report->flops += step.flops;
  report->decisions = compiled.decisions;
}

double MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

enum class Tier : uint8_t { kFinal, kFirst, kBoth };

StatusOr<Tier> ParseTier(const std::string& text) {
  if (text == "final") return Tier::kFinal;
  if (text == "first") return Tier::kFirst;
  if (text == "both") return Tier::kBoth;
  return Error(ErrorCode::kUsageInvalid, "tier: expected final, first or both, found '", text, "'");
}

Status CheckEmitter(const std::string& name) {
  std::string known;
  const std::string_view emitter_name = std::string_view(name).substr(0, name.find(':'));  // "sparse:loop"
  for (const Emitter& emitter : AllEmitters()) {
    if (name.empty() || emitter.name == emitter_name) return OkStatus();
    known += (known.empty() ? "" : ", ") + std::string(emitter.name);
  }
  return Error(ErrorCode::kUsageInvalid, "there is no emitter '", name, "'; there are ", known);
}

}  // namespace

struct Model::State {
  Graph graph;
  std::vector<TensorInfo> inputs, outputs;
};

struct Session::State {
  std::shared_ptr<Device> device;
  std::shared_ptr<Executable> executable;
  std::vector<TensorInfo> inputs, outputs;
  SessionReport report;
  int threads = 0;
  // The final program, while it is on its way; shared with clones. What became of it.
  std::shared_ptr<SecondTier> second;
  Status final_status;
  bool profiling = false;
  Trace* trace = nullptr;
  // Reused by Run, so that a steady state allocates nothing: pointers by position, and bytes for outputs not asked for.
  std::vector<const void*> input_pointers;
  std::vector<void*> output_pointers;
  std::vector<std::vector<std::byte>> unwanted;

  void SetPorts(std::vector<TensorInfo> to_read, std::vector<TensorInfo> to_write) {
    inputs = std::move(to_read);
    outputs = std::move(to_write);
    input_pointers.resize(inputs.size());
    output_pointers.resize(outputs.size());
    unwanted.resize(outputs.size());
  }

  // Between two runs: takes the final program, if it is there; what ran before is freed, unless clones still need it.
  void Advance() {
    if (second == nullptr || !second->ended()) return;
    StatusOr<SecondTier::Product> product = second->Take({.threads = threads, .cache_dir = {}});
    second.reset();
    if (!product.ok()) {
      final_status = product.status();
      report.warnings.push_back("the final program could not be made, the first one stays: " + final_status.ToString());
      return;
    }
    executable = std::move(product->executable);
    executable->SetProfiling(profiling);
    executable->SetTrace(trace);
    std::swap(report.warnings, product->report.warnings);  // more may have been said meanwhile
    report = std::move(product->report);
  }
};

Session::Session(std::unique_ptr<State> state) : state_(std::move(state)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

const std::vector<TensorInfo>& Session::inputs() const { return state_->inputs; }
const std::vector<TensorInfo>& Session::outputs() const { return state_->outputs; }
const SessionReport& Session::report() const {
  // Memory for copies is taken by the first runs.
  NoteDevice(*state_->executable, &state_->report);
  return state_->report;
}
void Session::SetProfiling(bool enabled) {
  state_->profiling = enabled;
  state_->executable->SetProfiling(enabled);
}
std::string Session::ProgramText() const { return state_->executable->program().ToString(); }

Status Session::AwaitFinalTier() {
  if (state_->second != nullptr) state_->second->Wait();
  state_->Advance();
  return state_->final_status;
}

Status Session::Run(const std::vector<InputView>& inputs, const std::vector<OutputView>& outputs) {
  State& state = *state_;
  state.Advance();
  std::fill(state.input_pointers.begin(), state.input_pointers.end(), nullptr);
  std::fill(state.output_pointers.begin(), state.output_pointers.end(), nullptr);
  const auto check_size = [](const TensorInfo& port, size_t bytes, const void* data, const char* what) {
    if (bytes == port.bytes && (data != nullptr || bytes == 0)) return OkStatus();
    return Error(ErrorCode::kShapeMismatch, what, " '", port.name, "': expected ", port.bytes, " bytes of ",
                 ShapeText(port), ", found ", data == nullptr ? 0 : bytes);
  };
  for (const InputView& view : inputs) {
    ASSIGN_OR_RETURN(const size_t at, FindPort(state.inputs, view.name, "input"));
    RETURN_IF_ERROR(check_size(state.inputs[at], view.bytes, view.data, "input"));
    // An empty tensor has no bytes to point at; any address will do.
    state.input_pointers[at] = view.data != nullptr ? view.data : &state;
  }
  for (const OutputView& view : outputs) {
    ASSIGN_OR_RETURN(const size_t at, FindPort(state.outputs, view.name, "output"));
    RETURN_IF_ERROR(check_size(state.outputs[at], view.bytes, view.data, "output"));
    state.output_pointers[at] = view.data != nullptr ? view.data : &state;
  }
  for (size_t k = 0; k < state.inputs.size(); ++k) {
    if (state.input_pointers[k] != nullptr) continue;
    return Error(ErrorCode::kInputMissing, "input '", state.inputs[k].name, "' (", ShapeText(state.inputs[k]),
                 ") was not given");
  }
  for (size_t k = 0; k < state.outputs.size(); ++k) {
    if (state.output_pointers[k] != nullptr) continue;
    state.unwanted[k].resize(state.outputs[k].bytes + 1);
    state.output_pointers[k] = state.unwanted[k].data();
  }
  return state.executable->Run(state.input_pointers, state.output_pointers);
}

Status Session::RunPositional(const void* const* inputs, void* const* outputs) {
  state_->Advance();
  return state_->executable->Run({inputs, state_->inputs.size()}, {outputs, state_->outputs.size()});
}

StatusOr<double> Session::MeasureUs(int runs) { return state_->executable->MeasureUs(runs); }

StatusOr<Session> Session::Clone() const {
  auto state = std::make_unique<State>();
  state->device = state_->device;
  state->SetPorts(state_->inputs, state_->outputs);
  state->report = state_->report;
  state->threads = state_->threads;
  state->second = state_->second;
  state->final_status = state_->final_status;
  ASSIGN_OR_RETURN(state->executable, state_->executable->Clone({.threads = state->threads, .cache_dir = {}}));
  NoteDevice(*state->executable, &state->report);
  return Session(std::move(state));
}

std::vector<StepProfile> Session::Profile() const {
  const Program& program = state_->executable->program();
  const std::span<const int64_t> times = state_->executable->step_nanoseconds();
  std::vector<StepProfile> steps;
  for (size_t s = 0; s < program.steps.size(); ++s) {
    const Step& step = program.steps[s];
    steps.push_back(
        {step.label, program.kernels[step.kernel], static_cast<double>(times[s]) / 1000, step.flops, step.bytes});
  }
  return steps;
}

const Program& SessionAccess::ProgramOf(const Session& session) { return session.state_->executable->program(); }
int SessionAccess::ThreadsOf(const Session& session) { return session.state_->executable->threads(); }
void SessionAccess::SetTrace(Session& session, Trace* trace) {
  session.state_->trace = trace;
  session.state_->executable->SetTrace(trace);
}

Model::Model(std::shared_ptr<const State> state) : state_(std::move(state)) {}

StatusOr<Model> ModelFromGraph(Graph graph) {
  RETURN_IF_ERROR(Verify(graph));
  auto state = std::make_shared<Model::State>();
  for (ValueId id : graph.inputs) state->inputs.push_back(InfoOf(graph[id].name, graph[id].type));
  for (ValueId id : graph.outputs) state->outputs.push_back(InfoOf(graph[id].name, graph[id].type));
  state->graph = std::move(graph);
  return Model(std::move(state));
}

const Graph& GraphOf(const Model& model) { return model.state().graph; }

StatusOr<Model> Model::Load(const std::string& path) {
  ASSIGN_OR_RETURN(Graph graph, ReadModel(path));
  return ModelFromGraph(std::move(graph));
}

StatusOr<Model> Model::LoadFromMemory(const void* data, size_t size) {
  // Copied into aligned memory of its own, so that weights can be used in place like those of a mapped file.
  auto owner = std::make_shared<Tensor>(DType::kU8, Shape({static_cast<int64_t>(size)}));
  const auto* source = static_cast<const std::byte*>(data);
  std::span<std::byte> bytes = owner->mutable_bytes();
  std::copy(source, source + size, bytes.begin());
  ASSIGN_OR_RETURN(Graph graph, ReadModelFromMemory(bytes, owner));
  return ModelFromGraph(std::move(graph));
}

const std::vector<TensorInfo>& Model::inputs() const { return state_->inputs; }
const std::vector<TensorInfo>& Model::outputs() const { return state_->outputs; }
const std::map<std::string, std::string>& Model::metadata() const { return state_->graph.metadata; }

namespace {

// The target that a name stands for; the null device has the host's programs.
StatusOr<Target> TargetNamed(const std::string& name) { return MakeTarget(name == "null" ? "host" : name); }

MachineKind MachineOf(const Target& target) { return target.IsGpu() ? MachineKind::kGpu : MachineKind::kProcessor; }

// All but what tuning knows.
CompileOptions CompileOptionsOf(const Options& options) {
  CompileOptions compile = {.threads = 0, .cache_dir = options.cache_dir, .only_emitter = options.only_emitter};
  compile.max_code_bytes = options.max_code_bytes;
  compile.run_threads = ThreadsToUse(options.threads);
  return compile;
}

StatusOr<Graph> Optimized(const Model& model, const Options& options, const Target& target, PrepareReport* report) {
  ASSIGN_OR_RETURN(const OnCollapse on_collapse, ParseOnCollapse(options.on_collapse));
  Graph graph = GraphOf(model);
  // Nobody is told what is pruned; the zeros that stand there are multiplied like everything else.
  if (!options.sparsity) {
    for (Value& value : graph.values) {
      if (value.kind == ValueKind::kConstant) value.tesa.reset();  // a mask on another is part of what is computed
    }
  }
  ASSIGN_OR_RETURN(*report, Prepare(graph, {.machine = MachineOf(target),
                                            .propagate = options.propagate && options.sparsity,
                                            .on_collapse = on_collapse}));
  return graph;
}

}  // namespace

StatusOr<MachineKind> MachineFor(const std::string& target) {
  ASSIGN_OR_RETURN(const Target named, TargetNamed(target));
  return MachineOf(named);
}

StatusOr<Graph> OptimizedGraphOf(const Model& model, const Options& options) {
  ASSIGN_OR_RETURN(const Target target, TargetNamed(options.target));
  PrepareReport report;
  return Optimized(model, options, target, &report);
}

namespace {

// What `make` makes for the first target that can be had: options.target, or of "auto" each card and then the host; and
// options.fallback, of which `warn` receives why.
template <typename Make, typename Warn>
StatusOr<Session> OrFallback(const Options& options, const Make& make, const Warn& warn) {
  std::vector<std::string> targets = {options.target};
  if (options.target == "auto") targets = {"cuda", "hip", "host"};
  const size_t wanted = targets.size();
  if (!options.fallback.empty()) targets.push_back(options.fallback);
  Status why;
  for (size_t k = 0;; ++k) {
    Options other = options;
    other.target = targets[k];
    StatusOr<Session> session = make(other);
    if (session.ok() && k >= wanted) {
      warn(*session,
           internal::Join("runs on '", other.target, "' in place of '", options.target, "': ", why.message()));
    }
    if (session.ok() || k + 1 == targets.size()) return session;
    why = session.status();
    switch (why.code()) {
      case ErrorCode::kDeviceMissing:
      case ErrorCode::kDeviceFailed:
      case ErrorCode::kOutOfMemory:
      case ErrorCode::kTargetUnsupported: break;
      default: return session;
    }
  }
}

}  // namespace

StatusOr<Session> Model::Compile(const Options& options) const {
  return OrFallback(
      options, [&](const Options& o) { return CompileFor(o); },
      [](Session& session, std::string why) {
        std::vector<std::string>& warnings = session.state_->report.warnings;
        warnings.insert(warnings.begin(), std::move(why));
      });
}

StatusOr<Session> Session::Load(const std::string& path, const Options& options) {
  return OrFallback(
      options, [&](const Options& o) { return LoadFor(path, o); },
      [](Session& session, std::string why) { session.state_->report.warnings.push_back(std::move(why)); });
}

StatusOr<Session> Session::LoadFor(const std::string& path, const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const Target machine, TargetNamed(options.target));
  ASSIGN_OR_RETURN(const ProgramBundle bundle, ProgramBundle::Open(path));
  std::vector<std::string> targets;
  std::string known;
  for (const ProgramBundle::Entry& entry : bundle.entries()) {
    targets.push_back(entry.target);
    known += (known.empty() ? "" : ", ") + entry.target;
  }
  auto program = std::make_shared<Program>();
  bool found = false;
  for (size_t entry : RankPrograms(targets, machine)) {
    ASSIGN_OR_RETURN(*program, bundle.Read(entry));
    found = machine.IsGpu() || HasFeatures(machine.features, program->required_features);
    if (found) break;
  }
  if (!found) {
    return Error(ErrorCode::kTargetUnsupported, "'", path, "' has no program that runs on '", options.target, "' (",
                 machine.cpu, "); it has ", known, "; `compile --target` writes others");
  }
  auto state = std::make_unique<State>();
  ASSIGN_OR_RETURN(state->device, OpenDevice(options.target == "null" ? "null" : machine.device));
  ASSIGN_OR_RETURN(state->executable,
                   state->device->Load(program, {.threads = options.threads, .cache_dir = options.cache_dir}));
  std::vector<TensorInfo> inputs, outputs;
  for (const ProgramPort& port : program->inputs) inputs.push_back(InfoOf(port.name, port.type));
  for (const ProgramPort& port : program->outputs) outputs.push_back(InfoOf(port.name, port.type));
  state->SetPorts(std::move(inputs), std::move(outputs));
  state->threads = options.threads;
  SessionReport& report = state->report;
  report.target = program->target + " (" + machine.cpu + ")";
  CompileResult as_compiled;
  as_compiled.from_cache = true;
  as_compiled.num_kernels = static_cast<int>(program->kernels.size());
  for (const ProgramImage& image : program->images) {
    as_compiled.code_bytes += static_cast<int64_t>(image.bytes.size());
  }
  as_compiled.decisions = program->decisions;
  NoteProgram(*program, as_compiled, &report);
  NoteDevice(*state->executable, &report);
  report.compile_ms = MillisecondsSince(start);
  return Session(std::move(state));
}

StatusOr<std::shared_ptr<const Program>> CompileProgram(const Model& model, const Options& options) {
  RETURN_IF_ERROR(CheckEmitter(options.only_emitter));
  ASSIGN_OR_RETURN(const Target target, TargetNamed(options.target));
  PrepareReport prepared;
  ASSIGN_OR_RETURN(const Graph graph, Optimized(model, options, target, &prepared));
  ASSIGN_OR_RETURN(const CompileResult compiled, tessera::Compile(graph, target, CompileOptionsOf(options)));
  return compiled.program;
}

StatusOr<Session> Model::CompileFor(const Options& options) const {
  const auto start = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(CheckEmitter(options.only_emitter));
  ASSIGN_OR_RETURN(Tier tier, ParseTier(options.tier));
  const bool null_device = options.target == "null";
  ASSIGN_OR_RETURN(const Target target, TargetNamed(options.target));
  PrepareReport prepared;
  ASSIGN_OR_RETURN(Graph optimized, Optimized(*this, options, target, &prepared));
  const auto graph = std::make_shared<const Graph>(std::move(optimized));
  CompileOptions compile = CompileOptionsOf(options);
  const auto tuning = std::make_shared<TuningRecords>();
  if (!options.tuning_file.empty()) {
    ASSIGN_OR_RETURN(*tuning, TuningRecords::ReadIfPresent(options.tuning_file));
    compile.tuning = tuning.get();
    compile.tuning_threads = ThreadsToUse(options.threads);
  }
  if (!HasSecondTier(*graph, target)) tier = Tier::kFinal;
  CompileResult compiled;
  if (tier == Tier::kBoth) {
    if (std::optional<CompileResult> found = FindCompiled(*graph, target, compile)) {
      compiled = *std::move(found);
      tier = Tier::kFinal;
    }
  }
  if (compiled.program == nullptr) {
    CompileOptions now = compile;
    now.first_tier = tier != Tier::kFinal;
    // What will be thrown away is not kept.
    if (tier == Tier::kBoth) now.cache_dir.clear();
    ASSIGN_OR_RETURN(compiled, tessera::Compile(*graph, target, now));
  }
  auto session = std::make_unique<Session::State>();
  ASSIGN_OR_RETURN(session->device, OpenDevice(null_device ? "null" : target.device));
  // The session has the program from its executable, which needs no images any more: they end with `compiled`.
  const LoadOptions load = {.threads = options.threads, .cache_dir = options.cache_dir};
  ASSIGN_OR_RETURN(session->executable, session->device->Load(compiled.program, load));
  session->SetPorts(state_->inputs, state_->outputs);
  session->threads = options.threads;

  SessionReport& report = session->report;
  report.target = target.name + " (" + target.cpu + ")";
  report.tier = tier == Tier::kFinal ? "final" : "first";
  NoteProgram(*compiled.program, compiled, &report);
  NoteDevice(*session->executable, &report);
  report.propagate_ms = prepared.propagate_ms;
  report.shrunk = std::move(prepared.shrink.lines);
  report.in_float = std::move(prepared.in_float);
  report.warnings = std::move(prepared.shrink.warnings);
  report.compile_ms = MillisecondsSince(start);
  if (tier != Tier::kBoth) return Session(std::move(session));

  session->second =
      std::make_shared<SecondTier>([graph, target, compile, tuning, load, start, report, device = session->device](
                                       const std::atomic<bool>& cancelled) mutable -> StatusOr<SecondTier::Product> {
        compile.cancelled = &cancelled;
        SecondTier::Product product = {nullptr, std::move(report)};
        ASSIGN_OR_RETURN(const CompileResult final, tessera::Compile(*graph, target, compile));
        ASSIGN_OR_RETURN(product.executable, device->Load(final.program, load));
        NoteProgram(*final.program, final, &product.report);
        product.report.tier = "final";
        product.report.final_tier_ms = MillisecondsSince(start);
        return product;
      });
  return Session(std::move(session));
}

}  // namespace tessera
