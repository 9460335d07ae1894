// The text form of a Graph, both ways: for hand-written tests, goldens, `opt` and error reports.
//
//   graph "mlp" {
//     metadata "source" = "mlp.onnx"
//     %x: f32[1,784] = input
//     %w: f32[1024,784] tesa(scattered kept 10%) = constant random(seed = 1, stddev = 0.02)
//     %b: f32[2] = constant [0.5, -1]
//     %h: f32[1,1024] = matmul "fc1"(%x, %w) {transpose_b = 1} epilogue(%b): f32 (a: f32, b: f32) { return a }
//     %v: f32[1,4], %i: i64[1,4] = some_op(%h, _, %b) {axis = 1, to = f32, scales = [1.0, 2.0]}
//     return %h
//   }
//
// A value is defined once, before its use: name, type, then `tesa(…)` and `quant(…)` where it has them. Names with
// other characters than letters, digits, `_` and `.` stand in quotes: %"conv1/Relu:0". `_` is an absent operand. A
// node's name is that of its first output unless one stands before the operands. Parameters are typed by how they look:
// 1 is an integer, 1.0 a float, "x" a string, f32 an element type; an empty list of floats is `floats[]`.
//
// A constant is a list of numbers, `hex DIGITS` or `base64 DIGITS` of its bytes. Only the parser knows the generated
// ones: `zeros`, `splat(1.5)`, `random(seed = 1, stddev = 0.02)`, where pruned elements are 0. Only the elided print
// knows `elided(hash)`. An `inputs` or `order` line stands where the order of graph inputs, or of value ids, is not
// that of the definitions. Thread-compatible. Tested by text_test.cc.
#ifndef TESSERA_GRAPH_TEXT_H_
#define TESSERA_GRAPH_TEXT_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

struct PrintOptions {
  // For people and goldens: constants above `max_listed` elements as elided(hash of the bytes), attributes as
  // summaries.
  bool elide = false;
  // Constants of at most this many elements are lists of numbers.
  int64_t max_listed = 16;
};

// Never fails, so that broken graphs can be shown too; ids out of range print as %!17.
std::string PrintGraph(const Graph& graph, const PrintOptions& options = {});
// One node as it stands in the graph's text, without constants: what errors and reports quote.
std::string PrintNode(const Graph& graph, const Node& node);
std::ostream& operator<<(std::ostream& out, const Graph& graph);  // elided

struct ParseOptions {
  // All constants together, generated ones included.
  int64_t max_constant_bytes = int64_t{1} << 32;
  int64_t max_values = int64_t{1} << 22;
};

// Reads what PrintGraph prints: ParseGraph(PrintGraph(g)) == g for every graph that Verify accepts. Treats the text as
// hostile; errors (TES-1111 and the codes of what stands there) give line and column. Only the syntax is checked and
// that names are defined once, before use: call Verify next.
StatusOr<Graph> ParseGraph(std::string_view text, const ParseOptions& options = {});

}  // namespace tessera

#endif  // TESSERA_GRAPH_TEXT_H_
