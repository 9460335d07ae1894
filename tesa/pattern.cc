#include "tesa/pattern.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>

namespace tessera {
namespace {

constexpr double kValueBytes = 4;
constexpr double kIndexBytes = 4;
constexpr double kPositionBytes = 1;

constexpr int64_t kBlocks[][2] = {{64, 64}, {32, 32}, {16, 16}, {8, 8}, {4, 4}, {32, 1},
                                  {16, 1},  {8, 1},   {4, 1},   {1, 4}, {1, 8}, {1, 16}};
constexpr int kGroups[] = {2, 4, 8, 16};

double Ratio(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

// What a mask needs under each pattern.
class Fitter {
 public:
  Fitter(const Shape& shape, const Bitmap& kept)
      : shape_(shape),
        rows_(MatrixView(shape).first),
        columns_(MatrixView(shape).second),
        matrix_(kept, rows_, columns_),
        elements_(kept.size()),
        kept_(kept.Count()) {}

  PatternFit Best() {
    Offer(Pattern::Dense(), elements_, 0);
    OfferSlices();
    for (const auto& [height, width] : kBlocks) {
      if (height > rows_ || width > columns_) continue;
      const Stored stored = StoredBlocks(height, width);
      Offer(Pattern::Block(height, width), stored.elements, kIndexBytes * static_cast<double>(stored.units));
    }
    for (int axis = 0; axis < 2; ++axis) {
      if (axis >= shape_.rank() || (shape_.rank() == 1 && axis == 1)) continue;
      for (int m : kGroups) {
        const int64_t extent = ExtentOfAxis(axis);
        if (extent < m) continue;
        const int n = LargestCount(axis, m);
        if (n == 0 || n == m) continue;
        const int64_t stored = StoredNm(axis, n, m);
        Offer(Pattern::Nm(n, m, axis), stored, kPositionBytes * static_cast<double>(stored));
      }
    }
    Offer(Pattern::Scattered(), kept_, kIndexBytes * static_cast<double>(kept_));
    return best_;
  }

  std::optional<PatternFit> Given(const Pattern& pattern) {
    switch (pattern.kind) {
      case PatternKind::kDense: return Fit(pattern, elements_);
      case PatternKind::kScattered: return Fit(pattern, kept_);
      case PatternKind::kBlock: return Fit(pattern, StoredBlocks(pattern.block[0], pattern.block[1]).elements);
      case PatternKind::kSlices: {
        if (pattern.axis >= shape_.rank() || pattern.other_axis >= shape_.rank()) return std::nullopt;
        int64_t stored = elements_;
        for (int axis : {pattern.axis, pattern.other_axis}) {
          if (axis >= 0 && stored > 0) stored = stored / shape_[axis] * KeptSlices(axis);
        }
        return Fit(pattern, stored);
      }
      case PatternKind::kNm: {
        if (pattern.axis > 1 || pattern.axis >= shape_.rank()) return std::nullopt;
        if (LargestCount(pattern.axis, pattern.m) > pattern.n) return std::nullopt;
        return Fit(pattern, StoredNm(pattern.axis, pattern.n, pattern.m));
      }
    }
    return std::nullopt;
  }

 private:
  struct Stored {
    int64_t units = 0;
    int64_t elements = 0;
  };

  PatternFit Fit(const Pattern& pattern, int64_t stored) const {
    return {pattern, elements_ == 0 ? 1 : Ratio(kept_, elements_), Ratio(stored - kept_, stored)};
  }

  void Offer(const Pattern& pattern, int64_t stored, double index_bytes) {
    const double bytes = kValueBytes * static_cast<double>(stored) + index_bytes;
    if (best_bytes_ >= 0 && bytes >= best_bytes_) return;
    best_bytes_ = bytes;
    best_ = Fit(pattern, stored);
  }

  // Indices of `axis` with anything kept; walks the matrix' rows, of which each is one index of axis 0 and holds all of
  // the other axes.
  int64_t KeptSlices(int axis) const {
    if (shape_.rank() == 1) return kept_;
    if (axis == 0) {
      int64_t count = 0;
      for (int64_t r = 0; r < rows_; ++r) {
        count += std::any_of(matrix_.row(r), matrix_.row(r) + matrix_.pitch(), [](uint64_t w) { return w != 0; });
      }
      return count;
    }
    std::vector<uint64_t> any(matrix_.pitch(), 0);
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t w = 0; w < matrix_.pitch(); ++w) any[w] |= matrix_.row(r)[w];
    }
    const std::vector<int64_t> columns = Bitmap::FromWords(columns_, std::move(any)).Positions();
    const int64_t stride = shape_.Strides()[axis];
    Bitmap slices(shape_[axis]);
    for (int64_t c : columns) slices.Set(c / stride % shape_[axis], true);
    return slices.Count();
  }

  void OfferSlices() {
    struct Axis {
      int axis;
      int64_t kept;
    };
    std::vector<Axis> partial;
    for (int axis = 0; axis < shape_.rank(); ++axis) {
      const int64_t kept = KeptSlices(axis);
      if (kept < shape_[axis]) partial.push_back({axis, kept});
    }
    std::stable_sort(partial.begin(), partial.end(), [&](const Axis& a, const Axis& b) {
      return Ratio(a.kept, shape_[a.axis]) < Ratio(b.kept, shape_[b.axis]);
    });
    if (partial.empty()) return;
    const Axis& first = partial[0];
    int64_t stored = elements_ / shape_[first.axis] * first.kept;
    Offer(Pattern::Slices(first.axis), stored, kIndexBytes * static_cast<double>(first.kept));
    if (partial.size() < 2 || stored == 0) return;
    const Axis& second = partial[1];
    stored = stored / shape_[second.axis] * second.kept;
    Pattern both = Pattern::Slices(std::min(first.axis, second.axis));
    both.other_axis = std::max(first.axis, second.axis);
    Offer(both, stored, kIndexBytes * static_cast<double>(first.kept + second.kept));
  }

  // ORs the rows of each band of blocks, then asks for each block's columns.
  Stored StoredBlocks(int64_t height, int64_t width) const {
    Stored stored;
    std::vector<uint64_t> band(matrix_.pitch());
    for (int64_t r = 0; r < rows_; r += height) {
      const int64_t end = std::min(rows_, r + height);
      std::fill(band.begin(), band.end(), 0);
      for (int64_t k = r; k < end; ++k) {
        for (int64_t w = 0; w < matrix_.pitch(); ++w) band[w] |= matrix_.row(k)[w];
      }
      int64_t units = 0;
      bool last = false;  // does the last, perhaps narrower block hold anything?
      const int64_t last_begin = (columns_ - 1) / width * width;
      if (64 % width == 0) {
        // Fold each block's bits onto its lowest one and count those.
        uint64_t lowest = 0;
        for (int64_t b = 0; b < 64; b += width) lowest |= uint64_t{1} << b;
        for (uint64_t word : band) {
          for (int64_t shift = 1; shift < width; shift *= 2) word |= word >> shift;
          units += std::popcount(word & lowest);
        }
      } else {
        for (int64_t c = 0; c < columns_; c += width) units += AnyBits(band, c, std::min(columns_, c + width));
      }
      last = AnyBits(band, last_begin, columns_);
      const int64_t overhang = last ? last_begin + width - columns_ : 0;
      stored.units += units;
      stored.elements += (units * width - overhang) * (end - r);
    }
    return stored;
  }

  static bool AnyBits(const std::vector<uint64_t>& words, int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      if (words[k / 64] >> (k % 64) & 1) return true;
    }
    return false;
  }

  // n:m runs along axis 0 (a matrix' columns) or axis 1; of a tensor of higher rank axis 1 has strides of its own.
  int64_t ExtentOfAxis(int axis) const { return shape_.rank() == 1 ? columns_ : shape_[axis]; }

  // The largest number of kept elements in any group of m along the axis.
  int LargestCount(int axis, int m) const {
    if (shape_.rank() == 1) return LargestInRows(m);
    if (axis == 0) return LargestInColumns(m);
    if (shape_.rank() == 2) return LargestInRows(m);
    return LargestStrided(m);
  }

  int LargestInRows(int m) const {
    int largest = 0;
    const uint64_t mask = (uint64_t{1} << m) - 1;  // m <= 16, a power of two here, so groups do not cross words
    if (64 % m != 0) return LargestStrided(m);
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t w = 0; w < matrix_.pitch(); ++w) {
        for (uint64_t word = matrix_.row(r)[w]; word != 0;) {
          const int group = std::countr_zero(word) / m * m;
          largest = std::max(largest, std::popcount(word >> group & mask));
          if (largest == m) return m;
          word &= ~(mask << group);
        }
      }
    }
    return largest;
  }

  int LargestInColumns(int m) const {
    int largest = 0;
    for (int64_t first = 0; first < rows_; first += m) {
      for (int64_t w = 0; w < matrix_.pitch(); ++w) {
        std::array<uint64_t, 6> planes{};  // the counts of 64 columns, lane by lane
        for (int64_t r = first; r < std::min(rows_, first + m); ++r) {
          uint64_t carry = matrix_.row(r)[w];
          for (uint64_t& plane : planes) {
            const uint64_t next = plane & carry;
            plane ^= carry;
            carry = next;
          }
        }
        // The largest lane, from the highest plane down.
        uint64_t lanes = ~uint64_t{0};
        int count = 0;
        for (int b = 5; b >= 0; --b) {
          if ((lanes & planes[b]) == 0) continue;
          lanes &= planes[b];
          count |= 1 << b;
        }
        largest = std::max(largest, count);
        if (largest == m) return m;
      }
    }
    return largest;
  }

  int LargestStrided(int m) const {
    const int axis = shape_.rank() == 1 ? 0 : 1;
    const int64_t extent = ExtentOfAxis(axis), inner = shape_.rank() == 1 ? 1 : columns_ / std::max<int64_t>(extent, 1);
    int largest = 0;
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t first = 0; first < extent; first += m) {
        for (int64_t k = 0; k < inner; ++k) {
          int count = 0;
          for (int64_t p = first; p < std::min(extent, first + m); ++p) count += matrix_.Get(r, p * inner + k);
          largest = std::max(largest, count);
          if (largest == m) return m;
        }
      }
    }
    return largest;
  }

  int64_t StoredNm(int axis, int n, int m) const {
    const int64_t extent = ExtentOfAxis(axis);
    if (extent == 0) return 0;
    return elements_ / extent * (extent / m * n + std::min<int64_t>(n, extent % m));
  }

  const Shape& shape_;
  const int64_t rows_, columns_;
  const BitMatrix matrix_;
  const int64_t elements_, kept_;
  double best_bytes_ = -1;
  PatternFit best_;
};

bool ParseInts(std::string_view text, char separator, std::vector<int64_t>& out) {
  while (true) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || value < 0) return false;
    out.push_back(value);
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    if (text.empty()) return true;
    if (text[0] != separator) return false;
    text.remove_prefix(1);
  }
}

// The text between brackets behind `name`, if that is how `text` reads.
std::optional<std::string_view> Bracketed(std::string_view text, std::string_view name) {
  if (text.substr(0, name.size()) != name) return std::nullopt;
  text.remove_prefix(name.size());
  if (text.size() < 2 || text.front() != '[' || text.back() != ']') return std::nullopt;
  return text.substr(1, text.size() - 2);
}

constexpr int kMaxAxis = 15;
constexpr int64_t kMaxBlock = 1 << 20;

std::optional<Pattern> ReadPattern(std::string_view text) {
  if (text == "dense") return Pattern::Dense();
  if (text == "rows" || text == "channels") return Pattern::Slices(0);
  if (text == "columns") return Pattern::Slices(1);
  if (text == "scattered") return Pattern::Scattered();
  std::vector<int64_t> numbers;
  if (auto inside = Bracketed(text, "slices")) {
    if (!ParseInts(*inside, ',', numbers) || numbers.size() > 2 || numbers[0] > kMaxAxis) return std::nullopt;
    Pattern pattern = Pattern::Slices(static_cast<int>(numbers[0]));
    if (numbers.size() == 2) {
      if (numbers[1] > kMaxAxis || numbers[1] <= numbers[0]) return std::nullopt;
      pattern.other_axis = static_cast<int>(numbers[1]);
    }
    return pattern;
  }
  const auto block = [&]() -> std::optional<Pattern> {
    if (numbers.size() != 2) return std::nullopt;
    for (int64_t extent : numbers) {
      if (extent < 1 || extent > kMaxBlock) return std::nullopt;
    }
    return Pattern::Block(numbers[0], numbers[1]);
  };
  if (auto inside = Bracketed(text, "block")) {
    if (!ParseInts(*inside, ',', numbers)) return std::nullopt;
    return block();
  }
  if (text.find(':') != std::string_view::npos) {
    int axis = -1;
    const size_t bracket = text.find('[');
    if (bracket != std::string_view::npos) {
      auto inside = Bracketed(text.substr(bracket), "");
      if (!inside || !ParseInts(*inside, ',', numbers) || numbers.size() != 1 || numbers[0] > kMaxAxis) {
        return std::nullopt;
      }
      axis = static_cast<int>(numbers[0]);
      numbers.clear();
      text = text.substr(0, bracket);
    }
    if (!ParseInts(text, ':', numbers) || numbers.size() != 2) return std::nullopt;
    if (numbers[0] < 1 || numbers[0] >= numbers[1] || numbers[1] > kMaxNmGroup) return std::nullopt;
    return Pattern::Nm(static_cast<int>(numbers[0]), static_cast<int>(numbers[1]), axis < 0 ? 1 : axis);
  }
  if (text.substr(0, 6) == "block ") text.remove_prefix(6);
  if (!ParseInts(text, 'x', numbers)) return std::nullopt;
  return block();
}

}  // namespace

std::string Pattern::ToString() const {
  switch (kind) {
    case PatternKind::kDense: return "dense";
    case PatternKind::kScattered: return "scattered";
    case PatternKind::kBlock: return "block" + Shape(block).ToString();
    case PatternKind::kNm: return std::to_string(n) + ":" + std::to_string(m) + "[" + std::to_string(axis) + "]";
    case PatternKind::kSlices:
      if (other_axis >= 0) return "slices[" + std::to_string(axis) + "," + std::to_string(other_axis) + "]";
      if (axis == 0) return "rows";
      if (axis == 1) return "columns";
      return "slices[" + std::to_string(axis) + "]";
  }
  return "";
}

std::ostream& operator<<(std::ostream& out, const Pattern& pattern) { return out << pattern.ToString(); }

StatusOr<Pattern> ParsePattern(std::string_view text) {
  std::optional<Pattern> pattern = ReadPattern(text);
  if (pattern) return *std::move(pattern);
  return Error(ErrorCode::kTesaInvalid,
               "expected a pattern (dense, rows, channels, columns, slices[2], block[32,32], 16x1, 2:4[1], scattered), "
               "found '",
               text.substr(0, 40), "'");
}

std::pair<int64_t, int64_t> MatrixView(const Shape& shape) {
  const int64_t count = shape.num_elements();
  if (shape.rank() < 2 || count == 0) return {1, count};
  return {shape[0], count / shape[0]};
}

PatternFit FitPattern(const Shape& shape, const Bitmap& kept) {
  TES_CHECK(kept.size() == shape.num_elements(), kept.size(), " bits for ", shape);
  if (kept.size() == 0) return {};
  return Fitter(shape, kept).Best();
}

PatternFit FitPattern(const Attribute& attribute) {
  if (attribute.keeps_all()) return {};
  return FitPattern(attribute.shape(), attribute.KeptBitmap());
}

std::optional<PatternFit> FitGiven(const Pattern& pattern, const Shape& shape, const Bitmap& kept) {
  TES_CHECK(kept.size() == shape.num_elements(), kept.size(), " bits for ", shape);
  if (kept.size() == 0) return PatternFit{.pattern = pattern};
  return Fitter(shape, kept).Given(pattern);
}

}  // namespace tessera
