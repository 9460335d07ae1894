#include "graph/compute.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "gtest/gtest.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr BufferRef kIn0 = {BufferKind::kInput, 0}, kIn1 = {BufferKind::kInput, 1}, kOut = {BufferKind::kOutput, 0};

RefTensor Floats(Shape shape, std::vector<double> values) {
  RefTensor tensor(TensorType{DType::kF32, std::move(shape)});
  EXPECT_EQ(tensor.f.size(), values.size());
  tensor.f = std::move(values);
  return tensor;
}

RefTensor Integers(DType dtype, Shape shape, std::vector<int64_t> values) {
  RefTensor tensor(TensorType{dtype, std::move(shape)});
  EXPECT_EQ(tensor.i.size(), values.size());
  tensor.i = std::move(values);
  return tensor;
}

RefTensor RunOnce(const Compute& compute, const std::vector<RefTensor>& inputs) {
  EXPECT_TRUE(compute.Verify().ok()) << compute.Verify();
  std::vector<const RefTensor*> pointers;
  for (const RefTensor& input : inputs) pointers.push_back(&input);
  std::vector<RefTensor> outputs;
  Evaluate(compute, pointers, outputs);
  return outputs.at(0);
}

Body Product(DType a, DType b) {
  BodyBuilder builder;
  const Scalar x = builder.Input(a), y = builder.Input(b);
  return builder.Finish(x * y);
}

// The example of compute.h: C[m,n] = sum_k A[m,k] * B[k,n], plus a bias per column in `finish`.
Compute BiasedMatmul(int64_t m, int64_t n, int64_t k) {
  Compute compute;
  compute.inputs = {{DType::kF32, {m, k}}, {DType::kF32, {k, n}}, {DType::kF32, {n}}};
  compute.outputs = {{DType::kF32, {m, n}}};
  Stage stage;
  stage.name = "matmul";
  stage.extents = {m, n, k};
  stage.parallel_rank = 2;
  stage.reads = {{.buffer = kIn0, .view = {m, k}, .index = {Axis(0), Axis(2)}},
                 {.buffer = kIn1, .view = {k, n}, .index = {Axis(2), Axis(1)}}};
  stage.body = Product(DType::kF32, DType::kF32);
  stage.combiner = Combiner::kAdd;
  stage.finish_reads = {{.buffer = {BufferKind::kInput, 2}, .view = {n}, .index = {Axis(1)}}};
  BodyBuilder b;
  const Scalar sum = b.Input(DType::kF32), bias = b.Input(DType::kF32);
  stage.finish = b.Finish(sum + bias);
  stage.write = Elementwise(kOut, {m, n});
  compute.stages = {stage};
  return compute;
}

TEST(EvaluateTest, MatmulCombinesAlongReducedAxesAndFinishes) {
  const RefTensor y = RunOnce(BiasedMatmul(2, 3, 2), {Floats({2, 2}, {1, 2, 3, 4}), Floats({2, 3}, {1, 0, 2, 0, 1, 3}),
                                                      Floats({3}, {10, 20, 30})});
  EXPECT_EQ(y.f, (std::vector<double>{11, 22, 38, 13, 24, 48}));
}

TEST(EvaluateTest, NothingToCombineGivesTheIdentity) {
  const RefTensor y = RunOnce(BiasedMatmul(1, 2, 0), {Floats({1, 0}, {}), Floats({0, 2}, {}), Floats({2}, {5, 6})});
  EXPECT_EQ(y.f, (std::vector<double>{5, 6}));
}

// A guarded read outside its buffer is `fill`: a sum of neighbours with padding.
TEST(EvaluateTest, GuardedReadsFillBeyondTheEdge) {
  Compute compute;
  compute.inputs = {{DType::kF32, {4}}};
  compute.outputs = {{DType::kF32, {4}}};
  Stage stage;
  stage.name = "window";
  stage.extents = {4, 3};
  stage.parallel_rank = 1;
  stage.reads = {
      {.buffer = kIn0, .view = {4}, .index = {AxisPlus(Axis(0, 1, -1), 1, 1)}, .guarded = true, .fill = 100}};
  stage.body = IdentityBody(DType::kF32);
  stage.combiner = Combiner::kAdd;
  stage.write = Elementwise(kOut, {4});
  compute.stages = {stage};
  EXPECT_EQ(RunOnce(compute, {Floats({4}, {1, 2, 3, 4})}).f, (std::vector<double>{103, 6, 9, 107}));
  compute.stages[0].reads[0].guarded = false;
  EXPECT_FALSE(compute.Verify().ok());
}

// An index that is read: rows of a table, two rows to a step, -1 outside.
TEST(EvaluateTest, ReadsCanIndexLaterReads) {
  Compute compute;
  compute.inputs = {{DType::kI32, {3}}, {DType::kF32, {6}}};
  compute.outputs = {{DType::kF32, {3}}};
  compute.tables = {Tensor::FromVector<int64_t>({3}, {0, 1, 0})};
  IndexExpr row = FixedIndex(0);
  row.read = 1;
  row.read_scale = 2;
  IndexExpr nested = Axis(0);
  nested.read = 0;
  BodyBuilder b;
  b.Input(DType::kI64);
  b.Input(DType::kI32);
  const Body body = b.Finish(b.Input(DType::kF32));
  Stage stage = MapStage("gather", {3},
                         {{.buffer = {BufferKind::kTable, 0}, .view = {3}, .index = {Axis(0)}},
                          {.buffer = kIn0, .view = {3}, .index = {nested}, .guarded = true},
                          {.buffer = kIn1, .view = {6}, .index = {row}, .guarded = true, .fill = -1}},
                         body, kOut);
  compute.stages = {stage};
  // Positions read from in0: 0 + 0, 1 + 1, 2 + 0.
  const RefTensor y = RunOnce(compute, {Integers(DType::kI32, {3}, {2, 7, 9}), Floats({6}, {0, 1, 2, 3, 4, 5})});
  EXPECT_EQ(y.f, (std::vector<double>{4, -1, -1}));
}

// A transpose of blocks through a view of other rank.
TEST(EvaluateTest, ViewsAreReshapes) {
  Compute compute;
  compute.inputs = {{DType::kF32, {6}}};
  compute.outputs = {{DType::kF32, {6}}};
  Stage stage = MapStage("transpose", {3, 2}, {{.buffer = kIn0, .view = {2, 3}, .index = {Axis(1), Axis(0)}}},
                         IdentityBody(DType::kF32), kOut);
  compute.stages = {stage};
  EXPECT_EQ(RunOnce(compute, {Floats({6}, {1, 2, 3, 4, 5, 6})}).f, (std::vector<double>{1, 4, 2, 5, 3, 6}));
}

TEST(EvaluateTest, LaterStagesReadTemporaries) {
  Compute compute;
  compute.inputs = {{DType::kF32, {2, 2}}};
  compute.outputs = {{DType::kF32, {2, 2}}};
  compute.temps = {{DType::kF32, {2, 1}}};
  const BufferRef temp = {BufferKind::kTemp, 0};
  Stage max;
  max.name = "row_max";
  max.extents = {2, 1, 2};
  max.parallel_rank = 2;
  max.reads = {{.buffer = kIn0, .view = {2, 2}, .index = {Axis(0), Axis(2)}}};
  max.body = IdentityBody(DType::kF32);
  max.combiner = Combiner::kMax;
  max.write = Elementwise(temp, {2, 1});
  BodyBuilder b;
  const Scalar x = b.Input(DType::kF32), m = b.Input(DType::kF32);
  compute.stages = {max, MapStage("subtract", {2, 2}, {Elementwise(kIn0, {2, 2}), Broadcast(temp, {2, 1}, {2, 2})},
                                  b.Finish(x - m), kOut)};
  EXPECT_EQ(RunOnce(compute, {Floats({2, 2}, {1, 4, -3, -7})}).f, (std::vector<double>{-3, 0, 0, -4}));
}

TEST(EvaluateTest, ScalarsHaveOnePoint) {
  Compute compute;
  compute.inputs = {{DType::kI8, {}}};
  compute.outputs = {{DType::kI8, {}}};
  BodyBuilder b;
  const Scalar x = b.Input(DType::kI8);
  compute.stages = {MapStage("double", {}, {Elementwise(kIn0, {})}, b.Finish(x + x), kOut)};
  // Computed in i32, wrapped when stored.
  EXPECT_EQ(RunOnce(compute, {Integers(DType::kI8, {}, {100})}).i, (std::vector<int64_t>{-56}));
}

TEST(EvaluateTest, EveryCombiner) {
  const auto combine = [](Combiner combiner, DType dtype, std::vector<int64_t> values) {
    const int64_t count = static_cast<int64_t>(values.size());
    Compute compute;
    compute.inputs = {{dtype, {count}}};
    compute.outputs = {{dtype, {}}};
    Stage stage;
    stage.name = "combine";
    stage.extents = {count};
    stage.reads = {Elementwise(kIn0, {count})};
    stage.body = IdentityBody(dtype);
    stage.combiner = combiner;
    stage.write = Elementwise(kOut, {});
    compute.stages = {stage};
    return RunOnce(compute, {Integers(dtype, {count}, std::move(values))}).i[0];
  };
  EXPECT_EQ(combine(Combiner::kAdd, DType::kI32, {3, -5, 7}), 5);
  EXPECT_EQ(combine(Combiner::kMul, DType::kI32, {3, -5, 7}), -105);
  EXPECT_EQ(combine(Combiner::kMax, DType::kI32, {3, -5, 7}), 7);
  EXPECT_EQ(combine(Combiner::kMin, DType::kI32, {3, -5, 7}), -5);
  EXPECT_EQ(combine(Combiner::kMax, DType::kI64, {-3, -5}), -3);
  EXPECT_EQ(combine(Combiner::kMin, DType::kU64, {-3, 5}), 5);
  EXPECT_EQ(combine(Combiner::kMax, DType::kU64, {-3, 5}), -3);
  EXPECT_EQ(combine(Combiner::kAnd, DType::kI32, {6, 3}), 2);
  EXPECT_EQ(combine(Combiner::kOr, DType::kI32, {6, 3}), 7);
  EXPECT_EQ(combine(Combiner::kAnd, DType::kBool, {1, 0}), 0);
  EXPECT_EQ(combine(Combiner::kOr, DType::kBool, {1, 0}), 1);
}

// Joining an identity to any value gives the value.
TEST(CombinerTest, IdentitiesAreNeutral) {
  for (Combiner combiner :
       {Combiner::kAdd, Combiner::kMul, Combiner::kMax, Combiner::kMin, Combiner::kAnd, Combiner::kOr}) {
    const ScalarOpInfo& info = ScalarInfo(JoinOp(combiner));
    EXPECT_EQ(info.name, Name(combiner));
    for (DType type : {DType::kF32, DType::kF64, DType::kI32, DType::kU32, DType::kI64, DType::kU64, DType::kBool}) {
      if (!(IsFloat(type) ? info.on_float : info.on_int)) continue;
      BodyBuilder b;
      const Scalar x = b.Input(type), y = b.Input(type);
      const Body join = b.Finish(b.Op(JoinOp(combiner), {x, y}));
      for (double value : {-kInfinity, -3.0, 0.0, 1.0, kInfinity}) {
        const ScalarValue v = {.f = value, .i = IsBool(type) ? value > 0 : std::lround(std::clamp(value, -9.0, 9.0))};
        if (IsUnsigned(type) && v.i < 0) continue;
        const ScalarValue values[] = {Identity(combiner, type), v};
        const ScalarValue joined = join.Evaluate(values, {});
        if (IsFloat(type)) {
          EXPECT_EQ(joined.f, v.f) << Name(combiner) << " " << type;
        } else {
          EXPECT_EQ(joined.i, v.i) << Name(combiner) << " " << type;
        }
      }
    }
  }
}

TEST(IndexExprTest, AddsTermsInOrderOfAxisWithoutZeros) {
  const IndexExpr expr = AxisPlus(AxisPlus(Axis(2, 3, -1), 0, 5), 1, 2);
  EXPECT_EQ(expr.terms, (std::vector<IndexExpr::Term>{{0, 5}, {1, 2}, {2, 3}}));
  EXPECT_EQ(expr.offset, -1);
  EXPECT_EQ(AxisPlus(expr, 1, -2).terms, (std::vector<IndexExpr::Term>{{0, 5}, {2, 3}}));
  EXPECT_EQ(AxisPlus(expr, 1, 0), expr);
  EXPECT_EQ(Axis(1, 0, 4), FixedIndex(4));
}

TEST(AccessTest, BroadcastReadsExtentsOfOneAtZero) {
  const Access access = Broadcast(kIn0, {3, 1}, {2, 3, 4});
  EXPECT_EQ(access.index, (std::vector<IndexExpr>{Axis(1), FixedIndex(0)}));
  EXPECT_EQ(Broadcast(kIn0, {}, {2, 3}).index.size(), 0u);
  EXPECT_EQ(Elementwise(kIn0, {2, 3}, 1).index, (std::vector<IndexExpr>{Axis(1), Axis(2)}));
}

TEST(ComputeTest, TextShowsEverything) {
  EXPECT_EQ(BiasedMatmul(2, 3, 4).ToString(),
            "in0: f32[2,4]\n"
            "in1: f32[4,3]\n"
            "in2: f32[3]\n"
            "out0: f32[2,3]\n"
            "matmul for x0<2 x1<3 | x2<4\n"
            "  r0 = in0[2,4](x0, x2)\n"
            "  r1 = in1[4,3](x2, x1)\n"
            "  add (a: f32, b: f32) { return mul(a, b) }\n"
            "  f1 = in2[3](x1)\n"
            "  finish (a: f32, b: f32) { return add(a, b) }\n"
            "  out0[2,3](x0, x1) = result\n");
  EXPECT_EQ(BiasedMatmul(2, 3, 4).stages[0].parallel_points(), 6);
  EXPECT_EQ(BiasedMatmul(2, 3, 4).stages[0].reduced_points(), 4);
}

TEST(ComputeTest, VerifyCatchesEachFault) {
  const Compute good = BiasedMatmul(2, 3, 4);
  ASSERT_TRUE(good.Verify().ok()) << good.Verify();
  const auto expect = [&](const std::function<void(Compute&, Stage&)>& damage, std::string_view part) {
    Compute compute = good;
    damage(compute, compute.stages[0]);
    const Status status = compute.Verify();
    EXPECT_EQ(status.code(), ErrorCode::kGraphInvalid);
    EXPECT_NE(status.message().find(part), std::string::npos) << "wanted '" << part << "', found: " << status;
    EXPECT_NE(status.message().find("matmul"), std::string::npos) << status;
  };
  expect([](Compute&, Stage& s) { s.parallel_rank = 4; }, "parallel_rank");
  expect([](Compute&, Stage& s) { s.parallel_rank = -1; }, "parallel_rank");
  expect([](Compute&, Stage& s) { s.combiner = Combiner::kNone; }, "need a combiner");
  expect([](Compute&, Stage& s) { s.reads.pop_back(); }, "expected 2 reads, found 1");
  expect([](Compute&, Stage& s) { s.body.result = 9; }, "expected a result");
  expect([](Compute&, Stage& s) { s.body = Product(DType::kI32, DType::kI32); }, "enters the body as i32");
  expect([](Compute& c, Stage&) { c.inputs[0].dtype = DType::kI8; }, "enters the body as f32");
  expect([](Compute&, Stage& s) { s.reads[0].buffer.index = 3; }, "no such buffer");
  expect([](Compute&, Stage& s) { s.reads[0].buffer.index = -1; }, "no such buffer");
  expect([](Compute&, Stage& s) { s.reads[0].buffer.kind = BufferKind::kTable; }, "no such buffer");
  expect([](Compute&, Stage& s) { s.reads[0].view = {2, 5}; }, "the view does not fit");
  expect([](Compute&, Stage& s) { s.reads[0].index.pop_back(); }, "one index per dimension");
  expect([](Compute&, Stage& s) { s.reads[0].index[0] = Axis(3); }, "axis 3 is not available");
  expect([](Compute&, Stage& s) { s.reads[0].index[0] = Axis(0, 1, 1); }, "index 0 spans 1…2");
  expect([](Compute&, Stage& s) { s.reads[0].index[0] = Axis(0, -1); }, "index 0 spans -1…0");
  expect([](Compute&, Stage& s) { s.reads[1].index[0].read = 1; }, "not an earlier read");
  expect([](Compute&, Stage& s) { s.reads[1].index[0].read = 0; }, "must be guarded");
  expect([](Compute&, Stage& s) { s.finish_reads.clear(); }, "expected 1 finish reads, found 0");
  expect([](Compute&, Stage& s) { s.finish = Body(); }, "finish reads without a finish body");
  expect([](Compute&, Stage& s) { s.finish_reads[0].index[0] = Axis(2); }, "axis 2 is not available");
  expect([](Compute&, Stage& s) { s.write.index[0] = Axis(2); }, "axis 2 is not available");
  expect([](Compute&, Stage& s) { s.write.guarded = true; }, "never guarded");
  expect([](Compute&, Stage& s) { s.write = Elementwise(kIn0, {2, 4}); }, "writes in0");
  expect([](Compute&, Stage& s) { s.extents[2] = -4; }, "extent -4");
  expect([](Compute&, Stage& s) { s.combiner = Combiner::kAnd; }, "do not combine by and");
  expect([](Compute&, Stage& s) { s.reads[0].index[0].terms[0].coefficient = 0; }, "not in normal form");
  expect([](Compute&, Stage& s) { s.reads[0].index[0].terms.push_back({0, 1}); }, "not in normal form");
  expect([](Compute& c, Stage&) { c.inputs[2].dtype = DType::kI32; }, "finish read 0 of i32 enters finish as f32");
  expect([](Compute&, Stage& s) { s.finish = Product(DType::kF64, DType::kF64); }, "finish takes f64");
  expect([](Compute& c, Stage&) { c.outputs[0].dtype = DType::kI32; }, "computes f32, stores i32");
}

TEST(RefTensorTest, IntegersWrapToTheirTypeAndFloatsKeepTheirDigits) {
  RefTensor narrow(TensorType{DType::kI4, {2}});
  narrow.Set(0, {.i = 9});
  narrow.Set(1, {.i = -9});
  EXPECT_EQ(narrow.i, (std::vector<int64_t>{-7, 7}));
  RefTensor flag(TensorType{DType::kBool, {1}});
  flag.Set(0, {.i = 256});
  EXPECT_EQ(flag.i[0], 1);
  RefTensor half(TensorType{DType::kF16, {1}});
  half.Set(0, {.f = 1.0001});
  EXPECT_EQ(half.Get(0).f, 1.0001);
  EXPECT_EQ(half.ToTensor().Get(0), 1);
  const Tensor tensor = Tensor::FromVector<uint8_t>({2}, {0, 255});
  EXPECT_EQ(RefTensor::From(tensor).i, (std::vector<int64_t>{0, 255}));
  EXPECT_EQ(RefTensor::From(tensor).ToTensor(), tensor);
}

}  // namespace
}  // namespace tessera
