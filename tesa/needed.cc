#include "tesa/needed.h"

#include <algorithm>

#include "tesa/describe.h"

namespace tessera {
namespace {

Needed Made(Cells<uint8_t> live, int bits) {
  if (live.IsUniform(0)) bits = 0;
  return {std::move(live), bits};
}

}  // namespace

Needed Needed::All(const Shape& shape, int bits) { return Made(Cells<uint8_t>::Uniform(shape, 1), bits); }

Needed Needed::Nothing(const Shape& shape) { return Made(Cells<uint8_t>::Uniform(shape, 0), 0); }

Needed Needed::FromElements(const Shape& shape, std::span<const uint8_t> live, int bits) {
  Cells<uint8_t> cells = Cells<uint8_t>::FromElements(shape, live);
  const bool as_is = std::all_of(cells.values.begin(), cells.values.end(), [](uint8_t v) { return v <= 1; });
  if (!as_is) {
    for (uint8_t& value : cells.values) value = value != 0;
    cells = cells.Coarsest();
  }
  return Made(std::move(cells), bits);
}

std::string Needed::ToString() const {
  if (none_live()) return "dead";
  std::string text = "live";
  if (!all_live()) {
    Cells<uint8_t> dead = live;
    for (uint8_t& value : dead.values) value = value == 0;
    text += " but for " + DescribeSet(dead);
  }
  if (bits < 64) text += ", " + std::to_string(bits) + " bits";
  return text;
}

Needed Join(const Needed& a, const Needed& b) {
  if (a.all_live() || b.none_live()) return Made(a.live, std::max(a.bits, b.bits));
  if (b.all_live() || a.none_live()) return Made(b.live, std::max(a.bits, b.bits));
  return Made(Combine(a.live, b.live, [](uint8_t x, uint8_t y) -> uint8_t { return x | y; }), std::max(a.bits, b.bits));
}

}  // namespace tessera
