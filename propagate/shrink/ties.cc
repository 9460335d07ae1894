#include "propagate/shrink/ties.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "graph/op.h"

namespace tessera {

// A tensor that a stage touches.
struct Ties::Buffer {
  Shape shape;
  std::vector<int64_t> base;                                // per axis: its first atom
  const std::vector<std::vector<uint8_t>>* removable = {};  // nullptr: nothing is said against any index
  bool frozen = false;                                      // a table: what walks it stays whole

  bool MayGo(int d, int64_t i) const {
    return removable == nullptr || static_cast<size_t>(d) >= removable->size() ||
           (*removable)[static_cast<size_t>(d)].empty() || (*removable)[static_cast<size_t>(d)][static_cast<size_t>(i)];
  }
  bool says_nothing() const { return removable == nullptr || removable->empty(); }
};

// The ties that one stage makes.
class Ties::StageTies {
 public:
  StageTies(Ties& ties, const Stage& stage, bool additive) : ties_(ties), stage_(stage) {
    const size_t rank = static_cast<size_t>(stage.rank());
    dirty_.resize(rank, false);
    score_.resize(rank, std::numeric_limits<int64_t>::max());
    for (int64_t extent : stage.extents) atoms_.push_back(ties.NewAtoms(extent));
    for (const Body* body : {&stage.body, &stage.finish}) {
      for (const ScalarInst& inst : body->insts) {
        if (inst.op == ScalarOp::kIndex) dirty_[static_cast<size_t>(inst.imm_int)] = true;
      }
    }
    for (size_t a = static_cast<size_t>(stage.parallel_rank); a < rank && !additive; ++a) dirty_[a] = true;
  }

  void Add(const Access& access, const Buffer& buffer) {
    Seen seen = {&access, &buffer, {}, {}};
    for (const IndexExpr& expr : access.index) {
      const bool clean = expr.read < 0 && expr.terms.size() == 1 && expr.terms[0].coefficient == 1 && !buffer.frozen;
      seen.axis_of.push_back(clean ? expr.terms[0].axis : -1);
      if (clean) continue;
      for (const IndexExpr::Term& term : expr.terms) dirty_[static_cast<size_t>(term.axis)] = true;
    }
    if (buffer.shape.num_elements() > 0 && !buffer.frozen) seen.groups = ViewGroups(buffer.shape, access.view);
    seen_.push_back(std::move(seen));
  }

  void Tie() {
    for (const Seen& seen : seen_) {
      for (const ViewGroup& group : seen.groups) Score(seen, group);
    }
    // Each choice of a coordinate freezes the others, which may forbid an earlier choice elsewhere.
    for (bool changed = true; changed;) {
      const std::vector<bool> before = dirty_;
      for (const Seen& seen : seen_) {
        for (const ViewGroup& group : seen.groups) Choose(seen, group);
      }
      changed = dirty_ != before;
    }
    for (const Seen& seen : seen_) {
      for (const ViewGroup& group : seen.groups) Join(seen, group);
    }
    for (size_t a = 0; a < dirty_.size(); ++a) {
      if (dirty_[a]) ties_.FreezeAxis(atoms_[a], stage_.extents[a]);
    }
  }

 private:
  struct Seen {
    const Access* access;
    const Buffer* buffer;
    std::vector<int> axis_of;  // by view dimension: the stage axis that indexes it alone, or -1
    std::vector<ViewGroup> groups;
  };

  // Of the dimensions `dims` of `shape`, a group of a view: how many elements of the group each step along dims[n]
  // spans.
  static int64_t Inner(const Shape& shape, const std::vector<int>& dims, size_t n) {
    int64_t inner = 1;
    for (size_t k = n + 1; k < dims.size(); ++k) inner *= shape[dims[k]];
    return inner;
  }

  // May index j of view dimension n of a split axis go?
  static bool MayGo(const Seen& seen, const ViewGroup& group, size_t n, int64_t j) {
    const int d = group.tensor_dims[0];
    const int64_t extent = seen.access->view[group.view_dims[n]];
    const int64_t inner = Inner(seen.access->view, group.view_dims, n);
    for (int64_t outer = 0; outer < seen.buffer->shape[d]; outer += extent * inner) {
      for (int64_t i = outer + j * inner; i < outer + (j + 1) * inner; ++i) {
        if (!seen.buffer->MayGo(d, i)) return false;
      }
    }
    return true;
  }

  // What a loop's axis could lose at most.
  void Score(const Seen& seen, const ViewGroup& group) {
    if (seen.buffer->says_nothing() || group.tensor_dims.size() != 1) return;
    for (size_t n = 0; n < group.view_dims.size(); ++n) {
      const int axis = seen.axis_of[static_cast<size_t>(group.view_dims[n])];
      if (axis < 0) continue;
      int64_t count = 0;
      for (int64_t j = 0; j < seen.access->view[group.view_dims[n]]; ++j) count += MayGo(seen, group, n, j);
      int64_t& score = score_[static_cast<size_t>(axis)];
      score = std::min(score, count);
    }
  }

  // The view dimension of a split axis along which its indices are tied; -1: none.
  int Carrier(const Seen& seen, const ViewGroup& group) const {
    int best = -1;
    int64_t best_score = -1;
    for (size_t n = 0; n < group.view_dims.size(); ++n) {
      const int axis = seen.axis_of[static_cast<size_t>(group.view_dims[n])];
      if (axis < 0 || dirty_[static_cast<size_t>(axis)] || score_[static_cast<size_t>(axis)] <= best_score) continue;
      best = static_cast<int>(n);
      best_score = score_[static_cast<size_t>(axis)];
    }
    return best;
  }

  void Choose(const Seen& seen, const ViewGroup& group) {
    const bool plain = group.view_dims.size() == 1;
    const int carrier = plain ? 0 : (group.tensor_dims.size() == 1 ? Carrier(seen, group) : -1);
    for (size_t n = 0; n < group.view_dims.size(); ++n) {
      const int axis = seen.axis_of[static_cast<size_t>(group.view_dims[n])];
      if (axis >= 0 && static_cast<int>(n) != carrier) dirty_[static_cast<size_t>(axis)] = true;
    }
  }

  // Of several axes of a tensor that a view sees as one, the one whose indices are tied: that which may lose most.
  static size_t MergeCarrier(const Seen& seen, const ViewGroup& group) {
    size_t best = 0;
    int64_t best_count = -1;
    for (size_t n = 0; n < group.tensor_dims.size(); ++n) {
      const int d = group.tensor_dims[n];
      int64_t count = 0;
      for (int64_t i = 0; i < seen.buffer->shape[d]; ++i) count += seen.buffer->MayGo(d, i);
      if (count <= best_count) continue;
      best = n;
      best_count = count;
    }
    return best;
  }

  void FreezeDims(const Seen& seen, const ViewGroup& group, int except = -1) {
    for (size_t n = 0; n < group.tensor_dims.size(); ++n) {
      const size_t d = static_cast<size_t>(group.tensor_dims[n]);
      if (static_cast<int>(n) != except)
        ties_.FreezeAxis(seen.buffer->base[d], seen.buffer->shape[static_cast<int>(d)]);
    }
  }

  void Join(const Seen& seen, const ViewGroup& group) {
    const bool split = group.view_dims.size() > 1, merge = group.tensor_dims.size() > 1;
    const int carrier = split ? (merge ? -1 : Carrier(seen, group)) : 0;
    const int axis =
        carrier < 0 ? -1 : seen.axis_of[static_cast<size_t>(group.view_dims[static_cast<size_t>(carrier)])];
    if (axis < 0) return FreezeDims(seen, group);
    const int view_dim = group.view_dims[static_cast<size_t>(carrier)];
    const int64_t offset = seen.access->index[static_cast<size_t>(view_dim)].offset;
    const int64_t extent = seen.access->view[view_dim];
    const size_t part = merge ? MergeCarrier(seen, group) : 0;
    if (merge) FreezeDims(seen, group, static_cast<int>(part));
    const int d = group.tensor_dims[part];
    const int64_t base = seen.buffer->base[static_cast<size_t>(d)], of_dim = seen.buffer->shape[d];
    const int64_t inner = merge ? Inner(seen.buffer->shape, group.tensor_dims, part)
                                : Inner(seen.access->view, group.view_dims, static_cast<size_t>(carrier));
    for (int64_t x = 0; x < stage_.extents[static_cast<size_t>(axis)]; ++x) {
      const int64_t j = x + offset;
      if (j < 0 || j >= extent) continue;  // padding
      const int64_t step = atoms_[static_cast<size_t>(axis)] + x;
      if (merge) {
        ties_.Union(step, base + j / inner % of_dim);
        continue;
      }
      for (int64_t outer = 0; outer < of_dim; outer += extent * inner) {
        for (int64_t i = outer + j * inner; i < outer + (j + 1) * inner; ++i) ties_.Union(step, base + i);
      }
    }
  }

  Ties& ties_;
  const Stage& stage_;
  std::vector<int64_t> atoms_;  // per stage axis
  std::vector<bool> dirty_;     // per stage axis: stays whole
  std::vector<int64_t> score_;  // per stage axis
  std::vector<Seen> seen_;
};

bool SumsPlainly(const Compute& of_op) {
  return of_op.stages.size() == 1 && of_op.stages[0].combiner == Combiner::kAdd && of_op.stages[0].finish.empty();
}

Ties::Ties(const Graph& graph, const Removable& removable) : removable_(removable) {
  for (const Value& value : graph.values) {
    shapes_.push_back(value.type.shape);
    base_.emplace_back();
    for (int64_t extent : value.type.shape) base_.back().push_back(NewAtoms(extent));
  }
}

int64_t Ties::NewAtoms(int64_t count) {
  const int64_t first = static_cast<int64_t>(parent_.size());
  parent_.resize(static_cast<size_t>(first + count));
  std::iota(parent_.begin() + first, parent_.end(), first);
  frozen_.resize(parent_.size(), 0);
  return first;
}

int64_t Ties::Find(int64_t atom) {
  while (parent_[static_cast<size_t>(atom)] != atom) {
    int64_t& up = parent_[static_cast<size_t>(atom)];
    up = parent_[static_cast<size_t>(up)];
    atom = up;
  }
  return atom;
}

void Ties::Union(int64_t a, int64_t b) {
  a = Find(a), b = Find(b);
  if (a == b) return;
  if (a > b) std::swap(a, b);
  parent_[static_cast<size_t>(b)] = a;
  frozen_[static_cast<size_t>(a)] |= frozen_[static_cast<size_t>(b)];
}

void Ties::FreezeAxis(int64_t base, int64_t extent) {
  for (int64_t i = 0; i < extent; ++i) Freeze(base + i);
}

void Ties::FreezeValue(ValueId id) {
  const size_t v = static_cast<size_t>(Index(id));
  for (size_t d = 0; d < base_[v].size(); ++d) FreezeAxis(base_[v][d], shapes_[v][static_cast<int>(d)]);
}

void Ties::FreezeNode(const Node& node) {
  for (ValueId id : Operands(node)) {
    if (id != ValueId::kNone) FreezeValue(id);
  }
  for (ValueId id : node.outputs) FreezeValue(id);
}

void Ties::AddNode(const Graph& graph, const Node& node) {
  const bool additive = SumsPlainly(GetOp(node.op).compute(MakeContext(graph, node)));
  const Compute compute = NodeCompute(graph, node);
  const std::vector<ValueId> operands = Operands(node);
  const auto of_value = [&](ValueId id) {
    const size_t v = static_cast<size_t>(Index(id));
    return Buffer{shapes_[v], base_[v], &removable_[v], false};
  };
  std::vector<Buffer> inputs, outputs, temps;
  for (ValueId id : operands) inputs.push_back(id == ValueId::kNone ? Buffer{.frozen = true} : of_value(id));
  for (ValueId id : node.outputs) outputs.push_back(of_value(id));
  for (const TensorType& type : compute.temps) {
    Buffer temp = {.shape = type.shape};
    for (int64_t extent : type.shape) temp.base.push_back(NewAtoms(extent));
    temps.push_back(std::move(temp));
  }
  const Buffer table = {.frozen = true};
  const auto buffer_of = [&](BufferRef ref) -> const Buffer& {
    const size_t k = static_cast<size_t>(ref.index);
    switch (ref.kind) {
      case BufferKind::kInput: return inputs[k];
      case BufferKind::kOutput: return outputs[k];
      case BufferKind::kTemp: return temps[k];
      case BufferKind::kTable: break;
    }
    return table;
  };
  for (const Stage& stage : compute.stages) {
    StageTies ties(*this, stage, additive);
    for (const Access& read : stage.reads) ties.Add(read, buffer_of(read.buffer));
    for (const Access& read : stage.finish_reads) ties.Add(read, buffer_of(read.buffer));
    ties.Add(stage.write, buffer_of(stage.write.buffer));
    ties.Tie();
  }
}

KeptAxes Ties::Solve(const Graph& graph) {
  for (ValueId id : graph.inputs) FreezeValue(id);
  for (ValueId id : graph.outputs) FreezeValue(id);
  for (size_t v = 0; v < removable_.size(); ++v) {
    for (size_t d = 0; d < removable_[v].size(); ++d) {
      for (size_t i = 0; i < removable_[v][d].size(); ++i) {
        if (!removable_[v][d][i]) Freeze(base_[v][d] + static_cast<int64_t>(i));
      }
    }
  }
  const auto stays = [&](int64_t atom) { return frozen_[static_cast<size_t>(Find(atom))] != 0; };
  // No axis loses its last index.
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t v = 0; v < base_.size(); ++v) {
      for (size_t d = 0; d < base_[v].size(); ++d) {
        const int64_t extent = shapes_[v][static_cast<int>(d)];
        bool any = extent == 0;
        for (int64_t i = 0; i < extent && !any; ++i) any = stays(base_[v][d] + i);
        if (any) continue;
        Freeze(base_[v][d]);
        changed = true;
      }
    }
  }
  KeptAxes kept;
  for (size_t v = 0; v < base_.size(); ++v) {
    kept.of.emplace_back(base_[v].size());
    for (size_t d = 0; d < base_[v].size(); ++d) {
      const int64_t extent = shapes_[v][static_cast<int>(d)];
      std::vector<int64_t> indices;
      for (int64_t i = 0; i < extent; ++i) {
        if (stays(base_[v][d] + i)) indices.push_back(i);
      }
      if (static_cast<int64_t>(indices.size()) < extent) kept.of.back()[d] = std::move(indices);
    }
  }
  return kept;
}

}  // namespace tessera
