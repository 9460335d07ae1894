#include "codegen/emit/attention_problem.h"

#include <algorithm>
#include <cmath>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "graph/op.h"

namespace tessera {
namespace {

// The tile for the machine with panels of `vectors` registers: as high as the other registers allow.
void SetTile(AttentionProblem& p, const Target& target, int vectors) {
  p.vectors = vectors;
  const int product = target.has_fma ? 0 : 1;  // a product that waits for its addition
  const int64_t room = (target.vector_registers - p.vectors - 1 - product) / p.vectors;
  p.tiles = DivideUp(p.queries, room);
  p.tile_rows = DivideUp(p.queries, p.tiles);
  p.full_tiles = p.queries - p.tiles * (p.tile_rows - 1);
}

void Schedule(AttentionProblem& p, const Target& target) {
  p.lanes = target.Lanes(TypeInfo(p.type).bits);
  // Wide panels re-read less of A, narrow ones leave room for more rows; what is wider than v only holds nothing.
  const int64_t widest = DivideUp(std::max(p.value_depth, int64_t{1}), p.lanes);
  SetTile(p, target, target.vector_registers >= 32 && widest >= 3 ? 4 : 2);
}

// The mask that lists may come from: a constant of a type that has an infinity.
const Tensor* StaticMask(const Graph& graph, const Node& node) {
  if (node.inputs.size() < 4 || node.inputs[3] == ValueId::kNone || !graph.IsConstant(node.inputs[3])) return nullptr;
  const Tensor& mask = graph[node.inputs[3]].constant;
  return IsFloat(mask.dtype()) && TypeInfo(mask.dtype()).bits >= 16 ? &mask : nullptr;
}

// Uses lists where they leave out enough to pay for walking them, with the panels that compute least. The lists.
AttentionMaskLists ScheduleLists(AttentionProblem& p, const Target& target, const Tensor& mask) {
  AttentionProblem best = p;
  AttentionMaskLists best_lists;
  constexpr double kWorthwhile = 0.9;
  double least = kWorthwhile;
  for (int vectors : {2, 4}) {
    if (vectors == 4 && target.vector_registers < 32) continue;
    AttentionProblem tried = p;
    SetTile(tried, target, vectors);
    AttentionMaskLists lists = ListAttentionPanels(mask, p.mask_steps, p.batch, p.heads, tried.tiling());
    // Panels hang over the last key.
    const double share =
        lists.kept(tried.tiling()) * static_cast<double>(tried.panels() * tried.width()) / static_cast<double>(p.keys);
    if (share >= least) continue;
    least = share;
    tried.listed = true;
    tried.list_steps[0] = lists.batch_step;
    tried.list_steps[1] = lists.head_step;
    tried.max_panels = lists.max_panels;
    tried.kept = share;
    best = tried;
    best_lists = std::move(lists);
  }
  p = best;
  return best_lists;
}

}  // namespace

std::string AttentionShape::Key() const {
  return internal::Join("attention ", Name(stored), positions_first ? " bshd " : " bhsd ", batch, " ", heads, " ",
                        queries, " ", keys, " ", depth, " ", value_depth, " scale ", scale, masked ? " mask " : "",
                        mask_steps[0], " ", mask_steps[1], " ", mask_steps[2], " ", mask_steps[3]);
}

double AttentionShape::flops() const {
  return static_cast<double>(batch * heads * queries * keys) * static_cast<double>(2 * (depth + value_depth) + 5);
}

int64_t AttentionShape::operand_bytes() const {
  return ByteSize(stored, batch * heads * (queries * depth + keys * (depth + value_depth)));
}

std::string AttentionProblem::Key() const {
  return internal::Join(AttentionShape::Key(), listed ? " listed " : "", list_steps[0], " ", list_steps[1], " ",
                        max_panels, " tile ", tile_rows, "x", vectors, "x", lanes, " tiles ", tiles, " full ",
                        full_tiles, " task ", tiles_per_task);
}

std::optional<AttentionShape> AttentionShapeOf(const Graph& graph, const Node& node, std::string* why) {
  if (node.op != Op::kAttention) {
    *why = "is no attention";
    return std::nullopt;
  }
  if (node.epilogue && node.epilogue->body.uses_index()) {
    *why = "the epilogue asks where it is";
    return std::nullopt;
  }
  const OpContext context = MakeContext(graph, node);
  if (context.outputs[0].shape.num_elements() == 0) {
    *why = "no elements";
    return std::nullopt;
  }
  AttentionShape p;
  p.stored = context.dtype(0);
  p.type = ComputeType(p.stored);
  p.positions_first = node.attrs.String("layout", "bhsd") == "bshd";
  const int head = p.positions_first ? 2 : 1, position = p.positions_first ? 1 : 2;
  const Shape &q = context.shape(0), &v = context.shape(2);
  p.batch = q[0];
  p.heads = q[head];
  p.queries = q[position];
  p.depth = q[3];
  p.keys = v[position];
  p.value_depth = v[3];
  p.scale = node.attrs.Float("scale");
  if (context.has_input(3)) {
    p.masked = true;
    const Shape& mask = context.shape(3);
    const std::vector<int64_t> strides = mask.Strides();
    for (int d = 0; d < mask.rank(); ++d) p.mask_steps[4 - mask.rank() + d] = mask[d] == 1 ? 0 : strides[d];
  }
  return p;
}

std::optional<AttentionProblem> AttentionProblemOf(const Graph& graph, const Node& node, const Target& target,
                                                   std::string* why, AttentionMaskLists* lists) {
  const std::optional<AttentionShape> shape = AttentionShapeOf(graph, node, why);
  if (!shape) return std::nullopt;
  AttentionProblem p = {*shape};
  Schedule(p, target);
  if (const Tensor* mask = StaticMask(graph, node)) {
    AttentionMaskLists found = ScheduleLists(p, target, *mask);
    if (p.listed) *why = internal::Join("static mask, ", std::lround(p.kept * 100), " % of the scores computed");
    if (lists != nullptr) *lists = std::move(found);
  }
  constexpr int64_t kMaxScratch = 64 << 20;
  if (p.scratch_bytes() > kMaxScratch) {
    *why = "too many keys for a thread's scratch";
    return std::nullopt;
  }
  return p;
}

double AttentionTileMicroseconds(const AttentionProblem& p, const Target& target, int epilogue_cost) {
  // Cycles for 512 bits; narrower vectors take as many each on the machines that have them.
  const double rows = static_cast<double>(p.tile_rows), vectors = static_cast<double>(DivideUp(p.keys, p.lanes));
  const double columns = static_cast<double>(DivideUp(p.value_depth, p.lanes));
  const double fma = target.has_avx512 ? 1.15 : 0.65;
  const double products =
      rows * (vectors * static_cast<double>(p.depth) + columns * static_cast<double>(p.keys)) * fma * p.kept;
  const double softmax = rows * (vectors * 12 * p.kept + 60);
  const double finish = rows * columns * (epilogue_cost + 2);
  const double transposing = vectors * static_cast<double>(p.depth) * 8 / static_cast<double>(p.tiles);
  return (products + softmax + finish + transposing + 100) * MachineModel::kCycle * 1e-3;
}

}  // namespace tessera
