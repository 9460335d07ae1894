#include "runtime/program_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/file.h"
#include "base/hash.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

std::string Path(const std::string& name) { return std::string(std::getenv("TEST_TMPDIR")) + "/" + name; }

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

const std::string& Weights() {
  static const std::string& weights = *new std::string(128, 'w');
  return weights;
}

// Without waiting for the disk.
void Write(const std::string& name, const std::string& bytes) {
  std::ofstream(Path(name), std::ios::binary | std::ios::trunc) << bytes;
}

Program Sample() {
  static const std::string& first = *new std::string("first image");
  static const std::string& second = *new std::string(200, 's');
  Program p;
  p.name = "p \"quoted\"";
  p.target = "host:x86-64-v3";
  p.required_features = "+avx2";
  p.constants = Bytes(Weights());
  p.memory = {.arena_bytes = 64, .max_live_bytes = 60, .naive_bytes = 99, .constant_bytes = 128, .scratch_bytes = 5};
  p.buffers = {{.name = "x", .kind = BufferClass::kInput, .bytes = 16, .offset = 0},
               {.name = "", .kind = BufferClass::kTemp, .bytes = 16, .offset = 48},
               {.name = "w", .kind = BufferClass::kConstant, .bytes = 64, .offset = 64},
               {.name = "y", .kind = BufferClass::kOutput, .bytes = 6, .offset = 0}};
  p.kernels = {"a", "b"};
  p.steps = {
      {.kernel = 0,
       .args = {{.buffer = 0}, {.buffer = 1, .writes = true, .offset = 8}},
       .launch = {.x = 3, .y = 2, .z = 5, .threads = 64, .shared_bytes = 100, .overlap = true},
       .tensor_maps = {{.arg = 0, .type = DType::kBF16, .dims = {8, 1}, .strides = {16}, .box = {8, 3}, .swizzle = 64}},
       .label = "first"},
      {.kernel = 1,
       .args = {{.buffer = 1}, {.buffer = 2}, {.buffer = 3, .writes = true}},
       .tasks = 7,
       .serial = true,
       .label = "second",
       .flops = 1.5,
       .bytes = 1e9}};
  p.inputs = {{"x", {DType::kF32, {2, 2}}, 0}};
  p.outputs = {{"y", {DType::kBF16, {3}}, 3}};
  p.images = {{Bytes(first), nullptr}, {Bytes(second), nullptr}};
  p.key = "0123";
  p.code_key = "4567";
  p.decisions = {"node 'a': generic", ""};
  return p;
}

std::string TextOf(std::span<const std::byte> bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

TEST(ProgramFileTest, KeepsEverything) {
  const Program wrote = Sample();
  ASSERT_OK(WriteProgram(wrote, Path("p")));
  ASSERT_OK_AND_ASSIGN(const Program read, ReadProgram(Path("p")));
  EXPECT_EQ(read.ToString(), wrote.ToString());
  EXPECT_EQ(read.required_features, wrote.required_features);
  EXPECT_EQ(read.key, wrote.key);
  EXPECT_EQ(read.code_key, wrote.code_key);
  EXPECT_EQ(read.decisions, wrote.decisions);
  EXPECT_EQ(read.memory.naive_bytes, 99);
  EXPECT_EQ(read.memory.scratch_bytes, 5);
  EXPECT_EQ(read.steps[1].flops, 1.5);
  EXPECT_EQ(read.steps[1].bytes, 1e9);
  EXPECT_EQ(read.steps[1].tasks, 7);
  EXPECT_TRUE(read.steps[1].serial);
  EXPECT_FALSE(read.steps[0].serial);
  EXPECT_EQ(read.outputs[0].type, wrote.outputs[0].type);
  EXPECT_EQ(TextOf(read.constants), Weights());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(read.constants.data()) % 64, 0u);
  ASSERT_EQ(read.images.size(), 2u);
  EXPECT_EQ(TextOf(read.images[0].bytes), "first image");
  EXPECT_EQ(TextOf(read.images[1].bytes), std::string(200, 's'));
  // What was read and is written again is the same file.
  ASSERT_OK(WriteProgram(read, Path("again")));
  ASSERT_OK_AND_ASSIGN(const std::string first, ReadFile(Path("p")));
  ASSERT_OK_AND_ASSIGN(const std::string second, ReadFile(Path("again")));
  EXPECT_EQ(first, second);
}

TEST(ProgramFileTest, ImagesMayLieElsewhere) {
  Program program = Sample();
  program.images.clear();
  ASSERT_OK(WriteProgram(program, Path("p")));
  ASSERT_OK_AND_ASSIGN(const Program read, ReadProgram(Path("p")));
  EXPECT_TRUE(read.images.empty());
  EXPECT_EQ(TextOf(read.constants), Weights());
}

TEST(ProgramFileTest, AFileThatIsNotThereOrNoneOfOursSaysSo) {
  EXPECT_THAT(ReadProgram(Path("absent")), StatusIs(ErrorCode::kFileNotFound));
  Write("text", "a text that is long enough for a header of some bytes");
  EXPECT_THAT(ReadProgram(Path("text")), StatusIs(ErrorCode::kFormatUnknown));
  Write("empty", "");
  EXPECT_THAT(ReadProgram(Path("empty")), StatusIs(ErrorCode::kFormatUnknown));
}

TEST(ProgramFileTest, EveryDamagedByteAndEveryTruncationIsFound) {
  ASSERT_OK(WriteProgram(Sample(), Path("p")));
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadFile(Path("p")));
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i >= 12 && i < 16) continue;  // reserved
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    Write("damaged", damaged);
    EXPECT_FALSE(ReadProgram(Path("damaged")).ok()) << "byte " << i;
    Write("damaged", bytes.substr(0, i));
    EXPECT_FALSE(ReadProgram(Path("damaged")).ok()) << "ends at " << i;
  }
}

// Files whose hash matches, made by somebody who wants the reader to fail: each change ends in an error or in a program
// that verifies, whatever stands in the structure.
TEST(ProgramFileTest, WithoutTheHashBytesAreHostileAndHarmless) {
  ASSERT_OK(WriteProgram(Sample(), Path("p")));
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadFile(Path("p")));
  int read = 0, refused = 0;
  for (size_t i = 32; i + 8 <= bytes.size(); i += 3) {  // 3: every place within a number, in turn
    for (const int64_t value : {int64_t{-1}, int64_t{0}, int64_t{3}, INT64_MAX, INT64_MIN, int64_t{1} << 33}) {
      std::string damaged = bytes;
      std::memcpy(damaged.data() + i, &value, sizeof(value));
      const Hash128 hash = HashBytes(std::string_view(damaged).substr(32));
      std::memcpy(damaged.data() + 16, &hash, sizeof(hash));
      Write("hostile", damaged);
      const StatusOr<Program> program = ReadProgram(Path("hostile"));
      ++(program.ok() ? read : refused);
      if (!program.ok()) continue;
      EXPECT_OK(program->Verify());
    }
  }
  EXPECT_GT(read, 0) << "a changed label is a program still";
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace tessera
