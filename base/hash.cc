#include "base/hash.h"

#include <cstring>
#include <new>

// The library as one header: its code is compiled here and inlined, and nothing is linked.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tessera {
namespace {

Hash128 FromXxh(XXH128_hash_t hash) { return Hash128{.high = hash.high64, .low = hash.low64}; }

XXH3_state_t* State(unsigned char* bytes) { return std::launder(reinterpret_cast<XXH3_state_t*>(bytes)); }
const XXH3_state_t* State(const unsigned char* bytes) {
  return std::launder(reinterpret_cast<const XXH3_state_t*>(bytes));
}

std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

std::string Hash128::ToHex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text(32, '0');
  for (int i = 0; i < 32; ++i) {
    const uint64_t word = i < 16 ? high : low;
    text[i] = kDigits[(word >> (60 - 4 * (i % 16))) & 15];
  }
  return text;
}

Hash128 HashBytes(std::string_view bytes, uint64_t seed) {
  return FromXxh(XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed));
}

Hash128 HashBytes(std::span<const std::byte> bytes, uint64_t seed) { return HashBytes(AsText(bytes), seed); }

uint64_t HashBytes64(std::string_view bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

Hasher::Hasher(uint64_t seed) {
  // A plain C struct: copying Hasher copies its bytes, which is how XXH3_copyState does it too.
  static_assert(sizeof(XXH3_state_t) <= sizeof(state_) && alignof(XXH3_state_t) <= alignof(Hasher));
  static_assert(std::is_trivially_copyable_v<XXH3_state_t>);
  XXH3_state_t* state = new (state_) XXH3_state_t;
  XXH3_128bits_reset_withSeed(state, seed);
}

Hasher& Hasher::AddBytes(std::string_view bytes) {
  // The library refuses a null pointer even for no bytes.
  if (!bytes.empty()) XXH3_128bits_update(State(state_), bytes.data(), bytes.size());
  return *this;
}

Hasher& Hasher::AddBytes(std::span<const std::byte> bytes) { return AddBytes(AsText(bytes)); }

Hasher& Hasher::AddString(std::string_view text) { return AddWord(text.size()).AddBytes(text); }

Hasher& Hasher::AddWord(uint64_t word) {
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(word >> (8 * i));
  return AddBytes(std::string_view(bytes, sizeof(bytes)));
}

Hash128 Hasher::Finish() const { return FromXxh(XXH3_128bits_digest(State(state_))); }

}  // namespace tessera
