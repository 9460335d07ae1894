// Program: all that runs, as data. Compilers write it, files hold it, devices execute it; nothing here knows where it
// came from.
//
//   program "mobilenet_v1" for host
//   buffer 3 temp 802816 B at 1605632   "conv1"
//   step 2 kernel conv_nhwc_3 tasks 56   args 3 4r 7r   "conv1"
//
// A Program is a list of steps over buffers. Each step launches one kernel over tasks [0, tasks); kernels are symbols
// of the images, which are bytes that the device's own loader takes (for the host: relocatable ELF objects). Buffers
// are the inputs and outputs of the program, constants (slices of one blob), or temporaries at fixed offsets of one
// arena. No masks, no graph, no LLVM. Immutable once made, shared freely between threads. Tested by program_test.cc.
#ifndef TESSERA_RUNTIME_PROGRAM_H_
#define TESSERA_RUNTIME_PROGRAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/tensor_map.h"
#include "tesa/types.h"

namespace tessera {

enum class BufferClass : uint8_t { kInput, kOutput, kConstant, kTemp };

struct ProgramBuffer {
  std::string name;  // of the tensor in the source model, for reports
  BufferClass kind = BufferClass::kTemp;
  int64_t bytes = 0;
  // kTemp: offset in the arena; kConstant: offset in the constants; kInput, kOutput: position in inputs or outputs.
  int64_t offset = 0;
};

struct StepArg {
  int buffer = 0;
  bool writes = false;
  int64_t offset = 0;  // bytes from the buffer's start
};

// How a kernel that is written for blocks of threads starts on a GPU. Without blocks (x = 0) a step is launched by its
// tasks instead, which the driver spreads over threads as it likes.
struct Launch {
  int64_t x = 0, y = 1, z = 1;  // blocks
  int64_t threads = 0;          // of a block
  int64_t shared_bytes = 0;     // of a block's shared memory
  // The kernel waits by itself for the steps before it (griddepcontrol), so that its blocks may start while theirs end.
  bool overlap = false;
  bool by_blocks() const { return x != 0; }
};

// Threads of a block where a device launches a step by its tasks, each thread with its share.
constexpr int64_t kTaskBlockThreads = 128;

// What any device that takes blocks allows: the least of the chips that targets list.
constexpr int64_t kMaxBlockThreads = 1024;
constexpr int64_t kMaxSharedBytes = 227 << 10;
constexpr int64_t kMaxBlocksX = (int64_t{1} << 31) - 1;
constexpr int64_t kMaxBlocksYZ = 65535;

// One launch of one kernel. `tasks` may be split over threads in any way; each task writes its own share of the output.
struct Step {
  int kernel = 0;
  std::vector<StepArg> args;
  int64_t tasks = 1;
  Launch launch;  // of a kernel that is written for blocks; such a step is one task
  // Its parameters after the arguments, of a kernel that is written for blocks.
  std::vector<TensorMap> tensor_maps;
  bool serial = false;  // tasks may not run at the same time
  std::string label;    // the node(s) of the source model, for traces and reports
  double flops = 0;     // useful operations, for the roofline share
  double bytes = 0;     // memory that must move at least once
};

struct ProgramPort {
  std::string name;
  TensorType type;
  int buffer = 0;
};

struct MemoryReport {
  int64_t arena_bytes = 0;
  int64_t max_live_bytes = 0;  // the lower bound that no plan can beat
  int64_t naive_bytes = 0;     // without any reuse
  int64_t constant_bytes = 0;
  int64_t scratch_bytes = 0;  // per thread
};

// Bytes for the device's own loader, and who keeps them: a compiler's memory, a mapped file.
struct ProgramImage {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

struct Program {
  std::string name;
  std::string target;             // "host"
  std::string required_features;  // what the processor must have, LLVM's names, comma-separated; may be empty
  std::vector<ProgramBuffer> buffers;
  std::vector<std::string> kernels;  // symbol names
  std::vector<Step> steps;
  std::vector<ProgramPort> inputs, outputs;
  std::vector<ProgramImage> images;
  std::span<const std::byte> constants;         // 64-byte aligned
  std::shared_ptr<const void> constants_owner;  // keeps `constants` alive
  MemoryReport memory;
  // Content hashes, for caches: of all that was compiled, and of the kernels alone; equal code keys are equal images.
  std::string key, code_key;
  std::vector<std::string> decisions;  // for reports: a line per node of the model, on how it is computed and why

  // Index ranges, offsets within arena and constants, launches within what devices take.
  Status Verify() const;
  // The form sketched at the top.
  std::string ToString() const;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_PROGRAM_H_
