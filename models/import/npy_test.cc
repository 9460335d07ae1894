#include "models/import/npy.h"

#include <gtest/gtest.h>

#include "tesa/random.h"

namespace tessera {
namespace {

// A version 1 file with this header and data.
std::string File(const std::string& header, const std::string& data, char version = 1) {
  std::string bytes = "\x93NUMPY";
  bytes += {version, '\0', static_cast<char>(header.size() & 0xFF), static_cast<char>(header.size() >> 8)};
  if (version > 1) bytes += std::string(2, '\0');
  return bytes + header + data;
}

TEST(NpyTest, RoundTripsEveryTypeThatNumpyHas) {
  Random random(1);
  for (DType type : {DType::kF64, DType::kF32, DType::kF16, DType::kI64, DType::kI32, DType::kI16, DType::kI8,
                     DType::kU64, DType::kU32, DType::kU16, DType::kU8, DType::kBool}) {
    for (const Shape& shape : {Shape(), Shape({0}), Shape({7}), Shape({3, 1, 5})}) {
      const Tensor tensor = RandomTensor(random, {type, shape});
      const std::string bytes = NpyBytes(tensor);
      EXPECT_EQ((bytes.size() - static_cast<size_t>(tensor.byte_size())) % 64, 0u);
      StatusOr<Tensor> back = ParseNpy(bytes, "t.npy");
      ASSERT_TRUE(back.ok()) << back.status();
      EXPECT_EQ(*back, tensor) << type << shape;
    }
  }
}

TEST(NpyTest, OtherTypesAreWrittenAsOnesThatHoldThem) {
  Random random(2);
  const Tensor bf16 = RandomTensor(random, {DType::kBF16, {5}});
  EXPECT_EQ(*ParseNpy(NpyBytes(bf16), "t"), bf16.Cast(DType::kF32));
  const Tensor i4 = RandomTensor(random, {DType::kI4, {5}});
  EXPECT_EQ(*ParseNpy(NpyBytes(i4), "t"), i4.Cast(DType::kI8));
}

TEST(NpyTest, FortranOrderBigEndianAndNewerVersions) {
  const std::string data("\0\1\0\2\0\3\0\4\0\5\0\6", 12);
  const std::string header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3)}\n";
  for (char version : {1, 2, 3}) {
    StatusOr<Tensor> tensor = ParseNpy(File(header, data, version), "t.npy");
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    EXPECT_EQ(*tensor, Tensor::FromVector<int16_t>({2, 3}, {1, 3, 5, 2, 4, 6}));
  }
}

TEST(NpyTest, BrokenFilesEachHaveTheirError) {
  const std::string ok = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n";
  const std::vector<std::tuple<std::string, ErrorCode, std::string>> cases = {
      {"", ErrorCode::kFormatUnknown, "not a NumPy file"},
      {"PK\3\4 an npz", ErrorCode::kFormatUnknown, "not a NumPy file"},
      {File(ok, "abcd").substr(0, 9), ErrorCode::kFileTruncated, "within its header"},
      {File(ok, "abcd").substr(0, 30), ErrorCode::kFileTruncated, "within its header"},
      {File(ok, "abc"), ErrorCode::kFileTruncated, "expected 4 bytes of f32[1]"},
      {File(ok, "abcde"), ErrorCode::kFileCorrupt, "found 5"},
      {File(ok, "abcd", 9), ErrorCode::kVersionUnsupported, "version 9"},
      {File("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", ""), ErrorCode::kTypeMismatch, "never read"},
      {File("{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", ""), ErrorCode::kTypeMismatch, "'<U4'"},
      {File("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", ""), ErrorCode::kTypeMismatch,
       "structured"},
      {File("{'descr': '<f4', 'shape': (1,)}", "abcd"), ErrorCode::kFileCorrupt, "lacks"},
      {File("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "abcd"), ErrorCode::kFileCorrupt, "no number"},
      {File("{'descr': '<f4', 'fortran_order': 7, 'shape': (1,)}", "abcd"), ErrorCode::kFileCorrupt, "neither"},
      {File("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", ""), ErrorCode::kFileCorrupt,
       "absurd"},
      {File("{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 999999999999)}", ""),
       ErrorCode::kLimitExceeded, ""},
      {File("{'descr': '<f4", ""), ErrorCode::kFileCorrupt, "does not end"},
      {File("{'evil': 1}", ""), ErrorCode::kFileCorrupt, "unknown key 'evil'"},
      {File("", ""), ErrorCode::kFileCorrupt, "no dictionary"},
  };
  for (const auto& [bytes, code, text] : cases) {
    const Status status = ParseNpy(bytes, "bad.npy").status();
    EXPECT_EQ(status.code(), code) << status << "\n" << bytes;
    EXPECT_NE(status.message().find(text), std::string::npos) << status;
    if (!status.ok()) {
      EXPECT_EQ(status.message().find("bad.npy: "), 0u) << status;
    }
  }
}

TEST(NpyTest, EveryPrefixAndManyBitFlipsAreAnErrorOrATensor) {
  const std::string good = NpyBytes(Tensor::FromVector<float>({2, 3}, {1, 2, 3, 4, 5, 6}));
  for (size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(ParseNpy(good.substr(0, size), "t").ok());
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    (void)ParseNpy(bytes, "t").ok();
  }
}

TEST(NpyTest, Files) {
  const std::string path = testing::TempDir() + "/npy_test.npy";
  const Tensor tensor = Tensor::FromVector<int32_t>({2}, {1, 2});
  ASSERT_TRUE(WriteNpy(path, tensor).ok());
  EXPECT_EQ(*ReadNpy(path), tensor);
  EXPECT_EQ(ReadNpy(path + ".gone").status().code(), ErrorCode::kFileNotFound);
}

}  // namespace
}  // namespace tessera
