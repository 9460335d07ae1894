// How it works. Requests that must share bytes (views, granted in-place wishes) form a *group*, which is placed as one.
// A group is a stack of *pieces*, byte ranges with one lifetime each, so that a small result that took over a large
// dead buffer holds only its own bytes:
//
//     bytes ^   +-------+                     two groups that are alive at one time forbid each other an open interval
//           |   | c     |                     of distances: (q.begin - p.end, q.end - p.begin) for every pair of pieces
//           |   |   +---+--------+            p, q alive together
//           |   |   |  b, in place of c
//           +---+---+------------+--> steps
//
// The intervals are computed once; placing a group is then a sweep over those of its placed neighbours, and a whole
// order is tried in microseconds, which is what makes a search over orders affordable.

#include "runtime/memory_planner.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <utility>

namespace tessera {
namespace {

constexpr uint64_t kMaxTotalBytes = uint64_t{1} << 62;
// Conflicts visited by the random search at most: a fraction of a second, at about 5 ns each.
constexpr uint64_t kMaxSearchWork = 50'000'000;

uint64_t RoundUp(uint64_t value) { return (value + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment; }

// A request's place within its group.
struct Member {
  int32_t group = -1;
  uint64_t offset = 0;
};

struct Piece {
  int64_t begin, end;
  int32_t first_step, last_step;
};

struct Group {
  std::vector<int32_t> members;
  std::vector<Piece> pieces;
  uint64_t size = 0;
  int32_t first_step = std::numeric_limits<int32_t>::max();
  int32_t last_step = -1;
};

Status Validate(std::span<const BufferRequest> requests) {
  if (requests.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return Error(ErrorCode::kLimitExceeded, "memory plan: ", requests.size(), " buffers are more than 2^31 - 1");
  }
  uint64_t total = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const BufferRequest& request = requests[i];
    if (request.size_bytes > kMaxTotalBytes || (total += RoundUp(request.size_bytes)) > kMaxTotalBytes) {
      return Error(ErrorCode::kLimitExceeded, "memory plan: the buffers up to number ", i, " (", request.size_bytes,
                   " bytes) need more than 2^62 bytes together");
    }
    if (request.first_step < 0 || request.last_step < request.first_step) {
      return Error(ErrorCode::kInternal, "memory plan: buffer ", i, " lives from step ", request.first_step,
                   " to step ", request.last_step, "; expected 0 <= first <= last");
    }
    for (int32_t candidate : request.in_place_of) {
      if (candidate < 0 || static_cast<size_t>(candidate) >= requests.size()) {
        return Error(ErrorCode::kInternal, "memory plan: buffer ", i, " wants the place of buffer ", candidate,
                     ", which does not exist");
      }
    }
    if (request.alias_of == -1) continue;
    if (request.alias_of < 0 || static_cast<size_t>(request.alias_of) >= requests.size()) {
      return Error(ErrorCode::kInternal, "memory plan: buffer ", i, " is a view of buffer ", request.alias_of,
                   ", which does not exist");
    }
    const uint64_t whole = requests[request.alias_of].size_bytes;
    if (request.alias_offset > whole || request.size_bytes > whole - request.alias_offset) {
      return Error(ErrorCode::kInternal, "memory plan: buffer ", i, " is bytes [", request.alias_offset, ", ",
                   request.alias_offset, " + ", request.size_bytes, ") of buffer ", request.alias_of, ", which has ",
                   whole);
    }
  }
  return OkStatus();
}

// Groups the requests and remembers where each is.
class Grouping {
 public:
  // Views join what they are views of. Fails on a cycle of views.
  static StatusOr<Grouping> FromViews(std::span<const BufferRequest> requests) {
    Grouping result(requests);
    const int32_t count = static_cast<int32_t>(requests.size());
    std::vector<int32_t> chain;
    for (int32_t i = 0; i < count; ++i) {
      int32_t at = i;
      chain.clear();
      while (result.members_[at].group < 0 && requests[at].alias_of >= 0) {
        chain.push_back(at);
        if (chain.size() > requests.size()) {
          return Error(ErrorCode::kInternal, "memory plan: buffer ", i, " is a view of itself through other views");
        }
        at = requests[at].alias_of;
      }
      if (result.members_[at].group < 0) result.AddMember(at, result.NewGroup(RoundUp(requests[at].size_bytes)), 0);
      for (auto view = chain.rbegin(); view != chain.rend(); ++view) {
        const Member whole = result.members_[requests[*view].alias_of];
        result.AddMember(*view, whole.group, whole.offset + requests[*view].alias_offset);
      }
    }
    return result;
  }

  // Grants wishes in the order of steps, so that chains of in-place operations become one group.
  std::vector<int32_t> MergeInPlace() {
    std::vector<int32_t> granted(requests_.size(), -1);
    std::vector<int32_t> order;
    for (size_t i = 0; i < requests_.size(); ++i) {
      if (requests_[i].alias_of < 0 && !requests_[i].in_place_of.empty()) order.push_back(static_cast<int32_t>(i));
    }
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      const int32_t step_a = requests_[a].first_step, step_b = requests_[b].first_step;
      return step_a != step_b ? step_a < step_b : a < b;
    });
    for (int32_t result : order) {
      for (int32_t candidate : requests_[result].in_place_of) {
        if (!MayTakeOver(result, candidate)) continue;
        TakeOver(result, candidate);
        granted[result] = candidate;
        break;
      }
    }
    return granted;
  }

  // The groups that are left, cut into pieces; members() numbers them in this order from then on.
  std::vector<Group> BuildGroups() {
    std::vector<Group> groups;
    for (Group& group : groups_) {
      if (group.members.empty()) continue;
      for (int32_t member : group.members) members_[member].group = static_cast<int32_t>(groups.size());
      CutIntoPieces(group);
      groups.push_back(std::move(group));
    }
    return groups;
  }

  const std::vector<Member>& members() const { return members_; }

 private:
  explicit Grouping(std::span<const BufferRequest> requests) : requests_(requests), members_(requests.size()) {}

  int32_t NewGroup(uint64_t size) {
    groups_.emplace_back().size = size;
    return static_cast<int32_t>(groups_.size()) - 1;
  }

  void AddMember(int32_t request, int32_t group, uint64_t offset) {
    members_[request] = Member{group, offset};
    Group& joined = groups_[group];
    joined.members.push_back(request);
    joined.first_step = std::min(joined.first_step, requests_[request].first_step);
    joined.last_step = std::max(joined.last_step, requests_[request].last_step);
  }

  // Bytes that a request keeps for itself: a view is inside something that is already rounded.
  uint64_t HeldBytes(int32_t request) const {
    const uint64_t size = requests_[request].size_bytes;
    return requests_[request].alias_of < 0 ? RoundUp(size) : size;
  }

  bool MayTakeOver(int32_t result, int32_t candidate) const {
    const int32_t step = requests_[result].first_step;
    const Member& from = members_[result];
    const Member& place = members_[candidate];
    if (from.group == place.group) return false;
    if (requests_[candidate].last_step != step || requests_[candidate].first_step == step) return false;
    if (requests_[result].size_bytes > requests_[candidate].size_bytes) return false;
    if (place.offset % kBufferAlignment != 0) return false;
    // A producer that writes its share of `result` earlier needs the bytes while the candidate is still alive.
    if (groups_[from.group].first_step < step) return false;
    const uint64_t begin = place.offset;
    const uint64_t end = begin + HeldBytes(result);
    if (end > groups_[place.group].size) return false;
    for (int32_t other : groups_[place.group].members) {
      if (other == candidate || requests_[other].last_step < step) continue;
      const uint64_t other_begin = members_[other].offset;
      if (other_begin < end && begin < other_begin + HeldBytes(other)) return false;
    }
    return true;
  }

  void TakeOver(int32_t result, int32_t candidate) {
    const Member place = members_[candidate];
    std::vector<int32_t> moved = std::move(groups_[members_[result].group].members);
    groups_[members_[result].group].members.clear();
    for (int32_t member : moved) AddMember(member, place.group, place.offset + members_[member].offset);
  }

  // Cuts the group where its members begin and end; a piece lives from the first to the last use of any member on it.
  void CutIntoPieces(Group& group) const {
    std::vector<uint64_t> cuts;
    for (int32_t member : group.members) {
      if (HeldBytes(member) == 0) continue;
      cuts.push_back(members_[member].offset);
      cuts.push_back(members_[member].offset + HeldBytes(member));
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      Piece piece = {static_cast<int64_t>(cuts[i]), static_cast<int64_t>(cuts[i + 1]),
                     std::numeric_limits<int32_t>::max(), -1};
      for (int32_t member : group.members) {
        const uint64_t begin = members_[member].offset;
        if (begin > cuts[i] || begin + HeldBytes(member) < cuts[i + 1]) continue;
        piece.first_step = std::min(piece.first_step, requests_[member].first_step);
        piece.last_step = std::max(piece.last_step, requests_[member].last_step);
      }
      if (!group.pieces.empty() && group.pieces.back().first_step == piece.first_step &&
          group.pieces.back().last_step == piece.last_step) {
        group.pieces.back().end = piece.end;
      } else {
        group.pieces.push_back(piece);
      }
    }
  }

  std::span<const BufferRequest> requests_;
  std::vector<Member> members_;
  std::vector<Group> groups_;
};

// Bytes alive at every step at which something is born; between those the live bytes only fall.
std::vector<std::pair<int32_t, uint64_t>> LiveBytes(const std::vector<Group>& groups) {
  std::vector<std::pair<int64_t, int64_t>> changes;
  for (const Group& group : groups) {
    for (const Piece& piece : group.pieces) {
      changes.emplace_back(piece.first_step, piece.end - piece.begin);
      changes.emplace_back(int64_t{piece.last_step} + 1, piece.begin - piece.end);
    }
  }
  std::sort(changes.begin(), changes.end());
  std::vector<std::pair<int32_t, uint64_t>> live;
  int64_t bytes = 0;
  for (size_t i = 0; i < changes.size(); ++i) {
    bytes += changes[i].second;
    if (i + 1 < changes.size() && changes[i + 1].first == changes[i].first) continue;
    if (changes[i].second > 0) live.emplace_back(static_cast<int32_t>(changes[i].first), static_cast<uint64_t>(bytes));
  }
  return live;
}

// Distances offset(this) - offset(other) that would make live pieces overlap: the open interval (low, high).
struct Conflict {
  int32_t other;
  int64_t low, high;
};

class Packer {
 public:
  explicit Packer(const std::vector<Group>& groups) : groups_(groups), conflicts_(groups.size()) {
    std::vector<int32_t> by_birth(groups.size());
    std::iota(by_birth.begin(), by_birth.end(), 0);
    std::sort(by_birth.begin(), by_birth.end(),
              [&](int32_t a, int32_t b) { return groups[a].first_step < groups[b].first_step; });
    for (size_t i = 0; i < by_birth.size(); ++i) {
      const Group& a = groups[by_birth[i]];
      for (size_t j = i + 1; j < by_birth.size() && groups[by_birth[j]].first_step <= a.last_step; ++j) {
        const Group& b = groups[by_birth[j]];
        for (const Piece& p : a.pieces) {
          for (const Piece& q : b.pieces) {
            if (p.first_step > q.last_step || q.first_step > p.last_step) continue;
            const int64_t low = q.begin - p.end, high = q.end - p.begin;
            conflicts_[by_birth[i]].push_back({by_birth[j], low, high});
            conflicts_[by_birth[j]].push_back({by_birth[i], -high, -low});
            conflict_count_ += 2;
          }
        }
      }
    }
  }

  enum class Fit { kLowest, kTightest };

  // Places the groups one after the other; offsets in `offsets`, the arena as result. Gives up, with the maximum as
  // result, as soon as the arena passes `limit`.
  uint64_t Pack(const std::vector<int32_t>& order, Fit fit, uint64_t limit, std::vector<int64_t>& offsets) {
    offsets.assign(groups_.size(), -1);
    uint64_t arena = 0;
    for (int32_t group : order) {
      const int64_t offset = Place(group, fit, offsets);
      offsets[group] = offset;
      arena = std::max(arena, static_cast<uint64_t>(offset) + groups_[group].size);
      if (arena > limit) return std::numeric_limits<uint64_t>::max();
    }
    return arena;
  }

  uint64_t conflict_count() const { return conflict_count_; }

 private:
  int64_t Place(int32_t group, Fit fit, const std::vector<int64_t>& offsets) {
    forbidden_.clear();
    for (const Conflict& conflict : conflicts_[group]) {
      const int64_t other = offsets[conflict.other];
      if (other >= 0 && other + conflict.high > 0) forbidden_.emplace_back(other + conflict.low, other + conflict.high);
    }
    std::sort(forbidden_.begin(), forbidden_.end());
    // Everything below `lowest` is decided; [lowest, low] is free when the next interval starts at or above `lowest`.
    int64_t lowest = 0;
    int64_t best = -1, best_slack = std::numeric_limits<int64_t>::max();
    for (const auto& [low, high] : forbidden_) {
      if (low >= lowest) {
        if (fit == Fit::kLowest) return lowest;
        if (low - lowest < best_slack) {
          best = lowest;
          best_slack = low - lowest;
        }
      }
      if (high > lowest) lowest = static_cast<int64_t>(RoundUp(static_cast<uint64_t>(high)));
    }
    return best >= 0 ? best : lowest;
  }

  const std::vector<Group>& groups_;
  std::vector<std::vector<Conflict>> conflicts_;
  uint64_t conflict_count_ = 0;
  std::vector<std::pair<int64_t, int64_t>> forbidden_;
};

struct NamedOrder {
  const char* name;
  std::vector<int32_t> groups;
};

// Groups by decreasing key; ties by first use, then by number, so that the result does not depend on the sort.
template <typename Key>
std::vector<int32_t> SortedByKey(const std::vector<Group>& groups, Key key) {
  std::vector<int32_t> order(groups.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const auto key_a = key(groups[a]), key_b = key(groups[b]);
    if (key_a != key_b) return key_a > key_b;
    return groups[a].first_step != groups[b].first_step ? groups[a].first_step < groups[b].first_step : a < b;
  });
  return order;
}

// Steps by decreasing live bytes; at each, its groups by decreasing size ("Greedy by Breadth" of arXiv:2001.03288).
std::vector<int32_t> OrderByBreadth(const std::vector<Group>& groups) {
  std::vector<std::pair<int32_t, uint64_t>> steps = LiveBytes(groups);
  std::sort(steps.begin(), steps.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  std::vector<int32_t> rest = SortedByKey(groups, [](const Group& group) { return group.size; });
  std::vector<int32_t> order;
  for (const auto& [step, bytes] : steps) {
    auto kept = rest.begin();
    for (int32_t group : rest) {
      if (groups[group].first_step <= step && step <= groups[group].last_step) {
        order.push_back(group);
      } else {
        *kept++ = group;
      }
    }
    rest.erase(kept, rest.end());
  }
  order.insert(order.end(), rest.begin(), rest.end());  // empty buffers
  return order;
}

std::vector<NamedOrder> GreedyOrders(const std::vector<Group>& groups) {
  auto area = [](const Group& group) {
    double sum = 0;
    for (const Piece& piece : group.pieces) {
      sum += static_cast<double>(piece.end - piece.begin) * (1.0 + piece.last_step - piece.first_step);
    }
    return sum;
  };
  return {
      {"size", SortedByKey(groups, [](const Group& group) { return group.size; })},
      {"breadth", OrderByBreadth(groups)},
      {"first use", SortedByKey(groups, [](const Group& group) { return -group.first_step; })},
      {"last use", SortedByKey(groups, [](const Group& group) { return group.last_step; })},
      {"size x lifetime", SortedByKey(groups, area)},
  };
}

struct Packing {
  std::vector<int64_t> offsets;
  uint64_t arena = std::numeric_limits<uint64_t>::max();
  std::string order;
};

Packing FindPacking(const std::vector<Group>& groups, uint64_t bound, const MemoryPlanOptions& options) {
  Packer packer(groups);
  Packing best;
  std::vector<int32_t> best_order;
  Packer::Fit best_fit = Packer::Fit::kLowest;
  std::vector<int64_t> offsets;
  for (NamedOrder& order : GreedyOrders(groups)) {
    for (Packer::Fit fit : {Packer::Fit::kLowest, Packer::Fit::kTightest}) {
      const uint64_t arena = packer.Pack(order.groups, fit, best.arena, offsets);
      if (arena >= best.arena) continue;
      best = Packing{offsets, arena, order.name};
      best_order = order.groups;
      best_fit = fit;
      if (arena <= bound) return best;
    }
  }
  if (groups.size() < 2) return best;
  // Hill climb: swap two groups of the best order and keep the swap unless it makes the arena larger; equal arenas are
  // accepted, because plateaus are wide and lead on.
  std::mt19937_64 random(options.seed);
  const uint64_t affordable = kMaxSearchWork / (packer.conflict_count() + groups.size());
  const uint64_t steps = std::min<uint64_t>(std::max(options.max_search_steps, 0), affordable);
  for (uint64_t step = 0; step < steps; ++step) {
    const size_t i = random() % groups.size(), j = random() % groups.size();
    std::swap(best_order[i], best_order[j]);
    const uint64_t arena = packer.Pack(best_order, best_fit, best.arena, offsets);
    if (arena > best.arena) {
      std::swap(best_order[i], best_order[j]);
      continue;
    }
    if (arena < best.arena) best = Packing{offsets, arena, "search"};
    if (arena <= bound) break;
  }
  return best;
}

}  // namespace

StatusOr<MemoryPlan> PlanMemory(std::span<const BufferRequest> requests, const MemoryPlanOptions& options) {
  RETURN_IF_ERROR(Validate(requests));
  MemoryPlan plan;
  // With wishes first: their bound is never above the one without. But a rigid chain can pack worse than its links, so
  // when the bound is missed the plan without is worth a look.
  for (bool in_place : {true, false}) {
    if (in_place && !options.allow_in_place) continue;
    ASSIGN_OR_RETURN(Grouping grouping, Grouping::FromViews(requests));
    std::vector<int32_t> granted(requests.size(), -1);
    if (in_place) granted = grouping.MergeInPlace();
    const std::vector<Group> groups = grouping.BuildGroups();
    uint64_t bound = 0;
    for (const auto& [step, bytes] : LiveBytes(groups)) bound = std::max(bound, bytes);
    const bool is_first = plan.offsets.empty();
    if (is_first) plan.lower_bound_bytes = bound;
    if (!is_first && bound >= plan.arena_bytes) break;
    Packing packing = FindPacking(groups, bound, options);
    if (groups.empty()) packing.arena = 0;
    if (is_first || packing.arena < plan.arena_bytes) {
      plan.arena_bytes = packing.arena;
      plan.order = packing.order;
      plan.in_place_of = std::move(granted);
      plan.offsets.resize(requests.size());
      for (size_t i = 0; i < requests.size(); ++i) {
        const Member& member = grouping.members()[i];
        plan.offsets[i] = static_cast<uint64_t>(packing.offsets[member.group]) + member.offset;
      }
    }
    if (plan.arena_bytes <= plan.lower_bound_bytes) break;
  }
  for (const BufferRequest& request : requests) {
    if (request.alias_of < 0) plan.naive_bytes += RoundUp(request.size_bytes);
  }
  return plan;
}

}  // namespace tessera
