#include "codegen/compile.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "base/hash.h"
#include "codegen/compile_cache.h"
#include "codegen/emit/host/planes.h"
#include "codegen/emit/view.h"
#include "codegen/emitter.h"
#include "codegen/llvm_module.h"
#include "codegen/merge_products.h"
#include "codegen/on_threads.h"
#include "graph/op.h"
#include "runtime/host_memory.h"
#include "runtime/memory_planner.h"

namespace tessera {
namespace {

// The distinct kernels of a plan, in order of first use.
struct KernelTable {
  std::vector<const KernelSpec*> specs;
  std::vector<std::string> symbols;
  std::vector<std::string> keys;  // all that their code depends on beside the target
  std::vector<int> kernel_of_step;
};

KernelTable CollectKernels(const Plan& plan) {
  KernelTable table;
  std::map<std::string, int> index_of;
  for (const PlanStep& step : plan.steps) {
    std::string key = step.kernel.key;
    if (step.kernel.block_threads > 0) {
      key += internal::Join(" threads ", step.kernel.block_threads, "/", step.kernel.blocks_per_unit,
                            step.kernel.overlaps ? " overlaps" : "");
    }
    for (bool alias : step.kernel.may_alias) key += alias ? '1' : '0';
    auto [it, inserted] = index_of.try_emplace(key, static_cast<int>(table.specs.size()));
    if (inserted) {
      table.specs.push_back(&step.kernel);
      table.keys.push_back(key);
      table.symbols.push_back("tessera_" + step.kernel.family + "_" + std::to_string(it->second));
    }
    table.kernel_of_step.push_back(it->second);
  }
  return table;
}

// How many objects hold the kernels of a program: each thread compiles one.
int NumImages(size_t num_kernels, const CompileOptions& options) {
  if (num_kernels == 0) return 0;
  const int limit = options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(limit, 1, static_cast<int>(num_kernels));
}

std::string ObjectKey(const std::string& code_key, int image, int images) {
  return internal::Join(code_key, "-", image, "of", images);
}

// The objects of the kernels of that key, where all of them are there.
std::optional<std::vector<ProgramImage>> FindImages(const CompileCache& cache, const std::string& code_key, int count) {
  std::vector<ProgramImage> images;
  for (int k = 0; k < count; ++k) {
    std::optional<ProgramImage> image = cache.FindObject(ObjectKey(code_key, k, count));
    if (!image) return std::nullopt;
    images.push_back(*std::move(image));
  }
  return images;
}

Status NotCancelled(const std::atomic<bool>* cancelled) {
  if (cancelled == nullptr || !cancelled->load(std::memory_order_relaxed)) return OkStatus();
  return Error(ErrorCode::kInternal, "the compilation was cancelled");
}

// Objects for all kernels, spread over threads so that each compiles a similar share.
StatusOr<std::vector<ProgramImage>> CompileImages(const KernelTable& table, const Target& target, int count,
                                                  const CompileCache& cache, const std::string& code_key,
                                                  const std::atomic<bool>* cancelled) {
  const auto compile_part = [&](size_t part) -> StatusOr<ProgramImage> {
    RETURN_IF_ERROR(NotCancelled(cancelled));
    std::vector<const KernelSpec*> specs;
    std::vector<std::string> symbols;
    for (size_t k = part; k < table.specs.size(); k += static_cast<size_t>(count)) {
      specs.push_back(table.specs[k]);
      symbols.push_back(table.symbols[k]);
    }
    ASSIGN_OR_RETURN(std::vector<std::byte> bytes, CompileKernels(specs, symbols, target));
    const auto owner = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
    return ProgramImage{*owner, owner};
  };
  std::vector<StatusOr<ProgramImage>> results(static_cast<size_t>(count), ProgramImage());
  OnThreads(count, results.size(), [&](size_t part) { results[part] = compile_part(part); });
  std::vector<ProgramImage> images;
  for (StatusOr<ProgramImage>& result : results) {
    if (!result.ok()) return result.status();
    cache.StoreObject(ObjectKey(code_key, static_cast<int>(images.size()), count), *result);
    images.push_back(*std::move(result));
  }
  return images;
}

// Of everything that a program depends on but the number of threads that compile it.
std::string ProgramKey(const Graph& graph, const Target& target, const CompileOptions& options) {
  const Hash128 hash = HashGraph(graph, options.threads);
  Hasher hasher;
  hasher.AddString(GeneratorIdentity()).AddString(target.Key()).AddString(target.name).AddString(options.only_emitter);
  hasher.AddValue(hash.high).AddValue(hash.low).AddValue(options.max_code_bytes).AddValue(options.run_threads);
  hasher.AddValue(options.first_tier);
  if (options.tuning != nullptr) hasher.AddString(options.tuning->ToString()).AddValue(options.tuning_threads);
  return hasher.Finish().ToHex();
}

// The program of that key with its code, where all of it was kept.
std::optional<Program> FindProgram(const CompileCache& cache, const std::string& key, const CompileOptions& options) {
  std::optional<Program> stored = cache.FindProgram(key);
  if (!stored) return std::nullopt;
  std::optional<std::vector<ProgramImage>> images =
      FindImages(cache, stored->code_key, NumImages(stored->kernels.size(), options));
  if (!images) return std::nullopt;
  stored->images = *std::move(images);
  return stored;
}

CompileResult ResultOf(Program program, bool from_cache) {
  CompileResult result;
  result.from_cache = from_cache;
  result.num_kernels = static_cast<int>(program.kernels.size());
  for (const ProgramImage& image : program.images) result.code_bytes += static_cast<int64_t>(image.bytes.size());
  result.decisions = program.decisions;
  result.program = std::make_shared<const Program>(std::move(program));
  return result;
}

// Places temporaries in the arena.
Status PlaceTemps(const Plan& plan, Program& program) {
  std::vector<int> request_of(plan.buffers.size(), -1);
  std::vector<BufferRequest> requests;
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    for (const StepArg& arg : plan.steps[s].args) {
      const PlanBuffer& buffer = plan.buffers[arg.buffer];
      if (buffer.kind != BufferClass::kTemp) continue;
      int& request = request_of[arg.buffer];
      if (request < 0) {
        request = static_cast<int>(requests.size());
        requests.push_back({});
        requests[request].size_bytes = static_cast<uint64_t>(buffer.bytes);
        requests[request].first_step = static_cast<int32_t>(s);
      }
      requests[request].last_step = static_cast<int32_t>(s);
    }
    const std::vector<StepArg>& args = plan.steps[s].args;
    for (const auto& [in, out] : plan.steps[s].in_place) {
      const int from = request_of[args[in].buffer], to = request_of[args[out].buffer];
      if (from < 0 || to < 0 || from == to || requests[to].first_step != static_cast<int32_t>(s)) continue;
      // The two must lie alike in their buffers, and nothing else may be read from the one that is overwritten.
      if (requests[from].size_bytes != requests[to].size_bytes || args[in].offset != args[out].offset) continue;
      const auto elsewhere = [&, in = in](const StepArg& arg) {
        return arg.buffer == args[in].buffer && arg.offset != args[in].offset;
      };
      if (std::any_of(args.begin(), args.end(), elsewhere)) continue;
      requests[to].in_place_of.push_back(from);
    }
  }
  ASSIGN_OR_RETURN(const MemoryPlan memory, PlanMemory(requests));
  program.memory.arena_bytes = static_cast<int64_t>(memory.arena_bytes);
  program.memory.max_live_bytes = static_cast<int64_t>(memory.lower_bound_bytes);
  program.memory.naive_bytes = static_cast<int64_t>(memory.naive_bytes);
  for (size_t b = 0; b < plan.buffers.size(); ++b) {
    if (request_of[b] >= 0) program.buffers[b].offset = static_cast<int64_t>(memory.offsets[request_of[b]]);
    // A temporary that no step touches needs no bytes.
    if (plan.buffers[b].kind == BufferClass::kTemp && request_of[b] < 0) program.buffers[b].bytes = 0;
  }
  return OkStatus();
}

// Lays the constants that steps read into one aligned blob, equal bytes once.
Status PlaceConstants(const Plan& plan, Program& program) {
  constexpr int64_t kAlign = 64;
  std::set<int> used;
  for (const PlanStep& step : plan.steps) {
    for (const StepArg& arg : step.args) used.insert(arg.buffer);
  }
  std::map<std::pair<const std::byte*, int64_t>, int64_t> place_of;
  int64_t size = 0;
  for (int b : used) {
    const PlanBuffer& buffer = plan.buffers[b];
    if (buffer.kind != BufferClass::kConstant) continue;
    auto [it, inserted] = place_of.try_emplace({buffer.constant.bytes().data(), buffer.bytes}, size);
    if (inserted) size += (buffer.bytes + kAlign - 1) / kAlign * kAlign;
    program.buffers[b].offset = it->second;
  }
  for (size_t b = 0; b < plan.buffers.size(); ++b) {
    // One that no step reads, such as an empty one, takes no bytes.
    if (plan.buffers[b].kind != BufferClass::kConstant || used.count(static_cast<int>(b)) != 0) continue;
    program.buffers[b].bytes = 0;
    program.buffers[b].offset = 0;
  }
  ASSIGN_OR_RETURN(HostMemory memory, HostMemory::Allocate(size, "constants"));
  auto blob = std::make_shared<HostMemory>(std::move(memory));
  std::span<std::byte> bytes = blob->bytes();
  for (const auto& [source, offset] : place_of) {
    if (source.second > 0) std::memcpy(bytes.data() + offset, source.first, source.second);
  }
  program.constants = bytes;
  program.constants_owner = blob;
  program.memory.constant_bytes = size;
  return OkStatus();
}

// A graph output that is a graph input, a constant or another output too needs bytes of its own: a copy.
Graph GiveOutputsTheirOwn(const Graph& graph) {
  Graph result = graph;
  std::set<ValueId> seen;
  for (ValueId& output : result.outputs) {
    const bool own = result[output].kind == ValueKind::kComputed && seen.insert(output).second;
    if (own) continue;
    Value copy;
    copy.name = result[output].name + ".copy" + std::to_string(result.values.size());
    copy.type = result[output].type;
    Node node = {.op = Op::kReshape, .name = copy.name, .inputs = {output}, .outputs = {}, .attrs = {}, .epilogue = {}};
    node.attrs.Set("shape", copy.type.shape.dims());
    output = result.AddValue(std::move(copy));
    node.outputs = {output};
    result.nodes.push_back(std::move(node));
  }
  return result;
}

}  // namespace

StatusOr<Plan> MakePlan(const Graph& source, const Target& compiled_for, const CompileOptions& options) {
  Target target = compiled_for;
  target.threads = std::max(1, options.run_threads);
  const Graph graph = MergeProducts(GiveOutputsTheirOwn(source), target);
  PlanBuilder builder(graph, target);
  const SelectOptions select = {.only = options.only_emitter,
                                .tuning = options.tuning,
                                .threads = options.tuning_threads,
                                .first_tier = options.first_tier};
  std::vector<std::vector<Choice>> ranked(graph.nodes.size());
  std::vector<std::string>& notes = builder.plan().notes;
  notes.resize(graph.nodes.size());
  OnThreads(options.threads, graph.nodes.size(), [&](size_t n) {
    if (NotCancelled(options.cancelled).ok()) ranked[n] = RankWays(graph, graph.nodes[n], target, select, &notes[n]);
  });
  RETURN_IF_ERROR(NotCancelled(options.cancelled));
  // A byte: no way that grows with the pattern.
  const int64_t max_code_bytes = options.first_tier ? 1 : options.max_code_bytes;
  if (max_code_bytes > 0) KeepCodeWithin(static_cast<double>(max_code_bytes), ranked, notes);
  std::vector<Choice> choices;
  for (std::vector<Choice>& ways : ranked) choices.push_back(std::move(ways[0]));
  ChoosePlaneLayouts(choices, builder);
  ChoosePlaces(choices, builder);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    const Choice& choice = choices[n];
    RETURN_IF_ERROR(NotCancelled(options.cancelled));
    if (builder.IsMade(node.outputs[0])) {
      notes[n] = "node '" + node.name + "': in the last step of the node before";
      continue;
    }
    RETURN_IF_ERROR(choice.emitter->plan(node, choice.way.name, builder).WithContext("node '" + node.name + "'"));
  }
  Plan plan = builder.Finish();
  for (size_t k = 0; k < plan.outputs.size(); ++k) plan.outputs[k].name = source[source.outputs[k]].name;
  return plan;
}

std::optional<CompileResult> FindCompiled(const Graph& graph, const Target& target, const CompileOptions& options) {
  const CompileCache cache(options.cache_dir);
  if (!cache.keeps()) return std::nullopt;
  std::optional<Program> stored = FindProgram(cache, ProgramKey(graph, target, options), options);
  if (!stored) return std::nullopt;
  return ResultOf(*std::move(stored), /*from_cache=*/true);
}

bool HasSecondTier(const Graph& graph, const Target& target) {
  if (target.IsGpu()) return false;
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    if (node.op != Op::kMatmul && node.op != Op::kConv) return false;
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
      return graph.IsConstant(id) && graph[id].tesa && !graph[id].tesa->keeps_all();
    });
  });
}

StatusOr<CompileResult> Compile(const Graph& graph, const Target& target, const CompileOptions& options) {
  // All of it, where it was compiled before.
  const CompileCache cache(options.cache_dir);
  Program program;
  if (cache.keeps()) {
    program.key = ProgramKey(graph, target, options);
    if (std::optional<Program> stored = FindProgram(cache, program.key, options)) {
      return ResultOf(*std::move(stored), /*from_cache=*/true);
    }
  }

  // Which kernels, over which buffers.
  ASSIGN_OR_RETURN(const Plan plan, MakePlan(graph, target, options));
  const KernelTable table = CollectKernels(plan);

  // Their code, or the cache's.
  Hasher hasher;
  hasher.AddString(target.Key()).AddString(GeneratorIdentity());
  for (size_t k = 0; k < table.specs.size(); ++k) hasher.AddString(table.symbols[k]).AddString(table.keys[k]);
  program.code_key = hasher.Finish().ToHex();
  const int count = NumImages(table.specs.size(), options);
  std::optional<std::vector<ProgramImage>> images = FindImages(cache, program.code_key, count);
  const bool from_cache = images.has_value() && count > 0;
  if (!images) {
    ASSIGN_OR_RETURN(images, CompileImages(table, target, count, cache, program.code_key, options.cancelled));
  }
  program.images = *std::move(images);

  // Where everything lies.
  program.name = plan.name;
  program.target = target.name;
  program.required_features = target.features;
  for (const PlanBuffer& buffer : plan.buffers) {
    program.buffers.push_back({.name = buffer.name, .kind = buffer.kind, .bytes = buffer.bytes, .offset = buffer.port});
  }
  RETURN_IF_ERROR(PlaceTemps(plan, program));
  RETURN_IF_ERROR(PlaceConstants(plan, program));

  // In which order it runs.
  program.inputs = plan.inputs;
  program.outputs = plan.outputs;
  program.kernels = table.symbols;
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    const PlanStep& step = plan.steps[s];
    program.memory.scratch_bytes = std::max(program.memory.scratch_bytes, step.scratch_bytes);
    program.steps.push_back({.kernel = table.kernel_of_step[s],
                             .args = step.args,
                             .tasks = step.tasks,
                             .launch = step.launch,
                             .tensor_maps = step.tensor_maps,
                             .serial = step.serial,
                             .label = step.label,
                             .flops = step.flops,
                             .bytes = step.bytes});
  }
  program.decisions = plan.notes;
  RETURN_IF_ERROR(program.Verify());
  cache.StoreProgram(program);
  CompileResult result = ResultOf(std::move(program), from_cache);
  result.num_planned = static_cast<int>(graph.nodes.size());
  return result;
}

StatusOr<std::string> KernelListing(const Plan& plan, const Target& target, ListingForm form,
                                    const std::string& filter) {
  const KernelTable table = CollectKernels(plan);
  std::vector<const KernelSpec*> specs;
  std::vector<std::string> symbols;
  for (size_t k = 0; k < table.specs.size(); ++k) {
    if (table.symbols[k].find(filter) == std::string::npos) continue;
    specs.push_back(table.specs[k]);
    symbols.push_back(table.symbols[k]);
  }
  const CodeForm code = form == ListingForm::kIr            ? CodeForm::kIr
                        : form == ListingForm::kOptimizedIr ? CodeForm::kOptimizedIr
                                                            : CodeForm::kAssembly;
  ASSIGN_OR_RETURN(std::vector<std::byte> bytes, CompileKernels(specs, symbols, target, code));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace tessera
