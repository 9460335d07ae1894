#include "models/import/npz.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "models/import/npy.h"
#include "tesa/random.h"

namespace tessera {
namespace {

void Put(std::string& out, uint64_t value, int bytes) {
  for (int k = 0; k < bytes; ++k) out.push_back(static_cast<char>(value >> 8 * k));
}

struct File {
  std::string name, bytes;
};

// A zip archive as numpy.savez (`deflated`: savez_compressed) writes it.
std::string Zip(const std::vector<File>& files, bool deflated) {
  std::string out, directory;
  for (const File& file : files) {
    const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(file.bytes.data()), file.bytes.size());
    std::string packed = file.bytes;
    if (deflated) {
      z_stream stream = {};
      TES_CHECK(deflateInit2(&stream, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
      packed.resize(deflateBound(&stream, file.bytes.size()));
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(file.bytes.data()));
      stream.avail_in = static_cast<uInt>(file.bytes.size());
      stream.next_out = reinterpret_cast<Bytef*>(packed.data());
      stream.avail_out = static_cast<uInt>(packed.size());
      TES_CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
      packed.resize(stream.total_out);
      deflateEnd(&stream);
    }
    std::string common;
    Put(common, 20, 2);
    Put(common, 0, 2);
    Put(common, deflated ? 8 : 0, 2);
    Put(common, 0, 4);
    Put(common, crc, 4);
    Put(common, packed.size(), 4);
    Put(common, file.bytes.size(), 4);
    Put(common, file.name.size(), 2);
    Put(directory, 0x02014b50, 4);
    Put(directory, 20, 2);
    directory += common;
    Put(directory, 0, 2 + 2 + 2 + 2 + 4);
    Put(directory, out.size(), 4);
    directory += file.name;
    Put(out, 0x04034b50, 4);
    out += common;
    Put(out, 3, 2);  // an extra field, which only the local header has
    out += file.name + "abc" + packed;
  }
  const size_t start = out.size();
  out += directory;
  Put(out, 0x06054b50, 4);
  Put(out, 0, 4);
  Put(out, files.size(), 2);
  Put(out, files.size(), 2);
  Put(out, directory.size(), 4);
  Put(out, start, 4);
  Put(out, 0, 2);
  return out;
}

std::vector<File> TwoArrays(Tensor& a, Tensor& b) {
  Random random(1);
  a = RandomTensor(random, {DType::kF32, {3, 5}});
  b = Tensor::FromVector<int64_t>({2}, {7, -1});
  return {{"a.npy", NpyBytes(a)}, {"b.npy", NpyBytes(b)}};
}

TEST(NpzTest, ArraysByName) {
  Tensor a, b;
  const std::vector<File> files = TwoArrays(a, b);
  for (bool deflated : {false, true}) {
    for (const char* comment : {"", "a comment"}) {
      const auto arrays = ParseNpz(Zip(files, deflated) + comment, "x.npz");
      ASSERT_TRUE(arrays.ok()) << arrays.status();
      ASSERT_EQ(arrays->size(), 2u);
      EXPECT_EQ(arrays->at("a"), a);
      EXPECT_EQ(arrays->at("b"), b);
    }
  }
  EXPECT_TRUE(ParseNpz(Zip({}, false), "x.npz")->empty());
}

TEST(NpzTest, DamageIsAnError) {
  Tensor a, b;
  const std::vector<File> files = TwoArrays(a, b);
  for (bool deflated : {false, true}) {
    const std::string good = Zip(files, deflated);
    for (size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(ParseNpz(good.substr(0, size), "x").ok()) << size;
    Random random(2);
    for (int round = 0; round < 3000; ++round) {
      std::string bad = good;
      for (int k = 0; k < 3; ++k) {
        bad[static_cast<size_t>(random.Int(0, static_cast<int64_t>(bad.size()) - 1))] =
            static_cast<char>(random.Int(0, 255));
      }
      static_cast<void>(ParseNpz(bad, "x"));  // whatever it says, it says it
    }
  }
  // A changed byte of data is seen by the checksum.
  std::string changed = Zip(files, false);
  changed[changed.find("NUMPY") + 130] ^= 1;
  const auto arrays = ParseNpz(changed, "x.npz");
  ASSERT_FALSE(arrays.ok());
  EXPECT_EQ(arrays.status().code(), ErrorCode::kFileCorrupt);
  EXPECT_NE(arrays.status().ToString().find("checksum of 'a.npy'"), std::string::npos) << arrays.status();
}

TEST(NpzTest, LimitsHold) {
  Tensor a, b;
  EXPECT_EQ(ParseNpz(Zip(TwoArrays(a, b), true), "x", 100).status().code(), ErrorCode::kLimitExceeded);
  const std::string twice = Zip({{"a.npy", NpyBytes(a)}, {"a.npy", NpyBytes(a)}}, false);
  EXPECT_EQ(ParseNpz(twice, "x").status().code(), ErrorCode::kFileCorrupt);
}

}  // namespace
}  // namespace tessera
