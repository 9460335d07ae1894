#include "codegen/emit/panels.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/lane_transpose.h"
#include "graph/body.h"

namespace tessera {
namespace {

// Copies in squares that stay in the first-level cache on both sides, whatever the strides are.
template <typename Bits>
void Pack(const std::byte* from_bytes, const PanelSource& s, int64_t width, std::byte* to_bytes) {
  const auto* from = reinterpret_cast<const Bits*>(from_bytes);
  auto* to = reinterpret_cast<Bits*>(to_bytes);
  constexpr int64_t kSquare = 64;
  for (int64_t m = 0; m < s.matrices; ++m) {
    for (int64_t first = 0; first < s.columns; first += width) {
      const int64_t columns = std::min(width, s.columns - first);
      for (int64_t k0 = 0; k0 < s.depth; k0 += kSquare) {
        const int64_t k1 = std::min(s.depth, k0 + kSquare);
        for (int64_t c = 0; c < columns; ++c) {
          const Bits* column = from + m * s.matrix_step + (first + c) * s.column_step;
          for (int64_t k = k0; k < k1; ++k) to[k * width + c] = column[k * s.depth_step];
        }
      }
      to += s.depth * width;
    }
  }
}

// Elements below 32 bits: as they lie in `Bits`, into words whose position in a unit is `Word` wide. Word pairs are
// (0, 2) and (1, 3), all others stand in order.
template <typename Bits, typename Word>
void PackUnits(const std::byte* from_bytes, const PanelSource& s, int64_t width, std::byte* to_bytes) {
  const auto* from = reinterpret_cast<const Bits*>(from_bytes);
  auto* to = reinterpret_cast<Word*>(to_bytes);
  constexpr int64_t kPerWord = 4 / sizeof(Word);
  const int64_t run = s.run == 0 ? s.depth : s.run, unit = s.dot.unit(), parts = s.dot.parts();
  const int64_t units_of_run = s.dot.units(run), unit_words = parts * width;
  for (int64_t m = 0; m < s.matrices; ++m) {
    for (int64_t first = 0; first < s.columns; first += width) {
      const int64_t columns = std::min(width, s.columns - first);
      for (int64_t c = 0; c < columns; ++c) {
        const Bits* column = from + m * s.matrix_step + (first + c) * s.column_step;
        for (int64_t k = 0; k < s.depth; ++k) {
          const int64_t in_run = k % run, number = in_run / unit;
          const int64_t position = in_run - s.dot.UnitStart(number, run);
          const int64_t part = position % parts, place = position / parts;
          const int64_t word = (k / run * units_of_run + number) * unit_words + part * width + c;
          to[word * kPerWord + place] = static_cast<Word>(column[k * s.depth_step]);
        }
      }
      to += s.units() * unit_words * kPerWord;
    }
  }
}

IrValue Times(KernelBuilder& b, IrValue x, int64_t by) { return b.ir().CreateMul(x, b.I64(by), "", true, true); }
IrValue Plus(KernelBuilder& b, IrValue x, IrValue y) { return b.ir().CreateAdd(x, y, "", true, true); }
IrValue Plus(KernelBuilder& b, IrValue x, int64_t y) { return Plus(b, x, b.I64(y)); }

// Writes the kernels that pack while the program runs.
class PackEmitter {
 public:
  // `panels`: where the words go.
  PackEmitter(KernelBuilder& b, const PanelSource& source, int64_t width, int lanes, IrValue panels)
      : b_(b), s_(source), width_(width), lanes_(lanes), panels_(panels) {}

  void Emit() {
    ForEachPanelVector(b_, s_, s_.units() * s_.dot.parts(), width_, lanes_,
                       [&](IrValue matrix, IrValue vector, IrValue to) { EmitVector(matrix, vector, to); });
  }
  // A vector of columns of a matrix; its first word is `to`.
  void EmitVector(IrValue matrix, IrValue vector, IrValue to) {
    to_ = to;
    IrValue from = Times(b_, matrix, s_.matrix_step), column = Times(b_, vector, lanes_);
    s_.depth_step == 1 ? EmitTurned(from, column) : EmitCopied(from, column);
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  int64_t last_unit() const { return s_.units() - 1; }
  bool last_is_odd() const { return s_.depth % s_.dot.unit() != 0; }
  DType stored() const { return s_.dot.kind == Dot::Kind::kOne ? s_.type : DType::kI32; }

  // Stores the parts of units, one a lane, as the words of unit `number` from position `offset` of the vector on.
  void Store(IrValue number, IrValue units, int64_t offset = 0) {
    const IrValues parts = EmitParts(b_, s_.dot, s_.type, units);
    for (size_t p = 0; p < parts.size(); ++p) {
      IrValue at = Plus(b_, to_, Times(b_, number, s_.dot.parts() * width_));
      b_.Store(panels_, Plus(b_, at, static_cast<int64_t>(p) * width_ + offset), stored(), parts[p]);
    }
  }

  // Elements of a column are neighbours, and so a unit is one load:
  //   for unit, lanes at a time:  load lanes units of lanes columns, turn them, store
  //   for the last units:         the same with a mask where a word is an element; otherwise unit by unit, whose
  //                               narrow stores take as long as a square
  void EmitTurned(IrValue from, IrValue first_column) {
    // Columns beyond the last repeat it: nobody looks at what they give.
    IrValues columns;
    for (int l = 0; l < lanes_; ++l) {
      IrValue column = Plus(b_, first_column, l);
      column = ir().CreateSelect(ir().CreateICmpSLT(column, b_.I64(s_.columns)), column, b_.I64(s_.columns - 1));
      columns.push_back(Plus(b_, from, Times(b_, column, s_.column_step)));
    }
    const int64_t unit = s_.dot.unit(), whole = s_.depth / unit, squares = lanes_ == 1 ? 0 : whole / lanes_ * lanes_;
    b_.For("square", b_.I64(0), b_.I64(squares), lanes_, [&](IrValue number) {
      IrValues rows;
      for (int l = 0; l < lanes_; ++l) {
        IrValue address = b_.ElementPointer(b_.arg(0), Plus(b_, columns[l], Times(b_, number, unit)), s_.type);
        const llvm::Align align(TypeInfo(s_.type).bits / 8);
        rows.push_back(ir().CreateAlignedLoad(b_.VectorType(stored(), lanes_), address, align));
      }
      rows = EmitLaneTranspose(b_, rows);
      for (int l = 0; l < lanes_; ++l) Store(Plus(b_, number, l), rows[l]);
    });
    if (s_.dot.kind == Dot::Kind::kOne && b_.target().vector_bits >= 256) {
      if (squares < whole) EmitLastElements(columns, squares);
      return;
    }
    const auto single = [&](IrValue number, int64_t start_of_last) {
      const int64_t count = number != nullptr ? unit : s_.dot.UnitCount(last_unit(), s_.depth);
      IrValue start = number != nullptr ? Times(b_, number, unit) : b_.I64(start_of_last);
      for (int l = 0; l < lanes_; ++l) {
        IrValue bits = EmitUnit(b_, UnitOf(), b_.arg(0), Plus(b_, columns[l], start), static_cast<int>(count));
        if (number == nullptr) bits = WithoutOverlap(bits);
        StoreOne(number != nullptr ? number : b_.I64(last_unit()), bits, l);
      }
    };
    b_.For("single", b_.I64(squares), b_.I64(whole), 1, [&](IrValue number) { single(number, 0); });
    if (last_is_odd()) single(nullptr, s_.dot.UnitStart(last_unit(), s_.depth));
  }

  void EmitLastElements(const IrValues& columns, int64_t first) {
    const int64_t count = s_.depth - first;
    IrValue mask = b_.MaskBelow(b_.I64(count), lanes_), zero = b_.Zero(ComputeType(s_.type), 1);
    IrValues rows;
    for (IrValue column : columns) {
      rows.push_back(b_.Load(b_.arg(0), Plus(b_, column, first), s_.type, lanes_, mask, zero));
    }
    rows = EmitLaneTranspose(b_, rows);
    for (int64_t k = 0; k < count; ++k) Store(b_.I64(first + k), rows[k]);
  }

  void StoreOne(IrValue number, IrValue bits, int lane) {
    if (s_.dot.parts() == 1) return Store(number, bits, lane);
    // Parts come of vectors.
    IrValues parts = EmitParts(b_, s_.dot, s_.type, b_.Splat(bits, 4));
    for (size_t p = 0; p < parts.size(); ++p) {
      IrValue at = Plus(b_, to_, Times(b_, number, s_.dot.parts() * width_));
      b_.Store(panels_, Plus(b_, at, static_cast<int64_t>(p) * width_ + lane), DType::kI32,
               ir().CreateExtractElement(parts[p], uint64_t{0}));
    }
  }

  // The dot whose A are these elements.
  Dot UnitOf() const { return {.kind = s_.dot.kind, .a = s_.type, .b = s_.type}; }

  // The last unit without the elements that the one before has too.
  IrValue WithoutOverlap(IrValue unit) {
    const int64_t twice = last_unit() * s_.dot.unit() - s_.dot.UnitStart(last_unit(), s_.depth);
    if (twice == 0) return unit;
    const uint32_t keep = ~uint32_t{0} << (twice * TypeInfo(s_.type).bits);
    return ir().CreateAnd(unit, llvm::ConstantInt::get(unit->getType(), keep));
  }

  // Columns are neighbours:
  //   for unit:  words = bits of its rows side by side
  void EmitCopied(IrValue from, IrValue first_column) {
    from = Plus(b_, from, first_column);
    const int64_t left = s_.columns % lanes_;
    IrValue mask = left == 0 ? nullptr : b_.MaskBelow(ir().CreateSub(b_.I64(s_.columns), first_column), lanes_);
    const auto row = [&](IrValue k) {
      IrValue at = Plus(b_, from, Times(b_, k, s_.depth_step));
      return b_.Load(b_.arg(0), at, s_.type, lanes_, mask,
                     mask == nullptr ? nullptr : b_.Zero(ComputeType(s_.type), 1));
    };
    const int bits = TypeInfo(s_.type).bits;
    // Elements `first` to `last` of a unit whose first is k.
    const auto store = [&](IrValue number, IrValue k, int64_t first, int64_t last) {
      if (s_.dot.kind == Dot::Kind::kOne) return Store(number, row(k));
      IrValue units = nullptr;
      for (int64_t e = first; e < last; ++e) {
        // The element's own bits: what Load widened them by is cut off again.
        IrValue element = b_.NarrowToStorage(row(Plus(b_, k, e)), s_.type);
        element = ir().CreateZExt(element, b_.VectorType(DType::kI32, lanes_));
        element = ir().CreateShl(element, e * bits);
        units = units == nullptr ? element : ir().CreateOr(units, element);
      }
      Store(number, units);
    };
    const int64_t unit = s_.dot.unit(), whole = s_.depth / unit;
    b_.For("copy", b_.I64(0), b_.I64(whole), 1,
           [&](IrValue number) { store(number, Times(b_, number, unit), 0, unit); });
    if (!last_is_odd()) return;
    const int64_t start = s_.dot.UnitStart(last_unit(), s_.depth);
    store(b_.I64(last_unit()), b_.I64(start), last_unit() * unit - start, s_.dot.UnitCount(last_unit(), s_.depth));
  }

  KernelBuilder& b_;
  const PanelSource& s_;
  const int64_t width_;
  const int lanes_;
  IrValue panels_;
  IrValue to_ = nullptr;  // the word of the first unit and column
};

}  // namespace

void ForEachPanelVector(KernelBuilder& b, const PanelSource& s, int64_t panel_depth, int64_t width, int lanes,
                        const std::function<void(IrValue matrix, IrValue vector, IrValue to)>& body) {
  auto& ir = b.ir();
  const int64_t vectors = DivideUp(s.columns, lanes), panel_vectors = width / lanes,
                panels = DivideUp(s.columns, width);
  b.For("task", b.begin(), b.end(), 1, [&](IrValue task) {
    IrValue matrix = ir.CreateUDiv(task, b.I64(vectors)), vector = ir.CreateURem(task, b.I64(vectors));
    IrValue panel = ir.CreateUDiv(vector, b.I64(panel_vectors)), in_panel = ir.CreateURem(vector, b.I64(panel_vectors));
    IrValue panel_number = Plus(b, Times(b, matrix, panels), panel);
    body(matrix, vector, Plus(b, Times(b, panel_number, panel_depth * width), Times(b, in_panel, lanes)));
  });
}

void ForEachVectorOfPanel(KernelBuilder& b, const PanelSource& s, int64_t width, int lanes, IrValue panel,
                          const std::function<void(IrValue vector, IrValue to)>& body) {
  auto& ir = b.ir();
  const int64_t all = DivideUp(s.columns, lanes), most = width / lanes;
  IrValue first = Times(b, panel, most), count = b.I64(most);
  if (all % most != 0) {
    IrValue left = ir.CreateSub(b.I64(all), first);
    count = ir.CreateSelect(ir.CreateICmpSLT(left, count), left, count);
  }
  b.For("vector", b.I64(0), count, 1, [&](IrValue v) { body(Plus(b, first, v), Times(b, v, lanes)); });
}

int64_t PackedWords(const PanelSource& source, int64_t width) {
  return source.matrices * DivideUp(source.columns, width) * source.units() * source.dot.parts() * width;
}

int64_t PackedBytes(const PanelSource& source, int64_t width) {
  return ByteSize(source.dot.word(), PackedWords(source, width));
}

Tensor PackPanels(const Tensor& tensor, const PanelSource& source, int64_t width) {
  Tensor packed(source.dot.word(), Shape({PackedWords(source, width)}));
  const std::byte* from = tensor.bytes().data();
  std::byte* to = packed.mutable_bytes().data();
  switch (source.dot.kind) {
    case Dot::Kind::kOne:
      TypeInfo(source.type).bits == 64 ? Pack<uint64_t>(from, source, width, to)
                                       : Pack<uint32_t>(from, source, width, to);
      break;
    case Dot::Kind::kShortSums:
    case Dot::Kind::kFourBytes: PackUnits<uint8_t, uint8_t>(from, source, width, to); break;
    case Dot::Kind::kTwoBfloats: PackUnits<uint16_t, uint16_t>(from, source, width, to); break;
    case Dot::Kind::kWordPairs:
    case Dot::Kind::kWords:
      source.type == DType::kI8 ? PackUnits<int8_t, int16_t>(from, source, width, to)
                                : PackUnits<uint8_t, int16_t>(from, source, width, to);
      break;
  }
  return packed;
}

PlanStep PlanPackPanels(const PanelSource& source, int64_t width, StepArg from, StepArg to, const Target& target) {
  TES_CHECK(source.depth_step == 1 || source.column_step == 1, source.depth_step);
  TES_CHECK(source.dot.kind != Dot::Kind::kWords, source.dot.Key());
  TES_CHECK(source.run == 0 || source.run == source.depth, source.run);
  const int lanes = target.Lanes(TypeInfo(source.dot.word()).bits);
  PlanStep step;
  step.kernel.family = "pack_panels";
  step.kernel.num_args = 2;
  step.kernel.key = internal::Join("pack_panels ", Name(source.type), " for ", source.dot.Key(), " ", source.matrices,
                                   "x", source.depth, "x", source.columns, " steps ", source.matrix_step, " ",
                                   source.depth_step, " ", source.column_step, " width ", width);
  step.kernel.emit = [source, width, lanes](KernelBuilder& b) {
    PackEmitter(b, source, width, lanes, b.arg(1)).Emit();
  };
  step.args = {from, to};
  step.tasks = source.matrices * DivideUp(source.columns, lanes);
  step.bytes = static_cast<double>(ByteSize(source.type, source.matrices * source.depth * source.columns) +
                                   PackedBytes(source, width));
  return step;
}

void EmitPackPanel(KernelBuilder& b, const PanelSource& source, int64_t width, IrValue panel, IrValue to) {
  TES_CHECK(source.matrices == 1 && (source.depth_step == 1 || source.column_step == 1), source.matrices);
  const int lanes = b.target().Lanes(TypeInfo(source.dot.word()).bits);
  PackEmitter pack(b, source, width, lanes, to);
  ForEachVectorOfPanel(b, source, width, lanes, panel,
                       [&](IrValue vector, IrValue at) { pack.EmitVector(b.I64(0), vector, at); });
}

double PackPanelsMicroseconds(const PanelSource& source, const Target& target) {
  const MachineModel machine(target);
  const int lanes = target.Lanes(TypeInfo(source.dot.word()).bits);
  double operations = 0, loads = 2;
  if (source.depth_step == 1) {
    for (int l = lanes; l > 1; l /= 2) ++operations;
  } else if (source.dot.unit() > 1) {
    operations = 2 * source.dot.unit();
    loads = source.dot.unit() + 1;
  }
  if (source.dot.parts() > 1) operations += 3;
  const double vectors = static_cast<double>(source.matrices * source.units() * DivideUp(source.columns, lanes));
  return vectors * (loads * machine.load_ns + operations * machine.op_ns) / 1000 + machine.step_ns / 1000;
}

}  // namespace tessera
