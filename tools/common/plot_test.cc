#include "tools/common/plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tessera {
namespace {

size_t Count(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST(PlotTest, DrawsEachPointAndEachName) {
  Plot plot{.title = "a < b", .x_label = "x", .y_label = "y & z", .series = {}};
  plot.series.push_back({.name = "line", .x = {1, 2, 3}, .y = {0.5, 0.25, 1}, .spread = {0.1, 0, 0.1}});
  plot.series.push_back({.name = "marks", .x = {1, 3}, .y = {0.5, 1}, .spread = {}, .marks_only = true});
  const std::string svg = plot.ToSvg();
  EXPECT_EQ(Count(svg, "<circle"), 3u + 2u + 2u);  // points and legend
  EXPECT_EQ(Count(svg, "<path"), 1u);
  EXPECT_EQ(Count(svg, "a &lt; b"), 1u);
  EXPECT_EQ(Count(svg, "y &amp; z"), 1u);
  EXPECT_EQ(Count(svg, "nan"), 0u);
  EXPECT_EQ(svg.substr(svg.size() - 7), "</svg>\n");
}

TEST(PlotTest, GapsAndFlatSeriesAreFine) {
  Plot plot;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  plot.series.push_back({.name = "s", .x = {1, 2, 3, 4}, .y = {0, nan, 0, 0}, .spread = {}});
  const std::string svg = plot.ToSvg();
  EXPECT_EQ(Count(svg, "nan"), 0u);
  EXPECT_EQ(Count(svg, "M"), 2u);
  Plot empty;
  EXPECT_EQ(Count(empty.ToSvg(), "nan"), 0u);
}

}  // namespace
}  // namespace tessera
