#include "tools/common/model_flags.h"

#include <memory>
#include <utility>

#include "models/import/tesa_file.h"
#include "tools/common/input_spec.h"
#include "tools/common/tool.h"

namespace tessera {

void ModelFlags::Declare(FlagSet& flags) {
  flags.Section("How the model is opened");
  flags.Repeated("shape", "NAME:1x3x224x224", "shape of an input that the file leaves open", &shapes);
  flags.Repeated("bind", "NAME=@FILE.npy|TYPE=VALUES", "an input that becomes a constant, because it determines shapes",
                 &binds);
  flags.String("tesa", "FILE", "side file of masks and precisions by tensor: .json, .safetensors or NAME.npy", &tesa);
  flags.Choice("annotate", {"auto", "declared", "none"},
               "whose sparsity is kept: what the file declares and zeros that are found, what it declares, none",
               &annotate);
  flags.IntList("batch", "LIST", "first extent of every input that is open or 1; 0: as the model says", &batch, 0,
                65536);
  flags.Int("seed", "N", "of the catalog's weights and of random inputs", &seed, 0, int64_t{1} << 40);
  flags.Note(
      "Side files",
      "--tesa=FILE with {\"tensors\": [{\"name\": \"fc1.weight\", \"rows\": [3, \"7-12\"], \"bits\": 8}, …]} "
      "in it: what each entry prunes counts as 0. An entry has rows, columns, channels, axis and indices, blocks "
      "({\"shape\": [32, 32], \"pruned\": [[0, 1]]}), nm ({\"n\": 2, \"m\": 4, \"axis\": 1}), bits, or the "
      "file of a mask (\"mask\": \"w.npy\"); models/import/tesa_file.h has them all. Also a .safetensors file "
      "of masks by tensor, kept where they are not 0.");
  flags.Note("Models",
             "a path (.onnx, .tflite, .tess, or a graph as text; imported on the fly) or zoo:NAME, with "
             "zoo:NAME:PARAMETER=N,… for networks that have parameters. zoo: lists them all.");
}

StatusOr<ModelOptions> ModelFlags::Options() const {
  ModelOptions options;
  options.batch = batch.front();
  options.seed = static_cast<uint64_t>(seed);
  options.import.annotate = annotate == "auto"       ? AnnotateMode::kAuto
                            : annotate == "declared" ? AnnotateMode::kDeclared
                                                     : AnnotateMode::kNone;
  if (!tesa.empty()) {
    ASSIGN_OR_RETURN(TesaFile file, ReadTesaFile(UserPath(tesa)));
    options.import.side_file = std::make_shared<const TesaFile>(std::move(file));
  }
  for (const std::string& text : shapes) {
    // Names from TensorFlow hold colons: the shape is what follows the last one.
    const size_t colon = text.rfind(':');
    if (colon == std::string::npos || colon == 0) {
      return Error(ErrorCode::kUsageInvalid, "flag --shape: expected NAME:1x3x224x224, found '", text, "'");
    }
    StatusOr<std::vector<int64_t>> dims = ParseDims(std::string_view(text).substr(colon + 1));
    if (!dims.ok()) return dims.status().WithContext("flag --shape=" + text);
    options.import.shapes[text.substr(0, colon)] = Shape(*dims);
  }
  for (const std::string& text : binds) {
    const auto [name, value] = SplitNamed(text);
    if (name.empty())
      return Error(ErrorCode::kUsageInvalid, "flag --bind: expected NAME=@FILE.npy, found '", text, "'");
    StatusOr<Tensor> tensor = ParseValue(value, nullptr);
    if (!tensor.ok()) return tensor.status().WithContext("flag --bind=" + text);
    options.import.bind[name] = *std::move(tensor);
  }
  return options;
}

StatusOr<OpenedModel> ModelFlags::Open(const std::string& spec) const {
  ASSIGN_OR_RETURN(const ModelOptions options, Options());
  ASSIGN_OR_RETURN(OpenedModel model, OpenModel(spec, options));
  PrintWarnings(model);
  return model;
}

void PrintWarnings(const OpenedModel& model) {
  for (const std::string& warning : model.warnings) PrintNote("warning: " + warning);
}

Status CheckModelCount(const std::vector<std::string>& positional, size_t max) {
  if (positional.empty())
    return Error(ErrorCode::kUsageInvalid, "no model given; expected a path or zoo:NAME, and zoo: lists them");
  if (positional.size() <= max) return OkStatus();
  return Error(ErrorCode::kUsageInvalid, "expected ",
               max == 1 ? "one model" : "at most " + std::to_string(max) + " models", ", found ", positional.size(),
               ": '", positional[max], "' is one too many");
}

StatusOr<bool> AnswerAtOnce(const FlagSet& flags, size_t max_models) {
  if (flags.help()) {
    PrintOut(flags.HelpText());
    return true;
  }
  RETURN_IF_ERROR(CheckModelCount(flags.positional(), max_models));
  if (!AsksForZoo(flags.positional()[0])) return false;
  PrintOut(ZooText());
  return true;
}

}  // namespace tessera
