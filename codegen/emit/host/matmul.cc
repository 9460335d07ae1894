// The matmul emitter: dense products of f32, f64, bf16 or byte matrices, batched, either operand transposed.
//
//   B constant:                  packed into panels now; the kernel streams them
//   B [depth, columns]:          read where it lies, whole vectors of a row at a time
//   B otherwise:                 one more step packs it into panels first ([columns, depth]; several elements a word)
//   A [rows, depth], transposed: broadcast element by element from where it lies, so that its order does not matter;
//                                where several elements make a word it must not be transposed
//
//   A of bytes, no vpdpbusd:     one more step widens A to words first (widen.h), where that is quicker
//
// A single row (M = 1) is the same kernel with a tile of one row: several sums per element hide the latency, and the
// panels, each one stream of width·depth elements, pass by at the speed of the memory that holds them.
#include "codegen/emit/host/matmul.h"

#include <optional>

#include "codegen/cost_model.h"
#include "codegen/emit/host/widen.h"
#include "codegen/emitter.h"
#include "graph/op.h"

namespace tessera {

double MatmulMicroseconds(const MatmulProblem& problem, const Target& target, int epilogue_cost) {
  const ContractionSchedule schedule = ScheduleContraction(target, problem.shape(), epilogue_cost);
  const MachineModel machine(target);
  double us = machine.Shared(ContractionMicroseconds(target, schedule, epilogue_cost), schedule.tasks());
  us += machine.step_ns / 1000;
  if (problem.packs_b() && !problem.b_constant) us += PackPanelsMicroseconds(problem.b_source(), target);
  if (problem.dot.kind == Dot::Kind::kWords) us += WidenMicroseconds(problem.a_elements(), DType::kI16, target);
  return us;
}

MatmulProblem WithBestDot(MatmulProblem problem, const Target& target, int epilogue_cost) {
  const std::optional<Dot> words = problem.dot.OfWords();
  if (!words || !problem.b_constant || problem.a_transposed) return problem;
  MatmulProblem widened = problem;
  widened.dot = *words;
  const bool quicker =
      MatmulMicroseconds(widened, target, epilogue_cost) < MatmulMicroseconds(problem, target, epilogue_cost);
  return quicker ? widened : problem;
}

KernelSpec MatmulKernel(const MatmulProblem& problem, const ContractionSchedule& schedule,
                        const TileEpilogue& epilogue) {
  KernelSpec kernel;
  kernel.family = "matmul";
  kernel.num_args = 2 + epilogue.num_args();
  kernel.key = internal::Join("matmul ", schedule.Key(), problem.a_transposed ? " a transposed" : "",
                              problem.packs_b() ? " b panels" : "");
  for (const auto& dim : problem.batch)
    kernel.key += internal::Join(" batch ", dim.extent, "/", dim.a_step, "/", dim.b_step);
  kernel.key += " " + epilogue.Key();
  kernel.emit = [problem, schedule, epilogue](KernelBuilder& b) {
    const int64_t a_row_step = problem.a_transposed ? 1 : problem.depth;
    const int64_t a_depth_step = problem.a_transposed ? problem.rows : 1;
    const int64_t a_matrix = problem.rows * problem.depth;
    const Dot& dot = problem.dot;
    const int64_t panel = schedule.shape.units() * dot.parts() * schedule.width();
    const int64_t b_matrix = problem.packs_b() ? schedule.panels() * panel : problem.depth * problem.columns;
    EmitContraction(b, schedule, epilogue, 2, [&](const ContractionTile& tile, const IrValues& sums) {
      auto& ir = b.ir();
      const auto times = [&](IrValue x, int64_t by) { return ir.CreateMul(x, b.I64(by), "", true, true); };
      const auto plus = [&](IrValue x, IrValue y) { return ir.CreateAdd(x, y, "", true, true); };
      // Which matrices: the group's number split into the batch's dimensions.
      IrValue a_at = times(tile.row, a_row_step), b_at = b.I64(0), rest = tile.group;
      for (size_t d = problem.batch.size(); d-- > 0;) {
        const MatmulProblem::BatchDim& dim = problem.batch[d];
        IrValue index = d == 0 ? rest : ir.CreateURem(rest, b.I64(dim.extent));
        if (d > 0) rest = ir.CreateUDiv(rest, b.I64(dim.extent));
        a_at = plus(a_at, times(index, dim.a_step * a_matrix));
        b_at = plus(b_at, times(index, dim.b_step * b_matrix));
      }
      b_at = plus(b_at, problem.packs_b() ? times(tile.panel, panel) : tile.column);
      IrValues rows;
      for (int r = 0; r < tile.rows; ++r) {
        rows.push_back(b.ElementPointer(b.arg(0), plus(a_at, b.I64(r * a_row_step)), dot.a));
      }
      return EmitMultiplyAdd(
          b, schedule, tile, problem.depth, rows, a_depth_step, b.ElementPointer(b.arg(1), b_at, dot.word()),
          problem.packs_b() ? schedule.width() : problem.columns, problem.packs_b() ? nullptr : tile.mask, sums);
    });
  };
  return kernel;
}

void PlanMatmulSteps(const Node& node, const MatmulProblem& given, PlanBuilder& builder) {
  const TileEpilogue epilogue = TileEpilogue(builder.graph(), node).WithStart();
  const Target& target = builder.target();
  const MatmulProblem problem = WithBestDot(given, target, epilogue.cost());
  const ContractionSchedule schedule = ScheduleContraction(target, problem.shape(), epilogue.cost());
  const PanelSource source = problem.b_source();
  StepArg b = {};
  if (problem.b_constant) {
    const Value& weights = builder.graph()[node.inputs[1]];
    b.buffer = builder.Constant(weights.name + ".panels", PackPanels(weights.constant, source, schedule.width()));
  } else if (problem.packs_b()) {
    b.buffer = builder.Temp(node.name + ".panels", PackedBytes(source, schedule.width()));
    StepArg to = b;
    to.writes = true;
    PlanStep pack = PlanPackPanels(source, schedule.width(), builder.Read(node.inputs[1]), to, target);
    pack.label = node.name;
    builder.AddStep(std::move(pack));
  } else {
    b = builder.Read(node.inputs[1]);
  }
  const bool widened = problem.dot.kind == Dot::Kind::kWords;
  const StepArg a = widened ? PlanWidened(node.inputs[0], DType::kI16, builder) : builder.Read(node.inputs[0]);
  PlanMatmulStep(node, problem, schedule, epilogue, a, b, builder);
}

void PlanMatmulStep(const Node& node, const MatmulProblem& problem, const ContractionSchedule& schedule,
                    const TileEpilogue& epilogue, StepArg a, StepArg b, PlanBuilder& builder) {
  PlanStep step;
  step.kernel = MatmulKernel(problem, schedule, epilogue);
  step.args = {a, b};
  epilogue.AddArguments(node, builder, step);
  step.tasks = problem.rows == 0 || problem.columns == 0 ? 0 : schedule.tasks();
  step.scratch_bytes = schedule.scratch_bytes();
  step.label = node.name;
  const double products =
      static_cast<double>(problem.groups() * problem.rows) * static_cast<double>(problem.columns * problem.depth);
  step.flops = 2 * products;
  step.bytes = static_cast<double>(ByteSize(problem.dot.a, problem.a_elements()) +
                                   ByteSize(problem.dot.b, problem.b_matrices * problem.depth * problem.columns) +
                                   ByteSize(epilogue.dtype(), problem.groups() * problem.rows * problem.columns));
  builder.AddStep(std::move(step));
}

namespace {

std::optional<Dot> DotOf(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  return Dot::Choose(target, graph[node.inputs[0]].type.dtype, graph[node.inputs[1]].type.dtype, why);
}

}  // namespace

extern const std::string_view kMatmulDoc;
const std::string_view kMatmulDoc =
    "dense f32, f64, bf16 and byte products in register tiles, constant operands packed into panels";

std::optional<double> EstimateMatmul(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  if (node.op != Op::kMatmul) {
    *why = "no matmul";
    return std::nullopt;
  }
  const std::optional<Dot> dot = DotOf(graph, node, target, why);
  if (!dot) return std::nullopt;
  const MatmulProblem problem = MatmulProblemOf(graph, node, *dot);
  if (problem.a_transposed && dot->unit() > 1) {
    *why = internal::Join("operand 0 is transposed, and units of ", Name(dot->a), " do not lie together");
    return std::nullopt;
  }
  const int cost = TileEpilogue(graph, node).WithStart().cost();
  return MatmulMicroseconds(WithBestDot(problem, target, cost), target, cost);
}

Status PlanMatmul(const Node& node, PlanBuilder& builder) {
  std::string why;
  const std::optional<Dot> dot = DotOf(builder.graph(), node, builder.target(), &why);
  TES_CHECK(dot.has_value(), why);
  PlanMatmulSteps(node, MatmulProblemOf(builder.graph(), node, *dot), builder);
  return OkStatus();
}

}  // namespace tessera
