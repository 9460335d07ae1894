#include "codegen/targets/device_ops.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <vector>

#include "codegen/targets/amdgpu_ops.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/Intrinsics.h"

namespace tessera {
namespace {

constexpr std::string_view kPrefix = "tessera.";

constexpr DeviceOpRow kRows[] = {
#define TES_DEVICE_OP(name, result, operands, effects, chip, text, constraints) \
  {name, result, operands, DeviceOpEffects::effects, chip, text, constraints},
#include "codegen/targets/device_ops.def"
#undef TES_DEVICE_OP
};

llvm::Type* TypeNamed(std::string_view name, llvm::LLVMContext& context) {
  if (name == "void") return llvm::Type::getVoidTy(context);
  if (name == "i1") return llvm::Type::getInt1Ty(context);
  if (name == "i16") return llvm::Type::getInt16Ty(context);
  if (name == "i32" || name == "imm") return llvm::Type::getInt32Ty(context);
  if (name == "i64") return llvm::Type::getInt64Ty(context);
  if (name == "f32") return llvm::Type::getFloatTy(context);
  if (name == "f64") return llvm::Type::getDoubleTy(context);
  if (name == "v2f16") return llvm::FixedVectorType::get(llvm::Type::getHalfTy(context), 2);
  if (name == "p") return llvm::PointerType::get(context, 0);
  if (name == "p1") return llvm::PointerType::get(context, 1);
  TES_CHECK(name == "p3", "device_ops.def: no type '", name, "'");
  return llvm::PointerType::get(context, 3);
}

// "i32*4 f32" as five items, with ' ' between.
std::vector<std::string_view> Items(std::string_view list, char between) {
  std::vector<std::string_view> items;
  while (!list.empty()) {
    std::string_view item = list.substr(0, list.find(between));
    list.remove_prefix(std::min(list.size(), item.size() + 1));
    size_t count = 1;
    if (const size_t star = item.find('*'); star != std::string_view::npos) {
      std::from_chars(item.data() + star + 1, item.data() + item.size(), count);
      item = item.substr(0, star);
    }
    items.insert(items.end(), count, item);
  }
  return items;
}

std::vector<llvm::Type*> TypesNamed(std::string_view names, llvm::LLVMContext& context) {
  std::vector<llvm::Type*> types;
  for (std::string_view name : Items(names, ' ')) types.push_back(TypeNamed(name, context));
  return types;
}

std::string TypeText(const llvm::Type& type) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  type.print(stream);
  return text;
}

// Letters to change to get from one name to the other.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

const DeviceOpRow& MostSimilar(std::string_view name) {
  return *std::min_element(std::begin(kRows), std::end(kRows), [&](const DeviceOpRow& a, const DeviceOpRow& b) {
    return EditDistance(name, a.name) < EditDistance(name, b.name);
  });
}

void SetEffects(llvm::Function& function, const DeviceOpRow& row) {
  using Effects = DeviceOpEffects;
  function.setDoesNotThrow();
  if (row.IsConvergent()) function.setConvergent();
  switch (row.effects) {
    case Effects::kFree:
      function.setSpeculatable();
      function.setWillReturn();
      function.setMemoryEffects(llvm::MemoryEffects::none());
      break;
    case Effects::kWarp:
    case Effects::kWave:
      function.setWillReturn();
      function.setMemoryEffects(llvm::MemoryEffects::none());
      break;
    // What a lane receives was read through the pointers of others.
    case Effects::kWarpReads: function.setMemoryEffects(llvm::MemoryEffects::readOnly()); break;
    default: break;
  }
}

// "sm_90a": 90 and true.
std::pair<int, bool> ChipNumber(std::string_view chip) {
  int number = 0;
  std::from_chars(chip.data() + std::min<size_t>(3, chip.size()), chip.data() + chip.size(), number);
  return {number, !chip.empty() && chip.back() == 'a'};
}

bool NvidiaHas(std::string_view chip, const DeviceOpRow& row) {
  if (IsAmdgpuRow(row)) return false;
  const auto [have, have_own] = ChipNumber(chip);
  const auto [need, need_own] = ChipNumber(row.chip);
  return need_own ? have == need && have_own : have >= need;
}

bool ChipHas(const Target& target, const DeviceOpRow& row) {
  return target.kind == TargetKind::kAmdgpu ? AmdgpuHas(row, target.cpu) : NvidiaHas(target.cpu, row);
}

// The chips that have an op, for messages.
std::string ChipsOf(const DeviceOpRow& row) {
  std::string chips(row.chip);
  if (IsAmdgpuRow(row)) return chips.find(' ') == std::string::npos ? chips : "one of " + chips;
  return chips.back() == 'a' ? chips : chips + " or newer";
}

// A value in another type of the same size, or pointer into another address space.
llvm::Value* As(llvm::IRBuilderBase& ir, llvm::Value* value, llvm::Type* type) {
  if (value->getType() == type) return value;
  if (type->isPointerTy()) return ir.CreateAddrSpaceCast(value, type);
  return ir.CreateBitCast(value, type);
}

// The arguments of an intrinsic: the operands, or what stands in parentheses after its name: "(-1, $0, 31)".
std::vector<llvm::Value*> Arguments(llvm::IRBuilderBase& ir, const llvm::CallInst& call, std::string_view list) {
  std::vector<llvm::Value*> arguments;
  if (list.empty()) return {call.arg_begin(), call.arg_end()};
  list = list.substr(1, list.size() - 2);
  while (!list.empty()) {
    const std::string_view item = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), item.size() + 2));
    int number = 0;
    const bool operand = item[0] == '$';
    std::from_chars(item.data() + (operand ? 1 : 0), item.data() + item.size(), number);
    arguments.push_back(operand ? call.getArgOperand(static_cast<unsigned>(number))
                                : ir.getInt32(static_cast<uint32_t>(number)));
  }
  return arguments;
}

llvm::Value* WriteIntrinsic(llvm::IRBuilderBase& ir, llvm::CallInst& call, const DeviceOpRow& row) {
  const std::string_view name = row.text.substr(0, row.text.find('('));
  std::vector<llvm::Value*> arguments = Arguments(ir, call, row.text.substr(name.size()));
  const llvm::Intrinsic::ID id = llvm::Function::lookupIntrinsicID(name);
  TES_CHECK(id != llvm::Intrinsic::not_intrinsic, "device_ops.def: LLVM has no ", name);
  std::vector<llvm::Type*> overloads;
  if (llvm::Intrinsic::isOverloaded(id)) {
    for (llvm::Value* argument : arguments) {
      if (argument->getType()->isPointerTy()) overloads.push_back(argument->getType());
    }
  }
  llvm::Function* function = llvm::Intrinsic::getDeclaration(call.getModule(), id, overloads);
  TES_CHECK(function->arg_size() == arguments.size(), row.name);
  for (size_t k = 0; k < arguments.size(); ++k) arguments[k] = As(ir, arguments[k], function->getArg(k)->getType());
  llvm::CallInst* result = ir.CreateCall(function, arguments);
  if (call.hasRetAttr(llvm::Attribute::Range)) result->addRetAttr(call.getRetAttr(llvm::Attribute::Range));
  if (result->getType() == call.getType()) return result;
  auto* wanted = llvm::dyn_cast<llvm::StructType>(call.getType());
  if (wanted == nullptr) return As(ir, result, call.getType());
  llvm::Value* all = llvm::PoisonValue::get(wanted);
  for (unsigned k = 0; k < wanted->getNumElements(); ++k) {
    all = ir.CreateInsertValue(all, As(ir, ir.CreateExtractValue(result, k), wanted->getElementType(k)), k);
  }
  return all;
}

// A row's text with $out and $in0 as LLVM numbers them: results first, then operands.
std::string AssemblyText(const DeviceOpRow& row, size_t results) {
  std::string text;
  std::string_view rest = row.text;
  while (!rest.empty()) {
    if (rest.substr(0, 4) == "$out") {
      for (size_t k = 0; k < results; ++k) text += internal::Join(k == 0 ? "$" : ", $", k);
      rest.remove_prefix(4);
    } else if (rest.substr(0, 3) == "$in") {
      size_t operand = 0;
      const char* end = std::from_chars(rest.data() + 3, rest.data() + rest.size(), operand).ptr;
      text += internal::Join("$", results + operand);
      rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    } else {
      text += rest[0];
      rest.remove_prefix(1);
    }
  }
  return text;
}

// "=f*2,r*2,tied*2" as "=f,=f,r,r,0,1".
std::string Constraints(std::string_view short_form) {
  std::string text;
  int tied = 0;
  for (std::string_view item : Items(short_form, ',')) {
    text += text.empty() ? "" : ",";
    text += item == "tied" ? std::to_string(tied++) : std::string(item);
  }
  return text;
}

llvm::Value* WriteAssembly(llvm::IRBuilderBase& ir, llvm::CallInst& call, const DeviceOpRow& row) {
  const bool touches_memory = row.effects != DeviceOpEffects::kFree && row.effects != DeviceOpEffects::kWarp;
  const size_t results = TypesNamed(row.result, call.getContext()).size() - (row.result == "void" ? 1 : 0);
  llvm::InlineAsm* text = llvm::InlineAsm::get(call.getFunctionType(), AssemblyText(row, results),
                                               Constraints(row.constraints), touches_memory || row.IsConvergent());
  llvm::CallInst* result = ir.CreateCall(text, std::vector<llvm::Value*>(call.arg_begin(), call.arg_end()));
  if (row.IsConvergent()) result->setConvergent();
  result->setDoesNotThrow();
  if (!touches_memory) result->setMemoryEffects(llvm::MemoryEffects::none());
  return result;
}

}  // namespace

std::span<const DeviceOpRow> AllDeviceOps() { return kRows; }

const DeviceOpRow* FindDeviceOp(std::string_view name) {
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows), [&](const auto& r) { return r.name == name; });
  return row == std::end(kRows) ? nullptr : row;
}

bool ChipHasDeviceOp(std::string_view name, const Target& target) {
  const DeviceOpRow* row = FindDeviceOp(name);
  return row != nullptr && ChipHas(target, *row);
}

std::vector<unsigned> DeviceOpConstants(const DeviceOpRow& row) {
  std::vector<unsigned> constants;
  const std::vector<std::string_view> operands = Items(row.operands, ' ');
  for (unsigned k = 0; k < operands.size(); ++k) {
    if (operands[k] == "imm") constants.push_back(k);
  }
  return constants;
}

llvm::FunctionType* DeviceOpType(const DeviceOpRow& row, llvm::LLVMContext& context) {
  const std::vector<llvm::Type*> results = TypesNamed(row.result, context);
  llvm::Type* result = results.size() == 1 ? results[0] : llvm::StructType::get(context, results);
  return llvm::FunctionType::get(result, TypesNamed(row.operands, context), false);
}

llvm::Value* DeviceOp(llvm::IRBuilderBase& ir, std::string_view name, llvm::ArrayRef<llvm::Value*> operands) {
  const DeviceOpRow* known = FindDeviceOp(name);
  const DeviceOpRow& row = known != nullptr ? *known : MostSimilar(name);
  llvm::FunctionType* type = DeviceOpType(row, ir.getContext());
  std::vector<llvm::Value*> values = operands;
  // Pointers of buffers are generic; those of copies are global.
  for (size_t k = 0; k < std::min<size_t>(values.size(), type->getNumParams()); ++k) {
    auto* wanted = llvm::dyn_cast<llvm::PointerType>(type->getParamType(static_cast<unsigned>(k)));
    if (wanted != nullptr && wanted->getAddressSpace() == 1 && values[k]->getType()->isPointerTy() &&
        values[k]->getType()->getPointerAddressSpace() == 0) {
      values[k] = ir.CreateAddrSpaceCast(values[k], wanted);
    }
  }
  std::vector<llvm::Type*> types;
  for (llvm::Value* value : values) types.push_back(value->getType());
  llvm::FunctionType* called = llvm::FunctionType::get(type->getReturnType(), types, false);
  llvm::Module& module = *ir.GetInsertBlock()->getModule();
  llvm::FunctionCallee callee = module.getOrInsertFunction(std::string(kPrefix) + std::string(name), called);
  if (known != nullptr) SetEffects(*llvm::cast<llvm::Function>(callee.getCallee()), row);
  return ir.CreateCall(called, callee.getCallee(), values);
}

StatusOr<const DeviceOpRow*> CheckDeviceOp(const llvm::CallInst& call, const Target& target) {
  const auto* callee = llvm::dyn_cast<llvm::Function>(call.getCalledOperand());
  if (callee == nullptr || !callee->isDeclaration()) return nullptr;
  const std::string_view symbol = callee->getName();
  const std::string kernel = call.getFunction()->getName().str();
  if (symbol.substr(0, 5) == "llvm." && callee->getIntrinsicID() == llvm::Intrinsic::not_intrinsic) {
    return Error(ErrorCode::kInternal, "kernel '", kernel, "' calls '", symbol,
                 "', which is no intrinsic of this LLVM; expected a row of device_ops.def");
  }
  // The table knows which chips have them; LLVM ends the process where one lacks them.
  for (std::string_view chips : {"llvm.nvvm.", "llvm.amdgcn."}) {
    if (symbol.substr(0, chips.size()) != chips) continue;
    return Error(ErrorCode::kInternal, "kernel '", kernel, "' calls '", symbol,
                 "' itself; expected a row of device_ops.def, which says which chips have it");
  }
  if (symbol.substr(0, kPrefix.size()) != kPrefix) return nullptr;
  const std::string_view name = symbol.substr(kPrefix.size());
  const DeviceOpRow* row = FindDeviceOp(name);
  if (row == nullptr) {
    return Error(ErrorCode::kInternal, "kernel '", kernel, "' uses the device op '", name,
                 "', which device_ops.def lacks; did you mean '", MostSimilar(name).name, "'?");
  }
  const llvm::FunctionType* expected = DeviceOpType(*row, call.getContext());
  if (call.getFunctionType() != expected) {
    return Error(ErrorCode::kInternal, "kernel '", kernel, "', device op '", name, "': expected ", TypeText(*expected),
                 ", found ", TypeText(*call.getFunctionType()));
  }
  for (const unsigned k : DeviceOpConstants(*row)) {
    if (llvm::isa<llvm::ConstantInt>(call.getArgOperand(k))) continue;
    return Error(ErrorCode::kInternal, "kernel '", kernel, "', device op '", name, "': expected a constant as operand ",
                 k);
  }
  if (!ChipHas(target, *row)) {
    return Error(ErrorCode::kTargetUnsupported, "kernel '", kernel, "', device op '", name, "': expected ",
                 ChipsOf(*row), ", found ", target.cpu);
  }
  return row;
}

Status LowerDeviceOps(llvm::Module& module, const Target& target) {
  std::vector<std::pair<llvm::CallInst*, const DeviceOpRow*>> calls;
  for (llvm::Function& function : module) {
    for (llvm::BasicBlock& block : function) {
      for (llvm::Instruction& instruction : block) {
        auto* call = llvm::dyn_cast<llvm::CallInst>(&instruction);
        if (call == nullptr) continue;
        ASSIGN_OR_RETURN(const DeviceOpRow* row, CheckDeviceOp(*call, target));
        if (row != nullptr) calls.emplace_back(call, row);
      }
    }
  }
  for (const auto& [call, row] : calls) {
    llvm::IRBuilder<> ir(call);
    llvm::Value* result = target.kind == TargetKind::kAmdgpu ? WriteAmdgpuOp(ir, *call, *row, target)
                          : row->constraints.empty()         ? WriteIntrinsic(ir, *call, *row)
                                                             : WriteAssembly(ir, *call, *row);
    if (!call->getType()->isVoidTy()) call->replaceAllUsesWith(result);
    call->eraseFromParent();
  }
  for (llvm::Function& function : llvm::make_early_inc_range(module)) {
    if (function.isDeclaration() && function.use_empty()) function.eraseFromParent();
  }
  return OkStatus();
}

}  // namespace tessera
