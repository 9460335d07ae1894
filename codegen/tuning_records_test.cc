#include "codegen/tuning_records.h"

#include <gtest/gtest.h>

#include "tesa/random.h"

namespace tessera {
namespace {

TEST(TuningRecordsTest, TextReadsBack) {
  Random random(1);
  TuningRecords records;
  for (int k = 0; k < 100; ++k) {
    records.Set("key" + std::to_string(random.Int(0, 30)), "way:" + std::to_string(random.Int(0, 3)),
                static_cast<double>(random.Int(0, 1000000)) / 1000, "some\twords\n");
  }
  const StatusOr<TuningRecords> again = TuningRecords::Parse(records.ToString());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, records);
}

TEST(TuningRecordsTest, LaterLinesCountSoThatFilesMergeByBeingJoined) {
  TuningRecords a, b;
  a.Set("k", "matmul", 10, "old");
  a.Set("k", "sparse", 5, "old");
  b.Set("k", "matmul", 3, "new");
  b.Set("other", "conv", 1, "new");
  const StatusOr<TuningRecords> joined = TuningRecords::Parse(a.ToString() + b.ToString());
  a.Merge(b);
  ASSERT_TRUE(joined.ok()) << joined.status();
  EXPECT_EQ(*joined, a);
  ASSERT_NE(a.Find("k"), nullptr);
  EXPECT_EQ(a.Find("k")->at("matmul"), 3);
  EXPECT_EQ(a.Find("k")->at("sparse"), 5);
  EXPECT_EQ(a.Find("nothing"), nullptr);
  EXPECT_EQ(a.size(), 3u);
}

TEST(TuningRecordsTest, BrokenLinesAreNamed) {
  const std::string header = "# tessera tuning records 1\n";
  for (const std::string bad : {"k\tmatmul\t-1\tx", "k\tmatmul\tnan\tx", "k\tmatmul\t1e999\tx", "k\tmatmul\t1",
                                "\tmatmul\t1\tx", "k\t\t1\tx", "nonsense"}) {
    const StatusOr<TuningRecords> records = TuningRecords::Parse(header + "# fine\n" + bad + "\n");
    EXPECT_EQ(records.status().code(), ErrorCode::kFileCorrupt) << bad;
    EXPECT_NE(records.status().message().find("line 3"), std::string::npos) << records.status();
  }
  EXPECT_FALSE(TuningRecords::Parse("k\tmatmul\t1\tx\n").ok()) << "without a header";
  EXPECT_TRUE(TuningRecords::Parse("").ok());
  EXPECT_EQ(TuningRecords::ReadIfPresent("/nowhere/at/all")->size(), 0u);
}

}  // namespace
}  // namespace tessera
