#include "tests/grid/never_slower.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include "engine/engine_internal.h"
#include "graph/builder.h"
#include "models/prune/prune.h"
#include "runtime/timed_rounds.h"
#include "tests/grid/held_processors.h"

namespace tessera {
namespace {

int64_t LogUniform(Random& random, double low, double high) {
  return static_cast<int64_t>(std::lround(std::exp(random.Uniform(std::log(low), std::log(high)))));
}

// relu(sum + bias), for bytes scaled back to bytes.
ValueId Finish(GraphBuilder& b, ValueId sums, Random& random, int64_t rows, bool by_channel_axis, int64_t depth,
               bool int8) {
  Shape per_row = by_channel_axis ? Shape({rows, 1, 1}) : Shape({rows});
  BodyBuilder body;
  if (!int8) {
    const Scalar result = Max(body.Input(DType::kF32) + body.Input(DType::kF32), 0.0);
    const ValueId bias = b.Constant("bias", RandomTensor(random, {DType::kF32, per_row}));
    return b.WithEpilogue(sums, body.Finish(result), {bias}, DType::kF32);
  }
  const auto rounded = [&](Scalar x) { return body.Narrow(x, DType::kF32); };
  const Scalar sum = body.Input(DType::kI32) + body.Input(DType::kI32);
  Scalar value = rounded(body.Cast(sum, DType::kF32) * body.Input(DType::kF32));
  value = Min(Max(RoundEven(value), 0.0), 255.0);
  const ValueId bias = b.Constant("bias", RandomTensorIn(random, {DType::kI32, per_row}, -1000, 1000));
  const ValueId scale =
      b.Constant("scale", Tensor::Full(DType::kF32, per_row, 0.05 / std::sqrt(static_cast<double>(depth))));
  return b.WithEpilogue(sums, body.Finish(body.Cast(value, DType::kI32)), {bias, scale}, DType::kU8);
}

// A compiled layer with its outputs.
class Side {
 public:
  static StatusOr<Side> Make(const Model& model, const Graph& graph, bool sparsity, const CompareOptions& compare) {
    Options options;
    options.target = compare.target;
    options.threads = compare.threads;
    options.sparsity = sparsity;
    ASSIGN_OR_RETURN(Session session, model.Compile(options));
    Side side(std::move(session));
    const Value& output = graph[graph.outputs[0]];
    side.output_ = Tensor(output.type.dtype, output.type.shape);
    return side;
  }

  const Tensor& output() const { return output_; }
  const Session& session() const { return session_; }
  Status Run(const void* input) { return RunTo(output_, input); }
  Status RunTo(Tensor& output, const void* input) {
    void* to = output.mutable_bytes().data();
    return session_.RunPositional(&input, &to);
  }

 private:
  explicit Side(Session session) : session_(std::move(session)) {}
  Session session_;
  Tensor output_;
};

void PruneSkewed(Graph& graph, uint64_t seed) {
  Random random(seed);
  for (Value& value : graph.values) {
    if (value.kind != ValueKind::kConstant || value.name != "w") continue;
    const int64_t rows = value.type.shape[0], elements = value.type.shape.num_elements();
    Bitmap kept(elements);
    for (int64_t at = 0; at < elements; ++at) kept.Set(at, at < rows / 3 * (elements / rows) || random.Chance(0.01));
    value.tesa = Attribute::FromKept(value.type.shape, kept, TypeInfo(value.type.dtype).bits);
    value.constant = value.tesa->ApplyTo(value.constant);
  }
}

bool Agree(const Tensor& a, const Tensor& b) {
  double largest = 0, difference = 0;
  for (int64_t k = 0; k < a.num_elements(); ++k) {
    largest = std::max(largest, std::fabs(a.Get(k)));
    difference = std::max(difference, std::fabs(a.Get(k) - b.Get(k)));
  }
  return difference <= (IsFloat(a.dtype()) ? 1e-5 * largest : 0);
}

std::string WayOf(const std::string& line) {  // "node 'y': matmul; …"
  if (line.empty()) return "folded";
  const size_t from = line.find("': ");
  return from == std::string::npos ? line : line.substr(from + 3, line.find(';') - from - 3);
}

}  // namespace

Layer RandomLayer(Random& random, bool int8) {
  const int64_t rows = LogUniform(random, 8, 2048), depth = LogUniform(random, 8, 2048);
  const bool conv = random.Chance(0.25);
  const bool wide = conv && random.Chance(0.5);
  const DType x_type = int8 ? DType::kU8 : DType::kF32, w_type = int8 ? DType::kI8 : DType::kF32;
  const auto weights = [&](const Shape& shape) {
    return int8 ? RandomTensorIn(random, {w_type, shape}, -127, 127)
                : RandomTensor(random, {w_type, shape}, 1 / std::sqrt(static_cast<double>(depth)));
  };
  Layer layer;
  GraphBuilder b("layer");
  const std::string type = int8 ? "i8" : "f32";
  if (conv) {
    const int64_t side = LogUniform(random, 4, 40), kernel = wide ? 3 : 1;
    const int64_t in = wide ? std::max<int64_t>(8, depth / 9) : depth, out = std::min<int64_t>(rows, 512);
    const ValueId x = b.Input("x", x_type, {1, in, side, side});
    WindowParams window;
    if (wide) window.pads = {1, 1, 1, 1};
    const ValueId sums = b.Conv(x, b.Constant("w", weights({out, in, kernel, kernel})), window);
    b.Output(Finish(b, sums, random, out, true, in * kernel * kernel, int8));
    layer.name = internal::Join(type, " conv ", kernel, "x", kernel, " ", in, "->", out, " on ", side, "x", side);
  } else {
    const int64_t columns = LogUniform(random, 1, 1024);
    const ValueId x = b.Input("x", x_type, {columns, depth});
    const ValueId sums = b.Matmul(x, b.Constant("w", weights({rows, depth})), false, true);
    b.Output(Finish(b, sums, random, rows, false, depth, int8));
    layer.name = internal::Join(type, " matmul ", columns, "x", depth, "x", rows);
  }
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  layer.graph = *std::move(graph);
  return layer;
}

double SlowdownLowerBound(std::span<const double> dense, std::span<const double> sparse) {
  // Student's t at 95 %, one-sided, by degrees of freedom; beyond the table the normal's.
  constexpr std::array<double, 21> kT = {0,     6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812,
                                         1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725};
  const auto n = static_cast<double>(dense.size());
  double mean = 0, squares = 0;
  for (size_t k = 0; k < dense.size(); ++k) mean += std::log(sparse[k] / dense[k]) / n;
  for (size_t k = 0; k < dense.size(); ++k) squares += std::pow(std::log(sparse[k] / dense[k]) - mean, 2);
  const double t = dense.size() <= kT.size() ? kT[dense.size() - 1] : 1.645;
  return std::exp(mean - t * std::sqrt(squares / (n - 1) / n)) - 1;
}

StatusOr<Verdict> Compare(const Layer& layer, const std::string& prune, const CompareOptions& options) {
  Graph graph = layer.graph;
  if (prune == kSkewed) {
    PruneSkewed(graph, options.seed);
  } else {
    ASSIGN_OR_RETURN(const PruneSpec spec, ParsePruneSpec(prune));
    Prune(graph, spec, options.seed);
  }
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(graph));
  ASSIGN_OR_RETURN(Side dense, Side::Make(model, graph, false, options));
  ASSIGN_OR_RETURN(Side sparse, Side::Make(model, graph, true, options));
  Random random(options.seed);
  const TensorType& type = graph[graph.inputs[0]].type;
  const Tensor input = IsFloat(type.dtype) ? RandomTensorIn(random, type, -1, 1) : RandomTensorIn(random, type, 0, 255);
  const void* from = input.bytes().data();
  RETURN_IF_ERROR(dense.Run(from));
  RETURN_IF_ERROR(sparse.Run(from));
  if (!Agree(dense.output(), sparse.output())) {
    return Error(ErrorCode::kResultWrong, layer.name, " ", prune, ": sparse and dense kernels disagree");
  }
  // Both write the same memory: where it lies among the others' lines is worth several percent of a microsecond.
  Tensor output(dense.output().dtype(), dense.output().shape());
  const std::function<Status()> runs[] = {[&] { return sparse.RunTo(output, from); },
                                          [&] { return dense.RunTo(output, from); }};
  Verdict verdict;
  if (!sparse.session().report().decisions.empty()) verdict.decision = sparse.session().report().decisions.back();
  verdict.way = WayOf(verdict.decision);
  const HeldProcessors held;
  for (int attempt = 0; attempt < 2; ++attempt) {
    ASSIGN_OR_RETURN(const RoundTimes times, TimeRounds(runs, options.pairs, options.run_seconds, options.again));
    std::vector<double> ratios;
    for (size_t pair = 0; pair < times[0].size(); ++pair) ratios.push_back(times[1][pair] / times[0][pair]);
    verdict.sparse_us = MedianOf(times[0]);
    verdict.dense_us = MedianOf(times[1]);
    verdict.ratio = MedianOf(ratios);
    verdict.slower = SlowdownLowerBound(times[1], times[0]) > options.bound;
    if (!verdict.slower) break;
  }
  return verdict;
}

}  // namespace tessera
