// mask_picture: an attribute as a small picture: where a tensor is kept, and how densely.
//
//   MaskPicture picture = DrawMask(attribute, 96);
//   picture.DataUri();                 // "data:image/bmp;base64,…", for <img src=…>
//
// The tensor is shown as the matrix [first extent, rest] (pattern.h); where it has more rows or columns than the
// picture, each pixel is the share kept in its rectangle. Values only. Tested by mask_picture_test.cc.
#ifndef TESSERA_TOOLS_COMMON_MASK_PICTURE_H_
#define TESSERA_TOOLS_COMMON_MASK_PICTURE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tesa/attribute.h"

namespace tessera {

struct MaskPicture {
  int width = 0, height = 0;
  std::vector<uint8_t> share;  // row-major; 0: all pruned, 255: all kept

  // A Windows bitmap of 256 colours, from paper (pruned) to ink (kept): the simplest form that every browser shows.
  std::string DataUri() const;
};

// At most `max_side` pixels in each direction; a tensor without elements has no pixels.
MaskPicture DrawMask(const Attribute& attribute, int max_side);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_MASK_PICTURE_H_
