#include "codegen/emit/transpose_shape.h"

#include <algorithm>
#include <utility>

#include "graph/op.h"

namespace tessera {
namespace {

// Dimensions of extent 1 go; neighbours that stay neighbours are one, but the last one is kept apart if asked to.
void Merge(std::vector<int64_t>& extents, std::vector<int64_t>& strides, bool keep_last) {
  std::vector<int64_t> merged_extents, merged_strides;
  for (size_t d = 0; d < extents.size(); ++d) {
    const bool apart = keep_last && d + 1 == extents.size();
    if (extents[d] == 1 && !apart) continue;
    if (!merged_extents.empty() && !apart && merged_strides.back() == strides[d] * extents[d]) {
      merged_extents.back() *= extents[d];
      merged_strides.back() = strides[d];
    } else {
      merged_extents.push_back(extents[d]);
      merged_strides.push_back(strides[d]);
    }
  }
  if (merged_extents.empty()) merged_extents = merged_strides = {1};
  extents = std::move(merged_extents);
  strides = std::move(merged_strides);
}

// Runs of two elements that stay together become elements of twice the size, as long as there are any.
void WidenElements(TransposeShape& p) {
  const auto even = [](int64_t x) { return x % 2 == 0; };
  while (p.bits < 64 && p.strides.back() == 1 && even(p.extents.back()) &&
         std::all_of(p.strides.begin(), p.strides.end() - 1, even)) {
    p.bits *= 2;
    p.extents.back() /= 2;
    for (size_t d = 0; d + 1 < p.strides.size(); ++d) p.strides[d] /= 2;
    Merge(p.extents, p.strides, false);
  }
}

}  // namespace

std::string TransposeShape::Key() const {
  std::string key = internal::Join(bits, " bits of ", bytes, " bytes, c ", c);
  for (int d = 0; d <= o(); ++d) key += internal::Join(d == 0 ? ": " : ", ", extents[d], "*", strides[d]);
  return key;
}

std::optional<TransposeShape> TransposeShapeOf(const Graph& graph, const Node& node, std::string* why) {
  const auto no = [&](const char* reason) {
    *why = reason;
    return std::nullopt;
  };
  if (node.op != Op::kTranspose) return no("is no transposition");
  if (node.epilogue && node.epilogue->body.uses_index()) return no("the epilogue asks where it is");
  const TensorType& x = graph[node.inputs[0]].type;
  if (x.shape.num_elements() == 0) return no("no elements");
  if (TypeInfo(x.dtype).bits < 8) return no("elements smaller than a byte");
  const DType stored_out = node.epilogue ? node.epilogue->dtype : x.dtype;
  if (TypeInfo(stored_out).bits < 8) return no("results smaller than a byte");

  TransposeShape p;
  p.bits = TypeInfo(x.dtype).bits;
  p.bytes = p.bits / 8;
  const std::vector<int64_t> strides = x.shape.Strides();
  for (int64_t axis : node.attrs.Ints("perm")) {
    p.extents.push_back(x.shape[static_cast<int>(axis)]);
    p.strides.push_back(strides[axis]);
  }
  // An epilogue whose operands differ along columns needs vectors that lie within one row of the output.
  const bool operands = node.epilogue && !node.epilogue->inputs.empty();
  Merge(p.extents, p.strides, operands);
  if (!node.epilogue) WidenElements(p);
  p.c = p.o();
  for (int d = 0; d <= p.o(); ++d) {
    if (p.strides[d] == 1 && (p.extents[d] > 1 || p.o() == 0)) p.c = d;
  }
  return p;
}

}  // namespace tessera
