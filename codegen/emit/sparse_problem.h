// SparseProblem: a product with constant, pruned weights as the emitters of every target see it, and how a node becomes
// one.
//
//   Y[row, column] = epilogue(sum over kept (row, k) of W[row, k] * X[k, column])
//
// W's rows are the output's features, columns are tokens or pixels. In x · W and in a channels-last 1x1 convolution X
// and Y lie column by column, in W · x row by row. An element of the depth is a *unit* (scattered_stream.h): one
// number, or several bytes that one instruction multiplies. Values only. Tested by sparse_matmul_test.cc and by
// gpu/gpu_scattered_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_SPARSE_PROBLEM_H_
#define TESSERA_CODEGEN_EMIT_SPARSE_PROBLEM_H_

#include <memory>
#include <optional>
#include <string>

#include "codegen/emit/panels.h"
#include "codegen/emit/scattered_stream.h"
#include "codegen/target.h"
#include "graph/graph.h"
#include "tesa/bitmap.h"
#include "tesa/tensor.h"

namespace tessera {

// Some of W's kept elements: all, or one part's.
struct SparseShare {
  std::shared_ptr<const Bitmap> kept;               // elements of W as it lies
  std::shared_ptr<const ScatteredPattern> pattern;  // units that hold one of them
};

struct SparseProblem {
  SparseUnit unit = SparseUnit::kF32;
  SparseShare all;
  ValueId weights = ValueId::kNone, x = ValueId::kNone;
  int64_t row_step = 1, depth_step = 1;  // of W where it lies, in elements
  PanelSource source;                    // X, in elements; one matrix
  bool by_columns = true;                // Y lies [columns][rows]

  int64_t rows() const { return all.pattern->rows; }
  int64_t depth() const { return all.pattern->depth; }  // units
  int64_t columns() const { return source.columns; }
  int64_t panels() const { return (columns() + kPanelLanes - 1) / kPanelLanes; }
  // Bytes of all panels.
  int64_t panel_bytes() const { return panels() * depth() * kPanelLanes * 4; }
  // The share that holds `kept`.
  SparseShare Share(Bitmap kept) const;
};

// Of a matmul with one constant operand of two dimensions, or a channels-last 1x1 convolution, f32 or u8 · i8, whose
// weights declare pruned elements; on GPUs also f16 and bf16, whose units are f32, and i8 · i8. Otherwise nullopt, and
// *why says what was found.
std::optional<SparseProblem> ReadSparseProblem(const Graph& graph, const Node& node, const Target& target,
                                               std::string* why);

// "scattered, 10 % kept", and of units where they hold several elements.
std::string DescribeKept(const SparseProblem& problem);

// The units of a share's weights as 32 bits; what it does not keep is zero. Borrows all that it is made of.
class UnitReader {
 public:
  UnitReader(const SparseProblem& problem, const SparseShare& share, const Tensor& weights);
  uint32_t operator()(int64_t row, int64_t unit) const;

 private:
  const SparseUnit unit_;
  const int64_t depth_, row_step_, depth_step_;  // elements
  const Bitmap& kept_;
  const Tensor& weights_;
  const std::byte* const data_;
};

// Fewer columns than this are another matter: a product with a vector is bound by the bytes of W, and most of a panel
// would be padding.
inline constexpr int64_t kMinSparseColumns = 8;

// Of the dimensions of the node's result, how many are the columns when it is walked as rows × columns.
int SparseColumnDims(const Graph& graph, const Node& node);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_SPARSE_PROBLEM_H_
