// Device: where programs run; Executable: one loaded program with its memory, ready to run again and again.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Device> device, OpenDevice("host"));
//   ASSIGN_OR_RETURN(std::unique_ptr<Executable> run, device->Load(program, {.threads = 2}));
//   RETURN_IF_ERROR(run->Run(inputs, outputs));         // host pointers, in the order of program->inputs and ->outputs
//
// A Device may be shared between threads. An Executable runs one inference at a time; load it once per concurrent
// caller, or clone it: clones share code and constants. Adding a driver: drivers/<name>_device.cc and a line in
// device.cc. Tested by device_test.cc, the same cases for every driver.
#ifndef TESSERA_RUNTIME_DEVICE_H_
#define TESSERA_RUNTIME_DEVICE_H_

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/program.h"

namespace tessera {

class Trace;

struct LoadOptions {
  int threads = 0;  // 0: as many as the process may use
  // A folder that keeps what a device's assembler makes of a program's code; empty: none.
  std::string cache_dir;
};

// What a loaded program holds of its device, and how its code got there. Zero and empty where a device has no memory
// of its own.
struct ExecutableInfo {
  int64_t device_bytes = 0;       // code and constants (shared by executables of one program), arena, inputs, outputs
  int64_t device_bytes_peak = 0;  // the most that all programs on this device have held at once
  int64_t pinned_bytes = 0;       // of the host, for copies
  std::string assembler;          // "nvJitLink 13.0", "driver 13.0"
  bool code_from_cache = false;
  double assemble_ms = 0;
};

class Executable {
 public:
  virtual ~Executable() = default;

  // One inference. inputs[i] points at the bytes of program().inputs[i], outputs likewise; nothing is copied that need
  // not be. They may lie in the memory of the device itself, where it has one. No allocation but on the first runs.
  // kInputMissing when the counts differ.
  virtual Status Run(std::span<const void* const> inputs, std::span<void* const> outputs) = 0;

  // Another executable of the same program, which may run while this one does.
  virtual StatusOr<std::unique_ptr<Executable>> Clone(const LoadOptions& options) const = 0;

  // Without images where the device has made something of its own of them.
  virtual const Program& program() const = 0;
  // Records each step of later runs, one event per thread that worked on it; nullptr stops. Borrowed; it must have room
  // for all threads() and outlive its use here. Not during a run.
  virtual void SetTrace(Trace* trace) = 0;
  virtual int threads() const = 0;
  // Duration of each step of the last run in nanoseconds, on the first thread, which has a share of every step;
  // measured only while `enabled`.
  virtual void SetProfiling(bool enabled) = 0;
  virtual std::span<const int64_t> step_nanoseconds() const = 0;

  // Microseconds of one inference on the device's own clock: `runs` back to back without copies, over what the last run
  // left in the device's memory. kUsageInvalid where the device has no clock of its own (the host's is the caller's).
  virtual StatusOr<double> MeasureUs(int runs);
  virtual ExecutableInfo info() const { return {}; }
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;
  // A line for reports: processor or card, driver, memory.
  virtual std::string Describe() const = 0;
  virtual StatusOr<std::unique_ptr<Executable>> Load(std::shared_ptr<const Program> program,
                                                     const LoadOptions& options) = 0;
};

// "host", "cuda" ("cuda:1": the second card), "hip" (AMD's cards, likewise), "simt" (a GPU's kernels on the host;
// "simt:random:7": threads in another order), or "null" (which checks and counts but computes nothing). kDeviceMissing
// says what there is and what to install.
StatusOr<std::unique_ptr<Device>> OpenDevice(std::string_view name);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DEVICE_H_
