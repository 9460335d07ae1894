#include "runtime/library.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <string.h>

#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"

namespace tessera {
namespace {

using Bytes = std::vector<std::byte>;

// One of testdata's objects. TEST_OBJECTS says where they are when Bazel does not run the test.
Bytes Object(const std::string& name) {
  const char* folder = std::getenv("TEST_OBJECTS");
  const std::string path = std::string(folder != nullptr ? folder : "runtime/testdata") + "/" + name + ".o";
  StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) {
    ADD_FAILURE() << text.status();
    return {};
  }
  const std::byte* begin = reinterpret_cast<const std::byte*>(text->data());
  return Bytes(begin, begin + text->size());
}

KernelLibrary LoadOrFail(const Bytes& object) {
  StatusOr<KernelLibrary> library = KernelLibrary::Load(object, "test.o");
  if (!library.ok()) {
    ADD_FAILURE() << library.status();
    std::abort();
  }
  return *std::move(library);
}

void ExpectError(const Bytes& object, ErrorCode code, const std::string& piece) {
  const StatusOr<KernelLibrary> library = KernelLibrary::Load(object, "test.o");
  ASSERT_FALSE(library.ok()) << "expected: " << piece;
  EXPECT_EQ(library.status().code(), code) << library.status();
  EXPECT_NE(library.status().message().find(piece), std::string::npos)
      << "expected '" << piece << "' in " << library.status();
  EXPECT_NE(library.status().message().find("kernel object 'test.o'"), std::string::npos) << library.status();
}

template <typename Function>
Function* Get(const KernelLibrary& library, const char* name) {
  void* address = library.Lookup(name);
  EXPECT_NE(address, nullptr) << name;
  return reinterpret_cast<Function*>(address);
}

// What /proc says of the mapping that holds `address`: "r-xp", or with `flag` a later line such as "VmFlags:".
std::string MappingLine(const void* address, const std::string& flag = "") {
  std::ifstream maps("/proc/self/smaps");
  const uint64_t wanted = reinterpret_cast<uint64_t>(address);
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long long begin, end;
    char protection[8];
    if (sscanf(line.c_str(), "%llx-%llx %7s", &begin, &end, protection) == 3) {
      inside = begin <= wanted && wanted < end;
      if (inside && flag.empty()) return protection;
    } else if (inside && line.rfind(flag, 0) == 0) {
      return line;
    }
  }
  return "";
}

TEST(KernelLibraryTest, EverythingThatACompilerEmitsWorks) {
  const KernelLibrary library = LoadOrFail(Object("kernels"));
  const float x[] = {1, 2, 3, 4, 5, 6, 7};
  float expected = 0;
  const float weights[] = {0.5f, -1.25f, 2.0f, 8.0f, -0.75f};
  for (int i = 0; i < 7; ++i) expected += weights[i % 5] * x[i];
  EXPECT_EQ(Get<float(const float*, long)>(library, "weighted_sum")(x, 7), expected);
  EXPECT_EQ(Get<long(long)>(library, "fibonacci_plus_weight")(20), 6765 + 8);
  auto* count_call = Get<int()>(library, "count_call");
  EXPECT_EQ(count_call(), 42);
  EXPECT_EQ(count_call(), 43);
  *Get<int>(library, "start") = 100;
  EXPECT_EQ(count_call(), 103);
  auto* classify = Get<int(int)>(library, "classify");
  const int classes[] = {17, -4, 99, 12, 1000, 100, -77, 3, -1, -1};
  for (int i = 0; i < 10; ++i) EXPECT_EQ(classify(i), classes[i]) << i;
  auto* apply = Get<int(int, int)>(library, "apply");
  EXPECT_EQ(apply(0, 7), 14);
  EXPECT_EQ(apply(1, 7), 49);
  EXPECT_EQ(apply(2, 7), -7);
  auto* touch_scratch = Get<int(int)>(library, "touch_scratch");
  for (int at : {0, 1, (3 << 20) - 1}) {
    EXPECT_EQ(touch_scratch(at), 0);
    EXPECT_EQ(touch_scratch(at), 1);
  }
}

TEST(KernelLibraryTest, EachLoadHasItsOwnVariables) {
  const Bytes object = Object("kernels");
  const KernelLibrary first = LoadOrFail(object), second = LoadOrFail(object);
  EXPECT_EQ(Get<int()>(first, "count_call")(), 42);
  EXPECT_EQ(Get<int()>(first, "count_call")(), 43);
  EXPECT_EQ(Get<int()>(second, "count_call")(), 42);
}

TEST(KernelLibraryTest, LookupFindsGlobalNamesOnly) {
  const KernelLibrary library = LoadOrFail(Object("kernels"));
  for (const char* absent : {"", "fib", "fibonacci ", "twice", "kWeights", "zzz", "kernels.c"}) {
    EXPECT_EQ(library.Lookup(absent), nullptr) << absent;
  }
  EXPECT_EQ(library.SymbolNames(),
            (std::vector<std::string>{"apply", "classify", "count_call", "fibonacci", "fibonacci_plus_weight",
                                      "scratch", "start", "touch_scratch", "weighted_sum", "weights_address"}));
  EXPECT_EQ(KernelLibrary().Lookup("apply"), nullptr);
}

TEST(KernelLibraryTest, NothingIsBothWritableAndExecutable) {
  const KernelLibrary library = LoadOrFail(Object("kernels"));
  EXPECT_EQ(MappingLine(library.Lookup("fibonacci")), "r-xp");
  EXPECT_EQ(MappingLine(Get<const float*()>(library, "weights_address")()), "r--p");
  EXPECT_EQ(MappingLine(library.Lookup("start")), "rw-p");
  EXPECT_EQ(MappingLine(library.Lookup("scratch")), "rw-p");
}

TEST(KernelLibraryTest, MovedLibrariesKeepTheirAddresses) {
  KernelLibrary first = LoadOrFail(Object("kernels"));
  void* address = first.Lookup("fibonacci");
  KernelLibrary second = std::move(first);
  EXPECT_EQ(second.Lookup("fibonacci"), address);
  KernelLibrary third = LoadOrFail(Object("kernels"));
  third = std::move(second);
  EXPECT_EQ(third.Lookup("fibonacci"), address);
  EXPECT_EQ(Get<long(long)>(third, "fibonacci")(10), 55);
}

TEST(KernelLibraryTest, MuchCodeLiesOnHugePages) {
  const KernelLibrary library = LoadOrFail(Object("large"));
  EXPECT_GT(library.code().size(), 1u << 20);
  EXPECT_EQ(reinterpret_cast<uint64_t>(library.code().data()) % (2 << 20), 0u);
  EXPECT_EQ(Get<int()>(library, "first")(), 42);
  const std::string flags = MappingLine(library.code().data(), "VmFlags:");
  if (!flags.empty()) {
    EXPECT_NE(flags.find(" hg"), std::string::npos) << "madvise was not asked: " << flags;
  }
  std::printf("%s\n", MappingLine(library.code().data(), "AnonHugePages:").c_str());
}

TEST(KernelLibraryTest, FormsThatAreNotSupportedSayWhatToChange) {
  ExpectError(Object("imports"), ErrorCode::kTargetUnsupported, "it imports 2 symbols ('");
  ExpectError(Object("imports"), ErrorCode::kTargetUnsupported, "'log'");
  ExpectError(Object("imports"), ErrorCode::kTargetUnsupported, "'verbosity'");
  ExpectError(Object("offset_table"), ErrorCode::kTargetUnsupported, "GOTPCRELX against 'counter'");
  ExpectError(Object("absolute"), ErrorCode::kTargetUnsupported, "relocation R_X86_64_32");
  ExpectError(Object("constructor"), ErrorCode::kTargetUnsupported, "constructors and destructors are not run");
  ExpectError(Object("thread_local"), ErrorCode::kTargetUnsupported, "thread-local variables are not supported");
}

TEST(KernelLibraryTest, OtherFilesAreRefused) {
  ExpectError({}, ErrorCode::kFormatUnknown, "not an ELF object");
  ExpectError(Bytes(100, std::byte{'x'}), ErrorCode::kFormatUnknown, "not an ELF object");
  const Bytes object = Object("kernels");
  auto patched = [&](size_t offset, uint16_t value) {
    Bytes copy = object;
    memcpy(copy.data() + offset, &value, sizeof(value));
    return copy;
  };
  ExpectError(patched(offsetof(Elf64_Ehdr, e_machine), EM_AARCH64), ErrorCode::kTargetUnsupported, "AArch64");
  ExpectError(patched(offsetof(Elf64_Ehdr, e_machine), EM_RISCV), ErrorCode::kTargetUnsupported, "found 243");
  ExpectError(patched(offsetof(Elf64_Ehdr, e_type), ET_DYN), ErrorCode::kTargetUnsupported, "relocatable");
  ExpectError(patched(EI_CLASS, ELFCLASS32 | ELFDATA2LSB << 8), ErrorCode::kTargetUnsupported, "64-bit");
  ExpectError(patched(offsetof(Elf64_Ehdr, e_shentsize), 63), ErrorCode::kFileCorrupt, "section headers of 63");
  ExpectError(patched(offsetof(Elf64_Ehdr, e_shstrndx), 9999), ErrorCode::kFileCorrupt, "9999");
}

// Where a section header of the given type begins; the `skip`-th one.
size_t FindSection(const Bytes& object, uint32_t type, int skip = 0) {
  Elf64_Ehdr header;
  memcpy(&header, object.data(), sizeof(header));
  for (int i = 0; i < header.e_shnum; ++i) {
    const size_t at = header.e_shoff + i * sizeof(Elf64_Shdr);
    Elf64_Shdr section;
    memcpy(&section, object.data() + at, sizeof(section));
    if (section.sh_type == type && skip-- == 0) return at;
  }
  ADD_FAILURE() << "no section of type " << type;
  return 0;
}

Bytes WithSectionField(const Bytes& object, uint32_t type, size_t field, uint64_t value) {
  Bytes copy = object;
  memcpy(copy.data() + FindSection(object, type) + field, &value, sizeof(value));
  return copy;
}

TEST(KernelLibraryTest, ContradictoryTablesAreErrors) {
  const Bytes object = Object("kernels");
  constexpr size_t kSize = offsetof(Elf64_Shdr, sh_size), kOffset = offsetof(Elf64_Shdr, sh_offset);
  constexpr size_t kAlignment = offsetof(Elf64_Shdr, sh_addralign), kEntry = offsetof(Elf64_Shdr, sh_entsize);
  ExpectError(WithSectionField(object, SHT_PROGBITS, kSize, ~0ull), ErrorCode::kFileTruncated, "section");
  ExpectError(WithSectionField(object, SHT_PROGBITS, kOffset, ~0ull - 7), ErrorCode::kFileTruncated, "section");
  ExpectError(WithSectionField(object, SHT_PROGBITS, kAlignment, 3), ErrorCode::kFileCorrupt, "alignment 3");
  ExpectError(WithSectionField(object, SHT_PROGBITS, kAlignment, 1ull << 63), ErrorCode::kFileCorrupt, "alignment");
  ExpectError(WithSectionField(object, SHT_NOBITS, kSize, ~0ull), ErrorCode::kLimitExceeded, "limit");
  ExpectError(WithSectionField(object, SHT_NOBITS, kSize, 1ull << 31), ErrorCode::kLimitExceeded, "limit");
  ExpectError(WithSectionField(object, SHT_SYMTAB, kEntry, 23), ErrorCode::kFileCorrupt, "in entries of 23");
  ExpectError(WithSectionField(object, SHT_SYMTAB, kEntry, 0), ErrorCode::kFileCorrupt, "in entries of 0");
  ExpectError(WithSectionField(object, SHT_RELA, kEntry, 8), ErrorCode::kFileCorrupt, "expected RELA entries");
  ExpectError(WithSectionField(object, SHT_RELA, kSize, 25), ErrorCode::kFileCorrupt, "expected RELA entries");

  Elf64_Shdr rela, symbols;
  memcpy(&rela, object.data() + FindSection(object, SHT_RELA), sizeof(rela));
  memcpy(&symbols, object.data() + FindSection(object, SHT_SYMTAB), sizeof(symbols));
  auto patched64 = [&](uint64_t offset, uint64_t value) {
    Bytes copy = object;
    memcpy(copy.data() + offset, &value, sizeof(value));
    return copy;
  };
  ExpectError(patched64(rela.sh_offset, ~0ull - 2), ErrorCode::kFileCorrupt, "a relocation at byte");
  ExpectError(patched64(rela.sh_offset + 8, ELF64_R_INFO(0xffffffull, R_X86_64_PC32)), ErrorCode::kFileCorrupt,
              "names symbol 16777215");
  ExpectError(patched64(rela.sh_offset + 16, 1ull << 40), ErrorCode::kFileCorrupt, "which 32 bits cannot say");
  ExpectError(patched64(rela.sh_offset + 8, ELF64_R_INFO(1ull, 200)), ErrorCode::kTargetUnsupported, "of type 200");
  const uint64_t last_symbol = symbols.sh_offset + symbols.sh_size - sizeof(Elf64_Sym);
  ExpectError(patched64(last_symbol + offsetof(Elf64_Sym, st_value), ~0ull), ErrorCode::kFileCorrupt, "symbol");
  ExpectError(patched64(last_symbol + offsetof(Elf64_Sym, st_size), ~0ull), ErrorCode::kFileCorrupt, "symbol");
}

TEST(KernelLibraryTest, EveryTruncationIsAnErrorOrALibrary) {
  for (const char* name : {"kernels", "imports", "offset_table", "thread_local"}) {
    const Bytes object = Object(name);
    for (size_t size = 0; size < object.size(); ++size) {
      // A copy of just this size, so that a sanitizer sees a read past its end.
      const StatusOr<KernelLibrary> library = KernelLibrary::Load(Bytes(object.begin(), object.begin() + size), name);
      if (!library.ok()) {
        EXPECT_FALSE(library.status().message().empty());
      }
    }
  }
}

TEST(KernelLibraryTest, FlippedBitsNeverCrash) {
  const Bytes object = Object("kernels");
  std::mt19937 random(5);
  int loaded = 0, refused = 0;
  auto load = [&](const Bytes& bytes) { KernelLibrary::Load(bytes, "flipped").ok() ? ++loaded : ++refused; };
  // Every single bit of the headers and tables; then several at once, anywhere.
  Bytes copy = object;
  for (size_t bit = 0; bit < object.size() * 8; ++bit) {
    copy[bit / 8] ^= std::byte{1} << (bit % 8);
    load(copy);
    copy[bit / 8] = object[bit / 8];
  }
  for (int trial = 0; trial < 10000; ++trial) {
    copy = object;
    for (int flip = 1 + static_cast<int>(random() % 20); flip > 0; --flip) {
      copy[random() % copy.size()] = static_cast<std::byte>(random());
    }
    load(copy);
  }
  // Whole words replaced by the values that break arithmetic.
  const uint64_t extremes[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 40, 1ull << 63, ~0ull, ~0ull - 63};
  for (size_t at = 0; at + 8 <= object.size(); at += 4) {
    for (uint64_t extreme : extremes) {
      copy = object;
      memcpy(copy.data() + at, &extreme, sizeof(extreme));
      load(copy);
    }
  }
  EXPECT_GT(loaded, 100);
  EXPECT_GT(refused, 100);
}

TEST(KernelLibraryTest, RandomHeadersNeverCrash) {
  const Bytes object = Object("kernels");
  std::mt19937 random(6);
  Elf64_Ehdr header;
  memcpy(&header, object.data(), sizeof(header));
  for (int trial = 0; trial < 20000; ++trial) {
    // One field of one section header becomes another one's, or small, or large.
    Bytes copy = object;
    const size_t section = header.e_shoff + random() % header.e_shnum * sizeof(Elf64_Shdr);
    const size_t field = section + random() % 16 * 4;
    uint32_t value = static_cast<uint32_t>(random());
    if (random() % 2) value %= 40;
    if (random() % 2) memcpy(&value, object.data() + header.e_shoff + random() % (header.e_shnum * 16) * 4, 4);
    memcpy(copy.data() + field, &value, sizeof(value));
    (void)KernelLibrary::Load(copy, "random").ok();
  }
}

TEST(VendorLibraryTest, TheFirstThatExistsIsOpened) {
  StatusOr<VendorLibrary> math = VendorLibrary::Open({"libtessera_absent.so.9", "libm.so.6"});
  ASSERT_TRUE(math.ok()) << math.status();
  EXPECT_EQ(math->name(), "libm.so.6");
  StatusOr<void*> cosine = math->Symbol("cos");
  ASSERT_TRUE(cosine.ok()) << cosine.status();
  VendorLibrary moved = *std::move(math);
  EXPECT_EQ(reinterpret_cast<double (*)(double)>(*cosine)(0.0), 1.0);
  const Status missing = moved.Symbol("tessera_no_such_function").status();
  EXPECT_EQ(missing.code(), ErrorCode::kDeviceMissing);
  EXPECT_NE(missing.message().find("'tessera_no_such_function'"), std::string::npos) << missing;
}

TEST(VendorLibraryTest, AbsenceNamesAllThatWasTried) {
  const Status status = VendorLibrary::Open({"libtessera_absent.so.9", "libtessera_absent.so"}).status();
  EXPECT_EQ(status.code(), ErrorCode::kDeviceMissing);
  EXPECT_NE(status.message().find("libtessera_absent.so.9"), std::string::npos) << status;
  EXPECT_NE(status.message().find("'libtessera_absent.so'"), std::string::npos) << status;
}

}  // namespace
}  // namespace tessera
