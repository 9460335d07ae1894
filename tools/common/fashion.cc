#include "tools/common/fashion.h"

#include <zlib.h>

#include <filesystem>
#include <memory>

namespace tessera {
namespace {

constexpr int64_t kPixels = 28 * 28;

// `count` items of `size` bytes from item `first` of the gzipped IDX file, whose dimensions are those expected.
StatusOr<std::vector<uint8_t>> ReadIdx(const std::string& path, const std::vector<uint32_t>& dims, int64_t first,
                                       int64_t count) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return Error(ErrorCode::kFileNotFound, path,
                 ": no such file; apt-get install dataset-fashion-mnist, or --data=FOLDER");
  }
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (file == nullptr) return Error(ErrorCode::kFileUnreadable, path, ": cannot be opened");
  // Two zero bytes, 8 for unsigned bytes, the number of dimensions; then these, big-endian.
  std::vector<uint8_t> header(4 + 4 * dims.size());
  if (gzread(file.get(), header.data(), static_cast<unsigned>(header.size())) != static_cast<int>(header.size())) {
    return Error(ErrorCode::kFileTruncated, path, ": expected ", header.size(), " bytes of an IDX header");
  }
  if (header[0] != 0 || header[1] != 0 || header[2] != 8 || header[3] != dims.size()) {
    return Error(ErrorCode::kFileCorrupt, path, ": expected an IDX file of unsigned bytes with ", dims.size(),
                 " dimensions");
  }
  int64_t size = 1;
  for (size_t d = 0; d < dims.size(); ++d) {
    uint32_t found = 0;
    for (size_t k = 0; k < 4; ++k) found = found << 8 | header[4 + 4 * d + k];
    if (found != dims[d]) {
      return Error(ErrorCode::kFileCorrupt, path, ": expected extent ", dims[d], " of dimension ", d, ", found ",
                   found);
    }
    if (d > 0) size *= dims[d];
  }
  if (first < 0 || count < 0 || first + count > dims[0]) {
    return Error(ErrorCode::kUsageInvalid, path, " holds ", dims[0], " items; found a request for ", first, " … ",
                 first + count - 1);
  }
  std::vector<uint8_t> data(static_cast<size_t>(size * count));
  if (gzseek(file.get(), static_cast<z_off_t>(static_cast<int64_t>(header.size()) + size * first), SEEK_SET) < 0 ||
      gzread(file.get(), data.data(), static_cast<unsigned>(data.size())) != static_cast<int>(data.size())) {
    return Error(ErrorCode::kFileTruncated, path, ": ends before item ", first + count);
  }
  return data;
}

}  // namespace

StatusOr<FashionData> ReadFashion(const std::string& folder, FashionSplit split, int64_t first, int64_t count) {
  const bool train = split == FashionSplit::kTrain;
  const uint32_t items = train ? 60000 : 10000;
  const std::string prefix = folder + (train ? "/train-" : "/t10k-");
  FashionData data;
  ASSIGN_OR_RETURN(const std::vector<uint8_t> pixels,
                   ReadIdx(prefix + "images-idx3-ubyte.gz", {items, 28, 28}, first, count));
  ASSIGN_OR_RETURN(data.labels, ReadIdx(prefix + "labels-idx1-ubyte.gz", {items}, first, count));
  data.images = Tensor(DType::kF32, {count, 1, 28, 28});
  const std::span<float> images = data.images.mutable_data<float>();
  for (int64_t k = 0; k < count * kPixels; ++k) images[k] = static_cast<float>(pixels[k]) / 255.0f;
  return data;
}

}  // namespace tessera
