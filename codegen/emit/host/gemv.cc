// The gemv emitter: products with few columns and constant weights, each format of gemv_format.h a way. What costs is
// reading the weights, so the way with the fewest bytes wins unless its instructions take longer than they do.
#include "codegen/emit/host/gemv.h"

#include <algorithm>
#include <vector>

#include "codegen/cost_model.h"
#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/host/gemv_int4.h"
#include "codegen/emit/int8_dot.h"
#include "codegen/emitter.h"
#include "graph/op.h"

namespace tessera {

std::optional<GemvOperands> ReadGemvOperands(const Graph& graph, const Node& node, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  GemvOperands result;
  GemvShape& shape = result.shape;
  if (node.op == Op::kConv) {
    const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why);
    if (!g) return std::nullopt;
    if (!g->IsMatmul()) return no("no 1x1 convolution with stride 1 in one group");
    result.x = node.inputs[0];
    result.weights = node.inputs[1];
    shape = {.rows = g->out_channels, .depth = g->in_channels, .columns = g->pixels()};
    result.row_step = shape.depth;
  } else if (node.op == Op::kMatmul) {
    // W is the second operand, or the first where that is constant and the second is not.
    const int w = graph.IsConstant(node.inputs[0]) && !graph.IsConstant(node.inputs[1]) ? 0 : 1;
    result.weights = node.inputs[w];
    result.x = node.inputs[1 - w];
    const Shape& weights = graph[result.weights].type.shape;
    const Shape& x = graph[result.x].type.shape;
    if (weights.rank() != 2) return no("expected weights of 2 dimensions, found ", weights.rank());
    const bool transposed[] = {node.attrs.Int("transpose_a", 0) != 0, node.attrs.Int("transpose_b", 0) != 0};
    const bool rows_outer = w == 1 ? transposed[1] : !transposed[0];
    const bool columns_outer = w == 1 ? !transposed[0] : transposed[1];
    shape.rows = weights[rows_outer ? 0 : 1];
    shape.depth = weights[rows_outer ? 1 : 0];
    if (x.num_elements() == 0 || shape.rows == 0) return no("nothing to compute");
    shape.columns = x.num_elements() / shape.depth;
    result.row_step = rows_outer ? shape.depth : 1;
    result.depth_step = rows_outer ? 1 : shape.rows;
    result.y_is_column = w == 0;
    // A single column lies the same way whichever side it is on.
    if (shape.columns > 1 && !(w == 1 && columns_outer)) return no("columns of x or y that do not follow each other");
  } else {
    return no("no matmul or conv");
  }
  if (shape.columns > kMaxGemvColumns) {
    return no("expected at most ", kMaxGemvColumns, " columns, found ", shape.columns);
  }
  return result;
}

TileEpilogue GemvEpilogue(const Graph& graph, const Node& node, const GemvOperands& operands) {
  if (!operands.y_is_column) return TileEpilogue(graph, node);
  // y is [.., rows, 1]: the same elements as [.., 1, rows], and so are operands that broadcast to it.
  const auto turned = [](Shape shape) {
    const int rank = shape.rank();
    if (rank >= 2) std::swap(shape[rank - 1], shape[rank - 2]);
    return shape;
  };
  std::vector<TensorType> types;
  if (node.epilogue) {
    for (ValueId id : node.epilogue->inputs) types.push_back({graph[id].type.dtype, turned(graph[id].type.shape)});
  }
  return TileEpilogue(MakeContext(graph, node).outputs[0].dtype, turned(graph[node.outputs[0]].type.shape),
                      node.epilogue ? &*node.epilogue : nullptr, types);
}

double WeightStreamNanoseconds(double bytes, double all_bytes, const Target& target) {
  // Bytes a cycle, measured on Zen 4 (docs/results/host_few_columns.md). A third level of 32 MB begins to miss at a
  // third of that.
  constexpr double kSecondLevel = 32, kThirdLevel = 27, kMemory = 7;
  constexpr double kStaysMb = 12, kLeavesMb = 40;
  const double away = std::clamp((all_bytes / 1e6 - kStaysMb) / (kLeavesMb - kStaysMb), 0.0, 1.0);
  double rate = kThirdLevel + away * (kMemory - kThirdLevel);
  if (all_bytes <= 0.8 * static_cast<double>(target.l2_bytes)) rate = kSecondLevel;
  return bytes / rate * MachineModel::kCycle;
}

double WeightShare(const Graph& graph, ValueId weights) {
  double all = 0;
  for (const Value& value : graph.values) {
    if (value.kind == ValueKind::kConstant) all += static_cast<double>(value.constant.byte_size());
  }
  return static_cast<double>(graph[weights].constant.byte_size()) / std::max(1.0, all);
}

namespace {

// More than this share kept is left to the dense way: indices cost more than what is pruned.
constexpr double kMaxScatteredDensity = 0.85;

// What estimates of formats with places are raised by before they are compared with dense ones: columns read a little
// more than is counted, and windows depend on more than bandwidth, which a busy machine shows first.
double MarginOf(GemvKind kind) { return kind == GemvKind::kDense ? 1 : kind == GemvKind::kColumns ? 1.03 : 1.12; }

constexpr double kPlacesNs = 90;

struct Gemv {
  GemvOperands operands;
  GemvWeights weights;
  double weight_share = 1;
};

std::optional<Gemv> ReadGemv(const Graph& graph, const Node& node, std::string* why) {
  const std::optional<GemvOperands> operands = ReadGemvOperands(graph, node, why);
  if (!operands) return std::nullopt;
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  const Value& value = graph[operands->weights];
  const DType x_type = graph[operands->x].type.dtype, w_type = value.type.dtype;
  if (value.kind != ValueKind::kConstant) return no("no operand is constant");
  const bool integers = x_type == DType::kU8 && w_type == DType::kI8;
  if (!integers && (x_type != DType::kF32 || w_type != DType::kF32)) {
    return no("expected f32, or u8 with weights of i8, found ", Name(x_type), " and ", Name(w_type));
  }
  Gemv gemv = {*operands, {}, WeightShare(graph, operands->weights)};
  gemv.weights = {.tensor = value.constant,
                  .rows = operands->shape.rows,
                  .depth = operands->shape.depth,
                  .row_step = operands->row_step,
                  .depth_step = operands->depth_step,
                  .kept = {}};
  // Where the weights declare what is pruned; then zeros of any origin contribute nothing to integers.
  if (value.tesa) gemv.weights.kept = integers ? NonZeros(value.constant) : value.tesa->KeptBitmap();
  return gemv;
}

std::vector<GemvFormat> Formats(const Gemv& gemv, const Target& target) {
  std::vector<GemvFormat> formats;
  const int lanes = target.Lanes(32);
  const bool dense_only = gemv.weights.density() > kMaxScatteredDensity;
  const auto add = [&](GemvKind kind, GemvUnit unit, int bits) {
    if (dense_only && kind != GemvKind::kDense) return;
    const GemvFormat format = {.kind = kind, .unit = unit, .lanes = lanes, .value_bits = bits};
    if (HasGemv(target, format) && CanStore(format, gemv.weights)) formats.push_back(format);
  };
  if (gemv.weights.tensor.dtype() == DType::kF32) {
    for (GemvKind kind : {GemvKind::kDense, GemvKind::kColumns, GemvKind::kScattered}) add(kind, GemvUnit::kF32, 32);
    return formats;
  }
  for (int bits : {8, 4}) {
    add(GemvKind::kDense, GemvUnit::kQuad, bits);
    add(GemvKind::kColumns, GemvUnit::kQuad, bits);
    add(GemvKind::kScattered, GemvUnit::kQuad, bits);
    add(GemvKind::kScattered, GemvUnit::kByte, bits);
  }
  return formats;
}

// Cycles for one vector of the stream, or one bundle, in all columns, while nothing has to be waited for.
double Cycles(const GemvFormat& format, int64_t columns, const Target& target) {
  const auto m = static_cast<double>(columns);
  // Zen 4: a 512-bit multiply-add, permutation or load a cycle; of 256 bits two. Unpacking 4 bits takes half of one,
  // and a byte product without VNNI five.
  const double width = target.vector_bits / 512.0;
  const double multiply = format.unit == GemvUnit::kF32 || HasDotBytes(target) ? 1 : 5;
  const double unpack = format.value_bits == 4 ? 0.3 : 0;
  switch (format.kind) {
    case GemvKind::kDense: return width * (std::max(1.1, m * multiply) + unpack);
    case GemvKind::kColumns: return width * (std::max(1.2, m * multiply + 0.1) + unpack);
    case GemvKind::kScattered: break;
  }
  if (format.unit == GemvUnit::kByte) return 2.4 + m * 4 + 2 * unpack;
  return 3 + m * (7 + 4 * multiply) + 4 * unpack;
}

double GemvMicroseconds(const Gemv& gemv, const GemvFormat& format, double vectors, int epilogue_cost,
                        const Target& target) {
  const MachineModel machine(target);
  const GemvShape& shape = gemv.operands.shape;
  const bool bundles = format.kind == GemvKind::kScattered;
  const double bytes = vectors * (bundles ? format.bundle_bytes() : format.vector_bytes() / format.shared());
  const double compute = vectors * Cycles(format, shape.columns, target) * MachineModel::kCycle;
  const double finish = static_cast<double>(shape.columns * (epilogue_cost + 1)) * machine.op_ns;
  const double groups = static_cast<double>(gemv.weights.groups(format.lanes)) * (20 * MachineModel::kCycle + finish);
  const double x = static_cast<double>(GemvScratchBytes(shape, format)) / 24 * MachineModel::kCycle +
                   static_cast<double>(shape.columns) * 12 * MachineModel::kCycle;
  // Where columns and windows begin is looked up first.
  const double places = format.kind == GemvKind::kDense ? 0 : kPlacesNs;
  const double weights = WeightStreamNanoseconds(bytes, bytes / gemv.weight_share, target);
  // What is not the bottleneck still gets in its way a little.
  const double core = std::max(compute, weights) + 0.05 * std::min(compute, weights);
  // A task is a group at least.
  const double shared = machine.Shared(MarginOf(format.kind) * core + groups, gemv.weights.groups(format.lanes));
  return (shared + machine.threads * (x + places) + machine.step_ns) / 1000;
}

constexpr std::string_view kInt4 = "int4";

std::string Describe(double density, double bytes_each) {
  return internal::Join(static_cast<int>(density * 100 + 0.5), " % kept, ",
                        static_cast<double>(static_cast<int64_t>(bytes_each * 100)) / 100, " bytes for each");
}

// f32 weights that are 4-bit integers and scales.
Way Int4Way(const Gemv& gemv, const Int4Weights& weights, const Target& target) {
  const double bytes = Int4Bytes(weights, target.Lanes(32));
  return {.name = std::string(kInt4),
          .us = GemvInt4Microseconds(weights, gemv.operands.shape.columns, gemv.weight_share, target),
          .why = internal::Join("scales for blocks of ", weights.block, ", ",
                                Describe(1, bytes / static_cast<double>(weights.rows * weights.depth)))};
}

}  // namespace

double GemvInt4Microseconds(const Int4Weights& weights, int64_t columns, double weight_share, const Target& target) {
  const MachineModel machine(target);
  const double bytes = Int4Bytes(weights, target.Lanes(32));
  const double read = WeightStreamNanoseconds(bytes, bytes / weight_share, target);
  const double compute = Int4Cycles(weights, columns, target) * MachineModel::kCycle;
  return (std::max(read, compute) + 0.05 * std::min(read, compute) + machine.step_ns) / 1000;
}

void PlanGemvInt4(const Node& node, const GemvShape& shape, const Int4Weights& weights, const std::string& name,
                  StepArg x, const TileEpilogue& epilogue, PlanBuilder& builder) {
  const Int4Schedule schedule = {
      .lanes = builder.target().Lanes(32), .block = weights.block, .offsets = weights.offsets};
  Int4Stream stream = PackInt4(weights, schedule.lanes);
  PlanStep step;
  step.tasks = stream.tasks;
  step.args = {x,
               {.buffer = builder.Constant(name + ".int4", std::move(stream.values))},
               {.buffer = builder.Constant(name + ".scales", std::move(stream.scales))}};
  step.kernel.family = "gemv_int4";
  step.kernel.key = internal::Join("gemv ", schedule.Key(), " ", shape.Key(), " ", epilogue.Key());
  step.kernel.emit = [shape, schedule, epilogue](KernelBuilder& b) { EmitGemvInt4(b, shape, schedule, epilogue); };
  epilogue.AddArguments(node, builder, step);
  step.label = node.name;
  step.flops = 2.0 * static_cast<double>(weights.rows * weights.depth) * static_cast<double>(shape.columns);
  step.bytes = Int4Bytes(weights, schedule.lanes);
  builder.AddStep(std::move(step));
}

extern const std::string_view kGemvDoc;
const std::string_view kGemvDoc =
    "products with few columns: weights in formats that are read once, front to back, scattered ones by permutations";

std::vector<Way> WaysGemv(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<Gemv> gemv = ReadGemv(graph, node, why);
  if (!gemv) return {};
  std::vector<Way> ways;
  const double kept = static_cast<double>(std::max<int64_t>(1, gemv->weights.num_kept()));
  const int epilogue_cost = GemvEpilogue(graph, node, gemv->operands).cost();
  for (const GemvFormat& format : Formats(*gemv, target)) {
    const double vectors = EstimateVectors(format, gemv->weights);
    const bool bundles = format.kind == GemvKind::kScattered;
    const double bytes = vectors * (bundles ? format.bundle_bytes() : format.vector_bytes() / format.shared());
    Way way = {.name = format.Name(), .us = GemvMicroseconds(*gemv, format, vectors, epilogue_cost, target), .why = ""};
    way.why = Describe(gemv->weights.density(), bytes / kept);
    ways.push_back(std::move(way));
  }
  if (const std::optional<Int4Weights> int4 = FindInt4(gemv->weights)) ways.push_back(Int4Way(*gemv, *int4, target));
  return ways;
}

Status PlanGemv(const Node& node, const std::string& way, PlanBuilder& builder) {
  std::string why;
  const std::optional<Gemv> gemv = ReadGemv(builder.graph(), node, &why);
  TES_CHECK(gemv.has_value(), why);
  if (way == kInt4) {
    const GemvOperands& operands = gemv->operands;
    PlanGemvInt4(node, operands.shape, *FindInt4(gemv->weights), builder.graph()[operands.weights].name,
                 builder.Read(operands.x), GemvEpilogue(builder.graph(), node, operands), builder);
    return OkStatus();
  }
  const std::vector<GemvFormat> formats = Formats(*gemv, builder.target());
  const auto format =
      std::find_if(formats.begin(), formats.end(), [&](const GemvFormat& f) { return f.Name() == way; });
  TES_CHECK(format != formats.end(), way);
  const GemvOperands& operands = gemv->operands;
  GemvStream stream = PackGemv(*format, gemv->weights);
  const std::string& name = builder.graph()[operands.weights].name;
  PlanStep step;
  step.tasks = stream.tasks.num_elements() - 1;
  step.bytes = static_cast<double>(stream.values.byte_size() + stream.places.byte_size() +
                                   operands.shape.columns * (operands.shape.depth + operands.shape.rows));
  step.args = {builder.Read(operands.x), {.buffer = builder.Constant(name + ".stream", std::move(stream.values))}};
  step.args.push_back({.buffer = builder.Constant(name + ".tasks", std::move(stream.tasks))});
  if (format->kind != GemvKind::kDense) {
    step.args.push_back({.buffer = builder.Constant(name + ".begin", std::move(stream.begin))});
    step.args.push_back({.buffer = builder.Constant(name + ".places", std::move(stream.places))});
  }
  const TileEpilogue epilogue = GemvEpilogue(builder.graph(), node, operands);
  step.kernel.family = "gemv_" + format->Name();
  step.kernel.key = internal::Join("gemv ", format->Name(), " ", format->unit == GemvUnit::kF32 ? "f32 " : "int8 ",
                                   operands.shape.Key(), " ", epilogue.Key());
  step.kernel.emit = [shape = operands.shape, format = *format, epilogue](KernelBuilder& b) {
    EmitGemv(b, shape, format, epilogue);
  };
  epilogue.AddArguments(node, builder, step);
  step.scratch_bytes = GemvScratchBytes(operands.shape, *format);
  step.label = node.name;
  // Kept elements are the work.
  step.flops = 2.0 * static_cast<double>(gemv->weights.num_kept()) * static_cast<double>(operands.shape.columns);
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
