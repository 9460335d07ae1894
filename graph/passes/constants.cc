#include "graph/passes/constants.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace tessera {
namespace {

// Copies elements of type T in the order of the result: `strides` are those of the source along the result's
// dimensions.
template <typename T>
void CopyPermuted(const std::byte* from_bytes, std::byte* to_bytes, const Shape& shape,
                  const std::vector<int64_t>& strides) {
  if (shape.num_elements() == 0) return;
  const T* from = reinterpret_cast<const T*>(from_bytes);
  T* to = reinterpret_cast<T*>(to_bytes);
  const int rank = shape.rank();
  const int64_t inner = rank > 0 ? shape[rank - 1] : 1, step = rank > 0 ? strides[rank - 1] : 1;
  const Shape outer(rank > 0 ? std::vector<int64_t>(shape.begin(), shape.end() - 1) : std::vector<int64_t>{});
  ForEachIndex(outer, [&](const std::vector<int64_t>& at) {
    int64_t position = 0;
    for (size_t d = 0; d < at.size(); ++d) position += at[d] * strides[d];
    for (int64_t i = 0; i < inner; ++i) *to++ = from[position + i * step];
  });
}

}  // namespace

std::optional<double> ScalarConstant(const Graph& graph, ValueId id) {
  if (!graph.IsConstant(id) || graph[id].type.shape.num_elements() != 1) return std::nullopt;
  const Tensor& data = graph[id].constant;
  if (IsFloat(data.dtype())) return data.Get(0);
  const int64_t integer = data.GetInt(0);
  if (std::abs(static_cast<double>(integer)) > 0x1p53) return std::nullopt;
  return static_cast<double>(integer);
}

std::optional<WithScalar> MatchScalar(const Graph& graph, const Node& node, bool x_first) {
  if (node.inputs.size() != 2 || node.epilogue) return std::nullopt;
  for (int k : {0, 1}) {
    if (x_first && k == 1) break;
    const ValueId x = node.inputs[k];
    const std::optional<double> scalar = ScalarConstant(graph, node.inputs[1 - k]);
    if (scalar && graph[x].type.shape == graph[node.outputs[0]].type.shape) return WithScalar{x, *scalar, k};
  }
  return std::nullopt;
}

Tensor TransposedTensor(const Tensor& tensor, std::span<const int64_t> perm) {
  const Shape shape = PermutedShape(tensor.shape(), perm);
  Tensor result(tensor.dtype(), shape);
  const std::vector<int64_t> source = tensor.shape().Strides();
  std::vector<int64_t> strides;
  for (int64_t d : perm) strides.push_back(source[d]);
  const std::byte* from = tensor.bytes().data();
  std::byte* to = result.mutable_bytes().data();
  switch (TypeInfo(tensor.dtype()).bits) {
    case 64: CopyPermuted<uint64_t>(from, to, shape, strides); break;
    case 32: CopyPermuted<uint32_t>(from, to, shape, strides); break;
    case 16: CopyPermuted<uint16_t>(from, to, shape, strides); break;
    case 8: CopyPermuted<uint8_t>(from, to, shape, strides); break;
    default: {  // several elements to a byte
      int64_t k = 0;
      ForEachIndex(shape, [&](const std::vector<int64_t>& at) {
        int64_t position = 0;
        for (size_t d = 0; d < at.size(); ++d) position += at[d] * strides[d];
        result.SetInt(k++, tensor.GetInt(position));
      });
    }
  }
  return result;
}

ValueId TransposedConstant(Rewriter& r, ValueId id, std::span<const int64_t> perm) {
  const Value source = r.value(id);
  std::optional<Attribute> tesa;
  if (source.tesa) tesa = source.tesa->Transposed(std::vector<int>(perm.begin(), perm.end()));
  const ValueId result = r.Constant(source.name, TransposedTensor(source.constant, perm), std::move(tesa));
  if (std::optional<QuantParams> quant = PermutedQuant(source.quant, perm)) r.SetQuant(result, *std::move(quant));
  return result;
}

ValueId ReshapedConstant(Rewriter& r, ValueId id, const Shape& shape) {
  const Value source = r.value(id);
  std::optional<Attribute> tesa;
  if (source.tesa) tesa = source.tesa->Reshaped(shape);
  const ValueId result = r.Constant(source.name, source.constant.Reshaped(shape), std::move(tesa));
  if (source.quant && source.quant->axis < 0) r.SetQuant(result, *source.quant);
  return result;
}

std::vector<int64_t> InversePerm(std::span<const int64_t> perm) {
  std::vector<int64_t> inverse(perm.size());
  for (size_t d = 0; d < perm.size(); ++d) inverse[perm[d]] = static_cast<int64_t>(d);
  return inverse;
}

std::vector<int64_t> ComposePerms(std::span<const int64_t> first, std::span<const int64_t> second) {
  std::vector<int64_t> composed;
  for (int64_t d : second) composed.push_back(first[d]);
  return composed;
}

bool IsIdentityPerm(std::span<const int64_t> perm) {
  for (size_t d = 0; d < perm.size(); ++d) {
    if (perm[d] != static_cast<int64_t>(d)) return false;
  }
  return true;
}

bool KeepsOrder(const Shape& shape, std::span<const int64_t> perm) {
  int64_t last = -1;
  for (int64_t d : perm) {
    if (shape[static_cast<int>(d)] == 1) continue;
    if (d < last) return false;
    last = d;
  }
  return true;
}

Shape PermutedShape(const Shape& shape, std::span<const int64_t> perm) {
  std::vector<int64_t> dims;
  for (int64_t d : perm) dims.push_back(shape[static_cast<int>(d)]);
  return Shape(std::move(dims));
}

std::optional<QuantParams> PermutedQuant(const std::optional<QuantParams>& quant, std::span<const int64_t> perm) {
  if (!quant || quant->block_size > 0) return std::nullopt;
  QuantParams result = *quant;
  if (quant->axis >= 0) result.axis = static_cast<int>(InversePerm(perm)[quant->axis]);
  return result;
}

}  // namespace tessera
