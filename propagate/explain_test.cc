#include "graph/builder.h"
#include "gtest/gtest.h"
#include "propagate/propagate.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

// x [1,3] -> fc1 -> + b1 -> relu -> fc2; weights are 1 but for the zeros, which are declared pruned.
struct Mlp {
  Graph graph;
  ValueId x, w1, b1, h, r, w2;
  Facts facts;
  RuleBook book{RuleMode::kExact};

  Mlp(std::vector<float> w1_data, std::vector<float> b1_data, std::vector<float> w2_data) {
    GraphBuilder b("mlp");
    x = b.Input("x", DType::kF32, {2, 3});
    const Tensor first = Tensor::FromVector<float>({3, 4}, w1_data),
                 second = Tensor::FromVector<float>({4, 2}, w2_data);
    w1 = b.Constant("w1", first);
    b1 = b.Constant("b1", Tensor::FromVector<float>({4}, b1_data));
    w2 = b.Constant("w2", second);
    b.SetTesa(w1, Attribute::FromZeros(first));
    b.SetTesa(w2, Attribute::FromZeros(second));
    const ValueId product = b.Named("fc1").Matmul(x, w1);
    h = b.Named("h").Add(product, b1);
    r = b.Named("r").Relu(h);
    b.Output(b.Named("fc2").Matmul(r, w2));
    graph = *std::move(b).Build();
    facts = *Propagate(graph, book, {.on_collapse = OnCollapse::kKeep});
  }
  std::string Why(ValueId value, int64_t element) { return Explain(graph, facts, book, value, element); }
};

TEST(Explain, BackwardToADeclaredMask) {
  Mlp mlp({1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1}, {1, 1, 1, 1, 0, 0, 1, 1});
  EXPECT_EQ(mlp.Why(mlp.w1, 2),
            "%w1[*,2] is dead: matmul 'fc1' reads it only for %fc1[*,2], which is dead\n"
            "%fc1[*,2] is dead: add 'h' reads it only for %h[*,2], which is dead\n"
            "%h[*,2] is dead: relu 'r' reads it only for %r[*,2], which is dead\n"
            "%r[*,2] is dead: matmul 'fc2' reads it only through %w2[2,*], which is zero\n"
            "%w2[2,*] is zero: declared pruned");
}

TEST(Explain, ForwardToADeclaredMask) {
  Mlp mlp({1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1}, {1, 0, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1});
  EXPECT_EQ(mlp.Why(mlp.w2, 2),
            "%w2[1,*] is dead: matmul 'fc2' reads it only through %r[*,1], which is zero\n"
            "%r[*,1] is zero: relu 'r' of %h[*,1], which is zero\n"
            "%h[*,1] is zero: add 'h' of %fc1[*,1] and %b1[1], which are zero\n"
            "%fc1[*,1] is zero: matmul 'fc1' of %w1[*,1], which is zero\n"
            "%b1[1] is zero: so it stands in the data\n"
            "%w1[*,1] is zero: declared pruned");
}

TEST(Explain, AConstantIsNoZero) {
  Mlp mlp({1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1}, {1, -0.5, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1});
  EXPECT_EQ(mlp.Why(mlp.r, 1),
            "%r[*,1] is zero: relu 'r' of %h[*,1], which is constant -0.5\n"
            "%h[*,1] is constant -0.5: add 'h' of %fc1[*,1], which is zero, and %b1[1], which is constant -0.5\n"
            "%fc1[*,1] is zero: matmul 'fc1' of %w1[*,1], which is zero\n"
            "%w1[*,1] is zero: declared pruned");
}

TEST(Explain, SaysNothingOfWhatIsAlive) {
  Mlp mlp({1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1});
  EXPECT_EQ(mlp.Why(mlp.x, 0), "");
  EXPECT_EQ(mlp.Why(mlp.w1, 0), "");
  EXPECT_EQ(mlp.Why(mlp.w1, 1000), "");
}

TEST(Explain, SeveralReadersAndBoundedLists) {
  GraphBuilder b("readers");
  const ValueId x = b.Input("x", DType::kF32, {2, 8});
  Tensor checker(DType::kF32, {8, 8});
  for (int64_t k = 0; k < 64; ++k) checker.Set(k, k / 8 == 7 ? 0 : 1);
  const ValueId w = b.Constant("w", checker);
  const ValueId h = b.Named("h").Relu(x);
  b.Output(b.Named("a").Matmul(h, w));
  b.Output(b.Named("b").Slice(h, {0, 0}, {2, 7}));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  RuleBook book(RuleMode::kExact);
  ASSERT_OK_AND_ASSIGN(const Facts facts, Propagate(graph, book));
  EXPECT_EQ(Explain(graph, facts, book, h, 7),
            "%h[*,7] is dead: matmul 'a' reads it only through %w[7,*], which is zero; slice 'b' does not read it\n"
            "%w[7,*] is zero: so it stands in the data");
}

TEST(Explain, StaysShortOnScatteredMasks) {
  GraphBuilder b("scattered");
  Random random(1);
  Tensor data(DType::kF32, {64, 64});
  for (int64_t k = 0; k < data.num_elements(); ++k) data.Set(k, k % 64 == 5 || random.Chance(0.9) ? 0 : 1);
  const ValueId first = b.Constant("first", data), second = b.Constant("second", data);
  const ValueId x = b.Input("x", DType::kF32, {1, 64});
  b.Output(b.Named("y").Matmul(b.Named("h").Matmul(x, first), second));
  ASSERT_OK_AND_ASSIGN(const Graph graph, std::move(b).Build());
  RuleBook book(RuleMode::kExact);
  ASSERT_OK_AND_ASSIGN(const Facts facts, Propagate(graph, book));
  for (int64_t k = 0; k < 64; ++k) {
    const std::string why = Explain(graph, facts, book, second, 5 * 64 + k);
    EXPECT_FALSE(why.empty());
    EXPECT_LT(why.size(), 4000u);
  }
}

}  // namespace
}  // namespace tessera
