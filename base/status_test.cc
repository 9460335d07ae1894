// Tests Status, StatusOr, their macros, and that the table of errors keeps its promises: numbers and names are unique.
#include "base/status.h"

#include <memory>
#include <set>
#include <sstream>
#include <string>

#include "gtest/gtest.h"

namespace tessera {
namespace {

TEST(Status, DefaultIsOk) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), ErrorCode::kOk);
  EXPECT_EQ(status.ToString(), "OK");
  EXPECT_EQ(status, OkStatus());
}

TEST(Status, ErrorJoinsItsPieces) {
  const Status status =
      Error(ErrorCode::kShapeMismatch, "node '", "conv1", "': expected ", 4, " dimensions, found ", 3);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), ErrorCode::kShapeMismatch);
  EXPECT_EQ(status.message(), "node 'conv1': expected 4 dimensions, found 3");
  EXPECT_EQ(status.ToString(), "TES-1105: node 'conv1': expected 4 dimensions, found 3");
}

TEST(Status, ContextGoesInFront) {
  const Status status = Error(ErrorCode::kFileTruncated, "ends at byte 12").WithContext("model.tess");
  EXPECT_EQ(status.message(), "model.tess: ends at byte 12");
  EXPECT_EQ(status.code(), ErrorCode::kFileTruncated);
  EXPECT_TRUE(OkStatus().WithContext("model.tess").ok());
}

TEST(Status, EqualityComparesCodeAndMessage) {
  EXPECT_EQ(Error(ErrorCode::kInternal, "a"), Error(ErrorCode::kInternal, "a"));
  EXPECT_FALSE(Error(ErrorCode::kInternal, "a") == Error(ErrorCode::kInternal, "b"));
  EXPECT_FALSE(Error(ErrorCode::kInternal, "a") == Error(ErrorCode::kOutOfMemory, "a"));
}

TEST(Status, StreamsLikeToString) {
  std::ostringstream out;
  out << Error(ErrorCode::kUsageInvalid, "no model given");
  EXPECT_EQ(out.str(), "TES-2001: no model given");
}

TEST(ErrorTable, NumbersAndNamesAreUniqueAndMeaningsAreSentences) {
  std::set<int> numbers = {0};
  std::set<std::string> names = {"Ok"};
#define TES_ERROR(name, number, meaning)                                            \
  EXPECT_TRUE(numbers.insert(number).second) << number << " stands twice";          \
  EXPECT_TRUE(names.insert(#name).second) << #name << " stands twice";              \
  EXPECT_EQ(ErrorCodeName(ErrorCode::k##name), #name);                              \
  EXPECT_EQ(ErrorCodeMeaning(ErrorCode::k##name), meaning);                         \
  EXPECT_NE(std::string(meaning).back(), '.') << #name << ": no full stop, please"; \
  EXPECT_TRUE(number >= 1000 && number <= 9999) << #name << ": four digits, please";
#include "base/errors.def"
#undef TES_ERROR
  EXPECT_EQ(ErrorCodeName(static_cast<ErrorCode>(4321)), "Unknown");
}

StatusOr<int> Halve(int value) {
  if (value % 2 != 0) return Error(ErrorCode::kValueInvalid, value, " is odd");
  return value / 2;
}

StatusOr<int> Quarter(int value) {
  ASSIGN_OR_RETURN(const int half, Halve(value));
  ASSIGN_OR_RETURN(const int quarter, Halve(half));
  return quarter;
}

Status CheckQuarter(int value) {
  RETURN_IF_ERROR(Quarter(value).status());
  return OkStatus();
}

TEST(StatusOr, MacrosPassValuesAndErrorsOn) {
  const StatusOr<int> good = Quarter(12);
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(*good, 3);
  EXPECT_EQ(Quarter(6).status().message(), "3 is odd");
  EXPECT_EQ(Quarter(5).status().message(), "5 is odd");
  EXPECT_TRUE(CheckQuarter(8).ok());
  EXPECT_EQ(CheckQuarter(9).code(), ErrorCode::kValueInvalid);
}

TEST(StatusOr, HoldsMoveOnlyValues) {
  StatusOr<std::unique_ptr<int>> owner = std::make_unique<int>(7);
  ASSERT_TRUE(owner.ok());
  EXPECT_EQ(**owner, 7);
  const std::unique_ptr<int> taken = *std::move(owner);
  EXPECT_EQ(*taken, 7);
}

TEST(StatusOr, ArrowReachesTheValue) {
  StatusOr<std::string> text = std::string("kept");
  EXPECT_EQ(text->size(), 4u);
  text->append(" 10%");
  EXPECT_EQ(text.value(), "kept 10%");
}

TEST(StatusOrDeathTest, ReadingTheValueOfAnErrorIsAFault) {
  const StatusOr<int> bad = Error(ErrorCode::kFileNotFound, "no such file: a.tess");
  EXPECT_DEATH(static_cast<void>(*bad), "no such file: a.tess");
  EXPECT_DEATH(static_cast<void>(StatusOr<int>{OkStatus()}), "made from an ok Status");
}

TEST(CheckDeathTest, PrintsConditionAndContext) {
  const int index = 9;
  TES_CHECK(index > 0);
  EXPECT_DEATH(TES_CHECK(index < 4, "index = ", index), "check failed: index < 4: index = 9");
}

}  // namespace
}  // namespace tessera
