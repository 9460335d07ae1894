// Random cases of the families movement and gather.
#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "graph/testing/random_node.h"

namespace tessera {
namespace {

// Any type may be moved.
DType AnyType(CaseBuilder& c) { return c.Chance(0.15) ? DType::kBool : c.NumberType(); }

}  // namespace

void RandomReshape(CaseBuilder& c) {
  const Shape from = c.RandomShape(0, 4);
  // Breaks the number of elements into random factors, with some ones between.
  std::vector<int64_t> dims;
  int64_t rest = from.num_elements();
  while (rest > 1) {
    std::vector<int64_t> divisors;
    for (int64_t d = 2; d <= rest; ++d) {
      if (rest % d == 0) divisors.push_back(d);
    }
    dims.push_back(divisors[c.Int(0, static_cast<int64_t>(divisors.size()) - 1)]);
    rest /= dims.back();
    if (c.Chance(0.2)) dims.push_back(1);
  }
  c.Input(AnyType(c), from);
  c.attrs.Set("shape", dims);
}

void RandomTranspose(CaseBuilder& c) {
  const Shape shape = c.RandomShape(0, 4);
  std::vector<int64_t> perm(shape.rank());
  std::iota(perm.begin(), perm.end(), 0);
  std::shuffle(perm.begin(), perm.end(), c.rng());
  c.Input(AnyType(c), shape);
  c.attrs.Set("perm", perm);
}

void RandomExpand(CaseBuilder& c) {
  const Shape target = c.RandomShape(0, 4);
  c.Input(AnyType(c), c.RandomBroadcast(target));
  c.attrs.Set("shape", target.dims());
}

void RandomTile(CaseBuilder& c) {
  const Shape shape = c.RandomShape(0, 3);
  std::vector<int64_t> repeats;
  for (int d = 0; d < shape.rank(); ++d) repeats.push_back(c.Int(1, 3));
  c.Input(AnyType(c), shape);
  c.attrs.Set("repeats", repeats);
}

void RandomSlice(CaseBuilder& c) {
  const Shape shape = c.RandomShape(0, 4);
  std::vector<int64_t> starts, steps, sizes;
  for (int64_t extent : shape) {
    const int64_t start = c.Int(0, extent - 1);
    const int64_t step = c.Chance(0.5) ? 1 : c.Pick<int64_t>({-3, -2, -1, 2, 3});
    const int64_t most = step > 0 ? (extent - 1 - start) / step + 1 : start / -step + 1;
    starts.push_back(start);
    steps.push_back(step);
    sizes.push_back(c.Int(1, most));
  }
  c.Input(AnyType(c), shape);
  c.attrs.Set("starts", starts);
  c.attrs.Set("steps", steps);
  c.attrs.Set("sizes", sizes);
}

void RandomConcat(CaseBuilder& c) {
  const DType dtype = AnyType(c);
  Shape shape = c.RandomShape(1, 4);
  const int axis = static_cast<int>(c.Int(0, shape.rank() - 1));
  const int64_t count = c.Int(1, 4);
  for (int64_t k = 0; k < count; ++k) {
    c.Input(dtype, shape);
    shape[axis] = c.Int(1, 6);
  }
  c.attrs.Set("axis", int64_t{axis});
}

void RandomPad(CaseBuilder& c) {
  const DType dtype = AnyType(c);
  const std::string mode = c.Pick({"constant", "constant", "reflect", "edge", "wrap"});
  const Shape shape = c.RandomShape(0, 3);
  std::vector<int64_t> begins, ends;
  for (int64_t extent : shape) {
    // A constant may crop; the others may repeat x more than once.
    const int64_t least = mode == "constant" && c.Chance(0.3) ? -(extent - 1) / 2 : 0;
    begins.push_back(c.Chance(0.3) ? 0 : c.Int(least, extent + 3));
    ends.push_back(c.Chance(0.3) ? 0 : c.Int(least, extent + 3));
  }
  begins.insert(begins.end(), ends.begin(), ends.end());
  c.Input(dtype, shape);
  c.attrs.Set("pads", begins);
  c.attrs.Set("mode", mode);
  if (c.Chance(0.5)) {
    c.attrs.Set("value", IsFloat(dtype) ? 0.5 * static_cast<double>(c.Int(-5, 5)) : static_cast<double>(c.Int(0, 1)));
  }
}

void RandomGather(CaseBuilder& c) {
  const Shape shape = c.RandomShape(1, 3);
  const int axis = static_cast<int>(c.Int(0, shape.rank() - 1));
  c.Input(AnyType(c), shape);
  // Indices of both signs, and some that are out of range on either side.
  const double extent = static_cast<double>(shape[axis]);
  const bool wild = c.Chance(0.3);
  std::vector<int64_t> dims;
  for (int64_t d = c.Int(0, 2); d > 0; --d) dims.push_back(c.Int(1, 5));
  c.Input(c.Pick({DType::kI32, DType::kI64}), Shape(std::move(dims)), wild ? -2 * extent : -extent,
          wild ? 2 * extent : extent - 1);
  c.attrs.Set("axis", int64_t{axis});
}

void RandomGatherElements(CaseBuilder& c) {
  const Shape shape = c.RandomShape(1, 3);
  const int axis = static_cast<int>(c.Int(0, shape.rank() - 1));
  Shape picked = shape;
  for (int d = 0; d < shape.rank(); ++d) picked[d] = c.Int(1, d == axis ? 6 : shape[d]);
  const double extent = static_cast<double>(shape[axis]);
  const bool wild = c.Chance(0.3);
  c.Input(AnyType(c), shape);
  c.Input(c.Pick({DType::kI32, DType::kI64}), picked, wild ? -2 * extent : -extent, wild ? 2 * extent : extent - 1);
  c.attrs.Set("axis", int64_t{axis});
}

}  // namespace tessera
