// Machine: what a measurement must say of where it was made, and the two rates that bound it.
//
//   const HostMachine machine = DescribeMachine();   // processor, how many may be used, instruction sets, clock,
//   commit const Peaks peaks = MeasurePeaks(2, 16 << 20); // flop/s and byte/s of two threads, here and now
//
// The clock is measured (a chain of dependent multiplications has a known number of cycles), because what the system
// reports is often the nominal one. The commit is that of the checkout from which the tool was started: TESSERA_COMMIT,
// a COMMIT file beside an installed tree, or .git found from BUILD_WORKSPACE_DIRECTORY or upwards from the working
// folder; empty when none is found. Thread-safe. Tested by machine_test.cc.
#ifndef TESSERA_TOOLS_COMMON_MACHINE_H_
#define TESSERA_TOOLS_COMMON_MACHINE_H_

#include <cstdint>
#include <string>

namespace tessera {

struct HostMachine {
  std::string cpu;        // "AMD EPYC 9B14"
  double processors = 0;  // that this process may use; a fraction under a quota
  std::string isa;        // the widest of what kernels use: "avx512 vnni bf16", "avx2", "sse2"
  double clock_ghz = 0;   // of one busy core, measured
  std::string os;         // kernel name and release
  std::string commit;     // of the library, abbreviated by nobody; may be empty
};
HostMachine DescribeMachine();

struct Peaks {
  double flops = 0;  // f32 fused multiply-adds, counted as two, per second, all threads together
  double bytes = 0;  // read per second from a working set of the size asked for, all threads together
};
// Takes about 0.2 s. `working_set` in bytes is shared out among the threads, and clamped to [64 KiB, 512 MiB]: a
// program whose weights and activations fit a cache is held to the bandwidth of that cache.
Peaks MeasurePeaks(int threads, int64_t working_set);

// The commit that the .git of `folder` or of a folder above it is at; empty when there is none.
std::string CommitOf(const std::string& folder);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_MACHINE_H_
