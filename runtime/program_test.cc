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

// A step over blocks that sees 64 bytes of the constant 'w' as f16 [4 rows, 8 columns].
Program WithTensorMap() {
  Program p = Valid();
  p.steps[1].launch = {.x = 1, .threads = 128};
  p.steps[1].tensor_maps = {
      {.arg = 1, .type = DType::kF16, .dims = {8, 4}, .strides = {16}, .box = {8, 2}, .swizzle = 32}};
  return p;
}

TEST(ProgramTest, TensorMapsVerifyAndPrint) {
  const Program p = WithTensorMap();
  EXPECT_TRUE(p.Verify().ok()) << p.Verify();
  EXPECT_NE(p.ToString().find("args 1r 2r 3w map 1 f16 8x4 strides 16 box 8x2 swizzle 32 \"second\""),
            std::string::npos)
      << p.ToString();
}

TEST(ProgramTest, BrokenTensorMapsAreRefused) {
  using Change = void (*)(TensorMap&);
  const std::pair<const char*, Change> changes[] = {
      {"no such argument", [](TensorMap& m) { m.arg = 3; }},
      {"no such argument", [](TensorMap& m) { m.arg = -1; }},
      {"1 to 5 dimensions", [](TensorMap& m) { m.dims.clear(); }},
      {"1 to 5 dimensions", [](TensorMap& m) { m.dims.resize(6, 1); }},
      {"1 strides and a box of 2", [](TensorMap& m) { m.strides.clear(); }},
      {"1 strides and a box of 2", [](TensorMap& m) { m.box.push_back(1); }},
      {"whole bytes", [](TensorMap& m) { m.type = DType::kI4; }},
      {"elements along dimension 1", [](TensorMap& m) { m.dims[1] = 0; }},
      {"elements along dimension 0", [](TensorMap& m) { m.dims[0] = (int64_t{1} << 32) + 1; }},
      {"a multiple of 16 below", [](TensorMap& m) { m.strides[0] = 8; }},
      {"a multiple of 16 below", [](TensorMap& m) { m.strides[0] = int64_t{1} << 40; }},
      {"a multiple of 16 below", [](TensorMap& m) { m.strides[0] = -16; }},
      {"a box of 1 to 256", [](TensorMap& m) { m.box[1] = 257; }},
      {"a box of 1 to 256", [](TensorMap& m) { m.box[0] = 0; }},
      {"end outside", [](TensorMap& m) { m.dims[1] = 5; }},
      {"end outside", [](TensorMap& m) { m.dims[0] = 9; }},
      {"end outside",
       [](TensorMap& m) {
         m.dims[1] = int64_t{1} << 32;
         m.strides[0] = (int64_t{1} << 40) - 16;
       }},
      {"multiple of 16 bytes", [](TensorMap& m) { m.box[0] = 7; }},
      {"swizzle of 0, 32", [](TensorMap& m) { m.swizzle = 16; }},
      {"at most the swizzle's 32", [](TensorMap& m) { m.box[0] = 24; }},
      {"more than shared memory",
       [](TensorMap& m) {
         m.swizzle = 0;
         m.box = {256, 256};
         m.type = DType::kF64;
         m.dims = {1, 1};
       }},
  };
  for (const auto& [what, change] : changes) {
    Program p = WithTensorMap();
    change(p.steps[1].tensor_maps[0]);
    const Status status = p.Verify();
    EXPECT_EQ(status.code(), ErrorCode::kProgramInvalid) << what;
    EXPECT_NE(status.message().find(what), std::string::npos) << what << ": " << status;
    EXPECT_NE(status.message().find("step 1, tensor map 0"), std::string::npos) << status;
  }
  Program p = WithTensorMap();
  p.steps[1].args[1].offset = 8;
  EXPECT_NE(p.Verify().message().find("a start at a multiple of 16"), std::string::npos) << p.Verify();
  p = WithTensorMap();
  p.steps[1].launch = {};
  EXPECT_NE(p.Verify().message().find("tensor maps, but no blocks"), std::string::npos) << p.Verify();
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
