// What the attention emitter computes and how it is laid on the machine: sizes, layout, mask, tiles.
//
//   std::optional<AttentionProblem> p = AttentionProblemOf(graph, node, target, &why, &lists);
//   p->tile_rows, p->vectors      // query rows x registers of keys that are summed at once
//
// Values; pure functions. Tested by attention_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_ATTENTION_PROBLEM_H_
#define TESSERA_CODEGEN_EMIT_ATTENTION_PROBLEM_H_

#include <cstdint>
#include <optional>
#include <string>

#include "codegen/emit/attention_mask.h"
#include "codegen/target.h"
#include "graph/graph.h"

namespace tessera {

// What every target's emitters match.
struct AttentionShape {
  DType stored = DType::kF32, type = DType::kF32;
  int64_t batch = 1, heads = 1, queries = 1, keys = 1, depth = 1, value_depth = 1;
  bool positions_first = false;
  double scale = 1;
  bool masked = false;
  int64_t mask_steps[4] = {0, 0, 0, 0};  // elements along b, h, s, t

  // With every key: products, and 5 for a score's softmax; and bytes of q, k and v.
  double flops() const;
  int64_t operand_bytes() const;
  std::string Key() const;
};

std::optional<AttentionShape> AttentionShapeOf(const Graph& graph, const Node& node, std::string* why);

struct AttentionProblem : AttentionShape {
  // Lists of panels instead of a mask that is added; see attention_mask.h.
  bool listed = false;
  int64_t list_steps[2] = {0, 0};  // lists along b, h
  int64_t max_panels = 0;
  double kept = 1;  // share of the scores that is computed
  // The schedule.
  int lanes = 1, vectors = 1;
  int64_t tile_rows = 1, tiles = 1, full_tiles = 1;  // of a head; tiles from full_tiles on have one row less
  int64_t tiles_per_task = 1;

  int64_t width() const { return int64_t{vectors} * lanes; }
  int64_t panels() const { return (keys + width() - 1) / width(); }
  AttentionTiling tiling() const { return {queries, keys, tile_rows, tiles, full_tiles, width()}; }
  // Elements between rows of scores; a whole number of pages would let all rows fall into one set of the cache.
  int64_t score_step() const {
    const int64_t padded = (listed ? max_panels : panels()) * width();
    return padded % 256 == 0 ? padded + lanes : padded;
  }
  int64_t all_tiles() const { return batch * heads * tiles; }
  int64_t tasks() const { return (all_tiles() + tiles_per_task - 1) / tiles_per_task; }
  // Elements of a thread's scratch: Kᵀ, scores, factors.
  int64_t scores_at() const { return panels() * width() * depth; }
  int64_t factors_at() const { return scores_at() + tile_rows * score_step(); }
  int64_t scratch_bytes() const { return (factors_at() + tile_rows) * TypeInfo(type).bits / 8; }

  // All that the kernel depends on.
  std::string Key() const;
};

// The problem of a node with its tiles chosen for the machine; nullopt with the reason in *why. Where the mask is a
// constant that leaves out whole panels, *why says what share is left, and `lists` (may be nullptr) receives them.
std::optional<AttentionProblem> AttentionProblemOf(const Graph& graph, const Node& node, const Target& target,
                                                   std::string* why, AttentionMaskLists* lists = nullptr);

// Expected time of one tile of query rows on one core.
double AttentionTileMicroseconds(const AttentionProblem& p, const Target& target, int epilogue_cost);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_ATTENTION_PROBLEM_H_
