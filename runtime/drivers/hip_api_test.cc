// Tests how AMD's driver is opened where there is none: what is missing is said, with what to do. Debian's library,
// which ./check installs, is asked on a machine without a card.
#include "runtime/drivers/hip_api.h"

#include <set>
#include <string>

#include "gtest/gtest.h"
#include "runtime/drivers/hip_chip.h"

namespace tessera {
namespace {

TEST(HipApiTest, AMissingLibraryIsNamed) {
  const Status status = OpenHipAt("libno-such-driver.so.1").status();
  EXPECT_EQ(ErrorCode::kDeviceMissing, status.code());
  EXPECT_NE(std::string::npos, status.message().find("no AMD driver: libno-such-driver.so.1")) << status;
  EXPECT_NE(std::string::npos, status.message().find("--target=host")) << status;
}

TEST(HipApiTest, ALibraryThatLacksAFunctionIsTooOld) {
  const Status status = OpenHipAt("libm.so.6").status();
  EXPECT_EQ(ErrorCode::kDeviceMissing, status.code());
  EXPECT_NE(std::string::npos, status.message().find("libm.so.6 has no hip")) << status;
}

// HIP 5.2.3 of Debian 12 has all that is asked of it, and says by an error that it sees no card.
TEST(HipApiTest, ARealLibraryWithoutACardSaysSo) {
  const StatusOr<const HipApi*> hip = OpenHipAt("libamdhip64.so.5");
  if (hip.ok()) GTEST_SKIP() << "there is a card: " << (*hip)->FactsOf(0)->arch;
  const Status& status = hip.status();
  EXPECT_EQ(ErrorCode::kDeviceMissing, status.code());
  for (const char* part : {"the AMD driver (libamdhip64.so.5) sees no card", "/dev/kfd", "--target=host"}) {
    EXPECT_NE(std::string::npos, status.message().find(part)) << part << " in " << status;
  }
}

TEST(HipApiTest, TheTableNamesEachFunctionOnce) {
  std::set<std::string> names;
  int rows = 0;
#define TES_GPU(member, parameters, cuda, hip) ++rows, names.insert(#hip);
#define TES_GPU_OPTIONAL(member, parameters, cuda, hip) TES_GPU(member, parameters, cuda, hip)
#define TES_HIP(symbol, parameters) ++rows, names.insert(#symbol);
#define TES_HIP_OPTIONAL(symbol, parameters) TES_HIP(symbol, parameters)
#define TES_HIP_TEXT(symbol, parameters) TES_HIP(symbol, parameters)
#include "runtime/drivers/gpu_functions.def"
#include "runtime/drivers/hip_functions.def"
#undef TES_GPU
#undef TES_GPU_OPTIONAL
#undef TES_HIP
#undef TES_HIP_OPTIONAL
#undef TES_HIP_TEXT
  EXPECT_EQ(rows, static_cast<int>(names.size()));
  for (const std::string& name : names) EXPECT_EQ(0u, name.find("hip")) << name;
}

TEST(HipApiTest, CardsAreNumbered) {
  EXPECT_EQ(0, *HipOrdinal("hip"));
  EXPECT_EQ(12, *HipOrdinal("hip:12"));
  for (const char* wrong : {"hip:", "hip:gfx942", "hip:-1", "hip:1x", "hipp:1", "cuda:1", ""}) {
    EXPECT_EQ(ErrorCode::kTargetUnknown, HipOrdinal(wrong).status().code()) << wrong;
  }
}

}  // namespace
}  // namespace tessera
