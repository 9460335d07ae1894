// Compute: what an op does, as loops in data. From it come the generic kernels of every target and the exact rules of
// attribute propagation; a naive `reference`, written separately, is what it is tested against.
//
//   matmul  C[m,n] = sum_k A[m,k] * B[k,n]          one Stage:
//     extents {M, N, K}, parallel_rank 2            the first two axes index the result, k is combined
//     reads   A[m,k], B[k,n]                        affine maps from the axes
//     body    (a, b) { return mul(a, b) }           the value at one point
//     combiner Add                                  how values along k join
//     write   C[m,n]
//
// Meaning of a Stage, for each point p of the parallel axes:
//     acc = combine over the reduced axes q of body(reads at (p, q))   (just body(...) without a combiner)
//     buffer[write at p] = finish(acc, finish_reads at p)              (just acc when finish is empty)
// Stages run in order; a later one may read what an earlier one wrote. Each element of an output is written exactly
// once over all stages; a temporary is written before it is read. Reduced sums have no defined order of addition.
//
// An access can view its buffer under another shape of as many elements (row-major), which is how reshapes and shuffles
// are affine; it can add the value of an earlier, integer read to an index (gather); and when guarded it yields `fill`
// wherever an index is out of range (padding). Values only. Tested by compute_test.cc and, for each op, by ops_test.cc.
#ifndef TESSERA_GRAPH_COMPUTE_H_
#define TESSERA_GRAPH_COMPUTE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/body.h"
#include "tesa/tensor.h"
#include "tesa/types.h"

namespace tessera {

enum class BufferKind : uint8_t { kInput, kOutput, kTemp, kTable };

// Which buffer: input 2, output 0, temporary 1, or constant table 0 of the Compute.
struct BufferRef {
  BufferKind kind = BufferKind::kInput;
  int index = 0;
  friend bool operator==(const BufferRef&, const BufferRef&) = default;
};

// offset + sum(coefficient * axis) + (value of read `read` * read_scale, if read >= 0).
struct IndexExpr {
  struct Term {
    int axis = 0;
    int64_t coefficient = 1;
    friend bool operator==(const Term&, const Term&) = default;
  };
  int64_t offset = 0;
  std::vector<Term> terms;  // at most one per axis, in order of axis, no zero coefficient
  int read = -1;            // an earlier read of the same stage whose integer value is added
  int64_t read_scale = 1;
  friend bool operator==(const IndexExpr&, const IndexExpr&) = default;
};

// Shorthands for index expressions: Axis(2), Axis(2, stride, -pad), FixedIndex(0).
IndexExpr Axis(int axis, int64_t coefficient = 1, int64_t offset = 0);
IndexExpr FixedIndex(int64_t offset);
IndexExpr AxisPlus(IndexExpr expr, int axis, int64_t coefficient);  // expr + coefficient * axis

struct Access {
  BufferRef buffer = {};
  Shape view = {};                    // the shape under which the buffer is indexed; as many elements as the buffer has
  std::vector<IndexExpr> index = {};  // one per dimension of `view`
  bool guarded = false;               // out of range gives `fill`; when false every index is in range by construction
  double fill = 0;
  friend bool operator==(const Access&, const Access&) = default;
};

enum class Combiner : uint8_t { kNone, kAdd, kMul, kMax, kMin, kAnd, kOr };
std::string_view Name(Combiner combiner);
// The ScalarOp that joins two values (kAdd -> ScalarOp::kAdd …); not for kNone.
ScalarOp JoinOp(Combiner combiner);
// What an empty combination yields: 0, 1, -inf or the lowest integer, +inf or the highest, all ones, 0.
ScalarValue Identity(Combiner combiner, DType type);

struct Stage {
  std::string name;              // what the stage is, e.g. "row_max"; part of kernel names
  std::vector<int64_t> extents;  // parallel axes first, then the reduced ones
  int parallel_rank = 0;
  std::vector<Access> reads;  // the body's inputs; may use all axes
  Body body;                  // Index(k) is axis k
  Combiner combiner = Combiner::kNone;
  std::vector<Access> finish_reads;  // finish's inputs 1, 2, …; may use parallel axes only
  Body finish;                       // input 0 is the combined value; empty: stored as it is
  Access write;                      // parallel axes only, never guarded, one element per parallel point

  int rank() const { return static_cast<int>(extents.size()); }
  int64_t parallel_points() const;
  int64_t reduced_points() const;
  // The compute type of what is stored.
  DType result_type() const { return finish.empty() ? body.result_type() : finish.result_type(); }
  friend bool operator==(const Stage&, const Stage&) = default;
};

struct Compute {
  std::vector<TensorType> inputs, outputs, temps;
  std::vector<Tensor> tables;  // constants that index maps or bodies read (resize positions, reflected pads)
  std::vector<Stage> stages;

  TensorType BufferType(BufferRef ref) const;
  // Every invariant above that does not need the data: ranks, axes, views, types of reads, in-range maps where
  // unguarded.
  Status Verify() const;
  // Readable form, one stage a paragraph, for golden tests and `inspect`.
  std::string ToString() const;
};

// An access to all of `type` by axes first_axis, first_axis + 1, …: the plain row-major walk.
Access Elementwise(BufferRef buffer, const Shape& shape, int first_axis = 0);
// An access for NumPy broadcasting `shape` to a stage whose parallel axes have extents `target`.
Access Broadcast(BufferRef buffer, const Shape& shape, const Shape& target);

// A stage that maps `body` over `shape`, reading each access and writing output `out` in row-major order.
Stage MapStage(std::string name, const Shape& shape, std::vector<Access> reads, Body body, BufferRef out);

// A value as the reference evaluator holds it: floats in double, integers and bool in int64.
// Exactly one of f, i is in use, by the type.
struct RefTensor {
  TensorType type;
  std::vector<double> f;
  std::vector<int64_t> i;

  RefTensor() = default;
  explicit RefTensor(TensorType type);  // zeros
  static RefTensor From(const Tensor& tensor);
  // Rounds to the storage type.
  Tensor ToTensor() const;

  bool is_float() const { return IsFloat(type.dtype); }
  int64_t size() const { return type.shape.num_elements(); }
  ScalarValue Get(int64_t k) const { return is_float() ? ScalarValue{.f = f[k]} : ScalarValue{.i = i[k]}; }
  void Set(int64_t k, ScalarValue value);  // wraps integers to the storage type; floats stay as precise as they are
};

// Runs a Compute by plain loops. `outputs` are sized by the call.
void Evaluate(const Compute& compute, std::span<const RefTensor* const> inputs, std::vector<RefTensor>& outputs);

}  // namespace tessera

#endif  // TESSERA_GRAPH_COMPUTE_H_
