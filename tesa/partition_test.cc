#include "tesa/partition.h"

#include <map>
#include <random>

#include "gtest/gtest.h"

namespace tessera {
namespace {

std::vector<int64_t> Labels(std::mt19937& random, int64_t extent, int64_t kinds, bool sparse) {
  std::vector<int64_t> labels(static_cast<size_t>(extent));
  for (int64_t& label : labels) {
    label = static_cast<int64_t>(random() % static_cast<uint64_t>(kinds));
    if (sparse) label = (label - kinds / 2) * 1'000'000'007'003;
  }
  return labels;
}

// The same classes, by the plain definition.
void ExpectClasses(const Partition& p, const std::vector<std::pair<int64_t, int64_t>>& labels) {
  ASSERT_EQ(p.extent(), static_cast<int64_t>(labels.size()));
  std::map<std::pair<int64_t, int64_t>, int64_t> numbers;
  std::vector<std::vector<int64_t>> members;
  for (size_t i = 0; i < labels.size(); ++i) {
    const auto [at, fresh] = numbers.emplace(labels[i], static_cast<int64_t>(members.size()));
    if (fresh) members.emplace_back();
    members[static_cast<size_t>(at->second)].push_back(static_cast<int64_t>(i));
    EXPECT_EQ(p[static_cast<int64_t>(i)], at->second) << i;
  }
  EXPECT_EQ(p.num_classes(), static_cast<int64_t>(members.size()));
  EXPECT_EQ(p.Members(), members);
  const std::vector<int64_t> firsts = p.Firsts(), sizes = p.Sizes();
  ASSERT_EQ(firsts.size(), members.size());
  ASSERT_EQ(sizes.size(), members.size());
  for (size_t c = 0; c < members.size(); ++c) {
    EXPECT_EQ(firsts[c], members[c][0]);
    EXPECT_EQ(sizes[c], static_cast<int64_t>(members[c].size()));
  }
}

TEST(PartitionTest, SimpleForms) {
  for (int64_t extent : {0, 1, 2, 7, 100}) {
    SCOPED_TRACE(extent);
    std::vector<std::pair<int64_t, int64_t>> same(static_cast<size_t>(extent)), own, blocks;
    for (int64_t i = 0; i < extent; ++i) {
      own.emplace_back(i, 0);
      blocks.emplace_back(i / 3, 0);
    }
    ExpectClasses(Partition::Whole(extent), same);
    ExpectClasses(Partition::Identity(extent), own);
    ExpectClasses(Partition::Blocks(extent, 3), blocks);
    EXPECT_TRUE(Partition::Whole(extent).is_whole());
    EXPECT_TRUE(Partition::Identity(extent).is_identity());
    EXPECT_EQ(Partition::Blocks(extent, 1), Partition::Identity(extent));
    EXPECT_EQ(Partition::Blocks(extent, 1000), Partition::Whole(extent));
  }
  EXPECT_EQ(Partition::Whole(1), Partition::Identity(1));
  EXPECT_EQ(Partition(), Partition::Whole(0));
}

TEST(PartitionTest, FromLabelsNumbersClassesByFirstMember) {
  const Partition p = Partition::FromLabels({7, 7, 3, 7});
  EXPECT_EQ(p[2], 1);
  EXPECT_EQ(p.num_classes(), 2);
  EXPECT_EQ(p, Partition::FromLabels({-1, -1, INT64_MAX, -1}));
  EXPECT_NE(p, Partition::FromLabels({7, 7, 3, 3}));
  EXPECT_EQ(Partition::FromLabels({5, 5, 5}), Partition::Whole(3));
  EXPECT_EQ(Partition::FromLabels({5, 6, INT64_MIN}), Partition::Identity(3));
}

TEST(PartitionTest, RandomLabels) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 300; ++trial) {
    const int64_t extent = static_cast<int64_t>(random() % 60);
    const std::vector<int64_t> labels = Labels(random, extent, 1 + random() % 40, trial % 2 == 0);
    std::vector<std::pair<int64_t, int64_t>> pairs;
    for (int64_t label : labels) pairs.emplace_back(label, 0);
    ExpectClasses(Partition::FromLabels(labels), pairs);
  }
}

TEST(PartitionTest, RefineProductPulledAndRefines) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 300; ++trial) {
    const int64_t extent = static_cast<int64_t>(1 + random() % 50);
    const std::vector<int64_t> a = Labels(random, extent, 1 + random() % 30, false);
    const std::vector<int64_t> b = Labels(random, extent, 1 + random() % 30, false);
    const Partition p = Partition::FromLabels(a), q = Partition::FromLabels(b);
    std::vector<std::pair<int64_t, int64_t>> both, product, pulled;
    for (size_t i = 0; i < a.size(); ++i) both.emplace_back(a[i], b[i]);
    const Partition fine = Refine(p, q);
    ExpectClasses(fine, both);
    EXPECT_TRUE(fine.Refines(p) && fine.Refines(q));
    EXPECT_EQ(p.Refines(q), fine == p);
    EXPECT_EQ(q.Refines(p), fine == q);

    const Partition r = Partition::FromLabels(Labels(random, 1 + random() % 5, 3, true));
    for (size_t i = 0; i < a.size(); ++i) {
      for (int64_t j = 0; j < r.extent(); ++j) product.emplace_back(a[i], r[j]);
    }
    ExpectClasses(Product(p, r), product);

    std::vector<int64_t> indices(random() % 40);
    for (int64_t& index : indices) {
      index = static_cast<int64_t>(random() % static_cast<uint64_t>(extent + 1)) - 1;
      pulled.emplace_back(index < 0 ? 0 : a[static_cast<size_t>(index)], index < 0);
    }
    ExpectClasses(p.Pulled(indices), pulled);
  }
}

}  // namespace
}  // namespace tessera
