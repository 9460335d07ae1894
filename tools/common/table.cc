#include "tools/common/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/json.h"

namespace tessera {
namespace {

std::string Fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string Exact(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.17g", value);
  for (int digits = 1; digits < 17; ++digits) {
    char shorter[32];
    std::snprintf(shorter, sizeof(shorter), "%.*g", digits, value);
    if (std::strtod(shorter, nullptr) == value) return shorter;
  }
  return text;
}

bool IsNumber(const Cell& cell) {
  return std::holds_alternative<double>(cell) || std::holds_alternative<int64_t>(cell);
}

std::string CellText(const Cell& cell, int digits) {
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  if (const auto* number = std::get_if<double>(&cell))
    return digits < 0 ? FormatSignificant(*number) : Fixed(*number, digits);
  if (const auto* number = std::get_if<int64_t>(&cell)) return std::to_string(*number);
  if (const auto* flag = std::get_if<bool>(&cell)) return *flag ? "yes" : "no";
  if (const auto* list = std::get_if<std::vector<double>>(&cell)) return internal::Join(list->size(), " values");
  return "-";
}

// Characters, not bytes: UTF-8 continuation bytes take no place.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string CsvField(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string CsvValue(const Cell& cell) {
  if (const auto* number = std::get_if<double>(&cell)) return Exact(*number);
  if (std::holds_alternative<std::monostate>(cell)) return "";
  return CsvField(CellText(cell, -1));
}

void WriteJson(const Cell& cell, JsonWriter& json) {
  if (const auto* text = std::get_if<std::string>(&cell)) {
    json.String(*text);
  } else if (const auto* number = std::get_if<double>(&cell)) {
    json.Number(*number);
  } else if (const auto* whole = std::get_if<int64_t>(&cell)) {
    json.Number(*whole);
  } else if (const auto* flag = std::get_if<bool>(&cell)) {
    json.Bool(*flag);
  } else if (const auto* list = std::get_if<std::vector<double>>(&cell)) {
    json.BeginArray();
    for (double value : *list) json.Number(value);
    json.EndArray();
  } else {
    json.Null();
  }
}

// Text in a cell of Markdown must not open another.
std::string MarkdownText(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

}  // namespace

const std::vector<std::string>& TableFormNames() {
  static const auto& names = *new std::vector<std::string>{"table", "md", "csv", "json", "jsonl"};
  return names;
}

TableForm ParseTableForm(std::string_view name) {
  const std::vector<std::string>& names = TableFormNames();
  const auto at = std::find(names.begin(), names.end(), name);
  TES_CHECK(at != names.end(), "form ", name);
  return static_cast<TableForm>(at - names.begin());
}

std::string FormatSignificant(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value < 0 ? "-inf" : "inf";
  if (value == 0) return "0";
  const double size = std::abs(value);
  if (size < 1e-3 || size >= 1e9) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.2g", value);
    return text;
  }
  const int before = static_cast<int>(std::floor(std::log10(size))) + 1;
  return Fixed(value, std::clamp(4 - before, 0, 4));
}

std::string FormatBytes(int64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* next : {"KiB", "MiB", "GiB", "TiB"}) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  return Fixed(value, value < 10 ? 2 : value < 100 ? 1 : 0) + " " + unit;
}

void Table::AddRow(std::vector<Cell> cells) {
  TES_CHECK(cells.size() == columns_.size(), cells.size(), " cells for ", columns_.size(), " columns");
  rows_.push_back(std::move(cells));
}

std::string Table::Print(TableForm form) const {
  switch (form) {
    case TableForm::kTable: return PrintForPeople(false);
    case TableForm::kMarkdown: return PrintForPeople(true);
    case TableForm::kCsv: return PrintCsv();
    case TableForm::kJson: return PrintJson(false);
    case TableForm::kJsonLines: return PrintJson(true);
  }
  return "";
}

std::string Table::PrintForPeople(bool markdown) const {
  std::vector<size_t> shown;
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (!columns_[c].title.empty()) shown.push_back(c);
  }
  // All texts first, then the widths, then the lines.
  std::vector<std::vector<std::string>> lines(1);
  for (size_t c : shown) lines[0].push_back(columns_[c].title);
  for (const std::vector<Cell>& row : rows_) {
    lines.emplace_back();
    for (size_t c : shown) lines.back().push_back(CellText(row[c], columns_[c].digits));
  }
  std::vector<size_t> width(shown.size(), markdown ? 3 : 1);
  std::vector<bool> right(shown.size(), false);
  for (size_t k = 0; k < shown.size(); ++k) {
    for (std::vector<std::string>& line : lines) {
      if (markdown) line[k] = MarkdownText(line[k]);
      width[k] = std::max(width[k], Width(line[k]));
    }
    for (const std::vector<Cell>& row : rows_) right[k] = right[k] || IsNumber(row[shown[k]]);
  }
  std::string text;
  for (size_t l = 0; l < lines.size(); ++l) {
    std::string line = markdown ? "|" : "";
    for (size_t k = 0; k < shown.size(); ++k) {
      const std::string blanks(width[k] - Width(lines[l][k]), ' ');
      line += markdown ? " " : k > 0 ? "  " : "";
      line += right[k] ? blanks + lines[l][k] : lines[l][k] + blanks;
      line += markdown ? " |" : "";
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    text += line + "\n";
    if (markdown && l == 0) {
      text += "|";
      for (size_t k = 0; k < shown.size(); ++k) {
        text += right[k] ? " " + std::string(width[k] - 1, '-') + ": |" : " " + std::string(width[k], '-') + " |";
      }
      text += "\n";
    }
  }
  return text;
}

std::string Table::PrintCsv() const {
  std::vector<size_t> shown;
  for (size_t c = 0; c < columns_.size(); ++c) {
    const bool list = std::any_of(rows_.begin(), rows_.end(), [c](const std::vector<Cell>& row) {
      return std::holds_alternative<std::vector<double>>(row[c]);
    });
    if (!list) shown.push_back(c);
  }
  std::string text;
  for (size_t k = 0; k < shown.size(); ++k) text += (k > 0 ? "," : "") + CsvField(columns_[shown[k]].key);
  text += "\n";
  for (const std::vector<Cell>& row : rows_) {
    for (size_t k = 0; k < shown.size(); ++k) text += (k > 0 ? "," : "") + CsvValue(row[shown[k]]);
    text += "\n";
  }
  return text;
}

std::string Table::PrintJson(bool lines) const {
  std::string text = lines ? "" : "[";
  for (size_t r = 0; r < rows_.size(); ++r) {
    JsonWriter json(lines ? 0 : 2);
    json.BeginObject();
    for (size_t c = 0; c < columns_.size(); ++c) {
      json.Key(columns_[c].key);
      WriteJson(rows_[r][c], json);
    }
    json.EndObject();
    text += lines ? json.text() + "\n" : (r > 0 ? ",\n" : "\n") + json.text();
  }
  return lines ? text : text + "\n]\n";
}

}  // namespace tessera
