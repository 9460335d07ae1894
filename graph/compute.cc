#include "graph/compute.h"

#include <limits>

namespace tessera {
namespace {

std::string BufferName(BufferRef ref) {
  static constexpr const char* kNames[] = {"in", "out", "temp", "table"};
  return kNames[static_cast<int>(ref.kind)] + std::to_string(ref.index);
}

std::string ExprToString(const IndexExpr& expr) {
  std::string text;
  for (const IndexExpr::Term& term : expr.terms) {
    if (!text.empty()) text += term.coefficient < 0 ? " - " : " + ";
    if (text.empty() && term.coefficient < 0) text += "-";
    const int64_t magnitude = std::abs(term.coefficient);
    if (magnitude != 1) text += std::to_string(magnitude) + "*";
    text += "x" + std::to_string(term.axis);
  }
  if (expr.read >= 0) {
    if (!text.empty()) text += " + ";
    if (expr.read_scale != 1) text += std::to_string(expr.read_scale) + "*";
    text += "r" + std::to_string(expr.read);
  }
  if (expr.offset != 0 || text.empty()) {
    if (text.empty()) return std::to_string(expr.offset);
    text += (expr.offset < 0 ? " - " : " + ") + std::to_string(std::abs(expr.offset));
  }
  return text;
}

std::string AccessToString(const Access& access) {
  std::string text = BufferName(access.buffer) + access.view.ToString() + "(";
  for (size_t d = 0; d < access.index.size(); ++d) text += (d > 0 ? ", " : "") + ExprToString(access.index[d]);
  text += ")";
  if (access.guarded) text += " else " + internal::Join(access.fill);
  return text;
}

// The value range of `expr` over the stage's axes [0, rank); nothing can be said about index reads.
void RangeOf(const IndexExpr& expr, const std::vector<int64_t>& extents, int64_t& low, int64_t& high) {
  low = high = expr.offset;
  for (const IndexExpr::Term& term : expr.terms) {
    const int64_t reach = term.coefficient * (extents[term.axis] - 1);
    (reach < 0 ? low : high) += reach;
  }
}

Status VerifyAccess(const Compute& compute, const Stage& stage, const Access& access, int num_axes, int num_reads) {
  const auto fail = [&](const auto&... what) {
    return Error(ErrorCode::kGraphInvalid, "stage '", stage.name, "', access ", AccessToString(access), ": ", what...);
  };
  const size_t counts[] = {compute.inputs.size(), compute.outputs.size(), compute.temps.size(), compute.tables.size()};
  if (access.buffer.index < 0 ||
      static_cast<size_t>(access.buffer.index) >= counts[static_cast<int>(access.buffer.kind)]) {
    return fail("no such buffer");
  }
  const TensorType type = compute.BufferType(access.buffer);
  if (type.shape.num_elements() != access.view.num_elements()) return fail("the view does not fit ", type);
  if (static_cast<int>(access.index.size()) != access.view.rank()) return fail("expected one index per dimension");
  bool empty = false;
  for (int64_t extent : stage.extents) empty |= extent == 0;
  for (size_t d = 0; d < access.index.size(); ++d) {
    const IndexExpr& expr = access.index[d];
    int previous = -1;
    for (const IndexExpr::Term& term : expr.terms) {
      if (term.axis < 0 || term.axis >= num_axes) return fail("axis ", term.axis, " is not available here");
      if (term.axis <= previous || term.coefficient == 0) return fail("terms of index ", d, " are not in normal form");
      previous = term.axis;
    }
    if (expr.read >= num_reads) return fail("read ", expr.read, " is not an earlier read");
    if (expr.read >= 0 && !access.guarded) return fail("an index that is read must be guarded");
    if (access.guarded || empty) continue;
    int64_t low, high;
    RangeOf(expr, stage.extents, low, high);
    if (low < 0 || high >= access.view[d]) return fail("index ", d, " spans ", low, "…", high);
  }
  return OkStatus();
}

// Does input `k` of `body`, where it is read, have the type in which `stored` computes?
bool ReadsAs(const Body& body, int k, DType stored) {
  for (const ScalarInst& inst : body.insts) {
    if (inst.op == ScalarOp::kInput && inst.imm_int == k) return inst.type == ComputeType(stored);
  }
  return true;
}

int64_t Product(const std::vector<int64_t>& extents, int begin, int end) {
  int64_t product = 1;
  for (int d = begin; d < end; ++d) product *= extents[d];
  return product;
}

}  // namespace

IndexExpr Axis(int axis, int64_t coefficient, int64_t offset) {
  IndexExpr expr;
  expr.offset = offset;
  if (coefficient != 0) expr.terms.push_back({axis, coefficient});
  return expr;
}

IndexExpr FixedIndex(int64_t offset) {
  IndexExpr expr;
  expr.offset = offset;
  return expr;
}

IndexExpr AxisPlus(IndexExpr expr, int axis, int64_t coefficient) {
  if (coefficient == 0) return expr;
  auto at = expr.terms.begin();
  while (at != expr.terms.end() && at->axis < axis) ++at;
  if (at != expr.terms.end() && at->axis == axis) {
    at->coefficient += coefficient;
    if (at->coefficient == 0) expr.terms.erase(at);
  } else {
    expr.terms.insert(at, {axis, coefficient});
  }
  return expr;
}

std::string_view Name(Combiner combiner) {
  static constexpr std::string_view kNames[] = {"none", "add", "mul", "max", "min", "and", "or"};
  return kNames[static_cast<int>(combiner)];
}

ScalarOp JoinOp(Combiner combiner) {
  static constexpr ScalarOp kOps[] = {ScalarOp::kAdd, ScalarOp::kMul, ScalarOp::kMax,
                                      ScalarOp::kMin, ScalarOp::kAnd, ScalarOp::kOr};
  TES_CHECK(combiner != Combiner::kNone);
  return kOps[static_cast<int>(combiner) - 1];
}

ScalarValue Identity(Combiner combiner, DType type) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  switch (combiner) {
    case Combiner::kMul: return {.f = 1, .i = 1};
    case Combiner::kMax: return {.f = -kInfinity, .i = IsFloat(type) ? 0 : MinInt(type)};
    case Combiner::kMin: return {.f = kInfinity, .i = IsFloat(type) ? 0 : (type == DType::kU64 ? -1 : MaxInt(type))};
    case Combiner::kAnd: return {.i = IsBool(type) ? 1 : -1};
    default: return {};
  }
}

int64_t Stage::parallel_points() const { return Product(extents, 0, parallel_rank); }
int64_t Stage::reduced_points() const { return Product(extents, parallel_rank, rank()); }

TensorType Compute::BufferType(BufferRef ref) const {
  switch (ref.kind) {
    case BufferKind::kInput: return inputs[ref.index];
    case BufferKind::kOutput: return outputs[ref.index];
    case BufferKind::kTemp: return temps[ref.index];
    case BufferKind::kTable: break;
  }
  return tables[ref.index].type();
}

Status Compute::Verify() const {
  for (const Stage& stage : stages) {
    const auto fail = [&](const auto&... what) {
      return Error(ErrorCode::kGraphInvalid, "stage '", stage.name, "': ", what...);
    };
    if (stage.parallel_rank < 0 || stage.parallel_rank > stage.rank())
      return fail("parallel_rank ", stage.parallel_rank);
    for (int64_t extent : stage.extents) {
      if (extent < 0) return fail("extent ", extent);
    }
    if (stage.combiner == Combiner::kNone && stage.reduced_points() != 1) return fail("reduced axes need a combiner");
    if (stage.body.num_inputs != static_cast<int>(stage.reads.size())) {
      return fail("expected ", stage.body.num_inputs, " reads, found ", stage.reads.size());
    }
    RETURN_IF_ERROR(stage.body.Verify(stage.rank()).WithContext("stage '" + stage.name + "'"));
    if (stage.combiner != Combiner::kNone) {
      const ScalarOpInfo& join = ScalarInfo(JoinOp(stage.combiner));
      if (!(IsFloat(stage.body.result_type()) ? join.on_float : join.on_int)) {
        return fail("values of ", stage.body.result_type(), " do not combine by ", Name(stage.combiner));
      }
    }
    for (size_t r = 0; r < stage.reads.size(); ++r) {
      RETURN_IF_ERROR(VerifyAccess(*this, stage, stage.reads[r], stage.rank(), static_cast<int>(r)));
      const DType stored = BufferType(stage.reads[r].buffer).dtype;
      if (!ReadsAs(stage.body, static_cast<int>(r), stored)) {
        return fail("read ", r, " of ", stored, " enters the body as ", stage.body.input_type(static_cast<int>(r)));
      }
    }
    if (!stage.finish.empty()) {
      if (stage.finish.num_inputs != static_cast<int>(stage.finish_reads.size()) + 1) {
        return fail("expected ", stage.finish.num_inputs - 1, " finish reads, found ", stage.finish_reads.size());
      }
      RETURN_IF_ERROR(stage.finish.Verify(stage.parallel_rank).WithContext("stage '" + stage.name + "', finish"));
      if (!ReadsAs(stage.finish, 0, stage.body.result_type())) {
        return fail("the body gives ", stage.body.result_type(), ", finish takes ", stage.finish.input_type(0));
      }
    } else if (!stage.finish_reads.empty()) {
      return fail("finish reads without a finish body");
    }
    for (size_t r = 0; r < stage.finish_reads.size(); ++r) {
      RETURN_IF_ERROR(VerifyAccess(*this, stage, stage.finish_reads[r], stage.parallel_rank, 0));
      const DType stored = BufferType(stage.finish_reads[r].buffer).dtype;
      const int input = static_cast<int>(r) + 1;
      if (!ReadsAs(stage.finish, input, stored)) {
        return fail("finish read ", r, " of ", stored, " enters finish as ", stage.finish.input_type(input));
      }
    }
    RETURN_IF_ERROR(VerifyAccess(*this, stage, stage.write, stage.parallel_rank, 0));
    if (stage.write.guarded) return fail("a write is never guarded");
    if (stage.write.buffer.kind != BufferKind::kOutput && stage.write.buffer.kind != BufferKind::kTemp) {
      return fail("writes ", BufferName(stage.write.buffer));
    }
    const DType stored = BufferType(stage.write.buffer).dtype;
    if (stage.result_type() != ComputeType(stored)) return fail("computes ", stage.result_type(), ", stores ", stored);
  }
  return OkStatus();
}

std::string Compute::ToString() const {
  std::string text;
  const auto list = [&](const char* title, const std::vector<TensorType>& types) {
    for (size_t k = 0; k < types.size(); ++k) text += title + std::to_string(k) + ": " + types[k].ToString() + "\n";
  };
  list("in", inputs);
  list("temp", temps);
  for (size_t k = 0; k < tables.size(); ++k)
    text += "table" + std::to_string(k) + ": " + tables[k].type().ToString() + "\n";
  list("out", outputs);
  for (const Stage& stage : stages) {
    text += stage.name + " for";
    for (int d = 0; d < stage.rank(); ++d) {
      text += (d == stage.parallel_rank ? " | x" : " x") + std::to_string(d) + "<" + std::to_string(stage.extents[d]);
    }
    text += "\n";
    for (size_t r = 0; r < stage.reads.size(); ++r) {
      text += "  r" + std::to_string(r) + " = " + AccessToString(stage.reads[r]) + "\n";
    }
    text += "  " + std::string(Name(stage.combiner)) + " " + stage.body.ToString() + "\n";
    for (size_t r = 0; r < stage.finish_reads.size(); ++r) {
      text += "  f" + std::to_string(r + 1) + " = " + AccessToString(stage.finish_reads[r]) + "\n";
    }
    if (!stage.finish.empty()) text += "  finish " + stage.finish.ToString() + "\n";
    text += "  " + AccessToString(stage.write) + " = result\n";
  }
  return text;
}

Access Elementwise(BufferRef buffer, const Shape& shape, int first_axis) {
  Access access = {.buffer = buffer, .view = shape};
  for (int d = 0; d < shape.rank(); ++d) access.index.push_back(Axis(first_axis + d));
  return access;
}

Access Broadcast(BufferRef buffer, const Shape& shape, const Shape& target) {
  Access access = {.buffer = buffer, .view = shape};
  for (int d = 0; d < shape.rank(); ++d) {
    const int axis = target.rank() - shape.rank() + d;
    access.index.push_back(shape[d] == 1 && target[axis] != 1 ? FixedIndex(0) : Axis(axis));
  }
  return access;
}

Stage MapStage(std::string name, const Shape& shape, std::vector<Access> reads, Body body, BufferRef out) {
  Stage stage;
  stage.name = std::move(name);
  stage.extents = shape.dims();
  stage.parallel_rank = shape.rank();
  stage.reads = std::move(reads);
  stage.body = std::move(body);
  stage.write = Elementwise(out, shape);
  return stage;
}

RefTensor::RefTensor(TensorType t) : type(std::move(t)) {
  if (is_float()) {
    f.resize(size());
  } else {
    i.resize(size());
  }
}

RefTensor RefTensor::From(const Tensor& tensor) {
  RefTensor ref(tensor.type());
  for (int64_t k = 0; k < ref.size(); ++k) {
    if (ref.is_float()) {
      ref.f[k] = tensor.Get(k);
    } else {
      ref.i[k] = tensor.GetInt(k);
    }
  }
  return ref;
}

Tensor RefTensor::ToTensor() const {
  Tensor tensor(type.dtype, type.shape);
  for (int64_t k = 0; k < size(); ++k) {
    if (is_float()) {
      tensor.Set(k, f[k]);
    } else {
      tensor.SetInt(k, i[k]);
    }
  }
  return tensor;
}

void RefTensor::Set(int64_t k, ScalarValue value) {
  if (is_float()) {
    f[k] = value.f;
    return;
  }
  const DTypeInfo& info = TypeInfo(type.dtype);
  uint64_t bits = static_cast<uint64_t>(value.i);
  if (info.kind == DTypeKind::kBool) {
    bits = bits != 0;
  } else if (info.bits < 64) {
    bits &= (uint64_t{1} << info.bits) - 1;
    const uint64_t sign = info.kind == DTypeKind::kSigned ? uint64_t{1} << (info.bits - 1) : 0;
    bits = (bits ^ sign) - sign;
  }
  i[k] = static_cast<int64_t>(bits);
}

void Evaluate(const Compute& compute, std::span<const RefTensor* const> inputs, std::vector<RefTensor>& outputs) {
  std::vector<RefTensor> temps, tables;
  outputs.clear();
  for (const TensorType& type : compute.outputs) outputs.emplace_back(type);
  for (const TensorType& type : compute.temps) temps.emplace_back(type);
  for (const Tensor& table : compute.tables) tables.push_back(RefTensor::From(table));
  const auto buffer = [&](BufferRef ref) -> const RefTensor& {
    switch (ref.kind) {
      case BufferKind::kInput: return *inputs[ref.index];
      case BufferKind::kOutput: return outputs[ref.index];
      case BufferKind::kTemp: return temps[ref.index];
      default: return tables[ref.index];
    }
  };
  // The row-major position of an access, or -1 when it is out of range.
  const auto position = [](const Access& access, const std::vector<int64_t>& at,
                           const std::vector<ScalarValue>& reads) {
    int64_t flat = 0;
    for (size_t d = 0; d < access.index.size(); ++d) {
      const IndexExpr& expr = access.index[d];
      int64_t value = expr.offset;
      for (const IndexExpr::Term& term : expr.terms) value += term.coefficient * at[term.axis];
      if (expr.read >= 0) value += expr.read_scale * reads[expr.read].i;
      if (value < 0 || value >= access.view[d]) return int64_t{-1};
      flat = flat * access.view[d] + value;
    }
    return flat;
  };
  const auto read = [&](const Access& access, const std::vector<int64_t>& at, const std::vector<ScalarValue>& reads) {
    const int64_t flat = position(access, at, reads);
    if (flat >= 0) return buffer(access.buffer).Get(flat);
    TES_CHECK(access.guarded, "unguarded access out of range");
    return ScalarValue{.f = access.fill, .i = static_cast<int64_t>(access.fill)};
  };
  for (const Stage& stage : compute.stages) {
    const Shape reduced(std::vector<int64_t>(stage.extents.begin() + stage.parallel_rank, stage.extents.end()));
    const Shape parallel(std::vector<int64_t>(stage.extents.begin(), stage.extents.begin() + stage.parallel_rank));
    BodyBuilder join_builder;
    Body join;
    if (stage.combiner != Combiner::kNone) {
      const Scalar a = join_builder.Input(stage.body.result_type()), b = join_builder.Input(stage.body.result_type());
      join = join_builder.Finish(join_builder.Op(JoinOp(stage.combiner), {a, b}));
    }
    std::vector<int64_t> at(stage.rank());
    std::vector<ScalarValue> values(stage.reads.size()), finish_values(stage.finish_reads.size() + 1);
    ForEachIndex(parallel, [&](const std::vector<int64_t>& p) {
      std::copy(p.begin(), p.end(), at.begin());
      ScalarValue acc = Identity(stage.combiner, stage.body.result_type());
      ForEachIndex(reduced, [&](const std::vector<int64_t>& q) {
        std::copy(q.begin(), q.end(), at.begin() + stage.parallel_rank);
        for (size_t r = 0; r < values.size(); ++r) values[r] = read(stage.reads[r], at, values);
        const ScalarValue value = stage.body.Evaluate(values, at);
        const ScalarValue pair[] = {acc, value};
        acc = stage.combiner == Combiner::kNone ? value : join.Evaluate(pair, at);
      });
      if (!stage.finish.empty()) {
        finish_values[0] = acc;
        for (size_t r = 0; r < stage.finish_reads.size(); ++r)
          finish_values[r + 1] = read(stage.finish_reads[r], at, {});
        acc = stage.finish.Evaluate(finish_values, at);
      }
      const int64_t flat = position(stage.write, at, {});
      TES_CHECK(flat >= 0, "write out of range in stage ", stage.name);
      RefTensor& out = stage.write.buffer.kind == BufferKind::kOutput ? outputs[stage.write.buffer.index]
                                                                      : temps[stage.write.buffer.index];
      out.Set(flat, acc);
    });
  }
}

}  // namespace tessera
