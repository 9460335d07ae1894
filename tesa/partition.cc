#include "tesa/partition.h"

#include <algorithm>
#include <limits>

#include "base/status.h"

namespace tessera {
namespace {

// Finds equal labels: an open-addressed table of the first index of each label. `Add` gives a label its class, numbered
// in the order of arrival.
class LabelTable {
 public:
  explicit LabelTable(size_t count) {
    size_t slots = 16;
    while (slots < 2 * count) slots *= 2;
    slots_.assign(slots, -1);
  }
  int32_t Add(int64_t label) {
    uint64_t hash = static_cast<uint64_t>(label) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93u;
    for (size_t slot = (hash ^ hash >> 29) & (slots_.size() - 1);; slot = (slot + 1) & (slots_.size() - 1)) {
      if (slots_[slot] < 0) {
        slots_[slot] = static_cast<int32_t>(labels_.size());
        labels_.push_back(label);
        return slots_[slot];
      }
      if (labels_[static_cast<size_t>(slots_[slot])] == label) return slots_[slot];
    }
  }
  int64_t size() const { return static_cast<int64_t>(labels_.size()); }

 private:
  std::vector<int32_t> slots_;
  std::vector<int64_t> labels_;  // of each class
};

// Above this a table of all possible labels would cost more than a hash table.
bool Dense(int64_t bound, size_t count) { return bound <= 4 * static_cast<int64_t>(count) + 64; }

// Labels in [0, bound) turned into classes in the order of their first members; returns their number.
int64_t Renumber(std::vector<int32_t>& labels, int64_t bound) {
  std::vector<int32_t> number(static_cast<size_t>(bound), -1);
  int32_t next = 0;
  for (int32_t& label : labels) {
    int32_t& n = number[static_cast<size_t>(label)];
    if (n < 0) n = next++;
    label = n;
  }
  return next;
}

}  // namespace

Partition Partition::Whole(int64_t extent) {
  Partition p;
  p.extent_ = extent;
  p.num_classes_ = std::min<int64_t>(extent, 1);
  return p;
}

Partition Partition::Identity(int64_t extent) {
  Partition p;
  p.extent_ = extent;
  p.num_classes_ = extent;
  return p;
}

// Takes classes that are numbered in the order of their first members; forgets those of the two simple forms.
Partition Partition::FromClasses(std::vector<int32_t> class_of, int64_t num_classes) {
  Partition p;
  p.extent_ = static_cast<int64_t>(class_of.size());
  p.num_classes_ = num_classes;
  if (!p.is_whole() && !p.is_identity()) p.class_of_ = std::move(class_of);
  return p;
}

Partition Partition::FromLabels(std::span<const int64_t> labels) {
  TES_CHECK(labels.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()), labels.size());
  if (labels.empty()) return Partition();
  const auto [low, high] = std::minmax_element(labels.begin(), labels.end());
  if (*low == *high) return Whole(static_cast<int64_t>(labels.size()));
  const uint64_t spread = static_cast<uint64_t>(*high) - static_cast<uint64_t>(*low);
  std::vector<int32_t> class_of(labels.size());
  if (spread < 4 * labels.size() + 64) {
    const uint64_t base = static_cast<uint64_t>(*low);
    for (size_t i = 0; i < labels.size(); ++i)
      class_of[i] = static_cast<int32_t>(static_cast<uint64_t>(labels[i]) - base);
    const int64_t classes = Renumber(class_of, static_cast<int64_t>(spread) + 1);
    return FromClasses(std::move(class_of), classes);
  }
  LabelTable table(labels.size());
  for (size_t i = 0; i < labels.size(); ++i) class_of[i] = table.Add(labels[i]);
  return FromClasses(std::move(class_of), table.size());
}

Partition Partition::FromLabels(std::initializer_list<int64_t> labels) {
  return FromLabels(std::span<const int64_t>(labels.begin(), labels.size()));
}

Partition Partition::Blocks(int64_t extent, int64_t block) {
  TES_CHECK(block > 0, block);
  if (block >= extent) return Whole(extent);
  if (block == 1) return Identity(extent);
  std::vector<int32_t> class_of(static_cast<size_t>(extent));
  for (int64_t i = 0; i < extent; ++i) class_of[static_cast<size_t>(i)] = static_cast<int32_t>(i / block);
  return FromClasses(std::move(class_of), (extent + block - 1) / block);
}

std::vector<int64_t> Partition::Firsts() const {
  std::vector<int64_t> firsts;
  firsts.reserve(static_cast<size_t>(num_classes_));
  // A class's number is how many came before it, so a new one shows as the next number.
  for (int64_t i = 0; static_cast<int64_t>(firsts.size()) < num_classes_; ++i) {
    if ((*this)[i] == static_cast<int64_t>(firsts.size())) firsts.push_back(i);
  }
  return firsts;
}

std::vector<int64_t> Partition::Sizes() const {
  std::vector<int64_t> sizes(static_cast<size_t>(num_classes_), is_identity() ? 1 : extent_);
  if (class_of_.empty()) return sizes;
  std::fill(sizes.begin(), sizes.end(), 0);
  for (int32_t c : class_of_) ++sizes[static_cast<size_t>(c)];
  return sizes;
}

std::vector<std::vector<int64_t>> Partition::Members() const {
  const std::vector<int64_t> sizes = Sizes();
  std::vector<std::vector<int64_t>> members(sizes.size());
  for (size_t c = 0; c < sizes.size(); ++c) members[c].reserve(static_cast<size_t>(sizes[c]));
  for (int64_t i = 0; i < extent_; ++i) members[static_cast<size_t>((*this)[i])].push_back(i);
  return members;
}

Partition Partition::Pulled(std::span<const int64_t> indices) const {
  std::vector<int64_t> labels(indices.size());
  for (size_t k = 0; k < indices.size(); ++k) {
    TES_CHECK(indices[k] >= -1 && indices[k] < extent_, indices[k], " of ", extent_);
    labels[k] = indices[k] < 0 ? num_classes_ : (*this)[indices[k]];
  }
  return FromLabels(labels);
}

bool Partition::Refines(const Partition& other) const {
  TES_CHECK(extent_ == other.extent_, extent_, " and ", other.extent_);
  if (is_identity() || other.is_whole()) return true;
  if (num_classes_ < other.num_classes_) return false;
  std::vector<int32_t> in(static_cast<size_t>(num_classes_), -1);
  for (int64_t i = 0; i < extent_; ++i) {
    int32_t& c = in[static_cast<size_t>((*this)[i])];
    if (c < 0) c = static_cast<int32_t>(other[i]);
    if (c != other[i]) return false;
  }
  return true;
}

Partition Refine(const Partition& a, const Partition& b) {
  TES_CHECK(a.extent_ == b.extent_, a.extent_, " and ", b.extent_);
  if (a.is_identity() || b.is_whole() || a == b) return a;
  if (b.is_identity() || a.is_whole()) return b;
  const size_t extent = static_cast<size_t>(a.extent_);
  const int64_t bound = a.num_classes_ * b.num_classes_;
  std::vector<int32_t> class_of(extent);
  if (Dense(bound, extent)) {
    const int32_t width = static_cast<int32_t>(b.num_classes_);
    for (size_t i = 0; i < extent; ++i) class_of[i] = a.class_of_[i] * width + b.class_of_[i];
    const int64_t classes = Renumber(class_of, bound);
    return Partition::FromClasses(std::move(class_of), classes);
  }
  LabelTable table(extent);
  for (size_t i = 0; i < extent; ++i) class_of[i] = table.Add(a.class_of_[i] * b.num_classes_ + b.class_of_[i]);
  return Partition::FromClasses(std::move(class_of), table.size());
}

// Class (p, q) begins at (first of p, first of q), so that numbering pairs row by row is in the order of first members.
Partition Product(const Partition& a, const Partition& b) {
  const int64_t extent = a.extent_ * b.extent_, classes = a.num_classes_ * b.num_classes_;
  if (classes <= 1) return Partition::Whole(extent);
  if (classes == extent) return Partition::Identity(extent);
  TES_CHECK(extent < std::numeric_limits<int32_t>::max(), "an axis of ", extent);
  std::vector<int32_t> class_of(static_cast<size_t>(extent));
  size_t k = 0;
  for (int64_t i = 0; i < a.extent_; ++i) {
    const int64_t base = a[i] * b.num_classes_;
    for (int64_t j = 0; j < b.extent_; ++j) class_of[k++] = static_cast<int32_t>(base + b[j]);
  }
  return Partition::FromClasses(std::move(class_of), classes);
}

}  // namespace tessera
