#include "codegen/emit/kernel_builder.h"

#include <algorithm>
#include <cmath>

#include "codegen/targets/device_ops.h"
#include "llvm/IR/Intrinsics.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Verifier.h"

namespace tessera {
namespace {

bool IsNibble(DType type) { return TypeInfo(type).bits == 4; }

}  // namespace

KernelBuilder::KernelBuilder(llvm::Module& module, const Target& target, const std::string& name, int num_args,
                             const std::vector<bool>& may_alias, const KernelBlocks& blocks)
    : module_(module),
      target_(target),
      ir_(module.getContext()),
      block_threads_(blocks.threads),
      overlaps_(blocks.overlaps) {
  TES_CHECK(blocks.threads == 0 || target.IsGpu(), name, " is written for a GPU's blocks");
  llvm::Type* ptr = ir_.getPtrTy();
  llvm::Type* i64 = ir_.getInt64Ty();
  std::vector<llvm::Type*> inner_types(num_args, ptr);
  TES_CHECK(blocks.threads > 0 || blocks.tensor_maps == 0, name, " has tensor maps, but is not written for blocks");
  inner_types.insert(inner_types.end(), static_cast<size_t>(blocks.tensor_maps), ptr);
  if (blocks.threads == 0) inner_types.insert(inner_types.end(), {i64, i64, ptr});
  inner_ = llvm::Function::Create(llvm::FunctionType::get(ir_.getVoidTy(), inner_types, false),
                                  llvm::GlobalValue::InternalLinkage, name + ".body", module);
  SetMachine(*inner_);
  if (target.IsGpu()) {
    inner_->addFnAttr(llvm::Attribute::AlwaysInline);
    if (blocks.threads > 0) {
      WriteBlockEntry(name, num_args, blocks);
    } else {
      WriteGpuEntry(name, num_args);
    }
  } else {
    inner_->addFnAttr(llvm::Attribute::NoInline);
    WriteHostEntry(name, num_args);
  }

  for (int k = 0; k < num_args; ++k) {
    llvm::Argument* arg = inner_->getArg(k);
    arg->setName("arg" + std::to_string(k));
    if (k >= static_cast<int>(may_alias.size()) || !may_alias[k]) arg->addAttr(llvm::Attribute::NoAlias);
    args_.push_back(arg);
  }
  for (int k = 0; k < blocks.tensor_maps; ++k) {
    tensor_maps_.push_back(inner_->getArg(num_args + k));
    inner_->getArg(num_args + k)->setName("map" + std::to_string(k));
  }
  if (blocks.threads == 0) {
    begin_ = inner_->getArg(num_args);
    end_ = inner_->getArg(num_args + 1);
    scratch_ = inner_->getArg(num_args + 2);
    begin_->setName("begin");
    end_->setName("end");
    scratch_->setName("scratch");
  }
  ir_.SetInsertPoint(llvm::BasicBlock::Create(context(), "entry", inner_));
  // A product that feeds a sum may be fused: that is more exact, never less. Nothing else is relaxed.
  llvm::FastMathFlags flags;
  flags.setAllowContract(true);
  ir_.setFastMathFlags(flags);
  if (blocks.threads > 0 && !blocks.waits) AwaitSteps();
}

void KernelBuilder::Finish() {
  ir_.CreateRetVoid();
  std::string message;
  llvm::raw_string_ostream stream(message);
  TES_CHECK(!llvm::verifyFunction(*inner_, &stream), message);
}

llvm::Type* KernelBuilder::ElementType(DType type) {
  switch (type) {
    case DType::kF64: return ir_.getDoubleTy();
    case DType::kF32: return ir_.getFloatTy();
    case DType::kI64:
    case DType::kU64: return ir_.getInt64Ty();
    case DType::kBool: return ir_.getInt1Ty();
    default: return ir_.getInt32Ty();
  }
}

llvm::Type* KernelBuilder::VectorType(DType type, int lanes) {
  llvm::Type* element = ElementType(type);
  return lanes == 1 ? element : llvm::FixedVectorType::get(element, lanes);
}

llvm::Type* KernelBuilder::StorageElementType(DType type) {
  if (type == DType::kF64 || type == DType::kF32) return ElementType(type);
  return ir_.getIntNTy(std::max(8, TypeInfo(type).bits));
}

IrValue KernelBuilder::Constant(DType type, double value, int lanes) {
  if (!IsFloat(type)) return ConstantInt(type, static_cast<int64_t>(value), lanes);
  return llvm::ConstantFP::get(VectorType(type, lanes), value);
}

IrValue KernelBuilder::ConstantInt(DType type, int64_t value, int lanes) {
  if (IsFloat(type)) return Constant(type, static_cast<double>(value), lanes);
  return llvm::ConstantInt::get(VectorType(type, lanes), static_cast<uint64_t>(value), true);
}

IrValue KernelBuilder::LaneIds(int lanes) {
  if (lanes == 1) return I64(0);
  std::vector<llvm::Constant*> ids;
  for (int l = 0; l < lanes; ++l) ids.push_back(ir_.getInt64(l));
  return llvm::ConstantVector::get(ids);
}

int KernelBuilder::LanesOf(IrValue value) {
  auto* type = llvm::dyn_cast<llvm::FixedVectorType>(value->getType());
  return type == nullptr ? 1 : static_cast<int>(type->getNumElements());
}

IrValue KernelBuilder::Splat(IrValue value, int lanes) {
  if (lanes == 1 || LanesOf(value) == lanes) return value;
  return ir_.CreateVectorSplat(lanes, value);
}

IrValues KernelBuilder::For(const std::string& name, IrValue low, IrValue high, int64_t step, IrValues initial,
                            const std::function<IrValues(IrValue, const IrValues&)>& body) {
  llvm::BasicBlock* before = ir_.GetInsertBlock();
  llvm::Function* function = before->getParent();
  auto* header = llvm::BasicBlock::Create(context(), name + ".body", function);
  auto* after = llvm::BasicBlock::Create(context(), name + ".end", function);
  ir_.CreateCondBr(ir_.CreateICmpSLT(low, high), header, after);
  ir_.SetInsertPoint(header);
  llvm::PHINode* iv = ir_.CreatePHI(ir_.getInt64Ty(), 2, name);
  iv->addIncoming(low, before);
  std::vector<llvm::PHINode*> phis;
  IrValues carried;
  for (IrValue value : initial) {
    llvm::PHINode* phi = ir_.CreatePHI(value->getType(), 2, name + ".carried");
    phi->addIncoming(value, before);
    phis.push_back(phi);
    carried.push_back(phi);
  }
  IrValues next = body(iv, carried);
  TES_CHECK(next.size() == initial.size(), name, ": carries ", initial.size(), ", gives ", next.size());
  llvm::BasicBlock* latch = ir_.GetInsertBlock();
  IrValue next_iv = ir_.CreateAdd(iv, I64(step), name + ".next", /*HasNUW=*/false, /*HasNSW=*/true);
  iv->addIncoming(next_iv, latch);
  for (size_t k = 0; k < phis.size(); ++k) phis[k]->addIncoming(next[k], latch);
  ir_.CreateCondBr(ir_.CreateICmpSLT(next_iv, high), header, after);
  ir_.SetInsertPoint(after);
  IrValues results;
  for (size_t k = 0; k < phis.size(); ++k) {
    llvm::PHINode* phi = ir_.CreatePHI(initial[k]->getType(), 2, name + ".out");
    phi->addIncoming(initial[k], before);
    phi->addIncoming(next[k], latch);
    results.push_back(phi);
  }
  return results;
}

void KernelBuilder::For(const std::string& name, IrValue low, IrValue high, int64_t step,
                        const std::function<void(IrValue)>& body) {
  For(name, low, high, step, {}, [&](IrValue iv, const IrValues&) {
    body(iv);
    return IrValues();
  });
}

void KernelBuilder::If(const std::string& name, IrValue condition, const std::function<void()>& then) {
  IfElse(
      name, condition,
      [&] {
        then();
        return IrValues();
      },
      [] { return IrValues(); });
}

IrValues KernelBuilder::IfElse(const std::string& name, IrValue condition, const std::function<IrValues()>& then,
                               const std::function<IrValues()>& otherwise) {
  llvm::Function* function = ir_.GetInsertBlock()->getParent();
  auto* then_block = llvm::BasicBlock::Create(context(), name + ".then", function);
  auto* else_block = llvm::BasicBlock::Create(context(), name + ".else", function);
  auto* after = llvm::BasicBlock::Create(context(), name + ".end", function);
  ir_.CreateCondBr(condition, then_block, else_block);
  ir_.SetInsertPoint(then_block);
  const IrValues a = then();
  llvm::BasicBlock* then_end = ir_.GetInsertBlock();
  ir_.CreateBr(after);
  ir_.SetInsertPoint(else_block);
  const IrValues b = otherwise();
  llvm::BasicBlock* else_end = ir_.GetInsertBlock();
  ir_.CreateBr(after);
  ir_.SetInsertPoint(after);
  TES_CHECK(a.size() == b.size(), name);
  IrValues results;
  for (size_t k = 0; k < a.size(); ++k) {
    llvm::PHINode* phi = ir_.CreatePHI(a[k]->getType(), 2, name);
    phi->addIncoming(a[k], then_end);
    phi->addIncoming(b[k], else_end);
    results.push_back(phi);
  }
  return results;
}

void KernelBuilder::Outline(const std::string& name, const IrValues& values,
                            const std::function<void(const IrValues&)>& body) {
  IrValues call_args = args_;
  call_args.push_back(scratch_);
  call_args.insert(call_args.end(), values.begin(), values.end());
  std::vector<llvm::Type*> types;
  for (IrValue value : call_args) types.push_back(value->getType());
  auto* function = llvm::Function::Create(llvm::FunctionType::get(ir_.getVoidTy(), types, false),
                                          llvm::GlobalValue::InternalLinkage, inner_->getName() + "." + name, module_);
  function->addFnAttrs(llvm::AttrBuilder(context(), inner_->getAttributes().getFnAttrs()));
  ir_.CreateCall(function, call_args);

  const llvm::IRBuilderBase::InsertPoint caller = ir_.saveIP();
  const IrValues caller_args = args_;
  const IrValue caller_scratch = scratch_;
  ir_.SetInsertPoint(llvm::BasicBlock::Create(context(), "entry", function));
  for (size_t k = 0; k < args_.size(); ++k) {
    args_[k] = function->getArg(k);
    if (inner_->getArg(k)->hasNoAliasAttr()) function->getArg(k)->addAttr(llvm::Attribute::NoAlias);
  }
  scratch_ = function->getArg(args_.size());
  IrValues parameters;
  for (size_t k = 0; k < values.size(); ++k) parameters.push_back(function->getArg(args_.size() + 1 + k));
  body(parameters);
  ir_.CreateRetVoid();
  std::string message;
  llvm::raw_string_ostream stream(message);
  TES_CHECK(!llvm::verifyFunction(*function, &stream), message);
  args_ = caller_args;
  scratch_ = caller_scratch;
  ir_.restoreIP(caller);
}

IrValue KernelBuilder::MachineCode(const std::string& name, const std::string& bytes) {
  auto* function = llvm::Function::Create(llvm::FunctionType::get(ir_.getVoidTy(), false),
                                          llvm::GlobalValue::InternalLinkage, inner_->getName() + "." + name, module_);
  // Prologue data stand at a function's entry; a naked function without code of its own is nothing but them.
  function->setPrologueData(llvm::ConstantDataArray::getString(context(), bytes, /*AddNull=*/false));
  function->addFnAttr(llvm::Attribute::Naked);
  function->addFnAttr(llvm::Attribute::NoInline);
  function->addFnAttr(llvm::Attribute::OptimizeNone);
  function->setDoesNotThrow();
  function->setAlignment(llvm::Align(64));
  new llvm::UnreachableInst(context(), llvm::BasicBlock::Create(context(), "entry", function));
  return function;
}

void KernelBuilder::Call(IrValue function, const IrValues& args) {
  std::vector<llvm::Type*> types;
  for (IrValue arg : args) types.push_back(arg->getType());
  ir_.CreateCall(llvm::FunctionType::get(ir_.getVoidTy(), types, false), function, args);
}

IrValue KernelBuilder::ConstantArray(const std::string& name, DType type, const std::vector<int64_t>& values) {
  auto* element = llvm::cast<llvm::IntegerType>(ElementType(type));
  std::vector<llvm::Constant*> elements;
  for (int64_t value : values) elements.push_back(llvm::ConstantInt::get(element, static_cast<uint64_t>(value), true));
  auto* array = llvm::ConstantArray::get(llvm::ArrayType::get(element, elements.size()), elements);
  return new llvm::GlobalVariable(module_, array->getType(), /*isConstant=*/true, llvm::GlobalValue::PrivateLinkage,
                                  array, inner_->getName() + "." + name);
}

IrValue KernelBuilder::ElementPointer(IrValue pointer, IrValue index, DType type) {
  return ir_.CreateInBoundsGEP(StorageElementType(type), pointer, index);
}

llvm::Align KernelBuilder::AlignOf(DType type, int lanes) const {
  constexpr int kMost = 16;  // bytes: what any access asks for
  const int bytes = TypeInfo(type).bits / 8;
  return llvm::Align(static_cast<uint64_t>(aligned_ ? std::min(kMost, bytes * lanes) : bytes));
}

IrValue KernelBuilder::Load(IrValue pointer, IrValue index, DType type, int lanes, IrValue mask, IrValue otherwise) {
  if (IsNibble(type) && lanes > 1) {
    return Gather(pointer, ir_.CreateAdd(Splat(index, lanes), LaneIds(lanes)), type, mask, otherwise);
  }
  if (lanes == 1 && mask != nullptr) {
    return IfElse(
        "guard", mask, [&] { return IrValues{Load(pointer, index, type, 1)}; }, [&] { return IrValues{otherwise}; })[0];
  }
  if (IsNibble(type)) {
    IrValue byte =
        ir_.CreateLoad(ir_.getInt8Ty(), ir_.CreateInBoundsGEP(ir_.getInt8Ty(), pointer, ir_.CreateLShr(index, 1)));
    IrValue shift = ir_.CreateShl(ir_.CreateTrunc(ir_.CreateAnd(index, 1), ir_.getInt8Ty()), 2);
    return Widen(ir_.CreateAnd(ir_.CreateLShr(byte, shift), 15), type);
  }
  llvm::Type* element = StorageElementType(type);
  const llvm::Align align(TypeInfo(type).bits / 8);
  IrValue address = ElementPointer(pointer, index, type);
  if (lanes == 1) return Widen(ir_.CreateAlignedLoad(element, address, align), type);
  auto* vector = llvm::FixedVectorType::get(element, lanes);
  if (mask == nullptr) return Widen(ir_.CreateAlignedLoad(vector, address, AlignOf(type, lanes)), type);
  IrValue loaded =
      Widen(ir_.CreateMaskedLoad(vector, address, align, mask, llvm::Constant::getNullValue(vector)), type);
  return otherwise == nullptr ? loaded : ir_.CreateSelect(mask, loaded, Splat(otherwise, lanes));
}

void KernelBuilder::Store(IrValue pointer, IrValue index, DType type, IrValue value, IrValue mask) {
  const int lanes = LanesOf(value);
  if (IsNibble(type)) {
    // Two elements share a byte, so that lanes are written one after the other. No kernel of ours stores 4-bit results
    // in parallel within one byte: tasks of such steps are whole rows of an even number of elements, or one task.
    for (int l = 0; l < lanes; ++l) {
      IrValue lane = lanes == 1 ? value : ir_.CreateExtractElement(value, l);
      IrValue at = ir_.CreateAdd(index, I64(l));
      const auto write = [&] {
        IrValue address = ir_.CreateInBoundsGEP(ir_.getInt8Ty(), pointer, ir_.CreateLShr(at, 1));
        IrValue shift = ir_.CreateShl(ir_.CreateTrunc(ir_.CreateAnd(at, 1), ir_.getInt8Ty()), 2);
        IrValue old = ir_.CreateLoad(ir_.getInt8Ty(), address);
        IrValue keep = ir_.CreateAnd(old, ir_.CreateNot(ir_.CreateShl(ir_.getInt8(15), shift)));
        IrValue bits = ir_.CreateShl(ir_.CreateAnd(ir_.CreateTrunc(lane, ir_.getInt8Ty()), 15), shift);
        ir_.CreateStore(ir_.CreateOr(keep, bits), address);
      };
      if (mask == nullptr) {
        write();
      } else {
        If("nibble", lanes == 1 ? mask : ir_.CreateExtractElement(mask, l), write);
      }
    }
    return;
  }
  IrValue stored = NarrowToStorage(value, type);
  IrValue address = ElementPointer(pointer, index, type);
  const llvm::Align align(TypeInfo(type).bits / 8);
  if (mask == nullptr) {
    ir_.CreateAlignedStore(stored, address, AlignOf(type, lanes));
  } else if (lanes == 1) {
    If("guard", mask, [&] { ir_.CreateAlignedStore(stored, address, align); });
  } else {
    ir_.CreateMaskedStore(stored, address, align, mask);
  }
}

IrValue KernelBuilder::Gather(IrValue pointer, IrValue indices, DType type, IrValue mask, IrValue otherwise) {
  const int lanes = LanesOf(indices);
  if (lanes == 1) return Load(pointer, indices, type, 1, mask, otherwise);
  llvm::Type* element = StorageElementType(type);
  IrValue at = IsNibble(type) ? ir_.CreateLShr(indices, 1) : indices;
  IrValue addresses = ir_.CreateInBoundsGEP(element, pointer, at);
  auto* vector = llvm::FixedVectorType::get(element, lanes);
  if (mask == nullptr) mask = llvm::Constant::getAllOnesValue(llvm::FixedVectorType::get(ir_.getInt1Ty(), lanes));
  IrValue bits = ir_.CreateMaskedGather(vector, addresses, llvm::Align(std::max(1, TypeInfo(type).bits / 8)), mask,
                                        llvm::Constant::getNullValue(vector));
  if (IsNibble(type)) {
    IrValue shift = ir_.CreateShl(ir_.CreateTrunc(ir_.CreateAnd(indices, 1), vector), 2);
    bits = ir_.CreateAnd(ir_.CreateLShr(bits, shift), 15);
  }
  IrValue loaded = Widen(bits, type);
  return otherwise == nullptr ? loaded : ir_.CreateSelect(mask, loaded, Splat(otherwise, lanes));
}

void KernelBuilder::Scatter(IrValue pointer, IrValue indices, DType type, IrValue value, IrValue mask) {
  const int lanes = LanesOf(indices);
  if (lanes == 1 || IsNibble(type)) {
    for (int l = 0; l < lanes; ++l) {
      IrValue lane = lanes == 1 ? value : ir_.CreateExtractElement(value, l);
      IrValue at = lanes == 1 ? indices : ir_.CreateExtractElement(indices, l);
      IrValue allowed = mask == nullptr ? nullptr : (lanes == 1 ? mask : ir_.CreateExtractElement(mask, l));
      Store(pointer, at, type, lane, allowed);
    }
    return;
  }
  IrValue addresses = ir_.CreateInBoundsGEP(StorageElementType(type), pointer, indices);
  ir_.CreateMaskedScatter(NarrowToStorage(value, type), addresses, llvm::Align(TypeInfo(type).bits / 8), mask);
}

IrValue KernelBuilder::Widen(IrValue stored, DType type) {
  const int lanes = LanesOf(stored);
  const auto vector = [&](llvm::Type* element) -> llvm::Type* {
    return lanes == 1 ? element : llvm::FixedVectorType::get(element, lanes);
  };
  const DTypeInfo& info = TypeInfo(type);
  switch (type) {
    case DType::kF64:
    case DType::kF32: return stored;
    case DType::kF16: return HalfToFloat(stored);
    case DType::kBF16: {
      IrValue wide = ir_.CreateShl(ir_.CreateZExt(stored, vector(ir_.getInt32Ty())), 16);
      return ir_.CreateBitCast(wide, vector(ir_.getFloatTy()));
    }
    case DType::kF8E4M3:
    case DType::kF8E5M2: return SmallFloatToFloat(stored, type);
    case DType::kBool: return ir_.CreateICmpNE(stored, llvm::Constant::getNullValue(stored->getType()));
    default: break;
  }
  if (info.bits >= 32) return stored;
  llvm::Type* wide = vector(ir_.getInt32Ty());
  if (type == DType::kI4) {
    IrValue value = ir_.CreateZExt(stored, wide);
    IrValue eight = llvm::ConstantInt::get(wide, 8);
    return ir_.CreateSub(ir_.CreateXor(value, eight), eight);
  }
  return info.kind == DTypeKind::kSigned ? ir_.CreateSExt(stored, wide) : ir_.CreateZExt(stored, wide);
}

IrValue KernelBuilder::NarrowToStorage(IrValue value, DType type) {
  const int lanes = LanesOf(value);
  const auto vector = [&](llvm::Type* element) -> llvm::Type* {
    return lanes == 1 ? element : llvm::FixedVectorType::get(element, lanes);
  };
  switch (type) {
    case DType::kF64:
    case DType::kF32: return value;
    case DType::kF16: return FloatToHalf(value);
    case DType::kBF16: {
      // Round to nearest even on the upper half; NaN keeps its quiet bit.
      IrValue bits = ir_.CreateBitCast(value, vector(ir_.getInt32Ty()));
      IrValue odd = ir_.CreateAnd(ir_.CreateLShr(bits, 16), 1);
      IrValue rounded = ir_.CreateAdd(bits, ir_.CreateAdd(odd, llvm::ConstantInt::get(bits->getType(), 0x7fff)));
      IrValue quiet = ir_.CreateOr(bits, llvm::ConstantInt::get(bits->getType(), 0x400000));
      IrValue chosen = ir_.CreateSelect(ir_.CreateFCmpUNO(value, value), quiet, rounded);
      return ir_.CreateTrunc(ir_.CreateLShr(chosen, 16), vector(ir_.getInt16Ty()));
    }
    case DType::kF8E4M3:
    case DType::kF8E5M2: return FloatToSmallFloat(value, type);
    case DType::kBool: return ir_.CreateZExt(value, vector(ir_.getInt8Ty()));
    default: break;
  }
  const int bits = std::max(8, TypeInfo(type).bits);
  return bits >= 32 ? value : ir_.CreateTrunc(value, vector(ir_.getIntNTy(bits)));
}

IrValue KernelBuilder::HalfToFloat(IrValue bits) {
  if (!target_.has_f16c) return SmallFloatToFloat(bits, DType::kF16);
  const int lanes = LanesOf(bits);
  llvm::Type* half = lanes == 1 ? ir_.getHalfTy() : llvm::FixedVectorType::get(ir_.getHalfTy(), lanes);
  return ir_.CreateFPExt(ir_.CreateBitCast(bits, half), VectorType(DType::kF32, lanes));
}

IrValue KernelBuilder::FloatToHalf(IrValue value) {
  if (!target_.has_f16c) return FloatToSmallFloat(value, DType::kF16);
  const int lanes = LanesOf(value);
  llvm::Type* half = lanes == 1 ? ir_.getHalfTy() : llvm::FixedVectorType::get(ir_.getHalfTy(), lanes);
  llvm::Type* i16 = ir_.getInt16Ty();
  if (lanes > 1) i16 = llvm::FixedVectorType::get(i16, lanes);
  return ir_.CreateBitCast(ir_.CreateFPTrunc(value, half), i16);
}

namespace {
// Exponent and mantissa widths of the formats that are converted by integer arithmetic.
struct SmallFormat {
  int exponent, mantissa;
  bool finite_only;
};
SmallFormat SmallFormatOf(DType type) {
  if (type == DType::kF16) return {5, 10, false};
  return type == DType::kF8E4M3 ? SmallFormat{4, 3, true} : SmallFormat{5, 2, false};
}
}  // namespace

IrValue KernelBuilder::SmallFloatToFloat(IrValue stored, DType type) {
  // Shift exponent and mantissa into their f32 places and multiply by 2^(127 - bias): exact for normals and subnormals.
  const SmallFormat format = SmallFormatOf(type);
  const int lanes = LanesOf(stored);
  const int width = 1 + format.exponent + format.mantissa;
  const int bias = (1 << (format.exponent - 1)) - 1;
  llvm::Type* i32 = VectorType(DType::kI32, lanes);
  llvm::Type* f32 = VectorType(DType::kF32, lanes);
  const auto constant = [&](uint32_t value) { return llvm::ConstantInt::get(i32, value); };
  IrValue bits = ir_.CreateZExt(stored, i32);
  IrValue magnitude = ir_.CreateAnd(bits, constant((1u << (width - 1)) - 1));
  IrValue sign = ir_.CreateShl(ir_.CreateAnd(bits, constant(1u << (width - 1))), constant(32 - width));
  IrValue placed = ir_.CreateBitCast(ir_.CreateShl(magnitude, constant(23 - format.mantissa)), f32);
  IrValue scaled = ir_.CreateFMul(placed, llvm::ConstantFP::get(f32, std::ldexp(1.0, 127 - bias)));
  IrValue result = ir_.CreateBitCast(scaled, i32);
  const uint32_t top = ((1u << format.exponent) - 1) << format.mantissa;  // exponent of all ones
  if (format.finite_only) {
    IrValue is_nan = ir_.CreateICmpEQ(magnitude, constant(top | ((1u << format.mantissa) - 1)));
    result = ir_.CreateSelect(is_nan, constant(0x7fc00000), result);
  } else {
    IrValue special = ir_.CreateICmpUGE(magnitude, constant(top));
    IrValue payload = ir_.CreateShl(magnitude, constant(23 - format.mantissa));
    result = ir_.CreateSelect(special, ir_.CreateOr(payload, constant(0x7f800000)), result);
  }
  return ir_.CreateBitCast(ir_.CreateOr(result, sign), f32);
}

IrValue KernelBuilder::FloatToSmallFloat(IrValue value, DType type) {
  const SmallFormat format = SmallFormatOf(type);
  const int lanes = LanesOf(value);
  const int width = 1 + format.exponent + format.mantissa;
  const int bias = (1 << (format.exponent - 1)) - 1;
  const int drop = 23 - format.mantissa;
  llvm::Type* i32 = VectorType(DType::kI32, lanes);
  llvm::Type* f32 = VectorType(DType::kF32, lanes);
  const auto constant = [&](uint32_t v) { return llvm::ConstantInt::get(i32, v); };
  IrValue bits = ir_.CreateBitCast(value, i32);
  IrValue sign = ir_.CreateLShr(ir_.CreateAnd(bits, constant(0x80000000u)), constant(32 - width));
  IrValue magnitude = ir_.CreateAnd(bits, constant(0x7fffffff));
  // Normal results: re-bias, then round half to even on the dropped bits; a carry moves into the exponent by itself.
  IrValue odd = ir_.CreateAnd(ir_.CreateLShr(magnitude, constant(drop)), constant(1));
  IrValue rounding = ir_.CreateAdd(odd, constant((1u << (drop - 1)) - 1));
  IrValue rebased = ir_.CreateSub(magnitude, constant(static_cast<uint32_t>(127 - bias) << 23));
  IrValue normal = ir_.CreateLShr(ir_.CreateAdd(rebased, rounding), constant(drop));
  // Subnormal results: adding a power of two aligns the mantissa so that the adder itself rounds to nearest even.
  const double magic = std::ldexp(1.0, 23 + 1 - bias - format.mantissa);
  IrValue aligned = ir_.CreateFAdd(ir_.CreateBitCast(magnitude, f32), llvm::ConstantFP::get(f32, magic));
  IrValue magic_bits = ir_.CreateBitCast(llvm::ConstantFP::get(f32, magic), i32);
  IrValue subnormal = ir_.CreateSub(ir_.CreateBitCast(aligned, i32), magic_bits);
  const uint32_t first_normal = static_cast<uint32_t>(128 - bias) << 23;
  IrValue result = ir_.CreateSelect(ir_.CreateICmpULT(magnitude, constant(first_normal)), subnormal, normal);
  const uint32_t infinity = ((1u << format.exponent) - 1) << format.mantissa;
  const uint32_t overflow = format.finite_only ? (infinity | ((1u << format.mantissa) - 2)) : infinity;
  IrValue too_big = ir_.CreateOr(ir_.CreateICmpUGT(result, constant(overflow)),
                                 ir_.CreateICmpUGE(magnitude, constant(static_cast<uint32_t>(127 + bias + 2) << 23)));
  result = ir_.CreateSelect(too_big, constant(overflow), result);
  const uint32_t nan = infinity | (format.finite_only ? (1u << format.mantissa) - 1 : 1u << (format.mantissa - 1));
  result = ir_.CreateSelect(ir_.CreateICmpUGT(magnitude, constant(0x7f800000)), constant(nan), result);
  llvm::Type* element = ir_.getIntNTy(width);
  if (lanes > 1) element = llvm::FixedVectorType::get(element, lanes);
  return ir_.CreateTrunc(ir_.CreateOr(result, sign), element);
}

IrValue KernelBuilder::Fma(IrValue a, IrValue b, IrValue c) {
  return ir_.CreateIntrinsic(llvm::Intrinsic::fmuladd, {a->getType()}, {a, b, c});
}

IrValue KernelBuilder::MaskBelow(IrValue count, int lanes) {
  // 32-bit lane numbers: half the registers of 64-bit ones, and a count never exceeds a vector by much.
  IrValue clamped =
      ir_.CreateTrunc(ir_.CreateSelect(ir_.CreateICmpSGT(count, I64(lanes)), I64(lanes), count), ir_.getInt32Ty());
  if (lanes == 1) return ir_.CreateICmpSGT(clamped, ir_.getInt32(0));
  std::vector<llvm::Constant*> ids;
  for (int l = 0; l < lanes; ++l) ids.push_back(ir_.getInt32(l));
  return ir_.CreateICmpSLT(llvm::ConstantVector::get(ids), Splat(clamped, lanes));
}

IrValue DeviceOp(KernelBuilder& b, std::string_view name, const IrValues& operands) {
  return DeviceOp(b.ir(), name, operands);
}

}  // namespace tessera
