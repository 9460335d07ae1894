// Needed: which elements of a tensor can still change a result of the network, and how many bits of them. It flows
// backward, from the outputs.
//
//   live or dead      for each element
//   bits              the most that any reader uses of a live element (64: all that there are)
//
// A dead element is unread, not zero: no rule may take it for a zero. With several readers an element is dead only when
// it is dead for all, and its bits are the largest that any of them reads (Join). A reader of an element that is Known
// uses the constant, not the memory: that is why an element may be dead *and* known to be zero for a reader that
// depends on the zero. Values only; thread-compatible. Tested by needed_test.cc.
#ifndef TESSERA_TESA_NEEDED_H_
#define TESSERA_TESA_NEEDED_H_

#include <cstdint>
#include <string>

#include "tesa/cells.h"
#include "tesa/types.h"

namespace tessera {

struct Needed {
  Cells<uint8_t> live;  // 1 live, 0 dead
  int bits = 64;        // 0 when nothing is live

  static Needed All(const Shape& shape, int bits = 64);
  static Needed Nothing(const Shape& shape);
  static Needed FromElements(const Shape& shape, std::span<const uint8_t> live, int bits = 64);

  const Shape& shape() const { return live.shape; }
  bool at(std::span<const int64_t> index) const { return live.at(index) != 0; }
  bool all_live() const { return live.IsUniform(1); }
  bool none_live() const { return live.IsUniform(0); }
  int64_t num_live() const { return live.Count(1); }
  std::string ToString() const;

  friend bool operator==(const Needed& a, const Needed& b) { return a.bits == b.bits && a.live == b.live; }
  // What serves both readers.
  friend Needed Join(const Needed& a, const Needed& b);
};

Needed Join(const Needed& a, const Needed& b);

}  // namespace tessera

#endif  // TESSERA_TESA_NEEDED_H_
