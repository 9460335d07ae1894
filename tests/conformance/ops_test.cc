// Every op of the table, on random cases, through the whole compiled path, against the op's reference in double: each
// emitter that applies, each processor level that this machine can run and its NVIDIA card if it has one, with and
// without epilogues.
//
// The seed is printed; TESSERA_TEST_SEED repeats a run and TESSERA_TEST_CASES sets the cases per op.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iterator>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "codegen/compile.h"
#include "codegen/emitter.h"
#include "codegen/target.h"
#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "graph/testing/run_op.h"
#include "runtime/device.h"
#include "tesa/attribute.h"
#include "tesa/testing/close.h"

namespace tessera {
namespace {

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

// Relative error allowed for values stored as `type` (MEASURE.md).
double Bound(DType type) {
  switch (type) {
    case DType::kF64: return 1e-9;
    case DType::kF32: return 1e-5;
    case DType::kF16: return 2e-3;
    case DType::kBF16: return 2e-2;
    default: return 0.15;  // 8-bit floats: half a step of a 2- or 3-bit mantissa
  }
}

// A step function of a float (rounding, comparison, conversion to an integer) may fall on the other side of its edge
// when computed in f32 rather than double. Such results may differ in few elements, and then by one step.
bool HasEdges(Op op) {
  const std::string_view name = Name(op);
  for (std::string_view edge : {"floor", "ceil", "round", "cast", "sign", "mod", "equal", "less", "less_equal",
                                "quantize", "arg_max", "arg_min", "resize"}) {
    if (name == edge) return true;
  }
  return false;
}

// The smallest step of a storage type near zero: what lies below rounds away.
double SmallestStep(DType type) {
  switch (type) {
    case DType::kF16: return 0x1p-24;
    case DType::kF8E4M3: return 0x1p-9;
    case DType::kF8E5M2: return 0x1p-16;
    default: return 1e-38;
  }
}

// The magnitude that an op's rounding errors scale with, when that is more than its result's: gelu(x) for x << 0 is the
// small difference x/2 · (1 + erf), of which f32 keeps what it keeps of x. 0: the largest result.
double ErrorScale(const RandomCase& random_case) {
  double scale = 0;
  if (random_case.graph.nodes[0].op != Op::kGelu) return scale;
  for (int64_t i = 0; i < random_case.inputs[0].num_elements(); ++i) {
    scale = std::max(scale, std::abs(random_case.inputs[0].Get(i)));
  }
  return scale;
}

void ExpectResult(const Tensor& found, const RefTensor& reference, double bound, double scale, bool edges,
                  const std::string& what) {
  const Tensor expected = reference.ToTensor();
  if (IsFloat(found.dtype())) {
    bool within_scale = scale > 0;
    for (int64_t i = 0; within_scale && i < found.num_elements(); ++i) {
      within_scale = std::abs(found.Get(i) - reference.f[i]) <= bound * scale;
    }
    if (within_scale) return;
    RefTensor wide = reference;
    wide.type.dtype = DType::kF64;
    const testing::AssertionResult close = Close(found, wide.ToTensor(), bound);
    bool all_tiny = true;
    for (double r : reference.f) all_tiny &= std::abs(r) < SmallestStep(found.dtype()) * 8;
    if (all_tiny) return;
    if (close || !edges) {
      EXPECT_TRUE(close) << what;
      return;
    }
  }
  int64_t different = 0;
  for (int64_t i = 0; i < found.num_elements(); ++i) {
    const bool same = IsFloat(found.dtype()) ? std::abs(found.Get(i) - expected.Get(i)) <= bound * 10
                                             : found.GetInt(i) == expected.GetInt(i);
    if (!same) ++different;
  }
  const int64_t allowed = edges ? found.num_elements() / 10 + 1 : 0;
  EXPECT_LE(different, allowed) << what;
}

// Prunes a random share of every operand but the first of a case, in its data; returns what the constants then declare.
// For ops of which such operands are weights.
std::vector<std::optional<Attribute>> PruneWeights(RandomCase& random_case, std::mt19937_64& rng) {
  std::vector<std::optional<Attribute>> declared(random_case.inputs.size());
  const uint64_t kept_of_8 = rng() % 9;
  for (size_t k = 1; k < random_case.inputs.size(); ++k) {
    Tensor& tensor = random_case.inputs[k];
    if (tensor.dtype() != DType::kF32) continue;
    std::vector<uint8_t> kept(tensor.num_elements());
    for (uint8_t& bit : kept) bit = rng() % 8 < kept_of_8 ? 1 : 0;
    declared[k] = Attribute::FromKept(tensor.shape(), kept, 32);
    tensor = declared[k]->ApplyTo(tensor);
  }
  return declared;
}

// The same case with all operands but the first as constants, which emitters may pack for themselves.
RandomCase WithConstants(RandomCase random_case) {
  Graph& graph = random_case.graph;
  for (size_t k = 1; k < graph.inputs.size(); ++k) {
    graph[graph.inputs[k]].kind = ValueKind::kConstant;
    graph[graph.inputs[k]].constant = random_case.inputs[k];
  }
  graph.inputs.resize(std::min<size_t>(1, graph.inputs.size()));
  random_case.inputs.resize(graph.inputs.size());
  return random_case;
}

constexpr std::string_view kAmdChips[] = {"simt:amdgpu:gfx906", "simt:amdgpu:gfx942", "simt:amdgpu:gfx1100"};

class OpConformance : public testing::TestWithParam<const char*> {
 protected:
  // `random_case` computes what `original` does; the reference runs the latter.
  void Check(const RandomCase& original, const RandomCase& random_case, const Target& target,
             const std::string& emitter, bool edges, bool narrow_ok, const std::string& what) {
    StatusOr<std::vector<RefTensor>> reference = RunReference(original);
    ASSERT_TRUE(reference.ok()) << what << reference.status();
    CompileOptions options;
    options.threads = 1;
    options.only_emitter = emitter;
    StatusOr<CompileResult> compiled = Compile(random_case.graph, target, options);
    ASSERT_TRUE(compiled.ok()) << what << compiled.status();
    StatusOr<std::unique_ptr<Device>> device = OpenDevice(target.device);
    ASSERT_TRUE(device.ok()) << device.status();
    StatusOr<std::unique_ptr<Executable>> executable = (*device)->Load(compiled->program, {.threads = 2});
    ASSERT_TRUE(executable.ok()) << what << executable.status();
    std::vector<const void*> inputs;
    for (const Tensor& input : random_case.inputs) inputs.push_back(input.bytes().data());
    std::vector<Tensor> outputs;
    std::vector<void*> pointers;
    for (const ProgramPort& port : compiled->program->outputs) outputs.emplace_back(port.type.dtype, port.type.shape);
    for (Tensor& output : outputs) pointers.push_back(output.mutable_bytes().data());
    const Status status = (*executable)->Run(inputs, pointers);
    ASSERT_TRUE(status.ok()) << what << status;
    for (size_t k = 0; k < outputs.size(); ++k) {
      // A value that passes through narrow floats inside a chain has their error, whatever it is stored as at the end.
      double bound = Bound(outputs[k].dtype());
      if (narrow_ok) {
        for (const Value& value : random_case.graph.values) {
          if (IsFloat(value.type.dtype)) bound = std::max(bound, Bound(value.type.dtype));
        }
      }
      ExpectResult(outputs[k], (*reference)[k], bound, original.graph.nodes[0].epilogue ? 0 : ErrorScale(original),
                   edges, what);
    }
  }
};

TEST_P(OpConformance, EveryOpWithEveryEmitter) {
  StatusOr<Target> target = MakeTarget(GetParam());
  if (target.status().code() == ErrorCode::kDeviceMissing) GTEST_SKIP() << target.status();
  ASSERT_TRUE(target.ok()) << target.status();
  if (target->vector_bits > MakeTarget("host")->vector_bits) GTEST_SKIP() << "this processor cannot run " << GetParam();
  const uint64_t seed = static_cast<uint64_t>(FromEnvironment("TESSERA_TEST_SEED", 1));
  const int64_t cases = FromEnvironment("TESSERA_TEST_CASES", 6);
  // AMD's chips share the cases, as their kernels differ in little but products.
  int64_t first = 0, last = cases;
  for (size_t chip = 0; chip < std::size(kAmdChips); ++chip) {
    if (GetParam() != kAmdChips[chip]) continue;
    first = cases * static_cast<int64_t>(chip) / static_cast<int64_t>(std::size(kAmdChips));
    last = cases * static_cast<int64_t>(chip + 1) / static_cast<int64_t>(std::size(kAmdChips));
  }
  const char* only_op = std::getenv("TESSERA_TEST_OP");
  std::mt19937_64 rng(seed);
  std::set<std::string> used;
  for (const OpDef& def : AllOps()) {
    if (only_op != nullptr && def.name != only_op) continue;
    for (int64_t k = first; k < last; ++k) {
      RandomCase random_case = RandomNode(def.op, rng);
      const bool epilogue = k % 3 == 2 && random_case.graph.nodes[0].outputs.size() == 1;
      if (epilogue) AddRandomEpilogue(random_case, rng);
      // Weights that declare sparsity, for the emitters that make use of it.
      const bool prunes = k % 2 == 1 && k > 1 && (def.op == Op::kMatmul || def.op == Op::kConv);
      std::vector<std::optional<Attribute>> declared;
      if (prunes) declared = PruneWeights(random_case, rng);
      RandomCase lowered = k % 2 == 1 ? WithConstants(random_case) : random_case;
      for (size_t i = 0; i < declared.size(); ++i) {
        if (declared[i]) lowered.graph[random_case.graph.inputs[i]].tesa = declared[i];
      }
      for (const Emitter& emitter : AllEmitters()) {
        std::string why;
        for (const Way& way : WaysOf(emitter, lowered.graph, lowered.graph.nodes[0], *target, &why)) {
          const std::string name = Choice{&emitter, way}.ToString();
          used.insert(name);
          const std::string what = internal::Join(GetParam(), " op ", def.name, " case ", k, " emitter ", name,
                                                  " seed ", seed, epilogue ? " with epilogue " : " ");
          Check(random_case, lowered, *target, name, HasEdges(def.op) || epilogue, true, what);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
  RecordProperty("emitters", static_cast<int>(used.size()));
}

INSTANTIATE_TEST_SUITE_P(Levels, OpConformance,
                         testing::Values("host", "host:x86-64-v3", "host:x86-64", "cuda", "simt:nvptx:sm_80",
                                         "simt:amdgpu:gfx906", "simt:amdgpu:gfx942", "simt:amdgpu:gfx1100"));

}  // namespace
}  // namespace tessera
