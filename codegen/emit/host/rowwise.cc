// The rowwise emitter: softmax, log_softmax and layer_norm as one step, while a row stays in registers or the first
// cache.
//
//   for row:                                               softmax          log_softmax      layer_norm
//     pass 1 over the row: a = join of f(x)                max x            max x            sum x / n = mean
//     pass 2: y = g(x, a), c = sum of h(y)                 sum e^(x - max)  sum e^(x - max)  1 / sqrt(sum (x - mean)² /
//     n + ε) pass 3: out = epilogue(result(x or y, a, c))         y / c            (x - a) - log c  (x - a) c · scale +
//     bias
//
// A row lies along the vectors when its elements are consecutive; several sums side by side hide the latency of one. Up
// to a third of the registers a row is loaded once and kept there; a longer one is read again, softmax's exponentials
// from a thread's scratch. When the axis is not the last (softmax of NCHW over C), the vectors lie across rows: each
// lane is one row, and nothing is joined between lanes.
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>

#include "codegen/cost_model.h"
#include "codegen/emit/body_emitter.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/row_problem.h"
#include "codegen/emit/vector_math.h"
#include "codegen/emitter.h"
#include "graph/op.h"
#include "llvm/IR/Intrinsics.h"

namespace tessera {
namespace {

// How rows are laid on the machine.
struct RowSchedule : RowProblem {
  int lanes = 1;
  int64_t units_per_task = 1;

  // Blocks of vectors in which the rows of one outer position are done, when vectors lie across rows.
  int64_t blocks() const { return (columns + lanes - 1) / lanes; }
  // What a task is made of: a row, or a vector of rows.
  int64_t units() const { return across() ? outer * (inner / columns) * blocks() : outer; }
  int64_t tasks() const { return (units() + units_per_task - 1) / units_per_task; }
  int64_t vectors() const { return (length + lanes - 1) / lanes; }
  // Is a row kept in registers between the passes?
  bool kept(const Target& target) const {
    return !across() && columns == length && vectors() <= target.vector_registers / 3;
  }
  int64_t scratch_bytes(const Target& target) const {
    if (op != RowOp::kSoftmax || kept(target)) return 0;
    return length * (across() ? lanes : 1) * TypeInfo(type).bits / 8;
  }
  std::string Key() const {
    return internal::Join("rowwise ", RowProblem::Key(), " lanes ", lanes, " units ", units_per_task);
  }
};

// Writes the kernel. Arguments: x, scale and bias where there are, the epilogue's operands, the output.
class RowEmitter {
 public:
  RowEmitter(KernelBuilder& b, const RowSchedule& problem, const TileEpilogue& epilogue)
      : b_(b), p_(problem), epilogue_(epilogue), kept_(problem.kept(b.target())) {
    first_arg_ = 1 + (p_.scale ? 1 : 0) + (p_.bias ? 1 : 0);
  }

  void Emit() {
    IrValue low = Multiple(b_.begin(), p_.units_per_task), high = Multiple(b_.end(), p_.units_per_task);
    high = ir().CreateSelect(ir().CreateICmpSLT(high, b_.I64(p_.units())), high, b_.I64(p_.units()));
    b_.For(p_.across() ? "block" : "row", low, high, 1,
           [&](IrValue unit) { p_.across() ? EmitAcross(unit) : EmitRow(unit); });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Multiple(IrValue x, int64_t by) { return ir().CreateMul(x, b_.I64(by), "", true, true); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue Splat(IrValue x) { return b_.Splat(x, p_.lanes); }
  IrValue Lowest(int lanes) { return llvm::ConstantFP::getInfinity(b_.VectorType(p_.type, lanes), /*Negative=*/true); }

  // A NaN among x makes the sum of exponentials NaN, and with it the row: the maximum need not pass it on.
  IrValue Max(IrValue x, IrValue y) { return ir().CreateSelect(ir().CreateFCmpOGT(x, y), x, y); }

  // ---- Vectors along the row ----

  // One vector of a row: its first element, its lanes (nullptr: all), and its number when it is kept.
  struct Span {
    IrValue at = nullptr;
    IrValue mask = nullptr;
    int number = -1;
  };

  // Runs body over `length` elements with `sums` of the carried value side by side, each starting as `initial`; joins
  // them by `join`. Straight code when the row is kept.
  IrValue Sweep(const char* name, IrValue initial, const std::function<IrValue(const Span&, IrValue)>& body,
                const std::function<IrValue(IrValue, IrValue)>& join) {
    constexpr int kSums = 4;  // an addition takes 3 or 4 cycles, and one or two start in each
    const int64_t lanes = p_.lanes, whole = p_.length / lanes;
    IrValues sums(std::clamp<int64_t>(p_.vectors(), 1, kSums), initial);
    const int64_t count = static_cast<int64_t>(sums.size());
    const int64_t looped = kept_ ? 0 : whole / count * count;
    if (looped > 0) {
      sums = b_.For(name, b_.I64(0), b_.I64(looped * lanes), count * lanes, sums,
                    [&](IrValue at, const IrValues& carried) {
                      IrValues next;
                      for (int64_t k = 0; k < count; ++k)
                        next.push_back(body({Plus(at, b_.I64(k * lanes))}, carried[k]));
                      return next;
                    });
    }
    for (int64_t k = looped; k < p_.vectors(); ++k) {
      Span span = {b_.I64(k * lanes), nullptr, kept_ ? static_cast<int>(k) : -1};
      if (k >= whole) span.mask = b_.MaskBelow(b_.I64(p_.length - whole * lanes), p_.lanes);
      sums[k % count] = body(span, sums[k % count]);
    }
    for (int64_t half = count; half > 1;) {
      const int64_t rest = half / 2;
      for (int64_t k = 0; k < rest; ++k) sums[k] = join(sums[k], sums[half - 1 - k]);
      half -= rest;
    }
    return sums[0];
  }

  // `initial` is a value that changes no sum; lanes outside the row have it.
  IrValue Total(const char* name, IrValue initial, Combiner combiner, const std::function<IrValue(const Span&)>& body) {
    const auto join = [&](IrValue x, IrValue y) {
      return combiner == Combiner::kMax ? Max(x, y) : ir().CreateFAdd(x, y);
    };
    IrValue total = Sweep(
        name, initial,
        [&](const Span& span, IrValue sum) {
          IrValue value = body(span);
          if (span.mask != nullptr) value = ir().CreateSelect(span.mask, value, initial);
          return join(sum, value);
        },
        join);
    for (int lanes = p_.lanes; lanes > 1; lanes /= 2) {
      std::vector<int> low, high;
      for (int l = 0; l < lanes / 2; ++l) {
        low.push_back(l);
        high.push_back(l + lanes / 2);
      }
      total = join(ir().CreateShuffleVector(total, low), ir().CreateShuffleVector(total, high));
    }
    return p_.lanes == 1 ? total : ir().CreateExtractElement(total, uint64_t{0});
  }

  // The vector of x, or what an earlier pass kept in its stead.
  IrValue X(const Span& span) {
    if (span.number >= 0 && kept_values_[span.number] != nullptr) return kept_values_[span.number];
    IrValue value = b_.Load(b_.arg(0), Plus(row_start_, span.at), p_.x, p_.lanes, span.mask);
    Keep(span, value);
    return value;
  }
  void Keep(const Span& span, IrValue value) {
    if (span.number >= 0) kept_values_[span.number] = value;
  }

  void EmitRow(IrValue row) {
    row_start_ = Multiple(row, p_.length);
    kept_values_.assign(kept_ ? p_.vectors() : 0, nullptr);
    if (p_.op == RowOp::kLayerNorm) {
      EmitLayerNorm(row);
    } else {
      EmitSoftmax(row);
    }
  }

  void EmitSoftmax(IrValue row) {
    const bool keep_exponentials = p_.op == RowOp::kSoftmax;
    IrValue max = Splat(Total("max", Lowest(p_.lanes), Combiner::kMax, [&](const Span& span) { return X(span); }));
    IrValue sum = Total("exp_sum", b_.Zero(p_.type, p_.lanes), Combiner::kAdd, [&](const Span& span) {
      IrValue power = EmitExpNonPositive(b_, ir().CreateFSub(X(span), max));
      if (keep_exponentials) {
        Keep(span, power);
        if (!kept_) b_.Store(b_.scratch(), span.at, p_.type, power, span.mask);
      }
      return power;
    });
    if (keep_exponentials) {
      IrValue factor = Splat(ir().CreateFDiv(b_.Constant(p_.type, 1), sum));
      EmitResults(row, [&](const Span& span) {
        IrValue power = kept_ ? X(span) : b_.Load(b_.scratch(), span.at, p_.type, p_.lanes, span.mask);
        return ir().CreateFMul(power, factor);
      });
    } else {
      IrValue log_sum = Splat(EmitLog(b_, sum));
      EmitResults(row, [&](const Span& span) { return ir().CreateFSub(ir().CreateFSub(X(span), max), log_sum); });
    }
  }

  void EmitLayerNorm(IrValue row) {
    IrValue zero = b_.Zero(p_.type, p_.lanes);
    IrValue share = b_.Constant(p_.type, 1.0 / static_cast<double>(p_.length));
    IrValue mean = Total("sum", zero, Combiner::kAdd, [&](const Span& span) { return X(span); });
    mean = Splat(ir().CreateFMul(mean, share));
    IrValue variance = Total("squares", zero, Combiner::kAdd, [&](const Span& span) {
      IrValue deviation = ir().CreateFSub(X(span), mean);
      Keep(span, deviation);
      return ir().CreateFMul(deviation, deviation);
    });
    variance = ir().CreateFAdd(ir().CreateFMul(variance, share), b_.Constant(p_.type, p_.epsilon));
    IrValue deviation = ir().CreateUnaryIntrinsic(llvm::Intrinsic::sqrt, variance);
    IrValue inverse = Splat(ir().CreateFDiv(b_.Constant(p_.type, 1), deviation));
    EmitResults(row, [&](const Span& span) {
      IrValue value = kept_ ? X(span) : ir().CreateFSub(X(span), mean);
      value = ir().CreateFMul(value, inverse);
      if (p_.scale) value = ir().CreateFMul(value, b_.Load(b_.arg(1), span.at, *p_.scale, p_.lanes, span.mask));
      if (p_.bias)
        value = ir().CreateFAdd(value, b_.Load(b_.arg(p_.scale ? 2 : 1), span.at, *p_.bias, p_.lanes, span.mask));
      return value;
    });
  }

  // Stores result(span) over the row, which is length / columns rows of the output as the epilogue sees it.
  void EmitResults(IrValue row, const std::function<IrValue(const Span&)>& result) {
    const int64_t rows = p_.length / p_.columns, lanes = p_.lanes;
    if (kept_) {
      EpilogueEmitter finish(b_, epilogue_, first_arg_);
      Sweep(
          "results", b_.I64(0),
          [&](const Span& span, IrValue unused) {
            finish.Store(result(span), row, span.at, span.mask);
            return unused;
          },
          [](IrValue x, IrValue) { return x; });
      return;
    }
    const auto part = [&](IrValue part_row, IrValue part_start) {
      const int64_t whole = p_.columns / lanes * lanes;
      const auto span_at = [&](IrValue column, IrValue mask) {
        EpilogueEmitter finish(b_, epilogue_, first_arg_);
        finish.Store(result({part_start == nullptr ? column : Plus(part_start, column), mask}), part_row, column, mask);
      };
      b_.For("results", b_.I64(0), b_.I64(whole), lanes, [&](IrValue column) { span_at(column, nullptr); });
      if (whole < p_.columns) span_at(b_.I64(whole), b_.MaskBelow(b_.I64(p_.columns - whole), p_.lanes));
    };
    if (rows == 1) return part(row, nullptr);
    b_.For("part", b_.I64(0), b_.I64(rows), 1,
           [&](IrValue k) { part(Plus(Multiple(row, rows), k), Multiple(k, p_.columns)); });
  }

  // ---- Vectors across rows ----

  // unit = (outer, position of the epilogue's row within inner, block of its columns).
  void EmitAcross(IrValue unit) {
    const int64_t blocks = p_.blocks(), parts = p_.inner / p_.columns, last = p_.columns - (blocks - 1) * p_.lanes;
    IrValue block = ir().CreateURem(unit, b_.I64(blocks)), rest = ir().CreateUDiv(unit, b_.I64(blocks));
    IrValue part = ir().CreateURem(rest, b_.I64(parts)), outer = ir().CreateUDiv(rest, b_.I64(parts));
    IrValue column = Multiple(block, p_.lanes);
    IrValue start = Plus(Plus(Multiple(outer, p_.length * p_.inner), Multiple(part, p_.columns)), column);
    IrValue first_row = Plus(Multiple(outer, p_.length * parts), part);
    const auto body = [&](IrValue mask) {
      EmitLanes(start, first_row, parts, column, mask);
      return IrValues();
    };
    if (last == p_.lanes) {
      body(nullptr);
    } else if (blocks == 1) {
      body(b_.MaskBelow(b_.I64(last), p_.lanes));
    } else {
      b_.IfElse(
          "last_block", ir().CreateICmpEQ(block, b_.I64(blocks - 1)),
          [&] { return body(b_.MaskBelow(b_.I64(last), p_.lanes)); }, [&] { return body(nullptr); });
    }
  }

  // softmax or log_softmax of the rows whose first elements are the vector at `start`.
  void EmitLanes(IrValue start, IrValue first_row, int64_t row_step, IrValue column, IrValue mask) {
    const auto load = [&](IrValue k) {
      return b_.Load(b_.arg(0), Plus(start, Multiple(k, p_.inner)), p_.x, p_.lanes, mask);
    };
    const auto loop = [&](const char* name, IrValues initial,
                          const std::function<IrValues(IrValue, const IrValues&)>& body) {
      return b_.For(name, b_.I64(0), b_.I64(p_.length), 1, std::move(initial), body);
    };
    IrValue max = loop("max", {Lowest(p_.lanes)},
                       [&](IrValue k, const IrValues& so_far) { return IrValues{Max(load(k), so_far[0])}; })[0];
    const bool keep_exponentials = p_.op == RowOp::kSoftmax;
    IrValue sum = loop("exp_sum", {b_.Zero(p_.type, p_.lanes)}, [&](IrValue k, const IrValues& so_far) {
      IrValue power = EmitExpNonPositive(b_, ir().CreateFSub(load(k), max));
      if (keep_exponentials) b_.Store(b_.scratch(), Multiple(k, p_.lanes), p_.type, power);
      return IrValues{ir().CreateFAdd(so_far[0], power)};
    })[0];
    IrValue last = keep_exponentials ? ir().CreateFDiv(b_.Constant(p_.type, 1, p_.lanes), sum) : EmitLog(b_, sum);
    b_.For("results", b_.I64(0), b_.I64(p_.length), 1, [&](IrValue k) {
      IrValue value = keep_exponentials
                          ? ir().CreateFMul(b_.Load(b_.scratch(), Multiple(k, p_.lanes), p_.type, p_.lanes), last)
                          : ir().CreateFSub(ir().CreateFSub(load(k), max), last);
      EpilogueEmitter finish(b_, epilogue_, first_arg_);
      finish.Store(value, Plus(first_row, Multiple(k, row_step)), column, mask);
    });
  }

  KernelBuilder& b_;
  const RowSchedule& p_;
  const TileEpilogue& epilogue_;
  const bool kept_;
  int first_arg_ = 1;
  IrValue row_start_ = nullptr;
  IrValues kept_values_;
};

// The problem of a node; nullopt with the reason.
std::optional<RowSchedule> ProblemOf(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<RowProblem> rows = RowProblemOf(graph, node, why);
  if (!rows) return std::nullopt;
  RowSchedule problem = {*rows};
  problem.lanes = target.Lanes(TypeInfo(problem.type).bits);
  constexpr int64_t kMaxScratch = 16 << 20;
  if (problem.scratch_bytes(target) > kMaxScratch) {
    *why = "rows too long for a thread's scratch";
    return std::nullopt;
  }
  return problem;
}

double UnitMicroseconds(const RowSchedule& p, int epilogue_cost) {
  // Cycles for a vector of 512 bits (as many for a narrower one), and for what is done once a row.
  const double of_op = p.op == RowOp::kLayerNorm ? 8 : 22;
  const double once = p.across() ? 10 : 70;
  const double vectors = static_cast<double>(p.across() ? p.length : p.vectors());
  return (vectors * (of_op + epilogue_cost) + once) * MachineModel::kCycle * 1e-3;
}

}  // namespace

extern const std::string_view kRowwiseDoc;
const std::string_view kRowwiseDoc =
    "softmax, log_softmax and layer_norm in one step, a row at a time in registers or cache";

std::optional<double> EstimateRowwise(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<RowSchedule> problem = ProblemOf(graph, node, target, why);
  if (!problem) return std::nullopt;
  const int epilogue_cost = node.epilogue ? static_cast<int>(node.epilogue->body.insts.size()) : 0;
  return static_cast<double>(problem->units()) * UnitMicroseconds(*problem, epilogue_cost);
}

Status PlanRowwise(const Node& node, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::string why;
  std::optional<RowSchedule> found = ProblemOf(graph, node, builder.target(), &why);
  TES_CHECK(found.has_value(), node.name, ": ", why);
  auto problem = std::make_shared<RowSchedule>(*std::move(found));
  const TensorType& x = graph[node.inputs[0]].type;
  const int64_t rows = x.shape.num_elements() / problem->columns;
  auto epilogue = std::make_shared<const TileEpilogue>(
      node.epilogue ? TileEpilogue(graph, node)
                    : TileEpilogue(problem->x, Shape({rows, problem->columns}), nullptr, {}));
  // A task is some microseconds, so that a small node is not worth a meeting of the threads.
  constexpr double kTaskMicroseconds = 2;
  problem->units_per_task = std::clamp<int64_t>(
      static_cast<int64_t>(kTaskMicroseconds / UnitMicroseconds(*problem, epilogue->cost())), 1, problem->units());

  PlanStep step;
  AddRowArguments(node, problem->x, *epilogue, builder, step);

  step.tasks = problem->tasks();
  step.serial = TypeInfo(epilogue->dtype()).bits < 8;  // two results share a byte
  step.scratch_bytes = problem->scratch_bytes(builder.target());
  step.label = node.name;
  const double elements = static_cast<double>(x.shape.num_elements());
  step.flops = elements * (problem->op == RowOp::kLayerNorm ? 7 : 5);
  step.bytes = ByteSize(x.dtype, x.shape.num_elements()) + elements * TypeInfo(epilogue->dtype()).bits / 8;
  step.kernel.family = std::string(Name(node.op));
  step.kernel.key = problem->Key() + "\n" + epilogue->Key();
  step.kernel.emit = [problem, epilogue](KernelBuilder& b) { RowEmitter(b, *problem, *epilogue).Emit(); };
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
