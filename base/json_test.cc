#include "base/json.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

namespace tessera {
namespace {

TEST(JsonTest, ObjectsArraysAndScalars) {
  JsonWriter json;
  json.BeginObject().Key("a").Number(1).Key("b").BeginArray().Number(-2).Number(0.1).String("x").Null().EndArray();
  json.Key("c").BeginObject().EndObject().Key("d").Bool(true).Key("e").BeginArray().EndArray().EndObject();
  EXPECT_EQ(json.text(), R"({"a":1,"b":[-2,0.1,"x",null],"c":{},"d":true,"e":[]})");
  EXPECT_EQ(json.TakeText().front(), '{');
  EXPECT_EQ(json.Number(7u).text(), "7");
}

TEST(JsonTest, Indented) {
  JsonWriter json(2);
  json.BeginObject()
      .Key("a")
      .BeginArray()
      .Number(1)
      .Number(2)
      .EndArray()
      .Key("b")
      .BeginObject()
      .EndObject()
      .EndObject();
  EXPECT_EQ(json.text(), "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}");
}

TEST(JsonTest, Numbers) {
  auto number = [](auto value) { return JsonWriter().Number(value).text(); };
  EXPECT_EQ(number(std::numeric_limits<int64_t>::min()), "-9223372036854775808");
  EXPECT_EQ(number(std::numeric_limits<uint64_t>::max()), "18446744073709551615");
  EXPECT_EQ(number(1e300), "1e+300");
  EXPECT_EQ(number(0.30000000000000004), "0.30000000000000004");
  EXPECT_EQ(number(NAN), "null");
  EXPECT_EQ(number(-INFINITY), "null");
}

TEST(JsonTest, StringsAreEscaped) {
  auto text = [](std::string_view value) { return JsonWriter().String(value).text(); };
  EXPECT_EQ(text("a\"b\\c\nd\te"), R"("a\"b\\c\nd\te")");
  EXPECT_EQ(text(std::string_view("\0\x1f\x7f", 3)), "\"\\u0000\\u001f\\u007f\"");
  EXPECT_EQ(text("caf\xc3\xa9 \xf0\x9f\x99\x82"), "\"caf\xc3\xa9 \xf0\x9f\x99\x82\"");
  // Not UTF-8: a lone byte, an overlong form, a surrogate, beyond U+10FFFF, cut off.
  for (const char* wrong : {"\x80", "\xff", "\xc0", "\xe9"}) EXPECT_EQ(text(wrong), "\"\xef\xbf\xbd\"") << wrong;
  EXPECT_EQ(text("\xc0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");
  EXPECT_EQ(text("\xe2\x82x"), "\"\xef\xbf\xbd\xef\xbf\xbdx\"");
}

TEST(JsonTest, AnotherLibraryReadsBackWhatWasWritten) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bytes(random() % 20, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % 3 ? random() % 128 : random());
    uint64_t bits = (uint64_t{random()} << 32) | random();
    double value;
    memcpy(&value, &bits, sizeof(value));
    JsonWriter json(static_cast<int>(random() % 3));
    json.BeginObject().Key(bytes).String(bytes).Key("#").Number(value).EndObject();
    const nlohmann::json read = nlohmann::json::parse(json.text(), nullptr, /*allow_exceptions=*/false);
    ASSERT_FALSE(read.is_discarded()) << json.text();
    if (std::isfinite(value) && bytes != "#") {
      EXPECT_EQ(read["#"].get<double>(), value);
    }
    // Valid text comes back unchanged.
    const bool ascii =
        std::all_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) < 128; });
    if (ascii && bytes != "#") {
      EXPECT_EQ(read[bytes].get<std::string>(), bytes);
    }
  }
}

TEST(JsonDeathTest, CallsThatMakeNoJsonAreFaults) {
  EXPECT_DEATH(JsonWriter().BeginObject().Number(1), "without a key");
  EXPECT_DEATH(JsonWriter().Key("a"), "outside a JSON object");
  EXPECT_DEATH(JsonWriter().BeginArray().EndObject(), "does not end");
  EXPECT_DEATH(JsonWriter().Number(1).Number(2), "second value");
  EXPECT_DEATH(JsonWriter().BeginArray().TakeText(), "not ended");
}

}  // namespace
}  // namespace tessera
