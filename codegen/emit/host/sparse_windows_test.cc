// The sparse_windows emitter against the interpreter, to the last bit: both places of the weights, epilogues of every
// kind, odd sizes and small ones, depths around the width of a window, patterns from nothing kept to everything,
// pointwise convolutions; with one thread, two and more, inputs and outputs between unreadable pages.
#include <gtest/gtest.h>

#include "codegen/emit/testing/sparse_product.h"
#include "codegen/emitter.h"
#include "codegen/target.h"
#include "codegen/testing/run_compiled.h"
#include "graph/interpreter.h"
#include "tesa/testing/close.h"

namespace tessera {
namespace {

constexpr const char* kEmitter = "sparse_windows";

class SparseWindowsTest : public testing::Test {
 protected:
  void SetUp() override {
    const StatusOr<Target> target = MakeTarget("host");
    ASSERT_TRUE(target.ok());
    if (!target->has_vbmi || !target->has_vnni) GTEST_SKIP() << "needs AVX-512 with VBMI and VNNI";
  }
  void Expect(OneProduct product) {
    const Graph graph = product.Build();
    EXPECT_TRUE(EveryNodeTakes(graph, "host", kEmitter));
    const StatusOr<std::vector<RefTensor>> expected = Interpret(graph, product.inputs);
    ASSERT_TRUE(expected.ok()) << expected.status();
    const auto found = RunGuarded(graph, product.inputs, "host", kEmitter, {1, 2, 5});
    ASSERT_TRUE(found.ok()) << found.status();
    for (const std::vector<Tensor>& outputs : *found) {
      for (size_t k = 0; k < outputs.size(); ++k) EXPECT_TRUE(Close(outputs[k], (*expected)[k].ToTensor(), 0));
    }
  }
};

TEST_F(SparseWindowsTest, OddSizesAtLength) {
  Random random(1);
  OneProduct product({.rows = 333, .depth = 777, .columns = 1000, .density = 0.1, .integers = true}, random);
  product.BiasAndActivation(random, 1, 2);
  Expect(std::move(product));
}

TEST_F(SparseWindowsTest, TinySizes) {
  Random random(2);
  for (int repeat = 0; repeat < 20; ++repeat) {
    const Case c = {.rows = random.Int(1, 5),
                    .depth = random.Int(1, 5),
                    .columns = random.Int(8, 12),
                    .density = 0.5,
                    .integers = true};
    SCOPED_TRACE(internal::Join(c.rows, "x", c.depth, "x", c.columns));
    Expect(OneProduct(c, random));
  }
}

TEST_F(SparseWindowsTest, EveryEpilogueWithBothPlacesOfWeights) {
  Random random(3);
  for (const bool transpose : {false, true}) {
    for (int bias = 0; bias < 4; ++bias) {
      for (int activation = 0; activation < 3; ++activation) {
        const Case c = {.rows = random.Int(1, 150),
                        .depth = random.Int(1, 200),
                        .columns = random.Int(8, 70),
                        .transpose_w = transpose,
                        .density = 0.2,
                        .integers = true};
        SCOPED_TRACE(
            internal::Join("bias ", bias, " activation ", activation, ": ", c.rows, "x", c.depth, "x", c.columns));
        OneProduct product(c, random);
        product.BiasAndActivation(random, bias, activation);
        Expect(std::move(product));
      }
    }
  }
}

// Whole and partial groups, tiles of two widths, depths on both sides of a window.
TEST_F(SparseWindowsTest, EveryRemainder) {
  Random random(4);
  for (const int64_t rows : {1, 15, 16, 17, 48, 61}) {
    for (const int64_t columns : {8, 15, 16, 17, 31, 33, 49}) {
      const int64_t depth = random.Int(60, 68);
      SCOPED_TRACE(internal::Join(rows, "x", depth, "x", columns));
      OneProduct product({.rows = rows, .depth = depth, .columns = columns, .density = 0.3, .integers = true}, random);
      product.BiasAndActivation(random, 1, 2);
      Expect(std::move(product));
    }
  }
}

TEST_F(SparseWindowsTest, NothingKeptEverythingKeptAndEmptyRowsAndColumns) {
  Random random(5);
  const Case c = {.rows = 90, .depth = 150, .columns = 40, .transpose_w = true, .integers = true};
  const std::pair<const char*, std::function<bool(int64_t)>> patterns[] = {
      {"nothing", [](int64_t) { return false; }},
      {"everything", [](int64_t) { return true; }},
      {"rows 30 to 79 empty", [](int64_t at) { return at / 150 < 30 || at / 150 >= 80; }},
      {"last column", [](int64_t at) { return at % 150 == 149; }},
      {"one element", [](int64_t at) { return at == 71 * 150 + 3; }},
      {"one row", [](int64_t at) { return at / 150 == 37; }},
      {"blocks", [](int64_t at) { return (at / 150 / 16 + at % 150 / 16) % 3 == 0; }},
  };
  for (const auto& [name, keep] : patterns) {
    SCOPED_TRACE(name);
    OneProduct product(c, random, keep);
    product.BiasAndActivation(random, 1, 0);
    Expect(std::move(product));
  }
}

TEST_F(SparseWindowsTest, PointwiseConvolutions) {
  Random random(6);
  for (const int64_t size : {2, 5, 7, 14}) {
    SCOPED_TRACE(size);
    OneProduct product(true);
    const int64_t in = random.Int(1, 190), out = random.Int(1, 140);
    const Shape x = {2, size, size, in};
    product.inputs.push_back(random.Make(x, DType::kU8));
    const ValueId image = product.builder.Input("x", DType::kU8, x);
    const ValueId w = product.Weights({out, in, 1, 1}, random, [&](int64_t) { return random.Chance(0.1); });
    product.result = product.builder.Conv(image, w, {.layout = "nhwc"});
    product.columns = out;
    product.BiasAndActivation(random, 1, 2);
    Expect(std::move(product));
  }
}

// Scattered elements are its matter; blocks of 1x4, and most of the elements kept, are others'.
TEST_F(SparseWindowsTest, TakenWhereElementsAreScatteredOnly) {
  struct Row {
    double density;
    bool blocks;
    const char* emitter;
  };
  for (const Row& row : {Row{0.1, false, kEmitter}, Row{0.05, false, kEmitter}, Row{0.1, true, "sparse_stream"},
                         Row{1.0, false, "matmul"}}) {
    Random random(7);
    bool keep = false;
    const Case c = {.rows = 512, .depth = 512, .columns = 196, .transpose_w = true, .integers = true};
    const Graph graph = OneProduct(c, random, [&](int64_t at) {
                          if (!row.blocks || at % 4 == 0) keep = random.Chance(row.density);
                          return keep;
                        }).Build();
    std::string report;
    EXPECT_EQ(SelectEmitter(graph, graph.nodes[0], *MakeTarget("host"), "", &report).emitter->name, row.emitter)
        << "kept " << row.density << ": " << report;
  }
}

}  // namespace
}  // namespace tessera
