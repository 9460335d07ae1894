// Tests pictures of masks: one pixel an element where it fits, shares where it does not, and a bitmap that a browser's
// decoder would take.
#include "tools/common/mask_picture.h"

#include <numeric>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

TEST(MaskPictureTest, SmallTensorsShowEveryElement) {
  const MaskPicture picture = DrawMask(Attribute::FromKept({2, 3}, std::vector<uint8_t>{1, 0, 1, 0, 0, 1}, 32), 96);
  EXPECT_EQ(3, picture.width);
  EXPECT_EQ(2, picture.height);
  EXPECT_EQ((std::vector<uint8_t>{255, 0, 255, 0, 0, 255}), picture.share);
}

TEST(MaskPictureTest, LargeTensorsShowShares) {
  // The left half is kept; 7 does not divide 50, so a middle pixel is in between.
  std::vector<uint8_t> kept(100 * 50);
  for (size_t i = 0; i < kept.size(); ++i) kept[i] = i % 50 < 25;
  const MaskPicture picture = DrawMask(Attribute::FromKept({100, 50}, kept, 8), 7);
  ASSERT_EQ(7, picture.width);
  ASSERT_EQ(7, picture.height);
  for (int y = 0; y < 7; ++y) {
    EXPECT_EQ(255, picture.share[static_cast<size_t>(y) * 7]);
    EXPECT_EQ(0, picture.share[static_cast<size_t>(y) * 7 + 6]);
    EXPECT_NEAR(128, picture.share[static_cast<size_t>(y) * 7 + 3], 30);
  }
}

TEST(MaskPictureTest, OneKeptElementNeverLooksPruned) {
  std::vector<uint8_t> kept(1000 * 1000);
  kept[123456] = 1;
  const MaskPicture picture = DrawMask(Attribute::FromKept({1000, 1000}, kept, 32), 10);
  EXPECT_EQ(1, std::accumulate(picture.share.begin(), picture.share.end(), 0));
}

TEST(MaskPictureTest, BlocksAreDrawnFromTheirGrid) {
  Bitmap cells(512 * 512);
  cells.Set(0, true);
  const MaskPicture picture = DrawMask(Attribute::FromGrid({16384, 16384}, {32, 32}, cells, 32), 512);
  EXPECT_EQ(255, picture.share[0]);
  EXPECT_EQ(255, std::accumulate(picture.share.begin(), picture.share.end(), 0));
}

TEST(MaskPictureTest, TheBitmapHasItsHeadersAndRowsBottomUp) {
  const MaskPicture picture = DrawMask(Attribute::FromKept({2, 3}, std::vector<uint8_t>{1, 0, 1, 0, 0, 1}, 32), 96);
  const std::string uri = picture.DataUri(), head = "data:image/bmp;base64,";
  ASSERT_EQ(0u, uri.find(head));
  std::string file;
  ASSERT_TRUE(absl::Base64Unescape(uri.substr(head.size()), &file));
  ASSERT_EQ(14u + 40 + 1024 + 2 * 4, file.size());
  const auto number = [&](size_t at) {
    uint32_t value = 0;
    for (size_t k = 4; k-- > 0;) value = value << 8 | static_cast<uint8_t>(file[at + k]);
    return value;
  };
  EXPECT_EQ("BM", file.substr(0, 2));
  EXPECT_EQ(file.size(), number(2));
  EXPECT_EQ(14u + 40 + 1024, number(10));
  EXPECT_EQ(3u, number(18));
  EXPECT_EQ(2u, number(22));
  EXPECT_EQ(std::string("\x00\x00\xff\x00", 4), file.substr(number(10), 4));  // the second row first
  EXPECT_EQ(std::string("\xff\x00\xff\x00", 4), file.substr(number(10) + 4, 4));
}

TEST(MaskPictureTest, NothingToShow) { EXPECT_EQ(0, DrawMask(Attribute::Dense({0, 3}, 32), 96).width); }

}  // namespace
}  // namespace tessera
