#include "codegen/target.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(TargetTest, HostHasAtLeastTheBaseline) {
  StatusOr<Target> host = MakeTarget("host");
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_GE(host->vector_bits, 128);
  EXPECT_GT(host->l1d_bytes, 0);
  EXPECT_FALSE(host->cpu.empty());
  EXPECT_FALSE(host->features.empty());
}

TEST(TargetTest, LevelsDifferInVectorsAndKeys) {
  StatusOr<Target> sse = MakeTarget("host:x86-64"), avx2 = MakeTarget("host:x86-64-v3"),
                   avx512 = MakeTarget("host:x86-64-v4");
  ASSERT_TRUE(sse.ok() && avx2.ok() && avx512.ok());
  EXPECT_EQ(sse->vector_bits, 128);
  EXPECT_FALSE(sse->has_fma);
  EXPECT_FALSE(sse->has_f16c);
  EXPECT_EQ(avx2->vector_bits, 256);
  EXPECT_EQ(avx2->vector_registers, 16);
  EXPECT_TRUE(avx2->has_fma);
  EXPECT_FALSE(avx2->has_avx512);
  EXPECT_EQ(avx512->vector_bits, 512);
  EXPECT_EQ(avx512->vector_registers, 32);
  EXPECT_EQ(avx512->Lanes(32), 16);
  EXPECT_FALSE(avx512->has_vnni) << "VNNI is no part of x86-64-v4";
  EXPECT_FALSE(avx512->has_vbmi) << "nor is VBMI";
  StatusOr<Target> zen4 = MakeTarget("host:znver4");
  ASSERT_TRUE(zen4.ok());
  EXPECT_TRUE(zen4->has_vnni);
  EXPECT_TRUE(zen4->has_vbmi);
  EXPECT_TRUE(zen4->has_bf16);
  EXPECT_NE(sse->Key(), avx2->Key());
  EXPECT_NE(avx2->Key(), avx512->Key());
}

TEST(TargetTest, Tf32IsAskedForByName) {
  StatusOr<Target> strict = MakeTarget("cuda:sm_90"), relaxed = MakeTarget("cuda:sm_90+tf32");
  ASSERT_TRUE(strict.ok() && relaxed.ok());
  EXPECT_EQ(90, relaxed->capability);
  EXPECT_EQ(132, relaxed->multiprocessors);
  EXPECT_FALSE(strict->allow_tf32);
  EXPECT_TRUE(relaxed->allow_tf32);
  EXPECT_NE(strict->Key(), relaxed->Key());
  EXPECT_EQ("cuda:sm_90+tf32", relaxed->name);
  EXPECT_EQ(ErrorCode::kTargetUnknown, MakeTarget("cuda:sm_75+tf32").status().code());
  EXPECT_EQ(ErrorCode::kTargetUnknown, MakeTarget("host+tf32").status().code());
}

TEST(TargetTest, UnknownNamesSayWhatThereIs) {
  StatusOr<Target> unknown = MakeTarget("tpu");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.status().code(), ErrorCode::kTargetUnknown);
  EXPECT_NE(unknown.status().message().find("host:CPU"), std::string::npos);
  StatusOr<Target> chip = MakeTarget("host:pentium9");
  ASSERT_FALSE(chip.ok());
  EXPECT_EQ(chip.status().code(), ErrorCode::kTargetUnknown);
  EXPECT_NE(chip.status().message().find("pentium9"), std::string::npos);
  EXPECT_NE(chip.status().message().find("host:x86-64-v3"), std::string::npos) << chip.status();
  StatusOr<Target> arm = MakeTarget("arm64:pentium9");
  ASSERT_FALSE(arm.ok());
  EXPECT_EQ(arm.status().code(), ErrorCode::kTargetUnknown);
  EXPECT_NE(arm.status().message().find("arm64:neoverse-v1"), std::string::npos) << arm.status();
}

}  // namespace
}  // namespace tessera
