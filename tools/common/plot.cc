#include "tools/common/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tools/common/table.h"

namespace tessera {
namespace {

constexpr double kWidth = 720, kHeight = 420, kLeft = 70, kRight = 190, kTop = 40, kBottom = 55;
constexpr const char* kColors[] = {"#1b6ca8", "#d1495b", "#3a8f5c", "#b5651d",
                                   "#7b4fa3", "#5c6b73", "#c79a00", "#008c95"};

std::string Number(double x) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f", x);
  return text;
}

// About five round steps over [0, span].
double StepOf(double span) {
  const double raw = span / 5, power = std::pow(10, std::floor(std::log10(raw)));
  for (double factor : {1.0, 2.0, 2.5, 5.0, 10.0}) {
    if (factor * power >= raw * 0.999) return factor * power;
  }
  return 10 * power;
}

struct Axis {
  double low = 0, high = 1, from = 0, to = 1;
  double At(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

Axis AxisOver(const std::vector<double>& values, bool from_zero, double from, double to) {
  Axis axis{.low = 0, .high = 0, .from = from, .to = to};
  bool first = !from_zero;
  for (double v : values) {
    if (!std::isfinite(v)) continue;
    axis.low = first ? v : std::min(axis.low, v);
    axis.high = first ? v : std::max(axis.high, v);
    first = false;
  }
  if (!(axis.high > axis.low)) axis.high = axis.low + 1;
  return axis;
}

std::string Text(double x, double y, const std::string& anchor, const std::string& text, const std::string& more = "") {
  return "<text x=\"" + Number(x) + "\" y=\"" + Number(y) + "\" text-anchor=\"" + anchor + "\"" + more + ">" +
         XmlEscaped(text) + "</text>\n";
}

std::string Line(double x1, double y1, double x2, double y2, const std::string& color) {
  return "<line x1=\"" + Number(x1) + "\" y1=\"" + Number(y1) + "\" x2=\"" + Number(x2) + "\" y2=\"" + Number(y2) +
         "\" stroke=\"" + color + "\"/>\n";
}

}  // namespace

std::string XmlEscaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string Plot::ToSvg() const {
  std::vector<double> xs, ys;
  for (const PlotSeries& s : series) {
    xs.insert(xs.end(), s.x.begin(), s.x.end());
    for (size_t k = 0; k < s.y.size(); ++k) ys.push_back(s.y[k] + (k < s.spread.size() ? s.spread[k] : 0));
  }
  const Axis x = AxisOver(xs, false, kLeft, kWidth - kRight), y = AxisOver(ys, true, kHeight - kBottom, kTop);
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + Number(kWidth) + "\" height=\"" +
                    Number(kHeight) + "\" font-family=\"sans-serif\" font-size=\"12\">\n" +
                    "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  out += Text(kLeft, 22, "start", title, " font-size=\"15\"");
  for (double v = std::ceil(y.low / StepOf(y.high - y.low)) * StepOf(y.high - y.low); v <= y.high * 1.0001;
       v += StepOf(y.high - y.low)) {
    out += Line(kLeft, y.At(v), kWidth - kRight, y.At(v), "#dddddd");
    out += Text(kLeft - 6, y.At(v) + 4, "end", FormatSignificant(v));
  }
  for (double v = std::ceil(x.low / StepOf(x.high - x.low)) * StepOf(x.high - x.low); v <= x.high * 1.0001;
       v += StepOf(x.high - x.low)) {
    out += Line(x.At(v), kHeight - kBottom, x.At(v), kHeight - kBottom + 4, "#555555");
    out += Text(x.At(v), kHeight - kBottom + 18, "middle", FormatSignificant(v));
  }
  out += Line(kLeft, kHeight - kBottom, kWidth - kRight, kHeight - kBottom, "#555555");
  out += Line(kLeft, kTop, kLeft, kHeight - kBottom, "#555555");
  out += Text((kLeft + kWidth - kRight) / 2, kHeight - 14, "middle", x_label);
  out += Text(16, (kTop + kHeight - kBottom) / 2, "middle", y_label,
              " transform=\"rotate(-90 16 " + Number((kTop + kHeight - kBottom) / 2) + ")\"");
  for (size_t s = 0; s < series.size(); ++s) {
    const PlotSeries& of = series[s];
    // Marks belong to the line before them.
    const std::string color = kColors[(of.marks_only && s > 0 ? s - 1 : s) % std::size(kColors)];
    std::string path;
    for (size_t k = 0; k < of.x.size(); ++k) {
      if (!std::isfinite(of.y[k])) continue;
      const double px = x.At(of.x[k]), py = y.At(of.y[k]);
      const bool begins = k == 0 || !std::isfinite(of.y[k - 1]);
      path += (begins ? "M" : "L") + Number(px) + " " + Number(py) + " ";
      if (k < of.spread.size() && of.spread[k] > 0) {
        out += Line(px, y.At(of.y[k] - of.spread[k]), px, y.At(of.y[k] + of.spread[k]), color);
      }
      out += "<circle cx=\"" + Number(px) + "\" cy=\"" + Number(py) + "\" r=\"" + (of.marks_only ? "4.5" : "2.5") +
             "\" fill=\"" + (of.marks_only ? "none" : color) + "\" stroke=\"" + color + "\"/>\n";
    }
    if (!of.marks_only) out += "<path d=\"" + path + "\" fill=\"none\" stroke=\"" + color + "\"/>\n";
    const double row = kTop + 10 + 18 * static_cast<double>(s);
    out += "<circle cx=\"" + Number(kWidth - kRight + 16) + "\" cy=\"" + Number(row - 4) + "\" r=\"4\" fill=\"" +
           (of.marks_only ? "none" : color) + "\" stroke=\"" + color + "\"/>\n";
    out += Text(kWidth - kRight + 26, row, "start", of.name);
  }
  return out + "</svg>\n";
}

}  // namespace tessera
