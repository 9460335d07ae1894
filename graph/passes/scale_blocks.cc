#include "graph/passes/scale_blocks.h"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "graph/passes/quantized.h"
#include "graph/passes/rewriter.h"
#include "graph/passes/unsigned_integers.h"
#include "tesa/int4.h"

namespace tessera {
namespace {

// The weights of a product as rows of the result's columns; nullopt where they are no 4-bit integers in whole blocks.
std::optional<Int4Weights> ReadWeights(const Rewriter& r, const Node& node) {
  const Value& w = r.value(node.inputs[1]);
  if (w.kind != ValueKind::kConstant || w.type.dtype != DType::kF32 || w.type.shape.rank() != 2) return std::nullopt;
  if (w.tesa && w.tesa->num_kept() < w.type.shape.num_elements()) return std::nullopt;
  const bool transposed = node.attrs.Int("transpose_b", 0) != 0;
  const int64_t rows = w.type.shape[transposed ? 0 : 1], depth = w.type.shape[transposed ? 1 : 0];
  const std::span<const float> data = w.constant.data<float>();
  std::optional<Int4Weights> found = FindInt4(rows, depth, [&](int64_t row, std::span<float> values) {
    const int64_t step = transposed ? 1 : rows, first = transposed ? row * depth : row;
    for (int64_t k = 0; k < depth; ++k) values[static_cast<size_t>(k)] = data[static_cast<size_t>(first + k * step)];
  });
  if (!found || depth % found->block != 0) return std::nullopt;
  return found;
}

class Lowering {
 public:
  explicit Lowering(Graph& graph) : r_(graph), unsigned_(r_) {}

  Status Run() {
    for (NodeId id = r_.First(); id != NodeId::kNone && r_.status().ok();) {
      const NodeId next = r_.Following(id);
      Product(id);
      id = next;
    }
    return std::move(r_).Finish();
  }

 private:
  void Product(NodeId id) {
    const Node node = r_.node(id);
    if (node.op != Op::kMatmul || node.epilogue || node.attrs.Int("transpose_a", 0) != 0) return;
    const std::optional<Dequantized> x = ReadDequantize(r_, node.inputs[0]);
    if (!x || !x->scaling.is_constant()) return;
    const DType type = r_.type(x->integers).dtype;
    if ((type != DType::kU8 && type != DType::kI8) || r_.graph().IsConstant(x->integers)) return;
    const std::optional<Int4Weights> w = ReadWeights(r_, node);
    if (!w) return;
    int64_t zero = *x->scaling.zero_value;
    if (type == DType::kI8) zero += kUnsignedOffset;
    const ValueId integers = unsigned_.Of(x->integers);
    if (!r_.status().ok()) return;
    const int64_t blocks = w->blocks_per_row();
    Tensor elements(DType::kI8, Shape({w->depth, w->rows})), scales(DType::kF32, Shape({blocks, w->rows}));
    std::vector<double> shifts(static_cast<size_t>(w->rows), 0);
    const std::span<int8_t> to = elements.mutable_data<int8_t>();
    for (int64_t n = 0; n < w->rows; ++n) {
      for (int64_t g = 0; g < blocks; ++g) {
        const Int4Block& block = w->blocks[static_cast<size_t>(n * blocks + g)];
        int64_t sum = 0;
        for (int64_t k = g * w->block; k < (g + 1) * w->block; ++k) {
          const int element = w->elements[static_cast<size_t>(n * w->depth + k)] + block.offset;
          to[static_cast<size_t>(k * w->rows + n)] = static_cast<int8_t>(element);
          sum += element;
        }
        const double scale = static_cast<double>(block.scale) * *x->scaling.scale_value;
        scales.Set(g * w->rows + n, scale);
        shifts[static_cast<size_t>(n)] -= static_cast<double>(zero * sum) * scale;
      }
    }
    const std::string name = r_.value(node.inputs[1]).name;
    const ValueId w4 = r_.Constant(name + ".int4", elements), factors = r_.Constant(name + ".scales", scales);
    Node product = MakeNode(Op::kScaledMatmul, node.name, {integers, w4, factors});
    if (std::all_of(shifts.begin(), shifts.end(), [](double v) { return v == 0; })) {
      r_.Rebuild(id, std::move(product));
      return;
    }
    Tensor shift(DType::kF32, Shape({w->rows}));
    for (int64_t n = 0; n < w->rows; ++n) shift.Set(n, shifts[static_cast<size_t>(n)]);
    const ValueId sums = r_.Emit(id, std::move(product));
    if (!r_.status().ok()) return;
    r_.Rebuild(id, MakeNode(Op::kAdd, node.name, {sums, r_.Constant(name + ".zero_point", shift)}));
  }

  Rewriter r_;
  UnsignedIntegers unsigned_;
};

}  // namespace

Status ScaleBlocks(Graph& graph) { return Lowering(graph).Run(); }

}  // namespace tessera
