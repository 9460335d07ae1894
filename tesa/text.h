// Text forms of what a tensor is, and their parsers.
//
//   f32[1024,4096]                                          a type
//   tesa(block[32,32] kept 10%)                             an attribute, for people: pattern, share kept …
//   tesa(block[32,32] kept 10%, slack 4%, 8/32 bits)        … and, where they matter, slack and widths
//   tesa(layers 32: grid[32,32] 8x5a)                       an attribute, without loss: the layers of attribute.h
//   quant(scales=[0.5,0.25], zero_points=[0,3], axis=0)     quantisation parameters
//
// The lossless form lists layers `bits: view[…] grid[…] BITS … mask BITS` separated by `|`; view is left out where it
// is the tensor's shape, `mask` is the residual bitmap and `nm[axis,n,m] BITS` the n:m codes. BITS is the number of
// bits, `x`, and the bytes in hexadecimal, lowest bit first. A summary of one width and no slack can be parsed as well:
// it stands for a random attribute of that kind, which is what hand-written tests want. Parsers take a Scanner or a
// whole text, treat it as hostile, and say where it fails. Tested by text_test.cc.
#ifndef TESSERA_TESA_TEXT_H_
#define TESSERA_TESA_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "tesa/attribute.h"
#include "tesa/pattern.h"
#include "tesa/quant.h"
#include "tesa/scanner.h"
#include "tesa/types.h"

namespace tessera {

StatusOr<TensorType> ParseTensorType(Scanner& in);
StatusOr<TensorType> ParseTensorType(std::string_view text);

// "tesa(scattered kept 10%)"; widths are shown where they are not `dtype`'s own.
std::string Summary(const Attribute& attribute, DType dtype);
// "f32[1024,4096] tesa(block[32,32] kept 10%)"; the type alone for no attribute.
std::string Summary(const TensorType& type, const Attribute* attribute);
// "12.5%": two digits after the point at most.
std::string FormatPercent(double share);

// The lossless form. ParseAttribute of it gives an equal attribute with equal layers.
std::string ToText(const Attribute& attribute);
// Either form, for a tensor of `type`. A summary is drawn from `seed`.
StatusOr<Attribute> ParseAttribute(Scanner& in, const TensorType& type, uint64_t seed = 0);
StatusOr<Attribute> ParseAttribute(std::string_view text, const TensorType& type, uint64_t seed = 0);

std::string ToText(const QuantParams& params);
// Syntax only; CheckQuantParams says whether it fits a tensor.
StatusOr<QuantParams> ParseQuantParams(Scanner& in);
StatusOr<QuantParams> ParseQuantParams(std::string_view text);

}  // namespace tessera

#endif  // TESSERA_TESA_TEXT_H_
