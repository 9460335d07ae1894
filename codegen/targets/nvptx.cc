#include "codegen/targets/nvptx.h"

#include <string>

#include "runtime/drivers/cuda_chip.h"

namespace tessera {
namespace {

// One row a chip: compute capability, multiprocessors of its usual card, and the lowest PTX version that has all that
// its kernels use (LLVM's feature).
struct Chip {
  std::string_view name;
  int capability, multiprocessors;
  std::string_view ptx;
};

constexpr Chip kChips[] = {
    {"sm_75", 75, 40, "+ptx70"},  {"sm_80", 80, 108, "+ptx70"}, {"sm_86", 86, 84, "+ptx71"},
    {"sm_89", 89, 128, "+ptx78"}, {"sm_90", 90, 132, "+ptx78"}, {"sm_90a", 90, 132, "+ptx84"},
};

}  // namespace

StatusOr<Target> MakeNvptxTarget(std::string_view spec) {
  const Chip* chip = nullptr;
  std::string known;
  const StatusOr<int> ordinal = CudaOrdinal(spec);  // "cuda", "cuda:1": the chip of that card
  if (ordinal.ok()) {
    ASSIGN_OR_RETURN(const int capability, CudaCapability(*ordinal));
    // The newest row that is not newer than the machine: PTX is assembled for the chip by its driver. What ends in `a`
    // is for that chip alone.
    for (const Chip& row : kChips) {
      if (row.capability == capability || (row.capability < capability && row.name.back() != 'a')) chip = &row;
    }
    if (chip == nullptr) {
      return Error(ErrorCode::kTargetUnsupported, "the GPU has compute capability ", capability / 10, ".",
                   capability % 10, "; expected 7.5 or newer");
    }
  } else {
    for (const Chip& row : kChips) {
      if (row.name == spec.substr(5)) chip = &row;
      known += (known.empty() ? "" : ", ") + std::string(row.name);
    }
    if (chip == nullptr) {
      return Error(ErrorCode::kTargetUnknown, "target '", spec,
                   "': expected cuda, cuda: with the number of a card, or with one of ", known);
    }
  }
  Target target;
  target.kind = TargetKind::kNvptx;
  target.name = std::string(spec);
  target.device = ordinal.ok() ? std::string(spec) : "cuda";
  target.triple = "nvptx64-nvidia-cuda";
  target.cpu = std::string(chip->name);
  target.features = std::string(chip->ptx);
  target.capability = chip->capability;
  target.multiprocessors = chip->multiprocessors;
  target.vector_bits = 32;
  target.vector_registers = 255;
  target.has_fma = true;
  target.has_f16c = true;
  target.has_masked_memory = false;
  return target;
}

}  // namespace tessera
