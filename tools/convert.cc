// convert: a foreign model becomes a .tess file, and every tensor's sparsity is accounted for.
#include <algorithm>
#include <filesystem>

#include "graph/model_file.h"
#include "models/import/safetensors.h"
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
  std::string output, store = "exact", report = "table", weights;
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
    flags.Section("Output");
    flags.Choice("report", TableFormNames(), "the form of the table of tensors on stdout", &report);
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
  model.graph.metadata["sparsity"] = SparsitySummary(model.graph);
  RETURN_IF_ERROR(AddMetadata(f.metadata, model.graph));

  const std::string output = f.output.empty() ? DefaultOutput(model) : UserPath(f.output);
  std::error_code ignored;
  if (std::filesystem::equivalent(output, UserPath(source), ignored)) {
    return Error(ErrorCode::kUsageInvalid, "the output ", output, " is the input; name another with -o");
  }
  WriteOptions write;
  write.store = f.store == "f16" ? WriteOptions::Store::kF16 : WriteOptions::Store::kExact;
  write.kept_only = f.kept_only;
  ASSIGN_OR_RETURN(write.tests, MakeTests(model.graph, f.test_seeds));
  for (TestVector& test : model.tests) write.tests.push_back(std::move(test));
  RETURN_IF_ERROR(WriteModel(model.graph, output, write));

  if (!model.tensors.empty()) PrintOut(TensorTable(model.tensors, f.report));
  const auto size = static_cast<int64_t>(std::filesystem::file_size(output, ignored));
  PrintNote(internal::Join("wrote ", output, ": ", FormatBytes(size), ", ", model.graph.nodes.size(), " nodes, ",
                           model.graph.metadata["sparsity"]));
  return OkStatus();
}

}  // namespace tessera
