#include "runtime/drivers/gpu_code.h"

#include <map>
#include <utility>

#include "runtime/trace.h"

namespace tessera {

std::string ProgramName(const Program& program) { return "program '" + program.name + "'"; }

std::string KernelName(const Program& program, const Step& step) {
  return "kernel '" + program.kernels[static_cast<size_t>(step.kernel)] + "' of node '" + step.label + "'";
}

GpuCode::GpuCode(std::shared_ptr<GpuCard> card, std::shared_ptr<const Program> program)
    : card_(std::move(card)), api_(card_->api()), program_(std::move(program)) {}

GpuCode::~GpuCode() {
  const GpuCurrent current(*card_);
  for (GpuModule module : modules_) api_.UnloadModule(module);
  card_->Count(-code_bytes_);
}

StatusOr<std::shared_ptr<GpuCode>> GpuCode::Load(std::shared_ptr<GpuCard> card, std::shared_ptr<const Program> program,
                                                 const std::string& cache_dir) {
  std::shared_ptr<GpuCode> self(new GpuCode(std::move(card), std::move(program)));
  const int64_t start = Trace::NowNs();
  ASSIGN_OR_RETURN(const std::vector<GpuBinary> binaries, self->card_->MakeBinaries(*self->program_, cache_dir));
  RETURN_IF_ERROR(self->LoadModules(binaries));
  self->info_.assemble_ms = static_cast<double>(Trace::NowNs() - start) / 1e6;
  RETURN_IF_ERROR(self->FindFunctions(binaries));
  RETURN_IF_ERROR(self->CopyConstants());
  return self;
}

Status GpuCode::LoadModules(const std::vector<GpuBinary>& binaries) {
  info_.code_from_cache = !binaries.empty();
  for (const GpuBinary& binary : binaries) {
    info_.assembler = binary.assembler;
    info_.code_from_cache &= binary.from_cache;
    GpuModule module = nullptr;
    RETURN_IF_ERROR(api_.Check(api_.LoadModule(&module, binary.data()), api_.LoadModule,
                               "the kernels of " + ProgramName(*program_)));
    modules_.push_back(module);
    code_bytes_ += static_cast<int64_t>(binary.size());
    card_->Count(static_cast<int64_t>(binary.size()));
  }
  return OkStatus();
}

Status GpuCode::FindFunctions(const std::vector<GpuBinary>& binaries) {
  // Asking a module for what it lacks is an error to the driver, and to tools that watch it.
  std::map<std::string_view, size_t> defined_by;
  for (size_t k = 0; k < binaries.size(); ++k) {
    for (const std::string& kernel : binaries[k].kernels) defined_by.emplace(kernel, k);
  }
  for (const std::string& symbol : program_->kernels) {
    GpuFunction function = nullptr;
    if (const auto found = defined_by.find(symbol); found != defined_by.end()) {
      RETURN_IF_ERROR(api_.Check(api_.GetFunction(&function, modules_[found->second], symbol.c_str()), api_.GetFunction,
                                 "kernel '" + symbol + "'"));
    }
    if (function == nullptr) {
      return Error(ErrorCode::kProgramInvalid, ProgramName(*program_), ": no image defines the kernel '", symbol, "'");
    }
    functions_.push_back(function);
  }
  for (const Step& step : program_->steps) {
    RETURN_IF_ERROR(card_->PrepareLaunch(function(step.kernel), step, KernelName(*program_, step)));
  }
  return OkStatus();
}

Status GpuCode::CopyConstants() {
  const std::string what = "the constants of " + ProgramName(*program_);
  const int64_t bytes = static_cast<int64_t>(program_->constants.size());
  ASSIGN_OR_RETURN(constants_, GpuMemory::Allocate(card_, bytes, what));
  info_.device_bytes = bytes + code_bytes_;
  if (bytes == 0) return OkStatus();
  GpuStream stream = nullptr;
  RETURN_IF_ERROR(api_.Check(api_.CreateStream(&stream, kGpuNonBlockingStream), api_.CreateStream, what));
  const auto from = reinterpret_cast<GpuAddress>(program_->constants.data());
  Status copied =
      api_.Check(api_.Copy(constants_.address(), from, static_cast<size_t>(bytes), stream), api_.copy_name(), what);
  if (copied.ok()) copied = api_.Check(api_.SynchronizeStream(stream), api_.SynchronizeStream, what);
  api_.DestroyStream(stream);
  return copied;
}

}  // namespace tessera
