// Reads model files as what they are: bytes from a stranger. Four steps, each of which trusts only what the ones before
// have checked: the container's table; the FlatBuffer's own verifier with limits on depth and tables; every index,
// offset, size and count as it is used, with what is allocated charged to a budget; and Verify on the graph that came
// out.
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/file.h"
#include "graph/model_container.h"
#include "graph/model_file.h"
#include "graph/op_names.h"
#include "graph/schema/model_generated.h"
#include "graph/verifier.h"

namespace tessera {
namespace {

using internal::Section;

// Tables nest to depth 6: model, value, attribute, layer, grid, bits, data.
constexpr int kMaxDepth = 16;
constexpr int kMaxTables = 1 << 22;

template <typename... Pieces>
Status Corrupt(const Pieces&... pieces) {
  return Error(ErrorCode::kFileCorrupt, "model file: ", pieces...);
}

// What a file may still make us allocate.
class Budget {
 public:
  Budget(const ReadOptions& options, size_t file_size) {
    int64_t more = 0;
    if (__builtin_mul_overflow(static_cast<int64_t>(file_size), options.max_bytes_per_file_byte, &more) ||
        __builtin_add_overflow(more, options.max_bytes, &left_)) {
      left_ = INT64_MAX;
    }
  }
  Status Take(uint64_t bytes, std::string_view what) {
    if (bytes > static_cast<uint64_t>(left_)) {
      return Error(ErrorCode::kLimitExceeded, "model file: ", what, " would take ", bytes, " bytes of memory; ", left_,
                   " are left of what a file of this size may take (ReadOptions::max_bytes)");
    }
    left_ -= static_cast<int64_t>(bytes);
    return OkStatus();
  }

 private:
  int64_t left_ = 0;
};

struct Container {
  std::span<const std::byte> structure;
  std::span<const std::byte> data;
};

StatusOr<Container> ReadContainer(std::span<const std::byte> bytes) {
  internal::Header header;
  if (bytes.size() >= 8 && !IsTessFile({reinterpret_cast<const char*>(bytes.data()), 8})) {
    return Error(ErrorCode::kFormatUnknown, "expected a Tessera model file (.tess), found other bytes at its begin");
  }
  if (bytes.size() < sizeof(header)) {
    return Error(ErrorCode::kFileTruncated, "model file: expected a header of ", sizeof(header), " bytes, found ",
                 bytes.size());
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.version != internal::kContainerVersion) {
    return Error(ErrorCode::kVersionUnsupported, "model file: expected container version ", internal::kContainerVersion,
                 ", found ", header.version, "; a newer release may read it");
  }
  if (header.num_sections > internal::kMaxSections) {
    return Corrupt("expected at most ", internal::kMaxSections, " sections, found ", header.num_sections);
  }
  if (bytes.size() < sizeof(header) + header.num_sections * sizeof(Section)) {
    return Error(ErrorCode::kFileTruncated, "model file: ends within its table of sections");
  }
  Container container;
  for (uint32_t k = 0; k < header.num_sections; ++k) {
    Section section;
    std::memcpy(&section, bytes.data() + sizeof(header) + k * sizeof(Section), sizeof(Section));
    if (section.kind != internal::kStructure && section.kind != internal::kData) continue;
    if (section.offset % internal::kAlignment != 0) {
      return Corrupt("expected sections at multiples of ", internal::kAlignment, ", found one at ", section.offset);
    }
    if (section.offset > bytes.size() || section.size > bytes.size() - section.offset) {
      return Error(ErrorCode::kFileTruncated, "model file: section ", k, " has ", section.size, " bytes at ",
                   section.offset, ", but the file ends at ", bytes.size());
    }
    auto& place = section.kind == internal::kStructure ? container.structure : container.data;
    if (place.data() != nullptr)
      return Corrupt("expected each kind of section once, found kind ", section.kind, " twice");
    place = bytes.subspan(section.offset, section.size);
  }
  if (container.structure.empty()) return Corrupt("expected a structure section, found none");
  return container;
}

// Every half as a float: widening is then a table look-up.
const std::array<float, 65536>& HalvesAsFloats() {
  static const auto& table = *[] {
    auto* floats = new std::array<float, 65536>;
    Tensor halves(DType::kF16, {65536});
    auto bytes = halves.mutable_bytes();
    for (uint32_t k = 0; k < 65536; ++k) {
      const uint16_t bits = static_cast<uint16_t>(k);
      std::memcpy(bytes.data() + 2 * k, &bits, 2);
    }
    for (int64_t k = 0; k < 65536; ++k) (*floats)[static_cast<size_t>(k)] = static_cast<float>(halves.Get(k));
    return floats;
  }();
  return table;
}

// A vector that may be absent, as a range.
template <typename T>
struct Range {
  using Iterator = typename flatbuffers::Vector<T>::const_iterator;
  const flatbuffers::Vector<T>* vector;
  Iterator begin() const { return vector != nullptr ? vector->begin() : Iterator(); }
  Iterator end() const { return vector != nullptr ? vector->end() : Iterator(); }
};

template <typename T>
Range<T> Each(const flatbuffers::Vector<T>* vector) {
  return {vector};
}

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const ReadOptions& options)
      : bytes_(bytes), owner_(std::move(owner)), budget_(options, bytes.size()) {}

  StatusOr<ModelFile> Read() {
    ASSIGN_OR_RETURN(const Container container, ReadContainer(bytes_));
    data_ = container.data;
    ASSIGN_OR_RETURN(const fbs::Model* model, Structure(container.structure));
    RETURN_IF_ERROR(ReadNames(*model));
    ModelFile file;
    Graph& graph = file.graph;
    ASSIGN_OR_RETURN(graph.name, Text(model->name()));
    for (const fbs::KeyValue* entry : Each(model->metadata())) {
      ASSIGN_OR_RETURN(std::string key, Text(entry->key()));
      ASSIGN_OR_RETURN(std::string value, Text(entry->value()));
      graph.metadata[std::move(key)] = std::move(value);
    }
    for (const fbs::Value* value : Each(model->values())) {
      ASSIGN_OR_RETURN(Value read, ReadValue(*value));
      graph.values.push_back(std::move(read));
    }
    for (const fbs::Node* node : Each(model->nodes())) {
      ASSIGN_OR_RETURN(Node read, ReadNode(*node));
      graph.nodes.push_back(std::move(read));
    }
    ASSIGN_OR_RETURN(graph.inputs, Ids(model->inputs()));
    ASSIGN_OR_RETURN(graph.outputs, Ids(model->outputs()));
    RETURN_IF_ERROR(Verify(graph).WithContext("model file"));
    for (const fbs::TestVector* test : Each(model->tests())) {
      TestVector read;
      ASSIGN_OR_RETURN(read.name, Text(test->name()));
      ASSIGN_OR_RETURN(read.inputs, ReadTensors(test->inputs(), graph, graph.inputs));
      ASSIGN_OR_RETURN(read.outputs, ReadTensors(test->outputs(), graph, graph.outputs));
      file.tests.push_back(std::move(read));
    }
    return file;
  }

 private:
  StatusOr<const fbs::Model*> Structure(std::span<const std::byte> bytes) {
    // FlatBuffers reads numbers in place, so the buffer has to be aligned; a mapped file's is.
    if (reinterpret_cast<uintptr_t>(bytes.data()) % internal::kAlignment != 0) {
      RETURN_IF_ERROR(budget_.Take(bytes.size(), "an aligned copy of the structure"));
      aligned_ = Tensor(DType::kU8, {static_cast<int64_t>(bytes.size())});
      std::copy(bytes.begin(), bytes.end(), aligned_.mutable_bytes().begin());
      bytes = aligned_.bytes();
    }
    const auto* begin = reinterpret_cast<const uint8_t*>(bytes.data());
    if (bytes.size() >= FLATBUFFERS_MAX_BUFFER_SIZE) return Corrupt("expected a structure below 2 GiB");
    if (bytes.size() < 8 || !fbs::ModelBufferHasIdentifier(begin)) {
      return Corrupt("expected the identifier TESS in its structure");
    }
    flatbuffers::Verifier verifier(begin, bytes.size(), kMaxDepth, kMaxTables);
    if (!fbs::VerifyModelBuffer(verifier)) return Corrupt("its structure contradicts its schema");
    const fbs::Model* model = fbs::GetModel(begin);
    if (model->minimum_reader_version() > kModelSchemaVersion) {
      return Error(ErrorCode::kVersionUnsupported, "model file: expected schema version ", kModelSchemaVersion,
                   " or older, found one that needs a reader of version ", model->minimum_reader_version(),
                   "; use a newer release");
    }
    if (model->version() < 1 || model->minimum_reader_version() < 1) {
      return Corrupt("expected versions from 1 on, found ", model->version());
    }
    return model;
  }

  // The tables of names that the rest refers to by index.
  Status ReadNames(const fbs::Model& model) {
    for (const flatbuffers::String* name : Each(model.types())) {
      const std::optional<DType> dtype = ParseDType(std::string_view(name->data(), name->size()));
      if (!dtype) {
        return Error(ErrorCode::kVersionUnsupported, "model file: unknown element type '", Shown(name),
                     "'; a newer release may know it");
      }
      types_.push_back(*dtype);
    }
    for (const flatbuffers::String* name : Each(model.ops())) {
      const std::optional<Op> op = OpByName(std::string_view(name->data(), name->size()));
      if (!op) {
        return Error(ErrorCode::kOpUnknown, "model file: unknown op '", Shown(name), "'; a newer release may know it");
      }
      ops_.push_back(*op);
    }
    return OkStatus();
  }

  static std::string Shown(const flatbuffers::String* name) {
    return std::string(name->data(), std::min<size_t>(name->size(), 40));
  }

  StatusOr<std::string> Text(const flatbuffers::String* text) {
    if (text == nullptr) return std::string();
    RETURN_IF_ERROR(budget_.Take(text->size() + sizeof(Value), "a name"));
    return std::string(text->data(), text->size());
  }

  StatusOr<DType> Type(uint8_t index) const {
    if (index >= types_.size()) return Corrupt("expected one of ", types_.size(), " element types, found ", int{index});
    return types_[index];
  }

  template <typename T>
  StatusOr<std::vector<T>> Numbers(const flatbuffers::Vector<T>* vector) {
    if (vector == nullptr) return std::vector<T>();
    RETURN_IF_ERROR(budget_.Take(vector->size() * sizeof(T), "a list of numbers"));
    // FlatBuffers' verifier aligns a vector's length, not its elements: a forged one may lie anywhere.
    std::vector<T> numbers(vector->size());
    if (!numbers.empty()) std::memcpy(numbers.data(), vector->Data(), numbers.size() * sizeof(T));
    return numbers;
  }

  // Verify checks the range.
  StatusOr<std::vector<ValueId>> Ids(const flatbuffers::Vector<int32_t>* vector) {
    std::vector<ValueId> ids;
    RETURN_IF_ERROR(budget_.Take(vector == nullptr ? 0 : vector->size() * sizeof(ValueId), "a list of values"));
    for (int32_t id : Each(vector)) ids.push_back(static_cast<ValueId>(id));
    return ids;
  }

  StatusOr<TensorType> TypeOf(uint8_t type, const flatbuffers::Vector<int64_t>* dims) {
    TensorType result;
    ASSIGN_OR_RETURN(result.dtype, Type(type));
    ASSIGN_OR_RETURN(std::vector<int64_t> extents, Numbers(dims));
    result.shape = Shape(std::move(extents));
    RETURN_IF_ERROR(CheckShape(result.dtype, result.shape).WithContext("model file"));
    return result;
  }

  StatusOr<std::span<const std::byte>> DataBytes(const fbs::Data& data) const {
    if (data.offset() % internal::kAlignment != 0) {
      return Corrupt("expected data at a multiple of ", internal::kAlignment, ", found it at ", data.offset());
    }
    if (data.offset() > data_.size() || data.size() > data_.size() - data.offset()) {
      return Error(ErrorCode::kFileTruncated, "model file: expected ", data.size(), " bytes of data at ", data.offset(),
                   ", found a data section of ", data_.size());
    }
    return data_.subspan(data.offset(), data.size());
  }

  StatusOr<Tensor> ReadTensor(const fbs::Data* data, const TensorType& type, const Attribute* attribute) {
    if (data == nullptr) return Corrupt("expected data, found none");
    ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, DataBytes(*data));
    ASSIGN_OR_RETURN(const DType stored, Type(data->stored_type()));
    const bool widens = stored != type.dtype;
    if (widens && (stored != DType::kF16 || type.dtype != DType::kF32)) {
      return Corrupt("expected ", type.dtype, " stored as itself or, if f32, as f16; found ", stored);
    }
    if (data->kept_only() && attribute == nullptr) return Corrupt("found kept elements only, but no attribute");
    const int64_t count = data->kept_only() ? attribute->num_kept() : type.shape.num_elements();
    if (static_cast<int64_t>(bytes.size()) != ByteSize(stored, count)) {
      return Corrupt("expected ", ByteSize(stored, count), " bytes for ", count, " elements of ", stored, ", found ",
                     bytes.size());
    }
    if (!widens && !data->kept_only()) return InPlaceOrCopied(type, bytes);
    RETURN_IF_ERROR(
        budget_.Take(static_cast<uint64_t>(ByteSize(type.dtype, type.shape.num_elements())), "an expanded constant"));
    return Expanded(type, stored, bytes, data->kept_only() ? attribute : nullptr);
  }

  StatusOr<Tensor> InPlaceOrCopied(const TensorType& type, std::span<const std::byte> bytes) {
    const bool aligned = reinterpret_cast<uintptr_t>(bytes.data()) % internal::kAlignment == 0;
    const auto behind = static_cast<size_t>(bytes_.data() + bytes_.size() - (bytes.data() + bytes.size()));
    if (aligned && behind >= internal::kAlignment && owner_ != nullptr) {
      return Tensor::View(type.dtype, type.shape, bytes, owner_);
    }
    RETURN_IF_ERROR(budget_.Take(bytes.size(), "an aligned copy of a constant"));
    Tensor tensor(type.dtype, type.shape);
    std::copy(bytes.begin(), bytes.end(), tensor.mutable_bytes().begin());
    return tensor;
  }

  static Tensor Expanded(const TensorType& type, DType stored, std::span<const std::byte> bytes,
                         const Attribute* kept_by) {
    Tensor tensor(type.dtype, type.shape);
    const int64_t count = tensor.num_elements();
    const Bitmap kept = kept_by != nullptr ? kept_by->KeptBitmap() : Bitmap();
    const auto is_kept = [&](int64_t i) { return kept_by == nullptr || kept[i]; };
    if (stored != type.dtype) {
      const std::span<float> out = tensor.mutable_data<float>();
      size_t next = 0;
      for (int64_t i = 0; i < count; ++i) {
        if (!is_kept(i)) continue;
        uint16_t half;
        std::memcpy(&half, bytes.data() + 2 * next++, 2);
        out[static_cast<size_t>(i)] = HalvesAsFloats()[half];
      }
      return tensor;
    }
    const size_t width = static_cast<size_t>(TypeInfo(stored).bits / 8);
    if (width == 0) {
      Tensor packed(stored, {kept_by->num_kept()});
      std::copy(bytes.begin(), bytes.end(), packed.mutable_bytes().begin());
      int64_t next = 0;
      for (int64_t i = 0; i < count; ++i) {
        if (is_kept(i)) tensor.SetInt(i, packed.GetInt(next++));
      }
      return tensor;
    }
    std::byte* out = tensor.mutable_bytes().data();
    const std::byte* in = bytes.data();
    for (int64_t i = 0; i < count; ++i) {
      if (!is_kept(i)) continue;
      std::memcpy(out + static_cast<size_t>(i) * width, in, width);
      in += width;
    }
    return tensor;
  }

  StatusOr<Bitmap> ReadBits(const fbs::Bits* bits) {
    if (bits == nullptr) return Bitmap();
    if (bits->size() < 0) return Corrupt("expected a size of bits, found ", bits->size());
    const uint64_t size = static_cast<uint64_t>(bits->size());
    if (bits->data() == nullptr) {
      ASSIGN_OR_RETURN(std::vector<uint64_t> words, Numbers(bits->words()));
      if (words.size() != size / 64 + (size % 64 != 0)) {
        return Corrupt("expected ", size, " bits, found ", words.size(), " words");
      }
      return Bitmap::FromWords(bits->size(), std::move(words));
    }
    ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, DataBytes(*bits->data()));
    if (bytes.size() != size / 8 + (size % 8 != 0)) {
      return Corrupt("expected ", size, " bits, found ", bytes.size(), " bytes");
    }
    RETURN_IF_ERROR(budget_.Take(bytes.size() + 8, "a bitmap"));
    std::vector<uint64_t> words(bytes.size() / 8 + (bytes.size() % 8 != 0), 0);
    if (!bytes.empty()) std::memcpy(words.data(), bytes.data(), bytes.size());
    return Bitmap::FromWords(bits->size(), std::move(words));
  }

  StatusOr<Attribute> ReadAttribute(const fbs::Attribute& attribute, const Shape& shape) {
    std::vector<TesaLayer> layers;
    for (const fbs::Layer* layer : Each(attribute.layers())) {
      TesaLayer read;
      read.bits = layer->bits();
      ASSIGN_OR_RETURN(std::vector<int64_t> view, Numbers(layer->view()));
      read.view = Shape(std::move(view));
      for (const fbs::Grid* grid : Each(layer->grids())) {
        TesaGrid read_grid;
        ASSIGN_OR_RETURN(read_grid.block, Numbers(grid->block()));
        ASSIGN_OR_RETURN(read_grid.cells, ReadBits(grid->cells()));
        RETURN_IF_ERROR(budget_.Take(sizeof(TesaGrid), "a grid"));
        read.grids.push_back(std::move(read_grid));
      }
      // What checking may expand: a bitmap of the elements for each grid.
      RETURN_IF_ERROR(budget_.Take((read.grids.size() + 1) * (static_cast<uint64_t>(shape.num_elements()) / 8 + 64),
                                   "an attribute"));
      switch (layer->residual()) {
        case fbs::ResidualKind::None: read.residual.kind = TesaResidual::Kind::kNone; break;
        case fbs::ResidualKind::Bitmap: read.residual.kind = TesaResidual::Kind::kBitmap; break;
        case fbs::ResidualKind::Nm: read.residual.kind = TesaResidual::Kind::kNm; break;
        default: return Corrupt("unknown kind of residual ", static_cast<int>(layer->residual()));
      }
      read.residual.axis = layer->axis();
      read.residual.n = layer->n();
      read.residual.m = layer->m();
      ASSIGN_OR_RETURN(read.residual.data, ReadBits(layer->residual_data()));
      layers.push_back(std::move(read));
    }
    return Attribute::FromLayers(shape, std::move(layers));
  }

  StatusOr<Value> ReadValue(const fbs::Value& value) {
    Value read;
    ASSIGN_OR_RETURN(read.name, Text(value.name()));
    const std::string where = "value '" + read.name + "'";
    const auto fail = [&](const Status& status) { return status.WithContext(where); };
    if (auto type = TypeOf(value.type(), value.shape()); type.ok()) {
      read.type = *std::move(type);
    } else {
      return fail(type.status());
    }
    if (value.attribute() != nullptr) {
      StatusOr<Attribute> attribute = ReadAttribute(*value.attribute(), read.type.shape);
      if (!attribute.ok()) return fail(attribute.status());
      read.tesa = *std::move(attribute);
    }
    if (const fbs::Quantization* quantization = value.quantization()) {
      QuantParams quant;
      ASSIGN_OR_RETURN(quant.scales, Numbers(quantization->scales()));
      ASSIGN_OR_RETURN(quant.zero_points, Numbers(quantization->zero_points()));
      quant.axis = quantization->axis();
      quant.block_size = quantization->block_size();
      read.quant = std::move(quant);
    }
    switch (value.kind()) {
      case fbs::ValueKind::Input: read.kind = ValueKind::kInput; break;
      case fbs::ValueKind::Computed: read.kind = ValueKind::kComputed; break;
      case fbs::ValueKind::Constant: {
        read.kind = ValueKind::kConstant;
        StatusOr<Tensor> tensor = ReadTensor(value.data(), read.type, read.tesa ? &*read.tesa : nullptr);
        if (!tensor.ok()) return fail(tensor.status());
        read.constant = *std::move(tensor);
        break;
      }
      default: return fail(Corrupt("unknown kind of value ", static_cast<int>(value.kind())));
    }
    return read;
  }

  StatusOr<AttrValue> ReadParameter(const fbs::Parameter& parameter) {
    switch (parameter.kind()) {
      case fbs::ParameterKind::Int: return AttrValue(parameter.int_value());
      case fbs::ParameterKind::Float: return AttrValue(parameter.float_value());
      case fbs::ParameterKind::String: {
        ASSIGN_OR_RETURN(std::string text, Text(parameter.string_value()));
        return AttrValue(std::move(text));
      }
      case fbs::ParameterKind::Ints: {
        ASSIGN_OR_RETURN(std::vector<int64_t> ints, Numbers(parameter.ints()));
        return AttrValue(std::move(ints));
      }
      case fbs::ParameterKind::Floats: {
        ASSIGN_OR_RETURN(std::vector<double> floats, Numbers(parameter.floats()));
        return AttrValue(std::move(floats));
      }
      case fbs::ParameterKind::Type: {
        ASSIGN_OR_RETURN(const DType dtype, Type(parameter.type()));
        return AttrValue(dtype);
      }
    }
    return Corrupt("unknown kind of parameter ", static_cast<int>(parameter.kind()));
  }

  StatusOr<Node> ReadNode(const fbs::Node& node) {
    if (node.op() >= ops_.size()) return Corrupt("expected one of ", ops_.size(), " ops, found ", node.op());
    Node read = {.op = ops_[node.op()]};
    ASSIGN_OR_RETURN(read.name, Text(node.name()));
    ASSIGN_OR_RETURN(read.inputs, Ids(node.inputs()));
    ASSIGN_OR_RETURN(read.outputs, Ids(node.outputs()));
    for (const fbs::Parameter* parameter : Each(node.parameters())) {
      ASSIGN_OR_RETURN(const std::string name, Text(parameter->name()));
      ASSIGN_OR_RETURN(AttrValue value, ReadParameter(*parameter));
      if (read.attrs.Has(name)) return Corrupt("node '", read.name, "': parameter '", name, "' stands twice");
      read.attrs.Set(name, std::move(value));
    }
    if (const fbs::Epilogue* epilogue = node.epilogue()) {
      Epilogue read_epilogue;
      ASSIGN_OR_RETURN(const std::string body, Text(epilogue->body()));
      StatusOr<Body> parsed = ParseBody(body);
      if (!parsed.ok()) return parsed.status().WithContext("node '" + read.name + "'");
      RETURN_IF_ERROR(budget_.Take(parsed->insts.size() * sizeof(ScalarInst), "a body"));
      read_epilogue.body = *std::move(parsed);
      ASSIGN_OR_RETURN(read_epilogue.inputs, Ids(epilogue->inputs()));
      ASSIGN_OR_RETURN(read_epilogue.dtype, Type(epilogue->type()));
      read.epilogue = std::move(read_epilogue);
    }
    return read;
  }

  StatusOr<std::vector<std::pair<std::string, Tensor>>> ReadTensors(
      const flatbuffers::Vector<flatbuffers::Offset<fbs::NamedTensor>>* tensors, const Graph& graph,
      const std::vector<ValueId>& allowed) {
    std::vector<std::pair<std::string, Tensor>> read;
    for (const fbs::NamedTensor* tensor : Each(tensors)) {
      ASSIGN_OR_RETURN(std::string name, Text(tensor->name()));
      ASSIGN_OR_RETURN(const TensorType type, TypeOf(tensor->type(), tensor->shape()));
      const auto known = [&](ValueId id) { return graph[id].name == name && graph[id].type == type; };
      if (std::none_of(allowed.begin(), allowed.end(), known)) {
        return Corrupt("a test vector has '", name, "' of type ", type, ", which the graph has not");
      }
      ASSIGN_OR_RETURN(Tensor data, ReadTensor(tensor->data(), type, nullptr));
      read.emplace_back(std::move(name), std::move(data));
    }
    return read;
  }

  const std::span<const std::byte> bytes_;
  const std::shared_ptr<const void> owner_;
  Budget budget_;
  std::span<const std::byte> data_;
  Tensor aligned_;  // the structure, where it had to be moved
  std::vector<DType> types_;
  std::vector<Op> ops_;
};

}  // namespace

bool IsTessFile(std::string_view prefix) { return prefix.substr(0, internal::kMagic.size()) == internal::kMagic; }

StatusOr<ModelFile> ReadModelFileFromMemory(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                            const ReadOptions& options) {
  return Reader(bytes, std::move(owner), options).Read();
}

StatusOr<ModelFile> ReadModelFile(const std::string& path, const ReadOptions& options) {
  ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  auto file = std::make_shared<const MappedFile>(std::move(mapped));
  StatusOr<ModelFile> model = ReadModelFileFromMemory(file->bytes(), file, options);
  if (!model.ok()) return model.status().WithContext("'" + path + "'");
  return model;
}

StatusOr<Graph> ReadModel(const std::string& path, const ReadOptions& options) {
  ASSIGN_OR_RETURN(ModelFile file, ReadModelFile(path, options));
  return std::move(file.graph);
}

StatusOr<Graph> ReadModelFromMemory(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                    const ReadOptions& options) {
  ASSIGN_OR_RETURN(ModelFile file, ReadModelFileFromMemory(bytes, std::move(owner), options));
  return std::move(file.graph);
}

}  // namespace tessera
