// A code object as ReadCodeObject takes it, without a compiler: a header, descriptors and symbols, and no code.
#ifndef TESSERA_RUNTIME_TESTING_CODE_OBJECT_WRITER_H_
#define TESSERA_RUNTIME_TESTING_CODE_OBJECT_WRITER_H_

#include <elf.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/drivers/code_object.h"

namespace tessera {

// The header, then sections: none, descriptors (.rodata), symbols (.dynsym), names (.dynstr); the table of sections at
// the end. `machine` is CodeObjectMachine of a chip.
inline std::string WriteCodeObject(uint32_t machine, const std::vector<CodeObjectKernel>& kernels) {
  constexpr uint64_t kAddress = 0x1000;  // of the descriptors when loaded
  std::string descriptors, names(1, '\0');
  std::vector<Elf64_Sym> symbols(1);
  for (const CodeObjectKernel& kernel : kernels) {
    const auto add = [&](const std::string& name, uint64_t value) {
      Elf64_Sym symbol = {};
      symbol.st_name = static_cast<uint32_t>(names.size());
      symbol.st_shndx = 1;
      symbol.st_value = value;
      symbols.push_back(symbol);
      names += name + '\0';
    };
    add(kernel.name, kAddress);
    add(kernel.name + ".kd", kAddress + descriptors.size());
    const uint32_t words[16] = {static_cast<uint32_t>(kernel.shared_bytes), static_cast<uint32_t>(kernel.scratch_bytes),
                                static_cast<uint32_t>(kernel.kernarg_bytes)};
    descriptors.append(reinterpret_cast<const char*>(words), sizeof(words));
  }
  Elf64_Ehdr header = {};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_DYN;
  header.e_machine = 224;
  header.e_flags = machine;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 4;
  Elf64_Shdr sections[4] = {};
  std::string file(sizeof(header), '\0');
  const auto put = [&](Elf64_Shdr& section, uint32_t type, std::string_view bytes) {
    section.sh_type = type;
    section.sh_offset = file.size();
    section.sh_size = bytes.size();
    file += bytes;
  };
  put(sections[1], SHT_PROGBITS, descriptors);
  sections[1].sh_addr = kAddress;
  put(sections[2], SHT_DYNSYM, {reinterpret_cast<const char*>(symbols.data()), symbols.size() * sizeof(Elf64_Sym)});
  sections[2].sh_link = 3;
  put(sections[3], SHT_STRTAB, names);
  header.e_shoff = file.size();
  file.append(reinterpret_cast<const char*>(sections), sizeof(sections));
  std::memcpy(file.data(), &header, sizeof(header));
  return file;
}

}  // namespace tessera

#endif  // TESSERA_RUNTIME_TESTING_CODE_OBJECT_WRITER_H_
