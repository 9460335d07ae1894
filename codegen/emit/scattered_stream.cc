#include "codegen/emit/scattered_stream.h"

#include <algorithm>
#include <bit>
#include <span>

#include "base/hash.h"
#include "base/status.h"
#include "codegen/emit/x86_assembler.h"

namespace tessera {
namespace {

constexpr X86Register kPanel = X86Register::kRdi, kWeights = X86Register::kRsi, kSums = X86Register::kRdx;
// Where the stream is: bases that follow what they address, so that displacements are short.
constexpr X86Register kAtPanel = X86Register::kRax;
// Of a loop: what is left to do.
constexpr X86Register kCount = X86Register::kRcx;
constexpr X86Register kOperands[kMaxStreamOperands] = {X86Register::kR8, X86Register::kR9};
// What to fetch ahead.
constexpr X86Register kNextCode = X86Register::kR8, kNextWeights = X86Register::kR9;
constexpr int64_t kLine = 64;

int64_t FloorDivide(int64_t x, int64_t y) { return x >= 0 ? x / y : -((-x + y - 1) / y); }

// Writes the functions. `vectors` registers make a panel's 16 lanes.
class StreamEncoder {
 public:
  explicit StreamEncoder(const StreamForm& form)
      : form_(form),
        vectors_(form.avx512 ? 1 : 2),
        x_(form.MaxGroupRows() * vectors_),
        starts_with_operand_(!form.adds && !form.finish.empty() && form.finish[0].op == StreamStep::Op::kAdd &&
                             form.finish[0].with == StreamStep::With::kRow),
        code_(form.avx512 ? X86Assembler::Width::k512 : X86Assembler::Width::k256) {}

  // `plain`: the same stream without fetching ahead, which says how much there is; may be nullptr.
  StreamCode Encode(const ScatteredPattern& pattern, const ScatteredBlocks& blocks, const StreamCode* plain) {
    TES_CHECK(blocks.group_rows <= form_.MaxGroupRows(), blocks.group_rows);
    TES_CHECK(form_.finish.empty() || (form_.avx512 && form_.unit == SparseUnit::kF32), form_.Key());
    TES_CHECK(form_.finish.empty() || (form_.panels == 0 && blocks.depth_chunk == 0), form_.Key());
    StreamCode result;
    const int64_t num_blocks = blocks.blocks();
    result.code_share.assign(num_blocks, 0);
    result.weights_share.assign(num_blocks, 0);
    StreamVisitor visitor;
    visitor.on_block = [&](int64_t block) {
      code_.Align(64);
      result.entry.push_back(code_.size());
      result.first_element.push_back(elements_);
      first_row_ = blocks.first_row(block);
      weights_at_ = 0;
      code_.Add(kWeights, kWeightsReach);
      weights_base_ = kWeightsReach;
      fetches_ = fetched_ = code_fetches_ = 0;
      if (plain != nullptr && block + 1 < num_blocks) {
        // Of the next block, and a little more code than it has without fetches of its own.
        const auto end = [&](const std::vector<int64_t>& begins, int64_t last) {
          return block + 2 < num_blocks ? begins[block + 2] : last;
        };
        const int64_t code = end(plain->entry, static_cast<int64_t>(plain->bytes.size())) - plain->entry[block + 1];
        const int64_t weights = end(plain->first_element, pattern.num_kept()) - plain->first_element[block + 1];
        const auto lines = [&](int64_t bytes) { return (bytes + kLine * form_.panels - 1) / (kLine * form_.panels); };
        code_fetches_ = lines(code + code / 50);
        fetches_ = code_fetches_ + lines(weights * 4);
        result.code_share[block] = code_fetches_ * kLine;
        result.weights_share[block] = (fetches_ - code_fetches_) * kLine;
        block_elements_ = plain->first_element[block + 1] - plain->first_element[block];
        seen_ = 0;
      }
    };
    visitor.on_chunk = [&](int64_t first_column) { starts_ = first_column == 0 && !form_.adds; };
    visitor.on_group = [&](int64_t first_row, int rows) {
      group_row_ = first_row;
      for (int k = 0; k < rows * vectors_; ++k) {
        if (!starts_) {
          code_.Load(k, kSums, SumAt(k));
        } else if (starts_with_operand_) {
          code_.Broadcast(k, kOperands[form_.finish[0].operand], OperandAt(form_.finish[0], k));
        } else {
          code_.Zero(k);
        }
      }
      code_.Copy(kAtPanel, kPanel);
      panel_base_ = 0;
    };
    visitor.on_column = [&](int64_t k) {
      if (!in_run_) Column(k);
    };
    visitor.on_element = [&](int64_t row, int64_t) {
      if (!in_run_) Element(static_cast<int>(row - group_row_));
    };
    visitor.on_run = [&](int64_t k, int64_t columns, uint32_t rows) {
      Run(k, columns, rows);
      in_run_ = true;
    };
    visitor.after_run = [&] { in_run_ = false; };
    visitor.after_group = [&](int64_t, int rows) {
      for (size_t s = starts_with_operand_ ? 1 : 0; s < form_.finish.size(); ++s) Finish(form_.finish[s], rows);
      for (int k = 0; k < rows * vectors_; ++k) code_.Store(k, kSums, SumAt(k));
    };
    visitor.after_block = [&](int64_t) {
      while (fetched_ < fetches_) Fetch();
      code_.Return();
    };
    WalkStream(pattern, blocks, visitor);
    result.bytes = code_.TakeBytes();
    return result;
  }

 private:
  // Where register k of the group lies among the sums.
  int32_t SumAt(int k) const {
    const int64_t row = group_row_ - first_row_ + k / vectors_;
    return static_cast<int32_t>(row * form_.row_bytes + k % vectors_ * (kPanelLanes / vectors_) * 4);
  }
  // Where row k of the group finds its part of a step's operand.
  int32_t OperandAt(const StreamStep& step, int k) const {
    return static_cast<int32_t>((group_row_ - first_row_ + k) * step.row_bytes);
  }

  // The panel's register is free behind a group's last column.
  void Finish(const StreamStep& step, int rows) {
    using Op = X86Assembler::F32Op;
    constexpr Op kOps[] = {Op::kAdd, Op::kSub, Op::kMul, Op::kMin, Op::kMax};
    const Op op = kOps[static_cast<int>(step.op)];
    if (step.with == StreamStep::With::kConstant) {
      code_.Set(kAtPanel, static_cast<int32_t>(std::bit_cast<uint32_t>(step.constant)));
      code_.Fill(x_, kAtPanel);
    }
    for (int k = 0; k < rows; ++k) {
      if (step.with != StreamStep::With::kConstant) {
        const bool broadcast = step.with == StreamStep::With::kRow;
        code_.Arithmetic(op, k, k, kOperands[step.operand], OperandAt(step, k), broadcast);
      } else if (op == Op::kMin || op == Op::kMax) {
        code_.Arithmetic(op, k, x_, k);  // in this order a sum that is a NaN stays one
      } else {
        code_.Arithmetic(op, k, k, x_);
      }
    }
  }

  void Column(int64_t k) {
    const int64_t at = k * form_.column_bytes;
    // A step to where this column is the first within reach; back again after a run that other rows have elements in.
    if (at - panel_base_ >= kPanelReach || at - panel_base_ < -kPanelReach) {
      const int64_t step = FloorDivide(at - panel_base_, kPanelReach) * kPanelReach + kPanelReach;
      code_.Add(kAtPanel, static_cast<int32_t>(step));
      panel_base_ += step;
    }
    LoadColumn(static_cast<int32_t>(at - panel_base_));
  }
  void LoadColumn(int32_t displacement) {
    for (int v = 0; v < vectors_; ++v) code_.Load(x_ + v, kAtPanel, displacement + v * 32);
  }

  // Row `row` of the group.
  void Element(int row) {
    if (weights_at_ - weights_base_ >= kWeightsReach) {
      code_.Add(kWeights, 2 * kWeightsReach);
      weights_base_ += 2 * kWeightsReach;
    }
    MultiplyAdd(row * vectors_, static_cast<int32_t>(weights_at_ - weights_base_));
    weights_at_ += 4;
    ++elements_;
    ++seen_;
    while (fetched_ < fetches_ && fetched_ * block_elements_ < seen_ * fetches_) Fetch();
  }

  // Asks for the next line of the block that comes next.
  void Fetch() {
    const bool code = fetched_ < code_fetches_;
    code_.Prefetch(code ? kNextCode : kNextWeights,
                   static_cast<int32_t>((code ? fetched_ : fetched_ - code_fetches_) * kLine));
    ++fetched_;
  }

  // The loop over `columns` columns that `rows` keep, two at a time, the odd one before it.
  void Run(int64_t k, int64_t columns, uint32_t rows) {
    if (columns % 2 != 0) {
      Column(k);
      for (uint32_t left = rows; left != 0; left &= left - 1) Element(std::countr_zero(left));
      ++k;
    }
    // Both pointers to where the loop begins: they move with it.
    const int64_t at = k * form_.column_bytes;
    if (at != panel_base_) code_.Add(kAtPanel, static_cast<int32_t>(at - panel_base_));
    if (weights_at_ != weights_base_) code_.Add(kWeights, static_cast<int32_t>(weights_at_ - weights_base_));
    const int32_t column_bytes = 4 * std::popcount(rows);
    code_.Set(kCount, static_cast<int32_t>(columns / 2));
    const int64_t top = code_.size();
    for (int column = 0; column < 2; ++column) {
      LoadColumn(static_cast<int32_t>(column * form_.column_bytes));
      int32_t weight = column * column_bytes;
      for (uint32_t left = rows; left != 0; left &= left - 1, weight += 4) {
        MultiplyAdd(std::countr_zero(left) * vectors_, weight);
      }
    }
    code_.Add(kAtPanel, static_cast<int32_t>(2 * form_.column_bytes));
    code_.Add(kWeights, 2 * column_bytes);
    code_.CountDown(kCount, top);
    const int64_t looped = columns / 2 * 2;
    panel_base_ = at + looped * form_.column_bytes;
    weights_at_ += looped * column_bytes;
    weights_base_ = weights_at_;
    elements_ += looped * std::popcount(rows);
    seen_ += looped * std::popcount(rows);
  }

  // The row's registers, `sum` on, += the panel's × the unit of weights at `displacement`.
  void MultiplyAdd(int sum, int32_t displacement) {
    if (form_.avx512 && form_.unit == SparseUnit::kF32) return code_.MultiplyAdd(sum, x_, kWeights, displacement);
    if (form_.avx512 && form_.unit == SparseUnit::kInt8x4) return code_.DotAdd(sum, x_, kWeights, displacement);
    const int w = x_ + vectors_;
    code_.Broadcast(w, kWeights, displacement);
    for (int v = 0; v < vectors_; ++v) {
      if (form_.unit == SparseUnit::kF32) {
        code_.MultiplyAdd(sum + v, x_ + v, w);
      } else {
        const int product = v == vectors_ - 1 ? w : w + 1;  // the last one needs the weights no more
        code_.MultiplyPairs(product, x_ + v, w);
        code_.AddInt32(sum + v, sum + v, product);
      }
    }
  }

  // Bytes that a one-byte displacement reaches on either side; AVX2's counts bytes.
  static constexpr int32_t kWideWeights = 512, kNarrowWeights = 128;
  static constexpr int64_t kFarColumns = 2048;
  const StreamForm form_;
  const int vectors_;
  const int x_;                     // the panel's registers, then the broadcast, then a product
  const bool starts_with_operand_;  // which a row adds to its sum anyway
  const int32_t kWeightsReach = form_.avx512 ? kWideWeights : kNarrowWeights;
  // Columns that are further apart than a few within reach take long displacements instead of a step each.
  const int32_t kPanelReach = form_.column_bytes > kFarColumns ? 1 << 30 : form_.avx512 ? 8192 : 128;
  X86Assembler code_;
  int64_t elements_ = 0, first_row_ = 0, group_row_ = 0;
  int64_t weights_at_ = 0, weights_base_ = 0, panel_base_ = 0;  // bytes
  int64_t fetches_ = 0, code_fetches_ = 0, fetched_ = 0;        // lines: a block's, of them of code; so far
  int64_t block_elements_ = 0, seen_ = 0;
  bool in_run_ = false;  // whose code is written
  bool starts_ = true;   // sums of the chunk's groups, at zero
};

}  // namespace

std::string_view Name(SparseUnit unit) {
  constexpr std::string_view kNames[] = {"f32", "i8x4", "i16x2"};
  return kNames[static_cast<int>(unit)];
}

std::string StreamForm::Key() const {
  std::string key = internal::Join(Name(unit), avx512 ? " evex" : " vex", adds ? " adds" : "",
                                   panels > 0 ? " fetches" : "", " columns ", column_bytes, " rows ", row_bytes);
  for (const StreamStep& step : finish) {
    key += internal::Join(" then ", static_cast<int>(step.op), " ", static_cast<int>(step.with), " ",
                          std::bit_cast<uint32_t>(step.constant), " ", step.operand, " ", step.row_bytes);
  }
  return key;
}

namespace {

// Calls visit(i) for the set bits [begin, begin + count) of `bits`, in order, i counted from `begin`.
template <typename Visit>
void ForEachSet(const Bitmap& bits, int64_t begin, int64_t count, Visit visit) {
  const std::span<const uint64_t> words = bits.words();
  for (int64_t at = begin; at < begin + count;) {
    const int64_t offset = at % 64, here = std::min(64 - offset, begin + count - at);
    uint64_t word = words[static_cast<size_t>(at / 64)] >> offset;
    if (here < 64) word &= (uint64_t{1} << here) - 1;
    for (; word != 0; word &= word - 1) visit(at - begin + std::countr_zero(word));
    at += here;
  }
}

// Calls visit(row, depth) for every kept element; depths of one row come in order. Where one of the steps is 1, which
// is how matrices lie, only set bits are looked at: of a pruned network of 85 million weights that saves a second.
template <typename Visit>
void ForEachKept(const Bitmap& kept, int64_t rows, int64_t depth, int64_t row_step, int64_t depth_step, Visit visit) {
  if (depth_step == 1) {
    for (int64_t row = 0; row < rows; ++row) {
      ForEachSet(kept, row * row_step, depth, [&](int64_t k) { visit(row, k); });
    }
  } else if (row_step == 1) {
    for (int64_t k = 0; k < depth; ++k) {
      ForEachSet(kept, k * depth_step, rows, [&](int64_t row) { visit(row, k); });
    }
  } else {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t k = 0; k < depth; ++k) {
        if (kept[row * row_step + k * depth_step]) visit(row, k);
      }
    }
  }
}

}  // namespace

ScatteredPattern ScatteredPattern::Make(const Bitmap& kept, int64_t rows, int64_t depth, int64_t row_step,
                                        int64_t depth_step, int elements) {
  ScatteredPattern pattern;
  pattern.rows = rows;
  pattern.depth = (depth + elements - 1) / elements;
  // How many units each row keeps, then which, behind each other.
  std::vector<int32_t> last(static_cast<size_t>(rows), -1);  // unit of each row
  const auto for_each_unit = [&](auto visit) {
    std::fill(last.begin(), last.end(), -1);
    ForEachKept(kept, rows, depth, row_step, depth_step, [&](int64_t row, int64_t k) {
      const auto unit = static_cast<int32_t>(elements == 1 ? k : k / elements);
      if (last[row] == unit) return;
      last[row] = unit;
      visit(row, unit);
    });
  };
  pattern.begin.assign(static_cast<size_t>(rows) + 1, 0);
  for_each_unit([&](int64_t row, int32_t) { ++pattern.begin[row + 1]; });
  for (int64_t row = 0; row < rows; ++row) pattern.begin[row + 1] += pattern.begin[row];
  pattern.columns.resize(static_cast<size_t>(pattern.begin[rows]));
  auto next = pattern.begin;
  for_each_unit([&](int64_t row, int32_t unit) { pattern.columns[next[row]++] = unit; });
  return pattern;
}

double ScatteredPattern::density() const {
  return rows * depth == 0 ? 1 : static_cast<double>(num_kept()) / static_cast<double>(rows * depth);
}

std::string ScatteredPattern::Digest() const {
  Hasher hasher;
  hasher.AddValue(rows).AddValue(depth);
  hasher.AddBytes(std::as_bytes(std::span(begin))).AddBytes(std::as_bytes(std::span(columns)));
  return hasher.Finish().ToHex();
}

namespace {

// The columns of one group.
class GroupWalk {
 public:
  // rows_at[k]: which of the rows from `first_row` on keep column k.
  GroupWalk(const StreamVisitor& visitor, std::vector<uint32_t>& rows_at, int64_t first_row, bool rolled)
      : visitor_(visitor), rows_at_(rows_at), first_row_(first_row), rolled_(rolled) {}

  void Walk(int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end;) {
      const auto [rows, columns] = rolled_ ? RunAt(k, end) : std::pair(uint32_t{0}, int64_t{0});
      if (columns == 0) {
        if (rows_at_[k] != 0) Column(k, rows_at_[k]);
        ++k;
        continue;
      }
      visitor_.on_run(k, columns, rows);
      for (int64_t c = k; c < k + columns; ++c) {
        Column(c, rows);
        rows_at_[c] &= ~rows;
      }
      visitor_.after_run();
      // What is left there may have runs of its own.
      Walk(k, k + columns);
      k += columns;
    }
  }

 private:
  void Column(int64_t k, uint32_t rows) {
    visitor_.on_column(k);
    for (; rows != 0; rows &= rows - 1) visitor_.on_element(first_row_ + std::countr_zero(rows), k);
  }

  // The rows that columns k and k + 1 share, and how many columns from k on all of them keep; 0 columns: no run.
  std::pair<uint32_t, int64_t> RunAt(int64_t k, int64_t end) const {
    if (end - k < kMinRunColumns) return {0, 0};
    const uint32_t rows = rows_at_[k] & rows_at_[k + 1];
    if (std::popcount(rows) < kMinRunRows) return {0, 0};
    int64_t columns = 2;
    while (k + columns < end && (rows_at_[k + columns] & rows) == rows) ++columns;
    if (columns < kMinRunColumns) return {0, 0};
    return {rows, columns};
  }

  const StreamVisitor& visitor_;
  std::vector<uint32_t>& rows_at_;
  const int64_t first_row_;
  const bool rolled_;
};

}  // namespace

std::string ScatteredBlocks::Key() const {
  std::string key = internal::Join("blocks of ", block_rows, " groups of ", group_rows, rolled ? " rolled" : "");
  if (depth_chunk != 0) key += internal::Join(" chunks of ", depth_chunk);
  for (int64_t cut : cuts) key += internal::Join(" ", cut);
  return key;
}

void WalkStream(const ScatteredPattern& pattern, const ScatteredBlocks& blocks, const StreamVisitor& visitor) {
  TES_CHECK(blocks.group_rows <= 32 && blocks.rows == pattern.rows, blocks.group_rows);
  const int64_t depth = pattern.depth, chunk = blocks.depth_chunk == 0 ? depth : blocks.depth_chunk;
  std::vector<std::vector<uint32_t>> rows_at;  // of each group and column: which rows of the group keep it
  for (int64_t block = 0; block < blocks.blocks(); ++block) {
    visitor.on_block(block);
    const int64_t rows = blocks.rows_of(block), groups = blocks.groups_of(block);
    const auto first_of = [&](int64_t group) { return blocks.first_row(block) + rows * group / groups; };
    rows_at.resize(groups);
    for (int64_t g = 0; g < groups; ++g) {
      rows_at[g].assign(depth, 0);
      for (int64_t row = first_of(g); row < first_of(g + 1); ++row) {
        for (int64_t k = pattern.begin[row]; k < pattern.begin[row + 1]; ++k) {
          rows_at[g][pattern.columns[k]] |= uint32_t{1} << (row - first_of(g));
        }
      }
    }
    for (int64_t k = 0; k < std::max<int64_t>(depth, 1); k += std::max<int64_t>(chunk, 1)) {
      visitor.on_chunk(k);
      const int64_t end = std::min(depth, k + chunk);
      for (int64_t g = 0; g < groups; ++g) {
        const auto any = [](uint32_t bits) { return bits != 0; };
        if (k > 0 && std::none_of(rows_at[g].begin() + k, rows_at[g].begin() + end, any)) continue;
        const int64_t first = first_of(g);
        const auto count = static_cast<int>(first_of(g + 1) - first);
        visitor.on_group(first, count);
        GroupWalk(visitor, rows_at[g], first, blocks.rolled).Walk(k, end);
        visitor.after_group(first, count);
      }
    }
    visitor.after_block(block);
  }
}

StreamCounts CountStream(const ScatteredPattern& pattern, const ScatteredBlocks& blocks) {
  StreamCounts counts;
  StreamVisitor visitor;
  visitor.on_group = [&](int64_t, int rows) {
    ++counts.groups;
    counts.starts += rows;
  };
  visitor.on_column = [&](int64_t) { ++counts.column_loads; };
  visitor.on_element = [&](int64_t, int64_t) { ++counts.elements; };
  visitor.on_run = [&](int64_t, int64_t columns, uint32_t rows) {
    ++counts.runs;
    counts.run_columns += columns;
    counts.run_rows += std::popcount(rows);
    counts.run_elements += columns * std::popcount(rows);
  };
  WalkStream(pattern, blocks, visitor);
  return counts;
}

StreamCode EncodeStream(const ScatteredPattern& pattern, const ScatteredBlocks& blocks, const StreamForm& form) {
  StreamForm plain = form;
  plain.panels = 0;
  StreamCode code = StreamEncoder(plain).Encode(pattern, blocks, nullptr);
  if (form.panels == 0 || blocks.blocks() == 1) return code;
  return StreamEncoder(form).Encode(pattern, blocks, &code);
}

}  // namespace tessera
