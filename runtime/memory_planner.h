// Memory planner: gives every intermediate buffer of a program its place in one arena, so that a run allocates nothing.
//
//   std::vector<BufferRequest> requests = {
//       {.size_bytes = 4096, .first_step = 0, .last_step = 1},                         // x
//       {.size_bytes = 4096, .first_step = 1, .last_step = 2, .in_place_of = {0}},     // y = relu(x), may overwrite x
//       {.size_bytes = 1024, .first_step = 2, .last_step = 3, .alias_of = 1, .alias_offset = 1024},  // a slice of y
//   };
//   ASSIGN_OR_RETURN(MemoryPlan plan, PlanMemory(requests));   // offsets {0, 0, 1024}, arena 4096, ratio 1.0
//
// Offset assignment is strip packing with fixed times, which is NP-hard, but networks are kind: several greedy orders
// (Pisarchyk & Lee, arXiv:2001.03288, and first use) followed by a short seeded random search over orders reach the
// bound "most bytes alive at one step" on nearly all of them; no single order does.  Tested by memory_planner_test.cc.
#ifndef TESSERA_RUNTIME_MEMORY_PLANNER_H_
#define TESSERA_RUNTIME_MEMORY_PLANNER_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace tessera {

// Every buffer that is not a view starts on a multiple of this (a cache line, an AVX-512 register) and owns its bytes
// up to the next multiple, so that a kernel may read, though not write, whole vectors at its end.
inline constexpr uint64_t kBufferAlignment = 64;

// One buffer and when it is alive. Steps are numbered from 0 in the order in which they run.
struct BufferRequest {
  uint64_t size_bytes = 0;
  // The step that writes it first, and the last step that reads or writes it, inclusive. Inputs of the program start at
  // step 0; outputs end at the last step.
  int32_t first_step = 0;
  int32_t last_step = 0;
  // A view: these bytes are bytes [alias_offset, alias_offset + size_bytes) of request `alias_of`, which may be a view
  // itself. Reshape, slice and split make views of what they read; a producer that writes straight into its share of a
  // concatenation is a view of the concatenation. Bytes that two related requests share are kept from the first use to
  // the last of either, also in between. -1: not a view.
  int32_t alias_of = -1;
  uint64_t alias_offset = 0;
  // Wishes, best first: requests that the step `first_step` may overwrite with this one while it reads them, starting
  // at their first byte. A wish is granted when the candidate dies at that step, is at least as large, and nobody else
  // needs the bytes afterwards or at that step. A view's wishes are ignored: its place is given.
  std::vector<int32_t> in_place_of;
};

struct MemoryPlanOptions {
  // Try in-place wishes. Off shows what they save.
  bool allow_in_place = true;
  // Steps of the random search that follows when no greedy order reaches the bound; fewer on very large programs. The
  // same seed gives the same plan.
  int max_search_steps = 1000;
  uint64_t seed = 1;
};

struct MemoryPlan {
  // Byte offset of each request in the arena.
  std::vector<uint64_t> offsets;
  // The request whose bytes each took over in place, or -1.
  std::vector<int32_t> in_place_of;
  uint64_t arena_bytes = 0;
  // Most bytes alive at one step, views and every wish that may be granted merged, sizes rounded up to
  // kBufferAlignment: no plan with the same merges can be smaller.
  uint64_t lower_bound_bytes = 0;
  // The arena if nothing shared bytes with anything but its views.
  uint64_t naive_bytes = 0;
  // What found it, for reports: "size", "breadth", "first use", "last use", "size x lifetime", "search".
  std::string order;

  // arena_bytes / lower_bound_bytes, 1 when there is nothing to place.
  double ratio() const {
    return lower_bound_bytes == 0 ? 1.0 : static_cast<double>(arena_bytes) / static_cast<double>(lower_bound_bytes);
  }
};

// Deterministic; safe to call from several threads. Errors: TES-9001 for requests that contradict themselves (lifetimes
// that end before they start, views outside what they are views of, view cycles, indices out of range); TES-1008 when
// all sizes together pass 2^62 bytes.
StatusOr<MemoryPlan> PlanMemory(std::span<const BufferRequest> requests, const MemoryPlanOptions& options = {});

}  // namespace tessera

#endif  // TESSERA_RUNTIME_MEMORY_PLANNER_H_
