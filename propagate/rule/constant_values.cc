// ValuesOf: where the values of constants come from, and which elements of a result surely have the same.
//
//   y = relu(x W + b)      elements of y are alike along the axes of W and b whose indices are; along x's as well
//
// The cells of a result follow from its stages: the value at a parallel point depends on the point only through what
// the stage reads there, so two values of an axis are alike when every read meets alike elements for both, for each
// value of the axes that share an index with it (borders included), and when no body asks for the axis itself. Sums run
// over the same sequence for both, so that even their rounding is the same. What is not known is one value, 1.
// Tested by apply_test.cc.
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "graph/point_evaluator.h"
#include "propagate/rule/apply.h"

namespace tessera {
namespace {

// Reads of input elements above which values are left unknown: seconds of work.
constexpr double kMaxWork = 1e9;

// An element of an operand: its value where known, 1 elsewhere.
class KnownReader {
 public:
  explicit KnownReader(const Known* known) : known_(known) {
    if (known == nullptr) return;
    const Shape cells = known->kind.CellShape();
    const std::vector<int64_t> strides = cells.Strides();
    const Shape& shape = known->shape();
    for (int d = 0; d < shape.rank(); ++d) {
      extents_.push_back(shape[d]);
      std::vector<int64_t>& offsets = offsets_.emplace_back(shape[d]);
      for (int64_t i = 0; i < shape[d]; ++i) offsets[i] = known->kind.axes[d][i] * strides[d];
    }
  }

  ScalarValue operator()(int64_t element) const {
    if (known_ == nullptr) return {};
    int64_t cell = 0, rest = element;
    for (size_t d = extents_.size(); d-- > 0;) {
      cell += offsets_[d][rest % extents_[d]];
      rest /= extents_[d];
    }
    const Certainty kind = static_cast<Certainty>(known_->kind.values[cell]);
    double value = kind == Certainty::kZero ? 0 : 1;
    if (kind == Certainty::kConstant) value = known_->data ? known_->data->Get(element) : known_->values[cell];
    if (IsFloat(known_->type.dtype)) return {.f = value};
    return {.i = static_cast<int64_t>(value)};
  }

  RefTensor Tensor() const {
    RefTensor tensor(known_->type);
    for (int64_t k = 0; k < tensor.size(); ++k) tensor.Set(k, (*this)(k));
    return tensor;
  }

 private:
  const Known* known_;
  std::vector<int64_t> extents_;
  std::vector<std::vector<int64_t>> offsets_;  // into the cells, by axis and index
};

// The cells of each buffer within which elements have one value.
class AlikeCells {
 public:
  AlikeCells(const Compute& compute, std::span<const Known* const> inputs) : compute_(compute) {
    for (size_t k = 0; k < compute.inputs.size(); ++k) {
      const Shape& shape = compute.inputs[k].shape;
      cells_[Key({BufferKind::kInput, static_cast<int>(k)})] =
          inputs[k] == nullptr ? CellGrid::Whole(shape) : CellsOfKnown(*inputs[k]);
    }
    for (size_t k = 0; k < compute.tables.size(); ++k) {
      const tessera::Tensor& table = compute.tables[k];
      std::vector<double> values(table.shape().num_elements());
      for (size_t e = 0; e < values.size(); ++e) values[e] = table.Get(static_cast<int64_t>(e));
      cells_[Key({BufferKind::kTable, static_cast<int>(k)})] =
          Cells<double>::FromElements(table.shape(), std::span<const double>(values));
    }
    for (const Stage& stage : compute.stages) AddStage(stage);
  }

  CellGrid Of(BufferRef buffer) const {
    const auto found = cells_.find(Key(buffer));
    return found != cells_.end() ? found->second : CellGrid::Elements(compute_.BufferType(buffer).shape);
  }

 private:
  static std::pair<int, int> Key(BufferRef buffer) { return {static_cast<int>(buffer.kind), buffer.index}; }

  static CellGrid CellsOfKnown(const Known& known) {
    if (!known.data) return known.kind;  // values are stored by these cells
    const std::vector<uint8_t>& kinds = known.kind.values;
    if (std::find(kinds.begin(), kinds.end(), static_cast<uint8_t>(Certainty::kConstant)) == kinds.end()) {
      return known.kind;
    }
    // Data of many elements seldom repeats itself.
    if (known.shape().num_elements() > 1 << 16) return CellGrid::Elements(known.shape());
    return known.WithValues().kind;
  }

  void AddStage(const Stage& stage) {
    std::vector<Partition> axes;
    for (int a = 0; a < stage.rank(); ++a) {
      axes.push_back(a < stage.parallel_rank ? Partition::Whole(stage.extents[a])
                                             : Partition::Identity(stage.extents[a]));
    }
    for (const Body* body : {&stage.body, &stage.finish}) {
      for (const ScalarInst& inst : body->insts) {
        const int64_t axis = inst.imm_int;
        if (inst.op == ScalarOp::kIndex && axis < stage.parallel_rank) {
          axes[axis] = Partition::Identity(stage.extents[axis]);
        }
      }
    }
    // All but the longest parallel axis of an index stay apart, and all of one to which a value is added.
    for (const auto* reads : {&stage.reads, &stage.finish_reads}) {
      for (const Access& access : *reads) {
        for (const IndexExpr& index : access.index) {
          const int longest = index.read >= 0 ? -1 : Longest(stage, index);
          for (const IndexExpr::Term& term : index.terms) {
            if (term.axis != longest && term.axis < stage.parallel_rank) {
              axes[term.axis] = Partition::Identity(stage.extents[term.axis]);
            }
          }
        }
      }
    }
    for (const auto* reads : {&stage.reads, &stage.finish_reads}) {
      for (const Access& access : *reads) {
        const CellGrid from = ReshapeMap(Of(access.buffer), access.view).grid;
        for (size_t d = 0; d < access.index.size(); ++d) {
          if (access.index[d].read < 0) RefineBy(stage, access.index[d], from.axes[d], axes);
        }
      }
    }
    AddWrite(stage, axes);
  }

  static int Longest(const Stage& stage, const IndexExpr& index) {
    int longest = -1;
    for (const IndexExpr::Term& term : index.terms) {
      if (term.axis < stage.parallel_rank && (longest < 0 || stage.extents[term.axis] > stage.extents[longest])) {
        longest = term.axis;
      }
    }
    return longest;
  }

  // Calls visit(sum of the other terms) for each of their values.
  template <typename Visit>
  static void ForEachRest(const Stage& stage, const IndexExpr& index, int but, Visit visit) {
    std::vector<int64_t> at(index.terms.size(), 0);
    for (const IndexExpr::Term& term : index.terms) {
      if (stage.extents[term.axis] == 0) return;
    }
    while (true) {
      int64_t sum = index.offset;
      for (size_t t = 0; t < at.size(); ++t) sum += index.terms[t].coefficient * at[t];
      visit(sum);
      size_t t = at.size();
      for (; t > 0; --t) {
        if (index.terms[t - 1].axis == but) continue;
        if (++at[t - 1] < stage.extents[index.terms[t - 1].axis]) break;
        at[t - 1] = 0;
      }
      if (t == 0) return;
    }
  }

  static void RefineBy(const Stage& stage, const IndexExpr& index, const Partition& classes,
                       std::vector<Partition>& axes) {
    const int axis = Longest(stage, index);
    if (axis < 0 || axes[axis].is_identity()) return;
    int64_t coefficient = 0;
    for (const IndexExpr::Term& term : index.terms) coefficient = term.axis == axis ? term.coefficient : coefficient;
    std::vector<int64_t> where(stage.extents[axis]);
    ForEachRest(stage, index, axis, [&](int64_t rest) {
      if (axes[axis].is_identity()) return;
      bool inside = true;
      for (int64_t i = 0; i < stage.extents[axis]; ++i) {
        where[i] = rest + coefficient * i;
        if (where[i] < 0 || where[i] >= classes.extent()) where[i] = -1, inside = false;
      }
      if (inside && classes.is_whole()) return;
      axes[axis] = Refine(axes[axis], classes.Pulled(where));
    });
  }

  // The written buffer's cells: its indices by the classes of the axes that write them.
  void AddWrite(const Stage& stage, const std::vector<Partition>& axes) {
    const Shape& shape = compute_.BufferType(stage.write.buffer).shape;
    CellGrid grid{stage.write.view, {}};
    for (size_t d = 0; d < stage.write.index.size(); ++d) {
      const IndexExpr& index = stage.write.index[d];
      const int64_t extent = stage.write.view[static_cast<int>(d)];
      std::vector<int64_t> label(extent, -1);
      int64_t points = 1;
      for (const IndexExpr::Term& term : index.terms) points *= stage.extents[term.axis];
      std::map<std::vector<int64_t>, int64_t> number;
      for (int64_t p = 0; p < points; ++p) {
        int64_t rest = p, where = index.offset;
        std::vector<int64_t> classes;
        for (const IndexExpr::Term& term : index.terms) {
          const int64_t value = rest % stage.extents[term.axis];
          rest /= stage.extents[term.axis];
          where += term.coefficient * value;
          classes.push_back(axes[term.axis][value]);
        }
        if (where < 0 || where >= extent) continue;
        label[where] = classes.size() == 1
                           ? classes[0]
                           : number.try_emplace(std::move(classes), static_cast<int64_t>(number.size())).first->second;
      }
      grid.axes.push_back(Partition::FromLabels(label));
    }
    grid = ReshapeMap(grid, shape).grid;
    CellGrid& cells = cells_.try_emplace(Key(stage.write.buffer), CellGrid::Whole(shape)).first->second;
    cells = Refine(cells, grid);
  }

  const Compute& compute_;
  std::map<std::pair<int, int>, CellGrid> cells_;
};

std::vector<RefTensor> Tensors(std::span<const std::optional<TensorType>> types, std::span<const Known* const> inputs) {
  std::vector<RefTensor> tensors;
  for (size_t k = 0; k < types.size(); ++k) {
    tensors.push_back(inputs[k] != nullptr ? KnownReader(inputs[k]).Tensor()
                                           : RefTensor(types[k] ? *types[k] : TensorType{}));
  }
  return tensors;
}

}  // namespace

ConstantValues ValuesOf(Compute compute) {
  auto shared = std::make_shared<const Compute>(std::move(compute));
  const auto get = [shared](std::span<const Known* const> inputs, int output, std::span<const int64_t> elements,
                            std::span<ScalarValue> values) {
    double all = 0, each = 1;
    for (const Stage& stage : shared->stages) {
      all += static_cast<double>(stage.parallel_points()) * static_cast<double>(stage.reduced_points());
      each *= static_cast<double>(std::max<int64_t>(stage.reduced_points(), 1));
    }
    const double points = std::min(all, each * static_cast<double>(elements.size()));
    if (points > kMaxWork) {
      return Error(ErrorCode::kLimitExceeded, "the values of ", elements.size(), " elements take ", points, " points");
    }
    const auto evaluate = [&](PointEvaluator at) {
      for (size_t k = 0; k < elements.size(); ++k) values[k] = at.Value(output, elements[k]);
    };
    // What is read more than once is worth having at hand.
    int64_t all_inputs = 0;
    for (const TensorType& type : shared->inputs) all_inputs += type.shape.num_elements();
    if (points > static_cast<double>(all_inputs)) {
      const std::vector<std::optional<TensorType>> types(shared->inputs.begin(), shared->inputs.end());
      const std::vector<RefTensor> tensors = Tensors(types, inputs);
      std::vector<const RefTensor*> pointers;
      for (const RefTensor& tensor : tensors) pointers.push_back(&tensor);
      evaluate(PointEvaluator(*shared, std::move(pointers)));
    } else {
      std::vector<KnownReader> readers(inputs.begin(), inputs.end());
      evaluate(PointEvaluator(*shared, [&](int input, int64_t element) { return readers[input](element); }));
    }
    return OkStatus();
  };
  const auto alike = [shared](std::span<const Known* const> inputs, int output) {
    return AlikeCells(*shared, inputs).Of({BufferKind::kOutput, output});
  };
  return ConstantValues(get, alike);
}

ConstantValues ValuesOf(BlackBox box) {
  auto shared = std::make_shared<const BlackBox>(std::move(box));
  return ConstantValues([shared](std::span<const Known* const> inputs, int output, std::span<const int64_t> elements,
                                 std::span<ScalarValue> values) {
    const std::vector<RefTensor> tensors = Tensors(shared->inputs, inputs);
    std::vector<const RefTensor*> pointers;
    for (size_t k = 0; k < tensors.size(); ++k) pointers.push_back(shared->inputs[k] ? &tensors[k] : nullptr);
    std::vector<RefTensor> outputs;
    for (const TensorType& type : shared->outputs) outputs.emplace_back(type);
    shared->run(pointers, outputs);
    for (size_t k = 0; k < elements.size(); ++k) values[k] = outputs[output].Get(elements[k]);
    return OkStatus();
  });
}

}  // namespace tessera
