#include "runtime/drivers/cuda_assembler.h"

#include <dlfcn.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>

#include "base/file.h"
#include "base/hash.h"

namespace tessera {
namespace {

constexpr int kPtxForNvJitLink = 2, kPtxForDriver = 1;
constexpr GpuResult kUnsupportedPtxVersion = 222;
constexpr size_t kHashDigits = 32;

StatusOr<const NvJitLink*> OpenAny() {
  const char* chosen = std::getenv("TESSERA_NVJITLINK");
  if (chosen != nullptr && std::string_view(chosen) == "off") {
    return Error(ErrorCode::kDeviceMissing, "nvJitLink is switched off by TESSERA_NVJITLINK");
  }
  if (chosen != nullptr && *chosen != '\0') return OpenNvJitLinkAt(chosen);
  // By name alone, so that one which this process has open already is found wherever it lies.
  StatusOr<const NvJitLink*> newest = OpenNvJitLinkAt("libnvJitLink.so.13");
  return newest.ok() ? newest : OpenNvJitLinkAt("libnvJitLink.so.12");
}

// The number behind ".version ".
std::string PtxVersion(std::string_view ptx) {
  constexpr std::string_view kDirective = ".version ";
  const size_t at = ptx.find(kDirective);
  if (at == std::string_view::npos) return "?";
  const std::string_view rest = ptx.substr(at + kDirective.size());
  return std::string(rest.substr(0, rest.find_first_not_of("0123456789.")));
}

// A cubin of the cache, behind its own hash; none where the file is missing or not what was written.
std::optional<std::string> ReadCubin(const std::string& path) {
  StatusOr<std::string> file = ReadFile(path);
  if (!file.ok() || file->size() <= kHashDigits) return std::nullopt;
  const std::string_view bytes = std::string_view(*file).substr(kHashDigits);
  if (HashBytes(bytes).ToHex() != file->substr(0, kHashDigits)) return std::nullopt;
  return std::string(bytes);
}

}  // namespace

StatusOr<const NvJitLink*> OpenNvJitLink() {
  static const StatusOr<const NvJitLink*>& library = *new StatusOr<const NvJitLink*>(OpenAny());
  return library;
}

StatusOr<const NvJitLink*> OpenNvJitLinkAt(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Error(ErrorCode::kDeviceMissing, "no nvJitLink: ", dlerror());
  auto api = std::make_unique<NvJitLink>();
  // The newest version whose functions are all there; their parameters are the same in each.
  for (int version = 149; version >= 120; --version) {
    api->major = version / 10, api->minor = version % 10;
    const std::string suffix = "_" + std::to_string(api->major) + "_" + std::to_string(api->minor);
    bool complete = true;
#define TES_NVJITLINK(name, parameters)                                                                             \
  api->name =                                                                                                       \
      reinterpret_cast<decltype(api->name)>(dlsym(library, ("__nvJitLink" + std::string(#name) + suffix).c_str())); \
  complete = complete && api->name != nullptr;
#include "runtime/drivers/nvjitlink_functions.def"
#undef TES_NVJITLINK
    if (complete) return api.release();  // for the life of the process
  }
  return Error(ErrorCode::kDeviceMissing, path, " has none of the functions of nvJitLink 12 or newer");
}

StatusOr<std::string> NvJitLink::Assemble(std::string_view ptx, const std::string& arch, std::string_view what) const {
  const std::string option = "-arch=" + arch;
  const char* options[] = {option.c_str()};
  NvJitLinkHandle handle = nullptr;
  if (const int result = Create(&handle, 1, options); result != 0) {
    return Error(ErrorCode::kDeviceFailed, "nvJitLinkCreate for ", what, ": error ", result, " with ", option,
                 "; this nvJitLink (", major, ".", minor, ") may be too old for the chip");
  }
  const std::string text = std::string(ptx) + '\0';
  size_t size = 0;
  std::string cubin;
  const char* call = "nvJitLinkAddData";
  int result = AddData(handle, kPtxForNvJitLink, text.data(), text.size(), "kernels");
  if (result == 0) call = "nvJitLinkComplete", result = Complete(handle);
  if (result == 0) call = "nvJitLinkGetLinkedCubin", result = GetLinkedCubinSize(handle, &size);
  if (result == 0) {
    cubin.resize(size);
    result = GetLinkedCubin(handle, cubin.data());
  }
  Status status;
  if (result != 0) {
    std::string log;
    if (GetErrorLogSize(handle, &size) == 0 && size > 0) {
      log.resize(size);
      if (GetErrorLog(handle, log.data()) != 0) log.clear();
      log = log.c_str();
    }
    status = Error(ErrorCode::kDeviceFailed, call, " for ", what, ": error ", result, "; ", log);
  }
  Destroy(&handle);
  if (!status.ok()) return status;
  return cubin;
}

StatusOr<std::string> ArchFor(std::string_view ptx, int capability, std::string_view what) {
  constexpr std::string_view kDirective = ".target sm_";
  const size_t at = ptx.find(kDirective);
  int wanted = 0;
  const char* end = nullptr;
  if (at != std::string_view::npos) {
    const char* digits = ptx.data() + at + kDirective.size();
    const char* limit = ptx.data() + ptx.size();
    if (const auto parsed = std::from_chars(digits, limit, wanted); parsed.ec == std::errc()) end = parsed.ptr;
  }
  if (end == nullptr) {
    return Error(ErrorCode::kProgramInvalid, what, ": its image is not PTX with a line '.target sm_NN'");
  }
  // Code for sm_90a runs on chips of capability 9.0 alone.
  const bool exact = end != ptx.data() + ptx.size() && *end == 'a';
  if (wanted > capability || (exact && wanted != capability)) {
    return Error(ErrorCode::kTargetUnsupported, what, " was compiled for sm_", wanted, exact ? "a" : "",
                 ", and the card is sm_", capability, "; compile for `cuda`, the chip of this machine");
  }
  return "sm_" + std::to_string(capability) + (exact ? "a" : "");
}

CudaAssembler::CudaAssembler(const CudaApi& cuda, const NvJitLink* nvjitlink, std::string cache_dir)
    : cuda_(cuda), nvjitlink_(nvjitlink), cache_dir_(std::move(cache_dir)) {
  int version = 0;
  cuda_.GetVersion(&version);
  driver_name_ = internal::Join("driver ", version / 1000, ".", version % 1000 / 10);
  // A driver takes the code of its own generation's tools and of older ones.
  if (nvjitlink_ != nullptr && nvjitlink_->major > version / 1000) nvjitlink_ = nullptr;
}

StatusOr<std::string> CudaAssembler::ByDriver(std::string_view ptx, std::string_view what) const {
  std::string text = std::string(ptx) + '\0';
  std::string log(16384, '\0');  // the assembler's own words are part of the error
  int options[] = {5, 6};        // CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES
  void* values[] = {log.data(), reinterpret_cast<void*>(log.size() - 1)};
  CUlinkState state = nullptr;
  RETURN_IF_ERROR(cuda_.Check(cuda_.cuLinkCreate_v2(2, options, values, &state), "cuLinkCreate", what));
  const char* call = "cuLinkAddData";
  GpuResult result =
      cuda_.cuLinkAddData_v2(state, kPtxForDriver, text.data(), text.size(), "kernels", 0, nullptr, nullptr);
  void* cubin = nullptr;
  size_t size = 0;
  if (result == 0) call = "cuLinkComplete", result = cuda_.cuLinkComplete(state, &cubin, &size);
  std::string bytes;
  if (result == 0) bytes.assign(static_cast<const char*>(cubin), size);  // which lives as long as `state`
  cuda_.cuLinkDestroy(state);
  if (result == 0) return bytes;
  const std::string said = log.c_str();
  Status status = cuda_.Check(result, call, what);
  if (result == kUnsupportedPtxVersion) {
    const bool own = ptx.find(".target sm_90a") != std::string_view::npos;
    status = Status(status.code(),
                    internal::Join(status.message(), " (this is ", driver_name_, ", the code is PTX ", PtxVersion(ptx),
                                   "), or have libnvJitLink.so of a newer CUDA ", driver_name_.substr(7, 2),
                                   " on the library path", own ? ", or compile for cuda:sm_90, whose PTX is 7.8" : ""));
  }
  return said.empty() ? status : Status(status.code(), status.message() + "; the assembler said: " + said);
}

StatusOr<Cubin> CudaAssembler::Assemble(std::string_view ptx, int capability, std::string_view what) const {
  const auto start = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const std::string arch, ArchFor(ptx, capability, what));
  Cubin cubin;
  cubin.assembler =
      nvjitlink_ == nullptr ? driver_name_ : internal::Join("nvJitLink ", nvjitlink_->major, ".", nvjitlink_->minor);
  std::string path;
  if (!cache_dir_.empty()) {
    Hasher hasher;
    hasher.AddString(ptx).AddString(arch).AddString(cubin.assembler);
    path = cache_dir_ + "/" + hasher.Finish().ToHex() + ".cubin";
    if (std::optional<std::string> kept = ReadCubin(path); kept.has_value()) {
      cubin.bytes = std::move(*kept);
      cubin.from_cache = true;
      return cubin;
    }
  }
  StatusOr<std::string> bytes = std::string();
  if (nvjitlink_ != nullptr) {
    bytes = nvjitlink_->Assemble(ptx, arch, what);
    if (!bytes.ok()) {
      // What one does not know the other may: PTX of a newer version, a newer chip.
      const Status first = bytes.status();
      bytes = ByDriver(ptx, what);
      if (!bytes.ok()) return Status(bytes.status().code(), bytes.status().message() + "; and " + first.message());
      cubin.assembler = driver_name_;
      path.clear();  // named after the other
    }
  } else {
    bytes = ByDriver(ptx, what);
  }
  if (!bytes.ok()) return bytes.status();
  cubin.bytes = *std::move(bytes);
  // A cache that cannot be written costs time at the next start, nothing else.
  if (!path.empty()) (void)WriteFileAtomically(path, HashBytes(cubin.bytes).ToHex() + cubin.bytes);
  cubin.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return cubin;
}

}  // namespace tessera
