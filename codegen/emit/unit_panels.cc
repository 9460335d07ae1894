#include "codegen/emit/unit_panels.h"

#include <algorithm>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/lane_transpose.h"

namespace tessera {
namespace {

// u8 into units of 32 bits; `lanes` units make a vector.
class UnitPacker {
 public:
  // `panels`: where the units go.
  UnitPacker(KernelBuilder& b, const PanelSource& s, int elements, int64_t width, int lanes, IrValue panels)
      : b_(b),
        s_(s),
        elements_(elements),
        units_(DivideUp(s.depth, elements)),
        width_(width),
        lanes_(lanes),
        panels_(panels) {}

  void Emit() {
    ForEachPanelVector(b_, s_, units_, width_, lanes_,
                       [&](IrValue matrix, IrValue vector, IrValue to) { EmitVector(matrix, vector, to); });
  }
  // A vector of columns of a matrix; its first unit goes to `to`.
  void EmitVector(IrValue matrix, IrValue vector, IrValue to) {
    IrValue from = Times(matrix, s_.matrix_step), column = Times(vector, lanes_);
    if (s_.depth_step == 1) return Turn(from, column, to);
    if (s_.columns % lanes_ == 0) return Interleave(Plus(from, column), lanes_, to);
    // The columns that are left, one by one.
    const auto some = [&] {
      IrValue left = ir().CreateSub(b_.I64(s_.columns), column);
      b_.For("column", b_.I64(0), left, 1, [&](IrValue c) { Interleave(Plus(from, Plus(column, c)), 1, Plus(to, c)); });
      return IrValues();
    };
    const auto all = [&] {
      Interleave(Plus(from, column), lanes_, to);
      return IrValues();
    };
    b_.IfElse("whole", ir().CreateICmpSLE(Plus(column, b_.I64(lanes_)), b_.I64(s_.columns)), all, some);
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(x, b_.I64(by), "", true, true); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }

  // `count` u8 at `at`, those at and beyond `valid` as zero, as units: one lane for each `elements_`.
  IrValue LoadUnits(IrValue at, int units, int64_t valid) {
    const int count = units * elements_;
    llvm::Type* byte = ir().getInt8Ty();
    auto* type = llvm::FixedVectorType::get(byte, count);
    IrValue address = b_.ElementPointer(b_.arg(0), at, DType::kU8), bytes;
    if (valid >= count) {
      bytes = ir().CreateAlignedLoad(type, address, llvm::Align(1));
    } else if (b_.target().has_avx512) {
      std::vector<llvm::Constant*> mask;
      for (int k = 0; k < count; ++k) mask.push_back(ir().getInt1(k < valid));
      bytes = ir().CreateMaskedLoad(type, address, llvm::Align(1), llvm::ConstantVector::get(mask),
                                    llvm::Constant::getNullValue(type));
    } else {
      bytes = llvm::Constant::getNullValue(type);
      for (int64_t k = 0; k < valid; ++k) {
        IrValue one =
            ir().CreateAlignedLoad(byte, b_.ElementPointer(b_.arg(0), Plus(at, b_.I64(k)), DType::kU8), llvm::Align(1));
        bytes = ir().CreateInsertElement(bytes, one, k);
      }
    }
    if (elements_ == 2) bytes = ir().CreateZExt(bytes, llvm::FixedVectorType::get(ir().getInt16Ty(), count));
    return ir().CreateBitCast(bytes, b_.VectorType(DType::kI32, units));
  }

  // Depth by depth: squares of `lanes` units of `lanes` columns, turned; at the end as many units as are left.
  void Turn(IrValue from, IrValue first_column, IrValue to) {
    IrValues columns;
    for (int l = 0; l < lanes_; ++l) {
      IrValue column = Plus(first_column, b_.I64(l));
      column = ir().CreateSelect(ir().CreateICmpSLT(column, b_.I64(s_.columns)), column, b_.I64(s_.columns - 1));
      columns.push_back(Plus(from, Times(column, s_.column_step)));
    }
    const auto square = [&](IrValue unit, int units, int64_t valid) {
      IrValues rows;
      for (int l = 0; l < lanes_; ++l) {
        rows.push_back(LoadUnits(Plus(columns[l], Times(unit, elements_)), lanes_, valid));
      }
      rows = EmitLaneTranspose(b_, rows);
      for (int u = 0; u < units; ++u) {
        b_.Store(panels_, Plus(to, Times(Plus(unit, b_.I64(u)), width_)), DType::kI32, rows[u]);
      }
    };
    const int64_t whole = s_.depth / (lanes_ * elements_) * lanes_;
    b_.For("square", b_.I64(0), b_.I64(whole), lanes_, [&](IrValue unit) { square(unit, lanes_, lanes_ * elements_); });
    if (whole < units_) square(b_.I64(whole), static_cast<int>(units_ - whole), s_.depth - whole * elements_);
  }

  // Where columns are consecutive: `elements` rows of the depth, shifted to their places.
  void Interleave(IrValue from, int lanes, IrValue to) {
    const auto unit_of = [&](IrValue unit, int64_t count) {
      IrValue sum = nullptr;
      for (int64_t e = 0; e < count; ++e) {
        IrValue at = Plus(from, Times(Plus(Times(unit, elements_), b_.I64(e)), s_.depth_step));
        IrValue part = ir().CreateShl(b_.Load(b_.arg(0), at, DType::kU8, lanes), e * (32 / elements_));
        sum = sum == nullptr ? part : ir().CreateOr(sum, part);
      }
      b_.Store(panels_, Plus(to, Times(unit, width_)), DType::kI32, sum);
    };
    const int64_t whole = s_.depth / elements_;
    b_.For("unit", b_.I64(0), b_.I64(whole), 1, [&](IrValue unit) { unit_of(unit, elements_); });
    if (whole < units_) unit_of(b_.I64(whole), s_.depth - whole * elements_);
  }

  KernelBuilder& b_;
  const PanelSource& s_;
  const int elements_;
  const int64_t units_, width_;
  const int lanes_;
  IrValue panels_;
};

}  // namespace

int64_t PackedUnits(const PanelSource& source, int elements, int64_t width) {
  return source.matrices * DivideUp(source.columns, width) * DivideUp(source.depth, elements) * width;
}

PlanStep PlanPackUnits(const PanelSource& source, int elements, int64_t width, StepArg from, StepArg to,
                       const Target& target) {
  TES_CHECK(source.type == DType::kU8 && (elements == 2 || elements == 4), Name(source.type), " by ", elements);
  TES_CHECK(source.depth_step == 1 || source.column_step == 1, source.depth_step);
  const int lanes = static_cast<int>(std::min<int64_t>(width, target.Lanes(32)));
  PlanStep step;
  step.kernel.family = "pack_units";
  step.kernel.num_args = 2;
  step.kernel.key =
      internal::Join("pack_units u8 by ", elements, " ", source.matrices, "x", source.depth, "x", source.columns,
                     " steps ", source.matrix_step, " ", source.depth_step, " ", source.column_step, " width ", width);
  step.kernel.emit = [source, elements, width, lanes](KernelBuilder& b) {
    UnitPacker(b, source, elements, width, lanes, b.arg(1)).Emit();
  };
  step.args = {from, to};
  step.tasks = source.matrices * DivideUp(source.columns, lanes);
  const double packed = static_cast<double>(PackedUnits(source, elements, width));
  step.bytes = 4 * packed + static_cast<double>(source.matrices * source.depth * source.columns);
  return step;
}

void EmitPackUnitsPanel(KernelBuilder& b, const PanelSource& source, int elements, int64_t width, IrValue panel,
                        IrValue to) {
  TES_CHECK(source.matrices == 1 && (source.depth_step == 1 || source.column_step == 1), source.matrices);
  const int lanes = static_cast<int>(std::min<int64_t>(width, b.target().Lanes(32)));
  UnitPacker pack(b, source, elements, width, lanes, to);
  ForEachVectorOfPanel(b, source, width, lanes, panel,
                       [&](IrValue vector, IrValue at) { pack.EmitVector(b.I64(0), vector, at); });
}

double PackUnitsMicroseconds(const PanelSource& source, int elements, const Target& target) {
  const MachineModel machine(target);
  const int lanes = target.Lanes(32);
  double operations = 0;  // on a vector of units
  if (source.depth_step == 1) {
    for (int l = lanes; l > 1; l /= 2) ++operations;
    if (elements == 2) ++operations;
  } else {
    operations = 3 * elements - 2;  // widen, shift, join
  }
  const double vectors =
      static_cast<double>(source.matrices * DivideUp(source.depth, elements) * DivideUp(source.columns, lanes));
  return vectors * (2 * machine.load_ns + operations * machine.op_ns) / 1000 + machine.step_ns / 1000;
}

}  // namespace tessera
