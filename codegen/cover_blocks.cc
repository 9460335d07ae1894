#include "codegen/cover_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>

#include "base/status.h"

namespace tessera {
namespace {

constexpr int kLevels = std::bit_width(uint64_t{kMaxCoverBlock});  // 1, 2, …, kMaxCoverBlock

int LevelOf(int64_t extent) { return std::countr_zero(static_cast<uint64_t>(extent)); }

// The bits [begin, begin + width) of a row; they lie in one word because widths are powers of two.
int CountInRow(const BitMatrix& kept, int64_t row, int64_t begin, int64_t width) {
  const uint64_t word = kept.row(row)[begin / 64] >> (begin % 64);
  return std::popcount(width == 64 ? word : word & ((uint64_t{1} << width) - 1));
}

int64_t CountInBlock(const BitMatrix& kept, int64_t row, int64_t k, int64_t height, int64_t width) {
  int64_t count = 0;
  for (int64_t r = row; r < std::min(kept.rows(), row + height); ++r) count += CountInRow(kept, r, k, width);
  return count;
}

// Adds the bits of `word` to counts[f] for its fields f of `width` bits.
void CountFields(uint64_t word, int64_t width, int32_t* counts) {
  if (width <= 4) {  // few bits to a field: one by one, as most matrices here are pruned
    for (const int shift = LevelOf(width); word != 0; word &= word - 1) ++counts[std::countr_zero(word) >> shift];
    return;
  }
  // Counts of 2, 4, 8, … bits side by side in the word.
  word -= word >> 1 & 0x5555555555555555;
  word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
  word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
  if (width >= 16) word = (word + (word >> 8)) & 0x00ff00ff00ff00ff;
  if (width >= 32) word = (word + (word >> 16)) & 0x0000ffff0000ffff;
  if (width >= 64) word = (word + (word >> 32)) & 0x00000000ffffffff;
  const uint64_t field = width == 64 ? ~uint64_t{0} : (uint64_t{1} << width) - 1;
  for (int64_t at = 0; at < 64; at += width) *counts++ += static_cast<int32_t>(word >> at & field);
}

// One square of the largest extents, halved down to single elements: what each piece costs at best, from the smallest
// up.
class Square {
 public:
  Square(std::span<const CoverCosts::Block> blocks, double scattered_ns) : scattered_ns_(scattered_ns) {
    for (auto& column : block_ns_) column.fill(-1);
    for (const CoverCosts::Block& block : blocks) {
      block_ns_[LevelOf(block.height)][LevelOf(block.width)] = block.ns;
      tall_ = std::max(tall_, LevelOf(block.height));
      wide_ = std::max(wide_, LevelOf(block.width));
    }
    size_t nodes = 0;
    for (int a = 0; a <= tall_; ++a) {
      for (int b = 0; b <= wide_; ++b) {
        first_[a][b] = nodes;
        nodes += size_t{1} << (tall_ - a + wide_ - b);
      }
    }
    nodes_.resize(nodes);
  }

  int64_t height() const { return int64_t{1} << tall_; }
  int64_t width() const { return int64_t{1} << wide_; }

  // Adds the blocks of the square whose first element is (row, k).
  void Cut(const BitMatrix& kept, int64_t row, int64_t k, std::vector<CoverBlock>& blocks) {
    if (CountInBlock(kept, row, k, height(), width()) == 0) return;
    for (int64_t r = 0; r < height(); ++r) {
      for (int64_t c = 0; c < width(); ++c) {
        Node& node = At(0, 0, r, c);
        node.kept = row + r < kept.rows() && k + c < kept.columns() && kept.Get(row + r, k + c) ? 1 : 0;
        Choose(0, 0, r, c);
      }
    }
    for (int a = 0; a <= tall_; ++a) {
      for (int b = a == 0 ? 1 : 0; b <= wide_; ++b) {
        for (int64_t r = 0; r < height() >> a; ++r) {
          for (int64_t c = 0; c < width() >> b; ++c) Choose(a, b, r, c);
        }
      }
    }
    Collect(tall_, wide_, 0, 0, row, k, blocks);
  }

 private:
  enum class Choice : uint8_t { kScattered, kBlock, kHalveRows, kHalveColumns };
  struct Node {
    float ns = 0;
    uint16_t kept = 0;
    Choice choice = Choice::kScattered;
  };

  // Piece (r, c) of the pieces of 2^a rows and 2^b columns.
  Node& At(int a, int b, int64_t r, int64_t c) { return nodes_[first_[a][b] + (r << (wide_ - b)) + c]; }

  void Choose(int a, int b, int64_t r, int64_t c) {
    Node& node = At(a, b, r, c);
    const Node *top = nullptr, *bottom = nullptr, *left = nullptr, *right = nullptr;
    if (a > 0) top = &At(a - 1, b, 2 * r, c), bottom = &At(a - 1, b, 2 * r + 1, c);
    if (b > 0) left = &At(a, b - 1, r, 2 * c), right = &At(a, b - 1, r, 2 * c + 1);
    if (top != nullptr) {
      node.kept = static_cast<uint16_t>(top->kept + bottom->kept);
    } else if (left != nullptr) {
      node.kept = static_cast<uint16_t>(left->kept + right->kept);
    }
    node.choice = Choice::kScattered;
    node.ns = static_cast<float>(node.kept * scattered_ns_);
    if (node.kept == 0) return;
    const auto offer = [&](Choice choice, float ns) {
      // Halves are not taken for what rounding makes of equal sums.
      if (ns >= node.ns * 0.99999F) return;
      node.choice = choice;
      node.ns = ns;
    };
    if (block_ns_[a][b] >= 0) offer(Choice::kBlock, static_cast<float>(block_ns_[a][b]));
    if (top != nullptr) offer(Choice::kHalveRows, top->ns + bottom->ns);
    if (left != nullptr) offer(Choice::kHalveColumns, left->ns + right->ns);
  }

  void Collect(int a, int b, int64_t r, int64_t c, int64_t row, int64_t k, std::vector<CoverBlock>& blocks) {
    const Node& node = At(a, b, r, c);
    switch (node.choice) {
      case Choice::kScattered: return;
      case Choice::kBlock:
        blocks.push_back({row + (r << a), k + (c << b), int64_t{1} << a, int64_t{1} << b, node.kept});
        return;
      case Choice::kHalveRows:
        Collect(a - 1, b, 2 * r, c, row, k, blocks);
        Collect(a - 1, b, 2 * r + 1, c, row, k, blocks);
        return;
      case Choice::kHalveColumns:
        Collect(a, b - 1, r, 2 * c, row, k, blocks);
        Collect(a, b - 1, r, 2 * c + 1, row, k, blocks);
        return;
    }
  }

  const double scattered_ns_;
  std::array<std::array<double, kLevels>, kLevels> block_ns_;  // by levels; -1: no such block
  int tall_ = 0, wide_ = 0;                                    // levels of the square
  std::array<std::array<size_t, kLevels>, kLevels> first_{};
  std::vector<Node> nodes_;
};

}  // namespace

void ForEachBlock(const BitMatrix& kept, int64_t height, int64_t width,
                  const std::function<void(const CoverBlock&)>& visit) {
  TES_CHECK(std::has_single_bit(static_cast<uint64_t>(height)) && std::has_single_bit(static_cast<uint64_t>(width)) &&
                height <= kMaxCoverBlock && width <= kMaxCoverBlock,
            height, "x", width);
  const int64_t words = (kept.columns() + 63) / 64, fields = 64 / width;
  std::vector<int32_t> counts(static_cast<size_t>(words * fields));
  for (int64_t row = 0; row < kept.rows(); row += height) {
    std::fill(counts.begin(), counts.end(), 0);
    for (int64_t r = row; r < std::min(kept.rows(), row + height); ++r) {
      for (int64_t w = 0; w < words; ++w) {
        if (kept.row(r)[w] != 0) CountFields(kept.row(r)[w], width, &counts[static_cast<size_t>(w * fields)]);
      }
    }
    for (int64_t k = 0; k < kept.columns(); k += width) {
      const int32_t count = counts[static_cast<size_t>(k / width)];
      if (count > 0) visit({row, k, height, width, count});
    }
  }
}

std::vector<CoverBlock> NonEmptyBlocks(const BitMatrix& kept, int64_t height, int64_t width) {
  std::vector<CoverBlock> blocks;
  ForEachBlock(kept, height, width, [&](const CoverBlock& block) { blocks.push_back(block); });
  return blocks;
}

std::vector<CoverBlock> BlocksWorthTaking(const BitMatrix& kept, const CoverCosts::Block& block, double scattered_ns) {
  std::vector<CoverBlock> blocks;
  ForEachBlock(kept, block.height, block.width, [&](const CoverBlock& found) {
    if (block.ns < static_cast<double>(found.kept) * scattered_ns) blocks.push_back(found);
  });
  return blocks;
}

std::vector<CoverBlock> CheapestBlocks(const BitMatrix& kept, std::span<const CoverCosts::Block> blocks,
                                       double scattered_ns) {
  std::vector<CoverBlock> result;
  Square square(blocks, scattered_ns);
  for (int64_t row = 0; row < kept.rows(); row += square.height()) {
    for (int64_t k = 0; k < kept.columns(); k += square.width()) square.Cut(kept, row, k, result);
  }
  return result;
}

}  // namespace tessera
