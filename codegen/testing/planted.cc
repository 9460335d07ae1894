#include "codegen/testing/planted.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "codegen/compile.h"
#include "codegen/llvm_module.h"
#include "codegen/targets/device_ops.h"
#include "llvm/Analysis/ValueTracking.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/Module.h"
#include "llvm/Transforms/Utils/BasicBlockUtils.h"
#include "runtime/host_memory.h"

namespace tessera {
namespace {

constexpr unsigned kSharedSpace = 3;

bool CallsOp(const llvm::Instruction& at, const std::string& prefix) {
  const auto* call = llvm::dyn_cast<llvm::CallInst>(&at);
  const llvm::Function* callee = call == nullptr ? nullptr : call->getCalledFunction();
  return callee != nullptr && callee->getName().starts_with("tessera." + prefix);
}

std::function<bool(const llvm::Instruction&)> Calls(std::string_view prefix) {
  return [prefix = std::string(prefix)](const llvm::Instruction& at) { return CallsOp(at, prefix); };
}

bool IsGlobal(const llvm::Value* pointer) {
  const llvm::Value* object = llvm::getUnderlyingObject(pointer, /*MaxLookup=*/0);
  return object->getType()->getPointerAddressSpace() != kSharedSpace &&
         pointer->getType()->getPointerAddressSpace() != kSharedSpace &&
         !llvm::isa<llvm::AllocaInst, llvm::GlobalVariable>(object);
}

void ShiftOperand(llvm::Instruction& at, unsigned operand, int64_t bytes) {
  llvm::IRBuilder<> ir(&at);
  llvm::Value* pointer = at.getOperand(operand);
  at.setOperand(operand, ir.CreateConstGEP1_64(ir.getInt8Ty(), pointer, static_cast<uint64_t>(bytes)));
}

// `at` in a branch of its own. The builder's last block, which nobody has ended yet, goes on behind it.
void OnlyOddThreads(KernelBuilder& b, llvm::Instruction& at) {
  llvm::BasicBlock* last = b.ir().GetInsertBlock();
  llvm::Instruction* end = last->getTerminator() == nullptr ? new llvm::UnreachableInst(b.context(), last) : nullptr;
  llvm::IRBuilder<> ir(&at);
  llvm::Value* odd = ir.CreateTrunc(DeviceOp(ir, "gpu.thread_id.x", {}), ir.getInt1Ty());
  llvm::BasicBlock* before = at.getParent();
  llvm::Instruction* branch_end = llvm::SplitBlockAndInsertIfThen(odd, &at, /*Unreachable=*/false);
  llvm::BasicBlock* behind = at.getParent();
  at.moveBefore(branch_end);
  branch_end->getParent()->setName("odd");
  if (!at.getType()->isVoidTy()) {
    llvm::PHINode* result = llvm::PHINode::Create(at.getType(), 2, "", behind->begin());
    at.replaceAllUsesWith(result);
    result->addIncoming(&at, branch_end->getParent());
    result->addIncoming(llvm::Constant::getNullValue(at.getType()), before);
  }
  if (end == nullptr) return;
  llvm::BasicBlock* open = end->getParent();
  end->eraseFromParent();
  b.ir().SetInsertPoint(open);
}

// The plan of `emitter`; its kernels call `visit` at their end.
StatusOr<Plan> VisitedPlan(const Graph& graph, const Target& target, const std::string& emitter,
                           const std::function<void(KernelBuilder&)>& visit) {
  CompileOptions options;
  options.threads = 1;
  options.only_emitter = emitter;
  ASSIGN_OR_RETURN(Plan plan, MakePlan(graph, target, options));
  for (PlanStep& step : plan.steps) {
    step.kernel.emit = [emit = step.kernel.emit, visit](KernelBuilder& b) {
      emit(b);
      visit(b);
    };
  }
  return plan;
}

// Each distinct kernel by itself, in the order of the steps.
StatusOr<std::vector<std::vector<std::byte>>> CompileEach(const Plan& plan, const Target& target, CodeForm form,
                                                          std::vector<std::string>& symbols,
                                                          std::vector<int>& kernel_of_step) {
  std::vector<std::vector<std::byte>> images;
  std::map<std::string, int> index_of;
  for (const PlanStep& step : plan.steps) {
    const auto [at, inserted] = index_of.try_emplace(step.kernel.key, static_cast<int>(images.size()));
    kernel_of_step.push_back(at->second);
    if (!inserted) continue;
    symbols.push_back(step.kernel.family + "_" + std::to_string(images.size()));
    const KernelSpec* const specs[] = {&step.kernel};
    ASSIGN_OR_RETURN(std::vector<std::byte> image, CompileKernels(specs, {&symbols.back(), 1}, target, form));
    images.push_back(std::move(image));
  }
  return images;
}

void Place(const Plan& plan, Program& program) {
  constexpr int64_t kAlign = 256;
  int64_t arena = 0, constants = 0;
  for (const PlanBuffer& buffer : plan.buffers) {
    ProgramBuffer placed = {.name = buffer.name, .kind = buffer.kind, .bytes = buffer.bytes, .offset = buffer.port};
    if (buffer.kind == BufferClass::kTemp || buffer.kind == BufferClass::kConstant) {
      int64_t& end = buffer.kind == BufferClass::kTemp ? arena : constants;
      placed.offset = end;
      end += (buffer.bytes + kAlign - 1) / kAlign * kAlign;
    }
    program.buffers.push_back(std::move(placed));
  }
  program.memory.arena_bytes = arena;
  program.memory.constant_bytes = constants;
  StatusOr<HostMemory> memory = HostMemory::Allocate(constants, "constants");
  TES_CHECK(memory.ok(), memory.status());
  auto blob = std::make_shared<HostMemory>(*std::move(memory));
  for (size_t k = 0; k < plan.buffers.size(); ++k) {
    const PlanBuffer& buffer = plan.buffers[k];
    if (buffer.kind != BufferClass::kConstant || buffer.bytes == 0) continue;
    std::memcpy(blob->data() + program.buffers[k].offset, buffer.constant.bytes().data(),
                static_cast<size_t>(buffer.bytes));
  }
  program.constants = blob->bytes();
  program.constants_owner = blob;
}

}  // namespace

Plant RemoveCalls(std::string_view prefix) {
  return {Calls(prefix), [](KernelBuilder&, llvm::Instruction& at) {
            if (!at.getType()->isVoidTy()) at.replaceAllUsesWith(llvm::Constant::getNullValue(at.getType()));
            at.eraseFromParent();
          }};
}

Plant SwapOperands(std::string_view prefix) {
  return {Calls(prefix), [](KernelBuilder&, llvm::Instruction& at) {
            llvm::Value* first = at.getOperand(0);
            at.setOperand(0, at.getOperand(1));
            at.setOperand(1, first);
          }};
}

Plant RenameCalls(std::string_view prefix, std::string_view name) {
  return {Calls(prefix), [name = std::string(name)](KernelBuilder& b, llvm::Instruction& at) {
            auto& call = llvm::cast<llvm::CallInst>(at);
            call.setCalledFunction(b.module().getOrInsertFunction(name, call.getFunctionType()));
          }};
}

Plant DivergeAt(std::string_view prefix) { return {Calls(prefix), OnlyOddThreads}; }

Plant ShiftLoads(int64_t bytes) {
  const auto matches = [](const llvm::Instruction& at) {
    if (CallsOp(at, "nv.cp_async.")) return llvm::cast<llvm::CallInst>(at).arg_size() > 1;
    const auto* load = llvm::dyn_cast<llvm::LoadInst>(&at);
    return load != nullptr && IsGlobal(load->getPointerOperand());
  };
  return {matches, [bytes](KernelBuilder&, llvm::Instruction& at) {
            ShiftOperand(at, llvm::isa<llvm::LoadInst>(at) ? 0 : 1, bytes);
          }};
}

Plant ShiftStores(int64_t bytes) {
  const auto matches = [](const llvm::Instruction& at) {
    const auto* store = llvm::dyn_cast<llvm::StoreInst>(&at);
    return store != nullptr && IsGlobal(store->getPointerOperand());
  };
  return {matches, [bytes](KernelBuilder&, llvm::Instruction& at) {
            ShiftOperand(at, llvm::StoreInst::getPointerOperandIndex(), bytes);
          }};
}

StatusOr<int> CountPlaces(const Graph& graph, const Target& target, const std::string& emitter, const Plant& plant) {
  int places = 0;
  const auto count = [&](KernelBuilder& b) {
    for (llvm::Function& function : b.module()) {
      for (llvm::Instruction& at : llvm::instructions(function)) places += plant.matches(at) ? 1 : 0;
    }
  };
  ASSIGN_OR_RETURN(const Plan plan, VisitedPlan(graph, target, emitter, count));
  std::vector<std::string> symbols;
  std::vector<int> kernel_of_step;
  RETURN_IF_ERROR(CompileEach(plan, target, CodeForm::kIr, symbols, kernel_of_step).status());
  return places;
}

StatusOr<std::shared_ptr<const Program>> PlantedProgram(const Graph& graph, const Target& target,
                                                        const std::string& emitter, const Plant& plant, int place) {
  int passed = 0;
  const auto visit = [&](KernelBuilder& b) {
    llvm::Instruction* found = nullptr;
    for (llvm::Function& function : b.module()) {
      for (llvm::Instruction& at : llvm::instructions(function)) {
        if (plant.matches(at) && passed++ == place) found = &at;
      }
    }
    if (found != nullptr) plant.change(b, *found);
  };
  ASSIGN_OR_RETURN(const Plan plan, VisitedPlan(graph, target, emitter, visit));
  auto program = std::make_shared<Program>();
  program->name = "planted";
  program->target = target.name;
  std::vector<int> kernel_of_step;
  ASSIGN_OR_RETURN(auto images, CompileEach(plan, target, CodeForm::kObject, program->kernels, kernel_of_step));
  for (std::vector<std::byte>& image : images) {
    const auto owner = std::make_shared<const std::vector<std::byte>>(std::move(image));
    program->images.push_back({.bytes = *owner, .owner = owner});
  }
  Place(plan, *program);
  program->inputs = plan.inputs;
  program->outputs = plan.outputs;
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    const PlanStep& step = plan.steps[s];
    program->memory.scratch_bytes = std::max(program->memory.scratch_bytes, step.scratch_bytes);
    program->steps.push_back({.kernel = kernel_of_step[s],
                              .args = step.args,
                              .tasks = step.tasks,
                              .launch = step.launch,
                              .tensor_maps = step.tensor_maps,
                              .serial = step.serial,
                              .label = step.label});
  }
  RETURN_IF_ERROR(program->Verify());
  return std::shared_ptr<const Program>(std::move(program));
}

}  // namespace tessera
