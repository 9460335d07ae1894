#include "runtime/program_bundle.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <set>

#include "base/hash.h"
#include "runtime/program_file.h"

namespace tessera {
namespace {

constexpr std::string_view kMagic = "\x89TESB\r\n\x1a";
constexpr uint32_t kVersion = 1, kMaxPrograms = 64;
constexpr size_t kAlignment = 64;

struct Header {
  char magic[8];
  uint32_t version, count;
  Hash128 hash;  // of the entries
};
static_assert(sizeof(Header) == 32);

struct Row {
  uint64_t begin, bytes;
  char target[48];
};
static_assert(sizeof(Row) == 64);

uint64_t AlignUp(uint64_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Status WriteBundle(std::span<const std::shared_ptr<const Program>> programs, const std::string& path) {
  if (programs.empty() || programs.size() > kMaxPrograms) {
    return Error(ErrorCode::kUsageInvalid, "'", path, "': expected 1 to ", kMaxPrograms, " programs, found ",
                 programs.size());
  }
  std::deque<ProgramBytes> parts;
  std::vector<Row> rows;
  std::set<std::string> targets;
  uint64_t end = sizeof(Header) + sizeof(Row) * programs.size();
  for (const std::shared_ptr<const Program>& program : programs) {
    Row row = {};
    if (program->target.size() >= sizeof(row.target) || !targets.insert(program->target).second) {
      return Error(ErrorCode::kUsageInvalid, "'", path,
                   "': expected programs of different targets with names of up to ", sizeof(row.target) - 1,
                   " letters, found '", program->target, "'");
    }
    std::memcpy(row.target, program->target.data(), program->target.size());
    row.begin = AlignUp(end);
    row.bytes = parts.emplace_back(*program).size();
    end = row.begin + row.bytes;
    rows.push_back(row);
  }
  const auto table = std::as_bytes(std::span(rows));
  Header header = {.version = kVersion, .count = static_cast<uint32_t>(rows.size()), .hash = HashBytes(table)};
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Append(std::as_bytes(std::span(&header, 1))));
  RETURN_IF_ERROR(file.Append(table));
  for (size_t k = 0; k < rows.size(); ++k) {
    RETURN_IF_ERROR(file.Append(std::string(rows[k].begin - file.size(), '\0')));
    for (std::span<const std::byte> piece : parts[k].pieces()) RETURN_IF_ERROR(file.Append(piece));
  }
  return file.Commit();
}

StatusOr<ProgramBundle> ProgramBundle::Open(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile opened, MappedFile::Open(path));
  ProgramBundle bundle;
  bundle.file_ = std::make_shared<const MappedFile>(std::move(opened));
  bundle.path_ = path;
  const std::span<const std::byte> bytes = bundle.file_->bytes();
  if (bundle.file_->text().substr(0, kMagic.size()) != kMagic) {
    return Error(ErrorCode::kFormatUnknown, "'", path, "' is not a file of compiled programs; `compile` writes them");
  }
  Header header;
  if (bytes.size() < sizeof(header)) {
    return Error(ErrorCode::kFileTruncated, "program file '", path, "' ends within its header");
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.version != kVersion) {
    return Error(ErrorCode::kVersionUnsupported, "program file '", path, "': expected version ", kVersion, ", found ",
                 header.version, "; compile the model again");
  }
  const auto corrupt = [&](std::string_view what) {
    return Error(ErrorCode::kFileCorrupt, "program file '", path, "': ", what);
  };
  if (header.count == 0 || header.count > kMaxPrograms) return corrupt("it has no such number of programs");
  const size_t end = sizeof(Header) + sizeof(Row) * header.count;
  if (bytes.size() < end) return Error(ErrorCode::kFileTruncated, "program file '", path, "' ends within its entries");
  if (!(HashBytes(bytes.subspan(sizeof(Header), end - sizeof(Header))) == header.hash)) {
    return corrupt("its entries are not those that were written");
  }
  for (uint32_t k = 0; k < header.count; ++k) {
    Row row;
    std::memcpy(&row, bytes.data() + sizeof(Header) + sizeof(Row) * k, sizeof(row));
    if (row.begin % kAlignment != 0 || row.begin < end || row.begin > bytes.size() ||
        row.bytes > bytes.size() - row.begin || row.target[sizeof(row.target) - 1] != '\0') {
      return corrupt("an entry runs over the end");
    }
    bundle.entries_.push_back({.target = row.target, .begin = row.begin, .bytes = row.bytes});
  }
  return bundle;
}

StatusOr<Program> ProgramBundle::Read(size_t entry) const {
  const Entry& row = entries_[entry];
  ASSIGN_OR_RETURN(Program program, ReadProgramBytes(file_->bytes().subspan(row.begin, row.bytes), file_, path_));
  if (program.target == row.target) return program;
  return Error(ErrorCode::kFileCorrupt, "program file '", path_, "': expected a program for '", row.target,
               "', found '", program.target, "'");
}

}  // namespace tessera
