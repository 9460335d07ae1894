// The test's side of fake_gpu.h.
#include <dlfcn.h>

#include <cstdlib>

#include "base/status.h"
#include "runtime/testing/fake_gpu.h"

namespace tessera {

FakeGpu& FakeGpu::Use(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  TES_CHECK(library != nullptr, path, ": ", dlerror());
  auto* get = reinterpret_cast<FakeGpu* (*)()>(dlsym(library, "TesseraFakeGpu"));
  TES_CHECK(get != nullptr, path, " is not a fake driver");
  FakeGpu& fake = *get();
  setenv(fake.variable(), path, 1);
  setenv("TESSERA_NVJITLINK", "off", 1);
  fake.Reset(nullptr);
  return fake;
}

}  // namespace tessera
