#include "tools/common/flags.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

std::vector<int64_t> List(std::string_view text) {
  StatusOr<std::vector<int64_t>> values = ParseIntList(text);
  return values.ok() ? *values : std::vector<int64_t>{-999};
}

TEST(FlagsTest, ListsAndRanges) {
  EXPECT_EQ(List("1,2,8"), (std::vector<int64_t>{1, 2, 8}));
  EXPECT_EQ(List("1-4"), (std::vector<int64_t>{1, 2, 3, 4}));
  EXPECT_EQ(List("1-8*2"), (std::vector<int64_t>{1, 2, 4, 8}));
  EXPECT_EQ(List("1-9*2"), (std::vector<int64_t>{1, 2, 4, 8}));
  EXPECT_EQ(List("2-10+4,64"), (std::vector<int64_t>{2, 6, 10, 64}));
  EXPECT_EQ(List("-3"), (std::vector<int64_t>{-3}));
  EXPECT_EQ(List("-3--1"), (std::vector<int64_t>{-3, -2, -1}));
}

TEST(FlagsTest, BadListsAreUsageErrors) {
  for (std::string_view text : {"", "a", "1,", "8-1", "1-8*1", "1-8+0", "0-8*2", "1-99999", "99999999999999999999",
                                "1-", "9223372036854775806-9223372036854775807+9999999999999999999"}) {
    StatusOr<std::vector<int64_t>> values = ParseIntList(text);
    EXPECT_EQ(values.status().code(), ErrorCode::kUsageInvalid) << text;
  }
  EXPECT_EQ(List("9223372036854775806-9223372036854775807").size(), 2u);
}

TEST(FlagsTest, Dims) {
  EXPECT_EQ(*ParseDims("1x3x224x224"), (std::vector<int64_t>{1, 3, 224, 224}));
  EXPECT_TRUE(ParseDims("scalar")->empty());
  EXPECT_FALSE(ParseDims("1x-3").ok());
  EXPECT_FALSE(ParseDims("1xx3").ok());
}

struct Values {
  std::string out = "table", form = "table";
  int64_t runs = 50;
  double time = 2;
  bool profile = false;
  std::vector<int64_t> threads = {1};
  std::vector<std::string> sparsity = {"on"}, inputs, names;
  FlagSet flags = FlagSet("bench", "MODEL… [flags]", "Measures.");

  Values() {
    flags.String("output", "FILE", "where to", &out);
    flags.Short('o');
    flags.Section("How long");
    flags.Int("runs", "N", "how many", &runs, 1, 1000);
    flags.Double("min_time", "SECONDS", "how long", &time, 0, 100);
    flags.Bool("profile", "each step", &profile);
    flags.IntList("threads", "LIST", "threads", &threads, 1, 64);
    flags.Choice("form", {"table", "md", "csv"}, "how it looks", &form);
    flags.ChoiceList("sparsity", {"on", "off"}, "which kernels", &sparsity);
    flags.StringList("names", "LIST", "some names", &names);
    flags.Repeated("input", "SPEC", "an input", &inputs);
    flags.Example("bench zoo:mlp", "the MLP");
    flags.Note("Exit status", "3 when a result is wrong.");
  }
};

TEST(FlagsTest, AllFormsOfWriting) {
  Values v;
  ASSERT_TRUE(
      v.flags
          .Parse({"a.onnx", "--runs=7", "--min-time", "0.5", "--profile", "-o", "x", "--threads=1-4*2", "--sparsity",
                  "on,off", "--input=x=@a.npy", "--input=y=1x2", "--form=md", "--names=a,b", "--", "--b.onnx"})
          .ok());
  EXPECT_EQ(v.runs, 7);
  EXPECT_EQ(v.time, 0.5);
  EXPECT_TRUE(v.profile);
  EXPECT_EQ(v.out, "x");
  EXPECT_EQ(v.threads, (std::vector<int64_t>{1, 2, 4}));
  EXPECT_EQ(v.sparsity, (std::vector<std::string>{"on", "off"}));
  EXPECT_EQ(v.inputs, (std::vector<std::string>{"x=@a.npy", "y=1x2"}));
  EXPECT_EQ(v.form, "md");
  EXPECT_EQ(v.names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(v.flags.positional(), (std::vector<std::string>{"a.onnx", "--b.onnx"}));
  EXPECT_TRUE(v.flags.Given("runs"));
}

TEST(FlagsTest, ShortFormsAndNegatedBools) {
  Values v;
  ASSERT_TRUE(v.flags.Parse({"-oy", "--profile=on", "--profile=off", "-", "-3"}).ok());
  EXPECT_EQ(v.out, "y");
  EXPECT_FALSE(v.profile);
  EXPECT_EQ(v.flags.positional(), (std::vector<std::string>{"-", "-3"}));
  EXPECT_FALSE(v.flags.Given("runs"));
}

TEST(FlagsTest, ErrorsSayWhatWasExpectedAndNameTheNearest) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--thread=2"}, "unknown flag --thread; did you mean --threads?"},
      {{"--frobnicate"}, "unknown flag --frobnicate; `bench --help` lists them all"},
      {{"-x"}, "unknown flag -x"},
      {{"--runs"}, "flag --runs needs a value: N"},
      {{"--runs=many"}, "flag --runs=N: expected a whole number, found 'many'"},
      {{"--runs=0"}, "flag --runs=N: expected a value from 1 to 1000, found 0"},
      {{"--min_time=nan"}, "expected a value from 0 to 100"},
      {{"--profile=perhaps"}, "flag --profile=on|off: expected on or off, found 'perhaps'"},
      {{"--form=tabel"}, "expected one of table, md, csv; found 'tabel'; did you mean 'table'?"},
      {{"--sparsity=on,offf"}, "did you mean 'off'?"},
      {{"--threads=1,65"}, "expected a value from 1 to 64, found 65"},
  };
  for (const auto& [args, expected] : cases) {
    Values v;
    const Status status = v.flags.Parse(args);
    EXPECT_EQ(status.code(), ErrorCode::kUsageInvalid) << args[0];
    EXPECT_NE(status.message().find(expected), std::string::npos) << status.message();
  }
}

TEST(FlagsTest, HelpNamesEveryFlagItsDefaultAndTheExamples) {
  Values v;
  ASSERT_TRUE(v.flags.Parse({"--help", "--nonsense"}).ok());
  EXPECT_TRUE(v.flags.help());
  const std::string help = v.flags.HelpText();
  for (const char* part :
       {"usage: bench MODEL…", "-o, --output=FILE", "[table]", "How long:", "--runs=N", "[50]", "--profile ",
        "--sparsity=on|off,…", "(may be repeated)", "Examples:", "bench zoo:mlp", "Exit status:"}) {
    EXPECT_NE(help.find(part), std::string::npos) << part << "\n" << help;
  }
}

TEST(FlagsTest, PathsAreSeenFromWhereTheUserStands) {
  setenv("BUILD_WORKING_DIRECTORY", "/somewhere", 1);
  EXPECT_EQ(UserPath("a.onnx"), "/somewhere/a.onnx");
  EXPECT_EQ(UserPath("/a.onnx"), "/a.onnx");
  EXPECT_EQ(UserPath(""), "");
  unsetenv("BUILD_WORKING_DIRECTORY");
  EXPECT_EQ(UserPath("a.onnx"), "a.onnx");
}

TEST(FlagsTest, NearestIsNearOrNothing) {
  EXPECT_EQ(Nearest("fashion_mpl", {"fashion_mlp", "mobilenet_v1"}), "fashion_mlp");
  EXPECT_EQ(Nearest("xyz", {"fashion_mlp", "mobilenet_v1"}), "");
}

}  // namespace
}  // namespace tessera
