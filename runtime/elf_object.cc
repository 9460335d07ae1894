#include "runtime/elf_object.h"

#include <string.h>

#include <algorithm>
#include <type_traits>

namespace tessera {
namespace {

constexpr uint64_t kPage = 4096;
// LLVM's section type for .eh_frame, missing in some systems' elf.h.
constexpr uint32_t kTypeUnwind = 0x70000001;

uint64_t RoundUp(uint64_t value, uint64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

// [offset, offset + size) within [0, total), without overflow.
bool Inside(uint64_t offset, uint64_t size, uint64_t total) { return offset <= total && size <= total - offset; }

// Relocations that a compiler emits when it was not told what a kernel needs, for the message.
struct RelocationRow {
  uint32_t type;
  const char* name;
};
#define TES_ROW(type) {type, #type}
constexpr RelocationRow kRefused[] = {
    TES_ROW(R_X86_64_GOT32),         TES_ROW(R_X86_64_GOTPCREL),   TES_ROW(R_X86_64_GOTPCRELX),
    TES_ROW(R_X86_64_REX_GOTPCRELX), TES_ROW(R_X86_64_GOTOFF64),   TES_ROW(R_X86_64_GOTPC32),
    TES_ROW(R_X86_64_GOT64),         TES_ROW(R_X86_64_GOTPCREL64), TES_ROW(R_X86_64_GOTPC64),
    TES_ROW(R_X86_64_GOTPLT64),      TES_ROW(R_X86_64_PLTOFF64),   TES_ROW(R_X86_64_32),
    TES_ROW(R_X86_64_32S),           TES_ROW(R_X86_64_16),         TES_ROW(R_X86_64_8),
    TES_ROW(R_X86_64_TLSGD),         TES_ROW(R_X86_64_TLSLD),      TES_ROW(R_X86_64_DTPOFF32),
    TES_ROW(R_X86_64_GOTTPOFF),      TES_ROW(R_X86_64_TPOFF32),
};
#undef TES_ROW

std::string RelocationName(uint32_t type) {
  for (const RelocationRow& row : kRefused) {
    if (row.type == type) return row.name;
  }
  return "of type " + std::to_string(type);
}

std::string Quoted(std::string_view text) { return "'" + std::string(text) + "'"; }

}  // namespace

// Copies, because nothing says that the bytes are aligned. The caller has checked the range.
template <typename T>
T ElfObject::ReadAt(uint64_t offset) const {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  memcpy(&value, bytes_.data() + offset, sizeof(T));
  return value;
}

// The zero-terminated string at `offset` of a string table whose range has been checked.
bool ElfObject::NameAt(const Elf64_Shdr& table, uint64_t offset, std::string_view* name) const {
  if (offset >= table.sh_size) return false;
  const char* begin = reinterpret_cast<const char*>(bytes_.data() + table.sh_offset + offset);
  const void* end = memchr(begin, '\0', std::min(table.sh_size - offset, kMaxNameBytes + 1));
  if (end == nullptr) return false;
  *name = std::string_view(begin, static_cast<size_t>(static_cast<const char*>(end) - begin));
  return true;
}

StatusOr<ElfObject> ElfObject::Read(std::span<const std::byte> bytes, std::string_view name,
                                    uint64_t huge_page_threshold) {
  ElfObject object(bytes, name);
  RETURN_IF_ERROR(object.ReadSections());
  RETURN_IF_ERROR(object.ReadSymbols());
  RETURN_IF_ERROR(object.LayOut(huge_page_threshold));
  return object;
}

Status ElfObject::ReadHeader(Elf64_Ehdr* header) const {
  if (bytes_.size() < EI_NIDENT || memcmp(bytes_.data(), ELFMAG, SELFMAG) != 0) {
    return Fail(ErrorCode::kFormatUnknown, "not an ELF object (it does not begin with 7f 'ELF')");
  }
  if (bytes_.size() < sizeof(*header)) {
    return Fail(ErrorCode::kFileTruncated, bytes_.size(), " bytes, an ELF64 header alone has ", sizeof(*header));
  }
  *header = ReadAt<Elf64_Ehdr>(0);
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB) {
    return Fail(ErrorCode::kTargetUnsupported, "expected a 64-bit little-endian ELF object, found class ",
                int{header->e_ident[EI_CLASS]}, " and data encoding ", int{header->e_ident[EI_DATA]});
  }
  if (header->e_machine == EM_AARCH64) {
    return Fail(ErrorCode::kTargetUnsupported,
                "it was compiled for AArch64, which this loader does not link yet; compile for x86-64");
  }
  if (header->e_machine != EM_X86_64) {
    return Fail(ErrorCode::kTargetUnsupported, "expected machine ", EM_X86_64, " (x86-64), found ", header->e_machine);
  }
#if !defined(__x86_64__)
  return Fail(ErrorCode::kTargetUnsupported, "it was compiled for x86-64, and this machine is none");
#endif
  if (header->e_type != ET_REL) {
    return Fail(ErrorCode::kTargetUnsupported, "expected a relocatable object (ELF type ", ET_REL, "), found type ",
                header->e_type, "; give the compiler's output as it is, not linked");
  }
  return OkStatus();
}

Status ElfObject::ReadSections() {
  Elf64_Ehdr header;
  RETURN_IF_ERROR(ReadHeader(&header));
  if (header.e_shentsize != sizeof(Elf64_Shdr)) {
    return Fail(ErrorCode::kFileCorrupt, "section headers of ", header.e_shentsize, " bytes, expected ",
                sizeof(Elf64_Shdr));
  }
  if (header.e_shnum == 0 || header.e_shstrndx == SHN_XINDEX) {
    return Fail(ErrorCode::kTargetUnsupported, "no sections, or more than ", SHN_LORESERVE - 1,
                "; compile without a section per function");
  }
  const uint64_t table_size = uint64_t{header.e_shnum} * sizeof(Elf64_Shdr);
  if (!Inside(header.e_shoff, table_size, bytes_.size())) {
    return Fail(ErrorCode::kFileTruncated, "its section table is bytes [", header.e_shoff, ", ", header.e_shoff, " + ",
                table_size, ") of ", bytes_.size());
  }
  sections_.resize(header.e_shnum);
  for (size_t i = 0; i < sections_.size(); ++i) {
    Elf64_Shdr& section = sections_[i].header;
    section = ReadAt<Elf64_Shdr>(header.e_shoff + i * sizeof(Elf64_Shdr));
    if (section.sh_type == SHT_NOBITS || section.sh_type == SHT_NULL) continue;
    if (!Inside(section.sh_offset, section.sh_size, bytes_.size())) {
      return Fail(ErrorCode::kFileTruncated, "section ", i, " is bytes [", section.sh_offset, ", ", section.sh_offset,
                  " + ", section.sh_size, ") of ", bytes_.size());
    }
  }
  if (header.e_shstrndx >= sections_.size() || sections_[header.e_shstrndx].header.sh_type != SHT_STRTAB) {
    return Fail(ErrorCode::kFileCorrupt, "its table of section names is section ", header.e_shstrndx, " of ",
                sections_.size(), ", which is no string table");
  }
  uint64_t bytes_in_file = 0;
  for (size_t i = 1; i < sections_.size(); ++i) {
    Section& section = sections_[i];
    if (!NameAt(sections_[header.e_shstrndx].header, section.header.sh_name, &section.name)) {
      return Fail(ErrorCode::kFileCorrupt, "section ", i, " has its name outside the name table, or none that ends");
    }
    if (section.header.sh_type == SHT_SYMTAB) {
      if (symbol_table_ != 0) return Fail(ErrorCode::kFileCorrupt, "two symbol tables, expected one");
      symbol_table_ = i;
    }
    if ((section.header.sh_flags & SHF_ALLOC) == 0) continue;
    RETURN_IF_ERROR(CheckLoadedSection(&section));
    if (section.header.sh_type != SHT_NOBITS) bytes_in_file += section.header.sh_size;
  }
  // Sections that share bytes of the file would let a small file ask for much memory. Sizes are below the file's size
  // each and 2^16 in number, so the sum cannot overflow.
  if (bytes_in_file > bytes_.size()) {
    return Fail(ErrorCode::kFileCorrupt, "its sections overlap: ", bytes_in_file, " bytes in a file of ",
                bytes_.size());
  }
  return OkStatus();
}

Status ElfObject::CheckLoadedSection(Section* section) const {
  const Elf64_Shdr& header = section->header;
  const std::string label = "section " + Quoted(section->name);
  switch (header.sh_type) {
    case SHT_PROGBITS:
    case SHT_NOBITS:
    case SHT_NOTE:
    case kTypeUnwind: break;
    case SHT_INIT_ARRAY:
    case SHT_FINI_ARRAY:
    case SHT_PREINIT_ARRAY:
      return Fail(ErrorCode::kTargetUnsupported, label,
                  ": constructors and destructors are not run; initialise variables with constants");
    default: return Fail(ErrorCode::kTargetUnsupported, label, " has type ", header.sh_type, ", which is not loaded");
  }
  if (header.sh_flags & SHF_TLS) {
    return Fail(ErrorCode::kTargetUnsupported, label, ": thread-local variables are not supported; pass a pointer");
  }
  if (header.sh_flags & SHF_COMPRESSED) {
    return Fail(ErrorCode::kTargetUnsupported, label, " is compressed; compile without");
  }
  const bool writable = header.sh_flags & SHF_WRITE, executable = header.sh_flags & SHF_EXECINSTR;
  if (writable && executable) {
    return Fail(ErrorCode::kTargetUnsupported, label, " is both writable and executable; split it");
  }
  if (executable && header.sh_type == SHT_NOBITS) {
    return Fail(ErrorCode::kFileCorrupt, label, " is code without bytes");
  }
  const uint64_t alignment = std::max<uint64_t>(header.sh_addralign, 1);
  if ((alignment & (alignment - 1)) != 0 || alignment > kMaxAlignment) {
    return Fail(ErrorCode::kFileCorrupt, label, " has alignment ", alignment, ", expected a power of two up to ",
                kMaxAlignment);
  }
  section->segment = executable ? kCode : writable ? kVariables : kConstants;
  return OkStatus();
}

Status ElfObject::ReadSymbols() {
  if (symbol_table_ == 0) return Fail(ErrorCode::kFileCorrupt, "no symbol table; it must not be stripped");
  const Elf64_Shdr& table = sections_[symbol_table_].header;
  if (table.sh_entsize != sizeof(Elf64_Sym) || table.sh_size % sizeof(Elf64_Sym) != 0) {
    return Fail(ErrorCode::kFileCorrupt, "a symbol table of ", table.sh_size, " bytes in entries of ", table.sh_entsize,
                ", expected entries of ", sizeof(Elf64_Sym));
  }
  if (table.sh_link >= sections_.size() || sections_[table.sh_link].header.sh_type != SHT_STRTAB) {
    return Fail(ErrorCode::kFileCorrupt, "the symbol names are in section ", table.sh_link, " of ", sections_.size(),
                ", which is no string table");
  }
  const Elf64_Shdr& names = sections_[table.sh_link].header;
  symbols_.resize(table.sh_size / sizeof(Elf64_Sym));
  std::string undefined;
  size_t undefined_count = 0;
  for (size_t i = 1; i < symbols_.size(); ++i) {
    const auto entry = ReadAt<Elf64_Sym>(table.sh_offset + i * sizeof(Elf64_Sym));
    if (!NameAt(names, entry.st_name, &symbols_[i].name)) {
      return Fail(ErrorCode::kFileCorrupt, "symbol ", i, " has its name outside the name table, or none that ends");
    }
    RETURN_IF_ERROR(CheckSymbol(i, entry, &symbols_[i]));
    // The assembler names the offset table wherever code uses one; the relocation that does is refused later, by name.
    if (symbols_[i].name == "_GLOBAL_OFFSET_TABLE_") continue;
    if (entry.st_shndx == SHN_UNDEF && ++undefined_count <= 20) {
      undefined += (undefined.empty() ? "" : ", ") + Quoted(symbols_[i].name);
    }
  }
  if (undefined_count > 0) {
    return Fail(ErrorCode::kTargetUnsupported, "it imports ", undefined_count, " symbols (", undefined,
                undefined_count > 20 ? ", ..." : "", "); a kernel must bring everything with it");
  }
  return OkStatus();
}

Status ElfObject::CheckSymbol(size_t index, const Elf64_Sym& entry, Symbol* symbol) const {
  const int type = ELF64_ST_TYPE(entry.st_info);
  const std::string label = "symbol " + std::to_string(index) + " " + Quoted(symbol->name);
  symbol->value = entry.st_value;
  symbol->section = entry.st_shndx;
  symbol->binding = ELF64_ST_BIND(entry.st_info);
  if (type == STT_TLS) {
    return Fail(ErrorCode::kTargetUnsupported, label, ": thread-local variables are not supported; pass a pointer");
  }
  if (type == STT_GNU_IFUNC) {
    return Fail(ErrorCode::kTargetUnsupported, label, ": functions chosen at load time (ifunc) are not supported");
  }
  if (entry.st_shndx == SHN_COMMON) {
    return Fail(ErrorCode::kTargetUnsupported, label, " is a common variable; compile with -fno-common");
  }
  if (entry.st_shndx == SHN_UNDEF || entry.st_shndx == SHN_ABS) return OkStatus();
  if (entry.st_shndx >= sections_.size()) {
    return Fail(ErrorCode::kFileCorrupt, label, " is in section ", entry.st_shndx, " of ", sections_.size());
  }
  const Section& section = sections_[entry.st_shndx];
  if (section.segment != kSegments && !Inside(entry.st_value, entry.st_size, section.header.sh_size)) {
    return Fail(ErrorCode::kFileCorrupt, label, " is bytes [", entry.st_value, ", ", entry.st_value, " + ",
                entry.st_size, ") of ", Quoted(section.name), ", which has ", section.header.sh_size);
  }
  return OkStatus();
}

Status ElfObject::LayOut(uint64_t huge_page_threshold) {
  for (Segment segment : {kCode, kConstants, kVariables}) RETURN_IF_ERROR(LayOutSegment(segment, huge_page_threshold));
  return OkStatus();
}

Status ElfObject::LayOutSegment(Segment segment, uint64_t huge_page_threshold) {
  uint64_t size = 0;
  uint64_t alignment = kPage;
  bool huge_pages = false;
  for (bool zeros : {false, true}) {  // sections of zeros last: their pages then cost nothing until they are used
    for (Section& section : sections_) {
      const Elf64_Shdr& header = section.header;
      if (section.segment != segment || (header.sh_type == SHT_NOBITS) != zeros) continue;
      section.offset = RoundUp(size, std::max<uint64_t>(header.sh_addralign, 1));  // within the segment, for now
      if (header.sh_size > kMaxBytes || section.offset + header.sh_size > kMaxBytes) {
        return Fail(ErrorCode::kLimitExceeded, "section ", Quoted(section.name), " of ", header.sh_size,
                    " bytes takes it past the limit of ", kMaxBytes);
      }
      size = section.offset + header.sh_size;
      alignment = std::max(alignment, header.sh_addralign);
    }
    if (!zeros) huge_pages = size >= huge_page_threshold;  // one touched byte of zeros should not cost 2 MiB
  }
  if (huge_pages) alignment = kMaxAlignment;
  segments_[segment] = Range{.begin = RoundUp(size_, alignment), .size = size, .huge_pages = huge_pages};
  for (Section& section : sections_) {
    if (section.segment == segment) section.offset += segments_[segment].begin;
  }
  size_ = segments_[segment].begin + RoundUp(size, alignment);
  if (size_ > kMaxBytes) {
    return Fail(ErrorCode::kLimitExceeded, "it takes ", size_, " bytes, the limit is ", kMaxBytes);
  }
  return OkStatus();
}

Status ElfObject::LinkInto(std::byte* base) const {
  for (const Section& section : sections_) {
    if (section.segment == kSegments || section.header.sh_type == SHT_NOBITS) continue;
    memcpy(base + section.offset, bytes_.data() + section.header.sh_offset, section.header.sh_size);
  }
  for (size_t i = 1; i < sections_.size(); ++i) {
    const Elf64_Shdr& table = sections_[i].header;
    if (table.sh_type != SHT_RELA && table.sh_type != SHT_REL) continue;
    if (table.sh_info >= sections_.size()) {
      return Fail(ErrorCode::kFileCorrupt, Quoted(sections_[i].name), " relocates section ", table.sh_info, " of ",
                  sections_.size());
    }
    const Section& target = sections_[table.sh_info];
    if (target.segment == kSegments) continue;  // debug information
    if (table.sh_type == SHT_REL || table.sh_entsize != sizeof(Elf64_Rela) || table.sh_size % sizeof(Elf64_Rela) != 0 ||
        table.sh_link != symbol_table_) {
      return Fail(ErrorCode::kFileCorrupt, Quoted(sections_[i].name), ": expected RELA entries of ", sizeof(Elf64_Rela),
                  " bytes against the symbol table");
    }
    if (target.header.sh_type == SHT_NOBITS) {
      return Fail(ErrorCode::kFileCorrupt, Quoted(sections_[i].name), " relocates ", Quoted(target.name),
                  ", which has no bytes");
    }
    for (uint64_t at = 0; at < table.sh_size; at += sizeof(Elf64_Rela)) {
      RETURN_IF_ERROR(Relocate(base, target, ReadAt<Elf64_Rela>(table.sh_offset + at)));
    }
  }
  return OkStatus();
}

Status ElfObject::Relocate(std::byte* base, const Section& target, const Elf64_Rela& entry) const {
  const uint32_t type = ELF64_R_TYPE(entry.r_info);
  const uint32_t symbol_index = ELF64_R_SYM(entry.r_info);
  if (type == R_X86_64_NONE) return OkStatus();
  if (symbol_index >= symbols_.size()) {
    return Fail(ErrorCode::kFileCorrupt, "a relocation of ", Quoted(target.name), " names symbol ", symbol_index,
                " of ", symbols_.size());
  }
  const Symbol& symbol = symbols_[symbol_index];
  const bool relative = type == R_X86_64_PC32 || type == R_X86_64_PLT32 || type == R_X86_64_PC64;
  if (!relative && type != R_X86_64_64) {
    return Fail(
        ErrorCode::kTargetUnsupported, "relocation ", RelocationName(type), " against ", Quoted(symbol.name), " in ",
        Quoted(target.name),
        " is not supported; compile position-independent code with the small code "
        "model and hidden symbols, so that it needs neither a global offset table nor 32-bit absolute addresses");
  }
  const uint64_t width = type == R_X86_64_PC32 || type == R_X86_64_PLT32 ? 4 : 8;
  if (!Inside(entry.r_offset, width, target.header.sh_size)) {
    return Fail(ErrorCode::kFileCorrupt, "a relocation at byte ", entry.r_offset, " of ", Quoted(target.name),
                ", which has ", target.header.sh_size);
  }
  // Symbol 0 and absolute symbols are numbers; the others are addresses in a loaded section.
  uint64_t value = symbol.value;
  if (symbol_index == 0) {
    value = 0;
  } else if (symbol.section != SHN_ABS) {
    const Section& section = sections_[symbol.section];
    if (section.segment == kSegments) {
      return Fail(ErrorCode::kFileCorrupt, Quoted(target.name), " refers to ", Quoted(symbol.name), " in ",
                  Quoted(section.name), ", which is not loaded");
    }
    value += reinterpret_cast<uint64_t>(base) + section.offset;
  }
  std::byte* place = base + target.offset + entry.r_offset;
  value += static_cast<uint64_t>(entry.r_addend);  // modulo 2^64, as the psABI says
  if (relative) value -= reinterpret_cast<uint64_t>(place);
  if (width == 8) {
    memcpy(place, &value, 8);
    return OkStatus();
  }
  const int64_t distance = static_cast<int64_t>(value);
  if (distance != static_cast<int32_t>(distance)) {
    return Fail(ErrorCode::kFileCorrupt, Quoted(target.name), " refers to ", Quoted(symbol.name), " at a distance of ",
                distance, " bytes, which 32 bits cannot say");
  }
  const int32_t narrow = static_cast<int32_t>(distance);
  memcpy(place, &narrow, 4);
  return OkStatus();
}

std::vector<std::pair<std::string, std::byte*>> ElfObject::GlobalSymbols(std::byte* base) const {
  std::vector<std::pair<std::string, std::byte*>> found;
  for (size_t i = 1; i < symbols_.size(); ++i) {
    const Symbol& symbol = symbols_[i];
    if (symbol.binding == STB_LOCAL || symbol.section == SHN_ABS) continue;
    const Section& section = sections_[symbol.section];
    if (section.segment == kSegments) continue;
    found.emplace_back(symbol.name, base + section.offset + symbol.value);
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace tessera
