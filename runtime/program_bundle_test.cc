#include "runtime/program_bundle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

std::string Path(const std::string& name) { return std::string(std::getenv("TEST_TMPDIR")) + "/" + name; }

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

// One that differs from others in every part.
std::shared_ptr<const Program> Sample(const std::string& target) {
  const auto image = std::make_shared<const std::string>("code for " + target);
  const auto weights = std::make_shared<const std::string>(target.size(), 'w');
  auto p = std::make_shared<Program>();
  p->name = "network";
  p->target = target;
  p->buffers = {{.name = "x", .kind = BufferClass::kInput, .bytes = 16, .offset = 0},
                {.name = "y", .kind = BufferClass::kOutput, .bytes = 16, .offset = 0}};
  p->kernels = {"copy"};
  p->steps = {{.kernel = 0, .args = {{.buffer = 0}, {.buffer = 1, .writes = true}}, .label = target}};
  p->inputs = {{"x", {DType::kF32, {4}}, 0}};
  p->outputs = {{"y", {DType::kF32, {4}}, 1}};
  p->constants = Bytes(*weights);
  p->constants_owner = weights;
  p->images = {{Bytes(*image), image}};
  return p;
}

std::string TextOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void Write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

TEST(ProgramBundleTest, KeepsEachProgram) {
  const std::vector<std::shared_ptr<const Program>> programs = {Sample("host:x86-64-v3"), Sample("cuda:sm_90a"),
                                                                Sample("hip:gfx942")};
  ASSERT_OK(WriteBundle(programs, Path("three")));
  ASSERT_OK_AND_ASSIGN(const ProgramBundle bundle, ProgramBundle::Open(Path("three")));
  ASSERT_EQ(3u, bundle.entries().size());
  for (size_t k = 0; k < programs.size(); ++k) {
    EXPECT_EQ(programs[k]->target, bundle.entries()[k].target);
    ASSERT_OK_AND_ASSIGN(const Program read, bundle.Read(k));
    EXPECT_EQ(programs[k]->ToString(), read.ToString());
    EXPECT_TRUE(std::equal(read.constants.begin(), read.constants.end(), programs[k]->constants.begin()));
    ASSERT_EQ(1u, read.images.size());
    EXPECT_EQ(programs[k]->images[0].bytes.size(), read.images[0].bytes.size());
    EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(read.images[0].bytes.data()) % 64);
  }
}

// Programs of three chips, of which two read the weights in one format.
TEST(ProgramBundleTest, EqualConstantsStandInTheFileOnce) {
  const auto with = [](const std::string& target, const std::vector<std::string>& constants) {
    const auto program = std::make_shared<Program>(*Sample(target));
    const auto weights = std::make_shared<std::string>();
    for (const std::string& one : constants) {
      program->buffers.push_back({.name = "w",
                                  .kind = BufferClass::kConstant,
                                  .bytes = static_cast<int64_t>(one.size()),
                                  .offset = static_cast<int64_t>(weights->size())});
      *weights += one + std::string((64 - one.size() % 64) % 64, '\0');
    }
    program->constants = Bytes(*weights);
    program->constants_owner = weights;
    return program;
  };
  const std::string a(10000, 'a'), b(20000, 'b'), c(30000, 'c');
  const std::vector<std::shared_ptr<const Program>> programs = {
      with("hip:gfx90a", {a, b}), with("hip:gfx942", {b, c, a}), with("host", {c, c}), with("null", {})};
  ASSERT_OK(WriteBundle(programs, Path("shared")));
  EXPECT_LT(TextOf(Path("shared")).size(), 10000u + 20000 + 30000 * 2 + 10000) << "two of c are of one program";
  ASSERT_OK_AND_ASSIGN(const ProgramBundle bundle, ProgramBundle::Open(Path("shared")));
  EXPECT_EQ(bundle.entries()[0].pieces[0].begin, bundle.entries()[1].pieces[2].begin);
  EXPECT_NE(bundle.entries()[2].pieces[0].begin, bundle.entries()[2].pieces[1].begin);
  for (size_t k = 0; k < programs.size(); ++k) {
    ASSERT_OK_AND_ASSIGN(const Program read, bundle.Read(k));
    EXPECT_EQ(programs[k]->ToString(), read.ToString());
    EXPECT_TRUE(std::ranges::equal(read.constants, programs[k]->constants));
    EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(read.constants.data()) % 64);
  }
}

TEST(ProgramBundleTest, RefusesWhatAFileCannotHold) {
  EXPECT_EQ(ErrorCode::kUsageInvalid, WriteBundle({}, Path("none")).code());
  const std::vector<std::shared_ptr<const Program>> twice = {Sample("host"), Sample("host")};
  EXPECT_EQ(ErrorCode::kUsageInvalid, WriteBundle(twice, Path("twice")).code());
  const std::vector<std::shared_ptr<const Program>> longest = {Sample(std::string(48, 'h'))};
  EXPECT_EQ(ErrorCode::kUsageInvalid, WriteBundle(longest, Path("long")).code());
  const std::vector<std::shared_ptr<const Program>> many(65, Sample("host"));
  EXPECT_EQ(ErrorCode::kUsageInvalid, WriteBundle(many, Path("many")).code());
}

// No byte of it can be another one, and nothing can be missing, without an error; padding aside.
TEST(ProgramBundleTest, DamagedBytesAreFound) {
  const std::vector<std::shared_ptr<const Program>> programs = {Sample("host"), Sample("hip:gfx90a")};
  ASSERT_OK(WriteBundle(programs, Path("whole")));
  const std::string whole = TextOf(Path("whole"));
  const auto reads = [&](const std::string& bytes) {
    Write(Path("damaged"), bytes);
    const StatusOr<ProgramBundle> bundle = ProgramBundle::Open(Path("damaged"));
    if (!bundle.ok()) return false;
    for (size_t k = 0; k < bundle->entries().size(); ++k) {
      if (!bundle->Read(k).ok()) return false;
    }
    return true;
  };
  ASSERT_TRUE(reads(whole));
  ASSERT_OK_AND_ASSIGN(const ProgramBundle bundle, ProgramBundle::Open(Path("whole")));
  const auto is_padding = [&](size_t at) {
    for (const ProgramBundle::Entry& entry : bundle.entries()) {
      if (at >= entry.begin && at < entry.begin + entry.bytes) return false;
      for (const ProgramBundle::Piece& piece : entry.pieces) {
        if (at >= piece.begin && at < piece.begin + piece.bytes) return false;
      }
    }
    return at >= 32 + (80 + 32) * bundle.entries().size();
  };
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
    EXPECT_EQ(is_padding(at), reads(damaged)) << at;
  }
  for (size_t size = 0; size < whole.size(); size += 7) EXPECT_FALSE(reads(whole.substr(0, size))) << size;
}

TEST(ProgramBundleTest, OtherFilesAreNamed) {
  EXPECT_EQ(ErrorCode::kFormatUnknown, ProgramBundle::Open("/proc/self/exe").status().code());
  EXPECT_EQ(ErrorCode::kFileNotFound, ProgramBundle::Open(Path("absent")).status().code());
}

}  // namespace
}  // namespace tessera
