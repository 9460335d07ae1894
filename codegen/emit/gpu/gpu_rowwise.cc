// The rowwise emitter for GPUs: softmax, log_softmax and layer_norm in one step, each element read once.
//
//   a group of G threads has a row (G lanes of a warp, or a block), each thread every G-th vector of 16 bytes:
//     x[k] = row[(k * G + lane) * V …]                 all loads first; what lies behind the row is neutral
//     softmax:     m = max over threads of max x;   x = e^(x - m);   s = sum over threads of sum x
//                  out = epilogue(x / s)
//     layer_norm:  mean = sum x / n;   x -= mean;   variance = sum x² / n
//                  out = epilogue(x · 1/sqrt(variance + ε) · scale + bias)
//
// G is the least that leaves a thread four vectors, a warp where rows are many, and blocks of up to 1024 threads
// beyond. Threads meet by shuffles, warps by one barrier for each sum. Rows that lie across memory (softmax of NCHW
// over C) have a thread each, whose neighbours read neighbours; short ones stay in registers, others are read again.
//
// What binds: memory, 2 bytes moved for each byte of x; for few rows the latency of one load, two rounds of shuffles
// and a store. Tested by gpu_rowwise_test.cc.
#include "codegen/emit/gpu/gpu_rowwise.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "base/round.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/gpu/only_reader.h"
#include "codegen/emit/gpu/warp_join.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/row_problem.h"
#include "codegen/emit/vector_math.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "graph/op.h"
#include "llvm/IR/Intrinsics.h"

namespace tessera {
namespace {

constexpr int64_t kThreads = 128;    // of a block whose rows take no more than a warp each
constexpr int64_t kMostVectors = 8;  // of a thread
constexpr int64_t kKept = 32;        // elements of a row across memory that a thread keeps

struct GpuRows : RowProblem {
  int lanes = 1;          // elements of a vector
  int64_t group = 1;      // threads of a row
  int64_t threads = 128;  // of a block
  RowShares shares;       // with an epilogue: what is read instead of x

  int64_t vectors() const { return DivideUp(length, lanes * group); }  // of a thread
  int64_t blocks() const { return DivideUp(rows() * group, threads); }
  std::string Key() const {
    std::string key =
        internal::Join("gpu_rowwise ", RowProblem::Key(), " lanes ", lanes, " group ", group, " threads ", threads);
    if (shares.epilogue) {
      key += internal::Join(" of ", shares.splits, " shares of ", Name(shares.sum), " ", shares.epilogue->Key());
    }
    return key;
  }
};

class GpuRowEmitter {
 public:
  GpuRowEmitter(KernelBuilder& b, const GpuRows& problem, const TileEpilogue& epilogue)
      : b_(b), p_(problem), epilogue_(epilogue) {}

  void Emit() {
    IrValue thread = b_.ThreadId();
    IrValue number =
        ir().CreateAdd(ir().CreateMul(b_.BlockId(0), I32(p_.threads), "", true, true), thread, "", true, true);
    if (p_.across()) {
      b_.If("row", ir().CreateICmpULT(number, I32(p_.rows())), [&] { EmitAcross(number); });
      return;
    }
    // Groups without a row do the last one again, since all lanes meet, and store nothing.
    IrValue row = p_.group == p_.threads ? b_.BlockId(0) : ir().CreateUDiv(number, I32(p_.group));
    IrValue last = I32(p_.rows() - 1);
    if (p_.rows() * p_.group != p_.blocks() * p_.threads) {
      has_row_ = ir().CreateICmpULE(row, last);
      row = ir().CreateSelect(has_row_, row, last);
    }
    row_ = Wide(row);
    lane_ = ir().CreateAnd(thread, I32(p_.group - 1));
    b_.AssumeAligned(true);
    Load();
    p_.op == RowOp::kLayerNorm ? EmitLayerNorm() : EmitSoftmax();
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue Wide(IrValue x) { return ir().CreateZExt(x, ir().getInt64Ty()); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(x, b_.I64(by), "", true, true); }
  IrValue Splat(IrValue x) { return b_.Splat(x, p_.lanes); }
  IrValue Add(IrValue x, IrValue y) { return ir().CreateFAdd(x, y); }
  // A NaN among x makes the sum of exponentials NaN, and with it the row: the maximum need not pass it on.
  IrValue Max(IrValue x, IrValue y) { return ir().CreateSelect(ir().CreateFCmpOGT(x, y), x, y); }
  IrValue Lowest(int lanes) { return llvm::ConstantFP::getInfinity(b_.VectorType(p_.type, lanes), /*Negative=*/true); }

  // ---- A row along memory ----

  void Load() {
    for (int64_t k = 0; k < p_.vectors(); ++k) {
      IrValue at = ir().CreateMul(ir().CreateAdd(lane_, I32(k * p_.group)), I32(p_.lanes), "", true, true);
      IrValue exists = nullptr;
      if ((k + 1) * p_.group * p_.lanes > p_.length) {
        exists = ir().CreateICmpULT(at, I32(p_.length));
        at = ir().CreateSelect(exists, at, I32(p_.length - p_.lanes));
      }
      exists_.push_back(exists);
      at_.push_back(Wide(at));
    }
    IrValue start = Times(row_, p_.length);
    if (p_.shares.epilogue) return LoadShares(start);
    for (IrValue at : at_) x_.push_back(b_.Load(b_.arg(0), Plus(start, at), p_.x, p_.lanes));
  }
  void LoadShares(IrValue start) {
    std::vector<IrValues> parts;
    for (IrValue at : at_) {
      IrValues& shares = parts.emplace_back();
      for (int s = 0; s < p_.shares.splits; ++s) {
        IrValue place = Plus(Plus(start, at), b_.I64(s * p_.rows() * p_.length));
        shares.push_back(b_.Load(b_.arg(0), place, p_.shares.sum, p_.lanes));
      }
    }
    EpilogueEmitter finish(b_, *p_.shares.epilogue, 1);
    for (size_t k = 0; k < at_.size(); ++k) {
      IrValue sum = parts[k][0];
      for (size_t s = 1; s < parts[k].size(); ++s) sum = Add(sum, parts[k][s]);
      x_.push_back(finish.Apply(sum, row_, at_[k]));
    }
  }
  // Arguments between x and the op's other operands: those that make x from shares.
  int Extra() const { return p_.shares.epilogue ? p_.shares.epilogue->num_args() - 1 : 0; }

  // Joins f(k) over the vectors of all threads of the row; what lies behind it is `neutral`.
  IrValue Total(double neutral, const JoinFunction& join, const std::function<IrValue(size_t)>& f) {
    IrValue total = nullptr;
    for (size_t k = 0; k < x_.size(); ++k) {
      IrValue value = f(k);
      if (exists_[k] != nullptr) value = ir().CreateSelect(exists_[k], value, b_.Constant(p_.type, neutral, p_.lanes));
      total = total == nullptr ? value : join(total, value);
    }
    IrValue scalar = p_.lanes == 1 ? total : ir().CreateExtractElement(total, uint64_t{0});
    for (int l = 1; l < p_.lanes; ++l) {
      scalar = join(scalar, ir().CreateExtractElement(total, static_cast<uint64_t>(l)));
    }
    return JoinThreads(b_, scalar, static_cast<int>(p_.group), join);
  }
  IrValue Sum(const std::function<IrValue(size_t)>& f) {
    return Total(0, [&](IrValue x, IrValue y) { return Add(x, y); }, f);
  }

  void EmitSoftmax() {
    const auto max = [&](IrValue x, IrValue y) { return Max(x, y); };
    IrValue largest = Splat(Total(-INFINITY, max, [&](size_t k) { return x_[k]; }));
    IrValues powers;
    for (IrValue& x : x_) {
      x = ir().CreateFSub(x, largest);
      powers.push_back(EmitExpNonPositive(b_, x));
    }
    IrValue sum = Sum([&](size_t k) { return powers[k]; });
    if (p_.op == RowOp::kLogSoftmax) {
      IrValue log_sum = Splat(EmitLog(b_, sum));
      return Store([&](size_t k) { return ir().CreateFSub(x_[k], log_sum); });
    }
    IrValue factor = Splat(ir().CreateFDiv(b_.Constant(p_.type, 1), sum));
    Store([&](size_t k) { return ir().CreateFMul(powers[k], factor); });
  }

  void EmitLayerNorm() {
    IrValue share = b_.Constant(p_.type, 1.0 / static_cast<double>(p_.length));
    IrValue mean = Splat(ir().CreateFMul(Sum([&](size_t k) { return x_[k]; }), share));
    for (IrValue& x : x_) x = ir().CreateFSub(x, mean);
    IrValue variance = ir().CreateFMul(Sum([&](size_t k) { return ir().CreateFMul(x_[k], x_[k]); }), share);
    variance = Add(variance, b_.Constant(p_.type, p_.epsilon));
    IrValue deviation = ir().CreateUnaryIntrinsic(llvm::Intrinsic::sqrt, variance);
    IrValue inverse = Splat(ir().CreateFDiv(b_.Constant(p_.type, 1), deviation));
    Store([&](size_t k) {
      IrValue value = ir().CreateFMul(x_[k], inverse);
      if (p_.scale) value = ir().CreateFMul(value, b_.Load(b_.arg(1 + Extra()), at_[k], *p_.scale, p_.lanes));
      if (p_.bias) value = Add(value, b_.Load(b_.arg((p_.scale ? 2 : 1) + Extra()), at_[k], *p_.bias, p_.lanes));
      return value;
    });
  }

  void Store(const std::function<IrValue(size_t)>& result) {
    for (size_t k = 0; k < x_.size(); ++k) {
      const auto store = [&, k] {
        IrValue row = row_, column = at_[k];
        if (p_.columns != p_.length) {
          row = Plus(Times(row_, p_.length / p_.columns), ir().CreateUDiv(at_[k], b_.I64(p_.columns)));
          column = ir().CreateURem(at_[k], b_.I64(p_.columns));
        }
        EpilogueEmitter finish(b_, epilogue_, p_.num_operands() + Extra());
        finish.Store(result(k), row, column);
      };
      IrValue stores = exists_[k];
      if (has_row_ != nullptr) stores = stores == nullptr ? has_row_ : ir().CreateAnd(stores, has_row_);
      stores == nullptr ? store() : b_.If("store", stores, store);
    }
  }

  // ---- A row across memory ----

  void EmitAcross(IrValue number) {
    IrValue outer = Wide(ir().CreateUDiv(number, I32(p_.inner))), inner = ir().CreateURem(number, I32(p_.inner));
    IrValue start = Plus(Times(outer, p_.length * p_.inner), Wide(inner));
    const int64_t parts = p_.inner / p_.columns;
    IrValue first_row = Plus(Times(outer, p_.length * parts), Wide(ir().CreateUDiv(inner, I32(p_.columns))));
    IrValue column = Wide(ir().CreateURem(inner, I32(p_.columns)));
    const bool kept = p_.length <= kKept;
    IrValues values;
    for (int64_t k = 0; kept && k < p_.length; ++k) {
      values.push_back(b_.Load(b_.arg(0), Plus(start, b_.I64(k * p_.inner)), p_.x, 1));
    }
    // Runs body over the row with a carried value.
    const auto sweep = [&](const char* name, IrValue initial,
                           const std::function<IrValue(IrValue, IrValue, IrValue)>& body) {
      if (kept) {
        for (int64_t k = 0; k < p_.length; ++k) initial = body(b_.I64(k), values[static_cast<size_t>(k)], initial);
        return initial;
      }
      return b_.For(name, b_.I64(0), b_.I64(p_.length), 1, {initial}, [&](IrValue k, const IrValues& carried) {
        IrValue x = b_.Load(b_.arg(0), Plus(start, Times(k, p_.inner)), p_.x, 1);
        return IrValues{body(k, x, carried[0])};
      })[0];
    };
    const auto power = [&](IrValue x, IrValue largest) { return EmitExpNonPositive(b_, ir().CreateFSub(x, largest)); };
    IrValue largest = sweep("max", Lowest(1), [&](IrValue, IrValue x, IrValue so_far) { return Max(x, so_far); });
    IrValue sum = sweep("exp_sum", b_.Zero(p_.type, 1),
                        [&](IrValue, IrValue x, IrValue so_far) { return Add(so_far, power(x, largest)); });
    const bool logarithm = p_.op == RowOp::kLogSoftmax;
    IrValue last = logarithm ? EmitLog(b_, sum) : ir().CreateFDiv(b_.Constant(p_.type, 1), sum);
    sweep("results", last, [&](IrValue k, IrValue x, IrValue unchanged) {
      IrValue value =
          logarithm ? ir().CreateFSub(ir().CreateFSub(x, largest), last) : ir().CreateFMul(power(x, largest), last);
      EpilogueEmitter finish(b_, epilogue_, p_.num_operands());
      finish.Store(value, Plus(first_row, Times(k, parts)), column);
      return unchanged;
    });
  }

  KernelBuilder& b_;
  const GpuRows& p_;
  const TileEpilogue& epilogue_;
  IrValue row_ = nullptr, lane_ = nullptr, has_row_ = nullptr;
  // Of each of the thread's vectors: its elements, whether it lies within the row (nullptr: always), and where.
  IrValues x_, exists_, at_;
};

TileEpilogue EpilogueOf(const Graph& graph, const Node& node, const RowProblem& p) {
  if (node.epilogue) return TileEpilogue(graph, node);
  return TileEpilogue(p.x, Shape({p.outer * p.length * p.inner / p.columns, p.columns}), nullptr, {});
}

// `aligned`: buffers are used from multiples of 16 bytes on.
GpuRows Schedule(const RowProblem& rows, bool aligned, const Target& target, const RowShares& shares = {}) {
  GpuRows p = {rows};
  p.shares = shares;
  if (p.across()) return p;
  constexpr int kBytes = 16;
  p.lanes = aligned ? kBytes * 8 / TypeInfo(p.x).bits : 1;
  while (p.columns % p.lanes != 0) p.lanes /= 2;
  const int64_t vectors = DivideUp(p.length, p.lanes);
  const int64_t wanted = shares.epilogue ? 1 : 4;
  while (p.group < kWarp && p.group * wanted < vectors) p.group *= 2;
  // Many rows fill the card by warps; few are spread over more threads.
  const bool many = p.rows() >= GpuModel(target).units * 32 && vectors <= kWarp * kMostVectors;
  if (!many) {
    while (p.group < kMaxBlockThreads && p.group * wanted < vectors) p.group *= 2;
  }
  p.threads = p.group > kWarp ? p.group : kThreads;  // more than a warp meet as a block
  return p;
}

std::optional<RowProblem> ProblemOf(const Graph& graph, const Node& node, std::string* why) {
  const std::optional<RowProblem> p = RowProblemOf(graph, node, why);
  if (!p) return std::nullopt;
  if (!EpilogueOf(graph, node, *p).bytewise()) {
    *why = "results or operands smaller than a byte";
    return std::nullopt;
  }
  constexpr int64_t kMost = int64_t{1} << 30;
  if (p->rows() * kMaxBlockThreads > kMost || p->outer * p->length * p->inner > kMost) {
    *why = "too large for 32-bit indices";
    return std::nullopt;
  }
  if (!p->across() && p->length > kMaxBlockThreads * kMostVectors) {
    *why = "rows too long for the registers of a block";
    return std::nullopt;
  }
  return p;
}

}  // namespace

extern const std::string_view kGpuRowwiseDoc;
const std::string_view kGpuRowwiseDoc =
    "softmax, log_softmax and layer_norm, a row in the registers of a warp or block";

std::optional<double> EstimateGpuRowwise(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<RowProblem> rows = ProblemOf(graph, node, why);
  if (!rows) return std::nullopt;
  const GpuRows p = Schedule(*rows, true, target);
  const GpuModel gpu(target);
  const DType out = EpilogueOf(graph, node, p).dtype();
  const double elements = static_cast<double>(p.rows() * p.length);
  const double bytes = elements * (TypeInfo(p.x).bits + TypeInfo(out).bits) / 8;
  // One after the other: loads, two sums, a store; across memory, the loads of two or three passes.
  constexpr double kLoad = 0.5, kBlockSums = 0.6, kStep = 0.02;
  const double latency = p.across() ? kLoad + static_cast<double>(p.length) * kStep * (p.length <= kKept ? 1 : 3)
                                    : kLoad + (p.group > kWarp ? kBlockSums : kBlockSums / 2);
  const double waves = static_cast<double>(DivideUp(p.blocks() * p.threads, gpu.units * 1024));
  return gpu.launch_us + std::max(waves * latency, bytes / gpu.l2_bytes_per_ns / 1000 + latency);
}

namespace {

// Adds the step whose arguments are bound.
void AddRowStep(const Node& node, const RowProblem& rows, const RowShares& shares,
                const std::shared_ptr<const TileEpilogue>& epilogue, PlanStep step, PlanBuilder& builder) {
  constexpr int64_t kBytes = 16;
  const bool aligned =
      std::all_of(step.args.begin(), step.args.end(), [](const StepArg& arg) { return arg.offset % kBytes == 0; });
  auto p = std::make_shared<const GpuRows>(Schedule(rows, aligned, builder.target(), shares));
  step.launch = {.x = p->blocks(),
                 .threads = p->threads,
                 // A number from each warp for each of two sums.
                 .shared_bytes = p->group > kWarp ? 2 * std::max<int64_t>(16, p->group / kWarp * 8) : 0};
  step.label = node.name;
  const double elements = static_cast<double>(p->rows() * p->length);
  step.flops = elements * (p->op == RowOp::kLayerNorm ? 7 : 5);
  step.bytes = elements * (TypeInfo(p->x).bits + TypeInfo(epilogue->dtype()).bits) / 8;
  step.kernel.family = std::string(Name(node.op));
  step.kernel.key = p->Key() + "\n" + epilogue->Key();
  step.kernel.block_threads = static_cast<int>(p->threads);
  step.kernel.blocks_per_unit = BlocksPerUnit(p->threads);
  step.kernel.emit = [p, epilogue](KernelBuilder& b) { GpuRowEmitter(b, *p, *epilogue).Emit(); };
  builder.AddStep(std::move(step));
}

}  // namespace

Status PlanGpuRowwise(const Node& node, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::string why;
  const std::optional<RowProblem> rows = ProblemOf(graph, node, &why);
  TES_CHECK(rows.has_value(), node.name, ": ", why);
  auto epilogue = std::make_shared<const TileEpilogue>(EpilogueOf(graph, node, *rows));
  PlanStep step;
  AddRowArguments(node, rows->x, *epilogue, builder, step);
  AddRowStep(node, *rows, {}, epilogue, std::move(step), builder);
  return OkStatus();
}

const Node* RowsOfShares(const Graph& graph, const Node& product) {
  const ValueId x = product.outputs[0];
  const Node* reader = OnlyReader(graph, x);
  if (reader == nullptr || reader->inputs[0] != x) return nullptr;
  std::string why;
  const std::optional<RowProblem> rows = ProblemOf(graph, *reader, &why);
  const Shape& shape = graph[x].type.shape;
  if (!rows || rows->across() || rows->type != DType::kF32 || rows->length != shape[shape.rank() - 1]) return nullptr;
  // The step comes where the product stands: what else it reads must be there.
  for (ValueId id : Operands(*reader)) {
    if (id != x && id != ValueId::kNone && graph[id].kind == ValueKind::kComputed) return nullptr;
  }
  return reader;
}

Status PlanRowsOfShares(const Node& rows, const Node& product, const RowShares& shares, const StepArg& partial,
                        PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::string why;
  const std::optional<RowProblem> problem = ProblemOf(graph, rows, &why);
  TES_CHECK(problem.has_value(), rows.name, ": ", why);
  auto epilogue = std::make_shared<const TileEpilogue>(EpilogueOf(graph, rows, *problem));
  PlanStep step;
  step.args = {partial};
  if (product.epilogue) {
    for (ValueId id : product.epilogue->inputs) step.args.push_back(builder.Read(id));
  }
  for (size_t k = 1; k < rows.inputs.size(); ++k) {
    if (rows.inputs[k] != ValueId::kNone) step.args.push_back(builder.Read(rows.inputs[k]));
  }
  epilogue->AddArguments(rows, builder, step);
  AddRowStep(rows, *problem, shares, epilogue, std::move(step), builder);
  builder.MarkMade(rows.outputs[0]);
  return OkStatus();
}

}  // namespace tessera
