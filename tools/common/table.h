// Table: rows of results, printed for people or for programs.
//
//   Table table({{.key = "model", .title = "model"}, {.key = "latency_us_median", .title = "median us"}});
//   table.AddRow({"mlp", 76.3});
//   table.Print(TableForm::kTable)       model  median us
//                                        mlp         76.3
//
// `table` and `md` show the columns that have a title; `csv` all columns that hold one value; `json` is a list of
// objects, `jsonl` one object a line, both with every column, each under its key. Numbers right-aligned, texts left.
// Not for sharing between threads. Tested by table_test.cc.
#ifndef TESSERA_TOOLS_COMMON_TABLE_H_
#define TESSERA_TOOLS_COMMON_TABLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"

namespace tessera {

enum class TableForm : uint8_t { kTable, kMarkdown, kCsv, kJson, kJsonLines };
// The names of the forms, for flags: table, md, csv, json, jsonl.
const std::vector<std::string>& TableFormNames();
// Of one of TableFormNames().
TableForm ParseTableForm(std::string_view name);

struct Column {
  std::string key;
  std::string title = "";  // empty: for programs only
  int digits = -1;         // after the point in `table` and `md`; -1: four significant digits
};

// std::monostate: no value ("-", empty, null).
using Cell = std::variant<std::monostate, std::string, double, int64_t, bool, std::vector<double>>;

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as columns.
  void AddRow(std::vector<Cell> cells);
  size_t num_rows() const { return rows_.size(); }
  std::string Print(TableForm form) const;

 private:
  std::string PrintForPeople(bool markdown) const;
  std::string PrintCsv() const;
  std::string PrintJson(bool lines) const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

// Four significant digits without an exponent where that is readable: 0.1235, 76.32, 1234, 5.2e-09.
std::string FormatSignificant(double value);
// "1.5 MiB".
std::string FormatBytes(int64_t bytes);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_TABLE_H_
