// Convolutions, poolings, products and resizing. TFLite's layout is channels last; weights come to our order, output
// channels first, at import.
#include "models/import/tflite/handlers.h"

namespace tessera::tflite_handlers {
namespace {

// Window parameters over H and W of x [N,H,W,C].
StatusOr<SpatialWindow> Window2d(const TfliteNode& node, ValueId x, tfl::Padding padding, SpatialWindow window) {
  const Shape& s = node.shape(x);
  return node.ResolveWindow({s[1], s[2]}, std::move(window),
                            padding == tfl::Padding::SAME ? AutoPad::kSameUpper : AutoPad::kValid);
}

StatusOr<ValueId> AddBias(const TfliteNode& node, ValueId y) {
  if (!node.has(2)) return y;
  ASSIGN_OR_RETURN(const ValueId bias, node.real(2));
  return node.AddAlong(y, bias, node.rank(y) - 1);
}

Status CheckRanks(const TfliteNode& node, int x_rank, int w_rank) {
  if (node.rank(node.raw(0)) == x_rank && (w_rank == 0 || node.rank(node.raw(1)) == w_rank)) return OkStatus();
  return node.Error(ErrorCode::kShapeMismatch, "expected an input of ", x_rank, " dimensions and a weight of ", w_rank,
                    ", found ", node.type(node.raw(0)),
                    w_rank == 0 ? std::string() : " and " + node.type(node.raw(1)).ToString());
}

template <typename Options>
TfliteResults EmitConv(TfliteNode& node, const Options& options, const std::vector<int64_t>& weight_perm,
                       bool depthwise) {
  RETURN_IF_ERROR(CheckRanks(node, 4, 4));
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  ASSIGN_OR_RETURN(const ValueId w, node.Weight(1, weight_perm));
  const Shape& s = node.shape(w);  // [O, I / groups, kh, kw]
  const int64_t channels = node.shape(x)[3];
  if (s[1] == 0 || channels % s[1] != 0) {
    return node.Error(ErrorCode::kShapeMismatch, "an input ", node.type(x), " does not fit a weight ",
                      node.type(node.raw(1)));
  }
  ASSIGN_OR_RETURN(const SpatialWindow window,
                   Window2d(node, x, options.padding(),
                            {.kernel = {s[2], s[3]},
                             .strides = {options.stride_h(), options.stride_w()},
                             .dilations = {options.dilation_h_factor(), options.dilation_w_factor()}}));
  ASSIGN_OR_RETURN(ValueId y, node.Emit(Op::kConv, {x, w},
                                        MakeAttrs({{"strides", window.strides},
                                                   {"dilations", window.dilations},
                                                   {"pads", window.pads},
                                                   {"groups", depthwise ? channels : channels / s[1]},
                                                   {"layout", std::string("nhwc")}})));
  ASSIGN_OR_RETURN(y, AddBias(node, y));
  return node.Activate(y, options.fused_activation_function());
}

// The extents [H, W] of operand 1 over x [N,H,W,C].
TfliteResults EmitResize(TfliteNode& node, const std::string& mode, bool align_corners, bool half_pixel) {
  RETURN_IF_ERROR(CheckRanks(node, 4, 0));
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  ASSIGN_OR_RETURN(const std::vector<int64_t> extents, node.ConstInts(1, "size"));
  const Shape s = node.shape(x);
  if (extents.size() != 2 || extents[0] < 1 || extents[1] < 1 || s[1] < 1 || s[2] < 1) {
    return node.Error(ErrorCode::kValueInvalid, "cannot resize ", node.type(x), " to ", Shape(extents));
  }
  const std::vector<int64_t> sizes = {s[0], extents[0], extents[1], s[3]};
  if (sizes == s.dims()) return x;
  const std::vector<double> scales = {1, static_cast<double>(extents[0]) / static_cast<double>(s[1]),
                                      static_cast<double>(extents[1]) / static_cast<double>(s[2]), 1};
  Attrs attrs = MakeAttrs({{"sizes", sizes}, {"scales", scales}, {"mode", mode}});
  attrs.Set("coordinate", std::string(align_corners ? "align_corners" : half_pixel ? "half_pixel" : "asymmetric"));
  // Nearest: floor of the position; with corners or centres aligned, the nearer one, halves up.
  if (mode == "nearest") attrs.Set("nearest", std::string(align_corners || half_pixel ? "round_prefer_ceil" : "floor"));
  return node.Emit(Op::kResize, {x}, std::move(attrs));
}

}  // namespace

TfliteResults ImportConv2d(TfliteNode& node) {
  ASSIGN_OR_RETURN(const auto* options, node.required_options<tfl::Conv2DOptions>());
  return EmitConv(node, *options, {0, 3, 1, 2}, false);  // from [O, kh, kw, I]
}

TfliteResults ImportDepthwiseConv2d(TfliteNode& node) {
  ASSIGN_OR_RETURN(const auto* options, node.required_options<tfl::DepthwiseConv2DOptions>());
  return EmitConv(node, *options, {3, 0, 1, 2}, true);  // from [1, kh, kw, O]
}

TfliteResults ImportFullyConnected(TfliteNode& node) {
  ASSIGN_OR_RETURN(const auto* options, node.required_options<tfl::FullyConnectedOptions>());
  if (options->weights_format() != 0) {
    return node.Error(ErrorCode::kOpUnsupported, "shuffled weights are not supported");
  }
  ASSIGN_OR_RETURN(ValueId x, node.real(0));
  if (node.rank(node.raw(1)) != 2 || node.rank(x) < 1) {
    return node.Error(ErrorCode::kShapeMismatch, "expected a weight [O,I], found ", node.type(node.raw(1)));
  }
  ASSIGN_OR_RETURN(const ValueId w, node.Weight(1, {0, 1}));
  const int64_t outputs = node.shape(w)[0], inputs = node.shape(w)[1];
  std::vector<int64_t> dims = node.shape(x).dims();
  const int64_t count = node.shape(x).num_elements();
  if (inputs == 0 || count % inputs != 0) {
    return node.Error(ErrorCode::kShapeMismatch, "an input ", node.type(x), " does not fit a weight ", node.type(w));
  }
  ASSIGN_OR_RETURN(x, node.Reshape(x, {count / inputs, inputs}));
  ASSIGN_OR_RETURN(ValueId y, node.Emit(Op::kMatmul, {x, w}, MakeAttrs({{"transpose_b", int64_t{1}}})));
  ASSIGN_OR_RETURN(y, AddBias(node, y));
  ASSIGN_OR_RETURN(y, node.Activate(y, options->fused_activation_function()));
  if (!options->keep_num_dims()) return y;
  if (dims.back() != inputs) {
    return node.Error(ErrorCode::kShapeMismatch, "an input ", Shape(dims), " does not fit a weight ", node.type(w));
  }
  dims.back() = outputs;
  return node.Reshape(y, std::move(dims));
}

TfliteResults ImportBatchMatmul(TfliteNode& node) {
  const auto* options = node.options<tfl::BatchMatMulOptions>();
  ASSIGN_OR_RETURN(const ValueId a, node.real(0));
  ASSIGN_OR_RETURN(const ValueId b, node.real(1));
  return node.Emit(Op::kMatmul, {a, b},
                   MakeAttrs({{"transpose_a", int64_t{options != nullptr && options->adj_x()}},
                              {"transpose_b", int64_t{options != nullptr && options->adj_y()}}}));
}

TfliteResults ImportPoolOp(TfliteNode& node, Op op) {
  ASSIGN_OR_RETURN(const auto* options, node.required_options<tfl::Pool2DOptions>());
  RETURN_IF_ERROR(CheckRanks(node, 4, 0));
  // A maximum of integers is the integer of the maximum.
  ASSIGN_OR_RETURN(const ValueId x, op == Op::kMaxPool ? node.moved(0) : node.real(0));
  ASSIGN_OR_RETURN(const SpatialWindow window, Window2d(node, x, options->padding(),
                                                        {.kernel = {options->filter_height(), options->filter_width()},
                                                         .strides = {options->stride_h(), options->stride_w()}}));
  ASSIGN_OR_RETURN(const ValueId y, node.Emit(op, {x},
                                              MakeAttrs({{"kernel", window.kernel},
                                                         {"strides", window.strides},
                                                         {"dilations", window.dilations},
                                                         {"pads", window.pads},
                                                         {"layout", std::string("nhwc")}})));
  return node.Activate(y, IsFloat(node.dtype(y)) ? options->fused_activation_function() : tfl::Activation::NONE);
}

TfliteResults ImportResizeBilinear(TfliteNode& node) {
  const auto* options = node.options<tfl::ResizeBilinearOptions>();
  return EmitResize(node, "linear", options != nullptr && options->align_corners(),
                    options != nullptr && options->half_pixel_centers());
}

TfliteResults ImportResizeNearest(TfliteNode& node) {
  const auto* options = node.options<tfl::ResizeNearestNeighborOptions>();
  return EmitResize(node, "nearest", options != nullptr && options->align_corners(),
                    options != nullptr && options->half_pixel_centers());
}

}  // namespace tessera::tflite_handlers
