// Every way to compute one product with sparse weights, side by side: whole plans (packing, kernel, way out, bias and
// ReLU) on threads, interleaved run by run, outputs compared with the dense kernel's first.
//
//   bazel run //codegen/emit/host:cover_benchmark -- mixed                      # 80 % of 32x32 blocks pruned + 1 %,
//   1024³ bazel run //codegen/emit/host:cover_benchmark -- PATTERN KEPT [EXTRA] [ROWS DEPTH COLUMNS] bazel run
//   //codegen/emit/host:cover_benchmark -- calibrate                  # the table of part_costs.cc
//
// PATTERN is one of tesa/pattern.h ("32x32", "2:4", "rows", "scattered"), KEPT and EXTRA are shares: of what the
// pattern is made of, and of single elements kept besides. TESSERA_TARGET names another target than "host".
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "codegen/compile.h"
#include "codegen/emit/host/sparse_parts.h"
#include "codegen/emit/host/sparse_schedule.h"
#include "codegen/emit/host/sparse_tiles.h"
#include "codegen/emit/testing/benchmark_target.h"
#include "codegen/emit/testing/kernel_runner.h"
#include "codegen/emit/testing/peak_flops.h"
#include "codegen/emitter.h"
#include "codegen/target.h"
#include "graph/builder.h"
#include "runtime/device.h"
#include "tesa/attribute.h"
#include "tesa/pattern.h"
#include "tesa/random.h"

namespace tessera {
namespace {

constexpr uint64_t kSeed = 7;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Problem {
  int64_t rows = 1024, depth = 1024, columns = 1024;
  Bitmap kept;
};

// relu(x · Wᵀ + bias), or u8 · i8 as it is.
Graph MakeGraph(const Problem& p, DType type = DType::kF32) {
  GraphBuilder b("parts");
  Random random(kSeed);
  const bool integer = type != DType::kF32;
  const Attribute tesa = Attribute::FromKept({p.rows, p.depth}, p.kept, integer ? 8 : 32);
  if (integer) {
    const ValueId x = b.Input("x", DType::kU8, {p.columns, p.depth});
    const ValueId w =
        b.Constant("w", tesa.ApplyTo(RandomTensorIn(random, {DType::kI8, Shape({p.rows, p.depth})}, 1, 100)));
    b.SetTesa(w, tesa);
    b.Output(b.Matmul(x, w, false, true));
    StatusOr<Graph> graph = std::move(b).Build();
    TES_CHECK(graph.ok(), graph.status());
    return *std::move(graph);
  }
  const ValueId x = b.Input("x", DType::kF32, {p.columns, p.depth});
  const ValueId w =
      b.Constant("w", tesa.ApplyTo(RandomTensorIn(random, {DType::kF32, Shape({p.rows, p.depth})}, -1, 1)));
  b.SetTesa(w, tesa);
  BodyBuilder body;
  const Scalar sum = body.Input(DType::kF32) + body.Input(DType::kF32);
  const ValueId bias = b.Constant("bias", Tensor::Full(DType::kF32, {p.rows}, 0.25));
  b.Output(b.WithEpilogue(b.Matmul(x, w, false, true), body.Finish(Max(sum, 0.0)), {bias}, DType::kF32));
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

// A compiled graph on one input.
class Runner {
 public:
  Runner(const Graph& graph, const std::string& only, int threads) : name_(only) {
    StatusOr<CompileResult> compiled = Compile(graph, BenchmarkTarget(), {.only_emitter = only});
    TES_CHECK(compiled.ok(), compiled.status());
    code_bytes_ = compiled->code_bytes;
    device_ = *OpenDevice("host");
    auto executable = device_->Load(compiled->program, {.threads = threads});
    TES_CHECK(executable.ok(), executable.status());
    executable_ = *std::move(executable);
    Random random(kSeed + 1);
    input_ = RandomTensorIn(random, graph[graph.inputs[0]].type, -1, 1);
    output_ = Tensor(DType::kF32, graph[graph.outputs[0]].type.shape);
  }
  void operator()() {
    const void* from[] = {input_.bytes().data()};
    void* to[] = {output_.mutable_bytes().data()};
    TES_CHECK(executable_->Run(from, to).ok(), name_);
  }
  void Time() {
    const double start = Seconds();
    (*this)();
    us_.push_back((Seconds() - start) * 1e6);
  }
  double Quantile(double q) {
    std::sort(us_.begin(), us_.end());
    return us_[static_cast<size_t>(q * static_cast<double>(us_.size() - 1))];
  }
  const std::vector<double>& us() const { return us_; }
  const Tensor& output() const { return output_; }
  const std::string& name() const { return name_; }
  int64_t code_bytes() const { return code_bytes_; }

 private:
  std::string name_;
  int64_t code_bytes_ = 0;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Executable> executable_;
  Tensor input_, output_;
  std::vector<double> us_;
};

struct StepTime {
  std::string family;
  double median_us = 0, least_us = 0;
};

// The steps of a plan one by one on this thread, each repeated by itself.
std::vector<StepTime> TimeSteps(const Plan& plan) {
  std::vector<StepTime> times;
  std::vector<Tensor> buffers;
  for (const PlanBuffer& buffer : plan.buffers) {
    Tensor bytes(DType::kU8, Shape({buffer.bytes + 64}));
    if (buffer.kind == BufferClass::kConstant) {
      std::memcpy(bytes.mutable_bytes().data(), buffer.constant.bytes().data(), buffer.bytes);
    }
    buffers.push_back(std::move(bytes));
  }
  for (const PlanStep& step : plan.steps) {
    StatusOr<KernelRunner> run = KernelRunner::Make(step.kernel, BenchmarkTarget());
    TES_CHECK(run.ok(), run.status());
    std::vector<void*> args;
    for (const StepArg& arg : step.args) args.push_back(buffers[arg.buffer].mutable_bytes().data() + arg.offset);
    std::vector<std::byte> scratch(step.scratch_bytes + 64);
    std::byte* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    std::vector<double> us;
    for (int k = 0; k < 41; ++k) {
      const double start = Seconds();
      (*run)(args, 0, step.tasks, aligned);
      us.push_back((Seconds() - start) * 1e6);
    }
    std::sort(us.begin(), us.end());
    times.push_back({step.kernel.family, us[us.size() / 2], us[0]});
  }
  return times;
}

void PrintSteps(const Graph& graph, const std::string& only) {
  const StatusOr<Plan> plan = MakePlan(graph, BenchmarkTarget(), {.only_emitter = only});
  TES_CHECK(plan.ok(), plan.status());
  std::printf("%-58s", only.c_str());
  for (const StepTime& step : TimeSteps(*plan)) std::printf("  %s %.0f", step.family.c_str(), step.median_us);
  std::printf("\n");
}

// What a stored unit costs in one core: the slope between a matrix that keeps little and one that keeps more, all else
// equal. The matrix is one whose panels leave the first-level cache and whose straight code leaves the second, as those
// do that are worth cutting.
void Calibrate(DType type) {
  const int64_t rows = 1024, depth = type == DType::kF32 ? 1024 : 4096, columns = 128;
  struct Core {
    const char* name;
    bool rolled;
  };
  const std::vector<Core> cores = {{"tiles", false}, {"stream", false}, {"rolled", true}, {"loop", false}};
  const SparseUnit unit = type == DType::kF32          ? SparseUnit::kF32
                          : BenchmarkTarget().has_vnni ? SparseUnit::kInt8x4
                                                       : SparseUnit::kInt16x2;
  std::printf("%s: ns for a stored unit and a panel of %d columns\n%-12s", std::string(Name(unit)).c_str(), kPanelLanes,
              "blocks");
  for (const Core& core : cores) std::printf(" %9s", core.name);
  std::printf("\n");
  for (const auto& [height, width] : std::initializer_list<std::pair<int64_t, int64_t>>{
           {64, 64}, {32, 32}, {16, 16}, {8, 8}, {4, 4}, {32, 1}, {16, 1}, {8, 1}, {4, 1}, {2, 1}, {1, 4}, {1, 1}}) {
    std::printf("%-12s", internal::Join(height, "x", width).c_str());
    for (const Core& core : cores) {
      double us[2], units[2];
      for (int k = 0; k < 2; ++k) {
        if (std::strcmp(core.name, "stream") != 0 && std::strcmp(core.name, "rolled") != 0) {
        } else if (!HasStream(BenchmarkTarget())) {
          us[k] = 0, units[k] = k;
          continue;
        }
        Random random(kSeed);
        Problem p = {.rows = rows, .depth = depth, .columns = columns, .kept = Bitmap()};
        const Shape shape = {rows, depth};
        p.kept = RandomMask(random, shape, Pattern::Block(height, width * ElementsOf(unit)), k == 0 ? 0.1 : 0.25);
        const Graph graph = MakeGraph(p, type);
        const Node& node = graph.nodes[0];
        std::string why;
        const std::optional<SparseProblem> problem = ReadSparseProblem(graph, node, BenchmarkTarget(), &why);
        TES_CHECK(problem.has_value(), why);
        PlanBuilder builder(graph, BenchmarkTarget());
        SparseSchedule schedule =
            ScheduleSparse(*problem, 128, 8 * 0.3 * static_cast<double>(depth), BenchmarkTarget());
        schedule.blocks.group_rows = StreamFormFor(*problem, BenchmarkTarget()).MaxGroupRows();
        if (core.rolled) schedule.blocks.group_rows = schedule.blocks.group_rows >= 16 ? 16 : 4;
        schedule.blocks.rolled = core.rolled;
        SparsePart part;
        if (std::strcmp(core.name, "tiles") == 0) {
          part = TilesPart(*problem, problem->all, schedule, false, builder);
        } else if (std::strcmp(core.name, "loop") == 0) {
          part = LoopPart(*problem, problem->all, schedule, builder);
        } else {
          part = StreamPart(*problem, problem->all, schedule, false, builder);
        }
        PlanSparseSteps(node, *problem, schedule, "calibration", {part}, builder);
        us[k] = TimeSteps(builder.Finish()).back().least_us;
        units[k] = static_cast<double>(problem->all.pattern->num_kept()) * static_cast<double>(problem->panels());
      }
      std::printf(" %9.3f", (us[1] - us[0]) * 1e3 / (units[1] - units[0]));
      std::fflush(stdout);
    }
    std::printf("\n");
  }
}

double RelativeError(const Tensor& found, const Tensor& expected) {
  double difference = 0, largest = 0;
  for (int64_t k = 0; k < found.num_elements(); ++k) {
    difference = std::max(difference, std::abs(found.Get(k) - expected.Get(k)));
    largest = std::max(largest, std::abs(expected.Get(k)));
  }
  return difference / largest;
}

void Compare(const Problem& problem, int rounds) {
  const Graph graph = MakeGraph(problem);
  const double kept = static_cast<double>(problem.kept.Count());
  const double least_us = 2 * kept * static_cast<double>(problem.columns) / MeasurePeakFlops(BenchmarkTarget()) * 1e6;
  std::printf("%lldx%lldx%lld, %.2f %% kept, seed %llu; the kept elements' multiply-adds take %.0f us at peak\n",
              static_cast<long long>(problem.rows), static_cast<long long>(problem.depth),
              static_cast<long long>(problem.columns), 100 * kept / static_cast<double>(problem.rows * problem.depth),
              static_cast<unsigned long long>(kSeed), least_us);
  std::vector<std::pair<std::string, double>> ways;
  for (const Emitter& emitter : AllEmitters()) {
    if (emitter.name == "generic") continue;
    std::string why;
    const std::vector<Way> found = WaysOf(emitter, graph, graph.nodes[0], BenchmarkTarget(), &why);
    if (found.empty()) std::printf("  %s: %s\n", std::string(emitter.name).c_str(), why.c_str());
    for (const Way& way : found) {
      ways.push_back({Choice{&emitter, way}.ToString(), way.us});
      if (!way.why.empty()) std::printf("  %s: %s\n", ways.back().first.c_str(), way.why.c_str());
    }
  }
  for (const auto& [name, us] : ways) PrintSteps(graph, name);
  const std::string chosen = SelectEmitter(graph, graph.nodes[0], BenchmarkTarget(), "", nullptr).ToString();
  for (const int threads : {1, 2}) {
    std::vector<Runner> runners;
    for (const auto& [name, us] : ways) runners.emplace_back(graph, name, threads);
    for (Runner& run : runners) run();
    for (int round = 0; round < rounds; ++round) {
      for (Runner& run : runners) run.Time();
    }
    std::printf("\n%d thread%s\n%-58s %9s %9s %9s %9s %8s %9s\n", threads, threads == 1 ? "" : "s", "way", "expected",
                "median", "5 %", "95 %", "code KiB", "error");
    for (size_t k = 0; k < runners.size(); ++k) {
      std::printf("%-58s %9.0f %9.0f %9.0f %9.0f %8lld %9.1e%s\n", runners[k].name().c_str(), ways[k].second,
                  runners[k].Quantile(0.5), runners[k].Quantile(0.05), runners[k].Quantile(0.95),
                  static_cast<long long>(runners[k].code_bytes() >> 10),
                  RelativeError(runners[k].output(), runners[0].output()), ways[k].first == chosen ? "  chosen" : "");
    }
  }
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  using namespace tessera;  // NOLINT
  const std::string pattern_text = argc > 1 ? argv[1] : "mixed";
  if (pattern_text == "calibrate") {
    Calibrate(DType::kF32);
    Calibrate(DType::kI8);
    return 0;
  }
  Random random(kSeed);
  Problem problem;
  if (pattern_text == "mixed") {
    problem.kept = RandomMask(random, {1024, 1024}, Pattern::Block(32, 32), 0.2);
    problem.kept |= RandomMask(random, {1024, 1024}, Pattern::Scattered(), 0.01);
  } else {
    const StatusOr<Pattern> pattern = ParsePattern(pattern_text);
    TES_CHECK(pattern.ok(), pattern.status());
    if (argc > 6) {
      problem.rows = std::atoll(argv[4]), problem.depth = std::atoll(argv[5]), problem.columns = std::atoll(argv[6]);
    }
    const Shape shape = {problem.rows, problem.depth};
    problem.kept = RandomMask(random, shape, *pattern, argc > 2 ? std::atof(argv[2]) : 0.5);
    if (argc > 3) problem.kept |= RandomMask(random, shape, Pattern::Scattered(), std::atof(argv[3]));
  }
  const char* const rounds = std::getenv("TESSERA_ROUNDS");
  Compare(problem, rounds != nullptr ? std::atoi(rounds) : 51);
  return 0;
}
