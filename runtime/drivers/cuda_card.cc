// The driver cuda: NVIDIA's cards, whose code is PTX that nvJitLink or the driver assembles. What a program's steps
// become on a card is in gpu_device.cc. Tested by cuda_device_test.cc on a driver that is not there (runtime/testing/
// fake_gpu.h), and by device_test and tests/conformance on a card.
#include "runtime/drivers/cuda_card.h"

#include <future>
#include <utility>

#include "runtime/drivers/cuda_api.h"
#include "runtime/drivers/cuda_assembler.h"
#include "runtime/drivers/cuda_chip.h"
#include "runtime/drivers/cuda_tensor_map.h"
#include "runtime/drivers/drivers.h"
#include "runtime/drivers/gpu_code.h"
#include "runtime/drivers/gpu_device.h"

namespace tessera {
namespace {

std::string_view TextOf(const ProgramImage& image) {
  return {reinterpret_cast<const char*>(image.bytes.data()), image.bytes.size()};
}

// The names between ".entry " and "(".
std::vector<std::string> KernelsOf(std::string_view ptx) {
  constexpr std::string_view kEntry = ".entry ";
  std::vector<std::string> kernels;
  for (size_t at = ptx.find(kEntry); at != std::string_view::npos; at = ptx.find(kEntry, at + 1)) {
    const size_t name = at + kEntry.size();
    const size_t end = ptx.find('(', name);
    if (end != std::string_view::npos) kernels.emplace_back(ptx.substr(name, end - name));
  }
  return kernels;
}

class CudaCard : public GpuCard {
 public:
  static StatusOr<std::shared_ptr<GpuCard>> Open(int ordinal) {
    ASSIGN_OR_RETURN(const CudaApi* cuda, OpenCuda());
    RETURN_IF_ERROR(CheckCardExists(*cuda, ordinal, "cuda", "nvidia-smi and CUDA_VISIBLE_DEVICES"));
    const std::string what = "card " + std::to_string(ordinal);
    std::shared_ptr<CudaCard> card(new CudaCard(*cuda));
    RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGet(&card->device_, ordinal), cuda->cuDeviceGet, what));
    int major = 0, minor = 0;
    for (const auto& [value, attribute] : {std::pair(&major, kCudaCapabilityMajor), {&minor, kCudaCapabilityMinor}}) {
      RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGetAttribute(value, attribute, card->device_),
                                  cuda->cuDeviceGetAttribute, "the compute capability of " + what));
    }
    card->capability_ = major * 10 + minor;
    CUcontext context = nullptr;
    RETURN_IF_ERROR(
        cuda->Check(cuda->cuDevicePrimaryCtxRetain(&context, card->device_), cuda->cuDevicePrimaryCtxRetain, what));
    card->context_ = context;
    return std::shared_ptr<GpuCard>(std::move(card));
  }

  ~CudaCard() override {
    if (context_ != nullptr) cuda_.cuDevicePrimaryCtxRelease_v2(device_);
  }

  std::string Describe() const override {
    char name[256] = "NVIDIA card";
    size_t bytes = 0;
    int version = 0;
    cuda_.cuDeviceGetName(name, sizeof(name), device_);
    cuda_.cuDeviceTotalMem_v2(&bytes, device_);
    cuda_.GetVersion(&version);
    return internal::Join(name, ", sm_", capability_, ", ", bytes >> 20, " MiB, driver for CUDA ", version / 1000, ".",
                          version % 1000 / 10);
  }
  const char* sync_variable() const override { return "TESSERA_CUDA_SYNC"; }

  Status Enter(int*) const override {
    const GpuResult r = cuda_.cuCtxPushCurrent_v2(context_);
    return r == 0 ? OkStatus() : cuda_.Check(r, cuda_.cuCtxPushCurrent_v2, "the card's context");
  }
  void Leave(int) const override {
    CUcontext context = nullptr;
    cuda_.cuCtxPopCurrent_v2(&context);
  }

  // All images at once, each on a thread of its own; code generation made one for each thread of its own.
  StatusOr<std::vector<GpuBinary>> MakeBinaries(const Program& program, const std::string& cache_dir) const override {
    const StatusOr<const NvJitLink*> nvjitlink = OpenNvJitLink();
    const CudaAssembler assembler(cuda_, nvjitlink.ok() ? *nvjitlink : nullptr, cache_dir);
    const std::string what = "the kernels of " + ProgramName(program);
    const auto assemble = [&](size_t k) -> StatusOr<Cubin> {
      const GpuCurrent current(*this);
      RETURN_IF_ERROR(current.status());
      return assembler.Assemble(TextOf(program.images[k]), capability_, what);
    };
    std::vector<std::future<StatusOr<Cubin>>> others;
    for (size_t k = 1; k < program.images.size(); ++k) {
      others.push_back(std::async(std::launch::async, assemble, k));
    }
    std::vector<StatusOr<Cubin>> results;
    if (!program.images.empty()) results.push_back(assemble(0));
    for (auto& other : others) results.push_back(other.get());
    std::vector<GpuBinary> binaries;
    for (StatusOr<Cubin>& result : results) {
      if (!result.ok()) return result.status();
      binaries.push_back({.assembled = std::move(result->bytes),
                          .image = program.images[binaries.size()].bytes,
                          .kernels = KernelsOf(TextOf(program.images[binaries.size()])),
                          .assembler = std::move(result->assembler),
                          .from_cache = result->from_cache});
    }
    return binaries;
  }

  Status PrepareLaunch(GpuFunction function, const Step& step, std::string_view what) const override {
    constexpr int64_t kWithoutAsking = 48 << 10;
    if (step.launch.shared_bytes <= kWithoutAsking) return OkStatus();
    const int bytes = static_cast<int>(step.launch.shared_bytes);
    return cuda_.Check(cuda_.cuFuncSetAttribute(function, kCudaMaxDynamicSharedBytes, bytes), cuda_.cuFuncSetAttribute,
                       internal::Join(bytes, " bytes of shared memory for ", what));
  }

  Status EncodeMap(const Program& program, const TensorMap& map, GpuAddress address, std::string_view what,
                   TensorMapWords* encoded) const override {
    // Whose products may round, rounds what they read.
    const bool rounds_to_tf32 = program.target.ends_with("+tf32");
    static_assert(sizeof(TensorMapWords) == sizeof(CudaTensorMap));
    return EncodeTensorMap(cuda_, map, address, what, rounds_to_tf32, reinterpret_cast<CudaTensorMap*>(encoded));
  }

 private:
  explicit CudaCard(const CudaApi& cuda) : GpuCard(cuda), cuda_(cuda) {}

  const CudaApi& cuda_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  int capability_ = 0;
};

}  // namespace

StatusOr<std::shared_ptr<GpuCard>> OpenCudaCard(int ordinal) {
  static GpuCards& cards = *new GpuCards;
  return cards.Find(ordinal, CudaCard::Open);
}

StatusOr<std::unique_ptr<Device>> MakeCudaDevice(std::string_view name) {
  ASSIGN_OR_RETURN(const int ordinal, CudaOrdinal(name));
  ASSIGN_OR_RETURN(std::shared_ptr<GpuCard> card, OpenCudaCard(ordinal));
  return MakeGpuDevice(name, std::move(card));
}

}  // namespace tessera
