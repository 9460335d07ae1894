// unsigned_integers: i8 activations as u8, 128 higher, which stand for the same reals with a zero point 128 higher.
//
//   %q: i8 = quantize(%x, %s, %z)               %u: u8 = quantize(%x, %s, %z + 128)
//   %p: i8 = max_pool(%q)                ->     %v: u8 = max_pool(%u)
//   … what reads %p as integers                 … reads %v
//
// UnsignedIntegers makes the u8 form of an i8 value where that is cheapest: at the quantize that makes it, through what
// moves it, else by an xor of its own; what dequantises the i8 value reads the u8 one instead, so that the old one
// usually disappears. SignedIntegers is the way back, for the second operand of a product; it takes what makes a value
// along only where nobody else reads that. Exact. Tested by use_integers_test.cc.
#ifndef TESSERA_GRAPH_PASSES_UNSIGNED_INTEGERS_H_
#define TESSERA_GRAPH_PASSES_UNSIGNED_INTEGERS_H_

#include <map>
#include <string>

#include "graph/graph.h"
#include "graph/passes/rewriter.h"

namespace tessera {

inline constexpr int64_t kUnsignedOffset = 128;

class UnsignedIntegers {
 public:
  explicit UnsignedIntegers(Rewriter& r) : UnsignedIntegers(r, DType::kU8) {}

  // The u8 form of an i8 value; a u8 value itself. kNone after an error of the rewriter.
  ValueId Of(ValueId id) { return Make(id, 0); }

 protected:
  UnsignedIntegers(Rewriter& r, DType to) : r_(r), to_(to) {}

 private:
  ValueId Make(ValueId id, int depth);
  ValueId Requantized(NodeId maker);
  ValueId Moved(NodeId maker, int depth);
  ValueId Shifted(ValueId id);
  void ReadInstead(ValueId from, ValueId to);
  // What all numbers grow by.
  int64_t offset() const { return to_ == DType::kU8 ? kUnsignedOffset : -kUnsignedOffset; }
  std::string Name(const std::string& of) const { return of + (to_ == DType::kU8 ? ".unsigned" : ".signed"); }

  Rewriter& r_;
  const DType to_;
  std::map<ValueId, ValueId> made_;
};

// The same with the types exchanged: Of is the i8 form of a u8 value, 128 lower.
class SignedIntegers : public UnsignedIntegers {
 public:
  explicit SignedIntegers(Rewriter& r) : UnsignedIntegers(r, DType::kI8) {}
};

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_UNSIGNED_INTEGERS_H_
