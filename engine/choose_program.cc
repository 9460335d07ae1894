#include "engine/choose_program.h"

#include <algorithm>
#include <optional>
#include <set>
#include <sstream>
#include <tuple>

#include "codegen/runs_on.h"

namespace tessera {
namespace {

std::set<std::string> FeaturesOf(const std::string& list) {
  std::set<std::string> features;
  std::istringstream items(list);
  for (std::string item; std::getline(items, item, ',');) {
    if (item.substr(0, 1) == "+") features.insert(item);
  }
  return features;
}

// What it asks of the machine, more is better; nothing where it cannot run there.
std::optional<std::tuple<bool, int, int>> RankOf(const std::string& name, const Target& machine) {
  const StatusOr<Target> target = MakeTarget(name);
  if (!target.ok() || target->kind != machine.kind || target->IsEmulated() != machine.IsEmulated()) return {};
  if (target->allow_tf32 && !machine.allow_tf32) return {};
  const bool same_chip = target->cpu == machine.cpu;
  switch (machine.kind) {
    case TargetKind::kNvptx:
      if (!same_chip && (target->capability > machine.capability || target->cpu.back() == 'a')) return {};
      break;
    case TargetKind::kAmdgpu:
      if (!same_chip) return {};
      break;
    case TargetKind::kArm64: return {};
    case TargetKind::kX86:
      if (name == "host") return std::tuple{false, -1, 0};
      if (!RunsOn(*target, machine)) return {};
      return std::tuple{false, target->vector_bits, target->has_vnni + target->has_vbmi + target->has_bf16};
  }
  return std::tuple{same_chip, target->capability, target->allow_tf32 ? 1 : 0};
}

}  // namespace

bool HasFeatures(const std::string& machine, const std::string& required) {
  const std::set<std::string> has = FeaturesOf(machine), needs = FeaturesOf(required);
  return std::includes(has.begin(), has.end(), needs.begin(), needs.end());
}

std::vector<size_t> RankPrograms(const std::vector<std::string>& targets, const Target& machine) {
  std::vector<std::pair<std::tuple<bool, int, int>, size_t>> ranked;
  for (size_t k = 0; k < targets.size(); ++k) {
    if (const auto rank = RankOf(targets[k], machine)) ranked.emplace_back(*rank, k);
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<size_t> order;
  for (const auto& [rank, k] : ranked) order.push_back(k);
  return order;
}

}  // namespace tessera
