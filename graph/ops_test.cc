// What holds for every row of ops.def, on random cases: the compute says what the reference says.
#include <cmath>
#include <limits>
#include <string>

#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "graph/testing/run_op.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

// Of one output of one case.
constexpr int64_t kMostElements = 100000;

class OpsTest : public testing::TestWithParam<Op> {
 protected:
  const OpDef& def() const { return GetOp(GetParam()); }
  // Of one op, the same in every run.
  std::mt19937_64 Seeded() const { return std::mt19937_64(1000 + static_cast<uint64_t>(GetParam())); }
};

#define EXPECT_RUNS(random_case)                                       \
  do {                                                                 \
    const StatusOr<std::vector<RefTensor>> ran = RunCase(random_case); \
    ASSERT_TRUE(ran.ok()) << "case " << n << ": " << ran.status();     \
  } while (false)

TEST_P(OpsTest, IsDescribed) {
  EXPECT_EQ(def().op, GetParam());
  EXPECT_FALSE(def().doc.empty());
  EXPECT_EQ(FindOp(def().name), GetParam());
  for (const AttrDef& attr : def().attrs) EXPECT_FALSE(attr.doc.empty()) << attr.name;
}

TEST_P(OpsTest, ComputeAgreesWithReference) {
  std::mt19937_64 rng = Seeded();
  for (int n = 0; n < 300; ++n) EXPECT_RUNS(RandomNode(GetParam(), rng));
}

TEST_P(OpsTest, EpilogueIsAppliedToTheStoredResult) {
  std::mt19937_64 rng = Seeded();
  for (int n = 0; n < 100; ++n) {
    RandomCase c = RandomNode(GetParam(), rng);
    if (c.graph.nodes[0].outputs.size() != 1) continue;
    AddRandomEpilogue(c, rng);
    EXPECT_RUNS(c);
  }
}

// A body over broadcast operands is all that an element-wise op is, so appending it elsewhere is the op.
TEST_P(OpsTest, BodyOfAnElementwiseOpIsItsCompute) {
  if (!def().elementwise()) return;
  std::mt19937_64 rng = Seeded();
  for (int n = 0; n < 50; ++n) {
    const RandomCase c = RandomNode(GetParam(), rng);
    const OpContext context = MakeContext(c.graph, c.graph.nodes[0]);
    const Compute compute = def().compute(context);
    ASSERT_EQ(compute.stages.size(), 1u);
    EXPECT_EQ(compute.stages[0].body, def().body(context));
    EXPECT_EQ(compute.stages[0].write, Elementwise({BufferKind::kOutput, 0}, context.outputs[0].shape));
  }
}

TEST_P(OpsTest, NanAndInfinityOfElementwiseOpsAgree) {
  if (!def().elementwise()) return;
  std::mt19937_64 rng = Seeded();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (int n = 0; n < 100; ++n) {
    RandomCase c = RandomNode(GetParam(), rng);
    for (Tensor& input : c.inputs) {
      if (!IsFloat(input.dtype())) continue;
      for (int64_t k = 0; k < input.num_elements(); ++k) {
        const double specials[] = {std::nan(""), kInfinity, -kInfinity, -0.0, 0.0};
        if (rng() % 3 == 0) input.Set(k, specials[rng() % 5]);
      }
    }
    EXPECT_RUNS(c);
  }
}

// What a kernel in f32 may lose, and no more: nothing overflows, nothing cancels that need not.
TEST_P(OpsTest, StagesAreSoundInF32) {
  std::mt19937_64 rng = Seeded();
  for (int n = 0; n < 100; ++n) {
    const RandomCase c = RandomNode(GetParam(), rng);
    const StatusOr<std::vector<RefTensor>> expected = RunCase(c);
    ASSERT_TRUE(expected.ok()) << expected.status();
    const Node& node = c.graph.nodes[0];
    const Compute compute = RoundedToF32(NodeCompute(c.graph, node));
    ASSERT_TRUE(compute.Verify().ok()) << compute.Verify();
    std::vector<RefTensor> tensors;
    tensors.reserve(c.inputs.size());
    std::vector<const RefTensor*> operands;
    for (ValueId id : node.inputs) {
      if (id != ValueId::kNone) tensors.push_back(RefTensor::From(c.inputs[tensors.size()]));
      operands.push_back(id == ValueId::kNone ? nullptr : &tensors.back());
    }
    std::vector<RefTensor> actual;
    Evaluate(compute, operands, actual);
    for (size_t k = 0; k < actual.size(); ++k) {
      if (GetParam() == Op::kQuantize) {
        // A quotient next to a half may round to the other side of it.
        for (int64_t e = 0; e < actual[k].size(); ++e) EXPECT_NEAR((*expected)[k].i[e], actual[k].i[e], 1);
        continue;
      }
      const Status near = CompareRefs((*expected)[k], actual[k], {.relative = 1e-5, .absolute = 1e-6});
      ASSERT_TRUE(near.ok()) << "case " << n << ": " << near << "\n" << compute.ToString();
    }
  }
}

TEST_P(OpsTest, ParametersAreCheckedAgainstTheirRows) {
  std::mt19937_64 rng = Seeded();
  for (int n = 0; n < 20; ++n) {
    const RandomCase c = RandomNode(GetParam(), rng);
    Node node = c.graph.nodes[0];
    node.attrs.Set("no_such_parameter", int64_t{1});
    EXPECT_EQ(InferTypes(c.graph, node).status().code(), ErrorCode::kAttributeInvalid);
    for (const AttrDef& attr : def().attrs) {
      node = c.graph.nodes[0];
      node.attrs.Set(attr.name, attr.kind == AttrKind::kFloats ? AttrValue("text") : AttrValue(std::vector<double>{1}));
      EXPECT_EQ(InferTypes(c.graph, node).status().code(), ErrorCode::kAttributeInvalid) << attr.name;
      if (!attr.required) continue;
      node.attrs.Erase(attr.name);
      EXPECT_EQ(InferTypes(c.graph, node).status().code(), ErrorCode::kAttributeInvalid) << attr.name;
    }
    node = c.graph.nodes[0];
    node.inputs[0] = ValueId::kNone;
    EXPECT_EQ(InferTypes(c.graph, node).status().code(), ErrorCode::kGraphInvalid);
  }
}

// A small change of one integer, or of a list of them.
void MutateAttr(Node& node, std::mt19937_64& rng) {
  std::vector<std::pair<std::string, AttrValue>> entries(node.attrs.begin(), node.attrs.end());
  if (entries.empty()) return;
  auto& [name, value] = entries[rng() % entries.size()];
  const int64_t change = static_cast<int64_t>(rng() % 7) - 3;
  if (auto* number = std::get_if<int64_t>(&value)) *number += change;
  if (auto* real = std::get_if<double>(&value)) *real += static_cast<double>(change) / 2;
  if (auto* text = std::get_if<std::string>(&value)) *text += rng() % 4 == 0 ? "?" : "";
  if (auto* dtype = std::get_if<DType>(&value)) *dtype = static_cast<DType>(rng() % 17);
  if (auto* list = std::get_if<std::vector<int64_t>>(&value)) {
    const uint64_t what = rng() % 6;
    if (what == 0) {
      list->push_back(change);
    } else if (what == 1 && !list->empty()) {
      list->pop_back();
    } else if (!list->empty()) {
      (*list)[rng() % list->size()] += change;
    }
  }
  node.attrs.Set(name, value);
}

void MutateOperand(RandomCase& c, std::mt19937_64& rng) {
  if (c.inputs.empty()) return;
  const size_t k = rng() % c.inputs.size();
  TensorType type = c.inputs[k].type();
  std::vector<int64_t> dims = type.shape.dims();
  switch (rng() % 4) {
    case 0: type.dtype = static_cast<DType>(rng() % 17); break;
    case 1: dims.insert(dims.begin() + static_cast<int64_t>(rng() % (dims.size() + 1)), 1 + rng() % 3); break;
    case 2:
      if (!dims.empty()) dims.erase(dims.begin() + static_cast<int64_t>(rng() % dims.size()));
      break;
    default:
      if (!dims.empty()) dims[rng() % dims.size()] = static_cast<int64_t>(rng() % 5);
  }
  type.shape = Shape(dims);
  CaseBuilder draw(c.graph.nodes[0].op, rng);
  c.inputs[k] = draw.RandomTensor(type.dtype, type.shape);
  c.graph[c.graph.inputs[k]].type = type;
}

// infer is the guard of reference and compute: what passes it, however odd, runs and agrees.
TEST_P(OpsTest, WhatInferAcceptsRuns) {
  std::mt19937_64 rng = Seeded();
  int accepted = 0;
  for (int n = 0; n < 600; ++n) {
    RandomCase c = RandomNode(GetParam(), rng);
    for (uint64_t changes = 1 + rng() % 2; changes > 0; --changes) {
      if (rng() % 2 == 0) {
        MutateAttr(c.graph.nodes[0], rng);
      } else {
        MutateOperand(c, rng);
      }
    }
    const StatusOr<std::vector<TensorType>> types = InferTypes(c.graph, c.graph.nodes[0]);
    if (!types.ok()) {
      EXPECT_NE(types.status().message().find("node 'node'"), std::string::npos) << types.status();
      continue;
    }
    int64_t elements = 0;
    for (const TensorType& type : *types) elements += type.shape.num_elements();
    if (elements > kMostElements) continue;
    ++accepted;
    EXPECT_RUNS(c);
  }
  EXPECT_GT(accepted, 0);
}

constexpr Op kAllOps[] = {
#define TES_OP(name, text, family) Op::k##name,
#include "graph/ops/ops.def"
#undef TES_OP
};

INSTANTIATE_TEST_SUITE_P(Every, OpsTest, testing::ValuesIn(kAllOps),
                         [](const testing::TestParamInfo<Op>& info) { return std::string(Name(info.param)); });

TEST(AllOpsTest, NamesAreUniqueAndFound) {
  for (const OpDef& a : AllOps()) {
    for (const OpDef& b : AllOps()) EXPECT_TRUE(a.op == b.op || a.name != b.name) << a.name;
  }
  EXPECT_EQ(FindOp("no_such_op"), std::nullopt);
}

}  // namespace
}  // namespace tessera
