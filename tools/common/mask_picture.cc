#include "tools/common/mask_picture.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/escaping.h"
#include "tesa/cells.h"
#include "tesa/pattern.h"

namespace tessera {
namespace {

void AppendLittle(std::string* out, uint32_t value, int bytes) {
  for (int k = 0; k < bytes; ++k) *out += static_cast<char>(value >> (8 * k) & 0xff);
}

}  // namespace

MaskPicture DrawMask(const Attribute& attribute, int max_side) {
  const auto [rows, columns] = MatrixView(attribute.shape());
  MaskPicture picture;
  if (rows == 0 || columns == 0) return picture;
  picture.height = static_cast<int>(std::min<int64_t>(rows, max_side));
  picture.width = static_cast<int>(std::min<int64_t>(columns, max_side));
  const Cells<uint8_t> bits = BitCells(attribute).Reshaped(Shape{rows, columns});
  const int64_t column_classes = bits.axes[1].num_classes();
  std::vector<int64_t> kept(static_cast<size_t>(column_classes));
  for (int y = 0; y < picture.height; ++y) {
    // Kept elements of each class of columns in this band of rows, then in each pixel's columns.
    const int64_t top = rows * y / picture.height, bottom = rows * (y + 1) / picture.height;
    std::fill(kept.begin(), kept.end(), 0);
    for (int64_t row = top; row < bottom; ++row) {
      const uint8_t* line = bits.values.data() + bits.axes[0][row] * column_classes;
      for (int64_t c = 0; c < column_classes; ++c) kept[static_cast<size_t>(c)] += line[c] != 0;
    }
    for (int x = 0; x < picture.width; ++x) {
      const int64_t left = columns * x / picture.width, right = columns * (x + 1) / picture.width;
      int64_t sum = 0;
      for (int64_t column = left; column < right; ++column) sum += kept[static_cast<size_t>(bits.axes[1][column])];
      const double share = static_cast<double>(sum) / static_cast<double>((bottom - top) * (right - left));
      // Only what is wholly pruned or wholly kept looks so.
      const double level = share == 0 || share == 1 ? share * 255 : std::clamp(share * 255, 1.0, 254.0);
      picture.share.push_back(static_cast<uint8_t>(std::lround(level)));
    }
  }
  return picture;
}

std::string MaskPicture::DataUri() const {
  constexpr uint32_t kHeaders = 14 + 40, kPalette = 256 * 4;
  const uint32_t pitch = (static_cast<uint32_t>(width) + 3) / 4 * 4;
  const uint32_t pixels = pitch * static_cast<uint32_t>(height);
  std::string file = "BM";
  AppendLittle(&file, kHeaders + kPalette + pixels, 4);
  AppendLittle(&file, 0, 4);
  AppendLittle(&file, kHeaders + kPalette, 4);
  AppendLittle(&file, 40, 4);
  AppendLittle(&file, static_cast<uint32_t>(width), 4);
  AppendLittle(&file, static_cast<uint32_t>(height), 4);
  AppendLittle(&file, 1, 2);  // planes
  AppendLittle(&file, 8, 2);  // bits per pixel
  AppendLittle(&file, 0, 4);  // uncompressed
  AppendLittle(&file, pixels, 4);
  for (int k = 0; k < 2; ++k) AppendLittle(&file, 2835, 4);  // 72 dots per inch
  AppendLittle(&file, 256, 4);
  AppendLittle(&file, 0, 4);
  for (int level = 0; level < 256; ++level) {
    // From a warm paper to a deep blue; blue, green, red, 0.
    const auto between = [level](int paper, int ink) { return static_cast<char>(paper + (ink - paper) * level / 255); };
    file += {between(0xe6, 0x6b), between(0xf0, 0x3a), between(0xf4, 0x16), '\0'};
  }
  for (int y = height - 1; y >= 0; --y) {  // bottom-up
    for (uint32_t x = 0; x < pitch; ++x) {
      file += x < static_cast<uint32_t>(width) ? static_cast<char>(share[static_cast<size_t>(y) * width + x]) : '\0';
    }
  }
  return "data:image/bmp;base64," + absl::Base64Escape(file);
}

}  // namespace tessera
