// What a dense convolution takes as a product, for emitters that would do it in another way together with what is
// around it.
//
// Pure. Tested by gpu_direct_conv_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_GPU_CONV_H_
#define TESSERA_CODEGEN_EMIT_GPU_GPU_CONV_H_

#include <optional>
#include <string>

#include "codegen/target.h"
#include "graph/graph.h"

namespace tessera {

// Expected time of the quickest of gpu_conv's ways; nullopt with the reason in *why where it has none.
std::optional<double> GpuConvMicroseconds(const Graph& graph, const Node& node, const Target& target, std::string* why);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_GPU_CONV_H_
