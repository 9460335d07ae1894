// TileEpilogue: what happens to a node's result between registers and memory.
//
// An emitter that computes its output as rows × columns (the last dimension is the columns, all others together the
// rows) hands every vector of results to EpilogueEmitter::Finish with its row and first column. That loads what the
// epilogue's operands have there, whatever NumPy-broadcastable shape they are of (a scalar, one per column, one per
// row, one each, or a mixture), applies the body, narrows to the storage type and stores:
//
//   TileEpilogue epilogue(graph, node);                       // while planning
//   epilogue.AddArguments(node, builder, step);               // operands, then the output; in-place pairs where legal
//   ...
//   EpilogueEmitter finish(b, epilogue, first_arg);           // in the kernel; one per straight piece of code
//   finish.Store(sum, row, column, mask);
//
// An image with channels first is walked as planes × pixels instead: the last two dimensions are the columns, and rows
// may lie further apart than they are long (emit/host/planes.h).
//
// What does not change from row to row (a bias) is loaded once per column, what does not change along a row once per
// row. Values only. Tested by matmul_test.cc (operands of every shape) and by the tests of every emitter that uses it.
#ifndef TESSERA_CODEGEN_EMIT_EPILOGUE_H_
#define TESSERA_CODEGEN_EMIT_EPILOGUE_H_

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "codegen/emit/kernel_builder.h"
#include "codegen/plan.h"
#include "graph/graph.h"

namespace tessera {

// Where an operand of the epilogue lies when the output is walked as rows × columns.
struct EpilogueOperand {
  // One term of the element number: (row / period % extent) * stride; extent 0: no remainder is needed.
  struct RowTerm {
    int64_t period = 1, extent = 1, stride = 0;
  };
  DType dtype = DType::kF32;
  std::vector<RowTerm> rows;   // empty: the same for all rows
  bool along_columns = false;  // consecutive along a row; otherwise the same for the whole row
  bool elementwise = false;    // one element for each of the output's, in its order
  int64_t pitch = 0;           // elementwise: elements from one row to the next
};

class TileEpilogue {
 public:
  // The epilogue of `node`, whose op computes its first output in `type`; the node may have none. The output's last
  // `column_dims` dimensions are the columns.
  TileEpilogue(const Graph& graph, const Node& node, int column_dims = 1);
  // The same without a graph. `epilogue` may be nullptr.
  TileEpilogue(DType raw, const Shape& output, const Epilogue* epilogue, const std::vector<TensorType>& operands,
               int column_dims = 1);
  // Rows of the output and of elementwise operands lie as the builder says that planes do.
  void UsePitches(const Node& node, const PlanBuilder& builder);

  // The same, but where it begins by adding an i32 operand that all rows share (a bias, what a zero point adds), that
  // is left out and Start gives it: for emitters that hold sums from their first product to their last.
  TileEpilogue WithStart() const;
  int start() const { return start_; }  // the operand, or -1
  bool has_start() const { return start_ >= 0; }

  // With more than one dimension of columns: is every operand walked evenly along them?
  bool even() const { return even_; }
  // Are elements of the operands and the output whole bytes?
  bool bytewise() const;
  // Columns, a power of two up to 16 bytes of f32 or of the output, that may be stored at once where rows and `args`,
  // the epilogue's operands and output, start at multiples of their size; 1 otherwise.
  int VectorWidth(std::span<const StepArg> args) const;
  int64_t columns() const { return columns_; }
  int64_t pitch() const { return pitch_; }  // of the output: elements from one row to the next
  DType dtype() const { return dtype_; }
  const Body& body() const { return body_; }
  const std::vector<EpilogueOperand>& operands() const { return operands_; }
  // Is every operand the same for all rows (a bias and a scale for each column, scalars)?
  bool by_column() const;
  // Arguments that a kernel has for it: the operands and the output.
  int num_args() const { return static_cast<int>(operands_.size()) + 1; }
  // Instructions per vector of results, for estimates and for choosing between straight and rolled code.
  int cost() const;
  // Everything that the code depends on.
  std::string Key() const;
  // Adds the operands, then the output, to the arguments of `step`, and the pairs that may share memory.
  void AddArguments(const Node& node, PlanBuilder& builder, PlanStep& step) const;

 private:
  Body body_;  // empty: the result as it is
  DType raw_ = DType::kF32, dtype_ = DType::kF32;
  int64_t columns_ = 1, pitch_ = 1;
  bool even_ = true;
  std::vector<EpilogueOperand> operands_;
  int start_ = -1;  // the operand that sums start with
};

class EpilogueEmitter {
 public:
  // `first_arg`: the kernel's argument that is the epilogue's first operand, or the output when there is none. Loaded
  // operands are remembered, so use one emitter only where its earlier calls dominate the later ones. Rows and columns
  // are told apart by identity: pass the same IrValue for the same place.
  EpilogueEmitter(KernelBuilder& b, const TileEpilogue& epilogue, int first_arg)
      : b_(b), epilogue_(epilogue), first_arg_(first_arg) {}

  // What sums of columns [column, column + lanes) start with: zeros, or the operand that WithStart found.
  IrValue Start(DType type, int lanes, IrValue column, IrValue mask = nullptr);
  // The epilogue's result for `value`, which holds the op's results at `row`, columns [column, column + lanes).
  IrValue Apply(IrValue value, IrValue row, IrValue column, IrValue mask = nullptr);
  // The same where the lanes of `value` run over rows and all are of one column, for an epilogue that is by_column():
  // its operands are scalars here.
  IrValue ApplyToColumn(IrValue value, IrValue column);
  // Loads what the operands have at `row`, columns [column, column + lanes), for an Apply there that comes later.
  void Fetch(int lanes, IrValue row, IrValue column);
  // Apply, then store at the same place of the output. Lanes outside `mask` are neither read nor written.
  void Store(IrValue value, IrValue row, IrValue column, IrValue mask = nullptr);

 private:
  IrValue RowOffset(int operand, IrValue row);
  IrValue LoadOperand(int operand, int lanes, IrValue row, IrValue column, IrValue mask);

  KernelBuilder& b_;
  const TileEpilogue& epilogue_;
  const int first_arg_;
  std::map<std::pair<int, IrValue>, IrValue> row_offset_;
  std::map<std::pair<int, std::pair<IrValue, IrValue>>, IrValue> loaded_;
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_EPILOGUE_H_
