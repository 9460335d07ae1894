// JsonWriter: writes JSON text, always valid, in the order of the calls.
//
//   JsonWriter json;
//   json.BeginObject().Key("name").String("conv\n1").Key("us").Number(12.5).EndObject();
//   json.text() == R"({"name":"conv\n1","us":12.5})"
//
// A writer only; tools read JSON with the system's library. Names of nodes and files come from strangers: bytes that
// are not UTF-8 become U+FFFD. JSON has no NaN and no infinity: they are written as null.  Tested by json_test.cc, also
// by reading what it wrote with another library.
#ifndef TESSERA_BASE_JSON_H_
#define TESSERA_BASE_JSON_H_

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// Calls that do not make JSON (a value without a key in an object, an end without its begin) are faults (TES_CHECK).
// One thread at a time.
class JsonWriter {
 public:
  // `indent` blanks for each level, one member a line; 0: all on one line.
  explicit JsonWriter(int indent = 0) : indent_(indent) {}

  JsonWriter& BeginObject() { return Begin('{', '}'); }
  JsonWriter& EndObject() { return End('}'); }
  JsonWriter& BeginArray() { return Begin('[', ']'); }
  JsonWriter& EndArray() { return End(']'); }
  // Within an object, before each value.
  JsonWriter& Key(std::string_view key);

  JsonWriter& String(std::string_view value);
  // Shortest text that reads back as the same double.
  JsonWriter& Number(double value);
  template <std::signed_integral T>
  JsonWriter& Number(T value) {
    return Signed(value);
  }
  template <std::unsigned_integral T>
    requires(!std::same_as<T, bool>)
  JsonWriter& Number(T value) {
    return Unsigned(value);
  }
  JsonWriter& Bool(bool value) { return Literal(value ? "true" : "false"); }
  JsonWriter& Null() { return Literal("null"); }

  // What was written so far; complete when every Begin has its End.
  const std::string& text() const { return text_; }
  // Moves the text out and starts anew.
  std::string TakeText();

 private:
  struct Level {
    char end;
    bool empty;
  };

  JsonWriter& Begin(char begin, char end);
  JsonWriter& End(char end);
  JsonWriter& Literal(std::string_view text);
  JsonWriter& Signed(int64_t value);
  JsonWriter& Unsigned(uint64_t value);
  void BeforeValue();
  void NewLine();

  int indent_;
  bool has_key_ = false;
  std::vector<Level> levels_;
  std::string text_;
};

// The quoted and escaped form of `text`.
void AppendJsonString(std::string_view text, std::string* out);

}  // namespace tessera

#endif  // TESSERA_BASE_JSON_H_
