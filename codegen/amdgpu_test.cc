// Code for AMD chips without one: every op becomes a code object whose kernels need nothing that is not in it, keep
// nothing in scratch memory and take the arguments that the driver passes, no hidden ones; and products are those of
// the chip's matrix cores. What the code computes is tested by tests/conformance with the target simt:amdgpu.
#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <string>

#include "codegen/compile.h"
#include "codegen/testing/code_object.h"
#include "graph/builder.h"
#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "gtest/gtest.h"
#include "runtime/device.h"
#include "runtime/testing/fake_gpu.h"
#include "tesa/attribute.h"
#include "tesa/random.h"

namespace tessera {
namespace {

// Every kernel that the program launches.
void ExpectPlainKernels(std::string_view what, const Program& program, const Target& target) {
  std::map<std::string, KernelCode> kernels;
  for (const ProgramImage& image : program.images) {
    const StatusOr<CodeObject> object = ReadCodeObject(image.bytes, target);
    ASSERT_TRUE(object.ok()) << what << ": " << object.status();
    EXPECT_TRUE(object->undefined.empty()) << what << ": " << object->undefined.front();
    for (const KernelCode& kernel : object->kernels) kernels.emplace(kernel.name, kernel);
  }
  EXPECT_EQ(program.kernels.size(), kernels.size()) << what;
  for (const Step& step : program.steps) {
    const std::string& name = program.kernels[static_cast<size_t>(step.kernel)];
    const auto kernel = kernels.find(name);
    ASSERT_NE(kernel, kernels.end()) << what << ": no kernel " << name;
    const auto args = static_cast<int64_t>(step.args.size()) + (step.launch.by_blocks() ? 0 : 2);
    for (const std::string& fault : FaultsOf(kernel->second, args, target)) {
      ADD_FAILURE() << what << ", " << name << ": " << fault;
    }
  }
}

class AmdgpuTest : public testing::TestWithParam<const char*> {};

TEST_P(AmdgpuTest, EveryOpBecomesACodeObject) {
  const StatusOr<Target> target = MakeTarget(std::string("hip:") + GetParam());
  ASSERT_TRUE(target.ok()) << target.status();
  std::mt19937_64 rng(7);
  for (const OpDef& def : AllOps()) {
    RandomCase random_case = RandomNode(def.op, rng);
    const StatusOr<CompileResult> compiled = Compile(random_case.graph, *target, {.threads = 1});
    ASSERT_TRUE(compiled.ok()) << def.name << ": " << compiled.status();
    ExpectPlainKernels(std::string(def.name), *compiled->program, *target);
  }
}

// Products of whole tiles: the chip's own instruction, all in registers.
TEST_P(AmdgpuTest, ProductsTakeTheChipsOwnInstructions) {
  struct Row {
    std::string_view chip, f32, f16, bf16, bytes;
  };
  constexpr Row kRows[] = {
      {"gfx906", "v_fmac_f32", "v_fma_mix_f32", "v_fmac_f32", "v_dot4_i32_i8"},
      {"gfx908", "v_mfma_f32_16x16x4f32", "v_mfma_f32_16x16x16f16", "v_mfma_f32_16x16x8bf16", "v_mfma_i32_16x16x16i8"},
      {"gfx90a", "v_mfma_f32_16x16x4f32", "v_mfma_f32_16x16x16f16", "v_mfma_f32_16x16x16bf16_1k",
       "v_mfma_i32_16x16x16i8"},
      {"gfx942", "v_mfma_f32_16x16x4_f32", "v_mfma_f32_16x16x16_f16", "v_mfma_f32_16x16x16_bf16",
       "v_mfma_i32_16x16x32_i8"},
      {"gfx1100", "v_dual_fmac_f32", "v_wmma_f32_16x16x16_f16", "v_wmma_f32_16x16x16_bf16", "v_wmma_i32_16x16x16_iu8"},
  };
  const Row& row = *std::find_if(std::begin(kRows), std::end(kRows), [](const Row& r) { return r.chip == GetParam(); });
  const StatusOr<Target> target = MakeTarget(std::string("hip:") + GetParam());
  ASSERT_TRUE(target.ok()) << target.status();
  using Kind = std::pair<DType, DType>;
  const std::pair<Kind, std::string_view> kKinds[] = {{{DType::kF32, DType::kF32}, row.f32},
                                                      {{DType::kF16, DType::kF16}, row.f16},
                                                      {{DType::kBF16, DType::kBF16}, row.bf16},
                                                      {{DType::kI8, DType::kI8}, row.bytes},
                                                      {{DType::kU8, DType::kI8}, row.bytes}};
  for (const auto& [types, instruction] : kKinds) {
    GraphBuilder b("product");
    const ValueId x = b.Input("x", types.first, {1000, 512}), w = b.Input("w", types.second, {1024, 512});
    b.Output(b.Matmul(x, w, false, /*transpose_b=*/true));
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    const CompileOptions options = {.threads = 1, .only_emitter = "gpu_matmul"};
    const StatusOr<Plan> plan = MakePlan(*graph, *target, options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const StatusOr<std::string> text = KernelListing(*plan, *target, ListingForm::kAssembly, "matmul");
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_NE(std::string::npos, text->find(instruction)) << instruction << " " << plan->steps[0].kernel.key;
    for (const char* bad : {"scratch_load", "scratch_store", "buffer_load", "buffer_store", "s_swappc"}) {
      EXPECT_EQ(std::string::npos, text->find(bad)) << bad << plan->steps[0].kernel.key;
    }
    const StatusOr<CompileResult> compiled = Compile(*graph, *target, options);
    ASSERT_TRUE(compiled.ok()) << compiled.status();
    for (const Step& step : compiled->program->steps) {
      EXPECT_LE(step.launch.shared_bytes, target->shared_bytes);
      EXPECT_EQ(0, step.launch.threads % target->wave);
    }
    ExpectPlainKernels(Name(types.first), *compiled->program, *target);
  }
}

// A feed-forward layer of a small BERT: estimates of plain kernels know that a unit has 64 lanes. (On gfx942, with
// three times the units, it is too small for matrix cores.)
TEST_P(AmdgpuTest, SmallProductsTakeMatrixCores) {
  const std::string chip = GetParam();
  const StatusOr<Target> target = MakeTarget("hip:" + chip);
  ASSERT_TRUE(target.ok()) << target.status();
  for (DType type : {DType::kI8, DType::kF16}) {
    GraphBuilder b("product");
    Random random(3);
    const ValueId weights = b.Constant("w", RandomTensorIn(random, {type, {128, 512}}, -1, 1));
    b.Output(b.Matmul(b.Input("x", type, {32, 128}), weights));
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    const StatusOr<CompileResult> compiled = Compile(*graph, *target, {.threads = 1});
    ASSERT_TRUE(compiled.ok()) << compiled.status();
    const std::string& kernel = compiled->program->kernels[0];
    const std::string core = chip == "gfx906" ? "fma" : chip == "gfx1100" ? "wmma" : "mfma";
    if (chip == "gfx942") continue;
    EXPECT_NE(kernel.find("matmul_" + core), std::string::npos) << kernel << ", " << Name(type);
  }
}

// Emitters whose kernels have many registers, on problems of usual sizes.
TEST_P(AmdgpuTest, LargeKernelsStayInRegisters) {
  const StatusOr<Target> target = MakeTarget(std::string("hip:") + GetParam());
  ASSERT_TRUE(target.ok()) << target.status();
  const auto expect = [&](const std::string& emitter, const std::function<ValueId(GraphBuilder&)>& build) {
    GraphBuilder b(emitter);
    b.Output(build(b));
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    const StatusOr<CompileResult> compiled = Compile(*graph, *target, {.threads = 1, .only_emitter = emitter});
    ASSERT_TRUE(compiled.ok()) << emitter << ": " << compiled.status();
    ExpectPlainKernels(emitter, *compiled->program, *target);
  };
  for (DType type : {DType::kF32, DType::kF16}) {
    expect("gpu_attention", [&](GraphBuilder& b) {
      const Shape shape({2, 8, 200, 64});
      return b.Attention(b.Input("q", type, shape), b.Input("k", type, shape), b.Input("v", type, shape), 0.125,
                         ValueId::kNone, "bhsd");
    });
    expect("gpu_rowwise", [&](GraphBuilder& b) { return b.Softmax(b.Input("x", type, {7, 20000}), 1); });
  }
  for (const auto& [x, w] : {std::pair{DType::kF32, DType::kF32}, {DType::kU8, DType::kI8}}) {
    expect("gpu_scattered", [&, x = x, w = w](GraphBuilder& b) {
      const Shape shape({512, 768});
      Random random(3);
      std::vector<uint8_t> kept(static_cast<size_t>(shape.num_elements()));
      for (uint8_t& bit : kept) bit = random.Uniform(0, 1) < 0.1 ? 1 : 0;
      const Attribute tesa = Attribute::FromKept(shape, kept, TypeInfo(w).bits);
      const ValueId weights = b.Constant("w", tesa.ApplyTo(IsFloat(w) ? RandomTensorIn(random, {w, shape}, -1, 1)
                                                                      : RandomTensorIn(random, {w, shape}, -128, 127)));
      b.SetTesa(weights, tesa);
      return b.Matmul(b.Input("x", x, {256, 768}), weights, false, /*transpose_b=*/true);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Chips, AmdgpuTest, testing::Values("gfx906", "gfx908", "gfx90a", "gfx942", "gfx1100"));

TEST(AmdgpuTargetTest, UnknownChipsAreNamed) {
  for (const char* spec : {"hip:gfx600", "hip:", "simt:amdgpu:gfx600", "simt:amdgpu"}) {
    const StatusOr<Target> target = MakeTarget(spec);
    EXPECT_EQ(ErrorCode::kTargetUnknown, target.status().code()) << spec;
  }
  EXPECT_NE(std::string::npos, MakeTarget("hip:gfx600").status().message().find("gfx942"));
}

// "hip" is the chip of the card.
TEST(AmdgpuTargetTest, TheCardsChipIsTaken) {
  FakeGpu& fake = FakeGpu::Use("runtime/testing/fake_libamdhip64.so");
  for (const char* chip : {"gfx906", "gfx90a", "gfx942", "gfx1100"}) {
    fake.SetChip(std::string(chip) + ":sramecc+:xnack-");
    const StatusOr<Target> target = MakeTarget("hip:1");
    ASSERT_TRUE(target.ok()) << target.status();
    EXPECT_EQ(chip, target->cpu);
    EXPECT_EQ("hip:1", target->device);
  }
  fake.SetChip("gfx803");
  EXPECT_EQ(ErrorCode::kTargetUnsupported, MakeTarget("hip").status().code());
}

// What lld wrote is what the driver takes: loaded on a card that is not there, a program launches its kernels.
TEST(AmdgpuTargetTest, CodeObjectsLoadAndLaunch) {
  FakeGpu& fake = FakeGpu::Use("runtime/testing/fake_libamdhip64.so");
  std::mt19937_64 rng(3);
  const RandomCase random_case = RandomNode(Op::kMatmul, rng);
  const StatusOr<CompileResult> compiled = Compile(random_case.graph, *MakeTarget("hip:gfx942"), {.threads = 1});
  ASSERT_TRUE(compiled.ok()) << compiled.status();
  const StatusOr<std::unique_ptr<Device>> device = OpenDevice("hip");
  ASSERT_TRUE(device.ok()) << device.status();
  const StatusOr<std::unique_ptr<Executable>> executable = (*device)->Load(compiled->program, {});
  ASSERT_TRUE(executable.ok()) << executable.status();
  EXPECT_EQ(1, fake.Calls()["hipModuleLoadData"]);
  EXPECT_EQ("", fake.Misuse());
}

}  // namespace
}  // namespace tessera
