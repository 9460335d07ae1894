#include "models/import/bert.h"

#include <cmath>
#include <set>

#include "models/import/op_emitter.h"

namespace tessera {
namespace {

constexpr int64_t kMaxLayers = 256;
constexpr double kEpsilon = 1e-12;
// What a masked position's score is lowered by: e to its power is 0 in f32.
constexpr double kMasked = -1e9;

class Encoder {
 public:
  Encoder(const Safetensors& file, const ImportOptions& options)
      : file_(file), options_(options), writer_("bert"), emit_(writer_, "bert", "safetensors") {}

  StatusOr<ImportedGraph> Run() {
    const Tensor* words = file_.Find("embeddings.word_embeddings.weight");
    if (words == nullptr || words->shape().rank() != 2 || words->shape()[1] < 1) {
      return Error(ErrorCode::kShapeMismatch, "expected embeddings.word_embeddings.weight to be a matrix");
    }
    hidden_ = words->shape()[1];
    heads_ = hidden_ % 12 == 0 ? 12 : hidden_ / 64;
    if (heads_ < 1 || hidden_ % heads_ != 0) {
      return Error(ErrorCode::kShapeMismatch, "a hidden size of ", hidden_, " has no known number of heads");
    }
    Shape shape = {1, 128};
    for (const auto& [name, given] : options_.shapes) shape = given;
    if (shape.rank() != 2)
      return Error(ErrorCode::kShapeMismatch, "expected input_ids [batch,sequence], found ", shape);
    batch_ = shape[0];
    sequence_ = shape[1];
    const std::vector<std::string> inputs = {"input_ids", "attention_mask", "token_type_ids"};
    RETURN_IF_ERROR(CheckInputOptions(options_, inputs));
    std::vector<ValueId> ids;
    for (const std::string& name : inputs) ids.push_back(writer_.AddInput(name, {DType::kI64, shape}));
    ASSIGN_OR_RETURN(ValueId x, Embeddings(ids[0], ids[2]));
    ASSIGN_OR_RETURN(const ValueId mask, Mask(ids[1]));
    for (int64_t layer = 0; layer < kMaxLayers; ++layer) {
      const std::string name = "encoder.layer." + std::to_string(layer);
      if (file_.Find(name + ".attention.self.query.weight") == nullptr) break;
      ASSIGN_OR_RETURN(x, Layer(x, mask, name));
    }
    ASSIGN_OR_RETURN(GraphWriter::Finished finished, writer_.Finish({{"last_hidden_state", x}}));
    finished.graph.metadata["source_format"] = "safetensors, BERT";
    return ImportedGraph{std::move(finished.graph), std::move(finished.origins), {}, std::move(constants_)};
  }

 private:
  // A tensor of the file, in f32.
  StatusOr<ValueId> Weight(const std::string& name, const Shape& shape) {
    const Tensor* found = file_.Find(name);
    if (found == nullptr) return Error(ErrorCode::kShapeMismatch, "expected the tensor '", name, "', found none");
    if (found->shape() != shape || !IsFloat(found->dtype())) {
      return Error(ErrorCode::kShapeMismatch, "tensor '", name, "': expected floats ", shape, ", found ",
                   found->type());
    }
    Tensor data = *found;
    ConstantOrigin origin;
    RETURN_IF_ERROR(ApplyConstantOptions(options_, name, data, origin));
    constants_.insert(name);
    return emit_.Cast(writer_.AddConstant(name, std::move(data), std::move(origin)), DType::kF32);
  }

  StatusOr<ValueId> Norm(ValueId x, const std::string& name) {
    ASSIGN_OR_RETURN(const ValueId scale, Weight(name + ".weight", {hidden_}));
    ASSIGN_OR_RETURN(const ValueId bias, Weight(name + ".bias", {hidden_}));
    return writer_.Emit(Op::kLayerNorm, name, {x, scale, bias},
                        MakeAttrs({{"axis", int64_t{2}}, {"epsilon", kEpsilon}}));
  }

  // x · wᵀ + bias, from `from` to `to` features.
  StatusOr<ValueId> Dense(ValueId x, const std::string& name, int64_t from, int64_t to) {
    ASSIGN_OR_RETURN(const ValueId w, Weight(name + ".weight", {to, from}));
    ASSIGN_OR_RETURN(const ValueId bias, Weight(name + ".bias", {to}));
    ASSIGN_OR_RETURN(const ValueId turned, emit_.Transpose(w, {1, 0}));
    ASSIGN_OR_RETURN(const ValueId product, writer_.Emit(Op::kMatmul, name, {x, turned}));
    return writer_.Emit(Op::kAdd, name + ".add", {product, bias});
  }

  StatusOr<ValueId> Embeddings(ValueId ids, ValueId types) {
    const Tensor* positions = file_.Find("embeddings.position_embeddings.weight");
    const Tensor* kinds = file_.Find("embeddings.token_type_embeddings.weight");
    if (positions == nullptr || kinds == nullptr || positions->shape().rank() != 2 || kinds->shape().rank() != 2) {
      return Error(ErrorCode::kShapeMismatch, "expected position and token type embeddings, found none");
    }
    if (positions->shape()[0] < sequence_) {
      return Error(ErrorCode::kShapeMismatch, "a sequence of ", sequence_, " is longer than the model's ",
                   positions->shape()[0]);
    }
    const int64_t vocabulary = file_.Find("embeddings.word_embeddings.weight")->shape()[0];
    ASSIGN_OR_RETURN(const ValueId words, Weight("embeddings.word_embeddings.weight", {vocabulary, hidden_}));
    ASSIGN_OR_RETURN(const ValueId places,
                     Weight("embeddings.position_embeddings.weight", {positions->shape()[0], hidden_}));
    ASSIGN_OR_RETURN(const ValueId type_table,
                     Weight("embeddings.token_type_embeddings.weight", {kinds->shape()[0], hidden_}));
    const Attrs rows = MakeAttrs({{"axis", int64_t{0}}});
    ASSIGN_OR_RETURN(ValueId x, writer_.Emit(Op::kGather, "embeddings.words", {words, ids}, rows));
    ASSIGN_OR_RETURN(const ValueId type, writer_.Emit(Op::kGather, "embeddings.types", {type_table, types}, rows));
    ASSIGN_OR_RETURN(x, writer_.Emit(Op::kAdd, "embeddings.add_types", {x, type}));
    ASSIGN_OR_RETURN(const ValueId used, emit_.SliceAxis(places, 0, 0, sequence_));
    ASSIGN_OR_RETURN(x, writer_.Emit(Op::kAdd, "embeddings.add_positions", {x, used}));
    return Norm(x, "embeddings.LayerNorm");
  }

  // [batch, sequence] of 0 and 1 as what is added to scores: 0 where attended.
  StatusOr<ValueId> Mask(ValueId attended) {
    ASSIGN_OR_RETURN(ValueId mask, emit_.Cast(attended, DType::kF32));
    ASSIGN_OR_RETURN(mask, writer_.Emit(Op::kSub, "mask.inverse", {writer_.Scalar(DType::kF32, 1), mask}));
    ASSIGN_OR_RETURN(mask, emit_.EmitScalar(Op::kMul, mask, kMasked));
    return emit_.Reshape(mask, {batch_, 1, 1, sequence_});
  }

  StatusOr<ValueId> Heads(ValueId x, const std::string& name, std::vector<int64_t> perm) {
    ASSIGN_OR_RETURN(const ValueId flat, Dense(x, name, hidden_, hidden_));
    ASSIGN_OR_RETURN(const ValueId split, emit_.Reshape(flat, {batch_, sequence_, heads_, hidden_ / heads_}));
    return emit_.Transpose(split, std::move(perm));
  }

  StatusOr<ValueId> Layer(ValueId x, ValueId mask, const std::string& name) {
    const std::string self = name + ".attention.self";
    ASSIGN_OR_RETURN(const ValueId q, Heads(x, self + ".query", {0, 2, 1, 3}));
    ASSIGN_OR_RETURN(const ValueId k, Heads(x, self + ".key", {0, 2, 3, 1}));
    ASSIGN_OR_RETURN(const ValueId v, Heads(x, self + ".value", {0, 2, 1, 3}));
    ASSIGN_OR_RETURN(ValueId scores, writer_.Emit(Op::kMatmul, self + ".scores", {q, k}));
    const double depth = static_cast<double>(hidden_ / heads_);
    ASSIGN_OR_RETURN(scores, emit_.EmitScalar(Op::kDiv, scores, std::sqrt(depth)));
    ASSIGN_OR_RETURN(scores, writer_.Emit(Op::kAdd, self + ".mask", {scores, mask}));
    ASSIGN_OR_RETURN(scores,
                     writer_.Emit(Op::kSoftmax, self + ".softmax", {scores}, MakeAttrs({{"axis", int64_t{3}}})));
    ASSIGN_OR_RETURN(ValueId mixed, writer_.Emit(Op::kMatmul, self + ".mix", {scores, v}));
    ASSIGN_OR_RETURN(mixed, emit_.Transpose(mixed, {0, 2, 1, 3}));
    ASSIGN_OR_RETURN(mixed, emit_.Reshape(mixed, {batch_, sequence_, hidden_}));
    ASSIGN_OR_RETURN(mixed, Dense(mixed, name + ".attention.output.dense", hidden_, hidden_));
    ASSIGN_OR_RETURN(x, writer_.Emit(Op::kAdd, name + ".attention.output.add", {mixed, x}));
    ASSIGN_OR_RETURN(x, Norm(x, name + ".attention.output.LayerNorm"));
    const Tensor* wide = file_.Find(name + ".intermediate.dense.bias");
    if (wide == nullptr || wide->shape().rank() != 1) {
      return Error(ErrorCode::kShapeMismatch, "expected the tensor '", name, ".intermediate.dense.bias', found none");
    }
    ASSIGN_OR_RETURN(ValueId inner, Dense(x, name + ".intermediate.dense", hidden_, wide->shape()[0]));
    ASSIGN_OR_RETURN(inner, writer_.Emit(Op::kGelu, name + ".intermediate.gelu", {inner}));
    ASSIGN_OR_RETURN(inner, Dense(inner, name + ".output.dense", wide->shape()[0], hidden_));
    ASSIGN_OR_RETURN(x, writer_.Emit(Op::kAdd, name + ".output.add", {inner, x}));
    return Norm(x, name + ".output.LayerNorm");
  }

  const Safetensors& file_;
  const ImportOptions& options_;
  std::set<std::string> constants_;
  GraphWriter writer_;
  OpEmitter emit_;
  int64_t hidden_ = 0, heads_ = 0, batch_ = 0, sequence_ = 0;
};

}  // namespace

bool LooksLikeBert(const Safetensors& file) {
  return file.Find("embeddings.word_embeddings.weight") != nullptr &&
         file.Find("encoder.layer.0.attention.self.query.weight") != nullptr;
}

StatusOr<ImportedGraph> ImportBert(const Safetensors& file, const ImportOptions& options) {
  return Encoder(file, options).Run();
}

}  // namespace tessera
