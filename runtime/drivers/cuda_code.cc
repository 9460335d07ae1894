#include "runtime/drivers/cuda_code.h"

#include <future>
#include <utility>

#include "runtime/trace.h"

namespace tessera {

std::string ProgramName(const Program& program) { return "program '" + program.name + "'"; }

std::string KernelName(const Program& program, const Step& step) {
  return "kernel '" + program.kernels[step.kernel] + "' of node '" + step.label + "'";
}

namespace {

std::string_view TextOf(const Program& program, size_t image) {
  const std::span<const std::byte> bytes = program.images[image].bytes;
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

CudaCode::CudaCode(std::shared_ptr<CudaCard> card, std::shared_ptr<const Program> program)
    : card_(std::move(card)), cuda_(card_->cuda()), program_(std::move(program)) {}

CudaCode::~CudaCode() {
  const CudaCurrent current(*card_);
  for (CUmodule module : modules_) cuda_.cuModuleUnload(module);
  card_->Count(-code_bytes_);
}

StatusOr<std::shared_ptr<CudaCode>> CudaCode::Load(std::shared_ptr<CudaCard> card,
                                                   std::shared_ptr<const Program> program,
                                                   const std::string& cache_dir) {
  std::shared_ptr<CudaCode> self(new CudaCode(std::move(card), std::move(program)));
  RETURN_IF_ERROR(self->LoadModules(cache_dir));
  RETURN_IF_ERROR(self->FindFunctions());
  RETURN_IF_ERROR(self->CopyConstants());
  return self;
}

// All images at once, each on a thread of its own; code generation made one for each thread of its own.
StatusOr<std::vector<Cubin>> CudaCode::AssembleImages(const std::string& cache_dir) const {
  const StatusOr<const NvJitLink*> nvjitlink = OpenNvJitLink();
  const CudaAssembler assembler(cuda_, nvjitlink.ok() ? *nvjitlink : nullptr, cache_dir);
  const std::string what = "the kernels of " + ProgramName(*program_);
  const auto assemble = [&](size_t k) -> StatusOr<Cubin> {
    const CudaCurrent current(*card_);
    RETURN_IF_ERROR(current.status());
    return assembler.Assemble(TextOf(*program_, k), card_->capability(), what);
  };
  std::vector<std::future<StatusOr<Cubin>>> others;
  for (size_t k = 1; k < program_->images.size(); ++k) {
    others.push_back(std::async(std::launch::async, assemble, k));
  }
  std::vector<StatusOr<Cubin>> results;
  if (!program_->images.empty()) results.push_back(assemble(0));
  for (auto& other : others) results.push_back(other.get());
  std::vector<Cubin> cubins;
  for (StatusOr<Cubin>& result : results) {
    if (!result.ok()) return result.status();
    cubins.push_back(*std::move(result));
  }
  return cubins;
}

Status CudaCode::LoadModules(const std::string& cache_dir) {
  const int64_t start = Trace::NowNs();
  ASSIGN_OR_RETURN(const std::vector<Cubin> cubins, AssembleImages(cache_dir));
  info_.code_from_cache = !cubins.empty();
  for (const Cubin& cubin : cubins) {
    info_.assembler = cubin.assembler;
    info_.code_from_cache &= cubin.from_cache;
    CUmodule module = nullptr;
    RETURN_IF_ERROR(cuda_.Check(cuda_.cuModuleLoadData(&module, cubin.bytes.data()), "cuModuleLoadData",
                                "the kernels of " + ProgramName(*program_)));
    modules_.push_back(module);
    code_bytes_ += static_cast<int64_t>(cubin.bytes.size());
    card_->Count(static_cast<int64_t>(cubin.bytes.size()));
  }
  info_.assemble_ms = static_cast<double>(Trace::NowNs() - start) / 1e6;
  return OkStatus();
}

Status CudaCode::FindFunctions() {
  for (const std::string& symbol : program_->kernels) {
    CUfunction function = nullptr;
    // Asking a module for what it lacks is an error to the driver, and to tools that watch it.
    const std::string entry = ".entry " + symbol + "(";
    for (size_t k = 0; k < modules_.size() && function == nullptr; ++k) {
      if (TextOf(*program_, k).find(entry) == std::string_view::npos) continue;
      RETURN_IF_ERROR(cuda_.Check(cuda_.cuModuleGetFunction(&function, modules_[k], symbol.c_str()),
                                  "cuModuleGetFunction", "kernel '" + symbol + "'"));
    }
    if (function == nullptr) {
      return Error(ErrorCode::kProgramInvalid, ProgramName(*program_), ": no image defines the kernel '", symbol, "'");
    }
    functions_.push_back(function);
  }
  for (const Step& step : program_->steps) {
    constexpr int64_t kWithoutAsking = 48 << 10;
    if (step.launch.shared_bytes <= kWithoutAsking) continue;
    RETURN_IF_ERROR(cuda_.Check(
        cuda_.cuFuncSetAttribute(functions_[step.kernel], kCudaMaxDynamicSharedBytes,
                                 static_cast<int>(step.launch.shared_bytes)),
        "cuFuncSetAttribute",
        internal::Join(step.launch.shared_bytes, " bytes of shared memory for ", KernelName(*program_, step))));
  }
  return OkStatus();
}

Status CudaCode::CopyConstants() {
  const std::string what = "the constants of " + ProgramName(*program_);
  const int64_t bytes = static_cast<int64_t>(program_->constants.size());
  ASSIGN_OR_RETURN(constants_, CudaMemory::Allocate(card_, bytes, what));
  info_.device_bytes = bytes + code_bytes_;
  if (bytes == 0) return OkStatus();
  CUstream stream = nullptr;
  RETURN_IF_ERROR(cuda_.Check(cuda_.cuStreamCreate(&stream, kCudaNonBlockingStream), "cuStreamCreate", what));
  const auto from = reinterpret_cast<CUdeviceptr>(program_->constants.data());
  Status copied = cuda_.Check(cuda_.cuMemcpyAsync(constants_.address(), from, static_cast<size_t>(bytes), stream),
                              "cuMemcpyAsync", what);
  if (copied.ok()) copied = cuda_.Check(cuda_.cuStreamSynchronize(stream), "cuStreamSynchronize", what);
  cuda_.cuStreamDestroy_v2(stream);
  return copied;
}

}  // namespace tessera
