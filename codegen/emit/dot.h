// Dot: what one step along a contraction's depth multiplies and adds, by the instruction that the target has for a pair
// of element types.
//
//   sum[lane] += a[0] * b[lane][0] + … + a[unit-1] * b[lane][unit-1]      a unit of A in all lanes; of B a word a lane
//
//   kind           operands          unit   sums       instruction
//   kOne           f32 x f32, f64    1      f32, f64   fused multiply-add
//   kFourBytes     u8 x i8           4      i32        vpdpbusd
//   kWordPairs     any 8 bits        4      i32        two of kWords, on bytes widened to 16 bits as they are taken
//   kWords         i16 x any 8 bits  2      i32        vpdpwssd, or vpmaddwd and an addition
//   kShortSums     u8 x small i8     4      2 x i16    vpmaddubsw and an addition; EmitSum makes i32 of them
//   kTwoBfloats    bf16 x bf16       2      f32        vdpbf16ps
//
// All integer kinds are exact (sums wrap as i32 does). kWords is for bytes, too, whose A a step has widened before
// (widen.h): sums of two products of bytes fit. vpmaddubsw saturates sums of two products, so that it is for weights
// which are known to be small: of at most 4 bits, 16 bits hold the sums of eight units (kShortSums). The
// four bytes of kWordPairs make two words, of elements 0 and 2 and of elements 1 and 3, because a unit of A comes apart
// into these by one shift and one mask.
//
//   Dot dot = *Dot::Choose(target, DType::kU8, DType::kI8, &why);
//   sum = EmitDot(b, dot, EmitDotSplat(b, dot, EmitUnit(b, dot, row, k, 4), lanes), {words}, sum);
//
// Values and stateless functions. Tested by matmul_test.cc (every pair of types on every level).
#ifndef TESSERA_CODEGEN_EMIT_DOT_H_
#define TESSERA_CODEGEN_EMIT_DOT_H_

#include <algorithm>
#include <optional>
#include <string>

#include "codegen/emit/kernel_builder.h"
#include "codegen/target.h"
#include "tesa/types.h"

namespace tessera {

struct Dot {
  enum class Kind : uint8_t { kOne, kFourBytes, kWordPairs, kWords, kShortSums, kTwoBfloats };

  Kind kind = Kind::kOne;
  DType a = DType::kF32, b = DType::kF32;  // as tensors store them
  int short_units = 0;                     // kShortSums: units whose sums 16 bits hold

  // The quickest kind that multiplies elements of `a` by elements of `b`; nullopt with the reason in *why.
  static std::optional<Dot> Choose(const Target& target, DType a, DType b, std::string* why);

  // u8 x i8 of which none is larger than `largest`, where sums of a few units at a time help the target.
  static std::optional<Dot> OfShortSums(const Target& target, int largest);
  // Of kWordPairs: the same with A widened beforehand.
  std::optional<Dot> OfWords() const;

  DType sum() const { return kind == Kind::kOne ? a : kind == Kind::kTwoBfloats ? DType::kF32 : DType::kI32; }
  int unit() const { return kind == Kind::kOne ? 1 : kind == Kind::kTwoBfloats || kind == Kind::kWords ? 2 : 4; }
  // Words of B that a lane has for a unit.
  int parts() const { return kind == Kind::kWordPairs ? 2 : 1; }
  // The type as which words of B are loaded: 32 bits each, or an element of kOne.
  DType word() const { return kind == Kind::kOne ? b : DType::kI32; }
  // Instructions per vector of sums and unit.
  int instructions(const Target& target) const;
  // Those of them that multiply; additions beside them go to other pipes.
  int multiplications(const Target& target) const;

  // Units in `run` consecutive elements of A. The last one ends with the run: where the run is no multiple of the unit,
  // it overlaps the one before, and B has zeros for what comes twice. So a unit is one load wherever a run has at least
  // as many elements. (bf16 has no overlap: zero times infinity would be NaN.)
  int64_t units(int64_t run) const { return (run + unit() - 1) / unit(); }
  bool overlaps(int64_t run) const { return kind != Kind::kTwoBfloats && run >= unit(); }
  int64_t UnitStart(int64_t number, int64_t run) const {
    return overlaps(run) ? std::min(number * unit(), run - unit()) : number * unit();
  }
  // Elements from its start that the unit has.
  int UnitCount(int64_t number, int64_t run) const {
    return static_cast<int>(std::min<int64_t>(unit(), run - UnitStart(number, run)));
  }

  std::string Key() const;
};

// `count` <= unit elements of A from element `at` of `pointer`, as they lie in memory and zeros behind them: an element
// of kOne, otherwise an i32. Exactly these are read.
IrValue EmitUnit(KernelBuilder& b, const Dot& dot, IrValue pointer, IrValue at, int count);

// Units of elements of `type`, one i32 or one in each lane, as dot.parts() words.
IrValues EmitParts(KernelBuilder& b, const Dot& dot, DType type, IrValue units);

// The parts of a unit of A in all lanes.
IrValues EmitDotSplat(KernelBuilder& b, const Dot& dot, IrValue unit, int lanes);

// What the lanes of `sum` have added up to: sums of kShortSums as i32, others as they are.
IrValue EmitSum(KernelBuilder& b, const Dot& dot, IrValue sum);

// sum + the products of the parts of A and B.
IrValue EmitDot(KernelBuilder& b, const Dot& dot, const IrValues& a_parts, const IrValues& b_parts, IrValue sum);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_DOT_H_
