// A depthwise convolution and the 1x1 convolution that alone reads it, as one kernel: channels last.
//
//   C[pixel, out] = epilogue(sum over channels of A[pixel, channel] * W[out, channel])
//   A[pixel, channel] = depthwise epilogue(sum over taps of image[window of pixel][tap][channel] *
//   filter[tap][channel])
//
// The kernel is the product's (matmul_kernel.h). Its tiles of A are made on their way to shared memory instead of being
// copied, so that the depthwise result, as large as the image, is neither written nor read:
//
//   once:          for each of a thread's pixels: where its window begins, and which taps lie within the image
//   each stage:    sums = 0, 16 bytes of channels for each of its pixels
//                  for each tap: w = filter[tap][channels];  sums[pixel] += image[window][tap][channels] * w
//                  A tile <- depthwise epilogue(sums)
//
// Every column of tiles makes A anew, 9 products an element of 3x3; so wide tiles are better than for the product
// alone, and for many outputs the two kernels may be quicker: the emitter is the depthwise node's, and its expected
// time is that of the whole less the best for the product. Tested by gpu_depthwise_pointwise_test.cc.
#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/gpu/gpu_matmul.h"
#include "codegen/emit/gpu/only_reader.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emitter.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr int64_t kMostTaps = 25;  // bits of a mask, and code

struct Pair {
  ConvGeometry depthwise;
  const Node* pointwise = nullptr;
  MatmulProblem product;
  DType a = DType::kF32, b = DType::kF32;
  int64_t taps() const { return depthwise.taps(); }
};

// Makes tiles of the depthwise result.
class DepthwiseTile : public TileSource {
 public:
  // Arguments: the image 0, then from `first` on the filter by taps and the epilogue's operands.
  DepthwiseTile(KernelBuilder& b, const ConvGeometry& g, const TileEpilogue& epilogue, int first,
                const TileOperand& operand, int threads, bool aligned, IrValue first_row)
      : b_(b), g_(g), epilogue_(epilogue), first_arg_(first), o_(operand), aligned_(aligned) {
    pieces_ = o_.line_bytes() / kPieceBytes;
    step_ = threads / pieces_;
    passes_ = o_.tile_lines / step_;
    lanes_ = kPieceBytes / o_.element_bytes();
    TES_CHECK(passes_ * step_ == o_.tile_lines && threads % pieces_ == 0, o_.Key());
    line_ = ir().CreateUDiv(b.ThreadId(), I32(pieces_));
    piece_ = ir().CreateURem(b.ThreadId(), I32(pieces_));
    for (int j = 0; j < passes_; ++j) FindWindow(Plus(Plus(first_row, line_), int64_t{j} * step_));
  }

  bool asynchronous() const override { return false; }
  int num_held() const override { return 0; }
  void Store(const IrValues&, IrValue) override {}

  IrValues Fetch(IrValue depth, IrValue stage) override {
    const DType sum_type = ComputeType(g_.type);
    IrValue channel = Plus(depth, Times(piece_, lanes_)), exists = nullptr;
    if (g_.groups % o_.tile_run != 0) {
      exists = ir().CreateICmpULT(channel, I32(g_.groups));
      channel = ir().CreateSelect(exists, channel, I32(0));
    }
    b_.AssumeAligned(aligned_);
    // A row of taps at a time: all of them at once would ask for more registers than there are.
    const IrValues zeros(static_cast<size_t>(passes_), b_.Zero(sum_type, lanes_));
    const IrValues sums = b_.For("taps", b_.I64(0), b_.I64(g_.y.taps), 1, zeros, [&](IrValue ky64, IrValues so_far) {
      IrValue ky = ir().CreateTrunc(ky64, ir().getInt32Ty());
      IrValue row = Plus(Times(ky, g_.y.dilation * g_.x.in * g_.groups), channel);
      IrValue weights = Plus(Times(ky, g_.x.taps * g_.groups), channel), bits = Times(ky, g_.x.taps);
      for (int64_t kx = 0; kx < g_.x.taps; ++kx) {
        IrValue weight = b_.Load(b_.arg(first_arg_), Wide(Plus(weights, kx * g_.groups)), g_.weights_type, lanes_);
        for (size_t j = 0; j < so_far.size(); ++j) {
          IrValue at = Plus(Plus(base_[j], row), kx * g_.x.dilation * g_.groups), inside = nullptr;
          if (!mask_.empty()) {
            inside = ir().CreateTrunc(ir().CreateLShr(mask_[j], Plus(bits, kx)), ir().getInt1Ty());
            at = ir().CreateSelect(inside, at, channel);
          }
          IrValue value = b_.Load(b_.arg(0), Wide(at), g_.type, lanes_);
          if (inside != nullptr) {
            value = ir().CreateSelect(inside, value, b_.ConstantInt(sum_type, g_.pad_value, lanes_));
          }
          so_far[j] = IsFloat(sum_type) ? b_.Fma(value, weight, so_far[j])
                                        : ir().CreateAdd(ir().CreateMul(value, weight), so_far[j]);
        }
      }
      return so_far;
    });
    llvm::Type* words = llvm::FixedVectorType::get(ir().getInt32Ty(), 4);
    EpilogueEmitter finish(b_, epilogue_, first_arg_ + 1);
    for (size_t j = 0; j < sums.size(); ++j) {
      IrValue result = b_.NarrowToStorage(finish.Apply(sums[j], pixel_[j], Wide(channel)), o_.type);
      result = ir().CreateBitCast(result, words);
      if (exists != nullptr) result = ir().CreateSelect(exists, result, llvm::Constant::getNullValue(words));
      ir().CreateAlignedStore(result, To(stage, static_cast<int>(j)), llvm::Align(kPieceBytes));
    }
    b_.AssumeAligned(false);
    return {};
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue Wide(IrValue x) { return ir().CreateSExt(x, ir().getInt64Ty()); }
  // In 32 bits, signed: windows may begin before the image.
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", false, true); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : Plus(x, I32(y)); }
  IrValue Times(IrValue x, int64_t by) { return by == 1 ? x : ir().CreateMul(x, I32(by), "", false, true); }

  // Pixels behind the last are the last: the product stores nothing of them.
  void FindWindow(IrValue pixel) {
    if (g_.pixels() % o_.tile_lines != 0) {
      pixel = ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, pixel, I32(g_.pixels() - 1));
    }
    pixel_.push_back(Wide(pixel));
    IrValue row = ir().CreateUDiv(pixel, I32(g_.x.out)), ox = ir().CreateURem(pixel, I32(g_.x.out));
    IrValue image = ir().CreateUDiv(row, I32(g_.y.out)), oy = ir().CreateURem(row, I32(g_.y.out));
    IrValue y = Plus(Times(oy, g_.y.stride), -g_.y.pad), x = Plus(Times(ox, g_.x.stride), -g_.x.pad);
    base_.push_back(Times(Plus(Times(Plus(Times(image, g_.y.in), y), g_.x.in), x), g_.groups));
    if (g_.y.inside() && g_.x.inside()) return;
    const auto inside = [&](const ConvAxis& axis, IrValue first, int64_t tap) {
      return ir().CreateICmpULT(Plus(first, tap * axis.dilation), I32(axis.in));
    };
    IrValue mask = I32(0);
    for (int64_t tap = 0; tap < g_.taps(); ++tap) {
      IrValue both = ir().CreateAnd(inside(g_.y, y, tap / g_.x.taps), inside(g_.x, x, tap % g_.x.taps));
      mask = ir().CreateOr(mask, ir().CreateSelect(both, I32(int64_t{1} << tap), I32(0)));
    }
    mask_.push_back(mask);
  }
  IrValue To(IrValue stage, int j) {
    IrValue line = Plus(line_, int64_t{j} * step_);
    IrValue turned = ir().CreateXor(piece_, ir().CreateAnd(line, I32(7)));
    IrValue at = Plus(Times(line, o_.line_bytes()), Times(turned, kPieceBytes));
    return ir().CreateGEP(ir().getInt8Ty(), stage, at);
  }

  KernelBuilder& b_;
  const ConvGeometry g_;
  const TileEpilogue& epilogue_;
  const int first_arg_;
  const TileOperand o_;
  const bool aligned_;
  int pieces_ = 1, step_ = 1, passes_ = 1, lanes_ = 1;
  IrValue line_, piece_;
  IrValues pixel_, base_, mask_;  // of each pass: the pixel (i64); its window's first element, bits of taps inside
};

std::optional<Pair> PairOf(const Graph& graph, const Node& node, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  if (node.op != Op::kConv) return no("no conv");
  const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why);
  if (!g) return std::nullopt;
  if (g->in_channels != 1 || g->out_channels != 1) return no("not one channel a group");
  const Node* reader = OnlyReader(graph, node.outputs[0]);
  if (reader == nullptr || reader->op != Op::kConv || reader->inputs[0] != node.outputs[0]) {
    return no("no 1x1 convolution is all that reads it");
  }
  const std::optional<ConvGeometry> p = ReadConvGeometry(graph, *reader, why);
  if (!p) return std::nullopt;
  if (!p->IsMatmul()) return no("what reads it is no 1x1 convolution");
  // The step comes where the depthwise node stands: what else it reads must be there.
  for (size_t k = 1; k < Operands(*reader).size(); ++k) {
    const ValueId id = Operands(*reader)[k];
    if (id != ValueId::kNone && graph[id].kind == ValueKind::kComputed) return no("the product has other operands");
  }
  if (graph[reader->inputs[1]].tesa) return no("pruned weights have kernels of their own");
  const TileEpilogue inner(graph, node), outer(graph, *reader);
  for (const Node* n : {&node, reader}) {
    if (n->epilogue && n->epilogue->body.uses_index()) return no("an epilogue asks where it is");
  }
  if (!inner.bytewise() || !outer.bytewise()) return no("results or operands smaller than a byte");
  if (!inner.by_column()) return no("operands of the depthwise epilogue differ from pixel to pixel");
  const DType image = ComputeType(g->type);
  if (image != ComputeType(g->weights_type) || image == DType::kI64 || TypeInfo(image).bits > 32 ||
      TypeInfo(g->type).bits < 8 || TypeInfo(g->weights_type).bits < 8) {
    return no("found an image of ", Name(g->type), ", weights of ", Name(g->weights_type));
  }
  if (g->taps() > kMostTaps) return no(g->taps(), " taps");
  constexpr int kBits = kPieceBytes * 8;
  if (g->groups % (kBits / TypeInfo(p->type).bits) != 0) return no("channels are no multiple of 16 bytes");
  constexpr int64_t kMost = int64_t{1} << 29;
  if (std::max(g->batch * g->y.in * g->x.in, g->pixels()) * std::max(g->groups, p->out_channels) > kMost) {
    return no("too large for 32-bit indices");
  }
  Pair pair;
  pair.depthwise = *g;
  pair.pointwise = reader;
  pair.a = p->type;
  pair.b = p->weights_type;
  pair.product.rows = p->pixels();
  pair.product.columns = p->out_channels;
  pair.product.depth = p->in_channels;
  pair.product.b_transposed = pair.product.b_constant = true;
  return pair;
}

// The product's tiles with their expected times of the whole, quickest first.
std::vector<GpuMatmulWay> WaysOfPair(const Pair& pair, const Target& target, std::string* why) {
  std::vector<GpuMatmulWay> ways;
  for (GpuMatmulWay way : GpuMatmulWays(pair.product, pair.a, pair.b, target, why)) {
    if (way.tiling.splits > 1 || way.tiling.core == MatmulTiling::Core::kWgmma)
      continue;  // tensor maps bring its tiles
    std::optional<GpuMatmul> m = LayGpuMatmul(pair.product, way.tiling, pair.a, pair.b, 0, 0, target, why);
    const int pieces = m ? m->a.line_bytes() / kPieceBytes : 1;
    if (!m || m->a.tile_lines * pieces % way.tiling.threads() != 0) continue;
    // Sums of both that a thread holds at once: what is around them needs registers too.
    const int registers = way.tiling.core == MatmulTiling::Core::kMmaF64 ? 2 : 1;
    const int own = way.tiling.tile_m * way.tiling.tile_n * way.tiling.slices / way.tiling.threads() * registers;
    const int made = m->a.tile_lines * m->a.tile_run / way.tiling.threads();
    constexpr int kMostSums = 160;
    if (own + made > kMostSums) continue;
    // A product and a conversion for each tap, what stores the results, and waiting for windows, more of it where a
    // pixel is longer than a line of the first-level cache. Fitted on an H100 to MobileNet-V1's blocks at batch 32
    // (f32: 1230 cycles a tile of 128x16 with 32 channels, 1700 with 128, 2870 with 256).
    constexpr double kLineBytes = 128, kBeyondLine = 1.5;
    const double elements = static_cast<double>(m->a.tile_lines) * m->a.tile_run;
    const double pixel_bytes = static_cast<double>(ByteSize(pair.depthwise.type, pair.depthwise.groups));
    m->a_cycles = elements * (2.3 * static_cast<double>(pair.taps()) + 6) / 128 * 1.9 + 420;
    if (pixel_bytes > kLineBytes) m->a_cycles *= kBeyondLine;
    way.us = GpuMatmulMicroseconds(*m, target);
    ways.push_back(way);
  }
  std::stable_sort(ways.begin(), ways.end(), [](const GpuMatmulWay& x, const GpuMatmulWay& y) { return x.us < y.us; });
  return ways;
}

}  // namespace

extern const std::string_view kGpuDepthwisePointwiseDoc;
const std::string_view kGpuDepthwisePointwiseDoc =
    "a depthwise convolution and the 1x1 convolution behind it, whose tiles of pixels never leave shared memory";

std::vector<Way> WaysGpuDepthwisePointwise(const Graph& graph, const Node& node, const Target& target,
                                           std::string* why) {
  const std::optional<Pair> pair = PairOf(graph, node, why);
  if (!pair) return {};
  const std::vector<GpuMatmulWay> alone = GpuMatmulWays(pair->product, pair->a, pair->b, target, why);
  if (alone.empty()) return {};
  constexpr size_t kMostWays = 4;
  constexpr double kLeast = 0.01;
  std::vector<Way> ways;
  for (const GpuMatmulWay& way : WaysOfPair(*pair, target, why)) {
    if (ways.size() == kMostWays && !target.whole_space) break;
    ways.push_back(
        {.name = way.tiling.Name(), .us = std::max(kLeast, way.us - alone[0].us), .why = "less the product's time"});
  }
  return ways;
}

Status PlanGpuDepthwisePointwise(const Node& node, const std::string& way, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::string why;
  const std::optional<Pair> pair = PairOf(graph, node, &why);
  TES_CHECK(pair.has_value(), node.name, ": ", why);
  const Node& product = *pair->pointwise;
  const std::vector<GpuMatmulWay> ways = WaysOfPair(*pair, builder.target(), &why);
  const auto chosen =
      std::find_if(ways.begin(), ways.end(), [&](const GpuMatmulWay& w) { return w.tiling.Name() == way; });
  TES_CHECK(chosen != ways.end(), way);
  std::optional<GpuMatmul> m =
      LayGpuMatmul(pair->product, chosen->tiling, pair->a, pair->b, 0, 0, builder.target(), &why);
  TES_CHECK(m.has_value(), why);

  const Value& weights = graph[product.inputs[1]];
  const bool rounds = MultipliesTf32(way, pair->b);
  const auto lay = [&] {
    Tensor laid = LayDepthInner(weights.constant, pair->product, LaidPitch(pair->product, pair->b));
    return rounds ? RoundedToTf32(std::move(laid)) : laid;
  };
  PlanStep step;
  step.args = {
      builder.Read(node.inputs[0]),
      {.buffer = builder.ConstantOnce(weights.name + (rounds ? ".windows_inner.tf32" : ".windows_inner"), lay)}};
  const TileEpilogue outer(graph, product);
  outer.AddArguments(product, builder, step);
  m->vector = outer.VectorWidth(std::span(step.args).subspan(2));
  const std::vector<bool> may_alias = step.kernel.may_alias;

  // Behind the product's arguments: what makes A.
  const auto first = static_cast<int>(step.args.size());
  const Value& filter = graph[node.inputs[1]];
  const ConvGeometry g = pair->depthwise;
  step.args.push_back(
      {.buffer = builder.ConstantOnce(filter.name + ".taps", [&] { return FilterByTaps(filter.constant, g); })});
  if (node.epilogue) {
    for (ValueId id : node.epilogue->inputs) step.args.push_back(builder.Read(id));
  }
  constexpr int64_t kBytes = 16;
  const bool aligned =
      std::all_of(step.args.begin(), step.args.end(), [](const StepArg& arg) { return arg.offset % kBytes == 0; });
  auto inner = std::make_shared<const TileEpilogue>(graph, node);
  m->more_args = static_cast<int>(step.args.size()) - first;
  m->a_key = internal::Join(" of depthwise ", g.Key(), " ", inner->Key(), aligned ? " aligned" : "");
  const TileOperand operand = m->a;
  const int threads = m->tiling.threads();
  m->make_a = [=](KernelBuilder& b, IrValue first_row) -> std::unique_ptr<TileSource> {
    return std::make_unique<DepthwiseTile>(b, g, *inner, first, operand, threads, aligned, first_row);
  };
  step.kernel = GpuMatmulKernel(*m, outer);
  step.kernel.family = "depthwise_pointwise";
  step.kernel.may_alias = may_alias;
  step.kernel.may_alias.resize(step.args.size(), false);
  step.launch = {.x = m->blocks(), .threads = threads, .shared_bytes = m->shared_bytes()};
  step.label = node.name + "+" + product.name;
  const double products =
      static_cast<double>(pair->product.rows) * static_cast<double>(pair->product.columns * pair->product.depth);
  step.flops = 2 * products + g.flops();
  const DType out = outer.dtype();
  step.bytes = static_cast<double>(ByteSize(g.type, g.batch * g.y.in * g.x.in * g.groups) +
                                   ByteSize(pair->b, pair->product.columns * pair->product.depth) +
                                   ByteSize(out, pair->product.rows * pair->product.columns));
  builder.AddStep(std::move(step));
  builder.MarkMade(product.outputs[0]);
  return OkStatus();
}

}  // namespace tessera
