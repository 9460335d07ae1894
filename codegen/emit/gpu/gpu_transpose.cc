// The transpose emitter for GPUs: squares of 32 x 32 elements through shared memory.
//
//   out[…, c, …, o] = epilogue(in[…, o, …, c])            c: neighbours in memory there, o: neighbours here
//
//   block = one position of the other dimensions, 32 c, 32 o;  thread = (x of 32, y of 8)
//     square[r][x] = in[o + r, c + x]     r = y, y + 8, …     a warp loads 32 neighbours
//     barrier
//     out[c + r, o + x] = epilogue(square[x][r])              and stores 32
//
// Rows of the square are 33 elements apart, so that its columns lie in different banks. Where runs keep their order
// (c = o) the stages emitter copies them by 16 bytes.
//
// What binds: memory; each element is moved twice. Tested by gpu_transpose_test.cc.
#include <algorithm>
#include <memory>
#include <optional>

#include "base/round.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/gpu/warp_join.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/transpose_shape.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr int64_t kSquare = 32, kPitch = kSquare + 1, kRows = 8, kThreads = kSquare * kRows;

// Squares along dimension d.
int64_t SquaresAlong(const TransposeShape& p, int d) {
  return d == p.o() || d == p.c ? DivideUp(p.extents[d], kSquare) : p.extents[d];
}

int64_t Squares(const TransposeShape& p) {
  int64_t squares = 1;
  for (int d = 0; d <= p.o(); ++d) squares *= SquaresAlong(p, d);
  return squares;
}

class GpuTransposeEmitter {
 public:
  GpuTransposeEmitter(KernelBuilder& b, const TransposeShape& shape, const TileEpilogue& epilogue, DType stored)
      : b_(b), p_(shape), epilogue_(epilogue), stored_(stored) {
    element_ = ir().getIntNTy(static_cast<unsigned>(p_.bits));
  }

  void Emit() {
    IrValue thread = b_.ThreadId();
    IrValue x = ir().CreateAnd(thread, I32(kSquare - 1)), y = ir().CreateLShr(thread, I32(5));
    // o runs fastest, then c: blocks beside each other share lines of the cache at the squares' edges.
    IrValue rest = b_.BlockId(0), in = b_.I64(0), out = b_.I64(0), at_c = I32(0), at_o = I32(0);
    std::vector<int> order = {p_.o(), p_.c};
    for (int d = p_.o(); d >= 0; --d) {
      if (d != p_.o() && d != p_.c) order.push_back(d);
    }
    for (size_t k = 0; k < order.size(); ++k) {
      const int d = order[k];
      const bool last = k + 1 == order.size();
      IrValue at = last ? rest : ir().CreateURem(rest, I32(SquaresAlong(p_, d)));
      if (!last) rest = ir().CreateUDiv(rest, I32(SquaresAlong(p_, d)));
      if (d == p_.o() || d == p_.c) at = ir().CreateMul(at, I32(kSquare), "", true, true);
      if (d == p_.c) at_c = at;
      if (d == p_.o()) at_o = at;
      in = Plus(in, Times(at, p_.strides[d]));
      if (d != p_.o()) out = Plus(out, Times(at, p_.OutStride(d)));
    }
    IrValue square = b_.Shared(kSquare * kPitch * p_.bits / 8);
    const auto place = [&](IrValue row, IrValue column) {
      IrValue at = ir().CreateAdd(ir().CreateMul(row, I32(kPitch)), column);
      return ir().CreateInBoundsGEP(element_, square, Wide(at));
    };
    const auto each_row = [&](int64_t rows, int64_t columns, IrValue first_row, IrValue first_column,
                              const std::function<void(IrValue row)>& body) {
      IrValue column_exists = nullptr;
      if (columns % kSquare != 0) {
        column_exists = ir().CreateICmpULT(ir().CreateAdd(first_column, x), I32(columns));
      }
      for (int64_t r = 0; r < std::min(kSquare, rows); r += kRows) {
        IrValue row = ir().CreateAdd(y, I32(r), "", true, true), exists = column_exists;
        if (rows % kSquare != 0) {
          IrValue row_exists = ir().CreateICmpULT(ir().CreateAdd(first_row, row), I32(rows));
          exists = exists == nullptr ? row_exists : ir().CreateAnd(exists, row_exists);
        }
        exists == nullptr ? body(row) : b_.If("exists", exists, [&] { body(row); });
      }
    };
    const int64_t extent_o = p_.extents[p_.o()], extent_c = p_.extents[p_.c];
    each_row(extent_o, extent_c, at_o, at_c, [&](IrValue row) {
      IrValue at = Plus(Plus(in, Times(row, p_.strides[p_.o()])), Wide(x));
      IrValue address = ir().CreateInBoundsGEP(element_, b_.arg(0), at);
      ir().CreateStore(ir().CreateAlignedLoad(element_, address, Align()), place(row, x));
    });
    b_.Barrier();
    each_row(extent_c, extent_o, at_c, at_o, [&](IrValue row) {
      IrValue bits = ir().CreateLoad(element_, place(x, row));
      Store(bits, Plus(out, Times(row, p_.OutStride(p_.c))), Wide(ir().CreateAdd(at_o, x, "", true, true)));
    });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue Wide(IrValue x) { return ir().CreateZExt(x, ir().getInt64Ty()); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(Wide(x), b_.I64(by), "", true, true); }
  llvm::Align Align() const { return llvm::Align(static_cast<uint64_t>(p_.bytes)); }

  // `row`: the element of the output at which its row of columns begins.
  void Store(IrValue bits, IrValue row, IrValue column) {
    const int out = 1 + static_cast<int>(epilogue_.operands().size());
    if (epilogue_.body().empty()) {
      IrValue address = ir().CreateInBoundsGEP(element_, b_.arg(out), Plus(row, column));
      ir().CreateAlignedStore(bits, address, Align());
      return;
    }
    if (stored_ == DType::kF32 || stored_ == DType::kF64) bits = ir().CreateBitCast(bits, b_.VectorType(stored_, 1));
    EpilogueEmitter finish(b_, epilogue_, 1);
    // Without operands it does not matter which row it is.
    IrValue number = epilogue_.operands().empty() ? b_.I64(0) : ir().CreateUDiv(row, b_.I64(epilogue_.columns()));
    IrValue value = finish.Apply(b_.Widen(bits, stored_), number, column);
    b_.Store(b_.arg(out), Plus(row, column), epilogue_.dtype(), value);
  }

  KernelBuilder& b_;
  const TransposeShape& p_;
  const TileEpilogue& epilogue_;
  const DType stored_;
  llvm::Type* element_ = nullptr;
};

std::optional<TransposeShape> ProblemOf(const Graph& graph, const Node& node, std::string* why) {
  std::optional<TransposeShape> p = TransposeShapeOf(graph, node, why);
  if (!p) return p;
  if (p->c == p->o()) {
    *why = "runs keep their order";
    return std::nullopt;
  }
  if (!TileEpilogue(graph, node).bytewise()) {
    *why = "operands smaller than a byte";
    return std::nullopt;
  }
  constexpr int64_t kMost = int64_t{1} << 30;
  if (Squares(*p) > kMost || *std::max_element(p->extents.begin(), p->extents.end()) > kMost) {
    *why = "too large for 32-bit indices";
    return std::nullopt;
  }
  return p;
}

}  // namespace

extern const std::string_view kGpuTransposeDoc;
const std::string_view kGpuTransposeDoc = "transpositions by squares in shared memory";

std::optional<double> EstimateGpuTranspose(const Graph& graph, const Node& node, const Target& target,
                                           std::string* why) {
  const std::optional<TransposeShape> p = ProblemOf(graph, node, why);
  if (!p) return std::nullopt;
  const GpuModel gpu(target);
  // Squares that are cut off take as long as whole ones.
  constexpr double kSquareNs = 600, kAtOnce = 6;  // of a multiprocessor's blocks
  const double squares = static_cast<double>(Squares(*p));
  const double bytes = squares * static_cast<double>(2 * kSquare * kSquare * p->bits / 8);
  const double waves = std::max(1.0, squares / (gpu.units * kAtOnce));
  return gpu.launch_us + std::max(waves * kSquareNs, bytes / gpu.l2_bytes_per_ns) / 1000;
}

Status PlanGpuTranspose(const Node& node, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::string why;
  std::optional<TransposeShape> found = ProblemOf(graph, node, &why);
  TES_CHECK(found.has_value(), node.name, ": ", why);
  auto shape = std::make_shared<const TransposeShape>(*std::move(found));
  auto epilogue = std::make_shared<const TileEpilogue>(graph, node);
  const DType stored = graph[node.inputs[0]].type.dtype;
  PlanStep step;
  step.args.push_back(builder.Read(node.inputs[0]));
  epilogue->AddArguments(node, builder, step);
  step.launch = {.x = Squares(*shape), .threads = kThreads, .shared_bytes = kSquare * kPitch * shape->bits / 8};
  step.label = node.name;
  const int64_t elements = graph[node.outputs[0]].type.shape.num_elements();
  step.bytes = static_cast<double>(ByteSize(stored, elements) + ByteSize(epilogue->dtype(), elements));
  step.kernel.family = "transpose";
  step.kernel.key = "gpu_transpose " + shape->Key() + internal::Join(" ", Name(stored), "\n") + epilogue->Key();
  step.kernel.block_threads = static_cast<int>(kThreads);
  step.kernel.blocks_per_unit = BlocksPerUnit(kThreads);
  step.kernel.emit = [shape, epilogue, stored](KernelBuilder& b) {
    GpuTransposeEmitter(b, *shape, *epilogue, stored).Emit();
  };
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
