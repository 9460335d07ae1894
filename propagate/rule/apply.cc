#include "propagate/rule/apply.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "propagate/rule/apply_known_clause.h"

namespace tessera {
namespace {

constexpr uint8_t kZeroKind = static_cast<uint8_t>(Certainty::kZero);
constexpr uint8_t kConstantKind = static_cast<uint8_t>(Certainty::kConstant);
constexpr uint8_t kUnknownKind = static_cast<uint8_t>(Certainty::kUnknown);
// Operands above this many elements are looked at value by value only where their values matter.
constexpr int64_t kManyElements = 1 << 16;
// Above this many cells a result is left unknown rather than told apart.
constexpr int64_t kMaxCells = int64_t{1} << 27;

// Joins what clauses reach, each on the view of its access.
class Union {
 public:
  explicit Union(const Shape& shape) : cells_(Cells<uint8_t>::Uniform(shape, 0)) {}
  void Add(Cells<uint8_t> reached) {
    if (std::find(reached.values.begin(), reached.values.end(), 1) == reached.values.end()) return;
    reached = reached.shape == cells_.shape ? reached.Coarsest() : reached.Reshaped(cells_.shape);
    if (nothing_) {
      cells_ = std::move(reached);
    } else {
      cells_ = Combine(cells_, reached, [](uint8_t a, uint8_t b) { return static_cast<uint8_t>(a | b); });
    }
    nothing_ = false;
  }
  bool full() const { return !nothing_ && cells_.IsUniform(1); }
  Cells<uint8_t> Take() { return std::move(cells_); }

 private:
  Cells<uint8_t> cells_;
  bool nothing_ = true;
};

// The same with each constant that is not zero replaced by one: what reads none of these sees no difference.
Known WithoutValues(const Known& known) {
  Known result = known;
  result.data.reset();
  result.values.assign(result.kind.values.size(), 0);
  for (size_t k = 0; k < result.values.size(); ++k) result.values[k] = result.kind.values[k] == kConstantKind;
  return result;
}

// What holds of one cell, as a number that tells cells apart.
class Dictionary {
 public:
  double Number(uint8_t kind, double value) {
    if (kind != kConstantKind) return kind == kZeroKind ? 0 : 1;
    const auto [found, fresh] = number_.try_emplace(value, 2.0 + static_cast<double>(values_.size()));
    if (fresh) values_.push_back(value);
    return found->second;
  }
  uint8_t Kind(double number) const { return number == 0 ? kZeroKind : number == 1 ? kUnknownKind : kConstantKind; }
  double Value(double number) const { return number < 2 ? 0 : values_[static_cast<size_t>(number) - 2]; }

 private:
  std::map<double, double> number_;
  std::vector<double> values_;
};

}  // namespace

RuleTransfer::RuleTransfer(Rule rule, ConstantValues values) : rule_(std::move(rule)), values_(std::move(values)) {}

Status RuleTransfer::Check(std::span<const Known* const> inputs) const {
  if (inputs.size() != rule_.inputs.size()) {
    return Error(ErrorCode::kInternal, "rule '", rule_.name, "': expected ", rule_.inputs.size(), " operands, found ",
                 inputs.size());
  }
  for (size_t k = 0; k < inputs.size(); ++k) {
    if (inputs[k] == nullptr || inputs[k]->shape() == rule_.inputs[k].shape) continue;
    return Error(ErrorCode::kShapeMismatch, "rule '", rule_.name, "': operand ", k, " is ", rule_.inputs[k],
                 ", but what is known is of ", inputs[k]->type);
  }
  return OkStatus();
}

Cells<uint8_t> RuleTransfer::ChangedBy(int output, int input, Certainty kind,
                                       std::span<const Known* const> inputs) const {
  std::map<int, LookupValues> cache;
  Union changed(rule_.outputs[output].shape);
  for (const Clause& clause : rule_.clauses) {
    if (clause.output != output || (input >= 0 && clause.input != input) || inputs[clause.input] == nullptr) continue;
    const Cells<uint8_t>& kinds = inputs[clause.input]->kind;
    if (kinds.values.size() == 1 && kinds.values[0] != static_cast<uint8_t>(kind)) continue;
    KnownClause known(clause, inputs, cache);
    known.walk().Need(clause.in, kinds, static_cast<uint8_t>(kind));
    changed.Add(known.walk().Reached(clause.out));
    visited_ += known.walk().visited();
    if (changed.full()) break;
  }
  return changed.Take();
}

StatusOr<std::vector<Known>> RuleTransfer::Forward(std::span<const Known* const> inputs) const {
  RETURN_IF_ERROR(Check(inputs));
  std::vector<Known> outputs;
  for (int output = 0; output < static_cast<int>(rule_.outputs.size()); ++output) {
    const Cells<uint8_t> unknown = ChangedBy(output, -1, Certainty::kUnknown, inputs);
    ASSIGN_OR_RETURN(Known known, Constants(output, unknown, inputs));
    outputs.push_back(std::move(known));
  }
  return outputs;
}

// The values where `unknown` is 0, on cells within which they do not differ.
StatusOr<Known> RuleTransfer::Constants(int output, const Cells<uint8_t>& unknown,
                                        std::span<const Known* const> inputs) const {
  const TensorType& type = rule_.outputs[output];
  Known result = Known::Unknown(type);
  if (unknown.IsUniform(1) || type.shape.num_elements() == 0) return result;
  // A large operand none of whose values, other than zeros, can change these elements, is alike wherever it is not 0.
  std::vector<const Known*> operands(inputs.begin(), inputs.end());
  std::vector<std::unique_ptr<Known>> replaced;
  for (size_t k = 0; k < operands.size(); ++k) {
    if (operands[k] == nullptr || operands[k]->shape().num_elements() <= kManyElements) continue;
    const std::vector<uint8_t>& kinds = operands[k]->kind.values;
    if (std::find(kinds.begin(), kinds.end(), kConstantKind) == kinds.end()) continue;
    const Cells<uint8_t> matters = ChangedBy(output, static_cast<int>(k), Certainty::kConstant, inputs);
    const auto seen = [](uint8_t a, uint8_t b) { return static_cast<uint8_t>(a != 0 && b == 0); };
    if (!Combine(matters, unknown, seen).IsUniform(0)) continue;
    replaced.push_back(std::make_unique<Known>(WithoutValues(*operands[k])));
    operands[k] = replaced.back().get();
  }
  CellGrid grid = values_.alike() ? values_.alike()(operands, output) : CellGrid::Elements(type.shape);
  grid = Refine(unknown, grid);
  if (grid.num_cells() > kMaxCells) return result;
  const Cells<uint8_t> fine = unknown.Refined(grid.axes);
  const std::vector<int64_t> firsts = grid.FirstElements();
  std::vector<int64_t> elements;
  for (size_t cell = 0; cell < firsts.size(); ++cell) {
    if (fine.values[cell] == 0) elements.push_back(firsts[cell]);
  }
  std::vector<ScalarValue> values(elements.size());
  const Status status = values_.get()(operands, output, elements, values);
  if (status.code() == ErrorCode::kLimitExceeded) return result;
  RETURN_IF_ERROR(status);
  Dictionary dictionary;
  Cells<double> numbers(grid, std::vector<double>(firsts.size(), dictionary.Number(kUnknownKind, 0)));
  size_t next = 0;
  for (size_t cell = 0; cell < firsts.size(); ++cell) {
    if (fine.values[cell] != 0) continue;
    const ScalarValue value = values[next++];
    if (!IsFloat(type.dtype) && (value.i > int64_t{1} << 53 || value.i < -(int64_t{1} << 53))) continue;
    const double number = IsFloat(type.dtype) ? value.f : static_cast<double>(value.i);
    if (std::isnan(number)) continue;
    numbers.values[cell] = dictionary.Number(number == 0 ? kZeroKind : kConstantKind, number);
  }
  numbers = numbers.Coarsest();
  result.kind = Cells<uint8_t>(static_cast<const CellGrid&>(numbers), std::vector<uint8_t>(numbers.values.size()));
  result.values.resize(numbers.values.size());
  for (size_t cell = 0; cell < numbers.values.size(); ++cell) {
    result.kind.values[cell] = dictionary.Kind(numbers.values[cell]);
    result.values[cell] = dictionary.Value(numbers.values[cell]);
  }
  return result;
}

StatusOr<Needed> RuleTransfer::Backward(int input, std::span<const Known* const> inputs,
                                        std::span<const Needed* const> outputs) const {
  RETURN_IF_ERROR(Check(inputs));
  TES_CHECK(input >= 0 && input < static_cast<int>(rule_.inputs.size()) && outputs.size() == rule_.outputs.size());
  std::map<int, LookupValues> cache;
  Union live(rule_.inputs[input].shape);
  for (const Clause& clause : rule_.clauses) {
    if (clause.input != input || outputs[clause.output] == nullptr) continue;
    const Cells<uint8_t>& needed = outputs[clause.output]->live;
    if (needed.values.size() == 1 && needed.values[0] == 0) continue;
    KnownClause known(clause, inputs, cache);
    known.walk().Need(clause.out, needed, 1);
    live.Add(known.walk().Reached(clause.in));
    visited_ += known.walk().visited();
    if (live.full()) break;
  }
  Needed result{.live = live.Take()};
  if (result.none_live()) result.bits = 0;
  return result;
}

}  // namespace tessera
