// The driver hip: AMD's cards, whose code is what lld linked when the program was compiled. What a program's steps
// become on a card is in gpu_device.cc. A code object is read before the driver gets it (code_object.h): what is for
// another chip, or takes other arguments than its steps give, is refused here with words.
// Tested by hip_device_test.cc on a driver that is not there (runtime/testing/fake_gpu.h). No card was at hand: see
// docs/amdgpu.md.
#include <utility>

#include "runtime/drivers/code_object.h"
#include "runtime/drivers/drivers.h"
#include "runtime/drivers/gpu_code.h"
#include "runtime/drivers/gpu_device.h"
#include "runtime/drivers/hip_api.h"
#include "runtime/drivers/hip_chip.h"

namespace tessera {
namespace {

class HipCard : public GpuCard {
 public:
  static StatusOr<std::shared_ptr<GpuCard>> Open(int ordinal) {
    ASSIGN_OR_RETURN(const HipApi* hip, OpenHip());
    RETURN_IF_ERROR(CheckCardExists(*hip, ordinal, "hip", "rocminfo and HIP_VISIBLE_DEVICES"));
    ASSIGN_OR_RETURN(HipCardFacts facts, hip->FactsOf(ordinal));
    return std::shared_ptr<GpuCard>(new HipCard(*hip, ordinal, std::move(facts)));
  }

  std::string Describe() const override {
    int version = 0;
    hip_.GetVersion(&version);
    return internal::Join(facts_.name, ", ", facts_.arch, ", ", facts_.memory_bytes >> 20, " MiB, HIP ",
                          version / 10000000, ".", version / 100000 % 100);
  }
  const char* sync_variable() const override { return "TESSERA_HIP_SYNC"; }

  // Each thread has a current card, and keeps the one that the caller chose.
  Status Enter(int* before) const override {
    if (const GpuResult r = hip_.hipGetDevice(before); r != 0) return hip_.Check(r, hip_.hipGetDevice, "this thread");
    const GpuResult r = hip_.hipSetDevice(ordinal_);
    return r == 0 ? OkStatus() : hip_.Check(r, hip_.hipSetDevice, "card " + std::to_string(ordinal_));
  }
  void Leave(int before) const override { hip_.hipSetDevice(before); }

  StatusOr<std::vector<GpuBinary>> MakeBinaries(const Program& program, const std::string&) const override {
    const std::string what = "the kernels of " + ProgramName(program);
    std::vector<GpuBinary> binaries;
    std::vector<CodeObject> objects;
    for (const ProgramImage& image : program.images) {
      ASSIGN_OR_RETURN(CodeObject object, ReadCodeObject(image.bytes, what));
      if (object.chip != facts_.chip()) {
        return Error(ErrorCode::kTargetUnsupported, what, " were compiled for ", object.chip, ", and the card is ",
                     facts_.arch, "; compile for `hip`, the chip of this machine");
      }
      GpuBinary& binary = binaries.emplace_back();
      binary.image = image.bytes;
      for (const CodeObjectKernel& kernel : object.kernels) binary.kernels.push_back(kernel.name);
      objects.push_back(std::move(object));
    }
    for (const Step& step : program.steps) RETURN_IF_ERROR(CheckStep(program, step, objects));
    return binaries;
  }

  Status PrepareLaunch(GpuFunction, const Step&, std::string_view) const override { return OkStatus(); }

  Status EncodeMap(const Program&, const TensorMap&, GpuAddress, std::string_view what,
                   TensorMapWords*) const override {
    return Error(ErrorCode::kTargetUnsupported, what, " copies through tensor maps, which AMD chips lack");
  }

 private:
  HipCard(const HipApi& hip, int ordinal, HipCardFacts facts)
      : GpuCard(hip), hip_(hip), ordinal_(ordinal), facts_(std::move(facts)) {}

  // The driver copies as many bytes of arguments as the kernel says, and starts no work-group with too much LDS.
  Status CheckStep(const Program& program, const Step& step, const std::vector<CodeObject>& objects) const {
    const CodeObjectKernel* kernel = nullptr;
    for (const CodeObject& object : objects) {
      if (kernel == nullptr) kernel = object.Find(program.kernels[static_cast<size_t>(step.kernel)]);
    }
    if (kernel == nullptr) return OkStatus();  // GpuCode says so
    const int64_t given = 8 * static_cast<int64_t>(step.args.size() + (step.launch.by_blocks() ? 0 : 2));
    if (kernel->kernarg_bytes != given) {
      return Error(ErrorCode::kProgramInvalid, KernelName(program, step), " takes ", kernel->kernarg_bytes,
                   " bytes of arguments, and its step gives ", given, "; compile the program again");
    }
    const int64_t shared_bytes = kernel->shared_bytes + step.launch.shared_bytes;
    if (shared_bytes > facts_.shared_bytes) {
      return Error(ErrorCode::kTargetUnsupported, KernelName(program, step), " needs ", shared_bytes,
                   " bytes of LDS, and a work-group of ", facts_.name, " has ", facts_.shared_bytes);
    }
    return OkStatus();
  }

  const HipApi& hip_;
  const int ordinal_;
  const HipCardFacts facts_;
};

}  // namespace

StatusOr<std::unique_ptr<Device>> MakeHipDevice(std::string_view name) {
  static GpuCards& cards = *new GpuCards;
  ASSIGN_OR_RETURN(const int ordinal, HipOrdinal(name));
  ASSIGN_OR_RETURN(std::shared_ptr<GpuCard> card, cards.Find(ordinal, HipCard::Open));
  return MakeGpuDevice(name, std::move(card));
}

}  // namespace tessera
