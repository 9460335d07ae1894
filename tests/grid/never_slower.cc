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
               DType type) {
  Shape per_row = by_channel_axis ? Shape({rows, 1, 1}) : Shape({rows});
  BodyBuilder body;
  if (type == DType::kF16 || type == DType::kBF16) {
    return b.Relu(b.Add(sums, b.Constant("bias", RandomTensor(random, {type, per_row}))));
  }
  if (type == DType::kF32) {
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
  StatusOr<double> MeasureUs(int runs) { return session_.MeasureUs(runs); }
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

// Each within its type's bound of what is right, so twice that from each other.
bool Agree(const Tensor& a, const Tensor& b) {
  const double bound = a.dtype() == DType::kF16    ? 4e-3
                       : a.dtype() == DType::kBF16 ? 4e-2
                       : IsFloat(a.dtype())        ? 1e-5
                                                   : 0;
  double largest = 0, difference = 0;
  for (int64_t k = 0; k < a.num_elements(); ++k) {
    largest = std::max(largest, std::fabs(a.Get(k)));
    difference = std::max(difference, std::fabs(a.Get(k) - b.Get(k)));
  }
  return difference <= bound * largest;
}

std::string WayOf(const std::string& line) {  // "node 'y': matmul; …"
  if (line.empty()) return "folded";
  const size_t from = line.find("': ");
  return from == std::string::npos ? line : line.substr(from + 3, line.find(';') - from - 3);
}

}  // namespace

Layer RandomLayer(Random& random, DType type, int64_t times) {
  const auto extent = [&](double low, double high) { return times * LogUniform(random, low, high); };
  const int64_t rows = extent(8, 2048), depth = extent(8, 2048);
  const bool int8 = type == DType::kI8;
  const bool conv = random.Chance(0.25);
  const bool wide = conv && random.Chance(0.5);
  const DType x_type = int8 ? DType::kU8 : type;
  const auto weights = [&](const Shape& shape) {
    return int8 ? RandomTensorIn(random, {type, shape}, -127, 127)
                : RandomTensor(random, {type, shape}, 1 / std::sqrt(static_cast<double>(depth)));
  };
  Layer layer;
  GraphBuilder b("layer");
  const std::string_view name = Name(type);
  if (conv) {
    const int64_t side = LogUniform(random, 4, 40), kernel = wide ? 3 : 1;
    const int64_t in = wide ? std::max<int64_t>(8, depth / 9) : depth, out = std::min<int64_t>(rows, 512 * times);
    const ValueId x = b.Input("x", x_type, {1, in, side, side});
    WindowParams window;
    if (wide) window.pads = {1, 1, 1, 1};
    const ValueId sums = b.Conv(x, b.Constant("w", weights({out, in, kernel, kernel})), window);
    b.Output(Finish(b, sums, random, out, true, in * kernel * kernel, type));
    layer.name = internal::Join(name, " conv ", kernel, "x", kernel, " ", in, "->", out, " on ", side, "x", side);
  } else {
    const int64_t columns = extent(1, 1024);
    const ValueId x = b.Input("x", x_type, {columns, depth});
    const ValueId sums = b.Matmul(x, b.Constant("w", weights({rows, depth})), false, true);
    b.Output(Finish(b, sums, random, rows, false, depth, type));
    layer.name = internal::Join(name, " matmul ", columns, "x", depth, "x", rows);
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

namespace {

class CompiledContest : public Contest {
 public:
  CompiledContest(std::string name, Side dense, Side sparse, const TensorType& type, const CompareOptions& options)
      : name_(std::move(name)), dense_(std::move(dense)), sparse_(std::move(sparse)), options_(options) {
    Random random(options.seed);
    input_ = IsFloat(type.dtype) ? RandomTensorIn(random, type, -1, 1) : RandomTensorIn(random, type, 0, 255);
  }

  StatusOr<Verdict> Judge() override {
    const void* from = input_.bytes().data();
    RETURN_IF_ERROR(dense_.Run(from));
    RETURN_IF_ERROR(sparse_.Run(from));
    if (!Agree(dense_.output(), sparse_.output())) {
      return Error(ErrorCode::kResultWrong, name_, ": sparse and dense kernels disagree");
    }
    Verdict verdict;
    verdict.decision = DecisionOf(sparse_);
    verdict.way = WayOf(verdict.decision);
    const bool on_card = sparse_.session().report().device_bytes > 0;
    if (on_card && verdict.way == WayOf(DecisionOf(dense_)) && SameSteps()) return verdict;
    const HeldProcessors held;
    for (int attempt = 0; attempt < 2; ++attempt) {
      ASSIGN_OR_RETURN(const RoundTimes times, on_card ? TimeOnCard() : TimeHere(from));
      std::vector<double> ratios;
      for (size_t pair = 0; pair < times[0].size(); ++pair) ratios.push_back(times[1][pair] / times[0][pair]);
      verdict.sparse_us = MedianOf(times[0]);
      verdict.dense_us = MedianOf(times[1]);
      verdict.ratio = MedianOf(ratios);
      verdict.slower = SlowdownLowerBound(times[1], times[0]) > options_.bound;
      if (!verdict.slower) break;
    }
    return verdict;
  }

 private:
  static std::string DecisionOf(const Side& side) {
    const std::vector<std::string>& decisions = side.session().report().decisions;
    return decisions.empty() ? "" : decisions.back();
  }
  // As many of the same size: what is gone altogether makes the sparse side's smaller.
  bool SameSteps() const {
    const std::vector<Step>& a = SessionAccess::ProgramOf(sparse_.session()).steps;
    const std::vector<Step>& b = SessionAccess::ProgramOf(dense_.session()).steps;
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Step& x, const Step& y) {
      return x.flops == y.flops && x.bytes == y.bytes && x.launch.x == y.launch.x &&
             x.launch.threads == y.launch.threads;
    });
  }
  // Both write the same memory: where it lies among the others' lines is worth several percent of a microsecond.
  StatusOr<RoundTimes> TimeHere(const void* from) {
    Tensor output(dense_.output().dtype(), dense_.output().shape());
    const std::function<Status()> runs[] = {[&] { return sparse_.RunTo(output, from); },
                                            [&] { return dense_.RunTo(output, from); }};
    return TimeRounds(runs, options_.pairs, options_.run_seconds, options_.again);
  }
  StatusOr<RoundTimes> TimeOnCard() {
    constexpr int kLeast = 20;
    const auto clock = [&](Side& side) -> StatusOr<double> {
      ASSIGN_OR_RETURN(const double us, side.MeasureUs(1));
      return side.MeasureUs(std::max(kLeast, static_cast<int>(options_.run_seconds * 1e6 / us)));
    };
    const std::function<StatusOr<double>()> clocks[] = {[&] { return clock(sparse_); }, [&] { return clock(dense_); }};
    return TimeRounds(clocks, options_.pairs);
  }

  const std::string name_;
  Side dense_, sparse_;
  const CompareOptions options_;
  Tensor input_;
};

}  // namespace

StatusOr<std::unique_ptr<Contest>> Contest::Make(const Layer& layer, const std::string& prune,
                                                 const CompareOptions& options) {
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
  return std::unique_ptr<Contest>(std::make_unique<CompiledContest>(
      layer.name + " " + prune, std::move(dense), std::move(sparse), graph[graph.inputs[0]].type, options));
}

StatusOr<Verdict> Compare(const Layer& layer, const std::string& prune, const CompareOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Contest> contest, Contest::Make(layer, prune, options));
  return contest->Judge();
}

}  // namespace tessera
