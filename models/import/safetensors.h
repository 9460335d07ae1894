// Safetensors: named tensors in one file, as Hugging Face stores them (https://github.com/huggingface/safetensors).
//
//   ASSIGN_OR_RETURN(Safetensors file, ReadSafetensors("model.safetensors"));
//   const Tensor* w = file.Find("encoder.layer.0.attention.self.query.weight");
//
// The layout: 8 bytes, little-endian: the length of a JSON header; the header: name -> {dtype, shape, data_offsets},
// and
// __metadata__ with strings; the data. Tensors that are aligned in the file are used in place, mapped. Read as hostile
// input: the header is bounded and parsed without recursion into our own code; every offset and length is checked; data
// may not overlap. Also WriteSafetensors, for side files and tests. Values only. Tested by safetensors_test.cc.
#ifndef TESSERA_MODELS_IMPORT_SAFETENSORS_H_
#define TESSERA_MODELS_IMPORT_SAFETENSORS_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "tesa/tensor.h"

namespace tessera {

struct Safetensors {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;

  // The tensor of that name, or null.
  const Tensor* Find(const std::string& name) const {
    const auto it = tensors.find(name);
    return it == tensors.end() ? nullptr : &it->second;
  }
};

// Errors name `path`. The tensors keep the mapping alive.
StatusOr<Safetensors> ReadSafetensors(const std::string& path);
// `owner` keeps `bytes` alive; tensors that are 64-byte aligned in memory are views.
StatusOr<Safetensors> ParseSafetensors(std::string_view bytes, std::shared_ptr<const void> owner);
// The bytes of a file with these tensors; the data begins 64-byte aligned.
std::string SerializeSafetensors(const Safetensors& file);

// The first bytes fit: a header length within the file, then '{'.
bool LooksLikeSafetensors(std::string_view bytes);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_SAFETENSORS_H_
