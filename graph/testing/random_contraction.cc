// Random cases of the families matmul (with scaled_matmul), conv and attention.
#include <cmath>
#include <string>
#include <vector>

#include "graph/testing/random_node.h"

namespace tessera {
namespace {

// Two types that contract with each other.
std::pair<DType, DType> FactorTypes(CaseBuilder& c) {
  if (c.Chance(0.7)) {
    const DType dtype = c.FloatType();
    return {dtype, dtype};
  }
  const auto integer = [&] {
    return c.Pick({DType::kI8, DType::kI8, DType::kU8, DType::kI32, DType::kI16, DType::kU16, DType::kI4, DType::kU4});
  };
  const DType a = integer();
  return {a, integer()};
}

// A random tensor of a factor. Integers use much of their range: the sums wrap, and must wrap alike everywhere.
void Factor(CaseBuilder& c, DType dtype, const Shape& shape) {
  const double reach = IsInteger(dtype) ? 40000 : 2;
  c.Input(dtype, shape, -reach, reach);
}

}  // namespace

void RandomMatmul(CaseBuilder& c) {
  const auto [a_type, b_type] = FactorTypes(c);
  const Shape batch = c.Chance(0.5) ? Shape() : c.RandomShape(0, 2);
  const int64_t m = c.Int(1, 9), n = c.Chance(0.2) ? c.Int(10, 37) : c.Int(1, 9);
  const int64_t k = c.Chance(0.2) ? c.Int(10, 50) : c.Int(1, 12);
  const auto factor = [&](DType dtype, int64_t rows, int64_t columns, std::string_view transpose) {
    if (c.Chance(0.4)) {
      c.attrs.Set(transpose, int64_t{1});
      std::swap(rows, columns);
    }
    std::vector<int64_t> dims = c.Chance(0.3) ? c.RandomBroadcast(batch).dims() : batch.dims();
    dims.push_back(rows);
    dims.push_back(columns);
    Factor(c, dtype, Shape(std::move(dims)));
  };
  factor(a_type, m, k, "transpose_a");
  factor(b_type, k, n, "transpose_b");
}

void RandomScaledMatmul(CaseBuilder& c) {
  const auto type = [&] { return c.Pick({DType::kU8, DType::kI8, DType::kI4, DType::kU4}); };
  const int64_t blocks = c.Int(1, 5), block = c.Int(1, 20), columns = c.Int(1, 20);
  std::vector<int64_t> dims = c.Chance(0.5) ? std::vector<int64_t>() : c.RandomShape(0, 2).dims();
  dims.insert(dims.end(), {c.Int(1, 9), blocks * block});
  Factor(c, type(), Shape(std::move(dims)));
  Factor(c, type(), {blocks * block, columns});
  Factor(c, DType::kF32, {blocks, columns});
}

void RandomConv(CaseBuilder& c) {
  const auto [x_type, w_type] = FactorTypes(c);
  const int rank = c.Chance(0.7) ? 2 : (c.Chance(0.7) ? 1 : 3);
  // No groups, one channel per group, or groups of several.
  const int kind = static_cast<int>(c.Int(0, 2));
  const int64_t groups = kind == 0 ? 1 : c.Int(2, 4);
  const int64_t in_channels = kind == 1 ? 1 : c.Int(1, 4), out_channels = kind == 1 ? 1 : c.Int(1, 4);
  const bool channels_last = c.Chance(0.5);
  std::vector<int64_t> x = {c.Int(1, 2)}, w = {groups * out_channels, in_channels};
  std::vector<int64_t> strides, dilations, begins, ends;
  if (!channels_last) x.push_back(groups * in_channels);
  for (int i = 0; i < rank; ++i) {
    const int64_t kernel = c.Int(1, rank == 3 ? 2 : 3), dilation = c.Chance(0.7) ? 1 : c.Int(1, 3);
    const int64_t span = (kernel - 1) * dilation + 1;
    const bool padded = c.Chance(0.5);
    begins.push_back(padded ? c.Int(0, span) : 0);
    ends.push_back(padded ? c.Int(0, span) : 0);
    strides.push_back(c.Chance(0.6) ? 1 : c.Int(1, 3));
    dilations.push_back(dilation);
    const int64_t most = rank == 1 ? 30 : (rank == 2 ? 9 : 5);
    x.push_back(std::max<int64_t>(1, span - begins.back() - ends.back()) + c.Int(0, most - 1));
    w.push_back(kernel);
  }
  if (channels_last) x.push_back(groups * in_channels);
  begins.insert(begins.end(), ends.begin(), ends.end());
  Factor(c, x_type, Shape(std::move(x)));
  Factor(c, w_type, Shape(std::move(w)));
  c.attrs.Set("strides", strides);
  c.attrs.Set("dilations", dilations);
  c.attrs.Set("pads", begins);
  c.attrs.Set("groups", groups);
  if (IsInteger(x_type) && c.Chance(0.5)) c.attrs.Set("pad_value", c.Int(IsUnsigned(x_type) ? 0 : -8, 7));
  c.attrs.Set("layout", std::string(channels_last ? "nhwc" : "nchw"));
}

void RandomAttention(CaseBuilder& c) {
  const DType dtype = c.FloatType();
  const int64_t batch = c.Int(1, 2), heads = c.Int(1, 3), queries = c.Int(1, 5), keys = c.Int(1, 9);
  const int64_t depth = c.Int(1, 9), value_depth = c.Chance(0.6) ? depth : c.Int(1, 9);
  const bool positions_first = c.Chance(0.4);
  if (positions_first || c.Chance(0.3)) c.attrs.Set("layout", std::string(positions_first ? "bshd" : "bhsd"));
  const auto operand = [&](int64_t positions, int64_t columns) {
    c.Input(dtype, positions_first ? Shape{batch, positions, heads, columns} : Shape{batch, heads, positions, columns},
            -2, 2);
  };
  operand(queries, depth);
  operand(keys, depth);
  operand(keys, value_depth);
  if (c.Chance(0.6)) {
    Tensor mask = c.RandomTensor(dtype, c.RandomBroadcast({batch, heads, queries, keys}), -2, 2);
    // Some keys are hidden, as by a padding mask. A row may lose all of them, so the mask is no larger than it must be:
    // scores keep their digits in f32 next to it.
    for (int64_t k = 0; k < mask.num_elements(); ++k) {
      if (c.Chance(0.2)) mask.Set(k, -40);
    }
    c.Input(std::move(mask));
  } else if (c.Chance(0.3)) {
    c.NoInput();
  }
  c.attrs.Set("scale", c.Chance(0.5) ? 1 / std::sqrt(static_cast<double>(depth)) : c.Real(0.1, 1));
}

}  // namespace tessera
