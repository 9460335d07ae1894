// The container of model files, as bytes: what writer and reader share. model_file.h describes it.
//
//   header.magic == kMagic; sections[k].offset % kAlignment == 0
//
// Private to graph/. Tested by model_file_test.cc.
#ifndef TESSERA_GRAPH_MODEL_CONTAINER_H_
#define TESSERA_GRAPH_MODEL_CONTAINER_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tessera::internal {

// Fields are copied to and from files as they lie in memory.
static_assert(std::endian::native == std::endian::little);

// As PNG's: a byte that is no text, a name, and line ends that a text transfer would damage.
inline constexpr std::string_view kMagic = "\x89TESS\r\n\x1a";
inline constexpr uint32_t kContainerVersion = 1;
inline constexpr uint32_t kMaxSections = 16;
inline constexpr uint64_t kAlignment = 64;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t num_sections;
};
static_assert(sizeof(Header) == 16);

enum SectionKind : uint32_t { kStructure = 1, kData = 2 };

struct Section {
  uint32_t kind;
  uint32_t reserved;
  uint64_t offset;
  uint64_t size;
};
static_assert(sizeof(Section) == 24);

inline constexpr uint64_t AlignUp(uint64_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; }

// Bitmaps of more bytes than this lie in the data section.
inline constexpr int64_t kMaxInlineBitmapBytes = 4096;

}  // namespace tessera::internal

#endif  // TESSERA_GRAPH_MODEL_CONTAINER_H_
