// Plot: a small line chart as an SVG file, for figures that stand beside published ones.
//
//   Plot plot{.title = "MLP, fine", .x_label = "dropped", .y_label = "pruned after propagation"};
//   plot.series.push_back({.name = "published", .x = {…}, .y = {…}, .marks_only = true});
//   WriteFileAtomically(folder + "/mlp_fine.svg", plot.ToSvg());
//
// Axes run from 0 (or the least value below it) to the largest value. Series beyond the eighth repeat colours. Values
// only. Tested by plot_test.cc.
#ifndef TESSERA_TOOLS_COMMON_PLOT_H_
#define TESSERA_TOOLS_COMMON_PLOT_H_

#include <string>
#include <vector>

namespace tessera {

struct PlotSeries {
  std::string name;
  std::vector<double> x, y;    // as many; NaN leaves a gap
  std::vector<double> spread;  // half the length of a bar at each point; may be empty
  bool marks_only = false;     // no line between the points
};

struct Plot {
  std::string title, x_label, y_label;
  std::vector<PlotSeries> series;
  std::string ToSvg() const;
};

// `text` with what XML would take for markup written out.
std::string XmlEscaped(const std::string& text);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_PLOT_H_
