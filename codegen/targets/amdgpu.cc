#include "codegen/targets/amdgpu.h"

#include <algorithm>
#include <string>

#include "runtime/drivers/hip_chip.h"

namespace tessera {
namespace {

using Matrix = Target::MatrixCores;

// One row a chip: lanes that run together, compute units of its usual card, who multiplies small matrices, and what
// LLVM's processor leaves open. All have 64 KiB of LDS and 1024 threads for a work-group. Waves of a work-group share
// the memory of one compute unit on RDNA too (cumode), so that barriers need not flush caches.
struct Chip {
  std::string_view name;
  int wave, units;
  Matrix matrix;
  std::string_view features;
};

constexpr int64_t kLdsBytes = 64 << 10;

constexpr Chip kChips[] = {
    {"gfx906", 64, 60, Matrix::kNone, ""},                           // Vega 20: Instinct MI50
    {"gfx908", 64, 120, Matrix::kMfma, ""},                          // CDNA: MI100
    {"gfx90a", 64, 104, Matrix::kMfma, ""},                          // CDNA 2: one die of MI250
    {"gfx942", 64, 304, Matrix::kMfma, ""},                          // CDNA 3: MI300X
    {"gfx1100", 32, 96, Matrix::kWmma, "+wavefrontsize32,+cumode"},  // RDNA 3: Radeon RX 7900 XTX
};

}  // namespace

StatusOr<Target> MakeAmdgpuTarget(std::string_view spec) {
  const StatusOr<int> ordinal = HipOrdinal(spec);  // "hip", "hip:1": the chip of that card
  std::string name(spec.substr(std::min(spec.size(), size_t{4})));
  if (ordinal.ok()) {
    ASSIGN_OR_RETURN(name, HipChip(*ordinal));
  }
  const Chip* chip = nullptr;
  std::string known;
  for (const Chip& row : kChips) {
    if (row.name == name) chip = &row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  if (chip == nullptr && ordinal.ok()) {
    return Error(ErrorCode::kTargetUnsupported, "the card is a ", name, "; expected one of ", known);
  }
  if (chip == nullptr) {
    return Error(ErrorCode::kTargetUnknown, "target '", spec,
                 "': expected hip, hip: with the number of a card, or with ", "one of ", known);
  }
  Target target;
  target.kind = TargetKind::kAmdgpu;
  target.name = std::string(spec);
  target.device = ordinal.ok() ? std::string(spec) : "hip";
  target.triple = "amdgcn-amd-amdhsa";
  target.cpu = std::string(chip->name);
  target.features = std::string(chip->features);
  target.wave = chip->wave;
  target.multiprocessors = chip->units;
  target.shared_bytes = kLdsBytes;
  target.matrix = chip->matrix;
  target.vector_bits = 32;
  target.vector_registers = 256;
  target.has_fma = true;
  target.has_f16c = true;
  return target;
}

}  // namespace tessera
