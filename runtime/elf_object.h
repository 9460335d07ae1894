// ElfObject: reads an x86-64 ELF64 relocatable object, checks all of it, and links it into memory that the caller owns.
//
//   ASSIGN_OR_RETURN(ElfObject object, ElfObject::Read(bytes, "mobilenet.tessx"));
//   std::byte* base = ...object.size_bytes() zero bytes, aligned to ElfObject::kMaxAlignment...
//   RETURN_IF_ERROR(object.LinkInto(base));                       // then protect object.segment(...)
//
// The part of library.h that knows ELF; nobody else uses it. Nothing that the bytes say is believed: every offset, size
// and index passes through Inside() or a comparison with the table that it indexes before it is used. Format: the
// System V ABI, chapter "Object Files", and its x86-64 supplement, chapter 4 (relocation types).  Tested by
// library_test.cc.
#ifndef TESSERA_RUNTIME_ELF_OBJECT_H_
#define TESSERA_RUNTIME_ELF_OBJECT_H_

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace tessera {

// A view of bytes that must outlive it.
class ElfObject {
 public:
  // What a 32-bit relative address reaches, with room to spare.
  static constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
  static constexpr uint64_t kMaxAlignment = uint64_t{2} << 20;  // a huge page
  // Longer symbol names than any compiler writes; a limit, so that overlapping names cannot ask for much memory.
  static constexpr uint64_t kMaxNameBytes = 4096;

  // Sections of one protection, which lie together, in the order in which they lie in memory.
  enum Segment { kCode, kConstants, kVariables, kSegments };
  struct Range {
    uint64_t begin = 0;
    uint64_t size = 0;
    bool huge_pages = false;
  };

  // Reads the tables, checks them and lays the sections out. Segments start on pages; those with at
  // least `huge_page_threshold` bytes of content start and end on 2 MiB, because two protections would split a huge
  // page.
  static StatusOr<ElfObject> Read(std::span<const std::byte> bytes, std::string_view name,
                                  uint64_t huge_page_threshold);

  uint64_t size_bytes() const { return size_; }
  Range segment(Segment segment) const { return segments_[segment]; }

  // Copies the sections and applies the relocations. The memory is zero, writable, and where the code will run.
  Status LinkInto(std::byte* base) const;
  // Name and address of every function and variable with global binding, sorted by name.
  std::vector<std::pair<std::string, std::byte*>> GlobalSymbols(std::byte* base) const;

 private:
  struct Section {
    Elf64_Shdr header;
    std::string_view name;
    Segment segment = kSegments;  // kSegments: not loaded
    uint64_t offset = 0;          // in memory, from the base
  };
  struct Symbol {
    std::string_view name;
    uint64_t value = 0;
    uint16_t section = SHN_UNDEF;
    uint8_t binding = STB_LOCAL;
  };

  ElfObject(std::span<const std::byte> bytes, std::string_view name) : bytes_(bytes), name_(name) {}

  template <typename... Pieces>
  Status Fail(ErrorCode code, const Pieces&... pieces) const {
    return Error(code, "kernel object '", name_, "': ", pieces...);
  }
  template <typename T>
  T ReadAt(uint64_t offset) const;
  bool NameAt(const Elf64_Shdr& table, uint64_t offset, std::string_view* name) const;

  Status ReadHeader(Elf64_Ehdr* header) const;
  Status ReadSections();
  Status CheckLoadedSection(Section* section) const;
  Status ReadSymbols();
  Status CheckSymbol(size_t index, const Elf64_Sym& entry, Symbol* symbol) const;
  Status LayOut(uint64_t huge_page_threshold);
  Status LayOutSegment(Segment segment, uint64_t huge_page_threshold);
  Status Relocate(std::byte* base, const Section& target, const Elf64_Rela& entry) const;

  std::span<const std::byte> bytes_;
  std::string name_;
  std::vector<Section> sections_;
  std::vector<Symbol> symbols_;
  size_t symbol_table_ = 0;  // its section; 0: none
  uint64_t size_ = 0;
  Range segments_[kSegments];
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_ELF_OBJECT_H_
