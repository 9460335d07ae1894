// Reductions. ONNX semantics; README.md beside this file states each. Where rounding could hurt f32 a reduction is two
// stages: reduce_log_sum_exp takes the largest element out first.
#include <cmath>

#include "graph/ops/common.h"

namespace tessera {
namespace {

using Context = const OpContext&;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool KeepDims(Context c) { return c.attrs.Int("keepdims", 1) != 0; }
Reduction ReductionOf(Context c) { return ReduceAxes(c.shape(0), c.attrs.Ints("axes"), KeepDims(c)); }

template <TypeClass kClass, bool kBoolToo = false>
StatusOr<std::vector<TensorType>> InferReduce(Context c) {
  if (!(kBoolToo && IsBool(c.dtype(0)))) RETURN_IF_ERROR(CheckType(c, 0, kClass));
  RETURN_IF_ERROR(CheckAxes(c.attrs.Ints("axes"), c.shape(0).rank()));
  return std::vector<TensorType>{{c.dtype(0), ReductionOf(c).result}};
}

// Integers narrower than i32 can be summed as what they compute in, which no sum of a few million of them leaves.
StatusOr<std::vector<TensorType>> InferSum(Context c) {
  ASSIGN_OR_RETURN(std::vector<TensorType> types, InferReduce<TypeClass::kNumber>(c));
  if (!c.attrs.Has("dtype")) return types;
  const DType dtype = c.attrs.Type("dtype");
  if (!IsInteger(c.dtype(0)) || dtype != ComputeType(c.dtype(0))) {
    return Error(ErrorCode::kAttributeInvalid, "expected dtype to be the type in which integers ", c.dtype(0),
                 " compute, found ", dtype);
  }
  types[0].dtype = dtype;
  return types;
}

// One stage: combiner over element(x).
template <typename Element>
Compute ReduceCompute(Context c, std::string name, Combiner combiner, Element element, Body finish = {}) {
  const Reduction reduction = ReductionOf(c);
  BodyBuilder b;
  Body body = b.Finish(element(b.Input(c.dtype(0))));
  Compute compute = StartCompute(c);
  compute.stages.push_back(
      reduction.MakeStage(std::move(name), {reduction.Whole(In(0), c.shape(0))}, std::move(body), combiner, Out()));
  compute.stages[0].finish = std::move(finish);
  return compute;
}

Scalar Same(Scalar x) { return x; }

// The reference of a reduction: OnFloats or OnIntegers, the type of a lambda, makes one value of the values of a group.
template <typename OnFloats, typename OnIntegers>
void GroupReference(Context c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const RefTensor& x = *inputs[0];
  ForEachGroup(x.type.shape, c.attrs.Ints("axes"), [&](int64_t k, const std::vector<int64_t>& group) {
    if (x.is_float()) {
      std::vector<double> values;
      for (int64_t at : group) values.push_back(x.f[at]);
      Store(outputs[0], k, OnFloats()(c, values));
    } else {
      std::vector<Wide> values;
      for (int64_t at : group) values.push_back(WideAt(x, at));
      Store(outputs[0], k, OnIntegers()(c, values));
    }
  });
}

struct NoGroups {
  Wide operator()(Context, const std::vector<Wide>&) const {
    TES_CHECK(false, "a reduction was run on a type that it does not have");
    return 0;
  }
};

template <typename OnFloats, typename OnIntegers = NoGroups>
OpDef ReduceOp(std::string_view doc, decltype(OpDef::infer) infer, decltype(OpDef::compute) compute, OnFloats,
               OnIntegers = {}) {
  OpDef def = {};
  def.doc = doc;
  def.attrs = {{"axes", AttrKind::kInts, true, "the dimensions to combine, ascending"},
               {"keepdims", AttrKind::kInt, false, "1 (default): they stay as extents of 1; 0: they go"}};
  def.infer = infer;
  def.reference = &GroupReference<OnFloats, OnIntegers>;
  def.compute = compute;
  return def;
}

// ---- max and min ----

// What is stored where nothing is combined: integers narrower than their compute type have their own extreme.
Body ExtremeOfNothing(Context c, bool largest) {
  const DType dtype = c.dtype(0);
  if (!IsInteger(dtype) || TypeInfo(dtype).bits >= 32) return {};
  BodyBuilder b;
  const Scalar joined = b.InputAt(0, dtype);
  return b.Finish(largest ? Max(joined, static_cast<double>(MinInt(dtype)))
                          : Min(joined, static_cast<double>(MaxInt(dtype))));
}

Compute ExtremeCompute(Context c, bool largest) {
  const Reduction reduction = ReductionOf(c);
  Body finish;
  if (Shape(std::vector<int64_t>(reduction.extents.begin() + reduction.parallel_rank(), reduction.extents.end()))
          .num_elements() == 0) {
    finish = ExtremeOfNothing(c, largest);
  }
  Combiner combiner = largest ? Combiner::kMax : Combiner::kMin;
  if (IsBool(c.dtype(0))) combiner = largest ? Combiner::kOr : Combiner::kAnd;
  return ReduceCompute(c, largest ? "max" : "min", combiner, Same, std::move(finish));
}

// ---- log-sum-exp ----

Compute LogSumExpCompute(Context c) {
  const Reduction reduction = ReductionOf(c);
  const DType type = ComputeType(c.dtype(0));
  Compute compute = StartCompute(c);
  compute.temps = {{type, reduction.result}};
  const Access x = reduction.Whole(In(0), c.shape(0));
  Stage max = reduction.MakeStage("max", {x}, IdentityBody(c.dtype(0)), Combiner::kMax, Temp(0));
  {
    // An infinite shift would turn inf - inf into NaN; any finite one gives the right infinity.
    BodyBuilder b;
    const Scalar joined = b.Input(type);
    max.finish = b.Finish(Select(Unary(ScalarOp::kIsInf, joined), b.Const(type, 0), joined));
  }
  BodyBuilder b;
  const Scalar element = b.Input(c.dtype(0)), shift = b.Input(type);
  Stage sum = reduction.MakeStage("exp_sum", {x, reduction.Result(Temp(0))}, b.Finish(Exp(element - shift)),
                                  Combiner::kAdd, Out());
  {
    BodyBuilder f;
    const Scalar joined = f.Input(type), back = f.Input(type);
    sum.finish = f.Finish(Log(joined) + back);
    sum.finish_reads = {reduction.Result(Temp(0))};
  }
  compute.stages = {std::move(max), std::move(sum)};
  return compute;
}

double LogSumExp(const std::vector<double>& x) {
  double largest = -kInfinity, sum = 0;
  for (double v : x) {
    if (std::isnan(v)) return v;
    largest = std::fmax(largest, v);
  }
  if (std::isinf(largest)) return largest;
  for (double v : x) sum += std::exp(v - largest);
  return largest + std::log(sum);
}

// ---- arg_max and arg_min ----

std::vector<int64_t> ArgAxes(Context c) { return {c.attrs.Int("axis")}; }

StatusOr<std::vector<TensorType>> InferArg(Context c) {
  RETURN_IF_ERROR(CheckType(c, 0, TypeClass::kNumber));
  const int64_t axis = c.attrs.Int("axis");
  RETURN_IF_ERROR(CheckAxis(axis, c.shape(0).rank()));
  if (c.shape(0)[static_cast<int>(axis)] == 0) {
    return Error(ErrorCode::kShapeMismatch, "operand 0: expected elements along axis ", axis, ", found ", c.input(0));
  }
  return std::vector<TensorType>{{DType::kI64, ReduceAxes(c.shape(0), ArgAxes(c), KeepDims(c)).result}};
}

// The extreme first, then the first or last index at which it stands. A NaN is the extreme, as in NumPy.
Compute ArgCompute(Context c, bool largest) {
  const Reduction reduction = ReduceAxes(c.shape(0), ArgAxes(c), KeepDims(c));
  const DType dtype = c.dtype(0), type = ComputeType(dtype);
  const bool last = c.attrs.Int("select_last", 0) != 0;
  Compute compute = StartCompute(c);
  compute.temps = {{type, reduction.result}};
  const Access x = reduction.Whole(In(0), c.shape(0));
  compute.stages.push_back(reduction.MakeStage(largest ? "max" : "min", {x}, IdentityBody(dtype),
                                               largest ? Combiner::kMax : Combiner::kMin, Temp(0)));
  BodyBuilder b;
  const Scalar element = b.Input(dtype), extreme = b.Input(type);
  Scalar found = Equal(element, extreme);
  if (IsFloat(dtype)) found = b.Op(ScalarOp::kOr, {found, Unary(ScalarOp::kIsNan, element)});
  // Elsewhere an index that loses against any and is still in range.
  const int64_t extent = reduction.extents.back();
  const Scalar loser = b.ConstInt(DType::kI64, last ? 0 : extent - 1);
  const Body body = b.Finish(Select(found, b.Index(reduction.parallel_rank()), loser));
  compute.stages.push_back(reduction.MakeStage("index", {x, reduction.Result(Temp(0))}, body,
                                               last ? Combiner::kMax : Combiner::kMin, Out()));
  return compute;
}

template <bool kLargest>
void ArgReference(Context c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const RefTensor& x = *inputs[0];
  const bool last = c.attrs.Int("select_last", 0) != 0;
  // Does b come before a in the order asked for? NaN comes before all else.
  const auto better = [&](int64_t a, int64_t b) {
    if (!x.is_float()) return kLargest ? WideAt(x, b) > WideAt(x, a) : WideAt(x, b) < WideAt(x, a);
    if (std::isnan(x.f[a]) || std::isnan(x.f[b])) return std::isnan(x.f[b]) && !std::isnan(x.f[a]);
    return kLargest ? x.f[b] > x.f[a] : x.f[b] < x.f[a];
  };
  ForEachGroup(x.type.shape, ArgAxes(c), [&](int64_t k, const std::vector<int64_t>& group) {
    size_t best = 0;
    for (size_t n = 1; n < group.size(); ++n) {
      if (better(group[best], group[n]) || (last && !better(group[n], group[best]))) best = n;
    }
    outputs[0].i[k] = static_cast<int64_t>(best);
  });
}

template <bool kLargest>
OpDef ArgOp(std::string_view doc) {
  OpDef def = {};
  def.doc = doc;
  def.attrs = {{"axis", AttrKind::kInt, true, "the dimension to look along"},
               {"keepdims", AttrKind::kInt, false, "1 (default): it stays as an extent of 1; 0: it goes"},
               {"select_last", AttrKind::kInt, false, "0 (default): the first of equals; 1: the last"}};
  def.infer = &InferArg;
  def.reference = &ArgReference<kLargest>;
  def.compute = [](Context c) { return ArgCompute(c, kLargest); };
  return def;
}

}  // namespace

OpDef MakeReduceSumOp() {
  OpDef def = ReduceOp(
      "The sum; integers wrap.", &InferSum, [](Context c) { return ReduceCompute(c, "sum", Combiner::kAdd, Same); },
      [](Context, const std::vector<double>& x) {
        double sum = 0;
        for (double v : x) sum += v;
        return sum;
      },
      [](Context, const std::vector<Wide>& x) {
        Wide sum = 0;
        for (Wide v : x) sum += v;
        return sum;
      });
  def.attrs.push_back({"dtype", AttrKind::kDType, false, "of the sum of integers: i32 where x is narrower; as x"});
  return def;
}

OpDef MakeReduceMeanOp() {
  return ReduceOp(
      "The arithmetic mean.", &InferReduce<TypeClass::kFloat>,
      [](Context c) {
        double count = 1;
        for (int64_t axis : c.attrs.Ints("axes")) count *= static_cast<double>(c.shape(0)[static_cast<int>(axis)]);
        BodyBuilder b;
        Body finish = b.Finish(b.InputAt(0, c.dtype(0)) / count);
        return ReduceCompute(c, "mean", Combiner::kAdd, Same, std::move(finish));
      },
      [](Context, const std::vector<double>& x) {
        double sum = 0;
        for (double v : x) sum += v;
        return sum / static_cast<double>(x.size());
      });
}

OpDef MakeReduceMaxOp() {
  return ReduceOp(
      "The largest element; NaN if any is; the lowest value of the type if there is none.",
      &InferReduce<TypeClass::kNumber, true>, [](Context c) { return ExtremeCompute(c, true); },
      [](Context, const std::vector<double>& x) {
        double best = -kInfinity;
        for (double v : x) best = std::isnan(v) || v > best ? v : best;
        for (double v : x) best = std::isnan(v) ? v : best;
        return best;
      },
      [](Context c, const std::vector<Wide>& x) {
        Wide best = MinInt(c.dtype(0));
        for (Wide v : x) best = v > best ? v : best;
        return best;
      });
}

OpDef MakeReduceMinOp() {
  return ReduceOp(
      "The smallest element; NaN if any is; the highest value of the type if there is none.",
      &InferReduce<TypeClass::kNumber, true>, [](Context c) { return ExtremeCompute(c, false); },
      [](Context, const std::vector<double>& x) {
        double best = kInfinity;
        for (double v : x) best = std::isnan(v) || v < best ? v : best;
        for (double v : x) best = std::isnan(v) ? v : best;
        return best;
      },
      [](Context c, const std::vector<Wide>& x) {
        Wide best = c.dtype(0) == DType::kU64 ? static_cast<Wide>(UINT64_MAX) : static_cast<Wide>(MaxInt(c.dtype(0)));
        for (Wide v : x) best = v < best ? v : best;
        return best;
      });
}

OpDef MakeReduceProdOp() {
  return ReduceOp(
      "The product; integers wrap.", &InferReduce<TypeClass::kNumber>,
      [](Context c) { return ReduceCompute(c, "product", Combiner::kMul, Same); },
      [](Context, const std::vector<double>& x) {
        double product = 1;
        for (double v : x) product *= v;
        return product;
      },
      [](Context, const std::vector<Wide>& x) {
        Wide product = 1;
        for (Wide v : x) product = WrappedProduct(product, v);
        return product;
      });
}

OpDef MakeReduceL1Op() {
  return ReduceOp(
      "The sum of magnitudes; integers wrap.", &InferReduce<TypeClass::kNumber>,
      [](Context c) {
        return ReduceCompute(c, "l1", Combiner::kAdd, [](Scalar x) { return IsUnsigned(x.type()) ? x : Abs(x); });
      },
      [](Context, const std::vector<double>& x) {
        double sum = 0;
        for (double v : x) sum += std::fabs(v);
        return sum;
      },
      [](Context, const std::vector<Wide>& x) {
        Wide sum = 0;
        for (Wide v : x) sum += v < 0 ? -v : v;
        return sum;
      });
}

OpDef MakeReduceL2Op() {
  return ReduceOp(
      "The square root of the sum of squares.", &InferReduce<TypeClass::kFloat>,
      [](Context c) {
        BodyBuilder b;
        Body finish = b.Finish(Sqrt(b.InputAt(0, c.dtype(0))));
        return ReduceCompute(c, "l2", Combiner::kAdd, [](Scalar x) { return x * x; }, std::move(finish));
      },
      [](Context, const std::vector<double>& x) {
        double norm = 0;
        for (double v : x) norm = std::hypot(norm, v);
        return norm;
      });
}

OpDef MakeReduceLogSumExpOp() {
  return ReduceOp("The logarithm of the sum of exponentials.", &InferReduce<TypeClass::kFloat>, &LogSumExpCompute,
                  [](Context, const std::vector<double>& x) { return LogSumExp(x); });
}

OpDef MakeReduceSumSquareOp() {
  return ReduceOp(
      "The sum of squares; integers wrap.", &InferReduce<TypeClass::kNumber>,
      [](Context c) { return ReduceCompute(c, "sum_square", Combiner::kAdd, [](Scalar x) { return x * x; }); },
      [](Context, const std::vector<double>& x) {
        double sum = 0;
        for (double v : x) sum += v * v;
        return sum;
      },
      [](Context, const std::vector<Wide>& x) {
        Wide sum = 0;
        for (Wide v : x) sum += WrappedProduct(v, v);
        return sum;
      });
}

OpDef MakeArgMaxOp() { return ArgOp<true>("The index of the largest element along an axis; a NaN counts as it."); }
OpDef MakeArgMinOp() { return ArgOp<false>("The index of the smallest element along an axis; a NaN counts as it."); }

}  // namespace tessera
