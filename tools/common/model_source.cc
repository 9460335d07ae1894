#include "tools/common/model_source.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"
#include "graph/verifier.h"
#include "models/catalog/catalog.h"
#include "models/import/tesa_file.h"
#include "tools/common/flags.h"
#include "tools/common/table.h"

namespace tessera {
namespace {

constexpr std::string_view kZoo = "zoo:";

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// This program's own file.
std::string Self() {
  char path[4096];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
  return std::string(path, static_cast<size_t>(std::max<ssize_t>(0, size)));
}

// The folder of trained networks: in the runfiles of a build, or in an installed tree.
std::string ZooFolder() {
  const std::string self = Self();
  std::vector<std::string> candidates = {Environment("TESSERA_ZOO"), self + ".runfiles/tessera/models/zoo",
                                         std::filesystem::path(self).parent_path().string() + "/../share/tessera/zoo"};
  for (const char* variable : {"RUNFILES_DIR", "TEST_SRCDIR"}) {
    if (const std::string folder = Environment(variable); !folder.empty())
      candidates.push_back(folder + "/tessera/models/zoo");
  }
  if (const std::string root = Environment("BUILD_WORKSPACE_DIRECTORY"); !root.empty())
    candidates.push_back(root + "/models/zoo");
  std::error_code ignored;
  for (const std::string& folder : candidates) {
    if (!folder.empty() && std::filesystem::is_directory(folder, ignored)) return folder;
  }
  return "";
}

bool IsModelFile(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".onnx" || extension == ".tflite" || extension == ".tess";
}

// The model files of a folder by name, in order.
std::vector<std::filesystem::path> ModelFiles(const std::string& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (IsModelFile(at->path())) files.push_back(at->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// name -> what the manifest says of it.
std::map<std::string, std::string> ManifestDocs(const std::string& folder) {
  std::map<std::string, std::string> docs;
  StatusOr<std::string> text = ReadFile(folder + "/manifest.json", 16 << 20);
  if (!text.ok()) return docs;
  const nlohmann::json manifest = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object() || !manifest.contains("models") || !manifest["models"].is_array()) return docs;
  for (const nlohmann::json& row : manifest["models"]) {
    if (!row.is_object() || !row.contains("name") || !row["name"].is_string()) continue;
    std::string doc;
    const auto add = [&](const char* key) {
      if (row.contains(key) && row[key].is_string()) doc += (doc.empty() ? "" : ", ") + row[key].get<std::string>();
    };
    add("dataset");
    add("pattern");
    if (row.contains("test_accuracy") && row["test_accuracy"].is_number()) {
      doc += ", accuracy " + FormatSignificant(100 * row["test_accuracy"].get<double>()) + " %";
    }
    docs[row["name"].get<std::string>()] = doc;
  }
  return docs;
}

bool LooksLikeGraphText(std::string_view bytes) {
  while (true) {
    while (!bytes.empty() && (bytes[0] == ' ' || bytes[0] == '\n')) bytes.remove_prefix(1);
    if (bytes.substr(0, 2) != "//") break;
    bytes.remove_prefix(std::min(bytes.size(), bytes.find('\n')));
  }
  return bytes.substr(0, 7) == "graph \"";
}

Status CheckBatch(const Graph& graph, int64_t batch, const std::string& source) {
  if (batch == 0) return OkStatus();
  for (ValueId id : graph.inputs) {
    const Shape& shape = graph[id].type.shape;
    if (shape.rank() > 0 && shape[0] == batch) continue;
    return Error(ErrorCode::kShapeMismatch, source, ": input '", graph[id].name, "' is ", graph[id].type,
                 ", not of batch ", batch,
                 "; shapes are fixed at conversion, so open the source model or convert it with --shape");
  }
  return OkStatus();
}

// What --tesa says, on a graph that is no import's.
Status ApplySideFile(const ModelOptions& options, Graph& graph) {
  if (options.import.side_file == nullptr) return OkStatus();
  return ApplyTesaFile(*options.import.side_file, graph);
}

StatusOr<OpenedModel> OpenCatalog(const std::string& name, const std::string& parameters, const ModelOptions& options) {
  CatalogOptions catalog;
  catalog.batch = options.batch == 0 ? 1 : options.batch;
  catalog.seed = options.seed;
  for (const std::string& part : SplitList(parameters)) {
    const size_t equals = part.find('=');
    if (equals == std::string::npos) {
      return Error(ErrorCode::kUsageInvalid, "expected zoo:", name, ":PARAMETER=N,…; found '", part, "'");
    }
    ASSIGN_OR_RETURN(catalog.parameters[part.substr(0, equals)], ParseInt(std::string_view(part).substr(equals + 1)));
  }
  OpenedModel model;
  ASSIGN_OR_RETURN(model.graph, BuildCatalogModel(name, catalog));
  model.name = parameters.empty() ? name : name + ":" + parameters;
  model.source = std::string(kZoo) + model.name;
  Hasher hasher;
  hasher.AddString(model.name).AddValue(catalog.batch).AddValue(catalog.seed);
  model.hash = hasher.Finish().ToHex();
  RETURN_IF_ERROR(ApplySideFile(options, model.graph));
  return model;
}

// All inputs with a first extent of 1 get `batch` instead.
Status SetBatch(const Graph& graph, int64_t batch, ImportOptions& options) {
  for (ValueId id : graph.inputs) {
    const Shape& shape = graph[id].type.shape;
    if (options.shapes.count(graph[id].name) != 0 || shape.rank() == 0 || shape[0] != 1) continue;
    Shape wanted = shape;
    wanted[0] = batch;
    options.shapes[graph[id].name] = wanted;
  }
  return OkStatus();
}

StatusOr<OpenedModel> OpenFile(const std::string& path, const ModelOptions& options) {
  OpenedModel model;
  model.name = std::filesystem::path(path).stem().string();
  model.source = path;
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  model.hash = HashBytes(file.bytes()).ToHex();
  if (IsTessFile(file.text()) || std::filesystem::path(path).extension() == ".tess") {
    if (!options.import.shapes.empty() || !options.import.bind.empty() || !options.import.masks.empty()) {
      return Error(ErrorCode::kUsageInvalid, path,
                   " is converted already; --shape, --bind and masks are for the source model");
    }
    ASSIGN_OR_RETURN(ModelFile read, ReadModelFile(path));
    model.graph = std::move(read.graph);
    if (options.import.side_file == nullptr) model.tests = std::move(read.tests);  // else they are another model's
    RETURN_IF_ERROR(CheckBatch(model.graph, options.batch, path));
    RETURN_IF_ERROR(ApplySideFile(options, model.graph));
    return model;
  }
  if (LooksLikeGraphText(file.text())) {
    StatusOr<Graph> graph = ParseAndVerify(file.text());
    if (!graph.ok()) return graph.status().WithContext(path);
    model.graph = *std::move(graph);
    RETURN_IF_ERROR(CheckBatch(model.graph, options.batch, path));
    RETURN_IF_ERROR(ApplySideFile(options, model.graph));
    return model;
  }
  ASSIGN_OR_RETURN(ImportResult imported, ImportModel(path, options.import));
  if (options.batch > 1) {
    ImportOptions batched = options.import;
    RETURN_IF_ERROR(SetBatch(imported.graph, options.batch, batched));
    ASSIGN_OR_RETURN(imported, ImportModel(path, batched));
  }
  RETURN_IF_ERROR(CheckBatch(imported.graph, options.batch, path));
  model.graph = std::move(imported.graph);
  model.tensors = std::move(imported.tensors);
  model.warnings = std::move(imported.warnings);
  return model;
}

}  // namespace

std::string CacheFolder() {
  if (const std::string folder = Environment("TESSERA_CACHE"); !folder.empty()) return folder;
  if (const std::string folder = Environment("XDG_CACHE_HOME"); !folder.empty()) return folder + "/tessera";
  return Environment("HOME") + "/.cache/tessera";
}

std::vector<ZooEntry> ListZoo() {
  std::vector<ZooEntry> entries;
  for (const CatalogNetwork& network : CatalogNetworks()) {
    std::string doc(network.doc);
    for (const CatalogParameter& parameter : network.parameters) {
      doc += (&parameter == network.parameters.data() ? "; " : ",") + std::string(parameter.name) + "=" +
             std::to_string(parameter.standard);
    }
    entries.push_back({std::string(network.name), "seeded weights", doc});
  }
  const std::string folder = ZooFolder();
  const std::map<std::string, std::string> docs = ManifestDocs(folder);
  for (const std::filesystem::path& file : ModelFiles(folder)) {
    const auto doc = docs.find(file.stem().string());
    entries.push_back({file.stem().string(), "trained", doc == docs.end() ? "" : doc->second});
  }
  for (const std::filesystem::path& file : ModelFiles(CacheFolder() + "/models"))
    entries.push_back({file.stem().string(), "fetched", file.string()});
  return entries;
}

std::string ZooText() {
  Table table(
      {{.key = "name", .title = "zoo:"}, {.key = "kind", .title = "kind"}, {.key = "doc", .title = "what it is"}});
  for (const ZooEntry& entry : ListZoo()) table.AddRow({entry.name, entry.kind, entry.doc});
  return table.Print(TableForm::kTable);
}

StatusOr<OpenedModel> OpenModel(const std::string& spec, const ModelOptions& options) {
  if (spec.compare(0, kZoo.size(), kZoo) != 0) return OpenFile(UserPath(spec), options);
  const std::string rest = spec.substr(kZoo.size());
  const size_t colon = rest.find(':');
  const std::string name = rest.substr(0, colon), parameters = colon == std::string::npos ? "" : rest.substr(colon + 1);
  std::vector<std::string> known;
  for (const CatalogNetwork& network : CatalogNetworks()) {
    if (network.name == name) return OpenCatalog(name, parameters, options);
    known.emplace_back(network.name);
  }
  for (const std::string& folder : {ZooFolder(), CacheFolder() + "/models"}) {
    for (const std::filesystem::path& file : ModelFiles(folder)) {
      known.push_back(file.stem().string());
      if (file.stem() != name) continue;
      if (!parameters.empty())
        return Error(ErrorCode::kUsageInvalid, "zoo:", name, " is a stored network and takes no parameters; found '",
                     parameters, "'");
      ASSIGN_OR_RETURN(OpenedModel model, OpenFile(file.string(), options));
      model.source = spec;
      return model;
    }
  }
  const std::string nearest = Nearest(name, known);
  return Error(ErrorCode::kUsageInvalid, "the zoo has no '", name, "'",
               nearest.empty() ? "" : "; did you mean zoo:" + nearest + "?", "; zoo: lists what it has");
}

}  // namespace tessera
