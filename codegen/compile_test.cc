// The pipeline as a whole: equal kernels are compiled once, the arena is planned, outputs have places of their own, the
// object cache is used and distrusted. Results of every op: tests/conformance.
#include "codegen/compile.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "codegen/emitter.h"
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

std::vector<Tensor> RunProgram(const std::shared_ptr<const Program>& program, const std::vector<Tensor>& inputs,
                               int threads = 2) {
  StatusOr<std::unique_ptr<Device>> device = OpenDevice("host");
  EXPECT_TRUE(device.ok());
  StatusOr<std::unique_ptr<Executable>> executable = (*device)->Load(program, {.threads = threads});
  EXPECT_TRUE(executable.ok()) << executable.status();
  std::vector<const void*> in;
  for (const Tensor& input : inputs) in.push_back(input.bytes().data());
  std::vector<Tensor> outputs;
  std::vector<void*> out;
  for (const ProgramPort& port : program->outputs) outputs.emplace_back(port.type.dtype, port.type.shape);
  for (Tensor& output : outputs) out.push_back(output.mutable_bytes().data());
  EXPECT_TRUE((*executable)->Run(in, out).ok());
  return outputs;
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
  const std::vector<Tensor> y = RunProgram(result->program, {x});
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
  const std::vector<Tensor> out = RunProgram(result->program, {Tensor::FromVector<float>({4}, {1, 2, 3, 4})});
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

TEST(CompileTest, CacheIsUsedAndADamagedEntryIsCompiledAnew) {
  const std::string folder = std::string(std::getenv("TEST_TMPDIR")) + "/cache";
  std::filesystem::create_directories(folder);
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  const CompileOptions options = {.threads = 1, .cache_dir = folder};
  StatusOr<CompileResult> first = Compile(Chain(), *target, options);
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(first->from_cache);
  StatusOr<CompileResult> second = Compile(Chain(), *target, options);
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE(second->from_cache);
  EXPECT_EQ(*first->program->images[0], *second->program->images[0]);
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(100);
    file.put('\x5a');
    file.put('\xa5');
  }
  StatusOr<CompileResult> third = Compile(Chain(), *target, options);
  ASSERT_TRUE(third.ok());
  EXPECT_FALSE(third->from_cache) << "a damaged object must not be run";
  StatusOr<Target> other = MakeTarget("host:x86-64");
  ASSERT_TRUE(other.ok());
  StatusOr<CompileResult> fourth = Compile(Chain(), *other, options);
  ASSERT_TRUE(fourth.ok());
  EXPECT_FALSE(fourth->from_cache) << "another processor level is another key";
}

TEST(CompileTest, EveryEmitterOfTheTableIsDocumented) {  // walks codegen/emit/emitters.def
  EXPECT_GE(AllEmitters().size(), 2u);
  for (const Emitter& emitter : AllEmitters()) EXPECT_FALSE(emitter.doc.empty()) << emitter.name;
}

}  // namespace
}  // namespace tessera
