#include "graph/testing/fused_qkv.h"

#include <cmath>
#include <utility>
#include <vector>

#include "graph/builder.h"
#include "tesa/random.h"

namespace tessera {
namespace {

class Maker {
 public:
  explicit Maker(const FusedQkv& what) : w_(what), random_(what.seed), b_("fused_qkv") {}

  Graph Make() {
    const int64_t width = w_.heads * w_.depth;
    ValueId x = b_.Input("x", DType::kF32, {w_.batch, w_.positions, width});
    if (w_.quantised) x = Quantised(x, 0.02, 120);
    ValueId y = b_.Matmul(x, Weights("qkv", width, 3 * width));
    y = b_.Add(b_.Constant("qkv.bias", RandomTensor(random_, {DType::kF32, {3 * width}}, 0.5)), y);
    if (w_.quantised) y = Quantised(y, 0.05, 131);
    if (w_.read_whole) b_.Output(b_.Abs(y));
    const ValueId q = Heads(y, 0, false), k = Heads(y, 1, true), v = Heads(y, 2, false);
    ValueId scores = b_.Div(b_.Matmul(q, k), b_.Number(std::sqrt(static_cast<double>(w_.depth))));
    if (w_.mask == QkvMask::kAdded)
      scores = b_.Add(scores, b_.Input("mask", DType::kF32, {w_.batch, 1, 1, w_.positions}));
    if (w_.mask == QkvMask::kCausalChoice) {
      Tensor keep(DType::kBool, Shape({1, 1, w_.positions, w_.positions}));
      for (int64_t i = 0; i < keep.num_elements(); ++i) keep.SetInt(i, i % w_.positions <= i / w_.positions);
      scores = b_.Where(b_.Constant("causal", std::move(keep)), scores, b_.Number(-3.4028234663852886e38));
    }
    ValueId mix = b_.Matmul(b_.Softmax(scores, 3), v);
    mix = b_.Reshape(b_.Transpose(mix, {0, 2, 1, 3}), {w_.batch, w_.positions, width});
    if (w_.quantised) mix = Quantised(mix, 0.03, 128);
    b_.Output(b_.Matmul(mix, Weights("out", width, width)));
    StatusOr<Graph> graph = std::move(b_).Build();
    TES_CHECK(graph.ok(), graph.status());
    return *std::move(graph);
  }

 private:
  ValueId Quantised(ValueId x, double scale, int64_t zero) {
    const ValueId s = b_.Constant("scale", Tensor::Full(DType::kF32, Shape(), scale));
    const ValueId z = b_.Constant("zero", Tensor::Full(DType::kU8, Shape(), static_cast<double>(zero)));
    return b_.Dequantize(b_.Quantize(x, s, z, DType::kU8), s, z);
  }

  ValueId Weights(const char* name, int64_t rows, int64_t columns) {
    Tensor real = RandomTensor(random_, {DType::kF32, {rows, columns}}, 1 / std::sqrt(static_cast<double>(rows)));
    if (!w_.quantised) {
      std::vector<uint8_t> kept(static_cast<size_t>(real.num_elements()), 1);
      for (uint8_t& keep : kept) keep = !random_.Chance(w_.pruned);
      const Attribute attribute = Attribute::FromKept(real.shape(), kept, 32);
      const ValueId id = b_.Constant(name, attribute.ApplyTo(real));
      if (w_.pruned > 0) b_.SetTesa(id, attribute);
      return id;
    }
    Tensor integers(DType::kI8, real.shape()), scales(DType::kF32, Shape({columns}));
    for (int64_t i = 0; i < integers.num_elements(); ++i)
      integers.SetInt(i, random_.Chance(w_.pruned) ? 0 : random_.Int(-127, 127));
    for (int64_t c = 0; c < columns; ++c) {
      scales.Set(c, random_.Uniform(0.8, 1.2) / (127 * std::sqrt(static_cast<double>(rows))));
    }
    return b_.Dequantize(b_.Constant(name, std::move(integers)), b_.Constant("scales", std::move(scales)),
                         ValueId::kNone, 1);
  }

  // Part `index` of the product as heads: [B, H, S, D], keys [B, H, D, S].
  ValueId Heads(ValueId y, int64_t index, bool keys) {
    const int64_t batch = w_.batch, positions = w_.positions, heads = w_.heads, depth = w_.depth;
    const std::vector<int64_t> perm = keys ? std::vector<int64_t>{0, 2, 3, 1} : std::vector<int64_t>{0, 2, 1, 3};
    const auto turned = [&](ValueId first) { return keys ? b_.Transpose(first, {0, 1, 3, 2}) : first; };
    const auto plane = [&](ValueId from, int dim, std::vector<int64_t> rest) {
      std::vector<int64_t> starts(5, 0), sizes = b_.ShapeOf(from).dims();
      starts[dim] = index;
      sizes[dim] = 1;
      return b_.Reshape(b_.Slice(from, starts, sizes), std::move(rest));
    };
    switch (w_.form) {
      case QkvForm::kSplit: {
        const ValueId part = b_.Slice(y, {0, 0, index * heads * depth}, {batch, positions, heads * depth});
        return b_.Transpose(b_.Reshape(part, {batch, positions, heads, depth}), perm);
      }
      case QkvForm::kPlanes: {
        const ValueId planes = b_.Transpose(b_.Reshape(y, {batch, positions, 3, heads, depth}), {2, 0, 3, 1, 4});
        return turned(plane(planes, 0, {batch, heads, positions, depth}));
      }
      case QkvForm::kPlanesBehind: {
        const ValueId planes = b_.Reshape(y, {batch, positions, 3, heads, depth});
        return b_.Transpose(plane(planes, 2, {batch, positions, heads, depth}), perm);
      }
      case QkvForm::kInHeads: {
        const ValueId all = b_.Reshape(y, {batch, positions, heads, 3 * depth});
        return b_.Transpose(b_.Slice(all, {0, 0, 0, index * depth}, {batch, positions, heads, depth}), perm);
      }
      case QkvForm::kHeadsFirst: {
        const ValueId all = b_.Transpose(b_.Reshape(y, {batch, positions, heads, 3 * depth}), {0, 2, 1, 3});
        return turned(b_.Slice(all, {0, 0, 0, index * depth}, {batch, heads, positions, depth}));
      }
    }
    return y;
  }

  const FusedQkv& w_;
  Random random_;
  GraphBuilder b_;
};

}  // namespace

Graph FusedQkvBlock(const FusedQkv& what) { return Maker(what).Make(); }

}  // namespace tessera
