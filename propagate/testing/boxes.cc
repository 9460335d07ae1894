#include "propagate/testing/boxes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace tessera {
namespace {

StatusOr<Shape> Same(const std::vector<Shape>& in) { return in[0]; }
Status NoShape() { return Error(ErrorCode::kShapeMismatch, "no such instance"); }

double At(const RefTensor& t, int64_t k) { return t.is_float() ? t.f[k] : static_cast<double>(t.i[k]); }

StatusOr<BlackBox> Build(const std::string& name, std::span<const std::optional<TensorType>> inputs,
                         const BoxShape& shape, const BoxRun& run) {
  std::vector<Shape> shapes;
  for (const auto& type : inputs) shapes.push_back(type->shape);
  ASSIGN_OR_RETURN(Shape out, shape(shapes));
  BlackBox box;
  box.name = name;
  box.inputs.assign(inputs.begin(), inputs.end());
  box.outputs = {{DType::kF32, std::move(out)}};
  box.run = [run](std::span<const RefTensor* const> in, std::span<RefTensor> outputs) {
    run({in.begin(), in.end()}, outputs[0]);
  };
  box.resized = [name, shape, run](std::span<const std::optional<TensorType>> other) {
    return Build(name, other, shape, run);
  };
  return box;
}

}  // namespace

BlackBox MakeBox(std::string name, std::vector<Shape> inputs, BoxShape shape, BoxRun run, std::vector<DType> types) {
  std::vector<std::optional<TensorType>> in;
  for (size_t k = 0; k < inputs.size(); ++k)
    in.push_back(TensorType{types.empty() ? DType::kF32 : types[k], inputs[k]});
  StatusOr<BlackBox> box = Build(name, in, shape, run);
  TES_CHECK(box.ok(), box.status());
  return *std::move(box);
}

BlackBox MapBox(std::string name, Shape shape, std::function<double(double)> f) {
  return MakeBox(std::move(name), {std::move(shape)}, Same, [f](const auto& in, RefTensor& out) {
    for (int64_t k = 0; k < out.size(); ++k) out.f[k] = f(in[0]->f[k]);
  });
}

BlackBox BinaryBox(std::string name, Shape a, Shape b, std::function<double(double, double)> f) {
  const auto shape = [](const std::vector<Shape>& in) -> StatusOr<Shape> {
    const std::optional<Shape> joined = BroadcastShapes(in[0], in[1]);
    if (!joined) return NoShape();
    return *joined;
  };
  return MakeBox(std::move(name), {std::move(a), std::move(b)}, shape, [f](const auto& in, RefTensor& out) {
    int64_t k = 0;
    ForEachIndex(out.type.shape, [&](const std::vector<int64_t>& at) {
      double x[2];
      for (int n = 0; n < 2; ++n) {
        const Shape& s = in[n]->type.shape;
        int64_t e = 0;
        for (int d = 0; d < s.rank(); ++d) e = e * s[d] + (s[d] == 1 ? 0 : at[at.size() - s.rank() + d]);
        x[n] = in[n]->f[e];
      }
      out.f[k++] = f(x[0], x[1]);
    });
  });
}

BlackBox MatmulBox(Shape a, Shape b) {
  const auto shape = [](const std::vector<Shape>& in) -> StatusOr<Shape> {
    if (in[0][1] != in[1][0]) return NoShape();
    return Shape{in[0][0], in[1][1]};
  };
  return MakeBox("matmul", {std::move(a), std::move(b)}, shape, [](const auto& in, RefTensor& out) {
    const int64_t n = out.type.shape[1], inner = in[1]->type.shape[0];
    for (int64_t k = 0; k < out.size(); ++k) {
      for (int64_t c = 0; c < inner; ++c) out.f[k] += in[0]->f[k / n * inner + c] * in[1]->f[c * n + k % n];
    }
  });
}

BlackBox ConvBox(ConvOf c, Shape x, Shape w) {
  const auto shape = [c](const std::vector<Shape>& in) -> StatusOr<Shape> {
    if (in[0][1] != in[1][1] * c.groups || in[1][0] % c.groups != 0) return NoShape();
    Shape out = {in[0][0], in[1][0], 0, 0};
    for (int d = 2; d < 4; ++d) {
      const int64_t reach = in[0][d] + 2 * c.pad - c.dilation * (in[1][d] - 1) - 1;
      if (reach < 0) return NoShape();
      out[d] = reach / c.stride + 1;
    }
    return out;
  };
  return MakeBox("conv", {std::move(x), std::move(w)}, shape, [c](const auto& in, RefTensor& out) {
    const Shape &xs = in[0]->type.shape, &ws = in[1]->type.shape;
    const int64_t per_group = ws[0] / c.groups, window = ws[2] * ws[3];
    int64_t k = 0;
    ForEachIndex(out.type.shape, [&](const std::vector<int64_t>& at) {
      const double* x = in[0]->f.data() + (at[0] * xs[1] + at[1] / per_group * ws[1]) * xs[2] * xs[3];
      const double* w = in[1]->f.data() + at[1] * ws[1] * window;
      double sum = 0;
      for (int64_t tap = 0; tap < window; ++tap) {
        const int64_t y = at[2] * c.stride + tap / ws[3] * c.dilation - c.pad;
        const int64_t z = at[3] * c.stride + tap % ws[3] * c.dilation - c.pad;
        if (y < 0 || y >= xs[2] || z < 0 || z >= xs[3]) continue;
        for (int64_t ic = 0; ic < ws[1]; ++ic) sum += x[(ic * xs[2] + y) * xs[3] + z] * w[ic * window + tap];
      }
      out.f[k++] = sum;
    });
  });
}

BlackBox MaxPoolBox(int64_t k, int64_t stride, Shape x) {
  const auto shape = [k, stride](const std::vector<Shape>& in) -> StatusOr<Shape> {
    if (in[0][1] < k || in[0][2] < k) return NoShape();
    return Shape{in[0][0], (in[0][1] - k) / stride + 1, (in[0][2] - k) / stride + 1};
  };
  return MakeBox("max_pool", {std::move(x)}, shape, [k, stride](const auto& in, RefTensor& out) {
    const Shape& xs = in[0]->type.shape;
    int64_t n = 0;
    ForEachIndex(out.type.shape, [&](const std::vector<int64_t>& at) {
      double most = -std::numeric_limits<double>::infinity();
      for (int64_t i = 0; i < k * k; ++i) {
        const int64_t y = at[1] * stride + i / k, z = at[2] * stride + i % k;
        most = std::max(most, in[0]->f[(at[0] * xs[1] + y) * xs[2] + z]);
      }
      out.f[n++] = most;
    });
  });
}

BlackBox SoftmaxBox(Shape x) {
  return MakeBox("softmax", {std::move(x)}, Same, [](const auto& in, RefTensor& out) {
    const int64_t n = out.type.shape[out.type.shape.rank() - 1];
    for (int64_t row = 0; row < out.size(); row += n) {
      double most = in[0]->f[row], sum = 0;
      for (int64_t k = 0; k < n; ++k) most = std::max(most, in[0]->f[row + k]);
      for (int64_t k = 0; k < n; ++k) sum += out.f[row + k] = std::exp(in[0]->f[row + k] - most);
      for (int64_t k = 0; k < n; ++k) out.f[row + k] /= sum;
    }
  });
}

BlackBox LayerNormBox(Shape x) {
  const Shape row = {x[x.rank() - 1]};
  const auto shape = [](const std::vector<Shape>& in) -> StatusOr<Shape> {
    const Shape row = {in[0][in[0].rank() - 1]};
    if (in[1] != row || in[2] != row) return NoShape();
    return in[0];
  };
  return MakeBox("layer_norm", {std::move(x), row, row}, shape, [](const auto& in, RefTensor& out) {
    const int64_t n = in[1]->size();
    for (int64_t at = 0; at < out.size(); at += n) {
      double mean = 0, variance = 0;
      for (int64_t k = 0; k < n; ++k) mean += in[0]->f[at + k] / static_cast<double>(n);
      for (int64_t k = 0; k < n; ++k) variance += std::pow(in[0]->f[at + k] - mean, 2) / static_cast<double>(n);
      for (int64_t k = 0; k < n; ++k) {
        out.f[at + k] = (in[0]->f[at + k] - mean) / std::sqrt(variance + 1e-5) * in[1]->f[k] + in[2]->f[k];
      }
    }
  });
}

namespace {

BlackBox FoldBox(std::string name, Shape x, double start, std::function<double(double, double)> join) {
  const auto shape = [](const std::vector<Shape>& in) -> StatusOr<Shape> { return Shape{in[0][0]}; };
  return MakeBox(std::move(name), {std::move(x)}, shape, [start, join](const auto& in, RefTensor& out) {
    const int64_t n = in[0]->type.shape[1];
    for (int64_t k = 0; k < out.size(); ++k) {
      out.f[k] = start;
      for (int64_t c = 0; c < n; ++c) out.f[k] = join(out.f[k], in[0]->f[k * n + c]);
    }
  });
}

// out[k] = in0[from(k, shape of in0)], 0 where that is negative.
BlackBox MoveBox(std::string name, Shape x, BoxShape shape,
                 std::function<int64_t(const std::vector<int64_t>&, const Shape&)> from) {
  return MakeBox(std::move(name), {std::move(x)}, std::move(shape), [from](const auto& in, RefTensor& out) {
    int64_t k = 0;
    ForEachIndex(out.type.shape, [&](const std::vector<int64_t>& at) {
      const int64_t e = from(at, in[0]->type.shape);
      out.f[k++] = e < 0 ? 0 : in[0]->f[e];
    });
  });
}

}  // namespace

BlackBox SumBox(Shape x) {
  return FoldBox("sum", std::move(x), 0, [](double a, double b) { return a + b; });
}
BlackBox ProductBox(Shape x) {
  return FoldBox("product", std::move(x), 1, [](double a, double b) { return a * b; });
}

BlackBox TransposeBox(Shape x) {
  const auto shape = [](const std::vector<Shape>& in) -> StatusOr<Shape> { return Shape{in[0][1], in[0][0]}; };
  return MoveBox("transpose", std::move(x), shape,
                 [](const auto& at, const Shape& in) { return at[1] * in[1] + at[0]; });
}

BlackBox ConcatBox(std::vector<Shape> parts) {
  const auto shape = [](const std::vector<Shape>& in) -> StatusOr<Shape> {
    Shape out = {0, in[0][1]};
    for (const Shape& part : in) {
      if (part[1] != out[1]) return NoShape();
      out[0] += part[0];
    }
    return out;
  };
  return MakeBox("concat", std::move(parts), shape, [](const auto& in, RefTensor& out) {
    auto to = out.f.begin();
    for (const RefTensor* part : in) to = std::copy(part->f.begin(), part->f.end(), to);
  });
}

BlackBox PadBox(int64_t before, int64_t after, Shape x) {
  const auto shape = [=](const std::vector<Shape>& in) -> StatusOr<Shape> { return Shape{in[0][0] + before + after}; };
  return MoveBox("pad", std::move(x), shape, [=](const auto& at, const Shape& in) {
    const int64_t e = at[0] - before;
    return e < in[0] ? e : -1;
  });
}

BlackBox ReflectBox(int64_t pad, Shape x) {
  const auto shape = [=](const std::vector<Shape>& in) -> StatusOr<Shape> {
    if (in[0][0] <= pad) return NoShape();
    return Shape{in[0][0] + 2 * pad};
  };
  return MoveBox("reflect", std::move(x), shape, [=](const auto& at, const Shape& in) {
    const int64_t e = std::abs(at[0] - pad);
    return e < in[0] ? e : 2 * (in[0] - 1) - e;
  });
}

BlackBox SliceBox(int64_t start, int64_t step, int64_t size, Shape x) {
  const auto shape = [=](const std::vector<Shape>& in) -> StatusOr<Shape> {
    if (in[0][0] <= start + step * (size - 1)) return NoShape();
    return Shape{size, in[0][1]};
  };
  return MoveBox("slice", std::move(x), shape,
                 [=](const auto& at, const Shape& in) { return (start + step * at[0]) * in[1] + at[1]; });
}

BlackBox ReshapeBox(Shape from, Shape to) {
  BlackBox box = MakeBox(
      "reshape", {std::move(from)}, [to](const auto&) -> StatusOr<Shape> { return to; },
      [](const auto& in, RefTensor& out) { out.f = in[0]->f; });
  box.resized = nullptr;
  return box;
}

BlackBox GatherBox(Shape x, Shape indices) {
  const auto shape = [](const std::vector<Shape>& in) -> StatusOr<Shape> { return Shape{in[1][0], in[0][1]}; };
  return MakeBox("gather", {std::move(x), std::move(indices)}, shape,
                 [](const auto& in, RefTensor& out) {
                   const int64_t rows = in[0]->type.shape[0], n = in[0]->type.shape[1];
                   for (int64_t k = 0; k < out.size(); ++k) {
                     const int64_t row = static_cast<int64_t>(At(*in[1], k / n));
                     out.f[k] = row < 0 || row >= rows ? 0 : in[0]->f[row * n + k % n];
                   }
                 },
                 {DType::kF32, DType::kI64});
}

BlackBox WhereBox(Shape shape) {
  const auto same = [](const std::vector<Shape>& in) -> StatusOr<Shape> {
    if (in[1] != in[0] || in[2] != in[0]) return NoShape();
    return in[0];
  };
  return MakeBox("where", {shape, shape, shape}, same,
                 [](const auto& in, RefTensor& out) {
                   for (int64_t k = 0; k < out.size(); ++k) out.f[k] = in[At(*in[0], k) != 0 ? 1 : 2]->f[k];
                 },
                 {DType::kBool, DType::kF32, DType::kF32});
}

BlackBox RollBox(int64_t shift, Shape x) {
  return MoveBox("roll", std::move(x), Same,
                 [=](const auto& at, const Shape& in) { return (at[0] + in[0] - shift % in[0]) % in[0]; });
}

BlackBox CumsumBox(Shape x) {
  return MakeBox("cumsum", {std::move(x)}, Same, [](const auto& in, RefTensor& out) {
    const int64_t n = out.type.shape[1];
    for (int64_t k = 0; k < out.size(); ++k) out.f[k] = in[0]->f[k] + (k % n == 0 ? 0 : out.f[k - 1]);
  });
}

BlackBox BandedBox(int64_t band, Shape a, Shape b) {
  const auto shape = [](const std::vector<Shape>& in) -> StatusOr<Shape> {
    if (in[0][1] != in[1][0]) return NoShape();
    return Shape{in[0][0], in[1][1]};
  };
  return MakeBox("banded", {std::move(a), std::move(b)}, shape, [band](const auto& in, RefTensor& out) {
    const int64_t n = out.type.shape[1], inner = in[1]->type.shape[0];
    for (int64_t k = 0; k < out.size(); ++k) {
      for (int64_t c = 0; c < inner; ++c) {
        if (std::abs(k / n - c) <= band) out.f[k] += in[0]->f[k / n * inner + c] * in[1]->f[c * n + k % n];
      }
    }
  });
}

BlackBox CheckerboardBox(Shape shape) {
  const auto same = [](const std::vector<Shape>& in) -> StatusOr<Shape> {
    if (in[1] != in[0]) return NoShape();
    return in[0];
  };
  return MakeBox("checkerboard", {shape, shape}, same, [](const auto& in, RefTensor& out) {
    const int64_t n = out.type.shape[1];
    for (int64_t k = 0; k < out.size(); ++k) {
      out.f[k] = in[0]->f[k] + ((k / n + k % n) % 2 == 0 ? in[1]->f[k] : 0);
    }
  });
}

}  // namespace tessera
