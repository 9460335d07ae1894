// Code for AMD chips without one: every op becomes a code object whose kernels need nothing that is not in it, keep
// nothing in scratch memory and take the arguments that the driver passes, no hidden ones. What the code computes is
// tested by tests/conformance with the target simt:amdgpu.
#include <map>
#include <random>
#include <string>

#include "codegen/compile.h"
#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "gtest/gtest.h"
#include "llvm/BinaryFormat/MsgPackDocument.h"
#include "llvm/Object/ELFObjectFile.h"
#include "runtime/device.h"
#include "runtime/testing/fake_gpu.h"

namespace tessera {
namespace {

// Of every kernel of a code object, what its metadata note says. Format: LLVM, "User Guide for AMDGPU Backend", code
// object V4 metadata.
std::map<std::string, llvm::msgpack::MapDocNode> KernelsOf(const ProgramImage& image, llvm::msgpack::Document& notes) {
  std::map<std::string, llvm::msgpack::MapDocNode> kernels;
  const llvm::StringRef bytes(reinterpret_cast<const char*>(image.bytes.data()), image.bytes.size());
  auto object = llvm::object::ELFObjectFile<llvm::object::ELF64LE>::create(llvm::MemoryBufferRef(bytes, "image"));
  if (!object) {
    ADD_FAILURE() << llvm::toString(object.takeError());
    return kernels;
  }
  const auto& file = object->getELFFile();
  auto headers = file.program_headers();
  if (!headers) {
    ADD_FAILURE() << llvm::toString(headers.takeError());
    return kernels;
  }
  for (const auto& header : *headers) {
    if (header.p_type != llvm::ELF::PT_NOTE) continue;
    llvm::Error error = llvm::Error::success();
    for (const auto& note : file.notes(header, error)) {
      if (note.getName() != "AMDGPU" || note.getType() != llvm::ELF::NT_AMDGPU_METADATA) continue;
      EXPECT_TRUE(notes.readFromBlob(note.getDescAsStringRef(header.p_align), /*Multi=*/false));
      llvm::msgpack::MapDocNode& root = notes.getRoot().getMap();
      for (llvm::msgpack::DocNode& kernel : root["amdhsa.kernels"].getArray()) {
        llvm::msgpack::MapDocNode fields = kernel.getMap();
        kernels.emplace(fields[".name"].getString().str(), fields);
      }
    }
    EXPECT_FALSE(static_cast<bool>(error)) << llvm::toString(std::move(error));
  }
  return kernels;
}

uint64_t Number(llvm::msgpack::MapDocNode& fields, const char* key) {
  const auto at = fields.find(key);
  if (at == fields.end()) return 0;
  return at->second.getKind() == llvm::msgpack::Type::UInt ? at->second.getUInt()
                                                           : static_cast<uint64_t>(at->second.getInt());
}

void ExpectPlain(const std::string& name, llvm::msgpack::MapDocNode fields, int64_t args, bool by_blocks, int wave) {
  EXPECT_EQ(0u, Number(fields, ".private_segment_fixed_size")) << name << " keeps something in scratch memory";
  EXPECT_EQ(0u, Number(fields, ".vgpr_spill_count")) << name;
  EXPECT_EQ(0u, Number(fields, ".sgpr_spill_count")) << name;
  EXPECT_EQ(0u, Number(fields, ".group_segment_fixed_size")) << name << ": its size is the launch's";
  EXPECT_EQ(static_cast<uint64_t>(wave), Number(fields, ".wavefront_size")) << name;
  EXPECT_EQ(static_cast<uint64_t>(8 * (args + (by_blocks ? 0 : 2))), Number(fields, ".kernarg_segment_size")) << name;
  for (llvm::msgpack::DocNode& arg : fields[".args"].getArray()) {
    const std::string kind = arg.getMap()[".value_kind"].getString().str();
    EXPECT_EQ(std::string::npos, kind.find("hidden")) << name << " has " << kind;
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
    const Program& program = *compiled->program;
    llvm::msgpack::Document notes[64];
    std::map<std::string, llvm::msgpack::MapDocNode> kernels;
    ASSERT_LE(program.images.size(), std::size(notes));
    for (size_t k = 0; k < program.images.size(); ++k) kernels.merge(KernelsOf(program.images[k], notes[k]));
    EXPECT_EQ(program.kernels.size(), kernels.size()) << def.name;
    for (const Step& step : program.steps) {
      const std::string& name = program.kernels[static_cast<size_t>(step.kernel)];
      const auto kernel = kernels.find(name);
      ASSERT_NE(kernel, kernels.end()) << def.name << ": no kernel " << name;
      ExpectPlain(std::string(def.name) + ", " + name, kernel->second, static_cast<int64_t>(step.args.size()),
                  step.launch.by_blocks(), target->wave);
    }
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
