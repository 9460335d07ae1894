// InstanceTransfer: scrambling of one instance with the facts held: what moves is what propagates.
//
//   forward    what is known stays, all else is drawn anew in each trial: outputs that never move are constants
//   backward   a group of elements is changed; when nothing live moves all of it is dead, else it is split:
//              first slices of each axis, so that structure is found in logarithmically many runs, then their elements
//
// Elements that the runs allowed do not tell apart are live, or unknown: less is found, never too much.
#include <algorithm>
#include <cmath>
#include <deque>

#include "propagate/learn/probe.h"
#include "propagate/learn/scramble.h"

namespace tessera {
namespace {

constexpr double kExactInteger = 9007199254740992.0;  // 2^53

Held HeldOf(const BlackBox& box, std::span<const Known* const> inputs) {
  Held held(box.inputs.size());
  for (size_t k = 0; k < box.inputs.size(); ++k) {
    if (!box.inputs[k] || k >= inputs.size() || inputs[k] == nullptr || inputs[k]->nothing_known()) continue;
    int64_t element = 0;
    ForEachIndex(box.inputs[k]->shape, [&](const std::vector<int64_t>& index) {
      if (inputs[k]->at(index) != Certainty::kUnknown) {
        held.Set(box, static_cast<int>(k), element, inputs[k]->ValueAt(index));
      }
      ++element;
    });
  }
  return held;
}

bool AllHeld(const BlackBox& box, const Held& held) {
  for (size_t k = 0; k < box.inputs.size(); ++k) {
    if (!box.inputs[k] || box.inputs[k]->shape.num_elements() == 0) continue;
    if (held.is_held[k].empty()) return false;
    if (std::find(held.is_held[k].begin(), held.is_held[k].end(), 0) != held.is_held[k].end()) return false;
  }
  return true;
}

// Runs that one question may take: many where they are small.
int64_t RunsAllowed(const BlackBox& box) {
  int64_t elements = 1;
  for (const auto& type : box.inputs) elements += type ? type->shape.num_elements() : 0;
  for (const TensorType& type : box.outputs) elements += type.shape.num_elements();
  return std::max<int64_t>(2000, int64_t{2000000000} / elements);
}

std::vector<uint8_t> LiveOutputs(const BlackBox& box, std::span<const Needed* const> outputs) {
  std::vector<uint8_t> live;
  for (size_t t = 0; t < box.outputs.size(); ++t) {
    if (t >= outputs.size() || outputs[t] == nullptr) {
      live.insert(live.end(), box.outputs[t].shape.num_elements(), 1);
      continue;
    }
    const std::vector<uint8_t> elements = outputs[t]->live.Elements();
    live.insert(live.end(), elements.begin(), elements.end());
  }
  return live;
}

// [low, high) along each axis.
struct Range {
  std::vector<int64_t> low, high;
};

class DeadFinder {
 public:
  DeadFinder(const BlackBox& box, const ScrambleOptions& options, int input, const Held& held,
             std::vector<uint8_t> live)
      : prober_(box, options.seed),
        input_(input),
        shape_(box.inputs[input]->shape),
        held_(held),
        allowed_(RunsAllowed(box)),
        is_live_(shape_.num_elements(), 1) {
    measure_ = {.max_error = options.max_error / static_cast<double>(std::max<int64_t>(shape_.num_elements(), 1)),
                .kinds = {},
                .finite_only = true,
                .until_any = true,
                .expected = {std::move(live)}};
  }

  std::vector<uint8_t> Find() {
    if (shape_.num_elements() == 0) return is_live_;
    const Range all = {std::vector<int64_t>(shape_.rank(), 0), shape_.dims()};
    if (!Moves(all)) return is_live_;
    for (int axis = 0; axis < shape_.rank(); ++axis) {
      if (shape_.rank() > 1 && shape_[axis] > 1) Narrow(all, axis);
    }
    Narrow(all, -1);
    return is_live_;
  }

 private:
  // Splits what moves, along one axis only or along the longest (-1), breadth first.
  void Narrow(const Range& all, int only) {
    std::deque<Range> open = {all};
    while (!open.empty() && prober_.runs() < allowed_) {
      const Range range = std::move(open.front());
      open.pop_front();
      int axis = only;
      for (int d = 0; only < 0 && d < shape_.rank(); ++d) {
        if (axis < 0 || range.high[d] - range.low[d] > range.high[axis] - range.low[axis]) axis = d;
      }
      if (axis < 0 || range.high[axis] - range.low[axis] <= 1) continue;
      const int64_t middle = (range.low[axis] + range.high[axis]) / 2;
      for (bool upper : {false, true}) {
        Range half = range;
        (upper ? half.low : half.high)[axis] = middle;
        if (Moves(half)) open.push_back(std::move(half));
      }
    }
  }

  // Does anything live move with what is still live of these? If not they are dead.
  bool Moves(const Range& range) {
    Group group;
    std::vector<int64_t> extents;
    for (int d = 0; d < shape_.rank(); ++d) extents.push_back(range.high[d] - range.low[d]);
    const std::vector<int64_t> strides = shape_.Strides();
    ForEachIndex(Shape(extents), [&](const std::vector<int64_t>& index) {
      int64_t element = 0;
      for (int d = 0; d < shape_.rank(); ++d) element += (range.low[d] + index[d]) * strides[d];
      if (is_live_[element]) group.push_back(element);
    });
    if (group.empty()) return false;
    const Footprints found = prober_.Measure(input_, {&group, 1}, held_, measure_);
    for (size_t j = 0; j < found.moved[0].size(); ++j) {
      if (found.moved[0][j] && measure_.expected[0][j]) return true;
    }
    for (int64_t element : group) is_live_[element] = 0;
    return false;
  }

  Prober prober_;
  const int input_;
  const Shape& shape_;
  const Held& held_;
  const int64_t allowed_;
  std::vector<uint8_t> is_live_;
  MeasureOptions measure_;
};

}  // namespace

InstanceTransfer::InstanceTransfer(BlackBox box, ScrambleOptions options) : box_(std::move(box)), options_(options) {}

StatusOr<std::vector<Known>> InstanceTransfer::Forward(std::span<const Known* const> inputs) const {
  Prober prober(box_, options_.seed);
  const Held held = HeldOf(box_, inputs);
  const int64_t count = prober.num_outputs();
  std::vector<double> value = prober.RunBase(ProbeKind::kSmooth, 0, held);
  std::vector<uint8_t> moved(count, 0);
  std::vector<int> numbers(count, 0);  // trials that gave one
  int64_t left = count;
  const int trials = AllHeld(box_, held) ? 0 : Trials(count, kShowsWeak, options_.max_error);
  for (int trial = 1; trial <= trials && left > 0; ++trial) {
    const std::vector<double>* now = nullptr;
    switch (trial % 6) {
      case 0: now = &prober.RunBase(ProbeKind::kTies, trial, held); break;
      case 1: now = &prober.RunBase(ProbeKind::kPositive, trial, held); break;
      case 2: now = &prober.RunBase(ProbeKind::kSmooth, trial, held); break;
      default: now = &prober.RunSpikes(trial % 6 - 4, trial, held);
    }
    for (int64_t j = 0; j < count; ++j) {
      // NaN tells nothing: a drawn value that the op has no result for.
      if (moved[j] || std::isnan((*now)[j])) continue;
      ++numbers[j];
      if (std::isnan(value[j])) value[j] = (*now)[j];
      if ((*now)[j] == value[j]) continue;
      moved[j] = 1;
      --left;
    }
  }
  std::vector<Known> known;
  for (size_t t = 0; t < box_.outputs.size(); ++t) {
    std::vector<uint8_t> kinds;
    std::vector<double> values;
    for (int64_t j = prober.first(static_cast<int>(t)); j < prober.first(static_cast<int>(t) + 1); ++j) {
      const bool certain = !moved[j] && !std::isnan(value[j]) && 3 * numbers[j] >= trials &&
                           (IsFloat(box_.outputs[t].dtype) || std::fabs(value[j]) <= kExactInteger);
      const Certainty kind = !certain ? Certainty::kUnknown : value[j] == 0 ? Certainty::kZero : Certainty::kConstant;
      kinds.push_back(static_cast<uint8_t>(kind));
      values.push_back(kind == Certainty::kConstant ? value[j] : 0);
    }
    known.push_back(Known::FromElements(box_.outputs[t], kinds, values));
  }
  return known;
}

StatusOr<Needed> InstanceTransfer::Backward(int input, std::span<const Known* const> inputs,
                                            std::span<const Needed* const> outputs) const {
  if (input < 0 || input >= static_cast<int>(box_.inputs.size()) || !box_.inputs[input]) {
    return Error(ErrorCode::kInternal, box_.name, ": asked for operand ", input, ", which it has not");
  }
  const Shape& shape = box_.inputs[input]->shape;
  std::vector<uint8_t> live = LiveOutputs(box_, outputs);
  if (std::find(live.begin(), live.end(), 1) == live.end()) return Needed::Nothing(shape);
  const Held held = HeldOf(box_, inputs);
  return Needed::FromElements(shape, DeadFinder(box_, options_, input, held, std::move(live)).Find());
}

std::string InstanceTransfer::WhyDead(int input, int64_t element, std::span<const Known* const> inputs,
                                      std::span<const Needed* const> outputs) const {
  if (input < 0 || input >= static_cast<int>(box_.inputs.size()) || !box_.inputs[input]) return "";
  const std::vector<uint8_t> live = LiveOutputs(box_, outputs);
  Prober prober(box_, options_.seed);
  const Group group = {element};
  const Footprints found =
      prober.Measure(input, {&group, 1}, HeldOf(box_, inputs), {.max_error = options_.max_error, .finite_only = true});
  for (size_t j = 0; j < live.size(); ++j) {
    if (live[j] && found.moved[0][j]) return "";
  }
  return "scrambled in " + std::to_string(found.trials) + " trials with what is known held, it moved nothing live";
}

std::string InstanceTransfer::ToString() const { return "scrambled at this shape"; }

}  // namespace tessera
