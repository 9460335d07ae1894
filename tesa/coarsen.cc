#include "tesa/coarsen.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace tessera::internal {
namespace {

// From this many bytes on, runs along the inner axes are hashed a word at a time.
constexpr int64_t kLongRun = 64;

uint64_t Mix(uint64_t x) {  // splitmix64's finaliser
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

// The k-th of a fixed sequence of odd multipliers.
uint64_t Multiplier(int64_t k) { return Mix(static_cast<uint64_t>(k) * 0x9e3779b97f4a7c15u + 0x1234567) | 1; }

uint64_t BitsOf(uint8_t value) { return value; }
uint64_t BitsOf(int32_t value) { return static_cast<uint32_t>(value); }
uint64_t BitsOf(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits ^ bits >> 32;  // the low halves of round numbers are all zero; the map stays one to one
}

uint64_t HashRun(const void* data, size_t bytes) {
  const auto* at = static_cast<const unsigned char*>(data);
  uint64_t a = 0x243f6a8885a308d3u, b = 0x13198a2e03707344u;
  uint64_t words[2];
  for (; bytes >= 16; bytes -= 16, at += 16) {
    std::memcpy(words, at, 16);
    a = (a ^ words[0]) * 0x9e3779b97f4a7c15u;
    b = (b ^ words[1]) * 0xd6e8feb86659fd93u;
    a ^= a >> 32;
    b ^= b >> 32;
  }
  words[0] = words[1] = 0;
  std::memcpy(words, at, bytes);
  return Mix(Mix(a ^ words[0]) + (b ^ words[1]) * 0xa0761d6478bd642fu);
}

// An array as [outer, extent, inner], whose slices along the middle axis are compared.
template <typename T>
struct Slices {
  const T* values;
  int64_t outer, extent, inner;

  const T* run(int64_t o, int64_t k) const { return values + (o * extent + k) * inner; }
  bool RunsEqual(int64_t o, int64_t k, int64_t l) const {
    if (inner == 1) return std::memcmp(run(o, k), run(o, l), sizeof(T)) == 0;
    return std::memcmp(run(o, k), run(o, l), static_cast<size_t>(inner) * sizeof(T)) == 0;
  }

  // Slices with equal labels are most probably equal, those with different labels differ.
  std::vector<int64_t> Hashes() const {
    std::vector<int64_t> hashes(static_cast<size_t>(extent), 0);
    if (inner * static_cast<int64_t>(sizeof(T)) >= kLongRun) {
      for (int64_t o = 0; o < outer; ++o) {
        const uint64_t multiplier = Multiplier(o);
        for (int64_t k = 0; k < extent; ++k) {
          const uint64_t hash = HashRun(run(o, k), static_cast<size_t>(inner) * sizeof(T)) * multiplier;
          hashes[static_cast<size_t>(k)] =
              static_cast<int64_t>(static_cast<uint64_t>(hashes[static_cast<size_t>(k)]) + hash);
        }
      }
      return hashes;
    }
    // Short runs: a sum for each position of a row, which the compiler makes vectors of.
    const int64_t width = extent * inner;
    std::vector<uint64_t> sums(static_cast<size_t>(width), 0);
    for (int64_t o = 0; o < outer; ++o) {
      const uint64_t multiplier = Multiplier(o);
      const T* row = values + o * width;
      for (int64_t j = 0; j < width; ++j) sums[static_cast<size_t>(j)] += BitsOf(row[j]) * multiplier;
    }
    for (int64_t k = 0; k < extent; ++k) {
      uint64_t hash = 0;
      for (int64_t j = 0; j < inner; ++j) hash += Mix(sums[static_cast<size_t>(k * inner + j)]) * Multiplier(j);
      hashes[static_cast<size_t>(k)] = static_cast<int64_t>(hash);
    }
    return hashes;
  }

  // Is each slice equal to the first of its class?
  bool Holds(const Partition& classes) const {
    if (classes.is_identity()) return true;
    const std::vector<int64_t> firsts = classes.Firsts();
    std::vector<int64_t> first_of(static_cast<size_t>(extent));
    for (int64_t k = 0; k < extent; ++k) first_of[static_cast<size_t>(k)] = firsts[static_cast<size_t>(classes[k])];
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t k = 0; k < extent; ++k) {
        const int64_t first = first_of[static_cast<size_t>(k)];
        if (first != k && !RunsEqual(o, k, first)) return false;
      }
    }
    return true;
  }

  // The classes without hashes, for arrays that were made to collide: value by value.
  Partition Exact() const {
    Partition classes = Partition::Whole(extent);
    std::vector<int64_t> labels(static_cast<size_t>(extent));
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t j = 0; j < inner; ++j) {
        for (int64_t k = 0; k < extent; ++k)
          labels[static_cast<size_t>(k)] = static_cast<int64_t>(BitsOf(run(o, k)[j]));
        classes = Refine(classes, Partition::FromLabels(labels));
      }
    }
    return classes;
  }

  Partition Classes() const {
    if (extent <= 1) return Partition::Whole(extent);
    if (outer * inner == 1) {
      std::vector<int64_t> labels(static_cast<size_t>(extent));
      for (int64_t k = 0; k < extent; ++k) labels[static_cast<size_t>(k)] = static_cast<int64_t>(BitsOf(values[k]));
      return Partition::FromLabels(labels);
    }
    Partition classes = Partition::FromLabels(Hashes());
    return Holds(classes) ? classes : Exact();
  }

  // The first slice of each class.
  std::vector<T> Firsts(const Partition& classes) const {
    const std::vector<int64_t> firsts = classes.Firsts();
    std::vector<T> result(static_cast<size_t>(outer * inner) * firsts.size());
    T* out = result.data();
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t first : firsts) {
        if (inner == 1) {
          *out++ = *run(o, first);
        } else {
          out = std::copy_n(run(o, first), inner, out);
        }
      }
    }
    return result;
  }
};

}  // namespace

template <typename T>
Coarse<T> Coarsen(const Shape& shape, std::span<const T> values) {
  const int64_t count = shape.num_elements();
  TES_CHECK(static_cast<int64_t>(values.size()) == count, values.size(), " values for ", shape);
  Coarse<T> result;
  if (count == 0) {
    for (int64_t extent : shape) result.axes.push_back(Partition::Whole(extent));
    return result;
  }
  // What one axis merges no longer burdens the next: equal slices of an array are equal slices of its distinct rows.
  result.unchanged = true;
  std::span<const T> now = values;
  int64_t outer = 1, inner = count;
  for (int64_t extent : shape) {
    inner /= extent;
    const Slices<T> slices = {now.data(), outer, extent, inner};
    Partition classes = slices.Classes();
    if (!classes.is_identity()) {
      result.values = slices.Firsts(classes);
      result.unchanged = false;
      now = result.values;
    }
    outer *= classes.num_classes();
    result.axes.push_back(std::move(classes));
  }
  return result;
}

template Coarse<uint8_t> Coarsen(const Shape&, std::span<const uint8_t>);
template Coarse<int32_t> Coarsen(const Shape&, std::span<const int32_t>);
template Coarse<double> Coarsen(const Shape&, std::span<const double>);

}  // namespace tessera::internal
