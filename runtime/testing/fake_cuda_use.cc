// The test's side of fake_cuda.h.
#include <dlfcn.h>

#include <cstdlib>

#include "base/status.h"
#include "runtime/testing/fake_cuda.h"

namespace tessera {

FakeCuda& FakeCuda::Use(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  TES_CHECK(library != nullptr, path, ": ", dlerror());
  auto* get = reinterpret_cast<FakeCuda* (*)()>(dlsym(library, "TesseraFakeCuda"));
  TES_CHECK(get != nullptr, path, " is not the fake driver");
  setenv("TESSERA_LIBCUDA", path, 1);
  setenv("TESSERA_NVJITLINK", "off", 1);
  FakeCuda& fake = *get();
  fake.Reset(nullptr);
  return fake;
}

}  // namespace tessera
