// The scaled_matmul emitter: bytes times small constant integers with a scale for each block of the depth.
//
//   y[m, n] = epilogue(sum over blocks g of scales[g, n] * sum over k of the block of x[m, k] * w[k, n])
//
// integers   a contraction (contraction.h) whose tiles hold two sums of each element:
//
//     for block g:  ints = 0
//       for k in the block, a unit at a time:  ints[r][v] += splat(x[row + r, k]) * w[k, v]
//       sums[r][v] += f32(ints[r][v]) * scales[g, v]
//
//   Zen 4, blocks of 32: vpdpbusd takes 8 of 10 instructions, of 512 bits one a cycle: 51 multiply-adds a cycle, where
//   f32 has 16. Without VNNI, weights of 4 bits leave room in sums of 16 bits: vpmaddubsw is exact and its results are
//   added as they are, for eight units, before vpmaddwd makes them 32 bits: 19 instructions of 256 bits for 256
//   multiply-adds, four a cycle: 54, and so the same.
// f32        x widened to f32, weights times scales as f32: the dense product of the same meaning.
// int4       few rows, in f32 (gemv_int4.h): weights are read at 4 bits.
//
// Tested by scaled_matmul_test.cc.
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "codegen/emit/contraction.h"
#include "codegen/emit/host/gemv.h"
#include "codegen/emit/host/gemv_int4.h"
#include "codegen/emit/host/matmul.h"
#include "codegen/emit/host/widen.h"
#include "codegen/emit/panels.h"
#include "codegen/emitter.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr std::string_view kIntegers = "integers", kFloats = "f32", kInt4 = "int4";

struct ScaledProblem {
  Dot dot;
  int64_t rows = 1, columns = 1, depth = 1, block = 1;

  int64_t blocks() const { return depth / block; }
  ContractionShape shape() const {
    return {.dot = dot, .rows = rows, .columns = columns, .depth = depth, .run = block, .block = block};
  }
  PanelSource weights() const {
    return {.type = DType::kI8,
            .depth = depth,
            .columns = columns,
            .matrix_step = depth * columns,
            .depth_step = columns,
            .column_step = 1,
            .dot = dot,
            .run = block};
  }
  PanelSource scales() const {
    return {.depth = blocks(), .columns = columns, .matrix_step = blocks() * columns, .depth_step = columns};
  }
  MatmulProblem floats() const { return {.rows = rows, .columns = columns, .depth = depth, .b_constant = true}; }
};

std::optional<ScaledProblem> ReadProblem(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  if (node.op != Op::kScaledMatmul) return no("no scaled_matmul");
  const TensorType &x = graph[node.inputs[0]].type, &w = graph[node.inputs[1]].type;
  if (!graph.IsConstant(node.inputs[1]) || !graph.IsConstant(node.inputs[2])) return no("weights that are computed");
  if (x.dtype != DType::kU8 || w.dtype != DType::kI8) {
    return no("expected u8 and weights of i8, found ", Name(x.dtype), " and ", Name(w.dtype));
  }
  ScaledProblem p = {.depth = w.shape[0]};
  p.columns = w.shape[1];
  if (x.shape.num_elements() == 0 || p.columns == 0) return no("nothing to compute");
  p.rows = x.shape.num_elements() / p.depth;
  p.block = p.depth / graph[node.inputs[2]].type.shape[0];
  int largest = 0;
  for (const int8_t value : graph[node.inputs[1]].constant.data<int8_t>()) {
    largest = std::max(largest, std::abs(static_cast<int>(value)));
  }
  const std::optional<Dot> short_sums = Dot::OfShortSums(target, largest);
  p.dot = short_sums ? *short_sums : *Dot::Choose(target, x.dtype, w.dtype, why);
  return p;
}

// Weights as gemv_int4.h wants them; nullopt where integers of a block lie too far apart.
std::optional<Int4Weights> AsInt4(const Graph& graph, const Node& node, const ScaledProblem& p) {
  const Tensor &w = graph[node.inputs[1]].constant, &scales = graph[node.inputs[2]].constant;
  Int4Weights result = {.rows = p.columns, .depth = p.depth, .block = p.block, .blocks = {}, .elements = {}};
  result.elements.resize(static_cast<size_t>(p.columns * p.depth));
  const std::span<const int8_t> values = w.data<int8_t>();
  for (int64_t n = 0; n < p.columns; ++n) {
    for (int64_t first = 0; first < p.depth; first += p.block) {
      int low = 0, high = 0;
      for (int64_t k = first; k < first + p.block; ++k) {
        const int value = values[static_cast<size_t>(k * p.columns + n)];
        low = std::min(low, value);
        high = std::max(high, value);
      }
      if (high - low > 15) return std::nullopt;
      const int offset = low >= -8 && high <= 7 ? 0 : low + 8;
      result.offsets |= offset != 0;
      const auto scale = static_cast<float>(scales.Get(first / p.block * p.columns + n));
      result.blocks.push_back({.scale = scale, .offset = offset});
      for (int64_t k = first; k < first + p.block; ++k) {
        result.elements[static_cast<size_t>(n * p.depth + k)] =
            static_cast<int8_t>(values[static_cast<size_t>(k * p.columns + n)] - offset);
      }
    }
  }
  return result;
}

// The sums of one tile. Arguments: 0 x, 1 weights, 2 scales.
IrValues EmitScaledSums(KernelBuilder& b, const ScaledProblem& p, const ContractionSchedule& s,
                        const ContractionTile& tile, const IrValues& sums) {
  auto& ir = b.ir();
  const auto times = [&](IrValue x, int64_t by) { return ir.CreateMul(x, b.I64(by), "", true, true); };
  const auto plus = [&](IrValue x, IrValue y) { return ir.CreateAdd(x, y, "", true, true); };
  const Dot& dot = p.dot;
  const int64_t unit_words = dot.parts() * s.width(), block_units = dot.units(p.block);
  // Units that may be added up before their sums are made long.
  const int64_t most = dot.short_units > 0 ? dot.short_units : block_units;
  IrValue words = times(tile.panel, s.shape.units() * unit_words), scales = times(tile.panel, p.blocks() * s.width());
  return b.For("block", b.I64(0), b.I64(p.blocks()), 1, sums, [&](IrValue block, const IrValues& carried) {
    const auto count = static_cast<size_t>(tile.rows) * static_cast<size_t>(tile.vectors);
    IrValue at = times(block, p.block), word = plus(words, times(block, block_units * unit_words));
    IrValues ints;
    for (int64_t unit = 0; unit < block_units; unit += most) {
      const int64_t first = unit * dot.unit();
      const int64_t elements = std::min(p.block - first, most * dot.unit());
      IrValues rows;
      for (int r = 0; r < tile.rows; ++r) {
        IrValue row = times(plus(tile.row, b.I64(r)), p.depth);
        rows.push_back(b.ElementPointer(b.arg(0), plus(plus(row, at), b.I64(first)), DType::kU8));
      }
      const IrValues part = EmitMultiplyAdd(
          b, s, tile, elements, rows, 1, b.ElementPointer(b.arg(1), plus(word, b.I64(unit * unit_words)), dot.word()),
          s.width(), nullptr, IrValues(count, b.Zero(DType::kI32, s.lanes)));
      for (size_t k = 0; k < count; ++k) {
        IrValue sum = EmitSum(b, dot, part[k]);
        unit == 0 ? ints.push_back(sum) : void(ints[k] = ir.CreateAdd(ints[k], sum));
      }
    }
    IrValues next = carried;
    for (int v = 0; v < tile.vectors; ++v) {
      IrValue scale_at = plus(plus(scales, times(block, s.width())), b.I64(int64_t{v} * s.lanes));
      IrValue scale = b.Load(b.arg(2), scale_at, DType::kF32, s.lanes);
      for (int r = 0; r < tile.rows; ++r) {
        const auto k = static_cast<size_t>(r * tile.vectors + v);
        next[k] = b.Fma(ir.CreateSIToFP(ints[k], b.VectorType(DType::kF32, s.lanes)), scale, next[k]);
      }
    }
    return next;
  });
}

double FloatMicroseconds(const ScaledProblem& p, const Target& target, int epilogue_cost) {
  return MatmulMicroseconds(p.floats(), target, epilogue_cost) +
         WidenMicroseconds(p.rows * p.depth, DType::kF32, target);
}

void PlanFloats(const Node& node, const ScaledProblem& p, PlanBuilder& builder) {
  const TileEpilogue epilogue(builder.graph(), node);
  const MatmulProblem floats = p.floats();
  const ContractionSchedule schedule = ScheduleContraction(builder.target(), floats.shape(), epilogue.cost());
  const Value& w = builder.graph()[node.inputs[1]];
  const Tensor& scales = builder.graph()[node.inputs[2]].constant;
  Tensor reals(DType::kF32, w.type.shape);
  for (int64_t k = 0; k < reals.num_elements(); ++k) {
    const int64_t row = k / p.columns, column = k % p.columns;
    reals.Set(k, w.constant.Get(k) * scales.Get(row / p.block * p.columns + column));
  }
  const Tensor panels = PackPanels(reals, floats.b_source(), schedule.width());
  const StepArg x = PlanWidened(node.inputs[0], DType::kF32, builder);
  PlanMatmulStep(node, floats, schedule, epilogue, x, {.buffer = builder.Constant(w.name + ".panels", panels)},
                 builder);
}

void PlanIntegers(const Node& node, const ScaledProblem& p, PlanBuilder& builder) {
  const TileEpilogue epilogue(builder.graph(), node);
  const ContractionSchedule schedule = ScheduleContraction(builder.target(), p.shape(), epilogue.cost());
  const Value &w = builder.graph()[node.inputs[1]], &scales = builder.graph()[node.inputs[2]];
  const Tensor panels = PackPanels(w.constant, p.weights(), schedule.width());
  const Tensor factors = PackPanels(scales.constant, p.scales(), schedule.width());
  PlanStep step;
  step.kernel.family = "scaled_matmul";
  step.kernel.key = internal::Join("scaled_matmul ", schedule.Key(), " ", epilogue.Key());
  step.kernel.emit = [p, schedule, epilogue](KernelBuilder& b) {
    EmitContraction(b, schedule, epilogue, 3, [&](const ContractionTile& tile, const IrValues& sums) {
      return EmitScaledSums(b, p, schedule, tile, sums);
    });
  };
  step.args = {builder.Read(node.inputs[0]),
               {.buffer = builder.Constant(w.name + ".panels", panels)},
               {.buffer = builder.Constant(scales.name + ".panels", factors)}};
  epilogue.AddArguments(node, builder, step);
  step.tasks = schedule.tasks();
  step.scratch_bytes = schedule.scratch_bytes();
  step.label = node.name;
  step.flops = 2.0 * static_cast<double>(p.rows * p.columns) * static_cast<double>(p.depth);
  step.bytes = static_cast<double>(p.rows * p.depth + panels.byte_size() + factors.byte_size() +
                                   ByteSize(epilogue.dtype(), p.rows * p.columns));
  builder.AddStep(std::move(step));
}

}  // namespace

extern const std::string_view kScaledMatmulDoc;
const std::string_view kScaledMatmulDoc =
    "bytes times 4-bit weights with a scale for each block of the depth: integer sums, scaled and added in f32";

std::vector<Way> WaysScaledMatmul(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<ScaledProblem> p = ReadProblem(graph, node, target, why);
  if (!p) return {};
  const int cost = TileEpilogue(graph, node).cost();
  std::vector<Way> ways;
  const std::string blocks = internal::Join("scales for blocks of ", p->block);
  ways.push_back({.name = std::string(kFloats), .us = FloatMicroseconds(*p, target, cost), .why = blocks});
  // Units do not run over the end of a block, nor, without VNNI, over that of eight of them.
  if (p->block % p->dot.unit() == 0) {
    const ContractionSchedule s = ScheduleContraction(target, p->shape(), cost);
    const MachineModel machine(target);
    const double us = machine.Shared(ContractionMicroseconds(target, s, cost), s.tasks()) + machine.step_ns / 1000;
    ways.push_back({.name = std::string(kIntegers), .us = us, .why = blocks});
  }
  if (p->rows <= kMaxGemvColumns) {
    if (const std::optional<Int4Weights> int4 = AsInt4(graph, node, *p)) {
      const double us = GemvInt4Microseconds(*int4, p->rows, WeightShare(graph, node.inputs[1]), target) +
                        WidenMicroseconds(p->rows * p->depth, DType::kF32, target);
      ways.push_back({.name = std::string(kInt4), .us = us, .why = blocks});
    }
  }
  return ways;
}

Status PlanScaledMatmul(const Node& node, const std::string& way, PlanBuilder& builder) {
  std::string why;
  const std::optional<ScaledProblem> p = ReadProblem(builder.graph(), node, builder.target(), &why);
  TES_CHECK(p.has_value(), why);
  if (way == kFloats) {
    PlanFloats(node, *p, builder);
  } else if (way == kInt4) {
    const std::optional<Int4Weights> int4 = AsInt4(builder.graph(), node, *p);
    TES_CHECK(int4.has_value(), way);
    PlanGemvInt4(node, {.rows = p->columns, .depth = p->depth, .columns = p->rows}, *int4,
                 builder.graph()[node.inputs[1]].name, PlanWidened(node.inputs[0], DType::kF32, builder),
                 TileEpilogue(builder.graph(), node), builder);
  } else {
    PlanIntegers(node, *p, builder);
  }
  return OkStatus();
}

}  // namespace tessera
