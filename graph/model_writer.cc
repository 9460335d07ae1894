// Writes model files in two passes: the structure, while deciding where each piece of data will lie and how it is
// encoded; then header, structure and data in turn, encoding one tensor at a time, so that no second copy of a model is
// needed.
#include <cmath>
#include <cstring>
#include <functional>
#include <map>

#include "base/file.h"
#include "graph/model_container.h"
#include "graph/model_file.h"
#include "graph/op_names.h"
#include "graph/schema/model_generated.h"
#include "graph/verifier.h"

namespace tessera {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

// Takes the bytes of the file in order.
using Sink = std::function<Status(std::span<const std::byte>)>;

std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

// A piece of the data section.
struct Piece {
  const Tensor* tensor = nullptr;  // or:
  const Bitmap* bitmap = nullptr;
  const Attribute* attribute = nullptr;  // of a tensor whose pruned elements are left out
  DType stored = DType::kF32;
  uint64_t offset = 0;
  uint64_t size = 0;
};

// Would rounding to f16 turn a finite value into an infinity?
bool FitsHalf(const Tensor& tensor) {
  for (float value : tensor.data<float>()) {
    if (std::isfinite(value) && std::fabs(value) >= 65520.0f) return false;
  }
  return true;
}

class Writer {
 public:
  Writer(const Graph& graph, const WriteOptions& options) : graph_(graph), options_(options) {}

  Status Write(const Sink& sink) {
    BuildStructure();
    const std::string_view structure(reinterpret_cast<const char*>(builder_.GetBufferPointer()), builder_.GetSize());
    internal::Header header = {.version = internal::kContainerVersion, .num_sections = 2};
    std::memcpy(header.magic, internal::kMagic.data(), sizeof(header.magic));
    internal::Section sections[2] = {{.kind = internal::kStructure, .size = structure.size()},
                                     {.kind = internal::kData, .size = data_size_}};
    sections[0].offset = internal::AlignUp(sizeof(header) + sizeof(sections));
    sections[1].offset = internal::AlignUp(sections[0].offset + sections[0].size);
    uint64_t at = 0;
    const auto append = [&](std::span<const std::byte> bytes) {
      at += bytes.size();
      return sink(bytes);
    };
    const auto pad_to = [&](uint64_t offset) {
      // A multiple of the alignment, and at most two of them beyond `at`.
      static constexpr std::byte kZeros[2 * internal::kAlignment] = {};
      return append(std::span<const std::byte>(kZeros).first(offset - at));
    };
    RETURN_IF_ERROR(append(std::as_bytes(std::span<const internal::Header>(&header, 1))));
    RETURN_IF_ERROR(append(std::as_bytes(std::span<const internal::Section>(sections))));
    RETURN_IF_ERROR(pad_to(sections[0].offset));
    RETURN_IF_ERROR(append(BytesOf(structure)));
    RETURN_IF_ERROR(pad_to(sections[1].offset));
    for (const Piece& piece : pieces_) {
      RETURN_IF_ERROR(pad_to(sections[1].offset + piece.offset));
      RETURN_IF_ERROR(WritePiece(piece, append));
    }
    return pad_to(sections[1].offset + data_size_);
  }

 private:
  template <typename Append>
  Status WritePiece(const Piece& piece, const Append& append) {
    if (piece.bitmap != nullptr) return append(std::as_bytes(piece.bitmap->words()).first(piece.size));
    const Tensor& tensor = *piece.tensor;
    Tensor encoded = tensor;
    if (piece.attribute != nullptr) {
      const std::vector<int64_t> kept = piece.attribute->KeptBitmap().Positions();
      encoded = Tensor(tensor.dtype(), {static_cast<int64_t>(kept.size())});
      const std::span<std::byte> out = encoded.mutable_bytes();
      const size_t width = static_cast<size_t>(TypeInfo(tensor.dtype()).bits / 8);
      for (size_t k = 0; k < kept.size(); ++k) {
        if (width > 0) {
          std::memcpy(out.data() + k * width, tensor.bytes().data() + static_cast<size_t>(kept[k]) * width, width);
        } else {
          encoded.SetInt(static_cast<int64_t>(k), tensor.GetInt(kept[k]));
        }
      }
    }
    if (piece.stored != tensor.dtype()) encoded = encoded.Cast(piece.stored);
    TES_CHECK(encoded.bytes().size() == piece.size, encoded.bytes().size(), " for ", piece.size);
    return append(encoded.bytes());
  }

  // Gives the piece its place; behind each lies at least one spare vector.
  Offset<fbs::Data> Place(Piece piece) {
    piece.offset = data_size_;
    data_size_ = internal::AlignUp(data_size_ + piece.size + internal::kAlignment);
    const auto data =
        fbs::CreateData(builder_, piece.offset, piece.size,
                        piece.bitmap != nullptr ? uint8_t{0} : TypeIndex(piece.stored), piece.attribute != nullptr);
    pieces_.push_back(piece);
    return data;
  }

  Offset<fbs::Data> PlaceTensor(const Tensor& tensor, const Attribute* attribute, bool may_round) {
    Piece piece = {.tensor = &tensor, .stored = tensor.dtype()};
    if (may_round && options_.store == WriteOptions::Store::kF16 && tensor.dtype() == DType::kF32 &&
        tensor.shape().rank() >= 2 && FitsHalf(tensor)) {
      piece.stored = DType::kF16;
    }
    int64_t count = tensor.num_elements();
    if (options_.kept_only && attribute != nullptr && attribute->num_kept() <= count - count / 4 &&
        !attribute->keeps_all()) {
      piece.attribute = attribute;
      count = attribute->num_kept();
    }
    piece.size = static_cast<uint64_t>(ByteSize(piece.stored, count));
    return Place(piece);
  }

  uint8_t TypeIndex(DType dtype) {
    const auto [found, added] = type_index_.emplace(dtype, static_cast<uint8_t>(types_.size()));
    if (added) types_.push_back(std::string(Name(dtype)));
    return found->second;
  }
  uint16_t OpIndex(Op op) {
    const auto [found, added] = op_index_.emplace(op, static_cast<uint16_t>(ops_.size()));
    if (added) ops_.push_back(std::string(OpName(op)));
    return found->second;
  }

  template <typename T>
  Offset<flatbuffers::Vector<T>> Vector(std::span<const T> values) {
    return builder_.CreateVector(values.data(), values.size());
  }
  Offset<flatbuffers::Vector<int64_t>> Longs(const std::vector<int64_t>& values) {
    return Vector(std::span<const int64_t>(values));
  }
  Offset<flatbuffers::Vector<int32_t>> Ids(const std::vector<ValueId>& ids) {
    std::vector<int32_t> numbers;
    for (ValueId id : ids) numbers.push_back(Index(id));
    return Vector(std::span<const int32_t>(numbers));
  }

  Offset<fbs::Bits> BuildBits(const Bitmap& bitmap) {
    const int64_t bytes = (bitmap.size() + 7) / 8;
    if (bytes <= internal::kMaxInlineBitmapBytes) {
      const auto words = Vector(bitmap.words());
      return fbs::CreateBits(builder_, bitmap.size(), words);
    }
    const auto data = Place({.bitmap = &bitmap, .size = static_cast<uint64_t>(bytes)});
    return fbs::CreateBits(builder_, bitmap.size(), 0, data);
  }

  Offset<fbs::Attribute> BuildAttribute(const Attribute& attribute) {
    std::vector<Offset<fbs::Layer>> layers;
    for (const TesaLayer& layer : attribute.layers()) {
      std::vector<Offset<fbs::Grid>> grids;
      for (const TesaGrid& grid : layer.grids) {
        const auto block = Longs(grid.block);
        const auto cells = BuildBits(grid.cells);
        grids.push_back(fbs::CreateGrid(builder_, block, cells));
      }
      const TesaResidual& residual = layer.residual;
      const bool thinned = residual.kind != TesaResidual::Kind::kNone;
      const auto view = Longs(layer.view.dims());
      const auto grid_list = builder_.CreateVector(grids);
      const auto data = thinned ? BuildBits(residual.data) : Offset<fbs::Bits>();
      const fbs::ResidualKind kind = residual.kind == TesaResidual::Kind::kNone     ? fbs::ResidualKind::None
                                     : residual.kind == TesaResidual::Kind::kBitmap ? fbs::ResidualKind::Bitmap
                                                                                    : fbs::ResidualKind::Nm;
      layers.push_back(fbs::CreateLayer(builder_, static_cast<uint8_t>(layer.bits), view, grid_list, kind,
                                        residual.axis, residual.n, residual.m, data));
    }
    return fbs::CreateAttribute(builder_, builder_.CreateVector(layers));
  }

  Offset<fbs::Value> BuildValue(const Value& value) {
    const auto name = builder_.CreateString(value.name);
    const auto shape = Longs(value.type.shape.dims());
    Offset<fbs::Data> data;
    if (value.kind == ValueKind::kConstant) {
      data = PlaceTensor(value.constant, value.tesa ? &*value.tesa : nullptr, /*may_round=*/true);
    }
    Offset<fbs::Attribute> attribute;
    if (value.tesa) attribute = BuildAttribute(*value.tesa);
    Offset<fbs::Quantization> quantization;
    if (value.quant) {
      const auto scales = Vector(std::span<const double>(value.quant->scales));
      const auto zero_points = Longs(value.quant->zero_points);
      quantization = fbs::CreateQuantization(builder_, scales, zero_points, value.quant->axis, value.quant->block_size);
    }
    const fbs::ValueKind kind = value.kind == ValueKind::kInput      ? fbs::ValueKind::Input
                                : value.kind == ValueKind::kConstant ? fbs::ValueKind::Constant
                                                                     : fbs::ValueKind::Computed;
    return fbs::CreateValue(builder_, name, TypeIndex(value.type.dtype), shape, kind, data, attribute, quantization);
  }

  Offset<fbs::Parameter> BuildParameter(const std::string& name, const AttrValue& value) {
    // Strings and vectors are made before the table that holds them.
    const auto name_offset = builder_.CreateString(name);
    Offset<flatbuffers::String> text;
    Offset<flatbuffers::Vector<int64_t>> ints;
    Offset<flatbuffers::Vector<double>> floats;
    if (const auto* v = std::get_if<std::string>(&value)) text = builder_.CreateString(*v);
    if (const auto* v = std::get_if<std::vector<int64_t>>(&value)) ints = Longs(*v);
    if (const auto* v = std::get_if<std::vector<double>>(&value)) floats = Vector(std::span<const double>(*v));
    fbs::ParameterBuilder parameter(builder_);
    parameter.add_name(name_offset);
    switch (static_cast<AttrKind>(value.index())) {
      case AttrKind::kInt:
        parameter.add_kind(fbs::ParameterKind::Int);
        parameter.add_int_value(std::get<int64_t>(value));
        break;
      case AttrKind::kFloat:
        parameter.add_kind(fbs::ParameterKind::Float);
        parameter.add_float_value(std::get<double>(value));
        break;
      case AttrKind::kString:
        parameter.add_kind(fbs::ParameterKind::String);
        parameter.add_string_value(text);
        break;
      case AttrKind::kInts:
        parameter.add_kind(fbs::ParameterKind::Ints);
        parameter.add_ints(ints);
        break;
      case AttrKind::kFloats:
        parameter.add_kind(fbs::ParameterKind::Floats);
        parameter.add_floats(floats);
        break;
      case AttrKind::kDType:
        parameter.add_kind(fbs::ParameterKind::Type);
        parameter.add_type(TypeIndex(std::get<DType>(value)));
        break;
    }
    return parameter.Finish();
  }

  Offset<fbs::Node> BuildNode(const Node& node) {
    const auto name = builder_.CreateString(node.name);
    const auto inputs = Ids(node.inputs), outputs = Ids(node.outputs);
    std::vector<Offset<fbs::Parameter>> parameters;
    for (const auto& [key, value] : node.attrs) parameters.push_back(BuildParameter(key, value));
    const auto parameter_list = builder_.CreateVector(parameters);
    Offset<fbs::Epilogue> epilogue;
    if (node.epilogue) {
      const auto body = builder_.CreateString(node.epilogue->body.ToString());
      const auto operands = Ids(node.epilogue->inputs);
      epilogue = fbs::CreateEpilogue(builder_, body, operands, TypeIndex(node.epilogue->dtype));
    }
    return fbs::CreateNode(builder_, OpIndex(node.op), name, inputs, outputs, parameter_list, epilogue);
  }

  Offset<flatbuffers::Vector<Offset<fbs::NamedTensor>>> BuildTensors(
      const std::vector<std::pair<std::string, Tensor>>& tensors) {
    std::vector<Offset<fbs::NamedTensor>> offsets;
    for (const auto& [name, tensor] : tensors) {
      const auto name_offset = builder_.CreateString(name);
      const auto shape = Longs(tensor.shape().dims());
      const auto data = PlaceTensor(tensor, nullptr, /*may_round=*/false);
      offsets.push_back(fbs::CreateNamedTensor(builder_, name_offset, TypeIndex(tensor.dtype()), shape, data));
    }
    return builder_.CreateVector(offsets);
  }

  void BuildStructure() {
    std::vector<Offset<fbs::Value>> values;
    for (const Value& value : graph_.values) values.push_back(BuildValue(value));
    std::vector<Offset<fbs::Node>> nodes;
    for (const Node& node : graph_.nodes) nodes.push_back(BuildNode(node));
    std::vector<Offset<fbs::TestVector>> tests;
    for (const TestVector& test : options_.tests) {
      const auto name = builder_.CreateString(test.name);
      const auto inputs = BuildTensors(test.inputs), outputs = BuildTensors(test.outputs);
      tests.push_back(fbs::CreateTestVector(builder_, name, inputs, outputs));
    }
    std::vector<Offset<fbs::KeyValue>> metadata;
    for (const auto& [key, value] : graph_.metadata) {
      const auto key_offset = builder_.CreateString(key), value_offset = builder_.CreateString(value);
      metadata.push_back(fbs::CreateKeyValue(builder_, key_offset, value_offset));
    }
    const auto producer = builder_.CreateString(options_.producer), name = builder_.CreateString(graph_.name);
    const auto metadata_list = builder_.CreateVector(metadata);
    const auto types = builder_.CreateVectorOfStrings(types_), ops = builder_.CreateVectorOfStrings(ops_);
    const auto value_list = builder_.CreateVector(values);
    const auto node_list = builder_.CreateVector(nodes);
    const auto inputs = Ids(graph_.inputs), outputs = Ids(graph_.outputs);
    const auto test_list = builder_.CreateVector(tests);
    constexpr int kMinimumReaderVersion = 1;
    fbs::FinishModelBuffer(
        builder_, fbs::CreateModel(builder_, kModelSchemaVersion, kMinimumReaderVersion, producer, name, metadata_list,
                                   types, ops, value_list, node_list, inputs, outputs, test_list));
  }

  const Graph& graph_;
  const WriteOptions& options_;
  FlatBufferBuilder builder_;
  std::vector<std::string> types_, ops_;
  std::map<DType, uint8_t> type_index_;
  std::map<Op, uint16_t> op_index_;
  std::vector<Piece> pieces_;
  uint64_t data_size_ = 0;
};

// FlatBuffers ends the process when a buffer grows beyond 2 GiB; so what goes into it is counted before.
Status CheckStructureSize(const Graph& graph) {
  constexpr int64_t kMaxBytes = int64_t{1} << 30;
  int64_t bytes = 0;
  for (const Value& value : graph.values) {
    bytes += static_cast<int64_t>(value.name.size()) + 256;
    if (value.quant) bytes += static_cast<int64_t>(value.quant->scales.size() * 16);
    if (value.tesa) {
      for (const TesaLayer& layer : value.tesa->layers()) {
        bytes += 512 + static_cast<int64_t>(layer.grids.size() + 1) * (internal::kMaxInlineBitmapBytes + 256);
      }
    }
  }
  for (const Node& node : graph.nodes) {
    bytes += static_cast<int64_t>(node.name.size() + node.inputs.size() * 8) + 256;
    if (node.epilogue) bytes += static_cast<int64_t>(node.epilogue->body.insts.size()) * 64;
    for (const auto& [name, value] : node.attrs) {
      bytes += static_cast<int64_t>(name.size()) + 128;
      if (const auto* v = std::get_if<std::string>(&value)) bytes += static_cast<int64_t>(v->size());
      if (const auto* v = std::get_if<std::vector<int64_t>>(&value)) bytes += static_cast<int64_t>(v->size()) * 8;
      if (const auto* v = std::get_if<std::vector<double>>(&value)) bytes += static_cast<int64_t>(v->size()) * 8;
    }
  }
  for (const auto& [key, value] : graph.metadata) bytes += static_cast<int64_t>(key.size() + value.size()) + 32;
  if (bytes <= kMaxBytes) return OkStatus();
  return Error(ErrorCode::kLimitExceeded, "the structure of graph '", graph.name, "' would take about ", bytes,
               " bytes; the limit is ", kMaxBytes);
}

Status CheckTests(const Graph& graph, const std::vector<TestVector>& tests) {
  for (const TestVector& test : tests) {
    for (const auto& [list, is_input] : {std::pair(&test.inputs, true), std::pair(&test.outputs, false)}) {
      for (const auto& [name, tensor] : *list) {
        const ValueId id = graph.FindValue(name);
        const std::vector<ValueId>& ids = is_input ? graph.inputs : graph.outputs;
        if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
          return Error(ErrorCode::kInputUnknown, "test vector '", test.name, "': expected ",
                       is_input ? "an input" : "an output", " of the graph, found '", name, "'");
        }
        if (tensor.type() != graph[id].type) {
          return Error(ErrorCode::kShapeMismatch, "test vector '", test.name, "': expected '", name, "' of type ",
                       graph[id].type, ", found ", tensor.type());
        }
      }
    }
  }
  return OkStatus();
}

Status WriteTo(const Graph& graph, const WriteOptions& options, const Sink& sink) {
  RETURN_IF_ERROR(Verify(graph));
  RETURN_IF_ERROR(CheckTests(graph, options.tests));
  RETURN_IF_ERROR(CheckStructureSize(graph));
  return Writer(graph, options).Write(sink);
}

}  // namespace

Status WriteModel(const Graph& graph, const std::string& path, const WriteOptions& options) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(WriteTo(graph, options, [&](std::span<const std::byte> bytes) { return file.Append(bytes); }));
  return file.Commit();
}

StatusOr<std::string> WriteModelToString(const Graph& graph, const WriteOptions& options) {
  std::string out;
  RETURN_IF_ERROR(WriteTo(graph, options, [&](std::span<const std::byte> bytes) {
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return OkStatus();
  }));
  return out;
}

}  // namespace tessera
