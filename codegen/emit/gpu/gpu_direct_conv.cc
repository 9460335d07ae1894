// Convolutions of few channels on GPUs, directly: the weights are in the code.
//
//   a thread has a pixel of the result and all its channels, a block 128 pixels that follow each other:
//     for tap, for channel of the image, unrolled:
//       v = image[window][channel], or 0 outside               3x3, 3 -> 32: 27 loads for 864 products
//       sum[o] += v * 0.173                                    for every o: one instruction, nothing else
//     results -> shared memory (channels last)                 a pixel's channels, 8 or 16 bytes at once
//     barrier;  shared memory -> the block's stretch of the result, 16 bytes a thread
//
// As a product, such a convolution fills tiles with zeros and gathers windows by elements (3x3, 3 -> 32 of 224x224 at
// batch 32 on an H100: 217 us in f32, here 25 to 30). Results go through shared memory because pixels of few channels
// are short: written from registers, each store would touch as many lines as it has lanes (60 instead of 31 us).
// There, pixels of an even number of 16-byte pieces lie one piece further apart, so that lanes meet different banks.
//
// The image may have channels first where the result has them last: the transposition before the convolution, where
// nothing else reads it, is no step then. The emitter is both nodes'; the transposition's expected time is that of the
// whole less what the convolution takes alone.
//
// What binds: memory, or the products, which are f32 for images and weights of f32, f16 and bf16. The key of such a
// kernel holds a digest of the weights. Weights that are pruned have no instruction. Tested by gpu_direct_conv_test.cc.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "base/hash.h"
#include "base/round.h"
#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/gpu/gpu_conv.h"
#include "codegen/emit/gpu/only_reader.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr int64_t kThreads = 128, kPieceBytes = 16;
constexpr int64_t kMostSums = 64;        // registers of a thread
constexpr int64_t kMostProducts = 2304;  // 36 KiB of code, about what an instruction cache holds

struct DirectConv {
  ConvGeometry g;
  bool image_last = true, result_last = true;  // channels
  std::vector<float> weights;                  // [out][in][ky][kx]
  bool pruned = false;                         // zeros are none

  int64_t inputs() const { return g.taps() * g.in_channels; }
  int64_t products() const {
    return pruned ? std::count_if(weights.begin(), weights.end(), [](float w) { return w != 0; })
                  : static_cast<int64_t>(weights.size());
  }
  int64_t blocks() const { return DivideUp(g.pixels(), kThreads); }
  std::string Key() const {
    return internal::Join("gpu_direct_conv ", g.Key(), image_last ? " of last" : " of first",
                          result_last ? " to last " : " to first ", pruned ? "pruned " : "",
                          HashBytes(std::as_bytes(std::span(weights))).ToHex());
  }
};

// How a block's results lie in shared memory: pixel by pixel.
struct Stretch {
  Stretch(const DirectConv& p, DType type, bool aligned) {
    size = TypeInfo(type).bits / 8;
    pixel = p.g.out_channels * size;
    const int64_t all = p.g.pixels() * pixel;
    while (piece > size && (all % piece != 0 || !aligned)) piece /= 2;
    pitch = pixel % (2 * kPieceBytes) == 0 ? pixel + kPieceBytes : pixel;
    lanes = static_cast<int>(std::gcd(p.g.out_channels, std::max(int64_t{1}, kPieceBytes / size)));
  }
  int64_t bytes() const { return kThreads * pitch; }

  int64_t size = 4;             // of an element, bytes
  int64_t pixel = 0;            // of a pixel's elements
  int64_t pitch = 0;            // from one pixel to the next
  int64_t piece = kPieceBytes;  // that a thread copies to memory at once
  int lanes = 1;                // channels that are written at once
};

// Image, the epilogue's operands, result.
class DirectConvEmitter {
 public:
  DirectConvEmitter(KernelBuilder& b, const DirectConv& problem, const TileEpilogue& epilogue, bool aligned)
      : b_(b), p_(problem), g_(problem.g), epilogue_(epilogue), aligned_(aligned) {}

  void Emit() {
    b_.AssumeAligned(aligned_);
    number_ = Plus(Times(b_.BlockId(0), kThreads), b_.ThreadId());
    if (g_.pixels() % kThreads != 0) {
      exists_ = ir().CreateICmpULT(number_, I32(g_.pixels()));
      number_ = ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, number_, I32(g_.pixels() - 1));
    }
    IrValue row = ir().CreateUDiv(number_, I32(g_.x.out));
    ox_ = ir().CreateURem(number_, I32(g_.x.out));
    oy_ = ir().CreateURem(row, I32(g_.y.out));
    image_ = ir().CreateUDiv(row, I32(g_.y.out));
    EmitSums();
    p_.result_last ? EmitStretch() : EmitPlanes();
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue Wide(IrValue x) { return ir().CreateSExt(x, ir().getInt64Ty()); }
  // In 32 bits, signed: windows may begin before the image.
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", false, true); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : Plus(x, I32(y)); }
  IrValue Times(IrValue x, int64_t by) { return by == 1 ? x : ir().CreateMul(x, I32(by), "", false, true); }

  void EmitSums() {
    sums_.assign(static_cast<size_t>(g_.out_channels), nullptr);
    constexpr int64_t kMostLanes = 4;
    const int lanes = p_.image_last && aligned_ ? static_cast<int>(std::gcd(g_.in_channels, kMostLanes)) : 1;
    IrValue y0 = Plus(Times(oy_, g_.y.stride), -g_.y.pad), x0 = Plus(Times(ox_, g_.x.stride), -g_.x.pad);
    const auto exist = [&](const ConvAxis& axis, IrValue first) {
      IrValues exists(static_cast<size_t>(axis.taps), nullptr);
      for (int64_t k = 0; k < axis.taps && !axis.inside(); ++k)
        exists[static_cast<size_t>(k)] = ir().CreateICmpULT(Plus(first, k * axis.dilation), I32(axis.in));
      return exists;
    };
    const IrValues row_exists = exist(g_.y, y0), column_exists = exist(g_.x, x0);
    const int64_t plane = g_.y.in * g_.x.in;
    IrValue first = Plus(Times(Plus(Times(image_, g_.y.in * (p_.image_last ? 1 : g_.in_channels)), y0), g_.x.in), x0);
    for (int64_t c = 0; c < g_.in_channels; c += lanes) {
      for (int64_t ky = 0; ky < g_.y.taps; ++ky) {
        for (int64_t kx = 0; kx < g_.x.taps; ++kx) {
          IrValue at = Plus(first, ky * g_.y.dilation * g_.x.in + kx * g_.x.dilation);
          at = p_.image_last ? Plus(Times(at, g_.in_channels), c) : Plus(at, c * plane);
          IrValue value = Pixel(at, row_exists[static_cast<size_t>(ky)], column_exists[static_cast<size_t>(kx)], lanes);
          for (int lane = 0; lane < lanes; ++lane) {
            IrValue v = lanes == 1 ? value : ir().CreateExtractElement(value, static_cast<uint64_t>(lane));
            AddProducts(v, ((c + lane) * g_.y.taps + ky) * g_.x.taps + kx);
          }
        }
      }
    }
    for (IrValue& sum : sums_) {
      if (sum == nullptr) sum = b_.Zero(DType::kF32, 1);
    }
  }

  // `k`: channel and tap, as weights count them.
  void AddProducts(IrValue v, int64_t k) {
    for (int64_t o = 0; o < g_.out_channels; ++o) {
      const float weight = p_.weights[static_cast<size_t>(o * p_.inputs() + k)];
      if (p_.pruned && weight == 0) continue;
      IrValue& sum = sums_[static_cast<size_t>(o)];
      IrValue factor = llvm::ConstantFP::get(ir().getFloatTy(), llvm::APFloat(weight));
      sum = sum == nullptr ? ir().CreateFMul(v, factor) : b_.Fma(v, factor, sum);
    }
  }

  // What lies outside is read from a place that exists and replaced, so that loads go together.
  IrValue Pixel(IrValue at, IrValue row_exists, IrValue column_exists, int lanes) {
    IrValue exists = row_exists;
    if (column_exists != nullptr) exists = exists == nullptr ? column_exists : ir().CreateAnd(exists, column_exists);
    if (exists == nullptr) return b_.Load(b_.arg(0), Wide(at), g_.type, lanes);
    IrValue value = b_.Load(b_.arg(0), Wide(ir().CreateSelect(exists, at, I32(0))), g_.type, lanes);
    return ir().CreateSelect(exists, value, b_.Zero(DType::kF32, lanes));
  }

  // Channels last: the block's results are one stretch of memory.
  void EmitStretch() {
    const DType type = epilogue_.dtype();
    const Stretch stretch(p_, type, aligned_);
    IrValue shared = b_.Shared(stretch.bytes());
    IrValue mine = ir().CreateGEP(ir().getInt8Ty(), shared, Times(b_.ThreadId(), stretch.pitch));
    EpilogueEmitter finish(b_, epilogue_, 1);
    IrValue row = Wide(number_);
    for (int64_t o = 0; o < g_.out_channels; o += stretch.lanes) {
      IrValue value = sums_[static_cast<size_t>(o)];
      if (stretch.lanes > 1) {
        value = llvm::PoisonValue::get(b_.VectorType(DType::kF32, stretch.lanes));
        for (int lane = 0; lane < stretch.lanes; ++lane) {
          value = ir().CreateInsertElement(value, sums_[static_cast<size_t>(o + lane)], static_cast<uint64_t>(lane));
        }
      }
      value = b_.NarrowToStorage(finish.Apply(value, row, b_.I64(o)), type);
      IrValue to = ir().CreateGEP(ir().getInt8Ty(), mine, I32(o * stretch.size));
      ir().CreateAlignedStore(value, to, llvm::Align(static_cast<uint64_t>(stretch.lanes * stretch.size)));
    }
    b_.Barrier();
    Copy(stretch, shared);
  }

  void Copy(const Stretch& s, IrValue shared) {
    const int64_t pieces = kThreads * s.pixel / s.piece, of_pixel = std::max(int64_t{1}, s.pixel / s.piece);
    const llvm::Align align(static_cast<uint64_t>(s.piece));
    llvm::Type* words = ir().getIntNTy(static_cast<unsigned>(std::min<int64_t>(s.piece, 4) * 8));
    if (s.piece > 4) words = llvm::FixedVectorType::get(words, static_cast<unsigned>(s.piece / 4));
    IrValue begin = ir().CreateMul(ir().CreateZExt(b_.BlockId(0), ir().getInt64Ty()), b_.I64(kThreads * s.pixel));
    IrValue to = ir().CreateGEP(ir().getInt8Ty(), b_.arg(1 + static_cast<int>(epilogue_.operands().size())), begin);
    // Pieces of the last block that lie in the result.
    IrValue most = nullptr;
    if (exists_ != nullptr) {
      most = ir().CreateSub(b_.I64(g_.pixels() * s.pixel / s.piece), ir().CreateUDiv(begin, b_.I64(s.piece)));
    }
    for (int64_t pass = 0; pass * kThreads < pieces; ++pass) {
      IrValue number = Plus(b_.ThreadId(), pass * kThreads), exists = nullptr;
      if (most != nullptr) exists = ir().CreateICmpULT(Wide(number), most);
      if ((pass + 1) * kThreads > pieces) {
        IrValue within = ir().CreateICmpULT(number, I32(pieces));
        exists = exists == nullptr ? within : ir().CreateAnd(exists, within);
      }
      const auto copy = [&] {
        IrValue at = Times(number, s.piece);
        if (s.pitch != s.pixel) {
          at = Plus(Times(ir().CreateUDiv(number, I32(of_pixel)), s.pitch),
                    Times(ir().CreateURem(number, I32(of_pixel)), s.piece));
        }
        IrValue value = ir().CreateAlignedLoad(words, ir().CreateGEP(ir().getInt8Ty(), shared, at), align);
        ir().CreateAlignedStore(value, ir().CreateGEP(ir().getInt8Ty(), to, Wide(Times(number, s.piece))), align);
      };
      exists == nullptr ? copy() : b_.If("copy", exists, copy);
    }
  }

  // Channels first: neighbouring lanes write neighbouring pixels of each plane.
  void EmitPlanes() {
    const auto store = [&] {
      EpilogueEmitter finish(b_, epilogue_, 1);
      for (int64_t o = 0; o < g_.out_channels; ++o) {
        IrValue plane = Plus(Times(image_, g_.out_channels), o);
        finish.Store(sums_[static_cast<size_t>(o)], Wide(Plus(Times(plane, g_.y.out), oy_)), Wide(ox_));
      }
    };
    exists_ == nullptr ? store() : b_.If("store", exists_, store);
  }

  KernelBuilder& b_;
  const DirectConv& p_;
  const ConvGeometry& g_;
  const TileEpilogue& epilogue_;
  const bool aligned_;
  IrValue number_ = nullptr, exists_ = nullptr;            // of the pixel; none where all exist
  IrValue image_ = nullptr, oy_ = nullptr, ox_ = nullptr;  // i32
  IrValues sums_;
};

// The problem of a convolution; `image_first`: its image is taken with channels first although the node has them last.
std::optional<DirectConv> ProblemOf(const Graph& graph, const Node& node, bool image_first, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  if (node.op != Op::kConv) return no("no conv");
  DirectConv p;
  p.result_last = node.attrs.String("layout") == "nhwc";
  p.image_last = p.result_last && !image_first;
  const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why, p.result_last ? "nhwc" : "nchw");
  if (!g) return std::nullopt;
  p.g = *g;
  if (g->groups != 1) return no("expected one group, found ", g->groups);
  for (DType type : {g->type, g->weights_type}) {
    if (type != DType::kF32 && type != DType::kF16 && type != DType::kBF16) {
      return no("expected f32, f16 or bf16, found ", Name(type));
    }
  }
  if (g->out_channels > kMostSums) return no(g->out_channels, " channels do not fit into registers");
  // Where zeros have no products, all weights may be more.
  constexpr int64_t kMostWeights = 1 << 16;
  if (p.inputs() * g->out_channels > kMostWeights) return no("too many weights for code");
  const Value& weights = graph[node.inputs[1]];
  p.pruned = weights.tesa && !weights.tesa->keeps_all();
  const Tensor filter = p.pruned ? weights.tesa->ApplyTo(weights.constant) : weights.constant;
  for (int64_t k = 0; k < filter.num_elements(); ++k) p.weights.push_back(static_cast<float>(filter.Get(k)));
  if (p.products() > kMostProducts) return no(p.products(), " weights are too many to be written into code");
  if (node.epilogue && node.epilogue->body.uses_index()) return no("the epilogue asks where it is");
  const TileEpilogue epilogue(graph, node);
  if (!epilogue.bytewise()) return no("results or operands smaller than a byte");
  if (p.result_last && !epilogue.by_column()) return no("operands of the epilogue differ from pixel to pixel");
  constexpr int64_t kMost = int64_t{1} << 29;
  if (std::max(g->image_elements(), g->pixels() * g->out_channels) > kMost) return no("too large for 32-bit indices");
  return p;
}

double Microseconds(const DirectConv& p, const TileEpilogue& epilogue, const Target& target) {
  const GpuModel gpu(target);
  const auto products = static_cast<double>(p.products()), inputs = static_cast<double>(p.inputs());
  const auto outputs = static_cast<double>(p.g.out_channels);
  // Instructions of a thread: products, loads with their addresses, the epilogue, what takes results to memory.
  const double instructions = products + 6 * inputs + outputs * (3 + epilogue.cost()) + 60;
  const double waves = std::ceil(static_cast<double>(p.blocks()) / gpu.units);
  const double work = waves * kThreads * instructions / (gpu.lanes_per_clock * gpu.clock_ghz * 1e3);
  // Measured on an H100: 3 bytes a nanosecond from and to memory, 4.2 where the second-level cache has all of it.
  constexpr double kCacheBytes = 30e6;
  const double bytes = p.g.bytes();
  const double traffic = bytes * (bytes < kCacheBytes ? 1.3 : 2) / gpu.l2_bytes_per_ns / 1e3;
  // Code arrives as gpu_literal.cc says, once; loads go together, in about two rounds.
  constexpr double kCodeBytesPerNs = 7.7, kInstructionBytes = 16, kLatency = 1.5;
  const double code = products * kInstructionBytes / kCodeBytesPerNs / 1e3;
  return gpu.launch_us + code + std::max({work, traffic, kLatency});
}

// A transposition and the convolution that alone reads it: the convolution.
const Node* ReaderOfTransposition(const Graph& graph, const Node& node, std::string* why) {
  const auto no = [&](std::string reason) {
    *why = std::move(reason);
    return nullptr;
  };
  if (node.op != Op::kTranspose || node.epilogue) return no("neither a convolution nor only a transposition");
  const std::vector<int64_t> perm = node.attrs.Ints("perm");
  const bool to_last = perm == std::vector<int64_t>{0, 2, 3, 1} || perm == std::vector<int64_t>{0, 2, 1};
  if (!to_last) return no("channels do not become last");
  const Node* reader = OnlyReader(graph, node.outputs[0]);
  if (reader == nullptr || reader->op != Op::kConv || reader->inputs[0] != node.outputs[0]) {
    return no("no convolution is all that reads it");
  }
  if (reader->attrs.String("layout") != "nhwc") return no("the convolution has channels first");
  // The step comes where the transposition stands: what else it reads must be there.
  for (size_t k = 1; k < Operands(*reader).size(); ++k) {
    const ValueId id = Operands(*reader)[k];
    if (id != ValueId::kNone && graph[id].kind == ValueKind::kComputed) return no("the convolution has other operands");
  }
  return reader;
}

}  // namespace

extern const std::string_view kGpuDirectConvDoc;
const std::string_view kGpuDirectConvDoc =
    "convolutions of few channels with the weights in the code, a pixel a thread; with a transposition before it";

std::optional<double> EstimateGpuDirectConv(const Graph& graph, const Node& node, const Target& target,
                                            std::string* why) {
  if (node.op == Op::kConv) {
    const std::optional<DirectConv> p = ProblemOf(graph, node, false, why);
    if (!p) return std::nullopt;
    return Microseconds(*p, TileEpilogue(graph, node), target);
  }
  const Node* conv = ReaderOfTransposition(graph, node, why);
  if (conv == nullptr) return std::nullopt;
  const std::optional<DirectConv> whole = ProblemOf(graph, *conv, true, why),
                                  alone = ProblemOf(graph, *conv, false, why);
  if (!whole || !alone) return std::nullopt;
  const TileEpilogue epilogue(graph, *conv);
  double other = Microseconds(*alone, epilogue, target);
  if (const std::optional<double> product = GpuConvMicroseconds(graph, *conv, target, why)) {
    other = std::min(other, *product);
  }
  *why = "less the convolution's time";
  constexpr double kLeast = 0.01;
  return std::max(kLeast, Microseconds(*whole, epilogue, target) - other);
}

Status PlanGpuDirectConv(const Node& node, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::string why;
  const bool transposed = node.op == Op::kTranspose;
  const Node* conv = transposed ? ReaderOfTransposition(graph, node, &why) : &node;
  TES_CHECK(conv != nullptr, node.name, ": ", why);
  std::optional<DirectConv> found = ProblemOf(graph, *conv, transposed, &why);
  TES_CHECK(found.has_value(), node.name, ": ", why);
  auto p = std::make_shared<const DirectConv>(*std::move(found));
  auto epilogue = std::make_shared<const TileEpilogue>(graph, *conv);
  PlanStep step;
  step.args = {builder.Read(node.inputs[0])};
  epilogue->AddArguments(*conv, builder, step);
  const bool aligned =
      std::all_of(step.args.begin(), step.args.end(), [](const StepArg& arg) { return arg.offset % kPieceBytes == 0; });
  step.launch = {.x = p->blocks(), .threads = kThreads};
  if (p->result_last) step.launch.shared_bytes = Stretch(*p, epilogue->dtype(), aligned).bytes();
  step.label = transposed ? node.name + "+" + conv->name : node.name;
  step.flops = 2 * static_cast<double>(p->products()) * static_cast<double>(p->g.pixels());
  step.bytes = p->g.bytes();
  step.kernel.family = "direct_conv";
  step.kernel.key = p->Key() + (aligned ? " aligned\n" : "\n") + epilogue->Key();
  step.kernel.block_threads = static_cast<int>(kThreads);
  // Sums, the image's values on their way and what places them: 64 to 168 registers.
  constexpr int64_t kRegisters = 65536, kOthers = 40, kMostOnTheirWay = 64, kFewest = 3, kMost = 8;
  const int64_t registers = p->g.out_channels + std::min(p->inputs(), kMostOnTheirWay) + kOthers;
  const int64_t by_registers = std::clamp(kRegisters / (kThreads * registers), kFewest, kMost);
  const int64_t by_memory = GpuModel(builder.target()).shared_bytes / std::max<int64_t>(1, step.launch.shared_bytes);
  step.kernel.blocks_per_unit = static_cast<int>(std::clamp(by_memory, int64_t{1}, by_registers));
  step.kernel.emit = [p, epilogue, aligned](KernelBuilder& b) { DirectConvEmitter(b, *p, *epilogue, aligned).Emit(); };
  builder.AddStep(std::move(step));
  if (transposed) builder.MarkMade(conv->outputs[0]);
  return OkStatus();
}

}  // namespace tessera
