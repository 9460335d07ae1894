#include "models/import/imported_graph.h"

#include <algorithm>

#include "models/import/tesa_file.h"

namespace tessera {
namespace {

// The mask that the user's side file gives for `data`: of its shape, or a scalar bit width for all of it.
StatusOr<Tensor> SideMask(const Tensor& given, const Tensor& data) {
  Tensor widths = given;
  if (given.shape().rank() == 0 && IsInteger(given.dtype())) {
    widths = Tensor(given.dtype(), data.shape());
    for (int64_t i = 0; i < widths.num_elements(); ++i) widths.SetInt(i, given.GetInt(0));
  }
  if (widths.shape() != data.shape()) {
    return Error(ErrorCode::kTesaInvalid, "expected a mask of shape ", data.shape(), ", found ", given.type());
  }
  return MaskFromTensor(widths);
}

// The type's own width stays that when the constant is converted to another type.
Tensor MaskOf(const Attribute& declared, DType dtype) {
  std::vector<uint8_t> bits = declared.Bits();
  for (uint8_t& width : bits) width = width == TypeInfo(dtype).bits ? kOwnWidth : width;
  return Tensor::FromVector(declared.shape(), bits);
}

}  // namespace

Status ApplyConstantOptions(const ImportOptions& options, const std::string& name, Tensor& data,
                            ConstantOrigin& origin) {
  origin.name = name;
  origin.type = data.type();
  if (const auto it = options.weights.find(name); it != options.weights.end()) {
    if (it->second.type() != data.type()) {
      return Error(ErrorCode::kShapeMismatch, "constant '", name, "': expected a replacement ", data.type(), ", found ",
                   it->second.type());
    }
    data = it->second;
  }
  if (const auto it = options.masks.find(name); it != options.masks.end()) {
    StatusOr<Tensor> mask = SideMask(it->second, data);
    if (!mask.ok()) return mask.status().WithContext("constant '" + name + "'");
    origin.mask = *std::move(mask);
    origin.declared = kSideFile;
  }
  if (options.side_file != nullptr && options.side_file->tensors.count(name) != 0) {
    ASSIGN_OR_RETURN(const Attribute declared, DeclaredBy(*options.side_file, name, data.type(), &data));
    origin.mask = MaskOf(declared, data.dtype());
    origin.declared = kSideFile;
  }
  return OkStatus();
}

Status CheckInputOptions(const ImportOptions& options, const std::vector<std::string>& inputs) {
  std::string known;
  for (const std::string& name : inputs) known += (known.empty() ? "'" : ", '") + name + "'";
  const auto check = [&](std::string_view flag, const auto& entries) -> Status {
    for (const auto& [name, value] : entries) {
      if (std::find(inputs.begin(), inputs.end(), name) != inputs.end()) continue;
      return Error(ErrorCode::kInputUnknown, flag, " names '", name, "'; the model's inputs are ",
                   known.empty() ? "none" : known);
    }
    return OkStatus();
  };
  RETURN_IF_ERROR(check("--shape", options.shapes));
  return check("--bind", options.bind);
}

Status CheckConstantOptions(const ImportOptions& options, const std::set<std::string>& constants) {
  const auto check = [&](std::string_view what, const auto& entries) -> Status {
    for (const auto& [name, value] : entries) {
      if (constants.count(name) != 0) continue;
      return Error(ErrorCode::kInputUnknown, what, " names '", name, "'; the model has no constant of that name");
    }
    return OkStatus();
  };
  RETURN_IF_ERROR(check("the side file", options.masks));
  return check("the replacement of weights", options.weights);
}

}  // namespace tessera
