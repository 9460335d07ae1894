#include "base/status.h"

#include <iostream>

namespace tessera {
namespace {

struct Row {
  ErrorCode code;
  std::string_view name;
  std::string_view meaning;
};

constexpr Row kRows[] = {
    {ErrorCode::kOk, "Ok", "success"},
#define TES_ERROR(name, number, meaning) {ErrorCode::k##name, #name, meaning},
#include "base/errors.def"
#undef TES_ERROR
};

const Row& FindRow(ErrorCode code) {
  for (const Row& row : kRows) {
    if (row.code == code) return row;
  }
  static constexpr Row kUnknown = {ErrorCode::kInternal, "Unknown", "not a number of errors.def"};
  return kUnknown;
}

}  // namespace

std::string_view ErrorCodeName(ErrorCode code) { return FindRow(code).name; }
std::string_view ErrorCodeMeaning(ErrorCode code) { return FindRow(code).meaning; }

std::string Status::ToString() const {
  if (ok()) return "OK";
  return internal::Join("TES-", static_cast<int>(code_), ": ", message_);
}

Status Status::WithContext(std::string_view context) const& {
  if (ok()) return *this;
  return Status(code_, internal::Join(context, ": ", message_));
}

std::ostream& operator<<(std::ostream& out, const Status& status) { return out << status.ToString(); }

namespace internal {
void CheckFailed(const char* file, int line, const char* condition, const std::string& message) {
  std::cerr << file << ":" << line << ": check failed: " << condition;
  if (!message.empty()) std::cerr << ": " << message;
  std::cerr << std::endl;
  std::abort();
}
}  // namespace internal

}  // namespace tessera
