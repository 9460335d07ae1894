#include "codegen/emit/gpu/gpu_gemv.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "codegen/emit/gpu/gpu_matmul.h"
#include "codegen/emit/gpu/warp_join.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr int kInFlight = 8;  // pieces of B that a lane asks for before it uses the first

class GemvEmitter {
 public:
  GemvEmitter(KernelBuilder& b, const GpuGemv& gemv, const TileEpilogue& epilogue)
      : b_(b), g_(gemv), epilogue_(epilogue) {}

  void Emit() {
    IrValue thread = b_.ThreadId();
    lane_ = ir().CreateAnd(thread, I32(kWarp - 1), "lane");
    warp_ = ir().CreateUDiv(thread, I32(kWarp), "warp");
    IrValue number = ir().CreateAdd(ir().CreateMul(b_.BlockId(0), I32(GpuGemv::kWarps)), warp_);
    slice_ = ir().CreateURem(number, I32(g_.slices), "slice");
    first_ = ir().CreateMul(ir().CreateUDiv(number, I32(g_.slices)), I32(g_.warp_columns), "first");
    IrValues sums = Products();
    for (IrValue& sum : sums) {
      sum = JoinLanes(b_, sum, kWarp, [&](IrValue x, IrValue y) { return Plus(x, y); });
    }
    IrValue mine = Mine(sums);
    if (g_.slices == 1) {
      Finish(mine);
      return;
    }
    IrValue shared = b_.Shared(g_.shared_bytes());
    llvm::Type* type = b_.ElementType(g_.sum());
    const auto place = [&](IrValue warp) {
      return ir().CreateGEP(type, shared, ir().CreateAdd(ir().CreateMul(warp, I32(kWarp)), lane_));
    };
    ir().CreateAlignedStore(mine, place(warp_), llvm::Align(4));
    b_.Barrier();
    b_.If("first_slice", ir().CreateICmpEQ(slice_, I32(0)), [&] {
      IrValue total = mine;
      for (int s = 1; s < g_.slices; ++s) {
        IrValue part = ir().CreateAlignedLoad(type, place(ir().CreateAdd(warp_, I32(s))), llvm::Align(4));
        total = Plus(total, part);
      }
      Finish(total);
    });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return b_.ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue Plus(IrValue x, IrValue y) { return IsFloat(g_.a) ? ir().CreateFAdd(x, y) : ir().CreateAdd(x, y); }
  llvm::Type* Words() { return llvm::FixedVectorType::get(ir().getInt32Ty(), 4); }

  IrValues Products() {
    const int results = static_cast<int>(g_.rows) * g_.warp_columns;
    IrValues sums(static_cast<size_t>(results), b_.Zero(g_.sum(), 1));
    const int64_t pieces = g_.pieces(), stride = int64_t{kWarp} * g_.slices;
    const int unroll = std::max(1, kInFlight / g_.warp_columns);
    IrValue start = ir().CreateAdd(ir().CreateMul(slice_, I32(kWarp)), lane_);
    const int64_t whole = pieces / (stride * unroll) * (stride * unroll);
    sums = b_.For("piece", b_.I64(0), b_.I64(whole), stride * unroll, sums, [&](IrValue at, const IrValues& carried) {
      IrValue piece = ir().CreateAdd(ir().CreateTrunc(at, ir().getInt32Ty()), start);
      return Several(piece, unroll, stride, nullptr, carried);
    });
    // What is left: whole strides, then one that not all lanes have.
    const int64_t left = (pieces - whole) / stride;
    if (left > 0) sums = Several(ir().CreateAdd(start, I32(whole)), static_cast<int>(left), stride, nullptr, sums);
    const int64_t last = whole + left * stride;
    if (last < pieces) {
      IrValue piece = ir().CreateAdd(start, I32(last));
      sums = Several(piece, 1, stride, ir().CreateICmpULT(piece, I32(pieces)), sums);
    }
    return sums;
  }

  // `count` pieces, `stride` apart. All of B's are asked for first.
  IrValues Several(IrValue piece, int count, int64_t stride, IrValue there, IrValues sums) {
    if (there != nullptr) piece = ir().CreateSelect(there, piece, I32(0));
    const auto load = [&](IrValue base, IrValue line, int64_t pitch, IrValue at) {
      llvm::Type* i64 = ir().getInt64Ty();
      IrValue byte = ir().CreateMul(ir().CreateZExt(at, i64), b_.I64(16));
      if (line != nullptr) {
        const int64_t line_bytes = pitch * (TypeInfo(g_.a).bits / 8);
        byte = ir().CreateAdd(byte, ir().CreateMul(ir().CreateZExt(line, i64), b_.I64(line_bytes)));
      }
      llvm::LoadInst* loaded = ir().CreateAlignedLoad(Words(), ir().CreateGEP(ir().getInt8Ty(), base, byte),
                                                      llvm::Align(static_cast<uint64_t>(g_.align)));
      loaded->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(b_.context(), {}));
      if (there == nullptr) return static_cast<IrValue>(loaded);
      return ir().CreateSelect(there, loaded, llvm::Constant::getNullValue(Words()));
    };
    std::vector<IrValues> weights(static_cast<size_t>(count));
    for (int u = 0; u < count; ++u) {
      IrValue at = ir().CreateAdd(piece, I32(u * stride));
      for (int c = 0; c < g_.warp_columns; ++c) {
        // Columns behind the last one are the last one; nobody stores them.
        IrValue column = ir().CreateAdd(first_, I32(c));
        column = ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, column, I32(g_.columns - 1));
        weights[u].push_back(load(b_.arg(1), column, g_.pitch, at));
      }
    }
    for (int u = 0; u < count; ++u) {
      IrValue at = ir().CreateAdd(piece, I32(u * stride));
      for (int64_t r = 0; r < g_.rows; ++r) {
        IrValue x = load(b_.arg(0), r == 0 ? nullptr : I32(r), g_.depth, at);
        for (int c = 0; c < g_.warp_columns; ++c) {
          IrValue& sum = sums[static_cast<size_t>(r) * g_.warp_columns + c];
          sum = MultiplyAdd(x, weights[u][c], sum);
        }
      }
    }
    return sums;
  }

  // sum + the products of two pieces.
  IrValue MultiplyAdd(IrValue x, IrValue w, IrValue sum) {
    if (!IsFloat(g_.a)) {
      // The table has products of the unsigned operand first.
      const bool swaps = g_.a == DType::kI8 && g_.b == DType::kU8;
      const DType left = swaps ? g_.b : g_.a, right = swaps ? g_.a : g_.b;
      const auto byte = [](DType type) { return type == DType::kU8 ? ".u8" : ".s8"; };
      const std::string op = internal::Join("gpu.dot4", byte(left), byte(right));
      for (int k = 0; k < 4; ++k) {
        IrValue four_x = ir().CreateExtractElement(x, k), four_w = ir().CreateExtractElement(w, k);
        sum = DeviceOp(b_, op, swaps ? IrValues{four_w, four_x, sum} : IrValues{four_x, four_w, sum});
      }
      return sum;
    }
    const IrValues left = Floats(x, g_.a), right = Floats(w, g_.b);
    for (size_t k = 0; k < left.size(); ++k) {
      sum = ir().CreateIntrinsic(llvm::Intrinsic::fma, {sum->getType()}, {left[k], right[k], sum});
    }
    return sum;
  }

  IrValues Floats(IrValue piece, DType type) {
    const int count = g_.elements();
    llvm::Type* element = type == DType::kF32 ? ir().getFloatTy() : static_cast<llvm::Type*>(ir().getInt16Ty());
    IrValue stored = ir().CreateBitCast(piece, llvm::FixedVectorType::get(element, static_cast<unsigned>(count)));
    IrValue wide = b_.Widen(stored, type);
    IrValues result;
    for (int k = 0; k < count; ++k) result.push_back(ir().CreateExtractElement(wide, k));
    return result;
  }

  // The result that this lane stores: that of its number.
  IrValue Mine(const IrValues& sums) {
    IrValue mine = sums[0];
    for (size_t k = 1; k < sums.size(); ++k) {
      mine = ir().CreateSelect(ir().CreateICmpEQ(lane_, I32(static_cast<int64_t>(k))), sums[k], mine);
    }
    return mine;
  }

  void Finish(IrValue sum) {
    IrValue row = ir().CreateUDiv(lane_, I32(g_.warp_columns));
    IrValue column = ir().CreateAdd(first_, ir().CreateURem(lane_, I32(g_.warp_columns)));
    IrValue there = ir().CreateAnd(ir().CreateICmpULT(row, I32(g_.rows)), ir().CreateICmpULT(column, I32(g_.columns)));
    b_.If("stores", there, [&] {
      llvm::Type* i64 = ir().getInt64Ty();
      EpilogueEmitter(b_, epilogue_, 2).Store(sum, ir().CreateZExt(row, i64), ir().CreateZExt(column, i64));
    });
  }

  KernelBuilder& b_;
  const GpuGemv& g_;
  const TileEpilogue& epilogue_;
  IrValue lane_ = nullptr, warp_ = nullptr, slice_ = nullptr, first_ = nullptr;
};

// The product as one of few rows, or the reason against it. Columns and slices are still to be chosen.
std::optional<GpuGemv> GemvOf(const Graph& graph, const Node& node, std::string* why) {
  const MatmulProblem problem = MatmulProblemOf(graph, node);
  GpuGemv gemv;
  gemv.a = graph[node.inputs[0]].type.dtype;
  gemv.b = graph[node.inputs[1]].type.dtype;
  gemv.rows = problem.rows;
  gemv.columns = problem.columns;
  gemv.depth = problem.depth;
  const auto byte = [](DType type) { return type == DType::kU8 || type == DType::kI8; };
  const bool same = gemv.a == gemv.b && (gemv.a == DType::kF32 || gemv.a == DType::kF16 || gemv.a == DType::kBF16);
  constexpr int64_t kMost = int64_t{1} << 30;
  if (!same && !(byte(gemv.a) && byte(gemv.b))) {
    *why = internal::Join("expected two of f32, f16 or bf16, or bytes, found ", Name(gemv.a), " and ", Name(gemv.b));
  } else if (problem.groups() != 1 || problem.rows < 1 || problem.rows > GpuGemv::kMostRows || problem.columns < 1 ||
             problem.columns > kMost || problem.depth > kMost) {
    *why = internal::Join("expected one matrix of 1 to ", GpuGemv::kMostRows, " rows, found ", problem.groups(), " of ",
                          problem.rows);
  } else if (problem.a_transposed && problem.rows > 1) {
    *why = "A's depth does not run along its lines";
  } else if (!problem.b_constant && !problem.b_transposed) {
    *why = "B's depth does not run along its lines";
  } else if (problem.depth % gemv.elements() != 0 || problem.depth == 0) {
    *why = internal::Join("a depth of ", problem.depth, " is no multiple of 16 bytes");
  } else {
    gemv.pitch = problem.depth;
    return gemv;
  }
  return std::nullopt;
}

double GemvMicroseconds(const GpuGemv& g, const Target& target) {
  const GpuModel gpu(target);
  const double bytes = TypeInfo(g.a).bits / 8.0;
  const double warps = static_cast<double>(g.groups() * g.slices);
  const double of_unit = std::ceil(warps / GpuGemv::kWarps / gpu.units) * GpuGemv::kWarps;
  const double trips = std::ceil(static_cast<double>(g.pieces()) / (kWarp * g.slices));
  const double rows = static_cast<double>(g.rows);
  // What a multiprocessor loads, 64 bytes a cycle; what it multiplies; and the waits of one warp.
  const double loads = of_unit * trips * (g.warp_columns + rows) * 512 / 64;
  const double products = of_unit * trips * g.warp_columns * rows * g.elements() * kWarp / gpu.fma_per_clock;
  const double waits = std::ceil(trips * g.warp_columns / kInFlight) * 700;
  const double reduction = 200 + rows * g.warp_columns * 5 * 4 * of_unit / 8 + (g.slices > 1 ? 60 : 0);
  const double cycles = std::max({loads, products, waits}) + reduction;
  const double stream = static_cast<double>(g.columns * g.depth) * bytes / gpu.l2_bytes_per_ns;
  return gpu.launch_us + std::max(cycles / gpu.clock_ghz, stream) / 1e3;
}

}  // namespace

std::string GpuGemv::Way() const { return internal::Join("columns ", warp_columns, " slices ", slices); }

KernelSpec GpuGemvKernel(const GpuGemv& gemv, const TileEpilogue& epilogue) {
  KernelSpec kernel;
  kernel.family = "gemv";
  kernel.num_args = 2 + epilogue.num_args();
  kernel.block_threads = GpuGemv::kWarps * kWarp;
  kernel.key = internal::Join("gpu gemv ", Name(gemv.a), " ", Name(gemv.b), " ", gemv.rows, "x", gemv.columns, "x",
                              gemv.depth, "/", gemv.pitch, " align ", gemv.align, " ", gemv.Way(), " ", epilogue.Key());
  kernel.emit = [gemv, epilogue](KernelBuilder& b) { GemvEmitter(b, gemv, epilogue).Emit(); };
  return kernel;
}

extern const std::string_view kGpuGemvDoc;
const std::string_view kGpuGemvDoc =
    "dense products with up to 16 rows on GPUs: a warp reads whole lines of the weights";

std::vector<Way> WaysGpuGemv(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  if (node.op != Op::kMatmul) {
    *why = "no matmul";
    return {};
  }
  if (!TileEpilogue(graph, node).bytewise()) {
    *why = "elements of less than a byte";
    return {};
  }
  std::optional<GpuGemv> gemv = GemvOf(graph, node, why);
  if (!gemv) return {};
  std::vector<Way> ways;
  for (const auto& [columns, slices] :
       {std::pair{1, 1}, {1, 2}, {1, 4}, {1, 8}, {2, 1}, {2, 2}, {2, 4}, {2, 8}, {4, 2}, {4, 4}, {4, 8}}) {
    if (gemv->rows * columns > kWarp || columns >= 2 * gemv->columns) continue;
    if (slices > 1 && gemv->pieces() < kWarp * slices) continue;
    gemv->warp_columns = columns;
    gemv->slices = slices;
    ways.push_back({.name = gemv->Way(), .us = GemvMicroseconds(*gemv, target)});
  }
  std::stable_sort(ways.begin(), ways.end(), [](const Way& x, const Way& y) { return x.us < y.us; });
  constexpr size_t kMostWays = 3;
  if (ways.size() > kMostWays && !target.whole_space) ways.resize(kMostWays);
  return ways;
}

Status PlanGpuGemv(const Node& node, const std::string& way, PlanBuilder& builder) {
  std::string why;
  std::optional<GpuGemv> gemv = GemvOf(builder.graph(), node, &why);
  TES_CHECK(gemv.has_value(), why);
  TES_CHECK(std::sscanf(way.c_str(), "columns %d slices %d", &gemv->warp_columns, &gemv->slices) == 2, way);
  const MatmulProblem problem = MatmulProblemOf(builder.graph(), node);
  const TileEpilogue epilogue(builder.graph(), node);
  PlanStep step;
  step.args = {builder.Read(node.inputs[0]), DepthInnerOperand(node, problem, way, builder)};
  // In the middle of another value they may lie anywhere.
  while (step.args[0].offset % gemv->align != 0 || step.args[1].offset % gemv->align != 0) gemv->align /= 2;
  epilogue.AddArguments(node, builder, step);
  const std::vector<bool> may_alias = step.kernel.may_alias;
  step.kernel = GpuGemvKernel(*gemv, epilogue);
  step.kernel.may_alias = may_alias;
  step.launch = {.x = gemv->blocks(), .threads = GpuGemv::kWarps * kWarp, .shared_bytes = gemv->shared_bytes()};
  step.label = node.name;
  step.flops = 2.0 * static_cast<double>(gemv->rows) * static_cast<double>(gemv->columns * gemv->depth);
  step.bytes =
      static_cast<double>(ByteSize(gemv->b, gemv->columns * gemv->depth) + ByteSize(gemv->a, gemv->rows * gemv->depth) +
                          ByteSize(epilogue.dtype(), gemv->rows * gemv->columns));
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
