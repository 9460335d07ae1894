#include "codegen/targets/emulate.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "codegen/targets/device_ops.h"
#include "llvm/Analysis/ValueTracking.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/ReplaceConstant.h"
#include "llvm/IR/Verifier.h"
#include "runtime/simt/context.h"
#include "runtime/simt/stand_ins.h"

namespace tessera {
namespace {

constexpr unsigned kSharedSpace = 3;

// An instruction that accesses memory: which operand is its pointer, and how many bytes of what alignment.
struct Access {
  llvm::Instruction* instruction;
  unsigned pointer;
  SimtAccess access;
};

class Emulator {
 public:
  Emulator(llvm::Module& module, const Target& target, const Target& host) : module_(module), host_(host) {
    llvm::LLVMContext& context = module.getContext();
    ptr_ = llvm::PointerType::get(context, 0);
    i64_ = llvm::Type::getInt64Ty(context);
    target_ = &target;
  }

  Status Run(const llvm::DataLayout& layout) {
    std::vector<llvm::Function*> functions;
    for (llvm::Function& function : module_) {
      if (!function.isDeclaration()) functions.push_back(&function);
    }
    // What is there to replace is found before anything is added.
    for (llvm::Function* function : functions) RETURN_IF_ERROR(Collect(*function));
    if (llvm::NamedMDNode* notes = module_.getNamedMetadata("nvvm.annotations")) notes->eraseFromParent();
    for (llvm::Function* function : functions) GiveContext(*function);
    for (llvm::Function* function : functions) {
      for (llvm::User* user : std::vector<llvm::User*>(function->user_begin(), function->user_end())) {
        auto* call = llvm::dyn_cast<llvm::CallInst>(user);
        if (call == nullptr) {
          return Error(ErrorCode::kInternal, "simt: '", function->getName().str(), "' is used other than by a call");
        }
        PassContext(*call, *function);
      }
      function->eraseFromParent();
    }
    RETURN_IF_ERROR(PlaceShared());
    for (const Access& access : accesses_) WriteCheck(access);
    for (const auto& [call, row] : ops_) WriteOp(*call, *row);
    WriteOpNames();
    for (llvm::Function& function : llvm::make_early_inc_range(module_)) {
      if (function.isDeclaration() && function.use_empty()) function.eraseFromParent();
    }
    module_.setTargetTriple(host_.triple);
    module_.setDataLayout(layout);
    std::string message;
    llvm::raw_string_ostream stream(message);
    TES_CHECK(!llvm::verifyModule(module_, &stream), "simt: ", message);
    return OkStatus();
  }

 private:
  // Notes the device ops and memory accesses of a function.
  Status Collect(llvm::Function& function) {
    const llvm::DataLayout& layout = module_.getDataLayout();
    for (llvm::BasicBlock& block : function) {
      for (llvm::Instruction& instruction : block) {
        if (auto* call = llvm::dyn_cast<llvm::CallInst>(&instruction)) {
          ASSIGN_OR_RETURN(const DeviceOpRow* row, CheckDeviceOp(*call, *target_));
          if (row != nullptr) {
            if (FindSimtStandIn(row->name) == nullptr) {
              return Error(ErrorCode::kInternal, "kernel '", function.getName().str(), "', device op '", row->name,
                           "': expected a stand-in in runtime/simt/stand_ins.cc");
            }
            ops_.emplace_back(call, row);
            continue;
          }
          RETURN_IF_ERROR(CheckCall(*call));
        } else if (auto* load = llvm::dyn_cast<llvm::LoadInst>(&instruction)) {
          Note(*load, load->getPointerOperandIndex(), layout.getTypeStoreSize(load->getType()), load->getAlign(), false,
               load->isAtomic());
        } else if (auto* store = llvm::dyn_cast<llvm::StoreInst>(&instruction)) {
          Note(*store, store->getPointerOperandIndex(), layout.getTypeStoreSize(store->getValueOperand()->getType()),
               store->getAlign(), true, store->isAtomic());
        } else if (auto* rmw = llvm::dyn_cast<llvm::AtomicRMWInst>(&instruction)) {
          Note(*rmw, rmw->getPointerOperandIndex(), layout.getTypeStoreSize(rmw->getType()), rmw->getAlign(), true,
               true);
        } else if (auto* exchange = llvm::dyn_cast<llvm::AtomicCmpXchgInst>(&instruction)) {
          Note(*exchange, exchange->getPointerOperandIndex(),
               layout.getTypeStoreSize(exchange->getNewValOperand()->getType()), exchange->getAlign(), true, true);
        }
      }
    }
    return OkStatus();
  }

  // Calls of functions of the module, and of intrinsics that any target has and that do not touch memory.
  Status CheckCall(const llvm::CallInst& call) {
    const llvm::Function* callee = call.getCalledFunction();
    if (callee != nullptr && !callee->isDeclaration()) return OkStatus();
    const std::string name = callee == nullptr ? "code" : callee->getName().str();
    const bool intrinsic = callee != nullptr && callee->isIntrinsic();
    const bool marks = llvm::isa<llvm::LifetimeIntrinsic, llvm::AssumeInst, llvm::NoAliasScopeDeclInst>(call);
    if (intrinsic && name.find("llvm.nvvm.") != 0 && name.find("llvm.amdgcn.") != 0 &&
        (marks || !callee->getMemoryEffects().doesAccessArgPointees())) {
      return OkStatus();
    }
    return Error(ErrorCode::kInternal, "kernel '", call.getFunction()->getName().str(), "' calls '", name,
                 "', which simt cannot run; expected plain IR and rows of device_ops.def");
  }

  void Note(llvm::Instruction& instruction, unsigned operand, uint64_t bytes, llvm::Align align, bool stores,
            bool atomic) {
    const llvm::Value* pointer = instruction.getOperand(operand);
    const llvm::Value* object = llvm::getUnderlyingObject(pointer);
    const bool shared = pointer->getType()->getPointerAddressSpace() == kSharedSpace ||
                        object->getType()->getPointerAddressSpace() == kSharedSpace;
    // The thread's own, and constants.
    if (!shared && llvm::isa<llvm::AllocaInst, llvm::GlobalVariable>(object)) return;
    // No access of a GPU asks for more than 16 bytes.
    const uint64_t needs = std::min<uint64_t>({align.value(), llvm::PowerOf2Ceil(bytes), 16});
    accesses_.push_back({&instruction,
                         operand,
                         {.bytes = static_cast<uint32_t>(bytes),
                          .align_log2 = static_cast<uint8_t>(llvm::Log2_64(needs)),
                          .stores = stores,
                          .atomic = atomic,
                          .shared = shared}});
  }

  // The function anew, with the context in front; a kernel takes its parameters out of 8-byte slots.
  void GiveContext(llvm::Function& old) {
    const bool kernel = old.getCallingConv() == llvm::CallingConv::PTX_Kernel ||
                        old.getCallingConv() == llvm::CallingConv::AMDGPU_KERNEL;
    std::vector<llvm::Type*> types = {ptr_};
    if (kernel) {
      types.push_back(ptr_);
    } else {
      types.insert(types.end(), old.getFunctionType()->param_begin(), old.getFunctionType()->param_end());
    }
    auto* function = llvm::Function::Create(
        llvm::FunctionType::get(old.getReturnType(), types, false),
        kernel ? llvm::GlobalValue::ExternalLinkage : llvm::GlobalValue::InternalLinkage, "", module_);
    function->takeName(&old);
    function->addFnAttr("target-cpu", host_.cpu);
    function->addFnAttr("target-features", host_.features);
    function->setDoesNotThrow();
    function->splice(function->begin(), &old);
    llvm::BasicBlock& entry = function->getEntryBlock();
    llvm::IRBuilder<> ir(&entry, entry.getFirstInsertionPt());
    for (unsigned k = 0; k < old.arg_size(); ++k) {
      llvm::Value* value = function->getArg(kernel ? 1 : 1 + k);
      if (kernel) value = ir.CreateLoad(old.getArg(k)->getType(), ir.CreateConstInBoundsGEP1_64(i64_, value, k));
      old.getArg(k)->replaceAllUsesWith(value);
    }
    new_of_[&old] = function;
  }

  void PassContext(llvm::CallInst& call, llvm::Function& old) {
    llvm::IRBuilder<> ir(&call);
    std::vector<llvm::Value*> arguments = {call.getFunction()->getArg(0)};
    arguments.insert(arguments.end(), call.arg_begin(), call.arg_end());
    llvm::CallInst* anew = ir.CreateCall(new_of_[&old], arguments);
    call.replaceAllUsesWith(anew);
    call.eraseFromParent();
  }

  // A field of the context, for this thread.
  llvm::Value* Field(llvm::IRBuilder<>& ir, size_t offset) {
    llvm::Value* context = ir.GetInsertBlock()->getParent()->getArg(0);
    return ir.CreateLoad(ptr_, ir.CreateConstInBoundsGEP1_64(ir.getInt8Ty(), context, offset));
  }

  // The launch's shared memory in place of the variable without a size that stands for it.
  Status PlaceShared() {
    for (llvm::GlobalVariable& variable : llvm::make_early_inc_range(module_.globals())) {
      if (variable.getAddressSpace() != kSharedSpace) continue;
      if (!variable.isDeclaration()) {
        return Error(ErrorCode::kInternal, "simt: shared memory '", variable.getName().str(),
                     "' has a size of its own; expected KernelBuilder::Shared");
      }
      llvm::convertUsersOfConstantsToInstructions({&variable});
      std::map<llvm::Function*, llvm::Value*> base_of;
      for (llvm::User* user : std::vector<llvm::User*>(variable.user_begin(), variable.user_end())) {
        llvm::Function* function = llvm::cast<llvm::Instruction>(user)->getFunction();
        llvm::Value*& base = base_of[function];
        if (base == nullptr) {
          llvm::BasicBlock& entry = function->getEntryBlock();
          llvm::IRBuilder<> ir(&entry, entry.getFirstInsertionPt());
          base = ir.CreateAddrSpaceCast(Field(ir, offsetof(SimtContext, shared)), variable.getType());
        }
        user->replaceUsesOfWith(&variable, base);
      }
      variable.eraseFromParent();
    }
    return OkStatus();
  }

  // A text in the module, for messages.
  llvm::Value* Text(const std::string& text) {
    llvm::Constant* bytes = llvm::ConstantDataArray::getString(module_.getContext(), text);
    // In the host's memory, whatever the chip has its globals in.
    return new llvm::GlobalVariable(module_, bytes->getType(), /*isConstant=*/true, llvm::GlobalValue::PrivateLinkage,
                                    bytes, "site", nullptr, llvm::GlobalValue::NotThreadLocal, /*AddressSpace=*/0);
  }

  static std::string PlaceOf(const llvm::Instruction& instruction) { return instruction.getParent()->getName().str(); }

  void WriteCheck(const Access& access) {
    llvm::IRBuilder<> ir(access.instruction);
    const std::string text = std::string(access.access.atomic   ? "atomic"
                                         : access.access.stores ? "store"
                                                                : "load") +
                             " in '" + PlaceOf(*access.instruction) + "'";
    llvm::Value*& site = site_of_[text];
    if (site == nullptr) site = Text(text);
    llvm::FunctionType* type = llvm::FunctionType::get(ir.getVoidTy(), {ptr_, ptr_, ptr_, i64_}, false);
    ir.CreateCall(type, Field(ir, offsetof(SimtContext, check)),
                  {access.instruction->getFunction()->getArg(0), site,
                   ir.CreateAddrSpaceCast(access.instruction->getOperand(access.pointer), ptr_),
                   ir.getInt64(access.access.Encode())});
  }

  // Slots on the function's stack for operands or results, as many as any of its ops needs.
  llvm::Value* Slots(llvm::Function& function, size_t count, std::map<llvm::Function*, llvm::AllocaInst*>& slots) {
    llvm::AllocaInst*& memory = slots[&function];
    llvm::BasicBlock& entry = function.getEntryBlock();
    llvm::IRBuilder<> ir(&entry, entry.getFirstInsertionPt());
    if (memory == nullptr) memory = ir.CreateAlloca(llvm::ArrayType::get(i64_, count), 0u, nullptr);
    if (memory->getAllocatedType()->getArrayNumElements() < count) {
      memory->setAllocatedType(llvm::ArrayType::get(i64_, count));
    }
    return memory;
  }

  void WriteOp(llvm::CallInst& call, const DeviceOpRow& row) {
    llvm::Function& function = *call.getFunction();
    llvm::Value* operands = Slots(function, std::max<size_t>(1, call.arg_size()), operands_of_);
    auto* members = llvm::dyn_cast<llvm::StructType>(call.getType());
    llvm::Value* results = Slots(function, members == nullptr ? 1 : members->getNumElements(), results_of_);
    llvm::IRBuilder<> ir(&call);
    for (unsigned k = 0; k < call.arg_size(); ++k) {
      llvm::Value* value = call.getArgOperand(k);
      if (value->getType()->isIntegerTy(1)) value = ir.CreateZExt(value, i64_);
      ir.CreateStore(value, ir.CreateConstInBoundsGEP1_64(i64_, operands, k));
    }
    // Each call has a text of its own, whose address tells it from others.
    const int number = ++number_of_[{&function, row.name}];
    llvm::Value* site = Text(internal::Join(row.name, " #", number, " in '", PlaceOf(call), "'"));
    const auto op = op_index_.try_emplace(std::string(row.name), op_index_.size()).first->second;
    llvm::Value* table = Field(ir, offsetof(SimtContext, ops));
    llvm::Value* stand_in = ir.CreateLoad(ptr_, ir.CreateConstInBoundsGEP1_64(ptr_, table, op));
    llvm::FunctionType* type = llvm::FunctionType::get(ir.getVoidTy(), {ptr_, ptr_, ptr_, ptr_}, false);
    ir.CreateCall(type, stand_in, {function.getArg(0), site, operands, results});
    const auto result = [&](llvm::Type* wanted, unsigned k) -> llvm::Value* {
      llvm::Value* slot = ir.CreateConstInBoundsGEP1_64(i64_, results, k);
      if (wanted->isIntegerTy(1)) return ir.CreateTrunc(ir.CreateLoad(i64_, slot), wanted);
      return ir.CreateLoad(wanted, slot);
    };
    if (members != nullptr) {
      llvm::Value* all = llvm::PoisonValue::get(members);
      for (unsigned k = 0; k < members->getNumElements(); ++k) {
        all = ir.CreateInsertValue(all, result(members->getElementType(k), k), k);
      }
      call.replaceAllUsesWith(all);
    } else if (!call.getType()->isVoidTy()) {
      call.replaceAllUsesWith(result(call.getType(), 0));
    }
    call.eraseFromParent();
  }

  // kSimtOpsSymbol: the names of all ops that the module calls, by their index.
  void WriteOpNames() {
    std::vector<std::string> names(op_index_.size());
    for (const auto& [name, index] : op_index_) names[index] = name;
    std::string text;
    for (const std::string& name : names) text += name + '\0';
    llvm::Constant* bytes = llvm::ConstantDataArray::getString(module_.getContext(), text);
    new llvm::GlobalVariable(module_, bytes->getType(), /*isConstant=*/true, llvm::GlobalValue::ExternalLinkage, bytes,
                             kSimtOpsSymbol, nullptr, llvm::GlobalValue::NotThreadLocal, /*AddressSpace=*/0);
  }

  llvm::Module& module_;
  const Target* target_;
  const Target& host_;
  llvm::Type* ptr_;
  llvm::Type* i64_;
  std::vector<std::pair<llvm::CallInst*, const DeviceOpRow*>> ops_;
  std::vector<Access> accesses_;
  std::map<llvm::Function*, llvm::Function*> new_of_;
  std::map<std::string, llvm::Value*> site_of_;  // of accesses to memory
  std::map<llvm::Function*, llvm::AllocaInst*> operands_of_, results_of_;
  std::map<std::pair<llvm::Function*, std::string_view>, int> number_of_;
  std::map<std::string, size_t> op_index_;
};

}  // namespace

Status Emulate(llvm::Module& module, const Target& target, const Target& host, const llvm::DataLayout& host_layout) {
  return Emulator(module, target, host).Run(host_layout);
}

}  // namespace tessera
