// DescribeSet: a set of elements in a few words for people.
//
//   DescribeSet(dead) == "columns {0, 4-7}"        // of a matrix
//   DescribeSet(dead) == "axis 1 {3}"              // of a tensor of another rank
//   DescribeSet(dead) == "12 of 96 elements"       // no index set along one axis
//
// Tested by known_test.cc and needed_test.cc.
#ifndef TESSERA_TESA_DESCRIBE_H_
#define TESSERA_TESA_DESCRIBE_H_

#include <cstdint>
#include <span>
#include <string>

#include "tesa/cells.h"

namespace tessera {

// Of cells of 0 and 1, those of 1.
std::string DescribeSet(const Cells<uint8_t>& set);
// "{0, 4-7}": ascending indices, runs joined; after `most` runs "… (31 in all)".
std::string DescribeIndices(std::span<const int64_t> indices, int most = 8);

}  // namespace tessera

#endif  // TESSERA_TESA_DESCRIBE_H_
