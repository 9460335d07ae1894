// CollectKernels: every distinct kernel of networks for a GPU, with how each is launched, and their code. What the
// static rungs of the ladder look at; no card is needed.
//
//   KernelCollection kernels(target);
//   RETURN_IF_ERROR(kernels.Add("mlp:32"));                      // of a network of the catalog at a batch
//   RETURN_IF_ERROR(kernels.Add("bert_base:1:layers=2"));        // with parameters of the catalog
//   RETURN_IF_ERROR(kernels.Add("ladder:bert/90%:fine/i8"));     // of a network, a pattern, a precision of the ladder
//   RETURN_IF_ERROR(kernels.Add("ops:3"));                       // of 3 random cases of every op
//   RETURN_IF_ERROR(kernels.Add("product:i8:m=64:n=64:k=64"));   // of one product with a constant: its quickest way
//   RETURN_IF_ERROR(kernels.Add("product:f16:m=64:n=64:k=64:fine=95"));  // … 95 % of whose elements are gone
//   RETURN_IF_ERROR(kernels.Add("attention:f16:heads=2:m=64:k=64"));     // of m positions and width k
//   RETURN_IF_ERROR(kernels.Add("emitters"));                    // of each kind of way of every emitter for GPUs
//   RETURN_IF_ERROR(kernels.Add("device_ops"));                  // of each device op that the chip has
//   ASSIGN_OR_RETURN(const auto files, kernels.Compile(16));
//
// Kernels that networks share are there once, with the largest of their launches. Not for sharing between threads.
// Tested by code_objects_test.cc and tests/ptx/assembled_test.py.
#ifndef TESSERA_TESTS_LADDER_DISTINCT_KERNELS_H_
#define TESSERA_TESTS_LADDER_DISTINCT_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "codegen/plan.h"
#include "codegen/target.h"
#include "graph/graph.h"

namespace tessera {

struct DistinctKernel {
  KernelSpec spec;
  std::string symbol;
  std::string node;  // "mlp:1 fc1": the network and node that has it first
  // The largest launch. Where the driver chooses, it takes blocks of kTaskBlockThreads threads, a task each.
  int64_t blocks[3] = {0, 1, 1};
  int64_t threads = 0, shared_bytes = 0;
  size_t file = 0;  // of Compile's result
};

class KernelCollection {
 public:
  explicit KernelCollection(Target target) : target_(std::move(target)) {}

  const Target& target() const { return target_; }
  Status Add(const std::string& network);
  // Gives each kernel its place in files of at most `per_file`, and compiles these on all processors. The kernels of a
  // file are not alike, so that files take similar times.
  StatusOr<std::vector<std::vector<std::byte>>> Compile(size_t per_file);
  // By key.
  std::vector<const DistinctKernel*> kernels() const;
  // How many nodes each emitter for GPUs has planned so far, none too.
  std::map<std::string, int> emitters() const;

 private:
  Status AddGraph(const Graph& graph, const std::string& network, const std::string& only_emitter = "");
  Status AddEmitters();
  Status AddRandomOps(int cases);
  Status AddDeviceOps();

  Target target_;
  std::map<std::string, DistinctKernel> by_key_;
  std::map<std::string, int> emitters_;
};

}  // namespace tessera

#endif  // TESSERA_TESTS_LADDER_DISTINCT_KERNELS_H_
