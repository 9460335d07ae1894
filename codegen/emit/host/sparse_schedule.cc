#include "codegen/emit/host/sparse_schedule.h"

#include <algorithm>
#include <vector>

#include "base/round.h"
#include "codegen/cost_model.h"

namespace tessera {
namespace {

// Sums of a block take 64 bytes a row; a quarter of a first-level cache of 32 KiB.
constexpr int64_t kMaxBlockRows = 128;

// What the kernel takes each thread beside its tasks, first calls of functions whose code is not near; more than a
// dense one's.
constexpr double kKernelNs = 250;

// What a row of a block takes beside its kept units, in units: sums that start and end, shuffles, the epilogue.
constexpr int64_t kRowWork = 6;
// Blocks whose busiest thread has this much more than its share are cut anew, where that saves as much.
constexpr double kUnequal = 1.05;

}  // namespace

double PanelMissShare(const SparseProblem& problem, const Target& target) {
  const auto panel = static_cast<double>(problem.depth() * kPanelLanes * 4), l1 = static_cast<double>(target.l1d_bytes);
  return std::clamp((panel - 0.75 * l1) / (0.5 * l1), 0.0, 1.0);
}

int64_t ChunkFor(const SparseProblem& problem, const Target& target) {
  const int64_t fits =
      std::max<int64_t>(16, (target.l1d_bytes - kMaxBlockRows * kPanelLanes * 4) * 7 / 8 / (kPanelLanes * 4));
  if (problem.depth() <= fits) return 0;
  return DivideUp(problem.depth(), DivideUp(problem.depth(), fits));
}

SparseSchedule ScheduleSparse(const SparseProblem& problem, int group_rows, double row_bytes, const Target& target) {
  SparseSchedule schedule;
  ScatteredBlocks& blocks = schedule.blocks;
  blocks.rows = problem.rows();
  blocks.group_rows = group_rows;
  // The block height that makes the fewest groups; of equals the lowest, whose sums stay nearest.
  int64_t fewest = 0;
  for (int64_t height = kPanelLanes; height <= kMaxBlockRows; height += kPanelLanes) {
    if (fewest != 0 && static_cast<double>(height) * row_bytes > static_cast<double>(target.l2_bytes) / 2) break;
    ScatteredBlocks candidate = blocks;
    candidate.block_rows = height;
    int64_t groups = 0;
    for (int64_t block = 0; block < candidate.blocks(); ++block) groups += candidate.groups_of(block);
    if (fewest != 0 && groups >= fewest) continue;
    fewest = groups;
    blocks.block_rows = height;
  }
  return schedule;
}

double SparseMicroseconds(const SparseProblem& problem, const SparseSchedule& schedule, const Target& target,
                          int epilogue_cost, double core_ns) {
  const MachineModel machine(target);
  const int lanes = std::min(kPanelLanes, target.Lanes(32));
  double vectors = static_cast<double>(DivideUp(problem.rows(), lanes) * lanes * problem.panels());
  vectors *= kPanelLanes / lanes;
  // Shuffles and the epilogue's arithmetic share the ports in part; loads and stores run beside them.
  double shuffles = 0;
  for (int l = problem.by_columns ? lanes : 1; l > 1; l /= 2) ++shuffles;
  if (epilogue_cost > kMaxStraightSparse) shuffles += 3;  // through memory
  const double more = std::max<double>(shuffles, epilogue_cost), less = std::min<double>(shuffles, epilogue_cost);
  const double per_vector = (more + 0.3 * less) * machine.op_ns + machine.load_ns;
  const int64_t panels = problem.panels(), tasks = schedule.blocks.blocks() * panels;
  const double start_us = machine.step_ns / 1000;
  const int elements = ElementsOf(problem.unit);
  const double pack = (elements == 1 ? PackPanelsMicroseconds(problem.source, target)
                                     : PackUnitsMicroseconds(problem.source, elements, target)) -
                      start_us;
  const double ns = core_ns + vectors * per_vector + static_cast<double>(tasks) * 40 * MachineModel::kCycle;
  const double kernels = kKernelNs * static_cast<double>(std::min<int64_t>(machine.threads, tasks));
  const double us = (ns * BusiestShare(problem, schedule, machine.threads) + kernels) / 1000 + start_us;
  if (schedule.packs) {
    // Each thread packs what its tasks meet: all panels; or its share, and one more where a panel is two threads'.
    const auto times = static_cast<double>(machine.threads), share = static_cast<double>(panels);
    if (!schedule.panels_outer) return us + pack * times;
    return us + (panels % machine.threads == 0 ? pack : pack * (1 + (times - 1) / share));
  }
  // Threads pack panels and then compute blocks of rows: of a panel that one packed, others read all.
  const double foreign =
      schedule.panels_outer ? panels % machine.threads == 0 ? 0 : 1.0 / static_cast<double>(panels) : 1;
  return us + machine.Shared(pack, panels) + start_us +
         machine.ForeignNanoseconds(foreign * static_cast<double>(problem.panel_bytes())) / 1000;
}

double BusiestShare(const SparseProblem& problem, const SparseSchedule& schedule, int threads) {
  if (threads <= 1) return 1;
  const std::vector<int64_t>& begin = problem.all.pattern->begin;
  const ScatteredBlocks& blocks = schedule.blocks;
  std::vector<double> work;
  double all = 0;
  for (int64_t block = 0; block < blocks.blocks(); ++block) {
    const int64_t first = blocks.first_row(block), rows = blocks.rows_of(block);
    work.push_back(static_cast<double>(begin[first + rows] - begin[first] + kRowWork * rows));
    all += work.back();
  }
  const int64_t panels = problem.panels(), tasks = blocks.blocks() * panels;
  double most = 0;
  for (int thread = 0; thread < threads; ++thread) {
    double own = 0;
    for (int64_t task = tasks * thread / threads; task < tasks * (thread + 1) / threads; ++task) {
      own += work[schedule.panels_outer ? task % blocks.blocks() : task / panels];
    }
    most = std::max(most, own);
  }
  return most * threads / (all * static_cast<double>(panels));
}

std::optional<SparseSchedule> BalanceSparse(const SparseProblem& problem, const SparseSchedule& schedule,
                                            const Target& target) {
  const int threads = target.threads;
  if (threads <= 1) return std::nullopt;
  SparseSchedule by_blocks = schedule;
  by_blocks.panels_outer = false;
  const double equal = BusiestShare(problem, by_blocks, threads);
  if (equal < kUnequal) return std::nullopt;
  // Rows fall to threads in slices of 16; thread t's are [edges[t], edges[t + 1]).
  const std::vector<int64_t>& begin = problem.all.pattern->begin;
  const int64_t rows = problem.rows(), slices = DivideUp(rows, kPanelLanes);
  const auto work_before = [&](int64_t slice) {
    const int64_t row = std::min(rows, slice * kPanelLanes);
    return begin[row] + kRowWork * row;
  };
  std::vector<int64_t> edges = {0};
  for (int t = 1; t < threads; ++t) {
    const int64_t wanted = work_before(slices) * t / threads;
    int64_t slice = edges.back() + 1;
    while (slice < slices && 2 * wanted > work_before(slice) + work_before(slice + 1)) ++slice;
    edges.push_back(slice);
  }
  edges.push_back(slices);
  int64_t fewest = slices, most = 0;
  for (int t = 0; t < threads; ++t) {
    fewest = std::min(fewest, edges[t + 1] - edges[t]);
    most = std::max(most, edges[t + 1] - edges[t]);
  }
  // As many blocks for each: no higher than they were, or than sums allow where a thread has few slices.
  int64_t each = DivideUp(most * kPanelLanes, schedule.blocks.block_rows);
  if (each > fewest) each = std::max(fewest, DivideUp(most * kPanelLanes, kMaxBlockRows));
  if (fewest < 1 || each > fewest) return std::nullopt;
  by_blocks.blocks.cuts.clear();
  by_blocks.blocks.block_rows = kPanelLanes;
  for (int t = 0; t < threads; ++t) {
    const int64_t own = edges[t + 1] - edges[t];
    for (int64_t block = 0; block < each; ++block) {
      by_blocks.blocks.cuts.push_back((edges[t] + own * block / each) * kPanelLanes);
    }
  }
  by_blocks.blocks.cuts.push_back(rows);
  for (int64_t block = 0; block < by_blocks.blocks.blocks(); ++block) {
    by_blocks.blocks.block_rows =
        std::max(by_blocks.blocks.block_rows, DivideUp(by_blocks.blocks.rows_of(block), kPanelLanes) * kPanelLanes);
  }
  if (BusiestShare(problem, by_blocks, threads) > equal / kUnequal) return std::nullopt;
  SparseSchedule result = schedule;
  result.blocks = by_blocks.blocks;
  return result;
}

SparseSchedule OrderSparse(const SparseProblem& problem, SparseSchedule schedule, const Target& target,
                           const std::function<double(const SparseSchedule&)>& microseconds) {
  if (target.threads <= 1) return schedule;
  double least = microseconds(schedule);
  SparseSchedule best = schedule;
  for (const bool panels_outer : {false, true}) {
    schedule.panels_outer = panels_outer;
    schedule.packs = true;
    if (!panels_outer && problem.panel_bytes() > target.l2_bytes / 2) continue;
    const double us = microseconds(schedule);
    if (us >= least) continue;
    least = us;
    best = schedule;
  }
  return best;
}

}  // namespace tessera
