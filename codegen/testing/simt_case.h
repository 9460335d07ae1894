// Small kernels for a GPU's blocks on the target simt, for tests: run in every order of threads, and told what is wrong
// with them.
//
//   SimtCase c;
//   c.threads = 64, c.output_bytes = 256, c.inputs = {Bytes(x)};
//   c.emit = [](KernelBuilder& b) { … };
//   for (const char* order : kOrders) EXPECT_EQ(expected, RunAs<float>(c, order));
#ifndef TESSERA_CODEGEN_TESTING_SIMT_CASE_H_
#define TESSERA_CODEGEN_TESTING_SIMT_CASE_H_

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "codegen/emit/kernel_builder.h"
#include "runtime/program.h"

namespace tessera {

inline constexpr const char* kOrders[] = {"", ":reverse", ":random:1", ":random:2"};

// A kernel for blocks, from `inputs` (bytes of any kind) to one output.
struct SimtCase {
  std::string chip = "sm_80";
  int threads = 32;
  Launch launch;
  int64_t shared_bytes = 0;
  std::vector<TensorMap> tensor_maps;
  std::function<void(KernelBuilder&)> emit;
  std::vector<std::vector<std::byte>> inputs;
  int64_t output_bytes = 0;
};

template <typename T>
std::vector<std::byte> Bytes(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

StatusOr<std::vector<std::byte>> RunBytes(const SimtCase& c, const std::string& order);

template <typename T>
std::vector<T> RunAs(const SimtCase& c, const std::string& order) {
  const StatusOr<std::vector<std::byte>> bytes = RunBytes(c, order);
  EXPECT_TRUE(bytes.ok()) << order << ": " << bytes.status();
  std::vector<T> values(static_cast<size_t>(c.output_bytes) / sizeof(T));
  if (bytes.ok()) std::memcpy(values.data(), bytes->data(), bytes->size());
  return values;
}

// The run ends with kKernelFaulty and a message with all `parts`, in every order.
void ExpectFault(const SimtCase& c, std::initializer_list<const char*> parts);

inline IrValue Wide(KernelBuilder& b, IrValue i32) { return b.ir().CreateZExt(i32, b.ir().getInt64Ty()); }

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TESTING_SIMT_CASE_H_
