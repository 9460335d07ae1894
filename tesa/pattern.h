// Pattern: the shape of what is kept: dense, rows, columns, blocks, n:m, scattered; and which of them fits best.
//
//   PatternFit fit = FitPattern(attribute);
//   fit.pattern.ToString() == "block[32,32]";  fit.density == 0.1;  fit.slack == 0;
//
// A pattern covers a mask when it stores every kept element; what it stores beyond them is slack. Of the patterns that
// cover a mask the best takes the fewest bytes, at 4 bytes for a stored value and 4 for an index:
//
//   dense      all elements                       no index
//   slices     the kept rows (columns, …)         an index for each
//   block      the blocks with a kept element     an index for each
//   n:m        n of each m along an axis          1 byte for each value (a position within the group)
//   scattered  the kept elements                  an index for each
//
// Blocks are those of the matrix [first extent, rest], the form in which a convolution's weights [O, I, h, w] are
// multiplied. Values only; safe to share. Text forms are those of ToString. Tested by pattern_test.cc.
#ifndef TESSERA_TESA_PATTERN_H_
#define TESSERA_TESA_PATTERN_H_

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tesa/attribute.h"

namespace tessera {

enum class PatternKind : uint8_t { kDense, kSlices, kBlock, kNm, kScattered };

struct Pattern {
  PatternKind kind = PatternKind::kDense;
  std::vector<int64_t> block;  // kBlock: {height, width} in the matrix view
  int n = 0;                   // kNm: n of each m along `axis`
  int m = 0;
  int axis = -1;        // kNm; kSlices: the axis along which whole slices are kept or pruned
  int other_axis = -1;  // kSlices: a second one; kept is where both are

  static Pattern Dense() { return {}; }
  static Pattern Slices(int axis) { return {.kind = PatternKind::kSlices, .axis = axis}; }
  static Pattern Block(int64_t height, int64_t width) {
    return {.kind = PatternKind::kBlock, .block = {height, width}};
  }
  static Pattern Nm(int n, int m, int axis) { return {.kind = PatternKind::kNm, .n = n, .m = m, .axis = axis}; }
  static Pattern Scattered() { return {.kind = PatternKind::kScattered}; }

  // "dense", "rows" (axis 0), "columns" (axis 1), "slices[2]", "slices[0,1]", "block[32,32]", "2:4[1]" (along axis 1),
  // "scattered".
  std::string ToString() const;
  friend bool operator==(const Pattern&, const Pattern&) = default;
};

std::ostream& operator<<(std::ostream& out, const Pattern& pattern);

// Reads ToString's forms back; also "channels" for rows and "block 32x32", "32x32" for blocks. Axes below 16.
StatusOr<Pattern> ParsePattern(std::string_view text);

struct PatternFit {
  Pattern pattern;
  double density = 1;  // kept / all
  double slack = 0;    // share of the stored elements that are pruned
};

// {first extent, product of the rest}; a vector is one row.
std::pair<int64_t, int64_t> MatrixView(const Shape& shape);

PatternFit FitPattern(const Shape& shape, const Bitmap& kept);
PatternFit FitPattern(const Attribute& attribute);
// How well a given pattern covers a mask: density and slack. nullopt when it does not (an n:m group holds too many).
std::optional<PatternFit> FitGiven(const Pattern& pattern, const Shape& shape, const Bitmap& kept);

}  // namespace tessera

#endif  // TESSERA_TESA_PATTERN_H_
