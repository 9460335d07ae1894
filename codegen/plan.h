// Plan: a program before its kernels have code and its buffers have places.
//
// Emitters describe what they want as steps over buffers; each step names its kernel by a KernelSpec, whose key says
// all that the code depends on. Equal keys are one kernel, so a network with twenty equal layers compiles one. Plain
// data; thread-compatible. Tested by compile_test.cc.
#ifndef TESSERA_CODEGEN_PLAN_H_
#define TESSERA_CODEGEN_PLAN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "codegen/target.h"
#include "graph/graph.h"
#include "runtime/program.h"
#include "tesa/tensor.h"

namespace tessera {

class KernelBuilder;

// What a kernel is and how to write it. `key` determines the code completely (beside the Target).
struct KernelSpec {
  std::string family;  // short and readable, becomes part of the symbol: "matmul", "conv_nhwc"
  std::string key;
  int num_args = 0;
  std::vector<bool> may_alias;  // see KernelBuilder
  // For GPUs: threads of the blocks that it is written for, 0 where a thread does tasks of its own; and the blocks that
  // should fit on a multiprocessor at once, which bounds the registers of a thread (0: as the assembler likes).
  int block_threads = 0, blocks_per_unit = 0;
  int tensor_maps = 0;  // how many it takes after its arguments; see KernelBuilder::TensorMap
  // A kernel for blocks that says itself where it needs what steps before it wrote (KernelBuilder::AwaitSteps), because
  // it has something to do first: to fetch constants. The others need it from their start on.
  bool waits = false;
  // Its blocks start while the step before ends. AddStep decides.
  bool overlaps = false;
  std::function<void(KernelBuilder&)> emit;
};

struct PlanBuffer {
  std::string name;
  BufferClass kind = BufferClass::kTemp;
  int64_t bytes = 0;
  int port = -1;    // kInput, kOutput
  Tensor constant;  // kConstant: bytes() are stored as they are
};

struct PlanStep {
  KernelSpec kernel;
  std::vector<StepArg> args;
  int64_t tasks = 1;
  Launch launch;                       // where the kernel is written for blocks
  std::vector<TensorMap> tensor_maps;  // of such a kernel; as many as it takes
  int64_t scratch_bytes = 0;           // per thread
  bool serial = false;                 // tasks may not run at the same time
  std::string label;
  double flops = 0, bytes = 0;
  // (read argument, written argument) pairs that may share memory: the kernel reads an element before it writes the
  // same one.
  std::vector<std::pair<int, int>> in_place;
};

struct Plan {
  std::string name;
  std::vector<PlanBuffer> buffers;
  std::vector<PlanStep> steps;
  std::vector<ProgramPort> inputs, outputs;
  std::vector<std::string> notes;  // one line per node: which emitter, and why not the others
};

// Where the elements of an image [N, C, H, W] lie: (n, c, p), p = y * W + x, at
// (n * C + c) * pitch + p + p / band_pixels * band_gap. emit/host/planes.h says why.
struct PlaneLayout {
  int64_t pitch = 0;  // from one plane to the next; at least the pixels of a plane, or of a band where there are bands
  int64_t band_pixels = 0;  // whole rows, which divide the plane; 0: all pixels of a plane lie together
  int64_t band_gap = 0;     // what lies between the end of a plane's band and its next one

  bool banded() const { return band_pixels > 0; }
  std::string Key() const;
  friend bool operator==(const PlaneLayout&, const PlaneLayout&) = default;
};

// What an emitter sees of a node while it plans, and where it puts its steps.
class PlanBuilder {
 public:
  PlanBuilder(const Graph& graph, const Target& target) : graph_(graph), target_(target) {}

  const Graph& graph() const { return graph_; }
  const Target& target() const { return target_; }
  // Where a value lies: all of a buffer, made at its first mention, or a part of one.
  struct Place {
    int buffer = 0;
    int64_t offset = 0;  // bytes
    friend bool operator==(const Place&, const Place&) = default;
  };
  Place PlaceOf(ValueId id);
  // How an image [N, C, H, W] lies: without gaps unless it was said otherwise before the value had a place. All zeros
  // for values of another rank.
  void SetPlanes(ValueId id, const PlaneLayout& layout) { planes_of_[id] = layout; }
  PlaneLayout PlanesOf(ValueId id) const;
  // Step arguments that read and write a whole value.
  StepArg Read(ValueId id) { return Argument(PlaceOf(id), false); }
  StepArg Write(ValueId id) { return Argument(PlaceOf(id), true); }
  int Temp(std::string name, int64_t bytes);
  // Stored once per distinct tensor object and name.
  int Constant(std::string name, Tensor data);
  // The constant of this name, made at its first mention: for what several nodes derive alike from one tensor.
  int ConstantOnce(const std::string& name, const std::function<Tensor()>& make);
  // The temporary that holds what `key` says, for what several nodes derive alike from one value: panels of it. Is it
  // new, *made is true, and the caller adds the step that fills it.
  int TempOnce(const std::string& key, std::string name, int64_t bytes, bool* made);
  void AddStep(PlanStep step);
  // Lets `value` lie in `of`'s place, `offset` bytes from its start: the same bytes under another name. False when
  // `value` has another place already or is an output of the program, which has a place of its own.
  bool Alias(ValueId value, ValueId of, int64_t offset = 0);
  // Is the value's place known already, and not to be chosen any more?
  bool HasPlace(ValueId id) const { return place_of_.count(id) > 0; }
  bool IsOutput(ValueId id) const;
  // A step of an earlier node has made the value: its own node adds none.
  void MarkMade(ValueId id) { made_.insert(id); }
  bool IsMade(ValueId id) const { return made_.count(id) > 0; }
  Plan Finish();
  Plan& plan() { return plan_; }

 private:
  static StepArg Argument(Place place, bool writes) {
    return {.buffer = place.buffer, .writes = writes, .offset = place.offset};
  }

  const Graph& graph_;
  const Target& target_;
  Plan plan_;
  std::map<ValueId, Place> place_of_;
  std::set<ValueId> made_;
  std::map<ValueId, PlaneLayout> planes_of_;  // of values with gaps
  std::map<std::string, int> constant_of_;    // by ConstantOnce's names
  std::map<std::string, int> temp_of_;        // by TempOnce's keys
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_PLAN_H_
