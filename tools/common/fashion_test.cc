#include "tools/common/fashion.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace tessera {
namespace {

TEST(FashionTest, ReadsImagesAndLabels) {
  const StatusOr<FashionData> data = ReadFashion(kFashionFolder, FashionSplit::kTest, 0, 10000);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->images.shape(), Shape({10000, 1, 28, 28}));
  // A thousand images of each class; the first is an ankle boot.
  for (int label = 0; label < 10; ++label) EXPECT_EQ(std::count(data->labels.begin(), data->labels.end(), label), 1000);
  EXPECT_EQ(data->labels[0], 9);
  const auto pixels = data->images.data<float>();
  EXPECT_EQ(*std::min_element(pixels.begin(), pixels.end()), 0.0f);
  EXPECT_EQ(*std::max_element(pixels.begin(), pixels.end()), 1.0f);
}

TEST(FashionTest, APartIsThatOfTheWhole) {
  const FashionData whole = *ReadFashion(kFashionFolder, FashionSplit::kTrain, 0, 300);
  const FashionData part = *ReadFashion(kFashionFolder, FashionSplit::kTrain, 123, 10);
  for (int64_t k = 0; k < part.images.num_elements(); ++k) {
    ASSERT_EQ(part.images.Get(k), whole.images.Get(123 * 784 + k));
  }
  for (size_t k = 0; k < 10; ++k) EXPECT_EQ(part.labels[k], whole.labels[123 + k]);
}

TEST(FashionTest, SaysWhatIsMissing) {
  const Status missing = ReadFashion("/nonexistent", FashionSplit::kTest, 0, 1).status();
  EXPECT_EQ(missing.code(), ErrorCode::kFileNotFound);
  EXPECT_NE(missing.message().find("apt-get install dataset-fashion-mnist"), std::string::npos);
  EXPECT_EQ(ReadFashion(kFashionFolder, FashionSplit::kTest, 9999, 2).status().code(), ErrorCode::kUsageInvalid);
}

}  // namespace
}  // namespace tessera
