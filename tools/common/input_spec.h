// What the user gives a model as input, as text:
//
//   image=@x.npy                       a file; `@x.npy` alone where the model has one input
//   ids=1x4xi64=101 7592 2088 102      type, then the values in row-major order; one value stands for all
//   image=random:7                     seeded; random:7:0:1 uniform in [0, 1] instead of normal
//
// Shape and type come from the model where the text leaves them out (random), and are checked where it does not. Pure
// functions besides reading files. Tested by input_spec_test.cc.
#ifndef TESSERA_TOOLS_COMMON_INPUT_SPEC_H_
#define TESSERA_TOOLS_COMMON_INPUT_SPEC_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "tesa/tensor.h"

namespace tessera {

// A tensor that a model asks for: an input to be given or an output to be compared.
struct Port {
  std::string name;
  TensorType type;
};
std::vector<Port> InputPorts(const Graph& graph);
std::vector<Port> OutputPorts(const Graph& graph);

// "name=VALUE" -> {"name", "VALUE"}; the name is empty where the text begins with the value itself.
std::pair<std::string, std::string> SplitNamed(std::string_view text);

// The value without its name: "@x.npy", "2x2xf32=1 2 3 4", "random:7". Only `random` needs `type`; others are checked
// against it where it is given.
StatusOr<Tensor> ParseValue(std::string_view text, const TensorType* type);

// Tensors for all `ports`, in their order: those of `specs` by name (or by position where unnamed); the others are
// errors (TES-1201), or drawn by DefaultInput where `seed` is given.
StatusOr<std::vector<Tensor>> ResolveInputs(const Graph& graph, const std::vector<std::string>& specs,
                                            const int64_t* seed);

// What an input gets when the user does not care: floats normal; integers that reach a gather below the extent that it
// indexes; other integers of more than 8 bits, and bool, are ones, which is what attention masks want.
Tensor DefaultInput(const Graph& graph, ValueId input, uint64_t seed);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_INPUT_SPEC_H_
