#include "graph/passes/use_integers.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "graph/op.h"
#include "graph/passes/computed_product.h"
#include "graph/passes/fold_constants.h"
#include "graph/passes/integer_product.h"
#include "graph/passes/quantized.h"
#include "graph/passes/rewriter.h"
#include "graph/passes/unsigned_integers.h"

namespace tessera {
namespace {

// A bias belongs to a product when its scale is that of the product, which files compute in f32.
constexpr double kScaleTolerance = 1e-6;
constexpr int64_t kMaxSum = INT32_MAX / 256;  // of so many integers of 8 bits i32 holds the sum

class Converter {
 public:
  explicit Converter(Graph& graph) : r_(graph), unsigned_(r_), signed_(r_) {}

  Status Run() {
    for (NodeId id = r_.First(); id != NodeId::kNone && r_.status().ok(); id = r_.Following(id)) {
      if (r_.node(id).epilogue) continue;
      switch (r_.node(id).op) {
        case Op::kMatmul:
        case Op::kConv: Product(id); break;
        case Op::kReduceMean: Mean(id); break;
        case Op::kAvgPool: AveragePool(id); break;
        default: break;
      }
    }
    FoldDequantizedConstants();
    return std::move(r_).Finish();
  }

 private:
  bool IsProduct(NodeId id) const;
  void Product(NodeId id);
  void ProductOfComputed(NodeId id);
  void Mean(NodeId id);
  void AveragePool(NodeId id);
  void FoldDequantizedConstants();
  Rewriter r_;
  UnsignedIntegers unsigned_;
  SignedIntegers signed_;

  // The node that ends a product's arithmetic on integers, and the bias that it adds.
  struct Bias {
    NodeId end = NodeId::kNone;
    std::vector<int64_t> values;
  };
  Bias FindBias(NodeId id, const Scaling& x, const IntegerWeights& weights) const;
  // sums * scales, as the result of node `end`.
  void Scale(NodeId before, NodeId end, ValueId sums, const Scaling& x, const IntegerWeights& weights);
  ValueId Emit(NodeId before, Op op, std::vector<ValueId> inputs, Attrs attrs = {}) {
    if (!r_.status().ok()) return ValueId::kNone;
    return r_.Emit(before, op, std::move(inputs), std::move(attrs), r_.node(before).name);
  }
  ValueId Number(const std::string& name, DType dtype, double value) {
    return r_.Constant(name, Tensor::Full(dtype, Shape(), value));
  }
};

// Already what this pass makes.
bool Converter::IsProduct(NodeId id) const {
  const Node& node = r_.node(id);
  return r_.type(node.inputs[0]).dtype == DType::kU8 && r_.type(node.inputs[1]).dtype == DType::kI8 &&
         r_.graph().IsConstant(node.inputs[1]);
}

Converter::Bias Converter::FindBias(NodeId id, const Scaling& x, const IntegerWeights& weights) const {
  const Node& node = r_.node(id);
  const ValueId out = node.outputs[0];
  if (!x.scale_value || !r_.HasOneReader(out)) return {id, {}};
  const NodeId reader = *r_.Readers(out).begin();
  const Node& add = r_.node(reader);
  if (add.op != Op::kAdd || add.epilogue || add.inputs[0] == add.inputs[1]) return {id, {}};
  const ValueId other = add.inputs[add.inputs[0] == out ? 1 : 0];
  const std::optional<IntegerBias> bias =
      ReadIntegerBias(r_, other, r_.shape(out).rank(), ChannelDim(node, r_.shape(out).rank()), weights.channels());
  if (!bias || r_.shape(add.outputs[0]) != r_.shape(out)) return {id, {}};
  for (size_t c = 0; c < bias->values.size(); ++c) {
    if (bias->values[c] == 0) continue;
    const double scale = *x.scale_value * weights.scales[weights.scales.size() == 1 ? 0 : c];
    const double given = bias->scales[bias->scales.size() == 1 ? 0 : c];
    if (std::abs(given - scale) > kScaleTolerance * scale) return {id, {}};
  }
  return {reader, bias->values};
}

void Converter::Scale(NodeId before, NodeId end, ValueId sums, const Scaling& x, const IntegerWeights& weights) {
  const Node& node = r_.node(before);
  const int rank = r_.shape(node.outputs[0]).rank(), dim = ChannelDim(node, rank);
  std::vector<double> scales = weights.scales;
  for (double& scale : scales) scale *= x.scale_value.value_or(1);
  ValueId real = Emit(before, Op::kCast, {sums}, MakeAttrs({{"to", DType::kF32}}));
  const ValueId factor = ConstantAlong(r_, weights.name + ".scale", DType::kF32, rank, dim, scales);
  const std::string name = node.name;
  if (!x.scale_value) {
    real = Emit(before, Op::kMul, {real, factor});
    if (r_.status().ok()) r_.Rebuild(end, MakeNode(Op::kMul, name, {real, x.scale}));
    return;
  }
  if (r_.status().ok()) r_.Rebuild(end, MakeNode(Op::kMul, name, {real, factor}));
}

void Converter::Product(NodeId id) {
  if (IsProduct(id)) return;
  std::string why;
  std::optional<ProductParts> parts = ReadProduct(r_, r_.node(id), &why);
  if (!parts) return ProductOfComputed(id);
  const bool real = IsFloat(r_.type(r_.node(id).outputs[0]).dtype);
  Bias bias = {id, {}};
  if (real) bias = FindBias(id, parts->scaling, parts->weights);
  if (MayOverflow(parts->fitted, parts->terms, bias.values)) bias = {id, {}};
  IntegerActivation x = {.zero = parts->scaling.zero_value, .computed_zero = parts->scaling.zero_point};
  if (x.zero && r_.type(parts->x).dtype == DType::kI8) *x.zero += kUnsignedOffset;
  x.integers = unsigned_.Of(parts->x);
  if (!r_.status().ok()) return;
  const ValueId sums = EmitIntegerProduct(r_, id, ProductForm(r_, id), x, parts->weights, parts->fitted, bias.values);
  if (!r_.status().ok()) return;
  if (real) return Scale(id, bias.end, sums, parts->scaling, parts->weights);
  r_.Replace(r_.node(id).outputs[0], sums);
}

void Converter::ProductOfComputed(NodeId id) {
  std::string why;
  std::optional<ComputedProduct> product = ReadComputedProduct(r_, r_.node(id), &why);
  if (!product) return;
  const double scale = *product->left.scaling.scale_value * *product->right.scaling.scale_value;
  int64_t left_zero = *product->left.scaling.zero_value;
  if (r_.type(product->left.integers).dtype == DType::kI8) left_zero += kUnsignedOffset;
  const ValueId left = unsigned_.Of(product->left.integers);
  if (!r_.status().ok()) return;
  // Where both operands are one value, the right one reads what the left one has become.
  product = ReadComputedProduct(r_, r_.node(id), &why);
  TES_CHECK(product.has_value(), why);
  int64_t right_zero = *product->right.scaling.zero_value;
  if (r_.type(product->right.integers).dtype == DType::kU8) right_zero -= kUnsignedOffset;
  const ValueId right = signed_.Of(product->right.integers);
  if (!r_.status().ok()) return;
  const ValueId sums = EmitComputedProduct(r_, id, left, left_zero, right, right_zero);
  const ValueId real = Emit(id, Op::kCast, {sums}, MakeAttrs({{"to", DType::kF32}}));
  if (!r_.status().ok()) return;
  const std::string name = r_.node(id).name;
  r_.Rebuild(id, MakeNode(Op::kMul, name, {real, Number(name + ".scale", DType::kF32, scale)}));
}

// reduce_mean(dequantize(x)) -> (reduce_sum(x) - count * zero) * (scale / count)
void Converter::Mean(NodeId id) {
  const Node node = r_.node(id);
  const std::optional<Dequantized> x = ReadDequantize(r_, node.inputs[0]);
  if (!x || !x->scaling.is_constant()) return;
  int64_t count = 1;
  for (int64_t axis : node.attrs.Ints("axes")) count *= r_.shape(node.inputs[0])[static_cast<int>(axis)];
  if (count < 1 || count > kMaxSum || TypeInfo(r_.type(x->integers).dtype).bits > 8) return;
  Attrs attrs = node.attrs;
  attrs.Set("dtype", DType::kI32);
  ValueId sum = Emit(id, Op::kReduceSum, {x->integers}, std::move(attrs));
  if (const int64_t zero = *x->scaling.zero_value; zero != 0) {
    const double shift = -static_cast<double>(zero * count);
    sum = Emit(id, Op::kAdd, {sum, Number(node.name + ".zero_point", DType::kI32, shift)});
  }
  const ValueId real = Emit(id, Op::kCast, {sum}, MakeAttrs({{"to", DType::kF32}}));
  const double scale = *x->scaling.scale_value / static_cast<double>(count);
  if (!r_.status().ok()) return;
  r_.Rebuild(id, MakeNode(Op::kMul, node.name, {real, Number(node.name + ".scale", DType::kF32, scale)}));
}

// avg_pool(dequantize(x)) -> conv(x, ones), each channel for itself, scaled by what its windows hold
void Converter::AveragePool(NodeId id) {
  const Node node = r_.node(id);
  const std::optional<Dequantized> x = ReadDequantize(r_, node.inputs[0]);
  if (!x || !x->scaling.is_constant() || TypeInfo(r_.type(x->integers).dtype).bits != 8) return;
  const Shape in = r_.shape(node.inputs[0]), out = r_.shape(node.outputs[0]);
  const bool last = node.attrs.String("layout") == "nhwc";
  const int axes = in.rank() - 2, first = last ? 1 : 2;
  const std::vector<int64_t>&kernel = node.attrs.Ints("kernel"), &pads = node.attrs.Ints("pads");
  const std::vector<int64_t>&strides = node.attrs.Ints("strides"), &dilations = node.attrs.Ints("dilations");
  const bool counts_pads = node.attrs.Int("count_include_pad", 0) != 0;
  // What each window divides by, along each axis; windows that hang over the padded end are left in float.
  std::vector<double> counts = {1};
  int64_t all = 1;
  for (int i = 0; i < axes; ++i) {
    std::vector<double> longer;
    for (double count : counts) {
      for (int64_t o = 0; o < out[first + i]; ++o) {
        const int64_t begin = o * strides[i] - pads[i];
        if (begin + (kernel[i] - 1) * dilations[i] >= in[first + i] + pads[axes + i]) return;
        int64_t inside = 0;
        for (int64_t t = 0; t < kernel[i]; ++t) {
          const int64_t at = begin + t * dilations[i];
          inside += at >= 0 && at < in[first + i];
        }
        longer.push_back(count * static_cast<double>(counts_pads ? kernel[i] : inside));
      }
    }
    counts = std::move(longer);
    all *= kernel[i];
  }
  if (out.num_elements() == 0 || all > kMaxSum / 255) return;
  const int64_t channels = in[last ? in.rank() - 1 : 1];
  IntegerWeights ones = {.name = node.name + ".ones", .scales = {*x->scaling.scale_value}};
  std::vector<int64_t> dims = {channels, 1};
  dims.insert(dims.end(), kernel.begin(), kernel.end());
  ones.shape = Shape(std::move(dims));
  ones.values.assign(static_cast<size_t>(ones.shape.num_elements()), 1);
  std::string why;
  const std::optional<FittedWeights> fitted = FitWeights(ones, &why);
  if (!fitted) return;
  IntegerActivation activation = {.zero = x->scaling.zero_value};
  if (r_.type(x->integers).dtype == DType::kI8) *activation.zero += kUnsignedOffset;
  activation.integers = unsigned_.Of(x->integers);
  Attrs attrs = MakeAttrs({{"strides", strides},
                           {"dilations", dilations},
                           {"pads", pads},
                           {"groups", channels},
                           {"layout", node.attrs.String("layout")}});
  if (!r_.status().ok()) return;
  const ProductForm form(MakeNode(Op::kConv, node.name, {}, std::move(attrs)), out);
  const ValueId sums = EmitIntegerProduct(r_, id, form, activation, ones, *fitted, {});
  const ValueId real = Emit(id, Op::kCast, {sums}, MakeAttrs({{"to", DType::kF32}}));
  std::vector<int64_t> spatial(out.begin() + first, out.begin() + first + axes);
  if (last) spatial.push_back(1);
  Tensor scales(DType::kF32, Shape(std::move(spatial)));
  for (size_t k = 0; k < counts.size(); ++k) scales.Set(static_cast<int64_t>(k), *x->scaling.scale_value / counts[k]);
  const bool uniform = std::all_of(counts.begin(), counts.end(), [&](double c) { return c == counts[0]; });
  if (uniform) scales = Tensor::Full(DType::kF32, Shape(), *x->scaling.scale_value / counts[0]);
  if (!r_.status().ok()) return;
  r_.Rebuild(id, MakeNode(Op::kMul, node.name, {real, r_.Constant(node.name + ".scale", std::move(scales))}));
}

void Converter::FoldDequantizedConstants() {
  for (NodeId id = r_.First(); id != NodeId::kNone && r_.status().ok();) {
    const NodeId next = r_.Following(id);
    const Node& node = r_.node(id);
    const bool constant = std::all_of(node.inputs.begin(), node.inputs.end(),
                                      [&](ValueId k) { return k == ValueId::kNone || r_.graph().IsConstant(k); });
    if (node.op == Op::kDequantize && !node.epilogue && constant && !r_.IsOutput(node.outputs[0])) {
      FoldToConstant(r_, id);
    }
    id = next;
  }
}

}  // namespace

Status UseIntegers(Graph& graph) { return Converter(graph).Run(); }

}  // namespace tessera
