// Attribute (TeSA, Tensor-with-Sparsity-Attribute): for every element of a tensor its bit width, 0 = pruned.
//
// First form: the declared attribute, what the user's model says. Tested by attribute_test.cc.
#ifndef TESSERA_TESA_ATTRIBUTE_H_
#define TESSERA_TESA_ATTRIBUTE_H_

#include <cstdint>
#include <vector>

#include "tesa/types.h"

namespace tessera {

class Attribute {
 public:
  friend bool operator==(const Attribute&, const Attribute&) = default;
};

}  // namespace tessera

#endif  // TESSERA_TESA_ATTRIBUTE_H_
