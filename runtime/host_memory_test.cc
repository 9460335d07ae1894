// Sizes on both sides of the threshold: aligned, zeroed, writable to the last byte and beyond it as promised.
#include "runtime/host_memory.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace tessera {
namespace {

TEST(HostMemoryTest, IsAlignedZeroedAndWritable) {
  for (const int64_t size : {int64_t{0}, int64_t{1}, int64_t{4097}, HostMemory::kHugePageThreshold - 1,
                             HostMemory::kHugePageThreshold, int64_t{2} << 20, (int64_t{6} << 20) + 12345}) {
    StatusOr<HostMemory> memory = HostMemory::Allocate(size, "test");
    ASSERT_TRUE(memory.ok()) << memory.status();
    const uint64_t address = reinterpret_cast<uint64_t>(memory->data());
    EXPECT_EQ(address % (size < HostMemory::kHugePageThreshold ? 64 : 2 << 20), 0u) << size;
    ASSERT_EQ(static_cast<int64_t>(memory->bytes().size()), size);
    std::byte* end = memory->data() + size + HostMemory::kSlack;
    EXPECT_TRUE(std::all_of(memory->data(), end, [](std::byte byte) { return byte == std::byte{0}; })) << size;
    std::fill(memory->data(), end, std::byte{7});
  }
}

TEST(HostMemoryTest, Moves) {
  StatusOr<HostMemory> first = HostMemory::Allocate(3 << 20, "first");
  ASSERT_TRUE(first.ok());
  std::byte* data = first->data();
  data[5] = std::byte{9};
  HostMemory second = *std::move(first);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second.data()[5], std::byte{9});
  second = HostMemory();
  EXPECT_EQ(second.data(), nullptr);
}

TEST(HostMemoryTest, RefusesWhatCannotBe) {
  EXPECT_EQ(HostMemory::Allocate(-1, "test").status().code(), ErrorCode::kUsageInvalid);
  EXPECT_EQ(HostMemory::Allocate(INT64_MAX / 2, "test").status().code(), ErrorCode::kOutOfMemory);
}

}  // namespace
}  // namespace tessera
