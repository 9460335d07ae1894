#include "base/json.h"

#include <charconv>
#include <cmath>
#include <utility>

#include "base/status.h"

namespace tessera {
namespace {

// Bytes of the well-formed UTF-8 sequence at the start of `text`, or 0 (Unicode 15, table 3-7).
size_t SequenceLength(std::string_view text) {
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  auto follows = [&](size_t i, unsigned low = 0x80, unsigned high = 0xbf) { return byte(i) >= low && byte(i) <= high; };
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    // No overlong forms (e0), no surrogates (ed).
    return follows(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf) && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    // No overlong forms (f0), nothing above U+10FFFF (f4).
    return follows(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

template <typename T>
void AppendNumber(T value, std::string* out) {
  char buffer[32];  // the longest double has 24 characters
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), value);
  out->append(buffer, end);
}

}  // namespace

void AppendJsonString(std::string_view text, std::string* out) {
  static constexpr char kDigits[] = "0123456789abcdef";
  out->push_back('"');
  while (!text.empty()) {
    const unsigned char c = static_cast<unsigned char>(text.front());
    size_t length = SequenceLength(text);
    if (length == 0) {
      out->append("\xef\xbf\xbd");  // U+FFFD, one for each wrong byte
      length = 1;
    } else if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(static_cast<char>(c));
    } else if (c == '\n') {
      out->append("\\n");
    } else if (c == '\t') {
      out->append("\\t");
    } else if (c < 0x20 || c == 0x7f) {
      out->append("\\u00");
      out->push_back(kDigits[c >> 4]);
      out->push_back(kDigits[c & 15]);
    } else {
      out->append(text.substr(0, length));
    }
    text.remove_prefix(length);
  }
  out->push_back('"');
}

void JsonWriter::NewLine() {
  if (indent_ == 0) return;
  text_.push_back('\n');
  text_.append(static_cast<size_t>(indent_) * levels_.size(), ' ');
}

void JsonWriter::BeforeValue() {
  if (levels_.empty()) {
    TES_CHECK(text_.empty(), "a second value at the top of a JSON text");
    return;
  }
  Level& level = levels_.back();
  if (level.end == '}') {
    TES_CHECK(has_key_, "a value without a key in a JSON object");
    has_key_ = false;
    return;
  }
  if (!level.empty) text_.push_back(',');
  level.empty = false;
  NewLine();
}

JsonWriter& JsonWriter::Begin(char begin, char end) {
  BeforeValue();
  text_.push_back(begin);
  levels_.push_back(Level{.end = end, .empty = true});
  return *this;
}

JsonWriter& JsonWriter::End(char end) {
  TES_CHECK(!levels_.empty() && levels_.back().end == end && !has_key_, "'", end, "' does not end what was begun");
  const bool empty = levels_.back().empty;
  levels_.pop_back();
  if (!empty) NewLine();
  text_.push_back(end);
  return *this;
}

JsonWriter& JsonWriter::Key(std::string_view key) {
  TES_CHECK(!levels_.empty() && levels_.back().end == '}' && !has_key_, "key '", key, "' outside a JSON object");
  if (!levels_.back().empty) text_.push_back(',');
  levels_.back().empty = false;
  NewLine();
  AppendJsonString(key, &text_);
  text_.append(indent_ == 0 ? ":" : ": ");
  has_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::String(std::string_view value) {
  BeforeValue();
  AppendJsonString(value, &text_);
  return *this;
}

JsonWriter& JsonWriter::Number(double value) {
  if (!std::isfinite(value)) return Null();
  BeforeValue();
  AppendNumber(value, &text_);
  return *this;
}

JsonWriter& JsonWriter::Signed(int64_t value) {
  BeforeValue();
  AppendNumber(value, &text_);
  return *this;
}

JsonWriter& JsonWriter::Unsigned(uint64_t value) {
  BeforeValue();
  AppendNumber(value, &text_);
  return *this;
}

JsonWriter& JsonWriter::Literal(std::string_view text) {
  BeforeValue();
  text_.append(text);
  return *this;
}

std::string JsonWriter::TakeText() {
  TES_CHECK(levels_.empty(), "a JSON text with ", levels_.size(), " objects or arrays not ended");
  has_key_ = false;
  return std::exchange(text_, std::string());
}

}  // namespace tessera
