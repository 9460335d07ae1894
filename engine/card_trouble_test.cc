// What a user sees of a card's troubles, on drivers that are not there (runtime/testing/fake_gpu.h): a driver that is
// too old for the code, a card without room, code for another chip. Each is an error that names the call or the chip,
// the program and a remedy, nothing is kept of what was taken; and where a fallback is asked for the model runs there.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "graph/builder.h"
#include "runtime/testing/fake_gpu.h"
#include "tesa/random.h"

namespace tessera {
namespace {

struct Trouble {
  const char* name;
  const char* target;  // asked for
  std::function<void(FakeGpu&)> make;
  ErrorCode code;
  std::vector<const char*> words;
};

// One card of sm_90 as it should be.
void Mend(FakeGpu& fake) {
  fake.Reset(nullptr);
  fake.SetChip("sm_90");
  fake.SetMemory(int64_t{1} << 30);
}

Model SmallModel() {
  Random random(3);
  GraphBuilder b("small");
  const ValueId x = b.Input("x", DType::kF32, {4, 32});
  b.Output(b.Named("y").Relu(b.Matmul(x, b.Constant("w", RandomTensor(random, {DType::kF32, {32, 8}})))));
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  StatusOr<Model> model = ModelFromGraph(*std::move(graph));
  TES_CHECK(model.ok(), model.status());
  return *model;
}

TEST(CardTroubleTest, IsExplainedOrFallsBack) {
  setenv("TESSERA_NVJITLINK", "off", 1);
  FakeGpu& fake = FakeGpu::Use("runtime/testing/fake_libcuda.so");
  const Model model = SmallModel();
  const Trouble troubles[] = {
      {"old driver",
       "cuda",
       [](FakeGpu& f) { f.Fail("cuLinkAddData_v2", 1, 222); },
       ErrorCode::kDeviceFailed,
       {"cuLinkAddData", "program 'small'", "(222", "the driver is older than the PTX: update it", "the code is PTX",
        "cuda:sm_90"}},
      {"no memory",
       "cuda",
       [](FakeGpu& f) { f.SetMemory(100); },
       ErrorCode::kOutOfMemory,
       {"cuMemAlloc", "program 'small'", "are free", "smaller batch"}},
      {"another chip",
       "cuda:sm_90",
       [](FakeGpu& f) { f.SetChip("sm_80"); },
       ErrorCode::kTargetUnsupported,
       {"program 'small'", "compiled for sm_90, and the card is sm_80", "compile for `cuda`"}},
      {"a chip that is too old",
       "cuda",
       [](FakeGpu& f) { f.SetChip("sm_70"); },
       ErrorCode::kTargetUnsupported,
       {"compute capability 7.0", "7.5 or newer"}},
      {"a kernel that the card refuses",
       "cuda",
       [](FakeGpu& f) { f.Fail("cuModuleLoadData", 1, 701); },
       ErrorCode::kDeviceFailed,
       {"cuModuleLoadData", "program 'small'", "more threads, registers or shared memory"}},
  };
  for (const Trouble& trouble : troubles) {
    SCOPED_TRACE(trouble.name);
    Mend(fake);
    Options options = {.target = trouble.target};
    EXPECT_TRUE(model.Compile(options).ok()) << model.Compile(options).status();  // without the trouble
    Mend(fake);
    trouble.make(fake);
    const Status status = model.Compile(options).status();
    EXPECT_EQ(status.code(), trouble.code) << status;
    for (const char* word : trouble.words) {
      EXPECT_NE(status.message().find(word), std::string::npos) << word << " in " << status;
    }
    EXPECT_EQ(fake.Owned(), "");
    Mend(fake);
    trouble.make(fake);
    options.fallback = "host";
    StatusOr<Session> session = model.Compile(options);
    ASSERT_TRUE(session.ok()) << session.status();
    EXPECT_EQ(session->report().target.rfind("host", 0), 0u);
    ASSERT_FALSE(session->report().warnings.empty());
    const std::string& warning = session->report().warnings[0];
    EXPECT_NE(warning.find("runs on 'host' in place of '" + std::string(trouble.target) + "'"), std::string::npos);
    EXPECT_NE(warning.find(trouble.words[0]), std::string::npos) << warning;
    Random random(4);
    const Tensor x = RandomTensor(random, {DType::kF32, {4, 32}});
    Tensor y(DType::kF32, {4, 8});
    const void* from = x.bytes().data();
    void* to = y.mutable_bytes().data();
    EXPECT_TRUE(session->RunPositional(&from, &to).ok());
  }
}

}  // namespace
}  // namespace tessera
