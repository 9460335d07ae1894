// Tests that code objects are read, and that no bytes make the reader look outside of them.
#include "runtime/drivers/code_object.h"

#include <gtest/gtest.h>

#include <random>

#include "runtime/testing/code_object_writer.h"

namespace tessera {
namespace {

StatusOr<CodeObject> Read(const std::string& bytes) {
  return ReadCodeObject(std::as_bytes(std::span(bytes)), "a test");
}

std::string Two() {
  return WriteCodeObject(CodeObjectMachine("gfx90a"),
                         {{.name = "tessera_b", .kernarg_bytes = 24, .shared_bytes = 512, .scratch_bytes = 8},
                          {.name = "tessera_a", .kernarg_bytes = 40}});
}

TEST(CodeObjectTest, SaysItsChipAndItsKernels) {
  const StatusOr<CodeObject> object = Read(Two());
  ASSERT_TRUE(object.ok()) << object.status();
  EXPECT_EQ(object->chip, "gfx90a");
  ASSERT_EQ(object->kernels.size(), 2u);
  EXPECT_EQ(object->Find("tessera_a")->kernarg_bytes, 40);
  EXPECT_EQ(object->Find("tessera_b")->shared_bytes, 512);
  EXPECT_EQ(object->Find("tessera_b")->scratch_bytes, 8);
  EXPECT_EQ(object->Find("tessera"), nullptr);
  EXPECT_EQ(Read(WriteCodeObject(0x123, {}))->chip, "machine 0x23");
  EXPECT_EQ(CodeObjectMachine("gfx600"), 0u);
}

TEST(CodeObjectTest, EveryShorterFileIsRefused) {
  const std::string whole = Two();
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    const Status status = Read(whole.substr(0, bytes)).status();
    EXPECT_EQ(status.code(), ErrorCode::kProgramInvalid) << bytes;
  }
  EXPECT_NE(Read("PTX").status().message().find("a test: no code object"), std::string::npos);
}

// Under the sanitizers a byte outside would be seen.
TEST(CodeObjectTest, ChangedFilesAreReadOrRefused) {
  std::mt19937 rng(5);
  const std::string whole = Two();
  int refused = 0;
  for (int k = 0; k < 20000; ++k) {
    std::string changed = whole;
    for (int c = 0; c < 3; ++c) changed[rng() % changed.size()] = static_cast<char>(rng());
    refused += Read(changed).ok() ? 0 : 1;
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace tessera
