#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>

namespace tessera {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("file_test-" + std::to_string(getpid()) + "-" +
                                              testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  size_t FileCount() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

void ExpectError(const Status& status, ErrorCode code, const std::string& piece) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_NE(status.message().find(piece), std::string::npos) << "expected '" << piece << "' in: " << status;
}

TEST_F(FileTest, WrittenBytesAreReadBack) {
  for (size_t size : {0, 1, 4095, 4096, 4097, 1000003}) {
    std::string bytes(size, '\0');
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 + i / 251);
    ASSERT_EQ(WriteFileAtomically(Path("f"), bytes), OkStatus());
    StatusOr<std::string> read = ReadFile(Path("f"));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_TRUE(*read == bytes) << size;
    StatusOr<MappedFile> mapped = MappedFile::Open(Path("f"));
    ASSERT_TRUE(mapped.ok()) << mapped.status();
    EXPECT_TRUE(mapped->text() == bytes) << size;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(mapped->bytes().data()) % 4096, 0u);
  }
  EXPECT_EQ(FileCount(), 1u);
}

TEST_F(FileTest, ReadsAFileThatSaysItIsEmpty) {
  StatusOr<std::string> status = ReadFile("/proc/self/status");
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_NE(status->find("VmRSS"), std::string::npos);
}

TEST_F(FileTest, ErrorsNameThePathAndTheReason) {
  ExpectError(ReadFile(Path("absent")).status(), ErrorCode::kFileNotFound, Path("absent"));
  ExpectError(MappedFile::Open(Path("absent")).status(), ErrorCode::kFileNotFound, "No such file");
  ExpectError(ReadFile(folder_.string()).status(), ErrorCode::kFileUnreadable, "it is a folder");
  ExpectError(MappedFile::Open(folder_.string()).status(), ErrorCode::kFileUnreadable, "it is a folder");
  ExpectError(ReadFile("/dev/zero").status(), ErrorCode::kFileUnreadable, "device");
  ExpectError(ReadFile(std::string("a\0b", 3)).status(), ErrorCode::kFileNotFound, "zero byte");
  ExpectError(ReadFile("").status(), ErrorCode::kFileNotFound, "No such file");
  ASSERT_EQ(WriteFileAtomically(Path("f"), "12345"), OkStatus());
  ExpectError(ReadFile(Path("f/g")).status(), ErrorCode::kFileNotFound, "Not a directory");
}

TEST_F(FileTest, APipeDoesNotBlock) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  ExpectError(ReadFile(Path("pipe")).status(), ErrorCode::kFileUnreadable, "pipe");
}

TEST_F(FileTest, TheLimitIsInclusive) {
  ASSERT_EQ(WriteFileAtomically(Path("f"), "12345"), OkStatus());
  EXPECT_TRUE(ReadFile(Path("f"), 5).ok());
  ExpectError(ReadFile(Path("f"), 4).status(), ErrorCode::kLimitExceeded, "5 bytes, the limit is 4");
  ExpectError(MappedFile::Open(Path("f"), 4).status(), ErrorCode::kLimitExceeded, "the limit is 4");
  // The size is not known beforehand here.
  ExpectError(ReadFile("/proc/self/status", 10).status(), ErrorCode::kLimitExceeded, "more than 10");
}

TEST_F(FileTest, UnreadableFileNamesPermission) {
  ASSERT_EQ(WriteFileAtomically(Path("f"), "secret"), OkStatus());
  fs::permissions(Path("f"), fs::perms::none);
  if (access(Path("f").c_str(), R_OK) == 0) GTEST_SKIP() << "this user may read everything";
  ExpectError(ReadFile(Path("f")).status(), ErrorCode::kFileUnreadable, "Permission denied");
  ExpectError(WriteFileAtomically(Path("f"), "x"), ErrorCode::kFileUnwritable, "Permission denied");
}

TEST_F(FileTest, UnwritablePathsSayWhy) {
  ExpectError(WriteFileAtomically(Path("no/such/file"), "x"), ErrorCode::kFileUnwritable, "does not exist");
  ExpectError(WriteFileAtomically(folder_.string(), "x"), ErrorCode::kFileUnwritable, "it is a folder");
  ExpectError(WriteFileAtomically("", "x"), ErrorCode::kFileUnwritable, "empty");
  ExpectError(WriteFileAtomically(Path(std::string(300, 'n')), "x"), ErrorCode::kFileUnwritable, "too long");
  EXPECT_EQ(FileCount(), 0u);
}

TEST_F(FileTest, AFullDiskIsAnError) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  ExpectError(WriteFileAtomically("/dev/full", "x"), ErrorCode::kFileUnwritable, "No space left");
}

TEST_F(FileTest, WithoutCommitNothingChanges) {
  ASSERT_EQ(WriteFileAtomically(Path("f"), "old"), OkStatus());
  {
    StatusOr<AtomicFile> file = AtomicFile::Create(Path("f"));
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_EQ(file->Append("new and longer"), OkStatus());
    EXPECT_EQ(*ReadFile(Path("f")), "old");
    AtomicFile moved = *std::move(file);
    EXPECT_EQ(moved.size(), 14u);
  }
  EXPECT_EQ(*ReadFile(Path("f")), "old");
  EXPECT_EQ(FileCount(), 1u) << "the temporary file is left behind";
}

TEST_F(FileTest, APieceAtATime) {
  StatusOr<AtomicFile> file = AtomicFile::Create(Path("f"));
  ASSERT_TRUE(file.ok()) << file.status();
  for (int i = 0; i < 10; ++i) ASSERT_EQ(file->Append(std::string(i, static_cast<char>('0' + i))), OkStatus());
  EXPECT_EQ(access(Path("f").c_str(), F_OK), -1) << "visible before Commit";
  ASSERT_EQ(file->Commit(), OkStatus());
  EXPECT_EQ(*ReadFile(Path("f")), "122333444455555666666777777788888888999999999");
}

TEST_F(FileTest, ReplacingKeepsPermissionsAndLinks) {
  ASSERT_EQ(WriteFileAtomically(Path("real"), "old"), OkStatus());
  fs::permissions(Path("real"), fs::perms::owner_all);
  fs::create_symlink("real", Path("link"));
  ASSERT_EQ(WriteFileAtomically(Path("link"), "new"), OkStatus());
  EXPECT_TRUE(fs::is_symlink(Path("link")));
  EXPECT_EQ(*ReadFile(Path("real")), "new");
  EXPECT_EQ(fs::status(Path("real")).permissions(), fs::perms::owner_all);
}

TEST_F(FileTest, DevicesAreWrittenStraight) { EXPECT_EQ(WriteFileAtomically("/dev/null", "gone"), OkStatus()); }

TEST_F(FileTest, AMappingOutlivesMovesAndReplacement) {
  ASSERT_EQ(WriteFileAtomically(Path("f"), "first"), OkStatus());
  StatusOr<MappedFile> opened = MappedFile::Open(Path("f"));
  ASSERT_TRUE(opened.ok()) << opened.status();
  MappedFile mapped = *std::move(opened);
  ASSERT_EQ(WriteFileAtomically(Path("f"), "second"), OkStatus());
  EXPECT_EQ(mapped.text(), "first");
  MappedFile other;
  EXPECT_TRUE(other.bytes().empty());
  other = std::move(mapped);
  EXPECT_EQ(other.text(), "first");
  EXPECT_EQ(other.path(), Path("f"));
}

}  // namespace
}  // namespace tessera
