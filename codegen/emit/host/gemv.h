// What the emitters of products with few columns share: reading the product from a node.
//
//   y[column][row] = epilogue(sum over kept (row, k) of W[row, k] * x[column][k])          at most 7 columns
//
// W is constant, f32, or i8 where x is u8. The product is a matmul with either operand constant, or a channels-last 1x1
// convolution of few pixels. Values only. Tested by gemv_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_GEMV_H_
#define TESSERA_CODEGEN_EMIT_HOST_GEMV_H_

#include <optional>
#include <string>

#include "codegen/emit/epilogue.h"
#include "codegen/emit/host/gemv_kernel.h"
#include "codegen/plan.h"
#include "graph/graph.h"
#include "tesa/int4.h"

namespace tessera {

// From 8 columns on the panels of sparse_matmul.h are filled well enough, and arithmetic binds rather than bytes.
inline constexpr int64_t kMaxGemvColumns = 7;

// x and y as they lie, whatever W is.
struct GemvOperands {
  GemvShape shape;
  ValueId x = ValueId::kNone, weights = ValueId::kNone;
  int64_t row_step = 1, depth_step = 1;  // of W where it lies, in elements
  bool y_is_column = false;              // y's last dimension is 1 and its last but one the rows
};

// Of a node that is such a product with weights of two dimensions (a convolution's: channels), be they constant or not;
// otherwise nullopt, and *why says what was found.
std::optional<GemvOperands> ReadGemvOperands(const Graph& graph, const Node& node, std::string* why);

// The node's epilogue over a result [columns][rows].
TileEpilogue GemvEpilogue(const Graph& graph, const Node& node, const GemvOperands& operands);

// f32 x (arguments: x, as it lies) times weights of 4 bits: the step, and the time of all threads together. `name`: of
// the weights, after which the constants are called.
void PlanGemvInt4(const Node& node, const GemvShape& shape, const Int4Weights& weights, const std::string& name,
                  StepArg x, const TileEpilogue& epilogue, PlanBuilder& builder);
double GemvInt4Microseconds(const Int4Weights& weights, int64_t columns, double weight_share, const Target& target);

// Nanoseconds in which one core reads `bytes` of weights, which are found where a working set of `all_bytes` stays.
double WeightStreamNanoseconds(double bytes, double all_bytes, const Target& target);

// Which part of the graph's constants `weights` are, by bytes. Between two visits of a layer all others pass by; that
// they shrink as this one does is the guess.
double WeightShare(const Graph& graph, ValueId weights);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_GEMV_H_
