// TileCopy: one operand's tile from global to shared memory, by all threads of a block.
//
// A matrix lies as lines, each a run of consecutive elements: rows or columns along which the depth runs
// (`depth_inner`: A as [rows, depth], weights laid as [columns, depth]), or steps of the depth along which rows or
// columns run (B as [depth, columns]). In shared memory a line is a multiple of 128 bytes; its pieces of 16 bytes are
// turned by the line's number, so that eight lines' pieces of one number lie in different banks:
//
//   byte of piece p of line l = l * line_bytes + ((p ^ (l & 7)) * 16)
//
//   TileCopy a(b, operand, threads, matrix, first_row);     // in front of the loop over the depth
//   IrValues held = a.Fetch(depth, stage);                  // starts
//   …                                                       // products of an earlier stage
//   a.Store(held, stage);                                   // ends where copies are not asynchronous
//
// Lines may be windows of an image with channels last, whose pieces are gathered on the way: a line is a pixel of the
// result, the depth runs over taps and their channels. Where a line's window begins and which taps of it lie within the
// image a thread works out once; what a piece's tap and channel are, once a stage for all lines:
//
//   line:   y = oy * stride - pad, x likewise; base = ((image * height + y) * width + x) * channels;
//           mask = bit ky for each y + ky * dilation within the image, bit 16 + kx likewise
//   stage:  ky, kx, channel of the depth; offset = (ky * dilation * width + kx * dilation) * channels + channel
//   piece:  image[base + offset], or zeros where the mask lacks bit ky or bit 16 + kx
//
// Where lines start at multiples of 4, 8 or 16 bytes and the chip has it (sm_80), copies are cp.async: the caller
// commits and waits. Otherwise elements pass through registers between Fetch and Store. What lies outside the matrix is
// filled with zeros and not read. Tested by gpu_matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_TILE_COPY_H_
#define TESSERA_CODEGEN_EMIT_GPU_TILE_COPY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/kernel_builder.h"
#include "tesa/types.h"

namespace tessera {

constexpr int kPieceBytes = 16;

struct TileOperand {
  DType type = DType::kF32;
  bool depth_inner = true;
  int64_t lines = 1, run = 1;  // of a whole matrix: lines, and elements of each
  int64_t pitch = 1;           // elements from one line to the next
  // Bytes that can be copied at once: a power of two up to 16 that divides where every line of every matrix starts.
  int granule = 16;
  // Elements of f32 are rounded to tf32 (to nearest, halves away from zero) where fragments are read; tensor cores cut
  // them otherwise. Constants were rounded while they were laid.
  bool rounds = false;
  // Lines are windows of such an image, of one of its groups; depth_inner, `pitch` is not used.
  std::optional<ConvGeometry> windows;
  // Of a tile: its lines, and elements of each.
  int tile_lines = 1, tile_run = 1;

  int element_bytes() const { return TypeInfo(type).bits / 8; }
  int line_bytes() const { return tile_run * element_bytes(); }
  int64_t tile_bytes() const { return int64_t{tile_lines} * line_bytes(); }
  std::string Key() const;
};

// Can windows of the image be gathered? The outside must be zero, and taps few enough for a mask.
bool CanGatherWindows(const ConvGeometry& geometry, std::string* why);

// The largest granule for lines `pitch` elements of `type` apart in a buffer that is used from `offset` bytes on.
int GranuleOf(DType type, int64_t pitch, int64_t offset);

// Where tiles of an operand come from: from memory, or made on the way to shared memory.
class TileSource {
 public:
  virtual ~TileSource() = default;
  // Does anything of it go on by itself, until the caller commits and waits?
  virtual bool asynchronous() const = 0;
  // Starts to bring the tile that begins at `depth` (i32) to `stage` (address space 3). Gives what Store stores.
  virtual IrValues Fetch(IrValue depth, IrValue stage) = 0;
  virtual void Store(const IrValues& held, IrValue stage) = 0;
  // How many values Fetch gives.
  virtual int num_held() const = 0;
};

class TileCopy : public TileSource {
 public:
  // `matrix`: the address of the matrix's first element. `first`: the tile's first row or column (i32).
  TileCopy(KernelBuilder& b, const TileOperand& operand, int threads, IrValue matrix, IrValue first);

  bool asynchronous() const override { return asynchronous_; }
  IrValues Fetch(IrValue depth, IrValue stage) override { return Fetch(depth, stage, nullptr); }
  // `first`: the tile's first row or column, where it is not the constructor's.
  IrValues Fetch(IrValue depth, IrValue stage, IrValue first);
  void Store(const IrValues& held, IrValue stage) override;
  int num_held() const override { return asynchronous_ ? 0 : passes_; }
  // A value of the type of those that Fetch gives, for loops and branches that carry them.
  static IrValue NothingHeld(KernelBuilder& b);

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return b_.ir().getInt32(static_cast<uint32_t>(value)); }
  // Where this thread's piece of pass `j` goes.
  IrValue To(IrValue stage, int j);
  // Does this thread have a piece in pass `j`? nullptr: all have.
  IrValue Takes(int j);
  void CopyPiece(IrValue from, IrValue to, IrValue bytes_left);
  IrValue LoadPiece(IrValue from, IrValue bytes_left);

  // Of windows.
  struct WindowPart {
    IrValue offset = nullptr;                  // elements from a window's start
    IrValue y_bit = nullptr, x_bit = nullptr;  // of the masks; nullptr: all taps lie within the image
  };
  void FindWindows();
  std::vector<WindowPart> PartsOf(IrValue depth);
  // Is the part of pass `j` within the image? nullptr: all are.
  IrValue Inside(const WindowPart& part, int j);
  IrValues FetchWindows(IrValue depth, IrValue stage);
  IrValue LoadWindowPiece(const std::vector<WindowPart>& parts, int j);

  KernelBuilder& b_;
  const TileOperand operand_;
  const int threads_;
  const bool asynchronous_;
  int pieces_ = 1, passes_ = 1;  // pieces of a line; pieces that a thread copies
  IrValue matrix_, first_, thread_, line_, piece_;
  IrValues base_, mask_;  // of windows, by pass; no masks where all of every window lies within the image
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_TILE_COPY_H_
