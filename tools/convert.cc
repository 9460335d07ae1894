// convert: a foreign model becomes a .tess file, and every tensor's sparsity is accounted for; quantised on the way
// where that is asked for.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "graph/model_file.h"
#include "models/import/safetensors.h"
#include "models/quantize/quantize.h"
#include "tools/common/data_set.h"
#include "tools/common/flags.h"
#include "tools/common/input_spec.h"
#include "tools/common/model_flags.h"
#include "tools/common/model_source.h"
#include "tools/common/reference.h"
#include "tools/common/table.h"
#include "tools/common/tool.h"
#include "tools/verbs.h"

namespace tessera {
namespace {

struct ConvertFlags {
  std::string output, store = "exact", report = "table", weights, quantize = "none", calibrate, accuracy;
  int64_t threads = 0;
  bool kept_only = false;
  std::vector<std::string> metadata;
  std::vector<int64_t> test_seeds;
  ModelFlags model;
  FlagSet flags =
      FlagSet("convert", "MODEL [-o OUT.tess] [flags]",
              "Converts an ONNX or TFLite model into a Tessera model and says, for every weight, which sparsity "
              "it declared, which was found, what is kept of it and why.");

  ConvertFlags() {
    flags.String("output", "OUT.tess", "the file to write; default: the model's name with .tess, in this folder",
                 &output);
    flags.Short('o');
    model.Declare(flags);
    flags.String("weights", "FILE.safetensors", "replaces constants of the same names", &weights);
    flags.Section("What is stored");
    flags.Choice("store", {"exact", "f16"}, "f16 halves f32 weights of rank 2 and more, rounded", &store);
    flags.Bool("kept_only", "leaves out pruned elements where that saves at least a quarter", &kept_only);
    flags.Repeated("metadata", "KEY=VALUE", "provenance to store, such as licence=MIT", &metadata);
    flags.IntList("test", "SEED,…",
                  "stores test vectors: random inputs of these seeds, and what the reference gives for them",
                  &test_seeds, 0, int64_t{1} << 40);
    flags.Section("Quantisation");
    flags.String("quantize", "SPEC", "i8, w8, w4g32, bf16, … and options; see below", &quantize);
    flags.String("calibrate", "DATA", "samples that show which values activations take; i8 needs them", &calibrate);
    flags.String("accuracy", "DATA",
                 "labelled samples on which networks that classify are compared before and after; with "
                 "--calibrate=fashion: the test images of Fashion-MNIST",
                 &accuracy);
    flags.Int("threads", "N", "of the runs for both; 0: all processors", &threads, 0, 1024);
    flags.Section("Output");
    flags.Choice("report", TableFormNames(), "the form of the table of tensors on stdout", &report);
    flags.Note(
        "Quantisation",
        "SPEC is a scheme with options behind it, each after a +. i8: u8 activations with a zero point, i8 weights "
        "with a scale per output channel, i32 biases. w8, w8g64, w4g32, u4g32: weights alone, with a scale per "
        "output channel or per so many elements of what is summed over; u4 has zero points. bf16, f16: every "
        "float in 16 bits. f32: quantised values become floats again. Options: range=minmax|percentile:99.9|mse "
        "(what of an activation's values the integers span), weights=minmax|mse, act=u8|i8, outliers=P% (so "
        "many weights, of the largest, stay f32 beside the 8 bits), float=NAME,NAME (layers or weights that "
        "stay float; * stands for any text). Pruned weights stay pruned and declared.");
    flags.Note(
        "Data",
        "fashion, fashion:500 (Fashion-MNIST of the package dataset-fashion-mnist); images.npy; data.npz with an "
        "array for each input, and perhaps labels; a folder of .npy files; list.txt with their paths; "
        "random:SEED (noise: good for latency, not for accuracy). Arrays hold one sample, or many along a "
        "first dimension.");
    flags.Example("convert zoo:fashion_mobilenet --quantize=i8 --calibrate=fashion -o q.tess",
                  "8 bits, with accuracy before and after");
    flags.Example("convert model.onnx --quantize=i8+range=mse+float=head --calibrate=samples/", "the head stays float");
    flags.Example("convert zoo:bert_base --quantize=w4g32", "weights of 4 bits, no data needed");
    flags.Example("convert mobilenet.onnx -o mobilenet.tess --shape=input:1x3x224x224",
                  "with an input whose shape is open");
    flags.Example("convert zoo:fashion_mlp_scattered90 --store=f16 --kept_only", "as small as it gets");
    flags.Example("convert mlp.onnx --tesa=masks.json -o pruned.tess", "with masks and precisions from a side file");
    flags.Example("convert model.onnx --bind=sizes=@sizes.npy --test=1,2",
                  "an input becomes a constant; two tests travel along");
  }
};

Status ReadWeights(const std::string& path, ImportOptions& options) {
  ASSIGN_OR_RETURN(const Safetensors file, ReadSafetensors(UserPath(path)));
  for (const auto& [name, tensor] : file.tensors) options.weights[name] = tensor;
  return OkStatus();
}

Status AddMetadata(const std::vector<std::string>& entries, Graph& graph) {
  for (const std::string& entry : entries) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Error(ErrorCode::kUsageInvalid, "flag --metadata: expected KEY=VALUE, found '", entry, "'");
    }
    graph.metadata[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  return OkStatus();
}

// "3 of 14 weights sparse, 10.2% of their elements kept".
std::string SparsitySummary(const Graph& graph) {
  int64_t weights = 0, sparse = 0, elements = 0, kept = 0;
  for (const Value& value : graph.values) {
    if (value.kind != ValueKind::kConstant || value.type.shape.rank() < 2) continue;
    ++weights;
    if (!value.tesa || value.tesa->keeps_all()) continue;
    ++sparse;
    elements += value.tesa->num_elements();
    kept += value.tesa->num_kept();
  }
  std::string text = internal::Join(sparse, " of ", weights, " weights sparse");
  if (sparse > 0)
    text += ", " +
            FormatSignificant(100.0 * static_cast<double>(kept) / static_cast<double>(std::max<int64_t>(1, elements))) +
            "% of their elements kept";
  return text;
}

StatusOr<std::vector<TestVector>> MakeTests(const Graph& graph, const std::vector<int64_t>& seeds) {
  std::vector<TestVector> tests;
  for (int64_t seed : seeds) {
    TestVector test;
    test.name = "random:" + std::to_string(seed);
    ASSIGN_OR_RETURN(const std::vector<Tensor> inputs, ResolveInputs(graph, {}, &seed));
    ASSIGN_OR_RETURN(const std::vector<Tensor> outputs, Reference(graph, inputs, ""));
    for (size_t k = 0; k < inputs.size(); ++k) test.inputs.emplace_back(graph[graph.inputs[k]].name, inputs[k]);
    for (size_t k = 0; k < outputs.size(); ++k) {
      const Value& value = graph[graph.outputs[k]];
      test.outputs.emplace_back(value.name, outputs[k].Cast(value.type.dtype));
    }
    tests.push_back(std::move(test));
  }
  return tests;
}

std::string DefaultOutput(const OpenedModel& model) {
  std::string name = model.name;
  std::replace(name.begin(), name.end(), ':', '_');
  return UserPath(name + ".tess");
}

std::string TensorTable(const std::vector<TensorReport>& tensors, const std::string& form) {
  Table table({{.key = "tensor", .title = "tensor"},
               {.key = "type", .title = "type"},
               {.key = "declared", .title = "declared"},
               {.key = "found", .title = "found"},
               {.key = "kept", .title = "kept"},
               {.key = "reason", .title = "reason"}});
  for (const TensorReport& row : tensors)
    table.AddRow({row.name, row.type.ToString(), row.declared, row.found, row.kept, row.reason});
  return table.Print(ParseTableForm(form));
}

// "0.0213" or "0.001 - 0.0213".
std::string ScaleText(const QuantizedTensor& row) {
  if (row.num_scales == 0) return "-";
  std::string text = FormatSignificant(row.least_scale);
  if (row.num_scales > 1) text += " - " + FormatSignificant(row.largest_scale);
  return text;
}

std::string QuantizationTable(const QuantizeReport& report, const std::string& form) {
  Table table({{.key = "tensor", .title = "tensor"},
               {.key = "role", .title = "role"},
               {.key = "node", .title = "node"},
               {.key = "type", .title = "type"},
               {.key = "range", .title = "range"},
               {.key = "scale", .title = "scale"},
               {.key = "zero_point", .title = "zero point"},
               {.key = "kept_percent", .title = "kept %", .digits = 1},
               {.key = "sqnr_db", .title = "SQNR dB", .digits = 1},
               {.key = "low"},
               {.key = "high"},
               {.key = "num_scales"},
               {.key = "least_scale"},
               {.key = "largest_scale"}});
  for (const QuantizedTensor& row : report.tensors) {
    Cell noise;
    if (row.signal_to_noise) {
      noise = std::isfinite(*row.signal_to_noise) ? Cell(*row.signal_to_noise) : Cell(std::string("exact"));
    }
    table.AddRow({row.name, row.role, row.node, row.type.ToString(),
                  FormatSignificant(row.low) + " .. " + FormatSignificant(row.high), ScaleText(row),
                  row.zero_point       ? Cell(*row.zero_point)
                  : row.num_scales > 0 ? Cell(std::string("each"))
                                       : Cell(),
                  100 * row.kept, noise, row.low, row.high, row.num_scales, row.least_scale, row.largest_scale});
  }
  return table.Print(ParseTableForm(form));
}

std::string AccuracyTable(const std::string& data, int64_t rows, int64_t before, int64_t after,
                          const std::string& form) {
  Table table({{.key = "data", .title = "data"},
               {.key = "samples", .title = "samples"},
               {.key = "accuracy_before", .title = "accuracy before, %", .digits = 2},
               {.key = "accuracy_after", .title = "after, %", .digits = 2},
               {.key = "change", .title = "change, points", .digits = 2}});
  const auto percent = [&](int64_t right) { return 100 * static_cast<double>(right) / static_cast<double>(rows); };
  table.AddRow({data, rows, percent(before), percent(after), percent(after) - percent(before)});
  return table.Print(ParseTableForm(form));
}

// Quantises the graph and prints what became of it.
Status Quantize(const ConvertFlags& f, Graph& graph) {
  ASSIGN_OR_RETURN(const QuantizeSpec spec, ParseQuantizeSpec(f.quantize));
  if (spec.scheme == QuantizeScheme::kNone) {
    if (f.calibrate.empty() && f.accuracy.empty()) return OkStatus();
    return Error(ErrorCode::kUsageInvalid, "--calibrate and --accuracy are for --quantize=SPEC, which is not given");
  }
  if (spec.needs_calibration() && f.calibrate.empty()) {
    return Error(ErrorCode::kUsageInvalid, "--quantize=", f.quantize,
                 " has to see which values activations take: give samples with --calibrate=DATA, or "
                 "--calibrate=random:1 where only latency counts");
  }
  DataSet samples, labelled;
  if (spec.needs_calibration()) {
    ASSIGN_OR_RETURN(samples, OpenDataSet(graph, f.calibrate, FashionSplit::kTrain));
  }
  const bool fashion = f.calibrate.substr(0, 7) == "fashion";
  const std::string accuracy = f.accuracy.empty() && fashion ? "fashion" : f.accuracy;
  Options options;
  options.threads = static_cast<int>(f.threads);
  int64_t before = 0;
  if (!accuracy.empty()) {
    ASSIGN_OR_RETURN(labelled, OpenDataSet(graph, accuracy, FashionSplit::kTest));
    ASSIGN_OR_RETURN(before, CountRight(graph, labelled, options.threads));
  }
  const auto next = [&samples](std::vector<Tensor>& inputs) { return samples.Next(inputs); };
  ASSIGN_OR_RETURN(const QuantizeReport report, QuantizeGraph(graph, spec, next, options));
  if (spec.needs_calibration()) graph.metadata["calibrated"] = samples.description();
  if (!report.tensors.empty()) PrintOut(QuantizationTable(report, f.report));
  for (const std::string& line : report.floats) PrintNote("float: " + line);
  if (accuracy.empty()) return OkStatus();
  ASSIGN_OR_RETURN(const int64_t after, CountRight(graph, labelled, options.threads));
  const auto rows = static_cast<int64_t>(labelled.labels().size());
  PrintOut(AccuracyTable(labelled.description(), rows, before, after, f.report));
  return OkStatus();
}

}  // namespace

Status ConvertVerb(const std::vector<std::string>& args) {
  ConvertFlags f;
  RETURN_IF_ERROR(f.flags.Parse(args));
  ASSIGN_OR_RETURN(const bool answered, AnswerAtOnce(f.flags, 1));
  if (answered) return OkStatus();
  const std::string& source = f.flags.positional()[0];
  ASSIGN_OR_RETURN(ModelOptions options, f.model.Options());
  if (!f.weights.empty()) RETURN_IF_ERROR(ReadWeights(f.weights, options.import));
  ASSIGN_OR_RETURN(OpenedModel model, OpenModel(source, options));
  PrintWarnings(model);
  const std::string output = f.output.empty() ? DefaultOutput(model) : UserPath(f.output);
  std::error_code ignored;
  if (std::filesystem::equivalent(output, UserPath(source), ignored)) {
    return Error(ErrorCode::kUsageInvalid, "the output ", output, " is the input; name another with -o");
  }
  RETURN_IF_ERROR(Quantize(f, model.graph));
  model.graph.metadata["sparsity"] = SparsitySummary(model.graph);
  RETURN_IF_ERROR(AddMetadata(f.metadata, model.graph));

  WriteOptions write;
  write.store = f.store == "f16" ? WriteOptions::Store::kF16 : WriteOptions::Store::kExact;
  write.kept_only = f.kept_only;
  ASSIGN_OR_RETURN(write.tests, MakeTests(model.graph, f.test_seeds));
  for (TestVector& test : model.tests) write.tests.push_back(std::move(test));
  RETURN_IF_ERROR(WriteModel(model.graph, output, write));

  // What was found of weights that are other weights now would only confuse.
  if (!model.tensors.empty() && f.quantize == "none") PrintOut(TensorTable(model.tensors, f.report));
  const auto size = static_cast<int64_t>(std::filesystem::file_size(output, ignored));
  PrintNote(internal::Join("wrote ", output, ": ", FormatBytes(size), ", ", model.graph.nodes.size(), " nodes, ",
                           model.graph.metadata["sparsity"]));
  return OkStatus();
}

}  // namespace tessera
