// How an element is found. The write of a stage is inverted: from the element's indices under the write's view to the
// parallel point that writes it, digit by digit where a dimension is a mixed-radix number of its axes (all computes of
// the op table), by a map of all points otherwise. The reduced points are then walked with flat positions that move by
// strides; the innermost axis knows in advance from where to where a guarded read is within its buffer.
#include "graph/point_evaluator.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tessera {
namespace {

// Axes of a stage that make up one index of its write, the largest coefficient first.
struct Digit {
  int axis;
  int64_t coefficient, extent;
};

// From a position in a buffer back to the parallel point of a stage that writes it.
class WriteInverse {
 public:
  explicit WriteInverse(const Stage& stage) : stage_(stage) {
    std::vector<bool> seen(stage.parallel_rank, false);
    for (const IndexExpr& expr : stage.write.index) {
      std::vector<Digit> digits;
      for (const IndexExpr::Term& term : expr.terms) {
        // A second index with the axis would have to agree; a negative step would be read from the other end.
        if (seen[term.axis] || term.coefficient <= 0) regular_ = false;
        seen[term.axis] = true;
        digits.push_back({term.axis, term.coefficient, stage.extents[term.axis]});
      }
      std::sort(digits.begin(), digits.end(),
                [](const Digit& a, const Digit& b) { return a.coefficient > b.coefficient; });
      int64_t reach = 0;  // of the digits behind
      for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) {
        if (digit->coefficient <= reach) regular_ = false;
        reach += digit->coefficient * (digit->extent - 1);
      }
      dimensions_.push_back(std::move(digits));
    }
    for (int axis = 0; axis < stage.parallel_rank; ++axis) regular_ &= seen[axis] || stage.extents[axis] == 1;
    if (!regular_) Enumerate();
  }

  // Sets at[0 … parallel_rank). False if this stage does not write there.
  bool Find(int64_t position, std::vector<int64_t>& at) const {
    if (!regular_) {
      const auto found = points_.find(position);
      if (found == points_.end()) return false;
      int64_t rest = found->second;
      for (int axis = stage_.parallel_rank - 1; axis >= 0; --axis) {
        at[axis] = rest % stage_.extents[axis];
        rest /= stage_.extents[axis];
      }
      return true;
    }
    for (int axis = 0; axis < stage_.parallel_rank; ++axis) {
      if (stage_.extents[axis] == 0) return false;
      at[axis] = 0;
    }
    const Shape& view = stage_.write.view;
    for (int d = view.rank() - 1; d >= 0; --d) {
      int64_t rest = position % view[d] - stage_.write.index[d].offset;
      position /= view[d];
      if (rest < 0) return false;
      for (const Digit& digit : dimensions_[d]) {
        at[digit.axis] = std::min(rest / digit.coefficient, digit.extent - 1);
        rest -= at[digit.axis] * digit.coefficient;
      }
      if (rest != 0) return false;
    }
    return true;
  }

 private:
  void Enumerate() {
    const Shape parallel(std::vector<int64_t>(stage_.extents.begin(), stage_.extents.begin() + stage_.parallel_rank));
    int64_t point = 0;
    ForEachIndex(parallel, [&](const std::vector<int64_t>& at) {
      int64_t position = 0;
      for (size_t d = 0; d < stage_.write.index.size(); ++d) {
        int64_t index = stage_.write.index[d].offset;
        for (const IndexExpr::Term& term : stage_.write.index[d].terms) index += term.coefficient * at[term.axis];
        position = position * stage_.write.view[static_cast<int>(d)] + index;
      }
      points_[position] = point++;
    });
  }

  const Stage& stage_;
  bool regular_ = true;
  std::vector<std::vector<Digit>> dimensions_;
  std::unordered_map<int64_t, int64_t> points_;
};

// An access along the innermost reduced axis: a position that moves by `step`, and from where to where it is in range.
struct Run {
  int64_t position = 0, step = 0, begin = 0, end = 0;
};

// Shapes of bodies that are worth their own loop.
enum class BodyForm : uint8_t { kGeneral, kIdentity, kProduct };

BodyForm FormOf(const Body& body) {
  const auto is_input = [&](int n, int k) {
    return body.insts[n].op == ScalarOp::kInput && body.insts[n].imm_int == k;
  };
  if (body.num_inputs == 1 && is_input(body.result, 0)) return BodyForm::kIdentity;
  const ScalarInst& result = body.insts[body.result];
  if (body.num_inputs == 2 && result.op == ScalarOp::kMul && is_input(result.args[0], 0) &&
      is_input(result.args[1], 1)) {
    return BodyForm::kProduct;
  }
  return BodyForm::kGeneral;
}

ScalarValue Wrapped(DType type, ScalarValue value) {
  RefTensor cell(TensorType{type, Shape()});
  cell.Set(0, value);
  return cell.Get(0);
}

// A stage with what its evaluation needs; scratch is its own, as no stage reads what it writes.
struct Evaluation {
  const Stage& stage;
  WriteInverse inverse;
  BodyForm form;
  Body join;
  bool strided = true;                        // no index is read
  int inner = 0;                              // the last reduced axis that is longer than 1
  std::vector<std::vector<int64_t>> strides;  // [read][axis] of the flat position
  std::vector<int64_t> at;
  std::vector<ScalarValue> values, finish_values;
  std::vector<Run> runs;

  explicit Evaluation(const Stage& s) : stage(s), inverse(s), form(FormOf(s.body)) {
    at.resize(stage.rank());
    inner = stage.rank() - 1;
    while (inner > stage.parallel_rank && stage.extents[inner] == 1) --inner;
    values.resize(stage.reads.size());
    finish_values.resize(stage.finish_reads.size() + 1);
    runs.resize(stage.reads.size());
    if (stage.combiner != Combiner::kNone) {
      BodyBuilder b;
      const Scalar x = b.Input(stage.body.result_type()), y = b.Input(stage.body.result_type());
      join = b.Finish(b.Op(JoinOp(stage.combiner), {x, y}));
    }
    for (const Access& access : stage.reads) {
      std::vector<int64_t> steps(stage.rank(), 0);
      int64_t stride = 1;
      for (int d = access.view.rank() - 1; d >= 0; --d) {
        for (const IndexExpr::Term& term : access.index[d].terms) steps[term.axis] += term.coefficient * stride;
        strided &= access.index[d].read < 0;
        stride *= access.view[d];
      }
      strides.push_back(std::move(steps));
    }
  }
};

int64_t FloorDiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }
int64_t CeilDiv(int64_t a, int64_t b) { return -FloorDiv(-a, b); }

}  // namespace

struct PointEvaluator::State {
  Compute compute;
  Read read;
  std::vector<const RefTensor*> inputs;   // empty: `read` gives their elements
  std::vector<bool> mostly_zero, finite;  // of `inputs`
  std::vector<RefTensor> tables;
  std::vector<std::unique_ptr<Evaluation>> stages;
  // A buffer that stages write: who does, and, where stages read it too, the elements computed so far.
  struct Written {
    std::vector<int> writers;
    bool kept = false;
    RefTensor values;
    std::vector<uint8_t> done;
  };
  std::vector<Written> outputs, temps;

  State(Compute c, Read r) : compute(std::move(c)), read(std::move(r)) {
    for (const Tensor& table : compute.tables) tables.push_back(RefTensor::From(table));
    outputs.resize(compute.outputs.size());
    temps.resize(compute.temps.size());
    for (const Stage& stage : compute.stages) {
      WrittenAt(stage.write.buffer).writers.push_back(static_cast<int>(stages.size()));
      stages.push_back(std::make_unique<Evaluation>(stage));
      for (const std::vector<Access>* reads : {&stage.reads, &stage.finish_reads}) {
        for (const Access& access : *reads) {
          if (IsWritten(access.buffer)) WrittenAt(access.buffer).kept = true;
        }
      }
    }
  }

  static bool IsWritten(BufferRef ref) { return ref.kind == BufferKind::kOutput || ref.kind == BufferKind::kTemp; }
  Written& WrittenAt(BufferRef ref) { return ref.kind == BufferKind::kOutput ? outputs[ref.index] : temps[ref.index]; }

  ScalarValue Element(BufferRef ref, int64_t position) {
    switch (ref.kind) {
      case BufferKind::kInput: return read(ref.index, position);
      case BufferKind::kTable: return tables[ref.index].Get(position);
      default: return Computed(ref, position);
    }
  }

  // An element of an output or a temporary.
  ScalarValue Computed(BufferRef ref, int64_t position) {
    Written& buffer = WrittenAt(ref);
    const TensorType type = compute.BufferType(ref);
    if (buffer.kept) {
      if (buffer.done.empty()) {
        buffer.values = RefTensor(type);
        buffer.done.assign(buffer.values.size(), 0);
      }
      if (buffer.done[position]) return buffer.values.Get(position);
    }
    for (int writer : buffer.writers) {
      Evaluation& e = *stages[writer];
      if (!e.inverse.Find(position, e.at)) continue;
      const ScalarValue value = Finished(e);
      if (!buffer.kept) return IsFloat(type.dtype) ? value : Wrapped(type.dtype, value);
      buffer.values.Set(position, value);
      buffer.done[position] = 1;
      return buffer.values.Get(position);
    }
    TES_CHECK(false, "no stage writes element ", position);
    return {};
  }

  ScalarValue At(const Access& access, const std::vector<int64_t>& at, const std::vector<ScalarValue>& values) {
    int64_t position = 0;
    for (size_t d = 0; d < access.index.size(); ++d) {
      const IndexExpr& expr = access.index[d];
      int64_t index = expr.offset;
      for (const IndexExpr::Term& term : expr.terms) index += term.coefficient * at[term.axis];
      if (expr.read >= 0) index += expr.read_scale * values[expr.read].i;
      const int64_t extent = access.view[static_cast<int>(d)];
      if (index < 0 || index >= extent) {
        TES_CHECK(access.guarded, "unguarded access out of range");
        return {.f = access.fill, .i = static_cast<int64_t>(access.fill)};
      }
      position = position * extent + index;
    }
    return Element(access.buffer, position);
  }

  // The value that the stage stores at the parallel point e.at.
  ScalarValue Finished(Evaluation& e) {
    const Stage& stage = e.stage;
    ScalarValue acc = Combined(e);
    if (stage.finish.empty()) return acc;
    e.finish_values[0] = acc;
    for (size_t r = 0; r < stage.finish_reads.size(); ++r) {
      e.finish_values[r + 1] = At(stage.finish_reads[r], e.at, {});
    }
    return stage.finish.Evaluate(e.finish_values, e.at);
  }

  // The combination over the reduced points.
  ScalarValue Combined(Evaluation& e) {
    const Stage& stage = e.stage;
    const int rank = stage.rank();
    if (rank == stage.parallel_rank) {
      for (size_t r = 0; r < stage.reads.size(); ++r) e.values[r] = At(stage.reads[r], e.at, e.values);
      const ScalarValue value = stage.body.Evaluate(e.values, e.at);
      return stage.combiner == Combiner::kNone ? value
                                               : Join(e, Identity(stage.combiner, stage.body.result_type()), value);
    }
    ScalarValue acc = Identity(stage.combiner, stage.body.result_type());
    for (int axis = stage.parallel_rank; axis < rank; ++axis) {
      if (stage.extents[axis] == 0) return acc;
      e.at[axis] = 0;
    }
    const int inner = e.inner;
    while (true) {
      acc = e.strided ? AlongStrided(e, acc) : AlongGeneral(e, acc);
      e.at[inner] = 0;
      int axis = inner - 1;
      while (axis >= stage.parallel_rank && ++e.at[axis] == stage.extents[axis]) e.at[axis--] = 0;
      if (axis < stage.parallel_rank) return acc;
    }
  }

  static ScalarValue Join(const Evaluation& e, ScalarValue a, ScalarValue b) {
    if (e.stage.combiner == Combiner::kNone) return b;
    const ScalarValue pair[] = {a, b};
    return e.join.Evaluate(pair, {});
  }

  ScalarValue AlongGeneral(Evaluation& e, ScalarValue acc) {
    const Stage& stage = e.stage;
    const int inner = e.inner;
    for (e.at[inner] = 0; e.at[inner] < stage.extents[inner]; ++e.at[inner]) {
      for (size_t r = 0; r < stage.reads.size(); ++r) e.values[r] = At(stage.reads[r], e.at, e.values);
      acc = Join(e, acc, stage.body.Evaluate(e.values, e.at));
    }
    return acc;
  }

  // Where read `r` runs along the innermost axis, from e.at with that axis at 0.
  Run RunOf(const Evaluation& e, size_t r) {
    const Access& access = e.stage.reads[r];
    const int inner = e.inner;
    Run run = {.position = 0, .step = e.strides[r][inner], .begin = 0, .end = e.stage.extents[inner]};
    for (size_t d = 0; d < access.index.size(); ++d) {
      const IndexExpr& expr = access.index[d];
      const int64_t extent = access.view[static_cast<int>(d)];
      int64_t index = expr.offset, step = 0;
      for (const IndexExpr::Term& term : expr.terms) {
        index += term.coefficient * e.at[term.axis];
        if (term.axis == inner) step = term.coefficient;
      }
      run.position = run.position * extent + index;
      if (!access.guarded) continue;
      if (step == 0) {
        if (index < 0 || index >= extent) run.end = run.begin;
      } else {
        const int64_t first = step > 0 ? CeilDiv(-index, step) : CeilDiv(extent - 1 - index, step);
        const int64_t last = step > 0 ? FloorDiv(extent - 1 - index, step) : FloorDiv(-index, step);
        run.begin = std::max(run.begin, first);
        run.end = std::min(run.end, last + 1);
      }
    }
    return run;
  }

  void TakeInputs(std::vector<const RefTensor*> tensors) {
    inputs = std::move(tensors);
    for (const RefTensor* input : inputs) {
      int64_t zeros = 0;
      bool all_finite = true;
      if (input != nullptr) {
        for (double value : input->f) {
          zeros += value == 0;
          all_finite &= std::isfinite(value);
        }
      }
      mostly_zero.push_back(input != nullptr && zeros > input->size() / 2);
      finite.push_back(all_finite);
    }
  }

  // Pruned weights: a product with zero adds nothing, unless the other factor is infinite.
  bool SkipsZeros(BufferRef zeros, BufferRef other) const { return mostly_zero[zeros.index] && finite[other.index]; }

  // All of an input of floats, where it is at hand.
  const double* Elements(BufferRef ref) const {
    if (ref.kind != BufferKind::kInput || inputs.empty() || inputs[ref.index] == nullptr) return nullptr;
    return inputs[ref.index]->is_float() ? inputs[ref.index]->f.data() : nullptr;
  }

  ScalarValue Along(const Access& access, const Run& run, int64_t k) {
    if (k < run.begin || k >= run.end) return {.f = access.fill, .i = static_cast<int64_t>(access.fill)};
    const int64_t position = run.position + k * run.step;
    return access.buffer.kind == BufferKind::kInput ? read(access.buffer.index, position)
                                                    : Element(access.buffer, position);
  }

  ScalarValue AlongStrided(Evaluation& e, ScalarValue acc) {
    const Stage& stage = e.stage;
    const int inner = e.inner;
    const int64_t extent = stage.extents[inner];
    for (size_t r = 0; r < stage.reads.size(); ++r) e.runs[r] = RunOf(e, r);
    const bool is_float = IsFloat(stage.body.result_type());
    if (stage.combiner == Combiner::kAdd && is_float && e.form != BodyForm::kGeneral) {
      const Access& a = stage.reads.front();
      const Access& b = stage.reads.back();
      const Run x = e.runs.front(), y = e.runs.back();
      if (e.form == BodyForm::kIdentity) {
        for (int64_t k = 0; k < extent; ++k) acc.f += Along(a, x, k).f;
        return acc;
      }
      // Where both are within their buffers they are read directly, in the same order.
      int64_t begin = extent, end = extent;
      const double *from_a = Elements(a.buffer), *from_b = Elements(b.buffer);
      if (from_a != nullptr && from_b != nullptr) {
        begin = std::min(std::max(x.begin, y.begin), extent);
        end = std::max(begin, std::min(x.end, y.end));
      }
      for (int64_t k = 0; k < begin; ++k) acc.f += Along(a, x, k).f * Along(b, y, k).f;
      if (begin < end && SkipsZeros(b.buffer, a.buffer)) {
        for (int64_t k = begin; k < end; ++k) {
          const double factor = from_b[y.position + k * y.step];
          if (factor != 0) acc.f += from_a[x.position + k * x.step] * factor;
        }
      } else {
        for (int64_t k = begin; k < end; ++k)
          acc.f += from_a[x.position + k * x.step] * from_b[y.position + k * y.step];
      }
      for (int64_t k = end; k < extent; ++k) acc.f += Along(a, x, k).f * Along(b, y, k).f;
      return acc;
    }
    for (int64_t k = 0; k < extent; ++k) {
      e.at[inner] = k;
      for (size_t r = 0; r < stage.reads.size(); ++r) e.values[r] = Along(stage.reads[r], e.runs[r], k);
      acc = Join(e, acc, stage.body.Evaluate(e.values, e.at));
    }
    return acc;
  }
};

PointEvaluator::PointEvaluator(Compute compute, Read read)
    : state_(std::make_unique<State>(std::move(compute), std::move(read))) {}
PointEvaluator::PointEvaluator(Compute compute, std::vector<const RefTensor*> inputs)
    : PointEvaluator(std::move(compute), [inputs](int input, int64_t element) { return inputs[input]->Get(element); }) {
  state_->TakeInputs(std::move(inputs));
}
PointEvaluator::PointEvaluator(PointEvaluator&&) noexcept = default;
PointEvaluator::~PointEvaluator() = default;

ScalarValue PointEvaluator::Value(int output, int64_t element) {
  return state_->Computed({BufferKind::kOutput, output}, element);
}

}  // namespace tessera
