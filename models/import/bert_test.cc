#include "models/import/bert.h"

#include <algorithm>
#include <cmath>

#include "graph/interpreter.h"
#include "gtest/gtest.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

// One layer: hidden 24 in 12 heads, inner 10, 7 words, 6 positions.
Safetensors SmallBert() {
  Random random(4);
  Safetensors file;
  const auto add = [&](const std::string& name, Shape shape) {
    file.tensors[name] = RandomTensor(random, {DType::kF32, std::move(shape)}, 0.3);
  };
  add("embeddings.word_embeddings.weight", {7, 24});
  add("embeddings.position_embeddings.weight", {6, 24});
  add("embeddings.token_type_embeddings.weight", {2, 24});
  const std::string layer = "encoder.layer.0.";
  for (const char* norm :
       {"embeddings.LayerNorm", "encoder.layer.0.attention.output.LayerNorm", "encoder.layer.0.output.LayerNorm"}) {
    add(std::string(norm) + ".weight", {24});
    add(std::string(norm) + ".bias", {24});
  }
  for (const char* dense :
       {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"}) {
    add(layer + dense + ".weight", {24, 24});
    add(layer + dense + ".bias", {24});
  }
  add(layer + "intermediate.dense.weight", {10, 24});
  add(layer + "intermediate.dense.bias", {10});
  add(layer + "output.dense.weight", {24, 10});
  add(layer + "output.dense.bias", {24});
  return file;
}

const ImportOptions kShort = {.shapes = {{"input_ids", {1, 5}}}};

TEST(BertTest, MaskedPositionsAreNotSeen) {
  ASSERT_TRUE(LooksLikeBert(SmallBert()));
  ASSERT_OK_AND_ASSIGN(const ImportedGraph imported, ImportBert(SmallBert(), kShort));
  EXPECT_EQ(imported.graph[imported.graph.outputs[0]].type, (TensorType{DType::kF32, {1, 5, 24}}));
  const auto run = [&](const std::vector<int64_t>& ids, const std::vector<int64_t>& mask) {
    const std::vector<Tensor> inputs = {Tensor::FromVector<int64_t>({1, 5}, ids),
                                        Tensor::FromVector<int64_t>({1, 5}, mask), Tensor(DType::kI64, {1, 5})};
    StatusOr<std::vector<RefTensor>> outputs = Interpret(imported.graph, inputs);
    EXPECT_OK(outputs);
    return (*outputs)[0].f;
  };
  const std::vector<double> a = run({1, 2, 3, 4, 5}, {1, 1, 1, 0, 0}), b = run({1, 2, 3, 6, 0}, {1, 1, 1, 0, 0});
  const std::vector<double> seen = run({1, 2, 3, 6, 0}, {1, 1, 1, 1, 1});
  double same = 0, other = 0;
  for (int k = 0; k < 3 * 24; ++k) {
    same = std::max(same, std::abs(a[k] - b[k]));
    other = std::max(other, std::abs(a[k] - seen[k]));
  }
  EXPECT_LT(same, 1e-12);
  EXPECT_GT(other, 1e-3);
}

TEST(BertTest, SaysWhichTensorIsWrong) {
  Safetensors missing = SmallBert(), wrong = SmallBert();
  missing.tensors.erase("encoder.layer.0.attention.self.key.bias");
  EXPECT_THAT(ImportBert(missing, kShort), StatusIs(ErrorCode::kShapeMismatch, HasSubstr("self.key.bias")));
  wrong.tensors["encoder.layer.0.output.dense.weight"] = Tensor(DType::kF32, {24, 11});
  EXPECT_THAT(ImportBert(wrong, kShort), StatusIs(ErrorCode::kShapeMismatch, HasSubstr("output.dense.weight")));
  EXPECT_THAT(ImportBert(SmallBert(), {.shapes = {{"input_ids", {1, 9}}}}),
              StatusIs(ErrorCode::kShapeMismatch, HasSubstr("longer")));
  EXPECT_THAT(ImportBert(SmallBert(), {.shapes = {{"ids", {1, 5}}}}), StatusIs(ErrorCode::kInputUnknown));
  EXPECT_FALSE(LooksLikeBert({}));
}

}  // namespace
}  // namespace tessera
