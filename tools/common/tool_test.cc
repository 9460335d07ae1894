#include "tools/common/tool.h"

#include <gtest/gtest.h>

#include <new>
#include <stdexcept>

namespace tessera {
namespace {

TEST(ToolTest, ErrorsBecomeExitStatuses) {
  EXPECT_EQ(ExitStatusOf(OkStatus()), 0);
  EXPECT_EQ(ExitStatusOf(Error(ErrorCode::kFileNotFound, "x")), 1);
  EXPECT_EQ(ExitStatusOf(Error(ErrorCode::kUsageInvalid, "x")), 2);
  EXPECT_EQ(ExitStatusOf(Error(ErrorCode::kDeviceMissing, "x")), 1);
  EXPECT_EQ(ExitStatusOf(Error(ErrorCode::kResultWrong, "x")), 3);
  EXPECT_EQ(ExitStatusOf(Error(ErrorCode::kInternal, "x")), 1);
}

TEST(ToolTest, ArgumentsComeWithoutTheProgramsName) {
  std::string program = "convert", first = "a.onnx";
  char* argv[] = {program.data(), first.data()};
  EXPECT_EQ(RunTool(2, argv,
                    [](const std::vector<std::string>& args) {
                      return args == std::vector<std::string>{"a.onnx"} ? OkStatus()
                                                                        : Error(ErrorCode::kInternal, "args");
                    }),
            0);
  EXPECT_EQ(RunTool(0, argv,
                    [](const std::vector<std::string>& args) {
                      return args.empty() ? OkStatus() : Error(ErrorCode::kInternal, "args");
                    }),
            0);
}

TEST(ToolTest, ErrorsArePrintedWithTheirNumber) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunWithStatus(
                {}, [](const std::vector<std::string>&) { return Error(ErrorCode::kUsageInvalid, "no model given"); }),
            2);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "TES-2001: no model given\n");
}

TEST(ToolTest, ExceptionsOfTheStandardLibraryDoNotAbort) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunWithStatus({}, [](const std::vector<std::string>&) -> Status { throw std::bad_alloc(); }), 1);
  EXPECT_EQ(RunWithStatus({}, [](const std::vector<std::string>&) -> Status { throw std::length_error("vector"); }), 1);
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("TES-3002: not enough memory"), std::string::npos) << text;
  EXPECT_NE(text.find("TES-9001: "), std::string::npos) << text;
}

}  // namespace
}  // namespace tessera
