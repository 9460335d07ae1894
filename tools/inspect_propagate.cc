#include "tools/inspect_propagate.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "base/status.h"
#include "tesa/describe.h"
#include "tesa/text.h"
#include "tools/common/mask_picture.h"

namespace tessera {
namespace {

using internal::Join;

std::string_view KindName(ValueKind kind) {
  return kind == ValueKind::kInput ? "input" : kind == ValueKind::kConstant ? "constant" : "computed";
}

// "axis 0: 24 of 64 {3, 7-9, … (24 in all)}".
std::string SliceText(const Value& value, const SliceReport& slice) {
  return Join("axis ", slice.axis, ": ", slice.indices.size(), " of ", value.type.shape[slice.axis], " ",
              DescribeIndices(slice.indices));
}

std::string Slices(const Value& value, const ValueReport& report) {
  std::string text;
  for (const SliceReport& slice : report.slices) text += (text.empty() ? "" : "; ") + SliceText(value, slice);
  return text;
}

bool IsWorthALine(const PropagationPage& page, const ValueReport& report) {
  const bool narrower =
      page.graph[report.value].kind != ValueKind::kConstant && report.bits.bits < report.bits.type_bits;
  return !report.before.keeps_all() || !report.after.keeps_all() || narrower;
}

// "8 -> 4": of the type, and at which its values may be stored.
std::string Bits(const ValueReport& report) {
  if (report.bits.bits == report.bits.type_bits) return std::to_string(report.bits.type_bits);
  return Join(report.bits.type_bits, " -> ", report.bits.bits);
}

std::string Total(const PropagationPage& page) {
  const auto share = [&](int64_t kept) {
    return FormatPercent(
        page.report.elements == 0 ? 1 : static_cast<double>(kept) / static_cast<double>(page.report.elements));
  };
  return Join("constants kept: ", share(page.report.kept_before), " declared, ", share(page.report.kept_after),
              " after propagation (", page.report.kept_after, " of ", page.report.elements, " elements); ",
              page.facts.visits, " visits of ", page.graph.nodes.size(), " nodes, ", page.rules.size(), " rules, ",
              FormatSignificant(page.seconds), " s");
}

Table ValueTable(const PropagationPage& page, bool all) {
  Table table({{.key = "tensor", .title = "tensor"},
               {.key = "kind"},
               {.key = "type", .title = "type"},
               {.key = "before", .title = "before"},
               {.key = "after", .title = "after"},
               {.key = "density_before"},
               {.key = "density_after"},
               {.key = "zero", .title = "zero"},
               {.key = "constant", .title = "constant"},
               {.key = "dead", .title = "dead"},
               {.key = "bits", .title = "bits"},
               {.key = "slices", .title = "pruned slices"}});
  for (const ValueReport& report : page.report.values) {
    if (!all && !IsWorthALine(page, report)) continue;
    const Value& value = page.graph[report.value];
    table.AddRow({value.name, std::string(KindName(value.kind)), value.type.ToString(),
                  Summary(report.before, value.type.dtype), Summary(report.after, value.type.dtype),
                  report.before.density(), report.after.density(), report.zero, report.constant, report.dead,
                  Bits(report), Slices(value, report)});
  }
  return table;
}

void WriteSide(JsonWriter& json, std::string_view key, const Attribute& attribute, const PatternFit& fit) {
  json.Key(key).BeginObject();
  json.Key("pattern").String(fit.pattern.ToString()).Key("density").Number(attribute.density());
  json.Key("slack").Number(fit.slack).Key("kept").Number(attribute.num_kept()).Key("bits").BeginArray();
  for (int width : attribute.Widths()) json.Number(width);
  json.EndArray().EndObject();
}

std::string Json(const PropagationPage& page) {
  JsonWriter json(1);
  json.BeginObject().Key("model").String(page.title).Key("seconds").Number(page.seconds);
  json.Key("elements").Number(page.report.elements).Key("kept_before").Number(page.report.kept_before);
  json.Key("kept_after").Number(page.report.kept_after).Key("visits").Number(page.facts.visits);
  json.Key("collapsed").BeginArray();
  for (const Collapse& collapse : page.facts.collapsed) {
    json.BeginObject().Key("tensor").String(page.graph[collapse.value].name).Key("why").String(collapse.chain);
    json.EndObject();
  }
  json.EndArray().Key("tensors").BeginArray();
  for (const ValueReport& report : page.report.values) {
    const Value& value = page.graph[report.value];
    json.BeginObject().Key("tensor").String(value.name).Key("kind").String(KindName(value.kind));
    json.Key("type").String(value.type.ToString());
    WriteSide(json, "before", report.before, report.pattern_before);
    WriteSide(json, "after", report.after, report.pattern_after);
    json.Key("zero").Number(report.zero).Key("constant").Number(report.constant).Key("dead").Number(report.dead);
    json.Key("bits").BeginObject().Key("type").Number(report.bits.type_bits).Key("known").Number(report.bits.known);
    json.Key("read").Number(report.bits.read).Key("stored").Number(report.bits.bits).EndObject();
    json.Key("slices").BeginArray();
    for (const SliceReport& slice : report.slices) {
      json.BeginObject().Key("axis").Number(slice.axis).Key("indices").BeginArray();
      for (int64_t index : slice.indices) json.Number(index);
      json.EndArray().Key("why").String(slice.why).EndObject();
    }
    json.EndArray().EndObject();
  }
  json.EndArray().Key("rules").BeginArray();
  for (const RuleBook::Entry& rule : page.rules) {
    json.BeginObject().Key("op").String(rule.name).Key("source").String(rule.source).Key("rule").String(rule.text);
    json.Key("runs").Number(rule.stats.runs).Key("seconds").Number(rule.stats.seconds);
    json.Key("error_bound").Number(rule.stats.error_bound).EndObject();
  }
  return json.EndArray().EndObject().text() + "\n";
}

std::string Escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

// Small tensors are shown larger, so that one element can be seen.
std::string Picture(const Attribute& attribute) {
  const MaskPicture picture = DrawMask(attribute, 96);
  if (picture.width == 0) return "";
  int zoom = 1;
  while (zoom < 8 && 2 * zoom * std::max(picture.width, picture.height) <= 96) zoom *= 2;
  return Join("<img alt=\"mask\" width=\"", picture.width * zoom, "\" height=\"", picture.height * zoom, "\" src=\"",
              picture.DataUri(), "\">");
}

std::string HtmlRow(const PropagationPage& page, const ValueReport& report) {
  const Value& value = page.graph[report.value];
  std::string row = Join("<tr><td><b>", Escaped(value.name), "</b><br>", KindName(value.kind), "<br>",
                         Escaped(value.type.ToString()), "</td>");
  for (const auto& [attribute, fit] :
       {std::pair(&report.before, &report.pattern_before), std::pair(&report.after, &report.pattern_after)}) {
    row += Join("<td>", Picture(*attribute), "<br>", Escaped(fit->pattern.ToString()), "<br>kept ",
                FormatPercent(attribute->density()), "</td>");
  }
  row += Join("<td class=\"n\">", report.zero, "</td><td class=\"n\">", report.constant, "</td><td class=\"n\">",
              report.dead, "</td><td class=\"n\">", Escaped(Bits(report)), "</td><td>");
  for (const SliceReport& slice : report.slices) {
    row += Join("<details><summary>", Escaped(SliceText(value, slice)), "</summary><pre>", Escaped(slice.why),
                "</pre></details>");
  }
  return row + "</td></tr>\n";
}

constexpr std::string_view kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>
  body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 76em; padding: 0 1em; color: #1c2733; }
  h1 { font-size: 1.4em; } h2 { font-size: 1.1em; margin-top: 2em; }
  table { border-collapse: collapse; width: 100%; }
  th, td { text-align: left; vertical-align: top; padding: .5em .7em; border-bottom: 1px solid #d9dee3; }
  th { position: sticky; top: 0; background: #fff; } .n { text-align: right; font-variant-numeric: tabular-nums; }
  img { image-rendering: pixelated; border: 1px solid #b8c0c8; }
  pre { white-space: pre-wrap; background: #f5f7f8; padding: .5em .8em; margin: .3em 0; } .bad { color: #a3231c; }
</style>
)";

}  // namespace

std::string PrintPropagation(const PropagationPage& page, TableForm form) {
  if (form == TableForm::kJson) return Json(page);
  const bool people = form == TableForm::kTable || form == TableForm::kMarkdown;
  const Table table = ValueTable(page, !people);
  if (!people) return table.Print(form);
  std::string text = Total(page) + "\n\n" + (table.num_rows() > 0 ? table.Print(form) : "nothing is pruned\n");
  for (const Collapse& collapse : page.facts.collapsed) {
    text += Join("\ncollapsed: ", page.graph[collapse.value].name, "\n", collapse.chain, "\n");
  }
  for (const ValueReport& report : page.report.values) {
    const Value& value = page.graph[report.value];
    for (const SliceReport& slice : report.slices) {
      if (slice.why.empty()) continue;
      text += Join("\nwhy ", value.name, ", ", SliceText(value, slice), "\n", slice.why, "\n");
    }
  }
  return text;
}

std::string PropagationHtml(const PropagationPage& page) {
  std::string text(kHead);
  text += Join("<title>", Escaped(page.title), "</title></head><body>\n<h1>", Escaped(page.title),
               ": propagation</h1>\n<p>", Escaped(Total(page)),
               "</p>\n<p>Pictures: dark is kept, light is pruned (zero, dead or folded); a large tensor's pixel is the "
               "share kept.</p>\n");
  for (const Collapse& collapse : page.facts.collapsed) {
    text += Join("<p class=\"bad\">collapsed: ", Escaped(page.graph[collapse.value].name), "</p><pre>",
                 Escaped(collapse.chain), "</pre>\n");
  }
  text +=
      "<table><tr><th>tensor</th><th>before</th><th>after</th><th>zero</th><th>constant</th><th>dead</th>"
      "<th>bits</th><th>pruned slices, and why</th></tr>\n";
  size_t untouched = 0;
  for (const ValueReport& report : page.report.values) {
    if (IsWorthALine(page, report)) {
      text += HtmlRow(page, report);
    } else {
      ++untouched;
    }
  }
  text += Join("</table>\n<p>", untouched, " tensors are dense before and after.</p>\n<h2>Rules</h2>\n");
  for (const RuleBook::Entry& rule : page.rules) {
    text += Join("<details><summary>", Escaped(rule.name), " (", Escaped(rule.source), ")</summary><pre>",
                 Escaped(rule.text), "</pre></details>\n");
  }
  return text + "</body></html>\n";
}

}  // namespace tessera
