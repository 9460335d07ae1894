// bit_flow: how value ranges and demanded bits cross one Compute. Generic over all ops: it walks stages and bodies.
//
//   forward    x in [0, 15], y in [-8, 7]        =>  x * y in [-120, 105]
//   range      clip(x, 0, 15) is all that is read =>  x may be stored saturated to [0, 15]
//   bits       and(x, 0x0f0) is all that is read  =>  the other bits of x may hold anything
//
// Three analyses, each sound by itself, and in this order together (bits.h): saturating a value keeps it within its
// range, so range rules may use the ranges of other operands; wrong high bits may leave the range, so bit rules use
// nothing but literals and constant tensors. Integers beyond 2^53 count as unknown. Float ranges are widened outward by
// 1e-6 at each step, which covers the rounding of f32 and f64; every float may also be NaN. Pure functions. Tested by
// bits_test.cc on random integer graphs.
#ifndef TESSERA_PROPAGATE_BITS_BIT_FLOW_H_
#define TESSERA_PROPAGATE_BITS_BIT_FLOW_H_

#include <cstdint>
#include <span>
#include <vector>

#include "graph/compute.h"
#include "tesa/known.h"
#include "tesa/tensor.h"

namespace tessera {

// What holds of all elements of a tensor.
struct ValueFact {
  Interval range;
  int zeros = 0;  // integers: so many low bits are 0
  friend bool operator==(const ValueFact&, const ValueFact&) = default;
};

// All values of a type; unbounded above for 64-bit integers, both ways for floats.
Interval TypeRange(DType type);
ValueFact FactOf(const Tensor& tensor);
inline bool IsEmpty(const Interval& r) { return r.low > r.high; }
inline constexpr Interval kEmptyInterval = {std::numeric_limits<double>::infinity(),
                                            -std::numeric_limits<double>::infinity()};
Interval Hull(const Interval& a, const Interval& b);

class BitFlow {
 public:
  // `constants`: the data of inputs that the graph holds, nullptr for others; as many as compute.inputs.
  BitFlow(const Compute& compute, std::vector<const Tensor*> constants);

  // Of each output, from those of each input. Keeps what it found for NeededRanges.
  std::vector<ValueFact> Forward(std::span<const ValueFact> inputs);

  // For each input an interval such that values outside may be replaced by its nearest bound, when each output may be
  // by that of `outputs`. Empty: not read by anything needed. After Forward.
  std::vector<Interval> NeededRanges(std::span<const Interval> outputs) const;

  // For each input the bits of its storage that can change the bits `outputs` of the outputs. Bool and float: 0 or ~0.
  std::vector<uint64_t> NeededBits(std::span<const uint64_t> outputs) const;

 private:
  struct StageFacts {
    std::vector<ValueFact> reads, body, finish_reads, finish;  // per read, per instruction
    ValueFact combined;
  };
  ValueFact Read(const Stage& stage, const Access& access, bool fill_never_wins) const;
  std::vector<ValueFact> EvaluateBody(const Body& body, std::span<const ValueFact> inputs,
                                      std::span<const int64_t> extents) const;
  ValueFact Combine(const Stage& stage, const StageFacts& facts) const;
  bool SumOfProducts(const Stage& stage, const StageFacts& facts, Interval& sum) const;
  std::vector<Interval> BodyRanges(const Body& body, std::span<const ValueFact> facts, const Interval& need) const;
  std::vector<uint64_t> BodyBits(const Body& body, const std::vector<Access>& reads, int first_read,
                                 uint64_t need) const;
  const Tensor* ConstantOf(BufferRef buffer) const;

  const Compute& compute_;
  std::vector<const Tensor*> constants_;
  std::vector<StageFacts> stages_;
  std::vector<ValueFact> buffers_[4];  // by BufferKind
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_BITS_BIT_FLOW_H_
