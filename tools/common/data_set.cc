#include "tools/common/data_set.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>

#include "base/file.h"
#include "engine/engine_internal.h"
#include "models/import/npy.h"
#include "models/import/npz.h"
#include "tools/common/flags.h"
#include "tools/common/input_spec.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRandomSamples = 16, kFashionTrain = 500, kFashionTest = 10000;
constexpr char kLabels[] = "labels";

std::string Stem(const std::string& path) { return fs::path(path).stem().string(); }
bool EndsWith(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Samples of `type` that an array holds: itself, stacked along a new first dimension, or a longer batch.
StatusOr<int64_t> SamplesIn(const Tensor& array, const TensorType& type, const std::string& what) {
  const Shape& have = array.shape();
  const Shape& want = type.shape;
  if (have == want) return 1;
  if (have.rank() == want.rank() + 1 && std::equal(want.begin(), want.end(), have.begin() + 1)) return have[0];
  const bool longer = have.rank() == want.rank() && want.rank() > 0 && want[0] > 0 && have[0] >= want[0] &&
                      std::equal(want.begin() + 1, want.end(), have.begin() + 1);
  if (longer) return have[0] / want[0];
  return Error(ErrorCode::kShapeMismatch, what, ": expected ", type,
               ", or samples of it along a first dimension, found ", array.type());
}

// All arrays of one input behind each other.
StatusOr<Tensor> Stack(const std::vector<std::pair<std::string, Tensor>>& arrays, const TensorType& type,
                       int64_t& samples) {
  samples = 0;
  std::vector<int64_t> counts;
  for (const auto& [name, array] : arrays) {
    if (array.dtype() != type.dtype && !(IsFloat(array.dtype()) && IsFloat(type.dtype))) {
      return Error(ErrorCode::kTypeMismatch, name, ": expected ", type.dtype, ", found ", array.dtype());
    }
    ASSIGN_OR_RETURN(const int64_t count, SamplesIn(array, type, name));
    counts.push_back(count);
    samples += count;
  }
  Shape shape = type.shape;
  std::vector<int64_t> dims = {samples};
  dims.insert(dims.end(), shape.begin(), shape.end());
  RETURN_IF_ERROR(CheckShape(type.dtype, Shape(dims)));
  Tensor all(type.dtype, Shape(dims));
  const auto each = static_cast<size_t>(ByteSize(type.dtype, shape.num_elements()));
  std::byte* out = all.mutable_bytes().data();
  for (size_t k = 0; k < arrays.size(); ++k) {
    const Tensor cast = arrays[k].second.Cast(type.dtype);
    const size_t bytes = each * static_cast<size_t>(counts[k]);
    if (bytes > 0) std::memcpy(out, cast.bytes().data(), bytes);
    out += bytes;
  }
  return all;
}

using Arrays = std::vector<std::pair<std::string, Tensor>>;  // by file or name

StatusOr<Arrays> ReadList(const std::vector<std::string>& paths) {
  Arrays arrays;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(Tensor tensor, ReadNpy(path));
    arrays.emplace_back(path, std::move(tensor));
  }
  return arrays;
}

StatusOr<std::vector<std::string>> PathsOfFolder(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".npy") paths.push_back(it->path().string());
  }
  if (error) return Error(ErrorCode::kFileUnreadable, folder, ": ", error.message());
  if (paths.empty()) return Error(ErrorCode::kInputMissing, folder, ": holds no .npy file");
  std::sort(paths.begin(), paths.end());
  return paths;
}

StatusOr<std::vector<std::string>> PathsOfList(const std::string& list) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(list));
  std::vector<std::string> paths;
  for (std::string& line : SplitList(text, '\n')) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty()) paths.push_back((fs::path(list).parent_path() / line).string());
  }
  if (paths.empty()) return Error(ErrorCode::kInputMissing, list, ": names no .npy file");
  return paths;
}

// The arrays of a path, and which inputs they are for: by name where every input has its own, else all for the only
// one.
StatusOr<std::map<std::string, Arrays>> ReadArrays(const Graph& graph, const std::string& path, Arrays& labels) {
  Arrays all;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    ASSIGN_OR_RETURN(const std::vector<std::string> paths, PathsOfFolder(path));
    ASSIGN_OR_RETURN(all, ReadList(paths));
  } else if (EndsWith(path, ".npz")) {
    ASSIGN_OR_RETURN(const auto entries, ReadNpz(path));
    for (const auto& [name, tensor] : entries) all.emplace_back(name, tensor);
  } else if (EndsWith(path, ".txt")) {
    ASSIGN_OR_RETURN(const std::vector<std::string> paths, PathsOfList(path));
    ASSIGN_OR_RETURN(all, ReadList(paths));
  } else {
    ASSIGN_OR_RETURN(all, ReadList({path}));
  }
  const auto named = [&](const std::string& name) {
    return [name](const auto& entry) {
      return entry.first == name || (EndsWith(entry.first, ".npy") && Stem(entry.first) == name);
    };
  };
  if (const auto found = std::find_if(all.begin(), all.end(), named(kLabels)); found != all.end() && all.size() > 1) {
    labels.push_back(*found);
    all.erase(found);
  }
  std::map<std::string, Arrays> by_input;
  std::string missing;
  for (const Port& port : InputPorts(graph)) {
    const auto found = std::find_if(all.begin(), all.end(), named(port.name));
    if (found == all.end()) {
      missing = port.name;
    } else {
      by_input[port.name] = {*found};
    }
  }
  if (missing.empty()) return by_input;
  if (graph.inputs.size() == 1) return std::map<std::string, Arrays>{{missing, std::move(all)}};
  return Error(ErrorCode::kInputMissing, path, ": holds no array '", missing, "' for the input of that name");
}

StatusOr<int64_t> CountOf(const std::string& spec, size_t part, int64_t otherwise) {
  const std::vector<std::string> parts = SplitList(spec, ':');
  if (parts.size() <= part) return otherwise;
  const StatusOr<int64_t> count = ParseInt(parts[part]);
  if (count.ok() && *count > 0 && *count <= 1000000 && parts.size() == part + 1) return *count;
  return Error(ErrorCode::kUsageInvalid, "expected a number of samples from 1 to 1000000 at the end of '", spec, "'");
}

}  // namespace

StatusOr<bool> DataSet::Next(std::vector<Tensor>& inputs) {
  if (next_ == size_) return false;
  inputs.clear();
  for (size_t k = 0; k < types_.size(); ++k) {
    if (graph_ != nullptr) {
      inputs.push_back(DefaultInput(*graph_, graph_->inputs[k], (seed_ + static_cast<uint64_t>(next_)) * 1000 + k));
      continue;
    }
    Tensor sample(types_[k].dtype, types_[k].shape);
    const auto bytes = static_cast<size_t>(sample.byte_size());
    if (bytes > 0) {
      std::memcpy(sample.mutable_bytes().data(), stacks_[k].bytes().data() + bytes * static_cast<size_t>(next_), bytes);
    }
    inputs.push_back(std::move(sample));
  }
  ++next_;
  return true;
}

StatusOr<DataSet> OpenDataSet(const Graph& graph, const std::string& spec, FashionSplit split) {
  DataSet data;
  data.description_ = spec;
  for (const Port& port : InputPorts(graph)) data.types_.push_back(port.type);
  if (spec == "random" || spec.substr(0, 7) == "random:") {
    const std::vector<std::string> parts = SplitList(spec, ':');
    if (parts.size() < 2) return Error(ErrorCode::kUsageInvalid, "expected random:SEED or random:SEED:COUNT");
    ASSIGN_OR_RETURN(const int64_t seed, ParseInt(parts[1]));
    ASSIGN_OR_RETURN(data.size_, CountOf(spec, 2, kRandomSamples));
    data.graph_ = &graph;
    data.seed_ = static_cast<uint64_t>(seed);
    return data;
  }
  if (graph.inputs.empty()) return Error(ErrorCode::kInputUnknown, "the network has no input that data could go to");
  std::map<std::string, Arrays> by_input;
  Arrays labels;
  if (spec == "fashion" || spec.substr(0, 8) == "fashion:") {
    ASSIGN_OR_RETURN(const int64_t count,
                     CountOf(spec, 1, split == FashionSplit::kTrain ? kFashionTrain : kFashionTest));
    ASSIGN_OR_RETURN(FashionData fashion, ReadFashion(kFashionFolder, split, 0, count));
    if (graph.inputs.size() != 1) {
      return Error(ErrorCode::kInputMissing, "Fashion-MNIST is for networks with one input, found ",
                   graph.inputs.size());
    }
    by_input[graph[graph.inputs[0]].name] = {{"Fashion-MNIST", fashion.images}};
    Tensor classes(DType::kU8, {count});
    std::copy(fashion.labels.begin(), fashion.labels.end(), classes.mutable_data<uint8_t>().begin());
    labels = {{kLabels, classes}};
  } else {
    ASSIGN_OR_RETURN(by_input, ReadArrays(graph, UserPath(spec), labels));
  }
  for (size_t k = 0; k < data.types_.size(); ++k) {
    const std::string& name = graph[graph.inputs[k]].name;
    int64_t samples = 0;
    StatusOr<Tensor> stack = Stack(by_input[name], data.types_[k], samples);
    if (!stack.ok()) return stack.status().WithContext("input '" + name + "'");
    if (k > 0 && samples != data.size_) {
      return Error(ErrorCode::kShapeMismatch, "input '", name, "' has ", samples, " samples, those before it ",
                   data.size_);
    }
    data.size_ = samples;
    data.stacks_.push_back(*std::move(stack));
  }
  if (labels.empty()) return data;
  const Tensor& classes = labels[0].second;
  const int64_t rows = data.types_[0].shape.rank() == 0 ? 1 : data.types_[0].shape[0];
  if (classes.shape().rank() != 1 || !IsInteger(classes.dtype()) || classes.num_elements() < data.size_ * rows) {
    return Error(ErrorCode::kShapeMismatch, labels[0].first, ": expected an integer for each of ", data.size_ * rows,
                 " samples, found ", classes.type());
  }
  for (int64_t k = 0; k < data.size_ * rows; ++k) data.labels_.push_back(classes.GetInt(k));
  return data;
}

StatusOr<int64_t> CountRight(const Graph& graph, DataSet& data, int threads) {
  const TensorType& logits = graph[graph.outputs[0]].type;
  if (logits.shape.rank() != 2 || !IsFloat(logits.dtype) || logits.shape[1] == 0 ||
      logits.shape[0] * data.size() > static_cast<int64_t>(data.labels().size())) {
    return Error(ErrorCode::kShapeMismatch, "accuracy needs an output [batch, classes] and a label for each row; the ",
                 "output is ", logits, ", there are ", data.labels().size(), " labels");
  }
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(graph));
  Options options;
  options.threads = threads;
  ASSIGN_OR_RETURN(Session session, model.Compile(options));
  std::vector<Tensor> inputs, outputs;
  for (ValueId id : graph.outputs) outputs.emplace_back(graph[id].type.dtype, graph[id].type.shape);
  int64_t right = 0, row = 0;
  data.Rewind();
  while (true) {
    ASSIGN_OR_RETURN(const bool more, data.Next(inputs));
    if (!more) return right;
    std::vector<const void*> in;
    std::vector<void*> out;
    for (const Tensor& input : inputs) in.push_back(input.bytes().data());
    for (Tensor& output : outputs) out.push_back(output.mutable_bytes().data());
    RETURN_IF_ERROR(session.RunPositional(in.data(), out.data()));
    for (int64_t b = 0; b < logits.shape[0]; ++b, ++row) {
      int64_t best = 0;
      for (int64_t c = 1; c < logits.shape[1]; ++c) {
        if (outputs[0].Get(b * logits.shape[1] + c) > outputs[0].Get(b * logits.shape[1] + best)) best = c;
      }
      right += best == data.labels()[static_cast<size_t>(row)];
    }
  }
}

}  // namespace tessera
