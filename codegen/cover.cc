#include "codegen/cover.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <map>
#include <optional>

#include "codegen/cover_blocks.h"

namespace tessera {
namespace {

int Percent(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : static_cast<int>(100.0 * static_cast<double>(part) / static_cast<double>(whole) + 0.5);
}

// A cover's name, read: one pattern, and whether what it does not take is scattered.
struct Recipe {
  PatternKind kind = PatternKind::kDense;
  int64_t height = 0, width = 0;  // kBlock; 0: several sizes
  int n = 0, m = 0;               // kNm
  bool rest_scattered = false;

  std::string ToString() const {
    const char* rest = rest_scattered ? " + scattered" : "";
    switch (kind) {
      case PatternKind::kDense: return "dense";
      case PatternKind::kScattered: return "scattered";
      case PatternKind::kSlices: return "rows and columns";
      case PatternKind::kBlock:
        return height == 0 ? "blocks + scattered" : internal::Join("blocks ", height, "x", width, rest);
      case PatternKind::kNm: return internal::Join(n, ":", m, rest);
    }
    return "";
  }

  static std::optional<Recipe> Parse(std::string_view text) {
    constexpr std::string_view kRest = " + scattered", kBlocks = "blocks";
    if (text == "dense") return Recipe{.kind = PatternKind::kDense};
    if (text == "scattered") return Recipe{.kind = PatternKind::kScattered};
    if (text == "rows and columns") return Recipe{.kind = PatternKind::kSlices};
    Recipe recipe;
    if (text.size() > kRest.size() && text.substr(text.size() - kRest.size()) == kRest) {
      recipe.rest_scattered = true;
      text.remove_suffix(kRest.size());
    }
    const bool blocks = text.substr(0, kBlocks.size()) == kBlocks;
    recipe.kind = blocks ? PatternKind::kBlock : PatternKind::kNm;
    if (blocks) {
      text.remove_prefix(kBlocks.size());
      if (text.empty() && recipe.rest_scattered) return recipe;
      if (text.empty() || text[0] != ' ') return std::nullopt;
      text.remove_prefix(1);
    }
    int64_t numbers[2] = {};
    const char* const end = text.data() + text.size();
    const auto first = std::from_chars(text.data(), end, numbers[0]);
    if (first.ec != std::errc() || first.ptr == end || *first.ptr != (blocks ? 'x' : ':')) return std::nullopt;
    const auto second = std::from_chars(first.ptr + 1, end, numbers[1]);
    if (second.ec != std::errc() || second.ptr != end) return std::nullopt;
    if (blocks) {
      for (int64_t extent : numbers) {
        if (extent < 1 || extent > kMaxCoverBlock || !std::has_single_bit(static_cast<uint64_t>(extent))) {
          return std::nullopt;
        }
      }
      recipe.height = numbers[0], recipe.width = numbers[1];
    } else {
      if (numbers[0] < 1 || numbers[1] <= numbers[0] || numbers[1] > kMaxNmGroup) return std::nullopt;
      recipe.n = static_cast<int>(numbers[0]), recipe.m = static_cast<int>(numbers[1]);
    }
    return recipe;
  }
};

// Groups of m along the depth, counted by how many of their elements are kept: groups[c] of size m; the last, shorter
// groups of the rows apart.
struct GroupCounts {
  std::vector<int64_t> whole, last;
  int64_t last_size = 0;
};

class Coverer {
 public:
  Coverer(const CoverMatrix& matrix, const CoverCosts& costs)
      : matrix_(matrix),
        costs_(costs),
        rows_(matrix.rows),
        depth_(matrix.depth),
        bits_(matrix.kept, matrix.rows, matrix.depth),
        kept_(matrix.kept.Count()) {
    TES_CHECK(matrix.kept.size() == rows_ * depth_, matrix.kept.size(), " bits for ", rows_, "x", depth_);
  }

  std::vector<CoverCandidate> Candidates() {
    Offer({.kind = PatternKind::kDense}, static_cast<double>(rows_ * depth_) * costs_.dense_ns,
          internal::Join(Percent(kept_, rows_ * depth_), " % kept"));
    if (kept_ < rows_ * depth_) {
      Offer({.kind = PatternKind::kScattered}, ScatteredNs(kept_), internal::Join(kept_, " elements"));
      OfferSlices();
      OfferBlocks();
      for (int m : {2, 4, 8, 16}) OfferNm(m);
    }
    std::stable_sort(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) { return a.ns < b.ns; });
    return std::move(candidates_);
  }

  Cover Make(const Recipe& recipe) {
    cover_.name = recipe.ToString();
    switch (recipe.kind) {
      case PatternKind::kDense: Add(Pattern::Dense(), Bitmap(rows_ * depth_, true)); break;
      case PatternKind::kScattered: break;
      case PatternKind::kSlices: Add(SlicesPattern(), LiveSlices()); break;
      case PatternKind::kBlock: AddBlocks(recipe); break;
      case PatternKind::kNm: AddNm(recipe.n, recipe.m); break;
    }
    if (recipe.rest_scattered || recipe.kind == PatternKind::kScattered) {
      const Bitmap rest = Rest();
      Add(Pattern::Scattered(), rest);
    }
    return std::move(cover_);
  }

  // The largest number of kept elements in any group of m.
  int LargestGroup(int m) const {
    const GroupCounts counts = CountGroups(m);
    int largest = 0;
    for (int c = 0; c <= m; ++c) {
      if (counts.whole[c] > 0 || counts.last[c] > 0) largest = c;
    }
    return largest;
  }

 private:
  double ScatteredNs(int64_t elements) const { return static_cast<double>(elements) * costs_.scattered_ns; }
  void Offer(const Recipe& recipe, double ns, std::string why) {
    candidates_.push_back({recipe.ToString(), ns, std::move(why)});
  }

  // ---- Rows and columns.

  bool RowLives(int64_t row) const {
    return std::any_of(bits_.row(row), bits_.row(row) + bits_.pitch(), [](uint64_t word) { return word != 0; });
  }
  Bitmap LiveColumns() const {
    std::vector<uint64_t> any(bits_.pitch(), 0);
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t w = 0; w < bits_.pitch(); ++w) any[w] |= bits_.row(row)[w];
    }
    return Bitmap::FromWords(depth_, std::move(any));
  }
  Bitmap LiveSlices() const {
    const Bitmap columns = LiveColumns();
    Bitmap stored(rows_ * depth_);
    for (int64_t row = 0; row < rows_; ++row) {
      if (RowLives(row)) stored.Copy(row * depth_, columns, 0, depth_);
    }
    return stored;
  }
  Pattern SlicesPattern() const {
    bool rows_die = false;
    for (int64_t row = 0; row < rows_; ++row) rows_die |= !RowLives(row);
    Pattern pattern = Pattern::Slices(rows_die ? 0 : 1);
    if (rows_die && !LiveColumns().All()) pattern.other_axis = 1;
    return pattern;
  }
  void OfferSlices() {
    int64_t live_rows = 0;
    for (int64_t row = 0; row < rows_; ++row) live_rows += RowLives(row) ? 1 : 0;
    const int64_t live_columns = LiveColumns().Count();
    if (live_rows == rows_ && live_columns == depth_) return;
    Offer({.kind = PatternKind::kSlices}, static_cast<double>(live_rows * live_columns) * costs_.slices_ns,
          internal::Join(live_rows, " of ", rows_, " rows, ", live_columns, " of ", depth_, " columns, fill ",
                         Percent(kept_, live_rows * live_columns), " %"));
  }

  // ---- Blocks.

  // Elements of the matrix that a block, or blocks, store.
  int64_t StoredBy(const CoverBlock& b) const {
    return std::min(b.height, rows_ - b.row) * std::min(b.width, depth_ - b.k);
  }
  int64_t StoredBy(const std::vector<CoverBlock>& blocks) const {
    int64_t stored = 0;
    for (const CoverBlock& b : blocks) stored += StoredBy(b);
    return stored;
  }
  void OfferBlocks() {
    std::vector<CoverCosts::Block> worth;  // sizes of which any block is worth taking
    for (const CoverCosts::Block& size : costs_.blocks) {
      // Larger than the matrix in vain.
      if (size.height >= 2 * rows_ || size.width >= 2 * depth_) continue;
      int64_t all = 0, all_store = 0;
      std::vector<CoverBlock> taken;
      ForEachBlock(bits_, size.height, size.width, [&](const CoverBlock& b) {
        ++all;
        all_store += StoredBy(b);
        if (size.ns < ScatteredNs(b.kept)) taken.push_back(b);
      });
      Recipe recipe = {.kind = PatternKind::kBlock, .height = size.height, .width = size.width};
      Offer(recipe, static_cast<double>(all) * size.ns, internal::Join("fill ", Percent(kept_, all_store), " %"));
      if (taken.empty()) continue;
      worth.push_back(size);
      if (static_cast<int64_t>(taken.size()) == all) continue;  // the same cover
      recipe.rest_scattered = true;
      OfferTaken(recipe, taken, static_cast<double>(taken.size()) * size.ns, "");
    }
    if (worth.size() < 2) return;
    const std::vector<CoverBlock> taken = CheapestBlocks(bits_, worth, costs_.scattered_ns);
    double ns = 0;
    std::map<std::pair<int64_t, int64_t>, int64_t> sizes;
    for (const CoverBlock& b : taken) ++sizes[{b.height, b.width}];
    if (sizes.size() < 2) return;  // one of the above
    std::string what;
    for (const CoverCosts::Block& size : worth) {
      const auto found = sizes.find({size.height, size.width});
      if (found == sizes.end()) continue;
      ns += static_cast<double>(found->second) * size.ns;
      what += internal::Join(found->second, " of ", size.height, "x", size.width, ", ");
    }
    OfferTaken({.kind = PatternKind::kBlock, .rest_scattered = true}, taken, ns, what);
  }
  void OfferTaken(const Recipe& recipe, const std::vector<CoverBlock>& taken, double blocks_ns,
                  const std::string& what) {
    int64_t inside = 0;
    for (const CoverBlock& b : taken) inside += b.kept;
    Offer(recipe, blocks_ns + ScatteredNs(kept_ - inside),
          internal::Join(what, "fill ", Percent(inside, StoredBy(taken)), " %, ", Percent(kept_ - inside, kept_),
                         " % of the kept scattered"));
  }
  void AddBlocks(const Recipe& recipe) {
    std::vector<CoverBlock> blocks;
    if (recipe.height == 0) {
      blocks = CheapestBlocks(bits_, costs_.blocks, costs_.scattered_ns);
    } else if (!recipe.rest_scattered) {
      blocks = NonEmptyBlocks(bits_, recipe.height, recipe.width);
    } else {
      blocks = BlocksWorthTaking(bits_, BlockCost(recipe.height, recipe.width), costs_.scattered_ns);
    }
    std::map<std::pair<int64_t, int64_t>, Bitmap> stored;
    for (const CoverBlock& b : blocks) {
      Bitmap& bits = stored[{b.height, b.width}];
      if (bits.size() == 0) bits = Bitmap(rows_ * depth_);
      for (int64_t row = b.row; row < std::min(rows_, b.row + b.height); ++row) {
        bits.SetRange(row * depth_ + b.k, row * depth_ + std::min(depth_, b.k + b.width), true);
      }
    }
    // The largest blocks first.
    for (auto it = stored.rbegin(); it != stored.rend(); ++it) {
      Add(Pattern::Block(it->first.first, it->first.second), std::move(it->second));
    }
  }
  // A size that was not measured costs what its elements would.
  CoverCosts::Block BlockCost(int64_t height, int64_t width) const {
    for (const CoverCosts::Block& block : costs_.blocks) {
      if (block.height == height && block.width == width) return block;
    }
    return {height, width, static_cast<double>(height * width) * costs_.dense_ns};
  }

  // ---- n:m along the depth.

  GroupCounts CountGroups(int m) const {
    GroupCounts counts = {.whole = std::vector<int64_t>(m + 1, 0), .last = std::vector<int64_t>(m + 1, 0)};
    counts.last_size = depth_ % m;
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t k = 0; k < depth_; k += m) {
        const auto size = static_cast<int>(std::min<int64_t>(m, depth_ - k));
        ++(size == m ? counts.whole : counts.last)[std::popcount(matrix_.kept.Read(row * depth_ + k, size))];
      }
    }
    return counts;
  }
  void OfferNm(int m) {
    if (depth_ < m) return;
    const GroupCounts counts = CountGroups(m);
    const int64_t groups = rows_ * (depth_ / m), last_groups = depth_ % m == 0 ? 0 : rows_;
    double best_ns = 0;
    int best_n = 0;
    int64_t best_rest = 0;
    for (int n = 1; n < m; ++n) {
      int64_t rest = 0;
      for (int c = n + 1; c <= m; ++c) rest += (counts.whole[c] + counts.last[c]) * (c - n);
      const int64_t stored = groups * n + last_groups * std::min<int64_t>(n, counts.last_size);
      const double ns = static_cast<double>(stored) * costs_.nm_ns + ScatteredNs(rest);
      if (best_n == 0 || ns < best_ns) best_ns = ns, best_n = n, best_rest = rest;
      if (rest == 0) break;  // more would only be filled
    }
    const Recipe recipe = {.kind = PatternKind::kNm, .n = best_n, .m = m, .rest_scattered = best_rest > 0};
    const int64_t stored = groups * best_n + last_groups * std::min<int64_t>(best_n, counts.last_size);
    std::string why = internal::Join("fill ", Percent(kept_ - best_rest, stored), " %");
    if (best_rest > 0) why += internal::Join(", ", Percent(best_rest, kept_), " % of the kept scattered");
    Offer(recipe, best_ns, std::move(why));
  }
  // The first n kept of each group, filled up with the first pruned ones.
  void AddNm(int n, int m) {
    CoverPart part = {.pattern = Pattern::Nm(n, m, 1), .kept = Bitmap(rows_ * depth_), .stored = Bitmap()};
    Bitmap fill(rows_ * depth_);
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t k = 0; k < depth_; k += m) {
        const int64_t end = std::min(depth_, k + m);
        int left = n;
        for (int64_t at = row * depth_ + k; at < row * depth_ + end && left > 0; ++at) {
          if (!matrix_.kept[at]) continue;
          part.kept.Set(at, true);
          --left;
        }
        for (int64_t at = row * depth_ + k; at < row * depth_ + end && left > 0; ++at) {
          if (matrix_.kept[at]) continue;
          fill.Set(at, true);
          --left;
        }
      }
    }
    part.stored = part.kept;
    part.stored |= fill;
    if (part.kept.Any()) cover_.parts.push_back(std::move(part));
  }

  // ---- Parts.

  void Add(const Pattern& pattern, Bitmap stored) {
    Bitmap kept = stored;
    kept &= matrix_.kept;
    if (!kept.Any()) return;
    cover_.parts.push_back({.pattern = pattern, .kept = std::move(kept), .stored = std::move(stored)});
  }
  // What is kept and in no part yet.
  Bitmap Rest() const {
    Bitmap rest = matrix_.kept;
    for (const CoverPart& part : cover_.parts) rest.Remove(part.kept);
    return rest;
  }

  const CoverMatrix& matrix_;
  const CoverCosts& costs_;
  const int64_t rows_, depth_;
  const BitMatrix bits_;
  const int64_t kept_;
  std::vector<CoverCandidate> candidates_;
  Cover cover_;
};

}  // namespace

CoverMatrix CoverMatrix::Of(const Bitmap& bits, int64_t rows, int64_t depth, int64_t row_step, int64_t depth_step) {
  CoverMatrix matrix = {.rows = rows, .depth = depth, .kept = Bitmap()};
  if (row_step == depth && depth_step == 1) {
    matrix.kept = bits;
    return matrix;
  }
  matrix.kept = Bitmap(rows * depth);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t k = 0; k < depth; ++k) {
      if (bits[row * row_step + k * depth_step]) matrix.kept.Set(row * depth + k, true);
    }
  }
  return matrix;
}

std::vector<CoverCandidate> CoverCandidates(const CoverMatrix& matrix, const CoverCosts& costs) {
  return Coverer(matrix, costs).Candidates();
}

StatusOr<Cover> MakeCover(const CoverMatrix& matrix, std::string_view name, const CoverCosts& costs) {
  const std::optional<Recipe> recipe = Recipe::Parse(name);
  if (!recipe) {
    return Error(ErrorCode::kTextInvalid,
                 "expected a cover (dense, scattered, rows and columns, blocks 32x32 + scattered, 2:4, …), found '",
                 name.substr(0, 60), "'");
  }
  Coverer coverer(matrix, costs);
  if (recipe->kind == PatternKind::kNm && !recipe->rest_scattered) {
    const int largest = coverer.LargestGroup(recipe->m);
    if (largest > recipe->n) {
      return Error(ErrorCode::kTesaInvalid, "a group of ", recipe->m, " keeps ", largest, " elements, more than ",
                   recipe->n, "; use '", name, " + scattered'");
    }
  }
  return coverer.Make(*recipe);
}

Status CheckCover(const CoverMatrix& matrix, const Cover& cover) {
  Bitmap kept(matrix.kept.size()), stored(matrix.kept.size());
  for (size_t k = 0; k < cover.parts.size(); ++k) {
    const CoverPart& part = cover.parts[k];
    const auto wrong = [&](const char* what) {
      return Error(ErrorCode::kInternal, "cover '", cover.name, "', part ", k, " (", part.pattern.ToString(), ") ",
                   what);
    };
    if (part.kept.size() != matrix.kept.size() || part.stored.size() != matrix.kept.size()) {
      return wrong("is of another size");
    }
    if (!part.kept.Any()) return wrong("keeps nothing");
    Bitmap both = part.kept;
    if ((both &= kept).Any()) return wrong("keeps what another part keeps");
    kept |= part.kept;
    if (Bitmap beyond = part.kept; beyond.Remove(part.stored).Any()) return wrong("keeps what it does not store");
    if (Bitmap foreign = part.kept; foreign.Remove(matrix.kept).Any()) return wrong("keeps what is pruned");
  }
  if (!(kept == matrix.kept)) {
    return Error(ErrorCode::kInternal, "cover '", cover.name, "' lacks elements that are kept");
  }
  return OkStatus();
}

StatusOr<std::vector<PrecisionShare>> SplitByPrecision(const Attribute& attribute, std::span<const int> widths) {
  std::vector<PrecisionShare> shares;
  for (int bits : attribute.Widths()) {
    const auto width = std::lower_bound(widths.begin(), widths.end(), bits);
    if (width == widths.end()) {
      return Error(ErrorCode::kTesaInvalid, "elements of ", bits, " bits; the machine has at most ",
                   widths.empty() ? 0 : widths.back());
    }
    Bitmap kept = attribute.BitmapOf(bits);
    if (!shares.empty() && shares.back().bits == *width) {
      shares.back().kept |= kept;
    } else {
      shares.push_back({*width, std::move(kept)});
    }
  }
  return shares;
}

}  // namespace tessera
