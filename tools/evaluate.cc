// evaluate: the published evaluation, computed again beside the published values.
#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "tools/common/fashion.h"
#include "tools/common/flags.h"
#include "tools/common/tool.h"
#include "tools/evaluate_figures.h"
#include "tools/verbs.h"

namespace tessera {
namespace {

struct Figure {
  const char* name;
  Status (*evaluate)(const EvaluateOptions&);
};
constexpr Figure kFigures[] = {{"propagation", EvaluatePropagation}, {"bits", EvaluateBits}, {"mixed", EvaluateMixed}};

bool ForPeople(const EvaluateOptions& options) { return options.form == "table" || options.form == "md"; }

}  // namespace

void PrintTitled(const EvaluateOptions& options, const std::string& title, const Table& table) {
  const std::string text = table.Print(ParseTableForm(options.form));
  if (options.form == "json") {
    options.collected->push_back("{\"table\": \"" + title + "\", \"rows\": " + text + "}");
  } else if (ForPeople(options)) {
    PrintOut((options.form == "md" ? "### " + title + "\n\n" : title + "\n") + text + "\n");
  } else {
    PrintNote(title);
    PrintOut(text);
  }
}

void PrintRemark(const EvaluateOptions& options, const std::string& text) {
  if (ForPeople(options)) {
    PrintOut(text + "\n\n");
  } else {
    PrintNote(text);
  }
}

Status WritePlot(const EvaluateOptions& options, const std::string& name, const Plot& plot) {
  if (options.plot.empty()) return OkStatus();
  std::error_code error;
  std::filesystem::create_directories(options.plot, error);
  return WriteFileAtomically(options.plot + "/" + name + ".svg", plot.ToSvg());
}

Status EvaluateVerb(const std::vector<std::string>& args) {
  EvaluateOptions options;
  std::vector<std::string> figures = {"all"};
  std::vector<std::string> names = {"all"};
  for (const Figure& figure : kFigures) names.emplace_back(figure.name);
  options.data = kFashionFolder;
  FlagSet flags("evaluate", "[--figure=LIST] [flags]",
                "Computes figures of the SparTA paper (OSDI 2022) again and prints them beside the published values.");
  flags.Section("What");
  flags.ChoiceList("figure", names,
                   "propagation: sparsity after propagation; bits: widths at equal accuracy; mixed: two precisions or "
                   "patterns in one layer",
                   &figures);
  flags.Int("seeds", "N", "random masks per row of propagation", &options.seeds, 1, 100000);
  flags.Section("Bits");
  flags.Int("images", "N", "test images to choose widths on, and as many, others, to report", &options.images, 250,
            5000);
  flags.Double("tolerance", "X", "share of the former whose class may change; accuracy changes by far less",
               &options.tolerance, 0, 1);
  flags.Double("noise", "DB", "the signal-to-noise ratio that each tensor's initial width keeps", &options.noise, 0,
               90);
  flags.Bool("swap", "chooses on the last test images and reports on the first, instead of the reverse", &options.swap);
  flags.String("data", "FOLDER", "of Fashion-MNIST's four files", &options.data);
  flags.Int("threads", "N", "of inferences; 0: all processors", &options.threads, 0, 1024);
  flags.Section("Mixed");
  flags.Int("size", "N", "extents of the products", &options.size, 32, 8192);
  flags.Section("Output");
  flags.Choice("form", TableFormNames(), "how tables look", &options.form);
  flags.Short('o');
  flags.String("plot", "FOLDER", "also writes each figure as an SVG file", &options.plot);
  flags.Example("evaluate --figure=propagation --seeds=100 -o md", "the propagation figures");
  flags.Example("evaluate --figure=mixed --threads=2", "two precisions, two patterns");
  flags.Example("evaluate --figure=bits --tolerance=0.01", "MobileNet's widths");
  RETURN_IF_ERROR(flags.Parse(args));
  if (flags.help()) {
    PrintOut(flags.HelpText());
    return OkStatus();
  }
  if (!flags.positional().empty()) {
    return Error(ErrorCode::kUsageInvalid, "expected flags only, found '", flags.positional()[0],
                 "'; --figure=LIST says what is computed");
  }
  options.data = UserPath(options.data);
  if (!options.plot.empty()) options.plot = UserPath(options.plot);
  std::vector<std::string> collected;
  options.collected = &collected;
  for (const Figure& figure : kFigures) {
    const bool wanted = std::find(figures.begin(), figures.end(), figure.name) != figures.end() ||
                        std::find(figures.begin(), figures.end(), "all") != figures.end();
    if (wanted) RETURN_IF_ERROR(figure.evaluate(options));
  }
  if (options.form == "json") {
    std::string all;
    for (const std::string& table : collected) all += (all.empty() ? "[" : ",\n") + table;
    PrintOut(all + "]\n");
  }
  return OkStatus();
}

}  // namespace tessera
