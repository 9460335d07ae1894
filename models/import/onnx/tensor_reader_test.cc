#include "models/import/onnx/tensor_reader.h"

#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "gtest/gtest.h"
#include "models/import/graph_writer.h"
#include "models/import/onnx/testing/onnx_model.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

constexpr DType kAllTypes[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2,
                               DType::kI64, DType::kI32, DType::kI16, DType::kI8,   DType::kI4,     DType::kU64,
                               DType::kU32, DType::kU16, DType::kU8,  DType::kU4,   DType::kBool};

StatusOr<Tensor> Read(const onnx::TensorProto& proto) { return TensorReader("").Read(proto); }

onnx::TensorProto Typed(DType dtype, const std::vector<int64_t>& dims) {
  onnx::TensorProto proto;
  proto.set_name("t");
  proto.set_data_type(OnnxType(dtype));
  for (int64_t dim : dims) proto.add_dims(dim);
  return proto;
}

TEST(TensorReaderTest, ReadsRawDataOfEveryType) {
  Random random(3);
  for (DType dtype : kAllTypes) {
    Tensor tensor(dtype, {3, 5});  // odd, so that 4-bit elements end within a byte
    for (int64_t i = 0; i < 15; ++i) tensor.Set(i, IsBool(dtype) ? i % 2 : static_cast<double>(random.Int(0, 7)));
    ASSERT_OK_AND_ASSIGN(const Tensor read, Read(ToProto("t", tensor)));
    EXPECT_EQ(read, tensor) << dtype;
  }
}

TEST(TensorReaderTest, ReadsTypedFields) {
  // Each type lives in the field that onnx.proto says: small types in int32_data, f16 and f8 there as bit patterns.
  for (DType dtype : kAllTypes) {
    Tensor tensor(dtype, {5});
    for (int64_t i = 0; i < 5; ++i) tensor.Set(i, IsBool(dtype) ? i % 2 : static_cast<double>(i));
    onnx::TensorProto proto = Typed(dtype, {5});
    const auto* bytes = reinterpret_cast<const unsigned char*>(tensor.bytes().data());
    const int bits = TypeInfo(dtype).bits;
    for (int64_t i = 0; i < (bits == 4 ? 3 : 5); ++i) {
      switch (dtype) {
        case DType::kF32: proto.add_float_data(static_cast<float>(tensor.Get(i))); break;
        case DType::kF64: proto.add_double_data(tensor.Get(i)); break;
        case DType::kI64: proto.add_int64_data(tensor.GetInt(i)); break;
        case DType::kU64:
        case DType::kU32: proto.add_uint64_data(static_cast<uint64_t>(tensor.GetInt(i))); break;
        default:
          if (bits == 16) {
            proto.add_int32_data(bytes[2 * i] | bytes[2 * i + 1] << 8);
          } else if (bits == 32) {
            proto.add_int32_data(static_cast<int32_t>(tensor.GetInt(i)));
          } else {
            proto.add_int32_data(bytes[i]);
          }
      }
    }
    ASSERT_OK_AND_ASSIGN(const Tensor read, Read(proto));
    EXPECT_EQ(read, tensor) << dtype;
  }
}

TEST(TensorReaderTest, RefusesWhatDoesNotFit) {
  onnx::TensorProto proto = Typed(DType::kF32, {3});
  proto.add_float_data(1);
  EXPECT_THAT(Read(proto), StatusIs(ErrorCode::kFileCorrupt, HasSubstr("'t': expected 3 values")));
  proto.set_raw_data("1234567");
  EXPECT_THAT(Read(proto), StatusIs(ErrorCode::kFileCorrupt, HasSubstr("expected 12 bytes")));
  EXPECT_THAT(Read(Typed(DType::kF32, {-1})), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(Read(Typed(DType::kF32, {int64_t{1} << 40, int64_t{1} << 40})), StatusIs(ErrorCode::kLimitExceeded));
  EXPECT_THAT(Read(Typed(DType::kF32, std::vector<int64_t>(17, 1))), StatusIs(ErrorCode::kLimitExceeded));
  onnx::TensorProto text = Typed(DType::kF32, {1});
  text.set_data_type(onnx::TensorProto::STRING);
  EXPECT_THAT(Read(text), StatusIs(ErrorCode::kTypeMismatch, HasSubstr("STRING")));
  text.set_data_type(99);
  EXPECT_THAT(Read(text), StatusIs(ErrorCode::kTypeMismatch, HasSubstr("element type 99")));
}

class ExternalDataTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_ + "/model/sub");
    ASSERT_OK(WriteFileAtomically(folder_ + "/outside.bin", std::string(64, 'o')));
    std::string data(4096, '\0');
    for (size_t k = 0; k < data.size(); ++k) data[k] = static_cast<char>(k);
    ASSERT_OK(WriteFileAtomically(folder_ + "/model/sub/data.bin", data));
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  StatusOr<Tensor> ReadExternal(const std::string& location, const std::string& offset, const std::string& length) {
    onnx::TensorProto proto = Typed(DType::kU8, {4});
    proto.set_data_location(onnx::TensorProto::EXTERNAL);
    const auto add = [&](const std::string& key, const std::string& value) {
      if (value.empty()) return;
      onnx::StringStringEntryProto& entry = *proto.add_external_data();
      entry.set_key(key);
      entry.set_value(value);
    };
    add("location", location);
    add("offset", offset);
    add("length", length);
    return TensorReader(folder_ + "/model").Read(proto);
  }

  const std::string folder_ = testing::TempDir() + "/tensor_reader_test_" + std::to_string(getpid());
};

TEST_F(ExternalDataTest, ReadsPartsOfFiles) {
  ASSERT_OK_AND_ASSIGN(const Tensor aligned, ReadExternal("sub/data.bin", "128", "4"));
  EXPECT_EQ(aligned, Tensor::FromVector<uint8_t>({4}, {128, 129, 130, 131}));
  ASSERT_OK_AND_ASSIGN(const Tensor odd, ReadExternal("./sub/data.bin", "3", ""));
  EXPECT_EQ(odd, Tensor::FromVector<uint8_t>({4}, {3, 4, 5, 6}));
  ASSERT_OK_AND_ASSIGN(const Tensor first, ReadExternal("sub/data.bin", "", "4"));
  EXPECT_EQ(first, Tensor::FromVector<uint8_t>({4}, {0, 1, 2, 3}));
}

TEST_F(ExternalDataTest, StaysWithinTheFolder) {
  std::filesystem::create_symlink(folder_ + "/outside.bin", folder_ + "/model/link.bin");
  std::filesystem::create_directory_symlink(folder_, folder_ + "/model/up");
  std::filesystem::create_symlink("sub/data.bin", folder_ + "/model/inner.bin");
  for (const std::string location :
       {"../outside.bin", "sub/../../outside.bin", "/etc/passwd", "link.bin", "up/outside.bin", "sub/..", ""}) {
    EXPECT_THAT(ReadExternal(location, "", ""), StatusIs(ErrorCode::kPathEscapes)) << location;
  }
  EXPECT_OK(ReadExternal("inner.bin", "", ""));
  EXPECT_THAT(ReadExternal("nothing.bin", "", ""), StatusIs(ErrorCode::kFileNotFound));
  EXPECT_THAT(ReadExternal("sub", "", ""), StatusIs(ErrorCode::kFileUnreadable));
}

TEST_F(ExternalDataTest, ChecksOffsetsAndLengths) {
  EXPECT_THAT(ReadExternal("sub/data.bin", "4093", "4"), StatusIs(ErrorCode::kFileTruncated));
  EXPECT_THAT(ReadExternal("sub/data.bin", "18446744073709551615", ""), StatusIs(ErrorCode::kFileTruncated));
  EXPECT_THAT(ReadExternal("sub/data.bin", "-1", ""), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(ReadExternal("sub/data.bin", "1e3", ""), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(ReadExternal("sub/data.bin", "0", "5"), StatusIs(ErrorCode::kFileCorrupt));
  onnx::TensorProto proto = Typed(DType::kU8, {4});
  proto.set_data_location(onnx::TensorProto::EXTERNAL);
  EXPECT_THAT(Read(proto), StatusIs(ErrorCode::kFileNotFound, HasSubstr("beside a model file")));
}

onnx::SparseTensorProto Sparse(const std::vector<float>& values, const Tensor& indices,
                               const std::vector<int64_t>& dims) {
  onnx::SparseTensorProto proto;
  *proto.mutable_values() = ToProto("s", Tensor::FromVector<float>({static_cast<int64_t>(values.size())}, values));
  *proto.mutable_indices() = ToProto("", indices);
  for (int64_t dim : dims) proto.add_dims(dim);
  return proto;
}

TEST(SparseTensorTest, ReadsBothFormsOfIndices) {
  const Tensor dense = Tensor::FromVector<float>({2, 3}, {0, 5, 0, 0, 0, 7});
  const Tensor mask = Tensor::FromVector<uint8_t>({2, 3}, {0, kOwnWidth, 0, 0, 0, kOwnWidth});
  for (const Tensor& indices :
       {Tensor::FromVector<int64_t>({2}, {1, 5}), Tensor::FromVector<int64_t>({2, 2}, {0, 1, 1, 2})}) {
    ASSERT_OK_AND_ASSIGN(const DeclaredSparse sparse, TensorReader("").ReadSparse(Sparse({5, 7}, indices, {2, 3})));
    EXPECT_EQ(sparse.dense, dense);
    EXPECT_EQ(sparse.mask, mask);
  }
}

TEST(SparseTensorTest, RefusesBrokenIndices) {
  const auto read = [](const Tensor& indices, const std::vector<int64_t>& dims) {
    return TensorReader("").ReadSparse(Sparse({5, 7}, indices, dims));
  };
  const auto ints = [](Shape shape, const std::vector<int64_t>& values) {
    return Tensor::FromVector<int64_t>(std::move(shape), values);
  };
  EXPECT_THAT(read(ints({2}, {1, 6}), {2, 3}), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(read(ints({2}, {-1, 5}), {2, 3}), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(read(ints({2}, {5, 1}), {2, 3}), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(read(ints({2}, {1, 1}), {2, 3}), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(read(ints({3}, {1, 2, 3}), {2, 3}), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(read(ints({2, 2}, {0, 1, 1, 3}), {2, 3}), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(read(ints({2}, {1, 5}), {int64_t{1} << 20, int64_t{1} << 20}), StatusIs(ErrorCode::kLimitExceeded));
  EXPECT_THAT(read(ints({2}, {1, 5}), {-2, 3}), StatusIs(ErrorCode::kFileCorrupt));
}

}  // namespace
}  // namespace tessera
