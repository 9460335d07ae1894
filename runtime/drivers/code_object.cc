#include "runtime/drivers/code_object.h"

#include <elf.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace tessera {
namespace {

constexpr uint16_t kMachineAmdgpu = 224;  // EM_AMDGPU
constexpr uint32_t kMachineMask = 0xff;   // EF_AMDGPU_MACH
constexpr uint64_t kDescriptorBytes = 64;
constexpr std::string_view kDescriptorSuffix = ".kd";

// EF_AMDGPU_MACH_AMDGCN_*.
struct MachineRow {
  std::string_view chip;
  uint32_t machine;
};
constexpr MachineRow kMachines[] = {
    {"gfx906", 0x2f}, {"gfx908", 0x30}, {"gfx90a", 0x3f}, {"gfx942", 0x4c}, {"gfx1100", 0x41},
};

// [offset, offset + size) within [0, total), without overflow.
bool Inside(uint64_t offset, uint64_t size, uint64_t total) { return offset <= total && size <= total - offset; }

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  StatusOr<CodeObject> Read() {
    RETURN_IF_ERROR(ReadSections());
    CodeObject object;
    object.chip = ChipOf(header_.e_flags & kMachineMask);
    for (const Elf64_Shdr& section : sections_) {
      if (section.sh_type == SHT_DYNSYM) RETURN_IF_ERROR(ReadSymbols(section, &object));
    }
    std::sort(object.kernels.begin(), object.kernels.end(),
              [](const CodeObjectKernel& a, const CodeObjectKernel& b) { return a.name < b.name; });
    return object;
  }

 private:
  template <typename... Pieces>
  Status Fail(const Pieces&... pieces) const {
    return Error(ErrorCode::kProgramInvalid, what_, ": no code object for an AMD chip: ", pieces...,
                 "; compile the program again");
  }

  // Copies, because nothing says that the bytes are aligned. The caller has checked the range.
  template <typename T>
  T At(uint64_t offset) const {
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }

  static std::string ChipOf(uint32_t machine) {
    for (const MachineRow& row : kMachines) {
      if (row.machine == machine) return std::string(row.chip);
    }
    char text[32];
    std::snprintf(text, sizeof(text), "machine 0x%x", machine);
    return text;
  }

  Status ReadSections() {
    if (bytes_.size() < sizeof(header_)) return Fail(bytes_.size(), " bytes, and an ELF header has ", sizeof(header_));
    header_ = At<Elf64_Ehdr>(0);
    if (std::memcmp(header_.e_ident, ELFMAG, SELFMAG) != 0) return Fail("it does not begin with 7f 'ELF'");
    if (header_.e_ident[EI_CLASS] != ELFCLASS64 || header_.e_ident[EI_DATA] != ELFDATA2LSB ||
        header_.e_machine != kMachineAmdgpu || header_.e_type != ET_DYN) {
      return Fail("expected a linked 64-bit ELF file of machine ", kMachineAmdgpu, ", found machine ",
                  header_.e_machine, ", type ", header_.e_type);
    }
    const uint64_t segments = uint64_t{header_.e_phnum} * sizeof(Elf64_Phdr);
    const uint64_t table = uint64_t{header_.e_shnum} * sizeof(Elf64_Shdr);
    if (header_.e_phentsize != sizeof(Elf64_Phdr) || header_.e_shentsize != sizeof(Elf64_Shdr) ||
        !Inside(header_.e_phoff, segments, bytes_.size()) || !Inside(header_.e_shoff, table, bytes_.size())) {
      return Fail("its tables of segments and sections do not lie within its ", bytes_.size(), " bytes");
    }
    for (size_t k = 0; k < header_.e_phnum; ++k) {
      const auto segment = At<Elf64_Phdr>(header_.e_phoff + k * sizeof(Elf64_Phdr));
      if (!Inside(segment.p_offset, segment.p_filesz, bytes_.size())) {
        return Fail("segment ", k, " does not lie within its ", bytes_.size(), " bytes");
      }
    }
    for (size_t k = 0; k < header_.e_shnum; ++k) {
      sections_.push_back(At<Elf64_Shdr>(header_.e_shoff + k * sizeof(Elf64_Shdr)));
      const Elf64_Shdr& section = sections_.back();
      const bool has_bytes = section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL;
      if (has_bytes && !Inside(section.sh_offset, section.sh_size, bytes_.size())) {
        return Fail("section ", k, " does not lie within its ", bytes_.size(), " bytes");
      }
    }
    return OkStatus();
  }

  Status ReadSymbols(const Elf64_Shdr& table, CodeObject* object) const {
    if (table.sh_link >= sections_.size() || sections_[table.sh_link].sh_type != SHT_STRTAB) {
      return Fail("its symbols have no names");
    }
    const Elf64_Shdr& names = sections_[table.sh_link];
    const char* const strings = reinterpret_cast<const char*>(bytes_.data() + names.sh_offset);
    for (uint64_t k = 0; k < table.sh_size / sizeof(Elf64_Sym); ++k) {
      const auto symbol = At<Elf64_Sym>(table.sh_offset + k * sizeof(Elf64_Sym));
      if (symbol.st_name >= names.sh_size) return Fail("the name of symbol ", k, " lies outside of the names");
      const char* const start = strings + symbol.st_name;
      const void* const end = std::memchr(start, '\0', names.sh_size - symbol.st_name);
      if (end == nullptr) return Fail("the name of symbol ", k, " does not end");
      const std::string_view name(start, static_cast<size_t>(static_cast<const char*>(end) - start));
      if (!name.ends_with(kDescriptorSuffix) || symbol.st_shndx == SHN_UNDEF) continue;
      RETURN_IF_ERROR(ReadDescriptor(name.substr(0, name.size() - kDescriptorSuffix.size()), symbol, object));
    }
    return OkStatus();
  }

  Status ReadDescriptor(std::string_view name, const Elf64_Sym& symbol, CodeObject* object) const {
    if (symbol.st_shndx >= sections_.size()) return Fail("the descriptor of '", name, "' lies in no section");
    const Elf64_Shdr& section = sections_[symbol.st_shndx];
    const uint64_t within = symbol.st_value - section.sh_addr;
    if (section.sh_type == SHT_NOBITS || symbol.st_value < section.sh_addr ||
        !Inside(within, kDescriptorBytes, section.sh_size)) {
      return Fail("the descriptor of '", name, "' does not lie within its section");
    }
    const uint64_t at = section.sh_offset + within;
    object->kernels.push_back({.name = std::string(name),
                               .kernarg_bytes = At<uint32_t>(at + 8),
                               .shared_bytes = At<uint32_t>(at),
                               .scratch_bytes = At<uint32_t>(at + 4)});
    return OkStatus();
  }

  std::span<const std::byte> bytes_;
  std::string_view what_;
  Elf64_Ehdr header_;
  std::vector<Elf64_Shdr> sections_;
};

}  // namespace

const CodeObjectKernel* CodeObject::Find(std::string_view name) const {
  const auto found =
      std::lower_bound(kernels.begin(), kernels.end(), name,
                       [](const CodeObjectKernel& kernel, std::string_view n) { return kernel.name < n; });
  return found != kernels.end() && found->name == name ? &*found : nullptr;
}

StatusOr<CodeObject> ReadCodeObject(std::span<const std::byte> bytes, std::string_view what) {
  return Reader(bytes, what).Read();
}

uint32_t CodeObjectMachine(std::string_view chip) {
  for (const MachineRow& row : kMachines) {
    if (row.chip == chip) return row.machine;
  }
  return 0;
}

}  // namespace tessera
