// ImportBert: a BERT encoder from its state dictionary, a safetensors file whose tensors have Hugging Face's names.
//
//   ImportModel("minilm_weights.safetensors", {.shapes = {{"input_ids", {1, 128}}}});
//   // input_ids i64[1,128], attention_mask i64[1,128], token_type_ids i64[1,128] -> last_hidden_state f32[1,128,384]
//
// The network is that of the paper (Devlin et al., arXiv:1810.04805): post-norm layers, GELU by erf, attention spelled
// out; sizes come from the shapes of the tensors. The number of heads is in no tensor: it is 12 where that divides the
// hidden size (BERT-base, MiniLM-H384), else one for each 64. Without a shape, one sequence of 128. Weights keep the
// file's names. Tested by bert_test.cc.
#ifndef TESSERA_MODELS_IMPORT_BERT_H_
#define TESSERA_MODELS_IMPORT_BERT_H_

#include "models/import/imported_graph.h"
#include "models/import/safetensors.h"

namespace tessera {

// The file holds a BERT encoder.
bool LooksLikeBert(const Safetensors& file);
StatusOr<ImportedGraph> ImportBert(const Safetensors& file, const ImportOptions& options);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_BERT_H_
