// Which operand of a product is sparse: weights, inputs, outputs, or several at once, in each pattern, through the
// engine as users do it, on the host and on GPUs' chips, against the interpreter's masked network. What an attribute
// removes from an input may hold anything: it is absent.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "graph/builder.h"
#include "graph/interpreter.h"
#include "tesa/attribute.h"
#include "tesa/random.h"
#include "tesa/testing/close.h"

namespace tessera {
namespace {

enum class Pattern { kColumns, kBlocks, kFine };

Attribute Mask(Random& random, const Shape& shape, Pattern pattern, DType type) {
  const int64_t columns = shape[1];
  std::vector<uint8_t> kept(static_cast<size_t>(shape.num_elements()));
  std::vector<uint8_t> whole(static_cast<size_t>(columns)), blocks(static_cast<size_t>(shape.num_elements()));
  for (uint8_t& keeps : whole) keeps = random.Chance(0.4) ? 1 : 0;
  for (uint8_t& keeps : blocks) keeps = random.Chance(0.4) ? 1 : 0;
  for (int64_t at = 0; at < shape.num_elements(); ++at) {
    const int64_t row = at / columns, column = at % columns;
    kept[static_cast<size_t>(at)] = pattern == Pattern::kColumns ? whole[static_cast<size_t>(column)]
                                    : pattern == Pattern::kBlocks
                                        ? blocks[static_cast<size_t>(row / 16 * columns + column / 16)]
                                    : random.Chance(0.3) ? 1
                                                         : 0;
  }
  kept[0] = 1;
  return Attribute::FromKept(shape, kept, TypeInfo(type).bits);
}

struct Modes {
  bool weights, input, hidden, output;
};

class ModesTest : public testing::TestWithParam<std::tuple<std::string, Pattern, DType>> {};

TEST_P(ModesTest, EveryOperandMayBeSparse) {
  const auto& [target, pattern, type] = GetParam();
  uint64_t seed = 1;
  for (const int64_t batch : {7, 33}) {
    for (const Modes& modes : {Modes{true, false, false, false},
                               {false, true, false, false},
                               {false, false, true, false},
                               {false, false, false, true},
                               {true, true, true, true}}) {
      SCOPED_TRACE(internal::Join("batch ", batch, modes.weights ? " weights" : "", modes.input ? " input" : "",
                                  modes.hidden ? " hidden" : "", modes.output ? " output" : ""));
      Random random(++seed);
      GraphBuilder b("modes");
      const auto weight = [&](const char* name, const Shape& shape) {
        Tensor values = RandomTensor(random, {type, shape}, 1 / std::sqrt(static_cast<double>(shape[0])));
        if (!modes.weights) return b.Constant(name, std::move(values));
        const Attribute mask = Mask(random, shape, pattern, type);
        const ValueId w = b.Constant(name, mask.ApplyTo(values));
        b.SetTesa(w, mask);
        return w;
      };
      const ValueId x = b.Input("x", type, {batch, 96});
      if (modes.input) b.SetTesa(x, Mask(random, {batch, 96}, pattern, type));
      const ValueId sums =
          b.Add(b.Matmul(x, weight("w1", {96, 80})), b.Constant("b1", RandomTensor(random, {type, {80}})));
      if (modes.hidden) b.SetTesa(sums, Mask(random, {batch, 80}, pattern, type));
      const ValueId y = b.Matmul(b.Relu(sums), weight("w2", {80, 48}));
      if (modes.output) b.SetTesa(y, Mask(random, {batch, 48}, pattern, type));
      b.Output(y);
      StatusOr<Graph> graph = std::move(b).Build();
      ASSERT_TRUE(graph.ok()) << graph.status();
      const std::vector<Tensor> inputs = {RandomTensor(random, {type, {batch, 96}})};
      const StatusOr<std::vector<RefTensor>> expected = Interpret(*graph, inputs);
      ASSERT_TRUE(expected.ok()) << expected.status();
      const StatusOr<Model> model = ModelFromGraph(*std::move(graph));
      ASSERT_TRUE(model.ok()) << model.status();
      StatusOr<Session> session = model->Compile({.target = target});
      ASSERT_TRUE(session.ok()) << session.status();
      Tensor found(type, {batch, 48});
      const void* from = inputs[0].bytes().data();
      void* to = found.mutable_bytes().data();
      const Status status = session->RunPositional(&from, &to);
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_TRUE(Close(found, (*expected)[0].ToTensor(), type == DType::kF32 ? 1e-5 : 4e-3));
    }
  }
}

std::string NameOf(const testing::TestParamInfo<ModesTest::ParamType>& info) {
  std::string name = std::get<0>(info.param);
  std::replace(name.begin(), name.end(), ':', '_');
  constexpr const char* kPatterns[] = {"columns", "blocks", "fine"};
  return internal::Join(name, "_", kPatterns[static_cast<int>(std::get<1>(info.param))], "_",
                        Name(std::get<2>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(All, ModesTest,
                         testing::Combine(testing::Values("host", "simt:nvptx:sm_80", "simt:nvptx:sm_90a:random",
                                                          "simt:amdgpu:gfx942"),
                                          testing::Values(Pattern::kColumns, Pattern::kBlocks, Pattern::kFine),
                                          testing::Values(DType::kF32, DType::kF16)),
                         NameOf);

}  // namespace
}  // namespace tessera
