#include "tesa/scanner.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

namespace tessera {
namespace {

bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool IsDigits(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '+' || c == '/' || c == '='; }

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kBase64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

void Scanner::SkipBlanks() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
      ++at_;
    } else if (c == '#' || text_.substr(at_, 2) == "//") {
      at_ = std::min(text_.find('\n', at_), text_.size());
    } else {
      return;
    }
  }
}

std::string Scanner::Place() const {
  const std::string_view before = text_.substr(0, at_);
  const size_t line = static_cast<size_t>(std::count(before.begin(), before.end(), '\n')) + 1;
  const size_t last = before.rfind('\n');
  const size_t column = last == std::string_view::npos ? at_ + 1 : at_ - last;
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

Status Scanner::Fail(std::string_view expected) {
  SkipBlanks();
  std::string_view found = rest().substr(0, 24);
  found = found.substr(0, found.find('\n'));
  std::string shown;
  for (char c : found) shown += c >= ' ' && c <= '~' ? c : '?';
  return Error(ErrorCode::kTextInvalid, Place(), ": expected ", expected, ", found ",
               found.empty() ? "the end" : "'" + shown + "'");
}

Status Scanner::At(const Status& status) { return status.WithContext(Place()); }

bool Scanner::AtEnd() {
  SkipBlanks();
  return at_ == text_.size();
}

char Scanner::Peek() { return AtEnd() ? '\0' : text_[at_]; }

bool Scanner::Sees(std::string_view token) {
  SkipBlanks();
  if (text_.substr(at_, token.size()) != token) return false;
  if (!IsWord(token.back())) return true;
  const size_t end = at_ + token.size();
  return end == text_.size() || !IsWord(text_[end]);
}

bool Scanner::Accept(std::string_view token) {
  if (!Sees(token)) return false;
  at_ += token.size();
  return true;
}

Status Scanner::Expect(std::string_view token) {
  if (Accept(token)) return OkStatus();
  return Fail("'" + std::string(token) + "'");
}

StatusOr<std::string> Scanner::Word(std::string_view expected) {
  SkipBlanks();
  size_t end = at_;
  while (end < text_.size() && IsWord(text_[end])) ++end;
  if (end == at_) return Fail(expected);
  std::string word(text_.substr(at_, end - at_));
  at_ = end;
  return word;
}

StatusOr<int64_t> Scanner::Int(std::string_view expected) {
  SkipBlanks();
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
  if (error != std::errc()) return Fail(expected);
  at_ = static_cast<size_t>(end - text_.data());
  return value;
}

StatusOr<int64_t> Scanner::IntIn(int64_t low, int64_t high, std::string_view expected) {
  SkipBlanks();
  const size_t start = at_;
  ASSIGN_OR_RETURN(const int64_t value, Int(expected));
  if (value >= low && value <= high) return value;
  at_ = start;
  return Fail(std::string(expected) + " of " + std::to_string(low) + "…" + std::to_string(high));
}

StatusOr<double> Scanner::Number() {
  SkipBlanks();
  for (const auto& [word, value] : {std::pair<std::string_view, double>{"inf", HUGE_VAL},
                                    {"-inf", -HUGE_VAL},
                                    {"nan", std::numeric_limits<double>::quiet_NaN()}}) {
    if (Accept(word)) return value;
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
  if (error != std::errc()) return Fail("a number");
  at_ = static_cast<size_t>(end - text_.data());
  return value;
}

StatusOr<std::string> Scanner::Quoted() {
  SkipBlanks();
  const size_t start = at_;
  RETURN_IF_ERROR(Expect("\""));
  std::string out;
  while (at_ < text_.size() && text_[at_] != '"') {
    char c = text_[at_++];
    if (c == '\\') {
      const char escape = at_ < text_.size() ? text_[at_++] : '\0';
      switch (escape) {
        case 'n': c = '\n'; break;
        case 't': c = '\t'; break;
        case 'r': c = '\r'; break;
        case '"':
        case '\\': c = escape; break;
        case 'x': {
          const int high = at_ < text_.size() ? HexValue(text_[at_]) : -1;
          const int low = at_ + 1 < text_.size() ? HexValue(text_[at_ + 1]) : -1;
          if (high < 0 || low < 0) return Fail("two hexadecimal digits");
          c = static_cast<char>(high * 16 + low);
          at_ += 2;
          break;
        }
        default: return Fail("one of \\n \\t \\r \\\" \\\\ \\xHH");
      }
    }
    out += c;
  }
  if (at_ == text_.size()) {
    at_ = start;
    return Fail("a string that ends");
  }
  ++at_;
  return out;
}

StatusOr<std::vector<int64_t>> Scanner::Ints() {
  std::vector<int64_t> values;
  RETURN_IF_ERROR(Expect("["));
  if (Accept("]")) return values;
  do {
    ASSIGN_OR_RETURN(const int64_t value, Int());
    values.push_back(value);
  } while (Accept(","));
  RETURN_IF_ERROR(Expect("]"));
  return values;
}

StatusOr<std::vector<double>> Scanner::Numbers() {
  std::vector<double> values;
  RETURN_IF_ERROR(Expect("["));
  if (Accept("]")) return values;
  do {
    ASSIGN_OR_RETURN(const double value, Number());
    values.push_back(value);
  } while (Accept(","));
  RETURN_IF_ERROR(Expect("]"));
  return values;
}

std::string_view Scanner::Digits() {
  size_t end = at_;
  while (end < text_.size() && IsDigits(text_[end])) ++end;
  const std::string_view digits = text_.substr(at_, end - at_);
  at_ = end;
  return digits;
}

std::string FormatNumber(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[32];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr);
}

std::string Quote(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '\n': out += "\\n"; break;
      case '\t': out += "\\t"; break;
      case '\r': out += "\\r"; break;
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      default:
        if (byte < 0x20 || byte == 0x7f) {
          out += "\\x";
          out += kHexDigits[byte >> 4];
          out += kHexDigits[byte & 15];
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

std::string FormatHex(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (unsigned char byte : bytes) {
    out += kHexDigits[byte >> 4];
    out += kHexDigits[byte & 15];
  }
  return out;
}

StatusOr<std::string> ParseHex(std::string_view digits) {
  std::string out;
  out.reserve(digits.size() / 2);
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    const int high = HexValue(digits[i]), low = HexValue(digits[i + 1]);
    if (high < 0 || low < 0) return Error(ErrorCode::kTextInvalid, "expected hexadecimal digits");
    out += static_cast<char>(high * 16 + low);
  }
  if (digits.size() % 2 != 0) return Error(ErrorCode::kTextInvalid, "expected an even number of hexadecimal digits");
  return out;
}

std::string FormatBase64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    for (size_t k = 0; k < 3; ++k) group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) out += k <= count ? kBase64Digits[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

StatusOr<std::string> ParseBase64(std::string_view digits) {
  static const auto values = [] {
    std::array<int8_t, 256> table{};
    table.fill(-1);
    for (size_t k = 0; k < kBase64Digits.size(); ++k) {
      table[static_cast<unsigned char>(kBase64Digits[k])] = static_cast<int8_t>(k);
    }
    return table;
  }();
  if (digits.size() % 4 != 0) return Error(ErrorCode::kTextInvalid, "expected base64 in groups of four digits");
  std::string out;
  out.reserve(digits.size() / 4 * 3);
  for (size_t i = 0; i < digits.size(); i += 4) {
    const bool last = i + 4 == digits.size();
    const int padding = !last ? 0 : (digits[i + 3] != '=' ? 0 : (digits[i + 2] != '=' ? 1 : 2));
    uint32_t group = 0;
    for (int k = 0; k < 4; ++k) {
      const int value = k >= 4 - padding ? 0 : values[static_cast<unsigned char>(digits[i + static_cast<size_t>(k)])];
      if (value < 0) return Error(ErrorCode::kTextInvalid, "expected base64 digits");
      group = group << 6 | static_cast<uint32_t>(value);
    }
    for (int k = 0; k < 3 - padding; ++k) out += static_cast<char>(group >> (16 - 8 * k) & 255);
  }
  return out;
}

}  // namespace tessera
