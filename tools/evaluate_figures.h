// The figures that `evaluate` computes again, one function each. A figure prints its tables through the Printer that it
// gets and returns an error only when it could not be computed; a difference from the published values is a row, not
// an error. Tested by evaluate_test.py.
#ifndef TESSERA_TOOLS_EVALUATE_FIGURES_H_
#define TESSERA_TOOLS_EVALUATE_FIGURES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "tools/common/plot.h"
#include "tools/common/table.h"

namespace tessera {

struct EvaluateOptions {
  int64_t seeds = 100;                            // of random masks
  std::string form = "table";                     // of TableFormNames()
  std::string data;                               // folder of Fashion-MNIST
  std::string plot;                               // folder for SVG files; empty: none
  int64_t threads = 0;                            // of compiled inferences
  int64_t images = 5000;                          // for choosing widths, and as many for the report
  double tolerance = 0.01;                        // share of images whose class may change
  bool swap = false;                              // chooses on the second half of the test images
  double noise = 40;                              // decibels that the initial widths keep
  int64_t size = 1024;                            // extents of the products of `mixed`
  std::vector<std::string>* collected = nullptr;  // with form json: the tables, which become one list at the end
};

// A table under its title. csv and jsonl have the title on stderr, json as {"table": title, "rows": […]}.
void PrintTitled(const EvaluateOptions& options, const std::string& title, const Table& table);
// A sentence below it, for people.
void PrintRemark(const EvaluateOptions& options, const std::string& text);

// options.plot/name.svg; nothing without options.plot.
Status WritePlot(const EvaluateOptions& options, const std::string& name, const Plot& plot);

Status EvaluatePropagation(const EvaluateOptions& options);
Status EvaluateBits(const EvaluateOptions& options);
Status EvaluateMixed(const EvaluateOptions& options);

}  // namespace tessera

#endif  // TESSERA_TOOLS_EVALUATE_FIGURES_H_
