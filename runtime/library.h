// Libraries: code that arrives as bytes, and code that a vendor installed.
//
//   ASSIGN_OR_RETURN(KernelLibrary kernels, KernelLibrary::Load(object_bytes, "mobilenet.tessx"));
//   auto* relu = reinterpret_cast<void (*)(float*, int64_t)>(kernels.Lookup("relu_f32"));     // null: no such symbol
//
//   ASSIGN_OR_RETURN(VendorLibrary cuda, VendorLibrary::Open({"libcuda.so.1", "libcuda.so"}));
//   ASSIGN_OR_RETURN(void* init, cuda.Symbol("cuInit"));
//
// A host kernel is one ELF relocatable object that imports nothing. Loading that ourselves, rather than a shared object
// through dlopen, needs no file and no linker, lets the same bytes serve just-in-time and ahead-of-time use, and
// decides where code lies: straight-line sparse kernels run to megabytes, and on 4 KiB pages the instruction TLB makes
// 10 MB of them nine times slower than on 2 MiB pages.  Tested by library_test.cc, also with truncated and bit-flipped
// objects.
#ifndef TESSERA_RUNTIME_LIBRARY_H_
#define TESSERA_RUNTIME_LIBRARY_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace tessera {

// The code, constants and variables of a kernel object, in memory and ready to call. Movable; pointers that Lookup gave
// stay valid across moves and until destruction. Lookup is safe from several threads. What kernels do to the object's
// variables is between them and their callers.
class KernelLibrary {
 public:
  // Code, constants or variables of at least this many bytes (zeros aside) start on, and ask for, 2 MiB pages.
  static constexpr uint64_t kHugePageThreshold = 512 * 1024;

  // Lays out the allocated sections of an x86-64 ELF64 relocatable object (position-independent, small code model, all
  // symbols defined within), applies its relocations and sets protections: code r-x, constants r--, variables rw-.
  // `object` is not used afterwards; `name` is for messages. The bytes may be hostile: whatever they hold, the result
  // is a library or an error (TES-1004 truncated, 1005 contradictory, 1006 not ELF, 1008 above 1 GiB, 3004 a form that
  // is not supported, with what to change in the compilation, 3002/3005 refused by the system). Calling what hostile
  // code holds is, of course, another matter.
  static StatusOr<KernelLibrary> Load(std::span<const std::byte> object, std::string_view name);

  KernelLibrary() = default;  // holds nothing
  KernelLibrary(KernelLibrary&& other) noexcept { *this = std::move(other); }
  KernelLibrary& operator=(KernelLibrary&& other) noexcept;
  ~KernelLibrary();

  // Address of a global function or variable, null when there is none of that name.
  void* Lookup(std::string_view symbol) const;
  // All names that Lookup finds, sorted; for error messages.
  std::vector<std::string> SymbolNames() const;

  // Address space taken, in bytes, and where the code is.
  size_t size_bytes() const { return size_; }
  std::span<const std::byte> code() const { return {base_, code_size_}; }

 private:
  void Unmap();

  std::byte* base_ = nullptr;  // the code first, then constants, then variables
  size_t size_ = 0;
  size_t code_size_ = 0;
  std::vector<std::pair<std::string, std::byte*>> symbols_;  // sorted by name
};

// A shared library that another vendor installed (a GPU driver), opened at run time because it may be absent. It stays
// in the process after the last VendorLibrary is gone: drivers keep threads and exit handlers, and do not survive
// unloading. Movable; Symbol is safe from several threads.
class VendorLibrary {
 public:
  // The first of `names` that the dynamic loader finds. TES-3001 with every name and why it did not open.
  static StatusOr<VendorLibrary> Open(std::initializer_list<const char*> names);

  VendorLibrary(VendorLibrary&& other) noexcept { *this = std::move(other); }
  VendorLibrary& operator=(VendorLibrary&& other) noexcept;
  ~VendorLibrary();

  // TES-3001 when the library, perhaps of an older version, lacks the symbol.
  StatusOr<void*> Symbol(const char* symbol) const;
  // The name under which it was found.
  const std::string& name() const { return name_; }

 private:
  VendorLibrary() = default;

  void* handle_ = nullptr;
  std::string name_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_LIBRARY_H_
