// reshape, transpose, expand, tile, slice, concat, pad: elements put elsewhere, none computed.
//
// Each compute is an identity body under affine maps, except pads that mirror, repeat or wrap, which read positions
// from a table. Views do the rest: reshape reads x under the result's shape; tile writes under [repeats, extent] pairs.
#include <algorithm>
#include <cmath>

#include "graph/ops/common.h"

namespace tessera {
namespace {

// The list parameter `name`, which must have one value per dimension (times `per_dim`).
StatusOr<std::vector<int64_t>> PerDimension(const OpContext& c, std::string_view name, int per_dim = 1) {
  const std::vector<int64_t>& values = c.attrs.Ints(name);
  const size_t expected = static_cast<size_t>(c.shape(0).rank()) * per_dim;
  if (values.size() == expected) return values;
  return Error(ErrorCode::kAttributeInvalid, "expected ", expected, " values of '", name, "' for operand 0 ",
               c.input(0), ", found ", values.size());
}

// A result of the type of operand 0.
StatusOr<std::vector<TensorType>> Result(const OpContext& c, std::vector<int64_t> dims) {
  return std::vector<TensorType>{{c.dtype(0), Shape(std::move(dims))}};
}

// A compute of one stage: out[i..] = the access, for all i.
Compute CopyCompute(const OpContext& c, Access from) {
  Compute compute = StartCompute(c);
  compute.stages.push_back(MapStage("copy", c.outputs[0].shape, {std::move(from)}, IdentityBody(c.dtype(0)), Out()));
  return compute;
}

// A reference: result element `at` is the element of x at position from(at), or `otherwise` when that is negative.
template <typename From>
void Fetch(const RefTensor& x, RefTensor& out, From from, ScalarValue otherwise = {}) {
  int64_t k = 0;
  ForEachIndex(out.type.shape, [&](const std::vector<int64_t>& at) {
    const int64_t position = from(at);
    out.Set(k++, position >= 0 ? x.Get(position) : otherwise);
  });
}

// ---- reshape ----

StatusOr<std::vector<TensorType>> InferReshape(const OpContext& c) {
  const Shape shape(c.attrs.Ints("shape"));
  RETURN_IF_ERROR(CheckShape(c.dtype(0), shape));
  if (shape.num_elements() != c.shape(0).num_elements()) {
    return Error(ErrorCode::kShapeMismatch, "expected a shape of as many elements as ", c.input(0), " (",
                 c.shape(0).num_elements(), "), found ", shape);
  }
  return Result(c, shape.dims());
}

void ReferenceReshape(const OpContext&, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  outputs[0].f = inputs[0]->f;
  outputs[0].i = inputs[0]->i;
}

Compute ComputeReshape(const OpContext& c) { return CopyCompute(c, Elementwise(In(0), c.outputs[0].shape)); }

// ---- transpose ----

StatusOr<std::vector<TensorType>> InferTranspose(const OpContext& c) {
  ASSIGN_OR_RETURN(std::vector<int64_t> perm, PerDimension(c, "perm"));
  std::vector<int64_t> dims, sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  for (size_t d = 0; d < perm.size(); ++d) {
    if (sorted[d] != static_cast<int64_t>(d)) {
      return Error(ErrorCode::kAttributeInvalid, "expected perm to name each dimension of operand 0 ", c.input(0),
                   " once, found ", Shape(perm));
    }
  }
  for (int64_t d : perm) dims.push_back(c.shape(0)[static_cast<int>(d)]);
  return Result(c, std::move(dims));
}

void ReferenceTranspose(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const std::vector<int64_t>& perm = c.attrs.Ints("perm");
  const std::vector<int64_t> strides = inputs[0]->type.shape.Strides();
  Fetch(*inputs[0], outputs[0], [&](const std::vector<int64_t>& at) {
    int64_t position = 0;
    for (size_t d = 0; d < at.size(); ++d) position += at[d] * strides[perm[d]];
    return position;
  });
}

Compute ComputeTranspose(const OpContext& c) {
  const std::vector<int64_t>& perm = c.attrs.Ints("perm");
  Access x = {.buffer = In(0), .view = c.shape(0), .index = std::vector<IndexExpr>(perm.size())};
  for (size_t d = 0; d < perm.size(); ++d) x.index[perm[d]] = Axis(static_cast<int>(d));
  return CopyCompute(c, std::move(x));
}

// ---- expand ----

StatusOr<std::vector<TensorType>> InferExpand(const OpContext& c) {
  const Shape shape(c.attrs.Ints("shape"));
  RETURN_IF_ERROR(CheckShape(c.dtype(0), shape));
  RETURN_IF_ERROR(CheckBroadcastsTo(c, 0, shape));
  return Result(c, shape.dims());
}

void ReferenceExpand(const OpContext&, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const Shape& shape = inputs[0]->type.shape;
  Fetch(*inputs[0], outputs[0], [&](const std::vector<int64_t>& at) {
    int64_t position = 0;
    for (int d = 0; d < shape.rank(); ++d) {
      position = position * shape[d] + at[at.size() - shape.rank() + d] % shape[d];
    }
    return position;
  });
}

Compute ComputeExpand(const OpContext& c) { return CopyCompute(c, Broadcast(In(0), c.shape(0), c.outputs[0].shape)); }

// ---- tile ----

StatusOr<std::vector<TensorType>> InferTile(const OpContext& c) {
  ASSIGN_OR_RETURN(std::vector<int64_t> repeats, PerDimension(c, "repeats"));
  std::vector<int64_t> dims = c.shape(0).dims();
  for (size_t d = 0; d < dims.size(); ++d) {
    if (repeats[d] < 0 || __builtin_mul_overflow(dims[d], repeats[d], &dims[d])) {
      return Error(ErrorCode::kAttributeInvalid, "expected repeats >= 0 whose result has a size, found ", repeats[d],
                   " times ", c.shape(0)[static_cast<int>(d)], " elements");
    }
  }
  return Result(c, std::move(dims));
}

void ReferenceTile(const OpContext&, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const Shape& shape = inputs[0]->type.shape;
  Fetch(*inputs[0], outputs[0], [&](const std::vector<int64_t>& at) {
    int64_t position = 0;
    for (int d = 0; d < shape.rank(); ++d) position = position * shape[d] + at[d] % shape[d];
    return position;
  });
}

// for r0, i0, r1, i1, ..:  out viewed as [repeats 0, extent 0, repeats 1, ..] = x[i0, i1, ..]
Compute ComputeTile(const OpContext& c) {
  Compute compute = StartCompute(c);
  const std::vector<int64_t>& repeats = c.attrs.Ints("repeats");
  const Shape& shape = c.shape(0);
  std::vector<int64_t> split;
  Access x = {.buffer = In(0), .view = shape};
  for (int d = 0; d < shape.rank(); ++d) {
    if (repeats[d] != 1) split.push_back(repeats[d]);
    x.index.push_back(Axis(static_cast<int>(split.size())));
    split.push_back(shape[d]);
  }
  compute.stages.push_back(MapStage("tile", Shape(std::move(split)), {std::move(x)}, IdentityBody(c.dtype(0)), Out()));
  return compute;
}

// ---- slice ----

StatusOr<std::vector<TensorType>> InferSlice(const OpContext& c) {
  ASSIGN_OR_RETURN(std::vector<int64_t> starts, PerDimension(c, "starts"));
  ASSIGN_OR_RETURN(std::vector<int64_t> steps, PerDimension(c, "steps"));
  ASSIGN_OR_RETURN(std::vector<int64_t> sizes, PerDimension(c, "sizes"));
  for (size_t d = 0; d < sizes.size(); ++d) {
    const int64_t extent = c.shape(0)[static_cast<int>(d)];
    int64_t last = starts[d];
    const bool bad = steps[d] == 0 || sizes[d] < 0 || starts[d] < 0 || starts[d] > extent ||
                     (sizes[d] > 1 && (__builtin_mul_overflow(steps[d], sizes[d] - 1, &last) ||
                                       __builtin_add_overflow(last, starts[d], &last))) ||
                     (sizes[d] > 0 && (starts[d] >= extent || last < 0 || last >= extent));
    if (bad) {
      return Error(ErrorCode::kAttributeInvalid, "dimension ", d, ": expected a slice within ", extent,
                   " elements with a step other than 0, found start ", starts[d], ", step ", steps[d], ", size ",
                   sizes[d]);
    }
  }
  return Result(c, std::move(sizes));
}

void ReferenceSlice(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const std::vector<int64_t>&starts = c.attrs.Ints("starts"), &steps = c.attrs.Ints("steps");
  const std::vector<int64_t> strides = inputs[0]->type.shape.Strides();
  Fetch(*inputs[0], outputs[0], [&](const std::vector<int64_t>& at) {
    int64_t position = 0;
    for (size_t d = 0; d < at.size(); ++d) position += (starts[d] + at[d] * steps[d]) * strides[d];
    return position;
  });
}

Compute ComputeSlice(const OpContext& c) {
  const std::vector<int64_t>&starts = c.attrs.Ints("starts"), &steps = c.attrs.Ints("steps");
  Access x = {.buffer = In(0), .view = c.shape(0)};
  for (int d = 0; d < c.shape(0).rank(); ++d) {
    // A step over a single element may be any number; it is not multiplied by anything.
    const int64_t step = c.outputs[0].shape[d] > 1 ? steps[d] : 1;
    x.index.push_back(Axis(d, step, starts[d]));
  }
  return CopyCompute(c, std::move(x));
}

// ---- concat ----

StatusOr<std::vector<TensorType>> InferConcat(const OpContext& c) {
  const int64_t axis = c.attrs.Int("axis");
  RETURN_IF_ERROR(CheckAxis(axis, c.shape(0).rank()));
  std::vector<int64_t> dims = c.shape(0).dims();
  for (int k = 1; k < c.num_inputs(); ++k) {
    if (!c.has_input(k)) {
      return Error(ErrorCode::kGraphInvalid, "operand ", k, ": expected a tensor, found none");
    }
    RETURN_IF_ERROR(CheckSameType(c, k, 0));
    const Shape& shape = c.shape(k);
    bool fits = shape.rank() == static_cast<int>(dims.size());
    for (int d = 0; fits && d < shape.rank(); ++d) fits = d == axis || shape[d] == dims[d];
    if (!fits) {
      return Error(ErrorCode::kShapeMismatch, "operand ", k, ": expected the shape of operand 0 ", c.input(0),
                   " except along axis ", axis, ", found ", c.input(k));
    }
    if (__builtin_add_overflow(dims[axis], shape[static_cast<int>(axis)], &dims[axis])) {
      return Error(ErrorCode::kLimitExceeded, "expected operands whose extents along axis ", axis, " have a sum");
    }
  }
  return Result(c, std::move(dims));
}

void ReferenceConcat(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const int axis = static_cast<int>(c.attrs.Int("axis"));
  const Shape& shape = outputs[0].type.shape;
  int64_t before = 1, after = 1, to = 0;
  for (int d = 0; d < axis; ++d) before *= shape[d];
  for (int d = axis + 1; d < shape.rank(); ++d) after *= shape[d];
  for (int64_t b = 0; b < before; ++b) {
    for (const RefTensor* x : inputs) {
      const int64_t run = x->type.shape[axis] * after;
      for (int64_t k = 0; k < run; ++k) outputs[0].Set(to++, x->Get(b * run + k));
    }
  }
}

// One stage for each operand that has elements: out[.., i + what went before, ..] = x[.., i, ..]
Compute ComputeConcat(const OpContext& c) {
  Compute compute = StartCompute(c);
  const int axis = static_cast<int>(c.attrs.Int("axis"));
  int64_t offset = 0;
  for (int k = 0; k < c.num_inputs(); ++k) {
    const Shape& shape = c.shape(k);
    const int64_t extent = shape[axis];
    if (shape.num_elements() == 0) {
      offset += extent;
      continue;
    }
    Stage stage =
        MapStage("concat" + std::to_string(k), shape, {Elementwise(In(k), shape)}, IdentityBody(c.dtype(k)), Out());
    stage.write.view = c.outputs[0].shape;
    stage.write.index[axis].offset = offset;
    compute.stages.push_back(std::move(stage));
    offset += extent;
  }
  return compute;
}

// ---- pad ----

// Where the elements beyond an edge come from.
enum class PadMode { kConstant, kReflect, kEdge, kWrap };

std::optional<PadMode> ModeOf(const OpContext& c) {
  const std::string& mode = c.attrs.String("mode");
  if (mode == "constant") return PadMode::kConstant;
  if (mode == "reflect") return PadMode::kReflect;
  if (mode == "edge") return PadMode::kEdge;
  if (mode == "wrap") return PadMode::kWrap;
  return std::nullopt;
}

// The position in x of position `i` (from -begin to extent + end) of an axis that is not padded with a constant.
int64_t Source(PadMode mode, int64_t i, int64_t extent) {
  if (mode == PadMode::kEdge) return std::clamp<int64_t>(i, 0, extent - 1);
  if (mode == PadMode::kWrap) return (i % extent + extent) % extent;
  // There and back without the two ends twice; pads of any length keep going to and fro.
  if (extent == 1) return 0;
  const int64_t period = 2 * (extent - 1);
  const int64_t phase = (i % period + period) % period;
  return phase < extent ? phase : period - phase;
}

StatusOr<std::vector<TensorType>> InferPad(const OpContext& c) {
  const std::optional<PadMode> mode = ModeOf(c);
  if (!mode) {
    return Error(ErrorCode::kAttributeInvalid,
                 "expected mode \"constant\", \"reflect\", \"edge\" or \"wrap\", found \"", c.attrs.String("mode"),
                 "\"");
  }
  ASSIGN_OR_RETURN(std::vector<int64_t> pads, PerDimension(c, "pads", 2));
  const double value = c.attrs.Float("value", 0);
  const DType dtype = c.dtype(0);
  if (!IsFloat(dtype)) {
    const double low = static_cast<double>(MinInt(dtype)), high = static_cast<double>(MaxInt(dtype));
    // 2^63 as a double is one more than the largest i64; nothing between is representable.
    const bool fits = value >= low && (TypeInfo(dtype).bits == 64 ? value < high : value <= high);
    if (!fits || value != std::floor(value)) {
      return Error(ErrorCode::kAttributeInvalid, "expected a value that ", dtype, " holds, found ", value);
    }
  }
  const size_t rank = c.shape(0).rank();
  std::vector<int64_t> dims = c.shape(0).dims();
  for (size_t d = 0; d < rank; ++d) {
    const int64_t begin = pads[d], end = pads[rank + d], extent = dims[d];
    if (*mode != PadMode::kConstant && (begin < 0 || end < 0)) {
      return Error(ErrorCode::kAttributeInvalid, "dimension ", d, ": expected pads >= 0 in mode ",
                   c.attrs.String("mode"), ", found ", std::min(begin, end), "; crop with slice");
    }
    if (*mode != PadMode::kConstant && extent == 0 && (begin > 0 || end > 0)) {
      return Error(ErrorCode::kShapeMismatch, "dimension ", d, ": expected elements to repeat, found none in ",
                   c.input(0));
    }
    if (__builtin_add_overflow(dims[d], begin, &dims[d]) || __builtin_add_overflow(dims[d], end, &dims[d]) ||
        dims[d] < 0 || begin < -extent || end < -extent) {
      return Error(ErrorCode::kAttributeInvalid, "dimension ", d, ": expected pads that leave an extent >= 0 of ",
                   extent, ", found ", begin, " and ", end);
    }
  }
  return Result(c, std::move(dims));
}

// For each position of a padded axis, the element of x that stands there (-1: none), built outwards from x: each
// element of a pad repeats one that stands further in.
std::vector<int64_t> BuildOutwards(PadMode mode, int64_t extent, int64_t begin, int64_t end) {
  std::vector<int64_t> at(extent + begin + end, -1);
  const int64_t size = static_cast<int64_t>(at.size());
  for (int64_t i = std::max<int64_t>(0, -begin); i < extent && i + begin < size; ++i) at[begin + i] = i;
  if (mode == PadMode::kConstant) return at;
  if (mode == PadMode::kReflect && extent == 1) mode = PadMode::kEdge;
  // How far in the repeated element stands: the neighbour, one extent away, or one whole way to and fro; the first way
  // of a reflection is the mirror image instead.
  const int64_t back = mode == PadMode::kEdge ? 1 : (mode == PadMode::kWrap ? extent : 2 * (extent - 1));
  const int64_t first = begin, last = begin + extent - 1;
  const auto repeat = [&](int64_t i, int64_t edge, int64_t inwards) {
    const int64_t mirrored = 2 * edge - i;
    const bool mirror = mode == PadMode::kReflect && mirrored >= first && mirrored <= last;
    at[i] = at[mirror ? mirrored : i + inwards * back];
  };
  for (int64_t i = last + 1; i < size; ++i) repeat(i, last, -1);
  for (int64_t i = first - 1; i >= 0; --i) repeat(i, first, 1);
  return at;
}

void ReferencePad(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const std::vector<int64_t>& pads = c.attrs.Ints("pads");
  const Shape& shape = inputs[0]->type.shape;
  const double value = c.attrs.Float("value", 0);
  const ScalarValue fill = {.f = value, .i = IsFloat(inputs[0]->type.dtype) ? 0 : static_cast<int64_t>(value)};
  std::vector<std::vector<int64_t>> sources;
  for (int d = 0; d < shape.rank(); ++d) {
    sources.push_back(BuildOutwards(*ModeOf(c), shape[d], pads[d], pads[shape.rank() + d]));
  }
  Fetch(
      *inputs[0], outputs[0],
      [&](const std::vector<int64_t>& at) {
        int64_t position = 0;
        for (int d = 0; d < shape.rank(); ++d) {
          const int64_t source = sources[d][at[d]];
          if (source < 0) return int64_t{-1};
          position = position * shape[d] + source;
        }
        return position;
      },
      fill);
}

// constant: out[i..] = x[i - begin..] else value. Other modes: along each padded axis a table says which element to
// read.
Compute ComputePad(const OpContext& c) {
  const PadMode mode = *ModeOf(c);
  const std::vector<int64_t>& pads = c.attrs.Ints("pads");
  const Shape &shape = c.shape(0), &out = c.outputs[0].shape;
  const int rank = shape.rank();
  Access x = {.buffer = In(0), .view = shape};
  if (mode == PadMode::kConstant) {
    for (int d = 0; d < rank; ++d) {
      x.index.push_back(Axis(d, 1, -pads[d]));
      x.guarded |= pads[d] > 0 || pads[rank + d] > 0;
    }
    if (x.guarded) x.fill = c.attrs.Float("value", 0);
    return CopyCompute(c, std::move(x));
  }
  Compute compute = StartCompute(c);
  std::vector<Access> reads;
  BodyBuilder b;
  for (int d = 0; d < rank; ++d) {
    if (pads[d] == 0 && pads[rank + d] == 0) {
      x.index.push_back(Axis(d));
      continue;
    }
    Tensor table(DType::kI64, {out[d]});
    for (int64_t i = 0; i < out[d]; ++i) table.SetInt(i, Source(mode, i - pads[d], shape[d]));
    const int read = static_cast<int>(reads.size());
    b.InputAt(read, DType::kI64);
    reads.push_back({.buffer = Table(read), .view = table.shape(), .index = {Axis(d)}});
    x.index.push_back(FixedIndex(0));
    x.index.back().read = read;
    x.guarded = true;
    compute.tables.push_back(std::move(table));
  }
  const Scalar picked = b.InputAt(static_cast<int>(reads.size()), c.dtype(0));
  reads.push_back(std::move(x));
  compute.stages.push_back(MapStage("pad", out, std::move(reads), b.Finish(picked), Out()));
  return compute;
}

OpDef MovementOp(std::string_view doc, std::vector<AttrDef> attrs, decltype(OpDef::infer) infer,
                 decltype(OpDef::reference) reference, decltype(OpDef::compute) compute) {
  OpDef def = {};
  def.doc = doc;
  def.attrs = std::move(attrs);
  def.infer = infer;
  def.reference = reference;
  def.compute = compute;
  return def;
}

}  // namespace

OpDef MakeReshapeOp() {
  return MovementOp("The same elements, row-major, under another shape.",
                    {{"shape", AttrKind::kInts, true, "extents >= 0 with as many elements as x"}}, &InferReshape,
                    &ReferenceReshape, &ComputeReshape);
}

OpDef MakeTransposeOp() {
  return MovementOp("Dimension i of the result is dimension perm[i] of x. ONNX Transpose.",
                    {{"perm", AttrKind::kInts, true, "each dimension of x once"}}, &InferTranspose, &ReferenceTranspose,
                    &ComputeTranspose);
}

OpDef MakeExpandOp() {
  return MovementOp("x broadcast (NumPy) to a shape. ONNX Expand.",
                    {{"shape", AttrKind::kInts, true, "of the result; x broadcasts to it"}}, &InferExpand,
                    &ReferenceExpand, &ComputeExpand);
}

OpDef MakeTileOp() {
  return MovementOp("x repeated along each dimension. ONNX Tile.",
                    {{"repeats", AttrKind::kInts, true, "one for each dimension, >= 0"}}, &InferTile, &ReferenceTile,
                    &ComputeTile);
}

OpDef MakeSliceOp() {
  return MovementOp("Element i along a dimension is x's element start + i * step, in range.",
                    {{"starts", AttrKind::kInts, true, "one for each dimension"},
                     {"steps", AttrKind::kInts, true, "one for each dimension, not 0"},
                     {"sizes", AttrKind::kInts, true, "extents of the result"}},
                    &InferSlice, &ReferenceSlice, &ComputeSlice);
}

OpDef MakeConcatOp() {
  OpDef def = MovementOp("Operands one after the other along an axis. ONNX Concat.",
                         {{"axis", AttrKind::kInt, true, "along which extents may differ"}}, &InferConcat,
                         &ReferenceConcat, &ComputeConcat);
  def.max_inputs = -1;
  return def;
}

OpDef MakePadOp() {
  return MovementOp("x with elements put before and behind each dimension, or cropped. ONNX Pad.",
                    {{"pads", AttrKind::kInts, true, "begins of all dimensions, then ends; negative crops (constant)"},
                     {"mode", AttrKind::kString, true, "\"constant\", \"reflect\", \"edge\" or \"wrap\""},
                     {"value", AttrKind::kFloat, false, "of what constant puts there; 0 when absent"}},
                    &InferPad, &ReferencePad, &ComputePad);
}

}  // namespace tessera
