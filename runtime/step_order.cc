#include "runtime/step_order.h"

#include <algorithm>

namespace tessera {
namespace {

// Bytes [from, to) of a space: 0 is the arena, 1 + k output k. What is only ever read is in none.
struct Access {
  int64_t space, from, to;
  bool writes;
};

std::vector<Access> AccessesOf(const Program& program, const Step& step) {
  std::vector<Access> accesses;
  for (const StepArg& arg : step.args) {
    const ProgramBuffer& buffer = program.buffers[arg.buffer];
    // The whole buffer, also where the argument starts later: what a kernel leaves out is its own affair.
    if (buffer.kind == BufferClass::kTemp) {
      accesses.push_back({0, buffer.offset, buffer.offset + buffer.bytes, arg.writes});
    } else if (buffer.kind == BufferClass::kOutput) {
      accesses.push_back({1 + buffer.offset, 0, buffer.bytes, arg.writes});
    }
  }
  return accesses;
}

bool Conflict(const std::vector<Access>& a, const std::vector<Access>& b) {
  for (const Access& x : a) {
    for (const Access& y : b) {
      if ((x.writes || y.writes) && x.space == y.space && x.from < y.to && y.from < x.to) return true;
    }
  }
  return false;
}

}  // namespace

std::vector<std::vector<int>> StepDependencies(const Program& program, const std::vector<bool>& skipped) {
  const size_t count = program.steps.size();
  const auto is_skipped = [&](size_t s) { return s < skipped.size() && skipped[s]; };
  std::vector<std::vector<int>> result(count);
  std::vector<std::vector<Access>> accesses(count);
  std::vector<std::vector<bool>> before(count);  // before[s][t]: t is done when s starts
  for (size_t s = 0; s < count; ++s) {
    if (is_skipped(s)) continue;
    accesses[s] = AccessesOf(program, program.steps[s]);
    before[s].assign(s, false);
    // From the latest on: what it waits for needs no edge of its own.
    for (size_t t = s; t-- > 0;) {
      if (is_skipped(t) || before[s][t] || !Conflict(accesses[s], accesses[t])) continue;
      result[s].push_back(static_cast<int>(t));
      before[s][t] = true;
      for (size_t k = 0; k < t; ++k) {
        if (before[t][k]) before[s][k] = true;
      }
    }
    std::reverse(result[s].begin(), result[s].end());
  }
  return result;
}

}  // namespace tessera
