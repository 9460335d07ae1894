#include "models/import/safetensors.h"

#include <unistd.h>

#include <cstring>

#include "base/file.h"
#include "gtest/gtest.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

// A file of a header and data as given, however wrong.
std::string FileOf(const std::string& header, const std::string& data = "") {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

Safetensors Example() {
  Safetensors file;
  file.tensors["w"] = Tensor::FromVector<float>({2, 3}, {1, -2, 3, 0, 0.5f, 1e-30f});
  file.tensors["half"] = Tensor::FromVector<float>({3}, {1, 2, 3}).Cast(DType::kF16);
  file.tensors["empty"] = Tensor(DType::kI64, {0, 4});
  file.tensors["flag"] = Tensor::FromVector<uint8_t>({2}, {1, 0}).Cast(DType::kBool);
  file.metadata["format"] = "pt";
  return file;
}

TEST(SafetensorsTest, ReadsWhatItWrites) {
  const std::string bytes = SerializeSafetensors(Example());
  EXPECT_TRUE(LooksLikeSafetensors(bytes));
  ASSERT_OK_AND_ASSIGN(const Safetensors read, ParseSafetensors(bytes, nullptr));
  EXPECT_EQ(read.tensors, Example().tensors);
  EXPECT_EQ(read.metadata, Example().metadata);
  EXPECT_EQ(read.Find("nothing"), nullptr);
}

TEST(SafetensorsTest, ReadsFiles) {
  const std::string path = testing::TempDir() + "/safetensors_test_" + std::to_string(getpid());
  ASSERT_OK(WriteFileAtomically(path, SerializeSafetensors(Example())));
  ASSERT_OK_AND_ASSIGN(const Safetensors read, ReadSafetensors(path));
  EXPECT_EQ(read.tensors, Example().tensors);
  unlink(path.c_str());
  EXPECT_THAT(ReadSafetensors(path), StatusIs(ErrorCode::kFileNotFound, HasSubstr(path)));
}

TEST(SafetensorsTest, SaysWhatIsWrong) {
  const std::string good = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const std::string data(8, 'x');
  ASSERT_OK(ParseSafetensors(FileOf("{\"w\":" + good + "}", data), nullptr));
  const struct {
    std::string bytes;
    ErrorCode code;
    std::string says;
  } cases[] = {
      {"", ErrorCode::kFileTruncated, "header"},
      {"1234567", ErrorCode::kFileTruncated, "header"},
      {std::string(8, '\xff') + "{}", ErrorCode::kFileTruncated, "header of"},
      {FileOf("[]"), ErrorCode::kFileCorrupt, "JSON"},
      {FileOf("{\"w\":"), ErrorCode::kFileCorrupt, "JSON"},
      {FileOf(std::string(5000, '[')), ErrorCode::kFileCorrupt, "deeper"},
      {FileOf("{\"w\":3}"), ErrorCode::kTypeMismatch, "'w'"},
      {FileOf(R"({"w":{"dtype":"F128","shape":[2],"data_offsets":[0,8]}})", data), ErrorCode::kTypeMismatch, "F128"},
      {FileOf(R"({"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", data), ErrorCode::kFileCorrupt, "shape"},
      {FileOf(R"({"w":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}})", data), ErrorCode::kFileCorrupt, "shape"},
      {FileOf(R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", data), ErrorCode::kFileCorrupt, "12 bytes"},
      {FileOf(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", data), ErrorCode::kFileCorrupt, "offsets"},
      {FileOf(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", data), ErrorCode::kFileTruncated, "12"},
      {FileOf(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,0]}})", data),
       ErrorCode::kLimitExceeded, "larger"},
      {FileOf("{\"v\":" + good + ",\"w\":" + good + "}", data), ErrorCode::kFileCorrupt, "share"},
      {FileOf(R"({"__metadata__":{"a":1}})"), ErrorCode::kFileCorrupt, "strings"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(ParseSafetensors(c.bytes, nullptr), StatusIs(c.code, HasSubstr(c.says)));
  }
}

TEST(SafetensorsTest, SurvivesEveryTruncationAndManyFlips) {
  const std::string bytes = SerializeSafetensors(Example());
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(ParseSafetensors(bytes.substr(0, length), nullptr).ok()) << length;
  }
  Random random(7);
  for (int k = 0; k < 5000; ++k) {
    std::string broken = bytes;
    broken[random.Int(0, static_cast<int64_t>(broken.size()) - 1)] ^= static_cast<char>(1 << random.Int(0, 7));
    static_cast<void>(ParseSafetensors(broken, nullptr));  // an error or a tensor, never a crash
  }
}

}  // namespace
}  // namespace tessera
