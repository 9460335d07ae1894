#include "tools/common/table.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tessera {
namespace {

Table Example() {
  Table table({{.key = "model", .title = "model"},
               {.key = "latency_us_median", .title = "median µs", .digits = 1},
               {.key = "rel_error", .title = "rel. error"},
               {.key = "seed"},
               {.key = "ok"},
               {.key = "latency_us"}});
  table.AddRow({"a|b,\"c\"", 1234.56, 3.21e-7, int64_t{7}, true, std::vector<double>{1, 2.5}});
  table.AddRow({"größer", 7.0, std::monostate(), int64_t{-1}, false, std::monostate()});
  return table;
}

TEST(TableTest, ForPeople) {
  EXPECT_EQ(Example().Print(TableForm::kTable),
            "model    median µs  rel. error\n"
            "a|b,\"c\"     1234.6     3.2e-07\n"
            "größer         7.0           -\n");
}

TEST(TableTest, Markdown) {
  EXPECT_EQ(Example().Print(TableForm::kMarkdown),
            "| model    | median µs | rel. error |\n"
            "| -------- | --------: | ---------: |\n"
            "| a\\|b,\"c\" |    1234.6 |    3.2e-07 |\n"
            "| größer   |       7.0 |          - |\n");
}

TEST(TableTest, Csv) {
  EXPECT_EQ(Example().Print(TableForm::kCsv),
            "model,latency_us_median,rel_error,seed,ok\n"
            "\"a|b,\"\"c\"\"\",1234.56,3.21e-07,7,yes\n"
            "größer,7,,-1,no\n");
}

TEST(TableTest, JsonReadsBack) {
  const auto rows = nlohmann::json::parse(Example().Print(TableForm::kJson));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["model"], "a|b,\"c\"");
  EXPECT_EQ(rows[0]["latency_us_median"], 1234.56);
  EXPECT_EQ(rows[0]["latency_us"], (std::vector<double>{1, 2.5}));
  EXPECT_EQ(rows[0]["ok"], true);
  EXPECT_TRUE(rows[1]["rel_error"].is_null());
  EXPECT_EQ(rows[1]["seed"], -1);
  EXPECT_EQ(nlohmann::json::parse(Table({{.key = "a"}}).Print(TableForm::kJson)).size(), 0u);
}

TEST(TableTest, JsonLinesAreOneObjectEach) {
  std::istringstream lines(Example().Print(TableForm::kJsonLines));
  std::string line;
  int count = 0;
  while (std::getline(lines, line)) {
    EXPECT_TRUE(nlohmann::json::parse(line).is_object());
    ++count;
  }
  EXPECT_EQ(count, 2);
}

TEST(TableTest, Numbers) {
  EXPECT_EQ(FormatSignificant(0), "0");
  EXPECT_EQ(FormatSignificant(76.324), "76.32");
  EXPECT_EQ(FormatSignificant(0.12345), "0.1235");
  EXPECT_EQ(FormatSignificant(123456), "123456");
  EXPECT_EQ(FormatSignificant(-5.2e-9), "-5.2e-09");
  EXPECT_EQ(FormatSignificant(1.0 / 0.0), "inf");
  EXPECT_EQ(FormatBytes(12), "12 B");
  EXPECT_EQ(FormatBytes(1536), "1.50 KiB");
  EXPECT_EQ(FormatBytes(int64_t{5} << 30), "5.00 GiB");
}

TEST(TableTest, FormsAreNamed) {
  for (const std::string& name : TableFormNames()) EXPECT_FALSE(Example().Print(ParseTableForm(name)).empty()) << name;
}

}  // namespace
}  // namespace tessera
