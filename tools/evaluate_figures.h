// The figures that `evaluate` computes again, one function each. A figure prints its tables through the Printer that it
// gets and returns an error only when it could not be computed; a difference from the published values is a row, not
// an error. Tested by evaluate_test.py.
#ifndef TESSERA_TOOLS_EVALUATE_FIGURES_H_
#define TESSERA_TOOLS_EVALUATE_FIGURES_H_

#include <cstdint>
#include <string>

#include "base/status.h"
#include "tools/common/table.h"

namespace tessera {

struct EvaluateOptions {
  int64_t seeds = 100;         // of random masks
  std::string form = "table";  // of TableFormNames()
  std::string data;            // folder of Fashion-MNIST
  std::string plot;            // folder for SVG files; empty: none
  int64_t threads = 0;         // of compiled inferences
  int64_t images = 5000;       // for choosing widths, and as many for the report
  double tolerance = 0.001;    // of accuracy
  double noise = 30;           // decibels that the initial widths keep
};

// A table under its title; titles go to stderr when a program reads stdout.
void PrintTitled(const EvaluateOptions& options, const std::string& title, const Table& table);
// A sentence below it, for people.
void PrintRemark(const EvaluateOptions& options, const std::string& text);

Status EvaluatePropagation(const EvaluateOptions& options);
Status EvaluateBits(const EvaluateOptions& options);

}  // namespace tessera

#endif  // TESSERA_TOOLS_EVALUATE_FIGURES_H_
