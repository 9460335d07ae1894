#include "codegen/targets/amdgpu_ops.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "llvm/IR/IntrinsicsAMDGPU.h"

namespace tessera {
namespace {

constexpr uint32_t kWarp = 32;

// One op at the place of its call.
class OpWriter {
 public:
  OpWriter(llvm::IRBuilderBase& ir, const llvm::CallInst& call, const Target& target)
      : ir_(ir), call_(call), wave_(static_cast<uint32_t>(target.wave)), gfx11_(target.cpu.substr(0, 5) == "gfx11") {}

  llvm::Value* operand(unsigned k) const { return call_.getArgOperand(k); }

  llvm::Value* Id(llvm::Intrinsic::ID id) {
    llvm::CallInst* value = ir_.CreateIntrinsic(id, {}, {});
    if (call_.hasRetAttr(llvm::Attribute::Range)) value->addRetAttr(call_.getRetAttr(llvm::Attribute::Range));
    return value;
  }

  // In the wave.
  llvm::Value* WaveLane() {
    llvm::Value* all = ir_.getInt32(~0u);
    llvm::Value* lane = ir_.CreateIntrinsic(llvm::Intrinsic::amdgcn_mbcnt_lo, {}, {all, ir_.getInt32(0)});
    return wave_ == kWarp ? lane : ir_.CreateIntrinsic(llvm::Intrinsic::amdgcn_mbcnt_hi, {}, {all, lane});
  }
  llvm::Value* Lane() { return ir_.CreateAnd(WaveLane(), kWarp - 1); }

  // Operand 0 of lane `source` of this warp.
  llvm::Value* FromLane(llvm::Value* source) {
    llvm::Value* first = ir_.CreateAnd(WaveLane(), ~(kWarp - 1));
    llvm::Value* bytes = ir_.CreateShl(ir_.CreateOr(first, source), 2);
    return ir_.CreateIntrinsic(llvm::Intrinsic::amdgcn_ds_bpermute, {}, {bytes, operand(0)});
  }
  // A lane that is not there: the caller's own.
  llvm::Value* FromLaneIfThere(llvm::Value* source) {
    return FromLane(ir_.CreateSelect(ir_.CreateICmpULT(source, ir_.getInt32(kWarp)), source, Lane()));
  }

  // One bit for each lane of this warp.
  llvm::Value* Ballot(llvm::Value* predicate) {
    llvm::Type* type = ir_.getIntNTy(wave_);
    llvm::Value* bits = ir_.CreateIntrinsic(llvm::Intrinsic::amdgcn_ballot, {type}, {predicate});
    if (wave_ == kWarp) return bits;
    llvm::Value* first = ir_.CreateAnd(WaveLane(), ~(kWarp - 1));
    return ir_.CreateTrunc(ir_.CreateLShr(bits, ir_.CreateZExt(first, type)), ir_.getInt32Ty());
  }

  // What memory holds for the scope's threads is in order before and behind the meeting.
  void Meet(llvm::StringRef scope, llvm::Intrinsic::ID meeting) {
    const llvm::SyncScope::ID id = ir_.getContext().getOrInsertSyncScopeID(scope);
    ir_.CreateFence(llvm::AtomicOrdering::Release, id);
    ir_.CreateIntrinsic(meeting, {}, {});
    ir_.CreateFence(llvm::AtomicOrdering::Acquire, id);
  }

  llvm::Value* Dot4(llvm::Intrinsic::ID id, llvm::Value* a, llvm::Value* b, llvm::Value* sum) {
    return ir_.CreateIntrinsic(id, {}, {a, b, sum, ir_.getFalse()});
  }
  llvm::Value* Dot4Mixed() {
    if (gfx11_) {
      return ir_.CreateIntrinsic(llvm::Intrinsic::amdgcn_sudot4, {},
                                 {ir_.getFalse(), operand(0), ir_.getTrue(), operand(1), operand(2), ir_.getFalse()});
    }
    // u w = (u - 128) w + 128 w
    const auto dot = llvm::Intrinsic::amdgcn_sdot4;
    llvm::Value* lower = ir_.CreateXor(operand(0), 0x80808080u);
    llvm::Value* sums = Dot4(dot, ir_.getInt32(0x01010101u), operand(1), ir_.getInt32(0));
    return Dot4(dot, lower, operand(1), ir_.CreateAdd(operand(2), ir_.CreateShl(sums, 7)));
  }

  llvm::Value* OfFloat(llvm::Intrinsic::ID id) { return ir_.CreateIntrinsic(id, {ir_.getFloatTy()}, {operand(0)}); }

  llvm::IRBuilderBase& ir() { return ir_; }

 private:
  llvm::IRBuilderBase& ir_;
  const llvm::CallInst& call_;
  const uint32_t wave_;
  const bool gfx11_;
};

struct Row {
  std::string_view op;
  llvm::Value* (*write)(OpWriter& w);
};

constexpr Row kRows[] = {
    {"gpu.thread_id.x", [](OpWriter& w) { return w.Id(llvm::Intrinsic::amdgcn_workitem_id_x); }},
    {"gpu.block_id.x", [](OpWriter& w) { return w.Id(llvm::Intrinsic::amdgcn_workgroup_id_x); }},
    {"gpu.block_id.y", [](OpWriter& w) { return w.Id(llvm::Intrinsic::amdgcn_workgroup_id_y); }},
    {"gpu.block_id.z", [](OpWriter& w) { return w.Id(llvm::Intrinsic::amdgcn_workgroup_id_z); }},
    {"gpu.lane_id", [](OpWriter& w) { return w.Lane(); }},
    {"gpu.barrier",
     [](OpWriter& w) -> llvm::Value* {
       w.Meet("workgroup", llvm::Intrinsic::amdgcn_s_barrier);
       return nullptr;
     }},
    {"gpu.warp_barrier",
     [](OpWriter& w) -> llvm::Value* {
       w.Meet("wavefront", llvm::Intrinsic::amdgcn_wave_barrier);
       return nullptr;
     }},
    {"gpu.shuffle_xor", [](OpWriter& w) { return w.FromLane(w.ir().CreateXor(w.Lane(), w.operand(1))); }},
    {"gpu.shuffle_down", [](OpWriter& w) { return w.FromLaneIfThere(w.ir().CreateAdd(w.Lane(), w.operand(1))); }},
    {"gpu.shuffle_up", [](OpWriter& w) { return w.FromLaneIfThere(w.ir().CreateSub(w.Lane(), w.operand(1))); }},
    {"gpu.shuffle_idx", [](OpWriter& w) { return w.FromLane(w.ir().CreateAnd(w.operand(1), kWarp - 1)); }},
    {"gpu.vote_any", [](OpWriter& w) { return w.ir().CreateIsNotNull(w.Ballot(w.operand(0))); }},
    {"gpu.vote_all", [](OpWriter& w) { return w.ir().CreateIsNull(w.Ballot(w.ir().CreateNot(w.operand(0)))); }},
    {"gpu.exp2_approx", [](OpWriter& w) { return w.OfFloat(llvm::Intrinsic::amdgcn_exp2); }},
    {"gpu.log2_approx", [](OpWriter& w) { return w.OfFloat(llvm::Intrinsic::amdgcn_log); }},
    {"gpu.rcp_approx", [](OpWriter& w) { return w.OfFloat(llvm::Intrinsic::amdgcn_rcp); }},
    {"gpu.rsqrt_approx", [](OpWriter& w) { return w.OfFloat(llvm::Intrinsic::amdgcn_rsq); }},
    {"gpu.dot4.s8.s8",
     [](OpWriter& w) { return w.Dot4(llvm::Intrinsic::amdgcn_sdot4, w.operand(0), w.operand(1), w.operand(2)); }},
    {"gpu.dot4.u8.u8",
     [](OpWriter& w) { return w.Dot4(llvm::Intrinsic::amdgcn_udot4, w.operand(0), w.operand(1), w.operand(2)); }},
    {"gpu.dot4.u8.s8", [](OpWriter& w) { return w.Dot4Mixed(); }},
};

// A type by the name that device_ops.def has for arguments of intrinsics: i32, v4f16, …
llvm::Type* ArgumentType(llvm::LLVMContext& context, std::string_view name) {
  unsigned lanes = 0, bits = 0;
  if (name[0] == 'v') {
    lanes = static_cast<unsigned>(name[1] - '0');
    name.remove_prefix(2);
    if (name[0] >= '0' && name[0] <= '9') {
      lanes = lanes * 10 + static_cast<unsigned>(name[0] - '0');
      name.remove_prefix(1);
    }
  }
  const bool is_float = name[0] == 'f';
  for (char digit : name.substr(1)) bits = bits * 10 + static_cast<unsigned>(digit - '0');
  llvm::Type* type = !is_float    ? llvm::Type::getIntNTy(context, bits)
                     : bits == 16 ? llvm::Type::getHalfTy(context)
                                  : llvm::Type::getFloatTy(context);
  return lanes == 0 ? type : llvm::FixedVectorType::get(type, lanes);
}

// The next operands of the call, from *next on, as one value of `type`.
llvm::Value* Pack(llvm::IRBuilderBase& ir, const llvm::CallInst& call, unsigned* next, llvm::Type* type) {
  llvm::Value* first = call.getArgOperand(*next);
  const unsigned count =
      static_cast<unsigned>(type->getPrimitiveSizeInBits() / first->getType()->getPrimitiveSizeInBits());
  llvm::Value* all = first;
  if (count > 1) {
    all = llvm::PoisonValue::get(llvm::FixedVectorType::get(first->getType(), count));
    for (unsigned k = 0; k < count; ++k) all = ir.CreateInsertElement(all, call.getArgOperand(*next + k), k);
  }
  *next += count;
  return all->getType() == type ? all : ir.CreateBitCast(all, type);
}

// An intrinsic over matrices: "llvm.amdgcn.mfma.f32.16x16x16f16(v4f16, v4f16, v4f32, 0, 0, 0)".
llvm::Value* WritePacked(llvm::IRBuilderBase& ir, const llvm::CallInst& call, const DeviceOpRow& row) {
  const std::string_view name = row.text.substr(0, row.text.find('('));
  std::string_view list = row.text.substr(name.size() + 1, row.text.size() - name.size() - 2);
  std::vector<llvm::Value*> arguments;
  unsigned next = 0;
  while (!list.empty()) {
    const std::string_view item = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), item.size() + 2));
    if (item == "true" || item == "false") {
      arguments.push_back(ir.getInt1(item == "true"));
    } else if (item[0] >= '0' && item[0] <= '9') {
      arguments.push_back(ir.getInt32(static_cast<uint32_t>(item[0] - '0')));
    } else {
      arguments.push_back(Pack(ir, call, &next, ArgumentType(ir.getContext(), item)));
    }
  }
  auto* members = llvm::cast<llvm::StructType>(call.getType());
  llvm::Type* vector = llvm::FixedVectorType::get(members->getElementType(0), members->getNumElements());
  const llvm::Intrinsic::ID id = llvm::Function::lookupIntrinsicID(name);
  TES_CHECK(id != llvm::Intrinsic::not_intrinsic && next == call.arg_size(), "device_ops.def: ", row.name);
  llvm::Value* result = ir.CreateIntrinsic(vector, id, arguments);
  llvm::Value* all = llvm::PoisonValue::get(members);
  for (unsigned k = 0; k < members->getNumElements(); ++k) {
    all = ir.CreateInsertValue(all, ir.CreateExtractElement(result, k), k);
  }
  return all;
}

const Row* Find(std::string_view op) {
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) { return r.op == op; });
  return row == std::end(kRows) ? nullptr : row;
}

}  // namespace

bool IsAmdgpuRow(const DeviceOpRow& row) { return row.name.substr(0, 4) == "amd."; }

bool AmdgpuHas(const DeviceOpRow& row, std::string_view chip) {
  if (!IsAmdgpuRow(row)) return Find(row.name) != nullptr;  // such rows all of the chips have
  std::string_view chips = row.chip;
  while (!chips.empty()) {
    const std::string_view one = chips.substr(0, chips.find(' '));
    if (one == chip) return true;
    chips.remove_prefix(std::min(chips.size(), one.size() + 1));
  }
  return false;
}

llvm::Value* WriteAmdgpuOp(llvm::IRBuilderBase& ir, const llvm::CallInst& call, const DeviceOpRow& row,
                           const Target& target) {
  if (IsAmdgpuRow(row)) return WritePacked(ir, call, row);
  OpWriter writer(ir, call, target);
  return Find(row.name)->write(writer);
}

}  // namespace tessera
