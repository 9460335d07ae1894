#include "codegen/plan.h"

#include <algorithm>

#include "base/round.h"

namespace tessera {

std::string PlaneLayout::Key() const {
  return internal::Join("pitch ", pitch, banded() ? internal::Join(" bands ", band_pixels, " + ", band_gap) : "");
}

PlanBuilder::Place PlanBuilder::PlaceOf(ValueId id) {
  auto [it, inserted] = place_of_.try_emplace(id, Place{static_cast<int>(plan_.buffers.size()), 0});
  if (!inserted) return it->second;
  const Value& value = graph_[id];
  PlanBuffer buffer;
  buffer.name = value.name;
  int64_t elements = value.type.shape.num_elements();
  if (const auto planes = planes_of_.find(id); planes != planes_of_.end()) {
    const Shape& shape = value.type.shape;
    const int64_t bands = planes->second.banded() ? shape[2] * shape[3] / planes->second.band_pixels : 1;
    elements = shape[0] * shape[1] * planes->second.pitch * bands;
  }
  buffer.bytes = ByteSize(value.type.dtype, elements);
  const auto position = [&](const std::vector<ValueId>& list) {
    auto at = std::find(list.begin(), list.end(), id);
    return at == list.end() ? -1 : static_cast<int>(at - list.begin());
  };
  if (value.kind == ValueKind::kConstant) {
    buffer.kind = BufferClass::kConstant;
    buffer.constant = value.constant;
  } else if (value.kind == ValueKind::kInput) {
    buffer.kind = BufferClass::kInput;
    buffer.port = position(graph_.inputs);
  } else if (const int port = position(graph_.outputs); port >= 0) {
    buffer.kind = BufferClass::kOutput;
    buffer.port = port;
  }
  plan_.buffers.push_back(std::move(buffer));
  return it->second;
}

PlaneLayout PlanBuilder::PlanesOf(ValueId id) const {
  const auto planes = planes_of_.find(id);
  if (planes != planes_of_.end()) return planes->second;
  const Shape& shape = graph_[id].type.shape;
  return {.pitch = shape.rank() == 4 ? shape[2] * shape[3] : 0};
}

int PlanBuilder::Temp(std::string name, int64_t bytes) {
  PlanBuffer buffer;
  buffer.name = std::move(name);
  buffer.bytes = bytes;
  plan_.buffers.push_back(std::move(buffer));
  return static_cast<int>(plan_.buffers.size()) - 1;
}

int PlanBuilder::Constant(std::string name, Tensor data) {
  PlanBuffer buffer;
  buffer.name = std::move(name);
  buffer.kind = BufferClass::kConstant;
  buffer.bytes = data.byte_size();
  buffer.constant = std::move(data);
  plan_.buffers.push_back(std::move(buffer));
  return static_cast<int>(plan_.buffers.size()) - 1;
}

int PlanBuilder::TempOnce(const std::string& key, std::string name, int64_t bytes, bool* made) {
  const auto [found, is_new] = temp_of_.try_emplace(key, 0);
  if (is_new) found->second = Temp(std::move(name), bytes);
  *made = is_new;
  return found->second;
}

int PlanBuilder::ConstantOnce(const std::string& name, const std::function<Tensor()>& make) {
  const auto found = constant_of_.find(name);
  if (found != constant_of_.end()) return found->second;
  return constant_of_[name] = Constant(name, make());
}

namespace {

// Lets the blocks of a step with few of them start while the step before ends.
//
// A kernel of many blocks gains nothing by it, and loses: whoever waits forgets what the first-level cache holds.
// The blocks of one with few go wherever there is room at that moment, which is not where the step before still runs,
// and stay there: asking for so much shared memory that no multiprocessor takes more than its share spreads them.
void Overlap(const Target& target, PlanStep& step) {
  const int64_t blocks = step.launch.x * step.launch.y * step.launch.z, units = std::max(1, target.multiprocessors);
  constexpr int64_t kMostOfUnit = 4;
  if (blocks > kMostOfUnit * units) return;
  step.kernel.overlaps = step.launch.overlap = true;
  // Shared memory of a multiprocessor, and what each block takes besides.
  constexpr int64_t kShared = 228 << 10, kReserved = 1 << 10, kGrain = 128;
  const int64_t share = DivideUp(blocks, units);
  const int64_t bytes = RoundUp(kShared / (share + 1) - kReserved + 1, kGrain);
  step.launch.shared_bytes = std::max(step.launch.shared_bytes, bytes);
}

}  // namespace

void PlanBuilder::AddStep(PlanStep step) {
  TES_CHECK(step.kernel.num_args == static_cast<int>(step.args.size()), step.kernel.family);
  TES_CHECK(step.launch.threads == step.kernel.block_threads, step.kernel.family, ": a block has ",
            step.kernel.block_threads, " threads, launched are ", step.launch.threads);
  TES_CHECK(step.kernel.tensor_maps == static_cast<int>(step.tensor_maps.size()), step.kernel.family, ": takes ",
            step.kernel.tensor_maps, " tensor maps, the step has ", step.tensor_maps.size());
  TES_CHECK(!target_.IsGpu() ||
                (step.launch.threads <= target_.max_threads && step.launch.shared_bytes <= target_.shared_bytes),
            step.kernel.family, ": a block has ", step.launch.threads, " threads and ", step.launch.shared_bytes,
            " bytes of shared memory, on ", target_.cpu, " at most ", target_.max_threads, " and ",
            target_.shared_bytes);
  if (step.kernel.block_threads > 0 && target_.OverlapsSteps()) Overlap(target_, step);
  // A step over nothing writes nothing.
  if (step.tasks > 0) plan_.steps.push_back(std::move(step));
}

bool PlanBuilder::IsOutput(ValueId id) const {
  return std::find(graph_.outputs.begin(), graph_.outputs.end(), id) != graph_.outputs.end();
}

bool PlanBuilder::Alias(ValueId value, ValueId of, int64_t offset) {
  Place place = PlaceOf(of);
  place.offset += offset;
  if (!HasPlace(value) && IsOutput(value)) return false;
  return place_of_.try_emplace(value, place).first->second == place;
}

Plan PlanBuilder::Finish() {
  plan_.name = graph_.name;
  for (ValueId id : graph_.inputs) plan_.inputs.push_back({graph_[id].name, graph_[id].type, PlaceOf(id).buffer});
  for (ValueId id : graph_.outputs) plan_.outputs.push_back({graph_[id].name, graph_[id].type, PlaceOf(id).buffer});
  return std::move(plan_);
}

}  // namespace tessera
