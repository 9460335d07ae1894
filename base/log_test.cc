#include "base/log.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace tessera {
namespace {

class LogTest : public testing::Test {
 protected:
  void SetUp() override {
    SetLogSink([this](LogLevel level, std::string_view message) {
      lines_.push_back(std::string(LogLevelName(level)) + ": " + std::string(message));
    });
  }
  void TearDown() override {
    SetLogSink(nullptr);
    SetLogLevel(LogLevel::kWarning);
  }
  std::vector<std::string> lines_;
};

TEST_F(LogTest, WarningsAndErrorsPassAtFirst) {
  TES_LOG(kDebug, "a");
  TES_LOG(kInfo, "b");
  TES_LOG(kWarning, "c ", 3);
  TES_LOG(kError, "d ", 4.5, " e");
  EXPECT_EQ(lines_, (std::vector<std::string>{"warning: c 3", "error: d 4.5 e"}));
}

TEST_F(LogTest, PiecesOfADroppedMessageAreNotEvaluated) {
  int evaluated = 0;
  auto piece = [&] { return ++evaluated; };
  TES_LOG(kInfo, piece());
  EXPECT_EQ(evaluated, 0);
  SetLogLevel(LogLevel::kDebug);
  TES_LOG(kDebug, piece());
  EXPECT_EQ(evaluated, 1);
  SetLogLevel(LogLevel::kSilent);
  TES_LOG(kError, piece());
  EXPECT_EQ(evaluated, 1);
  EXPECT_EQ(lines_, (std::vector<std::string>{"debug: 1"}));
}

TEST_F(LogTest, NamesAndLevelsAgree) {
  for (const char* name : {"debug", "info", "warning", "error", "silent"}) {
    ASSERT_TRUE(ParseLogLevel(name).has_value()) << name;
    EXPECT_EQ(LogLevelName(*ParseLogLevel(name)), name);
  }
  EXPECT_EQ(ParseLogLevel("loud"), std::nullopt);
  EXPECT_EQ(ParseLogLevel(""), std::nullopt);
}

TEST_F(LogTest, ThreadsDoNotMixMessages) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i] {
      for (int j = 0; j < 100; ++j) TES_LOG(kWarning, i, "-", i, "-", i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(lines_.size(), 400u);
  for (const std::string& line : lines_) {
    EXPECT_TRUE(line.size() == 14 && line[9] == line[11] && line[11] == line[13]) << line;
  }
}

TEST_F(LogTest, WithoutASinkMessagesGoToStderr) {
  SetLogSink(nullptr);
  testing::internal::CaptureStderr();
  TES_LOG(kWarning, "low disk");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "tessera: warning: low disk\n");
}

}  // namespace
}  // namespace tessera
