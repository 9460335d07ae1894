// Tests model files: what is written is read back, in place or expanded as asked; and no bytes, cut, flipped or forged,
// give anything but a graph or an error.
#include "graph/model_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>

#include "base/file.h"
#include "graph/model_container.h"
#include "graph/op_names.h"
#include "graph/schema/model_generated.h"
#include "graph/testing/random_graph.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string TempPath(const std::string& name) { return testing::TempDir() + "/" + name; }

// `bytes` in memory that is aligned as a mapping is, and exactly as long.
struct InMemory {
  explicit InMemory(std::string_view text) : tensor(DType::kU8, {static_cast<int64_t>(text.size())}) {
    std::memcpy(tensor.mutable_bytes().data(), text.data(), text.size());
  }
  std::span<const std::byte> bytes() const { return tensor.bytes(); }
  std::shared_ptr<const void> owner() const { return std::make_shared<Tensor>(tensor); }
  Tensor tensor;
};

StatusOr<Graph> Read(std::string_view text, const ReadOptions& options = {}) {
  const InMemory memory(text);
  return ReadModelFromMemory(memory.bytes(), memory.owner(), options);
}

std::string Written(const Graph& graph, const WriteOptions& options = {}) {
  StatusOr<std::string> bytes = WriteModelToString(graph, options);
  TES_CHECK(bytes.ok(), bytes.status());
  return *std::move(bytes);
}

Graph Small() {
  StatusOr<Graph> graph = ParseAndVerify(R"(graph "small" {
    metadata "source" = "hand"
    %x: f32[2,64] = input
    %w: f32[64,32] tesa(scattered kept 25%) = constant random(seed = 1)
    %b: f32[32] = constant random(seed = 2)
    %h: f32[2,32] = matmul "fc"(%x, %w) epilogue(%b): f32 (a: f32, b: f32) { t2 = add(a, b); return t2 }
    %s: f32[2,32] = softmax(%h) {axis = 1}
    %c: f32[2,32] = clip(%s) {min = 0.0, max = 6.0}
    %p: f32[2,34] = pad(%c) {pads = [0, 1, 0, 1], mode = "constant", value = 0.5}
    %i: i8[2,34] quant(scales=[0.5], zero_points=[3]) = cast(%p) {to = i8}
    return %i
  })");
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

TEST(ModelFile, RandomGraphsReadBack) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    Random random(seed);
    const Graph graph = RandomGraph(random, {.max_nodes = 40});
    const std::string bytes = Written(graph);
    EXPECT_TRUE(IsTessFile(bytes));
    ASSERT_OK_AND_ASSIGN(const Graph again, Read(bytes));
    ASSERT_TRUE(again == graph) << "seed " << seed << "\n" << PrintGraph(graph) << PrintGraph(again);
    EXPECT_EQ(Written(again), bytes) << "the same graph gives the same bytes";
    // Leaving out what is pruned loses nothing, since pruned elements are 0.
    ASSERT_OK_AND_ASSIGN(const Graph expanded, Read(Written(graph, {.kept_only = true})));
    ASSERT_TRUE(expanded == graph) << "seed " << seed;
  }
}

TEST(ModelFile, EveryElementTypeReadsBack) {
  Random random(1);
  Graph graph;
  for (int k = 0; k <= static_cast<int>(DType::kBool); ++k) {
    for (const Shape& shape : {Shape{7, 9}, Shape(), Shape{0, 3}, Shape{1}}) {
      Value value = {.name = "v" + std::to_string(graph.values.size()), .kind = ValueKind::kConstant};
      value.type = {static_cast<DType>(k), shape};
      value.constant = RandomTensor(random, value.type);
      if (shape.rank() == 2) {
        value.tesa = RandomAttribute(random, shape, Pattern::Scattered(), 0.4, TypeInfo(value.type.dtype).bits);
        value.constant = value.tesa->ApplyTo(value.constant);
      }
      graph.outputs.push_back(graph.AddValue(std::move(value)));
    }
  }
  for (bool kept_only : {false, true}) {
    ASSERT_OK_AND_ASSIGN(const Graph again, Read(Written(graph, {.kept_only = kept_only})));
    EXPECT_TRUE(again == graph) << PrintGraph(graph) << PrintGraph(again);
  }
}

// Every form of region, several widths and layers; on constants, inputs and computed values.
TEST(ModelFile, AttributesOfEveryKindReadBack) {
  Random random(5);
  for (int round = 0; round < 60; ++round) {
    Graph graph;
    const Shape shape = RandomShape(random, static_cast<int>(random.Int(1, 4)), 1, 20);
    for (const char* name : {"x", "w", "y"}) {
      const ValueKind kind = *name == 'x'   ? ValueKind::kInput
                             : *name == 'w' ? ValueKind::kConstant
                                            : ValueKind::kComputed;
      Value value = {.name = name, .type = {DType::kF32, shape}, .kind = kind};
      value.tesa = RandomAttributeOfAnyKind(random, shape);
      if (kind == ValueKind::kConstant) value.constant = value.tesa->ApplyTo(RandomTensor(random, value.type));
      graph.AddValue(std::move(value));
    }
    graph.inputs = {ValueId{0}};
    graph.outputs = {ValueId{2}};
    Node node = {.op = Op::kAdd, .name = "add"};
    node.inputs = {ValueId{0}, ValueId{1}};
    node.outputs = {ValueId{2}};
    graph.nodes.push_back(std::move(node));
    ASSERT_OK(Verify(graph));
    for (bool kept_only : {false, true}) {
      ASSERT_OK_AND_ASSIGN(const Graph again, Read(Written(graph, {.kept_only = kept_only})));
      ASSERT_EQ(again.values.size(), 3u);
      for (size_t k = 0; k < 3; ++k) {
        // Layer by layer, not only element by element.
        ASSERT_TRUE(again.values[k].tesa.has_value());
        EXPECT_TRUE(std::equal(again.values[k].tesa->layers().begin(), again.values[k].tesa->layers().end(),
                               graph.values[k].tesa->layers().begin(), graph.values[k].tesa->layers().end()));
      }
      EXPECT_TRUE(again == graph);
    }
    ASSERT_OK_AND_ASSIGN(const Graph parsed, ParseAndVerify(PrintGraph(graph)));
    EXPECT_TRUE(parsed == graph);
  }
}

TEST(ModelFile, ConstantsAreUsedInPlace) {
  const std::string path = TempPath("in_place.tess");
  const Graph graph = Small();
  ASSERT_OK(WriteModel(graph, path));
  const Tensor* weights = nullptr;
  ASSERT_OK_AND_ASSIGN(const Graph again, ReadModel(path));
  EXPECT_TRUE(again == graph);
  for (const Value& value : again.values) {
    if (value.kind != ValueKind::kConstant) continue;
    weights = &value.constant;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(value.constant.bytes().data()) % 64, 0u) << value.name;
  }
  ASSERT_NE(weights, nullptr);
  // Views into one owner: the memory given is the memory used.
  const std::string bytes = Written(graph);
  const InMemory memory(bytes);
  ASSERT_OK_AND_ASSIGN(const Graph viewed, ReadModelFromMemory(memory.bytes(), memory.owner()));
  for (const Value& value : viewed.values) {
    if (value.kind != ValueKind::kConstant) continue;
    const std::byte* begin = value.constant.bytes().data();
    EXPECT_TRUE(begin >= memory.bytes().data() &&
                begin + value.constant.byte_size() + 64 <= memory.bytes().data() + memory.bytes().size())
        << value.name;
  }
  // The mapping outlives the file's name and the graph it came with.
  const Tensor kept = *weights;
  std::filesystem::remove(path);
  const Tensor copy = graph[graph.FindValue("b")].constant;
  EXPECT_EQ(again[again.FindValue("b")].constant, copy);
}

TEST(ModelFile, UnalignedMemoryIsCopied) {
  const Graph graph = Small();
  const std::string bytes = Written(graph);
  for (size_t shift : {1, 8, 32}) {
    const InMemory memory(std::string(shift, ' ') + bytes);
    ASSERT_OK_AND_ASSIGN(const Graph again, ReadModelFromMemory(memory.bytes().subspan(shift), memory.owner()));
    EXPECT_TRUE(again == graph);
    for (const Value& value : again.values) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(value.constant.bytes().data()) % 64, 0u);
    }
  }
  ASSERT_OK_AND_ASSIGN(const Graph again, ReadModelFromMemory(InMemory(bytes).bytes(), nullptr));
  EXPECT_TRUE(again == graph) << "without an owner nothing may refer to the bytes";
}

TEST(ModelFile, HalvesAreSmallAndRoundOnce) {
  Graph graph = Small();
  const ValueId w = graph.FindValue("w"), b = graph.FindValue("b");
  ASSERT_OK_AND_ASSIGN(const Graph again, Read(Written(graph, {.store = WriteOptions::Store::kF16})));
  EXPECT_EQ(again[w].type.dtype, DType::kF32);
  EXPECT_EQ(again[w].constant, graph[w].constant.Cast(DType::kF16).Cast(DType::kF32));
  EXPECT_EQ(again[b].constant, graph[b].constant) << "vectors stay exact";
  EXPECT_TRUE(*Read(Written(again, {.store = WriteOptions::Store::kF16})) == again) << "rounding twice changes nothing";
  // One value that a half cannot hold keeps the tensor as it is.
  graph[w].tesa.reset();
  graph[w].constant.Set(5, 70000);
  ASSERT_OK_AND_ASSIGN(const Graph wide, Read(Written(graph, {.store = WriteOptions::Store::kF16})));
  EXPECT_EQ(wide[w].constant, graph[w].constant);
}

TEST(ModelFile, PrunedHalvesAreSmallest) {
  Random random(3);
  Graph graph;
  Value value = {.name = "w", .type = {DType::kF32, {512, 512}}, .kind = ValueKind::kConstant};
  value.tesa = RandomAttribute(random, {512, 512}, Pattern::Block(32, 32), 0.1, 32);
  value.constant = value.tesa->ApplyTo(RandomTensor(random, value.type));
  graph.outputs = {graph.AddValue(value)};
  const auto kept = static_cast<size_t>(value.tesa->num_kept());
  const size_t exact = Written(graph).size();
  const size_t both = Written(graph, {.store = WriteOptions::Store::kF16, .kept_only = true}).size();
  EXPECT_GT(exact, size_t{4} * 512 * 512);
  EXPECT_LT(both, 2 * kept + 2000);
  ASSERT_OK_AND_ASSIGN(const Graph again,
                       Read(Written(graph, {.store = WriteOptions::Store::kF16, .kept_only = true})));
  EXPECT_EQ(again.values[0].constant, value.constant.Cast(DType::kF16).Cast(DType::kF32));
  EXPECT_EQ(again.values[0].tesa, value.tesa);
}

TEST(ModelFile, TestVectorsTravelAlong) {
  Random random(4);
  const Graph graph = Small();
  TestVector test = {.name = "first"};
  test.inputs = {{"x", RandomTensor(random, graph.values[0].type)}};
  test.outputs = {{"i", RandomTensor(random, graph[graph.outputs[0]].type)}};
  const std::string path = TempPath("tests.tess");
  ASSERT_OK(WriteModel(graph, path, {.tests = {test, test}}));
  ASSERT_OK_AND_ASSIGN(const ModelFile file, ReadModelFile(path));
  EXPECT_TRUE(file.graph == graph);
  EXPECT_EQ(file.tests, (std::vector<TestVector>{test, test}));
  TestVector bad = test;
  bad.inputs[0].first = "w";
  EXPECT_THAT(WriteModel(graph, path, {.tests = {bad}}), StatusIs(ErrorCode::kInputUnknown, HasSubstr("'w'")));
  bad = test;
  bad.outputs[0].second = Tensor(DType::kI8, {3});
  EXPECT_THAT(WriteModel(graph, path, {.tests = {bad}}), StatusIs(ErrorCode::kShapeMismatch));
}

TEST(ModelFile, BrokenGraphsAreNotWritten) {
  Graph graph = Small();
  graph.nodes[0].inputs[0] = ValueId{99};
  const std::string path = TempPath("broken.tess");
  EXPECT_THAT(WriteModel(graph, path), StatusIs(ErrorCode::kGraphInvalid));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_THAT(WriteModel(Small(), TempPath("no/such/folder.tess")), Not(IsOk()));
}

TEST(ModelFile, OtherFilesAreNamedAsSuch) {
  EXPECT_THAT(Read("\x08\x07\x12 this is an ONNX model, more or less"), StatusIs(ErrorCode::kFormatUnknown));
  EXPECT_THAT(Read(""), StatusIs(ErrorCode::kFileTruncated));
  EXPECT_THAT(ReadModel(TempPath("no_such_file.tess")),
              StatusIs(ErrorCode::kFileNotFound, HasSubstr("no_such_file.tess")));
  EXPECT_FALSE(IsTessFile("\x89TES"));
  EXPECT_FALSE(IsTessFile("PK\x03\x04...."));
  const std::string path = TempPath("short.tess");
  ASSERT_OK(WriteFileAtomically(path, Written(Small()).substr(0, 700)));
  EXPECT_THAT(ReadModel(path), StatusIs(ErrorCode::kFileTruncated, HasSubstr(path)));
}

TEST(ModelFile, EveryTruncationIsAnError) {
  const std::string bytes = Written(Small());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const StatusOr<Graph> graph = Read(bytes.substr(0, size));
    ASSERT_THAT(graph, StatusIs(ErrorCode::kFileTruncated)) << size << " of " << bytes.size();
  }
}

TEST(ModelFile, FlippedBitsGiveAGraphOrAnError) {
  Random random(5);
  const ReadOptions options = {.max_bytes = 1 << 24};
  int errors = 0;
  std::vector<std::string> originals = {Written(Small()), Written(Small(), {.kept_only = true})};
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Random graphs(seed);
    originals.push_back(Written(RandomGraph(graphs, {.max_nodes = 12}), {.kept_only = seed % 2 == 1}));
  }
  constexpr int kRounds = 10000;
  for (int round = 0; round < kRounds; ++round) {
    std::string bytes = originals[static_cast<size_t>(round) % originals.size()];
    // The structure section begins at 64; most flips are to hit it rather than weights.
    const auto structure = static_cast<int64_t>(std::min<size_t>(bytes.size() - 1, 6000));
    for (int64_t flips = random.Int(1, 3); flips > 0; --flips) {
      const int64_t last = random.Chance(0.9) ? structure : static_cast<int64_t>(bytes.size()) - 1;
      bytes[static_cast<size_t>(random.Int(0, last))] ^= static_cast<char>(1 << random.Int(0, 7));
    }
    const StatusOr<Graph> graph = Read(bytes, options);
    errors += !graph.ok();
    if (graph.ok()) {
      ASSERT_OK(Verify(*graph));
    }
  }
  EXPECT_GT(errors, kRounds / 10);
}

// A file around any structure and data.
std::string Assemble(const fbs::ModelT& model, std::string_view data) {
  flatbuffers::FlatBufferBuilder builder;
  fbs::FinishModelBuffer(builder, fbs::Model::Pack(builder, &model));
  internal::Header header = {.version = internal::kContainerVersion, .num_sections = 2};
  std::memcpy(header.magic, internal::kMagic.data(), 8);
  internal::Section sections[2] = {{.kind = internal::kStructure, .offset = 64, .size = builder.GetSize()},
                                   {.kind = internal::kData, .size = data.size()}};
  sections[1].offset = internal::AlignUp(64 + builder.GetSize());
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  bytes.append(reinterpret_cast<const char*>(sections), sizeof(sections));
  bytes.append(reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize());
  bytes.resize(sections[1].offset);
  return bytes.append(data);
}

struct Forgery {
  const char* name;
  ErrorCode code;
  const char* message;
  std::function<void(fbs::ModelT&)> forge;
};

class ModelFileForgery : public testing::TestWithParam<Forgery> {
 protected:
  // The structure of Small(), taken apart, and its data.
  void SetUp() override {
    const std::string bytes = Written(Small());
    internal::Section sections[2];
    std::memcpy(sections, bytes.data() + sizeof(internal::Header), sizeof(sections));
    const InMemory structure(std::string_view(bytes).substr(sections[0].offset, sections[0].size));
    fbs::GetModel(structure.bytes().data())->UnPackTo(&model_);
    data_ = bytes.substr(sections[1].offset, sections[1].size);
  }
  fbs::ModelT model_;
  std::string data_;
};

TEST_P(ModelFileForgery, IsFound) {
  ASSERT_OK(Read(Assemble(model_, data_)));
  GetParam().forge(model_);
  const ReadOptions options = {.max_bytes = 1 << 26};
  EXPECT_THAT(Read(Assemble(model_, data_), options), StatusIs(GetParam().code, HasSubstr(GetParam().message)));
}

// Positions in Small(): values x, w, b, h, …; nodes fc, s, c, p, i.
INSTANTIATE_TEST_SUITE_P(All, ModelFileForgery,
                         testing::Values(Forgery{"NewerReader", ErrorCode::kVersionUnsupported,
                                                 "needs a reader of version 7",
                                                 [](fbs::ModelT& m) { m.minimum_reader_version = 7; }},
                                         Forgery{"VersionZero", ErrorCode::kFileCorrupt, "versions from 1",
                                                 [](fbs::ModelT& m) { m.version = 0; }},
                                         Forgery{"UnknownType", ErrorCode::kVersionUnsupported,
                                                 "unknown element type 'f7'",
                                                 [](fbs::ModelT& m) { m.types[0] = "f7"; }},
                                         Forgery{"UnknownOp", ErrorCode::kOpUnknown, "unknown op 'warp'",
                                                 [](fbs::ModelT& m) { m.ops[0] = "warp"; }},
                                         Forgery{"TypeIndex", ErrorCode::kFileCorrupt, "element types",
                                                 [](fbs::ModelT& m) { m.values[0]->type = 200; }},
                                         Forgery{"OpIndex", ErrorCode::kFileCorrupt, "ops, found 9",
                                                 [](fbs::ModelT& m) { m.nodes[0]->op = 9; }},
                                         Forgery{"ValueKind", ErrorCode::kFileCorrupt, "unknown kind of value",
                                                 [](fbs::ModelT& m) {
                                                   m.values[0]->kind = static_cast<fbs::ValueKind>(9);
                                                 }},
                                         Forgery{"NegativeExtent", ErrorCode::kShapeUnknown, "value 'x'",
                                                 [](fbs::ModelT& m) { m.values[0]->shape[0] = -2; }},
                                         Forgery{"HugeExtents", ErrorCode::kLimitExceeded, "value 'x'",
                                                 [](fbs::ModelT& m) {
                                                   m.values[0]->shape = {int64_t{1} << 62, 4, int64_t{1} << 62};
                                                 }},
                                         Forgery{"NoData", ErrorCode::kFileCorrupt, "expected data",
                                                 [](fbs::ModelT& m) { m.values[1]->data.reset(); }},
                                         Forgery{"DataBehindTheEnd", ErrorCode::kFileTruncated, "bytes of data at",
                                                 [](fbs::ModelT& m) { m.values[1]->data->offset = uint64_t{1} << 62; }},
                                         Forgery{"DataWrapsAround", ErrorCode::kFileTruncated, "bytes of data at",
                                                 [](fbs::ModelT& m) { m.values[1]->data->offset = ~uint64_t{63}; }},
                                         Forgery{"DataUnaligned", ErrorCode::kFileCorrupt, "multiple of 64",
                                                 [](fbs::ModelT& m) { m.values[1]->data->offset = 4; }},
                                         Forgery{"DataTooShort", ErrorCode::kFileCorrupt,
                                                 "expected 8192 bytes for 2048 elements",
                                                 [](fbs::ModelT& m) { m.values[1]->data->size = 8188; }},
                                         Forgery{"DataOfOtherType", ErrorCode::kFileCorrupt, "stored as itself",
                                                 [](fbs::ModelT& m) { m.values[2]->data->stored_type = 1; }},
                                         Forgery{"KeptOfNothing", ErrorCode::kFileCorrupt, "no attribute",
                                                 [](fbs::ModelT& m) { m.values[2]->data->kept_only = true; }},
                                         Forgery{"ExpandsBeyondMemory", ErrorCode::kLimitExceeded,
                                                 "an expanded constant",
                                                 [](fbs::ModelT& m) {
                                                   m.values[1]->shape = {1 << 16, 1 << 12};
                                                   m.values[1]->attribute->layers.clear();
                                                   m.values[1]->data->kept_only = true;
                                                   m.values[1]->data->size = 0;
                                                 }},
                                         Forgery{"AttributeWidth", ErrorCode::kTesaInvalid, "value 'w'",
                                                 [](fbs::ModelT& m) { m.values[1]->attribute->layers[0]->bits = 0; }},
                                         Forgery{"AttributeResidual", ErrorCode::kFileCorrupt, "kind of residual",
                                                 [](fbs::ModelT& m) {
                                                   m.values[1]->attribute->layers[0]->residual =
                                                       static_cast<fbs::ResidualKind>(7);
                                                 }},
                                         Forgery{"BitsNegative", ErrorCode::kFileCorrupt, "a size of bits",
                                                 [](fbs::ModelT& m) {
                                                   m.values[1]->attribute->layers[0]->grids[0]->cells->size = -64;
                                                 }},
                                         Forgery{"BitsTooMany", ErrorCode::kFileCorrupt, "bits, found 32 words",
                                                 [](fbs::ModelT& m) {
                                                   m.values[1]->attribute->layers[0]->grids[0]->cells->size = INT64_MAX;
                                                 }},
                                         Forgery{
                                             "QuantScale", ErrorCode::kValueInvalid, "value 'i'",
                                             [](fbs::ModelT& m) { m.values.back()->quantization->scales[0] = NAN; }},
                                         Forgery{"OperandOutOfRange", ErrorCode::kGraphInvalid, "node 'fc'",
                                                 [](fbs::ModelT& m) { m.nodes[0]->inputs[0] = INT32_MAX; }},
                                         Forgery{"OperandNegative", ErrorCode::kGraphInvalid, "node 'fc'",
                                                 [](fbs::ModelT& m) { m.nodes[0]->inputs[0] = INT32_MIN; }},
                                         Forgery{"Cycle", ErrorCode::kGraphCyclic, "node 'fc'",
                                                 [](fbs::ModelT& m) { m.nodes[0]->inputs[0] = 3; }},
                                         Forgery{"OutputOutOfRange", ErrorCode::kGraphInvalid, "graph outputs",
                                                 [](fbs::ModelT& m) { m.outputs.push_back(77); }},
                                         Forgery{
                                             "ParameterTwice", ErrorCode::kFileCorrupt, "stands twice",
                                             [](fbs::ModelT& m) {
                                               m.nodes[1]->parameters.push_back(
                                                   std::make_unique<fbs::ParameterT>(*m.nodes[1]->parameters[0]));
                                             }},
                                         Forgery{"ParameterKind", ErrorCode::kFileCorrupt, "unknown kind of parameter",
                                                 [](fbs::ModelT& m) {
                                                   m.nodes[1]->parameters[0]->kind =
                                                       static_cast<fbs::ParameterKind>(77);
                                                 }},
                                         Forgery{"ParameterValue", ErrorCode::kAttributeInvalid, "axis",
                                                 [](fbs::ModelT& m) { m.nodes[1]->parameters[0]->int_value = 99; }},
                                         Forgery{
                                             "BodyText", ErrorCode::kTextInvalid, "node 'fc'",
                                             [](fbs::ModelT& m) { m.nodes[0]->epilogue->body = "(a: f32) { return"; }},
                                         Forgery{"BodyArity", ErrorCode::kGraphInvalid, "epilogue",
                                                 [](fbs::ModelT&
                                                        m) { m.nodes[0]->epilogue->body = "(a: f32) { return a }"; }},
                                         Forgery{"NameTwice", ErrorCode::kGraphInvalid, "stand once",
                                                 [](fbs::ModelT& m) { m.values[0]->name = "w"; }},
                                         Forgery{"TestOfNothing", ErrorCode::kFileCorrupt, "which the graph has not",
                                                 [](fbs::ModelT& m) {
                                                   m.tests.push_back(std::make_unique<fbs::TestVectorT>());
                                                   m.tests[0]->inputs.push_back(std::make_unique<fbs::NamedTensorT>());
                                                   m.tests[0]->inputs[0]->name = "nobody";
                                                 }}),
                         [](const testing::TestParamInfo<Forgery>& info) { return info.param.name; });

TEST(ModelFile, ForgedContainersAreErrors) {
  const std::string good = Written(Small());
  const auto with = [&](size_t at, auto value) {
    std::string bytes = good;
    std::memcpy(bytes.data() + at, &value, sizeof(value));
    return Read(bytes);
  };
  EXPECT_THAT(with(8, uint32_t{2}), StatusIs(ErrorCode::kVersionUnsupported));
  EXPECT_THAT(with(12, uint32_t{0xffffffff}), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(with(12, uint32_t{0}), StatusIs(ErrorCode::kFileCorrupt, HasSubstr("structure")));
  EXPECT_THAT(with(16, uint32_t{2}), StatusIs(ErrorCode::kFileCorrupt, HasSubstr("twice")));
  EXPECT_THAT(with(24, ~uint64_t{63}), StatusIs(ErrorCode::kFileTruncated));
  EXPECT_THAT(with(24, uint64_t{68}), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(with(32, ~uint64_t{0}), StatusIs(ErrorCode::kFileTruncated));
  EXPECT_THAT(with(68, uint32_t{0x21212121}), StatusIs(ErrorCode::kFileCorrupt, HasSubstr("identifier")));
  EXPECT_THAT(with(64, uint32_t{0x7fffffff}), StatusIs(ErrorCode::kFileCorrupt, HasSubstr("schema")));
  EXPECT_OK(Read(good + "more at the end"));
}

TEST(ModelFile, DataMayLieBeyondFourGigabytes) {
  // A file with a hole in it: nothing is written there, and nothing is read.
  const std::string good = Written(Small());
  internal::Section sections[2];
  std::memcpy(sections, good.data() + 16, sizeof(sections));
  const std::string_view data = std::string_view(good).substr(sections[1].offset);
  std::string head = good.substr(0, sections[1].offset);
  sections[1].offset = uint64_t{5} << 30;
  std::memcpy(head.data() + 16, sections, sizeof(sections));
  const std::string path = TempPath("large.tess");
  const int file = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
  ASSERT_GE(file, 0);
  ASSERT_EQ(pwrite(file, head.data(), head.size(), 0), static_cast<ssize_t>(head.size()));
  ASSERT_EQ(pwrite(file, data.data(), data.size(), int64_t{5} << 30), static_cast<ssize_t>(data.size()));
  close(file);
  ASSERT_OK_AND_ASSIGN(const Graph again, ReadModel(path));
  EXPECT_TRUE(again == Small());
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace tessera
