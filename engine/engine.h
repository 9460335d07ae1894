// Tessera's public API: load a model, compile it for a machine, run it.
//
//   tessera::Model model = *tessera::Model::Load("mobilenet_v1.tess");
//   tessera::Session session = *model.Compile({});                          // for this machine, on all its processors
//   std::vector<float> image(1 * 3 * 224 * 224), scores(1000);
//   tessera::Status status = session.Run({{"input", image.data(), image.size() * sizeof(float)}},
//                                        {{"output", scores.data(), scores.size() * sizeof(float)}});
//
// Nothing throws and nothing aborts: every failure is a Status that names what was expected, what was found and what to
// do. A Model is immutable and may be used by any number of threads. A Session runs one inference at a time; make one
// per concurrent caller (Session::Clone shares weights and code). C++17, std only. C callers: c_api.h. One file that
// does all of it: examples/classify.cc.
#ifndef TESSERA_ENGINE_ENGINE_H_
#define TESSERA_ENGINE_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace tessera {

// An input or output: dense, row-major, little-endian.
struct TensorInfo {
  std::string name;
  std::string type;            // "f32", "i64", "u8", "bool" (one byte), …
  std::vector<int64_t> shape;  // all extents known
  size_t bytes = 0;
};

struct Options {
  // "host" is this machine; "host:x86-64-v3" a lower level of it; "cuda" its first NVIDIA card, "cuda:1" the second;
  // "hip" its first AMD card; "simt:nvptx:sm_90" and "simt:amdgpu:gfx942" run the kernels of a chip on the host and
  // check each access (slow, for development); "null" checks everything and computes nothing. "auto" is for Compile and
  // Load the first that can be had of "cuda", "hip" and "host": of a file of programs, the one of the card that is
  // there.
  std::string target = "host";
  // The target to take where `target` cannot be had (no driver, no such card, another chip, too little memory); the
  // report's warnings say why. Empty: that is an error.
  std::string fallback;
  // Threads of one inference; 0: as many processors as the process may use.
  int threads = 0;
  // A folder that keeps compiled programs, with weights and code, between processes; empty: none. Entries are keyed by
  // all that they depend on.
  std::string cache_dir;
  // Off runs the same masked weights through dense kernels: the baseline of every comparison. Nothing is propagated
  // then either.
  bool sparsity = true;
  // What the weights' zeros and declared masks make constant or unneeded becomes smaller shapes and folded constants.
  bool propagate = true;
  // When nothing is left of an output or a layer: "keep" runs what there is, "error" refuses with the chain of causes.
  std::string on_collapse = "keep";
  // A file of measured times (the `tune` tool writes it) that decides among kernels where it says anything of them;
  // empty, or no such file: estimates decide.
  std::string tuning_file;
  // Bytes of machine code that patterns of weights may become, all layers together; beyond it the layers that gain
  // least read their pattern as data. 0: as many as are quickest.
  int64_t max_code_bytes = 0;
  // "final": Compile returns when the quickest program is there. "first": the program that is there soonest, which
  // reads patterns of sparse weights as data. "both": that one, and a thread of low priority compiles the final one,
  // which takes its place between two runs; until then both lie in memory. Where the two would be the same, or the
  // final one lies in cache_dir, all mean "final".
  std::string tier = "final";
  // Use this emitter wherever it applies, e.g. "generic", or one way of it, "sparse:loop"; for tests and comparisons.
  std::string only_emitter;
};

// Caller's memory for one named input or output.
struct InputView {
  std::string name;
  const void* data = nullptr;
  size_t bytes = 0;
};
struct OutputView {
  std::string name;
  void* data = nullptr;
  size_t bytes = 0;
};

// What compilation decided and what a run needs.
struct SessionReport {
  std::string target;       // as resolved: processor and features
  double compile_ms = 0;    // from graph to ready session
  bool from_cache = false;  // the code came from cache_dir
  int steps = 0;            // kernel launches per inference
  int kernels = 0;          // distinct kernels
  int64_t code_bytes = 0;
  int64_t arena_bytes = 0;     // activations
  int64_t max_live_bytes = 0;  // the lower bound for arena_bytes
  int64_t constant_bytes = 0;  // weights as stored for the kernels
  // On a device with memory of its own: what this session holds of it, with what it shares with its clones; the most
  // that all sessions have held of it at once; memory of the host for copies; and who assembled the kernels.
  int64_t device_bytes = 0, device_bytes_peak = 0, pinned_bytes = 0;
  std::string assembler;  // "nvJitLink 13.0", "driver 13.0"
  // Of Options::tier: what runs now, "first" or "final", and the time from graph to final program, 0 before it runs.
  std::string tier = "final";
  double final_tier_ms = 0;
  double flops = 0;                    // useful operations of one inference
  double propagate_ms = 0;             // of compile_ms: finding what is constant or unneeded, and shrinking
  std::vector<std::string> shrunk;     // what became smaller, one line each: "conv 'dw3': channels 64 -> 19"
  std::vector<std::string> in_float;   // of a quantised network: what does not run on integers, and why
  std::vector<std::string> warnings;   // what collapsed and was kept, with its causes
  std::vector<std::string> decisions;  // per node: the emitter taken and why the others were not
};

// One step of the compiled program in the last profiled run.
struct StepProfile {
  std::string label;  // the node of the source model
  std::string kernel;
  double us = 0;
  double flops = 0;
  double bytes = 0;
};

class Session {
 public:
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  // A session from a file of compiled programs, which the `compile` tool writes: nothing is compiled. Of the programs
  // for options.target's machine ("host", "cuda", "hip:gfx942", …) it takes the one that asks most of what is there; of
  // the other options fallback, threads and cache_dir (for what a card's assembler makes) count. TES-3004 lists the
  // programs of a file that has none for this machine.
  static StatusOr<Session> Load(const std::string& path, const Options& options);

  const std::vector<TensorInfo>& inputs() const;
  const std::vector<TensorInfo>& outputs() const;

  // One inference. Every input must be given, in any order; outputs that are not wanted may be left out. Data may lie
  // in the memory of the target's card, where it has one; it must be there when the call is made. Sizes are checked.
  // TES-1201 missing input, TES-1202 unknown name, TES-1105 wrong size. Allocates only on a session's first
  // runs.
  Status Run(const std::vector<InputView>& inputs, const std::vector<OutputView>& outputs);
  // The same by position, every port given, for the tightest loops: no look-up, no allocation, no size check.
  Status RunPositional(const void* const* inputs, void* const* outputs);

  // Waits until the final program has been compiled and runs from now on; at once where it does. Its error, where it
  // could not be made: the first one stays then, and the report's warnings say why.
  Status AwaitFinalTier();

  // Another session over the same weights and code, with its own activations and threads.
  StatusOr<Session> Clone() const;

  // Microseconds of one inference on the device's own clock: `runs` back to back, without copies, over what the last
  // run left there. On an NVIDIA card these are replays of the program's CUDA graph. TES-2001 on the host.
  StatusOr<double> MeasureUs(int runs);

  const SessionReport& report() const;
  // Times each step of later runs; costs some clock reads per run.
  void SetProfiling(bool enabled);
  std::vector<StepProfile> Profile() const;
  // The compiled program as text: buffers, steps, kernels. Like the report, of what ran last.
  std::string ProgramText() const;

 private:
  static StatusOr<Session> LoadFor(const std::string& path, const Options& options);
  friend class Model;
  friend struct SessionAccess;  // engine_internal.h
  struct State;
  explicit Session(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class Model {
 public:
  // A .tess file; it is mapped, and weights are used in place. Other formats: the `convert` tool.
  static StatusOr<Model> Load(const std::string& path);
  // The same from memory, which is copied.
  static StatusOr<Model> LoadFromMemory(const void* data, size_t size);

  const std::vector<TensorInfo>& inputs() const;
  const std::vector<TensorInfo>& outputs() const;
  // Provenance: source file and its hash, converter version, licence, sparsity summary, …
  const std::map<std::string, std::string>& metadata() const;

  StatusOr<Session> Compile(const Options& options) const;

  // For Tessera's own tools, which hold a graph already; see engine_internal.h.
  struct State;
  explicit Model(std::shared_ptr<const State> state);
  const State& state() const { return *state_; }

 private:
  StatusOr<Session> CompileFor(const Options& options) const;
  std::shared_ptr<const State> state_;
};

}  // namespace tessera

#endif  // TESSERA_ENGINE_ENGINE_H_
