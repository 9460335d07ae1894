#include "propagate/testing/abstract_walk.h"

#include <algorithm>
#include <utility>

#include "propagate/algebra/partial_body.h"

namespace tessera {
namespace {

using Partial = std::optional<ScalarValue>;

// What a read may read: its value where that is certain, all elements that it may be.
struct Reading {
  Partial value;
  std::vector<int64_t> elements;
  std::vector<int> chosen_by;  // reads of unknown or known value that pick the element
  bool whatever = false;       // the value is the same whichever element is picked
};

class Walk {
 public:
  Walk(const Compute& compute, const ElementFacts& facts, const ElementSets& live_outputs) : compute_(compute) {
    for (const auto& input : facts.inputs) {
      inputs_.push_back({.known = input, .live = std::vector<uint8_t>(input.size(), 0)});
    }
    for (size_t out = 0; out < compute.outputs.size(); ++out) {
      outputs_.push_back({.known = std::vector<Partial>(live_outputs[out].size()), .live = live_outputs[out]});
    }
    for (const TensorType& type : compute.temps) {
      const int64_t count = type.shape.num_elements();
      temps_.push_back({.known = std::vector<Partial>(count), .live = std::vector<uint8_t>(count, 0)});
    }
    for (const Tensor& table : compute.tables) tables_.push_back(RefTensor::From(table));
  }

  AbstractWalk Run() {
    for (const Stage& stage : compute_.stages) ForEachWrite(stage, false);
    for (auto stage = compute_.stages.rbegin(); stage != compute_.stages.rend(); ++stage) ForEachWrite(*stage, true);
    AbstractWalk result;
    for (const Elements& output : outputs_) {
      result.known_outputs.emplace_back();
      for (const Partial& element : output.known) result.known_outputs.back().push_back(element.has_value());
    }
    for (Elements& input : inputs_) result.live_inputs.push_back(std::move(input.live));
    return result;
  }

 private:
  struct Elements {
    std::vector<Partial> known;
    std::vector<uint8_t> live;
  };
  Elements* Of(BufferRef ref) {
    switch (ref.kind) {
      case BufferKind::kInput: return &inputs_[ref.index];
      case BufferKind::kOutput: return &outputs_[ref.index];
      case BufferKind::kTemp: return &temps_[ref.index];
      default: return nullptr;
    }
  }
  Partial ValueAt(BufferRef ref, int64_t element) {
    return ref.kind == BufferKind::kTable ? tables_[ref.index].Get(element) : Of(ref)->known[element];
  }

  static bool Same(DType type, ScalarValue a, ScalarValue b) { return IsFloat(type) ? a.f == b.f : a.i == b.i; }

  Reading ReadAt(const Access& access, const std::vector<int64_t>& at, const std::vector<Reading>& earlier) {
    Reading reading;
    std::vector<int64_t> positions = {0};
    bool outside = false, open = false;
    for (int d = 0; d < access.view.rank(); ++d) {
      const IndexExpr& expr = access.index[d];
      int64_t index = expr.offset;
      for (const IndexExpr::Term& term : expr.terms) index += term.coefficient * at[term.axis];
      std::vector<int64_t> indices = {index};
      if (expr.read >= 0) {
        reading.chosen_by.push_back(expr.read);
        if (earlier[expr.read].value) {
          indices[0] += expr.read_scale * earlier[expr.read].value->i;
        } else {
          open = outside = true;
          indices.clear();
          for (int64_t k = 0; k < access.view[d]; ++k) indices.push_back(k);
        }
      }
      std::vector<int64_t> next;
      for (int64_t position : positions) {
        for (int64_t k : indices) {
          if (k < 0 || k >= access.view[d]) {
            outside = true;
          } else {
            next.push_back(position * access.view[d] + k);
          }
        }
      }
      positions = std::move(next);
    }
    const DType type = compute_.BufferType(access.buffer).dtype;
    const ScalarValue fill = {.f = access.fill, .i = static_cast<int64_t>(access.fill)};
    reading.elements = std::move(positions);
    if (outside) reading.value = fill;
    bool same = true;
    for (int64_t element : reading.elements) {
      const Partial value = ValueAt(access.buffer, element);
      same &= value.has_value() && (!reading.value || Same(type, *reading.value, *value));
      if (value && !reading.value) reading.value = value;
    }
    if (!same) reading.value.reset();
    reading.whatever = open && same;
    if (!open && !reading.chosen_by.empty()) reading.whatever = SameEverywhere(access, at, earlier);
    return reading;
  }

  // Whether a read whose index is known would give its value at any other index too.
  bool SameEverywhere(const Access& access, const std::vector<int64_t>& at, const std::vector<Reading>& earlier) {
    std::vector<Reading> open = earlier;
    for (const IndexExpr& expr : access.index) {
      if (expr.read >= 0) open[expr.read].value.reset();
    }
    return ReadAt(access, at, open).whatever;
  }

  std::vector<Reading> ReadAll(const std::vector<Access>& accesses, const std::vector<int64_t>& at) {
    std::vector<Reading> readings;
    for (const Access& access : accesses) {
      readings.push_back(ReadAt(access, at, readings));
    }
    return readings;
  }

  std::vector<DType> Stored(const std::vector<Access>& accesses) {
    std::vector<DType> types;
    for (const Access& access : accesses) types.push_back(compute_.BufferType(access.buffer).dtype);
    return types;
  }

  static std::vector<Partial> ValuesOf(const std::vector<Reading>& readings) {
    std::vector<Partial> values;
    for (const Reading& reading : readings) values.push_back(reading.value);
    return values;
  }

  void ForEachWrite(const Stage& stage, bool backward) {
    const Shape parallel(std::vector<int64_t>(stage.extents.begin(), stage.extents.begin() + stage.parallel_rank));
    const Shape reduced(std::vector<int64_t>(stage.extents.begin() + stage.parallel_rank, stage.extents.end()));
    std::vector<int64_t> at(stage.rank());
    ForEachIndex(parallel, [&](const std::vector<int64_t>& p) {
      std::copy(p.begin(), p.end(), at.begin());
      const Reading written = ReadAt(stage.write, at, {});
      Elements& target = *Of(stage.write.buffer);
      if (backward && !target.live[written.elements[0]]) return;
      Point(stage, reduced, at, target, written.elements[0], backward);
    });
  }

  // One element that a stage writes.
  void Point(const Stage& stage, const Shape& reduced, std::vector<int64_t>& at, Elements& target, int64_t element,
             bool backward) {
    const std::vector<DType> stored = Stored(stage.reads);
    std::vector<std::vector<Reading>> points;
    std::vector<PartialValue> values;
    std::vector<Body> bodies;
    const Body finish = At(stage.finish, at);
    ForEachIndex(reduced, [&](const std::vector<int64_t>& q) {
      std::copy(q.begin(), q.end(), at.begin() + stage.parallel_rank);
      points.push_back(ReadAll(stage.reads, at));
      bodies.push_back(At(stage.body, at));
      values.push_back(EvaluatePartially(bodies.back(), ValuesOf(points.back()), stored));
    });
    const Partial combined = Combined(stage, values);
    std::vector<Reading> finish_reads = ReadAll(stage.finish_reads, at);
    std::vector<Partial> finish_values = ValuesOf(finish_reads);
    finish_values.insert(finish_values.begin(), combined);
    std::vector<DType> finish_stored = Stored(stage.finish_reads);
    finish_stored.insert(finish_stored.begin(), stage.body.result_type());
    if (!backward) {
      target.known[element] =
          stage.finish.empty() ? combined : EvaluatePartially(finish, finish_values, finish_stored).known;
      return;
    }
    bool reaches_body = true;
    if (!stage.finish.empty()) {
      for (size_t k = 0; k < finish_values.size(); ++k) {
        const bool reached = Reaches(finish, finish_values, finish_stored, k);
        if (k == 0) {
          reaches_body = reached;
        } else if (reached) {
          MarkLive(stage.finish_reads[k - 1], finish_reads[k - 1]);
        }
      }
    }
    if (!reaches_body) return;
    for (size_t q = 0; q < points.size(); ++q) {
      // Do the other points leave anything to this one?
      std::vector<PartialValue> others = values;
      others[q] = EvaluatePartially(bodies[q], std::vector<Partial>(stage.reads.size()), stored);
      if (others[q].known) continue;
      if (Combined(stage, others)) continue;
      const std::vector<Partial> known = ValuesOf(points[q]);
      for (size_t r = 0; r < points[q].size(); ++r) {
        if (!Reaches(bodies[q], known, stored, r)) continue;
        MarkLive(stage.reads[r], points[q][r]);
        if (points[q][r].whatever) continue;
        for (int by : points[q][r].chosen_by) MarkLive(stage.reads[by], points[q][by]);
      }
    }
  }

  // The body at a point: it knows where it is.
  static Body At(Body body, const std::vector<int64_t>& at) {
    for (ScalarInst& inst : body.insts) {
      if (inst.op == ScalarOp::kIndex) inst = {.op = ScalarOp::kConst, .type = inst.type, .imm_int = at[inst.imm_int]};
    }
    return body;
  }

  static bool Reaches(const Body& body, std::vector<Partial> known, const std::vector<DType>& stored, size_t k) {
    known[k].reset();
    return EvaluatePartially(body, known, stored).inputs.test(k);
  }

  void MarkLive(const Access& access, const Reading& reading) {
    if (access.buffer.kind == BufferKind::kTable) return;
    for (int64_t element : reading.elements) Of(access.buffer)->live[element] = 1;
  }

  // The combination if it is certain.
  Partial Combined(const Stage& stage, const std::vector<PartialValue>& values) {
    const DType type = stage.body.result_type();
    if (stage.combiner == Combiner::kNone) return values[0].known;
    ScalarValue acc = Identity(stage.combiner, type);
    bool all_known = true, never_negative = true, some_zero = false, some_one = false;
    BodyBuilder b;
    const Scalar x = b.Input(type), y = b.Input(type);
    const Body join = b.Finish(b.Op(JoinOp(stage.combiner), {x, y}));
    for (const PartialValue& value : values) {
      if (!value.known) {
        all_known = false;
        never_negative &= IsUnsigned(type) || (value.ranged && value.low >= 0);
        continue;
      }
      const ScalarValue pair[] = {acc, *value.known};
      acc = join.Evaluate(pair, {});
      some_zero |= Same(type, *value.known, {});
      some_one |= IsBool(type) && value.known->i != 0;
      never_negative &= !IsFloat(type) && (IsUnsigned(type) || value.known->i >= 0);
    }
    if (all_known) return acc;
    const bool by_zero = stage.combiner == Combiner::kMul || stage.combiner == Combiner::kAnd ||
                         (stage.combiner == Combiner::kMin && !IsFloat(type) && never_negative);
    if (by_zero && some_zero) return ScalarValue{};
    if (stage.combiner == Combiner::kOr && some_one) return ScalarValue{.i = 1};
    return std::nullopt;
  }

  const Compute& compute_;
  std::vector<Elements> inputs_, outputs_, temps_;
  std::vector<RefTensor> tables_;
};

}  // namespace

AbstractWalk WalkCompute(const Compute& compute, const ElementFacts& facts, const ElementSets& live_outputs) {
  return Walk(compute, facts, live_outputs).Run();
}

}  // namespace tessera
