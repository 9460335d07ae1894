#include "runtime/program_bundle.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <set>

#include "base/hash.h"
#include "runtime/program_file.h"

namespace tessera {
namespace {

constexpr std::string_view kMagic = "\x89TESB\r\n\x1a";
constexpr uint32_t kVersion = 2, kMaxPrograms = 64;
constexpr size_t kAlignment = 64;

struct Header {
  char magic[8];
  uint32_t version, count;
  Hash128 hash;  // of rows and pieces
};
static_assert(sizeof(Header) == 32);

struct Row {
  uint64_t begin, bytes, pieces, reserved;
  char target[48];
};
static_assert(sizeof(Row) == 80);
static_assert(sizeof(ProgramBundle::Piece) == 32 && std::endian::native == std::endian::little);  // as in the file

uint64_t AlignUp(uint64_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; }

// A program's constants, cut where buffers begin.
std::vector<std::span<const std::byte>> Cut(const Program& program) {
  const auto size = static_cast<int64_t>(program.constants.size());
  std::set<int64_t> cuts = {0, size};
  for (const ProgramBuffer& buffer : program.buffers) {
    if (buffer.kind == BufferClass::kConstant && buffer.offset < size) cuts.insert(buffer.offset);
  }
  std::vector<std::span<const std::byte>> pieces;
  for (auto cut = cuts.begin(); std::next(cut) != cuts.end(); ++cut) {
    pieces.push_back(program.constants.subspan(static_cast<size_t>(*cut), static_cast<size_t>(*std::next(cut) - *cut)));
  }
  return pieces;
}

// Where pieces of all programs lie, each once; but twice where one program has it twice.
class Pieces {
 public:
  void BeginProgram() { used_.clear(); }

  ProgramBundle::Piece Place(std::span<const std::byte> bytes) {
    const Hash128 hash = HashBytes(bytes);
    std::vector<size_t>& same = by_hash_[hash];
    const auto place = std::find_if(same.begin(), same.end(), [&](size_t k) {
      return !used_.contains(k) && std::equal(bytes.begin(), bytes.end(), data_[k].begin(), data_[k].end());
    });
    const size_t k = place == same.end() ? data_.size() : *place;
    used_.insert(k);
    if (k == data_.size()) {
      same.push_back(k);
      data_.push_back(bytes);
      places_.push_back({.begin = end_, .bytes = bytes.size(), .hash = hash});
      end_ = AlignUp(end_ + bytes.size());
    }
    return places_[k];
  }

  // From the first piece's place on.
  const std::vector<std::span<const std::byte>>& data() const { return data_; }
  uint64_t end() const { return end_; }

 private:
  std::map<Hash128, std::vector<size_t>> by_hash_;
  std::vector<std::span<const std::byte>> data_;
  std::vector<ProgramBundle::Piece> places_;
  std::set<size_t> used_;
  uint64_t end_ = 0;
};

Status AppendAligned(AtomicFile& file, std::span<const std::span<const std::byte>> parts) {
  RETURN_IF_ERROR(file.Append(std::string(AlignUp(file.size()) - file.size(), '\0')));
  for (std::span<const std::byte> part : parts) RETURN_IF_ERROR(file.Append(part));
  return OkStatus();
}

}  // namespace

Status WriteBundle(std::span<const std::shared_ptr<const Program>> programs, const std::string& path) {
  if (programs.empty() || programs.size() > kMaxPrograms) {
    return Error(ErrorCode::kUsageInvalid, "'", path, "': expected 1 to ", kMaxPrograms, " programs, found ",
                 programs.size());
  }
  std::vector<Row> rows;
  std::vector<ProgramBundle::Piece> pieces;
  Pieces shared;
  std::set<std::string> targets;
  for (const std::shared_ptr<const Program>& program : programs) {
    Row row = {};
    if (program->target.size() >= sizeof(row.target) || !targets.insert(program->target).second) {
      return Error(ErrorCode::kUsageInvalid, "'", path,
                   "': expected programs of different targets with names of up to ", sizeof(row.target) - 1,
                   " letters, found '", program->target, "'");
    }
    std::memcpy(row.target, program->target.data(), program->target.size());
    shared.BeginProgram();
    for (std::span<const std::byte> piece : Cut(*program)) {
      pieces.push_back(shared.Place(piece));
      ++row.pieces;
    }
    rows.push_back(row);
  }
  const uint64_t first =
      AlignUp(sizeof(Header) + sizeof(Row) * rows.size() + sizeof(ProgramBundle::Piece) * pieces.size());
  for (ProgramBundle::Piece& piece : pieces) piece.begin += first;
  std::deque<ProgramBytes> parts;
  uint64_t end = first + shared.end();
  for (size_t k = 0; k < rows.size(); ++k) {
    rows[k].begin = AlignUp(end);
    rows[k].bytes = parts.emplace_back(*programs[k], /*with_constants=*/false).size();
    end = rows[k].begin + rows[k].bytes;
  }
  const auto table = std::as_bytes(std::span(rows)), places = std::as_bytes(std::span(pieces));
  Header header = {.version = kVersion, .count = static_cast<uint32_t>(rows.size()), .hash = {}};
  header.hash = Hasher().AddBytes(table).AddBytes(places).Finish();
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Append(std::as_bytes(std::span(&header, 1))));
  RETURN_IF_ERROR(file.Append(table));
  RETURN_IF_ERROR(file.Append(places));
  for (std::span<const std::byte> piece : shared.data()) RETURN_IF_ERROR(AppendAligned(file, std::span(&piece, 1)));
  for (const ProgramBytes& part : parts) RETURN_IF_ERROR(AppendAligned(file, part.pieces()));
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
  size_t end = sizeof(Header) + sizeof(Row) * header.count;
  const auto truncated = [&] {
    return Error(ErrorCode::kFileTruncated, "program file '", path, "' ends within its entries");
  };
  if (bytes.size() < end) return truncated();
  std::vector<Row> rows(header.count);
  std::memcpy(rows.data(), bytes.data() + sizeof(Header), sizeof(Row) * rows.size());
  for (const Row& row : rows) {
    if (row.pieces > (bytes.size() - end) / sizeof(Piece)) return truncated();
    end += row.pieces * sizeof(Piece);
  }
  if (!(HashBytes(bytes.subspan(sizeof(Header), end - sizeof(Header))) == header.hash)) {
    return corrupt("its entries are not those that were written");
  }
  const auto inside = [&](uint64_t begin, uint64_t size) {
    return begin % kAlignment == 0 && begin >= end && begin <= bytes.size() && size <= bytes.size() - begin;
  };
  const std::byte* next = bytes.data() + sizeof(Header) + sizeof(Row) * rows.size();
  for (const Row& row : rows) {
    if (!inside(row.begin, row.bytes) || row.target[sizeof(row.target) - 1] != '\0') {
      return corrupt("an entry runs over the end");
    }
    Entry entry = {.target = row.target, .begin = row.begin, .bytes = row.bytes, .pieces = {}};
    entry.pieces.resize(row.pieces);
    uint64_t constants = 0;
    for (Piece& piece : entry.pieces) {
      std::memcpy(&piece, next, sizeof(piece));
      next += sizeof(piece);
      if (!inside(piece.begin, piece.bytes) || piece.bytes > bytes.size() - constants) {
        return corrupt("a piece of constants runs over the end");
      }
      constants += piece.bytes;
    }
    bundle.entries_.push_back(std::move(entry));
  }
  return bundle;
}

StatusOr<Program> ProgramBundle::Read(size_t entry) const {
  const Entry& row = entries_[entry];
  int64_t size = 0;
  for (const Piece& piece : row.pieces) size += static_cast<int64_t>(piece.bytes);
  ASSIGN_OR_RETURN(HostMemory memory, HostMemory::Allocate(size, "constants"));
  std::byte* to = memory.data();
  for (const Piece& piece : row.pieces) {
    const std::span<const std::byte> from = file_->bytes().subspan(piece.begin, piece.bytes);
    if (!(HashBytes(from) == piece.hash)) {
      return Error(ErrorCode::kFileCorrupt, "program file '", path_, "': constants of the program for '", row.target,
                   "' are not those that were written");
    }
    to = std::copy(from.begin(), from.end(), to);
  }
  ASSIGN_OR_RETURN(Program program, ReadProgramBytes(file_->bytes().subspan(row.begin, row.bytes), file_, path_,
                                                     std::make_shared<const HostMemory>(std::move(memory))));
  if (program.target == row.target) return program;
  return Error(ErrorCode::kFileCorrupt, "program file '", path_, "': expected a program for '", row.target,
               "', found '", program.target, "'");
}

}  // namespace tessera
