// Tests code for 64-bit Arm without such a machine: every way of every op becomes an object of that machine that
// imports nothing, with the instructions that make it quick.
#include <elf.h>

#include <cstring>
#include <random>
#include <string>

#include "codegen/compile.h"
#include "codegen/emitter.h"
#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "graph/text.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

class Arm64Test : public testing::TestWithParam<const char*> {};

TEST_P(Arm64Test, EveryWayOfEveryOpBecomesAnObject) {
  const StatusOr<Target> target = MakeTarget(GetParam());
  ASSERT_TRUE(target.ok()) << target.status();
  std::mt19937_64 rng(7);
  for (const OpDef& def : AllOps()) {
    const RandomCase random_case = RandomNode(def.op, rng);
    for (const Emitter& emitter : AllEmitters()) {
      std::string why;
      for (const Way& way : WaysOf(emitter, random_case.graph, random_case.graph.nodes[0], *target, &why)) {
        const std::string name = Choice{&emitter, way}.ToString();
        const StatusOr<CompileResult> compiled =
            Compile(random_case.graph, *target, {.threads = 1, .only_emitter = name});
        ASSERT_TRUE(compiled.ok()) << def.name << " by " << name << ": " << compiled.status();
        for (const ProgramImage& image : compiled->program->images) {
          Elf64_Ehdr header;
          ASSERT_GE(image.bytes.size(), sizeof(header));
          std::memcpy(&header, image.bytes.data(), sizeof(header));
          EXPECT_EQ(header.e_machine, EM_AARCH64) << def.name;
          EXPECT_EQ(header.e_type, ET_REL) << def.name;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Processors, Arm64Test, testing::Values("arm64", "arm64:neoverse-v1", "arm64:apple-m1"));

std::string Assembly(const std::string& text, const std::string& processor) {
  const StatusOr<Graph> graph = ParseGraph(text);
  TES_CHECK(graph.ok(), graph.status().message());
  const StatusOr<Target> target = MakeTarget(processor);
  TES_CHECK(target.ok(), target.status().message());
  const StatusOr<Plan> plan = MakePlan(*graph, *target, {});
  TES_CHECK(plan.ok(), plan.status().message());
  const StatusOr<std::string> listing = KernelListing(*plan, *target, ListingForm::kAssembly, "");
  TES_CHECK(listing.ok(), listing.status().message());
  return *listing;
}

int CountOf(const std::string& text, const std::string& word) {
  int count = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

TEST(Arm64CodeTest, AProductKeepsItsSumsInRegisters) {
  const std::string code = Assembly(R"(graph "g" {
    %x: f32[64,256] = input
    %w: f32[256,128] = constant random(seed = 1)
    %y: f32[64,128] = matmul(%x, %w)
    return %y
  })",
                                    "arm64");
  EXPECT_GE(CountOf(code, "fmla\tv"), 16) << code;
  EXPECT_EQ(CountOf(code, "bl\t"), CountOf(code, "bl\ttessera")) << "calls something: " << code;
}

TEST(Arm64CodeTest, BytesAreMultipliedByDotProductsWhereThereAreAny) {
  const std::string text = R"(graph "g" {
    %x: u8[64,256] = input
    %w: i8[256,128] = constant random(seed = 1)
    %y: i32[64,128] = matmul(%x, %w)
    return %y
  })";
  EXPECT_GE(CountOf(Assembly(text, "arm64:neoverse-v1"), "usdot\tv"), 16);
  EXPECT_EQ(CountOf(Assembly(text, "arm64"), "usdot"), 0);
}

TEST(Arm64TargetTest, FactsAndUnknownNames) {
  const StatusOr<Target> n1 = MakeTarget("arm64"), v1 = MakeTarget("arm64:neoverse-v1");
  ASSERT_TRUE(n1.ok() && v1.ok());
  EXPECT_EQ(n1->vector_bits, 128);
  EXPECT_EQ(n1->vector_registers, 32);
  EXPECT_FALSE(n1->IsGpu());
  EXPECT_FALSE(n1->has_i8mm);
  EXPECT_TRUE(v1->has_i8mm);
  EXPECT_NE(n1->Key(), v1->Key());
  EXPECT_EQ(MakeTarget("arm64:6502").status().code(), ErrorCode::kTargetUnknown);
}

}  // namespace
}  // namespace tessera
