// float_report: which ops of a quantised network stay in float, and why, for reports.
//
//   WhyFloat(graph)  ->  {"matmul 'scores': its second operand is computed",
//                         "softmax 'attention': no integer form; what it reads is dequantised, its result quantised"}
//
// Of a graph behind the passes that simplify (pipeline.h), where quantize and dequantize are still nodes. Element-wise
// ops are not listed: they join the kernels around them. Empty for networks without quantised tensors. Pure function.
// Tested by float_report_test.cc.
#ifndef TESSERA_GRAPH_PASSES_FLOAT_REPORT_H_
#define TESSERA_GRAPH_PASSES_FLOAT_REPORT_H_

#include <string>
#include <vector>

#include "graph/graph.h"

namespace tessera {

std::vector<std::string> WhyFloat(const Graph& graph);
// How the line of a node begins, for who finds a way after all: "matmul 'scores': ".
std::string FloatLineStart(Op op, const std::string& node_name);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_FLOAT_REPORT_H_
