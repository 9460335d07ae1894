// KernelBuilder's entry points, for the host, for a thread a task, and for blocks of threads; and what kernels for
// blocks ask about their place. Tested by llvm_module_test.cc.
#include "codegen/emit/kernel_builder.h"
#include "llvm/IR/Intrinsics.h"
#include "llvm/IR/Module.h"
#include "runtime/program.h"

namespace tessera {

void KernelBuilder::SetMachine(llvm::Function& function) {
  function.addFnAttr("target-cpu", target_.cpu);
  if (!target_.features.empty()) function.addFnAttr("target-features", target_.features);
  if (!target_.IsGpu()) {
    function.addFnAttr("prefer-vector-width", std::to_string(target_.vector_bits));
    function.addFnAttr("min-legal-vector-width", std::to_string(target_.vector_bits));
  }
  // The hidden arguments of HIP's own compiler: nothing here reads them.
  if (target_.kind == TargetKind::kAmdgpu) {
    for (const char* unused : {"implicitarg-ptr", "dispatch-ptr", "queue-ptr", "dispatch-id", "hostcall-ptr",
                               "heap-ptr", "multigrid-sync-arg", "default-queue", "completion-action", "lds-kernel-id",
                               "workitem-id-y", "workitem-id-z"}) {
      function.addFnAttr(std::string("amdgpu-no-") + unused);
    }
  }
  function.setDoesNotThrow();
}

void KernelBuilder::WriteHostEntry(const std::string& name, int num_args) {
  llvm::Type* ptr = ir_.getPtrTy();
  llvm::Type* i64 = ir_.getInt64Ty();
  auto* outer = llvm::Function::Create(llvm::FunctionType::get(ir_.getVoidTy(), {ptr, i64, i64, ptr}, false),
                                       llvm::GlobalValue::ExternalLinkage, name, module_);
  SetMachine(*outer);
  ir_.SetInsertPoint(llvm::BasicBlock::Create(context(), "entry", outer));
  IrValues call_args;
  for (int k = 0; k < num_args; ++k) {
    call_args.push_back(ir_.CreateLoad(ptr, ir_.CreateConstInBoundsGEP1_64(ptr, outer->getArg(0), k)));
  }
  for (int k = 1; k < 4; ++k) call_args.push_back(outer->getArg(k));
  ir_.CreateCall(inner_, call_args);
  ir_.CreateRetVoid();
}

void KernelBuilder::WriteGpuEntry(const std::string& name, int num_args) {
  llvm::Type* i64 = ir_.getInt64Ty();
  llvm::Function* outer = CreateGpuKernel(name, num_args, {i64, i64}, kTaskBlockThreads);
  llvm::BasicBlock* work = llvm::BasicBlock::Create(context(), "work", outer);
  llvm::BasicBlock* done = llvm::BasicBlock::Create(context(), "done", outer);
  llvm::BasicBlock* entry = llvm::BasicBlock::Create(context(), "entry", outer, work);
  ir_.SetInsertPoint(entry);
  const auto position = [&](std::string_view op) { return ir_.CreateZExt(DeviceOp(*this, op, {}), i64); };
  IrValue thread = ir_.CreateAdd(ir_.CreateMul(position("gpu.block_id.x"), I64(kTaskBlockThreads)),
                                 position("gpu.thread_id.x"), "thread");
  IrValue tasks = outer->getArg(num_args), per_thread = outer->getArg(num_args + 1);
  IrValue begin = ir_.CreateMul(thread, per_thread, "begin");
  IrValue end = ir_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, ir_.CreateAdd(begin, per_thread), tasks);
  ir_.CreateCondBr(ir_.CreateICmpSLT(begin, tasks), work, done);
  ir_.SetInsertPoint(work);
  IrValues call_args = GpuBuffers(outer, num_args);
  call_args.insert(call_args.end(), {begin, end, llvm::ConstantPointerNull::get(ir_.getPtrTy())});
  ir_.CreateCall(inner_, call_args);
  ir_.CreateBr(done);
  ir_.SetInsertPoint(done);
  ir_.CreateRetVoid();
}

void KernelBuilder::WriteBlockEntry(const std::string& name, int num_args, const KernelBlocks& blocks) {
  const std::vector<llvm::Type*> maps(static_cast<size_t>(blocks.tensor_maps), ir_.getPtrTy());
  llvm::Function* outer = CreateGpuKernel(name, num_args, maps, blocks.threads);
  if (target_.kind == TargetKind::kNvptx) {
    Annotate(outer, "maxntidx", blocks.threads);
    if (blocks.per_unit > 0) Annotate(outer, "minctasm", blocks.per_unit);
    PassByValue(outer, num_args);
  }
  ir_.SetInsertPoint(llvm::BasicBlock::Create(context(), "entry", outer));
  IrValues call_args = GpuBuffers(outer, num_args);
  for (int k = 0; k < blocks.tensor_maps; ++k) call_args.push_back(outer->getArg(num_args + k));
  ir_.CreateCall(inner_, call_args);
  ir_.CreateRetVoid();
}

// Tensor maps, the parameters from `first` on: read where they are, as copies look at the parameters themselves.
void KernelBuilder::PassByValue(llvm::Function* entry, int first) {
  std::vector<llvm::Metadata*> maps;
  for (size_t k = first; k < entry->arg_size(); ++k) {
    llvm::Argument* map = entry->getArg(static_cast<unsigned>(k));
    map->addAttr(llvm::Attribute::getWithByValType(context(), llvm::ArrayType::get(ir_.getInt64Ty(), 16)));
    map->addAttr(llvm::Attribute::getWithAlignment(context(), llvm::Align(64)));
    maps.push_back(llvm::ConstantAsMetadata::get(ir_.getInt32(static_cast<uint32_t>(k + 1))));
  }
  if (maps.empty()) return;
  llvm::Metadata* mark[] = {llvm::ConstantAsMetadata::get(entry), llvm::MDString::get(context(), "grid_constant"),
                            llvm::MDNode::get(context(), maps)};
  module_.getOrInsertNamedMetadata("nvvm.annotations")->addOperand(llvm::MDNode::get(context(), mark));
}

llvm::Function* KernelBuilder::CreateGpuKernel(const std::string& name, int num_args,
                                               const std::vector<llvm::Type*>& others, int threads) {
  const bool amd = target_.kind == TargetKind::kAmdgpu;
  // Only pointers that say so are known to be global on AMD's chips; NVPTX finds out by itself.
  std::vector<llvm::Type*> types(static_cast<size_t>(num_args), ir_.getPtrTy(amd ? 1 : 0));
  types.insert(types.end(), others.begin(), others.end());
  auto* entry = llvm::Function::Create(llvm::FunctionType::get(ir_.getVoidTy(), types, false),
                                       llvm::GlobalValue::ExternalLinkage, name, module_);
  SetMachine(*entry);
  if (amd) {
    entry->setCallingConv(llvm::CallingConv::AMDGPU_KERNEL);
    entry->setVisibility(llvm::GlobalValue::ProtectedVisibility);
    entry->addFnAttr("amdgpu-flat-work-group-size", internal::Join(threads, ",", threads));
    entry->addFnAttr("uniform-work-group-size", "true");
    // RDNA3: asked for room for five waves, which any 256 registers of 1536 leave, the scheduler keeps within them;
    // not asked, it fills more, which spill.
    if (target_.wave == 32) entry->addFnAttr("amdgpu-waves-per-eu", "5");
  } else {
    entry->setCallingConv(llvm::CallingConv::PTX_Kernel);
    Annotate(entry, "kernel", 1);
  }
  return entry;
}

IrValues KernelBuilder::GpuBuffers(llvm::Function* entry, int num_args) {
  IrValues buffers;
  for (int k = 0; k < num_args; ++k) buffers.push_back(ir_.CreateAddrSpaceCast(entry->getArg(k), ir_.getPtrTy()));
  return buffers;
}

void KernelBuilder::Annotate(llvm::Function* entry, const char* property, int value) {
  llvm::Metadata* mark[] = {llvm::ConstantAsMetadata::get(entry), llvm::MDString::get(context(), property),
                            llvm::ConstantAsMetadata::get(ir_.getInt32(static_cast<uint32_t>(value)))};
  module_.getOrInsertNamedMetadata("nvvm.annotations")->addOperand(llvm::MDNode::get(context(), mark));
}

IrValue KernelBuilder::ThreadId() {
  TES_CHECK(block_threads_ > 0, "not a kernel for blocks");
  auto* id = llvm::cast<llvm::CallInst>(DeviceOp(*this, "gpu.thread_id.x", {}));
  id->addRangeRetAttr(llvm::ConstantRange(llvm::APInt(32, 0), llvm::APInt(32, block_threads_)));
  id->setName("thread");
  return id;
}

IrValue KernelBuilder::BlockId(int axis) {
  constexpr std::string_view kIds[] = {"gpu.block_id.x", "gpu.block_id.y", "gpu.block_id.z"};
  TES_CHECK(block_threads_ > 0 && axis >= 0 && axis < 3, axis);
  const uint64_t limit = axis == 0 ? (uint64_t{1} << 31) - 1 : 65535;  // as Program::Verify has it
  auto* id = llvm::cast<llvm::CallInst>(DeviceOp(*this, kIds[axis], {}));
  id->addRangeRetAttr(llvm::ConstantRange(llvm::APInt(32, 0), llvm::APInt(32, limit)));
  id->setName("block");
  return id;
}

void KernelBuilder::AwaitSteps() {
  if (!overlaps_) return;
  DeviceOp(*this, "nv.grid_wait", {});
  // Not earlier: the next step's blocks then start when the step before this one has ended, so that no more than two
  // steps run at once and a block's first-level cache holds nothing older.
  DeviceOp(*this, "nv.grid_launch_dependents", {});
}

void KernelBuilder::Barrier() { DeviceOp(*this, "gpu.barrier", {}); }

IrValue KernelBuilder::Shared(int64_t bytes, int64_t align) {
  constexpr const char* kName = "tessera_shared";
  constexpr unsigned kSharedSpace = 3, kMaxAlign = 1024;
  TES_CHECK(block_threads_ > 0 && align > 0 && (align & (align - 1)) == 0 && align <= kMaxAlign, align);
  llvm::GlobalVariable* all = module_.getNamedGlobal(kName);
  if (all == nullptr) {
    // Its size is the launch's.
    all = new llvm::GlobalVariable(module_, llvm::ArrayType::get(ir_.getInt8Ty(), 0), /*isConstant=*/false,
                                   llvm::GlobalValue::ExternalLinkage, nullptr, kName, nullptr,
                                   llvm::GlobalValue::NotThreadLocal, kSharedSpace);
    all->setAlignment(llvm::Align(kMaxAlign));
  }
  const int64_t offset = (shared_bytes_ + align - 1) / align * align;
  shared_bytes_ = offset + bytes;
  return ir_.CreateConstGEP1_64(ir_.getInt8Ty(), all, offset);
}

}  // namespace tessera
