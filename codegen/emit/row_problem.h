// RowProblem: softmax, log_softmax or layer_norm as rows of one length, as emitters of every target match it.
//
//   std::optional<RowProblem> p = RowProblemOf(graph, node, &why);
//   x is [outer, length, inner]; a row is the `length` elements of one outer and one inner position.
//
// Values only. Tested by rowwise_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_ROW_PROBLEM_H_
#define TESSERA_CODEGEN_EMIT_ROW_PROBLEM_H_

#include <cstdint>
#include <optional>
#include <string>

#include "codegen/emit/epilogue.h"
#include "codegen/plan.h"
#include "graph/graph.h"

namespace tessera {

enum class RowOp : uint8_t { kSoftmax, kLogSoftmax, kLayerNorm };

struct RowProblem {
  RowOp op = RowOp::kSoftmax;
  DType x = DType::kF32, type = DType::kF32;  // stored, computed
  int64_t outer = 1, length = 1, inner = 1;
  int64_t columns = 1;  // of the epilogue's view of the output: inner or length is a multiple of it
  double epsilon = 0;
  std::optional<DType> scale, bias;  // layer_norm's operands

  // Do rows lie across memory, elements `inner` apart?
  bool across() const { return inner > 1; }
  int64_t rows() const { return outer * inner; }
  // Operands of the op itself.
  int num_operands() const { return 1 + (scale ? 1 : 0) + (bias ? 1 : 0); }
  std::string Key() const;
};

// The problem of a node; nullopt with the reason in *why.
std::optional<RowProblem> RowProblemOf(const Graph& graph, const Node& node, std::string* why);

// The arguments of a step that computes a node's rows, stored as `x`: its operands and the epilogue's. x may become the
// result, so a kernel reads a row whole, or each element just before it writes it.
void AddRowArguments(const Node& node, DType x, const TileEpilogue& epilogue, PlanBuilder& builder, PlanStep& step);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_ROW_PROBLEM_H_
