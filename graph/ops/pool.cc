// max_pool, avg_pool: a reduction over the taps of a window, for each channel alone.
//
//   max_pool: the largest element of x under the window; padding never wins
//   avg_pool: the sum of the elements under the window, divided by how many there are (with count_include_pad, padding
//             that was declared counts as well; what hangs over the padded end, as out_shape_ceil allows, never does)
#include <algorithm>
#include <cmath>
#include <limits>

#include "graph/ops/common.h"
#include "graph/ops/window.h"

namespace tessera {
namespace {

StatusOr<Window> ReadPool(const OpContext& c) {
  ASSIGN_OR_RETURN(Window window,
                   ReadWindow(c.attrs, c.shape(0), c.attrs.Ints("kernel"), c.attrs.Int("out_shape_ceil", 0) != 0));
  RETURN_IF_ERROR(CheckWindowsHoldElements(window));
  return window;
}

StatusOr<std::vector<TensorType>> Infer(const OpContext& c, TypeClass wanted) {
  RETURN_IF_ERROR(CheckType(c, 0, wanted));
  ASSIGN_OR_RETURN(Window window, ReadPool(c));
  return std::vector<TensorType>{{c.dtype(0), window.OutputShape(c.shape(0)[0], c.shape(0)[window.channel_dim()])}};
}

// Calls visit(k, o, positions) for each element k of the result, with its window's coordinates o along the spatial axes
// and the positions in x of the elements that the window holds.
template <typename Visit>
void ForEachWindow(const Window& window, const Shape& x, const Shape& out, Visit visit) {
  const std::vector<int64_t> strides = x.Strides();
  const Shape kernel(window.Kernel());
  std::vector<int64_t> o(window.axes.size()), positions;
  int64_t k = 0;
  ForEachIndex(out, [&](const std::vector<int64_t>& at) {
    for (size_t i = 0; i < o.size(); ++i) o[i] = at[window.spatial_dim(static_cast<int>(i))];
    positions.clear();
    ForEachIndex(kernel, [&](const std::vector<int64_t>& tap) {
      int64_t position = at[0] * strides[0] + at[window.channel_dim()] * strides[window.channel_dim()];
      for (size_t i = 0; i < o.size(); ++i) {
        const int64_t p = window.axes[i].Position(o[i], tap[i]);
        if (p < 0 || p >= window.axes[i].in) return;
        position += p * strides[window.spatial_dim(static_cast<int>(i))];
      }
      positions.push_back(position);
    });
    visit(k++, o, positions);
  });
}

void ReferenceMax(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const Window window = *ReadPool(c);
  const RefTensor& x = *inputs[0];
  RefTensor& out = outputs[0];
  ForEachWindow(window, x.type.shape, out.type.shape,
                [&](int64_t k, const std::vector<int64_t>&, const std::vector<int64_t>& positions) {
                  if (x.is_float()) {
                    double best = -std::numeric_limits<double>::infinity();
                    for (int64_t p : positions) best = std::isnan(best) || x.f[p] <= best ? best : x.f[p];
                    out.f[k] = best;
                  } else {
                    Wide best = WideAt(x, positions[0]);
                    for (int64_t p : positions) best = std::max(best, WideAt(x, p));
                    Store(out, k, best);
                  }
                });
}

// How many taps of the window at `o` divide its sum, along spatial axis `i`.
int64_t CountAlong(const WindowAxis& axis, int64_t o, bool include_pads) {
  return include_pads ? axis.TapsIn(o, -axis.pad_begin, axis.in + axis.pad_end) : axis.TapsIn(o, 0, axis.in);
}

void ReferenceAvg(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const Window window = *ReadPool(c);
  const bool include_pads = c.attrs.Int("count_include_pad", 0) != 0;
  const RefTensor& x = *inputs[0];
  ForEachWindow(window, x.type.shape, outputs[0].type.shape,
                [&](int64_t k, const std::vector<int64_t>& o, const std::vector<int64_t>& positions) {
                  double sum = 0;
                  for (int64_t p : positions) sum += x.f[p];
                  int64_t count = static_cast<int64_t>(positions.size());
                  if (include_pads) {
                    count = 1;
                    for (size_t i = 0; i < o.size(); ++i) {
                      const WindowAxis& axis = window.axes[i];
                      int64_t taps = 0;
                      for (int64_t tap = 0; tap < axis.kernel; ++tap) {
                        const int64_t p = axis.Position(o[i], tap);
                        taps += p >= -axis.pad_begin && p < axis.in + axis.pad_end;
                      }
                      count *= taps;
                    }
                  }
                  outputs[0].f[k] = sum / static_cast<double>(count);
                });
}

// for n, c, o.. (or n, o.., c) | k..:  combine x[n, c, o * stride - pad + k * dilation]
Stage WindowStage(const OpContext& c, const Window& window, std::string name, Combiner combiner, double fill) {
  const Shape& out = c.outputs[0].shape;
  Stage stage = {.name = std::move(name), .extents = out.dims(), .parallel_rank = out.rank()};
  for (const WindowAxis& axis : window.axes) stage.extents.push_back(axis.kernel);
  stage.reads = {WindowRead(In(0), c.shape(0), window, Axis(window.channel_dim()), window.spatial_dim(0),
                            stage.parallel_rank, fill)};
  stage.body = IdentityBody(c.dtype(0));
  stage.combiner = combiner;
  stage.write = Elementwise(Out(), out);
  return stage;
}

Compute ComputeMax(const OpContext& c) {
  Compute compute = StartCompute(c);
  const double lowest =
      IsFloat(c.dtype(0)) ? -std::numeric_limits<double>::infinity() : static_cast<double>(MinInt(c.dtype(0)));
  compute.stages.push_back(WindowStage(c, *ReadPool(c), "max_pool", Combiner::kMax, lowest));
  return compute;
}

// The divisor is a product over the axes: a constant where all windows of an axis have as many taps, else a table.
Compute ComputeAvg(const OpContext& c) {
  Compute compute = StartCompute(c);
  const Window window = *ReadPool(c);
  const bool include_pads = c.attrs.Int("count_include_pad", 0) != 0;
  const DType type = ComputeType(c.dtype(0));
  Stage stage = WindowStage(c, window, "avg_pool", Combiner::kAdd, 0);
  BodyBuilder b;
  const Scalar sum = b.InputAt(0, type);
  double same = 1;
  std::vector<Scalar> counts;
  for (int i = 0; i < static_cast<int>(window.axes.size()); ++i) {
    const WindowAxis& axis = window.axes[i];
    Tensor table(type, {axis.out});
    bool varies = false;
    for (int64_t o = 0; o < axis.out; ++o) {
      table.Set(o, static_cast<double>(CountAlong(axis, o, include_pads)));
      varies |= table.Get(o) != table.Get(0);
    }
    if (!varies) {
      same *= table.Get(0);
      continue;
    }
    stage.finish_reads.push_back({.buffer = Table(static_cast<int>(compute.tables.size())),
                                  .view = table.shape(),
                                  .index = {Axis(window.spatial_dim(i))}});
    compute.tables.push_back(std::move(table));
    counts.push_back(b.InputAt(static_cast<int>(stage.finish_reads.size()), type));
  }
  Scalar divisor = b.Const(type, same);
  for (Scalar count : counts) divisor = divisor * count;
  stage.finish = b.Finish(sum / divisor);
  compute.stages.push_back(std::move(stage));
  return compute;
}

OpDef PoolOp() {
  OpDef def = {};
  def.attrs = WindowAttrs();
  def.attrs.push_back({"kernel", AttrKind::kInts, true, "taps along each spatial axis, >= 1"});
  return def;
}

}  // namespace

OpDef MakeMaxPoolOp() {
  OpDef def = PoolOp();
  def.doc =
      "Largest element under a sliding window; padding never wins, and each window holds an element. ONNX MaxPool.";
  def.infer = [](const OpContext& c) { return Infer(c, TypeClass::kNumber); };
  def.reference = &ReferenceMax;
  def.compute = &ComputeMax;
  return def;
}

OpDef MakeAvgPoolOp() {
  OpDef def = PoolOp();
  def.doc = "Mean of the elements under a sliding window; each window holds an element. ONNX AveragePool.";
  def.attrs.push_back({"count_include_pad", AttrKind::kInt, false, "1: declared padding counts as zeros"});
  def.attrs.push_back({"out_shape_ceil", AttrKind::kInt, false, "1: a last window may hang over the padded end"});
  def.infer = [](const OpContext& c) { return Infer(c, TypeClass::kFloat); };
  def.reference = &ReferenceAvg;
  def.compute = &ComputeAvg;
  return def;
}

}  // namespace tessera
