// What a side file says, put to the tensors of a model: part of tesa_file.h.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/import/graph_writer.h"
#include "models/import/tesa_file.h"
#include "tesa/attribute_algebra.h"

namespace tessera {
namespace {

using Kind = TesaStatement::Kind;

template <typename... Pieces>
Status Bad(const Pieces&... pieces) {
  return Error(ErrorCode::kTesaFileInvalid, pieces...);
}

// One statement about one tensor.
class Statement {
 public:
  Statement(const TesaStatement& said, const TensorType& type, const Tensor* data)
      : said_(said), type_(type), shape_(type.shape), data_(data), own_(TypeInfo(type.dtype).bits) {}

  StatusOr<Attribute> Declared() const {
    const bool of_axis = said_.kind == Kind::kSlices || said_.kind == Kind::kNm || said_.kind == Kind::kBitsPerIndex;
    if (of_axis && said_.axis >= shape_.rank()) {
      return Bad("expected an axis of ", type_, ", found axis ", said_.axis);
    }
    switch (said_.kind) {
      case Kind::kSlices: return Slices();
      case Kind::kBlocks: return Blocks();
      case Kind::kNm: return Nm();
      case Kind::kBits: return Bits();
      case Kind::kBitsPerIndex: return BitsPerIndex();
      case Kind::kMask: break;
    }
    return Mask();
  }

 private:
  int axis() const { return static_cast<int>(said_.axis); }

  // The indices of the statement's axis that `kept` has, at `bits`.
  Attribute IndexSet(Bitmap kept, int bits) const {
    std::vector<int64_t> block = shape_.dims();
    block[static_cast<size_t>(axis())] = 1;
    if (shape_.num_elements() == 0) return Attribute::Dense(shape_, 0);
    return Attribute::FromGrid(shape_, std::move(block), std::move(kept), bits);
  }

  StatusOr<Attribute> Slices() const {
    Bitmap kept(shape_[axis()], true);
    for (const auto& [begin, end] : said_.runs) {
      if (end >= kept.size()) {
        return Bad("expected indices below ", kept.size(), " along axis ", axis(), " of ", type_, ", found ", end);
      }
      kept.SetRange(begin, end + 1, false);
    }
    return IndexSet(std::move(kept), own_);
  }

  StatusOr<Attribute> Blocks() const {
    Shape view = shape_;
    if (said_.block.size() == 2 && shape_.rank() > 2 && shape_[0] > 0) {
      view = {shape_[0], shape_.num_elements() / shape_[0]};
    }
    if (static_cast<int>(said_.block.size()) != view.rank() || shape_.num_elements() == 0) {
      return Bad("expected blocks of ", view.rank(), " extents for ", type_, ", found ", Shape(said_.block));
    }
    std::vector<int64_t> block = said_.block, grid;
    for (int d = 0; d < view.rank(); ++d) {
      int64_t& extent = block[static_cast<size_t>(d)];
      if (extent == 0) return Bad("expected blocks of at least one element, found ", Shape(said_.block));
      extent = std::min(extent, view[d]);
      grid.push_back((view[d] + extent - 1) / extent);
    }
    const Shape cells(grid);
    Bitmap kept(cells.num_elements(), !said_.blocks_kept);
    if (said_.block_mask) {
      if (static_cast<int64_t>(said_.block_mask->size()) != cells.num_elements()) {
        return Bad("expected a mask of ", cells, " blocks for ", type_, ", found ", said_.block_mask->size(),
                   " elements");
      }
      kept = Bitmap::FromBytes(*said_.block_mask);
    }
    const std::vector<int64_t> strides = cells.Strides();
    for (const std::vector<int64_t>& at : said_.blocks) {
      int64_t cell = 0;
      bool inside = at.size() == grid.size();
      for (size_t d = 0; inside && d < at.size(); ++d) {
        inside = at[d] < grid[d];
        cell += at[d] * strides[d];
      }
      if (!inside) return Bad("expected a block within the ", cells, " of ", type_, ", found block ", Shape(at));
      kept.Set(cell, said_.blocks_kept);
    }
    return Attribute::FromGrid(view, std::move(block), std::move(kept), own_).Reshaped(shape_);
  }

  // Of each group of m along the axis the n largest stay; of equal ones the first.
  StatusOr<Attribute> Nm() const {
    if (data_ == nullptr) return Bad("n:m keeps the largest values, so it needs a constant; give a mask instead");
    if (said_.n < 1 || said_.n >= said_.m || said_.m > kMaxNmGroup) {
      return Bad("expected 0 < n < m <= ", kMaxNmGroup, ", found n = ", said_.n, ", m = ", said_.m);
    }
    const int64_t count = shape_.num_elements(), extent = shape_[axis()];
    Bitmap kept(count);
    if (count == 0) return Attribute::FromKept(shape_, kept, own_);
    const int64_t inner = shape_.Strides()[static_cast<size_t>(axis())];
    std::vector<std::pair<double, int64_t>> group;
    for (int64_t first = 0; first < count; ++first) {
      const int64_t at = first / inner % extent;
      if (at % said_.m != 0) continue;
      group.clear();
      for (int64_t k = at; k < std::min(extent, at + said_.m); ++k) {
        const int64_t element = first + (k - at) * inner;
        const double value = std::abs(data_->Get(element));
        group.emplace_back(std::isnan(value) ? HUGE_VAL : value, element);
      }
      const auto n = std::min<int64_t>(said_.n, static_cast<int64_t>(group.size()));
      std::stable_sort(group.begin(), group.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
      for (int64_t k = 0; k < n; ++k) kept.Set(group[static_cast<size_t>(k)].second, true);
    }
    return Attribute::FromKept(shape_, kept, own_);
  }

  Status CheckBits(int64_t bits) const {
    if (bits <= own_) return OkStatus();
    return Bad("contradictory precisions: expected at most the ", own_, " bits of ", type_, ", found ", bits);
  }

  StatusOr<Attribute> Bits() const {
    RETURN_IF_ERROR(CheckBits(said_.bits[0]));
    return Attribute::Dense(shape_, static_cast<int>(said_.bits[0]));
  }

  StatusOr<Attribute> BitsPerIndex() const {
    if (static_cast<int64_t>(said_.bits.size()) != shape_[axis()]) {
      return Bad("expected ", shape_[axis()], " bit widths along axis ", axis(), " of ", type_, ", found ",
                 said_.bits.size());
    }
    Attribute all = Attribute::Dense(shape_, 0);
    std::vector<int64_t> widths = said_.bits;
    std::sort(widths.begin(), widths.end());
    widths.erase(std::unique(widths.begin(), widths.end()), widths.end());
    for (int64_t width : widths) {
      RETURN_IF_ERROR(CheckBits(width));
      if (width == 0) continue;
      Bitmap of_width(shape_[axis()]);
      for (size_t k = 0; k < said_.bits.size(); ++k) {
        of_width.Set(static_cast<int64_t>(k), said_.bits[k] == width);
      }
      all = Join(all, IndexSet(std::move(of_width), static_cast<int>(width)));
    }
    return all;
  }

  StatusOr<Attribute> Mask() const {
    const Shape& given = said_.mask.shape();
    bool fits = given.rank() == shape_.rank();
    for (int d = 0; fits && d < given.rank(); ++d) fits = given[d] == shape_[d] || given[d] == 1;
    if (!fits) return Bad("expected a mask of shape ", shape_, ", found one of ", given);
    return BroadcastTo(Attribute::FromKept(given, NonZeros(said_.mask), own_), shape_);
  }

  const TesaStatement& said_;
  const TensorType& type_;
  const Shape& shape_;
  const Tensor* data_;
  const int own_;
};

bool IsPrecision(const TesaStatement& s) { return s.kind == Kind::kBits || s.kind == Kind::kBitsPerIndex; }

// The letters that must be changed, added or dropped to make one name of the other; stops above `most`.
size_t Distance(std::string_view a, std::string_view b, size_t most) {
  if (a.size() + most < b.size() || b.size() + most < a.size()) return most + 1;
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

// "; did you mean 'fc1.weight' or 'fc2.weight'?"
std::string Suggestion(const std::string& name, const Graph& graph, std::span<const std::string> others) {
  constexpr size_t kMostNames = 20000, kLongest = 200, kShown = 3;
  if (name.size() > kLongest) return "";
  const size_t most = std::max<size_t>(2, name.size() / 3);
  std::vector<std::pair<size_t, std::string>> near;
  const auto consider = [&](const std::string& known) {
    const size_t distance = known.size() > kLongest ? most + 1 : Distance(name, known, most);
    if (distance <= most) near.emplace_back(distance, known);
  };
  for (size_t k = 0; k < graph.values.size() && k < kMostNames; ++k) consider(graph.values[k].name);
  for (size_t k = 0; k < others.size() && k < kMostNames; ++k) consider(others[k]);
  std::sort(near.begin(), near.end());
  near.erase(std::unique(near.begin(), near.end()), near.end());
  std::string text;
  for (size_t k = 0; k < near.size() && k < kShown; ++k) {
    text += (k == 0 ? "; did you mean '" : "' or '") + near[k].second;
  }
  return text.empty() ? "; `inspect` lists the names of a model" : text + "'?";
}

}  // namespace

StatusOr<Attribute> DeclaredBy(const TesaFile& file, const std::string& name, const TensorType& type,
                               const Tensor* data) {
  const auto it = file.tensors.find(name);
  TES_CHECK(it != file.tensors.end(), file.path, " says nothing of ", name);
  Attribute all = Attribute::Dense(type.shape, TypeInfo(type.dtype).bits);
  const TesaStatement* precision = nullptr;
  std::optional<Attribute> widths;
  for (const TesaStatement& said : it->second) {
    const std::string context = file.path + ": tensor '" + name + "', " + said.where;
    StatusOr<Attribute> declared = Statement(said, type, data).Declared();
    if (!declared.ok()) return declared.status().WithContext(context);
    if (IsPrecision(said)) {
      if (precision != nullptr && !(*widths == *declared)) {
        return Bad(context, ": contradictory precisions: ", precision->where, " gives it others");
      }
      precision = &said;
      widths = *declared;
    }
    all = Meet(all, *declared);
  }
  return all;
}

Status ApplyTesaFile(const TesaFile& file, Graph& graph, std::span<const std::string> done) {
  for (const auto& [name, statements] : file.tensors) {
    if (std::find(done.begin(), done.end(), name) != done.end()) continue;
    ValueId id = graph.FindValue(name);
    if (id == ValueId::kNone) id = graph.FindValue(SanitizedName(name));
    if (id == ValueId::kNone) {
      return Bad(file.path, ": ", statements[0].where, ": the model has no tensor '", name, "'",
                 Suggestion(name, graph, done));
    }
    Value& value = graph[id];
    const bool constant = value.kind == ValueKind::kConstant;
    ASSIGN_OR_RETURN(Attribute declared, DeclaredBy(file, name, value.type, constant ? &value.constant : nullptr));
    if (constant) value.constant = declared.ApplyTo(value.constant);
    value.tesa = std::move(declared);
  }
  return OkStatus();
}

}  // namespace tessera
