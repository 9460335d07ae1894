#include "tools/common/reference.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "base/file.h"
#include "base/hash.h"
#include "graph/interpreter.h"
#include "graph/text.h"

namespace tessera {
namespace {

// This program's bytes: whatever the interpreter was, it was in there.
const std::string& OwnHash() {
  static const auto& hash = *[] {
    StatusOr<MappedFile> self = MappedFile::Open("/proc/self/exe");
    return new std::string(self.ok() ? HashBytes(self->bytes()).ToHex() : "");
  }();
  return hash;
}

std::string KeyOf(const Graph& graph, std::span<const Tensor> inputs) {
  Hasher hasher;
  // The elided text holds hashes of the constants, whose pruned elements are zero.
  hasher.AddString(OwnHash()).AddString(PrintGraph(graph, {.elide = true, .max_listed = 0}));
  for (const Tensor& input : inputs) hasher.AddString(input.type().ToString()).AddBytes(input.bytes());
  return hasher.Finish().ToHex();
}

std::vector<Tensor> EmptyOutputs(const Graph& graph) {
  std::vector<Tensor> outputs;
  for (ValueId id : graph.outputs) {
    const TensorType& type = graph[id].type;
    outputs.emplace_back(IsFloat(type.dtype) ? DType::kF64 : type.dtype, type.shape);
  }
  return outputs;
}

// A file of nothing but the outputs' bytes and, first, their hash.
bool ReadKept(const std::string& path, std::vector<Tensor>& outputs) {
  StatusOr<std::string> bytes = ReadFile(path);
  constexpr size_t kHash = 32;
  size_t expected = kHash;
  for (const Tensor& output : outputs) expected += output.bytes().size();
  if (!bytes.ok() || bytes->size() != expected) return false;
  if (HashBytes(std::string_view(*bytes).substr(kHash)).ToHex() != bytes->substr(0, kHash)) return false;
  size_t at = kHash;
  for (Tensor& output : outputs) {
    const std::span<std::byte> to = output.mutable_bytes();
    std::copy_n(reinterpret_cast<const std::byte*>(bytes->data()) + at, to.size(), to.begin());
    at += to.size();
  }
  return true;
}

void Keep(const std::string& folder, const std::string& path, const std::vector<Tensor>& outputs) {
  std::string data;
  for (const Tensor& output : outputs)
    data.append(reinterpret_cast<const char*>(output.bytes().data()), output.bytes().size());
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  // Not being able to keep it costs time at the next run, nothing else.
  (void)WriteFileAtomically(path, HashBytes(data).ToHex() + data);
}

}  // namespace

StatusOr<std::vector<Tensor>> Reference(const Graph& graph, std::span<const Tensor> inputs, const std::string& folder) {
  std::vector<Tensor> outputs = EmptyOutputs(graph);
  const std::string path = folder.empty() || OwnHash().empty() ? "" : folder + "/" + KeyOf(graph, inputs);
  if (!path.empty() && ReadKept(path, outputs)) return outputs;
  ASSIGN_OR_RETURN(const std::vector<RefTensor> results, Interpret(graph, inputs));
  for (size_t k = 0; k < outputs.size(); ++k) {
    for (int64_t i = 0; i < results[k].size(); ++i) {
      if (results[k].is_float()) {
        outputs[k].mutable_data<double>()[i] = results[k].f[i];
      } else {
        outputs[k].SetInt(i, results[k].i[i]);
      }
    }
  }
  if (!path.empty()) Keep(folder, path, outputs);
  return outputs;
}

Difference Compare(const Tensor& result, const Tensor& reference) {
  TES_CHECK(result.shape() == reference.shape(), result.shape(), " against ", reference.shape());
  Difference difference;
  double largest = 0;
  for (int64_t i = 0; i < result.num_elements(); ++i) {
    const double y = result.Get(i), r = reference.Get(i);
    if (std::isfinite(r)) largest = std::max(largest, std::abs(r));
    if (y == r || (std::isnan(y) && std::isnan(r))) continue;
    double error = std::abs(y - r);
    if (!std::isfinite(error)) error = std::numeric_limits<double>::infinity();
    if (error > difference.absolute) {
      difference.absolute = error;
      difference.worst = i;
    }
  }
  difference.relative = largest > 0 ? difference.absolute / largest : difference.absolute;
  return difference;
}

double ErrorBound(const Graph& graph) {
  double bound = 0;
  for (const Node& node : graph.nodes) {
    if (node.op == Op::kQuantize) bound = std::max(bound, 5e-2);
    for (ValueId id : node.outputs) {
      switch (graph[id].type.dtype) {
        case DType::kF64: bound = std::max(bound, 1e-10); break;
        case DType::kF32: bound = std::max(bound, 1e-4); break;
        case DType::kF16: bound = std::max(bound, 1e-2); break;
        case DType::kBF16:
        case DType::kF8E4M3:
        case DType::kF8E5M2: bound = std::max(bound, 1e-1); break;
        default: break;
      }
    }
  }
  return bound;
}

}  // namespace tessera
