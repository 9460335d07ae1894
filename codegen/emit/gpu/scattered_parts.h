// ScatteredParts: what the kernels of gpu_scattered.h have in common. A panel of X in shared memory, with its columns
// beside each other however X lies; a product; and the way of results to Y.
//
//   panel    row k: kMaskColumns units, 128 bytes, pieces of 16 turned by k (PlaceOf); behind the rows one of zeros
//
// Borrows what it is made of, for as long as the kernel is written. Tested by gpu_scattered_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_SCATTERED_PARTS_H_
#define TESSERA_CODEGEN_EMIT_GPU_SCATTERED_PARTS_H_

#include "codegen/emit/gpu/gpu_scattered.h"

namespace tessera {

class ScatteredParts {
 public:
  ScatteredParts(KernelBuilder& b, const GpuScattered& scattered, const TileEpilogue& epilogue)
      : b_(b), s_(scattered), epilogue_(epilogue) {}

 protected:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return b_.ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue At(IrValue base, IrValue bytes) { return ir().CreateGEP(ir().getInt8Ty(), base, bytes); }
  llvm::Type* SumType() { return b_.ElementType(s_.sum()); }
  bool floats() const { return s_.unit == SparseUnit::kF32; }
  IrValue Plus(IrValue x, IrValue y) { return floats() ? ir().CreateFAdd(x, y) : ir().CreateAdd(x, y); }
  IrValue MultiplyAdd(IrValue x, IrValue weight, IrValue sum);

  // Rows [depth, depth + chunk) of X's columns from first_column_ on, and zeros behind them.
  void LoadPanel(IrValue depth);
  // Results that follow each other along a line of Y, of which there are `lines` of `length`; up to `most` at once.
  void StoreSeveral(IrValue line, int64_t lines, IrValue along, int64_t length, const IrValues& values, int most);

  KernelBuilder& b_;
  const GpuScattered& s_;
  const TileEpilogue& epilogue_;
  // Set by the kernel before the panel is loaded.
  IrValue panel_ = nullptr, lane_ = nullptr, warp_ = nullptr, first_column_ = nullptr;

 private:
  void LoadColumns(IrValue depth);
  void LoadRows(IrValue depth);
  IrValue PanelByte(IrValue k, IrValue piece, IrValue in_piece);
  IrValue Clamp(IrValue number, int64_t count);
  IrValues LoadUnits(IrValue column, IrValue k, int count);
};

// The kernel that gives each lane group a row (GpuScattered::by_row), and what its results take in shared memory.
void EmitScatteredRows(KernelBuilder& b, const GpuScattered& scattered, const TileEpilogue& epilogue);
int64_t StagedBytes(const GpuScattered& scattered);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_SCATTERED_PARTS_H_
