#include "models/import/import.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <new>

#include "base/file.h"
#include "base/hash.h"
#include "graph/verifier.h"
#include "models/import/bert.h"
#include "models/import/onnx/onnx_importer.h"
#include "models/import/safetensors.h"
#include "models/import/sparsity.h"
#include "models/import/tflite/tflite_importer.h"

namespace tessera {
namespace {

enum class Format : uint8_t { kOnnx, kTflite, kSafetensors, kTessera, kUnknown };

bool HasIdentifier(std::string_view bytes, std::string_view identifier) {
  return bytes.size() >= 8 && bytes.substr(4, 4) == identifier;
}

// What the bytes say comes first; ONNX, a plain protobuf, has no mark of its own and needs its extension or a first
// field that is the IR version.
Format Recognize(std::string_view bytes, const std::string& name) {
  const std::string extension = std::filesystem::path(name).extension().string();
  if (HasIdentifier(bytes, "TFL3")) return Format::kTflite;
  if (HasIdentifier(bytes, "TESS") || extension == ".tess") return Format::kTessera;
  if (LooksLikeSafetensors(bytes) || extension == ".safetensors") return Format::kSafetensors;
  if (extension == ".onnx") return Format::kOnnx;
  if (extension == ".tflite") return Format::kTflite;
  if (bytes.size() > 2 && bytes[0] == '\x08' && bytes[1] > 0 && bytes[1] < 32) return Format::kOnnx;
  return Format::kUnknown;
}

StatusOr<ImportedGraph> ImportGraph(std::string_view bytes, const std::string& name, const ImportOptions& options) {
  switch (Recognize(bytes, name)) {
    case Format::kOnnx: return ImportOnnx(bytes, name, options);
    case Format::kTflite: return ImportTflite(bytes, options);
    case Format::kSafetensors: {
      ASSIGN_OR_RETURN(const Safetensors file, ParseSafetensors(bytes, nullptr));
      if (LooksLikeBert(file)) return ImportBert(file, options);
      return Error(
          ErrorCode::kFormatUnknown,
          "a safetensors file holds tensors but no network, and these are not those of a BERT encoder; import ",
          "the network's ONNX file with these weights");
    }
    case Format::kTessera:
      return Error(ErrorCode::kFormatUnknown, "this is a Tessera model already; it needs no import");
    case Format::kUnknown: break;
  }
  return Error(ErrorCode::kFormatUnknown, "expected an ONNX (.onnx) or TFLite (.tflite) model, found ",
               bytes.empty() ? "an empty file" : "bytes of neither");
}

// What the side file says of a constant must not get lost without a word.
void WarnOfUnusedMasks(const TesaFile& file, const std::set<std::string>& constants, ImportResult& result) {
  for (const auto& [name, statements] : file.tensors) {
    if (constants.count(name) == 0) continue;
    const auto row = std::find_if(result.tensors.begin(), result.tensors.end(),
                                  [&](const TensorReport& r) { return r.name == name; });
    if (row != result.tensors.end() && row->kept != "-") continue;
    result.warnings.push_back("what " + file.path + " says of '" + name + "' is not used: " +
                              (row != result.tensors.end() ? row->reason : "it went into another constant"));
  }
}

}  // namespace

StatusOr<ImportResult> ImportModelFromBytes(std::string_view bytes, const std::string& name,
                                            const ImportOptions& options) {
  // Limits keep hostile sizes away from the allocator; this is for models that honestly do not fit.
  try {
    StatusOr<ImportedGraph> imported = ImportGraph(bytes, name, options);
    if (!imported.ok()) return imported.status().WithContext(name);
    ImportResult result;
    result.graph = std::move(imported->graph);
    result.warnings = std::move(imported->warnings);
    result.tensors = AnnotateSparsity(result.graph, imported->origins, options.annotate);
    if (options.side_file != nullptr) {
      const std::vector<std::string> done(imported->constants.begin(), imported->constants.end());
      RETURN_IF_ERROR(ApplyTesaFile(*options.side_file, result.graph, done).WithContext(name));
      WarnOfUnusedMasks(*options.side_file, imported->constants, result);
    }
    auto& metadata = result.graph.metadata;
    metadata["source"] = std::filesystem::path(name).filename().string();
    metadata["source_hash"] = HashBytes(bytes).ToHex();
    metadata["converter"] = "tessera";
    RETURN_IF_ERROR(Verify(result.graph).WithContext(name));
    return result;
  } catch (const std::bad_alloc&) {
    return Error(ErrorCode::kOutOfMemory, name, ": not enough memory to import a model of ", bytes.size(), " bytes");
  }
}

StatusOr<ImportResult> ImportModel(const std::string& path, const ImportOptions& options) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return ImportModelFromBytes(file.text(), path, options);
}

}  // namespace tessera
