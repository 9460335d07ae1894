// Status and StatusOr<T>: how every fallible function of Tessera says what went wrong.
//
//   StatusOr<Graph> ParseGraph(std::string_view text);
//   ASSIGN_OR_RETURN(Graph graph, ParseGraph(text));
//   RETURN_IF_ERROR(Verify(graph));
//   return Error(ErrorCode::kShapeMismatch, "node 'conv1': expected 4 dimensions, found ", rank, "; ...");
//
// Three kinds of failure, three tools: Status for what a user can cause, TES_CHECK for what we got wrong ourselves,
// std::optional for plain absence. A message names the node, what was expected, what was found and what to do.
// Only std appears here, because public headers include this file.  Tested by status_test.cc.
#ifndef TESSERA_BASE_STATUS_H_
#define TESSERA_BASE_STATUS_H_

#include <cstdlib>
#include <optional>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

namespace tessera {

// The stable numbers of errors.def; kOk is success.
enum class ErrorCode : int {
  kOk = 0,
#define TES_ERROR(name, number, meaning) k##name = number,
#include "base/errors.def"
#undef TES_ERROR
};

// "FileTruncated" for kFileTruncated; "Ok" for kOk.
std::string_view ErrorCodeName(ErrorCode code);
// The row's meaning, one sentence without a full stop.
std::string_view ErrorCodeMeaning(ErrorCode code);

// Success, or an error number with a message. Cheap to copy when ok. Thread-compatible like std::string.
class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == ErrorCode::kOk; }
  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // "TES-1105: node 'conv1': …", or "OK".
  std::string ToString() const;

  // The same error seen from further out: `context` goes in front of the message. No effect when ok.
  Status WithContext(std::string_view context) const&;

  friend bool operator==(const Status& a, const Status& b) { return a.code_ == b.code_ && a.message_ == b.message_; }

 private:
  ErrorCode code_ = ErrorCode::kOk;
  std::string message_;
};

std::ostream& operator<<(std::ostream& out, const Status& status);

inline Status OkStatus() { return Status(); }

// Builds an error from streamable pieces.
template <typename... Pieces>
Status Error(ErrorCode code, const Pieces&... pieces) {
  std::ostringstream out;
  static_cast<void>((out << ... << pieces));
  return Status(code, out.str());
}

namespace internal {
// Prints file, line, the failed condition and `message` to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, const std::string& message);
}  // namespace internal

// A value of type T, or the error that kept us from making one. Reading the value of an error is a fault (TES_CHECK).
template <typename T>
class [[nodiscard]] StatusOr {
 public:
  StatusOr(T value) : value_(std::move(value)) {}  // NOLINT: implicit on purpose, as is the next
  StatusOr(Status status) : status_(std::move(status)) {
    if (status_.ok()) internal::CheckFailed(__FILE__, __LINE__, "!status.ok()", "StatusOr made from an ok Status");
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  T& value() & { return Checked(); }
  const T& value() const& { return const_cast<StatusOr*>(this)->Checked(); }
  T&& value() && { return std::move(Checked()); }
  T& operator*() & { return Checked(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(Checked()); }
  T* operator->() { return &Checked(); }
  const T* operator->() const { return &value(); }

 private:
  T& Checked() {
    if (!value_) internal::CheckFailed(__FILE__, __LINE__, "ok()", status_.ToString());
    return *value_;
  }

  Status status_;
  std::optional<T> value_;
};

}  // namespace tessera

#define TES_CONCAT_INNER(a, b) a##b
#define TES_CONCAT(a, b) TES_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expression` is an error.
#define RETURN_IF_ERROR(expression)                                \
  do {                                                             \
    if (::tessera::Status status_ = (expression); !status_.ok()) { \
      return status_;                                              \
    }                                                              \
  } while (false)

// ASSIGN_OR_RETURN(auto x, F()): x is the value, or the enclosing function returns F's error.
#define ASSIGN_OR_RETURN(declaration, expression) \
  TES_ASSIGN_OR_RETURN(TES_CONCAT(status_or_, __LINE__), declaration, expression)
#define TES_ASSIGN_OR_RETURN(temporary, declaration, expression) \
  auto temporary = (expression);                                 \
  if (!temporary.ok()) return temporary.status();                \
  declaration = *std::move(temporary)

// Our own invariants. Streamable context: TES_CHECK(i < n, "i = ", i).
#define TES_CHECK(condition, ...)                                                                               \
  do {                                                                                                          \
    if (!(condition)) {                                                                                         \
      ::tessera::internal::CheckFailed(__FILE__, __LINE__, #condition, ::tessera::internal::Join(__VA_ARGS__)); \
    }                                                                                                           \
  } while (false)

namespace tessera::internal {
template <typename... Pieces>
std::string Join(const Pieces&... pieces) {
  std::ostringstream out;
  static_cast<void>((out << ... << pieces));
  return out.str();
}
}  // namespace tessera::internal

#endif  // TESSERA_BASE_STATUS_H_
