// The emitter for GPUs of products with few rows and weights of 4 bits: f32 constants that are integers of 4 bits times
// a scale for each block along the depth, as weight-only quantisation makes them (tesa/int4.h). They are stored at 4
// bits, an eighth of what dense kernels read, and multiplied as the very numbers that they were.
//
//   warp -> columns first … first + C-1, share s of the depth
//   for group of 1024 elements of the depth, s, s + slices, …:
//     words[c] = 16 bytes of column c: this lane's 32 elements          # all asked for first
//     for j < 8: x[r] = A[r, 1024 group + 128 j + 4 lane …]             # a warp reads 512 bytes that follow each other
//       w = scale[c, block] * (element + offset[c, block]), four of them
//       sums[r, c] += x[r] · w
//   sums over the lanes by shuffles, over slices through shared memory; lane r * C + c: epilogue, store
//
// A lane's elements are those that its reads of A meet: four neighbours, eight times 128 apart (of the last group,
// which may have fewer lanes' worth, four times their number). An element u = 0 … 15 becomes a number by its bits: u <<
// 4 e below those of 2^23 is 2^23 + 16^e u, and one multiply-add takes it to u - 8.
//
// What binds: bytes where the weights come from memory, otherwise instructions: for each weight three, and one a row.
// Tested by gpu_gemv_int4_test.cc.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "codegen/emit/epilogue.h"
#include "codegen/emit/gpu/warp_join.h"
#include "codegen/emit/matmul_problem.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "codegen/plan.h"
#include "codegen/targets/device_ops.h"
#include "graph/op.h"
#include "tesa/int4.h"

namespace tessera {
namespace {

constexpr int kWarps = 8;  // of a block
constexpr int kMostRows = 16;
constexpr int kPiece = 32, kRuns = 8, kRun = 4;  // elements of a lane in a group: runs of neighbours

struct Int4Gemv {
  int64_t rows = 1, columns = 1, depth = 1;
  int64_t block = 32;
  bool offsets = false;
  int warp_columns = 1;  // C above; rows * warp_columns <= 32
  int slices = 1;        // warps that share a column's depth, a divisor of kWarps
  int align = 16;        // bytes of which A starts at a multiple

  int64_t pieces() const { return depth / kPiece; }
  int64_t blocks_of_column() const { return (depth + block - 1) / block; }
  int64_t column_groups() const { return (columns + warp_columns - 1) / warp_columns; }
  int64_t blocks() const { return (column_groups() * slices + kWarps - 1) / kWarps; }
  int64_t shared_bytes() const { return slices == 1 ? 0 : int64_t{kWarps} * kWarp * 4; }
  std::string Way() const { return internal::Join("columns ", warp_columns, " slices ", slices); }
  std::string Key() const {
    return internal::Join("gpu gemv int4 ", rows, "x", columns, "x", depth, " blocks ", block,
                          offsets ? " offsets" : "", " align ", align, " ", Way());
  }
};

class Int4Emitter {
 public:
  // Arguments: A, elements, scales, offsets or not, then the epilogue's.
  Int4Emitter(KernelBuilder& b, const Int4Gemv& gemv, const TileEpilogue& epilogue)
      : b_(b), g_(gemv), epilogue_(epilogue) {}

  void Emit() {
    IrValue thread = b_.ThreadId();
    lane_ = ir().CreateAnd(thread, I32(kWarp - 1), "lane");
    warp_ = ir().CreateUDiv(thread, I32(kWarp), "warp");
    IrValue number = ir().CreateAdd(ir().CreateMul(b_.BlockId(0), I32(kWarps)), warp_);
    slice_ = ir().CreateURem(number, I32(g_.slices), "slice");
    first_ = ir().CreateMul(ir().CreateUDiv(number, I32(g_.slices)), I32(g_.warp_columns), "first");
    for (int c = 0; c < g_.warp_columns; ++c) {
      // Columns behind the last one are the last one; nobody stores them.
      IrValue column =
          ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, ir().CreateAdd(first_, I32(c)), I32(g_.columns - 1));
      column_.push_back(ir().CreateZExt(column, ir().getInt64Ty()));
    }
    IrValues sums = Products();
    for (IrValue& sum : sums) {
      sum = JoinLanes(b_, sum, kWarp, [&](IrValue x, IrValue y) { return ir().CreateFAdd(x, y); });
    }
    IrValue mine = sums[0];
    for (size_t k = 1; k < sums.size(); ++k) {
      mine = ir().CreateSelect(ir().CreateICmpEQ(lane_, I32(static_cast<int64_t>(k))), sums[k], mine);
    }
    if (g_.slices == 1) return Finish(mine);
    IrValue shared = b_.Shared(g_.shared_bytes());
    const auto place = [&](IrValue warp) {
      return ir().CreateGEP(ir().getFloatTy(), shared, ir().CreateAdd(ir().CreateMul(warp, I32(kWarp)), lane_));
    };
    ir().CreateAlignedStore(mine, place(warp_), llvm::Align(4));
    b_.Barrier();
    b_.If("first_slice", ir().CreateICmpEQ(slice_, I32(0)), [&] {
      IrValue total = mine;
      for (int s = 1; s < g_.slices; ++s) {
        IrValue from = place(ir().CreateAdd(warp_, I32(s)));
        total = ir().CreateFAdd(total, ir().CreateAlignedLoad(ir().getFloatTy(), from, llvm::Align(4)));
      }
      Finish(total);
    });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return b_.ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue F32(double value) { return b_.Constant(DType::kF32, value); }

  IrValues Products() {
    IrValues sums(static_cast<size_t>(g_.rows) * g_.warp_columns, b_.Zero(DType::kF32, 1));
    const int64_t whole = g_.pieces() / kWarp, left = g_.pieces() % kWarp;
    // Two groups at once, as far as slices have them.
    const int64_t both = whole / (2 * g_.slices) * (2 * g_.slices);
    const auto loop = [&](const char* name, int64_t begin, int64_t end, int count) {
      const int64_t step = int64_t{count} * g_.slices;
      sums = b_.For(name, b_.I64(begin), b_.I64(end), step, sums, [&](IrValue at, const IrValues& carried) {
        IrValue group = ir().CreateAdd(ir().CreateTrunc(at, ir().getInt32Ty()), slice_);
        // Slices behind the last group do it once more, for nothing.
        IrValue there = end % step == begin % step ? nullptr : ir().CreateICmpULT(group, I32(end));
        if (there != nullptr) group = ir().CreateSelect(there, group, I32(begin));
        return Groups(group, count, kWarp, there, carried);
      });
    };
    if (both > 0) loop("groups", 0, both, 2);
    if (both < whole) loop("group", both, whole, 1);
    if (left == 0) return sums;
    IrValue there =
        ir().CreateAnd(ir().CreateICmpULT(lane_, I32(left)), ir().CreateICmpEQ(slice_, I32(whole % g_.slices)));
    return Groups(I32(whole), 1, left, there, sums);
  }

  IrValue Load(llvm::Type* type, int arg, IrValue byte, int align) {
    llvm::LoadInst* loaded = ir().CreateAlignedLoad(type, ir().CreateGEP(ir().getInt8Ty(), b_.arg(arg), byte),
                                                    llvm::Align(static_cast<uint64_t>(align)));
    loaded->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(b_.context(), {}));
    return loaded;
  }

  // `count` groups of which each has `lanes` lanes' pieces, the slices' number apart. `there`: does this lane have one?
  IrValues Groups(IrValue group, int count, int64_t lanes, IrValue there, IrValues sums) {
    llvm::Type* i64 = ir().getInt64Ty();
    llvm::Type* words = llvm::FixedVectorType::get(ir().getInt32Ty(), 4);
    IrValue lane = lanes == kWarp ? lane_ : ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, lane_, I32(lanes - 1));
    std::vector<IrValues> elements(static_cast<size_t>(count));
    const auto number = [&](int u) { return ir().CreateAdd(group, I32(int64_t{u} * g_.slices)); };
    for (int u = 0; u < count; ++u) {
      IrValue piece = ir().CreateAdd(ir().CreateMul(number(u), I32(kWarp)), lane);
      IrValue byte = ir().CreateMul(ir().CreateZExt(piece, i64), b_.I64(kPiece / 2));
      for (int c = 0; c < g_.warp_columns; ++c) {
        IrValue line = ir().CreateMul(column_[c], b_.I64(g_.depth / 2));
        elements[u].push_back(Load(words, 1, ir().CreateAdd(line, byte), 16));
      }
    }
    for (int u = 0; u < count; ++u) {
      for (int j = 0; j < kRuns; ++j) {
        IrValue depth = ir().CreateAdd(ir().CreateMul(number(u), I32(kWarp * kPiece)),
                                       ir().CreateAdd(ir().CreateMul(lane, I32(kRun)), I32(j * kRun * lanes)));
        sums = Run(ir().CreateZExt(depth, i64), j, elements[u], there, sums);
      }
    }
    return sums;
  }

  // Run `j` of a piece, which begins at `depth`.
  IrValues Run(IrValue depth, int j, const IrValues& elements, IrValue there, IrValues sums) {
    llvm::Type* floats = llvm::FixedVectorType::get(ir().getFloatTy(), kRun);
    std::vector<IrValue> x;
    for (int64_t r = 0; r < g_.rows; ++r) {
      IrValue byte = ir().CreateMul(ir().CreateAdd(depth, b_.I64(r * g_.depth)), b_.I64(4));
      IrValue four = Load(floats, 0, byte, g_.align);
      x.push_back(there == nullptr ? four : ir().CreateSelect(there, four, llvm::Constant::getNullValue(floats)));
    }
    IrValue block = ir().CreateUDiv(depth, b_.I64(g_.block));
    for (int c = 0; c < g_.warp_columns; ++c) {
      IrValue at = ir().CreateAdd(ir().CreateMul(column_[c], b_.I64(g_.blocks_of_column())), block);
      IrValue scale = b_.Load(b_.arg(2), at, DType::kF32, 1);
      IrValue offset = g_.offsets ? b_.Load(b_.arg(3), at, DType::kF32, 1) : nullptr;
      IrValue word = ir().CreateExtractElement(elements[c], static_cast<uint64_t>(j / 2));
      if (j % 2 == 1) word = ir().CreateLShr(word, I32(16));
      for (int e = 0; e < kRun; ++e) {
        IrValue weight = ir().CreateFMul(Number(word, e, offset), scale);
        for (int64_t r = 0; r < g_.rows; ++r) {
          IrValue& sum = sums[static_cast<size_t>(r) * g_.warp_columns + c];
          IrValue left = ir().CreateExtractElement(x[r], static_cast<uint64_t>(e));
          sum = ir().CreateIntrinsic(llvm::Intrinsic::fma, {sum->getType()}, {left, weight, sum});
        }
      }
    }
    return sums;
  }

  // Element `e` of the word's lower half as the integer that it is.
  IrValue Number(IrValue word, int e, IrValue offset) {
    constexpr uint32_t kTwoTo23 = 0x4b000000;
    IrValue bits = ir().CreateOr(ir().CreateAnd(word, I32(int64_t{15} << 4 * e)), I32(kTwoTo23));
    IrValue shift = F32(-std::ldexp(1.0, 23 - 4 * e) - 8);
    if (offset != nullptr) shift = ir().CreateFAdd(shift, offset);
    return ir().CreateIntrinsic(llvm::Intrinsic::fma, {ir().getFloatTy()},
                                {ir().CreateBitCast(bits, ir().getFloatTy()), F32(std::ldexp(1.0, -4 * e)), shift});
  }

  void Finish(IrValue sum) {
    IrValue row = ir().CreateUDiv(lane_, I32(g_.warp_columns));
    IrValue column = ir().CreateAdd(first_, ir().CreateURem(lane_, I32(g_.warp_columns)));
    IrValue there = ir().CreateAnd(ir().CreateICmpULT(row, I32(g_.rows)), ir().CreateICmpULT(column, I32(g_.columns)));
    b_.If("stores", there, [&] {
      llvm::Type* i64 = ir().getInt64Ty();
      EpilogueEmitter(b_, epilogue_, g_.offsets ? 4 : 3)
          .Store(sum, ir().CreateZExt(row, i64), ir().CreateZExt(column, i64));
    });
  }

  KernelBuilder& b_;
  const Int4Gemv& g_;
  const TileEpilogue& epilogue_;
  IrValue lane_ = nullptr, warp_ = nullptr, slice_ = nullptr, first_ = nullptr;
  IrValues column_;  // i64
};

struct Problem {
  Int4Gemv gemv;
  Int4Weights weights;  // rows are the product's columns
};

std::optional<Problem> ProblemOf(const Graph& graph, const Node& node, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  if (node.op != Op::kMatmul) return no("no matmul");
  if (!TileEpilogue(graph, node).bytewise()) return no("elements of less than a byte");
  const Value& w = graph[node.inputs[1]];
  if (graph[node.inputs[0]].type.dtype != DType::kF32 || w.type.dtype != DType::kF32) return no("expected f32");
  if (!graph.IsConstant(node.inputs[1]) || w.type.shape.rank() != 2) return no("weights are no constant matrix");
  const MatmulProblem m = MatmulProblemOf(graph, node);
  constexpr int64_t kMost = int64_t{1} << 30;
  if (m.groups() != 1 || m.rows < 1 || m.rows > kMostRows || m.columns < 1 || std::max(m.columns, m.depth) > kMost) {
    return no("expected one matrix of 1 to ", kMostRows, " rows, found ", m.groups(), " of ", m.rows);
  }
  if (m.a_transposed && m.rows > 1) return no("A's depth does not run along its lines");
  if (m.depth == 0 || m.depth % kPiece != 0) return no("a depth of ", m.depth, " is no multiple of ", kPiece);
  const std::span<const float> data = w.constant.data<float>();
  const int64_t row_step = m.b_transposed ? m.depth : 1, depth_step = m.b_transposed ? 1 : m.columns;
  std::optional<Int4Weights> found = FindInt4(m.columns, m.depth, [&](int64_t row, std::span<float> values) {
    for (int64_t k = 0; k < m.depth; ++k) {
      const int64_t at = row * row_step + k * depth_step;
      const bool kept = !w.tesa || w.tesa->kept(at);
      values[static_cast<size_t>(k)] = kept ? data[static_cast<size_t>(at)] : 0.0f;
    }
  });
  if (!found) return no("weights are no integers of 4 bits times scales");
  if (found->block % kRun != 0) return no("blocks of ", found->block);
  Problem p;
  p.gemv.rows = m.rows;
  p.gemv.columns = m.columns;
  p.gemv.depth = m.depth;
  p.gemv.block = found->block;
  p.gemv.offsets = found->offsets;
  p.weights = *std::move(found);
  return p;
}

double Microseconds(const Int4Gemv& g, const Target& target) {
  const GpuModel gpu(target);
  const double warps = static_cast<double>(g.column_groups() * g.slices);
  const double of_unit = std::ceil(warps / kWarps / gpu.units) * kWarps;
  const double groups = std::ceil(static_cast<double>(g.pieces()) / (kWarp * g.slices));
  const double rows = static_cast<double>(g.rows), columns = g.warp_columns;
  // Of a group: instructions, of which a multiprocessor starts three a cycle (measured on an H100); what comes from the
  // first-level cache, 128 bytes a cycle; and the waits of one warp, which has two groups of elements on their way.
  const double instructions = of_unit * groups * kPiece * columns * (3.5 + rows) / 3;
  const double loads = of_unit * groups * (kRuns * (4 * rows + columns * (g.offsets ? 2 : 1)) + 4 * columns);
  const double waits = groups / 2 * 900;
  const double reduction = 200 + rows * columns * 5 * 4 * of_unit / 8 + (g.slices > 1 ? 60 : 0);
  const double cycles = std::max({instructions, loads, waits}) + reduction;
  const double bytes = static_cast<double>(g.columns) *
                       (static_cast<double>(g.depth) / 2 + static_cast<double>(g.blocks_of_column()) * 4);
  return gpu.launch_us + std::max(cycles / gpu.clock_ghz, bytes / gpu.l2_bytes_per_ns) / 1e3;
}

// Elements in the order of lanes, 4 bits each, the first lowest: of a lane's piece word q has runs 2 q and 2 q + 1.
Tensor PackElements(const Int4Weights& w) {
  Tensor packed(DType::kU8, Shape({w.rows, w.depth / 2}));
  std::memset(packed.mutable_bytes().data(), 0, packed.mutable_bytes().size());
  const std::span<uint8_t> to = packed.mutable_data<uint8_t>();
  const int64_t pieces = w.depth / kPiece;
  for (int64_t row = 0; row < w.rows; ++row) {
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const int64_t group = piece / kWarp, lane = piece % kWarp;
      const int64_t lanes = std::min<int64_t>(kWarp, pieces - group * kWarp);
      for (int64_t i = 0; i < kPiece; ++i) {
        const int64_t k = group * kWarp * kPiece + i / kRun * kRun * lanes + lane * kRun + i % kRun;
        const int element = w.elements[static_cast<size_t>(row * w.depth + k)] + 8;
        const int64_t at = (row * w.depth + piece * kPiece + i) / 2;
        to[static_cast<size_t>(at)] |= static_cast<uint8_t>(element << 4 * (i % 2));
      }
    }
  }
  return packed;
}

Tensor OfBlocks(const Int4Weights& w, bool offsets) {
  Tensor values(DType::kF32, Shape({w.rows, w.blocks_per_row()}));
  const std::span<float> to = values.mutable_data<float>();
  for (size_t k = 0; k < to.size(); ++k) to[k] = offsets ? static_cast<float>(w.blocks[k].offset) : w.blocks[k].scale;
  return values;
}

}  // namespace

extern const std::string_view kGpuGemvInt4Doc;
const std::string_view kGpuGemvInt4Doc =
    "products with up to 16 rows and weights that are 4-bit integers times scales on GPUs, read at 4 bits";

std::vector<Way> WaysGpuGemvInt4(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  std::optional<Problem> problem = ProblemOf(graph, node, why);
  if (!problem) return {};
  Int4Gemv& gemv = problem->gemv;
  std::vector<Way> ways;
  for (const auto& [columns, slices] :
       {std::pair{1, 1}, {1, 2}, {1, 4}, {2, 1}, {2, 2}, {2, 4}, {4, 1}, {4, 2}, {4, 4}}) {
    if (gemv.rows * columns > kWarp || columns >= 2 * gemv.columns) continue;
    if (slices > 1 && gemv.pieces() < kWarp * slices) continue;
    gemv.warp_columns = columns;
    gemv.slices = slices;
    ways.push_back(
        {.name = gemv.Way(), .us = Microseconds(gemv, target), .why = internal::Join("blocks of ", gemv.block)});
  }
  std::stable_sort(ways.begin(), ways.end(), [](const Way& x, const Way& y) { return x.us < y.us; });
  constexpr size_t kMostWays = 3;
  if (ways.size() > kMostWays && !target.whole_space) ways.resize(kMostWays);
  return ways;
}

Status PlanGpuGemvInt4(const Node& node, const std::string& way, PlanBuilder& builder) {
  std::string why;
  const Graph& graph = builder.graph();
  const std::optional<Problem> problem = ProblemOf(graph, node, &why);
  TES_CHECK(problem.has_value(), why);
  Int4Gemv gemv = problem->gemv;
  TES_CHECK(std::sscanf(way.c_str(), "columns %d slices %d", &gemv.warp_columns, &gemv.slices) == 2, way);
  const std::string& name = graph[node.inputs[1]].name;
  const TileEpilogue epilogue(graph, node);
  PlanStep step;
  step.args = {builder.Read(node.inputs[0]),
               {.buffer = builder.ConstantOnce(name + ".int4 lanes", [&] { return PackElements(problem->weights); })},
               {.buffer = builder.ConstantOnce(name + ".scales", [&] { return OfBlocks(problem->weights, false); })}};
  if (gemv.offsets) {
    step.args.push_back(
        {.buffer = builder.ConstantOnce(name + ".offsets", [&] { return OfBlocks(problem->weights, true); })});
  }
  // In the middle of another value it may lie anywhere.
  while (step.args[0].offset % gemv.align != 0) gemv.align /= 2;
  epilogue.AddArguments(node, builder, step);
  const std::vector<bool> may_alias = step.kernel.may_alias;
  KernelSpec kernel;
  kernel.family = "gemv_int4";
  kernel.num_args = (gemv.offsets ? 4 : 3) + epilogue.num_args();
  kernel.block_threads = kWarps * kWarp;
  kernel.key = gemv.Key() + " " + epilogue.Key();
  kernel.emit = [gemv, epilogue](KernelBuilder& b) { Int4Emitter(b, gemv, epilogue).Emit(); };
  step.kernel = std::move(kernel);
  step.kernel.may_alias = may_alias;
  step.launch = {.x = gemv.blocks(), .threads = kWarps * kWarp, .shared_bytes = gemv.shared_bytes()};
  step.label = node.name;
  step.flops = 2.0 * static_cast<double>(gemv.rows) * static_cast<double>(gemv.columns * gemv.depth);
  step.bytes = static_cast<double>(gemv.columns * (gemv.depth / 2 + gemv.blocks_of_column() * (gemv.offsets ? 8 : 4)) +
                                   ByteSize(DType::kF32, gemv.rows * gemv.depth) +
                                   ByteSize(epilogue.dtype(), gemv.rows * gemv.columns));
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
