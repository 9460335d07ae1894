#include "codegen/targets/nvptx.h"

#include <string>

#include "runtime/drivers/cuda_chip.h"

namespace tessera {
namespace {

// One row a chip: compute capability, multiprocessors of its usual card, KiB of shared memory that a block may have,
// and the lowest PTX version that has all that its kernels use (LLVM's feature).
struct Chip {
  std::string_view name;
  int capability, multiprocessors, shared_kib;
  std::string_view ptx;

  // Chips "for that chip alone" have what no later one has.
  bool has_own() const { return name.back() == 'a'; }
};

constexpr Chip kChips[] = {
    {"sm_75", 75, 40, 64, "+ptx70"},  {"sm_80", 80, 108, 163, "+ptx71"}, {"sm_86", 86, 84, 99, "+ptx71"},
    {"sm_89", 89, 128, 99, "+ptx78"}, {"sm_90", 90, 132, 227, "+ptx78"}, {"sm_90a", 90, 132, 227, "+ptx84"},
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
      if (row.capability == capability || (row.capability < capability && !row.has_own())) chip = &row;
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
  target.shared_bytes = int64_t{chip->shared_kib} << 10;
  target.matrix = chip->capability >= 80 ? Target::MatrixCores::kMma : Target::MatrixCores::kMmaOfHalfDepth;
  target.has_async_copy = target.has_tf32 = chip->capability >= 80;
  target.has_warpgroups = chip->has_own();
  target.vector_bits = 32;
  target.vector_registers = 255;
  target.has_fma = true;
  target.has_f16c = true;
  target.has_masked_memory = false;
  return target;
}

}  // namespace tessera
