// Golden files of the passes: testdata/<pass>/<case>.txt holds a graph, a line `=>`, and what the pass makes of it.
//
//   bazel test //graph/passes:golden_test
//   bazel run //graph/passes:golden_test -- --update      # rewrites the second graph of every file
//
// A file may begin with comment lines that say what it shows. Each pair must also compute the same values.
#include <filesystem>
#include <fstream>
#include <sstream>

#include "graph/passes/pipeline.h"
#include "graph/passes/testing/keeps_meaning.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

constexpr std::string_view kArrow = "\n=>\n";
bool update = false;

const Pass* FindPass(const std::string& name) {
  for (const Pass& pass : AllPasses()) {
    if (pass.name == name) return &pass;
  }
  return nullptr;
}

class GoldenTest : public testing::Test {
 public:
  explicit GoldenTest(std::filesystem::path path) : path_(std::move(path)) {}

  void TestBody() override {
    const std::string name = path_.parent_path().filename().string();
    const Pass* pass = FindPass(name);
    ASSERT_NE(pass, nullptr) << "no pass is called " << name;
    std::ostringstream content;
    content << std::ifstream(path_).rdbuf();
    const std::string text = content.str();
    const size_t arrow = text.find(kArrow);
    const std::string before_text = text.substr(0, arrow == std::string::npos ? text.size() : arrow + 1);
    ASSERT_OK_AND_ASSIGN(const Graph before, ParseAndVerify(before_text));
    Graph after = before;
    ASSERT_OK(pass->run(after));
    ASSERT_OK(Verify(after));
    // Folded constants are rounded to f32.
    EXPECT_OK(SameMeaning(before, after, 1, {1e-5, 1e-6}));
    const std::string actual = PrintGraph(after, {.elide = true});
    if (update) {
      std::string kept = before_text;
      while (!kept.empty() && kept.back() == '\n') kept.pop_back();
      std::ofstream(path_) << kept << kArrow << actual;
      return;
    }
    ASSERT_NE(arrow, std::string::npos) << path_ << " has no line =>";
    EXPECT_EQ(actual, text.substr(arrow + kArrow.size()))
        << path_ << ": run  bazel run //graph/passes:golden_test -- --update  and look at the difference";
  }

 private:
  std::filesystem::path path_;
};

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::filesystem::path root = "graph/passes/testdata";
  for (int k = 1; k < argc; ++k) {
    if (std::string_view(argv[k]) != "--update") continue;
    const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
    if (workspace == nullptr) {
      std::cerr << "--update rewrites source files; use bazel run\n";
      return 1;
    }
    tessera::update = true;
    root = std::filesystem::path(workspace) / root;
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.path().extension() != ".txt") continue;
    const std::filesystem::path path = entry.path();
    testing::RegisterTest("Golden", (path.parent_path().filename().string() + "/" + path.stem().string()).c_str(),
                          nullptr, nullptr, __FILE__, __LINE__,
                          [path]() -> testing::Test* { return new tessera::GoldenTest(path); });
  }
  return RUN_ALL_TESTS();
}
