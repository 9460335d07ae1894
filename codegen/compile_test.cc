// The pipeline as a whole: equal kernels are compiled once, the arena is planned, outputs have places of their own, the
// object cache is used and distrusted. Results of every op: tests/conformance.
#include "codegen/compile.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "codegen/emitter.h"
#include "codegen/testing/run_program.h"
#include "graph/op.h"
#include "runtime/device.h"
#include "runtime/testing/allocation_counter.h"

namespace tessera {
namespace {

ValueId AddInput(Graph& graph, const std::string& name, TensorType type) {
  Value value;
  value.name = name;
  value.type = std::move(type);
  value.kind = ValueKind::kInput;
  const ValueId id = graph.AddValue(std::move(value));
  graph.inputs.push_back(id);
  return id;
}

ValueId Apply(Graph& graph, Op op, const std::string& name, std::vector<ValueId> inputs, Attrs attrs = {}) {
  Node node = {.op = op, .name = name, .inputs = std::move(inputs), .attrs = std::move(attrs)};
  StatusOr<std::vector<TensorType>> types = InferTypes(graph, node);
  EXPECT_TRUE(types.ok()) << types.status();
  Value value;
  value.name = name;
  value.type = types->at(0);
  node.outputs = {graph.AddValue(std::move(value))};
  graph.nodes.push_back(node);
  return node.outputs[0];
}

// y = exp(exp(exp(x))) · x
Graph Chain() {
  Graph graph;
  graph.name = "chain";
  const ValueId x = AddInput(graph, "x", {DType::kF32, {3, 5}});
  ValueId v = x;
  for (int k = 0; k < 3; ++k) v = Apply(graph, Op::kExp, "exp" + std::to_string(k), {v});
  graph.outputs = {Apply(graph, Op::kMul, "y", {v, x})};
  return graph;
}

std::vector<Tensor> OutputsOf(const std::shared_ptr<const Program>& program, const std::vector<Tensor>& inputs) {
  StatusOr<std::vector<Tensor>> outputs = RunProgram(program, "host", inputs, /*threads=*/2);
  EXPECT_TRUE(outputs.ok()) << outputs.status();
  return outputs.ok() ? *std::move(outputs) : std::vector<Tensor>();
}

TEST(CompileTest, EqualNodesShareOneKernelAndTheArena) {
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  StatusOr<CompileResult> result = Compile(Chain(), *target, {.only_emitter = "generic"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->program->steps.size(), 4u);
  EXPECT_LE(result->num_kernels, 3) << "three equal exps are at most two kernels (the first may not run in place)";
  EXPECT_EQ(result->decisions.size(), 4u);
  const MemoryReport& memory = result->program->memory;
  EXPECT_EQ(memory.arena_bytes, 64) << "the chain runs in place: " << result->program->ToString();
  const Tensor x = Tensor::Full(DType::kF32, {3, 5}, 0.25);
  const std::vector<Tensor> y = OutputsOf(result->program, {x});
  EXPECT_NEAR(y[0].Get(7), std::exp(std::exp(std::exp(0.25))) * 0.25, 1e-5);
  EXPECT_EQ(x.Get(3), 0.25) << "inputs are never written";
}

TEST(CompileTest, OutputsThatAreInputsConstantsOrRepeatedGetCopies) {
  Graph graph;
  graph.name = "ports";
  const ValueId x = AddInput(graph, "x", {DType::kF32, {4}});
  Value constant;
  constant.name = "c";
  constant.constant = Tensor::FromVector<float>({2}, {7, 8});
  constant.type = constant.constant.type();
  constant.kind = ValueKind::kConstant;
  const ValueId c = graph.AddValue(std::move(constant));
  const ValueId y = Apply(graph, Op::kNeg, "y", {x});
  graph.outputs = {x, c, y, y};
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  StatusOr<CompileResult> result = Compile(graph, *target, {});
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->program->outputs.size(), 4u);
  EXPECT_EQ(result->program->outputs[0].name, "x");
  EXPECT_EQ(result->program->outputs[3].name, "y");
  const std::vector<Tensor> out = OutputsOf(result->program, {Tensor::FromVector<float>({4}, {1, 2, 3, 4})});
  EXPECT_EQ(out[0].Get(2), 3);
  EXPECT_EQ(out[1].Get(1), 8);
  EXPECT_EQ(out[2].Get(3), -4);
  EXPECT_EQ(out[3].Get(3), -4);
}

TEST(CompileTest, ReshapesCostNoStep) {
  Graph graph;
  const ValueId x = AddInput(graph, "x", {DType::kF32, {2, 6}});
  const ValueId a = Apply(graph, Op::kNeg, "a", {x});
  Attrs attrs;
  attrs.Set("shape", std::vector<int64_t>{3, 4});
  const ValueId r = Apply(graph, Op::kReshape, "r", {a}, attrs);
  graph.outputs = {Apply(graph, Op::kNeg, "b", {r})};
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  StatusOr<CompileResult> result = Compile(graph, *target, {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->program->steps.size(), 2u) << result->program->ToString();
}

TEST(CompileTest, SteadyStateAllocatesNothing) {
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  StatusOr<CompileResult> result = Compile(Chain(), *target, {});
  ASSERT_TRUE(result.ok());
  StatusOr<std::unique_ptr<Device>> device = OpenDevice("host");
  ASSERT_TRUE(device.ok());
  StatusOr<std::unique_ptr<Executable>> executable = (*device)->Load(result->program, {.threads = 2});
  ASSERT_TRUE(executable.ok());
  const Tensor x = Tensor::Full(DType::kF32, {3, 5}, 0.25);
  Tensor y(DType::kF32, {3, 5});
  const void* inputs[] = {x.bytes().data()};
  void* outputs[] = {y.mutable_bytes().data()};
  ASSERT_TRUE((*executable)->Run(inputs, outputs).ok());
  const int64_t before = AllocationCount();
  for (int k = 0; k < 100; ++k) {
    if (!(*executable)->Run(inputs, outputs).ok()) FAIL();
  }
  EXPECT_EQ(AllocationCount(), before);
}

// y = x · w', w [64, 96] with one element in four kept, as `seed` says; `value` is part of each weight.
Graph SparseLayer(int seed, float value) {
  Graph graph;
  graph.name = "layer";
  const ValueId x = AddInput(graph, "x", {DType::kF32, {32, 96}});
  std::mt19937 rng(static_cast<unsigned>(seed));
  std::vector<float> weights(64 * 96);
  for (size_t k = 0; k < weights.size(); ++k) weights[k] = rng() % 4 == 0 ? value + static_cast<float>(k % 7) : 0;
  Value w;
  w.name = "w";
  w.constant = Tensor::FromVector<float>({64, 96}, weights);
  w.type = w.constant.type();
  w.kind = ValueKind::kConstant;
  w.tesa = Attribute::FromZeros(w.constant);
  const ValueId id = graph.AddValue(std::move(w));
  Attrs attrs;
  attrs.Set("transpose_b", int64_t{1});
  graph.outputs = {Apply(graph, Op::kMatmul, "y", {x, id}, attrs)};
  return graph;
}

std::string EmptyFolder(const std::string& name) {
  const std::string folder = std::string(std::getenv("TEST_TMPDIR")) + "/" + name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

void DamageFiles(const std::string& folder, const std::string& ending) {
  int damaged = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ending) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(100);
    file.put('\x5a');
    file.put('\xa5');
    ++damaged;
  }
  EXPECT_GT(damaged, 0) << ending;
}

// Six ops that no kernel is shared by: each thread makes an object of its share, and each kernel is in one of them.
TEST(CompileTest, ThreadsShareTheKernels) {
  Graph graph;
  graph.name = "six";
  const ValueId x = AddInput(graph, "x", {DType::kF32, {4, 33}});
  for (const Op op : {Op::kExp, Op::kTanh, Op::kSigmoid, Op::kErf, Op::kAbs, Op::kNeg}) {
    graph.outputs.push_back(Apply(graph, op, "y" + std::to_string(graph.outputs.size()), {x}));
  }
  const Tensor from = Tensor::Full(DType::kF32, {4, 33}, 0.75);
  for (const char* name : {"host", "simt:nvptx:sm_80", "cuda:sm_90"}) {
    const StatusOr<Target> target = MakeTarget(name);
    ASSERT_TRUE(target.ok()) << target.status();
    const StatusOr<CompileResult> one = Compile(graph, *target, {.threads = 1});
    const StatusOr<CompileResult> three = Compile(graph, *target, {.threads = 3});
    ASSERT_TRUE(one.ok() && three.ok()) << one.status() << three.status();
    EXPECT_EQ(one->program->images.size(), 1u) << name;
    EXPECT_EQ(three->program->images.size(), 3u) << name;
    EXPECT_EQ(three->num_kernels, 6) << name;
    EXPECT_EQ(three->program->kernels, one->program->kernels) << name;
    for (const std::string& kernel : three->program->kernels) {
      int found = 0;
      for (const ProgramImage& image : three->program->images) {
        const std::string_view text(reinterpret_cast<const char*>(image.bytes.data()), image.bytes.size());
        found += text.find(kernel) != std::string_view::npos ? 1 : 0;
      }
      EXPECT_EQ(found, 1) << kernel << " for " << name;
    }
    if (target->device == "cuda") continue;  // no card
    const StatusOr<std::vector<Tensor>> a = RunProgram(one->program, target->device, {&from, 1}, 1);
    const StatusOr<std::vector<Tensor>> b = RunProgram(three->program, target->device, {&from, 1}, 1);
    ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
    for (size_t k = 0; k < a->size(); ++k) EXPECT_TRUE((*a)[k] == (*b)[k]) << name << " " << k;
  }
}

TEST(CompileTest, ASecondCompilationDecidesNothingAndGivesTheSame) {
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  const Tensor x = Tensor::Full(DType::kF32, {32, 96}, 0.25);
  const CompileOptions options = {.threads = 1, .cache_dir = EmptyFolder("cache")};
  StatusOr<CompileResult> first = Compile(SparseLayer(1, 1), *target, options);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_FALSE(first->from_cache);
  EXPECT_EQ(first->num_planned, 1);
  StatusOr<CompileResult> second = Compile(SparseLayer(1, 1), *target, options);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->from_cache);
  EXPECT_EQ(second->num_planned, 0);
  EXPECT_EQ(second->decisions, first->decisions);
  EXPECT_EQ(second->num_kernels, first->num_kernels);
  EXPECT_EQ(second->code_bytes, first->code_bytes);
  EXPECT_EQ(second->program->ToString(), first->program->ToString());
  EXPECT_TRUE(OutputsOf(second->program, {x})[0] == OutputsOf(first->program, {x})[0]);

  StatusOr<CompileResult> weights = Compile(SparseLayer(1, 2), *target, options);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_TRUE(weights->from_cache) << "the mask is the same, and with it the code";
  EXPECT_EQ(weights->num_planned, 1) << "the weights are not";
  EXPECT_FALSE(OutputsOf(weights->program, {x})[0] == OutputsOf(first->program, {x})[0]);
  StatusOr<CompileResult> mask = Compile(SparseLayer(2, 1), *target, options);
  ASSERT_TRUE(mask.ok()) << mask.status();
  EXPECT_EQ(mask->num_planned, 1) << "another mask is another program";
  CompileOptions generic = options;
  generic.only_emitter = "generic";
  StatusOr<CompileResult> asked = Compile(SparseLayer(1, 1), *target, generic);
  ASSERT_TRUE(asked.ok()) << asked.status();
  EXPECT_EQ(asked->num_planned, 1) << "other options are another program";
  StatusOr<Target> other = MakeTarget("host:x86-64");
  ASSERT_TRUE(other.ok());
  StatusOr<CompileResult> level = Compile(SparseLayer(1, 1), *other, options);
  ASSERT_TRUE(level.ok()) << level.status();
  EXPECT_FALSE(level->from_cache) << "another processor level is another key";
}

TEST(CompileTest, DamagedEntriesAreMadeAnew) {
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  const std::string folder = EmptyFolder("damaged");
  const CompileOptions options = {.threads = 1, .cache_dir = folder};
  const auto compile = [&] { return Compile(SparseLayer(1, 1), *target, options); };
  ASSERT_TRUE(compile().ok());
  DamageFiles(folder, ".program");
  StatusOr<CompileResult> planned = compile();
  ASSERT_TRUE(planned.ok()) << planned.status();
  EXPECT_EQ(planned->num_planned, 1) << "a damaged program must not be run";
  EXPECT_TRUE(planned->from_cache) << "its code is another file";
  EXPECT_EQ(compile()->num_planned, 0) << "it was written again";
  DamageFiles(folder, ".o");
  StatusOr<CompileResult> compiled = compile();
  ASSERT_TRUE(compiled.ok()) << compiled.status();
  EXPECT_FALSE(compiled->from_cache) << "a damaged object must not be run";
  EXPECT_EQ(compile()->num_planned, 0) << "it was written again";
}

TEST(CompileTest, ALoadedProgramKeepsItsCodeOnce) {
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  StatusOr<CompileResult> result = Compile(Chain(), *target, {.threads = 1});
  ASSERT_TRUE(result.ok());
  StatusOr<std::unique_ptr<Device>> device = OpenDevice("host");
  ASSERT_TRUE(device.ok());
  StatusOr<std::unique_ptr<Executable>> executable = (*device)->Load(result->program, {.threads = 1});
  ASSERT_TRUE(executable.ok()) << executable.status();
  ASSERT_EQ(result->program->images.size(), 1u);
  const std::weak_ptr<const void> object = result->program->images[0].owner;
  result->program.reset();
  EXPECT_TRUE(object.expired()) << "its bytes are in executable memory";
  StatusOr<std::unique_ptr<Executable>> clone = (*executable)->Clone({.threads = 2});
  ASSERT_TRUE(clone.ok()) << clone.status();
  executable->reset();
  const Tensor x = Tensor::Full(DType::kF32, {3, 5}, 0.25);
  Tensor y(DType::kF32, {3, 5});
  const void* inputs[] = {x.bytes().data()};
  void* outputs[] = {y.mutable_bytes().data()};
  ASSERT_TRUE((*clone)->Run(inputs, outputs).ok());
  EXPECT_NEAR(y.Get(7), std::exp(std::exp(std::exp(0.25))) * 0.25, 1e-5);
}

TEST(CompileTest, EveryEmitterOfTheTableIsDocumented) {  // walks codegen/emit/emitters.def
  EXPECT_GE(AllEmitters().size(), 2u);
  for (const Emitter& emitter : AllEmitters()) EXPECT_FALSE(emitter.doc.empty()) << emitter.name;
}

TEST(CompileTest, NobodyWaitsForWhatWasCancelled) {
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok()) << target.status();
  std::atomic<bool> cancelled{true};
  const StatusOr<CompileResult> result = Compile(Chain(), *target, {.cancelled = &cancelled});
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.status().message().find("cancelled"), std::string::npos) << result.status();
  cancelled = false;
  EXPECT_TRUE(Compile(Chain(), *target, {.cancelled = &cancelled}).ok());
}

}  // namespace
}  // namespace tessera
