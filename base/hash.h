// Content hashes: the keys of caches, tuning records and provenance.
//
//   HashBytes("abc").ToHex() == "06b05ab6733a618578af5f94892f3950"
//   Hasher hasher;
//   hasher.AddString(kernel.name).AddValue(rows).AddValue(cols);
//   Hash128 key = hasher.Finish();
//
// XXH3, 128 bits (https://github.com/Cyan4973/xxHash, specification doc/xxhash_spec.md): about memory speed, the same
// on every machine and in every release, so values may be stored in files. It resists accidents, not attackers: never
// let a stranger's file be trusted because its hash matches.  Tested by hash_test.cc with the published test values.
#ifndef TESSERA_BASE_HASH_H_
#define TESSERA_BASE_HASH_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace tessera {

struct Hash128 {
  uint64_t high = 0;
  uint64_t low = 0;

  // 32 lower-case hexadecimal digits, high word first: XXH3's canonical form.
  std::string ToHex() const;

  friend auto operator<=>(const Hash128&, const Hash128&) = default;
};

Hash128 HashBytes(std::string_view bytes, uint64_t seed = 0);
Hash128 HashBytes(std::span<const std::byte> bytes, uint64_t seed = 0);
// XXH3's 64-bit variant, for tables in memory.
uint64_t HashBytes64(std::string_view bytes, uint64_t seed = 0);

// Hashes a sequence piece by piece. Copyable: a copy continues from the same prefix. One thread at a time.
class Hasher {
 public:
  explicit Hasher(uint64_t seed = 0);

  // Raw bytes: AddBytes("ab").AddBytes("c") equals AddBytes("abc") and HashBytes("abc").
  Hasher& AddBytes(std::string_view bytes);
  Hasher& AddBytes(std::span<const std::byte> bytes);
  // Length, then bytes: ("ab", "c") and ("a", "bc") differ.
  Hasher& AddString(std::string_view text);
  // An integer, enum or bool as 8 little-endian bytes (sign-extended), so that the type's width does not matter.
  template <typename T>
    requires(std::is_integral_v<T> || std::is_enum_v<T>)
  Hasher& AddValue(T value) {
    return AddWord(static_cast<uint64_t>(value));
  }

  // The hash of all that was added; more may be added afterwards.
  Hash128 Finish() const;

 private:
  Hasher& AddWord(uint64_t word);

  alignas(64) unsigned char state_[576];  // an XXH3_state_t, whose header only hash.cc includes
};

}  // namespace tessera

template <>
struct std::hash<tessera::Hash128> {
  size_t operator()(const tessera::Hash128& value) const noexcept { return value.low; }
};

#endif  // TESSERA_BASE_HASH_H_
