// The figures of mixed precision and mixed pattern in one layer (SparTA, OSDI 2022, its matmul sweeps): a product of
// which most weights have 8 bits and few 32, and one that keeps blocks and, between them, single elements. Each is
// measured against every plan in one part, and against dense, interleaved in one process.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "codegen/emitter.h"
#include "engine/engine_internal.h"
#include "graph/builder.h"
#include "models/quantize/quantize.h"
#include "tesa/random.h"
#include "tools/common/reference.h"
#include "tools/common/statistics.h"
#include "tools/common/tool.h"
#include "tools/evaluate_figures.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRounds = 15;
constexpr double kBlocksDropped = 0.8, kScattered = 0.01;

// y[size, size] = x · w, where w declares `tesa`.
StatusOr<Graph> Product(const Attribute& tesa, uint64_t seed) {
  const Shape& shape = tesa.shape();
  Random random(seed);
  GraphBuilder b("product");
  const ValueId x = b.Input("x", DType::kF32, {shape[0], shape[0]});
  const double deviation = 1 / std::sqrt(static_cast<double>(shape[0]));
  const ValueId w = b.Constant("w", tesa.ApplyTo(RandomTensor(random, {DType::kF32, shape}, deviation)));
  b.SetTesa(w, tesa);
  b.Output(b.Named("y").Matmul(x, w));
  return std::move(b).Build();
}

// 8 bits but for `share` of the elements, which have 32.
Attribute MixedPrecision(int64_t size, double share, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> bits(static_cast<size_t>(size * size), 8);
  for (uint8_t& b : bits) {
    if (random.Chance(share)) b = 32;
  }
  return Attribute::FromBits({size, size}, bits);
}

// Blocks of 32x32, and single elements all over.
Attribute MixedPattern(int64_t size, uint64_t seed) {
  Random random(seed);
  const Shape shape = {size, size};
  const Attribute blocks = RandomAttribute(random, shape, Pattern::Block(32, 32), 1 - kBlocksDropped, 32);
  return Join(blocks, RandomAttribute(random, shape, Pattern::Scattered(), kScattered, 32));
}

struct Plan {
  std::string name;
  std::unique_ptr<Session> session;
  Tensor result;
  std::vector<double> medians;  // of each round, microseconds
  std::string skipped;          // why there is no time
};

Status Run(Plan& plan, const Tensor& x) {
  const void* in = x.bytes().data();
  void* out = plan.result.mutable_bytes().data();
  return plan.session->RunPositional(&in, &out);
}

StatusOr<Plan> MakePlan(const std::string& name, const Graph& graph, Options options, const Tensor& x) {
  Plan plan{.name = name, .session = nullptr, .result = Tensor(DType::kF32, graph[graph.outputs[0]].type.shape)};
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(graph));
  ASSIGN_OR_RETURN(Session session, model.Compile(options));
  plan.session = std::make_unique<Session>(std::move(session));
  RETURN_IF_ERROR(Run(plan, x));
  return plan;
}

// Every way in which the emitters could compute the product, as `only_emitter` names it.
StatusOr<std::vector<std::string>> WaysOfProduct(const Graph& graph, const Options& options) {
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(graph));
  ASSIGN_OR_RETURN(const Graph optimized, OptimizedGraphOf(model, options));
  ASSIGN_OR_RETURN(const Target target, MakeTarget(options.target));
  std::vector<std::string> names;
  for (const Node& node : optimized.nodes) {
    if (node.op != Op::kMatmul) continue;
    for (const Emitter& emitter : AllEmitters()) {
      std::string why;
      if (emitter.name == "generic") continue;  // slower by orders of magnitude, and for everything alike
      for (const Way& way : WaysOf(emitter, optimized, node, target, &why)) {
        names.push_back(std::string(emitter.name) + (way.name.empty() ? "" : ":" + way.name));
      }
    }
  }
  return names;
}

// Alternating blocks of at least 5 ms each, in turn from the other end.
Status MeasureAll(std::vector<Plan>& plans, const Tensor& x) {
  for (int round = 0; round < kRounds; ++round) {
    for (size_t k = 0; k < plans.size(); ++k) {
      Plan& plan = plans[round % 2 == 0 ? k : plans.size() - 1 - k];
      if (!plan.skipped.empty()) continue;
      RETURN_IF_ERROR(Run(plan, x));
      std::vector<double> samples;
      const Clock::time_point begin = Clock::now();
      do {
        const Clock::time_point start = Clock::now();
        RETURN_IF_ERROR(Run(plan, x));
        samples.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
      } while (Clock::now() - begin < std::chrono::milliseconds(5));
      plan.medians.push_back(Summarize(samples).median);
    }
  }
  return OkStatus();
}

Table NewTable() {
  return Table({{.key = "weights", .title = "weights"},
                {.key = "plan", .title = "plan"},
                {.key = "us", .title = "us"},
                {.key = "times_faster", .title = "chosen plan is faster, times", .digits = 2},
                {.key = "spread", .title = "5-95 %"},
                {.key = "rel_error", .title = "rel. error"}});
}

// The first plan is the chosen one; its ratio to each other, round by round.
void AddRows(const std::string& weights, const std::vector<Plan>& plans, const Tensor& expected, Table& table) {
  for (const Plan& plan : plans) {
    const Cell none;
    if (!plan.skipped.empty()) {
      table.AddRow({weights, plan.name + " (" + plan.skipped + ")", none, none, none, none});
      continue;
    }
    std::vector<double> ratios;
    for (size_t k = 0; k < plan.medians.size(); ++k) ratios.push_back(plan.medians[k] / plans[0].medians[k]);
    std::sort(ratios.begin(), ratios.end());
    table.AddRow({weights, plan.name, Summarize(plan.medians).median, Quantile(ratios, 0.5),
                  FormatSignificant(Quantile(ratios, 0.05)) + " - " + FormatSignificant(Quantile(ratios, 0.95)),
                  Compare(plan.result, expected).relative});
  }
}

Status MixedPrecisionRows(const EvaluateOptions& options, const Options& engine, const Tensor& x, Table& table) {
  for (double share : {0.01, 0.05}) {
    ASSIGN_OR_RETURN(const Graph graph, Product(MixedPrecision(options.size, share, 11), 12));
    Graph mixed = graph;
    ASSIGN_OR_RETURN(const QuantizeSpec spec, ParseQuantizeSpec("i8"));
    const SampleSource once = [&x, called = false](std::vector<Tensor>& inputs) mutable -> StatusOr<bool> {
      inputs = {x};
      return !std::exchange(called, true);
    };
    RETURN_IF_ERROR(QuantizeGraph(mixed, spec, once, engine).status());
    std::vector<Plan> plans;
    ASSIGN_OR_RETURN(Plan chosen, MakePlan("8 bits + f32, chosen", mixed, engine, x));
    plans.push_back(std::move(chosen));
    Options dense = engine;
    dense.sparsity = false;
    ASSIGN_OR_RETURN(Plan single, MakePlan("f32, one part (dense)", graph, dense, x));
    plans.push_back(std::move(single));
    RETURN_IF_ERROR(MeasureAll(plans, x));
    AddRows(internal::Join("8 bits + ", 100 * share, " % f32"), plans, plans[1].result, table);
  }
  return OkStatus();
}

Status MixedPatternRows(const EvaluateOptions& options, const Options& engine, const Tensor& x, Table& table) {
  ASSIGN_OR_RETURN(const Graph graph, Product(MixedPattern(options.size, 13), 14));
  std::vector<Plan> plans;
  ASSIGN_OR_RETURN(Plan chosen, MakePlan("chosen", graph, engine, x));
  plans.push_back(std::move(chosen));
  Options dense = engine;
  dense.sparsity = false;
  ASSIGN_OR_RETURN(Plan whole, MakePlan("dense", graph, dense, x));
  plans.push_back(std::move(whole));
  ASSIGN_OR_RETURN(const std::vector<std::string> ways, WaysOfProduct(graph, engine));
  for (const std::string& way : ways) {
    Options only = engine;
    only.only_emitter = way;
    StatusOr<Plan> plan = MakePlan(way, graph, only, x);
    if (!plan.ok()) plan = Plan{.name = way, .session = nullptr, .result = {}, .skipped = plan.status().ToString()};
    plans.push_back(*std::move(plan));
  }
  RETURN_IF_ERROR(MeasureAll(plans, x));
  AddRows("80 % of 32x32 blocks dropped + 1 % scattered", plans, plans[1].result, table);
  return OkStatus();
}

}  // namespace

Status EvaluateMixed(const EvaluateOptions& options) {
  Options engine;
  engine.threads = static_cast<int>(options.threads);
  Random random(10);
  const Tensor x = RandomTensor(random, {DType::kF32, {options.size, options.size}});
  Table precision = NewTable(), pattern = NewTable();
  RETURN_IF_ERROR(MixedPrecisionRows(options, engine, x, precision));
  const std::string extents = internal::Join(options.size, "x", options.size, "x", options.size);
  PrintTitled(options, "Mixed precision in one layer, " + extents, precision);
  PrintRemark(options, "The error of 8 bits is that of quantisation, x included; rounding x is in the time.");
  RETURN_IF_ERROR(MixedPatternRows(options, engine, x, pattern));
  PrintTitled(options, "Mixed pattern in one layer, " + extents, pattern);
  return OkStatus();
}

}  // namespace tessera
