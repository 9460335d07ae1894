// Matchers for Status and StatusOr in tests.
//
//   ASSERT_OK(WriteModel(graph, path));
//   EXPECT_THAT(ReadModel("no such file"), StatusIs(ErrorCode::kFileNotFound, HasSubstr("no such file")));
//   ASSERT_OK_AND_ASSIGN(Graph graph, ReadModel(path));
//
// A mismatch prints the whole status. Tested by testing_test.cc.
#ifndef TESSERA_TESA_TESTING_STATUS_MATCHERS_H_
#define TESSERA_TESA_TESTING_STATUS_MATCHERS_H_

#include <ostream>
#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tessera {

inline const Status& StatusOf(const Status& status) { return status; }
template <typename T>
const Status& StatusOf(const StatusOr<T>& value) {
  return value.status();
}

MATCHER(IsOk, negation ? "is an error" : "is OK") {
  *result_listener << "which is " << StatusOf(arg);
  return StatusOf(arg).ok();
}

MATCHER_P(StatusIs, code, "has the code " + std::string(ErrorCodeName(code))) {
  *result_listener << "which is " << StatusOf(arg);
  return StatusOf(arg).code() == code;
}

// `message` is a matcher or a string that the message equals.
MATCHER_P2(StatusIs, code, message, "has the code " + std::string(ErrorCodeName(code)) + " and the given message") {
  *result_listener << "which is " << StatusOf(arg);
  return StatusOf(arg).code() == code && testing::Matches(message)(StatusOf(arg).message());
}

}  // namespace tessera

#define ASSERT_OK(expression) ASSERT_THAT(expression, ::tessera::IsOk())
#define EXPECT_OK(expression) EXPECT_THAT(expression, ::tessera::IsOk())

#define ASSERT_OK_AND_ASSIGN(declaration, expression) \
  TES_ASSERT_OK_AND_ASSIGN(TES_CONCAT(status_or_, __LINE__), declaration, expression)
#define TES_ASSERT_OK_AND_ASSIGN(temporary, declaration, expression)          \
  auto temporary = (expression);                                              \
  ASSERT_TRUE(temporary.ok()) << #expression << " is " << temporary.status(); \
  declaration = *std::move(temporary)

#endif  // TESSERA_TESA_TESTING_STATUS_MATCHERS_H_
