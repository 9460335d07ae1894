// Partition: the indices 0 … extent-1 of one axis, sorted into classes whose members are alike.
//
//   Partition p = Partition::FromLabels({7, 7, 3, 7});   // classes 0 = {0, 1, 3}, 1 = {2}
//   p[2] == 1;  p.num_classes() == 2;  p.Firsts() == {0, 2};
//
// What is said of a tensor is mostly said of whole rows, channels or blocks: indices of one axis about which the same
// is said form one class, and every computation on attributes walks classes instead of indices (cells.h). Classes are
// numbered in the order of their first members, so that equal partitions are equal values. An axis whose indices are
// all alike (Whole) or all different (Identity) takes no memory. Values only; thread-compatible. Tested by
// partition_test.cc.
#ifndef TESSERA_TESA_PARTITION_H_
#define TESSERA_TESA_PARTITION_H_

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

namespace tessera {

class Partition {
 public:
  // The empty axis.
  Partition() = default;
  // One class (none for extent 0).
  static Partition Whole(int64_t extent);
  // Each index its own class.
  static Partition Identity(int64_t extent);
  // Indices with equal labels form a class.
  static Partition FromLabels(std::span<const int64_t> labels);
  static Partition FromLabels(std::initializer_list<int64_t> labels);
  // Runs of `block` neighbours, the last one shorter where block does not divide extent.
  static Partition Blocks(int64_t extent, int64_t block);

  int64_t extent() const { return extent_; }
  int64_t num_classes() const { return num_classes_; }
  bool is_whole() const { return num_classes_ <= 1; }
  bool is_identity() const { return num_classes_ == extent_; }
  // The class of index i.
  int64_t operator[](int64_t i) const {
    return class_of_.empty() ? (num_classes_ == extent_ ? i : 0) : class_of_[static_cast<size_t>(i)];
  }
  // The first member of each class, ascending.
  std::vector<int64_t> Firsts() const;
  // Members of each class.
  std::vector<int64_t> Sizes() const;
  // The members of each class, ascending.
  std::vector<std::vector<int64_t>> Members() const;

  // The partition of 0 … indices.size()-1 in which k has the class of indices[k]; index -1 is a class of its own.
  Partition Pulled(std::span<const int64_t> indices) const;
  // Is each class of this within one class of `other`?
  bool Refines(const Partition& other) const;

  // Indices are together where they are in both: the coarsest partition that refines a and b. Equal extents.
  friend Partition Refine(const Partition& a, const Partition& b);
  // The result index a * b.extent() + b has the classes of the pair (a, b): two axes merged into one.
  friend Partition Product(const Partition& a, const Partition& b);
  friend bool operator==(const Partition& a, const Partition& b) = default;

 private:
  static Partition FromClasses(std::vector<int32_t> class_of, int64_t num_classes);

  int64_t extent_ = 0;
  int64_t num_classes_ = 0;
  std::vector<int32_t> class_of_;  // empty when whole or identity
};

Partition Refine(const Partition& a, const Partition& b);
Partition Product(const Partition& a, const Partition& b);

}  // namespace tessera

#endif  // TESSERA_TESA_PARTITION_H_
