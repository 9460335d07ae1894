// conv: a contraction over channels and window taps; grouped, strided, dilated, padded, over any number of spatial
// axes.
//
//   out[n, oc, o..] = sum over ic, k..  x[n, first channel of oc's group + ic, o * stride - pad + k * dilation]
//                                       * w[oc, ic, k..]       (x outside the image is pad_value, normally 0)
//
// pad_value is for integers that stand for reals with a zero point: there a padded tap reads the zero point, so that
// what the zero point adds to a sum is the same for every window.
#include <algorithm>

#include "graph/multiply_add.h"
#include "graph/ops/common.h"
#include "graph/ops/contraction.h"
#include "graph/ops/window.h"

namespace tessera {
namespace {

struct ConvShape {
  Window window;
  int64_t batch, groups;
  int64_t in_channels, out_channels;  // of one group
  int64_t pad_value;                  // of x's type
};

StatusOr<ConvShape> ReadConv(const OpContext& c) {
  const Shape &x = c.shape(0), &w = c.shape(1);
  if (w.rank() < 3 || w.rank() != x.rank()) {
    return Error(ErrorCode::kShapeMismatch,
                 "expected operands of one rank, at least 3 (x: batch, channels, spatial; w: ",
                 "output channels, input channels of a group, kernel), found ", c.input(0), " and ", c.input(1));
  }
  ConvShape conv;
  ASSIGN_OR_RETURN(conv.window, ReadWindow(c.attrs, x, std::vector<int64_t>(w.begin() + 2, w.end())));
  conv.batch = x[0];
  conv.groups = c.attrs.Int("groups");
  const int64_t channels = x[conv.window.channel_dim()];
  if (conv.groups < 1 || channels % conv.groups != 0 || w[0] % conv.groups != 0) {
    return Error(ErrorCode::kAttributeInvalid, "expected groups >= 1 that divide the ", channels,
                 " channels of x and the ", w[0], " of the result, found ", conv.groups);
  }
  conv.in_channels = channels / conv.groups;
  conv.out_channels = w[0] / conv.groups;
  if (w[1] != conv.in_channels) {
    return Error(ErrorCode::kShapeMismatch, "operand 1: expected ", conv.in_channels, " input channels (", channels,
                 " in ", conv.groups, " groups), found ", c.input(1));
  }
  const DType dtype = c.dtype(0);
  conv.pad_value = c.attrs.Int("pad_value", 0);
  const bool fits =
      IsInteger(dtype) ? conv.pad_value >= MinInt(dtype) && conv.pad_value <= MaxInt(dtype) : !c.attrs.Has("pad_value");
  if (!fits) {
    return Error(ErrorCode::kAttributeInvalid, "expected a pad_value that ", dtype,
                 " holds, or none where operand 0 is a float, found ", conv.pad_value);
  }
  return conv;
}

StatusOr<std::vector<TensorType>> Infer(const OpContext& c) {
  ASSIGN_OR_RETURN(DType dtype, ContractionType(c));
  ASSIGN_OR_RETURN(ConvShape conv, ReadConv(c));
  return std::vector<TensorType>{{dtype, conv.window.OutputShape(conv.batch, c.shape(1)[0])}};
}

// ---- Reference: gathers what each window sees into a matrix, then multiplies it by the weights ----

// Elements between neighbours along each dimension that a walk over windows needs.
struct Steps {
  int64_t batch, channel;
  std::vector<int64_t> spatial;
  Steps(const Shape& shape, const Window& window) {
    const std::vector<int64_t> strides = shape.Strides();
    batch = strides[0];
    channel = strides[window.channel_dim()];
    for (size_t i = 0; i < window.axes.size(); ++i) spatial.push_back(strides[window.spatial_dim(static_cast<int>(i))]);
  }
};

// The windows are numbered row-major; a row is a run of windows along the last axis. Splits a row's number into the
// windows' coordinates along the other axes.
std::vector<int64_t> RowCoordinates(const Window& window, int64_t row) {
  std::vector<int64_t> at(window.axes.size() - 1);
  for (int i = static_cast<int>(at.size()) - 1; i >= 0; --i) {
    at[i] = row % window.axes[i].out;
    row /= window.axes[i].out;
  }
  return at;
}

// One row of the gathered matrix: tap `tap` of the windows in rows [row, row + rows), `fill` where it falls into
// padding. `x` points at the first element of the channel.
template <typename T>
void GatherTap(const T* x, const Window& window, const Steps& steps, const std::vector<int64_t>& tap, int64_t row,
               int64_t rows, T fill, T* to) {
  const int last = static_cast<int>(window.axes.size()) - 1;
  const WindowAxis& inner = window.axes[last];
  for (int64_t r = row; r < row + rows; ++r, to += inner.out) {
    const std::vector<int64_t> at = RowCoordinates(window, r);
    const T* from = x;
    bool inside = true;
    for (int i = 0; i < last; ++i) {
      const int64_t position = window.axes[i].Position(at[i], tap[i]);
      inside &= position >= 0 && position < window.axes[i].in;
      from += position * steps.spatial[i];
    }
    for (int64_t o = 0; o < inner.out; ++o) {
      const int64_t position = inner.Position(o, tap[last]);
      to[o] = inside && position >= 0 && position < inner.in ? from[position * steps.spatial[last]] : fill;
    }
  }
}

template <typename T>
void Convolve(const OpContext& c, const RefTensor& x, const RefTensor& w, RefTensor& out) {
  const ConvShape conv = *ReadConv(c);
  const Window& window = conv.window;
  const Shape kernel(window.Kernel());
  const Steps in(x.type.shape, window), result(out.type.shape, window);
  const int64_t terms = conv.in_channels * kernel.num_elements();  // of the sum that makes one element
  const int64_t width = window.axes.back().out;
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < window.axes.size(); ++i) rows *= window.axes[i].out;
  const int64_t rows_at_once = std::clamp<int64_t>(4096 / width, 1, std::max<int64_t>(rows, 1));
  std::vector<T> gathered, product;
  for (int64_t n = 0; n < conv.batch; ++n) {
    for (int64_t g = 0; g < conv.groups; ++g) {
      const T* weights = ValuesOf<T>(w).data() + g * conv.out_channels * terms;
      for (int64_t row = 0; row < rows; row += rows_at_once) {
        const int64_t count = std::min(rows_at_once, rows - row), windows = count * width;
        gathered.resize(terms * windows);
        T* to = gathered.data();
        for (int64_t ic = 0; ic < conv.in_channels; ++ic) {
          const T* from = ValuesOf<T>(x).data() + n * in.batch + (g * conv.in_channels + ic) * in.channel;
          ForEachIndex(kernel, [&](const std::vector<int64_t>& tap) {
            GatherTap(from, window, in, tap, row, count, static_cast<T>(conv.pad_value), to);
            to += windows;
          });
        }
        product.assign(conv.out_channels * windows, T{0});
        MultiplyAdd(conv.out_channels, windows, terms, weights, gathered.data(), product.data());
        // Windows follow each other in memory: by one element, or by one pixel of all channels.
        const int64_t step = result.spatial.back();
        for (int64_t oc = 0; oc < conv.out_channels; ++oc) {
          T* at = ValuesOf<T>(out).data() + n * result.batch + (g * conv.out_channels + oc) * result.channel +
                  row * width * step;
          for (int64_t k = 0; k < windows; ++k) at[k * step] = product[oc * windows + k];
        }
      }
    }
  }
}

void Reference(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  RefTensor& out = outputs[0];
  if (out.is_float()) return Convolve<double>(c, *inputs[0], *inputs[1], out);
  Convolve<int64_t>(c, *inputs[0], *inputs[1], out);
  for (int64_t k = 0; k < out.size(); ++k) out.Set(k, out.Get(k));  // wraps to i32
}

// ---- Compute ----

// Without groups           for n, oc, o.. | ic, k..             x[n, ic, ..] * w[oc, ic, k..]
// one channel per group    for n, oc, o.. | k..                 x[n, oc, ..] * w[oc, 0, k..]
// otherwise                for n, g, oc, o.. | ic, k..          x[n, g, ic, ..] * w[g, oc, ic, k..], with the channels
// of
//                          x, w and the result viewed as [groups, channels of a group]
// nhwc has oc (or g, oc) behind o.., and ic behind k..: both orders walk x and the result as they lie in memory.
Compute MakeCompute(const OpContext& c) {
  Compute compute = StartCompute(c);
  const ConvShape conv = *ReadConv(c);
  const Window& window = conv.window;
  const bool channels_last = window.channels_last;
  const bool depthwise = conv.groups > 1 && conv.in_channels == 1 && conv.out_channels == 1;
  const bool grouped = conv.groups > 1 && !depthwise;
  const int spatial = static_cast<int>(window.axes.size());

  // Axes of the stage, in order.
  Stage stage = {.name = depthwise ? "conv_depthwise" : "conv", .extents = {conv.batch}};
  const auto add_axis = [&](int64_t extent) {
    stage.extents.push_back(extent);
    return stage.rank() - 1;
  };
  int group_axis = -1, channel_axis = -1, term_axis = -1;
  const auto add_channels = [&] {
    if (grouped) group_axis = add_axis(conv.groups);
    channel_axis = add_axis(grouped ? conv.out_channels : conv.groups * conv.out_channels);
  };
  const auto add_terms = [&] {
    if (!depthwise) term_axis = add_axis(conv.in_channels);
  };
  if (!channels_last) add_channels();
  const int first_spatial = stage.rank();
  for (const WindowAxis& axis : window.axes) add_axis(axis.out);
  if (channels_last) add_channels();
  stage.parallel_rank = stage.rank();
  if (!channels_last) add_terms();
  const int first_tap = stage.rank();
  for (const WindowAxis& axis : window.axes) add_axis(axis.kernel);
  if (channels_last) add_terms();

  Access x = WindowRead(In(0), c.shape(0), window, Axis(depthwise ? channel_axis : term_axis), first_spatial, first_tap,
                        static_cast<double>(conv.pad_value));
  Access w = {.buffer = In(1), .view = c.shape(1)};
  w.index = {Axis(channel_axis), depthwise ? FixedIndex(0) : Axis(term_axis)};
  for (int i = 0; i < spatial; ++i) w.index.push_back(Axis(first_tap + i));
  if (grouped) {
    const auto split = [&](Access& access, int dim) {
      std::vector<int64_t> dims = access.view.dims();
      dims[dim] /= conv.groups;
      dims.insert(dims.begin() + dim, conv.groups);
      access.view = Shape(std::move(dims));
      access.index.insert(access.index.begin() + dim, Axis(group_axis));
    };
    split(x, window.channel_dim());
    split(w, 0);
  }
  stage.reads = {std::move(x), std::move(w)};
  stage.body = ProductBody(c.dtype(0), c.dtype(1));
  stage.combiner = Combiner::kAdd;
  stage.write = Elementwise(
      Out(), Shape(std::vector<int64_t>(stage.extents.begin(), stage.extents.begin() + stage.parallel_rank)));
  compute.stages.push_back(std::move(stage));
  return compute;
}

}  // namespace

OpDef MakeConvOp() {
  OpDef def = {};
  def.doc = "Convolution without bias; w is [output channels, input channels of a group, kernel..]. ONNX Conv.";
  def.min_inputs = def.max_inputs = 2;
  def.attrs = WindowAttrs();
  def.attrs.push_back({"groups", AttrKind::kInt, true, "divides the channels of x and of the result"});
  def.attrs.push_back({"pad_value", AttrKind::kInt, false, "integers only: what x is outside the image; 0"});
  def.infer = &Infer;
  def.reference = &Reference;
  def.compute = &MakeCompute;
  return def;
}

}  // namespace tessera
