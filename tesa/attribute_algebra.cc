#include "tesa/attribute_algebra.h"

#include <vector>

#include "tesa/cells.h"

namespace tessera {

Attribute BroadcastTo(const Attribute& attribute, const Shape& shape) {
  if (attribute.shape() == shape) return attribute;
  return AttributeOf(BitCells(attribute).BroadcastTo(shape));
}

Attribute Concat(std::span<const Attribute* const> parts, int axis) {
  std::vector<Cells<uint8_t>> cells;
  cells.reserve(parts.size());
  std::vector<const Cells<uint8_t>*> pointers;
  for (const Attribute* part : parts) pointers.push_back(&cells.emplace_back(BitCells(*part)));
  return AttributeOf(Concat<uint8_t>(pointers, axis));
}

}  // namespace tessera
