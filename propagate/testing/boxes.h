// boxes: ops as small lambdas, of which scrambling has to find the rule: each a few loops, none known to the op table.
//
//   BlackBox box = ConvBox({.stride = 2, .pad = 1}, {2, 3, 7, 8}, {4, 3, 3, 3});
//   LearnRule(box)  ==  out0[n,o,y,x] <- in0[n,c,2*y+i-1,2*x+j-1] unless in1[o,c,i,j] = 0, …
//
// All can be resized. For tests of propagate. Tested by scramble_test.cc, which learns each of them.
#ifndef TESSERA_PROPAGATE_TESTING_BOXES_H_
#define TESSERA_PROPAGATE_TESTING_BOXES_H_

#include <functional>
#include <string>
#include <vector>

#include "propagate/rule/black_box.h"

namespace tessera {

// The output shape for input shapes; an error where there is none.
using BoxShape = std::function<StatusOr<Shape>(const std::vector<Shape>& in)>;
// Fills one f32 output from f32 inputs (an integer input's values lie in `f`, too).
using BoxRun = std::function<void(const std::vector<const RefTensor*>& in, RefTensor& out)>;

// A box of one output; inputs of type f32 unless `types` says otherwise.
BlackBox MakeBox(std::string name, std::vector<Shape> inputs, BoxShape shape, BoxRun run,
                 std::vector<DType> types = {});
// out[k] = f(in[k]).
BlackBox MapBox(std::string name, Shape shape, std::function<double(double)> f);
// out[k] = f(a[k], b[k]), with NumPy broadcasting.
BlackBox BinaryBox(std::string name, Shape a, Shape b, std::function<double(double, double)> f);

BlackBox MatmulBox(Shape a, Shape b);
struct ConvOf {
  int64_t stride = 1, dilation = 1, pad = 0, groups = 1;
};
BlackBox ConvBox(ConvOf conv, Shape x, Shape w);  // x [N,C,H,W], w [O,C/groups,h,w]
// Largest element of k x k windows.
BlackBox MaxPoolBox(int64_t k, int64_t stride, Shape x);
BlackBox SoftmaxBox(Shape x);                                           // along the last axis
BlackBox LayerNormBox(Shape x);                                         // of the last axis, with scale and bias
BlackBox SumBox(Shape x);                                               // over axis 1 of 2
BlackBox ProductBox(Shape x);                                           // over axis 1 of 2
BlackBox TransposeBox(Shape x);                                         // of 2 axes
BlackBox ConcatBox(std::vector<Shape> parts);                           // along axis 0 of 2
BlackBox PadBox(int64_t before, int64_t after, Shape x);                // of 1 axis, with 0
BlackBox ReflectBox(int64_t pad, Shape x);                              // of 1 axis
BlackBox SliceBox(int64_t start, int64_t step, int64_t size, Shape x);  // of axis 0 of 2
BlackBox ReshapeBox(Shape from, Shape to);                              // exists at these shapes only
BlackBox GatherBox(Shape x, Shape indices);                             // of axis 0 of 2 by a vector
BlackBox WhereBox(Shape shape);
BlackBox RollBox(int64_t shift, Shape x);            // of 1 axis
BlackBox CumsumBox(Shape x);                         // along axis 1 of 2
BlackBox BandedBox(int64_t band, Shape a, Shape b);  // a . b of which only |i - k| <= band counts
BlackBox CheckerboardBox(Shape shape);               // a, and b added where i + j is even

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_TESTING_BOXES_H_
