#include "runtime/program.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

// x -> step 0 -> temporary -> step 1 (with a constant) -> y
Program Valid() {
  Program p;
  p.name = "p";
  p.target = "host";
  static const std::vector<std::byte> constants(128);
  p.constants = constants;
  p.memory.arena_bytes = 64;
  p.memory.constant_bytes = 128;
  const TensorType type = {DType::kF32, {4}};
  p.buffers = {{.name = "x", .kind = BufferClass::kInput, .bytes = 16, .offset = 0},
               {.name = "t", .kind = BufferClass::kTemp, .bytes = 16, .offset = 48},
               {.name = "w", .kind = BufferClass::kConstant, .bytes = 64, .offset = 64},
               {.name = "y", .kind = BufferClass::kOutput, .bytes = 16, .offset = 0}};
  p.kernels = {"a", "b"};
  p.steps = {{.kernel = 0, .args = {{.buffer = 0}, {.buffer = 1, .writes = true}}, .label = "first"},
             {.kernel = 1, .args = {{.buffer = 1}, {.buffer = 2}, {.buffer = 3, .writes = true}}, .label = "second"}};
  p.inputs = {{"x", type, 0}};
  p.outputs = {{"y", type, 3}};
  return p;
}

TEST(ProgramTest, ValidProgramVerifiesAndPrints) {
  const Program p = Valid();
  EXPECT_TRUE(p.Verify().ok()) << p.Verify();
  const std::string text = p.ToString();
  EXPECT_NE(text.find("step 1 kernel b tasks 1 args 1r 2r 3w \"second\""), std::string::npos) << text;
  EXPECT_NE(text.find("buffer 1 temp 16 B at 48"), std::string::npos) << text;
}

TEST(ProgramTest, LaunchesOfBlocksVerifyAndPrint) {
  Program p = Valid();
  p.steps[0].launch = {.x = 4, .y = 2, .threads = 1024, .shared_bytes = 227 << 10, .overlap = true};
  EXPECT_TRUE(p.Verify().ok()) << p.Verify();
  EXPECT_NE(p.ToString().find("kernel a blocks 4x2x1 threads 1024 shared 232448 B overlap args 0r"), std::string::npos)
      << p.ToString();
}

// Each change breaks one invariant, and is found.
TEST(ProgramTest, BrokenProgramsAreRefused) {
  using Change = void (*)(Program&);
  const std::pair<const char*, Change> changes[] = {
      {"temporary outside the arena", [](Program& p) { p.buffers[1].offset = 49; }},
      {"negative arena", [](Program& p) { p.memory.arena_bytes = -1; }},
      {"scratch beyond all memory", [](Program& p) { p.memory.scratch_bytes = INT64_MAX; }},
      {"negative offset", [](Program& p) { p.buffers[1].offset = -1; }},
      {"constant outside the blob", [](Program& p) { p.buffers[2].bytes = 65; }},
      {"sizes that overflow", [](Program& p) { p.buffers[2].offset = INT64_MAX; }},
      {"input without port", [](Program& p) { p.buffers[0].offset = 1; }},
      {"port of another size", [](Program& p) { p.inputs[0].type.shape = {5}; }},
      {"port on a temporary", [](Program& p) { p.outputs[0].buffer = 1; }},
      {"port without buffer", [](Program& p) { p.outputs[0].buffer = 9; }},
      {"unknown kernel", [](Program& p) { p.steps[0].kernel = 2; }},
      {"negative kernel", [](Program& p) { p.steps[0].kernel = -1; }},
      {"negative tasks", [](Program& p) { p.steps[1].tasks = -1; }},
      {"threads without blocks", [](Program& p) { p.steps[1].launch.threads = 32; }},
      {"blocks without threads", [](Program& p) { p.steps[1].launch = {.x = 1}; }},
      {"negative blocks", [](Program& p) { p.steps[1].launch = {.x = -1, .threads = 32}; }},
      {"too many blocks", [](Program& p) { p.steps[1].launch = {.x = int64_t{1} << 31, .threads = 32}; }},
      {"too many blocks along y", [](Program& p) { p.steps[1].launch = {.x = 1, .y = 65536, .threads = 32}; }},
      {"no blocks along z", [](Program& p) { p.steps[1].launch = {.x = 1, .z = 0, .threads = 32}; }},
      {"too many threads", [](Program& p) { p.steps[1].launch = {.x = 1, .threads = 1025}; }},
      {"too much shared memory",
       [](Program& p) { p.steps[1].launch = {.x = 1, .threads = 32, .shared_bytes = (227 << 10) + 1}; }},
      {"unknown buffer", [](Program& p) { p.steps[1].args[0].buffer = 4; }},
      {"offset outside the buffer", [](Program& p) { p.steps[1].args[0].offset = 17; }},
      {"write to an input", [](Program& p) { p.steps[0].args[0].writes = true; }},
      {"write to a constant", [](Program& p) { p.steps[1].args[1].writes = true; }},
  };
  for (const auto& [what, change] : changes) {
    Program p = Valid();
    change(p);
    const Status status = p.Verify();
    EXPECT_EQ(status.code(), ErrorCode::kProgramInvalid) << what << ": " << status;
  }
}

}  // namespace
}  // namespace tessera
