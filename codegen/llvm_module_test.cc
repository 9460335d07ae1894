#include "codegen/llvm_module.h"

#include <gtest/gtest.h>

#include <string>

#include "codegen/emit/kernel_builder.h"
#include "llvm/IR/Module.h"
#include "runtime/library.h"

namespace tessera {
namespace {

using Kernel = void (*)(void* const* args, int64_t begin, int64_t end, void* scratch);

// out[i] = in[i] + addend for i in [begin, end).
KernelSpec AddSpec(double addend) {
  KernelSpec spec;
  spec.family = "add";
  spec.num_args = 2;
  spec.emit = [addend](KernelBuilder& b) {
    b.For("i", b.begin(), b.end(), 1, [&](IrValue i) {
      IrValue x = b.Load(b.arg(0), i, DType::kF32, 1);
      b.Store(b.arg(1), i, DType::kF32, b.ir().CreateFAdd(x, b.Constant(DType::kF32, addend)));
    });
  };
  return spec;
}

std::string Text(const std::vector<std::byte>& bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

TEST(LlvmModuleTest, SeveralKernelsInOneObject) {
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  const KernelSpec one = AddSpec(1), two = AddSpec(2);
  const KernelSpec* specs[] = {&one, &two};
  const std::string symbols[] = {"add_one", "add_two"};
  StatusOr<std::vector<std::byte>> object = CompileKernels(specs, symbols, *target);
  ASSERT_TRUE(object.ok()) << object.status();
  StatusOr<KernelLibrary> library = KernelLibrary::Load(*object, "test");
  ASSERT_TRUE(library.ok()) << library.status();
  float in[5] = {1, 2, 3, 4, 5}, out[5] = {};
  void* args[] = {in, out};
  reinterpret_cast<Kernel>(library->Lookup("add_two"))(args, 1, 4, nullptr);
  EXPECT_EQ(out[0], 0) << "tasks outside [begin, end) are not touched";
  EXPECT_EQ(out[1], 4);
  EXPECT_EQ(out[3], 6);
  EXPECT_EQ(out[4], 0);
  EXPECT_EQ(library->Lookup("add_three"), nullptr);
}

TEST(LlvmModuleTest, ListingsShowTheKernel) {
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  const KernelSpec spec = AddSpec(1);
  const KernelSpec* specs[] = {&spec};
  const std::string symbols[] = {"add_one"};
  StatusOr<std::vector<std::byte>> ir = CompileKernels(specs, symbols, *target, CodeForm::kIr);
  ASSERT_TRUE(ir.ok());
  EXPECT_NE(Text(*ir).find("define void @add_one(ptr"), std::string::npos);
  EXPECT_NE(Text(*ir).find("i.body:"), std::string::npos) << "blocks carry their names";
  StatusOr<std::vector<std::byte>> assembly = CompileKernels(specs, symbols, *target, CodeForm::kAssembly);
  ASSERT_TRUE(assembly.ok());
  EXPECT_NE(Text(*assembly).find("add_one:"), std::string::npos);
  EXPECT_NE(Text(*assembly).find("ret"), std::string::npos);
}

// A kernel for blocks of 64 threads turns 64 elements round through shared memory.
TEST(LlvmModuleTest, KernelsForBlocksKnowTheirPlace) {
  StatusOr<Target> target = MakeTarget("cuda:sm_80");
  ASSERT_TRUE(target.ok());
  KernelSpec spec;
  spec.family = "turn";
  spec.num_args = 2;
  spec.block_threads = 64;
  spec.blocks_per_unit = 2;
  spec.emit = [](KernelBuilder& b) {
    auto& ir = b.ir();
    b.Shared(3);
    IrValue tile = b.Shared(64 * 4, 128);
    EXPECT_EQ(128 + 64 * 4, b.shared_bytes());
    IrValue thread = ir.CreateZExt(b.ThreadId(), ir.getInt64Ty());
    IrValue first = ir.CreateMul(ir.CreateZExt(b.BlockId(0), ir.getInt64Ty()), b.I64(64));
    b.Store(tile, thread, DType::kF32, b.Load(b.arg(0), ir.CreateAdd(first, thread), DType::kF32, 1));
    b.Barrier();
    IrValue turned = b.Load(tile, ir.CreateSub(b.I64(63), thread), DType::kF32, 1);
    b.Store(b.arg(1), ir.CreateAdd(first, thread), DType::kF32, turned);
  };
  const KernelSpec* specs[] = {&spec};
  const std::string symbols[] = {"turn"};
  StatusOr<std::vector<std::byte>> code = CompileKernels(specs, symbols, *target);
  ASSERT_TRUE(code.ok()) << code.status();
  const std::string text = Text(*code);
  for (const char* part : {".maxntid 64", ".minnctapersm 2", ".extern .shared .align 1024 .b8 tessera_shared[]",
                           "st.shared.f32", "bar.sync", "ld.shared.f32", "ld.global.f32", "%ctaid.x"}) {
    EXPECT_NE(std::string::npos, text.find(part)) << part << " in\n" << text;
  }
  EXPECT_EQ(std::string::npos, text.find("turn_param_2")) << "no tasks";
}

// Copies look at tensor maps where the launch has put them: as parameters by value, without a copy of the thread's own.
TEST(LlvmModuleTest, TensorMapsAreParameters) {
  StatusOr<Target> target = MakeTarget("cuda:sm_90a");
  ASSERT_TRUE(target.ok());
  KernelSpec spec;
  spec.family = "fetch";
  spec.num_args = 1;
  spec.block_threads = 128;
  spec.tensor_maps = 2;
  spec.emit = [](KernelBuilder& b) {
    auto& ir = b.ir();
    IrValue tile = b.Shared(1024, 1024), barrier = b.Shared(8);
    DeviceOp(b, "nv.tma.prefetch", {b.TensorMap(0)});
    DeviceOp(b, "nv.tma.load.2d", {tile, b.TensorMap(1), barrier, ir.getInt32(0), ir.getInt32(64)});
  };
  const KernelSpec* specs[] = {&spec};
  const std::string symbols[] = {"fetch"};
  StatusOr<std::vector<std::byte>> code = CompileKernels(specs, symbols, *target);
  ASSERT_TRUE(code.ok()) << code.status();
  const std::string text = Text(*code);
  for (const char* part :
       {".param .u64 fetch_param_0", ".param .align 64 .b8 fetch_param_1[128]",
        ".param .align 64 .b8 fetch_param_2[128]", "cvta.param.u64", "prefetch.tensormap", "cp.async.bulk.tensor.2d"}) {
    EXPECT_NE(std::string::npos, text.find(part)) << part << " in\n" << text;
  }
  EXPECT_EQ(std::string::npos, text.find("__local_depot")) << text;
}

TEST(LlvmModuleTest, CallsOfLibrariesAreRefused) {
  StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  KernelSpec spec;
  spec.family = "import";
  spec.num_args = 1;
  spec.emit = [](KernelBuilder& b) {
    llvm::FunctionCallee callee = b.module().getOrInsertFunction("sinf", b.ir().getFloatTy(), b.ir().getFloatTy());
    IrValue x = b.Load(b.arg(0), b.I64(0), DType::kF32, 1);
    b.Store(b.arg(0), b.I64(0), DType::kF32, b.ir().CreateCall(callee, {x}));
  };
  const KernelSpec* specs[] = {&spec};
  const std::string symbols[] = {"import"};
  StatusOr<std::vector<std::byte>> object = CompileKernels(specs, symbols, *target);
  ASSERT_FALSE(object.ok());
  EXPECT_NE(object.status().message().find("sinf"), std::string::npos);
}

}  // namespace
}  // namespace tessera
