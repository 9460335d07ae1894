// Tests how PTX becomes a cubin, with the driver's assembler as a test double: the chip it is for, the cache and damage
// to it, and the words of errors. The real nvJitLink assembles kernels in tests/ptx.
#include "runtime/drivers/cuda_assembler.h"

#include <filesystem>
#include <set>

#include "base/file.h"
#include "gtest/gtest.h"
#include "runtime/testing/fake_gpu.h"

namespace tessera {
namespace {

constexpr std::string_view kPtx = ".version 7.8\n.target sm_80\n.visible .entry k(.param .u64 p)\n{ ret; }\n";

TEST(ArchForTest, IsTheCardsUnlessTheCodeAsksForOneChip) {
  EXPECT_EQ(*ArchFor(".target sm_80\n", 90, "p"), "sm_90");
  EXPECT_EQ(*ArchFor(".version 8.0\n.target sm_90a\n", 90, "p"), "sm_90a");
  EXPECT_EQ(*ArchFor(".target sm_90", 90, "p"), "sm_90");
  EXPECT_EQ(ArchFor(".target sm_90a\n", 100, "p").status().code(), ErrorCode::kTargetUnsupported);
  const Status newer = ArchFor(".target sm_90\n", 86, "program 'x'").status();
  EXPECT_EQ(newer.message(),
            "program 'x' was compiled for sm_90, and the card is sm_86; compile for `cuda`, the chip of this machine");
  for (const char* text : {"", ".target", ".target sm_", "ELF", ".target sm_x"}) {
    EXPECT_EQ(ArchFor(text, 90, "p").status().code(), ErrorCode::kProgramInvalid) << text;
  }
}

class CudaAssemblerTest : public testing::Test {
 protected:
  void SetUp() override {
    fake_ = &FakeGpu::Use("runtime/testing/fake_libcuda.so");
    StatusOr<const CudaApi*> cuda = OpenCuda();
    ASSERT_TRUE(cuda.ok()) << cuda.status();
    cuda_ = *cuda;
    // A context, as the driver's own users have one.
    CUcontext context = nullptr;
    cuda_->cuDevicePrimaryCtxRetain(&context, 0);
    cuda_->cuCtxPushCurrent_v2(context);
    cache_ = std::string(testing::TempDir()) + "/cubins";
    std::filesystem::remove_all(cache_);
    std::filesystem::create_directories(cache_);
  }
  void TearDown() override {
    CUcontext context = nullptr;
    cuda_->cuCtxPopCurrent_v2(&context);
    cuda_->cuDevicePrimaryCtxRelease_v2(0);
    EXPECT_EQ("", fake_->Owned());
    EXPECT_EQ("", fake_->Misuse());
  }
  std::vector<std::string> Files() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(cache_)) files.push_back(entry.path());
    return files;
  }
  FakeGpu* fake_ = nullptr;
  const CudaApi* cuda_ = nullptr;
  std::string cache_;
};

TEST_F(CudaAssemblerTest, WhatWasAssembledIsKept) {
  const CudaAssembler assembler(*cuda_, nullptr, cache_);
  const StatusOr<Cubin> first = assembler.Assemble(kPtx, 90, "p");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_FALSE(first->from_cache);
  EXPECT_EQ(first->assembler, "driver 13.0");
  const StatusOr<Cubin> second = assembler.Assemble(kPtx, 90, "p");
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE(second->from_cache);
  EXPECT_EQ(second->bytes, first->bytes);
  EXPECT_EQ(fake_->Calls()["cuLinkComplete"], 1);
  // Another chip and other code are other files.
  EXPECT_FALSE(assembler.Assemble(kPtx, 89, "p")->from_cache);
  EXPECT_FALSE(assembler.Assemble(std::string(kPtx) + "// more", 90, "p")->from_cache);
  EXPECT_EQ(Files().size(), 3u);
}

TEST_F(CudaAssemblerTest, DamageToTheCacheIsHarmless) {
  const CudaAssembler assembler(*cuda_, nullptr, cache_);
  const std::string bytes = assembler.Assemble(kPtx, 90, "p")->bytes;
  const std::string path = Files().at(0);
  const std::string whole = *ReadFile(path);
  for (const std::string& damaged :
       {std::string(), whole.substr(0, 20), whole.substr(0, 32), whole.substr(0, whole.size() - 1), whole + "x",
        std::string(whole).replace(40, 1, "~"), std::string(whole).replace(3, 1, "~")}) {
    ASSERT_TRUE(WriteFileAtomically(path, damaged).ok());
    const StatusOr<Cubin> again = assembler.Assemble(kPtx, 90, "p");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_FALSE(again->from_cache);
    EXPECT_EQ(again->bytes, bytes);
    EXPECT_EQ(*ReadFile(path), whole);
  }
  // A cache that is not there costs time only.
  const CudaAssembler elsewhere(*cuda_, nullptr, cache_ + "/no/such/folder");
  EXPECT_TRUE(elsewhere.Assemble(kPtx, 90, "p").ok());
}

TEST_F(CudaAssemblerTest, EachCallThatFailsIsNamed) {
  const CudaAssembler assembler(*cuda_, nullptr, "");
  for (const char* call : {"cuLinkCreate_v2", "cuLinkAddData_v2", "cuLinkComplete"}) {
    fake_->Fail(call, 1, 218);
    const Status status = assembler.Assemble(kPtx, 90, "the kernels of program 'p'").status();
    EXPECT_EQ(status.code(), ErrorCode::kDeviceFailed);
    for (const std::string& part :
         {std::string(call).substr(0, 12), std::string("program 'p'"), std::string("newer driver")}) {
      EXPECT_NE(status.message().find(part), std::string::npos) << part << " in " << status;
    }
  }
}

TEST_F(CudaAssemblerTest, AnOldDriverIsToldFromTheCode) {
  const CudaAssembler assembler(*cuda_, nullptr, "");
  for (const char* chip : {"sm_90a", "sm_80"}) {
    fake_->Fail("cuLinkAddData_v2", 1, 222);
    const std::string ptx = internal::Join(".version 8.4\n.target ", chip, "\n.visible .entry k()\n{ ret; }\n");
    const Status status = assembler.Assemble(ptx, 90, "the kernels of program 'p'").status();
    EXPECT_EQ(status.code(), ErrorCode::kDeviceFailed);  // which falls back where that is asked for
    for (const char* part : {"cuLinkAddData for the kernels of program 'p'", "older than the PTX: update it",
                             "this is driver 13.0, the code is PTX 8.4", "libnvJitLink.so of a newer CUDA 13"}) {
      EXPECT_NE(status.message().find(part), std::string::npos) << part << " in " << status;
    }
    EXPECT_EQ(status.message().find("cuda:sm_90") != std::string::npos, std::string(chip) == "sm_90a") << status;
  }
}

TEST(NvJitLinkTest, TheTableNamesEachFunctionOnceAndNoneIsThereBeforeItWasFound) {
  std::set<std::string> names;
  int rows = 0;
  const NvJitLink closed;
#define TES_NVJITLINK(name, parameters) ++rows, names.insert(#name), rows += closed.name != nullptr;
#include "runtime/drivers/nvjitlink_functions.def"
#undef TES_NVJITLINK
  EXPECT_EQ(rows, static_cast<int>(names.size()));
}

TEST(NvJitLinkTest, WhatIsNotOneIsNamed) {
  const Status missing = OpenNvJitLinkAt("libno-such-linker.so").status();
  EXPECT_EQ(missing.code(), ErrorCode::kDeviceMissing);
  EXPECT_NE(missing.message().find("libno-such-linker.so"), std::string::npos) << missing;
  EXPECT_NE(OpenNvJitLinkAt("libm.so.6").status().message().find("libm.so.6 has none"), std::string::npos);
}

}  // namespace
}  // namespace tessera
