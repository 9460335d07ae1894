#include "runtime/library.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "runtime/elf_object.h"
#include "runtime/host_memory.h"

namespace tessera {
namespace {

constexpr uint64_t kPage = 4096;

uint64_t RoundUp(uint64_t value, uint64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

std::string Reason() { return strerror(errno); }

}  // namespace

StatusOr<KernelLibrary> KernelLibrary::Load(std::span<const std::byte> object, std::string_view name) {
  static_assert(ElfObject::kMaxAlignment == kHugePage);
  ASSIGN_OR_RETURN(const ElfObject elf, ElfObject::Read(object, name, kHugePageThreshold));

  // One region keeps every 32-bit distance in reach.
  const size_t size = RoundUp(std::max<size_t>(elf.size_bytes(), 1), kPage);
  KernelLibrary library;  // owns the region
  library.base_ = MapFromHugePage(size);
  library.size_ = size;
  if (library.base_ == nullptr) {
    return Error(ErrorCode::kOutOfMemory, "kernel object '", name, "': cannot reserve ", size, " bytes: ", Reason());
  }
  library.code_size_ = elf.segment(ElfObject::kCode).size;

  constexpr ElfObject::Segment kAll[] = {ElfObject::kCode, ElfObject::kConstants, ElfObject::kVariables};
  for (ElfObject::Segment segment : kAll) {
    // A wish, to be made before the pages are touched: where the system has no huge pages to give, 4 KiB ones serve.
    const ElfObject::Range range = elf.segment(segment);
    if (range.huge_pages) {
      madvise(library.base_ + range.begin, RoundUp(range.size, kHugePage), MADV_HUGEPAGE);
    }
  }
  RETURN_IF_ERROR(elf.LinkInto(library.base_));
  for (ElfObject::Segment segment : kAll) {
    const ElfObject::Range range = elf.segment(segment);
    if (range.size == 0 || segment == ElfObject::kVariables) continue;
    const size_t protected_size = RoundUp(range.size, range.huge_pages ? kHugePage : kPage);
    const bool code = segment == ElfObject::kCode;
    if (mprotect(library.base_ + range.begin, protected_size, code ? PROT_READ | PROT_EXEC : PROT_READ) != 0) {
      return Error(ErrorCode::kDeviceFailed, "kernel object '", name, "': the system refuses to make memory ",
                   code ? "executable" : "read-only", ": ", Reason());
    }
  }
  library.symbols_ = elf.GlobalSymbols(library.base_);
  for (size_t i = 1; i < library.symbols_.size(); ++i) {
    if (library.symbols_[i - 1].first == library.symbols_[i].first) {
      return Error(ErrorCode::kFileCorrupt, "kernel object '", name, "': the global symbol '",
                   library.symbols_[i].first, "' is defined twice");
    }
  }
  return library;
}

KernelLibrary& KernelLibrary::operator=(KernelLibrary&& other) noexcept {
  if (this == &other) return *this;
  Unmap();
  base_ = std::exchange(other.base_, nullptr);
  size_ = std::exchange(other.size_, 0);
  code_size_ = std::exchange(other.code_size_, 0);
  symbols_ = std::move(other.symbols_);
  other.symbols_.clear();
  return *this;
}

KernelLibrary::~KernelLibrary() { Unmap(); }

void KernelLibrary::Unmap() {
  if (base_ != nullptr) munmap(base_, size_);
  base_ = nullptr;
}

void* KernelLibrary::Lookup(std::string_view symbol) const {
  const auto found = std::lower_bound(symbols_.begin(), symbols_.end(), symbol,
                                      [](const auto& entry, std::string_view name) { return entry.first < name; });
  return found != symbols_.end() && found->first == symbol ? found->second : nullptr;
}

std::vector<std::string> KernelLibrary::SymbolNames() const {
  std::vector<std::string> names;
  for (const auto& [name, address] : symbols_) names.push_back(name);
  return names;
}

StatusOr<VendorLibrary> VendorLibrary::Open(std::initializer_list<const char*> names) {
  std::string reasons;
  for (const char* name : names) {
    // NODELETE: see the class. LOCAL: two vendors' libraries may define the same names.
    if (void* handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
      VendorLibrary library;
      library.handle_ = handle;
      library.name_ = name;
      return library;
    }
    const char* reason = dlerror();
    reasons += internal::Join(reasons.empty() ? "" : "; ", "'", name, "': ", reason != nullptr ? reason : "unknown");
  }
  return Error(ErrorCode::kDeviceMissing, "cannot open the vendor's library; tried ", reasons);
}

VendorLibrary& VendorLibrary::operator=(VendorLibrary&& other) noexcept {
  if (this == &other) return *this;
  if (handle_ != nullptr) dlclose(handle_);
  handle_ = std::exchange(other.handle_, nullptr);
  name_ = std::move(other.name_);
  return *this;
}

VendorLibrary::~VendorLibrary() {
  if (handle_ != nullptr) dlclose(handle_);
}

StatusOr<void*> VendorLibrary::Symbol(const char* symbol) const {
  void* address = dlsym(handle_, symbol);
  if (address == nullptr) {
    return Error(ErrorCode::kDeviceMissing, "'", name_, "' has no symbol '", symbol, "'; a newer version may");
  }
  return address;
}

}  // namespace tessera
