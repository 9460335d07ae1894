// Fashion-MNIST from Debian's package dataset-fashion-mnist: gzipped IDX files, read as images and labels.
//
//   ASSIGN_OR_RETURN(FashionData data, ReadFashion(kFashionFolder, FashionSplit::kTest, 0, 10000));
//   data.images.shape() == Shape({10000, 1, 28, 28});       // f32, pixel / 255, as the networks of models/zoo want it
//
// Files are hostile input: sizes are checked against what was asked for. Thread-safe. Tested by fashion_test.cc.
#ifndef TESSERA_TOOLS_COMMON_FASHION_H_
#define TESSERA_TOOLS_COMMON_FASHION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "tesa/tensor.h"

namespace tessera {

inline constexpr char kFashionFolder[] = "/usr/share/datasets/fashion-mnist";

enum class FashionSplit : uint8_t { kTrain, kTest };  // 60,000 and 10,000

struct FashionData {
  Tensor images;  // f32 [count, 1, 28, 28]
  std::vector<uint8_t> labels;
};

// Images first … first + count - 1. TES-1001 names the package to install.
StatusOr<FashionData> ReadFashion(const std::string& folder, FashionSplit split, int64_t first, int64_t count);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_FASHION_H_
