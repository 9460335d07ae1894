#include "codegen/emit/host/pack_windows.h"

#include <algorithm>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/scattered_stream.h"

namespace tessera {
namespace {

int64_t PanelsOf(const ConvGeometry& g) { return DivideUp(g.y.out * g.x.out, kPanelLanes); }

// Rows of the result that a panel touches, at most.
int64_t Pieces(const ConvGeometry& g) {
  if (g.x.out % kPanelLanes == 0) return 1;
  return std::min(g.y.out, (kPanelLanes - 1 + g.x.out - 1) / g.x.out + 1);
}

// task = a panel of an image:
//   for ky: for kx:
//     for piece: its mask, and where its first lane's pixel lies in a plane
//     for channel:  panel[tap][channel] = the pieces, each under its mask
class WindowPacker {
 public:
  WindowPacker(KernelBuilder& b, const ConvGeometry& g, int64_t pitch) : b_(b), g_(g), pitch_(pitch) {}

  void Emit() {
    b_.For("task", b_.begin(), b_.end(), 1, [&](IrValue task) {
      IrValue image = b_.I64(0), panel = task;
      if (g_.batch > 1) {
        image = ir().CreateUDiv(task, b_.I64(PanelsOf(g_)));
        panel = ir().CreateURem(task, b_.I64(PanelsOf(g_)));
      }
      from_ = Times(image, g_.all_in_channels() * pitch_);
      to_ = Times(task, g_.taps() * g_.all_in_channels() * kPanelLanes);
      IrValue pixel = Times(panel, kPanelLanes);
      first_row_ = ir().CreateUDiv(pixel, b_.I64(g_.x.out));
      first_column_ = ir().CreateURem(pixel, b_.I64(g_.x.out));
      b_.For("ky", b_.I64(0), b_.I64(g_.y.taps), 1,
             [&](IrValue ky) { b_.For("kx", b_.I64(0), b_.I64(g_.x.taps), 1, [&](IrValue kx) { EmitTap(ky, kx); }); });
    });
  }

 private:
  // A piece's lanes: mask, and the address of lane 0's pixel in channel 0, were it in the image.
  struct Piece {
    IrValue mask = nullptr, at = nullptr;
  };

  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", false, true); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : Plus(x, b_.I64(y)); }
  IrValue Times(IrValue x, int64_t by) { return by == 1 ? x : ir().CreateMul(x, b_.I64(by), "", false, true); }
  llvm::Type* Lanes(llvm::Type* type) { return llvm::FixedVectorType::get(type, kPanelLanes); }
  IrValue Splat32(IrValue x) { return b_.Splat(ir().CreateTrunc(x, ir().getInt32Ty()), kPanelLanes); }

  void EmitTap(IrValue ky, IrValue kx) {
    std::vector<llvm::Constant*> numbers;
    for (int l = 0; l < kPanelLanes; ++l) numbers.push_back(ir().getInt32(l));
    IrValue lane = llvm::ConstantVector::get(numbers);
    std::vector<Piece> pieces;
    for (int64_t p = 0; p < Pieces(g_); ++p) {
      // Lane l is pixel (first_row + p, first_column - p * out + l) of the result.
      IrValue start = Plus(first_column_, -p * g_.x.out);
      IrValue row = Plus(first_row_, p);
      IrValue y = Plus(Plus(Times(row, g_.y.stride), -g_.y.pad), Times(ky, g_.y.dilation));
      IrValue x0 = Plus(Plus(Times(start, g_.x.stride), -g_.x.pad), Times(kx, g_.x.dilation));
      const auto below = [&](IrValue value, int64_t bound) {  // 0 <= value < bound
        return ir().CreateICmpULT(value, b_.Splat(ir().getInt32(static_cast<uint32_t>(bound)), kPanelLanes));
      };
      IrValue column = ir().CreateAdd(lane, Splat32(start));
      IrValue x = ir().CreateAdd(
          ir().CreateMul(lane, b_.Splat(ir().getInt32(static_cast<uint32_t>(g_.x.stride)), kPanelLanes)), Splat32(x0));
      IrValue mask = ir().CreateAnd(below(column, g_.x.out), below(x, g_.x.in));
      IrValue inside =
          ir().CreateAnd(ir().CreateICmpULT(y, b_.I64(g_.y.in)), ir().CreateICmpSLT(row, b_.I64(g_.y.out)));
      mask = ir().CreateAnd(mask, b_.Splat(inside, kPanelLanes));
      pieces.push_back({mask, Plus(Plus(Times(y, g_.x.in), x0), from_)});
    }
    IrValue tap = Plus(Times(ky, g_.x.taps), kx);
    IrValue to = Plus(to_, Times(tap, g_.all_in_channels() * kPanelLanes));
    b_.For("channel", b_.I64(0), b_.I64(g_.all_in_channels()), 1, [&](IrValue channel) {
      IrValue value = llvm::Constant::getNullValue(Lanes(ir().getFloatTy()));
      for (const Piece& piece : pieces) value = Load(piece, Times(channel, pitch_), value);
      b_.Store(b_.arg(1), Plus(to, Times(channel, kPanelLanes)), DType::kF32, value);
    });
  }

  IrValue Pointer(IrValue at) { return ir().CreateGEP(ir().getFloatTy(), b_.arg(0), at); }

  // `others` with the piece's lanes replaced.
  IrValue Load(const Piece& piece, IrValue plane, IrValue others) {
    llvm::Type* type = Lanes(ir().getFloatTy());
    const llvm::Align align(4);
    IrValue at = Plus(piece.at, plane);
    if (g_.x.stride == 1) return ir().CreateMaskedLoad(type, Pointer(at), align, piece.mask, others);
    if (g_.x.stride == 2) {
      // Two vectors of the row, of which every second element is wanted.
      IrValue zeros = llvm::Constant::getNullValue(type);
      IrValue none = llvm::Constant::getNullValue(Lanes(ir().getInt1Ty()));
      IrValue halves[2];
      for (int half = 0; half < 2; ++half) {
        std::vector<int> spread;
        for (int l = 0; l < kPanelLanes; ++l) {
          spread.push_back(l % 2 == 0 ? half * kPanelLanes / 2 + l / 2 : kPanelLanes);
        }
        IrValue mask = ir().CreateShuffleVector(piece.mask, none, spread);
        halves[half] = ir().CreateMaskedLoad(type, Pointer(Plus(at, half * int64_t{kPanelLanes})), align, mask, zeros);
      }
      std::vector<int> every_second;
      for (int l = 0; l < kPanelLanes; ++l) every_second.push_back(2 * l);
      return ir().CreateSelect(piece.mask, ir().CreateShuffleVector(halves[0], halves[1], every_second), others);
    }
    std::vector<llvm::Constant*> steps;
    for (int l = 0; l < kPanelLanes; ++l) steps.push_back(ir().getInt64(static_cast<uint64_t>(l * g_.x.stride)));
    IrValue indices = ir().CreateAdd(b_.Splat(at, kPanelLanes), llvm::ConstantVector::get(steps));
    IrValue addresses = ir().CreateGEP(ir().getFloatTy(), b_.arg(0), indices);
    return ir().CreateMaskedGather(type, addresses, align, piece.mask, others);
  }

  KernelBuilder& b_;
  const ConvGeometry& g_;
  const int64_t pitch_;
  IrValue from_ = nullptr, to_ = nullptr;                 // elements of the image, of the panel
  IrValue first_row_ = nullptr, first_column_ = nullptr;  // lane 0's pixel of the result
};

}  // namespace

int64_t WindowElements(const ConvGeometry& g) {
  return g.batch * PanelsOf(g) * g.taps() * g.all_in_channels() * kPanelLanes;
}

PlanStep PlanPackWindows(const ConvGeometry& geometry, int64_t pitch, StepArg from, StepArg to) {
  PlanStep step;
  step.kernel.family = "pack_windows";
  step.kernel.num_args = 2;
  step.kernel.key = internal::Join("pack_windows ", geometry.Key(), " pitch ", pitch);
  step.kernel.emit = [geometry, pitch](KernelBuilder& b) { WindowPacker(b, geometry, pitch).Emit(); };
  step.args = {from, to};
  step.tasks = geometry.batch * PanelsOf(geometry);
  step.bytes = 4.0 * static_cast<double>(geometry.batch * geometry.y.in * geometry.x.in * geometry.all_in_channels() +
                                         WindowElements(geometry));
  return step;
}

double PackWindowsMicroseconds(const ConvGeometry& g, const Target& target) {
  const MachineModel machine(target);
  const double vectors = static_cast<double>(WindowElements(g)) / std::min<int64_t>(kPanelLanes, target.Lanes(32));
  const auto pieces = static_cast<double>(Pieces(g));
  const double load = g.x.stride == 1   ? 2 * machine.load_ns
                      : g.x.stride == 2 ? 4 * machine.load_ns + 2 * machine.op_ns
                                        : 2 * kPanelLanes * machine.load_ns;
  // Masks and addresses, for each tap of each panel.
  const double taps = static_cast<double>(g.batch * PanelsOf(g) * g.taps()) * (12 + 14 * pieces) * machine.op_ns;
  return (vectors * (pieces * load + machine.load_ns) + taps + machine.step_ns) / 1000;
}

}  // namespace tessera
