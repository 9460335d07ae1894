// Tests how NVIDIA's driver is opened where there is none: what is missing is said, with what to do.
#include "runtime/drivers/cuda_api.h"

#include <set>
#include <string>

#include "gtest/gtest.h"
#include "runtime/drivers/cuda_chip.h"

namespace tessera {
namespace {

TEST(CudaApiTest, AMissingLibraryIsNamed) {
  const Status status = OpenCudaAt("libno-such-driver.so.1").status();
  EXPECT_EQ(ErrorCode::kDeviceMissing, status.code());
  EXPECT_NE(std::string::npos, status.message().find("libno-such-driver.so.1")) << status;
  EXPECT_NE(std::string::npos, status.message().find("--target=host")) << status;
}

TEST(CudaApiTest, ALibraryThatLacksAFunctionIsTooOld) {
  const Status status = OpenCudaAt("libm.so.6").status();
  EXPECT_EQ(ErrorCode::kDeviceMissing, status.code());
  EXPECT_NE(std::string::npos, status.message().find("libm.so.6 has no cu")) << status;
  EXPECT_NE(std::string::npos, status.message().find("the driver is too old; install one of CUDA 12")) << status;
}

TEST(CudaApiTest, TheTableNamesEachFunctionOnceAndAllAreFound) {
  std::set<std::string> names;
  int rows = 0;
#define TES_GPU(member, parameters, cuda, hip) ++rows, names.insert(#cuda);
#define TES_GPU_OPTIONAL(member, parameters, cuda, hip) TES_GPU(member, parameters, cuda, hip)
#define TES_CUDA(symbol, parameters) ++rows, names.insert(#symbol);
#define TES_CUDA_OPTIONAL(symbol, parameters) TES_CUDA(symbol, parameters)
#include "runtime/drivers/cuda_functions.def"
#include "runtime/drivers/gpu_functions.def"
#undef TES_GPU
#undef TES_GPU_OPTIONAL
#undef TES_CUDA
#undef TES_CUDA_OPTIONAL
  EXPECT_EQ(rows, static_cast<int>(names.size()));
  for (const std::string& name : names) EXPECT_EQ(0u, name.find("cu")) << name;
  const StatusOr<const CudaApi*> cuda = OpenCuda();
  if (!cuda.ok()) GTEST_SKIP() << cuda.status();
  EXPECT_GE(*CudaCapability(), 50);
  const Status status = (*cuda)->Check(1, "cuNothing", "a test");
  EXPECT_NE(std::string::npos, status.message().find("CUDA_ERROR_INVALID_VALUE")) << status;
}

TEST(CudaApiTest, CardsAreNumbered) {
  EXPECT_EQ(0, *CudaOrdinal("cuda"));
  EXPECT_EQ(0, *CudaOrdinal("cuda:0"));
  EXPECT_EQ(12, *CudaOrdinal("cuda:12"));
  for (const char* wrong : {"cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:sm_90", "host", ""}) {
    EXPECT_EQ(ErrorCode::kTargetUnknown, CudaOrdinal(wrong).status().code()) << wrong;
  }
}

}  // namespace
}  // namespace tessera
