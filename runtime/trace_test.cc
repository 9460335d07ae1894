#include "runtime/trace.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "base/file.h"
#include "runtime/testing/allocation_counter.h"

namespace tessera {
namespace {

TEST(TraceTest, EventsComeBackByStart) {
  Trace trace({.num_threads = 2, .events_per_thread = 8});
  const Trace::Name conv = trace.AddName("conv"), relu = trace.AddName("relu", "element-wise");
  trace.Record(1, relu, 150, 190);
  trace.Record(0, conv, 100, 200);
  trace.Record(0, relu, 200, 230);
  trace.Record(1, conv, 100, 140);
  const std::vector<Trace::Event> events = trace.Events();
  ASSERT_EQ(events.size(), 4u);
  const int64_t starts[] = {100, 100, 150, 200}, ends[] = {200, 140, 190, 230};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(events[i].start_ns, starts[i]);
    EXPECT_EQ(events[i].end_ns, ends[i]);
  }
  EXPECT_EQ(events[1].thread, 1);
  EXPECT_EQ(trace.NameText(events[3].name), "relu");

  const std::vector<Trace::Total> totals = trace.Totals();
  ASSERT_EQ(totals.size(), 2u);
  EXPECT_EQ(totals[0].name, conv);
  EXPECT_EQ(totals[0].total_ns, 140);
  EXPECT_EQ(totals[0].min_ns, 40);
  EXPECT_EQ(totals[0].max_ns, 100);
  EXPECT_EQ(totals[1].count, 2);
}

TEST(TraceTest, AFullRingKeepsTheLatest) {
  Trace trace({.num_threads = 1, .events_per_thread = 5});  // becomes 8
  const Trace::Name step = trace.AddName("step");
  for (int64_t i = 0; i < 20; ++i) trace.Record(0, step, i, i + 1);
  const std::vector<Trace::Event> events = trace.Events();
  ASSERT_EQ(events.size(), 8u);
  EXPECT_EQ(events.front().start_ns, 12);
  EXPECT_EQ(events.back().start_ns, 19);
  EXPECT_EQ(trace.dropped(), 12);
  trace.Clear();
  EXPECT_TRUE(trace.Events().empty());
  EXPECT_TRUE(trace.Totals().empty());
  EXPECT_EQ(trace.dropped(), 0);
}

TEST(TraceTest, RecordingAllocatesNothing) {
  Trace trace({.num_threads = 2, .events_per_thread = 1024});
  const Trace::Name step = trace.AddName("step");
  const int64_t before = AllocationCount();
  for (int i = 0; i < 5000; ++i) {
    TraceScope scope(&trace, i % 2, step);
    TraceScope nothing(nullptr, 0, step);
  }
  EXPECT_EQ(AllocationCount() - before, 0);
  EXPECT_EQ(trace.Events().size(), 2048u);
  EXPECT_EQ(trace.dropped(), 5000 - 2048);
}

TEST(TraceTest, ThreadsRecordAtOnce) {
  constexpr int kThreads = 4, kEvents = 2000;
  Trace trace({.num_threads = kThreads, .events_per_thread = kEvents});
  const Trace::Name step = trace.AddName("step");
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kEvents; ++i) TraceScope scope(&trace, thread, step);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(trace.Totals()[0].count, kThreads * kEvents);
  for (const Trace::Event& event : trace.Events()) EXPECT_LE(event.start_ns, event.end_ns);
}

TEST(TraceTest, TheFileIsWhatViewersRead) {
  Trace trace({.num_threads = 2, .events_per_thread = 16});
  const Trace::Name odd = trace.AddName("conv \"1\"\n\xff", "conv2d");
  trace.Record(1, odd, 5'000'001'500, 5'000'004'000);
  trace.Record(0, odd, 5'000'000'000, 5'000'001'000);
  const std::string path = testing::TempDir() + "/trace_test-" + std::to_string(getpid()) + ".json";
  ASSERT_EQ(trace.WriteChromeTrace(path), OkStatus());
  StatusOr<std::string> text = ReadFile(path);
  ASSERT_TRUE(text.ok()) << text.status();
  unlink(path.c_str());
  const nlohmann::json root = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  ASSERT_FALSE(root.is_discarded()) << *text;
  EXPECT_EQ(root["otherData"]["dropped_events"], 0);
  std::vector<nlohmann::json> complete;
  int thread_names = 0;
  for (const nlohmann::json& event : root["traceEvents"]) {
    if (event["ph"] == "X") complete.push_back(event);
    if (event["name"] == "thread_name") ++thread_names;
  }
  EXPECT_EQ(thread_names, 2);
  ASSERT_EQ(complete.size(), 2u);
  EXPECT_EQ(complete[0]["ts"], 0.0);
  EXPECT_EQ(complete[0]["dur"], 1.0);
  EXPECT_EQ(complete[0]["tid"], 0);
  EXPECT_EQ(complete[1]["ts"], 1.5);
  EXPECT_EQ(complete[1]["dur"], 2.5);
  EXPECT_EQ(complete[1]["tid"], 1);
  EXPECT_EQ(complete[1]["cat"], "conv2d");
  EXPECT_EQ(complete[1]["name"], "conv \"1\"\n\xef\xbf\xbd");
}

TEST(TraceTest, AnEmptyTraceIsAFileToo) {
  const nlohmann::json root = nlohmann::json::parse(Trace({}).ToChromeTrace(), nullptr, false);
  ASSERT_FALSE(root.is_discarded());
  EXPECT_EQ(root["traceEvents"].size(), 2u);
}

TEST(TraceTest, AnUnwritablePathIsAnError) {
  EXPECT_EQ(Trace({}).WriteChromeTrace("/no/such/folder/trace.json").code(), ErrorCode::kFileUnwritable);
}

}  // namespace
}  // namespace tessera
