// Faults planted in real kernels for NVIDIA's and AMD's chips, one at a time, each found by the rung of the ladder that
// should find it: a barrier that is gone, a fragment in the wrong place, a tile outside its matrix, a wait that is gone
// and lanes that part where they must meet by simt (codegen/targets/emulate.h, runtime/simt), which names kernel, node
// and thread; an op or an intrinsic that does not exist while the kernel is compiled.
#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/compile.h"
#include "codegen/testing/planted.h"
#include "codegen/testing/run_compiled.h"
#include "codegen/testing/run_program.h"
#include "graph/builder.h"
#include "graph/interpreter.h"
#include "gtest/gtest.h"
#include "tesa/random.h"
#include "tesa/testing/close.h"

namespace tessera {
namespace {

// Rows and columns of products, and a depth that has any kernel come back to its first stage of shared memory.
constexpr int64_t kSize = 64, kDepth = 600;

struct Case {
  const char* name;
  const char* emitter;
  double bound;
  Graph (*build)();
};

Graph Product(DType type) {
  Random random(3);
  GraphBuilder b("product");
  const bool floats = IsFloat(type);
  const ValueId x = b.Input("x", type, {kSize, kDepth});
  const Tensor w = RandomTensorIn(random, {type, {kDepth, kSize}}, floats ? -1 : -100, floats ? 1 : 100);
  b.Output(b.Matmul(x, b.Constant("w", w)));
  return Built(std::move(b));
}

Graph Softmax() {
  GraphBuilder b("softmax");
  b.Output(b.Softmax(b.Input("x", DType::kF32, {5, 3000}), 1));
  return Built(std::move(b));
}

Graph Transposition() {
  GraphBuilder b("transposition");
  b.Output(b.Transpose(b.Input("x", DType::kF32, {70, 90}), {1, 0}));
  return Built(std::move(b));
}

const Case kCases[] = {
    {"product of f32", "gpu_matmul", 1e-5, [] { return Product(DType::kF32); }},
    {"product of f16", "gpu_matmul", 2e-3, [] { return Product(DType::kF16); }},
    {"product of i8", "gpu_matmul", 0, [] { return Product(DType::kI8); }},
    {"softmax", "gpu_rowwise", 1e-5, Softmax},
    {"transposition", "gpu_transpose", 0, Transposition},
};

class PlantedFaultsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const StatusOr<Target> target = MakeTarget("simt:" + std::string(GetParam()));
    ASSERT_TRUE(target.ok()) << target.status();
    target_ = *target;
  }

  // What became of a planted fault, in the worst case over orders of threads.
  enum class Outcome : uint8_t { kNamed, kWrong, kHarmless };

  static bool IsRight(const Case& c, const Graph& graph, const std::vector<Tensor>& inputs,
                      const std::vector<Tensor>& found) {
    const StatusOr<std::vector<RefTensor>> expected = Interpret(graph, inputs);
    TES_CHECK(expected.ok(), expected.status());
    return static_cast<bool>(Close(found[0], (*expected)[0].ToTensor(), c.bound));
  }

  // kNamed: each order ends with an error that has all `parts`.
  Outcome OutcomeOf(const Case& c, const Graph& graph, const std::vector<Tensor>& inputs,
                    const std::shared_ptr<const Program>& program, const std::vector<const char*>& parts) {
    Outcome outcome = Outcome::kNamed;
    for (const char* device : {"simt", "simt:reverse", "simt:random:3"}) {
      const auto found = RunProgram(program, device, inputs, 1);
      if (found.ok()) return IsRight(c, graph, inputs, *found) ? Outcome::kHarmless : Outcome::kWrong;
      EXPECT_EQ(ErrorCode::kKernelFaulty, found.status().code()) << c.name << ", " << device;
      for (const char* part : parts) {
        EXPECT_NE(std::string::npos, found.status().message().find(part)) << c.name << ": " << found.status();
      }
    }
    return outcome;
  }

  // Plants a fault in each of its places, of all cases: at least so many are named in every order of threads, and none
  // gives a wrong result unnamed. The others do no harm in the case's shapes (a barrier that its last stage does not
  // need, a load that no thread comes to). Before that the kernels are right.
  void ExpectFound(const Plant& plant, const std::vector<const char*>& parts, int least) {
    int named = 0, harmless = 0;
    for (const Case& c : kCases) {
      SCOPED_TRACE(c.name);
      const Graph graph = c.build();
      const std::vector<Tensor> inputs = RandomInputs(graph, 1);
      const StatusOr<int> places = CountPlaces(graph, target_, c.emitter, plant);
      ASSERT_TRUE(places.ok()) << places.status();
      for (int place = *places > 0 ? -1 : 0; place < *places; ++place) {
        const auto program = PlantedProgram(graph, target_, c.emitter, plant, place);
        ASSERT_TRUE(program.ok()) << program.status();
        const Outcome outcome = OutcomeOf(c, graph, inputs, *program, parts);
        if (place < 0) {
          ASSERT_EQ(Outcome::kHarmless, outcome);
          continue;
        }
        named += outcome == Outcome::kNamed;
        harmless += outcome == Outcome::kHarmless;
        EXPECT_NE(Outcome::kWrong, outcome) << "place " << place << " of " << *places;
      }
    }
    std::printf("%s: %d named, %d harmless\n", GetParam(), named, harmless);
    EXPECT_GE(named, least);
    EXPECT_LE(harmless, named);
  }

  bool IsNvidia() const { return target_.kind == TargetKind::kNvptx; }
  // Does the chip multiply matrices by such ops?
  bool HasProductsOf(std::string_view op) const {
    if (op.substr(0, 3) == "nv.") return IsNvidia();
    if (op.substr(0, 8) == "amd.mfma")
      return target_.cpu == "gfx908" || target_.cpu == "gfx90a" || target_.cpu == "gfx942";
    return target_.cpu == "gfx1100";
  }

  Target target_;
};

TEST_P(PlantedFaultsTest, ARemovedBarrierIsNamed) {
  ExpectFound(RemoveCalls("gpu.barrier"), {"kernel '", "of node '", "thread ", "missing"}, 5);
}

TEST_P(PlantedFaultsTest, AMissingWaitForACopyIsNamed) {
  // On other chips copies go through registers, whose waits are the back end's.
  const bool asynchronous = target_.capability >= 80;
  ExpectFound(RemoveCalls("nv.cp_async.wait"), {"kernel '", "an asynchronous copy", "a wait"}, asynchronous ? 3 : 0);
}

TEST_P(PlantedFaultsTest, ATileOutsideItsMatrixIsNamed) {
  // So far that nothing else of this process lies there. One element too far: simt_test.cc.
  constexpr int64_t kFar = int64_t{1} << 40;
  const std::vector<const char*> parts = {"kernel '", "of node '", "thread ", "which is in none of the step's buffers"};
  ExpectFound(ShiftStores(kFar), parts, 5);
  ExpectFound(ShiftLoads(kFar), parts, 5);
}

TEST_P(PlantedFaultsTest, LanesThatPartAtAMeetingAreNamed) {
  for (const char* op : {"gpu.barrier", "gpu.shuffle"}) {
    ExpectFound(DivergeAt(op), {"kernel '", "of node '", "thread "}, 1);
  }
  for (const char* op : {"nv.mma", "nv.ldmatrix", "amd.mfma", "amd.wmma"}) {
    ExpectFound(DivergeAt(op), {"kernel '", "of node '", "thread "}, HasProductsOf(op) ? 1 : 0);
  }
}

TEST_P(PlantedFaultsTest, AFragmentInTheWrongPlaceIsAWrongResult) {
  for (const char* op : {"nv.mma.", "amd.mfma.", "amd.wmma."}) {
    int all = 0;
    for (const Case& c : kCases) {
      const Graph graph = c.build();
      const std::vector<Tensor> inputs = RandomInputs(graph, 1);
      const StatusOr<int> places = CountPlaces(graph, target_, c.emitter, SwapOperands(op));
      ASSERT_TRUE(places.ok()) << c.name << ": " << places.status();
      for (int place = 0; place < *places; ++place, ++all) {
        const auto program = PlantedProgram(graph, target_, c.emitter, SwapOperands(op), place);
        ASSERT_TRUE(program.ok()) << c.name << ": " << program.status();
        const auto found = RunProgram(*program, "simt", inputs, 1);
        ASSERT_TRUE(found.ok()) << c.name << ": " << found.status();
        EXPECT_FALSE(IsRight(c, graph, inputs, *found)) << c.name << ", place " << place << " of " << *places;
      }
    }
    EXPECT_GE(all, HasProductsOf(op) ? 2 : 0) << op;
  }
}

// For the chip itself and for simt alike.
TEST_P(PlantedFaultsTest, MisspeltNamesAreNamedWhileCompiling) {
  const std::string chip(GetParam());
  const size_t colon = chip.find(':');
  const StatusOr<Target> own = MakeTarget((IsNvidia() ? "cuda" : "hip") + chip.substr(colon));
  ASSERT_TRUE(own.ok()) << own.status();
  const Case& c = kCases[0];
  const std::string intrinsic = IsNvidia() ? "llvm.nvvm.barrier9" : "llvm.amdgcn.s.barier";
  for (const Target& target : {target_, *own}) {
    const auto op = PlantedProgram(c.build(), target, c.emitter, RenameCalls("gpu.barrier", "tessera.gpu.barier"), 0);
    EXPECT_EQ(ErrorCode::kInternal, op.status().code()) << target.name << ": " << op.status();
    for (const char* part : {"kernel '", "gpu.barier", "did you mean 'gpu.barrier'"}) {
      EXPECT_NE(std::string::npos, op.status().message().find(part)) << target.name << ": " << op.status();
    }
    for (const std::string& name : {intrinsic, std::string("helper")}) {
      const auto other = PlantedProgram(c.build(), target, c.emitter, RenameCalls("gpu.barrier", name), 0);
      EXPECT_EQ(ErrorCode::kInternal, other.status().code()) << target.name << ": " << other.status();
      EXPECT_NE(std::string::npos, other.status().message().find(name)) << target.name << ": " << other.status();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Chips, PlantedFaultsTest,
                         testing::Values("nvptx:sm_75", "nvptx:sm_80", "amdgpu:gfx906", "amdgpu:gfx942",
                                         "amdgpu:gfx1100"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), ':', '_');
                           return name;
                         });

}  // namespace
}  // namespace tessera
