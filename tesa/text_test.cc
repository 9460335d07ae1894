// Tests the text forms: each prints as documented, reads back, and rejects what it should with its place.
#include "tesa/text.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tesa/testing/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

TEST(TesaText, Types) {
  ASSERT_OK_AND_ASSIGN(const TensorType type, ParseTensorType(" f32 [1, 1024]"));
  EXPECT_EQ(type, (TensorType{DType::kF32, {1, 1024}}));
  EXPECT_EQ(*ParseTensorType("i4[]"), (TensorType{DType::kI4, Shape()}));
  for (const char* bad : {"", "f33[1]", "f32", "f32[1", "f32[-1]", "f32[1,]", "f32[1]x", "f32[9999999999999999999]",
                          "f32[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"}) {
    EXPECT_FALSE(ParseTensorType(bad).ok()) << bad;
  }
  EXPECT_THAT(ParseTensorType("\n f32[1;"), StatusIs(ErrorCode::kTextInvalid, HasSubstr("line 2, column 7")));
}

TEST(TesaText, Summaries) {
  Random random(1);
  const Shape shape = {1024, 4096};
  const Attribute blocks = RandomAttribute(random, shape, Pattern::Block(32, 32), 0.1, 32);
  EXPECT_EQ(Summary({DType::kF32, shape}, &blocks),
            "f32[1024,4096] tesa(block[32,32] kept " + FormatPercent(blocks.density()) + ")");
  EXPECT_EQ(Summary({DType::kF32, shape}, nullptr), "f32[1024,4096]");
  EXPECT_EQ(Summary(Attribute::Dense(shape, 8), DType::kF32), "tesa(dense kept 100%, 8 bits)");
  const Attribute mixed = Attribute::FromBits({4}, std::vector<uint8_t>{8, 32, 8, 8});
  EXPECT_EQ(Summary(mixed, DType::kF32), "tesa(dense kept 100%, 8/32 bits)");
  EXPECT_EQ(FormatPercent(0.1), "10%");
  EXPECT_EQ(FormatPercent(0.12345), "12.35%");
}

TEST(TesaText, SummariesStandForRandomAttributes) {
  const TensorType type = {DType::kF32, {256, 256}};
  ASSERT_OK_AND_ASSIGN(const Attribute a, ParseAttribute("tesa(block[16,16] kept 25%)", type, 7));
  EXPECT_EQ(FitPattern(a).pattern, Pattern::Block(16, 16));
  EXPECT_NEAR(a.density(), 0.25, 0.1);
  EXPECT_EQ(a, *ParseAttribute("tesa(block[16,16] kept 25%)", type, 7));
  EXPECT_FALSE(a == *ParseAttribute("tesa(block[16,16] kept 25%)", type, 8));
  EXPECT_EQ(ParseAttribute("tesa(2:4[1] kept 50%, 8 bits)", type)->Widths(), std::vector<int>{8});
  EXPECT_EQ(*ParseAttribute("tesa(dense kept 100%)", type), Attribute::Dense(type.shape, 32));
  for (const char* bad : {"tesa", "tesa()", "tesa(dense)", "tesa(dense kept)", "tesa(dense kept 5)", "tesa(x kept 5%)",
                          "tesa(dense kept 101%)", "tesa(dense kept -1%)", "tesa(dense kept nan%)",
                          "tesa(slices[2] kept 5%)", "tesa(dense kept 5%, 65 bits)", "tesa(dense kept 5%"}) {
    EXPECT_FALSE(ParseAttribute(bad, type).ok()) << bad;
  }
}

TEST(TesaText, LosslessFormReadsBack) {
  Random random(2);
  for (int round = 0; round < 200; ++round) {
    const Shape shape = RandomShape(random, static_cast<int>(random.Int(1, 4)), 1, 24);
    const Attribute a = RandomAttributeOfAnyKind(random, shape);
    const std::string text = ToText(a);
    ASSERT_OK_AND_ASSIGN(const Attribute again, ParseAttribute(text, {DType::kF32, shape}));
    EXPECT_EQ(again, a);
    EXPECT_EQ(ToText(again), text);
  }
  EXPECT_EQ(ToText(Attribute::Dense({3, 4}, 8)), "tesa(layers 8:)");
  EXPECT_EQ(ToText(Attribute::Dense({3, 4}, 0)), "tesa(layers)");
  const Attribute rows = Attribute::FromKept({3, 4}, std::vector<uint8_t>{1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1}, 32);
  EXPECT_EQ(ToText(rows), "tesa(layers 32: grid[1,4] 3x05)");
}

TEST(TesaText, DamagedFormsAreErrors) {
  Random random(3);
  const TensorType type = {DType::kF32, {12, 10}};
  int rejected = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = ToText(RandomAttributeOfAnyKind(random, type.shape));
    for (int64_t k = random.Int(1, 3); k > 0 && !text.empty(); --k) {
      const size_t at = static_cast<size_t>(random.Int(0, static_cast<int64_t>(text.size()) - 1));
      switch (random.Int(0, 2)) {
        case 0: text[at] = "0159afx[],:| mgnv\x80"[random.Int(0, 17)]; break;
        case 1: text.erase(at, 1); break;
        default: text.resize(at + 1);
      }
    }
    rejected += !ParseAttribute(text, type).ok();  // what is still valid is fine; nothing may crash
  }
  EXPECT_GT(rejected, 1500);
  EXPECT_THAT(ParseAttribute("tesa(layers 8: grid[1,1] 120xff)", type),
              StatusIs(ErrorCode::kTextInvalid, HasSubstr("column 26: expected as many hexadecimal digits")));
  EXPECT_FALSE(ParseAttribute("tesa(layers 8: grid[1,1] 9223372036854775807xff)", type).ok());
  EXPECT_THAT(ParseAttribute("tesa(layers 8: grid[5,5] 4x0f)", type), StatusIs(ErrorCode::kTesaInvalid));
}

TEST(TesaText, QuantParamsReadBack) {
  const QuantParams all[] = {{.scales = {0.1}},
                             {.scales = {0.1, 1e-30, 3}, .zero_points = {1, -128, 7}, .axis = 2, .block_size = 32}};
  for (const QuantParams& params : all) {
    ASSERT_OK_AND_ASSIGN(const QuantParams again, ParseQuantParams(ToText(params)));
    EXPECT_EQ(again, params);
  }
  EXPECT_EQ(ToText(all[0]), "quant(scales=[0.1])");
  EXPECT_FALSE(ParseQuantParams("quant(scales=[0.1], axis=99)").ok());
  EXPECT_FALSE(ParseQuantParams("quant(scales=[0.1], color=1)").ok());
}

TEST(Scanner, NumbersAndStringsReadBack) {
  for (double value : {0.0, -0.0, 1.5, 1e-320, 1.7976931348623157e308, 0.1, HUGE_VAL, -HUGE_VAL}) {
    const std::string text = FormatNumber(value);
    Scanner in(text);
    ASSERT_OK_AND_ASSIGN(const double again, in.Number());
    EXPECT_EQ(again, value);
    EXPECT_EQ(std::signbit(again), std::signbit(value));
  }
  std::string bytes;
  for (int c = 0; c < 256; ++c) bytes += static_cast<char>(c);
  const std::string quoted = Quote(bytes);
  EXPECT_EQ(*Scanner(quoted).Quoted(), bytes);
  for (size_t size = 0; size < 20; ++size) {
    const std::string part = bytes.substr(250 - size, size);
    EXPECT_EQ(*ParseBase64(FormatBase64(part)), part);
    EXPECT_EQ(*ParseHex(FormatHex(part)), part);
  }
  EXPECT_EQ(FormatBase64("foob"), "Zm9vYg==");  // RFC 4648, section 10
  EXPECT_EQ(FormatBase64("fooba"), "Zm9vYmE=");
  for (const char* bad : {"Zm9", "Zm=v", "Z===", "====", "Zm9vYg==Zm9v"}) EXPECT_FALSE(ParseBase64(bad).ok()) << bad;
  for (const char* bad : {"\"", "\"a", "\"\\", "\"\\x1\"", "\"\\q\""}) EXPECT_FALSE(Scanner(bad).Quoted().ok()) << bad;
}

TEST(Scanner, SkipsCommentsAndMatchesWholeWords) {
  Scanner in("  # first\n // second\n tesab 12");
  EXPECT_FALSE(in.Accept("tesa"));
  EXPECT_TRUE(in.Accept("tesab"));
  EXPECT_THAT(in.IntIn(0, 11, "a month"), StatusIs(ErrorCode::kTextInvalid, HasSubstr("line 3, column 8")));
  EXPECT_EQ(*in.Int(), 12);
  EXPECT_TRUE(in.AtEnd());
}

}  // namespace
}  // namespace tessera
